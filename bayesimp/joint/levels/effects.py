"""The effects of all grouping factors given the parameters, in one exact draw.

With the known part of the mean subtracted, rows j with observed cells a and groups g of the factors s = 1..S have

    y_ja = (z_j' b)_a + e_ja,   e_j ~ N(0, Sigma),      b_g ~ N(mu_g, C_g) independently, mostly N(0, Psi_s)

With W_a = Sigma_aa^-1, Z_a the sparse matrix whose row j has the columns of z_j at the groups of row j, the effects are
normal with precision

    P = blockdiag(C_g^-1) + sum_a (Z_a' Z_a) kron W_a

and, from a draw (b_0, e) of the model itself (Hoffman & Ribak 1991),

    b = b_0 + P^-1 vec( sum_a Z_a' (y_a - Z_a b_0 - e_a) W_a )

A group without observed values keeps b_0, its draw from the distribution between groups. P depends on the parameters
alone, so its factorisation serves every draw given other latent values y.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse.linalg import splu

__all__ = ["EffectsGiven", "EffectsLaw", "RowsOfGroups"]

Array = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class EffectsLaw:
    """Distribution of the effects of the groups of one factor before rows are seen.

    Attributes
    ----------
    mean
        (G, n) mu_g; effect k q_s + l as in Psi_s.
    covariance
        (A, n, n) the different C_g.
    which
        (G,) index of that of each group.
    """

    mean: Array
    covariance: Array
    which: Ints

    @classmethod
    def centred(cls, Psi: Array, groups: int) -> EffectsLaw:
        """N(0, Psi) for every group."""
        return cls(np.zeros((groups, len(Psi))), Psi[None], np.zeros(groups, dtype=np.int64))


@dataclass(frozen=True)
class RowsOfGroups:
    """Rows with their groups; everything that does not depend on parameters.

    Attributes
    ----------
    Z
        (N, q) columns of all factors side by side.
    column
        (S + 1,) factor s has the columns column[s] .. column[s + 1] - 1.
    places
        (N, S) group of each row in each factor.
    number
        (S,) groups of each factor.
    pattern, patterns
        (N,), (A, r): which cells of a row are observed.
    """

    Z: Array
    column: Ints
    places: Ints
    number: Ints
    pattern: Ints
    patterns: NDArray[np.bool_]

    @cached_property
    def design(self) -> sparse.csr_array:
        """(N, C) the columns of Z at the groups of each row, C = sum_s G_s q_s, those of a group adjacent."""
        N, q = self.Z.shape
        widths = np.diff(self.column)
        first = np.cumsum([0, *(self.number * widths)])
        at = np.empty((N, q), dtype=np.int64)
        for s, width in enumerate(widths):
            at[:, self.column[s] : self.column[s + 1]] = (
                first[s] + self.places[:, s : s + 1] * width + np.arange(width)
            )
        return sparse.csr_array(
            (self.Z.ravel(), at.ravel(), np.arange(0, N * q + 1, q)), shape=(N, int(first[-1]))
        )

    def of_rows(self, b: Array) -> Array:
        """(N, r) what the effects b (C, r) add to the mean of every row."""
        return self.design @ b

    def of_factor(self, b: Array, s: int) -> Array:
        """(G, n) the effects of factor s in the order of Psi_s, from those of all, b (C, r)."""
        widths = np.diff(self.column)
        first, G, q = int(self.number[:s] @ widths[:s]), int(self.number[s]), int(widths[s])
        return b[first : first + G * q].reshape(G, q, b.shape[1]).transpose(0, 2, 1).reshape(G, -1)

    def by_column(self, s: int, effects: Array) -> Array:
        """(G q_s, r) from (G, n): the inverse of `of_factor`."""
        (G, n), q = effects.shape, int(self.column[s + 1] - self.column[s])
        return effects.reshape(G, n // q, q).transpose(0, 2, 1).reshape(G * q, n // q)

    @cached_property
    def grams(self) -> list[tuple[int, sparse.csr_array]]:
        """Z_a' Z_a of every pattern a in which something is observed."""
        out = []
        for a in np.unique(self.pattern):
            if self.patterns[a].any():
                own = self.design[np.flatnonzero(self.pattern == a)]
                out.append((int(a), own.T @ own))
        return out


