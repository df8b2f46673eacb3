"""stratified.csv: 6 clusters, two predictors, and a binary, count and ordinal response. python make_stratified.py"""

from pathlib import Path

import numpy as np

rng = np.random.default_rng(20261)
g = np.repeat(np.arange(6), [9, 14, 20, 25, 30, 22])
x1, x2 = rng.normal(size=(2, len(g)))
eta = 0.2 + 0.8 * x1 - 0.5 * x2 + rng.normal(size=6)[g]
binary = rng.random(len(g)) < 1 / (1 + np.exp(-eta))
count = rng.poisson(np.exp(0.5 * eta))
latent = eta + rng.logistic(size=len(g))
ordinal = (latent[:, None] > [-1.0, 0.5, 1.5]).sum(1)
table = np.column_stack([g, x1.round(4), x2.round(4), binary, count, ordinal])
np.savetxt(
    Path(__file__).with_name("stratified.csv"),
    table,
    "%.6g",
    ",",
    header="g,x1,x2,binary,count,ordinal",
    comments="",
)
