"""The published algorithm of Jolani (2025) against his code (tests/reference/glmm/jolani.R), and what it is known for.

jolani.json: of 400 draws of his code, by cluster, mean, sd and quartiles of the linear predictors of two missing rows,
mean log tries of accept-reject; shares of unconditional draws and, of what was accepted, of ratios above 1. "large" has
15 clusters x 200 rows, "slope" 8 x 60 with a random slope, "small" 30 x 5.
"""

from __future__ import annotations

import functools
import json

import numpy as np
import pytest

from bayesimp.kernels import mlmi_published
from bayesimp.kernels.families import LOGIT
from bayesimp.kernels.glmm_rows import GlmmRows
from bayesimp.kernels.mlmi_published import FAILED, PUBLISHED_TALLIES, new_state, published_step
from tests.kernels.glmm_tables import REFERENCE, make_rows
from tests.longhand import laplace as longhand

from jolani_tables import DESIGNS, table  # isort: skip  (its folder is put on the path by glmm_tables)

FROZEN = json.loads((REFERENCE / "jolani.json").read_text())
SEEDS = (1, 2, 3)
DRAWS = 400
LIMIT = 4.5  # standard errors; some hundred comparisons a seed


def draws(rows, n=DRAWS, seed=0, incomplete=None):
    """beta (n, p), Psi (n, q, q), effects (n, m, q), state, tallies by name."""
    m, p, q = len(rows.first) - 1, rows.X.shape[1], rows.Z.shape[1]
    state, rng = new_state(m, p, q), np.random.default_rng(seed)
    beta, Psi, B, tallies = np.zeros(p), np.zeros((q, q)), np.zeros((m, q)), np.zeros(7, np.int64)
    incomplete = np.ones(m, bool) if incomplete is None else incomplete
    out = []
    for _ in range(n):
        assert published_step(rng, rows, 1.0, incomplete, state, beta, Psi, B, tallies) == 0
        out.append((beta.copy(), Psi.copy(), B.copy()))
    return *(np.array(x) for x in zip(*out, strict=True)), state, dict(
        zip(PUBLISHED_TALLIES, tallies.tolist(), strict=True)
    )


@functools.cache
def rows_of(name):
    t = table(name)
    n = len(t["y"])
    one, X = np.ones(n), np.column_stack([np.ones(n), t["x"]])
    first = np.r_[0, np.cumsum(np.bincount(t["g"]))]
    Z = np.ascontiguousarray(X[:, : 1 + t["slope"]])
    return GlmmRows(LOGIT, t["y"], one, one, np.zeros(n), X, Z, first)


def distances(name, seed):
    """What his code drew and what ours did, in standard errors of the differences, by kind."""
    rows, theirs = rows_of(name), FROZEN[name]
    beta, _, B, _, tallies = draws(rows, seed=seed)
    out = {}
    for side, x in ((1, -1.0), (2, 1.0)):
        row = np.array([1.0, x])
        eta = (beta @ row)[:, None] + B @ row[: rows.Z.shape[1]]
        for k in ("mean", "sd", "q25", "q75"):
            out[f"{k}_{side}"] = compare(eta, k, np.array(theirs[f"{k}_{side}"]))
    n = DRAWS * DESIGNS[name][0]
    mine = tallies["unconditional draws"] / n, tallies["ratios above 1"] / (n - tallies["unconditional draws"])
    for k, share in zip(("unconditional", "above_1"), mine, strict=True):
        both = (share + theirs[k]) / 2 + 1 / n
        # clusters of one draw share beta*, Psi*: as if there were a quarter as many
        out[k] = np.array([(share - theirs[k]) / np.sqrt(2 * both / (n / 4))])
    return out


def compare(x, kind, theirs):
    """Means; sds of what lies within the quartiles' reach, as rare unconditional draws have a heavy tail; quartiles."""
    n = len(x)
    q25, q75 = np.quantile(x, [0.25, 0.75], axis=0)
    spread = (q75 - q25) / 1.349
    if kind in ("mean", "sd"):
        own = x.mean(0) if kind == "mean" else x.std(0, ddof=1)
        heavy = np.mean((x - x.mean(0)) ** 4, axis=0) / x.var(0) ** 2
        error = x.std(0) * np.sqrt((1 if kind == "mean" else (heavy - 1) / 4) * 2 / n)
        return ((own - theirs) / error)[heavy < 4.5]  # elsewhere a few draws make the whole of it
    own = q25 if kind == "q25" else q75
    return (own - theirs) / (1.3625 * spread * np.sqrt(2 / n))  # sqrt(p (1 - p)) / phi(0.674)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", DESIGNS)
def test_draws_are_those_of_his_code(name, seed):
    z = distances(name, seed)
    worst = {k: float(np.abs(v).max(initial=0)) for k, v in z.items()}
    assert max(worst.values()) < LIMIT, worst
    assert np.mean(np.concatenate(list(z.values())) ** 2) < 1.6
