"""Reference-based imputation on latent normals: completed cells against the law of each patient, written out.

Given the parameters and cluster effects behind an imputation, cells of patients who dropped out are independent over rows
and imputations. A binary cell has a known probability, a ratio of orthants of the normal law of its row (quadrature), and
a number a known normal law; both are compared in exact standard errors, Bonferroni, level 1e-4.
"""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from scipy.stats import chi2, multivariate_normal, norm

import bayesimp as bi
from bayesimp.contract import Shift
from bayesimp.errors import SpecificationError
from bayesimp.joint.latent.reference import _completed
from bayesimp.joint.reference import HOW
from bayesimp.kernels.latent.records import NUMBER, THRESHOLD, UTILITY, LatentColumns
from tests.calibration.montecarlo import LEVEL, REJECTED, bonferroni, two_samples
from tests.longhand.orthants import all_below
from tests.longhand.reference_based import WRONG, strategy_mean
from tests.unfolding import unfolded

JUMP, INCREMENTS, COPY = HOW
VISITS = ["week4", "week8", "week12"]
FORMULA = "week4 + week8 + week12 ~ arm + base + (1 | centre)"
RUN = {"m": 240, "seed": 3, "chains": 2, "tune": 60, "draws": 240, "thin": 2, "progress": False}
OTHER = ("intermittent too", "mean of the arms", "not carried", "as in the own arm before")


def latent_trial(seed=1, n=150) -> tuple[pd.DataFrame, np.ndarray]:
    """Patients, and three correlated latent visits (n, 3), nan where they are missing; the arms differ more and more."""
    rng = np.random.default_rng(seed)
    arm, base, centre = rng.choice(["drug", "placebo"], n, p=[0.6, 0.4]), rng.normal(size=n), rng.integers(0, 6, n)
    effect = np.outer(arm == "drug", [0.7, 1.2, 2.0]) - 0.6
    y = effect + 0.4 * base[:, None] + 0.4 * rng.normal(size=6)[centre][:, None]
    y = y + rng.multivariate_normal(np.zeros(3), 0.6 + 0.4 * np.eye(3), n)
    stays = rng.integers(0, 5, n)
    y[np.arange(3)[None] >= np.where(stays > 3, 3, stays)[:, None]] = np.nan
    y[(rng.random(n) < 0.15), 0] = np.nan
    y[(rng.random(n) < 0.10), 1] = np.nan
    return pd.DataFrame({"centre": centre, "arm": arm, "base": base}), y


def trial(kind="binary") -> pd.DataFrame:
    frame, y = latent_trial()
    for name, column in zip(VISITS, y.T, strict=True):
        values = np.where(column > 0, "yes", "no").astype(object)
        frame[name] = np.where(np.isnan(column), None, values) if kind == "binary" else 20 + 5 * column
    return frame


def model(how=None, frame=None, formula=FORMULA, families=None, **options) -> bi.JointLatent:
    frame = trial() if frame is None else frame
    families = dict.fromkeys(VISITS, "bernoulli") if families is None else families
    reference = None if how is None else bi.ReferenceBased("arm", "placebo", VISITS, how)
    return bi.JointLatent(bi.IncompleteData(frame, "centre", families), formula, reference=reference, **options)


def cells(imp) -> np.ndarray:
    """(m, n, 3): completed visits; of levels their positions."""
    frame = imp.data.frame
    out = np.repeat(np.column_stack([imp.data.numeric(v) for v in VISITS])[None], imp.m, axis=0)
    for k, name in enumerate(VISITS):
        made = imp.tree["imputed"][name]
        rows = made.coords[f"row_{name}"].values
        assert (rows == np.flatnonzero(frame[name].isna())).all()
        out[:, rows, k] = made.values
    return out


@pytest.fixture(scope="module")
def binary():
    frame = trial()
    return {how: model(how, frame).impute(**RUN) for how in (None, *HOW)}


