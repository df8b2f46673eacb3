"""Variables of classes, where pupils are clustered in schools, are reported; chance is not; the remedies work."""

import numpy as np
import pandas as pd
import pytest

import bayesimp as bi
from bayesimp.table.other_levels import of_other_levels
from tests.unfolding import unfolded

S, C, P = 20, 8, 6


def pupils(seed=0) -> pd.DataFrame:
    """Schools of classes of pupils; hours, old and size belong to classes, score to pupils, rooms to schools."""
    rng = np.random.default_rng(seed)
    school, within = np.repeat(np.arange(S), C * P), np.tile(np.repeat(np.arange(C), P), S)
    klass, n = school * C + within, S * C * P
    f = pd.DataFrame({
        "school": school, "class": klass, "x": rng.normal(size=n), "sex": rng.choice(["F", "M"], n),
        "age": rng.integers(9, 13, n), "score": rng.normal(size=n), "hours": rng.normal(20, 4, S * C)[klass],
        "old": rng.choice(["a", "b"], S * C).astype(object)[klass], "size": rng.integers(10, 40, S * C)[klass] * 1.0,
        "rooms": rng.normal(size=S)[school],
    })  # fmt: skip
    f.loc[np.isin(klass, rng.choice(S * C, 50, replace=False)), "hours"] = np.nan
    f.loc[school % 5 == 1, "rooms"] = np.nan
    for name in ("score", "old", "size"):
        f.loc[rng.random(n) < 0.15, name] = np.nan
    return f


def found(model):
    return {event.where: event for event in model.events if event.kind == "another level"}


LABELS = {
    "unique": lambda f: f["class"],
    "again in every school": lambda f: f["class"] % C,
    "text": lambda f: "c" + f["class"].astype(str),
    "missing at times": lambda f: f["class"].where(f["x"] < 1),
}


@pytest.mark.parametrize("labels", LABELS)
def test_variables_of_classes_are_told_however_classes_are_labelled(labels):
    f = pupils()
    f["class"] = LABELS[labels](f)
    model = bi.FCS(bi.IncompleteData(f, "school"))
    events = found(model)
    assert set(events) == {"hours", "old", "size"}  # not the scores of pupils, not the rooms of schools
    assert "groups of 'class'" in events["hours"].message and events["hours"].count == 0
    group = f.groupby(["school", "class"], dropna=True)["old"].transform("count")
    assert events["old"].count == int((f["old"].isna() & (group > 0)).sum())
    assert "note: old" in unfolded(str(model))


JOINT = {
    "JointNormal": lambda data: bi.JointNormal(data, "score + hours ~ x + (1 | school)"),
    "several factors": lambda data: bi.JointNormal(data, "score + hours ~ x + (1 | school) + (1 | sex)"),
    "JointLatent": lambda data: bi.JointLatent(data, "score + hours + rooms ~ x + (1 | school)"),
    "JointLatent, residual": lambda data: bi.JointLatent(data, "score + hours ~ x + (1 | school)", residual="cluster"),
    "JointGLMM": lambda data: bi.JointGLMM(data, "score ~ x + hours + rooms + (1 | school)"),
    "FCS, analysis": lambda data: bi.FCS(data, analysis="score ~ x + hours + rooms + (1 | school)"),
}  # fmt: skip


@pytest.mark.parametrize("engine", JOINT)
def test_of_other_engines_too(engine):
    frame = pupils()[["school", "class", "x", "score", "hours", "rooms", "sex"]]
    columns = ["school", "sex"] if engine == "several factors" else "school"
    assert set(found(JOINT[engine](bi.IncompleteData(frame, columns)))) == {"hours"}


def test_without_it_classes_are_damaged_and_the_cures_are_cures():
    f = pupils().drop(columns=["old", "size", "rooms"])
    rows = bi.FCS(bi.IncompleteData(f, "school")).impute(1, cycles=3, seed=1, progress=False).frame(0)
    assert (rows.groupby("class")["hours"].nunique() > 1).sum() == f.groupby("class")["hours"].count().eq(
        0
    ).sum()
    # a table of classes
    classes = f.groupby(["school", "class"], as_index=False)[["x", "hours"]].mean()
    model = bi.FCS(bi.IncompleteData(classes, "school"))
    assert not found(model)
    done = model.impute(1, cycles=3, seed=1, progress=False).frame(0)
    merged = f.drop(columns="hours").merge(done[["class", "hours"]], on="class")
    assert (merged.groupby("class")["hours"].nunique() == 1).all()
    # the class as cluster
    model = bi.FCS(bi.IncompleteData(f.astype({"school": str}), "class"))
    assert not found(model)
    done = model.impute(1, cycles=3, seed=1, progress=False).frame(0)
    assert (done.groupby("class")["hours"].nunique() == 1).all()


def test_no_false_alarm():
    """Rare values, counts, short scales, small groups, repeated measures: no event in 60 tables of 4 variables."""
    for seed in range(60):
        rng = np.random.default_rng(seed)
        n = 200
        f = pd.DataFrame({
            "g": np.repeat(np.arange(20), 10), "a": rng.integers(0, 30, n), "b": rng.choice(list("abcdefgh"), n),
            "wave": np.tile(np.arange(5), 40), "rare": (rng.random(n) < 0.03) * 1.0, "count": rng.poisson(0.2, n) * 1.0,
            "normal": rng.normal(size=n), "scale": rng.integers(1, 5, n) * 1.0,
        })  # fmt: skip
        f.loc[f["g"] < 17, "rare"] = 0.0  # of clusters, nearly
        for name in f.columns[4:]:
            f.loc[rng.random(n) < 0.2, name] = np.nan
        assert of_other_levels(bi.IncompleteData(f, "g"), f.columns[4:]) == []


