"""Kenward & Roger's covariances and degrees of freedom for fits of a linear mixed model."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from bayesimp.analysis.linear import normal_rows
from bayesimp.analysis.row_model import FormulaRows, effects_covariance
from bayesimp.errors import SpecificationError
from bayesimp.kernels.lmm.kenward_roger import KenwardRoger, kenward_roger

if TYPE_CHECKING:
    from bayesimp.analysis.fits import Fits

__all__ = ["by_kenward_roger"]


def by_kenward_roger(fits: Fits) -> Fits:
    """The fits with adjusted covariances, and the quantities from which their degrees of freedom are computed.

    Raises
    ------
    SpecificationError
        The fits are of another kind, or a table has a variance component at its bound.
    """
    rows = fits.rows
    if (
        not isinstance(rows, FormulaRows)
        or rows.link != "identity"
        or not rows.formula.single_grouping
        or ":" in rows.formula.random[0].group
        or fits.likelihood is not None
    ):
        raise SpecificationError(
            f"{fits.analysis!r}: Kenward & Roger's degrees of freedom are for linear mixed models fitted by REML, "
            "given as a formula with one grouping factor. Give df_complete='satterthwaite' or numbers."
        )
    bound = ~np.isfinite(fits.components).all(axis=1) | fits.singular
    if bound.any():
        raise SpecificationError(
            f"{fits.analysis!r}: in {int(bound.sum())} of {len(fits)} tables a variance is zero or a correlation at "
            "its bound, where Kenward & Roger's expansion does not hold. Give df_complete='satterthwaite', or "
            "simplify the random part."
        )
    made = [_of_table(fits, rows, k) for k in range(len(fits))]
    return replace(
        fits,
        covariances=np.array([each.adjusted for each in made]),
        covariance_spread=np.array([each.spread for each in made]),
        df_covariances=np.array([each.covariance for each in made]),
    )


def _of_table(fits: Fits, rows: FormulaRows, k: int) -> KenwardRoger:
    formula = rows.formula
    names = [*formula.columns, *filter(None, rows.columns.values())]
    frame = rows.tables.frame(k)[list(dict.fromkeys(names))]
    _, weight, X, Z, codes = normal_rows(frame, formula, rows.columns["weights"], rows.columns["offset"])
    sd, R = effects_covariance(fits, k, Z.shape[1])
    root = np.sqrt(weight)[:, None]
    sigma2 = float(np.exp(2 * fits.components[k, -1]))
    correlated = formula.random[0].correlated
    return kenward_roger(root * X, root * Z, codes, sd[:, None] * R * sd, sigma2, correlated=correlated)
