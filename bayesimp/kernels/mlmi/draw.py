"""A draw of a conditional generalised linear mixed model: multilevel imputation after Jolani (2025), made exact.

    eta_ij = offset_ij + x_ij'beta + z_ij'b_i,     b_i = L u_i,     Psi = L L',     kernels/glmm/modes.py

Jolani draws (beta, Psi) around estimates and cluster effects by accept-reject (kernels/mlmi/published.py). Here the law
is the posterior under a weak prior, and a step leaves it invariant:

1. Fit: maximum of the penalised Laplace log-likelihood, with its curvature (kernels/laplace/fit.py), searched for from
   the rows alone, not from where the last visit ended: the criterion may have two maxima, and which one is proposed from
   must not depend on the chain. It is no more than a proposal: the penalty keeps it inside the boundary and finite for
   separated data.
2. (beta, theta)*, theta the lower triangle of L, by Metropolis in coordinates where the fit is standard normal
   (kernels/mlmi/proposal.py; hence the power k + 1 of L_kk in the penalty): from a multivariate t, and walking. What is
   held fixed is not b but e: with u^_i, H_i = C_i C_i' the mode and precision at (beta, theta),

       u_i = u^_i + C_i^-T e_i,     log target = sum_i { log p(y_i | u_i) - u_i'u_i / 2 - log|C_i| } + log prior

   Were Laplace's approximation exact, e would be independent of (beta, theta) and the target their marginal posterior;
   as it is not, the target is the joint posterior all the same, |C_i|^-1 being the Jacobian. So Psi* is not drawn
   from modes alone, which are shrunken, and Laplace's error is not inherited.
3. u_i given (beta, theta)* by independence Metropolis from a multivariate t at its mode: the exact conditional, for a
   log-concave family with high acceptance in clusters of any size. Clusters without rows: b_i ~ N(0, Psi*).

Prior: beta normal, precision Q0, t0 = Q0 mu0 (zero: flat); Psi ~ Huang-Wand(nu, scale), half-t standard deviations
(kernels/covariance/density.py); with |dPsi / dL| = 2^q prod_k L_kk^(q-k), k = 0.., and K = Psi^-1,

    log p(L) = sum_k (q - k - nu - 2 q) log|L_kk| - (nu + q)/2 sum_k log(nu K_kk + 1 / scale_k^2)
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from bayesimp.kernels.compiled import inner, kernel
from bayesimp.kernels.glmm.modes import (
    cluster_log_likelihood,
    effects_of,
    find_mode,
    fixed_part,
    workspace,
)
from bayesimp.kernels.laplace.criterion import Penalty, put_theta
from bayesimp.kernels.laplace.fit import NOT_CONVERGED, maximise_laplace
from bayesimp.kernels.laplace.record import free_elements
from bayesimp.kernels.linalg import cholesky, copy_to, fill, solve_lower, solve_lower_t
from bayesimp.kernels.mlmi.proposal import from_coordinates, make_coordinates, to_coordinates
from bayesimp.notation import IntMatrix, IntVector, Matrix, Vector

if TYPE_CHECKING:
    from bayesimp.kernels.glmm.rows import GlmmRows

__all__ = ["EVENTS", "FAILED", "FAILURES", "TALLIES", "draw_given_fit", "mlmi_step"]

TALLIES = ("visits", "proposals", "accepted", "effect proposals", "effects accepted")
FAILED, FIT = -1, 1
EVENTS = {
    FIT: (
        "fit not converged",
        "the search for the mode of the parameters did not end; it only served as a proposal, so the draws are right, "
        "but may move slowly",
    ),
}  # bit of `mlmi_step`'s answer: (kind of event, message)
FAILURES = {
    FAILED: (
        "failed",
        "the conditional model has no finite likelihood at any start: covariates or counts are out of range",
    )
}

TRIES, EFFECT_TRIES = 2, 1  # Metropolis steps in a visit; fcs/blocks/mlmi.py adds a Gibbs update
DF = 5.0  # of the proposals
GAIN = 1e-4  # of log-likelihood, left over by the search: 1 per cent of a standard deviation
NEAR = 1e-8  # Newton decrement of modes, one more step follows
WIDE = 5.0  # the penalty's standard deviation for effects, in units of the prior's scale


@inner
def log_prior(x: Vector, p: int, Q0: Matrix, t0: Vector, nu: float, scale: Vector, L: Matrix) -> float:
    """log p(beta) + log p(L), up to constants; -inf if L is singular."""
    q, value = L.shape[0], 0.0
    for a in range(p):
        slope = t0[a]
        for b in range(p):
            slope -= 0.5 * Q0[a, b] * x[b]
        value += slope * x[a]
    column = np.empty(q)
    for k in range(q):
        if L[k, k] == 0.0:
            return -math.inf
        value += (q - k - nu - 2.0 * q) * math.log(abs(L[k, k]))
        for a in range(q):
            column[a] = 1.0 if a == k else 0.0
        solve_lower(L, column, q)  # column k of L^-1
        precision = 0.0
        for a in range(k, q):
            precision += column[a] * column[a]
        value -= 0.5 * (nu + q) * math.log(nu * precision + 1.0 / scale[k] ** 2)
    return value


@inner
def t_noise(rng: np.random.Generator, out: Vector, n: int) -> None:
    """out (n,) <- multivariate t with DF degrees of freedom."""
    shrink = math.sqrt(DF / (2.0 * rng.standard_gamma(0.5 * DF)))
    for a in range(n):
        out[a] = shrink * rng.standard_normal()


@inner
def t_log_density(squares: float, n: int) -> float:
    """Log density of the multivariate t from the squared distance, up to a constant."""
    return -0.5 * (DF + n) * math.log1p(squares / DF)


@inner
def squared(v: Vector, n: int) -> float:
    """v'v over the first n elements."""
    s = 0.0
    for a in range(n):
        s += v[a] * v[a]
    return s


