"""Rows that a run of the joint normal model has not seen, completed from its draws.

At a draw theta = (beta, Sigma, Psi) given the table of the run, with y_i the observed values of the table and y*_i those
of the new rows of cluster i, missing values integrated out (docs/mathematics.md, sec. 13),

    p(B_i | theta, y_i, y*_i)  prop. to  N(vec(B_i); 0, Psi)  p(y_i | beta, Sigma, B_i)  p(y*_i | beta, Sigma, B_i)

without the factor of y_i in a new cluster, and then missing cells row by row as in joint/rows.py. Both likelihoods are
products over rows, so the statistics of the new rows are added to those of the table, and the code that completes the
table completes the new rows.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from bayesimp.errors import SpecificationError
from bayesimp.formulas.new_rows import new_design
from bayesimp.joint.reference import refuse_new_rows
from bayesimp.joint.rows import impute_rows
from bayesimp.joint.scale import Working, canonical_rows
from bayesimp.kernels.normal.effects import moments
from bayesimp.kernels.normal.statistics import SufficientStatistics, collect
from bayesimp.notation import Array
from bayesimp.sampling.chains import new_rows_rng
from bayesimp.scale.order import cluster_order
from bayesimp.table.new_rows import NewRows

if TYPE_CHECKING:
    from bayesimp.joint.formula_model import FormulaModel
    from bayesimp.joint.normal import JointNormal
    from bayesimp.joint.run import JointRun

__all__ = ["check_shift", "complete_new_rows"]


def complete_new_rows(
    run: JointRun, new: NewRows, m: int, seed: int
) -> dict[str, tuple[NDArray[np.int64], Array]]:
    """See `bayesimp.contract.Run.transform`."""
    model = run.model
    refuse_new_rows(model.reference)
    new.require(model.responses, "response")
    check_shift(model, new)
    moved = model.shift_of(new)
    X, Z = new_design(model.formula, model.design, new)
    Y = np.column_stack([new.numeric(name) for name in model.responses])
    working = _working(model, new, X, Z, Y)
    rngs = [new_rows_rng(seed, k) for k in range(m)]
    values = impute_rows(rngs, working, moments(working.statistics), *run.parameters(range(m)))
    row, cells = working.rows.row, {}
    if model.shift:
        values += moved[row]
    for k, name in enumerate(model.responses):
        rows = np.flatnonzero(np.isnan(Y[:, k]))
        if len(rows):
            cells[name] = rows, values[:, np.argsort(row)[np.searchsorted(np.sort(row), rows)], k]
    return cells


def check_shift(model: FormulaModel, new: NewRows) -> None:
    """Refuse a shift that new rows do not determine, or that depends on a column they lack.

    Raises
    ------
    SpecificationError
        It depends on whether a cluster has observed values.
    """
    if model.shift.where != "missing":
        raise SpecificationError(
            "The model shifts values depending on whether their cluster has observed ones (where = "
            f"{model.shift.where!r}), which "
            "new rows do not show. Impute them with the table, or give the model a shift with where = 'missing'."
        )
    if model.shift.group not in (None, model.data.cluster):
        new.require([model.shift.group], "group of the shift")


def _working(model: JointNormal, new: NewRows, X: Array, Z: Array, Y: Array) -> Working:
    """The new rows on the working scale of the run, with the statistics of their clusters in its table and in them."""
    known = model.grouping.only.working
    scale = known.scale
    X_w, Z_w = X @ scale.T, (Z @ scale.C) / scale.u
    Y_w = Y / scale.s - X_w @ scale.offset
    order, places = _order(known, new, X_w, Z_w, Y)
    codes = np.argsort(order)[new.codes]
    before = _of_clusters(known.statistics, places, len(order))
    statistics = before + collect(X_w, Z_w, Y_w, codes, len(order))
    missing = np.isnan(Y)
    row = np.flatnonzero(missing.any(1))
    rows = canonical_rows(row, X_w, Z_w, Y_w, Y, codes, missing, statistics, scale.offset)
    return Working(statistics, rows, scale, order, known.start)


def _order(
    known: Working, new: NewRows, X_w: Array, Z_w: Array, Y: Array
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The clusters of the new rows in an order that depends on values alone, and positions of the known ones in the run.

    Known clusters come first, in the order of the run.
    """
    place = np.argsort(known.order)
    known_ones, new_ones = np.flatnonzero(~new.is_new), np.flatnonzero(new.is_new)
    known_ones = known_ones[np.argsort(place[new.known[known_ones]])]
    order = known_ones
    if len(new_ones):
        own = np.flatnonzero(new.is_new[new.codes])
        codes = np.searchsorted(new_ones, new.codes[own])
        keys = [X_w[own], Z_w[own]]
        order = np.concatenate([known_ones, new_ones[cluster_order(Y[own], keys, codes, len(new_ones))]])
    return order, place[new.known[known_ones]]


def _of_clusters(st: SufficientStatistics, places: NDArray[np.int64], clusters: int) -> SufficientStatistics:
    """Statistics of some clusters, numbered 0, 1, ... in the order of `places`, among `clusters` in all."""
    number = np.full(st.clusters, -1)
    number[places] = np.arange(len(places))
    kept = np.flatnonzero(number[st.cell_cluster] >= 0)
    return replace(
        st, cell_cluster=number[st.cell_cluster[kept]], cell_pattern=st.cell_pattern[kept],
        cell_rows=st.cell_rows[kept], gram=st.gram[kept], clusters=clusters,
    )  # fmt: skip
