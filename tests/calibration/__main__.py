"""The whole calibration suite in one table: `python -m tests.calibration` writes it next to this file.

The same two questions are asked of every design of every sampler and its wrong variants:

    ranks      are ranks of the truth among the draws uniform (uniformity.py)? p is multiplied by the number of quantities
    coverage   how often is the truth inside the central 90 % of the draws, on average over those quantities?

The Monte Carlo standard error of a coverage comes from the differences between data sets, because the quantities of one
data set depend on each other. Each program in this folder describes its designs and wrong variants, and can run longer.
"""

import argparse
import platform
import time
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from subprocess import run
from typing import NamedTuple

import numpy as np
from joblib import Parallel, delayed

from tests.calibration import (
    conditional,
    conditional_pymc,
    designs,
    families,
    glmm,
    glmm_fcs,
    joint_glmm,
    sbc,
    variants,
)
from tests.calibration import run as joint
from tests.calibration.montecarlo import REJECTED
from tests.calibration.run import LEVEL
from tests.calibration.uniformity import p_value

CENTRAL, RESULT = 0.9, "TABLE"


class Task(NamedTuple):
    """One line of the table: a design, right or spoiled; `share` of the data sets asked for (less if they cost more)."""

    sampler: str
    design: str
    spoiled: str = ""
    share: float = 1.0


def tasks(pymc: bool) -> Iterator[Task]:
    for name in [*designs.DESIGNS, "scarce"]:
        yield Task("joint normal", name)
    for name in [*conditional.DESIGNS, "scarce", "cluster variances, spread 1"]:
        yield Task("one normal variable", name)
    if pymc:
        for name in conditional_pymc.DESIGNS:
            yield Task("one normal variable, PyMC", name, share=0.25)
    for name in glmm.DESIGNS:
        yield Task("one variable of another family", name)
    for name in glmm_fcs.DESIGNS:
        yield Task("FCS, table to imputed table", name, share=0.5)
    for name in joint_glmm.DESIGNS:
        yield Task("joint GLMM, table to imputed table", name)
    for name in families.DESIGNS:
        yield Task("joint GLMM, both roles of a family", name, share=0.5)
    for name in variants.VARIANTS:
        subtle = name == "parameters not drawn"
        yield Task(
            "joint normal", "scarce" if subtle else "inverse-Wishart", name, share=5.0 if subtle else 2.0
        )
    for name in conditional.VARIANTS:
        yield Task("one normal variable", "", name, share=5.0)
    for name, (design, _, _) in glmm.VARIANTS.items():
        known = [k for k, d in glmm.DESIGNS.items() if d is design]
        yield Task("one variable of another family", known[0] if known else "its own", name, share=2.0)
    for name, (design, _) in glmm_fcs.VARIANTS.items():
        yield Task("FCS, table to imputed table", design, name, share=0.5)
    yield Task(
        "joint GLMM, table to imputed table",
        "interaction",
        "a factor left out of a cell's conditional",
        share=0.25,
    )


def ranks(task: Task, datasets: int) -> tuple[dict[str, np.ndarray], int]:
    """Name -> (n,) ranks 0..highest of the truth in n = share x `datasets` data sets; and highest."""
    n = max(round(task.share * datasets), 1)
    match task.sampler:
        case "joint normal":
            design = {**designs.DESIGNS, "scarce": designs.SCARCE}[task.design]
            if task.spoiled:
                backend, which = variants.VARIANTS[task.spoiled]
                return sbc.simulate(design, backend, n, joint.SEED, which), sbc.DRAWS
            return sbc.simulate(design, sbc.gibbs(tune=500, thin=20), n, joint.SEED), sbc.DRAWS
        case "one normal variable":
            if task.spoiled:
                design, spoil = conditional.VARIANTS[task.spoiled]
                backend, which = conditional.step(spoil=spoil), conditional.imputed_quantities
                return conditional.ranks(design, n, conditional.SEED, backend, which), sbc.DRAWS
            extra = {"scarce": conditional.SCARCE, "cluster variances, spread 1": conditional.WIDE}
            design = {**conditional.DESIGNS, **extra}[task.design]
            return conditional.ranks(design, n, conditional.SEED, conditional.step(500, 20)), sbc.DRAWS
        case "one normal variable, PyMC":
            return conditional_pymc.ranks(task.design, n, conditional_pymc.SEED), sbc.DRAWS
        case "one variable of another family":
            if task.spoiled:
                design, spoil, moves = glmm.VARIANTS[task.spoiled]
                return glmm.ranks(design, n, glmm.SEED, glmm.step(50, 5, moves, spoil)), glmm.DRAWS
            return glmm.ranks(glmm.DESIGNS[task.design], n, glmm.SEED), glmm.DRAWS
        case "FCS, table to imputed table":
            spoil = glmm_fcs.VARIANTS[task.spoiled][1] if task.spoiled else None
            return glmm_fcs.ranks(glmm_fcs.DESIGNS[task.design], n, glmm_fcs.SEED, spoil), glmm_fcs.DRAWS
        case "joint GLMM, both roles of a family":
            return joint_glmm.ranks(families.DESIGNS[task.design], n, joint_glmm.SEED), sbc.DRAWS
        case _:
            from tests.calibration.test_joint_glmm import without_child

            spoil = without_child("x", "y") if task.spoiled else None
            return joint_glmm.ranks(
                joint_glmm.DESIGNS[task.design], n, joint_glmm.SEED, spoil=spoil
            ), sbc.DRAWS


