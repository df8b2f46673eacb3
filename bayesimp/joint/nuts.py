"""NUTS on the joint normal model, for every prior; its results agree with Gibbs sampling.

The density is that of models/joint_normal.py, computed by kernels alone (joint/density.py) on a working scale
(joint/scale.py); draws are returned in the units of the data. If kernels lack the density of a prior, the PyMC model
itself is sampled, which is slower to start. NUTS gives parameters only; means and sds of the missing values are drawn
exactly for every kept draw afterwards.

Benchmarks' table (15 clusters of 30, r = 2, p = 2, default priors), 2 chains x (500 + 1000), 2 shared cores:

                  ready, nothing cached    ready, second process    evaluation    sampling      ESS of Psi
    this          10 s                     1.6 s (import nutpie)    36 us         1.7 to 1.9 s  1650
    PyMC model    32 to 40 s               2 s and imports          33 us         1.7 s         1550

An evaluation of the likelihood takes 12 us; most of the remaining time is nutpie's.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from bayesimp import priors as pr
from bayesimp.errors import SamplingError
from bayesimp.events import Event
from bayesimp.joint.density import JointDensity
from bayesimp.joint.gibbs import JointDraws
from bayesimp.joint.scale import Working
from bayesimp.kernels.normal.effects import moments
from bayesimp.kernels.normal.imputed import incomplete_cells
from bayesimp.kernels.normal.rows import draw_statistics
from bayesimp.sampling.chains import Report
from bayesimp.sampling.density import Density, NutsDraws, sample_density

__all__ = ["sample_joint_nuts"]

STATISTICS, CONTINUED = 2, 3  # first number of spawn keys; 0 and 1 belong to chains and imputations


def sample_joint_nuts(
    working: Working,
    priors: pr.Priors,
    *,
    imputed_on: Working,
    chains: int,
    tune: int,
    draws: int,
    seed: int,
    earlier: JointDraws | None = None,
    report: Report | None = None,
    workers: int | None = None,
) -> tuple[JointDraws, dict[str, np.ndarray], list[Event]]:
    """Draws in the units and clusters of the table, NUTS's statistics (chains, draws), and events.

    Parameters
    ----------
    working, priors
        Data and priors of the model; priors of Sigma and Psi on the working scale, of beta on the scale of the data (for
        a normal prior of beta, `working` must have a diagonal T).
    imputed_on
        The working data on which missing values are drawn.
    earlier
        The draws so far, in the units of the data, if the run is continued: NUTS warms up again from their mean.

    Raises
    ------
    KeyboardInterrupt
        The run was interrupted before there was a draw to keep. An interrupt after that returns the draws so far, without
        chains that had not begun.
    """
    st, scale, done = working.statistics, working.scale, 0 if earlier is None else earlier.draws
    priors = replace(priors, beta=priors.beta.on_working(scale, st.r))
    settings: dict[str, Any] = {
        "chains": chains, "tune": tune, "draws": draws, "report": report, "all_chains": earlier is not None,
        "seed": (seed if done == 0 else int(_words(seed, CONTINUED, done)[0])) % 2**31,
    }  # fmt: skip
    if JointDensity.takes(priors, st.r, st.q):
        posterior = JointDensity(st, priors)
        centre = posterior.flatten(*_centre(working, earlier))

        def start(seed: int) -> np.ndarray:
            return centre + np.random.default_rng(seed).uniform(-1.0, 1.0, len(centre))

        # the density is called from Python, so chains that take turns are faster than chains that compete for the GIL
        density = Density(posterior.size, posterior, posterior.expand, start)
        result = sample_density(density, cores=workers or 1, **settings)
    else:
        result = _by_pymc(working, priors, workers, settings)
    events = [
        Event(**e) for e in result.events if e["kind"] != "interrupted"
    ]  # the run records interruptions itself
    if done:
        message = f"NUTS was continued with a new warm-up of {tune} draws"
        events.append(Event("warmed up again", "sampler", message))
    beta = scale.beta(result.draws["beta"])
    Sigma = scale.Sigma(result.draws["Sigma"])
    Psi = scale.Psi(result.draws["Psi"])
    mean, sd = _statistics(imputed_on, beta, Sigma, Psi, seed, done)
    return JointDraws(beta, Sigma, Psi, mean, sd), result.stats, events


def _words(*key: int) -> np.ndarray:
    return np.random.SeedSequence(key[0], spawn_key=key[1:]).generate_state(2)


def _by_pymc(working: Working, priors: pr.Priors, workers: int | None, settings: dict[str, Any]) -> NutsDraws:
    """Sample the PyMC model itself, if kernels lack the density of a prior. Chains start at its own support point."""
    from bayesimp.models.joint_normal import joint_normal
    from bayesimp.sampling.nuts import sample_nuts

    st = working.statistics
    for prior, d, where in ((priors.Sigma, st.r, "Sigma"), (priors.Psi, st.r * st.q, "Psi")):
        prior.require_proper(d, where, "NUTS", "Use sampler='gibbs', or a proper prior.")
    return sample_nuts(joint_normal(st, priors), cores=workers, **settings)


def _centre(working: Working, earlier: JointDraws | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The point around which starts are dispersed: least squares and unit variances, or the mean of the draws so far."""
    st, scale = working.statistics, working.scale
    if earlier is None:
        return working.start, np.eye(st.r), 0.2 * np.eye(st.r * st.q)
    beta, Sigma, Psi = (getattr(earlier, name).mean((0, 1)) for name in ("beta", "Sigma", "Psi"))
    return scale.working_beta(beta), scale.working_Sigma(Sigma), scale.working_Psi(Psi)


def _statistics(
    working: Working, beta: np.ndarray, Sigma: np.ndarray, Psi: np.ndarray, seed: int, done: int
) -> tuple[np.ndarray, np.ndarray]:
    """Drawn means and sds of the missing values, (chains, draws, m, r), in the units of the data."""
    st, scale = working.statistics, working.scale
    m, cells = moments(st), incomplete_cells(st)
    theta = scale.working_beta(beta), scale.working_Sigma(Sigma), scale.working_Psi(Psi)
    mean = np.empty((*beta.shape[:2], st.clusters, st.r))
    sd = np.empty_like(mean)
    for chain in range(beta.shape[0]):
        key = np.random.SeedSequence(seed, spawn_key=(STATISTICS, chain, done))
        rng = np.random.Generator(np.random.PCG64(key))
        b, S, P = (np.ascontiguousarray(a[chain]) for a in theta)
        if not draw_statistics(rng, m, cells, scale.offset, b, S, P, mean[chain], sd[chain]):
            raise SamplingError(f"Chain {chain}: a draw of Sigma or Psi is not positive definite.")
    place = np.argsort(working.order)
    return mean[:, :, place] * scale.s, sd[:, :, place] * scale.s
