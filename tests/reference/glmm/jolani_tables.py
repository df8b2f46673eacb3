"""Tables for the published code of Jolani (2025): every cluster has observed rows and two missing ones, at x = -1 and 1.

Run as a script, it writes the tables to the folder given, for jolani.R.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

DESIGNS = {  # clusters, observed rows, sd of effects, a random slope
    "large": (15, 200, 1.0, False),
    "slope": (8, 60, 1.2, True),
    "small": (30, 5, 1.0, False),
}


def table(name: str) -> dict:
    """y, x, g of the observed rows, sorted by cluster; m clusters; slope."""
    m, n, sd, slope = DESIGNS[name]
    rng = np.random.default_rng([2025, m])
    g, x = np.repeat(np.arange(m), n), rng.normal(size=m * n)
    b = sd * rng.normal(size=(m, 2)) * [1, slope]
    eta = -0.5 + 0.4 * x + b[g, 0] + b[g, 1] * x
    return {
        "y": (rng.random(m * n) < 1 / (1 + np.exp(-eta))).astype(float),
        "x": x,
        "g": g,
        "m": m,
        "slope": slope,
    }


def write(folder: Path) -> None:
    for name in DESIGNS:
        t = table(name)
        lines = ["g,x,y,observed"]
        lines += [
            f"{g},{x!r},{y:.0f},1" for g, x, y in zip(*(t[k].tolist() for k in ("g", "x", "y")), strict=True)
        ]
        lines += [f"{g},{x},0,0" for g in range(t["m"]) for x in (-1, 1)]
        (folder / f"{name}-{int(t['slope'])}.csv").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    write(Path(sys.argv[1]))
