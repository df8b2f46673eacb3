"""Where priors of Psi are stated, what they imply for slopes far from 0, and where that is reported."""

from functools import cache

import numpy as np
import pandas as pd
import pytest
from arviz_stats.base import array_stats
from numpy.testing import assert_allclose

import bayesimp as bi
from bayesimp import priors as pr
from bayesimp.fcs import scale as chained_block
from bayesimp.joint import scale as working
from tests.test_origin import base, joint, origin, shifted
from tests.unfolding import unfolded

YEARS = "y ~ year + (1 + year | c)"


@cache
def growth(start, seed=0, slope_sd=6.0):
    """30 clusters of 10 years from `start`, residual sd 5, a quarter of y missing."""
    rng = np.random.default_rng(seed)
    c = np.repeat(np.arange(30), 10)
    t = np.tile(np.arange(10.0), 30)
    y = 20 + 3 * t + rng.normal(0, 10, 30)[c] + rng.normal(0, slope_sd, 30)[c] * t + rng.normal(0, 5, 300)
    y[rng.random(300) < 0.25] = np.nan
    return bi.IncompleteData(
        pd.DataFrame({"c": [f"c{i}" for i in c], "year": t + start, "y": y}), cluster="c"
    )


def slope_sds(engine, start, seed=0):
    if engine == "joint":
        imp = bi.JointNormal(growth(start, seed), YEARS).impute(4, seed=1, draws=400, progress=False)
        return np.sqrt(imp.tree["posterior"]["Psi"].values[..., 1, 1])
    imp = bi.FCS(growth(start, seed), predictors=YEARS).impute(8, seed=1, cycles=100, progress=False)
    return np.sqrt(imp.tree["posterior"]["Psi_y"].values[..., 1, 1])


def contains_the_truth(sds, truth=6.0):
    low, high = np.quantile(sds, [0.005, 0.995])
    return low < truth < high


@pytest.mark.parametrize("engine", ["joint", "fcs"])
def test_slopes_on_years_are_as_large_as_they_are(engine):
    """99 % intervals of 5 tables, from 2015 as from 0; a prior at year 0 says .01 where the truth is 6."""
    assert all(
        contains_the_truth(slope_sds(engine, start, seed)) for start in (0.0, 2015.0) for seed in range(5)
    )


def test_a_prior_at_year_0_takes_the_slopes_away(monkeypatch):
    monkeypatch.setattr(working, "_centre", lambda Z, random: (Z, np.eye(Z.shape[1])))
    assert contains_the_truth(slope_sds("joint", 0.0))
    assert slope_sds("joint", 2015.0).max() < 0.5
    monkeypatch.setattr(chained_block, "_intercept", lambda part: -1)
    assert slope_sds("fcs", 2015.0).max() < 0.5


def test_a_score_of_mean_100_mixes_as_one_of_mean_0():
    """R-hat of Psi: 1.02 or less, 1.2 with the prior at 0."""
    rng = np.random.default_rng(3)
    c = np.repeat(np.arange(20), 15)
    x = rng.normal(0, 15, 300)
    y = 50 + 0.3 * x + rng.normal(0, 4, 20)[c] + rng.normal(0, 0.15, 20)[c] * x + rng.normal(0, 6, 300)
    y[rng.random(300) < 0.3] = np.nan
    data = bi.IncompleteData(pd.DataFrame({"c": c.astype(str), "x": x + 100, "y": y}), cluster="c")
    imp = bi.FCS(data, predictors="y ~ x + (1 + x | c)").impute(20, seed=1, cycles=100, progress=False)
    Psi = imp.tree["posterior"]["Psi_y"].values
    assert max(array_stats.rhat(Psi[..., a, b], method="rank") for a, b in ((0, 0), (0, 1), (1, 1))) < 1.05


