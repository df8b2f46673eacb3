"""Laplace fits of generalised linear mixed models, compared with lme4."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd

from bayesimp.kernels.families.scalar import LOGIT, POISSON
from bayesimp.kernels.glmm.rows import GlmmRows
from bayesimp.kernels.laplace.record import fit_laplace
from benchmarks.r_side import HAVE_R, r_script


def simulated(family: int, m: int, n: int) -> tuple[pd.DataFrame, GlmmRows]:
    """m clusters x n rows, y ~ x + w + (1 + x | g)."""
    rng = np.random.default_rng([7, family])
    N, g = m * n, np.repeat(np.arange(m), n)
    x, w = rng.normal(size=N), rng.normal(size=N)
    b = rng.normal(size=(m, 2)) * 0.7
    eta = -1.0 + 0.5 * x + 0.1 * w + b[g, 0] + b[g, 1] * x
    y = rng.binomial(1, 1 / (1 + np.exp(-eta))) if family == LOGIT else rng.poisson(np.exp(eta))
    X = np.column_stack([np.ones(N), x, w])
    Z = np.ascontiguousarray(X[:, :2])
    rows = GlmmRows(family, y.astype(float), np.ones(N), np.ones(N), np.zeros(N), X, Z, np.arange(m + 1) * n)
    return pd.DataFrame({"y": y, "x": x, "w": w, "g": g}), rows


def best_of(repeats: int, fit) -> float:
    """Processor time in ms."""
    times = []
    for _ in range(repeats):
        began = time.process_time()
        fit()
        times.append(time.process_time() - began)
    return 1e3 * min(times)


def laplace() -> list[str]:
    """One fit with Hessian covariance, y ~ x + w + (1 + x | g), processor time, best of several; warm: from the fit to
    the same table with a tenth of y replaced. lme4: glmer with its defaults."""
    lines = [
        "| data | lme4 ms | cold ms | ratio | warm ms | ratio | loglik - lme4's |",
        "|---|---|---|---|---|---|---|",
    ]
    for family, name in ((LOGIT, "binary"), (POISSON, "count")):
        for m, n in ((10, 300), (2_000, 50), (10, 100_000)):
            table, rows = simulated(family, m, n)
            fit = fit_laplace(rows)
            few = max(5, 60_000 // (m * n))
            cold = best_of(few, lambda rows=rows: fit_laplace(rows))
            rng, y = np.random.default_rng(1), rows.y.copy()
            some = rng.choice(len(y), len(y) // 10, replace=False)
            y[some] = y[rng.permutation(some)]
            changed = rows._replace(y=y)
            warm = best_of(few, lambda changed=changed, fit=fit: fit_laplace(changed, start=fit))
            theirs, ratios, gain = "not run", ("", ""), ""
            if HAVE_R and m * n <= 100_000:
                with tempfile.TemporaryDirectory() as folder:
                    path = Path(folder) / "d.csv"
                    table.to_csv(path, index=False)
                    of = "binomial" if family == LOGIT else "poisson"
                    r = r_script("laplace_lme4.R", path, of, 5 if m == 10 else 1)
                theirs = f"{1e3 * r['seconds']:.0f}"
                ratios = tuple(f"{1e3 * r['seconds'] / ms:.0f}" for ms in (cold, warm))
                gain = f"{fit.loglik - r['loglik']:.1e}"
            lines.append(
                f"| {m:,} x {n:,} {name} | {theirs} | {cold:.2f} | {ratios[0]} | {warm:.2f} | {ratios[1]} | {gain} |"
            )
    return lines


if __name__ == "__main__":
    print("\n".join(laplace()))
