"""Prior sensitivity: it computes impute + analyse + pool, and results move in the direction of the prior."""

from dataclasses import replace

import arviz as az
import matplotlib
import numpy as np
import pandas as pd
import pytest
from scipy import stats

matplotlib.use("Agg")

import matplotlib.pyplot as plt

import bayesimp as bi
from bayesimp import priors as pr
from bayesimp.diagnostics.components import Component, components, overlap, prior_share, share_in_words
from bayesimp.errors import SpecificationError, StatisticalWarning
from bayesimp.sensitivity_analysis import run
from bayesimp.sensitivity_analysis.distances import _by_level, _by_value, distance_and_chance
from bayesimp.sensitivity_analysis.verdict import conclusions, most, on_prior, values_moved
from tests.unfolding import unfolded

SIGMA = np.array([[127.0, 100, 75], [100, 691, 65], [75, 65, 120]])  # Kunkel & Kaizar 2017, simulation 5
PSI = np.array([[28.0, 22, 11], [22, 40, 12], [11, 12, 26]])
SIZES = (49, 18, 15, 29, 60)
ANALYSIS = "y3 ~ y1 + y2 + (1 | study)"
GRID = {"default": pr.default(), "loose": pr.iw(1.0), "tight": pr.iw(5.0)}
COLUMNS = ["estimate", "std.error", "conf.low", "conf.high", "fmi"]


def model(times=1, seed=1, scale=1.0):
    missing = {"y1": [5 * k + 1 for k in range(times)], "y2": [5 * k + 4 for k in range(times)]}
    frame = bi.simulate_studies(SIZES * times, SIGMA, PSI, missing=missing, seed=seed)
    frame[["y1", "y2", "y3"]] *= scale
    return bi.JointNormal(bi.IncompleteData(frame, cluster="study"), "y1 + y2 ~ y3 + (1 | study)")


@pytest.fixture(scope="module")
def small():
    return bi.sensitivity(model(), GRID, analysis=ANALYSIS, m=20, seed=1)


@pytest.fixture(autouse=True)
def close():
    yield
    plt.close("all")


def test_one_prior_is_impute_analyse_pool_bit_for_bit():
    prior = pr.Priors(pr.HuangWand(), pr.InverseWishart(4.0, 0.1), name="mine")
    result = bi.sensitivity(model(), {"any name": prior}, analysis=ANALYSIS, m=12, seed=7, draws=400)
    fits = model().with_priors(prior).impute(12, seed=7, draws=400).analyse(ANALYSIS)
    by_hand = fits.pool().to_frame()
    table = result.table[result.table["part"] == "fixed effect"]
    assert (table[COLUMNS].to_numpy() == by_hand[COLUMNS].to_numpy()).all()
    assert list(table["term"]) == list(by_hand["term"]) and (table["change"] == 0).all()
    np.testing.assert_array_equal(table["mc.error"], np.sqrt(by_hand["b"] / 12))
    components_by_hand = fits.pool_components("log").to_frame()
    values = result.table.loc[
        result.table["part"] == "variance component", ["estimate", "conf.low", "conf.high"]
    ]
    assert (values.to_numpy() == components_by_hand[["value", "value.low", "value.high"]].to_numpy()).all()
    assert "one prior" in unfolded(str(result))


def test_change_is_in_standard_errors_of_the_reference(small):
    result = bi.sensitivity(model(), GRID, analysis=ANALYSIS, m=20, seed=1, reference="tight")
    for table in (result.table, result.model):
        wide = table.pivot_table(index="term", columns="prior", values=["estimate", "std.error", "change"])
        expected = (
            wide["estimate"].sub(wide["estimate"]["tight"], axis=0).div(wide["std.error"]["tight"], axis=0)
        )
        pd.testing.assert_frame_equal(wide["change"], expected)
    # the reference changes nothing else
    rest = [c for c in small.table if c != "change"]
    pd.testing.assert_frame_equal(result.table[rest], small.table[rest])


