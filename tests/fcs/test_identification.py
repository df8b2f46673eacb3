"""Conditional models that the observed cells cannot identify are refused, and the message says what to do."""

import re

import numpy as np
import pandas as pd
import pytest

import bayesimp as bi
from bayesimp import methods as me
from bayesimp import priors as pr
from bayesimp.errors import DataError, SpecificationError
from bayesimp.fcs.identification.check import check_conditionals
from bayesimp.fcs.specification.compose import conditionals
from bayesimp.fcs.specification.values import dependent
from tests.unfolding import unfolded

NORMAL = me.Bayes(pr.Priors(beta=pr.Normal(0, 10)))
FLAT = me.Bayes(pr.Priors(beta=pr.Flat()))
FIXED = me.Bayes(pr.Priors(Psi=pr.Fixed([[1.0]])))


def table(m=12, n=15, seed=2) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    N = m * n
    f = pd.DataFrame(
        {"g": np.repeat(np.arange(m), n), "x": rng.normal(size=N), "sex": rng.choice(["F", "M"], N)}
    )
    f["size"] = rng.normal(size=m)[f["g"]]
    for k in (1, 2, 3):
        f[f"y{k}"] = rng.normal(size=N) + f["x"]
        f.loc[rng.random(N) < 0.2, f"y{k}"] = np.nan
    return f


def check(frame, predictors=None, methods=None, **options):
    data = bi.IncompleteData(frame, cluster="g")
    return check_conditionals(conditionals(data, methods, predictors, **options), data)


def refused(message, frame, predictors=None, methods=None, error=SpecificationError, **options):
    with pytest.raises(error, match=message):
        check(frame, predictors, methods, **options)


def seen_only(frame, name, rows):
    """The table with a variable observed in these rows only (and not where it was missing)."""
    return frame.assign(**{name: frame[name].where(rows)})


@pytest.mark.parametrize(
    "options",
    [{}, {"compatible": True}, {"methods": "norm"}, {"methods": "ml"}, {"blocks": {"b": ["y1", "y3"]}},
     {"predictors": "y1 ~ y2 * sex + I(y3**2) + (1 + y2 | g)", "compatible": True},
     {"order": ["y1", "y2", "y3", "y1"], "derived": {"r": "y1 * x"}}],
)  # fmt: skip
def test_good_models_pass_without_events(options):
    assert check(table(), **options) == []


# --- complete predictors


def test_complete_predictor_constant_after_deletion():
    f = table()
    f = seen_only(f, "y1", f["sex"] == "M")
    formula = "y1 ~ x + sex + y2 + y3 + (1 | g)"
    message = r"'y1' \(bayes\).*'sex\[M\]' is constant \(1 in all .*Drop 'sex\[M\]' from .* 'y1', or .*Normal"
    refused(message, f, formula)
    refused(message, f, "y1 ~ . + sex")
    refused("'sex.M.'", f, "y1 ~ y2 + y2:sex + sex + (1 | g)")
    assert check(f, {"y1": ["x", "y2", "y3"]}) == []
    refused(r"'y1' \(norm\)", f, "y1 ~ sex + y2", methods={"y1": "norm"})
    refused(r"'y1' \(ml\)", f, formula, methods="ml")


def test_complete_predictors_collinear_after_deletion():
    f = table().assign(w=lambda f: np.where(f["g"] < 6, f["x"], f["x"] ** 2))
    f = seen_only(f, "y1", f["g"] < 6)
    refused("column 'w' is a combination of 'x'.*Drop 'w'", f, "y1 ~ x + w + y2 + y3 + (1 | g)")
    refused("column 'w' is a combination of 'x'.*Drop 'w'", f, "y1 ~ . + x + w")
    # what was asked for is kept, whatever its position in the table
    assert left_out(f, "y1 ~ . + w") == left_out(f, "y1 ~ . + (1 + w | g)") == ["x"]


def left_out(f, predictors=None, methods=None, **options):
    """Complete columns that are left out of the default model of y1, with a note, but not of the others."""
    c = conditionals(bi.IncompleteData(f, "g"), methods, predictors, **options)
    check_conditionals(c, bi.IncompleteData(f, "g"))
    (block,) = (b for b in c.blocks if "y1" in b.responses)
    notes = [n.partition("left out: ")[2] for n in block.notes if "is observed, left out" in n]
    names = [name for note in notes for name in re.findall(r"'(.*?)'", note) if "cluster_mean" not in name]
    assert not {*names} & {column.name for column in (*block.fixed, *block.random)}
    assert all({*names} <= {column.name for column in b.fixed} for b in c.blocks if b is not block)
    return names


def constant(f):
    return f.assign(sex=f["sex"].where(f["g"] < 8, "M")), f["g"] >= 8


