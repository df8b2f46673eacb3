"""What is asked of an analysis beyond its coefficients: predictions, marginal means, effects, functions, ICC, R2.

Every quantity is computed in each completed table, with its derivatives, and pooled (`bayesimp.analysis.estimates`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pandas as pd

from bayesimp.analysis.estimates import COMPARISONS, Estimates
from bayesimp.analysis.function_rows import FunctionRows
from bayesimp.analysis.grids import WEIGHTS, Grid, counterfactual, groups_of, levels_of, reference_grid
from bayesimp.analysis.hypotheses import as_texts
from bayesimp.analysis.links import SCALES_OF_POOLING, mean_at
from bayesimp.analysis.row_model import RowModel, parameters_covariance
from bayesimp.errors import SpecificationError
from bayesimp.messages import suggestion
from bayesimp.notation import Array, Matrix, Vector

if TYPE_CHECKING:
    from bayesimp.analysis.fits import Fits

__all__ = ["Estimands"]

SCALES = ("response", "link", "back-transformed")
EFFECTS = ("zero", "integrated", "cluster")
STEP = 1e-4  # of a derivative, in standard deviations of the variable
IN_WORDS = {
    "zero": " at cluster effects of zero",
    "integrated": " averaged over cluster effects",
    "cluster": " of clusters of the table",
}


class Estimands:
    """Methods of `bayesimp.analysis.fits.Fits`.

    **Cluster effects** of generalised mixed models, ``random_effects``:

    - ``"integrated"``, the default on the response scale: predictions are averaged over normal effects, by
      quadrature. Only this one is a mean of the response in the population of clusters, and agrees with averages of
      the data.
    - ``"zero"``: at effects of zero, a cluster in the middle; what emmeans gives, and lme4 with ``re.form = NA``. Not
      a mean: the inverse link of a mean is not the mean of the inverse link.
    - ``"cluster"``: at the effects of a cluster of the table.

    For normal responses the first two are the same.

    **Degrees of freedom** as in `Fits.pool`: ``df_complete="satterthwaite"`` for linear mixed models.
    """

    def predictions(
        self, newdata: pd.DataFrame | None = None, *, by: str | Sequence[str] | None = None, scale: str = "response",
        random_effects: str | None = None, df_complete: Any = None,
    ) -> Estimates:  # fmt: skip
        """Predicted responses of rows, or their averages.

        Parameters
        ----------
        newdata
            Rows with the columns of the formula; None: the rows of the completed tables.
        by
            Columns by whose values to average; ``[]``: one average of all rows; None: each row.
        scale
            ``"response"`` or ``"link"``.
        random_effects
            See `Estimands`; ``"cluster"`` needs the column of the cluster.
        df_complete
            As in `Fits.pool`.

        Raises
        ------
        SpecificationError, DataError
            Columns or levels that the tables do not have; what the analysis cannot give.
        """
        asked = _Asked(self, scale, random_effects, df_complete)
        columns = [] if by is None else [by] if isinstance(by, str) else list(by)
        labels: list[tuple] | None = None

        def table(k: int) -> pd.DataFrame:
            return asked.rows.tables.frame(k) if newdata is None else newdata

        def make(k: int) -> tuple[pd.DataFrame, Matrix | None]:
            nonlocal labels
            if by is None:
                return table(k), None
            labels, groups = groups_of(table(k), columns, labels)
            return table(k), np.array([rows / rows.sum() for rows in groups])

        made = asked.gathered(make, "mean" if by is not None else "prediction")
        if by is None:
            given = [name for name in table(0) if name in asked.shown]
            at = table(0)[given].reset_index(drop=True) if newdata is not None else pd.DataFrame(
                {"row": range(1, len(table(0)) + 1)}
            )  # fmt: skip
            return replace(made, at=at)
        at = pd.DataFrame(labels, columns=columns) if columns else pd.DataFrame({"term": ["average"]})
        return replace(made, at=at)

    def marginal_means(
        self, variables: str | Sequence[str], *, at: Mapping[str, Any] | None = None, weights: str = "equal",
        scale: str = "response", random_effects: str | None = None, df_complete: Any = None,
    ) -> Estimates:  # fmt: skip
        """Mean responses by the levels of variables; ``.contrasts()`` compares them.

        Parameters
        ----------
        variables
            Factors, or numbers with values in `at`, or with two values.
        at
            Values of columns: ``{"age": 60}``, ``{"age": [40, 60]}``.
        weights
            How other factors are averaged over: ``"equal"``, a balanced grid (emmeans' default); ``"proportional"``,
            by the frequency of their combinations; ``"observed"``, over the rows of the tables, each at every level
            (standardised means, g-computation). In grids numbers are at their mean over rows and imputations.
        scale
            ``"response"``: means of predicted responses; ``"link"``: of linear predictors; ``"back-transformed"``:
            inverse links of the latter, as emmeans' ``type = "response"``.
        random_effects, df_complete
            As for `predictions`.

        Raises
        ------
        SpecificationError, DataError
            Variables, levels or values that the tables do not have.
        """
        asked = _Asked(self, scale, random_effects, df_complete)
        targets = [variables] if isinstance(variables, str) else list(variables)
        given = dict(at or {})
        for name in [*targets, *given]:
            asked.check_variable(name)
        if weights not in WEIGHTS:
            raise SpecificationError(
                f"weights = {weights!r} is not known; choose one of {', '.join(map(repr, WEIGHTS))}."
            )
        grid, levels = reference_grid(asked.rows, targets, given, weights)
        if weights != "observed":
            made = asked.gathered(lambda k: grid, "marginal mean")
        else:
            fixed = {name: value for name, value in given.items() if name not in targets}
            settings = [{**fixed, **row} for row in levels.to_dict("records")] or [fixed]

            def make(k: int) -> Grid:
                table = asked.rows.tables.frame(k)
                return counterfactual(table, settings, groups_of(table, (), None)[1])

            made = asked.gathered(make, "standardised mean")
        return replace(made, at=levels if targets else pd.DataFrame({"term": ["overall"]}))

    def marginal_effects(
        self, variables: str | Sequence[str] | Mapping[str, Any] | None = None, *, newdata: pd.DataFrame | None = None,
        by: str | Sequence[str] = (), compare: str = "difference", scale: str = "response",
        random_effects: str | None = None, df_complete: Any = None,
    ) -> Estimates:  # fmt: skip
        """Average marginal effects: over rows, how the prediction changes with a variable.

        Parameters
        ----------
        variables
            Names; None: all of the formula. Of numbers the effect is the mean derivative; of factors, bool and 0/1 the
            difference of each level from the first. By name also a step, ``{"age": 10}``, or two values,
            ``{"age": (40, 60)}``.
        newdata
            Rows to average over; None: those of the completed tables.
        by
            Columns by whose values to average.
        compare
            Of levels, steps and values: ``"difference"``, ``"ratio"`` or ``"odds ratio"`` of the two averages.
        scale, random_effects, df_complete
            As for `predictions`. Means of clusters in the formula stay those of the table.

        Raises
        ------
        SpecificationError, DataError
            As for `predictions`.
        """
        asked = _Asked(self, scale, random_effects, df_complete)
        if compare not in COMPARISONS:
            raise SpecificationError(f"compare = {compare!r} is not known; choose one of {COMPARISONS}.")
        named: dict[str, Any] = (
            dict(variables) if isinstance(variables, Mapping)
            else dict.fromkeys([variables] if isinstance(variables, str) else variables or asked.rows.variables)
        )  # fmt: skip
        columns = [by] if isinstance(by, str) else list(by)
        parts = []
        for name, change in named.items():
            asked.check_variable(name)
            parts.append(_effect(asked, name, change, newdata, columns, compare))
        if not parts:
            raise SpecificationError(f"{asked.fits.analysis!r} has no variables, and so no effects of any.")
        return _joined(parts)

    def functions(
        self,
        texts: str | Sequence[str] | Mapping[str, str],
        *,
        pooled_as: str = "identity",
        null: float | None = 0.0,
    ) -> Estimates:
        """Nonlinear functions of coefficients and variance components, by the delta method.

        Parameters
        ----------
        texts
            ``"x / z"``, several, or texts by label: ``{"peak": "-age / (2 * I(age**2))"}``, with + - * / **, exp,
            log, sqrt, tanh, expit, logit. Components in backticks, on their natural scale: `` "`sd(Intercept |
            school)`**2" ``.
        pooled_as
            The scale of pooling: ``"identity"``, ``"log"`` (positive quantities), ``"logit"`` (shares), ``"fisher z"``.
        null
            The value tested; None: no test.

        Raises
        ------
        SpecificationError
            A name or function that is not known; a component at its bound, which has no standard error; values
            outside the range of the scale.
        """
        from bayesimp.analysis.nonlinear import functions_of, joint_covariance

        fits = cast("Fits", self)
        named = dict(texts) if isinstance(texts, Mapping) else {text: text for text in as_texts(texts)}
        if pooled_as not in SCALES_OF_POOLING:
            raise SpecificationError(
                f"pooled_as = {pooled_as!r} is not known; choose one of {', '.join(map(repr, SCALES_OF_POOLING))}."
            )
        if not as_texts(list(named.values())):
            raise SpecificationError("no function is given: write fits.functions('x / z').")
        found = functions_of(fits, list(named.values()))
        values, gradients = (np.stack(each, axis=1) for each in zip(*found, strict=True))
        V = joint_covariance(fits)
        used = (gradients != 0).any(axis=(0, 1)) | np.isnan(gradients).any(axis=(0, 1))
        with np.errstate(divide="ignore", invalid="ignore"):
            t = SCALES_OF_POOLING[pooled_as].to(values)
        lost = ~np.isfinite(t).all(axis=1) | ~np.isfinite(V[:, used][:, :, used]).all(axis=(1, 2))
        if lost.any():
            raise SpecificationError(
                f"{', '.join(map(repr, named.values()))}: in {int(lost.sum())} of {len(fits)} tables there is no "
                "finite value, or "
                f"no standard error of a variance component (at its bound, or none from this engine), on the scale "
                f"{pooled_as!r}."
            )
        at = pd.DataFrame({"term": list(named)})
        return Estimates("function of parameters", at, values, gradients[:, :, used], V[:, used][:, :, used],
                         fits.df_complete, scale=pooled_as, null=null, log=fits.log)  # fmt: skip

    def explained(self, scale: str = "logit") -> Estimates:
        """Intraclass correlation, marginal and conditional R2 of a mixed model (`bayesimp.analysis.explained`).

        Of binary responses on the latent scale. ``scale``: of pooling, ``"logit"`` or ``"identity"``, which has a value
        also where a variance is zero in a table.

        Raises
        ------
        SpecificationError
            The analysis is not a mixed model, or of a family without a known variance of a row.
        """
        from bayesimp.analysis.explained import explained

        return explained(cast("Fits", self), scale)


class _Asked:
    """The options of a question, checked, and the loop over tables."""

    def __init__(self, fits: Estimands, scale: str, random_effects: str | None, df_complete: Any) -> None:
        self.fits = cast("Fits", fits)
        if self.fits.rows is None:
            raise SpecificationError(
                f"the analysis {self.fits.analysis!r} makes no predictions for rows: give a formula, or a function that "
                "returns a result of statsmodels made from a formula."
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
                f"{self.fits.analysis!r}: the mean of this family at a linear predictor is not known here; give "
                "scale='link'."
            )
        averages = self.rows.averages and scale == "response"
        self.effects = random_effects or ("integrated" if averages else "zero")
        if self.effects not in EFFECTS:
            raise SpecificationError(
                f"random_effects = {random_effects!r} is not known; choose one of {', '.join(map(repr, EFFECTS))}."
            )
        if scale == "back-transformed" and self.effects == "integrated":
            raise SpecificationError(
                "scale = 'back-transformed' is the inverse link of a mean at effects of zero; averages over cluster "
                "effects "
                "are on the response scale."
            )
        if self.effects == "integrated" and not averages:
            self.effects = "zero"  # the same
        self.scale = scale
        self.df_complete = self.fits.df_complete if df_complete is None else df_complete
        if isinstance(df_complete, str):
            self.fits._check_named(df_complete)
            self.fits._spread()

    @property
    def shown(self) -> set[str]:
        """Columns of new rows that say what a prediction is of."""
        groups = (
            getattr(getattr(self.rows, "formula", None), "groups", ()) if self.effects == "cluster" else ()
        )
        return {*self.rows.variables, *groups}

    def check_variable(self, name: str) -> None:
        """Refuse a name that the analysis does not have."""
        if name not in self.rows.variables:
            raise SpecificationError(
                f"{self.fits.analysis!r} has no variable {name!r}. {suggestion(str(name), self.rows.variables)}"
            )

    def gathered(self, make: Callable[[int], tuple[pd.DataFrame, Matrix | None]], what: str) -> Estimates:
        """W mu(rows) of every table, with `make` giving rows and W (None: each row), as `Estimates` without labels."""
        values, gradients, extras = [], [], []
        scale = "link" if self.scale == "back-transformed" else self.scale
        for k in range(len(self.fits)):
            rows, W = make(k)
            mu, G, extra = self.rows.predicted(self.fits, k, rows, scale, self.effects)
            values.append(mu if W is None else W @ mu)
            gradients.append(G if W is None else W @ G)
            if extra is not None:
                extras.append(extra if W is None else W @ extra @ W.T)
        mixed = self.rows.averages or self.effects == "cluster"
        made = Estimates(
            f"{what}{IN_WORDS[self.effects] if mixed and self.scale != 'link' else ''}",
            pd.DataFrame(index=range(len(values[0]))), np.array(values), np.array(gradients),
            parameters_covariance(self.fits, self.effects), self.df_complete, self.fits.covariance_spread,
            np.array(extras) if extras else None, log=self.fits.log,
        )  # fmt: skip
        link = self.rows.link
        if self.scale == "back-transformed":
            made = _carried_back(made, link)
        return made if self.scale == "link" else replace(made, scale=link)


def _carried_back(made: Estimates, link: str) -> Estimates:
    mu, slope = mean_at(link, made.values)
    return made.mapped(slope[:, :, None] * np.eye(slope.shape[1]), mu)


def _effect(
    asked: _Asked, name: str, change: Any, newdata: pd.DataFrame | None, by: list[str], compare: str
) -> Estimates:
    """The effect of one variable, by group."""
    levels = levels_of(asked.rows, name)
    discrete = levels is not None and (
        asked.rows.is_factor(name, asked.rows.tables.frame(0)[name]) or levels == [0, 1]
    )
    labels: list[tuple] | None = None
    settings: Callable[[Vector], list[dict[str, Any]]]
    if change is None and not discrete:
        if compare != "difference":
            raise SpecificationError(
                f"compare = {compare!r} of {name!r}: give a step or two values, {{{name!r}: 10}}."
            )
        shown = ["", ""]

        def settings(x: Vector) -> list[dict[str, Any]]:
            return [{name: x - h}, {name: x + h}]

        first = asked.rows.tables.frame(0) if newdata is None else newdata
        h = STEP * (float(first[name].astype(float).std()) or 1.0)
    else:
        steps = change is not None and np.ndim(change) == 0 and not discrete
        values = levels if change is None else [0, change] if steps else list(change)
        assert values is not None
        shown = [f"x + {v:g}" if steps and v else "x" if steps else str(v) for v in values]

        def settings(x: Vector) -> list[dict[str, Any]]:
            return [{name: x + v if steps else v} for v in values]

    def make(k: int) -> Grid:
        nonlocal labels
        table = asked.rows.tables.frame(k) if newdata is None else newdata
        labels, groups = groups_of(table, by, labels)
        x = table[name].to_numpy() if discrete else table[name].to_numpy(dtype=float)
        return counterfactual(table, settings(x), groups)

    made = asked.gathered(make, "average marginal effect")
    assert labels is not None
    at = pd.DataFrame([(*group, text) for group in labels for text in shown], columns=[*by, "level"])
    made = replace(made, at=at)
    effect = made.contrasts("treatment", compare=compare, by=by)
    at = effect.at.rename(columns={"contrast": "change"})
    if change is None and not discrete:
        J = np.eye(len(effect)) / (2 * h) * np.ones((len(made.values), 1, 1))
        effect = effect.mapped(J, effect.values / (2 * h))
        at["change"] = "slope"
    at.insert(0, "variable", name)
    return replace(
        effect, at=at, what=made.what if compare == "difference" else f"{compare} of average predictions"
    )


def _joined(parts: Sequence[Estimates]) -> Estimates:
    """Estimates of the same parameters, one below the other."""
    at = pd.concat([part.at for part in parts], ignore_index=True)
    extras: Array | None = None
    if parts[0].extra is not None and len(parts) > 1:
        raise SpecificationError("effects in clusters of the table are for one variable at a time.")
    if len(parts) == 1:
        extras = parts[0].extra
    return replace(
        parts[0], at=at, values=np.hstack([part.values for part in parts]),
        gradients=np.concatenate([part.gradients for part in parts], axis=1), extra=extras,
    )  # fmt: skip
