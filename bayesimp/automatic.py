"""From a table to imputations in one call."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bayesimp.data.incomplete import IncompleteData
from bayesimp.fcs import FCS
from bayesimp.imputations import Imputations

__all__ = ["impute"]


def impute(
    frame: Any,
    cluster: str,
    m: int = 20,
    *,
    families: Mapping[str, str] | None = None,
    methods: Any = None,
    predictors: Any = None,
    cycles: int = 100,
    seed: int | None = None,
    show: bool = True,
    progress: bool | None = None,
    **options: Any,
) -> Imputations:
    """Impute a table by chained equations, with methods chosen by family, level and number of observed clusters.

    The same as ``FCS(IncompleteData(frame, cluster, families), methods, predictors, **options).impute(m, ...)``.

    Parameters
    ----------
    frame, cluster, families
        See `IncompleteData`.
    m, cycles, seed, progress
        See `FCS.impute`.
    methods, predictors, options
        See `FCS`.
    show
        Print the models that were chosen, and why.

    Examples
    --------
    >>> imp = bi.impute(table, cluster="study", seed=1)     # doctest: +SKIP
    """
    model = FCS(IncompleteData(frame, cluster, families), methods, predictors, **options)
    if show:
        print(model)
    return model.impute(m, cycles=cycles, seed=seed, progress=progress)
