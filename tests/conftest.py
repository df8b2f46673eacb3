"""What all tests share: the collector of unreachable objects looks at new ones, and not often.

It looks at all objects again and again, of which the imported libraries have half a million that stay: 14 % of the CPU
time of small runs (CONTRIBUTING.md, "What the tests cost").
"""

import gc


def pytest_collection_finish() -> None:
    """Leave what is there after the imports out of collections, and wait for 50,000 objects in place of 2,000."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)
