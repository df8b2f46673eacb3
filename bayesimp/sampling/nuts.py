"""NUTS on any PyMC model with continuous variables, by nutpie.

Three ways of evaluating the log density and its gradient:

    pytensor   PyTensor's compiled function, called from Python. PyTensor caches it on disk: compiled once for
               each model structure, a later process is ready in 2 s. Chains take turns.
    nutpie     compiled by nutpie: 5 to 60 s at every call, not cached; chains run in parallel.
    python     the graph is run node by node: nothing is compiled, an evaluation takes about 10 us per node.

``evaluate="auto"`` uses pytensor as long as taking turns costs less than nutpie's compilation. The rule depends on
the request, never on a clock, so the same seed gives the same draws.

`JointNormal` uses another way (joint/density.py). Timings of its PyMC model sampled from here, 15 clusters of
30, r = 2, p = 3, half-t priors, 2 chains x (1000 + 1000), 2 shared cores:

                 ready, nothing cached    ready, second process    evaluation    sampling
    pytensor     32 to 40 s               2 s                      33 us         1.7 to 2.5 s
    nutpie       not measured             19 s                                   0.5 to 1.3 s
    python       11 to 15 s (kernels)     0.5 s                    155 to 330 us 11 to 19 s
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bayesimp.errors import SamplingError
from bayesimp.sampling.density import Density, NutsDraws, Report, run_nuts

if TYPE_CHECKING:
    import pymc as pm
    from nutpie.sample import CompiledModel

__all__ = ["NutsDraws", "evaluation", "sample_nuts"]

CALL_SECONDS = 4e-5  # one evaluation of the joint normal model through Python, 15 clusters
LEAPFROGS = 8  # steps per draw, typical with an adapted mass matrix (6.4 to 6.6 for that model)
COMPILE_SECONDS = 16.0


def sample_nuts(
    model: pm.Model,
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
    all_chains: bool = False,
) -> NutsDraws:
    """Sample the posterior of a PyMC model.

    Parameters
    ----------
    model
        `pymc.Model` whose free variables are all continuous.
    seed
        The same seed gives the same draws, whatever `cores` is.
    report
        Called as ``report(stage, done, total)``: stage "compiling" with 0 or 1 of 1, then "sampling" with
        iterations summed over all chains, warm-up included.
    initial
        Starting values by variable, on the natural scale; the others start at PyMC's support point. All are perturbed by
        up to 1 on the unconstrained scale, differently in every chain.
    adaptation
        Mass matrix: "low_rank" or "diag". On the joint normal model (15 clusters, r = 2), effective draws of
        Sigma in 2000 draws: 3300 to 3500 against 1850 to 1950; about the same for beta and Psi.
    evaluate
        "pytensor", "nutpie", "python" or "auto"; see the module.
    cores
        Number of chains that run at a time.
    all_chains
        An interrupted run keeps every chain, cut to the length of the shortest.

    Raises
    ------
    SamplingError
        Discrete free variables; no finite log density to start from.
    KeyboardInterrupt
        The run was interrupted before any chain had a draw. Later, the draws so far are returned, with an event.
    """
    if model.discrete_value_vars:
        names = ", ".join(v.name for v in model.discrete_value_vars)
        raise SamplingError(
            f"NUTS needs continuous variables, but {names} are discrete. Sum them out of the model."
        )
    iterations = chains * (tune + draws)
    evaluate = evaluation(evaluate, iterations)
    settings: dict[str, Any] = {"chains": chains, "tune": tune, "draws": draws, "seed": seed}
    settings |= {"target_accept": target_accept, "adaptation": adaptation}
    settings["cores"] = cores or (1 if evaluate != "nutpie" else None)
    kept = [v.name for v in [*model.free_RVs, *model.deterministics]]
    return run_nuts(
        lambda: (_compile(model, initial, evaluate), evaluate), settings, report, kept, all_chains
    )


def evaluation(evaluate: str, iterations: int) -> str:
    """The way in which the density is evaluated; "auto" is resolved from the iterations of all chains."""
    if evaluate not in ("auto", "pytensor", "nutpie", "python"):
        raise ValueError(f"evaluate must be 'auto', 'pytensor', 'nutpie' or 'python', got {evaluate!r}.")
    if evaluate != "auto":
        return evaluate
    return "pytensor" if iterations * LEAPFROGS * CALL_SECONDS < COMPILE_SECONDS else "nutpie"


def _compile(model: pm.Model, initial: dict[str, NDArray] | None, evaluate: str) -> CompiledModel:
    """A model that nutpie can sample."""
    if evaluate != "nutpie":
        return _from_functions(model, initial, _functions(model, evaluate)).compiled()
    import nutpie

    return nutpie.compile_pymc_model(model, initial_points=initial)


@dataclass(frozen=True)
class _Functions:
    density: Callable  # flat unconstrained point -> log density, gradient
    expand: Callable  # flat unconstrained point -> variables
    names: list[str]
    start: dict[str, NDArray]  # a point, unconstrained, in the order of the flat one


def _functions(model: pm.Model, evaluate: str) -> _Functions:
    import pytensor
    from pymc.pytensorf import join_nonshared_inputs

    start = model.initial_point(0)
    names = {v.name for v in [*model.free_RVs, *model.deterministics]}
    variables = [v for v in model.unobserved_value_vars if v.name in names]  # natural scale
    inputs = [model.rvs_to_values[v] for v in model.free_RVs]
    start = {v.name: start[v.name] for v in inputs}
    outputs, point = join_nonshared_inputs(start, [model.logp(), *variables], inputs)
    density, expanded = outputs[0], outputs[1:]
    gradient: Any = pytensor.gradient.grad(density, point)
    mode = "NUMBA" if evaluate == "pytensor" else "FAST_COMPILE"
    options: dict[str, Any] = {"on_unused_input": "ignore", "trust_input": True}
    return _Functions(
        pytensor.function([point], [density, gradient], mode=mode, **options),
        pytensor.function([point], expanded, mode="FAST_COMPILE", **options),  # called once per draw
        [v.name for v in variables],
        start,
    )


def _from_functions(model: pm.Model, initial: dict[str, NDArray] | None, functions: _Functions) -> Density:
    from pymc.initial_point import make_initial_point_fn

    first = make_initial_point_fn(
        model=model, overrides=initial, jitter_rvs=set(model.free_RVs), return_transformed=True
    )
    lock = threading.Lock()  # a PyTensor function works in its own storage, so one call at a time

    def density(x: NDArray) -> tuple[float, NDArray]:
        with lock:
            value, gradient = functions.density(x)
        return float(value), gradient

    def expand(x: NDArray) -> dict[str, NDArray]:
        with lock:
            values = functions.expand(x)
        return {k: np.array(v, dtype=float, order="C") for k, v in zip(functions.names, values, strict=True)}

    def start(seed: int) -> NDArray:
        with lock:
            point = first(seed)
        return np.concatenate([np.ravel(point[k]) for k in functions.start]).astype(float)

    size = sum(np.size(x) for x in functions.start.values())
    return Density(size, density, expand, start)
