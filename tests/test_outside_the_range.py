"""Imputed values outside the observed range are an event of every engine, where chance does not explain their share."""

import numpy as np
import pandas as pd
import pytest

import bayesimp as bi
from bayesimp.imputation.events import CHANCE, OUTSIDE, _beyond
from bayesimp.shift import Shift

KIND = "outside the range"
FORMULA = "y ~ x + (1 | g)"
RUN = {"chains": 1, "tune": 20, "draws": 20}
ENGINES = {
    "JointNormal": (lambda data, **own: bi.JointNormal(data, FORMULA, **own), RUN),
    "JointLatent": (lambda data, **own: bi.JointLatent(data, FORMULA, **own), RUN),
    "JointGLMM": (lambda data, **own: bi.JointGLMM(data, FORMULA, **own), RUN),
    "FCS": (lambda data, **own: bi.FCS(data, **own), {"cycles": 4}),
}


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(3)
    g = np.repeat(range(10), 20)
    x = rng.normal(size=200)
    y = 50 + x + rng.normal(size=10)[g] + rng.normal(size=200)
    y[rng.random(200) < 0.3] = np.nan
    return bi.IncompleteData(pd.DataFrame({"g": g, "x": x, "y": y}), cluster="g")


@pytest.mark.parametrize("engine", ENGINES)
def test_values_that_are_moved_out_of_the_range_are_an_event(data, engine):
    """Four standard deviations up: nearly all above; as they are: none."""
    make, run = ENGINES[engine]
    seen = data.numeric("y")[~data.missing("y")]
    assert not [e for e in make(data).impute(4, seed=1, **run).log if e.kind == KIND]
    imp = make(data, shift=Shift({"y": 4 * seen.std()})).impute(4, seed=1, **run)
    (event,) = [e for e in imp.log if e.kind == KIND]
    above = imp.values("y") > seen.max()
    assert event.where == "y" and event.count == above.sum() > 0.8 * above.size
    assert f"{above.mean():.0%} above" in event.message and "0% below" in event.message
    assert (
        f"({seen.min():.4g} to {seen.max():.4g})" in event.message
        and "bounds={'y': (lower, upper)}" in event.message
    )


def test_bounds_are_the_cure(data):
    seen = data.numeric("y")[~data.missing("y")]
    limits = (float(seen.min()), float(seen.max()))
    model = bi.FCS(data, shift=Shift({"y": 4 * seen.std()}), bounds={"y": limits})
    imp = model.impute(4, seed=1, cycles=4)
    assert (imp.values("y") <= limits[1]).all() and not [e for e in imp.log if e.kind == KIND]


@pytest.mark.parametrize("n", [4, 30, 400])
def test_chance_is_no_event(n):
    """Values with the distribution of the observed ones, in 2,000 tables: an event in one of a hundred at most."""
    rng = np.random.default_rng(n)
    found = sum(bool(_beyond("y", rng.normal(size=n), rng.normal(size=(5, 40)))) for _ in range(2000))
    assert found <= 20


def test_both_sides_count():
    seen, share = np.linspace(0, 1, 200), OUTSIDE + 0.01
    drawn = np.full((1, 100), 0.5)
    drawn[0, : int(100 * share)] = np.where(np.arange(int(100 * share)) % 2, -1.0, 2.0)
    (event,) = _beyond("y", seen, drawn)
    assert "21% of imputed values" in event.message and "10% below it, 11% above" in event.message
    assert not _beyond("y", seen, np.where(drawn > 1, 0.5, drawn)) and CHANCE * 2 / 201 < OUTSIDE
