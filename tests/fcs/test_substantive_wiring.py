"""From the kernel to the completed table: values drawn given an analysis that determines them nearly without error.

y = f(x) + effects of the clusters + e, where a standard deviation of x moves y by 30 standard deviations of e. The value
imputed for x must be the one that was removed, in its own row, unit and level, and likewise y imputed from the analysis.
"""

import numpy as np
import pandas as pd
import pytest

import bayesimp as bi

CLUSTERS, ROWS, SD = 12, 12, 1.0
G = np.repeat(np.arange(CLUSTERS), ROWS)
N = len(G)
LEVELS = {"bernoulli": ["no", "yes"], "ordinal": ["low", "mid", "top"], "categorical": ["a", "b", "c"]}
COUNTED = (*LEVELS, "binomial(n)", "poisson", "negative_binomial", "hurdle_poisson")
FAMILIES = (
    "normal", "bernoulli", "ordinal", "categorical", "binomial(n)", "poisson", "negative_binomial", "gamma",
    "inverse_gaussian", "lognormal", "beta", "yeo_johnson", "hurdle_poisson",
)  # fmt: skip


def covariate(family, rng):
    """Values as a table has them, and as numbers (levels by their place)."""
    size = rng.integers(3, 7, N)
    numbers = {
        "normal": lambda: 50 + 7 * rng.normal(size=N), "bernoulli": lambda: rng.integers(0, 2, N),
        "ordinal": lambda: rng.integers(0, 3, N), "categorical": lambda: rng.integers(0, 3, N),
        "binomial(n)": lambda: rng.binomial(size, 0.4), "poisson": lambda: rng.poisson(3.0, N),
        "negative_binomial": lambda: rng.poisson(rng.gamma(2, 2, N)), "gamma": lambda: rng.gamma(4, 5.0, N),
        "inverse_gaussian": lambda: rng.wald(20.0, 60.0, N), "beta": lambda: rng.beta(3, 2, N),
        "lognormal": lambda: np.exp(3 + 0.5 * rng.normal(size=N)),
        "yeo_johnson": lambda: 30 - rng.gamma(2.0, 5.0, N),
        "hurdle_poisson": lambda: (1 + rng.poisson(3.0, N)) * rng.integers(0, 2, N),
    }[family]()  # fmt: skip
    if family not in LEVELS:
        return np.asarray(numbers, float), np.asarray(numbers, float), size
    values = np.array(LEVELS[family], dtype=object)[numbers]
    if family == "ordinal":
        values = pd.Categorical(values, LEVELS[family], ordered=True)
    return values, numbers.astype(float), size


def made(family, lacking="x", seed=3):
    """Table, rows without x (or y), and its true numbers."""
    rng = np.random.default_rng(seed)
    values, x, size = covariate(family, rng)
    w = rng.normal(size=N)
    unit = x.std()
    steps = np.array([0.0, 1.0, -2.0])[x.astype(int)] if family in ("ordinal", "categorical") else x / unit
    y = 1000 + 30 * steps + 10 * w + 50 * rng.normal(size=CLUSTERS)[G] + SD * rng.normal(size=N)
    hole = rng.random(N) < 0.25
    frame = pd.DataFrame({"g": [f"k{i}" for i in (G * 7) % CLUSTERS], "n": size, "w": w, "x": values, "y": y})
    true = x if lacking == "x" else y
    frame[lacking] = frame[lacking].mask(hole)
    frame["other"] = np.where(rng.random(N) < 0.2, np.nan, rng.normal(size=N))
    order = rng.permutation(N)
    return frame.iloc[order].reset_index(drop=True), hole[order], true[order]


def model(frame, family, **options):
    families = {} if family in ("normal", *LEVELS) else {"x": family}
    return bi.FCS(
        bi.IncompleteData(frame, "g", families),
        {"other": "norm", **options.pop("methods", {})},
        {"other": "~ 1", **options.pop("predictors", {})},
        analysis="y ~ x + w + (1 | g)",
        **options,
    )


@pytest.mark.parametrize("family", FAMILIES)
def test_imputed_covariates_are_what_the_analysis_says(family):
    frame, hole, true = made(family)
    own = {"x": "~ w + (1 | g)"}
    imp = model(frame, family, predictors=own).impute(2, cycles=60, seed=1, progress=False, executor="serial")
    least = 0.5 if family in COUNTED else 0.2 * true.std()
    assert np.abs(imp.values("x") - true[hole]).max() < least
    table = imp.frame(1)
    assert not table["x"].isna().any() and table["x"][~hole].equals(frame["x"][~hole])
    _check_state(imp, family)
    if family in LEVELS:
        assert list(table["x"][hole]) == [LEVELS[family][int(k)] for k in true[hole]]


