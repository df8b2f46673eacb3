"""What moves in a not-at-random analysis, and in which units: axes, and the scenarios that combine them.

An axis is one number that is varied: the delta of a variable, in all rows, in one group of rows, or for one level. With
link g, a value v of the axis is the shift

    unit "link"     delta = v
    unit "sd"       delta = v s         s: standard deviation of the observed values; identity link
    unit "ratio"    delta = log v       odds ratio (logit) or ratio of means (log)
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np

from bayesimp.arguments import chosen, number
from bayesimp.contract import ImputationModel
from bayesimp.errors import SpecificationError
from bayesimp.layout import Record
from bayesimp.shift import Shift
from bayesimp.table.incomplete import IncompleteData

__all__ = ["AT_RANDOM", "Axis", "DeltaScenario", "read_axes", "scenario_name", "scenarios"]

UNITS = ("link", "sd", "ratio")
COMBINE = ("product", "together", "one at a time")
AT_RANDOM = "at random"
MOST = 200  # scenarios
RATIOS = {"logit": "odds", "log": "mean"}  # what exp(delta) multiplies


@dataclass(frozen=True)
class Axis(Record):
    """One delta that is varied.

    Attributes
    ----------
    variable, group, level
        What moves: a variable, in the rows with this value of the grouping column, for this level; None: all.
    label
        Name of the axis in tables and figures.
    values
        Numbers in `unit`, as given, with the neutral one; a single number is a shift in all scenarios except the first.
    unit, link
        See above; links as in `bayesimp.contract.ImputationModel.shift_link`.
    sd
        Standard deviation of the observed values; nan if they are levels.
    """

    variable: str
    group: Any
    level: Any
    label: str
    values: tuple[float, ...]
    unit: str
    link: str
    sd: float

    @property
    def neutral(self) -> float:
        """The value that shifts nothing."""
        return 1.0 if self.unit == "ratio" else 0.0

    @property
    def base(self) -> float:
        """The value of this axis while other axes move."""
        return self.neutral if len(self.values) > 1 else self.values[0]

    def shift(self, value: float) -> float:
        """The value on the scale of the link."""
        if self.unit == "sd":
            return value * self.sd
        return float(np.log(value)) if self.unit == "ratio" else value

    def value(self, shift: float) -> float:
        """Convert a number on the scale of the link to the axis's unit."""
        if self.unit == "sd":
            return shift / self.sd
        return float(np.exp(shift)) if self.unit == "ratio" else shift

    def words(self, shift: float) -> str:
        """A shift and its meaning: ``"-3.1 (0.40 sd of the observed values)"``, ``"-0.5 (odds x 0.61)"``."""
        if self.link in RATIOS:
            return f"{shift:+.3g} ({RATIOS[self.link]} x {np.exp(shift):.3g})"
        if self.link == "probit":
            return f"{shift:+.3g} (sd of the latent normal)"
        if self.link == "utility":
            return f"{shift:+.3g} (latent utility)"
        if np.isfinite(self.sd) and self.sd > 0:
            matched = ", before matching" if self.link == "matching" else ""
            return f"{shift:+.3g} ({abs(shift) / self.sd:.2f} sd of the observed values{matched})"
        return f"{shift:+.3g}"


@dataclass(frozen=True)
class DeltaScenario(Record):
    """One assumption: a value of every axis, in its unit. The name says which are not neutral."""

    name: str
    values: tuple[float, ...]

    def shift(self, axes: Sequence[Axis], by: str | None, where: Any) -> Shift:
        """The shift for the imputation model."""
        numbers: dict[str, Any] = {}
        for axis, value in zip(axes, self.values, strict=True):
            keys = [
                key
                for key in ((axis.group,) if by else ()) + ((axis.level,) if axis.level is not None else ())
            ]
            place, last = numbers, axis.variable
            for key in keys:
                place, last = place.setdefault(last, {}), key
            place[last] = axis.shift(value)
        return Shift(numbers, by, where)


def read_axes(
    model: ImputationModel,
    delta: Mapping[str, Any],
    by: str | None,
    where: str,
    unit: str | Mapping[str, str],
) -> tuple[Axis, ...]:
    """The axes of ``delta``.

    Raises
    ------
    SpecificationError
        If the model does not impute a variable, there is nothing to shift, or a number is impossible in its unit.
    """
    if not isinstance(delta, Mapping) or not delta:
        raise SpecificationError(
            f"delta must name what to shift, {{'variable': [0, -2, -4]}}, not {delta!r}."
        )
    axes = []
    for name, given in delta.items():
        if name not in model.responses:
            raise SpecificationError(
                f"delta: the model does not impute {name!r}; it imputes {', '.join(map(repr, model.responses))}."
            )
        own = chosen(
            unit.get(name, "link") if isinstance(unit, Mapping) else unit, f"unit of '{name}'", UNITS
        )
        for group, level, values in _leaves(model, name, given, by, where):
            axes.append(_axis(model, name, group, level, values, own, by))
    if isinstance(unit, Mapping) and (unknown := [name for name in unit if name not in delta]):
        raise SpecificationError(f"unit: {unknown[0]!r} is not in delta.")
    return tuple(axes)