class EffectsGiven:
    """The distribution of all effects given Sigma and their laws, ready to be drawn from.

    Parameters
    ----------
    rows
        The rows.
    Sigma
        (r, r).
    laws
        Of the effects of every factor. A draw may have other means, but not other covariances.
    """

    def __init__(self, rows: RowsOfGroups, Sigma: Array, laws: Sequence[EffectsLaw]) -> None:
        self.rows, self.laws, self.r = rows, laws, len(Sigma)
        self.widths = np.diff(rows.column)
        W = weights(Sigma, rows.patterns)
        self.W_rows, self.seen = W[rows.pattern], rows.patterns[rows.pattern]
        self.transposed = rows.design.T.tocsr()
        self.roots = [np.linalg.cholesky(law.covariance)[law.which] for law in laws]
        self.root = np.linalg.cholesky(Sigma)
        P = sparse.block_diag([self._precision(s, law) for s, law in enumerate(laws)], format="csc")
        for a, gram in rows.grams:
            P = P + sparse.kron(gram, W[a], format="csc")
        # symmetric and positive definite: no pivots, so that the factor stays as sparse as its ordering makes it
        self.factor = splu(
            sparse.csc_matrix(P), permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options={"SymmetricMode": True}
        )  # fmt: skip

    @cached_property
    def log_pivots(self) -> Array:
        """(C r,) logarithms of the pivots of P, whose sum over the effects of connected groups is log|P| of these.

        P = Pr' L U Pc' with |diag L| = 1: effects of connected groups are a block of P, and its columns keep their place
        in U whatever the order of rows.
        """
        return np.log(np.abs(self.factor.U.diagonal()))[self.factor.perm_c]

    @property
    def normals(self) -> int:
        """How many standard normals a draw takes."""
        return int(self.r * (self.rows.number @ self.widths + len(self.rows.Z)))

    def draw(self, z: Array, R: Array, means: Sequence[Array] | None = None) -> Array:
        """(C, r) effects, rows as the columns of `RowsOfGroups.design`.

        z (normals,): standard normals; R (N, r): y minus the known part of its mean, of any value where not observed;
        means: mu (G, n) of every factor, where they are not those of the laws.
        """
        parts, at = [], 0
        for s, root in enumerate(self.roots):
            mean = self.laws[s].mean if means is None else means[s]
            own = z[at : at + mean.size].reshape(*mean.shape, 1)
            at += mean.size
            parts.append(self.rows.by_column(s, mean + (root @ own)[:, :, 0]))
        b = np.vstack(parts)
        e = z[at:].reshape(len(R), self.r) @ self.root.T
        gap = np.where(self.seen, R - self.rows.of_rows(b) - e, 0.0)
        weighted = (gap[:, None] @ self.W_rows)[:, 0]
        return b + self.factor.solve((self.transposed @ weighted).ravel()).reshape(b.shape)

    def _precision(self, s: int, law: EffectsLaw) -> sparse.csc_array:
        """C_g^-1 of every group, in the order of vec(b)."""
        order = np.arange(self.r * self.widths[s]).reshape(self.r, -1).T.ravel()
        inverses = np.linalg.inv(law.covariance)[:, order[:, None], order][law.which]
        G, n = law.mean.shape
        if not G:
            return sparse.csc_array((0, 0))
        return sparse.bsr_array(
            (np.ascontiguousarray(inverses), np.arange(G), np.arange(G + 1)), shape=(G * n, G * n)
        ).tocsc()


def weights(Sigma: Array, patterns: NDArray[np.bool_]) -> Array:
    """W (A, r, r): the inverse of the observed part of Sigma for each pattern (A, r), zeros elsewhere."""
    W = np.zeros((len(patterns), *Sigma.shape))
    for a, seen in enumerate(patterns):
        at = np.ix_(seen, seen)
        W[a][at] = np.linalg.inv(Sigma[at])
    return W