@pytest.mark.parametrize("prior", ["fixed", "inverse-Wishart"])
def test_statements_about_psi_itself_keep_their_meaning(prior):
    """Psi fixed, or IW(nu, V) of Psi as reported: another origin is another matrix, and then the same model."""
    A = np.kron(np.eye(2), origin({"x": 2000.0}, ["Intercept", "x"]))
    Psi = 0.3 * np.eye(4) + 0.1
    there = A @ Psi @ A.T  # of the effects where x is 2000 larger
    if prior == "fixed":
        one, other = (pr.Priors(Psi=pr.Fixed((S + S.T) / 2)) for S in (Psi, there))
    else:
        B = np.linalg.inv(A)
        one, other = (
            pr.Priors(Psi=pr.InverseWishart(6.0, V, centred=False))
            for V in (np.linalg.inv(Psi), B.T @ np.linalg.inv(Psi) @ B)
        )
    options = {"seed": 3, "chains": 2, "draws": 30, "tune": 5, "progress": False}
    near, far = (
        joint(base(), one).impute(4, **options),
        joint(shifted(base(), {"x": 2000.0}), other).impute(4, **options),
    )
    assert_allclose(far.values("y"), near.values("y"), rtol=0, atol=1e-5)
    if prior == "fixed":
        assert_allclose(near.tree["posterior"].Psi.values, np.broadcast_to(Psi, (2, 30, 4, 4)), rtol=1e-10)
    wrong = joint(shifted(base(), {"x": 2000.0}), one).impute(4, **options)
    assert np.abs(wrong.values("y") - near.values("y")).max() > 0.01


def test_an_inverse_wishart_prior_at_a_far_origin_is_said():
    iw = pr.Priors(Psi=pr.InverseWishart(None, 1.0, centred=False))
    notes = {}
    for start in (0.0, 2015.0):
        for engine in (
            bi.JointNormal(growth(start), YEARS, iw),
            bi.FCS(growth(start), methods=bi.methods.Bayes(iw), predictors=YEARS),
        ):
            imp = engine.impute(
                1,
                seed=1,
                progress=False,
                **({"draws": 2} if "Joint" in type(engine).__name__ else {"cycles": 2}),
            )
            events = imp.events
            notes[start, type(engine).__name__] = list(
                events.loc[events["kind"] == "prior matters", "message"]
            )
    assert notes[0.0, "JointNormal"] == notes[0.0, "FCS"] == []
    for engine in ("JointNormal", "FCS"):
        (text,) = notes[2015.0, engine]
        for word in ("year = 0", "year = 2019.5", "1.36e+05", "Centre the column", "centred=False"):
            assert word in text
    assert not (bi.JointNormal(growth(2015.0), YEARS, pr.pan()).events)


def test_the_printed_prior_says_where_it_is():
    text = unfolded(repr(bi.JointNormal(growth(2015.0), YEARS)))
    assert "of the effects at year = 2019.5" in text
    assert "of the effects at" not in repr(bi.JointNormal(growth(2015.0), "y ~ year + (1 | c)"))
    assert "of the effects at" not in repr(bi.JointNormal(growth(2015.0), "y ~ year + (0 + year | c)"))
    assert unfolded(repr(joint(base()))).count(" at x = 0.5") == 1  # two responses, one predictor


def test_without_an_intercept_the_origin_is_part_of_the_model():
    by, options = {"x": 2000.0}, {"seed": 3, "draws": 20, "progress": False}
    one, other = (
        bi.JointNormal(bi.IncompleteData(f, cluster="g"), "y ~ x + (0 + x | g)")
        for f in (base(), shifted(base(), by))
    )
    for model in (one, other):
        assert not model.grouping.only.working.scale.is_centred
    assert np.abs(one.impute(4, **options).values("y") - other.impute(4, **options).values("y")).max() > 0.01


def test_prior_draws_are_at_the_origin_of_what_they_stand_beside():
    """Prior and posterior of one Psi: draws of the prior are C S C', S of the prior at the centre."""
    from bayesimp.diagnostics.components import components
    from bayesimp.priors.draws import draw_covariance

    data = growth(2015.0)
    for model, name, options in (
        (bi.JointNormal(data, YEARS), "Psi", {"draws": 50}),
        (bi.FCS(data, predictors=YEARS), "Psi_y", {"cycles": 20}),
    ):
        prior = model.parameter_priors[name]
        S = draw_covariance(np.random.default_rng(0), prior.prior, 2, 4000)
        there = draw_covariance(np.random.default_rng(0), prior, 2, 4000)
        m = data.frame["year"].mean()
        assert_allclose(there[:, 1, 1], S[:, 1, 1], rtol=1e-12)
        assert_allclose(there[:, 0, 0], S[:, 0, 0] - 2 * m * S[:, 0, 1] + m**2 * S[:, 1, 1], rtol=1e-6)
        imp = model.impute(4, seed=1, progress=False, **options)
        shown = components(imp)
        intercept = next(c for key, c in shown.items() if key.startswith("sd between") and "year" not in key)
        assert 0.2 < np.median(intercept.prior) / np.median(intercept.posterior) < 20  # thousands, both
        assert np.median(intercept.posterior) > 5000


