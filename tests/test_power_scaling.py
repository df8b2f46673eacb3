"""Power-scaling: slopes and weights against refits at powered priors, closed forms, and variants that must fail.

Levels are of a whole test, shared between its comparisons (Bonferroni).
"""

import matplotlib
import numpy as np
import pandas as pd
import pytest
from arviz_stats.base import array_stats
from scipy import stats

matplotlib.use("Agg")

import matplotlib.pyplot as plt

import bayesimp as bi
from bayesimp import priors as pr
from bayesimp.analysis.monte_carlo import rubin_numbers
from bayesimp.errors import SpecificationError
from bayesimp.plots._style import BLUE, ORANGE
from bayesimp.priors.records import priors_from_dict, priors_to_dict
from bayesimp.sensitivity_analysis.power import NUMBERS, pareto_limit, slopes, weighted
from tests.test_sensitivity import ANALYSIS, PSI, SIGMA, model
from tests.unfolding import unfolded

LEVEL = 0.001
RNG = 5
EVERY = (
    pr.HuangWand(), pr.InverseWishart(4.0), pr.LKJ(2.0), pr.LKJ(1.5, pr.Exponential()), pr.Diagonal(pr.HalfT(nu=2)),
    pr.Diagonal(pr.HalfNormal()), pr.Diagonal(pr.Exponential()), pr.Diagonal(pr.InverseWishart(2.0)),
)  # fmt: skip


def limit(comparisons):
    return stats.norm.isf(LEVEL / comparisons / 2)


@pytest.fixture(autouse=True)
def close():
    yield
    plt.close("all")


# powers of priors


@pytest.mark.parametrize("d", [1, 3])
@pytest.mark.parametrize("prior", EVERY, ids=repr)
def test_a_power_multiplies_the_log_density_of_standard_deviations_and_correlations(prior, d):
    """log p_a(s, R) = a log p(s, R) + constant at draws; the same in other units; gradient by differences."""
    sds = np.arange(1.0, d + 1)
    one, power = pr.resolve(prior, sds, "Psi"), pr.resolve(pr.Powered(prior, 1.7), sds, "Psi")
    S = one.draw(np.random.default_rng(RNG), d, 6)
    assert np.ptp(power.log_density(S, "Psi") - 1.7 * one.log_density(S, "Psi")) < 1e-10
    unit = np.arange(1.0, d + 1) * 10
    moved, scaled = power.rescale(unit), S / np.outer(unit, unit)
    assert np.ptp(moved.log_density(scaled, "Psi") - 1.7 * one.log_density(S, "Psi")) < 1e-10
    density = power.density(d, "Psi")
    at, step = density.free(S[0]), 1e-6
    differences = [
        (density(at + step * e)[1] - density(at - step * e)[1]) / (2 * step) for e in np.eye(len(at))
    ]
    np.testing.assert_allclose(density(at)[2](np.zeros((d, d))), differences, rtol=1e-5, atol=1e-6)
    # the power of the density of variances would differ
    wrong = 1.7 * (one.log_density(S, "Psi") - np.log(np.diagonal(S, axis1=1, axis2=2)).sum(axis=1))
    assert np.ptp(power.log_density(S, "Psi") - wrong) > 1e-3


def test_powers_that_are_improper_or_unknown_are_refused():
    with pytest.raises(
        SpecificationError,
        match=r"Sigma.*nu = 1.*improper when raised to the power 0.5. Use a power above 0.5",
    ):
        model().with_priors(pr.powered(pr.iw(1.0), 0.5))
    with pytest.raises(SpecificationError, match=r"LKJ.*below 2"):
        pr.resolve(pr.Powered(pr.LKJ(0.5), 2.5), np.ones(2), "Psi")
    with pytest.raises(SpecificationError, match="power must be a finite number above 0"):
        pr.powered("default", 0.0)
    assert pr.powered("pan", 1.0) == pr.pan()
    made = pr.powered(pr.Priors(beta=pr.Contextual(0.5, pr.Normal(0, 2)), name="mine"), 4.0)
    assert made.name == "mine ^ 4" and made.beta == pr.Contextual(0.25, pr.Normal(0, 1.0))
    assert priors_from_dict(priors_to_dict(made), "priors") == made  # files
    assert pr.Weak().powered(4.0) == pr.Weak(1.25, 2.5)


