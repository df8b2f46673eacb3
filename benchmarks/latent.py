"""`JointLatent` against R jomo: effective draws per second of processor time."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

import bayesimp as bi
from benchmarks.r_side import HAVE_R, r_script

__all__ = ["latent"]

METHODS: dict[Literal["common", "cluster"], str] = {
    "common": "common",
    "cluster": "random",
}  # as jomo calls them
CLUSTERS, ROWS = 50, 20
ITERATIONS, DRAWS = 3_000, 2_000


def table(seed: int = 1) -> pd.DataFrame:
    """1,000 rows in 50 clusters: y a number, b binary, c with three levels; 15 % of cells missing, and whole clusters."""
    rng = np.random.default_rng(seed)
    cluster = np.repeat(np.arange(CLUSTERS), ROWS)
    a = rng.normal(size=(CLUSTERS, 4)) @ (0.6 * np.eye(4) + 0.1)
    e = rng.normal(size=(len(cluster), 4))
    e[:, 1:] += 0.5 * e[:, :1]
    u = a[cluster] + e
    levels = np.column_stack([np.zeros(len(u)), u[:, 2:]]).argmax(axis=1)
    frame = pd.DataFrame({"cluster": cluster, "y": u[:, 0], "b": (u[:, 1] > 0).astype(float)})
    frame["c"] = pd.Categorical.from_codes(levels, ["p", "q", "r"])
    for k, name in enumerate("ybc"):
        lost = (rng.random(len(frame)) < 0.15) | (cluster % 12 == k)
        frame.loc[lost, name] = None if name == "c" else np.nan
    return frame


def slowest(draws: np.ndarray) -> float:
    """Smallest bulk ESS of draws (chains, draws, quantities) that vary."""
    from arviz_stats.base import array_stats

    varied = draws[..., np.ptp(draws, axis=(0, 1)) > 1e-12]
    return min(
        float(array_stats.ess(varied[..., k], chain_axis=0, draw_axis=1)) for k in range(varied.shape[-1])
    )


def of_jomo(frame: pd.DataFrame, residual: Literal["common", "cluster"]) -> tuple[float, float]:
    """Smallest ESS and processor seconds of one chain, a tenth of it taken for its warm-up, which is not counted."""
    with tempfile.TemporaryDirectory() as folder:
        data, chain = Path(folder) / "d.csv", Path(folder) / "chain.csv"
        frame.to_csv(data, index=False)
        report = r_script("jomo_chain.R", data, ITERATIONS, 1, chain, METHODS[residual])
        draws = pd.read_csv(chain).to_numpy()
    kept = draws[len(draws) // 10 :]
    return slowest(kept[None]), report["cpu_seconds"] * len(kept) / len(draws)


def of_ours(frame: pd.DataFrame, residual: Literal["common", "cluster"]) -> tuple[float, float]:
    """Smallest ESS and processor seconds of one chain, with its warm-up and the missing cells of every draw."""
    data = bi.IncompleteData(frame, "cluster", {"b": "bernoulli"})
    model = bi.JointLatent(data, "y + b + c ~ 1 + (1 | cluster)", residual=residual)
    own = residual == "cluster"
    options: dict[str, Any] = {
        "m": 2,
        "seed": 1,
        "chains": 1,
        "executor": "serial",
        "clusters": own,
        "progress": False,
    }
    model.impute(**options, draws=10, tune=1)  # kernels loaded
    began = time.process_time()
    imp = model.impute(**options, draws=DRAWS)
    seconds = time.process_time() - began
    post = imp.tree["posterior"]
    parts = [post.beta.values.reshape(1, DRAWS, -1)]
    i, j = np.tril_indices(4)
    Sigma = post.Sigma_clusters.mean("cluster") if own else post.Sigma
    parts += [x.values[..., i, j] for x in (Sigma, post.Psi)]
    return slowest(np.concatenate(parts, axis=-1)), seconds


def latent() -> list[str]:
    """1,000 rows, 50 clusters, a normal, a binary and a nominal variable, each missing in 15 % of rows and in a twelfth
    of the clusters: effective draws of the slowest of all parameters (of residual covariances of clusters, their mean)
    per second of processor time, one chain, default priors of each. Our time includes a warm-up of 200 iterations and the
    missing cells of every draw, jomo's does not. jomo's "random" lets covariances of latent variables vary, too."""
    frame = table()
    lines = ["| residual covariance | engine | smallest ESS | seconds | per second | ratio to jomo |"]
    lines.append("|---|---|---|---|---|---|")
    for residual in METHODS:
        results = [("R jomo", *of_jomo(frame, residual))] if HAVE_R else []
        results.append(("JointLatent", *of_ours(frame, residual)))
        base = results[0][1] / results[0][2]
        for name, size, seconds in results:
            ratio = f"{size / seconds / base:.1f}" if HAVE_R else "-"
            lines.append(
                f"| {residual} | {name} | {size:.0f} | {seconds:.2f} | {size / seconds:.1f} | {ratio} |"
            )
    return lines
