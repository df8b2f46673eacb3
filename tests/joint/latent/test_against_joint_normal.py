"""Without levels `JointLatent` is `JointNormal`: the same posterior of parameters and of imputed means and sds.

Means and quantiles in Monte Carlo standard errors, as in tests/joint/test_gibbs_against_nuts.py: with K comparisons the
largest |z| stays below Student's t (98 degrees of freedom) at level 0.001 / K. The case "restricted steps" has a prior of
Sigma for which `JointNormal` uses NUTS and `JointLatent` the element-wise steps.
"""

from functools import cache

import numpy as np
import pytest

from bayesimp import priors as pr
from bayesimp.joint.latent.model import JointLatent
from bayesimp.joint.normal import JointNormal
from bayesimp.table.incomplete import IncompleteData
from tests.joint.quantities import quantities
from tests.joint.test_gibbs_against_nuts import CASES, largest, table

RESTRICTED = pr.Priors(Sigma=pr.LKJ(2.0, pr.HalfT()), Psi=pr.HuangWand())
KINDS = {name: CASES[name] for name in ("default", "inverse-gamma, normal beta", "slopes")}
KINDS |= {"restricted steps": (CASES["default"][0], RESTRICTED)}


@cache
def draws(name: str, engine: type, changed: str = "") -> dict[str, np.ndarray]:
    """Quantity -> (chains, draws)."""
    formula, priors = KINDS[name]
    if changed:
        priors = pr.Priors(pr.HuangWand(nu=4.0), pr.HuangWand(nu=4.0))
    model = engine(IncompleteData(table(), cluster="g"), formula, priors)
    imp = model.impute(
        m=2,
        seed=7,
        chains=2,
        draws=4_000 if "restricted" in name and engine is JointNormal else 20_000,
        thin=1,
    )
    return quantities(imp.tree)


@pytest.mark.parametrize("name", KINDS)
def test_the_same_posterior_as_the_joint_normal_model(name):
    z, limit = largest(draws(name, JointNormal), draws(name, JointLatent))
    assert z < limit


def test_another_prior_is_told_apart():
    z, limit = largest(draws("default", JointNormal), draws("default", JointLatent, "nu = 4"))
    assert z > limit
