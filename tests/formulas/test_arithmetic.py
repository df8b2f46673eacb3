"""Arithmetic on columns: computed as in Python, and only arithmetic."""

import pickle

import numpy as np
import pytest

from bayesimp.errors import SpecificationError
from bayesimp.formulas.arithmetic import Product, expression

X = {"a": np.array([1.0, 2.5, -3.0]), "b": np.array([[2.0, 0.5, 4.0], [1.0, -1.0, 7.0]])}


@pytest.mark.parametrize(
    "text",
    ["a + b * 2", "-a**2", "(a - b) / b", "2**b - -3", "a**-1", "(a > 1) * b + (b <= 0.5)", "a == b", "a != 1",
     "abs(a) + exp(b) - sqrt(abs(b))", "np.log(abs(b)) + log1p(abs(a))", "a - b - 1", "a / b / 2", "2**a**2", "1e-3 * b"],
)  # fmt: skip
def test_as_python(text):
    functions = {name: getattr(np, name) for name in ("abs", "exp", "sqrt", "log1p")}
    expected = eval(text, {"np": np, **functions, **X})
    made = expression(text, text)
    np.testing.assert_allclose(made(X), np.asarray(expected, dtype=float), rtol=1e-15)
    assert made(X).dtype == np.float64 and set(made.names) <= set(X)
    again = pickle.loads(pickle.dumps(made))  # an FCS run is saved
    assert again == made
    np.testing.assert_array_equal(expression(str(made), text)(X), made(X))


def test_no_warnings_for_values_without_result():
    with np.errstate(all="raise"):
        np.testing.assert_array_equal(
            expression("log(a)", "")({"a": np.array([-1.0, 0.0])}), [np.nan, -np.inf]
        )
        assert expression("10.0**a", "")({"a": np.array([999.0])}) == np.inf


def test_product():
    np.testing.assert_array_equal(Product(("a", "b"))(X), X["a"] * X["b"])


@pytest.mark.parametrize(
    "text, message",
    [
        ("a) + I(b", "not arithmetic"),
        ("a == 'x'", "text cannot be used in computations"),
        ("C(a)", "cannot be used inside"),
        ("center(a)", "needs all rows"),
        ("open(a)", "not known"),
        ("a.__class__ + 1 if a else 2", "not|missing"),
        ("lambda: a", "not|missing"),
        ("a[0]", "not allowed"),
        ("3 + 4", "names no column"),
        ("9**9**9 * a", "write the number"),
        ("a ~ b", "not allowed"),
        ("", "missing|takes one|names no"),
    ],
)
def test_refused(text, message):
    with pytest.raises(SpecificationError, match=message):
        expression(text, text)
