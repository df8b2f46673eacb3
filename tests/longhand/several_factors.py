"""Several grouping factors written out: one dense normal of all effects and cells, and a Gibbs sampler on it.

    y = D u + e,   u = (vec beta, vec B_1 of every group, vec B_2, ..),   Cov(e) = Sigma within rows
    u ~ N(0, blocks Psi_s^-1, and 0 for a flat beta)^-1

It shares no code with bayesimp.
"""

import numpy as np


def system(X, parts, Y):
    """D (n r, P + effects), all cells of Y row by row, and where factors begin; parts: (Z, codes, groups) of each."""
    (n, p), r = X.shape, Y.shape[1]
    starts = np.cumsum([r * p, *(groups * r * Z.shape[1] for Z, _, groups in parts)])
    D = np.zeros((n, r, starts[-1]))
    for k in range(r):
        D[:, k, k * p : (k + 1) * p] = X
        for (Z, codes, _), start in zip(parts, starts[:-1], strict=True):
            q = Z.shape[1]
            for j in range(n):
                at = start + codes[j] * r * q + k * q
                D[j, k, at : at + q] = Z[j]
    return D.reshape(n * r, -1), starts


def precision(starts, Psis, counts, P):
    """Prior precision of u."""
    Q = np.zeros((starts[-1], starts[-1]))
    for Psi, groups, start in zip(Psis, counts, starts[:-1], strict=True):
        n = len(Psi)
        for g in range(groups):
            at = slice(start + g * n, start + (g + 1) * n)
            Q[at, at] = np.linalg.inv(Psi)
    return Q


def effects_given(X, parts, Y, Sigma, Psis):
    """Precision M and score h of u given the observed cells: N(M^-1 h, M^-1)."""
    D, starts = system(X, parts, Y)
    seen = ~np.isnan(Y).ravel()
    S = np.kron(np.eye(len(Y)), Sigma)[np.ix_(seen, seen)]
    A = D[seen].T @ np.linalg.inv(S)
    counts = [groups for _, _, groups in parts]
    return A @ D[seen] + precision(starts, Psis, counts, X.shape[1]), A @ Y.ravel()[seen], starts


def missing_cells(X, parts, Y, Sigma, Psis):
    """Mean and covariance of the missing cells, row by row, given the observed ones; beta flat, all integrated out."""
    M, h, _ = effects_given(X, parts, Y, Sigma, Psis)
    A, c, F = missing_given_effects(X, parts, Y, Sigma)
    V = np.linalg.inv(M)
    return A @ V @ h + c, A @ V @ A.T + F


def missing_given_effects(X, parts, Y, Sigma):
    """A, c, F: missing cells given u are N(A u + c, F)."""
    D, _ = system(X, parts, Y)
    y, lost = Y.ravel(), np.isnan(Y).ravel()
    S = np.kron(np.eye(len(Y)), Sigma)
    K = S[np.ix_(lost, ~lost)] @ np.linalg.inv(S[np.ix_(~lost, ~lost)])
    return D[lost] - K @ D[~lost], K @ y[~lost], S[np.ix_(lost, lost)] - K @ S[np.ix_(~lost, lost)]


def gibbs(X, parts, Y, Sigma, Psis, chains, sweeps, seed, redraw=True):
    """Draws of the missing cells (sweeps, cells) by blocks (beta, effects of the factors in a chain) given the others.

    redraw: False is wrong: from the second chain on, beta is integrated out of the draw of the effects and keeps the
    value that it was drawn with before.
    """
    rng = np.random.default_rng(seed)
    M, h, starts = effects_given(X, parts, Y, Sigma, Psis)
    A, c, F = missing_given_effects(X, parts, Y, Sigma)
    root, P = np.linalg.cholesky(F), starts[0]
    blocks = []
    for chain in chains:
        own = np.concatenate([np.arange(P), *(np.arange(starts[s], starts[s + 1]) for s in chain)])
        rest = np.setdiff1d(np.arange(len(h)), own)
        V = np.linalg.inv(M[np.ix_(own, own)])
        blocks.append((own, rest, V, np.linalg.cholesky(V)))
    u, out = np.zeros(len(h)), np.empty((sweeps, len(c)))
    for t in range(sweeps):
        for k, (own, rest, V, L) in enumerate(blocks):
            drawn = V @ (h[own] - M[np.ix_(own, rest)] @ u[rest]) + L @ rng.standard_normal(len(own))
            if k and not redraw:
                drawn[:P] = u[:P]
            u[own] = drawn
        out[t] = A @ u + c + root @ rng.standard_normal(len(c))
    return out
