"""Values that FCS imputes with several grouping factors, against distributions computed without the package.

The variances of all effects are known. Missing cells of a normal variable have a dense normal law
(tests/longhand/several_factors.py), those of a binary or count variable one that quadrature gives (`quadrature`, below).
The completed cells of one chain are compared, cycle by cycle, by batch means with Bonferroni; level 1e-4, and wrong
variants of the sampler and of the way from the kernel to the completed table below 1e-6.
"""

from __future__ import annotations

from functools import cache
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit
from scipy.stats import norm

import bayesimp as bi
from bayesimp import priors as pr
from bayesimp.fcs.blocks import levels, levels_glmm
from bayesimp.fcs.loop import Cycles
from bayesimp.fcs.tree import imputed_cells
from tests.calibration.montecarlo import LEVEL, REJECTED, batch_means, bonferroni, normal, with_products
from tests.longhand import several_factors as longhand

SIGMA2, SCHOOL, CLASS = 1.3, 1.5, 2.0
SLOPES = np.array([[1.5, 0.3], [0.3, 0.8]])
DRAWS, BATCHES = 1_800, 60
CASES = {
    "nested": "~ x + (1 | school) + (1 | class)",
    "crossed, slopes": "~ x + (1 + x | school) + (1 | hood)",
    "without an intercept": "~ 0 + x + (1 | school) + (1 | hood)",
}


@cache
def table(binary: bool = False) -> pd.DataFrame:
    """4 schools of 2 classes, 5 hoods; one school and one hood without y; unsorted.

    `other` is incomplete and predicts nothing: values of y lie in complete and in incomplete rows.
    """
    rng = np.random.default_rng(6)
    n = 40
    school = np.arange(n) % 4
    number, hood, x = rng.integers(0, 2, n), rng.integers(0, 5, n), rng.normal(2.0, 1.0, n)
    y = (
        3
        + x
        + rng.normal(0, 1.5, 4)[school]
        + rng.normal(0, 1.5, (4, 2))[school, number]
        + rng.normal(size=n)
    )
    y += rng.normal(0, 1.5, 5)[hood]
    y[(rng.random(n) < 0.15) | (school == 2) | (hood == 3)] = np.nan
    other = np.where(rng.random(n) < 0.4, np.nan, rng.normal(size=n))
    frame = pd.DataFrame({"y": y, "x": x, "other": other, "school": school})
    frame["class"] = "c" + pd.Series(2 * school + number).astype(str)
    frame["number"], frame["hood"] = "n" + pd.Series(number).astype(str), "h" + pd.Series(hood).astype(str)
    return frame.sample(frac=1, random_state=1)


def model(case: str) -> bi.FCS:
    second = "class" if case == "nested" else "hood"
    Psi = SLOPES if "slopes" in case else [[SCHOOL]]
    priors = pr.Priors(pr.Fixed([[SIGMA2]]), pr.Fixed(Psi), pr.Flat(), Psi_of={second: pr.Fixed([[CLASS]])})
    return made(table(), ["school", second], priors, CASES[case])


def made(frame, clusters, priors, formula, **options) -> bi.FCS:
    methods = {"y": bi.methods.Gibbs(priors, inner=1, compatible=False), "other": "norm"}
    unused = frame.columns.difference([*clusters, "y", "x", "other"])
    data = bi.IncompleteData(frame.drop(columns=unused), clusters, **options)
    return bi.FCS(data, methods, {"y": formula, "other": "~ 1"})


def cells(fcs: bi.FCS, draws: int = DRAWS) -> np.ndarray:
    """(1, draws, cells) completed values of y along one chain."""
    task, out = Cycles(fcs, 3), []
    chain = task.start(0)
    _, blocks, _ = task.parts
    for t in range(draws + 20):
        for block, theta in zip(blocks, chain.theta, strict=True):
            assert block.step(chain, theta) == 0
        if t >= 20:
            out.append(imputed_cells(fcs, [chain])["y"][1][0])
    return np.array(out)[None]


# -- normal --------------------------------------------------------------------------------------------------


