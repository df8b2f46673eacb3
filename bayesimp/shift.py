"""A shift of imputed values, for data missing not at random.

With eta*_j the linear predictor of a missing value in row j under missingness at random,

    eta_j = eta*_j + delta_j        delta_j: a number, by the group of the row, or by level

(van Buuren 2018, Flexible Imputation of Missing Data, sec. 3.8). docs/mathematics.md defines eta* for each engine.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from bayesimp.errors import SpecificationError
from bayesimp.layout import Record
from bayesimp.messages import listing, suggestion

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from bayesimp.table.clusters import Clusters
    from bayesimp.table.incomplete import IncompleteData

__all__ = ["WHERE", "Shift"]

WHERE = ("missing", "systematic", "sporadic")


@dataclass(frozen=True)
class Shift(Record):
    """Numbers added to predictors after the parameters are drawn and before missing values are filled in.

    Imputed values of a normal variable move by ``by[name]``, in the units of the data; for any other variable the
    linear predictor moves. In a joint GLMM it is the mean or linear predictor of the variable's own factor that moves,
    where the variable is missing, so a variable on which others depend moves by less. The default moves nothing.
    `bayesimp.mnar` compares several shifts. The standard deviations of imputed values by cluster that `JointNormal`
    reports (``imputed_stats``) are those before the shift; they differ from those after it if the shift varies within
    clusters.

    Attributes
    ----------
    by
        Variable -> number. For a categorical variable a number moves all levels equally relative to the first, and a
        mapping level -> number moves each (levels left out: 0). With `group`: variable -> value of that column ->
        number or mapping; values left out are not shifted.
    group
        A complete column of the table whose values have separate shifts: the studies, or the arms of a trial.
    where
        Which missing values move: all (``"missing"``), those of clusters in which the variable is never observed
        (``"systematic"``), or those of the other clusters (``"sporadic"``).
    """

    by: Mapping[str, Any] = field(default_factory=dict)
    group: str | None = None
    where: Literal["missing", "systematic", "sporadic"] = "missing"

    def of(self, name: str) -> float:
        """The shift of a variable; 0 if none was given.

        Raises
        ------
        SpecificationError
            The variable has several shifts, by group or level.
        """
        number = self.by.get(name, 0.0)
        if isinstance(number, Mapping) or self.where != "missing":
            raise SpecificationError(
                f"shift of '{name}': give one number for all rows, not {self.by[name]!r}."
            )
        return float(number)

    def __bool__(self) -> bool:
        return any(_moves(number) for number in self.by.values())

    @property
    def moved(self) -> tuple[str, ...]:
        """Variables whose shift is not 0 in at least one group."""
        return tuple(name for name, number in self.by.items() if _moves(number))

    def by_level(self, name: str) -> bool:
        """Whether the levels of a categorical variable have separate shifts."""
        number = self.by.get(name, 0.0)
        each = dict(number).values() if self.group is not None and isinstance(number, Mapping) else [number]
        return any(isinstance(one, Mapping) for one in each)

    def check_constant(self, name: str, data: IncompleteData, clusters: Clusters | None = None) -> None:
        """Refuse groups that vary within clusters (None: the primary ones), for a cluster-level variable that is shifted.

        Raises
        ------
        SpecificationError
        """
        if self.group is None or name not in self.moved:
            return
        clusters = data.grouping if clusters is None else clusters
        column, codes = _column(self.group, data), clusters.codes
        first = np.full(len(clusters), None, dtype=object)
        first[codes[::-1]] = column[::-1]
        varies = np.unique(codes[first[codes] != column])
        if len(varies):
            raise SpecificationError(
                f"shift of '{name}' by '{self.group}': '{name}' has a single value in each cluster, but '{self.group}' "
                f"varies within {len(varies)} of {len(clusters)} clusters ({listing(clusters.labels[varies])}). "
                "Take a column that is constant within clusters."
            )

    def rows(self, name: str, data: IncompleteData) -> NDArray[np.float64]:
        """The shift in each row of a table, (n, r); r = K - 1 for a categorical variable with K levels, else 1.

        Rows that are not shifted have 0; the others have the shift whether or not the value is missing.
        """
        levels = data.levels(name) if _by_level(name, data) else None
        number = self.by.get(name, 0.0)
        width = len(levels) - 1 if levels else 1
        out = np.zeros((len(data), width))
        if self.group is None:
            out[:] = _predictors(number, levels)
        else:
            column = _column(self.group, data)
            for value, of_group in dict(number or {}).items():
                out[column == _known(value, column)] = _predictors(of_group, levels)
        if self.where != "missing":
            never = np.bincount(data.codes, ~data.missing(name), minlength=len(data.clusters)) == 0
            out[never[data.codes] != (self.where == "systematic")] = 0.0
        return out

    def describe(self, moves_predictor: Callable[[str], bool] = lambda name: False) -> list[str]:
        """One line of the printed model for each shifted variable.

        moves_predictor: whether the shift of a variable applies to its linear predictor.
        """
        here = {
            "missing": "",
            "systematic": " where never observed",
            "sporadic": " in clusters with some observed",
        }
        return [
            f"shift of {name}: {self._words(number)}"
            + " on its linear predictor" * moves_predictor(name)
            + here[self.where]
            for name, number in self.by.items()
            if _moves(number)
        ]

    def _words(self, number: Any) -> str:
        if self.group is None:
            return _number_words(number)
        of = [f"{_number_words(n)} where {self.group} is {value}" for value, n in number.items() if _moves(n)]
        more = f" and {len(of) - 5} more" if len(of) > 5 else ""
        return ", ".join(of[:5]) + more

    def checked(self, known: Sequence[str], data: IncompleteData | None = None) -> Shift:
        """This shift, if every variable is imputed by the model and every number is finite.

        Parameters
        ----------
        known
            Variables that the model imputes.
        data
            The model's table, against which groups and levels are checked.

        Raises
        ------
        SpecificationError
        """
        if self.where not in WHERE:
            raise SpecificationError(
                f"shift: where = {self.where!r}; possible: {', '.join(map(repr, WHERE))}."
            )
        for name, number in self.by.items():
            if name not in known:
                raise SpecificationError(
                    f"shift: the model does not impute '{name}'; it imputes {', '.join(map(repr, known))}."
                )
            if self.group is not None and not isinstance(number, Mapping):
                raise SpecificationError(
                    f"shift of '{name}' by '{self.group}': give a number for each value that is shifted, "
                    f"{{value: number}}, not {number!r}."
                )
            levels = data.levels(name) if data is not None and _by_level(name, data) else None
            for one in number.values() if self.group is not None else [number]:
                _check_number(name, one, levels, data is not None)
        if self.group is not None and data is not None:
            column = _column(self.group, data)
            for number in self.by.values():
                for value in number:
                    _known(value, column, self.group)
        return self

    def to_record(self) -> dict[str, Any]:
        """The record stored in files; `from_record` reverses it."""
        if self.group is None and self.where == "missing" and not any(map(_is_mapping, self.by.values())):
            return {name: float(number) for name, number in self.by.items()}
        return {
            "by": {name: _pairs(n) for name, n in self.by.items()},
            "group": self.group,
            "where": self.where,
        }

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Shift:
        """The shift in a record; a record of plain numbers is read as variable -> number."""
        if not isinstance(record.get("by"), Mapping):
            return cls(dict(record))
        by = {name: _unpaired(number) for name, number in record["by"].items()}
        return cls(by, record["group"], record["where"])


def _is_mapping(number: Any) -> bool:
    return isinstance(number, Mapping)


def _moves(number: Any) -> bool:
    return any(map(_moves, number.values())) if isinstance(number, Mapping) else bool(number)


def _by_level(name: str, data: IncompleteData) -> bool:
    return data.variable(name).distribution.predictor_per_level


def _predictors(number: Any, levels: tuple | None) -> Any:
    """A number, or (K - 1,) for levels 1..K-1 against the first."""
    if not isinstance(number, Mapping):
        return float(number)
    assert levels is not None
    of = [
        float(number.get(_known(level, np.array(list(number), dtype=object), strict=False), 0.0))
        for level in levels
    ]
    return np.array(of[1:]) - of[0]


def _column(group: str, data: IncompleteData) -> NDArray[Any]:
    """The values of a complete column, (n,) object.

    Raises
    ------
    SpecificationError
        There is no such column, or it has missing values.
    """
    if group == data.cluster:
        return np.asarray(data.clusters, dtype=object)[data.codes]
    if group not in data.frame.columns:
        raise SpecificationError(
            f"shift by '{group}': the table has no such column. {suggestion(group, list(data.frame.columns))}"
        )
    column = data.frame[group]
    if column.isna().any():
        raise SpecificationError(
            f"shift by '{group}': it is missing in {int(column.isna().sum())} rows. Groups need a complete column."
        )
    return column.to_numpy(dtype=object)


def _known(value: Any, column: NDArray[Any], group: str = "", strict: bool = True) -> Any:
    """The column's entry that `value` means, even if given as text; `value` itself if there is none."""
    present = dict.fromkeys(column.tolist())
    if value in present:
        return value
    as_text = {str(one): one for one in present}
    if str(value) in as_text:
        return as_text[str(value)]
    if group and strict:
        raise SpecificationError(
            f"shift by '{group}': no row has {value!r}. {suggestion(str(value), list(as_text))}"
        )
    return value


