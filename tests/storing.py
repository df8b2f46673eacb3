"""A result saved and loaded, through a file only if a file could change it: files take most of the time.

A file returns numbers and plain text unchanged (tests/test_storage.py saves some of every kind, and all names);
whatever else a result contains goes through a file here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import xarray as xr

import bayesimp as bi
from bayesimp.imputation.storage import from_groups, to_tree


def stored_and_loaded(
    imp: bi.Imputations, folder: Path, post: Mapping[str, Callable] | None = None
) -> bi.Imputations:
    """What `load` gives of a file that `save` wrote."""
    tree = to_tree(imp)
    if is_plain(tree):
        groups = {str(name): group.to_dataset().copy(deep=True) for name, group in tree.items()}
        return from_groups(dict(tree.attrs), groups, post)
    imp.save(folder / "run.nc")
    return bi.load(folder / "run.nc", post=post)


def is_plain(tree: xr.DataTree) -> bool:
    """Whether all arrays are of numbers or printable ASCII, and all attributes of text."""
    for node in tree.subtree:
        arrays = node.to_dataset().variables.values()
        if not all(a.dtype.kind in "biuf" or _is_plain_text(a.values) for a in arrays):
            return False
        texts = [value for part in (node, *arrays) for value in part.attrs.values()]
        if not all(isinstance(text, str) for text in texts):
            return False
    return True


def _is_plain_text(values: np.ndarray) -> bool:
    return all(isinstance(x, str) and x.isascii() and x.isprintable() for x in values.ravel().tolist())