@cache
def law(case: str):
    frame = table()
    ones, x = np.ones((len(frame), 1)), frame[["x"]].to_numpy()
    X = x if case == "without an intercept" else np.hstack([ones, x])
    second = "class" if case == "nested" else "hood"
    codes = [pd.factorize(frame[name])[0] for name in ("school", second)]
    first = np.hstack([ones, x]) if "slopes" in case else ones
    parts = [(Z, c, c.max() + 1) for Z, c in zip((first, ones), codes, strict=True)]
    Psis = (SLOPES if "slopes" in case else np.array([[SCHOOL]]), np.array([[CLASS]]))
    return longhand.missing_cells(X, parts, frame[["y"]].to_numpy(), np.array([[SIGMA2]]), Psis)


def agreement(case: str, values: np.ndarray) -> float:
    mean, covariance = law(case)
    white = (values - mean) @ np.linalg.inv(np.linalg.cholesky(covariance)).T
    d = white.shape[-1]
    i, j = np.tril_indices(d)
    found, se = batch_means(with_products(white[0])[None], BATCHES)
    return bonferroni(2 * norm.sf(np.abs(found - np.concatenate([np.zeros(d), i == j])) / se))


@pytest.mark.parametrize("case", CASES)
def test_imputed_values_have_their_law(case):
    assert agreement(case, cells(model(case))) > LEVEL


def effects_left_out(monkeypatch):
    """Values are drawn without the effects of the second factor."""
    monkeypatch.setattr(
        levels.BlockFactors, "added", lambda self, theta, codes, without=0: np.zeros(len(codes))
    )


def groups_of_next_rows(monkeypatch):
    """Effects of a row's second factor are those of the next imputed row."""
    added = levels.BlockFactors.added
    monkeypatch.setattr(
        levels.BlockFactors,
        "added",
        lambda self, theta, codes, without=0: added(self, theta, np.roll(codes, 1, axis=0)),
    )


def neighbouring_groups(monkeypatch):
    """Effects of a group of the second factor are those of its neighbour."""
    added = levels.BlockFactors.added

    def wrong(self, theta, codes, without=0):
        codes = codes.copy()
        codes[:, 1] = (codes[:, 1] + 1) % self.rows.numbers[1]
        return added(self, theta, codes)

    monkeypatch.setattr(levels.BlockFactors, "added", wrong)


def places_of_complete_rows(monkeypatch):
    """Groups of complete rows are looked up by position among these, not in the table."""
    of = levels.FactorRows.of

    def wrong(rows):
        rows.table.D_row[:] = np.arange(len(rows.table.D_row))
        return of(rows)

    monkeypatch.setattr(levels.FactorRows, "of", wrong)


def unseen_groups_at_zero(monkeypatch):
    """Effects of groups without an observed value are zero, not drawn."""
    step = levels.LevelsNormal.fill

    def wrong(self, chain, theta, f):
        theta.own["effects_1"][~self.factors.rows.seen[1]] = 0.0
        return step(self, chain, theta, f)

    monkeypatch.setattr(levels.LevelsNormal, "fill", wrong)


SPOILED = [
    effects_left_out,
    groups_of_next_rows,
    neighbouring_groups,
    places_of_complete_rows,
    unseen_groups_at_zero,
]


@pytest.mark.parametrize("spoil", SPOILED)
def test_wrong_wiring_is_noticed(monkeypatch, spoil):
    spoil(monkeypatch)
    assert agreement("crossed, slopes", cells(model("crossed, slopes"), 1_200)) < REJECTED


# -- binary and counts ---------------------------------------------------------------------------------------

PRIOR = 0.3, 1.2  # mean and sd of beta
SD = {"school": 1.1, "class": 1.4}
NODES, WEIGHTS = np.polynomial.hermite_e.hermegauss(31)
WEIGHTS = WEIGHTS / WEIGHTS.sum()


def likelihood(family: str, y, eta):
    """p(y | eta), up to a constant, with 1 where y is missing; y broadcasts against eta."""
    eta = np.asarray(eta)
    p = expit(np.where(y > 0, eta, -eta)) if family == "bernoulli" else np.exp(y * eta - np.exp(eta))
    return np.where(np.isnan(y), 1.0, p)


