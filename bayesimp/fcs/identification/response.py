"""Whether a response varies where it is observed, and its variances within and between clusters are identified."""

from __future__ import annotations

import numpy as np

from bayesimp.errors import DataError, SpecificationError
from bayesimp.events import Event
from bayesimp.fcs.identification.evidence import Evidence
from bayesimp.fcs.specification.values import TOLERANCE
from bayesimp.formulas.columns import INTERCEPT, Column
from bayesimp.messages import listing
from bayesimp.table.clusters import varies_within

__all__ = ["varies"]

DIGITS = 100  # smallest standard deviation, in spacings between floating-point numbers of the values' size
FEW = 5  # with fewer clusters, variances between them rest on the prior


def varies(s: Evidence) -> list[Event]:
    """Refuse a response that lacks a variance of its model; note variances that rest on the prior."""
    return [*_response(s), *_variances(s)]


def _response(s: Evidence) -> list[Event]:
    y = s.values[s.name]
    low, high = y[s.rows].min(), y[s.rows].max()
    if low == high:
        shown = s.data.levels(s.name)[0] if s.data.levels(s.name) else f"{low:g}"
        raise DataError(
            f"'{s.name}' is {shown} wherever it is observed ({s.seen}), so it has no variance to impute from. "
            f"Fill it in, or leave it out: methods={{'{s.name}': None}}."
        )
    _check_digits(s)
    if not s.block.random:
        return []
    several = np.bincount(s.codes[s.rows]).max() > 1
    if several and s.name not in s.varying:
        text = f"'{s.name}' has one value in each of the {len(s.clusters):,} clusters where it is observed. If it is a "
        text += f"cluster-level variable, impute it by method '2lonly': methods={{'{s.name}': '2lonly'}}."
        if s.block.distribution.is_normal:
            raise DataError(f"{text} Method '{s.block.method.name}' needs a variance within clusters.")
        return [Event("prior matters", f"Psi[{s.name}]", text, len(s.clusters))]
    if not several:
        once = f"'{s.name}' is observed in at most one row of each cluster ({s.seen}): its variances between and within"
        if not s.block.method.prior_on_Psi:
            raise DataError(
                f"{once} clusters cannot be separated. Use 'bayes', or 'norm', which ignores clusters."
            )
        text = f"{once} clusters are separated by their priors alone."
        return [Event("prior only", f"Psi[{s.name}]", text, int(s.rows.sum()))]
    return []


def _check_digits(s: Evidence) -> None:
    """Refuse values that differ by hardly more than floating-point spacing, or than rank computations resolve."""
    y = s.values[s.name][s.rows]
    step, sd = float(np.spacing(np.abs(y).max())), float(y.std())
    least = max(DIGITS * step, TOLERANCE * float(np.abs(y).max()) * s.block.distribution.is_normal)
    if s.data.levels(s.name) or sd >= least:
        return
    raise DataError(
        f"'{s.name}' differs by a standard deviation of {sd:.3g} about {y.mean():.6g}, where numbers have steps of "
        f"{step:.3g} ({s.seen}): too little relative to its size to compute a model. Subtract a constant where its "
        f"digits are not yet lost, table['{s.name}'] - {y.min():.6g}, or leave it out: methods={{'{s.name}': None}}."
    )


def _variances(s: Evidence) -> list[Event]:
    """Check whether there are enough clusters for the variances between them."""
    q, m = len(s.block.random), len(s.clusters)
    if q == 0 or s.fixed_Psi:
        return []
    if s.block.method.fits_each_cluster and m > 1:  # the method's own check says whether they suffice
        return []
    if m == 1:
        only = listing([s.data.clusters[s.clusters[0]]])
        raise DataError(
            f"'{s.name}' is observed in 1 of {len(s.data.clusters)} clusters ({only}, {int(s.rows.sum())} rows): its "
            "variance between clusters (Psi) cannot be estimated. Use method 'norm', 'glm' or 'pmm', which ignore the "
            "clusters, or fix Psi: methods.Bayes(priors.Priors(Psi=priors.Fixed(...)))."
        )
    if m < q + 1:
        raise SpecificationError(
            f"'{s.name}' has {q} random effects ({listing(c.name for c in s.block.random)}) and is observed in {m} "
            f"clusters; {q + 1} are needed. Remove slopes from (... | {s.data.cluster}), or fix Psi: priors.Fixed(...)."
        )
    fewest = min([m, *(_slope_clusters(s, column) for column in s.block.random if column.base != INTERCEPT)])
    if fewest < FEW:
        text = f"'{s.name}': the variances between clusters rest on {fewest} clusters, so"
        rest = (
            " they depend strongly on the prior; compare several priors."
            if s.block.method.prior_on_Psi
            else " their maximum likelihood estimates are poor; prefer 'bayes'."
        )
        return [Event("prior matters", f"Psi[{s.name}]", text + rest, fewest)]
    return []


def _slope_clusters(s: Evidence, column: Column) -> int:
    """The number of clusters that inform the slope of a column, at least 2."""
    z = np.where(s.rows, s.values[column.base], np.nan)
    if column.base not in s.varying:
        raise SpecificationError(
            f"'{s.name}': '{column.name}' has one value in every cluster and cannot have a random slope; remove it "
            f"from (... | {s.data.cluster}) and keep it as a fixed predictor."
        )
    clusters = int(varies_within(z, s.codes).sum())
    if clusters < 2:
        raise SpecificationError(
            f"'{s.name}': '{column.name}' varies, where '{s.name}' is observed, within {clusters} of {len(s.clusters)} "
            f"clusters, so the variance of its slopes cannot be estimated; remove it from (... | {s.data.cluster})."
        )
    return clusters
