"""Calibration of cluster-level variables and of residual covariances of clusters: short here, in full by `-m slow`."""

import numpy as np
import pytest
from scipy.stats import invwishart

from tests.calibration import latent_clusters, sbc
from tests.calibration.joint_glmm import ranks
from tests.calibration.latent_clusters import DESIGNS, VARIANTS, given_block, scale_of
from tests.calibration.montecarlo import LEVEL, REJECTED, two_samples


@pytest.mark.calibration
@pytest.mark.parametrize("name", ["nominal variable of clusters", "unlike residuals with levels"])
def test_ranks_are_uniform(name):
    assert sbc.overall(ranks(DESIGNS[name], 12, seed=1, tune=80, thin=3)) > LEVEL


@pytest.mark.calibration
def test_a_spoiled_model_is_rejected():
    design, spoil = VARIANTS["missing values of clusters taken for means"]
    assert sbc.overall(ranks(design, 20, 2, tune=60, thin=2, spoil=spoil)) < REJECTED


@pytest.mark.slow
@pytest.mark.calibration
def test_in_full():
    for design in DESIGNS.values():
        assert sbc.overall(ranks(design, 300, latent_clusters.SEED)) > LEVEL
    for design, spoil in VARIANTS.values():
        assert sbc.overall(ranks(design, 150, latent_clusters.SEED, spoil=spoil)) < REJECTED


def test_matrices_given_a_block_are_drawn_from_their_density():
    """An inverse-Wishart matrix given its last variance, against draws whose variance happens to be near it."""
    rng, d = np.random.default_rng(1), 3
    law = invwishart(8.0, scale_of(d) / 4)
    drawn = np.array([given_block(law.rvs(random_state=rng), np.eye(1)) for _ in range(4_000)])
    assert np.allclose(drawn[:, 2, 2], 1.0)
    pool = law.rvs(150_000, random_state=rng)
    near = pool[np.abs(pool[:, 2, 2] - 1.0) < 0.02]
    x, y = (np.stack([S[:, 0, 0], S[:, 0, 1], S[:, 0, 2], S[:, 0, 2] ** 2], axis=1) for S in (drawn, near))
    assert two_samples(x, y) > LEVEL
    unconditional = np.stack([pool[:, 0, 0], pool[:, 0, 1], pool[:, 0, 2], pool[:, 0, 2] ** 2], axis=1)
    assert two_samples(x, unconditional) < REJECTED
