"""The part of `JointNormal` that depends on several grouping factors: designs, priors and sampler's tables, names,
description.

Y = X beta + sum_s Z_s B_s + E,   rows of E ~ N(0, Sigma),   vec(B_sg) ~ N(0, Psi_s) for the groups g of factor s
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from bayesimp import priors as pr
from bayesimp.errors import SpecificationError
from bayesimp.events import Event
from bayesimp.formulas.design import DesignMatrices, design
from bayesimp.formulas.formula import Formula
from bayesimp.joint.information import check_information
from bayesimp.joint.levels.factors import GroupingFactor, check_factors, grouping_factors
from bayesimp.joint.levels.gibbs import LevelsTask
from bayesimp.joint.levels.run import LevelsRun
from bayesimp.joint.levels.table import LevelsTable, levels_table
from bayesimp.joint.reference import ReferenceBased, refuse_with_several
from bayesimp.notation import effect_names, in_tree
from bayesimp.priors.describe import describe
from bayesimp.sampling.executors import Executor
from bayesimp.scale.slopes import check_slopes
from bayesimp.table.incomplete import IncompleteData

if TYPE_CHECKING:
    import pymc as pm

    from bayesimp.joint.normal import JointNormal

__all__ = ["SeveralFactors", "several_factors"]

Array = NDArray[np.float64]
MOST_EXPLICIT = 500  # the largest number of group effects that are free variables of the PyMC model


@dataclass(frozen=True)
class SeveralFactors:
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
    responses
        Names of the responses.
    resolved
        Priors in the units of the data: beta, Sigma; Psi of each factor in `Psi_of`.
    working_priors
        These priors on the working scale, except that of beta.
    events
        Events about what depends on the prior alone, and how the formula was read.
    """

    data: IncompleteData
    factors: tuple[GroupingFactor, ...]
    designs: tuple[DesignMatrices, ...]
    table: LevelsTable
    responses: tuple[str, ...]
    resolved: pr.Priors
    working_priors: pr.Priors
    events: list[Event]

    run_type = LevelsRun

    @property
    def labels(self) -> tuple[str, ...]:
        """Labels of the factors: ``"school"``, ``"school:class"``."""
        return tuple(factor.label for factor in self.factors)

    def effects(self, s: int) -> list[str]:
        """Names of the effects of factor s, the rows of Psi_s."""
        return effect_names(list(self.responses), list(self.designs[s].random))

    @property
    def parameter_priors(self) -> dict[str, Any]:
        """Name in the posterior -> its prior on the scale of the data."""
        own = {name_of(label): self.resolved.of_factor(label) for label in self.labels}
        return {"beta": self.resolved.beta, "Sigma": self.resolved.Sigma} | own

    @property
    def is_conjugate(self) -> bool:
        """Whether the Gibbs sampler takes all priors."""
        priors = (self.working_priors.Sigma, *(self.working_priors.of_factor(label) for label in self.labels))
        return all(prior.is_conjugate for prior in priors)

    @property
    def only(self) -> NoReturn:
        """Refused, because there are several factors."""
        self.normal_law("This")

    def normal_law(self, asker: str) -> NoReturn:
        """Refused, because rows of different clusters depend on each other.

        Raises
        ------
        SpecificationError
        """
        raise SpecificationError(
            f"{asker} needs a joint model with one grouping factor; this one has {len(self.labels)} "
            f"({', '.join(self.labels)}): fit JointNormal with (1 | {self.data.cluster}) only."
        )

    @property
    def design(self) -> DesignMatrices:
        """The design of the primary clusters."""
        return self.designs[0]

    @property
    def samplers(self) -> str:
        """The samplers that the model allows, in words."""
        return "gibbs" if self.is_conjugate else "none for these priors; pymc_model() can be sampled"

    def sampler(self, asked: str) -> str:
        """The sampler for "gibbs", "nuts" or "auto": Gibbs.

        Raises
        ------
        SpecificationError
            NUTS was requested, or the Gibbs sampler does not take the priors.
        """
        if asked == "nuts":
            raise SpecificationError(
                "JointNormal with several grouping factors is sampled by Gibbs steps only; its pymc_model() can be "
                "sampled by pymc.sample."
            )
        if not self.is_conjugate:
            raise SpecificationError(
                "JointNormal with several grouping factors is sampled by Gibbs steps, which need conditionally conjugate "
                f"priors (InverseWishart, HuangWand, Diagonal of HalfT or InverseWishart, Fixed); "
                f"'{self.resolved.name}' is not. "
                "Its pymc_model() takes every proper prior, and pymc.sample draws from it."
            )
        return "gibbs"

    def run(
        self, model: JointNormal, sampler: str, seed: int, thin: int, spacing: int, workers: int | None,
        executor: str | Executor | None,
    ) -> LevelsRun:  # fmt: skip
        """A run of the model, not yet started."""
        return LevelsRun(model, seed, thin, spacing, 1, workers=workers, executor=executor)

    def task(self, thin: int, stride: int) -> LevelsTask:
        """The task of running Gibbs iterations, for executors."""
        Psi = tuple(self.working_priors.of_factor(label) for label in self.labels)
        return LevelsTask(
            self.table, self.working_priors.beta, self.working_priors.Sigma, Psi, self.labels, thin, stride
        )

    def Psi(self, flat: Array) -> dict[str, tuple[tuple[str, str], Array]]:
        """Variables of the posterior in the units of the data, from draws (..., flat): name -> (dims, matrices)."""
        at, out = self.table.factors.psi_at, {}
        for s, label in enumerate(self.labels):
            n = len(self.effects(s))
            own = flat[..., at[s] : at[s + 1]].reshape(*flat.shape[:-1], n, n)
            out[name_of(label)] = dims_of(label), self.table.scales[s].Psi(own)
        return out

    def coords(self) -> dict[str, list[str]]:
        """Labels of the dimensions of the posterior."""
        responses = list(self.responses)
        out = {"response": responses, "response_2": responses, "fixed": list(self.designs[0].fixed)}
        for s, label in enumerate(self.labels):
            out |= dict.fromkeys(dims_of(label), self.effects(s))
        return out

    def describe(self) -> list[str]:
        """Lines of the printed model: sizes, random columns, priors."""
        first = self.designs[0]
        groups = ", ".join(f"{len(f.groups):,} {f.label}" for f in self.factors)
        columns = "; ".join(
            f"{label}: {', '.join(made.random)}"
            for label, made in zip(self.labels, self.designs, strict=True)
        )
        lines = [
            f"  {len(first.X):,} rows in groups: {groups}; r = {len(self.responses)} responses, p = {first.X.shape[1]} "
            f"fixed ({', '.join(first.fixed)}), random ({columns})",
            f"  priors '{self.resolved.name}', on the scale of the data:",
            f"    beta: {describe(self.resolved.beta, first.fixed)}",
            f"    Sigma: {describe(self.resolved.Sigma, self.responses)}",
        ]
        for s, label in enumerate(self.labels):
            lines.append(f"    {name_of(label)}: {describe(self.resolved.of_factor(label), self.effects(s))}")
        return lines

    def pymc_model(self) -> pm.Model:
        """The model as a `pymc.Model` in the units of the data (models/joint_normal.py).

        Raises
        ------
        SpecificationError
            The factors after the first have so many groups that the model would be too slow to use.
        """
        from bayesimp.models.joint_normal import FurtherFactor, joint_normal_several

        further = [
            FurtherFactor(
                in_tree(factor.label), made.Z, factor.groups.codes, len(factor.groups),
                self.resolved.of_factor(factor.label), tuple(self.effects(s)),
            )
            for s, (factor, made) in enumerate(zip(self.factors, self.designs, strict=True))
            if s
        ]  # fmt: skip
        explicit = sum(one.groups * one.Z.shape[1] for one in further)
        if explicit > MOST_EXPLICIT:
            raise SpecificationError(
                f"The PyMC model has the effects of all factors but '{self.labels[0]}' as free variables: {explicit:,} "
                f"of each response, more than the {MOST_EXPLICIT} with which it can be sampled. impute() has no such "
                "limit. Otherwise make the factor with most groups the primary one, bi.IncompleteData(table, "
                "cluster=[...])."
            )
        Y = np.column_stack([self.data.numeric(name) for name in self.responses])
        first, clusters = self.designs[0], self.factors[0].groups
        priors = replace(self.resolved, Psi=self.resolved.of_factor(self.labels[0]))
        return joint_normal_several(
            first.X,
            first.Z,
            Y,
            clusters.codes,
            len(clusters),
            priors,
            in_tree(self.labels[0]),
            further,
            self.coords(),
        )


