"""`FCS(analysis=)`: what it imputes, which options it honours, and what it refuses before anything is sampled."""

import pickle
import warnings

import numpy as np
import pandas as pd
import pytest

import bayesimp as bi
from bayesimp import methods as me
from bayesimp import priors as pr
from bayesimp.contract import Shift
from tests.unfolding import unfolded

CLUSTERS, ROWS = 12, 6
RUN = dict(progress=False, executor="serial")
A = "y ~ x * w + (1 + x | g)"


def frame(seed=2) -> pd.DataFrame:
    """x, w, y, b (binary), c (of clusters) and aux are incomplete; full is not."""
    rng = np.random.default_rng(seed)
    g = np.repeat(np.arange(CLUSTERS), ROWS)
    n = len(g)
    table = pd.DataFrame({
        "g": [f"s{(5 * i) % CLUSTERS}" for i in g], "x": rng.normal(size=n) + rng.normal(size=CLUSTERS)[g],
        "w": rng.normal(size=n), "full": rng.normal(size=n), "c": rng.normal(size=CLUSTERS)[g],
        "b": rng.choice(["no", "yes"], n), "aux": rng.normal(size=n),
    })  # fmt: skip
    table["y"] = table.x + table.x * table.w + table.c + rng.normal(size=n)
    for name in ("x", "w", "y", "b", "aux"):
        table[name] = table[name].mask(rng.random(n) < 0.2)
    table.loc[np.isin(g, [3, 7]), "c"] = np.nan
    table.loc[g == 4, "x"] = np.nan
    return table


def data(table=None, **families) -> bi.IncompleteData:
    return bi.IncompleteData(frame() if table is None else table, "g", families or None)


def small(**options) -> bi.FCS:
    return bi.FCS(bi.IncompleteData(frame()[["g", "x", "w", "y", "aux"]], "g"), analysis=A, **options)


def run(model, m=2, cycles=4, seed=1, **options):
    return model.impute(m, cycles=cycles, seed=seed, **(RUN | options))


def same(a, b) -> bool:
    return all(np.array_equal(a.values(name), b.values(name)) for name in a.imputed_columns)


# -- the specification -----------------------------------------------------------------------------------------------


def test_own_models_lack_the_response_and_the_analysis_is_that_of_the_response():
    model = small()
    formulas = dict(zip([b.name for b in model.spec.blocks], model.formulas, strict=True))
    assert formulas["y"] == "y ~ 1 + x + w + x:w + (1 + x | g)"
    assert "y" not in formulas["x"] and "w" in formulas["x"] and "aux" in formulas["x"]
    assert "y" not in formulas["w"] and "y" in formulas["aux"]  # not in the analysis: an ordinary block
    text = unfolded(repr(model))
    assert "'y' is not among its predictors" in text and "its model is the given analysis" in text


def test_a_complete_response_has_parameters_and_no_cells():
    table = frame()[["g", "x", "w", "y"]]
    table["y"] = table.y.fillna(0.0)
    imp = run(bi.FCS(bi.IncompleteData(table, "g"), analysis=A))
    assert sorted(imp.imputed_columns) == ["w", "x"]
    posterior = imp.tree["posterior"]
    assert list(posterior["beta_y"]["fixed_y"].values) == ["Intercept", "x", "w", "x:w"]
    assert posterior["Psi_y"].shape[-2:] == (2, 2) and np.isfinite(posterior["sigma2_y"].values).all()
    with pytest.warns(bi.StatisticalWarning, match="too few draws"):
        imp.summary()


def test_several_analyses_and_what_comes_after_them():
    """y2 has y as a covariate: the models of x, w and y lack y2, but y is drawn given it."""
    table = frame().assign(y2=lambda t: t.y + t.full + np.random.default_rng(1).normal(size=len(t)))
    model = bi.FCS(data(table), analysis=[A, "y2 ~ y + full + b + (1 | g)"])
    formulas = dict(zip([b.name for b in model.spec.blocks], model.formulas, strict=True))
    assert formulas["y2"].startswith("y2 ~ ") and formulas["y"].startswith("y ~ 1 + x + w + x:w")
    for name in ("x", "w"):
        assert "y" not in formulas[name].replace("yes", "")
    assert "y2" not in formulas["b"] and " y " in formulas["b"]
    table = model.substantive.table
    names = model.substantive.names
    children = {
        name: [names[l] for l in table.cells.of[table.cells.child[k] : table.cells.child[k + 1]]]
        for k, name in enumerate(names)
    }
    assert children == {"x": ["y"], "w": ["y"], "b": ["y2"], "y": ["y2"], "y2": []}
    run(model)


