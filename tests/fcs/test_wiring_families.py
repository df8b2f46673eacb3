"""From kernel to completed table, family by family: values of `bayes` and `mlmi` against posteriors by quadrature.

One incomplete variable y, so that the posterior is fixed; every missing cell (a cluster, a value of x, trials) has
some rows, two clusters have no value of y. We compare probabilities of y <= t in every cell, and in two rows at once, of
the same cell or of two: whether they share coefficients and the effect of their cluster. A second incomplete variable,
which predicts nothing, makes observed values lie in complete and in incomplete rows. Level of each test: 1e-3, divided
by the number of comparisons (Bonferroni); standard errors from independent imputations; seeds fixed.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import bayesimp as bi
from bayesimp.fcs.blocks import mlmi
from tests.longhand import yeo_johnson
from tests.longhand.cells import Cell, compare
from tests.longhand.laws import Rows, hierarchical

EFFECTS = np.array([-1.6, 1.3, 0.3, 2.0, -0.6, 0.0, 0.0])  # the last two clusters are new
SIZES = 6, 10, 14, 8, 12
CELLS = [(0, -1.0), (0, 1.0), (1, 1.0), (2, -1.0), (3, -1.0), (5, -1.0), (5, 1.0), (6, 1.0)]
TRIALS = 3, 11, 5, 20, 8, 14, 2, 6
REPEATS = 5
UNIT = 40.0  # of the normal variable: its residual sd, and the scale of its priors
LEVELS = {
    "bernoulli": ["no", "yes"], "probit": ["no", "yes"], "ordinal": ["low", "middle", "high"],
    "categorical": ["zebra", "ant", "cow"],
}  # fmt: skip
POSITIVE = "gamma", "inverse_gaussian", "lognormal"
LOG = "poisson", "negative_binomial", *POSITIVE
LABELS = np.array(["f", "b", "e", "a", "d", "g", "c"])  # neither in order of place nor of size


def draw(family, eta, second, trials, rng):
    """Values of the model at linear predictors eta, coded as in tests/longhand/cells.py."""
    n = len(eta)
    match family:
        case "normal":
            return 300 + UNIT * (eta + rng.normal(size=n))
        case "bernoulli" | "binomial":
            return rng.binomial(trials, 1 / (1 + np.exp(-eta))).astype(float)
        case "probit":
            return (eta + 1.6 * rng.normal(size=n) > 0).astype(float)
        case "poisson":
            return rng.poisson(np.exp(0.6 * eta + 1)).astype(float)
        case "negative_binomial":
            return rng.poisson(np.exp(0.6 * eta + 1.3) * rng.gamma(3, 1 / 3, n)).astype(float)
        case "zero_inflated_poisson" | "zero_inflated_negative_binomial":
            count = draw(family.removeprefix("zero_inflated_"), eta, second, trials, rng)
            return np.where(rng.random(n) < 0.3, 0.0, count)
        case "hurdle_poisson" | "hurdle_negative_binomial":
            count = draw(family.removeprefix("hurdle_"), eta, second, trials, rng)
            while (count == 0).any():
                again = draw(family.removeprefix("hurdle_"), eta, second, trials, rng)
                count = np.where(count == 0, again, count)
            return np.where(rng.random(n) < 0.3, 0.0, count)
        case "lognormal":
            return 40 * np.exp(0.6 * eta + 0.5 * rng.normal(size=n))
        case "gamma":
            return 40 * np.exp(0.6 * eta) * rng.gamma(4, 1 / 4, n)
        case "inverse_gaussian":
            return 40 * rng.wald(np.exp(0.5 * eta), 3)
        case "beta":
            mean = 1 / (1 + np.exp(-0.7 * eta))
            return rng.beta(5 * mean, 5 * (1 - mean))
        case "student":
            return 300 + UNIT * (eta + 0.7 * rng.standard_t(3, n))
        case "yeo_johnson":
            return 300 + UNIT * yeo_johnson.back(0.5 * eta + 0.7 * rng.normal(size=n), 0.3)
        case "ordinal":
            return np.digitize(eta + rng.logistic(size=n), [-0.7, 0.9]).astype(float)
        case "categorical":
            scores = np.column_stack([np.zeros(n), eta, second]) + rng.gumbel(size=(n, 3))
            return scores.argmax(1).astype(float)
    raise ValueError(family)


def table(family, seed, slopes=0.0, sizes=SIZES):
    """x, cluster, trials, y of all rows and the cell of each, -1 where y is observed; `sizes`: observed rows."""
    rng = np.random.default_rng(seed)
    g = np.r_[np.repeat(np.arange(5), sizes), np.repeat([c for c, _ in CELLS], REPEATS)]
    observed = sum(sizes)
    x = np.r_[
        np.concatenate([np.tile([-1.0, 1.0], n // 2) for n in sizes]),
        np.repeat([x for _, x in CELLS], REPEATS),
    ]
    cell = np.r_[np.full(observed, -1), np.repeat(np.arange(len(CELLS)), REPEATS)]
    trials = np.ones(len(g), dtype=int)
    if family == "binomial":
        trials = np.r_[rng.integers(1, 15, observed), np.repeat(TRIALS, REPEATS)]
    eta = 0.9 * x + EFFECTS[g] + slopes * np.array([1, -1, 0, 1, -1, 0, 0])[g] * x
    y = draw(family, eta, -0.8 * x - EFFECTS[::-1][g], trials, rng)
    return g, x, trials, y, cell


def shuffled(family, data):
    """The table as a user has it, in random order, and the cell of each row."""
    g, x, trials, y, cell = data
    rng = np.random.default_rng(77)
    n, hole = len(g), cell >= 0
    frame = pd.DataFrame({"g": LABELS[g], "x": x, "n": trials})
    levels = LEVELS.get(family)
    if levels:
        text = np.array(levels, dtype=object)[y.astype(int)]
        frame["y"] = pd.Categorical(
            np.where(hole, None, text), categories=levels, ordered=family == "ordinal"
        )
    else:
        frame["y"] = np.where(hole, np.nan, y)
    frame["other"] = np.where(rng.random(n) < 0.3, np.nan, rng.normal(size=n))
    order = rng.permutation(n)
    return frame.iloc[order].reset_index(drop=True), cell[order]


def completed(family, data, method, m, cycles, random="(1 | g)"):
    """Imputations of y by x."""
    declared = {"binomial": "binomial(n)", "probit": "bernoulli"}.get(family, family)
    model = bi.FCS(
        bi.IncompleteData(shuffled(family, data)[0], "g", families={"y": declared}),
        methods={"y": method, "other": "norm"},
        predictors={"y": f"~ x + {random}" if random else "~ x", "other": "~ 1"},
    )
    return model.impute(m, cycles=cycles, seed=5, progress=False)


def impute(family, data, method, m, cycles, random="(1 | g)"):
    """Imputed values, coded, by cell (m, REPEATS)."""
    imp, cell = completed(family, data, method, m, cycles, random), shuffled(family, data)[1]
    if family in LEVELS:
        codes = {level: k for k, level in enumerate(LEVELS[family])}
        values = np.array([[codes[v] for v in imp.frame(j)["y"].to_numpy()[cell >= 0]] for j in range(m)])
    else:
        values = imp.values("y")
    return [values[:, cell[cell >= 0] == c] for c in range(len(CELLS))]


def rows_and_cells(data, q=1):
    g, x, trials, y, cell = data
    seen = cell < 0
    X = np.column_stack([np.ones(len(g)), x])
    rows = Rows(y[seen], trials[seen], X[seen], X[seen][:, :q], g[seen])
    cells = [Cell(c, at, int(trials[cell == k][0])) for k, (c, at) in enumerate(CELLS)]
    at = np.array([[1.0, x] for _, x in CELLS])
    return rows, cells, at, at[:, :q]


def candidates(family, y):
    if family in ("normal", "student", "yeo_johnson"):
        return np.linspace(y.min() - 2, y.max() + 2, 200)
    if family in LEVELS:
        return np.arange(len(LEVELS[family]))
    if family == "beta":
        return np.linspace(0.01, 0.99, 99)
    return (
        np.geomspace(y.min() / 3, y.max() * 2, 60)
        if y.min() > 0 and (y % 1).any()
        else np.arange(y.max() * 2 + 2)
    )


def posterior(family, data, q=1, sd=(5.0, 2.5), **options):
    """Law of the cells, y of the rows on the scale of the model; and this scale (origin, unit).

    Weak priors of beta (x has mean 0 and sd 1), flat where y is normal; half-t(2) standard deviations of effects, and
    of a normal variable, of scale one.
    """
    rows, cells, X, Z = rows_and_cells(data, q)
    origin, unit = (300.0, UNIT) if family == "normal" else (0.0, 1.0)
    if family in POSITIVE:
        unit = rows.y.mean()
    if family in ("student", "yeo_johnson"):
        origin, unit = rows.y.mean(), rows.y.std()
    rows = rows._replace(y=(rows.y - origin) / unit)
    centre = np.log(rows.y.mean()) if family.endswith(("poisson", "negative_binomial")) else 0.0
    sd = np.full(2, 1e3) if family == "normal" else np.array(sd)
    law = hierarchical(
        family, rows, cells, X, Z, mean=np.array([centre, 0.0]), sd=sd, levels=len(LEVELS.get(family, (0, 1))), **options
    )  # fmt: skip
    return rows, cells, law, origin, unit


def against(family, method, m, cycles, seed=1, q=1, slopes=0.0, sizes=SIZES, **options):
    data = table(family, seed, slopes, sizes)
    rows, cells, law, origin, unit = posterior(family, data, q, **options)
    random = "(1 + x | g)" if q == 2 else "(1 | g)"
    values = [(v - origin) / unit for v in impute(family, data, method, m, cycles, random)]
    return compare(family, law, cells, values, candidates(family, rows.y))


NORMAL = bi.priors.Priors(bi.priors.HuangWand(scale=UNIT), bi.priors.HuangWand(scale=UNIT))
PLANE = {"places": 15, "width": 5.0, "count": 1024}  # a grid of two effects
FAMILIES = ["normal", "bernoulli", "probit", "binomial", "poisson", "negative_binomial", "ordinal", "categorical",
            "gamma", "inverse_gaussian", "lognormal", "beta", "student", "yeo_johnson", "zero_inflated_poisson",
            "zero_inflated_negative_binomial", "hurdle_poisson", "hurdle_negative_binomial"]  # fmt: skip


@pytest.mark.parametrize("family", FAMILIES)
def test_bayes(family):
    priors = NORMAL if family == "normal" else None
    method = bi.methods.Bayes(priors, link="probit" if family == "probit" else "logit")
    z, limit = against(family, method, 250, 8, **(PLANE if family == "categorical" else {}))
    assert z < limit


@pytest.mark.parametrize("family", ["bernoulli", "probit", "binomial", "poisson"])
def test_mlmi(family):
    method = bi.methods.MLMI(link="probit" if family == "probit" else "logit")
    z, limit = against(family, method, 250, 8)
    assert z < limit


@pytest.mark.parametrize("family", ["probit", "poisson", "negative_binomial", "ordinal"])
def test_tight_priors(family):
    """They show where they are centred, and the scale that a link has."""
    priors = bi.priors.Priors(Psi=bi.priors.Fixed([[0.25]]), beta=bi.priors.Weak(sd=0.2, intercept=0.1))
    method = bi.methods.Bayes(priors, link="probit" if family == "probit" else "logit")
    z, limit = against(family, method, 250, 8, sd=(0.1, 0.2), Psi=np.array([[0.25]]))
    assert z < limit


@pytest.mark.parametrize("family", ["normal", "bernoulli", "poisson"])
def test_few_rows(family):
    """Much of what is known comes from the prior."""
    method = bi.methods.Bayes(NORMAL) if family == "normal" else "mlmi"
    z, limit = against(family, method, 500, 8, sizes=(2, 4, 2, 2, 4))
    assert z < limit


def test_mlmi_step_alone(monkeypatch):
    """The update of `bayes` that follows would repair part of a wrong prior."""
    monkeypatch.setattr(mlmi, "glmm_step", lambda *arguments: 0)
    z, limit = against("bernoulli", "mlmi", 500, 20, sizes=(2, 4, 2, 2, 4))
    assert z < limit


def test_known_residual_variance():
    """In the units of the data: rows of a cell differ by nothing else. One comparison, level 1e-3."""
    priors = bi.priors.Priors(bi.priors.Fixed([[(3 * UNIT) ** 2]]), bi.priors.HuangWand(scale=UNIT))
    cells = impute("normal", table("normal", 1), bi.methods.Bayes(priors), 200, 2)
    ratio = np.mean([cell.var(axis=1, ddof=1) for cell in cells]) / (3 * UNIT) ** 2
    assert abs(ratio - 1) < 3.3 * np.sqrt(2 / (200 * len(CELLS) * (REPEATS - 1)))


@pytest.mark.parametrize("method, family", [("bayes", "poisson"), ("mlmi", "binomial")])
def test_slopes(method, family):
    z, limit = against(family, method, 250, 8, q=2, slopes=0.9, **PLANE)
    assert z < limit


def share_of_its_own(method, cycles=3, fitted=False):
    """How often y says whether z > 1, as it does where both are observed, in rows that lack y.

    z is missing there, too, and nothing else in the table tells y (by chance: 0.73 at most). fitted: z is also missing in
    nine tenths of the rows with y, where w nearly determines it; the model of y cannot be estimated without its values.
    """
    rng = np.random.default_rng(31)
    n = 400
    g, w = np.arange(n) % 8, rng.normal(size=n)
    z = 2 * w + 0.05 * rng.normal(size=n) if fitted else rng.normal(size=n)
    y = (10 * (z - 1) + rng.logistic(size=n) > 0) * 1.0
    hole = rng.random(n) < 0.25
    no_z = hole | (rng.random(n) < 0.9) if fitted else hole
    frame = pd.DataFrame({"g": g, "y": np.where(hole, np.nan, y), "z": np.where(no_z, np.nan, z), "w": w})
    random = "" if method in ("glm", "sti", "2stage") else " + (1 | g)"
    imp = bi.FCS(
        bi.IncompleteData(frame, "g", families={"y": "bernoulli"}),
        methods={"z": "norm", "y": method},
        predictors={"z": "~ w" if fitted else "~ 1", "y": f"~ z{random}"},
        order=["z", "y"],
    ).impute(5, cycles=cycles, seed=1, progress=False)
    return np.mean([(imp.frame(j)["y"] == (imp.frame(j)["z"] > 1))[hole].mean() for j in range(5)])


@pytest.mark.parametrize("fitted", [False, True])
@pytest.mark.parametrize("method", ["bayes", "mlmi", "mlmi-published", "glm", "sti", "2stage"])
def test_values_belong_to_the_predictors_of_their_own_table(method, fitted):
    """Not to those of the previous cycle or of another row."""
    assert share_of_its_own(method, fitted=fitted) > 0.9
