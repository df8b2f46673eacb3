"""c[level], cluster_mean, cluster_sum, within and cluster_size in formulas of imputation, in derived= and in analyses."""

import numpy as np
import pandas as pd
import pytest

import bayesimp as bi
from bayesimp.analysis.fit import fit_each
from bayesimp.errors import DataError, SpecificationError
from bayesimp.fcs.specification.values import column_values, filled
from bayesimp.formulas.arithmetic import over_clusters
from bayesimp.formulas.design import design
from bayesimp.formulas.formula import parse

pytestmark = pytest.mark.filterwarnings("ignore::bayesimp.errors.StatisticalWarning")


def table(seed=1, m=14) -> pd.DataFrame:
    """Clusters of 4 to 17 rows, not in order."""
    rng = np.random.default_rng(seed)
    g = rng.permutation(np.repeat(np.arange(m), 4 + np.arange(m)))
    frame = pd.DataFrame({"study": [f"s{k:02}" for k in g], "x": rng.normal(size=len(g)) + g / 5})
    frame["z"] = rng.normal(size=len(g))
    frame["sex"] = rng.choice(["F", "M"], len(g))
    frame["arm"] = pd.Categorical(rng.choice(["b", "a", "c"], len(g)), ["b", "a", "c"])
    frame["y"] = frame["x"] + rng.normal(size=len(g)) + rng.normal(size=m)[g]
    return frame


FRAME = table()


def by(frame, values):
    return pd.Series(np.asarray(values, float), frame.index).groupby(frame["study"])


def expected(frame, term):
    """Of a term, by pandas."""
    f, male = frame, (frame["sex"] == "M").astype(float)
    return {
        "cluster_mean(x)": lambda: by(f, f["x"]).transform("mean"),
        "cluster_sum(x * z)": lambda: by(f, f["x"] * f["z"]).transform("sum"),
        "cluster_mean(x:z)": lambda: by(f, f["x"] * f["z"]).transform("mean"),
        "within(x)": lambda: f["x"] - by(f, f["x"]).transform("mean"),
        "cluster_mean(sex)": lambda: by(f, male).transform("mean"),
        "within(sex)": lambda: male - by(f, male).transform("mean"),
        "cluster_mean(sex[F])": lambda: by(f, 1 - male).transform("mean"),
        "cluster_mean(x * arm[c])": lambda: by(f, f["x"] * (f["arm"] == "c")).transform("mean"),
        "cluster_mean(log(x**2 + 1))": lambda: by(f, np.log(f["x"] ** 2 + 1)).transform("mean"),
        "cluster_size()": lambda: by(f, f["x"]).transform("size").astype(float),
        "log(cluster_size())": lambda: np.log(by(f, f["x"]).transform("size")),
        "z:cluster_mean(x)": lambda: f["z"] * by(f, f["x"]).transform("mean"),
        "z:cluster_size()": lambda: f["z"] * by(f, f["x"]).transform("size"),
        "arm[a]": lambda: (f["arm"] == "a").astype(float),
        "arm[b]": lambda: (f["arm"] == "b").astype(float),
        "sex[F]:x": lambda: (1 - male) * f["x"],
    }[term]().to_numpy()


TERMS = [
    "cluster_mean(x)", "cluster_sum(x * z)", "cluster_mean(x:z)", "within(x)", "cluster_mean(sex)", "within(sex)",
    "cluster_mean(sex[F])", "cluster_mean(x * arm[c])", "cluster_mean(log(x**2 + 1))", "cluster_size()",
    "log(cluster_size())", "z:cluster_mean(x)", "z:cluster_size()", "arm[a]", "arm[b]", "sex[F]:x",
]  # fmt: skip


