"""Calibration of the Gibbs steps of one variable (kernels/chained/gibbs.py), imputing as the FCS loop does.

A chain is advanced by the step, and after every few updates its missing values are drawn from the very state that
the step returned. In full: `python -m tests.calibration.conditional --datasets 600` rewrites CONDITIONAL_RESULTS.md.
"""

import argparse
import platform
import time
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from subprocess import run

import numpy as np

from bayesimp import priors as pr
from bayesimp.joint.gibbs import initial_state
from bayesimp.kernels.chained import gibbs as kernel
from bayesimp.kernels.normal.effects import moments
from bayesimp.priors.gibbs import beta_prior, covariance_update
from tests.calibration import sbc
from tests.calibration.run import LEVEL, SEED, row
from tests.calibration.sbc import DRAWS, Backend, Design, Draws

UNIT = 30.0


@dataclass(frozen=True)
class ClusterDesign(Design):
    """One residual variance per cluster; priors.Sigma is not used."""

    variances: kernel.VariancesPrior


@dataclass(frozen=True)
class StepDraws(Draws):
    """B (L, m, q) besides; sigma2 (L, m) and s0_a (L, 2) of a ClusterDesign, whose Sigma is not used."""

    B: np.ndarray | None = None
    sigma2: np.ndarray | None = None
    s0_a: np.ndarray | None = None


# -- designs -------------------------------------------------------------------------------------------------


VARIANCES = kernel.VariancesPrior(scale=UNIT, nu=3.0, spread=0.5)


def table(q: int, clusters: int = 7, rows: int = 6):
    """One response: missing in the first and last clusters, observed once in the second, partly missing in the others."""
    rng = np.random.default_rng(6)
    codes = np.repeat(np.arange(clusters), rows)
    x = 3.0 + 0.5 * rng.normal(size=len(codes))
    missing = rng.random(len(codes)) < 0.3
    missing[(codes == 0) | (codes == clusters - 1)] = True
    missing[codes == 1] = np.arange(rows) > 0
    X = np.column_stack([np.ones(len(codes)), x])
    return X, X[:, :q].copy(), codes, missing[:, None]


BETA = pr.Normal(mean=[[-200.0], [0.0]], sd=[[60.0], [20.0]])
VAGUE = pr.Normal(mean=[[-200.0], [0.0]], sd=[[600.0], [200.0]])
HUANG_WAND = pr.HuangWand(scale=UNIT)
HALF_T = pr.Diagonal(pr.HalfT(scale=UNIT))
TWO = pr.InverseWishart(5.0, np.linalg.inv(UNIT**2 * np.array([[2.0, 0.8], [0.8, 2.0]])))
ONE = pr.InverseWishart(4.0, 0.5 / UNIT**2)
NONE = pr.Fixed([[1.0]])

DESIGNS = {
    "inverse-Wishart": Design(*table(1), pr.Priors(ONE, ONE, BETA)),
    "Huang-Wand": Design(*table(1), pr.Priors(HUANG_WAND, HUANG_WAND, BETA)),
    "slopes, inverse-Wishart": Design(*table(2), pr.Priors(ONE, TWO, BETA)),
    "slopes, Huang-Wand": Design(*table(2), pr.Priors(HUANG_WAND, HUANG_WAND, BETA)),
    "slopes, diagonal half-t": Design(*table(2), pr.Priors(HALF_T, HALF_T, BETA)),
    "cluster variances": ClusterDesign(*table(1), pr.Priors(NONE, HUANG_WAND, BETA), VARIANCES),
    "cluster variances, slopes": ClusterDesign(*table(2, 9), pr.Priors(NONE, HALF_T, BETA), VARIANCES),
    "cluster variances, inverse-Wishart": ClusterDesign(*table(2, 9), pr.Priors(NONE, TWO, BETA), VARIANCES),
}
WIDE = ClusterDesign(*table(1, 8, 14), pr.Priors(NONE, HUANG_WAND, BETA), VARIANCES._replace(spread=1.0))
# little is known, so that the contribution of parameter uncertainty to the imputations shows
SCARCE = Design(*table(1, 5, 4), pr.Priors(HUANG_WAND, HUANG_WAND, VAGUE))


