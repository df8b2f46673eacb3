"""`Contextual`: a prior on the coefficients of cluster means in conditional models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from bayesimp.errors import SpecificationError
from bayesimp.messages import listing
from bayesimp.priors.coefficients import CoefficientPrior, Flat, Normal
from bayesimp.priors.values import positive

if TYPE_CHECKING:
    from bayesimp.priors.density import BetaDensity

__all__ = ["Contextual", "PartlyFlat"]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Contextual(CoefficientPrior):
    """Normal prior on contextual effects, centred at zero, with the scale that a joint model implies.

    A conditional model with a predictor x and its cluster mean has coefficient beta_w within clusters and
    beta_w + gamma between them; gamma is the contextual effect. If the joint model of y and x has the covariances
    ((p11, p12), (p12, p22)) between clusters and s within them, then for clusters of n rows (Kunkel & Kaizar 2017, eq. 7
    and 13)

        beta_w + gamma = (p12 + s12/n) / (p22 + s22/n),    |beta_w + gamma| <= sd_i(ybar_i) / sd_i(xbar_i)

    because no covariance exceeds the product of the standard deviations. This sets the scale of gamma:

        gamma ~ N(0, (scale sd_i(ybar_i) / sd_i(xbar_i))^2),     independently for each mean

    with the standard deviations of the observed cluster means. The smaller `scale` is, the closer the prior is to a model
    without the mean; the larger it is, the closer to a flat prior, which a few clusters cannot support. A correlation
    uniform on (-1, 1), as under the default prior of Psi, has sd 1/sqrt(3) = 0.58. Results of other scales with 6 to 35
    clusters are in benchmarks/CONTEXTUAL.md.

    The prior applies to cluster means whose variables are predictors as well, in conditional models of normal variables
    with random intercepts, whether FCS added them or a formula names them. Other coefficients and other models have the
    prior `others` alone, as do joint models, which have no such coefficients.

    Parameters
    ----------
    scale
        Prior sd of a contextual effect in units of that bound; positive.
    others
        Prior of all coefficients; for contextual effects it is multiplied by the normal prior above.
    """

    INNER: ClassVar[Mapping[str, tuple[type, ...]]] = {"others": (CoefficientPrior,)}
    PLACE: ClassVar[int] = 11

    scale: float = 0.6
    others: CoefficientPrior = field(default_factory=Flat)

    def __post_init__(self) -> None:
        positive(self.scale, "Contextual: scale")
        if not isinstance(self.others, CoefficientPrior) or isinstance(self.others, Contextual):
            raise SpecificationError(
                "Contextual: others must be a prior of the other coefficients (Flat, Normal or Weak), got "
                f"{self.others!r}."
            )

    @property
    def is_proper(self) -> bool:
        """Whether the prior of the other coefficients is proper."""
        return self.others.is_proper

    @property
    def shrinks_contextual(self) -> bool:
        """True: contextual effects have the scale that a joint model implies."""
        return True

    @property
    def in_predictor_units(self) -> bool:  # type: ignore[override]
        """As for the prior of the other coefficients."""
        return self.others.in_predictor_units

    @property
    def follows_mean(self) -> bool:  # type: ignore[override]
        """As for the prior of the other coefficients."""
        return self.others.follows_mean

    def powered(self, power: float) -> Contextual:
        """The prior with scale / sqrt(a), and the powered prior of the other coefficients."""
        return Contextual(self.scale / np.sqrt(power), self.others.powered(power))

    def describe(self, names: Sequence[str]) -> str:
        """Both parts in words."""
        return f"{self.others.describe(names)}; contextual effects normal, sd {self.scale:g} x their bound"

    def standard_deviations(self, scale: Any, r: int) -> Array:
        """(p, r) prior sd of contextual effects in the units of the data, inf for other coefficients."""
        if scale.contextual is None:
            return np.full((len(scale.T), r), np.inf)
        return self.scale * np.asarray(scale.contextual)

    def precision(self, scale: Any, r: int, where: str) -> tuple[Array, Array]:
        """Q0 (r p, r p) and t0 (r p,) of vec(beta_w): those of the other coefficients' prior plus those of the contextual
        effects."""
        Q0, t0 = self.others.precision(scale, r, where)
        sd = self.standard_deviations(scale, r)
        return (
            (Q0 + PartlyFlat(0.0, sd).precision(scale, r, where)[0], t0)
            if np.isfinite(sd).any()
            else (Q0, t0)
        )

    def draw(self, rng: np.random.Generator, shape: tuple[int, ...], size: int) -> None:
        """None: see `no_draws`."""
        return None

    @property
    def no_draws(self) -> str:
        """Why there are no draws, for messages."""
        return "its prior is stated in units of the cluster means of a table"

    def distribution(self, p: int, r: int, dims: tuple[str, str]) -> Any:
        """The variable of the other coefficients' prior: models made from arrays have no added cluster means."""
        return self.others.distribution(p, r, dims)

    def density(self, p: int, r: int) -> BetaDensity:
        """The density of the other coefficients' prior, for the same reason."""
        return self.others.density(p, r)

    def on_working(self, scale: Any, r: int) -> CoefficientPrior:
        """The prior of the other coefficients: joint models have no contextual effects."""
        return self.others.on_working(scale, r)

    def on_data(self, scale: Any, shape: tuple[int, int], intercept: float) -> CoefficientPrior:
        """The prior in the units of the data: normal, or flat except for contextual effects."""
        others, sd = self.others.on_data(scale, shape, intercept), self.standard_deviations(scale, shape[1])
        if not np.isfinite(sd).any():
            return others
        if not isinstance(others, Normal):
            return PartlyFlat(0.0, sd)
        mean, wide = (np.reshape(x, shape) for x in others.entries(np.shape(others.sd) or shape))
        sd = 1.0 / np.sqrt(1.0 / wide**2 + 1.0 / sd**2)
        mean = mean * (sd / wide) ** 2
        return Normal(mean[:, 0], sd[:, 0]) if shape[1] == 1 else Normal(mean, sd)

    def for_generalised(self) -> CoefficientPrior:
        """The prior of the other coefficients, because contextual priors exist for normal variables only."""
        return self.others.for_generalised()

    def without_contextual(self) -> CoefficientPrior:
        """The prior of the other coefficients."""
        return self.others


@dataclass(frozen=True)
class PartlyFlat(Normal, registered=False):
    """Independent normal priors, flat for coefficients whose sd is inf."""

    def __post_init__(self) -> None:
        pass  # infinite standard deviations are allowed

    @property
    def is_proper(self) -> bool:
        """False: some coefficients have a flat prior."""
        return False

    def describe(self, names: Sequence[str]) -> str:
        """The finite standard deviations in words, with the names of their coefficients."""
        sd = np.reshape(self.sd, (len(names), -1))
        each = [
            f"{name} {' and '.join(f'{x:.3g}' for x in row)}"
            for name, row in zip(names, sd, strict=True)
            if np.isfinite(row).all()
        ]
        return f"flat, contextual effects normal, mean 0, sd of {listing(each)}"

    def draw(self, rng: np.random.Generator, shape: tuple[int, ...], size: int) -> None:  # type: ignore[override]
        """None: a flat prior has no draws."""
        return None

    @property
    def no_draws(self) -> str:
        """Why there are no draws, for messages."""
        return "its prior is flat except for contextual effects"
