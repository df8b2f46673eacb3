"""The contract of a prior on each variance of a diagonal matrix, inside `bayesimp.priors.diagonal.Diagonal`."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from bayesimp.errors import SpecificationError
from bayesimp.priors.base import Prior

if TYPE_CHECKING:
    from bayesimp.kernels.covariance.update import CovarianceUpdate
    from bayesimp.priors.density import CovarianceDensity
    from bayesimp.priors.elements import Elements

__all__ = ["ComponentPrior"]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class ComponentPrior(Prior, registered=False):
    """Prior on each variance of a diagonal matrix, as accepted by `Diagonal`; S_11, ..., S_dd are independent."""

    @abstractmethod
    def resolve_components(self, sds: Array, where: str) -> Self:
        """The same prior with one explicit number for each component; see `CovariancePrior.resolve`."""

    @abstractmethod
    def rescale_components(self, d: Array) -> Self:
        """The prior of S_kk / d_k^2; d (d,) positive."""

    @abstractmethod
    def describe_components(self, names: Sequence[str]) -> str:
        """The words that follow "diagonal, "; `names` (d,) label the components."""

    @abstractmethod
    def draw_components(self, rng: np.random.Generator, d: int, size: int) -> Array:
        """(size, d) draws of the variances."""

    @abstractmethod
    def component_distribution(self, name: str, dims: tuple[str, ...]) -> Any:
        """The variances (d,), built from variables ``<name>_...`` with these dimensions in the open PyMC model."""

    @abstractmethod
    def component_density(self, d: int) -> CovarianceDensity:
        """Log density of the diagonal matrix on free parameters (d,)."""

    def component_update(self, d: int) -> CovarianceUpdate | None:
        """The conjugate update of the diagonal matrix; None if there is none."""
        return None

    def components_to_power(self, power: float, where: str) -> ComponentPrior | None:
        """The prior raised to a power (`bayesimp.priors.powered`), every number explicit; None if it has none."""
        return None

    def component_elements(self, d: int) -> Elements | None:
        """The prior of the diagonal matrix for element-wise steps; see `CovariancePrior.elements`."""
        return None

    def component_entries_logp(self, log_s: Any, free: NDArray[np.int64]) -> Any:
        """log p of the free log standard deviations, as a PyTensor expression; see `CovariancePrior.entries_logp`."""
        raise SpecificationError(
            f"{type(self).__name__} has no `component_entries_logp`, so it cannot be the prior where variances are fixed."
        )

    @property
    def components_are_conjugate(self) -> bool:
        """Whether there is a `component_update`."""
        return type(self).component_update is not ComponentPrior.component_update
