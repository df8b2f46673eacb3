"""From the user's declarations to the conditional models of FCS: formulas, tables, defaults, all refusals."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import bayesimp as bi
from bayesimp import methods as me
from bayesimp import priors as pr
from bayesimp.errors import DataError, SpecificationError
from bayesimp.fcs.specification.compose import conditionals
from bayesimp.fcs.specification.records import formula_text, text
from bayesimp.fcs.specification.values import column_values, filled
from bayesimp.formulas.columns import Column
from bayesimp.formulas.design import design
from bayesimp.formulas.formula import parse


def table(m=20, n=12, seed=1) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    g = np.repeat(np.arange(m), n)
    f = pd.DataFrame(
        {
            "study": [f"s{k:02}" for k in g],
            "age": rng.normal(40, 9, m * n),
            "sex": rng.choice(["F", "M"], m * n),
            "arm": rng.choice(["a", "b", "c"], m * n),
            "time": np.tile(np.arange(n, dtype=float), m),
            "size": rng.normal(size=m)[g],
            "y1": rng.normal(10, 2, m * n),
            "y2": rng.normal(5, 1, m * n),
            "y3": rng.normal(3, 1, m * n),
        }
    )
    for name in ("y1", "y2", "y3"):
        f.loc[rng.random(m * n) < 0.2, name] = np.nan
    f.loc[f["study"] == "s03", "y2"] = np.nan
    return f


FRAME = table()
DATA = bi.IncompleteData(FRAME, cluster="study")
SMALL = bi.IncompleteData(FRAME[["study", "age", "y1", "y2", "y3"]], cluster="study")


FLAT = me.Bayes(pr.Priors(beta=pr.Flat()))


def block(c, name):
    return next(b for b in c.blocks if b.name == name)


def names(columns):
    return [c.name for c in columns]


def one(predictors, **options):
    """The block of y1 with a formula."""
    c = conditionals(DATA, predictors=predictors, **options)
    return c, block(c, "y1")


# --- defaults


def test_defaults():
    c = conditionals(DATA)
    assert c.incomplete == ("y1", "y2", "y3") == tuple(b.name for b in c.blocks)
    assert (
        c.complete[0] == "Intercept" and (c.X[:, 0] == 1).all() and c.X.shape == (len(FRAME), len(c.complete))
    )
    assert c.complete == ("Intercept", "age", "sex[M]", "arm[b]", "arm[c]", "time", "size")
    y1 = block(c, "y1")
    assert y1.method == me.Bayes() and names(y1.random) == ["Intercept"]
    means = [f"cluster_mean({x})" for x in ("age", "sex[M]", "arm[b]", "arm[c]", "y2", "y3")]
    assert names(y1.fixed) == [
        *c.complete,
        "y2",
        "y3",
        *means,
    ]  # there is none for time: it is the same in every cluster
    assert "compatible with a joint model" in y1.notes[0] and "shrunk" in y1.notes[-1]
    y1 = block(conditionals(DATA, FLAT), "y1")
    assert names(y1.fixed) == [*c.complete, "y2", "y3"]
    assert "no cluster means" in y1.notes[0]  # 20 clusters, 6 means and size


def test_default_means_where_there_are_clusters_enough():
    """Under a flat prior: 15 >= 5 x 3 (age, y1, y3); y2 is observed in 19 clusters; of 14 clusters, it is not."""
    y2 = block(conditionals(SMALL, FLAT), "y2")
    means = ["cluster_mean(age)", "cluster_mean(y1)", "cluster_mean(y3)"]
    assert names(y2.fixed) == ["Intercept", "age", "y1", "y3", *means]
    assert "compatible with a joint model" in y2.notes[0]
    few = SMALL.frame[SMALL.frame["study"] < "s15"]  # y2: 14 clusters, the others 15
    c = conditionals(bi.IncompleteData(few, cluster="study"), FLAT)
    assert len(block(c, "y1").fixed) == 7 and len(block(c, "y2").fixed) == 4
    assert "observed in 14 clusters, 15 are needed" in block(c, "y2").notes[0]


def test_default_leaves_out_with_a_note():
    f = FRAME.assign(
        one=1.0,
        age2=2 * FRAME["age"],
        id=[f"p{k}" for k in range(len(FRAME))],
        day=pd.Timestamp("2020-01-01"),
    )
    c = conditionals(bi.IncompleteData(f, cluster="study"))
    assert set(c.complete) == set(conditionals(DATA).complete)
    notes = " ".join(block(c, "y1").notes)
    for words in (
        "'one' is constant",
        "'age2' is a combination",
        "'id' has 240 levels",
        "'day' has type datetime64",
    ):
        assert words in notes


def test_numbers_declared_as_categories_are_factors():
    f = FRAME.assign(ward=FRAME.index % 3, grade=FRAME.index % 4)
    data = bi.IncompleteData(f, cluster="study", families={"ward": "categorical", "grade": "ordinal"})
    wards, grades = {"C(ward)[1]", "C(ward)[2]"}, {"C(grade)[1]", "C(grade)[2]", "C(grade)[3]"}
    assert wards | grades < set(conditionals(data).complete) and "ward" not in conditionals(data).complete
    listed = conditionals(data, predictors={"y1": ["ward"]}, compatible=False)
    assert set(names(block(listed, "y1").fixed)) == {"Intercept"} | wards


def test_families_without_models():
    f = FRAME.assign(sex=FRAME["sex"].where(FRAME.index % 7 > 0))
    data = bi.IncompleteData(f, cluster="study")
    with pytest.raises(
        SpecificationError,
        match=r"'sex': method 'ml' is for normal.*use 'mlmi'.*'F', 'M'\. .*replace them by numbers",
    ):
        conditionals(data, "ml")
    c = conditionals(data, {"sex": None})
    assert "sex" not in c.incomplete and not any("sex" in name for name in c.complete)
    with pytest.raises(
        SpecificationError, match=r"'sex' is incomplete and not imputed.*cannot be a predictor"
    ):
        conditionals(data, {"sex": ""}, "y1 ~ sex + (1 | study)")
    days = FRAME.assign(day=pd.Series(pd.Timestamp("2020-01-01"), FRAME.index).where(FRAME.index > 4))
    data = bi.IncompleteData(days, cluster="study")
    assert conditionals(data).incomplete == ("y1", "y2", "y3")
    with pytest.raises(SpecificationError, match="'day' has family 'none'"):
        conditionals(data, {"day": "bayes"})
    with pytest.raises(SpecificationError, match=r"'day' has family 'none'.*cannot be a predictor"):
        conditionals(data, predictors="y1 ~ day + (1 | study)")


def test_nothing_to_impute():
    with pytest.raises(SpecificationError, match="nothing to impute"):
        conditionals(bi.IncompleteData(FRAME[["study", "age"]], cluster="study"))
    with pytest.raises(DataError, match="No value of 'y9' is observed"):
        conditionals(bi.IncompleteData(FRAME.assign(y9=np.nan), cluster="study"))


# --- methods, order, blocks


def test_methods():
    c = conditionals(DATA, {"y1": "iw", "y3": me.PMM(3)})
    assert [b.method for b in c.blocks] == [me.IW(), me.Bayes(), me.PMM(3)]
    assert block(c, "y3").random == () and "cluster_mean" not in formula_text(block(c, "y3"), "study")
    assert {b.method for b in conditionals(DATA, "norm").blocks} == {me.Norm()}
    c = conditionals(DATA, pd.Series({"age": "", "y1": "2l.lmer", "y2": "2l.pan", "y3": ""}))
    assert c.incomplete == ("y1", "y2") and "y3" not in names(block(c, "y1").fixed)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"methods": {"y9": "iw"}}, "'y9' is not a variable. There are: .*'y3'"),
        ({"methods": {"age": "iw"}}, "'age' is complete and needs no method"),
        ({"methods": "iww"}, "Did you mean 'iw'"),
        (
            {"methods": {"y1": "iw"}, "blocks": {"b": ["y1", "y2"]}},
            "'y1' is in block 'b'; give the method to the block",
        ),
        ({"methods": {"y1": "iw"}, "derived": {"y1": "y2 * 2"}}, "'y1' is derived .* no method imputes it"),
        ({"order": "mono"}, "order 'mono' is not known"),
        ({"order": ["y1", "y2"]}, "'y3' would never be imputed"),
        ({"order": ["y1", "y2", "y3", "age"]}, "order: 'age' is not imputed"),
        ({"blocks": {"b": "y1"}}, "must be a list of variables"),
        ({"blocks": {"b": []}}, "must be a list"),
        ({"blocks": {"b": ["y1", "z"]}}, "'z' is not a variable"),
        ({"blocks": {"b": ["y1", "age"]}}, "'age' is complete"),
        ({"blocks": {"b": ["y1", "study"]}}, "'study' is the cluster"),
        ({"blocks": {"b": ["y1", "y2"], "c": ["y2", "y3"]}}, "'y2' is in 'c' and in 'b'"),
        ({"blocks": {"b": ["y1", "y1"]}}, "'y1' is in 'b' and in 'b'"),
        ({"blocks": {"y3": ["y1", "y2"]}}, "'y3' is a column of the table"),
        ({"blocks": {"b": ["y1", "y2"]}, "derived": {"y1": "y2 * 2"}}, "'y1' is derived"),
        ({"blocks": {"b": ["y1", "y2"]}, "methods": "ml"}, "method 'ml' imputes one variable at a time"),
        ({"blocks": {"b": ["y1", "y2"]}, "methods": "2l.norm"}, "residual='cluster' imputes one variable"),
    ],
)
def test_refused_methods_orders_blocks(options, message):
    with pytest.raises(SpecificationError, match=message):
        conditionals(DATA, **options)


def test_orders():
    def visits(order, **options):
        return [b.name for b in conditionals(DATA, order=order, **options).blocks]

    missing = FRAME[["y1", "y2", "y3"]].isna().sum()
    assert visits(None) == visits("roman") == ["y1", "y2", "y3"]
    assert visits("arabic") == ["y3", "y2", "y1"]
    assert visits("monotone") == list(missing.sort_values().index) == visits("revmonotone")[::-1]
    assert visits(["y3", "y1", "y2", "y3"]) == ["y3", "y1", "y2", "y3"]
    assert visits(["y3", "y2"], blocks={"b": ["y2", "y1"]}) == ["y3", "b"]


def test_blocks():
    c = conditionals(DATA, predictors=["both ~ y2 + age + (1 | study)"], blocks={"both": ["y3", "y1"]})
    both = block(c, "both")
    assert both.responses == ("y1", "y3") and names(both.fixed) == ["Intercept", "age", "y2"]
    assert [b.name for b in c.blocks] == ["both", "y2"]
    assert formula_text(both, "study") == "y1 + y3 ~ 1 + age + y2 + (1 | study)"
    same = conditionals(DATA, predictors=["y1 + y3 ~ y2 + age + (1 | study)"], blocks={"both": ["y3", "y1"]})
    assert block(same, "both") == both
    with pytest.raises(SpecificationError, match="imputes 'y3', which therefore cannot be a predictor"):
        conditionals(
            DATA, predictors="both ~ y2 + cluster_mean(y3) + (1|study)", blocks={"both": ["y3", "y1"]}
        )


# --- formulas


def test_formula():
    _, y1 = one("y1 ~ y2 + cluster_mean(y2) + age + (1 + y2 | study)")
    assert y1.fixed == (
        Column("Intercept", "Intercept"),
        Column("age", "age"),
        Column("y2", "y2"),
        Column("cluster_mean(y2)", "Intercept", ("Intercept", "y2")),
    )
    assert y1.random == (Column("Intercept", "Intercept"), Column("y2", "y2")) and y1.notes == ()


@pytest.mark.parametrize(
    "formula", [{"y1": "~ y2 + (1|study)"}, ["y1 ~ y2 + (1|study)"], {"y1": "y1 ~ y2 + (1|study)"}]
)
def test_ways_to_give_a_formula(formula):
    _, y1 = one(formula)
    assert names(y1.fixed) == ["Intercept", "y2"]


@pytest.mark.parametrize(
    "formula",
    ["y1 ~ age * sex + y2 + (1 | study)", "y1 ~ log(age) + C(arm, Treatment('b')) + (1 + age | study)",
     "y1 ~ 0 + arm + age:arm + (1 | study)", "y1 ~ scale(age) + I(age**2) + (0 + sex | study)"],
)  # fmt: skip
def test_complete_terms_are_those_of_design(formula):
    c, y1 = one(formula)
    expected = design(parse(formula.replace("y2 + ", "")), FRAME)
    at = {name: c.X[:, k] for k, name in enumerate(c.complete)}
    for columns, matrix, labels in (
        (y1.fixed, expected.X, expected.fixed),
        (y1.random, expected.Z, expected.random),
    ):
        ours = [column for column in columns if column.name != "y2"]
        assert tuple(names(ours)) == labels
        np.testing.assert_array_equal(np.column_stack([at[column.base] for column in ours]), matrix)


def evaluated(c, columns):
    at = {name: c.X[:, k] for k, name in enumerate(c.complete)}
    return column_values(columns, filled(DATA, at, c.incomplete, c.derived), DATA.codes)


@pytest.mark.parametrize(
    "right",
    ["y2 * sex", "y2:sex", "y2 + y2:sex", "y2:age", "age * y2 * sex", "(age + y2 + sex)**2 - age:sex", "sex + sex:y2",
     "I(y2**2) + log(y2) + I(y2 > 5)", "y2:arm", "C(arm, Treatment('b')):y2 + y2", "I(y2 / age) + y2:y3"],
)  # fmt: skip
def test_incomplete_terms_have_the_columns_of_the_completed_table(right):
    """The same formula on a completed table, by formulae, spans the same columns."""
    c, y1 = one(f"y1 ~ {right} + (1 | study)")
    at = {name: c.X[:, k] for k, name in enumerate(c.complete)}
    values = filled(DATA, at, c.incomplete, c.derived)
    complete = FRAME.assign(**{name: values[name] for name in c.incomplete})
    right = right.replace("I(y2 > 5)", "high")
    expected = design(parse(f"~ {right}"), complete.assign(high=1.0 * (complete["y2"] > 5))).X
    ours = evaluated(c, y1.fixed)
    assert ours.shape == expected.shape
    for column in expected.T:
        assert np.isclose(ours, column[:, None], rtol=1e-12).all(axis=0).sum() == 1


def test_cluster_means_and_sums():
    c, y1 = one(
        "y1 ~ y2 + cluster_mean(y2) + cluster_sum(age * y2) + age:cluster_mean(y2) + sex:cluster_mean(age) + (1 | study)"
        " + cluster_mean(log(age)) + cluster_mean(I(y2 ** 2) * sqrt(age)) + within(sqrt(age))"
    )
    at = {name: c.X[:, k] for k, name in enumerate(c.complete)}
    values = filled(DATA, at, c.incomplete, c.derived)
    f = FRAME.assign(
        y2=values["y2"],
        both=values["y2"] * FRAME["age"],
        log=np.log(FRAME["age"]),
        root=np.sqrt(FRAME["age"]),
    )
    f["product"] = f["y2"] ** 2 * f["root"]
    mean = f.groupby("study")[["y2", "age", "log", "product", "root"]].transform("mean")
    ours = evaluated(c, y1.fixed)
    for name, expected in {
        "cluster_mean(y2)": mean["y2"],
        "cluster_mean(log(age))": mean["log"],
        "cluster_mean(I(y2 ** 2) * sqrt(age))": mean["product"],
        "within(sqrt(age))": f["root"] - mean["root"],
        "cluster_sum(age * y2)": f.groupby("study")["both"].transform("sum"),
        "age:cluster_mean(y2)": f["age"] * mean["y2"],
        "sex[F]:cluster_mean(age)": (f["sex"] == "F") * mean["age"],
        "sex[M]:cluster_mean(age)": (f["sex"] == "M") * mean["age"],
    }.items():
        np.testing.assert_allclose(ours[:, names(y1.fixed).index(name)], expected, rtol=1e-12, atol=1e-12)


def counts():
    k = np.arange(len(FRAME))
    holes = {"visits": k % 7.0, "cost": 1 + k % 11.0, "ill": k % 3 > 0}
    made = {name: np.where((k + j) % 5, x, np.nan) for j, (name, x) in enumerate(holes.items())}
    families = {"visits": "poisson", "cost": "gamma", "ill": "bernoulli"}
    return bi.IncompleteData(FRAME[["study", "age", "y1"]].assign(**made), "study", families)


def test_log_links_are_undone_by_default_where_values_could_run_away():
    """For normal variables, counts and positive ones; not for binary ones, and neither for nor by matched ones."""
    c = conditionals(counts())
    by = {b.name: names(b.fixed) for b in c.blocks}
    assert {"log1p(visits)", "log(cost)"} < set(by["y1"]) and "log(cost)" in by["visits"]
    assert {"visits", "cost"} < set(by["ill"])
    assert "log1p(visits), log(cost): with untransformed counts" in block(c, "y1").notes[0]
    assert not any("with counts" in n for n in block(c, "ill").notes)
    others = {"ill": "bayes", "cost": "bayes", "visits": "sti"}
    matched = conditionals(counts(), {"y1": "pmm", **others})
    assert {"visits", "cost"} < set(names(block(matched, "y1").fixed))
    drawn = conditionals(counts(), {"y1": "bayes", **others, "cost": "pmm"})
    assert {"log1p(visits)", "cost"} < set(names(block(drawn, "y1").fixed))


def test_formulas_by_which_values_can_run_away_are_noted():
    formulas = ["y1 ~ {} + (1 | study)", "visits ~ {} + (1 | study)"]
    for mine, its, noted in [
        ("visits", "y1", True),
        ("log1p(visits)", "y1", False),
        ("visits", "age", False),
        ("age + cluster_mean(visits)", "y1", True),
        ("within(visits)", "cluster_mean(y1)", True),
    ]:
        given = [formulas[0].format(mine), formulas[1].format(its)]
        y1 = block(conditionals(counts(), predictors=given), "y1")
        assert any("'visits' and 'y1' predict each other" in n for n in y1.notes) == noted, mine
        assert not noted or "'log1p(visits)' in the formula of 'y1'" in y1.notes[-1]


def test_within_is_less_the_mean_of_the_cluster():
    c, y1 = one("y1 ~ within(y2) + cluster_mean(y2) + within(age) + (1 + within(y2) | study)")
    at = {name: c.X[:, k] for k, name in enumerate(c.complete)}
    f = FRAME.assign(y2=filled(DATA, at, c.incomplete, c.derived)["y2"])[["study", "y2", "age"]]
    expected = f[["y2", "age"]] - f.groupby("study").transform("mean")
    ours = evaluated(c, y1.fixed)
    for name in ("y2", "age"):
        column = ours[:, names(y1.fixed).index(f"within({name})")]
        np.testing.assert_allclose(column, expected[name], rtol=1e-9, atol=1e-9)
    assert names(y1.random) == ["Intercept", "within(y2)"]


def test_compatible_with_a_centred_slope_adds_the_mean_and_no_product():
    _, y1 = one("y1 ~ within(y2) + (1 + within(y2) | study)", compatible=True)
    assert names(y1.fixed) == ["Intercept", "within(y2)", "cluster_mean(y2)"]


def test_one_base_column_for_one_product():
    c = conditionals(DATA, predictors=["y1 ~ y2:age + (1|study)", "y3 ~ age:y2 + I(y2**2) + (1|study)"])
    assert [d.name for d in c.derived] == ["y2:age", "I(y2 ** 2)"]
    assert all(d.column is None for d in c.derived)
    every = [*c.complete, *c.incomplete, *(d.name for d in c.derived)]
    assert len(set(every)) == len(every)


@pytest.mark.parametrize(
    "formula, message",
    [
        ("y1 ~ y2", r"method 'bayes' needs a random part, at least \+ \(1 \| study\)"),
        ("y1 ~ y2 + (1 | arm)", "groups by 'arm', but the data by 'study'"),
        ("y1 ~ y2 + (1 | study:arm)", "groups by 'study:arm'"),
        ("y1 ~ y2 + (1 | study) + (0 + age | study)", "2 random terms"),
        ("y1 ~ y2 + (1 + age || study)", r"\|\| is not supported"),
        ("y1 ~ y2 + (0 | study)", "the random part has no column"),
        ("y1 ~ y2 + (1 + cluster_mean(y2) | study)", "cannot have a random slope"),
        ("y1 ~ y1 + (1 | study)", "both sides"),
        ("y1 ~ cluster_mean(y1) + (1 | study)", "both sides"),
        ("y1 ~ I(y1**2) + (1 | study)", "both sides"),
        ("y1 ~ y2 + study + (1 | study)", "both sides|is the cluster"),
        ("y1 ~ y5 + (1 | study)", "no column 'y5'. There are: .*'y3'"),
        ("y1 ~ cluster_mean(y5) + (1 | study)", "no column 'y5'"),
        ("y1 ~ cluster_mean(arm) + (1 | study)", "'arm' is a factor"),
        (
            "y1 ~ cluster_mean(age + y2) + (1 | study)",
            "takes a column or a product of two; define others first by derived",
        ),
        ("y1 ~ cluster_mean(y2, y3) + (1 | study)", "takes one column"),
        ("y1 ~ I(cluster_mean(y2)**2) + (1 | study)", "must be a term by itself or in a product"),
        ("y1 ~ cluster_mean(y2):cluster_mean(y3) + (1 | study)", "two cluster means.*derived=.*JointGLMM"),
        ("y1 ~ within(y2 * age) + (1 | study)", r"within\(\) takes a column; define others first by derived"),
        ("y1 ~ within(size) + (1 | study)", "'size' has one value in every cluster"),
        (
            "y1 ~ age:within(y2) + (1 | study)",
            "by itself, without products.*derived=.*'within.y2.'.*JointGLMM",
        ),
        ("y1 ~ I(within(y2)**2) + (1 | study)", r"within\(\) must be a term by itself; .*derived="),
        ("y1 ~ within(y1) + (1 | study)", "both sides"),
        ("y1 ~ within(arm) + (1 | study)", "'arm' is a factor"),
        ("y1 ~ y2 + within(y2) + cluster_mean(y2) + (1 | study)", "remove one of the three"),
        ("y1 ~ cluster_median(y2) + (1 | study)", "cluster_median.. is not known"),
        (
            "y1 ~ tp(y2) + (1 | study)",
            "'tp.y2.' of a variable that is imputed cannot be computed row by row; use poly",
        ),
        ("y1 ~ bs(y2, df=2) + (1 | study)", "'bs.y2, df=2.' could not be built.*df=2 is too small"),
        ("y1 ~ I(scale(y2)**2) + (1 | study)", "needs all rows"),
        ("y1 ~ C(y2) + (1 | study)", "makes a factor of an incomplete variable"),
        ("y1 ~ I(y2 * sex) + (1 | study)", "'sex' is a factor"),
        (
            "y1 ~ I(sex == 'M') * y2 + I((arm == 'a') * y2) + (1 | study)",
            "text cannot be used in computations",
        ),
        ("y2 + y1 ~ age + (1 | study)", "must have the variable .or block. on its left side"),
        ("~ age + (1 | study)", "on its left side"),
        ("age ~ y2 + (1 | study)", "'age' is complete"),
        ({"y1": "y2 ~ age + (1 | study)"}, "the formula of 'y1' has y2 on its left side"),
        ({"y1": "y2 + age"}, "is not a formula; write '~ y2 [+] age'"),
        ({"y1": 3}, "needs a formula or a list of names"),
        ({"y7": "~ age + (1 | study)"}, "'y7' is not a variable"),
        (["y1 ~ age + (1|study)", "y1 ~ y2 + (1|study)"], "two formulas for 'y1'"),
        (7, "must be formulas"),
        ({"y1": ["y1", "y2"]}, "predicts itself"),
    ],
)
def test_refused_formulas(formula, message):
    with pytest.raises(SpecificationError, match=message):
        conditionals(DATA, predictors=formula)


def test_single_level_methods_have_no_random_part():
    _, y1 = one("y1 ~ y2", methods="norm")
    assert y1.random == ()
    with pytest.raises(SpecificationError, match="method 'pmm' does not take a random part"):
        one("y1 ~ y2 + (1 | study)", methods="pmm")


def test_two_columns_of_one_name():
    f = FRAME.assign(**{"sex[M]": FRAME["age"]})
    data = bi.IncompleteData(f, cluster="study")
    with pytest.raises(SpecificationError, match=r"two different columns have the name 'sex\[M\]'"):
        conditionals(data, predictors="y1 ~ sex + `sex[M]` + (1 | study)")


# --- tables and mice's matrix


def test_lists_and_square_tables():
    lists = conditionals(DATA, predictors={"y1": ["y2", "age"], "y2": [], "y3": ["sex"]}, compatible=False)
    assert [names(b.fixed) for b in lists.blocks] == [
        ["Intercept", "age", "y2"],
        ["Intercept"],
        ["Intercept", "sex[M]"],
    ]
    square = pd.DataFrame(0, index=FRAME.columns, columns=FRAME.columns)
    square.loc["y1", ["age", "y2"]] = 1
    square.loc["y3", ["sex", "study"]] = 1
    square.loc["age"] = 1  # complete: not looked at
    for given in (square, square.astype(bool), square.T.to_dict()):
        assert conditionals(DATA, predictors=given, compatible=False).blocks == lists.blocks
    single = conditionals(DATA, "norm", square)
    assert "'study' is the cluster, so it is not a predictor" in block(single, "y3").notes


def mice_matrix():
    matrix = pd.DataFrame(0, index=FRAME.columns, columns=FRAME.columns)
    matrix["study"] = -2
    matrix.loc["study", "study"] = 0
    matrix.loc["y1", ["age", "sex", "y2", "y3"]] = [2, 1, 3, 4]
    matrix.loc["y2", ["y1"]] = 1
    matrix.loc["y3", ["y1"]] = 2
    return matrix


def test_mice_matrix():
    formulas = me.from_mice(mice_matrix(), DATA)
    assert formulas == {
        "y1": "y1 ~ 1 + age + sex + y2 + y3 + cluster_mean(y2) + cluster_mean(y3) + (1 + age + y3 | study)",
        "y2": "y2 ~ 1 + y1 + (1 | study)",
        "y3": "y3 ~ 1 + y1 + (1 + y1 | study)",
    }
    found = conditionals(DATA, predictors=mice_matrix())
    assert found.blocks == conditionals(DATA, predictors=formulas).blocks
    assert found.blocks == conditionals(DATA, predictors=mice_matrix().T.to_dict()).blocks
    assert not any(b.notes for b in found.blocks)  # as the user says, with nothing added


def test_mice_matrix_refused():
    def changed(row, column, code):
        matrix = mice_matrix()
        matrix.loc[row, column] = code
        return matrix

    for matrix, message in [
        (changed("y1", "age", 7), "code 7 .row 'y1', column 'age'. is not one of mice's"),
        (changed("y1", "arm", -2), "has the cluster .-2. 'study', 'arm', but the data have 'study'"),
        (changed("y1", "y1", 1), "'y1' predicts itself"),
        (changed("y1", "study", 1), "uses the cluster 'study' as a predictor"),
        (changed("y1", "study", 0), "random slopes or cluster means .* no cluster"),
        (mice_matrix().rename(columns={"age": "Age"}), "'Age' is not a column"),
    ]:
        with pytest.raises(SpecificationError, match=message):
            conditionals(DATA, predictors=matrix)
    # mice: a row without a cluster is for single-level methods
    matrix = changed("y2", "study", 0)
    assert conditionals(DATA, {"y2": "pmm"}, matrix).blocks[1].random == ()
    with pytest.raises(SpecificationError, match="needs a random part"):
        conditionals(DATA, predictors=matrix)


# --- compatible


def test_compatible_random_intercepts():
    _, y1 = one("y1 ~ y2 + y3 + age + size + sex + (1 | study)", compatible=True)
    means = [c.name for c in y1.fixed if c.over]
    assert means == [f"cluster_mean({v})" for v in ("age", "sex[M]", "y2", "y3")]  # size is its own mean


def test_compatible_slopes():
    """z_l * mean(z_h * u), u in (1, age, y2): no mean(1), none twice."""
    _, y1 = one("y1 ~ y2 + age + (1 + age | study)", compatible=True)
    inner = ["age * y2", "age * age", "age", "y2"]
    expected = {f"{z}cluster_mean({i})" for z in ("", "age:") for i in inner}
    means = [c.name for c in y1.fixed if c.over]
    assert set(means) == expected and len(means) == len(expected)


def test_compatible_slopes_beside_columns_of_clusters_are_noted():
    _, y1 = one("y1 ~ y2 + age + size + (1 + age | study)", compatible=True)
    assert not any("size" in c.name for c in y1.fixed if c.over)
    assert "products of 'size' with random slopes" in y1.notes[0] and "age:size" in y1.notes[0]


def test_compatible_leaves_out_balanced_covariates_with_a_note():
    _, y1 = one("y1 ~ y2 + time + (1 | study)", compatible=True)
    assert [c.name for c in y1.fixed if c.over] == ["cluster_mean(y2)"]
    assert "combinations of other columns, left out: 'cluster_mean(time)'" in y1.notes


def test_compatible_does_not_repeat_what_the_formula_has():
    _, y1 = one("y1 ~ y2 + cluster_mean(y2) + (1 | study)", compatible=True)
    assert names(y1.fixed) == ["Intercept", "y2", "cluster_mean(y2)"]
    _, y1 = one("y1 ~ y2 + cluster_sum(y2) + (1 | study)", compatible=True)  # 12 rows in every cluster
    assert names(y1.fixed) == ["Intercept", "y2", "cluster_sum(y2)"]
    assert "left out: 'cluster_mean(y2)'" in y1.notes[0]


def test_who_decides_on_compatibility():
    """First the method, then the argument, then the formula as written."""
    formula = "y1 ~ y2 + (1 | study)"
    for method, argument, expected in [
        (me.Bayes(compatible=True), False, True), (me.ML(compatible=False), True, False), ("iw", True, True),
        ("iw", False, False), ("iw", None, False), ("iw-c", None, True),
    ]:  # fmt: skip
        _, y1 = one(formula, methods={"y1": method}, compatible=argument)
        assert any(c.over for c in y1.fixed) == expected
    c = conditionals(SMALL, predictors={"y1": ["y2"]})
    assert "cluster_mean(y2)" in names(block(c, "y1").fixed)  # a list says which variables, not how


# --- derived columns


def bmi_data():
    rng = np.random.default_rng(3)
    n = 200
    f = pd.DataFrame({"study": np.repeat(range(10), 20), "age": rng.normal(40, 5, n)})
    f["weight"], f["height"] = rng.normal(80, 9, n), rng.normal(1.75, 0.1, n)
    f["bmi"] = f["weight"] / f["height"] ** 2
    f["chol"] = rng.normal(5, 1, n)
    for name in ("weight", "chol"):
        f.loc[rng.random(n) < 0.2, name] = np.nan
    f.loc[f["weight"].isna(), "bmi"] = np.nan
    return bi.IncompleteData(f, cluster="study")


def test_derived_defaults():
    data = bmi_data()
    c = conditionals(data, derived={"bmi": "weight / height**2"}, compatible=False)
    assert c.incomplete == ("weight", "chol")
    (bmi,) = c.derived
    assert (bmi.name, bmi.column, bmi.ingredients) == ("bmi", "bmi", ("weight", "height"))
    assert "bmi" in names(block(c, "chol").fixed) and "bmi" not in names(block(c, "weight").fixed)
    values = {"weight": np.array([80.0]), "height": np.array([2.0])}
    assert bmi.evaluate(values) == 20.0
    assert "bmi = weight / (height ** 2)" in text(c, "study")


def test_derived_chain_in_any_order_of_definition():
    data = bmi_data()
    c = conditionals(
        data, derived={"fat": "bmi > 30", "bmi": "weight / height**2"}, predictors="chol ~ fat + (1|study)"
    )
    assert [d.name for d in c.derived] == ["bmi", "fat"]
    values = {"weight": np.array([80.0, 120.0]), "height": np.array([2.0, 1.5])}
    for d in c.derived:
        values[d.name] = d.evaluate(values)
    np.testing.assert_array_equal(values["fat"], [0, 1])


def test_linear_derived_columns_are_not_default_predictors_with_their_ingredients():
    c = conditionals(DATA, derived={"total": "y1 + y2", "ratio": "y1 / y2"})
    y3 = block(c, "y3")
    assert "ratio" in names(y3.fixed) and "total" not in names(y3.fixed)
    assert "combination of other predictors, left out: 'total'" in y3.notes


@pytest.mark.parametrize(
    "options, message",
    [
        (
            {"predictors": "weight ~ bmi + (1 | study)"},
            "'bmi' is computed from 'weight'.*circle 'weight' -> ",
        ),
        (
            {"predictors": "weight ~ cluster_mean(bmi) + (1 | study)"},
            "run away in such circles. Remove 'bmi' from",
        ),
        ({"predictors": "weight ~ age + (1 + bmi | study)"}, "run away in such circles"),
        ({"predictors": "weight ~ log(bmi) + (1 | study)"}, "computed from 'weight'"),
        ({"predictors": "weight ~ bmi:age + (1 | study)"}, "computed from 'weight'"),
        (
            {"blocks": {"b": ["weight", "chol"]}, "predictors": "b ~ bmi + (1 | study)"},
            "computed from 'weight'",
        ),
        ({"derived": {"bmi": "two", "two": "bmi * 2"}}, "'bmi' -> 'two' -> 'bmi' form a circle"),
        ({"derived": {"bmi": "bmi + 1"}}, "'bmi' -> 'bmi' form a circle"),
        ({"derived": {"height": "weight * 2"}}, "'height' is complete in the table"),
        ({"derived": {"study": "weight * 2"}}, "'study' is the cluster"),
        ({"derived": {"a": "weigth * 2"}}, "no column 'weigth'. Did you mean 'weight'"),
        ({"derived": {"a": "weight"}, "methods": {"weight": None}}, "'weight' is incomplete and not imputed"),
        ({"derived": {"a": 3}}, "both text"),
        ({"derived": {"a": "scale(weight)"}}, "needs all rows"),
        ({"derived": {"a": "__import__('os').system('x')"}}, "not|names no column"),
        ({"derived": {"a": "weight) + I(chol"}}, "is not arithmetic"),
        ({"derived": {"a": "study * 2"}}, "is the cluster"),
        ({"predictors": "bmi ~ age + (1 | study)"}, "not imputed .*derived"),
    ],
)
def test_refused_derived(options, message):
    options = {"derived": {"bmi": "weight / height**2"}} | options
    with pytest.raises(SpecificationError, match=message):
        conditionals(bmi_data(), **options)


# --- invariances and the printed form


def spans(c):
    return {b.name: (frozenset(b.fixed), frozenset(b.random), b.notes) for b in c.blocks}


def test_row_order_changes_only_the_order_of_X():
    order = np.random.default_rng(5).permutation(len(FRAME))
    other = bi.IncompleteData(FRAME.iloc[order].reset_index(drop=True), cluster="study")
    for options in (
        {},
        {"compatible": True, "predictors": "y1 ~ y2 * arm + I(y3**2) + time + (1 + age | study)"},
    ):
        a, b = conditionals(DATA, **options), conditionals(other, **options)
        assert a.complete == b.complete and a.blocks == b.blocks and a.derived == b.derived
        np.testing.assert_array_equal(a.X[order], b.X)


def test_column_order_changes_only_the_order_of_columns():
    other = bi.IncompleteData(FRAME[FRAME.columns[::-1]], cluster="study")
    for options in ({}, {"compatible": True}):
        a, b = conditionals(DATA, **options), conditionals(other, **options)
        assert set(a.complete) == set(b.complete) and spans(a) == spans(b)
        assert [x.name for x in b.blocks] == ["y3", "y2", "y1"]


def test_dtype_of_a_factor_does_not_matter():
    c = conditionals(DATA)
    for dtype in ("category", "string", object):
        other = conditionals(bi.IncompleteData(FRAME.assign(arm=FRAME["arm"].astype(dtype)), cluster="study"))
        assert other.complete == c.complete and other.blocks == c.blocks
        np.testing.assert_array_equal(other.X, c.X)


def test_units_do_not_matter():
    scaled = FRAME.assign(age=FRAME["age"] * 1e6, y2=FRAME["y2"] * 1e-6, time=FRAME["time"] + 1e3)
    for options in ({}, {"compatible": True}):
        a, b = (
            conditionals(DATA, **options),
            conditionals(bi.IncompleteData(scaled, cluster="study"), **options),
        )
        assert [replace(x, contextual=()) for x in a.blocks] == [replace(x, contextual=()) for x in b.blocks]
        unit = {"cluster_mean(age)": 1e6, "cluster_mean(y2)": 1e-6}  # another response in the model of y2
        bounds, other = dict(block(a, "y1").contextual), dict(block(b, "y1").contextual)
        assert set(bounds) == set(other) and len(bounds) >= 6
        for column, (bound,) in bounds.items():
            assert other[column][0] * unit.get(column.name, 1.0) == pytest.approx(bound, rel=1e-9)


def test_printed_formula_can_be_given_back():
    """Text -> the same model, for numbers; a printed model is a formula."""
    options = {"predictors": "y1 ~ y2 + y3 + age + (1 + age | study)", "compatible": True}
    c = conditionals(SMALL, **options)
    printed = [formula_text(b, "study") for b in c.blocks]
    again = conditionals(SMALL, predictors=printed, compatible=False)
    assert [formula_text(b, "study") for b in again.blocks] == printed
    assert [set(b.fixed) for b in again.blocks] == [set(b.fixed) for b in c.blocks]


def test_text():
    shown = text(conditionals(SMALL, {"y1": "iw"}, derived={"r": "y1 / y2"}, compatible=False), "study")
    assert shown.splitlines() == [
        "  iw     y1 ~ 1 + age + y2 + y3 + (1 | study)",
        "  bayes  y2 ~ 1 + age + y1 + y3 + (1 | study)",
        "  bayes  y3 ~ 1 + age + y1 + y2 + r + (1 | study)",
        "  =      r = y1 / y2",
        "  visited in the order y1, y2, y3",
        "  note (y1, y2): 'r' is computed from 'y1', 'y2' and predicts 'y3', which predict these in turn: a circle "
        "in which imputed values can run away. Stable alternatives are bounds= on 'y1', 'y2', "
        "or formulas without 'y3' for these, or without 'r' for the others",
    ]


def test_nothing_is_written_to_the_table():
    before = FRAME.copy()
    conditionals(DATA, compatible=True)
    pd.testing.assert_frame_equal(FRAME, before)


def test_numbers_of_rows_are_pointed_out_but_not_occasions():
    rng = np.random.default_rng(0)
    number, dose = rng.permutation(len(FRAME)), rng.choice(10**6, len(FRAME), replace=False)
    noted = conditionals(bi.IncompleteData(FRAME.assign(number=number, dose=dose), cluster="study"))
    about = " ".join(noted.blocks[0].notes)
    assert (
        "'number' looks like numbers of the rows (whole, all different), so it is not a predictor by default"
        in about
        and "'time'" not in about
        and "'age'" not in about
    )
    assert "'dose' may number the rows, but is a predictor" in about
    columns = {column.base for block in noted.blocks for column in block.fixed}
    assert "number" not in columns and {"dose", "age"} <= columns


def test_means_of_imputed_variables_come_before_those_of_covariates():
    """Four clusters allow three means besides the intercept: that of y2 must be among them."""
    few = FRAME[FRAME["study"].isin(["s00", "s01", "s02", "s04"])]
    c = conditionals(bi.IncompleteData(few.drop(columns="y3"), cluster="study"), FLAT, compatible=True)
    names = [column.name for column in block(c, "y1").fixed]
    assert "cluster_mean(y2)" in names and "cluster_mean(age)" in names
    assert len([n for n in names if n.startswith("cluster_mean")]) < 5