def draw_truth(rng, design: Design) -> StepDraws:
    """Like sbc.draw_truth, with a residual variance for every cluster of a ClusterDesign."""
    p, q, _, m = design.sizes
    N = len(design.X)
    beta = rng.normal(design.priors.beta.mean, design.priors.beta.sd, size=(p, 1))
    Psi = sbc.draw_Psi(rng, design)
    B = rng.multivariate_normal(np.zeros(q), Psi, m)
    if isinstance(design, ClusterDesign):
        prior = design.variances
        s0 = (prior.scale * rng.standard_t(prior.nu)) ** 2
        a = 2 / (prior.spread * rng.standard_normal()) ** 2
        sigma2, Sigma = 0.5 * a * s0 / rng.gamma(0.5 * a, size=m), np.ones((1, 1))
        s0_a = np.array([[s0, a]])
    else:
        Sigma = sbc.draw_covariance(rng, design.priors.Sigma, 1)
        sigma2, s0_a = np.full(m, Sigma[0, 0]), None
    y = (
        design.X @ beta[:, 0]
        + (design.Z * B[design.codes]).sum(1)
        + np.sqrt(sigma2[design.codes]) * rng.normal(size=N)
    )
    return StepDraws(
        beta[None], Sigma[None], Psi[None], y[None, :, None], B=B[None], sigma2=sigma2[None], s0_a=s0_a
    )


# -- the steps as backends -----------------------------------------------------------------------------------


def step(tune: int = 300, updates: int = 10, spoil=None) -> Backend:
    """`spoil`: changes what the imputations are drawn from, (rng, StepDraws on the working scale) -> StepDraws."""

    def backend(design: Design, Y, seed: int) -> StepDraws:
        working, priors = sbc.working_and_priors(design, Y)
        kept = run_chain(design, working, priors, seed, tune, updates)
        scale, place = working.scale, np.argsort(working.order)
        rng = np.random.default_rng([seed, 1])
        values = np.full((DRAWS, *design.missing.shape), np.nan)
        values[:, working.rows.row, 0] = impute(rng, working, spoil(rng, kept) if spoil else kept)
        return replace(
            kept, beta=scale.beta(kept.beta), Sigma=scale.Sigma(kept.Sigma), Psi=scale.Psi(kept.Psi), values=values,
            sigma2=kept.sigma2[:, place] * scale.s**2,
            s0_a=None if kept.s0_a is None else kept.s0_a * [scale.s[0] ** 2, 1.0],
        )  # fmt: skip

    return backend


def run_chain(design: Design, working, priors, seed: int, tune: int, updates: int) -> StepDraws:
    """Working scale and order; no values."""
    p, q, _, m = design.sizes
    by_cluster = isinstance(design, ClusterDesign)
    state = initial_state(seed, 0, priors, 1, q)
    rng, Sigma, Psi = state.rng, state.Sigma, state.Psi
    prior_Sigma, prior_Psi = covariance_update(priors.Sigma, 1), covariance_update(priors.Psi, q)
    Q0, t0 = beta_prior(priors.beta, working.scale, 1)
    beta, B = np.zeros((p, 1)), np.zeros((m, q, 1))
    sigma2, s0_a, none = np.ones(m), np.array([1.0, 5.0]), np.empty(0, np.int64)
    if by_cluster:
        moments_ = kernel.moments_by_cluster(working.statistics)
        prior = design.variances._replace(scale=design.variances.scale / working.scale.s[0])
    else:
        moments_ = observed_only(moments(working.statistics))

    def advance(updates):
        if by_cluster:
            return kernel.cluster_step(
                rng, moments_, updates, prior_Psi, prior, Q0, t0, sigma2, s0_a, Psi, beta, B, none
            )
        code = kernel.common_step(
            rng, moments_, updates, prior_Sigma, prior_Psi, Q0, t0, Sigma, Psi, beta, B, none
        )
        sigma2[:] = Sigma[0, 0]
        return code

    out = [np.empty((DRAWS, *a.shape)) for a in (beta, Sigma, Psi, B, sigma2, s0_a)]
    for d in range(-1, DRAWS):
        if advance(tune if d < 0 else updates):
            raise ArithmeticError("the step failed")
        for store, value in zip(out, (beta, Sigma, Psi, B, sigma2, s0_a), strict=True):
            store[d] = value
    beta, Sigma, Psi, B, sigma2, s0_a = out
    return StepDraws(
        beta, Sigma, Psi, np.empty(0), B=B[..., 0], sigma2=sigma2, s0_a=s0_a if by_cluster else None
    )


