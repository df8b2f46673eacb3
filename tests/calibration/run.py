"""The full calibration: `python -m tests.calibration.run --datasets 600` rewrites RESULTS.md."""

import argparse
import platform
import time
from datetime import date
from pathlib import Path
from subprocess import run

from tests.calibration import sbc
from tests.calibration.designs import DESIGNS, SCARCE
from tests.calibration.variants import VARIANTS

LEVEL = 0.01  # over all right samplers; each is held to LEVEL / their number
SEED = 2024


def right(datasets: int, report=print) -> dict[str, float]:
    """p-value of each design under the Gibbs sampler, Bonferroni over its quantities."""
    out = {}
    for name, design in {**DESIGNS, "scarce": SCARCE}.items():
        ranks = sbc.simulate(design, sbc.gibbs(tune=500, thin=20), datasets, SEED)
        out[name] = sbc.overall(ranks)
        report(row(name, ranks))
    return out


def wrong(datasets: int, report=print) -> dict[str, float]:
    """p-value of each spoiled sampler, Bonferroni over the quantities that should notice it."""
    out = {}
    for name, (backend, quantities) in VARIANTS.items():
        design = SCARCE if name == "parameters not drawn" else DESIGNS["inverse-Wishart"]
        ranks = sbc.simulate(design, backend, datasets, SEED, quantities)
        out[name] = sbc.overall(ranks)
        report(row(name, ranks))
    return out


def row(name: str, ranks) -> str:
    each = sbc.p_values(ranks)
    worst = min(each, key=each.get)
    return f"| {name} | {len(each)} | {sbc.overall(ranks):.2g} | {worst} | {each[worst]:.2g} |"


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
    lines += ["", "Right samplers, by design:", "", *header]
    held = min(right(datasets, report).values()) > LEVEL / (len(DESIGNS) + 1)
    lines += ["", f"All above {LEVEL} / {len(DESIGNS) + 1}: {'yes' if held else 'NO'}.", ""]
    lines += ["Spoiled samplers:", "", *header]
    caught = max(wrong(datasets // 3, report).values()) < 1e-6
    lines += ["", f"All below 1e-6: {'yes' if caught else 'NO'}."]
    head = [
        "# Simulation-based calibration of the Gibbs sampler: last results",
        "",
        f"Made by `python -m tests.calibration.run --datasets {datasets}` on {date.today()},",
        f"commit {commit}, Python {platform.python_version()}, in {time.perf_counter() - began:.0f} s.",
        "",
        f"{datasets} data sets a design, {datasets // 3} a spoiled sampler; {sbc.DRAWS} draws each. Ranks:",
        "exact test of uniformity.py; p-values are multiplied by the number of quantities.",
    ]
    Path(__file__).with_name("RESULTS.md").write_text("\n".join([*head, *lines]) + "\n")


if __name__ == "__main__":
    main()
