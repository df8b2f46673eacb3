"""`extend_until`: continue a run until its chains have mixed and the user's pooled numbers are precise enough.

A run has two sizes, the number of imputations m and of draws per chain (cycles of chained equations). Joint models grow
by `extend`, which increases both; chained equations by `iterate` (more cycles) or `extend` (more imputations). What is
lacking determines which, and by how much:

    not mixed                      twice as many draws
    ESS below its target           MORE target / ESS times as many draws
    Monte Carlo error too large    the imputations that `bayesimp.analysis.monte_carlo.enough_imputations` requires

No step more than doubles the run, because what is lacking is estimated from the run so far.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from bayesimp.errors import PACKAGE, SamplingError, SpecificationError, StatisticalWarning
from bayesimp.events import Event

if TYPE_CHECKING:
    from bayesimp.analysis.fits import Fits
    from bayesimp.imputation.result import Imputations

__all__ = ["Short", "Target", "extend_until"]

EXTENDED, MISSED, DEPENDENT = "extended", "target not reached", "dependent imputations"
STEP = 2.0  # largest factor by which a run grows in one step
LEAST = 0.05  # smallest share of a run that a step adds
# a correlation between successive imputations is reported if it exceeds this many standard errors
DEPENDENCE = 3.0


@dataclass(frozen=True)
class Target:
    """What a run should reach; None means no requirement of that kind.

    Attributes
    ----------
    ess
        Smallest effective sample size of parameters and imputed means and sds; the chains must have mixed in any case.
    analysis
        As for `bayesimp.analysis.fit_each`.
    mc_error
        Largest Monte Carlo error of a pooled estimate, in its standard errors.
    cv
        Largest coefficient of variation of a pooled standard error.
    pooled
        Function from fits to `Pooled`: contrasts, components; by default the coefficients.
    options
        Options of the analysis.
    """

    ess: float | None = None
    analysis: Any = None
    mc_error: float | None = None
    cv: float | None = None
    pooled: Callable[[Fits], Any] | None = None
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Short:
    """What a run lacks: the factor of draws, the number of imputations, and why, in words; `notes`: further events."""

    draws: float
    m: int
    words: tuple[str, ...]
    notes: tuple[Event, ...] = ()

    @property
    def nothing(self) -> bool:
        """Whether the target is reached."""
        return not self.words


def extend_until(
    imputations: Imputations, target: Target, seconds: float | None, longest: float, progress: bool | None
) -> Imputations:
    """See `Imputations.extend_until`."""
    _check(target, seconds, longest)
    imputations.chains_to_continue()
    began, first, rate, steps = time.perf_counter(), imputations, _rate(imputations), 0
    now, stopped = imputations, ""
    short = _short(now, target)
    while not short.nothing and not stopped:
        left = None if seconds is None else seconds - (time.perf_counter() - began)
        m, draws = _next(now, short, longest * _size(first), None if left is None else max(left, 0) / rate)
        if (m, draws) == (0, 0):
            stopped = (
                f"longest = {longest:g}"
                if left is None or left / rate > LEAST * _size(now)
                else f"seconds = {seconds:g}"
            )
            break
        start, before = time.perf_counter(), now
        try:
            now = now.iterate(draws, progress=progress) if draws else now.extend(m, progress=progress)
        except SamplingError as error:
            stopped = str(error)
            break
        steps += 1
        rate = (time.perf_counter() - start) / max(_size(now) - _size(before), 1)
        if _interruptions(now) > _interruptions(before):
            stopped = "interrupted"
        short = _short(now, target)
    return now.with_events(_events(first, now, short, steps, time.perf_counter() - began, stopped))


def _check(target: Target, seconds: float | None, longest: float) -> None:
    if target.analysis is None and (target.mc_error, target.cv, target.pooled) != (None, None, None):
        raise SpecificationError(
            "extend_until: mc_error=, cv= and pooled= are about pooled numbers; give analysis= as well, such as "
            "analysis='y ~ x + (1 | cluster)'."
        )
    given = {"ess": target.ess, "mc_error": target.mc_error, "cv": target.cv, "seconds": seconds}
    for name, value in given.items():
        if value is not None and not value > 0:
            raise SpecificationError(f"extend_until: {name} = {value!r}; give a number above 0.")
    if not longest > 1:
        raise SpecificationError(
            f"extend_until: longest = {longest!r} must exceed 1; it is the factor by which the run may grow."
        )


def _short(imputations: Imputations, target: Target) -> Short:
    """What the run lacks to reach the target."""
    from bayesimp.diagnostics.convergence import JUDGED, MORE, summarise

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", StatisticalWarning)
        summary = summarise(imputations)
        draws, words = 1.0, []
        if not summary.judged:
            draws, words = (
                STEP,
                [f"{summary.draws} draws in each chain are too few to judge by ({JUDGED} at least)"],
            )
        elif not summary.mixes:
            worst = summary.worst
            draws = STEP
            words = [f"R-hat {worst['r_hat']:.3f} of {worst.name} (limit {worst['r_hat_limit']:.3f})"]
        elif target.ess is not None and summary.smallest_ess < target.ess:
            draws = MORE * target.ess / summary.smallest_ess
            words = [f"smallest ESS {summary.smallest_ess:.0f} (target {target.ess:g})"]
        if (
            target.analysis is None or words
        ):  # imputations from chains that have not mixed say little about their errors
            return Short(draws, imputations.m, tuple(words))
        return _pooled_short(imputations, target)


def _pooled_short(imputations: Imputations, target: Target) -> Short:
    """What pooled numbers lack if the chains lack nothing."""
    from bayesimp.analysis.fits import Fits

    fits = imputations.analyse(target.analysis, **target.options)
    pooled = (target.pooled or Fits.pool)(fits)
    share = target.mc_error or (0.1 if target.cv is None else np.inf)
    needed = pooled.imputations_needed(share=share, cv=target.cv or np.inf)
    if needed["mc.error"].isna().all():
        raise SpecificationError(
            "extend_until: the pooled result has no Monte Carlo errors (no standard errors); use another scale for its "
            "variance components, or pooled= that gives numbers with standard errors."
        )
    words = []
    worst = needed["mc.share"].idxmax()
    if needed["mc.share"].max() > share:
        words.append(
            f"Monte Carlo error of {worst} {needed['mc.share'].max():.3g} of its std.error (target {share:g})"
        )
    if target.cv is not None and needed["for.std.error"].max() > imputations.m:
        term = needed["for.std.error"].idxmax()
        words.append(
            f"the std.error of {term} needs {needed['for.std.error'].max():.0f} imputations (cv {target.cv:g}), but "
            f"there are {imputations.m}"
        )
    m = int(needed["needed"].max()) if words else imputations.m
    return Short(
        1.0, max(m, imputations.m + 1) if words else m, tuple(words), _dependent(imputations, pooled)
    )


def _dependent(imputations: Imputations, pooled: Any) -> tuple[Event, ...]:
    """An event if successive imputations of a chain are correlated, because Monte Carlo errors assume they are not."""
    chains = int(imputations.attrs.get("chains", imputations.m))
    if pooled.replicates is None or imputations.m < 3 * chains:
        return ()
    Q = pooled.replicates[0]
    d = Q - Q.mean(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        r = (d[:-chains] * d[chains:]).mean(axis=0) / (d**2).mean(axis=0)
    r = np.nan_to_num(r)
    if not r.max() * np.sqrt(len(Q) - chains) > DEPENDENCE:
        return ()
    term = pooled.terms[int(np.argmax(r))]
    times = np.sqrt((1 + r.max()) / max(1 - r.max(), 1e-3))
    text = (
        f"successive imputations of a chain are correlated ({r.max():.2f}), so Monte Carlo errors are about "
        f"{times:.1f} times as large as stated; impute with more draws between imputations (draws=)"
    )
    return (Event(DEPENDENT, term, text),)


def _next(now: Imputations, short: Short, most: float, affordable: float | None) -> tuple[int, int]:
    """(imputations, cycles) to add, one of them 0; both are 0 if a limit leaves too little room."""
    size = _size(now)
    room = min(most, STEP * size, *(() if affordable is None else (size + affordable,))) / size
    if room < 1 + LEAST:
        return 0, 0
    if now.chained and short.draws > 1:
        draws = int(now.attrs["draws"])
        draws -= int(now.attrs["tune"]) if draws > int(now.attrs["tune"]) else 0  # all added draws are kept
        return 0, max(int(draws * (min(short.draws, room) - 1)), 1)
    wanted = max(short.draws, short.m / now.m)
    chains = 1 if now.chained else int(now.attrs["chains"])
    more = int(np.ceil(now.m * (min(wanted, room) - 1)))
    return max(
        -(-more // chains) * chains, 1
    ), 0  # whole rounds, so that each chain gives as many imputations


def _size(imputations: Imputations) -> int:
    """Draws of all chains."""
    return int(imputations.attrs["chains"]) * int(imputations.attrs["draws"])


def _rate(imputations: Imputations) -> float:
    """Seconds per draw of one chain in the run so far."""
    return max(float(imputations.attrs.get("seconds", 0.0)), 1e-3) / _size(imputations)


def _interruptions(imputations: Imputations) -> int:
    return sum(event.kind == "interrupted" for event in imputations.log)


def _events(
    first: Imputations, last: Imputations, short: Short, steps: int, seconds: float, stopped: str
) -> list[Event]:
    """Events for what was done, now and in earlier calls, and for what is still lacking."""
    known = set(last.log)
    out = [event for event in first.log if event.kind == EXTENDED and event not in known]
    out += [event for event in short.notes if event not in known]
    if steps:
        text = (
            f"from {first.m} to {last.m} imputations and from {first.attrs['draws']:,} to {last.attrs['draws']:,} "
            f"draws of each of {last.attrs['chains']} chains, in {steps} step{'' if steps == 1 else 's'} and "
            f"{seconds:.1f} s"
        )
        out.append(Event(EXTENDED, "extend_until", text))
    if not short.nothing:
        text = (
            f"{'; '.join(short.words)}. Stopped: {stopped}. Calling extend_until again continues from here; if the "
            "chains do not mix, inspect the trace (plot_trace, az.plot_rank(imp.tree)) and the model first"
        )
        out.append(Event(MISSED, "extend_until", text))
        warnings.warn(
            f"extend_until: target not reached: {text}.", StatisticalWarning, skip_file_prefixes=PACKAGE
        )
    return out
