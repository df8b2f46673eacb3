"""Predictions of both models against closed forms, with Sigma and Psi known, and with each other."""

import numpy as np
import pytest

from bayesimp import priors as pr
from bayesimp.compatibility.implied import implied_conditional
from bayesimp.compatibility.predictive import predictive_draws, simulate_pair
from bayesimp.compatibility.published import kunkel_kaizar
from bayesimp.errors import SpecificationError

M, N, ROWS = 6, 8, [0, 9, 47]
SIGMA, PSI = kunkel_kaizar(0.5)
DRAWS = 20_000


@pytest.fixture(scope="module")
def known():
    """Complete data, the implied conditional, and predictions with covariances fixed at the truth."""
    frame = simulate_pair(M, N, SIGMA, PSI, seed=3)
    c = implied_conditional(SIGMA, PSI, 0, n=N)
    joint = pr.Priors(pr.Fixed(SIGMA), pr.Fixed(PSI))
    fcs = pr.Priors(pr.Fixed([[c.residual_variance]]), pr.Fixed(c.effect_covariance))
    return frame, c, predictive_draws(frame, ROWS, joint=joint, fcs=fcs, draws=DRAWS, seed=1)


def agree(draws, mean, variance):
    """Moments in Monte Carlo standard errors; draws are independent, as the covariances are fixed."""
    z = (draws.mean(1) - mean) / np.sqrt(variance / DRAWS)
    z_variance = (draws.var(1) / variance - 1) / np.sqrt(2 / DRAWS)
    return max(np.abs(z).max(), np.abs(z_variance).max()) < 4


def columns(frame):
    mean = frame.groupby("cluster")["y2"].transform("mean")
    return np.column_stack([np.ones(len(frame)), frame["y2"], mean])


def test_joint_against_closed_form(known):
    """Balanced: beta | Y is normal about the grand means with variance (Sigma / n + Psi) / m."""
    frame, c, both = known
    slopes, X = np.array([c.within[0], c.contextual_on_means().item()]), columns(frame)[ROWS]
    beta = frame[["y1", "y2"]].mean().to_numpy()
    mean = beta[0] + (X[:, 1:] - beta[1]) @ slopes
    a = np.array([1.0, -slopes.sum()])
    variance = c.residual_variance + c.effect_covariance.item() + a @ (SIGMA / N + PSI) @ a / M
    assert agree(both.joint, mean, np.full(3, variance))
    # using the slope on the cluster sum for that on the mean is detected
    wrong = beta[0] + (X[:, 1:] - beta[1]) @ [slopes[0], slopes[1] / N]
    assert not agree(both.joint, wrong, np.full(3, variance))


def test_conditional_against_generalised_least_squares(known):
    frame, c, both = known
    X, T = columns(frame), c.effect_covariance.item()
    V = c.residual_variance * np.eye(M * N) + T * (np.arange(M * N)[:, None] // N == np.arange(M * N) // N)
    information = X.T @ np.linalg.solve(V, X)
    b = np.linalg.solve(information, X.T @ np.linalg.solve(V, frame["y1"]))
    of_mean = np.einsum("ra,ab,rb->r", X[ROWS], np.linalg.inv(information), X[ROWS])
    assert agree(both.fcs, X[ROWS] @ b, c.residual_variance + T + of_mean)


def test_with_many_clusters_of_one_size_the_two_agree():
    """Equal sizes: compatible models; the prior no longer matters."""
    frame = simulate_pair(150, 5, SIGMA, PSI, seed=5)
    both = predictive_draws(frame, [0, 700], draws=2000, seed=2)
    sd = both.joint.std(1)
    assert np.all(np.abs(both.joint.mean(1) - both.fcs.mean(1)) < 0.15 * sd)
    np.testing.assert_allclose(both.fcs.std(1), sd, rtol=0.07)


def test_bad_input():
    frame = simulate_pair(3, 4, SIGMA, PSI)
    with pytest.raises(SpecificationError, match="positions in the table"):
        predictive_draws(frame, [12])
    frame.loc[0, "y1"] = np.nan
    with pytest.raises(SpecificationError, match="complete data"):
        predictive_draws(frame, [1])