@kernel(nogil=True)
def draw_given_fit(
    rng: np.random.Generator,
    rows: GlmmRows,
    shape: float,
    Q0: Matrix,
    t0: Vector,
    nu: float,
    scale: Vector,
    free: IntMatrix,
    fit: Vector,
    covariance: Matrix,
    u_fit: Matrix,
    fresh: bool,
    beta: Vector,
    Psi: Matrix,
    B: Matrix,
    tallies: IntVector,
) -> int:
    """Steps 2 and 3 of the module, in place.

    Parameters
    ----------
    fit (p + d,), covariance (p + d, p + d), u_fit (m, q)
        From `maximise_laplace`.
    fresh
        Whether beta, Psi, B are not yet draws: then the chain starts at the fit.
    beta (p,), Psi (q, q), B (m, q)
        State of the chain.
    tallies (5,) int64
        Counts are added: `TALLIES`.

    Returns
    -------
    0, or `FAILED` if the likelihood is not finite at the state of the chain.
    """
    (m, q), p, k = B.shape, beta.shape[0], fit.shape[0]
    w, L = workspace(rows.y.shape[0], q), np.zeros((q, q))
    space, defined = make_coordinates(rows, shape, Q0, free, fit, covariance, u_fit, L, w)
    if not defined:
        return FAILED
    x, trial, v, v_trial, noise, at = (
        np.empty(k),
        np.empty(k),
        np.zeros(k),
        np.zeros(k),
        np.empty(k),
        np.empty(q),
    )
    step = np.empty(q)
    e, u, u_trial = np.zeros((m, q)), u_fit.copy(), u_fit.copy()
    H, H_trial = np.zeros((m, q, q)), np.zeros((m, q, q))
    target, proposal = -math.inf, 0.0
    if fresh:
        for i in range(m):
            for a in range(q):
                e[i, a] = rng.standard_normal()
    else:
        copy_to(L, Psi)
        if not cholesky(L, q):
            return FAILED
        for a in range(p):
            trial[a] = beta[a]
        for l in range(free.shape[0]):
            trial[p + l] = L[free[l, 0], free[l, 1]]
        to_coordinates(space, trial, free, L, w, v_trial)
    for attempt in range(1 + TRIES):
        walk = (
            attempt % 2 == 0
        )  # every second step is a random walk, for laws far from the t (separated data)
        if attempt > 0:
            t_noise(rng, noise, k)
            length = math.exp(-3.0 * rng.random()) * 1.7 / math.sqrt(k)
            for a in range(k):
                v_trial[a] = v[a] + length * noise[a] if walk else noise[a]
        after_proposal = t_log_density(squared(v_trial, k), k)
        after = -from_coordinates(space, v_trial, free, L, w, trial)
        fixed_part(rows, trial, w.eta0)
        after = log_prior(trial, p, Q0, t0, nu, scale, L) + after if math.isfinite(after) else -math.inf
        for i in range(m):
            if rows.first[i] == rows.first[i + 1] or not after > -math.inf:
                continue
            ui = u_trial[i]
            if not find_mode(rows, shape, i, L, ui, w, NEAR):
                after = -math.inf
                continue
            for a in range(q):
                ui[a] += w.step[a]
            copy_to(H_trial[i], w.H)
            if attempt == 0 and not fresh:  # e from b: u = L^-1 b, e = C'(u - mode)
                for a in range(q):
                    at[a] = B[i, a]
                solve_lower(L, at, q)
                for a in range(q):
                    e[i, a] = 0.0
                    for c in range(a, q):
                        e[i, a] += w.H[c, a] * (at[c] - ui[c])
            for a in range(q):
                at[a] = e[i, a]
                after -= math.log(w.H[a, a])
            solve_lower_t(w.H, at, q)
            for a in range(q):
                at[a] += ui[a]
            effects_of(L, at, w.b)
            after += cluster_log_likelihood(rows, shape, i, w.eta0, w.b) - 0.5 * squared(at, q)
        accept = attempt == 0
        if attempt > 0:
            tallies[1] += 1
            if math.isfinite(after):
                ratio = after - target - (0.0 if walk else after_proposal - proposal)
                accept = math.log(rng.random()) < ratio
            tallies[2] += accept
        elif not math.isfinite(after):
            return FAILED
        if accept:
            target, proposal = after, after_proposal
            for a in range(k):
                x[a], v[a] = trial[a], v_trial[a]
            copy_to(u, u_trial)
            for i in range(m):
                copy_to(H[i], H_trial[i])

    put_theta(x, p, free, L)
    fixed_part(rows, x, w.eta0)
    for i in range(m):
        if rows.first[i] == rows.first[i + 1]:
            for a in range(q):
                at[a] = rng.standard_normal()
            effects_of(L, at, B[i])
            continue
        value = 0.0
        for attempt in range(1 + EFFECT_TRIES):
            if attempt == 0:
                for a in range(q):
                    noise[a] = e[i, a]
            else:
                t_noise(rng, noise, q)
            squares = squared(noise, q)
            for a in range(q):
                at[a], step[a] = noise[a], noise[a]
            solve_lower_t(H[i], at, q)
            for a in range(q):
                at[a] += u[i, a]
            effects_of(L, at, w.b)
            after = cluster_log_likelihood(rows, shape, i, w.eta0, w.b) - 0.5 * squared(at, q)
            after -= t_log_density(squares, q)
            accept = attempt == 0
            if attempt > 0:
                tallies[3] += 1
                accept = math.log(rng.random()) < after - value
                tallies[4] += accept
            if accept:
                value = after
                for a in range(q):
                    B[i, a] = w.b[a]
    for a in range(p):
        beta[a] = x[a]
    fill(Psi, 0.0)
    for a in range(q):
        for b in range(q):
            for c in range(min(a, b) + 1):
                Psi[a, b] += L[a, c] * L[b, c]
    tallies[0] += 1
    return 0


