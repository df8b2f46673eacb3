"""The joint multilevel normal imputation model (Schafer & Yucel 2002; Kunkel & Kaizar 2017, eq. 1-3).

Y_i = X_i beta + Z_i B_i + E_i,   rows of E_i ~ N(0, Sigma),   vec(B_i) ~ N(0, Psi)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from bayesimp import priors as pr
from bayesimp.arguments import new_seed
from bayesimp.contract import Contents, Shift, register
from bayesimp.errors import SpecificationError
from bayesimp.events import Event
from bayesimp.formulas.design import DesignMatrices, design
from bayesimp.imputation.result import Imputations
from bayesimp.joint.contents import contents
from bayesimp.joint.formula_model import FormulaModel
from bayesimp.joint.information import check_information
from bayesimp.joint.levels.factors import GroupingFactor
from bayesimp.joint.levels.model import SeveralFactors, several_factors
from bayesimp.joint.levels.run import impute_levels
from bayesimp.joint.options import draws_per_imputation
from bayesimp.joint.reference import ReferenceBased, check_reference
from bayesimp.joint.run import JointRun
from bayesimp.joint.scale import Working, prepare
from bayesimp.joint.storage import specification_of
from bayesimp.notation import effect_names
from bayesimp.priors.describe import describe
from bayesimp.progress import progress_bar
from bayesimp.sampling.executors import Executor, read_executor
from bayesimp.scale.effects import check_origin
from bayesimp.scale.margins import alike
from bayesimp.table.incomplete import IncompleteData
from bayesimp.table.other_levels import other_groupings

if TYPE_CHECKING:
    import pymc as pm
    import xarray as xr

__all__ = ["JointNormal"]

Sampler = Literal["auto", "gibbs", "nuts"]


@register
class JointNormal(FormulaModel):
    """Joint multilevel normal model of all variables on the left-hand side of a formula.

    Parameters
    ----------
    data
        The incomplete table.
    formula
        ``"y1 + y2 ~ x + (1 + x | cluster)"``: responses (all variables to be imputed, and any complete variable that
        should inform them), fixed effects, and one random part. Variables on the right-hand side must be complete.
        Several random parts, ``(1 | school) + (1 | class)`` or ``(1 | school/class)``, are for the cluster columns of
        the data.
    priors
        Records of `bayesimp.priors`, or the name of a preset (``"default"``, ``"pan"``, ``"mice"``, ``"jomo"``); the
        default scales with the data.
    shift
        Numbers added to the imputed values of responses (see `bayesimp.contract.Shift`); None: nothing.
    reference
        Values after drop-out like those of a reference arm (`bayesimp.ReferenceBased`); None: at random.

    Raises
    ------
    DataError, SpecificationError
        The data cannot support the model; the message names variable, cluster and number of rows.

    Notes
    -----
    `bi.JointLatent` is the same model where all variables are normal, and has two things that this class does not:
    cluster-level variables among the responses, and a residual covariance in each cluster (``residual="cluster"``).

    Examples
    --------
    >>> model = bi.JointNormal(data, "written + course ~ gender + (1 | school)")    # doctest: +SKIP
    >>> imp = model.impute(m=60, seed=1)                                            # doctest: +SKIP
    """

    run_type = JointRun
    takes_several_factors = True

    def __init__(
        self,
        data: IncompleteData,
        formula: str,
        priors: pr.Priors | str | None = None,
        *,
        shift: Shift | None = None,
        reference: ReferenceBased | None = None,
    ) -> None:
        super().__init__(data, formula, priors, shift=shift)
        self.reference = reference
        self.several: SeveralFactors | None = None
        if self.grouping_factors:
            _refuse_reference(reference, self.grouping_factors)
            self.several = several_factors(data, self.formula, self.grouping_factors, self.priors)
            self.design: DesignMatrices = self.several.designs[0]
            self.events: list[Event] = [*self.several.events, *other_groupings(data, self.formula.groups)]
            return
        self.design = design(self.formula, data.frame, clusters=data.grouping)
        self.events = check_information(self.data, self.responses, self.priors)
        if reference is not None:
            self.events += check_reference(self, reference)
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
        self.events += other_groupings(data, self.formula.groups)

    def _further(self) -> dict[str, Any]:
        return {"reference": self.reference}

    def _records(self) -> dict[str, Any]:
        return {} if self.reference is None else {"reference": self.reference.to_record()}

    @classmethod
    def _read(cls, records: Mapping[str, Any]) -> dict[str, Any]:
        reference = records.get("reference")
        return {} if reference is None else {"reference": ReferenceBased(**reference)}

    def shift_of(self, data: IncompleteData) -> np.ndarray:
        """(n, r) numbers that move the responses in the rows of a table."""
        return np.hstack([self.shift.rows(name, data) for name in self.responses])

    @property
    def mean_shift(self) -> np.ndarray:
        """(m, r) mean of these numbers over the missing values of each cluster, 0 where there are none."""
        missing = np.column_stack([self.data.missing(name) for name in self.responses])
        return _cluster_means(self.shift_of(self.data), missing, self.data.codes, len(self.data.clusters))

    @classmethod
    def saved_specification(cls, attrs: Mapping[str, Any], state: xr.Dataset) -> dict[str, Any]:
        """The specification stored in a file."""
        return specification_of(attrs, state)

    def contents(self) -> dict[str, Contents]:
        """The conditional models that the joint one implies."""
        return contents(self.formula)

    def check_options(self, **options: Any) -> None:
        """Refuse a sampler that does not take the priors, or not several grouping factors."""
        self._sampler(options.get("sampler", "auto"))

    @property
    def parameter_priors(self) -> dict[str, Any]:
        """Name in the posterior -> its prior on the scale of the data (with slopes: `priors.centred.Centred`)."""
        if self.several is not None:
            return self.several.parameter_priors
        return {name: getattr(self._resolved, name) for name in ("beta", "Sigma", "Psi")}

    def _prepare(self, orthogonal: bool = True) -> Working:
        Y = np.column_stack([self.data.numeric(name) for name in self.responses])
        X, Z, codes, m = self.design.X, self.design.Z, self.data.codes, len(self.data.clusters)
        flat = self.priors.beta.is_flat
        names = self.responses, self.design.fixed, self.design.random_terms
        return prepare(X, Z, Y, codes, m, *names, flat=flat, orthogonal=orthogonal)

    @property
    def effects(self) -> list[str]:
        """Names of the cluster effects, the rows of Psi; with several grouping factors, of the primary clusters."""
        return effect_names(list(self.responses), list(self.design.random))

    @cached_property
    def is_conjugate(self) -> bool:
        """Whether the Gibbs sampler can be used."""
        if self.several is not None:
            return self.several.is_conjugate
        return self._working_priors.Sigma.is_conjugate and self._working_priors.Psi.is_conjugate

    def __repr__(self) -> str:
        lines = [
            f"JointNormal: {self.formula}",
            *(self._describe() if self.several is None else self.several.describe()),
            *(f"  {line}" for line in self.shift.describe()),
            *([] if self.reference is None else [f"  {self.reference}"]),
            f"  sampler: {self._samplers()}",
            *(f"  note: {event.message}" for event in self.events),
        ]
        return "\n".join(lines)

    def _describe(self) -> list[str]:
        X, Z = self.design.X, self.design.Z
        return [
            f"  {len(X)} rows in {len(self.data.clusters)} clusters; r = {len(self.responses)} responses, "
            f"p = {X.shape[1]} fixed ({', '.join(self.design.fixed)}), "
            f"q = {Z.shape[1]} random ({', '.join(self.design.random)})",
            f"  priors '{self.priors.name}', on the scale of the data:",
            f"    beta: {describe(self._resolved.beta, self.design.fixed)}",
            f"    Sigma: {describe(self._resolved.Sigma, self.responses)}",
            f"    Psi: {describe(self._resolved.Psi, self.effects)}",
        ]

    def _samplers(self) -> str:
        if self.several is not None:
            return "gibbs" if self.is_conjugate else "none for these priors; pymc_model() can be sampled"
        return "gibbs (conditionally conjugate) or nuts" if self.is_conjugate else "nuts"

    def pymc_model(self) -> pm.Model:
        """The model as a `pymc.Model` in the units of the data, missing values and effects integrated out.

        With several grouping factors, the effects of those after the first are variables of the model.
        """
        if self.several is not None:
            return self.several.pymc_model(self.data)
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
        tune = (200 if chosen == "gibbs" else 500) if tune is None else tune
        if self.several is not None:
            return impute_levels(
                self, seed, thin, spacing, m, chains, tune, draws, workers, executor, progress
            )
        run = JointRun(self, chosen, seed, thin, spacing=spacing, workers=workers, executor=executor)
        with progress_bar(progress) as report:
            run.start(chains, tune, draws, report)
            kept = run.draws
            if (
                kept.chains * kept.draws < chains * draws
            ):  # interrupted: as many as can be, from what there is
                run.spacing = max(kept.draws // -(-m // kept.chains), 1)
            return run.imputations(m)

    def _sampler(self, sampler: str) -> str:
        if sampler not in ("auto", "gibbs", "nuts"):
            raise SpecificationError(f"sampler must be 'auto', 'gibbs' or 'nuts', got {sampler!r}.")
        if self.several is not None:
            self.several.check_sampler(sampler, self.priors.name)
            return "gibbs"
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


def _cluster_means(values: np.ndarray, counted: np.ndarray, codes: np.ndarray, m: int) -> np.ndarray:
    """(m, r) means of the columns of values (n, r) over the rows of each cluster that are counted (n, r)."""
    total = np.column_stack([np.bincount(codes, v * c, m) for v, c in zip(values.T, counted.T, strict=True)])
    count = np.column_stack([np.bincount(codes, c, m) for c in counted.T])
    return total / np.maximum(count, 1)


def _refuse_reference(reference: ReferenceBased | None, factors: Sequence[GroupingFactor]) -> None:
    if reference is not None:
        raise SpecificationError(
            f"reference: not with several grouping factors ({', '.join(factor.label for factor in factors)}). "
            "Give the formula one random part, or leave reference out."
        )
