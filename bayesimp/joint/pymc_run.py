"""Runs of NUTS on a user's own PyMC model (joint/from_pymc.py)."""

from __future__ import annotations

import json
import time
import warnings
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from bayesimp import notation as nt
from bayesimp.contract import TreeRequest
from bayesimp.errors import SamplingError, SpecificationError
from bayesimp.events import Event
from bayesimp.imputation.tree import build_tree
from bayesimp.joint.spaced_run import SpacedRun
from bayesimp.messages import NOTHING_KEPT
from bayesimp.sampling.chains import Report
from bayesimp.table.incomplete import IncompleteData

if TYPE_CHECKING:
    import xarray as xr

    from bayesimp.joint.from_pymc import FromPyMC

__all__ = ["PyMCRun"]

Array = NDArray[np.float64]


@dataclass
class PyMCRun(SpacedRun):
    """The NUTS draws so far; a longer run is repeated from its seed and starts with the same draws."""

    model: FromPyMC
    seed: int
    chains: int
    tune: int
    spacing: int
    target_accept: float
    evaluate: str
    workers: int | None = None
    kept: dict[str, Array] | None = None
    stats: dict[str, Array] | None = None
    notes: tuple[Event, ...] = ()
    events: tuple[Event, ...] = ()
    seconds: float = 0.0

    @property
    def draws(self) -> int:
        """Number of draws kept in each chain."""
        return 0 if self.kept is None else next(iter(self.kept.values())).shape[1]

    @property
    def length(self) -> tuple[int, int]:
        """Number of chains, and of the draws kept so far in each."""
        return self.chains, self.draws

    def sample(self, draws: int, report: Report | None) -> None:
        """Run the chains from their starts, with `tune` warm-up draws and `draws` kept draws.

        Raises
        ------
        SamplingError
            Interrupted before there was a draw to keep.
        """
        from bayesimp.sampling.nuts import sample_nuts

        began = time.perf_counter()
        try:
            result = sample_nuts(
                self.model.model, chains=self.chains, tune=self.tune, draws=draws, seed=self.seed % 2**31, report=report,
                target_accept=self.target_accept, evaluate=self.evaluate, cores=self.workers,
                all_chains=self.kept is not None,
            )  # fmt: skip
        except KeyboardInterrupt:
            if self.kept is None:
                raise SamplingError(NOTHING_KEPT) from None
            self._stopped()
            return
        self.seconds += time.perf_counter() - began
        events = [Event(**e) for e in result.events if e["kind"] != "interrupted"]
        chains, done = result.stats["diverging"].shape
        if done < self.draws:  # an extension interrupted early: the earlier run has more draws
            self._stopped()
            return
        if done < draws or chains < self.chains:
            which = "" if chains == self.chains else f" of {chains} of {self.chains} chains"
            text = f"stopped by the user: {done} of {draws} draws per chain kept{which}"
            events.append(Event("interrupted", "sampler", text))
        self.chains = chains
        self.kept, self.stats, self.events = result.draws, result.stats, (*self.notes, *events)

    def _stopped(self) -> None:
        text = f"stopped by the user during an extension: the earlier {self.draws} draws per chain are kept"
        self.events += (Event("interrupted", "sampler", text),)

    def _advance(self, tune: int, draws: int, report: Report | None) -> None:
        """Further draws: NUTS repeats its chains from their seed, to the new length."""
        self.sample(self.draws + draws, report)

    def _cells(self, m: int) -> dict[str, tuple[NDArray[np.int64], Array]]:
        """Column -> (rows, values (m, cells))."""
        assert self.kept is not None, "the run has started"
        at = self.places(range(m))
        return {each.column: (each.rows, each.of(self.kept[each.variable])[at]) for each in self.model.cells}

    def _attrs(self, m: int) -> dict[str, Any]:
        formula = "; ".join(f"{c.column}: variable {c.variable} of a PyMC model" for c in self.model.cells)
        return {
            "model": "FromPyMC", "formula": formula, "responses": list(self.model.responses),
            "priors_name": "of the PyMC model", "specification": json.dumps(self.model.specification()),
            "sampler": "nuts", "seed": self.seed, "spacing": self.spacing, "m": m, "chains": self.chains,
            "tune": self.tune, "draws": self.draws, "target_accept": self.target_accept, "evaluate": self.evaluate,
            "seconds": round(self.seconds, 4), "bayesimp_version": version("bayesimp"),
            "pymc_version": version("pymc"), "numpy_version": np.__version__,
        }  # fmt: skip

    def _tree(self, cells: dict, attrs: dict) -> xr.DataTree:
        assert self.kept is not None, "the run has started"
        data = self.model.data
        coords: dict[str, list] = {}
        taken = {name for c in self.model.cells for name in (c.variable, f"{c.variable}_unobserved")}
        if taken >= set(self.kept):  # the model has no parameters
            taken = set()
        variables = {}
        for name, array in self.kept.items():
            if name in taken:  # cells are in `imputed` and `imputed_stats`
                continue
            dims, labels = self.model.dims(name, array.shape[2:])
            variables[name] = dims, array
            coords.update(zip(dims, labels, strict=True))
        stats = [_by_cluster(data, c.rows, c.of(self.kept[c.variable])) for c in self.model.cells]
        imputed_stats = {
            name: np.stack([each[place] for each in stats], axis=-1)
            for place, name in enumerate(("mean", "sd"))
        }
        observed = {c.column: data.numeric(c.column) for c in self.model.cells}
        coords[nt.RESPONSE] = list(self.model.responses)
        return build_tree(data, variables, imputed_stats, cells, observed, coords, attrs, self.stats)

    def pointwise(self, what: str, request: TreeRequest) -> xr.Dataset:
        """Log densities that PyMC computes: ``log_likelihood`` of its observed variables, given all free ones, and
        ``log_prior`` of its free variables; those of missing cells belong to neither.

        Raises
        ------
        SpecificationError
            Another quantity; the draws are not kept in files; or the model has terms that are in neither.
        """
        model = self.model.model
        if what not in ("log_likelihood", "log_prior"):
            raise SpecificationError(
                f"{what}: of your own PyMC model only log_likelihood and log_prior are computed, because which of its "
                "variables are effects of clusters, and which observed cells they belong to, only the model says. "
                "pm.sample_posterior_predictive(imp.tree['posterior'], model=model) draws replicates."
            )
        if self.kept is None:
            raise SpecificationError(
                f"{what}: files do not keep the draws of missing cells, given which it is defined. Impute again with the "
                "same seed, which gives the same draws."
            )
        if model.potentials:
            names = ", ".join(repr(v.name) for v in model.potentials)
            raise SpecificationError(
                f"{what}: the potentials of the model ({names}) belong neither to the prior nor to the likelihood. Write "
                "them as distributions."
            )
        import xarray as xr
        from pymc.stats.log_density import compute_log_density

        free = [v.name for v in model.free_RVs]
        drawn = {
            name: (("chain", "draw", *(f"{name}_{axis}" for axis in range(a.ndim - 2))), a)
            for name, a in ((name, request.of(self.kept[name])) for name in free)
        }
        cells = {name for c in self.model.cells for name in (c.variable, f"{c.variable}_unobserved")}
        wanted = [name for name in free if name not in cells] if what == "log_prior" else None
        with warnings.catch_warnings():  # about groups that are not there
            warnings.simplefilter("ignore", UserWarning)
            made = compute_log_density(
                xr.DataTree.from_dict({"posterior": xr.Dataset(drawn)}), var_names=wanted, model=model,
                extend_inferencedata=False, kind="prior" if what == "log_prior" else "likelihood", progressbar=False,
                compile_kwargs={"mode": "FAST_COMPILE"},
            )  # fmt: skip
        assert isinstance(made, xr.Dataset)
        return made

    def state(self) -> xr.Dataset:
        """Nothing except the attributes of the result: the draws can be repeated from the seed."""
        import xarray as xr

        return xr.Dataset(attrs={"run_events": json.dumps([e.as_dict() for e in self.events])})

    @classmethod
    def restore(cls, model: FromPyMC, tree: xr.DataTree, state: xr.Dataset) -> Self:
        """The run restored from a file; its draws are repeated when it is extended."""
        a = tree.attrs
        events = tuple(Event(**e) for e in json.loads(state.attrs["run_events"]))
        return cls(
            model, int(a["seed"]), int(a["chains"]), int(a["tune"]), int(a["spacing"]), float(a["target_accept"]),
            str(a["evaluate"]), events=events,
        )  # fmt: skip


def _by_cluster(data: IncompleteData, rows: NDArray[np.int64], drawn: Array) -> tuple[Array, Array]:
    """Means and sds of missing cells (chain, draw, cells) in each cluster, (chain, draw, cluster)."""
    mean = np.full((*drawn.shape[:2], len(data.clusters)), np.nan)
    sd = mean.copy()
    for cluster in np.unique(data.codes[rows]):
        own = drawn[..., data.codes[rows] == cluster]
        mean[..., cluster], sd[..., cluster] = own.mean(-1), own.std(-1)
    return mean, sd
