"""Generalised linear models, and mixed ones with one grouping factor: bernoulli, binomial, poisson.

They maximise the Laplace log-likelihood (kernels/laplace/criterion.py), or that by adaptive quadrature
(kernels/laplace/quadrature.py), starting each table from the estimates of the previous one. The covariance of the
coefficients comes from the inverse Hessian in (beta, Cholesky factor of Psi), so it allows for the estimation of Psi.
Components (log standard deviations, Fisher's z) have theirs by the delta method.
"""

from __future__ import annotations

import warnings
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from bayesimp.analysis.laplace_check import MOST, cure, doubt, how_it_moves
from bayesimp.analysis.linear import (
    check_complete,
    cluster_codes,
    clusters_of_means,
    component_names,
    numbers,
    stacks,
)
from bayesimp.errors import DataError, SpecificationError, StatisticalWarning
from bayesimp.families.registry import family_of
from bayesimp.formulas.design import check_rank, design
from bayesimp.formulas.formula import Formula
from bayesimp.kernels.families.codes import LOGIT, PROBIT
from bayesimp.kernels.glmm.rows import GlmmRows
from bayesimp.kernels.laplace.record import LaplaceFit, fit_laplace, free_elements, laplace_at
from bayesimp.kernels.lmm.components import fisher_z
from bayesimp.kernels.lmm.identifiability import Labels, check_identified

if TYPE_CHECKING:
    from bayesimp.analysis.fit import Tables

__all__ = ["fit_generalised"]

LOOKED_AT = 3  # tables


@dataclass(frozen=True)
class GlmmStack:
    """Tables one below the other: y, trials, weight, offset, codes (N,), X (N, p), Z (N, q), starts (tables + 1,)."""

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

    def tables(self, code: int) -> Iterator[GlmmRows]:
        """Every table, rows sorted by cluster."""
        for start, stop in zip(self.starts[:-1], self.starts[1:], strict=True):
            at = start + np.argsort(self.codes[start:stop], kind="stable")
            sizes = np.bincount(self.codes[start:stop], minlength=self.clusters)
            yield GlmmRows(
                code, self.y[at], self.trials[at], self.weight[at], self.offset[at], self.X[at], self.Z[at],
                np.r_[0, np.cumsum(sizes)],
            )  # fmt: skip


def fit_generalised(
    tables: Tables, formula: Formula, family: str, link: str | None, quadrature: int, **columns: str | None
) -> dict:
    """Fields of `Fits`; quadrature: number of nodes, 1 for Laplace; columns: names (or None) of trials, weights, offset.

    Raises
    ------
    SpecificationError, DataError
        The family does not have the link or option, the response does not belong to it, or columns are incomplete.
    """
    record = family_of(family)
    links = record.links
    if link is not None and link not in links:
        raise SpecificationError(
            f"{formula.text!r}: family {family!r} has no link {link!r}; choose {' or '.join(map(repr, links))}."
        )
    if columns["trials"] is not None and not record.takes_trials:
        raise SpecificationError(f"{formula.text!r}: trials are for binomial models; family is {family!r}.")
    code = record.code(link or next(iter(links)))
    _check_quadrature(quadrature, formula)
    extra = tuple(name for name in columns.values() if name is not None)
    if not all(isinstance(name, str) for name in extra):
        raise SpecificationError(
            f"{formula.text!r}: {', '.join(columns)} are names of columns of the tables."
        )

    def make(frame: pd.DataFrame, lengths: list[int], formula: Formula) -> GlmmStack:
        return _stack(frame, lengths, formula, family, columns)

    blocks = None
    fits: list[LaplaceFit] = []
    doubts: list[float] = []
    worst: tuple[int, GlmmRows, LaplaceFit] | None = None
    known: GlmmStack | None = None
    for stack in stacks(tables, formula, make, extra):
        if known is not None:
            _check_same(known, stack, formula)
        known = stack
        if quadrature > 1 and len(stack.random) != 1:
            raise SpecificationError(_several_effects(formula, stack.random))
        if formula.random and not formula.random[0].correlated:
            blocks = np.arange(len(stack.random))
        previous = None
        for rows in stack.tables(code):
            check_rank(
                rows.X, stack.fixed, f"fixed part of {formula.text!r} in completed table {len(fits) + 1}"
            )
            if formula.random:
                _check_identified(rows, stack, formula, len(fits))
            start = previous if previous is not None and previous.code == 0 else None
            previous = fit_laplace(rows, blocks=blocks, start=start, nodes=quadrature)
            # a check costs more than a fit: the first tables, and all where those come near
            near = np.isfinite(doubts).sum() < LOOKED_AT or np.nanmax([0.0, *doubts]) > 0.5
            doubts.append(doubt(rows, previous, quadrature) if near else np.nan)
            if doubts[-1] > np.nanmax([1.0, *doubts[:-1]]):
                worst = len(fits), rows, previous
            nothing = np.empty(0)  # with many tables, keep in memory only what is needed again
            fits.append(previous._replace(u=nothing, modes=nothing, gradient=nothing))

    def likelihood(at: str) -> np.ndarray:
        if at == "own":
            return np.array([fit.loglik for fit in fits])
        beta, Psi = (np.mean([getattr(fit, name) for fit in fits], axis=0) for name in ("beta", "Psi"))
        values, vectors = np.linalg.eigh(Psi)
        L = np.linalg.qr((vectors * np.sqrt(np.maximum(values, 0.0))).T, mode="r").T  # lower, L L' = Psi
        free = free_elements(len(Psi))
        return np.array(
            [
                laplace_at(rows, 1.0, beta, L, free, quadrature)
                for stack in stacks(tables, formula, make, extra)
                for rows in stack.tables(code)
            ]
        )

    assert known is not None  # there is at least one table
    fields = _fields(fits, known, formula, blocks is None) | {
        "likelihood": likelihood,
        "quadrature": int(quadrature),
    }
    if worst is not None:
        _warn_of_doubts(
            formula, quadrature, np.array(doubts), *worst, fields["names"], fields["component_names"][0]
        )
    return fields


