"""A reporting checklist: each item answered from the run, from what the user states, or marked "not stated".

Items follow the steps of TARMOS (Lee et al. 2021), box 2 of Sterne et al. (2009) and, for trials, items 13b and 16 of
CONSORT 2010 (Schulz et al. 2010); wording is ours. The last four are added for Bayesian imputation of clustered data.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import NamedTuple

import pandas as pd

from bayesimp.report.document import Paragraph, ReportSection, Tabulated
from bayesimp.report.facts import ReportFacts
from bayesimp.report.sections import NOT_STATED, stated

__all__ = ["checklist", "items"]


class Item(NamedTuple):
    """An item: its source, its question, and its answer."""

    source: str
    item: str
    answer: str


def checklist(facts: ReportFacts) -> ReportSection:
    """The checklist, and how many of its items are not stated."""
    table = pd.DataFrame(items(facts), columns=["source", "item", "answer"])
    missing = int(table["answer"].str.startswith(NOT_STATED).sum())
    say = f"{len(table) - missing} of {len(table)} items are answered" + (
        f"; {missing} are not stated; report(..., stated={{...}}) adds them." if missing else "."
    )
    return ReportSection(
        "checklist", "Reporting checklist", (Paragraph(say), Tabulated(table, "Items and answers"))
    )


def items(
    facts: ReportFacts,
    asked: Collection[str] | None = None,
    known: Mapping[str, str] | None = None,
    other: str = "",
) -> list[Item]:
    """All items in order.

    asked: the items that are answered from `facts`, None: all; known: answers to others; other: the answer to the rest.
    """
    return [
        Item(
            source, item, answer(facts) if asked is None or item in asked else (known or {}).get(item, other)
        )
        for source, item, answer in ITEMS
    ]


def _from_user(key: str) -> Callable[[ReportFacts], str]:
    return lambda facts: stated(facts, key)


def _amount(facts: ReportFacts) -> str:
    data = facts.imputations.data
    found = [
        f"{name} {int(data.missing(name).sum()):,}" for name in data.variables if data.missing(name).any()
    ]
    return f"{', '.join(found) or 'none'}, of {len(data):,} rows; by cluster in 'What is missing'"


def _differences(facts: ReportFacts) -> str:
    return "standardised differences in 'What is missing'"


def _method(facts: ReportFacts) -> str:
    return (
        f"multiple imputation by {facts.engine}; assumptions in 'Assumptions', split into checked and assumed"
    )


def _software(facts: ReportFacts) -> str:
    attrs = facts.imputations.attrs
    return (
        f"bayesimp {attrs.get('bayesimp_version', NOT_STATED)}; sampler {attrs['sampler']}, {facts.length}, "
        f"seed {attrs['seed']}"
    )


def _imputations(facts: ReportFacts) -> str:
    if not facts.analyses:
        return f"{facts.imputations.m}; no analysis to assess it"
    return f"{facts.imputations.m}; largest Monte Carlo error {100 * facts.worst_share:.1f} % of a standard error"


def _variables(facts: ReportFacts) -> str:
    names = ", ".join(facts.imputations.responses)
    return f"{names} (imputed, or used to impute others); others in 'The imputation model'"


def _families(facts: ReportFacts) -> str:
    data = facts.imputations.data
    return (
        ", ".join(f"{n}: {data.families[n]}" for n in facts.imputations.imputed_columns if n in data.families)
        or "nothing imputed"
    )


def _interactions(facts: ReportFacts) -> str:
    if not facts.analyses:
        return NOT_STATED + " (no analysis was given)"
    gaps = {each.name: each.gaps for each in facts.analyses}
    bad = [f"'{name}' ({n} terms or effects that the model lacks)" for name, n in gaps.items() if n]
    if bad:
        return f"NOT congenial: {', '.join(bad)}; see the events"
    if facts.model is None or facts.model.contents() is None:
        return NOT_STATED + " (the imputation model is user-defined code)"
    return "yes: the imputation model contains all terms of the analyses that are formulas"


def _compared(facts: ReportFacts) -> str:
    return "'Imputed and observed values'"


def _complete(facts: ReportFacts) -> str:
    there = [f"'{each.name}': {each.rows:,} rows" for each in facts.analyses if each.complete is not None]
    return (
        f"next to the pooled estimates ({', '.join(there)})"
        if there
        else NOT_STATED + " (no formula was analysed)"
    )


def _departures(facts: ReportFacts) -> str:
    return (
        " ".join(facts.mnar.words)
        if facts.mnar is not None
        else NOT_STATED + " (not examined in this report)"
    )


def _clusters(facts: ReportFacts) -> str:
    contents = facts.model.contents() if facts.model is not None else None
    if not contents:
        return NOT_STATED + " (the imputation model is user-defined code, or not carried)"
    kinds: dict[str, list[str]] = {}
    for name, each in contents.items():
        kinds.setdefault(each.clusters, []).append(name)
    return f"clusters of '{facts.imputations.data.cluster}': " + "; ".join(
        f"{kind}: {', '.join(names)}" for kind, names in kinds.items()
    )


def _converged(facts: ReportFacts) -> str:
    return facts.summary.verdict


def _prior(facts: ReportFacts) -> str:
    named = f"'{facts.imputations.attrs['priors_name']}', in numbers in 'The imputation model'"
    if facts.sensitivity is None:
        return f"{named}; sensitivity {NOT_STATED} (not examined in this report)"
    return f"{named}; {' '.join(facts.sensitivity.words)}"


def _events(facts: ReportFacts) -> str:
    n = len(facts.events)
    return f"{n} event{'' if n == 1 else 's'}, all in 'Events'" if n else "none"


ITEMS: tuple[tuple[str, str, Callable[[ReportFacts], str]], ...] = (
    ("TARMOS 1", "Research question and estimand", _from_user("question")),
    ("TARMOS 1", "Analysis plan fixed in advance, including the handling of missing values", _from_user("prespecified")),
    ("TARMOS 3", "Deviations from the plan", _from_user("deviations")),
    ("Sterne; TARMOS 2", "Numbers of missing values of each variable", _amount),
    ("Sterne", "Reasons for missing values", _from_user("reasons")),
    ("CONSORT 13b, 16", "Losses and exclusions, and numbers analysed, by group", _from_user("flow")),
    ("Sterne; TARMOS 2", "Differences between rows with and without missing values", _differences),
    ("Sterne", "Type of analysis, and its assumptions about missing values", _method),
    ("Sterne", "Software and key settings", _software),
    ("Sterne", "Number of imputations", _imputations),
    ("Sterne", "Variables of the imputation model", _variables),
    ("Sterne", "How variables that are not normal, binary or categorical were handled", _families),
    ("Sterne", "Interactions and other terms of the analysis in the imputation model", _interactions),
    ("Sterne", "Observed and imputed values compared", _compared),
    ("Sterne; TARMOS 3", "Results from the complete rows, for comparison", _complete),
    ("Sterne", "Why missing at random is plausible given the variables of the model", _from_user("missing at random")),
    ("Sterne; TARMOS 1", "Robustness to departures from missing at random", _departures),
    ("TARMOS 3", "Results interpreted in the light of the missing values", _from_user("interpretation")),
    ("clusters", "How the imputation model takes clusters into account", _clusters),
    ("Bayesian", "Convergence of the chains", _converged),
    ("Bayesian", "Priors, and sensitivity to them", _prior),
    ("run", "What was not done as specified", _events),
)  # fmt: skip
