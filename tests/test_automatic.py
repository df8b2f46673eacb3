"""`bi.impute` and its last line; events found in imputed values; columns of two values, however they are coded."""

import re
import warnings

import numpy as np
import pandas as pd
import pytest

import bayesimp as bi
from tests.unfolding import unfolded

N = 240
G = np.repeat(np.arange(16), 15)


def holes(values, share=0.25, seed=0):
    gone = np.random.default_rng(seed).random(len(values)) < share
    return pd.Series(values).where(~gone)


def impute(table, m=2, cycles=8, **options):
    return bi.impute(table, "g", m, cycles=cycles, seed=1, progress=False, **{"show": False, **options})


# two values ------------------------------------------------------------------

TWO = np.random.default_rng(3).integers(0, 2, N)
CODINGS = [(-1, 1), (0, 100), (1, 3), (0, 2), (0, 1), (1, 2), (-5, 7)]
STORED = {
    "float64": lambda x: x.astype(float),
    "float32": lambda x: x.astype("float32"),
    "Float64": lambda x: x.astype("Float64"),
    "Int16": lambda x: x.astype("Int16"),
    "object of integers": lambda x: pd.Series([None if pd.isna(v) else int(v) for v in x], dtype=object),
    "object of floats": lambda x: pd.Series([None if pd.isna(v) else float(v) for v in x], dtype=object),
    "category": lambda x: x.astype("Int64").astype("category"),
}


@pytest.mark.parametrize("values", CODINGS)
@pytest.mark.parametrize("stored", STORED)
def test_two_whole_numbers_are_bernoulli_however_coded_and_stored(values, stored):
    column = STORED[stored](holes(np.array(values)[TWO]))
    data = bi.IncompleteData(pd.DataFrame({"g": G, "k": column}), "g")
    assert data.families["k"] == "bernoulli"
    assert [float(v) for v in data.levels("k")] == list(values)
    assert set(data.column_values("k")[~data.missing("k")]) == set(values)


@pytest.mark.parametrize("values", [(-1.0, 1.0), (0.0, 100.0)])
def test_imputed_values_are_the_two(values):
    x = np.random.default_rng(1).normal(size=N)
    imp = impute(pd.DataFrame({"g": G, "x": x, "k": holes(np.array(values)[TWO])}))
    assert set(imp.frame(0)["k"]) == set(values) and set(imp.events["kind"]) <= {
        "engine",
        "by default",
        "acceptance",
    }


def test_two_values_that_are_no_coding():
    """Two measurements; two fractions, which an event points out."""
    assert (
        bi.IncompleteData(pd.DataFrame({"g": [1, 2, 3], "k": [34.0, 71.0, np.nan]}), "g").families["k"]
        == "normal"
    )
    dose = holes(np.array([1.5, 2.5])[TWO])
    imp = impute(pd.DataFrame({"g": G, "dose": dose, "x": np.arange(N) % 7.0}))
    event = imp.events.set_index("kind").loc["two values"]
    assert imp.data.families["dose"] == "normal" and event["where"] == "dose"
    assert "families={'dose': 'bernoulli'}" in event["message"]


# the last word ------------------------------------------------------------------


def skewed():
    """Height and weight, nearly the same, that are missing in the same rows: their chains crawl."""
    rng = np.random.default_rng(4)
    a = rng.normal(size=N)
    gone = rng.random(N) < 0.6
    return pd.DataFrame({
        "g": G, "a": np.where(gone, np.nan, a), "b": np.where(gone, np.nan, a + 0.05 * rng.normal(size=N)),
    })  # fmt: skip


def test_one_line_at_the_end(capsys):
    x = np.random.default_rng(1).normal(size=N)
    table = pd.DataFrame({"g": G, "x": x, "y": holes(x + np.random.default_rng(2).normal(size=N), 0.1)})
    bi.impute(table, "g", m=5, cycles=60, seed=1, progress=False)
    last = unfolded(capsys.readouterr().out.strip()).splitlines()[-1]
    assert last.startswith("Mixes, but too few draws")
    bi.impute(table, "g", m=5, seed=1, progress=False, show=False)
    assert capsys.readouterr().out == ""
    bi.impute(table, "g", m=5, seed=1, progress=False)
    assert (
        unfolded(capsys.readouterr().out.strip()).splitlines()[-1].startswith("Converged")
    )  # possible by default


