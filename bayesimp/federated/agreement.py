"""What all sites agree on before any of them reads its rows, and the hash that identifies the contents of a file."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from bayesimp import priors as pr
from bayesimp.contract import plain
from bayesimp.errors import DataError, SpecificationError
from bayesimp.formulas.formula import Formula, parse
from bayesimp.layout import Record
from bayesimp.messages import listing
from bayesimp.priors.records import priors_from_dict, priors_to_dict

__all__ = ["Agreement", "digest"]


@dataclass(frozen=True)
class Agreement(Record):
    """The model of all sites.

    Attributes
    ----------
    formula
        As for `bayesimp.JointNormal`, with one grouping factor: ``"y1 + y2 ~ x + arm + (1 | study)"``. Each cluster
        belongs to one site.
    levels
        The levels of every covariate that is not numeric, in order; the first is the reference. A site without rows of
        some level still has the column for it.
    priors
        As for `bayesimp.JointNormal`. None: the default.
    plan
        SHA-256 of the plan file from which the agreement was made; "" if there is none.

    Raises
    ------
    SpecificationError
        The joint model does not accept the formula, or columns of it depend on the rows of all sites at once or on rows
        that are not released; or levels are given for a column that is not a covariate.
    """

    formula: str
    levels: Mapping[str, Sequence[str]] = field(default_factory=dict)
    priors: pr.Priors | str | None = None
    plan: str = ""

    def __post_init__(self) -> None:
        formula = self.parsed
        if formula.stateful:
            raise SpecificationError(
                f"Formula {formula.text!r}: functions whose columns depend on all rows (scale, center, poly, splines) "
                "would give different columns at each site. Compute these columns in the tables, with agreed constants."
            )
        if formula.over_clusters:
            raise SpecificationError(
                f"Formula {formula.text!r}: means, sums and sizes of clusters include rows that are not released, and "
                "could be compared with the release to learn about those rows. Remove these terms."
            )
        levels = {name: tuple(str(level) for level in each) for name, each in self.levels.items()}
        for name, each in levels.items():
            if name not in formula.variables:
                raise SpecificationError(
                    f"levels: '{name}' is not a covariate of {formula.text!r}; its covariates are "
                    f"{listing(formula.variables, 20)}."
                )
            if len(set(each)) < 2 or len(set(each)) < len(each):
                raise SpecificationError(
                    f"levels: '{name}' needs at least two different levels, got {list(each)!r}."
                )
        read = pr.default() if self.priors is None else pr.read(self.priors)
        object.__setattr__(self, "levels", levels)
        object.__setattr__(self, "priors", read.without_contextual())

    @cached_property
    def parsed(self) -> Formula:
        """The parsed formula."""
        if not isinstance(self.formula, str):
            raise SpecificationError(
                f"The formula of an agreement must be text, such as 'y1 + y2 ~ x + (1 | study)'; got {self.formula!r}."
            )
        formula = parse(self.formula)
        if not formula.responses or not formula.single_grouping or formula.independent:
            raise SpecificationError(
                f"'{formula}': sites impute by a joint normal model such as 'y1 + y2 ~ x + (1 | study)', with "
                "random effects of one grouping column and without ||."
            )
        return formula

    @property
    def cluster(self) -> str:
        """The cluster column."""
        return self.parsed.groups[0]

    @property
    def responses(self) -> tuple[str, ...]:
        """The variables to impute."""
        return self.parsed.responses

    def record(self) -> dict[str, Any]:
        """The agreement as files hold it."""
        priors = json.loads(json.dumps(priors_to_dict(self.checked_priors), default=plain))
        levels = {name: list(each) for name, each in sorted(self.levels.items())}
        return {"formula": self.formula, "levels": levels, "priors": priors, "plan": self.plan}

    @property
    def checked_priors(self) -> pr.Priors:
        """The priors, as records."""
        assert isinstance(self.priors, pr.Priors)
        return self.priors

    @classmethod
    def from_record(cls, record: Any, where: str) -> Agreement:
        """The agreement that a file holds; `where` names the file in messages.

        Raises
        ------
        DataError
            The record is not an agreement.
        """
        try:
            texts = isinstance(record["formula"], str) and isinstance(record["plan"], str)
            if not texts or not isinstance(record["levels"], dict):
                raise TypeError
            return cls(
                record["formula"], record["levels"], priors_from_dict(record["priors"]), record["plan"]
            )
        except (KeyError, TypeError, ValueError, AttributeError, SpecificationError) as error:
            reason = f" ({error})" if isinstance(error, SpecificationError) else ""
            raise DataError(f"{where}: its agreement cannot be read{reason}.") from None

    def differences(self, other: Agreement) -> list[str]:
        """How the other agreement differs, in words."""
        mine, theirs = self.record(), other.record()
        names = {"plan": "SHA-256 of the plan"}
        return [
            f"{names.get(key, key)} {theirs[key]!r} instead of {mine[key]!r}"
            for key in mine
            if mine[key] != theirs[key]
        ]


def digest(record: Mapping[str, Any]) -> str:
    """SHA-256 of a record without its ``sha256``, as JSON with sorted keys."""
    kept = {key: value for key, value in record.items() if key != "sha256"}
    text = json.dumps(kept, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()
