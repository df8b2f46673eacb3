"""Calibration of the joint GLMM, from the table to the completed table: short here, in full by `-m slow`.

Level LEVEL per design after Bonferroni over its quantities; wrong models must fall below REJECTED.
"""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import bayesimp as bi
from bayesimp import priors as pr
from bayesimp.joint.glmm.sampler import Sampler
from tests.calibration import joint_glmm, sbc
from tests.calibration.joint_glmm import DESIGNS, HALF_T, SIGMA, Design, effects, g, noise
from tests.calibration.montecarlo import LEVEL, REJECTED

SPREAD = np.array([[2.0, 1.9], [1.9, 2.0]])  # roughly Psi: effects of x and y are nearly equal
TOGETHER = pr.InverseWishart(8.0, np.linalg.inv(SPREAD) / 5.0, centred=False)
ALONE = pr.InverseWishart(8.0, 0.1, centred=False)
DOWN, UP = pr.Normal(-1.0, 0.2), pr.Normal(2.0, 0.3)


def correlated(rng):
    """Positively correlated effects of an incomplete covariate and the response, and a negative slope."""
    Psi, b = effects(rng, TOGETHER, 2)
    beta_x, beta_y = rng.normal(-1.0, 0.2, 1), rng.normal(-1.0, 0.2, 2)
    (s_x, e_x), (s_y, e_y) = noise(rng), noise(rng)
    x = beta_x[0] + b[:, 0] + e_x
    y = beta_y[0] + beta_y[1] * x + b[:, 1] + e_y
    truth = {"beta_x": beta_x, "beta_y": beta_y, "sigma2_x": s_x, "sigma2_y": s_y, "Psi": Psi}
    return pd.DataFrame({"g": g, "x": x, "y": y}), truth


def steep(rng):
    """A response close to the mean of its cluster."""
    Psi, b = effects(rng, HALF_T, 2)
    beta_x, beta_y = rng.normal(2.0, 0.3, 1), rng.normal(2.0, 0.3, 2)
    (s_x, e_x), (s_y, e_y) = noise(rng), noise(rng)
    x = beta_x[0] + b[:, 0] + e_x
    y = beta_y[0] + beta_y[1] * np.bincount(g, x)[g] + b[:, 1] + e_y
    truth = {"beta_x": beta_x, "beta_y": beta_y, "sigma2_x": s_x, "sigma2_y": s_y, "Psi": Psi}
    return pd.DataFrame({"g": g, "x": x, "y": y}), truth


CORRELATED = Design("y ~ x + (1 | g)", {}, pr.Priors(SIGMA, TOGETHER, DOWN), correlated, {"x": 1, "y": 3})
STEEP = Design("y ~ cluster_sum(x) + (1 | g)", {}, pr.Priors(SIGMA, HALF_T, UP), steep, {"x": 1, "y": 3})


@pytest.mark.calibration
@pytest.mark.parametrize("name", ["interaction", "cluster means", "Student-t", "zero-inflated"])
def test_ranks_are_uniform(name):
    assert sbc.overall(joint_glmm.ranks(DESIGNS[name], 12, seed=1, tune=80, thin=3)) > LEVEL


@pytest.mark.slow
@pytest.mark.calibration
@pytest.mark.parametrize("name", DESIGNS)
def test_every_design_in_full(name):
    assert sbc.overall(joint_glmm.ranks(DESIGNS[name], 300, joint_glmm.SEED)) > LEVEL / len(DESIGNS)


# -- wrong variants ------------------------------------------------------------------------------------------


def with_cells(model, **changes):
    model.table = replace(model.table, cells=model.table.cells._replace(**changes))
    return model


def without_child(of: str, child: str):
    """The conditional of `of` lacks the factor of `child`."""

    def spoil(model):
        cells = model.table.cells
        k, l = model.responses.index(of), model.responses.index(child)
        keep = np.ones(len(cells.of), dtype=bool)
        keep[cells.child[k] : cells.child[k + 1]] = cells.of[cells.child[k] : cells.child[k + 1]] != l
        ends = np.concatenate([[0], np.cumsum(keep)])[cells.child]
        return with_cells(
            model, child=ends, of=cells.of[keep], wide=cells.wide[keep], active=cells.active[keep]
        )

    return spoil


