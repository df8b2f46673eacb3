"""Conversion between the scale on which a joint GLMM is sampled and that of the data.

Factor k has working columns X_w = X T_k, each with mean 0 and standard deviation 1 given the terms it contains
(scale/margins.py), and for a normal variable the working response y_w = (y - c) / s; then

    beta = T_k beta_w s_k,  + c_k in the intercept,      b_k = C_k diag(1 / a) b_kw s_k

with C_k and a of each grouping factor, and the effects of all factors have Psi = E Psi_w E', E = C diag(e), C block
diagonal.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from bayesimp.formulas.columns import INTERCEPT
from bayesimp.scale.coefficients import CoefficientScale
from bayesimp.scale.effects import EffectScale
from bayesimp.scale.margins import centred_columns

__all__ = ["EffectColumns", "FactorScale", "JointScale", "effect_columns", "factor_scale", "joint_scale"]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class EffectColumns:
    """The columns of Z on which a factor has effects of one grouping factor.

    Attributes
    ----------
    C
        (q, q), from effects of centred columns of Z to those of the table's columns.
    a
        (q,) standard deviations of the centred columns of Z.
    intercept
        Position of the intercept, or -1.
    """

    C: Array
    a: Array
    intercept: int = -1

    @cached_property
    def random(self) -> Array:
        """(q, q), from working effects to those of the table's columns, in units of the working response."""
        return self.C / self.a


@dataclass(frozen=True)
class FactorScale(CoefficientScale):
    """The scale of one factor.

    Attributes
    ----------
    s, c
        (r,) unit and origin of a normal response; for other families, 1 and a constant in the linear predictor.
    T
        (p, p), from working coefficients to those of the table's columns.
    intercept
        Position of the intercept among the fixed columns, or -1.
    levels
        The columns with effects of the clusters, and of each further grouping factor.
    """

    s: Array
    c: Array
    T: Array
    intercept: int
    levels: tuple[EffectColumns, ...]


@dataclass(frozen=True)
class JointScale(EffectScale):
    """The scale of the effects of all factors: units e (d,) and C (d, d)."""

    effects: Array
    C: Array


def effect_columns(Z: Array, names: Sequence[str]) -> EffectColumns:
    """Columns Z (n, q) in representative rows, without NaN, and their names as spelled in a formula."""
    Z_c, C = centred_columns(Z, names)
    return EffectColumns(C, _spread(Z_c), list(names).index(INTERCEPT) if INTERCEPT in names else -1)


def factor_scale(
    X: Array, fixed: Sequence[str], levels: Sequence[EffectColumns], s: Array, c: Array
) -> FactorScale:
    """The scale of a factor.

    Parameters
    ----------
    X
        (n, p) columns in representative rows; no NaN.
    fixed
        Their names as spelled in a formula.
    levels
        See `FactorScale`.
    s, c
        (r,) unit and origin of the response.
    """
    X_c, T = centred_columns(X, fixed)
    T = T / _spread(X_c)
    intercept = list(fixed).index(INTERCEPT) if INTERCEPT in fixed else -1
    if intercept < 0:
        c = np.zeros_like(c)
    return FactorScale(s, c, T, intercept, tuple(levels))


def joint_scale(scales: Sequence[FactorScale], level: int = 0) -> JointScale:
    """The scale of the effects of several factors at a level, in order, predictor by predictor."""
    effects = [np.concatenate([s / scale.levels[level].a for s in scale.s]) for scale in scales]
    blocks = [scale.levels[level].C for scale in scales for _ in scale.s]
    d = sum(len(block) for block in blocks)
    C, at = np.zeros((d, d)), 0
    for block in blocks:
        C[at : at + len(block), at : at + len(block)] = block
        at += len(block)
    return JointScale(np.concatenate(effects) if effects else np.zeros(0), C)


def _spread(X: Array) -> Array:
    """Standard deviation of each column; its magnitude if it is constant."""
    sd = X.std(axis=0)
    size = np.sqrt((X**2).mean(axis=0)) if len(X) else np.ones(X.shape[1])
    constant = sd <= 1e-10 * np.maximum(size, 1e-300)
    return np.where(constant, np.where(size > 0, size, 1.0), sd)
