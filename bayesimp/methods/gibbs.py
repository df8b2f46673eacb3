"""`Gibbs`: Bayesian multilevel models of every family by Gibbs sampling; `Bayes` and `IW` construct it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from bayesimp.arguments import number
from bayesimp.errors import SpecificationError
from bayesimp.families.registry import family_of
from bayesimp.methods.base import OPTIONS, Method, censored_families, compiled_families
from bayesimp.methods.options import Link, check_choice, check_compatible, check_count, check_link
from bayesimp.methods.pymc import PyMC
from bayesimp.priors import Flat, InverseWishart, Priors, default
from bayesimp.priors import read as read_priors
from bayesimp.priors.gibbs import is_conjugate

if TYPE_CHECKING:
    from bayesimp.fcs.blocks.base import Block
    from bayesimp.fcs.specification.levels import Draft
    from bayesimp.fcs.table import ChainedTable
    from bayesimp.table.incomplete import IncompleteData

__all__ = ["IW", "Bayes", "Gibbs"]


@dataclass(frozen=True)
class Gibbs(Method):
    """Bayesian multilevel model by Gibbs sampling. Usually constructed by `Bayes` or `IW`.

    A non-normal variable has the generalised linear mixed model of its family, sampled by Metropolis steps within Gibbs.

    Parameters
    ----------
    priors
        Conditionally conjugate priors on sigma^2 (``Sigma``), ``Psi`` and ``beta``, or the name of a preset. If beta is
        flat, the coefficients of a non-normal variable have the weak priors of `priors.Weak`.
    residual
        ``"common"``: one sigma^2; ``"cluster"``: one for each cluster (mice's 2l.norm).
    compatible
        True: with cluster means of the other variables; False: without; None: FCS decides and notes its choice.
    inner
        Gibbs updates per visit to the variable. Five updates take two to four times as long as one. With 12 clusters
        they triple the effective draws of Psi per cycle (with 60 clusters they add a sixth); more updates add little.
        After a single update Psi and sigma^2 still depend on the previous cycle: with 12 small clusters, imputed means
        and sds are off by .01 of their posterior sd (root mean square); with five updates, by less than the Monte Carlo
        error can show (tests/calibration/INNER_RESULTS.md).
    link
        Link of binary and binomial variables: ``"logit"`` or ``"probit"``.
    group
        A cluster column that is nested in the primary clusters and in each group of which the variable has one value:
        classes in schools. It is then imputed once in each, and its predictors are their means there.
    """

    priors: Priors = field(default_factory=default)
    residual: Literal["common", "cluster"] = "common"
    compatible: bool | None = None
    inner: int = 5
    link: Link = "logit"
    name: str = "bayes"
    group: str = ""

    summary = "posterior draws by Gibbs sampling; the default"
    links = ("logit", "probit")
    random = "required"
    takes_priors = True
    holds_coefficients = True

    @property
    def updates(self) -> int:
        """Updates of the parameters per visit."""
        return self.inner

    @property
    def given_analysis(self) -> bool:
        """With one residual variance."""
        return self.residual == "common"

    @property
    def several_factors(self) -> bool:
        """With one residual variance, and for variables of rows."""
        return self.residual == "common" and not self.group

    def __post_init__(self) -> None:
        # which factors there are, the formula says
        factors = tuple(self.priors.Psi_of) if isinstance(self.priors, Priors) else ()
        object.__setattr__(self, "priors", read_priors(self.priors, factors))
        check_compatible(self.compatible, "Gibbs")
        check_choice(self.residual, "residual", ("common", "cluster"))
        check_count(self.inner, "inner")
        if not isinstance(self.group, str):
            raise SpecificationError(
                f"Gibbs: group must be the name of a cluster column, as text, got a {type(self.group).__name__}."
            )
        if self.group and self.residual == "cluster":
            raise SpecificationError(
                "Gibbs: residual='cluster' is for variables of rows; take group= or residual= out."
            )
        check_link(self.link)

    @property
    def families(self) -> tuple[str, ...]:
        """All families with a compiled density."""
        return (*compiled_families(), *censored_families())

    @property
    def options(self) -> frozenset[str]:
        """All families; variables of groups have values changed by post= only."""
        return frozenset({"post"} if self.group else OPTIONS)

    @property
    def joint(self) -> bool:
        """Several normal variables have a common residual covariance matrix."""
        return self.residual == "common" and not self.group

    def with_priors(self, priors: Priors) -> Method:
        """The method with other priors: `PyMC` if Gibbs sampling has no update for them.

        Raises
        ------
        SpecificationError
            Residual variances by cluster, with priors that are not conditionally conjugate.
        """
        if all(is_conjugate(prior) for prior in (priors.Sigma, priors.Psi, *priors.Psi_of.values())):
            return replace(self, priors=priors, name="bayes")  # the name "iw" is that of a prior
        if self.residual == "cluster":
            raise SpecificationError(
                f"residual='cluster' takes conditionally conjugate priors only, not '{priors.name}'."
            )
        return PyMC(priors, compatible=self.compatible, link=self.link)

    def for_family(self, family: str) -> Gibbs:
        """For a non-normal family, flat priors of the coefficients (`priors.Flat`) are replaced by weak ones."""
        beta = self.priors.beta if family_of(family).has_normal_errors else self.priors.beta.for_generalised()
        return self if beta is self.priors.beta else replace(self, priors=replace(self.priors, beta=beta))

    def columns(self, draft: Draft, data: IncompleteData, values: Mapping[str, NDArray[np.float64]]) -> Draft:
        """The draft unchanged, once the groups of a variable of groups are known to have one value each."""
        if self.group:
            from bayesimp.fcs.specification.levels import check_groups

            check_groups(draft.block, self.group, data)
        return draft

    def block(self, table: ChainedTable, k: int) -> Block:
        """The sampler: on cross products for a normal variable, otherwise row by row."""
        # censored variables have the block of the factors (`FCS.conditionals`), which draws values between limits
        # kernels that tables of normal variables do not need are loaded where they are used
        block = table.blocks[k].block
        if block.further or self.group:
            if block.distribution.is_normal:
                from bayesimp.fcs.blocks.levels import LevelsNormal

                return LevelsNormal(table, k)
            from bayesimp.fcs.blocks.levels_glmm import LevelsGlmm

            return LevelsGlmm(table, k)
        if not block.distribution.is_normal:
            from bayesimp.fcs.blocks.glmm import BayesGlmm

            return BayesGlmm(table, k)
        from bayesimp.fcs.blocks.normal import GibbsBlock

        return GibbsBlock(table, k)


def Bayes(
    priors: Priors | str | None = None,
    residual: Literal["common", "cluster"] = "common",
    compatible: bool | None = None,
    inner: int = 5,
    link: Link = "logit",
    group: str = "",
) -> Gibbs:
    """`Gibbs` with the library's default prior, which scales with the data."""
    return Gibbs(default() if priors is None else priors, residual, compatible, inner, link, group=group)  # type: ignore[arg-type]


def IW(
    nu: float | None = None,
    v: float = 1.0,
    compatible: bool | None = None,
    inner: int = 5,
    residual: Literal["common", "cluster"] = "common",
) -> Gibbs:
    """MICE-IW of Kunkel & Kaizar (sec. 2.3.2): Psi ~ IW(nu, v I), sigma^2 ~ IW(1, 1), flat beta.

    Parameters
    ----------
    nu
        None: the number of random effects q. ``IW()`` then has the prior of mice's 2l.pan.
    v
        V = v I, in units of 1 / variance, which is sensible for standardised variables only. Simulation 5 of the paper
        compares nu = 1, 1.6 and 5 with v = 1.
    """
    v = number(v, "IW: v")
    priors = Priors(
        InverseWishart(1.0, 1.0),
        InverseWishart(nu, v),
        Flat(),
        name=f"IW({'q' if nu is None else nu}, {v:g})",
    )
    return Gibbs(priors, residual, compatible, inner, name="iw")
