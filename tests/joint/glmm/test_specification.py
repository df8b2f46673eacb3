"""What a joint GLMM consists of, and what it refuses, by name and with a remedy, before anything is sampled."""

import re

import numpy as np
import pandas as pd
import pytest

import bayesimp as bi
from bayesimp import priors as pr
from bayesimp.contract import Shift
from bayesimp.errors import BayesimpError, DataError, SpecificationError
from bayesimp.kernels.factors.columns import all_columns, all_means
from tests.unfolding import unfolded

FAMILIES = {"w": "bernoulli", "k": "poisson", "s": "gamma", "q": "bernoulli"}
HOLES = {"x": 0.1, "w": 0.2, "k": 0.15, "s": 0.12, "y": 0.2, "c": 0.1}


def table(m=8, n=10, holes=HOLES, seed=1) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    g, N = np.repeat(np.arange(m), n), m * n
    frame = pd.DataFrame({
        "g": g, "x": rng.normal(size=N), "w": rng.integers(0, 2, N) * 1.0,
        "k": rng.poisson(2, N) * 1.0, "s": rng.gamma(2, 1, N),
        "z": rng.normal(size=m)[g], "q": rng.integers(0, 2, m)[g] * 1.0, "a": rng.normal(size=N),
        "c": np.array(list("abc"))[rng.integers(0, 3, N)],
    })  # fmt: skip
    frame["y"] = frame.x + frame.w + rng.normal(size=N)
    for name, share in holes.items():
        frame.loc[rng.random(N) < share, name] = np.nan
    return frame


def model(analysis, factors=None, frame=None, families=FAMILIES, cluster="g", **options):
    frame = table() if frame is None else frame
    data = bi.IncompleteData(frame, cluster, {k: v for k, v in families.items() if k in frame})
    return bi.JointGLMM(data, analysis, factors, **options)


def run(made):
    imp = made.impute(2, seed=1, chains=1, tune=20, draws=20, progress=False, executor="serial")
    frame = imp.frame(1)
    assert not frame[list(made.responses)].isna().to_numpy().any()
    posterior = imp.tree["posterior"]
    assert all(np.isfinite(posterior[name].values).all() for name in posterior.data_vars)
    return imp


# -- order ---------------------------------------------------------------------------------------------------


def only(*names, **holes):
    return table(holes={name: 0.1 for name in names} | holes)


@pytest.mark.parametrize(
    "analysis, factors, frame, expected",
    [
        ("y ~ x * w + (1 | g)", {}, only("y", "w", x=0.3), ("w", "x", "y")),  # fewer missing values first
        ("y ~ x * w + (1 | g)", {}, only("y", "x", w=0.3), ("x", "w", "y")),
        ("y ~ x + (1 | g)", {}, only("y", "x", "k"), ("x", "y", "k")),  # variables in no analysis come last
        ("y ~ x + z + (1 | g)", {}, only("x").assign(z=lambda f: f.z.mask(f.g == 2)), ("z", "x", "y")),
        ("y ~ x + (1 | g)", {"x": "x ~ k + (1 | g)"}, only("x", "k", "y"), ("k", "x", "y")),
        (["y ~ x + (1 | g)", "a ~ y * x + (1 | g)"], {}, only("x", "y"), ("x", "y", "a")),
        (["a ~ y * x + (1 | g)", "y ~ x + (1 | g)"], {}, only("x", "y"), ("x", "y", "a")),
        ("y ~ a + (1 | g)", {}, only("y"), ("y",)),  # complete variables need no factor
    ],
)
def test_order(analysis, factors, frame, expected):
    assert model(analysis, factors, frame).responses == expected


def test_order_is_taken_as_given():
    frame = only("x", "w", "y")
    asked = model("y ~ x * w + (1 | g)", None, frame, order=["w", "x", "y"])
    other = model("y ~ x * w + (1 | g)", None, frame, order=["x", "w", "y"])
    assert asked.responses == ("w", "x", "y") and other.responses == ("x", "w", "y")
    assert asked.factors[0].formula.startswith("w ~ k") and "w" in asked.factors[1].formula.split("~")[1]


def test_default_factors_have_what_comes_before_them():
    made = {f.response: f.formula for f in model("y ~ x + z + (1 | g)", None, only("x", "y", "k")).factors}
    assert made["x"] == "x ~ w + s + z + q + a + c + (1 | g)"
    assert made["k"] == "k ~ x + w + s + z + q + a + c + y + (1 | g)"
    q = model("y ~ q + (1 | g)", None, only("y").assign(q=lambda f: f.q.mask(f.g == 3)))
    assert q.factors[0].formula == "q ~ z" and q.factors[0].at_cluster


