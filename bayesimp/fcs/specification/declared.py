"""Convert the user's declarations for FCS to plain records (JSON) and back, for files and reports."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from bayesimp import methods as me
from bayesimp.methods.base import from_dict

__all__ = ["declared_from_dict", "declared_to_dict"]


def declared_to_dict(declared: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of `FCS` as records, except data, where and ignore; of ``post`` only the names."""
    out = {name: declared[name] for name in ("order", "blocks", "derived", "compatible")}
    analysis = declared.get("analysis")
    out["analysis"] = analysis if analysis is None or isinstance(analysis, str) else list(analysis)
    out["bounds"] = declared["bounds"] and {
        str(name): [_bound(bound) for bound in pair] for name, pair in declared["bounds"].items()
    }
    out["methods"] = _methods(declared["methods"])
    out["predictors"] = _predictors(declared["predictors"])
    out["post"] = sorted(declared["post"] or ())
    return out


def declared_from_dict(record: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of `FCS` from the result of `declared_to_dict`.

    Raises
    ------
    SpecificationError
        A block had a user-defined model, which is code and hence not in the file.
    """
    out = {name: record[name] for name in ("order", "blocks", "derived", "compatible")}
    out["analysis"] = record.get("analysis")  # absent from files of earlier versions
    out["bounds"] = (
        {name: tuple(pair) for name, pair in record["bounds"].items()} if record["bounds"] else None
    )
    methods = record["methods"]
    if isinstance(methods, dict) and "type" not in methods:
        out["methods"] = {name: _method(m, name) for name, m in methods.items()}
    else:
        out["methods"] = _method(methods, "all blocks")
    predictors = record["predictors"]
    if isinstance(predictors, dict) and "table" in predictors:
        predictors = pd.DataFrame.from_dict(
            predictors["table"], orient="index", columns=predictors["columns"]
        )
    out["predictors"] = predictors
    return out


def _methods(methods: Any) -> Any:
    if isinstance(methods, Mapping):
        return {name: _method_to_dict(method) for name, method in methods.items()}
    return _method_to_dict(methods)


def _method_to_dict(method: Any) -> Any:
    if method is None or method == "":
        return method
    return me.read(method).to_dict()


def _method(record: Any, where: str) -> Any:
    if record is None or record == "":
        return record
    return from_dict(record, where)


def _predictors(predictors: Any) -> Any:
    if isinstance(predictors, pd.DataFrame):
        columns = [str(c) for c in predictors.columns]
        rows = {
            str(name): [_plain(v) for v in row]
            for name, row in zip(predictors.index, predictors.to_numpy(), strict=True)
        }
        return {"table": rows, "columns": columns}
    if isinstance(predictors, Mapping):
        return {str(name): _plain_of(value) for name, value in predictors.items()}
    return None if predictors is None else _plain_of(predictors)


def _plain_of(value: Any) -> Any:
    if isinstance(value, str):
        return value
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    return [_plain(v) for v in value]


def _bound(bound: Any) -> Any:
    """A number, None, or a list of these with one entry per row of the table."""
    if bound is None or not hasattr(bound, "__len__"):
        return _plain(bound)
    return [None if value is None or value != value else float(value) for value in pd.Series(bound).tolist()]


def _plain(value: Any) -> Any:
    return value.item() if hasattr(value, "item") else value