@pytest.mark.parametrize(
    "options",
    [{}, {"engine": "latent"}, {"engine": "fcs", "cycles": 4}, {"analysis": "y ~ exp(x) + (1 | g)"}],
)
def test_dates_are_not_used_and_an_event_says_so(options, tmp_path):
    """Complete or not, by every engine; the report of such a table can be written."""
    rng = np.random.default_rng(1)
    day = pd.Timestamp("2000-01-01") + pd.to_timedelta(rng.integers(0, 900, N), "D")
    table = pd.DataFrame(
        {
            "g": G,
            "x": rng.normal(size=N),
            "y": holes(rng.normal(size=N)),
            "day": day,
            "later": holes(day, 0.1),
        }
    )
    fewer = {} if "cycles" in options else {"draws": 30, "tune": 10}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", bi.StatisticalWarning)  # few draws
        imp = bi.impute(table, "g", m=2, seed=1, progress=False, show=False, **options, **fewer)
    assert imp.frame(0).drop(columns="later").notna().all(axis=None) and imp.frame(0)["later"].isna().any()
    for name in ("day", "later"):
        said = " ".join(
            imp.events["message"][imp.events["message"].str.contains(f"'{name}' has type datetime64")]
        )
        assert "neither imputed nor a predictor" in said
    if not options:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", bi.StatisticalWarning)
            imp.report(tmp_path / "report.md", figures=False)
        assert "later" in (tmp_path / "report.md").read_text()


@pytest.mark.parametrize("level", [False, True])
def test_a_total_of_incomplete_items_is_refused_before_sampling_and_can_be_computed(level):
    """It ended in a SamplingError of cycle 4."""
    rng = np.random.default_rng(1)
    table = pd.DataFrame(
        {k: holes(rng.integers(0, 11, N), 0.1, seed) for seed, k in enumerate("abc")}
        | {"g": G, "x": rng.normal(size=N)}
    )
    table["s"] = 2 * table["a"] + table["b"] - table["c"] + table["x"] + 5
    if level:
        table["k"] = rng.choice(["yes", "no"], N)
    with pytest.raises(bi.SpecificationError) as refused:
        impute(table)
    found = re.search(
        r"'(\w)' equals (.*) in all rows.*derived=\{'(\w)': '(.*)'\} of chained equations \(it",
        str(refused.value),
    )
    name, text = found[1], found[2]
    assert (name, text) == (found[3], found[4])
    there = table.dropna()
    assert np.allclose(there[name], there.eval(text))
    done = impute(table, derived={name: text}).frame(0)
    assert np.allclose(done["s"], 2 * done["a"] + done["b"] - done["c"] + done["x"] + 5)


def test_doubtful_imputed_values_are_printed(capsys):
    """Counts with many zeros, imputed as normal, and answers from 1 to 5; not a symmetric score."""
    rng = np.random.default_rng(1)
    table = pd.DataFrame(
        {
            "g": G,
            "ticks": holes(rng.poisson(rng.gamma(0.5, 8, N))),
            "likert": holes(rng.integers(1, 6, N), seed=1),
        }
    )
    bi.impute(table, "g", m=5, seed=1, draws=50, progress=False)
    said = unfolded(capsys.readouterr().out.strip()).splitlines()[-2]
    assert said.startswith(
        "Check the imputed values; imp.events says what to do. Negative, though no observed value is: 'ticks'"
    )
    assert said.endswith("Whole numbers imputed as normal: 'likert'.")
    table = pd.DataFrame({"g": G, "score": holes(rng.normal(size=N)), "z": rng.normal(size=N)})
    bi.impute(table, "g", m=5, seed=1, draws=50, progress=False)
    assert "Check the imputed values" not in capsys.readouterr().out


