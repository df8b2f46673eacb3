"""Limits of detection: one cell against its law, the posterior by brute force, all rows of completed tables, refusals.

The known posterior has a random intercept, known variances and normal coefficients: a grid over the coefficients,
Gauss-Hermite quadrature over the effect of each cluster, and P(y beyond its limit) where only a limit is known. Level
LEVEL after Bonferroni; wrong variants are below REJECTED. Seeds fixed.
"""

from functools import cache

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from scipy.special import logsumexp

import bayesimp as bi
from bayesimp import priors as pr
from bayesimp.contract import Shift
from bayesimp.families import family_of
from bayesimp.families.censored import censored_cells
from bayesimp.fcs.table import ChainedTable
from bayesimp.joint.glmm.run import GLMMRun
from bayesimp.methods import Bayes
from bayesimp.table.variables import without_round_off
from tests.calibration import montecarlo as mc
from tests.calibration.montecarlo import LEVEL, REJECTED
from tests.kernels.factors.one_cell import OneCell
from tests.kernels.factors.test_cells import NUMBERS, thin
from tests.unfolding import unfolded

RUN = dict(seed=4, progress=False, executor="serial")

# -- one cell ------------------------------------------------------------------------------------------------------


def limited_cell(name: str) -> tuple[OneCell, float, float]:
    """A cell of an uncensored case, and limits about a standard deviation apart in a tail of its distribution."""
    cell = OneCell(NUMBERS[name][0])
    k, kind = cell.k, NUMBERS[name][1]
    free = cell.draws(500, thin(kind))
    lower, upper = np.quantile(free, [0.8, 0.97])
    y = (0.5 * (lower + upper) - cell.arrays.center[k]) / cell.arrays.unit[k]
    cell.state.Y[cell.rows[0], k] = y
    return cell, float(lower), float(upper)


@pytest.mark.parametrize("name", ["normal children", "comparison"])
def test_a_cell_between_limits_has_its_law_there(name):
    """Exactly normal, and by slices: the truncated distribution; draws without limits are rejected."""
    cell, lower, upper = limited_cell(name)
    outside = lambda v: np.where((v < lower) | (v > upper), -1e9, 0.0)  # noqa: E731
    for limits, right in (((lower, upper), True), ((-np.inf, np.inf), False)):
        cell.cells = cell.cells._replace(lower=np.array(limits[:1]), upper=np.array(limits[1:]))
        draws = cell.draws(3000, thin(NUMBERS[name][1]))
        assert ((draws >= lower) & (draws <= upper)).all() == right
        p = cell.p_of_numbers(draws, outside)
        assert p > LEVEL if right else p < REJECTED


# -- the posterior by brute force ----------------------------------------------------------------------------------

CLUSTERS, ROWS = 8, 6
SD, S2, PSI = 2.0, 0.8, 0.5
PRIORS = pr.Priors(pr.Fixed([[S2]]), pr.Fixed([[PSI]]), pr.Normal(0.0, SD))
LIMITS = np.array([-0.3, 0.6])  # limits of two laboratories
G = np.repeat(np.arange(CLUSTERS), ROWS)


@cache
def table() -> pd.DataFrame:
    """y given x: limits that differ by laboratory, one limit above, missing values, and a cluster without a value."""
    rng = np.random.default_rng(21)
    x = rng.normal(size=len(G))
    y = 0.3 + 0.7 * x + rng.normal(0, PSI**0.5, CLUSTERS)[G] + rng.normal(0, S2**0.5, len(G))
    low = LIMITS[G % 2]
    frame = pd.DataFrame({"g": G, "x": x, "y": y.clip(low, 2.0)})
    frame["y_is"] = np.select([(y < low) | (G == 5), y > 2.0], ["left", "right"], "none")
    frame.loc[G == 5, "y"] = low[G == 5]
    frame.loc[rng.random(len(G)) < 0.15, "y"] = np.nan
    return frame


CENSORED = (table()["y"].notna() & (table()["y_is"] != "none")).to_numpy()


