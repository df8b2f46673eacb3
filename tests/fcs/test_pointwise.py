"""Groups of the tree for chained equations: each conditional model in the cycles of a run.

Densities are SciPy's, in the units of the data. If only y is incomplete, its predictors are those of the table in every
cycle; otherwise they are known for the variable visited last, in the last cycle: the completed tables. Monte Carlo
comparisons: |z| < 4.5, that is 7e-6 two-sided for each of at most 20 numbers a test.
"""

import warnings

import arviz as az
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from scipy import stats
from scipy.special import expit, softmax

import bayesimp as bi
from bayesimp import methods
from bayesimp import priors as pr
from bayesimp.errors import SamplingError, SpecificationError, StatisticalWarning
from bayesimp.fcs.blocks.base import Parameters
from bayesimp.fcs.loop import Cycles
from bayesimp.fcs.pointwise import Visited, _log_likelihood
from tests.joint.test_pointwise import FORMULA as JOINT
from tests.joint.test_pointwise import arrays
from tests.joint.test_pointwise import frame as joint_frame
from tests.joint.test_pointwise import parameters as joint_parameters

Z_MAX = 4.5
CLUSTERS, ROWS = 8, 12
FAMILIES = ["normal", "bernoulli", "ordinal", "categorical", "poisson", "gamma"]
FORMULA = "y ~ x + w + (1 + x | g)"


def frame(family="normal", x_too=False, seed=0):
    """Unsorted rows; y of a family is missing in a fifth of them and in one cluster, x in a quarter if `x_too`."""
    rng = np.random.default_rng(seed)
    g = rng.permutation(np.repeat(np.arange(CLUSTERS), ROWS))
    x, w = rng.normal(2.0, 1.0, len(g)), rng.normal(size=len(g))
    eta = 0.3 + 0.5 * (x - 2) - 0.4 * w + 0.6 * rng.normal(size=CLUSTERS)[g]
    holes = (rng.random(len(g)) < 0.2) | (g == 3)
    table = pd.DataFrame({"g": [f"s{9 - i}" for i in g], "x": x, "w": w})
    match family:
        case "normal":
            y = 50 + 4 * eta + 3 * rng.normal(size=len(g))
        case "bernoulli":
            y = 1.0 * (rng.random(len(g)) < expit(eta))
        case "poisson":
            y = rng.poisson(np.exp(eta)).astype(float)
        case "gamma":
            y = 20 * np.exp(eta) * rng.gamma(3.0, 1 / 3.0, len(g))
        case _:
            ordered = family == "ordinal"  # with several increments between cutpoints
            codes = np.digitize(eta + rng.logistic(size=len(g)), [-0.5, 0.5, 1.5] if ordered else [-0.5, 1.0])
            y = pd.Categorical.from_codes(
                np.where(holes, -1, codes), list("rstu" if ordered else "rst"), ordered
            )
    table["y"] = y
    if family not in ("ordinal", "categorical"):
        table.loc[holes, "y"] = np.nan
    if x_too:
        table.loc[rng.random(len(g)) < 0.25, "x"] = np.nan
    return table


def imputed(family="normal", x_too=False, m=2, cycles=6, tune=1, **options):
    data = bi.IncompleteData(frame(family, x_too), "g", {"y": family})
    priors = options.pop("priors", None)
    options.setdefault("predictors", {"y": FORMULA, "x": "x ~ w + y + (1 | g)"} if x_too else {"y": FORMULA})
    model = bi.FCS(data, **options)
    model = model if priors is None else model.with_priors(priors)
    return model.impute(m=m, cycles=cycles, tune=tune, seed=1, progress=False)


def log_p(family, y, eta, one):
    """Longhand log density of y (n,), numbers or positions of levels, at linear predictors eta (n,) or (n, 2)."""
    match family:
        case "normal":
            return stats.norm.logpdf(y, eta, np.sqrt(float(one["sigma2_y"])))
        case "bernoulli":
            return stats.bernoulli.logpmf(y, expit(eta))
        case "poisson":
            return stats.poisson.logpmf(y, np.exp(eta))
        case "gamma":
            shape = float(one["shape_y"])
            return stats.gamma.logpdf(y, shape, scale=np.exp(eta) / shape)
    return np.log(shares(family, eta, one)[np.arange(len(y)), y.astype(int)])


