"""Tables for fits by adaptive quadrature, by NumPy seed: input of the R script and of the tests.

Run as a script, it writes the tables to the folder given, for quadrature_fits.R.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

# family, clusters, mean rows of a cluster, intercept, sd of effects, formula of lme4
CASES = [
    ("binomial", 100, 3, -1.6, 4.0, "cbind(y, trials - y) ~ 1 + (1 | g)"),
    ("binomial", 60, 4, -1.6, 4.0, "cbind(y, trials - y) ~ x + (1 | g)"),
    ("binomial", 200, 5, 0.5, 1.0, "cbind(y, trials - y) ~ x + w + (1 | g)"),
    ("binomial", 20, 25, -0.5, 0.9, "cbind(y, trials - y) ~ x + w + (1 | g)"),
    ("binomial", 40, 8, -0.5, 1.5, "cbind(y, trials - y) ~ x + w + (0 + x | g)"),
    ("binomial", 30, 10, 0.0, 0.2, "cbind(y, trials - y) ~ x + (1 | g)"),
    ("trials", 40, 6, -1.0, 1.5, "cbind(y, trials - y) ~ x + w + (1 | g)"),
    ("probit", 80, 5, -0.5, 1.2, "cbind(y, trials - y) ~ x + (1 | g)"),
    ("poisson", 60, 4, -1.0, 1.5, "y ~ x + w + (1 | g)"),
    ("poisson", 30, 12, 1.0, 0.7, "y ~ x + (1 | g)"),
    ("poisson", 50, 5, -0.5, 0.8, "y ~ x + w + (0 + x | g)"),
]


def table(k: int) -> dict:
    """Table k: columns y, trials, x, w, g; family, formula."""
    family, m, mean, intercept, sd, formula = CASES[k]
    rng = np.random.default_rng([20, k])
    g = np.repeat(np.arange(m), np.maximum(1, rng.poisson(mean, m)))
    n = len(g)
    x, w = rng.normal(size=n), (rng.random(n) < 0.4).astype(float)
    effect = sd * rng.normal(size=m)[g] * (x if "0 + x" in formula else 1.0)
    eta = intercept + effect + (0.6 * x if "x" in formula else 0.0) - (0.4 * w if "w" in formula else 0.0)
    trials = rng.integers(1, 8, n).astype(float) if family == "trials" else np.ones(n)
    if family == "poisson":
        y = rng.poisson(np.exp(np.minimum(eta, 6.0)))
    elif family == "probit":
        y = eta + rng.normal(size=n) > 0
    else:
        y = rng.binomial(trials.astype(int), 1 / (1 + np.exp(-eta)))
    return {
        "y": y.astype(float),
        "trials": trials,
        "x": x,
        "w": w,
        "g": g,
        "family": family,
        "formula": formula,
    }


def write(folder: Path) -> None:
    for k in range(len(CASES)):
        t = table(k)
        lines = ["y,trials,x,w,g"]
        lines += [f"{a:.0f},{b:.0f},{c!r},{d:.0f},{e}" for a, b, c, d, e in
                  zip(*(t[name].tolist() for name in ("y", "trials", "x", "w", "g")), strict=True)]  # fmt: skip
        (folder / f"{k:02d}.csv").write_text("\n".join(lines) + "\n")
        (folder / f"{k:02d}.txt").write_text(f"{t['family']}\n{t['formula']}\n")


if __name__ == "__main__":
    write(Path(sys.argv[1]))
