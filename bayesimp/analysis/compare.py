"""Tests of several parameters at once after multiple imputation: D1, D2, D3.

With k parameters, M imputations, W_l = Q_l' U_l^-1 Q_l, T_l the likelihood-ratio statistic, t = k (M - 1):

    D1 = Q' Ubar^-1 Q / (k (1 + r)),                            Li, Raghunathan & Rubin 1991, JASA 86
         r = (1 + 1/M) tr(B Ubar^-1) / k
    D2 = (mean d_l / k - (M + 1) / (M - 1) r) / (1 + r),        Li, Meng, Raghunathan & Rubin 1991,
         r = (1 + 1/M) var(sqrt d_l),  d_l = W_l or T_l         Statistica Sinica 1
    D3 = Tbar_a / (k (1 + r)),                                  Meng & Rubin 1992, Biometrika 79
         r = (M + 1) / (k (M - 1)) (Tbar - Tbar_a)
         Tbar: at each table's own estimates, Tbar_a: at the average of the estimates over tables

Each is referred to F(k, v):

    D1, D3  v = 4 + (t - 4) (1 + (1 - 2/t) / r)^2 for t > 4, else t (1 + 1/k) (1 + 1/r)^2 / 2
    D1 with complete-data df: v by Reiter 2007, Biometrika 94
    D2      v = k^(-3/M) (M - 1) (1 + 1/r)^2
"""

from __future__ import annotations

import re
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from bayesimp.errors import PACKAGE, SpecificationError, StatisticalWarning
from bayesimp.kinds import checks_arguments
from bayesimp.layout import Record
from bayesimp.notation import Array

if TYPE_CHECKING:
    from bayesimp.analysis.fit import Fits

__all__ = ["MultiTest", "compare", "d1", "d2", "d3"]


@checks_arguments
@dataclass(frozen=True)
class MultiTest(Record):
    """An F test of k parameters: statistic, degrees of freedom and p-value; ``riv`` is the relative increase r."""

    method: str
    statistic: float
    df1: int
    df2: float
    p_value: float
    riv: float
    terms: tuple[str, ...] = ()


def d1(Q: ArrayLike, U: ArrayLike, df_complete: float = np.inf, *, null: ArrayLike = 0.0) -> MultiTest:
    """Wald test that the parameters equal ``null``, from estimates (M, k) and covariances (M, k, k).

    Raises
    ------
    SpecificationError
        There are fewer than two imputations, or the mean covariance is singular.
    """
    away = np.asarray(Q, dtype=float) - np.asarray(null, dtype=float)
    M, k = _shape(away)
    Qbar, Ubar = away.mean(axis=0), np.asarray(U, dtype=float).mean(axis=0)
    B = np.atleast_2d(np.cov(away.T))
    try:
        r = (1 + 1 / M) * np.trace(np.linalg.solve(Ubar, B)) / k
        wald = Qbar @ np.linalg.solve(Ubar, Qbar)
    except np.linalg.LinAlgError:
        raise SpecificationError(
            "the covariance of the tested parameters is singular; test fewer of them."
        ) from None
    df2 = _df_li(r, k, M) if np.isinf(df_complete) else _df_reiter(r, k, M, df_complete)
    return _result("D1", wald / (k * (1 + r)), k, df2, r)


def d2(d: ArrayLike, k: int) -> MultiTest:
    """Test from M chi-squared statistics alone (Wald or likelihood ratio) with k degrees of freedom."""
    d = np.asarray(d, dtype=float)
    M, _ = _shape(d[:, None])
    if np.any(d < 0):
        raise SpecificationError(f"{int((d < 0).sum())} of {M} chi-squared statistics are negative.")
    r = (1 + 1 / M) * np.var(np.sqrt(d), ddof=1)
    statistic = (d.mean() / k - (M + 1) / (M - 1) * r) / (1 + r)
    df2 = k ** (-3 / M) * (M - 1) * (1 + 1 / r) ** 2 if r > 0 else np.inf
    return _result("D2", statistic, k, df2, r)


def d3(own: ArrayLike, average: ArrayLike, k: int) -> MultiTest:
    """Likelihood-ratio test from the statistics 2 (l1 - l0) of the M tables, at their own and at averaged estimates.

    r can be negative in small samples (Meng & Rubin 1992 assume large ones); then 0 is used, with a warning.
    """
    own, average = np.asarray(own, dtype=float), np.asarray(average, dtype=float)
    M, _ = _shape(own[:, None])
    r = float((M + 1) / (k * (M - 1)) * (own.mean() - average.mean()))
    if r < -1e-8:
        warnings.warn(
            f"D3: the relative increase in variance is {r:.3g}, below zero; 0 is used instead. Use D1.",
            StatisticalWarning,
            skip_file_prefixes=PACKAGE,
        )
    r = max(r, 0.0)
    return _result("D3", average.mean() / (k * (1 + r)), k, _df_li(r, k, M), r)


