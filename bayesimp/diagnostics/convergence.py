"""R-hat and effective sample sizes of parameters and of imputed values.

These are rank-normalised split R-hat and bulk / tail ESS (Vehtari et al. 2021; `chain_statistics`). Parameters can have
converged while the imputed values of a poorly observed cluster have not, so both are checked: imputed values through
the mean and standard deviation of the missing values of every response and cluster along the chains.

Two questions are separated: whether the chains mix (R-hat, against a limit that allows for its Monte Carlo error, see
`mixing`), and whether there are enough draws (ESS).
"""

from __future__ import annotations

import warnings
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import xarray as xr

from bayesimp import notation as nt
from bayesimp.diagnostics.chain_statistics import (
    effective_size,
    in_blocks,
    normal_scores,
    r_hat,
    split,
    tail_size,
)
from bayesimp.diagnostics.mixing import R_HAT_LIMIT, SHARE, SHORTEST, r_hat_limit
from bayesimp.errors import PACKAGE, SpecificationError, StatisticalWarning
from bayesimp.events import listed
from bayesimp.kinds import checks_arguments
from bayesimp.layout import Printed, tabulated
from bayesimp.markup import folded, framed, paragraph, table
from bayesimp.messages import suggestion

if TYPE_CHECKING:
    from bayesimp.imputation.result import Imputations

__all__ = ["ESS_LIMIT", "R_HAT_LIMIT", "Summary", "diagnose", "glance", "summarise"]

ESS_LIMIT = 400  # Vehtari et al. 2021, sec. 4.1: 100 per chain, for four chains
JUDGED = 20  # fewest draws per chain from which to conclude that chains do not mix
AGREE = 1.1  # R-hat above which draws that are too few to judge it by are reported
ESS_PROB = (0.05, 0.95)  # quantiles behind the tail ESS
JUDGED_BY = ["ess_bulk", "ess_tail", "mcse_mean", "r_hat", "r_hat_limit"]
COLUMNS = ["mean", "sd", "q2.5", "q97.5", *JUDGED_BY]
MORE = 1.2  # factor by which advice exceeds the draws that ESS requires
FEW = 4  # advice is never to take more than this many times the imputations, but longer chains
HTML_ROWS = 60  # most rows of a table in a notebook
GLANCED = 400  # `glance` checks at most this many quantities by cluster one by one


