"""What a plan holds, as frozen records. Made by `bayesimp.workflow.plan.read_plan`, which describes the file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from bayesimp.formulas.formula import Formula
from bayesimp.priors import Priors

__all__ = ["AnalysisPlan", "DataPlan", "ImputePlan", "ModelPlan", "OutputPlan", "Plan"]


@dataclass(frozen=True)
class DataPlan:
    """The table. One of ``file`` (absolute here) and ``example`` is set.

    Attributes
    ----------
    types
        By column: "string", "integer", "number", "category", or the tuple of the categories in order.
    missing
        Texts that mean "missing" in a CSV file, in addition to the empty cell, NA, NaN and the like.
    """

    cluster: str
    file: Path | None = None
    example: str | None = None
    families: dict[str, str] | None = None
    types: dict[str, str | tuple[str, ...]] | None = None
    missing: tuple[str, ...] = ()
    separator: str = ","
    decimal: str = "."


@dataclass(frozen=True)
class ModelPlan:
    """The imputation model."""

    type: str
    formula: Formula
    priors: Priors


@dataclass(frozen=True)
class ImputePlan:
    """Arguments of ``model.impute``."""

    m: int
    seed: int
    chains: int = 4
    tune: int | None = None
    draws: int = 1000
    thin: int = 1
    sampler: Literal["auto", "gibbs", "nuts"] = "auto"


@dataclass(frozen=True)
class AnalysisPlan:
    """One analysis of the completed tables; ``complete_case``: compared with the analysis of complete rows.


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
        """Columns of the table that it names beside its formula, by key."""
        given = {"trials": self.trials, "weights": self.weights, "offset": self.offset}
        return {key: column for key, column in given.items() if column is not None}

    @property
    def needed(self) -> tuple[str, ...]:
        """Every column that a row must have to be analysed."""
        formula = self.formula
        names = (*formula.responses, *formula.variables, *formula.groups, *self.columns.values())
        return tuple(dict.fromkeys(names))


@dataclass(frozen=True)
class OutputPlan:
    """What is written in addition to the tables of results; ``format`` of the completed tables: csv or parquet."""

    figures: bool = True
    completed: bool = True
    format: str = "csv"


@dataclass(frozen=True)
class Plan:
    """A plan that has been checked. Made by `read_plan`; ``text`` is the file as it was read."""

    path: Path
    text: str
    title: str
    data: DataPlan
    model: ModelPlan
    impute: ImputePlan
    analyses: tuple[AnalysisPlan, ...]
    output: OutputPlan
