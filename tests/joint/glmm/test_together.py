"""Effects and values of a cluster that lacks a variable, moved together, against their law by quadrature.

With parameters fixed, the move, draws of the missing cells and of the intercept u of the later factor are a chain whose
law is

    p(b, u, v | y) ~ N(b, u; 0, Psi) prod_j p(v_j | b) p(y_j | v_j, u)

Means, squares and products of b, u and of the values v, in batch means; level LEVEL, wrong variants below REJECTED.
"""

import numpy as np
import pandas as pd
import pytest
from arviz_stats.base import array_stats
from scipy import stats
from scipy.special import expit, softmax

import bayesimp as bi
from bayesimp.joint.glmm import together as module
from bayesimp.kernels.factors.arrays import workspace
from bayesimp.kernels.factors.cells import draw_cells
from bayesimp.kernels.factors.columns import all_columns, all_means
from tests.calibration import montecarlo as mc
from tests.calibration.montecarlo import LEVEL, REJECTED
from tests.kernels.factors.one_cell import Case, G, OneCell, table

ICC = ("1 + (1 | g)", lambda d: (1,), lambda d: (1,))
PSI = np.array([[1.0, -0.7, 0.3], [-0.7, 0.8, 0.1], [0.3, 0.1, 0.6]])
GRID = np.linspace(-4.5, 4.5, 91)


def child(target, text, columns, random=lambda d: (1,)):
    return {target: ICC, "y": (text, columns, random)}


SLOPE = child("x", "x + (1 + x | g)", lambda d: (1, d.x), lambda d: (1, d.x))
NUMBERS = np.linspace(-17, 19, 300)
CASES = {
    "normal": ("x", {}, child("x", "x + (1 | g)", lambda d: (1, d.x)), NUMBERS),
    "slope": ("x", {}, SLOPE, NUMBERS),
    "square": ("x", {}, child("x", "x + I(x**2) + (1 | g)", lambda d: (1, d.x, d.x**2)), NUMBERS),
    "no intercept": ("x", {}, child("x", "x + (0 + x | g)", lambda d: (1, d.x), lambda d: (d.x,)), NUMBERS),
    "logit": ("w", {}, child("w", "w + (1 | g)", lambda d: (1, d.w)), np.arange(2.0)),
    "probit": ("w", {"w": "probit"}, child("w", "w + (1 | g)", lambda d: (1, d.w)), np.arange(2.0)),
    "poisson": ("k", {}, child("k", "log1p(k) + (1 | g)", lambda d: (1, np.log1p(d.k))), np.arange(120.0)),
    "ordinal": ("o", {}, child("o", "o + (1 | g)", lambda d: (1, d.o == 1, d.o == 2)), np.arange(3.0)),
    "gamma": ("s", {}, child("s", "log(s) + (1 | g)", lambda d: (1, np.log(d.s))), np.geomspace(0.002, 800, 400)),
}  # fmt: skip


def setting(name):
    target, links, factors, values = CASES[name]
    cell = OneCell(Case(target, factors, seed=3, strength=0.8, bare=True, links=links))
    tab, chain, k = cell.model.table, cell.sampler.chain, cell.k
    (cluster,) = tab.bare[k]
    d = chain.B[0].shape[1]
    chain.Psi[0][:] = PSI[:d, :d]
    chain.B[0][:] = np.random.default_rng(1).normal(0.0, 0.8, chain.B[0].shape)
    beta = cell.state.beta.copy()
    shape, cuts = cell.state.shape.copy(), cell.state.cuts.copy()
    for l in range(2):
        cell.sampler._refresh(l)
    cell.state.beta[:], cell.state.shape[:], cell.state.cuts[:] = beta, np.maximum(shape, 0.9), cuts
    if name == "square":
        cell.state.beta[-1] *= 0.1  # otherwise the square outweighs everything
    chain.step[k] = 0.9
    return cell, int(cluster), values


def conditional(cell, i, moving):
    """Means and covariance of effects given the others of the cluster, which stay."""
    b, Psi = cell.sampler.chain.B[0][i], cell.sampler.chain.Psi[0]
    rest = np.setdiff1d(np.arange(len(b)), moving)
    gain = np.linalg.solve(Psi[np.ix_(rest, rest)], Psi[np.ix_(rest, moving)]).T
    return gain @ b[rest], Psi[np.ix_(moving, moving)] - gain @ Psi[np.ix_(rest, moving)]


