"""`Method`: the contract between a conditional method and the rest of the package.

A method is a frozen record of options. The checks, the defaults, the printed model, the README's table and the option
tests read its attributes; the method acts through four hooks:

    for_family(family)              the record used for a variable of this family
    columns(draft, data, values)    the columns of its conditional model
    check(evidence)                 whether the observed cells identify it
    block(table, k)                 the sampler, a `bayesimp.fcs.blocks.base.Block`

`import bayesimp` stays light, and this room stays below `fcs`, because the hooks import what they need when called.
A method of your own is a subclass; `tests/methods/test_toy_method.py` is an example in 60 lines.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np
from numpy.typing import NDArray

from bayesimp.errors import SpecificationError
from bayesimp.families.record import Family
from bayesimp.families.registry import FAMILIES
from bayesimp.layout import Record
from bayesimp.methods.options import Link
from bayesimp.priors import Priors
from bayesimp.priors.records import priors_from_dict, priors_to_dict

if TYPE_CHECKING:
    from bayesimp.events import Event
    from bayesimp.fcs.blocks.base import Block
    from bayesimp.fcs.identification.evidence import Evidence
    from bayesimp.fcs.specification.levels import Draft
    from bayesimp.fcs.table import ChainedTable
    from bayesimp.table.incomplete import IncompleteData

__all__ = [
    "BINARY_AND_COUNTS",
    "LEVELS",
    "OPTIONS",
    "Method",
    "all_families",
    "censored_families",
    "compiled_families",
    "from_dict",
    "known_methods",
    "matched_families",
]

BINARY_AND_COUNTS = ("bernoulli", "binomial", "poisson")
LEVELS = ("ordinal", "categorical")
OPTIONS = ("bounds", "post", "ignore")

Option = Literal["bounds", "post", "ignore"]
RandomPart = Literal["required", "optional", "none"]


def all_families() -> tuple[str, ...]:
    """All families that can be imputed, including those that the user has registered."""
    return tuple(name for name, family in FAMILIES.items() if family.is_imputable)


def compiled_families() -> tuple[str, ...]:
    """Families with a compiled density whose values are either observed or missing (not censored)."""
    return tuple(
        name for name in all_families() if FAMILIES[name].has_kernel and not FAMILIES[name].is_censored
    )


def censored_families() -> tuple[str, ...]:
    """Families that may have limits in place of values."""
    return tuple(name for name in all_families() if FAMILIES[name].is_censored)


def matched_families() -> tuple[str, ...]:
    """Families whose values are numbers or ordered levels, so that distances between predictions make sense."""
    return tuple(name for name in compiled_families() if not FAMILIES[name].predictor_per_level)


class Method(Record):
    """A conditional model of one variable (or block) given all others, by which FCS imputes it.

    Subclasses are frozen dataclasses whose fields are the user's options. They override the attributes below, by class
    attributes or properties, where the defaults do not fit.

    Attributes
    ----------
    name
        The name used in printed models, events and errors.
    summary
        What it does, in a few words, for the table of methods (`bayesimp.methods.table`).
    families
        Families for which it has a model, including ``"binomial"``; others are refused.
    links
        Links that it offers for binary and binomial variables; ``link`` is the one chosen.
    level
        ``"row"``: one value per row; ``"cluster"``: one per cluster.
    random
        Whether its formula has a random part: ``"required"``, ``"optional"`` (the method chooses it) or ``"none"``.
    options
        The arguments of `FCS`, among `OPTIONS`, that it supports; others are refused with the message of `refusal`.
        ``"bounds"``: its block draws between ``BlockArrays.lower`` and ``upper``. ``"post"``: values may be changed after
        they are drawn. ``"ignore"``: its block is fitted to `BlockRows.observed` or `BlockArrays` only.
    matches, donors
        Whether it imputes observed values, and the number of candidates if the user may choose it.
    residual
        ``"cluster"``: each cluster has its own residual variance.
    compatible
        Whether cluster means are included: True, False, or None if FCS decides.
    joint
        Whether it imputes several variables as one block.
    takes_priors, priors
        Whether `FCS.with_priors` may change its priors, and these priors; None: the defaults, or no priors at all.
    given_analysis
        Whether its model can be a factor of the distribution from which a variable in an analysis is drawn.
    own_model
        Whether the model is the user's own code, about which nothing is known.
    prior_on_Psi
        Whether the between-cluster variances have a prior, which matters when there are few clusters.
    needs_residual_rows
        Whether the residual variance of a normal variable has no prior, so that there must be more rows than
        coefficients.
    holds_coefficients
        Whether the block of a normal variable keeps the current values of coefficients that the completed data do not
        determine, and counts these updates (``own["held"]``).
    fits_each_cluster
        Whether each cluster has its own regression, with ``Psi`` the covariance of its coefficients.
    cluster_indicators
        Whether each cluster has a fixed effect.
    group
        The cluster column, nested in the primary clusters, in each group of which the variable has one value; else empty.
    several_factors
        Whether a formula may have random intercepts of grouping factors other than the primary clusters,
        ``(1 | school) + (1 | class)``; its block then reads `ConditionalModel.factors`.
    centres_products
        Whether products and powers are replaced by their residuals on the columns that they contain, so that a prior on
        their coefficients does not depend on the origin. Results refer to the columns as the user wrote them.
    """

    name: str = "method"
    summary: str = ""
    links: tuple[str, ...] = ("logit",)
    link: Link = "logit"
    level: Literal["row", "cluster"] = "row"
    random: RandomPart = "none"
    donors: int | None = None
    residual: Literal["common", "cluster"] = "common"
    compatible: bool | None = None
    takes_priors: bool = False
    priors: Priors | None = None
    prior_on_Psi: bool = True
    needs_residual_rows: bool = False
    holds_coefficients: bool = False
    fits_each_cluster: bool = False
    cluster_indicators: bool = False
    group: str = ""

    @property
    def given_analysis(self) -> bool:
        """Whether its model can be a factor of the distribution from which a variable in an analysis is drawn."""
        return False

    @property
    def several_factors(self) -> bool:
        """Whether it has effects of several grouping factors."""
        return False

    @property
    def families(self) -> tuple[str, ...]:
        """Families for which the method has a model."""
        return compiled_families()

    @property
    def options(self) -> frozenset[str]:
        """Arguments of `FCS` that it supports."""
        return frozenset({"post", "ignore"})

    @property
    def matches(self) -> bool:
        """Whether it imputes observed values."""
        return self.donors is not None

    @property
    def may_bound(self) -> bool:
        """Whether bounds make sense, as they do for values that are matched or drawn from a normal distribution."""
        return self.matches or any(FAMILIES[family].is_normal for family in self.families)

    @property
    def joint(self) -> bool:
        """Whether it imputes several variables as one block."""
        return False

    @property
    def updates(self) -> int:
        """Updates of the parameters per visit when values are drawn given an analysis."""
        return 5

    @property
    def own_model(self) -> bool:
        """Whether the model is the user's own code."""
        return False

    @property
    def centres_products(self) -> bool:
        """Whether products are replaced by their residuals on the columns that they contain."""
        return True

    def refusal(self, option: str, name: str) -> str:
        """Why an option is refused for a variable, and what to do, as a sentence that follows ``bounds['y']:``."""
        return f"method '{self.name}' does not support {option}=; remove it for '{name}', or use 'bayes'."

    def no_limits(self) -> str:
        """Why it cannot impute censored variables (completes "method 'x' ...")."""
        if self.matches:
            return "imputes values observed in other rows, of which none are beyond its limits"
        return (
            "draws parameters given observed values only, as if those beyond a limit were missing at random"
        )

    def no_shift(self, family: Family) -> str:
        """Why the imputed values of a variable of this family cannot be shifted, as a sentence; empty if they can."""
        return ""

    def alternative(self, family: str) -> str:
        """The method that an error message suggests for a family for which this one has no model."""
        return "'ml' or 'bayes'" if FAMILIES[family].is_normal else "'bayes'"

    def without_cluster_means(self) -> str | None:
        """Why its columns cannot include cluster means of predictors (completes "method 'x' ..."); None if they can."""
        return None if self.random == "required" else "has no random effects for them to accompany"

    def proper_prior(self, family: str) -> str | None:
        """Why coefficients that the data do not determine have a proper posterior; None if they have none."""
        proper = self.priors is not None and self.priors.beta.is_proper
        return "its coefficient rests on its normal prior alone" if proper else None

    @property
    def fixed_Psi(self) -> bool:
        """Whether the covariance of the random effects is known."""
        return self.priors is not None and self.priors.Psi.is_known

    def with_priors(self, priors: Priors) -> Method:
        """The same method with other priors.

        Raises
        ------
        SpecificationError
            It has no priors.
        """
        raise SpecificationError(f"Method '{self.name}' has no priors; use 'bayes' or 'pymc' to vary them.")

    def for_family(self, family: str) -> Method:
        """The record used for a variable of this family; by default this one."""
        return self

    def columns(self, draft: Draft, data: IncompleteData, values: Mapping[str, NDArray[np.float64]]) -> Draft:
        """The draft with the columns that the method can use; unchanged by default.

        Parameters
        ----------
        draft
            The model before cluster means are added; ``draft.explicit`` says whether the user wrote its formula.
        data
            The table, N rows.
        values
            Base columns (N,) with their missing values filled in.

        Raises
        ------
        SpecificationError
            The user's formula has a column that the method cannot use; the message names it.
        DataError
            The observed values contradict the method.
        """
        return draft

    def check(self, evidence: Evidence) -> list[Event]:
        """Check this model against the observed cells, in addition to the general checks; returns notes.

        Raises
        ------
        SpecificationError
            The model is not identified; the message says what to leave out or which method to use.
        """
        return []

    def block(self, table: ChainedTable, k: int) -> Block:
        """The sampler of the k-th conditional model of the table."""
        raise NotImplementedError(f"{type(self).__name__} must define block(table, k).")

    def to_dict(self) -> dict[str, Any]:
        """The record as plain values for files: ``type`` and its options."""
        out: dict[str, Any] = {"type": _key(type(self))}
        for option in fields(cast(Any, self)):
            value = getattr(self, option.name)
            out[option.name] = priors_to_dict(value) if isinstance(value, Priors) else value
        return out

    @classmethod
    def from_options(cls, options: dict[str, Any], where: str) -> Method:
        """The record made from the options that `to_dict` wrote; ``where`` is the block it belongs to, for messages."""
        if options.get("priors") is not None:
            options["priors"] = priors_from_dict(options["priors"])
        return cls(**options)


