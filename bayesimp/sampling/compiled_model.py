"""A PyMC model compiled to functions of arrays, once for all models with the same structure.

    density   (point, *arrays) -> log density of the free variables, its gradient     point (n,): unconstrained
    natural   (point, *arrays) -> the free variables and further variables on request, as the model names them
    draw      (free variables, generators, *arrays) -> one draw of an observed variable

Every shared variable of the model (`pm.Data`, lengths of dimensions) is one of `arrays`: new data are new arguments,
so nothing is compiled again, and nothing is kept that could be out of date. Two models have the same structure if
PyTensor finds their graphs equal, apart from the arrays.

PyTensor's compiled function is taken out of its wrapper (``vm.jit_fn``, as nutpie does): it has no
storage of its own, may run in several threads, and numba can call it. No other module uses this.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytensor
from numba import typeof, types
from pymc.pytensorf import join_nonshared_inputs
from pytensor.compile.sharedvalue import SharedVariable
from pytensor.graph.basic import Constant, Variable, equal_computations
from pytensor.graph.replace import graph_replace
from pytensor.graph.rewriting.basic import dfs_rewriter, node_rewriter
from pytensor.graph.traversal import graph_inputs
from pytensor.tensor.math import Dot
from pytensor.tensor.random.type import RandomType

from bayesimp.models.ops import MatrixProduct

if TYPE_CHECKING:
    import pymc as pm
    from pytensor.graph.basic import Apply
    from pytensor.graph.fg import FunctionGraph

__all__ = ["CompiledModel", "Structure", "compile_model"]

NARROW = 8  # up to this many columns a matrix product is compiled as loops


@dataclass(frozen=True)
class CompiledModel:
    """The functions above. `density_type`, `arrays_type`: numba's types of `density` and of the tuple of arrays."""

    density: Callable
    natural: Callable
    draw: Callable | None
    generators: int
    density_type: types.FunctionType
    arrays_type: types.Tuple


@dataclass(frozen=True)
class Structure:
    """The arrays of one model, without the functions that it shares with others.

    names: names of the variables that `natural` returns, of which the first `free` are the free variables. arrays: the
    model's shared values by name, in the order in which the functions take them. start (n,): the model's initial point.
    """

    compiled: CompiledModel
    names: tuple[str, ...]
    free: int
    arrays: dict[str, np.ndarray]
    start: np.ndarray

    def filled(self, **data: np.ndarray) -> tuple[np.ndarray, ...]:
        """The arrays, with those in `data` replaced, in the types for which the functions were compiled."""
        return tuple(
            np.require(data.get(name, own), own.dtype, ["C", "W", "A"]) for name, own in self.arrays.items()
        )


@dataclass(frozen=True)
class _Graph:
    """inputs: value variables, then arrays, then natural values and generators of `draw`."""

    values: list[Variable]
    arrays: list[Variable]
    free: list[Variable]
    generators: list[Variable]
    outputs: list[Variable]  # log density, natural variables, and the draw if there is one
    point: dict[str, np.ndarray]  # an example of `values`

    @property
    def inputs(self) -> list[Variable]:
        return [*self.values, *self.arrays, *self.free, *self.generators]

    @property
    def shapes(self) -> list[tuple[int, ...]]:
        """Shapes of the parts of a point, one for each free variable."""
        return [np.shape(self.point[str(value.name)]) for value in self.values]

    def equals(self, other: _Graph) -> bool:
        ours, theirs = self.inputs, other.inputs
        return (
            len(ours) == len(theirs)
            and len(self.outputs) == len(other.outputs)
            # the positions at which the functions split the point are compiled into them
            and self.shapes == other.shapes
            and all(a.type == b.type for a, b in zip(ours, theirs, strict=True))
            and equal_computations([*self.outputs], [*other.outputs], [*ours], [*theirs])
        )


_compiled: list[tuple[_Graph, CompiledModel]] = []
_lock = threading.Lock()


def compile_model(
    model: pm.Model, *, given: Sequence[str] = (), keep: Sequence[str] = (), draw: str | None = None
) -> Structure:
    """Compile a model, unless one with the same structure has been compiled.

    Parameters
    ----------
    model
        `pymc.Model` with continuous free variables.
    given
        Free variables to treat as data: they become arrays of the same name, and their prior is dropped.
    keep
        Names of variables that `natural` returns in addition to the free ones.
    draw
        Observed variable to draw; its shape must follow from the arrays.
    """
    graph, shared = _graph(model, given, keep, draw)
    start = np.concatenate([np.ravel(graph.point[str(v.name)]) for v in graph.values]).astype(float)
    with _lock:
        compiled = next((c for g, c in _compiled if g.equals(graph)), None)
        if compiled is None:
            compiled = _compile(graph, start, list(shared.values()))
            _compiled.append((graph, compiled))
    names = [v.name for v in model.free_RVs if v.name not in given]
    return Structure(compiled, (*names, *keep), len(names), shared, start)


