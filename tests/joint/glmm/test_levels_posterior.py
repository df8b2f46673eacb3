"""The posterior of a joint GLMM with several grouping factors, where it is known: dense normals, sums over the missing
levels with quadrature over effects, and the joint normal model.

Level 1e-4 after Bonferroni over quantities; wrong variants of the sampler and of its wiring below 1e-6.
"""

from __future__ import annotations

from functools import cache
from itertools import product

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import bayesimp as bi
from bayesimp import priors as pr
from bayesimp.joint.glmm import levels
from bayesimp.joint.glmm.chain import start_chain
from bayesimp.joint.glmm.prior import factor_priors
from bayesimp.joint.glmm.sampler import Sampler
from bayesimp.joint.glmm.working import WorkingRows
from tests.calibration.montecarlo import LEVEL, REJECTED, batch_means, bonferroni, with_products
from tests.joint.glmm import test_posterior as one_factor
from tests.longhand import several_factors as longhand

BATCHES = 50


def sampler(model: bi.JointGLMM, seed: int = 1) -> Sampler:
    priors = factor_priors(model.table, model.priors, model.separate, cluster=model.data.cluster)
    return Sampler(model.table, priors, start_chain(model.table, priors, seed, 0), "test")


# -- normal responses that are in no other factor: a dense normal ------------------------------------------------

SIGMA2 = 1.3
CLASS = np.array([[2.0, 0.3, 0.9, 0.0], [0.3, 0.7, 0.1, -0.3], [0.9, 0.1, 1.0, 0.2], [0.0, -0.3, 0.2, 0.8]])
SCHOOL = np.array([[1.2, 0.3, 0.2, 0.0], [0.3, 0.5, 0.0, 0.1], [0.2, 0.0, 0.9, -0.2], [0.0, 0.1, -0.2, 0.6]])


@cache
def pupils(nested: bool) -> pd.DataFrame:
    """4 schools; 8 classes, two in each school or crossed with them; unsorted."""
    rng = np.random.default_rng(5)
    n = 36
    school, x = np.arange(n) % 4, rng.normal(2.0, 1.0, n)
    second = school * 2 + rng.integers(0, 2, n) if nested else rng.integers(0, 8, n)
    Y = np.column_stack([3 + x, -1 - 0.5 * x]) + rng.normal(0, 1.5, (4, 2))[school]
    Y += rng.normal(0, 1.5, (8, 2))[second] + rng.normal(size=(n, 2))
    Y[rng.random(Y.shape) < 0.15] = np.nan
    Y[school == 2, 1] = np.nan
    Y[0] = np.nan
    frame = pd.DataFrame({"y": Y[:, 0], "w": Y[:, 1], "x": x, "school": school})
    frame["class"] = "c" + pd.Series(second).astype(str)
    return frame.sample(frac=1, random_state=1)


def agreement(nested: bool, draws: int) -> float:
    """Completed cells of one chain against their law; covariances known, coefficients flat."""
    frame = pupils(nested)
    priors = pr.Priors(pr.Fixed([[SIGMA2]]), pr.Fixed(SCHOOL), pr.Flat(), Psi_of={"class": pr.Fixed(CLASS)})
    formula = "y ~ x + (1 + x | school) + (1 + x | class)"
    own = {"w": "~ x + (1 + x | school) + (1 + x | class)"}
    model = bi.JointGLMM(
        bi.IncompleteData(frame, ["school", "class"]), formula, own, order=["y", "w"], priors=priors
    )
    chain, out = sampler(model), []
    for t in range(draws + 20):
        chain.sweep(tune=t < 20)
        if t >= 20:
            out.append(_in_table(model, chain.completed()))
    X = np.column_stack([np.ones(len(frame)), frame["x"]])
    parts = [(X, c, c.max() + 1) for c in (pd.factorize(frame[name])[0] for name in ("school", "class"))]
    Y = frame[["y", "w"]].to_numpy()
    mean, covariance = longhand.missing_cells(X, parts, Y, SIGMA2 * np.eye(2), (SCHOOL, CLASS))
    return whitened(np.array(out), mean, covariance)


