"""The R scripts of the benchmarks, where R is installed."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from pathlib import Path

import pandas as pd

HAVE_R = shutil.which("Rscript") is not None


def r_script(name: str, *args) -> dict:
    path = Path(__file__).parent / "r" / name
    out = subprocess.run(["Rscript", str(path), *map(str, args)], capture_output=True, text=True, check=True)
    return json.loads(out.stdout.strip().splitlines()[-1])


def r_script_on(frame: pd.DataFrame, name: str, *args) -> dict:
    """The script's first argument is the table, written to a file for it."""
    with tempfile.TemporaryDirectory() as folder:
        table = Path(folder) / "d.csv"
        frame.to_csv(table, index=False)
        return r_script(name, table, *args)
