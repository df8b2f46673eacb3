"""`MLMI`: multilevel imputation of binary variables and counts by fitted models (Jolani 2025)."""

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
    """Multilevel imputation of binary variables and counts by fitted models (Jolani 2025, sec. 2.4).

    Every visit fits the model by the full Laplace approximation; proposes (beta, Psi) around the fit, accepted by
    Metropolis; draws the effects of clusters with observed values from their exact conditional at the parameters drawn;
    and makes one update of the sampler of `Bayes`. Priors are `Bayes`'s defaults.

    Parameters
    ----------
    published
        The published algorithm to the letter, for comparison: penalised fit, Wishart draws by the predicted effects,
        and an accept-reject step that ends after 250 tries with a draw that knows nothing of the cluster's own values.
        How often it does so is among the events, and how often it had no fit and kept the values of the last visit.
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
        return None if self.published else "its coefficient has its normal prior alone"

    def block(self, table: ChainedTable, k: int) -> Block:
        """By rows."""
        from bayesimp.fcs.blocks.mlmi import MlmiBlock, PublishedBlock

        return PublishedBlock(table, k) if self.published else MlmiBlock(table, k)
