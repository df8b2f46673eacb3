"""The printed form of a model: its conditional models, their priors, bounds and notes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bayesimp.errors import SpecificationError
from bayesimp.fcs.specification.describe import described, described_bounds
from bayesimp.fcs.specification.records import text

if TYPE_CHECKING:
    from bayesimp.fcs.model import FCS

__all__ = ["described_model"]


def described_model(model: FCS) -> str:
    """The text of ``print(model)``."""
    n, m = len(model.data.frame), len(model.data.clusters)
    lines = [f"FCS: {len(model.spec.blocks)} conditional models, {n:,} rows in {m:,} clusters"]
    lines += [text(model.spec, model.data.cluster)]
    if model.methods_by_default:
        lines += ["  methods chosen by family, level and observed clusters; a note says where it is not bayes,",
                  "  the Bayesian model of the variable's family with cluster effects"]  # fmt: skip
    lines += [f"  priors of {line}" for line in _priors(model)]
    lines += [f"  bounds of {name}: {described_bounds(pair)}" for name, pair in model.bounds.items()]
    lines += [f"  changed by a user-defined function (post): {name}" for name in model.post]
    family = {name: block.distribution for block in model.spec.blocks for name in block.responses}
    lines += [f"  {line}" for line in model.shift.describe(lambda name: not family[name].has_normal_errors)]
    lines += [f"  note: {event.where}: {event.message}" for event in model.events]
    return "\n".join(lines)


def _priors(model: FCS) -> list[str]:
    try:
        priors = model.parameter_priors
    except SpecificationError as error:  # raised again when the model is sampled
        return [f"the blocks cannot be used: {error}"]
    levels = {name: model.data.levels(name) for name in model.spec.incomplete}
    return described(model.spec.blocks, priors, levels)