def whitened(draws: np.ndarray, mean: np.ndarray, covariance: np.ndarray) -> float:
    """Draws (D, cells) of one chain against a normal law: first and second moments."""
    white = (draws - mean) @ np.linalg.inv(np.linalg.cholesky(covariance)).T
    i, j = np.tril_indices(len(mean))
    found, se = batch_means(with_products(white)[None], BATCHES)
    return bonferroni(2 * stats.norm.sf(np.abs(found - np.concatenate([np.zeros(len(mean)), i == j])) / se))


def _in_table(model: bi.JointGLMM, drawn: list[np.ndarray]) -> np.ndarray:
    """Missing cells row by row in the order of the table, in the units of the data."""
    table, out = model.table, np.full((len(model.table.row), 2), np.nan)
    for k, y in enumerate(drawn):
        out[table.row[table.missing[k]], k] = table.arrays.center[k] + table.arrays.unit[k] * y
    return out[~np.isnan(out)]


@pytest.mark.parametrize("nested", [True, False])
def test_completed_cells_of_normal_responses_have_their_law(nested):
    assert agreement(nested, 1_500) > LEVEL


def test_variables_of_classes_with_effects_of_schools_have_their_law():
    """Classes are the clusters; the law is that of a table with one row for each."""
    classes, school = np.arange(12), np.arange(12) // 3
    rng = np.random.default_rng(3)
    v = np.array([2.0, -1.0, 0.0, 3.0])[school] + rng.normal(size=12)
    v[[1, 4, 9, 10, 11]] = np.nan
    at = np.repeat(classes, 3)
    frame = pd.DataFrame({"class": at, "v": v[at], "y": rng.normal(size=36)})
    frame["school"] = "s" + pd.Series(school[at]).astype(str)
    frame.loc[rng.random(36) < 0.2, "y"] = np.nan
    priors = pr.Priors(
        pr.Fixed([[SIGMA2]]), pr.Fixed([[1.0]]), pr.Flat(), Psi_of={"school": pr.Fixed(np.diag([2.5, 1.0]))}
    )
    model = bi.JointGLMM(
        bi.IncompleteData(frame, ["class", "school"]), "y ~ 1 + (1 | class) + (1 | school)", {"v": "~ 1 + (1 | school)"},
        order=["v", "y"], priors=priors,
    )  # fmt: skip
    chain, table, out = sampler(model), model.table, []
    firsts = np.unique(table.arrays.cluster[table.missing[0]], return_index=True)
    order = np.argsort(table.order[firsts[0]])
    for _ in range(1_500):
        chain.sweep()
        out.append((table.arrays.center[0] + table.arrays.unit[0] * chain.completed()[0])[firsts[1]][order])
    one = np.ones((12, 1))
    mean, covariance = longhand.missing_cells(
        one, [(one, school, 4)], v[:, None], np.array([[SIGMA2]]), (np.array([[2.5]]),)
    )
    assert whitened(np.array(out), mean, covariance) > LEVEL
    assert whitened(np.array(out), mean, 1.3 * covariance) < REJECTED


# -- an incomplete binary covariate with a slope in the second of two crossed factors: sums and quadrature ----------

PSI = {  # effects of x, of y, and in classes the slope of x
    "school": [[1.5, 0.8], [0.8, 1.2]],
    "class": [[2.0, -1.1, 0.9], [-1.1, 1.5, -0.4], [0.9, -0.4, 6.0]],
}
BETA = 1.5  # prior sd of every coefficient
NODES, WEIGHTS = np.polynomial.hermite_e.hermegauss(9)


@cache
def tiny() -> pd.DataFrame:
    """16 rows in 2 schools crossed with 2 classes; 4 values of x are missing, two of them in one class."""
    rng = np.random.default_rng(11)
    school, second = np.arange(16) % 2, np.arange(16) // 2 % 2
    x = (rng.random(16) < 0.5).astype(float)
    y = np.array([1.0, -1.0])[school] + np.array([-1.6, 1.2])[second] + x + rng.normal(0, 0.7, 16)
    x[[1, 2, 7, 10]] = np.nan
    frame = pd.DataFrame({"x": x, "y": y.round(2), "school": school, "class": second})
    frame["class"] = frame["class"].map({0: "p", 1: "q"})
    return frame


