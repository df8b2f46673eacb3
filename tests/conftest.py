"""What all tests share, so that they take less time (CONTRIBUTING.md, "What the tests cost").

The collector of unreachable objects looks at new ones, and not often: it looks at all objects again and again, of which
the imported libraries have half a million that stay. PyTensor does not record the stack at every node of a graph, which
it prints below its errors.
"""

import gc
import os

os.environ["PYTENSOR_FLAGS"] = ",".join(
    flag for flag in ("traceback__limit=0", os.environ.get("PYTENSOR_FLAGS")) if flag
)


def pytest_collection_finish() -> None:
    """Leave what is there after the imports out of collections, and wait for 50,000 objects in place of 2,000."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)