@pytest.mark.parametrize("term", TERMS)
def test_one_meaning_in_imputation_and_analysis(term):
    codes = pd.factorize(FRAME["study"], sort=True)[0]
    want = expected(FRAME, term)
    np.testing.assert_allclose(
        design(parse(f"~ {term}"), FRAME, codes=codes).X[:, 1], want, rtol=1e-12, atol=1e-12
    )
    # by FCS, of complete columns
    data = bi.IncompleteData(FRAME.assign(y=FRAME["y"].where(FRAME.index % 5 > 0)), "study")
    model = bi.FCS(data, predictors=[f"y ~ {term} + (1 | study)"])
    at = {name: model.spec.X[:, k] for k, name in enumerate(model.spec.complete)}
    values = filled(data, at, model.spec.incomplete, model.spec.derived)
    made = column_values(model.spec.blocks[0].fixed, values, data.codes)
    np.testing.assert_allclose(made[:, 1], want, rtol=1e-12, atol=1e-12)
    # for completed tables of different sizes, each has its own
    tables = [FRAME, FRAME.iloc[::-1].assign(x=lambda f: f["x"] * 2), table(2).iloc[: len(FRAME) - 9]]
    ours = fit_each(tables, f"y ~ {term} + (1 | study)")
    theirs = fit_each([t.assign(w=expected(t, term)) for t in tables], "y ~ w + (1 | study)")
    np.testing.assert_allclose(ours.estimates, theirs.estimates, rtol=1e-6, atol=1e-9)


def test_clusters_of_analyses():
    """The grouping column, else that of the imputation model, else an error asks for it."""
    means = FRAME.assign(w=expected(FRAME, "cluster_mean(x)"))
    plain = fit_each([means], "y ~ x + w").estimates
    np.testing.assert_allclose(fit_each([FRAME], "y ~ x + cluster_mean(x)", cluster="study").estimates, plain)
    with pytest.raises(
        SpecificationError, match=r"cluster_mean\(x\) is over the rows of a cluster.*cluster='\.\.\.'"
    ):
        fit_each([FRAME], "y ~ x + cluster_mean(x)")
    other = FRAME.assign(school=np.arange(len(FRAME)) % 7)
    ours = fit_each([other], "y ~ cluster_mean(x) + (1 | school)", cluster="study")
    theirs = fit_each(
        [other.assign(w=by(other.assign(study=other["school"]), other["x"]).transform("mean"))],
        "y ~ w + (1 | school)",
    )
    np.testing.assert_allclose(ours.estimates, theirs.estimates, rtol=1e-8)
    binary = FRAME.assign(e=(FRAME["y"] > 1).astype(int))
    ours = fit_each([binary], "e ~ x + cluster_mean(x) + (1 | study)", family="bernoulli")
    theirs = fit_each([binary.assign(w=means["w"])], "e ~ x + w + (1 | study)", family="bernoulli")
    np.testing.assert_allclose(ours.estimates, theirs.estimates, rtol=1e-6)


def test_means_of_each_completed_table():
    data = bi.IncompleteData(FRAME.assign(x=FRAME["x"].where(FRAME.index % 4 > 0)), "study")
    imp = bi.FCS(data, predictors=["x ~ y + cluster_mean(z) + (1 | study)"]).impute(
        3, cycles=2, seed=1, progress=False
    )
    ours = imp.analyse("y ~ within(x) + cluster_mean(x) + log(cluster_size()) + (1 | study)")
    tables = [imp.frame(k) for k in range(3)]
    names = {"a": "within(x)", "b": "cluster_mean(x)", "c": "log(cluster_size())"}
    tables = [t.assign(**{new: expected(t, term) for new, term in names.items()}) for t in tables]
    theirs = fit_each(tables, "y ~ a + b + c + (1 | study)")
    np.testing.assert_allclose(ours.estimates, theirs.estimates, rtol=1e-8)
    assert ours.names == ("Intercept", *names.values()) and np.ptp(ours.estimates[:, 2]) > 0


