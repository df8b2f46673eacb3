"""Intraclass correlation and R2 of linear and generalised models, with and without random effects.

With f = var(x'beta) over the rows of a table, u = mean of z'Psi z over its rows, summed over random terms (Johnson
2014), and e the variance of a row,

    ICC = u / (u + e)        R2 marginal = f / (f + u + e)        R2 conditional = (f + u) / (f + u + e)
                                                                                  Nakagawa & Schielzeth 2013
    normal    e = sigma^2
    logit     e = pi^2 / 3 (latent logistic variable);            probit   e = 1
    log       e = log(1 + 1 / lambda), Poisson with mean lambda                 Nakagawa, Johnson & Schielzeth 2017

lambda is the mean response of the table; the R package performance takes exp(beta_0 + u / 2) from a fit without
covariates. Without random effects u = 0, and there is one R2 = f / (f + e): for a linear model, 1 - sigma^2 / (f +
sigma^2), which differs from the adjusted R2 of lm by O(1 / n). Derivatives are by beta and by the components; X and
lambda are treated as known. The results are pooled as logits, so that limits stay between 0 and 1.
"""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from bayesimp.analysis.estimates import Estimates
from bayesimp.analysis.nonlinear import FunctionValue, components, joint_covariance
from bayesimp.analysis.row_model import FormulaRows
from bayesimp.errors import SpecificationError
from bayesimp.notation import Matrix, Vector

if TYPE_CHECKING:
    from bayesimp.analysis.fits import Fits

__all__ = ["QUANTITIES", "explained"]

QUANTITIES = ("icc", "R2 marginal", "R2 conditional")
ALONE = ("R2",)  # without random effects
ROW_VARIANCE = {"logit": np.pi**2 / 3, "probit": 1.0}


def explained(fits: Fits, scale: str) -> Estimates:
    """Intraclass correlation and both R2, or R2 alone without random effects, pooled on ``scale``.

    scale: ``"logit"`` or ``"identity"``.

    Raises
    ------
    SpecificationError
        The analysis is not a formula, or has a family whose row variance is unknown.
    """
    rows = fits.rows
    if not isinstance(rows, FormulaRows):
        raise SpecificationError(f"{fits.analysis!r}: ICC and R2 need a model given as a formula.")
    if rows.counts is not None:
        raise SpecificationError(
            f"{fits.analysis!r}: rows that are alike are counted here, for which ICC and R2 are not available. Analyse "
            "an exported table."
        )
    if not rows.link:
        raise SpecificationError(
            f"{fits.analysis!r}: the row variance of this family is not known, so there is no ICC or R2."
        )
    if scale not in ("logit", "identity"):
        raise SpecificationError(f"scale = {scale!r} is not known; choose 'logit' or 'identity'.")
    M, k = fits.estimates.shape
    K = k + len(fits.component_names)
    names = QUANTITIES if rows.formula.random else ALONE
    values, gradients = np.empty((M, len(names))), np.empty((M, len(names), K))
    sds, slopes = components(fits)
    for table in range(M):
        f, u, e = _parts(fits, rows, table, sds[table], slopes[table])
        ratios = [((u,), (u, e)), ((f,), (f, u, e)), ((f, u), (f, u, e))]
        for j, (above, below) in enumerate(ratios if rows.formula.random else [((f,), (f, e))]):
            a, b = _sum(above), _sum(below)
            values[table, j] = a.value[0] / b.value[0]
            gradients[table, j] = (a.gradient[0] - values[table, j] * b.gradient[0]) / b.value[0]
    bound = int((~np.isfinite(np.einsum("mcc->mc", fits.components_cov))).any(axis=1).sum())
    if bound:
        why = f"in {bound} of {M} tables a variance component is at its bound or has no standard error; no interval"
        gradients[:], notes = np.nan, dict.fromkeys(names, why)
    return Estimates(
        "variance explained", pd.DataFrame({"term": names}), values, gradients,
        np.nan_to_num(joint_covariance(fits)), scale=scale, log=fits.log, notes=notes if bound else {},
    )  # fmt: skip


def _sum(parts: tuple[FunctionValue, ...]) -> FunctionValue:
    return FunctionValue(sum(part.value for part in parts), sum(part.gradient for part in parts))  # type: ignore[arg-type]


def _parts(
    fits: Fits, rows: FormulaRows, table: int, sds: Vector, slopes: Vector
) -> tuple[FunctionValue, FunctionValue, FunctionValue]:
    """The variances f, u and e for one table."""
    k, c = fits.estimates.shape[1], len(sds)
    X, Zs = rows.own_matrices(table)
    centred = X - X.mean(axis=0)
    S = centred.T @ centred / (len(X) - 1)
    beta = fits.estimates[table]
    f = _one(beta @ S @ beta, np.r_[2 * S @ beta, np.zeros(c)])
    u_value, by = _effects_variance(fits, Zs, sds)
    u = _one(u_value, np.r_[np.zeros(k), by * slopes])
    e_gradient = np.zeros(k + c)
    if rows.link == "identity":
        e_gradient[-1] = 2 * sds[-1] * slopes[-1]
        return f, u, _one(sds[-1] ** 2, e_gradient)
    if rows.link == "log":
        return f, u, _one(np.log1p(1 / rows.mean_response(table)), e_gradient)
    return f, u, _one(ROW_VARIANCE[rows.link], e_gradient)


def _one(value: float, gradient: Vector) -> FunctionValue:
    return FunctionValue(np.array([value]), gradient[None])


def _effects_variance(fits: Fits, Zs: list[Matrix], sds: Vector) -> tuple[float, Vector]:
    """The sum over terms of tr(Psi mean zz'), and its derivatives by standard deviations and correlations."""
    names, by, total = fits.component_names, np.zeros(len(sds)), 0.0
    correlations = (j for j, name in enumerate(names) if name.startswith("cor("))
    at = 0
    for term, Z in zip(fits.rows.formula.random, Zs, strict=True):  # type: ignore[union-attr]
        q, A = Z.shape[1], Z.T @ Z / len(Z)
        s, R, places = sds[at : at + q], np.eye(q), {}
        if term.correlated:
            for a, b in combinations(range(q), 2):
                places[a, b] = j = next(correlations)
                R[a, b] = R[b, a] = np.nan_to_num(sds[j])
        total += float(s @ (A * R) @ s)
        by[at : at + q] = 2 * (A * R) @ s
        for (a, b), j in places.items():
            by[j] = 2 * A[a, b] * s[a] * s[b]
        at += q
    return total, by
