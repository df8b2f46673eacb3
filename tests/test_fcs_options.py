"""Every option of `FCS` with every method and family: it is honoured, as the values show, or refused before sampling.

Which methods have which families, and honour which options, is read from their contract (`bayesimp.methods.Method`).

bounds      drawn normal values and matched ones; else refused
post        all                where      all
ignore      all                derived    all numbers
compatible  methods with random effects; 2lonly has cluster means anyway; else refused
"""

from __future__ import annotations

from functools import cache

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import bayesimp as bi
from bayesimp import methods as me
from bayesimp.methods.base import all_families
from bayesimp.methods.names import METHODS as KINDS
from bayesimp.methods.names import NAMES

LEVELS = ("bernoulli", "ordinal", "categorical")
# Limits are in a second column; tests/families/test_censored.py has the options of that family.
FAMILIES = tuple(
    "binomial(n)" if family == "binomial" else family for family in all_families() if family != "censored"
)
M, N = 16, 24


def _methods() -> dict[str, me.Method]:
    """Every record that has a name, once, by its first name; matching by sti has none."""
    found: dict[str, me.Method] = {}
    for name in NAMES:
        record = me.read(name)
        if record not in found.values() and not name.endswith("-c"):
            found[name] = record
    return found | {"sti.pmm": me.Stratified(donors=5)}


def own_model(data, priors):
    """A normal model of the user's."""
    import pymc as pm

    with pm.Model() as model:
        beta = pm.Normal("beta", 0, 3, shape=data.X.shape[1])
        sigma = pm.HalfNormal("sigma", 2)
        pm.Normal(data.name, data.X @ beta, sigma, observed=data.y)
    return model


METHODS = _methods() | {"own": me.PyMC(model=own_model)}
COMPILED = (
    "pymc",
    "own",
)  # PyMC compiles for seconds: of its models the normal ones, the others in a slow test


def table(family, of_clusters=False, seed=0) -> pd.DataFrame:
    """x and n complete; y missing in rows (or clusters); its ignored half is far from the other, see `IGNORED`."""
    rng = np.random.default_rng(seed)
    g = np.repeat(np.arange(M), N)
    n = np.repeat(rng.integers(3, 7, M), N) if of_clusters else rng.integers(3, 7, M * N)
    size, at = (M, g) if of_clusters else (M * N, slice(None))
    y = {
        "normal": lambda: rng.random(size),
        "bernoulli": lambda: rng.choice(["no", "yes"], size, p=[0.7, 0.3]).astype(object),
        "binomial(n)": lambda: rng.binomial(3, 0.2, size) * 1.0,
        "poisson": lambda: rng.poisson(1.5, size) * 1.0,
        "negative_binomial": lambda: rng.poisson(rng.gamma(2, 1, size)) * 1.0,
        "gamma": lambda: rng.gamma(4, 0.25, size),
        "inverse_gaussian": lambda: rng.wald(1, 4, size),
        "beta": lambda: rng.beta(4, 3, size),
        "student": lambda: rng.random(size),
        "yeo_johnson": lambda: rng.random(size) ** 2,
        "zero_inflated_poisson": lambda: rng.poisson(2.5, size) * rng.integers(0, 2, size) * 1.0,
        "zero_inflated_negative_binomial": lambda: (
            rng.poisson(rng.gamma(2, 1, size)) * rng.integers(0, 2, size) * 1.0
        ),
        "hurdle_poisson": lambda: (1 + rng.poisson(1.5, size)) * rng.integers(0, 2, size) * 1.0,
        "hurdle_negative_binomial": lambda: (
            (1 + rng.poisson(rng.gamma(2, 1, size))) * rng.integers(0, 2, size) * 1.0
        ),
        "lognormal": lambda: np.exp(0.5 * rng.normal(size=size)),
        "ordinal": lambda: rng.choice(["a", "b", "c"], size, p=[0.5, 0.4, 0.1]),
        "categorical": lambda: rng.choice(["a", "b", "c"], size, p=[0.5, 0.4, 0.1]).astype(object),
    }[family]()[at]
    if family == "ordinal":
        y = pd.Categorical(y, ["a", "b", "c"], ordered=True)
    frame = pd.DataFrame({"g": g, "x": rng.normal(size=M * N), "n": n, "y": y})
    frame.loc[np.isin(g, [2, 5, 8, 11]) if of_clusters else rng.random(M * N) < 0.3, "y"] = None
    return frame


