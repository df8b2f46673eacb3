"""`Norm`, `PMM`, `SingleLevel`: regressions that ignore the clusters, for comparison."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from bayesimp.errors import SpecificationError
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

__all__ = ["PMM", "Norm", "SingleLevel"]


class IgnoresClusters(Method):
    """Base class of methods that ignore the clusters."""

    options = frozenset(OPTIONS)

    def columns(self, draft: Draft, data: IncompleteData, values: Mapping[str, NDArray[np.float64]]) -> Draft:
        """Drop default columns that are constant in the only cluster in which the response is observed."""
        from bayesimp.fcs.specification.levels import varying_in_one_cluster

        return varying_in_one_cluster(draft, data, values)


@dataclass(frozen=True)
class Norm(IgnoresClusters):
    """Bayesian linear regression that ignores the clusters (mice's norm)."""

    name: str = "norm"

    summary = "linear regression that ignores the clusters, for comparison"
    needs_residual_rows = True
    holds_coefficients = True
    given_analysis = True
    families = ("normal",)

    def alternative(self, family: str) -> str:
        """`SingleLevel` for binary variables and counts, which also ignores the clusters."""
        return "'glm'" if family in BINARY_AND_COUNTS else super().alternative(family)

    def block(self, table: ChainedTable, k: int) -> Block:
        """The sampler, which works on cross products."""
        from bayesimp.fcs.blocks.normal import RegressionBlock

        return RegressionBlock(table, k)


@dataclass(frozen=True)
class PMM(IgnoresClusters):
    """Predictive mean matching that ignores the clusters (mice's pmm).

    Parameters
    ----------
    donors
        Number of observed rows with the closest predictions, one of which, drawn at random, supplies the value.
    """

    donors: int = 5
    name: str = "pmm"

    summary = "predictive mean matching that ignores the clusters, for comparison"
    needs_residual_rows = True
    holds_coefficients = True

    @property
    def families(self) -> tuple[str, ...]:
        """Families with numbers or ordered levels."""
        return matched_families()

    def __post_init__(self) -> None:
        check_count(self.donors, "donors")

    def check(self, evidence: Evidence) -> list[Event]:
        """Refuse a variable with fewer observed values than donors."""
        if evidence.rows.sum() < self.donors:
            raise SpecificationError(
                f"'{evidence.name}' is observed in {evidence.seen}, fewer than the {self.donors} donors of pmm; take "
                "fewer."
            )
        return []

    def block(self, table: ChainedTable, k: int) -> Block:
        """The sampler: a regression followed by matching."""
        from bayesimp.fcs.blocks.normal import MatchingBlock

        return MatchingBlock(table, k)


@dataclass(frozen=True)
class SingleLevel(IgnoresClusters):
    """Regression by the variable's family, ignoring the clusters (mice's logreg, polr, polyreg)."""

    link: Link = "logit"
    name: str = "glm"

    summary = "regression of the family that ignores the clusters, for comparison"
    families = ("normal", *BINARY_AND_COUNTS, *LEVELS)
    given_analysis = True
    links = ("logit", "probit")

    def __post_init__(self) -> None:
        check_link(self.link)

    def proper_prior(self, family: str) -> str | None:
        """Coefficients of non-normal models have weak normal priors."""
        return "its coefficient rests on its normal prior alone" if not family_of(family).is_normal else None

    def for_family(self, family: str) -> Method:
        """`Norm` for a normal variable."""
        return Norm() if family_of(family).is_normal else self

    def block(self, table: ChainedTable, k: int) -> Block:
        """The sampler, which works row by row."""
        from bayesimp.fcs.blocks.single_level import SingleLevelBlock

        return SingleLevelBlock(table, k)
