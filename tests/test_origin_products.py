"""Products and powers at any origin: with random slopes, with weak priors, and with cluster means."""

from functools import cache

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose

import bayesimp as bi
from bayesimp.fcs.blocks.rows import BlockRows
from bayesimp.scale import margins
from tests.test_origin import base, shifted

PRODUCTS = {
    "square": "y ~ x + I(x**2) + (1 + x + I(x**2) | g)",
    "product": "y ~ x * w + (1 + x * w | g)",
    "of a factor": "y ~ x * sex + (1 + x * sex | g)",
}


@cache
def with_products():
    rng = np.random.default_rng(8)
    g = np.repeat(np.arange(20), 20)
    x, w, sex = rng.normal(0.5, 1.0, 400), rng.normal(size=400), rng.random(400) < 0.5
    b = rng.normal(0, 0.5, (20, 3))[g]
    y = x + b[:, 0] + b[:, 1] * x + b[:, 2] * (x**2 + x * w + x * sex) + rng.normal(0, 0.7, 400)
    y[rng.random(400) < 0.2] = np.nan
    return pd.DataFrame({"g": g.astype(str), "x": x, "w": w, "sex": np.where(sex, "M", "F"), "y": y})


def test_what_a_column_contains():
    names = ("Intercept", "x", "w", "x:w", "I(x ** 2)", "s[M]", "x:s[M]", "I((x - 1) ** 3)", "log(x + 9)", "`my age`",
             "x:log(x + 9)", "I(`my age` ** 2)", "x:s[M]:w", "C(s)[`b:c`]", "x2", "`:`", "`x:w`")  # fmt: skip
    found = {
        name: [names[j] for j in part if j] for name, part in zip(names, margins.margins(names), strict=True)
    }
    assert found.pop("Intercept") == []
    assert {name: part for name, part in found.items() if part} == {
        "x:w": ["x", "w"], "I(x ** 2)": ["x"], "x:s[M]": ["x", "s[M]"], "I((x - 1) ** 3)": ["x"],
        "x:log(x + 9)": ["x", "log(x + 9)"], "I(`my age` ** 2)": ["`my age`"],
        "x:s[M]:w": ["x", "w", "x:w", "s[M]", "x:s[M]"],
    }  # fmt: skip
    assert all(0 in part for part in margins.margins(names)[1:])


@pytest.mark.parametrize("name", PRODUCTS)
@pytest.mark.parametrize("engine", ["joint", "fcs", "x imputed"])
def test_slopes_on_products_and_powers(name, engine):
    """The same model at another origin has other coefficients of x and w too, and the same imputations."""
    frame, by = with_products(), {"x": 300.0, "w": -50.0}
    if engine == "x imputed":
        frame = frame.assign(x=frame["x"].mask(np.random.default_rng(4).random(400) < 0.1))
    runs = []
    for table in (frame, shifted(frame, by)):
        data = bi.IncompleteData(table, cluster="g")
        if engine == "joint":
            model = bi.JointNormal(data, PRODUCTS[name])
            runs.append(model.impute(4, seed=2, chains=2, draws=10, tune=5, progress=False))
        else:
            predictors = [PRODUCTS[name], *(["x ~ w + (1 | g)"] if engine == "x imputed" else [])]
            runs.append(bi.FCS(data, predictors=predictors).impute(2, seed=2, cycles=4, progress=False))
        assert not (runs[-1].events["kind"] == "prior matters").any()
    one, other = runs
    assert_allclose(other.values("y"), one.values("y"), rtol=0, atol=1e-4)
    highest = [
        run.tree["posterior"]["Psi" if engine == "joint" else "Psi_y"].values[..., -1, -1] for run in runs
    ]
    assert_allclose(highest[1], highest[0], rtol=1e-4)


