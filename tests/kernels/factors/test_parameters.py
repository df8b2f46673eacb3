"""Parameters and effects of one factor against their conditional laws.

Level LEVEL in each test; wrong variants fall below REJECTED.
"""

import numpy as np
import pytest
from scipy import stats
from scipy.special import expit, softmax

from bayesimp.kernels.covariance.update import DIAGONAL_HALF_T, FIXED, INVERSE_WISHART, CovarianceUpdate
from bayesimp.kernels.factors.effects import conditional_law, draw_covariance
from bayesimp.kernels.factors.given import glmm_effects
from bayesimp.kernels.factors.glmm import glmm_factor_step
from bayesimp.kernels.factors.normal import normal_step
from bayesimp.kernels.factors.together import coupled_responses
from bayesimp.kernels.families import codes
from bayesimp.kernels.glmm.rows import GlmmRows
from tests.calibration import montecarlo as mc
from tests.calibration.montecarlo import LEVEL, REJECTED

FIRST = np.array([0, 4, 4, 9, 12])  # the second cluster has no rows
CODES = np.repeat(np.arange(4), np.diff(FIRST))
n, m, p, q, D, AT = 12, 4, 2, 2, 5, 2  # the factor's effects are columns 2 and 3 of 5
OWN = slice(AT, AT + q)
rng = np.random.default_rng(3)
X = np.column_stack([np.ones(n), rng.normal(size=n)])
Z = np.column_stack([np.ones(n), rng.normal(size=n)])
A = rng.normal(size=(D, D))
PSI = A @ A.T / 3 + 0.1 * np.eye(D)  # correlations up to .9
OTHERS = rng.normal(size=(m, D))
FROZEN = CovarianceUpdate(FIXED, 0.0, np.zeros((1, 1)), np.zeros(1))


def conditional(Psi, B):
    """Mean (m, q) and covariance of the factor's effects given the others, by partitioned covariances."""
    other = [0, 1, 4]
    gain = Psi[OWN, other] @ np.linalg.inv(Psi[np.ix_(other, other)])
    return B[:, other] @ gain.T, Psi[OWN, OWN] - gain @ Psi[other, OWN]


def test_conditional_law_is_the_partitioned_normal():
    mean, L, fine = conditional_law(PSI, OTHERS, np.int64(AT), np.int64(AT + q))
    expected, V = conditional(PSI, OTHERS)
    assert fine
    np.testing.assert_allclose(mean, expected, rtol=1e-8)
    np.testing.assert_allclose(np.tril(L) @ np.tril(L).T, np.linalg.inv(V), rtol=1e-8)


def longhand_normal(y, sd, Q0, t0, Psi=PSI):
    """Mean and covariance of (beta, b_1 .. b_m): the dense normal."""
    mean_b, V = conditional(Psi, OTHERS)
    W = np.hstack([X, *[Z * (CODES == i)[:, None] for i in range(m)]])
    prior = np.zeros((p + m * q, p + m * q))
    prior[:p, :p] = Q0
    linear = np.concatenate([t0, *[np.linalg.solve(V, mean_b[i]) for i in range(m)]])
    for i in range(m):
        at = slice(p + i * q, p + (i + 1) * q)
        prior[at, at] = np.linalg.inv(V)
    H = prior + W.T @ W / sd**2
    return np.linalg.solve(H, linear + W.T @ y / sd**2), np.linalg.inv(H)


def normal_draws(count, y, sd, Q0, t0, Psi=PSI):
    g, out = np.random.default_rng(1), np.empty((count, p + m * q))
    beta, B, s = np.zeros(p), OTHERS.copy(), np.array([sd])
    for d in range(count):
        step = (g, X, Z, y, FIRST, Q0, t0, FROZEN, FROZEN, np.int64(AT), beta, s, Psi.copy(), B)
        assert normal_step(*step) == 0
        out[d] = np.concatenate([beta, B[:, OWN].ravel()])
    np.testing.assert_array_equal(np.delete(B, [2, 3], axis=1), np.delete(OTHERS, [2, 3], axis=1))
    return out


Q0, T0 = np.array([[1.0, 0.3], [0.3, 0.5]]), np.array([1.0, -2.0])
Y = 3.0 + rng.normal(size=n)


@pytest.mark.parametrize("flat", [False, True])
def test_normal_factor_given_variances(flat):
    """Draws are independent: beta is drawn with effects integrated out, and these given beta."""
    prior = (np.zeros((p, p)), np.zeros(p)) if flat else (Q0, T0)
    draws = normal_draws(4000, Y, 0.7, *prior)
    assert mc.normal(draws, *longhand_normal(Y, 0.7, *prior)) > LEVEL


