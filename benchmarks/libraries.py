"""Other libraries for formulas and plans, compared with ours: the figures of docs/decisions.md.

    pip install formulaic msgspec pydantic
    python -m benchmarks.libraries

The libraries are not dependencies; a part whose library is missing is left out, with a note.
"""

import time
import tomllib
import warnings
from collections import Counter
from collections.abc import Callable
from typing import Annotated, Any, Literal

import numpy as np
import pandas as pd
import pytest

from bayesimp.formulas import by_formulae as ours
from bayesimp.formulas.formula import has_intercept
from bayesimp.formulas.syntax import Number, write
from bayesimp.formulas.terms import ELEMENTWISE

# the tests whose right-hand sides are compared
TESTS = ("tests/formulas", "tests/fcs/test_compose.py", "tests/fcs/test_predictor_edits.py")
PLAN = """
title = "x"
[data]
cluster = 3
[impute]
m = "60"
sed = 1
draws = true
chains = 0
sampler = "gibs"
[output]
figures = "yes"
"""


class Recorder:
    """A plugin of pytest that keeps what `by_formulae` was asked for and gave: None where it refused."""

    def __init__(self) -> None:
        self.calls: list[tuple[list, pd.DataFrame, str, np.ndarray | None]] = []
        self.real = ours.by_formulae

    def pytest_configure(self) -> None:
        def recorded(terms: list, columns: pd.DataFrame, whole: str, part: str) -> Any:
            kept = None
            try:
                made = self.real(terms, columns, whole, part)
                kept = made[0]
                return made
            finally:
                self.calls.append((terms, columns, part, kept))

        ours.by_formulae = recorded


def outcome(A: np.ndarray | None, M: np.ndarray | None) -> str:
    """How the matrix A of formulaic and ours, M, differ; None: refused."""
    refused = [name for name, X in (("formulaic", A), ("formulae", M)) if X is None]
    if A is None or M is None:
        return f"refused by {' and '.join(refused)}"
    if A.shape == M.shape and np.allclose(A, M, atol=1e-10):
        return "same matrix, same order"
    if A.shape == M.shape and all(np.isclose(M.T, a, atol=1e-8).all(axis=1).any() for a in A.T):
        return "same columns in another order"
    ranks = {int(np.linalg.matrix_rank(X)) for X in (A, M, np.column_stack([A, M]))}
    return "same space, other columns" if len(ranks) == 1 else "another space"


def formulas() -> None:
    """Design matrices of the formulas in the tests."""
    import formulaic
    from formulaic.transforms.contrasts import SumContrasts, TreatmentContrasts

    recorder = Recorder()
    pytest.main(["-q", "--no-header", *TESTS], plugins=[recorder])
    context: dict[str, Any] = {name: getattr(np, name) for name in ELEMENTWISE}
    context |= {"Treatment": TreatmentContrasts, "Sum": SumContrasts}
    found, seen = Counter[str](), set()
    for terms, columns, part, M in recorder.calls:
        if (key := (part, len(columns), tuple(columns.columns))) in seen:
            continue
        seen.add(key)
        signed = [f"{sign} {write(node)}" for sign, node in terms if not isinstance(node, Number)]
        text = " ".join(["1" if has_intercept(terms) else "0", *signed])
        try:
            made = formulaic.Formula(text).get_model_matrix(columns, context=context, na_action="raise")
            A = np.asarray(made, float)
        except Exception:  # whatever a formula raises there
            A = None
        found[outcome(A, M)] += 1
    print(f"formulaic {formulaic.__version__}: {len(seen)} pairs of formula and table")
    for what, number in found.most_common():
        print(f"  {number:4d}  {what}")


def speed() -> None:
    """Milliseconds for one design matrix of 4,000 rows, the best of 15."""
    import formulae
    import formulaic

    rng, n = np.random.default_rng(1), 4_000
    table = pd.DataFrame(
        {
            "y": 1.0,
            "a": rng.choice(list("pq"), n),
            "b": rng.choice(list("rst"), n),
            "x": rng.normal(size=n) + 5,
        }
    )
    environment = formulae.environment.Environment([{"log": np.log}])
    builders: dict[str, Callable[[], Any]] = {
        "formulae": lambda: formulae.design_matrices("1 + x*a*b + log(x)", table, env=environment).common,
        "formulaic": lambda: formulaic.Formula("1 + x*a*b + log(x)").get_model_matrix(
            table, context={"log": np.log}
        ),
    }
    for name, build in builders.items():
        took = []
        for _ in range(15):
            began = time.perf_counter()
            build()
            took.append(time.perf_counter() - began)
        print(f"  {name}: {1e3 * min(took):.1f} ms")


def plans() -> None:
    """What msgspec and pydantic say about a plan with eleven problems."""
    import msgspec
    import pydantic

    record = tomllib.loads(PLAN)

    class MsgspecImpute(msgspec.Struct, forbid_unknown_fields=True):
        m: Annotated[int, msgspec.Meta(ge=1)]
        seed: int
        chains: Annotated[int, msgspec.Meta(ge=1)] = 4
        draws: int = 1000
        sampler: Literal["auto", "gibbs", "nuts"] = "auto"

    class Strict(pydantic.BaseModel):
        model_config = pydantic.ConfigDict(extra="forbid", strict=True)

    class Impute(Strict):
        m: Annotated[int, pydantic.Field(ge=1)]
        seed: int
        chains: Annotated[int, pydantic.Field(ge=1)] = 4
        draws: int = 1000
        sampler: Literal["auto", "gibbs", "nuts"] = "auto"

    class Data(Strict):
        cluster: str

    class Output(Strict):
        figures: bool = True

    class Plan(Strict):
        title: str
        data: Data
        impute: Impute
        output: Output

    try:
        msgspec.convert(record["impute"], MsgspecImpute)
    except msgspec.ValidationError as error:
        print(f"msgspec {msgspec.__version__}: {error}")
    try:
        Plan.model_validate(record)
    except pydantic.ValidationError as error:
        print(f"pydantic {pydantic.VERSION}: {error.error_count()} problems")
        for each in error.errors():
            print(f"  {'.'.join(map(str, each['loc']))}: {each['msg']}")


def main() -> None:
    warnings.simplefilter("ignore")
    for part in (formulas, speed, plans):
        try:
            part()
        except ModuleNotFoundError as error:
            print(f"{part.__name__}: left out, {error.name} is not installed")


if __name__ == "__main__":
    main()
