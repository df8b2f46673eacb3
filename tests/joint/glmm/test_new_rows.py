"""New rows completed from the draws of a joint GLMM, at given parameters: against dense normals and importance sampling.

With linear normal factors all cells of a cluster are jointly normal. For other families the law is an integral over
a cluster's effects, by importance sampling: draws from N(0, Psi), weighted by the likelihood of all values observed
in the rows of the run and the new ones, with missing levels summed out.
"""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from scipy.special import expit

import bayesimp as bi
from bayesimp.contract import Shift
from bayesimp.joint.glmm import new_rows as module
from bayesimp.joint.glmm.gibbs import JointHistory
from bayesimp.joint.glmm.new_table import new_table
from bayesimp.joint.glmm.prior import layout_of
from bayesimp.table.new_rows import NewRows
from tests.longhand import yeo_johnson

RNG = np.random.default_rng(5)
G = np.repeat(np.arange(9), 6)
N, NAN = len(G), np.nan
U = RNG.normal(size=(9, 3))
LIMIT = 4.5  # standard errors; 1e-5 for one comparison, below 1e-3 for the 60 of this file


def _linear():
    s = RNG.normal(size=N)
    w = U[G, 0] + 0.5 * s + RNG.normal(size=N)
    x = 1 + w + U[G, 1] + RNG.normal(size=N)
    y = 5 + x - w + s * (1 + 0.5 * U[G, 2]) + RNG.normal(size=N)
    table = pd.DataFrame({"g": G, "s": s, "w": w, "x": x, "y": y})
    table.loc[RNG.random(N) < 0.2, "w"] = NAN
    table.loc[(RNG.random(N) < 0.2) | (G < 2), "x"] = NAN  # systematically missing in clusters 0 and 1
    return table


LINEAR = _linear()
NEW = pd.DataFrame(
    [
        (7, 1.0, NAN, NAN, 9.0), (50, -1.0, 0.5, NAN, NAN), (0, 0.5, NAN, 2.5, NAN), (50, 0.0, NAN, NAN, 4.0),
        (1, 0.0, 1.0, NAN, 4.5),
    ],
    columns=list("gswxy"),
)  # fmt: skip


@pytest.fixture(scope="module")
def imp():
    data = bi.IncompleteData(LINEAR, "g")
    factors = {"w": "~ s + (1 | g)", "x": "~ s + w + (1 | g)"}
    model = bi.JointGLMM(data, "y ~ x + w + s + (1 + s | g)", factors)
    return model.impute(m=4, seed=1, draws=100, progress=False)


