"""Tables of the study of engines: covariates of one or several families, analyses that are linear or logistic.

Variables are drawn in order, each given those before it. Effects of clusters on covariates have variance 0.3 and
correlation 0.3; those on the outcome are independent of them, and an effect of the cluster mean of x1 on a linear outcome
makes its associations within and between clusters differ. So no engine has the model that made the table: latent normals
are probit models, and chained equations and joint GLMMs have the covariates in another order, given the outcome.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np

from bayesimp.studies import (
    Analysis,
    Design,
    Scenario,
    SimulatedVariable,
    Sporadic,
    Systematic,
    delete,
)

__all__ = ["ROWS", "Cell", "design"]

ROWS = {6: 30, 10: 24, 15: 20, 35: 12, 100: 6}  # clusters -> mean rows of each
VARIANCE, CORRELATION, SLOPE = 0.3, 0.3, 0.3
X1 = SimulatedVariable("x1", "normal", {"w": 0.3}, ("Intercept",))
FEW_LEVELS = [
    SimulatedVariable("x2", "bernoulli", {"Intercept": -0.3, "x1": 0.6}, ("Intercept",)),
    SimulatedVariable("x3", "ordinal", {"Intercept": 1.0, "x1": 0.5, "x2": 0.4}, ("Intercept",),
                      levels=("a", "b", "c"), increments=(1.3,)),
]  # fmt: skip
NOMINAL = SimulatedVariable(
    "x4", "categorical", [{"Intercept": 0.2, "x1": 0.4}, {"x2": 0.5}], ("Intercept",), levels=("u", "v", "w")
)
COUNT = SimulatedVariable("x4", "poisson", {"Intercept": 0.4, "x1": 0.3, "x2": 0.2}, ("Intercept",))
NORMAL = [
    SimulatedVariable("x2", "normal", {"x1": 0.3, "w": 0.2}, ("Intercept",)),
    SimulatedVariable("x3", "normal", {"x1": -0.2, "x2": 0.3}, ("Intercept",)),
]
COVARIATES = {
    "normal": [X1, *NORMAL],
    "mixed": [X1, *FEW_LEVELS, NOMINAL],
    "count": [X1, *FEW_LEVELS, COUNT],
}
EFFECTS = {  # of covariates on the outcome
    "normal": {"x1": 0.5, "x2": -0.4, "x3": 0.3},
    "mixed": {"x1": 0.5, "x2": -0.5, "x3[b]": 0.3, "x3[c]": 0.6, "x4[v]": 0.5},
    "count": {"x1": 0.5, "x2": -0.5, "x3[b]": 0.3, "x3[c]": 0.6, "x4": 0.2},
}


@dataclass(frozen=True)
class Cell:
    """One cell of the design of the study.

    Attributes
    ----------
    clusters
        6, 10, 15, 35 or 100.
    covariates
        "normal", "mixed" (normal, binary, ordinal, nominal) or "count" (the nominal one is a count).
    outcome
        "linear" or "logistic".
    slope, balanced
        Whether the coefficient of x1, which is incomplete, varies between clusters; whether clusters are of equal size.
    """

    clusters: int
    covariates: str
    outcome: str
    slope: bool
    balanced: bool

    @property
    def name(self) -> str:
        """Its name in the study."""
        kind = f"{self.covariates}, {self.outcome}"
        sizes = "balanced" if self.balanced else "unbalanced"
        return f"{self.clusters} clusters, {kind}, {'slope' if self.slope else 'intercept'}, {sizes}"

    @property
    def family(self) -> str:
        """The family of the outcome."""
        return "normal" if self.outcome == "linear" else "bernoulli"

    @property
    def contextual(self) -> bool:
        """Whether the mean of x1 in a cluster has an effect of its own."""
        return not self.slope and self.outcome == "linear"

    @property
    def analysis(self) -> str:
        """The formula of the analysis."""
        names = [v.name for v in COVARIATES[self.covariates]]
        mean = ["cluster_mean(x1)"] if self.contextual else []
        random = "(1 + x1 | cluster)" if self.slope else "(1 | cluster)"
        return f"y ~ {' + '.join([*names, *mean, 'w'])} + {random}"

    @property
    def truth(self) -> dict[str, float]:
        """Terms that are compared, and their values."""
        out = {**EFFECTS[self.covariates], "w": 0.3, "sd(Intercept | cluster)": VARIANCE**0.5}
        out |= {"cluster_mean(x1)": 0.5} if self.contextual else {}
        return out | ({"sd(x1 | cluster)": SLOPE**0.5} if self.slope else {})

    @property
    def scenario(self) -> Scenario:
        """How its tables are made, deleted from and analysed."""
        names = [v.name for v in COVARIATES[self.covariates]]
        holes = partial(
            delete, cluster="cluster",
            sporadic={name: Sporadic(0.2, {"y": 0.5}) for name in names},
            systematic={"x1": Systematic(0.15), "x2": Systematic(0.15)}, apart=[("x1", "x2")],
        )  # fmt: skip
        declared = {"x4": "categorical"} if self.covariates == "mixed" else {}
        declared |= {"x4": "poisson"} if self.covariates == "count" else {}
        return Scenario(
            self.name, design(self), holes, Analysis(self.analysis, self.family), "cluster",
            truth=self.truth, families=declared, labels=vars(self),
        )  # fmt: skip


def design(cell: Cell) -> Design:
    """The tables of a cell before anything is deleted."""
    own = dict(EFFECTS[cell.covariates]) | {"w": 0.3} | ({"cluster_mean(x1)": 0.5} if cell.contextual else {})
    random = ("Intercept", "x1") if cell.slope else ("Intercept",)
    outcome = SimulatedVariable("y", cell.family, own, random)
    variables = [SimulatedVariable("w", "normal", {}, ("Intercept",)), *COVARIATES[cell.covariates], outcome]
    k = sum(len(v.effect_names) for v in variables)
    Psi = VARIANCE * ((1 - CORRELATION) * np.eye(k) + CORRELATION)
    own_effects = len(
        random
    )  # those of the outcome are independent of the covariates', as the analysis assumes
    Psi[-own_effects:], Psi[:, -own_effects:] = 0.0, 0.0
    Psi[-own_effects:, -own_effects:] = np.diag([VARIANCE, SLOPE][:own_effects])
    return Design(variables, cell.clusters, sizes(cell), Psi)


def sizes(cell: Cell) -> list[int]:
    """Rows of each cluster: equal, or from a third of the mean to five thirds of it in equal steps."""
    mean = ROWS[cell.clusters]
    if cell.balanced:
        return [mean] * cell.clusters
    return [round(x) for x in np.linspace(mean / 3, 5 * mean / 3, cell.clusters)]
