"""Log likelihood, log prior, replicates and cluster effects of each conditional model, in the cycles of a run.

For each variable k, at cycle t of a chain, with Y_-k the other variables as completed when k was visited,

    log likelihood    log p_k(y_kj | Y_-k,j, theta_k, B_k)         of the rows where y_k is observed; in a block of
                                                                   several normal variables, of those observed in row j
    log prior         log p(theta_k), in the units of the data
    replicates        y_rep,kj ~ p_k( . | Y_-k,j, theta_k, B_k)    B_k of the cycle or, of new clusters, ~ N(0, Psi_k)

These belong to one conditional model. In general no joint distribution has all of them, so their sums over k have no
meaning (docs/mathematics.md, sec. 12). A run keeps parameters, but neither effects nor completed tables; as a chain is a
function of the seed, its cycles are run again, and compared with what was kept.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from bayesimp import notation as nt
from bayesimp.contract import TreeRequest
from bayesimp.errors import PACKAGE, SamplingError, SpecificationError, StatisticalWarning
from bayesimp.fcs.after_visit import call_post, derive
from bayesimp.fcs.blocks.base import KEPT, Block, Chain, Parameters
from bayesimp.fcs.blocks.glmm import GeneralisedBlock
from bayesimp.fcs.history import History, empty_history
from bayesimp.fcs.loop import Cycles
from bayesimp.fcs.tree import block_names
from bayesimp.imputation.tree import cluster_labels
from bayesimp.joint.pointwise import log_normal_rows
from bayesimp.kernels.chained.places import Places, places
from bayesimp.kernels.chained.visit import STATE, VISIT, BlockState, gibbs_cycles
from bayesimp.kernels.factors.density import log_densities
from bayesimp.kernels.families.codes import NORMAL, ORDINAL
from bayesimp.kernels.families.responses import draw_rows
from bayesimp.notation import Array
from bayesimp.scale.effects import of_all

if TYPE_CHECKING:
    from bayesimp.fcs.run import FCSRun
    from bayesimp.table.incomplete import IncompleteData

__all__ = ["pointwise"]

REPLICATES = 6  # first number of spawn keys of replicates; those of chains and of joint models are smaller


def pointwise(run: FCSRun, what: str, request: TreeRequest) -> xr.Dataset:
    """One of the above, or ``cluster_effects``, at the draws of `request`, which are counted after warm-up.

    Warns
    -----
    StatisticalWarning
        Variables whose methods do not have it are left out, with their reasons.

    Raises
    ------
    SpecificationError
        No variable has it.
    SamplingError
        The cycles came out differently, as on another machine or with another version of a library.
    """
    task = Cycles(run.model, run.seed)
    _, blocks, _ = task.parts
    last = {block.chained.block.name: b for b, block in enumerate(blocks)}  # of several visits in a cycle
    make: Callable[..., dict[str, Any]] = {
        "log_likelihood": _log_likelihood,
        "log_prior": _log_prior,
        "posterior_predictive": _replicates,
        "cluster_effects": _effects,
    }[what]
    left_out = {name: why for name, b in last.items() if (why := _refused(blocks[b], what, request))}
    parts = {name: b for name, b in last.items() if name not in left_out}
    values: dict[int, dict[str, list]] = {b: {} for b in parts.values()}
    if parts:
        for visit in _visits(run, task, request, set(parts.values())):
            name = blocks[visit.b].chained.block.name
            if name in left_out:
                continue
            try:
                made = make(blocks[visit.b], visit, request)
            except SpecificationError as error:  # an improper prior, clusters without a distribution
                left_out[name] = str(error)
                continue
            for symbol, value in made.items():
                values[visit.b].setdefault(symbol, []).append(value)
    reasons = "; ".join(f"'{name}': {why.rstrip('.')}" for name, why in left_out.items())
    kept = {name: b for name, b in parts.items() if name not in left_out}
    if not kept:
        raise SpecificationError(
            f"{what}: no variable has it ({reasons}). imp.overimpute(seed=1), which hides observed values in turn and "
            "imputes them, works with every method."
        )
    if reasons:
        text = f"{what}: left out {reasons}."
        warnings.warn(text, StatisticalWarning, skip_file_prefixes=PACKAGE)
    names, shape = block_names(run.model.spec), (len(run.chains), _draws(run, request))
    out: dict[str, xr.DataArray] = {}
    for name, b in kept.items():
        for symbol, each in values[b].items():
            a = np.array(each)
            out |= _labelled(run, blocks[b], names[name], symbol, a.reshape(*shape, *a.shape[1:]), what)
    return xr.Dataset(out, attrs={"left_out": reasons} if reasons else {})


def _refused(block: Block, what: str, request: TreeRequest) -> str:
    """Why a block does not have it; empty if it does."""
    method = f"method '{block.method.name}': "
    if what == "log_prior":
        return method + block.no_prior if block.no_prior else ""
    if what == "cluster_effects":
        some = len(block.chained.block.random) and not block.method.fits_each_cluster
        why = block.no_effects or block.no_likelihood or ("" if some else "it has no random effects")
        return method + why if why else ""
    if block.no_likelihood:
        return method + block.no_likelihood
    if what == "posterior_predictive" and request.new_clusters and block.method.residual == "cluster":
        return method + "each cluster has a residual variance of its own, so use new_clusters=False"
    if what == "posterior_predictive" and request.new_clusters and block.no_new_clusters:
        return method + block.no_new_clusters
    return ""


# --- cycles, run again --------------------------------------------------------------------------------------


class Visited(NamedTuple):
    """The state after block b was drawn, before anything derived from it changes.

    place: (chain, position of the draw in the result); cycle: its number in the chain.
    """

    b: int
    chain: Chain
    theta: Parameters
    place: tuple[int, int]
    cycle: int


def _warmup(run: FCSRun) -> int:
    return run.tune if run.history.cycles > run.tune else 0  # as in `run_tree`


def _draws(run: FCSRun, request: TreeRequest) -> int:
    return (run.history.cycles - _warmup(run)) // request.thin


def _visits(run: FCSRun, task: Cycles, request: TreeRequest, wanted: set[int]) -> Iterator[Visited]:
    """Chain by chain, draw by draw, the visits to the wanted blocks.

    Raises
    ------
    SamplingError
        Parameters differ from those that the run has kept.
    """
    table, blocks, post = task.parts
    warmup = _warmup(run)
    one = None
    if task.visits is not None:  # every block has one
        one = [places([visit], VISIT) for block in blocks if (visit := block.visit) is not None]
    for c in range(len(run.chains)):
        chain = task.start(c)
        room, done = empty_history(table, [chain], 1), 0
        for at in range(_draws(run, request)):
            t = warmup + (at + 1) * request.thin - 1
            if t > done:
                task.advance(chain, c, task.room([chain], t - done), 0, 0, t - done)
            done = t + 1
            for b, (block, theta) in enumerate(zip(blocks, chain.theta, strict=True)):
                if one is None:
                    block.visited(chain, int(block.step(chain, theta)))
                else:
                    _one_visit(chain, theta, table.cells, one[b], room, b)
                _same(run, c, t, b, theta)
                if b in wanted:
                    yield Visited(b, chain, theta, (c, at), t)
                for k in table.blocks[b].columns:
                    if k in post:
                        call_post(table, chain, k, post[k], b, block)
                if table.derived:
                    derive(table, chain, {table.names[k] for k in table.blocks[b].columns})
            chain.cycles += 1


def _one_visit(chain: Chain, theta: Parameters, cells: Any, visit: Places, room: History, b: int) -> None:
    """A visit to block b by the kernel of whole cycles, so that it does what the run did, bit for bit."""
    kept = [room.blocks[b][name][0] for name in KEPT]
    state = places(
        [
            BlockState(
                theta.Sigma,
                theta.Psi,
                theta.beta,
                theta.B,
                theta.own["held"],
                kept[0],
                kept[1][:, 0],
                kept[2],
            )
        ],
        STATE,
    )
    _, _, code = gibbs_cycles(chain.rng, cells, visit.table, state.table, chain.V, room.mean[0], room.sd[0])
    assert not code, "the run did not fail here"


def _same(run: FCSRun, c: int, t: int, b: int, theta: Parameters) -> None:
    for name, value in theta.kept().items():
        if not np.array_equal(run.history.blocks[b][name][c, t], value, equal_nan=True):
            raise SamplingError(
                f"Imputation {c}, cycle {t + 1}: the cycles were run again, to find the completed table of each, and "
                "did not come out as those of the run, as can happen with a file from another machine or another version "
                "of a library. Impute again here, with the same seed."
            )


# --- quantities ---------------------------------------------------------------------------------------------


def _log_likelihood(block: Block, visit: Visited, request: TreeRequest) -> dict[str, Any]:
    """{"": (n,) log density of the observed responses, in the units of the data}."""
    joint = block.joint_rows
    if joint is not None:
        means = joint.means(visit.chain.V, visit.theta.beta, visit.theta.B)
        units = np.log(block.table.scale[list(block.chained.columns)])
        value = log_normal_rows(joint.y - means, visit.theta.Sigma[0], joint.patterns)
        return {"": value - ~np.isnan(joint.y) @ units}
    if block.has_own_density:
        return {"": block.log_densities(visit.chain, visit.theta)}
    rows, eta, sd = block.predictors(visit.chain, visit.theta)
    unit = float(block.table.scale[rows.k]) if sd is not None else rows.unit
    if sd is not None:
        z = (rows.y - eta[:, 0]) / sd
        return {"": -0.5 * z**2 - np.log(sd) - 0.5 * np.log(2 * np.pi) - np.log(unit)}
    assert isinstance(block, GeneralisedBlock)
    aux, out = visit.theta.own["aux"], np.empty(len(eta))
    shape, cuts = 1.0, np.zeros((1, max(len(aux), 1) + 1))
    if block.code == ORDINAL:  # increments
        cuts[0, 1 : 1 + len(aux)] = np.cumsum(aux)
    elif len(aux):
        shape = float(aux[0])
        cuts[0, 0] = aux[1] if len(aux) > 1 else 0.0
    last = np.int64(len(block.chained.block.levels) - 1)
    log_densities(
        block.code, np.ascontiguousarray(rows.y), np.ascontiguousarray(rows.trials), np.ascontiguousarray(eta), shape,
        cuts, np.int64(0), last, out,
    )  # fmt: skip
    return {"": out - np.log(unit)}


def _log_prior(block: Block, visit: Visited, request: TreeRequest) -> dict[str, Any]:
    """Symbol -> log density."""
    return block.log_prior(visit.theta)


def _replicates(block: Block, visit: Visited, request: TreeRequest) -> dict[str, Any]:
    """{"": (n,) replicates of the observed responses, in the units of the data, or positions of levels}; the keys are
    responses in a block of several variables."""
    words = np.random.SeedSequence(request.seed, spawn_key=(REPLICATES, visit.b, visit.place[0], visit.cycle))
    rng = np.random.Generator(np.random.PCG64(words))
    theta = block.new_effects(rng, visit.theta) if request.new_clusters else visit.theta
    joint = block.joint_rows
    if joint is not None:
        noise = rng.standard_normal(joint.y.shape) @ np.linalg.cholesky(theta.Sigma[0]).T
        y = joint.means(visit.chain.V, theta.beta, theta.B) + noise
        return {
            name: block.table.on_data_scale(k, drawn[~np.isnan(observed)])
            for name, k, drawn, observed in zip(
                block.chained.block.responses, block.chained.columns, y.T, joint.y.T, strict=True
            )
        }
    if block.has_own_density:
        rows, drawn = block.fitted_rows, block.replicates(rng, visit.chain, theta)
        return {"": drawn if len(rows.levels) else block.table.on_data_scale(rows.k, rows.working(drawn))}
    rows, eta, sd = block.predictors(visit.chain, theta)
    if sd is not None:
        return {"": block.table.on_data_scale(rows.k, eta[:, 0] + sd * rng.standard_normal(len(eta)))}
    assert isinstance(block, GeneralisedBlock) and block.code != NORMAL
    drawn = np.empty(len(eta))
    draw_rows(
        rng, block.code, np.ascontiguousarray(rows.trials), np.ascontiguousarray(eta), theta.own["aux"], drawn
    )
    if not np.isfinite(drawn).all():
        raise SamplingError(
            f"posterior_predictive: replicates of '{block.chained.block.name}' are out of range in "
            f"{(~np.isfinite(drawn)).sum():,} rows, because no count can follow their log mean. Priors with lighter "
            "tails, or a larger thin, may avoid such draws."
        )
    return {"": drawn if len(rows.levels) else block.table.on_data_scale(rows.k, rows.working(drawn))}


def _effects(block: Block, visit: Visited, request: TreeRequest) -> dict[str, Any]:
    """{"B": (m, r q), "B_<factor>": (groups,) effects in the units of the data, in the order of the table}."""
    scale, B = block.chained.scale, block.effects(visit.theta)
    m = len(B)
    vec = B.transpose(0, 2, 1).reshape(m, -1) * scale.effects
    out = {"B": (vec @ of_all(scale.C, len(scale.effects)).T)[np.argsort(block.table.order)]}
    for s, factor in enumerate(block.chained.block.further, 1):
        place = np.empty(len(factor.groups), dtype=np.int64)
        place[factor.groups.codes] = block.table.groups[factor.label]
        out[f"B_{nt.in_tree(factor.label)}"] = visit.theta.own[f"effects_{s}"][place, 0, 0] * scale.s[0]
    return out


# --- labels -------------------------------------------------------------------------------------------------


def _labelled(
    run: FCSRun, block: Block, name: str, symbol: str, a: Array, what: str
) -> Mapping[str, xr.DataArray]:
    """Variables of the tree; a (chain, draw, ...), with rows in the order of the block."""
    record, data = block.chained.block, run.model.data
    if what == "log_prior":
        return {f"{symbol}_{name}": xr.DataArray(a, dims=(nt.CHAIN, nt.DRAW))}
    if what == "cluster_effects" and symbol != "B":
        factor = next(f for f in record.further if symbol == f"B_{nt.in_tree(f.label)}")
        dim = nt.in_tree(factor.label)
        labels = {dim: cluster_labels(factor.groups.labels)}
        return {f"{symbol}_{name}": xr.DataArray(a, dims=(nt.CHAIN, nt.DRAW, dim), coords=labels)}
    if what == "cluster_effects":
        random = [c.name for c in record.random]
        of = list(record.responses)
        if len(of) == 1 and len(record.levels):
            of = [str(level) for level in data.levels(record.name)[1:]]
        effects = nt.effect_names(of, random) if record.predictors > 1 else random
        coords = {nt.CLUSTER: cluster_labels(data.clusters), f"effect_{name}": effects}
        dims = nt.CHAIN, nt.DRAW, nt.CLUSTER, f"effect_{name}"
        return {f"B_{name}": xr.DataArray(a, dims=dims, coords=coords)}
    replicated, joint = what == "posterior_predictive", block.joint_rows
    if joint is not None:
        if not symbol:
            return {name: _by_row(data, name, "", joint.row, a)}
        place = joint.row[~np.isnan(joint.y[:, record.responses.index(symbol)])]
        name = nt.tree_names(run.model.spec.incomplete)[symbol]
        return {name: _by_row(data, name, symbol, place, a, clusters=replicated)}
    rows = block.fitted_rows
    if replicated:
        if len(rows.levels):
            # from positions among the levels of the loop to those among the levels of the table
            levels = data.level_values(record.name)
            a = np.array([int(np.abs(levels - value).argmin()) for value in rows.levels])[a.astype(np.int64)]
        elif not record.distribution.is_continuous:
            a = np.rint(a).astype(np.int64)  # ArviZ plots whole numbers as discrete
    place = rows.places()[: len(rows.y)]
    return {name: _by_row(data, name, record.responses[0], place, a, clusters=replicated)}


def _by_row(
    data: IncompleteData,
    name: str,
    column: str,
    place: NDArray[np.int64],
    a: Array,
    *,
    clusters: bool = False,
) -> xr.DataArray:
    """A variable (chain, draw, row_<name>) of the rows at positions `place` (n,) of the table, in their order there.

    column: the column that it is about, "" for several; clusters: with the cluster of each row as a coordinate.
    """
    order, dim = np.argsort(place), nt.row_dimension(name)
    at: dict[str, Any] = {dim: place[order]}
    if clusters:
        at[nt.cluster_coordinate(name)] = dim, cluster_labels(data.clusters)[data.codes[place[order]]]
    attrs = {"column": column} if column else {}
    return xr.DataArray(a[..., order], dims=(nt.CHAIN, nt.DRAW, dim), coords=at, attrs=attrs)
