"""A draw from a conditional generalised linear mixed model: Jolani's (2025) multilevel imputation, made exact.

    eta_ij = offset_ij + x_ij'beta + z_ij'b_i,     b_i = L u_i,     Psi = L L',     kernels/glmm/modes.py

Jolani draws (beta, Psi) around their estimates and cluster effects by accept-reject (kernels/mlmi/published.py). Here the
distribution is the posterior under a weak prior (kernels/mlmi/target.py), and a step leaves it invariant:

1. Fit: the maximum of the penalised Laplace log-likelihood, with its curvature (kernels/laplace/fit.py). The search uses
   only the rows and does not start where the last visit ended: the criterion may have two maxima, and the choice of the
   one from which to propose must not depend on the chain. The fit only serves as a proposal; the penalty keeps it off the
   boundary, and finite for separated data.
2. (beta, theta)*, where theta is the lower triangle of L, by Metropolis steps in coordinates in which the fit is standard
   normal (kernels/mlmi/proposal.py; hence the power k + 1 of L_kk in the penalty): proposals from a multivariate t and a
   random walk. The noise e_i of the effects about their modes u^_i is held fixed:

       u_i = u^_i + C_i^-T e_i,     log target = sum_i { log p(y_i | u_i) - u_i'u_i / 2 - log|C_i| } + log prior

   If Laplace's approximation were exact, e would be independent of (beta, theta), and the target their marginal
   posterior. It is not exact, but the target is the joint posterior in any case. So Psi* is not drawn from the modes
   alone, which are shrunken, and the error of Laplace's approximation is not inherited.
3. u_i given (beta, theta)* by independence Metropolis from a multivariate t at its mode: the exact conditional, with high
   acceptance for log-concave families in clusters of any size. In clusters without rows b_i ~ N(0, Psi*).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from bayesimp.kernels.compiled import inner, kernel
from bayesimp.kernels.glmm.modes import effects_of, fixed_part, workspace
from bayesimp.kernels.laplace.criterion import Penalty, put_theta
from bayesimp.kernels.laplace.fit import NOT_CONVERGED, maximise_laplace
from bayesimp.kernels.laplace.record import free_elements
from bayesimp.kernels.linalg import cholesky, copy_to, lower_product
from bayesimp.kernels.mlmi.proposal import make_coordinates, to_coordinates
from bayesimp.kernels.mlmi.target import (
    MlmiPrior,
    candidate,
    copy_candidate,
    log_joint,
    log_target,
    squared,
)
from bayesimp.notation import IntMatrix, IntVector, Matrix, Vector

if TYPE_CHECKING:
    from bayesimp.kernels.glmm.modes import ModeWork
    from bayesimp.kernels.glmm.rows import GlmmRows
    from bayesimp.kernels.mlmi.proposal import Coordinates
    from bayesimp.kernels.mlmi.target import Candidate

__all__ = ["EVENTS", "FAILED", "FAILURES", "TALLIES", "draw_given_fit", "mlmi_step"]

TALLIES = ("visits", "proposals", "accepted", "effect proposals", "effects accepted")
VISITS, PROPOSED, ACCEPTED, EFFECTS_PROPOSED, EFFECTS_ACCEPTED = range(5)
FAILED, FIT = -1, 1
EVENTS = {
    FIT: (
        "fit not converged",
        "the search for the mode of the parameters did not end; it only served as a proposal, so the draws are right, "
        "but may move slowly",
    ),
}  # bit of `mlmi_step`'s return code: (kind of event, message)
FAILURES = {
    FAILED: (
        "failed",
        "the conditional model has no finite likelihood at any start: covariates or counts are out of range",
    )
}

TRIES, EFFECT_TRIES = 2, 1  # Metropolis steps per visit; fcs/blocks/mlmi.py adds a Gibbs update
DF = 5.0  # degrees of freedom of the proposals
GAIN = 1e-4  # gain in log-likelihood not worth another step: 1 per cent of a standard deviation
WIDE = 5.0  # the penalty's standard deviation for effects, in units of the prior's scale


@inner
def t_noise(rng: np.random.Generator, out: Vector, n: int) -> None:
    """out (n,) <- multivariate t with DF degrees of freedom."""
    shrink = math.sqrt(DF / (2.0 * rng.standard_gamma(0.5 * DF)))
    for a in range(n):
        out[a] = shrink * rng.standard_normal()


@inner
def t_log_density(squares: float, n: int) -> float:
    """Log density of the multivariate t as a function of the squared distance, up to a constant."""
    return -0.5 * (DF + n) * math.log1p(squares / DF)


@inner
def propose(rng: np.random.Generator, v: Vector, walk: bool, noise: Vector, out: Vector) -> None:
    """out (k,) <- coordinates from the t at the fit, or a random-walk step from v; noise (k,) is work space."""
    k = v.shape[0]
    t_noise(rng, noise, k)
    length = math.exp(-3.0 * rng.random()) * 1.7 / math.sqrt(k)
    for a in range(k):
        out[a] = v[a] + length * noise[a] if walk else noise[a]


@inner
def draw_parameters(
    rng: np.random.Generator,
    rows: GlmmRows,
    shape: float,
    prior: MlmiPrior,
    space: Coordinates,
    free: IntMatrix,
    fresh: bool,
    now: Candidate,
    new: Candidate,
    B: Matrix,
    e: Matrix,
    L: Matrix,
    w: ModeWork,
    tallies: IntVector,
) -> bool:
    """Step 2: now <- (beta, theta) after `TRIES` Metropolis steps. new.v: coordinates of the chain's state.

    If the chain is not fresh, e (m, q) <- the noise that yields its effects B (m, q). False if the target is not finite
    at the state.
    """
    k = now.v.shape[0]
    noise, u, target, proposal = np.empty(k), np.empty(B.shape[1]), -math.inf, 0.0
    for attempt in range(1 + TRIES):
        state = attempt == 0  # one place evaluates the state and all proposals: the target is slow to compile
        # every second step is a random walk, for targets far from the t (separated data)
        walk = attempt % 2 == 0
        if not state:
            propose(rng, now.v, walk, noise, new.v)
        log_t = t_log_density(squared(new.v, k), k)
        after = log_target(rows, shape, prior, space, free, new, state and not fresh, B, e, L, w, u)
        accept = state
        if state:
            if not math.isfinite(after):
                return False
        else:
            tallies[PROPOSED] += 1
            if math.isfinite(after):
                log_ratio = after - target - (0.0 if walk else log_t - proposal)
                accept = math.log(rng.random()) < log_ratio
            tallies[ACCEPTED] += accept
        if accept:
            target, proposal = after, log_t
            copy_candidate(now, new)
    return True


@inner
def draw_effects(
    rng: np.random.Generator,
    rows: GlmmRows,
    shape: float,
    now: Candidate,
    e: Matrix,
    L: Matrix,
    w: ModeWork,
    B: Matrix,
    tallies: IntVector,
) -> None:
    """Step 3: B (m, q) <- effects given now.x and the fixed part w.eta0; e (m, q): noise of the current ones."""
    m, q = B.shape
    noise, u = np.empty(q), np.empty(q)
    for i in range(m):
        if rows.first[i] == rows.first[i + 1]:
            for a in range(q):
                u[a] = rng.standard_normal()
            effects_of(L, u, B[i])
            continue
        value = 0.0
        for attempt in range(1 + EFFECT_TRIES):
            if attempt == 0:
                for a in range(q):
                    noise[a] = e[i, a]
            else:
                t_noise(rng, noise, q)
            after = log_joint(rows, shape, i, now.modes[i], now.C[i], noise, L, w, u)
            after -= t_log_density(squared(noise, q), q)
            accept = attempt == 0
            if attempt > 0:
                tallies[EFFECTS_PROPOSED] += 1
                accept = math.log(rng.random()) < after - value
                tallies[EFFECTS_ACCEPTED] += accept
            if accept:
                value = after
                for a in range(q):
                    B[i, a] = w.b[a]


@inner
def state_coordinates(
    space: Coordinates, free: IntMatrix, beta: Vector, Psi: Matrix, L: Matrix, w: ModeWork, state: Candidate
) -> bool:
    """state.v <- coordinates of (beta, Psi), L <- Cholesky factor of Psi. False if Psi is singular."""
    p = beta.shape[0]
    copy_to(L, Psi)
    if not cholesky(L, L.shape[0]):
        return False
    for a in range(p):
        state.x[a] = beta[a]
    for l in range(free.shape[0]):
        state.x[p + l] = L[free[l, 0], free[l, 1]]
    to_coordinates(space, state.x, free, L, w, state.v)
    return True


@kernel(nogil=True)
def draw_given_fit(
    rng: np.random.Generator,
    rows: GlmmRows,
    shape: float,
    prior: MlmiPrior,
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
    """Steps 2 and 3 of the module docstring, in place.

    Parameters
    ----------
    fit (p + d,), covariance (p + d, p + d), u_fit (m, q)
        From `maximise_laplace`.
    fresh
        Whether beta, Psi, B are not draws yet; if so, the chain starts at the fit.
    beta (p,), Psi (q, q), B (m, q)
        State of the chain.
    tallies (5,) int64
        Counts, incremented: `TALLIES`.

    Returns
    -------
    0, or `FAILED` if the likelihood is not finite at the state of the chain.
    """
    (m, q), p = B.shape, beta.shape[0]
    w, L = workspace(rows.y.shape[0], q), np.zeros((q, q))
    space, defined = make_coordinates(rows, shape, prior.Q0, free, fit, covariance, u_fit, L, w)
    if not defined:
        return FAILED
    now, new, e = candidate(fit.shape[0], u_fit), candidate(fit.shape[0], u_fit), np.zeros((m, q))
    if fresh:
        for i in range(m):
            for a in range(q):
                e[i, a] = rng.standard_normal()
    elif not state_coordinates(space, free, beta, Psi, L, w, new):
        return FAILED
    if not draw_parameters(rng, rows, shape, prior, space, free, fresh, now, new, B, e, L, w, tallies):
        return FAILED
    put_theta(now.x, p, free, L)
    fixed_part(rows, now.x, w.eta0)
    draw_effects(rng, rows, shape, now, e, L, w, B, tallies)
    for a in range(p):
        beta[a] = now.x[a]
    lower_product(L, Psi)
    tallies[VISITS] += 1
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
    """One visit of a chain: fit, then draw; all arrays except the prior's are set in place.

    Parameters
    ----------
    rng
        NumPy generator.
    rows, shape
        `GlmmRows`, with columns of X and Z of sd about 1; shape of the family (1.0 where it has none).
    Q0 (p, p), t0 (p,), nu, scale (q,)
        Priors: see kernels/mlmi/target.py.
    fit (p + d,), u_fit (m, q), covariance (p + d, p + d)
        <- mode of the parameters (d = q (q + 1) / 2), modes of effects, covariance about the mode. Not read.
    beta (p,), Psi (q, q), B (m, q)
        The draw.
    tallies (5,) int64
        `TALLIES`; zeros at first, in which case the chain starts from the fit.

    Returns
    -------
    0 or bits of `EVENTS`; `FAILED` if nothing was drawn, see `FAILURES`.
    """
    q = B.shape[1]
    free, fresh = free_elements(q), bool(tallies[0] == 0)
    penalty = Penalty(Q0, t0, np.arange(1.0, q + 1.0), np.diag((WIDE * np.asarray(scale)) ** -2.0))
    code = maximise_laplace(
        rows, shape, penalty, free, False, GAIN, fit, u_fit, covariance, np.empty(len(fit)), np.empty(3),
    )  # fmt: skip
    failed = draw_given_fit(
        rng,
        rows,
        shape,
        MlmiPrior(Q0, t0, nu, scale),
        free,
        fit,
        covariance,
        u_fit,
        fresh,
        beta,
        Psi,
        B,
        tallies,
    )
    if failed < 0:
        return failed
    return FIT if code & NOT_CONVERGED else 0
