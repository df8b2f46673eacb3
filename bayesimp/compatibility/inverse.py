"""The joint model with given conditional models of all variables, if there is one.

Suppose that all clusters have the same G = Z'Z = L L'. With U = Z L'^-1, which is orthonormal, the part of Y orthogonal
to the columns of Z has covariance Sigma, and vec(U'R) has covariance Lambda = Sigma kron I + (I kron L') Psi (I kron
L). Both are normal, so conditionals are rows of precision matrices: from (w, C, s, T) of variable k,

    Q_kk = 1 / s                      Q_ko = -Q_kk w'                                       Q = Sigma^-1
    H_kk = (s I + L' T L)^-1          H_ko = -H_kk (w' kron I + L' C (I kron L))            H = Lambda^-1

The conditionals are those of a joint model if and only if Q and H are symmetric (the conditionals agree in pairs), and
Q, H and Psi = (I kron L'^-1)(Lambda - Sigma kron I)(I kron L^-1) are positive definite. For r = 2 and a random
intercept the last condition is the bound in Kunkel & Kaizar's eq. 13.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bayesimp.arguments import number
from bayesimp.compatibility.implied import Conditional
from bayesimp.errors import SpecificationError
from bayesimp.layout import Printed

__all__ = ["JointFromConditionals", "joint_from_conditionals"]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class JointFromConditionals(Printed):
    """The joint model with given conditionals, or the reasons why there is none.

    Attributes
    ----------
    Sigma, Psi
        (r, r) and (r q, r q); None if there is no joint model.
    violations
        What fails -> by how much: "rows disagree" and "clusters disagree" (the largest difference between the two
        partial correlations that a pair of conditionals gives, within and between clusters); "Sigma", "Lambda" and
        "Psi" (the smallest eigenvalue, which should be positive, after scaling to unit variances; for Psi, to the
        variances of the clusters' own least-squares coefficients).
    """

    Sigma: Array | None
    Psi: Array | None
    violations: dict[str, float]

    @property
    def exists(self) -> bool:
        """Whether some joint model implies these conditional models."""
        return not self.violations

    def _said(self) -> str:
        if self.exists:
            return "The conditional models are those of one joint model."
        return "No joint model has these conditionals: " + "; ".join(
            _WORDS[name].format(by) for name, by in self.violations.items()
        )


_WORDS = {
    "rows disagree": "two of them disagree on a partial correlation within clusters, by {:.3g}",
    "clusters disagree": "two of them disagree on a partial correlation between clusters, by {:.3g}",
    "Sigma": "Sigma would not be positive definite (smallest eigenvalue {:.3g} with variances of 1)",
    "Lambda": "the covariance of the cluster sums would not be positive definite (smallest eigenvalue {:.3g})",
    "Psi": "Psi would not be positive definite (smallest eigenvalue {:.3g}, relative to the variance of cluster means)",
}


def joint_from_conditionals(
    conditionals: Sequence[Conditional], *, tolerance: float = 1e-6
) -> JointFromConditionals:
    """The (Sigma, Psi) that imply the given conditional models, if they exist.

    Parameters
    ----------
    conditionals
        One for each variable 0 .. r-1, without leading dimensions and all with the same `ZZ`.
    tolerance
        Largest difference of partial correlations that is attributed to rounding.

    Raises
    ------
    SpecificationError
        There is not exactly one for each variable, their ZZ differ or are singular, or variances are not positive.
    """
    if not isinstance(conditionals, Sequence) or not all(isinstance(c, Conditional) for c in conditionals):
        raise SpecificationError(
            "joint_from_conditionals takes a list of conditionals, one for each variable: "
            f"[implied_conditional(Sigma, Psi, k, n=n) for k in range(r)]; got {type(conditionals).__name__}."
        )
    tolerance = number(tolerance, "tolerance", low=0)
    conditionals = sorted(conditionals, key=lambda c: c.k)
    _check(conditionals)
    r, q = len(conditionals), conditionals[0].ZZ.shape[-1]
    L = np.linalg.cholesky(conditionals[0].ZZ)
    Q, blocks = np.empty((r, r)), np.empty((r, q, r, q))
    for c in conditionals:
        o = np.delete(np.arange(r), c.k)
        Q[c.k, c.k] = 1 / c.residual_variance
        Q[c.k, o] = -c.within / c.residual_variance
        H_kk = np.linalg.inv(c.residual_variance * np.eye(q) + L.T @ c.effect_covariance @ L)
        slopes = np.einsum("j,lh->ljh", c.within, np.eye(q)) + np.einsum(
            "la,ajb,bh->ljh", L.T, c.contextual, L
        )
        blocks[c.k, :, c.k, :] = H_kk
        blocks[c.k][:, o, :] = -np.einsum("la,ajh->ljh", H_kk, slopes)
    H = blocks.reshape(r * q, r * q)

    violations = {}
    for name, A in (("rows disagree", Q), ("clusters disagree", H)):
        by = np.abs(_unit(A) - _unit(A).T).max()
        if by > tolerance:
            violations[name] = float(by)
    for name, A in (("Sigma", Q), ("Lambda", H)):
        smallest = np.linalg.eigvalsh(_unit(A + A.T))[0]
        if not smallest > 0:
            violations[name] = float(smallest)
    if violations:
        return JointFromConditionals(None, None, violations)
    Sigma, Lambda = (np.linalg.inv((A + A.T) / 2) for A in (Q, H))
    L_inverse = np.kron(np.eye(r), np.linalg.inv(L))
    total = L_inverse.T @ Lambda @ L_inverse  # Psi + Sigma kron G^-1
    Psi = total - np.kron(Sigma, np.linalg.inv(conditionals[0].ZZ))
    sd = np.sqrt(np.diag(total))
    smallest = np.linalg.eigvalsh(Psi / np.outer(sd, sd))[0]
    if not smallest > 0:
        return JointFromConditionals(None, None, {"Psi": float(smallest)})
    return JointFromConditionals(Sigma, (Psi + Psi.T) / 2, {})


def _unit(A: Array) -> Array:
    """A scaled to a unit diagonal."""
    d = np.sqrt(np.diag(A))
    return A / np.outer(d, d)


def _check(conditionals: Sequence[Conditional]) -> None:
    r = len(conditionals)
    if r < 2 or [c.k for c in conditionals] != list(range(r)):
        raise SpecificationError(
            f"One conditional for each variable 0 .. r-1 is needed; got those of {[c.k for c in conditionals]}."
        )
    G = conditionals[0].ZZ
    q = G.shape[-1]
    for c in conditionals:
        shapes = c.within.shape, c.contextual.shape, np.shape(c.residual_variance), c.effect_covariance.shape
        if shapes != ((r - 1,), (q, r - 1, q), (), (q, q)) or c.ZZ.shape != (q, q):
            raise SpecificationError(
                f"Conditional of variable {c.k}: shapes {shapes} do not match r = {r}, q = {q}, or have leading draws "
                "or clusters. Take one draw and one cluster."
            )
        if not np.allclose(c.ZZ, G):
            raise SpecificationError("The conditionals are for clusters with different Z'Z; use one cluster.")
        if not (c.residual_variance > 0 and np.linalg.eigvalsh(c.effect_covariance)[0] >= 0):
            raise SpecificationError(f"Conditional of variable {c.k}: a variance is not positive.")
    if not np.linalg.matrix_rank(G) == q:
        raise SpecificationError("Z'Z is singular: its effects cannot be separated in one cluster.")