def brute_force(frame: pd.DataFrame) -> np.ndarray:
    """Posterior means of beta, of their products, of each unknown y and of its square."""
    node, weight = np.polynomial.hermite_e.hermegauss(25)
    log_weight = np.log(weight / weight.sum())
    one = np.linspace(-2.0, 3.0, 81)
    beta = np.stack(np.meshgrid(one, one, indexing="ij"), axis=-1).reshape(-1, 2)
    log = stats.norm(0, SD).logpdf(beta).sum(axis=1)
    sd, unknown, moments = S2**0.5, [], []
    for i in range(CLUSTERS):
        own = frame[frame.g == i]
        eta = (beta[:, :1] + beta[:, 1:] * own.x.to_numpy())[
            :, :, None
        ] + PSI**0.5 * node  # (grid, rows, nodes)
        each = np.zeros((len(beta), len(node)))
        found = []
        for j, (y, how) in enumerate(zip(own.y, own.y_is, strict=True)):
            law = stats.norm(eta[:, j], sd)
            if np.isnan(y):
                found.append((eta[:, j], S2 + eta[:, j] ** 2))
                continue
            if how == "none":
                each += law.logpdf(y)
                continue
            each += law.logcdf(y) if how == "left" else law.logsf(y)
            z, side = (y - eta[:, j]) / sd, 1.0 if how == "left" else -1.0
            mills = np.exp(stats.norm.logpdf(z) - stats.norm.logcdf(side * z))
            mean = eta[:, j] - side * sd * mills
            variance = S2 * (1 - side * z * mills - mills**2)
            found.append((mean, variance + mean**2))
        total = logsumexp(each + log_weight, axis=1)
        share = np.exp(each + log_weight - total[:, None])
        log = log + total
        unknown += found
        moments += [((share * a).sum(axis=1), (share * b).sum(axis=1)) for a, b in found]
    p = np.exp(log - logsumexp(log))
    assert max(p.reshape(81, 81)[[0, -1]].sum(), p.reshape(81, 81)[:, [0, -1]].sum()) < 1e-5
    first, second = (np.array([(p * pair[k]).sum() for pair in moments]) for k in (0, 1))
    products = [(p * beta[:, a] * beta[:, b]).sum() for a, b in ((0, 0), (0, 1), (1, 1))]
    return np.concatenate([p @ beta, products, first, second])


@cache
def known() -> np.ndarray:
    return brute_force(table())


def p_of(imp) -> float:
    """Draws of beta, and completed values, against brute force."""
    beta = imp.tree["posterior"]["beta_y"].values
    values = imp.values("y")
    out = known()
    mean, se = mc.batch_means(np.concatenate([beta, *(beta[..., [a]] * beta[..., [b]] for a, b in
                                                      ((0, 0), (0, 1), (1, 1)))], axis=-1), 25)  # fmt: skip
    p = [2 * stats.norm.sf(abs(mean - out[:5]) / se)]
    C = int(imp.tree.attrs["chains"])
    if C < imp.m:  # imputation k is from chain k % C, draws of a chain in order
        values = np.swapaxes(values.reshape(-1, C, values.shape[1]), 0, 1)
        mean, se = mc.batch_means(np.concatenate([values, values**2], axis=-1), 25)
        p.append(2 * stats.norm.sf(abs(mean - out[5:]) / se))
    else:
        p.append([mc.means(np.column_stack([values, values**2]), out[5:])])
    return mc.bonferroni(np.concatenate(p))


def joint(frame=None, families=None) -> bi.Imputations:
    data = bi.IncompleteData(table() if frame is None else frame, "g", families or {"y": "censored(y_is)"})
    return bi.JointGLMM(data, "y ~ x + (1 | g)", priors=PRIORS).impute(
        2000, chains=2, draws=2000, tune=50, **RUN
    )


def test_the_posterior_and_completed_values_are_those_of_brute_force():
    assert p_of(joint()) > LEVEL


def test_chained_equations_have_the_same_posterior():
    data = bi.IncompleteData(table(), "g", {"y": "censored(y_is)"})
    model = bi.FCS(data, Bayes(PRIORS, compatible=False), "y ~ x + (1 | g)")
    imp = model.impute(60, cycles=60, tune=10, **RUN)
    assert imp.tree["posterior"]["beta_y"].shape[:2] == (60, 50)
    assert p_of(imp) > LEVEL


