"""Imputations of a grid of priors on disk, so that a run that was stopped can continue.

Each prior has one file, whose name ends in a checksum of everything that the imputations depend on: the table, the
specification of the model with this prior, m, the seed, the options of `impute`, the version of the package. If a file
with this name exists, it holds what would be drawn again, and is read instead; all else is drawn, and existing files are
left alone. The analysis is not part of the checksum: it is fitted again, and may be a different one. Files are written
under another name and renamed, so that none is incomplete.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from bayesimp.contract import ImputationModel, plain
from bayesimp.errors import SpecificationError
from bayesimp.events import Event
from bayesimp.imputation.result import Imputations
from bayesimp.imputation.storage import load
from bayesimp.table.exact import to_exact

__all__ = ["KeptGrid"]

NOT_NUMBERS = ("progress", "workers", "executor")  # options that change no number


class KeptGrid:
    """A folder in which the imputations of a grid are kept; see the docstring of the module.

    Parameters
    ----------
    path
        The folder, which is created if it does not exist.

    Raises
    ------
    SpecificationError
        If the path is a file.
    """

    def __init__(self, path: Any) -> None:
        self.path = Path(path)
        if self.path.exists() and not self.path.is_dir():
            raise SpecificationError(
                f"folder: {self.path} is a file; give a folder, which is created if it does not exist."
            )
        self.path.mkdir(parents=True, exist_ok=True)

    def place(self, name: str, model: ImputationModel, m: int, seed: int, options: Mapping[str, Any]) -> Path:
        """The file of a prior."""
        text, values = to_exact(model.data.frame)
        declared = {
            "model": type(model).__name__,
            "cluster": model.data.cluster_columns,
            "families": dict(model.data.families),
            "specification": model.specification(),
            "m": m,
            "seed": seed,
            "options": {key: value for key, value in options.items() if key not in NOT_NUMBERS},
            "version": version("bayesimp"),
        }
        written = json.dumps(declared, default=_written, sort_keys=True)
        checksum = hashlib.sha256(b"\0".join([written.encode(), text.encode(), values])).hexdigest()[:16]
        return self.path / f"{re.sub(r'[^A-Za-z0-9.]+', '_', name)}-{checksum}.nc"

    @staticmethod
    def read(place: Path) -> tuple[Imputations, list[Event]] | None:
        """The imputations of a file, and the warnings of their run as events; None if they must be drawn.

        The imputations of a model with the user's own code are not read, since files hold no code.
        """
        notes = place.with_suffix(".json")
        if not (place.exists() and notes.exists()):
            return None
        imp = load(place)
        return None if imp.model is None else (imp, [Event(**each) for each in json.loads(notes.read_text())])

    @staticmethod
    def write(place: Path, imp: Imputations, notes: list[Event]) -> None:
        """Keep the imputations of a prior, completely or not at all; those of an interrupted run are not kept."""
        if any(event.kind == "interrupted" for event in imp.log):
            return
        place.with_suffix(".json").write_text(json.dumps([event.as_dict() for event in notes], default=plain))
        unfinished = place.with_name(f"unfinished-{place.name}")
        imp.save(unfinished)
        unfinished.replace(place)


def _written(value: Any) -> Any:
    """Numbers and arrays themselves, other objects by their printed form."""
    try:
        return plain(value)
    except TypeError:
        return repr(value)
