"""Joint generalised linear mixed model of several variables, of which an analysis is a part (docs/mathematics.md).

    p(y_1 .. y_K, b)  =  prod_i N(b_i | 0, Psi)  prod_k prod_j p_k(y_kij | eta_kij),       factor k = 1..K, row j of cluster i

    eta_kij = x_kij' beta_k + z_kij' b_ki,      x, z columns made of complete variables and of y_1 .. y_k-1
    p_k as in models/conditional_glmm.py;       normal: y ~ N(eta, sigma2_k)
    b_i = (b_1i .. b_Ki) = L u_i,  L L' = Psi,  u_i ~ N(0, I)

    beta_k ~ flat or normal;    sigma2_k, Psi ~ prior;    shapes and cutpoints: families/auxiliary.py

Missing cells, besides those of variables that are in no other factor, which integrate to 1:

    numbers             free: y = eta + sigma e, or log y = eta + e for positive ones, with e flat and the Jacobian
    levels, successes   summed out: prod_i sum_g prod_j sum_h prod_k p_k, over the values g of the missing variables of
                        cluster i and h of the missing cells of row j (models/levels.py)

e moves all cells of a cluster along with its effects, and the cells that e says little about are about normal in it; where
a level that eta depends on is missing itself, its first value stands for it, which changes e but not the model.

Everything is on the working scale of `bayesimp.joint.glmm.scale`, in which variables and columns have standard deviation 1;
beta_<y>, sigma2_<y>, Psi, B in the units of the data are functions of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pymc as pm
import pytensor.tensor as pt
from numpy.typing import NDArray
from pytensor.graph.basic import Variable

from bayesimp import notation as dim
from bayesimp.errors import SpecificationError
from bayesimp.families.auxiliary import CUTPOINTS, SHAPE, shape_node
from bayesimp.families.binary import logit_of_mean
from bayesimp.families.levels import log_cumulative
from bayesimp.families.registry import family_of
from bayesimp.kernels.factors.columns import Programs
from bayesimp.models.columns import Column, column
from bayesimp.models.levels import Levels, Places, expand
from bayesimp.models.ops import effects
from bayesimp.priors.base import CovariancePrior

__all__ = ["EffectBlock", "GLMMFactor", "JointData", "JointModel", "joint_glmm"]

Array = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class GLMMFactor:
    """One factor: p_k(y_k | y_1 .. y_k-1, b_k).

    Attributes
    ----------
    name
        Of the response, as the names of parameters end.
    family, link, levels
        Of the response; levels: labels of its values, or empty.
    fixed, random
        Names of the columns of x and z; their programs are ``first``, ``first + 1``, ..
    first
        Number of its first column.
    T, s, c
        (p, p), (r,), (r,): beta = T beta_w diag(s), + c in the row `intercept` (-1: none).
    R
        (q, q): effects of the columns z are R b_w.
    beta_mean, beta_precision
        (r p,), (r p, r p) of vec(beta_w); precision 0: flat.
    variance
        Prior of the residual variance on the working scale, of normal responses.
    block, at
        The block of its effects, and where they begin in it.
    variable
        Its number among the variables.
    center, unit
        y = (v - center) / unit for a variable v of numbers.
    values
        Numbers that formulas compute with, level by level.
    used
        (n,) whether a row counts in the factor.
    trials, offset
        (n,) trials of binomials, else 1; known part of the linear predictor.
    at_cluster
        Whether the response has one value in a cluster; then the first row of each cluster counts.
    """

    name: str
    family: str
    link: str
    levels: tuple[str, ...]
    fixed: tuple[str, ...]
    random: tuple[str, ...]
    first: int
    T: Array
    s: Array
    c: Array
    intercept: int
    R: Array
    beta_mean: Array
    beta_precision: Array
    variance: CovariancePrior | None
    block: int
    at: int
    variable: int
    center: float
    unit: float
    values: Array
    used: NDArray[np.bool_]
    trials: Array
    offset: Array
    at_cluster: bool

    @property
    def predictors(self) -> int:
        """r."""
        return family_of(self.family).predictors(len(self.levels))

    @property
    def is_summed(self) -> bool:
        """Whether missing cells are summed out: of levels, and of successes out of trials."""
        return family_of(self.family).is_coded or family_of(self.family).takes_trials


@dataclass(frozen=True)
class EffectBlock:
    """Effects with one covariance matrix.

    Attributes
    ----------
    end
        How the names of its variables end; empty where there is one block.
    labels
        (d,) names of the effects.
    prior
        Of Psi_w, resolved.
    E
        (d, d): Psi = E Psi_w E', b = E b_w.
    """

    end: str
    labels: tuple[str, ...]
    prior: CovariancePrior
    E: Array


@dataclass(frozen=True)
class JointData:
    """All that the model needs.

    Attributes
    ----------
    factors, blocks
        In order.
    V, Y
        (n, v), (n, K) variables and responses, rows sorted by cluster, NaN where missing.
    cluster
        (n,) from 0.
    programs, means, divisor
        Columns, and means over clusters: their programs, and the numbers (m, e) by which sums over a cluster are divided.
    labels
        (m,) of the clusters.
    row
        (n,) place of each row in the table, a label.
    """

    factors: Sequence[GLMMFactor]
    blocks: Sequence[EffectBlock]
    V: Array
    Y: Array
    cluster: Ints
    programs: Programs
    means: Programs
    divisor: Array
    labels: Sequence
    row: Ints


class JointModel(NamedTuple):
    """The model, and what draws of the levels need.

    Attributes
    ----------
    model
        Free variables are continuous.
    places
        Over which levels are summed.
    weights
        (places.row.size - places.single,) sum_k log p_k at each place that is summed over; None: nothing is.
    cells
        Factor -> rows (c,) of its missing numbers, which are the variable ``imputed_<y>``.
    """

    model: pm.Model
    places: Places
    weights: Variable | None
    cells: Mapping[int, Ints]


def joint_glmm(data: JointData) -> JointModel:
    """The model above.

    Raises
    ------
    SpecificationError
        A missing cell that can neither be free nor summed out, or too many combinations of levels.
    """
    levels = _missing_levels(data)
    places = expand(data.V, data.Y, data.cluster, levels, [f.name for f in data.factors])
    with pm.Model(coords=_coords(data)) as model:
        B = [_effects(block, len(data.labels)) for block in data.blocks]
        state = _State(data, places, B)
        for k, factor in enumerate(data.factors):
            state.add(k, factor, _parameters(factor))
        weights = state.summed()
        if weights is not None:
            pm.Potential("missing levels", _log_sum(weights, places))
    return JointModel(model, places, weights, state.cells)


def _coords(data: JointData) -> dict[str, Sequence]:
    out: dict[str, Sequence] = {dim.CLUSTER: list(data.labels)}
    for block in data.blocks:
        name = f"{dim.EFFECT}{block.end}"
        out |= {name: list(block.labels), f"{name}_2": list(block.labels)}
    for f in data.factors:
        out |= {f"fixed_{f.name}": list(f.fixed)}
        if f.predictors > 1 or family_of(f.family).predictor_per_level:
            out[f"level_{f.name}"] = list(f.levels[1:])
        if f.variance is not None:
            out |= {f"response_{f.name}": [f.name], f"response_{f.name}_2": [f.name]}
    return out


class _Parameters(NamedTuple):
    """beta_w (p, r); the residual sd, shape or None; levels of ordinal variables add their own."""

    beta: Variable
    scale: Variable | None


def _parameters(f: GLMMFactor) -> _Parameters:
    """beta_k, sigma2_k and shape of one factor."""
    p, r = len(f.fixed), f.predictors
    name, precision = f"working_beta_{f.name}", f.beta_precision
    if not precision.any():
        beta = pm.Flat(name, shape=(p, r))
    elif np.array_equal(precision, np.diag(np.diagonal(precision))):
        sd = np.diagonal(precision) ** -0.5
        beta = pm.Normal(name, f.beta_mean.reshape(r, p).T, sd.reshape(r, p).T, shape=(p, r))
    else:
        root = np.linalg.cholesky(np.linalg.inv(precision))
        z = pm.Normal(name, 0.0, 1.0, shape=(r * p,))
        beta = (f.beta_mean + (root * z).sum(axis=1)).reshape((r, p)).T
    per_level = family_of(f.family).predictor_per_level
    made = pt.dot(f.T, beta) * f.s
    if f.intercept >= 0:
        made = made + f.c * (np.arange(p) == f.intercept)[:, None]
    dims = (f"fixed_{f.name}", f"level_{f.name}")
    pm.Deterministic(f"beta_{f.name}", made if per_level else made[:, 0], dims=dims if per_level else dims[:1])
    if f.variance is not None:
        dims = (f"response_{f.name}", f"response_{f.name}_2")
        variance = f.variance.distribution(f"working_sigma2_{f.name}", 1, dims)[0, 0]
        pm.Deterministic(f"sigma2_{f.name}", variance * f.s[0] ** 2)
        return _Parameters(beta, pt.sqrt(variance))
    if family_of(f.family).auxiliary is not None and family_of(f.family).auxiliary.name == SHAPE.name:
        unit = f.unit if family_of(f.family).auxiliary.has_unit else 1.0
        return _Parameters(beta, shape_node(f.name, unit))
    return _Parameters(beta, None)


def _effects(block: EffectBlock, m: int) -> Variable | None:
    """b_w (m, d)."""
    d, end = len(block.labels), block.end
    if not d:
        return None
    dims = (f"{dim.EFFECT}{end}", f"{dim.EFFECT}{end}_2")
    Psi = block.prior.distribution(f"working_Psi{end}", d, dims)
    pm.Deterministic(f"Psi{end}", pt.dot(pt.dot(block.E, Psi), block.E.T), dims=dims)
    u = pm.Normal(f"u{end}", 0, 1, dims=(dim.CLUSTER, dims[0]))
    b = pm.Deterministic(f"working_B{end}", effects(u, Psi), dims=(dim.CLUSTER, dims[0]))
    pm.Deterministic(f"B{end}", pt.dot(b, block.E.T), dims=(dim.CLUSTER, dims[0]))
    return b


class _State:
    """Variables completed so far, factor by factor."""

    def __init__(self, data: JointData, places: Places, B: list) -> None:
        self.data, self.places, self.B = data, places, B
        self.free: dict[int, tuple[Ints, Variable]] = {}  # variable -> (n,) number of its cell or -1, its values
        self.response: dict[int, Variable] = {}  # factor -> its missing cells, as its model sees them
        self.cells: dict[int, Ints] = {}
        self.means: dict[int, Column] = {}
        self.parts: list[tuple[Ints, Variable]] = []

    def add(self, k: int, f: GLMMFactor, parameters: _Parameters) -> None:
        """Factor k: its missing numbers become free, and its density is added to the model."""
        y, rows = self.data.Y[:, k], np.flatnonzero(f.used)
        if not f.is_summed and np.isnan(y[rows]).any():
            self._complete(k, f, parameters, rows[np.isnan(y[rows])])
        at = np.flatnonzero(f.used[self.places.row])
        eta = self._predictors(f, parameters, at)
        log_p = _log_density(f, self._responses(k, at), eta, f.trials[self.places.row[at]], parameters)
        single = int((at < self.places.single).sum())
        pm.Potential(f"p({f.name})", log_p[:single].sum() if single < len(at) else log_p.sum())
        if single < len(at):
            self.parts.append((at[single:] - self.places.single, log_p[single:]))

    def summed(self) -> Variable | None:
        """sum_k log p_k at the places that are summed over."""
        count = len(self.places.row) - self.places.single
        total = None
        for at, log_p in self.parts:
            own = log_p if len(at) == count else pt.inc_subtensor(pt.zeros(count)[at], log_p)
            total = own if total is None else total + own
        return total

    def _complete(self, k: int, f: GLMMFactor, parameters: _Parameters, rows: Ints) -> None:
        """Missing numbers as free variables: y = eta + sigma e, or log y = eta + e."""
        eta = self._predictors(f, parameters, self.places.reference[rows])[0]
        e = pm.Flat(f"e_{f.name}", shape=(len(rows),))
        if f.variance is not None:
            y, jacobian = eta + parameters.scale * e, len(rows) * pt.log(parameters.scale)
        else:
            y, jacobian = pt.exp(eta + e), (eta + e).sum()
        pm.Potential(f"Jacobian({f.name})", jacobian)
        v = pm.Deterministic(f"imputed_{f.name}", f.center + f.unit * y)
        cell = np.full(len(f.used), -1)
        cell[rows] = np.arange(len(rows))
        if f.at_cluster:
            of_cluster = np.full(len(self.data.labels), -1)
            of_cluster[self.data.cluster[rows]] = np.arange(len(rows))
            missing = np.isnan(self.data.Y[:, k])
            cell[missing] = of_cluster[self.data.cluster[missing]]
        self.free[f.variable] = cell, v
        self.response[k], self.cells[k] = y, rows

    def _responses(self, k: int, at: Ints) -> Column:
        y = self.places.Y[at, k]
        return self._filled(y, self.free[self.data.factors[k].variable][0][self.places.row[at]],
                            self.response[k]) if k in self.response else y  # fmt: skip

    def _variable(self, v: int, at: Ints) -> Column:
        known = self.places.V[at, v]
        if v not in self.free:
            return known
        cell, values = self.free[v]
        return self._filled(known, cell[self.places.row[at]], values)

    @staticmethod
    def _filled(known: Array, cell: Ints, values: Variable) -> Column:
        """Known numbers, with values[cell] where cell is not -1."""
        if (cell < 0).all():
            return known
        if (cell >= 0).all():
            return values[cell]
        index = np.where(cell < 0, np.arange(len(known)), len(known) + cell)
        return pt.concatenate([np.where(cell < 0, known, 0.0), values])[index]

    def _mean(self, e: int, at: Ints) -> Column:
        """Mean e over the clusters of some places."""
        if e not in self.means:
            base, G = self.places.base, len(self.places.cluster)
            inner = column(self.data.means, e, lambda v: self._variable(v, base), lambda _: np.nan)
            divisor, group = self.data.divisor[self.places.cluster, e], self.places.group[base]
            if isinstance(inner, Variable):
                self.means[e] = pt.inc_subtensor(pt.zeros(G)[group], inner) / divisor
            else:
                self.means[e] = np.bincount(group, np.broadcast_to(inner, group.shape), G) / divisor
        return self.means[e][self.places.group[at]]

    def _predictors(self, f: GLMMFactor, parameters: _Parameters, at: Ints) -> list[Variable]:
        """r linear predictors (places,)."""
        p, q, programs = len(f.fixed), len(f.random), self.data.programs
        columns = [
            column(programs, f.first + t, lambda v: self._variable(v, at), lambda e: self._mean(e, at))
            for t in range(p + q)
        ]
        known = [not isinstance(x, Variable) for x in columns]
        X = np.column_stack(
            [np.broadcast_to(x if k else 0.0, at.shape) for x, k in zip(columns[:p], known[:p], strict=True)]
        )
        coefficients = pt.dot(f.T, parameters.beta)
        cluster = self.data.cluster[self.places.row[at]]
        own = self.B[f.block][:, f.at : f.at + q * f.predictors][cluster] if q else None
        out = []
        for c in range(f.predictors):
            eta = pt.dot(X @ f.T, parameters.beta[:, c]) + f.offset[self.places.row[at]]
            for t in range(p):
                if not known[t]:
                    eta = eta + columns[t] * coefficients[t, c]
            for l in range(q):
                z = sum(columns[p + t] * f.R[t, l] for t in range(q) if f.R[t, l])
                eta = eta + z * own[:, c * q + l]
            out.append(eta)
        return out


def _log_density(f: GLMMFactor, y: Column, eta: list, trials: Array, parameters: _Parameters) -> Variable:
    """log p(y | eta) of each place."""
    k, one = parameters.scale, eta[0]
    match family_of(f.family).name:
        case "normal":
            return -0.5 * ((y - one) / k) ** 2 - pt.log(k) - 0.5 * np.log(2 * np.pi)
        case "bernoulli" | "binomial":
            logit = logit_of_mean(one, f.link)
            ways = pt.gammaln(trials + 1) - pt.gammaln(y + 1) - pt.gammaln(trials - y + 1)
            return y * logit - trials * pt.softplus(logit) + (ways if (trials != 1).any() else 0.0)
        case "poisson":
            return y * one - pt.exp(one) - pt.gammaln(y + 1)
        case "negative_binomial":
            total = pt.logaddexp(pt.log(k), one)
            ways = pt.gammaln(y + k) - pt.gammaln(k) - pt.gammaln(y + 1)
            return ways + k * (pt.log(k) - total) + y * (one - total)
        case "gamma":
            return k * pt.log(k) - pt.gammaln(k) + (k - 1) * pt.log(y) - k * (one + y * pt.exp(-one))
        case "inverse_gaussian":
            return 0.5 * (pt.log(k / (2 * np.pi)) - 3 * pt.log(y) - k * (y * pt.exp(-one) - 1) ** 2 / y)
        case "ordinal":
            return log_cumulative(one, len(f.levels), f.name)[np.arange(len(y)), y.astype(int)]
        case "categorical":
            log_p = pt.stack([pt.zeros_like(one), *eta], axis=1)
            return log_p[np.arange(len(y)), y.astype(int)] - pt.logsumexp(log_p, axis=1)
    raise SpecificationError(
        f"'{f.name}': the PyMC model has no density for family '{f.family}'. Use sampler='gibbs'."
    )


def _log_sum(weights: Variable, places: Places) -> Variable:
    """sum_i log sum_g prod_j sum_h exp(weights)."""
    by_row = _log_sum_rows(weights, places.sums - places.single)
    if not len(places.groups):
        return by_row.sum()
    by_group = pt.inc_subtensor(pt.zeros(len(places.cluster))[places.sum_group], by_row)
    alone = np.setdiff1d(np.unique(places.sum_group), places.groups)
    return by_group[alone].sum() + _log_sum_rows(by_group, places.groups).sum()


def _log_sum_rows(x: Variable, index: Ints) -> Variable:
    """log sum_h exp x[index[:, h]] by row; a negative index counts for nothing."""
    return pt.logsumexp(x[np.maximum(index, 0)] + np.where(index < 0, -np.inf, 0.0), axis=1)


def _missing_levels(data: JointData) -> list[Levels]:
    """What is summed out; missing cells that can neither be free nor summed out are refused."""
    averaged = {
        int(argument) for code, argument in zip(data.means.code, data.means.argument, strict=True) if code == 0
    }
    out = []
    for k, f in enumerate(data.factors):
        rows = np.flatnonzero(f.used & np.isnan(data.Y[:, k]))
        if not len(rows):
            continue
        if not f.is_summed:
            if family_of(f.family).is_count:
                raise SpecificationError(
                    f"'{f.name}' is a count and a covariate with {len(rows):,} missing cells: NUTS cannot sum over "
                    "numbers without an end. Use sampler='gibbs'."
                )
            continue
        if f.variable in averaged and not f.at_cluster:
            raise SpecificationError(
                f"'{f.name}' has {len(rows):,} missing cells of levels, and a mean of it over the cluster is a column: "
                "NUTS cannot sum over all cells of a cluster at a time. Use sampler='gibbs'."
            )
        values = [f.values if len(f.values) else np.arange(f.trials[row] + 1.0) for row in rows]
        out.append(Levels(k, f.variable, rows, values, f.at_cluster))
    return out
