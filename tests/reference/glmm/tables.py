"""Small random tables for Laplace fits, by NumPy seed: both the R script's input and the tests' read them from here.

Run as a script, it writes the tables to the folder given, for laplace_fits.R.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

TABLES = 300


def table(k: int) -> dict:
    """Table k: columns y, trials, x, w, g; family; slope. 5 to 40 clusters of 3 to 30 rows, heterogeneity from none up,
    some with few events, so that many fits are singular and some tables separated."""
    rng = np.random.default_rng([4, k])
    m, mean = int(rng.integers(5, 41)), int(rng.integers(3, 31))
    sizes = np.maximum(1, rng.poisson(mean, m))
    g = np.repeat(np.arange(m), sizes)
    n = len(g)
    x, w = rng.normal(size=n), (rng.random(n) < 0.4).astype(float)
    spread = float(rng.choice([0.0, 0.3, 1.0, 1.5]))
    b = spread * rng.normal(size=(m, 2))
    eta = rng.choice([-2.5, -1.0, 0.3]) + 0.7 * x - 0.4 * w + b[g, 0] + 0.7 * b[g, 1] * x
    family = ("binomial", "poisson")[k % 2]
    trials = np.ones(n)
    if family == "binomial":
        trials = rng.integers(1, 6, n).astype(float) if k % 6 == 0 else trials
        y = rng.binomial(trials.astype(int), 1 / (1 + np.exp(-eta)))
    else:
        y = rng.poisson(np.exp(np.minimum(eta, 5.0)))
    return {
        "y": y.astype(float),
        "trials": trials,
        "x": x,
        "w": w,
        "g": g,
        "family": family,
        "slope": k % 4 < 2,
    }


def write(folder: Path) -> None:
    for k in range(TABLES):
        t = table(k)
        lines = ["y,trials,x,w,g"]
        lines += [f"{a:.0f},{b:.0f},{c!r},{d:.0f},{e}" for a, b, c, d, e in
                  zip(*(t[name].tolist() for name in ("y", "trials", "x", "w", "g")), strict=True)]  # fmt: skip
        (folder / f"{k:03d}-{t['family']}-{int(t['slope'])}.csv").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    write(Path(sys.argv[1]))
