"""Reference-based imputation: the moves of completed tables against mean vectors written out, patient by patient."""

import re

import numpy as np
import pandas as pd
import pytest

import bayesimp as bi
from bayesimp.errors import SpecificationError
from bayesimp.joint.reference import HOW, ReferenceMeans
from bayesimp.shift import Shift
from tests.longhand.reference_based import WRONG, conditional_mean, strategy_mean
from tests.unfolding import unfolded

VISITS = ["week4", "week8", "week12"]
FORMULA = "week4 + week8 + week12 ~ arm * base + (1 | centre)"
RUN = {"m": 8, "seed": 3, "chains": 2, "tune": 20, "draws": 40, "progress": False}


def trial(seed=1, n=160):
    """Three visits of two active arms and placebo; drop-out, some visits missed in between, some patients never seen."""
    rng = np.random.default_rng(seed)
    arm, base, centre = rng.choice(["high", "low", "placebo"], n), rng.normal(size=n), rng.integers(0, 6, n)
    effect = np.select([arm == "high", arm == "low"], [-2.0, -1.0], 0.0)
    mean = 0.5 * base[:, None] + np.outer(effect, [0.5, 1.0, 1.5]) + rng.normal(size=6)[centre][:, None] * 0.4
    y = mean + rng.multivariate_normal(np.zeros(3), 0.5 + 0.5 * np.eye(3), n)
    stays = rng.integers(0, 5, n)
    y[np.arange(3)[None] >= np.where(stays > 3, 3, stays)[:, None]] = np.nan
    y[(rng.random(n) < 0.1), 1] = np.nan
    return pd.DataFrame({"centre": centre, "arm": arm, "base": base, **dict(zip(VISITS, y.T, strict=True))})


def model(how=None, frame=None, formula=FORMULA, **options):
    reference = None if how is None else bi.ReferenceBased("arm", "placebo", VISITS, how)
    return bi.JointNormal(
        bi.IncompleteData(trial() if frame is None else frame, cluster="centre"),
        formula,
        reference=reference,
        **options,
    )


def completed(imp):
    return np.stack([imp.frame(k)[VISITS].to_numpy() for k in range(imp.m)])


