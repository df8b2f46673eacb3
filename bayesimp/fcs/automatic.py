"""From a table to imputations in one call."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from inspect import signature
from typing import Any

from bayesimp.diagnostics.convergence import glance
from bayesimp.errors import SpecificationError, StatisticalWarning
from bayesimp.fcs.model import FCS
from bayesimp.imputation.result import Imputations
from bayesimp.sections import possible
from bayesimp.table.incomplete import IncompleteData

__all__ = ["impute"]


def impute(
    frame: Any,
    cluster: str,
    m: int = 20,
    *,
    families: Mapping[str, str] | None = None,
    methods: Any = None,
    predictors: Any = None,
    cycles: int | None = None,
    seed: int | None = None,
    show: bool = True,
    progress: bool | None = None,
    **options: Any,
) -> Imputations:
    """Impute a table by chained equations, with methods chosen by family, level and number of observed clusters.

    This is ``FCS(IncompleteData(frame, cluster, families), methods, predictors, **options).impute(m, ...)``.

    Parameters
    ----------
    frame, cluster, families
        See `IncompleteData`.
    m, cycles, seed, progress
        See `FCS.impute`.
    methods, predictors, options
        See `FCS`.
    show
        Print the models that were chosen, with reasons, and at the end one line that says whether the chains have
        converged and, if not, what to do (`Imputations.summary` has details by parameter and cluster).

    Raises
    ------
    DataError, SpecificationError
        As for `IncompleteData` and `FCS`; also for an option that `FCS` does not have.

    Warns
    -----
    StatisticalWarning
        The chains do not mix (whatever `show`). If they mix but there are too few draws, this is only printed.

    Examples
    --------
    >>> imp = bi.impute(table, cluster="study", seed=1)     # doctest: +SKIP
    """
    for name in options:
        if name not in (takes := list(signature(FCS.__init__).parameters)[2:]):
            raise SpecificationError(
                f"impute: {name!r} is no option of FCS; {possible(name, takes)}. Options of a run, as tune and workers, "
                "need two steps: bi.FCS(bi.IncompleteData(table, cluster='...')).impute(m, tune=...)."
            )
    model = FCS(IncompleteData(frame, cluster, families), methods, predictors, **options)
    if show:
        print(model)
    imputations = model.impute(m, cycles=cycles, seed=seed, progress=progress)
    seen = glance(imputations)
    if show:
        print(seen.verdict)
    if seen.judged and not seen.mixes:
        warnings.warn(seen.verdict, StatisticalWarning, stacklevel=2)
    return imputations
