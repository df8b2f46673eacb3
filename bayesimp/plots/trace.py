"""Traces of parameters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from bayesimp.diagnostics.convergence import diagnose
from bayesimp.errors import must_be
from bayesimp.plots._chains import Chains, trace_figure
from bayesimp.plots._style import chosen

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr
    from matplotlib.figure import Figure

    from bayesimp.imputation.result import Imputations

__all__ = ["plot_trace"]


def plot_trace(imp: Imputations, var_names: Sequence[str] | str | None = None, *, at_most: int = 8) -> Figure:
    """Plot density and trace of parameters, chain by chain.

    Chains that overlap and look like noise have mixed; the R-hat is written above each row. Only the
    lower triangle of symmetric matrices is shown, and parameters held fixed are left out.

    Parameters
    ----------
    imp
        Imputations.
    var_names
        ``"beta"``, ``"Sigma"``, ``"Psi"``, or single parameters by their names in ``imp.summary()``
        (``"beta[Intercept, written]"``); all by default.
    at_most
        Number of rows. With more parameters, those with the largest R-hat are shown, and the title says so.

    Raises
    ------
    SpecificationError
        If a name is not a parameter.
    """
    must_be(imp, "Imputations", "plot_trace")
    posterior = imp.tree["posterior"].to_dataset()
    table, values = diagnose(posterior), scalars(posterior)
    known = [name for name in table.index if np.ptp(values[name]) > 0]
    names = (
        chosen(var_names, [*posterior.data_vars, *known], "a parameter") if var_names is not None else known
    )
    names = [k for k in known if k in names or k.partition("[")[0] in names]
    names = chosen(names, known, "a parameter that moves")
    shown = largest(table["r_hat"], names, at_most)
    title = "Parameters along the chains"
    if len(shown) < len(names):
        title = f"{len(shown)} of {len(names)} parameters along the chains: those with the largest R-hat"
    title += "; chains that mix overlap and do not drift"
    return trace_figure([Chains(n, values[n], table.at[n, "r_hat"]) for n in shown], title)


def largest(r_hat: pd.Series, names: list[str], at_most: int) -> list[str]:
    """The names, or the so many of them with the largest R-hat, in their own order."""
    worst = r_hat.loc[names].sort_values(ascending=False, kind="stable").index[:at_most]
    return [name for name in names if name in set(worst)]


def scalars(dataset: xr.Dataset) -> dict[str, np.ndarray]:
    """(chain, draw) arrays under the names that `diagnose` gives them."""
    out = {}
    for name in dataset.data_vars:
        array = dataset[name].transpose("chain", "draw", ...)
        for index in np.ndindex(array.shape[2:]):
            entry = ", ".join(str(array[d].values[i]) for d, i in zip(array.dims[2:], index, strict=True))
            out[f"{name}[{entry}]" if entry else str(name)] = array.values[(slice(None), slice(None), *index)]
    return out
