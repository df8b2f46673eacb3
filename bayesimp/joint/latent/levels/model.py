"""The part of `JointLatent` that depends on several grouping factors: designs, priors, sampler's table, names,
description.

Y* = X beta + sum_s Z_s B_s + E,   rows of E ~ N(0, Sigma),   (vec(B_sg), v_sg - gamma_s' G_sg) ~ N(0, Psi_s)

Without a formula with several random parts `JointLatent` has these attributes itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bayesimp import priors as pr
from bayesimp.contract import Shift
from bayesimp.errors import SpecificationError
from bayesimp.events import Event
from bayesimp.formulas.design import DesignMatrices, design
from bayesimp.formulas.formula import Formula
from bayesimp.joint.information import check_information, few_clusters, only_cluster
from bayesimp.joint.latent.clusters import EffectsAndVariables
from bayesimp.joint.latent.levels.gibbs import LatentLevelsTask, WorkingPriors
from bayesimp.joint.latent.levels.priors import working_priors
from bayesimp.joint.latent.levels.table import LatentLevelsTable, latent_levels_table
from bayesimp.joint.latent.prior import given_entries
from bayesimp.joint.latent.variables import LatentVariable, check_levels, fixed_entries
from bayesimp.joint.levels.factors import GroupingFactor, check_factors
from bayesimp.joint.levels.model import MOST_EXPLICIT, dims_of, name_of
from bayesimp.notation import effect_names, in_tree
from bayesimp.scale.slopes import check_slopes
from bayesimp.table.incomplete import IncompleteData

__all__ = ["SeveralLatentFactors", "several_latent_factors"]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class SeveralLatentFactors:
    """Several grouping factors of one model.

    Attributes
    ----------
    data
        The incomplete table.
    factors
        The grouping factors, that of the primary clusters first.
    designs
        Design matrices, one for each factor, with the same X.
    table
        The table as read by the sampler.
    resolved
        Priors in the units of the data: beta, Sigma; Psi of each factor in `Psi_of`.
    entries
        Fixed entries of Sigma, and of the Psi of each factor; nan for free ones.
    priors
        Priors as read by the sampler.
    events
        Events about what depends on the prior alone, and how the formula was read.
    """

    data: IncompleteData
    factors: tuple[GroupingFactor, ...]
    designs: tuple[DesignMatrices, ...]
    table: LatentLevelsTable
    resolved: pr.Priors
    entries: tuple[Array, tuple[Array, ...]]
    priors: WorkingPriors
    events: list[Event]

    @property
    def labels(self) -> tuple[str, ...]:
        """Labels of the factors: ``"school"``, ``"school:class"``."""
        return tuple(factor.label for factor in self.factors)

    def effects(self, s: int) -> list[str]:
        """Names of the effects of factor s, then those of the variables of its groups: the rows of Psi_s."""
        return _effects(self.table, self.designs, s)

    @property
    def parameter_priors(self) -> dict[str, Any]:
        """Name in the posterior -> its prior on the scale of the data; for beta, the prior for normal variables."""
        own = {
            name_of(label): given_entries(self.resolved.of_factor(label), entries)
            for label, entries in zip(self.labels, self.entries[1], strict=True)
        }
        return {
            "beta": self.resolved.beta,
            "Sigma": given_entries(self.resolved.Sigma, self.entries[0]),
        } | own

    def task(self, thin: int, stride: int, *, effects: bool = False) -> LatentLevelsTask:
        """The task of running Gibbs iterations, for executors; effects: whether those of all groups are kept."""
        return LatentLevelsTask(self.table, self.priors, thin, stride, effects)

    def posterior(self, draws: Any) -> tuple[dict[str, tuple], dict[str, list]]:
        """Variables of the posterior in the units of the data, name -> (dims, array), and their coordinates."""
        table, scale = self.table, self.table.working.scale
        labels, at = table.labels, table.factors.psi_at
        out: dict[str, tuple] = {
            "beta": (("fixed", "latent"), scale.beta(draws.beta)),
            "Sigma": (("latent", "latent_2"), scale.Sigma(draws.Sigma)),
        }
        coords = {"latent": labels, "latent_2": labels, "fixed": list(self.designs[0].fixed)}
        coords |= self.effect_coords()
        for s, label in enumerate(self.labels):
            names, of_groups = self.effects(s), table.groups.tables[s]
            n = len(names)
            Psi = draws.Psi[..., at[s] : at[s + 1]].reshape(*draws.Psi.shape[:-1], n, n)
            out[name_of(label)] = dims_of(label), _effect_scale(table, s).Psi(Psi)
            if of_groups.variables:
                dims = f"fixed_{in_tree(label)}", f"latent_{in_tree(label)}"
                out[f"beta_{in_tree(label)}"] = dims, table.groups.gamma(draws.gamma, s)
                coords |= {dims[0]: list(of_groups.fixed), dims[1]: of_groups.labels}
        parts = (
            (table.variables, draws.cutpoints, table.columns, 0),
            (table.groups.variables, draws.group_cutpoints, table.groups.record.level.columns, table.groups.before),
        )  # fmt: skip
        for variables, drawn, columns, start in parts:
            for v in variables:
                if v.cutpoints > 1:
                    k = start + v.first
                    own = drawn[..., columns.cut[k] : columns.cut[k + 1]]
                    out[f"cutpoints_{in_tree(v.name)}"] = (f"cutpoints_{in_tree(v.name)}_0",), own
        return out, coords

    @property
    def covariances(self) -> list[tuple[str, list[str]]]:
        """Names of the covariances of effects in the posterior, and of their rows."""
        return [(name_of(label), self.effects(s)) for s, label in enumerate(self.labels)]

    def describe_sizes(self, r: int, kinds: str) -> list[str]:
        """Lines of the printed model about its r latent variables (kinds: in words), rows, groups and columns."""
        first = self.designs[0]
        groups = ", ".join(f"{len(f.groups):,} {f.label}" for f in self.factors)
        columns = "; ".join(
            f"{label}: {', '.join(made.random)}"
            for label, made in zip(self.labels, self.designs, strict=True)
        )
        lines = [
            f"  {len(first.X):,} rows in groups: {groups}; r = {r} latent variables: {kinds}",
            f"  p = {first.X.shape[1]} fixed ({', '.join(first.fixed)}), random ({columns})",
        ]
        for label, table in zip(self.labels, self.table.groups.tables, strict=True):
            if table.variables:
                names = ", ".join(v.name for v in table.variables)
                lines.append(f"  one value for each {label}: {names}")
        return lines

    def effect_coords(self) -> dict[str, list[str]]:
        """Labels of the rows and columns of every Psi."""
        return {name: self.effects(s) for s, label in enumerate(self.labels) for name in dims_of(label)}

    def check_explicit(self) -> None:
        """Refuse a PyMC model with so many groups that it would be too slow to use.

        Raises
        ------
        SpecificationError
        """
        explicit = sum(
            len(f.groups) * made.Z.shape[1] for f, made in zip(self.factors, self.designs, strict=True)
        )
        if explicit > MOST_EXPLICIT:
            raise SpecificationError(
                f"The PyMC model has the effects of all factors as free variables: {explicit:,} of each latent variable, "
                f"more than the {MOST_EXPLICIT} with which it can be sampled. impute() has no such limit."
            )


def _effects(table: LatentLevelsTable, designs: Sequence[DesignMatrices], s: int) -> list[str]:
    return effect_names(table.labels, list(designs[s].random)) + table.groups.tables[s].labels


def _effect_scale(table: LatentLevelsTable, s: int) -> EffectsAndVariables:
    """Units of the effects of factor s and of the variables of its groups."""
    return EffectsAndVariables(table.scales[s], table.groups.tables[s].scale.s)


def several_latent_factors(
    data: IncompleteData,
    formula: Formula,
    priors: pr.Priors,
    variables: Sequence[LatentVariable],
    factors: tuple[GroupingFactor, ...],
    shift: Shift,
) -> SeveralLatentFactors:
    """The factors of a formula with several random parts, with the data and priors of a model.

    Raises
    ------
    DataError, SpecificationError
        The data do not distinguish the effects of the factors (see `bayesimp.joint.levels.factors`), or a prior has no
        Gibbs steps.
    """
    events = _check(data, priors, variables, factors)
    designs = tuple(
        design(replace(formula, random=(factor.term,)), data.frame, clusters=data.grouping)
        for factor in factors
    )
    table = latent_levels_table(data, designs, factors, variables, shift, flat=priors.beta.is_flat)
    scale = table.working.scale
    Sigma = pr.resolve(priors.Sigma, scale.s, "Sigma")
    own, entries, units = {}, [], []
    for s, (factor, made) in enumerate(zip(factors, designs, strict=True)):
        name, of_groups, of_effects = name_of(factor.label), table.groups.tables[s], _effect_scale(table, s)
        own[factor.label] = of_effects.Psi_prior(priors.of_factor(factor.label), name)
        n, w = len(table.scales[s].effects), len(of_effects.effects)
        fixed = np.full((w, w), np.nan)
        fixed[n:, n:] = fixed_entries(of_groups.variables)
        entries.append(fixed)
        units.append(of_effects)
        C = table.scales[s].C
        events += check_slopes(
            own[factor.label], of_effects, np.concatenate([np.repeat(scale.s, len(C)), of_groups.scale.s]),
            len(factor.groups), name, made.random, made.Z @ C,
        )  # fmt: skip
    resolved = replace(priors, Sigma=Sigma, Psi_of=own)
    all_entries = fixed_entries(table.variables), tuple(entries)
    working = working_priors(
        table, designs[0], resolved, [factor.label for factor in factors], all_entries, units
    )
    return SeveralLatentFactors(data, factors, designs, table, resolved, all_entries, working, events)


def _check(
    data: IncompleteData,
    priors: pr.Priors,
    variables: Sequence[LatentVariable],
    factors: Sequence[GroupingFactor],
) -> list[Event]:
    """Events about what the observed cells do not tell; refuses what cannot be estimated."""
    first, names = factors[0], name_of(factors[0].label)
    of_rows = tuple(v.name for v in variables if not v.of_clusters)
    of_first = tuple(v.name for v in variables if v.group == first.label)
    own = replace(priors, Psi=priors.of_factor(first.label))
    events = check_information(data, of_rows, own, normal_only=False, Psi=names, of_clusters=of_first)
    check_levels(data, variables)
    events += check_factors(data, factors, of_rows, priors)
    for factor in factors[1:]:
        for v in variables:
            if v.group != factor.label:
                continue
            data.require_observed((v.name,))
            seen = factor.groups.count(~data.missing(v.name))
            if (seen > 0).sum() == 1 and not priors.of_factor(factor.label).is_known:
                raise only_cluster(v.name, factor.groups, seen, factor.label)
            where = f"Psi_{factor.label}[{v.name}]"
            events += few_clusters(v.name, seen, where, f"groups of '{factor.label}'")
    return events
