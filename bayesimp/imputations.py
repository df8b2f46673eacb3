"""The result of an imputation: posterior, completed tables, and what a reader must know of how they were made."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import pandas as pd
import xarray as xr

from bayesimp import notation as nt
from bayesimp.data.families import CODED, COUNTS
from bayesimp.data.incomplete import IncompleteData
from bayesimp.errors import SpecificationError
from bayesimp.events import Event, EventTable

__all__ = ["Imputations", "build_tree", "check_names"]


class Resumable(Protocol):
    """What made the imputations and can make more of them."""

    def extend(self, m: int, progress: bool | None = None) -> Imputations: ...


class Imputations:
    """Completed tables and the posterior they were drawn from. Made by ``model.impute``, not by hand.

    Attributes
    ----------
    tree
        `xarray.DataTree` for ArviZ:

        - ``posterior``: beta (chain, draw, fixed, response), Sigma (.., response, response_2),
          Psi (.., effect, effect_2), in the units of the data;
        - ``sample_stats``: of the sampler, where it has any;
        - ``imputed``: imputed values by cell, one variable a response, (imputation, row_<response>), levels as their
          numbers from 0 (attribute ``levels``); the coordinates give the place of the row in the table and its cluster;
        - ``imputed_stats``: mean and sd of the missing values by response and cluster along the chains,
          (chain, draw, response, cluster), nan where nothing is missing: what convergence is judged by;
        - ``observed_data``: the responses as observed (row), and the cluster of each row.
    data
        The incomplete table.
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
        run: Resumable | None = None,
    ) -> None:
        """cells: response -> (rows (c,), values (m, c)); tree: makes the DataTree, when it is first asked for."""
        self.data = data
        self.attrs = dict(attrs)
        self._cells = dict(cells)
        self._make_tree = tree
        self._events: tuple[Event, ...] = tuple(events)
        self._run = run

    @cached_property
    def tree(self) -> xr.DataTree:
        return self._make_tree()

    @property
    def m(self) -> int:
        """Number of completed tables."""
        return int(self.attrs["m"])

    @property
    def responses(self) -> list[str]:
        return list(self.attrs["responses"])

    @property
    def imputed_columns(self) -> list[str]:
        """Responses with at least one imputed cell."""
        return list(self._cells)

    @property
    def columns(self) -> list[str]:
        """Of the completed tables: those of the data, and columns derived in the imputation."""
        own = list(self.data.frame.columns)
        return own + [name for name in self._cells if name not in own]

    @property
    def events(self) -> pd.DataFrame:
        return EventTable([e.as_dict() for e in self._events], columns=["kind", "where", "message", "count"])

    def __len__(self) -> int:
        return self.m

    def __iter__(self) -> Iterator[Any]:
        return (self.to_frame(k) for k in range(self.m))

    def frame(self, k: int) -> pd.DataFrame:
        """Completed table k (0 .. m-1) as pandas: index, columns, their order and dtypes as in the data.

        Observed cells are the user's own, bit for bit; imputed ones are levels of a category, counts, numbers. A column
        that cannot hold what is imputed (integers, imputed as normal) becomes floating point (recorded in `events`).
        """
        if not 0 <= k < self.m:
            raise IndexError(f"imputation {k} of {self.m}: numbers run from 0 to {self.m - 1}")
        frame = self.data.frame.copy(deep=False)
        for name, (rows, _) in self._cells.items():
            frame[name] = self._filled(name, rows, k)
        return frame

    def _filled(self, name: str, rows: np.ndarray, k: int) -> pd.Series:
        """A column with the imputed values of table k."""
        whole = self._family(name) in (*CODED, *COUNTS) or name in self._matched
        return _filled(self._column(name), rows, self.decoded(name, k), whole)

    @cached_property
    def _matched(self) -> frozenset[str]:
        """Columns of integers whose imputed values are all whole: observed ones, by matching."""
        integers = [n for n in self._cells if pd.api.types.is_integer_dtype(self._column(n).dtype)]
        return frozenset(n for n in integers if (self.values(n) == np.floor(self.values(n))).all())

    def _family(self, name: str) -> str:
        return self.data.families.get(name, "normal").partition("(")[0]

    def decoded(self, name: str, k: int) -> np.ndarray:
        """(cells,) imputed values of table k as they stand in the table: levels instead of their numbers."""
        values = self._cells[name][1][k]
        if self._family(name) not in CODED:
            return values
        levels = np.empty(len(self.data.levels(name)), dtype=object)
        levels[:] = self.data.levels(name)
        return levels[values.astype(np.int64)]

    def _column(self, name: str) -> pd.Series:
        """A column of the table, empty if it comes with the imputations."""
        if name in self.data.frame.columns:
            return self.data.frame[name]
        return pd.Series(np.nan, index=self.data.frame.index, name=name)

    def stacked(self, names: list[str], first: int, stop: int) -> pd.DataFrame:
        """Columns of tables first .. stop-1, one below the other: without making each table."""
        count, n = stop - first, len(self.data.frame)
        again = np.tile(np.arange(n), count)
        out = {}
        for name in names:
            if name not in self._cells:
                out[name] = self._column(name).array.take(again)
                continue
            rows, values = self._cells[name]
            filled = self._filled(name, rows, first)
            if self._family(name) in CODED:
                array = filled.array.take(again)
                for k in range(1, count):
                    array[k * n + rows] = self.decoded(name, first + k).astype(_plain(array.dtype))
                out[name] = array
            else:
                base = np.tile(filled.to_numpy(float), (count, 1))
                base[:, rows] = values[first:stop]
                out[name] = base.ravel()
        return pd.DataFrame(out)

    def to_frame(self, k: int):
        """Completed table k (0 .. m-1), of the kind that the data came in (pandas, polars, Arrow)."""
        return self.data.to_native(self.frame(k))

    def rows(self, name: str) -> np.ndarray:
        """Places in the table of the imputed cells of a response."""
        return self._cells[name][0]

    def values(self, name: str) -> np.ndarray:
        """(m, cells) imputed values of a response."""
        return self._cells[name][1]

    def to_long(self, include_original: bool = False) -> pd.DataFrame:
        """All completed tables, one under the other, as mice's ``complete(action="long")``.

        ``.imp`` counts from 1 (0: the incomplete table, if asked for), ``.id`` is the row's index label
        (its number from 1 if the index has several levels).
        """
        frames = ([self.data.frame] if include_original else []) + [self.frame(k) for k in range(self.m)]
        index = self.data.frame.index
        n = len(index)
        long = pd.concat(frames, ignore_index=True)
        ids = np.arange(1, n + 1) if index.nlevels > 1 else index.to_numpy()
        first = 0 if include_original else 1
        long.insert(0, ".id", np.tile(ids, len(frames)))
        long.insert(0, ".imp", np.repeat(np.arange(first, first + len(frames)), n))
        return long

    def with_events(self, events: Iterable[Event]) -> Imputations:
        """The same with further events."""
        made = (*self._events, *events)
        return Imputations(self.data, self._cells, self.attrs, self._make_tree, made, self._run)

    @property
    def model(self) -> Any:
        """The model they were drawn from; None where they do not carry it."""
        return getattr(self._run, "model", None)

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
        prior, events = prior_group(self.model, self.tree["posterior"].to_dataset(), size, seed)
        tree = self.tree.copy()
        tree["prior"] = xr.DataTree(prior)
        return Imputations(
            self.data, self._cells, self.attrs, lambda: tree, self._events + tuple(events), self._run
        )

    def extend(self, n: int, *, progress: bool | None = None) -> Imputations:
        """A result with `n` more imputations; the chains go on from where they stand.

        The first `m` imputations stay as they are: a run of m, extended by n, equals a run of m + n with the
        same spacing between imputations.
        """
        if self._run is None:
            raise ValueError("These imputations carry no chains to continue.")
        if n < 1:
            raise ValueError(f"extend by at least one imputation, got {n}")
        return self._run.extend(self.m + n, progress)

    def iterate(self, cycles: int, *, progress: bool | None = None) -> Imputations:
        """The same imputations after `cycles` further cycles of chained equations (mice's ``mice.mids``)."""
        if not hasattr(self._run, "iterate"):
            raise ValueError("Only imputations by chained equations (FCS) go on in cycles; see `extend`.")
        if cycles < 1:
            raise ValueError(f"go on for at least one cycle, got {cycles}")
        return self._run.iterate(cycles, progress)

    def summary(self, var_names: list[str] | None = None):
        """R-hat and effective sample sizes of parameters and of imputed means and sds, and the events."""
        from bayesimp.diagnostics.convergence import summarise

        return summarise(self, var_names)

    def analyse(self, analysis, **options):
        """Fit an analysis to every completed table; see `bayesimp.analysis.fit_each`."""
        from bayesimp.analysis.fit import fit_each

        options.setdefault("cluster", self.data.cluster)
        return fit_each(self, analysis, **options)

    def save(self, path) -> None:
        """Write everything to netCDF (``.nc``) or zarr (``.zarr``); `bayesimp.load` reads it back exactly."""
        from bayesimp.storage import save

        save(self, path)

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


