"""`SiteRelease`, the file that leaves a site: numbers and texts only. docs/howto/federated.md describes the format."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bayesimp.durable import write_text
from bayesimp.errors import DataError, SpecificationError
from bayesimp.events import Event
from bayesimp.federated.agreement import Agreement, digest
from bayesimp.federated.disclosure import LEAST, rows_needed
from bayesimp.layout import Printed

__all__ = ["FORMAT", "SiteRelease", "read_json", "read_release"]

FORMAT = "bayesimp site release"
VERSION = 1
COUNTS = ("rows", "released", "empty", "dropped", "small groups")
# how far below 0 rounding takes the least eigenvalue of a cell's products, relative to the largest
NEGATIVE = 1e-9


@dataclass(frozen=True)
class SiteRelease(Printed):
    """Counts and cross products of the cells of a site.

    Attributes
    ----------
    site
        Name of the site.
    agreement
        What all sites agree on.
    minimum
        Least number of rows of a group.
    fixed, random, random_terms
        Columns of X and Z, and those of Z as spelled in a formula.
    covariates
        (v,) names of the distinct columns of X and Z, without the constant.
    centre
        (v + r,) numbers subtracted from the covariates and responses before their products are taken.
    cell_cluster
        (C,) cluster of each cell, numbered from 0 within the site; labels stay at the site.
    patterns
        (C, r) which responses are observed in each cell.
    products
        (C, d, d) cross products of [1 | covariates | responses], d = 1 + v + r, of the centred columns; zero where a
        response is missing. The first element is the number of rows.
    counts
        Number of rows of the site: all, released, empty (no response observed), dropped, in small groups; "masked" by
        response.
    events
        What a reader of the result must know.
    """

    site: str
    agreement: Agreement
    minimum: int
    fixed: tuple[str, ...]
    random: tuple[str, ...]
    random_terms: tuple[str, ...]
    covariates: tuple[str, ...]
    centre: NDArray[np.float64]
    cell_cluster: NDArray[np.int64]
    patterns: NDArray[np.bool_]
    products: NDArray[np.float64]
    counts: dict[str, int]
    masked: dict[str, int]
    events: tuple[Event, ...] = field(default=())

    @property
    def rows(self) -> NDArray[np.int64]:
        """(C,) number of rows of each cell."""
        return np.rint(self.products[:, 0, 0]).astype(np.int64)

    @property
    def clusters(self) -> int:
        """Number of clusters with released rows."""
        return len(np.unique(self.cell_cluster))

    @property
    def sha256(self) -> str:
        """SHA-256 of the contents."""
        return digest(self.record())

    def record(self) -> dict[str, Any]:
        """The contents of the file, without its hash."""
        cells = []
        for i, pattern, G in zip(self.cell_cluster, self.patterns, self.products, strict=True):
            at = _observed_columns(len(self.covariates), pattern)
            upper = np.triu_indices(len(at))
            own = G[np.ix_(at, at)][upper]
            cells.append(
                {"cluster": int(i), "observed": np.flatnonzero(pattern).tolist(), "products": own.tolist()}
            )
        return {
            "format": FORMAT, "version": VERSION, "bayesimp": version("bayesimp"), "site": self.site,
            "agreement": self.agreement.record(), "minimum": self.minimum, "fixed": list(self.fixed),
            "random": list(self.random), "random terms": list(self.random_terms), "covariates": list(self.covariates),
            "responses": list(self.agreement.responses), "centre": self.centre.tolist(), "counts": self.counts,
            "masked": self.masked, "events": [event.as_dict() for event in self.events], "cells": cells,
        }  # fmt: skip

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the file completely or not at all."""
        record = self.record()
        text = json.dumps(record | {"sha256": digest(record)}, indent=1, ensure_ascii=False, allow_nan=False)
        write_text(Path(path), text + "\n")

    def _said(self) -> str:
        n, cells = self.counts, len(self.cell_cluster)
        masked = ", ".join(f"{count:,} of {name}" for name, count in self.masked.items() if count) or "none"
        least = int(self.rows.min())
        numbers = sum(len(cell["products"]) for cell in self.record()["cells"])
        return "\n".join([
            f"SiteRelease '{self.site}': {self.agreement.formula}",
            f"  {n['released']:,} of {n['rows']:,} rows in {self.clusters:,} clusters and {cells:,} cells of at least "
            f"{least:,} rows, as {numbers:,} numbers",
            f"  left out: {n['empty']:,} rows without an observed response, {n['dropped']:,} in cells that are too "
            f"small, {n['small groups']:,} in groups of fewer than {self.minimum} rows",
            f"  values set to missing so that cells are large enough: {masked}",
            *(f"  {event.kind}: {event.message}" for event in self.events),
        ])  # fmt: skip


