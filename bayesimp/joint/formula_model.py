"""Base class of joint models declared by one formula: reading and storing the declaration."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self

from bayesimp import priors as pr
from bayesimp.contract import CodeNotInFile, ImputationModel, Shift
from bayesimp.errors import SpecificationError, must_be
from bayesimp.events import Event
from bayesimp.formulas.formula import Formula, parse
from bayesimp.joint.contents import call_with
from bayesimp.kinds import checks_arguments
from bayesimp.priors.records import priors_from_dict, priors_to_dict
from bayesimp.table.incomplete import IncompleteData
from bayesimp.table.spread import spread_events

__all__ = ["FormulaModel", "one_variance"]

OF_CLUSTERS = (
    "bi.JointLatent(..., residual='cluster') has a residual covariance for each cluster (in bi.impute: engine='latent', "
    "residual='cluster')"
)

MOST_RESPONSES = 62  # a pattern of missing values is one integer of 64 bits


@checks_arguments
class FormulaModel(ImputationModel):
    """A joint model of all variables on the left-hand side of one formula.

    Attributes
    ----------
    formula
        The parsed formula.
    takes_several_factors
        Whether the class takes several grouping factors.
    """

    formula: Formula
    takes_several_factors = False
    priors: pr.Priors

    def __init__(
        self,
        data: IncompleteData,
        formula: str,
        priors: pr.Priors | str | None = None,
        *,
        shift: Shift | None = None,
    ) -> None:
        must_be(data, "IncompleteData", type(self).__name__)
        if not isinstance(formula, str):
            raise SpecificationError(
                f"The formula of a joint model is text, such as 'y1 + y2 ~ x + (1 | {data.cluster})'; got {formula!r}."
            )
        self.data = data
        self.formula = checked_formula(parse(formula), data, several=self.takes_several_factors)
        random = self.formula.random
        labels = sorted([term.label for term in random], key=lambda label: label != data.cluster)
        labels = labels if len(random) > 1 else []
        self.priors = (pr.default() if priors is None else pr.read(priors, labels)).without_contextual()
        self.shift = (Shift() if shift is None else shift).checked(self.responses, data)

    @property
    def responses(self) -> tuple[str, ...]:
        """The variables on the left-hand side of the formula."""
        return self.formula.responses

    def with_priors(self, priors: pr.Priors | str) -> Self:
        """The same data and formula under other priors."""
        return type(self)(self.data, self.formula.text, priors, shift=self.shift, **self._further())

    def with_shift(self, shift: Shift) -> Self:
        """The same data, formula and priors with another shift."""
        return type(self)(self.data, self.formula.text, self.priors, shift=shift, **self._further())

    def _further(self) -> dict[str, Any]:
        """The arguments specific to this class."""
        return {}

    def _records(self) -> dict[str, Any]:
        """These arguments as plain records, where they differ from the defaults."""
        return self._further()

    @classmethod
    def _read(cls, records: Mapping[str, Any]) -> dict[str, Any]:
        """The arguments from these records."""
        return {}

    def specification(self) -> dict[str, Any]:
        """Formula and priors as plain records, from which `bayesimp.load` rebuilds the model."""
        shift = {"shift": self.shift.to_record()} if self.shift else {}
        own = {"formula": self.formula.text, "priors": priors_to_dict(self.priors)}
        return own | shift | self._records()

    @classmethod
    def from_specification(
        cls,
        data: IncompleteData,
        specification: Mapping[str, Any],
        functions: Mapping[str, Callable] | None = None,
    ) -> Self:
        """The model that `specification` described; it has no user-defined functions.

        Raises
        ------
        CodeNotInFile
            A prior is of a class that this session has not defined.
        """
        try:
            priors = priors_from_dict(specification["priors"])
        except CodeNotInFile:
            raise
        except SpecificationError as error:  # from a file written before modules were named
            raise CodeNotInFile(f"{error} If the class is your own, import its module first") from None
        shift = Shift.from_record(specification.get("shift", {}))
        return cls(data, specification["formula"], priors, shift=shift, **cls._read(specification))

    def call_with(
        self,
        fixed: Mapping[str, Sequence[str]],
        random: Mapping[str, Sequence[str]],
        clusters: Sequence[str] = (),
        variances: Sequence[str] = (),
    ) -> str:
        """The call with further terms, of FCS if a joint model cannot contain them."""
        return call_with(self, fixed, random, variances)


def one_variance(
    formula: Formula, data: IncompleteData, responses: Sequence[str] | None = None
) -> list[Event]:
    """Events for responses whose spread differs between clusters, in a model with one residual variance for each."""
    names = formula.responses if responses is None else responses
    slopes = {name for term in formula.random for name in term.variables}
    return spread_events(data, names, OF_CLUSTERS, [*formula.responses, *formula.variables], slopes)


def checked_formula(formula: Formula, data: IncompleteData, *, several: bool = False) -> Formula:
    """The parsed formula, if it is valid for a joint model; several: whether several grouping factors are allowed."""
    if not formula.responses:
        raise SpecificationError(
            f"'{formula}' has no response: write the variables to impute on the left of ~, joined by +."
        )
    if len(formula.responses) > MOST_RESPONSES:
        raise SpecificationError(
            f"{len(formula.responses)} responses: a joint model takes at most {MOST_RESPONSES}. Move complete ones "
            "to the right side, or impute variable by variable with FCS."
        )
    if formula.independent:
        raise SpecificationError(
            f"'{formula}': || is not supported; use priors.Diagonal(...) as the prior of Psi."
        )
    if several and len(formula.random) > 1:
        return formula
    if not formula.single_grouping:
        more = (
            "several grouping factors must be cluster columns of the data and include a term for the first."
            if several
            else "this model has one level of clusters, without crossed or nested ones: these are in bi.JointNormal and "
            "bi.JointLatent(data, formula), and in bi.FCS(data)."
        )
        raise SpecificationError(f"'{formula}' needs one random part, at least (1 | {data.cluster}); {more}")
    if formula.cluster != data.cluster:
        raise SpecificationError(
            f"'{formula}' groups by '{formula.cluster}' but the data by '{data.cluster}'; they must be the same."
        )
    return formula
