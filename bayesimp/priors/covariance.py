"""Priors on fixed effects and covariance matrices, as records.

A covariance matrix S (d x d; ``Sigma``: d = r, ``Psi``: d = r q) takes one of

    InverseWishart(nu, V)    |S|^-(nu+d+1)/2 exp(-tr(V^-1 S^-1)/2)              Kunkel & Kaizar 2017, sec. 2.2
    HuangWand(nu, scale)     S | a ~ IW(nu+d-1, scale matrix 2 nu diag(1/a)),   Huang & Wand 2013, eq. 2
                             a_k ~ InvGamma(1/2, 1/scale_k^2)
                             => sd_k ~ half-t(nu, scale_k); nu = 2: every correlation uniform on (-1, 1)
    LKJ(eta, sd)             S = diag(s) R diag(s), R ~ LKJ(eta), s_k ~ sd      Lewandowski et al. 2009
    Diagonal(variances)      no correlations; each variance with a prior of its own
    Fixed(value)             known

The scale of a prior is either given on the scale of the data (``scale=``) or in multiples of the standard
deviation of the variable (``times_sd=``), in which case it follows the data when their unit changes.

With random slopes, priors of Psi are those of the effects at centred columns of Z: with Z C the columns of Z less their
means, Psi = (I kron C) Psi_c (I kron C)' and Psi_c ~ prior (`bayesimp.priors.centred`). "Years 2015..2024" and "years
since 2015" so have the same prior; Psi is reported at the table's origin. Only `Fixed` and
``InverseWishart(centred=False)`` are of Psi itself.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bayesimp.errors import SpecificationError
from bayesimp.messages import closest

__all__ = [
    "CovariancePrior", "Diagonal", "Exponential", "Fixed", "Flat", "HalfNormal", "HalfT", "HuangWand",
    "InverseWishart", "LKJ", "Normal", "PRESETS", "Priors", "Weak", "default", "iw", "jomo", "mice", "pan", "read",
    "rescale", "resolve",
]  # fmt: skip

Array = NDArray[np.float64]


def _positive(value: ArrayLike, what: str) -> None:
    array = np.asarray(value, dtype=float)
    if not (np.all(np.isfinite(array)) and np.all(array > 0)):
        raise SpecificationError(f"{what} must be positive and finite, got {value!r}.")


@dataclass(frozen=True)
class _Scaled:
    """Scale of a standard deviation: on the data's scale, or in multiples of the variable's sd."""

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
        _positive(getattr(self, what), f"{type(self).__name__}: {what}")

    def _resolved(self, sds: Array):
        if self.scale is None:
            assert self.times_sd is not None
            return replace(self, scale=self.times_sd * sds, times_sd=None)
        return replace(self, scale=_vector(self.scale, len(sds), type(self).__name__), times_sd=None)

    def _rescaled(self, d: Array):
        return replace(self, scale=np.asarray(self.scale) / d)


@dataclass(frozen=True)
class HalfT(_Scaled):
    """Half-t on a standard deviation, ``nu`` degrees of freedom (nu = 1: half-Cauchy)."""

    nu: float = 3.0

    def __post_init__(self) -> None:
        super().__post_init__()
        _positive(self.nu, "HalfT: nu")


@dataclass(frozen=True)
class HalfNormal(_Scaled):
    """Half-normal on a standard deviation."""


@dataclass(frozen=True)
class Exponential(_Scaled):
    """Exponential on a standard deviation, with mean ``scale``."""


@dataclass(frozen=True)
class InverseWishart:
    """Inverse-Wishart in the convention of Kunkel & Kaizar: ``scipy.stats.invwishart(df=nu, scale=inv(V))``.

    Parameters
    ----------
    nu
        Degrees of freedom, more than d - 1. ``None``: d, the smallest integer that is proper (pan's
        default).
    V
        Number (times the identity) or (d, d) positive definite matrix, in units of 1 / variance.
    improper
        Allow nu <= d - 1, where the density has no finite integral. For comparison with software that does so
        (jomo); the posterior is proper once there are more than d - 1 - nu rows. Gibbs only.
    marginal
        ``nu`` is that of each variance and not of the matrix, which gets nu + d - 1: then S_kk ~ IW(nu, V_kk)
        for diagonal V, whatever d (proper for every nu > 0).
    centred
        Of Psi with slopes: the prior is that of the effects at centred columns of Z (`bayesimp.priors.centred`), as all
        priors of Psi but `Fixed` are. False: of the effects at the columns as they are in the table, to the letter of
        pan and jomo, or for a V that is a guess of Psi as it is reported.
    """

    nu: float | None = None
    V: ArrayLike = 1.0
    improper: bool = False
    marginal: bool = False
    centred: bool = True

    def __post_init__(self) -> None:
        if self.nu is not None and not self.improper:
            _positive(self.nu, "InverseWishart: nu")

    @property
    def numbers(self) -> tuple[float, Array]:
        """nu, and V (d, d) or (d,), of a resolved prior."""
        assert self.nu is not None, "the prior is not resolved"
        return self.nu, np.asarray(self.V, dtype=float)


@dataclass(frozen=True)
class HuangWand(_Scaled):
    """Half-t on every standard deviation, uniform correlations at ``nu = 2``; conditionally conjugate."""

    nu: float = 2.0

    def __post_init__(self) -> None:
        super().__post_init__()
        _positive(self.nu, "HuangWand: nu")


@dataclass(frozen=True)
class LKJ:
    """LKJ(eta) on the correlations times a prior on the standard deviations. NUTS only."""

    eta: float = 2.0
    sd: HalfT | HalfNormal | Exponential = field(default_factory=HalfT)

    def __post_init__(self) -> None:
        _positive(self.eta, "LKJ: eta")


@dataclass(frozen=True)
class Diagonal:
    """Independent components; of Psi with slopes, those at centred columns of Z.

    ``variances``: a prior on each standard deviation, or an inverse-Wishart read in one dimension, IW(nu, v) =
    InvGamma(nu/2, 1/(2v)), with v a number or one for each component.
    """

    variances: HalfT | HalfNormal | Exponential | InverseWishart = field(default_factory=HalfT)


@dataclass(frozen=True)
class Fixed:
    """A known covariance matrix, (d, d), on the scale of the data; Psi at the table's origin."""

    value: ArrayLike