@pytest.mark.parametrize("name", PRODUCTS)
@pytest.mark.parametrize("method", ["bayes", "mlmi", "glm", "x imputed", "intercepts"])
def test_products_and_powers_in_models_that_are_not_normal(name, method):
    """Their coefficients have weak priors too, of what is left of a product given its parts."""
    frame, by = with_products(), {"x": 300.0, "w": -50.0}
    frame = frame.assign(y=(frame["y"] > 1).astype(float).mask(frame["y"].isna()))
    formula, also = PRODUCTS[name], []
    if method in ("glm", "intercepts"):
        formula = formula.split(" + (")[0] + (" + (1 | g)" if method == "intercepts" else "")
    if method == "x imputed":
        frame, also = (
            frame.assign(x=frame["x"].mask(np.random.default_rng(4).random(400) < 0.1)),
            ["x ~ w + (1 | g)"],
        )
    runs = []
    for table in (frame, shifted(frame, by)):
        methods = {"y": method} if method in ("mlmi", "glm") else None
        model = bi.FCS(bi.IncompleteData(table, cluster="g"), methods, predictors=[formula, *also])
        runs.append(model.impute(2, seed=2, cycles=4, progress=False))
    one, other = runs
    np.testing.assert_array_equal(other.values("y"), one.values("y"))
    beta = [run.tree["posterior"].beta_y.values[..., -1] for run in runs]
    assert_allclose(beta[1], beta[0], rtol=1e-5)
    if method == "bayes":  # the coefficients are those of the columns as they are in the table
        table = runs[1].model.table
        chained, rows = table.blocks[0], BlockRows(table, 0)
        V = np.nan_to_num(table.start)
        X_w = rows.observed(V, rows.factors(V))[0]
        names = [r.names[0] if (r := table.residuals.get(c.base)) else c.base for c in chained.block.fixed]
        seen = ~np.isnan(table.full[:, table.names.index("y")])
        X = table.full[seen][:, [table.names.index(n) for n in names]]
        beta_w = np.random.default_rng(0).normal(size=(len(names), 1))
        assert_allclose(
            np.sort(X @ chained.scale.beta(beta_w), axis=0), np.sort(X_w @ beta_w, axis=0), atol=1e-6
        )


def test_the_curve_of_a_logistic_model_in_years_is_not_taken_away():
    """Coefficient of year^2, -.14 in truth: with weak priors of columns that are 2,000 sds from 0 it is 0.0000."""
    rng = np.random.default_rng(0)
    c, t = np.repeat(np.arange(30), 20), np.tile(np.arange(10.0), 60)
    eta = -2 + rng.normal(0, 0.7, 30)[c] + 1.2 * t - 0.14 * t**2
    y = (rng.random(600) < 1 / (1 + np.exp(-eta))).astype(float)
    y[rng.random(600) < 0.25] = np.nan
    data = bi.IncompleteData(pd.DataFrame({"c": c.astype(str), "year": t + 2015, "y": y}), cluster="c")
    imp = bi.FCS(data, predictors="y ~ year + I(year**2) + (1 | c)").impute(
        4, seed=1, cycles=60, progress=False
    )
    low, high = np.quantile(imp.tree["posterior"].beta_y.values[..., 2], [0.005, 0.995])
    assert low < -0.14 < high < -0.05


def test_products_on_the_working_scale_are_the_same_model():
    """z'b of the table's columns and effects is that of the working ones; priors moved exactly."""
    model = bi.JointNormal(bi.IncompleteData(with_products(), cluster="g"), PRODUCTS["product"])
    scale, working = model.grouping.only.working.scale, model.grouping.only.working
    b_w = np.random.default_rng(0).normal(size=4)
    b = scale.C @ (scale.effects * b_w)
    assert_allclose(model.design.Z[working.rows.row] @ b, working.rows.Z @ b_w * scale.s[0], atol=1e-12)
    table = bi.FCS(bi.IncompleteData(with_products(), cluster="g"), predictors=PRODUCTS["product"]).table
    rows, scale = BlockRows(table, 0), table.blocks[0].scale
    V = np.nan_to_num(table.start)
    Z_w = rows.observed(V, rows.factors(V))[1]
    seen = ~np.isnan(table.full[:, table.names.index("y")])
    Z = np.column_stack(
        [table.full[seen, table.names.index(name)] for name in ("Intercept", "x", "w", "x:w")]
    )
    E = scale.C * scale.effects / scale.s[0]
    assert_allclose(Z_w.T @ Z_w, E.T @ Z.T @ Z @ E, atol=1e-10 * len(Z))


def test_a_square_made_in_the_table_is_said():
    frame = with_products().assign(x=lambda d: d["x"] + 300.0)
    frame["x2"] = frame["x"] ** 2
    data = bi.IncompleteData(frame, cluster="g")
    formula = "y ~ x + x2 + (1 + x + x2 | g)"
    for run in (
        bi.JointNormal(data, formula).impute(1, seed=1, draws=2, progress=False),
        bi.FCS(data, predictors=formula).impute(1, seed=1, cycles=2, progress=False),
    ):
        (text,) = run.events.loc[run.events["kind"] == "prior matters", "message"]
        for word in ("'x', 'x2'", "99.9", "I(x**2)"):
            assert word in text


