"""Conditional models of one variable (or block) given all others, as records: how FCS imputes it.

    y = X* beta + Z* b + e,    b_i ~ N(0, Psi),    e ~ N(0, sigma^2)        Kunkel & Kaizar 2017, sec. 2.3

    Bayes, IW    Gibbs      posterior draws; the library's prior, or Kunkel & Kaizar's inverse-Wishart
    ML           ML         maximum likelihood estimates drawn from their asymptotic normal law (sec. 2.3.1)
    PyMC         NUTS       any prior, or a model of the user's own
    Norm, PMM    no b       ignore the clusters; for comparison

Variables that are not normal have generalised models, g(E y) = X* beta + Z* b (Jolani 2025, sec. 2.4):

    Bayes        MCMC       posterior draws; every family
    MLMI         fits       Laplace fit as proposal, effects from their exact conditional; or as published
    TwoStage     clusters   a regression in each cluster, then a meta-analysis of them (Resche-Rigon & White 2018)
    Stratified   no Psi     cluster indicators as fixed effects
    SingleLevel  no b       logistic, ordinal, multinomial, Poisson regression that ignores the clusters
    PyMC         NUTS       as above

    ClusterLevel            variables of clusters, imputed once a cluster from the means of its rows

A compatible model has cluster means of the other variables among the columns of X*.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from bayesimp.errors import SpecificationError
from bayesimp.messages import closest
from bayesimp.methods.mice import from_mice
from bayesimp.priors import InverseWishart, Priors, default, jomo
from bayesimp.priors import read as read_priors

__all__ = ["Bayes", "ClusterLevel", "Gibbs", "IW", "ML", "MLMI", "Method", "Norm", "PMM", "PyMC", "SingleLevel",
           "Stratified", "TwoStage", "from_mice", "ignores_clusters", "read", "with_priors"]  # fmt: skip

Link = Literal["logit", "probit"]


@dataclass(frozen=True)
class Gibbs:
    """Bayesian multilevel model, by Gibbs sampling. Usually made by `Bayes` or `IW`.

    A variable that is not normal has the generalised model of its family, by Metropolis steps within Gibbs.

    Parameters
    ----------
    priors
        Conditionally conjugate priors of sigma^2 (``Sigma``), ``Psi`` and ``beta``, or the name of a preset. Where
        beta is flat, the coefficients of a variable that is not normal have the weak priors of `priors.Weak`.
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
    link
        Of variables with two values or binomial: ``"logit"`` or ``"probit"``.
    """

    priors: Priors = field(default_factory=default)
    residual: Literal["common", "cluster"] = "common"
    compatible: bool | None = None
    inner: int = 5
    link: Link = "logit"
    name: str = "bayes"

    def __post_init__(self) -> None:
        object.__setattr__(self, "priors", read_priors(self.priors))
        _check_compatible(self.compatible, "Gibbs")
        if self.residual not in ("common", "cluster"):
            raise SpecificationError(f"residual must be 'common' or 'cluster', got {self.residual!r}.")
        _check_count(self.inner, "inner")
        _check_link(self.link)


def Bayes(
    priors: Priors | str | None = None,
    residual: Literal["common", "cluster"] = "common",
    compatible: bool | None = None,
    inner: int = 5,
    link: Link = "logit",
) -> Gibbs:
    """`Gibbs` with the library's default prior, which follows the unit of the data."""
    return Gibbs(default() if priors is None else read_priors(priors), residual, compatible, inner, link)


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
        Function (data, priors) -> pm.Model with the variable as a named node; None: the model above of its family.
    compatible
        As in `Gibbs`.
    transitions
        NUTS transitions in each visit; None: chosen by the sampler.
    link
        As in `Gibbs`.
    """

    priors: Priors | None = None
    model: Callable[[Any, Priors | None], Any] | None = None
    compatible: bool | None = None
    transitions: int | None = None
    link: Link = "logit"
    name: str = "pymc"

    def __post_init__(self) -> None:
        if self.priors is not None:
            object.__setattr__(self, "priors", read_priors(self.priors))
        if self.model is not None and not callable(self.model):
            raise SpecificationError(
                f"PyMC: model must be a function (data, priors) -> pm.Model, got {self.model!r}."
            )
        _check_compatible(self.compatible, "PyMC")
        if self.transitions is not None:
            _check_count(self.transitions, "transitions")
        _check_link(self.link)


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


@dataclass(frozen=True)
class MLMI:
    """Multilevel imputation of binary variables and counts by fitted models (Jolani 2025, sec. 2.4).

    Every visit fits the model by the full Laplace approximation; proposes (beta, Psi) around the fit, accepted by
    Metropolis; draws the effects of clusters with observed values from their exact conditional at the parameters drawn;
    and makes one update of the sampler of `Bayes`. Priors are `Bayes`'s defaults.

    Parameters
    ----------
    published
        The published algorithm to the letter, for comparison: penalised fit, Wishart draws by the predicted effects,
        and an accept-reject step that ends after 250 tries with a draw that knows nothing of the cluster's own values.
        How often it does so is among the events, and how often it had no fit and kept the values of the last visit.
    link, compatible
        As in `Gibbs`.
    """

    published: bool = False
    link: Link = "logit"
    compatible: bool | None = None
    name: str = "mlmi"

    def __post_init__(self) -> None:
        _check_bool(self.published, "MLMI: published")
        _check_link(self.link)
        _check_compatible(self.compatible, "MLMI")


@dataclass(frozen=True)
class TwoStage:
    """Two-stage imputation (2STG): a regression in every cluster, then a meta-analysis (Resche-Rigon & White 2018).

    All coefficients differ between clusters; a normal variable has a residual variance for each cluster too.

    Parameters
    ----------
    estimator
        Of the covariance matrix between clusters: ``"reml"``, drawn through its Cholesky factor, or ``"moments"``
        (DerSimonian & Laird), which is kept at its estimate, as published.
    donors
        Predictive mean matching with so many donors instead of draws from the model; None: no matching.
    published
        A cluster whose own regression fails is treated as if it had no observed value, as published; else it keeps
        what its rows say. Either way it is named in the events.
    link
        As in `Gibbs`.
    """

    estimator: Literal["reml", "moments"] = "reml"
    donors: int | None = None
    published: bool = False
    link: Link = "logit"
    name: str = "2stage"

    def __post_init__(self) -> None:
        if self.estimator not in ("reml", "moments"):
            raise SpecificationError(
                f"TwoStage: estimator must be 'reml' or 'moments', got {self.estimator!r}."
            )
        if self.donors is not None:
            _check_count(self.donors, "donors")
        _check_bool(self.published, "TwoStage: published")
        _check_link(self.link)


@dataclass(frozen=True)
class Stratified:
    """Stratified imputation (STI): cluster indicators as fixed effects; for comparison.

    Linear, logistic, Poisson, ordinal or multinomial regression by the variable's family. A cluster without observed
    values gets the average of the others' terms, so that their differences are not imputed there.

    Parameters
    ----------
    donors
        Predictive mean matching (normal variables), with so many donors; None: no matching.
    link
        As in `Gibbs`.
    """

    donors: int | None = None
    link: Link = "logit"
    name: str = "sti"

    def __post_init__(self) -> None:
        if self.donors is not None:
            _check_count(self.donors, "donors")
        _check_link(self.link)


@dataclass(frozen=True)
class SingleLevel:
    """Regression of the variable's family that ignores the clusters (mice's logreg, polr, polyreg)."""

    link: Link = "logit"
    name: str = "glm"

    def __post_init__(self) -> None:
        _check_link(self.link)


@dataclass(frozen=True)
class ClusterLevel:
    """A variable of clusters: one value a cluster, from the cluster means of the predictors (mice's 2lonly.norm).

    The Bayesian regression of its family, whichever it is, on one row a cluster (kernels/glm/cluster_level.py). With
    a log link (counts, gamma, inverse Gaussian) the predictors together have a prior sd of that of log y.

    Parameters
    ----------
    donors
        Predictive mean matching among clusters (2lonly.pmm), with so many donors; None: no matching.
    """

    donors: int | None = None
    name: str = "2lonly"

    def __post_init__(self) -> None:
        if self.donors is not None:
            _check_count(self.donors, "donors")


Method = Gibbs | ML | PyMC | Norm | PMM | MLMI | TwoStage | Stratified | SingleLevel | ClusterLevel

NAMES: dict[str, Callable[[], Method]] = {
    "bayes": Bayes, "iw": IW, "ml": ML, "pymc": PyMC, "norm": Norm, "pmm": PMM,
    "bayes-c": lambda: Bayes(compatible=True), "iw-c": lambda: IW(compatible=True),
    "ml-c": lambda: ML(compatible=True), "pymc-c": lambda: PyMC(compatible=True),
    "mlmi": MLMI, "mlmi-published": lambda: MLMI(published=True), "2stage": TwoStage, "twostage": TwoStage,
    "sti": Stratified, "stratified": Stratified, "glm": SingleLevel, "2lonly": ClusterLevel,
    # names of R mice, miceadds and micemd
    "2l.pan": IW, "2l.norm": lambda: Bayes(residual="cluster"), "2l.jomo": lambda: Bayes(jomo()),
    "2l.lmer": ML, "2l.continuous": ML, "2l.glm.norm": ML,
    "logreg": SingleLevel, "polyreg": SingleLevel, "polr": SingleLevel,
    "2l.bin": MLMI, "2l.binary": MLMI, "2l.glm.bin": MLMI, "2l.glm.pois": MLMI, "2l.latentgroup.ord": Bayes,
    "2l.2stage.norm": TwoStage, "2l.2stage.bin": TwoStage, "2l.2stage.pois": TwoStage,
    "2l.2stage.pmm": lambda: TwoStage(donors=5),
    "2lonly.norm": ClusterLevel, "2lonly.pmm": lambda: ClusterLevel(donors=5),
    "2lonly.mean": ClusterLevel,  # values known in other rows of the cluster are filled in first
}  # fmt: skip
LATER = {
    "draws from a bootstrap or by discriminant analysis; take 'glm' (ignores the clusters) or 'bayes'": (
        "logreg.boot", "lda",
    ),
    "matches within clusters; take '2l.2stage.pmm' (clusters) or 'pmm' (ignores them)": ("2l.pmm",),
    "is a function of the user's own; derived= computes columns": ("2lonly.function",),
}  # fmt: skip


def ignores_clusters(method: Method) -> bool:
    """Whether the method's formula has no random part."""
    return isinstance(method, Norm | PMM | TwoStage | Stratified | SingleLevel | ClusterLevel)


def read(value: str | Method) -> Method:
    """The record meant by a name; a record is returned as it is.

    Names: ``"bayes"``, ``"iw"``, ``"ml"``, ``"pymc"``, each also with ``"-c"`` for ``compatible=True``;
    ``"norm"``, ``"pmm"``, ``"glm"``, ``"mlmi"``, ``"mlmi-published"``, ``"2stage"``, ``"sti"``, ``"2lonly"``; of R:
    ``"2l.pan"`` (iw), ``"2l.norm"`` (bayes, ``residual="cluster"``), ``"2l.lmer"``, ``"2l.continuous"``,
    ``"2l.glm.norm"`` (ml), ``"2l.jomo"`` (bayes with jomo's prior), ``"2l.bin"``, ``"2l.binary"``, ``"2l.glm.bin"``,
    ``"2l.glm.pois"`` (mlmi), ``"2l.2stage.norm"`` and others (2stage), ``"logreg"``, ``"polyreg"``, ``"polr"`` (glm),
    ``"2lonly.norm"``, ``"2lonly.pmm"`` (2lonly).

    Raises
    ------
    SpecificationError
        Not a method, with suggestions; or one that is not available yet.
    """
    if isinstance(value, Method):
        return value
    for make in (
        Bayes, Gibbs, IW, ML, Norm, PMM, PyMC, MLMI, TwoStage, Stratified, SingleLevel, ClusterLevel,
    ):  # fmt: skip
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
                f"Method '{value}' of mice is not here: it {what}. There are: {', '.join(NAMES)}."
            )
    close = closest(name, NAMES, most=2)
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


def _check_compatible(value: Any, where: str) -> None:
    if value not in (True, False, None):
        raise SpecificationError(f"{where}: compatible must be True, False or None, got {value!r}.")


def _check_link(value: Any) -> None:
    if value not in ("logit", "probit"):
        raise SpecificationError(f"link must be 'logit' or 'probit', got {value!r}.")


def _check_bool(value: Any, what: str) -> None:
    if not isinstance(value, bool):
        raise SpecificationError(f"{what} must be True or False, got {value!r}.")


def _check_count(value: Any, what: str) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise SpecificationError(f"{what} must be an integer of at least 1, got {value!r}.")