def test_several_analyses_run():
    imp = run(model(["y ~ x + (1 | g)", "a ~ y * x + (1 | g)"], None, only("x", "y")[["g", "x", "y", "a"]]))
    fixed = imp.tree["posterior"]["beta_a"]
    assert list(fixed["fixed_a"].values) == ["Intercept", "y", "x", "y:x"]


@pytest.mark.parametrize(
    "small, large, contained",
    [
        ("y ~ x", "y ~ x * w + (1 | g)", True),
        ("y ~ x + (1 | g)", "y ~ w:x + x + w + (1 + w | g)", True),
        ("y ~ x + (1 + x | g)", "y ~ x * w + (1 | g)", False),
        ("y ~ x + (1 | g)", "y ~ x * w", False),
        ("y ~ x + c + (1 | g)", "y ~ x * w + (1 | g)", False),
        ("y ~ x + (1 | g)", "y ~ 0 + x + w + (1 | g)", False),
    ],
)
def test_of_two_analyses_with_one_response_the_larger_is_the_factor(small, large, contained):
    for analyses in ([small, large], [large, small]):
        if contained:
            made = model(analyses, None, only("x", "y", "w")[["g", "x", "w", "c", "y"]])
            assert [f.formula for f in made.factors if f.is_analysis] == [large]
        else:
            with pytest.raises(SpecificationError, match="neither contains the other"):
                model(analyses)


OVER_ROWS = {  # term of an analysis -> the name of a column, and its values
    "I(within(x)**2)": ("I(within(x) ** 2)", lambda d, mean: (d.x - mean(d.x)) ** 2),
    "log(cluster_mean(w) + exp(within(x)))": (
        "log(cluster_mean(w) + exp(within(x)))",
        lambda d, mean: np.log(mean(d.w) + np.exp(d.x - mean(d.x))),
    ),
    "I(x * cluster_mean(x)):c": (
        "c[b]:I(x * cluster_mean(x))",
        lambda d, mean: d.x * mean(d.x) * (d.c == "b"),
    ),
    "abs(within(x)):within(w)": (
        "abs(within(x)):within(w)",
        lambda d, mean: np.abs(d.x - mean(d.x)) * (d.w - mean(d.w)),
    ),
    "within(x):w": ("w:within(x)", lambda d, mean: d.w * (d.x - mean(d.x))),
    "within(x):within(w)": ("within(w):within(x)", lambda d, mean: (d.x - mean(d.x)) * (d.w - mean(d.w))),
    "cluster_mean(w):cluster_mean(x)": (
        "cluster_mean(w):cluster_mean(x)",
        lambda d, mean: mean(d.x) * mean(d.w),
    ),
    "cluster_mean(x):within(x):c": (
        "c[b]:cluster_mean(x):within(x)",
        lambda d, mean: mean(d.x) * (d.x - mean(d.x)) * (d.c == "b"),
    ),
}


@pytest.mark.parametrize("term", OVER_ROWS)
def test_products_and_functions_over_clusters_are_the_columns_that_they_name(term):
    name, values = OVER_ROWS[term]
    frame = only("y")[["g", "x", "w", "c", "y"]].sample(frac=1.0, random_state=1).reset_index(drop=True)
    made = model(f"y ~ x + w + c + {term} + (1 | g)", None, frame)
    tab, columns = made.table, [column.name for column in made.factors[0].fixed]
    M, X = np.empty(tab.divisor.shape), np.empty((len(frame), len(tab.programs.start) - 1))
    all_means(tab.means, tab.divisor, tab.V, tab.arrays.first, M)
    all_columns(tab.programs, tab.V, M, tab.arrays.cluster, np.arange(len(X)), X)
    expected = values(frame, lambda v: v.groupby(frame.g).transform("mean")).to_numpy()
    np.testing.assert_allclose(X[:, columns.index(name)], expected[tab.row], atol=1e-12)


# -- refused -------------------------------------------------------------------------------------------------

