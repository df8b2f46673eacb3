"""Imputed cells of every kind, from the kernel to the completed table, against independent draws at the same parameters.

Psi is known and almost zero, so that rows are independent given the parameters. For every kept draw of these, the
cells of a row are drawn again longhand from the normal law given the number that is observed in it, and cut into levels.
Indicators of levels, numbers, and their products within a row have the same means: paired differences, batch means of
the chains, Bonferroni, level 1e-4.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm

import bayesimp as bi
from bayesimp import priors as pr
from bayesimp.contract import Shift
from bayesimp.kernels.latent.moments import renew_moments
from bayesimp.kernels.normal.effects import moments
from bayesimp.kernels.normal.statistics import collect
from tests.calibration.montecarlo import LEVEL, REJECTED, batch_means, bonferroni

CLUSTERS, ROWS, DRAWS = 6, 20, 8_000
g = np.repeat(np.arange(CLUSTERS), ROWS)
FORMULA = "y + b + o + c ~ x + (1 | g)"


def table() -> pd.DataFrame:
    """Row 0 has only x, rows 1 and 2 only the number; a cluster lacks c, another the number, single cells are missing."""
    rng = np.random.default_rng(3)
    R = 0.5 * np.eye(5) + 0.5 * np.ones((5, 5))
    R[0, 1:] = R[1:, 0] = 0.6
    x = rng.normal(size=len(g))
    e = rng.normal(size=(len(g), 5)) @ np.linalg.cholesky(R).T
    u = e + np.outer(x, [0.8, -0.6, 0.5, 0.7, -0.4]) + [0.0, 0.3, 0.4, 0.2, -0.1]
    frame = pd.DataFrame({"g": g, "x": x, "y": 50 + 12 * u[:, 0]})
    frame["b"] = np.where(u[:, 1] > 0, "yes", "no").astype(object)
    frame["o"] = pd.Categorical.from_codes(
        (u[:, 2] > 0).astype(int) + (u[:, 2] > 0.7), ["1st", "2nd", "3rd"], ordered=True
    )
    best = np.where(u[:, 3:].max(axis=1) < 0, 0, u[:, 3:].argmax(axis=1) + 1)
    frame["c"] = pd.Categorical.from_codes(best, ["red", "green", "blue"])
    for name in "yboc":
        lost = (rng.random(len(g)) < 0.15) | ((g == 2) & (name == "c")) | ((g == 3) & (name == "y"))
        lost[0] = True
        lost[1:3] = name != "y"
        frame.loc[lost, name] = np.nan if name == "y" else None
    frame.loc[1:2, "y"] = [71.0, 33.0]
    return frame


def model(frame: pd.DataFrame | None = None, **options) -> bi.JointLatent:
    data = bi.IncompleteData(table() if frame is None else frame, "g", {"b": "bernoulli"})
    Psi = pr.Fixed(np.diag([1e-6, 1e-8, 1e-8, 1e-8, 1e-8]))
    return bi.JointLatent(data, FORMULA, pr.Priors(Psi=Psi), **options)


def longhand(rng, posterior, row: pd.Series, shift: dict[str, float]) -> np.ndarray:
    """(chains, draws, 4): y, and positions of levels of b, o and c of a row, y observed or not."""
    X = np.array([1.0, row["x"]])
    mu, Sigma, cut = X @ posterior.beta.values, posterior.Sigma.values, posterior.cutpoints_o.values[..., 1]
    moved = np.array([shift.get(name, 0.0) for name in ("y", "b", "o", "c", "c")])
    z = np.einsum("cdij,cdj->cdi", np.linalg.cholesky(Sigma), rng.normal(size=mu.shape))
    u = mu + z
    if not np.isnan(row["y"]):  # a draw given y, from one of the joint law (Matheron's rule)
        u = u + (row["y"] - u[..., :1]) * Sigma[..., 0] / Sigma[..., :1, 0]
        moved[0] = 0.0
    u = u + moved
    best = np.where(u[..., 3:].max(axis=-1) < 0, 0, u[..., 3:].argmax(axis=-1) + 1)
    o = (u[..., 2] > 0).astype(int) + (u[..., 2] > cut)
    return np.stack([u[..., 0], u[..., 1] > 0, o, best], axis=-1)


def described(values: np.ndarray) -> np.ndarray:
    """Numbers and indicators of levels with their products; values (chains, draws, 4)."""
    y, b, o, c = np.moveaxis(values, -1, 0)
    columns = [(y - 50) / 12, b, o == 1, o == 2, c == 1, c == 2]
    x = np.stack([column.astype(float) for column in columns], axis=-1)
    i, j = np.tril_indices(x.shape[-1])
    return np.concatenate([x, x[..., i] * x[..., j]], axis=-1)


def compared(
    made: bi.JointLatent, shift: dict[str, float] | None = None, spoil=lambda x: x, draws: int = DRAWS
) -> float:
    """p-value over rows 0 to 2."""
    own = made.residual == "cluster"
    imp = made.impute(m=2 * draws, seed=4, chains=2, draws=draws, thin=1, clusters=own, progress=False)
    posterior, frame = imp.tree["posterior"].to_dataset(), made.data.frame
    rng, p = np.random.default_rng(1), []
    for j in range(3):
        drawn = np.empty((2, draws, 4))
        for k, name in enumerate("yboc"):
            cells = imp.tree["imputed"][name]
            place = np.flatnonzero(cells.coords[f"row_{name}"].values == j)
            if len(place):  # imputation k is of chain k % 2
                drawn[..., k] = cells.values[:, place[0]].reshape(draws, 2).T
            else:
                drawn[..., k] = frame["y"][j]
        gap = described(drawn) - described(longhand(rng, spoil(posterior), frame.loc[j], shift or {}))
        mean, se = batch_means(gap, 40)
        p.append(bonferroni(2 * norm.sf(np.abs(mean) / np.maximum(se, 1e-12))))
    return bonferroni(p)


def test_imputed_cells_are_draws_at_the_parameters_that_are_kept():
    assert compared(model()) > LEVEL


def test_shifted_cells_are_draws_at_shifted_latent_values():
    shift = {"y": 5.0, "b": 0.7, "c": -0.5}
    assert compared(model(shift=Shift(shift)), shift) > LEVEL


@pytest.mark.parametrize("name", ["cutpoints_o", "Sigma"])
def test_draws_at_other_parameters_are_told_apart(name):
    def spoil(posterior):
        x = posterior[name]
        if name == "Sigma":
            return posterior.assign(Sigma=x * (0.8 + 0.2 * np.eye(5)))  # correlations that are too small
        return posterior.assign({name: 0.8 * x})

    assert compared(model(), spoil=spoil) < REJECTED


def test_cells_of_a_cluster_have_its_own_residual_covariance():
    """The rows compared are of cluster 0, where numbers vary four times as much."""
    frame = table()
    frame.loc[g == 0, "y"] = 50 + 4 * (frame.loc[g == 0, "y"] - 50)
    made = model(frame, residual="cluster")

    def of_cluster(k):
        return lambda posterior: posterior.assign(Sigma=posterior.Sigma_clusters[:, :, k])

    assert compared(made, spoil=of_cluster(0), draws=3_000) > LEVEL
    assert compared(made, spoil=of_cluster(1), draws=3_000) < REJECTED


def test_completed_tables_have_the_values_of_the_imputed_cells():
    imp = model().impute(m=4, seed=1, chains=2, draws=20, tune=20, thin=1, progress=False)
    levels = {"b": ["no", "yes"], "o": ["1st", "2nd", "3rd"], "c": ["red", "green", "blue"]}
    for name, of in levels.items():
        # levels without an order are sorted: red, green, blue are categories and keep theirs
        cells = imp.tree["imputed"][name]
        assert cells.attrs["levels"] == ", ".join(of)
        for k in range(4):
            written = imp.frame(k).loc[cells.coords[f"row_{name}"].values, name]
            assert list(written) == [of[int(v)] for v in cells.values[k]]
    stats = imp.tree["imputed_stats"]
    assert list(stats.coords["response"].values) == ["y", "b", "o", "c"]
    # number 0 and 2 are the draws 9 and 19 of chain 0
    for k, name in enumerate("yboc"):
        cells = imp.tree["imputed"][name]
        for i in range(CLUSTERS):
            own = cells.values[0][cells.coords[f"cluster_{name}"].values == i]
            if len(own):
                assert stats["mean"].values[0, 9, k, i] == pytest.approx(own.mean())
                sd = own.std(ddof=1) if len(own) > 1 else np.nan
                assert stats["sd"].values[0, 9, k, i] == pytest.approx(sd, abs=1e-12, nan_ok=True)


def test_units_of_numbers_and_predictors_change_nothing_else():
    frame, options = table(), {"m": 4, "seed": 2, "chains": 2, "draws": 30, "tune": 30, "progress": False}
    a = bi.JointLatent(bi.IncompleteData(frame, "g", {"b": "bernoulli"}), FORMULA).impute(**options)
    scaled = frame.assign(y=7 * frame["y"] + 3000, x=20 + 0.5 * frame["x"])
    c = bi.JointLatent(bi.IncompleteData(scaled, "g", {"b": "bernoulli"}), FORMULA).impute(**options)
    for name in "boc":
        np.testing.assert_array_equal(a.values(name), c.values(name))
    np.testing.assert_allclose(c.values("y"), 7 * a.values("y") + 3000, rtol=1e-7)


def test_moments_are_those_of_the_rows():
    """The moments of latent values, summed again, against those of a table that has them as numbers."""
    made = model()
    t, rows = made.table, made.table.rows
    rng = np.random.default_rng(6)
    Y = np.where(rows.level >= 0, rng.normal(size=t.Y.shape), t.Y)
    seen = (rows.level >= 0) | ~np.isnan(t.working.rows.Y) & (t.columns.kind == 0)
    expected = moments(collect(rows.X, rows.Z, np.where(seen, Y, np.nan), rows.cluster, t.clusters))
    found = t.moments._replace(XY=t.moments.XY.copy(), YY=t.moments.YY.copy(), ZY=t.moments.ZY.copy())
    renewed(rows, t.columns, Y, found)
    for name in ("XY", "ZY", "YY", "XX", "ZZ"):
        np.testing.assert_allclose(getattr(found, name), getattr(expected, name), atol=1e-9)
    stale = replace(made.table).moments
    assert not np.allclose(stale.XY, expected.XY)


def renewed(rows, columns, Y, m) -> None:
    """The kernel has no wrapper for Python: it is called from a compiled function."""
    from numba import njit

    njit(lambda a, b, c, d: renew_moments(a, b, c, d))(rows, columns, Y, m)