def data(frame, family):
    families = {} if family in ("normal", "bernoulli", "ordinal", "categorical") else {"y": family}
    return bi.IncompleteData(frame, "g", families=families)


def fcs(frame, family, method, **options):
    random = "" if me.ignores_clusters(method) else " + (1 | g)"
    return bi.FCS(data(frame, family), {"y": method}, {"y": f"~ x{random}"}, **options)


@cache
def accepted(name: str) -> tuple[str, ...]:
    """Families of the method; others are refused with a message."""
    method, families = METHODS[name], []
    for family in FAMILIES:
        frame = table(family, method.level == "cluster")
        by_cluster = method.residual == "cluster" and family != "normal"
        if family.partition("(")[0] not in method.families or by_cluster:
            with pytest.raises(bi.SpecificationError, match=r"variables, but it is"):
                fcs(frame, family, method)
            continue
        fcs(frame, family, method)
        if name not in COMPILED or family == "normal":
            families.append(family)
    return tuple(families)


def families_of(name):
    """Families of the method, each with its table."""
    for family in accepted(name):
        yield family, table(family, METHODS[name].level == "cluster")


def run(model, m=3):
    return model.impute(m, cycles=3, seed=1, progress=False)


def test_the_table_has_every_method_and_family():
    has = {name: list(accepted(name)) for name in METHODS}
    assert has["bayes"] == has["2lonly"] == list(FAMILIES)
    assert [name for name, families in has.items() if "normal" in families] == [
        name for name in METHODS if name not in ("mlmi", "mlmi-published")
    ]
    assert {type(method) for method in METHODS.values()} == set(KINDS)
    assert len(METHODS) >= 16 and sum(map(len, has.values())) >= 80


@pytest.mark.parametrize("name", METHODS)
def test_bounds(name):
    method = METHODS[name]
    for family, frame in families_of(name):
        numbers = pd.to_numeric(frame["y"], errors="coerce")
        bounds = (numbers.min(), numbers.max()) if family not in LEVELS else (0, 1)
        drawn = family == "normal" and "bounds" in method.options
        if drawn or (method.matches and family not in LEVELS):
            values = run(fcs(frame, family, method, bounds={"y": bounds})).values("y")
            assert bounds[0] <= values.min() and values.max() <= bounds[1], family
            if not method.matches:  # otherwise the check would see nothing
                free = run(fcs(frame, family, method), 30).values("y")
                assert free.min() < bounds[0] and free.max() > bounds[1], family
        else:
            with pytest.raises(
                bi.SpecificationError,
                match=r"bounds\['y'\]: (bounds are for normal|'y' is drawn by your own PyMC model|method 'heckman')",
            ):
                fcs(frame, family, method, bounds={"y": bounds})


POSTS = dict.fromkeys(
    ("normal", "gamma", "inverse_gaussian", "lognormal", "beta", "student", "yeo_johnson"), 0.25
)


@pytest.mark.parametrize("name", METHODS)
def test_post(name):
    """What the function returns is what is imputed: a number, or the place of a level."""
    method = METHODS[name]
    for family, frame in families_of(name):
        value = POSTS.get(family, 1.0)
        if method.matches and family not in LEVELS:  # matched values are observed ones
            value = float(frame["y"].dropna().iloc[0])
        imp = run(
            fcs(frame, family, method, post={"y": lambda drawn, value=value: np.full(len(drawn), value)})
        )
        np.testing.assert_allclose(imp.values("y"), value, rtol=1e-12, err_msg=family)


