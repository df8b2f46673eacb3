"""The joint multilevel normal imputation model (Schafer & Yucel 2002; Kunkel & Kaizar 2017, eq. 1-3).

Y_i = X_i beta + Z_i B_i + E_i,   rows of E_i ~ N(0, Sigma),   vec(B_i) ~ N(0, Psi)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np

from bayesimp import priors as pr
from bayesimp.arguments import new_seed
from bayesimp.contract import CodeNotInFile, Contents, ImputationModel, Shift, register
from bayesimp.errors import SpecificationError
from bayesimp.events import Event
from bayesimp.formulas.design import DesignMatrices, design
from bayesimp.formulas.formula import Formula, parse
from bayesimp.imputation.result import Imputations
from bayesimp.joint.contents import call_with, contents
from bayesimp.joint.information import check_information
from bayesimp.joint.options import draws_per_imputation
from bayesimp.joint.run import JointRun
from bayesimp.joint.scale import Working, prepare
from bayesimp.joint.storage import specification_of
from bayesimp.notation import effect_names
from bayesimp.priors.describe import describe
from bayesimp.priors.records import priors_from_dict, priors_to_dict
from bayesimp.progress import progress_bar
from bayesimp.sampling.executors import Executor, read_executor
from bayesimp.scale.effects import check_origin
from bayesimp.scale.margins import alike
from bayesimp.table.incomplete import IncompleteData

if TYPE_CHECKING:
    import pymc as pm
    import xarray as xr

__all__ = ["JointNormal", "checked_formula"]

MOST_RESPONSES = 62  # a pattern of missing values is one integer of 64 bits
Sampler = Literal["auto", "gibbs", "nuts"]


@register
class JointNormal(ImputationModel):
    """Joint multilevel normal model of all variables on the left-hand side of a formula.

    Parameters
    ----------
    data
        The incomplete table.
    formula
        ``"y1 + y2 ~ x + (1 + x | cluster)"``: responses (all variables to be imputed, and any complete variable that
        should inform them), fixed effects, and one random part. Variables on the right-hand side must be complete.
    priors
        Records of `bayesimp.priors`, or the name of a preset (``"default"``, ``"pan"``, ``"mice"``, ``"jomo"``); the
        default scales with the data.
    shift
        Numbers added to the imputed values of responses (see `bayesimp.contract.Shift`); None: nothing.

    Raises
    ------
    DataError, SpecificationError
        The data cannot support the model; the message names variable, cluster and number of rows.

    Notes
    -----
    `bi.JointLatent` is the same model where all variables are normal, and has two things that this class does not:
    variables of clusters among the responses, and a residual covariance in each cluster (``residual="cluster"``).

    Examples
    --------
    >>> model = bi.JointNormal(data, "written + course ~ gender + (1 | school)")    # doctest: +SKIP
    >>> imp = model.impute(m=60, seed=1)                                            # doctest: +SKIP
    """

    run_type = JointRun

    def __init__(
        self,
        data: IncompleteData,
        formula: str,
        priors: pr.Priors | str | None = None,
        *,
        shift: Shift | None = None,
    ) -> None:
        if not isinstance(data, IncompleteData):
            raise SpecificationError(
                f"JointNormal takes IncompleteData, got {type(data).__name__}: bi.IncompleteData(table, cluster='...')."
            )
        if not isinstance(formula, str):
            raise SpecificationError(
                f"The formula of a joint model is text, such as 'y1 + y2 ~ x + (1 | {data.cluster})'; got {formula!r}."
            )
        self.data = data
        self.formula = checked_formula(parse(formula), data)
        self.priors = (pr.default() if priors is None else pr.read(priors)).without_contextual()
        self.shift = (Shift() if shift is None else shift).checked(self.responses)
        self.design: DesignMatrices = design(self.formula, data.frame, clusters=data.grouping)
        self.events: list[Event] = check_information(self.data, self.responses, self.priors)
        self._working = self._prepare()
        scale = self._working.scale
        Sigma = pr.resolve(self.priors.Sigma, scale.s, "Sigma")
        Psi = scale.Psi_prior(self.priors.Psi, "Psi")
        self._resolved = replace(self.priors, Sigma=Sigma, Psi=Psi)
        self._working_priors = replace(
            self.priors, Sigma=pr.rescale(Sigma, scale.s), Psi=scale.working_Psi_prior(Psi)
        )
        self.events += check_origin(Psi, scale, scale.s, len(data.clusters), "Psi", self.design.random)
        self.events += alike(self.design.Z @ scale.C, self.design.random, "Psi")

    def with_priors(self, priors: pr.Priors | str) -> JointNormal:
        """The same data and formula under other priors."""
        return JointNormal(self.data, self.formula.text, priors, shift=self.shift)

    def specification(self) -> dict[str, Any]:
        """Formula and priors as plain records, from which `bayesimp.load` rebuilds the model."""
        shift = {"shift": dict(self.shift.by)} if self.shift else {}
        return {"formula": self.formula.text, "priors": priors_to_dict(self.priors), **shift}

    @classmethod
    def from_specification(
        cls,
        data: IncompleteData,
        specification: Mapping[str, Any],
        functions: Mapping[str, Callable] | None = None,
    ) -> Self:
        """The model that `specification` described; it has no functions of the user's.

        Raises
        ------
        CodeNotInFile
            A prior is of a class that this session has not defined.
        """
        try:
            priors = priors_from_dict(specification["priors"])
        except CodeNotInFile:
            raise
        except SpecificationError as error:  # a file from before modules were named
            raise CodeNotInFile(f"{error} If it is a class of your own, import its module first") from None
        return cls(data, specification["formula"], priors, shift=Shift(specification.get("shift", {})))

    @classmethod
    def saved_specification(cls, attrs: Mapping[str, Any], state: xr.Dataset) -> dict[str, Any]:
        """The specification stored in a file."""
        return specification_of(attrs, state)

    def contents(self) -> dict[str, Contents]:
        """The conditional models that the joint one implies."""
        return contents(self.formula)

    def call_with(
        self,
        fixed: Mapping[str, Sequence[str]],
        random: Mapping[str, Sequence[str]],
        clusters: Sequence[str] = (),
        variances: Sequence[str] = (),
    ) -> str:
        """The call with further terms: of FCS, where a joint normal model has no place for them."""
        return call_with(self, fixed, random, variances)

    def check_options(self, **options: Any) -> None:
        """Refuse a sampler that does not take the priors."""
        self._sampler(options.get("sampler", "auto"))

    @property
    def parameter_priors(self) -> dict[str, Any]:
        """Name in the posterior -> its prior on the scale of the data (with slopes: `priors.centred.Centred`)."""
        return {name: getattr(self._resolved, name) for name in ("beta", "Sigma", "Psi")}

    def _prepare(self, orthogonal: bool = True) -> Working:
        Y = np.column_stack([self.data.numeric(name) for name in self.responses])
        X, Z, codes, m = self.design.X, self.design.Z, self.data.codes, len(self.data.clusters)
        flat = self.priors.beta.is_flat
        names = self.responses, self.design.fixed, self.design.random_terms
        return prepare(X, Z, Y, codes, m, *names, flat=flat, orthogonal=orthogonal)

    @property
    def responses(self) -> tuple[str, ...]:
        """The variables on the left-hand side of the formula."""
        return self.formula.responses

    @property
    def effects(self) -> list[str]:
        """Names of the cluster effects, the rows of Psi."""
        return effect_names(list(self.responses), list(self.design.random))

    @cached_property
    def is_conjugate(self) -> bool:
        """Whether the Gibbs sampler can be used."""
        return self._working_priors.Sigma.is_conjugate and self._working_priors.Psi.is_conjugate

    def __repr__(self) -> str:
        X, Z = self.design.X, self.design.Z
        lines = [
            f"JointNormal: {self.formula}",
            f"  {len(X)} rows in {len(self.data.clusters)} clusters; r = {len(self.responses)} responses, "
            f"p = {X.shape[1]} fixed ({', '.join(self.design.fixed)}), "
            f"q = {Z.shape[1]} random ({', '.join(self.design.random)})",
            f"  priors '{self.priors.name}', on the scale of the data:",
            f"    beta: {describe(self._resolved.beta, self.design.fixed)}",
            f"    Sigma: {describe(self._resolved.Sigma, self.responses)}",
            f"    Psi: {describe(self._resolved.Psi, self.effects)}",
            *(f"  {line}" for line in self.shift.describe()),
            f"  sampler: {'gibbs (conditionally conjugate) or nuts' if self.is_conjugate else 'nuts'}",
            *(f"  note: {event.message}" for event in self.events),
        ]
        return "\n".join(lines)

    def pymc_model(self) -> pm.Model:
        """The model as a `pymc.Model` in the units of the data, missing values and effects integrated out."""
        from bayesimp.kernels.normal.statistics import collect
        from bayesimp.models.joint_normal import joint_normal

        Y = np.column_stack([self.data.numeric(name) for name in self.responses])
        statistics = collect(self.design.X, self.design.Z, Y, self.data.codes, len(self.data.clusters))
        return joint_normal(statistics, self._resolved, self._coords())

    def impute(
        self,
        m: int = 20,
        *,
        seed: int | None = None,
        chains: int = 4,
        tune: int | None = None,
        draws: int = 1000,
        thin: int = 1,
        sampler: Sampler = "auto",
        workers: int | None = None,
        executor: str | Executor | None = None,
        progress: bool | None = None,
    ) -> Imputations:
        """Draw from the posterior and impute.

        Parameters
        ----------
        m
            Number of completed tables, taken from draws evenly spaced over all chains.
        seed
            The same seed gives the same result, whatever `workers` and the order of the rows. None: drawn and recorded.
        chains, tune, draws, thin
            Number of independent chains; iterations discarded at their start (default 200 for Gibbs, 500 for NUTS); draws
            kept per chain, every `thin`-th.
        sampler
            "gibbs" (conditionally conjugate priors), "nuts" (every prior), "auto": gibbs where possible.
        workers, executor
            Number of chains run at a time, and where: "threads" (None), "processes", "serial", or an executor of
            `bayesimp.sampling.executors`. NUTS runs its chains itself.
        progress
            Whether to show a progress bar. None: for runs of over a second if the output is a terminal.

        Raises
        ------
        SpecificationError
            The sampler does not take the prior, or m, chains, ... are out of range.
        SamplingError
            The run was interrupted before the first imputation, or a chain failed.

        Notes
        -----
        A run that is interrupted (Ctrl-C) once sampling has begun keeps its draws, with an event; all chains are cut to
        the same length, and `extend` continues from there. A third Ctrl-C ends the run at once.
        """
        chosen = self._sampler(sampler)
        spacing = draws_per_imputation(m, chains, thin, draws)
        seed = new_seed() if seed is None else int(seed)
        read_executor(executor, workers)
        run = JointRun(self, chosen, seed, thin, spacing=spacing, workers=workers, executor=executor)
        with progress_bar(progress) as report:
            run.start(chains, (200 if chosen == "gibbs" else 500) if tune is None else tune, draws, report)
            kept = run.draws
            if (
                kept.chains * kept.draws < chains * draws
            ):  # interrupted: as many as can be, from what there is
                run.spacing = max(kept.draws // -(-m // kept.chains), 1)
            return run.imputations(m)

    def _sampler(self, sampler: str) -> str:
        if sampler not in ("auto", "gibbs", "nuts"):
            raise SpecificationError(f"sampler must be 'auto', 'gibbs' or 'nuts', got {sampler!r}.")
        if sampler == "gibbs" and not self.is_conjugate:
            raise SpecificationError(
                f"The Gibbs sampler needs conditionally conjugate priors (InverseWishart, HuangWand, Diagonal of "
                f"HalfT or InverseWishart, Fixed); '{self.priors.name}' is not. Use sampler='nuts'."
            )
        return ("gibbs" if self.is_conjugate else "nuts") if sampler == "auto" else sampler

    def _coords(self) -> dict[str, list[str]]:
        responses = list(self.responses)
        return {
            "response": responses, "response_2": responses, "fixed": list(self.design.fixed),
            "effect": self.effects, "effect_2": self.effects,
        }  # fmt: skip


def checked_formula(formula: Formula, data: IncompleteData) -> Formula:
    """The parsed formula, if the joint model can take it."""
    if not formula.responses:
        raise SpecificationError(
            f"'{formula}' has no response: write the variables to impute on the left of ~, joined by +."
        )
    if len(formula.responses) > MOST_RESPONSES:
        raise SpecificationError(
            f"{len(formula.responses)} responses: a joint model takes {MOST_RESPONSES} at most. Take complete ones "
            "to the right side, or impute variable by variable with FCS."
        )
    if not formula.single_grouping:
        raise SpecificationError(
            f"'{formula}' needs one random part, (1 | {data.cluster}) at the least; the joint model has one level "
            "of clusters, without crossed or nested ones."
        )
    if formula.cluster != data.cluster:
        raise SpecificationError(
            f"'{formula}' groups by '{formula.cluster}', the data by '{data.cluster}'; they must be the same."
        )
    if formula.independent:
        raise SpecificationError(
            f"'{formula}': || is not supported; use priors.Diagonal(...) as the prior of Psi."
        )
    return formula
