"""A family of distributions as one record: everything that the rest of the package asks about it.

Other rooms never compare names of families; they ask the record. So a new family is a record that is registered
(`bayesimp.families.register`), and nothing else changes. `bayesimp.families.positive` is a template.

A family without kernel codes has no compiled density. It is imputed through method ``pymc``, by the node that
`Family.response` adds to the model; methods that need the density refuse it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["BINARY", "COUNTS", "LEVELS", "NOTHING", "POSITIVE", "PROPORTION", "REAL", "SUCCESSES", "Auxiliary", "Family",
           "GivenParameters", "Simulator", "Support"]  # fmt: skip

Array = NDArray[np.float64]
Simulator = Callable[[Any, Array, np.random.Generator], Array]  # `Family.simulate`


@dataclass(frozen=True)
class Support:
    """The set of values that a variable of a family can have.

    Attributes
    ----------
    kind
        ``"numbers"``: continuous values; ``"counts"``: whole numbers; ``"levels"``: positions 0, 1, ... among the
        values of the column; ``"nothing"``: the variable is neither imputed nor a predictor.
    values
        The set in words, for a response as its model sees it; ``levels-1`` is replaced by its number.
    outside
        ``(y, highest) -> (n,) bool``: whether each value of ``y`` (n,), which has no missing values, lies outside the
        set. ``highest`` is the largest value allowed: the trials (n,), the number of levels less one, or infinity.
    rule
        Why a column with other values is refused, for the message.
    is_bounded
        Whether both ends are finite, so that imputed values cannot run away.
    is_positive
        Whether all values are above zero, so that their logarithms exist.
    is_below_one
        Whether all values are below one, which the loop of chained equations keeps them from being rounded to.
    cure
        What to do about other values, for the message.
    """

    kind: Literal["numbers", "counts", "levels", "nothing"]
    values: str
    outside: Callable[[Array, Any], NDArray[np.bool_]]
    rule: str = ""
    is_bounded: bool = False
    is_positive: bool = False
    is_below_one: bool = False
    cure: str = "Correct them, or declare 'normal'"


def _nowhere(y: Array, highest: Any) -> NDArray[np.bool_]:
    return np.zeros(np.shape(y), dtype=bool)


def _no_count(y: Array, highest: Any) -> NDArray[np.bool_]:
    return (y < 0) | (y != np.floor(y))


def _no_count_up_to(y: Array, highest: Any) -> NDArray[np.bool_]:
    return _no_count(y, highest) | (y > highest)


COUNT_RULE = "a count is 0, 1, 2, ..."
REAL = Support("numbers", "numbers", _nowhere)
POSITIVE = Support(
    "numbers", "positive numbers", lambda y, highest: y <= 0, "its values are positive", is_positive=True
)
PROPORTION = Support(
    "numbers", "numbers between 0 and 1, both excluded", lambda y, highest: (y <= 0) | (y >= 1),
    "a proportion lies between 0 and 1, and this family has no mass at 0 and at 1", is_bounded=True, is_positive=True,
    is_below_one=True,
    cure="Divide percentages by 100; declare 'binomial(n)' if they are successes out of a known number of trials; if 0 "
    "and 1 are rounded, write the value before rounding; if they are real, split the variable (whether it is 0 or 1, and "
    "the proportion where it is neither), or declare 'normal'",
)  # fmt: skip
COUNTS = Support("counts", "0, 1, 2, ..", _no_count, COUNT_RULE)
SUCCESSES = Support("counts", "0..trials", _no_count_up_to, COUNT_RULE, is_bounded=True)
BINARY = Support("levels", "0 and 1", lambda y, highest: (y != 0) & (y != 1), is_bounded=True)
LEVELS = Support("levels", "the codes 0..levels-1", _no_count_up_to, is_bounded=True)
NOTHING = Support("nothing", "nothing", _nowhere, is_bounded=True)


@dataclass(frozen=True)
class Auxiliary:
    """A parameter that a response's distribution has besides its linear predictors.

    Attributes
    ----------
    name
        In results, as ``shape_y`` of a variable y.
    sampled
        The free variable of the PyMC model that stands for it.
    from_sampled, from_kernel
        The parameter from that variable, and from the array ``aux`` of the kernels
        (`bayesimp.kernels.families.responses`).
    node
        ``(response, unit) -> node``: the parameter as a node of the PyMC model that is open, with its prior, before it is
        multiplied by ``unit``; ``response``: how its names end in a model of several. None where the node of the
        response has it within.
    log_prior
        The log density of the free variable (...,) from arrays ``aux`` (..., a) of a family that kernels have.
    to_kernel
        The entries of ``aux`` from that variable; None: as `from_sampled`.
    has_unit
        Whether it is multiplied by the unit of the response: its mean where it is divided by that, its standard deviation
        where it is standardised.
    """

    name: str
    sampled: str
    from_sampled: Callable[[Array], Array]
    from_kernel: Callable[[Array], Array]
    log_prior: Callable[[Array], Array] | None = None
    node: Callable[..., Any] | None = None
    to_kernel: Callable[[Array], Array] | None = None
    has_unit: bool = False


class GivenParameters(NamedTuple):
    """What the density of one response needs besides its values and linear predictors (`Family.log_density`).

    Attributes
    ----------
    name, link
        Of the response.
    trials
        (n,) of binomials, else 1.
    levels
        Number of levels of its values, 0 if it has none.
    scale, second
        The residual standard deviation, scale or shape, and a parameter after it, as nodes; None where there is none.
    """

    name: str
    link: str
    trials: Array
    levels: int
    scale: Any = None
    second: Any = None


@dataclass(frozen=True, eq=False)
class Family:
    """A family of distributions of a response given its linear predictors.

    Attributes
    ----------
    name, aliases
        As users write it, in lower case; the name is what results and files store.
    words
        What a variable of the family holds, in a few words.
    support
        Values that it can have.
    links
        The kernels' code by link (`bayesimp.kernels.families.codes`), None where no kernel has the density. The
        first link is the default.
    response
        ``(data, eta) -> None``: adds the node of the response to the PyMC model that is open, with ``data`` a
        `bayesimp.models.conditional_normal.ConditionalData` and ``eta`` (n, r) the linear predictors. PyMC is imported
        inside it. None where there is no such model.
    auxiliary
        Shape or cutpoints, if it has any.
    further
        Parameters after that one, in the order of the array ``aux`` of the kernels.
    least_levels, most_levels
        Of a variable with levels, as its models need them; 0 as the most means any number.
    is_ordered
        Whether the order of its levels matters, so that text without an order is refused.
    predictor_per_level
        Whether each level but the first has a linear predictor of its own: K - 1 of K levels.
    takes_trials
        Whether the response is a number of successes out of trials, one trial if no column says how many.
    column_of_trials
        Whether the column of trials is part of the name, as in ``"binomial(n)"``.
    is_censored
        Whether some values are known only to lie beyond a limit. A column, whose name is part of the family's, as in
        ``"censored(c)"``, says which (`bayesimp.families.censored`).
    as_predictor
        The function under which it predicts other variables by default, where its own model has a log link:
        ``"log"``, ``"log1p"``, or empty for the variable as it is.
    spare_rows
        Rows beyond the number of coefficients that a regression in one cluster needs.
    fitted_by
        How it is the outcome of an analysis: ``"linear"``, ``"laplace"``, ``"glmm"`` (by the optional package), or
        empty if it is none.
    glmm_name
        Its name in that package, and in R's ``glm``.
    log_density
        ``(y, eta, given) -> (n,) node``: log p(y | eta) of values y (n,), numbers or nodes, with ``eta`` the list of r
        linear predictors (n,) and ``given`` a `GivenParameters`. PyTensor is imported inside it. None: PyMC's joint model
        (models/joint_glmm.py) refuses the family.
    simulate
        ``(variable, eta, rng) -> (n,)``: values given linear predictors ``eta`` (n, r), with ``variable`` a
        `bayesimp.studies.design.SimulatedVariable`. None: `bayesimp.studies.Design` refuses the family.
    """

    name: str
    words: str
    support: Support
    links: Mapping[str, int | None]
    aliases: tuple[str, ...] = ()
    response: Callable[[Any, Any], None] | None = None
    auxiliary: Auxiliary | None = None
    further: tuple[Auxiliary, ...] = ()
    least_levels: int = 0
    most_levels: int = 0
    is_ordered: bool = False
    predictor_per_level: bool = False
    takes_trials: bool = False
    column_of_trials: bool = False
    is_censored: bool = False
    as_predictor: Literal["", "log", "log1p"] = ""
    spare_rows: int = 0
    fitted_by: Literal["", "linear", "laplace", "glmm"] = ""
    glmm_name: str = ""
    log_density: Callable[[Any, Sequence[Any], GivenParameters], Any] | None = None
    simulate: Simulator | None = None

    def __reduce__(self) -> tuple[Callable[[str], Family], tuple[str]]:
        """Pickles and copies hold the name: a family is its record in the registry, functions and all."""
        from bayesimp.families.registry import family_of

        return family_of, (self.name,)

    @property
    def is_normal(self) -> bool:
        """Whether its models are the linear ones, on cross products and with conjugate updates."""
        return self.name == "normal"

    @property
    def has_normal_errors(self) -> bool:
        """Whether values are normal given the linear predictor, whether or not all of them are seen."""
        return self.is_normal or self.is_censored

    @property
    def auxiliaries(self) -> tuple[Auxiliary, ...]:
        """All parameters besides linear predictors, in order."""
        return () if self.auxiliary is None else (self.auxiliary, *self.further)

    @property
    def is_standardised(self) -> bool:
        """Whether models see the response less its mean, divided by its standard deviation: an identity link, compiled.

        A family without kernel codes sees it as it is.
        """
        return self.links.get("identity") is not None

    @property
    def is_imputable(self) -> bool:
        """Whether a variable of it can be imputed, or predict others."""
        return self.support.kind != "nothing"

    @property
    def is_continuous(self) -> bool:
        """Whether two observed values agree only by chance."""
        return self.support.kind == "numbers"

    @property
    def is_count(self) -> bool:
        """Whether its values are counts."""
        return self.support.kind == "counts"

    @property
    def is_coded(self) -> bool:
        """Whether its values are levels, numbered from 0."""
        return self.support.kind == "levels"

    @property
    def is_two_valued(self) -> bool:
        """Whether it has at most two levels: as a predictor it is one column."""
        return self.is_coded and self.most_levels == 2

    @property
    def is_factor(self) -> bool:
        """Whether it may have more than two levels: as a predictor it is a column of 0 and 1 for each but the first."""
        return self.is_coded and not self.is_two_valued

    @property
    def has_log_link(self) -> bool:
        """Whether its mean is the exponential of the linear predictor."""
        return next(iter(self.links), "") == "log"

    @property
    def is_divided_by_mean(self) -> bool:
        """Whether models see the response divided by its mean, which a log link turns into a shift of the intercept."""
        return self.has_log_link and self.support.is_positive

    @property
    def has_log_mean_intercept(self) -> bool:
        """Whether a weak prior of the intercept is around the log of the mean: a log link of undivided values."""
        return self.has_log_link and not self.is_divided_by_mean

    @property
    def has_kernel(self) -> bool:
        """Whether kernels have its density, under each of its links."""
        return bool(self.links) and None not in self.links.values()

    def link(self, asked: str) -> str:
        """The link to use: the one asked for where the family has it, else its default."""
        return asked if asked in self.links else next(iter(self.links))

    def code(self, link: str) -> int:
        """The kernels' code under a link, of a family that has a kernel.

        Raises
        ------
        KeyError
            The family has no such link, or no kernel has its density.
        """
        code = self.links[link]
        if code is None:
            raise KeyError(f"no kernel has the density of family {self.name!r} with link {link!r}")
        return code

    def predictors(self, levels: int = 0) -> int:
        """r, the number of linear predictors of a variable with so many levels."""
        return levels - 1 if self.predictor_per_level else 1

    def outside(self, y: Array, highest: Any = np.inf) -> NDArray[np.bool_]:
        """(n,) whether each value is outside the support; missing values (NaN) are not. See `Support.outside`."""
        return self.support.outside(y, highest) & ~np.isnan(y)
