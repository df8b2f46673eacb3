"""Columns of Z less what they contain: the centre that priors of Psi are given at (spec/centred.py).

A product contains its factors, a power the lower powers, and every column the intercept: its margins M(l). At another
origin of x the column x w becomes x w + c w and x^2 becomes x^2 + 2 c x + c^2; what is left of a column beside its
margins stays the same. With g the least-squares fit,

    z_cl = z_l - sum_{j in M(l)} g_jl z_j,    Z_c = Z C,    b = C b_c

For x itself this is x less its mean. Columns that do not contain each other stay as they are beside each other, however
they are correlated, so that the order of a formula does not matter.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from bayesimp.events import Event
from bayesimp.spec.conditional import INTERCEPT, Column, Conditionals, Derived
from bayesimp.spec.methods import TwoStage

__all__ = ["Residual", "alike", "beside_margins", "centred_columns", "margins"]

Array = NDArray[np.float64]
ALIKE = 0.99  # share of a centred column that the others explain, above which the prior decides between them


def margins(names: Sequence[str]) -> list[list[int]]:
    """For each column, by its name, which others it contains: ``"x:sex[M]"``, ``"I(x ** 2)"``, ``"Intercept"``."""
    atoms = {atom for name in names for atom in _factors(name) if not atom.startswith("I(")}
    contents = [Counter() if name == INTERCEPT else _contents(name, atoms) for name in names]
    return [[j for j, part in enumerate(contents) if part < whole] for whole in contents]


def _factors(name: str) -> list[str]:
    """``"x:log(w)"`` -> x, log(w); a colon in parentheses or brackets does not count."""
    return re.findall(r"(?:[^:(\[]|\([^)]*\)|\[[^\]]*\]|[(\[])+", name)


def _contents(name: str, atoms: set[str]) -> Counter:
    """How often each factor is in a column; a power in I(...) counts for all that stands there, for names of columns
    have lost their parentheses: ``"I(x - 1 ** 2)"`` is (x - 1)^2. One factor too many does no harm."""
    count: Counter = Counter()
    for factor in _factors(name):
        if not factor.startswith("I(") or "(" in factor[2:]:
            count[factor] += 1
            continue
        power = max((int(k) for k in re.findall(r"\*\* (\d+)", factor)), default=1)
        left = factor[2:-1]
        for atom in sorted(atoms, key=len, reverse=True):
            left, found = re.subn(rf"(?<!\w){re.escape(atom)}(?!\w)", " ", left)
            count[atom] += found * power
        count[factor] += 1
    return +count


def centred_columns(Z: Array, names: Sequence[str]) -> tuple[Array, Array]:
    """Z_c (N, q) and C (q, q) of the module; names (q,): `INTERCEPT` is a constant column."""
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
    varying = np.flatnonzero(np.ptp(Z_c, axis=0) > 0) if len(Z_c) else []
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

    def __call__(self, values: Mapping[str, Array]) -> Array:
        return sum(weight * values[name] for name, weight in zip(self.names, self.weights, strict=True))


def beside_margins(
    spec: Conditionals, names: Sequence[str], full: Array
) -> tuple[Conditionals, dict[str, Residual]]:
    """Random columns of blocks with products or powers, on new base columns: `Residual`, fitted where all is observed.

    names (d,), full (N, d): base columns in the units of the data. The intercept's share is left to the centring of base
    columns. Two-stage models have no prior of Psi.
    """
    at, found = {name: k for k, name in enumerate(names)}, dict[str, Residual]()
    blocks = []
    for block in spec.blocks:
        own = [c.base for c in block.random if c.over is None and not c.within]
        inside = margins(own)
        Z = full[:, [at[name] for name in own]]
        Z = Z[~np.isnan(Z).any(axis=1)]
        few = len(Z) <= len(own)  # seen together in hardly a row
        if few or isinstance(block.method, TwoStage) or all(len(part) < 2 for part in inside):
            blocks.append(block)
            continue
        C = centred_columns(Z, own)[1]
        moved: dict[str, str] = {}
        for l, name in enumerate(own):
            parts = [j for j in inside[l] if own[j] != INTERCEPT]
            if parts:
                residual = Residual((name, *(own[j] for j in parts)), (1.0, *(float(C[j, l]) for j in parts)))
                moved[name] = f"{name} beside {', '.join(residual.names[1:])} ({block.name})"
                found[moved[name]] = residual
        random = tuple(_on(column, moved) for column in block.random)
        blocks.append(replace(block, random=random))
    if not found:
        return spec, found
    complete = {name: r for name, r in found.items() if set(r.names) <= set(spec.complete)}
    columns = [r({name: full[:, at[name]] for name in r.names}) for r in complete.values()]
    derived = [Derived(name, r.names, r) for name, r in found.items() if name not in complete]
    return replace(
        spec, complete=(*spec.complete, *complete), X=np.column_stack([spec.X, *columns]),
        derived=(*spec.derived, *derived), blocks=tuple(blocks),
    ), found  # fmt: skip


def _on(column: Column, moved: Mapping[str, str]) -> Column:
    plain = column.over is None and not column.within
    return replace(column, base=moved[column.base]) if plain and column.base in moved else column