@cache
def small(nested: bool, family: str) -> pd.DataFrame:
    """5 schools by 2 classes, either crossed or 2 to a school."""
    rng = np.random.default_rng(8)
    n = 40
    school, second = np.arange(n) % 5, np.arange(n) // 5 % 2
    classes = 2 * school + second if nested else second
    eta = 0.3 + np.array([1.5, -1, 0.5, -1.5, 0])[school] + rng.normal(0, 1.4, 10)[classes]
    y = (
        (rng.random(n) < expit(eta)).astype(float)
        if family == "bernoulli"
        else rng.poisson(np.exp(0.5 * eta)) * 1.0
    )
    y[(rng.random(n) < 0.15) | (school == 4)] = np.nan
    y[(classes == 1) & nested] = np.nan
    other = np.where(rng.random(n) < 0.4, np.nan, rng.normal(size=n))
    frame = pd.DataFrame({"y": y, "other": other, "school": school, "c": classes})
    frame["class"] = "c" + frame["c"].astype(str)
    return frame.sample(frac=1, random_state=2)


def quadrature(frame: pd.DataFrame, nested: bool, family: str) -> np.ndarray:
    """E(v) of the missing cells in the order of the table, and E(v_j v_k) of neighbours among them; v: `bounded`.

    Crossed: over (beta, both classes); given these, schools are independent. Nested: over beta; given it and the
    effect of a school, its classes are. Gauss and Hermite's rule in every dimension.
    """
    y, school, classes = (frame[name].to_numpy() for name in ("y", "school", "c"))
    lost = np.flatnonzero(np.isnan(y))
    beta, a, c = PRIOR[0] + PRIOR[1] * NODES, SD["school"] * NODES, SD["class"] * NODES
    mean = expit if family == "bernoulli" else (lambda eta: np.exp(-np.exp(eta)))
    sets = [(j,) for j in lost] + list(pairwise(lost))

    @cache
    def of_school(i: int, cells_: frozenset[int]) -> np.ndarray:
        """Integral over the effects of a school (nested: and of its classes), given beta (crossed: and the classes)."""
        if nested:
            of_school = np.ones((len(beta), len(a)))
            for k in np.unique(classes[school == i]):
                eta = beta[:, None, None] + a[:, None] + c
                p = np.ones(eta.shape)
                for j in np.flatnonzero(classes == k):
                    p = p * likelihood(family, y[j], eta) * (mean(eta) if j in cells_ else 1.0)
                of_school = of_school * (p @ WEIGHTS)
            return of_school @ WEIGHTS
        p = np.ones((len(beta), len(c), len(c), len(a)))
        for j in np.flatnonzero(school == i):
            of_class = c[:, None, None] if classes[j] == 0 else c[:, None]
            eta = beta[:, None, None, None] + of_class + a
            p = p * likelihood(family, y[j], eta) * (mean(eta) if j in cells_ else 1.0)
        return p @ WEIGHTS

    def total(cells_: tuple[int, ...]) -> float:
        """Integral of the likelihood times the mean of these cells."""
        own = {i: frozenset(j for j in cells_ if school[j] == i) for i in np.unique(school)}
        whole = np.prod([of_school(i, cells) for i, cells in own.items()], axis=0)
        return float(whole @ WEIGHTS if nested else np.einsum("bcd,b,c,d", whole, *[WEIGHTS] * 3))

    one = total(())
    return np.array([total(cells_) / one for cells_ in sets])


def discrete(nested: bool, family: str) -> bi.FCS:
    fixed = {name: pr.Fixed([[sd**2]]) for name, sd in SD.items()}
    priors = pr.Priors(Psi=fixed["school"], beta=pr.Normal(*PRIOR), Psi_of={"class": fixed["class"]})
    formula = "~ 1 + (1 | school) + (1 | class)"
    return made(small(nested, family), ["school", "class"], priors, formula, families={"y": family})


@cache
def expected(nested: bool, family: str) -> np.ndarray:
    return quadrature(small(nested, family), nested, family)


def bounded(values: np.ndarray, family: str) -> np.ndarray:
    """Levels unchanged; for counts whether they are 0, because counts have long tails."""
    return values if family == "bernoulli" else (values == 0).astype(float)


