"""The LKJ prior on correlations, with a prior on the standard deviations.

S = diag(s) R diag(s),   R ~ LKJ(eta): density ~ det(R)^(eta - 1),   s_k ~ sd      Lewandowski et al. 2009
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from bayesimp.errors import SpecificationError
from bayesimp.priors.base import CovariancePrior, Prior, names_of
from bayesimp.priors.scales import HalfT, ScalePrior
from bayesimp.priors.values import positive, vector

if TYPE_CHECKING:
    from bayesimp.priors.density import CovarianceDensity
    from bayesimp.priors.elements import Elements

__all__ = ["LKJ"]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class LKJ(CovariancePrior):
    """LKJ(eta) on the correlations times a prior on the standard deviations; sampled by NUTS only.

    Parameters
    ----------
    eta
        Positive; 1 is uniform over correlation matrices.
    sd
        Prior of the standard deviations: `HalfT`, `HalfNormal` or `Exponential`.
    """

    INNER: ClassVar[Mapping[str, tuple[type[Prior], ...]]] = {"sd": (ScalePrior,)}
    PLACE: ClassVar[int] = 2

    eta: float = 2.0
    sd: ScalePrior = field(default_factory=HalfT)

    def __post_init__(self) -> None:
        positive(self.eta, "LKJ: eta")

    def resolve(self, sds: Array, where: str) -> LKJ:
        """The prior with an explicit scale (d,) for each standard deviation."""
        if not isinstance(self.sd, ScalePrior):
            raise SpecificationError(
                f"LKJ on {where}: sd must be a prior on a standard deviation ({', '.join(names_of(ScalePrior))}), got "
                f"{self.sd!r}."
            )
        return replace(self, sd=self.sd.with_scales(sds))

    def rescale(self, d: Array) -> LKJ:
        """The prior with scales divided by d."""
        return replace(self, sd=self.sd.over(d))

    def describe(self, names: Sequence[str]) -> str:
        """eta and the prior of the standard deviations in words."""
        return f"LKJ({self.eta:g}) correlations, {self.sd.describe_components(names)}"

    def draw(self, rng: np.random.Generator, d: int, size: int) -> Array:
        """(size, d, d) independent draws."""
        from bayesimp.kernels.covariance.draws import draw_lkj_covariance

        scale = np.broadcast_to(self.sd.scales, (d,))
        return draw_lkj_covariance(rng, self.eta, scale, self.sd.degrees, self.sd.family, (size,))

    def density(self, d: int, where: str) -> CovarianceDensity:
        """Log density on the free parameters of the matrix."""
        from bayesimp.kernels.covariance.density import lkj
        from bayesimp.priors.density import MatrixDensity

        numbers = float(self.eta), vector(self.sd.scales, d, "LKJ"), self.sd.degrees, self.sd.family
        return MatrixDensity(d, False, lkj, numbers)

    def to_power(self, power: float, d: int, where: str) -> LKJ | None:
        """LKJ(a (eta - 1) + 1), and the prior of the standard deviations raised to the power.

        Raises
        ------
        SpecificationError
            The power is improper.
        """
        eta, sd = power * (self.eta - 1) + 1, self.sd.components_to_power(power, where)
        if d > 1 and eta <= 0:
            raise SpecificationError(
                f"The prior on {where}, LKJ({self.eta:g}), is improper when raised to the power {power:g}. Use a power "
                f"below {1 / (1 - self.eta):.3g}."
            )
        return None if sd is None else LKJ(eta if d > 1 else self.eta, sd)

    def elements(self, d: int) -> Elements | None:
        """The prior of a matrix with fixed entries, for element-wise steps: that of standard deviations, and eta."""
        scales = self.sd.component_elements(d)
        return scales and scales._replace(eta=float(self.eta))

    def entries_logp(self, S: Any, R: Any, log_s: Any, free: NDArray[np.int64]) -> Any:
        """(eta - 1) log |R| and the density of the free standard deviations."""
        import pytensor.tensor as pt

        correlations = (self.eta - 1) * pt.linalg.slogdet(R)[1]
        return correlations + self.sd.component_entries_logp(log_s, free)

    def distribution(self, name: str, d: int, dims: tuple[str, str]) -> Any:
        """`bayesimp.models.covariance.LKJCovariance`."""
        from bayesimp.models.covariance import LKJCovariance, scale_data

        return LKJCovariance(name, self.eta, self.sd, scale=scale_data(name, self.sd.scales), dims=dims)