@cache
def law() -> np.ndarray:
    """P(x = v | all observed values) for the 16 combinations v of the missing values, in the order of `product`.

    Effects of x and its coefficient are integrated by Gauss and Hermite's rule in 5 dimensions; given them, the observed
    y are normal, effects of y being normal given those of x.
    """
    x, y = tiny()["x"].to_numpy(), tiny()["y"].to_numpy()
    codes = [pd.factorize(tiny()[name])[0] for name in ("school", "class")]
    Psi = [np.array(PSI[name]) for name in ("school", "class")]
    grid = np.array(list(product(NODES, repeat=5)))
    weight = np.prod(np.array(list(product(WEIGHTS, repeat=5))), axis=1)
    u = [np.sqrt(P[0, 0]) * grid[:, 1 + 2 * j : 3 + 2 * j] for j, P in enumerate(Psi)]
    eta = BETA * grid[:, :1] + u[0][:, codes[0]] + u[1][:, codes[1]]
    out = []
    for values in product([0.0, 1.0], repeat=int(np.isnan(x).sum())):
        v = x.copy()
        v[np.isnan(x)] = values
        X, mean, V = np.column_stack([np.ones(len(y)), v]), np.zeros(eta.shape), SIGMA2 * np.eye(len(y))
        for P, own, c in zip(Psi, u, codes, strict=True):
            Z = X[:, : len(P) - 1]
            mean = mean + (Z @ P[1:, 0]) / P[0, 0] * own[:, c]
            V += Z @ (P[1:, 1:] - np.outer(P[1:, 0], P[0, 1:]) / P[0, 0]) @ Z.T * (c[:, None] == c)
        root = np.linalg.cholesky(V + BETA**2 * X @ X.T)
        white = np.linalg.solve(root, (y - mean).T)
        log_p = -0.5 * (white**2).sum(axis=0) - np.log(np.diagonal(root)).sum()
        log_p -= np.log1p(np.exp(np.where(v == 1, -eta, eta))).sum(axis=1)
        out.append(weight @ np.exp(log_p))
    return np.array(out) / np.sum(out)


def binary() -> bi.JointGLMM:
    data = bi.IncompleteData(tiny(), ["school", "class"], families={"x": "bernoulli"})
    priors = pr.Priors(
        pr.Fixed([[SIGMA2]]),
        pr.Fixed(PSI["school"]),
        pr.Normal(0.0, BETA),
        Psi_of={"class": pr.Fixed(PSI["class"])},
    )
    own = {"x": "~ 1 + (1 | school) + (1 | class)"}
    return bi.JointGLMM(data, "y ~ x + (1 | school) + (1 + x | class)", own, priors=priors)


def agreement_of_levels(draws: int) -> float:
    """Means of the four missing values and of their products, one chain."""
    model, out = binary(), []
    chain, place = sampler(model), np.argsort(model.table.row)
    lost = place[np.isnan(tiny()["x"].to_numpy())]
    for t in range(draws + 50):
        chain.sweep(tune=t < 50)
        out.append(chain.chain.Y[lost, 0].copy())
    values = np.array(list(product([0.0, 1.0], repeat=4)))
    i, j = np.tril_indices(4, -1)
    both = [np.column_stack([v, v[:, i] * v[:, j]]) for v in (values, np.array(out[50:]))]
    found, se = batch_means(both[1][None], BATCHES)
    return bonferroni(2 * stats.t(BATCHES - 1).sf(np.abs(found - law() @ both[0]) / se))


def test_missing_levels_have_their_law():
    assert agreement_of_levels(4_000) > LEVEL


def effects_left_out_of_cells(monkeypatch):
    """Missing cells are drawn as if there were no classes."""
    monkeypatch.setattr(levels.FurtherEffects, "combined", combined_without(lambda effects: 0 * effects))


