"""Log likelihood, log prior, replicates and effects of JointLatent with several grouping factors, against SciPy.

Monte Carlo comparisons: |z| < 4.5, that is 7e-6 two-sided for each of at most 30 numbers a test.
"""

import arviz as az
import numpy as np
import pandas as pd
import pytest
from scipy.stats import invwishart, norm

import bayesimp as bi
from bayesimp import priors as pr
from bayesimp.errors import SpecificationError

Z_MAX = 4.5
FORMULA = "y + a + w + v ~ x + (1 + x | school) + (1 | class)"
PRIORS = pr.Priors(
    beta=pr.Normal(1.0, 20.0),
    Psi=pr.InverseWishart(9.0, 0.5),
    Psi_of={"class": pr.HuangWand(nu=3.0)},
)


def frame():
    """Unsorted rows of a number and a binary variable in six schools crossed with five classes; a number of schools, a
    binary variable of classes; one row without values."""
    rng = np.random.default_rng(4)
    n = 120
    school, klass = rng.integers(0, 6, n), rng.integers(0, 5, n)
    b, c, x = rng.normal(size=(6, 3)), rng.normal(size=(5, 3)), rng.normal(3.0, 1.0, n)
    y = 50 + 4 * (b[school, 0] + c[klass, 0] + x * (1 + 0.3 * b[school, 1]) + rng.normal(size=n))
    a = (0.1 * (y - 62) + c[klass, 1] + rng.normal(size=n) > 0) * 1.0
    w, v = 20 + 5 * (b[:, 0] + rng.normal(size=6)), np.array([0.0, 1.0, 1.0, 0.0, np.nan])
    w[2] = np.nan
    holes = rng.random((n, 2)) < 0.2
    holes[5] = True
    table = pd.DataFrame({"school": [f"s{9 - i}" for i in school], "class": [f"k{i}" for i in klass], "x": x})
    table["y"], table["a"] = np.where(holes[:, 0], np.nan, y), np.where(holes[:, 1], np.nan, a)
    return table.assign(w=w[school], v=v[klass])


def imputed(
    formula=FORMULA, priors=PRIORS, draws=60, thin=4, keep_effects=True, columns=slice(None), **options
):
    families = {name: "bernoulli" for name in "av" if name in formula.split("~")[0]}
    data = bi.IncompleteData(frame().loc[:, columns], ["school", "class"], families)
    return bi.JointLatent(data, formula, priors).impute(
        2,
        seed=1,
        chains=2,
        draws=draws,
        thin=thin,
        tune=60,
        keep_effects=keep_effects,
        progress=False,
        **options,
    )


@pytest.fixture(scope="module")
def imp():
    return imputed()


def draw(tree, c, d):
    return tree["posterior"].to_dataset().isel(chain=c, draw=d)


def means(one, table, rotated=False):
    """(N, 2) of y and of the latent a; rotated: with the effects of the next class."""
    X = np.column_stack([np.ones(len(table)), table["x"]])
    labels = [f"k{(int(k[1]) + rotated) % 5}" for k in table["class"]]
    of_school = one["B_school"].sel(cluster=list(table["school"])).values.reshape(-1, 2, 2)
    of_class = one["B_class"].sel(group_class=labels).values
    return X @ one["beta"].values + np.einsum("nkl,nl->nk", of_school, X) + of_class


def of_row(y, a, mu, S):
    """log density of a number and a binary value, either of them nan."""
    mean, sd, out = mu[1], np.sqrt(S[1, 1]), 0.0
    if not np.isnan(y):
        out = norm.logpdf(y, mu[0], np.sqrt(S[0, 0]))
        mean = mu[1] + S[1, 0] / S[0, 0] * (y - mu[0])
        sd = np.sqrt(S[1, 1] - S[1, 0] ** 2 / S[0, 0])
    return out if np.isnan(a) else out + norm.logcdf((1 if a else -1) * mean / sd)


