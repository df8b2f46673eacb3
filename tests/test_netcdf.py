"""netCDF files written and read by h5py are what xarray writes and reads by h5netcdf."""

import io
import re

import h5py
import numpy as np
import pandas as pd
import pytest
import xarray as xr

from bayesimp.imputation.netcdf import netcdf_bytes, read_attrs, read_group


def of_every_kind() -> xr.Dataset:
    """Texts, numbers of all widths, times, truth values; scalars, no rows; coordinates of rows."""
    rng, nan = np.random.default_rng(1), np.nan
    variables = {
        "text": ("x", ["p", "quite long"]),
        "objects": ("x", np.array(["é", ""], dtype=object)),
        "no text": ("none", np.array([], dtype="U3")),
        "nothing": (("x", "none"), np.zeros((2, 0))),
        "truth": ("x", [True, False]),
        "number": ((), 1.5),
        "word": ((), "hello"),
        "holes": (("x", "z", "y"), np.where(rng.random((2, 4, 3)) < 0.3, nan, rng.normal(size=(2, 4, 3)))),
        "days": ("x", pd.to_datetime(["2020-01-01", "2021-02-03"]).values),
        "spans": ("x", np.array([1, 10**12], "m8[ns]")),
        **{kind: ("x", np.array([1, 2], kind)) for kind in ("i1", "u1", "i2", "u4", "i8", "u8", "f4", "f8")},
    }
    attrs = {"names": '{"a": "ä"}', "one": 3, "some": [1.0, 2.0], "words": ["a", "b"]}
    coords = {"x": ["k", "l"], "y": [3, 1, 2], "of_x": ("x", [1, 2])}
    found = xr.Dataset(variables, coords, attrs)
    found["i1"].attrs = {"column": "systolic / mmHg", "digits": 2}
    return found


def opened(data: bytes) -> xr.DataTree:
    """By xarray and h5netcdf."""
    return xr.open_datatree(io.BytesIO(data), engine="h5netcdf").load()


def read(data: bytes) -> xr.DataTree:
    with h5py.File(io.BytesIO(data)) as file:
        tree = xr.DataTree.from_dict({f"/{name}": read_group(group) for name, group in file.items()})
        tree.attrs = read_attrs(file)
    return tree


GROUPS = {"one": of_every_kind(), "two": xr.Dataset({"beta": ("draw", [1.0])}), "empty": xr.Dataset()}
ATTRS = {"record": "[1, 2]", "sha256": "ab"}


def by_xarray() -> bytes:
    tree = xr.DataTree.from_dict({f"/{name}": group for name, group in GROUPS.items()})
    tree.attrs = ATTRS
    return bytes(tree.to_netcdf(engine="h5netcdf"))


def same(one: xr.DataTree, other: xr.DataTree) -> None:
    xr.testing.assert_identical(one, other)
    for name, node in one.children.items():
        assert list(node.data_vars) == list(other[name].data_vars)
        for key, variable in node.variables.items():
            assert variable.dtype == other[name].variables[key].dtype, key


def test_what_is_written_is_what_xarray_writes():
    expected = opened(by_xarray())
    assert set(expected["one"].variables) == set(GROUPS["one"].variables)
    same(opened(netcdf_bytes(ATTRS, GROUPS)), expected)


def test_what_xarray_writes_is_read():
    data = by_xarray()
    same(read(data), opened(data))
    same(read(netcdf_bytes(ATTRS, GROUPS)), opened(data))


def layout(data: bytes) -> dict:
    """All parts of the format: shapes, dtypes, scales and what axes refer to, by name."""
    found = {}

    def note(name, item):
        if isinstance(item, h5py.Dataset):
            kind = "text" if h5py.check_string_dtype(item.dtype) else item.dtype.str
            scales = [[scale.name for scale in axis.values()] for axis in item.dims]
            attrs = {k: np.shape(v) for k, v in item.attrs.items() if not k.endswith(("_LIST", "Dimid"))}
            found[name] = item.shape, item.maxshape, kind, scales, attrs, h5py.h5ds.is_scale(item.id)

    with h5py.File(io.BytesIO(data)) as file:
        file.visititems(note)
    return found


def test_the_layout_is_that_of_h5netcdf():
    """Including what xarray does not read, but netCDF's own library and those of R do."""
    assert layout(netcdf_bytes(ATTRS, GROUPS)) == layout(by_xarray())


def test_numbers_of_dimensions_are_those_that_variables_name():
    with h5py.File(io.BytesIO(netcdf_bytes(ATTRS, GROUPS))) as file:
        seen = []
        for group in file.values():
            scales = [item for item in group.values() if h5py.h5ds.is_scale(item.id)]
            seen += [int(item.attrs["_Netcdf4Dimid"]) for item in scales]
            for item in group.values():
                named = [int(axis[0].attrs["_Netcdf4Dimid"]) for axis in item.dims if len(axis)]
                if named:
                    assert item.attrs["_Netcdf4Coordinates"].tolist() == named
        assert sorted(seen) == list(range(len(seen))) and len(seen) == 5


def test_attributes_of_other_kinds_are_refused():
    room = io.BytesIO(netcdf_bytes(ATTRS, GROUPS))
    with h5py.File(room, "r+") as file:
        file["two/beta"].attrs["odd"] = np.bytes_(b"bytes")
    with (
        h5py.File(room) as file,
        pytest.raises(ValueError, match=re.escape("'/two/beta' has an attribute 'odd'")),
    ):
        read_group(file["two"])
