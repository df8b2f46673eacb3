"""Priors on standard deviations, inside `LKJ` and `Diagonal`, and the scale that they share with `HuangWand`.

The scale of a prior is either given on the scale of the data (``scale=``) or in multiples of the standard deviation of
the variable (``times_sd=``), in which case it changes with the unit of the data.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bayesimp.errors import SpecificationError
from bayesimp.priors.base import Prior
from bayesimp.priors.components import ComponentPrior
from bayesimp.priors.describe import labelled
from bayesimp.priors.values import degrees_to_power, positive, vector

if TYPE_CHECKING:
    from bayesimp.kernels.covariance.update import CovarianceUpdate
    from bayesimp.priors.density import CovarianceDensity
    from bayesimp.priors.elements import Elements

__all__ = ["Exponential", "HalfNormal", "HalfT", "ScalePrior", "Scaled"]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Scaled(Prior, registered=False):
    """A prior whose numbers are scales of standard deviations.

    Parameters
    ----------
    scale
        Number, or one for each component, on the scale of the data.
    times_sd
        Multiple of the standard deviation of the variable; 1 if neither is given.
    """

    ARRAYS: ClassVar[frozenset[str]] = frozenset({"scale"})

    scale: ArrayLike | None = None
    times_sd: float | None = None

    def __post_init__(self) -> None:
        if self.scale is None and self.times_sd is None:
            object.__setattr__(self, "times_sd", 1.0)
        if self.scale is not None and self.times_sd is not None:
            raise SpecificationError(
                f"{type(self).__name__}: give scale= (data scale) or times_sd= (multiples of the sd), not both."
            )
        what = "scale" if self.scale is not None else "times_sd"
        positive(getattr(self, what), f"{type(self).__name__}: {what}")

    @property
    def scales(self) -> Array:
        """(d,) scales of a resolved prior."""
        return np.array(self.scale, dtype=float)

    def with_scales(self, sds: Array) -> Self:
        """The prior with an explicit scale for each of the d components; sds (d,)."""
        if self.scale is None:
            assert self.times_sd is not None
            return replace(self, scale=self.times_sd * np.asarray(sds, dtype=float), times_sd=None)
        return replace(self, scale=vector(self.scale, len(sds), type(self).__name__), times_sd=None)

    def over(self, d: Array) -> Self:
        """The prior of standard deviations divided by d (d,); of a resolved prior."""
        if self.scale is None:
            raise SpecificationError(
                f"{self!r} has no scale yet: rescale what priors.resolve(prior, sds, where) gives."
            )
        return replace(self, scale=np.asarray(self.scale) / d)


@dataclass(frozen=True)
class ScalePrior(Scaled, ComponentPrior, registered=False):
    """Prior on each standard deviation.

    Attributes
    ----------
    family
        Code of the density in `bayesimp.kernels.covariance.density`: HALF_T, HALF_NORMAL or EXPONENTIAL, in units of the
        scale.
    """

    @property
    @abstractmethod
    def family(self) -> int:
        """The number that identifies the distribution in kernels."""

    @property
    def degrees(self) -> float:
        """Degrees of freedom, for families that have them; kernels ignore the number otherwise."""
        return 1.0

    @property
    @abstractmethod
    def words(self) -> str:
        """Name of the family, such as ``"half-normal"``."""

    @abstractmethod
    def sd_distribution(self, name: str, scale: Any, dims: tuple[str, ...]) -> Any:
        """The standard deviations (d,) as variable `name` of the open PyMC model; scale (d,) is a PyMC variable."""

    def describe_components(self, names: Sequence[str]) -> str:
        """The distribution of the standard deviations in words, with their scales."""
        return f"sd ~ {self.words} of scale {labelled(self.scales, names)}"

    def draw_sd(self, rng: np.random.Generator, d: int, size: int) -> Array:
        """(size, d) draws of the standard deviations."""
        from bayesimp.kernels.covariance.draws import draw_standard_deviations

        scale = np.broadcast_to(self.scales, (d,))
        return draw_standard_deviations(rng, scale, self.degrees, self.family, (size,))

    def resolve_components(self, sds: Array, where: str) -> Self:
        """The prior with an explicit scale (d,) for each standard deviation."""
        return self.with_scales(sds)

    def rescale_components(self, d: Array) -> Self:
        """The prior with scales divided by d."""
        return self.over(d)

    def draw_components(self, rng: np.random.Generator, d: int, size: int) -> Array:
        """(size, d) squares of drawn standard deviations."""
        return self.draw_sd(rng, d, size) ** 2

    def component_distribution(self, name: str, dims: tuple[str, ...]) -> Any:
        """The square of ``<name>_sd`` (d,)."""
        from bayesimp.models.covariance import scale_data

        return self.sd_distribution(f"{name}_sd", scale_data(name, self.scales), dims) ** 2

    def component_density(self, d: int) -> CovarianceDensity:
        """Log density on the logarithms of the standard deviations."""
        from bayesimp.priors.density import DiagonalDensity

        return DiagonalDensity(d, self.degrees, vector(self.scales, d, type(self).__name__), self.family)

    def components_to_power(self, power: float, where: str) -> ScalePrior | None:
        """The resolved prior raised to a power, if that is in the same family; otherwise None."""
        return None

    def component_elements(self, d: int) -> Elements:
        """The prior of the standard deviations when some are fixed, for element-wise steps."""
        from bayesimp.kernels.latent.residual import SCALES
        from bayesimp.priors.elements import Elements

        return Elements(SCALES, self.degrees, np.zeros((d, d)), self.scales, 1.0, self.family)

    @abstractmethod
    def log_p(self, z: Any) -> Any:
        """log density of a standard deviation over its scale, z, up to a constant, as a PyTensor expression."""

    def component_entries_logp(self, log_s: Any, free: NDArray[np.int64]) -> Any:
        """log p of the free standard deviations, on the log scale."""
        import pytensor.tensor as pt

        z = pt.exp(log_s[free]) / self.scales[free]
        return (self.log_p(z) + log_s[free]).sum()


@dataclass(frozen=True)
class HalfT(ScalePrior):
    """Half-t prior on a standard deviation with ``nu`` degrees of freedom (nu = 1: half-Cauchy).

    Parameters
    ----------
    scale, times_sd
        The scale, in the units of the data or as a multiple of the variable's standard deviation (1 if neither is given).
    nu
        Degrees of freedom, positive.
    """

    PLACE: ClassVar[int] = 5

    nu: float = 3.0

    def __post_init__(self) -> None:
        super().__post_init__()
        positive(self.nu, "HalfT: nu")

    @property
    def family(self) -> int:
        """The number that identifies half-t in kernels."""
        from bayesimp.kernels.covariance.density import HALF_T

        return HALF_T

    @property
    def degrees(self) -> float:
        """nu."""
        return float(self.nu)

    @property
    def words(self) -> str:
        """The distribution without its scale, in words."""
        return f"half-t({self.nu:g})"

    def log_p(self, z: Any) -> Any:
        """-(nu + 1)/2 log(1 + z^2 / nu)."""
        import pytensor.tensor as pt

        return -0.5 * (self.degrees + 1) * pt.log1p(z * z / self.degrees)

    def components_to_power(self, power: float, where: str) -> HalfT:
        """The half-t with nu_a = a (nu + 1) - 1, scale_a^2 = nu scale^2 / nu_a."""
        nu = degrees_to_power(self.nu, power, where)
        return HalfT(self.scales * np.sqrt(self.nu / nu), None, nu)

    def component_update(self, d: int) -> CovarianceUpdate:
        """The conjugate update of each variance, through an auxiliary variable."""
        from bayesimp.kernels.covariance.update import DIAGONAL_HALF_T, CovarianceUpdate

        return CovarianceUpdate(DIAGONAL_HALF_T, float(self.nu), np.zeros((d, d)), self.scales)

    def sd_distribution(self, name: str, scale: Any, dims: tuple[str, ...]) -> Any:
        """`pm.HalfStudentT`."""
        import pymc as pm

        from bayesimp.models.covariance import float64

        return pm.HalfStudentT(name, nu=float64(self.nu)[0], sigma=scale, dims=dims)


@dataclass(frozen=True)
class HalfNormal(ScalePrior):
    """Half-normal prior on a standard deviation.

    Parameters
    ----------
    scale, times_sd
        The scale, in the units of the data or as a multiple of the variable's standard deviation (1 if neither is given).
    """

    PLACE: ClassVar[int] = 6

    @property
    def family(self) -> int:
        """The number that identifies half-normal in kernels."""
        from bayesimp.kernels.covariance.density import HALF_NORMAL

        return HALF_NORMAL

    @property
    def words(self) -> str:
        """The distribution without its scale, in words."""
        return "half-normal"

    def components_to_power(self, power: float, where: str) -> HalfNormal:
        """The half-normal with scale / sqrt(a)."""
        return HalfNormal(self.scales / np.sqrt(power))

    def log_p(self, z: Any) -> Any:
        """-z^2 / 2."""
        return -0.5 * z * z

    def sd_distribution(self, name: str, scale: Any, dims: tuple[str, ...]) -> Any:
        """`pm.HalfNormal`."""
        import pymc as pm

        return pm.HalfNormal(name, sigma=scale, dims=dims)


@dataclass(frozen=True)
class Exponential(ScalePrior):
    """Exponential prior on a standard deviation, with mean ``scale``.

    Parameters
    ----------
    scale, times_sd
        The mean, in the units of the data or as a multiple of the variable's standard deviation (1 if neither is
        given).
    """

    PLACE: ClassVar[int] = 7

    @property
    def family(self) -> int:
        """The number that identifies the exponential distribution in kernels."""
        from bayesimp.kernels.covariance.density import EXPONENTIAL

        return EXPONENTIAL

    @property
    def words(self) -> str:
        """The distribution without its scale, in words."""
        return "exponential"

    def components_to_power(self, power: float, where: str) -> Exponential:
        """scale / a."""
        return Exponential(self.scales / power)

    def log_p(self, z: Any) -> Any:
        """-z."""
        return -z

    def sd_distribution(self, name: str, scale: Any, dims: tuple[str, ...]) -> Any:
        """`pm.Exponential`."""
        import pymc as pm

        return pm.Exponential(name, scale=scale, dims=dims)