# numbers


def conjugate(seed, M=4000, s2=4.0):
    """theta ~ N(0, 1), log g = -(theta - 1)^2 / (2 s2): at a, precision 1 + (a - 1)/s2. Q = theta + N(0, 1), U = 1/2."""
    rng = np.random.default_rng(seed)
    theta = rng.standard_normal(M)
    Q = (theta + rng.standard_normal(M))[:, None]

    def exact(a):
        precision = 1 + (a - 1) / s2
        Qbar, b = (a - 1) / s2 / precision, 1 / precision + 1
        made = rubin_numbers(
            np.array([[Qbar]]), np.array([[0.5]]), np.array([[b]]), M, np.array([50.0]), 0.95
        )
        return {name: made[name][0, 0] for name in NUMBERS}

    return Q, np.full((M, 1), 0.5), -((theta - 1) ** 2) / (2 * s2), exact


def test_slopes_and_weights_are_those_of_a_conjugate_model():
    """Four numbers: slopes at 1 in their Monte Carlo errors. Powers 0.5 and 2: how far the estimate moves."""
    Q, U, log_g, exact = conjugate(1)
    dfcom, step = np.array([50.0]), 1e-4
    made = slopes(Q, U, log_g, dfcom, 0.95, 4)
    true = {n: (exact(2**step)[n] - exact(2**-step)[n]) / (2 * step) for n in NUMBERS}
    z = {n: (made.slope[n][0] - true[n]) / made.mc_error[n][0] for n in NUMBERS}
    assert max(map(abs, z.values())) < limit(6)
    for power in (0.5, 2.0):
        at = weighted(Q, U, log_g, power, dfcom, 0.95)
        moved = at.numbers["estimate"][0] - Q.mean() - (exact(power)["estimate"] - exact(1)["estimate"])
        assert (
            abs(moved / at.mc_error[0]) < limit(6)
            and at.pareto_k < pareto_limit(len(Q))
            and 0 < at.ess < len(Q)
        )
    # weights of other draws: nothing moves, which is many Monte Carlo errors away
    for wrong in (np.roll(log_g, 1), np.zeros_like(log_g)):
        made = slopes(Q, U, wrong, dfcom, 0.95, 4)
        error = max(made.mc_error["estimate"][0], 1e-3)
        assert abs(made.slope["estimate"][0] - true["estimate"]) / error > 10


def test_monte_carlo_errors_of_slopes_are_their_spread_over_runs():
    """50 runs of 400: the mean of reported errors over the spread, whose relative error is about 10 %."""
    made = [slopes(*conjugate(seed, 400)[:3], np.array([50.0]), 0.95, 4) for seed in range(50)]
    for name in NUMBERS:
        spread = np.std([m.slope[name][0] for m in made], ddof=1)
        assert 0.7 < np.mean([m.mc_error[name][0] for m in made]) / spread < 1.4


def test_successive_draws_that_are_correlated_count_less():
    """An AR(1) series with correlation 0.9: the error of the slope is above that of independent draws."""
    rng = np.random.default_rng(3)
    theta = np.zeros((1000, 4))
    for k in range(1, 1000):
        theta[k] = 0.9 * theta[k - 1] + np.sqrt(1 - 0.81) * rng.standard_normal(4)
    Q, U = theta.reshape(-1, 1), np.ones((4000, 1))
    right = slopes(Q, U, Q[:, 0], np.array([np.inf]), 0.95, 4).mc_error["estimate"][0]
    shuffled = rng.permutation(4000)
    independent = slopes(Q[shuffled], U, Q[shuffled, 0], np.array([np.inf]), 0.95, 4).mc_error["estimate"][0]
    assert right > 2 * independent


