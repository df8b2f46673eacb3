"""Linear mixed models with several grouping factors, fitted by (RE)ML: one table, or many imputations of one.

The deviance is in kernels/crossed/deviance.py. The search begins with SciPy's BFGS and then treats the boundary as the
search with one factor does (`bayesimp.kernels.lmm.search.search`). At the optimum everything follows from Lambda,
sigma^2, beta and L_XX as for one factor (`bayesimp.kernels.lmm.fit`), where Lambda and Psi have the blocks of all terms
on the diagonal.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike
from scipy.linalg import block_diag
from scipy.optimize import minimize

from bayesimp.errors import DataError, SpecificationError
from bayesimp.kernels.crossed.deviance import DevianceAt, Products, deviance, products_of
from bayesimp.kernels.crossed.identifiability import check_terms_identified
from bayesimp.kernels.crossed.structure import EffectPattern, structure_of
from bayesimp.kernels.lmm.fit import NO_RESIDUAL, LinearMixedFit, Units, fit_at, refuse_exact
from bayesimp.kernels.lmm.identifiability import Labels
from bayesimp.kernels.lmm.search import BOUNDARY, EVALUATIONS, NEAR, START, Descent, search
from bayesimp.notation import BoolVector, IntMatrix, IntVector, Matrix, Vector

__all__ = ["RandomEffects", "fit_crossed_models", "log_likelihood_crossed"]

DEPENDENT = 1e-10  # as for one factor: a column depends on later columns if they leave a smaller share of it
EXACT = 1e-24  # X reproduces y if it leaves a smaller share of the sum of squares of y
GRADIENT, BY_ROW = 1e-6, 1e-8  # SciPy stops at the sum: rounding of the deviance grows with the rows


@dataclass(frozen=True)
class RandomEffects:
    """One random term of a stack of tables: Z (N, q), codes (N,) from 0, and the number of levels.

    correlated: whether the effects of a level have a covariance, ``(1 + x | g)``, or only variances, ``(1 + x || g)``.
    """

    Z: Matrix
    codes: IntVector
    levels: int
    correlated: bool = True

    def rows(self, part: slice) -> RandomEffects:
        """The term, restricted to some of the rows."""
        return replace(self, Z=self.Z[part], codes=self.codes[part])


def fit_crossed_models(
    y: ArrayLike, X: ArrayLike, terms: Sequence[RandomEffects], starts: ArrayLike, *,
    reml: bool = True, labels: Sequence[Labels] | None = None,
) -> LinearMixedFit:  # fmt: skip
    """Fit every table of a stack; each search begins at the optimum of the previous one.

    Parameters
    ----------
    y, X
        (N,), (N, p): the tables, stacked.
    terms
        The random terms; their grouping factors may be nested, crossed or the same.
    starts
        (M + 1,) first row of each table, then N.
    labels
        Names, for messages, of the columns of X, the columns of each term's Z, and its grouping factor.

    Returns
    -------
    LinearMixedFit
        Psi (M, Q, Q) has the blocks of the terms on its diagonal, Q = sum of q; theta and components likewise: all log
        standard deviations, term by term, then Fisher's z of the correlations, then log sigma. There are no modes.
        clusters (M,): number of levels with rows, for the factor that has the fewest.

    Raises
    ------
    DataError
        X reproduces y exactly, or X and the random effects together do.
    SpecificationError
        Columns of X or of a Z are linearly dependent, X has no more rows than columns, or the variance components are
        not identified (`bayesimp.kernels.crossed.identifiability`).
    """
    y, X, starts = np.asarray(y, dtype=float), np.asarray(X, dtype=float), np.asarray(starts, dtype=np.int64)
    M, free = len(starts) - 1, _free(terms)
    if labels is None:
        labels = [
            Labels([f"column {c} of X" for c in range(X.shape[1])], _unnamed(term), f"factor {t}")
            for t, term in enumerate(terms)
        ]
    tables, units, clusters = [], [], np.empty(M, dtype=np.int64)
    shape: EffectPattern | None = None
    for k, (start, stop) in enumerate(pairwise(starts)):
        part = slice(start, stop)
        here = [term.rows(part) for term in terms]
        where = f"table {k + 1} of {M}: " if M > 1 else ""
        made = _prepared(y[part], X[part], here, labels, where, shape)
        shape = made.products.structure
        check_terms_identified(made.products, [t.correlated for t in terms], made.units.Tz, labels, where)
        tables.append(made.products)
        units.append(made.units)
        clusters[k] = min(len(np.unique(term.codes)) for term in here)
    together = Units(*(np.stack(arrays) for arrays in zip(*units, strict=True)))
    prepared = PreparedTerms(tuple(tables), np.array([t.n for t in tables]), free, reml)
    end, singular = search(prepared, np.full((M, len(free)), np.nan))
    refuse_exact(end.scalars[:, 1], " and ".join(f"'{label.group}'" for label in labels), M)
    return fit_at(end, prepared, together, singular, clusters)


def _unnamed(term: RandomEffects) -> list[str]:
    return [f"column {c} of Z" for c in range(term.Z.shape[1])]


def _free(terms: Sequence[RandomEffects]) -> IntMatrix:
    """(d, 2) indices of the free elements of Lambda, whose diagonal blocks are those of the terms."""
    out, first = [], 0
    for term in terms:
        last = first + term.Z.shape[1]
        out += [(a, b) for b in range(first, last) for a in range(b, last) if a == b or term.correlated]
        first = last
    return np.array(out, dtype=np.int64)


@dataclass(frozen=True)
class _Prepared:
    products: Products
    units: Units


def _prepared(
    y: Vector, X: Matrix, terms: Sequence[RandomEffects], labels: Sequence[Labels], where: str,
    shape: EffectPattern | None,
) -> _Prepared:  # fmt: skip
    """Products of one table: X orthonormal, Z_t of mean square 1, y residual and scaled; shape: the previous table's."""
    n, p = X.shape
    if n <= p:
        raise SpecificationError(f"{where}{n} rows are too few for {p} fixed effects; use fewer columns.")
    Q, Tx = _orthonormal(X, labels[0].fixed, "fixed", where)
    alpha = np.zeros(p)
    before, residual = y @ y, y.copy()
    for _ in range(2):
        step = Q.T @ residual
        alpha, residual = alpha + step, residual - Q @ step
    after = residual @ residual
    if not after > EXACT * before:
        raise DataError(
            f"{where}the fixed effects reproduce the response exactly; there is nothing to estimate."
        )
    scale = np.sqrt(after / n)
    Z, Tz = [], []
    for term, label in zip(terms, labels, strict=True):
        parts = [term.Z] if term.correlated else list(term.Z.T[:, :, None])
        made = [_orthonormal(part, label.random, "random", where) for part in parts]
        Z.append(np.hstack([q for q, _ in made]) * np.sqrt(n))
        Tz.append(block_diag(*(T for _, T in made)) / np.sqrt(n))
    codes = [term.codes for term in terms]
    if shape is None or not shape.same(codes):
        shape = structure_of(codes, [t.levels for t in terms], [z.shape[1] for z in Z], p)
    return _Prepared(
        products_of(shape, Z, Q, residual / scale), Units(Tx, block_diag(*Tz), alpha, np.asarray(scale))
    )


