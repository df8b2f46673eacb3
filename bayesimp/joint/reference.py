"""Reference-based imputation of longitudinal trials: after drop-out, patients resemble those of a reference arm.

Carpenter, Roger & Kenward (2013, J. Biopharmaceutical Statistics 23, 1352), with the parameters of the joint normal
model, whose posterior is that of values missing at random. The visits y_1, .., y_T of a patient are responses in one
row. With x the row's columns, x' those it would have in the reference arm, and d = (x' - x)'beta (r,), zero for responses
that are not visits, a missing value is drawn at random, y_M | y_O ~ N(mu_M + (y_O - mu_O) K, C) with
K = Sigma_OO^-1 Sigma_OM, and shifted by

    jump to reference               d_k                after the last observed visit L
    copy increments in reference    d_k - d_L          after L; d_L = 0 if no visit is observed
    copy reference                  d_M - d_O K        wherever the row is incomplete

Missing values before the last observed visit remain at random in the first two. Sigma and the cluster effects are
common to all arms.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
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
    from bayesimp.joint.normal import JointNormal

__all__ = ["HOW", "ReferenceBased", "check_reference", "reference_moves"]

HOW = ("jump to reference", "copy increments in reference", "copy reference")


@dataclass(frozen=True)
class ReferenceBased(Record):
    """How values after drop-out are imputed; passed to `JointNormal` as ``reference=``.

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


def reference_moves(model: JointNormal, rows: NDArray[np.int64], beta: Array, Sigma: Array) -> Array:
    """The numbers added to the missing values of rows at each draw of the parameters.

    Parameters
    ----------
    rows
        (R,) rows of the table.
    beta, Sigma
        (M, p, r) and (M, r, r) in the units of the data.

    Returns
    -------
    (M, R, r); 0 where nothing moves, and where a value is observed.
    """
    own = model.reference
    assert own is not None
    X, _ = _in_reference_arm(own, model.data, model.formula, model.design)
    at = [model.responses.index(name) for name in own.visits]
    missing = np.column_stack([model.data.missing(name) for name in model.responses])[rows]
    d = np.zeros((len(beta), len(rows), len(model.responses)))
    d[:, :, at] = ((X - model.design.X)[rows] @ beta)[:, :, at]
    if own.how == "copy reference":
        return np.where(missing, d - _regressed(d, missing, Sigma), 0.0)
    known = _before_last_observed(missing[:, at])
    after = np.zeros(missing.shape, dtype=bool)
    after[:, at] = ~known
    if own.how == "copy increments in reference":
        last = known.sum(axis=1)
        of_visits = np.concatenate([np.zeros((*d.shape[:2], 1)), d[:, :, at]], axis=2)
        d = d - np.take_along_axis(of_visits, last[None, :, None], axis=2)
    return np.where(after & missing, d, 0.0)


def _regressed(d: Array, missing: NDArray[np.bool_], Sigma: Array) -> Array:
    """(M, R, r) d_O K in the missing cells of each row, pattern by pattern."""
    out = np.zeros_like(d)
    for pattern in np.unique(missing, axis=0):
        if pattern.all() or not pattern.any():
            continue
        of = np.flatnonzero((missing == pattern).all(axis=1))
        M, O = np.flatnonzero(pattern), np.flatnonzero(~pattern)
        K = np.linalg.solve(Sigma[:, O][:, :, O], Sigma[:, O][:, :, M])
        out[np.ix_(np.arange(len(d)), of, M)] = d[:, of][:, :, O] @ K
    return out