def of_groups(one):
    """Means and variances of w by school and of the latent v by class, given their effects."""
    out = {}
    for name, dim, label in (("w", "cluster", "school"), ("v", "group_class", "class")):
        Psi, B = one[f"Psi_{label}"].values, one[f"B_{label}"]
        gain = Psi[-1, :-1] @ np.linalg.inv(Psi[:-1, :-1])
        mean = one[f"beta_{label}"].values[0, 0] + B.values @ gain
        out[name] = dict(zip(B[dim].values, mean, strict=True)), Psi[-1, -1] - gain @ Psi[:-1, -1]
    return out


def test_rows_and_groups_have_the_density_of_what_is_observed(imp):
    """Effects left out, of another class, and parameters of the other chain are each far away."""
    group, table = imp.tree_with("log_likelihood", thin=20)["log_likelihood"], frame()
    tree = imp.tree_with("correlations", thin=20)
    assert set(group.data_vars) == {"y_obs", "clusters_obs", "group_class_obs"}
    rows = np.flatnonzero(~table[["y", "a"]].isna().all(axis=1))
    assert list(group["row"].values) == list(rows) and 5 not in rows
    once = {name: table.groupby(of)[name].first() for name, of in (("w", "school"), ("v", "class"))}
    for c, d in np.ndindex(2, 3):
        one, other = draw(tree, c, d), draw(tree, 1 - c, d)
        found, S = group["y_obs"].values[c, d], one["Sigma"].values

        def by(mu, S, rows=rows):
            return np.array([of_row(table.y[j], table.a[j], mu[j], S) for j in rows])

        np.testing.assert_allclose(found, by(means(one, table), S), atol=1e-8)
        nothing = np.column_stack([np.ones(len(table)), table["x"]]) @ one["beta"].values
        for mu, V in (
            (nothing, S), (means(one, table, rotated=True), S), (means(other, table), other["Sigma"].values),
        ):  # fmt: skip
            assert np.abs(by(mu, V) - found).mean() > 0.05
        of = of_groups(one)
        for name, dim, value in (("w", "cluster", "clusters_obs"), ("v", "group_class", "group_class_obs")):
            mean, variance = of[name]
            seen = once[name].dropna()
            assert list(group[dim].values) == sorted(seen.index)
            expected = [
                norm.logpdf(x, mean[g], np.sqrt(variance))
                if name == "w"
                else norm.logcdf((1 if x else -1) * mean[g] / np.sqrt(variance))
                for g, x in seen.sort_index().items()
            ]
            np.testing.assert_allclose(group[value].values[c, d], expected, atol=1e-8)


def test_effects_are_those_of_their_draw():
    """All normal: (b - mean) whitened by p(b | parameters, y_obs), dense, is standard normal; with the effects of the
    next class or school it is not."""
    table = frame().assign(z=lambda t: np.where(t.a.isna(), np.nan, t.x * 0.3 + np.arange(len(t)) % 7))
    data = bi.IncompleteData(table[["school", "class", "x", "y", "z"]], ["school", "class"])
    run = bi.JointLatent(data, "y + z ~ x + (1 + x | school) + (1 | class)").impute(
        2, seed=2, chains=2, draws=50, thin=8, tune=100, keep_effects=True, progress=False
    )
    tree, Y = run.tree_with("cluster_effects"), table[["y", "z"]].to_numpy()
    X = np.column_stack([np.ones(len(Y)), table["x"]])
    schools, classes = sorted(set(table["school"])), sorted(set(table["class"]))
    of_school = np.equal.outer(table["school"].to_numpy(), schools) * 1.0
    of_class = np.equal.outer(table["class"].to_numpy(), classes) * 1.0
    parts = (np.kron(np.eye(2), X), of_school), (np.kron(np.eye(2), X[:, :1]), of_class)
    seen = ~np.isnan(Y.ravel(order="F"))
    Z = np.hstack([
        np.hstack([(own[:, k, None] * np.tile(one, (2, 1))) for k in range(own.shape[1])]) for own, one in parts
    ])[seen]  # effect by effect, the groups of each adjacent  # fmt: skip

    def squares(next_school=0, next_class=0):
        out = []
        for c, d in np.ndindex(2, 50):
            one = by = draw(tree, c, d)
            assert list(one.cluster.values) == schools and list(one.group_class.values) == classes
            G = [np.kron(by[f"Psi_{f}"].values, np.eye(n)) for f, n in (("school", 6), ("class", 5))]
            Psi = np.block([[G[0], np.zeros((24, 10))], [np.zeros((10, 24)), G[1]]])
            S = np.kron(by["Sigma"].values, np.eye(len(Y)))[np.ix_(seen, seen)]
            gain = Psi @ Z.T @ np.linalg.inv(Z @ Psi @ Z.T + S)
            V = Psi - gain @ Z @ Psi
            B = (
                np.roll(one[f"B_{f}"].values, k, axis=0)
                for f, k in (("school", next_school), ("class", next_class))
            )
            b = np.concatenate([effects.ravel(order="F") for effects in B])
            e = b - gain @ (Y - X @ by["beta"].values).ravel(order="F")[seen]
            out.append(e @ np.linalg.solve((V + V.T) / 2, e) - len(e))
        return np.mean(out) / (np.std(out) / np.sqrt(len(out)))

    assert abs(squares()) < Z_MAX < 10 < min(squares(next_school=1), squares(next_class=1))


