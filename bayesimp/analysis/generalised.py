"""Generalised linear models, and mixed ones with one grouping factor: bernoulli, binomial, poisson, ordinal.

They maximise the Laplace log-likelihood (kernels/laplace/criterion.py) or that by adaptive quadrature
(kernels/laplace/quadrature.py), starting each table from the estimates of the previous one. The covariance of the
coefficients comes from the inverse Hessian in (beta, Cholesky factor of Psi), so it allows for the estimation of Psi.
Covariances of components (log standard deviations, Fisher's z) come from the delta method. The thresholds of ordinal
responses (kernels/laplace/ordinal.py) are coefficients and precede the others.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from bayesimp.analysis.generalised_tables import GlmmStack, check_same, stack_tables
from bayesimp.analysis.laplace_check import MOST, ONE_PREDICTOR, Likelihood, cure, doubt, how_it_moves
from bayesimp.analysis.linear import component_names, stacks
from bayesimp.analysis.ordinal import CUMULATIVE, check_levels
from bayesimp.errors import PACKAGE, SpecificationError, StatisticalWarning
from bayesimp.families.registry import family_of
from bayesimp.formulas.design import check_rank
from bayesimp.formulas.formula import Formula
from bayesimp.kernels.families.codes import LOGIT, PROBIT
from bayesimp.kernels.glmm.rows import GlmmRows
from bayesimp.kernels.laplace.record import LaplaceFit, free_elements
from bayesimp.kernels.lmm.components import fisher_z
from bayesimp.kernels.lmm.identifiability import Labels, check_identified

if TYPE_CHECKING:
    from bayesimp.analysis.fit import Tables

__all__ = ["fit_generalised"]

LOOKED_AT = 3  # tables on which Laplace's approximation is always checked


def fit_generalised(
    tables: Tables, formula: Formula, family: str, link: str | None, quadrature: int, **columns: str | None
) -> dict:
    """Fields of `Fits` for a generalised linear (mixed) model.

    quadrature: number of nodes, 1 for Laplace; columns: names (or None) of trials, weights and offset.

    Raises
    ------
    SpecificationError, DataError
        The family does not have the link or option, the response does not fit the family, or columns are incomplete.
    """
    code = _code(formula, family, link, columns)
    _check_quadrature(quadrature, formula)
    extra = tuple(name for name in columns.values() if name is not None)
    if not all(isinstance(name, str) for name in extra):
        raise SpecificationError(
            f"{formula.text!r}: {', '.join(columns)} must be names of columns of the tables."
        )

    def make(frame: pd.DataFrame, lengths: list[int], formula: Formula) -> GlmmStack:
        return stack_tables(frame, lengths, formula, family, columns)

    of = CUMULATIVE if family_of(family).is_ordered else ONE_PREDICTOR
    fitted = GlmmFits(formula, quadrature, of)
    for stack in stacks(tables, formula, make, extra):
        fitted.add(stack, code)

    def likelihood(at: str) -> np.ndarray:
        if at == "own":
            return np.array([fit.loglik for fit in fitted.fits])
        again = (rows for stack in stacks(tables, formula, make, extra) for rows in stack.tables(code))
        return _likelihood_at_means(fitted.fits, again, quadrature, of)

    fields = _fields(fitted) | {"likelihood": likelihood, "quadrature": int(quadrature)}
    if fitted.worst is not None:
        _warn_of_doubts(
            formula,
            quadrature,
            np.array(fitted.doubts),
            of,
            *fitted.worst,
            fields["names"],
            fields["component_names"][0],
        )
    return fields


@dataclass
class GlmmFits:
    """The fits of all tables, in order, and how far more nodes would move them (`laplace_check.doubt`; nan: not checked).

    worst: index, rows and fit of the table that moves most, if it moves by more than the limit.
    """

    formula: Formula
    nodes: int
    of: Likelihood
    fits: list[LaplaceFit] = field(default_factory=list)
    doubts: list[float] = field(default_factory=list)
    worst: tuple[int, GlmmRows, LaplaceFit] | None = None
    stack: GlmmStack | None = None  # the latest

    @property
    def correlated(self) -> bool:
        """Whether the random effects may be correlated."""
        return not self.formula.random or self.formula.random[0].correlated

    def add(self, stack: GlmmStack, code: int) -> None:
        """Fit the tables of a stack, each starting from the estimates of the one before."""
        if self.stack is not None:
            check_same(self.stack, stack, self.formula)
        self.stack = stack
        if self.nodes > 1 and len(stack.random) != 1:
            raise SpecificationError(_several_effects(self.formula, stack.random))
        blocks = None if self.correlated else np.arange(len(stack.random))
        previous = None
        for rows in stack.tables(code):
            table = len(self.fits) + 1
            check_rank(rows.X, stack.fixed, f"fixed part of {self.formula.text!r} in completed table {table}")
            if stack.thresholds:
                check_levels(rows, stack, self.formula, table)
            if self.formula.random:
                _check_identified(rows, stack, self.formula, len(self.fits))
            start = previous if previous is not None and previous.code == 0 else None
            previous = self.of.fit(rows, blocks=blocks, start=start, nodes=self.nodes)
            self._check(rows, previous)
            nothing = np.empty(0)  # keep only what is needed later; there may be many tables
            self.fits.append(previous._replace(u=nothing, modes=nothing, gradient=nothing))

    def _check(self, rows: GlmmRows, fit: LaplaceFit) -> None:
        """Check how far more nodes move a fit; this is costly, so only on the first tables unless these come close."""
        near = np.isfinite(self.doubts).sum() < LOOKED_AT or np.nanmax([0.0, *self.doubts]) > 0.5
        self.doubts.append(doubt(rows, fit, self.nodes, self.of) if near else np.nan)
        if self.doubts[-1] > np.nanmax([1.0, *self.doubts[:-1]]):
            self.worst = len(self.fits), rows, fit


def _code(formula: Formula, family: str, link: str | None, columns: Mapping[str, str | None]) -> int:
    """The number by which kernels know a family with its link."""
    record = family_of(family)
    if link is not None and link not in record.links:
        raise SpecificationError(
            f"{formula.text!r}: family {family!r} has no link {link!r}; choose {' or '.join(map(repr, record.links))}."
        )
    if columns["trials"] is not None and not record.takes_trials:
        raise SpecificationError(
            f"{formula.text!r}: trials are for binomial models; the family is {family!r}."
        )
    return record.code(link or next(iter(record.links)))


def _likelihood_at_means(
    fits: list[LaplaceFit], tables: Iterable[GlmmRows], nodes: int, of: Likelihood
) -> np.ndarray:
    """Log-likelihood of every table at the means over tables of beta and Psi."""
    beta, Psi = (np.mean([getattr(fit, name) for fit in fits], axis=0) for name in ("beta", "Psi"))
    values, vectors = np.linalg.eigh(Psi)
    L = np.linalg.qr((vectors * np.sqrt(np.maximum(values, 0.0))).T, mode="r").T  # lower, L L' = Psi
    free = free_elements(len(Psi))
    return np.array([of.at(rows, beta, L, free, nodes) for rows in tables])


def _check_quadrature(quadrature: Any, formula: Formula) -> None:
    whole = isinstance(quadrature, int | np.integer) and not isinstance(quadrature, bool)
    if not whole or not 1 <= quadrature <= MOST:
        raise SpecificationError(
            f"{formula.text!r}: quadrature must be a number of nodes from 1 (Laplace) to {MOST}; got {quadrature!r}."
        )
    if quadrature > 1 and not formula.random:
        raise SpecificationError(
            f"{formula.text!r}: quadrature integrates over a random effect, but the formula has none. Leave it out."
        )


def _several_effects(formula: Formula, random: tuple[str, ...]) -> str:
    group = formula.random[0].group
    return (
        f"{formula.text!r}: quadrature is for one random effect per cluster, but the formula has {len(random)} "
        f"({', '.join(random)}). Use (1 | {group}), or leave quadrature out: Laplace's approximation takes any number."
    )


def _warn_of_doubts(
    formula: Formula,
    nodes: int,
    doubts: np.ndarray,
    of: Likelihood,
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
        f"Give quadrature={better}."
        if better > nodes
        else "The data hardly determine the size of the effects."
    )
    where, here = "", ""
    if len(doubts) > 1:
        listed = ", ".join(str(t + 1) for t in tables[:10])
        where = f" in {len(tables)} of {len(doubts)} tables (imputation{'s' * (len(tables) > 1)} {listed})"
        here = f" in imputation {k + 1}"
    warnings.warn(
        f"{formula.text!r}: {what}{where}: with {better} nodes "
        f"{how_it_moves(fit, of.fit(rows, nodes=better), names, component)}{here}. {advice}",
        StatisticalWarning,
        skip_file_prefixes=PACKAGE,
    )


def _check_identified(rows: GlmmRows, stack: GlmmStack, formula: Formula, k: int) -> None:
    """Refuse random effects that fixed effects absorb or that the rows cannot separate; rows of weight 0 are ignored."""
    labels = Labels(stack.fixed, stack.random, formula.random[0].group)
    there = rows.weight > 0
    codes = np.repeat(np.arange(len(rows.first) - 1), np.diff(rows.first))[there]
    if len(codes) <= rows.X.shape[1]:
        return  # the fit reports it
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


def _fields(fitted: GlmmFits) -> dict:
    fits, stack, formula = fitted.fits, fitted.stack, fitted.formula
    assert stack is not None  # there is at least one table
    p, q = len(stack.coefficients), len(stack.random)
    moved = [_components(fit, fitted.correlated) for fit in fits]
    components = np.array([values for values, _, _ in moved])
    codes = np.array([fit.code for fit in fits])
    return {
        "names": stack.coefficients,
        "estimates": np.array([fit.beta for fit in fits]),
        "covariances": np.array([fit.covariance[:p, :p] for fit in fits]),
        "df_complete": np.inf,
        "converged": np.array([fit.converged for fit in fits]),
        "singular": np.array([fit.singular for fit in fits]),
        "component_names": component_names((stack.random,), formula, components.shape[1]) if q else (),
        "components": components,
        "components_cov": np.array([covariance for _, covariance, _ in moved]),
        "cross": np.array([cross for _, _, cross in moved]),
        "loglik": np.array([fit.loglik for fit in fits]),
        "parameters": p + len(fits[0].free),
        "codes": codes,
        "levels": stack.levels if stack.thresholds else (),
    }


def _components(fit: LaplaceFit, correlated: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Log standard deviations and Fisher's z of correlations (c,), their covariance (c, c), and that with beta (p, c).

    A variance of zero gives -inf, a correlation at its bound -inf or inf, and a correlation with an effect of zero
    variance nan, all with covariance nan. Elements of theta at zero are held there.
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
    with np.errstate(invalid="ignore"):  # infinity minus infinity, at a bound
        for j, (place, step) in enumerate(zip(free, steps, strict=True)):
            shift = step * (np.arange(len(V)) == place)
            J[:, j] = (values(fit.theta + shift) - values(fit.theta - shift)) / (2 * step)
    covariance = np.full((len(at), len(at)), np.nan)
    inside = np.flatnonzero(np.isfinite(at))
    covariance[np.ix_(inside, inside)] = J[inside] @ V[np.ix_(free, free)] @ J[inside].T
    cross = np.full((p, len(at)), np.nan)
    cross[:, inside] = fit.covariance[:p, p + free] @ J[inside].T
    return at, covariance, cross
