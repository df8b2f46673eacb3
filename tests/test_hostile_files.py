"""A result or plan is data: files that would run code, read other files or fill the memory are refused with a reason.

Digests detect accidents only: whoever writes a hostile file can compute them too, as `reseal` does here.
"""

import io
import json
import os
import pickle
import shutil

import h5py
import numpy as np
import pytest
import xarray as xr

import bayesimp as bi
from bayesimp.imputation import netcdf
from bayesimp.imputation.file_contents import contents_digest
from bayesimp.workflow.plan import read_plan
from tests.workflow.small_plan import PLAN, table, write_plan

pytestmark = pytest.mark.filterwarnings("ignore:Consolidated metadata")


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    place = tmp_path_factory.mktemp("saved")
    data = bi.IncompleteData(table().assign(w=table()["x"].astype("Float64")), "g", {"w": "none"})
    imp = bi.FCS(data, {"y": "norm"}).impute(m=2, seed=1, cycles=2)
    imp.save(place / "a.nc")
    imp.save(place / "a.zarr")
    return place, imp


@pytest.fixture
def nc(saved, tmp_path):
    return shutil.copy(saved[0] / "a.nc", tmp_path / "a.nc")


class Touch:
    """Leaves a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def reseal(path, change):
    """Another record, with a matching digest."""
    with xr.open_datatree(path, engine="h5netcdf") as opened:
        groups = {str(name): group.to_dataset().load() for name, group in opened.children.items()}
        record = json.loads(opened.attrs["bayesimp"])
    changed = change(record)
    record = record if changed is None else changed
    text = record if isinstance(record, str) else json.dumps(record)
    with h5py.File(path, "r+") as file:
        file.attrs["bayesimp"], file.attrs["sha256"] = text, contents_digest(text, groups)
    return path


def specified(**changes):
    def change(record):
        record["attrs"]["specification"] = json.dumps(json.loads(record["attrs"]["specification"]) | changes)

    return change


# damage -----------------------------------------------------------------------------------------


def same(back, imp) -> bool:
    """Whether two results have the same tables and draws."""
    for name in ("posterior", "imputed_stats"):
        xr.testing.assert_identical(back.tree[name].to_dataset(), imp.tree[name].to_dataset())
    return all(back.frame(j).equals(imp.frame(j)) for j in range(2)) and back.data.frame.equals(
        imp.data.frame
    )


def test_damage_is_refused(saved, tmp_path):
    """Flipped bits and truncated files are refused with a message; only a seal that is no longer one is not missed."""
    place, imp = saved
    data = (place / "a.nc").read_bytes()
    seal = range(len(data) - 64 - len(netcdf.SEAL), len(data) - 64)
    assert data[seal.start : seal.stop] == netcdf.SEAL
    rng = np.random.default_rng(3)
    for k in range(200):
        other, at = bytearray(data), int(rng.integers(len(data)))
        if k % 20 == 0:
            del other[at:]
        else:
            other[at] ^= 1 << int(rng.integers(8))
        (tmp_path / "b.nc").write_bytes(other)
        if k % 20 and at in seal:
            assert same(bi.load(tmp_path / "b.nc"), imp)
            continue
        with pytest.raises(bi.DataError, match=r"b\.nc"):
            bi.load(tmp_path / "b.nc")


def test_files_without_a_seal_are_read(saved, tmp_path):
    """Files of earlier versions, and those that other software has rewritten."""
    place, imp = saved
    data = (place / "a.nc").read_bytes()
    (tmp_path / "b.nc").write_bytes(data[: data.index(netcdf.SEAL)])
    assert same(bi.load(tmp_path / "b.nc"), imp)


def test_flipped_bits_do_not_reach_hdf5(saved, tmp_path, monkeypatch):
    """HDF5 may end the process on them."""
    data = bytearray((saved[0] / "a.nc").read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / "b.nc").write_bytes(data)
    monkeypatch.setattr("h5py.File", lambda *a, **k: pytest.fail("HDF5 was asked to open a damaged file"))
    with pytest.raises(bi.DataError, match="is not what was saved"):
        bi.load(tmp_path / "b.nc")


@pytest.mark.parametrize("suffix", ["nc", "zarr"])
def test_one_value_that_was_altered(saved, tmp_path, suffix):
    """Altered by a tool that writes valid files: any variable of any group, or the record."""
    groups = {}
    with xr.open_datatree(
        saved[0] / f"a.{suffix}", engine="h5netcdf" if suffix == "nc" else "zarr"
    ) as opened:
        attrs = dict(opened.attrs)
        groups = {str(name): group.to_dataset().load() for name, group in opened.children.items()}
    assert attrs["sha256"] == contents_digest(attrs["bayesimp"], groups)
    altered = 0
    for group, dataset in groups.items():
        for name, variable in dataset.variables.items():
            if variable.size == 0 or variable.dtype.kind not in "biuf":
                continue
            if variable.dtype.kind == "b" or name in dataset.indexes:
                continue
            values = variable.values.copy()
            values.ravel()[-1] += np.array(1, dtype=values.dtype)
            other = dataset.assign({name: variable.copy(data=values)})
            altered += 1
            assert contents_digest(attrs["bayesimp"], {**groups, group: other}) != attrs["sha256"], (
                group,
                name,
            )
    assert altered > 8
    assert contents_digest(attrs["bayesimp"] + " ", groups) != attrs["sha256"]
    noted = {**groups, "state": groups["state"].assign_attrs(cycle=3, name="a")}
    for change in ({"cycle": 4}, {"name": "b"}, {"cycle": 3.5}):
        other = {**noted, "state": noted["state"].assign_attrs(change)}
        assert contents_digest("", other) != contents_digest("", noted)
    same = {**noted, "state": noted["state"].assign_attrs(cycle=np.array([3.0]))}
    assert contents_digest("", same) == contents_digest("", noted)
    tree = xr.DataTree.from_dict({f"/{name}": group for name, group in groups.items()})
    tree["posterior/beta_y"] = tree["posterior/beta_y"] * (1 + 1e-12)
    tree.attrs = attrs
    tree.to_netcdf(tmp_path / "a.nc", engine="h5netcdf") if suffix == "nc" else tree.to_zarr(
        tmp_path / "a.zarr"
    )
    with pytest.raises(bi.DataError, match="is not what was saved"):
        bi.load(tmp_path / f"a.{suffix}")


# netCDF -----------------------------------------------------------------------------------------


def soft_link(file, place):
    del file["table/values"]
    file["table/values"] = h5py.SoftLink("/table/record")


def external_link(file, place):
    del file["table/values"]
    file["table/values"] = h5py.ExternalLink("other.nc", "/table/values")


def external_storage(file, place):
    (place / "secret").write_bytes(b"secret" * 1000)
    del file["table/values"]
    file.create_dataset("table/values", (16,), "u1", external=[(str(place / "secret"), 0, 16)])


def virtual(file, place):
    del file["table/values"]
    layout = h5py.VirtualLayout((16,), "u1")
    layout[:] = h5py.VirtualSource(str(place / "other.nc"), "table/values", (16,))
    file.create_virtual_dataset("table/values", layout)


def references(file, place):
    file["table/more"] = np.array([file["table"].ref], dtype=h5py.ref_dtype)


def opaque(file, place):
    file["table/more"] = np.frombuffer(pickle.dumps(Touch(place / "hacked")), dtype="V1")


def objects(file, place):
    data = np.frombuffer(pickle.dumps(Touch(place / "hacked")), dtype=np.uint8)
    file.create_dataset("table/more", (1,), h5py.vlen_dtype(np.uint8))[0] = data


def bomb(file, place):
    del file["table/values"]
    file.create_dataset("table/values", (10**12,), "u1", chunks=(10**6,))


def bytes_as_record(file, place):
    file.attrs["bayesimp"] = np.frombuffer(pickle.dumps(Touch(place / "hacked")), dtype=np.uint8)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (soft_link, "is a link to another file or place"),
        (external_link, "is a link to another file or place"),
        (external_storage, "takes its values from other files"),
        (virtual, "takes its values from other files"),
        (references, "but a result holds numbers and texts only"),
        (opaque, "but a result holds numbers and texts only"),
        (objects, "but a result holds numbers and texts only"),
        (bomb, "that the file does not hold"),
        (bytes_as_record, "is not a result"),
    ],
)
def test_hostile_netcdf(nc, tmp_path, spoil, words):
    with h5py.File(nc, "r+") as file:
        spoil(file, tmp_path)
    with pytest.raises(bi.DataError, match=words):
        bi.load(nc)
    assert not (tmp_path / "hacked").exists()


@pytest.mark.parametrize(
    "change",
    [
        lambda record: "[" * 100_000,
        lambda record: "null",
        lambda record: {},
        lambda record: record | {"attrs": []},
        lambda record: record | {"cluster": ["../../etc"]},
        lambda record: record | {"native": "os"},
        lambda record: record | {"imputed": ["x"]},
        lambda record: record | {"events": [{"kind": 1}]},
        lambda record: record | {"attrs": record["attrs"] | {"model": "os.system"}},
        lambda record: record | {"attrs": {}},
        specified(formulas={"y": "y ~ __import__('os').mkdir('hacked') + (1 | g)"}),
        specified(methods="os.system"),
        specified(blocks=3),
    ],
)
def test_hostile_records(nc, tmp_path, monkeypatch, change):
    monkeypatch.chdir(tmp_path)
    try:
        bi.load(reseal(nc, change))
    except bi.BayesimpError as error:
        assert len(str(error)) < 1500
    else:
        assert change.__closure__, (
            "only keys of a specification that the engine does not read may be without effect"
        )
    assert not (tmp_path / "hacked").exists()


def test_the_seal_is_not_what_keeps_hostile_records_out(nc):
    assert bi.load(reseal(nc, lambda record: record)).m == 2


def test_names_of_types_in_a_table_are_on_a_list():
    from bayesimp.table.exact import from_exact, to_exact

    text, values = to_exact(table()[["x"]].astype("Float64"))
    with pytest.raises(KeyError):
        from_exact(text.replace("FloatingArray", "IntervalArray"), values)


# zarr -------------------------------------------------------------------------------------------


def test_zarr_with_pickled_objects(saved, tmp_path):
    """Old codecs unpickle what they read; whether or not zarr knows them, `load` refuses before it asks zarr."""
    path = shutil.copytree(saved[0] / "a.zarr", tmp_path / "a.zarr")
    old = path / "more"
    old.mkdir()
    meta = {"zarr_format": 2, "shape": [1], "chunks": [1], "dtype": "<i8", "compressor": None, "fill_value": 0,
            "order": "C", "filters": [{"id": "pickle", "protocol": 5}]}  # fmt: skip
    (old / ".zarray").write_text(json.dumps(meta))
    (old / "0").write_bytes(pickle.dumps(Touch(tmp_path / "hacked")))
    with pytest.raises(bi.DataError, match="codec 'pickle' is not used in results"):
        bi.load(path)
    assert not (tmp_path / "hacked").exists()
    meta |= {"filters": None, "dtype": "|O"}
    (old / ".zarray").write_text(json.dumps(meta))
    with pytest.raises(bi.DataError, match="holds Python objects"):
        bi.load(path)


def test_zarr_with_links_and_other_codecs(saved, tmp_path):
    path = shutil.copytree(saved[0] / "a.zarr", tmp_path / "a.zarr")
    meta = path / "table" / "values" / "zarr.json"
    text = meta.read_text()
    meta.write_text(text.replace('"name": "zstd"', '"name": "numcodecs.pickle"'))
    with pytest.raises(bi.DataError, match=r"codec 'numcodecs\.pickle'"):
        bi.load(path)
    for other in ("[" * 100_000, "{", ""):
        meta.write_text(other)
        with pytest.raises(bi.DataError, match="cannot be read"):
            bi.load(path)
    meta.write_text(text)
    assert bi.load(path).m == 2
    (path / "table" / "values" / "c").rename(path / "elsewhere")
    (path / "table" / "values" / "c").symlink_to(path / "elsewhere")
    with pytest.raises(bi.DataError, match="is a link to another file"):
        bi.load(path)


def test_a_pickle_with_the_name_of_a_result(tmp_path):
    data = io.BytesIO()
    np.save(data, np.array([Touch(tmp_path / "hacked")], dtype=object))
    for name, content in (
        ("a.nc", pickle.dumps(Touch(tmp_path / "hacked"))),
        ("b.nc", data.getvalue()),
        ("c.nc", b""),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(bi.DataError, match=f"{name} cannot be read"):
            bi.load(tmp_path / name)
    assert not (tmp_path / "hacked").exists()


# plans ------------------------------------------------------------------------------------------

FORMULA = "y ~ x + (1 | g)"


@pytest.mark.parametrize(
    "text",
    [
        "a = " + "[" * 100_000,
        "[data]\nx" + ".a" * 3000 + " = 1",
        "[data]\ncluster = " + "[" * 300 + "]" * 300,
        "x = " + "9" * 20_000,
        "\0",
        *(
            PLAN.replace(FORMULA, f"y ~ {term} + (1 | g)")
            for term in (
                "x.__class__", "__import__('os').mkdir('hacked')", "eval('1')", "np.load('a.npy')", "open(x)",
                "{x}", "(lambda: x)()", "I(x if x else x)", "np.linalg.norm(x)", "x; import os", "f'{x}'",
            )
        ),
        PLAN.replace('name = "main"', 'name = "../../main"'),
        PLAN.replace('file = "small.csv"', 'file = "../small.csv"'),
        PLAN.replace('file = "small.csv"', 'file = "https://example.org/small.csv"'),
        PLAN.replace('file = "small.csv"', 'file = "small.pkl"'),
    ],
)  # fmt: skip
def test_hostile_plans(tmp_path, monkeypatch, text):
    from bayesimp.workflow.prepare import prepare

    monkeypatch.chdir(tmp_path)
    path = write_plan(tmp_path)
    path.write_text(text)
    with pytest.raises(bi.SpecificationError) as refused:
        prepare(read_plan(path))
    assert "plan.toml" in str(refused.value) or "Formula" in str(refused.value)
    assert not (tmp_path / "hacked").exists()


def test_levels_in_brackets_are_texts():
    """``k[a]`` is a level of a category; the content of the brackets is looked up, never run."""
    data = bi.IncompleteData(table(), "g")
    for name in ("x", "k"):
        with pytest.raises(bi.SpecificationError, match=r"is a number|no level"):
            bi.JointNormal(data, f"y ~ {name}[__import__('os').mkdir('hacked')] + (1 | g)")
