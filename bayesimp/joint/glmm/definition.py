"""A `JointGLMM` as the record from which models/joint_glmm.py builds the PyMC model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from bayesimp import notation as nt
from bayesimp import priors as pr
from bayesimp.joint.glmm.blocks import places_of, tree_name
from bayesimp.joint.glmm.prior import beta_of, resolved_Psi, resolved_variance
from bayesimp.scale.effects import of_all

if TYPE_CHECKING:
    from bayesimp.joint.glmm.blocks import EffectsBlock
    from bayesimp.joint.glmm.model import JointGLMM
    from bayesimp.models.joint_data import EffectBlock, GLMMFactor, JointData
    from bayesimp.models.joint_glmm import JointModel

__all__ = ["joint_data", "pymc_model"]

CURE = "Use sampler='gibbs', or a proper prior."


def pymc_model(model: JointGLMM) -> JointModel:
    """The PyMC model, and what is needed to draw missing levels.

    Raises
    ------
    SpecificationError
        A prior is improper, or missing cells can neither be free nor summed out.
    """
    from bayesimp.models.joint_glmm import joint_glmm

    return joint_glmm(joint_data(model))


def joint_data(model: JointGLMM) -> JointData:
    """Factors, priors and table on the working scale."""
    from bayesimp.models.joint_data import FurtherGroups, JointData

    table, data = model.table, model.data
    places = places_of(model.blocks)
    return JointData(
        [_factor(model, k, places) for k in range(len(table.factors))],
        [_block(model, block) for block in model.blocks],
        table.V, table.Y, table.arrays.cluster, table.programs, table.means, table.divisor,
        [nt.shown(data.clusters[i]) for i in table.order], table.row,
        [
            FurtherGroups(
                nt.group_dimension(rows.label), [nt.shown(factor.groups.labels[g]) for g in rows.order], rows.codes
            )
            for factor, rows in zip(model.further, table.further, strict=True)
        ],
    )  # fmt: skip


def _factor(model: JointGLMM, k: int, places: Sequence[Mapping[int, tuple[int, int]]]) -> GLMMFactor:
    from bayesimp.models.joint_data import FactorEffects, GLMMFactor

    table = model.table
    factor, scale, a = table.factors[k], table.scales[k], table.arrays
    family = factor.family
    link = next(link for link, code in family.links.items() if code == factor.code)
    precision, shifted = beta_of(table, model.priors, k)
    mean = np.linalg.solve(precision, shifted) if precision.any() else np.zeros(len(shifted))
    variance = None
    if family.has_normal_errors:
        variance = pr.rescale(resolved_variance(model.priors, table, k), scale.s)
        variance.require_proper(1, f"sigma2 of '{factor.response}'", "NUTS", CURE)
    lower, upper = ((limit - a.center[k]) / a.unit[k] for limit in table.limits[k])
    return GLMMFactor(
        tree_name(factor), family.name, link, tuple(str(x) for x in factor.levels),
        tuple(column.name for column in factor.fixed), tuple(column.name for column in factor.grouped),
        int(a.column[k]), scale.T, scale.s, scale.c, scale.intercept, mean, precision, variance,
        tuple(
            FactorEffects(*places[s][k], tuple(factor.places[s]), scale.levels[s].random)
            for s in range(len(places)) if factor.has_level(s)
        ),
        int(a.variable[k]), float(a.center[k]), float(a.unit[k]), a.value[a.level[k] : a.level[k + 1]],
        a.used[:, k], a.trials[:, k], a.offset[:, k],
        lower, upper, factor.at_cluster,
    )  # fmt: skip


def _block(model: JointGLMM, block: EffectsBlock) -> EffectBlock:
    from bayesimp.models.joint_data import EffectBlock

    table = model.table
    labels, end = tuple(block.labels(table.factors)), block.end
    if not labels:
        return EffectBlock(end, labels, model.priors.Psi, np.zeros((0, 0)), block.level)
    prior, scale = resolved_Psi(model.priors, table, block, model.data.cluster)
    working = scale.working_Psi_prior(prior)
    working.require_proper(len(labels), f"Psi{end}", "NUTS", CURE)
    return EffectBlock(end, labels, working, of_all(scale.C, len(labels)) * scale.effects, block.level)
