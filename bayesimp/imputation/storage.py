"""Save a result and read it back exactly: netCDF for a path ending in .nc, zarr for .zarr.

Besides the groups of the tree, a file holds ``table`` (the incomplete table, see table/exact.py) and ``state`` (the
last states of the chains, from which `extend` continues).
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from bayesimp.contract import CodeNotInFile, Run, model_type, plain
from bayesimp.durable import replacing
from bayesimp.errors import BayesimpError, DataError, SpecificationError
from bayesimp.events import Event
from bayesimp.imputation.file_contents import contents_digest, read_contents
from bayesimp.imputation.netcdf import netcdf_bytes
from bayesimp.imputation.result import Imputations
from bayesimp.runlog import check_file
from bayesimp.sections import possible
from bayesimp.table.exact import from_exact, to_exact
from bayesimp.table.incomplete import IncompleteData

__all__ = ["from_groups", "load", "save", "to_tree"]

LONGEST = 100  # most characters of a name in a file


def save(imputations: Imputations, path: str | os.PathLike[str]) -> None:
    """Write imputations to `path` (.nc or .zarr).

    Groups, variables and coordinates are those of ``imputations.tree``; in names ``_`` replaces everything except ASCII
    letters and digits (``Systolic_BP``), and the attribute ``names`` of the group has the original names. Files hold no
    code: the functions of ``post=`` and user-defined PyMC models are left out. The result is complete without them; to
    continue its chains, give `load` the functions of ``post=`` again.
    """
    path = Path(path)
    if path.suffix not in (".nc", ".zarr"):
        raise SpecificationError(f"{path}: give a path that ends in .nc (netCDF) or .zarr.")
    tree = to_tree(imputations)
    with replacing(path) as unfinished:
        if path.suffix == ".nc":
            groups = {str(name): group.to_dataset() for name, group in tree.children.items()}
            unfinished.write_bytes(netcdf_bytes(tree.attrs, groups))
        else:
            tree.to_zarr(unfinished, mode="w")


def to_tree(imputations: Imputations) -> xr.DataTree:
    """The contents of a file: numbers, text and bytes."""
    data, run = imputations.data, imputations.run
    groups = {name: group.to_dataset() for name, group in imputations.tree.children.items()}
    text, values = to_exact(data.frame)
    groups["table"] = xr.Dataset(
        {"record": ("character", _bytes(text.encode())), "values": ("byte", _bytes(values))}
    )
    if run is not None:
        groups["state"] = run.state()
    record = {
        "cluster": data.cluster_columns,
        "families": dict(data.families),
        "imputed": imputations.imputed_columns,
        "events": [e.as_dict() for e in imputations.log],
        "native": "" if data.backend is None else data.backend.value,
        "attrs": imputations.attrs,
    }
    tree = xr.DataTree.from_dict({f"/{name}": _for_file(group) for name, group in groups.items()})
    tree.attrs["bayesimp"] = json.dumps(record, default=plain)
    tree.attrs["sha256"] = contents_digest(
        tree.attrs["bayesimp"], {str(name): group.to_dataset() for name, group in tree.children.items()}
    )
    return tree


def load(
    path: str | os.PathLike[str], post: Mapping[str, Callable] | None = None, model: Any = None
) -> Imputations:
    """Read what `save` wrote; chains can be continued with `extend` and `iterate`.

    Parameters
    ----------
    post
        The functions given to `FCS`, because files do not hold code. Without them, or if a block has a user-defined
        PyMC model, the result is complete but cannot be continued, as an event says.
    model
        The `pymc.Model` given to `FromPyMC`, for the same reason.

    Raises
    ------
    FileNotFoundError, DataError, SpecificationError
        The file does not exist, was not written by `save`, was altered or damaged afterwards, or `path` is not a path.
    """
    if not isinstance(path, str | os.PathLike):
        raise SpecificationError(
            f"load takes the path of a file that imp.save(path) wrote, got {type(path).__name__}."
        )
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"{path}: there is no such file; load reads what imp.save(path) wrote.")
    check_file(path)
    return _checked(*read_contents(path), post, model, str(path))


def from_groups(
    attrs: Mapping[Any, Any],
    groups: Mapping[str, xr.Dataset],
    post: Mapping[str, Callable] | None = None,
    model: Any = None,
) -> Imputations:
    """The result from attributes and groups of `to_tree`, possibly read from a file; otherwise as `load`."""
    return _checked(json.loads(attrs["bayesimp"]), groups, post, model, "the result")


def _checked(
    record: dict[str, Any],
    groups: Mapping[str, xr.Dataset],
    post: Mapping[str, Callable] | None,
    model: Any,
    where: str,
) -> Imputations:
    """`_rebuilt`, with exceptions due to an invalid record raised as DataError."""
    _check_post(post, record["attrs"])
    functions = post if model is None else {"model": model}
    try:
        if model is not None and not model_type(record["attrs"]["model"]).user_defined:
            raise SpecificationError(
                f"load: model= is for results of FromPyMC, but this is a result of {record['attrs']['model']}."
            )
        return _rebuilt(record, {name: _from_file(group) for name, group in groups.items()}, functions)
    except BayesimpError:
        raise
    except (
        KeyError,
        IndexError,
        TypeError,
        ValueError,
        AttributeError,
        RecursionError,
        MemoryError,
    ) as error:
        raise DataError(
            f"{where} holds something that results never hold ({type(error).__name__}: {str(error)[:200]}); it was "
            "written by other software, altered, or saved by another version of bayesimp."
        ) from error


def _rebuilt(
    record: dict[str, Any], own: dict[str, xr.Dataset], functions: Mapping[str, Callable] | None
) -> Imputations:
    """The result from a record and its groups; `functions`: the user's, which files do not hold."""
    attrs, events = record["attrs"], tuple(Event(**e) for e in record["events"])
    table, state = own.pop("table"), own.pop("state", None)
    frame = from_exact(table["record"].values.tobytes().decode(), table["values"].values.tobytes())
    data = IncompleteData(frame, record["cluster"], record["families"])
    data.backend = _backend(record["native"])
    tree = xr.DataTree.from_dict({f"/{name}": group for name, group in own.items()})
    tree.attrs.update(attrs)
    run: Run | None = None
    if state is not None:
        try:
            run = _run(data, tree, state, functions)
        except CodeNotInFile as error:
            events += (Event("cannot go on", "chains", str(error)),)
    imputed = {a.attrs["column"]: (a[a.dims[1]].values, a.values) for a in own["imputed"].data_vars.values()}
    cells = {name: imputed[name] for name in record["imputed"]}
    return Imputations(data, cells, attrs, partial(_itself, tree), events, run)


