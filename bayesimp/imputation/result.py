"""The result of an imputation: posterior, completed tables, and what a reader must know about how they were made."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np
import pandas as pd
import xarray as xr

from bayesimp.arguments import whole
from bayesimp.contract import ImputationModel, Run, TreeRequest, model_type
from bayesimp.errors import SpecificationError
from bayesimp.events import Event, EventTable
from bayesimp.imputation.completed import CompletedTables
from bayesimp.kinds import checks_arguments
from bayesimp.markup import block, folded, framed, table
from bayesimp.table.incomplete import IncompleteData

if TYPE_CHECKING:
    from bayesimp.analysis.fit import Fits
    from bayesimp.diagnostics.convergence import Summary
    from bayesimp.diagnostics.replicates import Replicates
    from bayesimp.imputation.new_rows import ImputedNewRows
    from bayesimp.studies.overimputation import Overimputation

__all__ = ["Imputations"]


@checks_arguments
class Imputations(CompletedTables):
    """Completed tables and the posterior they were drawn from. Made by ``model.impute``, not by hand.

    Attributes
    ----------
    tree
        `xarray.DataTree` for ArviZ:

        - ``posterior``: beta (chain, draw, fixed, response), Sigma (.., response, response_2),
          Psi (.., effect, effect_2), in the units of the data;
        - ``sample_stats``: of the sampler, where it has any;
        - ``imputed``: imputed values by cell, one variable a response, (imputation, row_<response>), levels as their
          numbers from 0 (attribute ``levels``); the coordinates give the place of the row in the table and its cluster.
          "_" is appended to the name of a response that is also that of a dimension or coordinate, and the division slash
          replaces "/" in a name; the attribute ``column`` is its name in the table;
        - ``imputed_stats``: mean and sd of the missing values by response and cluster along the chains,
          (chain, draw, response, cluster), nan where nothing is missing: what convergence is judged by;
        - ``observed_data``: the responses as observed (row), and the cluster of each row.
    data
        The incomplete table; its completed tables are read by `frame`, `to_frame`, `to_long` and iteration.
    attrs
        What makes the run repeatable: formula, priors, sampler, seed, chains, draws, versions.
    events
        DataFrame (kind, where, message, count): everything that could not be done as specified.
    """

    def __init__(
        self,
        data: IncompleteData,
        cells: Mapping[str, tuple[np.ndarray, np.ndarray]],
        attrs: Mapping[str, Any],
        tree: Callable[[], xr.DataTree],
        events: Iterable[Event],
        run: Run | None = None,
    ) -> None:
        """cells: response -> (rows (c,), values (m, c)); tree: makes the DataTree, when it is first asked for.

        `tree` must not be a lambda, so that results can be pickled.
        """
        super().__init__(data, cells, attrs["m"])
        self.attrs = dict(attrs)
        self._make_tree = tree
        self._events: tuple[Event, ...] = tuple(events)
        self._run = run

    @cached_property
    def tree(self) -> xr.DataTree:
        """Parameters, imputed values and statistics as a DataTree; made at the first call."""
        return self._make_tree()

    @property
    def responses(self) -> list[str]:
        """The imputed variables."""
        return list(self.attrs["responses"])

    @property
    def events(self) -> pd.DataFrame:
        """The log of deviations from the request, one event a row."""
        return EventTable([e.as_dict() for e in self._events], columns=["kind", "where", "message", "count"])

    def with_events(self, events: Iterable[Event]) -> Imputations:
        """The same with further events."""
        made = (*self._events, *events)
        return type(self)(self.data, self._cells, self.attrs, self._make_tree, made, self._run)

    @property
    def model(self) -> Any:
        """The `ImputationModel` they were drawn from; None where they do not carry it."""
        return None if self._run is None else self._run.model

    @property
    def run(self) -> Run | None:
        """The chains behind the imputations; None where they cannot go on."""
        return self._run

    @property
    def chained(self) -> bool:
        """Whether the draws of the posterior are cycles of chained equations."""
        return self._engine is not None and self._engine.run_type.chained

    @property
    def _engine(self) -> type[ImputationModel] | None:
        """The kind of model they are from, which a result knows even if it cannot go on."""
        name = self.attrs.get("model")
        return None if name is None else model_type(name)

    def with_prior_draws(self, size: int = 4000, *, seed: int = 0) -> Imputations:
        """The same with a group ``prior`` in the tree, for ``az.plot_prior_posterior(imp.tree)``.

        Parameters that have an improper prior are left out of it, which is recorded in `events`.

        Raises
        ------
        SpecificationError
            The imputations do not carry their model.
        """
        from bayesimp.diagnostics.prior_draws import prior_group

        if self.model is None:
            raise SpecificationError(
                "These imputations do not carry the model they came from, so not its priors."
            )
        size = whole(size, "size")
        prior, events = prior_group(self.model, self.tree["posterior"].to_dataset(), size, seed)
        tree = self.tree.copy()
        tree["prior"] = xr.DataTree(prior)
        made = partial(_same, tree)
        return Imputations(self.data, self._cells, self.attrs, made, self._events + tuple(events), self._run)

    def tree_with(
        self, *what: str, thin: int = 1, by: str = "cluster", new_clusters: bool = False, seed: int = 0
    ) -> xr.DataTree:
        """A copy of the tree with further groups and variables, for ArviZ's model checks.

        Parameters
        ----------
        what
            Groups: ``"log_likelihood"`` (for ``az.loo``), ``"log_prior"`` (with it for ``az.psense_summary``),
            ``"posterior_predictive"`` (for ``az.plot_ppc_dist``; ``observed_data`` then has the same cells). Variables of
            the posterior: ``"cluster_effects"`` (``B``), ``"standard_deviations"``, ``"correlations"``.
        thin
            Every `thin`-th draw is used, in all groups.
        by
            Whether a term of the log likelihood of `JointNormal` belongs to a ``"cluster"`` (cluster effects integrated
            out) or to a ``"row"`` (given cluster effects).
        new_clusters
            Whether replicates come from new clusters of the same sizes and covariates, instead of from those of the data.
        seed
            Seed of the draws: of replicates, and of cluster effects that the run did not keep.

        Returns
        -------
        The tree; `docs/mathematics.md`, section 12, defines each density, and says which check may be read from which.

        Raises
        ------
        SpecificationError
            A name or number is none of the above, or the engine does not have the group; the message gives the reason.

        Examples
        --------
        >>> tree = imp.tree_with("log_likelihood", "log_prior")                 # doctest: +SKIP
        >>> az.loo(tree), az.psense_summary(tree)                               # doctest: +SKIP
        >>> az.plot_ppc_dist(imp.tree_with("posterior_predictive", thin=20))    # doctest: +SKIP
        """
        from bayesimp.imputation.further import tree_with

        return tree_with(self, what, TreeRequest(thin, by, new_clusters, seed))

    def extend(self, n: int, *, progress: bool | None = None) -> Imputations:
        """A result with `n` more imputations; the chains continue from their last states.

        The first `m` imputations are unchanged: a run of m, extended by n, equals a run of m + n with the
        same spacing between imputations.
        """
        run = self._chains()
        if n < 1:
            raise SpecificationError(f"extend by at least one imputation, got {n}.")
        return run.extend(self.m + n, progress)

    def iterate(self, cycles: int, *, progress: bool | None = None) -> Imputations:
        """The same imputations after `cycles` further cycles of chained equations (mice's ``mice.mids``)."""
        run = self._chains()
        if cycles < 1:
            raise SpecificationError(f"go on for at least one cycle, got {cycles}.")
        return run.iterate(cycles, progress)

    def extend_until(
        self,
        *,
        ess: float | None = None,
        analysis: str | Callable[[pd.DataFrame], Any] | None = None,
        mc_error: float | None = None,
        cv: float | None = None,
        pooled: Callable[[Fits], Any] | None = None,
        seconds: float | None = None,
        longest: float = 20.0,
        progress: bool | None = None,
        **options: Any,
    ) -> Imputations:
        """The same run, longer: until its chains have mixed and have enough draws, and pooled numbers are exact enough.

        Chains of joint models grow by more imputations, chained equations by more cycles where chains are short, and more
        imputations where pooled numbers are. The first `m` imputations of a joint model are unchanged.

        Parameters
        ----------
        ess
            Effective sample size, bulk and tail, of every parameter and imputed mean and sd; 400 if nothing is requested.
            That R-hat is within its limits is always part of the target.
        analysis
            A formula or function, whose pooled numbers are to be exact; as for `analyse`, which takes `options`.
        mc_error
            Their Monte Carlo errors, in standard errors, at most; 0.1 if there is an analysis and no `cv`.
        cv
            Coefficient of variation of their standard errors between runs, at most; 0.05 is von Hippel's (2020) choice.
        pooled
            Which pooled numbers: ``lambda fits: fits.contrasts("x - z")``; all coefficients by default.
        seconds
            No step is begun that is expected to end later. An analysis of the tables so far is not interrupted.
        longest
            The run becomes at most so many times as long as it is.
        progress
            Whether progress is shown; None: where somebody watches.

        Returns
        -------
        The longer run. Its events say what was done ("extended"), whether successive imputations are correlated
        ("dependent imputations"), and what is short where a limit was met ("target not reached", also as a
        StatisticalWarning); a further call goes on from there.

        Raises
        ------
        SpecificationError
            The imputations do not carry their chains; a target out of range, or of pooled numbers without an analysis.

        Examples
        --------
        >>> imp = imp.extend_until()                                                             # doctest: +SKIP
        >>> imp = imp.extend_until(analysis="y ~ x + (1 | study)", mc_error=0.05, seconds=600)   # doctest: +SKIP
        """
        from bayesimp.imputation.longer import Target, extend_until

        if ess is None and analysis is None:
            ess = 400.0
        target = Target(ess, analysis, mc_error, cv, pooled, options)
        return extend_until(self, target, seconds, longest, progress)

    def transform(self, new: Any, *, seed: int | None = None) -> ImputedNewRows:
        """Complete rows that the run has not seen, of clusters that it knows or of new ones; nothing is refitted.

        Imputation k uses the parameters behind completed table k. They are not updated by the new rows (what is fitted on
        one table completes another); the effects of clusters are drawn given all that is observed of them: the rows of
        the run and the new ones of a known cluster, the new rows alone of a new one. `docs/mathematics.md`, section 13,
        has the law.

        Parameters
        ----------
        new
            pandas, polars or pyarrow table of one row or more, with the columns that the model uses: variables that it
            imputes, missing or not; covariates, complete; cluster ids, of the same type as in the table of the run.
            Further columns are kept unchanged.
        seed
            The same seed gives the same values, whatever the order of the rows. None: drawn and recorded. Tables that
            are used together need different seeds.

        Returns
        -------
        m completed tables, read like those of the run (``len``, iteration, `frame`, `to_frame`, `to_long`, `analyse`),
        with events of their own.

        Raises
        ------
        SpecificationError
            The imputations do not carry their run, the engine does not complete new rows, or columns are absent.
        DataError
            Covariates are missing, types differ, or a level is unknown; the message names variable and rows.

        Examples
        --------
        >>> imp = bi.JointNormal(data, "sbp + bmi ~ age + (1 | study)").impute(m=20, seed=1)      # doctest: +SKIP
        >>> patients = pd.DataFrame({"study": ["A", "new"], "age": [61, 48],
        ...                          "sbp": [151.0, np.nan], "bmi": [np.nan, np.nan]})            # doctest: +SKIP
        >>> done = imp.transform(patients, seed=2)                                                # doctest: +SKIP
        >>> [predict(table) for table in done]                                                    # doctest: +SKIP
        """
        from bayesimp.imputation.new_rows import transform

        return transform(self, new, seed)

    def _chains(self) -> Any:
        """The chains that can make more of them; the error says why there are none."""
        if self._run is None:
            why = [event.message for event in self._events if event.kind == "cannot go on"]
            raise SpecificationError(
                "These imputations carry no chains to continue" + (f": {why[0]}." if why else ".")
            )
        return self._run

    def summary(self, var_names: list[str] | None = None) -> Summary:
        """R-hat and effective sample sizes of parameters and of imputed means and sds, and the events."""
        from bayesimp.diagnostics.convergence import summarise

        return summarise(self, var_names)

    @overload
    def analyse(self, analysis: str, **options: Any) -> Fits: ...
    @overload
    def analyse(self, analysis: Callable[[pd.DataFrame], Any], **options: Any) -> Any: ...

    def analyse(self, analysis: str | Callable[[pd.DataFrame], Any], **options: Any) -> Any:
        """Fit an analysis to every completed table; see `bayesimp.fit_each`: the result is `Fits`, or `Posteriors`."""
        from bayesimp.analysis.fit import fit_each

        options.setdefault("cluster", self.data.cluster)
        return fit_each(self, analysis, **options)

    def report(
        self,
        path: str | os.PathLike[str],
        *,
        analysis: Any = None,
        title: str = "Multiple imputation: report",
        sensitivity: Any = None,
        mnar: Any = None,
        overimputation: Overimputation | None = None,
        replicates: Replicates | None = None,
        stated: Mapping[str, str] | None = None,
        plan: str | None = None,
        level: float = 0.95,
        figures: bool = True,
        **options: Any,
    ) -> Path:
        """Write a report of the run: plan, missing values, assumptions, model, convergence, results, checklist.

        Its steps are those of TARMOS (Lee et al. 2021). One HTML file holds everything, figures too; nothing is fetched
        when it is read.

        Parameters
        ----------
        path
            ``report.html``; ``report.md`` (figures in a folder next to it); ``report.docx`` (Word, by pandoc).
        analysis
            A formula or function as for `analyse`, fits, or several of these by name; with options of its own,
            ``{"outcome": {"analysis": "y ~ x + (1 | study)", "family": "bernoulli"}}``.
        title
            Heading of the report.
        sensitivity, mnar
            What `bayesimp.sensitivity` and `bayesimp.mnar` gave.
        overimputation, replicates
            What `overimpute` and `replicates` gave.
        stated
            What only the user knows, by item: question, prespecified, deviations, reasons, flow, missing at random,
            interpretation. The checklist marks the others "not stated".
        plan
            Text of the plan, to be shown as it is.
        level
            Of all intervals.
        figures
            Whether figures are drawn.
        options
            Of all analyses, as for `analyse`.

        Returns
        -------
        The path.

        Raises
        ------
        SpecificationError
            An ending, item or result that is not known; Word where pandoc is not installed.

        Examples
        --------
        >>> imp.report("report.html", analysis="y ~ x + (1 | study)",
        ...            stated={"reasons": "lost to follow-up"})                   # doctest: +SKIP
        """
        from bayesimp.report.make import report

        return report(
            self, path, analysis=analysis, title=title, sensitivity=sensitivity, mnar=mnar, overimputation=overimputation,
            replicates=replicates, stated=stated, plan=plan, level=level, figures=figures, **options,
        )  # fmt: skip

    def replicates(self, draws: int = 200, *, new_clusters: bool = False, seed: int = 0) -> Replicates:
        """Observed values next to replicates of them, cluster by cluster; see `bayesimp.diagnostics.replicates`."""
        from bayesimp.diagnostics.replicates import replicates

        return replicates(self, draws, new_clusters=new_clusters, seed=seed)

    def overimpute(
        self,
        *,
        m: int = 19,
        groups: int = 5,
        hide: Literal["rows", "clusters"] = "rows",
        seed: int,
        **options: Any,
    ) -> Overimputation:
        """Hide observed values in turn, impute them under the same model, and compare; see `bayesimp.studies.overimpute`.

        Raises
        ------
        SpecificationError
            The imputations do not carry their model, or it cannot be made again from its specification.
        """
        from bayesimp.studies.overimputation import overimpute

        if self.model is None:
            raise SpecificationError(
                "These imputations do not carry the model they came from: overimpute the model, "
                "bi.studies.overimpute(model, seed=1)."
            )
        return overimpute(self.model, m=m, groups=groups, hide=hide, seed=seed, **options)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write everything to netCDF (``.nc``) or zarr (``.zarr``); `bayesimp.load` reads it back exactly."""
        from bayesimp.imputation.storage import save

        save(self, path)

    def _repr_html_(self) -> str:
        title, *lines = repr(self).split("\n")
        data, rows = self.data, []
        for name in self.imputed_columns:
            at = self.rows(name)
            family = data.families.get(name, "computed")
            rows.append((name, family, len(at), 100 * len(at) / len(data), len(np.unique(data.codes[at]))))
        columns = ["imputed", "family", "cells", "% of rows", f"clusters of '{data.cluster}'"]
        parts = [table(pd.DataFrame(rows, columns=columns)), block("\n".join(line.strip() for line in lines))]
        parts += [folded(f"Events ({len(self._events)})", table(self.events))] if self._events else []
        return framed(title, parts)

    def __repr__(self) -> str:
        attrs = self.attrs
        cells = sum(len(self.rows(name)) for name in self.imputed_columns)
        lines = [
            f"Imputations: m = {self.m}, {cells:,} cells of {', '.join(self.imputed_columns) or 'no variable'}",
            "  " + attrs["formula"].replace("; ", "\n  ") + f"   (priors '{attrs['priors_name']}')",
            f"  {attrs['sampler']}, {attrs['chains']} chains x {attrs['draws']} draws, seed "
            f"{attrs['seed']}, {attrs['seconds']:.2f} s",
            f"  {len(self._events)} event{'' if len(self._events) == 1 else 's'}"
            + (": see .events" if self._events else ""),
        ]
        return "\n".join(lines)


def _same(tree: xr.DataTree) -> xr.DataTree:
    return tree
