"""The density that a prior gives PyTensor for a matrix with fixed entries (`CovariancePrior.entries_logp`).

Where nothing is fixed it is p(s, R) of `log_density` times prod_k s_k, up to a constant; where only variances are fixed,
the same restricted to them. Graphs are evaluated by Python, so that nothing is compiled.
"""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from bayesimp import priors as pr
from bayesimp.errors import SpecificationError
from bayesimp.priors.base import CovariancePrior
from bayesimp.priors.components import ComponentPrior

SDS = np.array([0.7, 1.0, 1.6])
V = np.array([[1.0, 0.3, 0.0], [0.3, 0.8, 0.1], [0.0, 0.1, 2.0]])
PRIORS = {
    "inverse-Wishart": pr.InverseWishart(5.0, V),
    "Huang-Wand": pr.HuangWand(times_sd=1.3, nu=3.0),
    "LKJ, half-t": pr.LKJ(2.5, pr.HalfT(nu=2.0)),
    "LKJ, half-normal": pr.LKJ(1.0, pr.HalfNormal(times_sd=2.0)),
    "LKJ, exponential": pr.LKJ(0.6, pr.Exponential()),
    "diagonal, half-t": pr.Diagonal(pr.HalfT()),
    "diagonal, half-normal": pr.Diagonal(pr.HalfNormal()),
    "diagonal, exponential": pr.Diagonal(pr.Exponential(times_sd=0.5)),
    "diagonal, inverse gamma": pr.Diagonal(pr.InverseWishart(3.0, [1.0, 2.0, 0.4])),
}


def matrices(correlated: bool) -> tuple[np.ndarray, np.ndarray]:
    """s (6, 3) and R (6, 3, 3)."""
    rng = np.random.default_rng(1)
    s = np.exp(0.5 * rng.normal(size=(6, 3)))
    A = rng.normal(size=(6, 3, 5))
    S = A @ A.transpose(0, 2, 1) if correlated else np.tile(np.eye(3), (6, 1, 1))
    root = np.sqrt(np.diagonal(S, axis1=1, axis2=2))
    return s, S / root[:, :, None] / root[:, None, :]


def entries_logp(prior, s, R, free) -> np.ndarray:
    import pytensor.tensor as pt

    values = []
    for one, correlations in zip(s, R, strict=True):
        S = correlations * np.outer(one, one)
        node = prior.entries_logp(*(pt.as_tensor(x) for x in (S, correlations, np.log(one))), np.array(free))
        values.append(node.eval(mode="FAST_COMPILE"))
    return np.array(values)


@pytest.mark.parametrize("free", [(0, 1, 2), (0, 2)], ids=["all", "one variance fixed"])
@pytest.mark.parametrize("name", PRIORS)
def test_it_is_the_density_on_the_free_entries(name, free):
    prior = PRIORS[name].resolve(SDS, "Sigma")
    s, R = matrices(prior.has_correlations)
    s[:, [k for k in range(3) if k not in free]] = 1.0
    expected = prior.log_density(R * s[:, :, None] * s[:, None, :], "Sigma")
    found = entries_logp(prior, s, R, free) - np.log(s).sum(axis=1)
    assert_allclose(found - found[0], expected - expected[0], rtol=0, atol=1e-9)
    wrong = entries_logp(prior, s, R, free)  # without the Jacobian
    assert np.abs((wrong - wrong[0]) - (expected - expected[0])).max() > 0.01


@pytest.mark.parametrize("name", PRIORS)
def test_numbers_for_the_steps(name):
    prior = PRIORS[name].resolve(SDS, "Sigma")
    elements = prior.elements(3)
    assert elements.scale.shape == (3, 3) and elements.sd.shape == (3,)
    assert elements.scale.flags.c_contiguous and prior.has_correlations == (not name.startswith("diagonal"))


def test_what_a_prior_lacks_is_said():
    class Bare(CovariancePrior, registered=False):
        resolve = rescale = describe = draw = distribution = None

    class BareVariance(ComponentPrior, registered=False):
        resolve_components = rescale_components = describe_components = draw_components = None
        component_distribution = component_density = None

    assert Bare().elements(2) is None and pr.Diagonal(BareVariance()).elements(2) is None
    with pytest.raises(SpecificationError, match="Bare has no `entries_logp`"):
        Bare().entries_logp(None, None, None, None)
    with pytest.raises(SpecificationError, match="BareVariance has no `component_entries_logp`"):
        pr.Diagonal(BareVariance()).entries_logp(None, None, None, None)
