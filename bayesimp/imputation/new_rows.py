"""New rows completed from the draws of a run, as returned by `Imputations.transform`."""

from __future__ import annotations

from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
import pandas as pd

from bayesimp import arguments
from bayesimp.errors import SpecificationError
from bayesimp.events import counted_events
from bayesimp.imputation.events import imputed_events
from bayesimp.imputation.result import Imputations
from bayesimp.imputation.tree import tree_of_rows
from bayesimp.kinds import checks_arguments
from bayesimp.table.new_rows import NewRows

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping

__all__ = ["ImputedNewRows", "transform"]


@checks_arguments
class ImputedNewRows(Imputations):
    """Completed tables of new rows, created by `Imputations.transform`.

    They are accessed like `Imputations`. The tree has ``imputed`` and ``observed_data``; the posterior is in the tree
    of the run.

    Attributes
    ----------
    data
        The new rows, `NewRows`.
    """

    def _filled(self, name: str, rows: np.ndarray, k: int) -> pd.Series:
        """A column with the imputed values of table k; levels are those of the run's table."""
        if not self._family(name).is_coded:
            return super()._filled(name, rows, k)
        cells = self.data.frame[name].astype(object).to_numpy(copy=True)
        cells[rows] = self.decoded(name, k)
        return pd.Series(cells, self.data.frame.index, name=name, dtype=object).astype(self._dtypes[name])

    @cached_property
    def _dtypes(self) -> dict[str, Any]:
        """Dtypes of completed columns with levels: that of the new rows if it can hold every level, else the run's."""
        return {name: self._holding(name) for name in self._cells if self._family(name).is_coded}

    def _holding(self, name: str) -> Any:
        levels, known = list(self.data.levels(name)), self.data.learnt_from.frame[name].dtype
        column = self.data.frame[name]
        for dtype in (column.dtype, known):
            if isinstance(dtype, pd.CategoricalDtype) and not set(levels) <= set(dtype.categories):
                continue
            try:
                held = pd.Series(levels, dtype=object).astype(dtype).astype(object).tolist() == levels
                column.astype(object).where(column.notna(), levels[0]).astype(dtype)
            except (TypeError, ValueError):
                continue
            if held:
                return dtype
        return np.dtype(object)

    def stacked(self, names: list[str], first: int, stop: int) -> pd.DataFrame:
        """Columns of tables first .. stop-1, one below the other."""
        return pd.concat([self.frame(k)[names] for k in range(first, stop)], ignore_index=True)

    def summary(self, var_names: list[str] | None = None) -> NoReturn:
        """Refuse: new rows have no chains; convergence is that of the run."""
        raise SpecificationError(
            "New rows are completed from the draws of a run, whose summary() says whether they can be relied on: "
            "imp.summary()."
        )

    def save(self, path: str | os.PathLike[str]) -> NoReturn:
        """Refuse: save the run, which gives the same tables again from the same seed."""
        raise SpecificationError(
            f"Save the run, imp.save(path), and the new rows as a table: bi.load(path).transform(new, "
            f"seed={self.attrs['seed']}) gives the same tables, bit for bit. Or save the tables themselves, to_long()."
        )

    def chains_to_continue(self) -> NoReturn:
        """Refused: new rows have no chains of their own.

        Raises
        ------
        SpecificationError
        """
        raise SpecificationError(
            "New rows are completed from the draws of a run; extend the run, imp.extend(n), and transform them again."
        )

    def _said(self) -> str:
        cells = sum(len(self.rows(name)) for name in self.imputed_columns)
        data: Any = self.data
        known, new = int((~data.is_new).sum()), int(data.is_new.sum())
        return "\n".join(
            [
                f"ImputedNewRows: m = {self.m}, {cells:,} cells of {', '.join(self.imputed_columns) or 'no variable'}",
                f"  {len(data):,} new row{'' if len(data) == 1 else 's'} ({known:,} known and {new:,} new clusters), "
                f"completed from the draws of {self.attrs['model']}, seed {self.attrs['seed']}",
                f"  {counted_events(len(self.log))}",
            ]
        )


def transform(imputations: Imputations, table: Any, seed: int | None) -> ImputedNewRows:
    """See `Imputations.transform`."""
    run = imputations.run
    if run is None:
        why = [event.message for event in imputations.log if event.kind == "cannot go on"]
        raise SpecificationError(
            "transform: these imputations do not carry the model and draws needed to complete new rows"
            + (f": {why[0]}." if why else ".")
        )
    chosen = arguments.new_seed() if seed is None else arguments.whole(seed, "seed", 0)
    new = NewRows(imputations.data, table)
    cells = run.transform(new, imputations.m, chosen)
    attrs = _attrs(imputations.attrs, chosen)
    tree = partial(tree_of_rows, new, cells, attrs)
    made = ImputedNewRows(new, cells, attrs, tree, new.events())
    return made.with_events(imputed_events(made))  # type: ignore[return-value]


def _attrs(of_run: Mapping[str, Any], seed: int) -> dict[str, Any]:
    """The attributes of the run, with the seed of the new rows."""
    kept = (
        "model", "formula", "responses", "priors_name", "priors", "specification", "sampler", "m", "chains", "draws",
        "bayesimp_version", "numpy_version",
    )  # fmt: skip
    return {name: of_run[name] for name in kept if name in of_run} | {
        "seed": seed,
        "seed_of_run": of_run.get("seed"),
    }
