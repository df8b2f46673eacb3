"""The default method of a variable, and the methods available for a family.

    a single value in each cluster             ClusterLevel    imputed once per cluster, from cluster means
    text or category of more than 20 levels    none            refused: often free text
    observed in one cluster only               Norm, SingleLevel   differences between clusters cannot be estimated
    a single value in each group of a factor   Bayes(group)    imputed once per group, with cluster effects
    otherwise                                  Bayes           the model of its family, with cluster effects

Bayes is the default for every family because it calibrates best: tests/calibration/COVERAGE_RESULTS.md.
"""

from __future__ import annotations

import numpy as np

from bayesimp.errors import SpecificationError
from bayesimp.families.columns import as_continuous, stored_as_text
from bayesimp.families.registry import family_of
from bayesimp.messages import listing
from bayesimp.methods import Bayes, ClusterLevel, Method, PyMC, SingleLevel
from bayesimp.table.cluster_level import nested_level, of_clusters
from bayesimp.table.incomplete import IncompleteData

__all__ = ["MOST_LEVELS", "check_family", "choose"]

MOST_LEVELS = 20  # most levels of a factor that is imputed, or a predictor, by default


def choose(data: IncompleteData, name: str) -> tuple[Method, str]:
    """The default method of a variable, from family, level and number of observed clusters, and the reason.

    Raises
    ------
    SpecificationError
        An unordered variable has very many levels.
    """
    clusters = len(np.unique(data.codes[~data.missing(name)]))
    family = data.variable(name).distribution
    if of_clusters(data, name):
        return ClusterLevel(), "a single value in each cluster: imputed once per cluster, from cluster means"
    if (label := nested_level(data, name)) and not family.is_censored and not family.column_of_trials:
        why = f"a single value in each group of '{label}': imputed once in each, given the means of its predictors there"
        return Bayes(group=label), why
    levels = len(data.levels(name))
    if family.predictor_per_level and levels > MOST_LEVELS:
        if hint := stored_as_text(data.frame[name]):
            raise SpecificationError(
                f"'{name}' has {levels} levels, and {hint}: pandas.to_numeric(table['{name}'], errors='coerce') makes "
                f"it numbers, and anything else missing. If they are codes, leave it out, methods={{'{name}': None}}, "
                f"or name a method: methods={{'{name}': 'bayes'}}."
            )
        raise SpecificationError(
            f"'{name}' has {levels} levels (such as {listing(data.levels(name)[:3])}); by default at most "
            f"{MOST_LEVELS} are imputed, because a nominal model has {levels - 1} coefficients per predictor. Is it "
            f"free text, or an id? Leave it out: methods={{'{name}': None}}. If not, merge levels, or name a method: "
            f"methods={{'{name}': 'bayes'}}."
        )
    why = ""
    if levels > 2 and family.predictor_per_level and (hint := stored_as_text(data.frame[name])):
        why = (
            f"{hint}, so they are imputed as categories; if they are quantities and not codes, "
            f"pandas.to_numeric(table['{name}'], errors='coerce') makes them numbers"
        )
    if clusters == 1 and not family.is_censored:
        return (
            SingleLevel(),
            "observed in one cluster only, so clusters are ignored",
        )
    if not family.has_kernel:
        return PyMC(), f"{family.name} has no compiled density, so its PyMC model is sampled"
    return Bayes(), why


def _check_censored(data: IncompleteData, name: str, method: Method) -> None:
    """Refuse, with the reason, methods that handle only observed and missing values."""
    family = data.families[name]
    if of_clusters(data, name):
        raise SpecificationError(
            f"'{name}' is {family} and has a single value in each cluster; limits of cluster-level variables are "
            f"not supported. Omit it, methods={{'{name}': None}}, or write your own PyMC model for it (bi.FromPyMC)."
        )
    if family_of(family).name in method.families:
        return
    raise SpecificationError(
        f"'{name}' is {family}, and method '{method.name}' {method.no_limits()}. Use 'bayes', which draws values beyond "
        f"a limit there: methods={{'{name}': 'bayes'}}."
    )


def check_family(data: IncompleteData, name: str, method: Method) -> None:
    """Refuse a method that has no model for the family of a variable.

    Raises
    ------
    SpecificationError
        The method has no model; the message says what to use instead.
    """
    family = data.families[name]
    record = family_of(family)
    if not record.is_imputable:
        raise SpecificationError(
            f"'{name}' has family 'none' and cannot be imputed. Make it a number, a text or a category, or leave it "
            f"out: methods={{'{name}': None}}."
        )
    if record.is_censored:
        _check_censored(data, name, method)
    if record.name not in method.families:
        if not (method.matches or record.has_kernel):
            raise SpecificationError(
                f"'{name}': method '{method.name}' needs compiled code for the density of its family, but {family} has "
                f"none (its links have no kernel). Use 'pymc', which samples its PyMC model: "
                f"methods={{'{name}': 'pymc'}}."
            )
        advice = method.alternative(record.name)
        if of_clusters(data, name):
            advice = "'2lonly', because it has a single value in each cluster"
        raise SpecificationError(
            f"'{name}': method '{method.name}' is for {', '.join(method.families)} variables, but it is {family}; "
            f"use {advice}. {'' if record.is_normal else as_continuous(data.frame[name])}".rstrip()
        )
    if method.link == "probit" and "probit" not in record.links:
        raise SpecificationError(
            f"'{name}': the probit link is for variables with two values, but it is {family}. Remove link=."
        )
    if method.residual == "cluster" and not record.is_normal:
        raise SpecificationError(
            f"'{name}': residual='cluster' is for normal variables, but it is {family}. Remove residual=."
        )
