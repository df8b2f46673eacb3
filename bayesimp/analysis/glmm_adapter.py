"""Crossed and nested terms for non-normal families, and further families, through the optional package glmm.

``pip install 'bayesimp[glmm]'``. glmm 0.6 has neither ``||`` nor slopes without an intercept. Its covariances of
coefficients come from the exact Hessian, and its variance components have no standard errors. Its ``(Intercept)`` is
called Intercept here.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from dataclasses import replace
from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from bayesimp.analysis.groups import crossed_events, groupings, several_groups, term_codes
from bayesimp.errors import PACKAGE, SpecificationError, StatisticalWarning
from bayesimp.families.record import Family
from bayesimp.families.registry import FAMILIES
from bayesimp.formulas.computed import Computed
from bayesimp.formulas.design import design
from bayesimp.formulas.formula import Formula, product_text, signed
from bayesimp.formulas.syntax import Name, Node, label, read, replaced, write
from bayesimp.kernels.laplace.record import free_elements
from bayesimp.kernels.lmm.components import fisher_z
from bayesimp.kernels.lmm.identifiability import Term, identified_together
from bayesimp.notation import IntVector

if TYPE_CHECKING:
    from bayesimp.analysis.fit import Tables

__all__ = ["fit_by_glmm"]


def fit_by_glmm(tables: Tables, formula: Formula, family: str) -> dict:
    """Fields of `Fits`, from one glmm fit per table.

    Raises
    ------
    SpecificationError
        glmm is not installed or refuses the model, or responses of the family cannot be analysed.
    """
    glmm, first, record = _glmm(formula, family), tables.frame(0), _record(family)
    codes = [term_codes(first, term)[0] for term in formula.random]
    _check_identified(first, codes, formula, family)
    fits, notes = [], []
    for k in range(tables.m):
        frame, text, names = _renamed(tables.frame(k)[list(formula.columns)], formula)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                fits.append(
                    glmm.fit(
                        frame,
                        text,
                        family=record.glmm_name if record and record.glmm_name else family,
                        satterthwaite=False,
                        anova_test="Wald",
                    )
                )
            except (ValueError, NotImplementedError) as problem:
                raise SpecificationError(
                    f"{formula.text!r}: glmm says: {_as_called(str(problem), names)}"
                ) from problem
        said = [_as_called(str(w.message), names) for w in caught]
        notes += [f"imputation {k + 1}: {message}" for message in said if "ingular" not in message]
    if notes:
        warnings.warn(
            f"glmm: {len(notes)} notes, the first: {notes[0]}", StatisticalWarning, skip_file_prefixes=PACKAGE
        )
    fields = _fields(fits, names)
    if several_groups(formula):
        fields |= {
            "groupings": groupings(formula.random, codes),
            "log": crossed_events(formula.random, codes),
        }
    return fields


def _record(family: str) -> Family | None:
    """The family with this name or alias, if there is one."""
    return next((each for each in FAMILIES.values() if family in (each.name, *each.aliases)), None)


def _glmm(formula: Formula, family: str) -> Any:
    """The package glmm, for a family that it fits."""
    record = _record(family)
    if record is not None and record.fitted_by == "cumulative":
        raise SpecificationError(
            f"{formula.text!r}: {family} responses are analysed with at most one grouping factor. Keep the random term "
            "of one, and enter other factors in the fixed part."
        )
    if record is not None and not record.fitted_by:
        instead = "Give a function of a table (statsmodels)."
        if record.is_factor:
            instead = (
                "Analyse one level against the others (bernoulli, with a column added to the completed tables), or "
                "give a function of a table (statsmodels). bi.JointGLMM, which bi.impute(..., analysis=...) chooses, "
                f"samples this analysis with the imputations: beta_{formula.responses[0]} in imp.tree['posterior']."
            )
        raise SpecificationError(
            f"{formula.text!r}: {family} responses cannot be analysed by a formula. {instead}"
        )
    try:
        return import_module("glmm")
    except ImportError:
        raise SpecificationError(
            f"{formula.text!r} with family {family!r} needs the package glmm: pip install 'bayesimp[glmm]'. Without "
            "it you can fit normal responses with any grouping factors; bernoulli, binomial and poisson ones with at "
            "most one; or give a function of a table (for example with statsmodels)."
        ) from None


def _check_identified(frame: pd.DataFrame, codes: Sequence[IntVector], formula: Formula, family: str) -> None:
    """Refuse random terms whose variances the first table cannot separate from each other or from the fixed part.

    codes (n,): the group of each row, for each term. A group with one level is left to glmm, which removes its term and
    says so.
    """
    means = formula.cluster_of_means if formula.over_clusters else None
    of_means = None if means is None else pd.factorize(frame[means])[0]
    terms, named = [], []
    for random, group in zip(formula.random, codes, strict=True):
        if group.max() > 0:
            made = design(replace(formula, random=(random,)), frame, codes=of_means)
            free = free_elements(made.Z.shape[1], None if random.correlated else range(made.Z.shape[1]))
            terms.append(Term(made.Z, group, free))
            named.append(f"({random.columns} {'|' if random.correlated else '||'} {random.group})")
    if not terms or made.X.shape[0] <= made.X.shape[1]:
        return
    single = np.full(len(frame), family in FAMILIES and FAMILIES[family].takes_trials)
    if identified_together(made.X, terms, single):
        return
    out = [
        name
        for k, name in enumerate(named)
        if len(terms) > 1 and identified_together(made.X, terms[:k] + terms[k + 1 :], single)
    ]
    cure = f"Remove {' or '.join(out)}" if out else "Remove random terms"
    raise SpecificationError(
        f"{formula.text!r}: the variances of {', '.join(named)} cannot be separated from each other, from the "
        f"residual, or from the fixed part. {cure}, or remove columns that identify the groups from the fixed part."
    )


def _renamed(frame: pd.DataFrame, formula: Formula) -> tuple[pd.DataFrame, str, dict[str, str]]:
    """The table with unambiguous names, the formula in these names, and the original names."""
    means = formula.cluster_of_means if formula.over_clusters else None
    computed = Computed(frame, formula.text, None if means is None else pd.factorize(frame[means])[0])
    own: dict[str, str] = {}

    def rename(node: Node) -> Node | None:
        if not isinstance(node, Name) or node.name not in computed.columns:
            return None
        return Name(own.setdefault(node.name, f"bi{len(own)}x_"))

    def side(text: str) -> str:
        parts = [(sign, replaced(computed.named(node), rename)) for sign, node in signed(read(text))]
        # I(x**2) is I(x^2) in R's spelling
        return (
            " ".join(f"{sign} {product_text(node)}" for sign, node in parts)
            .removeprefix("+ ")
            .replace("**", "^")
        )

    left = write(replaced(Name(formula.responses[0]), rename))
    random = [
        f" + ({side(term.columns)} {'|' if term.correlated else '||'} {side(term.group)})"
        for term in formula.random
    ]
    text = f"{left} ~ {side(formula.fixed)}{''.join(random)}"
    frame = computed.columns[list(own)].rename(columns=own)
    frame = frame.assign(**{own[group]: frame[own[group]].astype(str) for group in formula.groups})
    return frame, text, {new: label(computed.written(Name(name))) for name, new in own.items()}


def _as_called(text: str, names: dict[str, str]) -> str:
    """A message of glmm, with the original names restored."""
    return re.sub(r"bi\d+x_", lambda match: names.get(match[0], match[0]), text)


def _fields(fits: list, called: dict[str, str]) -> dict:
    names = tuple(_as_called(_name(name), called) for name in fits[0].names)
    component_names, correlation = _component_names(fits[0])
    component_names = tuple(_as_called(name, called) for name in component_names)
    components = np.array([_components(fit, correlation) for fit in fits])
    M, c = components.shape
    return {
        "names": names,
        "estimates": np.array([fit.beta for fit in fits]),
        "covariances": np.array([fit.vcov for fit in fits]),
        "df_complete": np.inf,  # z tests, as everywhere for these families
        "converged": np.array([bool(fit.diagnostics["converged"]) for fit in fits]),
        "singular": np.array([bool(fit.diagnostics["singular"]) for fit in fits]),
        "component_names": component_names,
        "components": components,
        "components_cov": np.full((M, c, c), np.nan),
        "loglik": np.array([fit.loglik for fit in fits]),
        "parameters": int(fits[0].df),
    }


def _name(name: str) -> str:
    return "Intercept" if name == "(Intercept)" else name


def _component_names(fit: Any) -> tuple[tuple[str, ...], tuple[bool, ...]]:
    sds, correlations = [], []
    for group, terms in fit.re_groups:
        terms = [_name(term) for term in terms]
        sds += [f"sd({term} | {group})" for term in terms]
        correlations += [
            f"cor({terms[b]}, {terms[a]} | {group})"
            for b in range(len(terms))
            for a in range(b + 1, len(terms))
        ]
    return (*sds, *correlations), (False,) * len(sds) + (True,) * len(correlations)


def _components(fit: Any, correlation: Sequence[bool]) -> np.ndarray:
    """Log standard deviations, then Fisher's z; ``varcorr`` has each factor's lower triangle by columns."""
    sds, zs = [], []
    for (_, terms), triangle in zip(fit.re_groups, fit.varcorr, strict=True):
        q = len(terms)
        Psi = np.zeros((q, q))
        Psi[np.triu_indices(q)] = triangle
        sd = np.sqrt(np.diag(Psi))
        with np.errstate(divide="ignore", invalid="ignore"):
            sds += list(np.log(sd))
            zs += [fisher_z(Psi[b, a] / (sd[a] * sd[b])) for b in range(q) for a in range(b + 1, q)]
    return np.array(sds + zs)
