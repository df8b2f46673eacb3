"""Rubin's rules: combine M estimates and their covariances into one estimate and its uncertainty.

With Q_l and U_l, l = 1..M, from the completed tables (Rubin 1987, eq. 3.1.2 - 3.1.10),

    estimate = mean Q_l         ubar = mean U_l         b = sum (Q_l - estimate)^2 / (M - 1)
    t        = ubar + (1 + 1/M) b                        total variance
    riv      = (1 + 1/M) b / ubar                        relative increase in variance
    lambda   = (1 + 1/M) b / t                           proportion of variance due to missing values
    fmi      = (riv + 2 / (df + 3)) / (riv + 1) = lambda + (1 - lambda) 2 / (df + 3)
    1 / df   = lambda^2 / (M - 1) + (dfcom + 3) / (dfcom (dfcom + 1) (1 - lambda))      Barnard & Rubin 1999

Two limits are part of the rule: lambda = 0 gives df = dfcom (dfcom + 1) / (dfcom + 3), and dfcom = inf gives Rubin's
(M - 1) / lambda^2. lambda has no lower bound other than 0.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from bayesimp.analysis.gaps import NOT_CONGENIAL
from bayesimp.analysis.pooled_text import as_text, shown_columns
from bayesimp.errors import DataError, SpecificationError
from bayesimp.events import Event, event_table
from bayesimp.kinds import checks_arguments
from bayesimp.layout import Printed
from bayesimp.markup import framed, paragraph
from bayesimp.markup import table as as_html

__all__ = ["Pooled", "barnard_rubin", "pool", "pool_scalars"]

Array = NDArray[np.float64]


@checks_arguments
@dataclass(frozen=True)
class Pooled(Printed):
    """Pooled estimates, with the symbols of the module docstring, (k,) each.

    Attributes
    ----------
    terms
        (k,) names of the estimates.
    m
        Number of imputations.
    estimate, ubar, b, t, dfcom, df, riv, lambda_, fmi
        See the module docstring; ``lambda_`` is called ``lambda`` in tables.
    covariance
        (k, k) total covariance Ubar + (1 + 1/M) B; nan off the diagonal if only variances were given.
    scale
        (k,) the scale on which each estimate was pooled: ``"estimate"`` unless it is a variance component.
    notes
        Term -> why its estimate or interval is missing.
    log
        Events: how the analysis compares with the imputation model; see `events`.
    replicates
        The pooled estimates and variances, (M, k) each, from which Monte Carlo errors are computed; None if Rubin's
        rules were not used.
    """

    terms: tuple[str, ...]
    m: int
    estimate: Array
    ubar: Array
    b: Array
    t: Array
    dfcom: Array
    df: Array
    riv: Array
    lambda_: Array
    fmi: Array
    covariance: Array
    scale: tuple[str, ...]
    notes: Mapping[str, str] = field(default_factory=dict)
    log: tuple[Event, ...] = ()
    replicates: tuple[Array, Array] | None = field(default=None, repr=False)

    @property
    def events(self) -> pd.DataFrame:
        """Events as a DataFrame (kind, where, message, count): terms that the imputation model lacks; see `Fits`."""
        return event_table(self.log)

    @property
    def std_error(self) -> Array:
        """Standard errors (k,), the square roots of the total variances."""
        return np.sqrt(self.t)

    @property
    def mc_error(self) -> Array:
        """Monte Carlo standard errors of the estimates, sqrt(b / m), (k,): their variation over runs of m imputations.

        For components they are in the units of ``value`` (delta method), otherwise in those of ``estimate``.
        """
        slope = [SLOPE[scale](x) for scale, x in zip(self.scale, self.estimate, strict=True)]
        return np.sqrt(self.b / self.m) * np.array(slope, dtype=float)

    def monte_carlo(self, level: float = 0.95) -> pd.DataFrame:
        """Monte Carlo errors of all pooled numbers by the jackknife (`bayesimp.analysis.monte_carlo`).

        Returns
        -------
        DataFrame by term: estimate, std.error, df, p.value, conf.low, conf.high, fmi, on the scale of pooling.

        Raises
        ------
        SpecificationError
            The result does not come from estimates and variances of each table.
        """
        from bayesimp.analysis.monte_carlo import monte_carlo_errors

        if self.replicates is None:
            raise SpecificationError(
                "This result does not keep the estimates of each table, so `mc_error` is its only Monte Carlo error. "
                "Pool again with pool(Q, U), fits.pool() or a scale of components other than 'median'."
            )
        return pd.DataFrame(
            monte_carlo_errors(*self.replicates, self.dfcom, level), index=pd.Index(self.terms, name="term")
        )

    def imputations_needed(self, *, share: float = 0.1, cv: float = 0.05) -> pd.DataFrame:
        """The number of imputations needed for a given Monte Carlo error.

        Parameters
        ----------
        share
            Largest Monte Carlo error of the estimate, in standard errors.
        cv
            Largest coefficient of variation of the standard error between runs (von Hippel 2020).

        Returns
        -------
        DataFrame by term: mc.error, mc.share, fmi.high, for.estimate, for.std.error, needed, on the scale of pooling;
        see `bayesimp.analysis.monte_carlo.enough_imputations`.
        """
        from bayesimp.analysis.monte_carlo import enough_imputations

        table = enough_imputations(self.b, self.std_error, self.fmi, self.m, share=share, cv=cv)
        return table.set_index(pd.Index(self.terms, name="term"))

    def interval(self, level: float = 0.95) -> Array:
        """Limits (k, 2): estimate -+ quantile of t(df) times standard error; nan where df is 0."""
        if not 0 < level < 1:
            raise SpecificationError(f"level = {level} is not between 0 and 1.")
        half = _t(self.df).ppf(0.5 + level / 2) * self.std_error
        return np.column_stack([self.estimate - half, self.estimate + half])

    def to_frame(self, level: float = 0.95) -> pd.DataFrame:
        """Table with the column names of R's mice: ``table["std.error"]``, ``table["lambda"]``.

        The columns are term, m, estimate, std.error, statistic, df, p.value, conf.low, conf.high, riv, lambda, fmi,
        ubar, b, t, dfcom and mc.error (see `mc_error`). For variance components there are also ``scale`` and, as
        standard deviations or correlations, ``value``, ``value.low`` and ``value.high``, but no statistic and p.value.
        """
        with np.errstate(divide="ignore", invalid="ignore"):
            statistic = self.estimate / self.std_error
        low, high = self.interval(level).T
        table = pd.DataFrame(
            {
                "term": self.terms, "m": self.m, "estimate": self.estimate, "std.error": self.std_error,
                "statistic": statistic, "df": self.df, "p.value": 2 * _t(self.df).sf(np.abs(statistic)),
                "conf.low": low, "conf.high": high, "riv": self.riv, "lambda": self.lambda_, "fmi": self.fmi,
                "ubar": self.ubar, "b": self.b, "t": self.t, "dfcom": self.dfcom, "mc.error": self.mc_error,
            }
        )  # fmt: skip
        if any(scale != "estimate" for scale in self.scale):
            table = table.drop(columns=["statistic", "p.value"])  # log sd = 0 is not a hypothesis of interest
            table.insert(1, "scale", self.scale)
            for j, name in enumerate(("estimate", "conf.low", "conf.high")):
                back = [BACK[scale](x) for scale, x in zip(self.scale, table[name], strict=True)]
                table.insert(3 + j, ("value", "value.low", "value.high")[j], back)
        return table

    def tidy(self, level: float = 0.95, exponentiate: bool = False) -> pd.DataFrame:
        """`to_frame` with underscores in the column names: std_error, p_value, conf_low, conf_high.

        term, estimate, std_error, statistic, df, p_value, conf_low and conf_high come first. exponentiate: estimates
        and limits become odds ratios or rate ratios; standard errors stay on the log scale, as in R's broom.

        Raises
        ------
        SpecificationError
            Variance components cannot be exponentiated; ``value`` has them as standard deviations.
        """
        table = self.to_frame(level)
        if exponentiate:
            if "value" in table:
                raise SpecificationError(
                    "variance components cannot be exponentiated; the column 'value' has them as standard deviations."
                )
            shown = ["estimate", "conf.low", "conf.high"]
            table[shown] = np.exp(table[shown])
        first = ["term", "estimate", "std.error", "statistic", "df", "p.value", "conf.low", "conf.high"]
        order = [name for name in first if name in table] + [name for name in table if name not in first]
        return table[order].rename(columns=lambda name: name.replace(".", "_"))

    def _said(self) -> str:
        """The main columns; `to_frame` has all of them."""
        return "\n".join([f"Pooled over {self.m} imputations", as_text(self.to_frame()), *self._remarks()])

    def _repr_html_(self) -> str:
        table = shown_columns(self.to_frame())
        remarks = [paragraph(text) for text in self._remarks()]
        return framed(f"Pooled over {self.m} imputations", [as_html(table), *remarks])

    def _remarks(self) -> list[str]:
        """Notes on terms, and a remark if the imputation model lacks terms of the analysis."""
        gaps = sum(event.kind == NOT_CONGENIAL for event in self.log)
        lacks = [f"not congenial: the imputation model lacks terms, see {gaps} of .events"] if gaps else []
        return [*(f"{term}: {why}" for term, why in self.notes.items()), *lacks]


BACK: dict[str, Callable] = {
    "estimate": lambda x: x,
    "log": np.exp,
    "sd": lambda x: x,
    "variance": lambda x: np.sqrt(x) if not x < 0 else 0.0,  # a limit below zero; `pool_components` notes it
    "fisher z": np.tanh,
    "median": lambda x: x,
}
SLOPE: dict[str, Callable] = {  # d value / d estimate
    "estimate": lambda x: 1.0,
    "log": np.exp,
    "sd": lambda x: 1.0,
    "variance": lambda x: 0.5 / np.sqrt(x) if x > 0 else np.nan,
    "fisher z": lambda x: 1 - np.tanh(x) ** 2,
    "median": lambda x: np.nan,
}


def pool(
    Q: Any, U: ArrayLike | None = None, df_complete: ArrayLike = np.inf, *,
    terms: Sequence[str] | None = None, scale: str | Sequence[str] = "estimate",
) -> Pooled:  # fmt: skip
    """Pool arrays, or `Fits` (``fits.pool()``), by Rubin's rules.

    Parameters
    ----------
    Q
        (M, k) estimates.
    U
        (M, k, k) covariances, or (M, k) variances.
    df_complete
        Residual degrees of freedom if nothing were missing, a number or (k,); for fits also ``"satterthwaite"``.

    Raises
    ------
    SpecificationError
        There are fewer than two imputations, hence no variance between them, or shapes do not match.
    DataError
        A variance is negative.
    """
    if hasattr(Q, "estimates") and hasattr(Q, "covariances") and U is None:
        unknown = not isinstance(df_complete, str) and np.isscalar(df_complete) and np.isinf(df_complete)
        return Q.pool() if unknown else Q.pool(df_complete)
    Q, U, dfcom = _checked(Q, U, df_complete)
    (M, k), (estimate, Ubar) = Q.shape, (Q.mean(axis=0), U.mean(axis=0))
    with np.errstate(invalid="ignore"):
        deviations = Q - estimate
        B = deviations.T @ deviations / (M - 1)
    ubar, b = np.diag(Ubar).copy(), np.diag(B).copy()
    if np.any(ubar < 0):
        raise DataError("a variance within imputations is negative.")
    T = Ubar + (1 + 1 / M) * B
    t = np.diag(T).copy()
    with np.errstate(divide="ignore", invalid="ignore"):
        riv, lambda_ = (1 + 1 / M) * b / ubar, (1 + 1 / M) * b / t
    df = barnard_rubin(lambda_, M, dfcom)
    fmi = lambda_ + (1 - lambda_) * 2 / (df + 3)
    names = tuple(f"Q{j + 1}" for j in range(k)) if terms is None else tuple(terms)
    scales = (scale,) * k if isinstance(scale, str) else tuple(scale)
    replicates = (Q, np.einsum("mkk->mk", U).copy())
    return Pooled(
        names, M, estimate, ubar, b, t, dfcom, df, riv, lambda_, fmi, T, scales, replicates=replicates
    )


def _checked(Q: Any, U: ArrayLike | None, df_complete: ArrayLike) -> tuple[Array, Array, Array]:
    """(M, k) estimates, (M, k, k) covariances (nan where unknown), (k,) degrees of freedom; anything else is refused."""
    if U is None:
        raise SpecificationError(
            f"pool takes estimates (M, k) and their covariances, or fits; got {type(Q).__name__}. For imputations: "
            "imp.analyse('y ~ x + (1 | cluster)').pool()."
        )
    Q, U = np.asarray(Q, dtype=float), np.asarray(U, dtype=float)
    if Q.ndim != 2 or U.shape not in (Q.shape, (*Q.shape, Q.shape[-1])):
        raise SpecificationError(f"Q must be (M, k) and U (M, k, k) or (M, k); got {Q.shape} and {U.shape}.")
    if isinstance(df_complete, str):
        raise SpecificationError(
            f"df_complete = {df_complete!r} is for fits of a formula, fits.pool({df_complete!r}). For arrays give "
            "numbers."
        )
    M, k = Q.shape
    if M < 2:
        raise SpecificationError(
            f"{M} imputation has no variance between imputations; pooling needs at least two. For one table print the "
            "fits, or use fits[0].to_frame()."
        )
    dfcom = np.asarray(df_complete, dtype=float)
    if dfcom.shape not in ((), (1,), (k,)):
        raise SpecificationError(
            f"df_complete must be a number, or one for each of {k}; got shape {dfcom.shape}."
        )
    dfcom = np.broadcast_to(dfcom, (k,)).copy()
    if not np.all(dfcom > 0):
        raise SpecificationError(f"df_complete must be positive, got {df_complete!r}.")
    if U.ndim == 2:
        U = np.where(np.eye(k, dtype=bool), U[:, :, None], np.nan)
    return Q, U, dfcom


def pool_scalars(Q: ArrayLike, U: ArrayLike, df_complete: float = np.inf) -> Pooled:
    """`pool` for one quantity, with estimates Q (M,) and variances U (M,)."""
    return pool(np.asarray(Q, dtype=float)[:, None], np.asarray(U, dtype=float)[:, None], df_complete)


def barnard_rubin(lambda_: ArrayLike, m: int, df_complete: ArrayLike = np.inf) -> Array:
    """Barnard & Rubin's (1999) degrees of freedom; lambda in [0, 1], and nan gives nan."""
    lambda_, dfcom = np.broadcast_arrays(np.asarray(lambda_, float), np.asarray(df_complete, float))
    with np.errstate(divide="ignore", invalid="ignore"):
        by_missing = lambda_**2 / (m - 1)
        share = np.where(np.isinf(dfcom), 1.0, (dfcom + 1) / (dfcom + 3))
        by_complete = np.where(np.isinf(dfcom), 0.0, 1 / (share * dfcom * (1 - lambda_)))
        return 1 / (by_missing + by_complete)


def _t(df: Array) -> Any:
    """The t distribution: normal for infinite df, nan unless df is above 0."""
    return stats.t(np.where(df > 0, df, np.nan))
