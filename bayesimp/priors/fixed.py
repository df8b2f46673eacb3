"""A covariance matrix that is known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bayesimp.priors.base import CovariancePrior
from bayesimp.priors.describe import numbers
from bayesimp.priors.values import positive_definite, symmetric

if TYPE_CHECKING:
    from bayesimp.kernels.covariance.update import CovarianceUpdate
    from bayesimp.priors.density import CovarianceDensity

__all__ = ["Fixed"]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Fixed(CovariancePrior):
    """A known covariance matrix, (d, d), on the scale of the data; Psi refers to the table's origin.

    Parameters
    ----------
    value
        The matrix, symmetric and positive definite.
    """

    ARRAYS: ClassVar[frozenset[str]] = frozenset({"value"})
    PLACE: ClassVar[int] = 4

    value: ArrayLike

    @property
    def known_value(self) -> Array:
        """The matrix (d, d)."""
        return np.array(self.value, dtype=float)

    def resolve(self, sds: Array, where: str) -> Fixed:
        """The same matrix, checked to be (d, d) and positive definite."""
        return Fixed(positive_definite(np.asarray(self.value, dtype=float), len(sds), f"Fixed {where}"))

    def rescale(self, d: Array) -> Fixed:
        """The matrix in other units."""
        return Fixed(np.asarray(self.value) / np.outer(d, d))

    def describe(self, names: Sequence[str]) -> str:
        """The matrix in words."""
        return f"fixed at {numbers(self.value)}"

    def to_power(self, power: float, d: int, where: str) -> Fixed:
        """The matrix itself, which is known whatever the power."""
        return self

    def draw(self, rng: np.random.Generator, d: int, size: int) -> Array:
        """(size, d, d) copies of the matrix."""
        return np.broadcast_to(self.known_value, (size, d, d)).copy()

    def update(self, d: int) -> CovarianceUpdate:
        """The update that leaves the matrix unchanged."""
        from bayesimp.kernels.covariance.update import FIXED, CovarianceUpdate

        return CovarianceUpdate(FIXED, 0.0, np.zeros((d, d)), np.ones(d))

    def density(self, d: int, where: str) -> CovarianceDensity:
        """The density of a known matrix, which has no free parameters."""
        from bayesimp.priors.density import KnownDensity

        return KnownDensity(self.known_value)

    def distribution(self, name: str, d: int, dims: tuple[str, str]) -> Any:
        """A Deterministic (d, d)."""
        import pymc as pm
        import pytensor.tensor as pt

        from bayesimp.models.covariance import scale_data

        return pm.Deterministic(name, pt.as_tensor_variable(scale_data(name, self.known_value)), dims=dims)

    @property
    def at_origin(self) -> bool:
        """True: the matrix is stated for the effects at the table's columns of Z."""
        return True

    def moved(self, C: Array) -> Fixed:
        """The known matrix C^-1 S C^-T."""
        back = np.linalg.inv(C)
        return Fixed(symmetric(back @ np.asarray(self.value) @ back.T))
