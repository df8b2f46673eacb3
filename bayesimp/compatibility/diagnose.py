"""How much the conditional models implied by a fitted joint model vary over the clusters of the data.

Fully conditional specification gives every cluster the same slopes and the same variance of the cluster effects. The
joint model implies slopes C_i and variances T_i that depend on Z_i'Z_i (`implied`). With theta_i one of these in
cluster i, for each draw of (Sigma, Psi), and theta = mean_i theta_i the best single value for a homogeneous model, the
miss in cluster i is

    median over draws of (theta_i - theta),   in units of the posterior standard deviation of theta,

computed as half the width of the central 68.3 % of its draws, since variances have long tails. If the miss is a
fraction of one sd, the error of homogeneity is small compared with the uncertainty that the data leave anyway.

Whatever the origin of Z, slopes are those on centred columns and intercepts those at the mean (priors/centred.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bayesimp.arguments import chosen, generator
from bayesimp.compatibility.implied import Conditional, implied_conditional
from bayesimp.contract import ImputationModel
from bayesimp.errors import SpecificationError
from bayesimp.imputation.result import Imputations
from bayesimp.joint.one_factor import OneFactor
from bayesimp.layout import Printed
from bayesimp.messages import listing
from bayesimp.table.incomplete import IncompleteData

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Diagnosis", "diagnose"]

Array = NDArray[np.float64]
Aggregate = Literal["mean", "sum", "line"]
DRAWS = 1000
CENTRAL = (0.1587, 0.5, 0.8413)
SMALL, LARGE = 0.25, 1.0  # posterior sds


@dataclass(frozen=True)
class Diagnosis(Printed):
    """Result of `diagnose`, printed as sentences; ``.plot()`` draws it.

    Attributes
    ----------
    table
        One row for each response and parameter of its conditional model: the ``lowest`` and ``highest`` posterior
        median over clusters; the ``one_value`` for all (posterior median), its central 68.3 % from ``one_low`` to
        ``one_high``, and ``sd``, half of that width; the largest ``miss`` in sds, the ``median_miss`` over clusters,
        and the ``worst`` cluster with its number of ``rows``.
    clusters
        One row for each response, parameter and cluster: ``rows``, ``value`` (posterior median), ``low`` and
        ``high`` (central 68.3 %), and the signed ``miss`` in sds.
    cluster
        Name of the cluster column.
    """

    table: pd.DataFrame
    clusters: pd.DataFrame
    cluster: str

    @property
    def largest_miss(self) -> float:
        """The largest miss, in posterior standard deviations."""
        return float(self.table["miss"].max())

    def plot(self, at_most: int = 9) -> Figure:
        """See `bayesimp.plots.plot_diagnosis`."""
        from bayesimp.plots.diagnosis import plot_diagnosis

        return plot_diagnosis(self, at_most=at_most)

    def _said(self) -> str:
        rows = self.clusters["rows"]
        m = self.clusters["cluster"].nunique()
        lines = [f"{m} clusters ({self.cluster}) with {rows.min()} to {rows.max()} rows."]
        for response, part in self.table.groupby("response", sort=False):
            lines.append(f"Across clusters, the conditional model of {response} would need")
            of_slopes = part["parameter"].str.startswith("slope on")
            for kind in (part[of_slopes], part[~of_slopes]):
                row = kind.loc[kind["miss"].idxmax()]
                lines.append(
                    f"  {row.parameter}: {row.lowest:.3g} to {row.highest:.3g}. One value for all "
                    f"({row.one_value:.3g}, posterior sd {row.sd:.2g}) misses by at most {row.miss:.2f} posterior sd "
                    f"({self.cluster} {row.worst}, {row.rows} rows), and in half of the clusters by at most "
                    f"{row.median_miss:.2f}."
                )
        if len(self.table) > 2 * self.table["response"].nunique():
            lines.append("For each kind of parameter the one with the largest miss is shown; .table has all.")
        return "\n".join([*lines, self._verdict()])

    def _verdict(self) -> str:
        by = f"The largest miss is {self.largest_miss:.2f} posterior sd: "
        if self.largest_miss < SMALL:
            return (
                by
                + "small compared with the uncertainty in the data. A homogeneous conditional (FCS) model suffices."
            )
        if self.largest_miss < LARGE:
            return (
                by
                + "noticeable, but less than the uncertainty in the data. Prefer the joint model, or compare the two."
            )
        return by + "more than the uncertainty in the data. Use the joint model."


def diagnose(
    fitted: Imputations | ImputationModel,
    responses: Sequence[str] | str | None = None,
    *,
    aggregate: Aggregate = "mean",
    seed: int = 0,
) -> Diagnosis:
    """How far a homogeneous conditional (FCS) model is from a joint model fitted to your data.

    Parameters
    ----------
    fitted
        Imputations of a `JointNormal`, or the model, which is then sampled first.
    responses
        Variables whose conditional models are examined; by default those with missing cells (all if there are none).
    aggregate
        Summary of the cluster's other variables that the conditional model uses: ``"mean"`` of each column of Z times
        the variable, ``"sum"``, or ``"line"``, the cluster's own least-squares coefficients. For random intercepts mean
        and line are the same; with random slopes lines vary less.
    seed
        Seed of the sampler, if a model is given.

    Raises
    ------
    SpecificationError
        The imputations are not of a joint model with at least two responses, Sigma and Psi are fixed, or a name is not
        a response.
    """
    chosen(aggregate, "aggregate", ("mean", "sum", "line"))
    generator(seed)
    model = fitted if isinstance(fitted, ImputationModel) else getattr(fitted, "model", None)
    law = model.normal_law("diagnose") if isinstance(model, ImputationModel) else None
    if law is None or len(law.responses) < 2:
        raise SpecificationError(
            "diagnose needs a joint model of at least two variables: bi.JointNormal(data, 'y1 + y2 ~ ...') or the "
            "imputations it made."
        )
    imp = fitted.impute(m=1, seed=seed, progress=False) if isinstance(fitted, ImputationModel) else fitted
    names = _responses(imp, responses)
    n, ZZ, group = _designs(law)
    draws = min(DRAWS, max(200, 200_000 // len(n)))  # limits memory and time if there are many designs
    posterior = imp.tree["posterior"].to_dataset()
    Sigma, Psi = (_some(posterior[name].values, draws) for name in ("Sigma", "Psi"))
    Psi = law.working.scale.at_centre(Psi)
    if np.ptp(Sigma, axis=0).max() == 0 == np.ptp(Psi, axis=0).max():
        raise SpecificationError(
            "Sigma and Psi have fixed values, so there is no posterior sd to measure a miss in."
        )
    tables, clusters = [], []
    for name in names:
        k = law.responses.index(name)
        theta = np.concatenate(
            [
                _parameters(implied_conditional(Sigma, Psi, k, n=n[i], ZZ=ZZ[i]), aggregate)[:, None]
                for i in range(len(n))
            ],
            axis=1,
        )
        labels = _labels(law, k, aggregate)
        of_clusters, table = _misses(theta, group, labels, n, law.data)
        clusters.append(of_clusters.assign(response=name))
        tables.append(table.assign(response=name))
    first = ["response", "parameter"]
    by_parameter, by_cluster = (_front(pd.concat(t, ignore_index=True), first) for t in (tables, clusters))
    return Diagnosis(by_parameter, by_cluster, imp.data.cluster)


def _responses(imp: Imputations, responses: Sequence[str] | str | None) -> list[str]:
    if responses is None:
        return imp.imputed_columns or imp.responses
    if not isinstance(responses, str | Sequence):
        raise SpecificationError(f"responses must be names, got {responses!r}.")
    names = [responses] if isinstance(responses, str) else list(responses)
    if not names:
        raise SpecificationError("responses is empty; None takes all imputed variables.")
    if unknown := [name for name in names if name not in imp.responses]:
        raise SpecificationError(
            f"responses: {listing(unknown)} is not a response; the responses are {', '.join(imp.responses)}."
        )
    return names


def _some(values: Array, at_most: int) -> Array:
    """At most `at_most` draws, evenly spaced, with the chains concatenated."""
    flat = values.reshape(-1, *values.shape[2:])
    return flat[:: -(-len(flat) // at_most)]


def _designs(law: OneFactor) -> tuple[Array, Array, NDArray[np.int64]]:
    """Numbers of rows n (U,) and Z'Z (U, q, q) of the distinct designs, and the design of each cluster (m,)."""
    Z, codes, sizes = law.design.Z @ law.working.scale.C, law.data.codes, law.data.sizes
    ZZ = np.zeros((len(sizes), Z.shape[1], Z.shape[1]))
    np.add.at(ZZ, codes, Z[:, :, None] * Z[:, None, :])
    key = np.column_stack([sizes, ZZ.reshape(len(sizes), -1)])
    _, first, group = np.unique(key, axis=0, return_index=True, return_inverse=True)
    return sizes[first].astype(float), ZZ[first], group.ravel()


