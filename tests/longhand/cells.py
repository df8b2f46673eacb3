"""What a model says about values in cells of a table: probabilities of being at most t, for one value or two at once.

A cell is a set of missing rows that have the same cluster, predictors and trials. A law of the linear predictors of the
cells is given as weighted draws of the parameters and, within each, chances of K places of the effects of a cluster:

    E 1(y_c <= t) = sum_s w_s sum_k p_sk F(t | eta_sk)

and likewise for two rows, of the same cell or of two: given s, rows of different clusters are independent, and those of a
cluster share k.
"""

from __future__ import annotations

from bisect import bisect_left
from functools import cache
from typing import NamedTuple

import numpy as np
from scipy import stats
from scipy.special import (
    bdtr,
    betainc,
    betaln,
    expit,
    gammaln,
    log_expit,
    log_ndtr,
    log_softmax,
    ndtr,
    pdtr,
    xlogy,
)

from tests.longhand import yeo_johnson

__all__ = ["Cell", "Law", "compare", "cumulative", "log_density", "thresholds"]


class Cell(NamedTuple):
    """Missing rows of one cluster, which may be new; trials of the binomial."""

    cluster: int
    x: float
    trials: int = 1


class Law(NamedTuple):
    """weight (S,); eta, by cell (S, K, r); chance, by cell (S, K); aux (S, a); draws: about how many are independent."""

    weight: np.ndarray
    eta: list[np.ndarray]
    chance: list[np.ndarray]
    aux: np.ndarray
    draws: float


def _cuts(aux):
    """(..., K - 1) cutpoints of increments (..., K - 2)."""
    return np.concatenate([np.zeros((*aux.shape[:-1], 1)), np.cumsum(aux, axis=-1)], axis=-1)


def log_density(family, y, trials, eta, aux):
    """log p(y | eta): y, trials broadcast against eta (..., r) without its last axis; aux (..., a).

    aux: increments of an ordinal variable, the variance of a normal one, the precision of the logarithm of a lognormal
    one, scale and degrees of freedom of a Student-t one, scale and lambda of a Yeo-Johnson one, else the shape,
    and the probability of a structural zero last.
    """
    e = eta[..., 0]
    with np.errstate(divide="ignore"):
        match family:
            case "bernoulli" | "binomial":
                choose = gammaln(trials + 1) - gammaln(y + 1) - gammaln(trials - y + 1)
                return choose + y * log_expit(e) + (trials - y) * log_expit(-e)
            case "probit":
                return xlogy(y, np.exp(log_ndtr(e))) + (1 - y) * log_ndtr(-e)
            case "poisson":
                return y * e - np.exp(e) - gammaln(y + 1)
            case "negative_binomial":
                k, mu = aux[..., 0], np.exp(e)
                rest = gammaln(y + k) - gammaln(k) - gammaln(y + 1)
                return rest - k * np.log1p(mu / k) - y * np.log1p(k / mu)
            case "gamma":
                k = aux[..., 0]
                return k * (np.log(k) - e) - gammaln(k) + (k - 1) * np.log(y) - k * y * np.exp(-e)
            case "inverse_gaussian":
                k, mu = aux[..., 0], np.exp(e)
                return 0.5 * np.log(k / (2 * np.pi * y**3)) - k * (y - mu) ** 2 / (2 * mu**2 * y)
            case "beta":
                a, b = aux[..., 0] * expit(e), aux[..., 0] * expit(-e)
                return xlogy(a - 1, y) + xlogy(b - 1, 1 - y) - betaln(a, b)
            case "zero_inflated_poisson" | "zero_inflated_negative_binomial":
                zi, count = aux[..., -1], family.removeprefix("zero_inflated_")
                return np.log(
                    zi * (np.asarray(y) == 0) + (1 - zi) * np.exp(log_density(count, y, trials, eta, aux))
                )
            case "hurdle_poisson" | "hurdle_negative_binomial":
                hu, count = aux[..., -1], family.removeprefix("hurdle_")
                above = np.log(-np.expm1(log_density(count, 0.0, trials, eta, aux)))
                given = np.log1p(-hu) + log_density(count, y, trials, eta, aux) - above
                return np.where(np.asarray(y) == 0, np.log(hu), given)
            case "lognormal":
                k, log_y = aux[..., 0], np.log(y)
                return 0.5 * np.log(k / (2 * np.pi)) - log_y - 0.5 * k * (log_y - e) ** 2
            case "student":
                return stats.t.logpdf(y, aux[..., 1], e, aux[..., 0])
            case "yeo_johnson":
                return yeo_johnson.log_density(y, e, aux[..., 0], aux[..., 1])
            case "normal":
                return -0.5 * (y - e) ** 2 / aux[..., 0] - 0.5 * np.log(2 * np.pi * aux[..., 0])
            case "ordinal":
                below = np.where(y > 0, cumulative(family, np.maximum(y - 1, 0), 1, eta, aux), 0.0)
                return np.log(cumulative(family, y, 1, eta, aux) - below)
            case "categorical":
                level = np.asarray(y, dtype=int)
                top, chosen = np.zeros(e.shape), np.zeros(e.shape)
                scores = [np.zeros(()), *np.moveaxis(eta, -1, 0)]
                for k, score in enumerate(scores):
                    top = np.maximum(top, score)
                    chosen = np.where(level == k, score, chosen)
                return chosen - top - np.log(sum(np.exp(score - top) for score in scores))
    raise ValueError(family)