def test_default_prior_follows_the_unit_and_inverse_wishart_does_not():
    results = [
        bi.sensitivity(
            model(scale=s), {"default": pr.default(), "IW": pr.iw(5.0)}, analysis=ANALYSIS, m=10, seed=3
        )
        for s in (1.0, 1024.0)
    ]
    slopes = [r.table[r.table["term"] == "y1"].set_index("prior")["estimate"] for r in results]
    assert slopes[0]["default"] == pytest.approx(slopes[1]["default"], rel=1e-9)
    assert abs(slopes[0]["IW"] / slopes[1]["IW"] - 1) > 1e-4
    sds = [r.model[r.model["term"] == "sd between y1"].set_index("prior")["estimate"] for r in results]
    assert sds[0]["default"] * 1024 == pytest.approx(sds[1]["default"], rel=1e-9)


def test_few_studies_follow_the_prior_and_many_do_not(small):
    """IW(5, 1) expects variances near 1 / 7, far below the true 28 and 40: it pulls downwards. Median ratio
    over collections of the posterior mean of sd(y1) under IW(5, 1) and IW(1, 1); signs in all six of them."""
    ratios = {}
    for times, seeds in ((1, range(6)), (7, range(3))):
        ratios[times] = []
        for seed in seeds:
            result = bi.sensitivity(
                model(times, seed), {k: GRID[k] for k in ("loose", "tight")}, analysis=ANALYSIS, m=4, seed=2
            )
            sd = result.model[result.model["term"] == "sd between y1"].set_index("prior")["estimate"]
            ratios[times].append(sd["tight"] / sd["loose"])
    assert max(ratios[1]) < 0.9 and np.median(ratios[1]) < 0.75
    assert min(ratios[7]) > 0.9
    assert "sd between" in unfolded(str(small)) and "under 'tight'" in unfolded(str(small))


def test_default_grid_tells_that_pan_is_iw_1():
    grid = bi.default_grid()
    assert list(grid) == ["default", "IW(1, 1)", "IW(1.6, 1)", "IW(5, 1)", "pan", "jomo", "LKJ(2)"]
    assert all(name == priors.name for name, priors in grid.items())
    del grid["LKJ(2)"]
    result = bi.sensitivity(model(), grid, analysis=ANALYSIS, m=4, seed=1, draws=100)
    assert result.priors == list(grid)
    twins = result.events[result.events["kind"] == "same prior"]
    assert list(twins["prior"]) == ["pan"] and "'IW(1, 1)'" in twins["message"].iloc[0]
    assert (result.events[result.events["kind"] == "prior matters"]["prior"] == "all").all()
    unknown = result.model[result.model["overlap"].isna()]
    assert set(unknown["prior"]) == {"jomo"} and unknown["term"].str.contains("within").all()


@pytest.mark.slow
def test_default_grid_with_nuts():
    """Run 2026-11-21: passed, 25 s with six other processes running (pytest -m slow tests/test_sensitivity.py)."""
    result = bi.sensitivity(model(), analysis=ANALYSIS, m=4, seed=1, chains=2, draws=200, tune=200)
    assert result.priors == list(bi.default_grid())
    assert result.imputations["LKJ(2)"].attrs["sampler"] == "nuts"


