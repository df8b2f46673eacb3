"""Calibration of the block that samples the conditional model in PyMC, on the designs of the Gibbs steps.

As in `conditional`, values are imputed from the very draw that `step` returned, every few cycles. In full:
`python -m tests.calibration.conditional_pymc --datasets 300` rewrites CONDITIONAL_PYMC_RESULTS.md.
"""

import argparse
import platform
import time
from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np

from bayesimp import priors as pr
from bayesimp.fcs.blocks.pymc_normal import NormalConditional
from bayesimp.kernels.normal.effects import moments
from bayesimp.priors.gibbs import beta_prior
from bayesimp.sampling.chains import chain_rng
from tests.calibration import conditional, sbc
from tests.calibration.conditional import UNIT, StepDraws, table
from tests.calibration.run import LEVEL, SEED, row
from tests.calibration.sbc import DRAWS, Backend, Design

NORMAL = [name for name, design in conditional.DESIGNS.items() if type(design) is Design]
EXPONENTIAL = Design(
    *table(1),
    pr.Priors(pr.Diagonal(pr.HalfNormal(UNIT)), pr.Diagonal(pr.Exponential(UNIT)), conditional.BETA),
)
DESIGNS = {name: conditional.DESIGNS[name] for name in NORMAL} | {"exponential": EXPONENTIAL}


def step(cycles: int = 3, spoil=None) -> Backend:
    """Adapts to each data set separately. `spoil`: (rng, StepDraws on the working scale) -> StepDraws."""

    def backend(design: Design, Y, seed: int) -> StepDraws:
        working, priors = sbc.working_and_priors(design, Y)
        p, q, _, m = design.sizes
        block = NormalConditional(priors, p, q, beta_prior=beta_prior(priors.beta, working.scale, 1))
        rng, data = chain_rng(seed, 0), conditional.observed_only(moments(working.statistics))
        block.adapt(rng, data)
        state = block.start(rng, data)
        out = [np.empty((DRAWS, *shape)) for shape in ((p, 1), (1, 1), (q, q), (m, q, 1))]
        for d in range(-20, DRAWS):
            for _ in range(cycles):
                draw = block.step(rng, state, data)
            for store, value in zip(out, draw, strict=True):
                store[d] = value
        beta, Sigma, Psi, B = out
        sigma2 = np.repeat(Sigma[:, :, 0], m, axis=1)
        kept = StepDraws(beta, Sigma, Psi, np.empty(0), B=B[..., 0], sigma2=sigma2)
        scale = working.scale
        values = np.full((DRAWS, *design.missing.shape), np.nan)
        spoiled = spoil(rng, kept) if spoil else kept
        values[:, working.rows.row, 0] = conditional.impute(
            np.random.default_rng([seed, 1]), working, spoiled
        )
        theta = scale.beta(beta), scale.Sigma(Sigma), scale.Psi(Psi)
        return replace(kept, beta=theta[0], Sigma=theta[1], Psi=theta[2], values=values)

    return backend


def draw_truth(rng, design: Design) -> StepDraws:
    """Like conditional.draw_truth, for priors that Gibbs does not support too."""
    prior = design.priors
    if not isinstance(prior.Psi, pr.Diagonal) or not isinstance(prior.Psi.variances, pr.Exponential):
        return conditional.draw_truth(rng, design)
    Sigma = (prior.Sigma.variances.scale * rng.standard_normal((1, 1))) ** 2
    Psi = (prior.Psi.variances.scale * rng.standard_exponential((1, 1))) ** 2
    fixed = pr.Priors(pr.Fixed(Sigma), pr.Fixed(Psi), prior.beta)
    return conditional.draw_truth(rng, replace(design, priors=fixed))


def ranks(name: str, datasets: int, seed: int, spoil=None, which=conditional.quantities):
    return sbc.simulate(DESIGNS[name], step(spoil=spoil), datasets, seed, which, draw_truth)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--datasets", type=int, default=300)
    datasets = parser.parse_args().datasets
    began, lines, found = time.perf_counter(), [], {}
    for name in DESIGNS:
        result = ranks(name, datasets, SEED)
        found[name] = sbc.overall(result)
        lines.append(row(name, result))
        print(lines[-1], flush=True)
    held = min(found.values()) > LEVEL / len(found)
    spoiled = ranks(
        "inverse-Wishart",
        datasets,
        SEED,
        conditional.effects_from_their_prior,
        conditional.imputed_quantities,
    )
    lines += [row("spoiled: b from the prior", spoiled), ""]
    lines += [f"Right ones above {LEVEL} / {len(found)}: {'yes' if held else 'NO'}."]
    lines += [f"Spoiled one below 1e-6: {'yes' if sbc.overall(spoiled) < 1e-6 else 'NO'}."]
    head = [
        "# Simulation-based calibration of the conditional model in PyMC: last results",
        "",
        f"Made by `python -m tests.calibration.conditional_pymc --datasets {datasets}` on {date.today()},",
        f"Python {platform.python_version()}, in {time.perf_counter() - began:.0f} s; {DRAWS} draws a data set. Ranks:",
        "exact test of uniformity.py; p-values are multiplied by the number of quantities.",
        "",
        "| | quantities | p (Bonferroni) | most extreme | its p |",
        "|---|---|---|---|---|",
    ]
    Path(__file__).with_name("CONDITIONAL_PYMC_RESULTS.md").write_text("\n".join([*head, *lines]) + "\n")
    print("\n".join(lines[-3:]))


if __name__ == "__main__":
    main()
