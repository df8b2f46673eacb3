"""Check the arguments of public methods against their annotations; a wrong kind of value is refused by argument name.

    @checks_arguments
    class Pooled:
        def interval(self, level: float = 0.95) -> pd.DataFrame: ...

    fits.pool().interval("abc")        SpecificationError: level must be a number, got 'abc'.

Annotations that are read: `int`, `float`, `bool`, `str`, paths, literals, sequences of names, mappings, functions, arrays
of numbers, some classes by name (`NAMED`), None, and unions of these. Arguments with any other annotation are left to the
method, and so is the range of a value, such as a level below 1; only negative seeds are refused here.

A misspelt keyword is refused with the name that was probably meant (`UnknownArgument`), also by functions that pass on
their further keywords (`check_keywords`), before anything is computed. Python does so for all other functions (>= 3.13).
"""

from __future__ import annotations

import ast
import os
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping
from dataclasses import is_dataclass
from functools import wraps
from inspect import BoundArguments, Parameter, Signature, isfunction, signature
from numbers import Integral, Real
from types import FunctionType
from typing import Any

import numpy as np
import pandas as pd

from bayesimp.errors import BayesimpError, SpecificationError, UnknownArgument
from bayesimp.sections import possible

__all__ = ["check_keywords", "checks_arguments"]

SEQUENCES = {"Sequence", "Iterable", "Collection", "list", "tuple"}
NAMED = {  # classes, which include their subclasses
    "Shift": "a bayesimp.contract.Shift", "ReferenceBased": "a bi.ReferenceBased", "DataFrame": "a pandas table",
    "Overimputation": "what imp.overimpute(...) gives", "Replicates": "what imp.replicates(...) gives",
    "Line": "one of the `lines` of the result",
}  # fmt: skip
# arguments that methods check in more detail
OWN = {"combinations", "hypotheses", "texts", "variables"}
LONGEST = 60  # characters of a value shown in a message


def checks_arguments[C: type](cls: C) -> C:
    """Make the public methods defined in a class check their arguments first (class decorator).

    Constructors have messages of their own, with examples, for most arguments. Theirs are checked where none of these
    was raised, but an error of Python. Dataclasses are made by the package itself, and not checked.
    """
    for name, member in list(vars(cls).items()):
        constructor = name == "__init__" and not is_dataclass(cls)
        if isfunction(member) and (constructor or not name.startswith("_")):
            shape, kinds = _kinds(member)
            if kinds:
                setattr(cls, name, (_checked_late if constructor else _checked)(member, shape, kinds))
    return cls


def _checked(method: FunctionType, shape: Signature, kinds: dict[str, ast.expr]) -> Callable:
    """The method, with its arguments checked first."""

    @wraps(method)
    def checked(*args: Any, **options: Any) -> Any:
        try:
            given = shape.bind(*args, **options)
        except TypeError:
            _refuse_unknown(method.__qualname__, options, _keywords(shape))
            return method(*args, **options)  # missing arguments: Python's own message names the method
        _check(given, kinds, method)
        return method(*given.args, **given.kwargs)

    return checked


def _checked_late(method: FunctionType, shape: Signature, kinds: dict[str, ast.expr]) -> Callable:
    """The constructor; an error of Python in it names the argument, if one is of the wrong kind."""

    @wraps(method)
    def checked(*args: Any, **options: Any) -> Any:
        try:
            return method(*args, **options)
        except BayesimpError:
            raise
        except (AttributeError, TypeError, ValueError):
            try:
                given = shape.bind(*args, **options)
            except TypeError:  # unknown or missing arguments
                given = None
                _refuse_unknown(method.__qualname__, options, _keywords(shape))
            if given is not None:
                _check(given, kinds, method)
            raise

    return checked


def _check(given: BoundArguments, kinds: dict[str, ast.expr], method: FunctionType) -> None:
    """Check arguments, in place: 3.0 becomes 3 where a whole number is wanted.

    Raises
    ------
    SpecificationError
        An argument is not of the annotated kind.
    """
    for name, kind in kinds.items():
        if name in given.arguments:
            value = given.arguments[name]
            several = given.signature.parameters[name].kind is Parameter.VAR_POSITIONAL
            given.arguments[name] = (
                tuple(_read(v, kind, name, method) for v in value)
                if several
                else _read(value, kind, name, method)
            )


def check_keywords(
    options: Iterable[str], function: Callable, takes: Callable, given: Collection[str] = ()
) -> None:
    """Refuse keywords that a function would pass on to another one, which does not take them.

    Parameters
    ----------
    options
        Keywords that are not arguments of the function itself.
    function
        The function that the user has called.
    takes
        The one that receives the keywords.
    given
        Arguments of `takes` that the function gives itself.

    Raises
    ------
    UnknownArgument
        The message has the name that was probably meant, and all that are possible.
    """
    shape = signature(takes)
    if not any(p.kind is Parameter.VAR_KEYWORD for p in shape.parameters.values()):
        own, names = (
            _keywords(signature(function)),
            dict.fromkeys((function.__qualname__, takes.__qualname__)),
        )
        _refuse_unknown(" and ".join(names), options, [n for n in _keywords(shape) if n not in given], own)


