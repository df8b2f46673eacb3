"""Impute, analyse and pool again, interactively, under another prior or another delta than the plan has.

This module computes numbers; `bayesimp.workflow.explore_page` shows them. For the between-cluster covariance Psi,

    half-t            sd_k ~ half-t(nu, scale sd(y_k))              `bayesimp.priors.HuangWand`
    inverse-Wishart   Psi_kk ~ IW(nu, 1 / (nu (scale sd(y_k))^2))   `bayesimp.priors.InverseWishart`, marginal

where ``nu`` are degrees of freedom and ``scale`` is a multiple of the standard deviation of each variable. The second
prior is located at the same scale: 1 / Psi_kk has mean 1 / (scale sd(y_k))^2. A delta is added on the scale of the link,
as in `bayesimp.mnar`.
"""

from __future__ import annotations

import time
import tomllib
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bayesimp import priors as pr
from bayesimp.analysis.fit import Fits, fit_each
from bayesimp.contract import ImputationModel
from bayesimp.errors import BayesimpError, SpecificationError, StatisticalWarning
from bayesimp.imputation.result import Imputations
from bayesimp.priors.records import priors_to_dict
from bayesimp.sensitivity_analysis.tables import pooled_table
from bayesimp.shift import Shift
from bayesimp.workflow.plan import plan_of, read_plan
from bayesimp.workflow.plan_methods import priors_to_plan
from bayesimp.workflow.plan_records import AnalysisPlan
from bayesimp.workflow.prepare import Prepared, prepare
from bayesimp.workflow.toml import as_toml

__all__ = ["BASELINE", "PLANNED", "SHOWN", "Answer", "Assumption", "Delta", "Exploration", "open_plan"]

PLANNED, HALF_T, INVERSE_WISHART = "as planned", "half-t", "inverse-Wishart"
BASELINE, SHOWN = "as planned", "as shown"  # rows of tables and figures
WIDEST = 2.0  # standard deviations of the observed values, in either direction
WIDEST_LINK = 2.0  # the same on the scale of a logit, probit or log link
STEPS = 20  # in either direction


@dataclass(frozen=True)
class Assumption:
    """What is assumed instead of the plan: the prior of Psi, and a delta for each variable.

    Attributes
    ----------
    family
        ``"as planned"``, ``"half-t"`` or ``"inverse-Wishart"``.
    nu, scale
        Degrees of freedom, and a multiple of the standard deviation of each variable; not used for ``"as planned"``.
    delta
        Variable -> number on the scale of its link; 0 for variables left out.
    """

    family: str = PLANNED
    nu: float = 2.0
    scale: float = 1.0
    delta: Mapping[str, float] = field(default_factory=dict)

    @property
    def prior(self) -> tuple[Any, ...]:
        """What the prior depends on."""
        return (PLANNED,) if self.family == PLANNED else (self.family, self.nu, self.scale)


@dataclass(frozen=True)
class Delta:
    """A variable whose imputed values can be shifted.

    Attributes
    ----------
    name, link
        The variable, and the scale of the numbers (`bayesimp.contract.ImputationModel.shift_link`).
    planned
        The delta of the plan.
    most, step
        The largest number in either direction, and the distance between numbers.
    refused
        Why its values cannot be shifted; empty if they can.
    """

    name: str
    link: str
    planned: float
    most: float
    step: float
    refused: str = ""


@dataclass(frozen=True)
class Answer:
    """Imputations under an assumption, the analysis of each table, and the pooled results.

    Attributes
    ----------
    table
        Coefficients and variance components as planned and as shown, as in `bayesimp.sensitivity`: estimate, interval,
        ``change`` in standard errors of the planned estimate, Monte Carlo error ``mc.error``.
    seconds
        Time for imputing, fitting and pooling.
    warnings
        Statistical warnings raised meanwhile.
    """

    assumption: Assumption
    analysis: str
    model: ImputationModel
    imputations: Imputations
    fits: Fits
    table: pd.DataFrame
    seconds: float
    warnings: tuple[str, ...]

    @property
    def pooled(self) -> Any:
        """Pooled coefficients."""
        return self.fits.pool()