# ---------------------------------------------------------------- compatible models: products with cluster means


def compatible(frame, method):
    frame = frame.assign(z=0.5 * frame["y"] + np.random.default_rng(2).normal(size=180))
    predictors = ["y ~ x + z + (1 + x | g)", "z ~ x + y + (1 + x | g)"]
    return bi.FCS(bi.IncompleteData(frame, cluster="g"), methods=method, predictors=predictors)


@pytest.mark.parametrize("method", ["bayes-c", "iw-c", "ml-c"])
def test_compatible_models(method):
    """x * mean(x^2) and its like: from x + 2000 the same columns are chosen, identified, and the same model."""
    one, other = (compatible(f, method) for f in (base(), shifted(base(), {"x": 2000.0})))
    assert one.formulas == other.formulas and "x:cluster_mean(x * z)" in one.formulas[0]
    near, far = (model.impute(2, seed=3, cycles=4, progress=False) for model in (one, other))
    for name in ("y", "z"):
        assert_allclose(far.values(name), near.values(name), rtol=0, atol=1e-6)
    a, b = (run.tree["posterior"] for run in (near, far))
    assert_allclose(b.Psi_y.values[..., 1, 1], a.Psi_y.values[..., 1, 1], rtol=1e-6)
    assert_allclose(b.sigma2_y.values, a.sigma2_y.values, rtol=1e-6)


def test_coefficients_of_products_with_cluster_means_are_those_of_the_columns_as_they_are():
    table = compatible(shifted(base(), {"x": 20.0}), "bayes-c").table
    chained, rows = table.blocks[0], BlockRows(table, 0)
    V = np.nan_to_num(table.start)
    values = table.full.copy()
    values[table.row, table.p :] = table.center[table.p :] + table.scale[table.p :] * V
    D = pd.DataFrame(values, columns=table.names)
    codes = pd.Series([f"g{i}" for i in np.repeat(np.arange(12), 15)])

    def column(c):
        product = D[c.over[0]] * D[c.over[1]] if c.over else pd.Series(1.0, D.index)
        return D[c.base] * product.groupby(codes).transform("mean")

    X = np.column_stack([column(c) for c in chained.block.fixed])
    beta_w = np.random.default_rng(0).normal(size=(X.shape[1], 1))
    fitted = X @ chained.scale.beta(beta_w)
    X_w = rows.missing(V, rows.factors(V))[0]
    missing = table.row[np.flatnonzero(rows.holes)]
    assert_allclose(fitted[missing], X_w @ beta_w * chained.scale.s + chained.scale.c, rtol=1e-8)
    assert_allclose(chained.scale.working_beta(chained.scale.beta(beta_w)), beta_w, rtol=1e-6)


def test_products_without_their_parts_stay_as_they_are():
    from bayesimp.formulas.columns import Column
    from bayesimp.scale.products import centrable

    one, x = Column("Intercept", "Intercept"), Column("x", "x")
    mean, square = Column("m", "Intercept", ("Intercept", "x")), Column("q", "Intercept", ("x", "x"))
    times = Column("t", "x", ("Intercept", "x"))
    total = Column("s", "Intercept", ("Intercept", "x"), sum=True)
    assert centrable([one, x, mean, square, times]) == [2, 3, 4]
    assert centrable([one, x, square, times]) == centrable([x, mean, times]) == centrable([one, total]) == []
    assert centrable([times, one, mean, x]) == [2, 0]


def test_without_its_parts_a_product_is_imputed_away(monkeypatch):
    """The wrong variant: every column less its mean only. Slopes on x * w, from x + 300, vanish."""
    data = bi.IncompleteData(shifted(with_products(), {"x": 300.0}), cluster="g")
    formula = PRODUCTS["product"]

    def slope_sd(model, name):
        Psi = model.impute(
            4, seed=1, progress=False, **({"draws": 200} if name == "Psi" else {"cycles": 60})
        ).tree["posterior"]
        return np.sqrt(np.median(Psi[name].values[..., -1, -1]))

    assert slope_sd(bi.JointNormal(data, formula), "Psi") > 0.3
    assert slope_sd(bi.FCS(data, predictors=formula), "Psi_y") > 0.3
    right = margins.margins
    monkeypatch.setattr(
        margins,
        "margins",
        lambda names: [[j for j in part if names[j] == "Intercept"] for part in right(names)],
    )
    assert slope_sd(bi.JointNormal(data, formula), "Psi") < 0.05
    assert slope_sd(bi.FCS(data, predictors=formula), "Psi_y") < 0.05