def shares(family, eta, one):
    """(n, levels) probabilities."""
    if family == "ordinal":
        cuts = np.concatenate([[0.0], np.atleast_1d(one["cutpoints_y"].values)])
        below = expit(cuts[None] - eta[:, None])
        return np.diff(np.column_stack([np.zeros(len(eta)), below, np.ones(len(eta))]), axis=1)
    return softmax(np.column_stack([np.zeros(len(eta)), eta]), axis=1)


def numbers(y):
    return (
        y.cat.codes.to_numpy(dtype=float) if isinstance(y.dtype, pd.CategoricalDtype) else y.to_numpy(float)
    )


def predictors(one, table, effects=True, swapped=False):
    """(n,) or (n, 2) linear predictors of a draw in a table."""
    x, w = (table["w"], table["x"]) if swapped else (table["x"], table["w"])
    beta, X = one["beta_y"].values, np.column_stack([np.ones(len(table)), x, w])
    B = one["B_y"].sel(cluster=list(table["g"])).values * effects
    Z = X[:, :2]
    if beta.ndim == 1:
        return X @ beta + (B * Z).sum(axis=1)
    return X @ beta + np.einsum("nkl,nl->nk", B.reshape(len(B), 2, 2), Z)


def draw(tree, c, d):
    return tree["posterior"].to_dataset().isel(chain=c, draw=d)


# --- log likelihood -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
def test_densities_are_those_of_the_model_in_every_cycle(family):
    """Effects left out, parameters of the other chain or of the cycle before, and another column are far away."""
    tree = imputed(family).tree_with("log_likelihood", "cluster_effects")
    table, value = frame(family), tree["log_likelihood"]["y"]
    rows = np.flatnonzero(~table["y"].isna())
    assert list(value.row_y.values) == list(rows) and value.sizes["draw"] == 5
    seen, y = table.iloc[rows], numbers(table["y"])[rows]
    gaps = {"effects": [], "chain": [], "before": [], "column": []}
    for c, d in np.ndindex(2, 5):
        one, found = draw(tree, c, d), value.values[c, d]
        np.testing.assert_allclose(found, log_p(family, y, predictors(one, seen), one), rtol=1e-8, atol=1e-9)
        other, before = draw(tree, 1 - c, d), draw(tree, c, d - 1)
        wrong = {
            "effects": log_p(family, y, predictors(one, seen, effects=False), one),
            "chain": log_p(family, y, predictors(other, seen), other),
            "before": log_p(family, y, predictors(before, seen), before),
            "column": log_p(family, y, predictors(one, seen, swapped=True), one),
        }
        for name, values in wrong.items():
            gaps[name].append(np.abs(values - found).max())
    assert min(min(each) for each in gaps.values()) > 1e-3


@pytest.mark.parametrize("family", ["normal", "bernoulli"])
def test_predictors_are_those_of_the_completed_table_of_that_cycle(family):
    """y is visited last, so in the last cycle x is that of the completed table; that of the other chain, of the start
    and the imputed cells of y are refuted. Derived columns (x^2) take the path in Python; the others whole cycles."""
    for formula in (FORMULA, "y ~ x + w + x:w + (1 + x | g)"):
        imp = imputed(
            family, x_too=True, predictors={"y": formula, "x": "x ~ w + y + (1 | g)"}, order=["x", "y"]
        )
        tree = imp.tree_with("log_likelihood", "cluster_effects")
        rows = np.flatnonzero(~frame(family)["y"].isna())
        y = numbers(frame(family)["y"])[rows]
        assert list(tree["log_likelihood"]["y"].row_y.values) == list(rows)
        for c in (0, 1):
            one, found = draw(tree, c, -1), tree["log_likelihood"]["y"].values[c, -1]
            gaps = []
            for k in (c, 1 - c):
                table = imp.to_frame(k).iloc[rows]
                gaps.append(np.abs(log_p(family, y, predictors_of(one, table), one) - found).max())
            assert gaps[0] < 1e-8 and gaps[1] > 1e-2


