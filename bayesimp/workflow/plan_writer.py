"""Write a model from Python as a plan: ``model.to_plan("plan.toml", data="pupils.csv", m=60, seed=1)``.

A plan describes a model completely, or it is not written: the plan is converted back to a model, whose
`specification` must be that of the given one, and if the file of the table exists, it must hold the model's table.
"""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from inspect import signature
from pathlib import Path
from typing import Any

import numpy as np

from bayesimp.contract import ImputationModel, plain
from bayesimp.errors import SpecificationError
from bayesimp.families.registry import trials
from bayesimp.formulas.formula import parse
from bayesimp.sections import possible
from bayesimp.shift import Shift
from bayesimp.workflow.plan import ANALYSIS_FAMILIES, ONE_FACTOR, plan_of
from bayesimp.workflow.plan_methods import method_to_plan, priors_to_plan
from bayesimp.workflow.plan_model import MODELS
from bayesimp.workflow.plan_records import AnalysisPlan, Plan
from bayesimp.workflow.plan_table import check_table, data_section
from bayesimp.workflow.prepare import model_of, table_of
from bayesimp.workflow.toml import as_toml

__all__ = ["DROPPED", "RUN", "WRITERS", "to_plan"]

RUN = {  # options of `impute` in a plan
    **dict.fromkeys(MODELS[:3], ("chains", "tune", "draws", "thin", "sampler")), "FCS": ("cycles", "tune"),
}  # fmt: skip
DROPPED = ("workers", "executor", "progress")  # these do not change results


def to_plan(
    model: ImputationModel,
    path: str | os.PathLike[str] | None,
    *,
    data: str | os.PathLike[str],
    m: int,
    seed: int,
    analysis: Any,
    title: str,
    run: Mapping[str, Any],
) -> str:
    """The plan of a model; see `bayesimp.contract.ImputationModel.to_plan`."""
    kind = type(model).__name__
    if kind not in MODELS:
        raise SpecificationError(
            f"to_plan: {kind} is code, which a plan does not hold; plans exist for {', '.join(MODELS)}."
        )
    where = Path("plan.toml" if path is None else path)
    record: dict[str, Any] = {
        **({"title": title} if title else {}),
        "data": data_section(model.data, data, where),
        "model": _model(model),
        "impute": {"m": m, "seed": seed, **_run(model, run)},
    }
    analyses = _analyses(model, analysis)
    if analyses:
        record["analysis"] = analyses
    text = as_toml(record)
    plan = plan_of(text, tomllib.loads(text), where, with_table=False)
    _check_same(model, plan)
    if path is not None:
        where.write_text(text, encoding="utf-8")
    return text


def _model(model: ImputationModel) -> dict[str, Any]:
    """The section [model]: every entry of the specification, converted by the function for its name."""
    out: dict[str, Any] = {"type": type(model).__name__}
    for key, value in model.specification().items():
        if key not in WRITERS:
            raise SpecificationError(f"to_plan: plans do not know the option {key!r} of {out['type']}.")
        if value is not None and np.size(value) > 0 and (written := WRITERS[key](value, model)) is not None:
            out[key] = written
    return out


def _as_it_is(value: Any, model: ImputationModel) -> Any:
    """Texts, flags, lists and tables; empty ones are dropped."""
    return value if not isinstance(value, Mapping | list | tuple) or len(value) else None


def _priors(value: Any, model: ImputationModel) -> Any:
    return priors_to_plan(model.priors, "model.priors", contextual=False)


def _methods(value: Any, model: Any) -> Any:
    given = model.declared["methods"]
    if not isinstance(given, Mapping):
        return method_to_plan(given, "model.methods")
    return {
        # mice's "" leaves a variable out, as None does
        name: "" if method in (None, "") else method_to_plan(method, f"model.methods.{name}")
        for name, method in given.items()
    }


def _bounds(value: Mapping[str, Sequence[Any]], model: ImputationModel) -> dict[str, Any]:
    for name, pair in value.items():
        if any(np.ndim(bound) for bound in pair):
            raise SpecificationError(
                f"to_plan: bounds['{name}'] has a number for each row, which a plan does not hold."
            )
    if all(bound is not None for pair in value.values() for bound in pair):
        return {name: list(pair) for name, pair in value.items()}
    return {  # all as tables, which preserve the order of the variables
        name: {side: bound for side, bound in zip(("lower", "upper"), pair, strict=True) if bound is not None}
        for name, pair in value.items()
    }


def _shift(value: Any, model: ImputationModel) -> dict[str, Any] | None:
    shift: Shift = model.shift
    by = {name: _numbers(number) for name, number in shift.by.items()}
    group = {} if shift.group is None else {"group": shift.group}
    return {"by": by, **group, "where": shift.where}


def _numbers(number: Any) -> Any:
    """A number, a table if all groups are text, otherwise pairs, so that groups keep their types."""
    if not isinstance(number, Mapping):
        return float(number)
    if all(isinstance(key, str) for key in number):
        return {key: _numbers(each) for key, each in number.items()}
    return [[getattr(key, "item", lambda key=key: key)(), _numbers(each)] for key, each in number.items()]


