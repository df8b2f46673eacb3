"""What is seen of one response and its predictors: the ground of all checks of a conditional model."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from bayesimp.data.generic import column_values
from bayesimp.data.incomplete import IncompleteData
from bayesimp.errors import SpecificationError
from bayesimp.events import Event
from bayesimp.spec.conditional import Block
from bayesimp.spec.methods import MLMI, ClusterLevel, PyMC, SingleLevel, Stratified
from bayesimp.spec.priors import Normal, Weak

__all__ = ["Sight"]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Sight:
    """What is seen of one response and its predictors."""

    name: str
    block: Block
    values: dict[str, Array]
    data: IncompleteData
    complete: frozenset[str]

    @cached_property
    def rows(self) -> NDArray[np.bool_]:
        """(N,) where the response is observed."""
        return np.isfinite(self.values[self.name])

    @cached_property
    def clusters(self) -> NDArray[np.int64]:
        """Clusters in which it is."""
        return np.unique(self.data.codes[self.rows])

    @cached_property
    def X(self) -> Array:
        return column_values(self.block.fixed, self.values, self.data.codes, centred=True)

    @cached_property
    def kinds(self) -> NDArray[np.str_]:
        """(p,) "complete", "incomplete" (by row), "mean" (of a cluster) for each fixed column."""
        return np.array([
            "mean" if c.over else "complete" if c.base in self.complete else "incomplete" for c in self.block.fixed
        ])  # fmt: skip

    @property
    def names(self) -> list[str]:
        return [column.name for column in self.block.fixed]

    @property
    def seen(self) -> str:
        return f"{int(self.rows.sum()):,} rows of {len(self.clusters):,} clusters"

    @property
    def _weak(self) -> bool:
        """Whether the method has a weak prior of its own on the coefficients."""
        method = self.block.method
        generalised = self.block.family != "normal" and isinstance(method, MLMI | Stratified | SingleLevel)
        return isinstance(method, ClusterLevel) or (generalised and not getattr(method, "published", False))

    def unidentified(self, column: str, message: str) -> list[Event]:
        """Refuse; or, where beta has a proper prior, say that it is all there is."""
        priors = getattr(self.block.method, "priors", None)
        if isinstance(self.block.method, PyMC) and self.block.method.model is not None:
            why = "the model is your own: make sure that its prior is proper"
        elif isinstance(getattr(priors, "beta", None), Normal | Weak) or self._weak:
            why = "its coefficient has its normal prior alone"
        else:
            mean = any(c.name == column and c.over for c in self.block.fixed)
            choice = (
                " (compatible=False: no cluster means; a formula: those that you write in it)" if mean else ""
            )
            raise SpecificationError(
                f"'{self.name}' ({self.block.method.name}): {message} Drop '{column}' from the predictors of "
                f"'{self.block.name}'{choice}, or make its coefficient estimable by a normal prior, for example "
                "methods.Bayes(priors.Priors(beta=priors.Normal(mean=0, sd=...)))."
            )
        return [Event("prior only", f"{self.name} ~ {column}", f"'{self.name}': {message} Kept, for {why}.")]
