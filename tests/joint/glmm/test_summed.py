"""Effects of a random slope drawn with the missing levels of a cluster summed out, against their law on a grid.

With parameters fixed, the move and the draws of the missing cells are a chain whose law is

    p(b, v | y) ~ N(b; mu, Q^-1) prod_j p(v_j) p(u_j | v_j) p(y_j | v_j, b),      b intercept and slope of y

u another variable that depends on v. Likewise for the effect b of v itself, N(b; mu, Q^-1) prod_j p(v_j | b) .. . Means,
squares and products of b and of the mean of v, in batch means; level LEVEL, wrong variants below REJECTED. Merged rows of
factors: their likelihood is that of all rows, up to a constant.
"""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from scipy.special import expit, softmax

import bayesimp as bi
from bayesimp.joint.glmm import sampler as module
from bayesimp.joint.glmm import summed
from bayesimp.joint.glmm.chain import start_chain
from bayesimp.joint.glmm.prior import factor_priors
from bayesimp.joint.glmm.summed import Summed
from bayesimp.joint.glmm.together import JointMove
from bayesimp.kernels.factors.arrays import workspace
from bayesimp.kernels.factors.cells import draw_cells
from bayesimp.kernels.families.codes import POISSON
from bayesimp.kernels.glmm.rows import GlmmRows
from tests.calibration import montecarlo as mc
from tests.calibration.montecarlo import LEVEL, REJECTED
from tests.kernels.factors.one_cell import Case, G, OneCell, table

ICC = ("1 + (1 | g)", lambda d: (1,), lambda d: (1,))
SIDE = np.linspace(-6.0, 6.0, 121)


def slope_of(target: str, of: str, other: bool = True) -> Case:
    """`of` with a random slope of the target, and, if `other`, u, which depends on the target too."""
    both = lambda d: (1, getattr(d, target))  # noqa: E731
    factors = {target: ICC} | ({"u": (f"{target} + (1 | g)", both, lambda d: (1,))} if other else {})
    factors[of] = f"{target} + (1 + {target} | g)", both, both
    return Case(target, factors, row=10, seed=5, strength=1.2, bare=True)


CASES = {"binary": slope_of("w", "y"), "partly observed": slope_of("w", "y"), "binomial": slope_of("t", "y"),
         "binary of binary": slope_of("w", "v"), "rows alike": slope_of("w", "v", False)}  # fmt: skip


@pytest.fixture(autouse=True)
def however_few_rows(monkeypatch):
    """The tables of these tests have clusters of a few rows."""
    monkeypatch.setattr(summed, "FEWEST", 1)