CovariancePrior = InverseWishart | HuangWand | LKJ | Diagonal | Fixed


@dataclass(frozen=True)
class Flat:
    """p(beta) constant. In generalised models, whose likelihood may have no maximum, it stands for `Weak`."""


@dataclass(frozen=True)
class Normal:
    """Independent normals on the entries of beta: ``mean`` and ``sd`` broadcast to (p, r), data scale."""

    mean: ArrayLike = 0.0
    sd: ArrayLike = 1.0

    def __post_init__(self) -> None:
        _positive(self.sd, "Normal: sd")


@dataclass(frozen=True)
class Weak:
    """Weak normal priors on the coefficients of generalised models, whatever the units of the predictors.

    Each coefficient is that of a predictor with mean 0 and standard deviation 1; of a product or a power, that of what
    is left of it beside its parts, so that the origin does not matter (`bayesimp.scale.margins`). The prior keeps
    coefficients finite where a predictor separates the values of a binary variable: then the likelihood alone has no
    maximum.

    Parameters
    ----------
    sd
        Of a coefficient: at 2.5, an odds ratio of 12 for one standard deviation is within one sd of the prior.
    intercept
        Of the intercept, around 0 for the logit and probit, around the log of the mean for a log link.
    """

    sd: float = 2.5
    intercept: float = 5.0

    def __post_init__(self) -> None:
        _positive(self.sd, "Weak: sd")
        _positive(self.intercept, "Weak: intercept")


