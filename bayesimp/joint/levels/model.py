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
from bayesimp.formulas.formula import Formula
from bayesimp.joint.information import check_information
from bayesimp.joint.levels.designs import FactorDesigns, designs_of, dims_of, matrices, name_of
from bayesimp.joint.levels.factors import check_factors, grouping_factors
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
MAKE_PRIMARY = (
    " Otherwise make the factor with most groups the primary one, bi.IncompleteData(table, cluster=[...])."
)


@dataclass(frozen=True)
class SeveralFactors(FactorDesigns):
    """The grouping factors of a `JointNormal`.

    Attributes
    ----------
    data, factors, designs
        See `FactorDesigns`.
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

    table: LevelsTable
    responses: tuple[str, ...]
    resolved: pr.Priors
    working_priors: pr.Priors
    events: list[Event]

    run_type = LevelsRun

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
        sizes = [len(effects) for _, effects in self.covariances]
        own = zip(self.labels, self.table.scales, matrices(flat, self.table.factors, sizes), strict=True)
        return {name_of(label): (dims_of(label), scale.Psi(Psi)) for label, scale, Psi in own}

    def coords(self) -> dict[str, list[str]]:
        """Labels of the dimensions of the posterior."""
        responses = list(self.responses)
        own = {"response": responses, "response_2": responses, "fixed": list(self.design.fixed)}
        return own | self.effect_coords()

    def describe(self) -> list[str]:
        """Lines of the printed model: sizes, random columns, priors."""
        priors = self.parameter_priors
        return [
            f"  {', '.join(self.in_words(f'r = {len(self.responses)} responses'))}",
            f"  priors '{self.resolved.name}', on the scale of the data:",
            f"    beta: {describe(priors['beta'], self.design.fixed)}",
            f"    Sigma: {describe(priors['Sigma'], self.responses)}",
            *(f"    {name}: {describe(priors[name], effects)}" for name, effects in self.covariances),
        ]

    def pymc_model(self) -> pm.Model:
        """The model as a `pymc.Model` in the units of the data (models/joint_normal.py).

        Raises
        ------
        SpecificationError
            The factors after the first have so many groups that the model would be too slow to use.
        """
        from bayesimp.models.joint_normal import joint_normal_several

        self.refuse_many(1, "response", MAKE_PRIMARY)
        Y = np.column_stack([self.data.numeric(name) for name in self.responses])
        first, clusters = self.design, self.factors[0].groups
        priors = replace(self.resolved, Psi=self.resolved.of_factor(self.labels[0]))
        return joint_normal_several(
            first.X,
            first.Z,
            Y,
            clusters.codes,
            len(clusters),
            priors,
            in_tree(self.labels[0]),
            self.further(self.resolved),
            self.coords(),
        )


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
    designs = designs_of(formula, factors, data)
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
