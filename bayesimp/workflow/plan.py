"""A plan: a whole imputation and its analyses as a TOML file, to be reviewed and archived before it is run.

    [data]
    file = "pupils.csv"                # .csv, .parquet or .feather; or example = "exam" | "brain_injury"
    cluster = "school"                 # several grouping factors: ["school", "class"]
    columns = ["school", "written"]    # optional: no other columns of the file are used

    [data.types]                       # optional: "string", "integer", "number", "boolean", "category", or the
    school = "string"                  # categories in order: ["low", "middle", "high"]; without an order:
                                       # { categories = ["a", "b"], ordered = false }

    [data.families]                    # optional, see bayesimp.families.columns
    absences = "poisson"

    [model]                            # type = "JointGLMM" and "FCS": bayesimp/workflow/plan_model.py
    formula = "written + course ~ gender + (1 | school)"
    priors = "default"                 # a preset, or a table [model.priors.Psi] with type = "InverseWishart"

    [impute]
    m = 60
    seed = 1                           # required: a plan must be repeatable

    [[analysis]]
    name = "science"
    formula = "written ~ course + gender + (1 | school)"
    # optional: family = "bernoulli", "binomial", "poisson" or "ordinal"; link; names of columns: trials, weights,
    # offset; quadrature = 20 (nodes, for these families with one random effect a cluster; 1 is Laplace's approximation)

    [mnar]                             # optional: bayesimp/workflow/plan_mnar.py
    delta = { course = [0, -5, -10] }  # the analyses again, with imputed values shifted

    [sensitivity]                      # optional: bayesimp/workflow/plan_sensitivity.py
    priors = ["default", "pan"]        # the analyses again, under each prior

    [report]                           # optional: bayesimp/workflow/plan_report.py
    file = "report.html"               # written at the end of the run

    [output]
    figures = true

A plan is data, never code. Formulas go through `bayesimp.formulas.formula.parse`, which knows a list of functions
and runs nothing. A relative ``file`` is looked for next to the plan or below, and may not leave that folder
with ``..``; a table elsewhere is named by its absolute path, which whoever reviews the plan can see. URLs are
not allowed. Everything is checked before anything is run, and all problems are reported at once.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any, cast

import pandas as pd

from bayesimp.errors import SpecificationError
from bayesimp.families.registry import analysis_names, family_of, known_names
from bayesimp.formulas.formula import Formula
from bayesimp.sections import REQUIRED, Section, possible
from bayesimp.workflow.plan_mnar import read_mnar
from bayesimp.workflow.plan_model import check_analyses, read_formula, read_impute, read_model
from bayesimp.workflow.plan_records import AnalysisPlan, DataPlan, ImputePlan, ModelPlan, OutputPlan, Plan
from bayesimp.workflow.plan_report import read_report
from bayesimp.workflow.plan_sensitivity import read_sensitivity

__all__ = [
    "AnalysisPlan",
    "DataPlan",
    "ImputePlan",
    "ModelPlan",
    "OutputPlan",
    "Plan",
    "plan_of",
    "read_plan",
]

EXAMPLES = ("exam", "brain_injury")
FORMATS = (".csv", ".parquet", ".feather")
TYPES = ("string", "integer", "number", "boolean", "category")
GENERALISED = analysis_names("laplace", "cumulative")
ANALYSIS_FAMILIES = (*analysis_names("linear"), *GENERALISED)
LINKS_OF_FAMILY = dict.fromkeys(ANALYSIS_FAMILIES, ()) | {  # none to choose where least squares fit
    name: tuple(family_of(name).links) for name in GENERALISED
}
WITH_TRIALS = tuple(name for name in GENERALISED if family_of(name).takes_trials)
ONE_FACTOR = analysis_names("cumulative")  # families that are not fitted with several grouping factors
ANALYSIS_LINKS = tuple(dict.fromkeys(link for links in LINKS_OF_FAMILY.values() for link in links))
# as in bayesimp.analysis, which this module must not import; a test compares them
MOST_NODES = 100
VARIANCE_SCALES = ("log", "sd", "variance", "median")
NAME = re.compile(r"[A-Za-z0-9_-]{1,60}")  # becomes part of file names


def read_plan(path: str | Path, with_table: bool = True) -> Plan:
    """Read and check a plan; with_table: whether its table must exist, which may be missing for a plan kept with its
    results.

    Raises
    ------
    SpecificationError
        The file cannot be read, or the plan is invalid: the message gives file, place, problem
        and possible values, for all problems at once.
    """
    path = Path(path)
    return plan_of(*_load(path), path, with_table)


def plan_of(text: str, record: dict[str, Any], path: Path, with_table: bool = True) -> Plan:
    """The plan of a text that was read as TOML; `path`: its actual or intended location."""
    problems: list[str] = []
    top = Section(record, "", problems)
    title = top.text("title", "")
    table = Section(top.table("data", why="it says where the table is"), "data", problems)
    data = _data(table, path, with_table)
    clusters = tuple(name for name in data.clusters if name)
    model = read_model(Section(top.table("model", why="it says how to impute"), "model", problems), clusters)
    runs = Section(top.table("impute", why="it says how many imputations"), "impute", problems)
    impute = read_impute(runs, model.type)
    analyses = _analyses(top, problems)
    check_analyses(model, analyses, problems)
    mnar = read_mnar(top, problems, bool(analyses))
    sensitivity = read_sensitivity(top, problems, analyses, impute.m)
    report = read_report(top, problems)
    output = _output(Section(top.table("output", {}), "output", problems))
    top.done()
    if analyses and impute.m == 1:
        problems.append("impute.m: must be at least 2 for analyses; one imputation cannot be pooled")
    if problems:
        some = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        raise SpecificationError("\n".join([f"{path}: {some}", *(f"  {problem}" for problem in problems)]))
    return Plan(path, text, title, data, model, impute, analyses, output, mnar, sensitivity, report)


def _load(path: Path) -> tuple[str, dict[str, Any]]:
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise SpecificationError(f"{path}: the plan cannot be read ({error.strerror or error}).") from None
    except UnicodeDecodeError:
        raise SpecificationError(
            f"{path}: the plan is not text in UTF-8. Save it in that encoding."
        ) from None
    try:
        return text, tomllib.loads(text)
    except (
        ValueError,
        RecursionError,
    ) as error:  # whole numbers of thousands of digits raise no TOMLDecodeError
        raise SpecificationError(
            f'{path}: not TOML: {error}. A plan has lines such as  seed = 1  and  formula = "y ~ x"  under '
            "headings such as  [impute]."
        ) from None


def _data(section: Section, plan: Path, with_table: bool) -> DataPlan:
    cluster, *further = _clusters(section)
    example = section.text("example", None, EXAMPLES)
    file = section.text("file", None)
    given = [key for key in ("file", "example") if key in section.record]
    if len(given) != 1:
        nothing = 'give file = "..." or example = "..."'
        section.note("", "file and example are both given; keep one" if given else nothing)
    families = section.table("families", {})
    for name, family in families.items():
        if not isinstance(family, str) or family.lower().partition("(")[0] not in known_names():
            section.note(f"families.{name}", f"{family!r} is not a family; {possible(family, known_names())}")
    types = section.table("types", {})
    for name, kind in types.items():
        _check_type(section, name, kind)
    plain = {name: _type(kind) for name, kind in types.items()}
    missing = section.list_of_texts("missing")
    separator, decimal = _character(section, "separator", ","), _character(section, "decimal", ".")
    if separator == decimal:
        section.note(
            "decimal", f"is {decimal!r}, the same as separator; fields and decimals need different characters"
        )
    columns = section.list_of_texts("columns")
    section.done()
    path = _file(section, file, plan, with_table) if file and not example else None
    return DataPlan(
        cluster, path, example, families, plain, missing, separator, decimal, columns, tuple(further)
    )


def _clusters(section: Section) -> list[Any]:
    """The cluster columns; [None] with a note if there are none."""
    if not isinstance(given := section.record.get("cluster"), list):
        return [section.text("cluster", why="name the column that holds the cluster of each row")]
    section.known.append("cluster")
    if not given or not all(isinstance(name, str) for name in given) or len(set(given)) < len(given):
        section.note("cluster", f"must be a column or a list of different columns, not {given!r}")
        return [None]
    return given


def _file(section: Section, file: str, plan: Path, with_table: bool) -> Path:
    path = Path(file)
    if path.suffix.lower() not in FORMATS:
        section.note("file", f"{file!r} has no known format; possible endings: {', '.join(FORMATS)}")
    elif not path.is_absolute() and ".." in path.parts:
        section.note(
            "file",
            f"{file!r} leaves the folder of the plan; put the table in or below that folder, or give an absolute path",
        )
    elif with_table and not (plan.parent / path).is_file():
        section.note("file", f"there is no file {plan.parent / path}")
    return (plan.parent / path).absolute()


def _type(kind: Any) -> Any:
    """The type of a column as a record: ordered categories as a tuple, others as a pandas categorical."""
    if isinstance(kind, list):
        return tuple(map(str, kind))
    if isinstance(kind, dict) and isinstance(kind.get("categories"), list):
        try:
            return pd.CategoricalDtype(kind["categories"], ordered=bool(kind.get("ordered", False)))
        except (TypeError, ValueError):
            return "category"  # invalid categories, which are noted
    return kind


def _check_type(section: Section, name: str, kind: Any) -> None:
    key = f"types.{name}"
    if isinstance(kind, dict):
        own = Section(kind, f"data.{key}", section.problems)
        categories, _ = (
            own.value_of("categories", list, REQUIRED, why='such as ["low", "high"]'),
            own.flag("ordered", False),
        )
        texts = list(map(str, categories or []))
        if "categories" in kind and (len(texts) < 1 or len(set(texts)) < len(texts)):
            own.note("categories", "must be different texts or numbers")
        own.done()
        return
    if isinstance(kind, list):
        if not all(isinstance(k, str) for k in kind) or len(kind) < 2 or len(set(kind)) < len(kind):
            section.note(key, 'a list must hold the categories in order, as different texts: ["low", "high"]')
    elif kind not in TYPES:
        section.note(
            key, f"{kind!r} is not a type; {possible(kind, TYPES)}, or the categories in order, [...]"
        )


def _character(section: Section, key: str, default: str) -> str:
    value = section.value_of(key, str, default)
    if len(value) != 1:
        section.note(key, f"must be one character, such as {default!r}, not {value!r}")
    return value


def _analyses(top: Section, problems: list[str]) -> tuple[AnalysisPlan, ...]:
    top.known.append("analysis")
    records = top.record.get("analysis", [])
    if isinstance(records, dict):
        top.note("analysis", "write [[analysis]], with two brackets: a plan can have several")
        return ()
    if not isinstance(records, list):
        top.note("analysis", "must be one or more tables [[analysis]]")
        return ()
    analyses = [
        _analysis(Section(record, f"analysis[{k}]", problems), k) for k, record in enumerate(records, 1)
    ]
    names = [analysis.name.lower() for analysis in analyses if analysis.name]
    for k, analysis in enumerate(analyses, 1):
        if analysis.name and analysis.name.lower() in names[: k - 1]:
            problems.append(
                f"analysis[{k}].name: {analysis.name!r} is taken; names become file names, so give another"
            )
    return tuple(analyses)


def _analysis(section: Section, number: int) -> AnalysisPlan:
    name = section.text("name", f"analysis{number}")
    if name and not NAME.fullmatch(name):
        section.note("name", f"{name!r} becomes part of file names: letters, digits, - and _ (at most 60)")
    formula = read_formula(section, "written ~ course + (1 | school)")
    if formula is not None and len(formula.responses) != 1:
        section.note("formula", "an analysis has one response on the left of ~")
    analysis = AnalysisPlan(
        name,
        cast(Formula, formula),  # None only with a note, and a plan with notes is refused
        family=section.text("family", "normal", ANALYSIS_FAMILIES),
        reml=section.flag("reml", True),
        variance_scale=section.text("variance_scale", "log", VARIANCE_SCALES),
        complete_case=section.flag("complete_case", True),
        link=section.text("link", None, ANALYSIS_LINKS),
        trials=section.text("trials", None), weights=section.text("weights", None), offset=section.text("offset", None),
        quadrature=section.whole("quadrature", 1, least=1, most=MOST_NODES),
    )  # fmt: skip
    _check_options(section, analysis)
    section.done()
    return analysis


def _check_options(section: Section, analysis: AnalysisPlan) -> None:
    """Note options that do not go with the family or formula, by the rules of `bayesimp.analysis.fit.fit_each`."""
    if analysis.family is None:
        return  # noted already
    links = LINKS_OF_FAMILY[analysis.family]
    if analysis.link is not None and analysis.link not in links:
        known = " or ".join(map(repr, links)) or "none to choose"
        section.note("link", f"family {analysis.family!r} has no link {analysis.link!r}; possible: {known}")
    if analysis.trials is not None and analysis.family not in WITH_TRIALS:
        section.note("trials", f"is for family 'binomial'; the family is {analysis.family!r}")
    if analysis.family in ONE_FACTOR and analysis.formula is not None and not _one_factor(analysis.formula):
        section.note("formula", f"family {analysis.family!r} is fitted with at most one grouping factor")
    if analysis.quadrature in (None, 1):
        return
    random = () if analysis.formula is None else analysis.formula.random
    if not links:
        discrete = ", ".join(name for name, has in LINKS_OF_FAMILY.items() if has)
        section.note(
            "quadrature", f"is for families {discrete}; family {analysis.family!r} is fitted without it"
        )
    elif analysis.formula is not None and not random:
        section.note("quadrature", "integrates over a random effect, but the formula has none; remove it")
    elif len(effects := [column for term in random for column in _effects(term.columns)]) > 1:
        section.note(
            "quadrature", f"is for one random effect per cluster, but the formula has {len(effects)} "
            f"({', '.join(effects)}); remove it, because Laplace's approximation fits any number",
        )  # fmt: skip


def _one_factor(formula: Formula) -> bool:
    """Whether the formula has at most one grouping factor."""
    return not formula.random or (formula.single_grouping and ":" not in formula.random[0].group)


def _effects(columns: str) -> list[str]:
    """The columns that a random term names, "1 + age"; a factor counts as one."""
    return ["Intercept" if part == "1" else part for part in columns.split(" + ") if part != "0"]


def _output(section: Section) -> OutputPlan:
    output = OutputPlan(
        section.flag("figures", True),
        section.flag("completed", True),
        section.text("format", "csv", ("csv", "parquet")),
    )
    section.done()
    return output
