"""Bayesian analyses of completed tables: posteriors mixed over imputations.

With f_l(theta) the posterior given completed table l, the posterior given the observed values is approximately

    f(theta | observed) = 1 / M sum_l f_l(theta)                                  Gelman et al. 2013, sec. 18.2

so equally many draws from every table, concatenated, are draws from it, and Rubin's rules are not needed. Mean and
variance are

    mean = mean of m_l,    var = mean of v_l + (M - 1) / M b,    b = sum (m_l - mean)^2 / (M - 1)

with m_l and v_l those of table l. Chains of different tables have different targets, so an R-hat over all of them would
mistake variance between imputations for non-convergence. R-hat and effective sample sizes are therefore computed within
each table. The tails of the mixture need many imputations: with M = 5 a 95 % interval covers clearly less (Zhou &
Reiter 2010 recommend 100).
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from bayesimp.errors import PACKAGE, DataError, SpecificationError, StatisticalWarning
from bayesimp.layout import Printed, tabulated
from bayesimp.markup import framed, table
from bayesimp.notation import CHAIN, DRAW, IMPUTATION

__all__ = ["Posteriors", "is_tree", "stack_posteriors"]

HIGH = 1.05  # R-hat within a table above which a warning is given


def is_tree(result: Any) -> bool:
    """Whether an analysis returned a posterior: a DataTree with a group ``posterior``."""
    return isinstance(result, xr.DataTree) and "posterior" in result.children


@dataclass(frozen=True)
class Posteriors(Printed):
    """Posteriors of one analysis, one for each of M completed tables.

    Attributes
    ----------
    analysis
        The name of the function.
    posterior
        Draws, with dimensions imputation, chain, draw.
    """

    analysis: str
    posterior: xr.Dataset

    def __len__(self) -> int:
        return int(self.posterior.sizes[IMPUTATION])

    @cached_property
    def tree(self) -> xr.DataTree:
        """A DataTree for ArviZ with the chains of all tables; the coordinate ``imputation`` gives the table of each.

        R-hat over these chains does not measure convergence (see `diagnostics`); intervals, densities and means are
        those of the mixture.
        """
        stacked = self.posterior.stack(mixed=(IMPUTATION, CHAIN), create_index=False).transpose(
            "mixed", DRAW, ...
        )
        labels = np.repeat(self.posterior[IMPUTATION].to_numpy(), self.posterior.sizes[CHAIN])
        stacked = stacked.drop_vars([IMPUTATION, CHAIN], errors="ignore").rename(mixed=CHAIN)
        stacked = stacked.assign_coords({CHAIN: np.arange(len(labels)), IMPUTATION: (CHAIN, labels)})
        return xr.DataTree.from_dict({"posterior": stacked})

    @cached_property
    def diagnostics(self) -> pd.DataFrame:
        """Table by parameter: the largest R-hat within a table, the imputation that has it, and effective sample sizes.

        ``ess_bulk`` is the smallest over tables, ``ess_bulk_all`` their sum.
        """
        from arviz_stats import ess, rhat

        by_table = [
            stat(self.posterior, sample_dims=[CHAIN, DRAW], **options)
            for stat, options in ((rhat, {}), (ess, {"method": "bulk"}))
        ]
        R, E = (
            np.array([_flat(each.isel({IMPUTATION: k}))[1] for k in range(len(self))]) for each in by_table
        )
        worst = np.argmax(np.where(np.isnan(R), -np.inf, R), axis=0)
        return pd.DataFrame(
            {
                "term": self.terms, "rhat": R.max(axis=0), "imputation": self.posterior[IMPUTATION].to_numpy()[worst],
                "ess_bulk": E.min(axis=0), "ess_bulk_all": E.sum(axis=0),
            }
        )  # fmt: skip

    @property
    def terms(self) -> tuple[str, ...]:
        """Names of the scalar parameters: ``"x"``, ``"1|g[a]"``."""
        return _flat(self.posterior.isel({IMPUTATION: 0, CHAIN: 0, DRAW: 0}))[0]

    def to_frame(self, level: float = 0.95) -> pd.DataFrame:
        """Summary of the mixture, a row per parameter.

        Columns: term, estimate (mean), std.error (sd), conf.low and conf.high (equal tails), fmi (the share of the
        variance between imputations), and rhat and ess_bulk of `diagnostics`.

        Raises
        ------
        SpecificationError
            The level is not between 0 and 1.
        """
        if not 0 < level < 1:
            raise SpecificationError(f"level = {level} is not between 0 and 1.")
        names = self.terms
        tail = (1 - level) / 2
        every = [IMPUTATION, CHAIN, DRAW]
        mean, sd = (_flat(getattr(self.posterior, name)(dim=every))[1] for name in ("mean", "std"))
        low, high = (
            _flat(self.posterior.quantile(q, dim=every).drop_vars("quantile"))[1] for q in (tail, 1 - tail)
        )
        within = _flat(self.posterior.var(dim=[CHAIN, DRAW]).mean(dim=IMPUTATION))[1]
        with np.errstate(divide="ignore", invalid="ignore"):
            between = 1 - within / sd**2
        d = self.diagnostics
        return pd.DataFrame(
            {
                "term": names, "estimate": mean, "std.error": sd, "conf.low": low, "conf.high": high, "fmi": between,
                "rhat": d["rhat"], "ess_bulk": d["ess_bulk"],
            }
        )  # fmt: skip

    def tidy(self, level: float = 0.95) -> pd.DataFrame:
        """`to_frame` with underscores in the column names: std_error, conf_low, conf_high."""
        return self.to_frame(level).rename(columns=lambda name: name.replace(".", "_"))

    def _said(self) -> str:
        return f"{self._head()}\n{tabulated(self.to_frame())}"

    def _head(self) -> str:
        sizes = self.posterior.sizes
        return (
            f"Posteriors({self.analysis!r}, m={len(self)}, {sizes[CHAIN]} chains of {sizes[DRAW]} draws each), mixed; "
            "R-hat within imputations"
        )

    def _repr_html_(self) -> str:
        return framed(self._head(), [table(self.to_frame())])


def stack_posteriors(
    trees: Iterable[xr.DataTree] | Mapping[Any, xr.DataTree], analysis: str = "posterior"
) -> Posteriors:
    """Mix the posteriors of one Bayesian analysis over all completed tables.

    Parameters
    ----------
    trees
        For each table a DataTree with a group ``posterior`` (from Bambi, PyMC, ArviZ), all with the same variables,
        chains and draws.

    Raises
    ------
    SpecificationError
        An entry is not such a tree, or there are fewer than two.
    DataError
        Trees differ in variables, shapes or numbers of draws; a mixture gives every table the same weight.
    """
    given = trees.values() if isinstance(trees, Mapping) and not isinstance(trees, xr.DataTree) else trees
    values = list(given) if isinstance(given, Iterable) and not isinstance(given, xr.DataTree) else [given]
    wrong = [tree for tree in values if not is_tree(tree)]
    if wrong or len(values) < 2:
        found = f"got {type(wrong[0]).__name__}" if wrong else f"got {len(values)}"
        raise SpecificationError(
            "posteriors are mixed over at least two completed tables; give a DataTree with a group 'posterior' for "
            f"each; {found}."
        )
    sets = [tree["posterior"].to_dataset() for tree in values]
    first = {name: dict(variable.sizes) for name, variable in sets[0].data_vars.items()}
    for k, each in enumerate(sets[1:], start=2):
        shapes = {name: dict(variable.sizes) for name, variable in each.data_vars.items()}
        if shapes != first:
            other = next((n for n in {**first, **shapes} if first.get(n) != shapes.get(n)), "")
            raise DataError(
                f"the posterior of table {k} has {other!r} with {shapes.get(other)}, but that of table 1 with "
                f"{first.get(other)}: every table needs the same variables, chains and draws. Is a level absent from "
                "some tables? Fix the categories first."
            )
    joined = xr.concat(
        sets, dim=pd.RangeIndex(1, len(sets) + 1, name=IMPUTATION), join="exact", combine_attrs="drop"
    )
    made = Posteriors(analysis, joined)
    high = made.diagnostics[made.diagnostics["rhat"] > HIGH]
    if len(high):
        row = high.sort_values("rhat").iloc[-1]
        warnings.warn(
            f"{analysis!r}: R-hat within a table's own chains is up to {row['rhat']:.2f} ({row['term']}, imputation "
            f"{row['imputation']}), and above {HIGH} for {len(high)} of {len(made.terms)} parameters. Run longer "
            "chains before mixing.",
            StatisticalWarning,
            skip_file_prefixes=PACKAGE,
        )
    return made


def _flat(dataset: xr.Dataset) -> tuple[tuple[str, ...], np.ndarray]:
    """Names and values of all scalars of a dataset, variable by variable."""
    names, values = [], []
    for name, variable in dataset.data_vars.items():
        array = variable.to_numpy()
        labels = [
            variable[d].to_numpy() if d in variable.coords else np.arange(variable.sizes[d])
            for d in variable.dims
        ]
        for index in np.ndindex(array.shape):
            inside = ", ".join(str(label[i]) for label, i in zip(labels, index, strict=True))
            names.append(f"{name}[{inside}]" if inside else str(name))
            values.append(float(array[index]))
    return tuple(names), np.array(values)
