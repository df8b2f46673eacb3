"""Files of an earlier version are read, and their chains can be continued (tests/reference/stored)."""

from pathlib import Path

import numpy as np
import pytest

import bayesimp as bi

STORED = Path(__file__).parent / "reference" / "stored"


@pytest.mark.parametrize("name", ["joint_gibbs", "fcs_mixed"])
def test_a_file_of_november_2026_goes_on(name, tmp_path):
    first = bi.load(STORED / f"{name}.nc")
    assert first.run is not None and "cannot go on" not in set(first.events["kind"])
    longer = first.extend(2)
    assert longer.m == first.m + 2
    for column in first.imputed_columns:
        # a joint normal run draws values again from the parameters, by kernels that are compiled for the processor, so
        # that the last digits depend on the machine; the values of other runs are in the file
        rtol = 1e-12 if name == "joint_gibbs" else 0.0
        np.testing.assert_allclose(longer.values(column)[: first.m], first.values(column), rtol=rtol)
        assert np.isfinite(longer.values(column)).all()
    if first.chained:
        further = first.iterate(2)
        before, after = (i.run.history for i in (first, further))
        assert after.cycles == before.cycles + 2
        np.testing.assert_array_equal(after.mean[:, : before.cycles], before.mean)
    longer.save(tmp_path / "again.nc")
    again = bi.load(tmp_path / "again.nc")
    for column in longer.imputed_columns:
        np.testing.assert_array_equal(again.extend(1).values(column), longer.extend(1).values(column))


def test_a_joint_file_holds_the_model(tmp_path):
    imp = bi.load(STORED / "joint_gibbs.nc")
    assert imp.model.formula.text == "y + w ~ x + (1 | g)" and imp.model.priors.name == "default"
    assert {name: a.shape[:2] for name, a in imp.tree["posterior"].data_vars.items()} == dict.fromkeys(
        ("beta", "Sigma", "Psi"), (2, 6)
    )
