"""`Design`: clustered tables with any families, effects, interactions, cluster-level variables and informative sizes.

    eta_ij = sum of coefficients times columns + sum of effects b_i times columns,     b_i ~ N(0, Psi) over all variables

Variables are drawn in order, each given those before it, with the parameters of `models/conditional_glmm.py`. The size
of a cluster

    n_i = least + Poisson((mean - least) exp(s'z_i - s'R s / 2))     z_i = effects over their sds, R their correlations

has expectation `mean` for every s.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from bayesimp.errors import SpecificationError
from bayesimp.families.record import Family
from bayesimp.families.registry import FAMILIES
from bayesimp.formulas.syntax import Call, Level, Name, Node, Op, read, write
from bayesimp.layout import Record

__all__ = ["ClusterSizes", "Design", "SimulatedVariable"]

Array = NDArray[Any]
FLAGS = "_censored"  # suffix of the column that says which numbers of a variable are limits


@dataclass(frozen=True)
class SimulatedVariable(Record):
    """One variable, given those before it.

    Parameters
    ----------
    name, family, link
        Family as in `bayesimp.IncompleteData`; link "probit" for bernoulli and binomial variables.
    coefficients
        Term -> coefficient. Terms are "Intercept", earlier columns, "cluster_mean(x)", "within(x)", "grade[b]" (whether
        grade is b), and products of these, "x:z". As in formulas, a name with blanks is written in backticks,
        "within(`blood pressure`)"; alone it needs none. A categorical variable has one mapping for each level except
        the first.
    effects
        Terms with a random effect by cluster, such as ``("Intercept", "x")``. (Categorical: in each level except the
        first.)
    level
        "cluster" for a cluster-level variable, which can depend only on other cluster-level variables.
    sd, shape, trials
        `sd`: residual standard deviation (normal; lognormal and Yeo-Johnson: on the normal scale), scale (Student-t).
        `shape`: shape (negative binomial, gamma, inverse Gaussian, beta), degrees of freedom (Student-t), lambda
        (Yeo-Johnson). `trials`: trials (binomial).
    zeros
        Probability of a structural zero (zero-inflated counts) or of a zero (hurdle).
    limits
        Lower and upper limit of detection of a censored variable y: values beyond are replaced by the limit, and the
        column "y_censored" says which. Later variables depend on the values themselves.
    levels, increments
        Labels of an ordinal or categorical variable; distances between the cutpoints of an ordinal variable, one fewer
        than cutpoints.
    """

    name: str
    family: str = "normal"
    coefficients: Mapping[str, float] | Sequence[Mapping[str, float]] = field(default_factory=dict)
    effects: Sequence[str] = ()
    level: Literal["row", "cluster"] = "row"
    sd: float = 1.0
    shape: float = 1.0
    trials: int = 1
    link: str = "logit"
    zeros: float = 0.2
    limits: tuple[float, float] = (-np.inf, np.inf)
    levels: Sequence[str] = ()
    increments: Sequence[float] = ()

    def __post_init__(self) -> None:
        if self.family not in FAMILIES:
            raise SpecificationError(
                f"'{self.name}': family is one of {', '.join(FAMILIES)}; got {self.family!r}."
            )
        if not 0 <= self.zeros < 1 or not self.limits[0] < self.limits[1]:
            raise SpecificationError(
                f"'{self.name}': zeros is a probability below 1, limits are two numbers in order; got {self.zeros} and "
                f"{self.limits}."
            )
        if self.level == "cluster" and self.effects:
            raise SpecificationError(
                f"'{self.name}' is a cluster-level variable, which cannot have random effects."
            )
        if self.distribution.is_ordered and len(self.levels) != len(self.increments) + 2:
            raise SpecificationError(f"'{self.name}': K levels of an ordinal variable have K - 2 increments.")
        if self.distribution.predictor_per_level and len(self.levels) != len(self.predictors) + 1:
            raise SpecificationError(
                f"'{self.name}': K levels of a categorical variable have K - 1 mappings of coefficients."
            )

    @property
    def distribution(self) -> Family:
        """The record of the variable's family."""
        return FAMILIES[self.family]

    @property
    def predictors(self) -> list[Mapping[str, float]]:
        """Coefficients of each linear predictor."""
        return [self.coefficients] if isinstance(self.coefficients, Mapping) else list(self.coefficients)

    @property
    def effect_names(self) -> list[str]:
        """Names of its rows of Psi: "y.Intercept", or "c[b].Intercept" for categorical variables."""
        each = self.distribution.predictor_per_level
        heads = [f"{self.name}[{x}]" for x in self.levels[1:]] if each else [self.name]
        return [f"{head}.{term}" for head in heads for term in self.effects]