class Exploration:
    """A plan with its own answer, and with answers under other assumptions.

    Parameters
    ----------
    ready
        The plan with its table and model.

    Raises
    ------
    SpecificationError
        The plan has no analysis, or a shift by group, level or kind of missing value.
    """

    def __init__(self, ready: Prepared) -> None:
        if not ready.plan.analyses:
            raise SpecificationError(
                f"{ready.plan.path}: explore shows how far the answers of analyses move; add an [[analysis]]."
            )
        own = ready.plan.model.shift
        if own is not None and (own.group is not None or own.where != "missing" or _nested(own)):
            raise SpecificationError(
                f"{ready.plan.path}: explore moves each variable by one number, and model.shift differs by group, by "
                "level or by which values are missing; leave it out, or compare such shifts under [mnar]."
            )
        self.ready = ready
        # by prior: the planned one, (), and the latest other one
        self._last: dict[tuple[Any, ...], Imputations] = {}
        self._planned: dict[str, Fits] = {}  # by analysis

    # --- what can be changed ----------------------------------------------------------------------

    @property
    def analyses(self) -> tuple[str, ...]:
        """Names of the analyses."""
        return tuple(analysis.name for analysis in self.ready.plan.analyses)

    @cached_property
    def planned(self) -> Assumption:
        """The assumption of the plan; a prior that is a half-t is described as one."""
        deltas = {each.name: each.planned for each in self.deltas if each.planned}
        prior = _common(self.ready)
        Psi = None if prior is None else prior.Psi
        if isinstance(Psi, pr.HuangWand) and Psi.times_sd is not None and np.ndim(Psi.times_sd) == 0:
            return Assumption(HALF_T, float(Psi.nu), float(Psi.times_sd), deltas)
        return Assumption(PLANNED, delta=deltas)

    @cached_property
    def families(self) -> tuple[str, ...]:
        """The families of priors of Psi available for this model."""
        own = (PLANNED,) if self.planned.family == PLANNED else ()
        try:
            half_t = self.ready.model.with_priors(self._half_t(2.0, 1.0))
        except BayesimpError:
            return (PLANNED,)
        one = isinstance(half_t.parameter_priors.get("Psi"), pr.HuangWand)
        return (*own, HALF_T, INVERSE_WISHART) if one else (*own, HALF_T)

    @cached_property
    def deltas(self) -> tuple[Delta, ...]:
        """The incomplete variables, with the numbers by which their imputed values can be shifted."""
        model = self.ready.model
        return tuple(self._delta(name) for name in model.responses if model.masked.missing(name).any())

    def _delta(self, name: str) -> Delta:
        model, data = self.ready.model, self.ready.data
        link = model.shift_link(name)
        most = WIDEST_LINK
        if link in ("identity", "matching"):
            seen = data.numeric(name)
            most = _round(WIDEST * float(np.nanstd(seen))) if np.isfinite(seen).sum() > 1 else WIDEST
        refused = ""
        try:
            model.with_shift(Shift({name: most}))
        except BayesimpError as error:
            refused = str(error)
        return Delta(name, link, model.shift.of(name), most, most / STEPS, refused)

    # --- answers ----------------------------------------------------------------------------------

    def model(self, assumption: Assumption) -> ImputationModel:
        """The model under an assumption; as planned, the model of the plan itself.

        Raises
        ------
        SpecificationError
            The model does not support the prior or the shift.
        """
        made = self.ready.model
        if self._prior(assumption):
            made = made.with_priors(self._priors(assumption))
        by = {name: value for name, value in assumption.delta.items() if value}
        return made if by == dict(self.planned.delta) else made.with_shift(Shift(by))

    def is_planned(self, assumption: Assumption) -> bool:
        """Whether an assumption is that of the plan."""
        return self.model(assumption) is self.ready.model

    def _prior(self, assumption: Assumption) -> tuple[Any, ...]:
        """The prior that an assumption puts in place of the planned one; empty if it is the planned one."""
        return () if assumption.prior in ((PLANNED,), self.planned.prior) else assumption.prior

    def _half_t(self, nu: float, scale: float) -> pr.Priors:
        prior = pr.HuangWand(times_sd=scale, nu=nu)
        return replace(_common(self.ready) or pr.default(), Psi=prior, Psi_of={}, name=f"half-t({nu:g})")

    def _priors(self, assumption: Assumption) -> pr.Priors:
        half_t = self._half_t(assumption.nu, assumption.scale)
        if assumption.family == HALF_T:
            return half_t
        if assumption.family != INVERSE_WISHART:
            raise SpecificationError(
                f"{assumption.family!r} is not a family; choose {', '.join(self.families)}."
            )
        scales = self.ready.model.with_priors(half_t).parameter_priors["Psi"].scales
        V = np.diag(1 / (assumption.nu * np.asarray(scales, dtype=float) ** 2))
        prior = pr.InverseWishart(assumption.nu, V, marginal=True)
        return replace(half_t, Psi=prior, name=f"inverse-Wishart({assumption.nu:g})")

    def answer(self, assumption: Assumption, analysis: str | None = None) -> Answer:
        """Impute, analyse and pool under an assumption, with the seed of the plan.

        Parameters
        ----------
        assumption
            What is assumed.
        analysis
            Name of an analysis of the plan; the first by default.
        """
        chosen = self._analysis(analysis)
        began = time.perf_counter()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", StatisticalWarning)
            baseline = self._imputed(self.planned)
            imputations = self._imputed(assumption)
            if chosen.name not in self._planned:
                self._planned[chosen.name] = self._fit(baseline, chosen)
            planned = self._planned[chosen.name]
            fits = {BASELINE: planned}
            fits[SHOWN] = planned if imputations is baseline else self._fit(imputations, chosen)
            table = pooled_table(fits, BASELINE, 0.95).rename(columns={"prior": "assumption"})
        texts = [str(w.message) for w in caught if issubclass(w.category, StatisticalWarning)]
        return Answer(
            assumption, chosen.name, imputations.model, imputations, fits[SHOWN], table,
            time.perf_counter() - began, tuple(dict.fromkeys(texts)),
        )  # fmt: skip

    def seconds(self) -> float:
        """How long the imputations of the plan take, measured by repeating them."""
        plan, began = self.ready.plan, time.perf_counter()
        self.ready.model.impute(**plan.impute.arguments(plan.model.type))
        return time.perf_counter() - began

    def _analysis(self, name: str | None) -> AnalysisPlan:
        for each in self.ready.plan.analyses:
            if name in (None, each.name):
                return each
        raise SpecificationError(
            f"The plan has no analysis {name!r}; it has {', '.join(map(repr, self.analyses))}."
        )

    def _imputed(self, assumption: Assumption) -> Imputations:
        """Imputations; the draws under this prior are used again where parameters do not depend on the shift."""
        plan, prior = self.ready.plan, self._prior(assumption)
        before, model = self._last.get(prior), self.model(assumption)
        if before is not None and _same_shift(before.model, model):
            return before
        run = None if before is None else before.run
        made = None if run is None else run.shifted(model, plan.impute.m)
        if made is None:
            made = model.impute(**plan.impute.arguments(plan.model.type))
        if prior:
            self._last = {key: imp for key, imp in self._last.items() if not key} | {prior: made}
        else:  # the planned answer is kept
            self._last.setdefault(prior, made)
        return made

    def _fit(self, imputations: Imputations, analysis: AnalysisPlan) -> Fits:
        return fit_each(imputations, str(analysis.formula), **analysis.options(self.ready.data.cluster))

    # --- as a plan --------------------------------------------------------------------------------

    def plan(self, answer: Answer) -> str:
        """The plan that gives this answer, as TOML: the plan of the file with another prior and other deltas.

        Comments in the file are lost; [mnar] and [sensitivity] are left out where they would start from what is shown.
        """
        record = tomllib.loads(self.ready.plan.text)
        model = record["model"]
        if self._prior(answer.assumption):
            contextual = self.ready.plan.model.type == "FCS"
            priors = self._priors(answer.assumption)
            priors = priors if contextual else priors.without_contextual()
            model["priors"] = priors_to_plan(priors, "model.priors", contextual)
        by = {name: float(value) for name, value in answer.assumption.delta.items() if value}
        model.pop("shift", None)
        if by:
            model["shift"] = {"by": by}
            record.pop("mnar", None)  # its first scenario has no shift
        if self._prior(answer.assumption):
            record.pop("sensitivity", None)
        text = as_toml(record)
        plan_of(text, tomllib.loads(text), self.ready.plan.path)
        return text


