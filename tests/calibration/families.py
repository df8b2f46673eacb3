"""Calibration of the joint GLMM with every family in both roles: `python -m tests.calibration.families`.

For each family there are a variable v and a response y that depends on a nonlinear function of v; both have missing
cells, and a cluster in which they are never observed. Parameters come from explicit priors, tables are simulated with
SciPy and NumPy, and the whole of `bi.JointGLMM(...).impute(...)` runs on them (tests/calibration/joint_glmm.py).
`--datasets 120` rewrites FAMILIES_RESULTS.md; with `--seed 2027 --only NAMES` a run of these on other data sets is
added to it.
"""

import argparse
import platform
import time
from collections.abc import Callable
from datetime import date
from functools import partial
from pathlib import Path
from subprocess import run

import numpy as np
import pandas as pd
from scipy import stats
from scipy.special import expit

from bayesimp import priors as pr
from tests.calibration import joint_glmm, sbc
from tests.calibration.joint_glmm import (
    BETA,
    HALF_T,
    SIGMA,
    SMALL,
    Design,
    coefficients,
    effects,
    g,
    noise,
    student,
)
from tests.calibration.run import LEVEL, SEED, row
from tests.calibration.uniformity import p_value
from tests.longhand import yeo_johnson

TRIALS = np.random.default_rng(5).integers(1, 8, len(g))
LABELS = ["a", "b", "c"]
LIMITS = {"v": (-0.8, 1.5), "y": (-1.0, np.inf)}  # of detection
LARGEST = 13.0  # linear predictors of counts: tables with counts above 1e4 are skipped

# family -> its terms in the formula of y, and their columns in the order of the model: complete ones first
TERMS: dict[str, tuple[str, Callable]] = {
    "normal": ("v + I(v**2)", lambda v: (v, v**2)),
    "student": ("v + I(v**2)", lambda v: (v, v**2)),
    "yeo_johnson": ("v + I(v**2)", lambda v: (v, v**2)),
    "censored": ("v + I(v**2)", lambda v: (v, v**2)),
    "bernoulli": ("x + v + v:x", lambda v, x: (x, v, v * x)),
    "binomial(n)": ("v + I(v**2)", lambda v: (v, v**2)),
    "ordinal": ("v", lambda v: (v == 1, v == 2)),
    "categorical": ("v", lambda v: (v == 1, v == 2)),
    "beta": ("v + I(v**2)", lambda v: (v, v**2)),
    **dict.fromkeys(("gamma", "inverse_gaussian", "lognormal"), ("log(v)", lambda v: (np.log(v),))),
    **dict.fromkeys(
        ("poisson", "negative_binomial", "zero_inflated_poisson", "zero_inflated_negative_binomial", "hurdle_poisson",
         "hurdle_negative_binomial"), ("log1p(v)", lambda v: (np.log1p(v),)),
    ),
}  # fmt: skip


def shape(rng) -> float:
    """1 / sqrt(shape) ~ half-t(3, 1)."""
    return rng.standard_t(3) ** -2.0


def counts(rng, mu, k=None):
    rate = mu if k is None else mu * rng.gamma(k, 1 / k, len(mu))
    return rng.poisson(np.minimum(rate, 1e15)).astype(float)


def above_zero(rng, mu, k=None):
    """By inversion of the distribution function."""
    law = stats.poisson(mu) if k is None else stats.nbinom(k, k / (k + mu))
    return np.maximum(law.isf(rng.random(len(mu)) * law.sf(0)), 1.0)


