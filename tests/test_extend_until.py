"""`extend_until`: what is reached, what it costs, and what is reported if a target is missed."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import bayesimp as bi
from bayesimp.errors import SpecificationError, StatisticalWarning
from bayesimp.imputation import longer
from bayesimp.imputation.longer import Short

QUESTION = "y ~ x + (1 | g)"


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    g, x = np.repeat(np.arange(10), 12), rng.normal(size=120)
    y = x + rng.normal(size=10)[g] + rng.normal(size=120)
    x[rng.random(120) < 0.3] = np.nan
    y[rng.random(120) < 0.2] = np.nan
    return bi.IncompleteData(pd.DataFrame({"g": g, "x": x, "y": y}), "g")


@pytest.fixture(scope="module")
def joint(data):
    return bi.JointNormal(data, "y + x ~ 1 + (1 | g)").impute(m=4, seed=1, draws=30, tune=50, progress=False)


@pytest.fixture(scope="module")
def fcs(data):
    return bi.FCS(data).impute(m=4, seed=1, cycles=30, tune=10, progress=False)


def kinds(imp):
    return list(imp.events["kind"])


def test_enough_draws_of_a_joint_model(joint):
    imp = joint.extend_until(ess=150, progress=False)
    with pytest.warns(StatisticalWarning, match="few draws"):  # 400 is more than was asked for
        summary = imp.summary()
    assert summary.mixes and summary.smallest_ess >= 150
    assert "extended" in kinds(imp) and "target not reached" not in kinds(imp)
    for k in range(joint.m):  # existing imputations are unchanged
        pd.testing.assert_frame_equal(imp.frame(k), joint.frame(k))
    again = joint.extend(imp.m - joint.m)
    pd.testing.assert_frame_equal(imp.frame(imp.m - 1), again.frame(imp.m - 1))
    assert imp.extend_until(ess=150).m == imp.m  # nothing left to do


def test_monte_carlo_error_of_the_users_numbers(joint):
    imp = joint.extend_until(analysis=QUESTION, mc_error=0.12, progress=False)
    pooled = imp.analyse(QUESTION).pool()
    assert imp.m > joint.m and (pooled.mc_error <= 0.12 * pooled.std_error).all()
    slope = joint.extend_until(
        analysis=QUESTION, mc_error=0.12, pooled=lambda fits: fits.contrasts("x"), progress=False
    )
    assert (
        slope.m <= imp.m
        and slope.analyse(QUESTION).contrasts("x").imputations_needed(share=0.12)["mc.share"].item() <= 0.12
    )
    better = imp.extend_until(analysis=QUESTION, mc_error=0.12, cv=0.08, progress=False)
    needed = better.analyse(QUESTION).pool().imputations_needed(cv=0.08)["for.std.error"]
    assert better.m >= needed.max()


def test_chained_equations_grow_by_cycles_or_imputations(fcs):
    imp = fcs.extend_until(ess=150, progress=False)
    assert imp.m == fcs.m and imp.attrs["draws"] > fcs.attrs["draws"]
    more = imp.extend_until(analysis=QUESTION, mc_error=0.2, progress=False)
    assert more.m > imp.m and more.attrs["draws"] == imp.attrs["draws"]
    pooled = more.analyse(QUESTION).pool()
    assert (pooled.mc_error <= 0.2 * pooled.std_error).all()


def test_limits_are_said_and_another_call_goes_on(joint, tmp_path):
    with pytest.warns(StatisticalWarning, match=r"target not reached.*longest = 2"):
        first = joint.extend_until(ess=5_000, longest=2.0, progress=False)
    assert joint.m < first.m <= 2 * joint.m and "target not reached" in kinds(first)
    first.save(tmp_path / "run.nc")
    with pytest.warns(StatisticalWarning, match=r"target not reached"):
        second = bi.load(tmp_path / "run.nc").extend_until(ess=5_000, longest=2.0, progress=False)
    assert (
        second.m > first.m
        and kinds(second).count("extended") == 2
        and kinds(second).count("target not reached") == 1
    )
    with pytest.warns(StatisticalWarning, match=r"seconds = 1e-09"):
        none = joint.extend_until(ess=5_000, seconds=1e-9, progress=False)
    assert none.m == joint.m and "extended" not in kinds(none)


def test_an_interruption_ends_it(joint, monkeypatch):
    run = type(joint.run)
    monkeypatch.setattr(run, "_gibbs", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.warns(StatisticalWarning, match="Stopped: interrupted"):
        imp = joint.extend_until(ess=5_000, progress=False)
    assert imp.m == joint.m and {"interrupted", "target not reached"} <= set(kinds(imp))


def test_steps():
    """No step more than doubles a run or starts beyond a limit, and chains grow by whole rounds."""

    class Fake:
        m, attrs, chained = 8, {"chains": 4, "draws": 100}, False

    assert longer._next(Fake, Short(1.5, 8, ("",)), 1e9, None) == (4, 0)
    assert longer._next(Fake, Short(50.0, 8, ("",)), 1e9, None) == (8, 0)
    assert longer._next(Fake, Short(1.0, 9, ("",)), 1e9, None) == (4, 0)
    assert longer._next(Fake, Short(50.0, 8, ("",)), 600, None) == (4, 0)
    assert longer._next(Fake, Short(50.0, 8, ("",)), 1e9, 10) == (0, 0)
    Fake.chained, Fake.attrs = True, {"chains": 4, "draws": 100, "tune": 40}
    assert longer._next(Fake, Short(1.5, 8, ("",)), 1e9, None) == (0, 30)  # half of the 60 that are kept
    assert longer._next(Fake, Short(1.0, 11, ("",)), 1e9, None) == (3, 0)


def test_correlated_imputations_are_reported():
    class Fake:
        m, attrs = 200, {"chains": 4}

    class Pooled:
        terms = ("a", "b")

    rng = np.random.default_rng(0)
    Q = rng.normal(size=(200, 2))
    Pooled.replicates = Q, Q**2
    assert longer._dependent(Fake, Pooled) == ()
    for k in range(4, 200):  # within each of the four chains
        Q[k, 1] += 0.7 * Q[k - 4, 1]
    (event,) = longer._dependent(Fake, Pooled)
    assert event.kind == "dependent imputations" and event.where == "b"
    Fake.attrs = {"chains": 200}  # one chain per imputation: no two are successive
    assert longer._dependent(Fake, Pooled) == ()


@pytest.mark.parametrize(
    "options, says",
    [
        ({"mc_error": 0.1}, "give analysis="),
        ({"ess": -1}, "ess = -1"),
        ({"longest": 1.0}, "longest = 1.0"),
        ({"analysis": QUESTION, "mc_error": 0.0}, "mc_error = 0.0"),
    ],
)
def test_targets_out_of_range(joint, options, says):
    with pytest.raises(SpecificationError, match=says):
        joint.extend_until(**options)


def test_no_chains(joint):
    bare = bi.Imputations(joint.data, joint._cells, joint.attrs, joint._make_tree, ())
    with pytest.raises(SpecificationError, match="no chains"):
        bare.extend_until()
