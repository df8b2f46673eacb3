"""Linear models and linear mixed models with one grouping factor, a stack of completed tables at a time."""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from bayesimp.analysis.factors import check_levels
from bayesimp.errors import DataError, SpecificationError
from bayesimp.formulas.design import design
from bayesimp.formulas.formula import Formula
from bayesimp.kernels.lmm.fit import fit_mixed_models, log_likelihood
from bayesimp.kernels.lmm.identifiability import Labels
from bayesimp.messages import listing

if TYPE_CHECKING:
    from bayesimp.analysis.fit import Tables

__all__ = ["component_names", "fit_linear", "stacks"]

STACK = 500_000  # rows of completed tables held at a time
DEPENDENT = 1e-10  # share of a column's length that those before it leave, below which it depends on them
EXACT = 1e-24  # share of the squares of y left by a fit that is exact up to rounding, as for mixed models


@dataclass(frozen=True)
class Stack:
    """Stacked tables: y (N,), X (N, p), Z (N, q), codes (N,), starts (tables + 1,).

    Rows with a precision weight w are multiplied by its root, so that all residuals have variance sigma^2; jacobian
    (tables,): what that adds to the log-likelihood, sum log(w) / 2. y is without the offset.
    """

    y: np.ndarray
    X: np.ndarray
    Z: np.ndarray
    codes: np.ndarray
    starts: np.ndarray
    jacobian: np.ndarray
    clusters: int
    fixed: tuple[str, ...]
    random: tuple[str, ...]

    def tables(self) -> Iterator[tuple[np.ndarray, ...]]:
        """Response, X, Z and cluster codes of each completed table in turn."""
        for start, stop in zip(self.starts[:-1], self.starts[1:], strict=True):
            yield self.y[start:stop], self.X[start:stop], self.Z[start:stop], self.codes[start:stop]


def fit_linear(
    tables: Tables, formula: Formula, reml: bool, weights: str | None = None, offset: str | None = None
) -> dict:
    """Fields of `Fits` for a formula with at most one random term, normal errors.

    weights: column of precision weights, e_ij ~ N(0, sigma^2 / w_ij), as in lme4 and statsmodels' WLS; sigma^2 is that
    of a row of weight 1. offset: column of a known part of the mean.
    """
    extra = tuple(name for name in (weights, offset) if name is not None)

    def make(frame: pd.DataFrame, lengths: list[int], formula: Formula) -> Stack:
        return _stack(frame, lengths, formula, weights, offset)

    def stacked() -> Iterator[Stack]:
        return stacks(tables, formula, make, extra)

    fit = _mixed if formula.random else _least_squares
    parts: list[dict] = []
    names: tuple[tuple[str, ...], tuple[str, ...]] = (), ()
    for stack in stacked():
        if parts and names != (stack.fixed, stack.random):
            raise SpecificationError(
                f"{formula.text!r} has other columns in some completed tables (categories that are absent?): "
                f"{', '.join(stack.fixed)}. Fix the categories of the column first."
            )
        names = stack.fixed, stack.random
        parts.append(fit(stack, reml, formula))
    fields = {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
    sigma2, Psi, n = fields.pop("sigma2"), fields.pop("Psi"), fields.pop("n")
    p, c = fields["estimates"].shape[1], fields["components"].shape[1]
    labels = component_names(names[1], formula, c)
    # least squares: n - p, sigma^2 not counted, as R's lm; mixed: all parameters counted, as R's lme4
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
        "parameters": p + c, "likelihood": likelihood if maximised else None,
    }  # fmt: skip


