"""`JointNormal`: what is refused and how, what is noted, invariances of whole runs."""

import numpy as np
import pandas as pd
import pytest

import bayesimp as bi
from bayesimp import priors as pr

FORMULA = "y + z ~ x + (1 | site)"


def table(seed=0, clusters=6, rows=10):
    rng = np.random.default_rng(seed)
    codes = np.repeat(np.arange(clusters), rows)
    n = len(codes)
    x = rng.normal(size=n)
    Y = np.outer(x, [1.0, -0.5]) + rng.normal(size=(clusters, 2))[codes] + rng.normal(size=(n, 2))
    Y[rng.random((n, 2)) < 0.1] = np.nan
    Y[codes == 0, 0] = np.nan
    return pd.DataFrame({"site": codes, "x": x, "sex": rng.choice(["F", "M"], n), "y": Y[:, 0], "z": Y[:, 1]})


def model(frame=None, formula=FORMULA, priors=None, **families):
    data = bi.IncompleteData(table() if frame is None else frame, cluster="site", families=families)
    return bi.JointNormal(data, formula, priors)


def refused(error, *words, **arguments):
    with pytest.raises(error) as caught:
        model(**arguments)
    message = str(caught.value)
    for word in words:
        assert word in message, f"{word!r} not in: {message}"


# ---------------------------------------------------------------- bad input


def test_nothing_observed():
    refused(bi.DataError, "'y'", "60 rows", "Leave it out", frame=table().assign(y=np.nan))


def test_observed_in_one_cluster():
    frame = table()
    frame.loc[frame["site"] != 3, "y"] = np.nan
    refused(bi.DataError, "'y'", "1 of 6 clusters", "(3,", "Psi", "Fixed", frame=frame)


def test_one_cluster_is_enough_for_fixed_psi():
    frame = table()
    frame.loc[frame["site"] != 3, "y"] = np.nan
    imp = model(frame, priors=pr.Priors(Psi=pr.Fixed(np.eye(2)))).impute(m=2, seed=1, draws=20, chains=2)
    assert not imp.frame(0)["y"].isna().any()


def test_constant_response():
    refused(bi.DataError, "'z'", "constant", frame=table().assign(z=3.0))


def test_response_of_clusters():
    frame = table()
    frame["size"] = frame["site"].map({0: 3.0, 1: 5.0, 2: 8.0, 3: 1.0, 4: 2.0, 5: np.nan})
    refused(
        bi.DataError,
        "'size'",
        "5 clusters",
        "Sigma",
        "to the right",
        frame=frame,
        formula="y + size ~ x + (1 | site)",
    )


def test_missing_covariate():
    frame = table()
    frame.loc[[3, 4, 45], "x"] = np.nan
    refused(bi.DataError, "'x'", "3 of 60 rows", "left", frame=frame)


def test_collinear_and_constant_covariates():
    refused(
        bi.DataError,
        "'x2'",
        "'x'",
        formula="y ~ x + x2 + (1 | site)",
        frame=table().assign(x2=2 * table()["x"]),
    )
    refused(bi.DataError, "'one'", "constant", formula="y ~ one + (1 | site)", frame=table().assign(one=1.0))


def test_covariate_constant_where_the_response_is_observed():
    frame = table()
    frame["late"] = (frame["site"] == 0).astype(float)  # y is missing in the whole of site 0
    refused(
        bi.SpecificationError,
        "'y'",
        "'late'",
        "normal prior",
        frame=frame,
        formula="y + z ~ late + (1 | site)",
    )
    kept = model(frame, "y + z ~ late + (1 | site)", pr.Priors(beta=pr.Normal(0.0, 10.0)))
    assert not kept.impute(m=2, seed=1, draws=20, chains=2).frame(0)["y"].isna().any()


def test_fewer_rows_than_columns():
    frame = table().iloc[[0, 10, 20]].assign(a=[1.0, 2, 4], b=[2.0, 1, 1], c=[0.0, 0, 1])
    refused(bi.DataError, "5 columns", "3 rows", frame=frame, formula="z ~ x + a + b + c + (1 | site)")


def test_infinite():
    frame = table()
    frame.loc[7, "z"] = np.inf
    refused(bi.DataError, "'z'", "infinite", "1 of 60 rows", frame=frame)


