"""The imputation model of a plan, and how it is run: `[model]` and `[impute]`.

    [model]                            # one joint normal model: the default type
    formula = "written + course ~ gender + (1 | school)"

    [model]                            # the same with binary, ordinal and nominal variables among those of the formula
    type = "JointLatent"
    formula = "written + passed ~ gender + (1 | school)"

    [model]                            # a model for the analyses of the plan, each of which is a factor of it
    type = "JointGLMM"
    effects = "joint"                  # or "separate"
    order = ["ses", "mark"]            # optional, as are formulas of covariates:
    [model.factors]
    ses = "ses ~ gender + (1 | school)"

    [model]                            # chained equations
    type = "FCS"
    methods = "bayes"                  # optional: one name, or [model.methods] with a name for each variable
    predictors = ["ses ~ . + (1 + mark | school)"]
    compatible = false
    congenial = false                  # true: covariates are drawn given the analyses of the plan
    [model.derived]
    bmi = "weight / height**2"

`[impute]` has m, seed and tune; for joint models chains, draws, thin and sampler as well, for chained equations cycles.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from bayesimp.errors import SpecificationError
from bayesimp.formulas.formula import Formula, parse
from bayesimp.priors import Priors
from bayesimp.priors.records import PRESETS, priors_from_dict
from bayesimp.sections import Section, possible
from bayesimp.workflow.plan_records import AnalysisPlan, ImputePlan, ModelPlan

__all__ = ["MODELS", "SAMPLERS", "check_analyses", "read_formula", "read_impute", "read_model"]

MODELS = ("JointNormal", "JointGLMM", "JointLatent", "FCS")
SAMPLERS = ("auto", "gibbs", "nuts")
OF_TYPE = {
    "JointNormal": ("formula",),
    "JointLatent": ("formula", "residual"),
    "JointGLMM": ("factors", "order", "effects"),
    "FCS": ("methods", "predictors", "derived", "compatible", "congenial"),
}


def read_model(section: Section, cluster: str | None) -> ModelPlan:
    """The section [model]."""
    kind = section.text("type", "JointNormal", MODELS) or "JointNormal"
    for other, keys in OF_TYPE.items():
        for key in keys:
            if key in OF_TYPE[kind] or key in section.known:
                continue
            section.known.append(key)
            if key in section.record:
                own = ", ".join(OF_TYPE[kind])
                section.note(key, f'is for type = "{other}"; a model of type "{kind}" takes {own} and priors')
    formula = _joint_formula(section, cluster) if "formula" in OF_TYPE[kind] else None
    given: dict[str, Any] = {}
    if kind == "JointLatent":
        given = {"residual": section.text("residual", "common", ("common", "cluster"))}
    elif kind == "JointGLMM":
        given = {
            "factors": _texts(section, "factors"),
            "order": section.list_of_texts("order"),
            "effects": section.text("effects", "joint", ("joint", "separate")),
        }
    elif kind == "FCS":
        one = isinstance(section.record.get("methods"), str)
        given = {
            "methods": section.text("methods") if one else _texts(section, "methods") or None,
            "predictors": section.list_of_texts("predictors"),
            "derived": _texts(section, "derived"),
            "compatible": section.flag("compatible", False),
            "congenial": section.flag("congenial", False),
        }
    as_methods = kind == "FCS" and "priors" not in section.record  # each method has its own
    priors = _priors(section)
    # priors are None with a note as well, and a plan with notes is refused
    return ModelPlan(kind, formula, None if as_methods else cast(Priors, priors), **given)


def _joint_formula(section: Section, cluster: str | None) -> Formula | None:
    formula = read_formula(section, "written + course ~ gender + (1 | school)")
    if formula is not None:
        if not formula.responses:
            section.note("formula", "has no variable to impute on the left of ~")
        if not formula.single_grouping:
            more = "; plans have one grouping factor, JointNormal in Python several" if formula.random else ""
            section.note(
                "formula", f"needs one random part on one column: (1 | {cluster or 'cluster'}){more}"
            )
        elif cluster is not None and formula.cluster != cluster:
            section.note(
                "formula", f"groups by {formula.cluster!r}, data.cluster is {cluster!r}; make them one"
            )
    return formula


def _texts(section: Section, key: str) -> dict[str, str]:
    """A table of texts by variable."""
    table = section.table(key, {})
    for name, value in table.items():
        if not isinstance(value, str):
            section.note(f"{key}.{name}", f"must be text, not {value!r}")
    return {name: value for name, value in table.items() if isinstance(value, str)}


def read_formula(section: Section, example: str) -> Formula | None:
    """The formula of a section; None if it cannot be read, which is noted."""
    text = section.text("formula", why=f'such as formula = "{example}"')
    return section.checked("formula", lambda: parse(text)) if isinstance(text, str) else None


def _priors(section: Section) -> Priors | None:
    """Each part is read separately, so that a problem in one does not hide one in another."""
    section.known.append("priors")
    record = section.record.get("priors", "default")
    section.done()
    if isinstance(record, str):
        if record not in PRESETS:
            known = possible(record, PRESETS)
            section.note("priors", f"{record!r} is not a preset; {known}; or a table [model.priors.Psi]")
            return None
        return priors_from_dict(record)
    parts = record.items() if isinstance(record, dict) else [("", record)]
    before = len(section.problems)
    for part, value in parts:
        try:
            priors_from_dict({part: value} if part else value, "model.priors")
        except SpecificationError as error:
            section.problems.append(str(error))
    return priors_from_dict(record, "model.priors") if len(section.problems) == before else None


def read_impute(section: Section, model: str) -> ImputePlan:
    """The section [impute] for a type of model."""
    joint = model != "FCS"
    values = {
        "m": section.whole("m", least=1, most=100_000, why="the number of completed tables, such as m = 60"),
        "seed": section.whole("seed", why="a plan must be repeatable: give any whole number, as seed = 1"),
        "tune": section.whole("tune", None, least=0),
    }
    if joint:
        values |= {
            "chains": section.whole("chains", 4, least=1, most=1000),
            "draws": section.whole("draws", 1000, least=1),
            "thin": section.whole(
                "thin", 4 if model == "JointLatent" else 1, least=1
            ),  # as in their `impute`
            "sampler": section.text("sampler", "auto", SAMPLERS),
        }
    else:
        values["cycles"] = section.whole("cycles", None, least=1)
    section.done()
    m, chains, draws = (values.get(name) for name in ("m", "chains", "draws"))
    if m is not None and chains is not None and draws is not None and draws < (least := -(-m // chains)):
        section.note("draws", f"must be at least {least} for m = {m} from {chains} chains, not {draws}")
    cycles, tune = values.get("cycles"), values["tune"]
    if cycles is not None and tune is not None and tune >= cycles:
        section.note("tune", f"must be less than the {cycles} cycles, not {tune}")
    return ImputePlan(**values)


def check_analyses(model: ModelPlan, analyses: Sequence[AnalysisPlan], problems: list[str]) -> None:
    """A model made for the analyses of the plan: there is one, and the model can hold it."""
    if not model.for_analyses:
        return
    joint = model.type == "JointGLMM"
    if not analyses:
        what = "model.type: a JointGLMM" if joint else "model.congenial: such a model"
        problems.append(f"{what} imputes for the analyses of the plan; add [[analysis]]")
    other = 'the factors of a JointGLMM have none; use type = "FCS"'
    if not joint:
        other = "values that are drawn given an analysis take none; set congenial = false under [model]"
    refused = ("weights", "offset") if joint else ("weights", "offset", "link")
    for k, analysis in enumerate(analyses, 1):
        problems += [f"analysis[{k}].{key}: {other}" for key in refused if getattr(analysis, key) is not None]
    if model.derived and not joint:
        problems.append(
            "model.derived: not with congenial = true; write the expression in the formulas, as in I(a / b**2)"
        )