def _check_number(name: str, number: Any, levels: tuple | None, is_checked: bool) -> None:
    if isinstance(number, Mapping):
        if levels is None and is_checked:
            raise SpecificationError(
                f"shift of '{name}': give one number; a number for each level is for categorical variables only."
            )
        known = [str(level) for level in levels or ()]
        for level, one in number.items():
            if is_checked and str(level) not in known:
                raise SpecificationError(
                    f"shift of '{name}': {level!r} is not one of its levels. {suggestion(str(level), known)}"
                )
            _check_number(name, one, None, False)
        return
    try:
        finite = abs(float(number)) < float("inf")
    except (TypeError, ValueError):
        finite = False
    if not finite:
        raise SpecificationError(f"shift of '{name}': give a finite number, not {number!r}.")


def _number_words(number: Any) -> str:
    if isinstance(number, Mapping):
        return "(" + ", ".join(f"{level}: {float(one):+g}" for level, one in number.items()) + ")"
    return f"{float(number):+g}"


def _pairs(number: Any) -> Any:
    """Mappings as lists of pairs, which preserve the types of groups in files."""
    if not isinstance(number, Mapping):
        return float(number)
    return [[getattr(key, "item", lambda key=key: key)(), _pairs(one)] for key, one in number.items()]


def _unpaired(number: Any) -> Any:
    return {key: _unpaired(one) for key, one in number} if isinstance(number, list) else float(number)
