"""From a table to imputations in one call."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from inspect import signature
from typing import Any

import numpy as np

from bayesimp.contract import ImputationModel
from bayesimp.diagnostics.convergence import glance
from bayesimp.errors import BayesimpError, SpecificationError, StatisticalWarning
from bayesimp.events import Event
from bayesimp.fcs.model import FCS
from bayesimp.formulas.formula import parse
from bayesimp.imputation.result import Imputations
from bayesimp.sections import possible
from bayesimp.table.cluster_level import of_clusters
from bayesimp.table.incomplete import IncompleteData

__all__ = ["impute"]

ENGINES = ("fcs", "glmm")


def impute(
    frame: Any,
    cluster: str,
    m: int = 20,
    *,
    analysis: str | Sequence[str] | None = None,
    family: str | Mapping[str, str] | None = None,
    engine: str | None = None,
    families: Mapping[str, str] | None = None,
    methods: Any = None,
    predictors: Any = None,
    cycles: int | None = None,
    seed: int | None = None,
    show: bool = True,
    progress: bool | None = None,
    **options: Any,
) -> Imputations:
    """Impute a table: for an analysis where one is given, otherwise by chained equations.

    With ``analysis=`` this is ``JointGLMM(data, analysis, **options).impute(m, ...)``: the analysis is a factor of the
    imputation model, so that its interactions, random slopes and nonlinear terms are in what is imputed. Without it, it
    is ``FCS(data, methods, predictors, **options).impute(m, ...)`` with methods chosen by family, level and number of
    observed clusters, and normal variables imputed jointly, in one block; terms like these are then not in the imputed
    values unless predictors name them.

    Parameters
    ----------
    frame, cluster, families
        See `IncompleteData`.
    m, seed, progress
        See `JointGLMM.impute` and `FCS.impute`.
    analysis
        The formula of the analysis that the completed tables are for, ``"y ~ x * treat + (1 + x | study)"``, or several.
    family
        Of the response of the analysis, ``"bernoulli"``, or of each response; those of `families` where left out.
    engine
        ``"glmm"`` or ``"fcs"``; None: "glmm" with an analysis, "fcs" without.
    methods, predictors, cycles
        See `FCS`; not with an analysis.
    options
        Of the engine: those of `FCS`, or ``factors``, ``order``, ``priors``, ``effects``, ``chains``, ``tune``, ``draws``
        of `JointGLMM`.
    show
        Print the models that were chosen, and why, and in the end one line: whether the chains have converged, and if
        not, what to do (`Imputations.summary` has it by parameter and cluster).

    Raises
    ------
    DataError, SpecificationError
        As `IncompleteData` and the engines; an option that the engine does not have.

    Warns
    -----
    StatisticalWarning
        The chains do not mix, whether `show` or not; that draws are too few, though they mix, is printed only.

    Examples
    --------
    >>> imp = bi.impute(table, cluster="study", analysis="y ~ x * treat + (1 | study)", seed=1)     # doctest: +SKIP
    >>> imp = bi.impute(table, cluster="study", seed=1)                                             # doctest: +SKIP
    """
    chosen = _engine(engine, analysis)
    if chosen == "glmm":
        given = {"methods": methods, "predictors": predictors, "cycles": cycles}
        model, settings = _glmm(frame, cluster, families, analysis, family, options, given)
    else:
        if family is not None:
            raise SpecificationError(
                "family= is that of the response of analysis=; of other variables, families={'name': ...}."
            )
        _check_options(options, FCS.__init__, "FCS", "tune and workers")
        data = IncompleteData(frame, cluster, families)
        model, settings = chained_equations(data, methods, predictors, **options), {"cycles": cycles}
    if show:
        print(f"{_reason(chosen, engine, analysis)}\n{model}")
    imputations = model.impute(m, seed=seed, progress=progress, **settings)
    seen = glance(imputations)
    if show:
        print(seen.verdict)
    if seen.judged and not seen.mixes:
        warnings.warn(seen.verdict, StatisticalWarning, stacklevel=2)
    return imputations


def _engine(engine: str | None, analysis: str | Sequence[str] | None) -> str:
    if engine is not None and engine not in ENGINES:
        raise SpecificationError(f"engine must be 'fcs', 'glmm' or None, got {engine!r}.")
    if engine == "fcs" and analysis is not None:
        raise SpecificationError(
            "engine='fcs' imputes without regard to an analysis: leave analysis= out and name its terms in predictors=, "
            "or leave engine= out."
        )
    if engine == "glmm" and analysis is None:
        raise SpecificationError(
            "engine='glmm' needs the analysis: analysis='y ~ x + (1 | cluster)' is a factor of the imputation model."
        )
    return engine or ("fcs" if analysis is None else "glmm")


def _reason(chosen: str, engine: str | None, analysis: str | Sequence[str] | None) -> str:
    """One sentence: which engine, and why."""
    if engine is not None:
        return f"Engine '{chosen}', as asked for."
    if chosen == "glmm":
        return "Engine 'glmm', because an analysis is given: it is a factor of the imputation model."
    return (
        "Engine 'fcs', because no analysis is given. If the analysis has an interaction, a random slope or a nonlinear "
        "term, give it: analysis='...'."
    )


def chained_equations(
    data: IncompleteData, methods: Any = None, predictors: Any = None, **options: Any
) -> FCS:
    """Chained equations, with the normal variables that have the default method in one joint block.

    One by one, each would need the cluster means of the others to carry their association between clusters, and few
    clusters do not identify these coefficients: with 15 of them the between-cluster variance of an analysis came out 1.5
    times that of the joint model (benchmarks/FEW_CLUSTERS.md). A block has one Psi for it.
    """
    # a block has no predictors of its own, and none that are derived from its variables
    chosen = predictors is not None or "blocks" in options or "derived" in options
    together = [] if chosen else _normal_variables(data, methods)
    if len(together) < 2 or not _seen_together(data, together):
        return FCS(data, methods, predictors, **options)
    name = next(n for n in ("normal", "normal variables", "all normal variables") if n not in data.variables)
    try:
        return FCS(data, methods, predictors, blocks={name: together}, **options)
    except BayesimpError as refused:
        model = FCS(data, methods, predictors, **options)
        text = f"imputed one by one, because one block for all of them is refused: {refused}"
        model.events.append(Event("by default", ", ".join(together), text, len(together)))
        return model


def _normal_variables(data: IncompleteData, methods: Any) -> list[str]:
    """Incomplete normal variables of rows for which no method is named, and that several clusters inform."""
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
    """Whether each two of the variables are observed in one row somewhere; otherwise their covariance is the prior."""
    seen = np.column_stack([~data.missing(name) for name in names]).astype(float)
    return bool((seen.T @ seen > 0).all())


def _glmm(
    frame: Any,
    cluster: str,
    families: Mapping[str, str] | None,
    analysis: Any,
    family: str | Mapping[str, str] | None,
    options: Mapping[str, Any],
    given: Mapping[str, Any],
) -> tuple[ImputationModel, dict[str, Any]]:
    """The joint GLMM, and options of its run."""
    from bayesimp.joint.glmm.model import JointGLMM

    unused = [name for name, value in given.items() if value is not None]
    if unused:
        raise SpecificationError(
            f"{unused[0]}= is an option of chained equations, and with analysis= the joint GLMM imputes; it takes "
            "factors={'x': 'x ~ ...'}, draws= and tune=."
        )
    runs = {name: value for name, value in options.items() if name in ("chains", "tune", "draws")}
    models = {name: value for name, value in options.items() if name not in runs}
    _check_options(models, JointGLMM.__init__, "JointGLMM", "workers")
    declared = dict(families or {}) | _response_families(analysis, family)
    return JointGLMM(IncompleteData(frame, cluster, declared or None), analysis, **models), runs


def _response_families(analysis: Any, family: str | Mapping[str, str] | None) -> dict[str, str]:
    """Families of the responses of analyses."""
    if family is None or isinstance(family, Mapping):
        return dict(family or {})
    texts = (analysis,) if isinstance(analysis, str) else tuple(analysis)
    responses = list(dict.fromkeys(name for text in texts for name in parse(text).responses))
    if len(responses) != 1:
        raise SpecificationError(
            f"family={family!r} for {len(responses)} responses: give one each, family={{'y': 'bernoulli', ...}}."
        )
    return {responses[0]: family}


def _check_options(options: Mapping[str, Any], takes: Callable, name: str, others: str) -> None:
    known = list(signature(takes).parameters)[2:]
    for option in options:
        if option not in known:
            raise SpecificationError(
                f"impute: {option!r} is no option of {name}; {possible(option, known)}. Options of a run, as {others}, "
                f"are for two steps: bi.{name}(bi.IncompleteData(table, cluster='...')).impute(m, tune=...)."
            )
