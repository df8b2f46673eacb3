"""Imputed rows against the dense conditional normal of the missing values given the observed ones."""

from dataclasses import replace

import numpy as np
import pytest

from bayesimp import priors as pr
from bayesimp.errors import SamplingError
from bayesimp.joint.rows import impute_rows
from bayesimp.kernels.normal.effects import moments
from tests.calibration.montecarlo import LEVEL, REJECTED, normal
from tests.fcs.driven import table, working
from tests.kernels import dense

S = 6_000
BETA = np.array([[49.0, 51.0], [1.0, -2.0], [0.3, 0.7]])


def setting(q):
    t = table(seed=2, clusters=8, rows=3, r=2, q=q, holes=0.2)
    return t, dense.covariance(2, 1), dense.covariance(2 * q, 2)


def dense_conditional(t, Sigma, Psi):
    """Mean and covariance of the missing cells (row by row) given the observed: one normal of N r values."""
    N, r, q = len(t.Y), 2, t.Z.shape[1]
    row, k = np.repeat(np.arange(N), r), np.tile(np.arange(r), N)
    cov = np.where(row[:, None] == row, Sigma[np.ix_(k, k)], 0.0)
    same = t.codes[row][:, None] == t.codes[row]
    blocks = Psi.reshape(r, q, r, q)[k][:, :, k]
    cov += np.where(same, np.einsum("nl,nljm,jm->nj", t.Z[row], blocks, t.Z[row]), 0.0)
    mean = (t.X @ BETA).ravel()
    y = t.Y.ravel()
    M, O = np.isnan(y), ~np.isnan(y)
    K = np.linalg.solve(cov[np.ix_(O, O)], cov[np.ix_(O, M)])
    return mean[M] + (y[O] - mean[O]) @ K, cov[np.ix_(M, M)] - cov[np.ix_(M, O)] @ K


def draws_of(t, Sigma, Psi, count=S):
    w, _ = working(t, pr.default())
    m, scale, rng = moments(w.statistics), w.scale, np.random.default_rng(3)
    theta = scale.working_beta(BETA), scale.working_Sigma(Sigma), scale.working_Psi(Psi)
    values = np.empty((count, *t.Y.shape))
    repeated = [np.broadcast_to(a, (count, *a.shape)) for a in theta]
    values[:, w.rows.row] = impute_rows([rng] * count, w, m, *repeated)
    missing = np.isnan(t.Y)
    assert np.isnan(values[:, w.rows.row][:, ~missing[w.rows.row]]).all()
    return values[:, missing]


@pytest.mark.parametrize("q", [1, 2])
def test_imputed_values_are_the_dense_conditional_normal(q):
    t, Sigma, Psi = setting(q)
    assert normal(draws_of(t, Sigma, Psi), *dense_conditional(t, Sigma, Psi)) > LEVEL


def test_wrong_references_are_rejected():
    """Clusters ignored; Sigma a fifth too large; one observed value moved by one."""
    t, Sigma, Psi = setting(1)
    draws = draws_of(t, Sigma, Psi)
    moved = t.Y.copy()
    partly = np.flatnonzero(np.isnan(t.Y).sum(1) == 1)[0]
    moved[partly] += 1
    for other in [(t, Sigma, 1e-9 * Psi), (t, 1.2 * Sigma, Psi), (replace(t, Y=moved), Sigma, Psi)]:
        assert normal(draws, *dense_conditional(*other)) < REJECTED


def test_a_draw_that_is_not_positive_definite_is_refused():
    t, _, Psi = setting(1)
    with pytest.raises(SamplingError, match="not positive definite"):
        draws_of(t, np.array([[1.0, 2.0], [2.0, 1.0]]), Psi, count=1)