@checks_arguments
@dataclass(frozen=True)
class Summary(Printed):
    """Diagnostics to check before imputations are used.

    Attributes
    ----------
    parameters
        DataFrame by parameter: mean, sd, q2.5, q97.5, ess_bulk, ess_tail, mcse_mean, r_hat, and r_hat_limit, the
        largest R-hat that passes: 1.01 plus what Monte Carlo error explains.
    imputed
        The same for the mean and sd of the missing values of each response and cluster.
    events
        What could not be done as specified.
    m
        Number of imputations.
    draws
        Number of kept draws in each chain (cycles of chained equations).
    chained
        Whether draws are cycles of chained equations, which can be continued.
    together
        Suggested `blocks` of variables that mix badly and are missing in the same rows.
    extends
        Whether the run can be continued. If not, `imputed` is of all clusters together.
    chains
        Number of chains.
    """

    parameters: pd.DataFrame
    imputed: pd.DataFrame
    events: pd.DataFrame
    m: int = 1
    draws: int = 1_000
    chained: bool = False
    together: dict[str, list[str]] | None = None
    extends: bool = True
    chains: int = 4

    @property
    def worst_r_hat(self) -> float:
        """The largest R-hat over all parameters and imputed statistics; nan if there are none."""
        return float(max(self._all("r_hat"), default=np.nan))

    @property
    def smallest_ess(self) -> float:
        """The smallest effective sample size, bulk or tail; nan if there are none."""
        return float(min((*self._all("ess_bulk"), *self._all("ess_tail")), default=np.nan))

    @property
    def worst(self) -> pd.Series:
        """The quantity whose R-hat exceeds its limit most, or comes closest to it."""
        table = pd.concat([self.parameters, self.imputed]).dropna(subset=["r_hat"])
        return table.iloc[int(np.argmax((table["r_hat"] - 1) / (table["r_hat_limit"] - 1)))]

    def _all(self, column: str) -> pd.Series:
        """A column for parameters and imputed values together, where it could be computed."""
        return pd.concat([self.parameters[column], self.imputed[column]]).dropna()

    @property
    def judged(self) -> bool:
        """Whether the chains are long enough to conclude that they do not mix."""
        return self.draws >= JUDGED and len(self._all("r_hat")) > 0

    @property
    def mixes(self) -> bool:
        """Whether R-hat is within its limit everywhere."""
        return len(self._all("r_hat")) > 0 and bool(self.worst["r_hat"] <= self.worst["r_hat_limit"])

    @property
    def told(self) -> bool:
        """Whether the effective draws are enough to tell that chains mix.

        The limit of R-hat rests on an autocorrelation time that is trusted up to a twelfth of a chain (`mixing`). If that
        of the smallest ESS is longer, an R-hat of 1.2 may be within a limit that is as loose; up to 1.1, the limit of
        Gelman & Rubin (1992), the chains at least agree.
        """
        time = self.chains * self.draws / self.smallest_ess
        return time <= max(SHORTEST, SHARE * self.draws) or self.worst_r_hat <= AGREE

    @property
    def converged(self) -> bool:
        """Whether the chains mix and every quantity has an effective sample size of at least 400."""
        return self.mixes and self.smallest_ess >= ESS_LIMIT

    @property
    def verdict(self) -> str:
        """The verdict in one line: converged, too few draws, or no mixing, and what to do."""
        if not (self.judged or self.converged):
            longer = "cycles: `iterate(...)` or cycles=" if self.chained and self.extends else self._unit
            few = f"too few draws to judge by ({self.draws} in each chain)"
            return f"NOT known to have converged: {few}. Ask for more {longer}."
        if not self.mixes:
            return (
                f"Does NOT mix: R-hat {self.worst['r_hat']:.3f} of {self.worst.name} (limit "
                f"{self.worst['r_hat_limit']:.3f}), smallest ESS {self.smallest_ess:.0f}. {self._cure()}"
            )
        if not self.told:
            return (
                f"NOT known to mix: R-hat {self.worst_r_hat:.3f}, and smallest ESS {self.smallest_ess:.0f} in "
                f"{self.chains} chains of {self.draws:,} draws, too few to judge by R-hat. {self._more()}"
            )
        if self.smallest_ess < ESS_LIMIT:
            return (
                "Mixes, but too few draws: R-hat is within Monte Carlo error everywhere (largest "
                f"{self.worst_r_hat:.3f}), smallest ESS {self.smallest_ess:.0f} (limit {ESS_LIMIT}). {self._more()}"
            )
        return (
            f"Converged: R-hat <= {R_HAT_LIMIT} apart from Monte Carlo error (largest {self.worst_r_hat:.3f}) and ESS "
            f">= {ESS_LIMIT} everywhere."
        )

    @property
    def _title(self) -> str:
        return f"Imputed means and sds {'by cluster' if self.extends else 'of all clusters together'}"

    @property
    def _unit(self) -> str:
        return "cycles (cycles=)" if self.chained else "draws (draws=)"

    def _more(self) -> str:
        """Advice for enough draws: more imputations if that is not many more, otherwise longer chains."""
        times = MORE * ESS_LIMIT / self.smallest_ess
        if not self.chained or not self.extends:
            longer = "`extend_until()`, or more" if self.extends else "Ask for more"
            return f"{longer} {self._unit}, about {times:.1f} times as many."
        longer = f"`iterate({int(np.ceil(self.draws * (times - 1))):d})` (more cycles)"
        if times > FEW:
            return f"{longer} gives enough."
        return (
            f"`extend({int(np.ceil(self.m * (times - 1))):d})` (more imputations) or {longer} gives enough."
        )

    def _cure(self) -> str:
        if self.together:
            return (
                "More cycles may not help: variables that are missing in the same rows mix when they are imputed "
                f"together, blocks={self.together}."
            )
        extends = self.chained and self.extends
        more = f"Continue, `iterate({2 * self.draws})`," if extends else f"Ask for more {self._unit}"
        return f"{more} and inspect the traces (plot_trace, plot_imputed_trace)."

    def _said(self) -> str:
        worst = self.imputed.sort_values("r_hat", ascending=False).head(8)
        parts = [self.verdict, "", "Parameters", _text(self.parameters)]
        if len(self.imputed):
            shown = f"{self._title} ({len(worst)} of {len(self.imputed)}, largest R-hat first)"
            parts += ["", shown, _text(worst)]
        return "\n".join(
            [*parts, "", "Events: none" if self.events.empty else "Events\n" + listed(self.events)]
        )

    def _repr_html_(self) -> str:
        parts = [folded(f"Parameters ({len(self.parameters)})", _html(self.parameters), is_open=True)]
        if len(self.imputed):
            worst = self.imputed.sort_values("r_hat", ascending=False)
            title = f"{self._title} ({len(worst)}), largest R-hat first"
            parts.append(folded(title, _html(worst)))
        parts.append(
            folded(f"Events ({len(self.events)})", table(self.events))
            if len(self.events)
            else paragraph("Events: none")
        )
        return framed(self.verdict, parts)


