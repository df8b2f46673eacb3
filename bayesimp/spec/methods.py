"""Conditional models of one variable (or block) given all others, as records: how FCS imputes it.

    y = X* beta + Z* b + e,    b_i ~ N(0, Psi),    e ~ N(0, sigma^2)        Kunkel & Kaizar 2017, sec. 2.3

    Bayes, IW    Gibbs      posterior draws; the library's prior, or Kunkel & Kaizar's inverse-Wishart
    ML           ML         maximum likelihood estimates drawn from their asymptotic normal law (sec. 2.3.1)
    PyMC         NUTS       any prior, or a model of the user's own
    Norm, PMM    no b       ignore the clusters; for comparison

A compatible model has cluster means of the other variables among the columns of X*.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from typing import Any, Literal

from bayesimp.errors import SpecificationError
from bayesimp.spec.mice import from_mice
from bayesimp.spec.priors import InverseWishart, Priors, default, jomo

__all__ = ["Bayes", "Gibbs", "IW", "ML", "Method", "Norm", "PMM", "PyMC", "from_mice", "read", "with_priors"]


@dataclass(frozen=True)
class Gibbs:
    """Bayesian multilevel normal model, by Gibbs sampling. Usually made by `Bayes` or `IW`.

    Parameters
    ----------
    priors
        Conditionally conjugate priors of sigma^2 (``Sigma``), ``Psi`` and ``beta``.
    residual
        ``"common"``: one sigma^2; ``"cluster"``: one for each cluster (mice's 2l.norm).
    compatible
        True: with cluster means of the other variables; False: without; None: chosen by FCS, and noted.
    inner
        Gibbs updates in each visit of the variable. Five make a cycle two to four times as long as one; with 12
        clusters they triple the effective draws of Psi in a cycle (with 60 they add a sixth), more add little. With one
        update Psi and sigma^2 still remember the cycle before: with 12 small clusters imputed means and sds are off by
        .01 of their posterior sd (root mean square), with five by less than Monte Carlo error shows
        (tests/calibration/INNER_RESULTS.md).
    """

    priors: Priors = field(default_factory=default)
    residual: Literal["common", "cluster"] = "common"
    compatible: bool | None = None
    inner: int = 5
    name: str = "bayes"

    def __post_init__(self) -> None:
        _check_priors(self.priors, "Gibbs")
        _check_compatible(self.compatible, "Gibbs")
        if self.residual not in ("common", "cluster"):
            raise SpecificationError(f"residual must be 'common' or 'cluster', got {self.residual!r}.")
        _check_count(self.inner, "inner")


def Bayes(
    priors: Priors | None = None,
    residual: Literal["common", "cluster"] = "common",
    compatible: bool | None = None,
    inner: int = 5,
) -> Gibbs:
    """`Gibbs` with the library's default prior, which follows the unit of the data."""
    return Gibbs(default() if priors is None else priors, residual, compatible, inner)


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
        V = v I, in units of 1 / variance: sensible on standardised variables only. Simulation 5 of the paper
        compares nu = 1, 1.6 and 5 with v = 1.
    """
    priors = Priors(
        InverseWishart(1.0, 1.0), InverseWishart(nu, v), name=f"IW({'q' if nu is None else nu}, {v:g})"
    )
    return Gibbs(priors, residual, compatible, inner, name="iw")


@dataclass(frozen=True)
class ML:
    """MICE-ML (Resche-Rigon et al. 2013; Kunkel & Kaizar sec. 2.3.1): normal draws around the ML estimates."""

    compatible: bool | None = None
    name: str = "ml"

    def __post_init__(self) -> None:
        _check_compatible(self.compatible, "ML")


@dataclass(frozen=True)
class PyMC:
    """A PyMC submodel, sampled by NUTS.

    Parameters
    ----------
    priors
        Any prior of `bayesimp.priors`; None: the default.
    model
        Function (data, priors) -> pm.Model with the variable as a named node; None: the normal model above.
    compatible
        As in `Gibbs`.
    transitions
        NUTS transitions in each visit; None: chosen by the sampler.
    """

    priors: Priors | None = None
    model: Callable[[Any, Priors | None], Any] | None = None
    compatible: bool | None = None
    transitions: int | None = None
    name: str = "pymc"

    def __post_init__(self) -> None:
        if self.priors is not None:
            _check_priors(self.priors, "PyMC")
        if self.model is not None and not callable(self.model):
            raise SpecificationError(
                f"PyMC: model must be a function (data, priors) -> pm.Model, got {self.model!r}."
            )
        _check_compatible(self.compatible, "PyMC")
        if self.transitions is not None:
            _check_count(self.transitions, "transitions")


@dataclass(frozen=True)
class Norm:
    """Bayesian linear regression that ignores the clusters (mice's norm)."""

    name: str = "norm"


@dataclass(frozen=True)
class PMM:
    """Predictive mean matching that ignores the clusters (mice's pmm).

    Parameters
    ----------
    donors
        Observed rows with the closest predictions, one of which gives its value.
    """

    donors: int = 5
    name: str = "pmm"

    def __post_init__(self) -> None:
        _check_count(self.donors, "donors")


Method = Gibbs | ML | PyMC | Norm | PMM

NAMES: dict[str, Callable[[], Method]] = {
    "bayes": Bayes, "iw": IW, "ml": ML, "pymc": PyMC, "norm": Norm, "pmm": PMM,
    "bayes-c": lambda: Bayes(compatible=True), "iw-c": lambda: IW(compatible=True),
    "ml-c": lambda: ML(compatible=True), "pymc-c": lambda: PyMC(compatible=True),
    # names of R mice, miceadds and micemd
    "2l.pan": IW, "2l.norm": lambda: Bayes(residual="cluster"), "2l.jomo": lambda: Bayes(jomo()),
    "2l.lmer": ML, "2l.continuous": ML, "2l.glm.norm": ML,
}  # fmt: skip
LATER = {
    "is for categorical variables and counts": (
        "logreg", "logreg.boot", "polyreg", "polr", "lda", "2l.bin", "2l.binary", "2l.glm.bin", "2l.glm.pois",
        "2l.2stage.bin", "2l.2stage.pois", "2l.latentgroup.ord",
    ),
    "is for variables of clusters": ("2lonly.norm", "2lonly.pmm", "2lonly.mean", "2lonly.function"),
    "is for matching in clusters or two-stage models": ("2l.pmm", "2l.2stage.norm", "2l.2stage.pmm"),
}  # fmt: skip


def read(value: str | Method) -> Method:
    """The record meant by a name; a record is returned as it is.

    Names: ``"bayes"``, ``"iw"``, ``"ml"``, ``"pymc"``, each also with ``"-c"`` for ``compatible=True``;
    ``"norm"``, ``"pmm"``; of R: ``"2l.pan"`` (iw), ``"2l.norm"`` (bayes, ``residual="cluster"``), ``"2l.lmer"``,
    ``"2l.continuous"``, ``"2l.glm.norm"`` (ml), ``"2l.jomo"`` (bayes with jomo's prior).

    Raises
    ------
    SpecificationError
        Not a method, with suggestions; or one that is not available yet.
    """
    if isinstance(value, Method):
        return value
    for make in (Bayes, Gibbs, IW, ML, Norm, PMM, PyMC):
        if value is make:  # methods.ML for methods.ML()
            return make()
    if not isinstance(value, str):
        raise SpecificationError(
            f"{value!r} is not a method: give a name such as 'bayes', or a record such as methods.IW(nu=1.6)."
        )
    name = value.strip().lower()
    if name in NAMES:
        return NAMES[name]()
    for what, names in LATER.items():
        if name in names:
            raise SpecificationError(
                f"Method '{value}' {what}, which come later. There are: {', '.join(NAMES)}."
            )
    close = get_close_matches(name, NAMES, n=2, cutoff=0.6)
    hint = f"Did you mean {' or '.join(repr(c) for c in close)}? " if close else ""
    raise SpecificationError(f"Method {value!r} is not known. {hint}There are: {', '.join(NAMES)}.")


def with_priors(method: Method, priors: Priors) -> Method:
    """The same method with other priors.

    Raises
    ------
    SpecificationError
        A method without priors.
    """
    if isinstance(method, Gibbs):
        return replace(method, priors=priors, name="bayes")  # the name "iw" tells a prior
    if isinstance(method, PyMC):
        return replace(method, priors=priors)
    raise SpecificationError(f"Method '{method.name}' has no priors; use 'bayes' or 'pymc' to vary them.")


def _check_priors(priors: Any, where: str) -> None:
    if not isinstance(priors, Priors):
        raise SpecificationError(f"{where}: priors must be priors.Priors(...), got {priors!r}.")


def _check_compatible(value: Any, where: str) -> None:
    if value not in (True, False, None):
        raise SpecificationError(f"{where}: compatible must be True, False or None, got {value!r}.")


def _check_count(value: Any, what: str) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise SpecificationError(f"{what} must be an integer of at least 1, got {value!r}.")
