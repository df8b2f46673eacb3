"""Generalised linear models, and mixed ones with one grouping factor: bernoulli, binomial, poisson.

Maximum of the Laplace log-likelihood (kernels/laplace.py), each table from the estimates of the one before. The
covariance of the coefficients is that of the inverse Hessian in (beta, Cholesky factor of Psi), so it allows for the
estimation of Psi.
Components (log standard deviations, Fisher's z) have theirs by the delta method.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from bayesimp.analysis.linear import (
    check_complete,
    cluster_codes,
    clusters_of_means,
    component_names,
    numbers,
    stacks,
)
from bayesimp.data.design import design
from bayesimp.errors import DataError, SpecificationError
from bayesimp.kernels.families import LOGIT, POISSON, PROBIT
from bayesimp.kernels.glmm_rows import GlmmRows
from bayesimp.kernels.laplace_record import LaplaceFit, fit_laplace, free_elements, laplace_at
from bayesimp.spec.formula import Formula

__all__ = ["FAMILIES", "fit_generalised"]

LINKS = {
    "bernoulli": {"logit": LOGIT, "probit": PROBIT},
    "binomial": {"logit": LOGIT, "probit": PROBIT},
    "poisson": {"log": POISSON},
}
FAMILIES = tuple(LINKS)


@dataclass(frozen=True)
class Stack:
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
            columns = (self.y, self.trials, self.weight, self.offset, self.X, self.Z)
            yield GlmmRows(code, *(column[at] for column in columns), np.r_[0, np.cumsum(sizes)])


def fit_generalised(tables, formula: Formula, family: str, link: str | None, **columns: str | None) -> dict:
    """Fields of `Fits`; columns: names (or None) of trials, weights, offset.

    Raises
    ------
    SpecificationError, DataError
        A link or option that the family has not; a response that is not of the family; incomplete columns.
    """
    links = LINKS[family]
    if link is not None and link not in links:
        raise SpecificationError(
            f"{formula.text!r}: family {family!r} has no link {link!r}; choose {' or '.join(map(repr, links))}."
        )
    if columns["trials"] is not None and family == "poisson":
        raise SpecificationError(f"{formula.text!r}: trials are for binomial models; family is 'poisson'.")
    code = links[link or next(iter(links))]
    extra = tuple(name for name in columns.values() if name is not None)
    if not all(isinstance(name, str) for name in extra):
        raise SpecificationError(
            f"{formula.text!r}: {', '.join(columns)} are names of columns of the tables."
        )

    def make(frame: pd.DataFrame, lengths: list[int], formula: Formula) -> Stack:
        return _stack(frame, lengths, formula, family, columns)

    blocks = None
    fits: list[LaplaceFit] = []
    known: Stack | None = None
    for stack in stacks(tables, formula, make, extra):
        if known is not None:
            _check_same(known, stack, formula)
        known = stack
        if formula.random and not formula.random[0].correlated:
            blocks = np.arange(len(stack.random))
        previous = None
        for rows in stack.tables(code):
            start = previous if previous is not None and previous.code == 0 else None
            previous = fit_laplace(rows, blocks=blocks, start=start)
            fits.append(previous._replace(u=None, modes=None, gradient=None))

    def likelihood(at: str) -> np.ndarray:
        if at == "own":
            return np.array([fit.loglik for fit in fits])
        beta, Psi = (np.mean([getattr(fit, name) for fit in fits], axis=0) for name in ("beta", "Psi"))
        values, vectors = np.linalg.eigh(Psi)
        L = np.linalg.qr((vectors * np.sqrt(np.maximum(values, 0.0))).T, mode="r").T  # lower, L L' = Psi
        free = free_elements(len(Psi))
        return np.array(
            [
                laplace_at(rows, 1.0, beta, L, free)
                for stack in stacks(tables, formula, make, extra)
                for rows in stack.tables(code)
            ]
        )

    return _fields(fits, known, formula, blocks is None) | {"likelihood": likelihood}


def _check_same(known: Stack, stack: Stack, formula: Formula) -> None:
    if (known.fixed, known.random, known.levels) != (stack.fixed, stack.random, stack.levels):
        raise SpecificationError(
            f"{formula.text!r} has other columns, or levels of the response, in some completed tables (categories that "
            f"are absent?): {', '.join(stack.fixed)}. Fix the categories of the column first."
        )


def _stack(frame, lengths, formula: Formula, family: str, columns) -> Stack:
    starts, n = np.cumsum([0, *lengths]), len(frame)
    codes, clusters = cluster_codes(frame, formula)
    made = design(formula, frame, clusters=clusters_of_means(frame, formula, starts))
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
    if family == "poisson" or columns["trials"] is not None:
        y = numbers(response, starts, f"a {family} model")
    else:
        y, levels = _events(response, starts)
    _check_response(y, trials, response.name, family, columns["trials"])
    return Stack(
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


def _check_response(y: np.ndarray, trials: np.ndarray, name, family: str, trials_name: str | None) -> None:
    upper = np.full_like(y, np.inf) if family == "poisson" else trials
    wrong = (y < 0) | (y > upper) | (y != np.floor(y))
    if not wrong.any():
        return
    need = {
        "poisson": "counts: whole numbers from 0",
    }.get(family, "0 or 1, bool, or a text or category of two levels; or successes, with trials=")
    if family != "poisson" and trials_name is not None:
        need = f"whole numbers from 0 to the trials in {trials_name!r}"
    raise DataError(
        f"the response {name!r} has {int(wrong.sum())} values such as {y[wrong][0]:g}; family {family!r} needs {need}."
    )


def _fields(fits: list[LaplaceFit], stack: Stack, formula: Formula, correlated: bool) -> dict:
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
    """(c,) log standard deviations, Fisher's z of correlations; (c, c) their covariance, nan where singular."""
    q, p = len(fit.L), len(fit.beta)
    pairs = [(a, b) for b in range(q) for a in range(b + 1, q)] if correlated else []

    def values(theta: np.ndarray) -> np.ndarray:
        L = np.zeros((q, q))
        L[fit.free[:, 0], fit.free[:, 1]] = theta
        Psi = L @ L.T
        sd = np.sqrt(np.diag(Psi))
        with np.errstate(divide="ignore", invalid="ignore"):
            z = [np.arctanh(Psi[a, b] / (sd[a] * sd[b])) for a, b in pairs]
            return np.concatenate([np.log(sd), z])

    at = values(fit.theta)
    if fit.singular:
        return at, np.full((len(at), len(at)), np.nan)
    steps = 1e-5 * np.maximum(np.sqrt(np.diag(fit.covariance)[p:]), 1e-8)
    J = [(values(fit.theta + s) - values(fit.theta - s)) / (2 * s.sum()) for s in np.diag(steps)]
    J = np.array(J).T.reshape(len(at), len(steps))
    return at, J @ fit.covariance[p:, p:] @ J.T