def _orthonormal(W: Matrix, names: Sequence[str], kind: str, where: str) -> tuple[Matrix, Matrix]:
    """W = Q T with orthonormal Q and lower triangular T, which keeps the Lambda of W's effects lower triangular."""
    Q, R = np.linalg.qr(W[:, ::-1])
    signs = np.where(np.diag(R) < 0, -1.0, 1.0)
    Q, T = (Q * signs)[:, ::-1], (signs[:, None] * R)[::-1, ::-1]
    dependent = ~(np.diag(T) > DEPENDENT * np.linalg.norm(W, axis=0))
    if dependent.any():
        raise SpecificationError(
            f"{where}'{names[int(np.argmax(dependent))]}' of the {kind}-effects design is constant zero or a linear "
            "combination of later columns; remove a term."
        )
    return np.ascontiguousarray(Q), T


@dataclass(frozen=True)
class PreparedTerms:
    """`SearchableTables` for several factors: products of every table, rows n (M,), free elements of Lambda (d, 2)."""

    products: tuple[Products, ...]
    n: IntVector
    free: IntMatrix
    reml: bool

    def at(self, tables: IntVector) -> PreparedTerms:
        """Some of the tables."""
        return replace(self, products=tuple(self.products[k] for k in tables), n=self.n[tables])

    def evaluate(self, k: int, theta: Vector, held: float = 0.0) -> DevianceAt:
        """The deviance of table k at theta (d,)."""
        widths = self.products[k].structure.widths
        ends = np.concatenate([[0], np.cumsum(widths)])
        Lambda = np.zeros((ends[-1], ends[-1]))
        Lambda[self.free[:, 0], self.free[:, 1]] = theta
        blocks = [Lambda[a:b, a:b] for a, b in pairwise(ends)]
        return deviance(self.products[k], blocks, self.reml, held)

    def descend(self, theta: Matrix, held: Vector | None = None, evaluations: int = EVALUATIONS) -> Descent:
        """Search from a copy of theta (M, d); nan: from the end of the previous table. With one evaluation none moves.

        held (M,): sigma^2, or 0 to profile it out.
        """
        theta, (M, d), p = np.array(theta, dtype=float), np.shape(theta), self.products[0].structure.fixed
        flags: BoolVector = np.zeros(M, dtype=bool)
        out = Descent(
            theta,
            np.zeros(M),
            np.zeros((M, d)),
            flags,
            np.zeros((M, p)),
            np.zeros((M, p, p)),
            np.zeros((M, 2)),
        )
        diagonal, curvature = self.free[:, 0] == self.free[:, 1], np.eye(d)
        for k in range(M):
            unknown = np.isnan(theta[k])
            before = theta[k - 1] if k > 0 else np.zeros(d)
            begin = np.where(diagonal & (np.abs(before) < BOUNDARY), START, before)
            theta[k, unknown] = begin[unknown]
            if evaluations > 1:
                theta[k], curvature, out.converged[k] = self._searched(k, theta[k], curvature, evaluations)
            at = self.evaluate(k, theta[k], 0.0 if held is None else held[k])
            out.value[k], out.beta[k], out.R[k], out.scalars[k] = at.value, at.beta, at.R, at.scalars
            out.gradient[k] = at.gradient[self.free[:, 0], self.free[:, 1]]
        return out

    def _searched(
        self, k: int, theta: Vector, curvature: Matrix, evaluations: int
    ) -> tuple[Vector, Matrix, bool]:
        """End of a search of table k, inverse Hessian there, whether no decrease is left; curvature: the initial one."""
        left = [1.0]  # share left of the residual mean square

        def fun(theta: Vector) -> tuple[float, Vector]:
            at = self.evaluate(k, theta)
            left[0] = at.scalars[1]
            return at.value, at.gradient[self.free[:, 0], self.free[:, 1]]

        def stop_without_residual(_: Vector) -> None:
            if left[0] < NO_RESIDUAL:  # refused after the search: the deviance has no minimum
                raise StopIteration

        options = {"gtol": GRADIENT + BY_ROW * self.n[k], "maxiter": evaluations, "hess_inv0": curvature}
        found = minimize(fun, theta, jac=True, method="BFGS", options=options, callback=stop_without_residual)
        inverse = 0.5 * (found.hess_inv + found.hess_inv.T)
        # as for one factor: the remaining gain may be below the rounding error of the deviance
        near = bool(found.success or found.jac @ inverse @ found.jac < NEAR)
        good = bool(np.linalg.eigvalsh(inverse)[0] > 0)
        return found.x, inverse if good else np.eye(len(theta)), near


