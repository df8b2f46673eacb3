"""All families by name, and how a user's name becomes one of them."""

from __future__ import annotations

from collections.abc import Collection

from bayesimp.errors import SpecificationError
from bayesimp.families.binary import BERNOULLI, BINOMIAL
from bayesimp.families.censored import CENSORED
from bayesimp.families.counts import NEGATIVE_BINOMIAL, POISSON
from bayesimp.families.hurdle import HURDLE_NEGATIVE_BINOMIAL, HURDLE_POISSON
from bayesimp.families.levels import CATEGORICAL, ORDINAL
from bayesimp.families.normal import NONE, NORMAL
from bayesimp.families.positive import GAMMA, INVERSE_GAUSSIAN, LOGNORMAL
from bayesimp.families.proportion import BETA
from bayesimp.families.record import Family
from bayesimp.families.robust import STUDENT
from bayesimp.families.transformed import YEO_JOHNSON
from bayesimp.families.zero_inflated import ZERO_INFLATED_NEGATIVE_BINOMIAL, ZERO_INFLATED_POISSON
from bayesimp.messages import suggestion

__all__ = [
    "FAMILIES",
    "analysis_names",
    "censoring",
    "family_of",
    "known_names",
    "read_name",
    "register",
    "trials",
]

FAMILIES: dict[str, Family] = {
    family.name: family
    for family in (
        NORMAL, STUDENT, YEO_JOHNSON, BERNOULLI, BINOMIAL, POISSON, NEGATIVE_BINOMIAL, ZERO_INFLATED_POISSON,
        ZERO_INFLATED_NEGATIVE_BINOMIAL, HURDLE_POISSON, HURDLE_NEGATIVE_BINOMIAL, GAMMA, INVERSE_GAUSSIAN, LOGNORMAL,
        BETA, CENSORED, ORDINAL, CATEGORICAL, NONE,
    )
}  # fmt: skip

TOBIT = (
    "Declare 'censored(c)', with c the name of a column that has 'left' where only an upper limit of the value is known, "
    "'right' where only a lower one is, 'none' elsewhere; the limits stand in place of the values."
)
INTERVAL = (
    "Values between two limits are imputed by a PyMC model of your own: bi.FromPyMC, as in "
    "bayesimp.models.detection_limit. Leave them missing in the table."
)
BOX_COX = (
    "Declare 'yeo_johnson' if its transformation is to be estimated, 'lognormal' or 'gamma' if the variable is positive "
    "and skewed, or put a transformed column into the table."
)
ELSEWHERE = {
    "tobit": TOBIT, "detection_limit": TOBIT, "interval_censored": INTERVAL, "box_cox": BOX_COX, "box-cox": BOX_COX,
}  # fmt: skip


def register(family: Family) -> Family:
    """Make a family known under its name and aliases, for tables made from now on.

    Parameters
    ----------
    family
        Its record. A saved run names its families; it is loaded where they are registered.

    Returns
    -------
    The family itself.

    Raises
    ------
    SpecificationError
        A name that another family has, or that is not in lower case; a record without links.
    """
    names = (family.name, *family.aliases)
    for name in names:
        if name != name.lower() or "(" in name or not name.strip():
            raise SpecificationError(f"Family {name!r}: a name is text in lower case without parentheses.")
        if name in known_names():
            owner = next(f.name for f in FAMILIES.values() if name in (f.name, *f.aliases))
            raise SpecificationError(
                f"Family {family.name!r}: the name {name!r} is that of family {owner!r}. Choose another."
            )
    if not family.links:
        raise SpecificationError(
            f'Family {family.name!r} has no link. Give links={{"log": None}}, for one; None says that no kernel has '
            "the density."
        )
    FAMILIES[family.name] = family
    return family


def family_of(name: str) -> Family:
    """The record of a family by its stored name, as `IncompleteData.families` has it: ``"poisson"``, ``"binomial(n)"``.

    Raises
    ------
    SpecificationError
        Not a family that is registered.
    """
    family = FAMILIES.get(name.partition("(")[0])
    if family is None:
        raise SpecificationError(f"Family {name!r} is not known. {suggestion(name, known_names())}")
    return family


def known_names() -> tuple[str, ...]:
    """Names and aliases of all families."""
    return tuple(name for family in FAMILIES.values() for name in (family.name, *family.aliases))


def analysis_names(*fitted_by: str) -> tuple[str, ...]:
    """Names of the families whose analyses are fitted in one of these ways (`Family.fitted_by`)."""
    found = [family for family in FAMILIES.values() if family.fitted_by in fitted_by]
    return tuple(dict.fromkeys(name for family in found for name in (family.name, family.glmm_name)))


def read_name(name: str, variable: str, columns: Collection[str] = ()) -> str:
    """The family meant by a name or alias; ``"binomial(n)"`` and ``"censored(c)"`` keep the name of their column.

    Spaces around its name are part of it where one of the columns of the table is called so.

    Raises
    ------
    SpecificationError
        Not a family.
    """
    inside = trials(name) or censoring(name)
    if column := inside if inside in columns else inside.strip():
        return f"{name.partition('(')[0]}({column})"
    for family in FAMILIES.values():
        if isinstance(name, str) and name.lower() in (family.name, *family.aliases):
            if family.column_of_trials:
                raise SpecificationError(
                    f"Family '{family.name}' of '{variable}': say out of how many by the name of a column, "
                    f"\"{family.name}(n)\"; 0 and 1 are 'bernoulli'."
                )
            if family.is_censored:
                raise SpecificationError(
                    f"Family '{family.name}' of '{variable}': say which values are limits by the name of a column, "
                    f"\"{family.name}(c)\"; it has 'left' (below), 'right' (above) or 'none' in each row."
                )
            return family.name
    if isinstance(name, str) and name.lower() in ELSEWHERE:
        raise SpecificationError(f"Family {name!r} of '{variable}' does not exist. {ELSEWHERE[name.lower()]}")
    raise SpecificationError(
        f"Family {name!r} of '{variable}' is not known. {suggestion(name, known_names())}"
    )


def trials(name: str) -> str:
    """The column of trials of ``"binomial(n)"``, spaces and all; empty for other families."""
    family, inside = _split(name)
    return inside if family is not None and family.column_of_trials else ""


def censoring(name: str) -> str:
    """The column of ``"censored(c)"`` that says which values are limits; empty for other families."""
    family, inside = _split(name)
    return inside if family is not None and family.is_censored else ""


def _split(name: str) -> tuple[Family | None, str]:
    """Family and column of ``"binomial(n)"``."""
    if not isinstance(name, str) or not name.endswith(")"):
        return None, ""
    head, _, inside = name[:-1].partition("(")
    return FAMILIES.get(head), inside
