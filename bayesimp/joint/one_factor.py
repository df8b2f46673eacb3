"""The part of `JointNormal` that depends on its one grouping factor: design, working scale, priors, names, description.

Y = X beta + Z B + E,   rows of E ~ N(0, Sigma),   vec(B_g) ~ N(0, Psi) for the groups g

`bayesimp.joint.levels.model.SeveralFactors` has the same interface for several; `JointNormal` uses whichever of the
two applies.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from bayesimp import priors as pr
from bayesimp.errors import SpecificationError
from bayesimp.events import Event
from bayesimp.formulas.design import DesignMatrices, design
from bayesimp.formulas.formula import Formula
from bayesimp.joint.information import check_information
from bayesimp.joint.reference import ReferenceBased, check_reference
from bayesimp.joint.run import JointRun
from bayesimp.joint.scale import Working, prepare
from bayesimp.notation import effect_names
from bayesimp.priors.describe import describe
from bayesimp.sampling.executors import Executor
from bayesimp.scale.slopes import check_slopes
from bayesimp.table.incomplete import IncompleteData

if TYPE_CHECKING:
    import pymc as pm

    from bayesimp.joint.normal import JointNormal

__all__ = ["OneFactor", "one_factor"]


@dataclass(frozen=True)
class OneFactor:
    """The one grouping factor of a model.

    Attributes
    ----------
    data
        The incomplete table.
    responses
        Names of the responses.
    design
        X and Z.
    working
        The table as read by the sampler.
    resolved
        Priors in the units of the data.
    working_priors
        These priors on the working scale, except that of beta.
    events
        Events about what depends on the prior alone.
    """

    data: IncompleteData
    responses: tuple[str, ...]
    design: DesignMatrices
    working: Working
    resolved: pr.Priors
    working_priors: pr.Priors
    events: list[Event]

    run_type = JointRun

    @property
    def labels(self) -> tuple[str, ...]:
        """The label of the factor."""
        return (self.data.cluster,)

    @property
    def only(self) -> Self:
        """The factor, if there is no other."""
        return self

    def normal_law(self, asker: str) -> Self:
        """The factor itself; `asker` is not used."""
        return self

    @property
    def parameter_priors(self) -> dict[str, Any]:
        """Name in the posterior -> its prior on the scale of the data (with slopes: `priors.centred.Centred`)."""
        return {name: getattr(self.resolved, name) for name in ("beta", "Sigma", "Psi")}

    @property
    def is_conjugate(self) -> bool:
        """Whether the Gibbs sampler takes all priors."""
        return self.working_priors.Sigma.is_conjugate and self.working_priors.Psi.is_conjugate

    @property
    def samplers(self) -> str:
        """The samplers that the model allows, in words."""
        return "gibbs (conditionally conjugate) or nuts" if self.is_conjugate else "nuts"

    def sampler(self, asked: str) -> str:
        """The sampler for "gibbs", "nuts" or "auto".

        Raises
        ------
        SpecificationError
            The Gibbs sampler does not take the priors.
        """
        if asked == "gibbs" and not self.is_conjugate:
            raise SpecificationError(
                f"The Gibbs sampler needs conditionally conjugate priors (InverseWishart, HuangWand, Diagonal of "
                f"HalfT or InverseWishart, Fixed); '{self.resolved.name}' is not. Use sampler='nuts'."
            )
        return ("gibbs" if self.is_conjugate else "nuts") if asked == "auto" else asked

    def run(
        self, model: JointNormal, sampler: str, seed: int, thin: int, spacing: int, workers: int | None,
        executor: str | Executor | None,
    ) -> JointRun:  # fmt: skip
        """A run of the model, not yet started."""
        return JointRun(model, sampler, seed, thin, spacing, workers, executor)

    @property
    def effects(self) -> list[str]:
        """Names of the cluster effects, the rows of Psi."""
        return effect_names(list(self.responses), list(self.design.random))

    def coords(self) -> dict[str, list[str]]:
        """Labels of the dimensions of the posterior."""
        responses = list(self.responses)
        return {
            "response": responses, "response_2": responses, "fixed": list(self.design.fixed),
            "effect": self.effects, "effect_2": self.effects,
        }  # fmt: skip

    def describe(self) -> list[str]:
        """Lines of the printed model: sizes, priors."""
        X, Z = self.design.X, self.design.Z
        return [
            f"  {len(X)} rows in {len(self.data.clusters)} clusters; r = {len(self.responses)} responses, "
            f"p = {X.shape[1]} fixed ({', '.join(self.design.fixed)}), "
            f"q = {Z.shape[1]} random ({', '.join(self.design.random)})",
            f"  priors '{self.resolved.name}', on the scale of the data:",
            f"    beta: {describe(self.resolved.beta, self.design.fixed)}",
            f"    Sigma: {describe(self.resolved.Sigma, self.responses)}",
            f"    Psi: {describe(self.resolved.Psi, self.effects)}",
        ]

    def diagonal(self) -> Working:
        """The table on a scale on which independent priors of the entries of beta remain independent."""
        return _working(
            self.data, self.responses, self.design, flat=self.resolved.beta.is_flat, orthogonal=False
        )

    def pymc_model(self) -> pm.Model:
        """The model as a `pymc.Model` in the units of the data (models/joint_normal.py)."""
        from bayesimp.kernels.normal.statistics import collect
        from bayesimp.models.joint_normal import joint_normal

        Y = np.column_stack([self.data.numeric(name) for name in self.responses])
        statistics = collect(self.design.X, self.design.Z, Y, self.data.codes, len(self.data.clusters))
        return joint_normal(statistics, self.resolved, self.coords())


def one_factor(
    data: IncompleteData, formula: Formula, priors: pr.Priors, reference: ReferenceBased | None
) -> OneFactor:
    """The grouping factor of a formula with one random part, with the data and priors of a model.

    Raises
    ------
    DataError, SpecificationError
        The observed cells do not identify the model; see `bayesimp.joint.information`.
    """
    responses = formula.responses
    made = design(formula, data.frame, clusters=data.grouping)
    events = check_information(data, responses, priors)
    if reference is not None:
        events += check_reference(reference, data, formula, made)
    working = _working(data, responses, made, flat=priors.beta.is_flat)
    scale = working.scale
    Sigma = pr.resolve(priors.Sigma, scale.s, "Sigma")
    Psi = scale.Psi_prior(priors.Psi, "Psi")
    events += check_slopes(Psi, scale, scale.s, len(data.clusters), "Psi", made.random, made.Z @ scale.C)
    return OneFactor(
        data, responses, made, working, replace(priors, Sigma=Sigma, Psi=Psi),
        replace(priors, Sigma=pr.rescale(Sigma, scale.s), Psi=scale.working_Psi_prior(Psi)), events,
    )  # fmt: skip


def _working(
    data: IncompleteData,
    responses: tuple[str, ...],
    made: DesignMatrices,
    *,
    flat: bool,
    orthogonal: bool = True,
) -> Working:
    Y = np.column_stack([data.numeric(name) for name in responses])
    names = responses, made.fixed, made.random_terms
    return prepare(
        made.X, made.Z, Y, data.codes, len(data.clusters), *names, flat=flat, orthogonal=orthogonal
    )