# against refits


def one_variable(times=1):
    """Twenty studies, y1 missing in fifteen of them, under an inverse gamma prior that pulls their variance far down."""
    frame = bi.simulate_studies([5] * 20, SIGMA / 50, PSI, missing={"y1": range(5, 20)}, seed=1)[
        ["study", "y1", "y3"]
    ]
    copies = [frame.assign(study=frame["study"].astype(str) + f"-{k}") for k in range(times)]
    data = bi.IncompleteData(pd.concat(copies, ignore_index=True), cluster="study")
    strong = pr.Priors(pr.InverseWishart(4.0, 0.1), pr.InverseWishart(4.0, 0.2), name="strong")
    return bi.JointNormal(data, "y1 ~ y3 + (1 | study)").with_priors(strong)


def answer(table):
    """Mean of y1 in all studies, and the spread of the means of studies that lack it, which follows Psi."""
    means = table["y1"].to_numpy()[:100].reshape(20, 5).mean(axis=1)
    return {"mean": means.mean(), "spread": np.log(np.std(means[5:]))}, np.diag([1.0, 0.1])


@pytest.fixture(scope="module")
def strong():
    imp = one_variable().impute(1500, seed=11, draws=1500)
    return imp, bi.power_scaling(imp, analysis=answer)


def spread(result, source, power):
    """The second answer at a power by weights, and its Monte Carlo error."""
    rows = result.powers[(result.powers["source"] == source) & (result.powers["power"] == power)].iloc[1]
    return rows["estimate"], np.sqrt(rows["std.error"] ** 2 - 0.1) / np.sqrt(rows["ess"])


def refitted(times, prior, seed):
    """The same in a refit, and all its answers."""
    imp = one_variable(times).with_priors(prior).impute(1500, seed=seed, draws=1500)
    assert imp.attrs["sampler"] == "gibbs"  # powers are members of the family here, not NUTS
    pooled = imp.analyse(answer).pool()
    return pooled.estimate[1], pooled.mc_error[1]


def test_weights_agree_with_refits_at_powers_of_the_prior(strong):
    """The answer at both powers in Monte Carlo standard errors. From one power to the other it moves so far that weights
    of one (forgotten), of the inverse power (opposite) and those of the likelihood (swapped) are refuted."""
    _, result = strong
    prior = one_variable().priors
    fits = {a: refitted(1, pr.powered(prior, a), 12) for a in (0.5, 2.0)}
    made = {a: spread(result, "prior", a) for a in fits}
    z = [(made[a][0] - fits[a][0]) / np.hypot(made[a][1], fits[a][1]) for a in fits]
    assert np.abs(z).max() < limit(5)

    def moved(numbers):
        return numbers[2.0][0] - numbers[0.5][0], np.hypot(numbers[2.0][1], numbers[0.5][1])

    true, error = moved(fits)
    wrong = {
        "forgotten": (0.0, 0.0),
        "opposite": moved({a: made[1 / a] for a in made}),
        "swapped": moved({a: spread(result, "likelihood", a) for a in made}),
    }
    assert all(abs(true - move) / np.hypot(error, own) > limit(5) for move, own in wrong.values())


def test_weights_agree_with_the_table_twice_as_the_square_of_the_likelihood(strong):
    """p(y | theta)^2 is the likelihood of two copies of every study; those of the prior are refuted."""
    _, result = strong
    fit, made, swapped = (
        refitted(2, one_variable().priors, 13),
        spread(result, "likelihood", 2.0),
        spread(result, "prior", 2.0),
    )
    assert abs(made[0] - fit[0]) / np.hypot(made[1], fit[1]) < limit(2)
    assert abs(swapped[0] - fit[0]) / np.hypot(swapped[1], fit[1]) > limit(2)


