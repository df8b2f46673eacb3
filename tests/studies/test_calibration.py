"""Posterior calibration on the user's data: right models pass, wrong ones do not; over-imputation by its definition."""

import numpy as np
import pandas as pd
import pytest

import bayesimp as bi
from bayesimp.contract import Shift
from bayesimp.errors import SpecificationError
from bayesimp.studies import calibrate, calibration, overimpute
from bayesimp.studies.uniformity import envelope, uniformity
from tests.calibration.uniformity import p_value

SIGMA, PSI = np.array([[2.0, 1.0], [1.0, 2.0]]), np.array([[1.0, 0.4], [0.4, 1.0]])


def data(slope: bool = False) -> bi.IncompleteData:
    if slope:
        effects = ["Intercept", "z"]
        design = bi.studies.Design(
            [
                bi.studies.SimulatedVariable("z", "normal", {"Intercept": 5.0}),
                bi.studies.SimulatedVariable("y1", "normal", {"z": 0.5}, effects),
                bi.studies.SimulatedVariable("y2", "normal", {"z": -0.5, "y1": 0.5}, effects),
            ],
            20, 10, 0.5 * np.eye(4) + 0.2, cluster="study",
        )  # fmt: skip
        how = {"y1": bi.studies.Systematic(clusters=(1, 2, 3)), "y2": bi.studies.Systematic(clusters=(6,))}
        frame, _ = bi.studies.delete(design(seed=4), cluster="study", systematic=how, seed=1)
    else:
        missing = {"y1": [0, 1, 2], "y2": [5]}
        frame = bi.simulate_studies([8] * 10, SIGMA, PSI, missing=missing, seed=4)
    frame.loc[::7, "y1"] = np.nan
    return bi.IncompleteData(frame, cluster="study")


def joint(slope: bool = False, **options) -> bi.JointNormal:
    formula = "y1 + y2 ~ 1 + z + (1 + z | study)" if slope else "y1 + y2 ~ 1 + (1 | study)"
    return bi.JointNormal(data(slope), formula, **options)


def test_replications_have_the_priors_of_the_data():
    """Resolved in the units of the data, and centred at the same place, although the new table has other scales."""
    model = joint(slope=True)
    drawn = calibration._parameters(model.impute(4, seed=1, draws=20, progress=False), 4)
    theta = {name: values[0] for name, values in drawn.items()}
    both, _ = calibration._with_replicate(model, theta, np.random.default_rng(1))
    again = bi.JointNormal(both, model.formula.text, calibration._same_priors(model))
    ours, theirs = model.grouping.only.resolved, again.grouping.only.resolved
    np.testing.assert_allclose(ours.Psi.C, theirs.Psi.C, rtol=1e-12)
    assert repr(ours.Psi.prior) == repr(theirs.Psi.prior) and repr(ours.Sigma) == repr(theirs.Sigma)
    assert again.is_conjugate
    assert repr(bi.JointNormal(both, model.formula.text).grouping.only.resolved.Sigma) != repr(ours.Sigma)