def coverage(found: dict[str, np.ndarray], highest: int) -> tuple[float, float]:
    """Share of truths inside the central `CENTRAL` of the draws, and its Monte Carlo standard error between data sets."""
    outside = round((1 - CENTRAL) / 2 * (highest + 1))  # ranks at either end
    inside = np.array([(r >= outside) & (r <= highest - outside) for r in found.values()]).mean(axis=0)
    return float(inside.mean()), float(inside.std(ddof=1) / np.sqrt(len(inside)))


class Line(NamedTuple):
    """What the table says about a task."""

    task: Task
    datasets: int
    quantities: int
    p: float
    worst: str
    covered: float
    mcse: float

    def text(self) -> str:
        task = self.task
        what = f"{task.sampler} | {task.design or 'its own'}" + (f" | {task.spoiled}" if task.spoiled else "")
        return (
            f"| {what} | {self.datasets} | {self.quantities} | {self.p:.2g} | {self.worst} | "
            f"{100 * self.covered:.1f} ({100 * self.mcse:.1f}) |"
        )


def line(task: Task, datasets: int) -> Line:
    found, highest = ranks(task, datasets)
    each = {name: p_value(r, highest) for name, r in found.items()}
    worst = min(each, key=each.__getitem__)
    n = len(next(iter(found.values())))
    return Line(task, n, len(each), min(1.0, len(each) * each[worst]), worst, *coverage(found, highest))


def table(lines: list[Line], began: float, command: str) -> str:
    """The document: right samplers, then spoiled ones."""
    commit = run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
    right = [each for each in lines if not each.task.spoiled]
    wrong = [each for each in lines if each.task.spoiled]
    held, limit = min(each.p for each in right), LEVEL / len(right)
    z = max(abs(each.covered - CENTRAL) / each.mcse for each in right)
    columns = "data sets | quantities | p of the ranks | least uniform | truths inside the central 90 % |"
    caveat = (__doc__ or "").split("\n\n", 1)[1]
    return "\n".join([
        "# Calibration of every sampler", "",
        f"Made by `{command}` on {date.today()}, commit {commit}, Python {platform.python_version()}, in "
        f"{time.perf_counter() - began:.0f} s.", "", caveat.strip(), "", "## As they are", "",
        f"| sampler | design | {columns}", "|---|---|---|---|---|---|---|", *(each.text() for each in right), "",
        f"All p above {LEVEL} / {len(right)}: {'yes' if held > limit else 'NO'} (smallest {held:.2g}). The coverage "
        f"furthest from 90 % is {z:.1f} standard errors away.", "", "## Spoiled: these must be rejected", "",
        f"| sampler | design | what is wrong | {columns}", "|---|---|---|---|---|---|---|---|",
        *(each.text() for each in wrong), "",
        f"All p below {REJECTED}: {'yes' if max(each.p for each in wrong) < REJECTED else 'NO'}.", "",
        "Methods that are not draws from a posterior have no ranks that should be uniform. Their coverage over tables is "
        "in `COVERAGE_RESULTS.md` (`mlmi` as published, `2stage`, `sti`, `glm`) and `ML_RESULTS.md` (`ml`).", "",
    ])  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument(
        "--datasets",
        type=int,
        default=240,
        help="data sets of a design, of which some lines use more or less",
    )
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--pymc", action="store_true", help="with the conditional model in PyMC")
    parser.add_argument("--only", help="lines whose sampler or design contains this text; nothing is written")
    options = parser.parse_args()
    began = time.perf_counter()
    chosen = [
        t for t in tasks(options.pymc) if not options.only or options.only in f"{t.sampler}, {t.design}"
    ]
    found = Parallel(options.workers, return_as="generator")(
        delayed(line)(t, options.datasets) for t in chosen
    )
    lines = []
    for each in found:
        print(each.text(), flush=True)
        lines.append(each)
    if not options.only:
        command = f"python -m tests.calibration --datasets {options.datasets}" + (
            " --pymc" if options.pymc else ""
        )
        Path(__file__).with_name(f"{RESULT}.md").write_text(table(lines, began, command))


if __name__ == "__main__":
    main()
