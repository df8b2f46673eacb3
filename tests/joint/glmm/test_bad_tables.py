"""Tables at the edge of what can be imputed: a joint GLMM works on them, or refuses them in its own words."""

import warnings

import numpy as np
import pandas as pd
import pytest

import bayesimp as bi
from bayesimp.errors import DataError, SpecificationError
from tests.joint.glmm.test_specification import model, run, table

Y = "y ~ x * w + (1 | g)"
rng = np.random.default_rng(3)
LOST = rng.random(80) < 0.3


def variable(name, values, base=None):
    frame = table() if base is None else base
    return frame.assign(**{name: values})


def by_cluster(values):
    return np.asarray(values)[np.repeat(np.arange(8), 10)]


def never_together():
    frame = table()
    half = rng.random(80) < 0.5
    return frame.assign(x=frame.x.mask(half), w=frame.w.mask(~half))


def one_row_cluster(lost=False):
    frame = table()
    first = frame.iloc[[0]]
    if lost:
        first = first.assign(x=np.nan, w=np.nan, y=np.nan)
    return pd.concat([first, frame[frame.g > 0]], ignore_index=True)


def all_lost_in_a_cluster():
    frame = table()
    names = ["x", "w", "k", "s", "y", "c"]
    frame.loc[frame.g == 2, names] = np.nan
    return frame


def levels(count, n=30):
    frame = table(n=n)
    drawn = np.random.default_rng(1).integers(0, count, len(frame))
    return frame.assign(
        l=pd.Series([f"L{i:02}" for i in drawn]).mask(np.random.default_rng(2).random(len(frame)) < 0.2)
    )


B = by_cluster([0.0, 1, 1, 0, 1, 0, 0, 1])
WORKS = {
    "never observed together": (never_together, Y, {}),
    "one-row cluster": (one_row_cluster, "y ~ x * w + (x | g)", {}),
    "one-row cluster without values": (lambda: one_row_cluster(True), "y ~ x * w + (x | g)", {}),
    "one row in every cluster": (lambda: table(m=60, n=1), "y ~ x * w + (x | g)", {}),
    "constant within clusters": (
        lambda: variable("b", pd.Series(B).mask(by_cluster([0, 0, 1, 0, 0, 0, 0, 1]) == 1)),
        "y ~ x * b + (b | g)",
        {"b": "bernoulli"},
    ),
    "constant within clusters, known in some rows": (
        lambda: variable("b", pd.Series(B).mask(LOST)),
        "y ~ x * b + (1 | g)",
        {"b": "bernoulli"},
    ),
    "counts of clusters": (
        lambda: variable("b", pd.Series(2 * B + 1).mask(by_cluster(range(8)) == 4)),
        "y ~ log1p(b) + cluster_mean(x) + (1 | g)",
        {"b": "negative_binomial"},
    ),
    "separation": (
        lambda: variable("w", (table(holes={}).x > 0).astype(float).mask(LOST)),
        "w ~ x + (1 | g)",
        {"w": "bernoulli"},
    ),
    "separation in a covariate": (
        lambda: variable("w", (table(holes={}).x > 0).astype(float).mask(LOST)),
        "y ~ x + w + (1 | g)",
        {"w": "bernoulli"},
    ),
    "three clusters": (lambda: table(m=3, n=20), "y ~ x * w + k + (x | g)", {}),
    "two clusters": (lambda: table(m=2, n=20), "y ~ x * w + (x | g)", {}),
    "a cluster without values": (all_lost_in_a_cluster, "y ~ x * w + log(s) + (x | g)", {}),
    "twenty levels": (lambda: levels(20), "y ~ l + x + (1 | g)", {}),
    "twenty levels as response": (lambda: levels(20, 15), "l ~ x + (1 | g)", {}),
    "a level that nobody has": (
        lambda: table().assign(c=lambda f: pd.Categorical(f.c, list("abcd"))),
        "y ~ c + x + (1 | g)",
        {},
    ),
    "observed in one cluster": (
        lambda: table().assign(x=lambda f: f.x.where(f.g == 0)),
        "y ~ x + (1 | g)",
        {},
    ),
    "in different clusters": (
        lambda: table().assign(x=lambda f: f.x.where(f.g < 4), y=lambda f: f.y.where(f.g > 3)),
        "y ~ x + (x | g)",
        {},
    ),
    "response in one cluster": (
        lambda: table().assign(y=lambda f: f.y.where(f.g == 1)),
        "y ~ x + (1 | g)",
        {},
    ),
    "nothing missing": (lambda: table(holes={}), Y, {}),
    "no effects": (lambda: table()[["g", "x", "y"]], "y ~ x", {}),
    "collinear complete variables": (
        lambda: table().assign(z2=lambda f: 2 * f.z + 1, q2=lambda f: 1 - f.q),
        "y ~ x + q2 + (1 | g)",
        {},
    ),
    "no trials": (
        lambda: (
            variable("t", pd.Series(rng.binomial(2, 0.4, 80) * 1.0).mask(LOST))
            .assign(size=2)
            .assign(size=lambda f: f["size"].where(f.index > 3, 0), t=lambda f: f.t.where(f.index > 3))
        ),
        "y ~ t + (1 | g)",
        {"t": "binomial(size)"},
    ),
}


