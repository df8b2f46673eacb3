"""The result of a not-at-random analysis: tables, figures, tipping points, and sentences on how far the answer moves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from bayesimp.analysis.fit import Fits
from bayesimp.arguments import chosen, number
from bayesimp.errors import SpecificationError
from bayesimp.events import Event, EventTable, counted_events
from bayesimp.imputation.result import Imputations
from bayesimp.kinds import check_keywords, checks_arguments
from bayesimp.layout import tabulated, wrapped
from bayesimp.markup import folded, framed, paragraph, table
from bayesimp.messages import suggestion
from bayesimp.sensitivity_analysis.deltas import AT_RANDOM, Axis, DeltaScenario, scenario_name
from bayesimp.sensitivity_analysis.mnar_tables import ALL
from bayesimp.sensitivity_analysis.tipping import CRITERIA, Crossing, Line, TippingPoint, crossing, lines

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["NotAtRandom"]

STILL = "The analysis uses no value that is shifted, or imputed given one that is."


@checks_arguments
@dataclass(frozen=True, eq=False)
class NotAtRandom:
    """Results by scenario. ``print(result)`` says which estimates move most.

    Attributes
    ----------
    axes, scenarios, combine
        What was varied, and the scenarios that were run, "at random" first.
    table
        Pooled estimates, one row for each analysis, scenario and parameter: analysis, scenario, ``delta <axis>`` for each
        axis (in its unit), part ("fixed effect" or "variance component"), term, estimate, std.error, df, conf.low,
        conf.high, fmi, change (from "at random", in its standard errors), mc.change (Monte Carlo error of `change`, from
        the pairs of imputations with one seed), mc.error, scale; as in `bayesimp.sensitivity`.
    imputed
        Imputed values, one row for each scenario, imputed variable, group and quantity ("mean", or "share of
        <level>"): rows, imputed, observed, observed.sd (nan for levels), moved (from "at random").
    imputations, fits
        Dicts by scenario; `fits` has the fits by analysis for each.
    log
        A (scenario, event) pair for each deviation from the request.
    request
        The arguments of the call, which `refine` uses again.
    """

    axes: tuple[Axis, ...]
    scenarios: tuple[DeltaScenario, ...]
    combine: str
    table: pd.DataFrame
    imputed: pd.DataFrame
    imputations: Mapping[str, Imputations]
    fits: Mapping[str, Mapping[str, Fits]]
    log: tuple[tuple[str, Event], ...]
    request: Any

    @property
    def analyses(self) -> list[str]:
        """Names of the analyses."""
        return list(self.fits[AT_RANDOM])

    @property
    def lines(self) -> list[Line]:
        """The lines of scenarios along which one delta varies, or all of them together."""
        return lines(self.axes, self.scenarios, self.combine)

    @property
    def events(self) -> pd.DataFrame:
        """DataFrame (scenario, kind, where, message, count); an event that all scenarios share appears once."""
        under: dict[Event, list[str]] = {}
        for name, event in self.log:
            under.setdefault(event, []).append(name)
        every = {scenario.name for scenario in self.scenarios}
        rows = [
            {"scenario": name, **event.as_dict()}
            for event, names in under.items()
            for name in ([ALL] if len(every) > 1 and set(names) >= every else dict.fromkeys(names))
        ]
        return EventTable(rows, columns=["scenario", "kind", "where", "message", "count"])

    def along(self, line: Line, analysis: str, term: str) -> pd.DataFrame:
        """The rows of `table` along a line, in order."""
        rows = self.table[(self.table["analysis"] == analysis) & (self.table["term"] == term)]
        return rows.set_index("scenario").loc[list(line.names)]

    def tipping_point(
        self, term: str, *, analysis: str | None = None, threshold: float = 0.0, criterion: str = "interval"
    ) -> TippingPoint:
        """Find the smallest shift along every delta at which the conclusion about a term changes.

        Parameters
        ----------
        term
            As in ``table["term"]``.
        analysis
            Name of the analysis; the first by default.
        threshold
            The value with which the interval is compared; 0 means no effect.
        criterion
            ``"interval"``: the interval begins or ceases to cover the threshold; ``"estimate"``: the estimate reaches it.

        Raises
        ------
        SpecificationError
            If a term or the analysis is not known, or a variance component has no interval.
        """
        analysis, threshold = self._asked(term, analysis, threshold, criterion)
        rows, words = [], [self._start(term, analysis, threshold, criterion)]
        for line in self.lines:
            for step, direction in ((-1, "down"), (1, "up")):
                end = line.start + step
                if not 0 <= end < len(line.x):
                    continue
                found = self._crossing(line, analysis, term, threshold, criterion, step)
                row = self._row(line, direction, found, step)
                rows.append(row)
                if found is None and self._still(analysis, line):
                    words.append(f"{line.label}, {direction}: nothing changes. {STILL}")
                else:
                    words.append(self._sentence(line, row, found, threshold, criterion))
        return TippingPoint(analysis, term, threshold, criterion, pd.DataFrame(rows), tuple(words))

    def refine(
        self,
        term: str,
        *,
        analysis: str | None = None,
        threshold: float = 0.0,
        criterion: str = "interval",
        tolerance: float | None = None,
    ) -> NotAtRandom:
        """The same analysis with further scenarios, by bisection around every tipping point of a term.

        tolerance: largest distance between the two scenarios around it, on the scale of the link; by default a fiftieth
        of the range of each delta. Other arguments are those of `tipping_point`.
        """
        analysis, threshold = self._asked(term, analysis, threshold, criterion)
        result = self
        for at, line in enumerate(self.lines):
            width = np.ptp(line.x) / 50 if tolerance is None else number(tolerance, "tolerance", 0.0)
            for step in (-1, 1):
                while True:
                    line = result.lines[at]
                    found = result._crossing(line, analysis, term, threshold, criterion, step)
                    if found is None or abs(line.x[found.outer] - line.x[found.inner]) <= width * (1 + 1e-9):
                        break
                    result = result.request.extended(result, [result._between(line, found)])
                    if len(result.lines[at].x) == len(line.x):  # interrupted
                        return result
        return result

    def plot(self, terms: str | Sequence[str] | None = None, **options: Any) -> Figure:
        """Plot estimates and intervals against delta; see `bayesimp.plots.plot_mnar`."""
        from bayesimp.plots.mnar import plot_mnar

        check_keywords(options, NotAtRandom.plot, plot_mnar, ("result", "terms"))
        return plot_mnar(self, terms, **options)

    def plot_map(self, term: str, **options: Any) -> Figure:
        """Plot a term against two deltas; see `bayesimp.plots.plot_mnar_map`."""
        from bayesimp.plots.mnar_map import plot_mnar_map

        check_keywords(options, NotAtRandom.plot_map, plot_mnar_map, ("result", "term"))
        return plot_mnar_map(self, term, **options)

    def _asked(self, term: str, analysis: str | None, threshold: Any, criterion: str) -> tuple[str, float]:
        chosen(criterion, "criterion", CRITERIA)
        analysis = self.analyses[0] if analysis is None else analysis
        if analysis not in self.analyses:
            raise SpecificationError(
                f"There is no analysis {analysis!r}. {suggestion(analysis, self.analyses)}"
            )
        rows = self.table[self.table["analysis"] == analysis]
        known = list(rows["term"].drop_duplicates())
        if term not in known:
            raise SpecificationError(f"the analysis has no term {term!r}. {suggestion(str(term), known)}")
        if criterion == "interval" and rows.loc[rows["term"] == term, "conf.low"].isna().any():
            raise SpecificationError(
                f"{term!r} has no interval (singular fits). Take criterion = 'estimate'."
            )
        return analysis, number(threshold, "threshold")

    def _crossing(
        self, line: Line, analysis: str, term: str, threshold: float, criterion: str, step: int
    ) -> Crossing | None:
        rows = self.along(line, analysis, term)
        low, middle, high = (rows[name].to_numpy(float) for name in ("conf.low", "estimate", "conf.high"))
        return crossing(line, low, middle, high, threshold, criterion, step)

    def _between(self, line: Line, found: Crossing) -> DeltaScenario:
        """The scenario halfway between the two around a crossing."""
        of = {scenario.name: scenario.values for scenario in self.scenarios}
        ends = [of[line.names[at]] for at in (found.inner, found.outer)]
        values = tuple(
            axis.value((axis.shift(a) + axis.shift(b)) / 2) if a != b else a
            for axis, a, b in zip(self.axes, *ends, strict=True)
        )
        return DeltaScenario(scenario_name(self.axes, values), values)

    def _row(self, line: Line, direction: str, found: Crossing | None, step: int) -> dict[str, Any]:
        axis = self.axes[line.moves[0]]
        x = np.nan if found is None else found.x
        return {
            "axis": line.label, "direction": direction, "delta": np.nan if found is None else axis.value(x), "shift": x,
            "sd": x / axis.sd, "factor": np.exp(x) if axis.link in ("logit", "log") else np.nan,
            "between": "" if found is None else f"{line.names[found.inner]} and {line.names[found.outer]}",
            "largest": line.x[0 if step < 0 else -1],
        }  # fmt: skip

    def _start(self, term: str, analysis: str, threshold: float, criterion: str) -> str:
        row = self.table[
            (self.table["scenario"] == AT_RANDOM)
            & (self.table["analysis"] == analysis)
            & (self.table["term"] == term)
        ].iloc[0]
        low, high = row["conf.low"], row["conf.high"]
        if criterion == "estimate":
            side = "above" if row["estimate"] > threshold else "not above"
            return f"'{analysis}', values missing at random: {term} is {row['estimate']:.4g}, {side} {threshold:g}."
        covers = "covers" if low <= threshold <= high else "excludes"
        return (
            f"'{analysis}', values missing at random: {term} is {row['estimate']:.4g}, and its "
            f"{self.request.level:.0%} interval [{low:.4g}, {high:.4g}] {covers} {threshold:g}."
        )

    def _sentence(
        self, line: Line, row: Mapping[str, Any], found: Crossing | None, threshold: float, criterion: str
    ) -> str:
        axis = self.axes[line.moves[0]]
        what = "the interval" if criterion == "interval" else "the estimate"
        if found is None:
            return f"{line.label}, {row['direction']}: the conclusion holds up to delta = {axis.words(row['largest'])}."
        more = ""
        if moved := self._moved(line, found):
            more = f"; the imputed values of {axis.variable} then have {moved}"
        return (
            f"{line.label}, {row['direction']}: delta = {axis.words(found.x)} would be needed for {what} to reach "
            f"{threshold:g}{more}."
        )

    def _still(self, analysis: str, line: Line) -> bool:
        """Whether all tables that the analysis uses are the same along a line."""
        rows = self.table[(self.table["analysis"] == analysis) & self.table["scenario"].isin(line.names)]
        return bool((rows.groupby("term", sort=False)["estimate"].nunique() == 1).all())

    def _moved(self, line: Line, found: Crossing) -> str:
        """The interpolated mean of imputed values at a crossing, and that of the observed ones; empty for levels."""
        axis = self.axes[line.moves[0]]
        group = ALL if self.request.by is None else axis.group
        of = self.imputed[(self.imputed["variable"] == axis.variable) & (self.imputed["group"] == group)]
        of = of[of["quantity"] == "mean"].set_index("scenario")
        names = [line.names[found.inner], line.names[found.outer]]
        if not set(names) <= set(of.index):
            return ""
        a, b = of.loc[names, "imputed"]
        return f"mean {a + found.weight * (b - a):.4g} (observed values {of['observed'].iloc[0]:.4g})"

    def words(self) -> list[str]:
        """The lines that are printed, before they are wrapped."""
        out = [_most(self, analysis) for analysis in self.analyses]
        for axis in self.axes:
            shifts = [axis.shift(value) for value in axis.values]
            ends = dict.fromkeys(axis.words(x) for x in (min(shifts), max(shifts)) if x)
            out.append(f"delta of {axis.label}: {' to '.join(ends) or 'none'}")
        left = [name for name, event in self.log if event.kind == "scenario left out"]
        out += [f"Left out: '{name}'; the run was interrupted before this scenario" for name in left]
        if count := len(self.events):
            out.append(counted_events(count))
        return out

    def __str__(self) -> str:
        return wrapped("\n".join(self.words()))

    def __repr__(self) -> str:
        wide = self.table.pivot_table("estimate", ["analysis", "term"], "scenario", sort=False)
        wide = wide.droplevel(0) if len(self.analyses) == 1 else wide
        return f"{self}\n\n{tabulated(wide.T, index=True)}"

    def _repr_html_(self) -> str:
        columns = ["estimate", "std.error", "conf.low", "conf.high", "change", "mc.error"]
        names = [name for name in ("analysis", "scenario", "term", *columns) if name in self.table]
        words = [paragraph(line) for line in self.words()]
        return framed(
            "Values missing not at random",
            [*words, folded("Pooled estimates by scenario", table(self.table[names]))],
        )


def _most(result: NotAtRandom, analysis: str) -> str:
    """A sentence saying which fixed effect moves most, between which scenarios, in standard errors."""
    table = result.table[(result.table["analysis"] == analysis) & (result.table["part"] == "fixed effect")]
    table = table.dropna(subset="change")
    if table["scenario"].nunique() < 2:
        return f"Estimates of '{analysis}': there is only one scenario, so nothing to compare."
    span = table.groupby("term", sort=False)["change"].agg(lambda change: change.max() - change.min())
    if not span.max():
        return f"No estimate of '{analysis}' changes. {STILL}"
    term = span.idxmax()
    rows = table[table["term"] == term].set_index("scenario")
    low, high = rows.loc[rows["estimate"].idxmin()], rows.loc[rows["estimate"].idxmax()]
    noise = np.nanmax([low["mc.change"], high["mc.change"], 0.0])
    return (
        f"Of the estimates of '{analysis}', {term} moves most: by {span[term]:.2f} standard errors "
        f"(under '{AT_RANDOM}'), from {low['estimate']:.4g} under '{low.name}' to "
        f"{high['estimate']:.4g} under '{high.name}'; Monte Carlo error {noise:.2f}."
    )
