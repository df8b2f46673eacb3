"""R-hat and effective sample sizes of many quantities at once, against ArviZ, which treats one after the other."""

import numpy as np
import pytest
from arviz_stats.base import array_stats

from bayesimp.diagnostics import chain_statistics, convergence
from bayesimp.diagnostics.convergence import ESS_PROB, _statistics

AXES = {"chain_axis": 0, "draw_axis": 1}
WITH_ARVIZ = {
    "ess_bulk": lambda x: array_stats.ess(x, **AXES, method="bulk"),
    "ess_tail": lambda x: array_stats.ess(x, **AXES, method="tail", prob=ESS_PROB),
    "mcse_mean": lambda x: array_stats.mcse(x, **AXES, method="mean"),
    "r_hat": lambda x: array_stats.rhat(x, **AXES, method="rank"),
}


def quantities(chains: int, draws: int, seed: int = 1) -> np.ndarray:
    """(chains, draws, 9): quick, slow, antithetic, apart, tied, of two values, heavy-tailed, trending, stuck chains."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(chains, draws, 9))
    for t in range(1, draws):
        x[:, t, 1] = 0.97 * x[:, t - 1, 1] + 0.24 * x[:, t, 1]
        x[:, t, 2] = -0.8 * x[:, t - 1, 2] + 0.6 * x[:, t, 2]
    x[:, :, 3] += 3.0 * np.arange(chains)[:, None]
    x[:, :, 4] = np.round(x[:, :, 4], 1)
    x[:, :, 5] = x[:, :, 5] > 1.0
    x[:, :, 6] = x[:, :, 6] ** 5
    x[:, :, 7] += np.linspace(0.0, 4.0, draws)
    x[:, :, 8] = np.arange(chains)[:, None]
    return x


def agrees(x: np.ndarray) -> list[str]:
    """The columns that agree with ArviZ for every quantity."""
    ours, out = _statistics(x), []
    for name, function in WITH_ARVIZ.items():
        with np.errstate(divide="ignore", invalid="ignore"):
            theirs = np.asarray(function(x))
        out += [name] * np.allclose(ours[name], theirs, rtol=1e-9, atol=0.0, equal_nan=True)
    return out


@pytest.mark.parametrize("chains, draws", [(4, 500), (2, 4), (2, 5), (3, 6), (1, 7), (20, 12), (3, 501)])
def test_the_numbers_are_those_of_arviz(chains, draws):
    x = quantities(chains, draws)
    x = x[:, :, np.ptp(x, axis=(0, 1)) > 0]
    assert set(agrees(x)) == set(WITH_ARVIZ)


def test_blocks_of_quantities_do_not_change_them(monkeypatch):
    x = quantities(4, 60)
    whole = _statistics(x)
    monkeypatch.setattr(chain_statistics, "BLOCK", 2 * 240)
    parts = _statistics(x)
    for name, column in whole.items():
        np.testing.assert_allclose(parts[name], column, rtol=1e-12, equal_nan=True)


right_autocovariances = chain_statistics.autocovariances


def breaking_ties(x):
    order = np.argsort(np.argsort(x.reshape(len(x), -1), axis=1), axis=1)
    return order.reshape(x.shape) * 1.0


@pytest.mark.parametrize(
    ("where", "name", "wrong"),
    [
        (convergence, "normal_scores", breaking_ties),
        (convergence, "split", lambda x: x),
        (chain_statistics, "autocovariances", lambda z: right_autocovariances(z) * 1.001),
    ],
)
def test_wrong_variants_are_noticed(where, name, wrong, monkeypatch):
    """Ties broken by place; chains not split; autocovariances too large by a thousandth."""
    monkeypatch.setattr(where, name, wrong)
    assert len(agrees(quantities(4, 500))) < len(WITH_ARVIZ)
