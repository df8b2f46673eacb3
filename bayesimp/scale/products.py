"""Products with means over clusters at centred factors: the same model, whatever the origin, without loss of digits.

A column b mean_i(u v) of a conditional model (fcs/specification/records.py), with b = b_c + h_b and so on, is

    b mean_i(u v) = sum over subsets of its factors, of (h of those left out) x (the centred product of those kept)

so that, if all these products are columns too (as with `compatible=True`), it can be replaced by its centred product:

    X = (a X_w) K,    beta = K^-1 diag(1/a) beta_w diag(s)        K (p*, p*), 1 on the diagonal

At x = 2015..2024 the columns x mean_i(x^2) and those like x^2 agree to seven digits; once centred they do not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product

import numpy as np
from numpy.typing import NDArray

from bayesimp.formulas.columns import INTERCEPT, Column

__all__ = ["centrable", "expansion"]

Array = NDArray[np.float64]
Key = tuple[str, ...]  # b, then u and v in order; INTERCEPT for 1


def centrable(columns: Sequence[Column]) -> list[int]:
    """Positions of the columns with cluster means whose lower products are all columns too, the lowest first."""
    places = {_key(column): k for k, column in enumerate(columns) if _plain(column)}
    found = {key for key in places if key[1:] == (INTERCEPT, INTERCEPT)}
    out = []
    for key in sorted(places, key=lambda key: sum(name != INTERCEPT for name in key)):
        if key not in found and found.issuperset(lower for lower, _ in _parts(key) if lower != key):
            found.add(key)
            out.append(places[key])
    return out


def expansion(columns: Sequence[Column], k: int, centre: Mapping[str, float]) -> Array:
    """Column k of K: a column of `centrable`, in centred products of all. centre: h by base column."""
    places = {_key(column): j for j, column in enumerate(columns) if _plain(column)}
    out = np.zeros(len(columns))
    for key, dropped in _parts(_key(columns[k])):
        out[places[key]] += np.prod([centre[name] for name in dropped])
    return out


def _plain(column: Column) -> bool:
    return not column.within and not column.sum


def _key(column: Column) -> Key:
    u, v = sorted(column.over or (INTERCEPT, INTERCEPT), key=lambda name: (name != INTERCEPT, name))
    return column.base, u, v


def _parts(key: Key) -> list[tuple[Key, list[str]]]:
    """The factors of a product that are kept and those left out, for every subset."""
    out = []
    for keep in product(*([True] if name == INTERCEPT else [True, False] for name in key)):
        b, *pair = (name if stays else INTERCEPT for name, stays in zip(key, keep, strict=True))
        kept = b, *sorted(pair, key=lambda name: (name != INTERCEPT, name))
        out.append((kept, [name for name, stays in zip(key, keep, strict=True) if not stays]))
    return out
