"""The interfaces of an imputation model and its run; everything downstream uses them and knows no engine.

    ImputationModel --impute--> Imputations --extend, iterate, save--> Run

Saving and loading, results, diagnostics, plans and sensitivity analyses use these two classes only. A model is found by
its name, which results and files carry (`model_type`); its module is loaded on first use.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from numbers import Real
from os import PathLike
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from bayesimp.errors import SpecificationError, must_be
from bayesimp.events import Event
from bayesimp.kinds import checks_arguments
from bayesimp.layout import Printed
from bayesimp.shift import Shift

if TYPE_CHECKING:
    import numpy as np
    import xarray as xr
    from numpy.typing import NDArray

    from bayesimp.imputation.result import Imputations
    from bayesimp.joint.one_factor import OneFactor
    from bayesimp.joint.reference import ReferenceBased
    from bayesimp.priors import Priors
    from bayesimp.table.incomplete import IncompleteData
    from bayesimp.table.new_rows import NewRows

__all__ = [
    "CodeNotInFile",
    "Contents",
    "ImputationModel",
    "Run",
    "Shift",
    "TreeRequest",
    "model_names",
    "model_type",
    "must_be_model",
    "plain",
    "register",
]

MODULES = {
    "JointNormal": "bayesimp.joint.normal",
    "JointGLMM": "bayesimp.joint.glmm.model",
    "JointLatent": "bayesimp.joint.latent.model",
    "FCS": "bayesimp.fcs.model",
    "FromPyMC": "bayesimp.joint.from_pymc",
}
PLANS = "bayesimp.workflow.plan_writer"  # loaded on first use, as engines are
_registered: dict[str, type[ImputationModel]] = {}


def plain(value: Any) -> Any:
    """Convert NumPy numbers and arrays, and other real numbers, for ``json.dumps(..., default=plain)``."""
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, Real):
        return float(value)
    raise TypeError(f"{type(value).__name__} cannot be stored in files")


class CodeNotInFile(SpecificationError):
    """A saved model contains user-defined functions, which are not stored in files."""


@dataclass(frozen=True)
class Contents:
    """What the model of one incomplete variable contains, for comparison with an analysis.

    Attributes
    ----------
    formula
        Its conditional mean given all others, as a formula: ``"x ~ 1 + y + cluster_mean(y) + (1 + w | school)"``.
    clusters
        How clusters enter: ``"random"`` effects, a ``"fixed"`` effect of each, ``"of clusters"`` for a cluster-level
        variable (one row per cluster), or ``"ignored"``.
    is_normal
        Whether its distribution is normal, with a residual variance.
    own_variances
        Whether each cluster has its own residual variance.
    is_factor
        Whether it is a factor of a joint distribution, so that missing values are drawn from the product of all factors
        rather than from this model alone.
    """

    formula: str
    clusters: Literal["random", "fixed", "of clusters", "ignored"] = "random"
    is_normal: bool = True
    own_variances: bool = False
    is_factor: bool = False


@dataclass(frozen=True)
class TreeRequest:
    """How the groups of the tree that are made on request (`Imputations.tree_with`) are computed.

    Attributes
    ----------
    thin
        Draws thin - 1, 2 thin - 1, ... of every chain are used.
    by
        The unit of a term of the log likelihood: ``"cluster"`` or ``"row"``.
    new_clusters
        Whether replicates are of new clusters rather than those of the data.
    seed
        Seed for drawing effects and replicates.
    """

    thin: int = 1
    by: str = "cluster"
    new_clusters: bool = False
    seed: int = 0

    def of(self, draws: Any) -> Any:
        """The selected draws of an array (chain, draw, ...)."""
        return draws[:, self.thin - 1 :: self.thin]


class Run(ABC):
    """Chains that can be continued, with what they have drawn so far.

    Attributes
    ----------
    model
        The model that is being sampled.
    events
        What could not be done as specified.
    chained
        Whether the run continues in cycles of chained equations, as `iterate` requires.
    costly_likelihood
        Whether the log likelihood of a draw takes so long that results with many draws use those behind imputations.
    likelihood_by_cluster
        Whether the log likelihood by cluster is computed without a number for every observed cell.
    """

    model: Any
    events: tuple[Event, ...]
    chained: ClassVar[bool] = False
    costly_likelihood: ClassVar[bool] = False
    likelihood_by_cluster: ClassVar[bool] = False

    @property
    def no_posterior(self) -> str:
        """Why the draws are not those of one posterior distribution, prior times likelihood; empty if they are."""
        return ""

    @abstractmethod
    def extend(self, m: int, progress: bool | None = None) -> Imputations:
        """The same run with `m` imputations in all."""

    def iterate(self, cycles: int, progress: bool | None = None) -> Imputations:
        """The same imputations after `cycles` more cycles.

        Raises
        ------
        SpecificationError
            The engine does not run in cycles.
        """
        raise SpecificationError(
            "Only imputations by chained equations (FCS) can be iterated in cycles; use `extend` instead."
        )

    def shifted(self, model: Any, m: int) -> Imputations | None:
        """Imputations under another shift of the same model, with the parameter draws of this run.

        None (the default) if the parameters depend on the shift, so that the model must be run again. Otherwise the
        result is bit for bit what ``model.impute`` gives with the arguments of this run.
        """
        return None

    def pointwise(self, what: str, request: TreeRequest) -> xr.Dataset:
        """``log_likelihood``, ``log_prior``, ``posterior_predictive`` or ``cluster_effects`` at the draws so far.

        Returns
        -------
        Variables (chain, draw, ...) at the draws that `request` chooses; those of ``posterior_predictive`` have the
        attribute ``column``.

        Raises
        ------
        SpecificationError
            The engine cannot compute it, or not as requested; the message gives the reason.
        """
        raise SpecificationError(f"{what}: {type(self.model).__name__} does not compute it.")

    def transform(self, new: NewRows, m: int, seed: int) -> dict[str, tuple[NDArray[np.int64], NDArray]]:
        """Imputed values of rows that were not in the run, from the draws of imputations 0 .. m-1.

        Returns
        -------
        Response -> (row positions in `new` of its missing cells (c,), values (m, c)), for responses with missing cells.

        Raises
        ------
        SpecificationError
            The engine cannot complete new rows, or not under this model.
        DataError
            The new rows do not fit the model; the message names the variable and the rows.
        """
        raise SpecificationError(
            f"{type(self.model).__name__} does not complete new rows: its runs do not keep, or cannot use, the "
            "parameters that this needs. JointNormal, JointLatent and JointGLMM do."
        )

    @abstractmethod
    def state(self) -> xr.Dataset:
        """Everything that `restore` needs besides the model and the groups of the result."""

    @classmethod
    @abstractmethod
    def restore(cls, model: Any, tree: xr.DataTree, state: xr.Dataset) -> Self:
        """The run that `state` described; it continues exactly where it stopped.

        Parameters
        ----------
        model
            The model, rebuilt from its specification.
        tree
            Groups and attributes of the saved result.
        state
            What `state` returned.
        """


@checks_arguments
class ImputationModel(Printed, ABC):
    """A model that imputes incomplete data.

    Attributes
    ----------
    data
        The incomplete table.
    priors
        `Priors`, or those of each block by name.
    events
        What could not be done as specified.
    shift
        See `Shift`; nothing by default.
    reference
        Reference-based imputation of values after drop-out (`bayesimp.ReferenceBased`); None: not used.
    run_type
        The class of its runs.
    user_defined
        Whether the model itself is the user's code, which files do not hold and whose assumptions are not checked.
    post
        Functions that change imputed values after they are drawn, by variable.
    """

    data: IncompleteData
    priors: Any
    reference: ReferenceBased | None = None
    events: list[Event]
    shift: Shift = Shift()
    run_type: ClassVar[type[Run]]
    user_defined: ClassVar[bool] = False
    post: Mapping[str, Callable] = MappingProxyType({})

    @property
    @abstractmethod
    def responses(self) -> tuple[str, ...]:
        """Variables that the model imputes."""

    @property
    @abstractmethod
    def parameter_priors(self) -> Mapping[str, Any]:
        """Name of a parameter in the posterior -> its prior, on the scale of the data."""

    def restored(self, tree: xr.DataTree, state: xr.Dataset) -> Run:
        """A run of this model, restored from a file; see `Run.restore`."""
        return self.run_type.restore(self, tree, state)

    @property
    def masked(self) -> IncompleteData:
        """The table with every cell missing that the model imputes, including observed cells that it holds out."""
        return self.data

    @property
    def has_contextual(self) -> bool:
        """Whether coefficients of cluster means are shrunk (`bayesimp.priors.Contextual`)."""
        return False

    def normal_law(self, asker: str) -> OneFactor:
        """The joint normal distribution of each cluster's rows, for results computed from Sigma, Psi and the design.

        Parameters
        ----------
        asker
            The function that needs it, for the message.

        Raises
        ------
        SpecificationError
            The model has no such distribution, or has effects of several grouping factors.
        """
        raise SpecificationError(
            f"{asker} needs a joint normal model, bi.JointNormal(data, 'y1 + y2 ~ x + (1 | cluster)'); this one is "
            f"{type(self).__name__}."
        )

    @abstractmethod
    def with_priors(self, priors: Priors | str) -> ImputationModel:
        """The same model under other priors."""

    def with_shift(self, shift: Shift) -> ImputationModel:
        """The same model with this shift of imputed values instead of its own.

        Raises
        ------
        SpecificationError
            The model does not take a shift, or not this one; the message says what to use instead.
        """
        raise SpecificationError(
            f"{type(self).__name__} takes no shift of imputed values: they come from user-defined code. Write "
            "the shift into that code, or use JointNormal, JointLatent, JointGLMM or FCS."
        )

    def shift_link(self, name: str) -> str:
        """The scale on which a shift moves the imputed values of a variable.

        Returns
        -------
        A link, ``"identity"``, ``"log"``, ``"logit"``, ``"probit"``; ``"utility"`` if each level except the first has a
        latent normal variable; ``"matching"`` if the prediction moves and an observed value near it is taken.
        """
        return "identity"

    @abstractmethod
    def specification(self) -> dict[str, Any]:
        """The specification as plain records and arrays, from which `from_specification` rebuilds the model."""

    @classmethod
    @abstractmethod
    def from_specification(
        cls,
        data: IncompleteData,
        specification: Mapping[str, Any],
        functions: Mapping[str, Callable] | None = None,
    ) -> Self:
        """The model that `specification` described.

        Parameters
        ----------
        data
            The incomplete table.
        specification
            What `specification` returned.
        functions
            User-defined functions by variable, which a specification only names.

        Raises
        ------
        CodeNotInFile
            A function is missing from `functions`.
        """

    @classmethod
    @abstractmethod
    def saved_specification(cls, attrs: Mapping[str, Any], state: xr.Dataset) -> dict[str, Any]:
        """The specification stored in a file, in the attributes of the result and the state of its run."""

    @abstractmethod
    def impute(self, m: int = 20, *args: Any, **options: Any) -> Imputations:
        """Draw parameters and `m` completed tables.

        Every engine takes the options ``seed``, ``workers``, ``executor`` and ``progress``, and has further ones.
        """

    def to_plan(
        self,
        path: str | PathLike[str] | None = None,
        *,
        data: str | PathLike[str],
        seed: int,
        m: int = 20,
        analysis: Any = None,
        title: str = "",
        **run: Any,
    ) -> str:
        """Write the model and the settings of its run as a plan file for ``bayesimp check`` and ``bayesimp run``.

        Parameters
        ----------
        path
            Where to write it; None: the plan is only returned.
        data
            The file of the table, relative to the folder of the plan (.csv, .parquet, .feather), or the name of an
            example. If the file exists, its table must be that of the model.
        seed, m
            As in `impute`. A plan must be repeatable, so a seed is required.
        analysis
            A formula, several formulas, or formulas by name, each with the options that `analyse` takes:
            ``{"main": {"formula": "y ~ x + (1 | g)", "family": "poisson"}}``. None: those that the model was built for.
        title
            Heading of the plan.
        run
            Further options of `impute`: ``chains``, ``tune``, ``draws``, ``thin``, ``sampler``; for FCS ``cycles`` and
            ``tune``.

        Returns
        -------
        The text of the plan. Its model has the same `specification`, and the same seed gives the same completed tables.

        Raises
        ------
        SpecificationError
            The model contains what a plan cannot hold (functions, values for each row, user-defined priors or models),
            or the file has another table. Nothing is written.

        Examples
        --------
        >>> model.to_plan("plan.toml", data="pupils.parquet", m=60, seed=1)         # doctest: +SKIP
        """
        write = import_module(PLANS).to_plan
        return write(self, path, data=data, m=m, seed=seed, analysis=analysis, title=title, run=run)

    def check_options(self, **options: Any) -> None:  # most models have nothing to check
        """Refuse options of `impute` that this model cannot take, before anything is sampled.

        Raises
        ------
        SpecificationError
        """

    def contents(self) -> Mapping[str, Contents] | None:
        """What the model of each variable contains; None (the default) if it is unknown for all of them.

        Variables whose models are unknown, such as those imputed by user-defined code, are left out. Without contents an
        analysis cannot be compared with the model.
        """
        return None

    def definitions(self) -> Mapping[str, str]:
        """Columns that the model computes from others, name -> expression, in order of computation."""
        return {}

    def call_with(
        self,
        fixed: Mapping[str, Sequence[str]],
        random: Mapping[str, Sequence[str]],
        clusters: Sequence[str] = (),
        variances: Sequence[str] = (),
    ) -> str | None:
        """The call that builds this model with further terms, as a user would write it; None if there is none.

        Parameters
        ----------
        fixed, random
            By variable, the terms and the random slopes that its model lacks.
        clusters
            Variables whose models lack cluster effects.
        variances
            Variables whose models lack a residual variance for each cluster.
        """
        return None

    def impute_together(self, labels: Sequence[str]) -> dict[str, list[str]]:
        """Variables that would mix better if imputed in one block, name of the block -> variables.

        Parameters
        ----------
        labels
            Quantities that do not mix, as `Summary` names them.
        """
        return {}


def register(cls: type[ImputationModel]) -> type[ImputationModel]:
    """Register a model under the name of its class; used as a decorator."""
    _registered[cls.__name__] = cls
    return cls


def must_be_model(given: Any, function: str) -> ImputationModel:
    """The argument of a function, which must be an imputation model.

    Raises
    ------
    SpecificationError
        It is not; the message says what is expected, or what to do with a model of a table in partitions.
    """
    if not isinstance(given, ImputationModel):
        instead = getattr(type(given), "INSTEAD", {})
        if function in instead:
            raise SpecificationError(f"{function}: {instead[function]}")
        must_be(given, "JointNormal or FCS", function)
    return given


def model_names() -> list[str]:
    """Names of all models: those of the package, then other registered ones."""
    return list(dict.fromkeys((*MODULES, *_registered)))


def model_type(name: str) -> type[ImputationModel]:
    """The model class with this name.

    Raises
    ------
    SpecificationError
        There is no such model.
    """
    if name not in _registered and name in MODULES:
        import_module(MODULES[name])
    if name not in _registered:
        raise SpecificationError(
            f"{name!r} is not an imputation model; the models are {', '.join(model_names())}."
        )
    return _registered[name]