Y = "y ~ x * w + (1 | g)"
REFUSED = {
    "unknown variable": (dict(analysis="y ~ xx + (1 | g)"), "no column 'xx'.*'x'"),
    "unknown response": (dict(analysis="yy ~ x + (1 | g)"), "no column 'yy'.*'y'"),
    "no response": (dict(analysis="~ x + (1 | g)"), "needs one response on the left of ~.*none"),
    "two responses": (dict(analysis="y + w ~ x + (1 | g)"), "needs one response on the left of ~.*has 2"),
    "no formula": (dict(analysis=3), "analysis must be a formula"),
    "factors as text": (dict(analysis=Y, factors="x ~ 1"), "factors is a dict of text by response"),
    "factors as numbers": (dict(analysis=Y, factors={"x": 1}), "factors is a dict of text by response"),
    "links as text": (dict(analysis=Y, links="probit"), "links is a dict.*'probit'"),
    "order as text": (dict(analysis=Y, order="xwy"), "order must be a list of responses, got 'xwy'"),
    "empty": (dict(analysis=[]), "analysis must be a formula"),
    "both sides": (dict(analysis="y ~ x + y + (1 | g)"), "'y' is on both sides of ~; remove it from one"),
    "both sides, slope": (dict(analysis="y ~ x + (y | g)"), "'y' is on both sides of ~"),
    "circle": (dict(analysis=Y, factors={"x": "x ~ y + (1 | g)"}), "form a circle.*x.*y.*remove one of.*from"),
    "long circle": (dict(analysis=Y, factors={"x": "x ~ k", "k": "k ~ s", "s": "s ~ y"}), "circle.*FCS"),
    "one response twice": (dict(analysis=["y ~ x + (1 | g)", "y ~ w + (1 | g)"]), "Two analyses.*'y'.*terms of both"),
    "looks ahead": (dict(analysis=Y, order=["x", "y", "w", "k", "s", "c"]), "depends on 'w', whose factor comes later"),
    "order lacks": (dict(analysis=Y, order=["x", "w", "y"]), "name every variable.*once.*it lacks"),
    "order has more": (dict(analysis=Y, order=["x", "w", "y", "k", "s", "c", "a"]), "'?a'? have no factor"),
    "order twice": (dict(analysis=Y, order=["x", "x", "w", "y", "k", "s", "c"]), "twice|it lacks|no factor"),
    "factor of an unknown": (dict(analysis=Y, factors={"xx": "xx ~ 1"}), "factors: 'xx' is not a variable.*'x'"),
    "factor of the analysis": (dict(analysis=Y, factors={"y": "y ~ 1"}), "factors: 'y' is the response of the analysis"),
    "another response": (dict(analysis=Y, factors={"x": "w ~ 1 + (1 | g)"}), "formula of 'x'.*another response.*w"),
    "another group": (dict(analysis="y ~ x + (1 | q)"), "groups by 'q' but the data by 'g'"),
    "two groups": (dict(analysis="y ~ x + (1 | g) + (1 | q)"), "not a cluster column"),
    "effects of a variable of clusters": (
        dict(analysis="q ~ x + (1 | g)"), "'q' has a single value in each cluster.*remove the random part"),
    "within clusters": (dict(analysis="q ~ x"), "'x' varies within clusters; write cluster_mean"),
    "complete, within clusters": (dict(analysis="q ~ a"), "'a' varies within clusters; write cluster_mean"),
    "centred, of clusters": (dict(analysis="q ~ within(a):cluster_mean(x)"), "varies within clusters; remove it"),
    "unknown link": (dict(analysis=Y, links={"w": "cauchit"}), "links: 'w' is bernoulli.*'logit' or 'probit'"),
    "link of nothing": (dict(analysis=Y, links={"a": "probit"}), "links: 'a' has no factor"),
    "effects": (dict(analysis=Y, effects="both"), "effects must be 'joint' or 'separate'"),
    "log": (dict(analysis="y ~ log(x) + (1 | g)"), "'log.x.' has no value at 0.*'x' is imputed as normal.*gamma"),
    "log of a Student-t": (
        dict(analysis="y ~ log(x) + (1 | g)", families={"x": "student"}),
        "'x' is imputed as student.*declare a family without them",
    ),
    "log of a Yeo-Johnson": (
        dict(analysis="y ~ log(x) + (1 | g)", families={"x": "yeo_johnson"}),
        "'x' is imputed as yeo_johnson.*declare a family without them",
    ),
    "log of a difference": (dict(analysis="y ~ log(s - 1) + (1 | g)"), "no value at 0.*'s' is imputed as gamma"),
    "log of a count": (dict(analysis="y ~ log(k) + (1 | g)"), "'k' is imputed as poisson.*log.k . 1"),
    "log1p": (dict(analysis="y ~ log1p(x) + (1 | g)"), "has no value at -1 and below"),
    "sqrt": (dict(analysis="y ~ sqrt(x) + (1 | g)"), "has no value below 0"),
    "quotient": (dict(analysis="y ~ I(w / x) + (1 | g)"), "may be divided by 0"),
    "negative power": (dict(analysis="y ~ I(x**-1) + (1 | g)"), "no value at 0 and below"),
    "broken power": (dict(analysis="y ~ I(x**0.5) + (1 | g)"), "has no value below 0"),
    "exponent": (dict(analysis="y ~ I(x**k) + (1 | g)"), "imputed exponent of a number that may be 0 or negative"),
    "improper Psi": (dict(analysis=Y, frame=table(m=3), priors=pr.Priors(Psi=pr.InverseWishart(0.5, 1.0))), "Psi"),
    "shift of what has no factor": (dict(analysis=Y, shift=Shift({"a": 1.0})), "'?a'?"),
    "log of a centred column": (
        dict(analysis="y ~ log(within(s)) + (1 | g)"),
        r"'log\(within\(s\)\)' has no value at 0 and below, and 'within\(s\)' can .*I\(within\(s\)\*\*2\)",
    ),
    "log of a mean": (
        dict(analysis="y ~ log(cluster_mean(x)) + (1 | g)"), r"'log\(cluster_mean\(x\)\)' has no value at 0"),
    "scale of a mean": (
        dict(analysis="y ~ scale(cluster_mean(x)) + (1 | g)"), "scale.. of a cluster mean .* is not possible"),
    "function of a mean, slope": (
        dict(analysis="y ~ x + (1 + I(cluster_mean(x)**2) | g)"), "a cluster mean has one value per cluster"),
    "function within clusters": (
        dict(analysis="q ~ I(cluster_mean(x) * a)"), r"'I\(cluster_mean\(x\) \* a\)' varies within clusters; remove it"),
    "the same twice": (dict(analysis="y ~ x + I(2 * x) + (1 | g)"), "'I.2 . x.' is a combination of 'x'"),
    "mean and within": (dict(analysis="y ~ x + within(x) + cluster_mean(x) + (1 | g)"), "is a combination of"),
    "slopes that are the same": (dict(analysis="y ~ x + (x + I(3 * x) | g)"), "random part.*is a combination of 'x'"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name):
    options, message = REFUSED[name]
    of_data = "combination" in message
    with pytest.raises(DataError if of_data else SpecificationError) as caught:
        model(**options)
    assert re.search(message, str(caught.value).replace("\n", " ")), str(caught.value)
    assert isinstance(caught.value, BayesimpError)


@pytest.mark.parametrize(
    "term",
    ["log(s)", "log(2 * s + k)", "log1p(k)", "sqrt(k)", "I(s**0.5)", "I(1 / s)", "I(s / (1 + k))", "log(s * s)",
     "log(s / 3)",
     "log(1 + x**2)", "I(1 / (1 + x**2))", "sqrt(abs(x))", "log(1 + exp(x))", "np.log(1 + np.exp(x))", "I(2**x)",
     "I(x**3)",
     "log1p(w)", "I(x / (1 + w))", "log1p(expm1(s))", "I(k**2 / s)", "I(x / 2)", "I(x > 0)", "log(a**2 + s)"],
)  # fmt: skip
def test_functions_inside_their_domain_are_not_refused(term):
    model(f"y ~ {term} + (1 | g)")


def test_too_little_observed():
    frame = table()
    frame["x"] = frame.x.where(frame.index < 2)
    with pytest.raises(DataError, match=r"where .x. is observed.*only 2 rows.*proper prior.*Normal"):
        model(Y, None, frame)
    frame["x"] = frame.x.where(frame.index < 1)
    with pytest.raises(DataError, match="'x' has one value"):
        model(Y, None, frame)
    with pytest.raises(DataError, match="No value of 'x' is observed"):
        model(Y, None, frame.assign(x=np.nan))
    frame = table()
    with pytest.raises(DataError, match=r"'exp\(x\)' is not finite in .* overflows. Divide"):
        model("y ~ exp(x) + (1 | g)", None, frame.assign(x=frame.x * 1e3))


def test_a_prior_without_an_update():
    made = model(Y, priors=pr.Priors(Psi=pr.LKJ()))  # which NUTS supports
    with pytest.raises(SpecificationError, match="no update for LKJ; use HuangWand"):
        made.impute(2, sampler="gibbs")


def test_only_incomplete_data_are_taken():
    with pytest.raises(SpecificationError, match="takes IncompleteData, got DataFrame"):
        bi.JointGLMM(table(), Y)


# -- names, labels and types of tables ---------------------------------------------------------------------------

ODD = {"g": "school no", "x": "x 1", "w": "was it?", "y": "y's 'own'", "c": "c/d"}


def test_names_with_spaces_and_odd_labels():
    frame = table()[["g", "x", "w", "y", "c"]].rename(columns=ODD)
    frame["c/d"] = frame["c/d"].map({"a": "a b", "b": "ü:*", "c": "~(1 | g)"}).astype("category")
    frame["school no"] = frame["school no"].map("no. {}".format)
    analysis = "`y's 'own'` ~ `x 1` * `was it?` + `c/d` + (`x 1` | `school no`)"
    made = model(analysis, None, frame, {"was it?": "bernoulli"}, "school no")
    imp = run(made)
    assert set(made.responses) == {"x 1", "was it?", "y's 'own'", "c/d"}
    assert set(imp.frame(0)["c/d"]) == {"a b", "ü:*", "~(1 | g)"}
    for factor in made.factors:
        assert "".join(factor.formula.split()) in "".join(repr(made).split())


@pytest.mark.parametrize(
    "terms",
    [
        "x + cluster_mean(x) + (1 + within(x) | g)",
        "x * w + cluster_sum(x) + (1 | g)",
        "x:cluster_mean(x) + x + (1 | g)",
        "x + w + cluster_mean(x * w) + (1 | g)",
        "x + cluster_mean(x:w) + cluster_mean(I(x**2)) + (1 | g)",
    ],
)
def test_means_of_names_with_spaces_are_the_same_columns(terms):
    frame = only("x", "w", "y")[["g", "x", "w", "y"]]
    plain = model(f"y ~ {terms}", frame=frame)
    spaced = model(
        f"y ~ {re.sub('(?<![a-z_])x', '`dose mg`', terms)}", frame=frame.rename(columns={"x": "dose mg"})
    )
    for a, b in zip(plain.table.scales, spaced.table.scales, strict=True):
        np.testing.assert_array_equal(a.T, b.T)
        for mine, theirs in zip(a.levels, b.levels, strict=True):
            np.testing.assert_array_equal(mine.C, theirs.C)


def test_dtypes_of_levels():
    frame = only("y")[["g", "x", "y"]]
    rng = np.random.default_rng(2)
    hole = lambda: rng.random(80) < 0.2  # noqa: E731
    frame["b"] = pd.array(rng.random(80) < 0.5, dtype="boolean")
    frame.loc[hole(), "b"] = pd.NA
    frame["i"] = pd.array(rng.integers(5, 8, 80) * 10, dtype="Int64")
    frame.loc[hole(), "i"] = pd.NA
    frame["o"] = pd.Categorical(rng.choice([3, 1, 2], 80), [3, 1, 2], ordered=True)
    frame.loc[hole(), "o"] = np.nan
    made = model("y ~ x + b + i + o + (1 | g)", None, frame, {"i": "categorical"})
    done = run(made).frame(0)
    assert done["b"].dtype == "boolean" and done["i"].dtype == "Int64" and set(done["i"]) <= {50, 60, 70}
    assert list(done["o"].cat.categories) == [3, 1, 2]
    kept = frame["i"].notna()
    assert (done.loc[kept, "i"] == frame.loc[kept, "i"]).all()


def test_polars():
    polars = pytest.importorskip("polars")
    pandas = only("x", "w", "y")[["g", "x", "w", "y"]]
    there, here = (run(model(Y, None, frame)) for frame in (polars.from_pandas(pandas), pandas))
    np.testing.assert_allclose(
        there.tree["posterior"]["beta_y"].values, here.tree["posterior"]["beta_y"].values
    )
    for name in "xwy":
        np.testing.assert_allclose(np.asarray(there.frame(1)[name]), np.asarray(here.frame(1)[name]))


def test_print_says_everything_in_lines_that_can_be_read():
    text = unfolded(repr(model(Y, {"s": "s ~ y + (1 | g)"}, shift=Shift({"y": 0.5}))))
    for part in ("80 rows in 8 clusters", "6 factors, in order", "(normal; analysis; ", "(gamma; imputation; ",
                 "sigma2_y",
                 "Psi: Huang-Wand", "y:Intercept", "beta_w: normal", "shift of y: +0.5"):  # fmt: skip
        assert part in text, part
    assert text.index("  x ~") < text.index("  y ~") < text.index("  s ~")
    long = {"x": "x" * 60, "w": "w" * 60, "y": "y" * 60}
    frame = only("x", "w", "y").rename(columns=long)
    made = model("{y} ~ {x} * {w} + ({x} | g)".format(**long), None, frame, {"w" * 60: "bernoulli"})
    assert all(len(line) <= 100 for line in repr(made).splitlines()) and "y" * 60 + ":Intercept" in repr(made)
    assert "separate" not in repr(made)
    apart = repr(model(Y, effects="separate"))
    assert "Psi_x: " in apart and "Psi_y: " in apart
