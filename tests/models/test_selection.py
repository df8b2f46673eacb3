"""The selection model against the bivariate normal distribution, and draws of missing values against rejection."""

import numpy as np
import pytest
from scipy.stats import ks_2samp, kstest, multivariate_normal, norm

from bayesimp import priors as pr
from bayesimp.models.selection import SelectionData, draw_missing, selection_model

P = {"beta": [[0.3], [-0.8]], "gamma": [0.4, 0.2, -0.7], "Sigma": [[0.49]], "Psi": [[0.3, 0.1], [0.1, 0.2]],
     "lam": [0.6, -0.4], "tau": 0.5, "rho": -0.55}  # fmt: skip


def rows(n=9, seed=1) -> SelectionData:
    rng = np.random.default_rng(seed)
    X = np.column_stack([np.ones(n), rng.normal(size=(n, 2))])
    observed = np.arange(n) < 6
    y = np.where(observed, rng.normal(size=n), 0.0)
    cluster = np.arange(n) % 3
    return SelectionData(
        "y", y, X, X[:, :2], cluster, 4, ("Intercept", "x", "w"), ("Intercept", "x"), observed=observed
    )


def longhand(data, rho, u, v, outcome):
    """Sum over rows of the log of the density of y at s > 0, or of P(s <= 0), by integration of (y, s)."""
    b = u @ np.linalg.cholesky(np.array(P["Psi"])).T
    c = b @ P["lam"] + P["tau"] * v
    mu = data.X[:, outcome] @ np.ravel(P["beta"]) + (data.Z * b[data.cluster]).sum(axis=1)
    eta = data.X @ P["gamma"] + c[data.cluster]
    sigma = np.sqrt(P["Sigma"][0][0])
    V = np.array([[sigma**2, rho * sigma], [rho * sigma, 1.0]])
    grid = np.linspace(0.0, 12.0, 200_001)
    total = 0.0
    for j in range(len(data.y)):
        if data.observed[j]:
            points = np.column_stack([np.full(len(grid), data.y[j]), grid])
            total += np.log(np.trapezoid(multivariate_normal([mu[j], eta[j]], V).pdf(points), grid))
        else:
            total += norm(eta[j]).logcdf(0.0)
    return total


@pytest.mark.parametrize(("rho", "outcome", "others"), [(None, [0, 1], [0, 2]), (0.3, [0, 2], [0, 1])])
def test_log_density_is_that_of_the_bivariate_normal(rho, outcome, others):
    data, rng = rows(), np.random.default_rng(3)
    priors = pr.Priors(pr.InverseWishart(3.0, np.eye(1)), pr.InverseWishart(4.0, np.eye(2)), pr.Flat())
    model = selection_model(data, priors, outcome, rho)
    (potential,) = (each for each in model.potentials if each.name == "rows")
    u, v = rng.normal(size=(4, 2)), rng.normal(size=4)
    values = {**{k: np.array(x) for k, x in P.items()}, "u": u, "v": v}
    free = {variable: values[variable.name] for variable in model.free_RVs}
    ours = float(potential.eval({k: x.astype(float) for k, x in free.items()}, mode="FAST_COMPILE"))
    at = P["rho"] if rho is None else rho
    assert ours == pytest.approx(longhand(data, at, u, v, outcome), abs=1e-6)
    for wrong in (
        longhand(data, -at, u, v, outcome),
        longhand(data, at, u, v, others),
        longhand(data, at, u, 0 * v, outcome),
    ):
        assert abs(ours - wrong) > 0.05


def test_normal_prior_of_some_coefficients():
    """Up to a constant the normal density, flat in the second coefficient."""
    Q0, mean = np.array([[4.0, 0.0], [0.0, 0.0]]), np.array([0.7, 0.0])
    priors = pr.Priors(pr.InverseWishart(3.0, np.eye(1)), pr.InverseWishart(4.0, np.eye(2)), pr.Flat())
    model = selection_model(rows(), priors, [0, 1], 0.3, (Q0, Q0 @ mean))
    (prior,) = (each for each in model.potentials if each.name == "beta_normal")
    beta = model["beta"]
    at = [
        float(prior.eval({beta: np.array([[x], [z]])}, mode="FAST_COMPILE"))
        for x, z in ((0.1, 3.0), (1.5, -9.0))
    ]
    right = norm(0.7, 0.5).logpdf([0.1, 1.5])
    assert at[1] - at[0] == pytest.approx(right[1] - right[0], rel=1e-12)


@pytest.mark.parametrize("rho", [-0.8, 0.0, 0.6])
@pytest.mark.parametrize("eta", [-1.5, 0.0, 1.2])
def test_missing_values_have_the_law_of_rejected_ones(rho, eta):
    """(e, d) drawn together and kept where eta + d < 0: one KS test in each of 9 settings, level 1e-4 each."""
    rng, n = np.random.default_rng(7), 4000
    drawn = draw_missing(rng, np.full(n, 2.0), np.full(n, eta), 1.5, rho)
    d = rng.normal(size=100 * n)
    e = rho * d + np.sqrt(1 - rho**2) * rng.normal(size=len(d))
    kept = 2.0 + 1.5 * e[eta + d < 0][: 2 * n]
    assert ks_2samp(drawn, kept).pvalue > 1e-4
    if rho:  # the wrong sign, and no selection
        assert ks_2samp(4.0 - drawn, kept).pvalue < 1e-8
        assert (
            ks_2samp(draw_missing(rng, np.full(n, 2.0), np.full(n, -np.inf), 1.5, rho), kept).pvalue < 1e-8
            or eta < -1
        )


def test_missing_values_far_in_the_tail_and_without_selection():
    rng, n = np.random.default_rng(2), 4000
    far = draw_missing(rng, np.zeros(n), np.full(n, 40.0), 1.0, 0.999)  # Phi(-40) is about 1e-350
    assert np.isfinite(far).all() and abs(np.median(far) + 40) < 0.1
    free = draw_missing(rng, np.zeros(n), np.full(n, -np.inf), 2.0, 0.7)
    assert kstest(free / 2.0, "norm").pvalue > 1e-4