def test_chained_equations():
    """Conditional models: psi of each follows IW(5, 1) down; parameters and priors by variable; reproducible."""
    data = model().data
    chained = bi.FCS(data, methods=bi.methods.IW(compatible=False), predictors=None)
    result = bi.sensitivity(chained, GRID, analysis=ANALYSIS, m=8, seed=1, cycles=40)
    terms = ["sd within y1", "sd between y1", "sd within y2", "sd between y2"]
    assert sorted(result.model["term"].unique()) == sorted(terms)
    sds = result.model.pivot_table("estimate", "term", "prior")
    assert (sds["tight"] < sds["loose"])[["sd between y1", "sd between y2"]].all()
    fits = chained.with_priors(pr.iw(5.0)).impute(8, seed=1, cycles=40).analyse(ANALYSIS)
    table = result.table[(result.table["prior"] == "tight") & (result.table["part"] == "fixed effect")]
    assert (table["estimate"].to_numpy() == fits.pool().estimate).all()
    assert set(result.tree["tight"]["prior"].data_vars) == {"sigma2_y1", "Psi_y1", "sigma2_y2", "Psi_y2"}
    az.plot_prior_posterior(result.tree["tight"], var_names=["Psi_y1", "sigma2_y2"], backend="none")
    assert sum(ax.axison for ax in result.plot_components().axes) == 4
    bi.plot_prior_posterior(result.imputations["tight"], "Psi_y1")
    slopes = bi.FCS(data, predictors={"y1": "y1 ~ y3 + (1 + y3 | study)"}).impute(2, seed=1, cycles=4)
    assert {"sd between\ny1", "sd between\ny1:y3", "correlation between\ny1, y1:y3"} <= set(
        components(slopes)
    )
    ignoring = bi.FCS(data, methods="norm")
    with pytest.raises(SpecificationError, match="prior 'default': No block has priors"):
        bi.sensitivity(ignoring, GRID, analysis=ANALYSIS, m=4)


def engines():
    frame = bi.load_exam().iloc[:240].assign(room=lambda t: np.arange(240) % 7)
    data, both = (
        bi.IncompleteData(frame, cluster="school"),
        bi.IncompleteData(frame, cluster=["school", "room"]),
    )
    passed = frame.assign(
        passed=(frame["course"] > 75).map({True: "y", False: "n"}).where(frame["course"].notna())
    )
    coded = bi.IncompleteData(passed.drop(columns="course"), cluster="school")
    return {
        "glmm": (lambda: bi.JointGLMM(data, "written ~ course + (1 | school)"), {"draws": 20, "tune": 10}),
        "latent": (lambda: bi.JointLatent(coded, "written + passed ~ gender + (1 | school)"), {"draws": 20, "tune": 10}),
        "levels": (lambda: bi.JointNormal(both, "written + course ~ gender + (1 | school) + (1 | room)"),
                   {"draws": 20, "tune": 10}),
        "fcs given an analysis": (lambda: bi.FCS(data, analysis="written ~ course + (1 | school)"), {"cycles": 3}),
    }  # fmt: skip


@pytest.mark.parametrize("name", ["glmm", "latent", "levels", "fcs given an analysis"])
def test_every_engine_runs_each_member_under_its_own_prior(name):
    """Bit for bit the imputations of the model with that prior, and not those under the default."""
    make, options = engines()[name]
    analysis = "written ~ gender + (1 | school)"
    result = bi.sensitivity(
        make(), {"default": pr.default(), "tight": pr.iw(5.0)}, analysis=analysis, m=4, seed=1, **options
    )
    alone = make().with_priors(pr.iw(5.0)).impute(4, seed=1, **options)
    for column in alone.imputed_columns:
        np.testing.assert_array_equal(result.imputations["tight"].values(column), alone.values(column))
    assert any(
        (result.imputations["default"].values(c) != alone.values(c)).any() for c in alone.imputed_columns
    )
    assert set(result.distances["variable"]) == set(alone.imputed_columns)
    assert result.model["share"].notna().any() and "Of the estimates" in unfolded(str(result))


class Picky(bi.JointNormal):
    """A model that takes inverse-Wishart priors only."""

    def with_priors(self, priors):
        if not isinstance(priors.Psi, pr.InverseWishart):
            raise SpecificationError(f"no update for {type(priors.Psi).__name__}")
        return super().with_priors(priors)


