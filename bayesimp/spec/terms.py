"""What may stand in a formula: the functions known, and checks of terms that say what to write instead."""

from __future__ import annotations

from bayesimp.spec.syntax import Call, Minus, Name, Node, Number, Op, Text, error, walk, write

__all__ = ["ELEMENTWISE", "FACTOR", "FUNCTIONS", "STATEFUL", "check_names", "check_term"]

ELEMENTWISE = ("log", "log1p", "log2", "log10", "exp", "expm1", "sqrt", "abs")
STATEFUL = ("center", "scale", "standardize", "poly", "bs", "cr", "cc", "tp")  # the result needs all rows
FACTOR = ("C", "T", "S")
CODING = ("Treatment", "Sum")  # only inside C(...)
WITH_OPTIONS = (*FACTOR, "poly", "bs", "cr", "cc", "tp")
FUNCTIONS = ("I", *ELEMENTWISE, *(f"np.{name}" for name in ELEMENTWISE), *STATEFUL, *FACTOR)


def check_term(node: Node, text: str, also: tuple[str, ...] = ()) -> None:
    """Refuse what is not a term; ``also`` names functions known besides `FUNCTIONS`.

    Raises
    ------
    SpecificationError
        Saying how to write what was probably meant.
    """
    match node:
        case Name():
            return
        case Call():
            return _check_call(node, text, also)
        case Op("*" | ":", left, right):
            for side in (left, right):
                check_term(side, text, also)
        case Op("+", left, right):
            for side in (left, right):
                check_term(side, text, also)
        case Op("**", Op("+", left, right), Number(value)) if isinstance(value, int) and value >= 1:
            for side in (left, right):
                check_term(side, text, also)
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
            raise error(text, f"{value} is not a term: 1 and 0 stand alone, for intercept or none")
        case _:
            raise error(text, f"'{write(node)}' is not a term; write I({write(node)}) for arithmetic")


def _check_call(node: Call, text: str, also: tuple[str, ...]) -> None:
    name = node.function
    if name == "offset":
        raise error(
            text,
            "offset() is not possible here. In an analysis with family= name its column by offset='...'; of a normal "
            "response subtract it in the table; in the imputation of counts put the log of the exposure among the "
            "predictors",
        )
    if name not in FUNCTIONS and name not in also:
        known = f"possible are {', '.join((*FUNCTIONS, *also))}"
        if name in ("within", "cluster_mean", "cluster_sum"):
            known = "only models of imputation have it; in an analysis, make the column in a function given to analyse()"
        raise error(text, f"{name}() is not known here; {known}")
    if not node.arguments or ((len(node.arguments) > 1 or node.keywords) and name not in WITH_OPTIONS):
        raise error(text, f"{name}() takes one column or expression")
    if not any(isinstance(inner, Name) for inner in walk(node.arguments[0])):
        raise error(text, f"'{write(node)}' names no column")
    if name in FACTOR and not isinstance(node.arguments[0], Name):
        raise error(text, f"{name}() takes a column, not '{write(node.arguments[0])}'")
    for option in (*node.arguments[1:], *(value for _, value in node.keywords)):
        _check_option(option, name, text)
    for inner in walk(node.arguments[0]):
        if isinstance(inner, Call):
            if inner.function in (*FACTOR, "poly", "bs", "cr", "cc", "tp"):
                raise error(
                    text, f"{inner.function}() gives several columns and cannot stand inside {name}()"
                )
            _check_call(inner, text, also)
        elif (
            isinstance(inner, Op)
            and inner.symbol == "**"
            and not any(isinstance(n, Name) for n in walk(inner))
        ):
            # numbers are raised as Python integers, without bound: 9**9**9**9 would never end
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
    raise error(text, f"{function}(): '{write(option)}' is not possible as an option")


def check_names(terms: list[tuple[str, Node]], text: str) -> None:
    """formulae knows a term by its text without parentheses, and would keep one of two that share it."""
    spellings: dict[str, str] = {}
    for call in (n for _, node in terms for n in walk(node) if isinstance(n, Call)):
        short, full = write(call, brackets=False), write(call)
        if spellings.setdefault(short, full) != full:
            raise error(text, f"'{full}' and '{spellings[short]}' would share a name; make one in the table")
