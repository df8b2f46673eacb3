"""Cells, leaves and joint moves read coefficients, effects and dispersion from arrays that follow each draw of a factor.

The chain has them on the sampler's scale; `State` as the kernels of cells read them. After a factor is drawn both say the
same: linear predictors of all rows, shapes, cutpoints and second parameters.
"""

import numpy as np
import pytest

from tests.joint.glmm.test_summed import sampler
from tests.kernels.factors.one_cell import FAMILIES, N, OneCell, table
from tests.kernels.factors.test_cells import case, f

TWO = {"r", "yj", "zb", "hb"}  # families with a second parameter


def drawn(name: str):
    """The sampler, and the number of the factor, after it was drawn; its variable is in the columns of another."""
    slope = f("u + (u | g)", lambda d: (1, d.u), lambda d: (1, d.u))
    child = f(f"{name} + (1 | g)", lambda d: (1, getattr(d, name)))
    cell = OneCell(case(name, u=f("1 + (1 | g)", lambda d: (1,)), **{name: slope, "y": child}))
    before = cell.state.beta.copy(), cell.state.B.copy(), cell.state.shape.copy(), cell.state.cuts.copy()
    assert cell.sampler.update_parameters(cell.k) == 0
    return cell, before


@pytest.mark.parametrize("name", ["x", *(n for n in FAMILIES if n not in ("z", "v"))])
def test_the_state_follows_a_draw(name):
    cell, before = drawn(name)
    k, chain, state, sampler = cell.k, cell.sampler.chain, cell.state, cell.sampler
    rows = np.arange(N)
    X, Z = sampler.rows.design(k, rows)
    block, at = sampler.priors.place[k]
    r, q = cell.model.table.factors[k].predictors, Z.shape[1]
    b = chain.B[block][cell.arrays.cluster, at : at + r * q].reshape(N, r, q)
    eta = cell.arrays.offset[:, [k]] + X @ chain.beta[k] + np.einsum("jq,jrq->jr", Z, b)
    np.testing.assert_allclose(sampler.predictors(k, rows), eta, rtol=1e-9, atol=1e-9)
    moved = sampler.predictors(k, rows)
    state.beta[:], state.B[:] = before[:2]
    assert np.abs(sampler.predictors(k, rows) - moved).min() > 1e-9  # everything was drawn again
    aux = chain.aux[k]
    if name == "x":
        assert state.shape[k] == chain.sd[k] != before[2][k]
    elif name == "o":
        np.testing.assert_allclose(state.cuts[k, :2], [0.0, aux[0]])
    elif len(aux):
        assert state.shape[k] == aux[0] != before[2][k]
        assert (len(aux) > 1) == (name in TWO)
        if name in TWO:
            assert state.cuts[k, 0] == aux[1] != before[3][k, 0]
    else:
        assert name in ("w", "c", "t", "k")


def test_cutpoints_are_sums_of_increments():
    frame = table()[["g", "y"]].assign(o=np.arange(N) % 5 * 1.0)
    frame.loc[::4, "o"] = np.nan
    s = sampler("y ~ o + (1 | g)", {"o": "ordinal"}, frame)
    assert s.update_parameters(0) == 0
    first, second, third = s.chain.aux[0]
    np.testing.assert_allclose(s.state.cuts[0, :4], [0.0, first, first + second, first + second + third])