def test_a_prior_that_the_model_does_not_take_is_reported():
    picky = Picky(model().data, model().formula.text)
    with pytest.warns(StatisticalWarning) as caught:
        result = bi.sensitivity(picky, analysis=ANALYSIS, m=4, seed=1, draws=100, reference="pan")
    assert "prior 'LKJ(2)' is left out: no update for LKJ" in [str(w.message) for w in caught]
    left = result.events[result.events["kind"] == "prior left out"]
    assert list(left["prior"]) == ["default", "LKJ(2)"]
    assert "Left out: 'LKJ(2)': no update for LKJ" in unfolded(str(result))
    with pytest.raises(SpecificationError, match="prior 'a': no update for HuangWand"):
        bi.sensitivity(picky, {"a": pr.default()}, analysis=ANALYSIS)
    with (
        pytest.raises(SpecificationError, match="reference prior 'default'"),
        pytest.warns(StatisticalWarning),
    ):
        bi.sensitivity(picky, analysis=ANALYSIS)


def test_a_prior_that_the_sampler_does_not_take_is_reported():
    options = {"analysis": ANALYSIS, "m": 4, "seed": 1, "draws": 100, "sampler": "gibbs"}
    with pytest.warns(StatisticalWarning, match=r"'LKJ\(2\)' is left out: The Gibbs sampler needs"):
        result = bi.sensitivity(model(), **options)
    assert "LKJ(2)" not in result.priors and "Left out: 'LKJ(2)'" in unfolded(str(result))
    for more in ({"reference": "LKJ(2)"}, {"priors": {"LKJ(2)": bi.default_grid()["LKJ(2)"]}}):
        with pytest.raises(SpecificationError, match=r"prior 'LKJ\(2\)': The Gibbs sampler needs"):
            bi.sensitivity(model(), **options, **more)


def test_an_interrupted_run_keeps_what_there_is(monkeypatch):
    def stop(self, m, **options):
        imp = original(self, m, **options)
        if self.priors.name == "loose":
            imp.log += (run.Event("interrupted", "sampler", "stopped by the user"),)
        return imp

    original = bi.JointNormal.impute
    monkeypatch.setattr(bi.JointNormal, "impute", stop)
    result = bi.sensitivity(model(), GRID, analysis=ANALYSIS, m=4, seed=1, draws=100)
    assert result.priors == ["default", "loose"] and "Left out: 'tight'" in unfolded(str(result))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"analysis": "y3 ~ age + (1 | study)"}, "no column 'age'"),
        ({"analysis": "y3 ~ y1 +"}, "y3 ~ y1"),
        ({"priors": {}}, "empty"),
        ({"priors": []}, "empty"),
        ({"priors": [pr.pan(), pr.pan()]}, "'pan': names must be distinct"),
        ({"priors": {"a/b": pr.pan()}}, "'/'"),
        ({"priors": {"a": pr.LKJ(2.0)}}, "'a' is a LKJ; expected priors.Priors"),
        ({"priors": {"a": pr.Priors(Psi=pr.InverseWishart(0.5))}}, "prior 'a'.*Psi"),
        ({"reference": "b"}, "'b' is not one of the priors"),
    ],
)
def test_what_cannot_be_done_is_refused_before_sampling(change, words, monkeypatch):
    monkeypatch.setattr(bi.JointNormal, "impute", lambda *a, **k: pytest.fail("sampled"))
    with pytest.raises(SpecificationError, match=words):
        bi.sensitivity(model(), **{"priors": GRID, "analysis": ANALYSIS, **change})


def test_a_function_as_analysis_has_no_variance_components():
    def mean(table):
        return {"mean of y1": table["y1"].mean()}, [[table["y1"].var() / len(table)]]

    result = bi.sensitivity(model(), GRID, analysis=mean, m=4, seed=1, draws=100)
    assert set(result.table["term"]) == {"mean of y1"} and set(result.table["part"]) == {"fixed effect"}
    result.plot()