@pytest.mark.parametrize("name", METHODS)
def test_where_and_derived(name):
    """Cells not chosen stay missing, chosen ones are drawn; a computed column follows."""
    method = METHODS[name]
    for family, frame in families_of(name):
        of_clusters = method.level == "cluster"
        missing = frame["y"].isna().to_numpy()
        left, held = np.zeros(M * N, bool), np.zeros(M * N, bool)
        left[np.flatnonzero(missing)[:5]] = True
        held[frame["g"].isin([0, 1, 3, 4]) if of_clusters else np.flatnonzero(~missing)[:9]] = True
        numbers = family not in LEVELS
        options = {"where": {"y": (missing & ~left) | held}} | (
            {"derived": {"twice": "2 * y"}} if numbers else {}
        )
        imp = run(fcs(frame, family, method, **options))
        tables = [imp.frame(k) for k in range(3)]
        for after in tables:
            assert after["y"].isna().to_numpy()[left].all() and not after["y"].isna().to_numpy()[~left].any()
            if numbers:
                done = after.loc[~left]
                np.testing.assert_allclose(
                    done["twice"], 2 * done["y"], rtol=1e-9, atol=1e-12, err_msg=family
                )
        drawn = np.array([after["y"].to_numpy()[held] for after in tables])
        assert (drawn != frame["y"].to_numpy()[held]).any(), family


IGNORED = {"normal": 1000.0, "poisson": 4000.0, "negative_binomial": 4000.0, "gamma": 1e4, "inverse_gaussian": 1e4,
           "student": 1000.0, "yeo_johnson": 1000.0,
           "zero_inflated_poisson": 4000.0, "zero_inflated_negative_binomial": 4000.0,
           "hurdle_poisson": 4000.0, "hurdle_negative_binomial": 4000.0, "lognormal": 1e4,
           "beta": 0.999, "bernoulli": "yes", "ordinal": "c", "categorical": "c"}  # fmt: skip


@pytest.mark.parametrize("name", METHODS)
def test_ignore(name):
    """Values of ignored rows that are all far off are not those of the others; and ignored rows are imputed."""
    method = METHODS[name]
    for family, frame in families_of(name):
        by = frame["g"] if method.level == "cluster" else frame.index.to_series()
        ignored = (by % 2 == 0).to_numpy()
        seen = ignored & frame["y"].notna().to_numpy()
        frame.loc[seen, "y"] = IGNORED[family] if family in IGNORED else frame.loc[seen, "n"].astype(float)
        m = 12 if method.level == "cluster" else 3
        imp = run(fcs(frame, family, method, ignore=ignored), m)
        rows = frame["y"].isna().to_numpy() & ~ignored
        values = np.concatenate([imp.frame(k)["y"].to_numpy()[rows] for k in range(m)])
        assert not imp.frame(0)["y"].isna().any()
        if family in LEVELS:
            assert (values == IGNORED[family]).mean() < 0.5, family
        elif family == "binomial(n)":
            assert values.sum() / (m * frame["n"].to_numpy()[rows].sum()) < 0.4
        elif family == "beta":
            assert np.quantile(values, 0.9) < 0.95
        else:
            assert np.abs(values).max() < IGNORED[family] / 4, family


@pytest.mark.parametrize("family", ["normal", "poisson", "gamma"])
def test_ignored_rows_do_not_reach_units_and_priors(family):
    frame = table(family)
    ignored = np.asarray(frame.index % 2 == 0)
    models = [
        fcs(
            frame.assign(y=frame["y"].where(~ignored, frame["y"] * by)),
            family,
            me.read("bayes"),
            ignore=ignored,
        )
        for by in (1, 1000)
    ]
    ours, theirs = ({k: str(prior) for k, prior in model.parameter_priors.items()} for model in models)
    assert ours == theirs and len(ours) >= 2
    np.testing.assert_array_equal(models[0].table.blocks[0].scale.s, models[1].table.blocks[0].scale.s)
    np.testing.assert_array_equal(models[0].table.blocks[0].scale.c, models[1].table.blocks[0].scale.c)


