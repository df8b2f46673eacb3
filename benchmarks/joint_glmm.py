"""The joint GLMM: effective draws per second, the gain from moving effects and values together, and the cost of rows."""

from __future__ import annotations

import tempfile
import time
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pandas as pd

import bayesimp as bi
from bayesimp.joint.glmm import sampler as sampling
from bayesimp.joint.glmm import summed
from bayesimp.joint.glmm.model import JointGLMM
from bayesimp.joint.glmm.sampler import Sampler
from bayesimp.joint.glmm.together import JointMove
from benchmarks.r_side import HAVE_R, r_script

ANALYSIS = "y ~ x1 + x2 + (1 + x1 | study)"


def jolani(rows: int = 300, seed: int = 3, clusters: int = 10) -> bi.IncompleteData:
    """Jolani's design: ten studies, a binary outcome, a binary covariate and a count, both incomplete."""
    table, _ = bi.simulate_ipd(clusters, rows, outcome="binary", seed=seed)
    return bi.IncompleteData(table, "study", families={"y": "bernoulli", "x1": "bernoulli", "x2": "poisson"})


@contextmanager
def without_joint_move(model: JointGLMM):
    """The model without the move of effects and values together."""
    kept = model.table
    model.table = replace(kept, bare=tuple(np.empty(0, dtype=np.int64) for _ in kept.bare))
    yield model
    model.table = kept


@contextmanager
def without_sums(model: JointGLMM):
    """The sampler without effects drawn with missing levels summed out."""
    with patch.object(sampling, "summed_out", lambda *given: []):
        yield model


@contextmanager
def with_rounds(rounds: int):
    """The sampler with so many updates of the parameters of factors that are not normal in one sweep."""
    with patch.object(Sampler, "rounds", rounds):
        yield


def measured(model: JointGLMM, draws: int = 1500, tune: int = 300) -> dict:
    """Processor seconds of a run of two chains, and effective sample sizes: the smallest, and each of the analysis."""
    model.impute(m=2, seed=0, chains=2, tune=1, draws=1)  # kernels loaded
    imp, seconds = _cpu(lambda: model.impute(m=20, seed=1, chains=2, tune=tune, draws=draws))
    parameters = imp.summary().parameters["ess_bulk"]
    own = [
        name
        for name in parameters.index
        if name.startswith("beta_y") or (name.count("[y:") and name.count(", y:"))
    ]
    return {
        "seconds": seconds,
        "sweep": 1000 * seconds / (2 * (draws + tune)),
        "analysis": float(parameters[own].min()),
        "each": ", ".join(f"{name} {value:.0f}" for name, value in parameters[own].items()),
        "all": float(parameters.min()),
        "imputed": float(imp.summary().imputed["ess_bulk"].min()),
    }


def joint_glmm() -> list[str]:
    """Jolani's design, 10 x 300, binary outcome with a random slope, a binary covariate and an incomplete count: two
    chains x (300 + 1,500) sweeps, two workers, kernels compiled; processor seconds of both. Smallest effective sample
    sizes of the analysis' own parameters (beta and Psi of y), of all parameters, of imputed means and standard deviations
    by study; seconds on two cores (half of the processor seconds) for 1,000 effective draws of every parameter of the
    analysis (goal: 20). The other rows omit the moves of effects and values together, the effects drawn with missing
    levels summed out, and the second update of parameters in each sweep."""
    model = bi.JointGLMM(jolani(), ANALYSIS)
    lines = [
        "| | processor s | ms a sweep | analysis | all parameters | imputed | s on two cores for 1,000 |",
        "|---|---|---|---|---|---|---|",
    ]

    def row(name: str, found: dict) -> None:
        wait = 0.5 * found["seconds"] * 1000 / found["analysis"]
        lines.append(
            f"| {name} | {found['seconds']:.1f} | {found['sweep']:.2f} | {found['analysis']:.0f} | {found['all']:.0f} | "
            f"{found['imputed']:.0f} | {wait:.1f} |"
        )

    every = measured(model)
    row("with all moves", every)
    with without_joint_move(model):
        row("without the joint move", measured(model))
    with without_sums(model):
        row("without levels summed out", measured(model))
    with with_rounds(1):
        row("with one update of parameters", measured(model))
    return [*lines, "", f"Effective draws with all moves: {every['each']}."]


