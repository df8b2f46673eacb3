"""The rule that chooses an engine, as a table; facts read from tables; the same choice from `bi.impute` to the result."""

import numpy as np
import pandas as pd
import pytest

import bayesimp as bi
from bayesimp.workflow.default_formula import joint_formula, sides
from bayesimp.workflow.engines import Facts, choose, facts_of, obstacle, override
from tests.unfolding import unfolded

NORMAL = {"x": "normal", "z": "normal"}
MIXED = {"x": "normal", "k": "bernoulli", "o": "ordinal", "c": "categorical"}
ASKED = {"analysis": True, "responses": {"y": "normal"}}

RULE = [  # facts, engine, what the reason says
    (Facts(NORMAL), "joint", "all row-level variables are normal"),
    (Facts(NORMAL, complete={"visits": "poisson"}), "joint", "all row-level variables are normal"),
    (Facts(NORMAL, complete={"sex": "bernoulli"}), "latent", "'sex' (bernoulli) is not normal"),
    (Facts(MIXED), "latent", "'k' (bernoulli), 'o' (ordinal) and 'c' (categorical) are not normal"),
    (Facts({f"k{i}": "bernoulli" for i in range(9)}), "latent", "'k4' (bernoulli) and 4 more are not normal"),
    (Facts({"k": "bernoulli"}, complete={"visits": "poisson"}), "latent", "'k' (bernoulli) is not normal"),
    (
        Facts(NORMAL, groups=("z",)),
        "latent",
        "'z' has a single value in each cluster: this joint model imputes it once",
    ),
    (Facts(MIXED, groups=("x",)), "latent", "are not normal: levels are cut from latent normals"),
    (Facts({"n": "poisson", "p": "beta"}), "fcs", "'n' (poisson) and 'p' (beta) are without a latent normal"),
    (Facts(MIXED | {"n": "poisson"}), "fcs", "because 'n' (poisson) is without a latent normal"),
    (Facts(MIXED, unfit={"x": "is never observed"}), "fcs", "because 'x' is never observed"),
    (Facts(MIXED, columns=12), "latent", "'k' (bernoulli)"),
    (Facts(MIXED, columns=13), "fcs", "13 variables and levels make a joint model on latent normals slow"),
    (Facts(NORMAL, columns=63), "fcs", "63 variables and levels"),
    (Facts({}), "fcs", "no variable is incomplete"),
    (Facts(NORMAL, **ASKED), "joint", "including those of the analysis"),
    (Facts(NORMAL, analysis=True, responses={"y": "bernoulli"}), "glmm", "'y' (bernoulli) is not normal"),
    (Facts(MIXED, **ASKED), "glmm", "are not normal, and an analysis is given"),
    (Facts(NORMAL, **ASKED, terms=("x:z",)), "glmm", "the analysis has x:z"),
    (Facts(NORMAL, **ASKED, terms=("I(x ** 2)", "(1 + x | g)")), "glmm", "has I(x ** 2) and (1 + x | g)"),
    (Facts(NORMAL, analysis=True, responses={"y": "poisson"}), "glmm", "'y' (poisson)"),
    (Facts(NORMAL, **ASKED, groups=("z",)), "glmm", "'z' has a single value in each cluster"),
]


@pytest.mark.parametrize(("facts", "engine", "why"), RULE)
def test_the_rule(facts, engine, why):
    choice = choose(facts)
    assert choice.engine == engine and why in choice.reason
    assert choice.reason.startswith(f"Engine '{engine}' (") and str(choice) == choice.reason
    assert obstacle(engine, facts) is None
    assert ("pass it: analysis='...'" in choice.reason) == (not facts.analysis)


@pytest.mark.parametrize("clusters", [2, 6, 35, 100])
def test_the_number_of_clusters_changes_nothing(clusters):
    """As in the study: no class of tables in which few clusters had another engine."""
    for facts, engine, _ in RULE:
        assert choose(Facts(**(vars(facts) | {"clusters": clusters}))).engine == engine


@pytest.mark.parametrize(
    ("engine", "facts", "match"),
    [
        ("nuts", Facts(NORMAL), "engine must be 'joint', 'latent', 'glmm', 'fcs' or None, got 'nuts'"),
        (
            "joint",
            Facts(MIXED),
            r"'k' \(bernoulli\), 'o' \(ordinal\) and 'c' \(categorical\) are not normal; .*'fcs'",
        ),
        ("latent", Facts({"n": "poisson"}), r"'n' \(poisson\) is without a latent normal; .*engine='fcs'"),
        ("latent", Facts(NORMAL, **ASKED, terms=("x:z",)), "the analysis has x:z.*engine='glmm'"),
        ("glmm", Facts(NORMAL), "no analysis is given.*analysis='y ~ x"),
    ],
)
def test_engines_that_cannot_are_refused_in_words(engine, facts, match):
    with pytest.raises(bi.SpecificationError, match=match):
        override(engine, facts)


