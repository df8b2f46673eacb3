"""Estimands beyond coefficients: predictions, marginal means, effects, functions of parameters, ICC, R2.

Each quantity is computed in every completed table, with its derivatives, and pooled (`bayesimp.analysis.estimates`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pandas as pd

from bayesimp.analysis.estimates import COMPARISONS, Estimates
from bayesimp.analysis.grids import WEIGHTS, Grid, counterfactual, groups_of, reference_grid
from bayesimp.analysis.hypotheses import as_texts
from bayesimp.analysis.links import SCALES_OF_POOLING
from bayesimp.analysis.question import Question, effect, joined, names_given
from bayesimp.errors import SpecificationError
from bayesimp.kinds import checks_arguments
from bayesimp.notation import Matrix

if TYPE_CHECKING:
    from bayesimp.analysis.fits import Fits

__all__ = ["Estimands"]


@checks_arguments
class Estimands:
    """Methods of `bayesimp.analysis.fits.Fits` for estimands beyond coefficients.

    **Cluster effects** of generalised mixed models are treated according to ``random_effects``:

    - ``"integrated"``, the default on the response scale: predictions are averaged over normal effects by quadrature.
      Only this choice gives a mean of the response in the population of clusters, and agrees with averages of the data.
    - ``"zero"``: with effects of zero, as for a median cluster; emmeans does this, and lme4 with ``re.form = NA``. It
      is not a mean: the inverse link of a mean is not the mean of the inverse link.
    - ``"cluster"``: with the predicted effects of a cluster of the table.

    For normal responses the first two agree.

    **Ordinal responses** have a probability for each level: the column of the response says which.
    ``contrasts(by=response)`` compares the probabilities of one level. ``scale="link"`` is the latent linear predictor,
    without thresholds.

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
            Columns whose values define the groups to average over; ``[]``: one average of all rows; None: each row.
        scale
            ``"response"`` or ``"link"``.
        random_effects
            See `Estimands`; ``"cluster"`` needs the cluster column.
        df_complete
            As in `Fits.pool`.

        Raises
        ------
        SpecificationError, DataError
            A column or level is not in the tables, or the analysis cannot give what is requested.
        """
        asked = Question(self, scale, random_effects, df_complete, newdata)
        columns = [] if by is None else names_given(by, "by")
        if by is None and newdata is None and asked.rows.counts is not None:
            raise SpecificationError(
                f"{asked.fits.analysis!r}: rows that are alike are counted here, so single rows have no predictions. "
                "Give newdata, or average over rows: by=[] or by a column."
            )
        labels: list[tuple] | None = None

        def make(k: int) -> tuple[pd.DataFrame, Matrix | None]:
            nonlocal labels
            table = asked.table(k)
            if by is None:
                return table, None
            labels, groups = groups_of(table, columns, labels, asked.counts(table))
            return table, np.array([rows / rows.sum() for rows in groups])

        made = asked.gathered(make, "mean" if by is not None else "prediction")
        if by is None:
            given = [name for name in asked.table(0) if name in asked.shown]
            at = asked.table(0)[given].reset_index(drop=True) if newdata is not None else pd.DataFrame(
                {"row": range(1, len(asked.table(0)) + 1)}
            )  # fmt: skip
            return replace(made, at=asked.labelled(at))
        at = pd.DataFrame(labels, columns=columns) if columns else pd.DataFrame({"term": ["average"]})
        return replace(made, at=asked.labelled(at))

    def marginal_means(
        self, variables: str | Sequence[str], *, at: Mapping[str, Any] | None = None, weights: str = "equal",
        scale: str = "response", random_effects: str | None = None, df_complete: Any = None,
    ) -> Estimates:  # fmt: skip
        """Mean responses by the levels of variables; ``.contrasts()`` compares them.

        Parameters
        ----------
        variables
            Factors, or numeric columns that have two values only or values in `at`.
        at
            Values of columns: ``{"age": 60}``, ``{"age": [40, 60]}``.
        weights
            How to average over other factors: ``"equal"``, over a balanced grid (emmeans' default); ``"proportional"``,
            by the frequency of their combinations; ``"observed"``, over the rows of the tables, each at every level
            (standardised means, g-computation). In grids numeric columns are at their mean over rows and imputations.
        scale
            ``"response"``: means of predicted responses; ``"link"``: means of linear predictors;
            ``"back-transformed"``: inverse links of the latter, as with emmeans' ``type = "response"``.
        random_effects, df_complete
            As for `predictions`.

        Raises
        ------
        SpecificationError, DataError
            A variable, level or value is not in the tables.
        """
        asked = Question(self, scale, random_effects, df_complete)
        targets = names_given(variables, "variables")
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
                return counterfactual(table, settings, groups_of(table, (), None, asked.counts(table))[1])

            made = asked.gathered(make, "standardised mean")
        return replace(made, at=asked.labelled(levels if targets else pd.DataFrame({"term": ["overall"]})))

    def marginal_effects(
        self, variables: str | Sequence[str] | Mapping[str, Any] | None = None, *, newdata: pd.DataFrame | None = None,
        by: str | Sequence[str] = (), compare: str = "difference", scale: str = "response",
        random_effects: str | None = None, df_complete: Any = None,
    ) -> Estimates:  # fmt: skip
        """Average marginal effects: the change of the prediction with a variable, averaged over rows.

        Parameters
        ----------
        variables
            Names; None: all variables of the formula. The effect of a number is the mean derivative; that of a factor,
            bool or 0/1 column is the difference of each level from the first. A mapping gives a step, ``{"age": 10}``,
            or two values, ``{"age": (40, 60)}``.
        newdata
            Rows to average over; None: those of the completed tables.
        by
            Columns whose values define the groups to average over.
        compare
            For levels, steps and values: ``"difference"``, ``"ratio"`` or ``"odds ratio"`` of the two averages.
        scale, random_effects, df_complete
            As for `predictions`. Cluster means in the formula remain those of the table.

        Raises
        ------
        SpecificationError, DataError
            As for `predictions`.
        """
        asked = Question(self, scale, random_effects, df_complete, newdata)
        if compare not in COMPARISONS:
            raise SpecificationError(f"compare = {compare!r} is not known; choose one of {COMPARISONS}.")
        named: dict[str, Any] = (
            dict(variables) if isinstance(variables, Mapping)
            else dict.fromkeys(asked.rows.variables if variables is None else names_given(variables, "variables"))
        )  # fmt: skip
        columns = names_given(by, "by")
        parts = []
        for name, change in named.items():
            asked.check_variable(name)
            parts.append(effect(asked, name, change, columns, compare))
        if not parts:
            raise SpecificationError(f"{asked.fits.analysis!r} has no variables, so there are no effects.")
        return joined(parts)

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
            ``"x / z"``, a list, or texts by label: ``{"peak": "-age / (2 * I(age**2))"}``, with + - * / **, exp,
            log, sqrt, tanh, expit, logit. Components in backticks, on their natural scale: `` "`sd(Intercept |
            school)`**2" ``.
        pooled_as
            The scale of pooling: ``"identity"``, ``"log"`` (positive quantities), ``"logit"`` (proportions), ``"fisher
            z"``.
        null
            The value tested; None: no test.

        Raises
        ------
        SpecificationError
            A name or function is unknown, a component is at its bound and so has no standard error, or values are
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
            raise SpecificationError("no function was given. Write, for example, fits.functions('x / z').")
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
                "finite value, or no standard error of a variance component (at its bound, or none from this "
                f"engine), on the scale {pooled_as!r}."
            )
        at = pd.DataFrame({"term": list(named)})
        return Estimates("function of parameters", at, values, gradients[:, :, used], V[:, used][:, :, used],
                         fits.df_complete, scale=pooled_as, null=null, log=fits.log)  # fmt: skip

    def explained(self, scale: str = "logit") -> Estimates:
        """Intraclass correlation and marginal and conditional R2 of a mixed model (`bayesimp.analysis.explained`).

        Without random effects: R2. For binary responses they are on the latent scale. ``scale`` is that of pooling:
        ``"logit"``, or ``"identity"``, which has a value even if a variance is zero in a table.

        Raises
        ------
        SpecificationError
            The analysis is not a formula, or its family has no known row variance.
        """
        from bayesimp.analysis.explained import explained

        return explained(cast("Fits", self), scale)
