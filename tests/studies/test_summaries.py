"""Summaries of a mock method with known estimates, by hand; pooling against `bayesimp.pool`."""

from functools import partial

import numpy as np
import pandas as pd
import pytest

import bayesimp as bi
from bayesimp.studies import Estimate, Scenario, Study, summarise

KNOWN = {0: (1.2, 0.3), 1: (0.7, 0.2), 2: (1.6, 0.4), 3: (0.9, 0.3)}  # replicate: estimate, standard error
TRUTH = 1.0


def made(seed):
    """The replicate's number is all that its table holds."""
    made.count += 1
    return pd.DataFrame({"g": [0, 1], "x": [float(made.count - 1)] * 2})


def known(data, seed, shift=0.0):
    return int(data.frame["x"].iloc[0]), shift


def estimates(result):
    k, shift = result
    q, s = KNOWN[k]
    q += shift * k
    return [Estimate("x", q, s, np.inf, q - 2 * s, q + 2 * s, q - 1.5 * s, q + 1.5 * s)]


def identity(value, seed=None):
    return value


@pytest.fixture
def result():
    made.count = 0
    scenario = Scenario("one", made, identity, identity, "g", truth={"x": TRUTH})
    return Study([scenario], {"a": known, "b": partial(known, shift=0.1)}, pool=estimates).run(4)


def test_a_mock_method_gives_the_summaries_by_hand(result):
    """q = 1.2, 0.7, 1.6, 0.9; s = .3, .2, .4, .3; deviations from the mean 1.1: .1, -.4, .5, -.2."""
    table = result.summary().query("method == 'a'").set_index("measure")
    sd = np.sqrt((0.01 + 0.16 + 0.25 + 0.04) / 3)
    squared = np.array([0.04, 0.09, 0.36, 0.01])  # errors .2, -.3, .6, -.1
    s2 = np.array([0.09, 0.04, 0.16, 0.09])
    var_s2 = ((s2 - 0.095) ** 2).sum() / 3
    rmse, model = np.sqrt(0.125), np.sqrt(0.095)
    by_hand = {
        "mean": (1.1, sd / 2), "bias": (0.1, sd / 2), "empirical se": (sd, sd / np.sqrt(6)),
        "rmse": (rmse, np.sqrt(((squared - 0.125) ** 2).sum() / 3) / 2 / (2 * rmse)),
        "model se": (model, np.sqrt(var_s2 / (4 * 4 * 0.095))),
        "mean se": (0.3, np.sqrt((0.01 + 0.01) / 3) / 2),
        "se ratio": (model / sd, model / sd * np.sqrt(var_s2 / (16 * 0.095**2) + 1 / 6)),
        "coverage": (1.0, 0.0),                       # .6 .. 1.8, .3 .. 1.1, .8 .. 2.4, .3 .. 1.5
        "coverage z": (0.75, np.sqrt(0.75 * 0.25 / 4)),   # 1.6 - .6 = 1.0 holds the truth; .7 + .3 = 1.0 may round
    }  # fmt: skip
    assert set(table.index) == set(by_hand)
    inside = np.mean([q - 1.5 * s <= 1 <= q + 1.5 * s for q, s in KNOWN.values()])
    by_hand["coverage z"] = (inside, np.sqrt(inside * (1 - inside) / 4))
    for measure, (value, mcse) in by_hand.items():
        assert table.loc[measure, "value"] == pytest.approx(value, rel=1e-12), measure
        assert table.loc[measure, "mcse"] == pytest.approx(mcse, rel=1e-12), measure
    assert (table["n"] == 4).all() and (table["failed"] == 0).all() and (table["truth"] == TRUTH).all()


