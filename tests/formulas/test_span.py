"""Polynomials of columns: read from formulas, and compared with columns made of numbers."""

from functools import cache

import numpy as np
import pandas as pd
import pytest

from bayesimp.formulas.design import design
from bayesimp.formulas.formula import parse
from bayesimp.formulas.span import Reader, contains, lacking, spelled, terms, written

RNG = np.random.default_rng(1)
CLUSTERS = np.repeat(np.arange(12), RNG.integers(3, 9, 12))
N = len(CLUSTERS)
FRAME = pd.DataFrame(
    {
        "x": RNG.normal(2, 1, N), "w": RNG.normal(1, 1, N), "z": RNG.gamma(2, 1, N),
        "two": RNG.integers(0, 2, N), "sex": RNG.choice(["f", "m"], N),
    }
)  # fmt: skip
LINEAR = {"two", "sex"}
POOL = (
    "x", "w", "x:w", "I(x * w)", "I(x**2)", "I((x + 2 * w)**2)", "x:I(x + 1)", "within(x)", "cluster_mean(x)", "scale(x)",
    "scale(x):w", "center(w)", "I(x / 3 - w)", "log(z)", "I(log(z) / 2)", "poly(w, 2)", "two", "I(two**2)", "two:x",
    "sex", "within(x):w", "cluster_sum(x)", "cluster_size()", "w:cluster_mean(x)", "I(1 / z)", "I(x / z)",
)  # fmt: skip


@cache
def columns(text: str) -> np.ndarray:
    """(N, .) the columns of a term in the table, standardised."""
    made = design(parse(f"~ 1 + {text}"), FRAME, codes=CLUSTERS).X[:, 1:]
    return (made - made.mean(axis=0)) / made.std(axis=0)


def by_numbers(have: list[str], column: str) -> bool:
    """Whether the columns of a term lie in the span of others, in a table."""
    X, y = np.column_stack([columns(text) for text in have]), columns(column)
    return np.abs(y - X @ np.linalg.lstsq(X, y, rcond=1e-9)[0]).max() < 1e-6


@pytest.mark.parametrize("seed", range(60))
def test_columns_contain_what_their_numbers_contain(seed):
    """In general position: polynomials that are independent are so in a table with random numbers."""
    rng = np.random.default_rng(seed)
    have = list(rng.choice(POOL, rng.integers(1, 7), replace=False))
    reader = Reader({}, LINEAR)
    span = reader.part(" + ".join(["1", *have]))
    for text in POOL:
        (term,) = terms(f"1 + {text}")
        assert (not lacking(span, reader.columns(term))) == by_numbers(have, text), (have, text)


def test_what_is_lacking_is_spelled_as_a_formula():
    reader = Reader({"bmi": "weight / height**2"}, ())
    span = reader.part("1 + x + bmi")
    lacks = lacking(span, reader.columns(terms("1 + I((x + w)**2)")[0]))
    assert sorted(map(spelled, lacks)) == ["I(w ** 2)", "I(x ** 2)", "w:x"]
    assert not lacking(span, reader.columns(terms("1 + I(weight / height**2)")[0]))
    assert written(terms("1 + x * `a b`")[2]) == "x:`a b`"


def test_within_clusters_a_mean_is_a_constant():
    inner, whole = Reader({}, by_cluster=True), Reader({})
    (x,) = inner.columns(terms("1 + x")[0])
    assert contains(inner.part("1 + within(x)"), x)
    assert not contains(whole.part("1 + within(x)"), x)
    assert contains(whole.part("1 + within(x) + cluster_mean(x)"), x)