def test_effects_that_ignore_those_of_other_factors_are_noticed():
    apart = np.zeros_like(PSI)
    apart[OWN, OWN] = PSI[OWN, OWN]
    for k in (0, 1, 4):
        apart[k, k] = PSI[k, k]
    draws = normal_draws(4000, Y, 0.7, Q0, T0, apart)
    assert mc.normal(draws, *longhand_normal(Y, 0.7, Q0, T0)) < REJECTED


def test_residual_variance_given_the_rest():
    """sigma^2 | y, with beta and b nearly known: an inverse gamma."""
    g = np.random.default_rng(2)
    prior = CovarianceUpdate(INVERSE_WISHART, 5.0, np.array([[0.4]]), np.zeros(1))
    tight, B, beta, s = 1e12 * np.eye(p), np.zeros((m, D)), np.zeros(p), np.ones(1)
    draws = np.empty(3000)
    for d in range(3000):
        normal_step(
            g,
            X,
            Z,
            Y,
            FIRST,
            tight,
            tight @ [1.0, 0.5],
            prior,
            FROZEN,
            np.int64(AT),
            beta,
            s,
            1e-12 * np.eye(D),
            B,
        )
        draws[d] = s[0] ** 2
    rest = ((Y - X @ [1.0, 0.5]) ** 2).sum()
    law = stats.invgamma((5.0 + n) / 2, scale=(0.4 + rest) / 2)
    assert mc.distributions([(draws, law)]) > LEVEL
    assert mc.distributions([(draws, stats.invgamma((5.0 + n - 2) / 2, scale=(0.4 + rest) / 2))]) < REJECTED


def test_Psi_given_the_effects():
    g, S = np.random.default_rng(4), np.diag([1.0, 2.0, 0.5])
    prior = CovarianceUpdate(INVERSE_WISHART, 6.0, S, np.zeros(3))
    draws = np.empty((3000, 3, 3))
    for d in range(3000):
        Psi = PSI.copy()
        assert draw_covariance(g, prior, np.int64(1), np.int64(4), OTHERS, Psi)
        draws[d] = Psi[1:4, 1:4]
    b = OTHERS[:, 1:4]
    law = stats.invwishart(6.0 + m, S + b.T @ b)
    i, j = np.tril_indices(3)
    expected = law.rvs(3000, random_state=1)

    def scale(P):
        """Logarithms of sds, and correlations on Fisher's scale."""
        sd = np.sqrt(np.einsum("dii->di", P))
        pairs = [P[:, a, c] / (sd[:, a] * sd[:, c]) for a, c in zip(i, j, strict=True) if a != c]
        return np.column_stack([np.log(sd), *map(np.arctanh, pairs)])

    assert mc.two_samples(mc.with_products(scale(draws)), mc.with_products(scale(expected))) > LEVEL
    wrong = stats.invwishart(6.0 + m, S + 0.5 * b.T @ b).rvs(3000, random_state=1)
    assert mc.two_samples(mc.with_products(scale(draws)), mc.with_products(scale(wrong))) < REJECTED


# -- a factor that is not normal -----------------------------------------------------------------------------


def logistic_rows():
    y = (rng.random(n) < 0.5).astype(float)
    return GlmmRows(
        codes.LOGIT, y, np.ones(n), np.ones(n), 0.3 * np.ones(n), X[:, :1].copy(), Z[:, :1].copy(), FIRST
    )


