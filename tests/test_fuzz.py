"""Random tables: each is completed and checked, or refused by an error of our own before sampling."""

from collections import Counter
from dataclasses import replace

import pytest

from tests.fuzz.corpus import CORPUS, MUST_COMPLETE
from tests.fuzz.outcome import outcome
from tests.fuzz.tables import LATER, draw

TABLES, MANY = 300, 10_000
FEW, SOME = 14, 600  # for every engine in `LATER`


def run(seeds, folder, engine=None) -> tuple[Counter, list[str]]:
    """How they ended, and the failures; every fourth is saved and loaded too."""
    ends: Counter = Counter()
    failures = []
    for seed in seeds:
        recipe = draw(seed) if engine is None else replace(draw(seed), engine=engine, options={})
        try:
            end = outcome(recipe, folder if seed % 4 == 0 else None).partition(":")[0]
        except Exception as error:
            end = "failed"
            text = " ".join(f"{type(error).__name__}: {error}".split())
            failures.append(f"{text[:200]}\n    {recipe}")
        ends[end] += 1
    return ends, failures


def test_random_tables(tmp_path):
    ends, failures = run(range(TABLES), tmp_path)
    assert not failures, "\n".join(failures)
    assert ends["completed"] > 0.3 * TABLES, ends


@pytest.mark.slow
def test_many_random_tables(tmp_path):
    ends, failures = run(range(TABLES, MANY), tmp_path)
    print(dict(ends))
    assert not failures, "\n".join(failures)


@pytest.mark.parametrize("engine", LATER)
def test_random_tables_of_engines_with_a_formula(engine, tmp_path):
    ends, failures = run(range(FEW), tmp_path, engine)
    assert not failures, "\n".join(failures)
    assert ends["completed"], ends


@pytest.mark.slow
@pytest.mark.parametrize("engine", LATER)
def test_many_random_tables_of_engines_with_a_formula(engine, tmp_path):
    ends, failures = run(range(FEW, SOME), tmp_path, engine)
    print(engine, dict(ends))
    assert not failures, "\n".join(failures)


@pytest.mark.parametrize("name", CORPUS)
def test_tables_that_failed(name, tmp_path):
    end = outcome(CORPUS[name], tmp_path)
    assert end == "completed" or name not in MUST_COMPLETE, end
