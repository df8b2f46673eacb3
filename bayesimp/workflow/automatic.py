"""From a table to imputations in one call."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pandas as pd

from bayesimp.contract import ImputationModel
from bayesimp.diagnostics.convergence import glance
from bayesimp.errors import PACKAGE, DataError, SpecificationError, StatisticalWarning
from bayesimp.events import Event
from bayesimp.formulas.formula import parse
from bayesimp.imputation.result import Imputations
from bayesimp.joint.glmm.request import read_analyses
from bayesimp.layout import wrapped
from bayesimp.messages import listing
from bayesimp.table.cluster_level import ONE_ROW
from bayesimp.table.incomplete import IncompleteData
from bayesimp.table.missing_codes import MISSING_CODE
from bayesimp.table.spread import DIFFERS
from bayesimp.workflow.engine_models import OWN_OPTIONS, EngineRequest, check_known, engine_model
from bayesimp.workflow.engines import ENGINES, Choice, choose, facts_of, override
from bayesimp.workflow.residuals import with_residuals

__all__ = ["impute"]

DOUBTS = {  # events about imputed values that are printed, in these words
    "far outside": "Far outside the observed range",
    "impossible values": "Negative, though no observed value is",
    "outside the range": "Often outside the observed range",
    MISSING_CODE: "Values that may stand for missing ones, taken for real",
    DIFFERS: "Imputed with one residual variance, though clusters differ",
    ONE_ROW: "One row in every cluster",
    "whole numbers": "Whole numbers imputed as normal",
}


def impute(
    frame: Any,
    cluster: str | Sequence[str],
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
    """Impute a table by the engine that suits it and the analysis, and report which and why.

    The rule is in `bayesimp.workflow.engines.choose`, and the study behind it in docs/engines.md. In short: a joint
    normal model where all variables are normal and the analysis, if there is one, has plain terms; else the joint GLMM
    with an analysis, which is a factor of it; without, the joint model on latent normals where all incomplete variables
    are normal, binary, ordinal or nominal, and chained equations where they are not. These take all that is asked of
    them (``methods=``, ``predictors=``, ``bounds=``, ...). With several grouping factors,
    ``cluster=["school", "class"]``, it is the joint normal model, the joint GLMM or chained equations.

    Parameters
    ----------
    frame, cluster, families
        See `IncompleteData`.
    m, seed, progress
        See the ``impute`` of the engine.
    analysis
        The formula of the analysis for which tables are completed, ``"y ~ x * treat + (1 + x | study)"``, or several.
    family
        Family of the response of the analysis, such as ``"bernoulli"``, or of each response; by default as in `families`.
    engine
        ``"joint"`` (`JointNormal`), ``"latent"`` (`JointLatent`), ``"glmm"`` (`JointGLMM`) or ``"fcs"`` (`FCS`); None: by
        the rule.
    methods, predictors, cycles
        See `FCS`; giving one of them selects chained equations.
    options
        Options of the engine: ``formula``, ``priors``, ``shift``, ``chains``, ``tune`` and ``draws`` of joint models,
        ``reference`` of `JointNormal` and `JointLatent`, ``residual`` of `JointLatent` (by default ``"cluster"`` where
        the residual spread of a variable differs between clusters), and ``factors``, ``order``, ``effects`` and
        ``links`` of `JointGLMM`; those of `FCS`.
    show
        Print which engine was chosen and why, its models, and at the end one line: whether the chains have converged, and
        if not, what to do (`Imputations.summary` has it by parameter and cluster).

    Returns
    -------
    Imputations, with an event "engine" that states the engine and the reason, also in ``attrs`` and ``tree.attrs`` as
    ``engine`` and ``engine_reason``.

    Raises
    ------
    DataError, SpecificationError
        As for `IncompleteData` and the engines; or the engine cannot impute the table or lacks an option.

    Warns
    -----
    StatisticalWarning
        The chains do not mix, or their effective draws are too few to tell (with or without `show`). If they mix but
        draws are too few, this is only printed.

    Examples
    --------
    >>> imp = bi.impute(table, cluster="study", analysis="y ~ x * treat + (1 | study)", seed=1)     # doctest: +SKIP
    >>> imp = bi.impute(table, cluster="study", seed=1)                                             # doctest: +SKIP
    """
    if family is not None and analysis is None:
        raise SpecificationError(
            "family= refers to the response of analysis=; for other variables use families={'name': ...}."
        )
    given = {"methods": methods, "predictors": predictors, "cycles": cycles}
    own = {name: value for name, value in given.items() if value is not None} | options
    check_known(own)
    if analysis is not None:
        read_analyses(analysis, cluster if isinstance(cluster, str) else "cluster")
    responses = _response_families(analysis, family)
    data = IncompleteData(frame, cluster, dict(families or {}) | responses if responses else families)
    choice, model, settings = _chosen(data, analysis, engine, own)
    if show:
        print(f"{wrapped(str(choice))}\n{model}")
    model.events.append(Event("engine", choice.engine, str(choice)))
    imputations = model.impute(m, seed=seed, progress=progress, **settings)
    for attrs in (imputations.attrs, imputations.tree.attrs):
        attrs |= {"engine": choice.engine, "engine_reason": choice.reason}
    seen = glance(imputations)
    if show:
        for line in filter(None, (_to_look_at(imputations.events), seen.verdict)):
            print(wrapped(line))
    if seen.judged and not (seen.mixes and seen.told):
        warnings.warn(seen.verdict, StatisticalWarning, skip_file_prefixes=PACKAGE)
    return imputations


def _to_look_at(events: pd.DataFrame) -> str:
    """Which variables have imputed values that may be wrong, by kind of event; empty if none has."""
    found = {words: events.loc[events["kind"] == kind, "where"].unique() for kind, words in DOUBTS.items()}
    said = " ".join(f"{words}: {listing(names)}." for words, names in found.items() if len(names))
    return f"Check the imputed values; imp.events says what to do. {said}" if said else ""


def _chosen(
    data: IncompleteData, analysis: str | Sequence[str] | None, engine: str | None, own: Mapping[str, Any]
) -> tuple[Choice, ImputationModel, dict[str, Any]]:
    """The engine, its model and the options of its run.

    A joint model chosen by the rule may refuse the table for a reason that the rule does not check: coefficients that are
    not identified. Chained equations then impute the table if they can.
    """
    choice = _choice(data, analysis, engine, own)
    request = EngineRequest(data, analysis, own)
    try:
        if engine is None:
            choice, options = with_residuals(choice, data, own)
            return choice, *engine_model(choice.engine, replace(request, options=options))
        return choice, *engine_model(choice.engine, request)
    except (DataError, SpecificationError) as refused:
        if choice.engine not in ("joint", "latent") or engine is not None or analysis is not None or own:
            raise
        text = f"Engine 'fcs' (FCS), because {ENGINES[choice.engine]} refuses this table: {refused}"
        try:
            return Choice("fcs", text), *engine_model("fcs", request)
        except (DataError, SpecificationError):
            raise refused from None


def _choice(
    data: IncompleteData, analysis: str | Sequence[str] | None, engine: str | None, own: Mapping[str, Any]
) -> Choice:
    """The engine that the user named, that an option implies, or that the rule chooses."""
    if engine is not None:
        return override(engine, facts_of(data, analysis))
    for name, implied in OWN_OPTIONS.items():
        if name not in own:
            continue
        if implied == "fcs" and analysis is not None:
            raise SpecificationError(
                f"{name}= is an option of chained equations, but with analysis= a joint model imputes, which takes "
                "factors={'x': 'x ~ ...'}, draws= and tune=; for chained equations given the analysis, use engine='fcs'."
            )
        override(implied, facts_of(data, analysis))  # refuses an impossible choice
        return Choice(implied, f"Engine '{implied}', because {name}= is an option of this engine only.")
    return choose(facts_of(data, analysis))


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