@pytest.mark.parametrize("wrong", ["missing at random", "the limit is the value"])
def test_limits_that_are_not_used_are_noticed(wrong):
    frame = table().copy()
    if wrong == "missing at random":
        frame.loc[CENSORED, "y"] = np.nan
        assert p_of(joint(frame)) < REJECTED
        return
    imp = joint(frame.drop(columns="y_is"), {"y": "normal"})
    beta = imp.tree["posterior"]["beta_y"].values
    mean, se = mc.batch_means(beta, 25)
    assert mc.bonferroni(2 * stats.norm.sf(abs(mean - known()[:2]) / se)) < REJECTED


def test_without_censored_cells_it_is_the_normal_family():
    frame = table().copy()
    frame.loc[CENSORED, "y"] = np.nan
    own = joint(frame).values("y")
    normal = joint(frame.drop(columns="y_is"), {"y": "normal"}).values("y")
    np.testing.assert_array_equal(own, normal)


def test_log_likelihood_of_a_limit_is_the_probability_beyond_it():
    data = bi.IncompleteData(table(), "g", {"y": "censored(y_is)"})
    model = bi.JointGLMM(data, "y ~ x + (1 | g)", priors=PRIORS)
    imp = model.impute(2, chains=1, draws=4, tune=5, keep_effects=True, **RUN)
    tree = imp.tree_with("log_likelihood")
    found = tree["log_likelihood"]["y"].values[0]
    beta, B = tree["posterior"]["beta_y"].values[0], tree["posterior"]["B"].values[0, ..., 0]
    frame = table()[table()["y"].notna()]
    law = stats.norm(beta[:, :1] + beta[:, 1:] * frame.x.to_numpy() + B[:, frame.g], S2**0.5)
    y, how = frame.y.to_numpy(), frame.y_is.to_numpy()
    expected = np.where(how == "left", law.logcdf(y), np.where(how == "right", law.logsf(y), law.logpdf(y)))
    np.testing.assert_allclose(found, expected, rtol=1e-9)
    with pytest.raises(
        bi.SpecificationError, match=r"posterior_predictive: values of 'y' beyond limits.*log_likelihood"
    ):
        imp.tree_with("posterior_predictive")


# -- completed tables ----------------------------------------------------------------------------------------------


@cache
def biomarker() -> tuple[pd.DataFrame, np.ndarray]:
    """A biomarker in large units with a lower limit in each study and one upper limit; and these limits."""
    rng = np.random.default_rng(6)
    g = np.repeat(np.arange(12), 15)
    age = rng.normal(size=len(g))
    crp = 1e5 + 300 * (0.4 * age + rng.normal(0, 0.6, 12)[g] + rng.normal(size=len(g)))
    y = (crp - 1e5) / 300 * (1 + 0.3 * age) + rng.normal(size=len(g))
    low, high = (1e5 + np.array([-200.0, 0.1, 150.0]))[g % 3], 1e5 + 500.0
    frame = pd.DataFrame({"study": g, "age": age, "crp": crp.clip(low, high), "y": y})
    frame["crp_is"] = np.select([crp < low, crp > high], ["left", "right"], "none")
    frame.loc[rng.random(len(g)) < 0.1, ["crp", "crp_is"]] = np.nan
    frame.loc[rng.random(len(g)) < 0.1, "y"] = np.nan
    return frame, low


def check_rows(imp) -> None:
    """Every censored value is beyond its own limit, observed values are unchanged, missing ones on both sides."""
    frame, low = biomarker()
    v = np.stack([imp.frame(k)["crp"] for k in range(imp.m)])
    left, right, seen = (frame["crp_is"] == how for how in ("left", "right", "none"))
    assert left.sum() > 20 and right.sum() > 5
    assert (v[:, left] <= frame["crp"][left].to_numpy()).all()
    assert (v[:, right] >= frame["crp"][right].to_numpy()).all()
    np.testing.assert_array_equal(v[:, seen], np.tile(frame["crp"][seen], (imp.m, 1)))
    free = v[:, frame["crp"].isna()]
    assert (
        np.isfinite(v).all()
        and (free < low[frame["crp"].isna()]).any()
        and (free > low[frame["crp"].isna()]).any()
    )
    assert len(np.unique(v[:, left][:, 0])) > 1
    assert all(imp.frame(k)["crp_is"].equals(frame["crp_is"]) for k in range(imp.m))


