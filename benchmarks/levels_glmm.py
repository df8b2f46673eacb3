"""Several grouping factors in the joint GLMM: the cost of rows."""

from __future__ import annotations

import time

import numpy as np

import bayesimp as bi
from bayesimp.joint.glmm.chain import start_chain
from bayesimp.joint.glmm.prior import factor_priors
from bayesimp.joint.glmm.sampler import Sampler
from benchmarks.levels import pupils
from benchmarks.levels_fcs import binary

ROWS = 7_000, 70_000


def levels_glmm_rows() -> list[str]:
    """Cost of rows in `JointGLMM`: a normal response given an incomplete binary covariate, a fifth of each missing,
    schools of 5 classes of 20 pupils (nested) or schools crossed with as many neighbourhoods (crossed), effects of
    schools only, compared with effects of both. Processor time of a sweep after 5, best of three."""
    lines = ["| | rows | grouping factors | ms a sweep | us a sweep and row |", "|---|---|---|---|---|"]
    for kind in ("nested", "crossed"):
        for rows in ROWS:
            frame = binary(pupils(rows, kind), "y2")
            for clusters in (["school"], ["school", "second"]):
                data = bi.IncompleteData(frame.drop(columns={"second"} - {*clusters}), clusters)
                random = " + ".join(f"(1 | {name})" for name in clusters)
                best = _sweep(bi.JointGLMM(data, f"y1 ~ y2 + {random}"))
                lines.append(
                    f"| {kind} | {rows:,} | {len(clusters)} | {1e3 * best:.1f} | {1e6 * best / rows:.2f} |"
                )
    return lines


def _sweep(model: bi.JointGLMM) -> float:
    """Processor seconds of a sweep."""
    priors = factor_priors(model.table, model.priors, model.separate, cluster=model.data.cluster)
    sampler = Sampler(model.table, priors, start_chain(model.table, priors, 1, 0), "benchmark")
    for _ in range(5):
        sampler.sweep(tune=True)
    best = np.inf
    for _ in range(3):
        began = time.process_time()
        sampler.sweep()
        best = min(best, time.process_time() - began)
    return best