def test_an_engine_that_can_is_taken_as_asked_for():
    assert override("fcs", Facts(NORMAL)).reason == "Engine 'fcs' (FCS), as requested."
    assert override("latent", Facts(NORMAL)).engine == "latent"  # the rule would say "joint"


# facts of tables ---------------------------------------------------------------

G = np.repeat(np.arange(12), 10)


def table():
    """Variables of every kind, complete and not."""
    rng = np.random.default_rng(5)
    n = len(G)
    x = rng.normal(size=12)[G] + rng.normal(size=n)
    frame = pd.DataFrame({
        "g": G, "id": np.arange(n) + 1, "x": x, "z": 0.5 * x + rng.normal(size=n), "size": rng.normal(size=12)[G],
        "sex": rng.choice(["f", "m"], n),
        "grade": pd.Categorical.from_codes(rng.integers(0, 3, n), ["a", "b", "c"], ordered=True),
        "kind": pd.Categorical.from_codes(rng.integers(0, 4, n), list("uvwx")),
        "place": [f"p{k}" for k in rng.integers(0, 30, n)],
    })  # fmt: skip
    for name in ("x", "grade", "kind"):
        frame.loc[rng.random(n) < 0.2, name] = None
    frame["visits"] = np.where(rng.random(n) < 0.2, np.nan, rng.poisson(3.0, n))
    frame["area"] = np.where(G < 9, frame["size"] + rng.normal(size=12)[G], np.nan)
    return frame


def test_sides_of_a_table():
    data = bi.IncompleteData(table().drop(columns=["visits", "area"]), "g", {"kind": "categorical"})
    found = sides(data, latent=True)
    assert found.left == ("x", "z", "sex", "grade", "kind") and found.right == ("size",)
    assert found.complete == ("z", "sex") and set(found.left_out) == {"id", "place"} and not found.refused
    assert joint_formula(data, latent=True) == "x + z + sex + grade + kind ~ size + (1 | g)"
    normal = sides(data, latent=False)
    assert normal.left == ("x", "z") and set(normal.right) == {"size", "sex"}
    assert normal.refused == {"grade": "", "kind": ""}  # refused only because of their family
    facts = facts_of(data)
    assert facts.incomplete == {"x": "normal", "grade": "ordinal", "kind": "categorical"}
    assert facts.columns == 4 + 3 and facts.clusters == 12 and choose(facts).engine == "latent"
    assert obstacle("latent", facts) is None and obstacle("joint", facts) is not None


def test_what_joint_models_refuse_falls_back_by_rule():
    base = table()[["g", "x", "z"]]
    one = base.assign(w=np.where(base["g"] == 3, np.arange(len(base)) % 7, np.nan))
    total = base.assign(w=base["x"] + base["z"])
    for frame, why in (
        (one, "'w' is observed in one cluster only"),
        (total, "is a linear combination of other variables"),
    ):
        facts = facts_of(bi.IncompleteData(frame, "g"))
        assert choose(facts).engine == "fcs" and why in choose(facts).reason
        for engine in ("joint", "latent"):
            with pytest.raises(bi.SpecificationError, match=why):
                override(engine, facts)
    double = base.assign(w=2 * base["z"] + 1)  # complete: it adds nothing, and is left out
    data = bi.IncompleteData(double, "g")
    assert sides(data, latent=False).left_out == ("w",) and choose(facts_of(data)).engine == "joint"


def test_incomplete_variables_of_clusters_are_in_the_latent_model():
    frame = table()[["g", "x", "z", "size", "area"]]
    data = bi.IncompleteData(frame, "g")
    found, facts = sides(data, latent=True), facts_of(data)
    assert found.left == ("x", "z", "area") and found.groups == ("area",) and found.right == ("size",)
    assert sides(data, latent=False).refused == {"area": "has a single value in each cluster"}
    assert choose(facts).engine == "latent" and override("latent", facts).engine == "latent"
    with pytest.raises(
        bi.SpecificationError, match=r"'area' has a single value in each cluster.*omit engine="
    ):
        override("joint", facts)
    model = bi.JointLatent(data, joint_formula(data, latent=True))
    assert [v.name for v in model.table.of_clusters.variables] == ["area"]
    # what a complete variable of clusters determines has no variance left
    data = bi.IncompleteData(frame.assign(area=np.where(G < 9, 2 * frame["size"], np.nan)), "g")
    assert sides(data, latent=True).refused == {"area": "is a linear combination of other variables"}
    assert choose(facts_of(data)).engine == "fcs"
    # by chance, in few rows: a variable of rows, as far as anyone can tell
    few = frame.assign(area=np.where(np.arange(len(G)) % 10 == 0, frame["x"].fillna(0.0), np.nan))
    assert sides(bi.IncompleteData(few, "g"), latent=True).refused == {
        "area": "has a single value in each cluster"
    }


