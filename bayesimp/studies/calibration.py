"""`calibrate`: posterior simulation-based calibration of a joint model, on the user's own table.

    theta_s ~ p(theta | y)                   a posterior draw
    y_s ~ p(y | theta_s)                     a table of the same size, with new clusters and the same cells deleted
    rank of theta_s among draws of p(theta | y, y_s)

is uniform if sampler and model code are right, wherever the posterior is, since (theta_s, y_s) is drawn from the joint
distribution given y (Säilynoja, Schmitt, Bürkner & Vehtari 2025). The ranks of the deleted values' means among the
imputed ones are uniform too. This shows that the computation is right for data like these; `overimpute` examines whether
the model fits them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bayesimp.contract import must_be_model
from bayesimp.errors import SpecificationError
from bayesimp.kinds import check_keywords
from bayesimp.layout import Printed
from bayesimp.priors import Priors
from bayesimp.progress import progress_bar
from bayesimp.studies.uniformity import envelope, uniformity
from bayesimp.table.incomplete import IncompleteData
from bayesimp.threads import one_thread

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from bayesimp.joint.normal import JointNormal

__all__ = ["Calibration", "calibrate"]

Array = NDArray[np.float64]
RANKS = 19  # draws among which each truth is ranked: 20 equally likely positions
LEVEL = 0.05


@dataclass(frozen=True)
class Calibration(Printed):
    """Ranks from a calibration.

    Attributes
    ----------
    ranks
        (replications, quantities) ranks from 0 to 19.
    table
        quantity, p (from the test of uniform ranks), p.adjusted (Holm).
    """

    ranks: pd.DataFrame
    table: pd.DataFrame

    @property
    def passed(self) -> bool:
        """Whether no quantity departs from uniform ranks, at a familywise level of 5%."""
        return bool((self.table["p.adjusted"] > LEVEL).all())

    def _said(self) -> str:
        n, k = self.ranks.shape
        if self.passed:
            return f"Calibrated: the ranks of {k} quantities over {n} replications are consistent with uniform ranks."
        bad = self.table[self.table["p.adjusted"] <= LEVEL].sort_values("p")
        worst = bad[["quantity", "p.adjusted"]].head(5).itertuples(index=False, name=None)
        names = ", ".join(f"{quantity} (p = {p:.2g})" for quantity, p in worst)
        return f"Not calibrated: over {n} replications ranks of {len(bad)} of {k} quantities are not uniform: {names}."

    def plot(self) -> Figure:
        """Plot cumulated ranks minus their expectation, with a band for all quantities together in 95% of cases."""
        from bayesimp.plots.ranks import plot_ranks

        band = envelope(len(self.ranks), RANKS, 1 - LEVEL / self.ranks.shape[1])
        return plot_ranks(self.ranks, band, self._said())


def calibrate(
    model: JointNormal,
    replications: int = 100,
    *,
    seed: int,
    tune: int = 200,
    draws: int = 1900,
    progress: bool | None = None,
    **options: Any,
) -> Calibration:
    """Posterior simulation-based calibration of a joint normal model on its own data.

    Parameters
    ----------
    model
        A `bayesimp.JointNormal`.
    replications
        Number of tables drawn from the posterior predictive distribution.
    seed
        Seed of the random numbers.
    tune, draws
        Iterations of the single chain of each replication; its 19 draws are ``draws / 19`` iterations apart.
    options
        Further options of ``model.impute``, such as ``sampler``.

    Raises
    ------
    SpecificationError
        If the model is of another kind: chained equations have no joint distribution from which to draw tables.
        `overimpute` accepts every model.
    """
    try:
        must_be_model(model, "calibrate").normal_law("calibrate")
    except SpecificationError as error:
        raise SpecificationError(f"{error} bi.studies.overimpute accepts every model.") from None
    check_keywords(options, calibrate, model.impute, ("m",))
    if draws < RANKS or replications < 2:
        raise SpecificationError(f"calibrate needs at least {RANKS} draws and 2 replications.")
    root = np.random.SeedSequence(seed)
    seeds = root.generate_state(replications + 1, np.uint64) >> np.uint64(1)
    per_chain = max(-(-replications // 4), 1)
    options = {"executor": "serial", "progress": False, **options}
    fitted = model.impute(
        4 * per_chain, seed=int(seeds[0]), tune=tune, draws=max(draws, 20 * per_chain), **options
    )
    thetas = _parameters(fitted, 4 * per_chain)
    rows = []
    with one_thread(model.data.frame.size), progress_bar(progress) as report:
        for s in range(replications):
            theta = {name: value[s] for name, value in thetas.items()}
            rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(s,)))
            rows.append(_ranks(model, theta, rng, int(seeds[s + 1]), tune, draws, options))
            report("replications", s + 1, replications)
    ranks = pd.DataFrame(rows)
    p = np.array([uniformity(ranks[name], RANKS) for name in ranks])
    return Calibration(ranks, pd.DataFrame({"quantity": ranks.columns, "p": p, "p.adjusted": _holm(p)}))


def _parameters(imp: Any, count: int) -> dict[str, Array]:
    """`count` draws, evenly spaced over the chains: beta (count, p, r), Sigma (count, r, r), Psi (count, rq, rq)."""
    out = {}
    for name in ("beta", "Sigma", "Psi"):
        values = np.asarray(imp.tree["posterior"][name])  # chain, draw, ...
        chains, length = values.shape[:2]
        step = length // (count // chains)
        kept = values[:, step - 1 :: step][:, : count // chains]
        out[name] = kept.reshape(-1, *kept.shape[2:])
    return out


def _ranks(
    model: JointNormal,
    theta: dict[str, Array],
    rng: np.random.Generator,
    seed: int,
    tune: int,
    draws: int,
    options: dict[str, Any],
) -> dict[str, int]:
    """Ranks of one replication."""
    from bayesimp.joint.normal import JointNormal

    both, complete = _with_replicate(model, theta, rng)
    again = JointNormal(both, model.formula.text, _same_priors(model))
    imp = again.impute(RANKS, seed=seed, chains=1, tune=tune, draws=draws, **options)
    truth, drawn = _quantities(theta, model), _quantities(_parameters(imp, RANKS), model)
    n = len(model.data.frame)
    for k, name in enumerate(model.responses):
        if name not in imp.imputed_columns:  # complete
            continue
        rows = imp.rows(name)
        new = rows >= n
        if new.any():
            truth[f"mean of missing {name}"] = np.array(complete[rows[new] - n, k].mean())
            drawn[f"mean of missing {name}"] = imp.values(name)[:, new].mean(axis=1)
    return {name: int((drawn[name] < truth[name]).sum()) for name in truth}


def _same_priors(model: JointNormal) -> Priors:
    """Priors as resolved for the user's data, since priors that follow the scale of the data would adapt to a new table.

    The prior of effects at centred columns is as the user stated it, since the new model centres it again at the same
    place: the predictors of the new rows are those of the old rows.
    """
    resolved = model.grouping.only.resolved
    return replace(resolved, Psi=resolved.Psi.stated)


def _with_replicate(
    model: JointNormal, theta: dict[str, Array], rng: np.random.Generator
) -> tuple[IncompleteData, Array]:
    """The table with a new one below it, in new clusters, and the new responses (N, r) before deletion."""
    data, X, Z = model.data, model.design.X, model.design.Z
    codes, m, r, q = data.codes, len(data.clusters), len(model.responses), Z.shape[1]
    effects = rng.multivariate_normal(np.zeros(r * q), theta["Psi"], m, method="eigh").reshape(m, r, q)
    noise = rng.multivariate_normal(np.zeros(r), theta["Sigma"], len(codes), method="eigh")
    Y = X @ theta["beta"] + np.einsum("nq,nrq->nr", Z, effects[codes]) + noise
    old, new = data.frame.copy(), data.frame.copy()
    for k, name in enumerate(model.responses):
        old[name] = data.column_values(name)
        new[name] = np.where(data.missing(name), np.nan, Y[:, k])
    old[data.cluster], new[data.cluster] = codes, codes + m
    families = {name: "normal" for name in model.responses}
    return IncompleteData(pd.concat([old, new], ignore_index=True), data.cluster, families), Y


def _quantities(theta: dict[str, Array], model: JointNormal) -> dict[str, Array]:
    """The scalar parameters by name, for one draw or for many along the first axis."""
    out = {}
    fixed, responses, effects = list(model.design.fixed), list(model.responses), model.effects
    for i, term in enumerate(fixed):
        for k, name in enumerate(responses):
            out[f"beta[{term}, {name}]"] = theta["beta"][..., i, k]
    for symbol, names in (("Sigma", responses), ("Psi", effects)):
        S = theta[symbol]
        for j, name in enumerate(names):
            out[f"{symbol}[{name}]"] = S[..., j, j]
            for k in range(j):
                out[f"{symbol}[{names[k]}, {name}]"] = S[..., k, j]
    return out


def _holm(p: Array) -> Array:
    """p-values after Holm's correction."""
    order = np.argsort(p)
    adjusted = np.maximum.accumulate(p[order] * (len(p) - np.arange(len(p))))
    out = np.empty_like(p)
    out[order] = np.minimum(adjusted, 1.0)
    return out