def logistic_draws(rows, Psi, count=6000, thin=3):
    g, out = np.random.default_rng(5), np.empty((count, 1 + m))
    beta, B = np.zeros((1, 1)), OTHERS.copy()
    tallies = np.zeros((5, 2), dtype=np.int64)
    for d in range(count * thin):
        failed = glmm_factor_step(
            g, rows, np.zeros(1), np.zeros(0), np.int64(0), np.eye(1), np.array([0.5]), FROZEN, 1.0, np.int64(AT), beta,
            np.zeros(0), Psi.copy(), B, tallies,
        )  # fmt: skip
        assert failed == 0
        if (d + 1) % thin == 0:
            out[d // thin] = np.concatenate([beta[0], B[:, AT]])
    return out


def logistic_moments(rows, Psi):
    """Means of (beta, b) and of their squares by quadrature: given beta, the effects of clusters are independent."""
    other = [0, 1, 3, 4]
    gain = Psi[AT, other] @ np.linalg.inv(Psi[np.ix_(other, other)])
    mean, sd = OTHERS[:, other] @ gain, np.sqrt(Psi[AT, AT] - gain @ Psi[other, AT])
    t = np.linspace(-7, 7, 401)
    grid = np.linspace(-5, 6, 301)
    weight, first, second = stats.norm.logpdf(grid, 0.5, 1.0), [], []
    for i in range(m):
        y = rows.y[FIRST[i] : FIRST[i + 1]]
        b = mean[i] + sd * t
        eta = grid[:, None] + 0.3 + b
        density = np.exp(stats.norm.logpdf(t) + (y[:, None, None] * eta - np.logaddexp(0, eta)).sum(axis=0))
        total = density.sum(axis=1)
        weight = weight + np.log(total)
        first.append((density * b).sum(axis=1) / total)
        second.append((density * b**2).sum(axis=1) / total)
    w = softmax(weight)
    return np.concatenate([[w @ grid], w @ np.transpose(first), [w @ grid**2], w @ np.transpose(second)])


def p_of_logistic(draws, expected):
    both = np.column_stack([draws, draws**2])
    average, error = mc.batch_means(both[None], 40)
    return mc.bonferroni(2 * stats.t(39).sf(np.abs(average - expected) / error))


def test_logistic_factor_given_effects_of_others():
    rows = logistic_rows()
    draws = logistic_draws(rows, PSI)
    assert p_of_logistic(draws, logistic_moments(rows, PSI)) > LEVEL
    assert p_of_logistic(draws, logistic_moments(rows, np.diag(np.diag(PSI)))) < REJECTED  # others ignored


@pytest.mark.parametrize("family, aux", [(codes.LOGIT, ()), (codes.STUDENT, (1.0, 6.0))])
def test_effects_at_given_parameters_are_those_of_a_step(family, aux):
    """A step draws the effects first, by the loop of `glmm_effects`; no column of X is one of Z: nothing is centred."""
    y = Y if family == codes.STUDENT else logistic_rows().y
    rows = GlmmRows(family, y, np.ones(n), np.ones(n), np.zeros(n), X[:, 1:].copy(), Z[:, :1].copy(), FIRST)

    def effects(others):
        B, beta, tallies = others.copy(), np.array([[0.4]]), np.zeros((5, 2), dtype=np.int64)
        state = np.zeros(1), np.int64(AT), beta, np.array(aux), PSI.copy(), B, tallies
        assert glmm_effects(np.random.default_rng(8), rows, *state) == 0
        return B

    B, beta, tallies = OTHERS.copy(), np.array([[0.4]]), np.zeros((5, 2), dtype=np.int64)
    failed = glmm_factor_step(
        np.random.default_rng(8), rows, np.zeros(1), np.zeros(0), np.int64(0), np.eye(1), np.array([0.5]), FROZEN, 1.0,
        np.int64(AT), beta, np.array(aux), PSI.copy(), B, tallies,
    )  # fmt: skip
    assert failed == 0 and beta[0, 0] != 0.4
    np.testing.assert_array_equal(B, effects(OTHERS))
    np.testing.assert_array_equal(np.delete(B, AT, axis=1), np.delete(OTHERS, AT, axis=1))
    moved = np.where(np.arange(D) == AT, OTHERS, OTHERS + 1.0)
    assert (
        effects(moved)[:, AT] != B[:, AT]
    ).all()  # those of other factors count, in clusters without rows too


def test_the_shape_is_drawn_at_the_rescaled_effects():
    """Parameters from the prior and y given them, then one step: y given the parameters after it has the same law.

    With one row, the residual in units of its scale is standard normal. At effects that were not read again after their
    scale was drawn, the shape would fit another residual; so it does at the effects from which the step began.
    """
    g, one = np.random.default_rng(6), np.ones((1, 1))
    psi_prior = CovarianceUpdate(DIAGONAL_HALF_T, 4.0, np.eye(1), np.array([8.0]))
    first, tallies, none = np.array([0, 1]), np.zeros((5, 2), dtype=np.int64), np.int64(0)
    after, before = np.empty(1500), np.empty(1500)
    for d in range(1500):
        sd, psi = np.abs(g.standard_t(3)), 8.0 * np.abs(g.standard_t(4))
        beta, B, Psi = g.normal(size=(1, 1)), psi * g.normal(size=(1, 1)), np.array([[psi**2]])
        start, aux = B[0, 0], np.array([sd**-2])
        y = np.exp(beta[0] + start + sd * g.normal())
        rows = GlmmRows(codes.LOGNORMAL, y, np.ones(1), np.ones(1), np.zeros(1), one, one, first)
        failed = glmm_factor_step(
            g, rows, np.zeros(1), np.zeros(0), none, np.eye(1), np.zeros(1), psi_prior, 1.0, none, beta, aux, Psi, B,
            tallies,
        )  # fmt: skip
        assert failed == 0
        residual = np.log(y[0]) - beta[0, 0] - np.array([B[0, 0], start])
        after[d], before[d] = residual * np.sqrt(aux[0])
    assert stats.kstest(after, "norm").pvalue > LEVEL
    assert stats.kstest(before, "norm").pvalue < REJECTED


# -- responses that follow effects -----------------------------------------------------------------------------

CUTS = np.array([[0.0, 0.8, 1.9]])


POWER = 0.4


def inverse_yeo_johnson(w):
    """The number whose transformation with lambda = POWER is w (Yeo & Johnson 2000, eq. 2.1)."""
    if w >= 0:
        return (POWER * w + 1) ** (1 / POWER) - 1
    return 1 - (1 - (2 - POWER) * w) ** (1 / (2 - POWER))


FAMILIES = {
    "normal": (codes.NORMAL, lambda g, e: g.normal(e[0], 1.3)),
    "gamma": (codes.GAMMA, lambda g, e: np.exp(e[0]) * g.gamma(1.7) / 1.7),
    "lognormal": (codes.LOGNORMAL, lambda g, e: np.exp(g.normal(e[0], 1.3**-0.5))),
    "student": (codes.STUDENT, lambda g, e: e[0] + 1.3 * g.standard_t(4.0)),
    "yeo_johnson": (codes.YEO_JOHNSON, lambda g, e: inverse_yeo_johnson(g.normal(e[0], 1.3))),
    "logit": (codes.LOGIT, lambda g, e: g.binomial(4, expit(e[0]))),
    "probit": (codes.PROBIT, lambda g, e: g.binomial(4, stats.norm.cdf(e[0]))),
    "poisson": (codes.POISSON, lambda g, e: g.poisson(np.exp(e[0]))),
    "ordinal": (codes.ORDINAL, lambda g, e: (e[0] + g.logistic() > CUTS[0]).sum()),
    "categorical": (codes.CATEGORICAL, lambda g, e: (np.array([0.0, *e]) + g.gumbel(size=4)).argmax()),
}
NUMBERS = "normal", "gamma", "lognormal", "student", "yeo_johnson"
BEFORE, AFTER = np.array([0.4, -0.5, 1.0]), np.array([1.1, 0.3, -0.6])


def moved(name, y, before, after, seed=9):
    out, count = np.empty(len(y)), len(y)
    r = 3 if name == "categorical" else 1
    cuts = np.array([[POWER]]) if name == "yeo_johnson" else CUTS
    coupled_responses(
        np.random.default_rng(seed), FAMILIES[name][0], y, 4.0 * np.ones(count), np.tile(before[:r], (count, 1)),
        np.tile(after[:r], (count, 1)), 1.7 if name == "gamma" else 1.3, cuts, np.int64(0), np.int64(3), out,
    )  # fmt: skip
    return out


def sample(name, eta, count=6000, seed=1):
    g = np.random.default_rng(seed)
    return np.array([float(FAMILIES[name][1](g, eta)) for _ in range(count)])


def p_same_law(name, a, b):
    if name in NUMBERS:
        return float(stats.ks_2samp(a, b).pvalue)
    top = int(max(a.max(), b.max())) + 1
    counts = np.array([np.bincount(v.astype(int), minlength=top) for v in (a, b)])
    return float(stats.chi2_contingency(counts[:, counts.sum(axis=0) > 10]).pvalue)


@pytest.mark.parametrize("up", [True, False])
@pytest.mark.parametrize("name", FAMILIES)
def test_coupled_responses_have_the_law_of_the_new_effects(name, up):
    old, new = (BEFORE, AFTER) if up else (AFTER, BEFORE)
    y = sample(name, old)
    out = moved(name, y, old, new)
    assert p_same_law(name, out, sample(name, new, seed=2)) > LEVEL
    assert p_same_law(name, y, sample(name, new, seed=2)) < REJECTED  # responses that do not follow


@pytest.mark.parametrize("name", FAMILIES)
def test_the_coupling_is_symmetric(name):
    """(y at old, y' at new) has one law whichever of them is drawn first: products, and squares of differences."""
    y, z = sample(name, BEFORE), sample(name, AFTER, seed=2)
    forth, back = moved(name, y, BEFORE, AFTER), moved(name, z, AFTER, BEFORE, 10)
    if name in NUMBERS:
        np.testing.assert_allclose(moved(name, forth, AFTER, BEFORE), y, rtol=1e-12, atol=1e-12)
        return
    pairs = [np.column_stack(pair) for pair in ((y, forth), (back, z))]
    each = [
        np.column_stack([np.abs(a - b), (a - b) ** 2, a * b, (a == b)]) for a, b in (pair.T for pair in pairs)
    ]
    assert mc.two_samples(*each) > LEVEL
    alone = np.column_stack([np.abs(y - z), (y - z) ** 2, y * z, y == z])  # not coupled at all
    assert mc.two_samples(alone, each[1]) < REJECTED
    np.testing.assert_array_equal(moved(name, y, BEFORE, BEFORE), y)