def response(rng, family: str, name: str, eta: np.ndarray) -> tuple[dict, np.ndarray]:
    """Parameters besides coefficients, by their names in the posterior, and values (n,), levels as positions."""
    one, n = eta[:, 0], len(eta)
    mu, p = np.exp(np.minimum(one, LARGEST)), expit(one)
    match family:
        case "normal" | "censored":
            variance, e = noise(rng)
            return {f"sigma2_{name}": variance}, one + e
        case "student":
            sigma, nu, y = student(rng, one)
            return {f"sigma_{name}": sigma, f"nu_{name}": nu}, y
        case "yeo_johnson":
            sigma, power = abs(rng.standard_t(3)), 2.0 * rng.beta(2.0, 2.0)
            y = yeo_johnson.back(one + sigma * rng.normal(size=n), power)
            return {f"sigma_{name}": sigma, f"lambda_{name}": power}, y
        case "bernoulli":
            return {}, (rng.random(n) < p).astype(float)
        case "binomial(n)":
            return {}, rng.binomial(TRIALS, p).astype(float)
        case "poisson":
            return {}, counts(rng, mu)
        case "negative_binomial":
            k = shape(rng)
            return {f"shape_{name}": k}, counts(rng, mu, k)
        case "zero_inflated_poisson" | "zero_inflated_negative_binomial":
            own, y = response(rng, family.removeprefix("zero_inflated_"), name, eta)
            zi = rng.random()
            return own | {f"zi_{name}": zi}, np.where(rng.random(n) < zi, 0.0, y)
        case "hurdle_poisson" | "hurdle_negative_binomial":
            k, hu = None if family == "hurdle_poisson" else shape(rng), rng.random()
            y = np.where(rng.random(n) < hu, 0.0, above_zero(rng, mu, k))
            return ({} if k is None else {f"shape_{name}": k}) | {f"hu_{name}": hu}, y
        case "gamma":
            k = shape(rng)
            return {f"shape_{name}": k}, np.exp(one) * rng.gamma(k, 1 / k, n)
        case "inverse_gaussian":
            k = shape(rng)
            return {f"shape_{name}": k}, rng.wald(np.exp(one), k)
        case "lognormal":
            sigma = abs(rng.standard_t(3))
            return {f"sigma_{name}": sigma}, np.exp(one + sigma * rng.normal(size=n))
        case "beta":
            k = shape(rng)
            return {f"shape_{name}": k}, rng.beta(k * p, k * (1 - p))
        case "ordinal":
            increment = rng.exponential(size=1)
            latent = one + rng.logistic(size=n)
            return {f"cutpoints_{name}": increment}, (latent > 0).astype(float) + (latent > increment)
    scores = np.column_stack([np.zeros(n), eta]) + rng.gumbel(size=(n, 3))
    return {}, scores.argmax(axis=1).astype(float)


def labelled(family: str, values: np.ndarray):
    if family not in ("ordinal", "categorical"):
        return values
    return pd.Categorical.from_codes(values.astype(int), LABELS, ordered=family == "ordinal")


def simulate(rng, family: str, prior, other: str = ""):
    """v and y of the family; `other` is the family from which y is simulated, if different."""
    r = 2 if family == "categorical" else 1
    x = rng.normal(size=len(g))
    Psi, b = effects(rng, prior, 2 * r)
    beta_v = rng.normal(0.0, 1.0, (1, r))
    own_v, v = response(rng, family, "v", beta_v + b[:, :r])
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        columns = TERMS[family][1](v, x) if family == "bernoulli" else TERMS[family][1](v)
        X = np.column_stack([np.ones(len(g)), *columns])
        beta_y = np.column_stack([coefficients(rng, X.shape[1]) for _ in range(r)])
        eta = np.nan_to_num(X @ beta_y, nan=0.0, posinf=700.0, neginf=-700.0) + b[:, r:]
        own_y, y = response(rng, other or family, "y", eta)
    single = family != "categorical"
    truth = {
        "beta_v": beta_v[:, 0] if single else beta_v,
        "beta_y": beta_y[:, 0] if single else beta_y,
        "Psi": Psi,
    }
    frame = pd.DataFrame({"g": g, "x": x, "n": TRIALS, "v": labelled(family, v), "y": labelled(family, y)})
    used = ["g", *(["x"] if family == "bernoulli" else []), *(["n"] if "(n)" in family else []), "v", "y"]
    return frame[used], truth | own_v | own_y


