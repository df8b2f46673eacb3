"""Several grouping factors in chained equations: mixing of crossed and nested effects, and the cost of rows."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from unittest.mock import patch

import numpy as np
import pandas as pd
from scipy.special import expit

import bayesimp as bi
from bayesimp.fcs.blocks import levels_glmm
from bayesimp.fcs.loop import Cycles
from bayesimp.kernels.glmm.gibbs import ALL_MOVES, MOVES, glmm_step
from benchmarks.levels import ROWS, crossed, ess, pupils

UPDATES = 1_000


@contextmanager
def naive() -> Iterator[None]:
    """beta and the effects of every factor drawn in turn given the others: neither centring nor shift."""
    step = partial(glmm_step, moves=ALL_MOVES - MOVES["centre"])
    with (
        patch.object(levels_glmm, "glmm_step", step),
        patch.object(levels_glmm.LevelsGlmm, "_shift_between", lambda *_: None),
    ):
        yield


def binary(frame: pd.DataFrame, name: str, seed: int = 1) -> pd.DataFrame:
    """A number as a binary outcome of its logit, "no" or "yes"."""
    u = np.random.default_rng(seed).random(len(frame))
    return frame.assign(
        **{name: np.where(frame[name].isna(), None, np.where(u < expit(frame[name]), "yes", "no"))}
    )


def nested(schools: int, seed: int = 1) -> pd.DataFrame:
    """Schools of 4 classes of 15 pupils, sd 1 of both."""
    rng = np.random.default_rng(seed)
    b = np.arange(60 * schools) // 15
    y = rng.normal(size=schools)[b // 4] + rng.normal(size=4 * schools)[b] + rng.normal(size=len(b))
    y[rng.random(len(b)) < 0.1] = np.nan
    return pd.DataFrame({"a": b // 4, "b": ["b" + str(k) for k in b], "y": y})


def fcs(frame: pd.DataFrame) -> bi.FCS:
    return bi.FCS(bi.IncompleteData(frame, ["a", "b"]), bi.methods.Bayes(inner=1))


def mixing(frame: pd.DataFrame) -> np.ndarray:
    """Effective draws an update of the intercept, of the effect of the first cluster, and of both variances."""
    task, kept = Cycles(fcs(frame), 1), []
    chain = task.start(0)
    (block,), (theta,) = task.parts[1], chain.theta
    for t in range(UPDATES + 100):
        block.step(chain, theta)
        if t >= 100:
            sds = np.sqrt(theta.Psi[0, 0]), np.sqrt(theta.own["Psi_1"][0, 0])
            kept.append([theta.beta[0, 0], theta.B[0, 0, 0], *sds])
    return np.array([ess(column[None]) for column in np.array(kept).T]) / UPDATES


def levels_fcs() -> list[str]:
    """A binary variable with two grouping factors, variances unknown, default priors: two crossed factors of as many
    groups each with a row in a tenth of their cells (all of 10 x 10), or schools of 4 classes of 15 pupils. Effective
    draws an update, 1,000 updates of one chain, of the sampler of `FCS` and of the same without centring and without the
    shift between nested factors (naive), in the same run."""
    quantities = "intercept", "first cluster", "sd of a", "sd of b"
    lines = [
        f"| | groups | rows | sampler | {' | '.join(quantities)} |",
        "|---|---|---|---|---|---|---|---|",
    ]
    designs = [("crossed", n, crossed(n)) for n in (10, 100, 300)] + [
        ("nested", n, nested(n)) for n in (20, 100)
    ]
    for kind, groups, frame in designs:
        frame = binary(frame, "y")
        ours = mixing(frame)
        with naive():
            plain = mixing(frame)
        second = groups * (4 if kind == "nested" else 1)
        for name, found in (("FCS", ours), ("naive", plain)):
            cells = " | ".join(f"{value:.4f}" for value in found)
            lines.append(f"| {kind} | {groups} x {second} | {len(frame):,} | {name} | {cells} |")
    return lines


def levels_fcs_rows() -> list[str]:
    """Cost of rows: a normal and a binary variable of pupils, a fifth of each missing, schools of 5 classes of 20 pupils
    (nested) or schools crossed with as many neighbourhoods (crossed). Processor time of a visit of five updates, best of
    three."""
    lines = ["| | rows | variable | ms a visit | us a visit and row |", "|---|---|---|---|---|"]
    for kind in ("nested", "crossed"):
        for rows in ROWS:
            frame = binary(pupils(rows, kind), "y2")
            task = Cycles(bi.FCS(bi.IncompleteData(frame, ["school", "second"])), 1)
            chain = task.start(0)
            for name, block, theta in zip(("normal", "binary"), task.parts[1], chain.theta, strict=True):
                block.step(chain, theta)
                best = np.inf
                for _ in range(3):
                    began = time.process_time()
                    block.step(chain, theta)
                    best = min(best, time.process_time() - began)
                lines.append(f"| {kind} | {rows:,} | {name} | {1e3 * best:.1f} | {1e6 * best / rows:.2f} |")
    return lines