def draw_u(cell, i, rows):
    """The intercept of y in the cluster given everything else, which is normal."""
    s, l = cell.sampler, 1 - cell.k
    mean, variance = conditional(cell, i, [1])
    u = s.chain.B[0][i, 1]
    e = s.chain.Y[rows, l] - s.predictors(l, rows)[:, 0] + u
    precision = 1 / variance[0, 0] + len(rows) / cell.state.shape[l] ** 2
    center = (mean[0] / variance[0, 0] + e.sum() / cell.state.shape[l] ** 2) / precision
    s.chain.B[0][i, 1] = center + cell.rng.standard_normal() / np.sqrt(precision)
    s.refresh_effects(l, i)


def chain_of(name, count=1600):
    """(1, count, 9) b, u, mean of v, their squares and products, and the setting."""
    cell, i, values = setting(name)
    tab, k = cell.model.table, np.int64(cell.k)
    rows = np.arange(tab.arrays.first[i], tab.arrays.first[i + 1])
    start = np.where(np.arange(3) > cell.k, len(rows), 0).astype(np.int64)
    cells = tab.cells._replace(start=start, row=rows)
    work, out = workspace(tab.arrays, cells, k), np.empty((1, count, 3))
    for d in range(count):
        cell.sampler._together(cell.k, False)
        draw_cells(cell.rng, k, tab.arrays, cells, tab.programs, tab.means, tab.divisor, cell.state, work)
        if name != "no intercept":
            draw_u(cell, i, rows)
        v = tab.arrays.center[k] + tab.arrays.unit[k] * cell.state.Y[rows, k]
        out[0, d] = *cell.sampler.chain.B[0][i, [cell.k, 1]], v.mean()
    return np.concatenate([out, out**2, out * np.roll(out, 1, axis=-1)], axis=-1), cell, i, values


def density(name, v, eta, cell):
    """p(v | eta) (eta, v), by SciPy."""
    k, e = cell.k, eta[:, None]
    a, shape, cuts = cell.model.table.arrays, cell.state.shape[cell.k], cell.state.cuts[k]
    if cell.case.target == "x":
        return stats.norm.pdf(v, a.center[k] + a.unit[k] * e, a.unit[k] * shape)
    if name in ("logit", "probit"):
        return stats.bernoulli.pmf(v, expit(e) if name == "logit" else stats.norm.cdf(e))
    if name == "poisson":
        return stats.poisson.pmf(v, np.exp(e))
    if name == "gamma":
        return stats.gamma.pdf(v, shape, scale=a.unit[k] * np.exp(e) / shape)
    above = np.hstack([np.ones_like(e), expit(e - cuts[:2]), np.zeros_like(e)])
    return above[:, :-1] - above[:, 1:]


def columns_at(function, target, values):
    return np.column_stack([np.ones(len(values)) * x for x in function(type("d", (), {target: values})())])


def expected(name, cell, i, values):
    tab, k = cell.model.table, cell.k
    a, l, target = tab.arrays, 1 - cell.k, cell.case.target
    own = density(name, values, cell.state.beta[a.coefficient[k]] + GRID, cell)  # (b, v)
    if target in ("x", "s"):
        own = own * np.gradient(values)
    # the child at every value of v, without its intercept u
    _, fixed, random = cell.case.factors["y"]
    eta = columns_at(fixed, target, values) @ cell.state.beta[a.coefficient[l] : a.coefficient[l + 1]]
    effects, u = cell.state.B[i, a.effect[l] : a.effect[l + 1]].copy(), GRID
    if name == "no intercept":
        u = np.zeros(1)  # there is none to move; the slope stays
    else:
        effects[0] -= cell.sampler.chain.B[0][i, 1]
    eta = eta + columns_at(random, target, values) @ effects
    rows = np.flatnonzero(np.argsort(tab.order)[G] == i)
    y = (table()["y"].to_numpy()[rows] - a.center[l]) / a.unit[l]
    later = stats.norm.pdf(y[:, None, None], eta + u[:, None], cell.state.shape[l])  # (j, u, v)
    total, first, second = (
        ((own * values**p) @ later.reshape(-1, len(values)).T)
        .reshape(len(GRID), len(rows), -1)
        .swapaxes(1, 2)
        for p in range(3)
    )
    mean, V = conditional(cell, i, [0, 1] if len(u) > 1 else [0])
    grid = np.stack(np.meshgrid(GRID, u, indexing="ij"), axis=-1)[..., : len(mean)]
    w = stats.multivariate_normal(mean, V).logpdf(grid).reshape(len(GRID), len(u)) + np.log(total).sum(
        axis=-1
    )
    w = softmax(w)
    m1, m2 = first / total, second / total
    v, v2 = m1.mean(axis=-1), m1.mean(axis=-1) ** 2 + (m2 - m1**2).sum(axis=-1) / len(rows) ** 2
    b, u = GRID[:, None], (u if len(u) > 1 else cell.sampler.chain.B[0][i, 1])
    return np.array([(w * x).sum() for x in (b, u, v, b**2, u**2 + 0 * b, v2, b * v, u * b, u * v)])


