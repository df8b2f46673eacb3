"""Quantities estimated in every completed table and pooled on a suitable scale, and their contrasts.

A quantity g(theta) has the estimate Q_l = g(theta_l) in table l and, by the delta method, the variance U_l = G_l V_l
G_l', with G_l its derivatives by the parameters. On a scale f these are f(Q_l) and f'(Q_l)^2 U_l, which Rubin's rules
(`bayesimp.analysis.pool`) pool; estimate and limits are transformed back by f^-1. Probabilities are pooled as logits,
means of counts and ratios as logarithms, and differences untransformed: the scales on which the normal approximation
behind Rubin's rules is best.

Satterthwaite's degrees of freedom are those of the combination G_l beta in table l, averaged over tables, then Barnard &
Rubin's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from bayesimp.analysis.compare import MultiTest, d1
from bayesimp.analysis.comparisons import ADJUSTMENTS, adjusted_p, label_of, one_of, pairs_of, shown
from bayesimp.analysis.hypotheses import satterthwaite
from bayesimp.analysis.links import SCALES_OF_POOLING
from bayesimp.analysis.pool import Pooled, pool
from bayesimp.analysis.pooled_text import as_text
from bayesimp.errors import SpecificationError
from bayesimp.events import Event
from bayesimp.kinds import checks_arguments
from bayesimp.layout import Printed
from bayesimp.markup import framed, paragraph
from bayesimp.markup import table as as_html
from bayesimp.notation import Array, Matrix, Vector

__all__ = ["COMPARISONS", "Estimates"]

COMPARISONS = ("difference", "ratio", "odds ratio")
WITH_COVARIANCE = 400  # estimates up to which covariances between them are kept


@checks_arguments
@dataclass(frozen=True)
class Estimates(Printed):
    """Estimates from every completed table, and their pooled values.

    Attributes
    ----------
    what
        The quantity in words.
    at
        The labels of the estimates, r rows: the columns of `to_frame` before the numbers.
    values, gradients
        (M, r) and (M, r, K), estimates in each table and their derivatives by the parameters.
    covariance
        (M, K, K) covariances of the parameters.
    spread
        (M, d, K, K) for Satterthwaite's degrees of freedom (`bayesimp.analysis.Fits`), or None.
    extra
        (M, r, r) variance not due to the parameters (cluster effects), or None.
    df_complete
        Degrees of freedom if nothing were missing, a number or (r,); ``"satterthwaite"``.
    df_covariance
        (M, K, K) covariance for these degrees of freedom, if `covariance` is Kenward & Roger's.
    scale
        The scale of pooling, one of `bayesimp.analysis.links.SCALES_OF_POOLING`.
    null
        The value tested, on the scale of the estimates; None: no test.
    adjust
        Adjustment for several comparisons, or None.
    """

    what: str
    at: pd.DataFrame
    values: Matrix
    gradients: Array
    covariance: Array
    df_complete: Any = np.inf
    spread: Array | None = None
    extra: Array | None = None
    scale: str = "identity"
    null: float | None = None
    adjust: str | None = None
    df_covariance: Array | None = None
    log: tuple[Event, ...] = ()
    notes: Mapping[str, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.at)

    @property
    def terms(self) -> tuple[str, ...]:
        """(r,) names of the estimates: ``"treat = 1, sex = F"``."""
        if list(self.at) == ["term"]:
            return tuple(map(str, self.at["term"]))
        return tuple(label_of(row) or self.what for row in self.at.to_dict("records"))

    @cached_property
    def pooled(self) -> Pooled:
        """Results of Rubin's rules on the scale of pooling; without covariances if there are more than 400 estimates."""
        Q, U = self._on_scale()
        Q = np.where(np.isfinite(Q), Q, np.nan)  # at an end of the scale in some table: no pooled value
        dfcom = np.broadcast_to(np.asarray(self._dfcom(), dtype=float), (len(self),))
        if U.ndim == 3:
            made = pool(Q, U, dfcom, terms=self.terms)
        else:
            made = _in_parts(Q, U, dfcom, self.terms)
        return replace(made, log=self.log, notes=self.notes)

    def _on_scale(self) -> tuple[Matrix, Array]:
        """Estimates on the scale of pooling, (M, r), and covariances, (M, r, r); for many estimates, variances (M, r)."""
        f = SCALES_OF_POOLING[self.scale]
        with np.errstate(divide="ignore", invalid="ignore"):
            Q, G = f.to(self.values), f.slope(self.values)[:, :, None] * self.gradients
            if len(self) > WITH_COVARIANCE:
                U = np.einsum("mra,mab,mrb->mr", G, self.covariance, G, optimize=True)
                U += (
                    0.0
                    if self.extra is None
                    else np.einsum("mrr->mr", self.extra) * f.slope(self.values) ** 2
                )
            else:
                U = G @ self.covariance @ np.swapaxes(G, 1, 2)
                if self.extra is not None:
                    U = U + self.extra * f.slope(self.values)[:, :, None] * f.slope(self.values)[:, None]
        return Q, U

    def _dfcom(self) -> Any:
        if not isinstance(self.df_complete, str):
            return self.df_complete
        if self.spread is None or self.extra is not None:
            raise SpecificationError(
                f"{self.what}: Satterthwaite degrees of freedom exist only for fixed effects of linear mixed "
                "models given as a formula. Give df_complete= as numbers."
            )
        per_table = [
            satterthwaite(V[None], S[None], G)[0]
            for V, S, G in zip(
                self.covariance if self.df_covariance is None else self.df_covariance,
                self.spread,
                self.gradients,
                strict=True,
            )
        ]
        return np.mean(per_table, axis=0)

    @property
    def estimate(self) -> Vector:
        """Pooled estimates, (r,), on the original scale."""
        return SCALES_OF_POOLING[self.scale].back(self.pooled.estimate)

    @property
    def std_error(self) -> Vector:
        """Standard errors, (r,), on the original scale, by the delta method."""
        return SCALES_OF_POOLING[self.scale].back_slope(self.pooled.estimate) * self.pooled.std_error

    @property
    def fmi(self) -> Vector:
        """Fractions of missing information, (r,), on the scale of pooling."""
        return self.pooled.fmi

    def to_frame(self, level: float = 0.95) -> pd.DataFrame:
        """Pooled results as a table, with the columns of `at` and those of mice.

        The columns named as in mice are estimate, std.error, statistic, df, p.value, conf.low, conf.high and fmi. The
        statistic is on the scale of pooling; the standard error is that of the estimate shown.
        """
        pooled, f = self.pooled, SCALES_OF_POOLING[self.scale]
        interval = pooled.interval(level)
        with np.errstate(divide="ignore", invalid="ignore"):
            null = np.nan if self.null is None else float(f.to(np.array([self.null]))[0])
            statistic = (pooled.estimate - (null if np.isfinite(null) else np.nan)) / pooled.std_error
        p = 2 * stats.t(np.where(pooled.df > 0, pooled.df, np.nan)).sf(np.abs(statistic))
        if self.adjust is not None and len(self) > 1:
            p, half = adjusted_p(self.adjust, p, statistic, pooled.df, pooled.covariance, level)
            interval = pooled.estimate[:, None] + np.outer(half * pooled.std_error, [-1, 1])
        low, high = f.back(interval).T
        numbers = pd.DataFrame(
            {
                "estimate": self.estimate, "std.error": self.std_error, "statistic": statistic, "df": pooled.df,
                "p.value": p, "conf.low": low, "conf.high": high, "fmi": pooled.fmi,
            }
        )  # fmt: skip
        return pd.concat([pd.DataFrame({"term": self.terms}), self._at_beside_term(), numbers], axis=1)

    def _at_beside_term(self) -> pd.DataFrame:
        return self.at.drop(columns="term", errors="ignore").reset_index(drop=True)

    def tidy(self, level: float = 0.95) -> pd.DataFrame:
        """`to_frame` with underscores in the column names: std_error, p_value, conf_low, conf_high."""
        return self.to_frame(level).rename(columns=lambda name: name.replace(".", "_"))

    def contrasts(
        self, kind: str = "pairwise", *, compare: str = "difference", by: str | Sequence[str] = (),
        adjust: str | None = None,
    ) -> Estimates:  # fmt: skip
        """Comparisons of the estimates with each other.

        Parameters
        ----------
        kind
            ``"pairwise"``: each with every earlier one, "b - a" (emmeans' ``revpairwise``); ``"treatment"``: each
            with the first; ``"sequential"``: each with the one before.
        compare
            ``"difference"``; ``"ratio"``, pooled as a logarithm; ``"odds ratio"`` of probabilities, likewise.
        by
            Columns of `at` within which to compare; by default all estimates are compared.
        adjust
            ``"holm"``, ``"bonferroni"`` or ``"mvt"`` for all comparisons of the result together; None: none. Tukey's
            range rests on equal variances and correlations, which pooled estimates do not have; ``"mvt"`` is its
            general form.

        Raises
        ------
        SpecificationError
            A name is unknown, or there are fewer than two estimates to compare, or too many.
        """
        one_of(compare, COMPARISONS, "compare")
        by = [by] if isinstance(by, str) else list(by)
        unknown = [name for name in by if name not in self.at]
        if unknown:
            raise SpecificationError(
                f"by = {unknown[0]!r} is not a column of these estimates; the columns are {list(self.at)}."
            )
        if len(self) > WITH_COVARIANCE:
            raise SpecificationError(
                f"{len(self)} estimates are too many to compare; at most {WITH_COVARIANCE}."
            )
        pairs = pairs_of(self.at, by, kind)
        if not pairs:
            raise SpecificationError(
                "there is only one estimate in each group, so there is nothing to compare."
            )
        inner = [name for name in self.at if name not in by]
        labels = replace(self, at=self.at[inner]).terms if inner else self.terms
        sign = {"difference": "-", "ratio": "/", "odds ratio": "/"}[compare]
        at = pd.DataFrame({"contrast": [f"({labels[b]}) {sign} ({labels[a]})" for a, b in pairs]})
        if inner and len(inner) == 1:
            texts = [shown(v) for v in self.at[inner[0]]]
            at = pd.DataFrame({"contrast": [f"{texts[b]} {sign} {texts[a]}" for a, b in pairs]})
        for name in by:
            at[name] = [self.at[name].iloc[a] for a, _ in pairs]
        made = self._compared(pairs, compare)
        return replace(made, at=at, what=f"{compare} of {self.what}").adjusted(adjust)

    def _compared(self, pairs: Sequence[tuple[int, int]], compare: str) -> Estimates:
        """f^-1(f(b) - f(a)) for each pair (a, b), with its derivatives."""
        f = SCALES_OF_POOLING[{"difference": "identity", "ratio": "log", "odds ratio": "logit"}[compare]]
        if compare != "difference" and not (f.slope(self.values) > 0).all():
            raise SpecificationError(f"{compare} of {self.what}: some estimates are outside its range.")
        C = np.zeros((len(pairs), len(self)))
        for row, (a, b) in enumerate(pairs):
            C[row, a], C[row, b] = -1.0, 1.0
        J = C * f.slope(self.values)[:, None]  # (M, pairs, r)
        values, ratio = f.to(self.values) @ C.T, compare != "difference"
        if ratio:
            values = np.exp(values)
            J = values[:, :, None] * J
        return self.mapped(J, values, scale="log" if ratio else "identity", null=1.0 if ratio else 0.0)

    def test(self) -> MultiTest:
        """F test that all estimates equal `null` (differences 0, ratios 1): D1 on the scale of pooling.

        The complete-data degrees of freedom are the smallest of those of the estimates.

        Raises
        ------
        SpecificationError
            There is no value to test, or some estimates follow from others, as in all pairwise differences.
        """
        if self.null is None:
            raise SpecificationError(f"{self.what}: there is no value to test; test contrasts instead.")
        f = SCALES_OF_POOLING[self.scale]
        Q, U = self._on_scale()
        rank = np.linalg.matrix_rank(U.mean(axis=0), tol=1e-9 * np.trace(U.mean(axis=0)))
        if U.ndim < 3 or rank < len(self):
            raise SpecificationError(
                f"{len(self)} estimates of {self.what} are not independent: some follow from the others. Take "
                "contrasts('treatment')."
            )
        made = d1(Q, U, float(np.min(self._dfcom())), null=f.to(np.array([self.null]))[0])
        return replace(made, terms=self.terms)

    def mapped(self, J: Array, values: Matrix, **fields: Any) -> Estimates:
        """Functions of the estimates, with values (M, s) and derivatives J (M, s, r)."""
        extra = None if self.extra is None else J @ self.extra @ np.swapaxes(J, 1, 2)
        at = pd.DataFrame(index=range(values.shape[1]))
        return replace(
            self, at=at, values=values, gradients=J @ self.gradients, extra=extra, adjust=None, **fields
        )

    def adjusted(self, adjust: str | None) -> Estimates:
        """The same estimates, with p-values and limits adjusted for their number."""
        if adjust == "tukey":
            raise SpecificationError(
                "adjust = 'tukey' rests on equal variances and correlations, which pooled estimates do not have; its "
                "general form is 'mvt'."
            )
        if adjust is not None:
            one_of(adjust, ADJUSTMENTS, "adjust")
        return replace(self, adjust=adjust)

    def _said(self) -> str:
        table = self.to_frame().drop(columns=list(self._at_beside_term()))
        return "\n".join(
            [*self._heads(), as_text(table), *(f"{term}: {why}" for term, why in self.notes.items())]
        )

    def _heads(self) -> list[str]:
        """What is estimated, and for how many comparisons p-values are adjusted."""
        lines = [f"{self.what}, pooled over {len(self.values)} imputations" + (
            "" if self.scale == "identity" else f" as {self.scale}s" if self.scale != "log" else " as logarithms"
        )]  # fmt: skip
        if self.adjust is not None and len(self) > 1:
            lines.append(f"p-values and limits adjusted for {len(self)} comparisons ({self.adjust})")
        elif self.null is not None and len(self) > 1:
            lines.append(f"not adjusted for {len(self)} comparisons")
        return lines

    def _repr_html_(self) -> str:
        title, *lines = self._heads()
        notes = [paragraph(f"{term}: {why}") for term, why in self.notes.items()]
        return framed(title, [*map(paragraph, lines), as_html(self.to_frame()), *notes])


def _in_parts(Q: Matrix, U: Matrix, dfcom: Vector, terms: Sequence[str]) -> Pooled:
    """Apply Rubin's rules to many variances (M, r) without (M, r, r) arrays; the covariance is left empty."""
    cuts = [slice(first, first + WITH_COVARIANCE) for first in range(0, len(terms), WITH_COVARIANCE)]
    parts = [pool(Q[:, cut], U[:, cut], dfcom[cut]) for cut in cuts]
    names = ("estimate", "ubar", "b", "t", "dfcom", "df", "riv", "lambda_", "fmi")
    joined: dict[str, Any] = {name: np.concatenate([getattr(part, name) for part in parts]) for name in names}
    scale = ("estimate",) * len(terms)
    return replace(parts[0], terms=tuple(terms), covariance=np.empty((0, 0)), scale=scale, **joined)
