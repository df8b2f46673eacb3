"""Fully conditional specification: a conditional model for each variable, visited in turn (Kunkel & Kaizar 2017, sec.
2.2).

    y_k = X*_k beta*_k + Z*_k b_ki + e,   b_ki ~ N(0, psi*_k),   e ~ N(0, sigma*_k)
    g(E y_k) = X*_k beta*_k + Z*_k b_ki      for non-normal variables (Jolani 2025, sec. 2.4)

X*_k and Z*_k may hold any other variables, including imputed ones, and their cluster means.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from bayesimp import priors as pr
from bayesimp.arguments import new_seed
from bayesimp.contract import CodeNotInFile, Contents, ImputationModel, Shift, register
from bayesimp.diagnostics.together import missing_together
from bayesimp.errors import SpecificationError, must_be
from bayesimp.events import Event
from bayesimp.fcs.blocks.base import Block
from bayesimp.fcs.describe import described_model
from bayesimp.fcs.identification.check import check_conditionals
from bayesimp.fcs.loop import adapt_all
from bayesimp.fcs.options import length_of_run, whole
from bayesimp.fcs.priors import parameter_priors
from bayesimp.fcs.run import FCSRun
from bayesimp.fcs.specification.bounds import checked_bounds
from bayesimp.fcs.specification.compose import conditionals
from bayesimp.fcs.specification.contents import call_with, contents
from bayesimp.fcs.specification.declared import declared_from_dict, declared_to_dict
from bayesimp.fcs.specification.records import formula_text
from bayesimp.fcs.specification.requests import check_ignore, checked_post, fitted_rows, requested_cells
from bayesimp.fcs.specification.shifted import checked_shift
from bayesimp.fcs.storage import specification_of
from bayesimp.fcs.table import ChainedTable, chained_table
from bayesimp.fcs.tree import block_names
from bayesimp.imputation.result import Imputations
from bayesimp.kinds import checks_arguments
from bayesimp.progress import progress_bar
from bayesimp.sampling.executors import Executor, read_executor
from bayesimp.table.incomplete import IncompleteData
from bayesimp.threads import one_thread

if TYPE_CHECKING:
    import xarray as xr

    from bayesimp.fcs.blocks.factors import Substantive

__all__ = ["FCS"]


@checks_arguments
@register
class FCS(ImputationModel):
    """Imputation by chained equations, with a conditional model for each incomplete variable.

    Parameters
    ----------
    data
        The incomplete table.
    methods
        A method for all variables, or a mapping by variable: ``"bayes"``, ``"iw"``, ``"ml"``, ``"mlmi"``, ``"2stage"``,
        ``"sti"``, ``"2lonly"``, ``"pymc"``, ``"norm"``, ``"glm"``, ``"pmm"``, names of mice's methods (``"2l.pan"``),
        or records of `bayesimp.methods`. The default depends on family, level and number of observed clusters
        (`bayesimp.fcs.specification.defaults`); the printed model says what was chosen and why.
    predictors
        A formula for each variable, ``"y1 ~ y2 + cluster_mean(y2) + age + (1 + within(y2) | study)"``; or a table of
        predictors, or mice's predictor matrix. None: all other variables, with random intercepts; ``"~ . + x"``,
        ``"~ . - x"`` and ``"~ . + (1 + x | study)"`` change this default for one variable or (as a single text) for all.
    analysis
        One or several formulas for which values are imputed, ``"y ~ x * w + (1 + x | study)"``, each with one response
        and at most one random term, on the cluster. A covariate x is then drawn from its own conditional model, in
        which y is not a predictor, times p(y | x, w); an incomplete y is drawn from the analysis (Bartlett et al. 2015,
        without rejections). Families are those of `data`. This excludes ``derived`` and ``ignore``, and bounds or
        blocks of these variables, whose methods must be 'bayes', 'iw', 'norm', 'glm' or '2lonly'.
    order, blocks, derived, compatible
        Order of the visits; name of a block -> variables imputed jointly; columns computed from others
        (``{"bmi": "weight / height**2"}``); whether to add cluster means to the predictors, as a joint model implies. See
        `bayesimp.fcs.specification.compose.conditionals`.
    bounds
        Variable -> (lower, upper), None for no bound: values are drawn from the truncated normal. Either may be (n,)
        numbers, one per row of the table, with nan for no bound, such as detection limits,
        ``(0, table["limit"].where(missing))``. Bounds are allowed for variables imputed one at a time, by normal models
        or (with one pair for all rows) by matching; others are refused.
    post
        Variable -> function of the values just drawn (a copy) that returns the values to use instead. Values are
        numbers; levels that are not numbers are given by their position, from 0, in ``data.levels(name)``. It is
        applied after bounds. Files hold no code: `Imputations.save` omits the functions, and `bayesimp.load` needs them
        again. To be pickled, functions must be defined by ``def`` at the top of a module.
    where
        Cells to fill in, as a table of bool or variable -> array; by default the missing cells. A missing cell that is
        not chosen is imputed within the models but remains missing in the completed tables; an observed cell that is
        chosen is held out and imputed as if it were missing.
    ignore
        (n,) bool: rows that are imputed but to which no model is fitted. They do not enter cluster means either, except
        in a cluster that has no other rows.
    shift
        Numbers added after drawing parameters and before filling in values (see `bayesimp.contract.Shift`); None:
        nothing.

    Raises
    ------
    DataError, SpecificationError
        The data do not identify a conditional model, a predictor depends on the variable itself, or the response of an
        analysis predicts one of its covariates.

    Examples
    --------
    >>> model = bi.FCS(data, methods={"bsi": bi.methods.IW(nu=1, v=1, compatible=True)})     # doctest: +SKIP
    >>> imp = model.impute(m=60, seed=1)                                                     # doctest: +SKIP
    """

    run_type = FCSRun

    def __init__(
        self,
        data: IncompleteData,
        methods: Any = None,
        predictors: Any = None,
        *,
        analysis: str | Sequence[str] | None = None,
        order: str | Sequence[str] | None = None,
        blocks: Mapping[str, Sequence[str]] | None = None,
        derived: Mapping[str, str] | None = None,
        compatible: bool | None = None,
        bounds: Mapping[str, tuple[Any, Any]] | None = None,
        post: Mapping[str, Callable] | None = None,
        where: Any = None,
        ignore: Any = None,
        shift: Shift | None = None,
    ) -> None:
        must_be(data, "IncompleteData", "FCS")
        self.data = data
        self.declared = {
            "methods": methods, "predictors": predictors, "analysis": analysis, "order": order, "blocks": blocks,
            "derived": derived, "compatible": compatible, "bounds": bounds, "post": post, "where": where,
            "ignore": ignore, "shift": shift,
        }  # fmt: skip
        self.where, self._masked, self.ignore = requested_cells(data, where, ignore)
        with one_thread(data.frame.size):
            self.spec = conditionals(
                self.masked, methods, predictors, order, blocks, derived, compatible, self.ignore, analysis,
                bounds or (),
            )  # fmt: skip
            check_ignore(self.spec, self.ignore)
            self.events: list[Event] = check_conditionals(*fitted_rows(self.spec, self.masked, self.ignore))
        self.bounds = checked_bounds(self.masked, bounds, self.spec)
        self.post = checked_post(post, self.spec)
        self.shift = checked_shift(shift, self.spec, self.masked)
        if self.spec.drawn:
            _ = self.substantive  # refuses unsuitable models here, before anything is sampled

    @property
    def masked(self) -> IncompleteData:
        """The table without the observed cells that `where` asks to impute."""
        return self._masked

    @cached_property
    def table(self) -> ChainedTable:
        """The table in the form that the loop uses: numbers, designs, and positions of missing values."""
        names, frame = self.spec.incomplete, self.masked.frame
        Y = np.column_stack([self.masked.column_values(name) for name in names])
        own = [d.column for d in self.spec.derived if d.column is not None and d.column in frame.columns]
        filled = {name: frame[name].to_numpy(float, na_value=np.nan) for name in own}
        with one_thread(frame.size):
            return chained_table(
                self.spec,
                Y,
                self.data.grouping,
                filled=filled,
                ignore=self.ignore,
                bounds=self.bounds,
            )

    def conditionals(self, seed: int) -> list[Block]:
        """The blocks that the loop runs; they compile and adapt once per seed."""
        made = self.__dict__.setdefault("_made", {})
        if seed not in made:
            made.clear()
            made[seed] = [
                self._drawn_block(k) if b.name in self.spec.drawn else b.method.block(self.table, k)
                for k, b in enumerate(self.spec.blocks)
            ]
            if self.shift:
                moved = {name: self.shift.rows(name, self.masked) for name in self.shift.moved}
                for block in made[seed]:
                    block.move({n: moved[n] for n in block.chained.block.responses if n in moved})
            adapt_all(self.table, made[seed], seed)
        return made[seed]

    @cached_property
    def substantive(self) -> Substantive:
        """The models whose values are drawn given analyses, in the form that the sampler uses."""
        from bayesimp.fcs.blocks.factors import substantive

        with one_thread(self.masked.frame.size):
            return substantive(self.spec, self.masked, self.table, self.shift)

    def _drawn_block(self, k: int) -> Block:
        from bayesimp.fcs.blocks.substantive import SubstantiveBlock

        return SubstantiveBlock(self.table, k, self.substantive)

    def __getstate__(self) -> dict[str, Any]:
        """The state for copies and pickles, without compiled parts, which are rebuilt."""
        return {name: value for name, value in self.__dict__.items() if name != "_made"}

    @property
    def responses(self) -> tuple[str, ...]:
        """The variables that are imputed, without derived columns."""
        return tuple(self.spec.incomplete)

    @property
    def methods_by_default(self) -> bool:
        """Whether the user left the choice of all methods to the defaults."""
        return self.declared["methods"] is None

    @property
    def post_by_column(self) -> dict[int, Callable]:
        """Column of the table -> function that post-processes its imputed values."""
        return {self.table.names.index(name): f for name, f in self.post.items()}

    @property
    def formulas(self) -> list[str]:
        """The formulas of the fitted conditional models; given as ``predictors=``, they lead to the same models."""
        blocks = {block.name: block for block in self.spec.blocks}  # one may be visited twice
        return [formula_text(block, self.data.cluster, self.spec.written) for block in blocks.values()]

    @property
    def priors_name(self) -> str:
        """The names of the priors in use, joined by commas."""
        names = {each.name for each in self.priors.values()}
        return ", ".join(sorted(names)) or "none"

    def filled(self, column: str) -> np.ndarray:
        """Cells of a column that are filled in in completed tables, (n,) bool."""
        return self.where.get(column, np.ones(len(self.data.frame), dtype=bool))

    def with_priors(self, priors: pr.Priors | str) -> FCS:
        """The same model with other priors (records, or the name of a preset) in every block that takes priors.

        Gibbs blocks change to PyMC if the priors are not conditionally conjugate.

        Raises
        ------
        SpecificationError
            No block has priors.
        """
        labels = tuple(factor.label for b in self.spec.blocks for factor in b.factors)
        priors = pr.read(priors, labels)
        changed = {
            b.name: b.method.with_priors(priors) if b.method.takes_priors else b.method
            for b in self.spec.blocks
        }
        for b in self.spec.blocks:
            if b.further and not changed[b.name].several_factors:
                raise SpecificationError(
                    f"'{b.name}' has effects of {len(b.factors)} grouping factors, which Gibbs sampling draws, and "
                    f"priors '{priors.name}' are not conditionally conjugate. Take priors that are (InverseWishart, "
                    "HuangWand, Diagonal of HalfT or InverseWishart, Fixed), or leave the other factors out."
                )
        if not any(b.method.takes_priors for b in self.spec.blocks):
            used = ", ".join(sorted({b.method.name for b in self.spec.blocks}))
            raise SpecificationError(
                f"No block has priors (methods: {used}); use 'bayes' or 'pymc' to vary them."
            )
        return FCS(self.data, **{**self.declared, "methods": changed})

    def with_shift(self, shift: Shift) -> FCS:
        """The same model with another shift."""
        return FCS(self.data, **{**self.declared, "shift": shift})

    def shift_link(self, name: str) -> str:
        """The link of a variable's conditional model, or ``"matching"``."""
        block = next(block for block in self.spec.blocks if name in block.responses)
        return "matching" if block.method.matches else block.distribution.link(block.method.link)

    @property
    def has_contextual(self) -> bool:
        """Whether coefficients of cluster means are shrunk (`bayesimp.priors.Contextual`)."""
        return any(block.contextual for block in self.spec.blocks)

    @property
    def priors(self) -> dict[str, pr.Priors]:  # type: ignore[override]
        """Priors by block, for blocks that take priors."""
        return {b.name: b.method.priors for b in self.spec.blocks if b.method.priors is not None}

    @property
    def parameter_priors(self) -> dict[str, Any]:
        """Name of a parameter in the posterior -> its prior on the scale of the data, for blocks that have priors."""
        return parameter_priors(self.table, block_names(self.spec), self.ignore)

    def records(self) -> dict[str, Any]:
        """The user's declarations as plain records, without the masks `where` and `ignore`, which are arrays."""
        shift = {"shift": self.shift.to_record()} if self.shift else {}
        return declared_to_dict(self.declared) | shift

    def specification(self) -> dict[str, Any]:
        """The user's declarations as plain records and arrays, from which `bayesimp.load` rebuilds the model."""
        return self.records() | {"where": self.where or None, "ignore": self.ignore}

    @classmethod
    def from_specification(
        cls,
        data: IncompleteData,
        specification: Mapping[str, Any],
        functions: Mapping[str, Callable] | None = None,
    ) -> Self:
        """The model that `specification` described; functions: those of ``post``, which are not stored in files.

        Raises
        ------
        CodeNotInFile
            A function is missing, or a block has a user-defined PyMC model.
        """
        post, given = specification["post"], functions or {}
        if lacking := [name for name in post if name not in given]:
            each = ", ".join(f"{name!r}: function" for name in lacking)
            raise CodeNotInFile(
                "the functions of post are code, which is not stored in files; give them again: bayesimp.load(path, "
                f"post={{{each}}})"
            )
        try:
            declared = declared_from_dict(specification)
        except SpecificationError as error:
            raise CodeNotInFile(str(error)) from None
        return cls(
            data, **declared, post={name: given[name] for name in post} or None,
            where=specification.get("where"), ignore=specification.get("ignore"),
            shift=Shift.from_record(specification.get("shift", {})),
        )  # fmt: skip

    @classmethod
    def saved_specification(cls, attrs: Mapping[str, Any], state: xr.Dataset) -> dict[str, Any]:
        """The specification stored in a file."""
        return specification_of(attrs, state)

    def contents(self) -> dict[str, Contents]:
        """What the model of each variable contains."""
        return contents(self.spec, self.data.cluster)

    def definitions(self) -> dict[str, str]:
        """Columns of ``derived=``, in order of computation."""
        user = self.declared["derived"] or {}
        return {d.name: user[d.name] for d in self.spec.derived if d.name in user}

    def call_with(
        self,
        fixed: Mapping[str, Sequence[str]],
        random: Mapping[str, Sequence[str]],
        clusters: Sequence[str] = (),
        variances: Sequence[str] = (),
    ) -> str | None:
        """The call that builds this model with further terms."""
        given = {name: value for name, value in self.declared.items() if value is not None}
        if not self.ignore.any():
            given.pop("ignore", None)  # loaded models have a mask that ignores nothing
        if not self.shift:
            given.pop("shift", None)
        return call_with(self.spec, self.data, given, fixed, random, clusters, variances)

    def impute_together(self, labels: Sequence[str]) -> dict[str, list[str]]:
        """Blocks for variables that are missing in the same rows, if one of them mixes badly."""
        return missing_together(self, labels)

    def _said(self) -> str:
        return described_model(self)

    def impute(
        self,
        m: int = 20,
        *,
        cycles: int | None = None,
        tune: int | None = None,
        seed: int | None = None,
        workers: int | None = None,
        executor: str | Executor | None = None,
        progress: bool | None = None,
    ) -> Imputations:
        """Run m chains from m starts; the last state of each chain is a completed table.

        Parameters
        ----------
        m
            Number of completed tables.
        cycles, tune
            Number of cycles, and how many of the first are warm-up (default: half), which convergence does not count. By
            default there are 100 cycles for 20 or more imputations; for fewer, enough to keep 1,000 draws in all, since
            otherwise no run could reach the 400 effective draws that `summary` requires.
        seed
            The same seed gives the same result, whatever `workers`, the order of rows and m: the first 20 of 60
            imputations are those of a run of 20 with as many cycles.
        workers, executor
            Number of imputations to run at a time, and where: "threads" (None), "processes", "serial", "joblib",
            or an executor of `bayesimp.sampling.executors`.

        Raises
        ------
        SpecificationError
            m, cycles or another option is out of range.
        SamplingError
            A block cannot continue (the message names it), or the run was interrupted before its first cycle.

        Notes
        -----
        The record of a cycle, from which convergence is computed, takes 16 bytes for each imputation, cluster and
        variable: 1.4 GB for 60 imputations, 100 cycles, 5,000 clusters and 3 variables. The table is stored once; each
        imputation adds the values of its incomplete rows.
        """
        m, cycles, tune = length_of_run(m, cycles, tune)
        seed = new_seed() if seed is None else whole("seed", seed, 0)
        workers = None if workers is None else whole("workers", workers, 1)
        read_executor(executor, workers)
        run = FCSRun(self, seed, tune, workers, executor)
        with progress_bar(progress) as report:
            run.start(m, cycles, report)
            return run.imputations()