def test_slopes_of_parameters_agree_with_refits(strong):
    """The slope of the mean of sd between y1 against the difference of refits at sqrt 2 and 1 / sqrt 2."""
    _, result = strong
    row = result.parameters.set_index(["source", "term"]).loc[("prior", "sd between y1")]
    means, errors = [], []
    for power in (2**0.5, 2**-0.5):
        refit = (
            one_variable()
            .with_priors(pr.powered(one_variable().priors, power))
            .impute(4, seed=14, draws=4000)
        )
        sd = np.sqrt(refit.tree["posterior"]["Psi"].values[:, :, 0, 0])
        means.append(sd.mean())
        errors.append(sd.std() / np.sqrt(array_stats.ess(sd, method="mean")))
    z = (row["moves"] * row["sd"] - (means[0] - means[1])) / np.hypot(
        row["mc.error"] * row["sd"], np.hypot(*errors)
    )
    assert abs(z) < limit(1) and abs(row["moves"]) > 5 * row["mc.error"] and row["psense"] > 0.05


# wiring


def test_log_priors_are_those_of_the_draws_behind_the_imputations():
    """The rows of `pooled` are the slopes for the log prior at the parameters that the run itself imputes from; at
    neighbouring draws they are not. 3 chains, every 7th draw."""
    imp = model().impute(30, seed=3, chains=3, draws=70)
    result = bi.power_scaling(imp, analysis=ANALYSIS)
    fits, run = imp.analyse(ANALYSIS), imp.run
    scale = run.model.grouping.working.scale
    _, Sigma_w, Psi_w = run.parameters(range(30))
    psi = np.stack([scale.Psi(one) for one in Psi_w])
    behind = run.model.parameter_priors["Sigma"].log_density(
        np.stack([scale.Sigma(one) for one in Sigma_w]), "Sigma"
    )
    behind += run.model.parameter_priors["Psi"].log_density(psi, "Psi")
    Q, U, dfcom = fits.estimates, np.diagonal(fits.covariances, axis1=1, axis2=2), fits.pool().dfcom
    by_hand, shifted = (slopes(Q, U, log_g, dfcom, 0.95, 3) for log_g in (behind, np.roll(behind, 3)))
    rows = result.pooled[(result.pooled["source"] == "prior") & result.pooled["term"].isin(fits.names)]
    np.testing.assert_allclose(rows["moves"], by_hand.slope["estimate"] / fits.pool().std_error, rtol=1e-6)
    np.testing.assert_allclose(
        rows["low.moves"], by_hand.slope["conf.low"] / fits.pool().std_error, rtol=1e-6
    )
    assert np.abs(rows["moves"] - shifted.slope["estimate"] / fits.pool().std_error).max() > 1e-3


def exam(**more):
    frame = bi.load_exam().iloc[:300].assign(room=lambda t: np.arange(300) % 9, **more)
    return bi.IncompleteData(frame, cluster=["school", "room"] if not more else "school")


def test_several_grouping_factors_have_both():
    """The likelihood has effects integrated out, also where it is not a product over clusters."""
    formula = "written + course ~ gender + (1 | school) + (1 | room)"
    imp = bi.JointNormal(exam(), formula).impute(8, seed=1, draws=60, tune=20)
    result = bi.power_scaling(imp, analysis="written ~ course + (1 | school)")
    assert set(result.pooled["source"]) == {"prior", "likelihood"}
    assert "given the drawn cluster effects" not in unfolded(str(result))
    assert set(imp.run.pointwise("log_prior", bi.contract.TreeRequest()).data_vars) == {
        "beta", "Sigma", "Psi_school", "Psi_room",
    }  # fmt: skip
    posterior = imp.tree["posterior"]
    own = imp.model.parameter_priors["Psi_room"].log_density(posterior["Psi_room"].values, "Psi")
    np.testing.assert_allclose(imp.run.pointwise("log_prior", bi.contract.TreeRequest())["Psi_room"], own)


