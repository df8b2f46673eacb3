"""Small dense linear algebra against numpy.linalg; upper triangles hold nan: they must not be read."""

import math

import numpy as np
import pytest
from numba import njit
from numpy.testing import assert_allclose, assert_array_equal

from bayesimp.kernels import linalg


@njit
def factor(A, n):
    return linalg.cholesky_log_det(A, n)


@njit
def factor_semidefinite(A, n, tolerance, limit):
    return linalg.semidefinite_cholesky(A, n, tolerance, limit)


@njit
def invert(L, out, n):
    linalg.inverse_from_cholesky(L, out, n)


@njit
def solve(L, b, n, transposed):
    if transposed:
        linalg.solve_lower_t(L, b, n)
    else:
        linalg.solve_lower(L, b, n)


@njit
def copied(out, A, value):
    linalg.copy_to(out, A)
    linalg.fill(A, value)


def positive_definite(n, seed):
    A = np.random.default_rng(seed).normal(size=(n, n + 2))
    return A @ A.T


def upper_lost(A):
    out = A.copy()
    out[np.triu_indices(len(A), 1)] = np.nan
    return out


@pytest.mark.parametrize("n", [1, 2, 3, 6])
def test_cholesky_solves_and_inverse(n):
    A = positive_definite(n, n)
    L = np.full((n + 1, n + 1), np.nan)  # the leading n rows only
    L[:n, :n] = upper_lost(A)
    logdet = factor(L, n)
    assert_allclose(logdet, np.linalg.slogdet(A)[1], rtol=1e-12)
    assert_allclose(np.tril(L[:n, :n]), np.linalg.cholesky(A), rtol=1e-12, atol=1e-14)
    assert np.isnan(L[n]).all() and np.isnan(L[:, n]).all()
    inverse = np.full((n, n), np.nan)
    invert(L, inverse, n)
    assert_allclose(inverse, np.linalg.inv(A), rtol=1e-9, atol=1e-12)
    assert_array_equal(inverse, inverse.T)
    b = np.arange(1.0, n + 1)
    forward, backward = b.copy(), b.copy()
    solve(L, forward, n, False)
    solve(L, backward, n, True)
    assert_allclose(np.linalg.cholesky(A) @ forward, b, rtol=1e-9)
    assert_allclose(np.linalg.cholesky(A).T @ backward, b, rtol=1e-9)


@pytest.mark.parametrize("A", [[[1.0, 2.0], [2.0, 1.0]], [[0.0]], [[-1.0]], [[np.nan]], np.ones((2, 2))])
def test_cholesky_refuses_what_is_not_positive_definite(A):
    assert math.isnan(factor(np.array(A), len(A)))


@pytest.mark.parametrize("rank", [0, 1, 2, 3, 4])
def test_semidefinite_cholesky_reproduces_the_matrix_and_its_rank(rank):
    rng = np.random.default_rng(rank)
    E = rng.normal(size=(rank, 4))
    A = E.T @ E
    L = upper_lost(A)
    assert factor_semidefinite(L, 4, 1e-10, 4) == rank
    L = np.tril(L)
    assert_allclose(L @ L.T, A, atol=1e-12)
    assert (np.diag(L) > 0).sum() == rank


def test_semidefinite_cholesky_with_dependent_columns_in_the_middle():
    E = np.random.default_rng(1).normal(size=(9, 3))
    E = E[:, [0, 0, 1, 1, 2]] * [1, 2, 1, -1, 1]
    A = E.T @ E
    L = upper_lost(A)
    assert factor_semidefinite(L, 5, 1e-10, 5) == 3
    assert_allclose(np.tril(L) @ np.tril(L).T, A, atol=1e-12)
    assert_array_equal(np.diag(np.tril(L)) > 0, [True, False, True, False, True])


def test_semidefinite_cholesky_never_finds_more_than_the_limit():
    """One row: the second pivot is round-off, here of a size that passes the tolerance."""
    A = np.array([[1.0, 1e-4], [1e-4, 1e-8 + 1e-14]])
    L = A.copy()
    assert factor_semidefinite(L, 2, 1e-10, 2) == 2
    L = A.copy()
    assert factor_semidefinite(L, 2, 1e-10, 1) == 1
    assert_allclose(np.tril(L), [[1.0, 0.0], [1e-4, 0.0]])


def test_copy_and_fill():
    A, out = np.arange(6.0).reshape(2, 3), np.zeros((2, 3))
    copied(out, A, -1.0)
    assert_array_equal(out, np.arange(6.0).reshape(2, 3))
    assert_array_equal(A, np.full((2, 3), -1.0))
