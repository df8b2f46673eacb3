"""Groups of the tree for JointNormal with several grouping factors, against dense normals in the units of the data.

Monte Carlo comparisons: |z| < 4.5, that is 7e-6 two-sided for each of at most 300 numbers a test.
"""

import arviz as az
import numpy as np
import pandas as pd
import pytest
from scipy import stats

import bayesimp as bi

Z_MAX = 4.5
N, SCHOOLS = 60, 5
FORMULA = "y + z ~ x + (1 + x | school) + (1 | class)"


def frame(nested):
    """Classes in schools, or crossed with them; a fifth of y and of z is missing, in row 7 both."""
    rng = np.random.default_rng(1)
    school, klass = rng.integers(0, SCHOOLS, N), rng.integers(0, 3, N)
    label = school * 3 + klass if nested else rng.integers(0, 4, N)
    x = rng.normal(3.0, 1.0, N)
    u = rng.normal(size=SCHOOLS)[school] + rng.normal(size=20)[label]
    y, z = 50 + 4 * (u + x + rng.normal(size=N)), u - x + rng.normal(size=N)
    table = pd.DataFrame({"school": [f"s{i}" for i in school], "class": [f"k{i}" for i in label], "x": x})
    table["y"], table["z"] = (
        np.where(rng.random(N) < 0.2, np.nan, y),
        np.where(rng.random(N) < 0.2, np.nan, z),
    )
    table.loc[7, ["y", "z"]] = np.nan
    return table


@pytest.fixture(scope="module", params=[True, False], ids=["nested", "crossed"])
def imputed(request):
    table = frame(request.param)
    model = bi.JointNormal(bi.IncompleteData(table, ["school", "class"]), FORMULA)
    return table, model.impute(m=2, seed=1, chains=2, draws=4, tune=20, progress=False)


def draw(tree, c, d):
    return tree["posterior"].to_dataset().isel(chain=c, draw=d)


def law(one, table):
    """Mean (N, r) and covariance (N, r, N, r) of all cells, effects integrated out."""
    X = np.column_stack([np.ones(N), table["x"]])
    same = {
        name: np.equal.outer(codes := pd.factorize(table[name])[0], codes) for name in ("school", "class")
    }
    Psi = one["Psi_school"].values.reshape(2, 2, 2, 2)  # response, column, response, column
    V = np.einsum("il,klhm,jm->ikjh", X, Psi, X) * same["school"][:, None, :, None]
    V = V + one["Psi_class"].values[None, :, None, :] * same["class"][:, None, :, None]
    V = V + one["Sigma"].values[None, :, None, :] * np.eye(N)[:, None, :, None]
    return X @ one["beta"].values, V


def density(one, table, rows):
    """log p of the observed cells of these rows."""
    mean, V = law(one, table)
    Y = table[["y", "z"]].to_numpy()[rows]
    seen = ~np.isnan(Y).ravel()
    V = V[rows][:, :, rows].reshape(2 * len(rows), 2 * len(rows))
    return stats.multivariate_normal(mean[rows].ravel()[seen], V[np.ix_(seen, seen)]).logpdf(Y.ravel()[seen])


def means(one, table):
    """(N, r) given the effects."""
    X = np.column_stack([np.ones(N), table["x"]])
    of_school = one["B_school"].sel(cluster=list(table["school"])).values.reshape(N, 2, 2)
    return (
        X @ one["beta"].values
        + np.einsum("nkl,nl->nk", of_school, X)
        + one["B_class"].sel(group_class=list(table["class"])).values
    )


def test_likelihood_of_connected_rows(imputed):
    """Schools with classes within them, all rows if crossed. Other parameters, and independent classes, are far away."""
    table, imp = imputed
    value = imp.tree_with("log_likelihood")["log_likelihood"]["y_obs"]
    nested = table.groupby("class")["school"].nunique().max() == 1
    parts = (
        [np.flatnonzero(table["school"] == s) for s in sorted(set(table["school"]))]
        if nested
        else [np.arange(N)]
    )
    assert value.dims[2] == ("cluster" if nested else "connected") and value.sizes[value.dims[2]] == len(
        parts
    )
    if nested:
        assert list(value["cluster"].values) == sorted(set(table["school"]))
    for c, d in np.ndindex(2, 4):
        one, other = draw(imp.tree, c, d), draw(imp.tree, 1 - c, d)
        expected = [density(one, table, rows) for rows in parts]
        np.testing.assert_allclose(value.values[c, d], expected, rtol=1e-8)
        independent = one.assign(Psi_class=0 * one["Psi_class"])
        for wrong in (other, independent):
            assert np.abs(value.values[c, d] - [density(wrong, table, rows) for rows in parts]).max() > 1e-2


