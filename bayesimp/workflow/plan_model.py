"""The imputation model of a plan, and how it is run: `[model]` and `[impute]`.

    [model]                            # one joint normal model: the default type
    formula = "written + course ~ gender + (1 | school)"

    [model]                            # the same with binary, ordinal and nominal variables among those of the formula
    type = "JointLatent"
    formula = "written + passed ~ gender + (1 | school)"

    [model]                            # a model for the analyses of the plan, each of which is a factor of it
    type = "JointGLMM"
    effects = "joint"                  # or "separate"
    analysis = ["mark ~ ses * gender + (1 | school)"]      # optional: for these formulas; links = { passed = "probit" }
    order = ["ses", "mark"]            # optional, as are formulas of covariates:
    [model.factors]
    ses = "ses ~ gender + (1 | school)"

    [model]                            # chained equations
    type = "FCS"
    methods = "bayes"                  # optional: one, or [model.methods] with one for each variable: plan_methods.py
    predictors = ["ses ~ . + (1 + mark | school)"]         # a formula, several, or [model.predictors] by variable
    order = "monotone"                 # optional, or a list of variables
    compatible = false                 # optional
    congenial = false                  # true: covariates are drawn given the analyses of the plan; or analysis = [...]
    [model.derived]
    bmi = "weight / height**2"

Shifts, reference arms, bounds and blocks: bayesimp/workflow/plan_options.py. With several grouping factors the formula of
a JointNormal or JointLatent names them, (1 | school) + (1 | class), and data.cluster lists their columns.

`[impute]` has m, seed and tune; for joint models chains, draws, thin and sampler as well, for chained equations cycles.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from bayesimp.errors import SpecificationError
from bayesimp.formulas.formula import Formula, parse
from bayesimp.priors import Priors
from bayesimp.priors.records import PRESETS, priors_from_dict
from bayesimp.sections import Section, possible
from bayesimp.workflow.plan_options import READERS
from bayesimp.workflow.plan_records import AnalysisPlan, ImputePlan, ModelPlan

__all__ = ["MODELS", "SAMPLERS", "check_analyses", "read_formula", "read_impute", "read_model"]

MODELS = ("JointNormal", "JointGLMM", "JointLatent", "FCS")
SAMPLERS = ("auto", "gibbs", "nuts")
OF_TYPE = {  # the options of each model in a plan, apart from priors; a test compares them with the models' arguments
    "JointNormal": ("formula", "reference", "shift"),
    "JointLatent": ("formula", "reference", "residual", "shift"),
    "JointGLMM": ("analysis", "factors", "order", "effects", "links", "shift"),
    "FCS": (
        "methods", "predictors", "analysis", "order", "blocks", "derived", "compatible", "bounds", "shift", "congenial",
    ),
}  # fmt: skip


def read_model(section: Section, clusters: Sequence[str]) -> ModelPlan:
    """The section [model]; clusters: the cluster columns of the table."""
    kind = section.text("type", "JointNormal", MODELS) or "JointNormal"
    for key in dict.fromkeys(key for keys in OF_TYPE.values() for key in keys):
        if key in OF_TYPE[kind] or key in section.known:
            continue
        section.known.append(key)
        if key in section.record:
            others = " or ".join(f'"{other}"' for other, keys in OF_TYPE.items() if key in keys)
            own = ", ".join(OF_TYPE[kind])
            section.note(key, f'is for type = {others}; a model of type "{kind}" takes {own} and priors')
    formula = _joint_formula(section, clusters) if "formula" in OF_TYPE[kind] else None
    given = {key: READERS[key](section, key) for key in OF_TYPE[kind] if key != "formula"}
    if given.get("congenial") and given.get("analysis") is not None:
        section.note(
            "congenial", "is for the analyses of the plan, but analysis names others; keep one of the two"
        )
    as_methods = kind == "FCS" and "priors" not in section.record  # each method has its own
    priors = _priors(section)
    # priors are None with a note as well, and a plan with notes is refused
    return ModelPlan(kind, formula, None if as_methods else cast(Priors, priors), **given)


def _joint_formula(section: Section, clusters: Sequence[str]) -> Formula | None:
    formula = read_formula(section, "written + course ~ gender + (1 | school)")
    if formula is None:
        return None
    if not formula.responses:
        section.note("formula", "has no variable to impute on the left of ~")
    named = ", ".join(map(repr, clusters))
    if len(clusters) > 1:
        for group in formula.groups:
            if group not in clusters:
                section.note(
                    "formula", f"groups by {group!r}, but data.cluster has {named}; make them the same"
                )
        if not formula.random:
            section.note("formula", f"needs a random part, such as (1 | {clusters[0]})")
        return formula
    if not formula.single_grouping:
        more = ""
        if formula.random:
            more = '; with several, data.cluster has the columns of all: cluster = ["school", "class"]'
        section.note(
            "formula", f"needs one random part on one column: (1 | {(*clusters, 'cluster')[0]}){more}"
        )
    elif clusters and formula.cluster != clusters[0]:
        section.note(
            "formula", f"groups by {formula.cluster!r}, but data.cluster is {named}; make them the same"
        )
    return formula


def read_formula(section: Section, example: str) -> Formula | None:
    """The formula of a section; None if it cannot be read, which is noted."""
    text = section.text("formula", why=f'such as formula = "{example}"')
    return section.checked("formula", lambda: parse(text)) if isinstance(text, str) else None


def _priors(section: Section) -> Priors | None:
    """The priors, each part read separately so that a problem in one does not hide problems in another."""
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
        "seed": section.whole(
            "seed", why="a plan must be repeatable: give any whole number, such as seed = 1"
        ),
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
    """Check that a model made for the analyses of the plan has an analysis, which it can hold."""
    if not model.for_analyses:
        return
    joint = model.type == "JointGLMM"
    if not analyses:
        what = "model.type: a JointGLMM" if joint else "model.congenial: such a model"
        problems.append(f"{what} imputes for the analyses of the plan; add [[analysis]]")
    other = 'the factors of a JointGLMM do not have it; use type = "FCS"'
    if not joint:
        other = "values drawn given an analysis do not take it; set congenial = false under [model]"
    refused = ("weights", "offset") if joint else ("weights", "offset", "link")
    for k, analysis in enumerate(analyses, 1):
        problems += [f"analysis[{k}].{key}: {other}" for key in refused if getattr(analysis, key) is not None]
    if model.derived and not joint:
        problems.append(
            "model.derived: not available with congenial = true; write the expression in the formulas, as in I(a / b**2)"
        )