def combined(f):
    return f.assign(w=np.where(f["g"] < 6, f["x"], f["x"] ** 2)), f["g"] < 6


def of_clusters(f):
    return f.assign(w=np.where(f["g"] < 6, 3 - f["size"], f["g"] ** 2)), f["g"] < 6


def one_level(f):
    return f.assign(land=np.where(f["g"] < 6, "b", f["g"] % 3).astype(str)), f["g"] < 6


LEFT = {
    constant: ["sex[M]"],
    combined: ["w"],
    of_clusters: ["w"],
    one_level: ["land[1]", "land[2]", "land[b]"],
}
METHODS = {"bayes": {}, "norm": {"methods": "norm"}, "ml": {"methods": "ml"}, "pmm": {"methods": "pmm"},
           "2stage": {"methods": {"y1": "2stage"}}, "block": {"blocks": {"b": ["y1", "y3"]}}}  # fmt: skip


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", LEFT)
def test_complete_columns_of_default_formulas_that_are_collinear_are_left_out(kind, method):
    """Those of the other variables, which are observed elsewhere too, have them."""
    f, seen = kind(table())
    assert left_out(seen_only(f, "y1", seen), **METHODS[method]) == LEFT[kind]
    assert left_out(f, **METHODS[method]) == []


@pytest.mark.parametrize("family", ["poisson", "gamma", "bernoulli"])
def test_collinear_columns_are_left_out_of_log_links_whose_prior_alone_would_say_what_they_do(family):
    f, seen = combined(table())
    f["y1"] = (
        np.exp(f["y1"]).round(3)
        if family == "gamma"
        else np.exp(f["y1"]).round().clip(0, 1 if family == "bernoulli" else None)
    )
    f = seen_only(f, "y1", seen)
    (block, *_) = conditionals(bi.IncompleteData(f, "g", {"y1": family})).blocks
    assert ("w" in [column.name for column in block.fixed]) == (family == "bernoulli")


def test_collinear_columns_are_left_out_by_where_and_ignore():
    f, seen = combined(table())
    model = bi.FCS(bi.IncompleteData(f, "g"), ignore=~seen)
    assert all("w" not in [column.name for column in block.fixed] for block in model.spec.blocks)
    imp = model.impute(2, cycles=2, seed=1, progress=False)
    told = imp.events[imp.events["message"].str.contains("left out: 'w'")]
    assert list(told["kind"]) == ["by default"] * len(told) and len(told) == 3


def test_fewer_rows_than_columns():
    f = table()
    f = seen_only(f, "y1", f.index.isin([0, 1, 20, 22]) & f["y2"].notna())
    f.loc[[0, 1, 20, 22], "y1"] = [1.0, 2.0, 0.0, 3.0]
    refused(
        "observed in 4 rows of 2 clusters, too few for the coefficients of 5 complete columns",
        f.assign(w=f["x"] ** 2, v=f["x"] ** 3).drop(columns="size"),
        {"y1": ["x", "w", "v", "sex"]},
    )


def test_normal_prior_makes_estimable_and_is_noted():
    f = table()
    f = seen_only(f, "y1", f["sex"] == "M")
    formula = "y1 ~ x + sex + y2 + y3 + (1 | g)"
    (event,) = check(f, formula, {"y1": NORMAL})
    assert check(f, None, {"y1": NORMAL}) == [event]  # by default too: a proper prior was asked for
    assert (event.kind, event.where) == ("prior only", "y1 ~ sex[M]")
    assert "Kept, because its coefficient rests on its normal prior alone" in event.message
    refused("Drop 'sex.M.'", f, formula, {"y1": "ml", "y2": NORMAL})
    (event,) = check(f, formula, {"y1": me.PyMC(model=lambda data, priors: None)})
    assert "your own" in event.message
    refused("'sex.M.'", f, formula, {"y1": me.PyMC()})


# --- incomplete predictors


ASKED = ["y1 ~ x + y3 + y2 + (1 | g)", "y1 ~ . + y2 + y3", {"y1": ["x", "y3", "y2"]}]


def never(f):
    return seen_only(seen_only(f, "y1", f["g"] < 6), "y2", f["g"] >= 6)


def constant_together(f):
    return f.assign(y2=np.where(f["y1"].notna() & f["y2"].notna(), 7.0, f["y2"]))


def twice_together(f):
    return f.assign(y2=np.where(f["y1"].notna() & f["y2"].notna(), 2 * f["x"] - 1, f["y2"]))


def of_another(f):
    """y2 is seen in fewer rows with y1 than y3."""
    f = f.assign(y2=f["y2"].where(f.index % 3 > 0))
    both = f[["y1", "y2", "y3"]].notna().all(axis=1)
    return f.assign(y2=np.where(both, 1 - 2 * f["y3"], f["y2"]))


