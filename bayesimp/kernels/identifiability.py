"""Whether the data can tell the variance components of a linear mixed model apart.

With K an orthonormal basis of the complement of the columns of X, the error contrasts K'y have covariance

    sigma^2 I + sum_f psi_f K' Z (I_m x E_f) Z' K,       E_f: symmetric, one for each free element psi_f of Psi

so the components are identified if and only if I and the matrices G_f = K'Z (I_m x E_f) Z'K are linearly independent.
Their inner products <G_f, G_g> = tr(G_f G_g) come from the products of each cluster alone, X being orthonormal:

    tr(G_f G_g) = sum_i tr(A_i E_f A_i E_g) - tr(A_i E_f C_i E_g) - tr(C_i E_f A_i E_g) + tr(W_f W_g)
    tr(I G_f)   = sum_i tr(A_i E_f) - tr W_f,             tr(I I) = n - p
    A_i = Z_i'Z_i,   B_i = Z_i'X_i,   C_i = B_i B_i',   W_f = sum_i B_i' E_f B_i

A direction u of the random effects whose values Z_i u lie, in every cluster, in the span of X is absorbed by the fixed
effects: u' (sum_i A_i - C_i) u = 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bayesimp.errors import SpecificationError

__all__ = ["Labels", "absorbed", "check_absorbed", "check_identified", "confounded"]

Array = NDArray[np.float64]
ABSORBED = 1e-10  # share of a random effect's squares that the fixed effects leave, below which there is none
CONFOUNDED = 1e-9  # smallest eigenvalue of the inner products, each matrix of norm 1


class Labels(NamedTuple):
    """Names of the columns of X and Z, and of the grouping column."""

    fixed: Sequence[str]
    random: Sequence[str]
    group: str


def absorbed(A: Array, B: Array) -> Array:
    """Directions that the fixed effects absorb, from A (m, q, q), B (m, q, p), X orthonormal and Z orthogonal.

    Returns
    -------
    (q, k) orthonormal columns u; k = 0 where there is none.
    """
    total = A.sum(axis=0)
    left = total - np.einsum("iap,ibp->ab", B, B)
    size = np.sqrt(np.einsum("aa->a", total))
    values, vectors = np.linalg.eigh(left / np.outer(size, size))
    return vectors[:, values < ABSORBED] / size[:, None]


def confounded(A: Array, B: Array, n: int, free: NDArray[np.int64]) -> Array:
    """The combination of components that leaves the covariance of the contrasts as it is; empty if there is none.

    Parameters
    ----------
    A, B
        As in `absorbed`.
    n
        Rows.
    free
        (d, 2) row and column of the free elements of Psi.

    Returns
    -------
    (d + 1,): weight of sigma^2, then of each free element, or (0,).
    """
    (q, p), d = B.shape[1:], len(free)
    E = np.zeros((d, q, q))
    for f, (a, b) in enumerate(free):
        E[f, a, b] = E[f, b, a] = 1.0
    C = np.einsum("iap,ibp->iab", B, B)
    AE, CE = np.einsum("iab,fbc->fiac", A, E), np.einsum("iab,fbc->fiac", C, E)
    W = np.einsum("iap,fab,ibr->fpr", B, E, B, optimize=True)
    plain = np.einsum("fiac,gica->fg", AE, AE)
    cross = np.einsum("fiac,gica->fg", AE, CE)
    inner = np.empty((d + 1, d + 1))
    inner[1:, 1:] = plain - cross - cross.T + np.einsum("fpr,grp->fg", W, W)
    inner[0, 1:] = inner[1:, 0] = np.einsum("fiaa->f", AE) - np.einsum("fpp->f", W)
    inner[0, 0] = n - p
    size = np.sqrt(np.append(n - p, np.diag(plain)))
    values, vectors = np.linalg.eigh(inner / np.outer(size, size))
    return vectors[:, 0] / size if values[0] < CONFOUNDED else np.zeros(0)


def check_identified(A, B, n: int, free, T, labels: Labels | None, where: str) -> None:
    """Refuse variance components that n rows cannot tell from the fixed effects or from each other.

    A, B, free as in `confounded`, the columns of Z having mean square 1; T (q, q): Z of the user's is that Z times T.

    Raises
    ------
    SpecificationError
    """
    q = len(T)
    labels = labels or Labels((), [f"column {c} of Z" for c in range(q)], "cluster")
    check_absorbed(A, B, T, labels, where)
    if confounded(A, B, n, free).size == 0:
        return
    clusters = int((np.einsum("iaa->i", A) > 0).sum())
    random = ", ".join(map(repr, labels.random))
    raise SpecificationError(
        f"{where}{n} rows in {clusters} clusters of '{labels.group}' cannot tell the {len(free) + 1} variance components "
        f"apart (random effects of {random}, and the residual): clusters need more rows than they have random effects. "
        f"Take {'slopes' if q > 1 else 'the random term'} out of (... | {labels.group})."
    )


def check_absorbed(A, B, T, labels: Labels, where: str) -> None:
    """Refuse random effects of which the fixed effects leave nothing; arguments of `check_identified`.

    Raises
    ------
    SpecificationError
    """
    directions = absorbed(A, B)
    if directions.shape[1] == 0:
        return
    share = np.abs(np.linalg.solve(T, directions)).max(axis=1) * np.linalg.norm(
        T, axis=0
    )  # columns of norm 1
    names = [repr(name) for name, x in zip(labels.random, share, strict=True) if x > 1e-6 * share.max()]
    listed, only = ", ".join(names), " (all rows are of one cluster)" if len(A) == 1 else ""
    raise SpecificationError(
        f"{where}the fixed effects leave nothing of the random effects of {listed} by '{labels.group}'{only}: their "
        f"variances cannot be estimated. Take {listed} out of (... | {labels.group}), or take the columns that tell the "
        "clusters apart out of the fixed part."
    )
