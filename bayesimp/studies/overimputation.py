"""`overimpute`: observed values are hidden in turn, imputed again, and compared with the truth.

Every observed value of every imputed variable is hidden once, in one of several groups, and the model is fitted without
the group. If the model predicts well, the rank of the truth among the m imputed values (ties broken at random) is uniform
on 0 .. m (overimputation: Honaker, King & Blackwell 2011). A truth is "inside" if its rank is neither the lowest nor the
highest, which has probability (m - 1) / (m + 1).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bayesimp.errors import SpecificationError
from bayesimp.kinds import check_keywords, checks_arguments
from bayesimp.layout import Printed
from bayesimp.progress import progress_bar
from bayesimp.studies.deletion import with_holes
from bayesimp.table.incomplete import IncompleteData

__all__ = ["Overimputation", "overimpute"]


@checks_arguments
@dataclass(frozen=True)
class Overimputation(Printed):
    """Observed values and what was imputed for them.

    Attributes
    ----------
    cells
        variable, cluster, row (position in the table), group, truth, mean and sd of the m imputed values (levels as
        numbers), rank (0 .. m).
    m
        Number of imputed values per cell.
    note
        What of the model was left out: observed values are imputed at random, without shift or reference arm.
    """

    cells: pd.DataFrame
    m: int
    note: str = ""

    @property
    def expected(self) -> float:
        """Probability that a truth is inside."""
        return (self.m - 1) / (self.m + 1)

    def by_variable(self) -> pd.DataFrame:
        """variable, cells, clusters, inside, se, expected, z.

        se is the standard error of a mean over clusters (weighted by cells), since errors in one cluster are correlated;
        z is (inside - expected) / se. With few clusters se is rough.
        """
        rows = []
        for name, part in self.cells.groupby("variable", sort=False):
            inside = part["rank"].between(1, self.m - 1).groupby(part["cluster"], sort=False)
            n, hits = inside.size().to_numpy(float), inside.sum().to_numpy(float)
            share, k = hits.sum() / n.sum(), len(n)
            residual = hits - share * n
            se = float(np.sqrt(k / (k - 1) * (residual**2).sum()) / n.sum()) if k > 1 else np.nan
            z = (share - self.expected) / se if se > 0 else np.nan
            rows.append((name, int(n.sum()), k, share, se, self.expected, z))
        return pd.DataFrame(rows, columns=["variable", "cells", "clusters", "inside", "se", "expected", "z"])

    def by_cluster(self) -> pd.DataFrame:
        """variable, cluster, cells, inside, error (mean of truth - imputed mean, in sds of the imputed values)."""
        sd = self.cells["sd"].where(self.cells["sd"] > 0)
        cells = self.cells.assign(
            inside=self.cells["rank"].between(1, self.m - 1),
            error=(self.cells["truth"] - self.cells["mean"]) / sd,
        )
        by = cells.groupby(["variable", "cluster"], sort=False)
        return by.agg(
            cells=("rank", "size"), inside=("inside", "mean"), error=("error", "mean")
        ).reset_index()

    def _said(self) -> str:
        lines = ["Overimputation: observed values compared with those imputed for them"]
        for _, row in self.by_variable().iterrows():
            share = f"{row['inside']:.1%} of {row['cells']:,} values inside, {row['expected']:.1%} expected"
            lines.append(f"{row['variable']}: {share} (z = {row['z']:.1f})")
        if self.note:
            lines.append(self.note)
        return "\n".join(lines)


def overimpute(
    model: Any,
    *,
    m: int = 19,
    groups: int = 5,
    hide: Literal["rows", "clusters"] = "rows",
    seed: int,
    progress: bool | None = None,
    **options: Any,
) -> Overimputation:
    """Hide observed values of every imputed variable in turn, and impute them.

    Parameters
    ----------
    model
        `bayesimp.FCS`, `bayesimp.JointNormal`, or any model that can be rebuilt from its specification.
    m
        Number of imputations; with 19, the range of the imputed values is a 90% interval.
    groups
        Number of parts in which the observed values are hidden, one part of every variable at a time.
    hide
        "rows": values at random; "clusters": all values of a variable in some clusters, which is as hard as a
        systematically missing variable.
    seed
        Seed of the random numbers.
    options
        Options of ``model.impute``: cycles, draws, ...

    Raises
    ------
    SpecificationError
        If an option is out of range, or the model has ``where``, which chooses cells itself.
    """
    data: IncompleteData = model.data
    check_keywords(options, overimpute, model.impute)
    if hide not in ("rows", "clusters") or groups < 2 or m < 3:
        raise SpecificationError(
            f"overimpute: hide is 'rows' or 'clusters', groups at least 2, m at least 3; got {hide!r}, {groups!r}, {m!r}."
        )
    specification = model.specification()
    if specification.get("where") is not None:
        raise SpecificationError("overimpute hides cells itself; give a model without where.")
    specification, note = _at_random(model, specification)
    rng = np.random.default_rng(seed)
    part = {name: _parts(data, name, groups, hide, rng) for name in model.responses}
    frames = []
    with progress_bar(progress) as report:
        for g in range(groups):
            hidden = {name: np.flatnonzero(part[name] == g) for name in model.responses}
            again = type(model).from_specification(_without(data, hidden), specification, model.post)
            imp = again.impute(m, seed=int(rng.integers(2**62)), progress=False, **options)
            frames += [_compared(data, imp, name, rows, g, rng) for name, rows in hidden.items() if len(rows)]
            report("groups", g + 1, groups)
    return Overimputation(pd.concat(frames, ignore_index=True), m, note)


def _at_random(model: Any, specification: dict[str, Any]) -> tuple[dict[str, Any], str]:
    """The specification without shift and reference arm, which concern values that are not observed, and a note on it."""
    has = [
        word
        for word, there in (("shift", bool(model.shift)), ("reference arm", model.reference is not None))
        if there
    ]
    if not has:
        return specification, ""
    kept = {key: value for key, value in specification.items() if key not in ("shift", "reference")}
    return kept, (
        f"The {' and '.join(has)} of the model was left out: observed values show how the model predicts at random, and "
        "say nothing about values that are missing."
    )


def _parts(
    data: IncompleteData, name: str, groups: int, hide: str, rng: np.random.Generator
) -> NDArray[np.intp]:
    """(N,) the group in which a value is hidden; -1 if it is missing."""
    seen = ~data.missing(name)
    out = np.full(len(seen), -1)
    if hide == "rows":
        out[seen] = rng.permutation(np.arange(seen.sum()) % groups)
        return out
    clusters = np.unique(data.codes[seen])
    if len(clusters) < groups:
        raise SpecificationError(
            f"'{name}' is observed in {len(clusters)} clusters, fewer than groups = {groups}; take fewer groups."
        )
    of = np.full(len(data.clusters), -1)
    of[clusters] = rng.permutation(np.arange(len(clusters)) % groups)
    out[seen] = of[data.codes[seen]]
    return out


def _without(data: IncompleteData, hidden: dict[str, NDArray[np.intp]]) -> IncompleteData:
    frame = data.frame.copy()
    for name, rows in hidden.items():
        holes = np.zeros(len(frame), dtype=bool)
        holes[rows] = True
        frame[name] = with_holes(frame[name], holes)
    return data.part(frame)


def _compared(
    data: IncompleteData, imp: Any, name: str, rows: NDArray[np.intp], group: int, rng: np.random.Generator
) -> pd.DataFrame:
    """Truth, imputed values and ranks of the hidden rows."""
    place = np.searchsorted(imp.rows(name), rows)
    values, truth = imp.values(name)[:, place], data.column_values(name)[rows]
    close = np.isclose(values, truth, rtol=1e-12, atol=0)
    below = ((values < truth) & ~close).sum(axis=0)
    ranks = below + rng.integers(close.sum(axis=0) + 1)
    return pd.DataFrame({
        "variable": name, "cluster": np.asarray(data.clusters)[data.codes[rows]], "row": rows, "group": group,
        "truth": truth, "mean": values.mean(axis=0), "sd": values.std(axis=0, ddof=1), "rank": ranks,
    })  # fmt: skip
