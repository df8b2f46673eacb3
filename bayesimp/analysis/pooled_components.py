"""Pool variance components of many tables by Rubin's rules on a stated scale.

With phi = log sd, or Fisher's z of a correlation, and g the scale, g(phi) is pooled with variances g'(phi)^2 V:

    log: phi       sd: exp(phi)       variance: exp(2 phi)       correlations: phi on every scale except the median
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bayesimp.analysis.pool import Pooled, pool
from bayesimp.errors import PACKAGE, SpecificationError, StatisticalWarning

__all__ = ["pool_components"]

Array = NDArray[np.float64]
SCALES = ("log", "sd", "variance", "median")


def pool_components(
    components: Any,
    covariances: ArrayLike | None = None,
    terms: Sequence[str] = (),
    correlation: ArrayLike = (),
    scale: str = "log",
) -> Pooled:
    """Pool variance components on a stated scale, and correlations as Fisher's z (untransformed for the median).

    It takes arrays or `Fits`: ``pool_components(fits, scale="sd")`` is ``fits.pool_components("sd")``.

    Rubin's rules assume a normal sampling distribution, which the logarithm approximates best. ``"median"``, Jolani's
    (2025, sec. 5) suggestion for skewed quantities, gives a point estimate without a variance.

    Parameters
    ----------
    components, covariances
        (M, c) log standard deviations and Fisher's z of correlations, and (M, c, c), nan where a fit is singular.
    correlation
        (c,) bool, marks correlations.
    scale
        ``"log"`` (of the sd), ``"sd"``, ``"variance"``, ``"median"`` (of the sd).

    Raises
    ------
    SpecificationError
        The argument is neither fits nor arrays, the scale is unknown, or the analysis has no variance components.
    """
    if hasattr(components, "component_names") and covariances is None:
        return components.pool_components(scale)
    if covariances is None:
        raise SpecificationError(
            "pool_components takes fits, or components (M, c) with their covariances, their names and which of them "
            f"are correlations; got {type(components).__name__}. For imputations: imp.analyse('y ~ x + (1 | "
            "cluster)').pool_components()."
        )
    if scale not in SCALES:
        raise SpecificationError(f"scale = {scale!r} is not known; choose one of {', '.join(SCALES)}.")
    phi, V = np.asarray(components, dtype=float), np.asarray(covariances, dtype=float)
    rho = np.asarray(correlation, dtype=bool)
    if scale == "median":
        values = np.median(np.where(rho, np.tanh(phi), np.exp(phi)), axis=0)
        nan = np.full(len(terms), np.nan)
        notes = {
            t: why
            for t, why in _gaps(phi, V, terms, rho, scale).items()
            if np.isnan(phi[:, terms.index(t)]).any()
        }
        return Pooled(tuple(terms), len(phi), values, *(nan,) * 8, np.full((len(terms),) * 2, np.nan),
                      ("median",) * len(terms), notes)  # fmt: skip
    # g(phi) and dg / dphi, phi = log sd:  sd = exp(phi), variance = exp(2 phi)
    power = {"log": 0, "sd": 1, "variance": 2}[scale]
    sd = np.exp(power * np.where(rho, 0.0, phi)) if power else np.ones_like(phi)
    Q = np.where(rho | (power == 0), phi, sd)
    J = np.where(rho | (power == 0), 1.0, power * sd)
    scales = ["fisher z" if is_rho else scale for is_rho in rho]
    pooled = pool(
        np.where(np.isfinite(Q), Q, np.nan), V * J[:, :, None] * J[:, None, :], terms=terms, scale=scales
    )
    notes = _gaps(phi, V, terms, rho, scale)
    if notes:
        warnings.warn(
            "; ".join(f"{term}: {why}" for term, why in notes.items()) + ".",
            StatisticalWarning,
            skip_file_prefixes=PACKAGE,
        )
    for term, is_rho, low in zip(terms, rho, pooled.interval()[:, 0], strict=True):
        if power and not is_rho and low < 0:
            notes[term] = f"its interval on scale {scale!r} reaches below zero; scale='log' keeps it positive"
    return replace(pooled, notes=notes)


def _gaps(phi: Array, V: Array, terms: Sequence[str], rho: NDArray[np.bool_], scale: str) -> dict[str, str]:
    """Term -> why a component has no pooled value or no standard error."""
    out, M = {}, len(phi)
    advice = "scale='median' gives a value without an interval; a simpler random part gives both"
    for k, term in enumerate(terms):
        bound, undefined = int(np.isinf(phi[:, k]).sum()), int(np.isnan(phi[:, k]).sum())
        without = int((~np.isfinite(V[:, k, k])).sum()) - bound - undefined
        if rho[k] and undefined:
            out[term] = f"not defined in {undefined} of {M} tables, where a variance is zero; no pooled value"
        elif rho[k] and bound:
            out[term] = f"at its bound (-1 or 1) in {bound} of {M} tables; no pooled value ({advice})"
        elif bound:
            lost = (
                "it has no logarithm, so there is no pooled value"
                if scale == "log"
                else "it has no standard error there, so there is no interval"
            )
            out[term] = f"a variance of zero in {bound} of {M} tables: {lost} ({advice})"
        elif without > 0:
            out[term] = (
                f"no standard error in {without} of {M} tables (not from this engine, or no proper maximum); no "
                "interval"
            )
    return out
