"""What a formula may contain: the list of functions, and checks of terms that say what to write instead.

`FUNCTIONS` is the list for formulas of imputation models, of analyses, and for ``derived=``.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from bayesimp.formulas.syntax import (
    ADVICE,
    Call,
    Dot,
    Level,
    Minus,
    Name,
    Node,
    Number,
    Op,
    Text,
    error,
    walk,
    write,
)
from bayesimp.messages import did_you_mean

__all__ = ["CLUSTER", "ELEMENTWISE", "FACTOR", "FUNCTIONS", "SEVERAL", "STATEFUL", "WITHIN", "Function", "check_names",
           "check_term", "possible"]  # fmt: skip


@dataclass(frozen=True)
class Function:
    """A function that formulas may use.

    Attributes
    ----------
    name, kind
        Its name and kind: ``"row"``, computed row by row; ``"rows"``, needs all rows and may give several columns;
        ``"factor"``, levels; ``"cluster"``, over the rows of a cluster.
    takes
        Its argument, in words; empty if it has none.
    meaning
        What it returns, in words.
    options
        Whether further arguments are allowed.
    """

    name: str
    kind: str
    takes: str
    meaning: str
    options: bool = False


_ROW = {
    "log": "natural logarithm", "log1p": "log(1 + x)", "log2": "logarithm to base 2", "log10": "logarithm to base 10",
    "exp": "exponential", "expm1": "exp(x) - 1", "sqrt": "square root", "abs": "absolute value",
}  # fmt: skip
_LIST = (
    Function("I", "row", "arithmetic on columns", "its value: I(x**2), I(x > 10)"),
    *(Function(name, "row", "a column or arithmetic", meaning) for name, meaning in _ROW.items()),
    *(Function(f"np.{name}", "row", "a column or arithmetic", meaning) for name, meaning in _ROW.items()),
    Function("center", "rows", "a column or arithmetic", "the value minus its mean"),
    Function(
        "scale",
        "rows",
        "a column or arithmetic",
        "the value minus its mean, divided by its standard deviation",
    ),
    Function("standardize", "rows", "a column or arithmetic", "the same"),
    Function("poly", "rows", "a column or arithmetic", "orthogonal polynomial", True),
    Function("bs", "rows", "a column or arithmetic", "B-splines", True),
    Function("cr", "rows", "a column or arithmetic", "natural cubic spline", True),
    Function("cc", "rows", "a column or arithmetic", "cyclic cubic spline", True),
    Function("tp", "rows", "a column or arithmetic", "thin plate spline", True),
    Function("C", "factor", "a column", "its levels as categories: C(ward), C(arm, Treatment('b'))", True),
    Function("T", "factor", "a column", "the same, with treatment contrasts", True),
    Function("S", "factor", "a column", "the same, with sum-to-zero contrasts", True),
    Function(
        "cluster_mean", "cluster", "a column or a product of two", "its mean over the rows of the cluster"
    ),
    Function(
        "cluster_sum", "cluster", "a column or a product of two", "its sum over the rows of the cluster"
    ),
    Function("within", "cluster", "a column", "the column minus its mean in the cluster"),
    Function("cluster_size", "cluster", "", "number of rows of the cluster"),
)
FUNCTIONS = {function.name: function for function in _LIST}


def _of(kind: str) -> tuple[str, ...]:
    return tuple(f.name for f in _LIST if f.kind == kind and not f.name.startswith("np."))


ELEMENTWISE = _of("row")[1:]
STATEFUL = _of("rows")  # the result needs all rows
FACTOR = _of("factor")
WITHIN = "within"
CLUSTER = _of("cluster")
SEVERAL = (*FACTOR, *(f.name for f in _LIST if f.kind == "rows" and f.options))  # give several columns
CODING = ("Treatment", "Sum")  # allowed only inside C(...)


def possible(kinds: Iterable[str] = ("row", "rows", "factor", "cluster")) -> str:
    """The functions, for messages: ``I, log, ..., cluster_mean, cluster_sum, within, cluster_size``."""
    return ", ".join(name for kind in kinds for name in _of(kind))


def check_term(node: Node, text: str) -> None:
    """Refuse anything that is not a term.

    Raises
    ------
    SpecificationError
        The node is not a term; the message says how to write what was probably meant.
    """
    match node:
        case Name("Intercept"):
            raise error(
                text,
                "a column cannot be called 'Intercept', the name of the constant of all models (write 1 or 0 for it); "
                "rename it in the table",
            )
        case Name():
            return
        case Level(Name() | Call() as factor, _):
            return _check_level(factor, node, text)
        case Call():
            return _check_call(node, text)
        case Op("*" | ":", left, right):
            for side in (left, right):
                check_term(side, text)
        case Op("+", left, right):
            for side in (left, right):
                check_term(side, text)
        case Op("**", Op("+", left, right), Number(value)) if isinstance(value, int) and value >= 1:
            for side in (left, right):
                check_term(side, text)
        case Op("**"):
            raise error(text, f"'{write(node)}' is not a power here; write I({write(node)})")
        case Op("/"):
            raise error(
                text, f"write 'a + a:b' instead of '{write(node)}', or I({write(node)}) for the quotient"
            )
        case Op("|" | "||"):
            raise error(
                text, f"'{write(node)}': write random terms as '+ (1 | cluster)', not inside another term"
            )
        case Number(value):
            raise error(text, f"{value} is not a term; only 1 and 0 are, for an intercept or none")
        case Dot():
            raise error(text, ADVICE["."])
        case _:
            raise error(text, f"'{write(node)}' is not a term; write I({write(node)}) for arithmetic")


def _check_level(factor: Node, node: Level, text: str) -> None:
    if isinstance(factor, Call):
        _check_call(factor, text)
        if factor.function not in SEVERAL:
            raise error(
                text,
                f"'{write(node)}': {factor.function}() has no levels; c[level] takes a column or {', '.join(SEVERAL)}",
            )


def _check_call(node: Call, text: str) -> None:
    name = node.function
    if name == "offset":
        raise error(
            text,
            "offset() is not supported here. In an analysis with family=, name its column by offset='...'; from a "
            "normal response, subtract it in the table; to impute counts, add the log of the exposure to the "
            "predictors",
        )
    known = FUNCTIONS.get(name)
    if known is None:
        hint = did_you_mean(name, FUNCTIONS, most=1, write="{}()".format, did="did")
        raise error(text, f"{name}() is not known; {hint}possible functions are {possible()}")
    if not known.takes:
        if node.arguments or node.keywords:
            raise error(text, f"{name}() takes no argument; it is the {known.meaning}")
        return
    if not node.arguments or ((len(node.arguments) > 1 or node.keywords) and not known.options):
        raise error(text, f"{name}() takes one column or expression")
    inside = list(walk(node.arguments[0]))
    if not any(map(_varies, inside)):
        raise error(text, f"'{write(node)}' names no column")
    if known.kind == "factor" and not isinstance(node.arguments[0], Name):
        raise error(text, f"{name}() takes a column, not '{write(node.arguments[0])}'")
    for option in (*node.arguments[1:], *(value for _, value in node.keywords)):
        _check_option(option, name, text)
    _check_inside(node, known, text)


def _varies(node: Node) -> bool:
    """Whether a node is what makes an expression vary between rows: a column, or the size of the cluster."""
    return isinstance(node, Name) or (isinstance(node, Call) and node.function == "cluster_size")


def _check_inside(node: Call, known: Function, text: str) -> None:
    """Refuse what cannot be used inside a function."""
    name, (argument, *_) = node.function, node.arguments
    levels = {id(n.factor) for n in walk(argument) if isinstance(n, Level)}
    for inner in walk(argument):
        match inner:
            case Call(function, _, _) if function in SEVERAL and id(inner) not in levels:
                raise error(
                    text,
                    f"{function}() gives several columns and cannot be used inside {name}(); one of them can, written "
                    f"as {function}(...)[level]",
                )
            case Call(function, _, _) if known.kind == "cluster" and function in CLUSTER:
                raise error(text, f"'{write(node)}': {function}() cannot be used inside {name}()")
            case Call():
                _check_call(inner, text)
            case Level(factor, _):
                _check_level(factor, inner, text)
            case Dot():
                raise error(text, ADVICE["."])
            case Op(":") if known.kind != "cluster":
                raise error(text, f"':' is not allowed in {name}(); write '*' for a product")
            case Op("**") if not any(map(_varies, walk(inner))):
                # Python integers are unbounded, so 9**9**9**9 would never end
                raise error(text, f"write the number '{write(inner)}' out")


def _check_option(option: Node, function: str, text: str) -> None:
    match option:
        case Number() | Text() | Minus(Number()) | Name("True" | "False" | "None"):
            return
        case Name(coding) if function == "C" and coding in CODING:
            return
        case Call(coding, arguments, ()) if function == "C" and coding in CODING and len(arguments) <= 1:
            if all(isinstance(argument, Number | Text) for argument in arguments):
                return
    raise error(text, f"{function}(): '{write(option)}' is not allowed as an option")


def check_names(terms: list[tuple[str, Node]], text: str) -> None:
    """Refuse terms that formulae would confuse, because it identifies a term by its text without parentheses."""
    spellings: dict[str, str] = {}
    for call in (n for _, node in terms for n in walk(node) if isinstance(n, Call)):
        short, full = write(call, brackets=False), write(call)
        if spellings.setdefault(short, full) != full:
            raise error(
                text, f"'{full}' and '{spellings[short]}' would have the same name; make one in the table"
            )