def predictors_of(one, table):
    made = {"Intercept": 1.0, "x": table["x"], "w": table["w"], "x:w": table["x"] * table["w"]}
    beta = one["beta_y"]
    eta = sum(float(beta.sel(fixed_y=name)) * made[str(name)] for name in beta["fixed_y"].values)
    B = one["B_y"].sel(cluster=list(table["g"])).values
    return np.asarray(eta + B[:, 0] + B[:, 1] * table["x"])


@pytest.mark.parametrize("family", ["normal", "bernoulli"])
def test_effects_of_all_grouping_factors_are_in_the_densities(family):
    table = frame(family).assign(h=lambda t: [f"h{j * 7 % 5}" for j in range(len(t))])
    data = bi.IncompleteData(table, ["g", "h"], {"y": family})
    model = bi.FCS(data, predictors={"y": "y ~ x + w + (1 | g) + (1 | h)"})
    tree = model.impute(m=2, cycles=4, tune=1, seed=1, progress=False).tree_with(
        "log_likelihood", "log_prior", "cluster_effects", "posterior_predictive"
    )
    rows = np.flatnonzero(~table["y"].isna())
    seen, y = table.iloc[rows], numbers(table["y"])[rows]
    for c, d in np.ndindex(2, 3):
        one, found = draw(tree, c, d), tree["log_likelihood"]["y"].values[c, d]
        beta = one["beta_y"]
        X = np.column_stack([np.ones(len(seen)), *(seen[name] for name in beta["fixed_y"].values[1:])])
        own = X @ beta.values + one["B_y"].sel(cluster=list(seen["g"])).values[:, 0]
        eta = own + one["B_h_y"].sel(h=list(seen["h"])).values
        np.testing.assert_allclose(found, log_p(family, y, eta, one), atol=1e-8)
        assert np.abs(found - log_p(family, y, own, one)).max() > 1e-3
    s = np.sqrt(np.ravel(tree["posterior"]["Psi_h_y"].values))
    scale = {"normal": float(np.nanstd(numbers(table["y"]), ddof=1)), "bernoulli": 1.0}[family]
    expected = np.log(2 / scale) + stats.t.logpdf(s / scale, 2.0)
    np.testing.assert_allclose(np.ravel(tree["log_prior"]["Psi_h_y"]), expected, rtol=1e-6)


def test_compatible_conditionals_are_those_of_the_joint_model():
    """At a draw of JointNormal, p(y | z, x, B) of the joint normal is the conditional model with beta* = beta_y - r
    beta_z, r, b* = b_y - r b_z, sigma*: FCS' block, given these, has the conditional density of the joint one."""
    joint = bi.JointNormal(bi.IncompleteData(joint_frame(), "g"), JOINT)
    imp = joint.impute(m=2, seed=1, chains=2, draws=4, tune=20, progress=False)
    tree = imp.tree_with("cluster_effects")
    beta, Sigma, _ = joint_parameters(tree, 1, 3)
    B = tree["posterior"]["B"].values[1, 3].reshape(-1, 2, 2)  # cluster, response, column of Z
    r = Sigma[0, 1] / Sigma[1, 1]
    completed = imp.to_frame(0)
    completed.loc[joint_frame()["y"].isna(), "y"] = np.nan
    model = bi.FCS(bi.IncompleteData(completed, "g"), predictors={"y": "y ~ x + z + (1 + x | g)"})
    task = Cycles(model, 1)
    table, (block,), _ = task.parts
    scale, names = block.chained.scale, [column.name for column in block.chained.block.fixed]
    fixed = np.array(
        [{"x": beta[1, 0] - r * beta[1, 1], "z": r}.get(n, beta[0, 0] - r * beta[0, 1]) for n in names]
    )
    b = (B[:, 0] - r * B[:, 1])[table.order]  # (m, 2) in the order of the table's blocks
    theta = Parameters(
        scale.working_beta(fixed[:, None]), np.array([[[(Sigma[0, 0] - r * Sigma[0, 1]) / scale.s[0] ** 2]]]),
        np.eye(2), np.linalg.solve(scale.C, b.T).T[:, :, None] / scale.effects[None, :, None],
    )  # fmt: skip
    chain = task.start(0)
    found = _log_likelihood(block, Visited(0, chain, theta, (0, 0), 0), bi.contract.TreeRequest())[""]
    X, Z, Y, codes = arrays(joint)
    mu = X @ beta + np.einsum("nkl,nl->nk", B[codes], Z)
    z = completed["z"].to_numpy()
    rows = block.fitted_rows.places()[: len(found)]
    both = [stats.multivariate_normal(mu[j], Sigma).logpdf([Y[j, 0], z[j]]) for j in rows]
    given = stats.norm.logpdf(z[rows], mu[rows, 1], np.sqrt(Sigma[1, 1]))
    np.testing.assert_allclose(found, np.array(both) - given, atol=1e-9)
    assert (
        np.abs(found - stats.norm.logpdf(Y[rows, 0], mu[rows, 0], np.sqrt(Sigma[0, 0]))).max() > 0.05
    )  # marginal


