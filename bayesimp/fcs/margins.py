"""Products and powers in conditional models as residuals on the columns that they contain (scale/margins.py)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from bayesimp.fcs.specification.records import Conditionals
from bayesimp.formulas.columns import INTERCEPT, Column, Derived
from bayesimp.formulas.syntax import Name, write
from bayesimp.scale.margins import centred_columns, margins

__all__ = ["Residual", "beside_margins"]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Residual:
    """The residual of a base column, the first of `names`, on its margins: sum_j weights_j names_j."""

    names: tuple[str, ...]
    weights: tuple[float, ...]

    def __call__(self, values: Mapping[str, Array], *_: object) -> Array:
        own, *others = (weight * values[name] for name, weight in zip(self.names, self.weights, strict=True))
        for other in others:
            own = own + other
        return own


def beside_margins(
    spec: Conditionals,
    names: Sequence[str],
    full: Array,
    fitted: NDArray[np.bool_],
    times: NDArray[np.int64] | None = None,
) -> tuple[Conditionals, dict[str, Residual]]:
    """Replace products and powers that have a prior by new base columns, `Residual`, fitted where all parts are observed.

    These are the ones in Z, and those in X if beta has the weak prior of a generalised model (`priors.Weak`). names
    (d,) and full (N, d): base columns in the units of the data; fitted (N,): rows to which models are fitted; times:
    how often each of these counts (None: once). Centring of base columns handles the intercept. Two-stage models have
    no prior, and a user-defined model gets the columns as written.
    """
    found: dict[str, Residual] = {}
    values = dict(zip(names, full.T, strict=True))
    seen = dict(zip(names, full[fitted].T, strict=True))
    blocks = []
    for block in spec.blocks:
        if block.method.centres_products:
            block = replace(block, random=_less_margins(block.random, seen, found, spec.written, times))
            if not block.distribution.is_normal:
                block = replace(block, fixed=_less_margins(block.fixed, seen, found, spec.written, times))
        blocks.append(block)
    if not found:
        return spec, found
    complete = {name: r for name, r in found.items() if set(r.names) <= set(spec.complete)}
    derived = [Derived(name, r.names, r) for name, r in found.items() if name not in complete]
    return replace(
        spec, complete=(*spec.complete, *complete), X=np.column_stack([spec.X, *(r(values) for r in complete.values())]),
        derived=(*spec.derived, *derived), blocks=tuple(blocks),
    ), found  # fmt: skip


def _less_margins(
    part: tuple[Column, ...],
    values: Mapping[str, Array],
    found: dict[str, Residual],
    written: Mapping[str, str],
    times: NDArray[np.int64] | None,
) -> tuple[Column, ...]:
    """X* or Z* with products and powers replaced by their residuals, which are added to `found`."""
    plain = [column for column in part if column.over is None and not column.within]
    own, moved = [column.base for column in plain], {}
    texts = [name if name == INTERCEPT else written.get(name, write(Name(name))) for name in own]
    for l, inside in enumerate(margins(texts)):
        parts = [own[j] for j in inside]
        Z = np.column_stack([values[name] for name in (*parts, own[l])])
        there = ~np.isnan(Z).any(axis=1)
        Z = Z[there]
        if set(parts) <= {INTERCEPT} or len(Z) <= len(parts) + 1:  # no columns, or too few joint observations
            continue
        own_times = None if times is None else times[there]
        weights = centred_columns(Z, [texts[j] for j in (*inside, l)], own_times)[1][:, -1]
        used = [(name, float(g)) for name, g in zip(parts, weights, strict=False) if name != INTERCEPT]
        residual = Residual((own[l], *(name for name, _ in used)), (1.0, *(g for _, g in used)))
        name = f"{own[l]} beside {', '.join(residual.names[1:])}"
        found[name], moved[plain[l]] = residual, replace(plain[l], base=name)
    return tuple(moved.get(column, column) for column in part)
