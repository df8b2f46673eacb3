"""Whether the observed cells identify a joint model, checked before sampling."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from bayesimp.errors import DataError, SpecificationError
from bayesimp.events import Event
from bayesimp.families.columns import as_continuous
from bayesimp.families.registry import family_of
from bayesimp.formulas.combinations import refuse_combinations
from bayesimp.messages import listing
from bayesimp.priors import Priors
from bayesimp.table.cluster_level import one_row_each
from bayesimp.table.clusters import Clusters, varies_within
from bayesimp.table.incomplete import IncompleteData
from bayesimp.table.other_levels import of_other_levels

__all__ = ["check_information", "check_varies_within", "few_clusters", "never_together", "only_cluster"]

HEAD = 10_000  # rows of a long table that usually show that a variable varies within clusters
OTHER_ENGINES = "; bi.JointGLMM and bi.FCS impute cluster-level variables with row-level ones"
JOINT_LATENT = (
    "; bi.JointLatent imputes cluster-level variables with row-level ones, in one model of normal variables"
)


def check_information(
    data: IncompleteData,
    responses: tuple[str, ...],
    priors: Priors,
    *,
    normal_only: bool = True,
    Psi: str = "Psi",
    of_clusters: tuple[str, ...] = (),
) -> list[Event]:
    """Refuse parameters that cannot be estimated; report those that depend on the prior alone.

    normal_only: refuse responses that are not normal; Psi: name of the covariance of the effects of the clusters;
    of_clusters: cluster-level variables that are imputed as such.

    Returns
    -------
    Events of kind "prior only", for pairs of responses never observed in the same row (their residual covariance) or in
    the same cluster (the covariance of their effects) and for responses observed in few clusters; and of kind "another
    level", for responses with one value in each group of a column that is not the cluster.

    Raises
    ------
    SpecificationError
        The family of a response is not normal.
    DataError
        A response has no observed values, or is observed in only one cluster although Psi is to be estimated.
    """
    for name in responses if normal_only else ():
        _check_normal(data, name)
    names = responses + of_clusters
    data.require_observed(names)
    observed = np.column_stack([~data.missing(name) for name in names])
    seen = np.column_stack([data.grouping.count(column) for column in observed.T])
    events = one_row_each(data) + of_other_levels(data, responses)
    refuse_combinations(data, responses)
    more = JOINT_LATENT if normal_only else OTHER_ENGINES
    for k, name in enumerate(names):
        if k < len(responses):
            check_varies_within(name, data.numeric(name), data.grouping, more)
        if priors.Psi.is_known:
            continue
        if (seen[:, k] > 0).sum() == 1:
            raise only_cluster(name, data.grouping, seen[:, k])
        events += few_clusters(name, seen[:, k], f"{Psi}[{name}]", "clusters")
    events += never_together(responses, observed, "Sigma", "row", "residual")
    return events + never_together(names, seen > 0, Psi, "cluster", "cluster-effect")


def only_cluster(name: str, groups: Clusters, seen: NDArray[np.int64], factor: str = "") -> DataError:
    """The error about a response observed in one cluster; seen (m,): rows in each; factor: if it is not primary."""
    only = listing([groups.labels[int(np.argmax(seen))]])
    what, Psi = (f"groups of '{factor}'", f"Psi_{factor}") if factor else ("clusters", "Psi")
    fix = f"Psi_of={{'{factor}': priors.Fixed(...)}}" if factor else "Psi=priors.Fixed(...)"
    return DataError(
        f"'{name}' is observed in 1 of {len(groups)} {what} ({only}, {seen.max()} rows): "
        f"its between-cluster variance ({Psi}) cannot be estimated. Remove it from the left side of the "
        f"formula, or fix Psi: priors.Priors({fix})."
    )


def few_clusters(name: str, seen: NDArray[np.int64], where: str, what: str) -> list[Event]:
    """An event if a response is observed in fewer than five clusters (what); seen (m,): its rows in each."""
    clusters = int((seen > 0).sum())
    if clusters >= 5:
        return []
    text = (
        f"'{name}' is observed in {clusters} {what} only: its between-cluster variance depends "
        "strongly on the prior. Compare several priors."
    )
    return [Event("prior matters", where, text, clusters)]


def never_together(
    responses: Sequence[str], seen: NDArray[np.bool_], where: str, together: str, what: str
) -> list[Event]:
    """Events for pairs of responses never observed together; seen (m, r): the rows or clusters in which they are
    observed."""
    events = []
    for j, k in combinations(range(len(responses)), 2):
        if not (seen[:, j] & seen[:, k]).any():
            pair = f"{responses[j]}, {responses[k]}"
            text = (
                f"'{pair}' are never observed in the same {together}: their {what} covariance comes from the prior "
                "alone."
            )
            events.append(Event("prior only", f"{where}[{pair}]", text, 0))
    return events


def check_varies_within(
    name: str, y: NDArray[np.float64], groups: Clusters, more: str, factor: str = ""
) -> None:
    """Refuse a response y (n,) that is constant within every cluster and is therefore a cluster-level variable.

    more: further advice; factor: the grouping factor, if the groups are not the primary clusters.
    """
    head = slice(HEAD)
    if len(y) > HEAD and varies_within(y[head], groups.codes[head]).any():
        return
    there = ~np.isnan(y)
    seen = groups.count(there)
    low, high = np.full(len(seen), np.inf), np.full(len(seen), -np.inf)
    np.minimum.at(low, groups.codes[there], y[there])
    np.maximum.at(high, groups.codes[there], y[there])
    constant = low.min() == high.max()  # refused elsewhere
    what = f"groups of '{factor}'" if factor else "clusters"
    if not constant and (seen > 1).any() and not (high > low)[seen > 1].any():
        raise DataError(
            f"'{name}' has a single value in each of the {int((seen > 0).sum())} {what} where it is observed: it is a "
            "variable of "
            f"{what}, whose variance within {'them' if factor else 'clusters'} (Sigma) is zero. This model imputes "
            "variables of rows. Remove it from the left side of the formula, or fill it in for each "
            f"{'group' if factor else 'cluster'} first and move it to the right{more}."
        )


def _check_normal(data: IncompleteData, name: str) -> None:
    data.missing(name)  # an unknown name is refused here, with suggestions
    family = data.families[name]
    if family_of(family).is_censored:
        raise SpecificationError(
            f"'{name}' has family '{family}', and the joint normal model does not know about limits. bi.JointGLMM and "
            "bi.FCS draw values beyond a limit."
        )
    if not family_of(family).is_normal:
        raise SpecificationError(
            f"'{name}' has family '{family}', and the joint normal model imputes normal variables only. Others are "
            f"imputed by chained equations (FCS). {as_continuous(data.frame[name])}"
        )
