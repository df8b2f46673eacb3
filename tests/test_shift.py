"""A shift between the draw of the parameters and the fill, in every kind of block; `test_models.py` tests the engines."""

import numpy as np
import pytest

import bayesimp as bi
from bayesimp import methods
from bayesimp.contract import Shift
from tests.frozen import table
from tests.test_models import CASES
from tests.unfolding import unfolded

C = 2.5
NORMAL = {
    "bayes": methods.Bayes(),
    "a variance a cluster": methods.Bayes(residual="cluster"),
    "ml": "ml",
    "norm": "norm",
    "glm": "glm",
    "sti": "sti",
    "2lonly": "2lonly",
}


def imputed(method, shift, family="normal", **options):
    """Imputed values of y, which is visited last in one cycle, so that its parameters are those of no shift."""
    level = "cluster" if str(method).startswith("2lonly") else "row"
    data = bi.IncompleteData(table(family, level), cluster="g", families={"y": family})
    options = {"methods": {"y": method}, "order": ["w", "y"]} | options
    model = bi.FCS(data, **options, shift=None if shift is None else Shift({"y": shift}))
    return model.impute(m=5, seed=5, cycles=1, progress=False).values("y")


@pytest.mark.parametrize("method", NORMAL)
def test_a_normal_variable_moves_by_as_much(method):
    as_it_is = imputed(NORMAL[method], None)
    np.testing.assert_array_equal(imputed(NORMAL[method], 0.0), as_it_is)
    np.testing.assert_allclose(imputed(NORMAL[method], C), as_it_is + C, rtol=1e-9, atol=1e-9)


def test_one_of_a_block_moves_and_the_other_stays():
    data = bi.IncompleteData(table(), cluster="g")
    runs = [
        bi.FCS(data, blocks={"yw": ["y", "w"]}, shift=shift).impute(m=2, seed=5, cycles=1, progress=False)
        for shift in (None, Shift({"y": C}))
    ]
    np.testing.assert_allclose(runs[1].values("y"), runs[0].values("y") + C, rtol=1e-9, atol=1e-9)
    np.testing.assert_array_equal(runs[1].values("w"), runs[0].values("w"))
    table_, chains = runs[1].model.table, runs[1].run.chains
    seen = ~np.isnan(table_.start)
    for chain in chains:  # observed values do not change
        np.testing.assert_array_equal(chain.V[seen], table_.start[seen])


def test_bounds_are_kept_to():
    values = imputed("bayes", 50.0, bounds={"y": (-6.0, 6.0)})
    assert values.min() > -6 and values.max() < 6 and values.mean() > 5.5


@pytest.mark.parametrize(
    ("family", "method", "low", "high"),
    [
        ("bernoulli", "bayes", 0, 1),
        ("bernoulli", "mlmi", 0, 1),
        ("bernoulli", "glm", 0, 1),
        ("bernoulli", "2lonly", 0, 1),
        ("ordinal", "bayes", 0, 2),
        ("ordinal", "sti", 0, 2),
    ],
)
def test_the_linear_predictor_of_another_moves(family, method, low, high):
    as_it_is = imputed(method, None, family)
    np.testing.assert_array_equal(imputed(method, 0.0, family), as_it_is)
    assert (imputed(method, -60.0, family) == low).all() and (imputed(method, 60.0, family) == high).all()
    assert len(np.unique(as_it_is)) > 1


def test_log_means_move_by_a_factor():
    """exp(c) on the mean: the values of a gamma variable, given its shape and uniform numbers, are proportional."""
    as_it_is, moved = imputed("bayes", None, "gamma"), imputed("bayes", C, "gamma")
    np.testing.assert_allclose(moved, as_it_is * np.exp(C), rtol=1e-6)


def test_matching_takes_larger_donors():
    low, high = imputed("pmm", -50.0), imputed("pmm", 50.0)
    observed = table()["y"].dropna()
    assert set(np.unique([low, high])) <= set(observed) and high.min() > low.max()