@pytest.mark.parametrize(("slope", "priors"), [(False, "default"), (True, "default"), (False, "pan")])
def test_right_models_are_calibrated(slope, priors):
    found = calibrate(joint(slope, priors=priors), 40, seed=1)
    assert found.passed and repr(found).startswith("Calibrated")
    effects = 4 if slope else 2
    fixed = 2 if slope else 1
    assert found.ranks.shape == (40, 2 * fixed + 3 + effects * (effects + 1) // 2 + 2)
    assert found.ranks.to_numpy().min() >= 0 and found.ranks.to_numpy().max() <= 19


def test_wrong_variances_of_effects_are_told(monkeypatch):
    """New tables whose effects vary twice as much (in sd) as the draw says: Psi and the missing means are off."""
    right = calibration._with_replicate

    def wrong(model, theta, rng):
        return right(model, theta | {"Psi": 4 * theta["Psi"]}, rng)

    monkeypatch.setattr(calibration, "_with_replicate", wrong)
    found = calibrate(joint(), 40, seed=1)
    assert not found.passed and "Psi[" in repr(found) and repr(found).startswith("Not calibrated")


def test_another_prior_is_told(monkeypatch):
    """Replications fitted under another prior than the data."""
    monkeypatch.setattr(calibration, "_same_priors", lambda model: bi.priors.iw(60.0, 1.0))
    assert not calibrate(joint(), 40, seed=1).passed


def test_the_same_seed_gives_the_same_ranks():
    one, two, other = (calibrate(joint(), 4, seed=s).ranks for s in (1, 1, 2))
    assert one.equals(two) and not one.equals(other)


def test_the_picture(tmp_path):
    figure = calibrate(joint(), 5, seed=1).plot()
    assert len([axis for axis in figure.axes if axis.get_visible()]) == 10
    figure.savefig(tmp_path / "figure.png")


def test_chained_equations_have_no_joint_distribution():
    with pytest.raises(SpecificationError, match="overimpute"):
        calibrate(bi.FCS(data()), 5, seed=1)
    with pytest.raises(SpecificationError, match="19 draws"):
        calibrate(joint(), 5, seed=1, draws=3)


def test_uniformity_is_the_test_of_the_calibration_suite():
    rng = np.random.default_rng(1)
    for _ in range(5):
        ranks = rng.integers(0, 20, 60)
        assert uniformity(ranks, 19) == pytest.approx(p_value(ranks, 19), rel=1e-9)
    low, high = envelope(60, 19)
    counts = np.array(
        [np.cumsum(np.bincount(rng.integers(0, 20, 60), minlength=20))[:-1] for _ in range(4000)]
    )
    inside = ((counts >= low) & (counts <= high)).all(axis=1).mean()
    assert (
        0.95 - 4 * np.sqrt(0.05 * 0.95 / 4000) < inside < 0.98
    )  # counts are discrete, and the band not too narrow


def mixed(seed: int = 2) -> bi.IncompleteData:
    """Normal, binary, count and ordinal variables in 12 clusters."""
    design = bi.studies.Design(
        [
            bi.studies.SimulatedVariable("x", effects=["Intercept"]),
            bi.studies.SimulatedVariable("b", "bernoulli", {"x": 0.8}),
            bi.studies.SimulatedVariable("c", "poisson", {"Intercept": 0.5, "x": 0.3}),
            bi.studies.SimulatedVariable(
                "g", "ordinal", {"x": 0.5, "Intercept": 0.5}, levels=list("uvw"), increments=[1.0]
            ),
        ],
        12, 25, [[0.5]],
    )  # fmt: skip
    holed, _ = bi.studies.delete(
        design(seed=seed), cluster="cluster", sporadic={n: 0.1 for n in "xbcg"}, systematic={"x": 0.2}, seed=1
    )
    return bi.IncompleteData(holed, cluster="cluster", families=design.families)


@pytest.mark.parametrize("hide", ["rows", "clusters"])
def test_every_observed_value_is_hidden_once(hide):
    table = mixed()
    found = overimpute(bi.FCS(table), m=4, groups=3, hide=hide, seed=1, cycles=3)
    for name in "xbcg":
        cells = found.cells.query("variable == @name")
        assert sorted(cells["row"]) == np.flatnonzero(~table.missing(name)).tolist()
        assert cells["rank"].between(0, 4).all()
        truth = table.column_values(name)[cells["row"]]
        assert (cells["truth"] == truth).all() and cells["mean"].notna().all()
        per_cluster = cells.groupby("cluster")["group"].nunique()
        assert (per_cluster == 1).all() if hide == "clusters" else (per_cluster == 3).all()


def test_good_models_hold_what_they_promise_and_bad_ones_do_not():
    """90% inside, within 4 standard errors over clusters; not if values are drawn to a tenth of their spread."""
    good = overimpute(bi.FCS(mixed()), groups=4, seed=3, cycles=10).by_variable().set_index("variable")
    assert (good["z"].abs() < 4).all() and (good["expected"] == 0.9).all()

    def narrow(values):
        return values.mean() + 0.1 * (values - values.mean())

    bad = overimpute(bi.FCS(mixed(), post={"x": narrow}), groups=4, seed=3, cycles=10).by_variable()
    assert bad.set_index("variable").loc["x", "z"] < -4
    assert good.loc["x", "inside"] > 0.8 > bad.set_index("variable").loc["x", "inside"]


def test_summaries_of_overimputation_by_hand():
    cells = pd.DataFrame({
        "variable": "y", "cluster": [1, 1, 2, 2, 2], "row": range(5), "group": 0, "truth": [1.0, 2, 3, 4, 5],
        "mean": [0.0, 2, 3, 3, 7], "sd": [1.0, 1, 2, 2, 1], "rank": [0, 2, 3, 4, 1],
    })  # fmt: skip
    found = bi.studies.overimputation.Overimputation(cells, m=4)
    row = found.by_variable().iloc[0]
    assert found.expected == 0.6 and row["inside"] == 0.6 and row["z"] == 0
    # clusters have 1 of 2 and 2 of 3 inside: residuals 1 - 1.2 and 2 - 1.8
    assert row["se"] == pytest.approx(np.sqrt(2 * (0.04 + 0.04)) / 5)
    by = found.by_cluster().set_index("cluster")
    assert by["inside"].tolist() == pytest.approx([1 / 2, 2 / 3]) and by.loc[2, "error"] == pytest.approx(
        -0.5
    )
    assert "60.0% of 5 values inside" in repr(found)


def test_what_cannot_be_overimputed_is_refused():
    model = bi.FCS(data())
    for wrong in ({"hide": "all"}, {"groups": 1}, {"m": 2}):
        with pytest.raises(SpecificationError, match="overimpute"):
            overimpute(model, seed=1, **wrong)
    with pytest.raises(SpecificationError, match="fewer than groups"):
        overimpute(model, seed=1, hide="clusters", groups=9)
    where = pd.DataFrame({"y1": data().missing("y1")})
    with pytest.raises(SpecificationError, match="without where"):
        overimpute(bi.FCS(data(), where={"y1": where["y1"].to_numpy()}), seed=1)


def test_overimputation_leaves_out_what_concerns_missing_values():
    """A shift of 5, or a reference arm, would move hidden values, which are observed, from the model that is checked."""
    table = data().frame.assign(arm=lambda t: np.where(np.arange(len(t)) % 2, "a", "b"))
    given = bi.IncompleteData(table, "study")
    options = {"m": 5, "groups": 2, "seed": 3, "progress": False}
    formula = "y1 + y2 ~ arm + (1 | study)"
    plain = bi.JointNormal(given, formula)
    assert "left out" not in str(bi.studies.overimpute(plain, **options))
    by_reference = bi.ReferenceBased(arm="arm", reference="a", visits=("y1", "y2"))
    moved = {
        "shift": plain.with_shift(Shift({"y1": 5.0})),
        "reference arm": bi.JointNormal(given, formula, reference=by_reference),
    }
    right = bi.studies.overimpute(plain, **options).cells
    for word, model in moved.items():
        made = bi.studies.overimpute(model, **options)
        pd.testing.assert_frame_equal(made.cells, right)
        assert f"The {word} of the model was left out" in " ".join(str(made).split())