def agreement_of_means(nested: bool, family: str, values: np.ndarray) -> float:
    values = bounded(values, family)
    moments = np.concatenate([values, values[..., :-1] * values[..., 1:]], axis=-1)
    found, se = batch_means(moments, BATCHES)
    return bonferroni(2 * norm.sf(np.abs(found - expected(nested, family)) / se))


DISCRETE = [(True, "bernoulli"), (False, "bernoulli"), (True, "poisson")]


@pytest.mark.parametrize("nested, family", DISCRETE)
def test_imputed_levels_and_counts_have_their_law(nested, family):
    values = cells(discrete(nested, family), 2_400)
    assert agreement_of_means(nested, family, values) > LEVEL


def offsets_of_other_rows(monkeypatch):
    """Effects of the other factors are not sorted like the rows."""
    others = levels_glmm.LevelsGlmm._others

    def wrong(self, theta, s, Z):
        return others(self, theta, s, Z)[np.argsort(self.order[s])]

    monkeypatch.setattr(levels_glmm.LevelsGlmm, "_others", wrong)


def offsets_forgotten(monkeypatch):
    """Every factor is drawn as if it were the only one."""
    monkeypatch.setattr(levels_glmm.LevelsGlmm, "_others", lambda self, theta, s, Z: np.zeros(len(Z)))


@pytest.mark.parametrize(
    "spoil, nested",
    [
        (effects_left_out, True),
        (neighbouring_groups, True),
        (offsets_of_other_rows, False),
        (offsets_forgotten, True),
    ],
)
def test_wrong_variants_of_discrete_models_are_noticed(monkeypatch, spoil, nested):
    fcs = discrete(nested, "bernoulli")
    spoil(monkeypatch)
    assert agreement_of_means(nested, "bernoulli", cells(fcs, 2_400)) < REJECTED


# -- the move between nested factors -------------------------------------------------------------------------


def moved(q: int, seed: int, change=lambda fine, coarse: (fine, coarse)):
    """Effects of 20,000 schools with q columns and of their classes from their distributions, before and after a move.

    change: Psi given to the move instead of the right ones.
    """
    rng = np.random.default_rng(seed)
    number = 20_000
    Psi_t, Psi_s = (np.array([[1.2, 0.4], [0.4, 0.9]]) if q == 2 else np.array([[1.2]])), np.array([[0.5]])
    parent = np.repeat(np.arange(number), rng.integers(0, 4, number))
    parent = np.append(parent, -1)  # a class without an observed value
    coarse = rng.multivariate_normal(np.zeros(q), Psi_t, number)[:, :, None]
    fine = rng.normal(0, np.sqrt(Psi_s[0, 0]), (len(parent), 1, 1))
    before = fine.copy(), coarse.copy()
    block = SimpleNamespace(nested=[(1, 0, parent)], intercept=0)
    given = change(Psi_s, Psi_t)
    levels_glmm.LevelsGlmm._shift_between(
        block, SimpleNamespace(rng=rng), [given[1], given[0]], [coarse, fine]
    )
    return parent, (Psi_s, Psi_t), before, (fine, coarse)


def law_after_a_move(parent, Psis, effects) -> float:
    """p-value of first and second moments of the effects, over schools with two classes or more."""
    fine, coarse = effects
    first = np.flatnonzero((parent[1:] == parent[:-1]) & (np.append(-1, parent[:-2]) != parent[:-1]))
    rows = np.column_stack([fine[first, 0], fine[first + 1, 0], coarse[parent[first], :, 0]])
    covariance = np.zeros((rows.shape[1],) * 2)
    covariance[0, 0] = covariance[1, 1] = Psis[0][0, 0]
    covariance[2:, 2:] = Psis[1]
    return normal(rows, np.zeros(rows.shape[1]), covariance)


