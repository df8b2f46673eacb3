"""What Laplace's approximation does to intervals, and when an analysis warns of it (bayesimp/analysis/laplace_check.py).

python -m tests.calibration.quadrature [tables] > tests/calibration/QUADRATURE_RESULTS.md
"""

from __future__ import annotations

import platform
import sys
from datetime import date
from subprocess import run

import numpy as np

from bayesimp.analysis.laplace_check import COEFFICIENT, COMPONENT, doubt
from bayesimp.kernels.families.scalar import LOGIT, POISSON
from bayesimp.kernels.glmm.rows import GlmmRows
from bayesimp.kernels.laplace.record import fit_laplace

DESIGNS = [  # family, clusters, rows each, intercept, sd of effects
    (LOGIT, 20, 25, -0.5, 0.9), (LOGIT, 10, 300, -0.5, 0.7), (LOGIT, 30, 10, -0.5, 1.0), (LOGIT, 100, 10, -0.5, 1.0),
    (LOGIT, 200, 4, 0.0, 1.0), (LOGIT, 50, 4, -0.5, 1.5), (LOGIT, 300, 4, -0.5, 1.5), (LOGIT, 100, 10, -1.0, 2.5),
    (LOGIT, 30, 8, -1.6, 4.0), (LOGIT, 100, 4, -1.6, 4.0), (POISSON, 30, 10, 0.5, 0.7), (POISSON, 100, 3, -1.0, 1.5),
]  # fmt: skip
SLOPE = 0.5


def simulate(rng, family, m, n, intercept, sd) -> GlmmRows:
    N, g = m * n, np.repeat(np.arange(m), n)
    x = rng.normal(size=N)
    eta = intercept + SLOPE * x + sd * rng.normal(size=m)[g]
    y = rng.random(N) < 1 / (1 + np.exp(-eta)) if family == LOGIT else rng.poisson(np.exp(eta))
    one = np.ones(N)
    return GlmmRows(
        family,
        y.astype(float),
        one,
        one,
        np.zeros(N),
        np.column_stack([one, x]),
        one[:, None],
        np.arange(m + 1) * n,
    )


def study(design, tables, seed):
    """By approximation: coverage of 95% intervals of intercept, slope, sd; mean sd. Shares warned, and rightly so."""
    truth = np.array([design[3], SLOPE, design[4]])
    rng = np.random.default_rng([3, seed])
    covered, sds, warned, told = [], [], [], []
    while len(covered) < tables:
        rows = simulate(rng, *design)
        fits = fit_laplace(rows), fit_laplace(rows, nodes=20)
        if any(fit.code for fit in fits):
            continue
        at = np.array([np.r_[fit.beta, fit.L[0, 0]] for fit in fits])
        se = np.array([np.sqrt(np.diag(fit.covariance)) for fit in fits])
        covered.append(np.abs(at - truth) < 1.96 * se)
        sds.append(at[:, 2])
        warned.append(doubt(rows, fits[0]))
        moves = np.abs(at[1] - at[0]) / se[0] / [COEFFICIENT, COEFFICIENT, COMPONENT]
        told.append(moves.max())
    warned, told = np.array(warned), np.array(told)
    return (
        np.mean(covered, axis=0),
        np.mean(sds, axis=0),
        (warned > 1).mean(),
        ((warned > 1) == (told > 1)).mean(),
    )


def main(tables: int) -> None:
    print("# Laplace and quadrature of 20 nodes, one random intercept a cluster\n")
    commit = run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
    print(
        f"Made by `python -m tests.calibration.quadrature {tables}` on {date.today()}, commit {commit}, Python "
        f"{platform.python_version()}.\n"
    )
    error = 100 * np.sqrt(0.0475 / tables)
    print(
        f"{tables} tables a design, with fits inside the boundary "
        f"(Monte Carlo standard error of a coverage of 95%: {error:.1f}). An analysis says that Laplace is poor where a "
        f"Newton step by quadrature moves a coefficient by {COEFFICIENT} or the sd by {COMPONENT} standard errors; "
        "`told`: how often the whole fit by quadrature bears out a warning, or that there is none.\n"
    )
    print(
        "| family | clusters x rows | intercept, sd | coverage, Laplace: intercept, slope, sd | quadrature | mean sd "
        "| warned | told |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for k, design in enumerate(DESIGNS):
        family, m, n, intercept, sd = design
        covered, sds, warned, told = study(design, tables, k)
        shown = [", ".join(f"{100 * c:.1f}" for c in row) for row in covered]
        name = "logit" if family == LOGIT else "poisson"
        print(
            f"| {name} | {m} x {n} | {intercept:g}, {sd:g} | {shown[0]} | {shown[1]} | {sds[0]:.2f}, {sds[1]:.2f} "
            f"| {100 * warned:.0f}% | {100 * told:.0f}% |"
        )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 400)