@dataclass(frozen=True)
class ClusterSizes(Record):
    """Sizes of clusters: mean, smallest possible size, and strengths by effect, ``{"y.Intercept": 0.5}``."""

    mean: float
    least: int = 1
    on: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not 1 <= self.least <= self.mean:
            raise SpecificationError(
                f"ClusterSizes: 1 <= least <= mean; got least = {self.least}, mean = {self.mean}."
            )


@dataclass(frozen=True)
class Design(Record):
    """A design of simulated tables; ``design(seed=1)`` returns one, so it can be the first step of a `Scenario`.

    Parameters
    ----------
    variables
        `SimulatedVariable` records, in an order in which each depends only on those before it.
    clusters
        Number of clusters.
    sizes
        Rows of each cluster: a number, a sequence, or `ClusterSizes`.
    Psi
        Covariance of all effects, in the order of `effect_names`; may be singular.
    cluster
        Name of the column of clusters, which are 1 .. m.

    Raises
    ------
    SpecificationError
        If Psi does not match the effects or is not a covariance, or a term does not exist yet.
    """

    variables: Sequence[SimulatedVariable]
    clusters: int
    sizes: int | Sequence[int] | ClusterSizes
    Psi: ArrayLike = ()
    cluster: str = "cluster"

    def __post_init__(self) -> None:
        k = len(self.effect_names)
        Psi = np.asarray(self.Psi, dtype=float).reshape(0, 0) if k == 0 else np.asarray(self.Psi, dtype=float)
        if (
            Psi.shape != (k, k)
            or not np.allclose(Psi, Psi.T)
            or (k and np.linalg.eigvalsh(Psi).min() < -1e-9)
        ):
            raise SpecificationError(
                f"Psi must be a covariance of the {k} effects {', '.join(self.effect_names)}; got shape {Psi.shape}."
            )
        object.__setattr__(self, "Psi", Psi)
        if isinstance(self.sizes, Sequence) and len(self.sizes) != self.clusters:
            raise SpecificationError(
                f"sizes must be {self.clusters} numbers, one per cluster; got {len(self.sizes)}."
            )
        if isinstance(self.sizes, ClusterSizes):
            for name in self.sizes.on:
                if name not in self.effect_names:
                    raise SpecificationError(
                        f"sizes depend on {name!r}; the effects are {', '.join(self.effect_names)}."
                    )

    @property
    def effect_names(self) -> list[str]:
        """Names of the rows of Psi."""
        return [name for variable in self.variables for name in variable.effect_names]

    @property
    def families(self) -> dict[str, str]:
        """Variable -> family, as `bayesimp.IncompleteData` accepts it."""
        return {
            v.name: f"{v.family}({v.name}{FLAGS})" if v.distribution.is_censored else v.family
            for v in self.variables
        }

    def __call__(self, *, seed: int) -> pd.DataFrame:
        """Simulate one table."""
        rng = np.random.default_rng(seed)
        Psi = np.asarray(self.Psi)
        b = (
            rng.multivariate_normal(np.zeros(len(Psi)), Psi, self.clusters, method="eigh")
            if len(Psi)
            else None
        )
        codes = np.repeat(np.arange(self.clusters), self._sizes(b, rng))
        columns: dict[str, Any] = {}
        place = 0
        for v in self.variables:
            where = np.arange(self.clusters) if v.level == "cluster" else codes
            eta = np.zeros((len(where), len(v.predictors)))
            for r, coefficients in enumerate(v.predictors):
                for term, slope in coefficients.items():
                    eta[:, r] += slope * self._term(term, columns, codes, v)
                for term in v.effects:
                    assert b is not None  # as there are effects
                    eta[:, r] += b[codes, place] * self._term(term, columns, codes, v)
                    place += 1
            values = _drawn(v, eta, rng)
            columns[v.name] = values[codes] if v.level == "cluster" else values
        shown: dict[str, Any] = {}
        for v in self.variables:
            shown |= _shown(v, columns[v.name])
        return pd.DataFrame({self.cluster: codes + 1, **shown})

    def _sizes(self, b: Array | None, rng: np.random.Generator) -> NDArray[np.intp]:
        if not isinstance(self.sizes, ClusterSizes):
            return np.broadcast_to(np.asarray(self.sizes), (self.clusters,))
        log = np.zeros(self.clusters)
        if self.sizes.on:
            s = np.array([self.sizes.on.get(name, 0.0) for name in self.effect_names])
            sd = np.sqrt(np.diag(np.asarray(self.Psi)))
            over = np.divide(s, sd, out=np.zeros_like(s), where=sd > 0)
            assert b is not None  # as there are effects
            log = b @ over - over @ np.asarray(self.Psi) @ over / 2
        return self.sizes.least + rng.poisson((self.sizes.mean - self.sizes.least) * np.exp(log))

    def _term(
        self, term: str, columns: Mapping[str, Any], codes: NDArray[np.intp], v: SimulatedVariable
    ) -> Array:
        """The product of columns, (N,) or (m,)."""
        first = np.searchsorted(codes, np.arange(self.clusters))
        out = np.ones(len(codes))
        try:
            tree = Name(term) if term in columns else read(term)
        except SpecificationError as error:
            raise SpecificationError(
                f"'{v.name}': {error} In a term, a name with blanks or signs is written in backticks: "
                "`blood pressure`."
            ) from None
        for factor in _factors(tree):
            out = out * self._factor(factor, columns, codes, v)
        return out[first] if v.level == "cluster" else out

    def _factor(
        self, factor: Node, columns: Mapping[str, Any], codes: NDArray[np.intp], v: SimulatedVariable
    ) -> Array | float:
        function: str | None = None
        level: str | None = None
        match factor:
            case Name("Intercept"):
                return 1.0
            case Call("within" | "cluster_mean" as called, (Name(name),), ()):
                function = str(called)
            case Level(Name(name), label):
                level = label
            case Name(name):
                pass
            case _:
                name = ""
        if name not in columns:
            known = ", ".join(write(Name(column)) for column in columns) or "none"
            raise SpecificationError(
                f"'{v.name}': {write(factor)!r} is not among the columns before it: {known}."
            )
        before = next(w for w in self.variables if w.name == name)
        if v.level == "cluster" and before.level != "cluster" and function != "cluster_mean":
            raise SpecificationError(
                f"'{v.name}' is a cluster-level variable, but {name!r} varies within clusters."
            )
        values = np.asarray(columns[name], dtype=np.float64)
        if level is not None:
            if level not in before.levels:
                raise SpecificationError(
                    f"'{v.name}': {name!r} has no level {level!r}; it has {', '.join(before.levels)}."
                )
            return (values == list(before.levels).index(level)).astype(np.float64)
        if function is not None:
            mean = (np.bincount(codes, values) / np.bincount(codes))[codes]
            return mean if function == "cluster_mean" else values - mean
        return values


def _factors(node: Node) -> list[Node]:
    """The factors of a product ``a:b:c``."""
    match node:
        case Op(":", left, right):
            return [*_factors(left), *_factors(right)]
    return [node]


def _drawn(v: SimulatedVariable, eta: Array, rng: np.random.Generator) -> Array:
    """Values given linear predictors (n, r), as numbers; levels from 0."""
    if v.distribution.simulate is None:
        raise SpecificationError(f"'{v.name}': variables of family {v.family!r} are not simulated.")
    return v.distribution.simulate(v, eta, rng)


def _shown(v: SimulatedVariable, values: Array) -> dict[str, Any]:
    """The columns of a variable in the table: levels as labels, values beyond a limit as the limit."""
    if v.distribution.is_factor:
        return {v.name: pd.Categorical.from_codes(values, list(v.levels), ordered=v.distribution.is_ordered)}
    if v.distribution.is_censored:
        low, high = v.limits
        words = np.where(values < low, "left", np.where(values > high, "right", "none"))
        return {v.name: np.clip(values, low, high), v.name + FLAGS: words}
    return {v.name: values}