def biomarker_data(frame=None) -> bi.IncompleteData:
    return bi.IncompleteData(biomarker()[0] if frame is None else frame, "study", {"crp": "censored(crp_is)"})


ANALYSES = {"a product": "y ~ crp * age + (1 | study)", "a square": "y ~ crp + I(crp**2) + (1 | study)"}
MODELS = {
    **{f"joint, {name}": lambda data, text=text: bi.JointGLMM(data, text) for name, text in ANALYSES.items()},
    "joint, a leaf": lambda data: bi.JointGLMM(data, "crp ~ y + age + (1 | study)"),
    "chained": bi.FCS,
    "chained, given a square": lambda data: bi.FCS(data, analysis=ANALYSES["a square"]),
}


@pytest.mark.parametrize("name", MODELS)
def test_every_row_lies_beyond_its_limit(name):
    few = {"cycles": 6} if name.startswith("chained") else {"chains": 2, "tune": 20, "draws": 20}
    imp = MODELS[name](biomarker_data()).impute(4, **few, **RUN)
    check_rows(imp)
    assert imp.analyse("crp ~ age + (1 | study)").pool() is not None


def test_only_round_off_is_moved_to_the_limit():
    low, high = np.array([-np.inf, 3e5, -np.inf]), np.array([1e5, np.inf, np.inf])
    drawn = np.array([[1e5 * (1 + 1e-13), 3e5 * (1 - 1e-13), 7.0], [9e4, 4e5, -7.0]])
    np.testing.assert_array_equal(
        without_round_off(drawn, low, high, "crp"), [[1e5, 3e5, 7.0], [9e4, 4e5, -7.0]]
    )
    with pytest.raises(bi.SamplingError, match=r"'crp': 1 of 6 imputed values lie beyond .* by up to 0\.01,"):
        without_round_off(drawn + np.array([0.01, 0.0, 0.0]), low, high, "crp")


@pytest.mark.parametrize("name", ["joint, a leaf", "chained", "chained, given a square"])
def test_values_beyond_their_limits_are_an_error(name, monkeypatch):
    """They used to be clipped there, so that a wrong sampler would have made plausible tables."""
    few = {"chains": 1, "tune": 2, "draws": 2} if name.startswith("joint") else {"cycles": 2}
    way = (GLMMRun, "in_units") if name.startswith("joint") else (ChainedTable, "on_data_scale")
    right = getattr(*way)
    monkeypatch.setattr(*way, lambda self, k, working: right(self, k, working) + 1_000.0)
    with pytest.raises(bi.SamplingError, match=r"'crp': .* lie beyond the limits of their cells"):
        MODELS[name](biomarker_data()).impute(2, **few, **RUN)


def test_the_order_of_rows_does_not_matter_and_files_go_on(tmp_path):
    frame, _ = biomarker()
    mixed = frame.sample(frac=1, random_state=0)
    options = dict(chains=1, tune=5, draws=4, **RUN)
    make = MODELS["joint, a product"]
    one = make(biomarker_data()).impute(4, **options)
    other = make(biomarker_data(mixed)).impute(4, **options)
    np.testing.assert_allclose(one.frame(3)["crp"], other.frame(3)["crp"].sort_index(), rtol=1e-12)
    one.save(tmp_path / "a.nc")
    more = bi.load(tmp_path / "a.nc").extend(6, progress=False)
    np.testing.assert_array_equal(more.values("crp"), one.extend(6, progress=False).values("crp"))


def test_a_shift_moves_missing_values_and_no_limit():
    data = biomarker_data()
    shift = Shift({"crp": -5000.0})
    for make in (MODELS["joint, a product"], MODELS["chained"]):
        few = {"cycles": 5} if make is bi.FCS else {"chains": 1, "tune": 20, "draws": 20}
        imp = make(data).with_shift(shift).impute(4, **few, **RUN)
        frame, _ = biomarker()
        v = np.stack([imp.frame(k)["crp"] for k in range(4)])
        assert v[:, frame["crp"].isna()].mean() < 1e5 - 3000
        assert v[:, (frame["crp_is"] == "left").to_numpy()].mean() > 1e5 - 1000