@dataclass(frozen=True)
class Priors:
    """The priors of a joint model. ``name`` labels tables and figures."""

    Sigma: CovariancePrior = field(default_factory=HuangWand)
    Psi: CovariancePrior = field(default_factory=HuangWand)
    beta: Flat | Normal | Weak = field(default_factory=Flat)
    name: str = "custom"


def default() -> Priors:
    """Half-t(2) standard deviations with the scale of each variable, uniform correlations, flat beta.

    Multiplying a variable by any number changes nothing but the unit, adding one nothing but the intercept.
    """
    return Priors(name="default")


def pan() -> Priors:
    """R pan's usual prior (also mitml's panImpute): IW(r, I) on Sigma, IW(r q, I) on Psi, flat beta.

    Sensible on standardised variables only: the identity has the unit of the data. Slopes are on centred columns, as
    pan's users have to make them: pan puts the prior at 0, wherever the data are (``InverseWishart(centred=False)``).
    """
    return Priors(Sigma=InverseWishart(), Psi=InverseWishart(), name="pan")


def mice() -> Priors:
    """R mice's 2l.pan: pan's prior (`pan`) with r = 1 for the variable at hand, so IW(1, 1) and IW(q, I)."""
    return replace(pan(), name="mice")


def jomo() -> Priors:
    """R jomo's default (2.7-4, as measured; tests/reference/joint): IW(-1, I) on Sigma whatever r, which is
    improper, IW(r q, I) on Psi, flat beta; slopes as in `pan`."""
    return replace(pan(), Sigma=InverseWishart(-1.0, 1.0, improper=True), name="jomo")


PRESETS = {"default": default, "pan": pan, "mice": mice, "jomo": jomo}


def read(priors: Priors | str) -> Priors:
    """The priors meant by the name of a preset; `Priors` as they are.

    Raises
    ------
    SpecificationError
        Neither.
    """
    if isinstance(priors, Priors):
        return priors
    if isinstance(priors, str) and priors.strip().lower() in PRESETS:
        return PRESETS[priors.strip().lower()]()
    if callable(priors) and priors in PRESETS.values():  # priors.pan for priors.pan()
        return priors()
    close = closest(priors, PRESETS, most=1) if isinstance(priors, str) else []
    mean = f"Did you mean {close[0]!r}? " if close else ""
    raise SpecificationError(
        f"priors are a preset ({', '.join(map(repr, PRESETS))}) or a record priors.Priors(Sigma=..., Psi=..., beta=...); "
        f"got {priors!r}. {mean}".rstrip()
    )


def iw(nu: float, v: float = 1.0) -> Priors:
    """Kunkel & Kaizar's IW(nu, v) on every variance between clusters (2017, simulation 5), flat beta.

    Psi has nu + d - 1 degrees of freedom, so that each of its d variances is IW(nu, v) = InvGamma(nu/2, 1/(2v)),
    as in a conditional model with one effect. Sigma keeps the IW(1, 1) of R mice, read in the same way.
    `iw(1)` is `pan()`.
    """
    Sigma, Psi = InverseWishart(1.0, 1.0, marginal=True), InverseWishart(nu, v, marginal=True)
    return Priors(Sigma, Psi, name=f"IW({nu:g}, {v:g})")


