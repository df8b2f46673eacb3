"""Methods under test, by the names of the papers.

REF         the complete table                          CCA         rows complete for the analysis
joint       the joint model (pan's priors)              bayes       our default, by chained equations
MICE-IW     inverse-Wishart priors, no cluster sums     MICE-IW-c   with the cluster sums of the other variables
MICE-ML     normal draws around ML estimates, with sums STI         cluster indicators
MLMI        Jolani's method, made exact                 MLMI-published, exactly as published
2STG        two-stage, by moments (as published)        2STG-REML   by REML

Any other function ``(data, seed) -> Imputations``, or to a list of tables, is a method too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from bayesimp import methods as me
from bayesimp.errors import SpecificationError
from bayesimp.formulas.formula import parse
from bayesimp.kinds import check_keywords
from bayesimp.messages import suggestion
from bayesimp.priors import Priors
from bayesimp.studies.records import Analysis, Case
from bayesimp.table.incomplete import IncompleteData

__all__ = ["Chained", "CompleteCases", "Joint", "Reference", "method", "names"]


@dataclass(frozen=True)
class Reference:
    """REF: the complete table, before any deletion."""

    def tables(self, case: Case) -> list[Any]:
        """The complete table."""
        return [case.complete]


@dataclass(frozen=True)
class CompleteCases:
    """CCA: rows that are complete in the columns of the analysis (in all columns if the analysis is a function)."""

    def tables(self, case: Case) -> list[Any]:
        """The rows in which everything that the analysis needs is observed."""
        analysis = case.scenario.analysis
        columns = list(parse(analysis.formula).columns) if isinstance(analysis, Analysis) else None
        return [case.holed.dropna(subset=columns)]


@dataclass(frozen=True)
class Chained:
    """Chained equations: `bayesimp.FCS` with its options, m imputations after so many cycles."""

    methods: Any = None
    predictors: Any = None
    m: int = 20
    cycles: int = 20
    compatible: bool | None = None
    options: Mapping[str, Any] = field(default_factory=dict)

    def __call__(self, data: IncompleteData, seed: int) -> Any:
        from bayesimp.fcs.model import FCS

        model = FCS(data, self.methods, self.predictors, compatible=self.compatible, **self.options)
        return model.impute(self.m, cycles=self.cycles, seed=seed, executor="serial", progress=False)


@dataclass(frozen=True)
class Joint:
    """The joint normal model: `bayesimp.JointNormal`, with priors by name or record."""

    formula: str
    priors: Priors | str = "pan"
    m: int = 20
    tune: int = 200
    draws: int = 1000
    chains: int = 4

    def __call__(self, data: IncompleteData, seed: int) -> Any:
        from bayesimp.joint.normal import JointNormal

        model = JointNormal(data, self.formula, self.priors)
        return model.impute(
            self.m, seed=seed, chains=self.chains, tune=self.tune, draws=self.draws, executor="serial", progress=False,
        )  # fmt: skip


# the imputation method behind each name
CHAINED: dict[str, Callable[[], Any]] = {
    "bayes": me.Bayes,
    "MICE-IW": lambda: me.IW(compatible=False),
    "MICE-IW-c": lambda: me.IW(compatible=True),
    "MICE-ML": lambda: me.ML(compatible=True),
    "MICE-ML-i": lambda: me.ML(compatible=False),
    "STI": me.Stratified,
    "MLMI": me.MLMI,
    "MLMI-published": lambda: me.MLMI(published=True),
    "2STG": lambda: me.TwoStage("moments", published=True),
    "2STG-REML": lambda: me.TwoStage("reml"),
}
ALONE: dict[str, Callable[[], Any]] = {"REF": Reference, "CCA": CompleteCases}


def names() -> list[str]:
    """The names that `method` accepts."""
    return [*ALONE, "joint", *CHAINED]


def method(name: str, **options: Any) -> Any:
    """Make a method under test by its name.

    Parameters
    ----------
    name
        One of `names`.
    options
        Fields of `Chained` (``m``, ``cycles``, ``predictors``, ``methods`` instead of the named one), or of `Joint`
        (``formula`` is required).

    Raises
    ------
    SpecificationError
        If the name is not known, or the method does not have an option.
    """
    if name in ALONE:
        if options:
            raise SpecificationError(
                f"{name} imputes nothing, so it has no options; got {', '.join(options)}."
            )
        return ALONE[name]()
    if name != "joint" and name not in CHAINED:
        raise SpecificationError(f"There is no method {name!r}. {suggestion(name, names())}")
    check_keywords(options, method, Joint if name == "joint" else Chained)
    try:
        return Joint(**options) if name == "joint" else Chained(**{"methods": CHAINED[name](), **options})
    except TypeError as error:
        raise SpecificationError(f"Method {name!r}: {error}.") from None
