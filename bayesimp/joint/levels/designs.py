"""The grouping factors of a formula with a design for each, which `JointNormal` and `JointLatent` share.

Y = X beta + sum_s Z_s B_s + E,   vec(B_sg) ~ N(0, Psi_s) for the groups g of factor s
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING

from bayesimp import priors as pr
from bayesimp.errors import SpecificationError
from bayesimp.formulas.design import DesignMatrices, design
from bayesimp.formulas.formula import Formula
from bayesimp.joint.levels.factors import GroupingFactor
from bayesimp.kernels.levels.records import Factors
from bayesimp.notation import Array, in_tree
from bayesimp.table.incomplete import IncompleteData

if TYPE_CHECKING:
    from bayesimp.models.joint_normal import FurtherFactor

__all__ = ["FactorDesigns", "designs_of", "dims_of", "matrices", "name_of"]

MOST_EXPLICIT = 500  # the largest number of group effects that are free variables of a PyMC model


@dataclass(frozen=True)
class FactorDesigns(ABC):
    """Several grouping factors of one model.

    Attributes
    ----------
    data
        The incomplete table.
    factors
        The grouping factors, that of the primary clusters first.
    designs
        Design matrices, one for each factor, with the same X.
    """

    data: IncompleteData
    factors: tuple[GroupingFactor, ...]
    designs: tuple[DesignMatrices, ...]

    @abstractmethod
    def effects(self, s: int) -> list[str]:
        """Names of the rows of Psi_s."""

    @property
    def labels(self) -> tuple[str, ...]:
        """Labels of the factors: ``"school"``, ``"school:class"``."""
        return tuple(factor.label for factor in self.factors)

    @property
    def design(self) -> DesignMatrices:
        """The design of the primary clusters."""
        return self.designs[0]

    @property
    def covariances(self) -> list[tuple[str, list[str]]]:
        """Names of the covariances of effects in the posterior, and of their rows."""
        return [(name_of(label), self.effects(s)) for s, label in enumerate(self.labels)]

    def effect_coords(self) -> dict[str, list[str]]:
        """Labels of the rows and columns of every Psi."""
        return {name: self.effects(s) for s, label in enumerate(self.labels) for name in dims_of(label)}

    def in_words(self, responses: str) -> tuple[str, str]:
        """Rows, groups and responses of the model, and its columns, as the printed model has them."""
        groups = ", ".join(f"{len(f.groups):,} {f.label}" for f in self.factors)
        columns = "; ".join(
            f"{label}: {', '.join(made.random)}"
            for label, made in zip(self.labels, self.designs, strict=True)
        )
        X, fixed = self.design.X, self.design.fixed
        return (
            f"{len(X):,} rows in groups: {groups}; {responses}",
            f"p = {X.shape[1]} fixed ({', '.join(fixed)}), random ({columns})",
        )

    def further(self, priors: pr.Priors) -> list[FurtherFactor]:
        """The factors after the first as PyMC models have them, with priors in the units of the data."""
        from bayesimp.models.joint_normal import FurtherFactor

        return [
            FurtherFactor(
                in_tree(factor.label), made.Z, factor.groups.codes, len(factor.groups), priors.of_factor(factor.label),
                tuple(self.effects(s)),
            )
            for s, (factor, made) in enumerate(zip(self.factors, self.designs, strict=True))
            if s
        ]  # fmt: skip

    def refuse_many(self, first: int, of: str, advice: str = "") -> None:
        """Refuse a PyMC model with so many groups that it would be too slow to use.

        Parameters
        ----------
        first
            The effects of the factors from this number on are free variables.
        of
            What each of these effects belongs to.
        advice
            What to do instead.

        Raises
        ------
        SpecificationError
        """
        explicit = sum(
            len(f.groups) * made.Z.shape[1]
            for f, made in zip(self.factors[first:], self.designs[first:], strict=True)
        )
        if explicit > MOST_EXPLICIT:
            but = f" but '{self.labels[0]}'" if first else ""
            raise SpecificationError(
                f"The PyMC model has the effects of all factors{but} as free variables: {explicit:,} of each {of}, "
                f"more than the {MOST_EXPLICIT} with which it can be sampled. impute() has no such limit.{advice}"
            )


def matrices(flat: Array, factors: Factors, sizes: Sequence[int]) -> list[Array]:
    """Psi_s (..., n_s, n_s) of every factor, from draws (..., flat) of all; sizes: n_s."""
    return [
        flat[..., first:last].reshape(*flat.shape[:-1], n, n)
        for (first, last), n in zip(pairwise(factors.psi_at), sizes, strict=True)
    ]


def designs_of(
    formula: Formula, factors: Sequence[GroupingFactor], data: IncompleteData
) -> tuple[DesignMatrices, ...]:
    """The design of every factor: the fixed part of the formula and its random term."""
    return tuple(
        design(replace(formula, random=(factor.term,)), data.frame, clusters=data.grouping)
        for factor in factors
    )


def name_of(label: str) -> str:
    """Name of the covariance of the effects of a factor in the posterior."""
    return f"Psi_{in_tree(label)}"


def dims_of(label: str) -> tuple[str, str]:
    """The dimensions of this covariance."""
    return f"effect_{in_tree(label)}", f"effect_{in_tree(label)}_2"
