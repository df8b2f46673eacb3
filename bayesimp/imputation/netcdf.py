"""netCDF-4 files by h5py: groups of variables with named dimensions, as xarray, R and the netCDF tools read them.

A netCDF-4 file is an HDF5 file in which every dimension is a data set, its coordinate or a placeholder without values,
that the axes of variables refer to (a "dimension scale"). h5netcdf, by which xarray writes them, opens dimensions again
for every variable: for a run of two variables it takes six to eight times as long as this.

HDF5 has no checksum of its own structures, and can end the process on a file with one wrong bit. Files therefore end in a
seal, the SHA-256 of all bytes before it, which is checked before HDF5 opens them; HDF5 ignores bytes after its own.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import xarray as xr

__all__ = ["netcdf_bytes", "read_group", "seal_is_broken"]

PLACEHOLDER = "This is a netCDF dimension but not a netCDF variable."
SEAL = b"bayesimp SHA-256 "
HIDDEN = {
    "CLASS", "NAME", "REFERENCE_LIST", "DIMENSION_LIST", "_Netcdf4Dimid", "_Netcdf4Coordinates", "_NCProperties",
}  # fmt: skip
VERSIONS = f"version=2,hdf5={h5py.version.hdf5_version},h5py={h5py.__version__}"


# writing ----------------------------------------------------------------------------------------


def netcdf_bytes(attrs: Mapping[Any, Any], groups: Mapping[str, xr.Dataset]) -> bytes:
    """A file with these attributes and groups, made in memory: HDF5 ends the process where a disk is full."""
    room = io.BytesIO()
    with h5py.File(room, "w", track_order=True) as file:
        file.attrs["_NCProperties"] = np.bytes_(VERSIONS)
        _write_attrs(file, attrs)
        first = 0  # dimensions have numbers, which no two of a file share
        for name, group in groups.items():
            _write_group(file.create_group(name, track_order=True), group, first)
            first += len(group.sizes)
    data = room.getvalue()
    return data + SEAL + hashlib.sha256(data).hexdigest().encode()


def seal_is_broken(path: Path) -> bool:
    """Whether a file has a seal that does not fit its bytes; files of earlier versions have none."""
    data = memoryview(path.read_bytes())
    begin = len(data) - len(SEAL) - 64
    if begin < 0 or data[begin : begin + len(SEAL)] != SEAL:
        return False
    return hashlib.sha256(data[:begin]).hexdigest().encode() != data[begin + len(SEAL) :]


def _write_group(into: h5py.Group, group: xr.Dataset, first: int) -> None:
    variables, attrs = xr.conventions.encode_dataset_coordinates(group)
    _write_attrs(into, attrs)
    number = {str(dim): first + k for k, dim in enumerate(group.sizes)}
    scales = {}
    for dim, size in group.sizes.items():
        if dim in variables:
            scales[dim] = _write_values(into, str(dim), variables.pop(dim))
            scales[dim].make_scale(str(dim))
            scales[dim].attrs["_Netcdf4Coordinates"] = np.array([number[str(dim)]], np.int32)
        else:
            scales[dim] = into.create_dataset(str(dim), (size,), ">f4", **_growing(size))
            scales[dim].make_scale(f"{PLACEHOLDER}{size:10}")
        scales[dim].attrs["_Netcdf4Dimid"] = np.int32(number[str(dim)])
    for key, variable in variables.items():
        item = _write_values(into, str(key), variable)
        for axis, dim in enumerate(variable.dims):
            item.dims[axis].attach_scale(scales[dim])
        if variable.dims:
            numbers = np.array([number[str(dim)] for dim in variable.dims], np.int32)
            item.attrs["_Netcdf4Coordinates"], item.attrs["_Netcdf4Dimid"] = numbers, numbers[0]


def _write_values(into: h5py.Group, name: str, variable: xr.Variable) -> h5py.Dataset:
    encoded = xr.conventions.encode_cf_variable(variable, name=name)
    values, text = encoded.values, encoded.dtype.kind in "OU"
    dtype = h5py.string_dtype() if text else values.dtype
    values = values.astype(object) if text else values
    item = into.create_dataset(name, values.shape, dtype, values, **_growing(*values.shape))
    _write_attrs(item, encoded.attrs)
    return item


def _growing(*shape: int) -> dict[str, Any]:
    """netCDF: a dimension of size 0 is one that may grow."""
    return {"maxshape": tuple(n or None for n in shape), "chunks": True} if 0 in shape else {}


def _write_attrs(into: Any, attrs: Mapping[Any, Any]) -> None:
    for key, value in attrs.items():
        if not isinstance(value, str):
            value = np.atleast_1d(value)
            value = value.astype(object) if value.dtype.kind == "U" else value
        into.attrs[str(key)] = value


# reading ----------------------------------------------------------------------------------------


def read_group(group: h5py.Group) -> xr.Dataset:
    """The variables of one group, in memory."""
    items = {name: item for name, item in group.items() if isinstance(item, h5py.Dataset)}
    scales = {name: h5py.h5ds.get_scale_name(i.id) for name, i in items.items() if h5py.h5ds.is_scale(i.id)}
    places = {_place(items[name].id): name for name in scales}
    variables = {}
    for name, item in items.items():
        if scales.get(name, b"").startswith(PLACEHOLDER.encode()):
            continue
        refers = () if name in scales else item.attrs.get("DIMENSION_LIST", ())
        dims = [places[_place(h5py.h5r.dereference(axis[0], group.id))] for axis in refers]
        values = item[...]
        if h5py.check_string_dtype(item.dtype):
            values = np.asarray(item.asstr()[...]).astype(str)
        variables[name] = xr.Variable([name] if name in scales else dims, values, read_attrs(item))
    return xr.decode_cf(xr.Dataset(variables, attrs=read_attrs(group))).load()


def _place(item: Any) -> int:
    """Where in the file an object begins."""
    return h5py.h5o.get_info(item).addr


def read_attrs(item: Any) -> dict[str, Any]:
    """Attributes, without those of the format; netCDF has no scalars and stores them as arrays of length one."""
    found = {}
    for key in item.attrs:
        if key in HIDDEN:
            continue
        value = item.attrs[key]
        if isinstance(value, bytes):  # texts are Unicode; those of the format are hidden
            raise ValueError(f"'{item.name}' has an attribute {key!r}, which is of no kind that is written")
        if isinstance(value, np.ndarray):
            value = value.tolist() if value.dtype == object else value
            value = value[0] if len(value) == 1 else value
        found[key] = value
    return found
