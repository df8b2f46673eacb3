"""Runs of which imputations are evenly spaced draws of their chains: imputed from, continued."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from bayesimp import contract
from bayesimp.events import Event
from bayesimp.imputation.events import imputed_events
from bayesimp.imputation.result import Imputations
from bayesimp.progress import progress_bar

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["SpacedRun"]


class SpacedRun(contract.Run):
    """Imputation k is made from chain k % chains, at its draw (k // chains + 1) * spacing - 1.

    Attributes
    ----------
    spacing
        Number of draws from one imputation of a chain to the next.
    """

    spacing: int

    @property
    @abstractmethod
    def length(self) -> tuple[int, int]:
        """Number of chains, and of the draws kept so far in each."""

    @abstractmethod
    def _advance(self, tune: int, draws: int, report: Callable | None) -> None:
        """Make further draws; an interrupted run keeps the draws so far."""

    @abstractmethod
    def _cells(self, m: int) -> dict[str, tuple[NDArray, NDArray]]:
        """Column -> (rows, values (m, cells)), rows in the order of the table."""

    @abstractmethod
    def _tree(self, cells: dict, attrs: dict) -> xr.DataTree:
        """The result as a tree."""

    @abstractmethod
    def _attrs(self, m: int) -> dict[str, Any]:
        """The attributes of a result."""

    def _log(self) -> tuple[Event, ...]:
        """Events of the model and of the chains."""
        return (*self.model.events, *self.events)

    def places(self, numbers: range) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Chains and draws from which imputations are made."""
        chains, _ = self.length
        k = np.asarray(numbers)
        return k % chains, (k // chains + 1) * self.spacing - 1

    def imputations(self, m: int) -> Imputations:
        """Imputations 0 .. m-1, or as many as there are draws for, which is an event."""
        chains, draws = self.length
        events, possible = self._log(), chains * (draws // self.spacing)
        if possible < m:
            events += (Event("fewer imputations", "imputations", f"{possible} of {m} could be made"),)
            m = possible
        cells, attrs = self._cells(m), self._attrs(m)
        tree = partial(self._tree, cells, attrs)
        made = Imputations(self.model.data, cells, attrs, tree, events, run=self)
        return made.with_events(imputed_events(made))

    def extend(self, m: int, progress: bool | None = None) -> Imputations:
        """The same run with `m` imputations in all; its chains are continued from their states."""
        chains, draws = self.length
        # derived classes are dataclasses, and their earlier results do not change
        longer, needed = replace(cast(Any, self)), -(-m // chains) * self.spacing - draws
        with progress_bar(progress) as report:
            if needed > 0:
                longer._advance(0, needed, report)
            return longer.imputations(m)
