"""Why a value is missing: logits of rows or clusters, and the intercept with which the expected share is as requested.

    P(missing) = 1 / (1 + exp(-(a + s'z)))     z: drivers, standardised; s: strengths, log odds ratios of one sd

a solves mean P(missing) = share over the rows or clusters concerned. Probabilities are never clipped.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import expit, logit

from bayesimp.errors import DataError, SpecificationError
from bayesimp.formulas.syntax import Name, read
from bayesimp.layout import Record
from bayesimp.messages import listing, suggestion

__all__ = ["Sporadic", "Systematic", "driver_names", "drivers", "intercept", "mechanism", "read_strengths"]

Array = NDArray[np.float64]
Strengths = Mapping[str, float | Mapping[Any, float]]
OF_CLUSTERS = re.compile(r"(within|cluster_mean)\((.+)\)")
QUOTED = re.compile(r"`.+`", re.DOTALL)  # a name written as in formulas


@dataclass(frozen=True)
class Sporadic(Record):
    """Values missing in individual rows.

    Parameters
    ----------
    share
        Expected share of the rows in clusters that have the variable, in (0, 1).
    on
        Driver -> strength: ``{"y": 0.7}``, the log odds ratio of one standard deviation of y;
        ``"within(y)"`` and ``"cluster_mean(y)"`` are y minus its mean in the cluster, and that mean. A column that is not
        numeric needs a strength for each level named: ``{"sex": {"male": 0.5}}``. Names may be written in backticks, as
        in formulas. Empty: completely at random.
    unit
        ``"sd"``, or ``"raw"``: strengths refer to one unit of the driver.
    at
        ``"rows"``: ``share`` is exactly the mean of the probabilities. ``"mean"``: ``share`` is the probability in a row
        with all drivers at their mean, as in Jolani (2025), and the expected share differs.
    between
        Standard deviation of a normal cluster effect on the logit, by which clusters differ in missingness. ``share`` is
        the expectation given the drawn effects.
    """

    share: float
    on: Strengths = field(default_factory=dict)
    unit: Literal["sd", "raw"] = "sd"
    at: Literal["rows", "mean"] = "rows"
    between: float = 0.0

    def __post_init__(self) -> None:
        check_share(self.share, "Sporadic")
        if self.unit not in ("sd", "raw") or self.at not in ("rows", "mean") or not self.between >= 0:
            raise SpecificationError(
                f"Sporadic: unit is 'sd' or 'raw', at is 'rows' or 'mean', between is at least 0; got {self.unit!r}, "
                f"{self.at!r}, {self.between!r}."
            )


@dataclass(frozen=True)
class Systematic(Record):
    """A variable that is missing in whole clusters.

    Parameters
    ----------
    share
        Expected share of the clusters, in (0, 1). If share times clusters is not a whole number, the number of clusters
        is one of the two nearest whole numbers, with probabilities that make the expectation exact.
    count
        Number of clusters, instead of ``share``.
    clusters
        Labels of the clusters, instead of both.
    on
        Driver -> strength, for cluster means of columns or ``"cluster_size()"``; see `Sporadic`. Clusters are drawn with
        exactly these probabilities, by systematic sampling from a random order (Madow 1949).
    """

    share: float | None = None
    count: int | None = None
    clusters: tuple[Any, ...] | None = None
    on: Strengths = field(default_factory=dict)

    def __post_init__(self) -> None:
        given = [x for x in (self.share, self.count, self.clusters) if x is not None]
        if len(given) != 1:
            raise SpecificationError("Systematic: give one of share, count and clusters.")
        if self.share is not None:
            check_share(self.share, "Systematic")
        if self.count is not None and (self.count != int(self.count) or self.count < 0):
            raise SpecificationError(
                f"Systematic: count must be a whole number of clusters, got {self.count!r}."
            )
        if self.clusters is not None:
            object.__setattr__(self, "clusters", tuple(self.clusters))
            if self.on:
                raise SpecificationError("Systematic: named clusters cannot depend on drivers; omit on.")


def check_share(share: float, what: str) -> None:
    """Refuse a share that is not between 0 and 1."""
    if not 0 < share < 1:
        raise SpecificationError(f"{what}: share must be between 0 and 1, got {share!r}.")


def intercept(share: float, slopes: Array) -> float:
    """The number a with mean(expit(a + slopes)) = share, up to rounding error.

    The mean grows with a from 0 to 1, and a lies between logit(share) minus the largest and minus the smallest slope.
    """
    low, high = logit(share) - slopes.max(), logit(share) - slopes.min()
    if low == high:
        return float(low)
    return float(brentq(lambda a: expit(a + slopes).mean() - share, low, high, xtol=1e-13, rtol=1e-14))


def read_strengths(on: Strengths, frame: pd.DataFrame, name: str) -> dict[str, float | Mapping[Any, float]]:
    """The drivers of variable `name`, checked."""
    if not isinstance(on, Mapping):
        raise SpecificationError(
            f"'{name}': on is a mapping from driver to strength, such as {{'y': 0.7}}; got {on!r}."
        )
    for driver, column in zip(on, driver_names(on), strict=True):
        if column is not None and column not in frame.columns:
            raise SpecificationError(
                f"'{name}': there is no column {column!r} for driver {driver!r}. "
                f"{suggestion(column, list(frame.columns))}"
            )
    return dict(on)


def driver_names(on: Strengths) -> list[str | None]:
    """The column of each driver, None for the size of clusters."""
    names: list[str | None] = []
    for driver in on:
        match = OF_CLUSTERS.fullmatch(driver)
        name = match[2] if match else None if driver == "cluster_size()" else driver
        names.append(name if name is None or not QUOTED.fullmatch(name) else _unquoted(name))
    return names


def _unquoted(name: str) -> str:
    """The column of a name in backticks."""
    node = read(name)
    return node.name if isinstance(node, Name) else name


def mechanism(name: str, on: Strengths, holed: set[str]) -> str:
    """MCAR without drivers; MAR if all drivers stay complete; MNAR if one may be missing where it matters."""
    if not any(np.any(list(s.values()) if isinstance(s, Mapping) else s) for s in on.values()):
        return "MCAR"
    return "MNAR" if any(column in holed | {name} for column in driver_names(on)) else "MAR"


def drivers(
    on: Strengths, frame: pd.DataFrame, codes: NDArray[np.integer], unit: str, by_cluster: bool
) -> Array:
    """s'z, (N,) for every row or (m,) for every cluster, from means over its rows."""
    m = int(codes.max()) + 1
    sizes = np.bincount(codes, minlength=m)
    total = np.zeros(m if by_cluster else len(frame))
    for (driver, strength), column in zip(on.items(), driver_names(on), strict=True):
        if column is None:
            z = sizes.astype(float) if by_cluster else sizes[codes].astype(float)
            total += _scaled(z, _number(driver, strength), unit, driver)
            continue
        for values, slope in _columns(frame[column], strength, driver):
            mean = np.bincount(codes, values, minlength=m) / sizes
            if by_cluster:
                z = mean
            elif driver.startswith("within("):
                z = values - mean[codes]
            else:
                z = mean[codes] if driver.startswith("cluster_mean(") else values
            total += _scaled(z, slope, unit, driver)
    return total


