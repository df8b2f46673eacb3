"""Linear models, and linear mixed models with one or several grouping factors, fitted to stacks of completed tables."""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from bayesimp.analysis.factors import check_levels
from bayesimp.analysis.groups import (
    Grouping,
    column_codes,
    crossed_events,
    groupings,
    several_groups,
    term_codes,
)
from bayesimp.errors import DataError, SpecificationError
from bayesimp.events import Event
from bayesimp.formulas.design import design
from bayesimp.formulas.formula import Formula
from bayesimp.kernels.crossed.fit import RandomEffects, fit_crossed_models, log_likelihood_crossed
from bayesimp.kernels.lmm.fit import LinearMixedFit, fit_mixed_models, log_likelihood
from bayesimp.kernels.lmm.identifiability import Labels
from bayesimp.messages import listing

if TYPE_CHECKING:
    from bayesimp.analysis.fit import Tables

__all__ = ["component_names", "fit_linear", "normal_rows", "stacks"]

STACK = 500_000  # most rows of completed tables in memory at a time
DEPENDENT = 1e-10  # a column depends on earlier ones if they leave less than this share of its length
EXACT = 1e-24  # residual share of the sum of squares of y below which a fit is exact up to rounding, as for mixed models


@dataclass(frozen=True)
class Stack:
    """Stacked tables: y (N,), X (N, p), random terms with Z (N, q) and codes (N,), and starts (tables + 1,).

    Rows with a precision weight w are multiplied by its square root, so that all residuals have variance sigma^2.
    jacobian (tables,): what this adds to the log-likelihood, sum log(w) / 2. The offset is subtracted from y. random:
    the column names of each term's Z.
    """

    y: np.ndarray
    X: np.ndarray
    terms: tuple[RandomEffects, ...]
    starts: np.ndarray
    jacobian: np.ndarray
    fixed: tuple[str, ...]
    random: tuple[tuple[str, ...], ...]

    def parts(self) -> Iterator[slice]:
        """The rows of each completed table in turn."""
        for start, stop in zip(self.starts[:-1], self.starts[1:], strict=True):
            yield slice(start, stop)


