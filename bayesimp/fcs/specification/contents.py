"""What the conditional models contain, for comparison with an analysis, and the calls that add terms to them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from bayesimp.contract import Contents
from bayesimp.fcs.specification.records import ConditionalModel, Conditionals, summed
from bayesimp.formulas.predictors import addition
from bayesimp.formulas.syntax import Name, write
from bayesimp.table.incomplete import IncompleteData

__all__ = ["call_with", "contents"]


def contents(spec: Conditionals, cluster: str) -> dict[str, Contents]:
    """By variable; those of models of the user's own are left out.

    The responses of a block predict each other, and their cluster means do, as in a joint model.
    """
    out = {}
    for block in spec.blocks:
        if block.method.own_model:
            continue
        random = f" + ({summed(block.random, spec.written)} | {write(Name(cluster))})" if block.random else ""
        for name in block.responses:
            others = [write(Name(other)) for other in block.responses if other != name]
            right = [
                summed(block.fixed, spec.written),
                *others,
                *(f"cluster_mean({other})" for other in others),
            ]
            out[name] = Contents(f"{write(Name(name))} ~ {' + '.join(right)}{random}", _clusters(block))
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
) -> str | None:
    """The call with these terms; "..." stands for arguments that the user gave, which stay.

    Methods without random effects give way to ``bayes`` where such are asked for, if the variable is observed in more
    than one cluster.
    """
    group = write(Name(data.cluster))
    predictors, methods = {}, {}
    for block in {block.name: block for block in spec.blocks}.values():
        terms, slopes = (
            list(dict.fromkeys(t for name in block.responses for t in part.get(name, ())))
            for part in (fixed, random)
        )
        without = block.method.random == "none" and block.method.level == "row"
        if without and (slopes or not set(clusters).isdisjoint(block.responses)):
            if any(len(np.unique(data.codes[~data.missing(name)])) < 2 for name in block.responses):
                slopes = []
            else:
                methods[block.name] = "bayes"
        if not terms and not slopes:
            continue
        now = summed(block.random, spec.written) if block.random else "1"
        added = addition(terms, slopes, now, group)
        if declared["predictors"] is None:
            predictors[block.name] = f"~ . + {added}"
        else:
            predictors[block.name] = f"~ {summed(block.fixed, spec.written)} + {added}"
            if block.random and not slopes:
                predictors[block.name] += f" + ({now} | {group})"
    if not predictors and not methods:
        return None
    others = any(value is not None for name, value in declared.items() if name not in ("predictors", "shift"))
    parts = ["data", *(["..."] if others or declared["predictors"] is not None else [])]
    parts += [f"methods={methods!r}"] if methods else []
    parts += [f"predictors={predictors!r}"] if predictors else []
    return f"bi.FCS({', '.join(parts)})"
