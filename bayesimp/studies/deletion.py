"""Deletion of values from a complete table, in whole clusters and in rows, at random or not; the truth is kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import expit, logit

from bayesimp.errors import DataError, SpecificationError
from bayesimp.layout import Printed, tabulated
from bayesimp.markup import framed, table
from bayesimp.messages import listing, suggestion
from bayesimp.studies.mechanisms import (
    Sporadic,
    Systematic,
    check_share,
    driver_names,
    drivers,
    intercept,
    mechanism,
    read_strengths,
)
from bayesimp.table.clusters import Clusters
from bayesimp.table.reading import as_native, as_pandas

__all__ = ["Deleted", "delete"]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Deleted(Printed):
    """What `delete` deleted.

    Attributes
    ----------
    truth
        The complete table.
    missing
        (N, deleted variables) bool: which values were deleted.
    clusters
        Variable -> labels of the clusters in which it is systematically missing by design.
    probabilities
        (N, deleted variables) probability that the value is deleted in its row, given that its cluster has the
        variable; zero for variables without sporadically missing values.
    table
        One row for each variable and kind: variable, kind ("systematic" or "sporadic"), mechanism ("MCAR", "MAR",
        "MNAR"), on, share (as requested), intercept (of the logit), deleted and of: how many clusters or rows out of how
        many.
    """

    truth: pd.DataFrame
    missing: pd.DataFrame
    clusters: Mapping[str, tuple[Any, ...]]
    probabilities: pd.DataFrame
    table: pd.DataFrame

    def values(self, name: str) -> pd.Series:
        """The deleted values of a variable, with their index labels."""
        return self.truth.loc[self.missing[name].to_numpy(), name]

    def _said(self) -> str:
        return tabulated(self.table, number="{:.6f}".format)

    def _repr_html_(self) -> str:
        return framed("Deleted values", [table(self.table)])


def delete(
    frame: Any,
    *,
    cluster: str,
    systematic: Mapping[str, float | Systematic] | None = None,
    sporadic: Mapping[str, float | Sporadic] | None = None,
    apart: Sequence[Sequence[str]] = (),
    seed: int | np.random.SeedSequence | np.random.Generator,
) -> tuple[Any, Deleted]:
    """Delete values from a complete table, by cluster and by row.

    Whether a value is missing completely at random (MCAR), at random (MAR) or not at random (MNAR) follows from what its
    probability depends on, and is recorded: on nothing, on variables that stay complete, or on the variable itself or
    another incomplete one.

    Parameters
    ----------
    frame
        A pandas, polars or Arrow table. The variables to delete from may have any dtype but no missing values. Whole
        numbers and booleans become pandas' nullable types (``Int64``, ``boolean``).
    cluster
        Name of the column of clusters.
    systematic
        Variable -> share of the clusters that lack it, or a `Systematic`.
    sporadic
        Variable -> share of the rows in clusters that have it, or a `Sporadic`.
    apart
        Groups of variables, no two of which are lacking in the same cluster: ``[("y1", "y2")]``, as in Kunkel & Kaizar
        (2017).
    seed
        Seed of the random numbers. Each variable has its own stream, so that adding one does not change the others.

    Returns
    -------
    The incomplete table, of the type given, and a `Deleted`.

    Raises
    ------
    SpecificationError, DataError
        If a column does not exist or has missing values, a share is invalid, or there are too few clusters.

    Examples
    --------
    >>> holed, deleted = bi.studies.delete(                                             # doctest: +SKIP
    ...     frame, cluster="study", systematic={"smoke": 0.2},
    ...     sporadic={"bmi": bi.studies.Sporadic(0.15, on={"age": 0.7, "bmi": 0.5})}, seed=1)
    """
    truth, kind = as_pandas(frame)
    whole: dict[str, Systematic] = {name: _read(Systematic, how) for name, how in (systematic or {}).items()}
    parts: dict[str, Sporadic] = {name: _read(Sporadic, how) for name, how in (sporadic or {}).items()}
    names = list(dict.fromkeys([*whole, *parts]))
    _check(truth, cluster, names, [*whole.values(), *parts.values()])
    codes, labels = pd.factorize(truth[cluster], sort=True)
    groups = Clusters(labels, codes, truth.index)
    streams = _streams(seed, names)
    lacking: dict[str, NDArray[np.bool_]] = {}
    rows: list[dict[str, Any]] = []
    for name, how in whole.items():
        barred = _barred(name, apart, lacking, len(groups))
        lacking[name], entry = _systematic(name, how, truth, groups, barred, streams[name][0])
        rows.append(entry | {"mechanism": mechanism(name, how.on, set(names)), "on": _text(how.on)})
    missing = pd.DataFrame({n: lacking.get(n, np.zeros(len(groups), bool))[codes] for n in names})
    P = pd.DataFrame(np.zeros(missing.shape), columns=names)
    for name, part in parts.items():
        there = ~missing[name].to_numpy()
        drawn, p, entry = _sporadic(name, part, truth, codes, there, streams[name][1])
        missing[name] |= drawn
        P[name] = p
        rows.append(entry | {"mechanism": mechanism(name, part.on, set(names)), "on": _text(part.on)})
    holed = truth.copy()
    for name in names:
        holed[name] = with_holes(truth[name], missing[name].to_numpy())
    missing.index = P.index = truth.index
    columns = ["variable", "kind", "mechanism", "on", "share", "intercept", "deleted", "of"]
    chosen = {name: tuple(labels[lack]) for name, lack in lacking.items()}
    return as_native(holed, kind), Deleted(truth, missing, chosen, P, pd.DataFrame(rows, columns=columns))


def with_holes(column: pd.Series, holes: NDArray[np.bool_]) -> pd.Series:
    """The column with the values at `holes` missing; types without missing values become pandas' nullable types."""
    dtype = column.dtype
    if isinstance(dtype, pd.SparseDtype):
        return with_holes(column.sparse.to_dense(), holes)
    if isinstance(dtype, np.dtype) and dtype.kind in "iu":
        column = column.astype(dtype.name.replace("u", "U").replace("i", "I"))
    elif isinstance(dtype, np.dtype) and dtype.kind == "b":
        column = column.astype("boolean")
    elif isinstance(dtype, pd.IntervalDtype) and str(dtype.subtype).startswith(("int", "uint")):
        column = column.astype(pd.IntervalDtype("float64", dtype.closed))
    return column.mask(holes)


