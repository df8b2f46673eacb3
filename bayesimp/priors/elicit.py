"""Priors from statements about standard deviations and correlations, and from PreliZ distributions.

With q_p the quantile function of the family at scale 1, the statements "median m" and "P(s < u) = p" about a standard
deviation s are two equations,

    scale q_0.5(nu) = m,    scale q_p(nu) = u

The ratio u / m depends on nu alone and decreases in it, so nu is a root found by Brent's method. Half-normal and
exponential distributions have no nu, and half-t has none left if it is given: one statement suffices. For an inverse
gamma variance, s^2 ~ InvGamma(nu/2, 1/(2v)), the quantiles of s are square roots. A correlation of a (d, d) matrix under
LKJ(eta) is 2 B - 1, B ~ Beta(a, a), a = eta - 1 + d/2 (Lewandowski, Kurowicka & Joe 2009, sec. 3.2), so
P(|r| < u) = p determines eta, again as a root.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy import optimize, stats

from bayesimp.arguments import chosen, number
from bayesimp.errors import SpecificationError
from bayesimp.priors.base import Prior
from bayesimp.priors.coefficients import Normal
from bayesimp.priors.huang_wand import HuangWand
from bayesimp.priors.inverse_wishart import InverseWishart
from bayesimp.priors.lkj import LKJ
from bayesimp.priors.scales import Exponential, HalfNormal, HalfT, ScalePrior

__all__ = ["elicit", "from_preliz"]

FAMILIES = ("half-t", "huang-wand", "half-normal", "exponential", "inverse-gamma", "lkj")
NU = (0.1, 1e4)  # degrees of freedom searched; at the largest a half-t equals a half-normal to three figures
ETA = 1e6


def elicit(
    family: str,
    *,
    median: float | None = None,
    upper: float | None = None,
    level: float = 0.95,
    nu: float | None = None,
    d: int = 2,
    sd: ScalePrior | None = None,
) -> Prior:
    """The prior that expresses a belief about a standard deviation or a correlation.

    Parameters
    ----------
    family
        ``"half-t"`` (for `LKJ` and `Diagonal`), ``"huang-wand"`` (a half-t on every standard deviation of a matrix),
        ``"half-normal"``, ``"exponential"``, ``"inverse-gamma"`` (an `InverseWishart` on every variance), ``"lkj"``.
    median
        Median of the standard deviation, in the units of the data.
    upper
        Bound below which the standard deviation (for ``"lkj"``, each absolute correlation) lies with probability `level`.
    level
        Probability of `upper`, above 1/2.
    nu
        Degrees of freedom of a half-t if only one of `median` and `upper` is given; 3 for ``"half-t"``, 2 for
        ``"huang-wand"`` by default.
    d
        Size of the matrix, for ``"lkj"``.
    sd
        Prior of the standard deviations, for ``"lkj"``; `HalfT` by default.

    Returns
    -------
    HalfT, HuangWand, HalfNormal, Exponential, InverseWishart or LKJ with explicit numbers.

    Raises
    ------
    SpecificationError
        Too few or too many statements for the family, or statements that no member of the family satisfies; the message
        says which family does.

    Examples
    --------
    >>> from bayesimp import priors as pr
    >>> pr.elicit("half-t", median=2, upper=10)      # studies differ by about 2, rarely by 10    # doctest: +ELLIPSIS
    HalfT(scale=2.48..., times_sd=None, nu=2.15...)
    >>> model.with_priors(pr.Priors(Psi=pr.Diagonal(pr.elicit("half-t", median=2, upper=10))))    # doctest: +SKIP
    """
    chosen(family, "elicit: family", FAMILIES)
    level = number(level, "level", 0.5, 1.0)
    said = {
        name: number(value, name, 0.0)
        for name, value in (("median", median), ("upper", upper))
        if value is not None
    }
    if len(said) == 2 and said["upper"] <= said["median"]:
        raise SpecificationError(
            f"elicit: upper = {said['upper']:g} must exceed median = {said['median']:g}."
        )
    if family == "lkj":
        return LKJ(_eta(said, level, d), HalfT() if sd is None else sd)
    if family in ("half-normal", "exponential"):
        return _one_number(family, said, level)
    if family == "inverse-gamma":
        return _inverse_gamma(said, level, nu)
    if len(said) == 1:
        nu = (3.0 if family == "half-t" else 2.0) if nu is None else number(nu, "nu", 0.0)
    elif nu is not None:
        raise SpecificationError(f"elicit: {family} with nu={nu:g} takes either median= or upper=, not both.")
    degrees = _degrees(said, level, _half_t) if nu is None else float(nu)
    scale = _scale(said, level, lambda p: _half_t(p, degrees))
    return HalfT(scale, nu=degrees) if family == "half-t" else HuangWand(scale, nu=degrees)


def _half_t(p: float, nu: float) -> float:
    """Quantile of |t_nu|."""
    return float(stats.t(nu).ppf(0.5 + p / 2))


def _root_inverse_gamma(p: float, nu: float) -> float:
    """Quantile of s, s^2 ~ InvGamma(nu/2, 1)."""
    with np.errstate(divide="ignore"):  # infinite for few degrees of freedom, which the search visits
        return float(np.sqrt(stats.invgamma(nu / 2).ppf(p)))


def _scale(said: dict[str, float], level: float, quantile: Callable[[float], float]) -> float:
    """The scale that satisfies the first statement."""
    name, value = next(iter(said.items()))
    return value / quantile(0.5 if name == "median" else level)


def _one_number(family: str, said: dict[str, float], level: float) -> ScalePrior:
    if len(said) != 1:
        raise SpecificationError(
            f"elicit: {family} has one parameter and takes either median= or upper=; got {len(said)} statements. "
            "'half-t' takes both."
        )
    law = stats.halfnorm if family == "half-normal" else stats.expon
    scale = _scale(said, level, lambda p: float(law.ppf(p)))
    return HalfNormal(scale) if family == "half-normal" else Exponential(scale)


def _inverse_gamma(said: dict[str, float], level: float, nu: float | None) -> InverseWishart:
    if len(said) + (nu is not None) != 2:
        raise SpecificationError(
            "elicit: inverse-gamma has two parameters: give median= and upper=, or one of them and nu=."
        )
    degrees = _degrees(said, level, _root_inverse_gamma) if nu is None else number(nu, "nu", 0.0)
    scale = _scale(said, level, lambda p: _root_inverse_gamma(p, degrees))
    return InverseWishart(degrees, 1 / (2 * scale**2), marginal=True)  # s^2 ~ InvGamma(nu/2, scale^2)


def _degrees(said: dict[str, float], level: float, quantile: Callable[[float, float], float]) -> float:
    """nu from the ratio of the two statements."""
    if len(said) < 2:
        raise SpecificationError("elicit: state median=, upper= or both for the standard deviation.")
    ratio = said["upper"] / said["median"]

    def over(log_nu: float) -> float:
        nu = float(np.exp(log_nu))
        return np.log(quantile(level, nu) / quantile(0.5, nu)) - np.log(ratio)

    low, high = np.log(NU)
    if over(high) >= 0:
        least = ratio * np.exp(over(high))
        instead = (
            "use 'inverse-gamma', which takes both"
            if quantile is _half_t
            else "use priors.Fixed, because the two are nearly equal"
        )
        raise SpecificationError(
            f"elicit: upper / median = {ratio:.3g}, but in this family it is at least {least:.3g} at level {level:g}. "
            f"Give one of them alone, or {instead}."
        )
    if over(low) <= 0:
        raise SpecificationError(
            f"elicit: upper / median = {ratio:.3g} requires fewer than {NU[0]:g} degrees of freedom; use a "
            "smaller upper."
        )
    return float(np.exp(optimize.brentq(over, low, high, xtol=1e-12)))


def _eta(said: dict[str, float], level: float, d: int) -> float:
    if set(said) != {"upper"} or not said["upper"] < 1 or isinstance(d, bool) or int(d) != d or d < 2:
        raise SpecificationError(
            "elicit: lkj takes upper=, below 1, the bound of absolute correlations with probability level=, and d=, "
            "the size of the matrix, at least 2."
        )

    def over(log_eta: float) -> float:
        a = np.exp(log_eta) - 1 + d / 2
        return float(stats.beta(a, a).cdf((1 + said["upper"]) / 2) * 2 - 1 - level)

    low, high = np.log(1e-6), np.log(ETA)
    if over(low) >= 0:
        raise SpecificationError(
            f"elicit: in a {d} x {d} matrix, LKJ keeps absolute correlations below {said['upper']:g} with a probability "
            f"of at least {over(low) + level:.3g}; use a larger level."
        )
    if over(high) <= 0:
        raise SpecificationError(
            f"elicit: upper = {said['upper']:g} allows almost no correlation; use priors.Diagonal for none."
        )
    return float(np.exp(optimize.brentq(over, low, high, xtol=1e-12)))


def from_preliz(distribution: Any) -> Prior:
    """A PreliZ distribution, found there by ``maxent``, ``roulette`` or by hand, as a prior.

    Parameters
    ----------
    distribution
        HalfStudentT, HalfCauchy, HalfNormal or Exponential of a standard deviation; InverseGamma of a variance; Normal
        of a coefficient. All parameters must be set.

    Raises
    ------
    SpecificationError
        The distribution is another one, or has unset parameters.

    Examples
    --------
    >>> found = preliz.maxent(preliz.HalfNormal(), lower=0, upper=5, mass=0.9)             # doctest: +SKIP
    >>> pr.from_preliz(found)                                                               # doctest: +SKIP
    """
    made = {
        "HalfStudentT": lambda x: HalfT(x["sigma"], nu=x["nu"]),
        "HalfCauchy": lambda x: HalfT(x["beta"], nu=1.0),
        "HalfNormal": lambda x: HalfNormal(x["sigma"]),
        "Exponential": lambda x: Exponential(1.0 / x["lam"]),
        "InverseGamma": lambda x: InverseWishart(2 * x["alpha"], 1 / (2 * x["beta"]), marginal=True),
        "Normal": lambda x: Normal(x["mu"], x["sigma"]),
    }
    kind = type(distribution).__name__
    if kind not in made or not hasattr(distribution, "params_dict"):
        raise SpecificationError(f"from_preliz takes a PreliZ distribution ({', '.join(made)}), got {kind}.")
    values = {
        name: float(value) for name, value in (distribution.params_dict or {}).items() if value is not None
    }
    try:
        return made[kind](values)
    except KeyError as missing:
        raise SpecificationError(
            f"from_preliz: {kind} has no {missing.args[0]}; set all its parameters."
        ) from None
