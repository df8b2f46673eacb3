"""Gibbs and NUTS, two programs for one posterior, on few clusters with variances near zero.

Means and quantiles of parameters and of imputed means and sds, in units of sqrt(mcse_gibbs^2 + mcse_nuts^2).
With K comparisons the largest |z| must stay below the two-sided quantile at level 0.001 / K (Bonferroni) of
Student's t with 98 degrees of freedom, because each mcse comes from 50 batches. Seeds are fixed: the outcome
does not vary.
"""

from functools import cache

import numpy as np
import pandas as pd
import pytest
from scipy.stats import t as student

from bayesimp import priors as pr
from bayesimp.joint.normal import JointNormal
from bayesimp.table.incomplete import IncompleteData
from tests.joint.quantities import quantities
from tests.joint.test_against_r import mcse

LEVEL, BATCHES = 0.001, 50
PROBS = (0.1, 0.25, 0.5, 0.75, 0.9)
INTERCEPTS, SLOPES = "y1 + y2 ~ x + (1 | g)", "y1 + y2 ~ x + (1 + x | g)"
GAMMA = pr.Diagonal(pr.InverseWishart(1.0, 2.0))
CASES = {
    "default": (INTERCEPTS, pr.default()),
    "diagonal half-t": (INTERCEPTS, pr.Priors(Psi=pr.Diagonal(pr.HalfT()))),
    "inverse-gamma, normal beta": (INTERCEPTS, pr.Priors(Psi=GAMMA, beta=pr.Normal(0.3, [[1.0], [0.2]]))),
    "slopes": (SLOPES, pr.default()),
    "nu = 3": (INTERCEPTS, pr.Priors(pr.HuangWand(nu=3.0), pr.HuangWand(nu=3.0))),
}
RIGHT = [name for name in CASES if name != "nu = 3"]


def table(clusters=6, rows=12):
    """Cluster effects of a tenth of the residual sd; the second response missing throughout one cluster."""
    rng = np.random.default_rng(11)
    g = np.repeat(np.arange(clusters), rows)
    x = rng.normal(size=len(g))
    effects = 0.1 * rng.normal(size=(clusters, 2))
    E = rng.multivariate_normal(np.zeros(2), [[1.0, 0.5], [0.5, 1.0]], len(g))
    Y = np.outer(x, [0.5, -0.2]) + effects[g] + E
    Y[rng.random(Y.shape) < 0.15] = np.nan
    Y[g == 0, 1] = np.nan
    return pd.DataFrame({"g": g, "x": x, "y1": Y[:, 0], "y2": Y[:, 1]})


@cache
def draws(name, sampler):
    """Quantity -> (chains, draws)."""
    formula, priors = CASES[name]
    model = JointNormal(IncompleteData(table(), cluster="g"), formula, priors)
    kept = 20_000 if sampler == "gibbs" else 4_000
    imp = model.impute(m=2, seed=7, chains=2, draws=kept, sampler=sampler)
    return quantities(imp.tree)


def summary(x):
    return np.append(x.mean(), np.quantile(x, PROBS))


def largest(gibbs, nuts):
    """The largest |z| and its limit."""
    assert gibbs.keys() == nuts.keys() and len(gibbs) > 20
    z = np.array(
        [
            (summary(gibbs[k]) - summary(nuts[k]))
            / np.hypot(mcse(gibbs[k], summary, BATCHES), mcse(nuts[k], summary, BATCHES))
            for k in gibbs
        ]
    )
    return np.abs(z).max(), student.isf(LEVEL / z.size / 2, 2 * BATCHES - 2)


@pytest.mark.parametrize("name", RIGHT)
def test_same_posterior(name):
    z, limit = largest(draws(name, "gibbs"), draws(name, "nuts"))
    assert z < limit


def test_another_prior_is_told_apart():
    z, limit = largest(draws("nu = 3", "gibbs"), draws("default", "nuts"))
    assert z > limit
