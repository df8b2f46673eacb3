"""The contents of a report: the run, its diagnostics and its analyses, each computed once before anything is written."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from bayesimp.analysis.fits import Fits
from bayesimp.analysis.gaps import NOT_CONGENIAL
from bayesimp.analysis.named import analysis_and_options
from bayesimp.analysis.pool import Pooled
from bayesimp.analysis.side_by_side import complete_cases
from bayesimp.diagnostics.convergence import Summary
from bayesimp.errors import BayesimpError, SpecificationError, StatisticalWarning
from bayesimp.messages import suggestion

if TYPE_CHECKING:
    from bayesimp.imputation.result import Imputations

__all__ = ["STATED", "Analysed", "ReportFacts", "SensitivityTable", "gather"]

# what only the user knows, by the key under which a report takes it
STATED = {
    "question": "the research question, and the estimand",
    "prespecified": "whether the analysis and the imputation model were fixed before the data were seen, and where",
    "deviations": "deviations from the plan, and their reasons",
    "reasons": "the reasons why values are missing",
    "flow": "numbers of participants lost or excluded, by group",
    "missing at random": "why missingness at random, given the variables of the model, is plausible",
    "interpretation": "how the results are to be read in the light of the missing values",
}


@dataclass(frozen=True)
class SensitivityTable:
    """The results of a sensitivity analysis: a table and verdicts.

    Attributes
    ----------
    table
        Pooled estimates by prior or scenario.
    words
        Verdicts.
    result
        The result itself, for figures; None if only its table was kept.
    """

    table: pd.DataFrame
    words: tuple[str, ...]
    result: Any = None


@dataclass(frozen=True)
class Analysed:
    """One analysis of the completed tables.

    Attributes
    ----------
    formula
        The formula as given, or the name of the function.
    family
        The family as requested.
    components
        Pooled variance components; None if there are none, or they cannot be pooled.
    complete
        The analysis of the complete rows, of which there are `rows`; None if it was not possible, for the reason in
        `why`.
    """

    name: str
    formula: str
    family: str
    fits: Fits
    pooled: Pooled
    components: Pooled | None
    complete: Fits | None
    rows: int
    why: str = ""

    @property
    def gaps(self) -> int:
        """Number of events about terms of the analysis that the imputation model lacks."""
        return sum(event.kind == NOT_CONGENIAL for event in self.fits.log)

    def table(self, level: float) -> pd.DataFrame:
        """Pooled coefficients, with their Monte Carlo errors."""
        names = ["term", "estimate", "std.error", "conf.low", "conf.high", "df", "p.value", "fmi", "mc.error"]
        return self.pooled.to_frame(level)[names]

    def component_table(self, level: float) -> pd.DataFrame:
        """Pooled standard deviations and correlations."""
        assert self.components is not None
        table = self.components.to_frame(level)
        return table[["term", "value", "value.low", "value.high", "fmi", "mc.error"]]

    def errors(self, level: float) -> pd.DataFrame:
        """Monte Carlo errors of every number, and the number of imputations needed for smaller ones."""
        needed = self.pooled.imputations_needed()
        errors = self.pooled.monte_carlo(level)[["std.error", "conf.low", "conf.high", "p.value", "fmi"]]
        columns = {name: f"mc.error of {name}" for name in errors.columns}
        return needed[["mc.error", "mc.share", "needed"]].join(errors.rename(columns=columns)).reset_index()


@dataclass(frozen=True, eq=False)
class ReportFacts:
    """Everything that the sections of a report read."""

    imputations: Imputations
    analyses: tuple[Analysed, ...]
    sensitivity: SensitivityTable | None
    mnar: SensitivityTable | None
    overimputation: Any
    replicates: Any
    stated: Mapping[str, str]
    plan: str | None
    level: float
    figures: bool

    @cached_property
    def summary(self) -> Summary:
        """Convergence of the run."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", StatisticalWarning)
            return self.imputations.summary()

    @property
    def model(self) -> Any:
        """The imputation model; None if the result does not carry it."""
        return self.imputations.model

    @property
    def engine(self) -> str:
        """The name of its class."""
        return str(self.imputations.attrs.get("model", "unknown"))

    @property
    def length(self) -> str:
        """The number of chains and their length: ``4 chains of 1,000 kept draws``."""
        attrs = self.imputations.attrs
        if not self.imputations.chained:
            return f"{attrs['chains']} chains of {self.summary.draws:,} kept draws"
        warm = int(attrs["draws"]) - self.summary.draws
        set_apart = f", the first {warm:,} of them warm-up" if warm else ""
        return f"{attrs['chains']} chains of {attrs['draws']:,} cycles{set_apart}"

    @cached_property
    def events(self) -> pd.DataFrame:
        """Events of the run and of the analyses, with their sources."""
        parts = [("imputation", self.imputations.events)]
        parts += [(f"analysis '{each.name}'", each.fits.events) for each in self.analyses]
        frames = [pd.DataFrame(table).assign(of=of) for of, table in parts if len(table)]
        columns = ["of", "kind", "where", "count", "message"]
        return pd.concat(frames, ignore_index=True)[columns] if frames else pd.DataFrame(columns=columns)

    @property
    def worst_share(self) -> float:
        """The largest Monte Carlo error of a pooled coefficient, in its standard errors; nan without an analysis."""
        shares = [each.pooled.mc_error / each.pooled.std_error for each in self.analyses]
        return float(np.nanmax(np.concatenate(shares))) if shares else np.nan