# --- log prior ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", ["normal", "bernoulli", "gamma"])
def test_log_priors_are_those_of_the_posterior_group(family):
    own = pr.Priors(
        pr.Diagonal(pr.HalfT(nu=4.0, scale=2.0)),
        pr.Diagonal(pr.HalfT(nu=3.0, scale=1.5)),
        pr.Normal(1.0, 9.0),
    )
    tree = imputed(family, priors=own).tree_with("log_prior")
    prior, posterior = tree["log_prior"].to_dataset(), tree["posterior"].to_dataset()
    expected = {"beta_y": stats.norm.logpdf(posterior["beta_y"], 1.0, 9.0).sum(axis=-1), "Psi_y": 0.0}
    centre = tree["posterior"]["Psi_y"].values  # at the centre of x, where priors are stated
    x = frame(family)["x"]
    C = np.array([[1.0, np.nan], [0.0, 1.0]])
    C[0, 1] = x.mean()
    sds = np.sqrt(np.einsum("...ii->...i", C @ centre @ C.T))
    expected["Psi_y"] = (np.log(2 / 1.5) + stats.t.logpdf(sds / 1.5, 3.0)).sum(axis=-1)
    if family == "normal":
        s = np.sqrt(posterior["sigma2_y"].values)
        expected["sigma2_y"] = np.log(2 / 2.0) + stats.t.logpdf(s / 2.0, 4.0)
    for name, values in expected.items():
        np.testing.assert_allclose(prior[name], values, rtol=1e-6, err_msg=name)
    assert set(prior.data_vars) == set(expected) | ({"shape_y"} if family == "gamma" else set())


# --- replicates ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
def test_replicates_follow_the_law_of_their_cycle(family):
    imp = imputed(family, m=4, cycles=31)
    tree = imp.tree_with("posterior_predictive", "cluster_effects", seed=3)
    table, y = frame(family), tree["posterior_predictive"]["y"]
    rows = np.flatnonzero(~table["y"].isna())
    seen = table.iloc[rows]
    z = []
    for c, d in np.ndindex(4, 30):
        one, drawn = draw(tree, c, d), y.values[c, d]
        eta = predictors(one, seen)
        match family:
            case "normal":
                mean, sd = eta, np.sqrt(float(one["sigma2_y"]))
            case "bernoulli":
                mean, sd = expit(eta), np.sqrt(expit(eta) * expit(-eta))
            case "poisson":
                mean, sd = np.exp(eta), np.exp(eta / 2)
            case "gamma":
                mean, sd = np.exp(eta), np.exp(eta) / np.sqrt(float(one["shape_y"]))
            case _:
                p = shares(family, eta, one)[:, 1]
                drawn, mean, sd = drawn == 1, p, np.sqrt(p * (1 - p))
        z.append((drawn - mean) / sd)
    z = np.array(z).ravel()
    assert abs(z.mean() * np.sqrt(len(z))) < Z_MAX
    assert abs((z**2).mean() - 1) < Z_MAX * (z**2).std() / np.sqrt(len(z))
    observed = tree["observed_data"]["y"]
    np.testing.assert_allclose(observed, imp.data.numeric("y")[rows])
    assert y.dtype.kind == ("f" if family in ("normal", "gamma") else "i")
    assert list(y["cluster_y"].values) == list(table["g"].iloc[rows])


