"""The inverse-Wishart prior.

|S|^-(nu+d+1)/2 exp(-tr(V^-1 S^-1)/2)              Kunkel & Kaizar 2017, sec. 2.2
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bayesimp.errors import SpecificationError
from bayesimp.priors.base import CovariancePrior
from bayesimp.priors.components import ComponentPrior
from bayesimp.priors.describe import numbers
from bayesimp.priors.values import degrees_to_power, positive, positive_definite, symmetric, vector

if TYPE_CHECKING:
    from bayesimp.kernels.covariance.update import CovarianceUpdate
    from bayesimp.priors.density import CovarianceDensity
    from bayesimp.priors.elements import Elements

__all__ = ["InverseWishart"]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class InverseWishart(CovariancePrior, ComponentPrior):
    """Inverse-Wishart prior in the convention of Kunkel & Kaizar: ``scipy.stats.invwishart(df=nu, scale=inv(V))``.

    Parameters
    ----------
    nu
        Degrees of freedom, more than d - 1. ``None``: d, the smallest integer for which the prior is proper (pan's
        default).
    V
        Number (times the identity) or (d, d) positive definite matrix, in units of 1 / variance.
    improper
        Allow nu <= d - 1, for which the density has no finite integral, for comparison with software that allows it
        (jomo). The posterior is proper if there are more than d - 1 - nu rows. Gibbs sampling only.
    marginal
        ``nu`` refers to each variance; the matrix gets nu + d - 1 degrees of freedom. Then S_kk ~ IW(nu, V_kk) for
        diagonal V and any d (proper for every nu > 0).
    centred
        For Psi with slopes: whether the prior refers to the effects at centred columns of Z (`bayesimp.priors.centred`),
        as all priors of Psi except `Fixed` do. False: it refers to the effects at the table's columns, exactly as in pan
        and jomo, or when V is a guess of the reported Psi.
    """

    ARRAYS: ClassVar[frozenset[str]] = frozenset({"V"})
    PLACE: ClassVar[int] = 0

    nu: float | None = None
    V: ArrayLike = 1.0
    improper: bool = False
    marginal: bool = False
    centred: bool = True

    def __post_init__(self) -> None:
        if self.nu is not None and not self.improper:
            positive(self.nu, "InverseWishart: nu")

    @property
    def numbers(self) -> tuple[float, Array]:
        """nu and V, (d, d) or (d,), of a resolved prior."""
        assert self.nu is not None, "the prior is not resolved"
        return self.nu, np.asarray(self.V, dtype=float)

    # --- of a matrix ------------------------------------------------------------------------------

    def resolve(self, sds: Array, where: str) -> InverseWishart:
        """The prior with float nu and V (d, d); see `CovariancePrior.resolve`."""
        d = len(sds)
        nu = float(d if self.nu is None else self.nu + (d - 1 if self.marginal else 0))
        if nu <= d - 1 and not self.improper:
            raise SpecificationError(
                f"InverseWishart on {where}: nu = {nu:g} is too small for a proper prior on a {d} x {d} "
                f"matrix. Use nu > {d - 1} (nu=None means {d}), or set improper=True if this is intended."
            )
        V = np.asarray(self.V, dtype=float)
        V = float(V) * np.eye(d) if V.ndim == 0 else V
        V = positive_definite(V, d, f"InverseWishart on {where}: V")
        return InverseWishart(nu, V, self.improper, centred=self.centred)

    def rescale(self, d: Array) -> InverseWishart:
        """The prior with D V D."""
        # S ~ IW(nu, scale V^-1)  =>  D^-1 S D^-1 ~ IW(nu, scale D^-1 V^-1 D^-1), that is V -> D V D
        return replace(self, V=np.asarray(self.V) * np.outer(d, d))

    def describe(self, names: Sequence[str]) -> str:
        """nu and V in words."""
        nu, V = self.numbers
        diagonal = np.array_equal(V, np.diag(np.diag(V)))
        equal = diagonal and np.ptp(np.diag(V)) == 0
        text = f"{V[0, 0]:.4g} I" if equal else f"diag({numbers(np.diag(V))})" if diagonal else numbers(V)
        return f"inverse-Wishart(nu = {nu:g}, V = {text})" + (", improper" if self.improper else "")

    def draw(self, rng: np.random.Generator, d: int, size: int) -> Array:
        """(size, d, d) independent draws."""
        from bayesimp.kernels.covariance.draws import draw_inverse_wishart

        nu, V = self.numbers
        return draw_inverse_wishart(rng, nu, np.linalg.inv(V), (size,))

    def update(self, d: int) -> CovarianceUpdate:
        """The conjugate update."""
        from bayesimp.kernels.covariance.update import INVERSE_WISHART, CovarianceUpdate

        nu, V = self.numbers
        return CovarianceUpdate(INVERSE_WISHART, nu, np.linalg.inv(V), np.ones(d))

    def density(self, d: int, where: str) -> CovarianceDensity:
        """Log density on the free parameters of the precision."""
        from bayesimp.kernels.covariance.density import inverse_wishart
        from bayesimp.priors.density import MatrixDensity

        nu, V = self.numbers
        return MatrixDensity(d, True, inverse_wishart, (nu, symmetric(np.linalg.inv(V))))

    def to_power(self, power: float, d: int, where: str) -> InverseWishart | None:
        """For d = 1, IW(a (nu + 1) - 1, V / a)."""
        nu, V = self.numbers
        if d > 1:  # nu of each variance is nu - d + 1
            self.improper or degrees_to_power(nu - d + 1, power, where)
            return None
        made = power * (nu + 1) - 1 if self.improper else degrees_to_power(nu, power, where)
        return replace(self, nu=made, V=V / power)

    def elements(self, d: int) -> Elements:
        """The prior of a matrix with fixed entries, for element-wise steps."""
        from bayesimp.kernels.latent.residual import INVERSE_WISHART
        from bayesimp.priors.elements import Elements

        nu, V = self.numbers
        return Elements(INVERSE_WISHART, nu, np.linalg.inv(V), np.ones(d))

    def entries_logp(self, S: Any, R: Any, log_s: Any, free: NDArray[np.int64]) -> Any:
        """The density of the module, with the Jacobian ds_k^2 dS_kj = 2 s_k^(d+1) ds_k dR_kj: (d + 1) log s_k of each
        free s_k."""
        import pytensor.tensor as pt

        K, logdet = pt.linalg.inv(S), pt.linalg.slogdet(S)[1]
        nu, V = self.numbers
        d = len(V)
        value = -0.5 * (nu + d + 1) * logdet - 0.5 * pt.sum(K * pt.as_tensor(np.linalg.inv(V)))
        return value + (d + 1) * log_s[free].sum()

    def distribution(self, name: str, d: int, dims: tuple[str, str]) -> Any:
        """`bayesimp.models.covariance.InverseWishartCovariance`."""
        from bayesimp.models.covariance import InverseWishartCovariance, scale_data

        nu, V = self.numbers
        return InverseWishartCovariance(
            name, nu, scale=scale_data(name, symmetric(np.linalg.inv(V))), dims=dims
        )

    def is_proper(self, d: int) -> bool:
        """Whether nu > d - 1."""
        return self.nu is not None and self.nu > d - 1

    def require_proper(self, d: int, where: str, sampler: str, cure: str) -> None:
        """Refuse nu <= d - 1; see `CovariancePrior.require_proper`."""
        if not self.is_proper(d):
            raise SpecificationError(
                f"The prior on {where} is improper (nu = {self.nu:g}, d = {d}): {sampler} needs nu > {d - 1}. {cure}"
            )

    @property
    def at_origin(self) -> bool:
        """Whether the prior is one of Psi itself (``centred=False``)."""
        return not self.centred

    def moved(self, C: Array) -> InverseWishart:
        """The prior of C^-1 S C^-T, which is inverse-Wishart too."""
        # S ~ IW(nu, V)  =>  C^-1 S C^-T ~ IW(nu, C'V C)
        return replace(self, V=symmetric(C.T @ np.asarray(self.V) @ C))

    def squares_at_origin(self) -> Array | None:
        """V^-1 (d, d) if the prior is one of Psi itself, else None."""
        return None if self.centred else np.linalg.inv(np.asarray(self.V))

    def variance_law(self) -> Any | None:
        """For d = 1 the inverse gamma distribution of the variance; None if it is improper."""
        from scipy import stats

        nu, V = self.numbers
        return stats.invgamma(nu / 2, scale=1 / (2 * V.item())) if nu > 0 else None

    # --- of each variance, in one dimension: IW(nu, v) = InvGamma(nu/2, 1/(2v)) --------------------

    def resolve_components(self, sds: Array, where: str) -> InverseWishart:
        """The prior with float nu and V (d,), one number per variance."""
        v = vector(self.V, len(sds), f"Diagonal(InverseWishart) on {where}: V")
        positive(v, f"Diagonal(InverseWishart) on {where}: V")
        return InverseWishart(1.0 if self.nu is None else float(self.nu), v)

    def rescale_components(self, d: Array) -> InverseWishart:
        """The prior with V d^2."""
        return InverseWishart(self.nu, np.asarray(self.V) * d**2)

    def describe_components(self, names: Sequence[str]) -> str:
        """nu and V of each variance in words."""
        nu, v = self.numbers
        return f"variances ~ IW({nu:g}, {numbers(v)}) each"

    def draw_components(self, rng: np.random.Generator, d: int, size: int) -> Array:
        """(size, d) inverse gamma draws."""
        nu, v = self.numbers
        return 1 / (rng.gamma(nu / 2, 1.0, (size, d)) * 2 * v)

    def component_distribution(self, name: str, dims: tuple[str, ...]) -> Any:
        """``<name>_variance`` (d,), `pm.InverseGamma`."""
        import pymc as pm

        from bayesimp.models.covariance import float64, scale_data

        nu, v = self.numbers
        alpha, beta = float64(nu / 2, scale_data(name, 1 / (2 * v)))
        return pm.InverseGamma(f"{name}_variance", alpha, beta, dims=dims)

    def component_density(self, d: int) -> CovarianceDensity:
        """Log density on the logarithms of the variances."""
        from bayesimp.kernels.covariance.density import INVERSE_GAMMA
        from bayesimp.priors.density import DiagonalDensity

        nu, v = self.numbers
        return DiagonalDensity(d, nu, 1 / (2 * vector(v, d, "V")), INVERSE_GAMMA)

    def component_update(self, d: int) -> CovarianceUpdate:
        """The conjugate update of each variance."""
        from bayesimp.kernels.covariance.update import DIAGONAL_INVERSE_GAMMA, CovarianceUpdate

        nu, v = self.numbers
        return CovarianceUpdate(DIAGONAL_INVERSE_GAMMA, nu, np.diag(1.0 / v), np.ones(d))

    def components_to_power(self, power: float, where: str) -> InverseWishart:
        """IW(a (nu + 1) - 1, v / a) of each variance."""
        nu, v = self.numbers
        return InverseWishart(degrees_to_power(nu, power, where), v / power)

    def component_elements(self, d: int) -> Elements:
        """The prior of a diagonal matrix with fixed entries, for element-wise steps."""
        from bayesimp.kernels.latent.residual import INVERSE_GAMMAS
        from bayesimp.priors.elements import Elements

        nu, v = self.numbers
        return Elements(INVERSE_GAMMAS, nu, np.diag(np.broadcast_to(1.0 / v, d)), np.ones(d))

    def component_entries_logp(self, log_s: Any, free: NDArray[np.int64]) -> Any:
        """log InvGamma(s_k^2 | nu/2, 1/(2v)) + 2 log s_k of each free s_k."""
        import pytensor.tensor as pt

        nu, v = self.numbers
        v = v[free]
        return (-nu * log_s[free] - pt.exp(-2 * log_s[free]) / (2 * v)).sum()
