"""Priors raised to a power, for sensitivity analyses: `powered`, `Powered`.

    p_a(s, R) ~ p(s, R)^a,    S = diag(s) R diag(s)          Kallioinen, Paananen, Buerkner & Vehtari 2024, eq. 1 and 2

With a = 2 the prior counts twice, with a = 1/2 half. The power of a density depends on the parametrisation; here
it is that of standard deviations and correlations, as in `CovariancePrior.log_density`, so a prior that is flat in
them is unchanged, and nothing depends on the unit of the data. Powers that stay in the family:

    half-t(nu, A)       nu_a = a (nu + 1) - 1,  A_a^2 = nu A^2 / nu_a         from (1 + s^2 / (nu A^2))^(-a (nu + 1) / 2)
    half-normal(A)      A_a = A / sqrt(a)
    exponential(A)      A_a = A / a
    IW(nu, v), d = 1    nu_a = a (nu + 1) - 1,  v_a = v / a                   from s^(-a (nu + 1)) exp(-a / (2 v s^2))
    LKJ(eta)            eta_a = a (eta - 1) + 1
    N(mu, sd^2)         sd_a = sd / sqrt(a)

For d > 1 the powers of inverse-Wishart and Huang-Wand densities belong to no known family and are sampled by NUTS.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from bayesimp.arguments import number
from bayesimp.errors import SpecificationError
from bayesimp.priors.base import CovariancePrior, Prior
from bayesimp.priors.density import CovarianceDensity, MatrixDensity
from bayesimp.priors.presets import Priors, read
from bayesimp.priors.values import positive

if TYPE_CHECKING:
    from bayesimp.kernels.covariance.update import CovarianceUpdate

__all__ = ["Powered", "powered"]

Array = NDArray[np.float64]


def powered(priors: Priors | str, power: float) -> Priors:
    """All priors of a model, raised to a power.

    Parameters
    ----------
    priors
        A record or the name of a preset.
    power
        Positive; 1 changes nothing, with 2 the prior counts twice.

    Raises
    ------
    SpecificationError
        `power` is not positive, or a prior of coefficients has no power. A variance's prior that becomes improper is
        reported when a model uses it.

    Examples
    --------
    >>> half = bi.priors.powered("default", 0.5)                                        # doctest: +SKIP
    >>> bi.sensitivity(model, [bi.priors.default(), half], analysis=..., seed=1)        # doctest: +SKIP
    """
    made = read(priors, tuple(priors.Psi_of) if isinstance(priors, Priors) else ())
    power = number(power, "powered: power", 0.0)
    if power == 1:
        return made
    return replace(
        made,
        Sigma=Powered(made.Sigma, power),
        Psi=Powered(made.Psi, power),
        beta=made.beta.powered(power),
        Psi_of={label: Powered(prior, power) for label, prior in made.Psi_of.items()},
        name=f"{made.name} ^ {power:g}",
    )


@dataclass(frozen=True)
class Powered(CovariancePrior):
    """A prior on a covariance matrix, raised to a power; see the module's docstring.

    Parameters
    ----------
    prior
        The prior that is raised.
    power
        a, positive.
    """

    INNER: ClassVar[Mapping[str, tuple[type[Prior], ...]]] = {"prior": (CovariancePrior,)}
    PLACE: ClassVar[int] = 12

    prior: CovariancePrior
    power: float = 1.0
    size: int | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        positive(self.power, "Powered: power")
        if not isinstance(self.prior, CovariancePrior):
            raise SpecificationError(
                f"Powered: {self.prior!r} is not a prior on a covariance matrix; use `priors.powered` to raise all "
                "priors of a model."
            )

    def resolve(self, sds: Array, where: str) -> CovariancePrior:
        """The member of the same family if there is one, with every number explicit."""
        prior = self.prior.resolve(sds, where)
        member = prior.to_power(self.power, len(sds), where)
        return Powered(prior, self.power, len(sds)) if member is None else member

    def rescale(self, d: Array) -> Powered:
        """The same power, of the prior in other units."""
        return replace(self, prior=self.prior.rescale(d))

    def describe(self, names: Sequence[str]) -> str:
        """The prior in words, and the power."""
        return f"({self.prior.describe(names)}) to the power {self.power:g}"

    def draw(self, rng: np.random.Generator, d: int, size: int) -> Array:
        """Raise `SpecificationError`; see `no_draws`."""
        raise SpecificationError(f"Powered cannot be drawn from: {self.no_draws}.")

    @property
    def no_draws(self) -> str:
        """Why there are no draws, for messages."""
        return f"the power of {type(self.prior).__name__} belongs to no family that can be drawn from"

    def distribution(self, name: str, d: int, dims: tuple[str, str]) -> Any:
        """Raise `SpecificationError`: only the kernels know the density."""
        raise SpecificationError(
            f"Powered on {name}: PyMC models do not have this prior for {d} x {d} matrices. JointNormal samples it by "
            "NUTS; powers of priors.Diagonal and priors.LKJ work in every model that takes these priors."
        )

    @property
    def is_conjugate(self) -> bool:
        """Whether an unresolved prior may have an update: for a 1 x 1 matrix, if the prior itself has one."""
        return self.size is None and self.prior.is_conjugate

    def update(self, d: int) -> CovarianceUpdate | None:
        """None: a power that has an update resolves to another record."""
        return None

    def density(self, d: int, where: str) -> CovarianceDensity | None:
        """a log p(s, R) on the free parameters of the prior; None if only PyMC has the density of the prior."""
        inner = self.prior.density(d, where)
        return PoweredDensity(inner, self.power) if isinstance(inner, MatrixDensity) else None

    def is_proper(self, d: int) -> bool:
        """Whether the prior itself is proper; `to_power` refuses powers that leave variances without a proper prior."""
        return self.prior.is_proper(d)

    def require_proper(self, d: int, where: str, sampler: str, cure: str) -> None:
        """As for the prior itself."""
        self.prior.require_proper(d, where, sampler, cure)

    @property
    def at_origin(self) -> bool:
        """As for the prior itself."""
        return self.prior.at_origin

    def moved(self, C: Array) -> CovariancePrior:
        """Raise `SpecificationError`: a power refers to standard deviations at one origin."""
        raise SpecificationError(
            "Powered: InverseWishart(centred=False) and Fixed are priors at the table's origin and have no powers at "
            "centred columns of Z. Use centred=True."
        )


@dataclass(frozen=True)
class PoweredDensity:
    """a log p(s, R) with the Jacobian of the free parameters, from the density of a full matrix.

    The inner density gives log p(s, R) + log |d(s, R) / dfree|, so (a - 1) log p(s, R) is added.
    """

    inner: MatrixDensity
    power: float

    @property
    def size(self) -> int:
        """The number of free parameters."""
        return self.inner.size

    def __call__(self, free: Array) -> tuple[Array, float, Callable[[Array], Array]]:
        S, value, pull = self.inner(free)
        more, d = self.power - 1.0, self.inner.d
        slope = self.inner.density(S, *self.inner.numbers)[1] + np.diag(0.5 * d / np.diagonal(S))

        def pulled(rest: Array) -> Array:
            return pull(rest + more * slope)

        return S, value + more * self.inner.log_density(S), pulled

    def free(self, S: Array) -> Array:
        """The free parameters of S (d, d)."""
        return self.inner.free(S)

    def log_density(self, S: Array) -> float:
        """a log p(s, R), without the constant that makes it integrate to 1."""
        return self.power * self.inner.log_density(S)
