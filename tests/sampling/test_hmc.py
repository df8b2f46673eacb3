"""HMC on densities written in numba: a normal one, and one that is not defined everywhere."""

import inspect
import math

import numpy as np
import pytest
from numba import njit, types

from bayesimp.sampling import hmc as module
from bayesimp.sampling.hmc import adapt, hmc
from tests.calibration.montecarlo import LEVEL, REJECTED, normal

MEAN, COVARIANCE = np.array([1.0, -2.0, 0.5]), np.diag([1.0, 0.01, 25.0]) + 0.05
VECTOR, MATRIX = types.Array(types.float64, 1, "C"), types.Array(types.float64, 2, "C")
ARRAYS = types.Tuple([VECTOR, MATRIX])
RESULT = types.Tuple([types.Array(types.float64, 0, "C"), VECTOR])
DENSITY = types.FunctionType(RESULT(types.Tuple([VECTOR, *ARRAYS.types])))
DATA = MEAN, np.linalg.inv(COVARIANCE)


@njit
def gaussian(arguments):
    theta, mean, precision = arguments
    value, gradient = np.zeros(()), np.zeros(theta.size)
    for i in range(theta.size):
        for j in range(theta.size):
            gradient[i] -= precision[i, j] * (theta[j] - mean[j])
        value[()] += 0.5 * gradient[i] * (theta[i] - mean[i])
    return value, gradient


@njit
def half(arguments):
    """The same where theta_0 > mean_0; nan elsewhere, which must not compare as small."""
    value, gradient = gaussian(arguments)
    if arguments[0][0] < arguments[1][0]:
        value[()] = math.nan
    return value, gradient


@pytest.fixture(scope="module")
def sample():
    return hmc(DENSITY, ARRAYS)


@pytest.fixture(scope="module")
def adapted(sample):
    rng = np.random.default_rng(0)

    def move(theta, C, e):
        trace = np.empty((1, 2))
        assert sample(gaussian, rng, theta, C, e, trace, DATA)
        return trace

    return adapt(move, np.zeros(3))


def draws(sample, density, C, e, count=4000, thin=3, seed=1):
    rng, theta = np.random.default_rng(seed), MEAN + 0.1 * np.diag(COVARIANCE) ** 0.5
    out, trace, T = np.empty((count, 3)), np.empty((thin, 2)), []
    for k in range(count):
        assert sample(density, rng, theta, C, e, trace, DATA)
        out[k] = theta
        T.append(trace.copy())
    return out, np.concatenate(T)


def test_normal(sample, adapted):
    out, trace = draws(sample, gaussian, adapted.factor, adapted.step)
    assert normal(out, MEAN, COVARIANCE) > LEVEL
    assert 0.6 < trace[:, 0].mean() < 0.95 and not trace[:, 1].any()
    # the metric found is that of the target, so that draws are next to independent
    assert np.abs(np.corrcoef(out[1:, 0], out[:-1, 0])[0, 1]) < 0.06


def test_diagonal_metric(sample):
    C = np.sqrt(np.diag(COVARIANCE))[:, None].copy()
    assert normal(draws(sample, gaussian, C, 0.5)[0], MEAN, COVARIANCE) > LEVEL


def test_without_the_accept_step_the_law_is_another(adapted):
    source = inspect.getsource(module._transitions)
    spoiled = source.replace("if rng.random() < trace[t, 0]:", "if rng.random() < 2.0:")
    assert spoiled != source
    names = dict(vars(module))
    exec(spoiled, names)
    always = njit(names["_transitions"], error_model="numpy")
    assert normal(draws(always, gaussian, adapted.factor, 1.6)[0], MEAN, COVARIANCE) < REJECTED


def test_steps_too_long_are_still_right(sample, adapted):
    assert normal(draws(sample, gaussian, adapted.factor, 1.6, thin=20)[0], MEAN, COVARIANCE) > LEVEL


def test_not_a_number_is_never_accepted(sample, adapted):
    out, trace = draws(sample, half, adapted.factor, adapted.step, count=8000, thin=20)
    assert (out[:, 0] > MEAN[0]).all() and trace[:, 1].any()
    # |z| of a normal has mean sqrt(2/pi) and variance 1 - 2/pi
    z = (out[:, 0] - MEAN[0]) / np.sqrt(COVARIANCE[0, 0])
    assert abs(z.mean() - np.sqrt(2 / np.pi)) < 5 * np.sqrt((1 - 2 / np.pi) / len(z) * 1.5)
    assert not sample(half, np.random.default_rng(0), MEAN - 1.0, adapted.factor, 1.0, np.empty((1, 2)), DATA)


def test_same_generator_same_draws(sample, adapted):
    one, two = (draws(sample, gaussian, adapted.factor, adapted.step, count=20)[0] for _ in range(2))
    assert np.array_equal(one, two)