def slopes_left_out_of_cells(monkeypatch):
    """Missing cells are drawn as if classes had no slopes."""
    without = combined_without(lambda effects: effects * (np.arange(effects.shape[-1]) == 0))
    monkeypatch.setattr(levels.FurtherEffects, "combined", without)


def combined_without(change):
    """What cells read, with changed effects of classes."""
    combined, effects = levels.FurtherEffects.combined, levels.FurtherEffects.effects

    def wrong(self, k, cluster=None):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(
                levels.FurtherEffects, "effects",
                lambda self, k, level: change(effects(self, k, level)) if level else effects(self, k, level),
            )  # fmt: skip
            return combined(self, k, cluster)

    return wrong


def classes_of_other_rows(monkeypatch):
    """The effects that a row gets are those of another class."""
    effects = levels.FurtherEffects.effects
    monkeypatch.setattr(
        levels.FurtherEffects, "effects", lambda self, k, s: np.roll(effects(self, k, s), int(s > 0), axis=0)
    )


def stale_predictors(monkeypatch):
    """Cells are drawn with the effects of five sweeps ago."""
    update = Sampler.update_cells

    def wrong(self, k, tune=False):
        B, past = self.state.B, self.__dict__.setdefault("past", [])
        now = B.copy()
        past.append(now)
        B[:] = past[max(len(past) - 11, 0)]
        update(self, k, tune)
        B[:] = now

    monkeypatch.setattr(Sampler, "update_cells", wrong)


def clusters_left_out(monkeypatch):
    """Effects of classes are drawn as if there were no schools."""
    added = levels.FurtherEffects._added

    def wrong(self, k, level, rows, state):
        return added(self, k, level, rows, state) * (level > 0)

    monkeypatch.setattr(levels.FurtherEffects, "_added", wrong)


def classes_counted_twice(monkeypatch):
    """Effects of classes are drawn given their own present values."""
    rows = levels.FurtherEffects.rows

    def wrong(self, k, level, state):
        own = rows(self, k, level, state)
        twice = self._added(k, level, own.rows, state).ravel() * (level > 0)
        return own._replace(offset=own.offset + twice)

    monkeypatch.setattr(levels.FurtherEffects, "rows", wrong)


def rows_in_the_order_of_the_table(monkeypatch):
    """Columns of rows sorted by class are those of rows sorted by school."""
    columns = WorkingRows.columns
    monkeypatch.setattr(
        WorkingRows, "columns", lambda self, k, rows, level=0: columns(self, k, np.sort(rows), level)
    )


WRONG = {
    effects_left_out_of_cells: 1_200,
    slopes_left_out_of_cells: 2_400,
    classes_of_other_rows: 1_200,
    stale_predictors: 1_200,
    clusters_left_out: 3_600,
    classes_counted_twice: 1_200,
    rows_in_the_order_of_the_table: 1_200,
}


@pytest.mark.parametrize("spoil", WRONG)
def test_wrong_wiring_of_levels_is_noticed(spoil, monkeypatch):
    law()
    spoil(monkeypatch)
    assert agreement_of_levels(WRONG[spoil]) < REJECTED


# -- a nominal response with a slope in the second of two crossed factors: quadrature -------------------------------

OF_LEVELS = {  # effects on the predictor of the second level, then of the third; in classes intercept, then slope of z
    "school": [[0.9, -0.4], [-0.4, 0.7]],
    "class": [[0.8, 0.2, 0.3, 0.0], [0.2, 0.6, 0.0, -0.3], [0.3, 0.0, 0.9, -0.2], [0.0, -0.3, -0.2, 0.7]],
}


@cache
def nominal() -> pd.DataFrame:
    rng = np.random.default_rng(2)
    frame = tiny()[["school", "class"]].assign(z=rng.integers(0, 2, 16) * 1.0)
    frame["c"] = np.array(list("stu"))[rng.integers(0, 3, 16)]
    frame.loc[frame["class"] == "p", "c"] = frame["c"].where(rng.random(16) < 0.4, "u")
    frame.loc[[2, 5, 11], "c"] = None
    return frame


