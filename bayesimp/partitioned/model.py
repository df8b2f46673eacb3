"""`PartitionedNormal`: the joint normal model of a table that is read part by part."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import pyarrow as pa

from bayesimp import priors as pr
from bayesimp.arguments import new_seed, whole
from bayesimp.errors import DataError, SamplingError, SpecificationError, must_be
from bayesimp.events import Event
from bayesimp.federated.agreement import Agreement
from bayesimp.federated.merge import working_input
from bayesimp.federated.posterior import information, working_priors
from bayesimp.formulas.formula import Formula, parse
from bayesimp.joint.gibbs import initial_state, sample_gibbs
from bayesimp.joint.options import draws_per_imputation
from bayesimp.kinds import checks_arguments
from bayesimp.layout import Printed
from bayesimp.messages import NOTHING_KEPT, listing, suggestion
from bayesimp.partitioned.gibbs import WholeTableTask, on_data_scale
from bayesimp.partitioned.moments import TableMoments
from bayesimp.partitioned.parts import INSTEAD
from bayesimp.partitioned.passes import find_levels, table_moments
from bayesimp.progress import progress_bar
from bayesimp.sampling.executors import Executor, read_executor
from bayesimp.table.partitions import PartitionedData

if TYPE_CHECKING:
    from bayesimp.partitioned.result import PartitionedImputations

__all__ = ["PartitionedNormal"]


@checks_arguments
class PartitionedNormal(Printed):
    """Joint multilevel normal model of a table in partitions, which need not fit into memory.

    The rows are read once, when the model is made: what remains are counts and cross products by cluster and by which
    responses are observed. Columns of text among the covariates are read before, for their levels. Sampling reads no
    rows, and the posterior is that of `bayesimp.JointNormal`.

    Parameters
    ----------
    data
        The table.
    formula
        As for `bayesimp.JointNormal`, ``"y1 + y2 ~ x + arm + (1 + x | study)"``, with one random part. Covariates must be
        complete, and their columns must not depend on several rows (`scale`, splines, `cluster_mean`).
    priors
        As for `bayesimp.JointNormal`, conditionally conjugate.
    levels
        Levels by covariate that is text, a category or ``C(...)``, in order; the first is the reference. None: they are
        looked for, and text is sorted.

    Attributes
    ----------
    moments
        What the pass over the rows has left, `bayesimp.partitioned.moments.TableMoments`.
    working
        The sampler's input.
    events
        What a reader of the result must know.

    Raises
    ------
    DataError, SpecificationError
        The table cannot be read or does not identify the model; the message names variable, cluster and rows.

    Notes
    -----
    Memory is that of 65,536 rows and of the cells: with v covariates and r responses, (1 + v + r)^2 numbers for every
    cluster and set of observed responses. Binary, count and categorical variables, several grouping factors, shifts and
    chained equations need the rows in memory (`bayesimp.FCS`).

    Examples
    --------
    >>> table = bi.IncompleteData.from_parquet("patients/", cluster="study")        # doctest: +SKIP
    >>> done = bi.PartitionedNormal(table, "y1 + y2 ~ x + (1 | study)").impute(m=20, seed=1)    # doctest: +SKIP
    >>> done.export("completed")                                                    # doctest: +SKIP
    """

    INSTEAD = INSTEAD

    def __init__(
        self,
        data: PartitionedData,
        formula: str,
        priors: pr.Priors | str | None = None,
        *,
        levels: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        must_be(data, "PartitionedData", "PartitionedNormal")
        self.data = data
        self.agreement = _agreement(data, formula, priors, levels)
        self.moments: TableMoments = table_moments(data, self.agreement)
        _check_moments(self.moments, self.agreement)
        self.working = working_input((self.moments.release(self.agreement),))
        checked, events = working_priors(
            self.agreement.checked_priors,
            self.working,
            self.moments.place.random,
            "a table in partitions is imputed",
        )
        self.working_priors = checked
        known = checked.Psi.is_known
        self.events: tuple[Event, ...] = (
            *information(self.working.statistics, self.agreement.responses, known), *events, *_ties(self.moments),
            *_types(data, self.agreement.responses),
        )  # fmt: skip

    def impute(
        self,
        m: int = 20,
        *,
        seed: int | None = None,
        chains: int = 4,
        tune: int = 200,
        draws: int = 1000,
        thin: int = 1,
        workers: int | None = None,
        executor: str | Executor | None = None,
        progress: bool | None = None,
    ) -> PartitionedImputations:
        """Draw the parameters. No rows are read: `export` and `frames` of the result complete them.

        Parameters
        ----------
        m, seed, chains, tune, draws, thin, workers, executor, progress
            As for `bayesimp.JointNormal.impute`.

        Raises
        ------
        SpecificationError
            m, chains, ... are out of range.
        SamplingError
            The run was interrupted before the first imputation, or a chain failed.
        """
        from bayesimp.partitioned.result import PartitionedImputations

        spacing = draws_per_imputation(m, chains, thin, draws, tune)
        seed = new_seed() if seed is None else whole(seed, "seed", 0)
        st, priors, began = self.working.statistics, self.working_priors, time.perf_counter()
        states = [initial_state(seed, c, priors, st.r, st.q) for c in range(chains)]
        where = read_executor(executor, workers)
        with progress_bar(progress) as report:
            kept = sample_gibbs(
                self.working, priors, states, tune=tune, draws=draws, thin=thin,
                executor=where, report=report, task_type=WholeTableTask,
            )  # fmt: skip
        events = self.events + where.new_events()
        if not kept.draws:
            raise SamplingError(NOTHING_KEPT)
        if kept.draws < draws:
            text = f"stopped by the user: {kept.draws} of {draws} draws per chain kept"
            events += (Event("interrupted", "sampler", text),)
            spacing = max(kept.draws // -(-m // chains), 1)
            m = min(m, chains * (kept.draws // spacing))
        made, seconds = on_data_scale(kept, self.working.scale), time.perf_counter() - began
        return PartitionedImputations(made, self.working, m, seed, thin, spacing, seconds, events, self)

    def _said(self) -> str:
        place, st = self.moments.place, self.working.statistics
        return "\n".join([
            f"PartitionedNormal: {self.agreement.formula}",
            f"  {self.moments.rows:,} rows in {self.data.parts:,} partitions and {st.clusters:,} clusters, as "
            f"{len(st.cell_rows):,} cells of cross products",
            f"  r = {st.r} responses, p = {st.p} fixed ({', '.join(place.fixed)}), q = {st.q} random "
            f"({', '.join(place.random)})",
            f"  priors: {self.agreement.checked_priors.name}; sampler: gibbs",
            *(f"  note: {event.message}" for event in self.events),
        ])  # fmt: skip


def _agreement(
    data: PartitionedData, formula: str, priors: pr.Priors | str | None, levels: Mapping | None
) -> Agreement:
    """Formula, levels and priors, checked against the columns.

    Raises
    ------
    SpecificationError, DataError
        A column is missing, of a type that cannot be modelled, or depends on several rows.
    """
    parsed: Formula = parse(formula)
    if parsed.stateful or parsed.over_clusters:
        raise SpecificationError(
            f"Formula {parsed.text!r}: functions of several rows (scale, center, poly, splines, cluster_mean) need a "
            "pass of their own, and a table in partitions is read once. Make these columns in the table first."
        )
    if parsed.groups != (data.cluster,):
        raise SpecificationError(
            f"Formula {parsed.text!r}: a table in partitions has one random part, whose group is its cluster column, "
            f"'(1 | {data.cluster})'."
        )
    for name in (*parsed.responses, *parsed.variables):
        if name not in data.columns:
            raise SpecificationError(
                f"Formula {parsed.text!r}: the table has no column '{name}'. {suggestion(name, data.columns)}"
            )
    for name in parsed.responses:
        kind = data.schema.field(name).type
        if not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)):
            raise SpecificationError(
                f"'{name}' is of type {kind}: a table in partitions is imputed by a joint model of normal variables. "
                "Move it to the right of ~ if it is complete, or impute the table in memory (bi.FCS)."
            )
    own = {name: [str(each) for each in given] for name, given in (levels or {}).items()}
    return Agreement(formula, find_levels(data, parsed, own), priors)


def _check_moments(moments: TableMoments, agreement: Agreement) -> None:
    """What joint/information.py checks by rows.

    Raises
    ------
    DataError
        One cluster only; a response that is never observed, has two values, or one value in each cluster.
    """
    m = len(moments.codes)
    if m < 2:
        raise DataError(
            f"'{agreement.cluster}' has only one cluster, {listing(moments.codes)} ({moments.rows:,} rows). With one "
            "cluster nothing can be learnt about differences between clusters. Is it the right column?"
        )
    for k, name in enumerate(agreement.responses):
        seen, values = moments.seen[:, k], moments.values[k]
        if not len(values):
            raise DataError(
                f"No value of '{name}' is observed in any of {moments.rows:,} rows and {m:,} clusters, so nothing can be "
                "learnt about it. Leave it out."
            )
        coded = seen.sum() > 2 or set(values.tolist()) in ({0.0, 1.0}, {1.0, 2.0})  # families/columns.py
        if len(values) == 2 and (values % 1 == 0).all() and coded:
            raise SpecificationError(
                f"'{name}' has two values only, {values[0]:g} and {values[1]:g}, in {seen.sum():,} rows: it is no normal "
                "variable. Move it to the right of ~ if it is complete, or impute the table in memory (bi.FCS)."
            )
        varies = moments.high[:, k] > moments.low[:, k]
        if len(values) > 1 and (seen > 1).any() and not varies[seen > 1].any():
            raise DataError(
                f"'{name}' has a single value in each of the {int((seen > 0).sum()):,} clusters where it is observed: it "
                "is a variable of clusters, whose variance within clusters (Sigma) is zero. Remove it from the left "
                "side of the formula, or fill it in for each cluster and move it to the right."
            )


def _ties(moments: TableMoments) -> list[Event]:
    if not moments.ties:
        return []
    text = (
        f"{moments.ties:,} clusters agree in number of rows and, for every response, in number of values and range: "
        "their order, and so the random numbers they get, depends on their labels. bi.JointNormal looks at their rows; "
        "with the same seed its draws differ by chance"
    )
    return [Event("order of clusters", "seed", text, moments.ties)]


def _types(data: PartitionedData, responses: Sequence[str]) -> list[Event]:
    """Events about responses that cannot keep their type, as of imputation/events.py."""
    kinds = {name: data.schema.field(name).type for name in responses}
    return [
        Event(
            "dtype changed", name, f"{kind} in the table; imputed as normal, it is double in completed tables"
        )
        for name, kind in kinds.items()
        if not pa.types.is_floating(kind)
    ]