def test_not_numeric():
    frame = table().assign(z="high")
    refused(bi.BayesimpError, "'z'", frame=frame)
    refused(bi.DataError, "'z'", "high", frame=frame, z="normal")


def test_other_family():
    refused(bi.SpecificationError, "'sex'", "bernoulli", "families", formula="y + sex ~ x + (1 | site)")


def test_unknown_names():
    refused(bi.SpecificationError, "'yy'", formula="yy ~ x + (1 | site)")
    refused(bi.SpecificationError, "'ex'", "'x'", formula="y ~ ex + (1 | site)")


@pytest.mark.parametrize(
    "formula, words",
    [
        ("~ x + (1 | site)", ("left of ~",)),
        ("y ~ x", ("(1 | site)",)),
        ("y ~ x + (1 | sex)", ("'sex'", "'site'")),
        ("y ~ x + (1 + x || site)", ("Diagonal",)),
        ("y ~ x + (1 | site) + (1 | sex)", ("'sex' is not a cluster column", "cluster=['site', 'sex']")),
    ],
)
def test_unfit_formulas(formula, words):
    refused(bi.SpecificationError, *words, formula=formula)


@pytest.mark.parametrize(
    "priors, words",
    [
        (pr.Priors(Psi=pr.InverseWishart(nu=1.0)), ("nu = 1", "Psi", "2 x 2", "> 1")),
        (pr.Priors(Sigma=pr.InverseWishart(V=[[1, 2], [2, 1]])), ("Sigma", "V", "positive definite", "-1")),
        (pr.Priors(Sigma=pr.InverseWishart(V=np.eye(3))), ("Sigma", "2 x 2")),
        (pr.Priors(Sigma=pr.Fixed([[1, 0.5], [0.4, 1]])), ("symmetric",)),
        (pr.Priors(Psi=pr.HuangWand(scale=[1.0, 2.0, 3.0])), ("2 numbers",)),
    ],
)
def test_unfit_priors(priors, words):
    refused(bi.SpecificationError, *words, priors=priors)


@pytest.mark.parametrize(
    "make", [lambda: pr.HalfT(scale=-1.0), lambda: pr.LKJ(eta=0), lambda: pr.Normal(sd=0.0)]
)
def test_priors_refuse_nonsense_at_once(make):
    with pytest.raises(bi.SpecificationError, match="positive"):
        make()


@pytest.mark.parametrize(
    "options, words",
    [
        ({"m": 0}, "m must be"),
        ({"chains": 0}, "chains must be"),
        ({"m": 100, "draws": 10}, "at least 25 draws"),
        ({"sampler": "hmc"}, "'auto', 'gibbs' or 'nuts'"),
    ],
)
def test_unfit_options(options, words):
    with pytest.raises(bi.SpecificationError, match=words):
        model().impute(**{"m": 4, "seed": 1, **options})


def test_gibbs_says_which_priors_it_takes():
    with pytest.raises(bi.SpecificationError, match="nuts"):
        model(priors=pr.Priors(Psi=pr.LKJ())).impute(m=2, sampler="gibbs")


# ---------------------------------------------------------------- what is noted


def test_options_that_nuts_does_not_use_are_noted():
    events = model().impute(m=2, seed=1, sampler="nuts", tune=0, draws=20, chains=2, thin=3).events
    assert set(events[events["kind"] == "not used"]["where"]) == {"thin", "tune"}


def test_what_rests_on_the_prior_is_noted():
    frame = table()
    frame.loc[frame["site"] < 3, "y"] = np.nan
    frame.loc[frame["site"] >= 3, "z"] = np.nan
    events = model(frame).impute(m=2, seed=1, draws=20, chains=2).events
    prior_only = events[events["kind"] == "prior only"]
    assert set(prior_only["where"]) == {"Sigma[y, z]", "Psi[y, z]"}
    assert set(events[events["kind"] == "prior matters"]["count"]) == {3}


def test_clusters_with_0_1_2_observed_rows():
    frame = table()
    for cluster, keep in [(1, 0), (2, 1), (3, 2)]:
        rows = frame.index[frame["site"] == cluster][keep:]
        frame.loc[rows, ["y", "z"]] = np.nan
    one_row = pd.DataFrame({"site": [77], "x": [0.1], "sex": ["F"], "y": [np.nan], "z": [1.0]})
    frame = pd.concat([frame, one_row], ignore_index=True)
    imp = model(frame, "y + z ~ x + (1 + x | site)").impute(m=3, seed=1, draws=50, chains=2)
    assert not imp.frame(2)[["y", "z"]].isna().any().any()


