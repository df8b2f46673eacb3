"""What the formats of other software cut, round or confuse is refused by name, with what to do instead.

Limits: Stata's "limits" and naming conventions (Stata User's Guide, 11.3; help limits); SPSS's rules for variable names,
value labels and string variables (IBM SPSS Statistics, Core System User's Guide).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import pandas as pd

from bayesimp.errors import DataError, SpecificationError
from bayesimp.messages import listing

__all__ = [
    "SPSS", "STATA", "check_dates", "check_empty_texts", "check_spss_names", "check_spss_texts", "check_stata_labels",
    "check_stata_names",
]  # fmt: skip

STATA, SPSS = ("imp_m", "imp_id"), ("Imputation_", "Row_")  # columns that number tables and rows
STATA_WORDS = frozenset(
    "_all _b byte _coef _cons double float if in int long _n _N _pi _pred _rc _skip strL using with".split()
)
SPSS_WORDS = frozenset("ALL AND BY EQ GE GT LE LT NE NOT OR TO WITH".split())
SPSS_NAME, SPSS_LABEL, SPSS_TEXT = 64, 120, 32_767  # most bytes, in UTF-8, of names, value labels and texts
STATA_LABELS = 32_000  # most bytes of all value labels of a column, which is pandas' limit too
UNITS = {"ms": "milliseconds", "us": "microseconds"}


def check_stata_names(long: pd.DataFrame) -> None:
    """Refuse names that Stata does not allow: 32 characters, no reserved words."""
    names = _names(long)
    taken = STATA_WORDS | frozenset(STATA)
    bad = [
        name
        for name in names
        if not re.fullmatch(r"[^\W\d]\w{0,31}", name) or name in taken or re.fullmatch(r"str\d+|_mi_.*", name)
    ]
    _refuse_names("Stata", "at most 32 letters, digits and _", bad, names)


def check_spss_names(long: pd.DataFrame) -> None:
    """Refuse names that SPSS does not allow: 64 bytes, no reserved words, none that differ only in case."""
    names = _names(long)
    taken = {word.lower() for word in (*SPSS_WORDS, *SPSS)}
    folded = [name.lower() for name in names]
    bad = [
        name
        for name in names
        if not re.fullmatch(r"[^\W\d_][\w.$#@]*(?<![.])", name)
        or len(name.encode()) > SPSS_NAME
        or name.lower() in taken
    ]
    bad += [name for name in names if folded.count(name.lower()) > 1 and name not in bad]
    _refuse_names("SPSS", f"at most {SPSS_NAME} bytes of letters, digits and _", bad, names)


def check_empty_texts(long: pd.DataFrame) -> None:
    """Refuse empty texts, which a CSV file cannot tell from missing ones."""
    for name in long:
        if (long[name].astype(object) == "").any():
            raise DataError(
                f"export: '{name}' has empty texts, which are missing values in a CSV file. Replace them by a word, or "
                "write .parquet."
            )


def check_dates(column: pd.Series, unit: str, software: str) -> None:
    """Refuse times that are finer than the software's unit, "ms" or "us"."""
    finer = column[column.notna() & (column.astype(f"datetime64[{unit}]") != column)]
    if len(finer):
        raise DataError(
            f"export: '{column.name}' has times that {software} would round to {UNITS[unit]} (first: {finer.iloc[0]}). "
            f"Round them in the table: .dt.round('{unit}')."
        )


def check_stata_labels(name: str, labels: Mapping[int | float, str]) -> None:
    """Refuse value labels that are too long together."""
    if sum(len(label.encode()) + 1 for label in labels.values()) > STATA_LABELS:
        raise DataError(
            f"export: the {len(labels):,} different values of '{name}' are longer than Stata's value labels of a column "
            f"can be together ({STATA_LABELS:,} bytes). Leave it out, or, if it is text, replace its missing values by a "
            "word, so that it is stored as text."
        )


def check_spss_texts(column: pd.Series, labels: Mapping[int | float, str]) -> None:
    """Refuse labels, or without labels texts, that SPSS would cut, or whose last blanks it would drop."""
    texts = list(labels.values()) or [text for text in column.dropna().unique() if isinstance(text, str)]
    most, what = (SPSS_LABEL, "value labels") if labels else (SPSS_TEXT, "texts")
    if cut := [text for text in texts if len(text.encode()) > most]:
        raise DataError(
            f"export: '{column.name}' has {len(cut)} of {len(texts)} values of more than {most:,} bytes, the limit of "
            f"SPSS's {what} (first: {listing([cut[0][:40] + '…'])}). Shorten them."
        )
    if blank := [text for text in texts if text.endswith(" ")]:
        raise DataError(
            f"export: '{column.name}' has {len(blank)} of {len(texts)} values that end in a blank, which SPSS drops "
            f"(first: {listing(blank[:1])}). Remove the blanks in the table."
        )


def _names(long: pd.DataFrame) -> list[str]:
    return [str(name) for name in long if name not in (".imp", ".id")]


def _refuse_names(software: str, rule: str, bad: Sequence[str], names: Sequence[str]) -> None:
    if bad:
        suggested = ", ".join(
            f"{name!r}: {new!r}" for name, new in zip(bad, _suggested(bad, names), strict=True)
        )
        raise SpecificationError(
            f"export: {software} does not allow the name{'s' if len(bad) > 1 else ''} {listing(bad)} "
            f"({rule}, and no reserved word). Give others: names={{{suggested}}}."
        )


def _suggested(bad: Sequence[str], names: Sequence[str]) -> list[str]:
    out: list[str] = []
    taken = {word.lower() for word in (*STATA_WORDS, *SPSS_WORDS)}
    for name in bad:
        short = re.sub(r"\W+", "_", name).strip("_")[:28]
        short = short.encode()[:56].decode(errors="ignore")
        new = base = ("" if name[:1].isalpha() else "v_") + short or "v"
        k = 1
        while new.lower() in {each.lower() for each in (*names, *out)} | taken:
            k += 1
            new = f"{base}_{k}"
        out.append(new)
    return out
