"""The part of `JointLatent` that depends on its one grouping factor: design, priors, sampler's table, names, description.

Y* = X beta + Z B + E,   rows of E ~ N(0, Sigma),   (vec(B_g), v_g - gamma' G_g) ~ N(0, Psi) for the groups g

`bayesimp.joint.latent.levels.model.SeveralLatentFactors` has the same interface for several; `JointLatent` uses whichever
of the two applies.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from bayesimp import priors as pr
from bayesimp.contract import Shift
from bayesimp.events import Event
from bayesimp.formulas.design import DesignMatrices, design
from bayesimp.formulas.formula import Formula
from bayesimp.joint.information import check_information
from bayesimp.joint.latent.clusters import ClusterTable, EffectsAndVariables
from bayesimp.joint.latent.gibbs import LatentPriors, LatentTask
from bayesimp.joint.latent.prior import given_entries
from bayesimp.joint.latent.reference import check_visits
from bayesimp.joint.latent.run import LatentRun
from bayesimp.joint.latent.table import LatentTable, latent_table
from bayesimp.joint.latent.variables import (
    LatentVariable,
    check_levels,
    effect_entries,
    fixed_entries,
    in_words,
)
from bayesimp.joint.latent.working_priors import working_priors
from bayesimp.joint.reference import ReferenceBased, check_reference
from bayesimp.notation import Array, effect_names
from bayesimp.scale.slopes import check_slopes
from bayesimp.table.clusters import Clusters
from bayesimp.table.incomplete import IncompleteData

if TYPE_CHECKING:
    from bayesimp.models.joint_normal import FurtherFactor

__all__ = ["OneLatentFactor", "one_latent_factor"]


@dataclass(frozen=True)
class OneLatentFactor:
    """The one grouping factor of a model.

    Attributes
    ----------
    data
        The incomplete table.
    design
        X and Z.
    table
        The table as read by the sampler.
    scale
        Units of the effects and of the cluster-level variables.
    resolved
        Priors in the units of the data.
    entries
        Fixed entries of Sigma, and of Psi; nan for free ones.
    priors
        Priors as read by the sampler.
    events
        Events about what depends on the prior alone.
    """

    data: IncompleteData
    design: DesignMatrices
    table: LatentTable
    scale: EffectsAndVariables
    resolved: pr.Priors
    entries: tuple[Array, tuple[Array, ...]]
    priors: LatentPriors
    events: list[Event]

    run_type = LatentRun

    def effects(self, s: int = 0) -> list[str]:
        """Names of the cluster effects, then those of the cluster-level variables: the rows of Psi."""
        return _effects(self.table, self.design)

    @property
    def parameter_priors(self) -> dict[str, Any]:
        """Name in the posterior -> its prior on the scale of the data; for beta, the prior for normal variables."""
        Sigma, (Psi,) = self.entries
        return {
            "beta": self.resolved.beta, "Sigma": given_entries(self.resolved.Sigma, Sigma),
            "Psi": given_entries(self.resolved.Psi, Psi),
        }  # fmt: skip

    @property
    def covariances(self) -> list[tuple[str, list[str]]]:
        """Name of the covariance of effects in the posterior, and of its rows."""
        return [("Psi", self.effects())]

    def effect_coords(self) -> dict[str, list[str]]:
        """Labels of the rows and columns of Psi."""
        return dict.fromkeys(("effect", "effect_2"), self.effects())

    @property
    def cluster_tables(self) -> list[tuple[ClusterTable, Clusters]]:
        """The clusters as the sampler and the table have them."""
        return [(self.table.of_clusters, self.data.grouping)]

    def task(self, thin: int, stride: int, residuals: bool = False, effects: bool = False) -> LatentTask:
        """The task of running Gibbs iterations, for executors; residuals, effects: whether these are kept."""
        return LatentTask(self.table, self.priors, thin, stride, residuals, effects)

    def describe_sizes(self) -> list[str]:
        """Lines of the printed model about its rows, clusters, latent variables and columns."""
        X, Z, table = self.design.X, self.design.Z, self.table
        once = in_words(table.of_clusters.variables)
        return [
            f"  {len(X):,} rows in {len(self.data.clusters):,} clusters; r = {len(table.labels)} latent variables: "
            f"{in_words(table.variables)}",
            f"  p = {X.shape[1]} fixed ({', '.join(self.design.fixed)}), q = {Z.shape[1]} random "
            f"({', '.join(self.design.random)})",
            *([f"  one value for each {self.data.cluster}: {once}"] if once else []),
        ]

    def check_explicit(self) -> None:
        """The PyMC model can be sampled."""

    def pymc_factors(self) -> tuple[pr.CovariancePrior, str, tuple[FurtherFactor, ...]]:
        """The prior of Psi, its label in the PyMC model (none), and further factors (none)."""
        return self.resolved.Psi, "", ()


def _effects(table: LatentTable, made: DesignMatrices) -> list[str]:
    return effect_names(table.labels, list(made.random)) + table.of_clusters.labels


def one_latent_factor(
    data: IncompleteData, formula: Formula, priors: pr.Priors, variables: tuple[LatentVariable, ...], shift: Shift,
    residual: str, reference: ReferenceBased | None,
) -> OneLatentFactor:  # fmt: skip
    """The grouping factor of a formula with one random part, with the data and priors of a model.

    Raises
    ------
    DataError, SpecificationError
        The observed cells do not identify the model (see `bayesimp.joint.information`), or a prior has no Gibbs steps.
    """
    events = _check(data, priors, variables)
    made = design(formula, data.frame, clusters=data.grouping)
    if reference is not None:
        events += check_reference(reference, data, formula, made)
        check_visits(reference, variables)
    by_cluster = residual == "cluster"
    table = latent_table(data, made, variables, shift, flat=priors.beta.is_flat, by_cluster=by_cluster)
    clusters, scale = table.of_clusters, table.working.scale
    units = EffectsAndVariables(scale, clusters.scale.s)
    entries = fixed_entries(table.variables), (effect_entries(len(scale.effects), clusters.variables),)
    resolved = replace(
        priors, Sigma=pr.resolve(priors.Sigma, scale.s, "Sigma"), Psi=units.Psi_prior(priors.Psi, "Psi")
    )
    working = working_priors(table, made, resolved, entries, units, by_cluster=by_cluster)
    of_each = np.concatenate([np.repeat(scale.s, len(scale.C)), clusters.scale.s])
    events += check_slopes(
        resolved.Psi, units, of_each, len(data.clusters), "Psi", made.random, made.Z @ scale.C
    )
    return OneLatentFactor(data, made, table, units, resolved, entries, working, events)


def _check(data: IncompleteData, priors: pr.Priors, variables: Sequence[LatentVariable]) -> list[Event]:
    """Events about what the observed cells do not tell; refuses what cannot be estimated."""
    of_rows, of_clusters = (tuple(v.name for v in variables if v.of_clusters is k) for k in (False, True))
    events = check_information(data, of_rows, priors, normal_only=False, of_clusters=of_clusters)
    check_levels(data, variables)
    return events