def compare(
    larger: Fits, smaller: Fits | None = None, method: str = "D1", *, df_complete: float = np.inf
) -> MultiTest:
    """Test a model against a smaller one nested in it; both are fits of `bayesimp.analysis.fit_each`.

    Parameters
    ----------
    larger, smaller
        `Fits` of the same completed tables. ``smaller=None`` (D1, D2): test all coefficients except the intercept, or the
        thresholds of an ordinal analysis.
    method
        ``"D1"`` Wald; ``"D2"`` from the Wald statistics of the tables; ``"D3"`` likelihood ratio, for linear and linear
        mixed models fitted with ``reml=False`` and generalised ones (bernoulli, binomial, poisson, ordinal). Use D1
        unless there is a reason not to. A test of variance components with singular fits gives a warning, because its
        p-value is too large.
    df_complete
        Complete-data df for D1 (Reiter 2007).
    """
    for fits in (larger,) if smaller is None else (larger, smaller):
        if not hasattr(fits, "estimates"):
            raise SpecificationError(
                f"compare takes fits of two models, got {type(fits).__name__}: compare(imp.analyse('y ~ x + z'), "
                "imp.analyse('y ~ x'))."
            )
    names = [_canonical(name) for name in larger.names]
    kept = set(larger.constants) if smaller is None else {_canonical(name) for name in smaller.names}
    extra = [j for j, name in enumerate(names) if name not in kept]
    terms = tuple(larger.names[j] for j in extra)
    if smaller is not None:
        _check_nested(larger, smaller, sorted(kept - set(names)))
    Q, U = larger.estimates[:, extra], larger.covariances[:, extra][:, :, extra]
    if method in ("D1", "D2") and not extra:
        raise SpecificationError("the two models have the same fixed effects; compare random parts with D3.")
    if method == "D1":
        result = d1(Q, U, df_complete)
    elif method == "D2":
        result = d2(np.einsum("ka,ka->k", Q, np.linalg.solve(U, Q[:, :, None])[:, :, 0]), len(extra))
    elif method == "D3":
        result = _d3_of_fits(larger, smaller)
    else:
        raise SpecificationError(f"method = {method!r} is not known; choose 'D1', 'D2' or 'D3'.")
    return MultiTest(
        result.method, result.statistic, result.df1, result.df2, result.p_value, result.riv, terms
    )


def _check_nested(larger: Fits, smaller: Fits, others: list[str]) -> None:
    """Refuse a smaller model that is not the larger one without some terms."""
    why = []
    if others:
        why.append(f"it has other terms ({', '.join(others)})")
    if len(smaller) != len(larger):
        why.append(f"it was fitted to {len(smaller)} tables, the larger one to {len(larger)}")
    left = [fits.analysis.partition("~")[0].strip() for fits in (larger, smaller) if "~" in fits.analysis]
    if len(set(left)) > 1:
        why.append(f"its response is {left[1]!r}, that of the larger one {left[0]!r}")
    if why:
        raise SpecificationError(f"the smaller model is not nested in the larger one: {'; '.join(why)}.")


def _canonical(name: str) -> str:
    """The canonical spelling of a name: ``a:b`` for ``b:a``, ``log(x)`` for ``np.log(x)``, x first in ``cor(z, x | g)``.

    Colons within brackets or quotes are kept.
    """
    if match := re.fullmatch(r"cor\((.*), (.*) \| (.*)\)", name):
        first, second = sorted(_canonical(part) for part in match.group(1, 2))
        return f"cor({first}, {second} | {match.group(3)})"
    name = re.sub(r"\bnp\.(?=\w+\()", "", name)
    parts, depth, quoted = [""], 0, False
    for sign in name:
        quoted ^= sign == "`"
        depth += not quoted and (sign in "([") - (sign in ")]")
        if sign == ":" and depth == 0 and not quoted:
            parts.append("")
        else:
            parts[-1] += sign
    return ":".join(sorted(parts))