@cache
def law_of_levels() -> np.ndarray:
    """P(c = level | observed values) for the three missing cells, level by level; coefficients are zero.

    Given the effects of both schools, those of each class are integrated on their own.
    """
    x, w = np.polynomial.hermite_e.hermegauss(5)
    grid, weight = np.array(list(product(x, repeat=4))), np.prod(list(product(w, repeat=4)), axis=1)
    frame = nominal()
    school, class_ = (pd.factorize(frame[name])[0] for name in ("school", "class"))
    y, z = pd.Categorical(frame["c"], list("stu")).codes, frame["z"].to_numpy()
    b = grid.reshape(-1, 2, 2) @ np.linalg.cholesky(OF_LEVELS["school"]).T
    c = grid @ np.linalg.cholesky(OF_LEVELS["class"]).T
    log_p = np.empty((16, len(b), len(c), 3))
    for j in range(16):
        log_p[j, ..., 0] = 0.0
        log_p[j, ..., 1:] = b[:, None, school[j]] + c[:, 0::2] + c[:, 1::2] * z[j]
        log_p[j] -= np.log(np.exp(log_p[j]).sum(axis=-1, keepdims=True))
    seen = np.flatnonzero(y >= 0)

    def total(j: int = 0, level: int | None = None) -> float:
        out = weight
        for k in range(2):
            part = sum(log_p[i, ..., y[i]] for i in seen if class_[i] == k)
            part = part + log_p[j, ..., level] if level is not None and class_[j] == k else part
            out = out * (np.exp(part) @ weight)
        return out.sum()

    return np.array([[total(j, v) for v in (1, 2)] for j in np.flatnonzero(y < 0)]).ravel() / total()


def agreement_of_nominal(draws: int) -> float:
    data = bi.IncompleteData(nominal(), ["school", "class"], families={"c": "categorical"})
    priors = pr.Priors(
        beta=pr.Normal(0.0, 1e-3),
        Psi=pr.Fixed(OF_LEVELS["school"]),
        Psi_of={"class": pr.Fixed(OF_LEVELS["class"])},
    )
    model, out = bi.JointGLMM(data, "c ~ 1 + (1 | school) + (1 + z | class)", priors=priors), []
    chain = sampler(model)
    order = np.argsort(model.table.row[model.table.missing[0]])
    for _ in range(draws):
        chain.sweep()
        out.append(chain.completed()[0][order])
    shares = (np.array(out)[..., None] == [1, 2]).reshape(draws, -1)
    found, se = batch_means(shares[None], BATCHES)
    return bonferroni(2 * stats.t(BATCHES - 1).sf(np.abs(found - law_of_levels()) / se))


def test_a_nominal_response_has_its_law():
    assert agreement_of_nominal(2_000) > LEVEL


def levels_exchanged(monkeypatch):
    """Each predictor of a row gets the effects of classes on the other one."""
    effects = levels.FurtherEffects.effects
    monkeypatch.setattr(
        levels.FurtherEffects, "effects", lambda self, k, s: effects(self, k, s)[:, :: -1 if s else 1]
    )


def one_offset(monkeypatch):
    """Effects of other factors on the first predictor are added to both."""
    added = levels.FurtherEffects._added
    monkeypatch.setattr(
        levels.FurtherEffects, "_added", lambda *given: np.repeat(added(*given)[:, :1], 2, axis=1)
    )


@pytest.mark.parametrize("spoil", [classes_of_other_rows, levels_exchanged, one_offset])
def test_wrong_wiring_of_nominal_responses_is_noticed(spoil, monkeypatch):
    spoil(monkeypatch)
    assert agreement_of_nominal(1_500) < REJECTED


# -- all factors normal: the joint normal model -------------------------------------------------------------------

NU, V, SD = 6.0, 2.0, 3.0
IW = pr.Priors(pr.InverseWishart(NU, V), pr.InverseWishart(NU, V, centred=False), pr.Normal(0.0, SD))