def test_a_shift_is_saved(tmp_path):
    data = bi.IncompleteData(table(), cluster="g")
    for model in (
        bi.FCS(data, shift=Shift({"y": C})),
        bi.JointNormal(data, "y + w ~ x + (1 | g)", shift=Shift({"y": C})),
    ):
        imp = model.impute(m=2, seed=5, progress=False)
        imp.save(tmp_path / "run.nc")
        back = bi.load(tmp_path / "run.nc")
        assert back.model.shift == Shift({"y": C})
        np.testing.assert_allclose(back.extend(1).values("y"), imp.extend(1).values("y"), rtol=1e-9)
        stats = [i.extend(1).tree["imputed_stats"]["mean"].values for i in (back, imp)]
        np.testing.assert_allclose(*stats, rtol=1e-9)
        assert model.with_priors("mice").shift == model.shift


def test_printed_models_show_a_shift():
    """Draws depend on it as on a prior."""
    data = bi.IncompleteData(table("bernoulli"), cluster="g", families={"y": "bernoulli"})
    shown = unfolded(repr(bi.FCS(data, shift=Shift({"y": -0.5, "w": 2}))))
    assert (
        "\n  shift of y: -0.5 on its linear predictor\n" in f"{shown}\n"
        and "\n  shift of w: +2\n" in f"{shown}\n"
    )
    for shift in (None, Shift({"w": 0.0})):
        assert "shift" not in repr(bi.FCS(data, shift=shift))
    data = bi.IncompleteData(table(), cluster="g")
    joint = bi.JointNormal(data, "y + w ~ x + (1 | g)", shift=Shift({"w": 2}))
    assert "\n  shift of w: +2\n" in repr(joint) and "shift of y" not in repr(joint)
    assert "shift" not in repr(bi.JointNormal(data, "y + w ~ x + (1 | g)"))


def test_what_cannot_be_shifted_is_refused():
    data = bi.IncompleteData(table(), cluster="g")
    for model in (bi.FCS, lambda data, shift: bi.JointNormal(data, "y + w ~ x + (1 | g)", shift=shift)):
        with pytest.raises(bi.SpecificationError, match="does not impute 'x'; it imputes "):
            model(data, shift=Shift({"x": 1.0}))
        with pytest.raises(bi.SpecificationError, match="shift of 'y': give a finite number, not nan"):
            model(data, shift=Shift({"y": np.nan}))
    with pytest.raises(bi.SpecificationError, match="a PyMC model draws the values of a bernoulli variable"):
        imputed("pymc", 1.0, "bernoulli")


def two_groups(family="normal", level="row"):
    """The table with a complete column of two groups: of clusters where y is, else of rows."""
    frame = table(family, level)
    of_cluster = level == "cluster"
    if of_cluster:
        frame.loc[frame["g"] == 5, "y"] = np.nan
    frame["arm"] = np.where(frame["g"] < 3 if of_cluster else np.arange(len(frame)) % 3 == 0, "a", "b")
    return frame


def moved_by_group(model, **options):
    """Imputed y under shifts of nothing and of C in arm a, and whether each cell is in arm a."""
    runs = [
        model(None if shift is None else Shift({"y": {"a": shift}}, "arm")).impute(
            **{"m": 4, "seed": 5, "progress": False} | options
        )
        for shift in (None, 0.0, C)
    ]
    np.testing.assert_array_equal(runs[1].values("y"), runs[0].values("y"))
    arm = runs[0].data.frame["arm"].to_numpy()[runs[0].rows("y")]
    assert set(arm) == {"a", "b"}
    return runs[0].values("y"), runs[2].values("y"), arm == "a"


@pytest.mark.parametrize("method", NORMAL)
def test_a_shift_of_one_group_leaves_the_others(method):
    level = "cluster" if method == "2lonly" else "row"
    data = bi.IncompleteData(two_groups(level=level), cluster="g")
    options = {"methods": {"y": NORMAL[method]}, "order": ["w", "y"]}
    as_it_is, moved, inside = moved_by_group(lambda shift: bi.FCS(data, **options, shift=shift), cycles=1)
    np.testing.assert_allclose(moved, as_it_is + C * inside, rtol=1e-9, atol=1e-9)


def crossed(data):
    """The table with a second grouping factor."""
    h = np.arange(len(data.frame)) % 4
    return bi.IncompleteData(data.frame.assign(h=[f"h{i}" for i in h]), cluster=["g", "h"])