def test_variables_of_clusters_alone_have_no_joint_model_of_rows():
    frame = table()[["g", "size", "area"]]
    data = bi.IncompleteData(frame, "g")
    assert sides(data, latent=True).left == () and choose(facts_of(data)).engine == "fcs"
    imp = bi.impute(frame, "g", m=2, seed=1, show=False, progress=False)
    assert imp.attrs["engine"] == "fcs" and not imp.frame(0)["area"].isna().any()


def test_a_joint_model_that_refuses_a_table_gives_way_to_chained_equations(monkeypatch, capsys):
    """Only where nothing was asked for: an engine or an option that cannot be had is an error."""
    from bayesimp.joint.latent.model import JointLatent

    def refuse(*_, **__):
        raise bi.SpecificationError("The fixed effects of 'x' are not identified.")

    monkeypatch.setattr(JointLatent, "__init__", refuse)
    frame = FULL[["g", "x", "z", "sex"]]
    imp = bi.impute(frame, "g", **RUN)
    assert imp.attrs["engine"] == "fcs"
    assert "JointLatent refuses this table: The fixed effects of 'x'" in unfolded(capsys.readouterr().out)
    for asked in ({"engine": "latent"}, {"draws": 50}):
        with pytest.raises(bi.SpecificationError, match="not identified"):
            bi.impute(frame, "g", **RUN, **asked)


@pytest.mark.parametrize(
    ("analysis", "terms"),
    [
        ("z ~ x + grade + (1 | g)", ()),
        ("z ~ x + cluster_mean(x) + size + (1 | g)", ()),
        ("z ~ x", ()),
        ("z ~ x * grade + (1 | g)", ("x * grade",)),
        ("z ~ x + I(x**2) + (1 | g)", ("I(x ** 2)",)),
        ("z ~ log(x) + (1 + x | g)", ("log(x)", "(1 + x | g)")),
        ("z ~ x + (0 + x | g)", ("(0 + x | g)",)),
        (["z ~ x + (1 | g)", "x ~ z:size + (1 | g)"], ("z:size",)),
    ],
)
def test_terms_that_a_joint_model_does_not_imply(analysis, terms):
    facts = facts_of(bi.IncompleteData(table(), "g"), analysis)
    assert facts.terms == terms
    assert (obstacle("latent", facts) is None) == (not terms)


# from the call to the result -----------------------------------------------------

RUN = {"m": 2, "seed": 1, "progress": False}
JOINT = {**RUN, "chains": 2, "tune": 5, "draws": 10}
FULL = table()
CALLS = [  # columns, options, engine, model
    (["x", "z"], JOINT, "joint", "JointNormal"),
    (["x", "z", "sex"], JOINT, "latent", "JointLatent"),
    (["x", "z", "grade"], {**JOINT, "engine": "latent"}, "latent", "JointLatent"),
    (["x", "z", "area"], JOINT, "latent", "JointLatent"),
    (["x", "z", "sex", "visits"], {**RUN, "families": {"visits": "poisson"}}, "fcs", "FCS"),
    (["x", "z"], {**RUN, "cycles": 5}, "fcs", "FCS"),
    (["x", "z"], {**RUN, "predictors": ["x ~ z + (1 | g)"]}, "fcs", "FCS"),
    (["x", "z"], {**JOINT, "engine": "latent"}, "latent", "JointLatent"),
    (["x", "z"], {**JOINT, "analysis": "z ~ x + (1 | g)"}, "joint", "JointNormal"),
    (["x", "z"], {**JOINT, "analysis": "z ~ x + (1 + x | g)"}, "glmm", "JointGLMM"),
    (["x", "z"], {**JOINT, "analysis": "z ~ x + (1 | g)", "effects": "separate"}, "glmm", "JointGLMM"),
    (["x", "z"], {**RUN, "engine": "fcs", "cycles": 5, "analysis": "z ~ x + I(x**2) + (1 | g)"}, "fcs", "FCS"),
]  # fmt: skip