def joint_glmm_rounds(draws: int = 500, tune: int = 200) -> list[str]:
    """How often the parameters of factors that are not normal, and Psi, are updated in one sweep: effective draws per
    second of processor time of the analysis' own parameters, the smallest and the geometric mean of all; two chains.
    Jolani's design, where rows alike are merged; a binary outcome with two incomplete normal covariates, where none are;
    and the latter with 100 clusters of 30."""
    lines = [
        "| design | rounds | processor s | smallest | per second | mean per second |",
        "|---|---|---|---|---|---|",
    ]
    for name, data in (
        ("10 x 300, discrete", jolani()),
        ("10 x 300, normal covariates", binary_outcome(10)),
        ("100 x 30, normal covariates", binary_outcome(100)),
    ):
        model = bi.JointGLMM(data, ANALYSIS)
        model.impute(m=2, seed=0, chains=2, tune=1, draws=1)
        for rounds in (1, 2, 3):
            with with_rounds(rounds):
                imp, seconds = _cpu(
                    lambda model=model: model.impute(m=2, seed=4, chains=2, tune=tune, draws=draws)
                )
            ess = _effective(_analysis_draws(imp, "Psi"))
            rate = np.exp(np.log(ess / seconds).mean())
            lines.append(
                f"| {name} | {rounds} | {seconds:.1f} | {ess.min():.0f} | {ess.min() / seconds:.1f} | {rate:.1f} |"
            )
    return lines


def with_a_number(clusters: int, rows: int, seed: int = 3) -> bi.IncompleteData:
    """The design of `jolani` with a normal x2, so that no two rows are alike."""
    table, full = bi.simulate_ipd(clusters, rows, outcome="binary", seed=seed)
    x2 = 0.4 * full["x1"] + np.random.default_rng(seed).normal(size=len(full))
    return bi.IncompleteData(
        table.assign(x2=x2.where(table["x2"].notna())),
        "study",
        families={"y": "bernoulli", "x1": "bernoulli"},
    )


SUMS = {
    "none": lambda group, k: False,
    "later factors": lambda group, k: group.of != k,
    "own factor": lambda group, k: group.of == k,
    "both": lambda group, k: True,
}


@contextmanager
def with_sums(kind: str):
    """The sampler with effects drawn with missing levels summed out where `SUMS` says so, however few rows there are."""
    right, chosen = sampling.summed_out, SUMS[kind]
    with (
        patch.object(summed, "FEWEST", 1),
        patch.object(
            sampling, "summed_out", lambda table, k: [group for group in right(table, k) if chosen(group, k)]
        ),
    ):
        yield


def joint_glmm_summed(
    designs: tuple[str, ...] = (), kinds: tuple[str, ...] = tuple(SUMS), draws: int = 400, tune: int = 100
) -> list[str]:
    """Where effects are drawn with missing levels summed out: those of later factors, of the variable's own factor, both
    or none. Binary outcome with a random slope of a binary covariate, which a tenth of the clusters lack; the other
    covariate is a count or a number. Two chains. Of the analysis' own parameters (beta and Psi of y): the smallest
    effective sample size, and it and the geometric mean of all per second of processor time; of means and standard
    deviations of imputed values by cluster: the smallest, and per second."""
    lines = [
        "| design | sums | ms a sweep | smallest | per second | mean per second | imputed | per second |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, data in (
        ("10 x 300, discrete", lambda: jolani()),
        ("10 x 300, a number", lambda: with_a_number(10, 300)),
        ("10 x 3,000, discrete", lambda: jolani(3000)),
        ("10 x 3,000, a number", lambda: with_a_number(10, 3000)),
        ("30 x 100, discrete", lambda: jolani(100, clusters=30)),
        ("60 x 50, discrete", lambda: jolani(50, clusters=60)),
        ("100 x 30, discrete", lambda: jolani(30, clusters=100)),
        ("100 x 300, discrete", lambda: jolani(300, clusters=100)),
        ("500 x 8, discrete", lambda: jolani(8, clusters=500)),
    ):
        if designs and name not in designs:
            continue
        model = bi.JointGLMM(data(), ANALYSIS)
        for sums in kinds:
            with with_sums(sums):
                model.impute(m=2, seed=0, chains=2, tune=1, draws=1)
                imp, seconds = _cpu(
                    lambda model=model: model.impute(m=2, seed=4, chains=2, tune=tune, draws=draws)
                )
            ess, sweep = _effective(_analysis_draws(imp, "Psi")), 500 * seconds / (draws + tune)
            imputed = float(imp.summary().imputed["ess_bulk"].min())
            rate = np.exp(np.log(ess / seconds).mean())
            lines.append(
                f"| {name} | {sums} | {sweep:.2f} | {ess.min():.0f} | {ess.min() / seconds:.1f} | {rate:.1f} | "
                f"{imputed:.0f} | {imputed / seconds:.1f} |"
            )
    return lines


