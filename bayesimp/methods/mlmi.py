"""`MLMI`: multilevel imputation of binary variables and counts by fitting models (Jolani 2025)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from bayesimp.methods.base import BINARY_AND_COUNTS, Method
from bayesimp.methods.options import Link, check_compatible, check_link, check_true_or_false

if TYPE_CHECKING:
    from bayesimp.fcs.blocks.base import Block
    from bayesimp.fcs.table import ChainedTable

__all__ = ["MLMI"]


@dataclass(frozen=True)
class MLMI(Method):
    """Multilevel imputation of binary variables and counts by fitting models (Jolani 2025, sec. 2.4).

    Each visit fits the model by the full Laplace approximation, proposes (beta, Psi) around the fit and accepts or
    rejects the proposal by Metropolis, draws the effects of clusters with observed values from their exact conditional
    distribution given these parameters, and makes one update of the sampler of `Bayes`. The priors are the defaults of
    `Bayes`.

    Parameters
    ----------
    published
        The published algorithm to the letter, for comparison: a penalised fit, Wishart draws based on the predicted
        effects, and an accept-reject step that after 250 tries ends with a draw that ignores the cluster's own values.
        Events say how often this happens, and how often the fit failed and the values of the last visit were kept.
    link, compatible
        As in `Gibbs`.
    """

    published: bool = False
    link: Link = "logit"
    compatible: bool | None = None
    name: str = "mlmi"

    summary = "Metropolis steps around Laplace fits (Jolani 2025)"
    families = BINARY_AND_COUNTS
    links = ("logit", "probit")
    random = "required"

    def __post_init__(self) -> None:
        check_true_or_false(self.published, "MLMI: published")
        check_link(self.link)
        check_compatible(self.compatible, "MLMI")

    def without_cluster_means(self) -> str | None:
        """The published algorithm has the columns of the paper."""
        return "is as published" if self.published else None

    def proper_prior(self, family: str) -> str | None:
        """Coefficients have weak normal priors; the published algorithm has none."""
        return None if self.published else "its coefficient rests on its normal prior alone"

    def block(self, table: ChainedTable, k: int) -> Block:
        """The sampler, which works row by row."""
        from bayesimp.fcs.blocks.mlmi import MlmiBlock, PublishedBlock

        return PublishedBlock(table, k) if self.published else MlmiBlock(table, k)
