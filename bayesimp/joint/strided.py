"""Chains that keep missing cells for some of their draws: draws, tasks, and the state of a run in files."""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import fields
from typing import Any, Self

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from bayesimp.contract import Run, plain

__all__ = ["StridedDraws", "StridedTask", "read_state", "run_state"]

Array = NDArray[np.float64]


class StridedDraws:
    """Mixin of frozen dataclasses of arrays (chains, D, ...), the last of which is `cells` (chains, D / stride, ...)."""

    cells: Array

    @property
    def _all(self) -> tuple[Array, ...]:
        return tuple(getattr(self, field.name) for field in fields(self))  # type: ignore[arg-type]

    @property
    def arrays(self) -> tuple[Array, ...]:
        """All arrays except the cells."""
        return self._all[:-1]

    @property
    def chains(self) -> int:
        """The number of chains."""
        return self._all[0].shape[0]

    @property
    def draws(self) -> int:
        """The number of draws kept in each chain."""
        return self._all[0].shape[1]

    def truncated(self, draws: int, stride: int) -> Self:
        """The first draws of every chain."""
        parts = (a[:, :draws] for a in self.arrays)
        return type(self)(*parts, self.cells[:, : draws // stride])  # type: ignore[call-arg]  # a dataclass

    def __add__(self, later: Self) -> Self:
        """These draws followed by those of the same chains, continued."""
        pairs = zip(self._all, later._all, strict=True)
        return type(self)(*(np.concatenate(pair, axis=1) for pair in pairs))  # type: ignore[call-arg]


class StridedTask:
    """Mixin for executor tasks that stores their draws.

    Attributes
    ----------
    every
        One in `every` iterations is kept.
    stride
        Cells are kept for one in `stride` kept draws.
    """

    every: int
    stride: int

    @abstractmethod
    def room(self, chains: Sequence[Any], iterations: int) -> Any:
        """Arrays for the draws of these chains."""

    def slots(self, chain: Any, into: Any, place: int, start: int, stop: int) -> tuple[int, list[Array]]:
        """The interval between kept iterations among start .. stop - 1 of a chain, and the arrays that store them.

        into None: none are kept, and the arrays are empty.
        """
        if into is None:
            nothing = self.room([chain], 0)
            return stop - start + 1, [a[0] for a in (*nothing.arrays, nothing.cells)]
        first, last = start // self.every, stop // self.every
        slots = [a[place, first:last] for a in into.arrays]
        return self.every, [*slots, into.cells[place, first // self.stride : last // self.stride]]

    def put(self, into: Any, place: int, start: int, piece: Any) -> None:
        """Copy the draws of one chain into those of all."""
        first = start // self.every
        for a, b in zip(into.arrays, piece.arrays, strict=True):
            a[place, first : first + b.shape[1]] = b[0]
        at = first // self.stride
        into.cells[place, at : at + piece.cells.shape[1]] = piece.cells[0]


def run_state(run: Any, kept: Sequence[str], now: Sequence[str]) -> xr.Dataset:
    """A run as a dataset: kept draws and states of chains by name, generators, events.

    Parameters
    ----------
    run
        An object with `history`, `chains`, `events` and `stride`.
    kept, now
        Names of the arrays of its history and of each chain.
    """
    assert isinstance(run, Run)
    arrays = {f"kept_{name}": getattr(run.history, name) for name in kept}  # type: ignore[attr-defined]
    chains = run.chains  # type: ignore[attr-defined]
    arrays |= {f"now_{name}": np.stack([getattr(chain, name) for chain in chains]) for name in now}
    return xr.Dataset(
        {key: (tuple(f"{key}_{axis}" for axis in range(a.ndim)), a) for key, a in arrays.items()},
        attrs={
            "generators": json.dumps([chain.rng.bit_generator.state for chain in chains]),
            "run_events": json.dumps([event.as_dict() for event in run.events], default=plain),
            "stride": run.stride,  # type: ignore[attr-defined]
        },
    )


def read_state[D, C](
    state: xr.Dataset,
    draws: Callable[..., D],
    kept: Sequence[str],
    chain: Callable[..., C],
    now: Sequence[str],
) -> tuple[D, list[C]]:
    """What `run_state` wrote: draws(*arrays), and for every chain chain(*arrays, generator)."""
    chains = []
    for c, generator in enumerate(json.loads(state.attrs["generators"])):
        rng = np.random.Generator(np.random.PCG64())
        rng.bit_generator.state = generator
        chains.append(chain(*(state[f"now_{name}"].to_numpy()[c].copy() for name in now), rng))
    return draws(*(state[f"kept_{name}"].to_numpy() for name in kept)), chains
