"""The result of an imputation: posterior, completed tables, and the events a reader must know."""

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
from bayesimp.events import Event, counted_events, event_table
from bayesimp.imputation.completed import CompletedTables
from bayesimp.kinds import checks_arguments
from bayesimp.layout import Printed
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
class Imputations(Printed, CompletedTables):
    """Completed tables and the posterior from which they were drawn, created by ``model.impute``.

    Attributes
    ----------
    tree
        `xarray.DataTree` for ArviZ:

        - ``posterior``: beta (chain, draw, fixed, response), Sigma (.., response, response_2),
          Psi (.., effect, effect_2), in the units of the data;
        - ``sample_stats``: statistics of the sampler, if it has any;
        - ``imputed``: imputed values, one variable per response, (imputation, row_<response>), with levels as numbers
          from 0 (attribute ``levels``); the coordinates give the position of the row in the table and its cluster. "_"
          is appended to the name of a response that is also that of a dimension or coordinate, and the division slash
          replaces "/" in a name; the attribute ``column`` is its name in the table;
        - ``imputed_stats``: mean and sd of the missing values by response and cluster along the chains,
          (chain, draw, response, cluster), nan where nothing is missing, from which convergence is computed;
        - ``observed_data``: the responses as observed (row), and the cluster of each row.
    data
        The incomplete table; the completed ones are returned by `frame`, `to_frame`, `to_long` and iteration.
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
        """cells: response -> (rows (c,), values (m, c)); tree: builds the DataTree on first use.

        `tree` must not be a lambda, so that results can be pickled.
        """
        super().__init__(data, cells, attrs["m"])
        self.attrs = dict(attrs)
        self._make_tree = tree
        self.log: tuple[Event, ...] = tuple(events)  # `events` has them as a table
        self._run = run

    @cached_property
    def tree(self) -> xr.DataTree:
        """Parameters, imputed values and statistics as a DataTree, built on first use."""
        return self._make_tree()

    @property
    def responses(self) -> list[str]:
        """The imputed variables."""
        return list(self.attrs["responses"])

    @property
    def events(self) -> pd.DataFrame:
        """The log of deviations from the request, one event per row."""
        return event_table(self.log)

    def with_events(self, events: Iterable[Event]) -> Imputations:
        """The same imputations with further events."""
        made = (*self.log, *events)
        return type(self)(self.data, self._cells, self.attrs, self._make_tree, made, self._run)

    @property
    def model(self) -> Any:
        """The `ImputationModel` from which they were drawn; None if they do not carry it."""
        return None if self._run is None else self._run.model

    @property
    def run(self) -> Run | None:
        """The chains behind the imputations; None if they cannot be continued."""
        return self._run

    @property
    def chained(self) -> bool:
        """Whether the draws of the posterior are cycles of chained equations."""
        return self._engine is not None and self._engine.run_type.chained

    @property
    def _engine(self) -> type[ImputationModel] | None:
        """The class of their model, which is known even if the chains cannot be continued."""
        name = self.attrs.get("model")
        return None if name is None else model_type(name)

    def with_prior_draws(self, size: int = 4000, *, seed: int = 0) -> Imputations:
        """The same imputations with a group ``prior`` in the tree, for ``az.plot_prior_posterior(imp.tree)``.

        Parameters with an improper prior are left out, which `events` records.

        Raises
        ------
        SpecificationError
            The imputations do not carry their model.
        """
        from bayesimp.diagnostics.prior_draws import known_model, prior_group

        model = known_model(self)
        size = whole(size, "size")
        prior, events = prior_group(model, self.tree["posterior"].to_dataset(), size, seed)
        tree = self.tree.copy()
        tree["prior"] = xr.DataTree(prior)
        made = partial(_same, tree)
        return Imputations(self.data, self._cells, self.attrs, made, self.log + tuple(events), self._run)

    def tree_with(
        self, *what: str, thin: int = 1, by: str = "cluster", new_clusters: bool = False, seed: int = 0
    ) -> xr.DataTree:
        """A copy of the tree with further groups and variables for ArviZ's model checks.

        Parameters
        ----------
        what
            Groups: ``"log_likelihood"`` (for ``az.loo``), ``"log_prior"`` (with it for ``az.psense_summary``),
            ``"posterior_predictive"`` (for ``az.plot_ppc_dist``; ``observed_data`` then has the same cells). Variables of
            the posterior: ``"cluster_effects"`` (``B``), ``"standard_deviations"``, ``"correlations"``. Of `FCS` each
            conditional model has its own, given the other variables as they were imputed.
        thin
            Every `thin`-th draw is used, in all groups; groups of more than 250 million numbers (2 GB) are refused.
        by
            Whether a term of the log likelihood of `JointNormal` belongs to a ``"cluster"`` (cluster effects integrated
            out) or to a ``"row"`` (given cluster effects).
        new_clusters
            Whether replicates are of new clusters with the same sizes and covariates, rather than those of the data.
        seed
            Seed for replicates, and for cluster effects that the run did not keep.

        Returns
        -------
        The tree; `docs/mathematics.md`, section 12, defines each density and says which checks it supports.

        Raises
        ------
        SpecificationError
            A name or number is not one of the above, or the engine cannot compute the group; the message gives the
            reason.

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

        The first `m` imputations are unchanged: a run of m extended by n equals a run of m + n with the same spacing
        between imputations.
        """
        run = self.chains_to_continue()
        if n < 1:
            raise SpecificationError(f"extend by at least one imputation, got {n}.")
        return run.extend(self.m + n, progress)

    def iterate(self, cycles: int, *, progress: bool | None = None) -> Imputations:
        """The same imputations after `cycles` further cycles of chained equations (mice's ``mice.mids``)."""
        run = self.chains_to_continue()
        if cycles < 1:
            raise SpecificationError(f"iterate for at least one cycle, got {cycles}.")
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
        """Continue the run until its chains have mixed with enough draws, and pooled numbers are precise enough.

        Joint models grow by more imputations; chained equations by more cycles if the chains are too short, and by more
        imputations if pooled numbers are too imprecise. The first `m` imputations of a joint model are unchanged.

        Parameters
        ----------
        ess
            Effective sample size, bulk and tail, of every parameter and imputed mean and sd; 400 if nothing is requested.
            R-hat within its limits is always part of the target.
        analysis
            A formula or function whose pooled numbers should be precise; as for `analyse`, which takes `options`.
        mc_error
            Largest Monte Carlo error of these, in standard errors; 0.1 if there is an analysis and no `cv`.
        cv
            Largest coefficient of variation of their standard errors between runs; 0.05 is von Hippel's (2020) choice.
        pooled
            The pooled numbers, as ``lambda fits: fits.contrasts("x - z")``; all coefficients by default.
        seconds
            No step is started that is expected to end later. An analysis of the tables so far is not interrupted.
        longest
            Largest factor by which the run may grow.
        progress
            Whether to show progress; None: on a terminal or in a notebook.

        Returns
        -------
        The longer run. Its events say what was done ("extended"), whether successive imputations are correlated
        ("dependent imputations"), and what is lacking if a limit was met ("target not reached", also as a
        StatisticalWarning); a further call continues from there.

        Raises
        ------
        SpecificationError
            The imputations do not carry their chains, a target is out of range, or it concerns pooled numbers and there
            is no analysis.

        Examples
        --------
        >>> imp = imp.extend_until()                                                             # doctest: +SKIP
        >>> imp = imp.extend_until(analysis="y ~ x + (1 | study)", mc_error=0.05, seconds=600)   # doctest: +SKIP
        """
        from bayesimp.analysis.named import check_options
        from bayesimp.imputation.longer import Target, extend_until

        check_options(options, self.extend_until, analysis)
        if ess is None and analysis is None:
            ess = 400.0
        target = Target(ess, analysis, mc_error, cv, pooled, options)
        return extend_until(self, target, seconds, longest, progress)

    def transform(self, new: Any, *, seed: int | None = None) -> ImputedNewRows:
        """Complete new rows, of known or new clusters, without refitting.

        Imputation k uses the parameter draws of completed table k, which the new rows do not update. Cluster effects
        are drawn given all observed rows of the cluster: those of the run and the new ones for a known cluster, the new
        ones for a new cluster; with several grouping factors, those of the groups of each, given all rows connected with
        the new ones. `docs/mathematics.md`, section 13, gives the distribution.

        Parameters
        ----------
        new
            A pandas, polars or pyarrow table with at least one row and the columns that the model uses: imputed
            variables, missing or not; complete covariates; and cluster ids, of every grouping factor, of the same type as
            in the table of the run.
            Further columns are kept unchanged.
        seed
            The same seed gives the same values, whatever the order of the rows. None: a seed is drawn and recorded.
            Tables that are used together need different seeds.

        Returns
        -------
        m completed tables, accessed like those of the run (``len``, iteration, `frame`, `to_frame`, `to_long`,
        `analyse`), with their own events.

        Raises
        ------
        SpecificationError
            The imputations do not carry their run, the engine does not complete new rows, or columns are absent.
        DataError
            Covariates are missing, types differ, or a level is unknown; the message names the variable and rows.

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

    def chains_to_continue(self) -> Any:
        """The chains to continue; the error says why there are none."""
        if self._run is None:
            why = [event.message for event in self.log if event.kind == "cannot go on"]
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
        """Fit an analysis to every completed table; see `bayesimp.fit_each`. The result is `Fits` or `Posteriors`."""
        from bayesimp.analysis.fit import fit_each
        from bayesimp.analysis.named import check_options

        check_options(options, self.analyse)
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

        Its steps are those of TARMOS (Lee et al. 2021). An HTML report is a single file with all figures; it loads
        nothing external.

        Parameters
        ----------
        path
            ``report.html``; ``report.md`` (figures in a folder of the same folder); ``report.docx`` (Word, by pandoc).
        analysis
            A formula or function as for `analyse`, fits, or several of these by name, each possibly with options:
            ``{"outcome": {"analysis": "y ~ x + (1 | study)", "family": "bernoulli"}}``.
        title
            Heading of the report.
        sensitivity, mnar
            Results of `bayesimp.sensitivity` and `bayesimp.mnar`.
        overimputation, replicates
            Results of `overimpute` and `replicates`.
        stated
            Statements that only the user can make, by item: question, prespecified, deviations, reasons, flow, missing
            at random, interpretation. The checklist marks the others "not stated".
        plan
            Text of the plan, shown unchanged.
        level
            Confidence level of all intervals.
        figures
            Whether to draw figures.
        options
            Options of all analyses, as for `analyse`.

        Returns
        -------
        The path.

        Raises
        ------
        SpecificationError
            A suffix, item or result is unknown, or Word is requested and pandoc is not installed.

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
        """Compare observed values with replicates, cluster by cluster; see `bayesimp.diagnostics.replicates`."""
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
            The imputations do not carry their model, or it cannot be rebuilt from its specification.
        """
        from bayesimp.studies.overimputation import overimpute

        if self.model is None:
            raise SpecificationError(
                "These imputations do not carry the model that made them. Overimpute the model, "
                "bi.studies.overimpute(model, seed=1)."
            )
        return overimpute(self.model, m=m, groups=groups, hide=hide, seed=seed, **options)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write everything to netCDF (``.nc``) or zarr (``.zarr``); `bayesimp.load` reads it back exactly."""
        from bayesimp.imputation.storage import save

        save(self, path)

    def _repr_html_(self) -> str:
        title, *lines = self._said().split("\n")
        data, rows = self.data, []
        for name in self.imputed_columns:
            at = self.rows(name)
            family = data.families.get(name, "computed")
            rows.append((name, family, len(at), 100 * len(at) / len(data), len(np.unique(data.codes[at]))))
        columns = ["imputed", "family", "cells", "% of rows", f"clusters of '{data.cluster}'"]
        parts = [table(pd.DataFrame(rows, columns=columns)), block("\n".join(line.strip() for line in lines))]
        parts += [folded(f"Events ({len(self.log)})", table(self.events))] if self.log else []
        return framed(title, parts)

    def _said(self) -> str:
        attrs = self.attrs
        cells = sum(len(self.rows(name)) for name in self.imputed_columns)
        lines = [
            f"Imputations: m = {self.m}, {cells:,} cells of {', '.join(self.imputed_columns) or 'no variable'}",
            "  " + attrs["formula"].replace("; ", "\n  ") + f"   (priors '{attrs['priors_name']}')",
            f"  {attrs['sampler']}, {attrs['chains']} chains x {attrs['draws']} draws, seed "
            f"{attrs['seed']}, {attrs['seconds']:.2f} s",
            f"  {counted_events(len(self.log))}",
        ]
        return "\n".join(lines)


def _same(tree: xr.DataTree) -> xr.DataTree:
    return tree
