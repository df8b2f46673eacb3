"""Values missing not at random: what moves, by how much, from the shift to the completed tables."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import bayesimp as bi
from bayesimp.fcs.blocks.normal import NormalBlock
from bayesimp.sensitivity_analysis.deltas import AT_RANDOM
from bayesimp.shift import Shift
from tests.longhand.not_at_random import WRONG, chained, expected_means
from tests.mnar_runs import MODELS, QUESTION, RUN, SHORT, model, of_trial, run, trial

every_engine = pytest.mark.parametrize("engine", MODELS)

# delta = 0


@every_engine
def test_at_random_is_the_model_as_it_is_bit_for_bit(engine):
    result = run(engine)
    plain = model(engine).impute(**RUN | SHORT[engine])
    same = result.imputations[AT_RANDOM]
    assert same.imputed_columns == plain.imputed_columns
    for name in plain.imputed_columns:
        np.testing.assert_array_equal(same.values(name), plain.values(name))
    by_hand = plain.analyse(QUESTION).pool().to_frame()
    of = result.table[(result.table["scenario"] == AT_RANDOM) & (result.table["part"] == "fixed effect")]
    for column in ("estimate", "std.error", "conf.low", "conf.high", "fmi"):
        np.testing.assert_array_equal(of[column], by_hand[column])
    assert (of["change"] == 0).all() and (of["mc.change"] == 0).all()


@every_engine
def test_a_scenario_is_the_model_with_that_shift(engine):
    result = run(engine, {"y": [0, -2]})
    by_hand = model(engine).with_shift(Shift({"y": -2.0})).impute(**RUN | SHORT[engine])
    assert list(result.imputations) == [AT_RANDOM, "y -2"]
    for name in by_hand.imputed_columns:
        np.testing.assert_array_equal(result.imputations["y -2"].values(name), by_hand.values(name))


# closed forms


@pytest.mark.parametrize("engine", ["JointNormal", "JointLatent", "JointGLMM", "FCS"])
def test_the_mean_of_a_normal_variable_moves_by_the_missing_share_times_delta(engine):
    """Exactly: one incomplete variable, one seed, so that parameters and residuals are the same in all scenarios."""
    frame = trial()
    data, formula = bi.IncompleteData(frame, cluster="g"), "y ~ drug + (1 | g)"
    made = {
        "JointNormal": lambda: bi.JointNormal(data, formula), "JointLatent": lambda: bi.JointLatent(data, formula),
        "JointGLMM": lambda: bi.JointGLMM(data, formula), "FCS": lambda: bi.FCS(data),
    }[engine]()  # fmt: skip
    result = bi.mnar(made, {"y": [0, -1, 2.5]}, analysis="y ~ 1", **RUN | SHORT[engine])
    share = frame["y"].isna().mean()
    mean = result.table[result.table["term"] == "Intercept"].set_index("scenario")["estimate"]
    np.testing.assert_allclose(mean["y -1"] - mean[AT_RANDOM], -share, rtol=1e-9)
    np.testing.assert_allclose(mean["y +2.5"] - mean[AT_RANDOM], 2.5 * share, rtol=1e-9)


@pytest.mark.parametrize("by", ["drug", "placebo"])
def test_a_treatment_effect_moves_by_the_missing_share_of_the_arm(by):
    frame = trial()
    result = of_trial({"y": {by: [0, -1]}}, "y ~ drug", by="arm")
    effect = result.table[result.table["term"] == "drug"].set_index("scenario")["estimate"]
    share = frame.loc[frame["arm"] == by, "y"].isna().mean() * (1 if by == "drug" else -1)
    np.testing.assert_allclose(effect[f"y, arm {by} -1"] - effect[AT_RANDOM], -share, rtol=1e-9)


D = 1.2  # on the scale of the link
LAWS = {
    "bernoulli": {
        "right": lambda eta: stats.logistic.cdf(eta + D),
        "twice": lambda eta: stats.logistic.cdf(eta + 2 * D),
        "sign": lambda eta: stats.logistic.cdf(eta - D),
        "on the probability": lambda eta: np.minimum(stats.logistic.cdf(eta) + D, 1.0),
        "probit": lambda eta: stats.norm.cdf(stats.norm.ppf(stats.logistic.cdf(eta)) + D),
    },
    "poisson": {
        "right": lambda eta: np.exp(eta + D),
        "twice": lambda eta: np.exp(eta + 2 * D),
        "sign": lambda eta: np.exp(eta - D),
        "on the mean": lambda eta: np.exp(eta) + D,
    },
}


@pytest.mark.parametrize("family", LAWS)
def test_the_mean_of_another_variable_moves_on_the_scale_of_its_link(family):
    """What is imputed has the mean g^-1(eta + delta) over the eta = beta + B_i of each imputation, row by row.

    One variable with an intercept and effects of eight clusters, of which one is never observed. Error: the standard
    deviation over imputations of the difference of shares or means, whose expectation given eta is 0, by sqrt(m). Level:
    4 errors, and every wrong variant is beyond them.
    """
    rng = np.random.default_rng(5)
    g = np.repeat(np.arange(8), 30)
    eta = (0.6 if family == "poisson" else -0.6) + 0.5 * rng.normal(size=8)[g]
    y = (
        rng.poisson(np.exp(eta)) if family == "poisson" else rng.random(240) < stats.logistic.cdf(eta)
    ).astype(float)
    y[(rng.random(240) < 0.5) | (g == 3)] = np.nan
    model = bi.FCS(bi.IncompleteData(pd.DataFrame({"g": g, "y": y}), cluster="g", families={"y": family}))
    result = bi.mnar(model, {"y": [0, D]}, analysis="g ~ 1", m=150, seed=2, cycles=6, progress=False)
    imp = result.imputations[f"y {D:+g}"]
    place = np.argsort(imp.run.model.table.order)[g[imp.rows("y")]]
    thetas = [chain.theta[0] for chain in imp.run.chains]
    eta = np.stack([theta.beta[0, 0] + theta.B[place, 0, 0] for theta in thetas])
    for name, mean in LAWS[family].items():
        differences = (imp.values("y") - mean(eta)).mean(axis=1)
        far = abs(differences.mean()) / (differences.std(ddof=1) / np.sqrt(len(thetas)))
        assert (far < 4) == (name == "right"), (name, far)
    quantity = "mean" if family == "poisson" else "share of 1.0"
    shown = result.imputed.set_index(["scenario", "quantity"])["imputed"]
    assert shown[f"y {D:+g}", quantity] == pytest.approx(imp.values("y").mean(), rel=1e-12)


# chained equations: within the cycle


def two_normals(n=400, seed=4):
    """Two correlated normals, missing alone and together, in one cluster that a model without clusters ignores."""
    rng = np.random.default_rng(seed)
    Y = rng.multivariate_normal([1.0, -1.0], [[1.0, 0.9], [0.9, 1.5]], n)
    Y[: n // 4, 0] = np.nan
    Y[n // 8 : n // 2, 1] = np.nan
    return Y


DELTA = np.array([-1.5, -0.5])


def summaries(completed, Y):
    """(m, 6) of completed tables (m, n, 2): means of u and v in rows with both missing, with one, and observed."""
    missing = np.isnan(Y)
    both = missing.all(1)
    parts = [(0, both), (1, both), (0, missing[:, 0] & ~both), (1, missing[:, 1] & ~both), (0, ~missing[:, 0]),
             (1, ~missing[:, 1])]  # fmt: skip
    return np.stack([completed[:, rows, k].mean(axis=1) for k, rows in parts], axis=1)


def normals(Y):
    frame = pd.DataFrame({"u": Y[:, 0], "v": Y[:, 1], "g": np.arange(len(Y)) % 8})
    return bi.FCS(
        bi.IncompleteData(frame, cluster="g"), methods="norm", predictors=["u ~ v", "v ~ u"], order=["u", "v"]
    )


@pytest.fixture(scope="module")
def chained_tables():
    Y = two_normals()
    result = bi.mnar(
        normals(Y), {"u": [DELTA[0]], "v": [DELTA[1]]}, combine="together", analysis="u ~ v", m=60, seed=1, cycles=15,
        progress=False,
    )  # fmt: skip
    completed = {
        name: np.stack([imp.frame(k)[["u", "v"]].to_numpy() for k in range(imp.m)])
        for name, imp in result.imputations.items()
    }
    return Y, completed[AT_RANDOM], completed["u -1.5; v -0.5"]


def distance(a, b):
    """Largest difference of the means of summaries, in its Monte Carlo standard errors (0 / 0 counts as 0)."""
    gap = np.abs(a.mean(axis=0) - b.mean(axis=0))
    error = np.sqrt(a.var(axis=0, ddof=1) / len(a) + b.var(axis=0, ddof=1) / len(b))
    return np.where(gap < 1e-12, 0.0, gap / np.maximum(error, 1e-12)).max()


def test_chained_equations_agree_with_those_written_out(chained_tables):
    """Six means of completed tables, against the procedure in NumPy: within 4 standard errors (level 4e-4 with six)."""
    Y, _, moved = chained_tables
    rng = np.random.default_rng(8)
    longhand = np.stack([chained(Y, DELTA, 15, rng) for _ in range(60)])
    assert distance(summaries(moved, Y), summaries(longhand, Y)) < 4


@pytest.mark.parametrize("wrong", WRONG)
def test_wrong_procedures_are_told_apart_in_completed_tables(chained_tables, wrong):
    Y, _, moved = chained_tables
    rng = np.random.default_rng(8)
    longhand = np.stack([chained(Y, DELTA, 15, rng, wrong) for _ in range(60)])
    assert distance(summaries(moved, Y), summaries(longhand, Y)) > 8


def _turned_round(block, chain):
    for k, numbers in zip(block.chained.columns, block.shift.T, strict=True):
        holes = block.table.holes(k)
        chain.V[holes, k - block.table.p] -= numbers[holes]


ADD = NormalBlock.add_shift
SPOILED = {
    "not at all": lambda block, chain: None,
    "twice": lambda block, chain: (ADD(block, chain), ADD(block, chain)),
    "sign": _turned_round,
}


@pytest.mark.parametrize("spoil", SPOILED)
def test_spoiled_engines_are_told_apart_in_completed_tables(chained_tables, spoil, monkeypatch):
    """The same comparison, with spoiled wiring of the package instead of a spoiled reference procedure."""
    Y = chained_tables[0]
    monkeypatch.setattr(NormalBlock, "add_shift", SPOILED[spoil])
    imp = (
        normals(Y)
        .with_shift(Shift({"u": DELTA[0], "v": DELTA[1]}))
        .impute(m=60, seed=1, cycles=15, progress=False)
    )
    spoiled = np.stack([imp.frame(k)[["u", "v"]].to_numpy() for k in range(imp.m)])
    rng = np.random.default_rng(8)
    longhand = np.stack([chained(Y, DELTA, 15, rng) for _ in range(60)])
    assert distance(summaries(spoiled, Y), summaries(longhand, Y)) > 8


def test_a_variable_follows_a_shifted_one_where_both_are_missing(chained_tables):
    """The means solve two linear equations, each with its delta; without the effect of one on the other they do not.

    Intercepts and slopes are those of each completed table, where the variable is observed. Level: 4 Monte Carlo
    standard errors.
    """
    Y, _, moved = chained_tables
    both, gaps, apart = np.isnan(Y).all(1), [], []
    for completed in moved:
        fits = np.array(
            [
                np.polyfit(completed[r, 1 - k], completed[r, k], 1)
                for k in (0, 1)
                for r in [~np.isnan(Y[:, k])]
            ]
        )
        slopes, intercepts = fits.T
        mean = completed[both].mean(axis=0)
        gaps.append(mean - expected_means(intercepts, slopes, DELTA))
        apart.append(mean - expected_means(intercepts, slopes, np.zeros(2)) - DELTA)
    for differences, right in ((np.array(gaps), True), (np.array(apart), False)):
        far = np.abs(differences.mean(axis=0)) / (differences.std(axis=0, ddof=1) / np.sqrt(len(moved)))
        assert (far < 4).all() if right else (far > 8).any(), far


def test_observed_values_stay():
    result = run("FCS", {"y": [0, -3]})
    seen = result.imputations[AT_RANDOM].data.frame.notna()
    for imp in result.imputations.values():
        for k in range(imp.m):
            pd.testing.assert_frame_equal(
                imp.frame(k)[["y", "w"]].where(seen), imp.data.frame[["y", "w"]].where(seen)
            )