REASONS = {
    never: r"is never observed in the same row as 'y1' \(\d+ rows of 6 clusters\)",
    constant_together: r"is constant \(7\) in the \d+ rows where it and 'y1' are observed",
    twice_together: r"is a combination of the complete predictors in the \d+ rows where it and 'y1' are observed",
    of_another: r"is a combination of other predictors \('y3'\) in the \d+ rows where they and 'y1' are observed",
}


@pytest.mark.parametrize("kind", REASONS)
def test_incomplete_columns_that_the_user_asked_for_are_refused_by_name(kind):
    f = kind(table())
    for predictors in ASKED:
        column, reason = "y2", REASONS[kind]
        if (
            kind is of_another and "." in predictors
        ):  # which of two that were asked for is named is the table's order
            column, reason = "y3", reason.replace("'y3'", "'y2'")
        refused(
            rf"'y1' \(bayes\): '{column}' {reason}.*Drop '{column}' from the predictors of 'y1'",
            f,
            predictors,
        )


def test_what_was_asked_for_stays_and_what_it_explains_is_left_out():
    spec = conditionals(bi.IncompleteData(of_another(table()), "g"), predictors="y1 ~ . + y2")
    names = [column.name for column in spec.blocks[0].fixed]
    assert "y2" in names and "y3" not in names


def test_a_random_slope_that_was_asked_for_is_refused_by_name():
    refused(
        "'y2' varies, where 'y1' is observed, within 0 of 6 clusters", never(table()), "y1 ~ . + (1 + y2 | g)"
    )


@pytest.mark.parametrize(
    "kind, method", [(k, m) for k in REASONS for m in METHODS if (k, m) != (of_another, "block")]
)
def test_incomplete_columns_of_default_formulas_are_left_out(kind, method):
    """Of the model of y1 only, in any order of columns; the note says which, whose, why and of how many rows."""
    f = kind(table())
    told = []
    for names in (list(f), [*list(f)[:4], "y3", "y2", "y1"], ["y2", *(n for n in f if n != "y2")]):
        data = bi.IncompleteData(f[names], "g")
        spec = conditionals(data, **METHODS[method])
        check_conditionals(spec, data)
        notes = {b.name: [n for n in b.notes if "automatic predictor left out" in n] for b in spec.blocks}
        (block,) = (b for b in spec.blocks if "y1" in b.responses)
        assert "y2" not in [column.base for column in (*block.fixed, *block.random)]
        assert "y3" in [column.base for column in block.fixed] or method == "block"
        told.append(notes[block.name])
        other = notes["y2"]
        assert bool(other) == (kind is never) and all("'y1' is never observed" in note for note in other)
    assert told[0] == told[1] == told[2] and len(told[0]) == 1
    whose = " of 'y1'" * (method == "block")
    assert re.search(rf"^automatic predictor left out{whose}: 'y2' {REASONS[kind]}$", told[0][0])


def test_what_one_column_hid_is_left_out_too():
    """No row has y1 and all its predictors observed until y2 is left out."""
    f = table()
    f["y4"] = f["x"] ** 2 + f["y3"].fillna(0)
    f = seen_only(never(f), "y4", f.index % 3 > 0)
    three = f[["y1", "y3", "y4"]].notna().all(axis=1)
    f["y4"] = np.where(three, 1 - 2 * f["y3"], f["y4"])
    (block,) = (b for b in conditionals(bi.IncompleteData(f, "g")).blocks if b.name == "y1")
    notes = [note for note in block.notes if "automatic predictor left out" in note]
    assert len(notes) == 2 and "'y2' is never" in notes[0] and "'y4' is a combination of other" in notes[1]


def test_what_is_left_out_is_shown_and_told():
    data = bi.IncompleteData(never(table()), "g")
    model = bi.FCS(data)
    assert (
        "note (y1): automatic predictor left out: 'y2' is never observed in the same row as 'y1' (7"
        in unfolded(repr(model))
    )
    imp = model.impute(2, cycles=3, seed=1, progress=False)
    told = imp.events[imp.events["message"].str.contains("automatic predictor left out")]
    assert list(told["kind"]) == ["by default"] * 2 and list(told["where"]) == ["y1", "y2"]
    assert np.abs(imp.values("y1")).max() < 10


def test_incomplete_columns_are_left_out_by_where_and_ignore():
    f = table()
    apart = (f["g"] < 6).to_numpy()
    both = (f["y1"].notna() & f["y2"].notna()).to_numpy()
    data = bi.IncompleteData(f, "g")
    assert "y2" in bi.FCS(data).formulas[0]
    for options in ({"ignore": both}, {"where": {"y1": ~apart, "y2": apart}}):
        model = bi.FCS(data, **options)
        assert " y2" not in model.formulas[0] and " y1" not in model.formulas[1].partition("~")[2]
        model.impute(2, cycles=2, seed=1, progress=False)