def test_replicates_of_new_clusters_do_not_have_the_effects_of_known_ones():
    """Products of two residuals of a cluster have mean Psi; with the known effect, mean B^2 in known clusters only."""
    imp = imputed(m=4, cycles=41, predictors={"y": "y ~ x + w + (1 | g)"})
    table = frame()
    pairs = [
        np.flatnonzero(~table["y"].isna() & (table["g"] == g))[:2]
        for g in sorted(set(table["g"]))
        if g != "s6"
    ]
    X = np.column_stack([np.ones(len(table)), table[["x", "w"]]])[np.array(pairs)]
    z = {}
    for new in (False, True):
        tree = imp.tree_with("posterior_predictive", "cluster_effects", new_clusters=new, seed=2)
        y, one = tree["posterior_predictive"]["y"], tree["posterior"].to_dataset()
        y = y.sel(row_y=np.ravel(pairs)).values.reshape(4, 40, -1, 2)
        e = y - np.einsum("ghp,cdp->cdgh", X, one["beta_y"].values)
        Psi = one["Psi_y"].values[..., 0]
        B = one["B_y"].sel(cluster=[g for g in sorted(set(table["g"])) if g != "s6"]).values[..., 0]
        each = e.prod(axis=-1) - Psi, e[..., 0] * B - B**2, e[..., 0] * B
        scale = Psi + one["sigma2_y"].values[..., None]
        by_draw = [(x / scale).mean(axis=-1).ravel() for x in each]
        z[new] = [x.mean() / (x.std() / np.sqrt(len(x))) for x in by_draw]
    assert abs(z[True][0]) < Z_MAX and abs(z[True][2]) < Z_MAX and abs(z[True][1]) > 6
    assert abs(z[False][1]) < Z_MAX and abs(z[False][2]) > 6


# --- cycles run again, what is left out, ArviZ --------------------------------------------------------------


def test_continued_extended_and_stored_runs(tmp_path):
    """Thinned draws are those of all; a run continued, extended and loaded is run again as it was; one that does not come
    out as kept is refused."""
    imp = imputed("bernoulli", x_too=True, cycles=4)
    what = ["log_likelihood", "log_prior", "posterior_predictive"]
    longer = imp.iterate(3).extend(1)
    longer.save(tmp_path / "a.nc")
    whole, part = longer.tree_with(*what, seed=2), bi.load(tmp_path / "a.nc").tree_with(*what, thin=2, seed=2)
    assert list(part["posterior"]["draw"].values) == list(whole["posterior"]["draw"].values[1::2])
    for group in what:
        for name, values in part[group].data_vars.items():
            np.testing.assert_array_equal(values.values, whole[group][name].values[:, 1::2], err_msg=name)
    imp.run.history.blocks[0]["beta"][1, 2] += 1e-9
    with pytest.raises(
        SamplingError, match=r"Imputation 1, cycle 3: the cycles were run again.*Impute again here"
    ):
        imp.tree_with("log_likelihood")


@pytest.mark.filterwarnings("ignore:Bounds")
def test_methods_without_a_likelihood_or_a_prior_are_named():
    data = bi.IncompleteData(frame(x_too=True), "g")
    options = {"m": 2, "cycles": 2, "tune": 0, "seed": 1, "progress": False}
    imp = bi.FCS(data, methods={"x": "pmm", "y": "ml"}, predictors={"y": "y ~ x + w + (1 | g)"}).impute(
        **options
    )
    with pytest.warns(StatisticalWarning, match=r"left out 'x': method 'pmm': it imputes values of donors"):
        tree = imp.tree_with("log_likelihood")
    assert (
        set(tree["log_likelihood"].data_vars) == {"y"} and "pmm" in tree["log_likelihood"].attrs["left_out"]
    )
    with pytest.raises(
        SpecificationError, match=r"log_prior: no variable has it.*'ml': it has no prior.*overimpute"
    ):
        imp.tree_with("log_prior")
    norm = bi.FCS(data, methods={"x": "norm", "y": methods.Gibbs(residual="cluster")}).impute(**options)
    with warnings.catch_warnings():
        warnings.simplefilter("error", StatisticalWarning)
        both = norm.tree_with("log_likelihood")["log_likelihood"].to_dataset()
    assert set(both.data_vars) == {"x", "y"} and np.isfinite(both.to_array().isel(row_x=0, row_y=0)).all()
    with pytest.raises(SpecificationError, match="each cluster has a residual variance of its own"):
        norm.tree_with("log_prior")


