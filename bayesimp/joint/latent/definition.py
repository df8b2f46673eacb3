"""A `JointLatent` as the record from which its PyMC model is made."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from bayesimp import notation as nt
from bayesimp.joint.latent.table import levels_of_rows
from bayesimp.kernels.latent.records import NUMBER, THRESHOLD, UTILITY
from bayesimp.models.joint_latent import LatentData, joint_latent

if TYPE_CHECKING:
    import pymc as pm

    from bayesimp.joint.latent.model import JointLatent

__all__ = ["latent_data", "pymc_model"]


def latent_data(model: JointLatent) -> LatentData:
    """The record, with rows and groups in the order of the table."""
    table, data, scale = model.table, model.data, model.table.working.scale
    Y = np.full(table.Y.shape, np.nan)
    for variable in table.variables:
        if variable.kind == NUMBER:
            Y[:, variable.first] = data.numeric(variable.name)
    level = np.column_stack([levels_of_rows(data, v) for v in table.variables for _ in v.labels])
    ordered = {v.first: len(v.levels) for v in table.variables if v.kind == THRESHOLD}
    names = {v.first: nt.in_tree(v.name) for v in table.variables if v.cutpoints > 1}
    nominal = [v.columns for v in table.variables if v.kind == UTILITY]
    priors, working = model.grouping.priors.for_kernel, (np.linalg.inv(scale.T), scale.s, scale.offset)
    return LatentData(
        model.design.X, model.design.Z, data.codes, Y, level, ordered, nominal, names, priors.Q0, priors.t0, working,
        model.grouping.resolved.Sigma, model.grouping.entries[0], *model.grouping.pymc_factors(),
    )  # fmt: skip


def pymc_model(model: JointLatent) -> pm.Model:
    """The PyMC model of models/joint_latent.py."""
    labels = model.table.labels
    coords = model.grouping.effect_coords() | {
        "fixed": list(model.design.fixed),
        "latent": labels,
        "latent_2": labels,
    }
    return joint_latent(latent_data(model), coords)
