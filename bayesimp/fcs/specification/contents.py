"""The contents of conditional models, for comparison with an analysis, and the calls that add terms to them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from bayesimp.contract import Contents
from bayesimp.fcs.specification.records import (
    ConditionalModel,
    Conditionals,
    formula_text,
    random_text,
    summed,
)
from bayesimp.formulas.predictors import addition, edit, with_own_line
from bayesimp.formulas.syntax import Name, column_names, read, write
from bayesimp.table.incomplete import IncompleteData

__all__ = ["call_with", "contents"]

OWN_VARIANCES = "bi.methods.Gibbs(residual='cluster')"


def contents(spec: Conditionals, cluster: str) -> dict[str, Contents]:
    """Variable -> contents of its model; user-defined models are left out.

    The responses of a block, and their cluster means, predict each other, as in a joint model.
    """
    out = {}
    for block in spec.blocks:
        if block.method.own_model:
            continue
        random = random_text(block, cluster, spec.written)
        for name in block.responses:
            others = [write(Name(other)) for other in block.responses if other != name]
            right = [
                summed(block.fixed, spec.written),
                *others,
                *(f"cluster_mean({other})" for other in others),
            ]
            out[name] = Contents(
                f"{write(Name(name))} ~ {' + '.join(right)}{random}",
                _clusters(block),
                block.distribution.is_normal,
                block.method.residual == "cluster" or block.method.fits_each_cluster,
                name in spec.analyses,
            )
    return out


def _clusters(block: ConditionalModel) -> Any:
    if block.method.level == "cluster":
        return "of clusters"
    if block.random:
        return "random"
    return "fixed" if block.method.cluster_indicators else "ignored"


def call_with(
    spec: Conditionals,
    data: IncompleteData,
    declared: Mapping[str, Any],
    fixed: Mapping[str, Sequence[str]],
    random: Mapping[str, Sequence[str]],
    clusters: Sequence[str],
    variances: Sequence[str] = (),
) -> str | None:
    """The call with these terms; "..." stands for the user's other arguments, which do not change.

    Methods without random effects are replaced by ``bayes`` if random effects are needed and the variable is observed
    in more than one cluster.
    """
    group = write(Name(data.cluster))
    analyses = dict(spec.analyses)
    predictors: dict[str, Any] = {}
    methods: dict[str, str] = {}  # as code
    for block in {block.name: block for block in spec.blocks}.values():
        terms, slopes = (
            list(dict.fromkeys(t for name in block.responses for t in part.get(name, ())))
            for part in (fixed, random)
        )
        if block.name in analyses:
            grouped = block.name in clusters
            analyses[block.name] = _longer_analysis(block, spec, group, terms, slopes, grouped)
            continue
        if block.name in spec.drawn and _cannot_have(block, spec, [*terms, *slopes], variances):
            return None
        without = block.method.random == "none" and block.method.level == "row"
        if without and (slopes or not set(clusters).isdisjoint(block.responses)):
            if any(len(np.unique(data.codes[~data.missing(name)])) < 2 for name in block.responses):
                slopes = []
            else:
                methods[block.name] = repr("bayes")
        if len(block.responses) == 1 and block.name in variances:
            methods[block.name] = OWN_VARIANCES
        if not terms and not slopes:
            continue
        predictors[block.name] = _longer(block, spec, group, declared.get("predictors"), terms, slopes)
    larger = analyses != dict(spec.analyses)
    if not predictors and not methods and not larger:
        return None
    if predictors and "predictors" in declared:
        predictors = _as_before(spec, data, declared["predictors"]) | predictors
    changed = {"predictors": predictors, "methods": methods, "analysis": larger}
    shown = {name for name, value in changed.items() if value}
    parts = ["data", *(["..."] if declared.keys() - shown else [])]
    if methods:
        methods = _methods_before(spec, declared.get("methods")) | methods
        parts.append(f"methods={{{', '.join(f'{name!r}: {code}' for name, code in methods.items())}}}")
    parts += [f"predictors={predictors!r}"] if predictors else []
    if larger:
        texts = list(analyses.values())
        parts.append(f"analysis={texts[0]!r}" if len(texts) == 1 else f"analysis={texts!r}")
    return f"bi.FCS({', '.join(parts)})"


def _cannot_have(
    block: ConditionalModel, spec: Conditionals, terms: Sequence[str], variances: Sequence[str]
) -> bool:
    """Whether a covariate of an analysis would need its response or cluster-specific variances, which are refused."""
    names = {name for term in terms for name in column_names(read(term))}
    return not names.isdisjoint(spec.analyses) or block.name in variances


def _longer_analysis(
    block: ConditionalModel,
    spec: Conditionals,
    group: str,
    terms: Sequence[str],
    slopes: Sequence[str],
    grouped: bool,
) -> str:
    """An analysis for which the model was built, with further terms; grouped: with cluster effects."""
    own = spec.analyses[block.name]
    if grouped and not block.random and not slopes:
        terms = [*terms, f"(1 | {group})"]
    if not terms and not slopes:
        return own
    if not slopes:
        return " + ".join([own, *terms])
    now = summed(block.random, spec.written) if block.random else "1"
    left = write(Name(block.name))
    return f"{left} ~ {summed(block.fixed, spec.written)} + {addition(terms, slopes, now, group)}"


def _longer(
    block: ConditionalModel,
    spec: Conditionals,
    group: str,
    declared: Any,
    terms: Sequence[str],
    slopes: Sequence[str],
) -> str:
    """The formula of a block with further terms, as an edit if the block has the default formula."""
    now = summed(block.random, spec.written) if block.random else "1"
    added = addition(terms, slopes, now, group)
    again = [c for c in block.fixed if c.name in with_own_line(terms)]  # as columns of what is added
    less = "".join(f" - {write(Name(column.name))}" for column in again)
    own = declared.get(block.name) if isinstance(declared, Mapping) else None
    if declared is None or (isinstance(declared, Mapping) and own is None):
        return f"~ .{less} + {added}"
    change = edit(own) if isinstance(own, str) else None
    if change is not None and not change.random:
        return f"{own}{less} + {added}"
    block = replace(block, fixed=tuple(c for c in block.fixed if c not in again))
    own_term = f" + ({now} | {group})" if block.random and not slopes else ""
    further = random_text(replace(block, random=()), group, spec.written)
    return f"~ {summed(block.fixed, spec.written)} + {added}{own_term}{further}"


def _as_before(spec: Conditionals, data: IncompleteData, declared: Any) -> dict[str, Any]:
    """Block -> declared predictors."""
    if isinstance(declared, Mapping):
        return dict(declared)
    return {block.name: formula_text(block, data.cluster, spec.written) for block in spec.blocks}


def _methods_before(spec: Conditionals, declared: Any) -> dict[str, str]:
    """Block -> declared method as code; for records only the name is known here."""
    if isinstance(declared, str):
        return {block.name: repr(declared) for block in spec.blocks}
    own = declared if isinstance(declared, Mapping) else {}
    return {name: repr(getattr(method, "name", method)) for name, method in own.items()}
