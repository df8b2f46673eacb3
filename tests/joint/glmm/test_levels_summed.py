"""Several grouping factors, and what a chain remembers of its rows: values summed out, repeated rounds, copies."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit, logsumexp

import bayesimp as bi
from bayesimp.joint.glmm import summed
from bayesimp.joint.glmm.sampler import Sampler
from bayesimp.kernels.factors.summed import read_values
from tests.joint.glmm.test_levels_posterior import sampler

ROWS = 240
SCHOOL, CLASS = np.arange(ROWS) // 60, np.array(list("abcdef"))[np.arange(ROWS) % 6]
BOTH = "(1 | school) + (1 | class)"


def binary() -> Sampler:
    """Binary x, never observed in one school, and binary y; classes are crossed with schools."""
    rng = np.random.default_rng(4)
    frame = pd.DataFrame({"school": SCHOOL, "class": CLASS, "x": rng.integers(0, 2, ROWS) * 1.0})
    frame["y"] = rng.integers(0, 2, ROWS) * 1.0
    frame.loc[SCHOOL == 1, "x"] = np.nan
    data = bi.IncompleteData(frame, ["school", "class"], {"x": "bernoulli", "y": "bernoulli"})
    return sampler(bi.JointGLMM(data, "y ~ x + (1 + x | school) + (1 | class)", {"x": f"~ 1 + {BOTH}"}))


def difference(s: Sampler, group: summed.Summed) -> float:
    """Of the log density that the move reads, at four effects: merged rows less all rows of the cluster."""

    def density(rows, times, b):
        l = group.of
        d = s.table.factors[l].effects
        m = group.mixture(s.table, s.state, rows, times, np.zeros(d), np.eye(d))
        read_values(
            np.int64(0), group.child, group.cluster, s.table.arrays, s.table.cells, s.table.programs, s.state,
            s.work[0], group.missing, rows, s.table.scales[l].levels[0].random, np.zeros(d), m,
        )  # fmt: skip
        p = expit(m.base[:, 0] + m.Z @ b)
        terms = m.weight + np.log(np.where(m.y == 1.0, p, 1.0 - p))
        return sum(t * logsumexp(terms[m.first[j] : m.first[j + 1]]) for j, t in enumerate(m.times))

    merged, every = group.alike(s.table, s.state, 0), (group.rows, np.ones(len(group.rows)))
    assert len(merged[0]) <= 12 < len(every[0]) == 60
    size = s.table.factors[group.of].effects
    points = np.random.default_rng(1).normal(size=(4, size))
    return max(abs(density(*merged, b) - density(*every, b)) for b in points)


@pytest.mark.parametrize("wrong", [False, True])
def test_rows_alike_remain_so_when_effects_of_classes_change(wrong, monkeypatch):
    """All effects are zero when rows are first compared: those of different classes have equal predictors then."""
    if wrong:
        right = summed._never_changes
        monkeypatch.setattr(
            summed, "_never_changes", lambda table, *given: right(replace(table, further=()), *given)
        )
    s = binary()
    groups = s.groups(0)
    assert [group.of for group in groups] == [1, 0]
    s.chain.B[1][:] = np.random.default_rng(2).normal(size=s.chain.B[1].shape)
    for k in range(2):
        s._refresh(k)
    found = [difference(s, group) for group in groups]
    assert min(found) > 0.1 if wrong else max(found) < 1e-8


def test_each_round_updates_psi_of_every_grouping_factor(monkeypatch):
    s, updated = binary(), []
    right = s.update_covariance
    monkeypatch.setattr(s, "update_covariance", lambda b: updated.append(b) or right(b))
    s.sweep()
    assert updated == [0, 1] * 3  # between the rounds of x, of y, and at the end


def test_a_single_factor_leaves_its_responses_as_they_are():
    """The array has one column then, of which a slice need not be a copy; all rows are used where none is missing."""
    rng = np.random.default_rng(6)
    frame = pd.DataFrame(
        {"school": SCHOOL, "class": CLASS, "z": rng.normal(size=ROWS), "y": rng.normal(size=ROWS)}
    )
    s = sampler(bi.JointGLMM(bi.IncompleteData(frame, ["school", "class"]), f"y ~ z + {BOTH}"))
    assert s.chain.Y.shape[1] == 1
    for _ in range(3):
        s.sweep()
    np.testing.assert_array_equal(s.chain.Y, s.table.Y)
    y, _ = s.rows.response(0, s.table.rows[0])
    assert not np.shares_memory(y, s.chain.Y)
