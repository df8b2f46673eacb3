"""Fits of one analysis to every completed table: estimates, covariances, variance components, events."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from bayesimp.analysis.compare import MultiTest, d1
from bayesimp.analysis.estimands import Estimands
from bayesimp.analysis.gaps import NOT_CONGENIAL
from bayesimp.analysis.groups import Grouping
from bayesimp.analysis.hypotheses import combinations as parsed_combinations
from bayesimp.analysis.hypotheses import hypotheses as parsed_hypotheses
from bayesimp.analysis.hypotheses import joint_satterthwaite, satterthwaite
from bayesimp.analysis.pool import Pooled, pool
from bayesimp.analysis.pooled_components import pool_components
from bayesimp.analysis.pooled_text import as_text
from bayesimp.analysis.row_model import RowModel
from bayesimp.errors import SpecificationError
from bayesimp.events import Event, event_table
from bayesimp.kinds import checks_arguments
from bayesimp.layout import Printed

__all__ = ["Fit", "Fits"]

Array = NDArray[np.float64]
SATTERTHWAITE, KENWARD_ROGER = "satterthwaite", "kenward-roger"


class Fit(NamedTuple):
    """One fit: named estimates, their covariance and the residual degrees of freedom."""

    estimate: pd.Series
    covariance: pd.DataFrame
    df_residual: float

    def to_frame(self, level: float = 0.95) -> pd.DataFrame:
        """Table with a row per coefficient: term, estimate, std.error, conf.low, conf.high (t with the residual df)."""
        error = np.sqrt(np.diag(self.covariance))
        half = stats.t(self.df_residual).ppf(0.5 + level / 2) * error
        e = self.estimate.to_numpy()
        columns = {"term": list(self.estimate.index), "estimate": e, "std.error": error}
        return pd.DataFrame({**columns, "conf.low": e - half, "conf.high": e + half})


@checks_arguments
@dataclass(frozen=True)
class Fits(Printed, Estimands):
    """Fits of one analysis to M completed tables.

    Attributes
    ----------
    analysis
        The formula, or the name of the function.
    names
        (k,) names of the coefficients.
    estimates, covariances
        (M, k) and (M, k, k).
    df_complete
        Residual degrees of freedom of a completed table (the smallest if they differ); inf if unknown and for
        non-normal families. For mixed models n - p - (number of variance parameters), as lme4's ``df.residual`` and
        hence R's mice. That is too many for cluster-level covariates: use ``pool(df_complete="satterthwaite")``, or
        give a better number, or one for each coefficient.
    converged, singular
        (M,) bool.
    component_names, components, components_cov
        (c,) names ``"sd(Intercept | school)"``, ``"cor(...)"``, ``"sd(residual)"``; (M, c) log standard
        deviations and Fisher z of correlations; (M, c, c), nan where singular or the engine has none.
    loglik
        (M,) (restricted) log-likelihoods; nan for functions.
    parameters
        Number of estimated parameters.
    likelihood
        ``likelihood("own")`` and ``likelihood("average")``: (M,) log-likelihoods at each table's own estimates and at
        their average; None if not available (REML, functions, glmm).
    codes
        (M,) problems of generalised fits, bits of `bayesimp.kernels.laplace.fit.EVENTS`; otherwise None.
    quadrature
        Number of quadrature nodes with which the log-likelihood was computed.
    log
        Events: how the analysis compares with the imputation model (`bayesimp.analysis.congenial`), and which grouping
        factors are crossed; see `events`.
    covariance_spread
        (M, d + 1, k, k) for linear mixed models: how the covariances change with the estimated variances
        (`bayesimp.kernels.lmm.components.covariance_spread`); otherwise None.
    cross
        (M, k, c) covariance of coefficients with components of generalised mixed models; None for linear ones, where it
        is zero.
    rows
        The object that predicts rows of tables (`bayesimp.analysis.row_model`), or None.
    df_covariances
        (M, k, k) covariances from which degrees of freedom are computed, if `covariances` are Kenward & Roger's; else
        None.
    groupings
        The grouping factors if there are several: their levels, and which is nested in which.
    """

    analysis: str
    names: tuple[str, ...]
    estimates: Array
    covariances: Array
    df_complete: float
    converged: NDArray[np.bool_]
    singular: NDArray[np.bool_]
    component_names: tuple[str, ...]
    components: Array
    components_cov: Array
    loglik: Array
    parameters: int
    likelihood: Callable[[str], Array] | None = None
    codes: NDArray[np.int64] | None = None
    quadrature: int = 1
    log: tuple[Event, ...] = ()
    groupings: tuple[Grouping, ...] = ()
    covariance_spread: Array | None = None
    cross: Array | None = None
    rows: RowModel | None = None
    df_covariances: Array | None = None

    @property
    def events(self) -> pd.DataFrame:
        """Events as a DataFrame (kind, where, message, count): terms that the imputation model lacks; crossed groups."""
        return event_table(self.log)

    @property
    def constants(self) -> tuple[str, ...]:
        """Coefficients that belong to no variable: the intercept, or the thresholds of an ordinal analysis."""
        levels = self.rows.levels if self.rows is not None else ()
        return self.names[: len(levels) - 1] if levels else ("Intercept",)

    def __len__(self) -> int:
        return len(self.estimates)

    def __getitem__(self, k: int) -> Fit:
        names = list(self.names)
        return Fit(
            pd.Series(self.estimates[k], names),
            pd.DataFrame(self.covariances[k], names, names),
            self.df_complete,
        )

    def __iter__(self) -> Iterator[Fit]:
        return (self[k] for k in range(len(self)))

    def pool(self, df_complete: ArrayLike | str | None = None) -> Pooled:
        """Pool the coefficients by Rubin's rules; ``.to_frame()`` has the columns of R's mice.

        df_complete: ``"satterthwaite"``, the mean over tables of each coefficient's degrees of freedom in a linear
        mixed model (`satterthwaite`); ``"kenward-roger"``, the degrees of freedom and covariances of `kenward_roger`;
        numbers; or None, the attribute `df_complete`.
        """
        if df_complete is not None and isinstance(df_complete, str) and df_complete == KENWARD_ROGER:
            return self.kenward_roger().pool(SATTERTHWAITE)
        dfcom = self._df(df_complete, np.eye(len(self.names)))
        return replace(pool(self.estimates, self.covariances, dfcom, terms=self.names), log=self.log)

    def satterthwaite(self) -> Array:
        """Satterthwaite's degrees of freedom of the coefficients of a linear mixed model in each table, (M, k).

        Raises
        ------
        SpecificationError
            The fits are not of linear mixed models given as a formula.
        """
        return satterthwaite(self._df_covariances(), self.component_spread(), np.eye(len(self.names)))

    def kenward_roger(self) -> Fits:
        """The fits with Kenward & Roger's (1997) covariances; its `satterthwaite` gives their degrees of freedom.

        For linear mixed models fitted by REML with one grouping factor. With few clusters they are better than
        Satterthwaite's.

        Raises
        ------
        SpecificationError
            The fits are of another kind, or a table has a variance of zero or a correlation at its bound.
        """
        from bayesimp.analysis.small_samples import by_kenward_roger

        return by_kenward_roger(self)

    def contrasts(
        self,
        combinations: str | Sequence[str] | Mapping[str, str],
        df_complete: ArrayLike | str | None = None,
    ) -> Pooled:
        """Linear combinations of coefficients, pooled.

        Parameters
        ----------
        combinations
            ``"x - z"``, a list of such texts, or texts by label: ``{"slope of girls": "x + x:sex[F]"}``. Names are
            those in `names`; a name with a space or operator goes in backticks.
        df_complete
            As for `pool`.

        Raises
        ------
        SpecificationError
            A text is not a linear combination of the coefficients.
        """
        if isinstance(df_complete, str) and df_complete == KENWARD_ROGER:
            return self.kenward_roger().contrasts(combinations, SATTERTHWAITE)
        labels, L = parsed_combinations(combinations, self)
        pooled = pool(
            self.estimates @ L.T, L @ self.covariances @ L.T, self._df(df_complete, L), terms=labels
        )
        return replace(pooled, log=self.log)

    def test(self, hypotheses: str | Sequence[str], df_complete: ArrayLike | str | None = None) -> MultiTest:
        """F test of one or several linear hypotheses jointly, ``"x + z = 0"`` or ``["x = z", "w = 1"]``.

        For one hypothesis, F is the square of the pooled t, with Barnard & Rubin's degrees of freedom; for several, the
        test is D1 with Reiter's (2007).

        Parameters
        ----------
        df_complete
            As for `pool`; for several hypotheses ``"satterthwaite"`` is Fai & Cornelius's (1996) method, averaged over
            tables.

        Raises
        ------
        SpecificationError
            A text is not a linear hypothesis, or some hypotheses follow from others.
        """
        labels, L, values = parsed_hypotheses(hypotheses, self)
        if isinstance(df_complete, str) and df_complete == KENWARD_ROGER and len(L) == 1:
            return self.kenward_roger().test(hypotheses, SATTERTHWAITE)
        Q, U = self.estimates @ L.T, L @ self.covariances @ L.T
        if len(L) > 1:
            dfcom = self.df_complete if df_complete is None else df_complete
            if isinstance(dfcom, str):
                if dfcom == KENWARD_ROGER:
                    raise SpecificationError(
                        "Kenward & Roger's F test of several hypotheses has its own scale factor, for which "
                        "there is no pooling rule here. Give df_complete='satterthwaite', or one hypothesis."
                    )
                self.check_named(dfcom)
                dfcom = joint_satterthwaite(self.covariances, self.component_spread(), L).mean()
            return replace(d1(Q, U, float(np.asarray(dfcom)), null=values), terms=labels)
        one = pool(Q - values, U, self._df(df_complete, L))
        F, df = float(one.estimate[0] ** 2 / one.t[0]), float(one.df[0])
        p = stats.f(1, df).sf(F) if np.isfinite(df) else stats.chi2(1).sf(F)
        return MultiTest("Wald", F, 1, df, float(p), float(one.riv[0]), labels)

    def _df(self, df_complete: ArrayLike | str | None, L: Array) -> ArrayLike:
        """Complete-data degrees of freedom of the combinations L (r, k): the given numbers, or (r,)."""
        if df_complete is None:
            return self.df_complete
        if not isinstance(df_complete, str):
            return df_complete
        self.check_named(df_complete)
        return satterthwaite(self._df_covariances(), self.component_spread(), L).mean(axis=0)

    def _df_covariances(self) -> Array:
        return self.covariances if self.df_covariances is None else self.df_covariances

    def check_named(self, name: str) -> None:
        """Refuse a name of degrees of freedom that these fits cannot have.

        Raises
        ------
        SpecificationError
        """
        if name not in (SATTERTHWAITE, KENWARD_ROGER):
            raise SpecificationError(
                f"df_complete = {name!r} is not known; give 'satterthwaite', 'kenward-roger' or numbers."
            )

    def component_spread(self) -> Array:
        """`covariance_spread`; refused where there is none.

        Raises
        ------
        SpecificationError
        """
        spread = self.covariance_spread
        if spread is None:
            raise SpecificationError(
                f"the analysis {self.analysis!r} has no Satterthwaite degrees of freedom, which exist for linear mixed "
                "models given as a formula. Give df_complete= as numbers."
            )
        lacks = int(np.isnan(spread).any(axis=(1, 2, 3)).sum())
        if lacks:
            raise SpecificationError(
                f"{self.analysis!r}: in {lacks} of {len(self)} tables the likelihood of the variances has no proper "
                "maximum, so there are no Satterthwaite degrees of freedom. Simplify the random part, or give "
                "df_complete= as numbers."
            )
        return spread

    def pool_components(self, scale: str = "log") -> Pooled:
        """Pool the variance components on ``scale``: log, sd, variance or median; see `bayesimp.pool_components`."""
        if not self.component_names:
            raise SpecificationError(f"the analysis {self.analysis!r} has no variance components.")
        correlation = [name.startswith("cor(") for name in self.component_names]
        pooled = pool_components(
            self.components, self.components_cov, self.component_names, correlation, scale
        )
        return replace(pooled, log=self.log)

    def to_frame(self) -> pd.DataFrame:
        """Long table: imputation (from 1), term, estimate, std.error, converged, singular."""
        M, k = self.estimates.shape
        return pd.DataFrame(
            {
                "imputation": np.repeat(np.arange(1, M + 1), k),
                "term": np.tile(np.array(self.names, dtype=object), M),
                "estimate": self.estimates.ravel(),
                "std.error": np.sqrt(np.einsum("kaa->ka", self.covariances)).ravel(),
                "converged": np.repeat(self.converged, k),
                "singular": np.repeat(self.singular, k),
            }
        )

    def _said(self) -> str:
        groups = "".join(f"\n{grouping}" for grouping in self.groupings)
        if len(self) == 1:
            return f"{self._heading()}\n{as_text(self[0].to_frame())}{self._components_text()}{groups}"
        return f"{self._heading()}; terms: {', '.join(self.names)}){groups}"

    def _components_text(self) -> str:
        """Standard deviations and correlations of one fit."""
        each = [
            f"{name} {np.tanh(x) if name.startswith('cor(') else np.exp(x):.4g}"
            for name, x in zip(self.component_names, self.components[0], strict=True)
        ]
        return "\n" + ", ".join(each) if each else ""

    def _heading(self) -> str:
        doubts = f", {int((~self.converged).sum())} not converged" if not self.converged.all() else ""
        doubts += f", {int(self.singular.sum())} singular" if self.singular.any() else ""
        gaps = sum(event.kind == NOT_CONGENIAL for event in self.log)
        doubts += f", not congenial: {gaps} of .events" if gaps else ""
        return f"Fits({self.analysis!r}, m={len(self)}{doubts}" + (")" if len(self) == 1 else "")
