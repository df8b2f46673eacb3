"""From conditionals back to the joint model: round trip, and what is refused and why."""

from dataclasses import replace

import numpy as np
import pytest

from bayesimp.compatibility.implied import contextual_bound, implied_conditional
from bayesimp.compatibility.inverse import joint_from_conditionals
from bayesimp.errors import SpecificationError
from tests.compatibility.test_implied import covariance
from tests.unfolding import unfolded


def conditionals(Sigma, Psi, ZZ):
    return [implied_conditional(Sigma, Psi, k, ZZ=ZZ) for k in range(len(Sigma))]


@pytest.mark.parametrize("r, q", [(2, 1), (3, 1), (5, 1), (2, 2), (4, 3)])
def test_round_trip(r, q):
    rng = np.random.default_rng([r, q])
    Sigma, Psi, ZZ = covariance(rng, r), covariance(rng, r * q), 3 * covariance(rng, q)
    joint = joint_from_conditionals(conditionals(Sigma, Psi, ZZ))
    assert joint.exists and "one joint model" in unfolded(str(joint))
    np.testing.assert_allclose(joint.Sigma, Sigma, rtol=1e-7)
    np.testing.assert_allclose(joint.Psi, Psi, rtol=1e-6, atol=1e-8)


def pair(n=10):
    rng = np.random.default_rng(1)
    return conditionals(covariance(rng, 2), covariance(rng, 2), np.array([[float(n)]]))


def test_disagreement_within_clusters():
    first, second = pair()
    joint = joint_from_conditionals([replace(first, within=first.within + 0.1), second])
    assert joint.Sigma is None and joint.Psi is None and not joint.exists
    # the same change moves the slope between clusters, which is within + n contextual
    assert set(joint.violations) == {"rows disagree", "clusters disagree"}
    rho = [-(first.within + 0.1) * np.sqrt(second.residual_variance / first.residual_variance)]
    rho.append(-second.within * np.sqrt(first.residual_variance / second.residual_variance))
    assert joint.violations["rows disagree"] == pytest.approx(abs(rho[0] - rho[1]).item())


def test_disagreement_between_clusters_only():
    first, second = pair()
    joint = joint_from_conditionals([replace(first, contextual=first.contextual + 0.01), second])
    assert set(joint.violations) == {"clusters disagree"} and "between clusters" in unfolded(str(joint))


def test_larger_residual_variance_alone_is_refused():
    first, second = pair()
    joint = joint_from_conditionals([replace(first, residual_variance=2 * first.residual_variance), second])
    assert "rows disagree" in joint.violations


def test_psi_outside_of_its_bound():
    """Conditionals that agree in pairs, but one slope on the sum lies beyond the bound of eq. 13."""
    Sigma, n = np.array([[2.0, 0.6], [0.6, 1.0]]), 10
    for excess, exists in ((0.999, True), (1.001, False)):
        Psi = np.array([[1.0, excess], [excess, 1.0]])
        given = conditionals(Sigma, Psi, np.array([[float(n)]]))
        joint = joint_from_conditionals(given)
        assert joint.exists is exists
        c = given[1]
        bound = contextual_bound(c.effect_covariance[0, 0], Sigma[0, 0], Psi[0, 0], n)
        assert bool(abs(c.contextual.item()) < bound) is exists
        if not exists:
            assert set(joint.violations) == {"Psi"} and -0.01 < joint.violations["Psi"] < 0


def test_covariances_that_are_not_positive_definite():
    """Three slopes that agree in pairs but not jointly."""
    Q = np.array([[1.0, 0.9, -0.9], [0.9, 1.0, 0.9], [-0.9, 0.9, 1.0]])
    template = conditionals(np.eye(3), np.eye(3), np.array([[4.0]]))
    given = [
        replace(c, within=-np.delete(Q[k], k), contextual=0 * c.contextual) for k, c in enumerate(template)
    ]
    joint = joint_from_conditionals(given)
    assert set(joint.violations) == {"Sigma", "Lambda"}
    assert joint.violations["Sigma"] == pytest.approx(np.linalg.eigvalsh(Q)[0])


def test_bad_input():
    first, second = pair()
    with pytest.raises(SpecificationError, match="One conditional for each"):
        joint_from_conditionals([first, first])
    with pytest.raises(SpecificationError, match="different Z'Z"):
        joint_from_conditionals([first, pair(11)[1]])
    with pytest.raises(SpecificationError, match="not positive"):
        joint_from_conditionals([first, replace(second, effect_covariance=-second.effect_covariance)])
    with pytest.raises(SpecificationError, match="one draw"):
        joint_from_conditionals([first, implied_conditional(np.eye(2), np.eye(2), 1, n=[10, 10])])
