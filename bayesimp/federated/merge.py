"""Merge the releases of all sites into the input of one sampler.

Each site centres its columns at its own numbers. With D_s = [1 | x - c_s | y - c_s] the columns of site s, c common,

    D = D_s L_s,   L_s = I + e_0 (c_s - c)',       G = L_s' G_s L_s                          one centre for all sites

    D_w = D M_a,   X_w = X T,   Z_w = Z C / u,   Y_w = Y / s - X_w offset,   G_w = M_a' G M_a           (joint/scale.py)

with M_a zero for responses that pattern a lacks. T, offset, s, C and u come from the sum of all G (joint/merged.py), and
are converted to those of uncentred columns, so that draws are in the units of the data. A part of the formula without an
intercept is not centred: its columns should not be far from 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bayesimp.errors import SpecificationError
from bayesimp.federated.release import SiteRelease
from bayesimp.formulas.columns import INTERCEPT
from bayesimp.joint.merged import scale_from_statistics
from bayesimp.joint.scale import IncompleteRows, Scale, Working
from bayesimp.kernels.normal.statistics import SufficientStatistics
from bayesimp.messages import listing
from bayesimp.notation import Array

__all__ = ["check_together", "merged_statistics", "working_input"]


@dataclass(frozen=True)
class _Columns:
    """Where the columns of X and Z come from: positions (p,), (q,) in [1 | covariates]; and which parts are centred."""

    x: NDArray[np.int64]
    z: NDArray[np.int64]
    x_centred: bool
    z_centred: bool


def check_together(releases: Sequence[SiteRelease]) -> tuple[SiteRelease, ...]:
    """The releases in the order of site names, if they belong together.

    Raises
    ------
    SpecificationError
        Fewer than two clusters; two releases of one site; agreements or columns that differ, by name.
    """
    ordered = tuple(sorted(releases, key=lambda release: release.site))
    if not ordered:
        raise SpecificationError("combine needs the releases of all sites, but got none.")
    names = [release.site for release in ordered]
    twice = [name for k, name in enumerate(names) if name in names[:k]]
    if twice:
        raise SpecificationError(
            f"Two releases have the site name {twice[0]!r}, but the rows of a site must count once. Give each site "
            "its own name."
        )
    first = ordered[0]
    for other in ordered[1:]:
        differs = first.agreement.differences(other.agreement)
        for name in ("fixed", "random", "covariates"):
            mine, theirs = getattr(first, name), getattr(other, name)
            if mine != theirs:
                differs.append(f"columns '{name}' {list(theirs)} instead of {list(mine)}")
        if differs:
            raise SpecificationError(
                f"The release of site '{other.site}' was made under a different agreement from that of site "
                f"'{first.site}': {'; '.join(differs)}. All sites must export with the same plan."
            )
    if (clusters := sum(release.clusters for release in ordered)) < 2:
        raise SpecificationError(
            f"The releases of {listing(names)} have only {clusters} cluster in all, so differences between clusters "
            "cannot be estimated."
        )
    return ordered


def merged_statistics(releases: Sequence[SiteRelease]) -> tuple[SufficientStatistics, Array]:
    """Cross products of [1 | X | Z | Y] of all sites about one centre (v + r,), and that centre.

    Clusters are numbered site by site. The releases are those returned by `check_together`.
    """
    first, at = releases[0], _columns(releases[0])
    v, r = len(first.covariates), first.patterns.shape[1]
    centre = _common_centre(releases)
    to = np.where((np.arange(v + r) < v) | at.x_centred, centre, 0.0)
    patterns, pattern = np.unique(
        -np.vstack([release.patterns for release in releases]).astype(np.int8), axis=0, return_inverse=True
    )
    S = _selection(at, v, r, centre)
    grams, clusters, start = [], [], 0
    for release in releases:
        L = np.eye(1 + v + r)
        L[0, 1:] = release.centre - to
        for G, seen in zip(release.products, release.patterns, strict=True):
            own = L * np.concatenate([np.ones(1 + v, dtype=bool), seen])
            grams.append(S.T @ (own.T @ G @ own) @ S)
        clusters.append(release.cell_cluster + start)
        start += release.clusters
    gram, cluster, number = np.array(grams), np.concatenate(clusters), pattern.ravel()
    order = np.lexsort([number, cluster])
    gram = gram[order]
    rows = np.concatenate([release.rows for release in releases])[order]
    p, q = len(at.x), len(at.z)
    upper = np.triu_indices(1 + p + q + r, 1)
    gram[:, upper[1], upper[0]] = gram[:, upper[0], upper[1]]
    cells = cluster[order], number[order], rows
    return SufficientStatistics(patterns < 0, *cells, gram, start, p, q, r), centre


def working_input(releases: Sequence[SiteRelease]) -> Working:
    """The sampler's input: statistics on the working scale, without rows, and the scale that leads back to the data.

    Raises
    ------
    DataError, SpecificationError
        As `bayesimp.joint.merged.scale_from_statistics`.
    """
    first = releases[0]
    st, centre = merged_statistics(releases)
    own = scale_from_statistics(st, first.agreement.responses, first.random_terms)
    p, q, r = st.p, st.q, st.r
    x, z, y = slice(1, 1 + p), slice(1 + p, 1 + p + q), slice(1 + p + q, 1 + p + q + r)
    M = np.zeros((1 + p + q + r,) * 2)
    M[0, 0] = 1.0
    M[x, x], M[z, z], M[y, y] = own.T, own.C / own.u, np.diag(1.0 / own.s)
    M[x, y] = -own.T @ own.offset
    gram = np.empty_like(st.gram)
    for c, a in enumerate(st.cell_pattern):
        M_a = M * np.concatenate([np.ones(1 + p + q, dtype=bool), st.patterns[a]])
        G = M_a.T @ st.gram[c] @ M_a
        gram[c] = (G + G.T) / 2
    statistics = SufficientStatistics(
        st.patterns, st.cell_cluster, st.cell_pattern, st.cell_rows, gram, st.clusters, p, q, r
    )
    scale = _uncentred(own, _columns(first), centre, len(first.covariates))
    none = np.empty(0, dtype=np.int64)
    rows = IncompleteRows(none, none, none, *(np.empty((0, k)) for k in (p, q, r, r)))
    return Working(statistics, rows, scale, np.arange(st.clusters), np.zeros((p, r)))


def _columns(release: SiteRelease) -> _Columns:
    place = {INTERCEPT: 0} | {name: k for k, name in enumerate(release.covariates, 1)}
    x, z = (
        np.array([place[name] for name in names], dtype=np.int64) for names in (release.fixed, release.random)
    )
    return _Columns(x, z, INTERCEPT in release.fixed, INTERCEPT in release.random)


def _common_centre(releases: Sequence[SiteRelease]) -> Array:
    """(v + r,) means of all released rows; 0 for a response that no site has observed.

    They are one sum over all cells, and so do not depend on how clusters are divided into sites.
    """
    v = len(releases[0].covariates)
    sums, counts = [], []
    for release in releases:
        there = np.hstack([np.ones((len(release.patterns), v), dtype=bool), release.patterns])
        n = release.products[:, :1, 0] * there
        sums.append(release.products[:, 0, 1:] + n * release.centre)
        counts.append(n)
    return np.vstack(sums).sum(axis=0) / np.maximum(np.vstack(counts).sum(axis=0), 1.0)


def _selection(at: _Columns, v: int, r: int, centre: Array) -> Array:
    """S (1 + v + r, 1 + p + q + r): [1 | X | Z | Y] from [1 | covariates | Y], uncentred where a part is not centred."""
    p, q = len(at.x), len(at.z)
    S = np.zeros((1 + v + r, 1 + p + q + r))
    S[0, 0] = 1.0
    for start, places, is_centred in ((1, at.x, at.x_centred), (1 + p, at.z, at.z_centred)):
        for k, place in enumerate(places):
            S[place, start + k] = 1.0
            if place and not is_centred:
                S[0, start + k] = centre[place - 1]
    S[1 + v :, 1 + p + q :] = np.eye(r)
    return S


def _uncentred(own: Scale, at: _Columns, centre: Array, v: int) -> Scale:
    """The scale of uncentred columns, from that of centred ones.

    X_c = X K with K = I - e_0 c', so that T = K T_c; 1 = X_w T^-1 e_0, so that offset = offset_c + T^-1 e_0 c_y' / s.
    """
    T, offset, C = own.T, own.offset, own.C
    if at.x_centred:
        T = _shifting(at.x, centre) @ own.T
        one = (at.x == 0).astype(float)
        offset = own.offset + np.outer(np.linalg.solve(T, one), centre[v:] / own.s)
    if at.z_centred:
        C = _shifting(at.z, centre) @ own.C
    return Scale(T, offset, own.s, own.u, C)


def _shifting(places: NDArray[np.int64], centre: Array) -> Array:
    """K, which subtracts the centres from the columns by means of the constant column."""
    K = np.eye(len(places))
    constant = int(np.argmin(places))
    for k, place in enumerate(places):
        if place:
            K[constant, k] = -centre[place - 1]
    return K
