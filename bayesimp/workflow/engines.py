"""The rule that chooses the engine for a table, from facts about the table and its analyses.

The rule rests on a simulation study (benchmarks/ENGINE_CHOICE.md, docs/engines.md): among the engines that can take a
table and imply the analysis, it takes the best ones that the study could not distinguish, and of these the fastest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from bayesimp.errors import SpecificationError
from bayesimp.families.registry import family_of
from bayesimp.formulas.formula import Formula, parse, signed
from bayesimp.formulas.syntax import Name, Number, read, write
from bayesimp.joint.latent.variables import KINDS, MOST_COLUMNS
from bayesimp.table.incomplete import IncompleteData
from bayesimp.workflow.default_formula import ONE_VALUE, sides

__all__ = ["ENGINES", "Choice", "Facts", "choose", "facts_of", "obstacle", "override"]

ENGINES = {"joint": "JointNormal", "latent": "JointLatent", "glmm": "JointGLMM", "fcs": "FCS"}
MOST_BY_RULE = 12  # columns of the joint model on latent normals; more only on request (docs/engines.md)
HINT = " If the analysis has an interaction, a random slope or a nonlinear term, pass it: analysis='...'."


@dataclass(frozen=True)
class Facts:
    """The facts about a table that the rule uses.

    Attributes
    ----------
    incomplete
        Incomplete variable -> its family.
    complete
        Complete variable that varies within clusters -> its family; variables that only name rows are left out.
    unfit
        Incomplete variable -> why no joint model imputes it: "is observed in one cluster only".
    groups
        Incomplete variables with a single value in each cluster, which `JointLatent` includes in its model.
    columns
        Latent variables of the joint model: one per variable on its left side, for nominal variables one per level
        but the first.
    clusters
        Number of clusters.
    analysis
        Whether analyses are given.
    responses
        Response of an analysis -> family.
    terms
        Their terms that a joint model with random intercepts does not imply: products, functions, random slopes.
    factors
        Cluster columns besides the primary one.
    """

    incomplete: Mapping[str, str]
    complete: Mapping[str, str] = field(default_factory=dict)
    unfit: Mapping[str, str] = field(default_factory=dict)
    groups: tuple[str, ...] = ()
    columns: int = 1
    clusters: int = 30
    analysis: bool = False
    responses: Mapping[str, str] = field(default_factory=dict)
    terms: tuple[str, ...] = ()
    factors: tuple[str, ...] = ()


@dataclass(frozen=True)
class Choice:
    """An engine, by its name in `ENGINES`, and the reason in one sentence."""

    engine: str
    reason: str

    def __str__(self) -> str:
        return self.reason


def choose(facts: Facts) -> Choice:
    """The engine for a table.

    The joint normal model where all variables that vary within clusters are normal (complete counts and the like are
    conditioned on) and the analysis, if there is one, has nothing that such a model does not imply. Otherwise the joint
    GLMM with an analysis, which is a factor of it; without, the joint model on latent normals where it takes all
    variables, and chained equations where it does not. With several grouping factors the model on latent normals is not
    chosen, because no study has compared it with chained equations.
    """
    against = _richer(facts) or _not_normal(facts) or obstacle("joint", facts)
    hint = "" if facts.analysis else HINT
    if against is None:
        why = "one covariance matrix within clusters and one between clusters describe all their associations"
        analysis = ", including those of the analysis" if facts.analysis else ""
        return Choice(
            "joint",
            f"Engine 'joint' (JointNormal), because all row-level variables are normal: {why}{analysis}.{hint}",
        )
    if facts.analysis:
        return Choice(
            "glmm",
            f"Engine 'glmm' (JointGLMM), because {against}, and an analysis is given, which is a factor of this model.",
        )
    if facts.factors:
        return Choice(
            "fcs",
            f"Engine 'fcs' (FCS), because {against}, and with several grouping factors, here {_and(facts.factors)} "
            "besides the clusters, no study has compared it with the joint model on latent normals "
            f"(engine='latent').{hint}",
        )
    without = obstacle("latent", facts) or _wide(facts)
    if without is None:
        how = (
            "this joint model imputes it once in each, by its covariance with the cluster effects of the others"
            if _not_normal(facts) is None
            else "levels are cut from latent normals, whose covariance matrices within and between clusters describe "
            "all associations"
        )
        return Choice("latent", f"Engine 'latent' (JointLatent), because {against}: {how}.{hint}")
    return Choice(
        "fcs",
        f"Engine 'fcs' (FCS), because {without}, and chained equations take every family and level.{hint}",
    )


def _wide(facts: Facts) -> str | None:
    """Why a joint model on latent normals would be slow (the cost of an iteration is cubic in its columns); None if it
    would not."""
    if facts.columns <= MOST_BY_RULE:
        return None
    return f"{facts.columns} variables and levels make a joint model on latent normals slow"


def _not_normal(facts: Facts) -> str | None:
    """Which variables of a possible joint model are not normal: responses, and complete variables with levels."""
    complete = {name: family for name, family in facts.complete.items() if family in KINDS}
    every = {**complete, **facts.incomplete, **facts.responses}
    other = [f"'{name}' ({family})" for name, family in every.items() if not family_of(family).is_normal]
    return f"{_and(other)} {'is' if len(other) == 1 else 'are'} not normal" if other else None


def obstacle(engine: str, facts: Facts) -> str | None:
    """Why an engine cannot impute a table, with the variables or terms concerned; None if it can."""
    if engine == "fcs":
        return None
    if engine == "glmm":
        return None if facts.analysis else "no analysis is given, which the joint GLMM needs as a factor"
    if not facts.incomplete:
        return "no variable is incomplete"
    takes, lacks = (
        (["normal"], "not normal") if engine == "joint" else (list(KINDS), "without a latent normal")
    )
    need = {**facts.incomplete, **{name: f for name, f in facts.responses.items() if f not in KINDS}}
    if other := [f"'{name}' ({family})" for name, family in need.items() if family not in takes]:
        return f"{_and(other)} {'is' if len(other) == 1 else 'are'} {lacks}"
    if engine == "joint" and facts.groups:
        return _and([f"'{name}' {ONE_VALUE}" for name in facts.groups])
    if facts.unfit:
        return _and([f"'{name}' {why}" for name, why in facts.unfit.items()])
    if facts.columns > MOST_COLUMNS:
        return f"the table has {facts.columns} variables and levels, but a joint model takes at most {MOST_COLUMNS}"
    return _richer(facts)


def _richer(facts: Facts) -> str | None:
    """The terms of the analysis that a joint model with random intercepts does not imply, in words."""
    if not facts.terms:
        return None
    return f"the analysis has {_and(facts.terms)}, which a joint normal model does not imply"


def override(engine: str, facts: Facts) -> Choice:
    """The engine that the user requested.

    Raises
    ------
    SpecificationError
        There is no such engine, or it cannot impute this table; the message names the variables or terms.
    """
    if engine not in ENGINES:
        raise SpecificationError(f"engine must be {', '.join(map(repr, ENGINES))} or None, got {engine!r}.")
    against = obstacle(engine, facts)
    if against is not None:
        instead = "glmm" if facts.analysis else "fcs"
        cure = (
            "give it, analysis='y ~ x + (1 | cluster)', or omit engine="
            if engine == "glmm"
            else f"omit engine=, or use engine='{instead}', which takes every family and level"
        )
        raise SpecificationError(f"engine='{engine}' cannot impute this table: {against}; {cure}.")
    return Choice(engine, f"Engine '{engine}' ({ENGINES[engine]}), as requested.")


def facts_of(data: IncompleteData, analysis: str | Sequence[str] | None = None) -> Facts:
    """The facts about a table and its analyses that the rule uses."""
    model = sides(data, latent=True)
    formulas = [
        parse(a) for a in ([] if analysis is None else [analysis] if isinstance(analysis, str) else analysis)
    ]
    responses = [name for formula in formulas for name in formula.responses if name in data.variables]
    own = {name: data.variable(name).distribution.name for name in data.variables}
    columns = sum(
        data.variable(name).distribution.predictors(len(data.variable(name).levels)) for name in model.left
    )
    return Facts(
        {
            name: own[name]
            for name in data.variables
            if name in model.refused or (name in model.left and name not in model.complete)
        },
        {name: own[name] for name in model.complete},
        {name: why for name, why in model.refused.items() if why},
        model.groups,
        columns,
        len(data.clusters),
        analysis is not None,
        {name: own[name] for name in responses},
        tuple(
            dict.fromkeys(
                term for formula in formulas for term in _not_implied(formula, data.cluster_columns)
            )
        ),
        data.cluster_columns[1:],
    )


def _not_implied(formula: Formula, clusters: Sequence[str]) -> list[str]:
    """Terms other than columns and their cluster means, and random terms other than intercepts of the clusters."""
    nodes = [node for _, node in signed(read(formula.fixed))]
    means = {f"cluster_mean({name})" for name in formula.variables}
    terms = [write(node) for node in nodes if not isinstance(node, Name | Number)]
    random = [
        f"({term.columns} | {term.group})"
        for term in formula.random
        if term.columns != "1" or term.names not in [(cluster,) for cluster in clusters]
    ]
    return [term for term in terms if term not in means] + random


def _and(words: Sequence[str], most: int = 5) -> str:
    """The first words joined by "and", with the number of further ones."""
    if len(words) > most:
        words = [*words[:most], f"{len(words) - most} more"]
    return ", ".join(words[:-1]) + (" and " if len(words) > 1 else "") + words[-1]
