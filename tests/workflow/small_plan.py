"""A plan that runs in seconds: 60 rows in 6 clusters, two imputations, ten draws."""

from pathlib import Path

import numpy as np
import pandas as pd

PLAN = """title = "Small"
[data]
file = "small.csv"
cluster = "g"
[data.types]
k = ["a", "b"]
[model]
formula = "y ~ x + k + (1 | g)"
[impute]
m = 2
seed = 1
chains = 1
tune = 5
draws = 10
[[analysis]]
name = "main"
formula = "y ~ x + (1 | g)"
[output]
figures = false
"""


def table() -> pd.DataFrame:
    rng = np.random.default_rng(1)
    g, x = np.repeat(range(6), 10), rng.normal(size=60)
    y = x + rng.normal(size=60) + rng.normal(size=6)[g]
    y[::5] = np.nan
    return pd.DataFrame({"g": g, "x": x, "k": list("ab") * 30, "y": y})


def write_plan(place: Path) -> Path:
    table().to_csv(place / "small.csv", index=False)
    path = place / "plan.toml"
    path.write_text(PLAN)
    return path