def test_levels_never_observed_with_the_response_are_left_out_in_one_note():
    f = table().assign(y2=lambda f: pd.cut(f["y2"], [-9, -1, 1, 9], labels=["a", "b", "c"]).astype(object))
    f = seen_only(seen_only(f, "y1", f["g"] < 6), "y2", f["g"] >= 6)
    (block,) = (b for b in conditionals(bi.IncompleteData(f, "g")).blocks if b.name == "y1")
    (note,) = (note for note in block.notes if "automatic" in note)
    assert "left out: 'y2[b]', 'y2[c]' (each is never observed in the same row as 'y1'" in note


@pytest.mark.parametrize("family", ["poisson", "bernoulli"])
def test_incomplete_columns_of_models_with_proper_priors(family):
    """They are left out where all that is known is a prior of standard deviation 2.5 on the log scale."""
    f = table()
    f["y1"] = (
        f["y1"].gt(0).astype(float).where(f["y1"].notna())
        if family == "bernoulli"
        else np.exp(f["y1"]).round()
    )
    data = bi.IncompleteData(never(f), "g", {"y1": family})
    spec = conditionals(data)
    assert ("y2" in [column.base for column in spec.blocks[0].fixed]) == (family == "bernoulli")
    kinds = {(event.kind, event.where) for event in check_conditionals(spec, data)}
    assert (("prior only", "y1 ~ y2") in kinds) == (family == "bernoulli")


def many_clusters():
    """48 clusters; the means of y2 over their observed values are those of a column of clusters."""
    f = pd.concat([table(seed=k).assign(g=lambda f: f["g"] + 12 * k) for k in range(4)], ignore_index=True)  # noqa: B023
    return f.assign(y2=f["y2"] - f.groupby("g")["y2"].transform("mean") + 2 * f["size"])


def test_automatic_cluster_means_that_are_combinations_where_they_are_observed_are_left_out():
    f = many_clusters()
    data = bi.IncompleteData(f, "g")
    assert conditionals(data).blocks[0].fixed == conditionals(data, FLAT).blocks[0].fixed
    spec = conditionals(data)
    check_conditionals(spec, data)
    for block in spec.blocks:
        names = [column.name for column in block.fixed]
        assert "cluster_mean(x)" in names and "cluster_mean(y2)" not in names
        told = f"in the 48 clusters where '{block.name}' is observed, left out: 'cluster_mean(y2)'"
        assert any(told in note for note in block.notes) == (block.name != "y2")
    message = r"'cluster_mean\(y2\)' is a combination of the other columns that vary only between clusters"
    refused(message, f, "y1 ~ . + cluster_mean(y2)")


def test_product_with_a_predictor_never_observed_together():
    f = table()
    f = seen_only(seen_only(f, "y1", f["g"] < 6), "y2", f["g"] >= 6)
    refused("'x:y2' is never observed", f, {"y1": "~ x + x:y2 + (1 | g)", "y2": ["x"]})


def test_incomplete_predictor_that_is_collinear_in_the_models_of_others_only():
    f = table()
    double = twice_together(f)
    assert check(double, {"y1": ["y2", "y3"], "y2": ["y3"], "y3": ["y1"]}) == []


def test_incomplete_predictors_collinear_where_all_are_observed():
    f = table().assign(y3=lambda f: np.where(f["y2"].notna() & f["y3"].notna(), 1 - 2 * f["y2"], f["y3"]))
    refused("'y3' is a combination of other predictors", f, {"y1": ["y2", "y3"], "y2": ["x"], "y3": ["x"]})
    refused("'y2' is an exact combination of its predictors .*derived=", f, {"y1": ["x"], "y3": ["x"]})


def test_square_of_a_zero_one_variable():
    f = table().assign(y2=lambda f: (f["y2"] > 0).where(f["y2"].notna()))
    data = bi.IncompleteData(f.astype({"y2": float}), cluster="g", families={"y2": "normal"})
    c = conditionals(data, predictors="y1 ~ y2 + I(y2**2) + (1 | g)")
    with pytest.raises(SpecificationError, match=r"'I\(y2 \*\* 2\)' is a combination of other predictors"):
        check_conditionals(c, data)


def test_factor_level_absent_from_complete_cases_is_no_reason_to_refuse():
    """Complete columns need be independent where the response is observed, not where all is."""
    f = table()
    f = seen_only(seen_only(f, "y2", f["sex"] == "M"), "y3", f["sex"] == "M")
    assert check(f, {"y2": ["x", "y1"], "y3": ["x", "y1"]}) == []