def _html(frame: pd.DataFrame) -> str:
    rounded = frame.drop(columns="mcse_mean").assign(
        **{name: frame[name].round() for name in ("ess_bulk", "ess_tail")}
    )
    return table(rounded.rename_axis("quantity"), index=True, most=HTML_ROWS)


def _text(frame: pd.DataFrame) -> str:
    three = dict.fromkeys(("r_hat", "r_hat_limit"), "{:.3f}".format)
    formats = {**three, "ess_bulk": "{:.0f}".format, "ess_tail": "{:.0f}".format}
    frame = frame.drop(columns="mcse_mean")  # to fit a terminal
    return tabulated(frame, index=True, formats=formats)


def summarise(imputations: Imputations, var_names: list[str] | None = None) -> Summary:
    """Diagnose an `Imputations` object, with a StatisticalWarning if it has not converged."""
    tree = imputations.tree
    summary = _summary(
        imputations, diagnose(tree["posterior"].to_dataset(), var_names), tree["imputed_stats"].to_dataset()
    )
    if not summary.converged:
        warnings.warn(summary.verdict, StatisticalWarning, skip_file_prefixes=PACKAGE)
    return summary


def glance(imputations: Imputations) -> Summary:
    """As `summarise`, but faster and without a warning: with many clusters, it uses means over all of them."""
    tree = imputations.tree
    stats = tree["imputed_stats"].to_dataset()
    if sum(int(np.isfinite(stats[v][0, 0]).sum()) for v in stats.data_vars) > GLANCED:
        stats = _over_clusters(stats, imputations)
    posterior = tree["posterior"].to_dataset()
    small = [str(v) for v in posterior.data_vars if posterior[v][0, 0].size <= GLANCED]
    return _summary(imputations, diagnose(posterior, small), stats)


def _over_clusters(stats: xr.Dataset, imputations: Imputations) -> xr.Dataset:
    """Means over clusters of the imputed means and sds, weighted by missing cells."""
    counts = imputations.data.counts.loc[list(stats[nt.RESPONSE].values)].to_numpy(float)
    out = {}
    for name, array in stats.data_vars.items():
        x = array.transpose(nt.CHAIN, nt.DRAW, nt.RESPONSE, nt.CLUSTER).to_numpy()
        weight = np.where(np.isfinite(x[0, 0]), counts, 0.0)
        mean = (np.nan_to_num(x) * weight).sum(axis=-1) / np.maximum(weight.sum(axis=-1), 1.0)
        out[name] = (nt.CHAIN, nt.DRAW, nt.RESPONSE), mean
    return xr.Dataset(out, coords={nt.RESPONSE: stats[nt.RESPONSE]})


