"""The table of proposals, docs/mathematics.md section 18, lists every file of the package with such a step."""

import re
from pathlib import Path

import bayesimp

PACKAGE = Path(bayesimp.__file__).parent
ROOT = PACKAGE.parent
# an accepted proposal, the height of a slice, or a slice by kernels/slices.py
PROPOSES = re.compile(r"log\((?:\w+\.)*rng\.random\(|standard_exponential\(|rng\.random\(\) <|begin_slice\(")
OUTSIDE = {"studies"}  # simulates data


def table() -> list[list[str]]:
    text = (ROOT / "docs/mathematics.md").read_text().partition("## 18. Steps that propose")[2]
    lines = text.partition("## References")[0].splitlines()
    return [line.strip("|").split("|") for line in lines if line.startswith("| `")]


def proposing() -> set[str]:
    found = set()
    for file in PACKAGE.rglob("*.py"):
        place = file.relative_to(PACKAGE)
        code = re.sub(r'""".*?"""', "", file.read_text(), flags=re.DOTALL)
        if place.parts[0] not in OUTSIDE and PROPOSES.search(code):
            found.add(str(place))
    return found


def test_every_file_with_a_proposal_is_in_the_table():
    named = {name for row in table() for name in re.findall(r"`([\w/]+\.py)`", row[0])}
    assert len(proposing()) > 15
    # mixtures draw a structural zero with that probability, which is not a proposal, but they have slices too
    assert not proposing() - named, proposing() - named
    # scales of effects are proposed in blocks.py
    assert named - proposing() <= {"kernels/glmm/moves.py"}


def test_the_tests_that_it_names_exist():
    for row in table():
        assert len(row) == 5, row
        tests = re.findall(r"`(tests/[\w/]+\.py)`", row[4])
        assert tests and all((ROOT / test).is_file() for test in tests), row
