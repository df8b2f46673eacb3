"""The priors of a model as one record, and presets: those of other software, and the default."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bayesimp.arguments import number
from bayesimp.errors import SpecificationError
from bayesimp.layout import Record
from bayesimp.markup import framed, table
from bayesimp.messages import did_you_mean
from bayesimp.priors.base import CovariancePrior, names_of
from bayesimp.priors.coefficients import CoefficientPrior, Flat
from bayesimp.priors.contextual import Contextual
from bayesimp.priors.huang_wand import HuangWand
from bayesimp.priors.inverse_wishart import InverseWishart
from bayesimp.priors.values import as_numbers

__all__ = ["PRESETS", "Priors", "default", "iw", "jomo", "mice", "pan", "read", "rescale", "resolve"]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Priors(Record):
    """The priors of a model.

    Parameters
    ----------
    Sigma
        Prior of the residual covariance matrix (r, r).
    Psi
        Prior of the covariance matrix of the cluster effects (r q, r q).
    beta
        Prior of the fixed effects (p, r); by default flat, except for the contextual effects of conditional models.
    name
        Label in tables and figures.
    Psi_of
        With several grouping factors (`JointNormal`), priors of those whose prior differs from `Psi`:
        ``{"class": priors.HuangWand(nu=4)}``, by column, or by ``"school:class"`` as in the formula.

    Raises
    ------
    SpecificationError
        A part is not a prior of the right kind.
    """

    Sigma: CovariancePrior = field(default_factory=HuangWand)
    Psi: CovariancePrior = field(default_factory=HuangWand)
    beta: CoefficientPrior = field(default_factory=Contextual)
    name: str = "custom"
    Psi_of: Mapping[str, CovariancePrior] = field(default_factory=dict)

    def _repr_html_(self) -> str:
        parts = {"beta": self.beta, "Sigma": self.Sigma, "Psi": self.Psi}
        parts |= {f"Psi of '{label}'": prior for label, prior in self.Psi_of.items()}
        import pandas as pd

        rows = pd.DataFrame(
            [(name, repr(prior)) for name, prior in parts.items()], columns=["parameter", "prior"]
        )
        return framed(f"Priors '{self.name}'", [table(rows)])

    def of_factor(self, label: str) -> CovariancePrior:
        """The prior of the covariance matrix of the effects of a grouping factor."""
        return self.Psi_of.get(label, self.Psi)

    def without_contextual(self) -> Priors:
        """The priors for a model without contextual effects, such as a joint model (`bayesimp.priors.Contextual`)."""
        return replace(self, beta=self.beta.without_contextual())

    def __post_init__(self) -> None:
        for part in ("Sigma", "Psi"):
            _require_covariance(getattr(self, part), part)
        for label, prior in _by_factor(self.Psi_of).items():
            _require_covariance(prior, f"Psi of '{label}'")
        if not isinstance(self.beta, CoefficientPrior):
            raise SpecificationError(
                f"{self.beta!r} is not a prior on fixed effects (beta); choose {_one_of(CoefficientPrior)}."
            )


def default() -> Priors:
    """Half-t(2) standard deviations with the scale of each variable, uniform correlations, `Contextual` for beta.

    Multiplying a variable by a number changes only its unit; adding a number changes only the intercept.
    """
    return Priors(name="default")


def pan() -> Priors:
    """R pan's usual prior (also mitml's panImpute): IW(r, I) on Sigma, IW(r q, I) on Psi, flat beta.

    It is sensible for standardised variables only, because the identity matrix depends on the unit of the data. Slopes
    refer to centred columns, which pan's users have to centre themselves: pan puts the prior at 0 wherever the data are
    (``InverseWishart(centred=False)``).
    """
    return Priors(InverseWishart(), InverseWishart(), Flat(), name="pan")


def mice() -> Priors:
    """R mice's 2l.pan: pan's prior (`pan`) with r = 1 for one variable, so IW(1, 1) and IW(q, I)."""
    return replace(pan(), name="mice")


def jomo() -> Priors:
    """R jomo's default (2.7-4, as measured; tests/reference/joint): IW(-1, I) on Sigma whatever r, which is
    improper, IW(r q, I) on Psi, flat beta; slopes as in `pan`."""
    return replace(pan(), Sigma=InverseWishart(-1.0, 1.0, improper=True), name="jomo")


PRESETS = {"default": default, "pan": pan, "mice": mice, "jomo": jomo}


def read(priors: Priors | str, factors: Sequence[str] = ()) -> Priors:
    """The priors that the name of a preset denotes; `Priors` are returned unchanged.

    Parameters
    ----------
    priors
        A record, or the name of a preset.
    factors
        The grouping factors of the model, if it has several.

    Raises
    ------
    SpecificationError
        It is neither a preset nor `Priors`, or `Priors.Psi_of` names a factor that the model does not have.
    """
    if isinstance(priors, Priors):
        for label in priors.Psi_of:
            if label not in factors:
                have = (
                    f"it has {', '.join(map(repr, factors))}" if factors else "it has one, whose prior is Psi"
                )
                raise SpecificationError(
                    f"Psi_of: '{label}' is not a grouping factor of this model; {have}. For several, use "
                    "JointNormal(data, 'y ~ x + (1 | school) + (1 | class)'), or JointGLMM."
                )
        return priors
    if isinstance(priors, str) and priors.strip().lower() in PRESETS:
        return PRESETS[priors.strip().lower()]()
    if callable(priors) and priors in PRESETS.values():  # priors.pan for priors.pan()
        return priors()
    mean = did_you_mean(priors, PRESETS, most=1) if isinstance(priors, str) else ""
    raise SpecificationError(
        f"priors must be a preset ({', '.join(map(repr, PRESETS))}) or a record priors.Priors(Sigma=..., Psi=..., "
        f"beta=...); got {priors!r}. {mean}".rstrip()
    )


def iw(nu: float, v: float = 1.0) -> Priors:
    """Kunkel & Kaizar's IW(nu, v) on every between-cluster variance (2017, simulation 5), flat beta.

    Psi has nu + d - 1 degrees of freedom, so that each of its d variances is IW(nu, v) = InvGamma(nu/2, 1/(2v)),
    as in a conditional model with one effect. Sigma keeps the IW(1, 1) of R mice, interpreted in the same way.
    `iw(1)` is `pan()`.
    """
    nu, v = number(nu, "iw: nu"), number(v, "iw: v")
    Sigma, Psi = InverseWishart(1.0, 1.0, marginal=True), InverseWishart(nu, v, marginal=True)
    return Priors(Sigma, Psi, Flat(), name=f"IW({nu:g}, {v:g})")


def resolve(prior: CovariancePrior, sds: ArrayLike, where: str) -> CovariancePrior:
    """The same prior with every number explicit, on the scale of the data.

    Parameters
    ----------
    prior
        Prior of a covariance matrix (d, d).
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
        The shape does not fit, V or value is not positive definite, or nu <= d - 1 (improper).
    """
    _require_covariance(prior, where)
    return prior.resolve(as_numbers(sds, "sds"), where)


def rescale(prior: CovariancePrior, d: Array) -> CovariancePrior:
    """Prior of D^-1 S D^-1, D = diag(d), d (d,), for a resolved prior of S."""
    _require_covariance(prior, "prior")
    return prior.rescale(as_numbers(d, "d"))


def _by_factor(value: object) -> Mapping[str, object]:
    if not isinstance(value, Mapping):
        raise SpecificationError(
            f"Psi_of must be a dict, grouping factor -> prior of a covariance matrix; got {value!r}."
        )
    return value


def _require_covariance(prior: object, where: str) -> None:
    if not isinstance(prior, CovariancePrior):
        raise SpecificationError(
            f"{prior!r} is not a prior on a covariance matrix ({where}); choose {_one_of(CovariancePrior)}."
        )


def _one_of(kind: type[CovariancePrior] | type[CoefficientPrior]) -> str:
    *others, last = names_of(kind)
    return f"{', '.join(others)} or {last}"