def name_of(label: str) -> str:
    """Name of the covariance of the effects of a factor in the posterior."""
    return f"Psi_{in_tree(label)}"


def dims_of(label: str) -> tuple[str, str]:
    """The dimensions of this covariance."""
    return f"effect_{in_tree(label)}", f"effect_{in_tree(label)}_2"


def several_factors(
    data: IncompleteData, formula: Formula, priors: pr.Priors, reference: ReferenceBased | None
) -> SeveralFactors:
    """The factors of a formula with several random parts, with the data and priors of a model.

    Raises
    ------
    DataError, SpecificationError
        The data do not distinguish the effects of the factors (see `bayesimp.joint.levels.factors`), or a reference is
        given.
    """
    factors = grouping_factors(formula, data)
    responses, labels = formula.responses, [factor.label for factor in factors]
    refuse_with_several(reference, labels)
    primary = name_of(labels[0])
    events = check_information(data, responses, replace(priors, Psi=priors.of_factor(labels[0])), Psi=primary)
    events += check_factors(data, factors, responses, priors)
    designs = tuple(
        design(replace(formula, random=(factor.term,)), data.frame, clusters=data.grouping)
        for factor in factors
    )
    Y = np.column_stack([data.numeric(name) for name in responses])
    table = levels_table(designs, factors, Y, responses, flat=priors.beta.is_flat)
    scale = table.working.scale
    Sigma = pr.resolve(priors.Sigma, scale.s, "Sigma")
    own, working = {}, {}
    for factor, made, units in zip(factors, designs, table.scales, strict=True):
        name = name_of(factor.label)
        prior = units.Psi_prior(priors.of_factor(factor.label), name)
        own[factor.label], working[factor.label] = prior, units.working_Psi_prior(prior)
        Z_c = made.Z @ units.C
        events += check_slopes(prior, units, scale.s, len(factor.groups), name, made.random, Z_c)
    return SeveralFactors(
        data, tuple(factors), designs, table, responses, replace(priors, Sigma=Sigma, Psi_of=own),
        replace(priors, Sigma=pr.rescale(Sigma, scale.s), Psi_of=working), events,
    )  # fmt: skip