class Setting:
    """A case with a covariance matrix of the effects, the group of its move and the rows that are imputed."""

    def __init__(self, name: str) -> None:
        self.case = CASES[name]
        self.cell = cell = OneCell(self.case)
        self.K = len(self.case.factors)
        self.tab, self.chain, self.k, self.l = cell.model.table, cell.sampler.chain, cell.k, self.K - 1
        A = np.random.default_rng(2).normal(size=(self.K + 1, self.K + 1))
        self.chain.Psi[0][:] = A @ A.T / 4 + 0.3 * np.eye(self.K + 1)
        self.chain.B[0][:] = np.random.default_rng(1).normal(0.0, 0.8, self.chain.B[0].shape)
        kept = cell.state.beta.copy(), np.maximum(cell.state.shape, 0.9)
        for l in range(self.K):
            cell.sampler._refresh(l)
        cell.state.beta[:], cell.state.shape[:] = kept
        (self.group,) = [s for s in cell.sampler.groups(self.k) if s.of == self.l and self._is_bare(s)]
        self.rows = self.group.rows
        if name == "partly observed":
            missing = self.group.missing.copy()
            missing[self.rows[0]] = False
            values = np.where(missing, self.group.values, 1)
            self.group = replace(self.group, missing=missing, values=values)
        self.open = self.rows[self.group.missing[self.rows]]

    def _is_bare(self, group) -> bool:
        return bool(group.missing[group.rows].all())

    def chain_of(self, count: int) -> np.ndarray:
        """(1, count, 6) b0, b1, mean of v, b1^2, b0 b1, b1 mean of v."""
        tab, k, cell, i = self.tab, np.int64(self.k), self.cell, int(self.group.cluster)
        start = np.where(np.arange(self.K + 1) > self.k, len(self.open), 0).astype(np.int64)
        cells = tab.cells._replace(start=start, row=self.open)
        work, out = workspace(tab.arrays, cells, k), np.empty((count, 3))
        at = self.cell.sampler.priors.place[self.l][1]
        for d in range(count):
            cell.sampler._summed_out(self.k, self.group)
            draw_cells(cell.rng, k, tab.arrays, cells, tab.programs, tab.means, tab.divisor, cell.state, work)
            out[d] = *self.chain.B[0][i, at : at + 2], cell.state.Y[self.rows, self.k].mean()
        b0, b1, v = out.T
        return np.stack([b0, b1, v, b1**2, b0 * b1, b1 * v], axis=-1)[None]

    def levels(self, row: int) -> np.ndarray:
        if row not in self.open:
            return np.array([self.cell.state.Y[row, self.k]])
        return np.arange(self.tab.arrays.trials[row, self.k] + 1)

    def density(self, l: int, row: int, eta: np.ndarray, y=None) -> np.ndarray:
        """p(y | eta) of factor l in a row of the sampler."""
        family, a = self.tab.factors[l].family.name, self.tab.arrays
        y = self.cell.state.Y[row, l] if y is None else y
        if family == "normal":
            return stats.norm.pdf(y, eta, self.cell.state.shape[l])
        return stats.binom.pmf(y, a.trials[row, l].astype(int), expit(eta))

    def expected(self) -> np.ndarray:
        state, a, i, l = self.cell.state, self.tab.arrays, int(self.group.cluster), self.l
        at = self.cell.sampler.priors.place[l][1]
        own, Psi = np.array([at, at + 1]), self.chain.Psi[0]
        rest = np.setdiff1d(np.arange(self.K + 1), own)
        gain = np.linalg.solve(Psi[np.ix_(rest, rest)], Psi[np.ix_(rest, own)]).T
        mu = gain @ self.chain.B[0][i, rest]
        V = Psi[np.ix_(own, own)] - gain @ Psi[np.ix_(rest, own)]
        sd = np.sqrt(np.diag(V))
        b0, b1 = np.meshgrid(mu[0] + sd[0] * SIDE, mu[1] + sd[1] * SIDE, indexing="ij")
        c0, c1 = np.einsum("ab,bxy->axy", self.tab.scales[l].levels[0].random, np.stack([b0, b1]))
        beta = [state.beta[a.coefficient[f] : a.coefficient[f + 1]] for f in range(self.K)]
        effect = [state.B[i, a.effect[f]] for f in range(self.K)]
        log_p = stats.multivariate_normal(mu, V).logpdf(np.stack([b0, b1], axis=-1))
        mean = np.zeros_like(b0)
        for row in self.rows:
            levels = self.levels(row)
            joint = np.stack([
                self.density(self.k, row, beta[self.k][0] + effect[self.k], v)
                * (self.density(1, row, beta[1][0] + beta[1][1] * v + effect[1]) if self.K == 3 else 1.0)
                * self.density(l, row, beta[l][0] + c0 + (beta[l][1] + c1) * v)
                for v in levels
            ])  # fmt: skip
            log_p = log_p + np.log(joint.sum(axis=0))
            mean = mean + np.tensordot(levels, joint, axes=1) / joint.sum(axis=0) / len(self.rows)
        w = softmax(log_p)
        return np.array([(w * x).sum() for x in (b0, b1, mean, b1**2, b0 * b1, b1 * mean)])

    def p_value(self, count: int = 4000) -> float:
        law = self.expected()  # depends on parameters and data, which the chain does not change
        average, error = mc.batch_means(self.chain_of(count), 25)
        return mc.bonferroni(2 * stats.t(24).sf(np.abs(average - law) / error))


