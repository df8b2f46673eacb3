"""The joint sampler from end to end: the same seed gives the same imputations, however the table is arranged."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from bayesimp import priors as pr
from bayesimp.errors import DataError, SamplingError, SpecificationError
from bayesimp.joint.gibbs import sample_gibbs
from bayesimp.priors.gibbs import beta_prior, covariance_update, is_conjugate
from tests.fcs.driven import drive, states, table, working

TABLE = table()
# Round-off of the sums over rows passes through some hundred iterations; values are of the order of 1 to 50.
CLOSE = {"rtol": 1e-6, "atol": 1e-6}


@pytest.fixture(scope="module")
def reference():
    return drive(TABLE)


def different(values, other) -> bool:
    """Control: the comparison would notice another stream of random numbers."""
    return bool(np.nanmax(np.abs(values - other)) > 0.1)


def test_same_seed_same_draws_other_seed_other_draws(reference):
    again, values = drive(TABLE)
    assert_array_equal(again.Psi, reference[0].Psi)
    assert_array_equal(values, reference[1])
    assert different(drive(TABLE, seed=2)[1], values)


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_workers_make_no_difference(reference, workers):
    draws, values = drive(TABLE, workers=workers)
    for name in ("beta", "Sigma", "Psi", "mean", "sd"):
        assert_array_equal(getattr(draws, name), getattr(reference[0], name))
    assert_array_equal(values, reference[1])


def test_row_order(reference):
    p = np.random.default_rng(3).permutation(len(TABLE.Y))
    shuffled = replace(TABLE, X=TABLE.X[p], Z=TABLE.Z[p], Y=TABLE.Y[p], codes=TABLE.codes[p])
    assert_allclose(drive(shuffled)[1], reference[1][:, p], **CLOSE)


def test_cluster_labels(reference):
    """Two clusters have nothing observed and equal sizes: their rows determine the order."""
    label = np.random.default_rng(4).permutation(TABLE.clusters)
    draws, values = drive(replace(TABLE, codes=label[TABLE.codes]))
    assert_allclose(values, reference[1], **CLOSE)
    assert_allclose(draws.mean[:, :, label], reference[0].mean, **CLOSE)


def test_cluster_labels_with_single_rows_of_whole_numbers():
    """Clusters that agree in number, least and largest value, and differ in a covariate."""
    t = table(clusters=40, rows=2, r=2, q=1, holes=0.3)
    t = replace(t, Y=np.where(np.isnan(t.Y), np.nan, np.round((t.Y - 50) / 3)))
    label = np.random.default_rng(5).permutation(40)
    assert_allclose(drive(replace(t, codes=label[t.codes]))[1], drive(t)[1], **CLOSE)


@pytest.mark.parametrize("unit", [0.01, 100.0, 1e6])
def test_units_of_responses(reference, unit):
    units = np.array([unit, 1 / unit, 1.0])
    draws, values = drive(replace(TABLE, Y=TABLE.Y * units))
    assert_allclose(values / units, reference[1], **CLOSE)
    assert_allclose(draws.Sigma / np.outer(units, units), reference[0].Sigma, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("unit", [0.01, 100.0, 1e6])
def test_units_of_covariates(reference, unit):
    draws, values = drive(replace(TABLE, X=TABLE.X * [1, unit, 1], Z=TABLE.Z * [1, unit]))
    assert_allclose(values, reference[1], **CLOSE)
    assert_allclose(draws.beta[:, :, 1] * unit, reference[0].beta[:, :, 1], **CLOSE)


def test_coding_of_a_binary_covariate(reference):
    X = TABLE.X.copy()
    X[:, 2] = 1 - X[:, 2]
    draws, values = drive(replace(TABLE, X=X))
    assert_allclose(values, reference[1], **CLOSE)
    assert_allclose(-draws.beta[:, :, 2], reference[0].beta[:, :, 2], **CLOSE)


def test_explicit_priors_follow_a_change_of_unit():
    """A normal prior of beta and an inverse-Wishart, stated in one unit and in another."""
    t, units = table(r=2, q=1), np.array([1000.0, 0.02])
    V = np.array([[0.5, 0.1], [0.1, 0.8]])
    a = pr.Priors(pr.InverseWishart(4.0, V), pr.InverseWishart(3.0, V), pr.Normal(2.0, 7.0))
    W = pr.InverseWishart(4.0, V / np.outer(units, units))
    b = pr.Priors(W, replace(W, nu=3.0), pr.Normal(2.0 * units, 7.0 * units))
    values = drive(t, a)[1]
    assert_allclose(drive(replace(t, Y=t.Y * units), b)[1] / units, values, **CLOSE)
    assert different(drive(replace(t, Y=t.Y * units), a)[1] / units, values)


def test_chains_continue_exactly():
    w, priors = working(TABLE, pr.default())
    once, twice = states(TABLE, priors, 2), states(TABLE, priors, 2)
    whole = sample_gibbs(w, priors, once, tune=20, draws=30, thin=2)
    parts = sample_gibbs(w, priors, twice, tune=20, draws=11, thin=2)
    parts = parts + sample_gibbs(w, priors, twice, tune=0, draws=19, thin=2)
    for name in ("beta", "Sigma", "Psi", "mean", "sd"):
        assert_array_equal(getattr(parts, name), getattr(whole, name))
    assert_array_equal(once[0].Psi, twice[0].Psi)
    assert whole.chains == 2 and whole.draws == 30


@pytest.mark.parametrize("after", ["warm-up", "sampling"])
def test_an_interruption_keeps_what_there_is(after):
    raised = []

    def interrupt(stage, done, total):
        if stage == after and not raised:
            raised.append(stage)
            raise KeyboardInterrupt

    w, priors = working(TABLE, pr.default())
    tune = 10**6 if after == "warm-up" else 5
    draws = sample_gibbs(w, priors, states(TABLE, priors, 2), tune=tune, draws=10**5, report=interrupt)
    assert draws.draws < 10**5 and draws.beta.shape[1] == draws.sd.shape[1] == draws.draws
    assert np.isfinite(draws.Sigma).all()


@pytest.mark.parametrize("seed", range(2))
def test_random_generator_is_indifferent_to_rare_patterns(seed):
    """Few rows of many patterns, in two orders of rows: round-off in ranks must not shift the generator."""
    t = table(seed, clusters=8, rows=6, r=4, q=1, holes=0.5)
    p = np.random.default_rng(seed).permutation(len(t.Y))
    shuffled = replace(t, X=t.X[p], Z=t.Z[p], Y=t.Y[p], codes=t.codes[p])
    assert_allclose(drive(shuffled, draws=2000)[1], drive(t, draws=2000)[1][:, p], **CLOSE)


# -- extremes ---------------------------------------------------------------------------------------------


def finite(t, priors=None):
    draws, values = drive(t, priors)
    assert all(np.isfinite(a).all() for a in (draws.beta, draws.Sigma, draws.Psi))
    assert np.isfinite(values[:, np.isnan(t.Y)]).all()
    return draws


def test_large_means_and_small_variances_lose_no_digits(reference):
    values = drive(replace(TABLE, Y=2020 + 1e-3 * TABLE.Y))[1]
    assert_allclose((values - 2020) / 1e-3, reference[1], rtol=1e-4, atol=1e-4)


def test_covariates_far_from_zero(reference):
    """2020 +- 0.01 in X: the same space of columns, so the same imputations."""
    X = TABLE.X.copy()
    X[:, 1] = 2020 + 0.01 * X[:, 1]
    assert_allclose(drive(replace(TABLE, X=X))[1], reference[1], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("nearness", [1e-2, 1e-3, 1e-4])
def test_nearly_collinear_responses_are_those_of_the_difference(nearness):
    """(y0, y0 + eps y1) whatever eps: the law of y1 given y0 is that of the untransformed table."""
    t = table(r=2, q=1, holes=0.0)
    t = replace(t, Y=np.where(np.isnan(t.Y).any(1, keepdims=True), np.nan, t.Y))
    near = replace(t, Y=np.column_stack([t.Y[:, 0], t.Y[:, 0] + nearness * t.Y[:, 1]]))
    Sigma = finite(near).Sigma
    sd = np.sqrt(np.linalg.det(Sigma) / Sigma[..., 0, 0]).mean() / nearness
    direct = finite(t).Sigma
    assert_allclose(sd, np.sqrt(np.linalg.det(direct) / direct[..., 0, 0]).mean(), rtol=0.05)


def test_unbalanced_clusters_and_many_responses():
    t = table(clusters=11, rows=200, r=2, q=1)
    keep = (t.codes == 5) | (np.arange(len(t.codes)) % 200 == 0)
    finite(replace(t, X=t.X[keep], Z=t.Z[keep], Y=t.Y[keep], codes=t.codes[keep]))
    finite(table(r=6, q=2, holes=0.6, clusters=20))


def test_degrees_of_freedom_at_the_edge():
    finite(table(clusters=8, q=1), pr.Priors(pr.InverseWishart(2.0001), pr.InverseWishart(2.0001)))


def test_columns_elsewhere():
    """X without intercept, Z not in X, a column of Z that is zero, a cluster without rows."""
    z = np.random.default_rng(0).normal(size=(len(TABLE.Y), 1))
    finite(replace(TABLE, X=TABLE.X[:, 1:], Z=z))
    finite(replace(TABLE, Z=np.column_stack([TABLE.Z[:, :1], 0 * z])))
    finite(replace(TABLE, clusters=TABLE.clusters + 2))
    finite(replace(TABLE, codes=TABLE.codes + (TABLE.codes > 4), clusters=TABLE.clusters + 1))


def test_failures_say_what_failed():
    cluster_level = TABLE.Y.copy()
    cluster_level[:, 2] = np.random.default_rng(0).normal(size=TABLE.clusters)[TABLE.codes]
    with pytest.raises(SamplingError, match=r"Chain \d, .*iterations.*constant within clusters"):
        drive(replace(TABLE, Y=cluster_level))
    copy = TABLE.Y.copy()
    copy[:, 1] = 2 * copy[:, 0] + 1
    with pytest.raises(SamplingError, match="linear combination"):
        drive(replace(TABLE, Y=copy))


@pytest.mark.parametrize("column", [0, 1])
def test_dependent_columns_of_X(column):
    t = replace(TABLE, X=np.column_stack([TABLE.X, 2 * TABLE.X[:, column]]))
    with pytest.raises(SpecificationError, match="'x3'"):
        drive(t)
    draws = finite(t, replace(pr.default(), beta=pr.Normal(0.0, 10.0)))
    assert np.abs(draws.beta).max() < 100


def test_response_without_values():
    Y = TABLE.Y.copy()
    Y[:, 1] = np.nan
    with pytest.raises(DataError, match="'y1' has no observed value"):
        drive(replace(TABLE, Y=Y))


# -- priors -----------------------------------------------------------------------------------------------


def test_normal_prior_of_beta_on_the_working_scale():
    """beta ~ N(mu, D)  =>  beta_w = T^-1 beta / s - offset: its mean and covariance, written out."""
    w, _ = working(TABLE, pr.default())
    mean, sd = np.arange(9.0).reshape(3, 3), 1 + np.arange(9.0).reshape(3, 3)
    Q0, t0 = beta_prior(pr.Normal(mean, sd), w.scale, 3)
    for k in range(3):
        J = np.linalg.inv(w.scale.T) / w.scale.s[k]
        covariance = J @ np.diag(sd[:, k] ** 2) @ J.T
        block = slice(3 * k, 3 * k + 3)
        assert_allclose(Q0[block, block] @ covariance, np.eye(3), atol=1e-8)
        assert_allclose(covariance @ t0[block], J @ mean[:, k] - w.scale.offset[:, k], rtol=1e-7)
    with pytest.raises(SpecificationError, match="broadcast"):
        beta_prior(pr.Normal(np.zeros(4), 1.0), w.scale, 3)


def test_priors_without_an_update():
    assert is_conjugate(pr.HuangWand()) and is_conjugate(pr.Diagonal())
    for prior in (pr.LKJ(), pr.Diagonal(pr.HalfNormal())):
        assert not is_conjugate(prior)
        with pytest.raises(SpecificationError, match="nuts"):
            covariance_update(prior, 2)