def _check_post(post: Any, attrs: Mapping) -> None:
    """Refuse functions that are not given by variable, or are for variables that had none."""
    if post is None:
        return
    if not isinstance(post, Mapping):
        raise SpecificationError(f"load: post takes {{variable: function}}, got {type(post).__name__}.")
    had = json.loads(attrs.get("specification", "{}")).get("post") or []
    for name in post:
        if name not in had:
            known = possible(name, had) if had else "the run had none"
            raise SpecificationError(f"load: the run had no post function of {name!r}; {known}")


def _itself(tree: xr.DataTree) -> xr.DataTree:
    return tree


def _for_file(group: xr.Dataset) -> xr.Dataset:
    """The group with names that every format and file system allows; the attribute ``names`` has the originals.

    netCDF separates coordinates by spaces and reserves names that begin with "_"; zarr uses names as folders, with at
    most 255 characters, and a file system may not distinguish "x" from "X".
    """
    names = list(dict.fromkeys(str(name) for name in (*group.variables, *group.dims)))
    taken: set[str] = set()
    own = {}
    for name in sorted(names, key=lambda name: (_safe(name) != name, name)):
        safe, k = _safe(name), 2
        while safe.lower() in taken:
            safe, k = f"{_safe(name)}_{k}", k + 1
        taken.add(safe.lower())
        if safe != name:
            own[safe] = name
    return group.rename({name: safe for safe, name in own.items()}).assign_attrs(names=json.dumps(own))


def _safe(name: str) -> str:
    text = re.sub(r"[^A-Za-z0-9-]", "_", name[:LONGEST])
    return text if text[:1].isalpha() else f"v{text}"


def _from_file(group: xr.Dataset) -> xr.Dataset:
    attrs = dict(group.attrs)
    named = group.rename(json.loads(attrs.pop("names")))
    named.attrs = attrs
    return named


def _bytes(data: bytes) -> np.ndarray:
    return np.frombuffer(data, dtype=np.uint8)


def _run(
    data: IncompleteData, tree: xr.DataTree, state: xr.Dataset, functions: Mapping[str, Callable] | None
) -> Run:
    """The chains of a saved result, restored by the model that it names."""
    model = model_type(tree.attrs["model"])
    specification = model.saved_specification({str(k): v for k, v in tree.attrs.items()}, state)
    return model.from_specification(data, specification, functions).restored(tree, state)


def _backend(name: str) -> Any:
    """narwhals' name for the kind of table that the user gave; None for pandas."""
    if not name:
        return None
    import narwhals as nw

    return nw.Implementation(name)