@pytest.mark.parametrize("name", WORKS)
def test_works(name):
    make, analysis, families = WORKS[name]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run(
            model(
                analysis,
                None,
                make(),
                {"w": "bernoulli", "k": "poisson", "s": "gamma", "q": "bernoulli"} | families,
            )
        )


def seen_once():
    frame = table()
    frame["c"] = frame.c.replace("b", "a")
    frame.loc[frame.c.notna().idxmax(), "c"] = "b"
    return frame


REFUSED = {
    "collinear in the analysis": (
        lambda: table().assign(z2=lambda f: 2 * f.z + 1),
        "y ~ x + z + z2 + (1 | g)",
        "'z2' is a combination of 'Intercept', 'z'",
    ),
    "a level seen once": (
        seen_once,
        "y ~ c * x + (1 | g)",
        "where 'y'.* observed: .*combination.*proper prior",
    ),
    "one cluster": (lambda: table(m=1, n=30), Y, "only one cluster"),
    "within a constant": (
        lambda: table().assign(x=lambda f: f.z.where(f.x.notna())),
        "y ~ within(x) + (1 | g)",
        "one value in every cluster",
    ),
    "mean of a constant": (
        lambda: table().assign(x=lambda f: f.z.where(f.x.notna())),
        "y ~ x + cluster_mean(x) + (1 | g)",
        "combination of 'x'|combination of 'z'",
    ),
    "the same twice, by default": (
        lambda: table().assign(z2=lambda f: f.z.mask(LOST)),
        Y,
        "'z2?' is a combination of .*default formula; to use another, give factors=",
    ),
    "no column": (table, "y ~ 0 + (1 | g)", "fixed part has no columns. Give it an intercept"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name):
    make, analysis, message = REFUSED[name]
    with pytest.raises((DataError, SpecificationError), match=message):
        model(analysis, None, make())


def test_complete_variables_that_say_the_same_are_left_out_and_said_to_be():
    made = model("y ~ x + q2 + (1 | g)", None, WORKS["collinear complete variables"][0]())
    x = made.factors[made.responses.index("x")]
    assert "q2" in x.formula and " q " not in x.formula and " z2" not in x.formula and " z " in x.formula
    assert set(x.left_out) == {"q", "z2"}
    assert any(event.kind == "predictors" and "'q', 'z2'" in event.message for event in made.events)
    one = model("y ~ x + (1 | g)", None, WORKS["observed in one cluster"][0]())
    assert set(one.factors[0].left_out) == {"z", "q"}  # of clusters, constant in the one that has x


def test_few_clusters_are_not_refused_by_chance():
    """With four clusters, a binary one of theirs is often 1 in one only, where its products are multiples of it."""
    lost = np.array([False, False, True, False])
    for seed in range(10):
        frame = table(m=4, n=6, seed=seed)
        frame["b"] = np.where(lost, np.nan, [0.0, 1.0, 1.0, 0.0])[frame.g]
        priors = bi.priors.Priors(beta=bi.priors.Normal(0.0, 10.0))
        model("y ~ b + x + cluster_mean(x:b) + (1 | g)", None, frame, {"b": "bernoulli"}, priors=priors)


def test_a_level_seen_once_with_a_proper_prior():
    priors = bi.priors.Priors(beta=bi.priors.Normal(0.0, 10.0))
    run(model("y ~ c * x + (1 | g)", None, seen_once(), priors=priors))


def test_a_log_mean_out_of_range_keeps_the_value_and_is_counted(monkeypatch):
    """In a cluster without counts, rows whose log mean is out of range are not drawn."""
    from bayesimp.joint.glmm.sampler import Sampler

    rng = np.random.default_rng(0)
    g = np.repeat(np.arange(8), 10)
    table = pd.DataFrame({"g": g, "x": rng.normal(size=80), "y": rng.poisson(2.0, 80).astype(float)})
    table.loc[g == 3, "y"] = np.nan
    model = bi.JointGLMM(bi.IncompleteData(table, "g", {"y": "poisson"}), "y ~ x + (1 | g)")
    inside = Sampler.predictors
    monkeypatch.setattr(Sampler, "predictors", lambda self, k, rows: inside(self, k, rows) + 50.0)
    imp = model.impute(4, seed=1, chains=1, tune=5, draws=8, progress=False)
    (event,) = imp.events.query("kind == 'cells kept'").to_dict("records")
    assert event["count"] == 80 and "kept their current values" in event["message"]
    assert np.isin(imp.values("y"), table["y"].dropna()).all()
    assert (imp.values("y") == imp.values("y")[0]).all()


def test_a_fit_without_error_is_refused():
    frame = table().assign(y=lambda f: (3 * f.x.fillna(0) + 1).mask(LOST))
    with pytest.raises(
        SpecificationError, match=r"'y' equals 3 \* x \+ 1 in all rows where these are observed"
    ):
        model(
            "y ~ x + (1 | g)", None, frame, {"w": "bernoulli", "k": "poisson", "s": "gamma", "q": "bernoulli"}
        )
