"""R-hat, quantiles and verdicts of summaries, against longhand (Vehtari et al. 2021) and on made-up chains."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from scipy import stats

from bayesimp.diagnostics import convergence as cv
from bayesimp.errors import StatisticalWarning


def split_rhat(x):
    """x (chains, draws) cut into halves."""
    half = x.shape[1] // 2
    x = np.concatenate([x[:, :half], x[:, -half:]])
    n = x.shape[1]
    between, within = n * x.mean(1).var(ddof=1), x.var(1, ddof=1).mean()
    return np.sqrt((n - 1) / n + between / within / n)


def normal_scores(x):
    return stats.norm.ppf((stats.rankdata(x).reshape(x.shape) - 0.375) / (x.size + 0.25))


def rank_rhat(x):
    """The larger split R-hat of the normal scores of values and of distances from the median (eqs 14, 15)."""
    return max(split_rhat(normal_scores(x)), split_rhat(normal_scores(np.abs(x - np.median(x)))))


def chains(kind):
    rng = np.random.default_rng(3)
    x = rng.normal(size=(4, 400))
    match kind:
        case "trend":  # the same in every chain: only halves differ
            return x + np.linspace(0, 2, 400)
        case "scale":  # the same mean in every chain: only distances from the median differ
            return x * np.array([[1], [1], [1], [4]])
        case "heavy":  # no variance: only ranks show the shift
            return stats.cauchy.rvs(size=(4, 400), random_state=rng) + np.array([[0], [0], [0], [3.0]])
    return x


@pytest.mark.parametrize("kind", ["plain", "trend", "scale", "heavy"])
def test_r_hat_is_split_folded_and_of_ranks(kind):
    x = chains(kind)
    found = cv.diagnose(xr.Dataset({"theta": (("chain", "draw"), x)}))
    expected = rank_rhat(x)
    assert found.at["theta", "r_hat"] == pytest.approx(expected, abs=2e-3)
    assert (expected > 1.05) == (kind != "plain")


def test_quantiles_are_of_95_percent_intervals():
    x = np.random.default_rng(0).permutation(np.arange(4001.0))[:4000].reshape(4, 1000)
    row = cv.diagnose(xr.Dataset({"theta": (("chain", "draw"), x)})).loc["theta"]
    assert row["q2.5"] == pytest.approx(100, abs=2) and row["q97.5"] == pytest.approx(3900, abs=2)
    assert row["mean"] == pytest.approx(x.mean()) and row["sd"] == pytest.approx(x.std(ddof=1))


def imputations(parameter, imputed, model="JointNormal"):
    """What `summarise` reads of imputations, with these chains (4, draws) of a parameter and of an imputed mean."""
    groups = {
        "/posterior": xr.Dataset({"theta": (("chain", "draw"), parameter)}),
        "/imputed_stats": xr.Dataset({"mean": (("chain", "draw"), imputed)}),
    }
    events = pd.DataFrame(columns=["kind", "where", "message", "count"])
    tree = xr.DataTree.from_dict(groups)
    return SimpleNamespace(tree=tree, events=events, attrs={"model": model}, m=4, chained=model == "FCS")


@pytest.mark.parametrize("which", ["parameter", "imputed"])
def test_parameters_and_imputed_values_are_both_judged(which):
    good, bad = chains("plain"), chains("trend")
    assert cv.summarise(imputations(good, good)).converged
    with pytest.warns(StatisticalWarning, match="R-hat"):
        summary = cv.summarise(imputations(bad, good) if which == "parameter" else imputations(good, bad))
    assert not summary.converged and summary.worst_r_hat == pytest.approx(rank_rhat(bad), abs=2e-3)


def test_r_hat_and_ess_are_arviz_on_the_same_draws():
    """They differ from other definitions: unsplit R-hat, ESS of raw values, ESS of other tails."""
    import arviz as az

    rng = np.random.default_rng(4)
    x = np.cumsum(rng.normal(size=(4, 300, 3)), axis=1) * 0.05 + rng.standard_t(3, size=(4, 300, 3))
    tree = xr.DataTree.from_dict(
        {"/posterior": xr.Dataset({"a": (("chain", "draw", "k"), x)}, coords={"k": list("uvw")})}
    )
    ours = cv.diagnose(tree["posterior"].to_dataset())
    ess = {name: az.ess(tree, **how)["a"].values for name, how in ESS.items()}
    np.testing.assert_allclose(ours["r_hat"], az.rhat(tree)["a"].values, rtol=1e-12)
    np.testing.assert_allclose(ours["ess_bulk"], ess["bulk"], rtol=1e-12)
    np.testing.assert_allclose(ours["ess_tail"], ess["tail"], rtol=1e-12)
    np.testing.assert_allclose(ours["mcse_mean"], az.mcse(tree)["a"].values, rtol=1e-12)
    assert (np.abs(ess["raw"] / ours["ess_bulk"] - 1) > 0.01).any()
    assert (np.abs(ess["other tail"] / ours["ess_tail"] - 1) > 0.01).any()
    assert (np.abs(az.rhat(tree, method="identity")["a"].values - ours["r_hat"]) > 1e-3).any()


ESS = {
    "bulk": {"method": "bulk"},
    "tail": {"method": "tail", "prob": (0.05, 0.95)},
    "raw": {"method": "mean"},
    "other tail": {"method": "tail", "prob": (0.25, 0.75)},
}