def stale_means(model):
    cells = model.table.cells
    return with_cells(model, mean=np.zeros_like(cells.mean), mean_of=cells.mean_of[:0])


def separate(model):
    """Effects of x and y are independent, with unchanged variances."""
    return bi.JointGLMM(
        model.data, model.request.analyses, priors=replace(model.priors, Psi=ALONE), effects="separate"
    )


def test_the_spoiled_child_is_the_only_change():
    complete, _ = DESIGNS["interaction"].simulate(np.random.default_rng(0))
    frame = joint_glmm.delete(np.random.default_rng(1), DESIGNS["interaction"], complete)
    right, wrong = (DESIGNS["interaction"].model(frame) for _ in range(2))
    wrong = without_child("x", "y")(wrong)
    names = np.array(right.responses)
    a, b = right.table.cells, wrong.table.cells
    children = lambda c: [list(names[c.of[c.child[k] : c.child[k + 1]]]) for k in range(3)]  # noqa: E731
    assert children(a) == [["w", "y"], ["y"], []] and children(b) == [["w"], ["y"], []]


@pytest.mark.calibration
def test_a_child_left_out_is_rejected():
    ranks = joint_glmm.ranks(DESIGNS["interaction"], 34, 2, tune=60, thin=2, spoil=without_child("x", "y"))
    assert sbc.overall(ranks) < REJECTED


@pytest.mark.calibration
def test_a_student_child_left_out_is_rejected():
    ranks = joint_glmm.ranks(DESIGNS["Student-t"], 34, 2, tune=60, thin=2, spoil=without_child("x", "y"))
    assert sbc.overall(ranks) < REJECTED


@pytest.mark.slow
@pytest.mark.calibration
def test_degrees_of_freedom_from_another_prior_are_rejected():
    """nu - 2 is a twentieth of what the prior says, for which the model is not calibrated."""
    design = replace(DESIGNS["Student-t"], simulate=lambda rng: joint_glmm.robust(rng, 0.5))
    assert sbc.overall(joint_glmm.ranks(design, 60, 2, tune=60, thin=3)) < REJECTED


@pytest.mark.slow
@pytest.mark.calibration
def test_fewer_structural_zeros_than_zi_says_are_rejected():
    design = replace(DESIGNS["zero-inflated"], simulate=lambda rng: joint_glmm.inflated(rng, 0.4))
    assert sbc.overall(joint_glmm.ranks(design, 60, 2, tune=60, thin=3)) < REJECTED


@pytest.mark.calibration
def test_leaves_drawn_without_effects_are_rejected(monkeypatch):
    right = Sampler.leaf

    def leaf(self, k):
        B = self.state.B.copy()
        self.state.B[:] = 0.0
        y = right(self, k)
        self.state.B[:] = B
        return y

    monkeypatch.setattr(Sampler, "leaf", leaf)
    ranks = joint_glmm.ranks(CORRELATED, 45, 2, tune=60, thin=2)
    assert sbc.overall(ranks) < REJECTED


@pytest.mark.slow
@pytest.mark.calibration
def test_stale_means_are_rejected():
    assert sbc.overall(joint_glmm.ranks(STEEP, 40, 2, tune=60, thin=2)) > LEVEL
    ranks = joint_glmm.ranks(STEEP, 40, 2, tune=60, thin=2, spoil=stale_means)
    assert sbc.overall(ranks) < REJECTED


@pytest.mark.slow
@pytest.mark.calibration
def test_effects_that_go_together_and_are_taken_to_be_separate():
    assert sbc.overall(joint_glmm.ranks(CORRELATED, 150, 2, tune=100, thin=3)) > LEVEL
    assert sbc.overall(joint_glmm.ranks(CORRELATED, 150, 2, tune=100, thin=3, spoil=separate)) < REJECTED
