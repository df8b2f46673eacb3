"""Drawn means and sds of the missing values, cell by cell, against those of values drawn row by row."""

import numpy as np
import pytest
from numba import njit
from numpy.testing import assert_allclose
from scipy.stats import ks_2samp

from bayesimp.kernels.normal import effects, imputed
from bayesimp.kernels.normal.statistics import collect
from tests.calibration.montecarlo import LEVEL, REJECTED, bonferroni
from tests.kernels import dense

S = 8_000


@njit
def drawn(rng, cells, offset, W, Sigma, beta, B, mean, sd):
    for s in range(mean.shape[0]):
        imputed.draw_imputed_statistics(rng, cells, offset, W, Sigma, beta, B, mean[s], sd[s])


def table(seed):
    """Clusters with 1, 2, 3 and many rows; several patterns in a cluster; one with nothing missing."""
    rng = np.random.default_rng(seed)
    codes = np.repeat(np.arange(7), [1, 2, 3, 4, 12, 40, 5])
    N = len(codes)
    X = np.column_stack([np.ones(N), rng.normal(size=N)])
    Z = np.column_stack([np.ones(N), rng.normal(size=N)])
    Y = rng.normal(size=(N, 3))
    Y[rng.random(Y.shape) < 0.4] = np.nan
    Y[codes < 3, 0] = np.nan  # n = 1, 2, 3 of one response, in any pattern
    Y[codes == 3] = np.nan  # nothing observed
    Y[(codes == 4), 1:] = 0.5
    Y[codes == 6] = 1.0
    return X, Z, Y, codes, 7


def parameters(seed):
    rng = np.random.default_rng(seed)
    beta, B, offset = (rng.normal(size=shape) for shape in [(2, 3), (7, 2, 3), (2, 3)])
    return beta, B, dense.covariance(3, 2), offset


def ours(data, beta, B, Sigma, offset, count=S):
    statistics = collect(*data)
    W, _ = effects.pattern_weights(Sigma, statistics.patterns)
    mean, sd = np.empty((2, count, data[4], 3))
    cells = imputed.incomplete_cells(statistics)
    drawn(np.random.default_rng(1), cells, offset, W, Sigma, beta, B, mean, sd)
    return mean, sd


def row_by_row(data, beta, B, Sigma, offset, count=S, noise=1.0):
    X, Z, Y, codes, clusters = data
    rng = np.random.default_rng(2)
    mu = X @ beta + np.einsum("jq,jqr->jr", Z, B[codes])
    values = np.full((count, *Y.shape), np.nan)
    for j, y in enumerate(Y):
        M, O = np.flatnonzero(np.isnan(y)), np.flatnonzero(~np.isnan(y))
        if len(M):
            K = np.linalg.solve(Sigma[np.ix_(O, O)], Sigma[np.ix_(O, M)])
            A = np.linalg.cholesky(Sigma[np.ix_(M, M)] - Sigma[np.ix_(M, O)] @ K)
            z = rng.standard_normal((count, len(M)))
            values[:, j, M] = mu[j, M] + X[j] @ offset[:, M] + (y[O] - mu[j, O]) @ K + noise * z @ A.T
    mean, sd = np.full((2, count, clusters, 3), np.nan)
    for i in range(clusters):
        for v in range(3):
            lost = np.flatnonzero((codes == i) & np.isnan(Y[:, v]))
            if len(lost):
                mean[:, i, v] = values[:, lost, v].mean(axis=1)
            if len(lost) > 1:
                sd[:, i, v] = values[:, lost, v].std(axis=1, ddof=1)
    return mean, sd


def compare(a, b):
    """Both laws and their joint second moments: the mean, the sd and their product, cluster by cluster."""
    p_values = []
    for i in range(7):
        for v in range(3):
            pairs = [(a[0][:, i, v], b[0][:, i, v])] if not np.isnan(a[0][0, i, v]) else []
            if not np.isnan(a[1][0, i, v]):
                pairs += [(a[1][:, i, v], b[1][:, i, v])]
                pairs += [(x[0][:, i, v] + x[1][:, i, v] for x in (a, b))]
            p_values += [ks_2samp(*pair).pvalue for pair in pairs]
    return bonferroni(p_values)


@pytest.mark.parametrize("seed", [0, 1])
def test_mean_and_sd_are_those_of_rows(seed):
    data, theta = table(seed), parameters(seed)
    a, b = ours(data, *theta), row_by_row(data, *theta)
    for x, y in zip(a, b, strict=True):
        assert (np.isnan(x) == np.isnan(y)).all()  # nan where nothing (for sd: one value) is missing
    assert compare(a, b) > LEVEL
    assert np.isnan(a[0][:, 6]).all() and np.isnan(a[1][:, 0]).all()


def test_wrong_variants_are_rejected():
    """Noise a twentieth too large; the offset left out."""
    data, (beta, B, Sigma, offset) = table(0), parameters(0)
    a = ours(data, beta, B, Sigma, offset)
    assert compare(a, row_by_row(data, beta, B, Sigma, offset, noise=1.05)) < REJECTED
    assert compare(a, row_by_row(data, beta, B, Sigma, 0.9 * offset)) < REJECTED


def test_incomplete_cells_hold_means_and_centred_grams():
    X, Z, Y, codes, _ = data = table(1)
    statistics = collect(*data)
    cells = imputed.incomplete_cells(statistics)
    D = np.column_stack([X, Z, np.where(np.isnan(Y), 0.0, Y)])
    assert not cells.observed.all(1).any()
    assert cells.rows.sum() == np.isnan(Y).any(1).sum()
    for c in range(len(cells.rows)):
        rows = (codes == cells.cluster[c]) & (np.isnan(Y) == ~cells.observed[c]).all(1)
        assert rows.sum() == cells.rows[c]
        assert (statistics.patterns[cells.pattern[c]] == cells.observed[c]).all()
        assert_allclose(cells.means[c], D[rows].mean(0), atol=1e-12)
        centred = D[rows] - D[rows].mean(0)
        assert_allclose(cells.gram[c], centred.T @ centred, atol=1e-12)
