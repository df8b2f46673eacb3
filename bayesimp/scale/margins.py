"""Columns of Z less what they contain: the centre that priors of Psi are given at (priors/centred.py).

A product contains its factors, a power the lower powers, and every column the intercept: its margins M(l). At another
origin of x the column x w becomes x w + c w and x^2 becomes x^2 + 2 c x + c^2; what is left of a column beside its
margins stays the same. With g the least-squares fit,

    z_cl = z_l - sum_{j in M(l)} g_jl z_j,    Z_c = Z C,    b = C b_c

For x itself this is x less its mean. Columns that do not contain each other stay as they are beside each other, however
they are correlated, so that the order of a formula does not matter.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from bayesimp.events import Event
from bayesimp.fcs.specification.records import INTERCEPT, Column, Conditionals, Derived
from bayesimp.formulas.syntax import Call, Minus, Name, Node, Number, Op, Text, read, write
from bayesimp.methods import TwoStage

__all__ = ["Residual", "alike", "beside_margins", "centred_columns", "margins"]

Array = NDArray[np.float64]
ALIKE = 0.99  # share of a centred column that the others explain, above which the prior decides between them


def margins(texts: Sequence[str]) -> list[list[int]]:
    """For each column, as a formula spells it, which others it contains: ``x:sex[M]``, ``I(x**2)``, ``Intercept``."""
    contents = [Counter() if text == INTERCEPT else _contents(read(text)) for text in texts]
    return [[j for j, part in enumerate(contents) if part < whole] for whole in contents]


def _contents(node: Node) -> Counter:
    """How often each factor is in a term; what stands in I(...) counts, and the whole of it once more."""
    match node:
        case Op(":" | "*" | "/", left, right):
            return _contents(left) + _contents(right)
        case Op("+" | "-", left, right):
            return _contents(left) | _contents(right)
        case Op("**", base, Number(int() as power)):
            return Counter({factor: power * n for factor, n in _contents(base).items()})
        case Minus(argument):
            return _contents(argument)
        case Call("I", (argument,)):
            return _contents(argument) + Counter([write(node)])
        case Number() | Text():
            return Counter()
    return Counter([write(node)])


def centred_columns(Z: Array, names: Sequence[str]) -> tuple[Array, Array]:
    """Z_c (N, q) and C (q, q) of the module; names (q,), as a formula spells them: `INTERCEPT` is a constant column."""
    Z_c, C = np.array(Z, dtype=float), np.eye(Z.shape[1])
    inside = margins(names)
    for l in sorted(range(len(names)), key=lambda l: len(inside[l])):
        for j in (j for j in inside[l] if names[j] == INTERCEPT):
            mean = Z_c[:, l].mean() / Z[0, j]
            Z_c[:, l] -= mean * Z[0, j]
            C[j, l] -= mean
        others = [j for j in inside[l] if names[j] != INTERCEPT]
        if others:
            g = np.linalg.lstsq(Z_c[:, others], Z_c[:, l], rcond=None)[0]
            Z_c[:, l] -= Z_c[:, others] @ g
            C[:, l] -= C[:, others] @ g
    return Z_c, C


def alike(Z_c: Array, names: Sequence[str], where: str) -> list[Event]:
    """An event where slopes are on columns that, centred, are nearly combinations of each other.

    Such are x and its square made in the table, far from 0: nothing says that one contains the other.
    """
    varying = np.flatnonzero(np.ptp(Z_c, axis=0) > 0) if len(Z_c) else np.array([], dtype=np.int64)
    if len(varying) < 2:
        return []
    own = Z_c[:, varying] - Z_c[:, varying].mean(axis=0)
    own /= np.sqrt((own**2).sum(axis=0))
    explained = 1.0 - 1.0 / np.diagonal(np.linalg.inv(own.T @ own + 1e-12 * np.eye(len(varying))))
    near = [names[l] for l, share in zip(varying, explained, strict=True) if share > ALIKE]
    if not near:
        return []
    most = np.floor(1e4 * explained.max()) / 100
    text = (
        f"random slopes on {', '.join(map(repr, near))}: beside the intercept, the others explain up to {most:g} % of a "
        "column, and the prior gives what tells their slopes apart next to no variance. Powers and products are to be "
        "written in the formula, I(x**2) and x:w, which are told apart; or centre in the table what they are made of"
    )
    return [Event("prior matters", where, text, len(near))]


@dataclass(frozen=True)
class Residual:
    """What is left of a base column, the first of `names`, beside its margins: sum_j weights_j names_j."""

    names: tuple[str, ...]
    weights: tuple[float, ...]

    def __call__(self, values: Mapping[str, Array], *_) -> Array:
        own, *others = (weight * values[name] for name, weight in zip(self.names, self.weights, strict=True))
        for other in others:
            own = own + other
        return own


def beside_margins(
    spec: Conditionals, names: Sequence[str], full: Array, fitted: NDArray[np.bool_]
) -> tuple[Conditionals, dict[str, Residual]]:
    """Products and powers that have a prior, on new base columns: `Residual`, fitted where all of it is observed.

    Those of Z, and those of X where beta has the weak prior of a generalised model (`priors.Weak`). names (d,), full
    (N, d): base columns in the units of the data; fitted (N,): rows to which models are fitted. The intercept's share is
    left to the centring of base columns.
    Two-stage models have no prior, a model of the user's own is given the columns as they are.
    """
    found: dict[str, Residual] = {}
    values = dict(zip(names, full.T, strict=True))
    seen = dict(zip(names, full[fitted].T, strict=True))
    blocks = []
    for block in spec.blocks:
        if not (isinstance(block.method, TwoStage) or getattr(block.method, "model", None)):
            block = replace(block, random=_less_margins(block.random, seen, found, spec.written))
            if block.family != "normal":
                block = replace(block, fixed=_less_margins(block.fixed, seen, found, spec.written))
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
) -> tuple[Column, ...]:
    """X* or Z* with products and powers on what is left of them, which is added to `found`."""
    plain = [column for column in part if column.over is None and not column.within]
    own, moved = [column.base for column in plain], {}
    texts = [name if name == INTERCEPT else written.get(name, write(Name(name))) for name in own]
    for l, inside in enumerate(margins(texts)):
        parts = [own[j] for j in inside]
        Z = np.column_stack([values[name] for name in (*parts, own[l])])
        Z = Z[~np.isnan(Z).any(axis=1)]
        if set(parts) <= {INTERCEPT} or len(Z) <= len(parts) + 1:  # nothing, or seen together in hardly a row
            continue
        weights = centred_columns(Z, [texts[j] for j in (*inside, l)])[1][:, -1]
        used = [(name, float(g)) for name, g in zip(parts, weights, strict=False) if name != INTERCEPT]
        residual = Residual((own[l], *(name for name, _ in used)), (1.0, *(g for _, g in used)))
        name = f"{own[l]} beside {', '.join(residual.names[1:])}"
        found[name], moved[plain[l]] = residual, replace(plain[l], base=name)
    return tuple(moved.get(column, column) for column in part)
