"""R-hat and effective sample sizes, of parameters and of what is imputed.

Rank-normalised split R-hat and bulk / tail ESS (Vehtari et al. 2021), computed by ArviZ. Parameters can have
converged while the imputed values of a badly observed cluster have not, so both are judged: the second through
the mean and the standard deviation of the missing values of every response and cluster, drawn along the chains.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
import pandas as pd

from bayesimp.errors import StatisticalWarning

__all__ = ["Summary", "diagnose", "summarise"]

R_HAT_LIMIT = 1.01  # Vehtari et al. 2021, sec. 4.1
CYCLES_TAU = 3.0  # see `r_hat_limit`
ESS_LIMIT = 400  # likewise: 100 by chain, for four chains
ESS_PROB = (0.05, 0.95)  # quantiles behind the tail ESS
COLUMNS = ["mean", "sd", "q2.5", "q97.5", "ess_bulk", "ess_tail", "mcse_mean", "r_hat"]


@dataclass(frozen=True)
class Summary:
    """What to look at before imputations are used.

    Attributes
    ----------
    parameters
        DataFrame by parameter: mean, sd, q2.5, q97.5, ess_bulk, ess_tail, mcse_mean, r_hat.
    imputed
        The same for the mean and sd of the missing values by response and cluster.
    events
        What could not be done as specified.
    limit
        Largest R-hat that passes; 1.01, and more for chained equations (`r_hat_limit`).
    """

    parameters: pd.DataFrame
    imputed: pd.DataFrame
    events: pd.DataFrame
    limit: float = R_HAT_LIMIT
    advice: str = "Ask for more draws"

    @property
    def worst_r_hat(self) -> float:
        return float(max(self._all("r_hat"), default=np.nan))

    @property
    def smallest_ess(self) -> float:
        return float(min((*self._all("ess_bulk"), *self._all("ess_tail")), default=np.nan))

    def _all(self, column: str) -> pd.Series:
        """Of parameters and imputed values, where it could be computed."""
        return pd.concat([self.parameters[column], self.imputed[column]]).dropna()

    @property
    def converged(self) -> bool:
        """R-hat at most `limit` and at least 400 effective draws, everywhere."""
        return self.worst_r_hat <= self.limit and self.smallest_ess >= ESS_LIMIT

    def __repr__(self) -> str:
        worst = self.imputed.sort_values("r_hat", ascending=False).head(8)
        verdict = (
            f"Converged: R-hat <= {self.limit:.3g} and ESS >= {ESS_LIMIT} everywhere."
            if self.converged
            else f"NOT known to have converged: too few draws to judge by. {self.advice}."
            if np.isnan(self.worst_r_hat)
            else f"NOT converged: largest R-hat {self.worst_r_hat:.3f} (limit {self.limit:.3g}), smallest ESS "
            f"{self.smallest_ess:.0f} (limit {ESS_LIMIT}). {self.advice}, or look at the trace."
        )
        parts = [verdict, "", "Parameters", _text(self.parameters)]
        if len(self.imputed):
            shown = (
                f"Imputed means and sds by cluster ({len(worst)} of {len(self.imputed)}, largest R-hat first)"
            )
            parts += ["", shown, _text(worst)]
        parts += [
            "",
            "Events: none" if self.events.empty else "Events\n" + self.events.to_string(index=False),
        ]
        return "\n".join(parts)


def _text(frame: pd.DataFrame) -> str:
    formats = {"r_hat": "{:.3f}".format, "ess_bulk": "{:.0f}".format, "ess_tail": "{:.0f}".format}
    return frame.to_string(formatters=formats, float_format=lambda x: f"{x:.4g}")


def summarise(imputations, var_names: list[str] | None = None) -> Summary:
    """Diagnose an `Imputations` object; a StatisticalWarning if it has not converged."""
    tree = imputations.tree
    parameters = diagnose(tree["posterior"].to_dataset(), var_names)
    imputed = diagnose(tree["imputed_stats"].to_dataset())
    advice = "Ask for more cycles (iterate)" if _in_cycles(imputations) else "Ask for more draws"
    limit = r_hat_limit(imputations)
    summary = Summary(parameters, imputed, imputations.events, limit, advice)
    if not summary.converged:
        warnings.warn(repr(summary).split("\n")[0], StatisticalWarning, stacklevel=3)
    return summary


def r_hat_limit(imputations) -> float:
    """Largest R-hat that passes: 1.01, but for the many chains of few cycles that chained equations run.

    With halves of n draws whose means have an autocorrelation time tau, stationary chains have an R-hat^2 of about
    1 + (tau - 1)/n, however many they are: the limit allows tau = 3 in addition.
    """
    if not _in_cycles(imputations):
        return R_HAT_LIMIT
    n = imputations.tree["posterior"].sizes["draw"] // 2
    return float(np.sqrt(R_HAT_LIMIT**2 + (CYCLES_TAU - 1) / max(n, 1)))


def _in_cycles(imputations) -> bool:
    return imputations.attrs.get("model") == "FCS"


def diagnose(dataset, var_names: list[str] | None = None) -> pd.DataFrame:
    """One row for each scalar of a dataset with dims (chain, draw, ...), constants and all-nan left out.

    Of a symmetric matrix (last two dims ``a``, ``a_2``) the lower triangle is shown.
    """
    labels, columns = [], []
    for name in var_names or list(dataset.data_vars):
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


def _upper(dims, index) -> bool:
    return len(dims) == 2 and dims[1] == f"{dims[0]}_2" and index[1] > index[0]


def _statistics(x: np.ndarray) -> dict[str, np.ndarray]:
    """x (chains, draws, k). Diagnostics of a quantity that does not move (a fixed prior) are nan."""
    from arviz_stats.base import array_stats

    axes = {"chain_axis": 0, "draw_axis": 1}
    flat = x.reshape(-1, x.shape[-1])
    out = {"mean": flat.mean(0), "sd": flat.std(0, ddof=1)}
    out["q2.5"], out["q97.5"] = np.quantile(flat, [0.025, 0.975], axis=0)
    moving = np.ptp(flat, axis=0) > 0
    enough = x.shape[1] >= 4
    for name, function, options in [
        ("ess_bulk", array_stats.ess, {"method": "bulk"}),
        ("ess_tail", array_stats.ess, {"method": "tail", "prob": ESS_PROB}),
        ("mcse_mean", array_stats.mcse, {"method": "mean"}),
        ("r_hat", array_stats.rhat, {"method": "rank"}),
    ]:
        out[name] = np.full(x.shape[-1], np.nan)
        if enough and moving.any():
            out[name][moving] = function(x[:, :, moving], **axes, **options)
    return out
