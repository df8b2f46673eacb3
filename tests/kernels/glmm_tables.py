"""Rows of generalised linear mixed models for tests."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from scipy import special

from bayesimp.kernels.families.scalar import LOGIT, POISSON, PROBIT
from bayesimp.kernels.glmm.rows import GlmmRows

REFERENCE = Path(__file__).parents[1] / "reference" / "glmm"
sys.path.insert(0, str(REFERENCE))
from tables import TABLES, table  # noqa: E402, F401

FAMILIES = (LOGIT, PROBIT, POISSON)


def make_rows(family, sizes, p=3, q=2, seed=0, sd=0.7, intercept=-0.5, trials=1):
    """Simulated rows; sizes (m,) of clusters, 0 possible."""
    rng = np.random.default_rng([seed, family])
    sizes = np.asarray(sizes)
    n, g = sizes.sum(), np.repeat(np.arange(len(sizes)), sizes)
    X = np.column_stack([np.ones(n), rng.normal(size=(n, p - 1))])
    b = sd * rng.normal(size=(len(sizes), q))
    eta = X @ np.r_[intercept, np.full(p - 1, 0.4)] + np.sum(X[:, :q] * b[g], axis=1)
    if family == POISSON:
        y = rng.poisson(np.exp(eta))
    else:
        y = rng.binomial(trials, special.expit(eta) if family == LOGIT else special.ndtr(eta))
    k = float(trials) if family != POISSON else 1.0
    first = np.r_[0, np.cumsum(sizes)]
    return GlmmRows(
        family, y.astype(float), np.full(n, k), np.ones(n), np.zeros(n), X, np.ascontiguousarray(X[:, :q]), first
    )  # fmt: skip


def rows_of(t):
    """Rows of a table of tests/reference/glmm/tables.py."""
    n = len(t["y"])
    X = np.column_stack([np.ones(n), t["x"], t["w"]])
    Z = np.ascontiguousarray(X[:, : 2 if t["slope"] else 1])
    first = np.r_[0, np.cumsum(np.bincount(t["g"]))]
    family = POISSON if t["family"] == "poisson" else LOGIT
    return GlmmRows(family, t["y"], t["trials"], np.ones(n), np.zeros(n), X, Z, first)