def gather(
    imputations: Any, *, analysis: Any, sensitivity: Any, mnar: Any, overimputation: Any, replicates: Any,
    stated: Mapping[str, str] | None, plan: str | None, level: float, figures: bool, options: Mapping[str, Any],
) -> ReportFacts:  # fmt: skip
    """Read what was given and compute the rest; arguments: see `bayesimp.report.make.report`.

    imputations: `Imputations`, or a `bayesimp.report.parts.PartsRun`, of which only some sections can be written.
    """
    if not 0 < level < 1:
        raise SpecificationError(f"report: level = {level!r} is not between 0 and 1.")
    analyses = tuple(_analysed(imputations, name, one, options) for name, one in _named(analysis).items())
    return ReportFacts(
        imputations, analyses, _given(sensitivity, "sensitivity", "Sensitivity"), _given(mnar, "mnar", "NotAtRandom"),
        overimputation, replicates, _stated(stated), plan, level, figures,
    )  # fmt: skip


def _named(analysis: Any) -> dict[str, Any]:
    if analysis is None:
        return {}
    if isinstance(analysis, Mapping) and "analysis" not in analysis:
        return {str(name): one for name, one in analysis.items()}
    return {"analysis": analysis}


def _analysed(imputations: Imputations, name: str, one: Any, options: Mapping[str, Any]) -> Analysed:
    """Fit and pool; given fits are used unchanged."""
    one, own = analysis_and_options(name, one)
    own = {**options, **own}
    if isinstance(one, Pooled):
        raise SpecificationError(
            f"report: analysis {name!r} is pooled already. Pass the fits, imp.analyse(...), or the formula."
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", StatisticalWarning)  # their content is among the events and notes
        fits = one if isinstance(one, Fits) else imputations.analyse(one, **own)
        if len(fits) != imputations.m:
            raise SpecificationError(
                f"report: the fits of {name!r} are from {len(fits)} tables, but there are "
                f"{imputations.m} imputations. Pass the fits of these imputations."
            )
        components = fits.pool_components() if fits.component_names else None
        complete, rows, why = _complete(imputations, one, own)
    family = str(own.get("family", "normal")) if not isinstance(one, Fits) else "as fitted"
    return Analysed(name, str(fits.analysis), family, fits, fits.pool(), components, complete, rows, why)


def _complete(imputations: Imputations, one: Any, options: dict[str, Any]) -> tuple[Fits | None, int, str]:
    """The analysis of the complete rows, their number, and the reason if there is none."""
    if not isinstance(one, str):
        return None, 0, "the analysis is not given as a formula, so complete rows were not analysed"
    if imputations.data is None:
        return None, 0, "not analysed, because the rows of a table in partitions are not kept"
    from bayesimp.formulas.formula import parse

    frame = imputations.data.frame
    used = [name for name in parse(one).columns if name in frame.columns]
    rows = int(frame[used].notna().all(axis=1).sum())
    try:
        return complete_cases(imputations.data, one, **options), rows, ""
    except BayesimpError as error:
        return None, rows, str(error)


def _given(value: Any, name: str, kind: str) -> SensitivityTable | None:
    if value is None or isinstance(value, SensitivityTable):
        return value
    if type(value).__name__ != kind:
        call = {
            "sensitivity": "bi.sensitivity(model, analysis=...)",
            "mnar": "bi.mnar(model, delta, analysis=...)",
        }
        raise SpecificationError(f"report: {name} takes what {call[name]} gives, not {type(value).__name__}.")
    words = [line for line in value.words() if not line.endswith("see .events")]
    return SensitivityTable(value.table, tuple(words), value)


def _stated(stated: Mapping[str, str] | None) -> dict[str, str]:
    made = dict(stated or {})
    for key in made:
        if key not in STATED:
            raise SpecificationError(f"report: stated has no item {key!r}. {suggestion(key, list(STATED))}")
    return {key: str(text).strip() for key, text in made.items() if str(text).strip()}