@cache
def two_variables() -> bi.IncompleteData:
    """16 clusters g of 3 groups h each."""
    rng = np.random.default_rng(9)
    n = 160
    g = np.arange(n) % 16
    h = 3 * g + np.arange(n) // 16 % 3
    effects = rng.multivariate_normal([0, 0], [[1.0, -0.6], [-0.6, 1.0]], 16)[g]
    effects = effects + rng.multivariate_normal([0, 0], [[0.8, 0.5], [0.5, 0.8]], 48)[h]
    e = rng.multivariate_normal([0, 0], [[0.8, 0.3], [0.3, 0.8]], n)
    frame = pd.DataFrame({"g": g, "h": "h" + pd.Series(h).astype(str)})
    frame[["x", "y"]] = effects + e
    for k, name in enumerate("xy"):
        frame.loc[(g % 6 == k) | (rng.random(n) < 0.2), name] = np.nan
    return bi.IncompleteData(frame, ["g", "h"])


def all_quantities(beta, Sigma, Psi, imp):
    both = [one_factor.quantities(beta, Sigma, P, one_factor.imputed_means(imp)) for P in Psi]
    return np.concatenate([both[0], both[1][..., -3:]], axis=-1)


@cache
def of_joint_normal():
    model = bi.JointNormal(two_variables(), "x + y ~ 1 + (1 | g) + (1 | h)", IW)
    imp = model.impute(4, chains=4, tune=200, draws=2000, **one_factor.RUN)
    tree = imp.tree["posterior"]
    Psi = [tree[f"Psi_{label}"].values for label in "gh"]
    return all_quantities(tree["beta"].values[:, :, 0], tree["Sigma"].values, Psi, imp)


def log_iw(S):
    flat = np.moveaxis(S.reshape(-1, 2, 2), 0, -1)
    return stats.invwishart(NU, np.eye(2) / V).logpdf(flat).reshape(S.shape[:2])


def of_factors(draws: int = 1000):
    """Quantities, and log weights that turn the priors of the factors into those of the joint model.

    Effects of both grouping factors, and residuals, are multiplied by L = [1 0; G 1] (`one_factor.as_joint`).
    """
    model = bi.JointGLMM(two_variables(), "y ~ x + (1 | g) + (1 | h)", priors=IW)
    imp = model.impute(4, chains=2, tune=200, draws=draws, **one_factor.RUN)
    tree = imp.tree["posterior"]
    a, (c, G) = tree["beta_x"].values[..., 0], np.moveaxis(tree["beta_y"].values, -1, 0)
    s = np.stack([tree["sigma2_x"].values, tree["sigma2_y"].values], axis=-1)
    L = np.zeros((*G.shape, 2, 2))
    L[..., 0, 0] = L[..., 1, 1] = 1.0
    L[..., 1, 0] = G
    turned, own = np.swapaxes(L, -1, -2), [tree[f"Psi_{label}"].values for label in "gh"]
    Sigma, Psi = L @ (s[..., None] * turned), [L @ P @ turned for P in own]
    beta = np.stack([a, c + G * a], axis=-1)
    log_weight = (
        stats.norm.logpdf(beta[..., 1], 0, SD) - stats.norm.logpdf(c, 0, SD) - stats.norm.logpdf(G, 0, SD)
    )
    log_weight += (
        log_iw(Sigma) - stats.invgamma(NU / 2, scale=0.5 / V).logpdf(s).sum(axis=-1) + np.log(s[..., 0])
    )
    log_weight += sum(log_iw(after) - log_iw(before) for after, before in zip(Psi, own, strict=True))
    return all_quantities(beta, Sigma, Psi, imp), log_weight


def test_all_normal_factors_are_the_joint_normal_model():
    values, log_weight = of_factors()
    assert one_factor.p_weighted(values, log_weight, of_joint_normal()) > LEVEL


def test_a_move_between_other_groups_is_noticed(monkeypatch):
    """The coordinate of the wrong factor moves: predictors change, and nothing accounts for it."""
    shift = levels.shift_between

    def wrong(rng, Psi, effects, at, parent):
        shift(rng, Psi, effects, (at[0], 1 - at[1]), parent)

    monkeypatch.setattr(levels, "shift_between", wrong)
    values, log_weight = of_factors(300)
    assert one_factor.p_weighted(values, 0 * log_weight, of_joint_normal()) < REJECTED
