"""One missing cell of a joint GLMM: drawn by the kernel, and its law from the joint density of the whole table.

The law does not use children, columns or scales: every factor's density is written with SciPy on the completed table,
log densities are added up, and the part that depends on the cell is normalised over its values or a grid.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace

import numpy as np
import pandas as pd
from scipy import stats
from scipy.special import expit, logit, softmax

import bayesimp as bi
from bayesimp.contract import Shift
from bayesimp.joint.glmm.chain import start_chain
from bayesimp.joint.glmm.prior import factor_priors
from bayesimp.joint.glmm.sampler import Sampler
from bayesimp.kernels.factors.arrays import workspace
from bayesimp.kernels.factors.cells import draw_cells, propose_counts
from bayesimp.kernels.families.responses import EXTRA_ZEROS
from tests.longhand import yeo_johnson

G = np.repeat(np.arange(5), [5, 4, 6, 3, 5])
N = len(G)
FAMILIES = {
    "w": "bernoulli", "v": "bernoulli", "z": "bernoulli", "o": "ordinal", "c": "categorical", "t": "binomial(size)",
    "k": "poisson", "nb": "negative_binomial", "s": "gamma", "i": "inverse_gaussian", "p": "beta",
    "r": "student", "zk": "zero_inflated_poisson", "zb": "zero_inflated_negative_binomial",
    "ln": "lognormal", "yj": "yeo_johnson", "hk": "hurdle_poisson", "hb": "hurdle_negative_binomial",
}  # fmt: skip
ONE = np.ones(N)


def table() -> pd.DataFrame:
    """A complete table with a variable of every family; z and zn have one value in a cluster."""
    rng = np.random.default_rng(11)
    size = rng.integers(1, 6, N)
    return pd.DataFrame({
        "g": G, "size": size, "x": rng.normal(1.0, 2.0, N), "u": rng.normal(-3.0, 0.5, N), "y": rng.normal(5.0, 3.0, N),
        "y2": rng.normal(0.0, 1.0, N), "w": np.arange(N) % 2 * 1.0, "v": np.arange(N) // 2 % 2 * 1.0,
        "z": np.array([0.0, 1.0, 1.0, 0.0, 1.0])[G], "zn": np.array([0.3, -1.0, 2.0, 0.7, 1.1])[G],
        "o": np.arange(N) % 3 * 1.0, "c": rng.permutation(N) % 3 * 1.0, "t": rng.binomial(size, 0.5) * 1.0,
        "k": rng.poisson(3.0, N) * 1.0, "nb": rng.poisson(4.0, N) * 1.0, "s": rng.gamma(3.0, 2.0, N),
        "i": rng.wald(3.0, 6.0, N), "p": rng.beta(2.0, 3.0, N),
        "r": 20.0 + 4.0 * rng.standard_t(3.0, N), "zk": rng.poisson(5.0, N) * (rng.random(N) < 0.7) * 1.0,
        "zb": rng.poisson(rng.gamma(2.0, 3.0, N)) * (rng.random(N) < 0.7) * 1.0,
        "ln": 5.0 * np.exp(rng.normal(size=N)), "hk": (1 + rng.poisson(3.0, N)) * (rng.random(N) < 0.7) * 1.0,
        "hb": (1 + rng.poisson(rng.gamma(2.0, 2.0, N))) * (rng.random(N) < 0.7) * 1.0,
        "yj": 60.0 + 2.0 * rng.gamma(2.0, size=N),
    })  # fmt: skip


def mean(v):
    """(N,) mean over each row's cluster."""
    return (np.bincount(G, v) / np.bincount(G))[G]


def within(v):
    return v - mean(v)


