"""The test of ranks itself: exact under uniformity, and with power."""

import numpy as np
import pytest

from tests.calibration import sbc
from tests.calibration.designs import DESIGNS
from tests.calibration.sbc import DRAWS, Draws
from tests.calibration.uniformity import p_value


def test_level_is_exact():
    """Over 2,000 sets of uniform ranks p <= a as often as a says, or less: p-values are discrete."""
    rng = np.random.default_rng(1)
    p = np.array([p_value(rng.integers(0, DRAWS + 1, 50), DRAWS) for _ in range(2000)])
    for a in (0.05, 0.2, 0.5):
        se = np.sqrt(a * (1 - a) / len(p))
        assert (p <= a).mean() < a + 4 * se
        assert (p <= a).mean() > a - 4 * se - 0.02  # discreteness


@pytest.mark.parametrize(
    "shape", [(1.5, 1.0), (1.0, 0.6), (2.0, 2.0), (0.6, 0.6)], ids=["up", "at the end", "dome", "bowl"]
)
def test_other_shapes_are_rejected(shape):
    ranks = (np.random.default_rng(2).beta(*shape, 300) * (DRAWS + 1)).astype(int)
    assert p_value(ranks, DRAWS) < 1e-3


def test_bins_must_be_equal():
    with pytest.raises(ValueError, match="equal bins"):
        p_value([1, 2], 30)


def prior_again(design, Y, seed):
    """Draws from the prior, ignoring the data: calibrated for parameters, not for what depends on the data."""
    rng = np.random.default_rng(seed)
    each = [sbc.draw_truth(rng, design) for _ in range(DRAWS)]
    return Draws(*(np.concatenate([getattr(d, f) for d in each]) for f in ("beta", "Sigma", "Psi", "values")))


def test_ranks_of_a_backend_that_ignores_the_data():
    """The machinery without any sampler: parameters pass, the likelihood does not."""
    p = sbc.p_values(sbc.simulate(DESIGNS["slopes, inverse-Wishart"], prior_again, 60, seed=3))
    assert p.pop("log likelihood") < 1e-6
    assert min(v for name, v in p.items() if name[:3] in ("bet", "Sig", "Psi", "log")) > 1e-3
