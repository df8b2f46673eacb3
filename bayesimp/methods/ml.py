"""`ML`: parameters drawn from the asymptotic normal distribution of their maximum likelihood estimates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from bayesimp.methods.base import BINARY_AND_COUNTS, OPTIONS, Method
from bayesimp.methods.options import check_compatible

if TYPE_CHECKING:
    from bayesimp.fcs.blocks.base import Block
    from bayesimp.fcs.table import ChainedTable

__all__ = ["ML"]


@dataclass(frozen=True)
class ML(Method):
    """MICE-ML (Resche-Rigon et al. 2013; Kunkel & Kaizar sec. 2.3.1): normal draws around the ML estimates."""

    compatible: bool | None = None
    name: str = "ml"

    summary = "Kunkel & Kaizar's MICE-ML: normal draws around estimates"
    families = ("normal",)
    random = "required"
    options = frozenset(OPTIONS)
    prior_on_Psi = False

    def __post_init__(self) -> None:
        check_compatible(self.compatible, "ML")

    def alternative(self, family: str) -> str:
        """`MLMI` for binary variables and counts, which also draws around fits."""
        return "'mlmi'" if family in BINARY_AND_COUNTS else super().alternative(family)

    def block(self, table: ChainedTable, k: int) -> Block:
        """The sampler, which works on cross products."""
        from bayesimp.fcs.blocks.normal import MaximumLikelihoodBlock

        return MaximumLikelihoodBlock(table, k)
