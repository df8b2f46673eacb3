"""Priors of a joint model on latent normals, as read by its kernels.

With latent variables, Sigma has fixed entries: its prior is the declared prior conditioned on these entries
(kernels/latent/residual.py). Coefficients of latent variables have the weak prior of generalised models if that of
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
from bayesimp.kernels.latent.residual import KNOWN, ResidualPrior, residual_steps
from bayesimp.priors import CoefficientPrior, CovariancePrior
from bayesimp.priors.base import REGISTRY, names_of
from bayesimp.scale.coefficients import log_normal
from bayesimp.scale.margins import centred_columns

__all__ = ["GivenEntries", "coefficient_prior", "given_entries", "log_coefficients", "residual_prior"]

Array = NDArray[np.float64]
STEPS = 5  # rounds of steps between two draws from the prior


def residual_prior(
    prior: CovariancePrior, entries: Array, where: str = "Sigma", *, by_element: bool = False
) -> tuple[CovarianceUpdate, ResidualPrior]:
    """The prior of Sigma without and with fixed entries; the one that does not apply is FIXED or KNOWN.

    The same function serves Psi, which has fixed entries if cluster-level variables are latent.

    Parameters
    ----------
    prior
        Resolved, on the working scale.
    entries
        (r, r), from `fixed_entries`.
    where
        Name of the matrix for messages.
    by_element
        Whether to use element-wise steps even if nothing is fixed.

    Raises
    ------
    SpecificationError
        These steps do not have the prior, or a known Sigma has other entries.
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
    elements = prior.elements(r)
    if elements is None:
        raise SpecificationError(
            f"{type(prior).__name__} on {where}: JointLatent has steps for {_with_elements()}. Your own prior needs "
            "the method `elements` (bayesimp.priors.base); bi.JointNormal does not need it, if all variables are normal."
        )
    return nothing, ResidualPrior(*elements, free_sd, free_correlation & prior.has_correlations)


def _with_elements() -> str:
    """Names of the priors that have element-wise steps, and of those that need none, for a message."""
    base, kinds = CovariancePrior, [REGISTRY[name] for name in names_of(CovariancePrior)]
    has = [k for k in kinds if k.elements is not base.elements or k.known_value is not base.known_value]  # type: ignore[attr-defined]
    *names, last = [k.__name__ for k in has]
    return f"{', '.join(names)} and {last}"


def coefficient_prior(
    prior: CoefficientPrior,
    scale: Scale,
    X: Array,
    terms: Sequence[str],
    variables: Sequence[LatentVariable],
    where: str = "beta",
) -> tuple[Array, Array]:
    """Precision Q0 (r p, r p) of vec(beta_w), and Q0 mu0 (r p,); where: name of the coefficients for messages.

    X (N, p) and its columns as a formula spells them: a weak prior refers to standardised columns minus their margins.
    """
    p, r = scale.offset.shape
    Q0, t0 = np.zeros((r * p, r * p)), np.zeros(r * p)
    parts: dict[bool, tuple[Array, Array]] = {}
    for variable in variables:
        number = variable.kind == NUMBER
        if number not in parts:
            parts[number] = (
                prior.precision(scale, r, where)
                if number
                else prior.for_generalised().latent_precision(
                    scale, r, *_standardised(scale, X, terms), where
                )
            )
        Q, t = parts[number]
        part = slice(variable.columns.start * p, variable.columns.stop * p)
        Q0[part, part], t0[part] = Q[part, part], t[part]
    return Q0, t0


def log_coefficients(
    beta_w: Array, Q0: Array, t0: Array, scale: Scale, variables: Sequence[LatentVariable]
) -> Array:
    """log p(beta) (...,) at beta_w (..., p, r), in the units of the data; 0 for variables with a flat prior.

    Q0, t0: from `coefficient_prior`.
    """
    p = len(scale.T)
    out = np.zeros(beta_w.shape[:-2])
    for variable in variables:
        k = variable.columns
        part = slice(k.start * p, k.stop * p)
        out += log_normal(beta_w[..., k], Q0[part, part], t0[part], scale.T, scale.s[k])
    return out


def _standardised(scale: Scale, X: Array, terms: Sequence[str]) -> tuple[Array, int]:
    """G (p, p): gamma = G beta_w of standardised columns minus their margins, beta = C diag(1/a) gamma; the intercept."""
    X_c, C = centred_columns(X, terms)
    a, size = X_c.std(axis=0), np.sqrt((X_c**2).mean(axis=0))
    a = np.where(a > 1e-10 * np.maximum(size, 1e-300), a, np.where(size > 0, size, 1.0))
    G = a[:, None] * np.linalg.solve(C, scale.T)
    return G, list(terms).index(INTERCEPT) if INTERCEPT in terms else -1


def given_entries(prior: CovariancePrior, entries: Array) -> CovariancePrior:
    """The prior given fixed entries (nan elsewhere), none of which belongs to a centred column."""
    if np.isnan(entries).all():
        return prior
    return prior.at_centre(lambda stated: GivenEntries(stated, entries))


@dataclass(frozen=True)
class GivenEntries(CovariancePrior, registered=False):
    """A prior of Sigma given its fixed entries.

    Attributes
    ----------
    of
        The declared prior, resolved.
    entries
        (r, r) with nan where Sigma is free, in the units of `of`.
    """

    of: CovariancePrior
    entries: Array

    def resolve(self, sds: Array, where: str) -> GivenEntries:
        """The prior itself, in which every number is explicit."""
        return self

    def rescale(self, d: Array) -> GivenEntries:
        """The prior in other units of the free variables; d (r,) is 1 where a variance is fixed."""
        return GivenEntries(self.of.rescale(d), self.entries)

    def describe(self, names: Sequence[str]) -> str:
        """The prior and the fixed entries in words."""
        ones = [name for name, v in zip(names, np.diagonal(self.entries), strict=True) if not np.isnan(v)]
        halves = " and 1/2 between utilities of one variable" if (self.entries == 0.5).any() else ""
        return f"{self.of.describe(names)}; given variances of 1 ({', '.join(ones)}){halves}"

    def draw(self, rng: np.random.Generator, d: int, size: int) -> Array:
        """(size, d, d) draws, separated by some rounds of the sampler's own steps."""
        _, prior = residual_prior(self.of, self.entries)
        Sigma = np.where(np.isnan(self.entries), np.eye(d), self.entries)
        out = np.empty((STEPS * (size + 100), d, d))
        residual_steps(rng, prior, np.zeros((d, d)), 0, Sigma, out)
        return out[STEPS * 100 + STEPS - 1 :: STEPS]

    def log_density(self, S: Array, where: str) -> Array:
        """log p(s, R) at the fixed entries, up to the constant by which it integrates to 1 over the free ones."""
        return self.of.log_density(S, where)

    def distribution(self, name: str, d: int, dims: tuple[str, str]) -> Any:
        """The free entries and their density in the open PyMC model (models/joint_latent.py)."""
        from bayesimp.models.joint_latent import restricted_covariance

        return restricted_covariance(name, self.of, self.entries, dims)

    def is_proper(self, d: int) -> bool:
        """Whether the declared prior is proper."""
        return self.of.is_proper(d)

    @property
    def is_known(self) -> bool:
        """Whether nothing is estimated."""
        return self.of.is_known
