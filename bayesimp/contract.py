"""What an imputation model and its run promise, so that everything after them knows no engine.

    ImputationModel --impute--> Imputations --extend, iterate, save--> Run

Saving and loading, results, diagnostics, plans and sensitivity analyses ask these two classes. A model is found by its
name, which results and files carry (`model_type`); its module is loaded when it is first asked for.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from numbers import Real
from os import PathLike
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from bayesimp.errors import SpecificationError, must_be
from bayesimp.events import Event
from bayesimp.kinds import checks_arguments
from bayesimp.markup import Printed
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
PLANS = "bayesimp.workflow.plan_writer"  # loaded when a plan is asked for, as engines are
_registered: dict[str, type[ImputationModel]] = {}


def plain(value: Any) -> Any:
    """Numbers and arrays of NumPy, and other real numbers, for ``json.dumps(..., default=plain)``."""
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, Real):
        return float(value)
    raise TypeError(f"{type(value).__name__} is not kept in files")


class CodeNotInFile(SpecificationError):
    """A saved model contains user-defined functions, which files do not keep."""


@dataclass(frozen=True)
class Contents:
    """What the model of one incomplete variable contains of the other variables, to be compared with an analysis.

    Attributes
    ----------
    formula
        Its conditional mean given all others, as a formula: ``"x ~ 1 + y + cluster_mean(y) + (1 + w | school)"``.
    clusters
        How it knows the clusters: ``"random"`` effects, a ``"fixed"`` effect of each, values ``"of clusters"``
        themselves (one row a cluster), or ``"ignored"``.
    is_normal
        Whether its distribution is normal, with a residual variance.
    own_variances
        Whether each cluster has a residual variance of its own.
    is_factor
        Whether it is a factor of a joint distribution, from the product of which missing values are drawn, instead of
        the distribution of the variable given all others.
    """

    formula: str
    clusters: Literal["random", "fixed", "of clusters", "ignored"] = "random"
    is_normal: bool = True
    own_variances: bool = False
    is_factor: bool = False


@dataclass(frozen=True)
class TreeRequest:
    """How groups of the tree are computed that are made when they are asked for (`Imputations.tree_with`).

    Attributes
    ----------
    thin
        Draws thin - 1, 2 thin - 1, ... of every chain are used.
    by
        What a term of the log likelihood belongs to: a ``"cluster"`` or a ``"row"``.
    new_clusters
        Whether replicates come from new clusters, instead of from those of the data.
    seed
        Of the effects and replicates that are drawn.
    """

    thin: int = 1
    by: str = "cluster"
    new_clusters: bool = False
    seed: int = 0

    def of(self, draws: Any) -> Any:
        """The draws used, of an array (chain, draw, ...)."""
        return draws[:, self.thin - 1 :: self.thin]


class Run(ABC):
    """Chains that can go on, and what they have drawn so far.

    Attributes
    ----------
    model
        The model that is sampled.
    events
        What could not be done as specified.
    chained
        Whether the run goes on in cycles of chained equations, so that `iterate` is possible.
    """

    model: Any
    events: tuple[Event, ...]
    chained: ClassVar[bool] = False

    @abstractmethod
    def extend(self, m: int, progress: bool | None = None) -> Imputations:
        """The same run with `m` imputations in all."""

    def iterate(self, cycles: int, progress: bool | None = None) -> Imputations:
        """The same imputations, `cycles` cycles further.

        Raises
        ------
        SpecificationError
            The engine does not go on in cycles.
        """
        raise SpecificationError("Only imputations by chained equations (FCS) go on in cycles; see `extend`.")

    def shifted(self, model: Any, m: int) -> Imputations | None:
        """Imputations of the same model with another shift, at the parameters of this run.

        None, the default, where the parameters depend on the shift, so that the model is to be run. Otherwise they are
        what ``model.impute`` gives with the arguments of this run, to the last bit.
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
            The engine does not have it, or not as requested; the message gives the reason.
        """
        raise SpecificationError(f"{what}: {type(self.model).__name__} does not compute it.")

    def transform(self, new: NewRows, m: int, seed: int) -> dict[str, tuple[NDArray[np.int64], NDArray]]:
        """The missing values of rows that the run has not seen, from the draws of imputations 0 .. m-1.

        Returns
        -------
        Response -> (places in `new` of its missing cells (c,), values (m, c)), of responses with missing cells.

        Raises
        ------
        SpecificationError
            The engine does not complete new rows, or not those of this model.
        DataError
            The new rows do not fit the model; the message names variable and rows.
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
        """The run that `state` described, so that it goes on exactly.

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
    """A model of incomplete data that imputes them.

    Attributes
    ----------
    data
        The incomplete table.
    priors
        `Priors`, or those of each block by name.
    events
        What could not be done as declared.
    shift
        See `Shift`; nothing by default.
    reference
        Values after drop-out like those of another arm (`bayesimp.ReferenceBased`); None: there are none.
    run_type
        The class of its runs.
    """

    data: IncompleteData
    priors: Any
    reference: ReferenceBased | None = None
    events: list[Event]
    shift: Shift = Shift()
    run_type: ClassVar[type[Run]]

    @property
    @abstractmethod
    def responses(self) -> tuple[str, ...]:
        """Variables that the model imputes."""

    @property
    @abstractmethod
    def parameter_priors(self) -> Mapping[str, Any]:
        """Name in the posterior -> its prior, on the scale of the data."""

    def restored(self, tree: xr.DataTree, state: xr.Dataset) -> Run:
        """A run of this model as a file holds it; see `Run.restore`."""
        return self.run_type.restore(self, tree, state)

    @property
    def masked(self) -> IncompleteData:
        """The table in which every cell is missing that the model imputes, also observed ones that it holds out."""
        return self.data

    @property
    def has_contextual(self) -> bool:
        """Whether coefficients of cluster means are shrunk (`bayesimp.priors.Contextual`)."""
        return False

    def normal_law(self, asker: str) -> OneFactor:
        """The joint normal law of the rows of every cluster, for what is computed from Sigma, Psi and the design.

        Parameters
        ----------
        asker
            What asks for it, for the message.

        Raises
        ------
        SpecificationError
            The model has no such law, or effects of several grouping factors.
        """
        raise SpecificationError(
            f"{asker} needs a joint normal model, bi.JointNormal(data, 'y1 + y2 ~ x + (1 | cluster)'); this one is "
            f"{type(self).__name__}."
        )

    @abstractmethod
    def with_priors(self, priors: Priors | str) -> ImputationModel:
        """The same model under other priors."""

    def with_shift(self, shift: Shift) -> ImputationModel:
        """The same model with another shift of what is imputed, instead of its own.

        Raises
        ------
        SpecificationError
            The model takes no shift, or not this one; the message says what to use instead.
        """
        raise SpecificationError(
            f"{type(self).__name__} takes no shift of what it imputes: its values come from user-defined code. Write "
            "the shift into that code, or use JointNormal, JointLatent, JointGLMM or FCS."
        )

    def shift_link(self, name: str) -> str:
        """The scale on which a shift moves what is imputed of a variable.

        Returns
        -------
        A link, ``"identity"``, ``"log"``, ``"logit"``, ``"probit"``; ``"utility"`` where each level but the first has a
        latent normal variable; ``"matching"`` where a prediction moves, and an observed value near it is taken.
        """
        return "identity"

    @abstractmethod
    def specification(self) -> dict[str, Any]:
        """What was declared, as plain records and arrays: `from_specification` makes the model again from it."""

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
            A function is not given.
        """

    @classmethod
    @abstractmethod
    def saved_specification(cls, attrs: Mapping[str, Any], state: xr.Dataset) -> dict[str, Any]:
        """The specification as a file holds it, in the attributes of the result and in the state of its run."""

    @abstractmethod
    def impute(self, m: int = 20, *args: Any, **options: Any) -> Imputations:
        """Draw parameters and `m` completed tables.

        Every engine takes the options ``seed``, ``workers``, ``executor`` and ``progress``, and further ones of its own.
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
        """The model, and how it is to be run, as a plan file that ``bayesimp check`` and ``bayesimp run`` carry out.

        Parameters
        ----------
        path
            Where to write it; None: it is returned only.
        data
            The file of the table, as seen from the folder of the plan (.csv, .parquet, .feather); or the name of an
            example. If the file is there, its table must be that of the model.
        seed, m
            As `impute` takes them. A plan must be repeatable, so that it needs a seed.
        analysis
            A formula, several, or formulas by name, with options of their own as `analyse` takes them,
            ``{"main": {"formula": "y ~ x + (1 | g)", "family": "poisson"}}``. None: those that the model is made for.
        title
            Heading of the plan.
        run
            Further options of `impute`: ``chains``, ``tune``, ``draws``, ``thin``, ``sampler``; of FCS ``cycles`` and
            ``tune``.

        Returns
        -------
        The text of the plan. Its model has the same `specification`, and the same seed gives the same completed tables.

        Raises
        ------
        SpecificationError
            Something that a plan does not hold, functions, values for each row, priors or models of one's own; the file
            has another table. Nothing is written.

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
        """What the model of each variable contains; variables of which nothing is known, such as those that code of the
        user's imputes, are left out. None, the default: nothing is known of any, and analyses cannot be compared with it.
        """
        return None

    def definitions(self) -> Mapping[str, str]:
        """Columns that the model computes from others, name -> expression, each after those that it needs."""
        return {}

    def call_with(
        self,
        fixed: Mapping[str, Sequence[str]],
        random: Mapping[str, Sequence[str]],
        clusters: Sequence[str] = (),
        variances: Sequence[str] = (),
    ) -> str | None:
        """The call that makes this model with further terms, as a user would write it; None where there is none.

        Parameters
        ----------
        fixed, random
            By variable, terms that its model lacks, and terms whose random slopes it lacks.
        clusters
            Variables whose models lack effects of the clusters.
        variances
            Variables whose models lack a residual variance for each cluster.
        """
        return None

    def impute_together(self, labels: Sequence[str]) -> dict[str, list[str]]:
        """Variables that would mix better imputed in one block, name -> variables.

        Parameters
        ----------
        labels
            Quantities that do not mix, as `Summary` names them.
        """
        return {}


def register(cls: type[ImputationModel]) -> type[ImputationModel]:
    """Enter a model under the name of its class; use it as a decorator."""
    _registered[cls.__name__] = cls
    return cls


def must_be_model(given: Any, function: str) -> ImputationModel:
    """The imputation model that was given to a function.

    Raises
    ------
    SpecificationError
        It is something else; the message says what is expected.
    """
    if not isinstance(given, ImputationModel):
        must_be(given, "JointNormal or FCS", function)
    return given


def model_names() -> list[str]:
    """Names of all models: those of the package, then others that were registered."""
    return list(dict.fromkeys((*MODULES, *_registered)))


def model_type(name: str) -> type[ImputationModel]:
    """The model of a name.

    Raises
    ------
    SpecificationError
        There is none.
    """
    if name not in _registered and name in MODULES:
        import_module(MODULES[name])
    if name not in _registered:
        raise SpecificationError(f"{name!r} is no imputation model; there are {', '.join(model_names())}.")
    return _registered[name]