def parameters(imp):
    """(m, n, 3) means in the own arm and in that of placebo, and (m, n, 3, 3) Sigma, behind every imputation."""
    k, frame = np.arange(imp.m), imp.data.frame
    at = k % 2, (k // 2 + 1) * imp.run.spacing - 1
    p = imp.tree["posterior"]
    names = [str(name) for name in p["fixed"].values]
    beta, centre = p["beta"].values[at], frame["centre"].to_numpy()
    assert names == ["Intercept", "arm[placebo]", "base"]
    placebo = (frame["arm"] == "placebo").to_numpy(dtype=float)
    rest = beta[:, None, 0] + frame["base"].to_numpy()[:, None] * beta[:, None, 2] + p["B"].values[at][:, centre]
    own = rest + placebo[:, None] * beta[:, None, 1]
    if "Sigma_clusters" in p:
        Sigma = p["Sigma_clusters"].values[at][:, centre]
    else:
        Sigma = np.broadcast_to(p["Sigma"].values[at][:, None], (*own.shape, 3))
    return own, rest + beta[:, None, 1], Sigma


def strategy(own, placebo, seen, how):
    """(m, 3) means of a patient under a right or wrong strategy; own, placebo (m, 3), seen (3,)."""
    last = int(np.flatnonzero(seen).max()) if seen.any() else -1
    if how == "intermittent too":
        return np.where(seen, own, placebo)
    if how == "mean of the arms":
        return np.where(np.arange(3) > last, 0.5 * (own + placebo), own)
    if how == "as in the own arm before":  # copy reference, but the observed levels have the mean of the own arm
        return np.where(seen, own, placebo)
    return strategy_mean(own.T, placebo.T, seen, how).T


def dropped(frame, how):
    """Rows that are not imputed at random."""
    missing = frame[VISITS].isna().to_numpy()
    some = missing.any(axis=1) if how == COPY else missing[:, 2]
    return np.flatnonzero(some & (frame["arm"] == "drug").to_numpy())


def probability(mean, Sigma, y, wanted):
    """P(missing binary visits = wanted given the others), for rows with the same visits; mean, y, wanted (n, 3).

    y: nan where missing; wanted: nan where the visit is not asked about.
    """
    seen, asked = ~np.isnan(y[0]), ~np.isnan(wanted[0])
    sign = np.where(np.nan_to_num(np.where(seen, y, wanted)) > 0.5, 1.0, -1.0)
    R = Sigma * sign[:, :, None] * sign[:, None, :]
    both, given = np.flatnonzero(seen | asked), np.flatnonzero(seen)
    h = sign * mean
    return all_below(h[:, both], R[:, both][:, :, both]) / all_below(h[:, given], R[:, given][:, :, given])


def strategies(imp, how):
    """Rows not imputed at random, their visits (R, 3), and (m, R, 3) means, (m, R, 3, 3) Sigma under a strategy."""
    frame = imp.data.frame
    rows = dropped(frame, imp.model.reference.how)
    Y = np.column_stack([imp.data.numeric(v) for v in VISITS])[rows]
    own, placebo, Sigma = (each[:, rows] for each in parameters(imp))
    mean = [strategy(own[:, h], placebo[:, h], ~np.isnan(Y[h]), how) for h in range(len(rows))]
    return rows, Y, np.stack(mean, axis=1), Sigma


def p_of_binary(imp, how) -> float:
    """Cells of rows by pattern of visits: each missing visit, and the last two together."""
    rows, Y, mean, Sigma = strategies(imp, how)
    found, z, patterns = cells(imp)[:, rows], [], np.isnan(Y)
    for pattern in np.unique(patterns, axis=0):
        of = np.flatnonzero((patterns == pattern).all(axis=1))
        M = np.flatnonzero(pattern)
        y = np.tile(Y[of] if how != "not carried" else np.nan * Y[of], (imp.m, 1))
        for places in [(k,) for k in M] + ([tuple(M[-2:])] if len(M) > 1 else []):
            wanted = np.full_like(y, np.nan)
            wanted[:, places] = 1.0
            P = probability(mean[:, of].reshape(-1, 3), Sigma[:, of].reshape(-1, 3, 3), y, wanted)
            hit = (found[:, of][:, :, places] == 1).all(axis=2).ravel()
            z.append((hit - P).sum() / np.sqrt((P * (1 - P)).sum()))
    return bonferroni(2 * norm.sf(np.abs(z)))


@pytest.mark.parametrize("how", HOW)
def test_binary_visits_have_the_probabilities_of_the_law(binary, how):
    assert p_of_binary(binary[how], how) > LEVEL


@pytest.mark.parametrize("wrong", [*WRONG, *OTHER, *HOW])
@pytest.mark.parametrize("how", HOW)
def test_other_laws_are_told_apart(binary, how, wrong):
    if wrong == how:
        return
    assert p_of_binary(binary[how], wrong) < REJECTED
