"""The latent variables that represent each variable; families without latent variables are refused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from bayesimp.arguments import chosen
from bayesimp.errors import DataError, SpecificationError
from bayesimp.families.record import Family
from bayesimp.kernels.latent.records import NUMBER, THRESHOLD, UTILITY
from bayesimp.messages import listing
from bayesimp.table.cluster_level import of_groups
from bayesimp.table.clusters import Clusters
from bayesimp.table.incomplete import IncompleteData

__all__ = ["LatentVariable", "check_levels", "checked_residual", "fixed_entries", "latent_variables"]

KINDS = {"normal": NUMBER, "bernoulli": THRESHOLD, "ordinal": THRESHOLD, "categorical": UTILITY}
MOST_COLUMNS = 62  # a pattern of missing values is one integer of 64 bits


@dataclass(frozen=True, eq=False)
class LatentVariable:
    """A variable and its latent variables.

    Attributes
    ----------
    name, family
        As in the table.
    kind
        Kind of its latent variables (kernels/latent/records.py).
    first
        The column of the first of them.
    levels, values
        Levels in order, and the numbers that represent them in summaries; empty for a normal variable.
    group
        For a cluster-level variable the label of its grouping factor; `first` then counts the columns of the
        cluster-level variables of this factor. Empty for a variable of rows.
    """

    name: str
    family: Family
    kind: int
    first: int
    levels: tuple
    values: NDArray[np.float64]
    group: str = ""

    @property
    def of_clusters(self) -> bool:
        """Whether it is a cluster-level variable, of the clusters or of the groups of another factor."""
        return self.group != ""

    @property
    def labels(self) -> list[str]:
        """Names of its latent variables: its own, or ``"y[level]"`` for every level but the first."""
        return [f"{self.name}[{level}]" for level in self.levels[1:]] if self.kind == UTILITY else [self.name]

    @property
    def columns(self) -> slice:
        """The columns of its latent variables."""
        return slice(self.first, self.first + len(self.labels))

    @property
    def cutpoints(self) -> int:
        """The number of cutpoints, the first of which is 0."""
        return len(self.levels) - 1 if self.kind == THRESHOLD else 0


def latent_variables(
    data: IncompleteData, responses: Sequence[str], factors: Mapping[str, Clusters]
) -> tuple[LatentVariable, ...]:
    """The variables of the model in the order of the formula, with the positions of their latent variables.

    factors: label -> groups of every factor. A variable with a single value in each group of several factors, such as
    schools and their classes, is one of the factor with the fewest groups.

    Raises
    ------
    SpecificationError
        A family has no latent normals, or there are more latent variables than a joint model takes.
    """
    out, first = [], dict.fromkeys(["", *factors], 0)
    for name in responses:
        data.missing(name)  # an unknown name is refused here, with suggestions
        variable = data.variable(name)
        family = variable.distribution
        if family.name not in KINDS:
            raise SpecificationError(_no_latent(name, data.families[name]))
        values = variable.level_values if family.is_coded else np.empty(0)
        levels = [label for label, groups in factors.items() if of_groups(data, name, groups)]
        level = min(levels, key=lambda label: len(factors[label]), default="")
        made = LatentVariable(name, family, KINDS[family.name], first[level], variable.levels, values, level)
        first[level] += len(made.labels)
        out.append(made)
    if all(variable.of_clusters for variable in out):
        raise SpecificationError(
            f"{listing(responses)}are all cluster-level variables, with a single value in every cluster. A joint model "
            "of rows needs a row-level variable on the left side; a table with one row per cluster has no clusters."
        )
    most = max(first.values())
    if most > MOST_COLUMNS:
        largest = max(out, key=lambda v: len(v.labels))
        raise SpecificationError(
            f"{most} latent variables for {len(out)} responses: a joint model takes at most {MOST_COLUMNS}. "
            f"'{largest.name}' "
            f"has {len(largest.labels)} of them, one for each level but the first. Merge levels, or impute variable by "
            "variable with bi.FCS."
        )
    return tuple(out)


def _no_latent(name: str, family: str) -> str:
    return (
        f"'{name}' has family '{family}', for which JointLatent has no latent normal: it takes normal, bernoulli, "
        f"ordinal and "
        "categorical variables. bi.JointGLMM and bi.FCS impute every family; a short count can be declared 'ordinal', "
        "and the "
        "logarithm of a positive variable is often normal."
    )


def check_levels(data: IncompleteData, variables: Sequence[LatentVariable]) -> None:
    """Refuse variables with levels of which only one is observed.

    Raises
    ------
    DataError
    """
    for variable in variables:
        seen = data.numeric(variable.name)
        seen = seen[~np.isnan(seen)]
        if variable.kind != NUMBER and len(np.unique(seen)) < 2:
            raise DataError(
                f"'{variable.name}' has one value, {variable.levels[int(seen[0])]!r}, in all {len(seen):,} rows in "
                "which it is observed, so its distribution cannot be estimated. Remove it from the left side of the "
                "formula."
            )


def fixed_entries(variables: Sequence[LatentVariable]) -> NDArray[np.float64]:
    """(w, w) entries that are fixed in a covariance of these variables to identify latent scales, nan where free.

    1 on the diagonal of latent variables, 1/2 between utilities of one variable: the covariance of independent utilities
    of all its levels, with variances 1/2, minus the utility of the first level.
    """
    r = sum(len(variable.labels) for variable in variables)
    out = np.full((r, r), np.nan)
    for variable in variables:
        if variable.kind != NUMBER:
            size = len(variable.labels)
            out[variable.columns, variable.columns] = 0.5 * (np.eye(size) + np.ones((size, size)))
    return out


def effect_entries(effects: int, variables: Sequence[LatentVariable]) -> NDArray[np.float64]:
    """(w, w) fixed entries of the covariance of a cluster's effects, which are free, and its variables."""
    own = fixed_entries(variables)
    w = effects + len(own)
    out = np.full((w, w), np.nan)
    out[effects:, effects:] = own
    return out


def in_words(variables: Sequence[LatentVariable]) -> str:
    """``"y (normal, 1), grade (ordinal, 1)"``: names, families and numbers of latent variables."""
    return ", ".join(f"{v.name} ({v.family.name}, {len(v.labels)})" for v in variables)


def checked_residual(
    residual: str, variables: Sequence[LatentVariable], factors: int
) -> Literal["common", "cluster"]:
    """The option, if these variables and the number of grouping factors allow it.

    Raises
    ------
    SpecificationError
        The option is unknown, or a covariance per cluster is requested although all row-level variables have levels.
    """
    chosen(residual, "residual", ("common", "cluster"))
    of_rows = [v for v in variables if not v.of_clusters]
    if residual == "cluster" and factors > 1:
        raise SpecificationError(
            "residual='cluster' has one residual covariance for each cluster of a single grouping factor; this formula "
            f"has {factors}. Use residual='common', or one random part."
        )
    if residual == "cluster" and all(v.kind != NUMBER for v in of_rows):
        raise SpecificationError(
            f"residual='cluster' is for normal row-level variables, but {listing([v.name for v in of_rows])} "
            f"{'has' if len(of_rows) == 1 else 'have'} levels: these carry no information on the scale of a latent "
            "variable, and the covariance of latent variables is the same in every cluster. Use residual='common'."
        )
    return "cluster" if residual == "cluster" else "common"
