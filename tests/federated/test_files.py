"""Files of sites: read back exactly, and refused when they are altered, forged, of another kind, or hostile."""

import json
from dataclasses import replace

import numpy as np
import pytest

from bayesimp import federated as fed
from bayesimp.errors import DataError, SpecificationError
from bayesimp.federated.agreement import digest
from tests.federated.tables import pooled, releases


@pytest.fixture(scope="module")
def all_releases():
    return releases(pooled())


@pytest.fixture(scope="module")
def release(all_releases):
    return all_releases[1]


@pytest.fixture(scope="module")
def run(all_releases):
    return fed.combine(all_releases, m=3, seed=1, draws=6, tune=5, progress=False)


def forged(path, change):
    """The file with a change, and a hash that fits it."""
    record = json.loads(path.read_text())
    change(record)
    path.write_text(json.dumps(record | {"sha256": digest(record)}))


def test_a_release_is_read_back_exactly(release, tmp_path):
    release.save(tmp_path / "B.json")
    again = fed.read_release(tmp_path / "B.json")
    for name in ("products", "centre", "patterns", "cell_cluster", "rows"):
        np.testing.assert_array_equal(getattr(again, name), getattr(release, name))
    assert (again.record(), again.sha256, repr(again)) == (release.record(), release.sha256, repr(release))


def test_a_release_holds_numbers_and_no_labels_or_rows(release, tmp_path):
    """Every number is a count, a cross product of a cell or a centre; there are no labels of clusters or rows."""
    release.save(tmp_path / "B.json")
    record = json.loads((tmp_path / "B.json").read_text())
    assert set(record) == {
        "format", "version", "bayesimp", "site", "agreement", "minimum", "fixed", "random", "random terms", "covariates",
        "responses", "centre", "counts", "masked", "events", "cells", "sha256",
    }  # fmt: skip
    assert all(set(cell) == {"cluster", "observed", "products"} for cell in record["cells"])
    assert {cell["cluster"] for cell in record["cells"]} == {0, 1, 2, 3}  # the site has clusters 4 to 7
    v = len(record["covariates"])
    for cell in record["cells"]:
        d = 1 + v + len(cell["observed"])
        assert len(cell["products"]) == d * (d + 1) // 2 < cell["products"][0]


def test_parameters_are_read_back_exactly(run, tmp_path):
    run.parameters.save(tmp_path / "p.json")
    again = fed.read_parameters(tmp_path / "p.json")
    assert again.record() == run.parameters.record() and again.events == run.parameters.events
    for name in ("beta", "Sigma", "Psi"):
        np.testing.assert_array_equal(getattr(again, name), getattr(run.parameters, name))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda r: r["cells"][0]["products"].__setitem__(1, 1e9), "cannot be cross products"),
        (lambda r: r["cells"][0]["products"].__setitem__(0, 12.0), "has 12 rows but needs 22"),
        (lambda r: r["cells"][0]["products"].__setitem__(0, 200.5), "cannot be cross products"),
        (lambda r: r["cells"][0]["products"].pop(), "is incomplete"),
        (lambda r: r["cells"].append(r["cells"][0]), "a cell occurs twice"),
        (lambda r: r["cells"][0].update(observed=[]), "is incomplete"),
        (lambda r: r["cells"][0].update(observed=[7]), "is incomplete"),
        (lambda r: r["cells"][0].update(cluster="__import__('os')"), "is incomplete"),
        (lambda r: r.update(minimum=1), "groups of at least 3 rows"),
        (lambda r: r.update(cells=[]), "at least one cell"),
        (lambda r: r.update(centre=[0.0]), "is incomplete"),
        (lambda r: r.update(covariates=[1, 2, 3]), "is incomplete"),
        (lambda r: r.pop("counts"), "is incomplete"),
        (
            lambda r: r["agreement"].update(formula="y ~ __import__('os') + (1 | g)"),
            "agreement cannot be read",
        ),
        (
            lambda r: r["agreement"].update(priors={"module": "os", "class": "system"}),
            "agreement cannot be read",
        ),
        (lambda r: r.update(agreement=None), "agreement cannot be read"),
        (lambda r: r.update(version=2), "version 2 of its format"),
        (lambda r: r.update(format="bayesimp result"), "is not a 'bayesimp site release'"),
    ],
)
def test_forged_releases_are_refused(release, tmp_path, change, words):
    """Even if the hash fits: it is not a signature."""
    path = tmp_path / "B.json"
    release.save(path)
    forged(path, change)
    with pytest.raises(DataError, match=words):
        fed.read_release(path)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "is not a 'bayesimp site release'"),
        (b"\x80\x04\x95pickle", "is not a"),
        (b"[" * 100_000, "is not a"),
        (b'{"format": "bayesimp site release", "version": 1, "cells": [NaN]}', "is not a"),
        (b'{"format": "bayesimp site release", "version": 1, "sha256": ""}', "SHA-256"),
        (b'{"format": "bayesimp federated parameters", "version": 1}', "is not a"),
    ],
)
def test_other_files_are_refused(tmp_path, data, words):
    (tmp_path / "x.json").write_bytes(data)
    with pytest.raises(DataError, match=words):
        fed.read_release(tmp_path / "x.json")


def test_an_altered_file_is_noticed(release, run, tmp_path):
    for made, read in ((release, fed.read_release), (run.parameters, fed.read_parameters)):
        made.save(tmp_path / "f.json")
        text = (tmp_path / "f.json").read_text()
        place = text.index("0.", len(text) // 2)
        (tmp_path / "f.json").write_text(text[:place] + "1." + text[place + 2 :])
        with pytest.raises(DataError, match="damaged or altered"):
            read(tmp_path / "f.json")


@pytest.mark.parametrize(
    "change",
    [
        lambda r: r["draws"]["beta"].pop(),
        lambda r: r["scale"].pop("C"),
        lambda r: r["scale"].update(T=[[1.0]]),
        lambda r: r.update(sites=3),
        lambda r: r.update(seed="now"),
    ],
)
def test_forged_parameters_are_refused(run, tmp_path, change):
    run.parameters.save(tmp_path / "p.json")
    forged(tmp_path / "p.json", change)
    with pytest.raises(DataError, match="is incomplete, or its parts"):
        fed.read_parameters(tmp_path / "p.json")


def test_wrong_objects(release, run, tmp_path):
    for call, words in [
        (lambda: fed.combine(release), "takes a list of releases"),
        (lambda: fed.combine([run]), "takes SiteRelease, got FederatedRun"),
        (lambda: fed.export_site(pooled(), None, "A"), "takes Agreement, got NoneType"),
        (lambda: fed.export_site(3, release.agreement, "A"), "not a table|pandas"),
        (lambda: fed.complete_site(run, pooled(), "A"), "takes SharedParameters, got FederatedRun"),
        (lambda: fed.read_release(3), "path of a file"),
        (lambda: fed.read_release(tmp_path / "nowhere.json"), "cannot be read: No such file"),
        (lambda: replace(release.agreement, formula=None), "must be text"),
    ]:
        with pytest.raises((DataError, SpecificationError), match=words):
            call()
