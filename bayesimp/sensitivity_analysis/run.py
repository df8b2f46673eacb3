"""One model is imputed, analysed and pooled under several priors, all from the same seed."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from bayesimp import priors as pr
from bayesimp.analysis.fit import Fits, fit_each
from bayesimp.arguments import new_seed
from bayesimp.contract import ImputationModel, must_be_model
from bayesimp.errors import PACKAGE, DataError, SpecificationError, StatisticalWarning
from bayesimp.events import Event, EventTable
from bayesimp.imputation.result import Imputations
from bayesimp.kinds import check_keywords
from bayesimp.sensitivity_analysis.checks import (
    as_events,
    check_analysis,
    interrupted,
    names_of,
)
from bayesimp.sensitivity_analysis.distances import distance_table
from bayesimp.sensitivity_analysis.grid import default_grid, named
from bayesimp.sensitivity_analysis.result import ReadOnly, Sensitivity
from bayesimp.sensitivity_analysis.resume import KeptGrid
from bayesimp.sensitivity_analysis.tables import model_table, not_converged, pooled_table

__all__ = ["sensitivity"]


def sensitivity(
    model: ImputationModel,
    priors: Mapping[str, pr.Priors] | Iterable[pr.Priors] | None = None,
    *,
    analysis: str | Callable,
    m: int = 60,
    reference: str | None = None,
    seed: int | None = None,
    level: float = 0.95,
    family: str = "normal",
    reml: bool = True,
    folder: str | os.PathLike[str] | None = None,
    **impute: Any,
) -> Sensitivity:
    """Impute, analyse and pool under each of several priors.

    Parameters
    ----------
    model
        Any `ImputationModel`: `JointNormal`, `FCS`. Its own prior is used only if it is among `priors`.
    priors
        Priors by name, or a list of priors, named by ``Priors.name``. By default `default_grid`; those of its priors that
        the model does not accept are left out with a warning and an event.
    analysis, family, reml
        As in `bayesimp.fit_each`.
    m
        Imputations under each prior.
    reference
        Name of the prior to which changes refer; the first by default.
    seed
        Seed for every prior; drawn if None.
    level
        Level of the intervals.
    folder
        Folder in which the imputations under each prior are kept as soon as they are drawn. If a call was stopped, the
        same call continues it and gives the same numbers; a call with another analysis draws nothing again. Needs `seed`.
    **impute
        Passed on to ``model.impute``: chains, draws, sampler, ...

    Raises
    ------
    SpecificationError
        If there are no priors, two with the same name, a folder without a seed, a reference that is not among the priors,
        an analysis that cannot be read or uses columns that the table lacks, or a prior given by the user that the model
        does not accept.

    Examples
    --------
    >>> result = bi.sensitivity(model, analysis="y3 ~ y1 + y2 + (1 | study)", seed=1)    # doctest: +SKIP
    >>> print(result); result.plot(); result.plot_components()                           # doctest: +SKIP
    """
    must_be_model(model, "sensitivity")
    grid = default_grid(model.has_contextual) if priors is None else named(priors)
    reference = next(iter(grid)) if reference is None else reference
    if reference not in grid:
        raise SpecificationError(
            f"reference = {reference!r} is not one of the priors; there are {names_of(grid)}."
        )
    check_analysis(analysis, model.data)
    models, events = _models(model, grid, strict=priors is not None)
    if reference not in models:
        raise SpecificationError(
            f"the model does not accept the reference prior {reference!r}: {events[0][1].message}"
        )
    check_keywords(impute, sensitivity, models[reference].impute, ("m", "seed"))
    if folder is not None and seed is None:
        raise SpecificationError(
            "sensitivity: folder= needs seed=, by which a later call finds the imputations kept there."
        )
    kept = None if folder is None else KeptGrid(folder)
    seed = new_seed() if seed is None else seed
    fitting = {"family": family, "reml": reml, "cluster": model.data.cluster}
    needed = list(models) if priors is not None else [reference]
    imputations, fits, more = _under_each(
        models, needed, lambda one: _under(one, analysis, m, seed, fitting, impute, kept)
    )
    events += more
    by_parameter = model_table(imputations, reference)
    events += not_converged(by_parameter)
    return Sensitivity(
        analysis=fits[reference].analysis,
        reference=reference,
        table=pooled_table(fits, reference, level),
        model=by_parameter,
        distances=distance_table(imputations, reference),
        imputations=ReadOnly(imputations),
        fits=ReadOnly(fits),
        events=_frame(events, list(imputations)),
    )


def _frame(events: list[tuple[str, Event]], priors: list[str]) -> pd.DataFrame:
    """One row for each event; an event that is the same under every prior appears once, under "all"."""
    under: dict[Event, list[str]] = {}
    for name, event in events:
        under.setdefault(event, []).append(name)
    rows = [
        {"prior": name, **event.as_dict()}
        for event, names in under.items()
        for name in (["all"] if len(priors) > 1 and set(names) >= set(priors) else dict.fromkeys(names))
    ]
    return EventTable(rows, columns=["prior", "kind", "where", "message", "count"])


def _under_each(
    models: Mapping[str, ImputationModel],
    needed: Sequence[str],
    under: Callable[[ImputationModel], tuple[Imputations, Fits, list[Event]]],
) -> tuple[dict[str, Imputations], dict[str, Fits], list[tuple[str, Event]]]:
    """Imputations, fits and events by prior; an error is raised if a prior that is needed cannot be sampled."""
    imputations: dict[str, Imputations] = {}
    fits: dict[str, Fits] = {}
    events: list[tuple[str, Event]] = []
    for name, model in models.items():
        if interrupted(imputations):
            events.append((name, Event("prior left out", "run", "the run was interrupted before this prior")))
            continue
        try:
            imp, fits[name], notes = under(model)
        except SpecificationError as error:
            if name in needed:
                raise type(error)(f"prior {name!r}: {error}") from error
            events.append(_left_out(name, error))
            continue
        events += [(name, event) for event in (*notes, *_twins(imp, imputations))]
        imputations[name] = imp
    return imputations, fits, events


def _under(
    model: ImputationModel,
    analysis: str | Callable,
    m: int,
    seed: int,
    fitting: dict,
    options: dict,
    kept: KeptGrid | None,
) -> tuple[Imputations, Fits, list[Event]]:
    """Imputations, fits and events under one prior; statistical warnings become events."""
    place = None if kept is None else kept.place(model.priors.name, model, m, seed, options)
    found = None if place is None else KeptGrid.read(place)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", StatisticalWarning)
        if found is None:
            imp = model.impute(m, seed=seed, **options)
            notes = as_events(caught)
            if place is not None:
                KeptGrid.write(place, imp, notes)
        else:
            imp, notes = found
        before = len(caught)
        fits = fit_each(imp, analysis, **fitting)
    return imp, fits, [*imp.log, *notes, *as_events(caught[before:])]


def _models(
    model: ImputationModel, grid: Mapping[str, pr.Priors], strict: bool
) -> tuple[dict[str, ImputationModel], list[tuple[str, Event]]]:
    """The model under each prior that it accepts, and events for the others, or an error if `strict`."""
    models, events = {}, []
    for name, priors in grid.items():
        try:
            models[name] = model.with_priors(priors)
        except (SpecificationError, DataError) as error:
            if strict:
                raise type(error)(f"prior {name!r}: {error}") from error
            events.append(_left_out(name, error))
    return models, events


def _left_out(name: str, error: Exception) -> tuple[str, Event]:
    warnings.warn(f"prior {name!r} is left out: {error}", StatisticalWarning, skip_file_prefixes=PACKAGE)
    return name, Event("prior left out", "priors", str(error))


def _twins(imp: Imputations, earlier: Mapping[str, Imputations]) -> list[Event]:
    """Whether an earlier prior gave the same imputations, bit for bit (the seed is the same)."""
    for name, other in earlier.items():
        if imp.imputed_columns and all(
            np.array_equal(imp.values(c), other.values(c)) for c in imp.imputed_columns
        ):
            return [Event("same prior", "priors", f"in this model it is {name!r} under another name")]
    return []