def test_analyse_is_silent_for_the_analysis_and_names_what_is_more():
    imp = run(small(), 3)
    with warnings.catch_warnings():
        warnings.simplefilter("error", bi.StatisticalWarning)
        imp.analyse(A)
        imp.analyse("y ~ x + w + (1 | g)")
    larger = f"{A} + I(x ** 2)"
    with pytest.warns(bi.StatisticalWarning) as caught:
        imp.analyse("y ~ x * w + I(x**2) + (1 + x | g)")
    assert f"bi.FCS(data, analysis={larger!r})" in str(caught[0].message)
    with warnings.catch_warnings():
        warnings.simplefilter("error", bi.StatisticalWarning)
        run(bi.FCS(small().data, analysis=larger), 3).analyse("y ~ x * w + I(x**2) + (1 + x | g)")
    with pytest.warns(bi.StatisticalWarning, match=r"\+ \(1 \+ x \+ w \| g\)'\)"):
        imp.analyse("y ~ x * w + (1 + x + w | g)")


def test_cluster_level_variables_and_levels():
    imp = run(bi.FCS(data(), analysis="y ~ x * b + c + (1 | g)"), 3)
    for k in range(3):
        done = imp.frame(k)
        assert not done.isna().any().any()
        assert (done.groupby("g")["c"].nunique() == 1).all() and set(done["b"]) == {"no", "yes"}


@pytest.mark.parametrize("response", ["b", "aux"])
def test_analyses_without_random_part(response):
    imp = run(bi.FCS(data(), analysis=f"{response} ~ x + full"))
    assert f"Psi_{response}" not in imp.tree["posterior"]


# -- runs --------------------------------------------------------------------------------------------------------------


def test_runs_go_on_and_are_stored(tmp_path):
    model = small()
    first = run(model, 2, 4)
    assert same(run(model, 3, 4), first.extend(1, progress=False))
    longer = run(model, 2, 7, tune=2)
    shorter = run(model, 2, 4, tune=2)
    assert same(longer, shorter.iterate(3, progress=False))
    shorter.save(tmp_path / "run.nc")
    again = bi.load(tmp_path / "run.nc")
    assert same(shorter, again) and same(longer, again.iterate(3, progress=False))
    assert again.model.spec.analyses == model.spec.analyses
    assert same(longer, pickle.loads(pickle.dumps(shorter)).iterate(3, progress=False))


def test_the_same_from_threads_and_processes():
    model = small()
    here = run(model)
    assert same(here, run(model, executor="threads", workers=2))
    assert same(here, run(model, executor="processes", workers=1))


def test_nothing_depends_on_the_order_of_rows_or_on_labels():
    table = frame()
    options = dict(analysis="y ~ x * b + c + (1 + x | g)")
    a = run(bi.FCS(data(table), **options))
    order = np.random.default_rng(3).permutation(len(table))
    b = run(bi.FCS(data(table.iloc[order].reset_index(drop=True)), **options))
    for k in range(2):
        pd.testing.assert_frame_equal(a.frame(k).iloc[order].reset_index(drop=True), b.frame(k))
    c = run(bi.FCS(data(table.assign(g=table.g.map(lambda s: "z" + s[::-1]))), **options))
    for name in a.imputed_columns:
        assert np.array_equal(a.values(name), c.values(name))


def test_records_and_priors():
    model = small(methods={"x": me.IW(nu=3), "y": "bayes"})
    again = bi.FCS.from_specification(model.data, model.specification())
    assert same(run(model), run(again))
    changed = model.with_priors("pan")
    assert (
        changed.spec.analyses == model.spec.analyses and changed.priors["y"].name == changed.priors["x"].name
    )
    assert not same(run(model), run(changed))
    assert not same(
        run(small(methods={"y": me.IW(nu=30, v=0.01)})), run(small())
    )  # the analysis has its priors
    with pytest.raises(bi.SpecificationError, match="'pymc' does not support"):
        model.with_priors(pr.Priors(Psi=pr.LKJ(2.0, pr.HalfNormal(1.0))))


def test_blocks_visited_in_another_order_and_twice():
    model = small(order=["y", "x", "w", "aux", "x"])
    assert [b.name for b in model.spec.blocks] == ["y", "x", "w", "aux", "x"]
    run(model)


def test_variables_of_an_analysis_are_not_to_be_imputed_together():
    """Joining blocks is advised if they mix badly, but not if variables are drawn one by one."""
    table = frame()[["g", "x", "w", "y", "aux"]]
    table["w"] = table.w.where(table.x.notna())
    kept = bi.IncompleteData(table, "g")
    assert bi.FCS(kept).impute_together(["beta_x[w]"]) != {}
    assert bi.FCS(kept, analysis=A).impute_together(["beta_x[w]"]) == {}


# -- options that are honoured ---------------------------------------------------------------------------------------


def test_where_post_and_shift():
    table = frame()
    where = {
        "x": np.arange(len(table)) % 3 == 0,
        "y": table.y.isna().to_numpy() & (np.arange(len(table)) % 2 == 0),
    }
    imp = run(small(where=where, post={"w": floored}), 3)
    assert imp.values("x").shape[1] == where["x"].sum()
    assert imp.frame(0)["y"].isna().sum() == (table.y.isna() & ~where["y"]).sum()
    assert imp.values("w").min() >= -0.5 > run(small(), 3).values("w").min()
    unmoved = run(small(), 10, 40)
    for name, unit in (("x", 50.0), ("y", 50.0)):
        moved = run(small(shift=Shift({name: unit})), 10, 40).values(name).mean()
        still = unmoved.values(name).mean()
        # the analysis holds back some of a covariate
        assert moved - still > (45 if name == "y" else 5), (name, moved, still)