@pytest.mark.parametrize("name", CASES)
def test_the_move_leaves_the_law_as_it_is(name):
    assert Setting(name).p_value() > LEVEL


def test_a_move_that_forgets_the_other_factors_is_noticed(monkeypatch):
    right = module.read_values

    def forgetful(*given):
        right(*given)
        given[-1].weight[:] = 0.0

    monkeypatch.setattr(module, "read_values", forgetful)
    assert Setting("binary").p_value() < REJECTED


def test_a_move_that_forgets_the_effects_of_others_is_noticed(monkeypatch):
    right = module.conditional_law
    monkeypatch.setattr(module, "conditional_law", lambda Psi, *given: right(np.diag(np.diag(Psi)), *given))
    assert Setting("binary").p_value() < REJECTED


def test_present_effects_counted_twice_are_noticed(monkeypatch):
    right = module.read_values
    monkeypatch.setattr(module, "read_values", lambda *given: right(*given[:-2], 0 * given[-2], given[-1]))
    assert Setting("binary").p_value() < REJECTED


def test_rows_alike_that_count_once_are_noticed(monkeypatch):
    right = Summed.alike
    monkeypatch.setattr(Summed, "alike", lambda *given: (right(*given)[0], np.ones(len(right(*given)[1]))))
    assert Setting("rows alike").p_value() < REJECTED


# -- effects of the variable's own factor -------------------------------------------------------------------------


