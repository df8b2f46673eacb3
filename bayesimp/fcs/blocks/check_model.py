"""Check whether a user's PyMC model can be a block of chained equations, before anything is compiled.

The model is evaluated in plain Python, where a wrong shape or index is an error, on the given rows and on other rows
(the probe, with one row per cluster), because rows change in every cycle.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pymc as pm
import pytensor
from pytensor.graph.traversal import ancestors

from bayesimp.errors import SpecificationError
from bayesimp.families.registry import FAMILIES, family_of
from bayesimp.models.conditional_normal import ConditionalData

if TYPE_CHECKING:
    from bayesimp.priors import Priors

__all__ = ["build", "check_draws", "fill_variables", "wrong_values"]

PLAIN: dict[str, Any] = {"mode": "FAST_COMPILE", "on_unused_input": "ignore"}


def build(
    function: Callable, data: ConditionalData, priors: Priors | None
) -> tuple[pm.Model, ConditionalData]:
    """The user's model, with its data as shared variables, and the probe.

    Raises
    ------
    SpecificationError
        No node has the variable's name; the node is not observed, or its values are not data.y; a free variable is
        discrete or has a value for each row; the model fails on other rows; the log density is not finite; or values
        are outside the family's support.
    """
    where = f"The model of '{data.name}' (function {getattr(function, '__name__', repr(function))})"
    _check_clusters(data, where)
    _check_family(data, where)
    variables = data.variables()
    model = function(variables, priors)
    if not isinstance(model, pm.Model):
        raise SpecificationError(f"{where} must return a pymc.Model, not {type(model).__name__}.")
    _check_nodes(model, variables, where)
    probe = _probe(data)
    (here, terms), (there, _) = _try(model, where, variables, (data, probe))
    for variable, ours, others in zip(model.free_RVs, here, there, strict=True):
        if ours != others:
            raise SpecificationError(
                f"{where}: '{variable.name}' has a value for each row (shape {ours} with {len(data.X)} rows, {others} "
                f"with {len(probe.X)}). Rows change between cycles, so it must be integrated out."
            )
    fill_variables(variables, data)
    _check_density(terms, where)
    return model, probe


def check_draws(drawn: np.ndarray, rows: ConditionalData) -> None:
    """Check values drawn for `rows`, in which data.y is unknown."""
    where = f"The model of '{rows.name}'"
    if drawn.shape != (len(rows.X),):
        raise SpecificationError(
            f"{where} draws values of shape {drawn.shape} for {len(rows.X)} rows; the node '{rows.name}' needs one "
            "value per row."
        )
    if not np.isfinite(drawn).all():
        raise SpecificationError(
            f"{where} draws values that are not finite from its initial point. If its mean or sd uses data.y, which is "
            "unknown in rows to be imputed, remove it."
        )
    if wrong := wrong_values(drawn, rows):
        raise SpecificationError(
            f"{where} draws {wrong}, as the family ({rows.family}) requires. Give the node '{rows.name}' a "
            "distribution on those values, or declare another family."
        )


def wrong_values(y: np.ndarray, rows: ConditionalData) -> str:
    """How many values of `y` are outside the support of the family of `rows`, in words; empty if none."""
    family = family_of(rows.family)
    highest = rows.trials if family.column_of_trials else rows.levels - 1
    wrong = y[~np.isfinite(y) | family.outside(y, highest)]
    if len(wrong) == 0:
        return ""
    right = family.support.values.replace("levels-1", str(rows.levels - 1))
    return f"{len(wrong)} of {len(y)} values (such as {wrong[0]:g}) that are not {right}"


def _check_family(data: ConditionalData, where: str) -> None:
    known = [name for name, family in FAMILIES.items() if family.is_imputable]
    if data.family not in known:
        raise SpecificationError(f"{where}: family {data.family!r} is not one of {', '.join(known)}.")
    family = FAMILIES[data.family]
    least = family.least_levels
    if data.levels < least:
        raise SpecificationError(
            f"{where}: {data.family} with {data.levels} levels needs at least {least} (two ordered levels are "
            "bernoulli)."
        )
    if family.column_of_trials != (data.trials is not None):
        raise SpecificationError(f"{where}: binomial variables, and only these, must have trials.")
    if wrong := wrong_values(np.asarray(data.y, dtype=float), data):
        raise SpecificationError(f"{where}: the family is {data.family}, but y has {wrong}.")


def _check_clusters(data: ConditionalData, where: str) -> None:
    codes = np.asarray(data.cluster)
    if len(codes) and not (codes.min() >= 0 and codes.max() < data.clusters):
        raise SpecificationError(
            f"{where}: clusters must be numbered 0..{data.clusters - 1}, got {codes.max()}."
        )
    if len(data.X) == 0:
        raise SpecificationError(f"{where}: the variable has no observed row.")


def _check_nodes(model: pm.Model, data: ConditionalData, where: str) -> None:
    observed = {v.name: v for v in model.observed_RVs}
    if data.name not in observed:
        if data.name in model.named_vars:
            raise SpecificationError(
                f"{where}: the node '{data.name}' is not observed; write observed=data.y."
            )
        names = ", ".join(model.named_vars) or "none"
        raise SpecificationError(
            f"{where} has no node named '{data.name}' (it has: {names}). Name the observed variable data.name."
        )
    if data.y not in ancestors([model.rvs_to_values[observed[data.name]]]):
        raise SpecificationError(
            f"{where}: the observed values of '{data.name}' are not data.y, so they would not follow the data; "
            "write observed=data.y."
        )
    if model.discrete_value_vars:
        names = ", ".join(v.name for v in model.discrete_value_vars)
        raise SpecificationError(f"{where}: HMC needs continuous variables; discrete: {names}. Sum them out.")
    if not model.free_RVs:
        raise SpecificationError(f"{where} has no free variable, so there is nothing to learn from the data.")


def _probe(data: ConditionalData) -> ConditionalData:
    """One row per cluster (or one more), so that the number of rows differs from that of the given rows."""
    cluster = np.arange(data.clusters + (data.clusters == len(data.X))) % data.clusters
    row = np.arange(len(cluster)) % len(data.X)
    columns: dict[str, Any] = {k: x[row] for k, x in data.arrays().items()}
    return replace(data, **columns | {"cluster": cluster})


def fill_variables(variables: Any, rows: ConditionalData) -> None:
    """Set the shared variables of a model to these rows."""
    for key, value in rows.arrays().items():
        getattr(variables, key).set_value(value)


def _try(
    model: pm.Model, where: str, variables: Any, tables: Sequence[ConditionalData]
) -> list[tuple[list[tuple[int, ...]], dict[str, float]]]:
    """For each table: shapes of the free variables, and the log density at the initial point, by variable."""
    free, found = model.free_RVs, []
    names = [v.name for v in [*free, *model.observed_RVs, *model.potentials]]
    try:
        shapes = pytensor.function([], [v.shape for v in free], **PLAIN)
        values, terms = [model.rvs_to_values[v] for v in free], model.logp(sum=False)
        density = pytensor.function(values, [t.sum() for t in terms], **PLAIN)
        for rows in tables:
            fill_variables(variables, rows)
            own = [tuple(int(n) for n in shape) for shape in shapes()]
            with pytensor.config.change_flags(mode="FAST_COMPILE"):
                point = model.initial_point(0)
            logs = density(*(point[v.name] for v in values))
            found.append((own, {name: float(x) for name, x in zip(names, logs, strict=True)}))
    except (IndexError, ValueError, TypeError) as error:
        raise SpecificationError(
            f"{where} works only with the rows of the table for which it was written. Everything that has one "
            "value per row must come from data (data.y, data.X, data.Z, data.cluster), and whatever is indexed by "
            f"data.cluster must have length data.clusters. PyMC says: {str(error).splitlines()[0]}"
        ) from error
    return found


def _check_density(terms: dict[str, float], where: str) -> None:
    bad = [f"'{name}' ({x:g})" for name, x in terms.items() if not np.isfinite(x)]
    if bad:
        raise SpecificationError(
            f"{where}: the log density at the initial point is not finite, because of {', '.join(bad)}. Do the data "
            "lie within the support of the model? Give initval= to the variables concerned, or other priors."
        )
