"""The TOML writer: the standard library's reader gives back what was written."""

import math
import tomllib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bayesimp.errors import SpecificationError
from bayesimp.workflow.toml import as_toml

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
VALUES = st.recursive(
    st.one_of(TEXT, st.booleans(), st.integers(-(2**63), 2**63 - 1), st.floats(allow_nan=False)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(TEXT, inner, max_size=3)),
    max_leaves=12,
)


@given(st.dictionaries(TEXT, VALUES, max_size=4))
@settings(max_examples=300, deadline=None, derandomize=True)
def test_what_is_written_is_read_back(record):
    found = tomllib.loads(as_toml(record))
    assert found == record and repr(types(found)) == repr(types(record))


def types(value):
    """Values with their types, in a fixed order: neither True nor 1.0 equals 1."""
    if isinstance(value, dict):
        return sorted((key, repr(types(each))) for key, each in value.items())
    return [types(each) for each in value] if isinstance(value, list) else (type(value).__name__, value)


def test_what_a_reader_of_the_file_sees():
    record = {
        "title": 'a "b" \\ \n\x00\x7f é', "data": {"types": {"a b.c": "string"}}, "empty": {},
        "analysis": [{"name": "x", "options": {"n": 1}}, {"name": "y"}], "pairs": [[1, -5.0], [True, 1e300]],
    }  # fmt: skip
    text = as_toml(record)
    assert '\n[data.types]\n"a b.c" = "string"\n' in text and text.count("[[analysis]]") == 2
    assert "[data]\n" not in text and "[empty]" in text
    assert tomllib.loads(text) == record
    assert math.isnan(tomllib.loads(as_toml({"x": math.nan}))["x"])


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({"a": {"b": None}}, "a.b: None cannot be written into a plan: TOML cannot express a NoneType"),
        ({"a": 2**63}, "64 bits"),
        ({"a": "\ud800"}, "a: .* surrogate"),
        ({"a": {1: 2}}, "1 cannot be written .* names in TOML must be text"),
    ],
)
def test_what_toml_does_not_hold(record, message):
    with pytest.raises(SpecificationError, match=message):
        as_toml(record)
