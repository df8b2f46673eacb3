"""`Method`: the contract between a conditional method and the rest of the package.

A method is a frozen record of options. What the checks, the defaults, the printed model, the README's table and the
option tests need to know of it, they read from its attributes; what it does, it does in four hooks:

    for_family(family)              the record that is used for a variable of this family
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
from bayesimp.families.registry import FAMILIES
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
    """Every family that can be imputed, those that the user registered among them."""
    return tuple(name for name, family in FAMILIES.items() if family.is_imputable)


def compiled_families() -> tuple[str, ...]:
    """Families whose density is compiled."""
    return tuple(name for name in all_families() if FAMILIES[name].has_kernel)


def matched_families() -> tuple[str, ...]:
    """Families whose values are numbers or ordered, so that predictions of them have distances."""
    return tuple(name for name in compiled_families() if not FAMILIES[name].predictor_per_level)


class Method:
    """A conditional model of one variable (or block) given all others: how FCS imputes it.

    Subclasses are frozen dataclasses whose fields are the options of the user; what is below is overridden where it
    differs, by a class attribute or a property.

    Attributes
    ----------
    name
        What printed models, events and errors call it.
    summary
        What it does, in a few words, for the table of methods (`bayesimp.methods.table`).
    families
        Families of variables that it has a model for, ``"binomial"`` among them; others are refused.
    links
        Links that it offers for variables with two values and binomial ones; ``link`` is the one chosen.
    level
        ``"row"``: a value in each row; ``"cluster"``: one in each cluster.
    random
        Random part of its formula: ``"required"``, ``"optional"`` (the method chooses the columns), ``"none"``.
    options
        Arguments of `FCS` that it honours, of `OPTIONS`. Others are refused, in the words of `refusal`. ``"bounds"``:
        its block draws between ``BlockArrays.lower`` and ``upper``. ``"post"``: values may be changed after they are
        drawn. ``"ignore"``: its block is fitted to `BlockRows.observed` or `BlockArrays` only.
    matches, donors
        Whether it imputes observed values, read as numbers; of so many candidates where the user chooses.
    residual
        ``"cluster"``: each cluster has a residual variance of its own.
    compatible
        What the user said of cluster means: True, False, or None where FCS decides.
    joint
        Whether it imputes several variables as one block.
    takes_priors, priors
        Whether `FCS.with_priors` may change its priors, and these; None: the default ones, or none.
    own_model
        Whether the model is the user's own code, of which nothing is known.
    prior_on_Psi
        Whether the variances between clusters have a prior, on which they rest where clusters are few.
    needs_residual_rows
        Whether the residual variance of a normal variable rests on the rows beyond as many as there are coefficients,
        so that there must be some; else it has a prior.
    holds_coefficients
        Whether the block of a normal variable leaves coefficients that the completed data do not determine as they were,
        and counts them (``own["held"]``).
    fits_each_cluster
        Whether each cluster has a regression of its own, with ``Psi`` the covariance of its coefficients.
    cluster_indicators
        Whether each cluster has a fixed effect.
    centres_products
        Whether products and powers are replaced by what is left beside the columns that they contain, so that a prior
        on their coefficients does not depend on an origin. Results are those of the columns as they were written.
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

    @property
    def families(self) -> tuple[str, ...]:
        """Families of variables that the method has a model for."""
        return compiled_families()

    @property
    def options(self) -> frozenset[str]:
        """Arguments of `FCS` that it honours."""
        return frozenset({"post", "ignore"})

    @property
    def matches(self) -> bool:
        """Whether it imputes observed values."""
        return self.donors is not None

    @property
    def joint(self) -> bool:
        """Whether it imputes several variables as one block."""
        return False

    @property
    def own_model(self) -> bool:
        """Whether the model is the user's own code."""
        return False

    @property
    def centres_products(self) -> bool:
        """Whether products are replaced by what is left beside the columns that they contain."""
        return True

    def refusal(self, option: str, name: str) -> str:
        """Why an option is refused for a variable, and what to do; a sentence that follows ``bounds['y']: ``."""
        return f"method '{self.name}' does not honour {option}=; take it out for '{name}', or use 'bayes'."

    def alternative(self, family: str) -> str:
        """The method to use for a family that this one has no model for, as in an error message."""
        return "'ml' or 'bayes'" if family == "normal" else "'bayes'"

    def without_cluster_means(self) -> str | None:
        """Why cluster means of predictors do not join its columns (ends "method 'x' ..."); None: they may."""
        return None if self.random == "required" else "has no random effects that they go with"

    def proper_prior(self, family: str) -> str | None:
        """Why coefficients that the data do not determine have a proper posterior; None where they have none."""
        proper = self.priors is not None and self.priors.beta.is_proper
        return "its coefficient has its normal prior alone" if proper else None

    @property
    def fixed_Psi(self) -> bool:
        """Whether the covariance of the random effects is given."""
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
        """The record that is used for a variable of this family; by default this one."""
        return self

    def columns(self, draft: Draft, data: IncompleteData, values: Mapping[str, NDArray[np.float64]]) -> Draft:
        """The draft with the columns that the method can use; by default as it is.

        Parameters
        ----------
        draft
            The model before cluster means are added; ``draft.explicit``: the user wrote its formula.
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
        """What the observed cells say about this model beside the general checks; notes, or an error.

        Raises
        ------
        SpecificationError
            The model is not identified; the message says what to leave out, or which method to take.
        """
        return []

    def block(self, table: ChainedTable, k: int) -> Block:
        """The sampler of the k-th conditional model of the table."""
        raise NotImplementedError(f"{type(self).__name__} must define block(table, k).")

    def to_dict(self) -> dict[str, Any]:
        """The record as plain values, for files: ``type`` and its options."""
        out: dict[str, Any] = {"type": _key(type(self))}
        for option in fields(cast(Any, self)):
            value = getattr(self, option.name)
            out[option.name] = priors_to_dict(value) if isinstance(value, Priors) else value
        return out

    @classmethod
    def from_options(cls, options: dict[str, Any], where: str) -> Method:
        """The record from the options that `to_dict` wrote; ``where``: the block that it belongs to, for messages."""
        if options.get("priors") is not None:
            options["priors"] = priors_from_dict(options["priors"])
        return cls(**options)


def from_dict(record: Mapping[str, Any], where: str) -> Method:
    """The method from what `Method.to_dict` made.

    Parameters
    ----------
    record
        ``type`` and options.
    where
        The block that it belongs to, for messages.

    Raises
    ------
    SpecificationError
        A class that this session has not defined, or an option that is in no file (code of the user's own).
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
    """What files call a method: its class, with the module where it is not one of the package's."""
    own = kind.__module__.startswith("bayesimp.methods.")
    return kind.__name__ if own else f"{kind.__module__}:{kind.__qualname__}"


def known_methods() -> dict[str, type[Method]]:
    """Every method that this session has defined, by what files call it; of two of one name the later."""
    found: dict[str, type[Method]] = {}
    waiting: list[type[Method]] = [Method]
    while waiting:
        kinds = waiting.pop(0).__subclasses__()
        found |= {_key(kind): kind for kind in kinds}
        waiting += kinds
    return found