def mlmi_step(
    rng: np.random.Generator,
    rows: GlmmRows,
    shape: float,
    Q0: Matrix,
    t0: Vector,
    nu: float,
    scale: Vector,
    fit: Vector,
    u_fit: Matrix,
    covariance: Matrix,
    beta: Vector,
    Psi: Matrix,
    B: Matrix,
    tallies: IntVector,
) -> int:
    """One visit of a chain: fit, then draw; all arrays but the prior are set in place.

    Parameters
    ----------
    rng
        NumPy generator.
    rows, shape
        `GlmmRows`, columns of X and Z of sd about 1; shape of the family (1.0 where it has none).
    Q0 (p, p), t0 (p,), nu, scale (q,)
        Priors, in the module's docstring.
    fit (p + d,), u_fit (m, q), covariance (p + d, p + d)
        <- mode of the parameters (d = q (q + 1) / 2), modes of effects, covariance about the mode. Not read.
    beta (p,), Psi (q, q), B (m, q)
        The draw.
    tallies (5,) int64
        `TALLIES`; zeros at first: the chain then starts from the fit.

    Returns
    -------
    0 or bits of `EVENTS`; `FAILED`: nothing was drawn, see `FAILURES`.
    """
    q = B.shape[1]
    free, fresh = free_elements(q), bool(tallies[0] == 0)
    penalty = Penalty(Q0, t0, np.arange(1.0, q + 1.0), np.diag((WIDE * np.asarray(scale)) ** -2.0))
    code = maximise_laplace(
        rows, shape, penalty, free, False, GAIN, fit, u_fit, covariance, np.empty(len(fit)), np.empty(3),
    )  # fmt: skip
    failed = draw_given_fit(
        rng, rows, shape, Q0, t0, nu, scale, free, fit, covariance, u_fit, fresh, beta, Psi, B, tallies
    )
    if failed < 0:
        return failed
    return FIT if code & NOT_CONVERGED else 0