def test_log_prior_is_that_of_the_parameters():
    """Against SciPy: beta, gamma, and the inverse-Wishart prior of the sds and correlations of effects of schools."""
    imp = imputed("y + a + w ~ x + (1 | school) + (1 | class)", draws=4)
    tree = imp.tree_with("log_prior")
    prior, post = tree["log_prior"].to_dataset(), tree["posterior"].to_dataset()
    assert set(prior.data_vars) == {"beta", "Sigma", "Psi_school", "Psi_class", "beta_school"}
    for name in ("beta", "beta_school"):
        np.testing.assert_allclose(
            prior[name], norm.logpdf(post[name], 1.0, 20.0).sum(axis=(2, 3)), rtol=1e-6
        )
    S = post["Psi_school"].values
    prior_of = imp.model.parameter_priors["Psi_school"]
    assert isinstance(prior_of, pr.InverseWishart)
    V = np.asarray(prior_of.V, dtype=float)
    scale = np.linalg.inv(V if V.ndim == 2 else V * np.eye(3))
    jacobian = 3 * 0.5 * np.log(np.diagonal(S, axis1=2, axis2=3)).sum(axis=2)
    theirs = np.array([[invwishart.logpdf(S[c, d], 9, scale) for d in range(4)] for c in range(2)]) + jacobian
    constant = (theirs - prior["Psi_school"].values).ravel()
    np.testing.assert_allclose(constant, constant[0], atol=1e-7)
    assert np.ptp(theirs - jacobian - prior["Psi_school"].values) > 1e-2