def _graph(
    model: pm.Model, given: Sequence[str], keep: Sequence[str], draw: str | None
) -> tuple[_Graph, dict[str, np.ndarray]]:
    """Graphs in which shared variables have become inputs, and the values of those variables."""
    free = [v for v in model.free_RVs if v.name not in given]
    values = [model.rvs_to_values[v] for v in free]
    density = model.logp([*free, *model.observed_RVs, *model.potentials])
    natural = model.replace_rvs_by_values([*free, *(model[name] for name in keep)])
    constants = {model.rvs_to_values[model[name]]: name for name in given}
    with pytensor.config.change_flags(mode="FAST_COMPILE"):  # run once: not worth compiling
        point = model.initial_point(0)
    outputs, arguments, generators = [density, *natural], [], []
    if draw is not None:
        arguments = [v.type(name=v.name) for v in free]
        (drawn,) = graph_replace([model[draw]], dict(zip(free, arguments, strict=True)), strict=False)
        outputs.append(drawn)
    roots = [v for v in graph_inputs(outputs) if not isinstance(v, Constant)]
    shared = [v for v in roots if isinstance(v, SharedVariable)]
    swap = {v: v.type(name=v.name) for v in [*shared, *(c for c in constants if c in roots)]}
    outputs = graph_replace(outputs, swap, strict=False)
    generators = [swap[v] for v in shared if isinstance(v.type, RandomType)]
    data = [v for v in swap if not isinstance(v.type, RandomType)]
    held = {}
    for v in data:
        name = constants.get(v, v.name)
        while name in held:  # a dimension may have the name of an array
            name += "_"
        held[name] = np.array(point[v.name] if v in constants else v.get_value(), order="C")
    arrays = [swap[v] for v in data]
    return _Graph(values, arrays, arguments, generators, outputs, point), held


def _compile(graph: _Graph, start: np.ndarray, arrays: list[np.ndarray]) -> CompiledModel:
    density, *rest = graph.outputs
    drawn = [rest.pop()] if graph.free else []
    (value, *natural), point = join_nonshared_inputs(graph.point, [density, *rest], graph.values)
    gradient: Any = pytensor.gradient.grad(value, point)
    call = _function([point, *graph.arrays], [value, gradient])
    call(start, *arrays)  # compiles for arrays of these types
    (compiled,) = call.overloads.values()
    _remember_addresses(call, compiled)
    natural_call = _function([point, *graph.arrays], natural)
    draw = _plain(graph, drawn[0]) if drawn else None
    return CompiledModel(
        call, natural_call, draw, len(graph.generators),
        types.FunctionType(compiled.signature), types.Tuple([typeof(x) for x in arrays]),
    )  # fmt: skip


def _remember_addresses(call: Any, compiled: Any) -> None:
    """Look up the address of a function passed as a value once; numba does so at every call, which takes 0.1 ms."""
    names = compiled.fndesc.llvm_func_name, compiled.fndesc.llvm_cfunc_wrapper_name
    addresses = {name: compiled.library.get_pointer_to_function(name) for name in names}
    known = SimpleNamespace(
        fndesc=compiled.fndesc, library=SimpleNamespace(get_pointer_to_function=addresses.__getitem__)
    )
    call.get_compile_result = lambda signature: known


@node_rewriter([Dot])
def _in_loops(fgraph: FunctionGraph, node: Apply) -> list[Variable] | None:
    A, B = node.inputs
    if not (A.type.ndim == B.type.ndim == 2 and A.type.dtype == B.type.dtype == "float64"):
        return None
    narrow = any(n is not None and n <= NARROW for n in (A.type.shape[0], B.type.shape[1]))
    return MatrixProduct().make_node(A, B).outputs if narrow else None


def _function(inputs: Sequence[Variable], outputs: Sequence[Variable]) -> Any:
    # parameters out of range give density zero, not errors (as in pymc.compile)
    mode = pytensor.compile.mode.get_mode("NUMBA").including("local_check_parameter_to_ninf_switch")
    mode = mode.register((dfs_rewriter(_in_loops), 48))
    function = pytensor.function(inputs, outputs, mode=mode, on_unused_input="ignore", trust_input=True)
    return function.vm.jit_fn


def _plain(graph: _Graph, drawn: Variable) -> Callable:
    """A function that runs node by node, uncompiled: for one call per cycle this is faster than passing generators to
    numba."""
    mode = pytensor.compile.mode.get_mode("FAST_COMPILE").including("random_make_inplace")
    generators = [pytensor.In(g, mutable=True) for g in graph.generators]
    inputs: list[Any] = [*graph.free, *generators, *graph.arrays]
    function = pytensor.function(inputs, drawn, mode=mode, on_unused_input="ignore", trust_input=True)
    lock = threading.Lock()  # the function works in storage of its own

    def draw(*arguments: Any) -> np.ndarray:
        with lock:
            return np.array(function(*arguments), dtype=float)

    return draw
