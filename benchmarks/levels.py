"""Several grouping factors: mixing by the number of crossed groups, and the cost of rows."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pandas as pd

import bayesimp as bi
from bayesimp import priors as pr

ROWS = 7_000, 21_000, 70_000


def ess(chains: np.ndarray) -> float:
    """Bulk effective sample size of (chains, draws)."""
    from arviz_stats.base import array_stats

    return float(array_stats.ess(chains, chain_axis=0, draw_axis=1))


def crossed(groups: int, seed: int = 1) -> pd.DataFrame:
    """One response, two crossed factors of `groups` groups, a tenth of their cells (all, if there are few) with a row."""
    rng = np.random.default_rng(seed)
    cell = rng.choice(groups**2, max(groups**2 // 10, min(groups**2, 100)), replace=False)
    a, b = np.divmod(cell, groups)
    y = rng.normal(size=groups)[a] + rng.normal(size=groups)[b] + rng.normal(size=len(cell))
    y[rng.random(len(y)) < 0.1] = np.nan
    return pd.DataFrame({"a": a, "b": ["b" + str(k) for k in b], "y": y})


def plain_gibbs(frame: pd.DataFrame, draws: int, seed: int) -> np.ndarray:
    """(draws,) intercepts: it, the effects of a and those of b drawn in turn given the others; all variances 1."""
    rng, seen = np.random.default_rng(seed), frame["y"].notna().to_numpy()
    y = frame["y"].to_numpy()[seen]
    codes = [pd.factorize(frame[name])[0][seen] for name in ("a", "b")]
    groups = int(max(c.max() for c in codes)) + 1
    counts = [np.bincount(c, minlength=groups) for c in codes]
    effects, mu, out = [np.zeros(groups), np.zeros(groups)], 0.0, np.empty(draws)
    for t in range(draws):
        fitted = effects[0][codes[0]] + effects[1][codes[1]]
        mu = (y - fitted).mean() + rng.normal() / np.sqrt(len(y))
        for s in (0, 1):
            rest = y - mu - effects[1 - s][codes[1 - s]]
            precision = 1.0 + counts[s]
            effects[s] = np.bincount(codes[s], rest, groups) / precision
            effects[s] += rng.normal(size=groups) / np.sqrt(precision)
        out[t] = mu
    return out


def levels() -> list[str]:
    """Two crossed factors of as many groups each, a tenth of their cells with a row (all of 10 x 10); variances known.
    Effective draws of the intercept per sweep, 2 chains x 1,000 sweeps, by the sampler of `JointNormal`, which integrates
    beta out of every draw of effects, and by plain Gibbs, which draws the intercept, the effects of one factor and those
    of the other in turn."""
    one = pr.Fixed([[1.0]])
    priors = pr.Priors(one, one, Psi_of={"b": one})
    lines = [
        "| groups of each | rows | collapsed: effective draws per sweep | plain Gibbs | times |",
        "|---|---|---|---|---|",
    ]
    for groups in (10, 100, 1_000):
        frame = crossed(groups)
        model = bi.JointNormal(bi.IncompleteData(frame, ["a", "b"]), "y ~ 1 + (1 | a) + (1 | b)", priors)
        imp = model.impute(m=2, seed=1, chains=2, tune=100, draws=1_000, progress=False)
        ours = ess(imp.tree["posterior"]["beta"].values[..., 0, 0]) / 2_000
        plain = ess(np.stack([plain_gibbs(frame, 1_100, seed)[100:] for seed in (1, 2)])) / 2_000
        lines.append(f"| {groups:,} | {len(frame):,} | {ours:.2f} | {plain:.4f} | {ours / plain:.0f} |")
    return lines


def pupils(rows: int, kind: str, seed: int = 1) -> pd.DataFrame:
    """Two incomplete scores of pupils, 20 a class and 5 classes a school, or schools crossed with neighbourhoods."""
    rng = np.random.default_rng(seed)
    school = np.arange(rows) // 100
    second = np.arange(rows) // 20 if kind == "nested" else rng.integers(0, max(rows // 100, 10), rows)
    x = rng.normal(size=rows)
    Y = np.outer(x, [0.5, -0.3]) + rng.normal(size=(rows, 2))
    Y += rng.normal(0, 0.6, (school.max() + 1, 2))[school] + rng.normal(0, 0.5, (second.max() + 1, 2))[second]
    Y[rng.random(Y.shape) < 0.2] = np.nan
    Y[school % 5 == 0, 1] = np.nan
    frame = pd.DataFrame({"school": school, "second": second + 10, "x": x, "y1": Y[:, 0], "y2": Y[:, 1]})
    return frame.assign(second=["s" + str(k) for k in frame["second"]])


def levels_rows() -> list[str]:
    """Cost of rows: two incomplete scores, a fifth of each missing and one of them in a fifth of the schools, default
    priors. Schools of 5 classes of 20 pupils (nested), or schools crossed with as many neighbourhoods, nearly every row a
    cell of its own (crossed). Processor time of a sweep of which nothing is kept, best of three; for 70,000 rows also
    the wall time of a default run, m = 20, four chains x (200 + 1,000) sweeps on two workers, and the smallest effective
    sample size of all elements of both Psi and of Sigma. Wall times are from a machine of two cores with a load of 27, so
    that the run got about a tenth of it; processor times are not affected."""
    lines = [
        "| | rows | groups | ms per sweep | us per sweep and row | model made in s | default run s | smallest ESS |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for kind in ("nested", "crossed"):
        for rows in ROWS:
            frame = pupils(rows, kind)
            began = time.perf_counter()
            data = bi.IncompleteData(frame, ["school", "second"])
            model = bi.JointNormal(data, "y1 + y2 ~ x + (1 | school) + (1 | second)")
            made = time.perf_counter() - began
            ms = _sweep(model.grouping.task(1, 1))
            default, smallest = "", ""
            if rows == ROWS[-1]:
                imp = model.impute(m=20, seed=1, workers=2, progress=False)
                values = imp.summary().parameters["ess_bulk"]
                own = [name for name in values.index if name.startswith(("Psi", "Sigma"))]
                default, smallest = f"{imp.attrs['seconds']:.0f}", f"{values[own].min():.0f}"
            groups = f"{frame['school'].nunique():,} x {frame['second'].nunique():,}"
            cells = [
                kind,
                f"{rows:,}",
                groups,
                f"{ms:.2f}",
                f"{1000 * ms / rows:.3f}",
                f"{made:.2f}",
                default,
                smallest,
            ]
            lines.append(f"| {' | '.join(cells)} |")
    return lines


def _sweep(task: Any, sweeps: int = 40) -> float:
    best = np.inf
    chain = task.start(1, 0)
    for _ in range(4):  # the first loads the kernels
        began = time.process_time()
        task.advance(chain, 0, None, 0, 0, sweeps)
        best = min(best, time.process_time() - began)
    return 1000 * best / sweeps


def mixed_pupils(rows: int, seed: int = 1) -> pd.DataFrame:
    """The scores of `pupils`, schools crossed with neighbourhoods, and a binary variable, a fifth of it missing."""
    rng, frame = np.random.default_rng(seed + 1), pupils(rows, "crossed", seed)
    u = 0.4 * frame["x"] + 0.5 * rng.normal(size=frame["school"].nunique())[frame["school"]]
    u += 0.5 * rng.normal(size=frame["second"].nunique())[pd.factorize(frame["second"])[0]]
    b = (u + rng.normal(size=rows) > 0) * 1.0
    return frame.assign(b=np.where(rng.random(rows) < 0.2, np.nan, b))


def levels_latent() -> list[str]:
    """`JointLatent` with two crossed factors, a binary and two normal variables, a fifth of each missing and one of them
    in a fifth of the schools, default priors: processor time of a sweep of which nothing is kept, best of three; for
    the largest table, effective draws of the slowest element of both Psi and Sigma per second of processor time, one
    chain x (100 + 300) sweeps."""
    lines = [
        "| rows | groups | ms per sweep | us per sweep and row | smallest ESS of 300 | per s |",
        "|---|---|---|---|---|---|",
    ]
    for rows in (ROWS[0], ROWS[-1]):
        frame = mixed_pupils(rows)
        data = bi.IncompleteData(frame, ["school", "second"], {"b": "bernoulli"})
        model = bi.JointLatent(data, "y1 + y2 + b ~ x + (1 | school) + (1 | second)")
        assert model.several is not None
        ms, smallest, rate = _sweep(model.several.task(1, 1), 10), "", ""
        if rows == ROWS[-1]:
            began = time.process_time()
            imp = model.impute(
                m=2, seed=1, chains=1, tune=100, draws=300, thin=1, executor="serial", progress=False
            )
            spent, least = time.process_time() - began, np.inf
            for name in ("Sigma", "Psi_school", "Psi_second"):
                draws = imp.tree["posterior"][name].values
                for i, j in zip(*np.tril_indices(draws.shape[-1]), strict=True):
                    if np.ptp(draws[..., i, j]) > 0:
                        least = min(least, ess(draws[..., i, j]))
            smallest, rate = f"{least:.0f}", f"{least / spent:.2f}"
        groups = f"{frame['school'].nunique():,} x {frame['second'].nunique():,}"
        cells = [f"{rows:,}", groups, f"{ms:.2f}", f"{1000 * ms / rows:.3f}", smallest, rate]
        lines.append(f"| {' | '.join(cells)} |")
    return lines