def test_singular_fits_are_averaged_and_said():
    """Means of studies that do not vary: REML gives zero in some tables, whose logarithm cannot be pooled."""
    frame = bi.simulate_studies([12] * 6, np.eye(3) + 0.3, np.zeros((3, 3)), missing={"y1": [1, 2]}, seed=0)
    flat = bi.JointNormal(bi.IncompleteData(frame, cluster="study"), "y1 ~ y2 + y3 + (1 | study)")
    result = bi.sensitivity(flat, GRID, analysis=ANALYSIS, m=10, seed=1, draws=200)
    sds = result.table[result.table["part"] == "variance component"]
    assert (sds["scale"] == "sd").all() and np.isfinite(sds["estimate"]).all()
    residual = sds["term"] == "sd(residual)"  # which every table has
    assert sds["std.error"][~residual].isna().all() and sds["std.error"][residual].notna().all()
    assert "has no standard error (singular fits)" in str(result)
    result.plot()


# ArviZ and figures


def test_prior_draws_in_the_tree(small):
    imp = small.imputations["default"].with_prior_draws(size=3000)
    prior, posterior = imp.tree["prior"], imp.tree["posterior"]
    assert set(prior.data_vars) == {"Sigma", "Psi"} and prior["Psi"].dims == posterior["Psi"].dims
    assert prior["Psi"].shape == (1, 3000, 2, 2) and "prior" not in small.imputations["default"].tree
    left = imp.events[imp.events["kind"] == "no prior draws"]
    assert list(left["where"]) == ["beta"] and "improper" in left["message"].iloc[0]
    proper = replace(pr.default(), beta=pr.Normal(2.0, [[1.0, 2.0], [3.0, 4.0]]))
    beta = (
        model().with_priors(proper).impute(4, draws=50, seed=1).with_prior_draws(20_000).tree["prior"]["beta"]
    )
    assert beta.dims == ("chain", "draw", "fixed", "response")
    np.testing.assert_allclose(beta.std(("chain", "draw")), [[1, 2], [3, 4]], rtol=0.03)
    np.testing.assert_allclose(beta.mean(("chain", "draw")), 2, atol=0.15)
    jomo = model().with_priors(pr.jomo()).impute(4, draws=50, seed=1).with_prior_draws()
    assert list(jomo.tree["prior"].data_vars) == ["Psi"]
    with pytest.raises(SpecificationError, match="do not carry the model"):
        imp._run = None
        imp.with_prior_draws()


@pytest.mark.parametrize("backend", ["none", "matplotlib"])
def test_arviz_works_on_the_trees(small, backend):
    tree = small.tree
    assert list(tree.children) == list(GRID) and {"prior", "posterior", "imputed"} <= set(
        tree["tight"].children
    )
    one = small.imputations["default"].with_prior_draws().tree
    for each in (one, tree["default"]) if backend == "none" else (one,):
        table = az.summary(each, var_names=["beta", "Psi"])
        assert len(table) == 4 + 4 and np.isfinite(table["mean"].astype(float)).all()
        az.plot_trace_dist(each, var_names=["Psi"], backend=backend)
        az.plot_forest(each, var_names=["beta", "Psi"], backend=backend)
        az.plot_prior_posterior(each, var_names=["Psi", "Sigma"], backend=backend)
    plots = az.plot_forest(dict(tree.children), var_names=["Psi"], backend=backend)
    assert set(plots.aes["color"]["mapping"].coords["model"].values if "color" in plots.aes else GRID) == set(
        GRID
    )


def test_tree_survives_saving(small, tmp_path):
    imp = small.imputations["default"].with_prior_draws(100)
    imp.save(tmp_path / "a.nc")
    assert bi.load(tmp_path / "a.nc").tree["prior"].equals(imp.tree["prior"])