def test_the_table_says_how_many_are_censored():
    data = biomarker_data()
    count = int(data.variable("crp").censored.sum())
    assert f"crp: {count:,} values are known only to lie beyond a limit" in unfolded(repr(data))
    assert f"{count} of them beyond a limit" in unfolded(repr(MODELS["joint, a product"](data)))
    assert data.families["crp_is"] == "none" and "crp_is" not in repr(bi.FCS(data).formulas)
    assert family_of("censored(crp_is)").has_normal_errors and not family_of("censored(crp_is)").is_normal


# -- refusals ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("change, families, message", [
    ({}, {"crp": "censored"}, r"'censored' of 'crp'.*name the column that says which values are limits.*'left'"),
    ({}, {"crp": "censored(lod)"}, r"no other column 'lod'"),
    ({}, {"crp": "censored(crp)"}, r"no other column 'crp'"),
    ({"crp_is": True}, {"crp": "censored(crp_is)"}, r"'crp_is'.*has True in 180 of 180 rows.*write words"),
    ({"crp_is": -1}, {"crp": "censored(crp_is)"}, r"has -1 in 180 of 180 rows.*Numbers and True mean different"),
    ({"crp_is": None}, {"crp": "censored(crp_is)"}, r"'crp_is' is missing in \d+ of 180 rows.*'none'"),
    ({}, {"crp": "censored(crp_is)", "crp_is": "categorical"}, r"'crp_is' says how 'crp' is censored.*Take it out"),
])  # fmt: skip
def test_columns_that_do_not_say_what_is_censored(change, families, message):
    with pytest.raises((bi.SpecificationError, bi.DataError), match=message):
        bi.IncompleteData(biomarker()[0].assign(**change), "study", families)


@pytest.mark.parametrize("method, why", [
    ("pmm", "of which none are beyond its limits"), ("pymc", "JointGLMM with sampler='nuts'"),
    ("2stage", "missing at random"), ("norm", "missing at random"), ("ml", "missing at random"),
    ("sti", "missing at random"),
])  # fmt: skip
def test_methods_that_do_not_know_limits_are_refused_with_the_reason(method, why):
    with pytest.raises(bi.SpecificationError, match=rf"'crp' is censored.*{why}.*'bayes'"):
        bi.FCS(biomarker_data(), methods={"crp": method})


def test_options_that_do_not_know_limits_are_refused():
    data, frame = biomarker_data(), biomarker()[0]
    with pytest.raises(bi.SpecificationError, match=r"bounds\['crp'\]"):
        bi.FCS(data, bounds={"crp": (0, None)})
    with pytest.raises(bi.SpecificationError, match=r"ignore: 'crp' is censored.*remove ignore="):
        bi.FCS(data, ignore=np.arange(len(frame)) == 3)
    with pytest.raises(bi.SpecificationError, match="cannot have the derived column 'twice'"):
        bi.FCS(data, derived={"twice": "2 * y"}, predictors={"crp": "~ twice + (1 | study)"})
    with pytest.raises(bi.SpecificationError, match="does not know about limits"):
        bi.JointNormal(data, "crp + y ~ age + (1 | study)")
    with pytest.raises(bi.SpecificationError, match="does not complete new rows"):
        imp = MODELS["joint, a product"](data).impute(2, chains=1, tune=2, draws=2, **RUN)
        imp.transform(frame.head(3))
    one = frame.assign(crp=frame["study"] * 1.0, crp_is="none")
    one.loc[one["study"] == 1, "crp_is"] = "left"
    for make in (bi.FCS, MODELS["joint, a product"]):
        with pytest.raises(
            bi.SpecificationError,
            match="a single value in each cluster; limits of cluster-level variables are not supported",
        ):
            make(biomarker_data(one))


def test_missing_cells_are_no_limits_whatever_the_word_beside_them():
    left, right = censored_cells(pd.Series([1.0, np.nan, np.nan]), pd.Series(["left", "left", "right"]))
    assert left.tolist() == [True, False, False] and not right.any()
