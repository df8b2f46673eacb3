"""Read the contents of a saved result without running anything, and compare them with the saved hash.

Files are netCDF or zarr, which can hold things that must not be trusted: pickled objects, links to other files, foreign
records. A result has numbers, texts and JSON only; everything else is refused before it is read.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from bayesimp.errors import DataError

__all__ = ["contents_digest", "read_contents"]

PARTS = {"cluster", "families", "imputed", "events", "native", "attrs"}  # keys of the record of a result
GROUPS = {"table", "imputed"}  # groups that every result has
NUMBERS = "biufcmM"
ROOM = 2**20  # bytes that a variable may declare beyond what the file stores, because of fill values
# zarr codecs that only decode bytes to numbers or texts; others may unpickle or import a module by name
CODECS = {
    "bytes", "blosc", "zstd", "gzip", "zlib", "lz4", "crc32c", "vlen-utf8", "vlen-bytes", "transpose", "shuffle",
    "sharding_indexed", "fixed_length_utf32",
}  # fmt: skip


def read_contents(path: Path) -> tuple[dict[str, Any], dict[str, xr.Dataset]]:
    """The record of a saved result and its groups.

    Raises
    ------
    DataError
        The file is damaged, is not a result, was altered after it was saved, or holds something that results never
        hold.
    """
    try:
        attrs, groups = _of_zarr(path) if path.suffix == ".zarr" else _of_netcdf(path)
    except (DataError, MemoryError):
        raise
    except Exception as error:  # any error of HDF5, zarr or a codec about unreadable bytes
        text = " ".join(str(error).split())[:200] or type(error).__name__
        raise DataError(f"{path} cannot be read; it is damaged, or not netCDF or zarr: {text}") from None
    if not isinstance(attrs.get("bayesimp"), str):
        raise DataError(f"{path} is not a result saved by this version of bayesimp.")
    expected = attrs.get("sha256")  # earlier versions have none, or one without the numeric attributes
    if expected is not None and all(
        expected != contents_digest(attrs["bayesimp"], groups, numeric) for numeric in (True, False)
    ):
        raise DataError(
            f"{path} is not what was saved: its contents do not match the SHA-256 that was saved with them. It is "
            "damaged or was altered; restore it from a copy."
        )
    return _record(path, attrs["bayesimp"], groups), groups


def contents_digest(record: str, groups: Mapping[str, xr.Dataset], numeric: bool = True) -> str:
    """SHA-256 of the record and of all variables: names, shapes, values and attributes.

    Files may store a whole number or truth value in another type, so numbers are hashed as 64 bits, and numeric
    attributes by their value.

    Parameters
    ----------
    record
        The JSON record of the result.
    groups
        The groups of its tree.
    numeric
        Whether to include numeric attributes, which earlier versions did not.
    """
    digest = hashlib.sha256(record.encode())
    for name in sorted(groups):
        group = groups[name]
        digest.update(_json([name, _attributes(group.attrs, numeric)]))
        for variable in sorted(map(str, group.variables)):
            array = group.variables[variable]
            attributes = _attributes(array.attrs, numeric)
            digest.update(_json([variable, list(map(str, array.dims)), list(array.shape), attributes]))
            digest.update(_values(array.values))
    return digest.hexdigest()


def _values(values: np.ndarray) -> bytes | memoryview:
    match values.dtype.kind:
        case "b" | "i" | "m" | "M":
            return np.ascontiguousarray(values.astype("<i8")).data
        case "u":
            return np.ascontiguousarray(values.astype("<u8") if values.dtype.itemsize > 1 else values).data
        case "f":
            return np.ascontiguousarray(values.astype("<f8")).data
    return _json([str(value) for value in values.ravel()])


def _attributes(attrs: Mapping[Any, Any], numeric: bool) -> dict[str, Any]:
    """Texts as they are, and numbers by their value: files of one kind return a whole number in another type."""
    named = {str(name): value for name, value in attrs.items() if isinstance(value, str) or numeric}
    return {
        name: value if isinstance(value, str) else [_number(x) for x in np.ravel(value)]
        for name, value in sorted(named.items())
    }


def _number(value: Any) -> Any:
    if isinstance(value, str):
        return value
    return int(value) if float(value).is_integer() else float(value)


def _json(value: Any) -> bytes:
    return json.dumps(value).encode()


def _record(path: Path, text: str, groups: Mapping[str, xr.Dataset]) -> dict[str, Any]:
    """The parsed record, checked to have the parts of a result."""
    try:
        record = json.loads(text)
    except (ValueError, RecursionError):
        record = None
    whole = isinstance(record, dict) and record.keys() >= PARTS and isinstance(record["attrs"], dict)
    if not whole or not groups.keys() >= GROUPS or not all("names" in g.attrs for g in groups.values()):
        raise DataError(f"{path} lacks parts of a result; it was written by other software, or altered.")
    return record


def _of_netcdf(path: Path) -> tuple[dict[str, Any], dict[str, xr.Dataset]]:
    """Attributes and groups, provided that nothing is in the file that a result never holds."""
    import h5py

    from bayesimp.imputation.netcdf import read_attrs, read_group, seal_is_broken

    if seal_is_broken(path):
        raise DataError(
            f"{path} is not what was saved: its bytes do not match the SHA-256 at its end. It is damaged or was altered; "
            "restore it from a copy."
        )
    with h5py.File(path, "r") as file:
        _check_group(path, file)
        groups = {name: read_group(item) for name, item in file.items() if isinstance(item, h5py.Group)}
        return read_attrs(file), groups


def _of_zarr(path: Path) -> tuple[dict[str, Any], dict[str, xr.Dataset]]:
    """The same of a zarr store."""
    for file in path.rglob("*"):
        if file.is_symlink():
            raise DataError(
                f"{path}: '{file.relative_to(path)}' is a link to another file, which no result has."
            )
        if file.name in ("zarr.json", ".zarray", ".zmetadata"):
            _check_metadata(path, json.loads(file.read_bytes()))
    with xr.open_datatree(path, engine="zarr") as opened:
        groups = {str(name): group.to_dataset().load() for name, group in opened.children.items()}
        return {str(key): value for key, value in opened.attrs.items()}, groups


def _check_group(path: Path, group: Any) -> None:
    import h5py

    for name in group:
        link = group.get(name, getlink=True)
        if not isinstance(link, h5py.HardLink):
            raise DataError(
                f"{path}: '{group.name}/{name}' is a link to another file or place, which results never have."
            )
        item = group[name]
        if isinstance(item, h5py.Group):
            _check_group(path, item)
        elif not isinstance(item, h5py.Dataset) or item.external or item.is_virtual:
            raise DataError(
                f"{path}: '{item.name}' takes its values from other files, which results never do."
            )
        elif item.size * item.dtype.itemsize > item.id.get_storage_size() + ROOM:
            raise DataError(
                f"{path}: '{item.name}' declares {item.size:,} values that the file does not hold; reading it would "
                "fill the memory."
            )
        elif item.dtype.kind not in NUMBERS + "S" and h5py.check_string_dtype(item.dtype) is None:
            raise DataError(
                f"{path}: '{item.name}' holds {item.dtype}, but a result holds numbers and texts only."
            )


def _check_metadata(path: Path, record: Any) -> None:
    """Refuse codecs and filters that are not listed, wherever they appear in the metadata of a zarr store."""
    if isinstance(record, list):
        for part in record:
            _check_metadata(path, part)
    if not isinstance(record, dict):
        return
    for key in ("codecs", "filters", "compressor", "index_codecs", "storage_transformers"):
        named = record.get(key) or []
        for codec in named if isinstance(named, list) else [named]:
            name = (codec.get("name") or codec.get("id")) if isinstance(codec, dict) else codec
            if name not in CODECS:
                raise DataError(f"{path}: codec {name!r} is not used in results.")
    if record.get("data_type") == "object" or record.get("dtype") in ("|O", "object"):
        raise DataError(f"{path} holds Python objects, but a result holds numbers and texts only.")
    for part in record.values():
        _check_metadata(path, part)