@pytest.mark.filterwarnings("ignore:Estimated shape parameter")
def test_arviz_reads_them(tmp_path):
    imp = imputed("bernoulli", x_too=True, m=4, cycles=60)
    tree = imp.tree_with("log_likelihood", "log_prior", "posterior_predictive")
    for name in ("x", "y"):
        made = az.loo(tree, var_name=name)
        assert made.n_data_points == int((~imp.data.missing(name)).sum()) and np.isfinite(made.elpd)
        own = [v for v in tree["log_prior"].data_vars if v.endswith(f"_{name}")]
        told = az.psense_summary(
            tree, var_names=[f"beta_{name}"], prior_var_names=own, likelihood_var_names=[name]
        )
        assert np.isfinite(told[["prior", "likelihood"]].astype(float)).all().all()
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        az.plot_ppc_dist(tree, var_names=["x"], num_samples=20).savefig(tmp_path / "ppc.png")
    plt.close("all")
    told = imp.replicates(40, seed=1)
    assert set(told.table["variable"]) == {"x", "y"}


# --- blocks of several variables, cluster-level variables ---------------------------------------------------


def block_run(m=2, cycles=6, tune=1, **options):
    data = bi.IncompleteData(frame(x_too=True), "g")
    formula = {"both": "x + y ~ w + (1 + w | g)"}
    model = bi.FCS(data, blocks={"both": ["x", "y"]}, predictors=formula, **options)
    return model.impute(m=m, cycles=cycles, tune=tune, seed=1, progress=False)


def block_means(one, table):
    """(N, 2) of x and y."""
    X = np.column_stack([np.ones(len(table)), table["w"]])
    assert list(one["effect_both"].values) == ["x:Intercept", "x:w", "y:Intercept", "y:w"]
    B = one["B_both"].sel(cluster=list(table["g"])).values.reshape(-1, 2, 2)
    return X @ one["beta_both"].values + np.einsum("nkl,nl->nk", B, X)


def test_rows_of_a_block_have_one_density_of_its_observed_variables():
    """Independent variables, the effects of the other response and the parameters of the other chain are far away."""
    table = frame(x_too=True)
    tree = block_run().tree_with("log_likelihood", "cluster_effects")
    value, Y = tree["log_likelihood"]["both"], table[["x", "y"]].to_numpy()
    seen = ~np.isnan(Y)
    rows = value.row_both.values
    np.testing.assert_array_equal(rows, np.flatnonzero(seen.any(axis=1)))

    def density(mean, Sigma):
        laws = [stats.multivariate_normal(mean[j, o := seen[j]], Sigma[np.ix_(o, o)]) for j in rows]
        return np.array([law.logpdf(Y[j, seen[j]]) for law, j in zip(laws, rows, strict=True)])

    for c, d in np.ndindex(2, 5):
        one, other, found = draw(tree, c, d), draw(tree, 1 - c, d), value.values[c, d]
        mean, Sigma = block_means(one, table), one["Sigma_both"].values
        np.testing.assert_allclose(found, density(mean, Sigma), rtol=1e-8, atol=1e-9)
        swapped = one.assign(B_both=one["B_both"].copy(data=one["B_both"].values[:, [2, 3, 0, 1]]))
        for wrong in (
            density(mean, np.diag(np.diag(Sigma))),
            density(block_means(swapped, table), Sigma),
            density(block_means(other, table), other["Sigma_both"].values),
        ):
            assert np.abs(wrong - found).max() > 1e-3


