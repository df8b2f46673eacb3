"""Several grouping factors of a joint GLMM from the user's side: formulas, priors, names, what is refused and printed."""

from __future__ import annotations

import re
import warnings
from functools import cache

import numpy as np
import pandas as pd
import pytest

import bayesimp as bi
from bayesimp import priors as pr
from bayesimp.errors import BayesimpError
from bayesimp.joint.glmm import levels
from tests.unfolding import unfolded

RUN = dict(m=3, seed=1, chains=1, tune=4, draws=6, progress=False)
ANALYSIS = "y ~ x * z + (1 | school) + (1 | class)"


@cache
def pupils() -> pd.DataFrame:
    """8 schools of 3 classes, hoods crossed with both; `size` of classes, `town` of schools, `colour` nominal."""
    rng = np.random.default_rng(3)
    n = 240
    school, number = np.arange(n) % 8, rng.integers(0, 3, n)
    classes, hood, z = 3 * school + number, rng.integers(0, 6, n), rng.normal(size=n)
    x = (rng.random(n) < 0.5).astype(float)
    y = x * z + rng.normal(size=8)[school] + rng.normal(size=24)[classes] + rng.normal(size=n)
    frame = pd.DataFrame({"school": school, "number": number + 1, "x": x, "y": y, "z": z})
    frame["class"], frame["hood"] = "c" + pd.Series(classes).astype(str), "h" + pd.Series(hood).astype(str)
    frame["size"], frame["town"] = (
        rng.normal(25, 4, 24).round(1)[classes],
        "t" + pd.Series(school // 2).astype(str),
    )
    frame["colour"] = np.array(["red", "green", "blue"])[rng.integers(0, 3, n)]
    for name in ("x", "y", "colour"):
        frame.loc[rng.random(n) < 0.2, name] = None
    frame.loc[frame["class"].isin(["c3", "c9", "c16"]), "size"] = np.nan
    return frame.sample(frac=1, random_state=1).reset_index(drop=True)


def data(*extra: str, clusters=("school", "class"), **families: str) -> bi.IncompleteData:
    frame = pupils()[[*clusters, "x", "y", "z", *extra]]
    return bi.IncompleteData(frame, list(clusters), families={"x": "bernoulli", **families})


def test_one_call_imputes_for_the_analysis(capsys):
    """The model contains the analysis, and what it prints and stores says so."""
    frame = pupils()[["school", "class", "x", "y", "z"]]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # so few draws do not mix
        imp = bi.impute(frame, ["school", "class"], analysis=ANALYSIS, families={"x": "bernoulli"}, **RUN)
    said = capsys.readouterr().out
    assert imp.attrs["engine"] == "glmm" and "because the analysis has x * z" in said
    assert "240 rows in groups: 8 school, 24 class; 2 factors" in said
    assert "x ~ z + (1 | school) + (1 | class)   (bernoulli; imputation" in said
    assert "Psi_school: Huang-Wand" in said and "Psi_class: Huang-Wand" in said
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fits = imp.analyse(ANALYSIS)
    assert "sd(Intercept | class)" in str(fits.pool_components())
    with pytest.warns(bi.errors.StatisticalWarning, match="random slope of z"):
        imp.analyse("y ~ x * z + (1 + z | school) + (1 | class)")


@pytest.mark.parametrize("formula", ["y ~ x + (1 | school/class)", "y ~ x + (1 | school) + (1 | class)"])
def test_effects_are_labelled_by_their_groups(formula):
    """Effects of a class are large where its values are: B has the labels of the table."""
    frame = pupils()[["school", "class", "x", "y"]].copy()
    frame["y"] += 30.0 * (frame["class"] == "c7")
    model = bi.JointGLMM(bi.IncompleteData(frame, ["school", "class"], {"x": "bernoulli"}), formula)
    label = "school:class" if "/" in formula else "class"
    imp = model.impute(**RUN | {"draws": 20, "tune": 20}, keep_effects=True)
    B = imp.tree["posterior"][f"B_{label}"].sel({f"effect_{label}": "y:Intercept"}).mean(("chain", "draw"))
    assert str(B[f"group_{label}"].values[np.argmax(B.values)]) == ("2:c7" if "/" in formula else "c7")
    assert {"Psi_school", f"Psi_{label}"} <= set(imp.tree["posterior"].data_vars)


def test_default_formulas_have_every_cluster_column_or_say_why_not():
    model = bi.JointGLMM(data("colour"), "y ~ x + colour + (1 | school) + (1 | class)")
    text = {factor.response: factor.formula for factor in model.factors}
    assert all(text[name].endswith("(1 | school) + (1 | class)") for name in ("x", "colour"))
    names = list(model.impute(**RUN).tree["posterior"]["effect_class"].values)
    assert names == ["x:Intercept", "colour[green]:Intercept", "colour[red]:Intercept", "y:Intercept"]
    own = bi.JointGLMM(
        data("size", clusters=("class", "school")), "y ~ x + size + (1 | class) + (1 | school)"
    )
    crossed = bi.JointGLMM(
        data("size", clusters=("class", "hood")), "y ~ x + size + (1 | class) + (1 | hood)"
    )
    assert {f.response: f.formula for f in own.factors}["size"].endswith("(1 | school)")
    assert re.search(
        "size: no effects of hood: 'size' has a single value in each 'class'", unfolded(repr(crossed))
    )
    alone = bi.JointGLMM(data(), "y ~ x + (1 | school)", {"x": "~ z + (1 | school)"})
    assert alone.further == () and "Psi:" in repr(alone)
    assert [e for e in alone.events if e.kind == "not used"]


def test_variables_of_classes_are_imputed_once_if_classes_are_the_clusters():
    """Three levels: pupils, classes with a variable of their own, which has effects of schools."""
    frame = pupils()[["school", "class", "x", "y", "size"]]
    made = bi.IncompleteData(frame, ["class", "school"], families={"x": "bernoulli"})
    model = bi.JointGLMM(made, "y ~ x + size + (1 | class) + (1 | school)", {"size": "~ 1 + (1 | school)"})
    assert "one value in a cluster" in repr(model)
    imp = model.impute(**RUN)
    values = imp.to_frame(0).groupby("class")["size"].nunique()
    assert (values == 1).all()
    names = list(imp.tree["posterior"]["effect_school"].values)
    assert names == ["x:Intercept", "size:Intercept", "y:Intercept"]


def test_slopes_of_every_factor_are_named_and_analysed():
    """Slopes of an incomplete variable, a nominal response, and effects in the units of the data."""
    formula = "y ~ x * z + (1 + x | school) + (1 + x + z | class)"
    model = bi.JointGLMM(data("colour"), [formula, "colour ~ y + (1 | school) + (1 + y | class)"])
    imp = model.impute(**RUN, keep_effects=True)
    tree = imp.tree["posterior"]
    assert list(tree["effect_class"].values) == [
        "x:Intercept", "y:Intercept", "y:z", "y:x", "colour[green]:Intercept", "colour[green]:y",
        "colour[red]:Intercept", "colour[red]:y",
    ]  # fmt: skip
    assert tree["B_class"].shape == (1, 6, 24, 8)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        imp.analyse(formula)
    with pytest.warns(bi.errors.StatisticalWarning, match="random slope of z"):
        imp.analyse("y ~ x * z + (1 + z | school) + (1 | class)")
    again = bi.JointGLMM.from_specification(model.data, model.specification())
    assert repr(again) == repr(model)
    chain = imp.tree_with("log_likelihood", "posterior_predictive")
    assert np.isfinite(chain["log_likelihood"]["y"].values).all()


def test_priors_by_grouping_factor():
    priors = pr.Priors(Psi=pr.Fixed(0.5 * np.eye(2)), Psi_of={"class": pr.Fixed(np.eye(2))})
    model = bi.JointGLMM(data(), ANALYSIS, priors=priors)
    tree = model.impute(**RUN).tree["posterior"]
    np.testing.assert_allclose(tree["Psi_school"].values[0, 0], 0.5 * np.eye(2))
    np.testing.assert_allclose(tree["Psi_class"].values[0, 0], np.eye(2))
    again = bi.JointGLMM.from_specification(model.data, model.specification())
    assert repr(again) == repr(model)


REFUSED = {
    "slopes that do not vary": (
        lambda: bi.JointGLMM(data("town"), "y ~ x + town + (1 | school) + (1 + town | class)"),
        r"'town\[t1\]' has a single value in each 'class', so its slope cannot vary between them"),
    "no effects of clusters": (lambda: bi.JointGLMM(data(), "y ~ x + (1 | class)"),
                               r"must be the same.*add \(1 \| school\)"),
    "a variable of classes": (lambda: bi.JointGLMM(data("size"), "y ~ size + (1 | school) + (1 | class)"),
                              r"'size' has a single value in each 'class'.*cluster=\['class', 'school'\]"),
    "ids that start again": (
        lambda: bi.JointGLMM(data(clusters=("school", "number")), "y ~ x + (1 | school) + (1 | number)"),
        r"\(1 \| school/number\)"),
    "not a cluster column": (lambda: bi.JointGLMM(data("town"), "y ~ x + (1 | school) + (1 | town)"),
                             r"'town' is not a cluster column"),
    "Psi_of another factor": (lambda: bi.JointGLMM(data(), ANALYSIS, priors=pr.Priors(Psi_of={"town": pr.HuangWand()})),
                              r"'town' is not a grouping factor of this model; it has 'school', 'class'"),
    "||": (lambda: bi.JointGLMM(data(), "y ~ x + (1 + x || school) + (1 | class)"), r"\|\| is not supported"),
    "chained equations given it": (lambda: bi.FCS(data(), analysis=ANALYSIS), "2 random terms"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case):
    make, words = REFUSED[case]
    with pytest.raises(BayesimpError) as caught:
        make()
    assert re.search(words, str(caught.value)), str(caught.value)


def test_what_a_run_does_with_effects():
    imp = bi.JointGLMM(data(), ANALYSIS).impute(**RUN, keep_effects=True)
    tree = imp.tree_with("log_likelihood", "log_prior", "posterior_predictive")
    assert np.isfinite(tree["log_likelihood"]["y"].values).all()
    assert {"Psi_school", "Psi_class"} <= set(tree["log_prior"].data_vars)
    assert tree["posterior_predictive"]["y"].shape[:2] == (1, 6)


@pytest.mark.parametrize("random", ["1 + z", "z + 1"])
def test_nested_effects_share_their_sum(random):
    """The move between nested levels leaves predictors unchanged, on each column that both levels have."""
    from tests.joint.glmm.test_levels_posterior import sampler

    model = bi.JointGLMM(data(), f"y ~ x + (1 + z | school) + ({random} | class)")
    chain = sampler(model)
    for _ in range(3):
        chain.sweep()
    rows, k = np.arange(240), 1
    before, effects = chain.predictors(k, rows), chain.chain.B[1].copy()
    chain.further.shift_between(k)
    chain._refresh(k)
    np.testing.assert_allclose(chain.predictors(k, rows), before, atol=1e-10)
    assert (np.abs(chain.chain.B[1] - effects).max(axis=0) > 1e-3).tolist() == [False, True, True]
    assert levels.FurtherEffects.levels(chain.further, k) == [0, 1]