def longhand_moves(frame, imp, how):
    """(m, n, T) what the mean of each missing value differs by from that at random, at the parameters of each table.

    The cluster's effects are in both means, and drop out of the difference.
    """
    posterior, run = imp.tree["posterior"], imp.run
    names = list(posterior["fixed"].values)
    Y, base = frame[VISITS].to_numpy(), frame["base"].to_numpy()
    out = np.zeros((imp.m, *Y.shape))
    for k in range(imp.m):
        at = {"chain": k % 2, "draw": (k // 2 + 1) * run.spacing - 1}
        beta, Sigma = (posterior[name].isel(at).values for name in ("beta", "Sigma"))
        b = dict(zip(names, beta, strict=True))
        for j, arm in enumerate(frame["arm"]):

            def mean(arm, x=base[j], b=b):
                of = b["Intercept"] + b["base"] * x
                return of if arm == "high" else of + b[f"arm[{arm}]"] + b[f"arm[{arm}]:base"] * x

            seen = ~np.isnan(Y[j])
            if seen.all() or arm == "placebo":
                continue
            moved = strategy_mean(mean(arm), mean("placebo"), seen, how)
            difference = conditional_mean(moved, Sigma, Y[j]) - conditional_mean(mean(arm), Sigma, Y[j])
            out[k, j] = np.where(seen, 0.0, difference)
    return out


@pytest.fixture(scope="module")
def runs():
    at_random = model().impute(**RUN)
    return at_random, {how: model(how).impute(**RUN) for how in HOW}


@pytest.mark.parametrize("how", HOW)
def test_completed_tables_move_as_written_out(runs, how):
    at_random, moved = runs
    np.testing.assert_allclose(
        completed(moved[how]) - completed(at_random), longhand_moves(trial(), at_random, how), atol=1e-9
    )


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize("how", HOW)
def test_wrong_strategies_are_told_apart(runs, how, wrong):
    at_random, moved = runs
    found = completed(moved[how]) - completed(at_random)
    assert np.abs(found - longhand_moves(trial(), at_random, wrong)).max() > 0.5


@pytest.mark.parametrize("how, mean", [
    ("jump to reference", [1.0, 6.0, 10.0]),
    ("copy increments in reference", [1.0, 5.0, 9.0]),
    ("copy reference", [2.0, 6.0, 10.0]),
])  # fmt: skip
def test_means_are_those_of_rbmi(how, mean):
    """Own means (1, 3, 5), reference (2, 6, 10), the first visit observed: from the tests of the R package rbmi,
    test-strategies.R at its commit 85875647, of the first two; its third strategy is the reference's mean throughout."""
    own, reference = np.array([1.0, 3.0, 5.0]), np.array([2.0, 6.0, 10.0])
    missing = np.array([[False, True, True]])
    means = ReferenceMeans(how, np.ones((1, 1)), missing, ((0,), (1,), (2,)))
    np.testing.assert_array_equal(own + means.added((reference - own)[None, None])[0, 0], mean)
    for other in set(HOW) - {how}:
        wrong = ReferenceMeans(other, np.ones((1, 1)), missing, ((0,), (1,), (2,)))
        assert np.abs(own + wrong.added((reference - own)[None, None])[0, 0] - mean).max() >= 1.0


def test_the_reference_arm_and_observed_values_stay(runs):
    at_random, moved = runs
    frame = trial()
    placebo, seen = (frame["arm"] == "placebo").to_numpy(), frame[VISITS].notna().to_numpy()
    for imp in moved.values():
        found = completed(imp)
        np.testing.assert_array_equal(found[:, placebo], completed(at_random)[:, placebo])
        np.testing.assert_array_equal(
            found[:, seen], np.broadcast_to(frame[VISITS].to_numpy()[seen], (RUN["m"], seen.sum()))
        )


def test_the_effect_of_a_treatment_shrinks_by_the_share_that_drops_out():
    """After a jump to reference, patients who are never seen have the mean of placebo: in expectation no effect is left
    of them. With half of an arm never seen and all others complete, the difference of means is half that of the others,
    up to the Monte Carlo error of the imputed means: 4 of its standard errors."""
    rng = np.random.default_rng(6)
    n = 400
    drug = np.repeat([0, 1], n // 2)
    y = rng.normal(size=(n, 1)) + rng.normal(size=(n, 3)) - 1.5 * drug[:, None]
    y[(drug == 1) & (np.arange(n) // 8 % 2 == 0)] = np.nan
    frame = pd.DataFrame({"centre": np.arange(n) % 8, "drug": drug, **dict(zip(VISITS, y.T, strict=True))})
    reference = bi.ReferenceBased("drug", 0, VISITS)
    made = bi.JointNormal(
        bi.IncompleteData(frame, cluster="centre"),
        "week4 + week8 + week12 ~ drug + (1 | centre)",
        reference=reference,
    )
    imp = made.impute(m=60, seed=1, tune=50, draws=200, progress=False)
    last = completed(imp)[:, :, 2]
    effects = last[:, drug == 1].mean(axis=1) - last[:, drug == 0].mean(axis=1)
    seen = frame.dropna()
    whole = seen.loc[seen["drug"] == 1, "week12"].mean() - frame.loc[frame["drug"] == 0, "week12"].mean()
    error = effects.std(ddof=1) / np.sqrt(60)
    assert abs(effects.mean() - 0.5 * whole) < 4 * error < 0.2 * abs(whole)


def test_it_is_saved_and_continued(runs, tmp_path):
    imp = runs[1]["jump to reference"]
    imp.save(tmp_path / "run.nc")
    back = bi.load(tmp_path / "run.nc")
    assert back.model.reference == imp.model.reference
    np.testing.assert_array_equal(completed(back), completed(imp))
    np.testing.assert_allclose(completed(back.extend(10)), completed(imp.extend(10)), rtol=1e-9)
    assert imp.model.with_priors("mice").reference == imp.model.reference
    assert (
        "jump to reference: after drop-out as where arm is placebo; visits week4, week8, week12"
        in unfolded(repr(imp.model))
    )
    with pytest.raises(SpecificationError, match="which applies to the rows of its trial only"):
        imp.transform(trial(2))


def test_a_shift_is_added_on_top(runs):
    """Delta-adjusted jump to reference: both, in all arms."""
    shift = Shift({"week12": {"high": 1.5}}, "arm")
    both = model("jump to reference", shift=shift).impute(**RUN)
    rows = (trial()["arm"] == "high") & trial()["week12"].isna()
    expected = np.zeros((len(rows), 3))
    expected[rows, 2] = 1.5
    np.testing.assert_allclose(
        completed(both) - completed(runs[1]["jump to reference"]),
        np.broadcast_to(expected, (8, *expected.shape)),
        atol=1e-9,
    )


def test_visits_missed_before_drop_out_are_an_event(runs):
    events = runs[1]["jump to reference"].events
    event = events[events["kind"] == "at random"].iloc[0]
    frame = trial()
    early = frame["week8"].isna() & frame["week12"].notna() | frame["week4"].isna() & frame[
        ["week8", "week12"]
    ].notna().any(axis=1)
    assert event["count"] == (early & (frame["arm"] != "placebo")).sum() > 0
    assert "at random" not in set(runs[1]["copy reference"].events["kind"])


REFUSED = {
    "how": ({"how": "jump"}, "how must be"),
    "no visit": ({"visits": []}, "visits must be different responses"),
    "no response": ({"visits": ["week4", "week5"]}, "visit 'week5' is not among the responses"),
    "no arm": ({"arm": "centre"}, "'centre' must be a complete column on the right of the formula"),
    "no such arm": ({"reference": "none"}, "'arm' is never 'none'; its values are"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_in_words(case):
    change, words = REFUSED[case]
    own = {"arm": "arm", "reference": "placebo", "visits": VISITS} | change
    with pytest.raises(SpecificationError, match=re.escape(words)):
        bi.JointNormal(
            bi.IncompleteData(trial(), cluster="centre"), FORMULA, reference=bi.ReferenceBased(**own)
        )


def test_random_effects_of_the_arm_and_mnar_are_refused():
    with pytest.raises(SpecificationError, match="'arm' has random effects"):
        model("jump to reference", formula="week4 + week8 + week12 ~ arm + (1 + arm | centre)")
    with pytest.raises(SpecificationError, match="the model imputes by reference"):
        bi.mnar(model("copy reference"), {"week12": [1]}, analysis="week12 ~ arm")
