"""Whether the residual spread of a variable differs between clusters.

With d_ij the deviation of row j of cluster i from the mean of its cluster, S the covariance matrix of these deviations,
and O the other variables observed in the row, the residual given all of them, in units of its standard deviation, is

    e_ij = (d_ij,y - S_yO S_OO^-1 d_ij,O) / (S_yy - S_yO S_OO^-1 S_Oy)^1/2

so that rows in which other variables are missing as well have the same spread as the others. Two statistics are computed
in clusters with at least `LEAST` residuals (`LEAST` more for each random slope of the model; in every cluster its own
regression on their columns is taken out of y and O): the F statistic of Brown & Forsythe (1974), an analysis of variance
of |e_ij - median_i|, whose level holds for skewed, heavy-tailed residuals; and the standard deviation tau of log residual
standard deviations between clusters, by moments (DerSimonian & Laird 1986), for normal residuals,

    l_i = log s_i^2 - psi(f_i / 2) + log(f_i / 2),    E l_i = log sigma_i^2,    var l_i = psi'(f_i / 2),

with f_i = n_i - 1 degrees of freedom, less the number of slopes.

A spread differs if p < `LEVEL` and tau > `LARGE`. benchmarks/RESIDUAL_SPREAD.md has the study by which these were chosen.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bayesimp.events import Event
from bayesimp.layout import Record
from bayesimp.messages import listing
from bayesimp.table.incomplete import IncompleteData

__all__ = [
    "DIFFERS", "Spread", "differing", "residual_spread", "said", "spread_events", "spread_statistics",
]  # fmt: skip

Array = NDArray[np.float64]
Codes = NDArray[np.int64]

DIFFERS = "residual spread"  # kind of the event
GROWS = 0.6  # rank correlation of the clusters' means and standard deviations
LEAST = 5  # residuals of a cluster
LEVEL = 0.001  # of the test
LARGE = 0.3  # sd of log residual sds between clusters
MOST_PATTERNS = 500  # of missing values; rows with rarer ones are not used
ROUND_OFF = 1e-9  # of the largest value; a smaller standard deviation is none
MOST_EXPLAINED = 1e3  # variance over residual variance; what is left beyond it is rounding
LEAST_EIGENVALUE = 1e-6  # of a correlation matrix from pairs of observed values


@dataclass(frozen=True)
class Spread(Record):
    """The residual spread of one variable, by cluster.

    Attributes
    ----------
    variable
        Its name.
    p_value
        Of the hypothesis that the spread is the same in all clusters.
    tau
        Standard deviation of log residual standard deviations between clusters, without sampling error.
    clusters
        (k,) positions of the clusters with enough residuals, among those of the table.
    sds
        (k,) their residual standard deviations, in units of the variable.
    rows
        (k,) their numbers of residuals.
    """

    variable: str
    p_value: float
    tau: float
    clusters: Codes
    sds: Array
    rows: Codes

    @property
    def differs(self) -> bool:
        """Whether the spread differs significantly, and enough to damage imputed values."""
        return self.p_value < LEVEL and self.tau > LARGE


def residual_spread(
    data: IncompleteData,
    names: Sequence[str],
    predictors: Sequence[str] | None = None,
    slopes: Collection[str] = (),
) -> list[Spread]:
    """The residual spread of variables given others and the clusters' means, by cluster.

    Parameters
    ----------
    data
        The table.
    names
        Variables with numbers, to be described.
    predictors
        The other variables of the model; None: all that models can read.
    slopes
        Columns with random slopes. A slope that differs between clusters does not count as a difference in spread.

    Returns
    -------
    One record for each variable that has at least `LEAST` residuals in two clusters.
    """
    others = data.variables if predictors is None else predictors
    columns = [(name, data.numeric(name)) for name in names]
    columns += [pair for name in dict.fromkeys(others) if name not in names for pair in _columns(data, name)]
    varying = [values for name in slopes if name in data.variables for _, values in _columns(data, name)]
    columns = [pair for pair in columns if pair[0] not in slopes or pair[0] in names]
    deviations = np.column_stack([_deviations(values, data.codes) for _, values in columns])
    if varying:
        own = [k for k, (name, _) in enumerate(columns) if name not in slopes]
        deviations[:, own] = _without_slopes(deviations[:, own], np.column_stack(varying), data.codes)
    seen = ~np.isnan(deviations)
    scale = ((np.where(seen, deviations, 0.0) ** 2).sum(axis=0) / np.maximum(seen.sum(axis=0), 1)) ** 0.5
    largest = [np.abs(values[~np.isnan(values)]).max(initial=0.0) for _, values in columns]
    varies = scale > ROUND_OFF * np.array(largest)
    kept = [name for (name, _), there in zip(columns, varies, strict=True) if there]
    z, scale = deviations[:, varies] / scale[varies], scale[varies]
    if not set(kept) & set(names):
        return []
    R = _correlations(z)
    residuals, sd = _residuals(z, R), scale / np.sqrt(np.diag(np.linalg.inv(R)))
    out = []
    for name in names:
        if name not in kept:
            continue
        k = kept.index(name)
        rows = ~np.isnan(residuals[:, k])
        found = spread_statistics(residuals[rows, k], data.codes[rows], len(varying))
        if found is not None:
            p, tau, clusters, sds, count = found
            out.append(Spread(name, p, tau, clusters, sds * sd[k], count))
    return out


def spread_events(
    data: IncompleteData,
    names: Sequence[str],
    cure: str,
    predictors: Sequence[str] | None = None,
    slopes: Collection[str] = (),
) -> list[Event]:
    """An event that names the incomplete variables whose residual spread differs between clusters, if there are any.

    Parameters
    ----------
    data, predictors, slopes
        See `residual_spread`.
    names
        Normal variables with one residual variance for all clusters.
    cure
        What gives each cluster a variance of its own in this engine; "{name}" becomes the first variable.
    """
    found = differing(data, names, predictors, slopes)
    if not found:
        return []
    one, grow = len(found) == 1, [spread.variable for spread in found if _grows(data, spread)]
    text = (
        f"the residual standard deviation{'' if one else 's'} of {'; '.join(said(data, spread) for spread in found)} "
        f"differ{'s' if one else ''} between clusters of '{data.cluster}' beyond chance. Imputed with one residual "
        "variance, values vary too much in some clusters and too little in others. "
    )
    if grow:
        text += (
            f"The spread of {listing(grow)} grows with the cluster's mean: use the logarithm, families={{{grow[0]!r}: "
            "'lognormal'}, 'gamma', or a rate (per inhabitant, say). Otherwise "
        )
    text += cure.replace("{name}", found[0].variable)
    return [Event(DIFFERS, ", ".join(spread.variable for spread in found), text, len(found))]


def differing(
    data: IncompleteData,
    names: Sequence[str],
    predictors: Sequence[str] | None = None,
    slopes: Collection[str] = (),
) -> list[Spread]:
    """The spread of those incomplete variables, among `names`, in which it differs between clusters."""
    incomplete = [name for name in names if data.missing(name).any()]
    if not incomplete:
        return []
    given = predictors if predictors is None else [*predictors, *names]
    return [spread for spread in residual_spread(data, incomplete, given, slopes) if spread.differs]


def said(data: IncompleteData, spread: Spread) -> str:
    """A spread in words: ``'sales' (9.5 in 'Laredo', 67 rows, to 306 in 'Houston', 67 rows; typically by ...)``."""
    ends = [
        f"{spread.sds[k]:.3g} in {listing([data.clusters[spread.clusters[k]]])}, {spread.rows[k]:,} rows"
        for k in (int(spread.sds.argmin()), int(spread.sds.argmax()))
    ]
    factor = np.exp(np.sqrt(2) * spread.tau)
    return f"'{spread.variable}' ({ends[0]}, to {ends[1]}; typically by a factor of {factor:.2g})"


def _grows(data: IncompleteData, spread: Spread) -> bool:
    """Whether a variable is positive and its spread grows with the mean of the cluster."""
    values = data.numeric(spread.variable)
    there = ~np.isnan(values)
    means = _means(values[there], data.codes[there])[spread.clusters]
    means_rank, sds_rank = (np.argsort(np.argsort(v)) for v in (means, spread.sds))
    grows = len(means) > 3 and np.corrcoef(means_rank, sds_rank)[0, 1] > GROWS
    return bool(grows and (values[there] > 0).all())


def spread_statistics(
    e: Array, codes: Codes, slopes: int = 0
) -> tuple[float, float, Codes, Array, Codes] | None:
    """p-value, tau, and clusters with their standard deviations and numbers of residuals.

    Parameters
    ----------
    e
        (n,) residuals with the same spread in all clusters, if the hypothesis is true.
    codes
        (n,) their clusters.
    slopes
        Number of slopes that were fitted in every cluster.

    Returns
    -------
    None if fewer than two clusters have `LEAST` residuals that are not all equal.
    """
    from scipy.special import digamma, polygamma
    from scipy.stats import f

    n = np.bincount(codes)
    enough = (n >= LEAST * (1 + slopes)) & (np.bincount(codes, (e - _means(e, codes)[codes]) ** 2) > 0)
    clusters = np.flatnonzero(enough)
    if len(clusters) < 2:
        return None
    rows = enough[codes]
    e, codes = e[rows], np.searchsorted(clusters, codes[rows])
    n, m, N = n[clusters], len(clusters), int(rows.sum())

    between, within = _mean_squares(np.abs(e - _medians(e, codes)[codes]), codes)
    p = float(f.sf(between / within, m - 1, N - m)) if within > 0 else 0.0

    free = n - 1 - slopes
    s2 = np.bincount(codes, (e - _means(e, codes)[codes]) ** 2) / free
    l, v = np.log(s2) - digamma(free / 2) + np.log(free / 2), polygamma(1, free / 2)
    tau = 0.5 * np.sqrt(_between_variance(l, v))
    return p, float(tau), clusters, np.sqrt(s2), n


def _between_variance(estimates: Array, variances: Array) -> float:
    """Moment estimate of DerSimonian & Laird (1986) of the variance of what is estimated."""
    w = 1 / variances
    Q = w @ (estimates - w @ estimates / w.sum()) ** 2
    return max(0.0, float((Q - (len(w) - 1)) / (w.sum() - w @ w / w.sum())))


def _mean_squares(values: Array, codes: Codes) -> tuple[float, float]:
    """Mean squares between and within clusters."""
    n, means = np.bincount(codes), _means(values, codes)
    between = (n * (means - values.mean()) ** 2).sum() / (len(n) - 1)
    return between, ((values - means[codes]) ** 2).sum() / (len(values) - len(n))


def _means(values: Array, codes: Codes) -> Array:
    return np.bincount(codes, values) / np.maximum(np.bincount(codes), 1)


def _medians(values: Array, codes: Codes) -> Array:
    """(m,) medians of clusters, all of which have values."""
    n = np.bincount(codes)
    ordered, first = values[np.lexsort((values, codes))], np.cumsum(n) - n
    return (ordered[first + (n - 1) // 2] + ordered[first + n // 2]) / 2


def _columns(data: IncompleteData, name: str) -> list[tuple[str, Array]]:
    """A predictor as columns: indicators of all levels but the first if it is nominal."""
    variable = data.variable(name)
    family = variable.distribution
    if not family.is_imputable:
        return []
    if family.predictor_per_level:
        return [
            (f"{name}[{level}]", np.where(np.isnan(variable.numbers), np.nan, variable.numbers == k))
            for k, level in enumerate(variable.levels[1:], start=1)
        ]
    return [(name, data.column_values(name))]


def _deviations(values: Array, codes: Codes) -> Array:
    """(n,) deviations from the mean of the cluster's observed values; NaN where missing, and in clusters with one."""
    there = ~np.isnan(values)
    n = np.bincount(codes, there)
    means = np.bincount(codes, np.where(there, values, 0.0)) / np.maximum(n, 1)
    return np.where(n[codes] > 1, values - means[codes], np.nan)


