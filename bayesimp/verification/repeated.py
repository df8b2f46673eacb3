"""Repeated runs: the same numbers whatever the row order and workers, through files, and with rows at several sites."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bayesimp.contract import ImputationModel
from bayesimp.errors import BayesimpError
from bayesimp.fcs.model import FCS
from bayesimp.federated.agreement import Agreement
from bayesimp.federated.export import export_site
from bayesimp.federated.run import combine
from bayesimp.imputation.result import Imputations
from bayesimp.imputation.storage import load
from bayesimp.joint.normal import JointNormal
from bayesimp.runlog import LOG, append, read_log
from bayesimp.table.incomplete import IncompleteData
from bayesimp.verification.records import Outcome
from bayesimp.verification.reference import ROUNDING

__all__ = ["altered_files", "continued", "federated", "refusals", "same_seed"]

FORMULA = "y + z ~ x + (1 | g)"


def _table(clusters: int = 8, rows: int = 9) -> pd.DataFrame:
    rng = np.random.default_rng(5)
    g = np.repeat(np.arange(clusters), rows)
    n = len(g)
    x, u = rng.normal(size=n), rng.normal(size=clusters)[g]
    frame = pd.DataFrame({"g": g, "x": x, "y": x + u + rng.normal(size=n), "z": u - x + rng.normal(size=n)})
    return frame.mask(np.column_stack([np.zeros((n, 2)), rng.random((n, 2)) < 0.25]).astype(bool))


def _differing(a: Imputations, b: Imputations, order: np.ndarray) -> float:
    """Number of cells that differ, over all completed tables; row k of b is row order[k] of a."""
    return float(sum(
        (a.frame(k)[["y", "z"]].to_numpy()[order] != b.frame(k)[["y", "z"]].to_numpy()).sum() for k in range(a.m)
    ))  # fmt: skip


def _apart(a: Imputations, b: Imputations, order: np.ndarray) -> float:
    """The largest difference between completed values, whose standard deviations are about 1.5; rows as above."""
    return float(max(
        np.abs(a.frame(k)[["y", "z"]].to_numpy()[order] - b.frame(k)[["y", "z"]].to_numpy()).max() for k in range(a.m)
    ))  # fmt: skip


def same_seed(full: bool) -> Sequence[Outcome]:
    """The same seed with another row order, other labels and other workers."""
    table = _table()
    order = np.random.default_rng(0).permutation(len(table))
    moved = table.iloc[order].reset_index(drop=True)
    moved["g"] = moved["g"].map(lambda i: f"cluster {7 - i}")
    engines: list[tuple[str, Callable[[IncompleteData], ImputationModel], dict[str, Any]]] = [
        ("JointNormal", lambda data: JointNormal(data, FORMULA), {"draws": 20, "tune": 10}),
        ("FCS", FCS, {"cycles": 4}),
    ]
    out = []
    for name, model, options in engines:
        first = model(IncompleteData(table, "g")).impute(m=4, seed=1, progress=False, workers=1, **options)
        workers = model(IncompleteData(table, "g")).impute(m=4, seed=1, progress=False, workers=3, **options)
        other = model(IncompleteData(moved, "g")).impute(m=4, seed=1, progress=False, workers=3, **options)
        seed = model(IncompleteData(table, "g")).impute(m=4, seed=2, progress=False, workers=1, **options)
        same = np.arange(len(table))
        order_says = f"{name}, rows in another order, other labels: largest difference"
        seed_says = f"{name}, wrong variant: another seed, largest difference"
        out += [
            Outcome(f"{name}, other workers: cells that differ", _differing(first, workers, same), 0.0),
            Outcome(order_says, _apart(first, other, order), ROUNDING),
            Outcome(seed_says, _apart(first, seed, same), ROUNDING, at_least=True),
        ]
    return out


def continued(full: bool) -> Sequence[Outcome]:
    """Compare a run that was saved, read and continued with one as long from the start."""
    model = JointNormal(IncompleteData(_table(), "g"), FORMULA)
    options: dict[str, Any] = {"seed": 1, "tune": 10, "progress": False}
    with tempfile.TemporaryDirectory(prefix="bayesimp-verify-") as folder:
        path = Path(folder) / "run.nc"
        model.impute(m=4, draws=10, **options).save(path)
        longer = load(path).extend(4)
    whole = model.impute(m=8, draws=20, **options)
    then, now = (np.asarray(imp.tree["posterior"]["Psi"]) for imp in (whole, longer))
    return [
        Outcome("completed tables: cells that differ", _differing(whole, longer, np.arange(72)), 0.0),
        Outcome("draws of Psi that differ", float((then != now).sum()), 0.0),
    ]


def altered_files(full: bool) -> Sequence[Outcome]:
    """Flip bits in a saved result, and alter or remove lines of a log: how many changes are not noticed?"""
    rng = np.random.default_rng(1)
    with tempfile.TemporaryDirectory(prefix="bayesimp-verify-") as name:
        folder = Path(name)
        model = JointNormal(IncompleteData(_table(), "g"), FORMULA)
        model.impute(m=2, seed=1, draws=4, tune=2, progress=False).save(folder / "run.nc")
        whole = (folder / "run.nc").read_bytes()
        right = load(folder / "run.nc")
        value = whole.find(right.values(right.responses[0])[0, 0].tobytes())  # the first imputed value
        wrong = 0
        for k in range(200 if full else 25):
            data = bytearray(whole)
            at = value + 5 if k == 0 else int(rng.integers(len(data)))  # a byte of that value, then any
            data[at] ^= 1 << int(rng.integers(8))
            (folder / "bits.nc").write_bytes(bytes(data))
            wrong += not _noticed(folder / "bits.nc", right)
        for k in range(4):
            append(folder, "run begun" if k == 0 else "report", {"plan": "0" * 64}, {}, number=k)
        lines = (folder / LOG).read_bytes().splitlines(keepends=True)
        spoilt = [lines[:1] + lines[2:], lines[1:], [lines[1], lines[0], *lines[2:]], [*lines[:3], lines[3][:-9]],
                  [lines[0].replace(b"run begun", b"run ended"), *lines[1:]]]  # fmt: skip
        unnoticed = 0
        for some in spoilt:
            (folder / LOG).write_bytes(b"".join(some))
            log = read_log(folder)
            unnoticed += log is None or not log.fault
        (folder / LOG).write_bytes(b"".join(lines))
        log = read_log(folder)
        fitting = 0.0 if log is None or log.fault else float(len(log.lines))
    return [
        Outcome("results with a flipped bit that are read as different results", float(wrong), 0.0),
        Outcome("logs with altered, removed or moved lines that are accepted", float(unnoticed), 0.0),
        Outcome("lines of the unaltered log, all of which are valid", fitting, 4.0, at_least=True),
    ]


def _noticed(path: Path, right: Imputations) -> bool:
    """Whether a file is refused or still holds the same result: some bytes are padding."""
    try:
        read = load(path)
    except (BayesimpError, OSError):
        return True
    return not _differing(right, read, np.arange(72))


def refusals(full: bool) -> Sequence[Outcome]:
    """Models and tables that must be refused with an error of this package before anything is sampled."""
    table = _table()
    cases = {
        "a response without values": lambda: JointNormal(
            IncompleteData(table.assign(y=np.nan), "g"), FORMULA
        ),
        "a response in one cluster": lambda: JointNormal(
            IncompleteData(table.assign(y=table["y"].where(table["g"] == 0)), "g"), FORMULA
        ),
        "a constant covariate": lambda: JointNormal(IncompleteData(table.assign(x=1.0), "g"), FORMULA),
        "a covariate with missing values": lambda: JointNormal(
            IncompleteData(table.assign(x=table["x"].where(table.index > 0)), "g"), FORMULA
        ),
        "a missing cluster id": lambda: IncompleteData(
            table.assign(g=table["g"].where(table.index > 0)), "g"
        ),
        "an infinite value": lambda: IncompleteData(table.assign(y=np.inf), "g"),
        "code in a formula": lambda: JointNormal(
            IncompleteData(table, "g"), "y ~ __import__('os') + (1 | g)"
        ),
        "a cell of one row of a site": lambda: export_site(table[:1], Agreement(FORMULA), "A"),
    }
    accepted = []
    for name, call in cases.items():
        try:
            call()
        except BayesimpError:
            continue
        accepted.append(name)
    JointNormal(IncompleteData(table, "g"), FORMULA)  # the correct model is accepted
    what = f"of {len(cases)} cases that must be refused, accepted{': ' + ', '.join(accepted) if accepted else ''}"
    return [Outcome(what, float(len(accepted)), 0.0)]


def federated(full: bool) -> Sequence[Outcome]:
    """Compare draws given the releases of three sites with those of one site that has all rows."""
    table, agreed = _table(clusters=9, rows=80), Agreement(FORMULA)
    centre = [0.0, 0.0, 0.0]
    options: dict[str, Any] = {"m": 2, "seed": 1, "tune": 5, "draws": 10, "chains": 2, "progress": False}
    parts = [export_site(table[table["g"] // 3 == k], agreed, "ABC"[k], centre=centre) for k in range(3)]
    one = combine([export_site(table, agreed, "all", centre=centre)], **options)
    three, less = combine(parts, **options), combine(parts[:2], **options)
    numbers = json.dumps(parts[0].record())
    found = sum(repr(value) in numbers for value in table.loc[table["g"] < 3, "y"].dropna())
    return [
        Outcome("draws of beta and Psi that differ",
                float((one.draws.beta != three.draws.beta).sum() + (one.draws.Psi != three.draws.Psi).sum()), 0.0),
        Outcome("wrong variant: one site left out; draws of beta that differ",
                float((one.draws.beta != less.draws.beta).sum()), 1.0, at_least=True),
        Outcome("values of rows in the release", float(found), 0.0),
    ]  # fmt: skip
