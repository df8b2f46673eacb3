"""Simulation-based calibration: draw parameters from the prior and a table from them, and rank them among the draws.

The ranks are uniform if sampler and model are right (Talts et al. 2018; Modrak et al. 2023). Their p-values are from the
exact test of Säilynoja, Bürkner & Vehtari (2022), multiplied by the number of quantities.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy.stats import invwishart

from bayesimp import priors as pr
from bayesimp.joint.normal import JointNormal
from bayesimp.studies.uniformity import uniformity
from bayesimp.table.incomplete import IncompleteData
from bayesimp.threads import one_thread
from bayesimp.verification.records import Outcome

__all__ = ["joint_normal_ranks"]

RANKS = 19
ACCEPTED, REJECTED = 1e-6, 1e-6
NU_SIGMA, NU_PSI = 8.0, 7.0
V = np.array([[0.25, 0.05], [0.05, 0.2]])


def _ranks(seed: int, spoiled: bool) -> dict[str, int]:
    """Ranks for one table; with `spoiled`, cluster effects are half as large as the model says."""
    rng = np.random.default_rng([20261130, seed])
    g = np.repeat(np.arange(8), 6)
    x = np.tile(np.linspace(-1, 1, 6), 8)
    beta = rng.normal(0.0, 1.0, (2, 2))
    Sigma, Psi = (invwishart(nu, np.linalg.inv(V)).rvs(random_state=rng) for nu in (NU_SIGMA, NU_PSI))
    effects = rng.multivariate_normal(np.zeros(2), Psi, 8) * (0.5 if spoiled else 1.0)
    Y = (
        np.column_stack([np.ones(48), x]) @ beta
        + effects[g]
        + rng.multivariate_normal(np.zeros(2), Sigma, 48)
    )
    seen = np.where(rng.random((48, 2)) < 0.25, np.nan, Y)
    seen[g == 2, 1] = np.nan
    table = pd.DataFrame({"g": g, "x": x, "y": seen[:, 0], "z": seen[:, 1]})
    priors = pr.Priors(
        beta=pr.Normal(0.0, 1.0), Sigma=pr.InverseWishart(NU_SIGMA, V), Psi=pr.InverseWishart(NU_PSI, V)
    )
    model = JointNormal(IncompleteData(table, "g"), "y + z ~ x + (1 | g)", priors)
    options = {"chains": 1, "tune": 60, "draws": RANKS * 12, "executor": "serial", "progress": False}
    imp = model.impute(RANKS, seed=seed, **options)  # type: ignore[arg-type]
    post = imp.tree["posterior"]
    draws = {name: np.asarray(post[name])[0, 11::12] for name in ("beta", "Sigma", "Psi")}
    truth = {"beta": beta, "Sigma": Sigma, "Psi": Psi}
    out = {}
    for name, true in truth.items():
        for i, j in zip(*np.tril_indices(2), strict=True):
            out[f"{name}[{i},{j}]"] = int((draws[name][:, i, j] < true[i, j]).sum())
    for k, name in enumerate(("y", "z")):
        rows = imp.rows(name)
        out[f"mean of missing {name}"] = int((imp.values(name).mean(axis=1) < Y[rows, k].mean()).sum())
        out[f"first missing {name}"] = int((imp.values(name)[:, 0] < Y[rows[0], k]).sum())
    return out


def joint_normal_ranks(full: bool) -> Sequence[Outcome]:
    """Calibration of `JointNormal`: parameters, imputed cells and their means."""
    n = 1_000 if full else 120

    def smallest(spoiled: bool) -> float:
        with one_thread(48):
            ranks = pd.DataFrame([_ranks(s, spoiled) for s in range(n)])
        return min(1.0, min(uniformity(ranks[name], RANKS) for name in ranks) * ranks.shape[1])

    right, wrong = smallest(False), smallest(True)
    return [
        Outcome(
            f"13 quantities over {n:,} tables: smallest p-value times 13", right, ACCEPTED, at_least=True
        ),
        Outcome("wrong variant: effects of clusters half as large, the same p-value", wrong, REJECTED),
    ]