@dataclass
class Case:
    """A joint GLMM, the variable of which a cell is drawn, and other missing cells.

    factors: response -> right-hand side of its formula, columns of its fixed part, and of its random part, as functions
    of the completed table; the last one is the analysis.
    """

    target: str
    factors: dict[str, tuple[str, Callable, Callable]]
    holes: tuple[str, ...] = ()
    shift: dict[str, float] = field(default_factory=dict)
    row: int = 7
    seed: int = 1
    strength: float = 0.5  # standard deviation of coefficients, on the scale of the sampler
    bare: bool = False  # the target is missing in the whole cluster of the row
    links: dict[str, str] = field(default_factory=dict)


class OneCell:
    """A case with parameters and effects drawn at random."""

    def __init__(self, case: Case) -> None:
        self.case, rng = case, np.random.default_rng(case.seed)
        complete = table()
        frame = complete[["g", "size", *case.factors]].copy()
        lost = {name: rng.random(N) < 0.3 for name in (*case.holes, case.target)}
        for name in lost:
            whole = name in ("z", "zn")
            lost[name] = (
                (G == G[case.row])
                if whole
                else lost[name] | (np.arange(N) == case.row) & (name == case.target)
            )
            if name == case.target and case.bare:
                lost[name] |= G == G[case.row]
            frame.loc[lost[name], name] = np.nan
        self.lost = lost
        *others, last = ((name, f"{name} ~ {text}") for name, (text, _, _) in case.factors.items())
        families = {name: family for name, family in FAMILIES.items() if name in case.factors}
        data = bi.IncompleteData(frame.drop(columns=[] if "t" in case.factors else "size"), "g", families)
        shift = Shift(case.shift) if case.shift else None
        self.model = bi.JointGLMM(data, last[1], dict(others), shift=shift, links=case.links)
        assert self.model.table.factors == self.model.factors
        self.names = self.model.responses
        tab = self.model.table
        chain = start_chain(tab, factor_priors(tab, self.model.priors, False), case.seed, 0)
        self.sampler = Sampler(tab, factor_priors(tab, self.model.priors, False), chain, "")
        state = self.sampler.state
        state.beta[:] = rng.normal(0.0, case.strength, state.beta.size)
        state.B[:] = rng.normal(0.0, 0.5, state.B.shape)
        state.shape[:] = np.exp(rng.normal(0.3, 0.3, state.shape.size))
        state.cuts[:, 1:] = np.cumsum(np.exp(rng.normal(0, 0.3, state.cuts[:, 1:].shape)), axis=1)
        for k, factor in enumerate(tab.factors):
            if factor.family.name == "student":
                state.cuts[k, 0] = 2.5  # degrees of freedom
            elif factor.family.name == "yeo_johnson":
                state.cuts[k, 0] = 0.4  # lambda
            elif factor.family.name in ("zero_inflated_poisson", "hurdle_poisson"):
                state.shape[k] = 0.3  # zi, hu
            elif factor.family.name in ("zero_inflated_negative_binomial", "hurdle_negative_binomial"):
                state.cuts[k, 0] = 0.3  # zi, hu
        self.k = self.names.index(case.target)
        self.rows = [int(np.flatnonzero(tab.row == case.row)[0])]  # place of the row among the sampler's
        if tab.factors[self.k].at_cluster:
            self.rows = [int(tab.arrays.first[tab.arrays.cluster[self.rows[0]]])]
        start = np.zeros(len(self.names) + 1, dtype=np.int64)
        start[self.k + 1 :] = 1
        self.arrays = tab.arrays
        self.cells = tab.cells._replace(start=start, row=np.array(self.rows))
        self.state, self.rng = state, np.random.default_rng(case.seed + 100)

    def draws(self, count: int, thin: int = 1) -> np.ndarray:
        """(count,) values of the cell, levels as positions."""
        tab, k, out = self.model.table, np.int64(self.k), np.empty(count)
        work = workspace(self.arrays, self.cells, k)
        for d in range(count * thin):
            if tab.factors[self.k].code in EXTRA_ZEROS:
                propose_counts(self.rng, k, self.arrays, self.cells, self.state, work)
            failed = draw_cells(
                self.rng, k, self.arrays, self.cells, tab.programs, tab.means, tab.divisor, self.state, work
            )
            assert failed == 0
            if (d + 1) % thin == 0:
                out[d // thin] = self.state.Y[self.rows[0], k]
        return tab.arrays.center[k] + tab.arrays.unit[k] * out

    # -- the law -----------------------------------------------------------------------------------------------

    def completed(self) -> dict[str, np.ndarray]:
        """Name -> (N,) in the order of the table; NaN in leaves."""
        tab = self.model.table
        out = {}
        for k, name in enumerate(self.names):
            out[name] = np.empty(N)
            out[name][tab.row] = tab.arrays.center[k] + tab.arrays.unit[k] * self.state.Y[:, k]
        return out

    def log_joint(self, values: dict[str, np.ndarray]) -> float:
        """Sum of the log densities of all factors on a completed table."""
        d = SimpleNamespace(**values)
        return sum(self._log_factor(k, name, values[name], d) for k, name in enumerate(self.names))

    def _log_factor(self, k: int, name: str, y: np.ndarray, d: SimpleNamespace) -> float:
        tab, a, (_, fixed, random) = self.model.table, self.arrays, self.case.factors[name]
        r = tab.factors[k].predictors
        X = np.column_stack([ONE * x for x in fixed(d)])
        Z = np.column_stack([ONE * z for z in random(d)] or [np.empty((N, 0))])
        beta = self.state.beta[a.coefficient[k] : a.coefficient[k + 1]].reshape(r, -1).T
        place = np.argsort(tab.order)[G]  # of each row's cluster among the sampler's
        b = self.state.B[place, a.effect[k] : a.effect[k + 1]].reshape(N, r, Z.shape[1])
        eta = X @ beta + np.einsum("jq,jrq->jr", Z, b)
        if name in self.case.shift:
            unit = tab.arrays.unit[k] if tab.factors[k].family.is_standardised else 1.0
            eta[self.lost[name]] += self.case.shift[name] / unit
        used = ~np.isnan(y)
        if name in ("z", "zn"):
            used &= np.r_[True, G[1:] != G[:-1]]
        return float(self._log_density(k, name, y, eta)[used].sum())

    def _log_density(self, k: int, name: str, y: np.ndarray, eta: np.ndarray) -> np.ndarray:
        family, shape = FAMILIES.get(name, "normal"), self.state.shape[k]
        center, unit = self.arrays.center[k], self.arrays.unit[k]
        e = eta[:, 0]
        level = np.nan_to_num(y).astype(int)
        if family == "normal":
            return stats.norm.logpdf(y, center + unit * e, unit * shape)
        if family == "zero_inflated_poisson":
            return np.log(shape * (level == 0) + (1 - shape) * stats.poisson.pmf(level, np.exp(e)))
        if family == "zero_inflated_negative_binomial":
            zi, count = self.state.cuts[k, 0], stats.nbinom(shape, shape / (shape + np.exp(e)))
            return np.log(zi * (level == 0) + (1 - zi) * count.pmf(level))
        if family.startswith("hurdle"):
            poisson, mu = family == "hurdle_poisson", np.exp(e)
            hu = shape if poisson else self.state.cuts[k, 0]
            count = stats.poisson(mu) if poisson else stats.nbinom(shape, shape / (shape + mu))
            return np.where(level == 0, np.log(hu), np.log1p(-hu) + count.logpmf(level) - np.log(count.sf(0)))
        if family == "lognormal":
            return stats.lognorm.logpdf(y, shape**-0.5, scale=unit * np.exp(e))
        if family == "student":
            return stats.t.logpdf(y, self.state.cuts[k, 0], center + unit * e, unit * shape)
        if family == "yeo_johnson":
            return yeo_johnson.log_density((y - center) / unit, e, shape, self.state.cuts[k, 0])
        if family == "bernoulli":
            return stats.bernoulli.logpmf(level, expit(e))
        if family.startswith("binomial"):
            return stats.binom.logpmf(level, table()["size"], expit(e))
        if family == "poisson":
            return stats.poisson.logpmf(level, np.exp(e))
        if family == "negative_binomial":
            return stats.nbinom.logpmf(level, shape, shape / (shape + np.exp(e)))
        if family == "gamma":
            return stats.gamma.logpdf(y, shape, scale=unit * np.exp(e) / shape)
        if family == "inverse_gaussian":
            lam, mu = shape * unit, unit * np.exp(e)
            return stats.invgauss.logpdf(y, mu / lam, scale=lam)
        if family == "beta":
            return stats.beta.logpdf(y, shape * expit(e), shape * expit(-e))
        if family == "ordinal":
            above = expit(e[:, None] - self.state.cuts[k, :2])
            p = np.column_stack([1 - above[:, 0], above[:, 0] - above[:, 1], above[:, 1]])
        else:
            p = softmax(np.column_stack([np.zeros(N), eta]), axis=1)
        return np.log(p[np.arange(N), level])

    def log_law(self, grid: np.ndarray) -> np.ndarray:
        """(len(grid),) log density of the cell up to a constant."""
        values, out = self.completed(), np.empty(len(grid))
        where = G == G[self.case.row] if self.case.target in ("z", "zn") else np.arange(N) == self.case.row
        for a, v in enumerate(grid):
            moved = values | {self.case.target: np.where(where, v, values[self.case.target])}
            out[a] = self.log_joint(moved)
        return out

    # -- comparisons -------------------------------------------------------------------------------------------

    def p_of_levels(self, draws: np.ndarray, levels: int) -> float:
        """Chi-square of draws of whole numbers below `levels`, cells of little probability together."""
        p = softmax(self.log_law(np.arange(levels, dtype=float)))
        many = p * len(draws) >= 10
        assert (many.sum() >= 2 and p[-1] < 1e-3) or levels <= 6
        seen = np.bincount(draws.astype(int), minlength=levels)[:levels]
        if p[~many].sum() * len(draws) < 5:
            return float(stats.chisquare(seen[many], p[many] / p[many].sum() * seen[many].sum()).pvalue)
        together = lambda x: np.append(x[many], x[~many].sum())  # noqa: E731
        return float(stats.chisquare(together(seen), together(p) * len(draws)).pvalue)

    def p_of_numbers(self, draws: np.ndarray, tilt: Callable = lambda v: 0.0) -> float:
        """Kolmogorov-Smirnov of the draws against the law on a grid; tilt: added to its logarithm, to spoil it.

        Two hundred points are about a tenth of a standard deviation apart, with which the distribution function errs by
        at most 3e-4; draws reach 4e-2.
        """
        lo, hi = draws.min(), draws.max()
        positive = self.case.target in ("s", "i", "ln")
        edge = (lo / 4, hi * 4) if positive else (lo - (hi - lo) / 2, hi + (hi - lo) / 2)
        grid = np.geomspace(*edge, 200) if positive else np.linspace(*edge, 200)
        if self.case.target == "p":
            grid = expit(np.linspace(logit(lo) - 2, logit(hi) + 2, 200))
        log = self.log_law(grid) + tilt(grid)
        density = np.exp(log - log.max())
        steps = np.diff(grid) * (density[1:] + density[:-1]) / 2
        cdf = np.append(0.0, np.cumsum(steps)) / steps.sum()
        return float(stats.kstest(np.interp(draws, grid, cdf), "uniform").pvalue)

    # -- wrong variants ----------------------------------------------------------------------------------------

    def without_child(self, name: str) -> None:
        used = self.arrays.used.copy()
        used[:, self.names.index(name)] = False
        self.spoiled_arrays(used=used)

    def spoiled_arrays(self, **changes) -> None:
        """The kernel reads other arrays; the law still reads those of the table."""
        self.arrays = self.arrays._replace(**changes)
