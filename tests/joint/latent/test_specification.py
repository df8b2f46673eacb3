"""What `JointLatent` accepts and refuses, how it describes itself, and what the rest of the package does with it."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import bayesimp as bi
from bayesimp import priors as pr
from bayesimp.analysis.congenial import congeniality
from bayesimp.errors import DataError, SpecificationError
from bayesimp.formulas.formula import parse
from bayesimp.joint.latent.prior import coefficient_prior
from tests.joint.latent.test_wiring import FORMULA, table
from tests.unfolding import unfolded

SHORT = {"m": 4, "seed": 1, "chains": 2, "draws": 40, "thin": 1, "tune": 20, "progress": False}


def data(frame: pd.DataFrame | None = None, **families: str) -> bi.IncompleteData:
    return bi.IncompleteData(table() if frame is None else frame, "g", {"b": "bernoulli", **families})


def test_what_is_printed():
    text = unfolded(repr(bi.JointLatent(data(), FORMULA)))
    assert (
        "r = 5 latent variables: y (normal, 1), b (bernoulli, 1), o (ordinal, 1), c (categorical, 2)" in text
    )
    assert "beta: flat; of b, o, c: normal, sd 2.5 for a predictor with sd 1" in text
    assert "given variances of 1 (b, o, c[green], c[blue]) and 1/2 between utilities of one variable" in text
    normal = repr(bi.JointLatent(data(), "y ~ x + (1 | g)"))
    assert "given" not in normal and "beta: flat\n" in normal


def at(column: str, values) -> pd.DataFrame:
    return table().assign(**{column: values})


def few_pairs() -> np.ndarray:
    """Two values in each cluster that agree, by chance or not."""
    out = np.full(120, None, dtype=object)
    for i, level in enumerate("ababba"):
        out[20 * i : 20 * i + 2] = level
    return out


OF_CLUSTERS = "'z' has a single value in each.*JointGLMM and bi.FCS impute cluster-level variables"
REFUSED = {
    "a count": (at("k", np.arange(120) % 7), {"k": "poisson"}, "y + k ~ x + (1 | g)", "family 'poisson'.*JointGLMM"),
    "one level": (at("b", ["yes"] * 119 + [None]), {}, FORMULA, "'b' has one value, 'yes', in all 119 rows"),
    "of clusters by chance": (at("z", few_pairs()), {"z": "bernoulli"}, "y + z ~ x + (1 | g)", OF_CLUSTERS),
    "many levels": (at("n", [f"{k % 64}" for k in range(120)]), {}, "y + n ~ x + (1 | g)", "64 latent.*'n' has 63"),
    "no such column": (table(), {}, "y + nob ~ x + (1 | g)", "nob"),
    "incomplete predictor": (table(), {}, "y ~ b + (1 | g)", "'b'"),
    "another cluster": (table(), {}, "y ~ 1 + (1 | x)", "groups by 'x'"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_before_sampling(name):
    frame, families, formula, message = REFUSED[name]
    with pytest.raises((DataError, SpecificationError), match=f"(?s){message}"):
        bi.JointLatent(data(frame, **families), formula)


def test_a_covariance_for_each_cluster_is_refused_where_it_is_not_sound():
    with pytest.raises(SpecificationError, match=r"residual='cluster' is for normal .* 'b', 'o' have levels"):
        bi.JointLatent(data(), "b + o ~ x + (1 | g)", residual="cluster")
    with pytest.raises(SpecificationError, match="residual must be 'common' or 'cluster', got 'each'"):
        bi.JointLatent(data(), "y ~ x + (1 | g)", residual="each")
    with pytest.raises(
        SpecificationError, match="clusters=True keeps the residual covariance of every cluster"
    ):
        bi.JointLatent(data(), FORMULA).impute(clusters=True)


def test_latent_variables_have_the_same_covariance_in_every_cluster():
    imp = bi.JointLatent(data(), FORMULA, residual="cluster").impute(clusters=True, **SHORT)
    post = imp.tree["posterior"]
    S, own = post.Sigma.values, post.Sigma_clusters.values
    assert own.shape == (2, 40, 6, 5, 5) and np.ptp(own[..., 0, 0], axis=2).min() > 0
    blocks = own[..., 1:, 1:]
    assert np.ptp(blocks, axis=2).max() == 0 and np.ptp(own[..., 0, 1:], axis=2).min() > 0
    np.testing.assert_allclose(blocks[:, :, 0], S[..., 1:, 1:])
    np.testing.assert_allclose(blocks[..., 3, 2], 0.5)
    np.testing.assert_allclose(np.diagonal(blocks, axis1=-2, axis2=-1), 1.0)
    again = bi.JointLatent(data(), FORMULA, residual="cluster").impute(**SHORT)
    np.testing.assert_array_equal(imp.values("c"), again.values("c"))


def test_priors_and_samplers_that_are_refused():
    with pytest.raises(SpecificationError, match=r"LKJ on Psi.*JointGLMM"):
        bi.JointLatent(data(), FORMULA, pr.Priors(Psi=pr.LKJ()))
    with pytest.raises(SpecificationError, match="residual variance 1"):
        bi.JointLatent(data(), FORMULA, pr.Priors(Sigma=pr.Fixed(2 * np.eye(5))))
    with pytest.raises(SpecificationError, match="Gibbs steps only"):
        bi.JointLatent(data(), FORMULA).impute(sampler="nuts")
    with pytest.raises(SpecificationError, match="'auto' or 'gibbs', got 'hmc'"):
        bi.JointLatent(data(), FORMULA).check_options(sampler="hmc")
    imp = bi.JointLatent(data(), FORMULA).impute(**SHORT)
    with pytest.raises(
        SpecificationError, match=r"log_likelihood: .* did not keep\. Impute with keep_effects=True"
    ):
        imp.tree_with("log_likelihood")


@pytest.mark.parametrize(
    "Sigma",
    [
        pr.InverseWishart(),
        pr.LKJ(2.0),
        pr.Diagonal(pr.HalfT()),
        pr.Diagonal(pr.InverseWishart(1.0)),
        pr.jomo().Sigma,
    ],
    ids=repr,
)
def test_every_prior_of_sigma_runs_and_keeps_what_is_fixed(Sigma):
    model = bi.JointLatent(data(), FORMULA, pr.Priors(Sigma=Sigma))
    S = model.impute(**SHORT).tree["posterior"].Sigma.values
    assert (S[..., [1, 2, 3, 4], [1, 2, 3, 4]] == 1).all() and (S[..., 3, 4] == 0.5).all()
    assert np.isfinite(S).all() and S[..., 0, 0].std() > 0
    assert (S[..., 0, 1].std() > 0) == (not isinstance(Sigma, pr.Diagonal))


def test_a_known_sigma_stays():
    S = np.eye(5) * [140.0, 1, 1, 1, 1]
    S[3, 4] = S[4, 3] = 0.5
    imp = bi.JointLatent(data(), FORMULA, pr.Priors(Sigma=pr.Fixed(S))).impute(**SHORT)
    np.testing.assert_allclose(imp.tree["posterior"].Sigma.values, np.broadcast_to(S, (2, 40, 5, 5)))


def test_weak_coefficients_are_those_of_standardised_predictors():
    """Of latent variables alone, whatever origin and unit of x; quadratic form against coefficients written out."""
    model = bi.JointLatent(data(at("x", 300 + 40 * table()["x"])), FORMULA)
    scale, x = model.table.working.scale, model.design.X[:, 1]
    Q, t = coefficient_prior(pr.Flat(), scale, model.design.X, model.design.terms, model.variables)
    assert not Q[:2].any() and not t.any()
    beta = np.array([[0.3], [0.02]])  # of the table's columns; at the mean and in sds of x:
    gamma = np.array([0.3 + 0.02 * x.mean(), 0.02 * x.std()])
    beta_w = np.linalg.solve(scale.T, beta)[:, 0]
    for k in range(1, 5):
        part = slice(2 * k, 2 * k + 2)
        assert beta_w @ Q[part, part] @ beta_w == pytest.approx((gamma**2 / np.array([5.0, 2.5]) ** 2).sum())


def test_analyses_are_compared_with_it_and_pooled():
    frame = table()
    frame["v"] = np.random.default_rng(1).normal(size=len(frame))
    model = bi.JointLatent(data(frame), "y + b + o ~ x + (1 | g)")
    assert not congeniality(model, parse("y ~ b + x + (1 | g)")).gaps
    gaps = congeniality(model, parse("y ~ b * x + (1 | g)")).gaps
    assert gaps and {gap.variable for gap in gaps} == {"y", "b"}
    verdict = congeniality(model, parse("y ~ x + v + (1 | g)"))
    assert verdict.call == "bi.JointLatent(data, 'y + b + o ~ 1 + x + v + (1 | g)')"
    imp = model.impute(**SHORT)
    pooled = imp.analyse("y ~ b + x + (1 | g)").pool()
    assert np.isfinite(pooled.estimate).all()


def test_prior_and_posterior_of_sigma_can_be_compared():
    from bayesimp.diagnostics.components import components

    imp = bi.JointLatent(data(), "y + b ~ x + (1 | g)").impute(**SHORT)
    found = components(imp, size=500)
    assert "correlation within\ny, b" in found and "sd within\ny" in found and "sd within\nb" not in found


def test_a_variable_of_many_levels_and_one_without_clusters_effects_in_common():
    """Twenty levels of a nominal variable: 19 utilities, sampled."""
    rng = np.random.default_rng(2)
    frame = pd.DataFrame(
        {"g": np.repeat(np.arange(8), 40), "n": [f"{k:02d}" for k in rng.integers(0, 20, 320)]}
    )
    frame["y"] = rng.normal(size=320)
    frame.loc[rng.random(320) < 0.1, "n"] = None
    imp = bi.JointLatent(bi.IncompleteData(frame, "g"), "y + n ~ 1 + (1 | g)").impute(
        m=2, seed=1, chains=1, draws=10, tune=10, progress=False
    )
    assert len(imp.tree["posterior"].coords["latent"]) == 20
    assert imp.frame(0)["n"].isin(frame["n"].dropna().unique()).all()


def test_nothing_missing_and_rows_with_nothing_observed():
    frame = table().dropna()
    imp = bi.JointLatent(data(frame), FORMULA).impute(**SHORT)
    assert imp.imputed_columns == () or not len(imp.imputed_columns)
    frame = table()
    frame.loc[5:30, ["y", "b", "o", "c"]] = None
    done = bi.JointLatent(data(frame), FORMULA).impute(**SHORT).frame(0)
    assert not done[["y", "b", "o", "c"]].isna().any().any()
