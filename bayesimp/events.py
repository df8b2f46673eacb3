"""Record of everything that could not be done as specified, or that a reader of the result should know."""

from __future__ import annotations

from dataclasses import asdict, dataclass

__all__ = ["Event"]


@dataclass(frozen=True)
class Event:
    """One event.

    Attributes
    ----------
    kind
        What sort: "interrupted", "prior only", "divergences", "dtype changed", ...
    where
        Variable, cluster or parameter.
    message
        What happened, and what it means for the result.
    count
        Rows, draws or clusters concerned.
    """

    kind: str
    where: str
    message: str
    count: int = 1

    def as_dict(self) -> dict:
        return asdict(self)