def test_chains_that_do_not_mix_are_said_and_cured_as_advised(capsys):
    alone = {"a": "bayes", "b": "bayes"}  # by default they are one block
    with pytest.warns(bi.StatisticalWarning, match=r"Does NOT mix.*blocks=\{'together': \['a', 'b'\]\}"):
        bi.impute(skewed(), "g", m=10, cycles=60, methods=alone, seed=1, progress=False, show=False)
    assert capsys.readouterr().out == ""
    for cure in ({"blocks": {"together": ["a", "b"]}}, {}):
        imp = bi.impute(skewed(), "g", m=10, cycles=300, seed=1, progress=False, **cure)
        assert unfolded(capsys.readouterr().out.strip()).splitlines()[-1].startswith("Converged")
        assert imp.summary().converged


def test_normal_variables_are_one_block_unless_something_is_chosen():
    table = skewed()
    assert [block.responses for block in impute(table).model.spec.blocks] == [("a", "b")]
    for chosen in (
        {"methods": {"a": "bayes"}},
        {"predictors": ["a ~ b + (1 | g)"]},
        {"blocks": {}},
        {"derived": {"c": "a + b"}},
    ):
        blocks = impute(table, **chosen).model.spec.blocks
        assert sorted(block.responses for block in blocks) == [("a",), ("b",)]


def test_a_block_that_cannot_be_is_imputed_one_by_one():
    table = skewed()
    imp = impute(table, bounds={"a": (-1000, None)})
    assert len(imp.model.spec.blocks) == 2
    said = imp.events.query("where == 'a, b' and kind == 'by default'")["message"]
    assert said.str.startswith("imputed one by one, because a block of all of them is refused").sum() == 1
    odd = np.arange(len(table)) % 2 == 1
    table.loc[odd, "a"], table.loc[~odd, "b"] = np.nan, np.nan  # never observed together
    assert len(impute(table).model.spec.blocks) == 2


def test_default_cycles_can_meet_the_criterion():
    """1,000 kept draws at the least, whatever m."""
    model = bi.FCS(bi.IncompleteData(skewed().drop(columns="b").assign(x=np.arange(N) % 5.0), "g"))
    for m, cycles in ((1, 2000), (5, 400), (20, 100), (30, 100)):
        imp = model.impute(m, seed=1, progress=False)
        assert imp.attrs["cycles"] == cycles and m * (cycles - imp.attrs["tune"]) >= 1000


def test_many_clusters_are_judged_by_their_mean():
    from bayesimp.diagnostics.convergence import GLANCED, glance

    clusters = GLANCED
    x = np.random.default_rng(1).normal(size=3 * clusters)
    table = pd.DataFrame({"g": np.repeat(np.arange(clusters), 3), "x": x, "y": holes(x + np.sin(9 * x), 0.5)})
    with pytest.warns(bi.StatisticalWarning, match=r"NOT known to mix: R-hat 1\.\d+, and smallest ESS"):
        imp = impute(table, cycles=60)
    quick = glance(imp)
    assert list(quick.imputed.index) == ["mean[y]", "sd[y]"]
    stats = imp.tree["imputed_stats"].to_dataset()["mean"].sel(response="y").values
    counts = imp.data.counts.loc["y"].to_numpy()
    expected = (np.nan_to_num(stats) * counts).sum(-1) / counts.sum()
    assert quick.imputed.loc["mean[y]", "mean"] == pytest.approx(expected.mean())


# values ------------------------------------------------------------------


def test_negative_values_of_a_positive_variable():
    lab = np.exp(np.random.default_rng(6).normal(size=N))
    imp = impute(pd.DataFrame({"g": G, "x": np.log(lab) + 1.0, "lab": holes(lab)}), m=5)
    event = imp.events.set_index("kind").loc["impossible values"]
    below = imp.values("lab") < 0
    assert event["count"] == below.sum() > 0 and f"{below.mean():.1%}" in event["message"]
    for cure in ("families={'lab': 'lognormal'} or 'gamma'", "bounds={'lab': (0, None)}"):
        assert cure in event["message"]
    for cured in (
        {"families": {"lab": "gamma"}},
        {"bounds": {"lab": (0, None)}},
        {"methods": {"lab": "pmm"}},
    ):
        again = impute(pd.DataFrame({"g": G, "x": np.log(lab) + 1.0, "lab": holes(lab)}), m=5, **cured)
        assert "impossible values" not in set(again.events["kind"])