def test_two_methods_on_the_same_data_sets(result):
    """b is a plus 0.1 k: differences 0, -.1, -.2, -.3 of the estimates, none of the standard errors."""
    table = result.compare("a", "b").set_index("measure")
    assert table.loc["difference", "value"] == pytest.approx(-0.15)
    assert table.loc["difference", "mcse"] == pytest.approx(np.std([0, 0.1, 0.2, 0.3], ddof=1) / 2)
    assert table.loc["mean se", "value"] == 0
    a, b = np.array([1.2, 0.7, 1.6, 0.9]), np.array([1.2, 0.8, 1.8, 1.2])
    assert table.loc["rmse", "value"] == pytest.approx(
        np.sqrt(((a - 1) ** 2).mean()) - np.sqrt(((b - 1) ** 2).mean())
    )
    gain = b.var(ddof=1) / a.var(ddof=1)
    rho = np.corrcoef(a, b)[0, 1]
    assert table.loc["precision gain", "value"] == pytest.approx(100 * (gain - 1))
    assert table.loc["precision gain", "mcse"] == pytest.approx(200 * gain * np.sqrt((1 - rho**2) / 3))
    with pytest.raises(bi.SpecificationError, match="no estimates by 'c'"):
        result.compare("a", "c")


def test_the_standard_error_of_the_rmse_difference_is_that_of_simulation():
    """200 studies of 100 replicates: the mean of the errors against the spread of the differences (4 standard errors)."""
    rng = np.random.default_rng(5)
    values, errors = [], []
    for _ in range(200):
        a = rng.normal(0.2, 1, 100)
        b = 0.8 * a + rng.normal(0, 0.5, 100)
        frame = pd.DataFrame({"scenario": "s", "replicate": range(100), "term": "x", "truth": 0.0})
        both = pd.concat([
            frame.assign(method=name, estimate=q, se=1.0, low=q, high=q, z_low=q, z_high=q)
            for name, q in (("a", a), ("b", b))
        ])  # fmt: skip
        row = bi.studies.compare(both, "a", "b").set_index("measure").loc["rmse"]
        values.append(row["value"])
        errors.append(row["mcse"])
    assert abs(np.mean(errors) / np.std(values, ddof=1) - 1) < 4 / np.sqrt(2 * 199)


def test_missing_standard_errors_and_truths_lower_n(result):
    frame = result.estimates.query("method == 'a'").copy()
    frame.loc[frame["replicate"] == 2, ["se", "low", "high"]] = np.nan
    table = summarise(frame).set_index("measure")
    assert table.loc["bias", "n"] == 4 and table.loc["model se", "n"] == 3 and table.loc["coverage", "n"] == 3
    bare = summarise(frame.assign(truth=np.nan)).set_index("measure")
    assert "bias" not in bare.index and "empirical se" in bare.index


def test_rubin_is_that_of_the_package():
    frame = bi.simulate_studies([12] * 10, np.eye(2) + 1, np.eye(2), seed=2, missing={"y1": [0, 1]})
    imp = bi.JointNormal(bi.IncompleteData(frame, cluster="study"), "y1 ~ y2 + (1 | study)").impute(
        8, seed=1, draws=40, progress=False
    )
    fits = imp.analyse("y2 ~ y1 + (1 | study)")
    rows = {e.term: e for e in bi.studies.rubin(fits)}
    pooled = fits.pool().to_frame().set_index("term")
    columns = ["estimate", "std.error", "df", "conf.low", "conf.high"]
    for term in pooled.index:
        assert rows[term][1:6] == pytest.approx(tuple(pooled.loc[term, columns]), rel=1e-10)
        assert rows[term].z_high == pytest.approx(rows[term].estimate + 1.959964 * rows[term].se, rel=1e-6)
    for scale, kind in (("variance", "var"), ("sd", "sd")):
        components = fits.pool_components(scale)
        for name, value, se in zip(components.terms, components.estimate, components.std_error, strict=True):
            mine = rows[name.replace("sd(", f"{kind}(", 1)]
            assert (mine.estimate, mine.se) == pytest.approx((value, se), rel=1e-10)