ENGINES = {
    "JointNormal": (
        lambda data, s: bi.JointNormal(data, "y + w ~ x + (1 | g)", shift=s),
        {"tune": 4, "draws": 6},
    ),
    "JointNormal, several factors": (
        lambda data, s: bi.JointNormal(crossed(data), "y + w ~ x + (1 | g) + (1 | h)", shift=s),
        {"tune": 4, "draws": 6},
    ),
    "JointLatent": (
        lambda data, s: bi.JointLatent(data, "y + w ~ x + (1 | g)", shift=s),
        {"tune": 4, "draws": 6},
    ),
    "JointGLMM": (
        lambda data, s: bi.JointGLMM(data, "y ~ w + x + (1 | g)", shift=s),
        {"tune": 4, "draws": 6},
    ),
    "FCS": (lambda data, s: bi.FCS(data, order=["w", "y"], shift=s), {"cycles": 1}),
    "FCS, one block": (lambda data, s: bi.FCS(data, blocks={"yw": ["y", "w"]}, shift=s), {"cycles": 1}),
    "FCS, analysis": (lambda data, s: bi.FCS(data, analysis="y ~ w + x + (1 | g)", shift=s), {"cycles": 1}),
}


@pytest.mark.parametrize("engine", ENGINES)
def test_every_engine_takes_a_shift_by_group(engine):
    """y is a leaf of the joint GLMM, and visited last by chained equations: nothing else responds to it."""
    make, options = ENGINES[engine]
    data = bi.IncompleteData(two_groups(), cluster="g")
    as_it_is, moved, inside = moved_by_group(lambda shift: make(data, shift), **options)
    np.testing.assert_allclose(moved, as_it_is + C * inside, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("engine", ENGINES)
def test_means_by_cluster_along_the_chains_are_shifted_too(engine):
    make, options = ENGINES[engine]
    data = bi.IncompleteData(table(), cluster="g")
    means = []
    for shift in (None, Shift({"y": C})):
        imp = make(data, shift).impute(m=2, seed=5, progress=False, **options)
        means.append(imp.tree["imputed_stats"]["mean"].sel(response="y").to_numpy())
    there = np.isfinite(means[0])
    assert there.any()
    np.testing.assert_allclose((means[1] - means[0])[there], C, rtol=1e-9)


@pytest.mark.parametrize("where", ["systematic", "sporadic"])
@pytest.mark.parametrize("engine", ENGINES)
def test_a_shift_where_a_variable_is_never_observed(engine, where):
    frame = table()
    frame.loc[frame["g"].isin([1, 4]), "y"] = np.nan
    data = bi.IncompleteData(frame, cluster="g")
    make, options = ENGINES[engine]
    runs = [
        make(data, s).impute(m=2, seed=5, progress=False, **options)
        for s in (None, Shift({"y": C}, where=where))
    ]
    never = frame.groupby("g")["y"].transform("count").eq(0).to_numpy()[runs[0].rows("y")]
    assert never.any() and not never.all()
    moves = never if where == "systematic" else ~never
    np.testing.assert_allclose(runs[1].values("y"), runs[0].values("y") + C * moves, rtol=1e-9, atol=1e-9)


def test_bounds_are_kept_to_by_group():
    data = bi.IncompleteData(two_groups(), cluster="g")
    shift = Shift({"y": {"a": 50.0}}, "arm")
    imp = bi.FCS(data, bounds={"y": (-6.0, 6.0)}, shift=shift).impute(m=5, seed=5, cycles=3, progress=False)
    inside = data.frame["arm"].eq("a").to_numpy()[imp.rows("y")]
    values = imp.values("y")
    assert values.max() < 6 and values.min() > -6
    assert values[:, inside].min() > 5 and values[:, ~inside].mean() < 2


@pytest.mark.parametrize("method", ["bayes", "glm", "latent"])
def test_levels_of_a_categorical_variable_have_numbers_of_their_own(method):
    """Far up: always this level; far down: never; a number of the first level is that of the others, turned round."""
    frame = table("categorical")
    data = bi.IncompleteData(frame, cluster="g", families={"y": "categorical"})
    first, second, third = data.levels("y")

    def drawn(numbers):
        shift = Shift({"y": numbers})
        if method == "latent":
            model = bi.JointLatent(data, "y + w ~ x + (1 | g)", shift=shift)
            return model.impute(m=5, seed=5, tune=5, draws=10, progress=False).values("y")
        model = bi.FCS(data, methods={"y": method}, order=["w", "y"], shift=shift)
        return model.impute(m=5, seed=5, cycles=1, progress=False).values("y")

    as_it_is = drawn({second: 0.0})
    assert set(np.unique(as_it_is)) == {0, 1, 2}
    assert (
        (drawn({second: 60.0}) == 1).all()
        and (drawn({third: 60.0}) == 2).all()
        and (drawn({first: 60.0}) == 0).all()
    )
    assert set(np.unique(drawn({second: -60.0}))) == {0, 2}
    np.testing.assert_array_equal(drawn({first: 1.5}), drawn({second: -1.5, third: -1.5}))
    np.testing.assert_array_equal(
        drawn(1.5), drawn({second: 1.5, third: 1.5})
    )  # a number: all against the first


@pytest.mark.parametrize("family", ["bernoulli", "ordinal"])
@pytest.mark.parametrize("engine", ["JointLatent", "JointGLMM", "FCS, analysis"])
def test_the_linear_predictor_moves_in_every_engine(engine, family):
    """By group: always the highest level where it is far up, always the lowest where it is far down."""
    data = bi.IncompleteData(two_groups(family), cluster="g", families={"y": family})
    formula = {"JointGLMM": "w ~ y + x + (1 | g)", "FCS, analysis": "w ~ y + x + (1 | g)"}.get(engine)
    shift = Shift({"y": {"a": 60.0, "b": -60.0}}, "arm")
    model = {
        "JointLatent": lambda: bi.JointLatent(data, "y + w ~ x + (1 | g)", shift=shift),
        "JointGLMM": lambda: bi.JointGLMM(data, formula, shift=shift),
        "FCS, analysis": lambda: bi.FCS(data, analysis=formula, shift=shift),
    }[engine]()
    imp = model.impute(
        m=3, seed=5, progress=False, **({"cycles": 12} if "FCS" in engine else {"tune": 4, "draws": 6})
    )
    inside = data.frame["arm"].eq("a").to_numpy()[imp.rows("y")]
    values = imp.values("y")
    assert (values[:, inside] == values.max()).all() and (values[:, ~inside] == 0).all()
    assert values.max() == len(data.levels("y")) - 1


@pytest.mark.parametrize("engine", ["JointNormal", "JointLatent", "JointGLMM", "FCS"])
def test_a_shift_by_group_is_saved(engine, tmp_path):
    """With the types of the groups: numbers and truth values, which the keys of JSON cannot be."""
    frame = table()
    frame["site"] = frame["g"] % 2 == 0
    for group, by in (("site", {True: C, False: -C}), ("g", {0: 1.5})):
        shift = Shift({"y": by}, group, "sporadic" if group == "site" else "missing")
        make, options = ENGINES[engine]
        model = make(bi.IncompleteData(frame, cluster="g"), shift)
        imp = model.impute(m=2, seed=5, progress=False, **options)
        imp.save(tmp_path / "run.nc")
        back = bi.load(tmp_path / "run.nc")
        assert back.model.shift == shift and model.with_priors("mice").shift == shift
        for name in ("y", "w"):
            np.testing.assert_array_equal(back.values(name), imp.values(name))
        if engine != "FCS":
            np.testing.assert_allclose(back.extend(3).values("y"), imp.extend(3).values("y"), rtol=1e-9)
    assert "shift of y: +1.5 where g is 0" in unfolded(repr(model))


@pytest.mark.parametrize("engine", ["JointNormal", "JointGLMM"])
def test_new_rows_are_shifted_by_their_group(engine):
    frame = two_groups()
    make, options = ENGINES[engine]
    new = frame.iloc[::5].assign(y=np.nan).reset_index(drop=True)
    found = []
    for shift in (None, Shift({"y": {"a": C}}, "arm")):
        imp = make(bi.IncompleteData(frame, cluster="g"), shift).impute(
            m=3, seed=5, progress=False, **options
        )
        found.append(np.stack([imp.transform(new, seed=3).frame(k)["y"] for k in range(3)]))
    np.testing.assert_allclose(found[1], found[0] + C * (new["arm"] == "a").to_numpy(), rtol=1e-9, atol=1e-9)
    if engine == "JointNormal":
        model = make(bi.IncompleteData(frame, cluster="g"), Shift({"y": C}, where="systematic"))
        with pytest.raises(bi.SpecificationError, match="which new rows do not show"):
            model.impute(m=2, seed=5, progress=False, **options).transform(new, seed=3)
        with pytest.raises(bi.BayesimpError, match="arm"):
            imp.transform(new.drop(columns="arm"), seed=3)


REFUSED = {
    "no such column": (Shift({"y": {"a": 1.0}}, "centre"), "no such column"),
    "incomplete": (Shift({"y": {0: 1.0}}, "w"), "'w': it is missing in"),
    "unknown group": (Shift({"y": {"c": 1.0}}, "arm"), "no row has 'c'"),
    "no groups": (Shift({"y": 1.0}, "arm"), "give a number for each value that is shifted"),
    "levels": (Shift({"y": {"a": 1.0}}), "give one number; a number for each level"),
    "where": (
        Shift({"y": 1.0}, where="never"),
        "where = 'never'; possible: 'missing', 'systematic', 'sporadic'",
    ),
    "text": (Shift({"y": "much"}), "a finite number, not 'much'"),
}


@pytest.mark.parametrize("case", REFUSED)
@pytest.mark.parametrize("engine", ENGINES)
def test_shifts_that_the_table_does_not_have_are_refused(engine, case):
    shift, words = REFUSED[case]
    with pytest.raises(bi.SpecificationError, match=words):
        ENGINES[engine][0](bi.IncompleteData(two_groups(), cluster="g"), shift)


def test_numbers_for_levels_are_refused_where_one_moves_all():
    data = bi.IncompleteData(table("categorical"), cluster="g", families={"y": "categorical"})
    shift = Shift({"y": {data.levels("y")[1]: 1.0}})
    with pytest.raises(bi.SpecificationError, match=r"JointGLMM shifts all its levels .* FCS .* JointLatent"):
        bi.JointGLMM(data, "w ~ y + x + (1 | g)", shift=shift)
    with pytest.raises(bi.SpecificationError, match="leave analysis= out"):
        bi.FCS(data, analysis="w ~ y + x + (1 | g)", shift=shift)
    with pytest.raises(bi.SpecificationError, match="'nobody' is not one of its levels"):
        bi.FCS(data, shift=Shift({"y": {"nobody": 1.0}}))


@pytest.mark.parametrize("name", ["JointLatent, cluster-level variables", "JointLatent, several factors"])
def test_variables_of_clusters_that_are_not_shifted_do_not_mind_groups_within_them(name):
    """v has one value in each cluster, and the rows of a cluster have both values of `low`; only y is shifted."""
    case = CASES[name]
    model = case.model()
    frame = model.data.frame.assign(low=np.where(np.arange(60) % 2, "low", "high"))
    data = bi.IncompleteData(frame, list(model.data.cluster_columns), families={"o": "ordinal"})
    shifted = type(model)(data, str(model.formula.text), shift=Shift({"y": {"low": -2.0}}, group="low"))
    plain = type(model)(data, str(model.formula.text))
    a, b = (each.impute(m=4, seed=7, progress=False, **case.options) for each in (plain, shifted))
    moved = b.values("y") - a.values("y")
    low = (frame["low"] == "low").to_numpy()[a.rows("y")]
    np.testing.assert_allclose(moved[:, low], -2.0)
    np.testing.assert_array_equal(moved[:, ~low], 0.0)
    np.testing.assert_array_equal(a.values("v"), b.values("v"))
    with pytest.raises(
        bi.SpecificationError, match="'v' has a single value in each cluster, but 'low' varies"
    ):
        type(model)(data, str(model.formula.text), shift=Shift({"v": {"low": -2.0}}, group="low"))


def test_groups_within_clusters_do_not_move_a_value_of_clusters():
    data = bi.IncompleteData(two_groups(level="cluster").assign(arm=two_groups()["arm"]), cluster="g")
    for make in (
        lambda s: bi.FCS(data, methods={"y": "2lonly"}, shift=s),
        lambda s: bi.JointGLMM(data, "w ~ y + x + (1 | g)", shift=s),
    ):
        with pytest.raises(bi.SpecificationError, match=r"'arm' varies within .* of .* clusters"):
            make(Shift({"y": {"a": 1.0}}, "arm"))
