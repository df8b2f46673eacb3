"""Effects and values of a cluster that lacks a variable, moved together, against their law by quadrature.

With parameters fixed, the move and the draws of the missing cells are a chain whose law is

    p(b, v | y) ~ N(b; mu, s^2) prod_j p(v_j | b) p(y_j | v_j),      mu, s from the effects of y and Psi

Means, squares and products of b and of the values v, in batch means; level LEVEL, wrong variants below REJECTED.
"""

import numpy as np
import pytest
from scipy import stats
from scipy.special import expit, softmax

from bayesimp.joint.glmm import sampler as module
from bayesimp.kernels.factors.arrays import workspace
from bayesimp.kernels.factors.cells import draw_cells
from bayesimp.kernels.factors.columns import all_columns, all_means
from tests.calibration import montecarlo as mc
from tests.calibration.montecarlo import LEVEL, REJECTED
from tests.kernels.factors.one_cell import Case, G, OneCell, table

ICC = ("1 + (1 | g)", lambda d: (1,), lambda d: (1,))
PSI = np.array([[1.0, -0.7], [-0.7, 0.8]])
GRID = np.linspace(-5, 5, 301)


def child(target, text, columns):
    return {target: ICC, "y": (text, columns, lambda d: (1,))}


CASES = {
    "normal": ("x", {}, child("x", "x + (1 | g)", lambda d: (1, d.x)), np.linspace(-15, 17, 600)),
    "logit": ("w", {}, child("w", "w + (1 | g)", lambda d: (1, d.w)), np.arange(2.0)),
    "probit": ("w", {"w": "probit"}, child("w", "w + (1 | g)", lambda d: (1, d.w)), np.arange(2.0)),
    "poisson": ("k", {}, child("k", "log1p(k) + (1 | g)", lambda d: (1, np.log1p(d.k))), np.arange(200.0)),
    "ordinal": ("o", {}, child("o", "o + (1 | g)", lambda d: (1, d.o == 1, d.o == 2)), np.arange(3.0)),
    "gamma": ("s", {}, child("s", "log(s) + (1 | g)", lambda d: (1, np.log(d.s))), np.geomspace(0.002, 800, 800)),
}  # fmt: skip


def setting(name):
    target, links, factors, values = CASES[name]
    cell = OneCell(Case(target, factors, seed=3, strength=0.8, bare=True, links=links))
    tab, chain, k = cell.model.table, cell.sampler.chain, cell.k
    (cluster,) = tab.bare[k]
    chain.Psi[0][:] = PSI
    chain.B[0][:] = np.random.default_rng(1).normal(0.0, 0.8, chain.B[0].shape)
    beta = cell.state.beta.copy()
    shape, cuts = cell.state.shape.copy(), cell.state.cuts.copy()
    for l in range(2):
        cell.sampler._refresh(l)
    cell.state.beta[:], cell.state.shape[:], cell.state.cuts[:] = beta, np.maximum(shape, 0.9), cuts
    chain.step[k] = 0.9
    return cell, int(cluster), values


def chain_of(name, count=8000, together=True):
    """(1, count, 5) b, mean of v, their squares and product, and the setting."""
    cell, i, values = setting(name)
    tab, k = cell.model.table, np.int64(cell.k)
    rows = np.arange(tab.arrays.first[i], tab.arrays.first[i + 1])
    start = np.where(np.arange(3) > cell.k, len(rows), 0).astype(np.int64)
    cells = tab.cells._replace(start=start, row=rows)
    work, out = workspace(tab.arrays, cells, k), np.empty((1, count, 2))
    for d in range(count):
        if together:
            cell.sampler._together(cell.k, False)
        draw_cells(cell.rng, k, tab.arrays, cells, tab.programs, tab.means, tab.divisor, cell.state, work)
        v = tab.arrays.center[k] + tab.arrays.unit[k] * cell.state.Y[rows, k]
        out[0, d] = cell.sampler.chain.B[0][i, cell.k], v.mean()
    b, v = out[..., 0], out[..., 1]
    return np.stack([b, v, b**2, v**2, b * v], axis=-1), cell, i, values


