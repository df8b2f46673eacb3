"""NUTS by nutpie on a log density given as a function: running, interruption, events."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bayesimp.errors import SamplingError

if TYPE_CHECKING:
    import xarray as xr
    from nutpie.compiled_pyfunc import PyFuncModel
    from nutpie.sample import CompiledModel

__all__ = ["Density", "NutsDraws", "Report", "run_nuts", "sample_density"]

Report = Callable[[str, int, int], None]

POLL_SECONDS = 0.1
RHAT_LIMIT = 1.01


@dataclass(frozen=True)
class Density:
    """A log density on R^n, as functions of points (n,) that may be called from several threads at once.

    Attributes
    ----------
    size
        n.
    value
        theta -> log density (-inf outside the support), gradient (n,).
    expand
        theta -> name -> array: the variables kept from a draw.
    start
        seed -> starting point theta of the chain to which nutpie gave this seed.
    """

    size: int
    value: Callable[[NDArray], tuple[float, NDArray]]
    expand: Callable[[NDArray], dict[str, NDArray]]
    start: Callable[[int], NDArray]

    def compiled(self) -> PyFuncModel:
        """The density as a nutpie model. The first call, which may compile, is made here."""
        from nutpie.compiled_pyfunc import from_pyfunc

        theta = self.start(0)
        self.value(theta)
        example = self.expand(theta)
        return from_pyfunc(
            self.size,
            lambda: self.value,
            lambda seed1, seed2, chain: self.expand,
            [np.dtype(float)] * len(example),
            [x.shape for x in example.values()],
            list(example),
            make_initial_point_fn=self.start,
        )


@dataclass(frozen=True)
class NutsDraws:
    """Draws, and a record of how they were made.

    Attributes
    ----------
    draws
        Name -> (chains, draws, ...): free variables on their natural scale, and deterministics.
    stats
        Name -> (chains, draws): diverging, depth, n_steps, step_size, logp, energy, ... of nutpie.
    events
        Events to read before using the draws: dicts with kind, where, message, count.
    seconds
        Wall time of "compile" and "sample".
    evaluate, adaptation
        The settings that were used.
    interrupted
        Whether the run was stopped early; the chains that are kept are cut to the same length.
    """

    draws: dict[str, NDArray]
    stats: dict[str, NDArray]
    events: list[dict]
    seconds: dict[str, float]
    evaluate: str
    adaptation: str
    interrupted: bool = False


def sample_density(
    density: Density,
    *,
    chains: int,
    tune: int,
    draws: int,
    seed: int,
    report: Report | None = None,
    target_accept: float = 0.8,
    adaptation: str = "low_rank",
    cores: int | None = None,
    all_chains: bool = False,
) -> NutsDraws:
    """Sample a density; parameters, result and failures as in `bayesimp.sampling.nuts.sample_nuts`.

    all_chains: an interrupted run keeps every chain, cut to the length of the shortest (see `_kept`).
    """
    settings: dict[str, Any] = {"chains": chains, "tune": tune, "draws": draws, "seed": seed}
    settings |= {"target_accept": target_accept, "adaptation": adaptation, "cores": cores}
    return run_nuts(lambda: (density.compiled(), "kernels"), settings, report, all_chains=all_chains)


def run_nuts(
    compile: Callable,
    settings: dict,
    report: Report | None,
    names: list[str] | None = None,
    all_chains: bool = False,
) -> NutsDraws:
    """Sample what `compile` returns.

    Parameters
    ----------
    compile
        () -> nutpie model, and the way in which it is evaluated.
    settings
        Options of nutpie: chains, tune, draws, seed, target_accept, adaptation, cores (None: all available).
    names
        Variables to keep; all by default.
    """
    tell = report or (lambda stage, done, total: None)
    tell("compiling", 0, 1)
    began = time.perf_counter()
    compiled, evaluate = compile()
    compile_seconds = time.perf_counter() - began
    tell("compiling", 1, 1)
    began = time.perf_counter()
    chains, draws = settings["chains"], settings["draws"]
    cores = settings["cores"] or min(chains, os.cpu_count() or 1)
    tree, interrupted = _run(compiled, settings | {"cores": cores}, tell, chains * (settings["tune"] + draws))
    seconds = {"compile": compile_seconds, "sample": time.perf_counter() - began}
    kept, stats = _arrays(tree, names, all_chains)
    if interrupted and not stats["diverging"].shape[1]:
        raise KeyboardInterrupt
    events = _events(kept, stats, interrupted, draws)
    return NutsDraws(kept, stats, events, seconds, evaluate, settings["adaptation"], interrupted)


def _run(compiled: CompiledModel, settings: dict, tell: Report, iterations: int) -> tuple[xr.DataTree, bool]:
    """Sample in the background and report progress; if interrupted, return the draws so far."""
    import nutpie

    done = 0

    def count(progress: Iterable[Any]) -> None:
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


def _finished(handle: Any) -> bool:
    try:
        return handle.is_finished
    except TimeoutError:  # the sampler is still working on a draw, which is not an error
        return False


def _arrays(
    tree: xr.DataTree, names: Sequence[str] | None, all_chains: bool
) -> tuple[dict[str, NDArray], dict[str, NDArray]]:
    """Natural-scale variables and statistics, chains of the same length."""
    posterior, stats = tree["posterior"].to_dataset(), tree["sample_stats"].to_dataset()
    finished = np.isfinite(np.asarray(stats["logp"].values, dtype=float))
    chains, keep = _kept(finished.sum(axis=1), all_chains)
    kept = {str(name): posterior[name].values[chains, :keep] for name in names or posterior.data_vars}
    scalars = {str(name): x.values[chains, :keep] for name, x in stats.items() if x.dims == ("chain", "draw")}
    return kept, scalars


def _kept(finished: NDArray, all_chains: bool) -> tuple[NDArray, int]:
    """Number of chains, and of draws per chain, to keep: the choice with most draws in total; if tied, with more chains.

    Chains that take turns finish one after the other, so the last chains of an interrupted run have no draws.
    """
    if all_chains:
        return np.arange(len(finished)), int(finished.min())
    longest = np.argsort(-finished, kind="stable")
    total = finished[longest] * np.arange(1, len(finished) + 1)
    count = len(total) - int(np.argmax(total[::-1]))
    chains = np.sort(longest[:count])
    return chains, int(finished[chains].min())


def _events(
    kept: Mapping[str, NDArray], stats: Mapping[str, NDArray], interrupted: bool, asked: int
) -> list[dict]:
    from arviz_stats.base import array_stats

    chains, draws = stats["diverging"].shape
    events = []
    if interrupted:
        message = f"Interrupted: {draws} of {asked} draws per chain were kept, for {chains} chains."
        events.append({"kind": "interrupted", "where": "sampling", "message": message, "count": draws})
    diverging = int(np.sum(stats["diverging"].astype(bool)))
    if diverging:
        message = (
            f"{diverging} of {chains * draws} draws are divergent: part of the posterior may not have been "
            "reached. Raise target_accept, or use a more informative prior."
        )
        events.append({"kind": "divergence", "where": "sampling", "message": message, "count": diverging})
    for name, x in kept.items() if chains > 1 and draws > 3 else ():
        flat = x.reshape(chains, draws, -1)
        moving = flat[:, :, np.ptp(flat, axis=(0, 1)) > 0]
        rhat = array_stats.rhat(moving, chain_axis=0, draw_axis=1) if moving.size else np.zeros(0)
        bad = int((rhat > RHAT_LIMIT).sum())
        if bad:
            message = f"R-hat of {name} up to {np.max(rhat):.3f}: the chains disagree; draw more."
            events.append({"kind": "rhat", "where": name, "message": message, "count": bad})
    return events
