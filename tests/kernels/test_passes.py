"""Sums over blocks of rows against NumPy: log-likelihood, gradient and curvature of every kind of family."""

import numpy as np
import pytest
from numba import njit
from numpy.testing import assert_allclose, assert_array_equal
from scipy import special

from bayesimp.kernels.exponential import exp_in_place
from bayesimp.kernels.families import codes as f
from bayesimp.kernels.glmm.passes import BLOCK, add_scalar, row_work


@njit
def _exp(x):
    w = row_work()
    w.eta[: x.size] = x
    exp_in_place(x.size, w.eta, w.power, w.bits)
    return w.eta[: x.size].copy()


@njit
def _sums(family, y, trials, base, D, start, stop, theta, shape, full, g, H):
    return add_scalar(
        family, y, trials, base, D, start, stop, theta, shape, np.zeros(1), full, g, H, row_work()
    )


def test_exponentials_are_exact_to_the_last_bits():
    """Also where k changes, and at the ends: nothing overflows before e^x does by more than half a unit of its log."""
    x = np.concatenate([np.linspace(-708, 709, 120), np.log(2) * (np.arange(-60, 60) + 0.5), [0.0, -0.0]])
    assert_allclose(_exp(x), np.exp(x), rtol=4e-16)
    ends = np.array([-np.inf, -800.0, 710.0, 1e300, np.inf, np.nan])
    assert_array_equal(_exp(ends)[2:], [np.inf] * 4)
    assert (_exp(ends)[:2] < 1e-300).all()


def longhand(family, y, n, eta, shape):
    """Log-likelihood, score and curvature (rows,); rows without trials have none."""
    if family == f.LOGIT:
        p = special.expit(eta)
        found = y * eta - n * np.logaddexp(0.0, eta), y - n * p, n * p * (1 - p)
    elif family == f.POISSON:
        found = y * eta - np.exp(eta), y - np.exp(eta), np.exp(eta)
    elif family == f.NEGATIVE_BINOMIAL:
        p, size = special.expit(eta - np.log(shape)), y + shape
        found = y * (eta - np.log(shape)) + size * np.log1p(-p), y - size * p, size * p * (1 - p)
    else:
        found = -0.5 * n * (y - eta) ** 2, n * (y - eta), n
    return [np.where(n > 0, each, 0.0) for each in found]


@pytest.mark.parametrize("family", [f.LOGIT, f.POISSON, f.NEGATIVE_BINOMIAL, f.STUDENT])
@pytest.mark.parametrize("rows", [1, 6, BLOCK, 2 * BLOCK + 3])
def test_sums_of_rows(family, rows):
    """Rows 2 .. rows + 1 of a longer table, with rows without information (counts: structural zeros)."""
    rng = np.random.default_rng(rows)
    N, shape = rows + 5, 1.7
    D, theta, base = rng.normal(size=(3, N)), np.array([0.4, -0.9, 0.2]), 2.0 * rng.normal(size=(N, 1))
    trials = {f.LOGIT: rng.choice([0, 1, 1, 5], N), f.STUDENT: rng.gamma(2.0, size=N)}.get(
        family, rng.integers(0, 4, N) > 0
    ) * 1.0
    y = rng.binomial(trials.astype(int), 0.4) if family == f.LOGIT else rng.poisson(2.0, N) * (trials > 0)
    y, used = y.astype(float), slice(2, 2 + rows)
    value, score, curvature = longhand(family, y, trials, base[:, 0] + theta @ D, shape)
    d = D[:, used]
    for full in (True, False):
        g, H = np.ones(3), np.zeros((3, 3))
        start, stop = np.int64(2), np.int64(2 + rows)
        found = _sums(family, y, trials, base, D, start, stop, theta, shape, full, g, H)
        assert_allclose(found, value[used].sum(), rtol=1e-12, atol=1e-12)
        assert_allclose(g, 1.0 + full * (d @ score[used]), rtol=1e-11, atol=1e-11)
        assert_allclose(H, full * np.tril((d * curvature[used]) @ d.T), rtol=1e-12, atol=1e-12)
