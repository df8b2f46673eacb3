"""NUTS on any PyMC model with continuous variables, by nutpie.

Three ways of evaluating the log density and its gradient:

    pytensor   PyTensor's compiled function, called from Python. PyTensor keeps it on disk: compiled once for
               a structure of model, a later process is ready in 2 s. Chains take turns.
    nutpie     compiled by nutpie: 5 to 60 s at every call, nothing is kept; chains run in parallel.
    python     the graph run node by node: nothing is compiled, an evaluation costs about 10 us a node.

``evaluate="auto"`` takes pytensor while taking turns costs less than nutpie's compilation. The rule looks at
what was asked for, never at a clock, so that the same seed gives the same draws.

Joint normal model, 15 clusters of 30, r = 2, p = 3, half-t priors, 2 chains x (1000 + 1000), 2 shared cores:

                 ready, nothing cached    ready, second process    evaluation    sampling
    pytensor     32 to 40 s               2 s                      33 us         1.7 to 2.5 s
    nutpie       not measured             19 s                                   0.5 to 1.3 s
    python       11 to 15 s (kernels)     0.5 s                    155 to 330 us 11 to 19 s
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bayesimp.errors import SamplingError

__all__ = ["NutsDraws", "sample_nuts"]

Report = Callable[[str, int, int], None]

POLL_SECONDS = 0.1
CALL_SECONDS = 4e-5  # an evaluation of the joint normal model through Python, 15 clusters
LEAPFROGS = 8  # steps of a draw, typical with an adapted mass matrix (6.4 to 6.6 for that model)
COMPILE_SECONDS = 16.0
RHAT_LIMIT = 1.01


@dataclass(frozen=True)
class NutsDraws:
    """Draws and how they came about.

    Attributes
    ----------
    draws
        Name -> (chains, draws, ...): free variables on their natural scale, and deterministics.
    stats
        Name -> (chains, draws): diverging, depth, n_steps, step_size, logp, energy, ... of nutpie.
    events
        What to know before using them: dicts with kind, where, message, count.
    seconds
        Wall time of "compile" and "sample".
    evaluate, adaptation
        What was used.
    interrupted
        Stopped before all draws were there; all chains are cut to the same length.
    """

    draws: dict[str, NDArray]
    stats: dict[str, NDArray]
    events: list[dict]
    seconds: dict[str, float]
    evaluate: str
    adaptation: str
    interrupted: bool = False


def sample_nuts(
    model,
    *,
    chains: int = 4,
    tune: int = 1000,
    draws: int = 1000,
    seed: int,
    report: Report | None = None,
    initial: dict[str, NDArray] | None = None,
    target_accept: float = 0.8,
    adaptation: str = "low_rank",
    evaluate: str = "auto",
    cores: int | None = None,
) -> NutsDraws:
    """Sample the posterior of a PyMC model.

    Parameters
    ----------
    model
        `pymc.Model` whose free variables are all continuous.
    seed
        Same seed, same draws, whatever `cores`.
    report
        Called as ``report(stage, done, total)``: stage "compiling" with 0 or 1 of 1, then "sampling" with
        iterations over all chains, warm-up included.
    initial
        Starting values by variable, natural scale; the others start at PyMC's support point. All are moved by
        up to 1 on the unconstrained scale, differently in every chain.
    adaptation
        Mass matrix: "low_rank" or "diag". On the joint normal model (15 clusters, r = 2) effective draws of
        Sigma in 2000: 3300 to 3500 against 1850 to 1950; of beta and Psi alike.
    evaluate
        "pytensor", "nutpie", "python" or "auto"; see the module.
    cores
        Chains at a time.

    Raises
    ------
    SamplingError
        Discrete free variables; no finite log density to start from.
    KeyboardInterrupt
        Interrupted before every chain had a draw; later the draws there are come back, with an event.
    """
    if model.discrete_value_vars:
        names = ", ".join(v.name for v in model.discrete_value_vars)
        raise SamplingError(f"NUTS needs continuous variables; discrete: {names}. Sum them out of the model.")
    tell = report or (lambda stage, done, total: None)
    tell("compiling", 0, 1)
    began = time.perf_counter()
    iterations = chains * (tune + draws)
    compiled, evaluate = _compile(model, initial, evaluate, iterations)
    compile_seconds = time.perf_counter() - began
    tell("compiling", 1, 1)
    began = time.perf_counter()
    settings = {"draws": draws, "tune": tune, "chains": chains, "seed": seed, "adaptation": adaptation}
    settings |= {
        "target_accept": target_accept,
        "cores": cores or (1 if evaluate != "nutpie" else min(chains, os.cpu_count() or 1)),
    }
    tree, interrupted = _run(compiled, settings, tell, iterations)
    seconds = {"compile": compile_seconds, "sample": time.perf_counter() - began}
    kept, stats = _arrays(tree, model)
    if interrupted and not stats["diverging"].shape[1]:
        raise KeyboardInterrupt
    events = _events(kept, stats, interrupted, draws)
    return NutsDraws(kept, stats, events, seconds, evaluate, adaptation, interrupted)


def _compile(model, initial, evaluate: str, iterations: int):
    """Model that nutpie can sample, and the way its density is evaluated."""
    if evaluate not in ("auto", "pytensor", "nutpie", "python"):
        raise ValueError(f"evaluate must be 'auto', 'pytensor', 'nutpie' or 'python', got {evaluate!r}.")
    if evaluate == "auto":
        turns = iterations * LEAPFROGS * CALL_SECONDS
        evaluate = "pytensor" if turns < COMPILE_SECONDS else "nutpie"
    if evaluate != "nutpie":
        return _from_functions(model, initial, _functions(model, evaluate)), evaluate
    import nutpie

    return nutpie.compile_pymc_model(model, initial_points=initial), "nutpie"


@dataclass(frozen=True)
class _Functions:
    density: Callable  # flat unconstrained point -> log density, gradient
    expand: Callable  # flat unconstrained point -> variables
    names: list[str]
    start: dict[str, NDArray]  # a point, unconstrained, in the order of the flat one


def _functions(model, evaluate: str) -> _Functions:
    import pytensor
    from pymc.pytensorf import join_nonshared_inputs

    start = model.initial_point(0)
    names = {v.name for v in [*model.free_RVs, *model.deterministics]}
    variables = [v for v in model.unobserved_value_vars if v.name in names]  # natural scale
    inputs = [model.rvs_to_values[v] for v in model.free_RVs]
    start = {v.name: start[v.name] for v in inputs}
    outputs, point = join_nonshared_inputs(start, [model.logp(), *variables], inputs)
    density, expanded = outputs[0], outputs[1:]
    gradient = pytensor.gradient.grad(density, point)
    mode = "NUMBA" if evaluate == "pytensor" else "FAST_COMPILE"
    options = {"on_unused_input": "ignore", "trust_input": True}
    return _Functions(
        pytensor.function([point], [density, gradient], mode=mode, **options),
        pytensor.function([point], expanded, mode="FAST_COMPILE", **options),  # once a draw
        [v.name for v in variables],
        start,
    )


def _from_functions(model, initial, functions: _Functions):
    from nutpie.compiled_pyfunc import from_pyfunc
    from pymc.initial_point import make_initial_point_fn

    first = make_initial_point_fn(
        model=model, overrides=initial, jitter_rvs=set(model.free_RVs), return_transformed=True
    )
    lock = threading.Lock()  # a PyTensor function works in storage of its own, one call at a time

    def density(x):
        with lock:
            value, gradient = functions.density(x)
        return float(value), gradient

    def expand(x):
        with lock:
            values = functions.expand(x)
        return {k: np.array(v, dtype=float, order="C") for k, v in zip(functions.names, values, strict=True)}

    def start(seed):
        with lock:
            point = first(seed)
        return np.concatenate([np.ravel(point[k]) for k in functions.start]).astype(float)

    flat = np.concatenate([np.ravel(x) for x in functions.start.values()]).astype(float)
    density(flat)  # compiled by the first call
    shapes = [x.shape for x in expand(flat).values()]
    return from_pyfunc(
        len(flat),
        lambda: density,
        lambda seed1, seed2, chain: expand,
        [np.dtype(float)] * len(shapes),
        shapes,
        functions.names,
        make_initial_point_fn=start,
    )


def _run(compiled, settings: dict, tell: Report, iterations: int):
    """Sample in the background, telling how far it is; what there is, if interrupted."""
    import nutpie

    done = 0

    def count(progress):
        nonlocal done
        done = sum(chain.finished_draws for chain in progress)

    rate = int(1000 * POLL_SECONDS)
    options = {"progress_bar": False, "progress_callback": count, "progress_rate": rate, "save_warmup": False}
    handle = nutpie.sample(compiled, blocking=False, **options, **settings)
    try:
        while not _finished(handle):
            tell("sampling", done, iterations)
            time.sleep(POLL_SECONDS)
        tree = handle.wait()
    except KeyboardInterrupt:
        return handle.abort(), True
    except RuntimeError as error:
        raise SamplingError(f"nutpie stopped: {error}") from error
    tell("sampling", iterations, iterations)
    return tree, False


def _finished(handle) -> bool:
    try:
        return handle.is_finished
    except TimeoutError:  # the sampler is busy with a draw, which is not an error
        return False


def _arrays(tree, model):
    """Natural-scale variables and statistics, chains cut to the shortest."""
    wanted = [v.name for v in [*model.free_RVs, *model.deterministics]]
    posterior, stats = tree["posterior"].to_dataset(), tree["sample_stats"].to_dataset()
    finished = np.isfinite(np.asarray(stats["logp"].values, dtype=float))
    keep = int(finished.sum(axis=1).min())
    kept = {name: posterior[name].values[:, :keep] for name in wanted}
    scalars = {name: x.values[:, :keep] for name, x in stats.items() if x.dims == ("chain", "draw")}
    return kept, scalars


def _events(kept, stats, interrupted: bool, asked: int) -> list[dict]:
    from arviz_stats.base import array_stats

    chains, draws = stats["diverging"].shape
    events = []
    if interrupted:
        message = f"Interrupted: {draws} of {asked} draws a chain were kept."
        events.append({"kind": "interrupted", "where": "sampling", "message": message, "count": draws})
    diverging = int(np.sum(stats["diverging"].astype(bool)))
    if diverging:
        message = (
            f"{diverging} of {chains * draws} draws are divergent: part of the posterior may not have been "
            "reached. Raise target_accept, or take a prior with more information."
        )
        events.append({"kind": "divergence", "where": "sampling", "message": message, "count": diverging})
    for name, x in kept.items() if chains > 1 and draws > 3 else ():
        flat = x.reshape(chains, draws, -1)
        moving = flat[:, :, np.ptp(flat, axis=(0, 1)) > 0]
        rhat = array_stats.rhat(moving, chain_axis=0, draw_axis=1) if moving.size else np.zeros(0)
        bad = int((rhat > RHAT_LIMIT).sum())
        if bad:
            message = f"R-hat of {name} up to {np.max(rhat):.3f}: chains disagree, draw more."
            events.append({"kind": "rhat", "where": name, "message": message, "count": bad})
    return events