def build_tree(
    data: IncompleteData,
    posterior: Mapping[str, tuple[tuple[str, ...], np.ndarray]],
    imputed_stats: Mapping[str, np.ndarray],
    imputed: Mapping[str, tuple[np.ndarray, np.ndarray]],
    observed: Mapping[str, np.ndarray],
    coords: Mapping[str, list],
    attrs: Mapping[str, Any],
    sample_stats: Mapping[str, np.ndarray] | None = None,
    warmup: int = 0,
) -> xr.DataTree:
    """Put arrays together as a DataTree (groups: see `Imputations`).

    posterior: name -> (dims, array); imputed_stats: name -> (chain, draw, cluster, response);
    imputed: response -> (rows (c,), values (m, c)); observed: response -> (n,); warmup: draws at the start that go
    to groups of their own.
    """
    clusters = _labels(data.clusters)
    sample = (nt.CHAIN, nt.DRAW)
    draws = {d: np.arange(next(iter(posterior.values()))[1].shape[axis]) for axis, d in enumerate(sample)}
    used = {dim for dims, _ in posterior.values() for dim in dims}
    groups = {
        "posterior": xr.Dataset(
            {name: ((*sample, *dims), array) for name, (dims, array) in posterior.items()},
            coords={**draws, **{k: v for k, v in {nt.CLUSTER: clusters, **coords}.items() if k in used}},
        ),
        "imputed_stats": xr.Dataset(
            {
                name: ((*sample, nt.RESPONSE, nt.CLUSTER), np.moveaxis(a, -1, -2))
                for name, a in imputed_stats.items()
            },
            coords={**draws, nt.RESPONSE: coords[nt.RESPONSE], nt.CLUSTER: clusters},
        ),
    }
    if warmup:  # the first draws, set apart under ArviZ's name for them
        for name in ("posterior", "imputed_stats"):
            groups[f"warmup_{name}"] = groups[name].isel({nt.DRAW: slice(None, warmup)})
            groups[name] = groups[name].isel({nt.DRAW: slice(warmup, None)})
    if sample_stats:
        groups["sample_stats"] = xr.Dataset(
            {name: (sample, array) for name, array in sample_stats.items()}, coords=draws
        )
    cells = {}
    for name, (rows, values) in imputed.items():
        dim = f"row_{name}"
        cells[name] = xr.DataArray(
            values,
            dims=(nt.IMPUTATION, dim),
            coords={
                nt.IMPUTATION: np.arange(len(values)),
                dim: rows,
                f"cluster_{name}": (dim, clusters[data.codes[rows]]),
            },
        )
        if data.families.get(name) in CODED:
            cells[name].attrs["levels"] = ", ".join(str(level) for level in data.levels(name))
    groups["imputed"] = xr.Dataset(cells)
    groups["observed_data"] = xr.Dataset(
        {name: (nt.ROW, y) for name, y in observed.items()},
        coords={nt.ROW: np.arange(len(data.codes)), "cluster_of_row": (nt.ROW, clusters[data.codes])},
    )
    tree = xr.DataTree.from_dict({f"/{name}": group for name, group in groups.items()})
    tree.attrs.update(attrs)
    return tree


