"""All families by name, and the interpretation of the names that users give."""

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
    "Declare 'censored(c)', where the column c has 'left' if only an upper limit of the value is known, "
    "'right' if only a lower one is, and 'none' otherwise; limits are entered in place of the values."
)
INTERVAL = (
    "Values between two limits can be imputed by your own PyMC model through bi.FromPyMC, as in "
    "bayesimp.models.detection_limit. Leave them missing in the table."
)
BOX_COX = (
    "Declare 'yeo_johnson' if its transformation is to be estimated, 'lognormal' or 'gamma' if the variable is "
    "positive and skewed, or add a transformed column to the table."
)
ELSEWHERE = {
    "tobit": TOBIT, "detection_limit": TOBIT, "interval_censored": INTERVAL, "box_cox": BOX_COX, "box-cox": BOX_COX,
}  # fmt: skip


def register(family: Family) -> Family:
    """Register a family under its name and aliases, for tables created from now on.

    Parameters
    ----------
    family
        Its record. A saved run stores names of families; to load it, they must be registered.

    Returns
    -------
    The family itself.

    Raises
    ------
    SpecificationError
        A name is taken or not in lower case, or the record has no links.
    """
    names = (family.name, *family.aliases)
    for name in names:
        if name != name.lower() or "(" in name or not name.strip():
            raise SpecificationError(f"Family {name!r}: a name is text in lower case without parentheses.")
        if name in known_names():
            owner = next(f.name for f in FAMILIES.values() if name in (f.name, *f.aliases))
            raise SpecificationError(
                f"Family {family.name!r}: the name {name!r} belongs to family {owner!r}. Choose another."
            )
    if not family.links:
        raise SpecificationError(
            f'Family {family.name!r} has no link. Give links={{"log": None}}, for example; None means that no kernel has '
            "the density."
        )
    FAMILIES[family.name] = family
    return family


def family_of(name: str) -> Family:
    """The record of a family from its stored name, as in `IncompleteData.families`: ``"poisson"``, ``"binomial(n)"``.

    Raises
    ------
    SpecificationError
        The family is not registered.
    """
    family = FAMILIES.get(name.partition("(")[0])
    if family is None:
        raise SpecificationError(f"Family {name!r} is not known. {suggestion(name, known_names())}")
    return family


def known_names() -> tuple[str, ...]:
    """Names and aliases of all families."""
    return tuple(name for family in FAMILIES.values() for name in (family.name, *family.aliases))


def analysis_names(*fitted_by: str) -> tuple[str, ...]:
    """Names of families whose analyses are fitted in one of these ways (`Family.fitted_by`)."""
    found = [family for family in FAMILIES.values() if family.fitted_by in fitted_by]
    names = (name for family in found for name in (family.name, family.glmm_name))
    return tuple(dict.fromkeys(name for name in names if name))


def read_name(name: str, variable: str, columns: Collection[str] = ()) -> str:
    """The stored name for a name or alias; ``"binomial(n)"`` and ``"censored(c)"`` keep their column.

    Spaces around the column's name are kept if the table has a column with that name.

    Raises
    ------
    SpecificationError
        The name is not that of a family.
    """
    inside = trials(name) or censoring(name)
    if column := inside if inside in columns else inside.strip():
        return f"{name.partition('(')[0]}({column})"
    for family in FAMILIES.values():
        if isinstance(name, str) and name.lower() in (family.name, *family.aliases):
            if family.column_of_trials:
                raise SpecificationError(
                    f"Family '{family.name}' of '{variable}': name the column of trials, "
                    f"\"{family.name}(n)\"; 0 and 1 are 'bernoulli'."
                )
            if family.is_censored:
                raise SpecificationError(
                    f"Family '{family.name}' of '{variable}': name the column that says which values are limits, "
                    f"\"{family.name}(c)\"; it has 'left' (below), 'right' (above) or 'none' in each row."
                )
            return family.name
    if isinstance(name, str) and name.lower() in ELSEWHERE:
        raise SpecificationError(f"Family {name!r} of '{variable}' does not exist. {ELSEWHERE[name.lower()]}")
    raise SpecificationError(
        f"Family {name!r} of '{variable}' is not known. {suggestion(name, known_names())}"
    )


def trials(name: str) -> str:
    """The column of trials in ``"binomial(n)"``, including spaces; empty for other families."""
    family, inside = _split(name)
    return inside if family is not None and family.column_of_trials else ""


def censoring(name: str) -> str:
    """The column in ``"censored(c)"`` that says which values are limits; empty for other families."""
    family, inside = _split(name)
    return inside if family is not None and family.is_censored else ""


def _split(name: str) -> tuple[Family | None, str]:
    """The family and column in ``"binomial(n)"``."""
    if not isinstance(name, str) or not name.endswith(")"):
        return None, ""
    head, _, inside = name[:-1].partition("(")
    return FAMILIES.get(head), inside
