"""`MultilevelImputer`: scikit-learn's contract, with and without scikit-learn."""

import sys

import numpy as np
import pandas as pd
import pytest

import bayesimp as bi

RNG = np.random.default_rng(0)
G = np.repeat(np.arange(10), 15)


def _table():
    x = RNG.normal(size=len(G)) + 3
    frame = pd.DataFrame(
        {"g": G, "x": x, "w": x + RNG.normal(size=len(G)), "sex": RNG.choice(["f", "m"], len(G))}
    )
    target = 2 * x + RNG.normal(size=len(G))
    frame.loc[RNG.random(len(G)) < 0.2, "x"] = np.nan
    return frame, target


TABLE, TARGET = _table()
NEW = pd.DataFrame({"g": [3, 77], "x": [np.nan, np.nan], "w": [np.nan, 5.0], "sex": ["f", "m"]})
SMALL = {"m": 3, "draws": 30, "random_state": 1}


def test_it_is_the_model_and_its_transform():
    imputer = bi.MultilevelImputer("g", "x + w ~ sex + (1 | g)", number=2, **SMALL)
    assert imputer.fit(TABLE, TARGET) is imputer
    model = bi.JointNormal(bi.IncompleteData(TABLE, "g"), "x + w ~ sex + (1 | g)")
    imp = model.impute(3, seed=1, draws=30, progress=False)
    pd.testing.assert_frame_equal(
        imputer.transform(NEW), imp.transform(NEW, seed=1).frame(2), check_exact=True
    )
    own = bi.MultilevelImputer("g", "x + w ~ sex + (1 | g)", number=2, **SMALL).fit_transform(TABLE, TARGET)
    pd.testing.assert_frame_equal(own, imp.frame(2), check_exact=True)
    assert imputer.impute(NEW).m == 3
    assert list(imputer.feature_names_in_) == list(imputer.get_feature_names_out()) == list(TABLE.columns)
    assert imputer.n_features_in_ == 4


def test_the_default_formula_has_all_normal_variables_on_the_left():
    imputer = bi.MultilevelImputer("g", **SMALL).fit(TABLE)
    assert str(imputer.model_.formula) == "x + w ~ sex + (1 | g)"
    with pytest.raises(bi.SpecificationError, match="'sex' is not normal"):
        bi.MultilevelImputer("g", **SMALL).fit(TABLE.assign(sex=TABLE["sex"].where(TABLE["x"].notna())))


def test_parameters():
    imputer = bi.MultilevelImputer("g", m=3)
    assert imputer.get_params()["m"] == 3 and imputer.get_params(deep=False)["cluster"] == "g"
    assert imputer.set_params(m=5, number=4) is imputer and (imputer.m, imputer.number) == (5, 4)
    assert repr(imputer) == "MultilevelImputer(cluster='g', m=5, number=4)"
    with pytest.raises(bi.SpecificationError, match=r"'numbr' is not a parameter.*Did you mean 'number'"):
        imputer.set_params(m=1, numbr=2)
    assert imputer.m == 5
    with pytest.raises(bi.SpecificationError, match="number must be from 0 to m - 1 = 4"):
        imputer.set_params(number=5).fit(TABLE)


def test_before_fit():
    for call in (
        lambda i: i.transform(NEW), lambda i: i.impute(NEW), lambda i: i.get_feature_names_out(),
    ):  # fmt: skip
        with pytest.raises(bi.SpecificationError, match="not fitted yet"):
            call(bi.MultilevelImputer("g"))


def test_scikit_learn_is_not_loaded():
    if "sklearn" not in sys.modules:
        bi.MultilevelImputer("g", **SMALL).fit(TABLE).transform(NEW)
        assert "sklearn" not in sys.modules


def test_in_a_pipeline_of_scikit_learn():
    pytest.importorskip("sklearn")
    from sklearn.base import clone
    from sklearn.compose import make_column_transformer
    from sklearn.linear_model import LinearRegression
    from sklearn.model_selection import GridSearchCV
    from sklearn.pipeline import make_pipeline

    imputer = bi.MultilevelImputer("g", **SMALL)
    assert clone(imputer).get_params() == imputer.get_params()
    pipe = make_pipeline(imputer, make_column_transformer(("passthrough", ["x", "w"])), LinearRegression())
    pipe.fit(TABLE, TARGET)
    completed = imputer.fit(TABLE).imputations_.frame(0)
    by_hand = LinearRegression().fit(completed[["x", "w"]].to_numpy(), TARGET)
    np.testing.assert_allclose(pipe[-1].coef_, by_hand.coef_, rtol=1e-10)
    new = imputer.transform(NEW)[["x", "w"]].to_numpy()
    np.testing.assert_allclose(pipe.predict(NEW), by_hand.predict(new), rtol=1e-10)
    search = GridSearchCV(pipe, {"multilevelimputer__number": [0, 1]}, cv=2, error_score="raise")
    assert np.isfinite(search.fit(TABLE, TARGET).best_score_)
    assert list(pipe[:1].get_feature_names_out()) == list(TABLE.columns)