def cumulative(family, t, trials, eta, aux):
    """P(y <= t | eta), arguments as of `log_density`."""
    e = eta[..., 0]
    match family:
        case "bernoulli" | "probit":
            share = ndtr(-e) if family == "probit" else expit(-e)
            return np.where(np.asarray(t) >= 1, 1.0, share)
        case "binomial":
            return bdtr(np.minimum(t, trials), trials, expit(e))
        case "poisson":
            return pdtr(t, np.exp(e))
        case "negative_binomial":
            return stats.nbinom.cdf(t, aux[..., 0], aux[..., 0] / (aux[..., 0] + np.exp(e)))
        case "gamma":
            return stats.gamma.cdf(t, aux[..., 0], scale=np.exp(e) / aux[..., 0])
        case "inverse_gaussian":
            k, mu = aux[..., 0], np.exp(e)
            root = np.sqrt(k / t)
            return ndtr(root * (t / mu - 1)) + np.exp(2 * k / mu + log_ndtr(-root * (t / mu + 1)))
        case "beta":
            return betainc(aux[..., 0] * expit(e), aux[..., 0] * expit(-e), t)
        case "zero_inflated_poisson" | "zero_inflated_negative_binomial":
            count = family.removeprefix("zero_inflated_")
            return aux[..., -1] + (1 - aux[..., -1]) * cumulative(count, t, trials, eta, aux)
        case "hurdle_poisson" | "hurdle_negative_binomial":
            count = family.removeprefix("hurdle_")
            above = -np.expm1(log_density(count, 0.0, trials, eta, aux))
            beyond = (1 - cumulative(count, t, trials, eta, aux)) / above
            return aux[..., -1] + (1 - aux[..., -1]) * np.where(np.asarray(t) > 0, 1 - beyond, 0.0)
        case "lognormal":
            return ndtr(np.sqrt(aux[..., 0]) * (np.log(t) - e))
        case "student":
            return stats.t.cdf(t, aux[..., 1], e, aux[..., 0])
        case "yeo_johnson":
            return yeo_johnson.cumulative(t, e, aux[..., 0], aux[..., 1])
        case "normal":
            return ndtr((t - e) / np.sqrt(aux[..., 0]))
        case "ordinal":
            cuts = _cuts(aux)
            last = np.asarray(t, dtype=int) == cuts.shape[-1]
            at = np.minimum(np.asarray(t, dtype=int), cuts.shape[-1] - 1)
            shape = np.broadcast_shapes(at.shape, cuts.shape[:-1])
            cut = np.take_along_axis(
                np.broadcast_to(cuts, (*shape, cuts.shape[-1])), np.broadcast_to(at, shape)[..., None], -1
            )[..., 0]
            return np.where(last, 1.0, expit(cut - e))
        case "categorical":
            share = np.exp(log_softmax(np.concatenate([np.zeros_like(eta[..., :1]), eta], axis=-1), axis=-1))
            return share[..., : int(t) + 1].sum(-1)
    raise ValueError(family)


