"""Visits in which nothing can be drawn: nothing changes and an event says so; ten in succession end the run."""

from itertools import pairwise

import numpy as np
import pandas as pd
import pytest

import bayesimp as bi
from bayesimp.errors import DataError, SamplingError
from bayesimp.fcs.blocks import normal, single_level
from bayesimp.fcs.blocks.base import LASTING
from bayesimp.kernels.glm.regression import EXACT
from bayesimp.kernels.lmm import draw


def table(n=60, seed=0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    f = pd.DataFrame({"g": np.repeat(np.arange(6), n // 6), "x": rng.normal(size=n)})
    f["y"] = (f["x"] + rng.normal(size=n)).mask(rng.random(n) < 0.3)
    f["z"] = (f["x"] - rng.normal(size=n)).mask(rng.random(n) < 0.2)
    return f


class Failing:
    """A kernel that fails in the calls that `fails` names, from 0; m = 1, so that calls are cycles."""

    def __init__(self, kernel, failure, fails):
        self.kernel, self.failure, self.fails, self.calls = kernel, failure, fails, 0

    def __call__(self, *args):
        self.calls += 1
        return (self.failure if self.fails(self.calls - 1) else self.kernel)(*args)


def exact_fit(*args):
    args[-2][:] = np.nan  # what a kernel leaves behind is not read
    return np.nan, 3


def dependent(*args):
    return -1


def no_residual(*args):
    made = single_level_glm(*args)
    return made._replace(code=made.code | EXACT)


single_level_glm = single_level.single_level_glm
KERNELS = {
    "norm": (normal, "draw_regression", exact_fit, "the predictors explain it exactly"),
    "pmm": (normal, "draw_regression", exact_fit, "the predictors explain it exactly"),
    "ml": (draw, "ml_step", dependent, "its fixed effects are not identified"),
    "glm": (single_level, "single_level_glm", no_residual, "predictors fit the values exactly"),
}


def model(method: str, monkeypatch, fails, **options) -> bi.FCS:
    """y by the method, whose kernel fails; z by another, so that the cycle goes on."""
    module, name, failure, _ = KERNELS[method]
    families = {"y": "bernoulli"} if method == "glm" else {}
    frame = table()
    if method == "glm":
        frame["y"] = frame["y"].gt(0).astype(float).where(frame["y"].notna())
    monkeypatch.setattr(module, name, Failing(getattr(module, name), failure, fails))
    return bi.FCS(bi.IncompleteData(frame, "g", families), {"y": method, "z": "bayes"}, **options)


@pytest.mark.parametrize("method", KERNELS)
def test_a_visit_in_which_nothing_can_be_drawn_is_passed_over(method, monkeypatch):
    made = model(method, monkeypatch, lambda k: k in (3, 4))
    imp = made.impute(1, cycles=8, tune=0, seed=1, progress=False)
    (event,) = imp.events[imp.events["kind"] == "variable held"].to_dict("records")
    assert event["where"] == "y" and event["count"] == 2
    assert KERNELS[method][3] in event["message"] and "did not change (25% of 8 visits)" in event["message"]
    beta = imp.tree["posterior"]["beta_y"].values[0]
    means = imp.tree["imputed_stats"]["mean"].sel(response="y").values[0]
    stood = [bool((later == now).all()) for now, later in pairwise(beta)]
    assert stood == [False, False, True, True, False, False, False]
    same = [np.array_equal(now, later, equal_nan=True) for now, later in pairwise(means)]
    assert same == stood
    assert np.isfinite(imp.values("y")).all()


@pytest.mark.parametrize("method", KERNELS)
def test_failures_that_last_end_the_run(method, monkeypatch):
    words = rf"Imputation 0, cycle {LASTING + 2}, 'y': .*{KERNELS[method][3]}.* in the last {LASTING} cycles"
    with pytest.raises(SamplingError, match=words):
        model(method, monkeypatch, lambda k: k >= 2).impute(1, cycles=40, seed=1, progress=False)


def test_failures_in_between_do_not():
    with pytest.MonkeyPatch.context() as patch:
        made = model("pmm", patch, lambda k: k % LASTING)  # nine of ten
        imp = made.impute(1, cycles=40, seed=1, progress=False)
    (event,) = imp.events[imp.events["kind"] == "variable held"].to_dict("records")
    assert event["count"] == 36


def test_a_loaded_run_remembers_how_long_it_has_failed(monkeypatch, tmp_path):
    made = model("pmm", monkeypatch, lambda k: k >= 1)
    imp = made.impute(1, cycles=LASTING, seed=1, progress=False)
    imp.save(tmp_path / "run.nc")
    for each in (imp, bi.load(tmp_path / "run.nc")):
        with pytest.raises(SamplingError, match=f"cycle {LASTING + 1}, 'y'"):
            each.iterate(1, progress=False)


def test_values_that_were_never_drawn_need_not_keep_to_bounds(monkeypatch):
    made = model("norm", monkeypatch, lambda k: k == 0, bounds={"y": (-9, 9)})
    with pytest.raises(SamplingError, match="cycle 1, 'y': the predictors explain it exactly"):
        made.impute(1, cycles=3, seed=1, progress=False)


# --- log means


def counts(away, method="bayes", family="poisson") -> bi.FCS:
    """Visits given income, which lacks only where visits do too, and is drawn as 1,000 in cycles that `away` names."""
    rng = np.random.default_rng(3)
    g = np.repeat(np.arange(10), 12)
    f = pd.DataFrame({"g": g, "income": rng.normal(size=120)})
    f["visits"] = rng.poisson(np.exp(0.3 + 0.5 * f["income"])).astype(float)
    if method == "2lonly":
        f["g"] = g = np.repeat(np.arange(40), 3)
        f["income"] += np.linspace(-2, 2, 40)[g]
        f["visits"] = rng.poisson(np.exp(0.3 + f.groupby("g")["income"].mean())).astype(float)[g]
        f["visits"], f["income"] = f["visits"].where(g < 35), f["income"].where(g < 36)
    else:
        hole = rng.random(120) < 0.2
        f["visits"] = f["visits"].mask(hole)
        f["income"] = f["income"].mask(hole & (rng.random(120) < 0.5))
    if family != "poisson":
        f["visits"] += 0.5
    cycles = iter(range(10**6))

    def as_others_might(values):
        return np.full_like(values, 1e3) if away(next(cycles)) else values

    random = "" if method in ("glm", "2lonly", "2stage") else " + (1 | g)"
    mean = "cluster_mean(income)" if method == "2lonly" else "income"
    formulas = [f"visits ~ {mean}{random}", "income ~ 1 + (1 | g)"]
    data = bi.IncompleteData(f, "g", {"visits": family})
    methods = {"visits": method, "income": "bayes"}
    return bi.FCS(data, methods, formulas, order=["income", "visits"], post={"income": as_others_might})


COUNTS = [("bayes", "poisson"), ("bayes", "gamma"), ("mlmi", "poisson"), ("glm", "poisson"), ("2stage", "poisson"),
          ("2lonly", "poisson")]  # fmt: skip


@pytest.mark.parametrize("method, family", COUNTS)
def test_a_log_mean_that_an_imputed_predictor_drives_out_of_range(method, family):
    """The other rows of the visit are drawn, and the next visit draws them all."""
    made = counts(lambda cycle: cycle == 3, method, family)
    imp = made.impute(1, cycles=6, tune=0, seed=2, progress=False)
    (event,) = imp.events[imp.events["kind"] == "values held"].to_dict("records")
    assert event["where"] == "visits" and event["count"] == 1 and "17% of 6 visits" in event["message"]
    before, held = (
        counts(lambda cycle: cycle == 3, method, family).impute(1, cycles=n, tune=0, seed=2, progress=False)
        for n in (3, 4)
    )
    table = held.data.frame
    rows = table["income"].isna()[table["visits"].isna()].to_numpy()
    one, other = before.values("visits")[0], held.values("visits")[0]
    np.testing.assert_array_equal(one[rows], other[rows])
    assert (one[~rows] != other[~rows]).any() or method == "2lonly"
    assert 0 < imp.values("visits").max() < 1e4


@pytest.mark.parametrize("method, family", COUNTS)
def test_a_log_mean_that_stays_out_of_range_ends_the_run(method, family):
    with pytest.raises(
        SamplingError, match="log mean is .*" + ("range" if method == "2lonly" else "'income' contributes")
    ):
        counts(lambda cycle: cycle > 2, method, family).impute(1, cycles=40, tune=0, seed=2, progress=False)


# --- numbers that are round-off


@pytest.mark.parametrize("method", ["bayes", "ml", "norm", "pmm", "sti", "2stage"])
def test_numbers_that_differ_by_round_off_are_refused(method):
    f = table().assign(y=lambda f: 1e15 + f["y"])
    words = (
        r"'y' differs by .* deviation of 1\.\d+ about 1e\+15, where .* steps of 0\.125.*table\['y'\] - 1e\+15"
    )
    with pytest.raises(DataError, match=words):
        bi.FCS(bi.IncompleteData(f, "g"), {"y": method})


def test_numbers_that_differ_by_too_little_beside_their_size_are_told_from_exact_combinations():
    with pytest.raises(DataError, match=r"'y' differs by .* about 1e\+12, .* Subtract a constant"):
        bi.FCS(bi.IncompleteData(table().assign(y=lambda f: 1e12 + f["y"]), "g"))


def test_numbers_with_a_few_digits_left_are_not():
    made = bi.FCS(bi.IncompleteData(table().assign(y=lambda f: 1e7 + f["y"]), "g"), {"y": "bayes"})
    near = made.impute(1, cycles=3, seed=1, progress=False).values("y") - 1e7
    there = bi.FCS(bi.IncompleteData(table(), "g"), {"y": "bayes"})
    np.testing.assert_allclose(near, there.impute(1, cycles=3, seed=1, progress=False).values("y"), atol=1e-4)
