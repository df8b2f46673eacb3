"""The paragraph for a methods section, written from the run, with references."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import version

import numpy as np

from bayesimp.diagnostics.convergence import ESS_LIMIT
from bayesimp.report.document import Bullets, Paragraph, ReportSection
from bayesimp.report.facts import ReportFacts
from bayesimp.report.references import CITED, NAMES, SOURCES

__all__ = ["Citations", "analysed", "as_section", "converged", "methods", "paragraph"]


class Citations:
    """References in the order in which they are cited; a call gives their numbers in brackets."""

    def __init__(self) -> None:
        self.keys: list[str] = []

    def __call__(self, *keys: str) -> str:
        self.keys.extend(key for key in keys if key not in self.keys)
        return f" [{', '.join(str(self.keys.index(key) + 1) for key in keys)}]" if keys else ""


def methods(facts: ReportFacts) -> ReportSection:
    """The paragraph and the references it cites."""
    return as_section(*paragraph(facts))


def as_section(text: str, cited: list[str]) -> ReportSection:
    """A paragraph with the references that it cites."""
    references = tuple(f"{k}. {CITED[key]}" for k, key in enumerate(cited, 1))
    return ReportSection("methods", "For the methods section", (Paragraph(text), Bullets(references)))


def paragraph(facts: ReportFacts) -> tuple[str, list[str]]:
    """The text, with numbers of references, and the keys of these in order."""
    cite = Citations()
    imp, attrs = facts.imputations, facts.imputations.attrs
    data = imp.data
    cells = sum(len(imp.rows(name)) for name in imp.imputed_columns)
    amounts = ", ".join(
        f"{name} ({_percent(data, name)})" for name in imp.imputed_columns if name in data.variables
    )
    clusters = f"{len(data.clusters):,} clusters of '{data.cluster}'"
    text = (
        f"Missing values of {amounts or 'no variable'} ({cells:,} cells of {len(data):,} rows in {clusters}) "
        f"were multiply imputed (m = {imp.m}) under "
        f"{NAMES.get(facts.engine, facts.engine)}{cite(*SOURCES.get(facts.engine, ()))}"
    )
    if facts.engine != "FCS":  # whose formulas are as many as variables; the report lists them
        text += f", {attrs['formula']}"
    text += f", with priors '{attrs['priors_name']}'. "
    text += f"The model was sampled by {attrs['sampler']}, {facts.length} (seed {attrs['seed']}). "
    text += converged(facts, cite) + analysed(facts, cite) + _assumed(facts, cite)
    text += f"Missing data are reported following TARMOS{cite('TARMOS')} and Sterne et al.{cite('Sterne')}. "
    text += f"Software: bayesimp {attrs.get('bayesimp_version', version('bayesimp'))} (Python)."
    return text, cite.keys


def converged(facts: ReportFacts, cite: Callable[..., str]) -> str:
    """Whether the chains converged; nothing if that cannot be computed."""
    summary = facts.summary
    if not np.isfinite(summary.worst_r_hat):
        return ""
    said = "was" if summary.converged else "was NOT"
    return (
        f"Convergence {said} attained by the criteria of rank-normalised split R-hat (largest "
        f"{summary.worst_r_hat:.3f}) and effective sample size (smallest {summary.smallest_ess:.0f}, "
        f"limit {ESS_LIMIT}){cite('Vehtari')}. "
    )


def _assumed(facts: ReportFacts, cite: Callable[..., str]) -> str:
    """Why values are missing, and which other assumptions were examined."""
    text, reference = "", None if facts.model is None else facts.model.reference
    if reference is not None:
        text += (
            f"Values after drop-out were imputed by reference to another arm{cite('Roger')} ({reference.words}), and "
            "other values as missing at random given the variables of the model. "
        )
    if facts.model is not None and facts.model.shift:
        text += "Values were assumed to be missing not at random and shifted as the model specifies. "
    elif reference is None:
        text += "Values were assumed to be missing at random given the variables of the model. "
    alternatives = ("to the prior", facts.sensitivity), ("to values missing not at random", facts.mnar)
    examined = [what for what, given in alternatives if given]
    return text + (f"Sensitivity {' and '.join(examined)} was examined. " if examined else "")


def analysed(facts: ReportFacts, cite: Callable[..., str]) -> str:
    """How completed tables were analysed and pooled."""
    text = ""
    for each in facts.analyses:
        text += f"Each completed table was analysed by {each.formula}"
        text += f" ({each.family}). " if each.family not in ("normal", "as fitted") else ". "
    if facts.analyses:
        text += (
            f"Results were pooled by Rubin's rules{cite('Rubin')} with degrees of freedom of Barnard and "
            f"Rubin{cite('Barnard')}; intervals are at {facts.level:.0%}. The largest Monte Carlo error of an "
            f"estimate was {100 * facts.worst_share:.1f} % of its standard error{cite('White')}. "
        )
    return text


def _percent(data: object, name: str) -> str:
    share = data.missing(name).mean()  # type: ignore[attr-defined]
    return f"{100 * share:.1f} %"
