"""Draws of a joint GLMM in the units of the data, under the names of the result.

beta_<y>, sigma2_<y>, shape_<y>, cutpoints_<y>, ..  of the factor of y (families/auxiliary.py)
Psi                                                covariance of the effects of all factors (or Psi_<y> if they are
                                                   separate)
Psi_<group>, Psi_<group>_<y>                       the same by grouping factor, with several
B, B_<group>, ..                                   effects by cluster or group, if they were kept
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from bayesimp import notation as nt
from bayesimp.joint.glmm.blocks import tree_name
from bayesimp.joint.glmm.prior import block_scale
from bayesimp.scale.effects import of_all

if TYPE_CHECKING:
    from bayesimp.joint.glmm.factors import Factor
    from bayesimp.joint.glmm.gibbs import JointHistory
    from bayesimp.joint.glmm.model import JointGLMM

__all__ = ["posterior"]


def posterior(model: JointGLMM, h: JointHistory) -> tuple[dict[str, tuple], dict[str, list]]:
    """Variables of the posterior, name -> (dims, array (chains, draws, ...)), and their coordinates."""
    variables: dict[str, tuple] = {}
    coords: dict[str, list] = {}
    for k, one in enumerate(model.factors):
        for name, dims, array, own in _of_factor(model, h, k, one):
            variables[name] = dims, array
            coords |= own
    table = model.table
    for b, block in enumerate(model.blocks):
        labels, end = block.labels(model.factors), block.end
        if not labels:
            continue
        scale = block_scale(table, block)
        effect = f"effect{end}"
        coords |= {effect: labels, f"{effect}_2": labels}
        variables[f"Psi{end}"] = (effect, f"{effect}_2"), scale.Psi(h.Psi[b])
        if h.B[b].shape[1]:
            B = (h.B[b] * scale.effects) @ of_all(scale.C, len(scale.effects)).T
            dim, order = nt.CLUSTER, table.order
            if block.level:
                rows, factor = table.further[block.level - 1], model.further[block.level - 1]
                dim, order = nt.group_dimension(rows.label), rows.order
                coords[dim] = [nt.shown(label) for label in factor.groups.labels]
            variables[f"B{end}"] = (dim, effect), B[:, :, np.argsort(order)]
    return variables, coords


def _of_factor(
    model: JointGLMM, h: JointHistory, k: int, factor: Factor
) -> Iterator[tuple[str, tuple[str, ...], Any, dict[str, list]]]:
    table, end = model.table, tree_name(factor)
    beta, fixed = table.scales[k].beta(h.beta[k]), f"fixed_{end}"
    labels: dict[str, list] = {fixed: [column.name for column in factor.fixed]}
    if factor.family.predictor_per_level:
        level = f"level_{end}"
        yield f"beta_{end}", (fixed, level), beta, labels | {level: [str(x) for x in factor.levels[1:]]}
    else:
        yield f"beta_{end}", (fixed,), beta[..., 0], labels
    if factor.family.has_normal_errors:
        yield f"sigma2_{end}", (), (h.sd[:, :, k] * table.scales[k].s[0]) ** 2, {}
    if not h.aux[k].shape[-1]:
        return
    flat = h.aux[k].reshape(-1, h.aux[k].shape[-1])
    for auxiliary in factor.family.auxiliaries:
        name, unit = f"{auxiliary.name}_{end}", table.arrays.unit[k] if auxiliary.has_unit else 1.0
        made = np.array([auxiliary.from_kernel(aux) * unit for aux in flat])
        made = made.reshape(*h.aux[k].shape[:2], *made.shape[1:])
        yield name, tuple(f"{name}_{axis}" for axis in range(made.ndim - 2)), made, {}