def test_products_and_powers_of_the_size_of_the_cluster():
    """It varies between rows and cannot be written out as a number, in analyses of imputations as in their models."""
    data = bi.IncompleteData(FRAME.assign(x=FRAME["x"].where(FRAME.index % 4 > 0)), "study")
    formula = "x ~ y + cluster_size():y + I((cluster_size() / 10)**2) + (1 | study)"
    imp = bi.FCS(data, predictors=[formula]).impute(2, cycles=2, seed=1, progress=False)
    ours = imp.analyse("y ~ x + cluster_size():x + I((cluster_size() / 10)**2) + (1 | study)")
    tables = [imp.frame(k) for k in range(2)]
    size = expected(FRAME, "cluster_size()")
    tables = [t.assign(a=size * t["x"], b=(size / 10) ** 2) for t in tables]
    theirs = fit_each(tables, "y ~ x + a + b + (1 | study)")
    assert len(ours.names) == 4 and ours.names[2] == "cluster_size():x"
    np.testing.assert_allclose(ours.estimates, theirs.estimates, rtol=1e-8)
    with pytest.raises(bi.SpecificationError, match="write the number '9 \\*\\* 9' out"):
        imp.analyse("y ~ I(x + 9**9) + (1 | study)")


@pytest.mark.parametrize("ignored", [False, True])
def test_derived_columns_over_clusters(ignored):
    """In every completed table they follow their definitions, given the imputed values."""
    frame = FRAME.assign(x=FRAME["x"].where(FRAME.index % 4 > 0))
    ignore = (FRAME.index % 9 == 0) if ignored else None
    derived = {
        "mean": "cluster_mean(x)", "dev": "within(x) * z", "above": "(x > cluster_mean(x))", "n": "log(cluster_size())",
        "sum": "cluster_sum(x * z) - z", "static": "z - cluster_mean(z)", "high": "(x > 1)",
    }  # fmt: skip
    model = bi.FCS(
        bi.IncompleteData(frame, "study"),
        derived=derived,
        ignore=ignore,
        predictors=["x ~ y + n + (1 | study)"],
    )
    for k in range(2):
        t = model.impute(2, cycles=3, seed=2, progress=False).frame(k)
        counted = t if ignore is None else t[~ignore]

        def over(values, how="mean", t=t, counted=counted):
            return t["study"].map(values[counted.index].groupby(counted["study"]).agg(how))

        n = by(t, t["x"]).transform("size")
        want = {
            "mean": over(t["x"]), "dev": (t["x"] - over(t["x"])) * t["z"], "above": 1.0 * (t["x"] > over(t["x"])),
            "n": np.log(n), "sum": over(t["x"] * t["z"], "sum") - t["z"], "static": t["z"] - over(t["z"]),
            "high": 1.0 * (t["x"] > 1),
        }  # fmt: skip
        for name, values in want.items():
            np.testing.assert_allclose(t[name], values, rtol=1e-9, atol=1e-9, err_msg=name)


def test_a_column_over_clusters_in_the_table_is_filled():
    frame = FRAME.assign(x=FRAME["x"].where(FRAME.index % 8 > 0), mean=expected(FRAME, "cluster_mean(x)"))
    frame.loc[frame.index % 3 == 0, "mean"] = np.nan
    model = bi.FCS(bi.IncompleteData(frame, "study"), derived={"mean": "cluster_mean(x)"})
    assert not any("differs from its definition" in event.message for event in model.events)
    with pytest.raises(SpecificationError, match="'mean' is computed from 'x', so it cannot predict 'x'"):
        bi.FCS(
            bi.IncompleteData(frame, "study"),
            derived={"mean": "cluster_mean(x)"},
            predictors=["x ~ mean + (1 | study)"],
        )


def test_circles_are_named_before_anything_else():
    empty = FRAME[["study", "x"]].assign(a=np.nan, b=np.nan)
    with pytest.raises(SpecificationError, match="'a' -> 'b' -> 'a' form a circle"):
        bi.FCS(bi.IncompleteData(empty, "study"), derived={"a": "b + 1", "b": "a - 1"})
    with pytest.raises(SpecificationError, match="'a' -> 'a' form a circle"):
        bi.FCS(bi.IncompleteData(empty, "study"), derived={"a": "cluster_mean(a)", "b": "x"})


