"""Reference-based imputation of a binary outcome against the values that trials lost.

python -m benchmarks.reference_arm [TRIALS]

Patients of simulated trials drop out more often after a visit without response (so at random, given what is observed).
What they lose is known: under each assumption their latent normals go on with the means that it states. The table has the
mean, over trials, of the effect at week 12 (difference of the shares of responders) in completed tables, less the effect
if nothing is lost, with its standard error: about zero where the assumption of the imputation is the true one.
"""

from __future__ import annotations

import sys

import numpy as np
import pandas as pd

import bayesimp as bi
from bayesimp.joint.reference import HOW

VISITS = ("week4", "week8", "week12")
AT_RANDOM = "at random"
EFFECT, PLACEBO = np.array([0.5, 0.9, 1.4]), np.array([-0.6, -0.4, -0.3])
RESIDUAL = 0.6 + 0.4 * np.eye(3)


def simulated(seed: int, n: int = 400, centres: int = 20) -> tuple[pd.DataFrame, dict[str, np.ndarray]]:
    """A trial with drop-out, and its visits (n, 3) if nothing is lost, under every assumption."""
    rng = np.random.default_rng(seed)
    drug, centre = rng.integers(0, 2, n), rng.integers(0, centres, n)
    of_centre = rng.normal(0, 0.3, centres)[centre][:, None]
    placebo = np.broadcast_to(PLACEBO, (n, 3)) + of_centre
    own = placebo + np.outer(drug, EFFECT)
    e = rng.multivariate_normal(np.zeros(3), RESIDUAL, n)
    y = own + e > 0
    leaves = rng.random((n, 3)) < np.column_stack([np.full(n, 0.1), np.where(y[:, :2], 0.1, 0.35)])
    lost = np.logical_or.accumulate(leaves, axis=1)
    last = (~lost).sum(axis=1)  # visits observed, 0 .. 3
    at_last = np.where(last > 0, (own - placebo)[np.arange(n), np.maximum(last - 1, 0)], 0.0)
    means = {
        AT_RANDOM: own,
        HOW[0]: np.where(lost, placebo, own),
        HOW[1]: np.where(lost, placebo + at_last[:, None], own),
    }
    complete = {name: mean + e > 0 for name, mean in means.items()}
    complete[HOW[2]] = _always_placebo(rng, placebo, y, lost)
    frame = pd.DataFrame({"centre": centre, "arm": np.where(drug, "drug", "placebo")})
    for k, name in enumerate(VISITS):
        frame[name] = np.where(lost[:, k], None, np.where(y[:, k], "yes", "no").astype(object))
    return frame, complete


def _always_placebo(
    rng: np.random.Generator, placebo: np.ndarray, y: np.ndarray, lost: np.ndarray
) -> np.ndarray:
    """Visits of which the lost ones are those of a patient on placebo with the same observed ones, by rejection."""
    out, todo = y.copy(), np.flatnonzero(lost.any(axis=1))
    while len(todo):
        drawn = placebo[todo] + rng.multivariate_normal(np.zeros(3), RESIDUAL, len(todo)) > 0
        same = (drawn == y[todo]) | lost[todo]
        own = same.all(axis=1)
        out[todo[own]] = drawn[own]
        todo = todo[~own]
    return out


def effect(y: np.ndarray, arm: pd.Series) -> float:
    """The difference of the shares of responders."""
    drug = (arm == "drug").to_numpy()
    return float(y[drug].mean() - y[~drug].mean())


def imputed(frame: pd.DataFrame, how: str, seed: int) -> float:
    """The mean effect at week 12 over completed tables."""
    data = bi.IncompleteData(frame, "centre", dict.fromkeys(VISITS, "bernoulli"))
    reference = None if how == AT_RANDOM else bi.ReferenceBased("arm", "placebo", VISITS, how)
    model = bi.JointLatent(data, "week4 + week8 + week12 ~ arm + (1 | centre)", reference=reference)
    imp = model.impute(m=20, seed=seed, chains=2, draws=250, thin=2, progress=False)
    return float(
        np.mean([effect((imp.frame(k)["week12"] == "yes").to_numpy(), frame["arm"]) for k in range(20)])
    )


def main(trials: int = 100) -> pd.DataFrame:
    """Mean difference from the effect without drop-out: a row for what is true, a column for how it is imputed."""
    ways = (AT_RANDOM, *HOW)
    gaps = np.empty((trials, len(ways), len(ways)))
    for seed in range(trials):
        frame, complete = simulated(seed)
        found = [imputed(frame, how, seed) for how in ways]
        for i, truth in enumerate(ways):
            gaps[seed, i] = np.array(found) - effect(complete[truth][:, 2], frame["arm"])
    mean, error = gaps.mean(axis=0), gaps.std(axis=0, ddof=1) / np.sqrt(trials)
    cells = [
        [f"{a:+.3f} ({b:.3f})" for a, b in zip(*row, strict=True)] for row in zip(mean, error, strict=True)
    ]
    return pd.DataFrame(cells, index=pd.Index(ways, name="truth"), columns=ways)


if __name__ == "__main__":
    table = main(*map(int, sys.argv[1:2]))
    print(f"| truth | {' | '.join(table.columns)} |\n|---|{'---|' * len(table.columns)}")
    for truth, cells in table.iterrows():
        print(f"| {truth} | {' | '.join(cells)} |")
