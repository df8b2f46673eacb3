"""The contents of a plan as frozen records, made by `bayesimp.workflow.plan.read_plan`, which describes the file."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from bayesimp.formulas.formula import Formula
from bayesimp.layout import Record
from bayesimp.priors import Priors
from bayesimp.shift import Shift

__all__ = [
    "AnalysisPlan", "DataPlan", "ImputePlan", "MnarPlan", "ModelPlan", "OutputPlan", "Plan", "ReportPlan",
    "SensitivityPlan",
]  # fmt: skip


JOINT_OPTIONS = ("m", "seed", "chains", "tune", "draws", "thin", "sampler")


@dataclass(frozen=True)
class DataPlan(Record):
    """The table. One of ``file`` (absolute here) and ``example`` is set.

    Attributes
    ----------
    cluster, further_clusters
        The column of the primary clusters, and those of other grouping factors.
    types
        Type by column: "string", "integer", "number", "boolean", "category", the tuple of the categories in order, or a
        pandas categorical dtype.
    columns
        Columns of the file to use; none: all.
    missing
        Texts that mean "missing" in a CSV file, in addition to the empty cell, NA, NaN and the like.
    """

    cluster: str
    file: Path | None = None
    example: str | None = None
    families: dict[str, str] | None = None
    types: dict[str, str | tuple[str, ...] | pd.CategoricalDtype] | None = None
    missing: tuple[str, ...] = ()
    separator: str = ","
    decimal: str = "."
    columns: tuple[str, ...] = ()
    further_clusters: tuple[str, ...] = ()

    @property
    def clusters(self) -> tuple[str, ...]:
        """All cluster columns, the primary one first."""
        return (self.cluster, *self.further_clusters)


@dataclass(frozen=True)
class ModelPlan(Record):
    """The imputation model.

    Attributes
    ----------
    type
        "JointNormal", "JointGLMM", "JointLatent" or "FCS".
    formula
        Formula of a JointNormal or JointLatent; None for other models.
    priors
        None: those of the methods of chained equations.
    residual
        For a JointLatent: whether clusters have a "common" residual covariance or each "cluster" has its own.
    reference
        For a JointNormal or JointLatent: the record of its `bayesimp.ReferenceBased`; None: values are missing at random.
    shift
        Numbers added to imputed values; None: nothing.
    analysis
        Formulas for which the model is made (JointGLMM, FCS). None: those of the plan, with their families and links, for
        a JointGLMM and if `congenial` is true; otherwise no formulas.
    factors, effects, links
        For a JointGLMM, each as in `bayesimp.JointGLMM`.
    order
        For a JointGLMM or chained equations.
    methods, predictors, blocks, derived, compatible, bounds
        For chained equations, each as in `bayesimp.FCS`.
    congenial
        Whether chained equations draw covariates given the analyses of the plan.
    """

    type: str
    formula: Formula | None
    priors: Priors | None
    residual: str = "common"
    reference: dict[str, Any] | None = None
    shift: Shift | None = None
    analysis: str | tuple[str, ...] | None = None
    factors: dict[str, str] = field(default_factory=dict)
    order: str | tuple[str, ...] = ()
    effects: str = "joint"
    links: dict[str, str] = field(default_factory=dict)
    methods: Any = None
    predictors: Any = None
    blocks: dict[str, tuple[str, ...]] = field(default_factory=dict)
    derived: dict[str, str] = field(default_factory=dict)
    compatible: bool | None = None
    bounds: dict[str, tuple[Any, Any]] = field(default_factory=dict)
    congenial: bool = False

    @property
    def for_analyses(self) -> bool:
        """Whether the analyses of the plan are part of the model."""
        return self.analysis is None and (self.type == "JointGLMM" or self.congenial)


@dataclass(frozen=True)
class ImputePlan(Record):
    """Arguments of ``model.impute``; chained equations have ``cycles`` but no ``chains``, ``draws`` or ``thin``."""

    m: int
    seed: int
    chains: int = 4
    tune: int | None = None
    draws: int = 1000
    thin: int = 1
    sampler: str = "auto"
    cycles: int | None = None

    def arguments(self, model: str) -> dict[str, Any]:
        """The arguments for the ``impute`` of this type of model."""
        names = ("m", "seed", "cycles", "tune") if model == "FCS" else JOINT_OPTIONS
        return {name: value for name in names if (value := getattr(self, name)) is not None}

    def describe(self, model: str) -> str:
        """One line: ``m = 20, seed 1, 4 chains x 1000 draws, sampler 'auto'``."""
        if model == "FCS":
            cycles = "as many cycles as FCS takes" if self.cycles is None else f"{self.cycles} cycles"
            warm = "" if self.tune is None else f", the first {self.tune} as warm-up"
            return f"m = {self.m}, seed {self.seed}, {cycles}{warm}"
        tune = "" if self.tune is None else f", {self.tune} before them"
        chains = f"{self.chains} chains x {self.draws} draws{tune}"
        return f"m = {self.m}, seed {self.seed}, {chains}, sampler '{self.sampler}'"


@dataclass(frozen=True)
class AnalysisPlan(Record):
    """One analysis of the completed tables; ``complete_case``: whether it is compared with the analysis of complete rows.


    ``link``, ``trials``, ``weights``, ``offset`` and ``quadrature`` are those of `bayesimp.analysis.fit.fit_each`.
    """

    name: str
    formula: Formula
    family: str = "normal"
    reml: bool = True
    variance_scale: str = "log"
    complete_case: bool = True
    link: str | None = None
    trials: str | None = None
    weights: str | None = None
    offset: str | None = None
    quadrature: int = 1

    @property
    def columns(self) -> dict[str, str]:
        """Columns named in addition to the formula, by key."""
        given = {"trials": self.trials, "weights": self.weights, "offset": self.offset}
        return {key: column for key, column in given.items() if column is not None}

    def options(self, cluster: str) -> dict[str, Any]:
        """Arguments of `bayesimp.analysis.fit.fit_each` other than the formula; `cluster`: that of the imputation
        model."""
        own = {"family": self.family, "reml": self.reml, "cluster": cluster, "link": self.link}
        return {**own, "quadrature": self.quadrature, **self.columns}

    @property
    def needed(self) -> tuple[str, ...]:
        """Every column that must be observed for a row to be analysed."""
        formula = self.formula
        names = (*formula.responses, *formula.variables, *formula.groups, *self.columns.values())
        return tuple(dict.fromkeys(names))


@dataclass(frozen=True)
class MnarPlan(Record):
    """Values missing not at random; ``delta``, ``by``, ``where``, ``unit`` and ``combine`` as in `bayesimp.mnar`.

    Attributes
    ----------
    threshold
        Threshold of the tipping points.
    """

    delta: dict[str, Any]
    by: str | None = None
    where: str = "missing"
    unit: str | dict[str, str] = "link"
    combine: str = "product"
    threshold: float = 0.0


@dataclass(frozen=True)
class SensitivityPlan(Record):
    """Sensitivity to the prior, as in `bayesimp.sensitivity`.

    Attributes
    ----------
    priors
        Priors by name; None: the default grid.
    reference
        Name of the prior to which changes refer; None: the first.
    analyses
        Names of the analyses of the plan that are repeated.
    m
        Number of imputations under each prior.
    """

    priors: dict[str, Priors] | None
    reference: str | None
    analyses: tuple[str, ...]
    m: int


@dataclass(frozen=True)
class ReportPlan(Record):
    """A report written at the end of a run: names of files, and statements that only the user can make, by item."""

    files: tuple[str, ...] = ("report.html",)
    stated: dict[str, str] = field(default_factory=dict)
    figures: bool = True


@dataclass(frozen=True)
class OutputPlan(Record):
    """Files written in addition to the tables of results; ``format`` of the completed tables: csv or parquet."""

    figures: bool = True
    completed: bool = True
    format: str = "csv"


@dataclass(frozen=True)
class Plan(Record):
    """A plan that has been checked. Made by `read_plan`; ``text`` is the file as it was read, which is not printed."""

    path: Path
    text: str = field(repr=False)
    title: str
    data: DataPlan
    model: ModelPlan
    impute: ImputePlan
    analyses: tuple[AnalysisPlan, ...]
    output: OutputPlan
    mnar: MnarPlan | None = None
    sensitivity: SensitivityPlan | None = None
    report: ReportPlan | None = None
