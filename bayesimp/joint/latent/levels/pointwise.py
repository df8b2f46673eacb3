"""Draws of `JointLatent` with several grouping factors, as log likelihood, log prior, replicates and effects read them.

    mu_j = x_j' beta + sum_s z_sj' B_s,g(s,j)       mean of the latent normals of a row, given the effects of its groups
    v*_sg | B_sg ~ N(gamma_s' G_sg + K B_sg, Psi_vv - K Psi_bv),   K = Psi_vb Psi_bb^-1        a group's variables

What is computed from them is in joint/latent/pointwise.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from bayesimp import notation as nt
from bayesimp.contract import TreeRequest
from bayesimp.imputation.tree import cluster_labels
from bayesimp.joint.latent.levels.draws import parameters_at
from bayesimp.joint.latent.observed import Draw, LevelDraw, side_of_groups, side_of_rows
from bayesimp.joint.latent.pointwise import ObservedLevels, given_effects, log_of_cutpoints
from bayesimp.joint.latent.prior import log_coefficients
from bayesimp.joint.latent.table import levels_of_rows
from bayesimp.joint.levels.designs import name_of
from bayesimp.joint.levels.table import working_designs
from bayesimp.joint.pointwise import REPLICATES, generator
from bayesimp.notation import Array
from bayesimp.scale.effects import of_all

if TYPE_CHECKING:
    from bayesimp.joint.latent.levels.run import LatentLevelsRun

__all__ = ["SeveralFactorsDraws", "kept_effects"]


@dataclass(frozen=True)
class SeveralFactorsDraws:
    """`bayesimp.joint.latent.pointwise.FactorDraws` of a run with several grouping factors."""

    run: LatentLevelsRun

    def observed(self) -> ObservedLevels:
        """See `FactorDraws`."""
        several, data = self.run.several, self.run.model.data
        table, factors = several.table, several.factors
        rows = table.working.rows
        level = np.column_stack([levels_of_rows(data, v) for v in table.variables for _ in v.labels])
        order = []
        for s, factor in enumerate(factors):
            own = np.empty(len(factor.groups), dtype=np.int64)
            own[table.places[:, s]] = factor.groups.codes
            order.append(own)
        return ObservedLevels(
            side_of_rows(table.variables, level[rows.row], rows.Y, rows.fixed, table.working.scale),
            tuple(map(side_of_groups, table.groups.tables)), rows.row, np.zeros(len(rows.row), dtype=np.int64),
            tuple(table.places.T), tuple(order), _dims(self.run),
            tuple(cluster_labels(factor.groups.labels) for factor in factors),
        )  # fmt: skip

    def draws(self, request: TreeRequest, *, new: bool = False) -> Iterator[Draw]:
        """See `FactorDraws`."""
        run, several, h = self.run, self.run.several, self.run.history
        table, tables = several.table, several.table.groups.tables
        rows, column, at_b = table.working.rows, table.factors.column, table.factors.effect_at
        Z = working_designs(several.designs, table.working.scale.s)[0][rows.row]
        places, r = table.places[rows.row], len(table.labels)
        for c in range(h.chains):
            for at, d in enumerate(range(request.thin - 1, h.draws, request.thin)):
                draw = parameters_at(run, (c, d))
                rng = generator(request.seed, REPLICATES, c, d, 1) if new else None
                mu, groups = rows.X @ draw.beta, []
                for s, (Psi, of_groups) in enumerate(zip(draw.Psi, tables, strict=True)):
                    q, G = int(column[s + 1] - column[s]), len(of_groups.V)
                    if rng is None:
                        b = h.b[c, d, at_b[s] : at_b[s + 1]].reshape(G, r * q)
                    else:
                        root = np.linalg.cholesky(Psi[: r * q, : r * q])
                        b = rng.standard_normal((G, r * q)) @ root.T
                    B = b.reshape(G, r, q)[places[:, s]]
                    mu += np.einsum("nkl,nl->nk", B, Z[:, column[s] : column[s + 1]])
                    mean = of_groups.level.rows.X @ draw.gamma[s]
                    groups.append(given_effects(mean, b, Psi, draw.group_cutpoints[s]))
                yield Draw((c, at), d, LevelDraw(mu, draw.Sigma[None], draw.cutpoints), tuple(groups))

    def effects(self, request: TreeRequest) -> xr.Dataset:
        """See `FactorDraws`: ``B_<factor>``."""
        variables, coords = kept_effects(self.run)
        made = {name: ((nt.CHAIN, nt.DRAW, *dims), request.of(B)) for name, (dims, B) in variables.items()}
        return xr.Dataset(made, coords=coords)

    def log_prior(self, request: TreeRequest) -> dict[str, Array]:
        """See `FactorDraws`."""
        several, h = self.run.several, self.run.history
        table, kernel, priors = several.table, several.priors.for_kernel, several.parameter_priors
        beta, scale = request.of(h.beta), table.working.scale
        posterior, _ = several.posterior(h)
        out = {
            "beta": log_coefficients(beta, kernel.Q0, kernel.t0, scale, table.variables),
            "Sigma": priors["Sigma"].log_density(scale.Sigma(request.of(h.Sigma)), "Sigma"),
        }
        p, first, cut = table.groups.record.coefficient.shape[0], 0, 0
        for s, (label, own) in enumerate(zip(several.labels, table.groups.tables, strict=True)):
            name, n = name_of(label), len(own.labels)
            out[name] = priors[name].log_density(request.of(posterior[name][1]), name)
            if n:
                at = (np.arange(first, first + n)[:, None] * p + np.arange(len(own.fixed))).ravel()
                Q0, t0 = kernel.Q0_groups[np.ix_(at, at)], kernel.t0_groups[at]
                stop = table.groups.record.member_at[s + 1]
                columns = table.groups.record.member[stop - n : stop]
                gamma = request.of(h.gamma)[..., : len(own.fixed), columns]
                out[f"beta_{nt.in_tree(label)}"] = log_coefficients(gamma, Q0, t0, own.scale, own.variables)
                number = sum(v.cutpoints for v in own.variables)
                out |= log_of_cutpoints(own.variables, request.of(h.group_cutpoints)[..., cut : cut + number])
                first, cut = first + n, cut + number
        return out | log_of_cutpoints(table.variables, request.of(h.cutpoints))


def _dims(run: LatentLevelsRun) -> tuple[str, ...]:
    """Dimensions of the groups of every factor."""
    return nt.CLUSTER, *(nt.group_dimension(label) for label in run.several.labels[1:])


def kept_effects(run: LatentLevelsRun) -> tuple[dict[str, tuple[tuple[str, str], Array]], dict]:
    """``B_<factor>`` -> its two last dimensions, and effects (chains, draws, G, n) in the units of the data, groups in
    the order of the table; and coordinates."""
    several, table, h = run.several, run.several.table, run.history
    out: dict[str, tuple[tuple[str, str], Array]] = {}
    coords: dict = {}
    for s, (factor, dim) in enumerate(zip(several.factors, _dims(run), strict=True)):
        scale, name = table.scales[s], nt.in_tree(factor.label)
        G, n = len(factor.groups), len(scale.effects)
        b = h.b[..., table.factors.effect_at[s] : table.factors.effect_at[s + 1]]
        place = np.empty(G, dtype=np.int64)
        place[factor.groups.codes] = table.places[:, s]
        B = (b.reshape(*b.shape[:2], G, n)[:, :, place] * scale.effects) @ of_all(scale.C, n).T
        effect = f"effect_of_rows_{name}" if table.groups.tables[s].variables else f"effect_{name}"
        out[f"B_{name}"] = (dim, effect), B
        coords |= {dim: cluster_labels(factor.groups.labels), effect: several.effects(s)[:n]}
    return out, coords
