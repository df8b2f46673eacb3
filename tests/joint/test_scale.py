"""The working scale: exact conversion both ways; the same model on both scales; an order that depends on values alone."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.stats import invwishart

from bayesimp import priors as pr
from bayesimp.errors import DataError, SpecificationError
from bayesimp.joint.scale import prepare
from tests.fcs.driven import table, working
from tests.kernels import dense

TABLE = table()


def prepared(t, **options):
    names = [f"y{k}" for k in range(t.Y.shape[1])], [f"x{k}" for k in range(t.X.shape[1])]
    return prepare(t.X, t.Z, t.Y, t.codes, t.clusters, *names, **options)


def test_there_and_back():
    scale, rng = prepared(TABLE).scale, np.random.default_rng(1)
    beta, Sigma, Psi = rng.normal(size=(5, 3, 3)), dense.covariance(3, 1), dense.covariance(6, 1)
    assert_allclose(scale.beta(scale.working_beta(beta)), beta, atol=1e-10)
    assert_allclose(scale.Sigma(scale.working_Sigma(Sigma)), Sigma, rtol=1e-12)
    assert_allclose(scale.Psi(scale.working_Psi(Psi)), Psi, rtol=1e-12)


def test_the_model_is_the_same_on_both_scales():
    """x'beta + z'b in the units of the data, for any beta and b on the working scale."""
    w, rng = prepared(TABLE), np.random.default_rng(2)
    s, rows = w.scale, w.rows
    beta_w, b_w = rng.normal(size=(3, 3)), rng.normal(size=6)
    beta, b = s.beta(beta_w), (s.C @ (s.effects * b_w).reshape(3, 2).T).T.ravel()
    x, z = TABLE.X[rows.row], TABLE.Z[rows.row]
    working_mean = rows.X @ (beta_w + s.offset) + rows.Z @ b_w.reshape(3, 2).T
    assert_allclose(x @ beta + z @ b.reshape(3, 2).T, working_mean * s.s, rtol=1e-10)
    seen = ~np.isnan(TABLE.Y[rows.row])
    assert_allclose(((rows.Y + rows.X @ s.offset) * s.s)[seen], TABLE.Y[rows.row][seen], rtol=1e-10)
    assert_array_equal(np.isnan(rows.Y), ~seen)


def test_columns_are_orthogonal_and_values_of_size_one():
    w = prepared(TABLE)
    X = TABLE.X @ w.scale.T
    assert_allclose(X.T @ X / len(X), np.eye(3), atol=1e-12)
    assert_allclose(w.scale.s, np.nanstd(TABLE.Y, axis=0, ddof=1), rtol=1e-12)


def test_rows_know_their_cluster_and_pattern():
    w = prepared(TABLE)
    rows = w.rows
    assert_array_equal(np.sort(rows.row), np.flatnonzero(np.isnan(TABLE.Y).any(1)))
    assert_array_equal(w.order[rows.cluster], TABLE.codes[rows.row])
    assert_array_equal(w.statistics.patterns[rows.pattern], ~np.isnan(TABLE.Y[rows.row]))
    assert_array_equal(np.sort(w.order), np.arange(TABLE.clusters))


def canonical(t):
    """The table in canonical order: what the sampler sees."""
    w = prepared(t)
    return w, np.column_stack([w.rows.cluster, w.rows.X, w.rows.Z, t.Y[w.rows.row]])


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("rows", [1, 2, 6])
def test_order_depends_on_values_alone(seed, rows):
    """Many small clusters of whole numbers: they agree in their summaries and differ in covariates."""
    t = table(seed, clusters=30, rows=rows, r=2, q=2, holes=0.3)
    t = replace(t, Y=np.where(np.isnan(t.Y), np.nan, np.round((t.Y - 50) / 2)))
    rng = np.random.default_rng(seed)
    p, label = rng.permutation(len(t.Y)), rng.permutation(t.clusters)
    other = replace(t, X=t.X[p], Z=t.Z[p], Y=t.Y[p], codes=label[t.codes[p]])
    (a, seen), (b, seen_too) = canonical(t), canonical(other)
    assert_allclose(seen, seen_too, atol=1e-8)
    assert_array_equal(p[b.rows.row], a.rows.row)
    assert_array_equal(label[a.order], b.order)
    assert_allclose(a.statistics.gram, b.statistics.gram, atol=1e-8)


def test_clusters_without_rows():
    t = replace(TABLE, codes=TABLE.codes + (TABLE.codes > 4), clusters=TABLE.clusters + 3)
    w = prepared(t)
    assert set(w.order[:3]) == {5, 13, 14}
    assert_array_equal(w.order[w.rows.cluster], t.codes[w.rows.row])
    assert_allclose(np.sort(w.statistics.cell_rows), np.sort(prepared(TABLE).statistics.cell_rows))


@pytest.mark.parametrize("column", [0, 1, 2])
def test_dependent_columns_are_named_or_left_to_the_prior(column):
    t = replace(TABLE, X=np.column_stack([TABLE.X, 3 * TABLE.X[:, column]]))
    with pytest.raises(SpecificationError, match=r"not identified.*'x3'"):
        prepared(t)
    scale = prepared(t, flat=False).scale
    assert np.isfinite(scale.T).all() and np.linalg.cond(scale.T) < 100


def test_an_effect_that_observed_rows_do_not_identify():
    X = TABLE.X.copy()
    X[:, 2] = np.isnan(TABLE.Y[:, 0])
    with pytest.raises(SpecificationError, match=r"'y0' are not identified.*'x2'"):
        prepared(replace(TABLE, X=X))
    prepared(replace(TABLE, X=X), flat=False)


def test_more_columns_than_rows_under_a_proper_prior():
    X, Z, Y = TABLE.X[:2], TABLE.Z[:2], np.array([[1.0], [2.0]])
    t = replace(TABLE, X=X, Z=Z, Y=Y, codes=np.array([0, 0]), clusters=1)
    assert np.isfinite(prepared(t, flat=False).scale.T).all()


@pytest.mark.parametrize("value,message", [(np.nan, "no observed value"), (0.1, "constant")])
def test_responses_without_information(value, message):
    Y = TABLE.Y.copy()
    Y[:, 1] = np.where(np.isnan(Y[:, 1]), np.nan, value)
    with pytest.raises(DataError, match=f"'y1' .*{message}"):
        prepared(replace(TABLE, Y=Y))


def test_priors_keep_their_meaning_on_the_working_scale():
    """The moved prior's density at the moved matrix is the prior's, up to the constant Jacobian."""
    prior = pr.Priors(pr.InverseWishart(5.0, dense.covariance(3, 4)), pr.InverseWishart(7.0, 0.3))
    w, moved = working(TABLE, prior)
    ratios = []
    for seed in range(4):
        Sigma = dense.covariance(3, seed)
        here = invwishart(5.0, np.linalg.inv(prior.Sigma.V)).logpdf(Sigma)
        there = invwishart(5.0, np.linalg.inv(moved.Sigma.V)).logpdf(w.scale.working_Sigma(Sigma))
        ratios.append(here - there)
    assert_allclose(ratios, ratios[0], rtol=1e-9)
