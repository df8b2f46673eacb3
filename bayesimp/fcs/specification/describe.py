"""Priors and bounds of conditional models in words, for printed models."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from bayesimp import priors as pr
from bayesimp.fcs.specification.records import ConditionalModel
from bayesimp.formulas.columns import INTERCEPT
from bayesimp.notation import effect_names, in_tree
from bayesimp.priors.describe import describe

__all__ = ["described", "described_bounds"]


def described(
    blocks: Iterable[ConditionalModel], priors: Mapping[str, Any], levels: Mapping[str, tuple]
) -> list[str]:
    """``y ('default'): beta flat; sigma2 ...; Psi ...`` for each block of an FCS that has priors.

    priors: parameter -> prior (`FCS.parameter_priors`); levels: variable -> its levels, if it has any.
    """
    lines = []
    for block in {block.name: block for block in blocks}.values():
        known = [p for p in ("beta", "sigma2", "Sigma", "Psi") if f"{p}_{block.name}" in priors]
        if not known:
            continue
        responses = levels[block.name][1:] if block.distribution.predictor_per_level else block.responses
        effects = effect_names([str(response) for response in responses], [c.name for c in block.random])
        further = [f"Psi_{in_tree(factor.label)}" for factor in block.further]
        known += further
        names = {key: [INTERCEPT] for key in further} | {
            "beta": [c.name for c in block.fixed],
            "Psi": effects,
        }
        own = block.method.priors or pr.default()
        shown = {p: priors[f"{p}_{block.name}"] for p in known}
        if own.beta.in_predictor_units:
            shown["beta"] = own.beta
        parts = [f"{p} {describe(prior, names.get(p, block.responses))}" for p, prior in shown.items()]
        lines.append(f"{block.name} ('{own.name}'): {'; '.join(parts)}")
    return lines


def described_bounds(pair: tuple[Any, Any]) -> str:
    """``lower 0, upper none``; bounds by row are not shown as numbers."""
    ends = ["none" if end is None else f"{end:g}" if np.ndim(end) == 0 else "one per row" for end in pair]
    return f"lower {ends[0]}, upper {ends[1]}"