def test_overlap_is_one_where_the_data_say_nothing():
    """y1 and y2 never in the same study: of the correlation of their effects the data say nothing."""
    frame = bi.simulate_studies(
        [15] * 8, np.eye(2) + 1, np.eye(2), missing={"y1": [0, 1, 2, 3], "y2": [4, 5, 6, 7]}, seed=1
    )
    imp = bi.JointNormal(bi.IncompleteData(frame, cluster="study"), "y1 + y2 ~ 1 + (1 | study)").impute(
        4, seed=1
    )
    found = components(imp)
    assert list(found) == [
        "sd within\ny1", "sd within\ny2", "correlation within\ny1, y2",
        "sd between\ny1", "sd between\ny2", "correlation between\ny1, y2",
    ]  # fmt: skip
    assert overlap(found["correlation between\ny1, y2"]) > 0.8 > 0.5 > overlap(found["sd within\ny1"])
    assert found["sd between\ny1"].posterior.shape == (4, 1000)


def test_figures(small):
    figure = small.plot()
    panels = [ax for ax in figure.axes if ax.axison]
    titles = [ax._left_title.get_text() for ax in panels]
    assert titles == ["Intercept", "y1", "y2", "sd(Intercept | study)", "sd(residual)"]
    assert [t.get_text() for t in panels[0].get_yticklabels()] == list(GRID)
    figure = small.plot_components()
    assert sum(ax.axison for ax in figure.axes) == 6
    assert sum(ax.axison for ax in small.plot_components(at_most=2).axes) == 2
    assert sum(ax.axison for ax in small.plot_components(correlations=False).axes) == 4
    assert sum(ax.axison for ax in small.plot(["y1"]).axes) == 1
    for wrong in (small.plot, small.plot_components):
        with pytest.raises(SpecificationError, match="nonsense"):
            wrong("nonsense")


def test_a_dictionary_cannot_be_changed(small):
    with pytest.raises(TypeError, match="does not support item assignment"):
        small.imputations["x"] = None
    assert repr(small).startswith(str(small)) and "tight" in repr(small)


# shares, distances, verdict


def test_share_of_the_prior_is_that_of_precisions():
    """log sd ~ N(0, 1) before and N(., 0.5^2) after the data: the prior has 1 of 4 parts. Units and far priors."""
    rng = np.random.default_rng(1)
    prior, posterior = np.exp(rng.normal(0, 1, 40_000)), np.exp(rng.normal(1, 0.5, (4, 10_000)))
    one = Component(prior, posterior, None)
    assert prior_share(one) == pytest.approx(0.25, abs=0.01)
    assert prior_share(Component(7 * prior, 7 * posterior, None)) == pytest.approx(prior_share(one), abs=1e-9)
    z = rng.normal(0, [[0.8], [0.4]], (2, 40_000))
    assert prior_share(Component(np.tanh(z[0]), np.tanh(z[1:]), (-1.0, 1.0))) == pytest.approx(0.25, abs=0.01)
    assert np.isnan(prior_share(Component(np.empty(0), posterior, None)))
    assert [share_in_words(s, o) for s, o in ((0.02, 0.3), (0.3, 0.3), (0.8, 0.5), (0.8, 0.01), (np.nan, np.nan))] == [
        "mostly data", "prior and data", "mostly prior", "mostly prior, far from the prior", "improper prior",
    ]  # fmt: skip


def test_prior_shares_of_every_engine(small):
    table = bi.prior_shares(small.imputations["default"])
    own = small.model[small.model["prior"] == "default"].set_index("term")
    pd.testing.assert_series_equal(table["share"], own["share"], check_names=False)
    assert table.loc["sd within y1", "words"] == "mostly data" and table.loc["sd within y1", "share"] < 0.05
    assert table.loc["correlation between y1, y2", "words"] == "mostly prior"
    chained = bi.FCS(model().data).impute(2, seed=1, cycles=30)
    assert {"sd within y1", "sd between y2"} <= set(bi.prior_shares(chained).index)