@pytest.mark.parametrize("q", [1, 2])
def test_the_shift_leaves_sums_and_distributions(q):
    parent, Psis, before, after = moved(q, 1)
    seen = parent >= 0
    sums = [f[seen, 0, 0] + c[parent[seen], 0, 0] for f, c in (before, after)]
    np.testing.assert_allclose(*sums)
    assert (
        np.abs(before[1][np.unique(parent[seen]), 0, 0] - after[1][np.unique(parent[seen]), 0, 0]) > 0
    ).all()
    assert before[0][-1] == after[0][-1]  # without values nothing moves
    assert law_after_a_move(parent, Psis, after) > LEVEL


@pytest.mark.parametrize(
    "change",
    [lambda fine, coarse: (2 * fine, coarse), lambda fine, coarse: (fine, np.diag(np.diag(coarse)))],
    ids=["variance", "covariance with the slope"],
)
def test_a_wrong_shift_is_noticed(change):
    parent, Psis, _, after = moved(2, 1, change)
    assert law_after_a_move(parent, Psis, after) < REJECTED


# -- variances -----------------------------------------------------------------------------------------------

PRIORS = {
    "sigma2": (4.0, 0.25),
    "school": (3.0, 0.3),
    "class": (5.0, 0.5),
}  # nu and V of inverse-Wishart priors


@cache
def exact_variances() -> np.ndarray:
    """Means of the logs of sigma^2, tau_school^2, tau_class^2 and of their products, by their marginal likelihood (GLS,
    beta flat and integrated out) on a grid."""
    frame = table().dropna(subset="y")
    y, X = frame["y"].to_numpy(), np.column_stack([np.ones(len(frame)), frame["x"]])
    same = [
        np.equal.outer(c, c).astype(float) for c in (frame["school"].to_numpy(), frame["hood"].to_numpy())
    ]
    axes = [np.linspace(*ends, 30) for ends in ((-2.5, 2.2), (-3.5, 5.5), (-3.5, 4.5))]
    logs = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)
    value = np.empty(len(logs))
    for part in np.array_split(np.arange(len(logs)), 60):
        s, a, b = np.exp(logs[part]).T[:, :, None, None]
        L = np.linalg.cholesky(s * np.eye(len(y)) + a * same[0] + b * same[1])
        Xy = np.linalg.solve(L, np.broadcast_to(np.column_stack([X, y]), (len(part), *X.shape[:1], 3)))
        gram = Xy.swapaxes(1, 2) @ Xy
        A, c = gram[:, :2, :2], gram[:, :2, 2:]
        rest = gram[:, 2, 2] - (c * np.linalg.solve(A, c)).sum((1, 2))
        log_det = 2 * np.log(np.diagonal(L, axis1=1, axis2=2)).sum(1) + np.linalg.slogdet(A)[1]
        value[part] = -0.5 * (log_det + rest)
    for k, (nu, V) in enumerate(PRIORS.values()):
        value -= 0.5 * nu * logs[:, k] + 0.5 / V * np.exp(-logs[:, k])  # of the logarithm
    weight = np.exp(value - value.max())
    return np.average(with_products(logs), axis=0, weights=weight)


def variances(priors: pr.Priors, draws: int) -> np.ndarray:
    fcs = made(table(), ["school", "hood"], priors, "~ x + (1 | school) + (1 | hood)")
    imp = fcs.impute(1, cycles=draws, seed=2, progress=False)
    posterior = imp.tree["posterior"]
    return np.log([posterior[name].values.ravel() for name in ("sigma2_y", "Psi_y", "Psi_hood_y")]).T


def agreement_of_variances(logs: np.ndarray) -> float:
    found, se = batch_means(with_products(logs)[None], 40)
    return bonferroni(2 * norm.sf(np.abs(found - exact_variances()) / se))


def inverse_wisharts(*order: str) -> pr.Priors:
    own = [pr.InverseWishart(*PRIORS[name]) for name in order]
    return pr.Priors(own[0], own[1], pr.Flat(), Psi_of={"hood": own[2]})


def test_variances_have_their_posterior():
    assert agreement_of_variances(variances(inverse_wisharts("sigma2", "school", "class"), 4_000)) > LEVEL


def test_exchanged_priors_of_variances_are_noticed():
    assert agreement_of_variances(variances(inverse_wisharts("sigma2", "class", "school"), 4_000)) < REJECTED
