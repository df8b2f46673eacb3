"""Whether the observed cells identify a joint model, checked before sampling."""

from __future__ import annotations

from itertools import combinations

import numpy as np

from bayesimp.errors import DataError, SpecificationError
from bayesimp.events import Event
from bayesimp.families.columns import as_continuous
from bayesimp.families.registry import family_of
from bayesimp.messages import listing
from bayesimp.priors import Priors
from bayesimp.table.incomplete import IncompleteData
from bayesimp.table.other_levels import of_other_levels

__all__ = ["check_information"]

OTHER_ENGINES = "; bi.JointGLMM and bi.FCS impute variables of clusters with those of rows"
JOINT_LATENT = (
    "; bi.JointLatent imputes variables of clusters with those of rows, in the same model of normal variables"
)


def check_information(
    data: IncompleteData,
    responses: tuple[str, ...],
    priors: Priors,
    *,
    normal_only: bool = True,
    of_clusters: tuple[str, ...] = (),
) -> list[Event]:
    """Refuse what cannot be estimated; note what depends on the prior alone.

    normal_only: refuse responses that are not normal; of_clusters: variables of clusters that are imputed as such.

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
    seen = np.zeros((len(data.clusters), len(names)), dtype=np.int64)
    np.add.at(seen, data.codes, observed)
    events = of_other_levels(data, responses)
    for k, name in enumerate(names):
        if k < len(responses):
            _check_varies_within(data, name, seen[:, k], JOINT_LATENT if normal_only else OTHER_ENGINES)
        clusters = int((seen[:, k] > 0).sum())
        if clusters == 1 and not priors.Psi.is_known:
            only = listing([data.clusters[int(np.argmax(seen[:, k]))]])
            raise DataError(
                f"'{name}' is observed in 1 of {len(data.clusters)} clusters ({only}, {seen[:, k].max()} rows): "
                "its variance between clusters (Psi) cannot be learned. Take it off the left side of the "
                "formula, or fix Psi: priors.Priors(Psi=priors.Fixed(...))."
            )
        if clusters < 5 and not priors.Psi.is_known:
            events.append(
                Event(
                    "prior matters",
                    f"Psi[{name}]",
                    f"'{name}' is observed in {clusters} clusters only: its variance between clusters depends "
                    "strongly on the prior; compare several.",
                    clusters,
                )
            )
    for j, k in combinations(range(len(names)), 2):
        pair = f"{names[j]}, {names[k]}"
        if k < len(responses) and not (observed[:, j] & observed[:, k]).any():
            events.append(Event("prior only", f"Sigma[{pair}]", _never(pair, "row", "residual"), 0))
        if not ((seen[:, j] > 0) & (seen[:, k] > 0)).any():
            events.append(Event("prior only", f"Psi[{pair}]", _never(pair, "cluster", "cluster-effect"), 0))
    return events


def _check_varies_within(data: IncompleteData, name: str, seen: np.ndarray, more: str) -> None:
    """Refuse a response that is constant within every cluster, and so is a cluster-level variable."""
    y = data.numeric(name)
    there = ~np.isnan(y)
    low, high = np.full(len(seen), np.inf), np.full(len(seen), -np.inf)
    np.minimum.at(low, data.codes[there], y[there])
    np.maximum.at(high, data.codes[there], y[there])
    constant = low.min() == high.max()  # said elsewhere
    if not constant and (seen > 1).any() and not (high > low)[seen > 1].any():
        raise DataError(
            f"'{name}' has one value in each of the {int((seen > 0).sum())} clusters where it is observed: a variable of "
            "clusters, whose variance within clusters (Sigma) is zero. This model imputes variables of rows. Take "
            f"it off the left side of the formula, or fill it in for each cluster first and put it on the right{more}."
        )


def _never(pair: str, together: str, what: str) -> str:
    return f"'{pair}' are never observed in the same {together}: their {what} covariance comes from the prior alone."


def _check_normal(data: IncompleteData, name: str) -> None:
    data.missing(name)  # an unknown name is refused here, with suggestions
    family = data.families[name]
    if not family_of(family).is_normal:
        raise SpecificationError(
            f"'{name}' has family '{family}', and the joint normal model imputes normal variables only; others are "
            f"imputed by chained equations (FCS). {as_continuous(data.frame[name])}"
        )