def schools(**columns) -> bi.IncompleteData:
    """20 schools of 10 pupils; the last school lacks every value of the columns."""
    f = pd.DataFrame(
        {"g": np.repeat(np.arange(20), 10), "x": np.random.default_rng(1).normal(size=200), **columns}
    )
    f.loc[f["g"] == 19, list(columns)] = None
    return bi.IncompleteData(f, "g")


def kinds(data: bi.IncompleteData, name: str) -> dict[str, str]:
    """Messages of the events of every engine about a variable, which are the same, by kind."""
    numeric = data.variable(name).distribution.name == "normal"
    models = [
        bi.FCS(data),
        bi.JointLatent(data, f"x + {name} ~ 1 + (1 | g)"),
        bi.JointGLMM(data, f"x ~ {name} + (1 | g)"),
    ]
    models += [bi.JointNormal(data, f"x + {name} ~ 1 + (1 | g)")] if numeric else []
    found = [
        {
            e.kind: e.message
            for e in m.events
            if e.where == name and e.kind in ("nearly one value", "levels without rows")
        }
        for m in models
    ]
    assert all(each == found[0] for each in found)
    return found[0]


def test_one_deviating_value_of_a_cluster_level_variable_is_reported():
    size = np.random.default_rng(2).normal(size=20)[np.repeat(np.arange(20), 10)]
    assert bi.FCS(schools(size=size)).events == []  # imputed once in each school
    size[[33, 71]] += 1.0
    message = kinds(schools(size=size), "size")["nearly one value"]
    assert (
        "in 17 of the 19 clusters" in message
        and "but several in 3, 7." in message
        and "set them to missing" in message
    )


def test_categories_without_rows_are_reported():
    rng = np.random.default_rng(3)
    grade = pd.Categorical(rng.choice(list("ab"), 200), list("abcd"))
    assert (
        "'c', 'd' of its categories are never observed"
        in kinds(schools(grade=grade), "grade")["levels without rows"]
    )
    assert kinds(schools(grade=pd.Categorical(rng.choice(list("ab"), 200))), "grade") == {}


def test_a_state_that_changes_now_and_then_is_no_variable_of_the_clusters():
    """Persons observed three times, four of five in one state throughout."""
    rng = np.random.default_rng(4)
    state = np.repeat(rng.choice(["no", "yes"], 200), 3).astype(object)
    changed = np.arange(2, 600, 15)
    state[changed] = np.where(state[changed] == "no", "yes", "no")
    f = pd.DataFrame({"g": np.repeat(np.arange(200), 3), "state": state, "x": rng.normal(size=600)})
    f.loc[rng.random(600) < 0.1, "state"] = None
    assert bi.FCS(bi.IncompleteData(f, "g")).events == []


def test_answers_under_another_name_are_determined():
    """It was said to have another level, "in each of the groups of 'number'"."""
    rng = np.random.default_rng(5)
    number = rng.integers(0, 3, 400).astype(float)
    f = pd.DataFrame({
        "g": np.repeat(np.arange(40), 10), "number": number, "x": rng.normal(size=400),
        "text": pd.Series(np.array(["low", "some", "high"], object)[number.astype(int)]),
    })  # fmt: skip
    f.loc[rng.random(400) < 0.2, ["number", "text"]] = None
    f.loc[:4, "text"] = None
    events = {e.where: e for e in of_other_levels(bi.IncompleteData(f, "g"), ["number", "text"])}
    assert {e.kind for e in events.values()} == {"determined"}
    both = int(f[["number", "text"]].notna().all(axis=1).sum())
    message = events["text"].message
    assert f"'number' determines 'text' in all {both} rows" in message
    known = int((f["text"].isna() & f["number"].notna()).sum())
    assert 0 < known == events["text"].count - int((f["text"].isna() & f["number"].isna()).sum())
    assert f"{known} of its {events['text'].count} missing values follow" in message
    scope = {"table": f.copy()}
    exec(message[message.index("table['text'] =") :], scope)
    made = scope["table"]["text"]
    assert (made.isna() == f["number"].isna()).all()
    assert (made == f["text"])[f["text"].notna()].all()
    awkward = bi.IncompleteData(f.rename(columns={"text": "patient's text"}), "g")
    assert 'table["patient\'s text"] = table[' in of_other_levels(awkward, ["patient's text"])[0].message
    assert "follow from" not in events["number"].message  # it is missing only where the text is


@pytest.mark.parametrize("how", ["one row differs", "numbers groups", "by chance"])
def test_what_is_not_determined(how):
    rng = np.random.default_rng(6)
    f = pd.DataFrame({"g": np.repeat(np.arange(40), 10), "u": rng.integers(0, 3, 400).astype(float)})
    if how == "numbers groups":
        f["u"] = (f["g"] * 5 + np.arange(400) % 5).astype(float)
    f["v"] = np.array(["a", "b", "c"], object)[(f["u"] % 3).astype(int)]
    if how == "one row differs":
        f.loc[7, "v"] = "a" if f.loc[7, "v"] == "b" else "b"
    if how == "by chance":
        f = f[f["g"] < 3].iloc[::7].reset_index(drop=True)
    f.loc[f.index % 9 == 1, "v"] = None
    kinds = [e.kind for e in of_other_levels(bi.IncompleteData(f, "g"), ["v"])]
    assert kinds == (["another level"] if how == "numbers groups" else [])
