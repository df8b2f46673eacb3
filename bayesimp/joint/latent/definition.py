"""A `JointLatent` as the record from which its PyMC model is made."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from bayesimp import notation as nt
from bayesimp.joint.latent.table import levels_of_rows
from bayesimp.kernels.latent.records import NUMBER, THRESHOLD, UTILITY
from bayesimp.models.joint_latent import LatentData, joint_latent
from bayesimp.models.joint_normal import FurtherFactor

if TYPE_CHECKING:
    import pymc as pm

    from bayesimp.joint.latent.levels.model import SeveralLatentFactors
    from bayesimp.joint.latent.model import JointLatent

__all__ = ["latent_data", "pymc_model"]


def latent_data(model: JointLatent) -> LatentData:
    """The record, with rows and groups in the order of the table."""
    table, data, scale, several = model.table, model.data, model.table.working.scale, model.several
    Y = np.full(table.Y.shape, np.nan)
    for variable in table.variables:
        if variable.kind == NUMBER:
            Y[:, variable.first] = data.numeric(variable.name)
    level = np.column_stack([levels_of_rows(data, v) for v in table.variables for _ in v.labels])
    ordered = {v.first: len(v.levels) for v in table.variables if v.kind == THRESHOLD}
    names = {v.first: nt.in_tree(v.name) for v in table.variables if v.cutpoints > 1}
    nominal = [v.columns for v in table.variables if v.kind == UTILITY]
    priors, working = model.working_priors, (np.linalg.inv(scale.T), scale.s, scale.offset)
    Psi = model.resolved.Psi if several is None else model.resolved.of_factor(several.labels[0])
    return LatentData(
        model.design.X, model.design.Z, data.codes, Y, level, ordered, nominal, names, priors.Q0, priors.t0, working,
        model.resolved.Sigma, model.entries, Psi, "" if several is None else nt.in_tree(several.labels[0]),
        () if several is None else _further(several),
    )  # fmt: skip


def _further(several: SeveralLatentFactors) -> tuple[FurtherFactor, ...]:
    """The grouping factors after the first."""
    return tuple(
        FurtherFactor(
            nt.in_tree(factor.label), made.Z, factor.groups.codes, len(factor.groups),
            several.resolved.of_factor(factor.label), tuple(several.effects(s)),
        )
        for s, (factor, made) in enumerate(zip(several.factors, several.designs, strict=True))
        if s
    )  # fmt: skip


def pymc_model(model: JointLatent) -> pm.Model:
    """The PyMC model of models/joint_latent.py."""
    labels = model.table.labels
    coords: dict[str, list[str]] = {}
    if model.several is None:
        coords |= dict.fromkeys(("effect", "effect_2"), model.effects)
    else:
        coords |= model.several.effect_coords()
    coords |= {"fixed": list(model.design.fixed), "latent": labels, "latent_2": labels}
    return joint_latent(latent_data(model), coords)
