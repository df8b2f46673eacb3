"""From a plan to its table and model: everything that can be checked before sampling."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from bayesimp.contract import ImputationModel, model_type
from bayesimp.datasets import examples
from bayesimp.errors import DataError, SpecificationError
from bayesimp.imputation.result import check_long_names
from bayesimp.messages import suggestion, where
from bayesimp.priors.records import priors_to_dict
from bayesimp.table.files import read_table, with_types
from bayesimp.table.incomplete import IncompleteData
from bayesimp.workflow.plan_records import Plan

__all__ = ["Prepared", "prepare"]


@dataclass(frozen=True)
class Prepared:
    """A plan with its table and model: everything that can be checked before sampling has been."""

    plan: Plan
    data: IncompleteData
    model: ImputationModel


def prepare(plan: Plan) -> Prepared:
    """Read the table and make the model.

    Raises
    ------
    DataError, SpecificationError
        The table or the plan cannot be used; all absent columns are named at once.
    """
    frame = _load(plan)
    _check_columns(plan, list(frame.columns))
    data = IncompleteData(frame, plan.data.cluster, plan.data.families)
    _check_complete(plan, data)
    if plan.output.completed:
        check_long_names(data.frame, "set completed = false in [output]")
    declared = {"formula": str(plan.model.formula), "priors": priors_to_dict(plan.model.priors)}
    model = model_type(plan.model.type).from_specification(data, declared)
    model.check_options(sampler=plan.impute.sampler)
    return Prepared(plan, data, model)


def _load(plan: Plan) -> pd.DataFrame:
    if plan.data.file is None:
        try:
            frame = getattr(examples, f"load_{plan.data.example}")()
        except ModuleNotFoundError as error:
            raise DataError(str(error)) from None
        return with_types(frame, plan.data.types or {}, f"the example '{plan.data.example}'")
    return read_table(
        plan.data.file,
        plan.data.types,
        missing=plan.data.missing,
        separator=plan.data.separator,
        decimal=plan.data.decimal,
    )


def _check_columns(plan: Plan, columns: list[str]) -> None:
    wanted = [("data.cluster", plan.data.cluster)]
    wanted += [(f"data.families.{name}", name) for name in plan.data.families or {}]
    formulas = [("model.formula", plan.model.formula)]
    formulas += [(f"analysis[{k}].formula", a.formula) for k, a in enumerate(plan.analyses, 1)]
    for place, formula in formulas:
        wanted += [(place, name) for name in (*formula.responses, *formula.variables, *formula.groups)]
    for k, a in enumerate(plan.analyses, 1):
        wanted += [(f"analysis[{k}].{key}", name) for key, name in a.columns.items()]
    absent = [
        f"  {place}: the table has no column '{name}'. {suggestion(name, columns)}"
        for place, name in dict.fromkeys(wanted)
        if name not in columns
    ]
    if absent:
        raise SpecificationError("\n".join([f"{plan.path}: columns that are not in the table", *absent]))


def _check_complete(plan: Plan, data: IncompleteData) -> None:
    """Covariates must be complete; an analysis may use what is imputed and what is complete, nothing else."""
    refused = [
        f"  model.formula: '{name}', right of ~, is missing "
        f"{where(data.missing(name), index=data.frame.index)}; "
        + (
            "put it left of ~, so that it is imputed"
            if data.variable(name).distribution.is_normal
            else f"the joint normal model does not impute the family '{data.families[name]}': fill in these "
            "cells, drop the rows from the table, or leave the variable out"
        )
        for name in plan.model.formula.variables
        if name != data.cluster and data.missing(name).any()
    ]
    for k, analysis in enumerate(plan.analyses, 1):
        key_of = {name: key for key, name in analysis.columns.items()}
        for name in analysis.needed:
            if name in plan.model.formula.responses or name == data.cluster:
                continue
            if count := int(data.missing(name).sum()):
                place = f"analysis[{k}].{key_of.get(name, 'formula')}"
                refused.append(
                    f"  {place}: '{name}' is missing in {count:,} of {len(data):,} rows and is "
                    "not imputed; put it left of ~ in model.formula, or leave it out of the analysis"
                )
    if refused:
        raise SpecificationError("\n".join([f"{plan.path}: missing values where none are allowed", *refused]))
