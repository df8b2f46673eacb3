"""Which variables are imputed, by which method, in which blocks and order."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bayesimp.errors import SpecificationError
from bayesimp.families.columns import as_continuous
from bayesimp.families.registry import family_of
from bayesimp.fcs.specification.analyses import Analyses
from bayesimp.fcs.specification.defaults import check_family, choose
from bayesimp.formulas.columns import INTERCEPT
from bayesimp.messages import listing, suggestion
from bayesimp.methods import Bayes, Method, read
from bayesimp.table.incomplete import IncompleteData

__all__ = ["Visits", "read_visits"]

ORDERS = ("monotone", "revmonotone", "roman", "arabic")


@dataclass(frozen=True)
class Visits:
    """Which variables are imputed, by which method, in which blocks and order.

    Attributes
    ----------
    responses
        Block -> its variables, in the table's order.
    methods
        Block -> its method.
    why
        Block -> the reason for its method, if that is a default.
    incomplete
        The variables of all blocks, in the table's order.
    order
        Names of blocks in the order of visits; a name may occur twice.
    """

    responses: Mapping[str, tuple[str, ...]]
    methods: Mapping[str, Method]
    why: Mapping[str, str]
    incomplete: tuple[str, ...]
    order: tuple[str, ...]


def read_visits(
    methods: Any,
    blocks: Mapping[str, Sequence[str]] | None,
    order: str | Sequence[str] | None,
    data: IncompleteData,
    derived: Mapping[str, str],
    analyses: Analyses,
) -> Visits:
    """Blocks, their methods and their order, read from what the user gave and completed by defaults.

    Raises
    ------
    SpecificationError
        As for `_read_blocks`, `_read_methods` and `_ordered`, or there is nothing to impute.
    DataError
        A variable has no observed value.
    """
    grouped = _read_blocks(blocks, data, derived)
    method_of, why = _read_methods(methods, data, grouped, derived, analyses)
    responses = {name: grouped.get(name, (name,)) for name in method_of}
    members = {variable for block in responses.values() for variable in block}
    incomplete = tuple(name for name in data.variables if name in members)
    _require_something(tuple(name for name in incomplete if data.missing(name).any()), data)
    if INTERCEPT in (*incomplete, *derived, *grouped):
        raise SpecificationError(
            f"'{INTERCEPT}' is the name of the constant column of all models; rename the variable or block."
        )
    return Visits(responses, method_of, why, incomplete, _ordered(order, responses, data))


def _read_blocks(
    blocks: Mapping[str, Sequence[str]] | None, data: IncompleteData, derived: Mapping[str, str]
) -> dict[str, tuple[str, ...]]:
    """Block -> responses, in the table's order; a variable without a block forms its own.

    Raises
    ------
    SpecificationError
        A variable is unknown, complete, derived or in two blocks, or a name is taken.
    """
    grouped: dict[str, tuple[str, ...]] = {}
    for name, members in (blocks or {}).items():
        if isinstance(members, str) or not isinstance(members, Iterable) or not members:
            raise SpecificationError(f"blocks: '{name}' must be a list of variables, got {members!r}.")
        for member in members:
            _check_variable("blocks", member, data)
            if member in derived:
                raise SpecificationError(f"blocks: '{member}' is derived, so a block cannot impute it.")
            if not data.missing(member).any():
                raise SpecificationError(
                    f"blocks: '{member}' is complete, but a block holds variables to impute; use it as a predictor."
                )
            others = [other for other, taken in grouped.items() if member in taken]
            if others or list(members).count(member) > 1:
                raise SpecificationError(
                    f"blocks: '{member}' is in '{name}' and in '{(others or [name])[0]}'; once is enough."
                )
        if name in data.frame.columns and list(members) != [name]:
            raise SpecificationError(
                f"blocks: '{name}' is a column of the table; give the block another name."
            )
        grouped[str(name)] = tuple(v for v in data.variables if v in members)
    return grouped


def _read_methods(
    methods: Any,
    data: IncompleteData,
    grouped: Mapping[str, tuple[str, ...]],
    derived: Mapping[str, str],
    analyses: Analyses,
) -> tuple[dict[str, Method], dict[str, str]]:
    """Block -> method, in the order of the blocks' first variables in the table; and the reason, if it is a default.

    Responses of analyses have a block even if they are complete, for the parameters of the analysis.

    Raises
    ------
    SpecificationError
        A name is not an incomplete variable or block, a method does not support a family, or a block has a method for
        single variables or a non-normal variable.
    """
    by_name: dict[str, Any] = {}
    if hasattr(methods, "items"):
        by_name = dict(methods.items())
        methods = None
    for name, value in by_name.items():
        if not (name in analyses and _is_method(value)):
            _check_key(str(name), value, data, grouped, derived)
    chosen: dict[str, Method] = {}
    why: dict[str, str] = {}
    for variable in data.variables:
        if variable in derived or not (variable in analyses or data.missing(variable).any()):
            continue
        name = next((block for block, members in grouped.items() if variable in members), variable)
        value = by_name.get(name, methods)
        told = methods is not None or name in by_name
        if variable in analyses and not (name in by_name and _is_method(value)):
            chosen[name] = _of_analysis(variable, data, analyses, name in by_name, methods)
            continue
        unsaid = not family_of(data.families[variable]).is_imputable and name not in (*by_name, *grouped)
        if (told and not _is_method(value)) or unsaid:
            continue
        data.require_observed([variable])
        if told:
            chosen[name] = read(value)
        elif name in grouped:
            chosen[name] = Bayes()
        else:
            chosen[name], why[name] = choose(data, variable)
        chosen[name] = chosen[name].for_family(family_of(data.families[variable]).name)
        if name in grouped:
            _check_normal(name, variable, data)
        check_family(data, variable, chosen[name])
        _check_joint(name, grouped.get(name, (name,)), chosen[name])
    return chosen, why


def _of_analysis(name: str, data: IncompleteData, analyses: Analyses, denied: bool, of_all: Any) -> Method:
    """The method of the response of an analysis.

    denied: the user gave None for it; of_all: the method for all variables, if there is one, which is used if it has a
    random part exactly when the analysis does.
    """
    if denied and data.missing(name).any():
        raise SpecificationError(
            f"methods: '{name}' is the response of the analysis '{analyses.texts[name]}', by which it is imputed; "
            "remove None, or the analysis."
        )
    data.require_observed([name])
    method = analyses.method(data, name)
    if _is_method(of_all) and read(of_all).random == method.random and method.level == "row":
        method = read(of_all)
    return method.for_family(family_of(data.families[name]).name)


def _is_method(value: Any) -> bool:
    return not (value is None or (isinstance(value, str) and not value))


def _ordered(
    order: str | Sequence[str] | None, responses: Mapping[str, tuple[str, ...]], data: IncompleteData
) -> tuple[str, ...]:
    """Names of blocks in the order of visits.

    Raises
    ------
    SpecificationError
        An order or name is unknown, or a block is never visited.
    """
    names = tuple(responses)
    missing = {name: sum(int(data.missing(v).sum()) for v in responses[name]) for name in names}
    if order is None:
        return names
    if isinstance(order, str):
        if order == "roman":
            return names
        if order == "arabic":
            return names[::-1]
        if order in ("monotone", "revmonotone"):
            sign = 1 if order == "monotone" else -1
            return tuple(sorted(names, key=lambda name: sign * missing[name]))
        raise SpecificationError(
            f"order {order!r} is not known. {suggestion(order, ORDERS)} Or give a list of names."
        )
    block_of = {variable: name for name, members in responses.items() for variable in members}
    unknown = [name for name in order if name not in responses and name not in block_of]
    if unknown:
        raise SpecificationError(
            f"order: {unknown[0]!r} is not imputed. {suggestion(unknown[0], [*names, *block_of])}"
        )
    listed = [name if name in responses else block_of[name] for name in order]
    never = [name for name in names if name not in listed]
    if never:
        raise SpecificationError(
            f"order: {listing(never)} would never be imputed; add what is missing to the list."
        )
    return tuple(listed)


def _check_variable(what: str, name: Any, data: IncompleteData) -> None:
    if name not in data.variables:
        cluster = "is the cluster" if name == data.cluster else "is not a variable"
        raise SpecificationError(f"{what}: {name!r} {cluster}. {suggestion(name, data.variables)}")


def _check_key(
    name: str,
    value: Any,
    data: IncompleteData,
    grouped: Mapping[str, tuple[str, ...]],
    derived: Mapping[str, str],
) -> None:
    if name in grouped:
        return
    nothing = not _is_method(value)
    if name == data.cluster and nothing:
        return
    if name in derived:
        if nothing:
            return
        raise SpecificationError(
            f"methods: '{name}' is derived ({derived[name]}), so no method imputes it; remove it from one of the two."
        )
    if name not in data.variables:
        raise SpecificationError(
            f"methods: '{name}' is not a variable. {suggestion(name, [*data.variables, *grouped])}"
        )
    inside = [block for block, members in grouped.items() if name in members]
    if inside:
        raise SpecificationError(
            f"methods: '{name}' is in block '{inside[0]}'; give the method to the block."
        )
    if not nothing and not data.missing(name).any():
        raise SpecificationError(
            f"methods: '{name}' is complete and needs no method; remove it, or give None."
        )


def _check_normal(block: str, name: str, data: IncompleteData) -> None:
    family = data.families[name]
    if not family_of(family).is_normal and block != name:
        raise SpecificationError(
            f"Block '{block}': '{name}' has family '{family}', but variables can be imputed jointly only if all are "
            f"normal. Remove it from the block. {as_continuous(data.frame[name])}"
        )


def _check_joint(name: str, members: tuple[str, ...], method: Method) -> None:
    if len(members) == 1 or method.joint:
        return
    what = "residual='cluster'" if method.residual == "cluster" else f"method '{method.name}'"
    raise SpecificationError(
        f"Block '{name}' ({listing(members)}): {what} imputes one variable at a time; use 'bayes' or 'iw', or no block."
    )


def _require_something(incomplete: tuple[str, ...], data: IncompleteData) -> None:
    if not incomplete:
        unread = [
            name
            for name in data.variables
            if data.missing(name).any() and not data.variable(name).distribution.is_imputable
        ]
        why = f" {listing(unread)}: neither numeric, text nor category (family 'none')." if unread else ""
        raise SpecificationError(
            "There is nothing to impute: no variable with missing cells has a method."
            f"{why} Variables: {listing(data.variables, 30)}."
        )
    data.require_observed(incomplete)
