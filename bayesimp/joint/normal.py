"""The joint multilevel normal imputation model (Schafer & Yucel 2002; Kunkel & Kaizar 2017, eq. 1-3).

Y_i = X_i beta + Z_i B_i + E_i,   rows of E_i ~ N(0, Sigma),   vec(B_i) ~ N(0, Psi)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from bayesimp import priors as pr
from bayesimp.arguments import new_seed
from bayesimp.contract import Contents, Shift, register
from bayesimp.errors import SpecificationError
from bayesimp.events import Event
from bayesimp.formulas.design import DesignMatrices
from bayesimp.imputation.result import Imputations
from bayesimp.joint.contents import contents
from bayesimp.joint.formula_model import FormulaModel, one_variance
from bayesimp.joint.levels.model import SeveralFactors, several_factors
from bayesimp.joint.levels.run import LevelsRun
from bayesimp.joint.one_factor import OneFactor, one_factor
from bayesimp.joint.options import draws_per_imputation
from bayesimp.joint.reference import ReferenceBased
from bayesimp.joint.run import JointRun
from bayesimp.joint.storage import specification_of
from bayesimp.kinds import checks_arguments
from bayesimp.notation import effect_names
from bayesimp.sampling.executors import Executor, read_executor
from bayesimp.table.incomplete import IncompleteData
from bayesimp.table.other_levels import other_groupings

if TYPE_CHECKING:
    import pymc as pm
    import xarray as xr

__all__ = ["JointNormal"]


@checks_arguments
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
        Several random parts, ``(1 | school) + (1 | class)`` or ``(1 | school/class)``, must be cluster columns of
        the data.
    priors
        Records of `bayesimp.priors`, or the name of a preset (``"default"``, ``"pan"``, ``"mice"``, ``"jomo"``); the
        default scales with the data.
    shift
        Numbers added to the imputed values of responses (see `bayesimp.contract.Shift`); None: nothing.
    reference
        Imputation after drop-out by reference to another arm (`bayesimp.ReferenceBased`); None: at random.

    Raises
    ------
    DataError, SpecificationError
        The data cannot support the model; the message names variable, cluster and number of rows.

    Notes
    -----
    `bi.JointLatent` is the same model if all variables are normal, with two features that this class lacks:
    cluster-level variables among the responses, also of the groups of several factors, and a residual covariance for each
    cluster (``residual="cluster"``).

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
        made = one_factor if len(self.formula.random) == 1 else several_factors
        self.grouping: OneFactor | SeveralFactors = made(data, self.formula, self.priors, reference)
        self.design: DesignMatrices = self.grouping.design
        self.events: list[Event] = [
            *self.grouping.events, *other_groupings(data, self.formula.groups), *one_variance(self.formula, data),
            *data.missing_codes([*self.formula.responses, *self.formula.variables]),
        ]  # fmt: skip

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

    def restored(self, tree: xr.DataTree, state: xr.Dataset) -> JointRun | LevelsRun:
        """A run of this model restored from a file."""
        return self.grouping.run_type.restore(self, tree, state)

    def normal_law(self, asker: str) -> OneFactor:
        """The joint normal distribution of the rows of every cluster."""
        return self.grouping.normal_law(asker)

    def contents(self) -> dict[str, Contents]:
        """The conditional models that the joint model implies."""
        return contents(self.formula)

    def check_options(self, **options: Any) -> None:
        """Refuse a sampler that does not take the priors or several grouping factors."""
        self._sampler(options.get("sampler", "auto"))

    @property
    def parameter_priors(self) -> dict[str, Any]:
        """Name in the posterior -> its prior on the scale of the data (with slopes: `priors.centred.Centred`)."""
        return self.grouping.parameter_priors

    @property
    def effects(self) -> list[str]:
        """Names of the cluster effects, the rows of Psi; with several grouping factors, of the primary clusters."""
        return effect_names(list(self.responses), list(self.design.random))

    @property
    def is_conjugate(self) -> bool:
        """Whether the Gibbs sampler takes the priors."""
        return self.grouping.is_conjugate

    def _said(self) -> str:
        lines = [
            f"JointNormal: {self.formula}",
            *self.grouping.describe(),
            *(f"  {line}" for line in self.shift.describe()),
            *([] if self.reference is None else [f"  {self.reference.words}"]),
            f"  sampler: {self.grouping.samplers}",
            *(f"  note: {event.message}" for event in self.events),
        ]
        return "\n".join(lines)

    def pymc_model(self) -> pm.Model:
        """The model as a `pymc.Model` in the units of the data, missing values and effects integrated out.

        With several grouping factors, the effects of those after the first are variables of the model.
        """
        return self.grouping.pymc_model()

    def impute(
        self,
        m: int = 20,
        *,
        seed: int | None = None,
        chains: int = 4,
        tune: int | None = None,
        draws: int = 1000,
        thin: int = 1,
        sampler: Literal["auto", "gibbs", "nuts"] = "auto",
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
            Number of chains run at a time, and where: "threads" (None), "processes", "serial", "joblib",
            or an executor of `bayesimp.sampling.executors`. NUTS runs its chains itself.
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
        run = self.grouping.run(self, chosen, seed, thin, spacing, workers, executor)
        return run.impute(m, chains, tune, draws, progress)

    def _sampler(self, sampler: str) -> str:
        if sampler not in ("auto", "gibbs", "nuts"):
            raise SpecificationError(f"sampler must be 'auto', 'gibbs' or 'nuts', got {sampler!r}.")
        return self.grouping.sampler(sampler)


def _cluster_means(values: np.ndarray, counted: np.ndarray, codes: np.ndarray, m: int) -> np.ndarray:
    """(m, r) means of the columns of values (n, r) over the rows of each cluster that are counted (n, r)."""
    total = np.column_stack([np.bincount(codes, v * c, m) for v, c in zip(values.T, counted.T, strict=True)])
    count = np.column_stack([np.bincount(codes, c, m) for c in counted.T])
    return total / np.maximum(count, 1)
