"""Residual correlations of latent variables where their posterior has two modes, and cutpoints given a number.

Latent variables have residual variance 1. If the residuals are smaller than that, their correlations want to be far from
zero, on either side: with n residuals whose cross product S is small,

    p(R)  ~  |R|^(eta - 1 - n/2) etr(-S R^-1 / 2)        (LKJ prior; free entries: correlations)

has modes near -1 and near 1, or in several corners of three correlations, and is summed on a grid. A step from the mode
to which a search from the present state leads (`from_the_state`) and steps with stale residuals must fail.

Cutpoints: y, a number, and o, an ordinal variable, have a known covariance, and no effects to speak of; given y,

    P(o > l | y)  =  Phi( (beta_o + rho (y - beta_y) / s - c_l) / sqrt(1 - rho^2) )

so that the posterior of (beta_y, beta_o, c_1) is a sum on a grid. z-scores by batch means; LIMIT is that of a two-sided
test at 1e-5, and there are nine of them.
"""

import numpy as np
import pandas as pd
from scipy.special import ndtr, softmax
from scipy.stats import norm

import bayesimp as bi
from bayesimp import priors as pr
from bayesimp.joint.latent.prior import residual_prior
from bayesimp.kernels.latent.residual import residual_steps
from tests.calibration.montecarlo import LEVEL, REJECTED
from tests.joint.latent.test_brute_force import compared
from tests.kernels.test_invariance import LIMIT, from_the_state, z_score

ETA, N = 1.5, 8
Z = np.linspace(-4.5, 4.5, 181)  # atanh of a correlation


def steps(S, count, seed=3):
    """(count, r, r) Sigma after each step, all variances fixed at 1."""
    r = len(S)
    entries = np.where(np.eye(r) == 1, 1.0, np.nan)
    _, prior = residual_prior(pr.LKJ(ETA, pr.HalfT(scale=np.ones(r))), entries)
    out = np.empty((count, r, r))
    assert residual_steps(np.random.Generator(np.random.PCG64(seed)), prior, S, N, np.eye(r), out)
    return out


def of_two(S):
    """log p(atanh of the correlation) on Z."""
    r = np.tanh(Z)
    log_p = (ETA - 1 - N / 2) * np.log1p(-(r**2)) - 0.5 * (S[0, 0] + S[1, 1] - 2 * r * S[0, 1]) / (1 - r**2)
    return log_p + np.log1p(-(r**2))


PAIR = np.array([[0.9, 0.12], [0.12, 0.8]])


def test_a_correlation_of_two_modes():
    log_p = of_two(PAIR)
    p, right = softmax(log_p), Z > 0
    far = p[right].sum() + p[~right & (Z > -1e-9)].sum() / 2
    assert 0.1 < far < 0.9
    ours, square = steps(PAIR, 20_000)[:, 0, 1], p @ np.tanh(Z) ** 2
    assert abs(z_score(ours > 0, far)) < LIMIT and abs(z_score(ours**2, square)) < LIMIT
    assert (np.diff(ours > 0) != 0).sum() > 100
    assert abs(z_score(from_the_state(Z, log_p, 1.0, 40_000) > 0, far)) > 2 * LIMIT
    stale = steps(2 * PAIR, 20_000)[:, 0, 1]  # residuals before their variances were halved
    assert abs(z_score(stale**2, square)) > 2 * LIMIT


TRIPLE = np.array([[0.8, 0.16, -0.12], [0.16, 0.7, 0.04], [-0.12, 0.04, 0.9]])


def of_three(S, points=91):
    """Probabilities (points,) * 3 of the correlations 01, 02, 12, evenly spaced."""
    t = np.linspace(-0.995, 0.995, points)
    a, b, c = np.meshgrid(t, t, t, indexing="ij")
    det = 1 + 2 * a * b * c - a**2 - b**2 - c**2
    inside = det > 1e-9
    d = np.where(inside, det, 1.0)
    trace = (
        S[0, 0] * (1 - c**2) + S[1, 1] * (1 - b**2) + S[2, 2] * (1 - a**2)
        + 2 * (S[0, 1] * (b * c - a) + S[0, 2] * (a * c - b) + S[1, 2] * (a * b - c))
    ) / d  # fmt: skip
    log_p = np.where(inside, (ETA - 1 - N / 2) * np.log(d) - trace / 2, -np.inf)
    return t, softmax(log_p)


