"""The user's specification of a joint GLMM: formulas, their order and links, as given."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from bayesimp.errors import SpecificationError

__all__ = ["Request", "read_analyses", "read_request"]


@dataclass(frozen=True)
class Request:
    """The user's specification.

    Attributes
    ----------
    analyses
        Formulas of analyses, each with one response.
    factors
        Response -> formula that replaces the default one.
    order
        Responses in the order of their factors; None: chosen.
    links
        Response -> link, if it is not the default of the family.
    """

    analyses: tuple[str, ...]
    factors: Mapping[str, str]
    order: tuple[str, ...] | None
    links: Mapping[str, str] = field(default_factory=dict)


def read_analyses(analysis: Any, cluster: str) -> tuple[str, ...]:
    """The formulas of one analysis or several; cluster: for the example in the message.

    Raises
    ------
    SpecificationError
        There is none, or something else than text.
    """
    listed = isinstance(analysis, Iterable) and not isinstance(analysis, str)
    analyses: tuple = tuple(analysis) if listed else (analysis,)
    if not analyses or not all(isinstance(text, str) for text in analyses):
        raise SpecificationError(
            f"The analysis must be a formula, such as 'y ~ x + (1 | {cluster})', or several; got {analysis!r}."
        )
    return analyses


def read_request(
    cluster: str,
    analysis: str | Sequence[str],
    factors: Mapping[str, str] | None,
    order: Sequence[str] | None,
    links: Mapping[str, str] | None,
) -> Request:
    """The request, with the types of its parts checked; cluster: for the example in the message.

    Raises
    ------
    SpecificationError
        A part has the wrong type.
    """
    analyses = read_analyses(analysis, cluster)
    for name, given in (("factors", factors), ("links", links)):
        if given is not None and not _is_text_by_name(given):
            example = "{'x': 'x ~ z'}" if name == "factors" else "{'y': 'probit'}"
            raise SpecificationError(
                f"{name} is a dict of text by response, such as {example}; got {given!r}."
            )
    if isinstance(order, str):
        raise SpecificationError(f"order must be a list of responses, got {order!r}.")
    return Request(analyses, dict(factors or {}), None if order is None else tuple(order), dict(links or {}))


def _is_text_by_name(given: object) -> bool:
    return isinstance(given, Mapping) and all(
        isinstance(name, str) and isinstance(text, str) for name, text in given.items()
    )