def _parameters(c: Conditional, aggregate: Aggregate) -> Array:
    """Parameters (draws, P): slopes on the aggregates, in the order of `_labels`, then variances of the effects."""
    match aggregate:
        case "mean":
            slopes = c.contextual_on_means()
        case "sum":
            slopes = c.contextual
        case "line":
            slopes = c.contextual_on_lines()
        case _:
            raise SpecificationError(f"aggregate must be 'mean', 'sum' or 'line', got {aggregate!r}.")
    variances = np.diagonal(c.effect_covariance, axis1=-2, axis2=-1)
    return np.column_stack([slopes.reshape(len(slopes), -1), variances])


def _labels(law: OneFactor, k: int, aggregate: Aggregate) -> list[str]:
    """Names of the parameters, in words."""
    random = law.design.random
    out = []
    for l in random:
        for j, other in enumerate(law.responses):
            if j == k:
                continue
            for h in random:
                if aggregate == "line":
                    column = f"cluster's own {_line(random, h)}".format(other)
                else:
                    column = f"cluster {aggregate} of {other}" + ("" if h == "Intercept" else f" x {h}")
                out.append("slope on the " + column + ("" if l == "Intercept" else f", times {l}"))
    return out + [
        "intercept variance" if l == "Intercept" else f"variance of the slope on {l}" for l in random
    ]