def test_few_rows_together():
    f = table()
    third = np.arange(len(f)) % 3  # every pair is observed together, hardly ever all three
    for k in (1, 2, 3):
        f[f"y{k}"] = f["x"] + np.random.default_rng(10 + k).normal(size=len(f))
        f.loc[third == k - 1, f"y{k}"] = np.nan
    events = check(f)
    assert [(e.kind, e.where, e.count) for e in events] == [
        ("few rows together", f"y{k}", 0) for k in (1, 2, 3)
    ]


# --- rare levels: the rows with the response count, not those with everything


def rare(seed=0, N=600, K=8, share=0.01) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    g, z = np.repeat(np.arange(12), N // 12), rng.normal(size=N)
    f = pd.DataFrame({"g": g, "age": rng.normal(size=N)})
    for k in range(K):
        f[f"v{k}"] = 0.5 * z + rng.normal(size=N) + rng.normal(0, 0.3, 12)[g]
    race = rng.choice(["white", "black", "asian", "other"], N, p=[0.6 - share, 0.25, 0.15, share])
    f["race"] = pd.Categorical(race)
    for name in f.columns[2:]:
        f.loc[rng.random(N) < 0.15, name] = np.nan
    return f


@pytest.mark.parametrize("seed", range(6))
def test_a_rare_level_absent_from_complete_rows_is_no_reason_to_refuse(seed):
    f = rare(seed)
    whole = f.notna().all(axis=1)
    f.loc[whole & (f["race"] == "other"), "v7"] = np.nan  # in none of the complete rows, whatever the seed
    assert ((f["race"] == "other") & f["v0"].notna()).any()
    check(f)


def absent(f):
    return f.assign(v0=f["v0"].where(f["race"] != "other"))


def test_a_level_never_seen_beside_the_response_is_left_out_by_default():
    f = absent(rare())
    data = bi.IncompleteData(f, "g")
    c = conditionals(data)
    check_conditionals(c, data)
    block = c.blocks[0]
    assert "race[other]" not in [column.name for column in block.fixed] and "race[black]" in str(block.fixed)
    assert any("merged with the first level: 'race[other]'" in note for note in block.notes)
    assert "race[other]" in [column.name for column in c.blocks[1].fixed]


def test_a_level_never_seen_beside_the_response_is_refused_in_a_formula():
    f = absent(rare())
    both = int((f["v0"].notna() & f["race"].notna()).sum())
    message = (
        rf"'race\[other\]' is constant \(0\) in the {both} rows where it and 'v0' are observed.*"
        "Merge that level with another in the table, or drop all of 'race'"
    )
    refused(message, f, "v0 ~ age + race + (1 | g)")
    # each piece of advice can be followed
    check(f, "v0 ~ age + (1 | g)")
    check(f.assign(race=f["race"].cat.rename_categories(str).astype(object).replace("other", "asian")))
    check(f, "v0 ~ age + race + (1 | g)", {"v0": NORMAL})


def test_a_complete_factor_with_a_level_absent_from_the_response():
    rng = np.random.default_rng(5)
    f = table().assign(land=lambda f: rng.choice(["a", "b", "c"], len(f)))
    f = seen_only(f, "y1", f["land"] != "c")
    data = bi.IncompleteData(f, "g")
    assert "land[c]" not in str(conditionals(data).blocks[0].fixed)
    f = seen_only(
        table().assign(land=f["land"]), "y1", f["land"] != "a"
    )  # the first level, which the intercept has
    c = conditionals(bi.IncompleteData(f, "g"))
    assert "land[b]" in str(c.blocks[0].fixed) and "land[c]" not in str(c.blocks[0].fixed)
    check(f)
    refused("drop all of 'land'", f, "y1 ~ land + (1 | g)")


def shared_level(open_rows: bool) -> pd.DataFrame:
    """Two factors with a rare level in the same two rows; open_rows: each is missing once where y is observed."""
    rng = np.random.default_rng(3)
    f = pd.DataFrame({"g": np.repeat(np.arange(6), 20), "y": rng.normal(size=120)})
    f["a"], f["b"] = rng.choice(["p", "q"], 120), rng.choice(["s", "t"], 120)
    f.loc[[5, 50], ["a", "b"]] = ["rare", "odd"]
    f.loc[[7, 90, 100], "y"] = np.nan
    f.loc[100, ["a", "b"]] = None
    if open_rows:
        f.loc[3, "a"], f.loc[4, "b"] = None, None
    return f


FORMULAS = {"y": "~ a + b + (1 | g)", "a": "~ 1 + (1 | g)", "b": "~ 1 + (1 | g)"}


def test_levels_that_are_the_same_rows_are_refused_where_nothing_is_open():
    refused(
        r"'b\[t\]' is a combination of other predictors \(.*in the 117 rows where they and 'y'",
        shared_level(False),
        FORMULAS,
    )


def test_what_is_open_before_sampling_is_not_refused_and_an_event_names_the_column():
    check(shared_level(True), FORMULAS)
    data = bi.IncompleteData(shared_level(True), "g")
    model = bi.FCS(data, {"y": "norm", "a": "glm", "b": "glm"}, {"y": "~ a + b", "a": "~ 1", "b": "~ 1"})
    events = model.impute(2, cycles=3, seed=1, progress=False).events
    (held,) = events[events["kind"] == "coefficient held"].to_dict("records")
    assert held["where"] == "y ~ b[t]" and 1 <= held["count"] <= 2 * 3


def test_a_predictor_seen_in_fewer_rows_than_there_are_complete_columns():
    """Its coefficient rests on three rows, those of the others on all: few, but not a combination."""
    f = table().assign(w=lambda f: f["x"] ** 2, v=lambda f: f["x"] ** 3)
    keep = f.index[f["y1"].notna() & f["y2"].notna()][[0, 20, 40]]
    f.loc[f.index.difference(keep), "y2"] = np.nan
    check(f, {"y1": ["x", "w", "v", "sex", "y2"], "y2": ["x"], "y3": ["x"]})


# --- cluster means and columns within clusters in the observed rows


def one_cluster(seed=0) -> pd.DataFrame:
    """x varies within one cluster only, in which y is missing."""
    rng = np.random.default_rng(seed)
    g = np.repeat(np.arange(30), 10)
    x = np.where(g == 4, rng.normal(size=300), rng.normal(size=30)[g])
    f = pd.DataFrame(
        {"g": g, "x": x, "z": rng.normal(size=300), "y": rng.normal(size=300) + x, "v": rng.normal(size=300)}
    )
    f.loc[(g == 4) | (rng.random(300) < 0.2), "y"] = np.nan
    f.loc[rng.random(300) < 0.2, "v"] = np.nan
    return f


@pytest.mark.parametrize(
    "options", [{}, {"compatible": True}, {"methods": "ml"}, {"blocks": {"both": ["y", "v"]}}]
)
def test_automatic_means_that_equal_their_variable_where_it_counts_are_left_out(options):
    data = bi.IncompleteData(one_cluster(), "g")
    model = bi.FCS(data, **options)
    names = [column.name for column in model.spec.blocks[0].fixed]
    assert "x" in names and "cluster_mean(z)" in names and "cluster_mean(x)" not in names
    assert any("left out: 'cluster_mean(x)'" in note for note in model.spec.blocks[0].notes)
    imp = model.impute(2, cycles=3, seed=1, progress=False)
    assert np.isfinite(imp.values("y")).all() and np.abs(imp.values("y")).max() < 30


def test_the_same_by_where_and_ignore():
    rng = np.random.default_rng(1)
    f = one_cluster().assign(y=lambda f: f["x"] + rng.normal(size=300))
    f.loc[rng.random(300) < 0.2, "y"] = np.nan
    rows = f["g"].to_numpy() == 4
    data = bi.IncompleteData(f, "g")
    assert "cluster_mean(x)" in bi.FCS(data).formulas[0]
    for options in ({"ignore": rows}, {"where": {"y": rows | f["y"].isna().to_numpy()}}):
        model = bi.FCS(data, **options)
        assert "cluster_mean(x)" not in model.formulas[0]
        assert np.abs(model.impute(2, cycles=3, seed=1, progress=False).values("y")).max() < 30


@pytest.mark.parametrize(
    "formula, column",
    [
        ("y ~ x + cluster_mean(x) + z{}", "cluster_mean(x)"),
        ("y ~ cluster_mean(x) + z + x{}", "cluster_mean(x)"),
        ("y ~ within(x) + z{}", "within(x)"),
        ("y ~ x + within(x) + z{}", "within(x)"),
        ("y ~ v + cluster_mean(v) + cluster_sum(v){}", "cluster_(v)"),
    ],
)
@pytest.mark.parametrize("method", ["bayes", "ml", "norm"])
def test_means_and_within_that_the_user_asked_for_are_refused_by_name(formula, column, method):
    random = "" if method == "norm" else " + (1 | g)"
    column = column.replace("_(", "_mean(" if method == "bayes" else "_sum(")  # the other is kept
    refused(rf"'y' \({method}\): .*'{re.escape(column)}' is .*Drop '{re.escape(column)}' from the predictors of 'y'",
            one_cluster(), formula.format(random), method)  # fmt: skip


def test_random_columns_that_are_combinations_are_refused_by_name():
    refused(
        r"random part has 'I\(2 \* v\)'.*remove it from \(... \| g\)",
        one_cluster(),
        "y ~ x + v + (1 + v + I(2 * v) | g)",
    )


def test_fewer_rows_than_coefficients():
    f = table()
    keep = f.index[f[["y1", "y2", "y3"]].notna().all(axis=1)][[0, 1, 40, 60]]
    f.loc[f.index.difference(keep), "y1"] = np.nan
    refused("observed in 4 rows of . clusters, too few for its 5 coefficients", f, {"y1": ["x", "size", "y2", "y3"]},
            {"y1": "norm"})  # fmt: skip


# --- clusters


def test_fewer_observed_clusters_than_random_effects():
    f = table()
    f = seen_only(f, "y1", f["g"] < 2)
    refused(
        r"has 2 random effects \('Intercept', 'x'\) and is observed in 2 clusters; 3 are needed",
        f,
        "y1 ~ x + (1 + x | g)",
    )
    (event,) = check(f, "y1 ~ x + (1 | g)")
    assert event.kind == "prior matters" and event.where == "Psi[y1]" and event.count == 2
    (event,) = check(f, "y1 ~ x + (1 | g)", {"y1": "ml"})
    assert "prefer 'bayes'" in event.message
    two = me.Bayes(pr.Priors(Psi=pr.Fixed(np.eye(2))))
    assert check(f, "y1 ~ x + (1 + x | g)", {"y1": two}) == []


def test_observed_in_one_cluster():
    f = table()
    f = seen_only(f, "y1", f["g"] == 3)
    given = {"y1": ["x"], "y2": ["x"], "y3": ["x"]}
    bayes = {"y1": "bayes"}
    refused(
        r"'y1' is observed in 1 of 12 clusters \(3, \d+ rows\).*'norm'.*Fixed",
        f,
        given,
        bayes,
        error=DataError,
    )
    assert check(f, given) == check(f, given, {"y1": "norm"}) == []
    assert check(f, given, {"y1": FIXED}) == []


def test_more_between_cluster_columns_than_clusters():
    f = table()
    f = seen_only(f, "y1", f["g"] < 4)
    message = "5 columns vary only between clusters .* observed in 4 clusters"
    refused(message, f, "y1 ~ size + y2 + y3 + x + (1 | g)", methods=FLAT, compatible=True)
    kinds = [e.where for e in check(f, "y1 ~ size + y2 + y3 + x + (1 | g)", compatible=True)]
    assert not any("cluster_mean" in where for where in kinds)  # their coefficients are shrunk
    (_, event) = check(f, "y1 ~ size + y2 + cluster_mean(y2) + cluster_mean(y3) + (1 | g)", FLAT)
    assert event.kind == "prior only" and event.where == "Psi[y1]"
    kinds = [e.where for e in check(f, "y1 ~ size + y2 + y3 + x + (1 | g)", NORMAL, compatible=True)]
    assert any(where.startswith("y1 ~ cluster_mean") for where in kinds)
    # the slope of x differs between clusters too: each cluster informs it once
    f = seen_only(table(), "y1", f["g"] < 3)
    refused(
        "4 columns vary only between clusters",
        f,
        "y1 ~ x + x:cluster_mean(y2) + x:cluster_mean(y3) + x:size + x:cluster_mean(size) + (1 + x | g)",
    )


def test_cluster_mean_collinear_with_a_column_of_clusters():
    f = table()
    f = f.assign(y2=f["y2"] - f.groupby("g")["y2"].transform("mean") + 2 * f["size"])
    refused(
        r"'cluster_mean\(y2\)' is a combination of the other columns that vary only between clusters",
        f,
        "y1 ~ y2 + size + cluster_mean(y2) + (1 | g)",
    )


def test_cluster_mean_seen_in_few_clusters():
    f = table()
    f = seen_only(f, "y2", f["g"] < 2)
    events = check(f, {"y1": "~ y2 + size + cluster_mean(y2) + (1 | g)", "y2": ["x"]}, {"y1": FLAT})
    assert [e.kind for e in events] == ["prior matters", "prior matters"] and "imputed values" in events[
        0
    ].message


def test_slope_of_what_does_not_vary_in_clusters():
    f = table()
    refused(
        "'size' has one value in every cluster and cannot have a random slope",
        f,
        "y1 ~ size + (1 + size | g)",
    )
    f["z"] = np.where(f["g"] == 0, f["x"], f["size"])
    refused("'z' varies, where 'y1' is observed, within 1 of 12 clusters", f, {"y1": "~ z + (1 + z | g)"})
    f["z"] = np.where(f["g"] < 3, f["x"], f["size"])
    (event,) = check(f, {"y1": "~ z + (1 + z | g)"})
    assert event.kind == "prior matters" and event.count == 3


# --- responses


def test_response_of_clusters():
    f = table().assign(y1=lambda f: f["size"].where(f["g"] < 9))
    bayes = {"y1": "bayes"}
    refused(
        "'y1' has one value in each of the 9 clusters.*'2lonly'", f, {"y1": ["x"]}, bayes, error=DataError
    )


def test_constant_response():
    f = table().assign(y1=lambda f: f["y1"].where(f["y1"].isna(), 4.0))
    refused("'y1' is 4 wherever it is observed", f, error=DataError)
    refused("'y1' is 4 wherever", f, methods="pmm", error=DataError)


def test_one_row_in_each_cluster():
    f = table()
    f = seen_only(f, "y1", ~f["g"].duplicated()).assign(
        y1=lambda f: f["x"].where(~f["g"].duplicated()) * 2 + f["size"] ** 2
    )
    refused("at most one row of each cluster", f, {"y1": ["y2"]}, {"y1": "ml"}, error=DataError)
    assert ("prior only", "Psi[y1]") in {(e.kind, e.where) for e in check(f, {"y1": ["y2"]})}


def test_pmm_needs_donors():
    refused("fewer than the 1000 donors", table(), methods=me.PMM(1000))


def test_block_is_checked_for_each_response():
    f = table()
    f = seen_only(f, "y3", f["sex"] == "M")
    refused(
        r"'y3' \(bayes\).*Drop 'sex\[M\]' from the predictors of 'b'",
        f,
        {"b": "~ x + sex + y2 + (1 | g)"},
        blocks={"b": ["y1", "y3"]},
    )


# --- derived columns


def test_derived_without_finite_value():
    refused(
        r"'log\(y2\)' has no finite value in \d+ of 180 rows",
        table(),
        "y1 ~ log(y2) + (1 | g)",
        error=DataError,
    )
    refused("'r' has no finite value in 146 of 180", table(), derived={"r": "x / (y1 - y1)"}, error=DataError)


def test_derived_at_odds_with_the_table():
    f = table().assign(r=lambda f: f["y1"] * f["x"])
    f.loc[f.index[f["y1"].notna()][:3], "r"] += 0.5
    f.loc[f.index[f["y1"].isna()][:2], "r"] = 1.0
    odd, unused = check(f, derived={"r": "y1 * x"})
    assert (odd.kind, odd.count) == ("derived", 3) and "by up to 0.5" in odd.message
    assert (unused.kind, unused.count) == ("derived", 2) and "its ingredients are not" in unused.message


# --- invariances


def outcome(frame, **options):
    try:
        return [(e.kind, e.where, e.count) for e in check(frame, **options)]
    except (DataError, SpecificationError) as error:
        return str(error).split("(first")[0]


def frames():
    f = table()
    return [
        f,
        seen_only(f, "y1", f["sex"] == "M"),
        seen_only(f, "y1", f["g"] < 3),
        seen_only(f, "y1", f["g"] == 3),
    ]


@pytest.mark.parametrize("which", range(4))
def test_order_of_rows_and_labels_do_not_matter(which):
    f = frames()[which]
    shuffled = f.sample(frac=1, random_state=4).reset_index(drop=True)
    for options in ({}, {"methods": NORMAL}, {"methods": "ml", "compatible": True}):
        assert outcome(f, **options) == outcome(shuffled, **options)


@pytest.mark.parametrize("which", range(4))
def test_units_do_not_matter(which):
    f = frames()[which]
    scaled = f.assign(x=f["x"] * 1e5, y2=f["y2"] * 1e-5 + 3, size=f["size"] * 100)
    for options in ({}, {"methods": NORMAL}, {"methods": "ml", "compatible": True}):
        assert outcome(f, **options) == outcome(scaled, **options)


def test_dependent_against_ranks():
    """A column is dependent if it does not raise the rank of those before it."""
    rng = np.random.default_rng(0)
    for _ in range(50):
        X = rng.normal(size=(12, 6)) * 10.0 ** rng.integers(-5, 5, 6)
        for j in range(1, 6):
            if rng.random() < 0.4:
                X[:, j] = X[:, :j] @ rng.normal(size=j)
        scaled = X / np.linalg.norm(X, axis=0)
        ranks = [np.linalg.matrix_rank(scaled[:, :j], tol=1e-9) for j in range(1, 7)]
        np.testing.assert_array_equal(dependent(X), np.diff([0, *ranks]) == 0)


def test_two_stages_of_clusters_with_one_value_each_are_refused():
    f = table()[["g", "x"]]
    f["y1"] = np.where(f["g"] % 2, 1.0, 0.0)
    f.loc[::5, "y1"] = np.nan
    data = bi.IncompleteData(f, "g", {"y1": "bernoulli"})
    with pytest.raises(
        SpecificationError, match=r"0 of its 12 clusters can be fitted .*and both values occur"
    ):
        check_conditionals(conditionals(data, {"y1": "2stage"}), data)
    mixed = f.assign(y1=f["y1"].where(f["g"] > 2, 1 - f["y1"].where(f.index % 2 == 0, 1 - f["y1"])))
    data = bi.IncompleteData(mixed, "g", {"y1": "bernoulli"})
    check_conditionals(conditionals(data, {"y1": "2stage"}), data)  # three clusters have both
