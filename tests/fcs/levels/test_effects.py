"""Effects of several factors in one visit: what each factor sees of the others, and effects of groups without values."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from bayesimp import priors as pr
from bayesimp.fcs.blocks import levels_glmm
from bayesimp.fcs.blocks.levels import FactorBlock
from bayesimp.fcs.loop import Cycles
from tests.calibration.montecarlo import LEVEL, REJECTED, normal
from tests.fcs.levels.test_posterior import made, small, table

PSI = np.array([[1.5, 0.95], [0.95, 0.7]])
FORMULA = "~ x + (1 + x | school) + (1 | class)"


def block_of(frame: pd.DataFrame, priors: pr.Priors, **options):
    """The block of y, its chain and its parameters."""
    fcs = made(frame, ["school", "class"], priors, FORMULA, **options)
    task = Cycles(fcs, 3)
    chain = task.start(0)
    _, blocks, _ = task.parts
    ((block, theta),) = [
        (b, t) for b, t in zip(blocks, chain.theta, strict=True) if isinstance(b, FactorBlock)
    ]
    return block, chain, theta


def test_what_a_factor_sees_of_the_others_and_its_own_part_are_everything():
    """Slopes of the primary clusters included: the same linear predictor, whichever factor is drawn."""
    frame = small(False, "bernoulli").assign(x=lambda f: np.random.default_rng(1).normal(3, 2, len(f)))
    block, chain, theta = block_of(frame, pr.Priors(), families={"y": "bernoulli"})
    rng = np.random.default_rng(2)
    theta.B[:], theta.own["effects_1"][:] = rng.normal(size=theta.B.shape), rng.normal(size=(2, 1, 1))
    _, Z = block.rows.observed(chain.V, block.rows.factors(chain.V))
    school, classes = block.factors.rows.observed.T
    own = (Z * theta.B[school, :, 0]).sum(axis=1), theta.own["effects_1"][classes, 0, 0]
    assert Z.shape[1] == 2 and np.ptp(Z[:, 1]) > 1
    both = [block._others(theta, s, Z) + own[s] for s in range(2)]
    np.testing.assert_allclose(*both, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("family", ["normal", "bernoulli"])
def test_effects_of_groups_without_values_have_their_law(family):
    """They are drawn at every visit: 600 schools and 600 classes in which y is never observed."""
    seen = table()[["school", "class", "x", "y"]].reset_index(drop=True)
    if family == "bernoulli":
        seen["y"] = (seen["y"] > seen["y"].median()).where(seen["y"].notna()) * 1.0
    number = np.arange(600)
    unseen = pd.DataFrame(
        {"school": number + 10, "class": [f"u{k}" for k in number], "x": number % 7 * 1.0, "y": np.nan}
    )
    frame = pd.concat([seen, unseen], ignore_index=True)
    frame["other"] = np.where(np.arange(len(frame)) % 5 == 0, np.nan, 0.3 * (np.arange(len(frame)) % 4))
    priors = pr.Priors(Psi=pr.Fixed(PSI), Psi_of={"class": pr.Fixed([[2.0]])})
    block, chain, theta = block_of(frame, priors, families={"y": family})
    assert block.step(chain, theta) == 0
    schools, classes = theta.B[-600:, :, 0], theta.own["effects_1"][-600:, 0]
    assert normal(schools, np.zeros(2), theta.Psi) > LEVEL
    assert normal(classes, np.zeros(1), theta.own["Psi_1"]) > LEVEL
    L = np.linalg.cholesky(theta.Psi)
    assert normal(schools, np.zeros(2), L.T @ L) < REJECTED  # the factor on the wrong side
    assert normal(classes, np.zeros(1), 2 * theta.own["Psi_1"]) < REJECTED


def test_a_visit_updates_every_factor_as_often_as_asked(monkeypatch):
    made_of = []

    def counted(rng, rows, *rest):
        made_of.append(len(rows.first) - 1)
        return glmm_step(rng, rows, *rest)

    glmm_step = levels_glmm.glmm_step
    monkeypatch.setattr(levels_glmm, "glmm_step", counted)
    frame = small(False, "bernoulli").assign(x=lambda f: np.arange(len(f)) % 5 * 1.0)
    block, chain, theta = block_of(frame, pr.Priors(), families={"y": "bernoulli"})
    assert block.updates == block.method.inner == 1
    block.updates = 3
    made_of.clear()
    assert block.step(chain, theta) == 0
    assert made_of == 3 * [len(theta.B), len(theta.own["effects_1"])]
