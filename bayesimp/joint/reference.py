"""Reference-based imputation of longitudinal trials: after drop-out, patients resemble those of a reference arm.

Carpenter, Roger & Kenward (2013, J. Biopharmaceutical Statistics 23, 1352), with the parameters of a joint normal
model, whose posterior is that of values missing at random; in `JointLatent` y are the latent normals, and thresholds
are common to all arms. The visits y_1, .., y_T of a patient are responses in one
row. With x the row's columns, x' those it would have in the reference arm, d = (x' - x)'beta (r,), zero for responses
that are not visits, and L the last observed visit, the mean of the row is mu + a instead of mu, with

    jump to reference               a_k = d_k              after L, else 0
    copy increments in reference    a_k = d_k - d_L        after L, else 0; d_L = 0 if no visit is observed
    copy reference                  a = d

and missing values are drawn given the observed ones, y_M ~ N(mu_M + a_M + (y_O - mu_O - a_O) K, C) with
K = Sigma_OO^-1 Sigma_OM: a draw at random, moved by a_M - a_O K. Missing values before L remain at random in the first
two. Sigma and the cluster effects are common to all arms.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bayesimp.arguments import chosen
from bayesimp.errors import SpecificationError
from bayesimp.events import Event
from bayesimp.formulas.design import DesignMatrices
from bayesimp.formulas.formula import Formula
from bayesimp.formulas.new_rows import new_design
from bayesimp.layout import Record, wrapped
from bayesimp.messages import listing, suggestion
from bayesimp.notation import Array
from bayesimp.table.incomplete import IncompleteData
from bayesimp.table.new_rows import NewRows

if TYPE_CHECKING:
    from bayesimp.joint.latent.model import JointLatent
    from bayesimp.joint.normal import JointNormal

__all__ = [
    "HOW",
    "ReferenceBased",
    "ReferenceMeans",
    "check_reference",
    "reference_means",
    "refuse_new_rows",
    "refuse_with_several",
]

HOW = ("jump to reference", "copy increments in reference", "copy reference")


@dataclass(frozen=True)
class ReferenceBased(Record):
    """How values after drop-out are imputed; passed to `JointNormal` or `JointLatent` as ``reference=``.

    Attributes
    ----------
    arm
        The column of arms, complete, in the fixed part of the formula.
    reference
        The arm that other arms resemble after drop-out; rows of this arm are imputed at random.
    visits
        Responses in chronological order.
    how
        ``"jump to reference"``: the mean of the reference arm at each visit; ``"copy increments in reference"``: the
        changes from visit to visit of the reference arm; ``"copy reference"``: as if always in that arm.
    """

    arm: str
    reference: Any
    visits: tuple[str, ...]
    how: str = "jump to reference"

    def __post_init__(self) -> None:
        object.__setattr__(self, "visits", tuple(self.visits))

    def to_record(self) -> dict[str, Any]:
        """The record as stored in files."""
        value = getattr(self.reference, "item", lambda: self.reference)()
        return asdict(self) | {"visits": list(self.visits), "reference": value}

    @property
    def words(self) -> str:
        """What is done, in one sentence."""
        return f"{self.how}: after drop-out as where {self.arm} is {self.reference}; visits {', '.join(self.visits)}"

    def __str__(self) -> str:
        return wrapped(self.words)


def check_reference(
    own: ReferenceBased, data: IncompleteData, formula: Formula, design: DesignMatrices
) -> list[Event]:
    """Refuse a reference that does not fit the model of a formula; otherwise return events.

    Raises
    ------
    SpecificationError
        Visits are not responses; the column of arms is incomplete, lacks the reference arm, or has random effects.
    """
    frame, responses = data.frame, formula.responses
    chosen(own.how, "how", HOW)
    if not own.visits or len(set(own.visits)) < len(own.visits):
        raise SpecificationError(
            f"reference: visits must be different responses, in order, not {own.visits!r}."
        )
    for name in own.visits:
        if name not in responses:
            raise SpecificationError(
                f"reference: visit {name!r} is not among the responses. {suggestion(name, responses)}"
            )
    if own.arm not in formula.variables or own.arm in responses:
        raise SpecificationError(
            f"reference: '{own.arm}' must be a complete column on the right of the formula, so that arms differ."
        )
    if own.reference not in set(frame[own.arm]):
        raise SpecificationError(
            f"reference: '{own.arm}' is never {own.reference!r}; its values are {listing(frame[own.arm].unique())}."
        )
    _, Z = _in_reference_arm(own, data, formula, design)
    if not np.array_equal(Z, design.Z):
        raise SpecificationError(
            f"reference: '{own.arm}' has random effects ({listing(design.random)}), and means of the reference arm "
            "are taken from the fixed part. Remove it from the random part."
        )
    missing = np.column_stack([data.missing(name) for name in own.visits])
    early = missing & _before_last_observed(missing) & (frame[own.arm] != own.reference).to_numpy()[:, None]
    if early.any() and own.how != "copy reference":
        text = "missing before the last observed visit: imputed at random, not by reference"
        return [Event("at random", own.arm, text, int(early.sum()))]
    return []


def refuse_with_several(own: ReferenceBased | None, labels: Sequence[str]) -> None:
    """Refuse a reference if there are several grouping factors.

    Raises
    ------
    SpecificationError
    """
    if own is not None:
        raise SpecificationError(
            f"reference: not available with several grouping factors ({', '.join(labels)}). Give the formula one random "
            "part, or leave reference out."
        )


def refuse_new_rows(own: ReferenceBased | None) -> None:
    """Refuse to complete rows that are not in the trial.

    Raises
    ------
    SpecificationError
    """
    if own is not None:
        raise SpecificationError(
            "The model imputes by reference to another arm, which applies to the rows of its trial only: new rows are "
            "not completed. Impute them with the table."
        )


def _in_reference_arm(
    own: ReferenceBased, data: IncompleteData, formula: Formula, design: DesignMatrices
) -> tuple[Array, Array]:
    """X (n, p) and Z (n, q) of the table if all its rows were in the reference arm."""
    frame = data.frame.copy()
    column = frame[own.arm].copy()
    column[:] = own.reference
    frame[own.arm] = column
    return new_design(formula, design, NewRows(data, frame))


def _before_last_observed(missing: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """(n, T) bool: visits up to and including the last observed one."""
    return np.flip(np.maximum.accumulate(np.flip(~missing, axis=1), axis=1), axis=1)


@dataclass(frozen=True, eq=False)
class ReferenceMeans:
    """The means of R rows under reference-based imputation, minus those at random, given the coefficients.

    Attributes
    ----------
    how
        As in `ReferenceBased`.
    difference
        (R, p): x' - x.
    missing
        (R, r): missing columns of each row.
    visits
        The columns of every visit, in chronological order: one, or the utilities of a nominal visit.
    """

    how: str
    difference: Array
    missing: NDArray[np.bool_]
    visits: tuple[tuple[int, ...], ...]

    @property
    def moved(self) -> NDArray[np.bool_]:
        """(R,): rows of which some missing value is not imputed at random."""
        dropped = self.missing if self.how == "copy reference" else self._after
        return self.difference.any(axis=1) & dropped.any(axis=1)

    def at(self, rows: NDArray[np.integer]) -> ReferenceMeans:
        """These means in some of the rows."""
        return replace(self, difference=self.difference[rows], missing=self.missing[rows])

    @property
    def _last(self) -> NDArray[np.int64]:
        """(R,): L, the number of the last observed visit, 0 if no visit is observed."""
        return _before_last_observed(self.missing[:, [visit[0] for visit in self.visits]]).sum(axis=1)

    @property
    def _after(self) -> NDArray[np.bool_]:
        """(R, r): columns of visits after L, which are missing."""
        out = np.zeros(self.missing.shape, dtype=bool)
        for t, visit in enumerate(self.visits, 1):
            out[:, visit] = (t > self._last)[:, None]
        return out

    def added(self, beta: Array) -> Array:
        """(M, R, r) a, added to the means of all columns, observed ones too; beta (M, p, r) in the units of the data."""
        d, own = np.zeros((len(beta), *self.missing.shape)), [k for visit in self.visits for k in visit]
        d[:, :, own] = self.difference @ beta[:, :, own]
        if self.how == "copy reference":
            return d
        if self.how == "copy increments in reference":
            d[:, :, own] -= np.tile(self._at_last(d), len(self.visits))
        return np.where(self._after, d, 0.0)

    def _at_last(self, d: Array) -> Array:
        """(M, R, w): d_L, of the w columns of a visit."""
        out, last = np.zeros((*d.shape[:2], len(self.visits[0]))), self._last
        for t, visit in enumerate(self.visits, 1):
            out[:, last == t] = d[:, last == t][:, :, visit]
        return out

    def moves(self, beta: Array, Sigma: Array) -> Array:
        """(M, R, r) a_M - a_O K, added to missing values of normal responses; 0 elsewhere. Sigma (M, r, r)."""
        a = self.added(beta)
        return np.where(self.missing, a - _regressed(a, self.missing, Sigma), 0.0)


def reference_means(
    model: JointNormal | JointLatent, rows: NDArray[np.int64], columns: Mapping[str, Sequence[int]]
) -> ReferenceMeans:
    """Those of rows (R,) of the table of a model with a reference; columns: the columns of each response."""
    own, data, design = model.reference, model.data, model.design
    assert own is not None
    X, _ = _in_reference_arm(own, data, model.formula, design)
    missing = np.zeros((len(rows), sum(map(len, columns.values()))), dtype=bool)
    for name, places in columns.items():
        missing[:, places] = data.missing(name)[rows][:, None]
    visits = tuple(tuple(columns[name]) for name in own.visits)
    return ReferenceMeans(own.how, (X - design.X)[rows], missing, visits)


def _regressed(a: Array, missing: NDArray[np.bool_], Sigma: Array) -> Array:
    """(M, R, r) a_O K in the missing cells of each row, pattern by pattern."""
    out = np.zeros_like(a)
    for pattern in np.unique(missing, axis=0):
        if pattern.all() or not pattern.any():
            continue
        of = np.flatnonzero((missing == pattern).all(axis=1))
        M, O = np.flatnonzero(pattern), np.flatnonzero(~pattern)
        K = np.linalg.solve(Sigma[:, O][:, :, O], Sigma[:, O][:, :, M])
        out[np.ix_(np.arange(len(a)), of, M)] = a[:, of][:, :, O] @ K
    return out
