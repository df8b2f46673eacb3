"""Tables for penalised fits (lme4 with nAGQ = 0): some of tables.py, and the same made sparse or separated.

Run as a script, it writes the tables to the folder given, for penalised_fits.R.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from tables import table

PLAIN = range(0, 300, 3)
CHANGES = (
    "constant",
    "complete",
    "quasi",
    "by cluster",
    "one event",
    "empty clusters",
    "one cluster",
    "collinear",
)


def changed(k: int, change: str) -> dict:
    """Table k, its response (or its rows) changed; k even: binary, trials 1; k odd: Poisson."""
    t = {name: np.copy(value) if isinstance(value, np.ndarray) else value for name, value in table(k).items()}
    y, x, w, g = t["y"], t["x"], t["w"], t["g"]
    if t["family"] == "binomial":
        t["trials"][:] = 1.0
        y[:] = np.minimum(y, 1.0)
    if change == "constant":
        y[:] = 0.0
    elif change == "complete":
        y[:] = x > 0
    elif change == "quasi":
        y[w == 1] = 0.0
    elif change == "by cluster":
        y[:] = g % 2
    elif change == "one event":
        y[:] = 0.0
        y[len(y) // 2] = 1.0
    elif change == "empty clusters":
        y[g % 2 == 0] = 0.0
    elif change == "collinear":
        w[:] = 2 * x
    elif change == "one cluster":
        for name in ("y", "trials", "x", "w", "g"):
            t[name] = t[name][g == 0]
    return t


def cases() -> dict[str, dict]:
    """Tables by name."""
    out = {f"{k:03d}-plain": table(k) for k in PLAIN}
    for change in CHANGES:
        for k in (2, 4, 8, 10, 1, 3, 5, 7):
            if not (k % 2 and change in ("complete", "by cluster")):
                out[f"{k:03d}-{change}"] = changed(k, change)
    return out


def write(folder: Path) -> None:
    for name, t in cases().items():
        columns = [t[c].tolist() for c in ("y", "trials", "x", "w", "g")]
        lines = ["y,trials,x,w,g", *(",".join(map(repr, row)) for row in zip(*columns, strict=True))]
        (folder / f"{name}-{t['family']}-{int(t['slope'])}.csv").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    write(Path(sys.argv[1]))
