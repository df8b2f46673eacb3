"""Save a result and read it back exactly: netCDF for a path ending in .nc, zarr for .zarr.

Beside the groups of the tree a file holds ``table`` (the incomplete table as Arrow bytes: index, dtypes and
categories come back as they were) and ``state`` (where the chains stand, so that `extend` goes on).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr

from bayesimp.data.incomplete import IncompleteData
from bayesimp.errors import DataError
from bayesimp.events import Event
from bayesimp.fcs_run import FCSRun
from bayesimp.fcs_storage import fcs_run, fcs_state
from bayesimp.imputations import Imputations
from bayesimp.joint import JointNormal
from bayesimp.joint_run import Run
from bayesimp.samplers.joint_gibbs import ChainState, JointDraws
from bayesimp.spec.records import priors_from_dict

__all__ = ["load", "save"]

HOLES = {"None": None, "nan": np.nan, "NA": pd.NA}  # what stands for "missing" in a column of objects


def save(imputations: Imputations, path) -> None:
    """Write to `path` (.nc or .zarr)."""
    path = Path(path)
    tree = imputations.tree.copy()
    data = imputations.data
    attrs = {
        "cluster": data.cluster,
        "families": json.dumps(dict(data.families)),
        "responses": json.dumps(imputations.responses),
        "events": json.dumps([e.as_dict() for e in imputations._events]),
        "object_columns": json.dumps(_object_columns(data.frame)),
        "native": "" if data._backend is None else data._backend.value,
    }
    tree.attrs = {**tree.attrs, **attrs}
    tree["table"] = xr.DataTree(xr.Dataset({"arrow": ("byte", _to_bytes(data))}))
    if isinstance(imputations._run, Run):
        tree["state"] = xr.DataTree(_state(imputations._run))
    elif isinstance(imputations._run, FCSRun):
        tree["state"] = xr.DataTree(fcs_state(imputations._run))
    match path.suffix:
        case ".nc":
            tree.to_netcdf(path, engine="h5netcdf", mode="w")
        case ".zarr":
            tree.to_zarr(path, mode="w")
        case _:
            raise ValueError(f"{path}: give a path that ends in .nc (netCDF) or .zarr")


def load(path, post: Mapping[str, Callable] | None = None) -> Imputations:
    """Read what `save` wrote; chains can be continued with `extend` and `iterate`.

    Parameters
    ----------
    post
        The functions that `FCS` was given: files do not hold code. Without them, or if a block has a PyMC model of
        the user's own, the result is complete but cannot be continued, which an event says.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(path)
    engine = "zarr" if path.suffix == ".zarr" else "h5netcdf"
    with xr.open_datatree(path, engine=engine) as opened:
        tree = opened.load().copy(deep=True)
    attrs = dict(tree.attrs)
    responses = json.loads(attrs["responses"])
    families = json.loads(attrs.pop("families"))
    events = tuple(Event(**e) for e in json.loads(attrs.pop("events")))
    frame = _from_bytes(tree["table"]["arrow"].values)
    for name, hole in json.loads(attrs.pop("object_columns")).items():
        column = frame[name].astype(object)
        frame[name] = column.where(column.notna(), HOLES[hole])
    data = IncompleteData(frame, attrs.pop("cluster"), families)
    data._backend = _backend(attrs.pop("native"))
    attrs["responses"] = responses
    state = tree["state"].to_dataset() if "state" in tree.children else None
    keep = [name for name in tree.children if name not in ("table", "state")]
    tree = xr.DataTree.from_dict({f"/{name}": tree[name].to_dataset() for name in keep})
    tree.attrs = attrs
    run = None
    if state is not None and attrs.get("model") == "FCS":
        run = fcs_run(data, attrs, state, post)
        if isinstance(run, str):
            events, run = (*events, Event("cannot go on", "chains", run)), None
    elif state is not None:
        run = _run(data, tree, state, events)
    imputed = tree["imputed"].to_dataset()
    cells = {name: (imputed[f"row_{name}"].values, imputed[name].values) for name in imputed.data_vars}
    return Imputations(data, cells, attrs, lambda: tree, events, run)


def _state(run: Run) -> xr.Dataset:
    states = run.states
    return xr.Dataset(
        {
            "Sigma_w": (("chain", "a", "b"), np.stack([s.Sigma for s in states])),
            "Psi_w": (("chain", "c", "d"), np.stack([s.Psi for s in states])),
        },
        attrs={
            "generators": json.dumps([s.rng.bit_generator.state for s in states]),
            "run_events": json.dumps([e.as_dict() for e in run.events]),
        },
    )


def _run(data: IncompleteData, tree: xr.DataTree, state: xr.Dataset, events) -> Run:
    attrs = tree.attrs
    model = JointNormal(data, attrs["formula"], priors_from_dict(json.loads(attrs["priors"])))
    posterior, stats = tree["posterior"], tree["imputed_stats"]
    by_cluster = [np.moveaxis(stats[name].values, -1, -2) for name in ("mean", "sd")]
    draws = JointDraws(*(posterior[name].values for name in ("beta", "Sigma", "Psi")), *by_cluster)
    states = []
    for k, generator in enumerate(json.loads(state.attrs["generators"])):
        rng = np.random.Generator(np.random.PCG64())
        rng.bit_generator.state = generator
        states.append(ChainState(state["Sigma_w"].values[k].copy(), state["Psi_w"].values[k].copy(), rng))
    sample_stats = (
        {name: v.values for name, v in tree["sample_stats"].data_vars.items()}
        if "sample_stats" in tree.children
        else None
    )
    numbers = {name: int(attrs[name]) for name in ("seed", "thin", "spacing")}
    return Run(
        model, attrs["sampler"], **numbers, draws=draws, states=states, sample_stats=sample_stats,
        events=tuple(Event(**e) for e in json.loads(state.attrs["run_events"])), seconds=float(attrs["seconds"]),
    )  # fmt: skip


def _backend(name: str):
    """narwhals' name of the kind of table that the user gave; None for pandas."""
    if not name:
        return None
    import narwhals as nw

    return nw.Implementation(name)


def _to_bytes(data: IncompleteData) -> np.ndarray:
    import pyarrow as pa

    try:
        table = pa.Table.from_pandas(data.frame, preserve_index=None)
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError) as error:
        raise DataError(
            f"The table cannot be written to Arrow ({error}): a column holds values of several types. Convert it "
            "to one type (e.g. astype('string')) before IncompleteData is made."
        ) from error
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    return np.frombuffer(sink.getvalue(), dtype=np.uint8)


def _object_columns(frame: pd.DataFrame) -> dict[str, str]:
    """Columns of Python objects, which Arrow gives back as text or numbers, and what stands in their holes."""
    out = {}
    for name in frame.columns[[pd.api.types.is_object_dtype(dtype) for dtype in frame.dtypes]]:
        missing = frame[name][frame[name].isna()]
        first = missing.iloc[0] if len(missing) else None
        out[name] = "None" if first is None else "NA" if first is pd.NA else "nan"
    return out


def _from_bytes(array: np.ndarray):
    import pyarrow as pa

    return pa.ipc.open_file(pa.py_buffer(array.tobytes())).read_all().to_pandas()