def _observed_columns(covariates: int, pattern: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Positions of the constant, the covariates and the observed responses among the columns."""
    return np.concatenate([np.arange(1 + covariates), 1 + covariates + np.flatnonzero(pattern)])


def read_json(path: str | os.PathLike[str], form: str, version_: int) -> dict[str, Any]:
    """Read a JSON file with a format, a version and its own hash.

    Raises
    ------
    DataError
        The file is damaged, altered, of another format or version, or cannot be read.
    SpecificationError
        The argument is not a path.
    """
    if not isinstance(path, str | os.PathLike):
        raise SpecificationError(f"Give the path of a file, not {type(path).__name__}.")
    try:
        record = json.loads(Path(path).read_bytes(), parse_constant=_no_number)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from None
    except (ValueError, RecursionError):
        record = None
    if not isinstance(record, dict) or record.get("format") != form:
        raise DataError(f"{path} is not a '{form}': it was written by another program, or is damaged.")
    if record.get("version") != version_:
        raise DataError(
            f"{path} has version {record.get('version')!r} of its format, but this bayesimp reads version {version_}. "
            "Use the same bayesimp at all sites."
        )
    if record.get("sha256") != digest(record):
        raise DataError(
            f"The SHA-256 of {path} differs from the one it states: it was damaged or altered after it was written. Ask "
            "the site for it again."
        )
    return record


def _no_number(text: str) -> None:
    raise ValueError(text)


def read_release(path: str | os.PathLike[str]) -> SiteRelease:
    """Read the release of a site.

    Raises
    ------
    DataError
        The file is damaged, altered or of another format, or a cell is too small to be released.
    """
    record = read_json(path, FORMAT, VERSION)
    agreement = Agreement.from_record(record.get("agreement"), str(path))
    try:
        made = _from_record(record, agreement)
    except (KeyError, TypeError, ValueError, IndexError, OverflowError):
        raise DataError(f"{path} is incomplete, or its parts are inconsistent with each other.") from None
    _check_cells(made, str(path))
    return made


def _from_record(record: dict[str, Any], agreement: Agreement) -> SiteRelease:
    covariates, responses = _texts(record["covariates"]), agreement.responses
    v, r, cells = len(covariates), len(responses), record["cells"]
    if tuple(record["responses"]) != responses or not isinstance(record["site"], str):
        raise ValueError
    products, patterns = np.zeros((len(cells), 1 + v + r, 1 + v + r)), np.zeros((len(cells), r), dtype=bool)
    for k, cell in enumerate(cells):
        patterns[k, cell["observed"]] = True
        at = _observed_columns(v, patterns[k])
        own, upper = np.zeros((len(at), len(at))), np.triu_indices(len(at))
        own[upper] = np.asarray(cell["products"], dtype=float)
        own.T[upper] = own[upper]
        products[k][np.ix_(at, at)] = own
    centre = np.asarray(record["centre"], dtype=float)
    if centre.shape != (v + r,):
        raise ValueError
    return SiteRelease(
        record["site"], agreement, int(record["minimum"]), _texts(record["fixed"]), _texts(record["random"]),
        _texts(record["random terms"]), covariates, centre,
        np.array([int(cell["cluster"]) for cell in cells], dtype=np.int64), patterns, products,
        {name: int(record["counts"][name]) for name in COUNTS},
        {name: int(record["masked"][name]) for name in responses},
        tuple(Event(**event) for event in record["events"]),
    )  # fmt: skip


def _texts(values: Sequence[Any]) -> tuple[str, ...]:
    if not all(isinstance(value, str) for value in values):
        raise TypeError
    return tuple(values)


def _check_cells(release: SiteRelease, path: str) -> None:
    """Refuse cells that no site with this version releases, and numbers that cannot be cross products of rows."""
    if release.minimum < LEAST or not len(release.products):
        raise DataError(
            f"{path}: a release must have groups of at least {LEAST} rows, and at least one cell."
        )
    if not np.isfinite(release.products).all() or not np.isfinite(release.centre).all():
        raise DataError(f"{path}: some of its numbers are not finite.")
    key = np.column_stack([release.cell_cluster, release.patterns])
    if len(np.unique(key, axis=0)) < len(key) or not release.patterns.any(axis=1).all():
        raise DataError(f"{path}: a cell occurs twice, or has no response.")
    for i, pattern, n, G in zip(
        release.cell_cluster, release.patterns, release.rows, release.products, strict=True
    ):
        where = f"{path}: the cell of cluster {i} with {int(pattern.sum())} responses"
        needed = rows_needed(len(release.covariates) + int(pattern.sum()), release.minimum)
        if n < needed:
            raise DataError(f"{where} has {n} rows but needs {needed} for what it releases.")
        values = np.linalg.eigvalsh(G)
        if G[0, 0] != n or values[0] < -NEGATIVE * values[-1]:
            raise DataError(f"{where} has numbers that cannot be cross products of rows.")
