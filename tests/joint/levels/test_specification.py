"""How formulas and tables with several grouping factors are read, printed and refused; names in the result."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm

import bayesimp as bi
from bayesimp import priors as pr
from bayesimp.diagnostics.components import components
from bayesimp.formulas.formula import parse
from bayesimp.joint.levels.factors import chains_of, grouping_factors
from bayesimp.priors.records import priors_from_dict, priors_to_dict
from tests.unfolding import unfolded

CROSSED = "y + w ~ x + (1 | school) + (1 | class)"
RUN = {"m": 2, "seed": 1, "chains": 2, "tune": 10, "draws": 20, "progress": False}


def table(**columns) -> pd.DataFrame:
    """8 schools of 3 classes of 4 rows; hood is crossed with both."""
    rng = np.random.default_rng(2)
    n = 96
    frame = pd.DataFrame(
        {"school": np.arange(n) // 12, "number": np.arange(n) // 4 % 3 + 1, "x": rng.normal(size=n)}
    )
    frame["class"] = "k" + (np.arange(n) // 4).astype(str).astype(object)
    frame["hood"] = rng.choice(list("abcdef"), n)
    frame["y"] = frame["x"] + rng.normal(size=8)[frame["school"]] + rng.normal(size=n)
    frame["w"] = rng.normal(size=24)[np.arange(n) // 4] + rng.normal(size=n)
    frame.loc[rng.random(n) < 0.2, "y"] = np.nan
    frame.loc[rng.random(n) < 0.2, "w"] = np.nan
    return frame.assign(**columns)


def model(formula=CROSSED, clusters=("school", "class"), frame=None, **options) -> bi.JointNormal:
    return bi.JointNormal(
        bi.IncompleteData(table() if frame is None else frame, list(clusters)), formula, **options
    )


def kinds(made) -> list[str]:
    return [event.kind for event in made.events]


# -- how it is read ------------------------------------------------------------------------------------------


def test_nested_terms_are_those_of_lme4():
    """(1 | school/number), its two terms written out, and unique ids are one model, to the last bit."""
    made = [
        model("y + w ~ x + (1 | school/number)", ["school", "number"]),
        model("y + w ~ x + (1 | school) + (1 | school:number)", ["school", "number"]),
        model("y + w ~ x + (1 | class) + (1 | school)"),
    ]
    first, *others = (one.impute(**RUN) for one in made)
    for other in others:
        for name in ("y", "w"):
            np.testing.assert_array_equal(first.values(name), other.values(name))
    assert kinds(made[0]) == kinds(made[2]) == []
    assert "Psi_school:number" in first.tree["posterior"] and "Psi_class" in others[1].tree["posterior"]


def test_crossed_factors_are_said_to_be():
    (event,) = model("y ~ x + (1 | school) + (1 | hood)", ["school", "hood"]).events
    assert event.kind == "crossed" and event.count == 6 and "(1 | school/hood)" in event.message


@pytest.mark.parametrize(
    "formula, columns, expected",
    [
        ("y ~ 1 + (1 | school) + (1 | class)", ["school", "class"], [[1, 0]]),
        ("y ~ 1 + (1 | school) + (1 | hood)", ["school", "hood"], [[0], [1]]),
        ("y ~ 1 + (1 | school) + (1 | class) + (1 | hood)", ["school", "class", "hood"], [[1, 0], [2]]),
        # the combinations of school and hood are nested in both, which are crossed: the chain has one of the two
        ("y ~ 1 + (1 | school) + (1 | hood) + (1 | school:hood)", ["school", "hood"], [[2, 0], [1]]),
    ],
)
def test_chains_of_nested_factors(formula, columns, expected):
    data = bi.IncompleteData(table(), columns)
    assert chains_of(grouping_factors(parse(formula), data)) == expected


def test_names_priors_and_dimensions():
    own = pr.Priors(Psi_of={"class": pr.Diagonal(pr.HalfT(nu=3.0, times_sd=0.5))})
    made = model("y + w ~ x + (1 + x | school) + (1 | class)", priors=own)
    text = unfolded(repr(made))
    assert "8 school, 24 class" in text and "school: Intercept, x; class: Intercept" in text
    assert "Psi_school: Huang-Wand" in text and "Psi_class: diagonal, sd ~ half-t(3)" in text
    assert "sampler: gibbs" in text
    assert list(made.parameter_priors) == ["beta", "Sigma", "Psi_school", "Psi_class"]
    posterior = made.impute(**RUN).tree["posterior"]
    assert posterior["Psi_school"].dims[2:] == ("effect_school", "effect_school_2")
    assert list(posterior["effect_class"].values) == ["y:Intercept", "w:Intercept"]
    assert list(posterior["effect_school_2"].values) == ["y:Intercept", "y:x", "w:Intercept", "w:x"]
    off = posterior["Psi_class"].values[..., 0, 1]
    assert (off == 0).all() and not (posterior["Psi_school"].values[..., 0, 1] == 0).any()


def test_summary_and_diagnostics_have_both_covariances():
    imp = model().impute(**RUN | {"tune": 100, "draws": 1500})
    rows = set(imp.summary().parameters.index)
    assert {"Psi_school[y:Intercept, y:Intercept]", "Psi_class[w:Intercept, y:Intercept]"} <= rows
    names = components(imp)
    assert {"sd between\nschool:y", "sd between\nclass:y", "sd within\ny"} <= set(names)


def test_priors_by_factor_are_stored(tmp_path):
    own = pr.Priors(Psi=pr.InverseWishart(4.0, 1.0), Psi_of={"class": pr.HuangWand(nu=5.0)}, name="mine")
    imp = model(priors=own).impute(**RUN)
    imp.save(tmp_path / "a.nc")
    back = bi.load(tmp_path / "a.nc")
    assert back.model.priors == imp.model.priors and back.data.cluster_columns == ("school", "class")
    assert priors_from_dict(priors_to_dict(own)) == own
    with pytest.raises(bi.SpecificationError, match=r"priors.Psi_of.class.type: 'Nonsense' is not known"):
        priors_from_dict({"Psi_of": {"class": {"type": "Nonsense"}}})


def test_units_change_nothing_but_units():
    """Responses and the predictor of a slope in other units: parameters, cells and means by cluster follow."""
    rng = np.random.default_rng(5)
    n, c, k = 60, 40.0, 0.05
    frame = pd.DataFrame(
        {"g": np.arange(n) % 6, "h": [f"h{i // 6 % 5}" for i in range(n)], "x": rng.normal(size=n)}
    )
    frame["y"] = np.where(rng.random(n) < 0.2, np.nan, frame["x"] + rng.normal(size=n))
    imps = []
    for table in (frame, frame.assign(y=c * frame["y"], x=k * frame["x"])):
        model = bi.JointNormal(bi.IncompleteData(table, ["g", "h"]), "y ~ x + (1 + x | g) + (1 | h)")
        imps.append(model.impute(m=2, chains=2, tune=5, draws=8, seed=1, progress=False))
    one, two = (imp.tree["posterior"] for imp in imps)
    slope = np.array([1.0, 1 / k])
    np.testing.assert_allclose(two["Sigma"], one["Sigma"] * c**2)
    np.testing.assert_allclose(two["beta"][..., 0], one["beta"][..., 0] * c * slope)
    np.testing.assert_allclose(two["Psi_g"], one["Psi_g"] * c**2 * np.outer(slope, slope))
    np.testing.assert_allclose(two["Psi_h"], one["Psi_h"] * c**2)
    np.testing.assert_allclose(imps[1].values("y"), imps[0].values("y") * c)
    for what in ("mean", "sd"):
        stats = [imp.tree["imputed_stats"][what].to_numpy() for imp in imps]
        np.testing.assert_allclose(stats[1], stats[0] * c)


def test_log_prior_of_coefficients_is_that_of_their_units():
    priors = pr.Priors(beta=pr.Normal(0.0, 7.0))
    frame = table()
    imp = model(frame=frame.assign(y=30 * frame["y"], x=frame["x"] / 20), priors=priors).impute(**RUN)
    tree = imp.tree_with("log_prior")
    beta = tree["posterior"]["beta"].to_numpy()
    expected = norm(0, 7).logpdf(beta).sum((2, 3))
    found = tree["log_prior"]["beta"].to_numpy()
    np.testing.assert_allclose(found - found[0, 0], expected - expected[0, 0], rtol=1e-8, atol=1e-8)


def test_a_known_covariance_stays():
    value = np.array([[4.0, 1.0], [1.0, 9.0]])
    priors = pr.Priors(Psi_of={"class": pr.Fixed(value)})
    psi = model(priors=priors).impute(**RUN).tree["posterior"]["Psi_class"].to_numpy()
    np.testing.assert_allclose(psi, np.broadcast_to(value, psi.shape))


def test_the_order_of_rows_alike_but_for_a_group_does_not_matter():
    frame = table()[["school", "hood", "y"]]
    values = []
    for order in (np.arange(96), np.random.default_rng(3).permutation(96)):
        made = model("y ~ 1 + (1 | school) + (1 | hood)", ("school", "hood"), frame.iloc[order])
        values.append(made.impute(**RUN).frame(0)["y"].sort_index())
    pd.testing.assert_series_equal(*values)


def test_slopes_do_not_depend_on_the_origin():
    formula = "y + w ~ x + (1 | school) + (1 + x | class)"
    a, b = (model(formula, frame=frame).impute(**RUN) for frame in (table(), table(x=table()["x"] + 2000.0)))
    np.testing.assert_allclose(a.values("y"), b.values("y"), rtol=1e-6)


# -- what is refused -----------------------------------------------------------------------------------------


REFUSED = [
    ("a class missing in some rows", lambda: model(frame=table(**{"class": table()["class"].where(table().index > 2)})),
     r"cluster id 'class' is missing in 3 of 96 rows"),
    ("one class a school", lambda: model(frame=table(**{"class": "k" + table()["school"].astype(str)})),
     r"'school' and 'class' have the same 8 groups.*Remove one of the two terms"),
    ("the class id is the cluster id", lambda: model(frame=table(**{"class": table()["school"]})), r"the same 8 groups"),
    ("numbers that begin again in every school",
     lambda: model("y ~ x + (1 | school) + (1 | number)", ["school", "number"]),
     r"'number' has the numbers 1, 2, \.\. in every one of the 8 clusters.*\(1 \| school/number\).*astype\(str\)"),
    ("one row a group", lambda: model("y ~ x + (1 | school) + (1 | id)", ["school", "id"], table(id=np.arange(96) + 7)),
     r"'y' is observed once in each of the \d+ groups of 'id'.*Remove \(\.\. \| id\)"),
    ("crossed, with one row a cell, and the cell as a third factor",
     lambda: model("y ~ x + (1 | school) + (1 | pupil) + (1 | school:pupil)", ["school", "pupil"],
                   table(pupil="p" + pd.Series(np.arange(96) % 12).astype(str))),
     r"'y' is observed once in each of the \d+ groups of 'school:pupil'"),
    ("a variable of classes", lambda: model("y + size ~ x + (1 | school) + (1 | class)", frame=table(
        size=np.where(np.arange(96) % 5 == 0, np.nan, np.random.default_rng(1).normal(size=24)[np.arange(96) // 4]))),
     r"'size' has a single value in each of the 24 groups of 'class'.*mean of 'size' by 'class'"),
    ("observed in one class", lambda: model(frame=table(w=table()["w"].where(table()["class"] == "k4"))),
     r"'w' is observed in 1 of 8 clusters|'w' is observed in 1 of 24 groups of 'class'"),
    ("told apart by rows without values only",
     lambda: model("y ~ x + (1 | school) + (1 | class)", frame=table(y=table()["y"].where(table()["number"] == 1))),
     r"Where 'y' is observed \(\d+ rows\), every 'school' has one 'class'.*Psi_of={'class'"),
    ("no cluster column", lambda: model("y ~ x + (1 | school) + (1 | hood)"),
     r"'hood' is not a cluster column.*cluster=\['school', 'class', 'hood'\]"),
    ("no term of the primary clusters", lambda: model("y ~ x + (1 | class) + (1 | hood)", ["school", "class", "hood"]),
     r"no term of 'school', the primary clusters"),
    ("two terms of a factor", lambda: model("y ~ x + (1 | school) + (0 + x | school) + (1 | class)"),
     r"two terms of 'school'\. Join them"),
    ("independent effects", lambda: model("y ~ x + (1 + x || school) + (1 | class)"), r"\|\| is not supported"),
    ("a prior of another factor", lambda: model(priors=pr.Priors(Psi_of={"hood": pr.HuangWand()})),
     r"Psi_of: 'hood' is not a grouping factor.*'school', 'class'"),
    ("a prior by factor where there is one",
     lambda: model("y ~ x + (1 | school)", priors=pr.Priors(Psi_of={"school": pr.HuangWand()})),
     r"Psi_of: 'school' is not a grouping factor of this model; it has one, whose prior is Psi"),
    ("a prior without a Gibbs step", lambda: model(priors=pr.Priors(Psi_of={"class": pr.LKJ()})).impute(),
     r"several grouping factors is sampled by Gibbs steps.*pymc_model"),
    ("NUTS", lambda: model().impute(sampler="nuts"), r"sampled by Gibbs steps only; its pymc_model"),
    ("calibration", lambda: bi.studies.calibrate(model(), seed=1), r"one grouping factor; this one has 2 \(school, "),
    ("compatibility", lambda: bi.compatibility.diagnose(model(), seed=1), r"one grouping factor; this one has 2"),
    ("no clusters", lambda: bi.IncompleteData(table(), []), r"a list of names, the primary clusters first.*got \[\]"),
    ("a column twice", lambda: bi.IncompleteData(table(), ["school", "school"]), r"names a column twice"),
    ("a factor with a family", lambda: bi.IncompleteData(table(), ["school", "class"], {"class": "normal"}),
     r"'class' is a cluster column, which has no family"),
]  # fmt: skip


@pytest.mark.parametrize("make, words", [case[1:] for case in REFUSED], ids=[case[0] for case in REFUSED])
def test_refused_in_words(make, words):
    with pytest.raises((bi.SpecificationError, bi.DataError), match=words):
        make()


# -- what is said --------------------------------------------------------------------------------------------


def test_few_schools_with_several_classes_are_noted():
    """Only two schools distinguish classes from schools."""
    frame = table()
    frame["class"] = np.where(frame["school"] < 2, frame["class"], "s" + frame["school"].astype(str))
    made = model(frame=frame)
    assert [event.count for event in made.events if event.kind == "prior matters"] == [2, 2]


def test_crossed_with_one_row_a_cell_works():
    frame = table(pupil="p" + pd.Series(np.arange(96) % 12).astype(str))
    frame = frame.groupby(["school", "pupil"], as_index=False).first()
    imp = model("y + w ~ x + (1 | school) + (1 | pupil)", ["school", "pupil"], frame).impute(**RUN)
    assert not imp.frame(0)[["y", "w"]].isna().any().any()


@pytest.mark.parametrize(
    "make",
    [
        lambda data: bi.JointNormal(data, "y + w ~ x + (1 | school)"),
        lambda data: bi.JointLatent(data, "y + w ~ x + (1 | school)"),
        lambda data: bi.JointGLMM(data, "y ~ w + (1 | school)", {"w": "~ x + (1 | school)"}),
        lambda data: bi.FCS(data, predictors={"y": "~ w + x + (1 | school)", "w": "~ y + x + (1 | school)"}),
    ],
    ids=["JointNormal", "JointLatent", "JointGLMM", "FCS"],
)
def test_models_without_effects_of_classes_say_so(make):
    frame = table().drop(columns=["number", "hood"])
    made = make(bi.IncompleteData(frame, ["school", "class"]))
    said = [event for event in made.events if event.kind == "not used" and event.where == "cluster"]
    assert len(said) == 1 and "'class' of the cluster columns has no effects" in said[0].message
    alone = make(bi.IncompleteData(frame.drop(columns="class"), "school"))
    assert not [event for event in alone.events if event.where == "cluster"]


def test_the_table_shows_all_cluster_columns():
    data = bi.IncompleteData(table(), ["school", "class"])
    shown = unfolded(repr(data))
    assert "8 clusters of 'school'" in shown and "24 clusters of 'class'" in shown
    assert "class" not in data.variables and data.cluster == "school"
    assert data.part(data.frame.iloc[:60]).cluster_columns == ("school", "class")
