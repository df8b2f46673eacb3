"""The result of a sensitivity analysis: tables, figures, a tree, and a verdict in sentences."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import pandas as pd
import xarray as xr

from bayesimp.analysis.fit import Fits
from bayesimp.events import counted_events, listed
from bayesimp.imputation.result import Imputations
from bayesimp.kinds import check_keywords, checks_arguments
from bayesimp.layout import tabulated, wrapped
from bayesimp.markup import folded, framed, paragraph, table
from bayesimp.sensitivity_analysis.verdict import conclusions, most, on_prior, values_moved

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from bayesimp.sensitivity_analysis.power_scaling import PowerScaling

__all__ = ["ReadOnly", "Sensitivity"]


class ReadOnly[V](Mapping[str, V]):
    """A mapping that cannot be changed, and can be pickled."""

    def __init__(self, of: Mapping[str, V]) -> None:
        self._of = dict(of)

    def __getitem__(self, key: str) -> V:
        return self._of[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._of)

    def __len__(self) -> int:
        return len(self._of)

    def __repr__(self) -> str:
        return "\n".join(wrapped(f"{key!r}: {value!r}") for key, value in self._of.items())


@checks_arguments
@dataclass(frozen=True, eq=False)
class Sensitivity:
    """Results by prior. ``print(result)`` says what depends on the prior, and how much.

    Attributes
    ----------
    analysis, reference
        The analysis, and the prior to which changes refer.
    table
        Pooled estimates, one row for each prior and parameter: prior, part ("fixed effect" or "variance component"),
        term, estimate, std.error, df, conf.low, conf.high, fmi, change, mc.error, scale. Variance components are
        standard deviations and correlations, pooled as logarithms and Fisher's z (``scale``); if a variance is
        estimated to be zero in any table, the logarithms cannot be pooled, and the estimates are plain means
        over tables, without std.error.
    model
        The imputation model, one row for each prior and standard deviation or correlation within and between clusters:
        prior, term, estimate, std.error, q2.5, q97.5, share (of its precision that is the prior's:
        `bayesimp.diagnostics.components.prior_share`), overlap (common area of prior and posterior density: 1 where the
        data add nothing; both nan for improper priors), change, mc.error, ess_bulk, r_hat, r_hat_limit.
    distances
        Distances between the imputed values under each prior and those under the reference, with the distance that chance
        gives: prior, variable, distance, unit, chance, p.value, cells (`bayesimp.sensitivity_analysis.distances`).
    imputations, fits
        Dicts by prior.
    events
        DataFrame (prior, kind, where, message, count): what was left out, and what the runs recorded.
    """

    analysis: str
    reference: str
    table: pd.DataFrame
    model: pd.DataFrame
    distances: pd.DataFrame
    imputations: Mapping[str, Imputations]
    fits: Mapping[str, Fits]
    events: pd.DataFrame

    @property
    def priors(self) -> list[str]:
        """The names of the priors that were compared."""
        return list(self.imputations)

    @cached_property
    def tree(self) -> xr.DataTree:
        """One node for each prior, with the groups of `Imputations.tree` and ``prior``.

        ``az.plot_forest(dict(result.tree.children))`` shows the priors side by side, and
        ``az.plot_prior_posterior(result.tree["default"])`` shows one.
        """
        trees = {name: imp.with_prior_draws().tree for name, imp in self.imputations.items()}
        return xr.DataTree.from_dict({f"/{name}": tree for name, tree in trees.items()})

    def plot(self, terms: str | Sequence[str] | None = None, **options: Any) -> Figure:
        """Plot pooled estimates by prior; see `bayesimp.plots.plot_sensitivity`."""
        from bayesimp.plots.sensitivity import plot_sensitivity

        check_keywords(options, Sensitivity.plot, plot_sensitivity, ("result", "terms"))
        return plot_sensitivity(self, terms, **options)

    def plot_components(self, terms: str | Sequence[str] | None = None, **options: Any) -> Figure:
        """Plot prior and posterior by prior; see `bayesimp.plots.plot_sensitivity_components`."""
        from bayesimp.plots.sensitivity_components import plot_sensitivity_components

        check_keywords(options, Sensitivity.plot_components, plot_sensitivity_components, ("result", "terms"))
        return plot_sensitivity_components(self, terms, **options)

    @property
    def verdict(self) -> tuple[str, ...]:
        """Sentences saying whether conclusions depend on the prior, what moves most, what is mostly prior, and how far
        imputed values move."""
        said = (
            conclusions(self.table),
            most(self.table, f"Of the estimates of '{self.analysis}'", "standard errors", self.reference),
            most(self.model, "Of the imputation model", "posterior standard deviations", self.reference),
            on_prior(self.model, self.reference),
            values_moved(self.distances, self.reference),
        )
        return tuple(line for line in said if line)

    def power_scaling(self, **options: Any) -> PowerScaling:
        """How the answer moves when the reference prior, or the likelihood, counts more; see `bayesimp.power_scaling`.

        No refit is needed: the imputations under the reference are reweighted. Joint models only.
        """
        from bayesimp.sensitivity_analysis.power_scaling import power_scaling

        return power_scaling(self.imputations[self.reference], analysis=self.fits[self.reference], **options)

    def report(self) -> str:
        """The verdict and all tables as text: pooled estimates, imputation model, distances of imputed values, events."""
        tables = {
            "Pooled estimates (change in standard errors)": self.table[
                ["prior", "term", "estimate", "std.error", "conf.low", "conf.high", "change", "mc.error"]
            ],
            "Imputation model (share of precision that is the prior's)": self.model[
                ["prior", "term", "estimate", "q2.5", "q97.5", "share", "overlap", "change"]
            ],
            f"Imputed values, distance from those under '{self.reference}'": self.distances,
            "Events": self.events,
        }
        shown = [
            f"{title}\n{listed(frame) if frame is self.events else tabulated(frame, number='{:.3g}'.format)}"
            for title, frame in tables.items()
            if len(frame)
        ]
        return "\n\n".join([wrapped("\n".join([*self.verdict, *self._left_out()])), *shown])

    def _left_out(self) -> list[str]:
        out = self.events.loc[self.events["kind"] == "prior left out", ["prior", "message"]]
        return [f"Left out: '{name}': {why}" for name, why in out.itertuples(index=False)]

    def words(self) -> list[str]:
        """The lines that are printed, before they are wrapped."""
        lines = [*self.verdict, *self._left_out()]
        if len(self.events):
            lines.append(counted_events(len(self.events)))
        return lines

    def __str__(self) -> str:
        return wrapped("\n".join(self.words()))

    def __repr__(self) -> str:
        wide = self.table.pivot_table("estimate", "term", "prior", sort=False)
        return f"{self}\n\n{tabulated(wide, index=True)}"

    def _repr_html_(self) -> str:
        columns = ["estimate", "std.error", "conf.low", "conf.high", "change", "mc.error"]
        names = [name for name in ("analysis", "prior", "term", *columns) if name in self.table]
        words = [paragraph(line) for line in self.words()]
        return framed(
            "Sensitivity to the prior",
            [
                *words,
                folded("Pooled estimates by prior", table(self.table[names])),
                folded("Imputed values: distances", table(self.distances)),
            ],
        )