def test_replicates_follow_the_law_of_their_draw(imp):
    """Given the draw's effects; and in new groups with the variance between schools and classes."""
    table = frame()
    both = np.flatnonzero(~table[["y", "a"]].isna().any(axis=1))
    tree = imp.tree_with("posterior_predictive", seed=3)
    group, z = tree["posterior_predictive"].to_dataset(), {name: [] for name in ("y", "a", "ya", "w", "v")}
    first = {of: table.reset_index().groupby(of)["index"] for of in ("school", "class")}
    for c, d in np.ndindex(2, 60):
        one = draw(tree, c, d)
        mu, S, replicated = means(one, table)[both], one["Sigma"].values, group.isel(chain=c, draw=d)
        y, a = (replicated[n].sel({f"row_{n}": both}).values for n in "ya")
        e, p = (y - mu[:, 0]) / np.sqrt(S[0, 0]), norm.cdf(mu[:, 1])
        z["y"] += list(e)
        z["a"].append((a - p).sum() / np.sqrt((p * (1 - p)).sum()))
        z["ya"] += list(e * a - S[0, 1] / np.sqrt(S[0, 0]) * norm.pdf(mu[:, 1]))
        of = of_groups(one)
        for name, by in (("w", "school"), ("v", "class")):
            for label, rows in first[by].indices.items():
                if table[name].isna()[rows].any():
                    continue
                drawn = replicated[name].sel({f"row_{name}": rows}).values
                assert len(set(drawn)) == 1
                mean, sd = of[name][0][label], np.sqrt(of[name][1])
                p = norm.cdf(mean / sd)
                z[name].append(
                    (drawn[0] - mean) / sd if name == "w" else (drawn[0] - p) / np.sqrt(p * (1 - p))
                )
    for name, values in z.items():
        x = np.array(values)
        assert abs(x.mean() / (x.std() / np.sqrt(len(x)))) < Z_MAX, name
    for name in "yw":
        assert abs(np.var(z[name]) - 1) < Z_MAX * np.sqrt(2 / len(z[name]))
    assert group["a"].dtype.kind == group["v"].dtype.kind == "i"
    new = imputed("y + a ~ 1 + (1 | school) + (1 | class)", draws=60, keep_effects=False)
    tree = new.tree_with("posterior_predictive", new_clusters=True, seed=2)
    pair = np.flatnonzero((table.school == "s9") & table.y.notna())[:2]
    x = []
    for c, d in np.ndindex(2, 60):
        one, y = draw(tree, c, d), tree["posterior_predictive"]["y"].values[c, d]
        e = y[np.searchsorted(np.flatnonzero(table.y.notna()), pair)] - one["beta"].values[0, 0]
        between = one["Psi_school"].values[0, 0] + one["Psi_class"].values[0, 0]
        x.append(e[0] ** 2 / (between + one["Sigma"].values[0, 0]) - 1)
    assert abs(np.mean(x) / (np.std(x) / np.sqrt(len(x)))) < Z_MAX
    with pytest.raises(SpecificationError, match=r"log_likelihood: .*Impute with keep_effects=True"):
        new.tree_with("log_likelihood")


def test_saved_continued_and_checked_by_arviz(imp, tmp_path):
    imp.save(tmp_path / "a.nc")
    what = "log_likelihood", "log_prior", "posterior_predictive", "cluster_effects"
    ours, theirs = imp.tree_with(*what, thin=20), bi.load(tmp_path / "a.nc").tree_with(*what, thin=20)
    for group in ("posterior", "log_likelihood", "log_prior", "posterior_predictive"):
        for name, value in ours[group].data_vars.items():
            np.testing.assert_array_equal(value, theirs[group][name], err_msg=name)
    longer = imp.extend(2, progress=False).tree["posterior"]["B_class"]
    np.testing.assert_array_equal(longer.values[:, :60], imp.tree["posterior"]["B_class"])
    assert longer.sizes["draw"] > 60
    tree = imp.tree_with(*what)
    loo = az.loo(tree, var_name="y_obs")
    assert np.isfinite(loo.elpd) and loo.n_data_points == tree["log_likelihood"].sizes["row"]
    normal = imputed("y + a ~ x + (1 | school) + (1 | class)", draws=60).tree_with(*what)
    found = az.psense_summary(normal, var_names=["Psi_school"], prior_var_names=["Psi_school"])
    assert np.isfinite(found[["prior", "likelihood"]].to_numpy()).all()
    az.plot_ppc_dist(tree, var_names=["y", "a", "v"], num_samples=20)


def test_without_kept_effects_nothing_else_changes(imp):
    """Keeping effects consumes no random numbers."""
    plain = imputed(keep_effects=False)
    assert "B_school" not in plain.tree["posterior"]
    for name in ("beta", "Sigma", "Psi_school", "Psi_class"):
        np.testing.assert_array_equal(plain.tree["posterior"][name], imp.tree["posterior"][name])
    np.testing.assert_array_equal(plain.values("y"), imp.values("y"))