def _systematic(
    name: str,
    how: Systematic,
    frame: pd.DataFrame,
    groups: Clusters,
    barred: NDArray[np.bool_],
    rng: np.random.Generator,
) -> tuple[NDArray[np.bool_], dict[str, Any]]:
    """(m,) which clusters lack the variable."""
    labels, m, free = groups.labels, len(groups), np.flatnonzero(~barred)
    a = np.nan
    if how.clusters is not None:
        absent = [label for label in how.clusters if label not in labels]
        if absent:
            raise SpecificationError(f"'{name}': there is no cluster {absent[0]!r}.")
        lack = np.isin(labels, list(how.clusters))
        expected = float(lack.sum())
    else:
        expected = float(how.count) if how.share is None else how.share * m  # type: ignore[arg-type]
        if expected > len(free):
            raise SpecificationError(
                f"'{name}' should be lacking in {expected:g} clusters; only {len(free)} of {m} may lack it (see apart)."
            )
        lack = np.zeros(m, dtype=bool)
        if 0 < expected < len(free):
            slopes = drivers(read_strengths(how.on, frame, name), frame, groups.codes, "sd", True)[free]
            a = intercept(expected / len(free), slopes)
            lack[free[_madow(expit(a + slopes), rng)]] = True
        else:
            lack[free[: int(expected)]] = True
    if (lack & barred).any():
        raise SpecificationError(
            f"'{name}': {listing(labels[lack & barred])} lack a variable that apart separates from it."
        )
    if lack.all():
        raise SpecificationError(
            f"'{name}' would be lacking in all {m} clusters, and no value would be left."
        )
    entry = {"variable": name, "kind": "systematic", "share": expected / m, "intercept": a}
    return lack, entry | {"deleted": int(lack.sum()), "of": m}


