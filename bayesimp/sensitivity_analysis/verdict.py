"""The findings of a sensitivity analysis, in sentences with numbers."""

from __future__ import annotations

import numpy as np
import pandas as pd

from bayesimp.diagnostics.components import share_in_words
from bayesimp.sensitivity_analysis.distances import EXCHANGES

__all__ = ["conclusions", "most", "on_prior", "values_moved"]

NAMED = 6  # most names in a list
LEVEL = 0.05  # familywise, over all distances


def conclusions(table: pd.DataFrame) -> str:
    """Whether the intervals of coefficients lie on the same side of 0 under every prior."""
    rows = table[(table["part"] == "fixed effect") & table["conf.low"].notna()]
    priors = table["prior"].nunique()
    if rows.empty or priors < 2:
        return ""
    side = pd.Series(
        np.select([rows["conf.low"] > 0, rows["conf.high"] < 0], ["above", "below"], "includes"), rows.index
    )
    changing = [term for term, own in side.groupby(rows["term"], sort=False) if own.nunique() > 1]
    terms = rows["term"].drop_duplicates()
    if not changing:
        every = "both" if priors == 2 else f"all {priors}"
        what = f"for all {len(terms)} coefficients" if len(terms) > 1 else f"for {terms.iloc[0]}"
        return f"Whether an interval includes 0 is the same under {every} priors, {what}."
    parts = []
    for term in changing:
        own = rows.loc[rows["term"] == term, "prior"].groupby(side, sort=False)
        words = {"includes": "includes 0", "above": "is above 0", "below": "is below 0"}
        parts.append(
            f"that of {term} " + ", ".join(f"{words[k]} under {_listed(v.tolist())}" for k, v in own)
        )
    rest = len(terms) - len(changing)
    others = "the other coefficient" if rest == 1 else f"the other {rest} coefficients"
    others = f"; for {others} this is the same under every prior" if rest else ""
    return f"CONCLUSIONS DEPEND ON THE PRIOR: of the intervals, {'; '.join(parts)}{others}."


def on_prior(model: pd.DataFrame, reference: str) -> str:
    """Which standard deviations and correlations of the imputation model depend mostly, or partly, on the prior."""
    rows = model[(model["prior"] == reference) & model["share"].notna()]
    if rows.empty:
        return ""
    words = [share_in_words(row.share, row.overlap) for row in rows.itertuples()]
    named = {}
    for kind in ("mostly prior", "prior and data"):
        found = rows[[w.startswith(kind) for w in words]].sort_values("share", ascending=False)
        # estimated from draws, a share may exceed 1 by chance
        named[kind] = [f"{row.term} ({min(row.share, 1.0):.0%})" for row in found.itertuples()]
    parts = [f"{kind}: {_listed(own, quoted=False)}" for kind, own in named.items() if own]
    text = (
        f"Of {len(rows)} standard deviations and correlations of the imputation model, under '{reference}', "
    )
    if not parts:
        return f"{text}none owes more than 10 % of its precision to the prior."
    return f"{text}{'; '.join(parts)} (share of their precision that is the prior's)."


def values_moved(distances: pd.DataFrame, reference: str) -> str:
    """Which imputed values differ most from those under the reference, compared with chance.

    Variables are named if their p-value times the number of distances is at most 0.05, or, with more than 100 distances,
    if their p-value is the smallest possible one.
    """
    if distances.empty:
        return ""
    beyond = distances[distances["p.value"] <= max(LEVEL / len(distances), 1 / (EXCHANGES + 1))]
    if beyond.empty:
        return (
            f"Imputed values under other priors differ from those under '{reference}' by no more than imputations under "
            "one prior differ by chance."
        )
    parts = []
    for variable, own in beyond.groupby("variable", sort=False):
        row = own.loc[own["distance"].idxmax()]
        number = (
            f"{row['distance']:.0%} of values"
            if row["unit"] == "share"
            else f"{row['distance']:.2g} {row['unit']}"
        )
        by_chance = f"{row['chance']:.0%}" if row["unit"] == "share" else f"{row['chance']:.2g}"
        parts.append(f"{variable} by {number} under '{row['prior']}' (by chance up to {by_chance})")
    text = f"Imputed values differ from those under '{reference}': {_listed(parts, quoted=False)}"
    still = [v for v in distances["variable"].drop_duplicates() if v not in set(beyond["variable"])]
    return text + (f"; those of {_listed(still, quoted=False)} by no more than chance." if still else ".")


def most(table: pd.DataFrame, of: str, unit: str, reference: str) -> str:
    """What moves most, between which priors, in units of the reference's std.error."""
    if table["prior"].nunique() < 2:
        return f"{of}: there is only one prior, so nothing to compare."
    by_term = table.dropna(subset="change").groupby("term", sort=False)["change"]
    if not len(by_term):
        return f"{of}: there are no standard errors under '{reference}', so changes cannot be scaled."
    span = by_term.max() - by_term.min()
    term = span.idxmax()
    rows = table[table["term"] == term].set_index("prior")
    low, high = rows.loc[rows["estimate"].idxmin()], rows.loc[rows["estimate"].idxmax()]
    noise = np.hypot(low["mc.error"], high["mc.error"]) / rows.loc[reference, "std.error"]
    error = (
        f"Monte Carlo error {noise:.2f}"
        if np.isfinite(noise)
        else "Monte Carlo error not known, from so few draws"
    )
    text = (
        f"{of}, {term} moves most: by {span[term]:.2f} {unit} (under '{reference}'), from {low['estimate']:.4g} under "
        f"'{low.name}' to {high['estimate']:.4g} under '{high.name}'; {error}."
    )
    without = [t for t in table["term"].unique() if t not in span.index]
    for t in without:
        values = table.loc[table["term"] == t].set_index("prior")["estimate"]
        low, high = values.min(), values.max()
        where = (
            f"{low:.4g} under every prior" if low == high
            else f"from {low:.4g} under '{values.idxmin()}' to {high:.4g} under '{values.idxmax()}'"
        )  # fmt: skip
        text += f" {t} has no standard error (singular fits): {where}."
    return text


def _listed(names: list[str], quoted: bool = True) -> str:
    shown = [f"'{name}'" if quoted else name for name in names[:NAMED]]
    return ", ".join(shown) + (f" and {len(names) - NAMED} more" if len(names) > NAMED else "")
