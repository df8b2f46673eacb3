"""The model of each engine for a table, made from the arguments of `bi.impute`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from inspect import signature
from typing import Any

import numpy as np

from bayesimp.contract import ImputationModel
from bayesimp.errors import BayesimpError, SpecificationError
from bayesimp.events import Event
from bayesimp.fcs.model import FCS
from bayesimp.formulas.combinations import contradiction
from bayesimp.messages import listing
from bayesimp.sections import possible
from bayesimp.table.cluster_level import of_clusters
from bayesimp.table.incomplete import IncompleteData
from bayesimp.workflow.default_formula import COMBINATION, joint_formula, sides

__all__ = ["OWN_OPTIONS", "EngineRequest", "chained_equations", "check_known", "engine_model"]

RUNS = ("chains", "tune", "draws")  # options of a run of a joint model
OWN_OPTIONS = {  # options that only one engine has
    **dict.fromkeys(("methods", "predictors", "cycles", "blocks", "derived", "compatible", "bounds", "post", "where",
                     "ignore"), "fcs"),
    **dict.fromkeys(("factors", "effects", "links"), "glmm"),
}  # fmt: skip
NO_REFERENCE = (
    "JointNormal (engine='joint') and JointLatent (engine='latent') have it, for normal, binary, ordinal and nominal "
    "visits. A short count can be declared 'ordinal'; bi.mnar shifts values of every family."
)

OF_ANALYSES = {  # option of `fit_each` -> what does for imputation what it does for the analysis
    "offset": "For imputation, make the offset a covariate, analysis='y ~ x + log_exposure + (1 | cluster)': its "
    "coefficient is estimated, and is 1 where the offset is right.",
    "trials": "For imputation, declare the response, families={'y': 'binomial(10)'}.",
    "weights": "No imputation model takes weights; variables on which they depend may be covariates of it.",
    "link": "For imputation, choose it by variable, links={'y': 'probit'}.",
    "quadrature": "Imputation draws cluster effects, and integrates nothing.",
    "reml": "Imputation draws variances from their posterior.",
}


@dataclass(frozen=True)
class EngineRequest:
    """The table, the analyses for which it is imputed, and options by name."""

    data: IncompleteData
    analysis: str | Sequence[str] | None = None
    options: Mapping[str, Any] = field(default_factory=dict)


def engine_model(engine: str, request: EngineRequest) -> tuple[ImputationModel, dict[str, Any]]:
    """The model of an engine, and the options of its run.

    Raises
    ------
    DataError, SpecificationError
        As for the engine, or an option is not one of its options.
    """
    if engine == "fcs":
        settings = {name: value for name, value in request.options.items() if name == "cycles"}
        options = {name: value for name, value in request.options.items() if name != "cycles"}
        _check_options(options, FCS.__init__, "FCS", "tune and workers")
        given = {} if request.analysis is None else {"analysis": request.analysis}
        return chained_equations(request.data, **given, **options), settings
    settings = {name: value for name, value in request.options.items() if name in RUNS}
    options = {name: value for name, value in request.options.items() if name not in RUNS}
    if engine == "glmm":
        from bayesimp.joint.glmm.model import JointGLMM

        _check_options(options, JointGLMM.__init__, "JointGLMM", "workers")
        assert request.analysis is not None  # otherwise the engine is refused
        model: ImputationModel = JointGLMM(request.data, request.analysis, **options)
    else:
        model = _joint(request.data, engine == "latent", options)
    model.events.extend(_unread(request.data))
    return model, settings


def _unread(data: IncompleteData) -> list[Event]:
    """An event for each variable that no model reads: dates, lists, mixed types, and those declared 'none'."""
    out = []
    for name in data.variables:
        if not data.variable(name).distribution.is_imputable:
            holes = int(data.missing(name).sum())
            stays = f" {holes:,} cells stay missing." if holes else ""
            text = (
                f"'{name}' has type {data.frame[name].dtype} (family 'none') and is neither imputed nor a predictor."
                f"{stays} Models read numbers, texts and categories; of a date, for example, the days since another"
            )
            out.append(Event("not used", name, text, max(holes, 1)))
    return out


def check_known(options: Iterable[str]) -> None:
    """Refuse an option that no engine has, and suggest the name that may have been meant."""
    from bayesimp.joint.glmm.model import JointGLMM
    from bayesimp.joint.latent.model import JointLatent
    from bayesimp.joint.normal import JointNormal

    kinds = (FCS, JointGLMM, JointLatent, JointNormal)
    known = [
        *OWN_OPTIONS,
        *RUNS,
        *(name for kind in kinds for name in list(signature(kind.__init__).parameters)[2:]),
    ]
    for option in options:
        if option in OF_ANALYSES:
            raise SpecificationError(
                f"impute: {option!r} is an option of analyses, not of imputation: give it to imp.analyse(...). "
                f"{OF_ANALYSES[option]}"
            )
        if option not in known:
            raise SpecificationError(
                f"impute: {option!r} is not an option of any engine; {possible(option, list(dict.fromkeys(known)))}."
            )


def _joint(data: IncompleteData, latent: bool, options: Mapping[str, Any]) -> ImputationModel:
    """The joint model of a whole table; an event names the columns that are left out."""
    from bayesimp.joint.latent.model import JointLatent
    from bayesimp.joint.normal import JointNormal

    kind: type[JointLatent | JointNormal] = JointLatent if latent else JointNormal
    _check_options(options, kind.__init__, kind.__name__, "workers")
    given = {"formula": joint_formula(data, latent=latent)} | dict(options)
    model = kind(data, **given)
    left_out = () if "formula" in options else sides(data, latent=latent).left_out
    if left_out:
        text = (
            f"not in the model: {listing(left_out)} (columns that have a single value, name rows or clusters, have many "
            "levels, or are linear combinations of others)"
        )
        model.events.append(Event("predictors", "by default", text, len(left_out)))
    return model


def chained_equations(
    data: IncompleteData, methods: Any = None, predictors: Any = None, **options: Any
) -> FCS:
    """Chained equations, with the normal variables that use the default method in one joint block.

    Imputed one by one, each would need the cluster means of the others to carry their association between clusters, and
    few clusters do not identify these coefficients: with 15 clusters the between-cluster variance of an analysis was 1.5
    times that of the joint model (benchmarks/FEW_CLUSTERS.md). A block has one Psi for this association.
    """
    # a block has no predictors of its own, and none that are derived from its variables
    # nor effects of several grouping factors
    chosen = (
        predictors is not None or "blocks" in options or "derived" in options or len(data.cluster_columns) > 1
    )
    together = [] if chosen else _normal_variables(data, methods)
    if len(together) < 2 or not _seen_together(data, together):
        return FCS(data, methods, predictors, **options)
    for name, why in sides(data, latent=True).refused.items():
        if why == COMBINATION and name in together:
            raise SpecificationError(contradiction(data, name))
    name = next(n for n in ("normal", "normal variables", "all normal variables") if n not in data.variables)
    try:
        return FCS(data, methods, predictors, blocks={name: together}, **options)
    except BayesimpError as refused:
        model = FCS(data, methods, predictors, **options)
        text = f"imputed one by one, because a block of all of them is refused: {refused}"
        model.events.append(Event("by default", ", ".join(together), text, len(together)))
        return model


def _normal_variables(data: IncompleteData, methods: Any) -> list[str]:
    """Incomplete normal row-level variables without a named method that are observed in several clusters."""
    if methods is not None and not isinstance(methods, Mapping):
        return []
    named = set(methods or ())
    return [
        name
        for name in data.variables
        if name not in named
        and data.variable(name).distribution.is_normal
        and data.missing(name).any()
        and len(np.unique(data.codes[~data.missing(name)])) > 1
        and not of_clusters(data, name)
    ]


def _seen_together(data: IncompleteData, names: Sequence[str]) -> bool:
    """Whether every pair of the variables is observed together in some row; otherwise their covariance rests on the
    prior."""
    seen = np.column_stack([~data.missing(name) for name in names]).astype(float)
    return bool((seen.T @ seen > 0).all())


def _check_options(options: Mapping[str, Any], takes: Callable, name: str, others: str) -> None:
    known = list(signature(takes).parameters)[2:]
    for option in options:
        if option == "reference" and option not in known:
            raise SpecificationError(f"impute: reference= is not an option of {name}: {NO_REFERENCE}")
        if option not in known:
            raise SpecificationError(
                f"impute: {option!r} is not an option of {name}; {possible(option, known)}. Options of a run, such as "
                f"{others}, need two steps: bi.{name}(bi.IncompleteData(table, cluster='...')).impute(m, tune=...)."
            )