def _leaves(
    model: ImputationModel, name: str, given: Any, by: str | None, where: str
) -> list[tuple[Any, Any, Any]]:
    """(group, level, values) for every axis of a variable."""
    data = model.masked
    groups: Mapping[Any, Any] = {None: given}
    if by is not None:
        there = _groups(name, data, by, where)
        groups = given if isinstance(given, Mapping) else dict.fromkeys(there, given)
        as_text = {str(group): group for group in there}
        for group in groups:
            if str(group) not in as_text:
                raise SpecificationError(
                    f"delta of '{name}' by '{by}': nothing is imputed where '{by}' is {group!r}; possible: "
                    f"{', '.join(map(repr, list(as_text.values())[:12]))}."
                )
        groups = {as_text[str(group)]: values for group, values in groups.items()}
    elif not _moving(name, data, where).any():
        raise SpecificationError(
            f"delta of '{name}': there are no missing values with where = {where!r}, so nothing to shift."
        )
    return [
        (group, level, leaf)
        for group, values in groups.items()
        for level, leaf in (values.items() if isinstance(values, Mapping) else [(None, values)])
    ]


def _moving(name: str, data: IncompleteData, where: str) -> np.ndarray:
    """(n,) which missing values of a variable `where` selects."""
    missing = data.missing(name)
    never = (np.bincount(data.codes, ~missing, minlength=len(data.clusters)) == 0)[data.codes]
    return missing & {"missing": np.ones(len(missing), bool), "systematic": never, "sporadic": ~never}[where]


def _groups(name: str, data: IncompleteData, by: str, where: str) -> list[Any]:
    """The sorted values of the grouping column in rows where something moves."""
    Shift({}, by).checked([], data)
    column = data.clusters[data.codes] if by == data.cluster else data.frame[by]
    return sorted(set(np.asarray(column, dtype=object)[_moving(name, data, where)]), key=str)


def _axis(
    model: ImputationModel, name: str, group: Any, level: Any, values: Any, unit: str, by: str | None
) -> Axis:
    link, data = model.shift_link(name), model.data
    what = f"delta of '{name}'"
    listed = isinstance(values, Iterable) and not isinstance(values, str)
    numbers = [number(value, what) for value in values] if listed else [number(values, what)]
    seen = data.numeric(name)
    sd = (
        float(np.nanstd(seen, ddof=1))
        if link in ("identity", "matching") and np.isfinite(seen).sum() > 1
        else np.nan
    )
    if unit == "sd" and not sd > 0:
        raise SpecificationError(
            f"unit of '{name}': 'sd' needs numbers that vary and an identity link; here it is '{link}'. Take 'link'"
            + (" or 'ratio'." if link in RATIOS else ".")
        )
    if unit == "ratio" and link not in RATIOS:
        raise SpecificationError(f"unit of '{name}': 'ratio' needs a logit or log link; here it is '{link}'.")
    if unit == "ratio" and min(numbers) <= 0:
        raise SpecificationError(f"{what}: a ratio is a positive number, 1 for none, not {min(numbers):g}.")
    if listed and not numbers:
        raise SpecificationError(f"{what}: the list is empty; give numbers such as [0, -2, -4].")
    if listed:
        neutral = 1.0 if unit == "ratio" else 0.0
        numbers = list(dict.fromkeys(numbers if neutral in numbers else [neutral, *numbers]))
    label = (
        name + (f" = {level}" if level is not None else "") + (f", {by} {group}" if by is not None else "")
    )
    return Axis(name, group, level, label, tuple(numbers), unit, link, sd)


def scenarios(axes: Sequence[Axis], combine: str) -> tuple[DeltaScenario, ...]:
    """Scenarios: values missing at random first, then the combinations of the axes.

    Raises
    ------
    SpecificationError
        If there are more than 200, or axes that move together have different lengths.
    """
    chosen(combine, "combine", COMBINE)
    base = tuple(axis.base for axis in axes)
    if combine == "together":
        moving = [axis for axis in axes if len(axis.values) > 1]
        if len({len(axis.values) for axis in moving}) > 1:
            raise SpecificationError(
                "combine = 'together': every delta needs the same number of values, including 0 (1 for a ratio): "
                + ", ".join(f"'{axis.label}' has {len(axis.values)}" for axis in moving)
            )
        length = len(moving[0].values) if moving else 1
        rows = list(zip(*(axis.values * (length // len(axis.values)) for axis in axes), strict=True))
    elif combine == "product":
        if (count := int(np.prod([float(len(axis.values)) for axis in axes]))) > MOST:
            raise SpecificationError(
                f"delta: {len(axes)} deltas have {count:,} combinations, more than {MOST}. Take "
                "combine = 'one at a time' or 'together', give fewer numbers, or name the groups that matter."
            )
        rows = list(product(*(axis.values for axis in axes)))
    else:
        rows = [(*base[:k], value, *base[k + 1 :]) for k, axis in enumerate(axes) for value in axis.values]
    neutral = tuple(axis.neutral for axis in axes)
    made = dict.fromkeys([neutral, *rows])
    if len(made) > MOST:
        raise SpecificationError(f"delta: {len(made):,} scenarios are more than {MOST}; give fewer numbers.")
    return tuple(DeltaScenario(scenario_name(axes, row), row) for row in made)


def scenario_name(axes: Sequence[Axis], values: Sequence[float]) -> str:
    """``"bsi -2; gose, arm drug x 0.5"``; ``"at random"`` where nothing is shifted."""
    signs = {"link": "{:+g}", "sd": "{:+g} sd", "ratio": "x {:g}"}
    parts = [
        f"{axis.label} {signs[axis.unit].format(value)}"
        for axis, value in zip(axes, values, strict=True)
        if value != axis.neutral
    ]
    return "; ".join(parts) or AT_RANDOM
