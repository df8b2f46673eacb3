"""Imputation by a user's own PyMC model: its missing cells are free variables, so a posterior draw completes the table.

    p(theta, x_mis | x_obs)  ~  p(x_obs, x_mis | theta) p(theta)

NUTS draws (theta, x_mis) together; imputation k is the x_mis of a kept draw. Variables are matched to columns in
joint/pymc_cells.py.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NoReturn, Self

from bayesimp import notation as nt
from bayesimp.arguments import new_seed
from bayesimp.contract import CodeNotInFile, ImputationModel, register
from bayesimp.errors import SpecificationError, must_be
from bayesimp.events import Event
from bayesimp.imputation.result import Imputations
from bayesimp.joint.options import draws_per_imputation
from bayesimp.joint.pymc_cells import CellsOfColumn, cells_of_columns
from bayesimp.joint.pymc_run import PyMCRun
from bayesimp.kinds import checks_arguments
from bayesimp.progress import progress_bar
from bayesimp.sampling.executors import Executor, read_executor
from bayesimp.table.incomplete import IncompleteData

if TYPE_CHECKING:
    import pymc as pm
    import xarray as xr

__all__ = ["FromPyMC"]


@checks_arguments
@register
class FromPyMC(ImputationModel):
    """A user's own PyMC model, whose missing cells are free variables, as an imputation model.

    Parameters
    ----------
    model
        `pymc.Model` of this table, its rows in their order. Missing cells are masked in ``observed=`` (PyMC's automatic
        imputation), or free variables that the user defines. All free variables are continuous.
    data
        The incomplete table.
    columns
        Column -> variable of the model: one of length n, the completed column in the units of the table, or one with
        the missing cells only, in the order of the rows, which leaves no observed values to compare. None: every
        incomplete column for which the model has a variable with its name.

    Raises
    ------
    SpecificationError
        No column matches; a variable is discrete, differs from its column in length or observed values, or
        holds missing cells constant.

    Examples
    --------
    >>> with pm.Model() as model:                                                   # doctest: +SKIP
    ...     mu, sigma = pm.Normal("mu", 0, 10), pm.HalfNormal("sigma", 10)
    ...     pm.Normal("x", mu, sigma, observed=np.ma.masked_invalid(frame["x"]))
    >>> imp = bi.FromPyMC(model, data).impute(m=20, seed=1)                         # doctest: +SKIP
    """

    run_type = PyMCRun
    user_defined = True

    def __init__(
        self, model: pm.Model, data: IncompleteData, columns: Mapping[str, str] | None = None
    ) -> None:
        import pymc as pm

        if not isinstance(model, pm.Model):
            raise SpecificationError(
                f"FromPyMC takes a pymc.Model, got {type(model).__name__}: bi.FromPyMC(model, data), with model made by "
                "'with pm.Model() as model: ...' and data = bi.IncompleteData(table, cluster='...')."
            )
        must_be(data, "IncompleteData", "FromPyMC")
        self.model, self.data, self.priors = model, data, None
        self.cells: tuple[CellsOfColumn, ...] = cells_of_columns(model, data, columns)
        self.events: list[Event] = self._notes() + data.missing_codes(self.responses)

    def _notes(self) -> list[Event]:
        """Events about columns that remain incomplete."""
        missing = {name: int(data.isna().sum()) for name, data in self.data.frame.items()}
        left = [str(name) for name, count in missing.items() if count and name not in self.responses]
        if not left:
            return []
        shown = ", ".join(f"'{name}' ({missing[name]:,} cells)" for name in left)
        text = f"no variable of the PyMC model contains the missing cells of {shown}, which remain incomplete"
        return [Event("not imputed", ", ".join(left), text, len(left))]

    def _said(self) -> str:
        n, m = len(self.data.frame), len(self.data.clusters)
        columns = ", ".join(
            f"{each.column} (variable {each.variable})" if each.variable != each.column else each.column
            for each in self.cells
        )
        notes = [f"  note: {event.message}" for event in self.events]
        return "\n".join([f"FromPyMC: {n:,} rows in {m:,} clusters; imputes {columns}", *notes])

    @property
    def responses(self) -> tuple[str, ...]:
        """The columns that the model imputes."""
        return tuple(each.column for each in self.cells)

    @property
    def parameter_priors(self) -> Mapping[str, Any]:
        """Empty: the priors are part of the PyMC model, not records of `bayesimp.priors`."""
        return {}

    def with_priors(self, priors: Any) -> NoReturn:
        """Refused: the priors of a PyMC model are written in the model.

        Raises
        ------
        SpecificationError
        """
        raise SpecificationError(
            "FromPyMC: the priors are written in the PyMC model. To compare priors, build the model with each and "
            "impute with bi.FromPyMC(model, data) each time."
        )

    def specification(self) -> dict[str, Any]:
        """The variable of each column; the model itself is code and not included."""
        return {"columns": {each.column: each.variable for each in self.cells}}

    @classmethod
    def from_specification(
        cls,
        data: IncompleteData,
        specification: Mapping[str, Any],
        functions: Mapping[str, Callable] | None = None,
    ) -> Self:
        """The model rebuilt; ``functions["model"]`` is the `pymc.Model`.

        Raises
        ------
        CodeNotInFile
            The model is not given.
        """
        model = (functions or {}).get("model")
        if model is None:
            raise CodeNotInFile(
                "The chains of a PyMC model cannot be continued, because files hold no code; the result itself is "
                "complete. To continue, pass the same model: bi.load(path, model=model)."
            )
        return cls(model, data, specification["columns"])  # type: ignore[arg-type]

    @classmethod
    def saved_specification(cls, attrs: Mapping[str, Any], state: xr.Dataset) -> dict[str, Any]:
        """See `specification`."""
        return json.loads(attrs["specification"])

    def dims(self, name: str, shape: tuple[int, ...]) -> tuple[tuple[str, ...], list[list]]:
        """Names of the axes of a variable of the model, and their labels."""
        declared = self.model.named_vars_to_dims.get(name) or (None,) * len(shape)
        dims, labels = [], []
        for axis, (dim, size) in enumerate(zip(declared, shape, strict=True)):
            known = None if dim is None else self.model.coords.get(dim)
            labels.append(list(range(size)) if known is None else list(known))
            own = f"{name}_dim_{axis}" if dim is None else dim
            dims.append(
                f"{own}_" if own in (nt.CLUSTER, nt.RESPONSE) else own
            )  # names of the result's own axes
        return tuple(dims), labels

    def __getstate__(self) -> dict[str, Any]:
        import cloudpickle  # a dependency of PyMC, needed to pickle models

        return self.__dict__ | {"model": cloudpickle.dumps(self.model)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        import cloudpickle

        self.__dict__.update(state | {"model": cloudpickle.loads(state["model"])})

    def impute(
        self,
        m: int = 20,
        *,
        seed: int | None = None,
        chains: int = 4,
        tune: int = 1000,
        draws: int = 1000,
        target_accept: float = 0.9,
        workers: int | None = None,
        executor: str | Executor | None = None,
        progress: bool | None = None,
    ) -> Imputations:
        """Sample the model by NUTS and complete the table with m of the draws.

        Parameters
        ----------
        m
            Number of completed tables, taken from draws evenly spaced over all chains.
        seed
            The same seed and model give the same result, whatever `workers` is. None: drawn and recorded.
        chains, tune, draws
            Number of independent chains; warm-up draws (at least 1) and kept draws per chain.
        target_accept
            Target acceptance of NUTS; values nearer 1 are slower, with fewer divergences.
        workers
            Number of chains run at a time.
        executor
            Not used, as an event reports: NUTS runs its chains itself.
        progress
            Whether to show a progress bar. None: for runs of over a second if the output is a terminal.

        Raises
        ------
        SpecificationError
            m, chains, ... are out of range.
        SamplingError
            The log density is not finite at the start, or the run was interrupted before there was a draw to keep.
            After a later interruption the draws so far are returned, with an event.
        """
        spacing = draws_per_imputation(m, chains, 1, draws, tune)
        if tune < 1:
            raise SpecificationError("tune must be at least 1: NUTS needs a warm-up.")
        if not 0 < target_accept < 1:
            raise SpecificationError(f"target_accept must be between 0 and 1, got {target_accept!r}.")
        read_executor(executor, workers)
        from bayesimp.sampling.nuts import evaluation

        notes: tuple[Event, ...] = ()
        if executor is not None:
            text = f"NUTS runs its chains itself, so executor = {executor!r} was not used"
            notes = (Event("not used", "executor", text),)
        run = PyMCRun(
            self, new_seed() if seed is None else int(seed), chains, tune, spacing, target_accept,
            evaluation("auto", chains * (tune + draws)), workers, notes=notes,
        )  # fmt: skip
        with progress_bar(progress) as report:
            run.sample(draws, report)
            if run.draws < draws or run.chains < chains:  # interrupted: as many imputations as possible
                run.spacing = max(run.draws // -(-m // run.chains), 1)
            return run.imputations(m)
