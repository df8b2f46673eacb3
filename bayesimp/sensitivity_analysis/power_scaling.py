"""How parameters and pooled answers move when the prior or the likelihood counts more: `bayesimp.power_scaling`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import xarray as xr

from bayesimp import notation as nt
from bayesimp.analysis.fits import Fits
from bayesimp.analysis.named import check_options
from bayesimp.arguments import number
from bayesimp.contract import TreeRequest
from bayesimp.errors import SpecificationError, must_be
from bayesimp.events import Event, event_table
from bayesimp.imputation.result import Imputations
from bayesimp.kinds import check_keywords, checks_arguments
from bayesimp.layout import tabulated, wrapped
from bayesimp.markup import folded, framed, paragraph, table
from bayesimp.messages import listing, signed
from bayesimp.sensitivity_analysis.power import FEWEST, pareto_limit
from bayesimp.sensitivity_analysis.power_tables import (
    SOURCES,
    answers_of,
    at_powers,
    parameter_slopes,
    pooled_slopes,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["NOTABLE", "PowerScaling", "power_scaling"]

NOTABLE = 0.05  # standard errors per doubling from which a pooled number is said to move
LEAST = 5  # imputations
CONDITIONAL = (
    "The likelihood is that of observed cells given the drawn cluster effects and missing cells, so its power moves "
    "these too, and a large slope may come from them. JointNormal has the likelihood with both integrated out."
)
REFITS = (
    "Compare refits instead: bi.sensitivity(model, [priors, bi.priors.powered(priors, 0.5), "
    "bi.priors.powered(priors, 2)], analysis=...)."
)


@checks_arguments
@dataclass(frozen=True, eq=False)
class PowerScaling:
    """Sensitivity to the power of the prior and of the likelihood. ``print(result)`` says what moves.

    Attributes
    ----------
    analysis, m
        The analysis, and the number of imputations behind its answers.
    pooled
        One row for each source ("prior", "likelihood") and coefficient: source, term, estimate, std.error; moves,
        low.moves, high.moves, se.moves: change of the estimate, of the limits of its interval and of its standard
        error, in standard errors, for each doubling of the power; mc.error, mc.low, mc.high, mc.se: their Monte Carlo
        errors.
    powers
        The same numbers at given powers, from importance weights: source, power, term, estimate, std.error, conf.low,
        conf.high, change (in standard errors), mc.error (of the change), pareto.k, ess (of the weights, in imputations);
        nan if k is above the limit, when only a refit can tell.
    parameters
        Standard deviations and correlations of the imputation model, one row for each source: source, term, mean, sd;
        moves (change of the mean, in posterior standard deviations per doubling), mc.error; psense, Kallioinen et al.'s
        distance per doubling, as computed by ``az.psense``.
    events
        What could not be computed, and why.
    """

    analysis: str
    m: int
    pooled: pd.DataFrame
    powers: pd.DataFrame
    parameters: pd.DataFrame
    log: tuple[Event, ...] = ()

    @property
    def events(self) -> pd.DataFrame:
        """DataFrame (kind, where, message, count)."""
        return event_table(self.log)

    def plot(self, terms: str | Sequence[str] | None = None, **options: Any) -> Figure:
        """Plot how much each pooled number moves; see `bayesimp.plots.plot_power_scaling`."""
        from bayesimp.plots.power_scaling import plot_power_scaling

        check_keywords(options, PowerScaling.plot, plot_power_scaling, ("result", "terms"))
        return plot_power_scaling(self, terms, **options)

    @property
    def words(self) -> tuple[str, ...]:
        """Sentences about pooled answers, parameters, and what remains unknown."""
        said = [
            _moves(self.pooled, source, self.analysis, self.m) for source in self.pooled["source"].unique()
        ]
        said += [_strongest(self.parameters)]
        lost = self.powers[self.powers["estimate"].isna()]
        if len(lost):
            which = ", ".join(dict.fromkeys(f"{row.source} ^ {row.power:g}" for row in lost.itertuples()))
            said.append(
                f"Weights say nothing about {which}: Pareto's k is above {pareto_limit(self.m):.2f}, so refit there."
            )
        return tuple(line for line in said if line) + tuple(event.message for event in self.log)

    def __str__(self) -> str:
        return wrapped("\n".join(self.words))

    def __repr__(self) -> str:
        columns = ["source", "term", "estimate", "std.error", "moves", "low.moves", "high.moves", "mc.error"]
        shown = tabulated(self.pooled[columns], number="{:.3g}".format)
        return f"{self}\n\nIn standard errors, for each doubling of the power:\n{shown}"

    def _repr_html_(self) -> str:
        parts = [paragraph(line) for line in self.words]
        parts += [folded("Pooled answers, for each doubling of the power", table(self.pooled))]
        parts += [folded("At other powers, by weights", table(self.powers))]
        parts += [folded("Parameters", table(self.parameters))]
        return framed("Power-scaling of prior and likelihood", parts)


def power_scaling(
    imp: Imputations,
    *,
    analysis: str | Callable | Fits,
    powers: Sequence[float] = (0.5, 2.0),
    level: float = 0.95,
    **options: Any,
) -> PowerScaling:
    """How far parameters and pooled answers depend on the prior and on the likelihood, without a refit.

    The imputations are weighted as if the prior, or the likelihood of the observed values, had been raised to a power
    (`bayesimp.sensitivity_analysis.power`; Kallioinen et al. 2024). Few imputations give the slopes of pooled answers
    large Monte Carlo errors, which are reported; impute some hundreds, which joint models do in seconds.

    Parameters
    ----------
    imp
        Imputations of `JointNormal`, of `JointGLMM` or `JointLatent` (whose likelihoods need ``keep_effects=True``), or
        of `FCS` with a single incomplete variable, whose conditional model is the posterior.
    analysis
        A formula or function, as for `Imputations.analyse`, which also receives `options`; or the fits themselves.
    powers
        Powers at which pooled numbers are reweighted, in addition to the slopes at 1.
    level
        Level of the intervals.

    Raises
    ------
    SpecificationError
        If there is no posterior (chained equations with several conditional models) or no log prior, the imputations do
        not carry their chains, or there are fewer than 5 of them. The message says what to do instead.

    Examples
    --------
    >>> imp = bi.JointNormal(data, "y + x ~ z + (1 | study)").impute(m=1000, seed=1)          # doctest: +SKIP
    >>> result = bi.power_scaling(imp, analysis="y ~ x + z + (1 | study)")                    # doctest: +SKIP
    >>> print(result); result.plot()                                                          # doctest: +SKIP
    """
    must_be(imp, "Imputations", "power_scaling")
    check_options(options, power_scaling)
    if options and isinstance(analysis, Fits):
        raise SpecificationError(
            f"power_scaling: {listing(options)} would be ignored, because analysis= is fits."
        )
    given = [number(power, "powers", 0.0) for power in powers]
    if not given:
        raise SpecificationError("powers: give at least one number, such as (0.5, 2).")
    log, events = _log_densities(imp)
    if imp.m < LEAST:
        raise SpecificationError(
            f"power_scaling: with {imp.m} imputations neither a slope nor its Monte Carlo error can be estimated; at "
            f"least {LEAST} are needed, and hundreds for small moves: imp.extend(200)."
        )
    fits = analysis if isinstance(analysis, Fits) else imp.analyse(analysis, **options)
    if not isinstance(fits, Fits) or len(fits) != imp.m:
        raise SpecificationError(
            f"power_scaling: the analysis must give one fit for each of the {imp.m} imputations; got "
            f"{type(fits).__name__}" + (f" of {len(fits)}." if isinstance(fits, Fits) else ".")
        )
    chains = int(imp.attrs["chains"])
    if imp.m // chains < FEWEST and imp.m > chains:  # one imputation from each chain: they are independent
        text = (
            f"With {imp.m} imputations from {chains} chains, fewer than {FEWEST} per chain, Monte Carlo errors are those "
            "of independent imputations."
        )
        events.append(Event("too few imputations", "mc.error", text, imp.m))
    behind = {source: _behind(values, imp) for source, values in log.items()}
    answers, more = answers_of(fits)
    return PowerScaling(
        fits.analysis,
        imp.m,
        pooled_slopes(answers, behind, chains, level),
        at_powers(answers, behind, given, level),
        parameter_slopes(imp, log),
        (*events, *more),
    )


def _log_densities(imp: Imputations) -> tuple[dict[str, xr.DataArray], list[Event]]:
    """Source -> log density (chain, draw), with the numbers of the draws; and the reason if a source is absent."""
    if imp.run is None:
        raise SpecificationError(
            "power_scaling: these imputations do not carry their chains. Save them with imp.save(...)."
        )
    if imp.run.no_posterior:
        raise SpecificationError(f"power_scaling: {imp.run.no_posterior} {REFITS}")
    found: dict[str, xr.DataArray] = {}
    events: list[Event] = []
    spacing = int(imp.attrs.get("spacing", 1))
    for source, what in SOURCES.items():
        # missing cells may have been kept only for the draws behind imputations
        costly = source == "likelihood" and imp.run.costly_likelihood
        for thin in dict.fromkeys((spacing,) if costly else (1, spacing)):
            try:
                made = imp.run.pointwise(what, TreeRequest(thin))
            except SpecificationError as error:
                why = str(error)
                continue
            total = sum(
                v.sum([d for d in v.dims if d not in (nt.CHAIN, nt.DRAW)]) for v in made.data_vars.values()
            )
            assert isinstance(total, xr.DataArray)
            marginal = made.attrs.get("effects") == nt.INTEGRATED
            if not marginal and any(
                set(v.dims) - {nt.CHAIN, nt.DRAW, nt.CLUSTER} for v in made.data_vars.values()
            ):
                events.append(Event("conditional likelihood", source, CONDITIONAL))
            numbers = np.arange(thin - 1, thin * total.sizes[nt.DRAW], thin)
            found[source] = total.drop_vars(list(total.coords)).assign_coords({nt.DRAW: numbers})
            break
        else:
            if source == "prior":
                raise SpecificationError(f"power_scaling: {why} {REFITS}")
            events.append(Event("not scaled", source, f"The power of the likelihood was not varied. {why}"))
    return found, events


def _behind(log: xr.DataArray, imp: Imputations) -> np.ndarray:
    """(m,) values at the draws behind imputations: k is draw (k // chains + 1) spacing - 1 of chain k % chains."""
    k, chains = np.arange(imp.m), int(imp.attrs["chains"])
    spacing = int(imp.attrs.get("spacing", log.sizes[nt.DRAW]))  # of FCS: the last cycle of each chain
    draws = (k // chains + 1) * spacing - 1
    at = np.searchsorted(log[nt.DRAW].values, draws)
    assert (log[nt.DRAW].values[at] == draws).all()
    return np.asarray(log.values[k % chains, at], dtype=float)


def _moves(pooled: pd.DataFrame, source: str, analysis: str, m: int) -> str:
    """Which pooled estimate moves most, which limits move, and whether that can be told from chance."""
    rows = pooled[(pooled["source"] == source) & pooled["moves"].notna()]
    if rows.empty:
        return ""
    top = rows.loc[rows["moves"].abs().idxmax()]
    text = (
        f"If the {source} counted twice, {top['term']} would move most among the estimates of '{analysis}', by about "
        f"{signed(top['moves'])} standard errors (Monte Carlo error {top['mc.error']:.2f})"
    )
    sure = rows["term"][rows["moves"].abs() > NOTABLE + 2 * rows["mc.error"]]
    text += f"; more than {NOTABLE:g} beyond Monte Carlo error: {', '.join(sure)}." if len(sure) else "."
    limits = [
        f"{row['term']} ({signed(row['low.moves'])}, {signed(row['high.moves'])})"
        for _, row in rows.iterrows()
        if any(abs(row[f"{end}.moves"]) > NOTABLE + 2 * row[f"mc.{end}"] for end in ("low", "high"))
    ]
    if limits:
        text += f" Limits of intervals that would move: {', '.join(limits)}."
    error = rows["mc.error"].max()
    if 2 * error > NOTABLE:
        needed = int(np.ceil(m * (2 * error / NOTABLE) ** 2 / 100) * 100)
        text += f" With {m} imputations a move of {NOTABLE:g} cannot be told from chance; "
        text += f"about {needed:,} would be needed."
    return text


def _strongest(parameters: pd.DataFrame) -> str:
    rows = parameters[parameters["source"] == "prior"]
    if rows.empty:
        return ""
    top = rows.loc[rows["moves"].abs().idxmax()]
    return (
        f"Of the imputation model, {top['term']} follows the prior most: its mean moves by {signed(top['moves'])} "
        f"posterior standard deviations for each doubling (Monte Carlo error {top['mc.error']:.2f})."
    )
