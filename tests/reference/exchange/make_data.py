"""The table that make_reference.R imputes: simulated, 60 rows in 6 clinics; numbers, factors, an ordered factor."""

from pathlib import Path

import numpy as np
import pandas as pd

rng = np.random.default_rng(4)
n = 60
clinic, sex = np.repeat(np.arange(6), 10), np.array(["f", "m"])[rng.integers(0, 2, n)]
z = rng.normal(size=n).round(3)
y = (1 + z + (sex == "m") + rng.normal(size=n) + rng.normal(size=6)[clinic]).round(3)
grade = np.array(["low", "mid", "high"])[np.clip(np.round(z + 1 + rng.normal(0, 0.5, n)), 0, 2).astype(int)]
kind = np.array(["b", "a", "c"])[rng.integers(0, 3, n)]
frame = pd.DataFrame(
    {"clinic": [f"c{k}" for k in clinic], "sex": sex, "z": z, "y": y, "grade": grade, "kind": kind}
)
for name in ("z", "y", "grade", "kind"):
    frame.loc[rng.random(n) < 0.2, name] = None
frame.to_csv(Path(__file__).with_name("clinics.csv"), index=False)