def test_negative_values_of_whole_numbers():
    """For undeclared counts, advise poisson and not gamma, which excludes 0; analyses of them say so too."""
    ticks = np.random.default_rng(8).negative_binomial(0.4, 0.03, N).astype(float)
    imp = impute(pd.DataFrame({"g": G, "x": ticks % 7, "ticks": holes(ticks)}), m=3)
    message = imp.events.set_index("kind").loc["impossible values", "message"]
    assert "if they are counts, declare families={'ticks': 'poisson'}" in message and "gamma" not in message
    with pytest.raises(
        bi.DataError, match=r"declare the family before imputing: families=\{'ticks': 'poisson'\}"
    ):
        imp.analyse("ticks ~ x + (1 | g)", family="poisson")


def test_short_scales():
    scale = holes(np.random.default_rng(7).integers(1, 6, N).astype(float))
    message = (
        impute(pd.DataFrame({"g": G, "likert": scale, "x": G % 3.0 + TWO}))
        .events.set_index("kind")
        .loc["whole numbers", "message"]
    )
    assert all(word in message for word in ("5 different whole numbers", "C(likert)", "'ordinal'", "'pmm'"))


@pytest.mark.parametrize(
    "stored, after, method",
    [
        ("Int32", "Float64", "bayes"),
        ("Int32", "Int32", "pmm"),
        ("object of integers", "float64", "bayes"),
        ("float64", "float64", "bayes"),
        ("UInt8", "UInt8", "pmm"),
    ],
)
def test_dtypes_stay_or_are_said_to_change(stored, after, method):
    make = STORED.get(stored, lambda x: x.astype(stored))
    column = make(holes(np.random.default_rng(8).integers(0, 60, N).astype(float)))
    imp = impute(pd.DataFrame({"g": G, "z": column, "x": G % 3.0 + TWO}), methods={"z": method})
    assert str(imp.frame(1)["z"].dtype) == after and not imp.frame(1)["z"].isna().any()
    changed = imp.events[imp.events["kind"] == "dtype changed"]
    assert list(changed["where"]) == ([] if str(column.dtype) == after else ["z"])
    if len(changed):
        assert str(column.dtype) in changed["message"].iloc[0] and after in changed["message"].iloc[0]