def log_likelihood_crossed(
    y: ArrayLike, X: ArrayLike, terms: Sequence[RandomEffects], beta: ArrayLike, Psi: Matrix, sigma2: float
) -> float:
    """log p(y; beta, Psi, sigma^2) of one table, marginal over random effects; Psi (Q, Q), by blocks, may be singular.

    -2 times this is the ML deviance of y - X beta without fixed effects, with sigma^2 held, at
    Lambda_t Lambda_t' = Psi_t / sigma^2.
    """
    r = np.asarray(y, dtype=float) - np.asarray(X, dtype=float) @ np.asarray(beta)
    scale = np.sqrt(np.mean(r**2))
    codes, Z = [term.codes for term in terms], [term.Z for term in terms]
    shape = structure_of(codes, [t.levels for t in terms], [z.shape[1] for z in Z], 0)
    ends = np.concatenate([[0], np.cumsum(shape.widths)])
    Lambda = []
    for first, last in pairwise(ends):
        values, vectors = np.linalg.eigh(Psi[first:last, first:last] / sigma2)
        # any root will do; negative eigenvalues are only rounding errors, because Psi is a covariance matrix
        Lambda.append(vectors * np.sqrt(np.maximum(values, 0.0)))
    products = products_of(shape, Z, np.empty((len(r), 0)), r / scale)
    return -0.5 * deviance(products, Lambda, False, sigma2 / scale**2).value - len(r) * np.log(scale)