def test_log_prior_of_a_block():
    S0 = np.array([[3.0, 1.0], [1.0, 40.0]])
    own = pr.Priors(
        pr.InverseWishart(7.0, np.linalg.inv(S0)),
        pr.Diagonal(pr.HalfT(nu=3.0, scale=1.5)),
        pr.Normal(1.0, 9.0),
    )
    data = bi.IncompleteData(frame(x_too=True), "g")
    model = bi.FCS(data, blocks={"both": ["x", "y"]}, predictors={"both": "x + y ~ w + (1 | g)"})
    imp = model.with_priors(own).impute(m=2, cycles=4, tune=1, seed=1, progress=False)
    tree = imp.tree_with("log_prior")
    prior, posterior = tree["log_prior"].to_dataset(), tree["posterior"].to_dataset()
    assert set(prior.data_vars) == {"beta_both", "Sigma_both", "Psi_both"}
    expected = stats.norm.logpdf(posterior["beta_both"], 1.0, 9.0).sum(axis=(-1, -2))
    np.testing.assert_allclose(prior["beta_both"], expected, rtol=1e-6)
    # of s and R, Sigma = diag(s) R diag(s): the Jacobian is 2^2 (s_1 s_2)^2
    of_Sigma = [
        stats.invwishart(7.0, S0).logpdf(Sigma) + np.log(4.0 * Sigma[0, 0] * Sigma[1, 1])
        for Sigma in posterior["Sigma_both"].values.reshape(-1, 2, 2)
    ]
    np.testing.assert_allclose(np.ravel(prior["Sigma_both"]), of_Sigma, rtol=1e-6)
    sds = np.sqrt(np.einsum("...ii->...i", posterior["Psi_both"].values))
    of_Psi = (np.log(2 / 1.5) + stats.t.logpdf(sds / 1.5, 3.0)).sum(axis=-1)
    np.testing.assert_allclose(prior["Psi_both"], of_Psi, rtol=1e-6)


def test_replicates_of_a_block_have_its_covariance():
    """Squares and products of standardised residuals have means 1 and 0; those of independent variables do not."""
    imp = block_run(m=4, cycles=61)
    table = frame(x_too=True)
    tree = imp.tree_with("posterior_predictive", "cluster_effects", seed=3)
    made, Y = tree["posterior_predictive"].to_dataset(), table[["x", "y"]].to_numpy()
    for k, name in enumerate(("x", "y")):
        np.testing.assert_array_equal(made[f"row_{name}"], np.flatnonzero(~np.isnan(Y[:, k])))
        assert list(made[f"cluster_{name}"].values) == list(table["g"].iloc[made[f"row_{name}"].values])
        np.testing.assert_allclose(tree["observed_data"][name], Y[~np.isnan(Y[:, k]), k])
    rows = np.flatnonzero(~np.isnan(Y).any(axis=1))
    z = np.empty((4, 60, len(rows), 2))
    corr = np.empty((4, 60))
    for c, d in np.ndindex(4, 60):
        one = draw(tree, c, d)
        drawn = np.column_stack([made[name].sel({f"row_{name}": rows}).values[c, d] for name in ("x", "y")])
        Sigma = one["Sigma_both"].values
        corr[c, d] = Sigma[0, 1] / np.sqrt(Sigma[0, 0] * Sigma[1, 1])
        z[c, d] = (drawn - block_means(one, table)[rows]) @ np.linalg.inv(np.linalg.cholesky(Sigma)).T
    for a, b in ((0, 0), (0, 1), (1, 1)):
        products = (z[..., a] * z[..., b]).ravel() - (a == b)
        assert abs(products.mean()) < Z_MAX * products.std() / np.sqrt(products.size)
    assert abs(z.mean() * np.sqrt(z.size)) < Z_MAX
    of_independent = np.abs(corr).mean() / np.sqrt(1 - corr.mean() ** 2)  # mean product, were they drawn so
    assert of_independent > 2 * Z_MAX / np.sqrt(z.size / 2)


@pytest.mark.parametrize("family", ["normal", "bernoulli", "poisson"])
def test_cluster_level_variables_have_one_density_a_cluster(family):
    """The first row of each cluster with a value has it; the mean of another cluster's predictors is far away."""
    table, rng = frame(), np.random.default_rng(8)
    value = {"normal": lambda: rng.normal(20.0, 4.0), "bernoulli": lambda: float(rng.integers(2)),
             "poisson": lambda: float(rng.poisson(4.0))}[family]  # fmt: skip
    of_cluster = {g: value() for g in sorted(set(table["g"]))} | {"s6": np.nan}
    table["y"] = table["g"].map(of_cluster)
    table.loc[table.index[table["g"] == "s4"][0], "y"] = np.nan  # known from the others
    data = bi.IncompleteData(table, "g", {"y": family})
    imp = bi.FCS(data, predictors={"y": "y ~ cluster_mean(x)"}).impute(
        m=2, cycles=5, tune=1, seed=1, progress=False
    )
    tree = imp.tree_with("log_likelihood", "posterior_predictive")
    seen = table.loc[~table["y"].isna()].drop_duplicates("g")
    for group in ("log_likelihood", "posterior_predictive"):
        assert list(tree[group]["row_y"].values) == list(seen.index)
    assert list(tree["posterior_predictive"]["cluster_y"].values) == list(seen["g"])
    np.testing.assert_allclose(tree["observed_data"]["y"], seen["y"])
    means = table.groupby("g")["x"].mean().loc[seen["g"]].to_numpy()
    for c, d in np.ndindex(2, 4):
        one = draw(tree, c, d)
        found = tree["log_likelihood"]["y"].values[c, d]
        right, wrong = (
            log_p(family, seen["y"].to_numpy(), one["beta_y"].values @ np.array([np.ones(len(x)), x]), one)
            for x in (means, np.roll(means, 1))
        )
        np.testing.assert_allclose(found, right, rtol=1e-7, atol=1e-9)
        assert np.abs(found - wrong).max() > 1e-4
    with pytest.raises(SpecificationError, match="weak priors are fixed"):
        imp.tree_with("log_prior")


