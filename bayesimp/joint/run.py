"""A run of a joint model that can be continued, from its chains to `Imputations`."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import NDArray

from bayesimp import contract
from bayesimp.errors import SamplingError
from bayesimp.events import Event
from bayesimp.imputation.result import Imputations
from bayesimp.imputation.tree import build_tree
from bayesimp.joint import gibbs as joint_gibbs
from bayesimp.joint.reference import reference_means
from bayesimp.joint.rows import impute_rows
from bayesimp.joint.spaced_run import SpacedRun
from bayesimp.joint.storage import chain_states, draws_of, joint_state
from bayesimp.kernels.normal.effects import moments
from bayesimp.messages import NOTHING_KEPT
from bayesimp.priors.records import priors_to_dict
from bayesimp.progress import progress_bar
from bayesimp.sampling.chains import imputation_rng
from bayesimp.sampling.executors import Executor, read_executor, run_task

if TYPE_CHECKING:
    import xarray as xr

    from bayesimp.joint.normal import JointNormal
    from bayesimp.table.new_rows import NewRows

__all__ = ["JointRun", "run_chain"]


@dataclass
class JointRun(SpacedRun):
    """A run that can be continued: the states of its chains, and the draws so far in the units of the data."""

    model: JointNormal
    likelihood_by_cluster = True
    sampler: str
    seed: int
    thin: int
    spacing: int
    workers: int | None = None
    executor: str | Executor | None = None
    kept: joint_gibbs.JointDraws | None = None
    states: list[joint_gibbs.NormalChainState] = field(default_factory=list)
    sample_stats: dict | None = None
    events: tuple[Event, ...] = ()
    seconds: float = 0.0

    @property
    def draws(self) -> joint_gibbs.JointDraws:
        """The draws so far; the run must have started."""
        assert self.kept is not None
        return self.kept

    @property
    def length(self) -> tuple[int, int]:
        """Number of chains, and of the draws kept so far in each."""
        return self.draws.chains, self.draws.draws

    def impute(self, m: int, chains: int, tune: int, draws: int, progress: bool | None) -> Imputations:
        """Start the run and impute."""
        with progress_bar(progress) as report:
            self.start(chains, tune, draws, report)
            kept = self.draws
            if kept.chains * kept.draws < chains * draws:  # interrupted: as many as the draws so far allow
                self.spacing = max(kept.draws // -(-m // kept.chains), 1)
            return self.imputations(m)

    def start(self, chains: int, tune: int, draws: int, report: Callable | None) -> None:
        """Start the chains, tune them, and keep the first draws."""
        factor = self.model.grouping.only
        st = factor.working.statistics
        self.states = [
            joint_gibbs.initial_state(self.seed, c, factor.working_priors, st.r, st.q) for c in range(chains)
        ]
        self.events = tuple(self.model.events)
        self._advance(tune, draws, report)

    def _advance(self, tune: int, draws: int, report: Callable | None) -> None:
        """Make further draws; an interrupted run keeps the draws so far.

        Raises
        ------
        SamplingError
            There are no draws at all.
        """
        began, chains = time.perf_counter(), len(self.states)
        sample = self._gibbs if self.sampler == "gibbs" else self._nuts
        new: joint_gibbs.JointDraws | None = None
        try:
            new = sample(tune, draws, report)
        except KeyboardInterrupt:
            pass  # and no new draws
        self.seconds += time.perf_counter() - began
        kept = 0 if new is None else new.draws
        if new is not None and kept:
            self.kept = new if self.kept is None else self.kept + new
        if self.kept is None:
            raise SamplingError(NOTHING_KEPT)
        if kept < draws or self.draws.chains < chains:
            which = "" if self.draws.chains == chains else f" of {self.draws.chains} of {chains} chains"
            text = f"stopped by the user: {kept} of {draws} draws per chain kept{which}"
            self.events += (Event("interrupted", "sampler", text),)
        self.states = self.states[: self.draws.chains]

    def _gibbs(self, tune: int, draws: int, report: Callable | None) -> joint_gibbs.JointDraws:
        states, factor = [replace_state(state) for state in self.states], self.model.grouping.only
        executor = read_executor(self.executor, self.workers)
        new = joint_gibbs.sample_gibbs(
            factor.working, factor.working_priors, states,
            tune=tune, draws=draws, thin=self.thin, executor=executor, report=report,
        ).on_data_scale(factor.working)  # fmt: skip
        self.events += executor.new_events()
        if new.draws:  # otherwise the chains are at different iterations
            self.states = states
        return new

    def _nuts(self, tune: int, draws: int, report: Callable | None) -> joint_gibbs.JointDraws:
        from bayesimp.joint.nuts import sample_joint_nuts

        if self.kept is None and self.thin > 1:
            text = f"NUTS keeps every draw, so thin = {self.thin} was not used"
            self.events += (Event("not used", "thin", text),)
        if self.kept is None and tune == 0:
            text = "NUTS needs a warm-up: 500 draws were used"
            self.events += (Event("not used", "tune", text),)
        if self.kept is None and self.executor is not None:
            text = f"NUTS runs its chains itself, so executor = {self.executor!r} was not used"
            self.events += (Event("not used", "executor", text),)
        tune, factor = tune or 500, self.model.grouping.only
        flat = factor.resolved.beta.is_flat
        new, stats, events = sample_joint_nuts(
            factor.working if flat else factor.diagonal(), factor.working_priors,
            imputed_on=factor.working, chains=len(self.states), tune=tune, draws=draws, seed=self.seed,
            earlier=self.kept, report=report, workers=self.workers,
        )  # fmt: skip
        before = self.sample_stats
        self.sample_stats = (
            stats if before is None else {k: np.concatenate([before[k], stats[k]], axis=1) for k in before}
        )
        self.events += tuple(events)
        return new

    def _log(self) -> tuple[Event, ...]:
        """Events of the chains, which begin with those of the model."""
        return self.events

    def _cells(self, m: int) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """Response -> (rows, values (m, cells)), rows in the order of the table."""
        values = self._values(range(m))
        row = self.model.grouping.only.working.rows.row
        by_row = np.argsort(row)
        cells = {}
        for k, name in enumerate(self.model.responses):
            order = by_row[self.model.data.missing(name)[row[by_row]]]
            if len(order):
                cells[name] = row[order], values[:, order, k]
        return cells

    def _tree(self, cells: dict, attrs: dict) -> xr.DataTree:
        model, d = self.model, self.draws
        return build_tree(
            model.data,
            posterior={
                "beta": (("fixed", "response"), d.beta),
                "Sigma": (("response", "response_2"), d.Sigma),
                "Psi": (("effect", "effect_2"), d.Psi),
            },
            imputed_stats={"mean": d.mean + model.mean_shift if model.shift else d.mean, "sd": d.sd},
            imputed=cells,
            observed={name: model.data.numeric(name) for name in model.responses},
            coords=model.grouping.coords(),
            attrs=attrs,
            sample_stats=self.sample_stats,
        )

    def _attrs(self, m: int) -> dict:
        model = self.model
        return {
            "model": "JointNormal", "formula": str(model.formula), "responses": list(model.responses),
            "priors_name": model.priors.name, "priors": json.dumps(priors_to_dict(model.priors)),
            "sampler": self.sampler, "seed": self.seed, "thin": self.thin, "spacing": self.spacing, "m": m,
            "chains": self.draws.chains, "draws": self.draws.draws,
            "seconds": round(self.seconds, 4), "bayesimp_version": version("bayesimp"),
            "numpy_version": np.__version__,
        }  # fmt: skip

    def _values(self, numbers: range) -> np.ndarray:
        """(len(numbers), R, r) values of the incomplete rows."""
        working = self.model.grouping.only.working
        rngs = [imputation_rng(self.seed, number) for number in numbers]
        values = impute_rows(rngs, working, moments(working.statistics), *self.parameters(numbers))
        if self.model.shift:
            values += self.model.shift_of(self.model.data)[working.rows.row]
        if self.model.reference is not None:
            at, columns = self.places(numbers), {name: (k,) for k, name in enumerate(self.model.responses)}
            means = reference_means(self.model, working.rows.row, columns)
            values = values + means.moves(self.draws.beta[at], self.draws.Sigma[at])
        return values

    def parameters(self, numbers: range) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """beta (M, p, r), Sigma (M, r, r) and Psi (M, rq, rq) from which imputations are made, on the working scale."""
        d, scale, at = self.draws, self.model.grouping.only.working.scale, self.places(numbers)
        # computed from the stored draws in the units of the data, so that a loaded run gives the same values
        return (
            scale.working_beta(d.beta[at]), scale.working_Sigma(d.Sigma[at]), scale.working_Psi(d.Psi[at]),
        )  # fmt: skip

    def transform(
        self, new: NewRows, m: int, seed: int
    ) -> dict[str, tuple[NDArray[np.int64], NDArray[np.float64]]]:
        """The missing values of new rows, by exact draws (joint/new_rows.py)."""
        from bayesimp.joint.new_rows import complete_new_rows

        return complete_new_rows(self, new, m, seed)

    def pointwise(self, what: str, request: contract.TreeRequest) -> xr.Dataset:
        """Log likelihood, log prior, replicates or cluster effects (joint/pointwise.py)."""
        from bayesimp.joint.pointwise import pointwise

        return pointwise(self, what, request)

    def state(self) -> xr.Dataset:
        """The states of the chains (joint/storage.py)."""
        return joint_state(self)

    @classmethod
    def restore(cls, model: JointNormal, tree: xr.DataTree, state: xr.Dataset) -> Self:
        """The run that a file holds, with its chains and draws."""
        attrs = tree.attrs
        stats = tree["sample_stats"].data_vars.items() if "sample_stats" in tree.children else ()
        seed, thin, spacing = (int(attrs[name]) for name in ("seed", "thin", "spacing"))
        return cls(
            model, attrs["sampler"], seed, thin, spacing, kept=draws_of(tree, model.mean_shift),
            states=chain_states(state),
            sample_stats={str(name): v.values for name, v in stats} or None,
            events=tuple(Event(**e) for e in json.loads(state.attrs["run_events"])), seconds=float(attrs["seconds"]),
        )  # fmt: skip

    def shifted(self, model: JointNormal, m: int) -> Imputations:
        """Imputations from the same draws of the parameters, which do not depend on the shift of `model`."""
        return replace(self, model=model).imputations(m)


def run_chain(
    model: JointNormal, seed: int, k: int, n: int, *, tune: int = 200
) -> tuple[joint_gibbs.NormalChainState, joint_gibbs.JointDraws]:
    """Chain k of a Gibbs run from its start: its state after n draws, and the draws, on the working scale.

    This is one task for a scheduler (Dask, Ray, a study): arguments and results can be pickled.
    """
    factor = model.grouping.only
    st = factor.working.statistics
    chain = joint_gibbs.initial_state(seed, k, factor.working_priors, st.r, st.q)
    task = joint_gibbs.GibbsTask(factor.working, factor.working_priors)
    run_task(task, chain, k, tune, keep=False)
    return run_task(task, chain, k, n)


def replace_state(state: joint_gibbs.NormalChainState) -> joint_gibbs.NormalChainState:
    """A copy of a state, so that the extended result does not change and can be extended again."""
    rng = np.random.Generator(np.random.PCG64())
    rng.bit_generator.state = state.rng.bit_generator.state
    return joint_gibbs.NormalChainState(state.Sigma.copy(), state.Psi.copy(), rng)