def _number(driver: str, strength: Any) -> float:
    if isinstance(strength, Mapping):
        raise SpecificationError(f"driver {driver!r} is a number: give one strength, not one for each level.")
    return float(strength)


def _columns(column: pd.Series, strength: Any, driver: str) -> list[tuple[Array, float]]:
    """The column as numbers with its strength, or one indicator for each level named."""
    if isinstance(strength, Mapping):
        absent = [level for level in strength if not (column == level).any()]
        if absent:
            raise SpecificationError(
                f"driver {driver!r}: the column has no value {absent[0]!r}; it has {listing(column.unique())}."
            )
        return [((column == level).to_numpy(float), float(slope)) for level, slope in strength.items()]
    dtype = column.dtype
    if isinstance(dtype, pd.CategoricalDtype) and dtype.ordered:
        return [(column.cat.codes.to_numpy(float), float(strength))]
    if not (pd.api.types.is_numeric_dtype(dtype) or pd.api.types.is_datetime64_any_dtype(dtype)):
        raise SpecificationError(
            f"driver {driver!r} is not a number: give a strength for each level, such as "
            f"{{{driver!r}: {{{column.iloc[0]!r}: 0.5}}}}."
        )
    if pd.api.types.is_datetime64_any_dtype(dtype):
        return [((column - column.min()).dt.total_seconds().to_numpy(float), float(strength))]
    return [(column.to_numpy(float), float(strength))]


def _scaled(z: Array, slope: float, unit: str, driver: str) -> Array:
    """The slope times z minus its mean, in standard deviations if requested."""
    deviation = z - z.mean()
    sd = deviation.std()
    if sd == 0 and slope != 0:
        raise DataError(f"driver {driver!r} does not vary, so nothing can depend on it.")
    return slope * deviation / (sd if unit == "sd" and sd > 0 else 1.0)
