"""Counts and cross products of a whole table, summed over its parts.

Parts may divide clusters: cells are found by the label of their cluster and by which responses are observed in them.
Memory is that of the cells, (number of cells) d^2 numbers with d = 1 + v + r, and of one batch of rows.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bayesimp.federated.agreement import Agreement
from bayesimp.federated.release import SiteRelease
from bayesimp.notation import Array
from bayesimp.partitioned.rows import FEW, BatchMoments, Place
from bayesimp.scale.order import order_of_keys

__all__ = ["CellSums", "TableMoments"]


@dataclass(frozen=True)
class TableMoments:
    """What a pass over all rows leaves.

    Attributes
    ----------
    codes
        Position of each cluster in an order that depends on values alone (`bayesimp.scale.order`), by label.
    cell_cluster, patterns, products
        Cells: cluster (C,), responses observed (C, r), cross products (C, d, d) of [1 | covariates | responses] about the
        centre.
    seen
        (m, r) observed values of each response in each cluster.
    low, high
        (m, r) least and largest of them.
    values
        For each response up to `FEW` of its distinct values.
    ties
        Clusters whose order depends on their labels, because all of the above agree.
    """

    place: Place
    codes: dict[Hashable, int]
    cell_cluster: NDArray[np.int64]
    patterns: NDArray[np.bool_]
    products: Array
    seen: NDArray[np.int64]
    low: Array
    high: Array
    values: tuple[Array, ...]
    ties: int

    @property
    def rows(self) -> int:
        """Number of rows of the table."""
        return round(float(self.products[:, 0, 0].sum()))

    def release(self, agreement: Agreement) -> SiteRelease:
        """The table as a site that releases everything, which `bayesimp.federated.merge` puts on the working scale."""
        place, n = self.place, self.rows
        return SiteRelease(
            "table", agreement, 0, place.fixed, place.random, place.random_terms, place.covariates, place.centre,
            self.cell_cluster, self.patterns, self.products, {"rows": n, "released": n}, {},
        )  # fmt: skip


class CellSums:
    """Sums over batches of rows."""

    def __init__(self, place: Place) -> None:
        self.place = place
        r, d = len(place.centre) - len(place.covariates), 1 + len(place.centre)
        self.codes: dict[Hashable, int] = {}
        self.cells: dict[tuple[int, int], int] = {}  # (cluster, pattern as bits) -> position
        self.products = np.zeros((64, d, d))
        self.low, self.high = np.full((64, r), np.inf), np.full((64, r), -np.inf)
        self.values: list[Array] = [np.empty(0)] * r

    def add(self, batch: BatchMoments) -> None:
        """Add what a pass over further rows has left."""
        st, codes = batch.statistics, self.codes
        own = np.array([codes.setdefault(label, len(codes)) for label in batch.labels], dtype=np.int64)
        self.low, self.high = _room(self.low, len(codes), np.inf), _room(self.high, len(codes), -np.inf)
        self.low[own] = np.minimum(self.low[own], batch.low)
        self.high[own] = np.maximum(self.high[own], batch.high)
        self.values = [
            np.unique(np.concatenate(pair))[:FEW] for pair in zip(self.values, batch.values, strict=True)
        ]
        bits = [sum(1 << k for k in np.flatnonzero(pattern)) for pattern in st.patterns]
        keys = zip(own[st.cell_cluster].tolist(), (bits[a] for a in st.cell_pattern), strict=True)
        at = np.array([self.cells.setdefault(key, len(self.cells)) for key in keys], dtype=np.int64)
        self.products = _room(self.products, len(self.cells), 0.0)
        self.products[at] += st.gram

    def table(self) -> TableMoments:
        """The sums, with clusters in their order."""
        m, C, r = len(self.codes), len(self.cells), self.low.shape[1]
        keys = np.array(list(self.cells), dtype=object).reshape(C, 2)
        cluster = keys[:, 0].astype(np.int64)
        patterns = np.array([[bits >> k & 1 for k in range(r)] for bits in keys[:, 1]], dtype=bool)
        products = self.products[:C]
        rows = np.rint(products[:, 0, 0]).astype(np.int64)
        seen = np.zeros((m, r), dtype=np.int64)
        np.add.at(seen, cluster, patterns * rows[:, None])
        n, low, high = np.bincount(cluster, rows, m), self.low[:m], self.high[:m]
        labels = _sorted(list(self.codes))
        by_label = np.array([self.codes[label] for label in labels], dtype=np.int64)
        numbers = [n, *(each for k in range(r) for each in (seen[:, k], low[:, k], high[:, k]))]
        order, differs = order_of_keys([each[by_label] for each in numbers])
        canonical = np.empty(m, dtype=np.int64)
        canonical[by_label[order]] = np.arange(m)
        codes = {label: int(canonical[code]) for label, code in self.codes.items()}
        ties = int((~(np.append(True, differs) & np.append(differs, True))).sum())
        back = by_label[order]
        return TableMoments(
            self.place, codes, canonical[cluster], patterns, products, seen[back], low[back], high[back],
            tuple(self.values), ties,
        )  # fmt: skip


def _room(array: Array, size: int, fill: float) -> Array:
    """The array with room for `size` entries along its first axis."""
    if size <= len(array):
        return array
    grown = np.full((max(size, 2 * len(array)), *array.shape[1:]), fill)
    grown[: len(array)] = array
    return grown


def _sorted(labels: list[Hashable]) -> list[Hashable]:
    try:
        return sorted(labels)  # type: ignore[type-var]
    except TypeError:
        return labels