def _madow(p: Array, rng: np.random.Generator) -> NDArray[np.intp]:
    """A sample that contains i with probability exactly p_i, and whose size is within one of sum p."""
    order = rng.permutation(len(p))
    ends = np.cumsum(p[order])
    if abs(ends[-1] - round(ends[-1])) < 1e-9:
        ends *= round(ends[-1]) / ends[-1]  # so that rounding errors do not change the size
    steps = np.floor(ends - rng.random())
    return order[np.diff(steps, prepend=-1.0) > 0]


def _sporadic(
    name: str,
    how: Sporadic,
    frame: pd.DataFrame,
    codes: NDArray[np.integer],
    there: NDArray[np.bool_],
    rng: np.random.Generator,
) -> tuple[NDArray[np.bool_], Array, dict[str, Any]]:
    """(N,) which rows lack the value, their probabilities, and the entry of the table."""
    slopes = drivers(read_strengths(how.on, frame, name), frame, codes, how.unit, False)
    if how.between:
        slopes = slopes + how.between * rng.standard_normal(int(codes.max()) + 1)[codes]
    a = intercept(how.share, slopes[there]) if how.at == "rows" else float(logit(how.share))
    p = np.where(there, expit(a + slopes), 0.0)
    drawn = rng.random(len(p)) < p
    entry = {"variable": name, "kind": "sporadic", "share": how.share, "intercept": a}
    return drawn, p, entry | {"deleted": int(drawn.sum()), "of": int(there.sum())}


def _barred(
    name: str, apart: Sequence[Sequence[str]], lacking: Mapping[str, NDArray[np.bool_]], m: int
) -> NDArray[np.bool_]:
    """(m,) which clusters lack a variable that `apart` separates from this one."""
    barred = np.zeros(m, dtype=bool)
    for group in apart:
        if name in group:
            for other in set(group) & set(lacking):
                barred |= lacking[other]
    return barred


def _streams(seed: Any, names: Sequence[str]) -> dict[str, list[np.random.Generator]]:
    """Two generators per variable, from its name: one for clusters, one for rows."""
    if isinstance(seed, np.random.Generator):
        seed = int(seed.integers(2**63))
    root = seed if isinstance(seed, np.random.SeedSequence) else np.random.SeedSequence(seed)
    streams = {}
    for name in names:
        key = (*root.spawn_key, *name.encode())
        for_name = np.random.SeedSequence(root.entropy, spawn_key=key)
        streams[name] = [np.random.default_rng(s) for s in for_name.spawn(2)]
    return streams


def _read(kind: type, how: Any) -> Any:
    if isinstance(how, kind):
        return how
    if isinstance(how, int | float) and not isinstance(how, bool):
        check_share(how, kind.__name__)
        return kind(share=float(how))
    raise SpecificationError(f"give a share between 0 and 1, or a {kind.__name__}(...); got {how!r}.")


def _check(frame: pd.DataFrame, cluster: str, names: Sequence[str], hows: Sequence[Any]) -> None:
    if not names:
        raise SpecificationError("nothing to delete: give systematic={'x': 0.2} or sporadic={'x': 0.15}.")
    for name in (cluster, *names):
        if name not in frame.columns:
            raise SpecificationError(
                f"The table has no column {name!r}. {suggestion(name, list(frame.columns))}"
            )
    if cluster in names:
        raise SpecificationError(
            f"{cluster!r} is the column of the clusters, which cannot have missing values."
        )
    used = [n for how in hows for n in driver_names(how.on) if n is not None and n in frame.columns]
    for name in dict.fromkeys([cluster, *names, *used]):
        holes = int(frame[name].isna().sum())
        if holes:
            raise DataError(
                f"'{name}' already has {holes:,} missing values; delete needs complete columns, since the truth must be "
                "known. Drop these rows, or omit the variable."
            )


def _text(on: Mapping[str, Any]) -> str:
    return ", ".join(
        f"{d}: {dict(s) if isinstance(s, Mapping) else format(float(s), 'g')}" for d, s in on.items()
    )
