"""A family of distributions as one record with everything that the rest of the package needs to know.

Other rooms never compare names of families; they use the record. A new family is therefore a record that is registered
(`bayesimp.families.register`), and nothing else changes. `bayesimp.families.positive` is a template.

A family without kernel codes has no compiled density. It is imputed by method ``pymc``, with the node that
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
        The set in words, for the response in its model; ``levels-1`` is replaced by its number.
    outside
        ``(y, highest) -> (n,) bool``: whether each value of ``y`` (n,), which has no missing values, is outside the
        set. ``highest`` is the largest value allowed: the trials (n,), the number of levels minus one, or infinity.
    rule
        Why a column with other values is refused, for the message.
    is_bounded
        Whether both ends are finite, so that imputed values cannot diverge.
    is_positive
        Whether all values are above zero, so that their logarithms exist.
    is_below_one
        Whether all values are below one; chained equations prevent them from being rounded to one.
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
    "a proportion lies between 0 and 1, and this family has no mass at 0 or 1", is_bounded=True, is_positive=True,
    is_below_one=True,
    cure="Divide percentages by 100; declare 'binomial(n)' if they are successes out of a known number of trials; if 0 "
    "and 1 are rounded, enter the values before rounding; if they are real, split the variable (whether it is 0 or "
    "1, and the proportion if it is neither), or declare 'normal'",
)  # fmt: skip
COUNTS = Support("counts", "0, 1, 2, ..", _no_count, COUNT_RULE)
SUCCESSES = Support("counts", "0..trials", _no_count_up_to, COUNT_RULE, is_bounded=True)
BINARY = Support("levels", "0 and 1", lambda y, highest: (y != 0) & (y != 1), is_bounded=True)
LEVELS = Support("levels", "the codes 0..levels-1", _no_count_up_to, is_bounded=True)
NOTHING = Support("nothing", "nothing", _nowhere, is_bounded=True)


@dataclass(frozen=True)
class Auxiliary:
    """A parameter of a response's distribution besides its linear predictors.

    Attributes
    ----------
    name
        Its name in results, as ``shape_y`` for a variable y.
    sampled
        The name of the free variable in the PyMC model that represents it.
    from_sampled, from_kernel
        Functions that compute the parameter from that variable, and from the kernels' array ``aux``
        (`bayesimp.kernels.families.responses`).
    node
        ``(response, unit) -> node``: adds the parameter with its prior to the PyMC model in context and returns its
        node, before multiplication by ``unit``; ``response``: suffix of its names in a model of several responses. None
        if the node of the response includes it.
    log_prior
        The log prior density (...,) of the free variable from arrays ``aux`` (..., a), for a family with kernels.
    to_kernel
        The entries of ``aux`` from that variable; None: the same as `from_sampled`.
    has_unit
        Whether it is multiplied by the unit of the response: its mean if the response is divided by that, its standard
        deviation if the response is standardised.
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
    """Arguments of the density of one response besides its values and linear predictors (`Family.log_density`).

    Attributes
    ----------
    name, link
        Name and link of the response.
    trials
        (n,) trials of binomials, otherwise 1.
    levels
        Number of levels, 0 if it has none.
    scale, second
        Nodes of the residual standard deviation, scale or shape, and of a further parameter; None if there is none.
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
        As users write them, in lower case; results and files store the name.
    words
        The values of a variable of the family, in a few words.
    support
        The set of possible values.
    links
        Link -> the kernels' code (`bayesimp.kernels.families.codes`), None if no kernel has the density. The first link
        is the default.
    response
        ``(data, eta) -> None``: adds the node of the response to the PyMC model in context, with ``data`` a
        `bayesimp.models.conditional_normal.ConditionalData` and ``eta`` (n, r) the linear predictors. It imports PyMC
        itself. None if there is no such model.
    auxiliary
        Shape or cutpoints, if it has any.
    further
        Parameters after that one, in the order of the kernels' array ``aux``.
    least_levels, most_levels
        Numbers of levels that its models allow; 0 as the most means any number.
    is_ordered
        Whether the order of its levels matters; text without an order is then refused.
    predictor_per_level
        Whether each level except the first has its own linear predictor: K - 1 for K levels.
    takes_trials
        Whether the response is a number of successes out of trials; without a column of trials there is one.
    column_of_trials
        Whether the name includes the column of trials, as in ``"binomial(n)"``.
    is_censored
        Whether some values are known only to lie beyond a limit. The name includes the column that says which, as in
        ``"censored(c)"`` (`bayesimp.families.censored`).
    as_predictor
        The function through which it predicts other variables by default, if its own model has a log link: ``"log"``,
        ``"log1p"``, or empty for no transformation.
    spare_rows
        Number of rows, beyond the number of coefficients, that a regression in one cluster needs.
    fitted_by
        How analyses with this outcome are fitted: ``"linear"``, ``"laplace"``, ``"cumulative"`` (thresholds between
        levels), ``"glmm"`` (the optional package), or empty if they are not.
    glmm_name
        Its name in that package, and in R's ``glm``.
    log_density
        ``(y, eta, given) -> (n,) node``: log p(y | eta) for values y (n,), numbers or nodes, with ``eta`` the list of r
        linear predictors (n,) and ``given`` a `GivenParameters`. It imports PyTensor itself. None: PyMC's joint model
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
    fitted_by: Literal["", "linear", "laplace", "cumulative", "glmm"] = ""
    glmm_name: str = ""
    log_density: Callable[[Any, Sequence[Any], GivenParameters], Any] | None = None
    simulate: Simulator | None = None

    def __reduce__(self) -> tuple[Callable[[str], Family], tuple[str]]:
        """Pickles and copies store only the name; the record, with its functions, comes from the registry."""
        from bayesimp.families.registry import family_of

        return family_of, (self.name,)

    @property
    def is_normal(self) -> bool:
        """Whether its models are linear, on cross products and with conjugate updates."""
        return self.name == "normal"

    @property
    def has_normal_errors(self) -> bool:
        """Whether values are normal given the linear predictor, even if some are censored."""
        return self.is_normal or self.is_censored

    @property
    def auxiliaries(self) -> tuple[Auxiliary, ...]:
        """All parameters besides linear predictors, in order."""
        return () if self.auxiliary is None else (self.auxiliary, *self.further)

    @property
    def is_standardised(self) -> bool:
        """Whether models use the response minus its mean, divided by its standard deviation: a compiled identity link.

        For a family without kernel codes the response is not scaled.
        """
        return self.links.get("identity") is not None

    @property
    def is_imputable(self) -> bool:
        """Whether a variable of this family can be imputed or predict others."""
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
        """Whether it has at most two levels, so that it is one column as a predictor."""
        return self.is_coded and self.most_levels == 2

    @property
    def is_factor(self) -> bool:
        """Whether it may have more than two levels: as a predictor it is a 0/1 column for each except the first."""
        return self.is_coded and not self.is_two_valued

    @property
    def has_log_link(self) -> bool:
        """Whether its mean is the exponential of the linear predictor."""
        return next(iter(self.links), "") == "log"

    @property
    def is_divided_by_mean(self) -> bool:
        """Whether models use the response divided by its mean, which under a log link only shifts the intercept."""
        return self.has_log_link and self.support.is_positive

    @property
    def has_log_mean_intercept(self) -> bool:
        """Whether a weak prior of the intercept is centred at the log of the mean: a log link without division."""
        return self.has_log_link and not self.is_divided_by_mean

    @property
    def has_kernel(self) -> bool:
        """Whether kernels have its density under each of its links."""
        return bool(self.links) and None not in self.links.values()

    def link(self, asked: str) -> str:
        """The requested link if the family has it, otherwise its default."""
        return asked if asked in self.links else next(iter(self.links))

    def code(self, link: str) -> int:
        """The kernels' code of the family with a link.

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
        """The number r of linear predictors of a variable with this number of levels."""
        return levels - 1 if self.predictor_per_level else 1

    def outside(self, y: Array, highest: Any = np.inf) -> NDArray[np.bool_]:
        """Whether each value is outside the support, (n,); missing values (NaN) are not. See `Support.outside`."""
        return self.support.outside(y, highest) & ~np.isnan(y)
