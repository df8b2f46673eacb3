"""The part of `JointLatent` that depends on several grouping factors: designs, priors, sampler's table, names,
description.

Y* = X beta + sum_s Z_s B_s + E,   rows of E ~ N(0, Sigma),   (vec(B_sg), v_sg - gamma_s' G_sg) ~ N(0, Psi_s)

`bayesimp.joint.latent.one_factor.OneLatentFactor` has the same interface for one factor.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bayesimp import priors as pr
from bayesimp.contract import Shift
from bayesimp.events import Event
from bayesimp.formulas.design import DesignMatrices
from bayesimp.formulas.formula import Formula
from bayesimp.joint.information import check_information, few_clusters, only_cluster
from bayesimp.joint.latent.clusters import ClusterTable, EffectsAndVariables
from bayesimp.joint.latent.levels.gibbs import LatentLevelsTask, WorkingPriors
from bayesimp.joint.latent.levels.priors import working_priors
from bayesimp.joint.latent.levels.run import LatentLevelsRun
from bayesimp.joint.latent.levels.table import LatentLevelsTable, latent_levels_table
from bayesimp.joint.latent.prior import given_entries
from bayesimp.joint.latent.run import cutpoints_by_name
from bayesimp.joint.latent.variables import (
    LatentVariable,
    check_levels,
    effect_entries,
    fixed_entries,
    in_words,
)
from bayesimp.joint.levels.designs import FactorDesigns, designs_of, dims_of, matrices, name_of
from bayesimp.joint.levels.factors import GroupingFactor, check_factors
from bayesimp.notation import effect_names, in_tree
from bayesimp.scale.slopes import check_slopes
from bayesimp.table.clusters import Clusters
from bayesimp.table.incomplete import IncompleteData

if TYPE_CHECKING:
    from bayesimp.models.joint_normal import FurtherFactor

__all__ = ["SeveralLatentFactors", "several_latent_factors"]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class SeveralLatentFactors(FactorDesigns):
    """The grouping factors of a `JointLatent`.

    Attributes
    ----------
    data, factors, designs
        See `FactorDesigns`.
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

    table: LatentLevelsTable
    resolved: pr.Priors
    entries: tuple[Array, tuple[Array, ...]]
    priors: WorkingPriors
    events: list[Event]

    run_type = LatentLevelsRun

    def effects(self, s: int = 0) -> list[str]:
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

    @property
    def cluster_tables(self) -> list[tuple[ClusterTable, Clusters]]:
        """The groups of every factor as the sampler and the table have them."""
        return [
            (table, factor.groups)
            for table, factor in zip(self.table.groups.tables, self.factors, strict=True)
        ]

    def task(
        self, thin: int, stride: int, residuals: bool = False, effects: bool = False
    ) -> LatentLevelsTask:
        """The task of running Gibbs iterations, for executors; effects: whether those of all groups are kept."""
        return LatentLevelsTask(self.table, self.priors, thin, stride, effects)

    def posterior(self, draws: Any) -> tuple[dict[str, tuple], dict[str, list]]:
        """Variables of the posterior that groups have, name -> (dims, array), and their coordinates."""
        table, out, coords = self.table, {}, self.effect_coords()
        sizes = [len(effects) for _, effects in self.covariances]
        Psi = matrices(draws.Psi, table.factors, sizes)
        for s, label in enumerate(self.labels):
            of_groups = table.groups.tables[s]
            out[name_of(label)] = dims_of(label), _effect_scale(table, s).Psi(Psi[s])
            if of_groups.variables:
                dims = f"fixed_{in_tree(label)}", f"latent_{in_tree(label)}"
                out[f"beta_{in_tree(label)}"] = dims, table.groups.gamma(draws.gamma, s)
                coords |= {dims[0]: list(of_groups.fixed), dims[1]: of_groups.labels}
        columns = table.groups.record.level.columns
        out |= cutpoints_by_name(table.groups.variables, draws.group_cutpoints, columns, table.groups.before)
        return out, coords

    def describe_sizes(self) -> list[str]:
        """Lines of the printed model about its rows, groups, latent variables and columns."""
        table = self.table
        kinds = f"r = {len(table.labels)} latent variables: {in_words(table.variables)}"
        return [
            *(f"  {line}" for line in self.in_words(kinds)),
            *(
                f"  one value for each {label}: {in_words(groups.variables)}"
                for label, groups in zip(self.labels, table.groups.tables, strict=True)
                if groups.variables
            ),
        ]

    def check_explicit(self) -> None:
        """Refuse a PyMC model with so many groups that it would be too slow to use.

        Raises
        ------
        SpecificationError
        """
        self.refuse_many(0, "latent variable")

    def pymc_factors(self) -> tuple[pr.CovariancePrior, str, tuple[FurtherFactor, ...]]:
        """The prior of the first Psi, its label in the PyMC model, and the factors after the first."""
        first = self.labels[0]
        return self.resolved.of_factor(first), in_tree(first), tuple(self.further(self.resolved))


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
    designs = designs_of(formula, factors, data)
    table = latent_levels_table(data, designs, factors, variables, shift, flat=priors.beta.is_flat)
    scale = table.working.scale
    Sigma = pr.resolve(priors.Sigma, scale.s, "Sigma")
    own, entries, units = {}, [], []
    for s, (factor, made) in enumerate(zip(factors, designs, strict=True)):
        name, of_groups, of_effects = name_of(factor.label), table.groups.tables[s], _effect_scale(table, s)
        own[factor.label] = of_effects.Psi_prior(priors.of_factor(factor.label), name)
        entries.append(effect_entries(len(table.scales[s].effects), of_groups.variables))
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