def _line(random: Sequence[str], column: str) -> str:
    if len(random) == 1 and column == "Intercept":
        return "mean of {}"
    return "intercept of {}" if column == "Intercept" else f"slope of {{}} on {column}"


def _misses(
    theta: Array, group: NDArray[np.int64], labels: list[str], n: Array, data: IncompleteData
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Tables by cluster and by parameter, from theta (draws, designs, P)."""
    weights = np.bincount(group) / len(group)
    one = np.einsum("duP,u->dP", theta, weights)
    low, one_value, high = np.quantile(one, CENTRAL, axis=0)
    sd = (high - low) / 2
    off = np.median(theta - one[:, None], axis=0)
    # a parameter without spread is zero in all draws and clusters: diagonal Sigma and Psi
    miss = np.divide(off, sd, out=np.zeros_like(off), where=sd > 0)[group]
    values = np.quantile(theta, CENTRAL, axis=0)[:, group]
    worst = np.abs(miss).argmax(0)
    clusters = np.asarray(data.clusters, dtype=object)
    m, P = miss.shape
    by_cluster = pd.DataFrame(
        {
            "parameter": np.tile(labels, m), "cluster": np.repeat(clusters, P),
            "rows": np.repeat(n[group].astype(int), P), "value": values[1].ravel(),
            "low": values[0].ravel(), "high": values[2].ravel(), "miss": miss.ravel(),
        }
    )  # fmt: skip
    table = pd.DataFrame(
        {
            "parameter": labels, "lowest": values[1].min(0), "highest": values[1].max(0),
            "one_value": one_value, "one_low": low, "one_high": high, "sd": sd, "miss": np.abs(miss).max(0),
            "median_miss": np.median(np.abs(miss), axis=0), "worst": clusters[worst],
            "rows": n[group[worst]].astype(int),
        }
    )  # fmt: skip
    return by_cluster, table


def _front(table: pd.DataFrame, names: list[str]) -> pd.DataFrame:
    return table[[*names, *(c for c in table.columns if c not in names)]]