def test_distances_are_those_of_scipy_and_of_levels():
    """Wasserstein's distance of 40 x 25 values, to 1 in 512 of their range; total variation of levels."""
    rng = np.random.default_rng(2)
    a, b = rng.normal(0.3, 1.5, (40, 25)), rng.normal(0, 1, (40, 25))
    counts, widths = _by_value(a, b)
    distance, chance, p = distance_and_chance(counts, widths, 25)
    assert distance == pytest.approx(stats.wasserstein_distance(a.ravel(), b.ravel()), abs=8 / 512)
    assert p == 1 / 2000 and chance < distance / 2
    x, y = np.array([[0, 1, 1, 2]] * 30), np.array([[0, 0, 1, 1]] * 30)
    assert distance_and_chance(*_by_level(x, y), 4)[0] == pytest.approx(0.25)
    assert distance_and_chance(*_by_value(a, a.copy()), 25)[0] == 0


def test_chance_is_what_imputations_of_one_prior_give():
    """60 pairs of sets of 30 imputations from one distribution, in which the values of an imputation move together:
    p-values are uniform (Kolmogorov, level 0.001). Exchanging single values instead would call half of them different."""
    rng = np.random.default_rng(3)
    p, wrong = [], 0
    for _ in range(60):
        a, b = (rng.normal(size=(30, 1)) + 0.5 * rng.normal(size=(30, 20)) for _ in range(2))
        counts, widths = _by_value(a, b)
        _, _, one = distance_and_chance(counts, widths, 20, seed=len(p))
        p.append(one)
        if len(p) <= 12:
            single = _by_value(a.reshape(-1, 1), b.reshape(-1, 1))
            wrong += distance_and_chance(*single, 1, seed=len(p))[2] < 0.05
    assert stats.kstest(p, "uniform").pvalue > 0.001
    assert wrong > 4


def test_the_verdict_says_what_depends_on_the_prior(small):
    """Sentences made from tables with known numbers."""
    table = pd.DataFrame(
        [("a", "x", 1.0, 3.0), ("b", "x", -1.0, 3.0), ("a", "z", 1.0, 2.0), ("b", "z", 1.5, 2.0)],
        columns=["prior", "term", "conf.low", "conf.high"],
    ).assign(part="fixed effect")
    text = conclusions(table)
    assert "DEPEND ON THE PRIOR" in text and "that of x is above 0 under 'a', includes 0 under 'b'" in text
    assert "for the other coefficient this is the same under every prior." in text
    assert conclusions(table[table["term"] == "z"]).endswith("is the same under both priors, for z.")
    assert "mostly prior: " in on_prior(small.model, "default") and "correlation between" in on_prior(
        small.model, "default"
    )
    known = pd.DataFrame(
        {"prior": ["a", "b"], "term": "x", "estimate": [1.0, 2.0], "std.error": 0.5, "change": [0.0, 2.0]}
    )
    assert most(known.assign(**{"mc.error": [0.3, 0.4]}), "Of", "sds", "a").endswith(
        "; Monte Carlo error 1.00."
    )
    unknown = most(known.assign(**{"mc.error": [np.nan, 0.4]}), "Of", "sds", "a")
    assert unknown.endswith("; Monte Carlo error not known, from so few draws.")
    moved = pd.DataFrame(
        [("b", "y", 0.4, "sd", 0.1, 0.0005), ("b", "w", 0.01, "share", 0.1, 0.9)],
        columns=["prior", "variable", "distance", "unit", "chance", "p.value"],
    )
    assert "y by 0.4 sd under 'b' (by chance up to 0.1); those of w by no more" in values_moved(moved, "a")
    many = pd.concat([moved] * 60, ignore_index=True)
    assert "y by 0.4 sd under 'b'" in values_moved(many, "a") and "w by 1" not in values_moved(many, "a")
    assert "no more than imputations under one prior differ by chance" in values_moved(moved.iloc[1:], "a")
    assert set(small.distances["prior"]) == {"loose", "tight"} and set(small.distances["variable"]) == {
        "y1",
        "y2",
    }
    for line in small.verdict:
        assert line in unfolded(str(small)) and line in unfolded(small.report())
    assert (
        "Imputation model (share" in small.report()
        and "Whether an interval includes 0" in small._repr_html_()
    )


