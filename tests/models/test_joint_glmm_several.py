"""The joint GLMM in PyMC with several grouping factors, against SciPy's distributions (test_joint_glmm.py)."""

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
    """An incomplete number and an incomplete level, their product and a slope; the level has no effects of h."""
    rng, frame, n = one.base(21)
    frame["h"] = rng.integers(0, GROUPS, n)
    frame["x"], frame["t"] = 3.0 + 2.0 * rng.normal(size=n), rng.integers(0, 2, n).astype(float)
    frame["y"] = frame.x + frame.t + rng.normal(size=n)
    for name, count in (("x", 6), ("t", 8), ("y", 3)):
        one.holes(rng, frame, name, count)
    data = bi.IncompleteData(frame, ["g", "h"], families={"t": "bernoulli"})
    factors = {"x": "x ~ 1 + (1 | g) + (1 | h)", "t": "t ~ x + (1 | g)"}
    return frame, bi.JointGLMM(
        data, "y ~ x * t + (1 + x | g) + (1 | h)", factors, ("x", "t", "y"), one.PRIORS,
        effects="separate" if separate else "joint",
    )  # fmt: skip


LAWS = [
    Law("x", "normal", one.ONE, one.ONE, free=True, further={"h": 0}),
    Law("t", "bernoulli", lambda c: [1.0, c["x"]], one.ONE, levels=2),
    Law("y", "normal", lambda c: [1.0, c["x"], c["t"], c["x"] * c["t"]], lambda c: [1.0, c["x"]], leaf=True,
        further={"h": 1}),
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


def neighbours(right):
    return lambda self, block, position, at: right(self, block, position, np.roll(at, 1))


@pytest.mark.parametrize(
    "wrong",
    [lambda right: lambda self, block, position, at: 0.0, neighbours,
     lambda right: lambda self, block, position, at: right(self, block, 0, at)],
    ids=["left out", "of other rows", "of another factor"],
)  # fmt: skip
def test_other_intercepts_are_told_apart(monkeypatch, wrong):
    monkeypatch.setattr(Completed, "_intercepts", wrong(Completed._intercepts))
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
    expected = X @ theta["beta_y"] + of["g"][:, 2] + of["g"][:, 3] * own.x + of["h"][:, 1]
    np.testing.assert_allclose(found, expected, atol=1e-8)
