"""Events found in the imputed values, whatever the engine.

dtype changed        a completed column has a different type from the table's
whole numbers        a short scale, or two values, imputed as continuous
rounded              positive values so small that they are round-off relative to the mean
impossible values    negative values of a variable that is never negative where it is observed
outside the range    a share of imputed values beyond the smallest or largest observed one that chance does not explain
far outside          many standard deviations outside the observed values, most often if variables drive each other
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from bayesimp.events import Event
from bayesimp.families.record import Family
from bayesimp.imputation.result import Imputations
from bayesimp.messages import listing

__all__ = ["far_outside", "imputed_events"]

FEW_VALUES = 12  # most distinct values of what may be a count or short scale
FAR = 5.0  # sds beyond the smallest or largest observed value; for a normal variable, over 7 from its mean
OUTSIDE = 0.2  # share of imputed values outside the observed range
CHANCE = 5.0  # times the share 2 / (n + 1) of a value that has the distribution of the n observed ones
ROUND_OFF = 4 * np.finfo(float).eps  # share of the mean below which a positive value is mostly round-off
FUNCTIONS = {"log1p": np.log1p, "log": np.log}
BEYOND_LIMITS = (
    "Values beyond a limit of detection have the tail of a normal distribution; take logarithms of values and limits "
    "if the observed ones are skewed"
)


def look_at(name: str, others: Sequence[str]) -> str:
    """Advice for a variable whose values have run away, if nothing is known about the model."""
    return "Inspect the trace, rows with extreme covariates, and what depends on the prior"


def imputed_events(
    imputations: Imputations,
    exact: Collection[str] = (),
    cure: Callable[[str, Sequence[str]], str] = look_at,
) -> list[Event]:
    """Events of all imputed columns.

    Parameters
    ----------
    imputations
        Completed tables of any engine.
    exact
        Variables whose imputed values are always possible ones.
    cure
        ``cure(name, others)``: advice for a variable with values far outside the observed ones; others: all such
        variables.
    """
    data, events = imputations.data, []
    completed = imputations.frame(0).dtypes if imputations.m else {}
    far = []
    for name in imputations.imputed_columns:
        if name not in data.families:  # created by the imputation
            continue
        old, new = data.frame[name].dtype, completed[name]
        if old != new:
            text = f"{old} in the table; imputed as {data.families[name]}, it is {new} in completed tables"
            events.append(Event("dtype changed", name, text))
        family = data.variable(name).distribution
        if family.is_coded:
            continue
        known = data.learnt_from
        seen, drawn = known.numeric(name)[~known.missing(name)], imputations.values(name)
        if not len(seen) or not drawn.size:
            continue
        if family.is_normal and name not in exact:
            events += [*_few_values(name, seen), *_negative(name, seen, drawn)]
        if family.support.is_positive:
            events += _rounded(name, family, seen, drawn)
        if name not in exact or family.as_predictor:
            found = _far(name, family, seen, drawn)
            far += found
            events += [] if found else _beyond(name, seen, drawn)
    others = [event.where for event in far]

    def advice(name: str) -> str:
        limited = name in data.families and data.variable(name).distribution.is_censored
        return BEYOND_LIMITS if limited else cure(name, others)

    return events + [replace(event, message=f"{event.message}. {advice(event.where)}") for event in far]


def _few_values(name: str, seen: NDArray[np.float64]) -> list[Event]:
    values = np.unique(seen)
    if len(values) == 2:
        text = (
            f"two different values ({listing(values)}), imputed as normal, so imputed values are neither; "
            f"families={{{name!r}: 'bernoulli'}} imputes these two"
        )
        return [Event("whole numbers" if (values == np.floor(values)).all() else "two values", name, text)]
    if 2 < len(values) <= FEW_VALUES and (values == np.floor(values)).all():
        text = (
            f"{len(values)} different whole numbers, imputed as normal: imputed values lie between and beyond them, "
            f"and an analysis that uses it as a factor, C({name}), finds a level for each. Counts and short scales "
            f"are declared: families={{{name!r}: 'ordinal'}}, or 'poisson'; or methods={{{name!r}: 'pmm'}} imputes "
            "observed values only"
        )
        return [Event("whole numbers", name, text)]
    return []


def _rounded(name: str, family: Family, seen: NDArray[np.float64], drawn: NDArray[np.float64]) -> list[Event]:
    """Events for values that the loop, which stores values minus their mean, cannot distinguish from 0."""
    least = ROUND_OFF * np.abs(seen).mean()
    below = int((drawn < least).sum())
    if family.support.is_below_one:
        return _at_the_ends(name, below + int((drawn > 1 - ROUND_OFF).sum()))
    if not below:
        return []
    text = (
        f"imputed values below {least:.2g}, which is round-off relative to the observed mean: draws too small to "
        "be represented are set to the smallest positive number that can. Such a wide range often rests on one "
        "predictor, or on a shape that few values determine"
    )
    return [Event("rounded", name, text, below)]


def _at_the_ends(name: str, count: int) -> list[Event]:
    """Events for proportions that cannot be distinguished from 0 or 1."""
    if not count:
        return []
    text = (
        f"imputed values within {ROUND_OFF:.2g} of 0 or 1, which is round-off: draws too close to be represented are "
        "set to the nearest number that can. A small precision, or a cluster whose effect few values determine, "
        "puts much of a beta distribution there"
    )
    return [Event("rounded", name, text, count)]


def _negative(name: str, seen: NDArray[np.float64], drawn: NDArray[np.float64]) -> list[Event]:
    """Events for negative values if none are observed."""
    below = int((drawn < 0).sum())
    if not below or seen.min() < 0:
        return []
    share = f"{below / drawn.size:.1%}" if below >= 0.001 * drawn.size else "less than 0.1%"
    if (seen == np.floor(seen)).all():
        declared = (
            f"The observed values are whole numbers: if they are counts, declare families={{{name!r}: 'poisson'}}. If "
            "they are not counts but cannot be negative,"
        )
    elif seen.min() > 0 and seen.max() < 1:
        declared = (
            f"If it is a proportion, declare families={{{name!r}: 'beta'}}; if it only cannot be negative,"
        )
        declared += f" families={{{name!r}: 'lognormal'}} or 'gamma', or"
    else:
        declared = f"If it cannot be negative, declare families={{{name!r}: 'lognormal'}} or 'gamma'"
        declared += " (neither takes a 0), or" if seen.min() == 0 else ", or"
    text = (
        f"{share} of imputed values are negative (down to {drawn.min():.3g}), though none of the {len(seen):,} "
        f"observed ones is (the smallest is {seen.min():.3g}). {declared} in chained equations set "
        f"bounds={{{name!r}: (0, None)}} or use matching (pmm)"
    )
    return [Event("impossible values", name, text, below)]


def _beyond(name: str, seen: NDArray[np.float64], drawn: NDArray[np.float64]) -> list[Event]:
    """Events for a share of values outside the observed range that is large, and many times what chance gives."""
    below, above = float((drawn < seen.min()).mean()), float((drawn > seen.max()).mean())
    if below + above <= max(OUTSIDE, CHANCE * 2 / (len(seen) + 1)):
        return []
    text = (
        f"{below + above:.0%} of imputed values are outside the range of the {len(seen):,} observed ones "
        f"({seen.min():.4g} to {seen.max():.4g}): {below:.0%} below it, {above:.0%} above. If such values are possible, "
        "see plot_imputed(imp, kind='propensity') for how the rows with missing values differ from the others. If not, "
        f"in chained equations set bounds={{{name!r}: (lower, upper)}} or use matching (pmm)"
    )
    return [Event("outside the range", name, text, int(((drawn < seen.min()) | (drawn > seen.max())).sum()))]


def far_outside(family: Family, seen: NDArray[np.float64], drawn: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which values lie more than `FAR` sds outside the observed ones, on the scale on which they are drawn."""
    scaled, values = seen, drawn
    if family.as_predictor:
        function = FUNCTIONS[family.as_predictor]
        scaled, values = function(seen), function(np.maximum(drawn, 1e-300))
    sd = scaled.std(ddof=1) if len(scaled) > 2 else 0.0
    if not sd > 0:
        return np.zeros(drawn.shape, dtype=bool)
    return (values < scaled.min() - FAR * sd) | (values > scaled.max() + FAR * sd)


def _far(name: str, family: Family, seen: NDArray[np.float64], drawn: NDArray[np.float64]) -> list[Event]:
    """Events for values more than `FAR` sds outside the observed ones, on the scale on which they are drawn."""
    outside = far_outside(family, seen, drawn)
    if not outside.any():
        return []
    tables = int(outside.any(axis=1).sum())
    text = (
        f"{int(outside.sum()):,} of {drawn.size:,} imputed values, in {tables} of {len(drawn)} tables, lie more than "
        f"{FAR:g} standard deviations outside the observed ones ({drawn.min():.4g} to {drawn.max():.4g}; observed "
        f"{seen.min():.4g} to {seen.max():.4g})"
    )
    return [Event("far outside", name, text, int(outside.sum()))]
