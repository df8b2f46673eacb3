"""The joint GLMM: an imputation model that contains the analysis.

    p(y_1, .., y_K, b)  =  N(b | 0, Psi)  prod_k p_k(y_k | y_1 .. y_k-1, b_k),       b = (b_1 .. b_K) in every cluster
    g_k(E y_kij) = x_kij' beta_k + z_kij' b_ki + sum_s w_skij' c_skg

with effects c_sg = (c_s1g .. c_sKg) ~ N(0, Psi_s) of the groups g of further grouping factors s, if there are any. x, z
and w are columns that a formula can form from complete variables and from those before y_k: products, powers, cluster
means. The user's analysis is therefore one factor, and values are drawn from their distribution given it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from bayesimp import priors as pr
from bayesimp.arguments import new_seed
from bayesimp.contract import Contents, ImputationModel, Shift, register
from bayesimp.errors import SpecificationError, must_be
from bayesimp.events import Event
from bayesimp.families.registry import censoring
from bayesimp.formulas.combinations import refuse_combinations
from bayesimp.imputation.result import Imputations
from bayesimp.joint.glmm.blocks import EffectsBlock, blocks_of, tree_name
from bayesimp.joint.glmm.describe import described_model
from bayesimp.joint.glmm.factors import Factor, read_factors
from bayesimp.joint.glmm.identification import check_identified, check_variation
from bayesimp.joint.glmm.prior import factor_beta, factor_priors, resolved_Psi, resolved_variance
from bayesimp.joint.glmm.request import read_request
from bayesimp.joint.glmm.run import GLMMRun
from bayesimp.joint.glmm.table import FactorTable, factor_table
from bayesimp.joint.options import draws_per_imputation
from bayesimp.kinds import checks_arguments
from bayesimp.priors.records import priors_from_dict, priors_to_dict
from bayesimp.sampling.executors import Executor, read_executor
from bayesimp.table.cluster_level import one_row_each
from bayesimp.table.incomplete import IncompleteData
from bayesimp.table.other_levels import of_other_levels, other_groupings
from bayesimp.table.spread import spread_events

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["JointGLMM"]

OF_CLUSTERS = (
    "this engine has one variance for all; bi.JointLatent(..., residual='cluster') and bi.FCS(..., "
    "methods={'{name}': bi.methods.Gibbs(residual='cluster')}) have one for each, but do not draw given the analysis"
)


@checks_arguments
@register
class JointGLMM(ImputationModel):
    """Joint multilevel GLMM of all incomplete variables, in which each analysis is a factor.

    Parameters
    ----------
    data
        The incomplete table.
    analysis
        A formula, or several: ``"y ~ x * treat + (1 + x | study)"``, with one response, and random terms of further
        grouping factors, ``"+ (1 + x | item)"``, nested or crossed. The families of responses are those of `data`.
    factors
        Response -> formula of its factor, for variables that are not responses of analyses. Default: complete
        variables, responses of earlier factors, and random intercepts of all cluster columns (for a cluster-level
        variable of those in which clusters are nested).
    order
        Responses in the order of their factors; each must come after those in its formula. Default: covariates of
        the analyses, cluster-level variables first and then by number of missing values; the analyses; other variables.
    priors
        As for `JointNormal`: ``Sigma`` is the prior of each residual variance, ``Psi`` of the effects of all factors
        together (``Psi_of`` by grouping factor), ``beta`` of the coefficients of each factor (weak where it is flat and
        the family is not normal).
    effects
        ``"joint"``: one Psi for the effects of all factors; ``"separate"``: one for each factor, so effects of
        different variables are independent. Those of different grouping factors always are.
    links
        Response -> link, ``{"y": "probit"}``, where it is not the default of its family.
    shift
        See `bayesimp.contract.Shift`; on the linear predictor where a value is missing.

    Raises
    ------
    DataError, SpecificationError
        The data cannot support the model, or the formulas do not form a sequence of factors; the message says which.

    Examples
    --------
    >>> model = bi.JointGLMM(data, "y ~ x * treat + (1 + x | study)")               # doctest: +SKIP
    >>> imp = model.impute(m=20, seed=1)                                            # doctest: +SKIP
    >>> imp.analyse("y ~ x * treat + (1 + x | study)").pool()                       # doctest: +SKIP
    """

    run_type = GLMMRun

    def __init__(
        self,
        data: IncompleteData,
        analysis: str | Sequence[str],
        factors: Mapping[str, str] | None = None,
        order: Sequence[str] | None = None,
        priors: pr.Priors | str | None = None,
        *,
        effects: str = "joint",
        links: Mapping[str, str] | None = None,
        shift: Shift | None = None,
    ) -> None:
        must_be(data, "IncompleteData", "JointGLMM")
        if effects not in ("joint", "separate"):
            raise SpecificationError(f"effects must be 'joint' or 'separate', got {effects!r}.")
        self.data = data
        self.request = read_request(data.cluster, analysis, factors, order, links)
        self.separate = effects == "separate"
        given = pr.default() if priors is None else priors
        # which grouping factors there are is known once formulas have been read
        asked = given if isinstance(given, pr.Priors) else pr.read(given)
        self.factors, base, self.further, events = read_factors(data, self.request, asked)
        self.priors = pr.read(asked, self.labels if self.further else ()).without_contextual()
        check_variation(self.factors, data)
        normal = [f.response for f in self.factors if f.family.is_normal and not f.at_cluster]
        refuse_combinations(data, [name for name in normal if data.missing(name).any()])
        self.shift = _checked_shift(Shift() if shift is None else shift, self.factors, data)
        self.table: FactorTable = factor_table(data, self.factors, base, self.shift, further=self.further)
        own = {*self.request.factors, *(factor.response for factor in self.factors if factor.is_analysis)}
        check_identified(self.table, self.priors, data, own)
        if self.is_conjugate:
            # refuses priors before anything is sampled
            factor_priors(self.table, self.priors, self.separate, cluster=data.cluster)
        by_row = [f.response for f in self.factors if not f.at_cluster and data.missing(f.response).any()]
        slopes = {column.base for factor in self.factors for column in factor.random}
        self.events: list[Event] = [
            *one_row_each(data), *self._notes(), *events, *other_groupings(data, self._columns()),
            *of_other_levels(data, by_row), *spread_events(data, normal, OF_CLUSTERS, slopes=slopes),
            *data.missing_codes(),
        ]  # fmt: skip

    def _notes(self) -> list[Event]:
        """Events about clusters in which a variable is never observed, and about variables left incomplete."""
        out, data = [], self.data
        for factor in self.factors:
            counts = data.grouping.count(data.missing(factor.response))
            lacking = int((counts == data.sizes).sum())
            if lacking and not factor.at_cluster:
                text = (
                    f"never observed in {lacking} of {len(data.clusters)} clusters: values imputed there rest on the "
                    "between-cluster distribution of effects"
                )
                out.append(Event("systematically missing", factor.response, text, lacking))
            if factor.left_out:
                text = (
                    f"{', '.join(map(repr, factor.left_out))}: combinations of other complete variables in the rows "
                    f"where '{factor.response}' is observed, and therefore not among its predictors"
                )
                out.append(Event("predictors", factor.response, text, len(factor.left_out)))
            out += [Event("grouping factors", factor.response, text) for text in factor.without]
        known = {*self.responses, *(censoring(family) for family in data.families.values())}
        left = [name for name in data.variables if data.missing(name).any() and name not in known]
        if left:
            text = "not imputed, because their family is 'none'; they remain incomplete"
            out.append(Event("not imputed", ", ".join(left), text, len(left)))
        return out

    @property
    def labels(self) -> tuple[str, ...]:
        """Labels of the grouping factors, the clusters first."""
        return self.data.cluster, *(factor.label for factor in self.further)

    def _columns(self) -> set[str]:
        """The cluster columns of which some factor has effects."""
        return {self.data.cluster}.union(*(factor.term.names for factor in self.further))

    @cached_property
    def blocks(self) -> list[EffectsBlock]:
        """The blocks of effects, each with its own covariance matrix."""
        return blocks_of(self.factors, self.separate, self.data.cluster, self.labels[1:])

    @property
    def responses(self) -> tuple[str, ...]:
        """The responses of the factors, in their order."""
        return tuple(factor.response for factor in self.factors)

    @property
    def is_conjugate(self) -> bool:
        """Whether the Gibbs sampler takes the priors."""
        Psi = [self.priors.of_factor(label) for label in self.labels]
        return self.priors.Sigma.is_conjugate and all(prior.is_conjugate for prior in Psi)

    def check_options(self, **options: Any) -> None:
        """Refuse a sampler that does not take the priors."""
        self._sampler(options.get("sampler", "auto"))

    @cached_property
    def parameter_priors(self) -> dict[str, Any]:
        """Name in the posterior -> its prior, on the scale of the data."""
        out: dict[str, Any] = {}
        for k, factor in enumerate(self.factors):
            scale, family = self.table.scales[k], factor.family
            own = factor_beta(self.priors.beta, factor)
            intercept = float(np.log(self.table.observed[k].mean())) if family.has_log_mean_intercept else 0.0
            shape = (len(factor.fixed), factor.predictors)
            out[f"beta_{tree_name(factor)}"] = own.on_data(scale, shape, intercept)
            if family.has_normal_errors:
                out[f"sigma2_{tree_name(factor)}"] = resolved_variance(self.priors, self.table, k)
        for block in self.blocks:
            if block.size:
                out[f"Psi{block.end}"] = resolved_Psi(self.priors, self.table, block, self.data.cluster)[0]
        return out

    def pymc_model(self) -> Any:
        """The model as a `pymc.Model` (models/joint_glmm.py is its definition).

        Returns
        -------
        The model, whose free variables are on the working scale; ``beta_<y>``, ``sigma2_<y>``, ``shape_<y>``,
        ``cutpoints_<y>``, ``Psi`` and ``B`` are those of the posterior, ``imputed_<y>`` the missing numbers that other
        factors depend on. Missing levels are summed out. `pymc.model_to_graphviz` draws it, if graphviz is installed.

        Raises
        ------
        SpecificationError
            The prior of a variance is improper, or missing cells can neither be free nor summed out.
        """
        from bayesimp.joint.glmm.definition import pymc_model

        return pymc_model(self).model

    def with_priors(self, priors: pr.Priors | str) -> JointGLMM:
        """The same model under other priors."""
        return JointGLMM(self.data, **(self._arguments() | {"priors": priors}))

    def with_shift(self, shift: Shift) -> JointGLMM:
        """The same model with another shift."""
        return JointGLMM(self.data, **(self._arguments() | {"shift": shift}))

    def shift_link(self, name: str) -> str:
        """The link of a response's factor."""
        factor = next(factor for factor in self.factors if factor.response == name)
        return next(link for link, code in factor.family.links.items() if code == factor.code)

    def _arguments(self) -> dict[str, Any]:
        return {
            "analysis": self.request.analyses, "factors": self.request.factors, "order": self.request.order,
            "links": self.request.links,
            "priors": self.priors, "effects": "separate" if self.separate else "joint", "shift": self.shift,
        }  # fmt: skip

    def contents(self) -> dict[str, Contents]:
        """The factors."""
        out = {}
        for factor in self.factors:
            clusters: Any = "of clusters" if factor.at_cluster else "random" if factor.random else "ignored"
            normal = factor.family.has_normal_errors
            out[factor.response] = Contents(factor.formula, clusters, normal, is_factor=True)
        return out

    def specification(self) -> dict[str, Any]:
        """Formulas, order and priors as plain records."""
        shift = {"shift": self.shift.to_record()} if self.shift else {}
        own = self._arguments() | {"priors": priors_to_dict(self.priors)}
        del own["shift"]
        return own | shift

    @classmethod
    def from_specification(
        cls,
        data: IncompleteData,
        specification: Mapping[str, Any],
        functions: Mapping[str, Callable] | None = None,
    ) -> Self:
        """The model that `specification` described; it has no user-defined functions."""
        own = dict(specification)
        shift = Shift.from_record(own.pop("shift", {}))
        return cls(data, **(own | {"priors": priors_from_dict(own["priors"])}), shift=shift)

    @classmethod
    def saved_specification(cls, attrs: Mapping[str, Any], state: xr.Dataset) -> dict[str, Any]:
        """The specification as a file holds it."""
        return json.loads(attrs["specification"])

    def _said(self) -> str:
        return described_model(self)

    def impute(
        self,
        m: int = 20,
        *,
        seed: int | None = None,
        chains: int = 4,
        tune: int = 200,
        draws: int = 1000,
        thin: int = 1,
        sampler: str = "auto",
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
            The same seed gives the same result, whatever `workers` and the order of the rows are. None: drawn and
            recorded.
        chains, tune, draws, thin
            Number of independent chains; sweeps discarded at their start; draws kept per chain, every `thin`-th.
        sampler
            "gibbs" (conditionally conjugate priors), "nuts" (every proper prior; missing levels are summed out), "auto":
            gibbs where possible. Both have the same posterior; NUTS takes about a minute to start and keeps every draw.
        keep_effects
            Keep the effects of every cluster in the posterior (variable ``B``).
        workers, executor
            Number of chains run at a time, and where they run: "threads" (None), "processes", "serial", "joblib",
            or an executor of `bayesimp.sampling.executors`.
        progress
            Whether to show a progress bar. None: for runs of over a second if the output is a terminal.

        Returns
        -------
        Imputations, whose tree contains the posterior of the parameters of the analyses, ``beta_<response>``.

        Raises
        ------
        SpecificationError
            m, chains, ... are out of range; the sampler does not take the priors, or (NUTS) the missing cells.
        SamplingError
            The run was interrupted before the first imputation, or a chain failed.
        """
        spacing = draws_per_imputation(m, chains, thin, draws, tune)
        seed = new_seed() if seed is None else int(seed)
        read_executor(executor, workers)
        kind = GLMMRun
        if self._sampler(sampler) == "nuts":
            from bayesimp.joint.glmm.nuts import GLMMNutsRun

            kind = GLMMNutsRun
        run = kind(self, seed, thin, spacing, 1, workers, executor, effects=keep_effects)
        return run.impute(m, chains, tune, draws, progress)

    def _sampler(self, sampler: str) -> str:
        if sampler not in ("auto", "gibbs", "nuts"):
            raise SpecificationError(f"sampler must be 'auto', 'gibbs' or 'nuts', got {sampler!r}.")
        if sampler == "gibbs" and not self.is_conjugate:
            # the message says which prior, and what to use
            factor_priors(self.table, self.priors, self.separate, cluster=self.data.cluster)
        return ("gibbs" if self.is_conjugate else "nuts") if sampler == "auto" else sampler


def _checked_shift(shift: Shift, factors: Sequence[Factor], data: IncompleteData) -> Shift:
    """The shift, refused if it has one number per level: the known part of a row's predictors is a single number."""
    shift.checked([factor.response for factor in factors], data)
    for factor in factors:
        if shift.by_level(factor.response):
            raise SpecificationError(
                f"shift of '{factor.response}': JointGLMM shifts all its levels against the first by the same number. "
                "FCS (method 'bayes') and JointLatent take one number per level."
            )
        if factor.at_cluster and factor.response in shift.moved:
            shift.check_constant(factor.response, data)
    return shift
