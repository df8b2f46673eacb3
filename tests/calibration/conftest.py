"""Slow calibrations run when asked for: `-m slow`, or `-m calibration` with everything else of that kind."""

import pytest


def pytest_collection_modifyitems(config, items):
    if "slow" in (config.getoption("markexpr") or ""):
        return
    for item in items:
        if "slow" in item.keywords and "calibration" in item.path.parts:
            item.add_marker(pytest.mark.skip(reason="minutes; run with -m slow, last results in RESULTS.md"))
