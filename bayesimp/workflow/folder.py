"""The folder of a run: tables, figures, and a record of how they were made."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy import stats

from bayesimp.analysis.fit import Fits
from bayesimp.durable import remove_unfinished, replacing, write_text
from bayesimp.errors import SpecificationError
from bayesimp.report.versions import versions
from bayesimp.runlog import LOG, read_log

if TYPE_CHECKING:
    from bayesimp.imputation.result import Imputations

__all__ = [
    "RECORD", "Folder", "beside", "components_of", "earlier_record", "long_csv",
    "long_parquet", "versions",
]  # fmt: skip

RECORD = "run.json"


@dataclass
class Folder:
    """The output folder; remembers the files written and the seconds spent.

    Attributes
    ----------
    root
        The folder.
    files
        Names of the files written, in order.
    seconds
        Seconds by step.
    """

    root: Path
    files: list[str] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    _entries: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def make(cls, root: Path, overwrite: bool, keep_out: tuple[Path, ...] = ()) -> Folder:
        """Make the folder. With `overwrite`, the files of an earlier run that its record names are removed.

        Raises
        ------
        SpecificationError
            The folder has files and `overwrite` is False, or it contains the plan or the data (`keep_out`).
        """
        for path in keep_out:
            if path.resolve().parent == root.resolve():
                raise SpecificationError(
                    f"{root} is the folder of {path.name}. Give another, such as --out results"
                )
        if root.exists() and not root.is_dir():
            raise SpecificationError(f"{root} is a file. Give a folder for the results.")
        if root.exists() and any(root.iterdir()):
            if not overwrite:
                raise SpecificationError(
                    f"{root} is not empty. Give another folder, or --overwrite to replace the results in it."
                )
            log = read_log(root)  # is continued; only results are replaced
            logged = [] if log is None else list(log.require().outputs)
            for name in [*earlier_record(root).get("files", []), *logged]:
                if isinstance(name, str) and Path(name).name == name and name not in ("", "..", LOG):
                    (root / name).unlink(missing_ok=True)
            remove_unfinished(root)
        root.mkdir(parents=True, exist_ok=True)
        return cls(root)

    def path(self, name: str) -> Path:
        """Path of a file with this name, which is recorded before it is written so that no file is left unrecorded."""
        if name not in self.files:
            self.files.append(name)
            self.record(self._entries)
        return self.root / name

    def text(self, name: str, text: str) -> None:
        """Write a text."""
        write_text(self.path(name), text)

    def table(self, name: str, table: pd.DataFrame, index: bool = False) -> None:
        """Write a table as CSV."""
        with replacing(self.path(name)) as path:
            table.to_csv(path, index=index)

    def figure(self, name: str, draw: Callable[[], Any]) -> None:
        """Save what `draw` returns, a figure or axes."""
        import matplotlib

        matplotlib.use("Agg")
        import matplotlib.pyplot as plt

        drawn = draw()
        figure = drawn if hasattr(drawn, "savefig") else drawn.figure
        with replacing(self.path(name)) as path:
            figure.savefig(path, dpi=120, bbox_inches="tight")
        plt.close(figure)

    def record(self, entries: dict[str, Any]) -> None:
        """Write the record of the run; a file written later adds itself to it."""
        self._entries = entries
        if RECORD not in self.files:
            self.files.append(RECORD)
        seconds = {step: round(value, 3) for step, value in self.seconds.items()}
        text = json.dumps({**entries, "seconds": seconds, "files": self.files}, indent=2, default=str)
        write_text(self.root / RECORD, text + "\n")

    @contextmanager
    def timed(self, step: str) -> Iterator[None]:
        """Add the seconds spent in the block to those of `step`."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[step] = self.seconds.get(step, 0.0) + time.perf_counter() - began


def earlier_record(root: Path) -> dict[str, Any]:
    """The record of the run whose results are in a folder; empty if there is none."""
    try:
        record = json.loads((root / RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    known = isinstance(record, dict) and "bayesimp" in record and isinstance(record.get("files", []), list)
    return record if known else {}


def long_csv(path: Path, imputations: Imputations, report: Callable[[str, int, int], None]) -> None:
    """All completed tables, stacked as by ``imputations.to_long()``, with one in memory at a time."""
    with replacing(path) as made:
        for k in range(imputations.m):
            _numbered(imputations, k).to_csv(made, index=False, mode="a" if k else "w", header=k == 0)
            report("writing tables", k + 1, imputations.m)


def long_parquet(path: Path, imputations: Imputations, report: Callable[[str, int, int], None]) -> None:
    """All completed tables as a parquet file, with one row group per table."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    first = pa.Table.from_pandas(_numbered(imputations, 0), preserve_index=False)
    with replacing(path) as made, pq.ParquetWriter(made, first.schema) as writer:
        for k in range(imputations.m):
            writer.write_table(
                pa.Table.from_pandas(_numbered(imputations, k), schema=first.schema, preserve_index=False)
            )
            report("writing tables", k + 1, imputations.m)


def _numbered(imputations: Imputations, k: int) -> pd.DataFrame:
    frame = imputations.frame(k)
    ids = range(1, len(frame) + 1) if frame.index.nlevels > 1 else frame.index
    frame.insert(0, ".id", list(ids))
    frame.insert(0, ".imp", k + 1)
    return frame


def beside(table: pd.DataFrame, complete: Fits | None, rows: int) -> pd.DataFrame:
    """The pooled table with columns cc.*: estimates from complete rows."""
    cc = pd.DataFrame(
        {"term": [], "cc.estimate": [], "cc.std.error": [], "cc.conf.low": [], "cc.conf.high": []}
    )
    if complete is not None:
        estimate = complete.estimates[0]
        error = np.sqrt(np.diag(complete.covariances[0]))
        half = stats.t(complete.df_complete).ppf(0.975) * error
        cc = pd.DataFrame(
            {
                "term": complete.names,
                "cc.estimate": estimate,
                "cc.std.error": error,
                "cc.conf.low": estimate - half,
                "cc.conf.high": estimate + half,
            }
        )
    return table.merge(cc.astype({"term": object}), on="term", how="left").assign(**{"cc.rows": rows})


def components_of(complete: Fits | None) -> pd.DataFrame:
    """Standard deviations and correlations from complete rows, as column cc.value."""
    if complete is None:
        return pd.DataFrame({"term": pd.Series([], dtype=object), "cc.value": pd.Series([], dtype=float)})
    names, phi = complete.component_names, complete.components[0]
    value = [np.tanh(x) if name.startswith("cor(") else np.exp(x) for name, x in zip(names, phi, strict=True)]
    return pd.DataFrame({"term": np.array(names, dtype=object), "cc.value": value})