def _nested(shift: Shift) -> bool:
    return any(isinstance(number, Mapping) for number in shift.by.values())


def _common(ready: Prepared) -> pr.Priors | None:
    """The priors of the whole model; None if blocks of chained equations have different ones.

    Methods fill in the open parts of the default (`bayesimp.priors.Contextual`), so that blocks can differ although all
    have the default.
    """
    own: Any = ready.model.priors
    if not isinstance(own, Mapping):
        return own
    if not own:
        return None
    common = ready.plan.model.priors or pr.default()
    again: Any = ready.model.with_priors(common).priors
    return common if _records(again) == _records(own) else None


def _records(priors: Mapping[str, pr.Priors]) -> dict[str, Any]:
    return {name: priors_to_dict(each) for name, each in priors.items()}


def _same_shift(one: ImputationModel, other: ImputationModel) -> bool:
    mine, theirs = ({name: v for name, v in m.shift.by.items() if v} for m in (one, other))
    return mine == theirs


def _round(most: float) -> float:
    """A nearby number of one or two digits: 1, 1.5, 2, 3, ... times a power of ten."""
    if not most > 0:
        return WIDEST
    power = 10 ** np.floor(np.log10(most))
    return float(
        power * min((1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0), key=lambda k: abs(k - most / power))
    )


@lru_cache(maxsize=4)
def open_plan(path: str | Path) -> Exploration:
    """The exploration of a plan file, which is read once for all pages of a server.

    Raises
    ------
    DataError, SpecificationError
        The plan or its table cannot be used; the message says in which file, where, and what to do.
    """
    return Exploration(prepare(read_plan(path)))