def observed_only(m):
    """Without the pattern in which nothing is observed."""
    return m._replace(
        **{name: getattr(m, name)[:1] for name in ("patterns", "pattern_rows", "XX", "XY", "YY")}
    )


def impute(rng, working, draws: StepDraws):
    """(L, R) on the scale of the data: X beta + Z b_i + sigma_i e, using only what the step returned."""
    rows = working.rows
    mean = draws.beta[..., 0] @ rows.X.T + np.einsum("jq,ljq->lj", rows.Z, draws.B[:, rows.cluster])
    e = np.sqrt(draws.sigma2[:, rows.cluster]) * rng.standard_normal(mean.shape)
    return working.scale.s[0] * (mean + e + rows.fixed[:, 0])


# -- quantities ----------------------------------------------------------------------------------------------


def quantities(design: Design, Y, draws: StepDraws) -> dict[str, np.ndarray]:
    if not isinstance(design, ClusterDesign):
        return sbc.quantities(design, Y, draws) | imputed_beside_observed(design, Y, draws)
    out = {f"beta[{x}]": draws.beta[:, x, 0] for x in range(draws.beta.shape[1])}
    out |= {f"Psi[{k},{k}]": draws.Psi[:, k, k] for k in range(draws.Psi.shape[1])}
    if not isinstance(design.priors.Psi, pr.Diagonal) and draws.Psi.shape[1] > 1:
        out["Psi[1,0]"] = draws.Psi[:, 1, 0]
    out |= {f"sigma2[{i}]": draws.sigma2[:, i] for i in range(draws.sigma2.shape[1])}
    out |= {
        "s0": draws.s0_a[:, 0],
        "a": draws.s0_a[:, 1],
        "log likelihood": log_likelihoods(design, Y, draws),
    }
    return out | imputed_quantities(design, Y, draws)


def imputed_quantities(design: Design, Y, draws: StepDraws) -> dict[str, np.ndarray]:
    return sbc.imputed_quantities(design, Y, draws) | imputed_beside_observed(design, Y, draws)


def imputed_beside_observed(design: Design, Y, draws: StepDraws) -> dict[str, np.ndarray]:
    """Distances between imputed and observed values of the same cluster, in mean and in log sd.

    Draws that ignore the data, such as b_i ~ N(0, Psi), have uniform ranks in all quantities that ignore them too
    (Modrak et al. 2023): these two quantities detect them.
    """
    means, sds = np.zeros((2, len(draws.values)))
    clusters = 0
    for i in range(design.sizes[3]):
        lost, seen = (
            np.flatnonzero((design.codes == i) & (design.missing[:, 0] == k)) for k in (True, False)
        )
        if len(lost) > 1 and len(seen) > 1:
            values = draws.values[:, lost, 0]
            clusters += 1
            means += np.log(np.abs(values.mean(1) - Y[seen, 0].mean()))
            sds += np.log(values.std(1) / Y[seen, 0].std()) ** 2
    return {"means, imputed and observed": means, "sds, imputed and observed": sds} if clusters else {}


def log_likelihoods(design: ClusterDesign, Y, draws: StepDraws):
    """(L,) of the observed values, b integrated out, by dense normals."""
    out = np.zeros(len(draws.beta))
    for i in range(design.sizes[3]):
        j = np.flatnonzero((design.codes == i) & ~np.isnan(Y[:, 0]))
        if len(j):
            Z = design.Z[j]
            V = np.einsum("jq,lqk,ik->lji", Z, draws.Psi, Z) + draws.sigma2[:, i, None, None] * np.eye(len(j))
            e = Y[j, 0] - draws.beta[..., 0] @ design.X[j].T
            out -= 0.5 * (np.linalg.slogdet(V)[1] + (e * np.linalg.solve(V, e[..., None])[..., 0]).sum(1))
    return out


# -- spoiled -------------------------------------------------------------------------------------------------