@pytest.mark.parametrize(
    "text, error, message",
    [
        ("y ~ cluster_mean(arm)", SpecificationError, r"'arm' is a factor with 3 levels; name one of them, arm\[c\]"),
        ("y ~ arm[d]", SpecificationError, r"'arm' has no level or column 'd'; it has 'b', 'a', 'c'"),
        ("y ~ x[1]", SpecificationError, r"'x' is a number; write C\(x\)\[1\]"),
        ("y ~ poly(x, 2)[7]", SpecificationError, r"has no level or column '7'; it has '0', '1'"),
        ("y ~ within(cluster)", SpecificationError, "one value in every cluster.*zero; remove it"),
        ("y ~ x + cluster_mean(cluster) + cluster", DataError, "combination"),
        ("y ~ cluster_mean(centred) + x", DataError, "is 0 in all"),
        ("y ~ cluster_mean(log(zero))", DataError, "no finite value"),
        ("y ~ cluster_mean(bs(x, df=4))", SpecificationError, "several columns"),
        ("y ~ cluster_mean(scale(x))", SpecificationError, "needs all rows"),
    ],
)  # fmt: skip
def test_refusals(text, error, message):
    frame = FRAME.assign(zero=0.0, cluster=FRAME["study"].str[1:].astype(float))
    frame["centred"] = frame["x"] - expected(frame, "cluster_mean(x)")
    codes = pd.factorize(frame["study"], sort=True)[0]
    with pytest.raises(error, match=message):
        design(parse(text), frame, codes=codes)


def test_within_a_text_of_two_levels_is_the_same_complete_and_incomplete():
    holes = FRAME.assign(y=FRAME["y"].where(FRAME.index % 5 > 0))
    for frame in (holes, holes.assign(sex=holes["sex"].where(holes.index % 7 > 0))):
        model = bi.FCS(
            bi.IncompleteData(frame, "study"),
            predictors=["y ~ within(sex) + cluster_mean(sex) + (1 | study)"],
        )
        assert [c.within for c in model.spec.blocks[-1].fixed].count(True) == 1
    with pytest.raises(SpecificationError, match=r"'arm' is a factor.*arm\[level\]"):
        bi.FCS(bi.IncompleteData(holes, "study"), predictors=["y ~ within(arm) + (1 | study)"])


def test_levels_in_formulas_of_imputation():
    rng = np.random.default_rng(2)
    frame = FRAME.assign(y=FRAME["y"].where(FRAME.index % 5 > 0))
    for name in ("sex", "arm"):
        frame[name] = frame[name].where(rng.random(len(frame)) > 0.1)
    data = bi.IncompleteData(frame, "study")
    model = bi.FCS(
        data, predictors=["y ~ sex[F] + arm[c] + arm[b]:x + cluster_mean(arm[c]) + (1 + sex[M] | study)"]
    )
    y = next(b for b in model.spec.blocks if b.name == "y")
    assert [c.name for c in y.fixed] == ["Intercept", "sex[F]", "arm[c]", "arm[b]:x", "cluster_mean(arm[c])"]
    assert [c.name for c in y.random] == ["Intercept", "sex[M]"] and y.random[1].base == "sex"
    made = {d.name: d for d in model.spec.derived}
    codes = data.column_values("arm")
    np.testing.assert_array_equal(
        made["arm[c]"].evaluate({"arm": codes})[~np.isnan(codes)], codes[~np.isnan(codes)] == 2
    )
    for text, message in (
        ("arm[d]", r"'arm\[d\]' is not a level of 'arm'; its levels are 'b', 'a', 'c'"),
        ("y2[1]", r"no column 'y2'"),
        ("C(sex)[F]", "declare it"),
    ):
        with pytest.raises(SpecificationError, match=message):
            bi.FCS(data, predictors=[f"y ~ {text} + (1 | study)"])


def test_over_clusters():
    x, codes = np.array([1.0, 2.0, 4.0, np.nan, 5.0, 7.0]), np.array([0, 0, 0, 1, 1, 2])
    np.testing.assert_array_equal(over_clusters(x, codes), [7 / 3] * 3 + [np.nan] * 2 + [7])
    counted = np.array([True, False, True, False, True, False])
    np.testing.assert_array_equal(over_clusters(x, codes, counted), [2.5] * 3 + [5] * 2 + [7])
    np.testing.assert_array_equal(over_clusters(x, codes, counted, sum=True), [5] * 3 + [5] * 2 + [7])
