"""The joint multilevel normal model on latent normals (Schafer & Yucel 2002 with probit parts).

Y*_i = X_i beta + Z_i B_i + E_i,   rows of E_i ~ N(0, Sigma),   vec(B_i) ~ N(0, Psi)

Normal variables are columns of Y* themselves; for binary and ordinal variables a column is cut into levels; the level of
a nominal variable is that of its largest utility. Given the latent values of observed levels this is `JointNormal` with
missing cells.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

from bayesimp import priors as pr
from bayesimp.arguments import new_seed
from bayesimp.contract import Contents, Shift, register
from bayesimp.errors import SpecificationError
from bayesimp.events import Event
from bayesimp.formulas.design import DesignMatrices
from bayesimp.imputation.result import Imputations
from bayesimp.joint.contents import contents
from bayesimp.joint.formula_model import FormulaModel, one_variance
from bayesimp.joint.latent.levels.model import SeveralLatentFactors, several_latent_factors
from bayesimp.joint.latent.one_factor import OneLatentFactor, one_latent_factor
from bayesimp.joint.latent.run import LatentRun
from bayesimp.joint.latent.variables import (
    LatentVariable,
    checked_residual,
    latent_variables,
)
from bayesimp.joint.levels.factors import grouping_factors
from bayesimp.joint.options import draws_per_imputation
from bayesimp.joint.reference import ReferenceBased, refuse_with_several
from bayesimp.kernels.latent.records import NUMBER, THRESHOLD, UTILITY
from bayesimp.kinds import checks_arguments
from bayesimp.priors.describe import describe
from bayesimp.sampling.executors import Executor, read_executor
from bayesimp.table.incomplete import IncompleteData
from bayesimp.table.other_levels import other_groupings

if TYPE_CHECKING:
    import pymc as pm
    import xarray as xr

__all__ = ["JointLatent"]


@checks_arguments
@register
class JointLatent(FormulaModel):
    """Joint model of normal, binary, ordinal and nominal variables, on latent normals.

    Parameters
    ----------
    data
        The incomplete table, whose families say how each variable is modelled.
    formula
        As for `JointNormal`: ``"y1 + ill + grade ~ x + (1 | cluster)"``. Variables on the right-hand side must be
        complete. Several random parts, ``(1 | school) + (1 | class)`` or ``(1 | school/class)``, must be cluster columns
        of the data.
    priors
        Records of `bayesimp.priors`, or the name of a preset. The prior of Sigma is conditioned on its fixed entries:
        residual variances of latent variables are 1, and covariances of utilities of the same variable 1/2. If that of
        beta is flat, the coefficients of latent variables have `priors.Weak()`. Increments between cutpoints are
        exponential with mean 1. If cluster-level variables have levels, the prior of Psi is conditioned on their entries
        in the same way. Cluster-level variables have the prior of beta, on the columns that are constant within clusters.
    residual
        ``"common"``: one residual covariance Sigma; ``"cluster"``: one for each cluster, Sigma_i ~ inverse-Wishart about
        Sigma (Yucel 2011), with the covariance of latent variables equal to that of Sigma in every cluster.
    shift
        Numbers added to imputed values of normal variables and to imputed latent values of other variables (see
        `bayesimp.contract.Shift`); None: nothing.
    reference
        Imputation after drop-out by reference to another arm, on the scale of the latent normals
        (`bayesimp.ReferenceBased`); None: at random. The run then keeps the effects of every cluster.

    Raises
    ------
    DataError, SpecificationError
        The data cannot support the model, or a family has no latent normal; the message names variable, cluster and rows.

    Notes
    -----
    The first level of a nominal variable is its reference. A variable on the left side with a single value in each
    cluster is a cluster-level variable: it covaries with the cluster effects (Psi) and is imputed once per cluster. With
    several grouping factors the same holds for the groups of each: a variable of classes is imputed once per class.

    Examples
    --------
    >>> model = bi.JointLatent(data, "written + passed + grade ~ gender + (1 | school)")    # doctest: +SKIP
    >>> imp = model.impute(m=20, seed=1)                                                    # doctest: +SKIP
    """

    run_type = LatentRun
    takes_several_factors = True

    def __init__(
        self,
        data: IncompleteData,
        formula: str,
        priors: pr.Priors | str | None = None,
        *,
        residual: Literal["common", "cluster"] = "common",
        shift: Shift | None = None,
        reference: ReferenceBased | None = None,
    ) -> None:
        super().__init__(data, formula, priors, shift=shift)
        self.reference = reference
        factors = grouping_factors(self.formula, data) if len(self.formula.random) > 1 else ()
        groups = {f.label: f.groups for f in factors} or {data.cluster: data.grouping}
        self.variables: tuple[LatentVariable, ...] = latent_variables(data, self.responses, groups)
        self.residual = checked_residual(residual, self.variables, len(groups))
        declared = data, self.formula, self.priors, self.variables
        self.grouping: OneLatentFactor | SeveralLatentFactors
        if factors:
            refuse_with_several(reference, [factor.label for factor in factors])
            self.grouping = several_latent_factors(*declared, factors, self.shift)
        else:
            self.grouping = one_latent_factor(*declared, self.shift, self.residual, reference)
        self.events: list[Event] = [
            *self.grouping.events, *other_groupings(data, self.formula.groups),
            *data.missing_codes([*self.formula.responses, *self.formula.variables]),
        ]  # fmt: skip
        if self.residual == "common":
            numbers = [v.name for v in self.variables if v.kind == NUMBER and not v.of_clusters]
            self.events += one_variance(self.formula, data, numbers)

    @property
    def design(self) -> DesignMatrices:
        """X and Z; with several grouping factors, of the primary clusters."""
        return self.grouping.design

    @property
    def table(self) -> Any:
        """The table as read by the sampler: a `LatentTable`, or with several grouping factors a `LatentLevelsTable`."""
        return self.grouping.table

    @property
    def effects(self) -> list[str]:
        """Names of the cluster effects, then those of the cluster-level variables: the rows of Psi.

        With several grouping factors, of the primary clusters.
        """
        return self.grouping.effects()

    @cached_property
    def parameter_priors(self) -> dict[str, Any]:
        """Name in the posterior -> its prior on the scale of the data; for beta, the prior for normal variables."""
        return self.grouping.parameter_priors

    def _further(self) -> dict[str, Any]:
        return {"residual": self.residual, "reference": self.reference}

    def _records(self) -> dict[str, Any]:
        own = {} if self.reference is None else {"reference": self.reference.to_record()}
        return {"residual": self.residual} | own

    @classmethod
    def _read(cls, records: Mapping[str, Any]) -> dict[str, Any]:
        reference = records.get("reference")
        return {
            "residual": records.get("residual", "common"),
            "reference": None if reference is None else ReferenceBased(**reference),
        }

    def shift_link(self, name: str) -> str:
        """The scale on which a shift moves a response."""
        kind = next(variable.kind for variable in self.variables if variable.name == name)
        return {NUMBER: "identity", THRESHOLD: "probit", UTILITY: "utility"}[kind]

    @classmethod
    def saved_specification(cls, attrs: Mapping[str, Any], state: xr.Dataset) -> dict[str, Any]:
        """The specification as a file holds it."""
        return json.loads(attrs["specification"])

    def contents(self) -> dict[str, Contents]:
        """The conditional models that the joint model implies."""
        numbers = {variable.name for variable in self.variables if variable.kind == NUMBER}
        of_clusters = [v.name for v in self.variables if v.of_clusters]
        own = self.residual == "cluster"
        return {
            name: replace(
                each,
                is_normal=name in numbers,
                own_variances=own and name in numbers and name not in of_clusters,
            )
            for name, each in contents(self.formula, of_clusters).items()
        }

    def restored(self, tree: xr.DataTree, state: xr.Dataset) -> LatentRun:
        """A run of this model restored from a file."""
        return self.grouping.run_type.restore(self, tree, state)

    def check_options(self, **options: Any) -> None:
        """Refuse a sampler that this model does not have."""
        _check_sampler(options.get("sampler", "auto"))

    def _said(self) -> str:
        p, fixed = self.parameter_priors, self.design.fixed
        latent = [v.name for v in self.variables if v.kind != NUMBER]
        own = self.priors.beta.for_generalised()
        weak = f"; of {', '.join(latent)}: {describe(own, fixed)}" if latent and own != p["beta"] else ""
        lines = [
            f"JointLatent: {self.formula}",
            *self.grouping.describe_sizes(),
            f"  priors '{self.priors.name}', on the scale of the data:",
            f"    beta: {describe(p['beta'], fixed)}{weak}",
            f"    Sigma: {describe(p['Sigma'], self.table.labels)}",
            *(f"    {name}: {describe(p[name], effects)}" for name, effects in self.grouping.covariances),
            *(f"  {line}" for line in self.shift.describe(lambda name: name in latent)),
            *([] if self.reference is None else [f"  {self.reference.words}"]),
            *(f"  note: {event.message}" for event in self.events),
        ]
        return "\n".join(lines)

    def pymc_model(self) -> pm.Model:
        """The model as a `pymc.Model` in the units of the data (models/joint_latent.py is its definition).

        Returns
        -------
        The model. ``beta``, ``Sigma``, ``Psi`` and ``cutpoints_<y>`` are as in the posterior; cluster effects are free,
        missing values are integrated out, and so is the latent value of a row that has only one. With several grouping
        factors there is one ``Psi_<factor>`` for each.

        Raises
        ------
        SpecificationError
            The model has cluster-level variables, a residual covariance for each cluster, or too many groups of several
            factors.
        """
        further = [v.name for v in self.variables if v.of_clusters]
        if further or self.residual == "cluster":
            what = f"cluster-level variables ({', '.join(further)})" if further else "residual='cluster'"
            raise SpecificationError(
                f"pymc_model: the PyMC model of JointLatent has no {what}; impute() samples it by Gibbs steps. "
                "bi.JointGLMM(...).pymc_model() has cluster-level variables."
            )
        self.grouping.check_explicit()
        from bayesimp.joint.latent.definition import pymc_model

        return pymc_model(self)

    def impute(
        self,
        m: int = 20,
        *,
        seed: int | None = None,
        chains: int = 4,
        tune: int = 200,
        draws: int = 1000,
        thin: int = 4,
        sampler: Literal["auto", "gibbs"] = "auto",
        clusters: bool = False,
        keep_effects: bool = False,
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
            Number of independent chains; iterations discarded at their start; draws kept per chain, every `thin`-th, with
            which nine in ten tables of a study have 400 effective draws in the end (benchmarks/LATENT_DRAWS.md).
        sampler
            "gibbs" or "auto", which are the same.
        clusters
            Whether to keep the residual covariance of every cluster, ``Sigma_clusters``, in the posterior; with
            ``residual="cluster"``.
        keep_effects
            Whether to keep the effects of every cluster, ``B`` (with several grouping factors ``B_<factor>``), in the
            posterior; `Imputations.tree_with` computes log likelihood and replicates from them.
        workers, executor
            Number of chains run at a time, and where: "threads" (None), "processes", "serial", "joblib",
            or an executor of `bayesimp.sampling.executors`.
        progress
            Whether to show a progress bar. None: for runs of over a second if the output is a terminal.

        Raises
        ------
        SpecificationError
            m, chains, ... are out of range, or another sampler is requested.
        SamplingError
            The run was interrupted before the first imputation, or a chain failed.

        Notes
        -----
        A run that is interrupted (Ctrl-C) once sampling has begun keeps its draws, with an event.
        """
        _check_sampler(sampler)
        spacing = draws_per_imputation(m, chains, thin, draws, tune)
        seed = new_seed() if seed is None else int(seed)
        read_executor(executor, workers)
        if clusters and self.residual == "common":
            raise SpecificationError(
                "clusters=True keeps the residual covariance of every cluster, but all clusters of this model have the "
                "same: JointLatent(..., residual='cluster') has one per cluster."
            )
        by_reference = self.reference is not None  # rows are completed given the effects of their clusters
        run = self.grouping.run_type(
            self, seed, thin, spacing, 1, workers=workers, executor=executor,
            residuals=clusters or (by_reference and self.residual == "cluster"), effects=keep_effects or by_reference,
        )  # fmt: skip
        return run.impute(m, chains, tune, draws, progress)


def _check_sampler(sampler: str) -> None:
    if sampler == "nuts":
        raise SpecificationError(
            "JointLatent is sampled by Gibbs steps only. Its pymc_model() can be sampled by pymc.sample; "
            "bi.JointGLMM(...).impute(sampler='nuts') imputes variables of these families by NUTS."
        )
    if sampler not in ("auto", "gibbs"):
        raise SpecificationError(f"sampler must be 'auto' or 'gibbs', got {sampler!r}.")
