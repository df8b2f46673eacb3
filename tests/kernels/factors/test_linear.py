"""The kernel of normal cells that concern their own row alone, against the one for all cells: cell by cell, with the same
random numbers, so the same values up to rounding. Which cells it takes."""

from dataclasses import replace

import numpy as np
import pytest

from bayesimp.kernels.factors import cells as module
from bayesimp.kernels.factors.arrays import workspace
from bayesimp.kernels.factors.cells import draw_each_cell
from bayesimp.kernels.factors.linear import draw_linear_cells
from tests.kernels.factors.one_cell import OneCell
from tests.kernels.factors.test_cells import NUMBERS

ALONE = [name for name, (_, kind) in NUMBERS.items() if kind == module.GAUSSIAN]


def all_cells(case) -> tuple[OneCell, tuple]:
    """A case with all its missing cells, and the arguments of the kernels."""
    cell = OneCell(case)
    tab, k = cell.model.table, np.int64(cell.k)
    work = workspace(tab.arrays, tab.cells, k)
    return cell, (k, tab.arrays, tab.cells, tab.programs, tab.means, tab.divisor, cell.state, work)


def takes(monkeypatch, arguments) -> bool:
    """Whether `draw_cells` leaves the cells to the kernel for linear ones."""
    monkeypatch.setattr(module, "draw_linear_cells", lambda *_: -1)
    monkeypatch.setattr(module, "draw_each_cell", lambda *_: -2)
    return module.draw_cells(None, *arguments) == -1


@pytest.mark.parametrize("name", ALONE)
def test_both_kernels_draw_the_same(name, monkeypatch):
    given, _ = NUMBERS[name]
    one, first = all_cells(given)
    other, second = all_cells(replace(given))
    k, arrays, cells, programs, _, _, state, work = first
    alone = not (arrays.at_cluster[k] or cells.wide[cells.child[k] : cells.child[k + 1]].any())
    assert takes(monkeypatch, first) == alone
    if not alone:
        return
    before, rows = state.Y[:, k].copy(), cells.row[cells.start[k] : cells.start[k + 1]]
    for c in range(cells.start[k], cells.start[k + 1]):
        start = np.where(np.arange(len(cells.start)) > k, 1, 0)
        own = cells._replace(
            start=start, row=cells.row[c : c + 1], lower=cells.lower[c : c + 1], upper=cells.upper[c : c + 1]
        )
        one.rng.random(2)  # `draw_each_cell` prepares a search that it does not make
        assert draw_linear_cells(one.rng, k, arrays, own, programs, state, work) == 0
    assert draw_each_cell(other.rng, *second) == 0
    assert len(rows) > 3 and (state.Y[rows, k] != before[rows]).all()
    for a, b in zip((state.Y, state.V, state.X), (other.state.Y, other.state.V, other.state.X), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-10)


def test_some_cases_are_of_each_kind(monkeypatch):
    taken = {takes(monkeypatch, all_cells(NUMBERS[name][0])[1]) for name in ALONE}
    assert taken == {True, False}