@pytest.mark.parametrize("name", METHODS)
def test_compatible(name):
    method = METHODS[name]
    for family, frame in families_of(name):
        if method.without_cluster_means() is None:
            assert "cluster_mean(x)" in fcs(frame, family, method, compatible=True).formulas[0]
        else:
            with pytest.raises(bi.SpecificationError, match=r"adds no cluster means to 'y'.*in its formula"):
                fcs(frame, family, method, compatible=True)
    if isinstance(method, me.Norm):  # chosen automatically, with a note
        one = table("normal").assign(y=lambda f: f["y"].where(f["g"] == 1))
        model = bi.FCS(bi.IncompleteData(one, "g"), compatible=True)
        assert any("adds no cluster means" in note for note in model.spec.blocks[0].notes)


# -- bounds: the law, by row, far out, and what is refused ---------------------------------------------------------

DRAWN = [
    name
    for name, method in METHODS.items()
    if not method.matches
    and {"normal"} <= set(method.families)
    and "bounds" in method.options
    and method.level == "row"
]


@pytest.mark.parametrize("name", DRAWN)
def test_values_between_bounds_have_the_truncated_law(name):
    """Uniform y: nearly N(1/2, 1/12) cut off at 0 and 1; of values pushed to the bounds 8 % would be there."""
    rng = np.random.default_rng(7)
    frame = pd.DataFrame(
        {"g": np.repeat(np.arange(10), 100), "x": rng.normal(size=1000), "n": 1, "y": rng.random(1000)}
    )
    frame.loc[rng.random(1000) < 0.3, "y"] = np.nan
    values = run(fcs(frame, "normal", METHODS[name], bounds={"y": (0, 1)})).values("y")
    y = frame["y"].dropna()
    law = stats.truncnorm(-y.mean() / y.std(), (1 - y.mean()) / y.std(), y.mean(), y.std())
    assert stats.kstest(values.ravel(), law.cdf).pvalue > 1e-4


@pytest.mark.parametrize("name", METHODS)
def test_bounds_by_row(name):
    """Detection limits: an upper bound in some rows, none in others; and bounds 30 and 3000 sds away."""
    method = METHODS[name]
    if "bounds" not in method.options:
        return
    of_clusters = method.level == "cluster"
    frame = table("normal", of_clusters)
    missing = frame["y"].isna()
    low, high = pd.Series(np.nan, frame.index), pd.Series(np.nan, frame.index)
    group = frame["g"] if of_clusters else frame["g"] // 2
    low[missing & (group == group[missing].iloc[0])], high[missing & (group == 2)] = 10.0, 0.1
    high[missing & (group == (8 if of_clusters else 3))] = -1000.0
    if of_clusters:
        low[missing & (group == 2)] = np.nan
    if method.matches:
        with pytest.raises(bi.SpecificationError, match=r"uses values of other rows.*one pair for all rows"):
            fcs(frame, "normal", method, bounds={"y": (low, high)})
        return
    low[low.notna() & high.notna()] = np.nan
    imp = run(fcs(frame, "normal", method, bounds={"y": (low, high)}))
    assert (low.notna().any() or of_clusters) and high.notna().any()
    for k in range(3):
        y = imp.frame(k)["y"]
        assert np.isfinite(y).all()
        assert (y[low.notna()] >= 10).all() and (y[high.notna()] <= high[high.notna()]).all()
        assert (y[low.notna()] < 11).all() and (y[high < -1] > -1001).all()
        if of_clusters:
            assert (y.groupby(frame["g"]).nunique() == 1).all()


