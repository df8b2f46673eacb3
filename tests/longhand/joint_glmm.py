"""The joint GLMM written out with SciPy's distributions, missing levels summed by brute force.

    p(cluster)  =  sum over every assignment of levels to all missing cells of the cluster  prod_k prod_j p_k(y_kj)

Parameters are in the units of the data; only names are shared with the package.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import product

import numpy as np
from scipy import stats
from scipy.special import expit, logsumexp, ndtr

from tests.longhand import yeo_johnson

__all__ = ["Law", "log_posterior"]


@dataclass(frozen=True)
class Law:
    """One factor.

    fixed, random: columns (dict of arrays of a cluster's rows) -> list of columns. levels: number of levels; 0: numbers.
    further: grouping column -> position among its effects of the law's first one, and its columns, as in random.
    free: missing cells are numbers that are given. leaf: missing cells are in no other factor.
    """

    response: str
    family: str
    fixed: Callable
    random: Callable | None = None
    levels: int = 0
    leaf: bool = False
    free: bool = False
    at_cluster: bool = False
    link: str = "logit"
    trials: str = ""
    shift: float = 0.0  # of the linear predictor where the column missing_<response> is 1
    center: float = 0.0  # origin and unit of what a Yeo-Johnson transformation is applied to
    unit: float = 1.0
    further: Mapping[str, tuple[int, Callable]] = field(default_factory=dict)


def log_density(
    law: Law,
    y,
    eta,
    shape=None,
    cuts=None,
    sigma2=None,
    trials=1,
    sigma=None,
    nu=None,
    zi=None,
    hu=None,
    power=None,
) -> np.ndarray:
    """Of responses y (n,) or one; eta (n, r) or (r,)."""
    first = eta[..., 0]
    p = ndtr(first) if law.link == "probit" else expit(first)
    with np.errstate(over="ignore"):
        mu = np.exp(first)
    match law.family:
        case "normal":
            return stats.norm.logpdf(y, first, np.sqrt(sigma2))
        case "zero_inflated_poisson":
            return np.log(zi * (y == 0) + (1 - zi) * stats.poisson.pmf(y, mu))
        case "zero_inflated_negative_binomial":
            return np.log(zi * (y == 0) + (1 - zi) * stats.nbinom.pmf(y, shape, shape / (shape + mu)))
        case "hurdle_poisson" | "hurdle_negative_binomial":
            poisson = law.family == "hurdle_poisson"
            count = stats.poisson(mu) if poisson else stats.nbinom(shape, shape / (shape + mu))
            return np.where(y == 0, np.log(hu), np.log(1 - hu) + count.logpmf(y) - np.log(count.sf(0)))
        case "lognormal":
            return stats.lognorm.logpdf(y, sigma, scale=mu)
        case "student":
            return stats.t.logpdf(y, nu, first, sigma)
        case "yeo_johnson":
            of_one = (y - law.center) / law.unit, (first - law.center) / law.unit, sigma / law.unit
            return yeo_johnson.log_density(*of_one, power) - np.log(law.unit)
        case "bernoulli":
            return stats.bernoulli.logpmf(y, p)
        case "binomial":
            return stats.binom.logpmf(y, trials, p)
        case "poisson":
            return stats.poisson.logpmf(y, mu)
        case "negative_binomial":
            return stats.nbinom.logpmf(y, shape, shape / (shape + mu))
        case "gamma":
            return stats.gamma.logpdf(y, shape, scale=mu / shape)
        case "beta":
            return stats.beta.logpdf(y, shape * p, shape * (1 - p))
        case "inverse_gaussian":
            return stats.invgauss.logpdf(y, mu / shape, scale=shape)
        case "ordinal":
            ends, level = np.r_[-np.inf, cuts, np.inf], np.asarray(y).astype(int)
            return np.log(expit(ends[level + 1] - first) - expit(ends[level] - first))
        case "categorical":
            logits = np.concatenate([np.zeros_like(eta[..., :1]), eta], axis=-1)
            at = np.asarray(y).astype(int)[..., None]
            return np.take_along_axis(logits, at, -1)[..., 0] - logsumexp(logits, axis=-1)
    raise AssertionError(law.family)


def log_posterior(frame, laws, theta, *, beta_sd, Sigma, Psi) -> float:
    """Of beta, sigma2, Psi, u with b_i = L u_i, 1/sqrt(shape), increments of cutpoints, missing numbers; IW priors.

    Parameters
    ----------
    frame
        Table with clusters ``g`` 0 .. m-1; missing numbers filled in, missing levels NaN.
    theta
        Name in the posterior -> value; B (m, d), in the order of g.
    beta_sd
        By response: of its coefficients, around 0.
    Sigma, Psi
        (nu, V) of Kunkel & Kaizar's inverse-Wishart.

    Further grouping factors have ``Psi_<column>`` and ``B_<column>`` (groups, d), the codes of groups being in the table.
    """
    total = 0.0
    for end in ("", *(name[1:] for name in theta if name.startswith("B_"))):
        S, B = np.atleast_2d(theta[f"Psi{end}"]), theta[f"B{end}"]
        total += stats.invwishart(Psi[0], np.linalg.inv(Psi[1] * np.eye(len(S)))).logpdf(S)
        total += stats.multivariate_normal(np.zeros(len(S)), S).logpdf(B).sum()
        total += len(B) * 0.5 * np.linalg.slogdet(S)[1]
    for law in laws:
        y = law.response
        total += stats.norm(0, beta_sd[y]).logpdf(theta[f"beta_{y}"]).sum()
        if law.family == "normal":
            total += stats.invwishart(Sigma[0], 1 / Sigma[1]).logpdf(theta[f"sigma2_{y}"])
        if f"variation_{y}" in theta:  # of the response divided by its mean, where the shape has its unit
            total += stats.t(3).logpdf(theta[f"variation_{y}"])
        if law.family in (
            "student",
            "lognormal",
            "yeo_johnson",
        ):  # sigma in units of the response, or of its logarithm
            total += stats.t(3).logpdf(theta[f"spread_{y}"])
        if law.family == "student":
            total += stats.gamma(2, scale=10).logpdf(theta[f"nu_{y}"] - 2)
        if law.family == "yeo_johnson":
            total += stats.beta(2, 2).logpdf(theta[f"lambda_{y}"] / 2)
        if f"cutpoints_{y}" in theta:
            total += stats.expon.logpdf(np.diff(theta[f"cutpoints_{y}"])).sum()
    return total + sum(
        _cluster(rows, laws, theta, theta["B"][int(i)]) for i, rows in frame.groupby("g", sort=True)
    )


def _cluster(rows, laws, theta, b) -> float:
    columns = {name: rows[name].to_numpy(float) for name in rows}
    cells = []  # (variable, rows, values)
    for law in laws:
        holes = np.flatnonzero(np.isnan(columns[law.response]))
        if law.leaf or law.free or not len(holes):
            continue
        if law.at_cluster:
            cells.append((law.response, holes, range(law.levels)))
        else:
            count = [law.levels or int(columns[law.trials][j]) + 1 for j in holes]
            cells += [(law.response, [j], range(c)) for j, c in zip(holes, count, strict=True)]
    values = []
    for chosen in product(*(possible for _, _, possible in cells)):
        filled = {name: x.copy() for name, x in columns.items()}
        for (name, at, _), level in zip(cells, chosen, strict=True):
            filled[name][at] = level
        values.append(_complete(filled, laws, theta, b))
    return logsumexp(values)


def _complete(columns, laws, theta, b) -> float:
    """log prod_k prod_j p_k of one cluster, without the missing cells of leaves."""
    total, first = 0.0, 0
    n = len(columns["g"])
    for law in laws:
        y = columns[law.response]
        X = np.column_stack([np.broadcast_to(x, n) for x in law.fixed(columns)])
        Z = (
            np.column_stack([np.broadcast_to(z, n) for z in law.random(columns)])
            if law.random
            else np.zeros((n, 0))
        )
        beta = theta[f"beta_{law.response}"].reshape(X.shape[1], -1)
        q, r = Z.shape[1], beta.shape[1]
        own = b[first : first + q * r].reshape(r, q)
        first += q * r
        eta = X @ beta + Z @ own.T
        for group, (at, random) in law.further.items():
            W = np.column_stack([np.broadcast_to(w, n) for w in random(columns)])
            mine = theta[f"B_{group}"][columns[group].astype(int), at : at + W.shape[1] * r]
            eta = eta + np.einsum("jl,jcl->jc", W, mine.reshape(n, r, -1))
        if law.shift:
            eta = eta + law.shift * columns[f"missing_{law.response}"][:, None]
        extra = {
            "shape": theta.get(f"shape_{law.response}"), "cuts": theta.get(f"cutpoints_{law.response}"),
            "sigma2": theta.get(f"sigma2_{law.response}"), "sigma": theta.get(f"sigma_{law.response}"),
            "nu": theta.get(f"nu_{law.response}"), "zi": theta.get(f"zi_{law.response}"),
            "hu": theta.get(f"hu_{law.response}"), "power": theta.get(f"lambda_{law.response}"),
        }  # fmt: skip
        seen = ~np.isnan(y) & (np.arange(n) < (1 if law.at_cluster else n))
        trials = columns[law.trials][seen] if law.trials else 1
        total += log_density(law, y[seen], eta[seen], trials=trials, **extra).sum()
    return total
