"""The `pymc` block of FCS: what a cycle costs, what compiling costs, how far a transition moves."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time

import numpy as np

from bayesimp import priors as pr
from bayesimp.fcs.blocks.pymc_normal import NormalConditional
from bayesimp.fcs.blocks.pymc_user import UserConditional
from bayesimp.kernels.chained.gibbs import common_step
from bayesimp.kernels.normal.effects import moments
from bayesimp.kernels.normal.statistics import collect
from bayesimp.models.conditional_normal import ConditionalData
from bayesimp.priors.gibbs import covariance_update

__all__ = ["pymc_block"]

ROWS, CLUSTERS, P = 1000, 15, 4


def table(q: int, seed: int = 0, rows: int = ROWS):
    """X (rows, 4), Z, y, codes; cluster effects of half the residual sd."""
    rng = np.random.default_rng(seed)
    codes = np.sort(rng.integers(0, CLUSTERS, rows))
    X = np.column_stack([np.ones(rows), rng.normal(size=(rows, P - 1))])
    Z = X[:, :q].copy()
    b = 0.5 * rng.normal(size=(CLUSTERS, q))
    return X, Z, X @ [1.0, 0.5, -0.3, 0.2] + (Z * b[codes]).sum(1) + rng.normal(size=rows), codes


def priors(q: int) -> pr.Priors:
    Sigma = pr.resolve(pr.HuangWand(), [1.0], "Sigma")
    return pr.Priors(Sigma, pr.resolve(pr.HuangWand(), np.ones(q), "Psi"))


def student_t(data, priors):
    """As in the documentation of ConditionalData."""
    import pymc as pm

    with pm.Model(coords={"fixed": data.fixed, "cluster": range(data.clusters)}) as model:
        beta = pm.Normal("beta", 0, 10, dims="fixed")
        tau = pm.HalfNormal("tau", 1)
        b = pm.Normal("b", 0, tau, dims="cluster")
        sigma = pm.HalfNormal("sigma", 1)
        nu = pm.Gamma("nu", 2, 0.1)
        mean = data.X @ beta + b[data.cluster]
        pm.StudentT(data.name, nu=nu, mu=mean, sigma=sigma, observed=data.y)
    return model


def five_normal(q: int) -> list[NormalConditional]:
    """Five variables of one structure, with other numbers of predictors and other scales of the priors."""
    made = []
    for k in range(5):
        own = pr.Priors(pr.HuangWand(scale=np.array([1.0 + k])), priors(q).Psi)
        made.append(NormalConditional(own, P + k, q, name=f"y{k}"))
    return made


def five_user() -> list[UserConditional]:
    made = []
    for k in range(5):
        X, Z, y, codes = table(1, seed=k, rows=ROWS - 100 * k)
        names = tuple(f"x{i}" for i in range(P))
        made.append(
            UserConditional(student_t, ConditionalData(f"y{k}", y, X, Z, codes, CLUSTERS, names, ("1",)))
        )
    return made


FIVE = {
    "normal, intercepts": lambda: five_normal(1),
    "normal, intercepts and slopes": lambda: five_normal(2),
    "user's, Student-t": five_user,
}

COMPILE = """
import json, sys, time
from benchmarks import pymc_block as b
began, cpu = time.perf_counter(), time.process_time()
blocks = b.FIVE[sys.argv[1]]()
assert all(x.structure.compiled is blocks[0].structure.compiled for x in blocks)
b.adapted(blocks[0])
print(json.dumps([time.perf_counter() - began, time.process_time() - cpu]))
"""


def adapted(block):
    """The block, warmed up: everything that is to be compiled has been."""
    rng = np.random.default_rng(1)
    if isinstance(block, UserConditional):
        block.adapt(rng, block._data)
    else:
        X, Z, y, codes = table(block.q)
        block.adapt(rng, moments(collect(X[:, : block.p], Z, y[:, None], codes, CLUSTERS)))
    return block


def compilation() -> list[str]:
    """Fresh processes, five variables made and one adapted. Nothing cached: neither numba's kernels nor PyTensor's."""
    lines = ["| five variables of one structure | caches | seconds | of processor |", "|---|---|---|---|"]
    for name in FIVE:
        with tempfile.TemporaryDirectory() as numba_folder, tempfile.TemporaryDirectory() as pytensor_folder:
            for label, own_numba in [("PyTensor's empty", False), ("filled", False), ("all empty", True)]:
                env = dict(os.environ)
                folder = pytensor_folder + ("/new" if own_numba else "")
                env["PYTENSOR_FLAGS"] = f"base_compiledir={folder}"
                if own_numba:
                    env["NUMBA_CACHE_DIR"] = numba_folder
                command = [sys.executable, "-c", COMPILE, name]
                out = subprocess.run(command, capture_output=True, text=True, check=True, env=env).stdout
                wall, cpu = json.loads(out.strip().splitlines()[-1])
                lines.append(f"| {name} | {label} | {wall:.1f} | {cpu:.1f} |")
    return lines


def cycle() -> list[str]:
    """One cycle of one variable, 1,000 rows, 15 clusters, 4 predictors; the best of five, a fifth of the rows missing."""
    lines = ["| block | transitions | ms per cycle |", "|---|---|---|"]
    for q, label in [(1, "normal, intercepts"), (2, "normal, intercepts and slopes")]:
        X, Z, y, codes = table(q)
        m = moments(collect(X, Z, y[:, None], codes, CLUSTERS))
        for transitions in (1, 3):
            block = adapted(NormalConditional(priors(q), P, q, transitions=transitions))
            rng = np.random.default_rng(2)
            state = block.start(rng, m)
            took = _best(lambda block=block, rng=rng, state=state, m=m: block.step(rng, state, m))
            lines.append(f"| {label} | {transitions} | {took:.2f} |")
    user = adapted(five_user()[0])
    seen = user._data
    rng = np.random.default_rng(2)
    lost = rng.random(ROWS) < 0.2
    parts = [
        ConditionalData(
            "y0", seen.y[k], seen.X[k], seen.Z[k], seen.cluster[k], CLUSTERS, seen.fixed, seen.random
        )
        for k in (~lost, lost)
    ]
    state = user.start(rng, parts[0])
    for transitions in (1, 3):
        user.transitions = transitions
        lines.append(
            f"| user's, Student-t | {transitions} | {_best(lambda: user.step_rows(rng, state, *parts)):.2f} |"
        )
    return lines


def _best(f, count: int = 200) -> float:
    best = np.inf
    for _ in range(5):
        began = time.perf_counter()
        for _ in range(count):
            f()
        best = min(best, (time.perf_counter() - began) / count)
    return 1e3 * best


def efficiency() -> list[str]:
    """Effective draws of 4,000: one transition of HMC, one update of Gibbs, same data and prior."""
    from arviz_stats.base import array_stats

    lines = [
        "| effects | sampler | log Sigma | log Psi[0,0] | beta[0] | b of cluster 1 |",
        "|---|---|---|---|---|---|",
    ]
    for q, label in [(1, "intercepts"), (2, "intercepts and slopes")]:
        X, Z, y, codes = table(q)
        m = moments(collect(X, Z, y[:, None], codes, CLUSTERS))
        block, rng = adapted(NormalConditional(priors(q), P, q)), np.random.default_rng(3)
        state = block.start(rng, m)
        prior = covariance_update(priors(q).Sigma, 1), covariance_update(priors(q).Psi, q)
        theta = np.eye(1), np.eye(q), np.zeros((P, 1)), np.zeros((CLUSTERS, q, 1))
        flat = np.zeros((P, P)), np.zeros(P)
        draws = {"HMC": [], "Gibbs": []}
        for _ in range(4000):
            d = block.step(rng, state, m)
            draws["HMC"].append(_quantities(d.Sigma, d.Psi, d.beta, d.B))
            common_step(rng, m, 1, *prior, *flat, *theta, np.empty(0, np.int64))
            draws["Gibbs"].append(_quantities(*theta))
        for name, chain in draws.items():
            x = np.array(chain)[None]
            ess = [array_stats.ess(x[..., k], chain_axis=0, draw_axis=1) for k in range(x.shape[-1])]
            lines.append(f"| {label} | {name} | " + " | ".join(f"{float(v):.0f}" for v in ess) + " |")
    return lines


def _quantities(Sigma, Psi, beta, B):
    return np.log(Sigma[0, 0]), np.log(Psi[0, 0]), beta[0, 0], B[0, 0, 0]


def pymc_block() -> list[str]:
    """A PyMC model inside chained equations."""
    return [*cycle(), "", *efficiency(), "", *compilation()]


if __name__ == "__main__":
    print("\n".join(pymc_block()))
