"""The joint GLMM in PyMC with several grouping factors, against SciPy's distributions (test_joint_glmm.py)."""

from dataclasses import replace

import numpy as np
import pytest

import bayesimp as bi
from bayesimp.joint.glmm.definition import pymc_model
from bayesimp.joint.glmm.nuts import _empty, _state
from bayesimp.joint.glmm.prior import layout_of
from bayesimp.joint.glmm.sampler import Sampler
from bayesimp.models.completed import Completed
from tests.longhand.joint_glmm import Law
from tests.models import test_joint_glmm as one

GROUPS = 3


def crossed(separate=False):
    """An incomplete number and an incomplete level, their product and slopes, of x in g and of t in h; a nominal response
    with a slope in h; the level has no effects of h."""
    rng, frame, n = one.base(21)
    frame["h"] = rng.integers(0, GROUPS, n)
    frame["x"], frame["t"] = 3.0 + 2.0 * rng.normal(size=n), rng.integers(0, 2, n).astype(float)
    frame["y"] = frame.x + frame.t + rng.normal(size=n)
    frame["k"] = rng.integers(0, 3, n).astype(float)
    for name, count in (("x", 6), ("t", 8), ("y", 3), ("k", 2)):
        one.holes(rng, frame, name, count)
    data = bi.IncompleteData(frame, ["g", "h"], families={"t": "bernoulli", "k": "categorical"})
    factors = {"x": "x ~ 1 + (1 | g) + (1 | h)", "t": "t ~ x + (1 | g)", "k": "k ~ t + (1 | g) + (1 + x | h)"}
    return frame, bi.JointGLMM(
        data, "y ~ x * t + (1 + x | g) + (t + 1 | h)", factors, ("x", "t", "y", "k"), one.PRIORS,
        effects="separate" if separate else "joint",
    )  # fmt: skip


LAWS = [
    Law("x", "normal", one.ONE, one.ONE, free=True, further={"h": (0, one.ONE)}),
    Law("t", "bernoulli", lambda c: [1.0, c["x"]], one.ONE, levels=2),
    Law("y", "normal", lambda c: [1.0, c["x"], c["t"], c["x"] * c["t"]], lambda c: [1.0, c["x"]], leaf=True,
        further={"h": (1, lambda c: [1.0, c["t"]])}),
    Law("k", "categorical", lambda c: [1.0, c["t"]], one.ONE, levels=3, leaf=True,
        further={"h": (3, lambda c: [1.0, c["x"]])}),
]  # fmt: skip


def as_longhand(joint, theta):
    """With effects in the order of the labels of their groups, and those of g under the names of a single factor."""
    place = [int(label) for label in joint.model.coords["group_h"]]
    B = np.empty_like(theta["B_h"])
    B[place] = theta["B_h"]
    kept = {name: value for name, value in theta.items() if not name.startswith(("B_", "Psi_"))}
    return kept | {"B": theta["B_g"], "Psi": theta["Psi_g"], "Psi_h": theta["Psi_h"], "B_h": B}


def differences() -> float:
    frame, model = crossed()
    joint = pymc_model(model)
    points, call = one.evaluator(joint)
    found = [call(point) for point in points]
    ours = np.array([value for value, _ in found])
    theirs = np.array(
        [one.longhand(model, joint, frame, LAWS, as_longhand(joint, theta)) for _, theta in found]
    )
    assert np.isfinite(ours).all() and np.ptp(ours) > 1
    return float(np.abs((ours - ours[0]) - (theirs - theirs[0])).max())


def test_density_is_longhand():
    assert differences() < 1e-7


def of_h(change):
    """The effects of h changed: (right, self, own, predictors, at) -> effects."""

    def spoilt(right):
        def wrong(self, own, predictors, at):
            level = self.data.blocks[own.block].level
            return change(right, self, own, predictors, at) if level else right(self, own, predictors, at)

        return wrong

    return spoilt


@pytest.mark.parametrize(
    "wrong",
    [of_h(lambda right, *given: 0.0 * right(*given)),
     of_h(lambda right, self, own, predictors, at: right(self, own, predictors, np.roll(at, 1))),
     of_h(lambda right, self, own, predictors, at: right(self, replace(own, at=0), predictors, at)),
     of_h(lambda right, *given: right(*given)[:, ::-1])],
    ids=["left out", "of other rows", "of another factor", "of another column"],
)  # fmt: skip
def test_other_effects_are_told_apart(monkeypatch, wrong):
    monkeypatch.setattr(Completed, "_effects", wrong(Completed._effects))
    assert differences() > 1e-2


def test_names_are_those_of_the_posterior():
    for separate in (False, True):
        model = crossed(separate)[1]
        made = {v.name for v in model.pymc_model().deterministics}
        imp = model.impute(1, seed=1, chains=1, tune=2, draws=2, keep_effects=True, progress=False)
        kept = {str(name) for name in imp.tree["posterior"].data_vars}
        assert kept <= made, kept - made
        assert {"Psi_h_x", "B_g_y"} <= kept if separate else {"Psi_h", "B_g"} <= kept


def test_a_draw_of_nuts_is_a_state_of_the_sampler():
    """Linear predictors of y at a draw, in the units of the data, in rows whose covariates are complete."""
    frame, model = crossed()
    joint = pymc_model(model)
    points, call = one.evaluator(joint)
    theta = call(points[1])[1]
    chain = _state(model, joint, theta, _empty(model.table, 1, 0), None)
    sampler = Sampler(model.table, layout_of(model.table, False), chain, "test")
    rows = np.flatnonzero(frame[["x", "t"]].notna().all(axis=1).to_numpy()[model.table.row])
    scale, own = model.table.scales[2], frame.iloc[model.table.row[rows]]
    found = scale.c[0] + scale.s[0] * sampler.predictors(2, rows)[:, 0]
    B = {
        name: [int(v) for v in joint.model.coords[dim]] for name, dim in (("g", "cluster"), ("h", "group_h"))
    }
    of = {name: theta[f"B_{name}"][[places.index(i) for i in own[name]]] for name, places in B.items()}
    X = np.column_stack([np.ones(len(own)), own.x, own.t, own.x * own.t])
    expected = (
        X @ theta["beta_y"] + of["g"][:, 2] + of["g"][:, 3] * own.x + of["h"][:, 1] + of["h"][:, 2] * own.t
    )
    np.testing.assert_allclose(found, expected, atol=1e-8)
