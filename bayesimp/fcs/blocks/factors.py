"""Conditional models of chained equations as factors, for values drawn given analyses, or within limits.

    p(x | w, y)  ~  p(x | w, v) p(y | x, w, u)

The first factor is the model of x given the other covariates, the second the analysis. They are like the factors of a
joint GLMM (joint/glmm/table.py), whose kernels draw the values, but the models of other covariates, in which x is a
predictor, are not part of the distribution of x. That is what makes these chained equations. A censored variable in no
analysis has the first factor only. Each factor has the working scale of its block (fcs/scale.py), and hence the priors
of an ordinary block.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from bayesimp import priors as pr
from bayesimp.contract import Shift
from bayesimp.fcs.blocks.rows import BlockRows
from bayesimp.fcs.scale import BlockScale, ChainedBlock
from bayesimp.fcs.specification.records import ConditionalModel, Conditionals, formula_text
from bayesimp.fcs.table import ChainedTable
from bayesimp.formulas.base_columns import BaseColumns
from bayesimp.formulas.predictors import predictors
from bayesimp.joint.glmm.factors import Factor, made_factor
from bayesimp.joint.glmm.prior import FactorPriors, factor_priors
from bayesimp.joint.glmm.scale import EffectColumns, FactorScale, joint_scale
from bayesimp.joint.glmm.table import FactorTable, factor_table
from bayesimp.kernels.factors.arrays import Work, workspace
from bayesimp.table.incomplete import IncompleteData

__all__ = ["Holes", "Substantive", "substantive"]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Holes:
    """Cells of one variable that the loop imputes, in the row orders of the loop and of the factors.

    Attributes
    ----------
    variable, column
        Its position among the variables of the factors, and among the incomplete columns of the loop.
    loop, row
        (h,) positions of the cells among the incomplete rows of the loop, and among the rows of the factors.
    """

    variable: int
    column: int
    loop: NDArray[np.int64]
    row: NDArray[np.int64]


@dataclass(frozen=True)
class Substantive:
    """The models of variables whose values are drawn given analyses.

    Attributes
    ----------
    names
        Names of the variables, in the order of the factors.
    table, priors
        In the form that the sampler of factors uses.
    holes
        Name -> cells that the loop imputes, for these variables and for other predictors.
    work
        Work space of each factor, copied at each visit.
    """

    names: tuple[str, ...]
    table: FactorTable
    priors: FactorPriors
    holes: dict[str, Holes]
    work: tuple[Work, ...]


def substantive(spec: Conditionals, data: IncompleteData, chained: ChainedTable, shift: Shift) -> Substantive:
    """The blocks of `spec.drawn` as factors.

    Raises
    ------
    SpecificationError
        A formula has a column that cannot be computed value by value, or a function whose domain does not include all
        values that can be imputed; or a prior has no conjugate update.
    """
    blocks = {block.name: block for block in spec.blocks if block.name in spec.drawn}
    idle = tuple(n for n in data.variables if data.missing(n).any() and n not in spec.incomplete)
    base = BaseColumns(data, spec.incomplete, idle)
    factors = tuple(_factor(block, spec, data, base) for block in blocks.values())
    table = factor_table(data, factors, base, Shift(), analyses_only=True)
    own = {c.block.name: c for c in chained.blocks}
    table = _on_scale_of_blocks(table, [own[name] for name in blocks], [_unit(chained, n) for n in blocks])
    table = _shifted(table, shift, data)
    priors = _priors(table, list(blocks.values()))
    work = tuple(workspace(table.arrays, table.cells, k) for k in range(len(factors)))
    return Substantive(tuple(blocks), table, priors, _holes(table, spec, chained), work)


def _factor(block: ConditionalModel, spec: Conditionals, data: IncompleteData, base: BaseColumns) -> Factor:
    formula = predictors(formula_text(block, data.cluster, spec.written))
    factor = made_factor(data, block.name, formula, base, block.name in spec.analyses, block.method.link)
    for mine, theirs in ((block.fixed, factor.fixed), (block.random, factor.random)):
        assert [c.name for c in mine] == [c.name for c in theirs], (mine, theirs)
    return factor


def _unit(chained: ChainedTable, name: str) -> float:
    """The divisor of a response that is not normal."""
    number = next(b for b, c in enumerate(chained.blocks) if c.block.name == name)
    return BlockRows(chained, number).unit


def _on_scale_of_blocks(table: FactorTable, blocks: list[ChainedBlock], units: list[float]) -> FactorTable:
    """The table with the working scales of the blocks."""
    a, scales = table.arrays, []
    center, unit, Y = a.center.copy(), a.unit.copy(), table.Y.copy()
    for k, (chained, of_mean) in enumerate(zip(blocks, units, strict=True)):
        s: BlockScale = chained.scale
        q = len(chained.block.random)
        scales.append(FactorScale(s.s, s.c, s.T, s.intercept, (EffectColumns(s.C, s.s[0] / s.effects[:q]),)))
        if chained.block.distribution.is_standardised:
            center[k], unit[k] = s.c[0] if s.intercept >= 0 else 0.0, s.s[0]
        else:
            center[k], unit[k] = 0.0, of_mean
        if a.level[k + 1] == a.level[k]:
            Y[:, k] = (table.V[:, a.variable[k]] - center[k]) / unit[k]
    observed = tuple(np.sort(y[~np.isnan(y)]) for y in Y.T)
    return replace(
        table, arrays=a._replace(center=center, unit=unit), Y=Y, observed=observed, scales=tuple(scales),
        joint=joint_scale(scales),
    )  # fmt: skip


def _shifted(table: FactorTable, shift: Shift, data: IncompleteData) -> FactorTable:
    """The table with the shift as an offset for missing values, in units of the working response."""
    a, offset = table.arrays, table.arrays.offset.copy()
    for k, factor in enumerate(table.factors):
        unit = a.unit[k] if factor.family.is_standardised else 1.0
        moved = shift.rows(factor.response, data)[table.row, 0] / unit
        offset[:, k] = 0.0
        offset[table.free[k], k] = moved[table.free[k]]
    return replace(table, arrays=a._replace(offset=offset))


def _priors(table: FactorTable, blocks: list[ConditionalModel]) -> FactorPriors:
    """The priors of each block's method, or the default priors."""
    own = [
        factor_priors(table, block.method.priors or pr.default(), separate=True, only=k)
        for k, block in enumerate(blocks)
    ]
    return FactorPriors(
        [p.beta[k] for k, p in enumerate(own)], [p.variance[k] for k, p in enumerate(own)], own[0].blocks,
        [p.updates[k] for k, p in enumerate(own)], [p.known[k] for k, p in enumerate(own)],
        np.array([p.known_sd[k] for k, p in enumerate(own)]),
    )  # fmt: skip


def _holes(table: FactorTable, spec: Conditionals, chained: ChainedTable) -> dict[str, Holes]:
    """The cells of every imputed variable in the formulas."""
    place = np.empty(len(table.row), dtype=np.int64)
    place[table.row] = np.arange(len(table.row))
    found = {}
    for v, name in enumerate(table.variables):
        if name not in spec.incomplete:
            continue
        k = chained.names.index(name)
        loop = np.flatnonzero(chained.holes(k))
        found[name] = Holes(v, k - chained.p, loop, place[chained.row[loop]])
    return found
