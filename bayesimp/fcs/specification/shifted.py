"""Check that conditional models can shift their imputed values (`bayesimp.shift`), before sampling."""

from __future__ import annotations

from bayesimp.errors import SpecificationError
from bayesimp.fcs.specification.records import Conditionals
from bayesimp.shift import Shift
from bayesimp.table.incomplete import IncompleteData

__all__ = ["checked_shift"]


def checked_shift(shift: Shift | None, spec: Conditionals, data: IncompleteData) -> Shift:
    """The shift, with groups and levels checked against the table; refused if a block cannot apply it.

    Raises
    ------
    SpecificationError
        A PyMC model draws the values; levels have separate shifts but the values are drawn given an analysis; or the
        groups vary within clusters and the variable is cluster-level.
    """
    shift = (Shift() if shift is None else shift).checked(spec.incomplete, data)
    for block in spec.blocks:
        for name in block.responses:
            if name not in shift.moved:
                continue
            if why := block.method.no_shift(block.distribution):
                raise SpecificationError(f"'{name}': {why}")
            if name in spec.drawn and shift.by_level(name):
                raise SpecificationError(
                    f"shift of '{name}': if values are drawn given an analysis (analysis=), all levels move relative "
                    "to the first by the same number. Give one number, or leave analysis= out."
                )
            if block.method.level == "cluster":
                shift.check_constant(name, data)
    return shift
