"""A covariance matrix without correlations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from bayesimp.errors import SpecificationError
from bayesimp.priors.base import CovariancePrior, Prior
from bayesimp.priors.components import ComponentPrior
from bayesimp.priors.scales import HalfT, ScalePrior

if TYPE_CHECKING:
    from bayesimp.kernels.covariance.update import CovarianceUpdate
    from bayesimp.priors.density import CovarianceDensity
    from bayesimp.priors.elements import Elements

__all__ = ["Diagonal"]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Diagonal(CovariancePrior):
    """Covariance matrix with independent components; for Psi with slopes, independent at centred columns of Z.

    Parameters
    ----------
    variances
        A prior on each standard deviation, or a one-dimensional inverse-Wishart, IW(nu, v) =
        InvGamma(nu/2, 1/(2v)), with v a number or one number per component.
    """

    INNER: ClassVar[Mapping[str, tuple[type[Prior], ...]]] = {"variances": (ScalePrior, ComponentPrior)}
    PLACE: ClassVar[int] = 3

    variances: ComponentPrior = field(default_factory=HalfT)

    def resolve(self, sds: Array, where: str) -> Diagonal:
        """The prior with every variance's prior explicit; see `CovariancePrior.resolve`."""
        if not isinstance(self.variances, ComponentPrior):
            raise SpecificationError(
                f"{self!r} is not a prior on a covariance matrix ({where}); variances must be HalfT, HalfNormal, "
                "Exponential or InverseWishart."
            )
        return Diagonal(self.variances.resolve_components(sds, where))

    def rescale(self, d: Array) -> Diagonal:
        """The prior of the variances divided by d^2."""
        return Diagonal(self.variances.rescale_components(d))

    def describe(self, names: Sequence[str]) -> str:
        """The text "diagonal, " followed by the prior of the variances in words."""
        return f"diagonal, {self.variances.describe_components(names)}"

    def draw(self, rng: np.random.Generator, d: int, size: int) -> Array:
        """(size, d, d) diagonal matrices."""
        return self.variances.draw_components(rng, d, size)[:, :, None] * np.eye(d)

    def update(self, d: int) -> CovarianceUpdate | None:
        """The conjugate update of the variances, or None."""
        return self.variances.component_update(d)

    @property
    def is_conjugate(self) -> bool:
        """Whether the variances have a conjugate update."""
        return isinstance(self.variances, ComponentPrior) and self.variances.components_are_conjugate

    def density(self, d: int, where: str) -> CovarianceDensity:
        """Log density of the variances on free parameters (d,)."""
        return self.variances.component_density(d)

    def to_power(self, power: float, d: int, where: str) -> Diagonal | None:
        """The variances' priors raised to the power, or None."""
        made = self.variances.components_to_power(power, where)
        return None if made is None else Diagonal(made)

    def elements(self, d: int) -> Elements | None:
        """The prior of the variances when some are fixed, for element-wise steps, or None."""
        return self.variances.component_elements(d)

    def entries_logp(self, S: Any, R: Any, log_s: Any, free: NDArray[np.int64]) -> Any:
        """The density of the free standard deviations."""
        return self.variances.component_entries_logp(log_s, free)

    @property
    def has_correlations(self) -> bool:
        """False."""
        return False

    def distribution(self, name: str, d: int, dims: tuple[str, str]) -> Any:
        """A Deterministic (d, d) with the variances on its diagonal."""
        import pymc as pm

        variances = self.variances.component_distribution(name, dims[:1])
        return pm.Deterministic(name, variances[:, None] * np.eye(d), dims=dims)
