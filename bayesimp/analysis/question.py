"""The request for an estimand: its options, the loop over completed tables, effects as differences of means."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from bayesimp.analysis.estimates import Estimates
from bayesimp.analysis.function_rows import FunctionRows
from bayesimp.analysis.grids import Grid, counterfactual, groups_of, levels_of
from bayesimp.analysis.links import mean_at
from bayesimp.analysis.row_model import RowModel, parameters_covariance
from bayesimp.errors import SpecificationError
from bayesimp.messages import suggestion
from bayesimp.notation import Array, Matrix, Vector
from bayesimp.table.reading import as_pandas

if TYPE_CHECKING:
    from bayesimp.analysis.fits import Fits

__all__ = ["Question", "effect", "joined", "names_given"]

SCALES = ("response", "link", "back-transformed")
EFFECTS = ("zero", "integrated", "cluster")
STEP = 1e-4  # of a numerical derivative, in standard deviations of the variable
OWN_COLUMNS = ("term", "row", "level", "contrast", "variable", "change")  # of labels of estimates
IN_WORDS = {
    "zero": " at cluster effects of zero",
    "integrated": " averaged over cluster effects",
    "cluster": " of clusters of the table",
}


def names_given(value: Any, what: str) -> list[str]:
    """One or several names as a list.

    Raises
    ------
    SpecificationError
        The value is not a name or a list of names.
    """
    names = [value] if isinstance(value, str) else value
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
        raise SpecificationError(
            f"{what} must be the name of a column or a list of names; got {type(value).__name__}."
        )
    return list(names)


class Question:
    """The checked options of a request, and the loop over tables."""

    def __init__(
        self, fits: Any, scale: str, random_effects: str | None, df_complete: Any, newdata: Any = None
    ) -> None:
        self.newdata = None if newdata is None else as_pandas(newdata)[0]
        self.fits: Fits = fits
        if self.fits.rows is None:
            raise SpecificationError(
                f"the analysis {self.fits.analysis!r} cannot predict rows. Give a formula, or a function that "
                "returns a statsmodels result fitted with a formula."
            )
        self.rows: RowModel = self.fits.rows
        if isinstance(self.rows, FunctionRows):
            self.rows.check()
        if scale not in SCALES:
            raise SpecificationError(
                f"scale = {scale!r} is not known; choose one of {', '.join(map(repr, SCALES))}."
            )
        if scale != "link" and not self.rows.link:
            raise SpecificationError(
                f"{self.fits.analysis!r}: the mean of this family as a function of the linear predictor is not known; "
                "give scale='link'."
            )
        averages = self.rows.averages and scale == "response"
        self.effects = random_effects or ("integrated" if averages else "zero")
        if self.effects not in EFFECTS:
            raise SpecificationError(
                f"random_effects = {random_effects!r} is not known; choose one of {', '.join(map(repr, EFFECTS))}."
            )
        if scale == "back-transformed" and self.rows.levels:
            raise SpecificationError(
                f"{self.fits.analysis!r}: each level has a probability, which is not the inverse link of one linear "
                "predictor. Give scale='response'."
            )
        if scale == "back-transformed" and self.effects == "integrated":
            raise SpecificationError(
                "scale = 'back-transformed' is the inverse link of a mean at effects of zero, but averages over "
                "cluster effects are on the response scale."
            )
        if self.effects == "integrated" and not averages:
            self.effects = "zero"  # gives the same result
        self.scale = scale
        self.df_complete = self.fits.df_complete if df_complete is None else df_complete
        if isinstance(df_complete, str):
            self.fits.check_named(df_complete)
            if df_complete == "kenward-roger":
                self.fits, self.df_complete = self.fits.kenward_roger(), "satterthwaite"
            self.fits.component_spread()

    def table(self, k: int) -> pd.DataFrame:
        """The rows to predict: the given ones, or those of completed table k."""
        return self.rows.tables.frame(k) if self.newdata is None else self.newdata

    def counts(self, table: pd.DataFrame) -> Vector | None:
        """How many rows each row of `table` stands for; None: one."""
        if self.newdata is not None or self.rows.counts is None:
            return None
        return table[self.rows.counts].to_numpy(dtype=float)

    @property
    def shown(self) -> set[str]:
        """Columns of new rows that label a prediction."""
        groups = (
            getattr(getattr(self.rows, "formula", None), "groups", ()) if self.effects == "cluster" else ()
        )
        return {*self.rows.variables, *groups}

    @property
    def level_column(self) -> list[str]:
        """The column that labels probabilities of levels of an ordinal response: its name; [] if there are none."""
        formula = getattr(self.rows, "formula", None)
        if not formula or not self.rows.levels or self.scale == "link":
            return []
        return [formula.responses[0] if formula.responses[0] not in OWN_COLUMNS else "response"]

    def labelled(self, at: pd.DataFrame) -> pd.DataFrame:
        """The labels of estimates, those of an ordinal response repeated for each of its levels."""
        if not self.level_column:
            return at
        (name,), levels = self.level_column, list(self.rows.levels)
        out = at.drop(columns="term", errors="ignore").loc[np.repeat(at.index, len(levels))]
        return out.reset_index(drop=True).assign(**{name: levels * len(at)})

    def check_variable(self, name: str) -> None:
        """Refuse a variable that is not in the analysis."""
        if name not in self.rows.variables:
            raise SpecificationError(
                f"{self.fits.analysis!r} has no variable {name!r}. {suggestion(str(name), self.rows.variables)}"
            )

    def gathered(self, make: Callable[[int], tuple[pd.DataFrame, Matrix | None]], what: str) -> Estimates:
        """W mu(rows) in every table, as `Estimates` without labels; `make` gives rows and W (None: each row).

        With an ordinal response there is one for each level, those of a row of W together (`labelled`).
        """
        values, gradients, extras = [], [], []
        scale = "link" if self.scale == "back-transformed" else self.scale
        for k in range(len(self.fits)):
            rows, W = make(k)
            mu, G, extra = self.rows.predicted(self.fits, k, rows, scale, self.effects)
            values.append(mu if W is None else _averaged(W, mu))
            gradients.append(G if W is None else _averaged(W, G))
            if extra is not None:
                extras.append(extra if W is None else W @ extra @ W.T)
        mixed = self.rows.averages or self.effects == "cluster"
        made = Estimates(
            f"{what}{IN_WORDS[self.effects] if mixed and self.scale != 'link' else ''}",
            pd.DataFrame(index=range(len(values[0]))), np.array(values), np.array(gradients),
            parameters_covariance(self.fits, self.effects), self.df_complete, self.fits.covariance_spread,
            np.array(extras) if extras else None, df_covariance=self.fits.df_covariances, log=self.fits.log,
        )  # fmt: skip
        link = self.rows.link
        if self.scale == "back-transformed":
            made = _carried_back(made, link)
        return made if self.scale == "link" else replace(made, scale=link)


def _averaged(W: Matrix, values: Array) -> Array:
    """W values for one value in each row, or for one of each level: (r, n) and (n L, ..) to (r L, ..)."""
    rest = values.shape[1:]
    return (W @ values.reshape(W.shape[1], -1)).reshape(-1, *rest)


def _carried_back(made: Estimates, link: str) -> Estimates:
    mu, slope = mean_at(link, made.values)
    return made.mapped(slope[:, :, None] * np.eye(slope.shape[1]), mu)


def effect(asked: Question, name: str, change: Any, by: list[str], compare: str) -> Estimates:
    """The effect of one variable in each group."""
    levels = levels_of(asked.rows, name)
    discrete = levels is not None and (
        asked.rows.is_factor(name, asked.rows.tables.frame(0)[name]) or levels == [0, 1]
    )
    labels: list[tuple] | None = None
    settings: Callable[[Vector], list[dict[str, Any]]]
    steps = False
    if change is None and not discrete:
        if compare != "difference":
            raise SpecificationError(
                f"compare = {compare!r} of {name!r}: give a step or two values, {{{name!r}: 10}}."
            )
        shown = ["", ""]

        def settings(x: Vector) -> list[dict[str, Any]]:
            return [{name: x - h}, {name: x + h}]

        first = asked.table(0)
        h = STEP * (float(first[name].astype(float).std()) or 1.0)
    else:
        steps = change is not None and np.ndim(change) == 0 and not discrete
        values = levels if change is None else [0, change] if steps else list(change)
        assert values is not None
        shown = [str(v) for v in values]

        def settings(x: Vector) -> list[dict[str, Any]]:
            return [{name: x + v if steps else v} for v in values]

    def make(k: int) -> Grid:
        nonlocal labels
        table = asked.table(k)
        labels, groups = groups_of(table, by, labels, asked.counts(table))
        x = table[name].to_numpy() if discrete else table[name].to_numpy(dtype=float)
        return counterfactual(table, settings(x), groups)

    made = asked.gathered(make, "average marginal effect")
    assert labels is not None
    at = pd.DataFrame([(*group, text) for group in labels for text in shown], columns=[*by, "level"])
    made = replace(made, at=asked.labelled(at))
    by = [*by, *asked.level_column]
    effect = made.contrasts("treatment", compare=compare, by=by)
    at = effect.at.rename(columns={"contrast": "change"})
    if change is None and not discrete:
        J = np.eye(len(effect)) / (2 * h) * np.ones((len(made.values), 1, 1))
        effect = effect.mapped(J, effect.values / (2 * h))
        at["change"] = "slope"
    if steps:
        at["change"] = f"{change:+g}"
    at.insert(0, "variable", name)
    at = at[["variable", "change", *by]]
    return replace(
        effect, at=at, what=made.what if compare == "difference" else f"{compare} of average predictions"
    )


def joined(parts: Sequence[Estimates]) -> Estimates:
    """Concatenate estimates from the same fits."""
    at = pd.concat([part.at for part in parts], ignore_index=True)
    extras: Array | None = None
    if parts[0].extra is not None and len(parts) > 1:
        raise SpecificationError("effects for clusters of the table take one variable at a time.")
    if len(parts) == 1:
        extras = parts[0].extra
    return replace(
        parts[0], at=at, values=np.hstack([part.values for part in parts]),
        gradients=np.concatenate([part.gradients for part in parts], axis=1), extra=extras,
    )  # fmt: skip