def children(seed=3, N=400):
    """Ratios influence their own components: bmi = weight / height**2 predicts y, which predicts height."""
    rng = np.random.default_rng(seed)
    g = np.repeat(np.arange(20), N // 20)
    height = np.exp(np.log(1.1) + 0.35 * rng.normal(size=N) + 0.1 * rng.normal(size=20)[g])
    bmi = np.exp(np.log(18) + 0.25 * rng.normal(size=N))
    y = -0.6 * bmi + 20 * height + 2 * rng.normal(size=N)
    table = pd.DataFrame({"g": g, "height": height, "weight": bmi * height**2, "y": y})
    for name in ("height", "weight", "y"):
        table.loc[rng.random(N) < 0.35, name] = np.nan
    return table


def test_derived_columns_that_drive_what_they_come_from(recwarn):
    derived = {"bmi": "weight / height**2"}
    imp = impute(children(), m=5, cycles=100, derived=derived)
    note = next(line for line in unfolded(repr(imp.model)).splitlines() if "circle" in line)
    assert "note (height, weight): 'bmi' is computed from 'height', 'weight' and predicts 'y'" in note
    far = imp.events[imp.events["kind"] == "far outside"].set_index("where")
    values, seen = imp.values("height"), imp.data.numeric("height")
    limit = np.nanmax(seen) + 5 * np.nanstd(seen, ddof=1)
    assert far.loc["height", "count"] == (values > limit).sum() > 0
    assert "'height' -> 'bmi' -> 'y' -> 'height'" in far.loc["height", "message"]
    assert "bounds=" in far.loc["height", "message"]
    for cured in (
        {"bounds": {"height": (0.2, 4), "weight": (2, 200)}},
        {"predictors": {"height": "~ weight + (1 | g)", "weight": "~ height + (1 | g)"}},
    ):
        again = impute(children(), m=5, cycles=100, derived=derived, **cured)
        far = again.events[again.events["kind"] == "far outside"]
        assert not {"height", "weight"} & set(far["where"])


def test_sums_are_no_circle():
    notes = repr(bi.FCS(bi.IncompleteData(children(), "g"), derived={"total": "weight - 2 * height"}))
    assert "circle" not in notes


def test_far_outside_of_a_joint_model():
    """A slope known from a narrow range is used far outside it."""
    rng = np.random.default_rng(9)
    x = np.where(np.arange(N) % 40 == 0, 400.0, rng.normal(size=N))
    y = np.where(x > 10, np.nan, x + 0.1 * rng.normal(size=N))
    data = bi.IncompleteData(pd.DataFrame({"g": G, "x": x, "y": y}), "g")
    imp = bi.JointNormal(data, "y ~ x + (1 | g)").impute(m=2, seed=1, draws=50, chains=2)
    event = imp.events.set_index("kind").loc["far outside"]
    assert event["where"] == "y" and event["count"] == 2 * (x > 10).sum()
    ordinary = bi.JointNormal(data, "y ~ 1 + (1 | g)").impute(m=2, seed=1, draws=50, chains=2)
    assert "far outside" not in set(ordinary.events["kind"])


@pytest.mark.parametrize("name, power", [("x", 300), ("y", 200), ("x", -200), ("y", -90)])
def test_numbers_that_overflow_are_refused_for_that_reason(name, power):
    rng = np.random.default_rng(1)
    table = pd.DataFrame({"g": G, "x": rng.normal(size=N), "y": holes(rng.normal(size=N))})
    table[name] *= 10.0**power
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(bi.DataError, match=rf"'{name}' has numbers so (large|small).*change the unit"):
            impute(table)
        table[name] *= 10.0 ** (-power + 60 * np.sign(power))
        impute(table)  # far from ordinary, and computed with


# an analysis -------------------------------------------------------------------


def test_an_analysis_is_imputed_for(capsys):
    table = skewed().assign(k=(TWO > 0).astype(float))
    runs = {"m": 2, "seed": 1, "chains": 2, "tune": 5, "draws": 4, "progress": False}
    imp = bi.impute(table, "g", analysis="k ~ a * b + (1 | g)", family="bernoulli", **runs)
    said = capsys.readouterr().out
    assert said.startswith("Engine 'glmm' (JointGLMM), because the analysis has a * b")
    assert imp.attrs["model"] == "JointGLMM" and imp.model.factors[-1].family.name == "bernoulli"
    assert "beta_k" in imp.tree["posterior"] and not imp.frame(0).isna().any().any()
    priors = bi.priors.pan()
    imp = bi.impute(
        table, "g", analysis=["a ~ b + (1 + b | g)"], priors=priors, effects="separate", show=False, **runs
    )
    assert imp.model.priors == priors and imp.model.separate and imp.attrs["chains"] == 2


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"engine": "nuts"}, "engine must be 'joint', 'latent', 'glmm', 'fcs' or None, got 'nuts'"),
        ({"engine": "glmm"}, "no analysis is given"),
        (
            {"analysis": 5},
            r"The analysis must be a formula, such as 'y ~ x \+ \(1 \| g\)', or several; got 5",
        ),
        ({"analysis": len}, "The analysis must be a formula, .*built-in function"),
        ({"family": "poisson"}, "family= refers to the response of analysis="),
        ({"analysis": "a ~ b + (1 | g)", "cycles": 3}, "cycles= is an option of chained equations"),
        ({"analysis": "a ~ b + (1 | g)", "methods": "pmm"}, "methods= is an option of chained equations"),
        (
            {"analysis": "a ~ b + (1 + b | g)", "prior": 1},
            "'prior' is not an option of any engine; did you mean 'priors'",
        ),
        (
            {"analysis": "a ~ b + (1 | g)", "offset": "b"},
            r"'offset' is an option of analyses.*imp.analyse\(...\).*make the offset a covariate",
        ),
        (
            {"analysis": ["a ~ 1 + (1 | g)", "b ~ a + (1 | g)"], "family": "gamma"},
            "for 2 responses: give one each",
        ),
    ],
)
def test_options_that_do_not_go_with_the_engine(options, match):
    with pytest.raises(bi.SpecificationError, match=match):
        bi.impute(skewed(), "g", m=2, show=False, progress=False, **options)
