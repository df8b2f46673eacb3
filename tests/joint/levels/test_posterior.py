"""Missing cells in completed tables, several grouping factors, covariances known: their law is a dense normal.

All cells of a table are normal given Sigma and Psi_1 .. Psi_S, with beta flat, so that the mean and covariance of the
missing ones given the observed ones are exact (tests/longhand/several_factors.py). Means and second moments of whitened
draws, batch means of the chains, Bonferroni; level 1e-4, wrong variants below 1e-6. The wrong variants are of the wiring
between the kernel and the completed table, and of the sampler itself, put in its place.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm

import bayesimp as bi
from bayesimp import priors as pr
from bayesimp.joint.levels import gibbs as levels_gibbs
from tests.calibration.montecarlo import LEVEL, REJECTED, batch_means, bonferroni, with_products
from tests.longhand import several_factors as longhand

SIGMA = np.array([[1.0, 0.4], [0.4, 2.0]])
SCHOOL = np.array([[1.5, -0.3], [-0.3, 0.8]])
SLOPES = np.array([[1.2, 0.3, 0.2, 0.0], [0.3, 0.5, 0.0, 0.1], [0.2, 0.0, 0.9, -0.2], [0.0, 0.1, -0.2, 0.6]])
CLASS = np.array([[2.0, 0.9], [0.9, 1.0]])
CASES = {
    "nested": "y + w ~ x + (1 | school) + (1 | class)",
    "nested, slopes": "y + w ~ x + (1 + x | school) + (1 | school:class)",
    "crossed": "y + w ~ x + (1 | school) + (1 | class)",
    "crossed, slopes": "y + w ~ x + (1 | school) + (1 + x | class)",
}
CHAINS, DRAWS = 2, 6_000


@cache
def table(case: str) -> pd.DataFrame:
    rng = np.random.default_rng(5)
    n = 36
    school = np.arange(n) % 4
    x = rng.normal(2.0, 1.0, n)
    classes = school * 2 + rng.integers(0, 2, n) if case.startswith("nested") else rng.integers(0, 6, n)
    Y = (
        np.column_stack([3 + x, -1 - 0.5 * x])
        + rng.normal(0, 1.5, (4, 2))[school]
        + rng.normal(0, 1.5, (8, 2))[classes]
    )
    Y += rng.normal(size=(n, 2))
    Y[rng.random(Y.shape) < 0.15] = np.nan
    Y[school == 2, 1] = np.nan
    Y[0] = np.nan
    frame = pd.DataFrame({"y": Y[:, 0], "w": Y[:, 1], "x": x, "school": school, "class": classes})
    frame["class"] = "c" + frame["class"].astype(str)
    return frame.sample(frac=1, random_state=1)  # sorted neither by school nor by class


def model(case: str) -> bi.JointNormal:
    Psi = {
        "nested": (SCHOOL, "class", CLASS), "nested, slopes": (SLOPES, "school:class", CLASS),
        "crossed": (SCHOOL, "class", CLASS), "crossed, slopes": (SCHOOL, "class", SLOPES),
    }[case]  # fmt: skip
    priors = pr.Priors(pr.Fixed(SIGMA), pr.Fixed(Psi[0]), Psi_of={Psi[1]: pr.Fixed(Psi[2])})
    return bi.JointNormal(bi.IncompleteData(table(case), ["school", "class"]), CASES[case], priors)


def parts(case: str):
    frame, ones = table(case), np.ones((len(table(case)), 1))
    slope = np.column_stack([np.ones(len(frame)), frame["x"]])
    school = pd.factorize(frame["school"])[0]
    classes = pd.factorize(frame["class"])[0]
    first = slope if case == "nested, slopes" else ones
    second = slope if case == "crossed, slopes" else ones
    return [(first, school, school.max() + 1), (second, classes, classes.max() + 1)]


def law(case: str):
    """Mean and covariance of the missing cells, row by row."""
    frame = table(case)
    X, Y = np.column_stack([np.ones(len(frame)), frame["x"]]), frame[["y", "w"]].to_numpy()
    Psis = {
        "nested": (SCHOOL, CLASS), "nested, slopes": (SLOPES, CLASS), "crossed": (SCHOOL, CLASS),
        "crossed, slopes": (SCHOOL, SLOPES),
    }[case]  # fmt: skip
    return X, parts(case), Y, SIGMA, Psis


def cells(made: bi.JointNormal) -> np.ndarray:
    """(chains, draws, cells) of the completed tables, row by row."""
    imp = made.impute(m=CHAINS * DRAWS, seed=4, chains=CHAINS, draws=DRAWS, progress=False)
    frame = made.data.frame[["y", "w"]]
    lost = frame.isna().to_numpy()
    out = np.full((imp.m, *lost.shape), np.nan)
    for k, name in enumerate(("y", "w")):
        out[:, lost[:, k], k] = imp.values(name)
    return out[:, lost].reshape(DRAWS, CHAINS, -1).transpose(1, 0, 2)


def agreement(case: str, values: np.ndarray) -> float:
    """p-value of draws (chains, draws, cells)."""
    mean, covariance = longhand.missing_cells(*law(case))
    L = np.linalg.inv(np.linalg.cholesky(covariance))
    white = (values - mean) @ L.T
    d = white.shape[-1]
    moments = with_products(white.reshape(-1, d)).reshape(*white.shape[:2], -1)
    i, j = np.tril_indices(d)
    expected = np.concatenate([np.zeros(d), (i == j).astype(float)])
    found, se = batch_means(moments, 40)
    return bonferroni(2 * norm.sf(np.abs(found - expected) / se))


@pytest.mark.parametrize("case", CASES)
def test_imputed_cells_have_their_law(case):
    assert agreement(case, cells(model(case))) > LEVEL


def with_table(made: bi.JointNormal, **changes) -> bi.JointNormal:
    made.grouping = replace(made.grouping, table=replace(made.grouping.table, **changes))
    return made


def effects_of_classes_forgotten(made):
    """Missing cells are drawn without the effects of the second factor."""
    rows = made.grouping.table.rows
    Z = rows.Z.copy()
    Z[:, 1:] = 0.0
    return with_table(made, rows=rows._replace(Z=Z))


def classes_of_other_rows(made):
    """Each incomplete row has the group combination of the next: the table was sorted after they were numbered."""
    rows = made.grouping.table.rows
    return with_table(made, rows=rows._replace(combination=np.roll(rows.combination, 1)))


def groups_of_other_cells(made):
    """The classes of combinations are those of other combinations."""
    factors = made.grouping.table.factors
    group = factors.group.copy()
    group[:, 1] = np.roll(group[:, 1], 1)
    return with_table(made, factors=factors._replace(group=group))


def cells_of_other_rows(made):
    """Values are written into the next row that lacks the same variables."""
    row, pattern = made.grouping.table.row.copy(), made.grouping.table.rows.pattern
    for a in np.unique(pattern):
        row[pattern == a] = np.roll(row[pattern == a], 1)
    return with_table(made, row=row)


SPOILED = [effects_of_classes_forgotten, classes_of_other_rows, groups_of_other_cells, cells_of_other_rows]


@pytest.mark.parametrize("spoil", SPOILED)
def test_wrong_wiring_is_noticed(spoil):
    assert agreement("crossed", cells(spoil(model("crossed")))) < REJECTED


@pytest.mark.parametrize("redraw", [True, False])
def test_a_sampler_that_does_not_draw_beta_again_is_noticed(monkeypatch, redraw):
    """A longhand sampler in the kernel's place. Effects drawn with beta integrated out, and then used with the old beta,
    are told apart from the law; the same sampler without this error is not."""
    made = model("crossed")
    X, factors, Y, Sigma, Psis = law("crossed")
    table, lost = made.grouping.table, np.isnan(Y)

    def sampler(rng, iterations, thin, stride, *rest):
        *parameters, cell_draws = rest[-6:]
        for array in parameters:
            array[:] = 0.0
        drawn = longhand.gibbs(
            X, factors, Y, Sigma, Psis, [[0], [1]], iterations, int(rng.integers(2**31)), redraw
        )
        whole = np.full((len(drawn), *Y.shape), np.nan)
        whole[:, lost] = drawn
        sorted_ = (whole[: len(cell_draws), table.row] / table.working.scale.s)[:, table.missing]
        cell_draws[:] = sorted_
        return 0

    monkeypatch.setattr(levels_gibbs, "levels_gibbs", sampler)
    p = agreement("crossed", cells(made))
    assert p > LEVEL if redraw else p < REJECTED