@pytest.mark.parametrize("family", ["normal", "bernoulli"])
def test_two_stage_rows_have_the_coefficients_of_their_cluster(family):
    """Also cluster-level columns, which act on intercepts. The next cluster's coefficients are far away."""
    table = frame(family).assign(u=lambda t: t["g"].str[1:].astype(float))
    data = bi.IncompleteData(table, "g", {"y": family})
    model = bi.FCS(data, methods={"y": "2stage"}, predictors={"y": "y ~ x + u + (1 + x | g)"})
    task = Cycles(model, 1)
    made, (block,), _ = task.parts
    chain = task.start(0)
    block.step(chain, chain.theta[0])
    theta, scale = chain.theta[0], block.chained.scale
    found = _log_likelihood(block, Visited(0, chain, theta, (0, 0), 0), bi.contract.TreeRequest())[""]
    rows = block.fitted_rows.places()[: len(found)]
    seen, y = table.iloc[rows], numbers(table["y"])[rows]
    # coefficients on 1 and x in the units of the data
    assert [c.name for c in block.chained.block.random] == ["Intercept", "x"]
    unit = scale.s[0] if family == "normal" else 1.0
    k = made.names.index("x")
    slope = theta.B[:, 1, 0] * unit / made.scale[k]
    intercept = theta.B[:, 0, 0] * unit - slope * made.center[k]
    if family == "normal":
        intercept += made.center[made.names.index("y")]
    place = np.argsort(made.order)[[list(data.clusters).index(g) for g in seen["g"]]]
    for shift, same in ((0, True), (1, False)):
        at = (place + shift) % CLUSTERS
        eta = intercept[at] + slope[at] * seen["x"].to_numpy()
        if family == "normal":
            expected = stats.norm.logpdf(y, eta, np.sqrt(theta.Sigma[at, 0, 0]) * unit)
        else:
            expected = stats.bernoulli.logpmf(y, expit(eta))
        assert np.allclose(found, expected, atol=1e-8) == same


def test_log_prior_does_not_depend_on_the_sampler(monkeypatch):
    monkeypatch.setattr(
        "bayesimp.fcs.blocks.pymc.NormalConditional", lambda *_, **__: None
    )  # not to be sampled
    monkeypatch.setattr("bayesimp.fcs.model.adapt_all", lambda *_: None)
    own = pr.Priors(pr.HuangWand(), pr.Diagonal(pr.HalfT(nu=3.0, scale=1.5)), pr.Normal(1.0, 9.0))
    data = bi.IncompleteData(frame(), "g")
    made = []
    for method in (methods.Gibbs(own), methods.PyMC(own)):
        _, (block,), _ = Cycles(bi.FCS(data, methods={"y": method}, predictors={"y": FORMULA}), 1).parts
        assert not block.no_prior and not block.no_likelihood
        p, q, _ = block.sizes
        Psi = np.diag(np.linspace(0.4, 0.9, q)) + 0.1
        theta = Parameters(np.linspace(-1, 1, p)[:, None], np.full((1, 1, 1), 0.7), Psi, np.zeros((8, q, 1)))
        made.append(block.log_prior(theta))
    assert made[0] == made[1] and set(made[0]) == {"beta", "sigma2", "Psi"}