def test_three_correlations_of_several_modes():
    t, p = of_three(TRIPLE)
    drawn = steps(TRIPLE, 30_000)
    r = np.stack([drawn[:, 0, 1], drawn[:, 0, 2], drawn[:, 1, 2]], axis=1)
    gaps = []
    for k, others in enumerate([(1, 2), (0, 2), (0, 1)]):
        of_one = p.sum(axis=others)
        positive = of_one[t > 1e-9].sum() + of_one[np.abs(t) < 1e-9].sum() / 2
        assert 0.1 < positive < 0.9 and of_one[np.abs(t) < 0.1].max() < of_one.max() / 1.5
        gaps += [z_score(r[:, k] > 0, positive), z_score(r[:, k] ** 2, of_one @ t**2)]
    gaps.append(z_score(r.prod(axis=1), np.einsum("abc,a,b,c->", p, t, t, t)))
    assert np.abs(gaps).max() < LIMIT
    assert abs(z_score(r[:, 0] > 0, 0.5)) > 2 * LIMIT  # half, if the residuals had no products


# -- cutpoints given a number ------------------------------------------------------------------------------------

RHO, SD, PRIOR_SD = 0.8, 2.0, 3.0


def beside_a_number():
    """A model of y (a number) and o (three levels, one of them rare), and a table of 20 rows in two clusters."""
    rng = np.random.default_rng(6)
    e = rng.normal(size=(20, 2)) @ np.linalg.cholesky([[1, RHO], [RHO, 1]]).T
    y, o = 4 + SD * e[:, 0], np.digitize(0.6 + e[:, 1], [0.0, 1.6])
    y[[1, 5]], seen = np.nan, np.ones(20, dtype=bool)
    seen[[2, 9, 14]] = False
    frame = pd.DataFrame({
        "g": np.repeat([0, 1], 10), "y": y,
        "o": pd.Categorical.from_codes(np.where(seen, o, -1), list("abc"), ordered=True),
    })  # fmt: skip
    Sigma = pr.Fixed(np.array([[SD**2, SD * RHO], [SD * RHO, 1.0]]))
    priors = pr.Priors(Sigma=Sigma, Psi=pr.Fixed(1e-8 * np.eye(2)), beta=pr.Normal(0.0, PRIOR_SD))
    model = bi.JointLatent(bi.IncompleteData(frame, "g", {"o": "ordinal"}), "y + o ~ 1 + (1 | g)", priors)
    return model, y, np.where(seen, o, -1)


def expected(y, o, rho=RHO):
    """(mean, mean square) of beta_y, beta_o and c_1; rho: of o with y, to spoil it."""
    by, bo, h = np.meshgrid(
        np.linspace(1.5, 6.5, 61), np.linspace(-2, 4, 61), np.linspace(-5, 2.5, 61), indexing="ij"
    )
    c1 = np.exp(h)
    log_p = norm.logpdf(by, 0, PRIOR_SD) + norm.logpdf(bo, 0, PRIOR_SD) + h - c1  # c_1 ~ exponential(1)
    for number, level in zip(y, o, strict=True):
        if not np.isnan(number):
            log_p += norm.logpdf(number, by, SD)
        if level < 0:
            continue
        mean, sd = (bo, 1.0) if np.isnan(number) else (bo + rho * (number - by) / SD, np.sqrt(1 - rho**2))
        below = [0.0, ndtr(-mean / sd), ndtr((c1 - mean) / sd), 1.0]
        log_p += np.log(below[level + 1] - below[level] + 1e-300)
    w = softmax(log_p)
    return {
        name: np.array([(w * x).sum(), (w * x * x).sum()]) for name, x in (("y", by), ("o", bo), ("c", c1))
    }


def drawn(post):
    beta = post.beta.values[..., 0, :]
    return {"y": beta[..., 0], "o": beta[..., 1], "c": post.cutpoints_o.values[..., 1]}


def test_cutpoints_of_rows_whose_number_is_known():
    model, y, o = beside_a_number()
    assert compared(model, expected(y, o), drawn) > LEVEL
    assert compared(model, expected(y, o, 0.0), drawn) < REJECTED
