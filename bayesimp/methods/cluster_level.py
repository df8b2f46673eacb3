"""`ClusterLevel`: cluster-level variables, imputed once per cluster."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from bayesimp.methods.base import OPTIONS, Method, compiled_families, matched_families
from bayesimp.methods.options import check_count

if TYPE_CHECKING:
    from bayesimp.fcs.blocks.base import Block
    from bayesimp.fcs.specification.levels import Draft
    from bayesimp.fcs.table import ChainedTable
    from bayesimp.table.incomplete import IncompleteData

__all__ = ["ClusterLevel"]


@dataclass(frozen=True)
class ClusterLevel(Method):
    """A cluster-level variable: one value per cluster, from the cluster means of the predictors (mice's 2lonly.norm).

    The Bayesian regression of its family is fitted to one row per cluster (kernels/glm/cluster_level.py). With a log link
    (counts, gamma, inverse Gaussian), the joint prior sd of all predictors is the sd of log y.

    Parameters
    ----------
    donors
        Number of donors for predictive mean matching among clusters (2lonly.pmm); None: no matching.
    """

    donors: int | None = None
    name: str = "2lonly"

    summary = "cluster-level variables: one value per cluster, from cluster means"
    level = "cluster"
    options = frozenset(OPTIONS)

    def __post_init__(self) -> None:
        if self.donors is not None:
            check_count(self.donors, "donors")

    @property
    def families(self) -> tuple[str, ...]:
        """All families; with matching, those with numbers or ordered levels."""
        return compiled_families() if self.donors is None else matched_families()

    @property
    def given_analysis(self) -> bool:
        """Without matching."""
        return not self.matches

    def without_cluster_means(self) -> str | None:
        """Why cluster means cannot be added: the columns already are cluster means."""
        return None

    def proper_prior(self, family: str) -> str | None:
        """Every family has weak normal priors."""
        return "its coefficient rests on its normal prior alone"

    def columns(self, draft: Draft, data: IncompleteData, values: Mapping[str, NDArray[np.float64]]) -> Draft:
        """Replace columns that vary within clusters by their cluster means."""
        from bayesimp.fcs.specification.levels import between_clusters

        return between_clusters(draft, data, values)

    def block(self, table: ChainedTable, k: int) -> Block:
        """The sampler, which works on one row per cluster."""
        from bayesimp.fcs.blocks.cluster_level import ClusterLevelBlock

        return ClusterLevelBlock(table, k)