def _d3_of_fits(larger: Fits, smaller: Fits | None) -> MultiTest:
    if smaller is None:
        raise SpecificationError("D3 needs both models: compare(larger, smaller, 'D3').")
    for fits in (larger, smaller):
        if fits.likelihood is None:
            raise SpecificationError(
                "D3 needs log-likelihoods at given parameters: linear models, and linear mixed models with "
                "one grouping factor, fitted with reml=False, or of family bernoulli, binomial, poisson or ordinal."
            )
    if smaller.component_names and larger.quadrature != smaller.quadrature:
        raise SpecificationError(
            "D3 compares log-likelihoods, but these were computed with quadrature="
            f"{larger.quadrature} and {smaller.quadrature}. Fit "
            "both with the same number of nodes."
        )
    others = {_canonical(n) for n in smaller.component_names} - {
        _canonical(n) for n in larger.component_names
    }
    if others:
        raise SpecificationError(
            "the smaller model is not nested in the larger one: it has other variance components "
            f"({', '.join(sorted(others))})."
        )
    of_larger, of_smaller = larger.likelihood, smaller.likelihood
    assert of_larger is not None and of_smaller is not None  # checked above
    own, average = (2 * (of_larger(at) - of_smaller(at)) for at in ("own", "average"))
    k = larger.parameters - smaller.parameters
    if k <= 0:
        raise SpecificationError("the larger model has no more parameters than the smaller one.")
    if own.mean() < -1e-6 * (1 + np.abs(of_larger("own")).mean()):
        raise SpecificationError(
            f"the larger model has the lower log-likelihood (by {-own.mean() / 2:.4g} on average), which is impossible "
            "for the same rows, weights and offset. Fit both models in the same way."
        )
    _warn_of_boundary(larger, smaller)
    return d3(own, average, k)


def _warn_of_boundary(larger: Fits, smaller: Fits) -> None:
    """Warn if variance components are tested and fits are singular, so the statistic is not chi-squared."""
    kept = {_canonical(name) for name in smaller.component_names}
    tested = [name for name in larger.component_names if _canonical(name) not in kept]
    singular = int(larger.singular.sum())
    if tested and singular:
        warnings.warn(
            f"D3 tests {', '.join(tested)}, and {singular} of {len(larger)} fits of the larger model are singular: "
            "a variance of 0 or a correlation of 1 lies on the boundary of the parameter space, where the statistic "
            "is smaller than its chi-squared distribution implies (Self & Liang 1987), so the p-value is too large.",
            StatisticalWarning,
            skip_file_prefixes=PACKAGE,
        )


def _shape(Q: Array) -> tuple[int, int]:
    M, k = Q.shape
    if M < 2:
        raise SpecificationError(
            f"{M} imputation has no variance between imputations; tests need at least two."
        )
    return M, k


def _df_li(r: float, k: int, M: int) -> float:
    """Denominator df of Li, Raghunathan & Rubin 1991; infinite (chi-squared) if r = 0, as when nothing is missing."""
    t = k * (M - 1)
    if r <= 0:
        return np.inf
    return 4 + (t - 4) * (1 + (1 - 2 / t) / r) ** 2 if t > 4 else t * (1 + 1 / k) * (1 + 1 / r) ** 2 / 2


def _df_reiter(r: float, k: int, M: int, df_complete: float) -> float:
    """Denominator df of Reiter 2007, for small samples. They exist for t > 4 and v > 4 (1 + a)."""
    t = k * (M - 1)
    v = df_complete * (df_complete + 1) / (df_complete + 3)
    a = r * t / (t - 2) if t > 2 else np.inf
    c1, c2 = v - 2 * (1 + a), v - 4 * (1 + a)
    if t <= 4 or not c2 > 0:
        raise SpecificationError(
            f"Reiter's degrees of freedom do not exist for k (M - 1) = {t}, r = {r:.3g}, df_complete = "
            f"{df_complete:g}; use more imputations, or df_complete=inf."
        )
    terms = (
        a**2 * c1 / ((1 + a) ** 2 * c2)
        + 8 * a**2 * c1 / ((1 + a) * c2**2)
        + 4 * a**2 / ((1 + a) * c2)
        + 4 * a**2 / (c2 * c1)
        + 16 * a**2 * c1 / c2**3
        + 8 * a**2 / c2**2
    )
    return 4 + 1 / (1 / c2 + terms / (t - 4))


def _result(method: str, statistic: float, k: int, df2: float, r: float) -> MultiTest:
    p = stats.f.sf(statistic, k, df2) if np.isfinite(df2) else stats.chi2.sf(k * statistic, k)
    return MultiTest(method, float(statistic), k, float(df2), float(p), float(r))
