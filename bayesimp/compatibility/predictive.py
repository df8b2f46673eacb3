"""Predictions of one variable given another under the joint model and under a conditional model (FCS).

Both models are fitted to the same complete data. A new value of y_1 in row j of cluster i, given y_2 in the whole
cluster and a draw of the parameters, is

    joint:        N( beta_1 + w (y_2ij - beta_2) + n_i C_i (mean_i(y_2) - beta_2),  s + T_i )    w, C_i, s, T_i: `implied`
    conditional:  N( b_0 + b_1 y_2ij + b_2 mean_i(y_2),  sigma + psi )

as for a cluster in which y_1 was never observed. If all clusters have the same size, the two have the same likelihood
for y_1 given y_2; they differ in the prior, and in that y_2 itself is informative about (Sigma, Psi) (Kunkel & Kaizar
2017, sec. 3.3, fig. 3).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from pandas.api.types import is_numeric_dtype

from bayesimp import priors as pr
from bayesimp.arguments import generator, numbers, whole
from bayesimp.compatibility.implied import implied_conditional
from bayesimp.errors import SpecificationError, instead_of
from bayesimp.formulas.syntax import Name, write
from bayesimp.joint.normal import JointNormal
from bayesimp.layout import Record
from bayesimp.messages import listing
from bayesimp.table.incomplete import IncompleteData

__all__ = ["PredictiveDraws", "predictive_draws", "simulate_pair"]

Array = NDArray[np.float64]
MEAN = "cluster_mean_of_given"


@dataclass(frozen=True)
class PredictiveDraws(Record):
    """Draws of new values of y_1 given y_2, in the units of the data.

    Attributes
    ----------
    rows
        (R,) positions of the rows in the table.
    joint, fcs
        (R, draws) under the joint and the conditional model.
    names
        Names of their priors.
    """

    rows: NDArray[np.int64]
    joint: Array
    fcs: Array
    names: tuple[str, str]


def simulate_pair(m: int, n: int, Sigma: ArrayLike, Psi: ArrayLike, seed: int = 0) -> pd.DataFrame:
    """Simulate complete y1, y2 in m clusters (column ``cluster``) of n rows, with means 0 and random intercepts."""
    rng, m, n = generator(seed), whole(m, "m"), whole(n, "n")
    Sigma, Psi = numbers(Sigma, "Sigma", (2, 2)), numbers(Psi, "Psi", (2, 2))
    cluster = np.repeat(np.arange(m), n)
    B = rng.multivariate_normal(np.zeros(2), Psi, size=m)
    Y = B[cluster] + rng.multivariate_normal(np.zeros(2), Sigma, size=m * n)
    return pd.DataFrame({"cluster": cluster, "y1": Y[:, 0], "y2": Y[:, 1]})


def predictive_draws(
    frame: pd.DataFrame,
    rows: Sequence[int] | np.ndarray,
    *,
    response: str = "y1",
    given: str = "y2",
    cluster: str = "cluster",
    joint: pr.Priors | None = None,
    fcs: pr.Priors | None = None,
    draws: int = 10_000,
    seed: int = 0,
) -> PredictiveDraws:
    """Draw new values of `response` given `given` in some rows under both models.

    Parameters
    ----------
    frame
        Complete table.
    rows
        Positions of rows in the table.
    response, given, cluster
        Names of columns.
    joint, fcs
        Priors of the joint model (default `priors.pan()`) and of the conditional model (default `priors.mice()`:
        MICE-IW, here with the cluster mean of `given` as a covariate).
    draws, seed
        Number of posterior draws of each model, taken as every second iteration of four Gibbs chains; seed for both.

    Raises
    ------
    SpecificationError
        Values are missing, or rows are not in the table.
    """
    _check_table(frame, response, given, cluster)
    draws = whole(draws, "draws")
    generator(seed)
    if frame[[response, given, cluster]].isna().any(axis=None):
        raise SpecificationError(
            "predictive_draws compares models on complete data, but the table has missing cells."
        )
    found = numbers(rows, "rows", ("R",))
    place = found.astype(np.int64)
    if place.size == 0 or place.min() < 0 or place.max() >= len(frame) or (place != found).any():
        raise SpecificationError(f"rows must be positions in the table, 0 .. {len(frame) - 1}; got {rows}.")
    joint, fcs = pr.read("pan" if joint is None else joint), pr.read("mice" if fcs is None else fcs)
    by_cluster = frame.groupby(cluster, observed=True)[given]
    means = by_cluster.transform("mean").to_numpy()[place]
    sizes = by_cluster.transform("size").to_numpy()[place]
    y2 = frame[given].to_numpy(float)[place]
    seeds = [int(s) for s in np.random.SeedSequence(seed).generate_state(3)]
    # arrays are (rows, draws)
    p = _posterior(frame, [response, given], [], cluster, joint, draws, seeds[0])
    c = implied_conditional(p["Sigma"], p["Psi"], 0, n=sizes[:, None])
    beta_1, beta_2 = p["beta"][:, 0].T
    mean = beta_1 + c.within[:, 0] * (y2[:, None] - beta_2)
    mean = mean + c.contextual_on_means()[..., 0, 0, 0] * (means[:, None] - beta_2)
    variance = c.residual_variance + c.effect_covariance[..., 0, 0]

    table = frame.assign(**{MEAN: by_cluster.transform("mean")})
    p = _posterior(table, [response], [given, MEAN], cluster, fcs, draws, seeds[1])
    columns = np.column_stack([np.ones(len(place)), y2, means])
    rng = np.random.default_rng(seeds[2])
    return PredictiveDraws(
        place,
        mean + np.sqrt(variance) * rng.standard_normal(mean.shape),
        columns @ p["beta"][:, :, 0].T
        + np.sqrt(p["Sigma"] + p["Psi"])[:, 0, 0] * rng.standard_normal(mean.shape),
        (joint.name, fcs.name),
    )


def _check_table(frame: pd.DataFrame, response: str, given: str, cluster: str) -> None:
    """Refuse anything but a pandas table with the three columns, of which two are numeric."""
    if not isinstance(frame, pd.DataFrame):
        raise SpecificationError(
            f"predictive_draws takes a complete pandas table, got {type(frame).__name__}.{instead_of(frame)}"
        )
    for what, name in (("response", response), ("given", given), ("cluster", cluster)):
        if not isinstance(name, str) or name not in frame.columns:
            raise SpecificationError(
                f"predictive_draws: the table has no column {name!r}; {what}= must be one of "
                f"{listing(frame.columns, 30)}."
            )
        if what != "cluster" and not is_numeric_dtype(frame[name].dtype):
            raise SpecificationError(
                f"predictive_draws: '{name}' ({what}=) has type {frame[name].dtype}, but must be numeric."
            )


def _posterior(
    frame: pd.DataFrame,
    left: list[str],
    right: list[str],
    cluster: str,
    priors: pr.Priors,
    draws: int,
    seed: int,
) -> dict[str, Array]:
    """beta (draws, p, r), Sigma (draws, r, r) and Psi (draws, r, r), with the chains concatenated."""
    columns = [name for name in frame.columns if name in (cluster, *left, *right)]
    sides = [" + ".join(write(Name(name)) for name in names) for names in (left, right)]
    formula = f"{sides[0]} ~ {sides[1] or '1'} + (1 | {write(Name(cluster))})"
    model = JointNormal(IncompleteData(frame[columns], cluster), formula, priors)
    imp = model.impute(m=1, seed=seed, chains=4, draws=-(-draws // 4), thin=2, progress=False)
    posterior = imp.tree["posterior"].to_dataset()
    return {
        name: posterior[name].values.reshape(-1, *posterior[name].shape[2:])[:draws]
        for name in ("beta", "Sigma", "Psi")
    }
