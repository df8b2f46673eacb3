"""From the rows of a site to its release: first what is withheld, then counts and cross products."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bayesimp.arguments import numbers, whole
from bayesimp.errors import DataError, SpecificationError, must_be
from bayesimp.events import Event
from bayesimp.federated.agreement import Agreement
from bayesimp.federated.disclosure import LEAST, Disclosed, rows_needed, withhold
from bayesimp.federated.release import SiteRelease
from bayesimp.federated.rows import SiteRows, distinct_columns, site_matrices
from bayesimp.kernels.normal.statistics import SufficientStatistics, collect
from bayesimp.notation import Array

__all__ = ["export_site"]


def export_site(
    frame: Any,
    agreement: Agreement,
    site: str,
    *,
    minimum: int = LEAST,
    centre: Sequence[float] | None = None,
) -> SiteRelease:
    """Make the release of a site from its rows.

    Parameters
    ----------
    frame
        pandas, polars or pyarrow table of the site. Responses that it lacks are imputed in every row.
    agreement
        What all sites agree on.
    site
        Name of the site, different from those of the others.
    minimum
        Least number of rows of a group within a cell, 3 or more. Cells need more rows (`bayesimp.federated.disclosure`).
    centre
        (v + r,) numbers subtracted from covariates and responses, so that their cross products lose no digits. None:
        their means over the released rows. Any other numbers must not be a function of the rows.

    Returns
    -------
    The release. The same table gives the same release.

    Raises
    ------
    DataError
        The table cannot be used (see `bayesimp.federated.rows.SiteRows`), or nothing can be released.
    SpecificationError
        An argument out of range; a covariate without levels.

    Examples
    --------
    >>> agreed = bi.federated.Agreement("y1 + y2 ~ x + (1 | study)")                # doctest: +SKIP
    >>> bi.federated.export_site(table, agreed, "A").save("A.json")                 # doctest: +SKIP
    """
    must_be(agreement, "Agreement", "export_site")
    if not isinstance(site, str) or not site.strip():
        raise SpecificationError(f"site must be the name of the site, as text; got {site!r}.")
    minimum = _minimum(minimum)
    rows = SiteRows(frame, agreement)
    matrices = site_matrices(rows)
    names, X = distinct_columns(matrices)
    rng = _rng(np.hstack([X, matrices.Y]), rows.codes)
    kept = withhold(~np.isnan(matrices.Y), rows.codes, X, matrices.Y, matrices.discrete, minimum, rng)
    if not kept.released:
        least = rows_needed(len(names) + 1, minimum)
        raise DataError(
            f"None of the {len(rows):,} rows in {len(rows.clusters):,} clusters can be released: with {len(names)} "
            f"covariate columns and one response, a cell (a cluster and a set of observed responses) needs at least "
            f"{least} rows, in groups of {minimum}. Agree on fewer covariates, or on larger clusters."
        )
    Y = np.where(kept.observed, matrices.Y, np.nan)
    given = None if centre is None else numbers(centre, "centre", (len(names) + Y.shape[1],))
    st, at = _statistics(X, Y, rows.codes, given)
    _, cell_cluster = np.unique(st.cell_cluster, return_inverse=True)
    counts = {
        "rows": kept.rows, "released": kept.released, "empty": kept.empty, "dropped": kept.dropped,
        "small groups": kept.of_small_groups,
    }  # fmt: skip
    masked = {name: int(count) for name, count in zip(agreement.responses, kept.masked, strict=True)}
    return SiteRelease(
        site.strip(), agreement, minimum, matrices.fixed, matrices.random, matrices.random_terms, names, at,
        cell_cluster.astype(np.int64), st.patterns[st.cell_pattern], st.gram, counts, masked,
        (*rows.events(), *_events(site, kept, agreement.responses, minimum)),
    )  # fmt: skip


def _minimum(minimum: Any) -> int:
    if isinstance(minimum, int) and minimum < LEAST:
        raise SpecificationError(
            f"minimum = {minimum}: groups of fewer than {LEAST} rows are never released. Use at least {LEAST}."
        )
    return whole(minimum, "minimum", LEAST)


def _rng(values: Array, codes: NDArray[np.int64]) -> np.random.Generator:
    """A generator that depends on the rows alone, so that a table always has the same release."""
    seed = hashlib.sha256(np.ascontiguousarray(values).tobytes() + codes.tobytes()).digest()
    return np.random.default_rng(int.from_bytes(seed))


def _statistics(
    X: Array, Y: Array, codes: NDArray[np.int64], centre: Array | None
) -> tuple[SufficientStatistics, Array]:
    """Cross products of the released values, about their means or a given centre, and that centre.

    A mean that includes other rows would reveal their sum.
    """
    there = ~np.isnan(Y).all(axis=1)
    X, Y, codes = X[there], Y[there], codes[there]
    if centre is None:
        seen = ~np.isnan(Y)
        means = np.where(seen, Y, 0.0).sum(axis=0) / np.maximum(seen.sum(axis=0), 1)
        centre = np.concatenate([X.mean(axis=0), means])
    v = X.shape[1]
    none = np.empty((len(X), 0))
    st = collect(X - centre[:v], none, Y - centre[v:], codes, int(codes.max()) + 1)
    return st, centre


def _events(site: str, kept: Disclosed, responses: Sequence[str], minimum: int) -> list[Event]:
    events = []
    if count := int(kept.masked.sum()):
        parts = [f"{n:,} of {name}" for name, n in zip(responses, kept.masked, strict=True) if n]
        text = (
            f"{count:,} observed values ({', '.join(parts)}) were set to missing, so that cells have enough rows; the "
            "parameters are estimated without them"
        )
        events.append(Event("masked", site, text, count))
    if kept.dropped:
        text = (
            f"{kept.dropped:,} rows were dropped: their cells are too small and cannot be joined to another. Rows are "
            "thus selected by their missing values, which is harmless only if missingness does not depend on values"
        )
        events.append(Event("dropped", site, text, kept.dropped))
    if kept.of_small_groups:
        text = (
            f"{kept.of_small_groups:,} rows were left out: fewer than {minimum} rows of their cell have the same "
            "covariates. Rows are thus selected by covariates and by their missing values"
        )
        events.append(Event("small groups", site, text, kept.of_small_groups))
    return events