def joint_glmm_rows() -> list[str]:
    """Cost of rows: milliseconds per sweep of one chain, 10 studies."""
    lines = ["| rows | ms per sweep | ms per sweep and 1,000 rows |", "|---|---|---|"]
    for rows in (100, 300, 1000, 3000):
        model = bi.JointGLMM(jolani(rows), ANALYSIS)
        model.impute(m=1, seed=0, chains=1, tune=1, draws=1)
        began = time.perf_counter()
        sweeps = max(200_000 // (10 * rows), 20)
        model.impute(m=1, seed=1, chains=1, tune=0, draws=sweeps)
        each = 1000 * (time.perf_counter() - began) / sweeps
        lines.append(f"| {10 * rows:,} | {each:.2f} | {each / rows * 100:.2f} |")
    return lines


def joint_glmm_default() -> list[str]:
    """A default imputation (m = 20, four chains x (200 + 1,000) sweeps) of a table with the shape of Hsb82, about 7,200
    pupils in 160 schools. Half of a covariate is missing, and its product with a variable of schools is in the analysis
    (goal: 3 s)."""
    rng = np.random.default_rng(7)
    sizes = rng.integers(20, 70, 160)
    g = np.repeat(np.arange(160), sizes)
    sector = (np.arange(160) < 90).astype(int)[g]
    ses = rng.normal(0, 0.4, 160)[g] + rng.normal(0, 0.67, len(g))
    y = (
        13
        + 1.6 * ses
        - 2 * sector
        + 1.3 * ses * sector
        + rng.normal(0, 1.9, 160)[g]
        + rng.normal(0, 6, len(g))
    )
    table = pd.DataFrame({"school": g, "sector": sector, "ses": ses, "y": y})
    table.loc[rng.random(len(g)) < 0.5, "ses"] = np.nan
    model = bi.JointGLMM(bi.IncompleteData(table, "school"), "y ~ ses * sector + (1 | school)")
    model.impute(m=4, seed=0, tune=1, draws=1)
    runs = {workers: model.impute(seed=1, workers=workers) for workers in (2, 1)}
    smallest = runs[2].summary().parameters["ess_bulk"].min()
    seconds = {workers: f"{imp.attrs['seconds']:.2f} s" for workers, imp in runs.items()}
    return [
        f"{len(g):,} rows: {seconds[2]} with two workers, {seconds[1]} with one; smallest effective sample size of a "
        f"parameter {smallest:.0f}."
    ]


def binary_outcome(clusters: int, seed: int = 5) -> bi.IncompleteData:
    """3,000 rows: binary outcome with a random slope, two normal covariates, one never observed in one cluster."""
    rng = np.random.default_rng(seed)
    g = np.repeat(np.arange(clusters), 3000 // clusters)
    u = rng.multivariate_normal([0, 0], [[0.5, 0.1], [0.1, 0.3]], clusters)[g]
    x1 = rng.normal(0, 0.5, clusters)[g] + rng.normal(size=3000)
    x2 = 0.4 * x1 + rng.normal(0, 0.5, clusters)[g] + rng.normal(size=3000)
    eta = x1 * (1 + u[:, 1]) - 0.5 * x2 + u[:, 0]
    table = pd.DataFrame({"study": g, "y": (rng.random(3000) * (1 + np.exp(-eta)) < 1).astype(float)})
    for k, (name, x) in enumerate((("x1", x1), ("x2", x2))):
        table[name] = np.where((rng.random(3000) < 0.15) | (g == k), np.nan, x)
    return bi.IncompleteData(table, "study", families={"y": "bernoulli"})


def normal_covariates(seed: int = 3) -> pd.DataFrame:
    """Ten studies of 300: normal outcome with a random slope, two incomplete normal covariates, one never observed in one
    study."""
    rng = np.random.default_rng(seed)
    g = np.repeat(np.arange(10), 300)
    u = rng.multivariate_normal([0, 0], [[0.5, 0.1], [0.1, 0.2]], 10)[g]
    x1 = rng.normal(0, 0.5, 10)[g] + rng.normal(size=3000)
    x2 = 0.4 * x1 + rng.normal(0, 0.5, 10)[g] + rng.normal(size=3000)
    table = pd.DataFrame({"study": g, "y": x1 * (1 + u[:, 1]) - 0.5 * x2 + u[:, 0] + rng.normal(size=3000)})
    for k, (name, x) in enumerate((("x1", x1), ("x2", x2))):
        table[name] = np.where((rng.random(3000) < 0.15) | (g == k), np.nan, x)
    return table


def joint_glmm_lacking(draws: int = 2000, tune: int = 200) -> list[str]:
    """Two normal covariates, each missing in a whole study: their effects and values move together, and effects of
    later factors against them or not. Effective draws of 2 x `draws`: smallest of all effects, and of the analysis."""
    data = bi.IncompleteData(normal_covariates(), "study")
    lines = [
        "| effects | effects of later factors | processor s | effective: effects | effective: analysis |",
        "|---|---|---|---|---|",
    ]
    for effects, stay in ((e, s) for e in ("separate", "joint") for s in (True, False)):
        model = bi.JointGLMM(data, ANALYSIS, effects=effects)
        model.impute(m=2, seed=0, chains=2, tune=1, draws=1)
        with patch.object(JointMove, "_takers", lambda self: []) if stay else nullcontext():
            imp, own = _cpu(
                lambda model=model: model.impute(
                    m=2, seed=1, chains=2, tune=tune, draws=draws, keep_effects=True
                )
            )
        posterior = imp.tree["posterior"]
        B = [x.values.reshape(*x.shape[:2], -1) for name, x in posterior.data_vars.items() if name[0] == "B"]
        of_effects = _smallest(np.concatenate(B, axis=-1))
        analysis = _smallest(_analysis_draws(imp, "Psi_y" if effects == "separate" else "Psi"))
        moves = "stay" if stay else "move"
        lines.append(f"| {effects} | {moves} | {own:.1f} | {of_effects:.0f} | {analysis:.0f} |")
    return lines


def _effective(draws: np.ndarray) -> np.ndarray:
    """(quantities,) bulk effective sample sizes; draws (chains, D, quantities)."""
    from arviz_stats.base import array_stats

    return np.array(
        [float(array_stats.ess(draws[:, :, k], chain_axis=0, draw_axis=1)) for k in range(draws.shape[2])]
    )


def _smallest(draws: np.ndarray) -> float:
    """The smallest of them."""
    return float(_effective(draws).min())


def _analysis_draws(imp: bi.Imputations, Psi: str) -> np.ndarray:
    """(chains, draws, 6): coefficients, and the covariance of the effects, of the analysis."""
    posterior = imp.tree["posterior"]
    last = posterior[Psi].values[..., -2:, -2:]
    return np.concatenate([posterior["beta_y"].values, last[..., [0, 0, 1], [0, 1, 1]]], axis=-1)


def _cpu(run):
    """What a call returns, and processor seconds of all its threads."""
    began = time.process_time()
    return run(), time.process_time() - began


def joint_glmm_jomo(draws: int = 1000, iterations: int = 60_000, seeds: tuple[int, ...] = (2,)) -> list[str]:
    """Effective draws per second of processor time of the analysis' own parameters (the smallest, beta and Psi of y), our
    warm-up included, one chain of jomo of 60,000 iterations (about 70 effective draws, so that its rate is known to about
    a quarter) for each seed, the first 10 % of its draws dropped; the last column has the ratio for each parameter: three
    coefficients, and variance, covariance and variance of the effects. Same table, 10 x 300,
    y ~ x1 + x2 + (1 + x1 | study), effects of different variables independent in ours, kernels compiled. Binary: probit
    link, x1 binary, x2 a count treated as normal, as in jomo.glmer; one study lacks x1, another x2. Goal: 20
    times jomo."""
    if not HAVE_R:
        return ["R is not installed."]
    binary = jolani().frame[["study", "y", "x1", "x2"]]
    cases = {
        "jomo.glmer": (binary, {"y": "bernoulli", "x1": "bernoulli"}, {"y": "probit", "x1": "probit"}),
        "jomo.lmer": (normal_covariates(), {}, {}),
    }
    lines = [
        "| peer | ours: effective, s | per second | jomo: effective, s | per second | ratio | ratio for each |",
        "|---|---|---|---|---|---|---|",
    ]
    for peer, (table, families, links) in cases.items():
        data = bi.IncompleteData(table, "study", families)
        model = bi.JointGLMM(data, ANALYSIS, links=links, effects="separate")
        model.impute(m=2, seed=0, chains=2, tune=1, draws=1)
        imp, own = _cpu(lambda model=model: model.impute(m=2, seed=1, chains=2, tune=200, draws=draws))
        ours = _effective(_analysis_draws(imp, "Psi_y"))
        theirs, seconds = [], 0.0
        with tempfile.TemporaryDirectory() as folder:
            source, chain = Path(folder) / "d.csv", Path(folder) / "chain.csv"
            table.to_csv(source, index=False)
            for seed in seeds:
                report = r_script("jomo_analysis.R", source, iterations, seed, chain)
                seconds += report["cpu_seconds"]
                theirs.append(pd.read_csv(chain).to_numpy()[iterations // 10 :])
        rates = ours / own, _effective(np.stack(theirs)) / seconds
        a, b = (rate.min() for rate in rates)
        lines.append(
            f"| {peer} {report['version']} | {own * a:.0f}, {own:.1f} | {a:.1f} | {seconds * b:.0f}, {seconds:.1f} | "
            f"{b:.3f} | {a / b:.0f} | {', '.join(f'{x:.0f}' for x in rates[0] / rates[1])} |"
        )
    return lines


def joint_glmm_nuts(draws: int = 1000, tune: int = 300) -> list[str]:
    """Gibbs and NUTS on one posterior: the table of `joint_glmm`, its count taken as normal because NUTS takes no missing
    counts. Two chains; processor seconds of all threads, including those for compiling the PyMC model."""
    data = jolani()
    model = bi.JointGLMM(
        bi.IncompleteData(data.frame, "study", {"y": "bernoulli", "x1": "bernoulli"}), ANALYSIS
    )
    model.impute(m=2, seed=0, chains=2, tune=1, draws=1)
    lines = [
        "| sampler | draws | processor s | effective (smallest, analysis) | effective per second | s for 1,000 |",
        "|---|---|---|---|---|---|",
    ]
    rates = []
    for kind, own in (("gibbs", dict(tune=300, draws=1500)), ("nuts", dict(tune=tune, draws=draws))):
        imp, seconds = _cpu(lambda s=kind, own=own: model.impute(m=2, seed=1, chains=2, sampler=s, **own))
        ess = _smallest(_analysis_draws(imp, "Psi"))
        rates.append(ess / seconds)
        lines.append(
            f"| {kind} | 2 x ({own['tune']} + {own['draws']}) | {seconds:.0f} | {ess:.0f} | {ess / seconds:.2f} | "
            f"{1000 * seconds / ess:.0f} |"
        )
    return [
        *lines,
        "",
        f"Gibbs has {rates[0] / rates[1]:.1f} times as many effective draws per second as NUTS.",
    ]