def density(name, v, eta, cell):
    """p(v | eta) (eta, v), by SciPy."""
    k, e = cell.k, eta[:, None]
    a, shape, cuts = cell.model.table.arrays, cell.state.shape[cell.k], cell.state.cuts[k]
    if name == "normal":
        return stats.norm.pdf(v, a.center[k] + a.unit[k] * e, a.unit[k] * shape)
    if name in ("logit", "probit"):
        return stats.bernoulli.pmf(v, expit(e) if name == "logit" else stats.norm.cdf(e))
    if name == "poisson":
        return stats.poisson.pmf(v, np.exp(e))
    if name == "gamma":
        return stats.gamma.pdf(v, shape, scale=a.unit[k] * np.exp(e) / shape)
    above = np.hstack([np.ones_like(e), expit(e - cuts[:2]), np.zeros_like(e)])
    return above[:, :-1] - above[:, 1:]


def expected(name, cell, i, values):
    tab, chain, k = cell.model.table, cell.sampler.chain, cell.k
    a, l = tab.arrays, 1 - k
    gain = PSI[k, l] / PSI[l, l]
    b = GRID
    prior = stats.norm.logpdf(b, gain * chain.B[0][i, l], np.sqrt(PSI[k, k] - gain * PSI[l, k]))
    own = density(name, values, cell.state.beta[a.coefficient[k]] + b, cell)  # (b, v)
    if name in ("normal", "gamma"):
        own = own * np.gradient(values)
    # the child at every value of v
    columns = np.column_stack([np.ones(len(values)) * x for x in cell.case.factors["y"][1](
        type("d", (), {cell.case.target: values})())])  # fmt: skip
    eta = columns @ cell.state.beta[a.coefficient[l] : a.coefficient[l + 1]] + chain.B[0][i, l]
    rows = np.flatnonzero(np.argsort(tab.order)[G] == i)
    y = (table()["y"].to_numpy()[rows] - a.center[l]) / a.unit[l]
    later = stats.norm.pdf(y[:, None], eta, cell.state.shape[l])  # (j, v)
    joint = own[:, None, :] * later  # (b, j, v)
    total = joint.sum(axis=-1)
    w = softmax(prior + np.log(total).sum(axis=1))
    m1, m2 = (joint * values).sum(axis=-1) / total, (joint * values**2).sum(axis=-1) / total
    n = len(rows)
    mean = m1.mean(axis=1)
    square = mean**2 + (m2 - m1**2).sum(axis=1) / n**2
    return np.array([w @ b, w @ mean, w @ b**2, w @ square, w @ (b * mean)])


def p_value(chain, law):
    average, error = mc.batch_means(chain, 25)
    return mc.bonferroni(2 * stats.t(24).sf(np.abs(average - law) / error))


@pytest.mark.parametrize("name", CASES)
def test_the_move_leaves_the_law_as_it_is(name):
    chain, *rest = chain_of(name, 5000)
    assert p_value(chain, expected(name, *rest)) > LEVEL


@pytest.mark.parametrize("name", ["normal", "poisson"])
def test_a_move_that_forgets_later_factors_is_noticed(name, monkeypatch):
    right = module.later_factors

    def forgetful(*given):
        right(*given)
        return 0.0

    monkeypatch.setattr(module, "later_factors", forgetful)
    chain, *rest = chain_of(name, 5000)
    assert p_value(chain, expected(name, *rest)) < REJECTED


def test_a_move_that_forgets_the_effects_of_others_is_noticed(monkeypatch):
    right = module.conditional_law

    def apart(Psi, *given):
        return right(np.diag(np.diag(Psi)), *given)

    monkeypatch.setattr(module, "conditional_law", apart)
    chain, *rest = chain_of("normal", 5000)
    assert p_value(chain, expected("normal", *rest)) < REJECTED


def test_columns_and_means_follow_the_move():
    """Whether or not it is accepted: a sweep moves a cluster after drawing its cells, and the next factor reads both."""
    mean = lambda d: (1, d.x, (np.bincount(G, d.x) / np.bincount(G))[G])  # noqa: E731
    cell = OneCell(
        Case("x", {"x": ICC, "y": ("x + cluster_mean(x) + (1 | g)", mean, lambda d: (1,))}, seed=3, bare=True)
    )
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