def test_a_joint_glmm_has_both():
    data = bi.IncompleteData(bi.load_exam().iloc[:300], cluster="school")
    made = bi.JointGLMM(data, "written ~ course + gender + (1 | school)")
    imp = made.impute(8, seed=1, draws=40, tune=20, keep_effects=True)
    result = bi.power_scaling(imp, analysis="written ~ course + gender + (1 | school)")
    assert set(result.pooled["source"]) == {"prior", "likelihood"}
    assert np.isfinite(result.pooled["moves"]).all()
    assert "given the drawn cluster effects and missing cells" in unfolded(str(result))


def slope_of_spread(result):
    """Of the second answer, in the prior: the slope in its own units, and its Monte Carlo error."""
    row = result.pooled[result.pooled["source"] == "prior"].iloc[1]
    return row["moves"] * row["std.error"], row["mc.error"] * row["std.error"]


def test_chained_equations_of_one_variable_are_a_posterior(strong):
    """FCS with one incomplete variable and the priors of JointNormal moves as JointNormal does, parameter and answer;
    with log priors of other imputations (rolled) it does not."""
    _, joint = strong
    model = one_variable()
    fcs = bi.FCS(model.data, predictors="y1 ~ y3 + (1 | study)").with_priors(model.priors)
    imp = fcs.impute(m=300, cycles=12, tune=6, seed=3, progress=False)
    made = bi.power_scaling(imp, analysis=answer)
    assert set(made.pooled["source"]) == {"prior", "likelihood"} and "drawn cluster effects" in str(made)
    assert not (made.events["kind"] == "too few imputations").any()  # one from each chain
    true, error = slope_of_spread(joint)
    ours, own = slope_of_spread(made)
    assert abs(ours - true) / np.hypot(error, own) < limit(2)
    rows = [r.parameters.set_index(["source", "term"]).loc[("prior", "sd between y1")] for r in (joint, made)]
    moves, errors = ([row[name] * row["sd"] for row in rows] for name in ("moves", "mc.error"))
    assert abs(moves[1] - moves[0]) / np.hypot(*errors) < limit(2) and abs(moves[0]) > 5 * errors[0]
    log = imp.run.pointwise("log_prior", bi.contract.TreeRequest())
    behind = sum(v.values[:, -1] for v in log.data_vars.values())
    fits = imp.analyse(answer)
    Q, U = fits.estimates, np.diagonal(fits.covariances, axis1=1, axis2=2)
    right, rolled = (
        slopes(Q, U, log_g, fits.pool().dfcom, 0.95, 300).slope["estimate"][1]
        for log_g in (behind, np.roll(behind, 1))
    )
    np.testing.assert_allclose(right, ours, rtol=1e-6)
    assert abs(rolled - true) / np.hypot(error, own) > limit(2)


def test_joint_latent_moves_as_the_joint_normal_model_does(strong):
    """All variables normal: the same posterior, prior and answer; and with levels both sources are there."""
    _, joint = strong
    model = one_variable()
    latent = bi.JointLatent(model.data, "y1 ~ y3 + (1 | study)", model.priors)
    imp = latent.impute(1500, seed=5, draws=1500, thin=1, keep_effects=True, progress=False)
    made = bi.power_scaling(imp, analysis=answer)
    assert set(made.pooled["source"]) == {"prior", "likelihood"} and "drawn cluster effects" in str(made)
    (true, error), (ours, own) = slope_of_spread(joint), slope_of_spread(made)
    assert abs(ours - true) / np.hypot(error, own) < limit(1) and abs(true) > 5 * error
    rows = [r.parameters.set_index(["source", "term"]).loc[("prior", "sd between y1")] for r in (joint, made)]
    moves, errors = ([row[name] * row["sd"] for row in rows] for name in ("moves", "mc.error"))
    assert abs(moves[1] - moves[0]) / np.hypot(*errors) < limit(1)


