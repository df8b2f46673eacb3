"""Priors of Psi, stated for the effects at centred columns of Z.

The effects b of the table's columns and the effects b_c of the centred columns Z_c = Z C give the same model,

    Z b = Z_c b_c,    b = C b_c,    Psi = (I_r kron C) Psi_c (I_r kron C)'

and the prior is that of Psi_c. C = I except that C_0l = -c_l for a column with centre c_l next to an intercept (row 0).
A centre is the mean of the observed values and stays fixed; products and powers have the columns that they contain
subtracted (scale/margins.py).

For "year = 2015..2024" the intercept at year 0 is extrapolated over 2019 years, and its variance is 2019^2 times that
of the slopes. A prior with the scale of the data on *that* intercept, and no information on the correlation, which
must be -.9999, leaves almost no variance to the slopes (pan, 2l.pan and jomo do this; lme4 has no prior). At the
centre, the prior is the same for "year" and for "years since 2015", and adding a constant to a predictor changes only
the reported intercept. Psi is reported at the table's origin, as lme4 prints it.

Two kinds of prior are statements about Psi itself: `priors.Fixed`, and `priors.InverseWishart(centred=False)`. They are
moved to the centre exactly, since S ~ IW(nu, V) gives C^-1 S C^-T ~ IW(nu, C'V C).

Without an intercept in Z, (0 + x | g), the origin of x is part of the model, and C = I.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bayesimp.formulas.columns import INTERCEPT
from bayesimp.priors.base import CovariancePrior
from bayesimp.priors.presets import resolve

__all__ = ["Centred", "centres", "centring", "of_all", "resolve_effects", "working_prior"]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Centred(CovariancePrior, registered=False):
    """The prior of C S C' for S ~ `prior`; derived from a user's prior and never stored.

    Parameters
    ----------
    prior
        The prior at the centre, resolved.
    C
        (d, d), d = r q.
    """

    prior: CovariancePrior
    C: Array

    def resolve(self, sds: Array, where: str) -> Centred:
        """The prior itself, which is already resolved."""
        return self

    def rescale(self, d: Array) -> Centred:
        """The prior in other units, both at the centre and in C."""
        return Centred(self.prior.rescale(d), self.C * d / np.asarray(d)[:, None])

    def describe(self, names: Sequence[str]) -> str:
        """The prior at the centre in words, followed by the centre."""
        return f"{self.prior.describe(names)}, of the effects {_centre(self.C, names)}"

    def draw(self, rng: np.random.Generator, d: int, size: int) -> Array:
        """(size, d, d) draws of C S C', S drawn at the centre."""
        return self.C @ self.prior.draw(rng, d, size) @ self.C.T

    def log_density(self, S: Array, where: str) -> Array:
        """log p(s, R) of C^-1 S C^-T, the matrix at the centre, for which the prior is stated."""
        back = np.linalg.inv(self.C)
        return self.prior.log_density(back @ S @ back.T, where)

    @property
    def no_draws(self) -> str:
        """As for the prior at the centre."""
        return self.prior.no_draws

    @property
    def stated(self) -> CovariancePrior:
        """The prior at the centre."""
        return self.prior

    def at_centre(self, change: Callable[[CovariancePrior], CovariancePrior]) -> Centred:
        """The same C with a changed prior at the centre."""
        return Centred(change(self.prior), self.C)

    def moved(self, C: Array) -> CovariancePrior:
        """The prior of C^-1 S C^-T for this prior's own C, which is the prior at the centre."""
        assert np.array_equal(C, self.C), "a prior is moved to the centre at which it is stated"
        return self.prior

    def is_proper(self, d: int) -> bool:
        """Whether the prior at the centre is proper."""
        return self.prior.is_proper(d)

    def require_proper(self, d: int, where: str, sampler: str, cure: str) -> None:
        """Refuse an improper prior at the centre."""
        self.prior.require_proper(d, where, sampler, cure)

    def distribution(self, name: str, d: int, dims: tuple[str, str]) -> Any:
        """``<name>_centred`` is the free variable."""
        import pymc as pm

        S = self.prior.distribution(f"{name}_centred", d, dims)
        C = pm.Data(f"{name}_columns", self.C)
        return pm.Deterministic(name, C @ S @ C.T, dims=dims)


def centring(centre: ArrayLike, intercept: int) -> Array:
    """C (q, q) of the module from centres (q,); `intercept` is the position of the intercept in Z, or -1."""
    centre = np.asarray(centre, dtype=float)
    C = np.eye(len(centre))
    if intercept >= 0:
        C[intercept] -= centre
    return C


def centres(C: Array, names: Sequence[str]) -> dict[str, float]:
    """The columns from which only a constant is subtracted, with that constant.

    Parameters
    ----------
    C
        (d, d) or (q, q), from effects of centred columns to those of the table's columns.
    names
        Its columns, ``"x"`` or ``"y:x"``; names shared by several responses appear once.
    """
    found: dict[str, float] = {}
    for j in np.flatnonzero((C != 0).sum(axis=0) == 2):
        (i,) = (int(k) for k in np.flatnonzero(C[:, j]) if k != j)
        if names[i].endswith(INTERCEPT):
            found[names[int(j)].removeprefix(names[i].removesuffix(INTERCEPT))] = float(-C[i, j])
    return found


def resolve_effects(prior: CovariancePrior, sds: ArrayLike, C: Array, where: str) -> CovariancePrior:
    """`priors.resolve` for Psi: the prior with every number explicit, in the units of the data.

    Parameters
    ----------
    sds
        (r q,) units of the effects; ``times_sd`` multiplies them.
    C
        (q, q) matrix of the module, the same for all responses.
    """
    resolved = resolve(prior, sds, where)
    if np.array_equal(C, np.eye(len(C))) or resolved.at_origin:
        return resolved
    return Centred(resolved, of_all(C, len(np.asarray(sds))))


def working_prior(prior: CovariancePrior, e: Array, C: Array) -> CovariancePrior:
    """The prior of Psi_w, Psi = (I kron C) diag(e) Psi_w diag(e) (I kron C)', from the result of `resolve_effects`.

    Parameters
    ----------
    prior
        Prior of Psi.
    e
        (r q,) units of the effects.
    C
        (q, q) matrix of the module.
    """
    return (prior if np.array_equal(C, np.eye(len(C))) else prior.moved(of_all(C, len(e)))).rescale(e)


def of_all(C: Array, d: int) -> Array:
    """I_r kron C (d, d)."""
    return np.asarray(np.kron(np.eye(d // len(C)), C), dtype=np.float64)


def _centre(C: Array, names: Sequence[str]) -> str:
    """The effects to which a prior refers: "at year = 2019.5"."""
    at = ", ".join(f"{name} = {value:.6g}" for name, value in centres(C, names).items())
    more = "products and powers minus the columns they contain" if np.any((C != 0).sum(axis=0) > 2) else ""
    return " and ".join(text for text in (at and f"at {at}", more and f"of {more}") if text)
