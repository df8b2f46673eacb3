"""The table of the comparison with R jomo: this script writes mixed.csv next to itself.

18 clusters of 14 rows: y normal, b binary, c nominal with levels 1, 2, 3 (jomo's reference is the last); sporadic
missing cells, and one cluster without each variable.
"""

from pathlib import Path

import numpy as np
import pandas as pd

rng = np.random.default_rng(20261129)
g = np.repeat(np.arange(1, 19), 14)
Psi = np.diag([0.5, 0.3, 0.3, 0.2]) + 0.1
R = np.array([[1.0, 0.4, 0.3, 0.0], [0.4, 1.0, 0.2, 0.1], [0.3, 0.2, 1.0, 0.5], [0.0, 0.1, 0.5, 1.0]])
u = rng.multivariate_normal(np.zeros(4), Psi, 18)[g - 1] + rng.multivariate_normal(
    [0.2, 0.3, 0.4, -0.2], R, len(g)
)
best = np.where(
    u[:, 2:].max(axis=1) < 0, 3, u[:, 2:].argmax(axis=1) + 1
)  # utilities of levels 1 and 2 against 3
frame = pd.DataFrame({"g": g, "y": u[:, 0].round(4), "b": (u[:, 1] > 0).astype(int), "c": best})
for name, lacking in (("y", 1), ("b", 2), ("c", 3)):
    frame[name] = frame[name].astype("Float64" if name == "y" else "Int64")
    frame.loc[(rng.random(len(g)) < 0.15) | (g == lacking), name] = pd.NA
frame.to_csv(Path(__file__).with_name("mixed.csv"), index=False)
