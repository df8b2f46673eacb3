"""Rows that a run of `JointNormal` with several grouping factors has not seen, completed from its draws.

At a draw theta = (beta, Sigma, Psi_1 .. Psi_S) given the table of the run, the effects of all groups that are connected
with the new rows are drawn at once given the observed values of the run's table and of the new rows (effects.py), missing
values integrated out; then, for each new row, its missing cells given its observed ones (docs/mathematics.md, sec. 13).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from bayesimp.errors import SamplingError
from bayesimp.joint.levels.effects import EffectsGiven, EffectsLaw, weights
from bayesimp.joint.levels.new_table import ConnectedRows, connected
from bayesimp.joint.new_rows import check_shift
from bayesimp.sampling.chains import new_rows_rng
from bayesimp.table.new_rows import NewRows

if TYPE_CHECKING:
    from bayesimp.joint.levels.run import LevelsRun

__all__ = ["complete_new_rows"]

Array = NDArray[np.float64]


def complete_new_rows(
    run: LevelsRun, new: NewRows, m: int, seed: int
) -> dict[str, tuple[NDArray[np.int64], Array]]:
    """See `bayesimp.contract.Run.transform`.

    Raises
    ------
    SpecificationError, DataError
        The new rows lack columns, covariates or cluster ids.
    SamplingError
        A draw of the run is not positive definite.
    """
    model, several = run.model, run.grouping
    new.require(model.responses, "response")
    check_shift(model, new)
    both = new.training, new
    Y = np.vstack([np.column_stack([data.numeric(name) for name in model.responses]) for data in both])
    table = several.table
    rows = connected(
        model.formula, several.designs, several.factors, new, table.working.scale, table.scales, Y, Y[:, :0]
    )
    values = np.empty((m, len(new), len(model.responses)))
    of_new = np.flatnonzero(rows.row >= len(new.training))
    for k in range(m):
        completed = _completed(run, rows, of_new, k, new_rows_rng(seed, k))
        values[k, rows.row[of_new] - len(new.training)] = completed * table.working.scale.s
    moved = model.shift_of(new) if model.shift else np.zeros(values.shape[1:])
    cells = {}
    for k, name in enumerate(model.responses):
        lacking = np.flatnonzero(new.missing(name))
        if len(lacking):
            cells[name] = lacking, values[:, lacking, k] + moved[lacking, k]
    return cells


def _completed(
    run: LevelsRun, rows: ConnectedRows, of_new: NDArray, k: int, rng: np.random.Generator
) -> Array:
    """(n, r) the new rows of table k, in units of the responses."""
    h, groups = run.history, rows.groups
    at = k % h.chains, (k // h.chains + 1) * run.spacing - 1
    beta, Sigma, flat = h.beta[at], h.Sigma[at], h.Psi[at]
    psi_at, laws = run.grouping.table.factors.psi_at, []
    for s, number in enumerate(groups.number):
        n = len(Sigma) * int(groups.column[s + 1] - groups.column[s])
        laws.append(EffectsLaw.centred(flat[psi_at[s] : psi_at[s + 1]].reshape(n, n), int(number)))
    mean = rows.X @ beta
    try:
        effects = EffectsGiven(groups, Sigma, laws)
    except np.linalg.LinAlgError:
        raise SamplingError(
            f"New rows, imputation {k}: a draw of Sigma or Psi is not positive definite."
        ) from None
    z = rng.standard_normal(effects.normals + len(of_new) * len(Sigma))
    b = effects.draw(z[: effects.normals], rows.Y - mean)
    mean += groups.of_rows(b)
    z_rows = z[effects.normals :].reshape(len(of_new), -1)
    y = filled(rows.Y[of_new], mean[of_new], Sigma, groups.patterns, groups.pattern[of_new], z_rows)
    return y + rows.fixed[of_new]


def filled(
    Y: Array, mean: Array, Sigma: Array, patterns: NDArray[np.bool_], pattern: NDArray[np.int64], z: Array
) -> Array:
    """Rows of N(mean, Sigma) with their missing cells, outside patterns[pattern], drawn given the observed ones.

    All (n, r), z standard normals: with e a draw from N(0, Sigma), missing residuals are e_M + Sigma_MO W (y_O - mean_O -
    e_O).
    """
    e = z @ np.linalg.cholesky(Sigma).T
    out = mean + e
    for a, W in enumerate(weights(Sigma, patterns)):
        own = np.flatnonzero(pattern == a)
        gap = np.where(patterns[a], Y[own] - out[own], 0.0)
        out[own] = np.where(patterns[a], Y[own], out[own] + gap @ W @ Sigma)
    return out
