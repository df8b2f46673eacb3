"""Standard deviations and correlations in all covariance matrices of a posterior, with their priors.

These are ``Sigma`` and ``Psi`` of a joint model, and ``sigma2_y`` and ``Psi_y`` of each conditional model. "Within"
refers to the residuals of rows, "between" to the effects of clusters.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from bayesimp.diagnostics.prior_draws import known_model, prior_group
from bayesimp.errors import must_be

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

    from bayesimp.imputation.result import Imputations

__all__ = [
    "Component",
    "components",
    "covariance_names",
    "overlap",
    "prior_share",
    "prior_shares",
    "share_in_words",
    "view",
]

Array = NDArray[np.float64]
MOSTLY, PARTLY = 0.5, 0.1  # prior shares above which a component is mostly, or partly, prior
APART = 0.1  # overlap of prior and posterior below which they disagree
WHERE = {"Sigma": "within", "sigma2": "within", "Psi": "between"}


@dataclass(frozen=True)
class Component:
    """Prior and posterior draws of one standard deviation or correlation.

    Attributes
    ----------
    prior
        (size,) draws; empty if the prior is improper.
    posterior
        (chains, draws).
    limits
        (-1, 1) for a correlation, None for a standard deviation.
    """

    prior: Array
    posterior: Array
    limits: tuple[float, float] | None


def covariance_names(imp: Imputations) -> list[str]:
    """Covariance matrices and variances in the posterior (but not variances by cluster)."""
    arrays = imp.tree["posterior"].data_vars
    return [str(n) for n, a in arrays.items() if str(n).partition("_")[0] in WHERE and a.ndim in (2, 4)]


def components(
    imp: Imputations,
    names: Sequence[str] | None = None,
    *,
    correlations: bool = True,
    size: int = 20_000,
    seed: int = 0,
) -> dict[str, Component]:
    """Label, ``"sd between\
y1"`` or ``"correlation within\
y1, y2"``, -> `Component`; fixed ones are left out.

    Raises
    ------
    SpecificationError
        The imputations do not carry their model.
    """
    model = known_model(imp)
    posterior = imp.tree["posterior"].to_dataset()[covariance_names(imp) if names is None else list(names)]
    prior, _ = prior_group(model, posterior, size, seed)
    out = {}
    for name, array in posterior.data_vars.items():
        kind, _, variable = str(name).partition("_")
        # labels of a joint model, or of a block of several variables, name the variable themselves
        named = not variable or f"Sigma_{variable}" in posterior
        labels = _labels(array, "" if named else variable)
        d = len(labels)
        S = array.values.reshape(*array.shape[:2], d, d)
        P = prior[name].values.reshape(-1, d, d) if name in prior else np.empty((0, d, d))
        for what, a, b in _entries(d, correlations):
            at_prior, at_data = _entry(P, a, b), _entry(S, a, b)
            if np.ptp(at_data) > 0 and (len(P) == 0 or np.ptp(at_prior) > 0):
                pair = labels[a] if a == b else _joined(labels[a], labels[b])
                limits = None if a == b else (-1.0, 1.0)
                out[f"{what} {WHERE[kind]}\n{pair}"] = Component(at_prior, at_data, limits)
    return out


def view(component: Component) -> tuple[float, float]:
    """The range to show: up to the 99 % quantile of the posterior and 75 % of the prior, which may have no mean."""
    if component.limits is not None:
        return component.limits
    prior, posterior = component.prior, component.posterior
    high = 1.1 * np.quantile(posterior, 0.99)
    if len(prior):
        high = max(high, min(np.quantile(prior, 0.75), 4 * posterior.max()))
    return 0.0, float(high)


def overlap(component: Component) -> float:
    """Common area of prior and posterior densities: 1 if the data add nothing; nan for improper priors."""
    if len(component.prior) == 0:
        return np.nan
    edges = np.linspace(*view(component), 41)
    p, q = (np.histogram(x, edges)[0] / x.size for x in (component.prior, component.posterior))
    return float(np.minimum(p, q).sum())


def prior_share(component: Component) -> float:
    """The prior's share of the posterior precision, v / v0: 1 if the data add nothing, 0 if they dominate.

    v and v0 are the variances of posterior and prior, for log standard deviations and for Fisher's z of correlations.
    If both are normal, with precisions p0 + p = 1 / v and p0 = 1 / v0, the share is p0 / (p0 + p), and 1 - v / v0 is
    the contraction of Schad, Betancourt & Vasishth (2021, sec. 4.4.2), apart from the scale. Above 1 the data
    contradict the prior or its shape. nan for improper priors.
    """
    if len(component.prior) == 0:
        return np.nan
    scale = np.log if component.limits is None else np.arctanh
    with np.errstate(divide="ignore"):
        prior, posterior = scale(component.prior), scale(component.posterior)
    return float(posterior.var() / prior[np.isfinite(prior)].var())


def share_in_words(share: float, overlap: float) -> str:
    """``"mostly data"``, ``"prior and data"`` or ``"mostly prior"``, with a remark if the two disagree."""
    if not np.isfinite(share):
        return "improper prior"
    words = "mostly prior" if share > MOSTLY else "prior and data" if share > PARTLY else "mostly data"
    return f"{words}, far from the prior" if share > PARTLY and overlap < APART else words


def prior_shares(imp: Imputations) -> pd.DataFrame:
    """The share of the prior in every standard deviation and correlation of an imputation model.

    Parameters
    ----------
    imp
        Imputations from any engine with covariance matrices.

    Returns
    -------
    DataFrame indexed by term: median, q2.5 and q97.5 of prior and posterior; share (see `prior_share`); overlap (common
    area of the densities); and the share in words.

    Raises
    ------
    SpecificationError
        The imputations do not carry their model.

    Examples
    --------
    >>> bi.prior_shares(imp)                                                            # doctest: +SKIP
    """
    must_be(imp, "Imputations", "prior_shares")
    import pandas as pd

    rows = {}
    for name, one in components(imp).items():
        row: dict[str, float] = {}
        for label, draws in (("prior", one.prior), ("posterior", one.posterior)):
            at = np.quantile(draws, [0.5, 0.025, 0.975]) if draws.size else np.full(3, np.nan)
            row |= dict(zip((label, f"{label}.q2.5", f"{label}.q97.5"), at, strict=True))
        share, common = prior_share(one), overlap(one)
        rows[name.replace("\n", " ")] = row | {
            "share": share, "overlap": common, "words": share_in_words(share, common),
        }  # fmt: skip
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("term")


def _labels(array: xr.DataArray, variable: str) -> list[str]:
    """Names of the rows of a matrix, preceded by the variable in a conditional model."""
    if array.ndim == 2:
        return [variable]
    names = [str(v) for v in array[array.dims[-2]].values]
    names = [f"{variable}:{name}" for name in names] if variable else names
    return [name.removesuffix(":Intercept") for name in names]


def _entries(d: int, correlations: bool) -> Iterator[tuple[str, int, int]]:
    yield from (("sd", k, k) for k in range(d))
    if correlations:
        yield from (("correlation", a, b) for a in range(d) for b in range(a + 1, d))


def _entry(M: Array, a: int, b: int) -> Array:
    """Standard deviation (a = b) or correlation in each of the draws M (..., d, d)."""
    if a == b:
        return np.sqrt(M[..., a, a])
    return M[..., a, b] / np.sqrt(M[..., a, a] * M[..., b, b])


def _joined(a: str, b: str) -> str:
    return f"{a}, {b}" if len(a) + len(b) < 28 else f"{a},\n{b}"