def resolve(prior: CovariancePrior, sds: ArrayLike, where: str) -> CovariancePrior:
    """The same prior with every number explicit, on the scale of the data.

    Parameters
    ----------
    sds
        (d,) standard deviation of the variable behind each component (``times_sd`` multiplies it).
    where
        Name of the matrix for messages: ``"Sigma"`` or ``"Psi"``.

    Returns
    -------
    InverseWishart with float ``nu`` and (d, d) ``V``; HuangWand, HalfT, ... with (d,) ``scale``;
    Diagonal(InverseWishart) with (d,) ``V``; Fixed with a (d, d) array.

    Raises
    ------
    SpecificationError
        Shape does not fit, V or value not positive definite, nu <= d - 1 (improper).
    """
    sds = np.asarray(sds, dtype=float)
    d = len(sds)
    match prior:
        case InverseWishart():
            nu = float(d if prior.nu is None else prior.nu + (d - 1 if prior.marginal else 0))
            if nu <= d - 1 and not prior.improper:
                raise SpecificationError(
                    f"InverseWishart on {where}: nu = {nu:g} is too small for a proper prior on a {d} x {d} "
                    f"matrix; take nu > {d - 1} (nu=None takes {d}), or say improper=True if that is meant."
                )
            V = np.asarray(prior.V, dtype=float)
            V = float(V) * np.eye(d) if V.ndim == 0 else V
            V = _positive_definite(V, d, f"InverseWishart on {where}: V")
            return InverseWishart(nu, V, prior.improper, centred=prior.centred)
        case HuangWand():
            return prior._resolved(sds)
        case LKJ():
            return replace(prior, sd=prior.sd._resolved(sds))
        case Diagonal(variances=InverseWishart() as inner):
            v = _vector(inner.V, d, f"Diagonal(InverseWishart) on {where}: V")
            _positive(v, f"Diagonal(InverseWishart) on {where}: V")
            return Diagonal(InverseWishart(1.0 if inner.nu is None else float(inner.nu), v))
        case Diagonal(variances=HalfT() | HalfNormal() | Exponential() as sd):
            return Diagonal(sd._resolved(sds))
        case Fixed():
            return Fixed(_positive_definite(np.asarray(prior.value, dtype=float), d, f"Fixed {where}"))
    raise SpecificationError(
        f"{prior!r} is not a prior on a covariance matrix ({where}); choose InverseWishart, HuangWand, LKJ, "
        "Diagonal or Fixed."
    )


def rescale(prior: CovariancePrior, d: Array) -> CovariancePrior:
    """Prior of D^-1 S D^-1, D = diag(d), for a resolved prior of S."""
    match prior:
        case InverseWishart():
            # S ~ IW(nu, scale V^-1)  =>  D^-1 S D^-1 ~ IW(nu, scale D^-1 V^-1 D^-1), that is V -> D V D
            return replace(prior, V=np.asarray(prior.V) * np.outer(d, d))
        case HuangWand():
            return prior._rescaled(d)
        case LKJ():
            return replace(prior, sd=prior.sd._rescaled(d))
        case Diagonal(variances=InverseWishart() as inner):
            return Diagonal(InverseWishart(inner.nu, np.asarray(inner.V) * d**2))
        case Diagonal(variances=HalfT() | HalfNormal() | Exponential() as sd):
            return Diagonal(sd._rescaled(d))
        case Fixed():
            return Fixed(np.asarray(prior.value) / np.outer(d, d))
    raise TypeError(prior)


def _vector(value: ArrayLike, d: int, what: str) -> Array:
    array = np.asarray(value, dtype=float)
    if array.ndim > 1 or (array.ndim == 1 and len(array) != d):
        raise SpecificationError(f"{what}: expected a number or {d} numbers, got shape {array.shape}.")
    return np.broadcast_to(array, (d,)).copy()


def _positive_definite(matrix: Array, d: int, what: str) -> Array:
    if matrix.shape != (d, d):
        raise SpecificationError(f"{what} must be a {d} x {d} matrix, got shape {matrix.shape}.")
    if not np.allclose(matrix, matrix.T, rtol=0, atol=1e-10 * np.abs(matrix).max()):
        raise SpecificationError(f"{what} must be symmetric.")
    smallest = np.linalg.eigvalsh(matrix)[0]
    if not smallest > 0:
        raise SpecificationError(f"{what} is not positive definite (smallest eigenvalue {smallest:.3g}).")
    return matrix
