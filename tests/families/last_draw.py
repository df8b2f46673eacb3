"""The last draw of the first chain of a joint GLMM of y given x, with cluster effects kept."""

from __future__ import annotations

import numpy as np
import xarray as xr

import bayesimp as bi


def last_draw(imp: bi.Imputations, tree: xr.DataTree) -> tuple[xr.Dataset, np.ndarray]:
    """The draw, and the linear predictor (N,) of every row of the table."""
    draw, frame = tree["posterior"].to_dataset().isel(chain=0, draw=-1), imp.data.frame
    labels = [str(c) for c in draw["B"].coords["cluster"].values]
    b = draw["B"].values[[labels.index(str(c)) for c in frame["g"]], 0]
    return draw, draw["beta_y"].values[0] + draw["beta_y"].values[1] * frame["x"].to_numpy() + b
