"""The formula of a joint model of a whole table: which variables are modelled, and which are conditioned on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from bayesimp.formulas.combinations import combinations
from bayesimp.formulas.syntax import Name, write
from bayesimp.joint.glmm.default_formula import MOST_LEVELS
from bayesimp.joint.latent.variables import KINDS
from bayesimp.table.cluster_level import of_groups
from bayesimp.table.clusters import varies_within
from bayesimp.table.ids import names_rows
from bayesimp.table.incomplete import IncompleteData

__all__ = ["COMBINATION", "Sides", "formula_of", "joint_formula", "sides"]

COMBINATION = "is a linear combination of other variables"
ONE_VALUE = "has a single value in each cluster"


@dataclass(frozen=True)
class Sides:
    """The side of a joint model's formula on which each variable of the table is.

    Attributes
    ----------
    left
        Modelled variables: they vary within clusters, or are incomplete cluster-level variables in a model that takes
        these, and have a family of the model.
    right
        Complete variables that are conditioned on: cluster-level variables, and those of other families.
    refused
        Incomplete variable -> why no joint model imputes it; "" if only its family does not fit the model.
    complete
        Complete variables that vary within clusters, on either side.
    groups
        Variables on the left that have a single value in each cluster.
    left_out
        Complete variables on neither side: they do not vary, name rows, are nominal with many levels, or are linear
        combinations of others.
    """

    left: tuple[str, ...]
    right: tuple[str, ...]
    refused: Mapping[str, str]
    complete: tuple[str, ...]
    left_out: tuple[str, ...]
    groups: tuple[str, ...] = ()


def sides(data: IncompleteData, *, latent: bool) -> Sides:
    """The variables of a table that vary within clusters, jointly, given the complete ones that do not.

    Complete variables are on the left as well: their between-cluster covariance is a part of Psi, so no cluster
    means are needed to carry it. `JointLatent` has incomplete variables of the groups of any factor there
    too. Variables that merely name rows or clusters or do not vary are left out, and so are complete nominal variables
    with more than `MOST_LEVELS` levels, as in `JointGLMM`.

    Parameters
    ----------
    data
        The table.
    latent
        Whether the model is `JointLatent`, which takes binary, ordinal and nominal variables, or `JointNormal`.
    """
    left, right, complete, left_out, groups = [], [], [], [], []
    refused: dict[str, str] = {}
    for name in data.variables:
        variable = data.variable(name)
        family, holes = variable.distribution, bool(data.missing(name).any())
        if not family.is_imputable:
            continue
        many = family.is_factor and len(variable.levels) > MOST_LEVELS
        if not holes and (many or data.frame[name].nunique() < 2 or names_rows(data, name)):
            left_out.append(name)
            continue
        unfit = _unfit(data, name)
        of_one_level = any(of_groups(data, name, own) for own in data.groupings.values())
        if latent and holes and unfit and family.name in KINDS and of_one_level:
            groups.append(name)
            unfit = ""
        if not unfit and (family.name in KINDS if latent else family.is_normal):
            left.append(name)
        elif holes:
            refused[name] = unfit
        else:
            right.append(name)
        if not holes and not unfit:
            complete.append(name)
    for name in combinations(data, right):
        right.remove(name)
        left_out.append(name)
    for name in (*combinations(data, left, right), *combinations(data, left, within=True)):
        if name not in left:
            continue
        left.remove(name)
        if name in complete:
            left_out.append(name)
        else:
            refused[name] = COMBINATION
    if set(left) <= set(groups):  # a joint model of rows needs a row-level variable
        refused |= dict.fromkeys(left, ONE_VALUE)
        left.clear()
    on_left = tuple(name for name in left if name in groups)
    return Sides(tuple(left), tuple(right), refused, tuple(complete), tuple(left_out), on_left)


def _unfit(data: IncompleteData, name: str) -> str:
    """Why the observed values of a variable do not inform variances within and between clusters; empty if they do."""
    seen = ~data.missing(name)
    values, codes = data.numeric(name)[seen], data.codes[seen]
    if len(np.unique(values)) < 2:
        return "has one value where it is observed" if len(values) else "is never observed"
    if len(np.unique(codes)) < 2:
        return "is observed in one cluster only"
    if not varies_within(values, codes).any():
        return ONE_VALUE
    for label in data.cluster_columns[1:]:
        groups = data.groupings[label].codes[seen]
        if len(np.unique(groups)) < 2:
            return f"is observed in one group of '{label}' only"
        if not varies_within(values, groups).any():
            several = len(np.unique(groups)) < len(groups)
            return (
                f"has one value in each group of '{label}'"
                if several
                else f"is observed once in each '{label}'"
            )
    return ""


def joint_formula(data: IncompleteData, *, latent: bool) -> str:
    """The formula of `sides`, with random intercepts: ``"x1 + x2 + y ~ region + (1 | study)"``."""
    found = sides(data, latent=latent)
    return formula_of(found.left, found.right, *data.cluster_columns)


def formula_of(responses: Iterable[str], covariates: Iterable[str], *clusters: str) -> str:
    """A joint formula with random intercepts of columns, whatever their names."""
    left, right = (" + ".join(write(Name(name)) for name in names) for names in (responses, covariates))
    return " + ".join(
        [f"{left} ~ {right or '1'}", *(f"(1 | {write(Name(cluster))})" for cluster in clusters)]
    )