def fit_linear(
    tables: Tables, formula: Formula, reml: bool, weights: str | None = None, offset: str | None = None
) -> dict:
    """Fields of `Fits` for a formula with normal errors and any random terms.

    weights: column of precision weights, e_ij ~ N(0, sigma^2 / w_ij), as in lme4 and statsmodels' WLS; sigma^2 is the
    variance of a row with weight 1. offset: column with a known part of the mean.
    """
    extra = tuple(name for name in (weights, offset) if name is not None)

    def make(frame: pd.DataFrame, lengths: list[int], formula: Formula) -> Stack:
        return _stack(frame, lengths, formula, weights, offset)

    def stacked() -> Iterator[Stack]:
        return stacks(tables, formula, make, extra)

    fit = _least_squares
    if formula.random:
        fit = _several if several_groups(formula) else _mixed
    parts: list[dict] = []
    names: tuple[tuple[str, ...], tuple[tuple[str, ...], ...]] = (), ()
    lie: tuple[tuple[Grouping, ...], tuple[Event, ...]] = (), ()
    for stack in stacked():
        if not parts and several_groups(formula):
            first = [term.codes[: stack.starts[1]] for term in stack.terms]
            lie = groupings(formula.random, first), crossed_events(formula.random, first)
        if parts and names != (stack.fixed, stack.random):
            raise SpecificationError(
                f"{formula.text!r} has different columns in some completed tables (categories that are absent?): "
                f"{', '.join(stack.fixed)}. Fix the categories of the column first."
            )
        names = stack.fixed, stack.random
        parts.append(fit(stack, reml, formula))
    fields = {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
    sigma2, Psi, n = fields.pop("sigma2"), fields.pop("Psi"), fields.pop("n")
    p, c = fields["estimates"].shape[1], fields["components"].shape[1]
    labels = component_names(names[1], formula, c)
    # least squares: n - p without counting sigma^2, as R's lm; mixed: all parameters counted, as R's lme4
    df = n.min() - p - (c if formula.random else 0)
    if df < 1:
        raise SpecificationError(f"{formula.text!r} has as many parameters as rows ({n.min()}); take fewer.")

    def likelihood(at: str) -> np.ndarray:
        if at == "own":
            return fields["loglik"]
        return _likelihood_at(stacked(), formula, fields["estimates"].mean(0), Psi.mean(0), sigma2.mean())

    maximised = not (formula.random and reml)
    return {
        **fields, "names": names[0], "df_complete": float(df), "component_names": labels,
        "parameters": p + c, "likelihood": likelihood if maximised else None, "groupings": lie[0], "log": lie[1],
    }  # fmt: skip


def stacks[S](
    tables: Tables,
    formula: Formula,
    make: Callable[[pd.DataFrame, list[int], Formula], S],
    extra: tuple[str, ...] = (),
) -> Iterator[S]:
    """Stacks of at most `STACK` rows (at least one table; only one if a column depends on all rows).

    make: called with the stacked columns (those of the formula and the extra ones), the tables' lengths and the
    formula.
    """
    check_levels(tables, formula)
    names = list(dict.fromkeys([*formula.columns, *extra]))
    if tables.stacked is not None:
        _check_known(tables.columns, names, formula)
        at_once = 1 if formula.stateful else max(STACK // tables.rows, 1)
        for first in range(0, tables.m, at_once):
            count = min(at_once, tables.m - first)
            yield make(tables.stacked(names, first, first + count), [tables.rows] * count, formula)
        return
    alone, held, rows = formula.stateful, [], 0
    for k in range(tables.m):
        frame = tables.frame(k)
        _check_known(frame.columns, names, formula)
        held.append([frame[name] for name in names])
        length = len(frame)
        rows += length
        if alone or k == tables.m - 1 or rows + length > STACK:
            below = pd.DataFrame({name: _below([table[j] for table in held]) for j, name in enumerate(names)})
            yield make(below, [len(table[0]) for table in held], formula)
            held, rows = [], 0


def _check_known(columns: Collection[Hashable], names: list[str], formula: Formula) -> None:
    unknown = [name for name in names if name not in columns]
    if unknown:
        raise SpecificationError(
            f"Formula {formula.text!r}: the completed tables have no column {unknown[0]!r}; "
            f"they have {', '.join(map(str, columns))}."
        )


def _below(parts: list[pd.Series]) -> pd.Series:
    """Concatenated columns; plain numbers bypass pd.concat, which would cost more than the fit."""
    if all(isinstance(part.dtype, np.dtype) and part.dtype.kind in "biuf" for part in parts):
        return pd.Series(np.concatenate([part.to_numpy() for part in parts]))
    return pd.concat(parts, ignore_index=True)


def cluster_codes(frame: pd.DataFrame, formula: Formula) -> tuple[np.ndarray, int]:
    """The cluster of each row, from 0, and the number of clusters; one cluster if there is no random term."""
    if not formula.random:
        return np.zeros(len(frame), dtype=np.int64), 1
    return column_codes(frame, formula.groups[0])


def clusters_of_means(frame: pd.DataFrame, formula: Formula, starts: np.ndarray) -> np.ndarray | None:
    """The cluster of each row (N,), numbered separately in each table, for cluster means; None if there are none."""
    if not formula.over_clusters or formula.cluster_of_means is None:
        return None
    codes, levels = column_codes(frame, formula.cluster_of_means, starts.tolist())
    return codes + levels * np.repeat(np.arange(len(starts) - 1), np.diff(starts))


def _stack(
    frame: pd.DataFrame, lengths: list[int], formula: Formula, weights: str | None, offset: str | None
) -> Stack:
    starts = np.cumsum([0, *lengths])
    of_means = clusters_of_means(frame, formula, starts)
    made = design(replace(formula, random=formula.random[:1]), frame, codes=of_means)
    response = frame[formula.responses[0]]
    y = numbers(response, starts, "a normal model")
    terms, random = [], []
    for k, term in enumerate(formula.random):
        own = made if k == 0 else design(replace(formula, fixed="1", random=(term,)), frame, codes=of_means)
        terms.append(RandomEffects(own.Z, *term_codes(frame, term, starts.tolist()), term.correlated))
        random.append(own.random)
    X, jacobian = made.X, np.zeros(len(lengths))
    if offset is not None:
        y = y - numbers(frame[offset], starts, "an offset", "offset")
    if weights is not None:
        w = numbers(frame[weights], starts, "a weight", "column of weights")
        if not (w > 0).all():
            raise DataError(
                f"weights {weights!r} are not positive in {int((w <= 0).sum())} rows; leave these rows out."
            )
        root = np.sqrt(w)
        y, X = root * y, root[:, None] * X
        terms = [replace(term, Z=root[:, None] * term.Z) for term in terms]
        jacobian = np.add.reduceat(np.log(root), starts[:-1])
    return Stack(y, X, tuple(terms), starts, jacobian, made.fixed, tuple(random))


def normal_rows(
    frame: pd.DataFrame, formula: Formula, weights: str | None, offset: str | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The rows of one table with one random term: y minus the offset, weights (n,), X, Z and codes."""
    starts = np.array([0, len(frame)])
    stack = _stack(frame, [len(frame)], formula, None, offset)
    w = np.ones(len(frame))
    if weights is not None:
        w = numbers(frame[weights], starts, "a weight", "column of weights")
    (term,) = stack.terms
    return stack.y, w, stack.X, term.Z, term.codes


def numbers(column: pd.Series, starts: np.ndarray, what: str, role: str = "response") -> np.ndarray:
    """A column as finite numbers."""
    if not (pd.api.types.is_numeric_dtype(column) or pd.api.types.is_bool_dtype(column)):
        raise DataError(f"the {role} {column.name!r} has type {column.dtype}; {what} needs numbers.")
    values = column.to_numpy(dtype=float, na_value=np.nan)
    check_complete(column.name, np.isfinite(values), starts, role)
    return values


def check_complete(name: Hashable, complete: np.ndarray, starts: np.ndarray, role: str = "response") -> None:
    """Refuse a column with missing or infinite values."""
    if not complete.all():
        k = int(np.searchsorted(starts, np.argmin(complete), side="right"))
        raise DataError(
            f"the {role} {name!r} is missing or infinite in {int((~complete).sum())} rows "
            f"(first in table {k} of the stack), so the tables are not complete."
        )


def _mixed(stack: Stack, reml: bool, formula: Formula) -> dict:
    (term,), (random,) = stack.terms, stack.random
    fit = fit_mixed_models(
        stack.y, stack.X, term.Z, term.codes, stack.starts, clusters=term.levels, reml=reml, modes=False,
        blocks=None if term.correlated else np.arange(len(random)),
        labels=Labels(stack.fixed, random, formula.random[0].group),
    )  # fmt: skip
    return _fields(fit, stack)


def _several(stack: Stack, reml: bool, formula: Formula) -> dict:
    labels = [
        Labels(stack.fixed, names, term.label)
        for names, term in zip(stack.random, formula.random, strict=True)
    ]
    fit = fit_crossed_models(stack.y, stack.X, stack.terms, stack.starts, reml=reml, labels=labels)
    return _fields(fit, stack)


def _fields(fit: LinearMixedFit, stack: Stack) -> dict:
    return {
        "estimates": fit.beta, "covariances": fit.cov, "covariance_spread": fit.cov_spread, "converged": fit.converged,
        "singular": fit.singular, "components": fit.components, "components_cov": fit.components_cov,
        "loglik": fit.loglik + stack.jacobian,
        "Psi": fit.Psi, "sigma2": fit.sigma2, "n": fit.n,
    }  # fmt: skip


def _least_squares(stack: Stack, reml: bool, formula: Formula) -> dict:
    """beta = (X'X)^-1 X'y by QR, cov = s^2 (X'X)^-1, s^2 = rss / (n - p); the likelihood uses rss / n.

    The variance of log s is 1 / (2 (n - p)), from the logarithm of a chi-squared to first order.
    """
    rows = []
    for part in stack.parts():
        y, X = stack.y[part], stack.X[part]
        n, p = X.shape
        Q, R = np.linalg.qr(X)
        free = np.abs(np.diag(R)) > DEPENDENT * np.linalg.norm(X, axis=0)
        if n <= p or not free.all():
            which = "" if n <= p else f" ({listing(np.array(stack.fixed)[~free])})"
            raise SpecificationError(
                f"{formula.text!r}: in a completed table of {n} rows some of the {p} columns are all zero or depend "
                f"on others{which}. Is a category absent from that table?"
            )
        beta = np.linalg.solve(R, Q.T @ y)
        rss = np.sum((y - X @ beta) ** 2)
        if not rss > EXACT * (y @ y):
            raise DataError(
                f"{formula.text!r}: the columns {', '.join(stack.fixed)} reproduce the response exactly in a completed "
                "table; there is nothing to estimate."
            )
        inverse = np.linalg.inv(R)
        s2 = rss / (n - p)
        rows.append((beta, s2 * inverse @ inverse.T, rss / n, 0.5 * np.log(s2), 1 / (2 * (n - p)), n))
    beta, cov, sigma2, log_s, var_log_s, n = (np.array(column) for column in zip(*rows, strict=True))
    M = len(rows)
    return {
        "estimates": beta, "covariances": cov, "converged": np.ones(M, bool), "singular": np.zeros(M, bool),
        "components": log_s[:, None], "components_cov": var_log_s[:, None, None],
        "loglik": stack.jacobian - 0.5 * n * (np.log(2 * np.pi * sigma2) + 1), "Psi": np.zeros((M, 0, 0)),
        "sigma2": sigma2, "n": n,
    }  # fmt: skip


def _likelihood_at(
    stacks: Iterator[Stack], formula: Formula, beta: np.ndarray, Psi: np.ndarray, sigma2: float
) -> np.ndarray:
    """Log-likelihoods (M,) of the tables at the same parameters."""
    values = []
    for stack in stacks:
        for part, jacobian in zip(stack.parts(), stack.jacobian, strict=True):
            y, X, terms = stack.y[part], stack.X[part], [term.rows(part) for term in stack.terms]
            if several_groups(formula):
                value = log_likelihood_crossed(y, X, terms, beta, Psi, sigma2)
            else:
                none = RandomEffects(np.zeros((len(y), 0)), np.zeros(len(y), np.int64), 1)
                (term,) = terms or [none]
                value = log_likelihood(y, X, term.Z, term.codes, term.levels, beta, Psi, sigma2)
            values.append(jacobian + value)
    return np.array(values)


def component_names(random: Sequence[tuple[str, ...]], formula: Formula, c: int) -> tuple[str, ...]:
    """Names of the c variance components: all standard deviations, term by term, then all correlations.

    random: the columns of Z for each term. If there is one component more than those of effects, it is the residual's.
    """
    sds, correlations = [], []
    for term, columns in zip(formula.random, random, strict=True):
        sds += [f"sd({name} | {term.label})" for name in columns]
        if term.correlated:
            correlations += [
                f"cor({columns[b]}, {columns[a]} | {term.label})"
                for b in range(len(columns))
                for a in range(b + 1, len(columns))
            ]
    names = sds + correlations
    if len(names) < c:
        names.append("sd(residual)")
    assert len(names) == c
    return tuple(names)
