"""The log of deviations from the request, and of anything else a reader of the result should know."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass

import pandas as pd

from bayesimp.layout import Record, wrapped
from bayesimp.markup import paragraph, table

__all__ = ["Event", "EventTable", "counted_events", "event_table", "listed"]


@dataclass(frozen=True)
class Event(Record):
    """One event.

    Attributes
    ----------
    kind
        What kind of event: "interrupted", "prior only", "divergences", "dtype changed", ...
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
        """The event as a dictionary with the names of its attributes as keys."""
        return asdict(self)


class EventTable(pd.DataFrame):
    """Events as a DataFrame that prints whole messages."""

    @property
    def _constructor(self) -> type:
        return EventTable

    def __repr__(self) -> str:
        return listed(self) if {"message", "count"} <= set(self.columns) else super().__repr__()

    def _repr_html_(self) -> str | None:
        if not {"message", "count"} <= set(self.columns):
            return super()._repr_html_()
        return table(self) if len(self) else paragraph("no events")


def event_table(log: Iterable[Event]) -> EventTable:
    """Events as a table, one row each: kind, where, message, count."""
    return EventTable([event.as_dict() for event in log], columns=["kind", "where", "message", "count"])


def counted_events(number: int) -> str:
    """``"3 events: see .events"``, the line by which a printed result points to its log; ``"0 events"``."""
    return f"{number} event{'' if number == 1 else 's'}" + (": see .events" if number else "")


def listed(events: pd.DataFrame) -> str:
    """Events as text, one paragraph each, with the whole message: ``kind: where (count): message``."""
    heads = [name for name in events.columns if name not in ("message", "count")]
    lines = []
    for event in events.to_dict("records"):
        count = "" if event["count"] == 1 else f" ({event['count']:,})"
        text = f"{': '.join(str(event[name]) for name in heads)}{count}: {event['message']}"
        lines.append(wrapped(" ".join(text.split())))
    return "\n".join(lines) or "no events"