def test_joint_latent_with_levels_has_both_sources():
    data = bi.IncompleteData(
        bi.load_exam().iloc[:200].assign(top=lambda t: 1.0 * (t["written"] > 50)),
        "school",
        {"top": "bernoulli"},
    )
    model = bi.JointLatent(data, "course + top ~ gender + (1 | school)")
    imp = model.impute(8, seed=1, draws=40, tune=20, thin=1, keep_effects=True, progress=False)
    result = bi.power_scaling(imp, analysis="course ~ gender + (1 | school)")
    assert (
        set(result.pooled["source"]) == {"prior", "likelihood"} and np.isfinite(result.pooled["moves"]).all()
    )
    without = model.impute(8, seed=1, draws=40, tune=20, thin=1, progress=False)
    result = bi.power_scaling(without, analysis="course ~ gender + (1 | school)")
    assert set(result.pooled["source"]) == {"prior"} and "keep_effects=True" in str(result)


def test_engines_without_a_posterior_say_what_to_do_instead():
    data = bi.IncompleteData(bi.load_exam().iloc[:300], cluster="school")
    imp = bi.FCS(data).impute(2, seed=1, cycles=2)
    with pytest.raises(
        SpecificationError, match=r"no joint posterior.*az\.psense_summary.*bi\.priors\.powered"
    ):
        bi.power_scaling(imp, analysis="written ~ course + (1 | school)")
    # and that is possible: conditional models have one variance between clusters, whose power is half-t
    half = bi.FCS(data).with_priors(pr.powered("default", 0.5))
    assert "half-t(0.5)" in unfolded(repr(half)) and "pymc" not in unfolded(repr(half)).lower()
    imp._run = None
    with pytest.raises(SpecificationError, match="do not carry their chains"):
        bi.power_scaling(imp, analysis="written ~ course + (1 | school)")


def test_too_few_imputations_are_refused(strong):
    """With two imputations every slope would have a Monte Carlo error of zero."""
    imp, _ = strong
    with pytest.raises(SpecificationError, match=r"with 2 imputations neither a slope.*imp.extend\(200\)"):
        bi.power_scaling(imp.run.imputations(2), analysis="y ~ x + (1 | g)")


def test_words_and_figure(strong):
    imp, result = strong
    assert len(result.events) == 0 or set(result.events["kind"]) <= {"not scaled"}
    assert "If the prior counted twice" in unfolded(
        str(result)
    ) and "If the likelihood counted twice" in unfolded(str(result))
    assert "sd between y1 follows the prior most" in str(result) and "In standard errors" in repr(result)
    figure = result.plot()
    of_panels = ("moves", "mc.error"), ("low.moves", "mc.low"), ("high.moves", "mc.high")
    assert [ax.get_title("left") for ax in figure.axes] == ["estimate", "lower limit", "upper limit"]
    for ax, (moves, error) in zip(figure.axes, of_panels, strict=True):
        for drawn, (source, colour) in zip(
            ax.containers, (("prior", ORANGE), ("likelihood", BLUE)), strict=True
        ):
            rows = result.pooled[result.pooled["source"] == source]
            points, _, (bars,) = drawn
            assert drawn.get_label() == source and points.get_color() == colour
            np.testing.assert_allclose(points.get_xdata(), rows[moves])
            ends = np.array([[x for x, _ in segment] for segment in bars.get_segments()])
            np.testing.assert_allclose(ends, rows[[moves]].to_numpy() + 2 * np.outer(rows[error], [-1, 1]))
    assert [t.get_text() for t in figure.axes[0].get_yticklabels()] == ["mean", "spread"]
    few = bi.power_scaling(imp.run.imputations(20), analysis=answer)
    assert "With 20 imputations a move of 0.05 cannot be told from chance" in unfolded(str(few))
    for bad, words in (
        ({"powers": (0.0,)}, "powers must be a finite number above 0"),
        ({"powers": ()}, "at least one"),
    ):
        with pytest.raises(SpecificationError, match=words):
            bi.power_scaling(imp, analysis=answer, **bad)
    with pytest.raises(SpecificationError, match="one fit for each of the 1500"):
        bi.power_scaling(imp, analysis=imp.run.imputations(20).analyse(answer))
