"""What `python -m` of a calibration does: ranks of all right designs and wrong variants, then a page of results."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Mapping
from datetime import date
from pathlib import Path

import numpy as np

from tests.calibration import sbc
from tests.calibration.montecarlo import REJECTED
from tests.calibration.run import LEVEL, row

Ranks = dict[str, np.ndarray]


def program(
    module: str,
    title: str,
    text: str | None,
    right: Mapping[str, Callable[[int], Ranks]],
    wrong: Mapping[str, Callable[[int], Ranks]],
    share: str,
    p_value: Callable[[Ranks], float] = sbc.overall,
    line: Callable[[str, Ranks], str] = row,
    datasets: int = 300,
) -> None:
    """Run the calibration of a module with the number of data sets from the command line, and write its page.

    right, wrong
        Name -> ranks, given the number of data sets; wrong variants choose their own share of it, which `share` says.
    p_value, line
        The p-value over all quantities; a line of the table.
    """
    page = Path(module).with_name(f"{Path(module).stem.upper()}_RESULTS.md")
    parser = argparse.ArgumentParser(description=text or "")
    parser.add_argument("--datasets", type=int, default=datasets)
    parser.add_argument("--only", nargs="*", help="these designs or variants; nothing is written")
    options = parser.parse_args()
    began, lines = time.perf_counter(), []

    def p_values(of: Mapping[str, Callable[[int], Ranks]], before: str = "") -> list[float]:
        found = []
        for name, ranks in of.items():
            if not options.only or name in options.only:
                made = ranks(options.datasets)
                found.append(p_value(made))
                lines.append(line(f"{before}{name}", made))
                print(lines[-1], flush=True)
        return found

    held = all(p > LEVEL / len(right) for p in p_values(right))
    caught = all(p < REJECTED for p in p_values(wrong, "spoiled: "))
    if options.only:
        return
    head = [
        f"# {title}", "", (text or "").strip(), "",
        f"{date.today()}, {options.datasets} data sets ({share}), {time.perf_counter() - began:.0f} s. "
        f"Right above {LEVEL} / {len(right)}: {'yes' if held else 'NO'}; spoiled below {REJECTED}: "
        f"{'all' if caught else 'NOT ALL'}.", "",
        "| | quantities | p (Bonferroni) | most extreme | its p |", "|---|---|---|---|---|",
    ]  # fmt: skip
    page.write_text("\n".join(head + lines) + "\n")
