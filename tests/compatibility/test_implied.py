"""The implied conditional model, against the conditional of the dense (r n)-variate normal."""

import numpy as np
import pytest

from bayesimp.compatibility.implied import contextual_bound, implied_conditional
from bayesimp.compatibility.published import kunkel_kaizar
from bayesimp.errors import SpecificationError

CASES = [(2, 1, 1), (2, 1, 7), (3, 1, 5), (2, 2, 6), (3, 2, 9), (4, 3, 8), (3, 2, 1), (3, 3, 2)]  # r, q, n


def covariance(rng, d):
    A = rng.normal(size=(d, d + 2))
    return A @ A.T


def problem(r, q, n, seed=0, p=3):
    rng = np.random.default_rng([seed, r, q, n])
    Z = np.column_stack([np.ones(n), rng.normal(size=(n, q - 1))])
    X = np.column_stack([np.ones(n), rng.normal(size=(n, p - 1))])
    return (
        covariance(rng, r), covariance(rng, r * q), X, Z,
        rng.normal(size=(p, r)), 2 * rng.normal(size=(n, r)),
    )  # fmt: skip


def dense(Sigma, Psi, X, Z, beta, Y, k):
    """Mean (n,) and covariance (n, n) of y_k given Y_o from the covariance of vec(Y)."""
    n, r = Y.shape
    blocks = np.kron(np.eye(r), Z)
    V = np.kron(Sigma, np.eye(n)) + blocks @ Psi @ blocks.T
    at = np.arange(n * r) // n == k
    residual = (Y - X @ beta).T.ravel()
    A = np.linalg.solve(V[np.ix_(~at, ~at)], V[np.ix_(~at, at)]).T
    return X @ beta[:, k] + A @ residual[~at], V[np.ix_(at, at)] - A @ V[np.ix_(~at, at)]


def written_out(c, X, Z, beta, Y, contextual=None, x_sums=True):
    """Mean and covariance of y_k from a `Conditional`, by the columns that an FCS model would have."""
    contextual = c.contextual if contextual is None else contextual
    others = np.delete(Y, c.k, axis=1)
    on_rows, on_sums = c.fixed_effects(beta)
    mean = X @ on_rows + others @ c.within + Z @ np.einsum("ljh,hj->l", contextual, Z.T @ others)
    if x_sums:
        mean = mean + Z @ np.einsum("lhx,hx->l", on_sums, Z.T @ X)
    return mean, c.residual_variance * np.eye(len(Y)) + Z @ c.effect_covariance @ Z.T


@pytest.mark.parametrize("r, q, n", CASES)
def test_equals_the_dense_conditional(r, q, n):
    Sigma, Psi, X, Z, beta, Y = problem(r, q, n)
    for k in range(r):
        c = implied_conditional(Sigma, Psi, k, ZZ=Z.T @ Z)
        for ours, theirs in zip(
            written_out(c, X, Z, beta, Y), dense(Sigma, Psi, X, Z, beta, Y, k), strict=True
        ):
            np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-9 * (1 + np.abs(theirs).max()))


def test_aggregates_of_covariates_are_needed():
    """Without Z'X the mean is wrong, unless beta_o = 0 or all X are those of Z in a balanced design."""
    Sigma, Psi, X, Z, beta, Y = problem(3, 1, 7)
    c = implied_conditional(Sigma, Psi, 0, n=7)
    truth = dense(Sigma, Psi, X, Z, beta, Y, 0)[0]
    assert np.abs(written_out(c, X, Z, beta, Y, x_sums=False)[0] - truth).max() > 0.1
    beta[:, 1:] = 0
    truth = dense(Sigma, Psi, X, Z, beta, Y, 0)[0]
    np.testing.assert_allclose(written_out(c, X, Z, beta, Y, x_sums=False)[0], truth, atol=1e-9)


def test_kunkel_kaizar_equations_7_and_8():
    n = np.array([1, 5, 30, 150])
    for rho in (-0.9, 0.0, 0.7, 0.9):
        Sigma, Psi = kunkel_kaizar(rho)
        (s11, s12), (_, s22) = Sigma
        (p11, p12), (_, p22) = Psi
        c = implied_conditional(Sigma, Psi, 0, n=n)
        below = s22 * (s22 + n * p22)
        np.testing.assert_allclose(c.within, s12 / s22)
        np.testing.assert_allclose(c.contextual[:, 0, 0, 0], (s22 * p12 - s12 * p22) / below)
        np.testing.assert_allclose(c.residual_variance, s11 - s12**2 / s22)
        term = (n * s22 * p12**2 + 2 * s12 * s22 * p12 - s12**2 * p22) / below
        np.testing.assert_allclose(c.effect_covariance[:, 0, 0], p11 - term)


def test_printed_plus_and_confused_aggregates_are_caught():
    """Wrong variants against the dense normal: eq. 8 as printed, and the slope on the mean used for the sum."""
    Sigma, Psi, X, Z, beta, Y = problem(2, 1, 30)
    Sigma, Psi = kunkel_kaizar(0.7)
    c = implied_conditional(Sigma, Psi, 0, n=30)
    mean, cov = dense(Sigma, Psi, X, Z, beta, Y, 0)
    (p11, _), (_, _) = Psi
    plus = p11 + (p11 - c.effect_covariance[0, 0])
    assert plus == pytest.approx(40.22, abs=0.01)  # facts: truth 13.78, printed form 40.22
    assert c.effect_covariance[0, 0] == pytest.approx(13.78, abs=0.01)
    assert abs(cov[0, 1] - c.effect_covariance[0, 0]) < 1e-9 < 20 < abs(cov[0, 1] - plus)
    wrong = written_out(c, X, Z, beta, Y, contextual=c.contextual_on_means())[0]
    assert np.abs(wrong - mean).max() > 0.5


