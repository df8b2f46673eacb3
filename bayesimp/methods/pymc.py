"""`PyMC`: a conditional model sampled by NUTS, under any prior, or a user-written PyMC model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from bayesimp.errors import SpecificationError
from bayesimp.families.record import Family
from bayesimp.families.registry import family_of
from bayesimp.methods.base import OPTIONS, Method, all_families, censored_families
from bayesimp.methods.options import Link, check_compatible, check_count, check_link
from bayesimp.priors import Priors, default
from bayesimp.priors import read as read_priors

if TYPE_CHECKING:
    from bayesimp.fcs.blocks.base import Block
    from bayesimp.fcs.table import ChainedTable

__all__ = ["PyMC"]


@dataclass(frozen=True)
class PyMC(Method):
    """A PyMC submodel, sampled by NUTS.

    Parameters
    ----------
    priors
        Any prior of `bayesimp.priors`; None: the default.
    model
        Function (data, priors) -> pm.Model with the variable as a named node; None: the model of the variable's family.
    compatible
        As in `Gibbs`.
    transitions
        NUTS transitions per visit; None: chosen by the sampler.
    link
        As in `Gibbs`.
    """

    priors: Priors | None = None
    model: Callable[[Any, Priors | None], Any] | None = None
    compatible: bool | None = None
    transitions: int | None = None
    link: Link = "logit"
    name: str = "pymc"

    summary = "any prior, or a PyMC model of your own, by NUTS"
    links = ("logit", "probit")
    random = "required"
    joint = True
    takes_priors = True

    def __post_init__(self) -> None:
        if self.priors is not None:
            object.__setattr__(self, "priors", read_priors(self.priors))
        if self.model is not None and not callable(self.model):
            raise SpecificationError(
                f"PyMC: model must be a function (data, priors) -> pm.Model, got {self.model!r}."
            )
        check_compatible(self.compatible, "PyMC")
        if self.transitions is not None:
            check_count(self.transitions, "transitions")
        check_link(self.link)

    @property
    def families(self) -> tuple[str, ...]:
        """All families, including those without a compiled density, except censored ones."""
        return tuple(name for name in all_families() if name not in censored_families())

    @property
    def options(self) -> frozenset[str]:
        """Arguments of `FCS` that it supports; a user's own model does not know about bounds."""
        return frozenset(OPTIONS) - ({"bounds"} if self.own_model else set())

    @property
    def own_model(self) -> bool:
        """Whether the user wrote the model."""
        return self.model is not None

    @property
    def centres_products(self) -> bool:
        """Whether products are replaced by their residuals; a user's own model gets the columns as written."""
        return not self.own_model

    def refusal(self, option: str, name: str) -> str:
        """Why an option is refused, and what to do instead of bounds in a user's own model."""
        if option != "bounds":
            return super().refusal(option, name)
        return (
            f"'{name}' is drawn by your own PyMC model, which does not know about bounds. Bound its node in the model "
            f"(pm.Truncated), or change what is drawn by post={{'{name}': ...}}."
        )

    def no_limits(self) -> str:
        """Why it cannot impute censored variables, and the engine that can by NUTS."""
        return "draws parameters given observed values only; for NUTS with limits use JointGLMM with sampler='nuts'"

    def no_shift(self, family: Family) -> str:
        """Values that are not normal are drawn within the PyMC model."""
        if family.is_normal:
            return ""
        return (
            f"a PyMC model draws the values of a {family.name} variable itself, so its linear predictor cannot be "
            "shifted. Use 'bayes', or leave the variable out of shift."
        )

    def proper_prior(self, family: str) -> str | None:
        """Why the posterior is proper; for their own model only the user can know."""
        if self.own_model:
            return "the model is your own: make sure that its prior is proper"
        return super().proper_prior(family)

    def with_priors(self, priors: Priors) -> PyMC:
        """The method with other priors, of any kind."""
        return replace(self, priors=priors)

    def for_family(self, family: str) -> PyMC:
        """For a non-normal family, flat priors of the coefficients (`priors.Flat`) are replaced by weak ones."""
        priors = default() if self.priors is None else self.priors
        if self.own_model or family_of(family).is_normal:
            return self
        beta = priors.beta.for_generalised()
        return self if beta is priors.beta else replace(self, priors=replace(priors, beta=beta))

    def block(self, table: ChainedTable, k: int) -> Block:
        """The user's model, the normal model, or that of another family."""
        from bayesimp.fcs.blocks import pymc as blocks

        if self.own_model:
            return blocks.OwnModel(table, k)
        normal = table.blocks[k].block.distribution.is_normal
        return blocks.PriorModel(table, k) if normal else blocks.GeneralisedModel(table, k)

    def to_dict(self) -> dict[str, Any]:
        """The record as plain values; of a user's own model, which is code, files keep the name only."""
        out = super().to_dict()
        if self.model is not None:
            out["model"] = getattr(self.model, "__qualname__", repr(self.model))
        return out

    @classmethod
    def from_options(cls, options: dict[str, Any], where: str) -> Method:
        """The record made from a file; refused for a user's own model, which files do not hold."""
        if options.get("model") is not None:
            raise SpecificationError(
                f"{where}: the PyMC model {options['model']} is user-defined code and is not kept in files."
            )
        return super().from_options(options, where)
