"""The printed form of a joint GLMM: its factors in order, their priors, shift and notes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bayesimp.joint.glmm.blocks import tree_name
from bayesimp.priors.describe import describe

if TYPE_CHECKING:
    from bayesimp.joint.glmm.model import JointGLMM

__all__ = ["described_model"]


def described_model(model: JointGLMM) -> str:
    """The text of ``print(model)``."""
    data, K = model.data, len(model.factors)
    groups = f"{len(data.clusters):,} clusters"
    if model.further:
        sizes = [(data.cluster, len(data.clusters)), *((f.label, len(f.groups)) for f in model.further)]
        groups = "groups: " + ", ".join(f"{number:,} {label}" for label, number in sizes)
    lines = [f"JointGLMM: {len(data):,} rows in {groups}; {K} factors, in order:"]
    for factor in model.factors:
        count = int(data.missing(factor.response).sum())
        what = "analysis" if factor.is_analysis else "imputation"
        level = ", one value in a cluster" if factor.at_cluster else ""
        censored = int(data.variable(factor.response).censored.sum())
        beyond = f", {censored:,} of them beyond a limit" if censored else ""
        lines.append(f"  {factor.formula}   ({factor.family.name}{level}; {what}; {count:,} missing{beyond})")
    lines.append(f"  priors '{model.priors.name}', on the scale of the data:")
    for name, prior in model.parameter_priors.items():
        lines.append(f"    {name}: {describe(prior, _labels(model, name))}")
    normal = {factor.response for factor in model.factors if factor.family.has_normal_errors}
    lines += [f"  {line}" for line in model.shift.describe(lambda name: name not in normal)]
    lines += [f"  note: {event.where}: {event.message}" for event in model.events]
    return "\n".join(lines)


def _labels(model: JointGLMM, name: str) -> list[str]:
    """Labels of the elements of a parameter, from its name in the posterior."""
    factors = model.factors
    if name.startswith("Psi"):
        return next(block for block in model.blocks if name == f"Psi{block.end}").labels(factors)
    factor = next(f for f in factors if name.endswith(f"_{tree_name(f)}"))
    return [column.name for column in factor.fixed] if name.startswith("beta") else [factor.response]
