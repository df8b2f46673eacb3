"""Completed tables as rows of a generalised linear (mixed) model: response, trials, weights, offset, design matrices."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from bayesimp.analysis.linear import check_complete, cluster_codes, clusters_of_means, numbers
from bayesimp.analysis.ordinal_response import ordered_levels
from bayesimp.errors import DataError, SpecificationError
from bayesimp.families.registry import family_of
from bayesimp.formulas.design import design
from bayesimp.formulas.formula import Formula
from bayesimp.kernels.glmm.rows import GlmmRows

__all__ = ["GlmmStack", "check_same", "stack_tables"]


@dataclass(frozen=True)
class GlmmStack:
    """Stacked tables: y, trials, weight, offset and codes (N,), X (N, p), Z (N, q), starts (tables + 1,).

    thresholds: names of those of an ordinal response, whose y is a place among the levels.
    """

    y: np.ndarray
    trials: np.ndarray
    weight: np.ndarray
    offset: np.ndarray
    X: np.ndarray
    Z: np.ndarray
    codes: np.ndarray
    starts: np.ndarray
    clusters: int
    fixed: tuple[str, ...]
    random: tuple[str, ...]
    levels: tuple | None
    thresholds: tuple[str, ...] = ()

    @property
    def coefficients(self) -> tuple[str, ...]:
        """Names of the coefficients: with thresholds there is no intercept, whose place they take."""
        return (*self.thresholds, *self.fixed[1:]) if self.thresholds else self.fixed

    def tables(self, code: int) -> Iterator[GlmmRows]:
        """Each table in turn, with its rows sorted by cluster."""
        for start, stop in zip(self.starts[:-1], self.starts[1:], strict=True):
            at = start + np.argsort(self.codes[start:stop], kind="stable")
            sizes = np.bincount(self.codes[start:stop], minlength=self.clusters)
            yield GlmmRows(
                code, self.y[at], self.trials[at], self.weight[at], self.offset[at], self.X[at], self.Z[at],
                np.r_[0, np.cumsum(sizes)],
            )  # fmt: skip


def check_same(known: GlmmStack, stack: GlmmStack, formula: Formula) -> None:
    """Refuse a stack whose design columns or response levels differ from those of earlier stacks."""
    if (known.fixed, known.random, known.levels) != (stack.fixed, stack.random, stack.levels):
        raise SpecificationError(
            f"{formula.text!r} has different columns, or response levels, in some completed tables (categories that "
            f"are absent?): {', '.join(stack.fixed)}. Fix the categories of the column first."
        )


def stack_tables(
    frame: pd.DataFrame, lengths: list[int], formula: Formula, family: str, columns: Mapping[str, str | None]
) -> GlmmStack:
    """The stack of tables that lie one below the other in a frame, with `lengths` rows each.

    Parameters
    ----------
    columns
        Names (or None) of the columns of trials, weights and offset.

    Raises
    ------
    DataError
        A column is incomplete, weights are negative, trials are not whole numbers from 1, or the response does not fit
        the family.
    """
    starts, n = np.cumsum([0, *lengths]), len(frame)
    codes, clusters = cluster_codes(frame, formula)
    made = design(formula, frame, codes=clusters_of_means(frame, formula, starts))
    of = {
        role: np.full(n, 0.0 if role == "offset" else 1.0)
        if name is None
        else numbers(frame[name], starts, f"a column of {role}", f"column of {role}")
        for role, name in columns.items()
    }
    if np.any(of["weights"] < 0):
        raise DataError(
            f"weights {columns['weights']!r} are negative in {int((of['weights'] < 0).sum())} rows."
        )
    trials, levels = of["trials"], None
    thresholds: tuple[str, ...] = ()
    if columns["trials"] is not None and np.any((trials < 1) | (trials != np.floor(trials))):
        raise DataError(f"trials {columns['trials']!r} must be whole numbers from 1.")
    response = frame[formula.responses[0]]
    if family_of(family).is_ordered:
        y, levels, thresholds = ordered_levels(response, starts, formula, made.fixed)
    elif not family_of(family).takes_trials or columns["trials"] is not None:
        y = numbers(response, starts, f"a {family} model")
    else:
        y, levels = _events(response, starts)
    if not thresholds:
        _check_response(y, trials, response.name, family, columns["trials"])
    return GlmmStack(
        y,
        trials,
        of["weights"],
        of["offset"],
        made.X,
        made.Z,
        codes,
        starts,
        clusters,
        made.fixed,
        made.random,
        levels,
        thresholds,
    )


def _events(response: pd.Series, starts: np.ndarray) -> tuple[np.ndarray, tuple | None]:
    """A binary response as 0/1, and its two levels if it is text or a category; the second is the event."""
    if pd.api.types.is_numeric_dtype(response) or pd.api.types.is_bool_dtype(response):
        return numbers(response, starts, "a bernoulli model"), None
    check_complete(response.name, response.notna().to_numpy(), starts)
    if isinstance(response.dtype, pd.CategoricalDtype):
        levels = [level for level in response.cat.categories if (response == level).any()]
        if len(response.cat.categories) == 2:
            levels = list(response.cat.categories)
    else:
        levels = sorted(response.unique())
    if len(levels) != 2:
        shown = ", ".join(repr(level) for level in levels[:5])
        raise DataError(
            f"the response {response.name!r} has {len(levels)} levels ({shown}); a bernoulli model needs two."
        )
    return (response == levels[1]).to_numpy(dtype=float), tuple(levels)


def _check_response(
    y: np.ndarray, trials: np.ndarray, name: Hashable, family: str, trials_name: str | None
) -> None:
    takes_trials = family_of(family).takes_trials
    upper = trials if takes_trials else np.full_like(y, np.inf)
    wrong = (y < 0) | (y > upper) | (y != np.floor(y))
    if not wrong.any():
        return
    need = "0 or 1, bool, or a text or category of two levels; or successes, with trials="
    if not takes_trials:
        need = "counts: whole numbers from 0"
    elif trials_name is not None:
        need = f"whole numbers from 0 to the trials in {trials_name!r}"
    fraction = bool((y != np.floor(y)).any())
    advice = (
        f" If they were imputed, declare the family before imputing: families={{{name!r}: {family!r}}}."
        if fraction
        else ""
    )
    raise DataError(
        f"the response {name!r} has {int(wrong.sum())} values such as {y[wrong][0]:g}; family {family!r} needs {need}."
        f"{advice}"
    )