def floored(values):
    return np.maximum(values, -0.5)


def test_post_of_a_variable_of_clusters_leaves_what_is_known():
    table = frame()
    table.loc[::5, "c"] = np.nan
    model = bi.FCS(data(table), analysis="y ~ x + c + (1 | g)", post={"c": nine})
    known = table.groupby("g")["c"].transform("mean")
    expected = known.fillna(9.0)
    for done in run(model):
        np.testing.assert_allclose(done["c"], expected)


def nine(values):
    return np.full(len(values), 9.0)


def test_bounds_of_other_variables():
    imp = run(small(bounds={"aux": (-0.2, 3.5)} if frame().aux.min() > -0.2 else {"aux": (-9.0, 9.0)}))
    assert imp.values("aux").min() > -9.0


# -- refusals ----------------------------------------------------------------------------------------------------------

REFUSED = {
    "response as predictor": (dict(predictors={"x": "~ w + y + (1 | g)"}), "'y' is in the formula of 'x'"),
    "response added": (dict(predictors={"x": "~ . + y"}), "'y' is in the formula of 'x'"),
    "response in a slope": (dict(predictors={"x": "~ w + (1 + y | g)"}), "'y' is in the formula of 'x'"),
    "mean of the response": (dict(predictors={"x": "~ w + cluster_mean(y) + (1 | g)"}), "'y' is in the formula of 'x'"),
    "predictors of the response": (dict(predictors={"y": "~ x + (1 | g)"}), "which is its model; remove its predictors"),
    "table of codes": (
        dict(predictors=pd.DataFrame([[0, 1, 1], [1, 0, 0]], index=["y", "x"], columns=["y", "w", "x"])),
        "which is its model",
    ),
    "derived": (dict(derived={"z": "x * w"}), "derived with analysis"),
    "ignore": (dict(ignore=np.arange(CLUSTERS * ROWS) < 6), "ignore with analysis: 6 rows"),
    "blocks": (dict(blocks={"both": ["x", "aux"]}), "Block 'both': 'x' is in an analysis"),
    "bounds": (dict(bounds={"x": (-9, 9)}), r"bounds\['x'\]: 'x' is in an analysis"),
    "own variances": (dict(methods={"x": me.Gibbs(residual="cluster")}), "residual='cluster' does not support"),
    "None": (dict(methods={"y": None}), "by which it is imputed; remove None"),
    "covariate without a method": (dict(methods={"x": None}), "'x'"),
}  # fmt: skip


@pytest.mark.parametrize("options, words", REFUSED.values(), ids=REFUSED)
def test_refused_before_sampling(options, words):
    with pytest.raises(bi.SpecificationError, match=words):
        small(**options)


@pytest.mark.parametrize("name", ["ml", "pmm", "2stage", "sti", "pymc", "norm", "bayes", "iw", "glm"])
@pytest.mark.parametrize("variable", ["x", "y"])
def test_methods_of_variables_of_an_analysis(name, variable):
    taken = {"x": ("bayes", "iw", "norm", "glm"), "y": ("bayes", "iw")}[variable]
    if name in taken:
        run(small(methods={variable: name}))
    else:
        with pytest.raises(bi.SpecificationError, match=r"does not support|random part"):
            small(methods={variable: name})


ANALYSES = {
    "y ~ x + nowhere + (1 | g)": "no column 'nowhere'",
    "y ~ y + x": "on both sides",
    "~ x": "one response",
    "x + y ~ w": "one response",
    "y ~ x + (1 | w)": "groups by",
    "y ~ log(positive) + (1 | g)": "no value at 0 and below",
}


@pytest.mark.parametrize("analysis, words", ANALYSES.items())
def test_analyses_that_are_none(analysis, words):
    with pytest.raises(bi.SpecificationError, match=words):
        bi.FCS(data(frame().assign(positive=lambda t: np.exp(t.x))), analysis=analysis)


def test_analyses_that_do_not_go_together():
    with pytest.raises(bi.SpecificationError, match="Two analyses have the response 'y'"):
        bi.FCS(data(), analysis=["y ~ x", "y ~ w"])
    both = bi.FCS(data(), analysis=["y ~ x", "y ~ x * w + (1 | g)"])
    assert repr(both).count("times the analysis 'y ~ x * w + (1 | g)'") == 1
    with pytest.raises(bi.SpecificationError, match="circle"):
        bi.FCS(data(), analysis=["y ~ x", "x ~ y"])
    with pytest.raises(bi.SpecificationError, match="must be a formula"):
        bi.FCS(data(), analysis=3)
