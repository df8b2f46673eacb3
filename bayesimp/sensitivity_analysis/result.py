"""The result of a sensitivity analysis: tables, figures, one tree, and a sentence on what moves most."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import xarray as xr

from bayesimp.analysis.fit import Fits
from bayesimp.imputation.result import Imputations
from bayesimp.markup import folded, framed, paragraph, table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

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
        return repr(self._of)


@dataclass(frozen=True, eq=False)
class Sensitivity:
    """Results by prior. ``print(result)`` says in words which parameters move most.

    Attributes
    ----------
    analysis, reference
        The analysis, and the prior to which changes refer.
    table
        Pooled estimates, one row for each prior and parameter: prior, part ("fixed effect" or "variance component"),
        term, estimate, std.error, df, conf.low, conf.high, fmi, change, mc.error, scale. Variance components are
        standard deviations and correlations, pooled on the logarithm and on Fisher's z (``scale``); where a
        variance is estimated as zero in any table their logarithm cannot be pooled, and they are plain means
        over tables, without std.error.
    model
        The imputation model, one row for each prior and standard deviation or correlation within and between clusters:
        prior, term, estimate, std.error, q2.5, q97.5, overlap (common area of prior and posterior density: 1
        where the data add nothing, nan for improper priors), change, mc.error, ess_bulk, r_hat, r_hat_limit.
    imputations, fits
        By prior.
    events
        DataFrame (prior, kind, where, message, count): what was left out, and what the runs recorded.
    """

    analysis: str
    reference: str
    table: pd.DataFrame
    model: pd.DataFrame
    imputations: Mapping[str, Imputations]
    fits: Mapping[str, Fits]
    events: pd.DataFrame

    @property
    def priors(self) -> list[str]:
        """The names of the priors that were compared."""
        return list(self.imputations)

    @cached_property
    def tree(self) -> xr.DataTree:
        """A node for each prior, with the groups of `Imputations.tree` and ``prior``.

        ``az.plot_forest(dict(result.tree.children))`` sets the priors side by side,
        ``az.plot_prior_posterior(result.tree["default"])`` shows one.
        """
        trees = {name: imp.with_prior_draws().tree for name, imp in self.imputations.items()}
        return xr.DataTree.from_dict({f"/{name}": tree for name, tree in trees.items()})

    def plot(self, terms: str | Sequence[str] | None = None, **options: Any) -> Figure:
        """Pooled estimates by prior; see `bayesimp.plots.plot_sensitivity`."""
        from bayesimp.plots.sensitivity import plot_sensitivity

        return plot_sensitivity(self, terms, **options)

    def plot_components(self, terms: str | Sequence[str] | None = None, **options: Any) -> Figure:
        """Prior and posterior by prior; see `bayesimp.plots.plot_sensitivity_components`."""
        from bayesimp.plots.sensitivity_components import plot_sensitivity_components

        return plot_sensitivity_components(self, terms, **options)

    def __str__(self) -> str:
        lines = [
            _most(self.table, f"Of the estimates of '{self.analysis}'", "standard errors", self.reference),
            _most(self.model, "Of the imputation model", "posterior standard deviations", self.reference),
        ]
        out = self.events.loc[self.events["kind"] == "prior left out", ["prior", "message"]]
        lines += [f"Left out: '{name}': {why}" for name, why in out.itertuples(index=False)]
        if len(self.events):
            lines.append(f"{len(self.events)} event{'' if len(self.events) == 1 else 's'}: see .events")
        return "\n".join(lines)

    def __repr__(self) -> str:
        wide = self.table.pivot_table("estimate", "term", "prior", sort=False)
        return f"{self}\n\n{wide.to_string(float_format='%.4g')}"

    def _repr_html_(self) -> str:
        columns = ["estimate", "std.error", "conf.low", "conf.high", "change", "mc.error"]
        names = [name for name in ("analysis", "prior", "term", *columns) if name in self.table]
        words = [paragraph(line) for line in str(self).split("\n")]
        return framed(
            "Sensitivity to the prior",
            [*words, folded("Pooled estimates by prior", table(self.table[names]))],
        )


def _most(table: pd.DataFrame, of: str, unit: str, reference: str) -> str:
    """A sentence: what moves most between which priors, in units of the reference's std.error."""
    if table["prior"].nunique() < 2:
        return f"{of}: there is one prior, so nothing to compare."
    by_term = table.dropna(subset="change").groupby("term", sort=False)["change"]
    if not len(by_term):
        return f"{of}: no standard errors under '{reference}', so nothing to measure changes by."
    span = by_term.max() - by_term.min()
    term = span.idxmax()
    rows = table[table["term"] == term].set_index("prior")
    low, high = rows.loc[rows["estimate"].idxmin()], rows.loc[rows["estimate"].idxmax()]
    noise = np.hypot(low["mc.error"], high["mc.error"]) / rows.loc[reference, "std.error"]
    text = (
        f"{of}, {term} moves most: by {span[term]:.2f} {unit} (of '{reference}'), from {low['estimate']:.4g} under "
        f"'{low.name}' to {high['estimate']:.4g} under '{high.name}'; Monte Carlo error {noise:.2f}."
    )
    without = [t for t in table["term"].unique() if t not in span.index]
    for t in without:
        values = table.loc[table["term"] == t].set_index("prior")["estimate"]
        low, high = values.min(), values.max()
        where = (
            f"{low:.4g} under every prior" if low == high
            else f"from {low:.4g} under '{values.idxmin()}' to {high:.4g} under '{values.idxmax()}'"
        )  # fmt: skip
        text += f" {t} has no standard error (singular fits): {where}."
    return text
