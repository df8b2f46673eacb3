"""Normals that are not random, with which an affine function of them becomes known."""

from __future__ import annotations

import numpy as np


class Normals:
    """A generator whose normals are all 0, or, over all its calls, a unit vector: 1 at place `one`."""

    def __init__(self, one: int | None = None) -> None:
        self.one, self.used = one, 0

    def standard_normal(self, size: int | tuple[int, ...]) -> np.ndarray:
        """(size) normals."""
        z = np.zeros(int(np.prod(size)))
        if self.one is not None and 0 <= self.one - self.used < len(z):
            z[self.one - self.used] = 1.0
        self.used += len(z)
        return z.reshape(size)
