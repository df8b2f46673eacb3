"""Latent values of observed levels given the means of all rows, with known cutpoints."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from bayesimp.kernels.compiled import kernel
from bayesimp.kernels.latent.values import draw_latent_values
from bayesimp.notation import Matrix, Stack, Vector

if TYPE_CHECKING:
    from bayesimp.kernels.latent.records import LatentColumns, LatentRows

__all__ = ["draw_given_means"]


@kernel(nogil=True)
def draw_given_means(
    rng: np.random.Generator, rows: LatentRows, columns: LatentColumns, W: Stack, mean: Matrix, cutpoints: Vector,
    Y: Matrix,
) -> bool:  # fmt: skip
    """Draw the latent values among Y (N, r) in place; W (A, r, r), mean (N, r): kernels/latent/values.py.

    Returns False if a value lies too far from its bounds.
    """
    known = -1.0  # the rate of increments between cutpoints that are not drawn
    return draw_latent_values(rng, rows, columns, W, mean, known, cutpoints, Y)