def ess(x):
    return float(array_stats.ess(x, chain_axis=0, draw_axis=1))


def p_value(chain, law):
    average, error = mc.batch_means(chain, 25)
    moves = error > 1e-10
    return mc.bonferroni(2 * stats.t(24).sf(np.abs(average - law)[moves] / error[moves]))


@pytest.mark.parametrize("name", CASES)
def test_the_move_leaves_the_law_unchanged(name):
    chain, *rest = chain_of(name)
    assert p_value(chain, expected(name, *rest)) > LEVEL


def forgets_later_factors():
    """Where other effects take up nothing."""
    right = module.later_factors

    def forgetful(*given):
        right(*given)
        return 0.0

    return {"later_factors": forgetful}, {"_takers": lambda self: []}


def forgets_correlations():
    right = np.linalg.inv
    return {}, {"in_clusters": lambda self, clusters: sum(
        self._accept(i, {b: np.diag(np.diag(right(self.sampler.chain.Psi[b]))) for b in self.blocks}) for i in clusters
    )}  # fmt: skip


def forgets_the_way_back():
    """The proposal's density is not the same in both directions, and so the ratio has it."""
    return {}, {"_log_prior": lambda self, *given: 0.0}


def lets_effects_stay_moved():
    """A refused move must put back the effects of later factors as well."""
    right = module.JointMove._accept

    def wrong(self, i, R):
        chain, before = self.sampler.chain, {}
        takes = self._take_up

        def record(*given):
            takes(*given)
            before.update({t.of: chain.B[t.block][i, t.at].copy() for t in self.takers})

        self._take_up = record
        done = right(self, i, R)
        del self._take_up
        for taker in self.takers:
            chain.B[taker.block][i, taker.at] = before[taker.of]
            self.sampler.refresh_effects(taker.of, i)
        return done

    return {}, {"_accept": wrong}


@pytest.mark.parametrize(
    "wrong", [forgets_later_factors, forgets_correlations, forgets_the_way_back, lets_effects_stay_moved]
)
def test_wrong_moves_are_noticed(wrong, monkeypatch):
    functions, methods = wrong()
    for own, f in functions.items():
        monkeypatch.setattr(module, own, f)
    for own, f in methods.items():
        monkeypatch.setattr(module.JointMove, own, f)
    chain, *rest = chain_of("square", 4000)
    assert p_value(chain, expected("square", *rest)) < REJECTED


def of_clusters(seed):
    """A sampler whose variable zn has one value per cluster and is missing in one, and that cluster."""
    right = {
        "zn": ("1", lambda d: (1,), lambda d: ()),
        "y": ("zn + (1 | g)", lambda d: (1, d.zn), lambda d: (1,)),
    }
    cell = OneCell(Case("zn", right, seed=seed, strength=0.8))
    (cluster,) = cell.model.table.bare[cell.k]
    return cell, int(cluster)


