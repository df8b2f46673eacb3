"""Whether the data can tell the variance components of several grouping factors apart.

As for one factor (`bayesimp.kernels.lmm.identifiability`), I and the matrices G_f = K'Z_t (I x E_f) Z_t'K of all free
elements psi_f of all terms must be linearly independent, where K is an orthonormal basis of the complement of X. Their
inner products are sums over the cells of two terms (levels i of t and j of s that occur together), A_ij = Z_ti'Z_sj:

    tr(G_f G_g) = sum_ij tr(E_f A_ij E_g A_ij') - 2 tr(E_f A_ij E_g B_sj B_ti') + tr(W_f W_g)
    tr(I G_f)   = sum_i tr(A_ii E_f) - tr W_f,             tr(I I) = n - p
    B_ti = Z_ti'X,   W_f = sum_i B_ti' E_f B_ti
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bayesimp.errors import SpecificationError
from bayesimp.kernels.crossed.deviance import Products
from bayesimp.kernels.lmm.identifiability import Labels, absorbed, independent, refuse_absorbed
from bayesimp.notation import Array, Matrix, Stack

__all__ = ["check_terms_identified", "terms_identified"]


def terms_identified(products: Products, correlated: Sequence[bool], kept: Sequence[int]) -> bool:
    """Whether the components of the kept terms and sigma^2 change the covariance of the contrasts in different ways."""
    structure, n = products.structure, products.n
    if not kept:
        return True
    E = {t: _elements(structure.widths[t], correlated[t]) for t in kept}
    first = dict(zip(kept, np.cumsum([0, *(len(E[t]) for t in kept)])[:-1], strict=True))
    B = {t: products.B[t][:, :, :-1] for t in kept}
    W = np.concatenate([np.einsum("iap,fab,ibr->fpr", B[t], E[t], B[t], optimize=True) for t in kept])
    d = len(W)
    inner, squares = np.empty((d + 1, d + 1)), np.empty(d + 1)
    inner[0, 0] = squares[0] = n - structure.fixed
    inner[1:, 1:] = np.einsum("fpr,grp->fg", W, W)
    for pair, A in zip(products.structure.pairs, products.A, strict=True):
        t, s = pair.t, pair.s
        if t not in E or s not in E:
            continue
        here = slice(1 + first[t], 1 + first[t] + len(E[t]))
        there = slice(1 + first[s], 1 + first[s] + len(E[s]))
        plain, cross = _products(A, B[t][pair.first], B[s][pair.second], E[t], E[s])
        inner[here, there] += plain - 2.0 * cross
        if t == s:
            squares[here] = np.diag(plain)
            inner[0, here] = np.einsum("iab,fab->f", A, E[t]) - np.einsum(
                "fpp->f", W[first[t] :][: len(E[t])]
            )
        else:
            inner[there, here] += (plain - 2.0 * cross).T
    inner[1:, 0] = inner[0, 1:]
    return independent(inner, squares)


def _elements(q: int, correlated: bool) -> Stack:
    """(d, q, q) symmetric E_f, one for each free element of Psi_t."""
    free = [(a, b) for b in range(q) for a in range(b, q) if a == b or correlated]
    E = np.zeros((len(free), q, q))
    for f, (a, b) in enumerate(free):
        E[f, a, b] = E[f, b, a] = 1.0
    return E


def _products(A: Stack, B_t: Stack, B_s: Stack, E_t: Stack, E_s: Stack) -> tuple[Matrix, Matrix]:
    """(d_t, d_s) sums over cells of tr(E_f A E_g A') and of tr(E_f A E_g B_s B_t')."""
    C = B_s @ np.swapaxes(B_t, 1, 2)
    left, right = E_t[:, None] @ A, [E_s[:, None] @ other for other in (np.swapaxes(A, 1, 2), C)]
    plain, cross = (np.tensordot(left, np.swapaxes(r, 2, 3), axes=([1, 2, 3], [1, 2, 3])) for r in right)
    return plain, cross


def check_terms_identified(
    products: Products, correlated: Sequence[bool], T: Array, labels: Sequence[Labels], where: str
) -> None:
    """Refuse terms whose variances a table cannot tell from the fixed effects, the residual or each other.

    T (Q, Q), with blocks by term: the user's Z is the Z of the products times T.

    Raises
    ------
    SpecificationError
        The message names the terms, gives the reason if the levels show it, and says what to remove.
    """
    structure = products.structure
    every = range(len(labels))
    if terms_identified(products, correlated, every):
        return
    ends = np.concatenate([[0], np.cumsum(structure.widths)])
    own = {pair.t: A for pair, A in zip(structure.pairs, products.A, strict=True) if pair.t == pair.s}
    for t, label in enumerate(labels):
        directions = absorbed(own[t], products.B[t][:, :, :-1], correlated[t])
        block = T[ends[t] : ends[t + 1], ends[t] : ends[t + 1]]
        refuse_absorbed(directions, structure.levels[t], block, label, where)
    named = [_written(label, c) for label, c in zip(labels, correlated, strict=True)]
    out = [named[t] for t in every if terms_identified(products, correlated, [s for s in every if s != t])]
    cure = f"Remove {' or '.join(out)}" if out else "Remove random terms, or columns from them"
    raise SpecificationError(
        f"{where}the variances of {', '.join(named)} cannot be distinguished from each other and from the residual"
        f"{_reason(products, labels)}. {cure}."
    )


def _reason(products: Products, labels: Sequence[Labels]) -> str:
    """The reason, if the levels themselves show one."""
    structure, n = products.structure, products.n
    for label, m in zip(labels, structure.levels, strict=True):
        if m == n:
            return f": every level of '{label.group}' has one row, so that its effects equal residuals"
    for pair in structure.pairs:
        one, other = labels[pair.t].group, labels[pair.s].group
        if pair.t != pair.s and one == other:
            return f": '{one}' has two equivalent terms"
        if pair.t != pair.s and len(pair.first) == structure.levels[pair.t] == structure.levels[pair.s]:
            return f": '{other}' and '{one}' group the rows identically ({len(pair.first):,} levels each)"
    return ": the levels have too few rows, or differ too little"


def _written(label: Labels, correlated: bool) -> str:
    """The term as written in a formula."""
    names = ["1" if name == "Intercept" else name for name in label.random]
    left = " + ".join(names if names[:1] == ["1"] else ["0", *names])
    return f"({left} {'|' if correlated else '||'} {label.group})"