def thresholds(family, law: Law, cells, candidates) -> list[tuple[int, float]]:
    """(cell, t): the places nearest to chances of a quarter and three quarters, in every cell; of levels, all but one."""
    if family in ("bernoulli", "probit", "ordinal", "categorical"):
        return [(c, t) for c in range(len(cells)) for t in candidates[:-1]]
    few, out = slice(None, None, max(len(law.weight) // 64, 1)), []
    weight = law.weight[few] / law.weight[few].sum()

    def chance_of(c):
        eta, aux, chance = law.eta[c][few], law.aux[few][:, None], law.chance[c][few]

        @cache
        def F(k):
            """P(y <= candidates[k]), which increases with k."""
            return (chance * cumulative(family, candidates[k], cells[c].trials, eta, aux)).sum(-1) @ weight

        return F

    for c in range(len(cells)):
        F = chance_of(c)
        near = sorted({_nearest(F, len(candidates), share) for share in (0.25, 0.75)})
        out += [(c, candidates[k]) for k in near if 0.02 < F(k) < 0.98]  # a probability near one says nothing
    return out


def _nearest(F, n, share) -> int:
    """The k < n at which F, which increases, is nearest to the share."""
    above = bisect_left(range(n), share, key=F)
    return min(range(max(above - 1, 0), min(above + 1, n)), key=lambda k: abs(F(k) - share))


def compare(family, law: Law, cells, values, candidates, level=1e-3) -> tuple[float, float]:
    """Largest |z| over all chances, of one row and of two, and its limit at the level, divided by their number.

    values: by cell (m, R), the imputed values, coded as in `log_density`.
    """
    places = thresholds(family, law, cells, candidates)
    F = [
        cumulative(family, t, cells[c].trials, law.eta[c], law.aux[:, None]) * np.ones(law.chance[c].shape)
        for c, t in places
    ]
    seen = [values[c] <= t for c, t in places]
    given = [(law.chance[c] * f).sum(-1) for (c, _), f in zip(places, F, strict=True)]  # (S,) by place
    z = []
    for a, (c, _) in enumerate(places):
        z.append(_z(seen[a].mean(1), law, given[a]))
        for b in range(a + 1):
            d = places[b][0]
            R = seen[a].shape[1]
            both = seen[a].mean(1) * seen[b].mean(1)
            if c == d and R == 1:
                continue
            if c == d:  # of two different rows
                both = (R * R * both - (seen[a] & seen[b]).sum(1)) / (R * (R - 1))
            shared = cells[c].cluster == cells[d].cluster
            of_law = (law.chance[c] * F[a] * F[b]).sum(-1) if shared else given[a] * given[b]
            z.append(_z(both, law, of_law))
    return float(np.max(np.abs(z))), float(stats.norm.isf(0.5 * level / len(z)))


def _z(seen, law: Law, given) -> float:
    """Of the mean of `seen`, one number an imputation, against that of `given`, one number a draw of the law."""
    mean = law.weight @ given
    of_law = law.weight @ (given - mean) ** 2 / law.draws
    # if an event has not occurred, the variance is that of its chance
    own = max(seen.var(ddof=1), min(mean * (1 - mean) / 50, 0.02)) / len(seen)
    return (seen.mean() - mean) / np.sqrt(own + of_law)