def check_names(responses: Iterable[str]) -> None:
    """Refuse names that variables of the tree cannot have.

    Raises
    ------
    SpecificationError
    """
    names = list(responses)
    taken = {nt.ROW, nt.IMPUTATION, "cluster_of_row"}
    taken |= {f"{prefix}_{name}" for prefix in ("row", "cluster") for name in names}
    for name in names:
        if name in taken or "/" in name:
            why = "has a '/'" if "/" in name else "is the name of a dimension or coordinate"
            raise SpecificationError(
                f"'{name}' {why} in the results (an xarray.DataTree), so no imputed variable can be called that; "
                "rename it in the table."
            )


def _labels(clusters) -> np.ndarray:
    """Cluster labels as a coordinate: numbers stay numbers, anything else becomes text."""
    labels = pd.Series(list(clusters)).to_numpy()  # numpy would make a table of labels that are tuples
    return labels if labels.dtype.kind in "iu" else np.asarray([str(c) for c in clusters])


def _plain(dtype) -> np.dtype:
    """NumPy's dtype for values that go into a column of numbers; object otherwise."""
    return dtype if isinstance(dtype, np.dtype) else getattr(dtype, "numpy_dtype", np.dtype(object))


def _filled(column: pd.Series, rows: np.ndarray, values: np.ndarray, whole: bool = False) -> pd.Series:
    """The column with `values` put in at `rows`, dtype kept (integers become floating point, but for `whole` values)."""
    if pd.api.types.is_extension_array_dtype(column.dtype):
        integers = pd.api.types.is_integer_dtype(column.dtype)
        target = column.astype("Float64") if integers and not whole else column
        filled = target.array.copy()
        filled[rows] = values.astype(np.int64) if integers and whole else values
        return pd.Series(filled, index=column.index, name=column.name)
    dtype = column.dtype if whole or column.dtype.kind == "f" else np.dtype(float)
    filled = column.to_numpy(dtype=dtype, copy=True)
    filled[rows] = values
    # named again, for pandas >= 3 reads text in objects as its own type
    return pd.Series(filled, index=column.index, name=column.name, dtype=filled.dtype)
