"""Exact combinations of variables: refused by every engine before sampling, with the same words."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import bayesimp as bi
from bayesimp.errors import SpecificationError
from bayesimp.formulas.combinations import combinations

C = np.repeat(np.arange(20), 10)


def table() -> bi.IncompleteData:
    rng = np.random.default_rng(1)
    a, b = rng.normal(size=(2, 200)) + rng.normal(size=20)[C]
    frame = pd.DataFrame({"c": C, "a": a, "b": b, "total": a + b, "z": rng.normal(size=200)})
    for name in ("a", "b", "total"):
        frame.loc[rng.random(200) < 0.15, name] = np.nan
    return bi.IncompleteData(frame, "c")


@pytest.mark.parametrize("kind", [bi.JointNormal, bi.JointLatent])
def test_joint_models(kind):
    with pytest.raises(SpecificationError, match=r"equals .* Compute it instead, with derived="):
        kind(table(), "a + b + total + z ~ 1 + (1 | c)")
    kind(table(), "a + b + z ~ 1 + (1 | c)")


def test_joint_glmm_and_blocks_of_chained_equations():
    with pytest.raises(SpecificationError, match=r"equals .* Compute it instead, with derived="):
        bi.JointGLMM(table(), "z ~ a + (1 | c)")
    with pytest.raises(SpecificationError, match=r"equals .* Compute it instead, with derived="):
        bi.FCS(table(), blocks={"n": ["a", "b", "total"]})


def test_a_combination_within_clusters():
    """Classes numbered over all schools: a constant of the school plus their number in the school."""
    rng = np.random.default_rng(2)
    inner = rng.integers(1, 4, 200).astype(float)
    frame = pd.DataFrame({"c": C, "inner": inner, "outer": inner + 10.5 * C, "y": rng.normal(size=200)})
    frame.loc[:30, "y"] = np.nan
    data = bi.IncompleteData(frame, "c")
    assert combinations(data, ["inner", "outer", "y"]) == []
    assert combinations(data, ["inner", "outer", "y"], within=True) == ["outer"]
    with pytest.raises(
        SpecificationError, match="'outer' is a linear combination of 'inner', 'y' and a constant"
    ):
        bi.JointNormal(data, "inner + outer + y ~ 1 + (1 | c)")
    imp = bi.impute(frame, "c", 2, draws=20, tune=20, seed=1, show=False, progress=False)
    assert "'outer'" in imp.events.loc[imp.events["kind"] == "predictors", "message"].iloc[0]
