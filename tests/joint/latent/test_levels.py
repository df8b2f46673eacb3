"""`JointLatent` with several grouping factors: exact laws, and `JointNormal` where all is normal.

A tiny table of two crossed factors, with a binary variable of rows, a binary one of schools and a number of classes.
With both Psi known, the posterior of the coefficients and the law of all missing cells are integrals over the effects and
coefficients. Given those of the classes, schools are independent, so Gauss-Hermite nodes are few. Gibbs: batch means of 2
chains; quadrature is exact at this precision (test_the_nodes_are_enough). Bonferroni; level 1e-4, wrong variants 1e-6.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pandas as pd
import pytest
from scipy.special import ndtr
from scipy.stats import multivariate_normal, norm

import bayesimp as bi
from bayesimp import priors as pr
from bayesimp.joint.latent.levels.model import SeveralLatentFactors
from tests.calibration.montecarlo import LEVEL, REJECTED, batch_means, bonferroni
from tests.joint.latent.brute_force import nodes
from tests.joint.quantities import quantities
from tests.joint.test_gibbs_against_nuts import largest

SCHOOLS, CLASSES, TAU = 4, 3, 1.5
SCHOOL = np.array([[0.9, 0.6], [0.6, 1.0]])  # effect on y, latent s
CLASS = np.array([[0.8, 0.5], [0.5, 0.6]])  # effect on y, v
V = np.array([0.8, -0.6, np.nan])
S = np.array([1.0, 0.0, 1.0, np.nan])
school = np.repeat(np.arange(SCHOOLS), 5)
klass = np.array([0, 0, 1, 1, 2, 0, 1, 1, 2, 2, 0, 0, 1, 2, 2, 0, 1, 2, 2, 2])
Y = np.array([1, 1, 0, np.nan, 1, 1, 0, 0, 0, 0, 1, np.nan, 1, 1, 0, 1, 0, 1, 1, np.nan])
LOST = np.flatnonzero(np.isnan(Y))
CHAINS, DRAWS = 2, 10_000


def model() -> bi.JointLatent:
    frame = pd.DataFrame({"y": Y, "s": S[school], "v": V[klass], "school": school})
    frame["class"] = np.array(["p", "q", "r"])[klass]
    frame = frame.sample(frac=1, random_state=3)  # sorted neither by school nor by class
    data = bi.IncompleteData(frame, ["school", "class"], {"y": "bernoulli", "s": "bernoulli"})
    priors = pr.Priors(beta=pr.Normal(0.0, TAU), Psi=pr.Fixed(SCHOOL), Psi_of={"class": pr.Fixed(CLASS)})
    return bi.JointLatent(data, "y + s + v ~ 1 + (1 | school) + (1 | class)", priors)


@cache
def law(order: int = 25, of_classes: int = 9) -> dict[str, float]:
    """Means of the quantities of `drawn`; order: number of nodes of coefficients and effects of schools."""
    z, weight = nodes(1, order)
    b, gamma, a = TAU * z[:, 0], TAU * z[:, 0], np.sqrt(SCHOOL[0, 0]) * z[:, 0]
    grid, of_grid = nodes(CLASSES, of_classes)
    c = np.sqrt(CLASS[0, 0]) * grid
    # numbers of classes given their effects, with their coefficient integrated out
    slope, rest = CLASS[0, 1] / CLASS[0, 0], CLASS[1, 1] - CLASS[0, 1] ** 2 / CLASS[0, 0]
    covariance = rest * np.eye(CLASSES) + TAU**2
    known = ~np.isnan(V)
    e = V[known] - slope * c[:, known]
    inverse = np.linalg.inv(covariance[np.ix_(known, known)])
    of_grid = of_grid * multivariate_normal(np.zeros(2), covariance[np.ix_(known, known)]).pdf(e)
    K = covariance[np.ix_(~known, known)] @ inverse
    v = slope * c[:, ~known][:, 0] + (e @ K.T)[:, 0]
    v_sd = np.sqrt((covariance[np.ix_(~known, ~known)] - K @ covariance[np.ix_(known, ~known)])[0, 0])
    # levels of rows and of schools
    p = ndtr(b[:, None, None, None] + c[None, :, None, :] + a[None, None, :, None])  # (b, grid, a, class)
    s = ndtr(
        (gamma[:, None] + SCHOOL[0, 1] / SCHOOL[0, 0] * a) / np.sqrt(1 - SCHOOL[0, 1] ** 2 / SCHOOL[0, 0])
    )

    def total(ones=(), s_is_one=False) -> np.ndarray:
        """(b, grid, gamma) weights, with these missing cells of y equal to 1, and s of the last school."""
        out = weight[:, None, None] * of_grid[None, :, None] * weight
        for i in range(SCHOOLS):
            rows = 1.0
            for j in np.flatnonzero(school == i):
                if j in ones or Y[j] == 1:
                    rows = rows * p[..., klass[j]]
                elif Y[j] == 0:
                    rows = rows * (1 - p[..., klass[j]])
            level = 1.0 if np.isnan(S[i]) and not s_is_one else s if S[i] != 0 else 1 - s
            out = out * (np.broadcast_to(rows, p.shape[:3]) @ np.broadcast_to(weight * level, s.shape).T)
        return out

    w = total()
    w0 = w.sum()
    by_grid = w.sum(axis=(0, 2))
    out = {"beta": (w.sum(axis=(1, 2)) * b).sum(), "gamma": (w.sum(axis=(0, 1)) * gamma).sum()}
    out |= {
        "v": (by_grid * v).sum(),
        "v v": (by_grid * (v**2 + v_sd**2)).sum(),
        "s": total(s_is_one=True).sum(),
    }
    for j in LOST:
        one = total((j,))
        out |= {
            f"y{j}": one.sum(),
            f"y{j} v": (one.sum(axis=(0, 2)) * v).sum(),
            f"y{j} s": total((j,), True).sum(),
        }
        out |= {f"y{j} y{k}": total((j, k)).sum() for k in LOST if k > j}
    return {name: value / w0 for name, value in out.items()}


def drawn(made: bi.JointLatent, draws: int = DRAWS) -> dict[str, np.ndarray]:
    """Quantities (chains, draws) of the posterior and of the completed tables."""
    imp = made.impute(
        m=CHAINS * draws, seed=5, chains=CHAINS, draws=draws, thin=1, progress=False, executor="serial"
    )
    post, index = imp.tree["posterior"], made.data.frame.index

    def cell(name: str, j: int) -> np.ndarray:
        lost = index[made.data.missing(name)]
        return imp.values(name)[:, lost.get_loc(j)].reshape(draws, CHAINS).T

    y = {f"y{j}": cell("y", j) for j in LOST}
    v, s = cell("v", int(np.flatnonzero(klass == 2)[0])), cell("s", int(np.flatnonzero(school == 3)[0]))
    out = {
        "beta": post.beta.values[..., 0, 0],
        "gamma": post.beta_school.values[..., 0, 0],
        "v": v,
        "v v": v**2,
        "s": s,
    }
    for name, value in y.items():
        out |= {name: value, f"{name} v": value * v, f"{name} s": value * s}
        out |= {f"{name} {other}": value * y[other] for other in y if int(other[1:]) > int(name[1:])}
    return out


def agreement(found: dict[str, np.ndarray]) -> float:
    """p-value of these draws."""
    expected = law()
    assert found.keys() == expected.keys()
    mean, se = batch_means(np.stack([found[name] for name in expected], axis=-1), 40)
    return bonferroni(2 * norm.sf(np.abs(mean - list(expected.values())) / se))


def test_the_nodes_are_enough():
    """To a seventh of the Monte Carlo standard error of the coefficients, 0.007."""
    fine, own = law(31, 11), law()
    np.testing.assert_allclose(list(own.values()), list(fine.values()), rtol=0, atol=1e-3)


def test_coefficients_and_missing_cells_of_every_level_have_their_law():
    assert agreement(drawn(model())) > LEVEL


def with_table(made: bi.JointLatent, **changes) -> bi.JointLatent:
    made.grouping = replace(made.grouping, table=replace(made.grouping.table, **changes))
    return made


def with_groups(made: bi.JointLatent, **changes) -> bi.JointLatent:
    return with_table(made, groups=replace(made.grouping.table.groups, **changes))


def with_effects_of(made, other):
    """Latent values and missing cells of rows are drawn with the effects of another combination of groups; other:
    combinations (K, 2) -> where their effects are taken from (K,)."""
    rows, group = made.grouping.table.rows, made.grouping.table.factors.group
    return with_table(made, rows=rows._replace(cluster=other(group)[rows.cluster]))


def effects_of_classes_forgotten(made):
    """All rows of a school have the effects of one of its classes."""
    return with_effects_of(made, lambda group: np.unique(group[:, 0], return_index=True)[1][group[:, 0]])


def effects_of_other_schools(made):
    return with_effects_of(made, lambda group: np.roll(np.arange(len(group)), CLASSES))


def schools_for_classes(made):
    """A row has the effect of the class whose number is that of its school."""
    factors = made.grouping.table.factors
    group = factors.group.copy()
    group[:, 1] = group[:, 0] % CLASSES
    return with_table(made, factors=factors._replace(group=group))


def numbers_of_other_classes(made):
    """The variable of classes in another order than their effects."""
    groups = made.grouping.table.groups
    values, first = groups.V.copy(), groups.record.first
    values[first[1] : first[2], -1] = np.roll(values[first[1] : first[2], -1], 1)
    return with_groups(made, V=values)


def levels_of_schools_forgotten(made):
    """The latent variable of schools is never observed."""
    level = made.grouping.table.groups.record.level
    unknown = level.rows._replace(level=np.full_like(level.rows.level, -1))
    patterns = level.patterns.copy()
    patterns[:, 2] = False
    record = made.grouping.table.groups.record._replace(level=level._replace(rows=unknown, patterns=patterns))
    return with_groups(made, record=record)


SPOILED = [
    effects_of_classes_forgotten, effects_of_other_schools, schools_for_classes, numbers_of_other_classes,
    levels_of_schools_forgotten,
]  # fmt: skip


@pytest.mark.parametrize("spoil", SPOILED)
def test_wrong_wiring_is_noticed(spoil):
    assert agreement(drawn(spoil(model()))) < REJECTED


def test_a_variable_of_groups_has_one_value_in_each(monkeypatch):
    def counts(imp) -> tuple[int, int]:
        frames = [imp.frame(k) for k in range(imp.m)]
        return max(f.groupby("class")["v"].nunique().max() for f in frames), max(
            f.groupby("school")["s"].nunique().max() for f in frames
        )

    options = {"m": 4, "seed": 1, "chains": 2, "draws": 20, "tune": 5, "progress": False}
    assert counts(model().impute(**options)) == (1, 1)
    tables = SeveralLatentFactors.cluster_tables.fget

    def exchanged(grouping):
        (schools, groups), (classes, other) = tables(grouping)
        return [(schools, groups), (classes, replace(other, codes=np.roll(other.codes, 1)))]

    monkeypatch.setattr(SeveralLatentFactors, "cluster_tables", property(exchanged))
    assert counts(model().impute(**options))[0] > 1


# --- without levels -------------------------------------------------------------------------------------------


@cache
def draws_of(engine: type, nu: float = 2.0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(8)
    n = 90
    g, h = np.arange(n) % 6, rng.integers(0, 5, n)
    x = rng.normal(size=n)
    values = np.outer(x, [1.0, -0.5]) + rng.normal(size=(6, 2))[g] + 0.7 * rng.normal(size=(5, 2))[h]
    values += rng.normal(size=(n, 2))
    values[rng.random(values.shape) < 0.2] = np.nan
    frame = pd.DataFrame({"y": values[:, 0], "w": values[:, 1], "x": x, "g": g, "h": [f"h{k}" for k in h]})
    priors = pr.Priors(Psi=pr.HuangWand(nu=nu), Psi_of={"h": pr.InverseWishart(5.0, 0.5)})
    made = engine(bi.IncompleteData(frame, ["g", "h"]), "y + w ~ x + (1 + x | g) + (1 + x | h)", priors)
    imp = made.impute(m=2, seed=7, chains=2, draws=8_000, thin=1, progress=False)
    return quantities(imp.tree, ("Sigma", "Psi_g", "Psi_h"))


def test_without_levels_it_is_the_joint_normal_model():
    """Slopes of both factors."""
    z, limit = largest(draws_of(bi.JointNormal), draws_of(bi.JointLatent))
    assert z < limit


def test_another_prior_of_one_factor_is_told_apart():
    z, limit = largest(draws_of(bi.JointNormal), draws_of(bi.JointLatent, nu=6.0))
    assert z > limit