def _code(name: str) -> Callable[[Any, ImputationModel], Any]:
    def refuse(value: Any, model: ImputationModel) -> None:
        if np.any(value) if name == "ignore" else len(value):
            what = "functions" if name == "post" else "values for each row"
            raise SpecificationError(f"to_plan: {name}= holds {what}, which a plan does not hold.")

    return refuse


WRITERS: dict[str, Callable[[Any, Any], Any]] = {
    **dict.fromkeys(("formula", "residual", "reference", "analysis", "factors", "order", "effects", "links", "predictors",
                     "blocks", "derived", "compatible"), _as_it_is),
    "priors": _priors, "methods": _methods, "bounds": _bounds, "shift": _shift,
    "post": _code("post"), "where": _code("where"), "ignore": _code("ignore"),
}  # fmt: skip


def _run(model: ImputationModel, run: Mapping[str, Any]) -> dict[str, Any]:
    """Options of `impute` for [impute]."""
    known, kind = RUN[type(model).__name__], type(model).__name__
    for name in run:
        if name in DROPPED:
            raise SpecificationError(
                f"to_plan: {name}= does not change results, so a plan does not contain it. Omit it."
            )
        if name not in known:
            takes = list(signature(model.impute).parameters)
            more = "which a plan cannot contain" if name in takes else "which it does not have"
            raise SpecificationError(
                f"to_plan: {name}= of {kind}.impute, {more}; {possible(name, ('m', 'seed', *known))}"
            )
    return {name: value for name, value in run.items() if value is not None}


def _analyses(model: ImputationModel, given: Any) -> list[dict[str, Any]]:
    """The sections [[analysis]]: those that are given, or those that the model is made for."""
    if given is None:
        found = _own_analyses(model)
    elif isinstance(given, str):
        found = [(None, given)]
    elif isinstance(given, Mapping):
        found = list(given.items())
    elif isinstance(given, Sequence) and all(isinstance(each, str) for each in given):
        found = [(None, text) for text in given]
    else:
        raise SpecificationError(
            f"to_plan: analysis takes a formula, several, or formulas by name; got {type(given).__name__}. Functions are "
            "code, which a plan does not hold."
        )
    return [_analysis(model, name, each) for name, each in found]


def _analysis(model: ImputationModel, name: str | None, given: Any) -> dict[str, Any]:
    """One section [[analysis]]; a mapping has further options."""
    options = dict(given) if isinstance(given, Mapping) else {"analysis": given}
    formula = options.pop("analysis", options.pop("formula", None))
    if not isinstance(formula, str):
        raise SpecificationError(
            f"to_plan: analysis {name or ''} must be a formula; functions are code, which a plan does not hold."
        )
    known = [f.name for f in fields(AnalysisPlan) if f.name not in ("name", "formula")]
    for key in options:
        if key not in known:
            raise SpecificationError(f"to_plan: analysis: {key!r} is not known; {possible(key, known)}.")
    named = {} if name is None else {"name": name}
    return {**named, "formula": formula, **options}


def _own_analyses(model: ImputationModel) -> list[tuple[str | None, Any]]:
    """The analyses for which the model is made, with family, link and trials of their response; those of families that
    an analysis in a plan cannot have are left to the model alone."""
    specification = model.specification()
    texts, links = specification.get("analysis") or (), specification.get("links") or {}
    out: list[tuple[str | None, Any]] = []
    for text in [texts] if isinstance(texts, str) else texts:
        (response,) = parse(text).responses
        family = model.data.families[response]
        options = {
            "family": family.partition("(")[0],
            "link": links.get(response),
            "trials": trials(family) or None,
        }
        one_factor = options["family"] not in ONE_FACTOR or len(parse(text).groups) <= 1
        if options["family"] in ANALYSIS_FAMILIES and one_factor:
            given = {key: value for key, value in options.items() if value not in (None, "normal")}
            out.append((None, {"formula": text, **given}))
    return out


def _check_same(model: ImputationModel, plan: Plan) -> None:
    """Check that the plan gives this model again, and that its file, if it exists, has the same table."""
    again = model_of(plan, model.data)
    ours, theirs = _declared(model), _declared(again)
    different = [key for key in dict.fromkeys((*ours, *theirs)) if ours.get(key) != theirs.get(key)]
    if different:
        raise SpecificationError(
            f"to_plan: a plan cannot express {', '.join(map(repr, different))} of this model as given."
        )
    if plan.data.file is None or plan.data.file.is_file():
        check_table(model.data, table_of(plan), plan)


def _declared(model: ImputationModel) -> dict[str, Any]:
    """The declared options, without empty ones."""
    declared = json.loads(json.dumps(model.specification(), default=plain))
    declared.pop("ignore", None)  # refused unless it ignores nothing
    if isinstance(methods := declared.get("methods"), dict) and "type" not in methods:
        declared["methods"] = {name: method or None for name, method in methods.items()}
    return {key: value for key, value in declared.items() if value not in (None, [], {}, "")}
