"""Huang and Wand's prior: half-t standard deviations, conditionally conjugate.

    S | a ~ IW(nu + d - 1, scale matrix 2 nu diag(1/a)),   a_k ~ InvGamma(1/2, 1/scale_k^2)      Huang & Wand 2013, eq. 2
    => sd_k ~ half-t(nu, scale_k); nu = 2: every correlation uniform on (-1, 1)

Use this file as a template for a new prior on a covariance matrix: it defines what `bayesimp.priors.base.CovariancePrior`
requires, with the parameters as fields of a dataclass.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from bayesimp.priors.base import CovariancePrior
from bayesimp.priors.describe import labelled
from bayesimp.priors.scales import Scaled
from bayesimp.priors.values import degrees_to_power, positive, vector

if TYPE_CHECKING:
    from bayesimp.kernels.covariance.update import CovarianceUpdate
    from bayesimp.priors.density import CovarianceDensity
    from bayesimp.priors.elements import Elements

__all__ = ["HuangWand"]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class HuangWand(Scaled, CovariancePrior):
    """Half-t on every standard deviation, uniform correlations at ``nu = 2``; conditionally conjugate.

    Parameters
    ----------
    scale, times_sd
        Scales of the half-t distributions, in the units of the data or as multiples of the variables' standard
        deviations (1 if neither is given).
    nu
        Degrees of freedom, positive.
    """

    PLACE: ClassVar[int] = 1

    nu: float = 2.0

    def __post_init__(self) -> None:
        super().__post_init__()
        positive(self.nu, "HuangWand: nu")

    def resolve(self, sds: Array, where: str) -> HuangWand:
        """The prior with an explicit scale (d,) for each component."""
        return self.with_scales(sds)

    def rescale(self, d: Array) -> HuangWand:
        """The prior with scales divided by d."""
        return self.over(d)

    def describe(self, names: Sequence[str]) -> str:
        """The half-t standard deviations in words, and that correlations are uniform for nu = 2."""
        correlations = ", correlations uniform" if self.nu == 2 and len(names) > 1 else ""
        return f"Huang-Wand, sd ~ half-t({self.nu:g}) of scale {labelled(self.scales, names)}{correlations}"

    def draw(self, rng: np.random.Generator, d: int, size: int) -> Array:
        """(size, d, d) independent draws."""
        from bayesimp.kernels.covariance.draws import draw_huang_wand

        return draw_huang_wand(rng, self.nu, np.broadcast_to(self.scales, (d,)), (size,))

    def update(self, d: int) -> CovarianceUpdate:
        """The conjugate update, through auxiliary variables (Huang & Wand 2013, eq. 2)."""
        from bayesimp.kernels.covariance.update import HUANG_WAND, CovarianceUpdate

        return CovarianceUpdate(HUANG_WAND, float(self.nu), np.zeros((d, d)), self.scales)

    def density(self, d: int, where: str) -> CovarianceDensity:
        """Log density on the free parameters of the precision."""
        from bayesimp.kernels.covariance.density import huang_wand
        from bayesimp.priors.density import MatrixDensity

        return MatrixDensity(d, True, huang_wand, (float(self.nu), vector(self.scales, d, "HuangWand")))

    def to_power(self, power: float, d: int, where: str) -> HuangWand | None:
        """For d = 1, half-t with nu_a = a (nu + 1) - 1 and scale_a^2 = nu scale^2 / nu_a."""
        nu = degrees_to_power(self.nu, power, where)
        return HuangWand(self.scales * np.sqrt(self.nu / nu), None, nu) if d == 1 else None

    def elements(self, d: int) -> Elements:
        """The prior of a matrix with fixed entries, for element-wise steps."""
        from bayesimp.kernels.latent.residual import HUANG_WAND
        from bayesimp.priors.elements import Elements

        return Elements(HUANG_WAND, float(self.nu), np.zeros((d, d)), self.scales)

    def entries_logp(self, S: Any, R: Any, log_s: Any, free: NDArray[np.int64]) -> Any:
        """The density of the module with a integrated out: |S|^-(nu+2d)/2 prod_k (nu (S^-1)_kk +
        1/scale_k^2)^-(nu+d)/2."""
        import pytensor.tensor as pt

        K, logdet = pt.linalg.inv(S), pt.linalg.slogdet(S)[1]
        nu, scale = float(self.nu), self.scales
        d = len(scale)
        value = -0.5 * (nu + 2 * d) * logdet
        value -= 0.5 * (nu + d) * pt.log(nu * pt.diagonal(K) + scale**-2.0).sum()
        return value + (d + 1) * log_s[free].sum()

    def distribution(self, name: str, d: int, dims: tuple[str, str]) -> Any:
        """`bayesimp.models.covariance.HuangWandCovariance`."""
        from bayesimp.models.covariance import HuangWandCovariance, scale_data

        return HuangWandCovariance(name, self.nu, scale_data(name, self.scales), dims=dims)
