"""The record that chains keep of every cycle."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bayesimp.fcs.blocks.base import Chain
from bayesimp.fcs.table import ChainedTable

__all__ = ["History", "empty_history"]


@dataclass
class History:
    """The kept cycles of all chains, on the working scale.

    blocks: for each block, arrays (chains, cycles, ...); mean and sd of imputed values, (chains, cycles, m, variables).
    """

    blocks: list[dict[str, np.ndarray]]
    mean: np.ndarray
    sd: np.ndarray

    @property
    def cycles(self) -> int:
        """The number of kept cycles."""
        return self.mean.shape[1]

    def joined(self, other: History, axis: int) -> History:
        """This history followed by later cycles (axis 1) or further chains (axis 0)."""
        blocks = [
            {k: np.concatenate([a[k], b[k]], axis) for k in a}
            for a, b in zip(self.blocks, other.blocks, strict=True)
        ]
        pair = [np.concatenate([getattr(self, f), getattr(other, f)], axis) for f in ("mean", "sd")]
        return History(blocks, *pair)

    def put(self, place: int, start: int, piece: History) -> None:
        """Copy the cycles of one chain, from cycle `start` on, to its place."""
        stop = start + piece.cycles
        for block, own in zip(self.blocks, piece.blocks, strict=True):
            for name, values in own.items():
                block[name][place, start:stop] = values[0]
        self.mean[place, start:stop], self.sd[place, start:stop] = piece.mean[0], piece.sd[0]

    def truncated(self, cycles: int) -> History:
        """The history of the first `cycles` cycles."""
        return History(
            [{k: v[:, :cycles] for k, v in b.items()} for b in self.blocks],
            self.mean[:, :cycles],
            self.sd[:, :cycles],
        )


def empty_history(table: ChainedTable, chains: Sequence[Chain], cycles: int) -> History:
    """Uninitialised arrays for the cycles of these chains."""
    n = len(chains)
    blocks = [
        {name: np.empty((n, cycles, *value.shape)) for name, value in theta.kept().items()}
        for theta in chains[0].theta
    ]
    r = len(table.names) - table.p - len(table.derived)
    shape = n, cycles, table.clusters, r
    return History(blocks, np.empty(shape), np.empty(shape))