def design(family: str, other: str = "") -> Design:
    prior = (
        HALF_T
        if family
        in (
            "normal",
            "student",
            "yeo_johnson",
            "censored",
            "bernoulli",
            "binomial(n)",
            "ordinal",
            "categorical",
        )
        else SMALL
    )
    limits = LIMITS if family == "censored" else {}
    families = {} if family in ("normal", "ordinal", "categorical") else {"v": family, "y": family}
    families |= {name: f"censored({name}_is)" for name in limits}
    return Design(
        f"y ~ {TERMS[family][0]} + (1 | g)", {"v": "v ~ 1 + (1 | g)"}, pr.Priors(SIGMA, prior, BETA),
        partial(simulate, family=family, prior=prior, other=other), {"v": 1, "y": 3}, families,
        limits=limits,
    )  # fmt: skip


DESIGNS = {family: design(family) for family in TERMS}
TITLE = [
    "# Calibration of the joint GLMM with every family in both roles",
    "",
    "As incomplete response, and as incomplete covariate in a term that is not linear (tests/calibration/families.py). "
    f"{joint_glmm.DRAWS} draws",
    f"of each data set, {joint_glmm.CLUSTERS} clusters of {joint_glmm.ROWS} rows. Wrong variants that must be rejected:",
    "`tests/calibration/test_families.py`.",
]


def power(repetitions: int = 300) -> list[str]:
    """How often draws that are shifted, too narrow or too wide are rejected at the level of FAMILIES_RESULTS.md.

    The truth is N(0, 1) given the data, the draws N(move, scale^2), one of 13 designs with 14 quantities.
    """
    wrong = [(0.5, 1.0), (0.75, 1.0), (1.0, 1.0), (0.0, 0.5), (0.0, 0.6), (0.0, 0.7), (0.0, 1.5), (0.0, 2.0)]
    rng, lines = np.random.default_rng(0), []
    for n in (60, 120, 240):
        cells = []
        for move, scale in wrong:
            chance = stats.norm.cdf((rng.normal(size=(repetitions, n)) - move) / scale)
            p = [p_value(row, sbc.DRAWS) for row in rng.binomial(sbc.DRAWS, chance)]
            cells.append(f"{np.mean(np.array(p) < LEVEL / 13 / 14):.2f}")
        lines.append(f"| {n} | {' | '.join(cells)} |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--datasets", type=int, default=120)
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--only", nargs="*", default=[], choices=list(DESIGNS))
    parser.add_argument("--tune", type=int, default=150, help="sweeps before the first draw")
    parser.add_argument("--thin", type=int, default=6, help="sweeps from one draw to the next")
    parser.add_argument("--power", action="store_true", help="print what so many data sets can see, and stop")
    options = parser.parse_args()
    if options.power:
        print("\n".join(power()))
        return
    began, lines, found = time.perf_counter(), [], {}
    commit = run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
    command = f"python -m tests.calibration.families --datasets {options.datasets} --seed {options.seed}"
    command += f" --tune {options.tune} --thin {options.thin}"
    command += f" --only {' '.join(options.only)}" if options.only else ""
    path = Path(__file__).with_name("FAMILIES_RESULTS.md")
    before = path.read_text().splitlines() if options.only and path.exists() else TITLE
    for name in options.only or DESIGNS:
        ranked = joint_glmm.ranks(DESIGNS[name], options.datasets, options.seed, options.tune, options.thin)
        found[name] = sbc.overall(ranked)
        lines.append(row(name, ranked))
        print(lines[-1], flush=True)
        text = [  # written after each, in case the run is stopped
            *before, "", f"`{command}`", "",
            f"{date.today()}, commit {commit}, Python {platform.python_version()}, {time.perf_counter() - began:.0f} s.",
            "", "| | quantities | p (Bonferroni) | most extreme | its p |", "|---|---|---|---|---|", *lines, "",
            f"All above {LEVEL} / {len(found)}: {'yes' if min(found.values()) > LEVEL / len(found) else 'NO'}.",
        ]  # fmt: skip
        path.write_text("\n".join(text) + "\n")


if __name__ == "__main__":
    main()
