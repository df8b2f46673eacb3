"""`PartitionedFCS`: chained equations of binary and count variables of a table that is read part by part."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from bayesimp import priors as pr
from bayesimp.arguments import new_seed, whole
from bayesimp.errors import SamplingError, SpecificationError, must_be
from bayesimp.events import Event
from bayesimp.fcs.loop import run_cycles
from bayesimp.fcs.model import FCS
from bayesimp.fcs.options import length_of_run
from bayesimp.fcs.specification.records import ConditionalModel, text
from bayesimp.fcs.table import ChainedTable, chained_table
from bayesimp.formulas.arithmetic import OverCluster
from bayesimp.formulas.terms import CLUSTER, STATEFUL
from bayesimp.kinds import checks_arguments
from bayesimp.layout import Printed
from bayesimp.messages import NOTHING_KEPT, listing, suggestion
from bayesimp.methods import Bayes
from bayesimp.partitioned.blocks import CountTable, count_table
from bayesimp.partitioned.cells import FAMILIES
from bayesimp.partitioned.chains import CountCycles
from bayesimp.partitioned.distinct import DistinctRows, distinct_rows
from bayesimp.partitioned.parts import INSTEAD
from bayesimp.progress import progress_bar
from bayesimp.sampling.executors import Executor, read_executor
from bayesimp.table.incomplete import IncompleteData
from bayesimp.table.partitions import PartitionedData

if TYPE_CHECKING:
    from bayesimp.partitioned.fcs_result import PartitionedFCSImputations

__all__ = ["PartitionedFCS"]


@checks_arguments
class PartitionedFCS(Printed):
    """Chained equations of binary and count variables of a table in partitions, which need not fit into memory.

    The rows are read once, when the model is made: what remains are the distinct rows and how often each occurs.
    Sampling runs on these counts, and imputed values have the distribution of `bayesimp.FCS` with method ``"bayes"`` and
    the same formulas.

    Parameters
    ----------
    data
        The table.
    variables
        The columns that are used, apart from that of the clusters; None: all.
    predictors
        A formula for each incomplete variable, or one text for all, as for `bayesimp.FCS`. None: all other variables,
        with random intercepts.
    families
        Family by variable, as for `bayesimp.IncompleteData`: counts must be declared ``"poisson"``.
    priors
        Priors of every conditional model, as for `bayesimp.methods.Bayes`.
    link
        Link of binary variables: ``"logit"`` or ``"probit"``.

    Attributes
    ----------
    distinct
        What the pass over the rows has left.
    counts
        The sampler's input.
    events
        What a reader of the result must know.

    Raises
    ------
    DataError, SpecificationError
        The table cannot be read, has too many distinct rows or does not identify a model; an incomplete variable is
        neither binary nor a count.

    Notes
    -----
    Memory and time depend on the number of distinct rows (with their missing cells), at most a million, and not on that
    of rows. Predictors are complete variables with few values and the incomplete ones. Normal, ordinal, nominal and
    negative binomial variables, cluster means, functions of several rows (`scale`, splines) and several grouping factors
    are refused. By default no cluster means are added (`bayesimp.FCS` with ``compatible=False``).

    Examples
    --------
    >>> table = bi.IncompleteData.from_parquet("patients/", cluster="ward")        # doctest: +SKIP
    >>> model = bi.PartitionedFCS(table, ["sex", "smoker", "falls"], families={"falls": "poisson"})   # doctest: +SKIP
    >>> model.impute(m=20, seed=1).export("completed")                             # doctest: +SKIP
    """

    INSTEAD = INSTEAD

    def __init__(
        self,
        data: PartitionedData,
        variables: Sequence[str] | None = None,
        predictors: Mapping[str, str] | str | None = None,
        *,
        families: Mapping[str, str] | None = None,
        priors: pr.Priors | str | None = None,
        link: str = "logit",
    ) -> None:
        must_be(data, "PartitionedData", "PartitionedFCS")
        self.data = data
        names = _names(data, variables)
        _check_formulas(predictors)
        self.distinct: DistinctRows = distinct_rows(data, names)
        self.table = IncompleteData(self.distinct.frame(), data.cluster, families)
        _check_families(self.table)
        model = FCS(self.table, Bayes(priors, compatible=False, link=link), predictors)  # type: ignore[arg-type]
        for block in model.spec.blocks:
            _check_block(block)
        if any(isinstance(each.evaluate, OverCluster) for each in model.spec.derived):
            raise SpecificationError(_SEVERAL_ROWS.format("Derived columns"))
        self.model, spec = model, model.spec
        Y = np.column_stack([self.table.column_values(name) for name in spec.incomplete])
        frequency = self.distinct.frequency
        chained = chained_table(spec, Y, self.table.grouping, frequency=frequency)
        self.counts: CountTable = count_table(chained, _positions(chained, Y), frequency)
        self.events: tuple[Event, ...] = (
            *_distinct(self.distinct, model.events), *model.events, *_types(data, spec.incomplete)
        )  # fmt: skip

    @property
    def responses(self) -> tuple[str, ...]:
        """The variables that are imputed."""
        return tuple(self.model.spec.incomplete)

    def impute(
        self,
        m: int = 20,
        *,
        cycles: int | None = None,
        tune: int | None = None,
        seed: int | None = None,
        workers: int | None = None,
        executor: str | Executor | None = None,
        progress: bool | None = None,
    ) -> PartitionedFCSImputations:
        """Run m chains on the counts. No rows are read: `export` and `frames` of the result complete them.

        Parameters
        ----------
        m, cycles, tune, seed, workers, executor, progress
            As for `bayesimp.FCS.impute`.

        Raises
        ------
        SpecificationError
            m, cycles or another option is out of range.
        SamplingError
            A conditional model cannot continue, or the run was interrupted before its first cycle.
        """
        from bayesimp.partitioned.fcs_result import PartitionedFCSImputations

        m, cycles, tune = length_of_run(m, cycles, tune)
        seed = new_seed() if seed is None else whole(seed, "seed", 0)
        where, task = read_executor(executor, workers), CountCycles(self.counts, seed)
        began, events = time.perf_counter(), self.events
        with progress_bar(progress) as report:
            chains = [task.start(k) for k in range(m)]
            history = run_cycles(task, chains, cycles, where, report)
        events += where.new_events()
        if not history.cycles:
            raise SamplingError(NOTHING_KEPT)
        if history.cycles < cycles:
            text = f"stopped by the user after {history.cycles} of {cycles} cycles"
            events += (Event("interrupted", "cycles", text),)
        last = tuple(chain.cells.sorted() for chain in chains)
        return PartitionedFCSImputations(
            self, m, seed, tune, history, last, time.perf_counter() - began, events
        )

    def _said(self) -> str:
        n, rows = len(self.distinct.frequency), self.distinct.rows
        return "\n".join([
            f"PartitionedFCS: {len(self.responses)} conditional models, {rows:,} rows in {self.data.parts:,} partitions "
            f"and {self.counts.table.clusters:,} clusters, as {n:,} distinct rows",
            text(self.model.spec, self.data.cluster),
            *(f"  note: {event.message}" for event in self.events),
        ])  # fmt: skip


_SEVERAL_ROWS = (
    "{}: functions of several rows (scale, center, splines, cluster_mean, within) are not available for a table in "
    "partitions, whose rows are only counted. Make these columns in the table first."
)


def _names(data: PartitionedData, variables: Sequence[str] | None) -> list[str]:
    """The cluster column and the variables, in the table's order.

    Raises
    ------
    SpecificationError
        A name is not that of a variable.
    """
    if isinstance(variables, str):
        raise SpecificationError(f"variables is a list of names: variables=[{variables!r}].")
    others = [name for name in data.columns if name != data.cluster]
    for name in variables or ():
        if name not in others:
            what = "is the cluster column" if name == data.cluster else "is not a column of the table"
            raise SpecificationError(f"variables: {name!r} {what}. {suggestion(str(name), others)}")
    return [data.cluster, *(name for name in others if variables is None or name in variables)]


def _check_formulas(predictors: Mapping[str, str] | str | None) -> None:
    texts = [predictors] if isinstance(predictors, str) else list((predictors or {}).values())
    for each in texts:
        words = set(re.findall(r"(\w+)\s*\(", str(each)))
        if words & {*STATEFUL, *CLUSTER}:
            raise SpecificationError(_SEVERAL_ROWS.format(f"Formula {each!r}"))


def _check_families(table: IncompleteData) -> None:
    """Refuse incomplete variables that are neither binary nor counts.

    Raises
    ------
    SpecificationError
        The message says what takes them instead, and if nothing is missing.
    """
    incomplete = [name for name in table.variables if table.missing(name).any()]
    if not incomplete:
        raise SpecificationError(
            f"Nothing is missing in {listing(table.variables)}, so there is nothing to impute."
        )
    for name in incomplete:
        family = table.families[name]
        if family not in FAMILIES:
            instead = (
                f"If it is a count, declare it: families={{{name!r}: 'poisson'}}. Normal variables: bi.PartitionedNormal"
                if table.variable(name).distribution.is_normal
                else "Impute the table in memory (bi.FCS)"
            )
            raise SpecificationError(
                f"'{name}' is incomplete and {family}: chained equations of a table in partitions impute binary and "
                f"Poisson variables, whose rows can be summed. {instead}, or leave it out (variables=)."
            )


def _check_block(block: ConditionalModel) -> None:
    columns = (*block.fixed, *block.random)
    if any(column.over is not None or column.within for column in columns):
        raise SpecificationError(_SEVERAL_ROWS.format(f"'{block.name}'"))
    if block.further:
        raise SpecificationError(
            f"'{block.name}': a table in partitions has one grouping factor, its cluster column; the formula has "
            f"{len(block.factors)}."
        )


def _positions(table: ChainedTable, Y: NDArray[np.float64]) -> NDArray[np.int64]:
    """(D, K) positions of levels, or counts; -1 where missing."""
    out = np.full(Y.shape, -1, dtype=np.int64)
    at = {name: k - table.p for k, name in enumerate(table.names)}
    for chained in table.blocks:
        k, levels = at[chained.block.name], np.array(chained.block.levels)
        seen = ~np.isnan(Y[:, k])
        y = Y[seen, k]
        out[seen, k] = np.abs(y[:, None] - levels).argmin(axis=1) if len(levels) else np.rint(y)
    return out


def _distinct(distinct: DistinctRows, events: Sequence[Event]) -> list[Event]:
    """What the counts in other events mean."""
    if not events:
        return []
    text = (
        f"numbers of rows in the messages of the model are numbers of distinct rows, of which there are "
        f"{len(distinct.frequency):,} among {distinct.rows:,}"
    )
    return [Event("distinct rows", "rows", text)]


def _types(data: PartitionedData, names: Sequence[str]) -> list[Event]:
    """Events about variables that cannot keep their type."""
    kinds = {name: data.schema.field(name).type for name in names}
    return [
        Event(
            "dtype changed",
            name,
            f"categories in the table; completed tables hold the values, {kind.value_type}",
        )
        for name, kind in kinds.items()
        if pa.types.is_dictionary(kind)
    ]
