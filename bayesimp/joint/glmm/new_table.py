"""The rows of a run's table and new rows, in the clusters of the new rows, as the sampler of a joint GLMM reads them.

With several grouping factors they are the rows connected with the new rows (joint/levels/new_table.py).

Columns are those of the model, on its scale: complete columns are made from the whole table with the new rows below it,
so that factors keep their levels; then only the clusters of the new rows are kept.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bayesimp.errors import DataError, SpecificationError
from bayesimp.families.registry import trials
from bayesimp.formulas.base_columns import BaseColumns
from bayesimp.formulas.new_rows import joined_column
from bayesimp.formulas.predictors import Predictors, predictors
from bayesimp.joint.glmm.table import FactorTable, factor_table
from bayesimp.joint.levels.factors import GroupingFactor
from bayesimp.joint.levels.new_table import connected_rows
from bayesimp.messages import listing
from bayesimp.table.clusters import Clusters, varies_within
from bayesimp.table.incomplete import IncompleteData, table_like
from bayesimp.table.new_rows import NewRows

if TYPE_CHECKING:
    from bayesimp.joint.glmm.model import JointGLMM

__all__ = ["new_table"]


def new_table(model: JointGLMM, new: NewRows) -> tuple[FactorTable, NDArray[np.int64]]:
    """The table of the clusters with new rows, and the position of each of its rows among the new rows (-1: a row of the
    run).

    Raises
    ------
    SpecificationError
        Columns depend on all rows of a cluster, or are absent.
    DataError
        The new rows do not fit the model; the message names variable and rows.
    """
    factors, data = model.factors, model.data
    for factor in factors:
        if factor.family.is_censored:
            raise SpecificationError(
                f"JointGLMM does not complete new rows of a table with limits of detection ('{factor.response}' is "
                f"{factor.family_name}). Impute the rows with those of the run: one table, one call of impute."
            )
    formulas = [
        predictors(factor.formula, data.cluster, of_clusters=factor.at_cluster, slopes=True)
        if model.further
        else predictors(factor.formula)
        for factor in factors
    ]
    for factor in factors:
        over = [c.name for c in (*factor.fixed, *factor.grouped) if c.is_over_rows]
        if over:
            raise SpecificationError(
                "JointGLMM does not complete new rows when a factor has columns computed over the rows of a cluster, "
                f"which new rows would change for the rows of the run as well: '{factor.formula}' has {listing(over)}."
            )
    new.require(model.responses, "response")
    imputed = [f.response for f in factors if data.missing(f.response).any()]
    used = {name for formula in formulas for name in formula.formula.variables}
    extra = [column for f in factors if (column := trials(data.families[f.response]))]
    extra += [model.shift.group] if model.shift.group not in (None, data.cluster) else []
    given = sorted({name for name in used if name not in imputed} | set(extra))
    new.require(given, "covariate")
    new.require_complete(given)
    whole = _joined(new, model, given, formulas)
    base = BaseColumns(whole, tuple(imputed), counted=np.arange(len(whole)) < len(data))
    for factor, formula in zip(factors, formulas, strict=True):
        fixed = base.columns(formula.fixed, formula.text)
        random = base.columns(formula.random, formula.text) if formula.random is not None else ()
        slopes = {base.columns(part, formula.text) for part in formula.slopes}
        if (fixed, random, slopes) != (
            factor.fixed,
            factor.random,
            {part for part in factor.further if part},
        ):
            raise SpecificationError(
                f"Formula '{factor.formula}': with the new rows its columns differ from those of the run."
            )
    beside = [new.groups_beside(factor.term.names) for factor in model.further]
    codes = np.column_stack([whole.codes, *(groups.codes for groups in beside)])
    rows = connected_rows(codes, len(data))
    part = _part(whole, rows)
    _check_clusters(model, part)
    own = copy.copy(base)
    own.data, own.complete = part, {name: values[rows] for name, values in base.complete.items()}
    further = [
        GroupingFactor(factor.label, factor.term, _some(groups.labels, groups.codes[rows], part.frame.index))
        for factor, groups in zip(model.further, beside, strict=True)
    ]
    table = factor_table(part, factors, own, model.shift, known=model.table, further=further)
    return table, np.maximum(rows - len(data), -1)[table.row]


def _joined(new: NewRows, model: JointGLMM, given: list[str], formulas: list[Predictors]) -> IncompleteData:
    """The table of the run with the new rows below it, with the columns that the model uses."""
    uses: dict[str, frozenset[str]] = {}
    for formula in formulas:
        for name, own in formula.formula.uses.items():
            uses[name] = uses.get(name, frozenset()) | own
    columns = {name: joined_column(name, uses.get(name, frozenset()), new) for name in given}
    for name in model.responses:
        if name not in columns:
            columns[name] = _response(name, new)
    names = [name for name in new.training.frame.columns if name in columns]
    frame = pd.DataFrame({name: columns[name] for name in names})
    labels = new.training.clusters.append(new.clusters[new.is_new])
    grouping = Clusters(labels, new.codes_beside_table, frame.index)
    return _data(new.training, frame, grouping)


def _response(name: str, new: NewRows) -> pd.Series:
    """A response in the table followed by the new rows, in a type that can hold missing values."""
    training, theirs, ours = new.training, new.training.frame[name], new.frame[name]
    if not training.variable(name).is_coded:
        return pd.Series(np.concatenate([training.numeric(name), new.numeric(name)]))
    levels = list(training.levels(name))
    unknown = (ours.notna() & ~ours.astype(object).isin(levels)).to_numpy()
    if unknown.any():
        raise DataError(
            f"'{name}' has levels that the table of the run does not have, "
            f"{listing(pd.unique(ours[unknown].astype(object)))}, {new.grouping.where(unknown)}: the model gives them no "
            f"probability. Its levels are {listing(levels, 20)}."
        )
    dtype = theirs.dtype
    if isinstance(dtype, np.dtype) and dtype.kind in "iub":
        dtype = pd.BooleanDtype() if dtype.kind == "b" else pd.Int64Dtype()
    own = ours.astype(object).where(ours.notna(), None)
    own = own.astype("Float64") if pd.api.types.is_float_dtype(dtype) else own
    return pd.concat([theirs.astype(dtype), own.astype(dtype)], ignore_index=True)


def _data(training: IncompleteData, frame: pd.DataFrame, grouping: Clusters) -> IncompleteData:
    """Rows as `IncompleteData` with the families and levels of the run's table."""
    return table_like(training, frame, grouping)


def _part(whole: IncompleteData, rows: NDArray[np.int64]) -> IncompleteData:
    """Some of the rows, with their clusters only."""
    frame = whole.frame.iloc[rows].reset_index(drop=True)
    return _data(whole, frame, _some(whole.clusters, whole.codes[rows], frame.index))


def _some(labels: pd.Index, codes: NDArray[np.int64], index: pd.Index) -> Clusters:
    """The clusters, or groups, that some rows have."""
    there, own = np.unique(codes, return_inverse=True)
    return Clusters(labels[there], own.astype(np.int64), index)


def _check_clusters(model: JointGLMM, part: IncompleteData) -> None:
    """Refuse cluster-level variables that vary within a cluster over the rows of the run and the new rows."""
    for factor in model.factors:
        if not factor.at_cluster:
            continue
        varying = varies_within(part.column_values(factor.response), part.codes)
        if varying.any():
            raise DataError(
                f"'{factor.response}' has a single value in every cluster of the run's table, but with the new rows "
                "several "
                f"in {int(varying.sum()):,} clusters ({listing(part.clusters[varying])}). Correct it or set it to "
                "missing."
            )