def _check_quadrature(quadrature: Any, formula: Formula) -> None:
    whole = isinstance(quadrature, int | np.integer) and not isinstance(quadrature, bool)
    if not whole or not 1 <= quadrature <= MOST:
        raise SpecificationError(
            f"{formula.text!r}: quadrature is a number of nodes from 1 (Laplace) to {MOST}; got {quadrature!r}."
        )
    if quadrature > 1 and not formula.random:
        raise SpecificationError(
            f"{formula.text!r}: quadrature integrates over a random effect, and the formula has none. Leave it out."
        )


def _several_effects(formula: Formula, random: tuple[str, ...]) -> str:
    group = formula.random[0].group
    return (
        f"{formula.text!r}: quadrature is for one random effect a cluster, and the formula has {len(random)} "
        f"({', '.join(random)}). Take (1 | {group}), or leave quadrature out: Laplace fits any number."
    )


def _warn_of_doubts(
    formula: Formula,
    nodes: int,
    doubts: np.ndarray,
    k: int,
    rows: GlmmRows,
    fit: LaplaceFit,
    names: tuple[str, ...],
    component: str,
) -> None:
    tables = np.flatnonzero(doubts > 1.0)
    what = "Laplace's approximation is poor" if nodes == 1 else f"quadrature of {nodes} nodes is coarse"
    better = cure(nodes)
    advice = (
        f"Give quadrature={better}." if better > nodes else "The data hardly say how large the effects are."
    )
    where, here = "", ""
    if len(doubts) > 1:
        listed = ", ".join(str(t + 1) for t in tables[:10])
        where = f" in {len(tables)} of {len(doubts)} tables (imputation{'s' * (len(tables) > 1)} {listed})"
        here = f" in imputation {k + 1}"
    warnings.warn(
        f"{formula.text!r}: {what}{where}: by {better} nodes {how_it_moves(rows, fit, nodes, names, component)}{here}. "
        f"{advice}",
        StatisticalWarning,
        stacklevel=4,
    )


def _check_identified(rows: GlmmRows, stack: GlmmStack, formula: Formula, k: int) -> None:
    """Refuse random effects that fixed ones absorb or that the rows cannot tell apart; rows of weight 0 do not count."""
    labels = Labels(stack.fixed, stack.random, formula.random[0].group)
    there = rows.weight > 0
    codes = np.repeat(np.arange(len(rows.first) - 1), np.diff(rows.first))[there]
    if len(codes) <= rows.X.shape[1]:
        return  # the fit says so
    first = np.unique(codes, return_index=True)[1]
    Q, Z = np.linalg.qr(rows.X[there])[0], rows.Z[there]
    Qz, T = np.linalg.qr(Z)
    if not formula.random[0].correlated:  # each column alone
        T = np.diag(np.linalg.norm(Z, axis=0))
        Qz = Z / np.diag(T)
    A, B = (np.add.reduceat(Qz[:, :, None] * W[:, None], first) for W in (Qz, Q))
    single = Qz[(rows.trials * rows.weight)[there] <= 1] if rows.family in (LOGIT, PROBIT) else Qz[:0]
    free = free_elements(len(T), None if formula.random[0].correlated else np.arange(len(T)))
    where = f"{formula.text!r}, table {k + 1}: "
    check_identified(A, B, len(codes), free, T, labels, where, single)


