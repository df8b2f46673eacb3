"""From a plan to its table and model: everything that can be checked before sampling."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import pandas as pd

from bayesimp.contract import ImputationModel, model_type
from bayesimp.datasets import examples
from bayesimp.errors import DataError, SpecificationError
from bayesimp.imputation.completed import check_long_names
from bayesimp.messages import suggestion, where
from bayesimp.priors import Priors
from bayesimp.priors.records import priors_to_dict
from bayesimp.table.files import read_table, with_types
from bayesimp.table.incomplete import IncompleteData
from bayesimp.workflow.plan_mnar import check_mnar
from bayesimp.workflow.plan_records import AnalysisPlan, Plan
from bayesimp.workflow.plan_sensitivity import check_sensitivity

__all__ = ["Prepared", "model_of", "prepare", "table_of"]


@dataclass(frozen=True)
class Prepared:
    """A plan with its table and model, after every check that is possible before sampling."""

    plan: Plan
    data: IncompleteData
    model: ImputationModel


def prepare(plan: Plan, frame: pd.DataFrame | None = None) -> Prepared:
    """Read the table, unless `frame` is given instead, and make the model.

    Raises
    ------
    DataError, SpecificationError
        The table or the plan cannot be used; all absent columns are named at once.
    """
    frame = table_of(plan, frame)
    data = IncompleteData(frame, list(plan.data.clusters), _families(plan) or None)
    if plan.model.formula is not None:
        _check_complete(plan, data, plan.model.formula.responses)
    if plan.output.completed:
        check_long_names(data.frame, "set completed = false in [output]")
    model = model_of(plan, data)
    model.check_options(sampler=plan.impute.sampler)
    if plan.model.formula is None:
        _check_complete(plan, data, model.responses)
        _check_families(plan, data)
    check_mnar(plan, model)
    check_sensitivity(plan, model)
    return Prepared(plan, data, model)


def _families(plan: Plan) -> dict[str, str]:
    """Families of columns; analyses for which the model is made determine those of their responses."""
    declared = dict(plan.data.families or {})
    if plan.model.for_analyses:
        for a in plan.analyses:
            trials = "" if a.trials is None else f"({a.trials})"
            if a.family != AnalysisPlan.family:  # not the default, so it was written by the user
                declared.setdefault(a.formula.responses[0], a.family + trials)
    return declared


def model_of(plan: Plan, data: IncompleteData) -> ImputationModel:
    """The imputation model of a plan for a table, made in the same way as from Python.

    Raises
    ------
    DataError, SpecificationError
        As for the engine.
    """
    own = plan.model
    if own.type == "FCS":
        return _chained_equations(plan, data)
    shift = {} if own.shift is None else {"shift": own.shift.to_record()}
    declared: dict[str, Any] = {"priors": priors_to_dict(cast(Priors, own.priors))} | shift
    if own.formula is not None:
        residual = {"residual": own.residual} if own.type == "JointLatent" else {}
        declared |= {"formula": str(own.formula), "reference": own.reference} | residual
    else:
        declared |= {
            "analysis": _analyses(plan), "factors": own.factors, "order": own.order or None, "effects": own.effects,
            "links": _links(plan),
        }  # fmt: skip
    return model_type(own.type).from_specification(data, declared)


def _chained_equations(plan: Plan, data: IncompleteData) -> ImputationModel:
    from bayesimp.fcs.model import FCS
    from bayesimp.fcs.specification.declared import declared_from_dict
    from bayesimp.workflow.plan_methods import methods_from_plan

    own = plan.model
    declared = declared_from_dict({
        "order": own.order or None, "blocks": {name: list(each) for name, each in own.blocks.items()} or None,
        "derived": own.derived or None, "compatible": own.compatible, "bounds": own.bounds or None,
        "analysis": _analyses(plan), "predictors": own.predictors, "methods": None,
    })  # fmt: skip
    made = FCS(data, **(declared | {"methods": methods_from_plan(own.methods)}), shift=own.shift)
    return made if own.priors is None else made.with_priors(own.priors)


def _analyses(plan: Plan) -> Any:
    """The formulas for which the model is made: its own or those of the plan; None if there are none."""
    own = plan.model
    if own.for_analyses:
        return [str(a.formula) for a in plan.analyses]
    return own.analysis if own.analysis is None or isinstance(own.analysis, str) else list(own.analysis)


def _links(plan: Plan) -> dict[str, str]:
    """Links by response that are not the default, from the analyses of the plan and from the model."""
    if not plan.model.for_analyses:
        return plan.model.links
    return {a.formula.responses[0]: a.link for a in plan.analyses if a.link is not None} | plan.model.links


def _check_families(plan: Plan, data: IncompleteData) -> None:
    """Check that the family by which a response is imputed or conditioned on is that of the analysis."""
    if not plan.model.for_analyses:
        return
    for k, a in enumerate(plan.analyses, 1):
        name = a.formula.responses[0]
        if (family := data.variable(name).distribution.name) != a.family:
            raise SpecificationError(
                f"{plan.path}: analysis[{k}].family is '{a.family}', but '{name}' is imputed as {family}: write family = "
                f'"{family}", or "{name}" = "{a.family}" under [data.families].'
            )


def table_of(plan: Plan, frame: pd.DataFrame | None = None) -> pd.DataFrame:
    """The table of a plan, read unless it is given: its columns, with their types.

    Raises
    ------
    DataError, SpecificationError
        The file cannot be read or lacks columns that the plan names, all of which the message lists.
    """
    frame = _load(plan) if frame is None else frame
    _check_columns(plan, list(frame.columns))
    chosen = plan.data.columns
    if not chosen:
        return frame
    _check_columns(plan, list(chosen), "data.columns")
    return frame[list(chosen)]


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


def _check_columns(plan: Plan, columns: list[str], where: str = "the table") -> None:
    wanted = [("data.cluster", name) for name in plan.data.clusters]
    wanted += [("data.columns", name) for name in plan.data.columns]
    wanted += [(f"data.families.{name}", name) for name in plan.data.families or {}]
    formulas = [] if plan.model.formula is None else [("model.formula", plan.model.formula)]
    formulas += [(f"analysis[{k}].formula", a.formula) for k, a in enumerate(plan.analyses, 1)]
    for place, formula in formulas:
        wanted += [(place, name) for name in (*formula.responses, *formula.variables, *formula.groups)]
    for k, a in enumerate(plan.analyses, 1):
        wanted += [(f"analysis[{k}].{key}", name) for key, name in a.columns.items()]
    absent = [
        f"  {place}: {where} has no column '{name}'. {suggestion(name, columns)}"
        for place, name in dict.fromkeys(wanted)
        if name not in columns
    ]
    if absent:
        raise SpecificationError("\n".join([f"{plan.path}: columns that are not in the table", *absent]))


def _check_complete(plan: Plan, data: IncompleteData, imputed: Sequence[str]) -> None:
    """Check that covariates are complete and that analyses use only imputed and complete variables."""
    formula = plan.model.formula
    cure = "declare its family under [data.families]"
    if formula is not None:
        cure = "put it left of ~ in model.formula"
    refused = [
        f"  model.formula: '{name}', right of ~, is missing "
        f"{where(data.missing(name), index=data.frame.index)}; "
        + (
            "put it left of ~, so that it is imputed"
            if data.variable(name).distribution.is_normal
            else f"the joint normal model does not impute the family '{data.families[name]}': fill in these "
            "cells, drop the rows from the table, or leave the variable out"
        )
        for name in (() if formula is None else formula.variables)
        if name not in data.cluster_columns and data.missing(name).any()
    ]
    for k, analysis in enumerate(plan.analyses, 1):
        key_of = {name: key for key, name in analysis.columns.items()}
        for name in analysis.needed:
            if name in imputed or name in data.cluster_columns:
                continue
            if count := int(data.missing(name).sum()):
                place = f"analysis[{k}].{key_of.get(name, 'formula')}"
                refused.append(
                    f"  {place}: '{name}' is missing in {count:,} of {len(data):,} rows and is "
                    f"not imputed; {cure}, or leave it out of the analysis"
                )
    if refused:
        raise SpecificationError("\n".join([f"{plan.path}: missing values where none are allowed", *refused]))