def test_likelihood_of_rows_given_effects(imputed):
    table, imp = imputed
    tree = imp.tree_with("log_likelihood", "cluster_effects", by="row", seed=3)
    value, Y = tree["log_likelihood"]["y_obs"], table[["y", "z"]].to_numpy()
    seen = ~np.isnan(Y)
    rows = np.flatnonzero(seen.any(axis=1))
    assert list(value["row"].values) == list(rows) and 7 not in rows
    assert list(value["cluster_of_row"].values) == list(table["school"].iloc[rows])
    for c, d in np.ndindex(2, 4):
        one = draw(tree, c, d)
        mean, Sigma = means(one, table), one["Sigma"].values
        expected = [
            stats.multivariate_normal(mean[j, o], Sigma[np.ix_(o, o)]).logpdf(Y[j, o])
            for j in rows
            for o in [seen[j]]
        ]
        np.testing.assert_allclose(value.values[c, d], expected, rtol=1e-8)


def test_effects_are_drawn_given_the_observed_values(imputed):
    """Means and standard deviations over 120 seeds at one draw are those of the dense normal; those a priori are not."""
    table, imp = imputed
    drawn = [
        imp.tree_with("cluster_effects", thin=4, seed=seed)["posterior"].to_dataset() for seed in range(120)
    ]
    one = drawn[0].isel(chain=1, draw=0)
    mean, V = law(one, table)
    Y = table[["y", "z"]].to_numpy()
    seen = ~np.isnan(Y).ravel()
    W = np.linalg.inv(V.reshape(2 * N, 2 * N)[np.ix_(seen, seen)])
    gap = (Y - mean).ravel()[seen]
    X = np.column_stack([np.ones(N), table["x"]])
    Psi = {"school": one["Psi_school"].values, "class": one["Psi_class"].values}
    z = []
    for name, dim in (("school", "cluster"), ("class", "group_class")):
        for g in one[dim].values:
            own = (table[name] == g).to_numpy()
            # cov(b_g, y_jh) = Psi_s[:, (h, m)] x_jm
            C = Psi[name].reshape(len(Psi[name]), 2, -1)
            C = np.einsum("ahm,jm->ajh", C, X[:, : C.shape[2]] * own[:, None]).reshape(len(C), -1)[:, seen]
            m, v = C @ W @ gap, np.diag(Psi[name] - C @ W @ C.T)
            b = np.array([d[f"B_{name}"].sel({dim: g}).values[1, 0] for d in drawn])
            z += list((b.mean(axis=0) - m) / np.sqrt(v / len(b)))
            z += list((b.var(axis=0, ddof=1) / v - 1) / np.sqrt(2 / len(b)))
            assert v[0] < 0.9 * Psi[name][0, 0]
    assert np.abs(z).max() < Z_MAX and 0.7 < np.std(z) < 1.3


@pytest.mark.parametrize("new", [False, True])
def test_replicates(imputed, new):
    """Given the effects independent rows; of new groups the covariance of the model, also between rows."""
    table, imp = imputed
    Y = table[["y", "z"]].to_numpy()
    seen = ~np.isnan(Y).ravel()
    z, wrong = [], []
    for seed in range(30):
        tree = imp.tree_with("posterior_predictive", "cluster_effects", thin=2, new_clusters=new, seed=seed)
        made = tree["posterior_predictive"].to_dataset()
        for c, d in np.ndindex(2, 2):
            one, y = draw(tree, c, d), np.full((N, 2), np.nan)
            for k, name in enumerate(("y", "z")):
                y[made[f"row_{name}"].values, k] = made[name].values[c, d]
            assert (np.isnan(y).ravel() == ~seen).all()
            mean, V = law(one, table)
            if not new:
                mean, V = (
                    means(one, table),
                    one["Sigma"].values[None, :, None, :] * np.eye(N)[:, None, :, None],
                )
            root = np.linalg.cholesky(V.reshape(2 * N, 2 * N)[np.ix_(seen, seen)])
            z.append(np.linalg.solve(root, (y - mean).ravel()[seen]))
            independent = np.diag(np.diag(root @ root.T))
            wrong.append(np.linalg.solve(np.sqrt(independent), (y - mean).ravel()[seen]))
    z, wrong = np.array(z), np.array(wrong)
    assert abs(z.mean() * np.sqrt(z.size)) < Z_MAX
    assert abs(((z**2).mean() - 1) * np.sqrt(z.size / 2)) < Z_MAX
    assert np.abs((z[:, 1:] * z[:, :-1]).mean() * np.sqrt(z[:, 1:].size)) < Z_MAX
    if (
        new
    ):  # rows share effects: the variance of the sum of the cells is larger than that of independent ones
        assert wrong.sum(axis=1).var() > 2 * wrong.shape[1]
    np.testing.assert_allclose(tree["observed_data"]["y"], table["y"].dropna())
    assert list(made["cluster_y"].values) == list(table["school"][~table["y"].isna()])


def test_arviz_and_power_scaling_read_them(imputed):
    table, imp = imputed
    longer = imp.run.model.impute(m=4, seed=2, chains=4, draws=100, tune=50, progress=False)
    tree = longer.tree_with("log_likelihood", "log_prior", by="row", seed=1)
    made = az.loo(tree, var_name="y_obs")
    assert made.n_data_points == (~table[["y", "z"]].isna().all(axis=1)).sum() and np.isfinite(made.elpd)
    told = az.psense_summary(longer.tree_with("log_likelihood", "log_prior"), var_names=["Psi_class"])
    assert np.isfinite(told[["prior", "likelihood"]].astype(float)).all().all()