@pytest.mark.filterwarnings("ignore::bayesimp.errors.StatisticalWarning")
@pytest.mark.parametrize(("columns", "options", "engine", "model"), CALLS)
def test_the_engine_is_the_one_that_is_named(columns, options, engine, model, capsys):
    imp = bi.impute(FULL[["g", *columns]], "g", **options)
    said = unfolded(capsys.readouterr().out)
    event = imp.events[imp.events["kind"] == "engine"]
    assert said.startswith(f"Engine '{engine}'") and said.splitlines()[1].startswith(model)
    assert list(event["where"]) == [engine] and said.splitlines()[0] == event["message"].item()
    assert imp.attrs["model"] == model and imp.attrs["engine"] == imp.tree.attrs["engine"] == engine
    assert imp.attrs["engine_reason"] == said.splitlines()[0]
    assert not imp.frame(0).isna().any().any()
    assert type(imp.model).__name__ == model


def test_joint_models_of_a_call_are_those_of_the_class():
    """The wiring: the same draws as from the formula that is printed; other formulas give other draws."""
    frame = FULL[["g", "x", "z", "sex"]]
    asked = {**JOINT, "engine": "latent", "show": False}
    imp = bi.impute(frame, "g", **asked)
    data = bi.IncompleteData(frame, "g")
    own = bi.JointLatent(data, "x + z + sex ~ 1 + (1 | g)").impute(**JOINT)
    np.testing.assert_array_equal(imp.values("x"), own.values("x"))
    wrong = bi.impute(frame, "g", formula="x ~ z + sex + (1 | g)", **asked)
    assert not np.allclose(imp.values("x"), wrong.values("x"))


def test_the_analysis_reaches_chained_equations():
    frame = FULL[["g", "x", "z"]]
    options = {**RUN, "engine": "fcs", "cycles": 5, "show": False}
    given = bi.impute(frame, "g", analysis="z ~ x + (1 | g)", **options)
    own = bi.FCS(bi.IncompleteData(frame, "g"), analysis="z ~ x + (1 | g)").impute(
        2, seed=1, cycles=5, progress=False
    )
    np.testing.assert_array_equal(given.values("x"), own.values("x"))
    assert not np.allclose(given.values("x"), bi.impute(frame, "g", **options).values("x"))


def test_the_event_is_kept_in_files_and_longer_runs(tmp_path):
    imp = bi.impute(FULL[["g", "x", "z"]], "g", show=False, **JOINT)
    imp.save(tmp_path / "run.nc")
    for again in (bi.load(tmp_path / "run.nc"), imp.extend(2, progress=False)):
        assert "engine" in set(again.events["kind"])


def test_an_option_of_one_engine_is_no_option_of_another():
    frame = FULL[["g", "x", "z"]]
    with pytest.raises(bi.SpecificationError, match="no analysis is given"):
        bi.impute(frame, "g", effects="separate", show=False, **RUN)
    with pytest.raises(bi.SpecificationError, match="'cycles' is not an option of JointNormal"):
        bi.impute(frame, "g", engine="joint", cycles=5, show=False, **RUN)
    with pytest.raises(bi.SpecificationError, match="'draws' is not an option of FCS"):
        bi.impute(frame, "g", engine="fcs", draws=5, show=False, **RUN)


ODD = {"g": "my `g`", "x": "`x` (mg/l)", "y": "a\\b"}


@pytest.mark.parametrize("how", ["joint", "latent", "scikit-learn"])
def test_formulas_that_are_made_take_columns_of_every_name(how):
    """Backticks and backslashes in names, of clusters too: the values are those of the table with plain names."""
    rng = np.random.default_rng(3)
    frame = pd.DataFrame(
        {"g": np.repeat(np.arange(6), 8), "x": rng.normal(size=48), "y": rng.normal(size=48)}
    )
    frame.loc[rng.random(48) < 0.2, "y"] = np.nan

    def imputed(table, cluster, y):
        if how == "scikit-learn":
            return bi.MultilevelImputer(cluster, m=1, random_state=1, draws=20).fit_transform(table)[y]
        return bi.impute(table, cluster, m=1, engine=how, seed=1, draws=20, tune=10, progress=False).frame(0)[
            y
        ]

    plain, odd = imputed(frame, "g", "y"), imputed(frame.rename(columns=ODD), ODD["g"], ODD["y"])
    np.testing.assert_array_equal(plain, odd)
