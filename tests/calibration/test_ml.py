"""A small calibration of MICE-ML: the posterior's ranks are uniform, those of the asymptotic law are not."""

import numpy as np

from tests.calibration import ml
from tests.calibration.montecarlo import LEVEL, REJECTED
from tests.calibration.uniformity import p_value


def test_five_clusters():
    truth = ml.TRUTHS["drawn"][0]
    exact, _ = ml.ranks(ml.METHODS["exact"], 5, truth, 300, seed=1)
    assert 3 * min(p_value(exact[:, j], ml.DRAWS) for j in range(3)) > LEVEL
    asymptotic, singular = ml.ranks(ml.by_ml, 5, truth, 300, seed=1)
    assert p_value(asymptotic[:, 0], ml.DRAWS) < REJECTED and 0 < singular < 1


def test_coverage_counts_the_central_ranks():
    uniform = np.arange(ml.DRAWS + 1)
    assert [ml.coverage(uniform, level) for level in (50, 90, 95)] == [50, 90, 95]