def _summary(imputations: Imputations, parameters: pd.DataFrame, stats: xr.Dataset) -> Summary:
    imputed = diagnose(stats)
    draws, chained = imputations.tree["posterior"].sizes["draw"], imputations.chained
    made = Summary(
        parameters,
        imputed,
        imputations.events,
        imputations.m,
        draws,
        chained,
        chains=imputations.tree["posterior"].sizes["chain"],
    )
    if not chained or made.mixes or not made.judged or imputations.model is None:
        return made
    table = pd.concat([parameters, imputed])
    bad = list(table.index[table["r_hat"] > table["r_hat_limit"]])
    return replace(made, together=imputations.model.impute_together(bad))


def diagnose(dataset: xr.Dataset, var_names: list[str] | None = None) -> pd.DataFrame:
    """A row for each scalar of a dataset with dims (chain, draw, ...), without those that are not finite.

    For a symmetric matrix (last two dims ``a``, ``a_2``) only the lower triangle is included.
    """
    labels, columns = [], []
    there = [str(v) for v in dataset.data_vars]
    for name in var_names or there:
        if name not in there:
            raise SpecificationError(
                f"var_names: no parameter is called {name!r}. {suggestion(str(name), there)}"
            )
        array = dataset[name].transpose("chain", "draw", ...)
        values = array.values.reshape(*array.shape[:2], -1)
        for k, index in enumerate(np.ndindex(array.shape[2:])):
            if _upper(array.dims[2:], index) or not np.isfinite(values[:, :, k]).all():
                continue
            entry = ", ".join(str(array[d].values[i]) for d, i in zip(array.dims[2:], index, strict=True))
            labels.append(f"{name}[{entry}]" if entry else name)
            columns.append(values[:, :, k])
    if not columns:
        return pd.DataFrame(columns=COLUMNS, dtype=float)
    return pd.DataFrame(_statistics(np.stack(columns, axis=-1)), index=labels)[COLUMNS]


def _upper(dims: Sequence[Hashable], index: tuple[int, ...]) -> bool:
    return len(dims) == 2 and dims[1] == f"{dims[0]}_2" and index[1] > index[0]


def _statistics(x: np.ndarray) -> dict[str, np.ndarray]:
    """Statistics of x (chains, draws, k); the diagnostics of a constant quantity (a fixed prior) are nan."""
    flat = x.reshape(-1, x.shape[-1])
    out = {"mean": flat.mean(0), "sd": flat.std(0, ddof=1)}
    out["q2.5"], out["q97.5"] = np.quantile(flat, [0.025, 0.975], axis=0)
    moving = np.ptp(flat, axis=0) > 0
    out |= {name: np.full(x.shape[-1], np.nan) for name in JUDGED_BY}
    if x.shape[1] >= 4 and moving.any():
        own = np.ascontiguousarray(np.moveaxis(x[:, :, moving], -1, 0), dtype=float)
        found = in_blocks(lambda part: _judged(part, int(moving.sum())), own)
        for name, column in zip(JUDGED_BY, found.T, strict=True):
            out[name][moving] = column
    return out


def _judged(x: np.ndarray, checked: int) -> np.ndarray:
    """(k, 5) the columns `JUDGED_BY` for x (k, chains, draws), some of `checked` quantities.

    A single chain has no R-hat.
    """
    halves = split(x)
    folded = np.abs(halves - np.median(halves, axis=(1, 2), keepdims=True))
    z, z_folded = normal_scores(halves), normal_scores(folded)
    worst = np.fmax(r_hat(z), r_hat(z_folded)) if x.shape[1] > 1 else np.full(len(x), np.nan)
    error = x.reshape(len(x), -1).std(axis=1, ddof=1) / np.sqrt(effective_size(halves))
    limit = r_hat_limit(z, z_folded, checked)
    return np.column_stack([effective_size(z), tail_size(x, ESS_PROB), error, worst, limit])
