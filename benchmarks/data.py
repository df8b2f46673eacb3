"""Data of the benchmarks: Kunkel & Kaizar's shape, standardised so that pan's identity prior is sensible."""

from __future__ import annotations

import numpy as np
import pandas as pd

SIGMA = np.array([[122.0, 100.0], [100.0, 147.0]]) / 144.0
PSI = np.array([[27.0, 12.0], [12.0, 33.0]]) / 144.0


def clustered(clusters: int = 15, rows: int = 30, seed: int = 1) -> pd.DataFrame:
    """Two responses, each missing in a third of the clusters (different ones) and 5 % elsewhere; one covariate."""
    rng = np.random.default_rng(seed)
    codes = np.repeat(np.arange(clusters), rows)
    N = len(codes)
    x = rng.normal(size=N)
    effects = rng.multivariate_normal(np.zeros(2), PSI, clusters)
    Y = np.outer(x, [0.4, -0.3]) + effects[codes] + rng.multivariate_normal(np.zeros(2), SIGMA, N)
    third = clusters // 3
    Y[rng.random((N, 2)) < 0.05] = np.nan
    Y[codes < third, 0] = np.nan
    Y[(codes >= third) & (codes < 2 * third), 1] = np.nan
    return pd.DataFrame({"cluster": codes, "x": x, "y1": Y[:, 0], "y2": Y[:, 1]})
