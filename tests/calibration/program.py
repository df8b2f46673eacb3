"""What `python -m` of a calibration does: ranks of all right designs and wrong variants, then a page of results."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Mapping
from datetime import date
from pathlib import Path

import numpy as np

from tests.calibration.montecarlo import REJECTED
from tests.calibration.run import LEVEL

Ranks = dict[str, np.ndarray]


def program(
    page: Path,
    title: str,
    text: str,
    right: Mapping[str, Callable[[int], Ranks]],
    wrong: Mapping[str, Callable[[int], Ranks]],
    share: str,
    row: Callable[[str, Ranks], str],
    overall: Callable[[Ranks], float],
    datasets: int,
) -> None:
    """Run the calibration with the number of data sets from the command line, and write the page.

    right, wrong
        Name -> ranks, given the number of data sets; wrong variants choose their own share of it, which `share` says.
    row, overall
        A line of the table; the p-value over all quantities.
    """
    parser = argparse.ArgumentParser(description=text)
    parser.add_argument("--datasets", type=int, default=datasets)
    parser.add_argument("--only", nargs="*", help="these designs or variants; nothing is written")
    options = parser.parse_args()
    began, lines = time.perf_counter(), []

    def p_values(of: Mapping[str, Callable[[int], Ranks]], before: str = "") -> list[float]:
        found = []
        for name, ranks in of.items():
            if not options.only or name in options.only:
                made = ranks(options.datasets)
                found.append(overall(made))
                lines.append(row(f"{before}{name}", made))
                print(lines[-1], flush=True)
        return found

    held = all(p > LEVEL / len(right) for p in p_values(right))
    caught = all(p < REJECTED for p in p_values(wrong, "spoiled: "))
    if options.only:
        return
    head = [
        f"# {title}", "", text.strip(), "",
        f"{date.today()}, {options.datasets} data sets ({share}), {time.perf_counter() - began:.0f} s. "
        f"Right above {LEVEL} / {len(right)}: {'yes' if held else 'NO'}; spoiled below {REJECTED}: "
        f"{'all' if caught else 'NOT ALL'}.", "",
        "| | quantities | p (Bonferroni) | most extreme | its p |", "|---|---|---|---|---|",
    ]  # fmt: skip
    page.write_text("\n".join(head + lines) + "\n")