def stacks[S](
    tables: Tables,
    formula: Formula,
    make: Callable[[pd.DataFrame, list[int], Formula], S],
    extra: tuple[str, ...] = (),
) -> Iterator[S]:
    """Stacks of at most `STACK` rows (at least one table; only one if a column depends on all rows).

    make: called with the stacked columns of the formula, the extra ones, and the lengths.
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
    """Stacked columns; plain numbers without pd.concat, which costs more than the fit."""
    if all(isinstance(part.dtype, np.dtype) and part.dtype.kind in "biuf" for part in parts):
        return pd.Series(np.concatenate([part.to_numpy() for part in parts]))
    return pd.concat(parts, ignore_index=True)


def cluster_codes(frame: pd.DataFrame, formula: Formula) -> tuple[np.ndarray, int]:
    """Cluster of every row, from 0, and how many there are; one cluster where there is no random term."""
    if not formula.random:
        return np.zeros(len(frame), dtype=np.int64), 1
    return _codes(frame, formula.groups[0])


def _codes(frame: pd.DataFrame, name: str) -> tuple[np.ndarray, int]:
    codes, levels = pd.factorize(frame[name])
    if (codes < 0).any():
        raise DataError(f"{name!r} is missing in {int((codes < 0).sum())} rows.")
    return codes, len(levels)


def clusters_of_means(frame: pd.DataFrame, formula: Formula, starts: np.ndarray) -> np.ndarray | None:
    """(N,) the cluster of every row, separate for every table, for cluster means; None without means or clusters."""
    if not formula.over_clusters or formula.cluster_of_means is None:
        return None
    codes, levels = _codes(frame, formula.cluster_of_means)
    return codes + levels * np.repeat(np.arange(len(starts) - 1), np.diff(starts))


def _stack(
    frame: pd.DataFrame, lengths: list[int], formula: Formula, weights: str | None, offset: str | None
) -> Stack:
    starts = np.cumsum([0, *lengths])
    codes, clusters = cluster_codes(frame, formula)
    made = design(formula, frame, codes=clusters_of_means(frame, formula, starts))
    response = frame[formula.responses[0]]
    y = numbers(response, starts, "a normal model")
    X, Z, jacobian = made.X, made.Z, np.zeros(len(lengths))
    if offset is not None:
        y = y - numbers(frame[offset], starts, "an offset", "offset")
    if weights is not None:
        w = numbers(frame[weights], starts, "a weight", "column of weights")
        if not (w > 0).all():
            raise DataError(
                f"weights {weights!r} are not positive in {int((w <= 0).sum())} rows; leave these rows out."
            )
        root = np.sqrt(w)
        y, X, Z = root * y, root[:, None] * X, root[:, None] * Z
        jacobian = np.add.reduceat(np.log(root), starts[:-1])
    return Stack(y, X, Z, codes, starts, jacobian, clusters, made.fixed, made.random)


def numbers(column: pd.Series, starts: np.ndarray, what: str, role: str = "response") -> np.ndarray:
    """A column as finite numbers."""
    if not (pd.api.types.is_numeric_dtype(column) or pd.api.types.is_bool_dtype(column)):
        raise DataError(f"the {role} {column.name!r} is of type {column.dtype}; {what} needs numbers.")
    values = column.to_numpy(dtype=float, na_value=np.nan)
    check_complete(column.name, np.isfinite(values), starts, role)
    return values


def check_complete(name: Hashable, complete: np.ndarray, starts: np.ndarray, role: str = "response") -> None:
    """Refuse a column with missing or infinite values."""
    if not complete.all():
        k = int(np.searchsorted(starts, np.argmin(complete), side="right"))
        raise DataError(
            f"the {role} {name!r} is missing or infinite in {int((~complete).sum())} rows "
            f"(first in table {k} of the stack): the tables are not complete."
        )


def _mixed(stack: Stack, reml: bool, formula: Formula) -> dict:
    q = len(stack.random)
    fit = fit_mixed_models(
        stack.y, stack.X, stack.Z, stack.codes, stack.starts, clusters=stack.clusters, reml=reml, modes=False,
        blocks=None if formula.random[0].correlated else np.arange(q),
        labels=Labels(stack.fixed, stack.random, formula.random[0].group),
    )  # fmt: skip
    return {
        "estimates": fit.beta, "covariances": fit.cov, "converged": fit.converged, "singular": fit.singular,
        "components": fit.components, "components_cov": fit.components_cov, "loglik": fit.loglik + stack.jacobian,
        "Psi": fit.Psi, "sigma2": fit.sigma2, "n": fit.n,
    }  # fmt: skip


def _least_squares(stack: Stack, reml: bool, formula: Formula) -> dict:
    """beta = (X'X)^-1 X'y by QR, cov = s^2 (X'X)^-1, s^2 = rss / (n - p); the likelihood takes rss / n.

    The variance of log s is 1 / (2 (n - p)), that of the logarithm of a chi-squared to first order.
    """
    rows = []
    for y, X, _, _ in stack.tables():
        n, p = X.shape
        Q, R = np.linalg.qr(X)
        free = np.abs(np.diag(R)) > DEPENDENT * np.linalg.norm(X, axis=0)
        if n <= p or not free.all():
            which = "" if n <= p else f" ({listing(np.array(stack.fixed)[~free])})"
            raise SpecificationError(
                f"{formula.text!r}: in a completed table of {n} rows some of the {p} columns are constant zero or depend "
                f"on others{which}; a category absent from that table?"
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
    """(M,) log-likelihoods of the tables at the same parameters."""
    values = []
    for stack in stacks:
        Z = stack.Z if formula.random else np.zeros((len(stack.y), 0))
        for start, stop, jacobian in zip(stack.starts[:-1], stack.starts[1:], stack.jacobian, strict=True):
            part = slice(start, stop)
            values.append(
                jacobian
                + log_likelihood(
                    stack.y[part],
                    stack.X[part],
                    Z[part],
                    stack.codes[part],
                    stack.clusters,
                    beta,
                    Psi,
                    sigma2,
                )
            )
    return np.array(values)


def component_names(random: tuple[str, ...], formula: Formula, c: int) -> tuple[str, ...]:
    """Names of the c variance components; the last is the residual's where there is one more than of effects."""
    names = []
    if formula.random:
        group = formula.random[0].label
        names = [f"sd({name} | {group})" for name in random]
        if formula.random[0].correlated:
            q = len(random)
            names += [f"cor({random[b]}, {random[a]} | {group})" for b in range(q) for a in range(b + 1, q)]
    if len(names) < c:
        names.append("sd(residual)")
    assert len(names) == c
    return tuple(names)
