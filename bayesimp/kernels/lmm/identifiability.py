"""Checks that the data identify the variance components of a mixed model.

With K an orthonormal basis of the orthogonal complement of the columns of X, the error contrasts K'y have covariance

    sigma^2 I + sum_f psi_f K' Z (I_m x E_f) Z' K,       E_f: symmetric, one for each free element psi_f of Psi

so the components are identified if and only if I and the matrices G_f = K'Z (I_m x E_f) Z'K are linearly independent.
With X orthonormal, their inner products <G_f, G_g> = tr(G_f G_g) need only the products of single clusters:

    tr(G_f G_g) = sum_i tr(A_i E_f A_i E_g) - tr(A_i E_f C_i E_g) - tr(C_i E_f A_i E_g) + tr(W_f W_g)
    tr(I G_f)   = sum_i tr(A_i E_f) - tr W_f,             tr(I I) = n - p
    A_i = Z_i'Z_i,   B_i = Z_i'X_i,   C_i = B_i B_i',   W_f = sum_i B_i' E_f B_i

A direction u of the random effects whose values Z_i u lie, in every cluster, in the span of X is absorbed by the fixed
effects: u' (sum_i A_i - C_i) u = 0.

A family without a dispersion has the G_f without I. The variance of a row that is a single trial, 0 or 1, is determined
by its mean, so it informs Psi only together with other rows. Hence the Z_i E_f Z_i' must also be independent with the
diagonal elements of such rows j left out: sum_i tr(A_i E_f A_i E_g) - sum_j (z_j'E_f z_j)(z_j'E_g z_j).

Crossed and nested terms have no clusters in common. There the matrices are applied to random vectors, at least as many as
there are matrices: with probability 1, the matrices are independent if and only if the results are.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bayesimp.errors import SpecificationError
from bayesimp.notation import IntMatrix, Matrix, Stack

__all__ = [
    "Labels",
    "Term",
    "absorbed",
    "check_identified",
    "identified",
    "identified_together",
    "independent",
    "refuse_absorbed",
]

Array = NDArray[np.float64]
ABSORBED = 1e-10  # a random effect is absorbed if the fixed effects leave less than this share of its squares
CONFOUNDED = 1e-9  # smallest eigenvalue of the inner products of matrices with norm 1 that counts as zero
VECTORS = 20  # random vectors to which crossed terms are applied, plus twice the number of components


class Labels(NamedTuple):
    """Names of the columns of X and Z, and of the grouping column."""

    fixed: Sequence[str]
    random: Sequence[str]
    group: str


class Term(NamedTuple):
    """A random term: Z (n, q), group of every row (n,), and the (d, 2) free elements of Psi."""

    Z: Array
    codes: NDArray[np.integer]
    free: NDArray[np.int64]


def identified_together(X: Array, terms: Sequence[Term], single: NDArray[np.bool_] | None = None) -> bool:
    """`identified` for several crossed or nested random terms; single (n,): rows that are one trial, without sigma^2."""
    n, d = len(X), sum(len(term.free) for term in terms)
    V = np.random.default_rng(0).normal(size=(n, VECTORS + 2 * d))
    Q = np.linalg.qr(X)[0]

    def project(W: Array) -> Array:
        return W - Q @ (Q.T @ W)

    contrasts: list[Array] = []
    apart: list[Array] = []
    squares: list[float] = []
    for term in terms:
        Z = np.linalg.qr(term.Z)[0] if len(term.free) > term.Z.shape[1] else term.Z
        for a, b in term.free:
            for out, W in ((contrasts, project(V)), (apart, V)):
                out.append(_applied(Z[:, a], Z[:, b], term.codes, W))
            squares.append(float(np.sum(apart[-1] ** 2)))
            if single is not None:
                apart[-1] -= (single * Z[:, a] * Z[:, b] * (1.0 if a == b else 2.0))[:, None] * V
    contrasts = [project(W) for W in contrasts]
    if single is None:
        contrasts, squares = [project(V), *contrasts], [float(np.sum(V**2)), *squares]
    kinds = [contrasts] if single is None else [contrasts, apart]
    return all(
        independent(np.array([[np.sum(S * T) for T in kind] for S in kind]), np.array(squares))
        for kind in kinds
    )


def _applied(x: Array, z: Array, codes: NDArray[np.integer], V: Array) -> Array:
    """blockdiag(x_i z_i' + z_i x_i') V, or blockdiag(x_i x_i') V if x is z."""

    def half(x: Array, z: Array) -> Array:
        sums = np.zeros((int(codes.max()) + 1, V.shape[1]))
        np.add.at(sums, codes, z[:, None] * V)
        return x[:, None] * sums[codes]

    return half(x, z) if x is z or np.array_equal(x, z) else half(x, z) + half(z, x)


def absorbed(A: Array, B: Array, correlated: bool) -> Array:
    """Directions of the random effects absorbed by the fixed ones; for uncorrelated effects, single effects.

    Returns
    -------
    (q, k) orthonormal columns u; k = 0 where there is none.
    """
    total = A.sum(axis=0)
    left = total - np.einsum("iap,ibp->ab", B, B)
    size = np.sqrt(np.einsum("aa->a", total))
    share = left / np.outer(size, size)
    values, vectors = np.linalg.eigh(share if correlated else np.diag(np.diag(share)))
    return vectors[:, values < ABSORBED] / size[:, None]


def identified(A: Array, B: Array, n: int, free: NDArray[np.int64], single: Array | None = None) -> bool:
    """Whether every combination of components changes the covariance of the error contrasts.

    Parameters
    ----------
    A, B
        (m, q, q), (m, q, p) products of clusters, with X orthonormal.
    n
        Number of rows.
    free
        (d, 2) rows and columns of the free elements of Psi.
    single
        None for a normal model; for a family without dispersion, (s, q) the rows of Z that are one trial.
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
    if single is None:
        return independent(inner, np.append(n - p, np.diag(plain)))
    own = np.einsum("ja,fab,jb->jf", single, E, single, optimize=True)
    return independent(inner[1:, 1:], np.diag(plain)) and independent(plain - own.T @ own, np.diag(plain))


def independent(inner: Array, squares: Array) -> bool:
    """Whether matrices with these inner products are linearly independent; squares: squared norms before projection."""
    size = np.sqrt(squares)
    return bool(np.linalg.eigvalsh(inner / np.outer(size, size))[0] > CONFOUNDED)


def check_identified(
    A: Stack,
    B: Stack,
    n: int,
    free: IntMatrix,
    T: Matrix,
    labels: Labels | None,
    where: str,
    single: Array | None = None,
) -> None:
    """Refuse variance components that n rows cannot distinguish from the fixed effects or from each other.

    A, B, free, single as in `identified`; T (q, q): the user's Z is that Z times T.

    Raises
    ------
    SpecificationError
        Names the components that are not identified, and a model that is.
    """
    if identified(A, B, n, free, single):
        return
    q = len(T)
    labels = labels or Labels((), [f"column {c} of Z" for c in range(q)], "cluster")
    refuse_absorbed(absorbed(A, B, len(free) > q), len(A), T, labels, where)
    clusters = int((np.einsum("iaa->i", A) > 0).sum())
    random = ", ".join(map(repr, labels.random))
    others = ", and the residual" if single is None else ""
    if single is not None and len(single):
        others = ", and clusters with one binary value each, which are informative only together with others"
    raise SpecificationError(
        f"{where}{n} rows in {clusters} clusters of '{labels.group}' cannot distinguish the variances (random "
        f"effects of {random}{others}): clusters have too few rows, or their rows differ too little. "
        f"{_remedy(A, B, n, len(free) > q, T, labels, single)}."
    )


def refuse_absorbed(directions: Array, clusters: int, T: Array, labels: Labels, where: str) -> None:
    """Refuse random effects absorbed by the fixed effects; other arguments as in `check_identified`."""
    if directions.shape[1] == 0:
        return
    share = np.abs(np.linalg.solve(T, directions)).max(axis=1) * np.linalg.norm(
        T, axis=0
    )  # columns of norm 1
    gone = [name for name, x in zip(labels.random, share, strict=True) if x > 1e-6 * share.max()]
    listed, only = ", ".join(map(repr, gone)), " (all rows are in one cluster)" if clusters == 1 else ""
    out = f"{listed} from (... | {labels.group})"
    if len(gone) == len(labels.random):
        out = f"the random term of '{labels.group}'"
    raise SpecificationError(
        f"{where}the fixed effects absorb the random effects of {listed} by '{labels.group}'{only}: their variances "
        f"cannot be estimated. Remove {out}, or remove the fixed effects that distinguish the clusters."
    )


def _remedy(
    A: Array, B: Array, n: int, correlated: bool, T: Matrix, labels: Labels, single: Array | None
) -> str:
    """The largest random part within this one that is identified."""
    for kept, pairs in _smaller(len(T), correlated):
        U = T[:, kept]  # the kept columns of Z in terms of the orthonormal ones
        U = np.linalg.qr(U)[0] if pairs else U / np.linalg.norm(U, axis=0)
        k = range(len(kept))
        free = np.array([(a, b) for b in k for a in k if a == b or (pairs and a > b)])
        alone = None if single is None else single @ U
        if not identified(U.T @ A @ U, U.T @ B, n, free, alone):
            continue
        if len(kept) == len(T):
            return f"Write (... || {labels.group}), without correlations"
        out = ", ".join(repr(name) for j, name in enumerate(labels.random) if j not in kept)
        return f"Remove {out} from (... | {labels.group})"
    return f"Remove the random term of '{labels.group}'"


def _smaller(q: int, correlated: bool) -> Iterator[tuple[list[int], bool]]:
    """Random parts nested in one with q columns, largest first, and whether their effects are correlated."""
    if correlated:
        yield list(range(q)), False
    for size in range(q - 1, 0, -1):
        for kept in combinations(range(q), size):
            yield list(kept), correlated
