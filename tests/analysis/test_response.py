"""Responses that do not fit the family are refused, or reported, with a call that works."""

from __future__ import annotations

import re
import warnings

import numpy as np
import pandas as pd
import pytest

import bayesimp
import bayesimp as bi

N = 160
G = np.repeat(range(10), 16)
RNG = np.random.default_rng(0)
X = RNG.normal(size=N)
CUT = np.digitize(X + RNG.normal(size=N), [-0.7, 0.7])
VALUES = {
    "text": np.array(["no", "yes"], dtype=object)[np.minimum(CUT, 1)],
    "category": pd.Categorical.from_codes(np.minimum(CUT, 1), ["yes", "no"]),
    "three": np.array(["a", "b", "c"], dtype=object)[CUT],
    "ordered": pd.Categorical.from_codes(CUT, ["low", "mid", "high"], ordered=True),
    "unused": pd.Categorical.from_codes(np.where(CUT == 1, 2, CUT), ["a", "b", "c"]),
}
FORMULA = "v ~ x + z + (1 | g)"


def imputed(values) -> bi.Imputations:
    z = np.where(RNG.random(N) < 0.2, np.nan, X + RNG.normal(size=N))
    frame = pd.DataFrame({"g": G, "x": X, "z": z, "v": values})
    return bi.FCS(bi.IncompleteData(frame, "g"), predictors={"z": "z ~ x + (1 | g)"}).impute(
        m=2, cycles=1, seed=1, progress=False
    )


def run(call: str, **names):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return eval(call, {"bayesimp": bayesimp, **names})


@pytest.mark.parametrize("kind", VALUES)
@pytest.mark.parametrize("own", [True, False], ids=["imputations", "tables"])
def test_the_call_of_the_error_fits_a_binary_model(kind, own):
    imp = imputed(VALUES[kind])
    tables = [imp.frame(k) for k in range(2)]
    with pytest.raises(
        bi.DataError, match=r"the response 'v' has . levels .*; a normal model needs numbers"
    ) as caught:
        imp.analyse(FORMULA) if own else bi.fit_each(tables, FORMULA)
    *others, call = re.findall(
        r"((?:imp\.analyse|bayesimp\.fit_each)\([^=]*?(?:\[t\.assign.*?)?family='\w+'[^)]*\))",
        str(caught.value),
    )
    for other in others:
        assert run(other, imp=imp, tables=tables).names[:2] == ("low|mid", "mid|high")
    fits = run(call, imp=imp, tables=tables)
    event = {"text": "yes", "category": "no", "three": "c", "ordered": "high", "unused": "c"}[kind]
    is_event = (pd.Series(VALUES[kind]) == event).to_numpy()
    again = bi.fit_each([t.assign(v=is_event) for t in tables], FORMULA, family="bernoulli", cluster="g")
    assert np.allclose(fits.estimates, again.estimates, atol=1e-6)
    assert len(others) == (kind == "ordered")
    assert ("MNLogit" in str(caught.value)) == (kind == "three")


@pytest.mark.parametrize("family, needs", [("poisson", "numbers"), ("bernoulli", "two")])
def test_other_families(family, needs):
    with pytest.raises(
        bi.DataError, match=rf"has 3 levels .*a {family} model needs {needs}. If they have an order"
    ):
        imputed(VALUES["three"]).analyse(FORMULA, family=family)


def test_numbers_as_text_and_dates():
    with pytest.raises(
        bi.DataError, match=re.escape("table['v'] = pandas.to_numeric(table['v'], errors='coerce')")
    ):
        imputed(X.astype(str)).analyse(FORMULA)
    dates = pd.Timestamp("2020-01-01") + pd.to_timedelta(CUT, "D")
    with pytest.raises(bi.DataError, match=r"type datetime64.*2020-01-01") as caught:
        imputed(dates).analyse(FORMULA)
    names = {"table": pd.DataFrame({"v": dates})}
    exec(str(caught.value).partition("before imputing: ")[2].rstrip("."), names)
    assert set(names["table"]["v"]) == {0, 1, 2}


COUNT = RNG.poisson(2, N)
NORMAL = {  # analysed as normal: what the event says, and the family that its call has
    "bool": (CUT > 0, None, "two values"),
    "zero and one": (np.minimum(CUT, 1), None, "two values"),
    "one and two": (np.minimum(CUT, 1) + 1, None, "two values"),
    "counts": (COUNT, "poisson", "imputed as poisson"),
    "scores": (CUT, "ordinal", "as if these were equally far apart"),
    "undeclared": (COUNT, None, ""),
    "number": (X + RNG.normal(size=N), None, ""),
}


@pytest.mark.parametrize("kind", NORMAL)
def test_a_normal_analysis_of_other_responses_is_an_event(kind):
    values, family, said = NORMAL[kind]
    z = np.where(RNG.random(N) < 0.2, np.nan, X + RNG.normal(size=N))
    data = bi.IncompleteData(
        pd.DataFrame({"g": G, "x": X, "z": z, "v": values}), "g", families={"v": family} if family else None
    )
    imp = bi.FCS(data, predictors={"z": "z ~ x + (1 | g)"}).impute(m=2, cycles=1, seed=1, progress=False)
    events = run("imp.analyse(f)", imp=imp, f=FORMULA).log
    found = [event for event in events if event.kind == "family"]
    assert [event.where for event in found] == ["v"] * bool(said)
    if not said:
        return
    assert said in found[0].message
    if kind != "scores":
        call = found[0].message[found[0].message.index("For ") :].partition(": ")[2]
        fits = run(call, imp=imp)
        assert not [event for event in fits.log if event.kind == "family"]
        scale = np.log(COUNT.mean()) if kind == "counts" else np.log((CUT > 0).mean() / (CUT == 0).mean())
        assert abs(fits.pool().to_frame().set_index("term").loc["Intercept", "estimate"] - scale) < 0.7