def test_the_pymc_model_is_the_same_posterior():
    """Log density of the model in the table's units against the one that is sampled, on the working scale."""
    import pymc as pm

    from bayesimp.joint.density import JointDensity
    from bayesimp.kernels.covariance.free import to_free

    for priors in (
        pr.default(),
        pr.Priors(pr.LKJ(2.0), pr.LKJ(2.0)),
        pr.Priors(Psi=pr.InverseWishart(5.0, centred=False)),
    ):
        model = joint(shifted(base(), {"x": 30.0}), priors)
        scale, working = model.grouping.only.working.scale, model.grouping.only.working
        ours = JointDensity(working.statistics, model.grouping.only.working_priors)
        theirs = model.pymc_model()
        values = [theirs.rvs_to_values[v] for v in theirs.free_RVs]
        density = pm.pytensorf.compile(values, theirs.logp(jacobian=False), mode="FAST_COMPILE")
        rng, gaps = np.random.default_rng(1), []
        for _ in range(3):
            at = ours.expand(0.3 * rng.normal(size=ours.size))
            flat = ours.flatten(**at)
            jacobian = sum(_log_jacobian(part, n) for part, n in _parts(ours, flat, at))
            natural = {
                "beta": scale.beta(at["beta"]),
                "Sigma": scale.Sigma(at["Sigma"]),
                "Psi": scale.Psi(at["Psi"]),
            }
            natural["Psi_centred"] = scale.at_centre(natural["Psi"])
            point = (
                natural[v.name]
                if v.ndim < 2 or v.name == "beta"
                else to_free(natural[v.name], not isinstance(priors.Psi, pr.LKJ))
                for v in theirs.free_RVs
            )
            gaps.append(density(*point) - (ours(flat)[0] - jacobian))
        assert_allclose(gaps, gaps[0], atol=1e-5)
        assert ("Psi_centred" in [v.name for v in theirs.free_RVs]) == (
            not isinstance(priors.Psi, pr.InverseWishart)
        )


def _parts(density, flat, at):
    cut = density._cuts
    return ((flat[cut[0] : cut[1]], at["Sigma"]), (flat[cut[1] :], at["Psi"]))


def _log_jacobian(free, S):
    from bayesimp.kernels.covariance.free import from_free

    return next(
        log_jacobian
        for made, log_jacobian in (
            from_free(np.ascontiguousarray(free), precision) for precision in (True, False)
        )
        if np.allclose(made, S)
    )


@pytest.mark.parametrize("engine", ["joint", "fcs"])
def test_far_from_0_runs_are_kept_and_go_on_exactly(engine, tmp_path):
    if engine == "joint":
        imp = bi.JointNormal(growth(2015.0), YEARS).impute(2, seed=1, chains=2, draws=20, progress=False)
        longer = bi.JointNormal(growth(2015.0), YEARS).impute(4, seed=1, chains=2, draws=40, progress=False)
    else:
        imp = bi.FCS(growth(2015.0), predictors=YEARS).impute(2, seed=1, cycles=6, progress=False)
        longer = bi.FCS(growth(2015.0), predictors=YEARS).impute(4, seed=1, cycles=6, progress=False)
    imp.save(tmp_path / "run.nc")
    for result in (imp, bi.load(tmp_path / "run.nc")):
        more = result.extend(2)
        np.testing.assert_array_equal(more.values("y"), longer.values("y"))
        for name, array in longer.tree["posterior"].data_vars.items():
            np.testing.assert_array_equal(more.tree["posterior"][name].values, array.values)


def test_the_diagnosis_of_conditional_models_is_that_at_the_centre():
    """Slopes on centred columns, variances of intercepts at the mean: the same table from x + 2000."""
    near, far = (
        bi.compatibility.diagnose(joint(f).impute(1, seed=3, chains=2, draws=60, progress=False)).table
        for f in (base(), shifted(base(), {"x": 2000.0}))
    )
    numbers = ["lowest", "highest", "one_value", "sd", "miss"]
    assert_allclose(far[numbers], near[numbers], rtol=1e-3, atol=1e-6)
