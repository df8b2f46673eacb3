"""The missing values of some rows of a table, given the draws of the parameters and the cross products of all rows.

Given (beta, Sigma, Psi), effects of clusters depend on the rows through their cross products, and given the effects rows
are independent (joint/rows.py), so each part is completed alone. Random numbers of effects are those of
`bayesimp.JointNormal` with the same seed; those of a cell belong to the number of its row in the table. So completed
tables depend on the order of the rows, and neither on how they are divided nor on how many are read at a time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from bayesimp.errors import DataError
from bayesimp.federated.rows import agreed_design, responses
from bayesimp.joint.gibbs import JointDraws
from bayesimp.joint.rows import rows_from_normals
from bayesimp.joint.scale import IncompleteRows, Scale, Working
from bayesimp.kernels.normal.effects import Moments, moments
from bayesimp.notation import Array
from bayesimp.partitioned.rows import PartRows
from bayesimp.sampling.chains import imputation_rng, row_uniforms

__all__ = ["Completion"]

NUMBERS = 2_000_000  # completed values in memory at a time


@dataclass(frozen=True)
class Completion:
    """What is needed to complete rows of any part.

    Attributes
    ----------
    seed
        Seed of the run.
    scale
        The working scale.
    all_rows
        Moments of all rows of the table.
    beta, Sigma, Psi
        (M, p, r), (M, r, r), (M, rq, rq) draws on the working scale, one for each imputation.
    effects
        (M, m, rq) standard normals of the effects of the clusters.
    codes
        Position of each cluster, by label.
    """

    seed: int
    scale: Scale
    all_rows: Moments
    beta: Array
    Sigma: Array
    Psi: Array
    effects: Array
    codes: Mapping

    @classmethod
    def of(
        cls,
        working: Working,
        codes: Mapping,
        draws: JointDraws,
        places: tuple[NDArray[np.int64], NDArray[np.int64]],
        seed: int,
    ) -> Self:
        """From draws in the units of the data, and the chain and draw of each imputation."""
        st, scale = working.statistics, working.scale
        size = st.clusters, st.r * st.q
        z = [imputation_rng(seed, k).standard_normal(size) for k in range(len(places[0]))]
        b, S, P = (np.ascontiguousarray(each[places]) for each in (draws.beta, draws.Sigma, draws.Psi))
        made = (scale.working_beta(b), scale.working_Sigma(S), scale.working_Psi(P))
        b, S, P = (np.ascontiguousarray(each) for each in made)
        return cls(seed, scale, moments(st), b, S, P, np.array(z), codes)

    def values(self, rows: PartRows, start: int) -> tuple[NDArray[np.int64], Array]:
        """The positions (R,) of incomplete rows among these, and their values (M, R, r), NaN where observed.

        start: number of the first of the rows in the table.

        Raises
        ------
        DataError
            The rows are not those of the first pass.
        """
        made, Y = agreed_design(rows), responses(rows)
        place = np.flatnonzero(np.isnan(Y).any(axis=1))
        out = np.empty((len(self.beta), len(place), Y.shape[1]))
        step = max(NUMBERS // out[:, :1].size, 1) if len(place) else 1
        labels = np.array([self._code(label, rows.cluster) for label in rows.clusters.tolist()])
        for first in range(0, len(place), step):
            at = place[first : first + step]
            own = labels[rows.codes[at]]
            out[:, first : first + step] = self._some(made.X[at], made.Z[at], Y[at], own, start + at)
        return place, out

    def _some(
        self, X: Array, Z: Array, Y: Array, clusters: NDArray[np.int64], row: NDArray[np.int64]
    ) -> Array:
        """(M, R, r) values of incomplete rows (X, Z, Y) of clusters (R,), with numbers row (R,) in the table."""
        scale, missing = self.scale, np.isnan(Y)
        X_w, Z_w = X @ scale.T, Z @ scale.C / scale.u
        fixed = X_w @ scale.offset
        some, code = np.unique(clusters, return_inverse=True)
        own = _of_clusters(self.all_rows, some)
        working = IncompleteRows(row, code, self._patterns(~missing), X_w, Z_w, Y / scale.s - fixed, fixed)
        first, rows, r = int(row[0]), int(row[-1] - row[0]) + 1, Y.shape[1]
        cells = [
            ndtri(row_uniforms(self.seed, k, first, rows, r)[row - first][missing])
            for k in range(len(self.beta))
        ]
        z = np.hstack([self.effects[:, some].reshape(len(cells), -1), np.array(cells)])
        return rows_from_normals(z, working, scale.s, own, self.beta, self.Sigma, self.Psi)

    def _patterns(self, observed: NDArray[np.bool_]) -> NDArray[np.int64]:
        """(R,) the pattern of each row."""
        bits = 1 << np.arange(observed.shape[1])
        known = self.all_rows.patterns @ bits
        order, own = np.argsort(known), observed @ bits
        at = order[np.minimum(np.searchsorted(known[order], own), len(known) - 1)]
        if (known[at] != own).any():
            raise _changed("other cells are missing now")
        return at

    def _code(self, label: object, cluster: str) -> int:
        code = self.codes.get(label)
        if code is None:
            raise _changed(f"'{cluster}' has a cluster {label!r} now")
        return code


def _changed(how: str) -> DataError:
    return DataError(
        f"The table has changed since its cross products were taken: {how}. Make the model again, and leave the "
        "files alone until the tables are completed."
    )


def _of_clusters(m: Moments, some: NDArray[np.int64]) -> Moments:
    """The moments of some clusters (sorted), numbered from 0; sums over clusters, which effects do not need, stay."""
    counts = m.first[some + 1] - m.first[some]
    first = np.concatenate([[0], np.cumsum(counts)])
    cells = np.repeat(m.first[some] - first[:-1], counts) + np.arange(first[-1])
    return m._replace(
        first=first, cell_pattern=m.cell_pattern[cells], ZZ=m.ZZ[cells], ZX=m.ZX[cells], ZY=m.ZY[cells]
    )
