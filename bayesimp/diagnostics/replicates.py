"""Posterior predictive checks by cluster: statistics of observed values compared with replicated ones.

For a statistic T of the observed cells of a variable in a cluster, and replicates y_rep of the same cells at posterior
draws (with the effects of the clusters of the data, or of new ones),

    p = Pr(T(y_rep) > T(y_obs) | y_obs) + Pr(T(y_rep) = T(y_obs) | y_obs) / 2        Gelman, Meng & Stern 1996, sec. 2

If p is near 0 or 1, the model does not reproduce the statistic. The data are used twice, so under a correct model p is
closer to 1/2 than uniform, above all for means, to which cluster effects are fitted; ``new_clusters=True`` is a
stricter check of these.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bayesimp import notation as nt
from bayesimp.errors import SpecificationError
from bayesimp.kinds import checks_arguments
from bayesimp.layout import Printed, tabulated
from bayesimp.markup import framed, paragraph, table

if TYPE_CHECKING:
    from bayesimp.families.record import Family
    from bayesimp.imputation.result import Imputations

__all__ = ["Replicates", "replicates"]

Array = NDArray[np.float64]
EXTREME = 0.025  # p below this, or above 1 minus this, is extreme
LEAST = 3  # fewest observed cells in a cluster for a standard deviation


@checks_arguments
@dataclass(frozen=True)
class Replicates(Printed):
    """Observed statistics compared with replicated ones.

    Attributes
    ----------
    table
        One row for each variable, cluster and statistic: variable, cluster, statistic ("mean", "sd", "share of <level>",
        "share of 0"), cells, observed, replicated (mean), q2.5, q97.5, p.
    draws
        Number of replicated tables.
    new_clusters
        Whether cluster effects were those of new clusters.
    """

    table: pd.DataFrame
    draws: int
    new_clusters: bool

    @property
    def extreme(self) -> pd.DataFrame:
        """Rows with p below 0.025 or above 0.975, the most extreme first."""
        distance = np.minimum(self.table["p"], 1 - self.table["p"])
        return (
            self.table[distance < EXTREME]
            .assign(distance=distance)
            .sort_values("distance")
            .drop(columns="distance")
        )

    def by_variable(self) -> pd.DataFrame:
        """Table of variable, statistic, clusters, extreme (with p below 0.025 or above 0.975), expected (at most)."""
        far = self.table["p"].lt(EXTREME) | self.table["p"].gt(1 - EXTREME)
        grouped = far.groupby([self.table["variable"], self.table["statistic"]], sort=False)
        out = grouped.agg(["size", "sum"]).reset_index()
        out.columns = pd.Index(["variable", "statistic", "clusters", "extreme"])
        return out.assign(expected=2 * EXTREME * out["clusters"])

    def _said(self) -> str:
        return "\n".join([*self._heads(), tabulated(self.by_variable(), number="{:.3g}".format)])

    def _repr_html_(self) -> str:
        title, head = self._heads()
        return framed(title, [paragraph(head), table(self.by_variable())])

    def _heads(self) -> tuple[str, str]:
        kind = "new clusters" if self.new_clusters else "the clusters of the data"
        return (
            f"Replicates of observed values: {self.draws:,} draws, {kind}",
            "Clusters whose statistic is in the outer 5 % of the replicated ones",
        )


def replicates(
    imputations: Imputations, draws: int = 200, *, new_clusters: bool = False, seed: int = 0
) -> Replicates:
    """Replicate the observed cells and compare means and standard deviations (for levels and zeros, shares) by cluster.

    Parameters
    ----------
    draws
        Approximate number of posterior draws to use, spread over the chains.
    new_clusters
        Whether replicates are of new clusters rather than those of the data.
    seed
        Seed for effects and replicates.

    Raises
    ------
    SpecificationError
        The engine cannot replicate (user-defined code, methods of `FCS` without a distribution; the message explains it),
        or there are too few draws.
    """
    if draws < 20:
        raise SpecificationError(f"replicates: draws = {draws!r}; tail probabilities need at least 20.")
    posterior = imputations.tree["posterior"].sizes
    thin = min(max(posterior[nt.CHAIN] * posterior[nt.DRAW] // draws, 1), posterior[nt.DRAW])
    tree = imputations.tree_with("posterior_predictive", thin=thin, new_clusters=new_clusters, seed=seed)
    rows: list[dict[str, Any]] = []
    used = 0
    observed = tree["observed_data"].to_dataset()
    for name, array in tree["posterior_predictive"].to_dataset().data_vars.items():
        column, (dim,) = str(array.attrs["column"]), array.dims[2:]
        drawn = array.values.reshape(-1, array.shape[2]).astype(np.float64)
        seen = observed[name].values.astype(np.float64)
        codes = imputations.data.codes[array[dim].values]
        family = imputations.data.variable(column).distribution
        rows += _of_variable(column, family, imputations.data, drawn, seen, codes)
        used = len(drawn)
    return Replicates(pd.DataFrame(rows), used, new_clusters)


def _of_variable(
    name: str, family: Family, data: Any, drawn: Array, seen: Array, codes: NDArray[np.int64]
) -> list[dict[str, Any]]:
    """Rows for one variable: drawn (D, n), seen (n,), cluster codes (n,)."""
    rows = []
    for cluster in np.unique(codes):
        own = codes == cluster
        for label, statistic in _statistics(name, family, data, int(own.sum())).items():
            T, t = statistic(drawn[:, own]), float(statistic(seen[None, own])[0])
            low, high = np.quantile(T, [0.025, 0.975])
            p = (T > t).mean() + (T == t).mean() / 2
            rows.append({
                "variable": name, "cluster": data.clusters[cluster], "statistic": label, "cells": int(own.sum()),
                "observed": t, "replicated": T.mean(), "q2.5": low, "q97.5": high, "p": p,
            })  # fmt: skip
    return rows


def _statistics(name: str, family: Family, data: Any, cells: int) -> dict[str, Callable[[Array], Array]]:
    """Label -> statistic, a function (D, n) -> (D,)."""
    if family.is_coded:
        levels = list(enumerate(data.levels(name)))
        shown = levels[1:] if len(levels) == 2 else levels
        return {f"share of {level}": _share(k) for k, level in shown}
    out: dict[str, Callable[[Array], Array]] = {"mean": lambda x: x.mean(axis=1)}
    if cells >= LEAST:
        out["sd"] = lambda x: x.std(axis=1, ddof=1)
    if family.is_count:
        out["share of 0"] = _share(0)
    return out


def _share(value: int) -> Callable[[Array], Array]:
    return lambda x: (x == value).mean(axis=1)
