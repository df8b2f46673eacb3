"""How long a default run of `JointLatent` must be: the study behind the default `thin=` of its ``impute``.

    python -m benchmarks.latent_draws            # writes benchmarks/LATENT_DRAWS.md

Mixed tables (normal, binary, ordinal, nominal) of benchmarks/engine_tables.py with 6 to 100 clusters, and that of
benchmarks/latent.py, by the model that `bi.impute` makes of them: default priors, four chains, 1,000 draws kept of each.
Every k-th iteration of one long run is kept, and the smallest ESS (bulk or tail, of all parameters and imputed means
and sds that `bi.impute` checks) is that of the first 1,000. The default is the smallest k for which at least nine in
ten tables meet the library's own criterion: chains mix, and the smallest ESS is at least 400.
"""

from __future__ import annotations

import argparse
import platform
from pathlib import Path
from typing import Any

import xarray as xr

import bayesimp as bi
from bayesimp import notation as nt
from bayesimp.diagnostics.convergence import ESS_LIMIT, Summary, glance
from bayesimp.workflow.default_formula import joint_formula
from benchmarks.engine_choice import CELLS
from benchmarks.latent import table

HERE = Path(__file__).parent
DRAWS = 1_000
THIN = (1, 2, 3, 4, 5, 6)
SHARE = 0.9
SEED = 1


class Thinned:
    """Imputations, as the criterion reads them, of every k-th iteration."""

    def __init__(self, imputations: bi.Imputations, k: int) -> None:
        self.data, self.events, self.m = imputations.data, imputations.events, imputations.m
        self.chained, self.model = imputations.chained, imputations.model
        self.tree = {
            name: xr.DataTree(imputations.tree[name].to_dataset().isel({nt.DRAW: slice(k - 1, k * DRAWS, k)}))
            for name in ("posterior", "imputed_stats")
        }


def tables() -> dict[str, bi.IncompleteData]:
    """Tables by name."""
    found = {
        "1,000 rows in 50 clusters (benchmarks/latent.py)": bi.IncompleteData(
            table(), "cluster", {"b": "bernoulli"}
        )
    }
    for cell in CELLS:
        if cell.covariates == "mixed":
            scenario = cell.scenario
            frame, _ = scenario.delete(scenario.generate(seed=SEED), seed=SEED)
            found[cell.name] = bi.IncompleteData(frame, "cluster", scenario.families)
    return found


def judged(imputations: bi.Imputations) -> dict[int, Summary]:
    """The verdict with each of `THIN`."""
    views: dict[int, Any] = {k: Thinned(imputations, k) for k in THIN}
    return {k: glance(view) for k, view in views.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tables", type=int, default=None, help="the first of them only; nothing is written")
    options = parser.parse_args()
    lines, met = [], dict.fromkeys(THIN, 0)
    chosen = list(tables().items())[: options.tables]
    for name, data in chosen:
        model = bi.JointLatent(data, joint_formula(data, latent=True))
        run = model.impute(20, seed=SEED, draws=DRAWS * THIN[-1], thin=1, executor="serial", progress=False)
        found = judged(run)
        for k, summary in found.items():
            met[k] += summary.converged
        sizes = (f"{s.smallest_ess:.0f}{'' if s.mixes else '*'}" for s in found.values())
        lines.append(f"| {name} | {len(model.table.labels)} | {' | '.join(sizes)} |")
        print(lines[-1], flush=True)
    enough = [k for k in THIN if met[k] >= SHARE * len(chosen)]
    verdict = (
        f"Every k-th iteration, enough in nine tables of ten: {f'k = {enough[0]}' if enough else 'none'}."
    )
    shares = " | ".join(f"{met[k]} of {len(chosen)}" for k in THIN)
    print(f"{shares}\n{verdict}")
    if options.tables is not None:
        return
    about = (__doc__ or "").split("\n\n")[2]
    (HERE / "LATENT_DRAWS.md").write_text(
        f"# How long a default run of JointLatent must be\n\nMade by `python -m benchmarks.latent_draws` (bayesimp "
        f"{bi.__version__}, Python {platform.python_version()}).\n\n{about}\n\nSmallest ESS (limit {ESS_LIMIT}) of "
        f"{DRAWS:,} draws of each of four chains, every k-th iteration; *: R-hat beyond its limit.\n\n"
        f"| table | latent variables | {' | '.join(f'k = {k}' for k in THIN)} |\n"
        f"|---|---|{'---|' * len(THIN)}\n" + "\n".join(lines)
        + f"\n| criterion met | | {shares} |\n\n{verdict}\n"
    )  # fmt: skip


if __name__ == "__main__":
    main()