def test_bounds_are_kept_exactly_in_the_units_of_the_data():
    """A bound of 0 is one for log(y): no round-off of a large mean or a tiny unit passes it."""
    for shift, scale in ((0.0, 1.0), (1e6, 1.0), (0.1, 1e-7), (-3e5, 1e3)):
        frame = table("normal")
        frame["y"] = (frame["y"] + shift) * scale
        low = frame["y"].min()
        limits = (low, np.nextafter(low, np.inf) + 1e-12 * abs(low) + 1e-9 * scale)
        rows = frame["y"].isna()
        bounds = [pd.Series(limit, frame.index).where(rows) for limit in limits]
        for method in ("bayes", "sti", "2stage"):
            values = run(fcs(frame, "normal", me.read(method), bounds={"y": bounds})).values("y")
            assert (values >= limits[0]).all() and (values <= limits[1]).all(), (shift, scale, method)


def test_bounds_by_row_are_saved(tmp_path):
    frame = table("normal")
    limit = pd.Series(0.4, frame.index).where(frame["y"].isna())
    imp = run(fcs(frame, "normal", me.read("bayes"), bounds={"y": (None, limit)}))
    imp.save(tmp_path / "a.nc")
    more = bi.load(tmp_path / "a.nc").extend(5, progress=False)
    assert more.values("y").max() <= 0.4
    np.testing.assert_array_equal(more.values("y"), imp.extend(5, progress=False).values("y"))


FRAME = table("normal")
HOLES = FRAME["y"].isna()


@pytest.mark.parametrize(
    "pair, error, message",
    [
        ((np.nan, 1), bi.SpecificationError, "nan is not a bound; give None"),
        ((np.inf, None), bi.SpecificationError, "empty"),
        ((None, -np.inf), bi.SpecificationError, "empty"),
        ((1, 0), bi.SpecificationError, "empty"),
        ((True, 2), bi.SpecificationError, "must be .lower, upper."),
        ("ab", bi.SpecificationError, "must be .lower, upper."),
        ((0, "1"), bi.SpecificationError, "must be .lower, upper."),
        ((0, np.ones(3)), bi.SpecificationError, r"384 numbers, one per row of the table; got shape \(3,"),
        ((0, np.ones((M * N, 2))), bi.SpecificationError, r"one per row of the table; got shape \(384, 2"),
        ((0, HOLES.where(HOLES).sort_index(ascending=False)), bi.SpecificationError, "a different index"),
        ((np.where(HOLES, 3.0, np.nan), 2), bi.SpecificationError, r"no value is between 3 and 2 in \d+ of 384 rows"),
        ((None, np.full(M * N, 0.01)), bi.DataError, r"outside their row's bounds in \d+ of 384 rows .*nan in"),
        ((0.5, None), bi.DataError, "observed values are outside"),
    ],
)  # fmt: skip
def test_bounds_that_are_none(pair, error, message):
    with pytest.raises(error, match=message):
        fcs(FRAME, "normal", me.read("bayes"), bounds={"y": pair})


def test_no_bounds_are_infinite_bounds():
    for pair in ((None, None), (-np.inf, np.inf), (np.full(M * N, np.nan), None)):
        assert run(fcs(FRAME, "normal", me.read("bayes"), bounds={"y": pair})).values("y").min() < 0


def test_rows_of_a_cluster_that_bounds_contradict():
    frame = table("normal", of_clusters=True)
    rows = np.flatnonzero(frame["g"] == 2)
    low, high = np.full(M * N, np.nan), np.full(M * N, np.nan)
    low[rows[0]], high[rows[1]] = 0.6, 0.4
    with pytest.raises(
        bi.SpecificationError, match=r"between 0.6 and 0.4, the bounds of all rows of cluster 2"
    ):
        fcs(frame, "normal", me.ClusterLevel(), bounds={"y": (low, high)})
    frame.loc[np.flatnonzero(frame["g"] == 0)[:3], "y"] = np.nan  # known from other rows
    low = np.where(np.arange(M * N) == 0, 5.0, np.nan)
    with pytest.raises(bi.SpecificationError, match="or not the observed one"):
        fcs(frame, "normal", me.ClusterLevel(), bounds={"y": (low, None)})


# -- blocks of several variables, models of the user's own ---------------------------------------------------------


