"""Joint multilevel normal model on latent normals (Schafer & Yucel 2002 with probit parts; docs/mathematics.md).

    Y*_i = X_i beta + Z_i B_i + E_i,      rows of E_i ~ N(0, Sigma),      vec(B_i) = L u_i,  L L' = Psi,  u_i ~ N(0, I)

    normal      y = y*
    binary      y = 1(y* > 0)                                                     ordinal with K = 2
    ordinal     y = l  where  c_l-1 < y* <= c_l,   c_-1 = -inf,  c_0 = 0,  c_l = c_l-1 + increment_l,  c_K-1 = inf
    nominal     y = the largest of 0, y*_1 .. y*_K-1                              0: the first level

    beta ~ flat or normal;   Psi ~ prior;   increment_l ~ exponential(1)
    Sigma ~ prior given its fixed entries: 1 on the diagonal of latent variables, 1/2 between utilities of one variable

With several grouping factors s = 1..S, nested or crossed (school, class), a row has effects of its group in each,

    Y* = X beta + sum_s Z_s B_s + E,      vec(B_sg) = L_s u_sg,  L_s L_s' = Psi_s,  u_sg ~ N(0, I) for every group g,
    Psi_s ~ prior

and the sampler (kernels/latent/levels.py) also takes variables v of groups, v_sg = G_sg gamma_s + e_sg with
(vec(B_sg), e_sg) ~ N(0, Psi_s), cut into levels like those of rows.

Missing values are integrated out: a row has the density of its observed values. Its numbers are normal. So are its latent
values given the numbers; the utilities of a nominal variable at level l become contrasts d = A y* with the l-th utility,

    y = l > 0:  y*_l > 0,  y*_l - y*_k > 0;        y = 0:  -y*_k > 0

and the levels have the probability of a box, computed one component at a time (Geweke, Hajivassiliou & Keane),
t = m + C z:

    p(levels | v_1 .. v_w-1) = prod_k [Phi(b_k) - Phi(a_k)],     z_k = Phi^-1(Phi(a_k) + v_k (Phi(b_k) - Phi(a_k)))

where a_k, b_k are the bounds of component k given those before it, in its units, and v_k ~ uniform(0, 1) is free. The
integral over v is exactly the probability; the last component of a row needs no v, so a row with one latent value has
none.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pymc as pm
import pytensor.tensor as pt
from numpy.typing import NDArray
from pytensor.tensor.variable import TensorVariable

from bayesimp.models.covariance import covariance
from bayesimp.models.improper import Improper
from bayesimp.models.joint_normal import FurtherFactor
from bayesimp.models.ops import effects
from bayesimp.priors import CovariancePrior

__all__ = ["LatentData", "joint_latent", "restricted_covariance"]

Array = NDArray[np.float64]
DIMS = "latent", "latent_2"


@dataclass(frozen=True)
class LatentData:
    """The input of the model, in the units of the data.

    Attributes
    ----------
    X, Z, cluster
        (N, p), (N, q), (N,).
    Y
        (N, r) numbers; NaN if missing, and in latent columns.
    level
        (N, r) observed level of a column's variable; -1 if missing or a number.
    ordered, nominal
        First columns of binary and ordinal variables, with the number of levels; columns of each nominal variable.
    names
        Name of each ordered variable with more than two levels, by its column.
    Q, t, working
        Precision of vec(beta_w), precision times mean, and (T^-1 (p, p), s (r,), offset (p, r)) of the working scale:
        beta_w = T^-1 beta / s - offset.
    Sigma, entries, Psi
        Resolved priors, and the fixed entries of Sigma (nan for free entries).
    label, further
        With several grouping factors, the label of the first, whose prior is Psi, and the others.
    """

    X: Array
    Z: Array
    cluster: NDArray[np.int64]
    Y: Array
    level: NDArray[np.int64]
    ordered: Mapping[int, int]
    nominal: Sequence[slice]
    names: Mapping[int, str]
    Q: Array
    t: Array
    working: tuple[Array, Array, Array]
    Sigma: CovariancePrior
    entries: Array
    Psi: CovariancePrior
    label: str = ""
    further: Sequence[FurtherFactor] = ()

    @property
    def first(self) -> FurtherFactor:
        """The first grouping factor as a record like those of the others."""
        groups, d = int(self.cluster.max()) + 1, self.Y.shape[1] * self.Z.shape[1]
        return FurtherFactor(self.label, self.Z, self.cluster, groups, self.Psi, ("",) * d)


def joint_latent(data: LatentData, coords: dict) -> pm.Model:
    """The model above."""
    with pm.Model(coords=coords) as model:
        beta = Improper("beta", dims=("fixed", "latent"))
        T_inverse, s, offset = data.working
        vec = (pt.dot(T_inverse, beta) / s - offset).T.flatten()
        pm.Potential("beta_prior", pt.dot(data.t, vec) - 0.5 * pt.dot(vec, pt.dot(data.Q, vec)))
        Sigma = restricted_covariance("Sigma", data.Sigma, data.entries, DIMS)
        contributions = [_contribution(factor) for factor in (data.first, *data.further)]
        cutpoints = {k: _cutpoints(data.names.get(k), levels) for k, levels in data.ordered.items()}
        mu = sum(contributions, pt.dot(data.X, beta))
        for number, rows in enumerate(_groups(data)):
            pm.Potential(f"rows_{number}", _log_density(data, rows, mu, Sigma, cutpoints, number))
    return model


def _contribution(factor: FurtherFactor) -> TensorVariable:
    """(N, r) what the effects of a factor, variables of the open model, add to the mean of every row: Z_s B_s."""
    end, d, q = f"_{factor.label}" if factor.label else "", len(factor.effects), factor.Z.shape[1]
    Psi = covariance(f"Psi{end}", factor.prior, d, (f"effect{end}", f"effect{end}_2"))
    u = pm.Normal(f"u{end}", shape=(factor.groups, d))
    B = effects(u, Psi).reshape((factor.groups, d // q, q))
    return (B[factor.codes] * factor.Z[:, None, :]).sum(axis=2)


def _cutpoints(name: str | None, levels: int) -> TensorVariable:
    if name is None:
        return pt.zeros(1)
    increments = pm.Exponential(f"increments_{name}", 1, shape=levels - 2)
    return pm.Deterministic(f"cutpoints_{name}", pt.concatenate([pt.zeros(1), pt.cumsum(increments)]))


# --- Sigma --------------------------------------------------------------------------------------------------


def restricted_covariance(
    name: str, prior: CovariancePrior, entries: Array, dims: tuple[str, str]
) -> TensorVariable:
    """Sigma (r, r) from its free standard deviations and correlations, to which `prior` gives the density.

    entries (r, r): fixed entries; nan for free entries.
    """
    r = len(entries)
    if np.isnan(entries).all() or prior.is_known:
        return covariance(name, prior, r, dims)
    free = np.flatnonzero(np.isnan(np.diagonal(entries)))
    i, j = np.tril_indices(r, -1)
    pairs = np.isnan(entries[i, j]) & prior.has_correlations
    i, j = i[pairs], j[pairs]
    log_s = pt.zeros(r)
    if len(free):
        log_s = pt.set_subtensor(log_s[free], Improper(f"{name}_log_sd", shape=len(free)))
    R = pt.as_tensor(np.where(np.isnan(entries), np.eye(r), entries))
    if len(i):
        rho = pm.Uniform(f"{name}_correlation", -1.0, 1.0, shape=len(i))
        R = pt.set_subtensor(pt.set_subtensor(R[i, j], rho)[j, i], rho)
    # a matrix that is not positive definite has density zero; the identity replaces it so that nothing else fails
    inside = pt.all(pt.gt(pt.linalg.eigvalsh(R, None), 1e-10))
    R = pt.switch(inside, R, pt.eye(r))
    S = R * pt.exp(log_s)[:, None] * pt.exp(log_s)[None, :]
    pm.Potential(f"{name}_prior", pt.switch(inside, prior.entries_logp(S, R, log_s, free), -np.inf))
    return pm.Deterministic(name, S, dims=dims)


# --- rows ---------------------------------------------------------------------------------------------------


def _groups(data: LatentData) -> list[NDArray[np.int64]]:
    """Groups of rows with the same observed cells and levels of nominal variables, which share a Cholesky factor."""
    seen = ~np.isnan(data.Y) | (data.level >= 0)
    nominal = [data.level[:, part.start] for part in data.nominal]
    key = np.column_stack([seen, *nominal])
    _, group = np.unique(key, axis=0, return_inverse=True)
    groups = [np.flatnonzero(group == k) for k in range(group.max() + 1)]
    return [rows for rows in groups if seen[rows[0]].any()]


def _components(data: LatentData, row: int) -> tuple[Array, list[int]]:
    """A (w, r) of the latent components of such a row, and the ordered column of each component, or -1: above 0."""
    r, A, column = data.Y.shape[1], [], []
    unit = np.eye(r)
    for k in data.ordered:
        if data.level[row, k] >= 0:
            A.append(unit[k])
            column.append(k)
    for part in data.nominal:
        level = data.level[row, part.start]
        if level < 0:
            continue
        chosen = part.start + level - 1
        A += [
            unit[k] if level and k == chosen else (unit[chosen] if level else 0.0) - unit[k]
            for k in range(part.start, part.stop)
        ]
        column += [-1] * (part.stop - part.start)
    return np.array(A).reshape(-1, r), column


def _log_density(
    data: LatentData,
    rows: NDArray[np.int64],
    mu: TensorVariable,
    Sigma: TensorVariable,
    cutpoints: Mapping,
    number: int,
) -> TensorVariable:
    """The sum over rows of log p(numbers) + log p(levels | numbers, v)."""
    seen = np.flatnonzero(~np.isnan(data.Y[rows[0]]))
    A, column = _components(data, rows[0])
    mean, cov = pt.dot(mu[rows], A.T), pt.dot(A, pt.dot(Sigma, A.T))
    total: Any = 0.0
    if len(seen):
        L = pt.linalg.cholesky(Sigma[seen][:, seen])
        e = pt.linalg.solve_triangular(L, (data.Y[np.ix_(rows, seen)] - mu[rows][:, seen]).T, lower=True)
        total = -0.5 * (e * e).sum() - len(rows) * (
            pt.log(pt.diagonal(L)).sum() + 0.5 * len(seen) * math.log(2 * math.pi)
        )
        if len(A):
            G = pt.linalg.solve_triangular(L, pt.dot(Sigma[seen], A.T), lower=True)
            mean, cov = mean + pt.dot(e.T, G), cov - pt.dot(G.T, G)
    if not len(A):
        return total
    C = pt.linalg.cholesky(cov)
    v = pm.Uniform(f"v_{number}", 0.0, 1.0, shape=(len(rows), len(A) - 1)) if len(A) > 1 else None
    z: list[TensorVariable] = []
    for k, of in enumerate(column):
        centre = mean[:, k] + sum(C[k, h] * z[h] for h in range(k))
        level = data.level[rows, of] if of >= 0 else np.ones(len(rows), dtype=np.int64)
        c = cutpoints[of] if of >= 0 else pt.zeros(1)
        below, above = level > 0, level < (data.ordered[of] - 1 if of >= 0 else 1)
        a = pt.switch(below, (c[np.maximum(level - 1, 0)] - centre) / C[k, k], 0.0)
        b = pt.switch(above, (c[np.where(above, level, 0)] - centre) / C[k, k], 0.0)
        total = total + _log_between(a, b, below, above).sum()
        if v is not None and k < len(column) - 1:
            z.append(_between(a, b, below, above, v[:, k]))
    return total


def _log_lower(x: TensorVariable) -> TensorVariable:
    """log Phi(x)."""
    low = pt.switch(x < 0, x, -1.0)
    tail = pt.log(0.5 * pt.erfcx(-low / math.sqrt(2))) - 0.5 * low * low
    high = pt.switch(x < 0, 1.0, x)
    return pt.switch(x < 0, tail, pt.log1p(-0.5 * pt.erfc(high / math.sqrt(2))))


def _log_between(a: TensorVariable, b: TensorVariable, below: Any, above: Any) -> TensorVariable:
    """log(Phi(b) - Phi(a)) with the bounds that exist; at least one does."""
    both = below & above
    upper, lower = pt.switch(a > 0, -a, b), pt.switch(a > 0, -b, a)  # in the lower tail
    top = _log_lower(pt.switch(both, upper, 0.0))
    share = pt.switch(both, _log_lower(lower) - top, -1.0)
    two = top + pt.log1mexp(share)
    return pt.switch(both, two, pt.switch(below, _log_lower(-a), _log_lower(b)))


def _between(
    a: TensorVariable, b: TensorVariable, below: Any, above: Any, v: TensorVariable
) -> TensorVariable:
    """z with (Phi(z) - Phi(a)) / (Phi(b) - Phi(a)) uniform, from v; computed from the upper end if a > 0."""
    flip = pt.or_(~above, a > 0)
    low = pt.switch(
        flip, pt.switch(above, pt.exp(_log_lower(-b)), 0.0), pt.switch(below, pt.exp(_log_lower(a)), 0.0)
    )
    high = pt.switch(flip, pt.exp(_log_lower(-a)), pt.exp(_log_lower(b)))
    z = -math.sqrt(2) * pt.erfcinv(2 * (low + v * (high - low)))
    return pt.switch(flip, -z, z)
