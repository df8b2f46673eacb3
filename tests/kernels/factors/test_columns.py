"""Columns as programs of the kernels, against the same formulas computed by NumPy, and how they depend on a variable."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bayesimp.formulas.arithmetic import Indicator, Product, expression, over_clusters
from bayesimp.formulas.columns import Column, Derived, cluster_column
from bayesimp.joint.glmm.programs import NONLINEAR, Compiler, degree
from bayesimp.kernels.factors.columns import FUNCTIONS, MEAN, OPERATORS, all_columns, all_means

NAMES = "abc"
CODES = np.repeat([0, 1, 2], [4, 1, 5])
FIRST = np.array([0, 4, 5, 10])
rng = np.random.default_rng(5)
VALUES = {"a": rng.normal(size=10), "b": rng.gamma(2.0, size=10), "c": rng.integers(0, 3, 10).astype(float)}
VALUES["c"][:2] = VALUES["a"][:2]  # so that == and <= have ties


class Base:
    """Base columns a, b, c, all of which change, and what is derived from them."""

    complete: dict = {}
    incomplete = tuple(NAMES)

    def __init__(self, **derived):
        self.derived = {
            name: Derived(name, tuple(made.names) if hasattr(made, "names") else (made.name,), made)
            for name, made in derived.items()
        }

    def roots(self, name):
        return (
            frozenset().union(*map(self.roots, self.derived[name].ingredients))
            if name in self.derived
            else {name}
        )


class Unchecked(Compiler):
    """Domains are tested in tests/joint/glmm/test_specification.py."""

    def _above(self, node, bound, or_equal=False):
        return True


def computed(columns, base, values=VALUES):
    """(n, columns) by the kernels, and the compiler that made the programs."""
    compiler = Unchecked(None, base)
    for name in NAMES:
        compiler.register(name)
    tokens = [compiler.column(column, "") for column in columns]
    V = np.column_stack([values[name] for name in compiler.variables])
    sums = [sum for _, sum in compiler.means]
    divisor = np.column_stack(
        [np.ones(3) if sum else np.diff(FIRST).astype(float) for sum in sums] or [np.empty((3, 0))]
    )
    M, X = np.zeros((3, len(sums))), np.empty((len(V), len(columns)))
    all_means(compiler.programs(compiler.averaged), divisor, V, FIRST, M)
    all_columns(compiler.programs(tokens), V, M, CODES, np.arange(len(V)), X)
    return X, compiler, tokens


def column(text, values=VALUES):
    made = expression(text, text)
    return computed([Column("d", "d")], Base(d=made), values)[0][:, 0], made(values)


@pytest.mark.parametrize("symbol", OPERATORS)
@pytest.mark.parametrize(
    "pair", ["a{}c", "(b){}(a)", "c{}a", "b{}2", "b{}0.5", "2{}b", "(0*a){}(0*b)", "a{}(c*0)"]
)
def test_operators(symbol, pair):
    """NaN ** 0 is 1 for the kernels: nothing is NaN while a chain runs."""
    text = pair.format(f" {symbol} ")
    if symbol == "**" and pair in ("c{}a", "a{}c", "(b){}(a)", "(0*a){}(0*b)"):
        text = text.replace("a", "b")
    np.testing.assert_allclose(*column(text), rtol=1e-14)


@pytest.mark.parametrize("function", [*sorted(set(FUNCTIONS) - {"minus"}), "-"])
@pytest.mark.parametrize("argument", ["a", "b", "c", "a - 1", "1000 * b", "-1000 * b"])
def test_functions(function, argument):
    made, expected = column(f"{function}({argument})")
    np.testing.assert_allclose(made, expected, rtol=1e-14)


def test_domains_have_no_other_values_than_numpy():
    edges = {"a": np.array([-1.0, 0.0, -0.0, -2.0, 1e-320, 800.0, -800.0, 1.0, -1e-300, 1e308]), **{
        name: VALUES[name] for name in "bc"}}  # fmt: skip
    for text in (
        "log(a)",
        "log1p(a)",
        "log2(a)",
        "log10(a)",
        "sqrt(a)",
        "exp(a)",
        "expm1(a)",
        "1 / a",
        "a**2",
        "a**3",
    ):
        made, expected = column(text, edges)
        np.testing.assert_allclose(made, expected, rtol=1e-13, err_msg=text)


def test_products_indicators_and_means():
    a, b, c = (VALUES[name] for name in NAMES)
    base = Base(ab=Product(("a", "b")), is1=Indicator("c", 1.0, 0.5), log=expression("log(b)", ""),
                both=Product(("ab", "is1")))  # fmt: skip
    mean = lambda x, sum=False: over_clusters(x, CODES, sum=sum)  # noqa: E731
    one = (np.abs(c - 1.0) < 0.5).astype(float)
    cases = {
        Column("ab", "ab"): a * b, Column("is1", "is1"): one, Column("both", "both"): a * b * one,
        Column("w", "a", within=True): a - mean(a), Column("w2", "log", within=True): np.log(b) - mean(np.log(b)),
        Column("w3", "both", within=True): a * b * one - mean(a * b * one),
        cluster_column("Intercept", ("Intercept", "a"), False): mean(a),
        cluster_column("b", ("a", "c"), False): b * mean(a * c),
        cluster_column("both", ("Intercept", "log"), True): a * b * one * mean(np.log(b), True),
        cluster_column("Intercept", ("Intercept", "is1"), True): mean(one, True),
    }  # fmt: skip
    X, compiler, _ = computed(list(cases), base)
    np.testing.assert_allclose(X, np.column_stack(list(cases.values())), rtol=1e-12, atol=1e-14)
    assert len(compiler.means) == 6  # the mean of a twice, kept once; the mean of log(b) is not its sum


def test_the_wrong_cluster_or_the_wrong_divisor_would_be_seen():
    X, _, _ = computed([Column("w", "a", within=True)], Base())
    assert np.abs(X[:, 0] - (VALUES["a"] - over_clusters(VALUES["a"], np.roll(CODES, 1)))).max() > 0.01
    assert np.abs(X[:, 0] - (VALUES["a"] - over_clusters(VALUES["a"], CODES, sum=True))).max() > 0.01


# -- degree --------------------------------------------------------------------------------------------------

LEAVES = st.sampled_from(["a", "b", "c", "(a - 0.5)", "(2 * b)", "(c / 3)"])


def _grown(inner):
    return st.one_of(
        st.tuples(inner, st.sampled_from(["+", "-", "*", "/", ">"]), inner).map(lambda t: f"({t[0]} {t[1]} {t[2]})"),
        st.tuples(st.sampled_from(["exp", "log1p", "abs", "-"]), inner).map(lambda t: f"{t[0]}({t[1]})"),
        inner.map(lambda t: f"({t})**2"),
    )  # fmt: skip


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.recursive(LEAVES, _grown, max_leaves=6))
def test_degree_against_differences(text):
    """Second differences in a variable vanish where the degree is 1, first ones where it is 0."""
    made = expression(text, text)
    compiler = Unchecked(None, Base(d=made))
    for name in NAMES:
        compiler.register(name)
    tokens = compiler.column(Column("d", "d"), "")
    for k, name in enumerate(NAMES):
        found = degree(tokens, k, lambda e: 0)
        if found == NONLINEAR:
            continue
        at = [made(VALUES | {name: VALUES[name] + h}) * np.ones(10) for h in (-0.7, 0.0, 0.7)]
        size = 1e-9 * (1.0 + np.abs(at).max())
        if np.isfinite(at).all():
            assert np.abs(at[2] - at[0]).max() <= size if found == 0 else True
            assert np.abs(at[2] - 2 * at[1] + at[0]).max() <= size


@pytest.mark.parametrize(
    "text, of_a, of_b",
    [
        ("a + b", 1, 1),
        ("a * b", 1, 1),
        ("a * a", 2, 0),
        ("a**2", 2, 0),
        ("a / b", 1, 2),
        ("a / 2 - b", 1, 1),
        ("exp(b) * a", 1, 2),
        ("-a * 3", 1, 0),
        ("a > 1", 2, 0),
        ("abs(a)", 2, 0),
        ("(a + b) * (a - b)", 2, 2),
        ("b / (1 + a)", 2, 1),
        ("a * b * c", 1, 1),
    ],
)
def test_degree_of_known_formulas(text, of_a, of_b):
    compiler = Unchecked(None, Base(d=expression(text, text)))
    for name in NAMES:
        compiler.register(name)
    tokens = compiler.column(Column("d", "d"), "")
    assert (degree(tokens, 0, lambda e: 0), degree(tokens, 1, lambda e: 0)) == (of_a, of_b)


def test_degree_through_means():
    base = Base(sq=expression("a**2", ""))
    columns = [
        Column("w", "a", within=True), cluster_column("a", ("Intercept", "a"), False),
        cluster_column("b", ("Intercept", "sq"), False), cluster_column("b", ("Intercept", "a"), True), Column("b", "b"),
    ]  # fmt: skip
    _, compiler, tokens = computed(columns, base)
    of_mean = [degree(inner, 0, lambda e: 0) for inner in compiler.averaged]
    assert [degree(t, 0, of_mean.__getitem__) for t in tokens] == [1, 2, 2, 1, 0]
    assert all(any(code == MEAN for code, _ in t) for t in tokens[:4])
