"""Joint generalised linear mixed model of several variables, of which an analysis is a part (docs/mathematics.md).

    p(y_1 .. y_K, b, c)  =  prod_i N(b_i | 0, Psi)  prod_s prod_g N(c_sg | 0, Psi_s)  prod_k prod_ij p_k(y_kij | eta_kij)
                            factor k = 1..K, row j of cluster i

    eta_kij = x_kij' beta_k + z_kij' b_ki + sum_s w_skij' c_skg,     g = g_s(i, j), the group of the row in factor s
              x, z, w: columns made of complete variables and of y_1 .. y_k-1
    p_k as in models/conditional_glmm.py;       normal: y ~ N(eta, sigma2_k);    student: y ~ t_nu(eta, sigma_k)
                                                as nodes: `Family.log_density` in families/
    b_i = (b_1i .. b_Ki) = L u_i,  L L' = Psi,  u_i ~ N(0, I)
    c_sg = (c_s1g .. c_sKg) ~ N(0, Psi_s)   effects of the groups g of further grouping factors s, nested or crossed

    beta_k ~ flat or normal;    sigma2_k, Psi ~ prior;    shapes and cutpoints: families/auxiliary.py

Missing cells are treated as follows, except those of variables that are in no other factor, which integrate to 1:

    numbers             free: y = eta + sigma e, log y = eta + e if positive, logit y = eta + e for proportions;
                        e flat, with the Jacobian; y = limit -+ sigma exp(e) if only a limit is known
    levels, successes   summed out: prod_i sum_g prod_j sum_h prod_k p_k, over the values g of the missing variables of
                        cluster i and h of the missing cells of row j (models/levels.py)

The cells of a cluster move with its effects, and e is about N(0, 1) if later factors say little about y. If eta itself
depends on a missing level, the definition of e uses the first level, which changes e but not the model.

Everything is on the working scale of `bayesimp.joint.glmm.scale`, on which variables and columns have a standard
deviation of 1; beta_<y>, sigma2_<y>, Psi and B are functions of it, in the units of the data.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pymc as pm
import pytensor.tensor as pt
from numpy.typing import NDArray
from pytensor.tensor.variable import TensorVariable

from bayesimp import notation as dim
from bayesimp.errors import SpecificationError
from bayesimp.families.record import GivenParameters
from bayesimp.models.columns import Column
from bayesimp.models.completed import Completed
from bayesimp.models.improper import Improper
from bayesimp.models.joint_data import EffectBlock, GLMMFactor, JointData
from bayesimp.models.levels import ExpandedRows, Levels, expand
from bayesimp.models.ops import effects

__all__ = ["JointModel", "joint_glmm"]

Array = NDArray[np.float64]
Ints = NDArray[np.int64]


class JointModel(NamedTuple):
    """The model, and what is needed to draw the levels.

    Attributes
    ----------
    model
        The model; its free variables are continuous.
    places
        The places over which levels are summed.
    weights
        (places.row.size - places.single,) sum_k log p_k at each place in a sum; None if there are no sums.
    cells
        Factor -> rows (c,) of its missing numbers, whose values are the variable ``imputed_<y>``.
    """

    model: pm.Model
    places: ExpandedRows
    weights: TensorVariable | None
    cells: Mapping[int, Ints]


def joint_glmm(data: JointData) -> JointModel:
    """The model above.

    Raises
    ------
    SpecificationError
        If a missing cell can neither be free nor summed out, or there are too many combinations of levels.
    """
    levels = _missing_levels(data)
    places = expand(data.V, data.Y, data.cluster, levels, [f.name for f in data.factors])
    with pm.Model(coords=_coords(data)) as model:
        B = [_effects(block, data.dims[block.level]) for block in data.blocks]
        table = Completed(data, places, B)
        parts = [_add(table, k, factor, _parameters(factor)) for k, factor in enumerate(data.factors)]
        weights = _weights(parts, len(places.row) - places.single)
        if weights is not None:
            pm.Potential("missing levels", _log_sum(weights, places))
    return JointModel(model, places, weights, table.cells)


def _coords(data: JointData) -> dict[str, Sequence]:
    out: dict[str, Sequence] = {dim.CLUSTER: list(data.labels)}
    out |= {groups.dim: list(groups.labels) for groups in data.further}
    for block in data.blocks:
        name = f"{dim.EFFECT}{block.end}"
        out |= {name: list(block.labels), f"{name}_2": list(block.labels)}
    for f in data.factors:
        out |= {f"fixed_{f.name}": list(f.fixed)}
        if f.predictors > 1 or f.distribution.predictor_per_level:
            out[f"level_{f.name}"] = list(f.levels[1:])
        if f.variance is not None:
            out |= {f"response_{f.name}": [f.name], f"response_{f.name}_2": [f.name]}
    return out


class _Parameters(NamedTuple):
    """beta_w (p, r); the residual sd, scale or shape; a second parameter. Cutpoints belong to the density of levels."""

    beta: TensorVariable
    scale: TensorVariable | None
    second: TensorVariable | None = None


def _parameters(f: GLMMFactor) -> _Parameters:
    """beta_k, sigma2_k and shape of one factor."""
    p, r = len(f.fixed), f.predictors
    name, precision = f"working_beta_{f.name}", f.beta_precision
    if not precision.any():
        beta = Improper(name, shape=(p, r))
    elif np.array_equal(precision, np.diag(np.diagonal(precision))):
        sd = np.diagonal(precision) ** -0.5
        beta = pm.Normal(name, f.beta_mean.reshape(r, p).T, sd.reshape(r, p).T, shape=(p, r))
    else:
        root = np.linalg.cholesky(np.linalg.inv(precision))
        z = pm.Normal(name, 0.0, 1.0, shape=(r * p,))
        beta = (f.beta_mean + (root * z).sum(axis=1)).reshape((r, p)).T
    per_level = f.distribution.predictor_per_level
    made = pt.dot(f.T, beta) * f.s
    if f.intercept >= 0:
        made = made + f.c * (np.arange(p) == f.intercept)[:, None]
    dims = (f"fixed_{f.name}", f"level_{f.name}")
    pm.Deterministic(
        f"beta_{f.name}", made if per_level else made[:, 0], dims=dims if per_level else dims[:1]
    )
    if f.variance is not None:
        dims = (f"response_{f.name}", f"response_{f.name}_2")
        variance = f.variance.distribution(f"working_sigma2_{f.name}", 1, dims)[0, 0]
        pm.Deterministic(f"sigma2_{f.name}", variance * f.s[0] ** 2)
        return _Parameters(beta, pt.sqrt(variance))
    nodes = [
        auxiliary.node(f.name, f.unit if auxiliary.has_unit else 1.0)
        for auxiliary in f.distribution.auxiliaries
        if auxiliary.node is not None
    ]
    return _Parameters(beta, *(nodes or [None]))


def _effects(block: EffectBlock, of: str) -> TensorVariable | None:
    """b_w (m, d), or c_w of a further grouping factor; of: the dimension of its groups."""
    d, end = len(block.labels), block.end
    if not d:
        return None
    dims = (f"{dim.EFFECT}{end}", f"{dim.EFFECT}{end}_2")
    Psi = block.prior.distribution(f"working_Psi{end}", d, dims)
    pm.Deterministic(f"Psi{end}", pt.dot(pt.dot(block.E, Psi), block.E.T), dims=dims)
    u = pm.Normal(f"u{end}", 0, 1, dims=(of, dims[0]))
    b = pm.Deterministic(f"working_B{end}", effects(u, Psi), dims=(of, dims[0]))
    pm.Deterministic(f"B{end}", pt.dot(b, block.E.T), dims=(of, dims[0]))
    return b


def _add(table: Completed, k: int, f: GLMMFactor, parameters: _Parameters) -> tuple[Ints, TensorVariable]:
    """Make the missing numbers of factor k free, and add its density at places that are in no sum.

    Returns the places that are in a sum, counted from the first of them, and log p_k there.
    """
    places, y, rows = table.places, table.data.Y[:, k], np.flatnonzero(f.used)
    if not f.is_summed and np.isnan(y[rows]).any():
        _free_numbers(table, k, f, parameters, rows[np.isnan(y[rows])])
    at = np.flatnonzero(f.used[places.row])
    eta = table.predictors(f, parameters.beta, at)
    log_p = _log_density(f, table.responses(k, at), eta, f.trials[places.row[at]], parameters)
    single = int((at < places.single).sum())
    pm.Potential(f"p({f.name})", log_p[:single].sum())
    return at[single:] - places.single, log_p[single:]


def _free_numbers(table: Completed, k: int, f: GLMMFactor, parameters: _Parameters, rows: Ints) -> None:
    """Define the missing numbers of factor k by y = eta + sigma e, log y = eta + e or logit y = eta + e.

    If only a limit is known, y = upper limit - sigma exp(e), or lower limit + sigma exp(e).
    """
    eta = table.predictors(f, parameters.beta, table.places.reference[rows])[0]
    e, sigma = Improper(f"e_{f.name}", shape=(len(rows),)), parameters.scale
    if f.distribution.is_standardised and sigma is not None:
        y, jacobian = eta + sigma * e, len(rows) * pt.log(sigma)
        limited = np.isfinite(f.lower[rows]) | np.isfinite(f.upper[rows])
        if limited.any():
            side = np.where(np.isfinite(f.upper[rows]), -1.0, 1.0)
            limit = np.where(side < 0, f.upper[rows], np.where(limited, f.lower[rows], 0.0))
            y = pt.switch(limited, limit + side * sigma * pt.exp(e), y)
            jacobian = jacobian + (e * limited).sum()
    elif f.distribution.support.is_below_one:
        y, jacobian = pt.sigmoid(eta + e), -(pt.softplus(eta + e) + pt.softplus(-eta - e)).sum()
    else:
        y, jacobian = pt.exp(eta + e), (eta + e).sum()
    pm.Potential(f"Jacobian({f.name})", jacobian)
    table.fill(k, f, rows, y, pm.Deterministic(f"imputed_{f.name}", f.center + f.unit * y))


def _weights(parts: Sequence[tuple[Ints, TensorVariable]], count: int) -> TensorVariable | None:
    """sum_k log p_k at the places that are in a sum."""
    if not count:
        return None
    total = pt.zeros(count)
    for at, log_p in parts:
        total = total + (log_p if len(at) == count else pt.inc_subtensor(pt.zeros(count)[at], log_p))
    return total


def _log_density(
    f: GLMMFactor, y: Column, eta: list, trials: Array, parameters: _Parameters
) -> TensorVariable:
    """log p_k(y | eta) at each place, the log density of the family."""
    log_density = f.distribution.log_density
    if log_density is None:
        raise SpecificationError(
            f"'{f.name}': the PyMC model has no density for family '{f.family}'. Use sampler='gibbs'."
        )
    given = GivenParameters(f.name, f.link, trials, len(f.levels), parameters.scale, parameters.second)
    return log_density(y, eta, given)


def _log_sum(weights: TensorVariable, places: ExpandedRows) -> TensorVariable:
    """sum_i log sum_g prod_j sum_h exp(weights)."""
    by_row = _log_sum_rows(weights, places.sums - places.single)
    if not len(places.groups):
        return by_row.sum()
    by_group = pt.inc_subtensor(pt.zeros(len(places.cluster))[places.sum_group], by_row)
    alone = np.setdiff1d(np.unique(places.sum_group), places.groups)
    return by_group[alone].sum() + _log_sum_rows(by_group, places.groups).sum()


def _log_sum_rows(x: TensorVariable, index: Ints) -> TensorVariable:
    """log sum_h exp x[index[:, h]] by row; negative indices are ignored."""
    return pt.logsumexp(x[np.maximum(index, 0)] + np.where(index < 0, -np.inf, 0.0), axis=1)


def _missing_levels(data: JointData) -> list[Levels]:
    """What is summed out; refuses missing cells that can neither be free nor summed out."""
    averaged = {
        int(argument)
        for code, argument in zip(data.means.code, data.means.argument, strict=True)
        if code == 0
    }
    out = []
    for k, f in enumerate(data.factors):
        rows = np.flatnonzero(f.used & np.isnan(data.Y[:, k]))
        if not len(rows):
            continue
        if not f.is_summed:
            if f.distribution.is_count:
                raise SpecificationError(
                    f"'{f.name}' is a count and a covariate with {len(rows):,} missing cells: NUTS cannot sum over "
                    "infinitely many numbers. Use sampler='gibbs'."
                )
            continue
        if f.variable in averaged and not f.at_cluster:
            raise SpecificationError(
                f"'{f.name}' has {len(rows):,} missing levels, and its mean over the cluster is a column: "
                "NUTS cannot sum over all cells of a cluster at a time. Use sampler='gibbs'."
            )
        values = [f.values if len(f.values) else np.arange(f.trials[row] + 1.0) for row in rows]
        out.append(Levels(k, f.variable, rows, values, f.at_cluster))
    return out
