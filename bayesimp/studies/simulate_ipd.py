"""Simulated collections of studies with categorical covariates, after Jolani (2025), section 3.1 and appendix A.

    logit P(x1 = 1) = gamma_1 + v_1i,   log E(x2) = gamma_2 + v_2i,           (v_1i, v_2i) ~ N(0, Lambda)
    g(E y) = alpha_0 + alpha_1 x1 + alpha_2 x2 + u_0i + u_1i x1,              (u_0i, u_1i) ~ N(0, Omega)

y is normal (residual variance 1) or binary. x1 and x2 are missing in whole studies, and in rows of the other studies with
a logit that grows with y.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import pandas as pd

from bayesimp.arguments import chosen, generator, number, whole
from bayesimp.errors import SpecificationError

__all__ = ["load_kidney", "simulate_ipd"]

ALPHA = (-1.85, 1.05, -0.04)
GAMMA = (0.4, 0.0)
LAMBDA = ((0.200, 0.005), (0.005, 0.200))
OMEGA = {
    "strong": ((2.75, -1.82), (-1.82, 2.85)),
    "moderate": ((0.75, -0.30), (-0.30, 0.85)),
    "weak": ((0.100, -0.024), (-0.024, 0.250)),
}
DELTA = (1.0, 0.5)  # slopes of the missingness of x1 and x2 on y

# Jolani 2025, table 4: study, rows, % missing of smoking and alcohol; comorbidities are missing in study 14 only
KIDNEY = (
    (1, 832, 1, 1), (2, 533, 0, 26), (3, 88, 0, 0), (4, 1144, 0, 100), (5, 551, 0, 100), (6, 578, 0, 100),
    (7, 116, 0, 100), (8, 44, 39, 55), (9, 73, 0, 5), (10, 55, 0, 100), (11, 27, 0, 100), (12, 405, 0, 100),
    (13, 224, 0, 0), (14, 59, 0, 100), (15, 45, 0, 100),
)  # fmt: skip
WITHOUT_COMORBIDITIES = 14


def simulate_ipd(
    studies: int = 10,
    rows: int = 300,
    *,
    heterogeneity: Literal["weak", "moderate", "strong"] = "strong",
    outcome: Literal["continuous", "binary"] = "continuous",
    systematic: float = 0.1,
    sporadic: float = 0.15,
    mar: bool = True,
    seed: int,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """SIMULATE the design of Jolani (2025): an outcome y, a binary x1 and a count x2, both incomplete.

    Parameters
    ----------
    studies, rows
        Number of studies, and of rows in each. The paper has 3,000 rows in 6 to 30 studies.
    heterogeneity
        Which Omega of appendix A.
    outcome
        Whether y is normal or binary. Studies in which a binary y never occurs are drawn again, as in the paper's code.
    systematic
        Share of studies that lack a variable, drawn separately for each variable: round(systematic * studies) of them.
    sporadic
        Probability that a value is missing in the other studies, at the mean of y.
    mar
        Whether this probability depends on y.
    seed
        Seed of the random numbers.

    Returns
    -------
    The incomplete table and the complete one: ``study`` (1 ..), ``y``, ``x1`` and ``x2``.

    Raises
    ------
    SpecificationError
        If an argument is not one of the possible words or numbers.
    """
    chosen(heterogeneity, "heterogeneity", tuple(OMEGA))
    chosen(outcome, "outcome", ("continuous", "binary"))
    studies, rows, rng = whole(studies, "studies"), whole(rows, "rows"), generator(seed)
    sporadic = number(sporadic, "sporadic", 0, 1)
    if (systematic := number(systematic, "systematic", high=1)) < 0:
        raise SpecificationError(f"systematic must be 0 or between 0 and 1, got {systematic}.")
    full = pd.concat(
        [_study(rng, i + 1, rows, np.array(OMEGA[heterogeneity]), outcome) for i in range(studies)],
        ignore_index=True,
    )
    table = full.copy()
    for name, delta in zip(("x1", "x2"), DELTA if mar else (0.0, 0.0), strict=True):
        without = rng.permutation(studies)[: round(systematic * studies)] + 1
        logit = np.log(sporadic / (1 - sporadic)) + delta * (full["y"] - full["y"].mean())
        missing = rng.random(len(full)) < 1 / (1 + np.exp(-logit))
        table.loc[missing | full["study"].isin(without), name] = np.nan
    return table, full


def _study(rng: np.random.Generator, study: int, n: int, Omega: np.ndarray, outcome: str) -> pd.DataFrame:
    v = rng.multivariate_normal([0, 0], LAMBDA)
    x1 = (rng.random(n) < 1 / (1 + np.exp(-(GAMMA[0] + v[0])))).astype(float)
    x2 = rng.poisson(np.exp(GAMMA[1] + v[1]), n).astype(float)
    while True:
        u = rng.multivariate_normal([0, 0], Omega)
        eta = ALPHA[0] + ALPHA[1] * x1 + ALPHA[2] * x2 + u[0] + u[1] * x1
        if outcome == "continuous":
            y = eta + rng.standard_normal(n)
            break
        y = (rng.random(n) < 1 / (1 + np.exp(-eta))).astype(float)
        if y.any():
            break
    return pd.DataFrame({"study": study, "y": y, "x1": x1, "x2": x2})


def load_kidney(seed: int = 1, *, full: bool = False) -> pd.DataFrame | tuple[pd.DataFrame, pd.DataFrame]:
    """SIMULATED substitute for the 15 studies of kidney patients of Jolani (2025), section 4: 4,774 rows.

    It contains no patients, and results say nothing about kidneys. Table 4 gives the rows of each study and the
    percentages of missing values of smoking, alcohol and comorbidities, rounded to whole rows. Table 5 (MLMI) gives the
    analysis model, logit P(smoke) = -1.85 + 0.68 alcohol - 0.04 comorbidities with standard deviations between studies
    of 1.14 (intercept) and 0.62 (alcohol). We chose their correlation, -0.4; alcohol and comorbidities as in the paper's
    simulations, with effects of age and sex; comorbidities up to 4, as the paper counts them; and values sporadically
    missing depending on age (at random).

    Parameters
    ----------
    seed
        Seed of the random numbers.
    full
        Whether to return the complete table too.

    Returns
    -------
    DataFrame: ``study`` (1 .. 15), ``smoke`` and ``alcohol`` ("no", "yes"), ``comorbidities`` (0 .. 4), ``age`` (years),
    ``sex`` ("female", "male"). With ``full``, the incomplete table and the complete one.
    """
    rng = generator(seed)
    complete, incomplete = zip(*(_kidney_study(rng, *row) for row in KIDNEY), strict=True)
    table = pd.concat(incomplete, ignore_index=True)
    return (table, pd.concat(complete, ignore_index=True)) if full else table


def _kidney_study(
    rng: np.random.Generator, study: int, n: int, no_smoke: int, no_alcohol: int
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The study with all its values, and with missing values."""
    sd = np.array([1.14, 0.62])
    u = rng.multivariate_normal([0, 0], np.outer(sd, sd) * [[1, -0.4], [-0.4, 1]])
    v = rng.multivariate_normal([0, 0], LAMBDA)
    age = np.round(np.clip(rng.normal(66 + rng.normal(0, 4), 12, n), 18, 95))
    male = rng.random(n) < 0.58
    years = (age - 66) / 12
    alcohol = rng.random(n) < 1 / (1 + np.exp(0.6 - 0.7 * male + 0.2 * years - v[0]))
    mean = np.exp(0.3 + 0.25 * years + 0.1 * male + v[1])
    comorbidities = np.minimum(rng.poisson(mean), 4).astype(float)
    smoke = rng.random(n) < 1 / (
        1 + np.exp(1.85 - 0.68 * alcohol + 0.04 * comorbidities - u[0] - u[1] * alcohol)
    )
    full = pd.DataFrame({
        "study": study, "smoke": np.where(smoke, "yes", "no"), "alcohol": np.where(alcohol, "yes", "no"),
        "comorbidities": comorbidities, "age": age, "sex": np.where(male, "male", "female"),
    })  # fmt: skip
    table = full.copy()
    for name, percent in (("smoke", no_smoke), ("alcohol", no_alcohol)):
        older = years + rng.gumbel(size=n)  # older patients are more likely to have missing values
        table.loc[np.argsort(-older)[: round(percent * n / 100)], name] = None
    if study == WITHOUT_COMORBIDITIES:
        table["comorbidities"] = np.nan
    return full, table
