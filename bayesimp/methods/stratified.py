"""`Stratified` (STI): a fixed effect for every cluster, for comparison."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from bayesimp.families.registry import family_of
from bayesimp.methods.base import BINARY_AND_COUNTS, LEVELS, OPTIONS, Method, matched_families
from bayesimp.methods.options import Link, check_count, check_link

if TYPE_CHECKING:
    from bayesimp.events import Event
    from bayesimp.fcs.blocks.base import Block
    from bayesimp.fcs.identification.evidence import Evidence
    from bayesimp.fcs.specification.levels import Draft
    from bayesimp.fcs.table import ChainedTable
    from bayesimp.table.incomplete import IncompleteData

__all__ = ["Stratified"]


@dataclass(frozen=True)
class Stratified(Method):
    """Stratified imputation (STI): cluster indicators as fixed effects; for comparison.

    The regression is linear, logistic, Poisson, ordinal or multinomial, depending on the variable's family. A cluster
    without observed values gets the average of the other clusters' terms, so differences between clusters are not imputed
    there.

    Parameters
    ----------
    donors
        Number of donors for predictive mean matching (normal variables); None: no matching.
    link
        As in `Gibbs`.
    """

    donors: int | None = None
    link: Link = "logit"
    name: str = "sti"

    summary = "cluster indicators as fixed effects, for comparison"
    links = ("logit", "probit")
    options = frozenset(OPTIONS)
    cluster_indicators = True

    def __post_init__(self) -> None:
        if self.donors is not None:
            check_count(self.donors, "donors")
        check_link(self.link)

    @property
    def families(self) -> tuple[str, ...]:
        """The families with a model; with matching, those with numbers or ordered levels."""
        return ("normal", *BINARY_AND_COUNTS, *LEVELS) if self.donors is None else matched_families()

    def proper_prior(self, family: str) -> str | None:
        """Coefficients of non-normal models have weak normal priors."""
        return "its coefficient rests on its normal prior alone" if not family_of(family).is_normal else None

    def columns(self, draft: Draft, data: IncompleteData, values: Mapping[str, NDArray[np.float64]]) -> Draft:
        """Drop columns that differ only between clusters, because the indicators absorb them."""
        from bayesimp.fcs.specification.levels import within_clusters

        return within_clusters(draft, data, values)

    def check(self, evidence: Evidence) -> list[Event]:
        """Refuse a normal variable with no rows left to estimate a residual variance."""
        from bayesimp.fcs.identification.clusters import rows_for_cluster_terms

        return rows_for_cluster_terms(evidence)

    def block(self, table: ChainedTable, k: int) -> Block:
        """The sampler, which works row by row."""
        from bayesimp.fcs.blocks.single_level import StratifiedBlock

        return StratifiedBlock(table, k)