def test_slopes_on_means_and_lines_give_the_same_mean():
    Sigma, Psi, _, Z, _, Y = problem(3, 2, 9)
    c = implied_conditional(Sigma, Psi, 1, ZZ=Z.T @ Z, n=9)
    others = np.delete(Y, 1, axis=1)
    on_sums = np.einsum("ljh,hj->l", c.contextual, Z.T @ others)
    on_means = np.einsum("ljh,hj->l", c.contextual_on_means(), Z.T @ others / 9)
    lines = np.linalg.lstsq(Z, others)[0]
    on_lines = np.einsum("ljh,hj->l", c.contextual_on_lines(), lines)
    np.testing.assert_allclose(on_means, on_sums)
    np.testing.assert_allclose(on_lines, on_sums)
    intercept = implied_conditional(Sigma, Psi[::2, ::2], 1, n=9)
    np.testing.assert_allclose(intercept.contextual_on_means(), intercept.contextual_on_lines())
    with pytest.raises(SpecificationError, match="need n="):
        implied_conditional(Sigma, Psi, 1, ZZ=Z.T @ Z).contextual_on_means()


def test_large_clusters_give_the_contextual_effect():
    """As n goes to infinity, the slope on the mean is the slope between clusters minus that within."""
    Sigma, Psi = kunkel_kaizar(-0.5)
    c = implied_conditional(Sigma, Psi, 0, n=1e9)
    between_less_within = Psi[0, 1] / Psi[1, 1] - Sigma[0, 1] / Sigma[1, 1]
    assert c.contextual_on_means().item() == pytest.approx(between_less_within, rel=1e-6)


def test_proportional_matrices_make_all_clusters_alike():
    Sigma, _ = kunkel_kaizar()
    c = implied_conditional(Sigma, 0.3 * Sigma, 0, n=np.array([1, 10, 1000]))
    np.testing.assert_allclose(c.contextual, 0, atol=1e-15)
    assert np.ptp(c.effect_covariance) < 1e-12


def test_draws_and_clusters_broadcast():
    rng = np.random.default_rng(3)
    draws, clusters = 6, 4
    Sigma = np.stack([covariance(rng, 3) for _ in range(draws)])
    Psi = np.stack([covariance(rng, 6) for _ in range(draws)])
    ZZ = np.stack([covariance(rng, 2) for _ in range(clusters)])
    every = implied_conditional(Sigma[:, None], Psi[:, None], 2, ZZ=ZZ)
    assert every.contextual.shape == (draws, clusters, 2, 2, 2)
    one = implied_conditional(Sigma[4], Psi[4], 2, ZZ=ZZ[1])
    np.testing.assert_allclose(every.contextual[4, 1], one.contextual)
    np.testing.assert_allclose(every.effect_covariance[4, 1], one.effect_covariance)


def test_degenerate_psi_and_designs_are_allowed():
    """Another variable has no variance between clusters; Z does not vary within the cluster."""
    Sigma, Psi, X, Z, beta, Y = problem(2, 2, 6)
    Psi[2:] = Psi[:, 2:] = 0
    Z[:, 1] = 1.0
    c = implied_conditional(Sigma, Psi, 0, ZZ=Z.T @ Z)
    for ours, theirs in zip(written_out(c, X, Z, beta, Y), dense(Sigma, Psi, X, Z, beta, Y, 0), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-10)


def test_bound_is_where_psi_stops_being_positive_definite():
    rng = np.random.default_rng(5)
    for _ in range(50):
        Sigma, Psi = covariance(rng, 2), covariance(rng, 2)
        n = rng.integers(1, 60)
        c = implied_conditional(Sigma, Psi, 1, n=n)
        bound = contextual_bound(c.effect_covariance[0, 0], Sigma[0, 0], Psi[0, 0], n)
        assert abs(c.contextual.item()) < bound
        edge = Psi.copy()
        edge[0, 1] = edge[1, 0] = np.sqrt(Psi[0, 0] * Psi[1, 1])
        c = implied_conditional(Sigma, edge, 1, n=n)
        bound = contextual_bound(c.effect_covariance[0, 0], Sigma[0, 0], Psi[0, 0], n)
        assert abs(c.contextual.item()) == pytest.approx(bound, rel=1e-6)


@pytest.mark.parametrize(
    "arguments, words",
    [
        ((np.eye(2), np.eye(3), 0), "r q"),
        ((np.eye(1), np.eye(1), 0), "at least two"),
        ((np.eye(2), np.eye(2), 2), "k, the position of a variable, must be a whole number from 0 to 1"),
        ((np.eye(2), np.eye(4), 0), "give ZZ="),
    ],
)
def test_bad_input(arguments, words):
    with pytest.raises(SpecificationError, match=words):
        implied_conditional(*arguments, n=5)