def joint(**options):
    frame = table("normal").assign(z=table("normal", seed=1)["y"])
    return frame, bi.FCS(
        bi.IncompleteData(frame, "g"),
        predictors={"both": "y + z ~ x + (1 | g)"},
        blocks={"both": ["y", "z"]},
        **options,
    )


def test_options_of_joint_blocks():
    with pytest.raises(bi.SpecificationError, match=r"imputed jointly with others .block 'both'."):
        joint(bounds={"z": (0, 1)})
    frame, model = joint(post={"z": lambda drawn: np.full(len(drawn), 0.25)}, derived={"sum": "y + z"})
    after = run(model).frame(0)
    np.testing.assert_allclose(after["z"][frame["z"].isna()], 0.25)
    np.testing.assert_allclose(after["sum"], after["y"] + after["z"])
    where = {"y": frame["y"].isna().to_numpy() & (frame["g"] > 4).to_numpy()}
    frame, model = joint(where=where)
    assert (run(model).frame(0)["y"].isna() == (frame["y"].isna() & (frame["g"] <= 4))).all()


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES[1:])
def test_options_of_generalised_pymc_models(family):
    """post, ignore, where, derived at once."""
    frame = table(family)
    ignored, missing = np.asarray(frame.index % 2 == 0), frame["y"].isna().to_numpy()
    seen = ignored & ~missing
    frame.loc[seen, "y"] = IGNORED[family] if family in IGNORED else frame.loc[seen, "n"].astype(float)
    got = []
    model = fcs(frame, family, me.PyMC(), ignore=ignored, where={"y": missing & ~ignored},
                post={"y": lambda drawn: got.append(drawn) or drawn})  # fmt: skip
    after = run(model).frame(0)["y"]
    assert after.isna().to_numpy()[missing & ignored].all() and after.notna().to_numpy()[~missing].all()
    values = after.to_numpy()[missing & ~ignored]
    if family in LEVELS:
        assert (values == IGNORED[family]).mean() < 0.5
    elif family == "binomial(n)":
        assert values.sum() / frame["n"].to_numpy()[missing & ~ignored].sum() < 0.4
    else:
        assert np.abs(values).max() < IGNORED[family] / 4
    assert len(got) == 9


# -- cluster-level variables ------------------------------------------------------------------------------------------


def test_post_of_a_variable_of_clusters():
    """It is given drawn values, not those known from other rows of the cluster; one value per cluster remains."""
    frame = table("normal", of_clusters=True)
    known = np.flatnonzero(frame["g"] == 0)[:3]
    value = frame["y"][known[0]]
    frame.loc[known, "y"] = np.nan
    imp = run(fcs(frame, "normal", me.ClusterLevel(), post={"y": lambda drawn: np.full(len(drawn), 7.0)}))
    after = imp.frame(0)["y"]
    np.testing.assert_allclose(after[known], value)
    np.testing.assert_allclose(after[frame["g"].isin([2, 5, 8, 11])], 7.0)
    model = fcs(frame, "normal", me.ClusterLevel(), post={"y": lambda drawn: np.arange(len(drawn)) * 1.0})
    with pytest.raises(
        bi.SamplingError, match=r"post\['y'\] returned different values for rows of one cluster"
    ):
        run(model)


@pytest.mark.parametrize("family", FAMILIES)
def test_variables_of_clusters_of_every_family_by_default(family):
    """One value per cluster, valid for the family; no circular advice."""
    frame = table(family, of_clusters=True)
    model = bi.FCS(data(frame, family))
    assert [block.method.name for block in model.spec.blocks] == ["2lonly"]
    assert not any(event.kind == "prior matters" for event in model.events)
    after = run(model).frame(0)
    assert (after.groupby("g")["y"].nunique() == 1).all() and after["y"].notna().all()
    if family in ("gamma", "inverse_gaussian", "lognormal", "beta"):
        assert (after["y"] > 0).all()
    if family == "binomial(n)":
        assert (after["y"] <= after["n"]).all()
    by_rows = bi.FCS(data(frame, family), "bayes") if family != "normal" else None
    if by_rows is not None:
        assert any("impute it by method '2lonly'" in event.message for event in by_rows.events)
    if family in (
        "gamma",
        "inverse_gaussian",
        "beta",
        "negative_binomial",
        "student",
        "yeo_johnson",
        "zero_inflated_poisson",
        "hurdle_negative_binomial",
        "lognormal",
    ):
        for other in ("sti", "2stage", "glm", "mlmi", "ml"):
            with pytest.raises(
                bi.SpecificationError, match="use '2lonly', because it has a single value in each cluster"
            ):
                bi.FCS(data(frame, family), other)


