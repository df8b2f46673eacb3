"""Names of dimensions and symbols, shared by code, DataTree and documentation.

Symbols (Schafer & Yucel 2002; Kunkel & Kaizar 2017, eq. 1-3)

    Y_i = X_i beta + Z_i B_i + E_i,   rows of E_i ~ N(0, Sigma),   vec(B_i) ~ N(0, Psi)

    m        clusters, i = 1..m                 r   responses (columns of Y)
    n_i      rows of cluster i, N in total      p   columns of X (fixed)
    Y        (N, r), incomplete                q   columns of Z (random)
    beta     (p, r)      Sigma (r, r)      Psi (r q, r q)      B (m, q, r)

vec stacks columns, so effect k*q + l of Psi is the random coefficient of column l of Z on response k.

A *pattern* is a set of responses observed together; a *cell* is a cluster crossed with a pattern.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

# Arrays by the number of their axes, for annotations; docstrings name the axes by the symbols above: beta (p, r).
Vector = NDArray[np.float64]  # (n,)
Matrix = NDArray[np.float64]  # (n, d)
Stack = NDArray[np.float64]  # (k, n, d)
Array = NDArray[np.float64]  # any number of axes
IntVector = NDArray[np.int64]
IntMatrix = NDArray[np.int64]
IntArray = NDArray[np.int64]
Integer = int | np.int64  # both compile to one numba specialisation if the second is written out
BoolVector = NDArray[np.bool_]
BoolMatrix = NDArray[np.bool_]

# Dimensions. `draw` (posterior) and `imputation` (completed table) are never interchangeable.
# "response" and not "variable", and never "group": ArviZ's plots use those two names themselves.
CHAIN = "chain"
DRAW = "draw"
IMPUTATION = "imputation"
CLUSTER = "cluster"
ROW = "row"
RESPONSE = "response"
RESPONSE_2 = "response_2"
FIXED = "fixed"
RANDOM = "random"
EFFECT = "effect"
EFFECT_2 = "effect_2"
CLUSTER_OF_ROW = "cluster_of_row"
RESERVED = frozenset(
    (
        CHAIN,
        DRAW,
        IMPUTATION,
        CLUSTER,
        ROW,
        RESPONSE,
        RESPONSE_2,
        FIXED,
        RANDOM,
        EFFECT,
        EFFECT_2,
        CLUSTER_OF_ROW,
    )
)
INTEGRATED = (
    "integrated out"  # attribute "effects" of a likelihood without cluster effects that is not by cluster
)
SLASH = "\N{DIVISION SLASH}"  # for "/", which separates the groups of a DataTree


def effect_names(responses: list[str], random: list[str]) -> list[str]:
    """Labels of the rows of Psi: ``"written:Intercept"``, response by response."""
    return [f"{response}:{column}" for response in responses for column in random]


def row_dimension(variable: str) -> str:
    """Dimension of a variable's imputed cells in the tree."""
    return f"row_{variable}"


def cluster_coordinate(variable: str) -> str:
    """Coordinate with the cluster of each imputed cell of a variable."""
    return f"cluster_{variable}"


def group_dimension(label: str) -> str:
    """Dimension of the groups of a grouping factor after the first."""
    return f"group_{in_tree(label)}"


def in_tree(name: str) -> str:
    """A name as stored in a DataTree, with "/" replaced by the division slash."""
    return name.replace("/", SLASH)


def tree_names(columns: Iterable[str]) -> dict[str, str]:
    """Column -> variable of the tree: the same name, with "_" appended if a dimension or coordinate has it."""
    taken, names = set(RESERVED), {}
    for column in sorted(columns, key=lambda name: (len(name), name)):  # "y" before "row_y"
        name = in_tree(column)
        while taken & (own := {name, row_dimension(name), cluster_coordinate(name)}):
            name += "_"
        names[column] = name
        taken |= own
    return names


def shown(label: object) -> str:
    """A label as text that every file can hold; null characters and lone surrogates are escaped."""
    return str(label).replace("\0", r"\0").encode("utf-8", "backslashreplace").decode()
