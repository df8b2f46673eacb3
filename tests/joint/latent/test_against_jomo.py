"""A binary variable with cluster effects: quadrature, `JointLatent` and frozen draws of jomo, which is biased.

tests/reference/latent/README.md has the table. Means in Monte Carlo standard errors, Bonferroni, level 1e-4.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.special import ndtr
from scipy.stats import norm

import bayesimp as bi
from bayesimp import priors as pr
from tests.calibration.montecarlo import LEVEL, REJECTED, batch_means, bonferroni
from tests.joint.latent.brute_force import nodes, posterior

HERE = Path(__file__).parents[2] / "reference" / "latent"


def quadrature(frame: pd.DataFrame) -> np.ndarray:
    """Means of beta and Psi under a flat prior and IW(1, 1)."""
    groups = frame.groupby("g").b
    ones, counts = groups.sum().to_numpy(), groups.count().to_numpy()
    beta, log_psi = np.meshgrid(np.linspace(-1.5, 2.5, 121), np.linspace(-4, 3, 121), indexing="ij")
    sd = np.exp(log_psi / 2)
    log_p = -0.5 * log_psi - 0.5 / sd**2  # |Psi|^-3/2 and the Jacobian
    z, w = nodes(1, 50)
    for k, n in zip(ones, counts, strict=True):
        each = [
            wj * ndtr(beta + sd * x) ** k * ndtr(-beta - sd * x) ** (n - k)
            for (x,), wj in zip(z, w, strict=True)
        ]
        log_p += np.log(sum(each))
    found = posterior(log_p, {"beta": beta, "Psi": sd**2})
    return np.array([found["beta"][0], found["Psi"][0]])


def p_value(mean, error, expected) -> float:
    return bonferroni(2 * norm.sf(np.abs(mean - expected) / error))


def test_quadrature_agrees_with_this_package_and_not_with_jomo():
    frame = pd.read_csv(HERE / "mixed.csv")
    expected = quadrature(frame)
    frame["b"] = frame["b"].astype("Int64")
    data = bi.IncompleteData(frame, "g", {"b": "bernoulli"})
    model = bi.JointLatent(
        data, "b ~ 1 + (1 | g)", pr.Priors(Psi=pr.InverseWishart(), beta=pr.Normal(0.0, 100.0))
    )
    post = model.impute(m=2, seed=1, chains=2, draws=20_000, thin=1, progress=False).tree["posterior"]
    drawn = np.stack([post.beta.values[..., 0, 0], post.Psi.values[..., 0, 0]], axis=-1)
    assert p_value(*batch_means(drawn, 25), expected) > LEVEL
    jomo = json.loads((HERE / "jomo_binary.json").read_text())
    mean, error = np.array([jomo["beta"], jomo["Psi"]]).T
    assert p_value(mean, error, expected) < REJECTED
