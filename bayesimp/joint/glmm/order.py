"""The order of the factors of a joint GLMM, each after the factors of its predictors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bayesimp.errors import SpecificationError
from bayesimp.formulas.predictors import Predictors
from bayesimp.messages import listing
from bayesimp.table.cluster_level import of_clusters
from bayesimp.table.incomplete import IncompleteData

__all__ = ["order_of"]


def _modelled(data: IncompleteData, formulas: Mapping[str, Predictors]) -> list[str]:
    """Variables that have a factor, in the order of the table."""
    data.require_observed([name for name in data.variables if data.variable(name).distribution.is_imputable])
    return [
        name
        for name in data.variables
        if name in formulas or (data.missing(name).any() and data.variable(name).distribution.is_imputable)
    ]


def order_of(
    data: IncompleteData, asked: Sequence[str] | None, formulas: Mapping[str, Predictors]
) -> tuple[str, ...]:
    """Responses ordered so that every factor comes after the factors of its predictors.

    Covariates of formulas first (cluster-level variables before others, then by their number of missing cells), then the
    responses of the formulas, then the rest. A variable comes after those that its own formula needs.
    """
    names = _modelled(data, formulas)
    needs = {
        name: {v for v in formulas[name].formula.variables if v in names} if name in formulas else set()
        for name in names
    }
    if asked is not None:
        return _checked_order(tuple(asked), names, needs, formulas)
    covariates = set().union(*needs.values())
    place = {name: k for k, name in enumerate(data.variables)}
    rank = {
        name: (
            name not in covariates and name not in formulas,
            not of_clusters(data, name),
            int(data.missing(name).sum()),
            place[name],
        )
        for name in names
    }
    order: list[str] = []
    waiting = sorted(names, key=lambda name: rank[name])
    # a covariate without its own formula comes before every formula, so that its factor does not depend on a response
    free = [name for name in waiting if name in covariates and name not in formulas]
    waiting = free + [name for name in waiting if name not in free]
    while waiting:
        ready = [name for name in waiting if needs[name] <= set(order)]
        if not ready:
            raise SpecificationError(_circle(waiting, needs, formulas))
        order.append(ready[0])
        waiting.remove(ready[0])
    return tuple(order)


def _checked_order(
    order: tuple[str, ...],
    names: list[str],
    needs: Mapping[str, set[str]],
    formulas: Mapping[str, Predictors],
) -> tuple[str, ...]:
    """The user's order, if it names all factors and no formula needs a later one."""
    if sorted(order) != sorted(names):
        lacking, more = [n for n in names if n not in order], [n for n in order if n not in names]
        what = [f"it lacks {listing(lacking)}"] * bool(lacking) + [f"{listing(more)} have no factor"] * bool(
            more
        )
        why = " and ".join(what) or "a name occurs twice"
        raise SpecificationError(
            f"order: name every variable that has a factor once ({listing(names, 30)}); {why}."
        )
    for k, name in enumerate(order):
        later = [v for v in order[k:] if v in needs[name]]
        if later:
            raise SpecificationError(
                f"order: '{formulas[name].text}' depends on '{later[0]}', whose factor comes later; put '{later[0]}' "
                f"before '{name}'."
            )
    return order


def _circle(waiting: list[str], needs: Mapping[str, set[str]], formulas: Mapping[str, Predictors]) -> str:
    """The part of an error message about formulas that need each other."""
    path = [next(name for name in waiting if needs[name] & set(waiting))]
    while path.count(path[-1]) < 2:
        path.append(sorted(needs[path[-1]] & set(waiting))[0])
    path = path[path.index(path[-1]) :]
    texts = "; ".join(f"'{formulas[name].text}'" for name in dict.fromkeys(path))
    return (
        f"The formulas form a circle, {' <- '.join(path)}: {texts}. A joint model is a sequence of factors; remove one "
        "of the variables from a formula, or impute by chained equations, bi.FCS."
    )
