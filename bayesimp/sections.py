"""Read the tables of a TOML file key by key, collecting all problems to report them at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from bayesimp.errors import SpecificationError
from bayesimp.messages import did_you_mean, shown

__all__ = ["REQUIRED", "Section", "possible"]

REQUIRED: Any = object()  # instead of a default: the key is required
KINDS = {str: "text", bool: "true or false", int: "a whole number", dict: "a table", list: "a list"}


def possible(name: Any, known: Iterable[str]) -> str:
    """``did you mean 'seed'? possible: 'm', 'seed'``"""
    known = list(known)
    return (
        f"{did_you_mean(name, known, most=1, did='did')}possible: {', '.join(repr(value) for value in known)}"
    )


@dataclass
class Section:
    """One table of the file.

    Attributes
    ----------
    record
        The table as read. Anything else is noted as a problem and treated as an empty table.
    path
        Its name in messages, such as ``"impute"``; tables of an array are counted from 1, ``"analysis[1]"``.
    problems
        The list of problems, ``"impute.seed: ..."``, shared by all sections of a file.
    """

    record: dict[str, Any]
    path: str
    problems: list[str]
    known: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        if not isinstance(self.record, dict):
            self.note("", f"must be a table, not {shown(self.record)}")
            self.record = {}

    def note(self, key: str, problem: str) -> None:
        """Note a problem with a key (``""``: with the section)."""
        self.problems.append(f"{'.'.join(part for part in (self.path, key) if part) or 'plan'}: {problem}")

    def text(self, key: str, default: Any = REQUIRED, choices: Sequence[str] = (), why: str = "") -> Any:
        """A non-empty text; one of `choices` if there are any."""
        value = self.value_of(key, str, default, why)
        if isinstance(value, str) and key in self.record:
            if not value.strip():
                self.note(key, "is empty")
                return None
            if choices and value not in choices:
                self.note(key, f"{value!r} is not known; {possible(value, choices)}")
                return None
        return value

    def flag(self, key: str, default: bool) -> bool:
        """A truth value."""
        return self.value_of(key, bool, default)

    def whole(
        self, key: str, default: Any = REQUIRED, least: int = 0, most: int = 2**63 - 1, why: str = ""
    ) -> Any:
        """A whole number from `least` to `most`."""
        value = self.value_of(key, int, default, why)
        if isinstance(value, int) and not least <= value <= most:
            bound = f"at least {least}" if value < least else f"at most {most}"
            self.note(key, f"must be a whole number of {bound}, not {value}")
            return None
        return value

    def table(self, key: str, default: Any = REQUIRED, why: str = "") -> dict[str, Any]:
        """A table within the table; empty if it is absent or wrong."""
        return self.value_of(key, dict, default, why) or {}

    def list_of_texts(self, key: str) -> tuple[str, ...]:
        """A list of texts; empty if it is absent or wrong."""
        value = self.value_of(key, list, [])
        if not all(isinstance(item, str) for item in value or []):
            self.note(key, f'must be a list of texts, such as ["NA", "-99"], not {shown(value)}')
            return ()
        return tuple(value or [])

    def checked(self, key: str, check: Callable[[], Any]) -> Any:
        """The result of `check`; None if it raises SpecificationError, whose message is noted."""
        try:
            return check()
        except SpecificationError as error:
            self.note(key, str(error))
            return None

    def done(self) -> None:
        """Refuse unknown keys."""
        for key in self.record:
            if key not in self.known:
                self.note(key, f"is not known; {possible(key, self.known)}")

    def value_of(self, key: str, kind: type, default: Any, why: str = "") -> Any:
        """The value of a key, if it is of this kind; otherwise the default, with a note unless the key is absent."""
        self.known.append(key)
        if key not in self.record:
            if default is REQUIRED:
                self.note(key, "is missing" + (f"; {why}" if why else ""))
                return None
            return default
        value = self.record[key]
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            self.note(key, f"must be {KINDS[kind]}, not {shown(value)}")
            return None if default is REQUIRED else default
        return value
