"""One model is imputed, analysed and pooled under several assumptions about missing values, all from the same seed.

docs/mathematics.md, section "Values missing not at random", says what a delta means in each engine, and from which rows
the parameters are estimated.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bayesimp.analysis.fit import Fits, fit_each
from bayesimp.analysis.named import analysis_and_options
from bayesimp.arguments import chosen, new_seed
from bayesimp.contract import ImputationModel, must_be_model
from bayesimp.errors import SpecificationError, StatisticalWarning
from bayesimp.events import Event
from bayesimp.imputation.result import Imputations
from bayesimp.kinds import check_keywords
from bayesimp.sensitivity_analysis.checks import as_events, check_analysis, interrupted
from bayesimp.sensitivity_analysis.deltas import (
    AT_RANDOM,
    Axis,
    DeltaScenario,
    read_axes,
    scenarios,
)
from bayesimp.sensitivity_analysis.mnar_tables import estimates, imputed_values
from bayesimp.sensitivity_analysis.not_at_random import NotAtRandom
from bayesimp.sensitivity_analysis.result import ReadOnly
from bayesimp.shift import WHERE

__all__ = ["mnar", "requested"]


@dataclass(frozen=True)
class MnarRequest:
    """The arguments of a not-at-random analysis, with which it can be extended by further scenarios (`extended`)."""

    model: ImputationModel
    analyses: Mapping[str, Any]
    by: str | None
    where: str
    m: int
    seed: int
    level: float
    fitting: Mapping[str, Any]
    impute: Mapping[str, Any]

    def models(self, axes: Sequence[Axis], asked: Sequence[DeltaScenario]) -> dict[str, ImputationModel]:
        """The imputation model of every scenario; impossible shifts are refused here, before anything is sampled."""
        return {s.name: self.model.with_shift(s.shift(axes, self.by, self.where)) for s in asked}

    def run(
        self, models: Mapping[str, ImputationModel], before: Imputations | None = None
    ) -> tuple[dict[str, Imputations], dict[str, dict[str, Fits]], list[tuple[str, Event]]]:
        """Imputations, fits and events by scenario; scenarios after an interrupted one are left out.

        before: imputations of another scenario of the request.
        """
        imputations: dict[str, Imputations] = {}
        fits: dict[str, dict[str, Fits]] = {}
        events: list[tuple[str, Event]] = []
        for name, model in models.items():
            if interrupted(imputations):
                events.append(
                    (name, Event("scenario left out", "run", "the run was interrupted before this scenario"))
                )
                continue
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always", StatisticalWarning)
                imp = self._impute(model, before)
                fits[name] = {label: self._fit(imp, analysis) for label, analysis in self.analyses.items()}
            imputations[name] = before = imp
            events += [(name, event) for event in (*imp.log, *as_events(caught))]
        return imputations, fits, events

    def _impute(self, model: ImputationModel, before: Imputations | None) -> Imputations:
        """Imputations of a scenario, given the parameters of an earlier scenario if they do not depend on the shift."""
        run = None if before is None else before.run
        again = None if run is None else run.shifted(model, self.m)
        return model.impute(self.m, seed=self.seed, **self.impute) if again is None else again

    def _fit(self, imp: Imputations, analysis: Any) -> Fits:
        one, own = analysis_and_options("", analysis)
        return fit_each(imp, one, **{**self.fitting, **own})

    def extended(self, result: NotAtRandom, further: Sequence[DeltaScenario]) -> NotAtRandom:
        """The same analysis with further scenarios; those that were left out stay so."""
        new = [s for s in further if s.name not in result.imputations]
        imputations, fits, events = self.run(self.models(result.axes, new), result.imputations[AT_RANDOM])
        whole = {**result.imputations, **imputations}
        asked = [s for s in (*result.scenarios, *new) if s.name in whole]
        return _result(self, result.axes, asked, result.combine, whole, {**result.fits, **fits},
                       [*result.log, *events])  # fmt: skip


def mnar(
    model: ImputationModel,
    delta: Mapping[str, Any],
    *,
    analysis: str | Callable | Mapping[str, Any],
    by: str | None = None,
    where: str = "missing",
    unit: str | Mapping[str, str] = "link",
    combine: str = "product",
    m: int = 60,
    seed: int | None = None,
    level: float = 0.95,
    family: str = "normal",
    reml: bool = True,
    **impute: Any,
) -> NotAtRandom:
    """Impute, analyse and pool with imputed values shifted away from their distribution under missing at random.

    Missing values are drawn as the model says, with delta added to their mean (normal variables) or linear predictor
    (others): delta adjustment, a pattern-mixture model. The first scenario, "at random", is the model itself, bit for
    bit.

    Parameters
    ----------
    model
        `FCS`, `JointNormal`, `JointLatent` or `JointGLMM`, without a shift of its own.
    delta
        Variable -> numbers, ``{"bsi": [0, -2, -4]}``; 0 is added where it is left out. One number instead of a list is a
        shift in every scenario except the first. For levels of a categorical variable:
        ``{"job": {"manual": [0, 0.5]}}``; a list moves all levels equally, relative to the first.
    analysis
        A formula or function as in `bayesimp.fit_each`, or several by name, each a formula, a function or
        ``{"analysis": ..., "family": ..., ...}``.
    by
        A complete column, such as studies or arms, with a delta for each value: ``{"bsi": {"drug": [0, -2]}}``; rows
        with values left out are not shifted. A list gives every value its own delta.
    where
        ``"missing"``: all missing values; ``"systematic"``: those of clusters in which the variable is never observed;
        ``"sporadic"``: the others.
    unit
        Unit of the numbers, for all variables or by variable. ``"link"``: the scale of the model (units of the data for
        normal variables, log odds or probit for binary and ordinal ones, log mean for counts and positive ones).
        ``"sd"``: standard deviations of the observed values (normal variables). ``"ratio"``: odds ratios or ratios of
        means; 1 means no shift.
    combine
        ``"product"``: all combinations of several deltas; ``"together"``: the first number of each, then the second, ...;
        ``"one at a time"``: each alone, with the others at 0.
    m, seed
        Imputations under each scenario, all from one seed (drawn if None), so that differences come from delta.
    level
        Level of the intervals.
    family, reml
        As in `bayesimp.fit_each`, for analyses without their own.
    **impute
        Passed on to ``model.impute``: cycles, chains, draws, ...

    Raises
    ------
    SpecificationError
        If the model does not impute or cannot shift a variable, its link does not have the unit, there are more than 200
        scenarios, or an analysis uses unknown columns. All of this is checked before anything is sampled.

    Examples
    --------
    >>> result = bi.mnar(model, {"bsi": [0, -2, -4]}, analysis="gose ~ bsi + (1 | study)", seed=1)    # doctest: +SKIP
    >>> print(result); result.plot(); print(result.tipping_point("bsi"))                              # doctest: +SKIP
    """
    request, axes, asked = requested(
        model,
        delta,
        analysis,
        by,
        where,
        unit,
        combine,
        m,
        seed,
        level,
        {"family": family, "reml": reml},
        impute,
    )
    imputations, fits, events = request.run(request.models(axes, asked))
    done = [s for s in asked if s.name in imputations]
    return _result(request, axes, done, combine, imputations, fits, events)


def requested(
    model: ImputationModel, delta: Mapping[str, Any], analysis: Any, by: str | None, where: str,
    unit: str | Mapping[str, str], combine: str, m: int, seed: int | None, level: float, fitting: Mapping[str, Any],
    impute: Mapping[str, Any],
) -> tuple[MnarRequest, tuple[Axis, ...], tuple[DeltaScenario, ...]]:  # fmt: skip
    """Check the arguments of `mnar` against the model and its table, and return request, axes and scenarios.

    Raises
    ------
    SpecificationError
        As `mnar`; shifts that the model cannot apply are refused by `MnarRequest.models`.
    """
    must_be_model(model, "mnar")
    if model.shift:
        raise SpecificationError(
            "mnar: the model already has a shift; give the model without it, and delta here."
        )
    if model.reference is not None:
        raise SpecificationError(
            "mnar: the model imputes by reference, so its first scenario would not be 'at random'. Give the model "
            "without it; for delta on top of a reference, impute model.with_shift(...) and analyse."
        )
    chosen(where, "where", WHERE)
    axes = read_axes(model, delta, by, where, unit)
    asked = scenarios(axes, combine)
    analyses = _analyses(analysis)
    for each in analyses.values():
        check_analysis(analysis_and_options("", each)[0], model.data, model.definitions())
    check_keywords(impute, mnar, model.impute, ("m", "seed"))
    fitting = {**fitting, "cluster": model.data.cluster}
    seed = new_seed() if seed is None else seed
    return MnarRequest(model, analyses, by, where, m, seed, level, fitting, dict(impute)), axes, asked


def _analyses(analysis: Any) -> dict[str, Any]:
    """Analyses by name; an analysis without a name is named by its formula or function."""
    if isinstance(analysis, Mapping):
        if not analysis:
            raise SpecificationError("analysis is empty; give a formula, or several formulas by name.")
        for name, each in analysis.items():
            analysis_and_options(name, each)
        return {str(name): each for name, each in analysis.items()}
    if not (isinstance(analysis, str) or callable(analysis)):
        raise SpecificationError(
            f"analysis must be a formula, a function, or several by name; got {analysis!r}."
        )
    return {analysis if isinstance(analysis, str) else getattr(analysis, "__name__", "analysis"): analysis}


def _result(
    request: MnarRequest,
    axes: tuple[Axis, ...],
    done: Sequence[DeltaScenario],
    combine: str,
    imputations: Mapping[str, Imputations],
    fits: Mapping[str, Mapping[str, Fits]],
    events: Sequence[tuple[str, Event]],
) -> NotAtRandom:
    variables = [axis.variable for axis in axes]
    return NotAtRandom(
        axes=axes,
        scenarios=tuple(done),
        combine=combine,
        table=estimates(fits, done, axes, request.level),
        imputed=imputed_values(imputations, request.model.masked, variables, request.by),
        imputations=ReadOnly(imputations),
        fits=ReadOnly(fits),
        log=tuple(events),
        request=request,
    )
