"""Cluster effects on the working scale and in the units of the data, which `Scale` and `BlockScale` share.

    b = E b_w,    Psi = E Psi_w E',    E = (I_r kron C) diag(e)

e (r q,) are the units of the effects, s_k / u_l; C (q, q) transforms effects of centred columns of Z to those of the
columns of the table (priors/centred.py). If no column is centred, E is diagonal and treated as such.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bayesimp import priors as pr
from bayesimp.priors.centred import of_all, resolve_effects, working_prior

__all__ = ["EffectScale"]

Array = NDArray[np.float64]


class EffectScale:
    """Mixin: has `effects`, e (r q,), and C (q, q)."""

    effects: Array
    C: Array

    @property
    def is_centred(self) -> bool:
        """Whether some column of Z is centred."""
        return not np.array_equal(self.C, np.eye(len(self.C)))

    def at_centre(self, Psi: Array) -> Array:
        """Psi_c (..., rq, rq), of the effects at centred columns, in the units of the data."""
        return _congruent(np.linalg.inv(of_all(self.C, len(self.effects))), Psi) if self.is_centred else Psi

    def Psi(self, Psi_w: Array) -> Array:
        """Psi (..., r q, r q) in the units of the data, at the table's origin, from working units."""
        Psi_c = Psi_w * np.outer(self.effects, self.effects)
        return _congruent(of_all(self.C, len(self.effects)), Psi_c) if self.is_centred else Psi_c

    def working_Psi(self, Psi: Array) -> Array:
        """Psi (r q, r q) in working units, at the centre, from the units of the data."""
        return self.at_centre(Psi) / np.outer(self.effects, self.effects)

    def Psi_prior(self, prior: pr.CovariancePrior, where: str) -> pr.CovariancePrior:
        """The prior of Psi with every number explicit, in the units of the data."""
        return resolve_effects(prior, self.effects, self.C, where)

    def working_Psi_prior(self, prior: pr.CovariancePrior) -> pr.CovariancePrior:
        """The prior of Psi_w that corresponds to `Psi_prior`."""
        return working_prior(prior, self.effects, self.C)


def _congruent(A: Array, S: Array) -> Array:
    """A S A', symmetric to the last digit; S (..., d, d)."""
    out = A @ S @ A.T
    return (out + out.swapaxes(-1, -2)) / 2