def parameters_not_drawn(rng, draws: StepDraws) -> StepDraws:
    """beta and the residual variance at their estimates; the rest drawn."""
    estimates = (np.broadcast_to(a.mean(0), a.shape) for a in (draws.beta, draws.sigma2))
    return replace(draws, **dict(zip(("beta", "sigma2"), estimates, strict=True)))


def effects_from_their_prior(rng, draws: StepDraws) -> StepDraws:
    """b_i ~ N(0, Psi) whether or not the cluster has observed values."""
    L = np.linalg.cholesky(draws.Psi)
    return replace(draws, B=np.einsum("lkh,lmh->lmk", L, rng.standard_normal(draws.B.shape)))


def effects_at_zero_without_rows(rng, draws: StepDraws) -> StepDraws:
    """Clusters without observed values, the first and last of the table, share the mean of b, zero.

    They are the clusters whose b no data inform, first in the working order (fewest observed).
    """
    B = draws.B.copy()
    B[:, :2] = 0.0
    return replace(draws, B=B)


def variances_from_their_law(rng, draws: StepDraws) -> StepDraws:
    """sigma_i^2 ~ InvGamma(a/2, a s0/2) whether or not the cluster has observed values."""
    s0, a = draws.s0_a[:, :1], draws.s0_a[:, 1:]
    return replace(draws, sigma2=0.5 * a * s0 / rng.gamma(0.5 * a, size=draws.sigma2.shape))


VARIANTS = {
    "parameters not drawn": (SCARCE, parameters_not_drawn),
    "b from the prior": (DESIGNS["inverse-Wishart"], effects_from_their_prior),
    "b zero without rows": (DESIGNS["inverse-Wishart"], effects_at_zero_without_rows),
    "sigma_i from the population law": (WIDE, variances_from_their_law),
}


# -- runs ----------------------------------------------------------------------------------------------------


def ranks(design: Design, datasets: int, seed: int, backend=None, which=quantities):
    return sbc.simulate(design, backend or step(), datasets, seed, which, draw_truth)


def right(datasets: int, report=print) -> dict[str, float]:
    """p-value of each design, Bonferroni over its quantities."""
    out = {}
    for name, design in {**DESIGNS, "scarce": SCARCE, "cluster variances, spread 1": WIDE}.items():
        found = ranks(design, datasets, SEED, step(tune=500, updates=20))
        out[name] = sbc.overall(found)
        report(row(name, found))
    return out


def wrong(datasets: int, report=print) -> dict[str, float]:
    """p-value of each spoiled step, from the imputed values."""
    out = {}
    for name, (design, spoil) in VARIANTS.items():
        found = ranks(design, datasets, SEED, step(spoil=spoil), imputed_quantities)
        out[name] = sbc.overall(found)
        report(row(name, found))
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--datasets", type=int, default=600)
    datasets = parser.parse_args().datasets
    commit = run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
    began = time.perf_counter()
    lines = []

    def report(line: str) -> None:
        print(line, flush=True)
        lines.append(line)

    header = ["| | quantities | p (Bonferroni) | most extreme | its p |", "|---|---|---|---|---|"]
    lines += ["", "Right steps, by design:", "", *header]
    found = right(datasets, report)
    held = min(found.values()) > LEVEL / len(found)
    lines += ["", f"All above {LEVEL} / {len(found)}: {'yes' if held else 'NO'}.", ""]
    lines += ["Spoiled steps, by the imputed values:", "", *header]
    caught = max(wrong(datasets, report).values()) < 1e-6
    lines += ["", f"All below 1e-6: {'yes' if caught else 'NO'}."]
    head = [
        "# Simulation-based calibration of the conditional Gibbs steps: last results",
        "",
        f"Made by `python -m tests.calibration.conditional --datasets {datasets}` on {date.today()},",
        f"commit {commit}, Python {platform.python_version()}, in {time.perf_counter() - began:.0f} s.",
        "",
        f"{datasets} data sets a design; {DRAWS} draws each. Ranks: exact test of uniformity.py; p-values are",
        "multiplied by the number of quantities.",
    ]
    Path(__file__).with_name("CONDITIONAL_RESULTS.md").write_text("\n".join([*head, *lines]) + "\n")


if __name__ == "__main__":
    main()
