"""The default formula of a factor of a joint GLMM.

It has the complete variables, the responses of earlier factors, and random intercepts: of the clusters, unless the
variable has one value in each, and of further grouping factors.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from bayesimp.families.record import Family
from bayesimp.formulas.design import TOLERANCE
from bayesimp.formulas.predictors import Predictors
from bayesimp.formulas.syntax import Name, write
from bayesimp.joint.levels.factors import GroupingFactor
from bayesimp.table.cluster_level import of_clusters
from bayesimp.table.ids import names_rows
from bayesimp.table.incomplete import IncompleteData

__all__ = ["MOST_LEVELS", "default_formula"]

MOST_LEVELS = 10  # a complete factor with at most this many is a predictor by default


def default_formula(
    data: IncompleteData,
    name: str,
    order: Sequence[str],
    formulas: Mapping[str, Predictors],
    levels: Sequence[GroupingFactor],
) -> tuple[str, tuple[str, ...]]:
    """Default formula of a variable, and the complete variables left out as redundant.

    levels: the further grouping factors of which it has intercepts.
    """
    at_cluster = of_clusters(data, name)
    used = {v for formula in formulas.values() for v in formula.formula.variables}
    others = [v for v in data.variables if v != name and (not at_cluster or _one_value(data, v))]
    complete = [v for v in others if v not in order and _is_default_predictor(data, v, v in used)]
    # variables of analyses come first, so that they are not the ones left out as redundant
    kept = _independent(data, name, sorted(complete, key=lambda v: v not in used), at_cluster)
    terms = []
    for other in others:
        if other in kept:
            terms.append(write(Name(other)))
        elif other in order and order.index(other) < order.index(name):
            terms.append(_as_predictor(other, data.variable(other).distribution))
    right = " + ".join(terms or ["1"])
    random = "" if at_cluster else f" + (1 | {write(Name(data.cluster))})"
    random += "".join(f" + (1 | {factor.term.group})" for factor in levels)
    return f"{write(Name(name))} ~ {right}{random}", tuple(v for v in complete if v not in kept)


def _is_default_predictor(data: IncompleteData, name: str, used: bool) -> bool:
    """Whether a variable is complete, varies, and has few levels; a variable of an analysis only has to vary."""
    record = data.variable(name)
    if record.missing.any() or not record.distribution.is_imputable or data.frame[name].nunique() < 2:
        return False
    few = not record.distribution.is_factor or len(record.levels) <= MOST_LEVELS
    return used or (few and not names_rows(data, name))


def _independent(
    data: IncompleteData, name: str, candidates: Sequence[str], at_cluster: bool
) -> frozenset[str]:
    """Complete variables that are not combinations of the intercept and the variables before them.

    Only rows in which the variable `name` is observed count, one per cluster if it is cluster-level.
    """
    rows = np.flatnonzero(~data.missing(name))
    if at_cluster:
        rows = rows[np.unique(data.codes[rows], return_index=True)[1]]
    basis, kept = np.full((len(rows), 1), max(len(rows), 1) ** -0.5), []
    for candidate in candidates:
        record = data.variable(candidate)
        values = record.values[rows].astype(float)
        if record.is_coded:
            values = (values[:, None] == np.unique(record.values)[1:]).astype(float)
        new = values.reshape(len(values), -1)
        grown = basis
        for column in new.T:
            rest = column / max(np.linalg.norm(column), 1e-300)
            for _ in range(2):
                rest = rest - grown @ (grown.T @ rest)
            left = np.linalg.norm(rest)
            if left <= TOLERANCE or grown.shape[1] == len(rest):
                break
            grown = np.column_stack([grown, rest / left])
        else:
            basis = grown
            kept.append(candidate)
    return frozenset(kept)


def _one_value(data: IncompleteData, name: str) -> bool:
    """Whether a variable has a single value in each cluster, complete or not."""
    record = data.variable(name)
    if not record.distribution.is_imputable:
        return False
    return of_clusters(data, name) or not data.grouping.varying(record.values).any()


def _as_predictor(name: str, family: Family) -> str:
    text = write(Name(name))
    return f"{family.as_predictor}({text})" if family.as_predictor else text
