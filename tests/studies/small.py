"""A small, quick study; `python -m tests.studies.small FOLDER REPLICATES` runs it in a process that a test kills."""

import sys
import time
from functools import partial

import numpy as np

import bayesimp as bi
from bayesimp.studies import Analysis, Scenario, Study, Systematic, delete, method, study

SIGMA, PSI = np.array([[2.0, 1.0], [1.0, 2.0]]), np.array([[1.0, 0.4], [0.4, 1.0]])
FORMULA = "y2 ~ y1 + (1 | study)"
MENDED = False


def broken(data, seed):
    """Fails on about half of the data sets."""
    if seed % 2 and not MENDED:
        raise ValueError("this method gives up")
    return [data.frame.fillna(0.0)]


def slow(data, seed):
    time.sleep(0.05)
    return [data.frame.fillna(float(seed % 7))]


def scenario(name: str, lacking: int) -> Scenario:
    return Scenario(
        name,
        partial(bi.simulate_studies, [8] * 6, SIGMA, PSI),
        partial(delete, cluster="study", systematic={"y1": Systematic(count=lacking)}, sporadic={"y1": 0.1}),
        Analysis(FORMULA),
        "study",
        truth={"y1": 0.5},
        labels={"lacking": lacking},
    )


def small(**more) -> Study:
    joint = method("joint", formula="y1 ~ y2 + (1 | study)", m=4, tune=5, draws=5)
    ml = method("MICE-ML-i", m=4, cycles=3)
    methods = {"REF": method("REF"), "joint": joint, "ML": ml, "broken": broken, **more}
    return Study([scenario("few", 1), scenario("many", 3)], methods, seed=11)


if __name__ == "__main__":
    study.EVERY = 0.0
    print("begins", flush=True)
    small(slow=slow).run(int(sys.argv[2]), sys.argv[1])
