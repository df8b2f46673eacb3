"""The deep layer (CONTRIBUTING.md, "Two layers"): `tests/deep.txt` names tests that exist, and its rule is measured."""

import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests import seconds
from tests.conftest import deep, take_turn, turns

ROOT = Path(__file__).parents[1]
SUITE = """
import time
import pytest

def work(seconds):
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass

@pytest.fixture(scope="module")
def shared():
    work(0.4)

@pytest.fixture(params=[0.0, 0.4])
def own(request):
    work(request.param)

def test_makes_it(shared): ...
def test_has_it(shared): ...
def test_own_fixture(own): ...
def test_itself(): work(0.4)
@pytest.mark.deep
def test_known(): work(0.4)
def test_quick(): ...
"""
SETTINGS = "from tests import seconds\nseconds.LIMIT = 0.2\n"


def test_every_entry_names_a_test():
    """By file and function; parameters of a test are known once it is collected."""
    texts: dict[str, str] = {}
    gone = []
    for name in deep():
        file, _, function = name.partition("[")[0].partition("::")
        if file not in texts:
            texts[file] = (ROOT / file).read_text() if (ROOT / file).exists() else ""
        if not re.search(rf"^def {function}\(", texts[file], re.MULTILINE):
            gone.append(name)
    assert not gone, f"tests/deep.txt names tests that do not exist: {gone}"


def test_entries_are_in_order_and_above_the_limit():
    names = list(deep())
    assert len(names) > 100 and names == sorted(names) and min(deep().values()) >= seconds.LIMIT


def test_turns_are_all_deep_tests_and_cost_alike():
    """What continuous integration runs on three commits in a row (.ci/run)."""
    seconds, of_file = deep(), turns(deep(), 3)
    cost = dict.fromkeys((1, 2, 3), 0.0)
    for name, own in seconds.items():
        cost[of_file[name.partition("::")[0]]] += own
    assert max(cost.values()) - min(cost.values()) < 0.01 * sum(cost.values())


def test_every_deep_test_has_one_turn():
    """Quick tests are in each."""
    known = sorted(deep())
    every = {*known, "tests/test_layers.py::test_quick"}

    def kept(turn):
        items, left = [SimpleNamespace(nodeid=name) for name in sorted(every)], []
        hook = SimpleNamespace(pytest_deselected=lambda items: left.extend(items))
        take_turn(SimpleNamespace(option=SimpleNamespace(turn=turn), hook=hook), items)
        assert len(items) + len(left) == len(every)
        return {item.nodeid for item in items}

    parts = [kept(f"{k}/3") for k in (1, 2, 3)]
    assert set.union(*parts) == every and set.intersection(*parts) == every - set(known)
    assert sum(map(len, parts)) == len(known) + 3
    for wrong in ("4/3", "0/3", "2", "a/3", "1/"):
        with pytest.raises(
            pytest.UsageError, match=f"--turn is K/N with 1 <= K <= N, as in 2/3; got '{wrong}'"
        ):
            kept(wrong)


def test_what_is_collected_is_marked(request):
    listed = deep()
    assert all(("deep" in item.keywords) == (item.nodeid in listed) for item in request.session.items)


def test_the_quick_command_leaves_the_deep_layer_out_and_the_other_does_not():
    lines = (ROOT / "Makefile").read_text().splitlines()
    quick, whole = (lines[lines.index(f"{name}: $(VENV)/.installed") + 1] for name in ("test", "test-all"))
    assert '-m "not slow and not deep"' in quick
    assert quick.replace(' -m "not slow and not deep"', "") == whole and "-m" not in whole.split()


def test_costs_include_fixtures_whichever_test_they_were_made_for(tmp_path):
    (tmp_path / "test_it.py").write_text(SUITE)
    (tmp_path / "conftest.py").write_text(SETTINGS)
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = deep\n")
    command = [sys.executable, "-m", "pytest", "-p", "tests.seconds", "-p", "no:cacheprovider", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    told = done.stdout.partition("not in tests/deep.txt")[2]
    assert set(re.findall(r"test_it\.py::(\S+)", told)) == {
        "test_makes_it", "test_has_it", "test_own_fixture[0.4]", "test_itself",
    }  # fmt: skip