def _check_same(known: GlmmStack, stack: GlmmStack, formula: Formula) -> None:
    if (known.fixed, known.random, known.levels) != (stack.fixed, stack.random, stack.levels):
        raise SpecificationError(
            f"{formula.text!r} has other columns, or levels of the response, in some completed tables (categories that "
            f"are absent?): {', '.join(stack.fixed)}. Fix the categories of the column first."
        )


def _stack(
    frame: pd.DataFrame, lengths: list[int], formula: Formula, family: str, columns: Mapping[str, str | None]
) -> GlmmStack:
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
    if columns["trials"] is not None and np.any((trials < 1) | (trials != np.floor(trials))):
        raise DataError(f"trials {columns['trials']!r} must be whole numbers from 1.")
    response = frame[formula.responses[0]]
    if not family_of(family).takes_trials or columns["trials"] is not None:
        y = numbers(response, starts, f"a {family} model")
    else:
        y, levels = _events(response, starts)
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
    )


def _events(response: pd.Series, starts: np.ndarray) -> tuple[np.ndarray, tuple | None]:
    """A binary response as 0/1, and its two levels where it is a text or category: the second is the event."""
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


def _fields(fits: list[LaplaceFit], stack: GlmmStack, formula: Formula, correlated: bool) -> dict:
    p, q = len(stack.fixed), len(stack.random)
    moved = [_components(fit, correlated) for fit in fits]
    components = np.array([values for values, _ in moved])
    codes = np.array([fit.code for fit in fits])
    return {
        "names": stack.fixed,
        "estimates": np.array([fit.beta for fit in fits]),
        "covariances": np.array([fit.covariance[:p, :p] for fit in fits]),
        "df_complete": np.inf,
        "converged": np.array([fit.converged for fit in fits]),
        "singular": np.array([fit.singular for fit in fits]),
        "component_names": component_names(stack.random, formula, components.shape[1]) if q else (),
        "components": components,
        "components_cov": np.array([covariance for _, covariance in moved]),
        "loglik": np.array([fit.loglik for fit in fits]),
        "parameters": p + len(fits[0].free),
        "codes": codes,
    }


def _components(fit: LaplaceFit, correlated: bool) -> tuple[np.ndarray, np.ndarray]:
    """(c,) log standard deviations, Fisher's z of correlations; (c, c) their covariance.

    A variance of zero has -inf, a correlation at its bound -inf or inf, one of a variance of zero nan, all with the
    covariance nan; elements of theta at zero are held there.
    """
    q, p = len(fit.L), len(fit.beta)
    pairs = [(a, b) for b in range(q) for a in range(b + 1, q)] if correlated else []

    def values(theta: np.ndarray) -> np.ndarray:
        L = np.zeros((q, q))
        L[fit.free[:, 0], fit.free[:, 1]] = theta
        Psi = L @ L.T
        sd = np.sqrt(np.diag(Psi))
        with np.errstate(divide="ignore", invalid="ignore"):
            z = [fisher_z(Psi[a, b] / (sd[a] * sd[b])) for a, b in pairs]
            return np.concatenate([np.log(sd), z])

    at, V = values(fit.theta), fit.covariance[p:, p:]
    free = np.flatnonzero(np.diag(V) > 0)
    steps = 1e-5 * np.maximum(np.sqrt(np.diag(V)[free]), 1e-8)
    J = np.empty((len(at), len(free)))
    with np.errstate(invalid="ignore"):  # infinite less infinite, at a bound
        for j, (place, step) in enumerate(zip(free, steps, strict=True)):
            shift = step * (np.arange(len(V)) == place)
            J[:, j] = (values(fit.theta + shift) - values(fit.theta - shift)) / (2 * step)
    covariance = np.full((len(at), len(at)), np.nan)
    inside = np.flatnonzero(np.isfinite(at))
    covariance[np.ix_(inside, inside)] = J[inside] @ V[np.ix_(free, free)] @ J[inside].T
    return at, covariance
