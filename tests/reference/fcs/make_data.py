"""Simulated data of the reference runs. Fixed seed: running it again writes the same files.

python tests/reference/fcs/make_data.py
"""

from pathlib import Path

import numpy as np
import pandas as pd

HERE = Path(__file__).parent


def write(name, columns):
    pd.DataFrame(columns).to_csv(HERE / name, index=False, float_format="%.6f")


def sporadic(rng, y, probability=0.15):
    return np.where(rng.random(len(y)) < probability, np.nan, y)


def intercepts():
    """20 studies of 8 to 60 rows; y1, y2, y3 with opposite correlations within and between; x complete.

    y1 is missing in four whole studies, y2 in three others, both in 15 % of the rows elsewhere; y3 is complete.
    `onestep.csv`: the same rows with y2 complete.
    """
    rng = np.random.default_rng(20170401)
    sizes = rng.permutation(np.round(np.linspace(8, 60, 20)).astype(int))
    study = np.repeat(np.arange(1, 21), sizes)
    N = len(study)
    Sigma = np.array([[1.0, 0.6, 0.4], [0.6, 1.3, 0.3], [0.4, 0.3, 0.9]])
    Psi = np.array([[0.5, -0.25, 0.15], [-0.25, 0.6, -0.1], [0.15, -0.1, 0.4]])
    x = 0.4 * rng.normal(size=20)[study - 1] + rng.normal(size=N)
    effects = rng.multivariate_normal(np.zeros(3), Psi, 20)
    Y = [0.5, -0.3, 0.2] + np.outer(x, [0.4, -0.3, 0.2]) + effects[study - 1]
    Y += rng.multivariate_normal(np.zeros(3), Sigma, N)
    whole = rng.choice(20, 7, replace=False) + 1
    y1, y2 = sporadic(rng, Y[:, 0]), sporadic(rng, Y[:, 1])
    y1[np.isin(study, whole[:4])] = np.nan
    y2[np.isin(study, whole[4:])] = np.nan
    write("intercepts.csv", {"study": study, "x": x, "y1": y1, "y2": y2, "y3": Y[:, 2]})
    write("onestep.csv", {"study": study, "x": x, "y1": y1, "y2": Y[:, 1], "y3": Y[:, 2]})


def slopes():
    """25 studies of 20 rows, intercept and slope on z vary by study for y1 and y2.

    Each is missing in three whole studies, and in 10 % of the rows elsewhere. `onestep_slopes.csv`: y2 complete.
    """
    rng = np.random.default_rng(20170402)
    study = np.repeat(np.arange(1, 26), 20)
    z = rng.normal(size=500)
    sd = np.array([0.6, 0.5, 0.7, 0.4])  # intercept and slope of y1, of y2
    Psi = 0.3 ** np.abs(np.subtract.outer(range(4), range(4))) * np.outer(sd, sd)
    b = rng.multivariate_normal([0.3, 0.5, -0.2, -0.4], Psi, 25)[study - 1]
    E = rng.multivariate_normal(np.zeros(2), [[1.0, 0.5], [0.5, 1.2]], 500)
    y1, y2 = b[:, 0] + b[:, 1] * z + E[:, 0], b[:, 2] + b[:, 3] * z + E[:, 1]
    whole = rng.choice(25, 6, replace=False) + 1
    full = y2
    y1, y2 = sporadic(rng, y1, 0.10), sporadic(rng, y2, 0.10)
    y1[np.isin(study, whole[:3])] = np.nan
    y2[np.isin(study, whole[3:])] = np.nan
    write("slopes.csv", {"study": study, "z": z, "y1": y1, "y2": y2})
    write("onestep_slopes.csv", {"study": study, "z": z, "y1": y1, "y2": full})


def balanced():
    """30 studies of 10 rows, y1 and y2 alone: with cluster means as predictors FCS has a joint model."""
    rng = np.random.default_rng(20170403)
    study = np.repeat(np.arange(1, 31), 10)
    b = rng.multivariate_normal([0.4, -0.2], [[0.5, -0.2], [-0.2, 0.6]], 30)[study - 1]
    Y = b + rng.multivariate_normal(np.zeros(2), [[1.0, 0.6], [0.6, 1.2]], 300)
    whole = rng.choice(30, 8, replace=False) + 1
    y1, y2 = sporadic(rng, Y[:, 0], 0.10), sporadic(rng, Y[:, 1], 0.10)
    y1[np.isin(study, whole[:4])] = np.nan
    y2[np.isin(study, whole[4:])] = np.nan
    write("balanced.csv", {"study": study, "y1": y1, "y2": y2})


if __name__ == "__main__":
    intercepts()
    slopes()
    balanced()
