"""What multilevel imputation of a binary variable must do, against NUTS draws (tests/reference/glmm/make_nuts.py).

Blocks as FCS makes them, driven visit by visit, so that effects of clusters can be read. NUTS: beta ~ N(0, 5^2),
N(0, 2.5^2), half-t(2, 1) standard deviations, uniform correlation. `bayes` is given these priors; `mlmi` has its weak
ones, which are the same for a predictor with mean 0 and standard deviation 1, as it (nearly) has.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import bayesimp as bi
from bayesimp.fcs.loop import start_chain
from tests.calibration.montecarlo import batch_means

REFERENCE = Path(__file__).parents[1] / "reference" / "glmm"
LIMIT = 4.0  # Monte Carlo standard errors; 15 comparisons
PRIORS = bi.priors.Priors(
    beta=bi.priors.Normal(0.0, [[5.0], [2.5]]), Psi=bi.priors.HuangWand(nu=2, scale=1.0)
)
METHODS = {"bayes": bi.methods.Bayes(PRIORS), "mlmi": "mlmi"}


def frozen(name: str) -> dict:
    return json.loads((REFERENCE / f"nuts_{name}.json").read_text())


def drive(
    reference: dict, method, visits: int, burn: int = 30, seed: int = 1
) -> tuple[np.ndarray, np.ndarray, list]:
    """Psi (visits, q, q) and linear predictors (visits, rows) of the missing rows, in the units of the data; events.

    A table without missing values gets three uninformative rows of another cluster with y missing.
    """
    data = reference["data"]
    seen = pd.DataFrame({name: data[name] for name in ("cluster", "x", "y")})
    lost = pd.DataFrame({"cluster": data["cluster_missing"], "x": data["x_missing"], "y": np.nan})
    if lost.empty:
        lost = pd.DataFrame({"cluster": 99, "x": [-1.0, 0.0, 1.0], "y": np.nan})
    frame = pd.concat([seen, lost], ignore_index=True)
    table = bi.IncompleteData(frame, cluster="cluster", families={"y": "bernoulli"})
    slopes = "+ x " if reference["q"] == 2 else ""
    model = bi.FCS(table, methods=method, predictors=f"y ~ x + (1 {slopes}| cluster)")
    block = model.conditionals(seed)[0]
    chain = start_chain(model.table, [block], np.random.default_rng(seed))
    theta, rows = chain.theta[0], block.rows
    X, Z = rows.missing(chain.V, rows.factors(chain.V))
    Psi, eta = [], []
    for k in range(burn + visits):
        assert block.step(chain, theta) >= 0
        if k >= burn:
            Psi.append(block.chained.scale.Psi(theta.Psi))
            eta.append(X @ theta.beta[:, 0] + (Z * theta.B[rows.hole_cluster, :, 0]).sum(axis=1))
    place = np.argsort(model.table.row[np.flatnonzero(rows.holes)])  # as in the table
    return np.array(Psi), np.array(eta)[:, place], block.events([theta])


def distance(draws: np.ndarray, post: dict, probs) -> np.ndarray:
    """Share of draws below NUTS's quantiles minus the nominal one, in Monte Carlo standard errors of both."""
    out = []
    for prob, quantile, error in zip(probs, post["quantiles"], post["quantiles_mcse"], strict=True):
        share, se = batch_means((draws <= quantile).astype(float)[None], 20)
        width = max(0.2 * post["sd"], 0.2 * quantile)
        slope = (np.abs(draws - quantile) < width).mean() / (2 * width)
        out.append((share - prob) / np.hypot(se, slope * error))
    return np.array(out)


@pytest.mark.parametrize("method", METHODS)
def test_linear_predictor_of_a_large_sporadic_cluster(method):
    """100 of 200 values observed: sd over imputations of the mean linear predictor of the others, as NUTS's.

    400 visits give the ratio to within 4% (one standard error, by batches); the criterion is 10%.
    """
    reference = frozen("sporadic")
    _, eta, _ = drive(reference, METHODS[method], 400, burn=10)
    means, post = eta.mean(axis=1), reference["posterior"]["mean(eta_missing)"]
    mean, se = batch_means(means[None], 20)
    assert abs(mean - post["mean"]) < LIMIT * np.hypot(se, post["mean_mcse"])
    squares, se_squares = batch_means(((means - means.mean()) ** 2)[None], 20)
    ratio, error = np.sqrt(squares) / post["sd"], se_squares / (2 * np.sqrt(squares) * post["sd"])
    assert error < 0.05 and abs(ratio - 1) < 0.1, (ratio, error)
    for j in range(5):
        assert abs(eta[:, j].std() / reference["posterior"][f"eta_missing[{j}]"]["sd"] - 1) < 0.15


@pytest.mark.parametrize(("method", "visits"), [("bayes", 2_000), ("mlmi", 6_000)])
def test_psi_of_clusters_with_reliability_one_third(method, visits):
    """30 clusters x 5 rows, psi = 1: quantiles of psi are NUTS's, in Monte Carlo standard errors.

    More visits of `mlmi`, whose step around the fit moves slowly near zero.
    """
    reference = frozen("bernoulli")
    Psi, _, _ = drive(reference, METHODS[method], visits)
    z = distance(Psi[:, 0, 0], reference["posterior"]["Psi[0,0]"], reference["probs"])
    assert np.abs(z).max() < LIMIT, z