def _keywords(shape: Signature) -> list[str]:
    """The names that a call may give as keywords."""
    named = (Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY)
    return [p.name for p in shape.parameters.values() if p.kind in named and p.name != "self"]


def _refuse_unknown(where: str, options: Iterable[str], takes: list[str], own: Iterable[str] = ()) -> None:
    """own: further names for the message."""
    for name in options:
        if name not in takes:
            known = dict.fromkeys((*own, *takes))
            has = "have" if " and " in where else "has"
            raise UnknownArgument(f"{where} {has} no argument {name!r}; {possible(name, known)}.")


def _kinds(method: FunctionType) -> tuple[Signature, dict[str, ast.expr]]:
    """The signature, and the syntax trees of the annotations that are read."""
    shape = signature(method)
    kinds = {
        p.name: ast.parse(p.annotation, mode="eval").body
        for p in shape.parameters.values()
        if p.kind is not Parameter.VAR_KEYWORD and isinstance(p.annotation, str) and p.name not in OWN
    }
    return shape, {name: kind for name, kind in kinds.items() if all(map(_words, _alternatives(kind)))}


def _alternatives(kind: ast.expr) -> list[ast.expr]:
    """The members of a union."""
    if isinstance(kind, ast.BinOp):
        return _alternatives(kind.left) + _alternatives(kind.right)
    return [kind]


def _name(kind: ast.expr) -> str:
    """The class named by an annotation, without its module and parameters."""
    return ast.unparse(kind.value if isinstance(kind, ast.Subscript) else kind).rpartition(".")[2]


def _words(kind: ast.expr) -> str:
    """The kind in words; empty if it is not read."""
    name = _name(kind)
    if name in SEQUENCES and isinstance(kind, ast.Subscript):
        return "names, such as ['a', 'b']" if ast.unparse(kind.slice).startswith("str") else ""
    if name == "Literal" and isinstance(kind, ast.Subscript):
        options = kind.slice.elts if isinstance(kind.slice, ast.Tuple) else [kind.slice]
        return " or ".join(map(ast.unparse, options))
    known = {
        "int": "a whole number", "float": "a number", "bool": "True or False", "str": "a text", "None": "None",
        "PathLike": "a path", "Mapping": "a dict", "dict": "a dict", "Callable": "a function",
        "ArrayLike": "numbers", **NAMED,
    }  # fmt: skip
    return known.get(name, "")


def _is(value: Any, kind: ast.expr) -> bool:
    """Whether a value is of one kind."""
    name = _name(kind)
    flag = isinstance(value, bool | np.bool_)
    if name == "int":
        whole = isinstance(value, Integral) or (isinstance(value, Real) and float(value).is_integer())
        return whole and not flag
    if name == "float":
        return isinstance(value, Real) and not flag
    if name == "bool":
        return flag or (isinstance(value, Integral) and value in (0, 1))
    if name == "ArrayLike":
        return _are_numbers(value)
    if name in SEQUENCES:
        return _is_names(value)
    if name in NAMED:
        return any(c.__name__ == name for c in type(value).__mro__)
    tests: dict[str, Callable[[Any], bool]] = {
        "None": lambda v: v is None, "str": lambda v: isinstance(v, str), "Literal": lambda v: isinstance(v, str),
        "PathLike": lambda v: isinstance(v, os.PathLike), "Callable": callable,
    }  # fmt: skip
    return tests.get(name, lambda v: isinstance(v, Mapping))(value)


def _are_numbers(value: Any) -> bool:
    """Whether a value consists of numbers, however nested."""
    try:
        return np.asarray(value, dtype=float).dtype == float
    except (TypeError, ValueError):
        return False


def _is_names(value: Any) -> bool:
    """Whether a value is a text or a sequence of possible names."""
    if isinstance(value, pd.DataFrame | Mapping) or not isinstance(value, Iterable):
        return False
    if isinstance(value, str | range):
        return isinstance(value, str)
    return (
        np.ndim(value) <= 1 if isinstance(value, np.ndarray) else all(isinstance(v, Hashable) for v in value)
    )


def _read(value: Any, kind: ast.expr, what: str, method: FunctionType) -> Any:
    """The value; 3.0 becomes 3 where a whole number is wanted.

    Raises
    ------
    SpecificationError
        The value is of none of the annotated kinds.
    """
    for one in _alternatives(kind):
        if _is(value, one):
            if what == "seed" and _name(one) == "int" and value < 0:
                raise SpecificationError(f"seed must be a whole number of at least 0, got {value!r}.")
            return int(value) if _name(one) == "int" else value
    wanted = [_words(one) for one in _alternatives(kind)]
    wanted = [w for w in wanted if w != "None"] + ["None"] * ("None" in wanted)
    shown = repr(value)
    shown = shown if len(shown) <= LONGEST and "\n" not in shown else f"a {type(value).__name__}"
    call = method.__qualname__.removesuffix(".__init__")
    raise SpecificationError(f"{what} must be {' or '.join(dict.fromkeys(wanted))}, got {shown} ({call}).")
