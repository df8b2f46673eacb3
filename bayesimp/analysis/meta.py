"""Individual-patient-data meta-analysis: Rubin's rules within each study, then random effects between studies.

The order matters (Burgess, White, Resche-Rigon & Wood 2013): each study's estimate is pooled over its imputations by
Rubin's rules, and the studies are then combined once:

    y_s ~ N(theta_s, v_s),  theta_s ~ N(mu, tau^2),  w_s = 1 / (v_s + tau^2),  mu = sum w_s y_s / sum w_s

    tau^2   DL    (Q - (S - 1)) / (sum u - sum u^2 / sum u) or 0,           DerSimonian & Laird 1986
                  u = 1 / v, Q = sum u (y - ybar_u)^2
            REML  minimises sum log(v + tau^2) + log sum w + sum w (y - mu)^2      Viechtbauer 2005
    se(mu)  Wald  1 / sqrt(sum w), normal
            HK    sqrt{ sum w (y - mu)^2 / ((S - 1) sum w) }, t(S - 1)      Hartung & Knapp 2001
    new study     mu -+ t(S - 2) sqrt(tau^2 + se(mu)^2)                     Higgins et al. 2009, JRSS A 172
    I^2           max(0, (Q - (S - 1)) / Q)                                 Higgins & Thompson 2002
    Q             chi-squared(S - 1) if tau^2 = 0                           Cochran 1954
    limits of tau^2  where sum w (y - mu)^2 equals a quantile of chi-squared(S - 1) (Q-profile)         Viechtbauer 2007
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import stats
from scipy.optimize import brentq, minimize_scalar

from bayesimp.analysis.fit import Fits, completed_tables, fit_each
from bayesimp.analysis.named import check_options
from bayesimp.analysis.pool import Pooled, pool
from bayesimp.errors import PACKAGE, BayesimpError, DataError, SpecificationError, StatisticalWarning
from bayesimp.kernels.laplace.fit import EVENTS, SEPARATED
from bayesimp.kinds import checks_arguments
from bayesimp.layout import Printed, tabulated
from bayesimp.markup import framed, table
from bayesimp.messages import listing

__all__ = ["MetaAnalysis", "StudyPooling", "meta_analyse", "pool_by_study", "pool_studies", "tau2_dl", "tau2_limits",
           "tau2_reml"]  # fmt: skip


@dataclass(frozen=True)
class MetaAnalysis:
    """A random-effects meta-analysis.

    ``low`` and ``high`` are limits for mu, ``new_low`` and ``new_high`` for a new study, ``tau2_low`` and ``tau2_high``
    for tau^2; ``Q_p`` is the p-value of Q.
    """

    estimate: float
    std_error: float
    low: float
    high: float
    new_low: float
    new_high: float
    tau2: float
    I2: float
    Q: float
    studies: int
    method: str
    interval: str
    Q_p: float = np.nan
    tau2_low: float = np.nan
    tau2_high: float = np.nan


@checks_arguments
@dataclass(frozen=True)
class StudyPooling(Printed):
    """Result of `pool_by_study`.

    Attributes
    ----------
    studies
        Tidy table with a row for each term and study: term, study, estimate, std.error, conf.low, conf.high, df,
        fmi, weight (percent of the term's weights).
    overall
        Table with a row for each term: estimate, std.error, conf.low, conf.high, pred.low, pred.high, tau2, I2,
        Q, studies, method, interval, Q.p.value, tau2.low, tau2.high.
    left_out
        Studies without an estimate, and why.
    level
        Confidence level of all intervals.
    """

    studies: pd.DataFrame
    overall: pd.DataFrame
    left_out: dict[Any, str]
    level: float = 0.95

    def tidy(self) -> pd.DataFrame:
        """Estimates of the studies, then the overall ones, in one table.

        Columns: type ("study" or "summary"), study, term, estimate, std_error, conf_low, conf_high, weight, pred_low,
        pred_high.
        """
        kept = ["type", "study", "term", "estimate", "std.error", "conf.low", "conf.high"]
        rows = [self.studies.assign(type="study"), self.overall.assign(type="summary", study="overall")]
        table = pd.concat(rows, ignore_index=True)[[*kept, "weight", "pred.low", "pred.high"]]
        return table.rename(columns=lambda name: name.replace(".", "_"))

    def _said(self) -> str:
        return tabulated(self.overall)

    def _repr_html_(self) -> str:
        return framed(f"Meta-analysis of {self.overall['studies'].max():,} studies", [table(self.overall)])


def pool_by_study(
    imputed: Any, analysis: str | Callable, study: str, *, terms: Sequence[str] | None = None,
    method: str = "REML", interval: str = "HK", level: float = 0.95, **options: Any,
) -> StudyPooling:  # fmt: skip
    """Fit a single-level analysis in every study and table, pool by Rubin's rules within study, then meta-analyse.

    Parameters
    ----------
    imputed, analysis
        As for `bayesimp.analysis.fit_each`; the formula must not have a random term.
    study
        Name of the column that identifies the study.
    terms
        Coefficients to meta-analyse; None: all.
    method, interval
        As for `meta_analyse`.
    options
        Options of `bayesimp.analysis.fit_each`: family, link, trials, weights, offset.

    Studies in which the analysis cannot be fitted, or whose data are separated, are left out with a warning and named in
    ``left_out``.
    """
    check_options(options, pool_by_study)
    tables = completed_tables(imputed)
    frames = [tables.frame(k) for k in range(tables.m)]
    if study not in frames[0].columns:
        raise SpecificationError(
            f"the completed tables have no column {study!r}; name the column that identifies the study."
        )
    rows, left_out = [], {}
    places = frames[0].groupby(study, sort=True, observed=True).indices
    for name, place in places.items():
        try:
            fits = _fits_of_study([frame.iloc[place] for frame in frames], analysis, name, options)
            pooled = pool(fits.estimates, fits.covariances, fits.df_complete, terms=fits.names).to_frame(
                level
            )
        except (BayesimpError, np.linalg.LinAlgError) as problem:
            left_out[name] = str(problem)
            continue
        rows.append(pooled.assign(study=name))
    if len(rows) < 2:
        few = f"{len(rows)} of {len(places)} studies have an estimate; a meta-analysis needs at least two."
        raise SpecificationError(few + _reason(left_out))
    if left_out:
        first, why = next(iter(left_out.items()))
        warnings.warn(
            f"{len(left_out)} of {len(places)} studies are left out of the meta-analysis; {listing([first])}: {why}",
            StatisticalWarning,
            skip_file_prefixes=PACKAGE,
        )
    return _combined(pd.concat(rows, ignore_index=True), terms, left_out, method, interval, level)


def pool_studies(
    pooled: Mapping[Any, pd.DataFrame | Pooled], *, terms: Sequence[str] | None = None, method: str = "REML",
    interval: str = "HK", level: float = 0.95,
) -> StudyPooling:  # fmt: skip
    """Meta-analyse what studies have pooled by themselves, where their rows cannot be brought together.

    Parameters
    ----------
    pooled
        By study, ``fits.pool()`` of the study's own completed tables, or its table ``.to_frame()``, of which the columns
        term, estimate and std.error are used; others are kept.
    terms, method, interval, level
        As for `pool_by_study`, which gives the same numbers from the completed tables.

    Raises
    ------
    SpecificationError
        Fewer than two studies; tables without these columns; a term that no study has.
    """
    if not isinstance(pooled, Mapping):
        raise SpecificationError(
            f"pool_studies takes pooled results by study, {{'A': fits.pool(), 'B': ...}}; got {type(pooled).__name__}."
        )
    rows = []
    for study, each in pooled.items():
        frame = each.to_frame(level) if isinstance(each, Pooled) else each
        if not isinstance(frame, pd.DataFrame) or not {"term", "estimate", "std.error"} <= set(frame.columns):
            raise SpecificationError(
                f"study {study!r}: give fits.pool(), or a table with columns term, estimate and std.error; got "
                f"{type(each).__name__}."
            )
        rows.append(frame.assign(study=study))
    if len(rows) < 2:
        raise SpecificationError(f"{len(rows)} studies have an estimate; a meta-analysis takes two.")
    table = pd.concat(rows, ignore_index=True)
    if unknown := [term for term in terms or () if term not in set(table["term"])]:
        raise SpecificationError(
            f"No study has the term {unknown[0]!r}; there are {listing(table['term'].unique())}."
        )
    return _combined(table, terms, {}, method, interval, level)


def _combined(
    table: pd.DataFrame, terms: Sequence[str] | None, left_out: dict[Any, str], method: str, interval: str,
    level: float,
) -> StudyPooling:  # fmt: skip
    """Estimates of studies with their random-effects means, term by term."""
    columns = ["term", "study", "estimate", "std.error", "conf.low", "conf.high", "df", "fmi"]
    table = table.reindex(columns=columns)
    table = table[table["term"].isin(table["term"].unique() if terms is None else terms)]
    table = table.sort_values("term", key=lambda t: pd.factorize(t)[0], kind="stable", ignore_index=True)
    overall, weights = [], pd.Series(index=table.index, dtype=float)
    for term, part in table.groupby("term", sort=False):
        meta = meta_analyse(
            part["estimate"], part["std.error"] ** 2, method=method, interval=interval, level=level
        )
        weight = 1 / (part["std.error"] ** 2 + meta.tau2)
        weights[part.index] = 100 * weight / weight.sum()
        overall.append({"term": term, **_row(meta)})
    return StudyPooling(table.assign(weight=weights), pd.DataFrame(overall), left_out, level)


def _reason(left_out: Mapping[Any, str]) -> str:
    """The commonest reason why studies have no estimate, as a sentence; empty if all have one."""
    if not left_out:
        return ""
    ((why, count),) = Counter(left_out.values()).most_common(1)
    return f" In {count} of the {len(left_out)} without one: {why}"


def _fits_of_study(
    frames: list[pd.DataFrame], analysis: str | Callable, study: Hashable, options: dict[str, Any]
) -> Fits:
    """The fits within a study; warnings name the study.

    Raises
    ------
    DataError
        The data are separated in a table, so there is no finite estimate.
    """
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fits = fit_each(frames, analysis, **options)
    separated = 0 if fits.codes is None else int(np.count_nonzero(fits.codes & SEPARATED))
    if separated:
        raise DataError(f"in {separated} of {len(fits)} tables {EVENTS[SEPARATED][1]}.")
    for warning in caught:
        warnings.warn(f"study {study!r}: {warning.message!s}", warning.category, skip_file_prefixes=PACKAGE)
    return fits


def meta_analyse(
    y: ArrayLike, v: ArrayLike, *, method: str = "REML", interval: str = "HK", level: float = 0.95
) -> MetaAnalysis:
    """Random-effects meta-analysis of estimates y (S,) with variances v (S,).

    Parameters
    ----------
    method
        Estimator of tau^2: ``"REML"`` or ``"DL"``.
    interval
        Interval for mu: ``"HK"`` (Hartung & Knapp) or ``"Wald"``. The prediction interval uses the same se(mu).

    Raises
    ------
    SpecificationError
        There are fewer than two studies, or variances are not positive and finite.
    """
    y, v = np.asarray(y, dtype=float), np.asarray(v, dtype=float)
    S = len(y)
    if S < 2 or v.shape != y.shape:
        raise SpecificationError(
            f"{S} estimates and variances of shape {v.shape}: a meta-analysis needs one of each for at least two "
            "studies."
        )
    if not (np.isfinite(y).all() and np.isfinite(v).all() and np.all(v > 0)):
        raise SpecificationError("estimates must be finite, their variances positive and finite.")
    if method not in ("REML", "DL") or interval not in ("HK", "Wald"):
        raise SpecificationError(f"method {method!r}, interval {interval!r}: choose REML or DL, HK or Wald.")
    tau2 = tau2_reml(y, v) if method == "REML" else tau2_dl(y, v)
    w = 1 / (v + tau2)
    mu = w @ y / w.sum()
    if interval == "HK":
        se = np.sqrt(w @ (y - mu) ** 2 / ((S - 1) * w.sum()))
        half = stats.t.ppf(0.5 + level / 2, S - 1) * se
    else:
        se = 1 / np.sqrt(w.sum())
        half = stats.norm.ppf(0.5 + level / 2) * se
    new = stats.t.ppf(0.5 + level / 2, S - 2) * np.sqrt(tau2 + se**2) if S > 2 else np.nan
    Q = _cochran(y, v)
    I2 = max(0.0, (Q - (S - 1)) / Q) if Q > 0 else 0.0
    Q_p = float(stats.chi2(S - 1).sf(Q))
    return MetaAnalysis(
        mu, se, mu - half, mu + half, mu - new, mu + new, tau2, I2, Q, S, method, interval, Q_p, *tau2_limits(y, v, level)
    )  # fmt: skip


def tau2_limits(y: ArrayLike, v: ArrayLike, level: float = 0.95) -> tuple[float, float]:
    """Q-profile limits of tau^2, set to 0 if the sum is too small even there; exact for normal estimates and known v."""
    y, v = np.asarray(y, dtype=float), np.asarray(v, dtype=float)

    def excess(tau2: float, quantile: float) -> float:
        w = 1 / (v + tau2)
        return float(w @ (y - w @ y / w.sum()) ** 2 - quantile)

    limits = []
    for share in (0.5 + level / 2, 0.5 - level / 2):
        quantile = stats.chi2(len(y) - 1).ppf(share)
        top = v.max()
        while excess(top, quantile) > 0:
            top *= 4
        limits.append(0.0 if excess(0.0, quantile) <= 0 else float(brentq(excess, 0.0, top, (quantile,))))
    return limits[0], limits[1]


def tau2_dl(y: ArrayLike, v: ArrayLike) -> float:
    """DerSimonian & Laird's moment estimate, defined as 0 if it is negative."""
    y, u = np.asarray(y, dtype=float), 1 / np.asarray(v, dtype=float)
    excess = (_cochran(y, 1 / u) - (len(y) - 1)) / (u.sum() - u @ u / u.sum())
    return max(0.0, float(excess))


def tau2_reml(y: ArrayLike, v: ArrayLike) -> float:
    """REML estimate, by a search over log tau^2 starting from a grid; 0 if its likelihood is at least as high."""
    y, v = np.asarray(y, dtype=float), np.asarray(v, dtype=float)

    def deviance(tau2: float) -> float:
        w = 1 / (v + tau2)
        mu = w @ y / w.sum()
        return np.sum(np.log(v + tau2)) + np.log(w.sum()) + w @ (y - mu) ** 2

    # tau^2 is below the sum of squares of y; the grid finds the deeper valley if there are two
    top = np.log(np.sum((y - y.mean()) ** 2) + v.max())
    grid = np.linspace(np.log(v.min()) - 12, top, 40)
    best = int(np.argmin([deviance(np.exp(x)) for x in grid]))
    low, high = grid[max(best - 1, 0)], grid[min(best + 1, 39)]
    near = minimize_scalar(
        lambda x: deviance(np.exp(x)), bounds=(low, high), method="bounded", options={"xatol": 1e-10}
    )
    found = float(np.exp(near.x))
    return found if deviance(found) < deviance(0.0) else 0.0


def _cochran(y: np.ndarray, v: np.ndarray) -> float:
    u = 1 / np.asarray(v)
    return float(u @ (y - u @ y / u.sum()) ** 2)


def _row(meta: MetaAnalysis) -> dict:
    return {
        "estimate": meta.estimate, "std.error": meta.std_error, "conf.low": meta.low, "conf.high": meta.high,
        "pred.low": meta.new_low, "pred.high": meta.new_high, "tau2": meta.tau2, "I2": meta.I2, "Q": meta.Q,
        "studies": meta.studies, "method": meta.method, "interval": meta.interval, "Q.p.value": meta.Q_p,
        "tau2.low": meta.tau2_low, "tau2.high": meta.tau2_high,
    }  # fmt: skip