def _check_state(imp, family):
    """The x of the sampler of factors, in its own row order, is that of the completed table."""
    own = imp.run.model
    block = next(b for b in own.conditionals(1) if b.chained.block.name == "x")
    state, models, done = block._sampler(imp.run.chains[1]).chain, block.models, imp.frame(1)["x"]
    k, row = block.k, models.table.row
    expected = done.map(LEVELS[family].index) if family in LEVELS else done
    expected = expected.to_numpy(float)[row]
    if family in LEVELS:
        np.testing.assert_array_equal(state.Y[:, k], expected)
        expected = own.data.level_values("x")[expected.astype(int)]
    else:
        a = models.table.arrays
        np.testing.assert_allclose(a.center[k] + a.unit[k] * state.Y[:, k], expected, rtol=1e-9)
    np.testing.assert_allclose(state.V[:, block.own.variable], expected, rtol=1e-9)


@pytest.mark.parametrize("family", FAMILIES)
def test_imputed_responses_are_what_the_analysis_says(family):
    frame, hole, true = made(family, "y")
    imp = model(frame, family).impute(2, cycles=20, seed=1, progress=False, executor="serial")
    assert np.abs(imp.values("y") - true[hole]).max() < 0.2 * true.std()
    assert imp.frame(0)["y"][~hole].equals(frame["y"][~hole])


def test_values_of_clusters_are_what_the_analysis_says():
    rng = np.random.default_rng(8)
    c = 50 + 7 * rng.normal(size=40)
    g = np.repeat(np.arange(40), 8)
    w, lacks = rng.normal(size=320), np.isin(g, [3, 11, 26, 27, 35])
    y = 5 * (c[g] - 50) + 3 * w + 0.3 * rng.normal(size=320)
    frame = pd.DataFrame(
        {"g": [f"k{(7 * i) % 40}" for i in g], "w": w, "c": np.where(lacks, np.nan, c[g]), "y": y}
    )
    frame.loc[::17, "c"] = np.nan  # known from the other rows of their clusters
    order = rng.permutation(320)
    frame, true = frame.iloc[order].reset_index(drop=True), c[g][order]
    model = bi.FCS(bi.IncompleteData(frame, "g"), analysis="y ~ c + w")
    imp = model.impute(2, cycles=30, seed=1, progress=False, executor="serial")
    for k in range(2):
        error = np.abs(imp.frame(k)["c"].to_numpy() - true)
        assert error.max() < 0.2 and (error[~lacks[order]] == 0).all()


def test_levels_that_are_numbers_in_another_order_keep_their_places():
    """3, 1, 2: formulas compute with the numbers, the model of the variable with places 0, 1, 2."""
    rng = np.random.default_rng(3)
    n = 60
    c = pd.Categorical.from_codes(rng.integers(0, 3, n), categories=[3, 1, 2])
    frame = pd.DataFrame({"g": np.arange(n) % 6, "c": c, "y": rng.normal(size=n)})
    frame.loc[::4, "c"] = np.nan
    data = bi.IncompleteData(frame, "g")
    block = next(b for b in bi.FCS(data, analysis="y ~ c + (1 | g)").conditionals(1) if b.name == "c")
    k, levels = block.k, data.level_values("c")
    np.testing.assert_array_equal(block._response(k, np.asarray(levels)), [0, 1, 2])


def test_auxiliary_parameters_of_an_analysis_are_in_the_units_of_the_data():
    rng = np.random.default_rng(4)
    n, unit = 48, 50.0
    frame = pd.DataFrame({"g": np.arange(n) % 6, "x": rng.normal(size=n), "y": rng.standard_t(4, size=n)})
    frame.loc[::5, "x"] = np.nan
    sigma = []
    for scale in (1.0, unit):
        data = bi.IncompleteData(frame.assign(y=scale * frame["y"]), "g", families={"y": "student"})
        imp = bi.FCS(data, analysis="y ~ x + (1 | g)").impute(2, cycles=4, seed=1, progress=False)
        names = [
            name for name in imp.tree["posterior"].data_vars if "sigma" in str(name) and "y" in str(name)
        ]
        sigma.append(imp.tree["posterior"][names[0]].to_numpy())
    np.testing.assert_allclose(sigma[1], unit * sigma[0], rtol=1e-6)


def test_a_known_covariance_of_effects_stays():
    rng = np.random.default_rng(6)
    n = 48
    frame = pd.DataFrame({"g": np.arange(n) % 6, "x": 3 * rng.normal(size=n), "y": rng.normal(size=n)})
    frame.loc[::5, "x"] = np.nan
    known = bi.methods.Bayes(priors=bi.priors.Priors(Psi=bi.priors.Fixed([[2.0]])))
    model = bi.FCS(bi.IncompleteData(frame, "g"), analysis="y ~ x + (1 | g)", methods={"x": known})
    posterior = model.impute(2, cycles=3, seed=1, progress=False).tree["posterior"]
    psi = posterior["Psi_x"].to_numpy()
    np.testing.assert_allclose(psi, np.broadcast_to(2.0, psi.shape))