def _without_slopes(deviations: Array, S: Array, codes: Codes) -> Array:
    """(n, k) residuals of the regressions of every column on S (n, q) in every cluster; NaN where S is missing, and in
    clusters with too few rows."""
    out, known = np.full(deviations.shape, np.nan), ~np.isnan(S).any(axis=1)
    order = np.argsort(codes, kind="stable")
    for rows in np.split(order, np.flatnonzero(np.diff(codes[order])) + 1):
        rows = rows[known[rows]]
        for k in range(deviations.shape[1]):
            there = rows[~np.isnan(deviations[rows, k])]
            if len(there) < LEAST * (1 + S.shape[1]):
                continue
            X = np.column_stack([np.ones(len(there)), S[there] - S[there].mean(axis=0)])
            y = deviations[there, k]
            out[there, k] = y - X @ np.linalg.lstsq(X, y)[0]
    return out


def _correlations(z: Array) -> Array:
    """Correlations of deviations by pairs of observed values, made positive definite."""
    there = ~np.isnan(z)
    filled, counts = np.where(there, z, 0.0), there.astype(float)
    R = (filled.T @ filled) / np.maximum(counts.T @ counts, 1)
    values, vectors = np.linalg.eigh(R)
    R = (vectors * np.maximum(values, LEAST_EIGENVALUE)) @ vectors.T
    lengths = np.sqrt(np.diag(R))
    return R / np.outer(lengths, lengths)


def _residuals(z: Array, R: Array) -> Array:
    """Every variable's residual given the others that are observed in the row, over its standard deviation; NaN where the
    variable is missing, or determined by the others."""
    there = ~np.isnan(z)
    patterns, of_row, rows = np.unique(there, axis=0, return_inverse=True, return_counts=True)
    order = np.argsort(of_row.ravel(), kind="stable")
    out, ends = np.full(z.shape, np.nan), np.cumsum(rows)
    for k in np.argsort(-rows, kind="stable")[:MOST_PATTERNS]:
        O = np.flatnonzero(patterns[k])
        if len(O):
            K = np.linalg.inv(R[np.ix_(O, O)])  # row y of K, over K_yy: the regression of y on the others
            at = np.ix_(order[ends[k] - rows[k] : ends[k]], O)
            own = np.diag(K)
            out[at] = np.where(own < MOST_EXPLAINED, z[at] @ K / np.sqrt(own), np.nan)
    return out
