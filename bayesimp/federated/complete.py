"""Complete the rows of a site locally, from the draws of the parameters that all sites share.

Given (beta, Sigma, Psi), rows of different clusters are independent, so a site needs nothing else from the others. All
its rows are used, including those that were not released: cluster effects are drawn given every observed value
(joint/rows.py).
"""

from __future__ import annotations

from functools import partial
from typing import Any, NoReturn

import numpy as np

from bayesimp.errors import SpecificationError, must_be
from bayesimp.events import counted_events
from bayesimp.federated.parameters import SharedParameters
from bayesimp.federated.rows import SiteMatrices, SiteRows, site_matrices
from bayesimp.imputation.events import imputed_events
from bayesimp.imputation.result import Imputations
from bayesimp.imputation.tree import tree_of_rows
from bayesimp.joint.rows import impute_rows
from bayesimp.joint.scale import Scale, Working, canonical_rows
from bayesimp.kernels.normal.effects import moments
from bayesimp.kernels.normal.statistics import collect
from bayesimp.messages import suggestion
from bayesimp.sampling.chains import site_rng
from bayesimp.scale.order import cluster_order

__all__ = ["CompletedSite", "complete_site"]


class CompletedSite(Imputations):
    """The completed tables of one site. Made by `complete_site`, not by hand.

    They are read, exported and analysed like `bayesimp.Imputations`, but have no chains: those are at the coordinator.

    Attributes
    ----------
    data
        The rows of the site, `bayesimp.federated.rows.SiteRows`.
    """

    def summary(self, var_names: list[str] | None = None) -> NoReturn:
        """Refused: the chains are at the coordinator."""
        raise SpecificationError(
            "A site has completed tables but no chains; call summary() on the coordinator's run."
        )

    def save(self, path: Any) -> NoReturn:
        """Refused: `export` writes the tables, and the shared parameters reproduce them."""
        raise SpecificationError(
            "A site has no run to save. export('tables.parquet') writes the completed tables, and complete_site "
            "reproduces them from the same shared parameters."
        )

    def _said(self) -> str:
        cells = sum(len(self.rows(name)) for name in self.imputed_columns)
        return "\n".join([
            f"CompletedSite '{self.attrs['site']}': m = {self.m}, {cells:,} cells of "
            f"{', '.join(self.imputed_columns) or 'no variable'}",
            f"  {len(self.data):,} rows in {len(self.data.clusters):,} clusters; seed {self.attrs['seed']}",
            f"  {counted_events(len(self.log))}",
        ])  # fmt: skip


def complete_site(parameters: SharedParameters, frame: Any, site: str) -> CompletedSite:
    """The completed tables of a site.

    Parameters
    ----------
    parameters
        From the coordinator.
    frame
        The table of the site, as given to `export_site`.
    site
        Name of the site.

    Returns
    -------
    m completed tables; the same parameters give the same tables.

    Raises
    ------
    DataError
        The table cannot be used, as for `export_site`.
    SpecificationError
        No release of the site was among those combined, or the columns differ.

    Examples
    --------
    >>> done = bi.federated.complete_site(bi.federated.read_parameters("parameters.json"), table, "A")  # doctest: +SKIP
    >>> done.analyse("y1 ~ y2 + x").pool()                                          # doctest: +SKIP
    """
    must_be(parameters, "SharedParameters", "complete_site")
    names = list(parameters.sites)
    if site not in names:
        raise SpecificationError(f"No release of site {site!r} was combined. {suggestion(str(site), names)}")
    rows = SiteRows(frame, parameters.agreement)
    matrices = site_matrices(rows)
    if (matrices.fixed, matrices.random) != (parameters.fixed, parameters.random):
        raise SpecificationError(
            f"The table of site '{site}' has design columns {list(matrices.fixed)} and {list(matrices.random)}, but "
            f"the shared parameters belong to {list(parameters.fixed)} and {list(parameters.random)}."
        )
    working = _working(rows, matrices, parameters.scale)
    values = _values(parameters, working, names.index(site))
    cells, row = {}, working.rows.row
    for k, name in enumerate(parameters.agreement.responses):
        missing = np.flatnonzero(rows.missing(name))
        if len(missing):
            place = np.argsort(row)[np.searchsorted(np.sort(row), missing)]
            cells[name] = missing, values[:, place, k]
    attrs = {
        "model": "JointNormal, federated", "formula": parameters.agreement.formula, "m": parameters.m,
        "responses": list(parameters.agreement.responses), "site": site, "seed": parameters.seed,
    }  # fmt: skip
    tree = partial(tree_of_rows, rows, cells, attrs)
    made = CompletedSite(rows, cells, attrs, tree, (*parameters.events, *rows.events()))
    return made.with_events(imputed_events(made))  # type: ignore[return-value]


def _values(parameters: SharedParameters, working: Working, number: int) -> np.ndarray:
    """(m, R, r) values of the incomplete rows, in the units of the data; `number` is that of the site."""
    scale = parameters.scale
    rngs = [site_rng(parameters.seed, number, k) for k in range(parameters.m)]
    return impute_rows(
        rngs, working, moments(working.statistics), scale.working_beta(parameters.beta),
        scale.working_Sigma(parameters.Sigma), scale.working_Psi(parameters.Psi),
    )  # fmt: skip


def _working(rows: SiteRows, matrices: SiteMatrices, scale: Scale) -> Working:
    """All rows of the site on the scale of the shared parameters, as in joint/scale.py."""
    Y, m = matrices.Y, len(rows.clusters)
    X_w, Z_w = matrices.X @ scale.T, (matrices.Z @ scale.C) / scale.u
    Y_w = Y / scale.s - X_w @ scale.offset
    order = cluster_order(Y, [X_w, Z_w], rows.codes, m)
    place = np.empty(m, dtype=np.int64)
    place[order] = np.arange(m)
    codes = place[rows.codes]
    statistics = collect(X_w, Z_w, Y_w, codes, m)
    missing = np.isnan(Y)
    row = np.flatnonzero(missing.any(axis=1))
    incomplete = canonical_rows(row, X_w, Z_w, Y_w, Y, codes, missing, statistics, scale.offset)
    return Working(statistics, incomplete, scale, order, np.zeros_like(scale.offset))
