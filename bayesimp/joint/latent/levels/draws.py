"""One draw of `JointLatent` with several grouping factors, its parameters by factor."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from bayesimp.notation import Array

if TYPE_CHECKING:
    from bayesimp.joint.latent.levels.run import LatentLevelsRun

__all__ = ["LatentLevelsParameters", "parameters_at"]


@dataclass(frozen=True)
class LatentLevelsParameters:
    """A draw on the working scale; Psi, gamma and cutpoints of the variables of groups by factor."""

    beta: Array
    Sigma: Array
    cutpoints: Array
    Psi: tuple[Array, ...]
    gamma: tuple[Array, ...]
    group_cutpoints: tuple[Array, ...]


def parameters_at(run: LatentLevelsRun, at: tuple[int, int]) -> LatentLevelsParameters:
    """The draw at (chain, position in the history)."""
    h, table = run.history, run.several.table
    psi_at, record, stacked = table.factors.psi_at, table.groups.record, h.gamma[at]
    Psi, gamma, cutpoints, cut = [], [], [], 0
    for s, own in enumerate(table.groups.tables):
        n = round(np.sqrt(psi_at[s + 1] - psi_at[s]))
        Psi.append(h.Psi[at][psi_at[s] : psi_at[s + 1]].reshape(n, n))
        stop = record.member_at[s + 1]
        columns = record.member[stop - len(own.labels) : stop]
        gamma.append(stacked[: len(own.fixed), columns])
        number = sum(v.cutpoints for v in own.variables)
        cutpoints.append(h.group_cutpoints[at][cut : cut + number])
        cut += number
    return LatentLevelsParameters(
        h.beta[at], h.Sigma[at], h.cutpoints[at], tuple(Psi), tuple(gamma), tuple(cutpoints)
    )