def test_repr_tells_the_model():
    text = repr(model(priors=pr.pan()))
    for word in ("r = 2", "q = 1", "'pan'", "inverse-Wishart", "gibbs"):
        assert word in text


# ---------------------------------------------------------------- invariances of whole runs


def values(frame, formula=FORMULA, priors=None, workers=None, rows=None):
    imp = model(frame, formula, priors).impute(m=3, seed=5, draws=40, chains=2, workers=workers)
    completed = imp.frame(2)
    return (completed if rows is None else completed.loc[rows])[["y", "z"]].to_numpy()


def test_same_seed_same_imputations():
    np.testing.assert_array_equal(values(table()), values(table(), workers=1))
    assert not np.allclose(values(table()), values(table(seed=1)))


def test_row_order():
    frame = table()
    np.testing.assert_allclose(
        values(frame.sample(frac=1, random_state=1), rows=frame.index), values(frame), rtol=1e-9
    )


def test_cluster_labels():
    frame = table()
    names = {0: "zeta", 1: "b", 2: "alpha", 3: "10", 4: "9", 5: ""}
    np.testing.assert_allclose(values(frame.assign(site=frame["site"].map(names))), values(frame), rtol=1e-9)
    np.testing.assert_allclose(values(frame.assign(site=-frame["site"])), values(frame), rtol=1e-9)


@pytest.mark.parametrize("factor", [0.01, 100.0, 1e6])
def test_units(factor):
    """The default prior scales with the data: a change of unit changes the unit and nothing else."""
    frame = table()
    scaled = frame.assign(y=frame["y"] * factor, x=frame["x"] * factor)
    np.testing.assert_allclose(values(scaled) / [factor, 1], values(frame), rtol=1e-8)


def test_identity_priors_do_not_scale():
    """The default avoids that pan's prior gives other answers in other units."""
    frame = table()
    posterior = [
        model(frame.assign(y=frame["y"] * f), priors=pr.pan())
        .impute(m=2, seed=1)
        .tree["posterior"]["Psi"]
        .values
        for f in (1.0, 100.0)
    ]
    ratio = np.median(posterior[1][..., 0, 0]) / 100**2 / np.median(posterior[0][..., 0, 0])
    assert ratio < 0.9 or ratio > 1.1


def test_slopes_in_other_units():
    frame = table(rows=20)
    formula = "y + z ~ x + (1 + x | site)"
    scaled = frame.assign(x=frame["x"] * 1000)
    np.testing.assert_allclose(values(scaled, formula), values(frame, formula), rtol=1e-8)


def test_category_coding():
    """Neither the reference level of a factor nor 0/1 instead of text matters."""
    frame = table()
    formula = "y + z ~ x + sex + (1 | site)"
    base = values(frame, formula)
    reversed_levels = frame.assign(sex=pd.Categorical(frame["sex"], ["M", "F"], ordered=True))
    np.testing.assert_allclose(values(reversed_levels, formula), base, rtol=1e-8)
    np.testing.assert_allclose(values(frame.assign(sex=(frame["sex"] == "M") * 1), formula), base, rtol=1e-8)


# ---------------------------------------------------------------- interruption


def test_interrupted_in_warm_up(monkeypatch):
    from bayesimp.sampling import chains

    def interrupt(*futures, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(chains, "wait", interrupt)
    with pytest.raises(bi.SamplingError, match="interrupted before its first imputation"):
        model().impute(m=4, seed=1, tune=10_000_000, draws=10)


def test_interrupted_run_keeps_what_it_has(monkeypatch):
    from bayesimp.progress import Report

    struck = []

    def strike(self, stage, done, total):
        if stage == "sampling" and done > 1000 and not struck:  # ten of each chain are needed
            struck.append(done)
            raise KeyboardInterrupt

    monkeypatch.setattr(Report, "__call__", strike)
    imp = model().impute(m=20, seed=1, tune=0, draws=1_000_000, chains=2)
    assert imp.m == 20
    assert list(imp.events["kind"]) == ["interrupted"]
    assert imp.tree["posterior"].sizes["draw"] < 1_000_000
    assert not imp.frame(0)["y"].isna().any()
    assert np.isfinite(imp.tree["posterior"]["Psi"].values).all()