def test_the_reference_is_compared_with_itself_nowhere(small):
    """Distances are those of the imputed values that the result has, prior by prior."""
    y2 = {name: imp.values("y2") for name, imp in small.imputations.items()}
    sd = np.nanstd(model().data.numeric("y2"))
    for row in small.distances[small.distances["variable"] == "y2"].itertuples():
        right = stats.wasserstein_distance(y2[row.prior].ravel(), y2["default"].ravel()) / sd
        assert row.distance == pytest.approx(right, rel=0.03)


# resumed


def test_a_grid_that_was_stopped_goes_on_with_the_same_numbers(tmp_path, monkeypatch):
    """Killed under the third prior: the first two are read; tables and events are those of an undisturbed run. What the
    imputations depend on is drawn again where it differs; the analysis is not part of it."""
    options = {"analysis": ANALYSIS, "m": 6, "seed": 5, "draws": 60, "tune": 20, "chains": 2}
    whole = bi.sensitivity(model(), GRID, **options)
    drawn, stop, original = [], [True], bi.JointNormal.impute

    def impute(self, m, **more):
        if self.priors.name == "tight" and stop[0]:
            raise MemoryError
        drawn.append(self.priors.name)
        return original(self, m, **more)

    def run_again(data=None, grid=GRID, **changed):
        drawn.clear()
        return bi.sensitivity(data or model(), grid, folder=tmp_path, **{**options, **changed}), list(drawn)

    monkeypatch.setattr(bi.JointNormal, "impute", impute)
    with pytest.raises(MemoryError):
        run_again()
    assert drawn == ["default", "loose"] and len(list(tmp_path.glob("*.nc"))) == 2
    stop[0] = False
    (tmp_path / "unfinished-tight.nc").write_bytes(b"half a file")
    result, again = run_again(workers=1)
    assert again == ["tight"]
    for name in ("table", "model", "distances", "events"):
        pd.testing.assert_frame_equal(
            pd.DataFrame(getattr(result, name)), pd.DataFrame(getattr(whole, name)), check_exact=True
        )
    assert (result.imputations["loose"].values("y1") == whole.imputations["loose"].values("y1")).all()
    other, again = run_again(analysis="y1 ~ y2 + (1 | study)")
    assert again == [] and set(other.table["term"]) != set(result.table["term"])
    for changed in ({"seed": 6}, {"draws": 61}, {"data": model(seed=2)}):
        assert run_again(grid={"loose": GRID["loose"]}, **changed)[1] == ["loose"]
    with pytest.raises(SpecificationError, match="folder= needs seed="):
        bi.sensitivity(model(), GRID, analysis=ANALYSIS, folder=tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(SpecificationError, match="is a file"):
        bi.sensitivity(model(), GRID, folder=tmp_path / "file", **options)


def test_a_single_chain_is_judged_by_its_effective_sample_size():
    """It has no R-hat; this was an internal error."""
    result = bi.sensitivity(
        model(), [pr.default(), pr.pan()], analysis=ANALYSIS, m=2, seed=1, chains=1, draws=20, tune=10
    )
    events = result.events[result.events["kind"] == "not converged"]
    assert len(events) and events["message"].str.match(r"ESS \d+ \(limit \d+\); ask for longer chains").all()
    rows = result.model[result.model["prior"] == "default"]
    worst = rows.loc[rows["ess_bulk"].idxmin(), "term"]
    assert worst in set(events["where"])
