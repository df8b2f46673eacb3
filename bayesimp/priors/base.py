"""The contract of a prior, and the registry by which files and messages find priors by name.

A prior is a frozen dataclass. Defining the class registers it under its name, so that plan files, saved results and
messages know it; there is no other list of priors. There are four kinds, for

    CovariancePrior    a covariance matrix S (d, d), Sigma or Psi            resolve, rescale, describe, draw, ...
    CoefficientPrior   the fixed effects beta (p, r)                         priors/coefficients.py
    ScalePrior         a standard deviation, inside LKJ and Diagonal         priors/scales.py
    ComponentPrior     each variance, inside Diagonal                        priors/components.py

A new prior on a covariance matrix is a file like `bayesimp.priors.huang_wand`. It must define `resolve`, `rescale`,
`describe`, `draw` and `distribution`; these suffice for NUTS and for FCS with PyMC. `update` adds Gibbs sampling, and
`density` lets NUTS run without PyMC; `elements` and `entries_logp` allow it as a prior of a matrix with fixed entries
(`JointLatent`). Everything else that the engines need has a default here.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from bayesimp.errors import SpecificationError
from bayesimp.layout import Record

if TYPE_CHECKING:
    from bayesimp.kernels.covariance.update import CovarianceUpdate
    from bayesimp.priors.density import CovarianceDensity
    from bayesimp.priors.elements import Elements

__all__ = ["REGISTRY", "CovariancePrior", "Prior", "names_of"]

Array = NDArray[np.float64]

REGISTRY: dict[str, type[Prior]] = {}


@dataclass(frozen=True)
class Prior(Record, ABC):  # each kind has its own abstract methods
    """Base class of all priors: a name in files, and parameters as plain records.

    Attributes
    ----------
    ARRAYS
        Names of parameters that may be vectors or matrices; all others are numbers or flags.
    INNER
        Names of parameters that are themselves priors, with the kinds of prior that they accept.
    PLACE
        The prior's place in lists within messages; by default after those of the library.
    """

    ARRAYS: ClassVar[frozenset[str]] = frozenset()
    INNER: ClassVar[Mapping[str, tuple[type[Prior], ...]]] = {}
    PLACE: ClassVar[int] = 1000

    def __init_subclass__(cls, registered: bool = True, **options: Any) -> None:
        super().__init_subclass__(**options)
        if not registered:
            return
        known = REGISTRY.get(cls.__name__)
        if known is not None and (known.__module__, known.__qualname__) != (cls.__module__, cls.__qualname__):
            raise SpecificationError(
                f"A prior named {cls.__name__!r} is already defined in {known.__module__}; files find priors by this "
                "name, so give the new class another one."
            )
        REGISTRY[cls.__name__] = cls

    def to_dict(self) -> dict[str, Any]:
        """The prior as a record of plain values for JSON or TOML: ``{"type": "HalfT", "nu": 3.0}``.

        Parameters that are None are left out; the module of a class outside the library is included.
        `bayesimp.priors.records.prior_from_dict` is the inverse.
        """
        out: dict[str, Any] = {"type": type(self).__name__}
        if not type(self).__module__.startswith("bayesimp."):
            out["module"] = type(self).__module__
        for f in fields(self):
            value = getattr(self, f.name)
            if value is not None:
                out[f.name] = value.to_dict() if isinstance(value, Prior) else np.asarray(value).tolist()
        return out


def names_of(*kinds: type[Prior]) -> tuple[str, ...]:
    """Names of the registered priors of these kinds, kind by kind, each in the order of its `PLACE`.

    Parameters
    ----------
    kinds
        Base classes, such as `CovariancePrior`.
    """
    found: dict[str, None] = {}
    for kind in kinds:
        own = [name for name, cls in REGISTRY.items() if issubclass(cls, kind)]
        found |= dict.fromkeys(sorted(own, key=lambda name: REGISTRY[name].PLACE))
    return tuple(found)


@dataclass(frozen=True)
class CovariancePrior(Prior, registered=False):
    """Prior of a covariance matrix S (d, d).

    Users may leave numbers unspecified (``times_sd=``, ``nu=None``); `resolve` makes every number explicit in the units
    of the data, and all other methods are called on its result.
    """

    @abstractmethod
    def resolve(self, sds: Array, where: str) -> CovariancePrior:
        """The same prior with every number explicit, in the units of the data.

        Parameters
        ----------
        sds
            (d,) standard deviation of the variable behind each component; ``times_sd`` multiplies it.
        where
            Name of the matrix for messages, such as ``"Sigma"`` or ``"Psi of 'y'"``.

        Raises
        ------
        SpecificationError
            The numbers do not fit a (d, d) matrix.
        """

    @abstractmethod
    def rescale(self, d: Array) -> CovariancePrior:
        """The prior of D^-1 S D^-1, which is S in other units; D = diag(d), d (d,) positive."""

    @abstractmethod
    def describe(self, names: Sequence[str]) -> str:
        """One line for printed models; `names` (d,) label the components of the matrix."""

    @abstractmethod
    def draw(self, rng: np.random.Generator, d: int, size: int) -> Array:
        """(size, d, d) independent draws; the prior must be proper."""

    @abstractmethod
    def distribution(self, name: str, d: int, dims: tuple[str, str]) -> Any:
        """The prior as a variable of the currently open PyMC model. PyMC must be imported here, not at module level.

        Parameters
        ----------
        name
            Name of the variable; further variables are called ``<name>_...``.
        d
            Size of the matrix.
        dims
            Names of its two dimensions.

        Returns
        -------
        A free variable or a Deterministic (d, d). Numbers that depend on the data should be `pm.Data`
        (`bayesimp.models.covariance.scale_data`), so that the model does not have to be compiled again for another table.
        """

    def update(self, d: int) -> CovarianceUpdate | None:
        """The conjugate update of S given normal vectors, as kernels read it; None if there is none.

        Parameters
        ----------
        d
            Size of the matrix.
        """
        return None

    @property
    def is_conjugate(self) -> bool:
        """Whether the prior has an `update`; it does not have to be resolved."""
        return type(self).update is not CovariancePrior.update

    def density(self, d: int, where: str) -> CovarianceDensity | None:
        """Log density on the free parameters of `bayesimp.kernels.covariance.free`; None if only PyMC has it.

        Parameters
        ----------
        d
            Size of the matrix.
        where
            Name of the matrix for messages.

        Raises
        ------
        SpecificationError
            The prior is improper.
        """
        return None

    def to_power(self, power: float, d: int, where: str) -> CovariancePrior | None:
        """This resolved prior raised to a power, if that belongs to the same family (`bayesimp.priors.powered`).

        Returns
        -------
        The prior, or None (the default) if it does not; `Powered` then has the density.

        Raises
        ------
        SpecificationError
            The power is improper; `where` names the matrix.
        """
        return None

    @property
    def no_draws(self) -> str:
        """Why the prior cannot be drawn from although it is proper; empty if it can."""
        return ""

    def elements(self, d: int) -> Elements | None:
        """The prior of S with fixed entries, for element-wise steps (`bayesimp.priors.elements`); None if there is
        none."""
        return None

    def entries_logp(self, S: Any, R: Any, log_s: Any, free: NDArray[np.int64]) -> Any:
        """log p(log s, R) of the free entries, S = diag(s) R diag(s), up to a constant, as a PyTensor expression.

        Parameters
        ----------
        S, R, log_s
            Variables (d, d), (d, d) and (d,).
        free
            Components whose standard deviation is free.

        Raises
        ------
        SpecificationError
            The prior does not define it.
        """
        raise SpecificationError(
            f"{type(self).__name__} has no `entries_logp`, so it cannot be the prior of a matrix with fixed entries."
        )

    @property
    def has_correlations(self) -> bool:
        """Whether components may be correlated; if not, a matrix with fixed entries has no free correlations."""
        return True

    @property
    def stated(self) -> CovariancePrior:
        """The prior as the user stated it; a prior of Psi is stated for the effects at centred columns of Z."""
        return self

    def at_centre(self, change: Callable[[CovariancePrior], CovariancePrior]) -> CovariancePrior:
        """The prior after `change` is applied to it, or to the prior at the centre (`bayesimp.priors.centred`)."""
        return change(self)

    def log_density(self, S: Array, where: str) -> Array:
        """log p(s, R) at matrices S = diag(s) R diag(s) (..., d, d), the density of standard deviations and correlations,
        which is constant for a prior that is flat in them.

        Returns
        -------
        (...,); 0 for a known matrix.

        Raises
        ------
        SpecificationError
            The prior is improper, or only PyMC has its density.
        """
        d = S.shape[-1]
        self.require_proper(d, where, "the log density of a prior", "Use a proper prior.")
        density = self.density(d, where)
        if density is None:
            raise SpecificationError(
                f"{type(self).__name__} on {where} has no `density`, so its log prior is available in PyMC only."
            )
        flat = np.array([density.log_density(one) for one in S.reshape(-1, d, d)])
        return flat.reshape(S.shape[:-2])

    def is_proper(self, d: int) -> bool:
        """Whether the prior of a (d, d) matrix is a distribution, so that it can be drawn from."""
        return True

    def require_proper(self, d: int, where: str, sampler: str, cure: str) -> None:
        """Refuse an improper prior.

        Parameters
        ----------
        d
            Size of the matrix.
        where
            Name of the matrix, such as ``"Psi"``.
        sampler
            What needs a proper prior, such as ``"NUTS"``.
        cure
            A sentence that ends the message and says what to do.

        Raises
        ------
        SpecificationError
            The prior is improper.
        """
        if not self.is_proper(d):
            raise SpecificationError(
                f"The prior on {where} is improper (d = {d}); {sampler} needs a proper one. {cure}"
            )

    @property
    def known_value(self) -> Array | None:
        """The matrix (d, d) if the prior fixes it."""
        return None

    @property
    def is_known(self) -> bool:
        """Whether the matrix is known and therefore not estimated."""
        return self.known_value is not None

    @property
    def at_origin(self) -> bool:
        """Whether a prior of Psi refers to the effects at the table's columns of Z instead of centred columns."""
        return False

    def moved(self, C: Array) -> CovariancePrior:
        """The prior of C^-1 S C^-T, C (d, d), required of priors with `at_origin` (`bayesimp.priors.centred`)."""
        raise TypeError(self)

    def squares_at_origin(self) -> Array | None:
        """(d, d) sum of squares that the prior adds to that of the effects at the table's origin; None if it adds
        none."""
        return None

    def variance_law(self) -> Any | None:
        """For d = 1, the variance's distribution as a SciPy object; None if only draws are available."""
        return None
