"""`Heckman`: a selection model of a normal variable that is missing not at random, by NUTS."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from numbers import Real
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bayesimp.errors import SpecificationError
from bayesimp.events import Event
from bayesimp.messages import listing, suggestion
from bayesimp.methods.base import Method
from bayesimp.methods.options import check_compatible, check_count
from bayesimp.priors import Priors
from bayesimp.priors import read as read_priors

if TYPE_CHECKING:
    from bayesimp.fcs.blocks.base import Block
    from bayesimp.fcs.identification.evidence import Evidence
    from bayesimp.fcs.specification.levels import Draft
    from bayesimp.fcs.table import ChainedTable
    from bayesimp.formulas.columns import Column
    from bayesimp.table.incomplete import IncompleteData

__all__ = ["Heckman"]

LEVEL = re.compile(r"\[[^\]]*\]")  # of a factor, in the name of a column: arm[b]


@dataclass(frozen=True)
class Heckman(Method):
    """A two-level selection model (Heckman 1979; micemd's 2l.heckman) of a normal variable, as a PyMC submodel.

    Whether the variable is observed follows a probit model with all columns of its formula and an effect of each cluster,
    whose errors are correlated with those of the variable (``rho``), so that missing values differ from observed ones
    with the same predictors. The equations are in `bayesimp.models.selection`. Values of a cluster that has no observed
    value are missing whatever they are, and are drawn without selection. Cells that `where` asks to impute count as
    missing.

    Parameters
    ----------
    excluded
        Variables of the formula that affect whether the variable is observed but not its value: their columns, cluster
        means and products leave the model of the value. A function such as ``I(w ** 2)`` is a name of its own. Without
        any, ``rho`` rests on the normal distribution of the errors alone, and an event says so.
    rho
        The correlation, between -1 and 1, if it is assumed rather than estimated; 0: missing at random given the
        predictors and the effects of clusters, which both models share.
    priors
        Priors of the variable's own model (beta, Sigma, Psi); None: the default.
    compatible
        As in `Gibbs`.
    transitions
        NUTS transitions per visit.
    """

    excluded: tuple[str, ...] = ()
    rho: float | None = None
    priors: Priors | None = None
    compatible: bool | None = None
    transitions: int = 3
    name: str = "heckman"

    summary = "selection model of a variable missing not at random, by NUTS"
    random = "required"
    takes_priors = True

    def __post_init__(self) -> None:
        several = isinstance(self.excluded, tuple | list)
        names = tuple(self.excluded) if several else (self.excluded,)
        if not all(isinstance(name, str) for name in names):
            raise SpecificationError(f"Heckman: excluded must be names of variables, got {self.excluded!r}.")
        object.__setattr__(self, "excluded", names)
        known = isinstance(self.rho, Real) and not isinstance(self.rho, bool) and -1 < self.rho < 1
        if self.rho is not None and not known:
            raise SpecificationError(f"Heckman: rho must be a number between -1 and 1, got {self.rho!r}.")
        if self.priors is not None:
            object.__setattr__(self, "priors", read_priors(self.priors))
        check_compatible(self.compatible, "Heckman")
        check_count(self.transitions, "transitions")

    @property
    def families(self) -> tuple[str, ...]:
        """Normal variables."""
        return ("normal",)

    @property
    def options(self) -> frozenset[str]:
        """Values are not bounded."""
        return frozenset({"post", "ignore"})

    def with_priors(self, priors: Priors) -> Heckman:
        """The method with other priors, of any kind."""
        return replace(self, priors=priors)

    def columns(self, draft: Draft, data: IncompleteData, values: Mapping[str, NDArray[np.float64]]) -> Draft:
        """The draft, after checking that the excluded variables are in its formula and that other columns remain.

        Raises
        ------
        SpecificationError
            An excluded variable has no column, or all columns are excluded.
        """
        parts = set().union(*map(_parts, draft.block.fixed))
        for name in self.excluded:
            if name not in parts:
                raise SpecificationError(
                    f"'{draft.block.name}': excluded variable '{name}' has no column in its formula. "
                    f"{suggestion(name, sorted(parts))}"
                )
        if all(map(self.excludes, draft.block.fixed)):
            raise SpecificationError(
                f"'{draft.block.name}': all columns of its formula are excluded. Leave one in, such as the intercept."
            )
        return draft

    def excludes(self, column: Column) -> bool:
        """Whether a column of the formula leaves the model of the value."""
        return not _parts(column).isdisjoint(self.excluded)

    def check(self, evidence: Evidence) -> list[Event]:
        """Refuse a variable whose missing values say nothing about selection; note a missing exclusion.

        Raises
        ------
        SpecificationError
            No cluster has both observed and missing values.
        """
        partly = np.isin(evidence.codes, evidence.clusters)
        missing = int((partly & ~evidence.rows).sum())
        if not missing:
            raise SpecificationError(
                f"'{evidence.name}' ({evidence.seen} observed): every cluster has all of its values or none, so that "
                "there is no selection of rows to model. Use method 'bayes'."
            )
        if self.excluded or self.rho is not None:
            return []
        text = (
            f"no variable is excluded from the model of '{evidence.name}', so that rho rests on its normal distribution "
            "alone. Name variables that affect only whether it is observed: methods.Heckman(excluded=...); or fix rho "
            f"and vary it. Its columns are {listing(evidence.names)}"
        )
        return [Event("selection", evidence.name, text, missing)]

    def block(self, table: ChainedTable, k: int) -> Block:
        """The sampler."""
        from bayesimp.fcs.blocks.selection import SelectionBlock

        return SelectionBlock(table, k)

    def to_dict(self) -> dict[str, Any]:
        """The record as plain values."""
        return super().to_dict() | {"excluded": list(self.excluded)}


def _parts(column: Column) -> set[str]:
    """The variables that a column is made of: factors of products, without levels, and what its cluster mean is over."""
    return {part for name in (column.base, *(column.over or ())) for part in LEVEL.sub("", name).split(":")}
