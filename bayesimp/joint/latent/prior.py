"""Priors of a joint model on latent normals, as its kernels read them.

Sigma has fixed entries, where there are latent variables: its prior is the one that was declared, given these entries
(kernels/latent/residual.py). Coefficients of latent variables have the weak prior of generalised models where that of
beta is flat, because levels that a covariate separates leave no other bound.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bayesimp.errors import SpecificationError
from bayesimp.formulas.columns import INTERCEPT
from bayesimp.joint.latent.variables import LatentVariable
from bayesimp.joint.scale import Scale
from bayesimp.kernels.covariance.update import FIXED, CovarianceUpdate
from bayesimp.kernels.latent.records import NUMBER
from bayesimp.kernels.latent.residual import (
    HUANG_WAND,
    INVERSE_GAMMAS,
    INVERSE_WISHART,
    KNOWN,
    SCALES,
    ResidualPrior,
    residual_steps,
)
from bayesimp.priors import (
    LKJ,
    CoefficientPrior,
    CovariancePrior,
    Diagonal,
    Fixed,
    HuangWand,
    InverseWishart,
    ScalePrior,
    Weak,
)
from bayesimp.priors.centred import Centred
from bayesimp.scale.margins import centred_columns

__all__ = ["GivenEntries", "coefficient_prior", "given_entries", "residual_prior"]

Array = NDArray[np.float64]
STEPS = 5  # rounds between two draws from the prior


def residual_prior(
    prior: CovariancePrior, entries: Array, where: str = "Sigma", *, by_element: bool = False
) -> tuple[CovarianceUpdate, ResidualPrior]:
    """The prior of Sigma without and with fixed entries; the one that is not meant is FIXED or KNOWN.

    Psi has fixed entries where variables of clusters are latent.

    Parameters
    ----------
    prior
        Resolved, on the working scale.
    entries
        (r, r) of `fixed_entries`.
    where
        Name of the matrix for messages.
    by_element
        Whether the element-wise steps are meant even if nothing is fixed.

    Raises
    ------
    SpecificationError
        A prior that these steps do not have, or a known Sigma with other entries.
    """
    r = len(entries)
    nothing = CovarianceUpdate(FIXED, 0.0, np.zeros((r, r)), np.ones(r))
    free_sd = np.isnan(np.diagonal(entries))
    free_correlation = np.isnan(entries) & ~np.eye(r, dtype=bool)
    if prior.known_value is not None:
        known = np.where(np.isnan(entries), prior.known_value, entries)
        if not np.allclose(known, prior.known_value):
            raise SpecificationError(
                f"Fixed {where}: latent variables have residual variance 1, and utilities of one variable covariances "
                "of 1/2; "
                f"give {known.tolist()}, in the units of the data for normal variables."
            )
        return nothing, ResidualPrior(
            KNOWN, 0.0, np.zeros((r, r)), np.ones(r), 1.0, 0, free_sd, free_correlation
        )
    if np.isnan(entries).all() and prior.is_conjugate and not by_element:
        update = prior.update(r)
        assert update is not None
        return update, ResidualPrior(
            KNOWN, 0.0, np.zeros((r, r)), np.ones(r), 1.0, 0, free_sd, free_correlation
        )
    kind, nu, scale, sd, eta, family = _numbers(prior, r, where)
    if isinstance(prior, Diagonal):
        free_correlation = np.zeros((r, r), dtype=bool)
    return nothing, ResidualPrior(kind, nu, scale, sd, eta, family, free_sd, free_correlation)


def _numbers(prior: CovariancePrior, r: int, where: str) -> tuple[int, float, Array, Array, float, int]:
    """kind, nu, scale (r, r), sd (r,), eta and family of a prior."""
    zero, one = np.zeros((r, r)), np.ones(r)
    match prior:
        case InverseWishart():
            nu, V = prior.numbers
            return INVERSE_WISHART, nu, np.linalg.inv(V), one, 1.0, 0
        case HuangWand():
            return HUANG_WAND, float(prior.nu), zero, prior.scales, 1.0, 0
        case LKJ(sd=sd):
            return SCALES, sd.degrees, zero, sd.scales, float(prior.eta), sd.family
        case Diagonal(variances=ScalePrior() as sd):
            return SCALES, sd.degrees, zero, sd.scales, 1.0, sd.family
        case Diagonal(variances=InverseWishart() as variances):
            nu, v = variances.numbers
            return INVERSE_GAMMAS, nu, np.diag(np.broadcast_to(1.0 / v, r)), one, 1.0, 0
    raise SpecificationError(
        f"{type(prior).__name__} on {where}: JointLatent has steps for HuangWand, InverseWishart, LKJ, Diagonal and "
        f"Fixed, the "
        "priors of this package; a prior of your own is taken by bi.JointNormal, if all variables are normal."
    )


def coefficient_prior(
    prior: CoefficientPrior,
    scale: Scale,
    X: Array,
    terms: Sequence[str],
    variables: Sequence[LatentVariable],
    where: str = "beta",
) -> tuple[Array, Array]:
    """Precision Q0 (r p, r p) of vec(beta_w), and Q0 mu0 (r p,); where: name of the coefficients for messages.

    X (N, p) and its columns as a formula spells them: a weak prior refers to standardised columns less their margins.
    """
    p, r = scale.offset.shape
    Q0, t0 = np.zeros((r * p, r * p)), np.zeros(r * p)
    parts: dict[bool, tuple[Array, Array]] = {}
    for variable in variables:
        number = variable.kind == NUMBER
        own = prior if number else prior.for_generalised()
        if number not in parts:
            weak = isinstance(own, Weak) and not number
            parts[number] = _weak(own, scale, X, terms, r) if weak else own.precision(scale, r, where)
        Q, t = parts[number]
        part = slice(variable.columns.start * p, variable.columns.stop * p)
        Q0[part, part], t0[part] = Q[part, part], t[part]
    return Q0, t0


def _weak(
    prior: CoefficientPrior, scale: Scale, X: Array, terms: Sequence[str], r: int
) -> tuple[Array, Array]:
    """The weak prior of every column: gamma of standardised columns, beta = C diag(1/a) gamma."""
    assert isinstance(prior, Weak)
    X_c, C = centred_columns(X, terms)
    a, size = X_c.std(axis=0), np.sqrt((X_c**2).mean(axis=0))
    a = np.where(a > 1e-10 * np.maximum(size, 1e-300), a, np.where(size > 0, size, 1.0))
    intercept = list(terms).index(INTERCEPT) if INTERCEPT in terms else -1
    sd = prior.standard_deviations(len(terms), 1, intercept)[:, 0]
    to_gamma = a[:, None] * np.linalg.solve(C, scale.T)
    Q = to_gamma.T @ (to_gamma / sd[:, None] ** 2)
    return np.asarray(np.kron(np.eye(r), (Q + Q.T) / 2), dtype=float), np.zeros(r * len(terms))


def given_entries(prior: CovariancePrior, entries: Array) -> CovariancePrior:
    """The prior given fixed entries (nan where there are none), which belong to no centred column."""
    if np.isnan(entries).all():
        return prior
    if isinstance(prior, Centred):
        return Centred(GivenEntries(prior.prior, entries), prior.C)
    return GivenEntries(prior, entries)


@dataclass(frozen=True)
class GivenEntries(CovariancePrior, registered=False):
    """A prior of Sigma given its fixed entries.

    Attributes
    ----------
    of
        The prior that was declared, resolved.
    entries
        (r, r) with nan where Sigma is free, in the units of `of`.
    """

    of: CovariancePrior
    entries: Array

    def resolve(self, sds: Array, where: str) -> GivenEntries:
        """The same: every number is explicit."""
        return self

    def rescale(self, d: Array) -> GivenEntries:
        """The same in other units of the free variables; d (r,) is 1 where a variance is fixed."""
        return GivenEntries(self.of.rescale(d), self.entries)

    def describe(self, names: Sequence[str]) -> str:
        """The prior in words, and what is fixed."""
        ones = [name for name, v in zip(names, np.diagonal(self.entries), strict=True) if not np.isnan(v)]
        halves = " and 1/2 between utilities of one variable" if (self.entries == 0.5).any() else ""
        return f"{self.of.describe(names)}; given variances of 1 ({', '.join(ones)}){halves}"

    def draw(self, rng: np.random.Generator, d: int, size: int) -> Array:
        """(size, d, d) draws, each some rounds of the sampler's own steps after the one before."""
        _, prior = residual_prior(self.of, self.entries)
        Sigma = np.where(np.isnan(self.entries), np.eye(d), self.entries)
        out = np.empty((STEPS * (size + 100), d, d))
        residual_steps(rng, prior, np.zeros((d, d)), 0, Sigma, out)
        return out[STEPS * 100 + STEPS - 1 :: STEPS]

    def distribution(self, name: str, d: int, dims: tuple[str, str]) -> Any:
        """The free entries and their density in the PyMC model that is open (models/joint_latent.py)."""
        from bayesimp.models.joint_latent import restricted_covariance

        return restricted_covariance(name, self.of, self.entries, dims)

    def is_proper(self, d: int) -> bool:
        """Whether the declared prior is proper."""
        return self.of.is_proper(d)

    @property
    def is_known(self) -> bool:
        """Whether nothing is estimated."""
        return isinstance(self.of, Fixed)