def test_trials_of_a_cluster_agree():
    frame = table("binomial(n)", of_clusters=True)
    frame.loc[0, "n"] += 1
    with pytest.raises(bi.DataError, match="trials 'n' have several in 1 of 16 clusters"):
        fcs(frame, "binomial(n)", me.ClusterLevel())


def test_imputed_counts_of_clusters_stay_near_the_observed_ones():
    """Twelve schools, five predictors, counts up to 5: unconstrained slopes led to imputed counts in the hundreds."""
    largest = []
    for seed in range(5):
        rng = np.random.default_rng(seed)
        g = np.repeat(np.arange(12), 20)
        effect = rng.normal(size=12)
        frame = pd.DataFrame({
            "g": g, "x": rng.normal(size=240) + effect[g], "w": rng.normal(size=240), "z": rng.normal(size=12)[g],
            "u": rng.normal(size=12)[g], "v": rng.normal(size=240) + 0.5 * effect[g],
        })  # fmt: skip
        frame["beds"] = rng.poisson(np.exp(0.5 + 0.3 * effect))[g] * 1.0
        frame.loc[g % 4 == 1, "beds"] = np.nan
        imp = bi.FCS(bi.IncompleteData(frame, "g", families={"beds": "poisson"})).impute(
            20, cycles=10, seed=1, progress=False
        )
        largest.append(imp.values("beds").max() / frame["beds"].max())
    assert np.median(largest) < 5 and max(largest) < 15


@pytest.mark.parametrize("of_clusters", [False, True])
@pytest.mark.parametrize("family", ["gamma", "ordinal"])
def test_a_saved_run_with_shapes_and_cutpoints_goes_on_exactly(family, of_clusters, tmp_path):
    """Saved, loaded and continued: as if never stopped, every parameter included."""
    model = bi.FCS(data(table(family, of_clusters), family))
    imp = model.impute(2, cycles=3, seed=1, progress=False)
    imp.save(tmp_path / "a.nc")
    more = bi.load(tmp_path / "a.nc").iterate(4, progress=False)
    whole = model.impute(2, cycles=7, tune=1, seed=1, progress=False)
    np.testing.assert_array_equal(more.values("y"), whole.values("y"))
    ours, theirs = (run.tree["posterior"].to_dataset() for run in (imp.iterate(4, progress=False), more))
    assert set(ours) == set(theirs) >= {"beta_y", "shape_y" if family == "gamma" else "cutpoints_y"}
    for name in ours.data_vars:
        np.testing.assert_array_equal(ours[name], theirs[name])


def test_post_of_a_variable_of_clusters_that_other_rows_tell():
    """Nothing is drawn, so the function is not called."""
    f = pd.DataFrame({"g": np.repeat(np.arange(6), 4), "e": np.repeat(np.arange(6.0) ** 2, 4)})
    f["y"] = np.random.default_rng(1).normal(size=24)
    f.loc[::4, "e"], f.loc[1::6, "y"] = np.nan, np.nan

    def never(values):
        raise AssertionError("called")

    model = bi.FCS(bi.IncompleteData(f, "g"), {"e": "2lonly"}, post={"e": never})
    imp = model.impute(1, cycles=2, seed=1, progress=False)
    assert imp.frame(0)["e"].tolist() == np.repeat(np.arange(6.0) ** 2, 4).tolist()
