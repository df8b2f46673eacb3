"""Ratios that diverge: bmi from incomplete heights and weights, in a circle through what it predicts.

bmi predicts y, and y predicts height and weight: if a height comes near 0, bmi can be anything, so y, so the next height.
That bmi itself predicts height is refused before the run. Diverging chains end anywhere, so no test fixes their
numbers: most tables have heights more than twenty standard deviations outside the observed ones.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import bayesimp as bi
from bayesimp.errors import SpecificationError

DERIVED = {"bmi": "weight / (height / 100)**2"}
M, N = 10, 400


def children() -> pd.DataFrame:
    """Heights in cm of children of all ages, half of all values missing."""
    rng = np.random.default_rng(1)
    g = np.repeat(np.arange(20), N // 20)
    height = 100 * np.exp(np.log(1.1) + 0.35 * rng.normal(size=N) + 0.1 * rng.normal(size=20)[g])
    bmi = np.exp(np.log(18) + 0.25 * rng.normal(size=N))
    y = -0.6 * bmi + 0.2 * height + 2 * rng.normal(size=N)
    table = pd.DataFrame({"g": g, "height": height, "weight": bmi * (height / 100) ** 2, "y": y})
    for name in ("height", "weight", "y"):
        table.loc[rng.random(N) < 0.5, name] = np.nan
    return table


def impute(**options) -> bi.Imputations:
    model = bi.FCS(bi.IncompleteData(children(), "g"), derived=DERIVED, **options)
    return model.impute(M, cycles=100, seed=1, progress=False)


def outside(imp: bi.Imputations, name: str) -> np.ndarray:
    """(M,): by table, how many standard deviations of the observed values the farthest imputed one is beyond these."""
    seen, values = children()[name].dropna(), imp.values(name)
    return np.maximum(values - seen.max(), seen.min() - values).max(axis=1) / seen.std()


def far(imp: bi.Imputations) -> pd.DataFrame:
    return imp.events[imp.events["kind"] == "far outside"].set_index("where")


def test_the_event_says_what_has_happened_and_what_cures_it():
    imp = impute()
    beyond = outside(imp, "height")
    assert (beyond > 20).sum() >= M / 2 and beyond.max() > 200
    events = far(imp)
    assert {"height", "weight", "y"} <= set(events.index)
    message = events.loc["height", "message"]
    assert f"in {(beyond > 5).sum()} of {M} tables" in message
    seen, values = children()["height"].dropna(), imp.values("height")
    limits = seen.min() - 5 * seen.std(), seen.max() + 5 * seen.std()
    assert events.loc["height", "count"] == ((values < limits[0]) | (values > limits[1])).sum()
    assert "'height' -> 'bmi' -> 'y' -> 'height'" in message
    assert "Leave one of these predictors out of its formula, or give them bounds=" in message
    assert "blocks=" not in message  # a block of height and weight does not help: see below


SIZES = {"height": "~ weight + (1 | g)", "weight": "~ height + (1 | g)"}
CURES = {
    "bounds": {"bounds": {"height": (40, 300), "weight": (2, 200)}},
    "height and weight without y": {"predictors": SIZES},
    "y without bmi": {"predictors": {"y": "~ height + weight + (1 | g)"}},
    "a block of all three": {"blocks": {"size": ["height", "weight", "y"]}},
}


@pytest.mark.parametrize("cure", CURES)
def test_cures(cure):
    """Values drawn from a normal law reach a few standard deviations beyond the observed ones."""
    imp = impute(**CURES[cure])
    assert max(outside(imp, "height").max(), outside(imp, "weight").max()) < 5
    assert not {"height", "weight"} & set(far(imp).index)


def test_a_block_of_what_bmi_is_made_of_is_no_cure():
    imp = impute(blocks={"size": ["height", "weight"]})
    assert outside(imp, "height").max() > 20
    assert "'bmi' -> 'y'" in far(imp).loc["height", "message"]


@pytest.mark.parametrize("name, other", [("height", "weight"), ("weight", "height")])
def test_bmi_as_a_predictor_of_what_it_is_made_of_is_refused(name, other):
    """The message names the circle and what to do."""
    words = (
        rf"'bmi' is computed from '{name}', so it cannot predict '{name}': .* circle '{name}' -> 'bmi' -> '{name}', and "
        rf"imputed values run away.* Remove 'bmi' from the predictors of '{name}' and use '{other}' instead"
    )
    with pytest.raises(SpecificationError, match=words):
        bi.FCS(bi.IncompleteData(children(), "g"), derived=DERIVED, predictors={name: "~ bmi + y + (1 | g)"})
    table = children().assign(bmi=lambda f: f["weight"] / (f["height"] / 100) ** 2)
    with pytest.raises(SpecificationError, match=f"{words}, or impute 'bmi' as a separate variable"):
        bi.FCS(bi.IncompleteData(table, "g"), derived=DERIVED, predictors={name: "~ bmi + y + (1 | g)"})


def test_a_circle_through_several_computed_columns_is_named_whole():
    derived = {"metres": "height / 100", "bmi": "weight / metres**2"}
    words = r"circle 'height' -> 'metres' -> 'bmi' -> 'height'.*use 'weight' instead"
    with pytest.raises(SpecificationError, match=words):
        bi.FCS(bi.IncompleteData(children(), "g"), derived=derived, predictors={"height": "~ bmi + (1 | g)"})
    with pytest.raises(SpecificationError, match=r"'height' -> 'I\(height \*\* 2\)' -> 'height'") as caught:
        bi.FCS(bi.IncompleteData(children(), "g"), predictors={"height": "~ I(height**2) + (1 | g)"})
    assert "derived=" not in str(caught.value)


def cubes(seed=0) -> pd.DataFrame:
    """y is a cube of x and predicts it: where both are missing, x becomes about its own cube in every cycle."""
    rng = np.random.default_rng(seed)
    g = np.repeat(np.arange(12), 10)
    x = rng.normal(size=120)
    f = pd.DataFrame({"g": g, "x": x, "y": x**3 + 0.5 * rng.normal(size=120), "z": rng.normal(size=120)})
    for name in ("x", "y", "z"):
        f[name] = f[name].mask(rng.random(120) < 0.4)
    return f


@pytest.mark.parametrize("method", ["bayes", "ml", "norm"])
def test_an_error_after_values_ran_away_names_the_circle(method):
    """Wherever it ends: fixed effects that are not identified, a residual variance, a cube that is not finite."""
    model = bi.FCS(bi.IncompleteData(cubes(), "g"), method, derived={"cube": "x**3"})
    words = (
        r"^(Imputation 0, cycle \d+|'cube' is not finite).*By then, imputed values of .*'x' \(.*have run away\. They "
        r"drive each other: 'x' -> 'cube' -> 'y' -> 'x', .*Leave one of these predictors out of its formula, "
        r"or give them bounds=\.$"
    )
    with pytest.raises(bi.SamplingError, match=words):
        model.impute(1, cycles=300, seed=1, progress=False)
    imp = bi.FCS(
        bi.IncompleteData(cubes(), "g"), method, derived={"cube": "x**3"}, bounds={"x": (-4, 4)}
    ).impute(1, cycles=30, seed=1, progress=False)
    assert np.abs(imp.values("x")).max() <= 4


def test_an_error_without_values_that_ran_away_says_nothing_of_them():
    model = bi.FCS(
        bi.IncompleteData(cubes(), "g"), derived={"cube": "x**3"}, post={"z": lambda values: values[:-1]}
    )
    with pytest.raises(bi.SamplingError, match=r"post\['z'\] must return") as caught:
        model.impute(1, cycles=1, seed=1, progress=False)
    assert "run away" not in str(caught.value)
