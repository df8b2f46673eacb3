"""Reading formulas: what is understood, what is refused, and that no code is ever run."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bayesimp.errors import SpecificationError
from bayesimp.formulas.formula import RandomTerm, parse, plain_terms, signed
from bayesimp.formulas.syntax import Call, Level, Minus, Name, Number, Op, Text, read, write
from bayesimp.formulas.terms import FUNCTIONS


@pytest.mark.parametrize(
    "text, responses, fixed, random",
    [
        ("y1 + y2 ~ 1 + sex + age + (1 + age | g)", ("y1", "y2"), "1 + sex + age", [("1 + age", "g", True)]),
        ("y ~ x", ("y",), "1 + x", []),
        ("~ x - 1 + (0 + x || g)", (), "0 + x", [("0 + x", "g", False)]),
        ("y ~ x + -1", ("y",), "0 + x", []),
        ("y ~ (1 | g)", ("y",), "1", [("1", "g", True)]),
        ("y ~ (x | g)", ("y",), "1", [("1 + x", "g", True)]),
        ("y ~ a * b - a:b", ("y",), "1 + a * b - a:b", []),
        ("y ~ (a + b) * c", ("y",), "1 + (a + b) * c", []),
        ("y ~ (a + b)**2", ("y",), "1 + (a + b) ** 2", []),
        ("y ~ I(-x**2) + I(2e-3*x)", ("y",), "1 + I(-(x ** 2)) + I(0.002 * x)", []),
        ("y ~ C(g, Treatment('b')) + poly(x, 2)", ("y",), '1 + C(g, Treatment("b")) + poly(x, 2)', []),
        ("y ~ class + cbc.int", ("y",), "1 + class + cbc.int", []),
        (
            "`my y` ~ log(`a b`) + (1 | `the school`)",
            ("my y",),
            "1 + log(`a b`)",
            [("1", "`the school`", True)],
        ),
        ("y ~ (1 | a/b)", ("y",), "1", [("1", "a", True), ("1", "a:b", True)]),
        ("y ~ (1 | a:b) + (1 | c)", ("y",), "1", [("1", "a:b", True), ("1", "c", True)]),
    ],
)
def test_parts(text, responses, fixed, random):
    formula = parse(text)
    assert formula.responses == responses
    assert formula.fixed == fixed
    assert formula.random == tuple(RandomTerm(*term) for term in random)


def test_grouping():
    single = parse("y ~ x + (1 + x || `my school`)")
    assert (single.cluster, single.single_grouping, single.independent) == ("my school", True, True)
    crossed = parse("y ~ x + (1 | g) + (1 | h)")
    assert (crossed.cluster, crossed.single_grouping, crossed.groups) == (None, False, ("g", "h"))
    nested = parse("y ~ (1 | a/b)")
    assert (nested.cluster, nested.single_grouping, nested.groups) == (None, False, ("a", "b"))
    twice = parse("y ~ (1 | g) + (0 + x | g)")
    assert (twice.cluster, twice.single_grouping) == ("g", False)


def test_uses_of_columns():
    formula = parse("y ~ a*b + log(x) + C(k) + I(s == 'M') + x + (1 + z | g)")
    assert formula.variables == ("a", "b", "x", "k", "s", "z")
    assert formula.uses["x"] == {"number", "column"}
    assert (formula.uses["k"], formula.uses["s"], formula.uses["z"]) == ({"factor"}, {"factor"}, {"column"})


@pytest.mark.parametrize(
    "text, stateful",
    [("y ~ scale(x)", True), ("y ~ x + (1 + log(center(x)) | g)", True), ("y ~ log(x) + C(g)", False)],
)
def test_stateful(text, stateful):
    assert parse(text).stateful is stateful


@pytest.mark.parametrize(
    "text, message",
    [
        ("y", "one ~"),
        ("y ~ x ~ z", "one ~"),
        (3, "is not a formula"),
        ("y ~", "a name is missing"),
        ("y ~ (x", "is missing"),
        ("y ~ x z", "'z' is unexpected"),
        ("y ~ x**2", r"I\(x \*\* 2\)"),
        ("y ~ x^2", r"I\(x\*\*2\)"),
        ("y ~ x/z", "a \\+ a:b"),
        ("y ~ 3*x", "3 is not a term"),
        ("y ~ -x", r"I\(-x\)"),
        ("y ~ x + y", "both sides"),
        ("y ~ x + (1 | y)", "both sides"),
        ("y + y ~ x", "named twice"),
        ("log(y) ~ x", "make it in the table"),
        ("y ~ x + (1 | g):z", "inside another term"),
        ("y ~ x | g", r"\(x \| g\)"),
        ("y ~ x - (1 | g)", "leave it out"),
        ("y ~ (1 | g + h)", "is not a group"),
        ("y ~ .", "all other columns"),
        ("y ~ offset(x)", "offset="),
        ("y ~ bs(x, knots=[1])", "df="),
        ("y ~ {x + 1}", r"I\(\.\.\.\)"),
        ("y ~ log(x, z)", "takes one column"),
        ("y ~ log()", "takes one column"),
        ("y ~ log(poly(x, 2))", "several columns"),
        ("y ~ poly(x, z)", "not allowed as an option"),
        ("y ~ I(2)", "names no column"),
        ("y ~ C(x + 1)", "takes a column"),
        ("y ~ I((x + z)*2) + I(x + z*2)", "have the same name"),
        ("y ~ I(x**(9**9**9))", "write the number"),
        ("y ~ " + "(" * 200 + "x" + ")" * 200, "nesting"),
        ("y ~ I(" + "+".join("x" * 9000) + ")", "nested too deeply"),
        ("y ~ " + "x" * 30_000, "longer than"),
    ],
)
def test_refusals_say_what_to_write(text, message):
    with pytest.raises(SpecificationError, match=message):
        parse(text)


@pytest.mark.parametrize(
    "code",
    [
        "__import__('os')", "eval('1')", "os.system('true')", "x.sum()", "np.load('f')", "exec(x)",
        "lambda: 1", "(lambda x: x)(x)", "[x for x in y]", "x if x else z", "x.__class__",
        "I(__import__('os'))", "f'{x}'",
        "C(x, open('f'))", "log(x=open('f'))", "I(x := 1)", "np.log.__class__(x)",
    ],
)  # fmt: skip
def test_code_is_refused_or_a_name(code):
    try:
        formula = parse(f"y ~ {code}")
    except SpecificationError:
        return
    # 'x.__class__' is a column of that name, as 'cbc.int' is in tables from R; nothing is looked up on x
    assert formula.variables == (code,)


def test_thousand_terms():
    formula = parse("y ~ " + " + ".join(f"x{i}" for i in range(1000)))
    assert len(formula.variables) == 1000


def test_plain_terms():
    def plain(text):
        return plain_terms(signed(read(text)))

    assert plain("1 + x + `a b` + x") == (True, ("x", "a b"))
    assert plain("0") == (False, ())
    for text in ("1 + log(x)", "1 + a:b", "1 + x - x"):
        assert plain(text) is None


SIGNS = " .,-+*/:|%~`'\"\\[](){}=<>^&\n_1axéß日²"
ODD = st.text(st.sampled_from(SIGNS), max_size=8) | st.sampled_from(
    ["log", "class", "C", "True", "cluster_mean"]
)
names = (st.sampled_from(["x", "z", "a b", "_p", "log", "True", "Treatment", "."]) | ODD).map(Name)
numbers = st.one_of(st.integers(0, 99), st.floats(1e-6, 1e6)).map(Number)
levels = st.builds(Level, names | st.builds(Call, st.just("C"), st.tuples(names)), ODD)
trees = st.recursive(
    names | numbers | levels | ODD.map(Text),
    lambda inner: st.one_of(
        st.builds(Op, st.sampled_from(["+", "-", "*", "/", ":", "**"]), inner, inner),
        st.builds(Minus, inner),
        st.builds(Call, st.just("log"), st.tuples(inner)),
    ),
    max_leaves=8,
)


@given(trees)
@settings(max_examples=300, deadline=None)
def test_written_text_reads_back_as_the_same_tree(tree):
    call = Call("I", (tree,))
    assert read(write(call)) == call


@given(st.lists(ODD, min_size=5, max_size=5, unique=True), ODD)
@settings(max_examples=100, deadline=None)
def test_formulas_read_back_with_any_names(columns, level):
    """The printed formula is the same formula: responses, variables, groups."""
    y, x, z, g, h = (write(Name(name)) for name in columns)
    factor = write(Level(Name(columns[2]), level))
    text = f"{y} ~ {x}*{z} + {factor} + log({x}) + cluster_mean({x}:{factor}) + (1 + {factor} | {g}/{h})"
    formula = parse(text)
    assert (formula.responses, formula.groups) == ((columns[0],), (columns[3], columns[4]))
    assert set(formula.variables) == set(columns[1:3])
    random = " + ".join(f"({term.columns} | {term.group})" for term in formula.random)
    again = parse(f"{write(Name(columns[0]))} ~ {formula.fixed} + {random}")
    assert (again.fixed, again.random, again.uses) == (formula.fixed, formula.random, formula.uses)


@pytest.mark.parametrize(
    "text, tree",
    [
        (r"`a\`b`", Name("a`b")),
        (r"`a\\`", Name("a\\")),
        (r"`C:\new`", Name(r"C:\new")),  # only backticks and backslashes are escaped
        ("sex[M]", Level(Name("sex"), "M")),
        ("`a b`[low income (2)]", Level(Name("a b"), "low income (2)")),
        ('c["a]b"]', Level(Name("c"), "a]b")),
        (r'c["a\"b"]', Level(Name("c"), 'a"b')),
        ("C(ward)[2]", Level(Call("C", (Name("ward"),)), "2")),
        ("poly(x, 2)[1]", Level(Call("poly", (Name("x"), Number(2))), "1")),
    ],
)
def test_names_and_levels(text, tree):
    assert read(text) == tree == read(write(tree))


@pytest.mark.parametrize(
    "text, message",
    [
        ("y ~ `a b", "the second ` of a name is missing"),
        ("y ~ I(x == 'a)", "the second ' of a text is missing"),
        ("y ~ log(x)[1]", r"log\(\) has no levels; c\[level\] takes a column or C, T, S, poly"),
        ("y ~ (x + z)[1]", "follows a name"),
        ("y ~ I(x:z)", "write '\\*' for a product"),
        ("y ~ Intercept + x", "a column cannot be called 'Intercept'.*rename"),
        ("y ~ (1 + Intercept | g)", "a column cannot be called 'Intercept'.*rename"),
        (
            "y ~ clustermean(x)",
            r"did you mean cluster_mean\(\)\? possible functions are I, log, .*cluster_mean, cluster_sum, within",
        ),
        ("y ~ cluster_size(x)", "takes no argument; it is the number of rows of the cluster"),
        ("y ~ cluster_mean(within(x))", r"within\(\) cannot be used inside cluster_mean\(\)"),
    ],
)
def test_refusals_of_names_levels_and_functions(text, message):
    with pytest.raises(SpecificationError, match=message):
        parse(text)


def test_every_function_says_what_it_is_and_every_error_lists_it():
    with pytest.raises(SpecificationError) as caught:
        parse("y ~ fourier(x)")
    for name, function in FUNCTIONS.items():
        assert function.meaning and (name.startswith("np.") or f" {name}" in str(caught.value)), name


operands = st.sampled_from(["x", "2", "-x", "(x - 2)", "-(2)"])
steps = st.tuples(st.sampled_from(["+", "-", "*", "/", "**", "<", "=="]), operands)


@given(operands, st.lists(steps, min_size=1, max_size=4))
@settings(max_examples=200, deadline=None)
def test_arithmetic_is_that_of_python(first, rest):
    if sum(operator in ("<", "==") for operator, _ in rest) > 1:
        return  # Python chains comparisons: a < b < c
    text = first + "".join(f" {operator} {operand}" for operator, operand in rest)
    try:
        expected = complex(eval(text, {"x": 3.0}))
    except ArithmeticError:
        return
    np.testing.assert_equal(complex(_value(read(f"I({text})").arguments[0])), expected)


def _value(node):
    match node:
        case Name():
            return 3.0
        case Number(value):
            return value
        case Minus(argument):
            return -_value(argument)
        case Op(symbol, left, right):
            return eval(f"a {symbol} b", {"a": _value(left), "b": _value(right)})
    raise TypeError(node)


def test_power_binds_tighter_than_sign():
    assert _value(read("I(-x ** 2 ** 0)").arguments[0]) == -3.0
