"""Models, tables and runs of the tests of not-at-random analyses."""

import numpy as np
import pandas as pd

import bayesimp as bi
from tests.frozen import table

RUN = {"m": 6, "seed": 3, "progress": False}
SHORT = {"JointNormal": {"tune": 4, "draws": 8}, "JointLatent": {"tune": 4, "draws": 8},
         "JointGLMM": {"tune": 4, "draws": 8}, "FCS": {"cycles": 3}}  # fmt: skip
MODELS = {
    "JointNormal": lambda data: bi.JointNormal(data, "y + w ~ x + (1 | g)"),
    "JointLatent": lambda data: bi.JointLatent(data, "y + w ~ x + (1 | g)"),
    "JointGLMM": lambda data: bi.JointGLMM(data, "y ~ w + x + (1 | g)"),
    "FCS": lambda data: bi.FCS(data),
}
QUESTION = "y ~ x + (1 | g)"


def model(engine="JointNormal", frame=None):
    return MODELS[engine](bi.IncompleteData(table() if frame is None else frame, cluster="g"))


def run(engine="JointNormal", delta=None, frame=None, **options):
    given = {"analysis": QUESTION} | RUN | SHORT[engine] | options
    return bi.mnar(model(engine, frame), {"y": [0, -1, -2]} if delta is None else delta, **given)


def trial(seed=2, n=300, effect=0.5, lost=0.3):
    """A trial in six centres: y in two arms, missing completely at random."""
    rng = np.random.default_rng(seed)
    g, drug = rng.integers(0, 6, n), rng.integers(0, 2, n)
    y = effect * drug + rng.normal(size=6)[g] * 0.3 + rng.normal(size=n)
    y[rng.random(n) < lost] = np.nan
    return pd.DataFrame({"g": g, "arm": np.where(drug, "drug", "placebo"), "drug": drug, "y": y})


def of_trial(delta, analysis="y ~ drug + (1 | g)", frame=None, **options):
    joint = bi.JointNormal(
        bi.IncompleteData(trial() if frame is None else frame, cluster="g"), "y ~ drug + (1 | g)"
    )
    given = {"m": 20, "seed": 1, "tune": 50, "draws": 100, "progress": False}
    return bi.mnar(joint, delta, analysis=analysis, **given | options)


def names(result):
    """Names of the scenarios of a result."""
    return [scenario.name for scenario in result.scenarios]
