"""Wrong variants of the Gibbs sampler: the calibration that the right one passes must reject each of them."""

from contextlib import contextmanager
from dataclasses import replace

import numpy as np

from bayesimp import priors as pr
from bayesimp.joint import gibbs as joint_gibbs
from bayesimp.kernels.normal.effects import moments
from tests.calibration import sbc
from tests.calibration.sbc import Design, Draws


def parameters_not_drawn(design: Design, Y, seed: int) -> Draws:
    """Imputations from the posterior means: "improper" imputation."""
    draws = sbc.gibbs()(design, Y, seed)
    working, _ = sbc.working_and_priors(design, Y)
    theta = [np.broadcast_to(a.mean(0), a.shape) for a in (draws.beta, draws.Sigma, draws.Psi)]
    return Draws(*theta, sbc.impute_all(design, working, *theta, seed))


def clusters_ignored(design: Design, Y, seed: int) -> Draws:
    """Psi is nearly zero."""
    priors = replace(design.priors, Psi=pr.Fixed(1e-8 * np.eye(design.sizes[1] * design.sizes[2])))
    return sbc.gibbs()(replace(design, priors=priors), Y, seed)


def noise_left_out(design: Design, Y, seed: int) -> Draws:
    """Imputed values are their expectations given beta and the observed values of the row."""
    draws = sbc.gibbs()(design, Y, seed)
    working, _ = sbc.working_and_priors(design, Y)
    tiny = 1e-10 * draws.Sigma, 1e-10 * draws.Psi
    return replace(draws, values=sbc.impute_all(design, working, draws.beta, *tiny, seed), mean=None, sd=None)


def psi_degrees_of_freedom_off(design: Design, Y, seed: int) -> Draws:
    """Psi | B is drawn with r q degrees of freedom too many."""
    prior = design.priors.Psi
    nu = prior.nu + design.sizes[1] * design.sizes[2]
    wrong = replace(design, priors=replace(design.priors, Psi=replace(prior, nu=nu)))
    return sbc.gibbs()(wrong, Y, seed)


def wishart_left_out(design: Design, Y, seed: int) -> Draws:
    """The cross product for Sigma is completed without the part orthogonal to the observed residuals.

    Patterns are told to have no more rows than observed responses, so that no degrees of freedom remain for
    W; the rows so lost are given back through the degrees of freedom of the prior.
    """
    prior = design.priors.Sigma
    right = moments(sbc.working_and_priors(design, Y)[0].statistics)
    rows = fewer_rows(right).pattern_rows
    nu = prior.nu + (right.pattern_rows - rows).sum()
    wrong = replace(design, priors=replace(design.priors, Sigma=replace(prior, nu=nu)))
    with moments_through(fewer_rows):
        return sbc.gibbs()(wrong, Y, seed)


def fewer_rows(m):
    """Incomplete patterns with at most as many rows as observed responses."""
    limit = np.where(m.patterns.all(1), m.pattern_rows, np.minimum(m.pattern_rows, m.patterns.sum(1)))
    return m._replace(pattern_rows=limit)


@contextmanager
def moments_through(change):
    joint_gibbs.moments = lambda statistics: change(moments(statistics))
    try:
        yield
    finally:
        joint_gibbs.moments = moments


# variant, and the quantities that should notice it (a plugged-in parameter is trivially not calibrated)
VARIANTS = {
    "parameters not drawn": (parameters_not_drawn, sbc.imputed_quantities),
    "clusters ignored": (clusters_ignored, sbc.imputed_quantities),
    "imputation noise left out": (noise_left_out, sbc.imputed_quantities),
    "degrees of freedom of Psi off by r q": (psi_degrees_of_freedom_off, sbc.quantities),
    "Sigma completed without the Wishart part": (wishart_left_out, sbc.quantities),
}
