"""Priors of the fixed effects beta (p, r)."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bayesimp.errors import SpecificationError
from bayesimp.priors.base import Prior
from bayesimp.priors.describe import numbers
from bayesimp.priors.values import positive

if TYPE_CHECKING:
    from bayesimp.priors.density import BetaDensity

__all__ = ["CoefficientPrior", "Flat", "Normal", "Weak"]

Array = NDArray[np.float64]
LOG_2PI = np.log(2 * np.pi)


@dataclass(frozen=True)
class CoefficientPrior(Prior, registered=False):
    """Prior of the fixed effects beta (p, r), in the units of the data unless `in_predictor_units`.

    Attributes
    ----------
    in_predictor_units
        Whether the numbers refer to predictors with mean 0 and sd 1 and therefore depend on the data.
    follows_mean
        Whether the prior of a count's intercept is centred at the log of the count's mean.
    """

    in_predictor_units: ClassVar[bool] = False
    follows_mean: ClassVar[bool] = False

    @property
    def is_proper(self) -> bool:
        """Whether the prior is proper, so that coefficients without data have a proper posterior."""
        return True

    @property
    def is_flat(self) -> bool:
        """Whether the density is constant, so that making columns of X orthogonal does not change the prior."""
        return False

    @abstractmethod
    def describe(self, names: Sequence[str]) -> str:
        """The prior in words, for printed models; `names` (p,) label the columns of X."""

    @abstractmethod
    def precision(self, scale: Any, r: int, where: str) -> tuple[Array, Array]:
        """Precision Q0 (r p, r p) of vec(beta_w), and Q0 mu0 (r p,).

        Parameters
        ----------
        scale
            A record with T (p, p), s (r,) and working_beta, with beta = T beta_w diag(s) up to a constant
            (joint/scale.py, fcs/scale.py).
        r
            Number of responses or linear predictors.
        where
            Name of beta for messages.

        Raises
        ------
        SpecificationError
            The numbers do not fit (p, r).
        """

    def powered(self, power: float) -> CoefficientPrior:
        """The prior raised to a power (`bayesimp.priors.powered`).

        Raises
        ------
        SpecificationError
            The power of the prior is not defined.
        """
        raise SpecificationError(f"{type(self).__name__} has no `powered`, so its powers are not known.")

    def latent_precision(
        self, scale: Any, r: int, G: Array, intercept: int, where: str
    ) -> tuple[Array, Array]:
        """`precision` for latent variables, whose columns of X are not standardised on the working scale.

        Parameters
        ----------
        G
            (p, p); G beta_w are the coefficients of standardised columns, to which `in_predictor_units` refers.
        intercept
            Position of the intercept among them, or -1.
        """
        return self.precision(scale, r, where)

    @abstractmethod
    def draw(self, rng: np.random.Generator, shape: tuple[int, ...], size: int) -> Array | None:
        """(size, \\*shape) draws of coefficients with this shape; None if the prior cannot be drawn from."""

    @property
    def no_draws(self) -> str:
        """Why `draw` returns None."""
        return "its prior is improper"

    @abstractmethod
    def distribution(self, p: int, r: int, dims: tuple[str, str]) -> Any:
        """The variable "beta" (p, r) of the currently open PyMC model."""

    @abstractmethod
    def density(self, p: int, r: int) -> BetaDensity:
        """The function beta (p, r) -> log density, its derivative (p, r)."""

    @abstractmethod
    def on_working(self, scale: Any, r: int) -> CoefficientPrior:
        """The prior of beta_w (p, r) on a working scale with diagonal T."""

    def on_data(self, scale: Any, shape: tuple[int, int], intercept: float) -> CoefficientPrior:
        """The prior in the units of the data.

        Parameters
        ----------
        scale
            A record with `intercept`, the position of the intercept, and `marginal_beta` (fcs/scale.py).
        shape
            (p, r).
        intercept
            The centre of the intercept's prior, if the prior follows the mean.
        """
        return self

    def for_generalised(self) -> CoefficientPrior:
        """The prior that replaces this one in generalised models, whose likelihood may have no maximum."""
        return self

    def without_contextual(self) -> CoefficientPrior:
        """The prior that replaces this one in models without contextual effects (priors/contextual.py)."""
        return self

    @property
    def shrinks_contextual(self) -> bool:
        """Whether coefficients of cluster means have a prior that keeps them estimable with few clusters."""
        return False


@dataclass(frozen=True)
class Flat(CoefficientPrior):
    """p(beta) constant. Generalised models, whose likelihood may have no maximum, replace it by `Weak`."""

    PLACE: ClassVar[int] = 8

    @property
    def is_proper(self) -> bool:
        """False: a flat prior cannot be drawn from."""
        return False

    @property
    def is_flat(self) -> bool:
        """True."""
        return True

    def powered(self, power: float) -> Flat:
        """The prior itself, which is constant."""
        return self

    def describe(self, names: Sequence[str]) -> str:
        """The text "flat"."""
        return "flat"

    def precision(self, scale: Any, r: int, where: str) -> tuple[Array, Array]:
        """Zero precision (r p, r p), and zero precision times mean (r p,)."""
        size = r * len(scale.T)
        return np.zeros((size, size)), np.zeros(size)

    def draw(self, rng: np.random.Generator, shape: tuple[int, ...], size: int) -> None:
        """None: a flat prior has no draws."""
        return None

    def distribution(self, p: int, r: int, dims: tuple[str, str]) -> Any:
        """`bayesimp.models.improper.Improper`."""
        from bayesimp.models.improper import Improper

        return Improper("beta", dims=dims)

    def density(self, p: int, r: int) -> BetaDensity:
        """A function that returns zero log density and zero gradient."""
        return lambda beta: (0.0, 0.0)

    def on_working(self, scale: Any, r: int) -> Flat:
        """The prior itself, which is flat in any units."""
        return self

    def for_generalised(self) -> Weak:
        """`Weak`: without a proper prior, coefficients of separated data have no posterior."""
        return Weak()


@dataclass(frozen=True)
class Normal(CoefficientPrior):
    """Independent normal priors on the entries of beta, in the units of the data.

    Parameters
    ----------
    mean, sd
        Numbers or arrays that broadcast to (p, r); sd positive.
    """

    ARRAYS: ClassVar[frozenset[str]] = frozenset({"mean", "sd"})
    PLACE: ClassVar[int] = 9

    mean: ArrayLike = 0.0
    sd: ArrayLike = 1.0

    def __post_init__(self) -> None:
        positive(self.sd, "Normal: sd")

    def entries(self, shape: tuple[int, ...]) -> tuple[Array, Array]:
        """Means and standard deviations of coefficients of this shape.

        Raises
        ------
        ValueError
            Mean or sd does not broadcast to the shape.
        """
        mean, sd = (np.broadcast_to(np.asarray(x, dtype=float), shape).copy() for x in (self.mean, self.sd))
        return mean, sd

    def powered(self, power: float) -> Normal:
        """The prior with sd / sqrt(a)."""
        return replace(self, sd=np.asarray(self.sd) / np.sqrt(power))

    def describe(self, names: Sequence[str]) -> str:
        """Mean and standard deviation in words."""
        return f"normal, mean {numbers(self.mean)}, sd {numbers(self.sd)}"

    def precision(self, scale: Any, r: int, where: str) -> tuple[Array, Array]:
        """Q0 (r p, r p) and t0 = Q0 mu0 (r p,) of vec(beta) in working units."""
        # beta = T beta_w diag(s): Q0 is block diagonal with blocks s_k^2 T' D_k T, D_k = diag(1/sd_k^2)
        p = len(scale.T)
        Q0, t0 = np.zeros((r * p, r * p)), np.zeros(r * p)
        try:
            mean, sd = self.entries((p, r))
        except ValueError:
            raise SpecificationError(
                f"Normal prior on {where}: mean and sd must broadcast to ({p} columns of X, {r} responses)."
            ) from None
        mean_w = scale.working_beta(mean)
        for k in range(r):
            block = slice(k * p, (k + 1) * p)
            Q0[block, block] = scale.s[k] ** 2 * scale.T.T @ np.diag(1.0 / sd[:, k] ** 2) @ scale.T
            t0[block] = Q0[block, block] @ mean_w[:, k]
        return Q0, t0

    def draw(self, rng: np.random.Generator, shape: tuple[int, ...], size: int) -> Array:
        """(size, p, r) independent draws."""
        return np.asarray(self.mean) + np.asarray(self.sd) * rng.standard_normal((size, *shape))

    def distribution(self, p: int, r: int, dims: tuple[str, str]) -> Any:
        """`pm.Normal`."""
        import pymc as pm

        return pm.Normal("beta", *self.entries((p, r)), dims=dims)

    def density(self, p: int, r: int) -> BetaDensity:
        """The function beta (p, r) -> log density, its gradient (p, r)."""
        mean, sd = self.entries((p, r))
        constant = -float(np.log(sd).sum()) - 0.5 * p * r * LOG_2PI

        def normal(beta: Array) -> tuple[float, Array]:
            z = (beta - mean) / sd
            return constant - 0.5 * float((z * z).sum()), -z / sd

        return normal

    def on_working(self, scale: Any, r: int) -> Normal:
        """The prior of beta_w = beta / (T_xx s_k)."""
        unit = np.outer(np.diag(scale.T), scale.s)  # beta_w = beta / (T_xx s_k)
        return Normal(np.asarray(self.mean) / unit, np.asarray(self.sd) / unit)


@dataclass(frozen=True)
class Weak(CoefficientPrior):
    """Weak normal priors on the coefficients of generalised models, whatever the units of the predictors.

    The prior refers to the coefficients of predictors with mean 0 and standard deviation 1; for a product or a power, to
    the coefficient of its residual on its parts, so that the origin does not matter (`bayesimp.scale.margins`). The prior
    keeps coefficients finite when a predictor separates the values of a binary variable, where the likelihood alone has
    no maximum.

    Parameters
    ----------
    sd
        Prior sd of a coefficient. At 2.5, one prior sd is an odds ratio of 12 per sd of the predictor.
    intercept
        Prior sd of the intercept, centred at 0 for the logit and probit links and at the log of the mean for a log link.
    """

    PLACE: ClassVar[int] = 10
    in_predictor_units: ClassVar[bool] = True
    follows_mean: ClassVar[bool] = True

    sd: float = 2.5
    intercept: float = 5.0

    def __post_init__(self) -> None:
        positive(self.sd, "Weak: sd")
        positive(self.intercept, "Weak: intercept")

    def powered(self, power: float) -> Weak:
        """The prior with sd / sqrt(a) for all coefficients."""
        return Weak(self.sd / np.sqrt(power), self.intercept / np.sqrt(power))

    def describe(self, names: Sequence[str]) -> str:
        """Both standard deviations in words."""
        return f"normal, sd {self.sd:g} for a predictor with sd 1, {self.intercept:g} for the intercept"

    def standard_deviations(self, p: int, r: int, intercept: int) -> Array:
        """(p, r) prior sd of the coefficients of standardised predictors; intercept: row of the intercept, or -1."""
        sd = np.full((p, r), self.sd)
        if intercept >= 0:
            sd[intercept] = self.intercept
        return sd

    def precision(self, scale: Any, r: int, where: str) -> tuple[Array, Array]:
        """Q0 (r p, r p) and t0 = 0 (r p,) of vec(beta) in working units."""
        p = len(scale.T)
        sd = self.standard_deviations(p, r, scale.intercept)
        return np.diag(1.0 / sd.T.ravel() ** 2), np.zeros(r * p)

    def latent_precision(
        self, scale: Any, r: int, G: Array, intercept: int, where: str
    ) -> tuple[Array, Array]:
        """I_r kron G' diag(1/sd^2) G (r p, r p), and 0 (r p,)."""
        sd = self.standard_deviations(len(G), 1, intercept)[:, 0]
        Q = G.T @ (G / sd[:, None] ** 2)
        return np.asarray(np.kron(np.eye(r), (Q + Q.T) / 2), dtype=float), np.zeros(r * len(G))

    def draw(self, rng: np.random.Generator, shape: tuple[int, ...], size: int) -> None:
        """None: see `no_draws`."""
        return None

    @property
    def no_draws(self) -> str:
        """Why there are no draws, for messages."""
        return "its prior is stated in units of the predictors"

    def distribution(self, p: int, r: int, dims: tuple[str, str]) -> Any:
        """Raise `SpecificationError`: the units of the predictors are not known here."""
        raise SpecificationError(self._without_scale("a PyMC model"))

    def density(self, p: int, r: int) -> BetaDensity:
        """Raise `SpecificationError`: the units of the predictors are not known here."""
        raise SpecificationError(self._without_scale("a log density"))

    def _without_scale(self, what: str) -> str:
        return (
            f"priors.Weak() refers to standardised predictors, but {what} of unscaled columns needs numbers in "
            "their units: use priors.Normal(mean, sd)."
        )

    def on_working(self, scale: Any, r: int) -> Normal:
        """The normal prior in working units."""
        p = len(scale.T)
        return Normal(np.zeros((p, r)), self.standard_deviations(p, r, scale.intercept))

    def on_data(self, scale: Any, shape: tuple[int, int], intercept: float) -> Normal:
        """The normal prior in the units of the data, centred at the given intercept."""
        mean, sd = np.zeros(shape), self.standard_deviations(*shape, scale.intercept)
        if scale.intercept >= 0:
            mean[scale.intercept] = intercept
        mean, sd = scale.marginal_beta(mean, sd)
        one = mean.shape[1] == 1
        return Normal(mean[:, 0] if one else mean, sd[:, 0] if one else sd)
