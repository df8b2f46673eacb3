"""`TwoStage` (2STG): a regression in every cluster, then a meta-analysis of the coefficients (Resche-Rigon & White
2018)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from bayesimp.methods.base import BINARY_AND_COUNTS, OPTIONS, Method, matched_families
from bayesimp.methods.options import Link, check_choice, check_count, check_link, check_true_or_false

if TYPE_CHECKING:
    from bayesimp.events import Event
    from bayesimp.fcs.blocks.base import Block
    from bayesimp.fcs.identification.evidence import Evidence
    from bayesimp.fcs.specification.levels import Draft
    from bayesimp.fcs.table import ChainedTable
    from bayesimp.table.incomplete import IncompleteData

__all__ = ["TwoStage"]


@dataclass(frozen=True)
class TwoStage(Method):
    """Two-stage imputation (2STG): a regression in every cluster, then a meta-analysis (Resche-Rigon & White 2018).

    All coefficients differ between clusters; a normal variable also has a residual variance for each cluster.

    Parameters
    ----------
    estimator
        Estimator of the between-cluster covariance matrix: ``"reml"``, drawn through its Cholesky factor, or
        ``"moments"`` (DerSimonian & Laird), held at its estimate, as published.
    donors
        Number of donors for predictive mean matching, which replaces draws from the model; None: no matching.
    published
        Whether a cluster whose own regression fails is treated as if it had no observed values, as published; otherwise
        its rows still count. Events name the cluster in either case.
    link
        As in `Gibbs`.
    """

    estimator: Literal["reml", "moments"] = "reml"
    donors: int | None = None
    published: bool = False
    link: Link = "logit"
    name: str = "2stage"

    summary = "a regression in every cluster, then a meta-analysis (Resche-Rigon & White 2018)"
    links = ("logit", "probit")
    random = "optional"
    options = frozenset(OPTIONS)
    fits_each_cluster = True
    centres_products = False  # it has no prior that could depend on the origin

    def __post_init__(self) -> None:
        check_choice(self.estimator, "TwoStage: estimator", ("reml", "moments"))
        if self.donors is not None:
            check_count(self.donors, "donors")
        check_true_or_false(self.published, "TwoStage: published")
        check_link(self.link)

    @property
    def families(self) -> tuple[str, ...]:
        """The families with a model; with matching, those with numbers or ordered levels."""
        return ("normal", *BINARY_AND_COUNTS) if self.donors is None else matched_families()

    def columns(self, draft: Draft, data: IncompleteData, values: Mapping[str, NDArray[np.float64]]) -> Draft:
        """Let the coefficients of all columns that vary within clusters differ between clusters."""
        from bayesimp.fcs.specification.levels import random_within_clusters

        return random_within_clusters(draft, data, values)

    def check(self, evidence: Evidence) -> list[Event]:
        """Refuse a variable for which too few clusters can be fitted on their own."""
        from bayesimp.fcs.identification.clusters import fitted_by_themselves

        return fitted_by_themselves(evidence)

    def block(self, table: ChainedTable, k: int) -> Block:
        """The sampler, which works cluster by cluster."""
        from bayesimp.fcs.blocks.two_stage import TwoStageBlock

        return TwoStageBlock(table, k)
