"""`SharedParameters`, which the coordinator sends back: one draw of the parameters for each completed table."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from bayesimp.durable import write_text
from bayesimp.errors import DataError
from bayesimp.events import Event
from bayesimp.federated.agreement import Agreement, digest
from bayesimp.federated.release import read_json
from bayesimp.joint.scale import Scale
from bayesimp.layout import Printed
from bayesimp.notation import Array

__all__ = ["PARAMETERS", "SharedParameters", "read_parameters"]

PARAMETERS = "bayesimp federated parameters"
VERSION = 1


@dataclass(frozen=True)
class SharedParameters(Printed):
    """The draws of the parameters from which m completed tables are made.

    Attributes
    ----------
    agreement
        What all sites agree on.
    sites
        SHA-256 of each site's release, by site.
    fixed, random
        Columns of X and Z.
    beta, Sigma, Psi
        (m, p, r), (m, r, r), (m, rq, rq) in the units of the data.
    scale
        The scale on which the parameters were drawn and rows are completed.
    seed
        Seed with which every site completes its rows.
    events
        What a reader must know about the run and the releases.
    """

    agreement: Agreement
    sites: dict[str, str]
    fixed: tuple[str, ...]
    random: tuple[str, ...]
    beta: Array
    Sigma: Array
    Psi: Array
    scale: Scale
    seed: int
    events: tuple[Event, ...] = ()

    @property
    def m(self) -> int:
        """Number of completed tables."""
        return len(self.beta)

    def record(self) -> dict[str, Any]:
        """The contents of the file, without its hash."""
        scale = {name: getattr(self.scale, name).tolist() for name in ("T", "offset", "s", "u", "C")}
        draws = {name: getattr(self, name).tolist() for name in ("beta", "Sigma", "Psi")}
        return {
            "format": PARAMETERS, "version": VERSION, "bayesimp": version("bayesimp"),
            "agreement": self.agreement.record(), "sites": self.sites, "fixed": list(self.fixed),
            "random": list(self.random), "seed": self.seed, "scale": scale, "draws": draws,
            "events": [event.as_dict() for event in self.events],
        }  # fmt: skip

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the file completely or not at all."""
        record = self.record()
        text = json.dumps(record | {"sha256": digest(record)}, ensure_ascii=False, allow_nan=False)
        write_text(Path(path), text + "\n")

    def _said(self) -> str:
        return (
            f"SharedParameters: {self.agreement.formula}\n  m = {self.m} draws from the releases of "
            f"{', '.join(self.sites)}; seed {self.seed}"
        )


def read_parameters(path: str | os.PathLike[str]) -> SharedParameters:
    """Read a file written by `SharedParameters.save`.

    Raises
    ------
    DataError
        The file is damaged, altered or of another format.
    """
    record = read_json(path, PARAMETERS, VERSION)
    agreement = Agreement.from_record(record.get("agreement"), str(path))
    try:
        fixed, random = (tuple(map(str, record[name])) for name in ("fixed", "random"))
        p, q, r = len(fixed), len(random), len(agreement.responses)
        draws = {name: np.asarray(record["draws"][name], dtype=float) for name in ("beta", "Sigma", "Psi")}
        m = len(draws["beta"])
        shapes: dict[str, tuple[int, ...]] = {
            "beta": (m, p, r), "Sigma": (m, r, r), "Psi": (m, r * q, r * q),
            "T": (p, p), "offset": (p, r), "s": (r,), "u": (q,), "C": (q, q),
        }  # fmt: skip
        scale = {
            name: np.asarray(record["scale"][name], dtype=float) for name in ("T", "offset", "s", "u", "C")
        }
        if m < 1 or any(array.shape != shapes[name] for name, array in (draws | scale).items()):
            raise ValueError
        sites = {str(name): str(value) for name, value in record["sites"].items()}
        events = tuple(Event(**event) for event in record["events"])
        return SharedParameters(
            agreement, sites, fixed, random, draws["beta"], draws["Sigma"], draws["Psi"], Scale(**scale),
            int(record["seed"]), events,
        )  # fmt: skip
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
        raise DataError(f"{path} is incomplete, or its parts are inconsistent with each other.") from None