def chain_values(run, new, sweeps, draw=0):
    """response -> (sweeps, cells): the chain of imputation 0 of `run`, put at one draw, once it has warmed up."""
    rows = NewRows(run.model.data, new)
    table, place = new_table(run.model, rows)
    layout = layout_of(table, run.model.separate)
    chain = module.given_chain(at_draw(run, draw), table, layout, 0, 1)
    sampler = module.GivenSampler(table, layout, chain, "test")
    for k in range(module.SWEEPS):
        sampler.sweep(tune=k < module.SWEEPS // 2)
    out = {f.response: [] for f in run.model.factors if rows.missing(f.response).any()}
    for _ in range(sweeps):
        sampler.sweep()
        drawn = sampler.completed()
        for f, factor in enumerate(run.model.factors):
            if factor.response in out:
                values = module._of_new_rows(run, table, place, f, drawn[f])
                out[factor.response].append(values[rows.missing(factor.response)])
    return {name: np.array(values) for name, values in out.items()}


def at_draw(run, draw, count=1):
    """A run with one chain whose draws are all equal."""
    h = run.history
    again = [np.repeat(a[:1, draw : draw + 1], count, axis=1) for a in h.arrays]
    cells = np.repeat(h.cells[:1, :1], count, axis=1)
    return replace(run, kept=JointHistory.like(h, again, cells), spacing=1)


def standard_error(values):
    """(cells,) of the mean of a chain, by 50 batches."""
    batches = values.reshape(50, -1, values.shape[1]).mean(axis=1)
    return batches.std(axis=0, ddof=1) / np.sqrt(50)


def dense(imp, new, draw=0, psi=1.0, training=True, separate=False):
    """Mean and covariance of the missing cells, w, then x, then y; keywords make it wrong."""
    p = {name: array.values[0, draw] for name, array in imp.tree["posterior"].data_vars.items()}
    names = ["w", "x", "y"]
    missing = np.concatenate([new[name].isna() for name in names])
    n_new = len(new)
    mean, covariance = np.full(3 * n_new, NAN), np.zeros((3 * n_new, 3 * n_new))
    for label in new["g"].unique():
        own = np.flatnonzero(new["g"] == label)
        before = LINEAR[LINEAR["g"] == label] if training else LINEAR[:0]
        rows = pd.concat([before, new.iloc[own]])
        n, s = len(rows), rows["s"].to_numpy()
        one, zero, unit = np.ones(n), np.zeros(n), np.eye(n)
        labels = [list(imp.tree["posterior"][f"beta_{v}"][f"fixed_{v}"].values) for v in names]
        b = [dict(zip(names_, p[f"beta_{v}"], strict=True)) for v, names_ in zip(names, labels, strict=True)]
        mu = np.concatenate([part["Intercept"] + part["s"] * s for part in b])
        A = np.zeros((3 * n, 3 * n))
        A[n : 2 * n, :n] = b[1]["w"] * unit
        A[2 * n :, :n], A[2 * n :, n : 2 * n] = b[2]["w"] * unit, b[2]["x"] * unit
        Z = np.zeros((3 * n, 4))
        Z[:, 0], Z[:, 1] = np.r_[one, zero, zero], np.r_[zero, one, zero]
        Z[:, 2], Z[:, 3] = np.r_[zero, zero, one], np.r_[zero, zero, s]
        between = psi * Z @ p["Psi"] @ Z.T
        if separate:
            between *= np.kron(np.ones((3, 3)), unit)
        V = between + np.kron(np.diag([p[f"sigma2_{v}"] for v in names]), unit)
        inverse = np.linalg.inv(np.eye(3 * n) - A)
        mu, V = inverse @ mu, inverse @ V @ inverse.T
        v = rows[names].to_numpy(float).T.ravel()
        seen = ~np.isnan(v)
        wanted = np.concatenate([k * n + len(before) + np.arange(len(own)) for k in range(3)])
        place = np.concatenate([k * n_new + own for k in range(3)])
        wanted, place = wanted[~seen[wanted]], place[missing[place]]
        K = np.linalg.solve(V[np.ix_(seen, seen)], V[np.ix_(seen, wanted)]).T
        mean[place] = mu[wanted] + K @ (v - mu)[seen]
        covariance[np.ix_(place, place)] = V[np.ix_(wanted, wanted)] - K @ V[np.ix_(seen, wanted)]
    return mean[missing], covariance[np.ix_(missing, missing)]


@pytest.fixture(scope="module")
def linear_chain(imp):
    values = chain_values(imp.run, NEW, 4000)
    return np.hstack([values[name] for name in ("w", "x", "y")])


def distances(values, mean, covariance):
    """Means and second moments of a chain less the exact ones, in Monte Carlo standard errors."""
    centred = values - mean
    pairs = np.triu_indices(len(mean))
    products = centred[:, pairs[0]] * centred[:, pairs[1]]
    return np.concatenate([
        centred.mean(axis=0) / standard_error(centred),
        (products.mean(axis=0) - covariance[pairs]) / standard_error(products),
    ])  # fmt: skip


def test_linear_normal_factors_have_the_dense_law(imp, linear_chain):
    assert np.abs(distances(linear_chain, *dense(imp, NEW))).max() < LIMIT


@pytest.mark.parametrize("wrong", [{"psi": 1e-9}, {"training": False}, {"separate": True}])
def test_wrong_laws_are_told_apart(imp, linear_chain, wrong):
    assert np.abs(distances(linear_chain, *dense(imp, NEW, **wrong))).max() > 2 * LIMIT


def test_a_quarter_of_the_sweeps_is_enough(imp, monkeypatch):
    """300 imputations at one draw, each from its own start, have the means and variances of the dense normal."""
    monkeypatch.setattr(module, "SWEEPS", module.SWEEPS // 4)
    cells = at_draw(imp.run, 0, 300).transform(NewRows(imp.data, NEW), 300, 2)
    values = np.hstack([cells[name][1] for name in ("w", "x", "y")])
    mean, covariance = dense(imp, NEW)
    sd = np.sqrt(np.diag(covariance))
    z = (values.mean(axis=0) - mean) / (sd / np.sqrt(300))
    v = (((values - mean) ** 2).mean(axis=0) / sd**2 - 1) / np.sqrt(2 / 300)
    assert np.abs(np.r_[z, v]).max() < LIMIT


def test_each_table_has_the_parameters_of_its_own_imputation(imp):
    """Table k: chain k % 4 at its draw (k // 4 + 1) * spacing - 1, told by intercepts far apart in a new cluster."""
    h, spacing = imp.run.history, imp.attrs["spacing"]
    f = [factor.response for factor in imp.model.factors].index("y")
    scale = imp.model.table.scales[f]
    arrays = [a.copy() for a in h.arrays]
    number = 100.0 * np.arange(h.chains)[:, None] + np.arange(h.draws)[None, :]
    column = np.linalg.solve(scale.T, np.eye(len(scale.T))[scale.intercept])  # beta_w of an intercept of 1
    arrays[f] += 1e4 * number[..., None, None] * column[:, None]
    run = replace(imp.run, kept=h.like(arrays, h.cells))
    nothing = pd.DataFrame({"g": [50], "s": [0.0], "w": [NAN], "x": [NAN], "y": [NAN]})
    drawn = run.transform(NewRows(imp.data, nothing), 4, 3)["y"][1][:, 0] / (1e4 * scale.s[0])
    np.testing.assert_allclose(
        drawn, [number[k % 4, (k // 4 + 1) * spacing - 1] for k in range(4)], atol=0.05
    )


def _mixed(family):
    """A binary covariate with effects, systematically missing in clusters 0 and 1, and a response of a family."""
    rng = np.random.default_rng(8)
    t = rng.normal(size=N)
    x = (rng.random(N) < expit(U[G, 0] + t)).astype(float)
    eta = 0.4 + 0.8 * x + 0.3 * t + 0.6 * U[G, 1]
    y = {
        "normal": lambda: eta + rng.normal(size=N), "poisson": lambda: rng.poisson(np.exp(eta)),
        "bernoulli": lambda: rng.random(N) < expit(eta),
        "ordinal": lambda: np.digitize(eta + rng.logistic(size=N), [0.0, 1.5]),
        "negative_binomial": lambda: rng.negative_binomial(3, 3 / (3 + np.exp(eta))),
        "student": lambda: eta + 0.7 * rng.standard_t(3, N),
        "yeo_johnson": lambda: yeo_johnson.back(eta + 0.7 * rng.normal(size=N), 0.4),
        "zero_inflated_poisson": lambda: np.where(rng.random(N) < 0.3, 0, rng.poisson(np.exp(eta + 0.5))),
        "hurdle_poisson": lambda: np.where(rng.random(N) < 0.3, 0, 1 + rng.poisson(np.exp(eta))),
    }[family]()  # fmt: skip
    table = pd.DataFrame({"g": G, "t": t, "x": x, "y": np.asarray(y, float)})
    table.loc[(rng.random(N) < 0.2) | (G < 2), "x"] = NAN
    low, high = np.quantile(table["y"], [0.1, 0.9], method="nearest")
    new = pd.DataFrame(
        [(0, 0.5, NAN, high), (0, -0.5, NAN, NAN), (77, 0.0, NAN, low), (77, 1.0, 1.0, high), (5, 0.0, NAN, NAN),
         (77, 0.3, NAN, NAN)],
        columns=list("gtxy"),
    )  # fmt: skip
    return table, new


def log_density(family, y, eta, p, draw):
    """log p(y | eta), eta (draws,)."""
    match family:
        case "normal":
            return stats.norm(eta, np.sqrt(p["sigma2_y"][draw])).logpdf(y)
        case "poisson":
            return stats.poisson(np.exp(eta)).logpmf(y)
        case "bernoulli":
            return stats.bernoulli(expit(eta)).logpmf(y)
        case "student":
            return stats.t(p["nu_y"][draw], eta, p["sigma_y"][draw]).logpdf(y)
        case "yeo_johnson":
            c, s = p["origin_and_unit"]
            return yeo_johnson.log_density(
                (y - c) / s, (eta - c) / s, p["sigma_y"][draw] / s, p["lambda_y"][draw]
            )
        case "zero_inflated_poisson":
            zi = p["zi_y"][draw]
            return np.log(zi * (y == 0) + (1 - zi) * stats.poisson(np.exp(eta)).pmf(y))
        case "hurdle_poisson":
            hu, mu = p["hu_y"][draw], np.exp(eta)
            above = np.log1p(-hu) + stats.poisson(mu).logpmf(y) - np.log(-np.expm1(-mu))
            return above if y > 0 else np.full(len(eta), np.log(hu))
        case "negative_binomial":
            shape = p["shape_y"][draw]
            return stats.nbinom(shape, shape / (shape + np.exp(eta))).logpmf(y)
    cuts = np.r_[
        -np.inf, 0.0, p["cutpoints_y"][draw], np.inf
    ]  # the first is 0, because there is an intercept
    k = int(y)
    return np.log(expit(cuts[k + 1] - eta) - expit(cuts[k] - eta))


def weighted(imp, table, new, family, draw=0, count=50_000, training=True):
    """P(x = 1) of the new rows where x is missing, and E(y) where y is, with Monte Carlo standard errors."""
    p = {name: array.values[0] for name, array in imp.tree["posterior"].data_vars.items()}
    p["origin_and_unit"] = table["y"].mean(), table["y"].std(ddof=0)
    b_x = dict(zip(imp.tree["posterior"]["fixed_x"].values, p["beta_x"][draw], strict=True))
    b_y = dict(zip(imp.tree["posterior"]["fixed_y"].values, p["beta_y"][draw], strict=True))
    effects = np.random.default_rng(0).multivariate_normal(np.zeros(3), p["Psi"][draw], count)
    assert list(imp.tree["posterior"]["effect"].values) == ["x:Intercept", "y:Intercept", "y:x"]
    out = {}
    for label in new["g"].unique():
        before = table[table["g"] == label] if training else table[:0]
        log_weight, chances, means = np.zeros(count), {}, {}
        rows = [(None, row) for row in before.itertuples()] + [
            (place, row) for place, row in new[new["g"] == label].iterrows()
        ]
        for place, row in rows:
            px = expit(b_x["Intercept"] + b_x["t"] * row.t + effects[:, 0])
            branch = []
            for x in (0.0, 1.0):
                eta = (
                    b_y.get("Intercept", 0.0)
                    + b_y["x"] * x
                    + b_y["t"] * row.t
                    + effects[:, 1]
                    + effects[:, 2] * x
                )
                seen = 0.0 if np.isnan(row.y) else log_density(family, row.y, eta, p, draw)
                branch.append((np.log(px if x else 1 - px) + seen, eta))
            (l0, e0), (l1, e1) = branch
            if np.isnan(row.x):
                total, chance = np.logaddexp(l0, l1), expit(l1 - l0)
            else:
                total, chance = (l1, np.ones(count)) if row.x else (l0, np.zeros(count))
            log_weight += total
            if place is not None and np.isnan(row.x):
                chances[place] = chance
            if place is not None and np.isnan(row.y):
                means[place] = (1 - chance) * mean_of(family, e0, p, draw) + chance * mean_of(
                    family, e1, p, draw
                )
        weight = np.exp(log_weight - log_weight.max())
        weight /= weight.sum()
        for name, values in (("x", chances), ("y", means)):
            for place, value in values.items():
                mean = weight @ value
                out[name, place] = mean, np.sqrt((weight**2 * (value - mean) ** 2).sum())
    return out


def mean_of(family, eta, p, draw):
    """E(y | eta)."""
    if family in ("poisson", "negative_binomial"):
        return np.exp(eta)
    if family == "yeo_johnson":
        (c, s), (at, weight) = p["origin_and_unit"], np.polynomial.hermite_e.hermegauss(30)
        z = ((eta - c)[:, None] + p["sigma_y"][draw] * at) / s
        return c + s * yeo_johnson.back(z, p["lambda_y"][draw]) @ weight / weight.sum()
    if family == "zero_inflated_poisson":
        return (1 - p["zi_y"][draw]) * np.exp(eta)
    if family == "hurdle_poisson":
        return (1 - p["hu_y"][draw]) * np.exp(eta) / -np.expm1(-np.exp(eta))
    if family == "ordinal":
        return sum(expit(eta - cut) for cut in (0.0, *p["cutpoints_y"][draw]))
    return eta if family in ("normal", "student") else expit(eta)


@pytest.mark.parametrize(
    "family",
    [
        "normal",
        "poisson",
        "bernoulli",
        "ordinal",
        "negative_binomial",
        "student",
        "yeo_johnson",
        "zero_inflated_poisson",
        "hurdle_poisson",
    ],
)
def test_other_families_have_the_law_by_weights(family):
    table, new = _mixed(family)
    kind = pd.CategoricalDtype([0.0, 1.0, 2.0], ordered=True) if family == "ordinal" else float
    table, new = table.astype({"y": kind}), new.astype({"y": kind})
    data = bi.IncompleteData(table, "g", families={"x": "bernoulli", "y": family})
    model = bi.JointGLMM(data, "y ~ x + t + (1 + x | g)", {"x": "~ t + (1 | g)"}, priors=_weak())
    imp = model.impute(m=1, seed=1, chains=1, draws=50, progress=False)
    numbers = table.assign(y=table["y"].astype(float)), new.assign(y=new["y"].astype(float))
    exact = weighted(imp, *numbers, family)
    drawn = chain_values(imp.run, new, 1_500)
    without = weighted(imp, *numbers, family, count=10_000, training=False)
    z, far = [], []
    for name in ("x", "y"):
        values, error = drawn[name], standard_error(drawn[name])
        for k, place in enumerate(np.flatnonzero(new[name].isna())):
            mean, own = exact[name, place]
            chance = (
                np.sqrt(mean * (1 - mean) / len(values)) if name == "x" else 0.0
            )  # a rare level may not be drawn
            error_k = np.hypot(max(error[k], chance), own)
            z.append((values[:, k].mean() - mean) / error_k)
            far.append((values[:, k].mean() - without[name, place][0]) / error_k)
    assert np.abs(z).max() < LIMIT
    assert np.abs(far).max() > 2 * LIMIT  # without the rows of the run


def _weak():
    return bi.priors.Priors(name="own", Psi=bi.priors.InverseWishart(nu=12, V=np.eye(3) / 8))


def test_order_labels_and_units_do_not_matter(imp):
    ours = imp.transform(NEW, seed=5)
    order = np.random.default_rng(0).permutation(len(NEW))
    shuffled = imp.transform(NEW.iloc[order], seed=5)
    renamed = imp.transform(NEW.assign(g=NEW["g"].replace({50: 99})), seed=5)
    for k in range(imp.m):
        pd.testing.assert_frame_equal(shuffled.frame(k).sort_index(), ours.frame(k), rtol=1e-9)
        pd.testing.assert_frame_equal(
            renamed.frame(k).drop(columns="g"), ours.frame(k).drop(columns="g"), rtol=1e-9
        )
    unit = {"w": (100.0, 3.0), "x": (0.1, -7.0), "y": (20.0, 1.0), "s": (5.0, 2.0)}

    def moved(frame):
        return frame.assign(**{name: a * frame[name] + b for name, (a, b) in unit.items()})

    factors = {"w": "~ s + (1 | g)", "x": "~ s + w + (1 | g)"}
    model = bi.JointGLMM(bi.IncompleteData(moved(LINEAR), "g"), "y ~ x + w + s + (1 + s | g)", factors)
    theirs = model.impute(m=4, seed=1, draws=100, progress=False).transform(moved(NEW), seed=5)
    for name in ("w", "x", "y"):
        a, b = unit[name]
        np.testing.assert_allclose(theirs.values(name), a * ours.values(name) + b, rtol=1e-5)


def test_a_loaded_run_gives_the_same_bit_for_bit(imp, tmp_path):
    imp.save(tmp_path / "run.nc")
    again, ours = bi.load(tmp_path / "run.nc").transform(NEW, seed=5), imp.transform(NEW, seed=5)
    for k in range(imp.m):
        pd.testing.assert_frame_equal(again.frame(k), ours.frame(k), check_exact=True)


def test_a_shift_moves_new_rows_too(imp):
    factors = {"w": "~ s + (1 | g)", "x": "~ s + w + (1 | g)"}
    model = bi.JointGLMM(imp.data, "y ~ x + w + s + (1 + s | g)", factors, shift=Shift({"y": 50.0}))
    shifted = model.impute(m=4, seed=1, draws=100, progress=False).transform(NEW, seed=5)
    np.testing.assert_allclose(shifted.values("y"), imp.transform(NEW, seed=5).values("y") + 50.0, rtol=1e-6)


def test_levels_of_every_type():
    """Text, categories, booleans and numbers as levels: completed columns have the dtype of the new rows where it can."""
    rng = np.random.default_rng(1)
    table = pd.DataFrame({
        "g": G, "sex": pd.array(rng.choice(["f", "m"], N), dtype="string"),
        "arm": pd.Categorical(rng.choice(["a", "b", "c"], N)),
        "ill": pd.array(rng.random(N) < 0.5, dtype="boolean"), "stage": rng.integers(1, 4, N).astype(float),
        "country": np.where(G < 4, "no", "se"), "y": rng.normal(size=N),
    })  # fmt: skip
    for name in ("sex", "arm", "ill", "stage", "y"):
        table.loc[rng.random(N) < 0.15, name] = None
    table.loc[G == 8, "country"] = None
    data = bi.IncompleteData(table, "g", families={"stage": "categorical"})
    imp = bi.JointGLMM(data, "y ~ sex + arm + (1 | g)").impute(m=3, seed=1, draws=40, progress=False)
    new = pd.DataFrame({
        "g": [0, 90, 90, 8], "sex": ["f", None, None, "m"], "arm": pd.Categorical(["a", None, "a", None]),
        "ill": [True, None, None, False],
        "stage": [1.0, NAN, 2.0, NAN], "country": [None, None, None, None], "y": [0.1, 0.2, NAN, NAN],
    })  # fmt: skip
    done = imp.transform(new, seed=2)
    for k in range(3):
        frame = done.frame(k)
        assert not frame.isna().any().any()
        for name in new:
            seen = new[name].notna()
            assert frame.loc[seen, name].tolist() == new.loc[seen, name].tolist()
        assert set(frame["sex"]) <= {"f", "m"} and set(frame["arm"]) <= {"a", "b", "c"}
        assert set(frame["ill"]) <= {True, False} and set(frame["stage"]) <= {1.0, 2.0, 3.0}
        assert frame["country"][0] == "no"  # known for cluster 0
        assert frame["country"][1] == frame["country"][2]  # one value per cluster
        assert (frame["sex"].dtype, frame["stage"].dtype) == (new["sex"].dtype, new["stage"].dtype)
        assert list(frame["arm"].cat.categories) == ["a", "b", "c"]
        pd.testing.assert_frame_equal(
            done.stacked(list(new.columns), k, k + 1), frame, check_index_type=False
        )
    assert "arm" in set(done.events.query("kind == 'dtype changed'")["where"])
    with pytest.raises(bi.DataError, match=r"'arm' has levels .*'z', in 1 of 4 rows"):
        imp.transform(new.assign(arm=["a", None, "z", None]), seed=2)
    with pytest.raises(
        bi.DataError, match=r"'country' has a single value in every cluster.* several in 1 clusters \(0\)"
    ):
        imp.transform(new.assign(country=["se", None, None, None]), seed=2)


def test_what_cannot_be_completed_is_refused(imp):
    with pytest.raises(bi.DataError, match=r"'s' is missing in 1 of 5 rows"):
        imp.transform(NEW.assign(s=[1, NAN, 0.5, 0, 0]), seed=1)
    model = bi.JointGLMM(imp.data, "y ~ x + w + s + cluster_mean(x) + (1 | g)")
    made = model.impute(m=1, seed=1, draws=20, progress=False)
    with pytest.raises(bi.SpecificationError, match=r"over the rows of a cluster.*'cluster_mean\(x\)'"):
        made.transform(NEW, seed=1)