def from_dict(record: Mapping[str, Any], where: str) -> Method:
    """The method described by a dictionary from `Method.to_dict`.

    Parameters
    ----------
    record
        ``type`` and options.
    where
        The block to which it belongs, for messages.

    Raises
    ------
    SpecificationError
        The class is not defined in this session, or an option is the user's own code, which files do not hold.
    """
    kind = known_methods().get(record["type"])
    if kind is None:
        module, _, name = record["type"].rpartition(":")
        raise SpecificationError(
            f"{where}: method {name} of the module '{module or 'bayesimp.methods'}' is not known in this session. Import "
            "the module, then load the file again; loading a file never imports code that the file names."
        )
    return kind.from_options({name: value for name, value in record.items() if name != "type"}, where)


def _key(kind: type[Method]) -> str:
    """The name of a method in files: its class, with the module if it is not part of the package."""
    own = kind.__module__.startswith("bayesimp.methods.")
    return kind.__name__ if own else f"{kind.__module__}:{kind.__qualname__}"


def known_methods() -> dict[str, type[Method]]:
    """Every method defined in this session, by its name in files; of two with the same name, the later one."""
    found: dict[str, type[Method]] = {}
    waiting: list[type[Method]] = [Method]
    while waiting:
        kinds = waiting.pop(0).__subclasses__()
        found |= {_key(kind): kind for kind in kinds}
        waiting += kinds
    return found