@pytest.mark.parametrize("wrong", [False, True])
def test_a_variable_of_clusters_moves_against_their_intercepts(wrong, monkeypatch):
    """The move and draws of u alone against the normal law of both; a move with another residual variance of zn is
    noticed."""
    cell, i = of_clusters(3)
    s, k, l, a = cell.sampler, cell.k, 1 - cell.k, cell.model.table.arrays
    if wrong:
        right = module.JointMove._center
        monkeypatch.setattr(
            module.JointMove, "_center", lambda self, *given: right(self, *given[:-1], 0.3 * given[-1])
        )
    s.chain.Psi[0][:], cell.state.shape[k], s.chain.step[k] = 0.8, 0.5, 0.9
    rows, out = np.arange(a.first[i], a.first[i + 1]), np.empty((1, 5000 if wrong else 1600, 2))
    beta, sd, own = cell.state.beta[a.coefficient[l] :][:2], cell.state.shape[l], cell.state.shape[k]
    slope = beta[1] * a.unit[k]  # of y in the working value of zn
    for d in range(out.shape[1]):
        s._together(k, False)
        e = s.chain.Y[rows, l] - s.predictors(l, rows)[:, 0] + s.chain.B[0][i, 0]
        precision = 1 / 0.8 + len(rows) / sd**2
        s.chain.B[0][i, 0] = e.sum() / sd**2 / precision + cell.rng.standard_normal() / np.sqrt(precision)
        s.refresh_effects(l, i)
        out[0, d] = s.chain.Y[rows[0], k], s.chain.B[0][i, 0]
    # prior of (zn, u), and rows y = (b0 + b1 c) + slope zn + u + e
    Q = np.diag([own**-2, 1 / 0.8])
    t = Q @ np.array([cell.state.beta[a.coefficient[k]], 0.0])
    x, rest = np.array([slope, 1.0]), s.chain.Y[rows, l] - beta[0] - beta[1] * a.center[k]
    V = np.linalg.inv(Q + len(rows) * np.outer(x, x) / sd**2)
    mean = V @ (t + x * rest.sum() / sd**2)
    moments = np.append(mean, (V + np.outer(mean, mean))[[0, 0, 1], [0, 1, 1]])
    chain = np.concatenate([out, out**2, out[..., :1] * out[..., 1:]], axis=-1)[..., [0, 1, 2, 4, 3]]
    p = p_value(chain, moments)
    assert p < REJECTED if wrong else p > LEVEL


def lacking(rows, at_cluster=False):
    """Twelve clusters, two of which lack x wholly, and y, whose random intercepts vary much less than x does."""
    rng = np.random.default_rng(8)
    g = np.repeat(np.arange(12), rows)
    x = rng.normal(size=12)[g] + (0.0 if at_cluster else rng.normal(size=len(g)))
    y = 2.0 * x + rng.normal(0.0, 0.3, 12)[g] + rng.normal(size=len(g))
    return pd.DataFrame({"g": g, "x": np.where(g < 2, np.nan, x), "y": y})


@pytest.mark.parametrize("at_cluster", [False, True])
def test_levels_of_large_clusters_without_a_variable_mix(at_cluster, monkeypatch):
    """As effective draws of the imputed means: where intercepts do not move along, they are a tenth or less."""

    def effective():
        model = bi.JointGLMM(
            bi.IncompleteData(lacking(200, at_cluster), "g"), "y ~ x + (1 | g)", effects="separate"
        )
        imp = model.impute(m=2, seed=1, chains=2, tune=100, draws=400)
        means = imp._run.history.mean[..., 0]
        own = np.flatnonzero(~np.isnan(means[0, 0]))
        return min(ess(means[..., c]) for c in own)

    ours = effective()
    monkeypatch.setattr(module.JointMove, "_takers", lambda self: [])
    assert ours > 200 and effective() < 0.1 * ours


def test_columns_and_means_follow_the_move():
    """Whether or not it is accepted: a sweep moves a cluster after drawing its cells, and the next factor reads both."""
    mean = lambda d: (1, d.x, d.x**2, (np.bincount(G, d.x) / np.bincount(G))[G])  # noqa: E731
    text = "x + I(x**2) + cluster_mean(x) + (1 | g)"
    cell = OneCell(Case("x", {"x": ICC, "y": (text, mean, lambda d: (1,))}, seed=3, bare=True))
    tab, state, sampler, k = cell.model.table, cell.state, cell.sampler, cell.k
    sampler.chain.step[k] = 0.3
    seen = set()
    for _ in range(60):
        before = sampler.chain.moved[k].copy()
        sampler._together(k, False)
        _, accepted = sampler.chain.moved[k] - before
        seen.add(bool(accepted))
        M, X = np.empty_like(state.M), np.empty_like(state.X)
        values = tab.arrays.center[k] + tab.arrays.unit[k] * state.Y[:, k]
        np.testing.assert_allclose(state.V[:, tab.arrays.variable[k]], values)
        all_means(tab.means, tab.divisor, state.V, tab.arrays.first, M)
        all_columns(tab.programs, state.V, M, tab.arrays.cluster, np.arange(len(X)), X)
        np.testing.assert_array_equal(M, state.M)
        np.testing.assert_array_equal(X, state.X)
    assert seen == {True, False}
