"""beta and the effects of a chain of nested factors, drawn given all others, against the dense normal of all effects."""

import numpy as np
import pandas as pd
import pytest
from numba import njit

from bayesimp.formulas.design import DesignMatrices
from bayesimp.formulas.formula import RandomTerm
from bayesimp.joint.levels.factors import GroupingFactor
from bayesimp.joint.levels.table import levels_table
from bayesimp.kernels.levels.records import EffectNormals
from bayesimp.kernels.levels.sums import gather, own_columns, subtract_others
from bayesimp.kernels.levels.tree import draw_chain, room
from bayesimp.kernels.levels.visits import common_blocks
from bayesimp.kernels.normal.effects import pattern_weights
from bayesimp.table.clusters import Clusters
from tests.calibration.montecarlo import LEVEL, REJECTED, normal
from tests.kernels import dense
from tests.longhand import several_factors as longhand

S = 6_000


@njit
def drawn(rng, W, m, factors, chains, t, Psi_inverse, Q0, t0, b, beta_out, b_out, subtract):
    """Independent draws of (beta, effects of chain t), the other effects as they are in b."""
    r, q = W.shape[1], m.ZZ.shape[1]
    p = m.XY.shape[1]
    B = np.empty((factors.group.shape[0], q, r))
    own, order = np.empty(q, np.bool_), np.empty(q, np.int64)
    XY, ZY = np.empty(m.XY.shape), np.empty(m.ZY.size)
    work = np.empty(room(factors, chains, np.int64(r), np.int64(r * p)))
    beta = np.zeros((p, r))
    for s in range(factors.number.size):
        gather(factors, np.int64(s), b, B)
    if not subtract:
        B[:] = 0.0
    columns = own_columns(factors, chains, t, own, order)
    subtract_others(m, chains, t, own, order, columns, B, XY, ZY)
    failed = np.int64(0)
    given = EffectNormals(Psi_inverse, common_blocks(factors), np.zeros(b.size))
    for k in range(beta_out.shape[0]):
        now = b.copy()
        failed += draw_chain(rng, W, m, factors, chains, t, given, Q0, t0, XY, ZY, beta, now, work)
        beta_out[k] = beta
        b_out[k] = now
    return failed


def factor(label, codes):
    codes = np.unique(codes, return_inverse=True)[1].astype(np.int64)
    groups = Clusters(pd.RangeIndex(codes.max() + 1), codes, pd.RangeIndex(len(codes)))
    return GroupingFactor(label, RandomTerm("1", label), groups)


def grouping(kind, rng, n):
    """Codes of the factors, the first that of the primary clusters."""
    school = rng.integers(0, 4, n)
    if kind == "one":
        return [school]
    if kind == "nested":
        return [school, school * 3 + rng.integers(0, 3, n)]
    if kind == "crossed":
        return [school, rng.integers(0, 5, n)]
    if kind == "three levels":
        classes = school * 2 + rng.integers(0, 2, n)
        return [school, classes, classes * 2 + rng.integers(0, 2, n)]
    classes = school * 2 + rng.integers(0, 2, n)  # nested and crossed, and two factors in one
    return [school, classes, rng.integers(0, 4, n), school * 2 + rng.integers(0, 2, n)]


def table(kind, r=2, seed=3, n=60):
    """The table as the sampler reads it, and X, Z of every factor and Y on the working scale, row by row."""
    rng = np.random.default_rng(seed)
    codes = grouping(kind, rng, n)
    x = rng.normal(size=(n, 2))
    X = np.column_stack([np.ones(n), x[:, 0]])
    Zs = [np.column_stack([np.ones(n), x[:, 1]]) if s == 1 else np.ones((n, 1)) for s in range(len(codes))]
    Y = rng.normal(size=(n, r)) + X @ [[1.0] * r, [0.5] * r]
    Y[rng.random(Y.shape) < 0.25] = np.nan
    names = [("Intercept",) if Z.shape[1] == 1 else ("Intercept", "z") for Z in Zs]
    designs = [
        DesignMatrices(X, Z, ("Intercept", "x"), name, ("1", "x"), name)
        for Z, name in zip(Zs, names, strict=True)
    ]
    factors = [factor(f"f{s}", c) for s, c in enumerate(codes)]
    made = levels_table(designs, factors, Y, [f"y{k}" for k in range(r)], flat=True)
    s = made.working.scale
    units = [s.s[0] / made.scales[k].effects[: Z.shape[1]] for k, Z in enumerate(Zs)]
    Zs = [Z @ made.scales[k].C / units[k] for k, Z in enumerate(Zs)]
    return made, X @ s.T, Zs, Y / s.s - X @ s.T @ s.offset


@pytest.mark.parametrize("kind", ["one", "nested", "crossed", "three levels", "several"])
def test_a_chain_given_the_other_effects(kind):
    p_right, p_wrong = compared(kind)
    assert p_right > LEVEL
    if kind in ("crossed", "several"):
        assert p_wrong < REJECTED


def compared(kind, spoil=None):
    """Smallest p-value of all chains, and of the same with the effects of other chains not subtracted."""
    made, X, Zs, Y = table(kind)
    f, chains = made.factors, made.chains
    if spoil is not None:
        chains = spoil(chains)
    r, p = Y.shape[1], X.shape[1]
    parts = [(Z, made.places[:, s], int(f.number[s])) for s, Z in enumerate(Zs)]
    Psis = [dense.covariance(r * Z.shape[1], 7 + s) for s, Z in enumerate(Zs)]
    Sigma = dense.covariance(r, 1)
    M, h, starts = longhand.effects_given(X, parts, Y, Sigma, Psis)
    W, ok = pattern_weights(Sigma, made.moments.patterns)
    assert ok
    rng = np.random.default_rng(11)
    b = rng.normal(size=int(f.effect_at[-1]))
    inverse = np.concatenate([np.linalg.inv(Psi).ravel() for Psi in Psis])
    right, wrong = [], []
    for t in range(len(chains.first) - 1):
        own_factors = chains.factor[chains.first[t] : chains.first[t + 1]]
        own = np.concatenate(
            [np.arange(starts[0]), *(np.arange(starts[s], starts[s + 1]) for s in own_factors)]
        )
        rest = np.setdiff1d(np.arange(len(h)), own)
        u = np.concatenate([np.zeros(starts[0]), b])
        V = np.linalg.inv(M[np.ix_(own, own)])
        mean = V @ (h[own] - M[np.ix_(own, rest)] @ u[rest])
        for subtract, found in ((True, right), (False, wrong)):
            beta, draws = np.empty((S, p, r)), np.empty((S, len(b)))
            failed = drawn(
                rng, W, made.moments, f, chains, t, inverse, np.zeros((r * p, r * p)), np.zeros(r * p), b, beta, draws,
                subtract,
            )  # fmt: skip
            assert failed == 0
            x = np.hstack([beta.transpose(0, 2, 1).reshape(S, -1), draws])[:, own]
            found.append(normal(x, mean, V))
    return min(right), min(wrong)


def test_parents_of_other_groups_are_noticed():
    def spoil(chains):
        return chains._replace(parent=np.roll(chains.parent, 1))

    p, _ = compared("nested", spoil)
    assert p < REJECTED


def test_leaves_of_other_cells_are_noticed():
    def spoil(chains):
        return chains._replace(leaf=np.roll(chains.leaf, 1, axis=1))

    p, _ = compared("crossed", spoil)
    assert p < REJECTED
