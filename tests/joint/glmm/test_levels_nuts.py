"""NUTS on the joint GLMM with two crossed grouping factors: the same posterior as Gibbs.

As in tests/joint/glmm/test_nuts.py: means and quantiles of parameters and imputed means in Monte Carlo standard errors,
level 0.001 in all (Bonferroni). With as many draws as NUTS makes, another prior of Psi_class is told apart.

On 2026-11-30: largest |z| 3.59 of a limit of 4.59 (`pytest -m slow tests/joint/glmm/test_levels_nuts.py -s`; the
first test took less than 120 CPU seconds, with PyTensor's compilation); with the other prior, 61.44.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import pandas as pd
import pytest

import bayesimp as bi
from bayesimp import priors as pr
from tests.joint.glmm.test_nuts import largest, quantities


@cache
def run(sampler: str, scale: float = 0.5, kept: int = 4_000) -> bi.imputation.result.Imputations:
    """8 schools crossed with 6 classes, 60 rows: a binary t, then y given t, some of both missing."""
    rng = np.random.default_rng(3)
    n = 60
    school, klass, x = rng.integers(0, 8, n), rng.integers(0, 6, n), rng.normal(size=n)
    a, c = rng.normal(size=(8, 2)), rng.normal(size=(6, 2))
    t = (rng.random(n) < 1 / (1 + np.exp(-x - a[school, 0] - c[klass, 0]))).astype(float)
    y = 1 + x + t + a[school, 1] + c[klass, 1] + rng.normal(size=n)
    y[rng.random(n) < 0.15], t[rng.random(n) < 0.15] = np.nan, np.nan
    frame = pd.DataFrame({"school": school, "class": np.array(list("pqrstu"))[klass], "x": x, "t": t, "y": y})
    data = bi.IncompleteData(frame, ["school", "class"], {"t": "bernoulli"})
    own = pr.InverseWishart(6.0, scale * np.eye(2))
    priors = pr.Priors(pr.HuangWand(nu=4.0), pr.HuangWand(nu=4.0), pr.Normal(0.0, 1.5), Psi_of={"class": own})
    model = bi.JointGLMM(data, "y ~ x + t + (1 | school) + (1 | class)", priors=priors)
    return model.impute(
        m=4, seed=7, chains=2, tune=1000, draws=kept, sampler=sampler, workers=1, progress=False
    )


@pytest.mark.slow
def test_two_crossed_factors_have_the_same_posterior_as_gibbs():
    z, limit = largest(quantities(run("gibbs", kept=20_000)), quantities(run("nuts")))
    print(f"largest |z| {z:.2f}, limit {limit:.2f}")
    assert z < limit


@pytest.mark.slow
def test_another_prior_of_classes_is_told_apart():
    z, limit = largest(quantities(run("gibbs", 2.0)), quantities(run("gibbs")))
    print(f"largest |z| {z:.2f}, limit {limit:.2f}")
    assert z > limit