class OwnSetting(Setting):
    """The move of the effect of the variable's own factor, in the cluster that lacks all its values."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        (self.group,) = [s for s in self.cell.sampler.groups(self.k) if s.of == self.k]
        assert self._is_bare(self.group) and len(self.open) == len(self.group.rows)

    def chain_of(self, count: int) -> np.ndarray:
        """(1, count, 5) b, mean of v, their squares and product."""
        tab, k, cell, i = self.tab, np.int64(self.k), self.cell, int(self.group.cluster)
        start = np.where(np.arange(self.K + 1) > self.k, len(self.open), 0).astype(np.int64)
        cells = tab.cells._replace(start=start, row=self.open)
        work, out = workspace(tab.arrays, cells, k), np.empty((count, 2))
        for d in range(count):
            cell.sampler._summed_out(self.k, self.group)
            draw_cells(cell.rng, k, tab.arrays, cells, tab.programs, tab.means, tab.divisor, cell.state, work)
            out[d] = self.chain.B[0][i, self.k], cell.state.Y[self.rows, self.k].mean()
        b, v = out.T
        return np.stack([b, v, b**2, v**2, b * v], axis=-1)[None]

    def expected(self) -> np.ndarray:
        state, a, i, k, Psi = (
            self.cell.state,
            self.tab.arrays,
            int(self.group.cluster),
            self.k,
            self.chain.Psi[0],
        )
        rest = np.delete(np.arange(self.K + 1), k)
        gain = np.linalg.solve(Psi[np.ix_(rest, rest)], Psi[rest, k])
        mu, sd = gain @ self.chain.B[0][i, rest], np.sqrt(Psi[k, k] - gain @ Psi[rest, k])
        b = mu + sd * np.linspace(-7.0, 7.0, 281)
        own = state.beta[a.coefficient[k]] + self.tab.scales[k].levels[0].random[0, 0] * b
        beta = [state.beta[a.coefficient[f] : a.coefficient[f + 1]] for f in range(self.K)]
        log_p, mean, variance = stats.norm.logpdf(b, mu, sd), np.zeros_like(b), np.zeros_like(b)
        for row in self.rows:
            levels = self.levels(row)
            joint = np.stack([self.density(k, row, own, v) for v in levels])
            for f in range(1, self.K):  # u has an intercept, the last one a slope of v too
                effects = [*state.B[i, a.effect[f] : a.effect[f + 1]], 0.0][:2]
                terms = beta[f][0] + effects[0] + (beta[f][1] + effects[1]) * levels
                joint *= np.array([self.density(f, row, eta) for eta in terms])[:, None]
            total = joint.sum(axis=0)
            log_p = log_p + np.log(total)
            first, second = levels @ joint / total, levels**2 @ joint / total
            mean, variance = (
                mean + first / len(self.rows),
                variance + (second - first**2) / len(self.rows) ** 2,
            )
        w = softmax(log_p)
        return np.array([(w * x).sum() for x in (b, mean, b**2, mean**2 + variance, b * mean)])


OWN = "binary", "binomial", "binary of binary", "rows alike"


@pytest.mark.parametrize("name", OWN)
def test_the_move_of_own_effects_leaves_the_law_as_it_is(name):
    setting = OwnSetting(name)
    setting.chain.B[0][:, setting.k + 1 :] += 1.0
    assert setting.p_value(3000) > LEVEL


def forgetting(part: str):
    """Children left out of the weights, or every response read as a failure."""
    right = module.read_values

    def forgetful(*given):
        right(*given)
        getattr(given[-1], part)[:] = 0.0

    return forgetful


@pytest.mark.parametrize("part", ["weight", "y", "base"])
def test_a_move_of_own_effects_that_forgets_is_noticed(part, monkeypatch):
    monkeypatch.setattr(module, "read_values", forgetting(part))
    assert OwnSetting("binary").p_value(2000) < REJECTED


def test_own_effects_without_binomial_coefficients_are_noticed(monkeypatch):
    right = Summed.mixture
    monkeypatch.setattr(Summed, "mixture", lambda *given: right(*given)._replace(full=False))
    assert OwnSetting("binomial").p_value() < REJECTED


def test_own_effects_apart_from_those_of_others_are_noticed(monkeypatch):
    right = module.conditional_law
    monkeypatch.setattr(module, "conditional_law", lambda Psi, *given: right(np.diag(np.diag(Psi)), *given))
    setting = OwnSetting("binary")
    setting.chain.B[0][:, setting.k + 1 :] = (
        2.0  # far from their mean, which shows where the prior reads them
    )
    assert setting.p_value() < REJECTED


# -- where it is made ----------------------------------------------------------------------------------------------


def sampler(analysis: str, families: dict, frame: pd.DataFrame, factors=None) -> module.Sampler:
    model = bi.JointGLMM(bi.IncompleteData(frame, "g", families), analysis, factors or {})
    tab, priors = model.table, factor_priors(model.table, model.priors, False)
    return module.Sampler(tab, priors, start_chain(tab, priors, 1, 0), "")


def holed() -> pd.DataFrame:
    frame = table()[["g", "w", "u", "y"]].copy()
    frame.loc[(G == 1) | (np.arange(len(G)) == 0), "w"] = np.nan
    return frame


@pytest.mark.parametrize(
    ("analysis", "made"),
    [
        ("y ~ w + (1 + w | g)", [1, 0]),
        ("y ~ w + (1 | g)", [0]),
        ("y ~ w + cluster_mean(w) + (1 + w | g)", []),
    ],
)
def test_where_the_move_is_made(analysis, made, monkeypatch):
    """Effects of y with a slope of w, and those of w; where there is none, effects and values of w move together."""
    s, together = sampler(analysis, {"w": "bernoulli"}, holed()), []
    groups = s.groups(0)
    assert [group.of for group in groups] == made
    for group in groups:
        assert (G[s.table.row[group.rows]] == 1).all() and len(group.rows) == (G == 1).sum()
    monkeypatch.setattr(JointMove, "_accept", lambda *given: together.append(given) or False)
    s.update_cells(0)
    assert bool(together) == (not made)


@pytest.mark.parametrize("fewest", [1, 40, 1000])
def test_sums_are_made_in_clusters_of_many_rows_only(fewest, monkeypatch):
    """Where they are not, effects and values move together; every cluster without values has one of the two moves."""
    monkeypatch.setattr(summed, "FEWEST", fewest)
    rng = np.random.default_rng(4)
    g = np.repeat(np.arange(8), [30, 50] * 4)
    frame = pd.DataFrame({"g": g, "w": 1.0 * rng.integers(0, 2, len(g)), "y": rng.normal(size=len(g))})
    frame.loc[np.isin(g, (2, 3)), "w"] = np.nan
    s, together = sampler("y ~ w + (1 + w | g)", {"w": "bernoulli"}, frame), []
    monkeypatch.setattr(JointMove, "_accept", lambda *given: together.append(given[1]) or False)
    s.update_cells(0)
    label = lambda i: int(g[s.table.row[s.table.arrays.first[i]]])  # noqa: E731  clusters are sorted differently there
    made = {1: [2, 3], 40: [3], 1000: []}[fewest]
    for of in (0, 1):
        assert sorted(label(group.cluster) for group in s.groups(0) if group.of == of) == made
    assert sorted(made + [label(i) for i in together]) == [2, 3]


def test_own_effects_are_drawn_only_where_the_variable_is_never_observed():
    frame = holed()
    frame.loc[np.flatnonzero(G == 1)[0], "w"] = 1.0
    assert [group.of for group in sampler("y ~ w + (1 + w | g)", {"w": "bernoulli"}, frame).groups(0)] == [1]


def test_a_draw_without_a_finite_density_is_reported(monkeypatch):
    """The effects keep their values, two draws in every sweep of the chain: effects of y, and those of w."""
    monkeypatch.setattr(module, "draw_effects_summed", lambda *_: False)
    model = bi.JointGLMM(bi.IncompleteData(holed(), "g", {"w": "bernoulli"}), "y ~ w + (1 + w | g)")
    imp = model.impute(2, seed=1, chains=1, tune=3, draws=4, progress=False)
    (event,) = imp.events.query("kind == 'cells kept'").to_dict("records")
    assert event["count"] == 14 and "effects with missing cells summed out" in event["message"]


# -- merged rows of a factor ---------------------------------------------------------------------------------------


def log_likelihood(rows: GlmmRows, B: np.ndarray, beta: np.ndarray) -> float:
    eta = rows.offset + rows.X @ beta + (rows.Z * np.repeat(B, np.diff(rows.first), axis=0)).sum(axis=1)
    if rows.family == POISSON:
        return float((rows.y * eta - np.exp(eta)).sum())
    return float((rows.y * eta - rows.trials * np.logaddexp(0.0, eta)).sum())


@pytest.mark.parametrize("family", ["bernoulli", "poisson"])
@pytest.mark.parametrize("wrong", [False, True])
def test_a_factor_reads_sums_of_rows_alike(family, wrong, monkeypatch):
    """Rows are found alike after cells have changed: columns that were alike at the start will not do."""
    rng = np.random.default_rng(3)
    g = np.repeat(np.arange(6), 60)
    frame = pd.DataFrame({"g": g, "w": rng.integers(0, 2, 360) * 1.0, "y": rng.integers(0, 2, 360) * 1.0})
    frame.loc[rng.random(360) < 0.4, "w"] = np.nan
    s = sampler("y ~ w + (1 + w | g)", {"w": "bernoulli", "y": family}, frame)
    if wrong:
        monkeypatch.setattr(s.rows, "moves", lambda k: False)
    s.rows.merged(1, s.further.rows(1, 0, s.state), 0)
    s.chain.rng = np.random.default_rng(5)
    s.update_cells(0)
    merged = s.rows.merged(1, s.further.rows(1, 0, s.state), 0)
    rows, starts = s.table.rows[1], s.table.starts[1]
    X, Z = s.rows.columns(1, rows)
    a = s.table.arrays
    every = GlmmRows(s.table.factors[1].code, s.chain.Y[rows, 1], a.trials[rows, 1], np.ones(len(rows)),
                     a.offset[rows, 1], X, Z, starts)  # fmt: skip
    assert len(merged.y) <= 12 < len(every.y)
    points = [(rng.normal(size=(6, 2)), rng.normal(size=2)) for _ in range(4)]
    differences = [log_likelihood(merged, *at) - log_likelihood(every, *at) for at in points]
    assert (np.ptp(differences) > 0.1) if wrong else (np.ptp(differences) < 1e-8)
