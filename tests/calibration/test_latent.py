"""Calibration of the joint model on latent normals, to the completed table: short here, in full by `-m slow`."""

import numpy as np
import pytest

from tests.calibration import latent, sbc
from tests.calibration.joint_glmm import ranks
from tests.calibration.latent import MIXED, VARIANTS
from tests.calibration.montecarlo import LEVEL, REJECTED


@pytest.mark.calibration
def test_ranks_are_uniform():
    assert sbc.overall(ranks(MIXED, 14, seed=1, tune=80, thin=3)) > LEVEL


@pytest.mark.calibration
@pytest.mark.parametrize("name", ["correlations without their prior", "bounds of a binary variable ignored"])
def test_a_spoiled_model_is_rejected(name):
    assert sbc.overall(ranks(MIXED, 30, 2, tune=60, thin=2, spoil=VARIANTS[name])) < REJECTED


@pytest.mark.slow
@pytest.mark.calibration
def test_in_full():
    assert sbc.overall(ranks(MIXED, 300, latent.SEED)) > LEVEL
    for spoil in VARIANTS.values():
        assert sbc.overall(ranks(MIXED, 120, latent.SEED, spoil=spoil)) < REJECTED


def test_correlations_are_drawn_from_their_density():
    """|R|^2 on the free entries, against mean squares of a uniform proposal with these weights."""
    rng = np.random.default_rng(1)
    drawn = np.array([latent.correlations(rng, 3.0) for _ in range(3000)])
    R = np.tile(np.where(np.isnan(latent.ENTRIES), np.eye(5), latent.ENTRIES), (100_000, 1, 1))
    for i, j in zip(*np.tril_indices(5, -1), strict=True):
        if np.isnan(latent.ENTRIES[i, j]):
            R[:, i, j] = R[:, j, i] = rng.uniform(-0.9, 0.9, len(R))
    det = np.where(np.linalg.eigvalsh(R).min(axis=1) > 0, np.linalg.det(R), 0.0)
    w = det**2 / (det**2).sum()
    for f in (lambda R: R[:, 0, 1] ** 2, lambda R: R[:, 2, 3] ** 2, np.linalg.det):
        x, y = f(drawn), f(R)
        expected, error = w @ y, np.sqrt(w**2 @ (y - w @ y) ** 2)
        assert abs(x.mean() - expected) < 4.5 * np.hypot(x.std() / np.sqrt(len(x)), error) + 1e-3
