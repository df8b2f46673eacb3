"""Covariance matrices and their free parameters (kernels/covariance/free.py) as PyTensor Ops, with their derivatives.

from_free(free, precision), to_free(S, precision)    free parameters <-> S
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pytensor.tensor as pt
from numpy.typing import NDArray
from pytensor.gradient import DisconnectedType
from pytensor.graph.basic import Apply
from pytensor.graph.op import Op
from pytensor.link.numba.dispatch.basic import numba_njit, register_funcify_default_op_cache_key

from bayesimp.kernels.covariance import free as kernels
from bayesimp.models.nodes import VERSION, TensorLike, outputs_of

if TYPE_CHECKING:
    from pytensor.graph.basic import Variable
    from pytensor.tensor.variable import TensorVariable

__all__ = ["from_free", "to_free"]


class FromFree(Op):
    """From free parameters to S and the log Jacobian."""

    __props__ = ("precision",)

    def __init__(self, precision: bool) -> None:
        self.precision = precision

    def make_node(self, *inputs: Variable) -> Apply:
        """The node: S (d, d) and the log Jacobian."""
        (free,) = map(pt.as_tensor_variable, inputs)
        d = _dimension(free.type.shape[-1])
        return Apply(self, [free], [pt.TensorType("float64", (d, d))(), pt.dscalar()])

    def perform(self, node: Apply, inputs: Sequence[NDArray], outputs: list[list[NDArray | None]]) -> None:
        """Call the kernel."""
        S, jacobian = kernels.from_free(inputs[0], self.precision)
        outputs[0][0], outputs[1][0] = S, np.asarray(jacobian)

    def pullback(
        self, inputs: Sequence[Variable], outputs: Sequence[Variable], cotangents: Sequence[Variable]
    ) -> list[Variable]:
        """`PullFree` at the cotangents of S and of the log Jacobian."""
        S_bar, jacobian_bar = (
            pt.zeros_like(x) if isinstance(bar.type, DisconnectedType) else bar
            for x, bar in zip(outputs, cotangents, strict=True)
        )
        return outputs_of(PullFree(self.precision), inputs[0], outputs[0], S_bar, jacobian_bar)


class PullFree(Op):
    """Derivative of `FromFree`."""

    __props__ = ("precision",)

    def __init__(self, precision: bool) -> None:
        self.precision = precision

    def make_node(self, *inputs: Variable) -> Apply:
        """The node: a derivative shaped like `free`, from free, S, S_bar and jacobian_bar."""
        free, S, S_bar, jacobian_bar = map(pt.as_tensor_variable, inputs)
        return Apply(self, [free, S, S_bar, jacobian_bar], [free.type()])

    def perform(self, node: Apply, inputs: Sequence[NDArray], outputs: list[list[NDArray | None]]) -> None:
        """Call the kernel."""
        free, S, S_bar, jacobian_bar = inputs
        outputs[0][0] = kernels.pull_free(free, self.precision, S, S_bar, float(jacobian_bar))

    def infer_shape(self, node: Apply, shapes: Sequence[tuple]) -> list[tuple]:
        """The shape of `free`."""
        return [shapes[0]]


class ToFree(Op):
    """From S to its free parameters."""

    __props__ = ("precision",)

    def __init__(self, precision: bool) -> None:
        self.precision = precision

    def make_node(self, *inputs: Variable) -> Apply:
        """The node: d (d + 1) / 2 free parameters."""
        (S,) = map(pt.as_tensor_variable, inputs)
        d = S.type.shape[-1]
        return Apply(self, [S], [pt.TensorType("float64", (d * (d + 1) // 2,))()])

    def perform(self, node: Apply, inputs: Sequence[NDArray], outputs: list[list[NDArray | None]]) -> None:
        """Call the kernel."""
        outputs[0][0] = kernels.to_free(inputs[0], self.precision)


@register_funcify_default_op_cache_key(FromFree)
def _(op: FromFree, node: Apply, **kwargs: Any) -> tuple[Callable, int]:
    precision, kernel = op.precision, kernels.from_free

    @numba_njit
    def call(free: NDArray) -> tuple[NDArray, ...]:
        S, jacobian = kernel(free, precision)
        return S, np.asarray(jacobian)

    return call, VERSION


@register_funcify_default_op_cache_key(PullFree)
def _(op: PullFree, node: Apply, **kwargs: Any) -> tuple[Callable, int]:
    precision, kernel = op.precision, kernels.pull_free

    @numba_njit
    def call(free: NDArray, S: NDArray, S_bar: NDArray, jacobian_bar: NDArray) -> NDArray:
        return kernel(free, precision, S, S_bar, jacobian_bar.item())

    return call, VERSION


@register_funcify_default_op_cache_key(ToFree)
def _(op: ToFree, node: Apply, **kwargs: Any) -> tuple[Callable, int]:
    precision, kernel = op.precision, kernels.to_free

    @numba_njit
    def call(S: NDArray) -> NDArray:
        return kernel(S, precision)

    return call, VERSION


def _dimension(free: int) -> int:
    return int((np.sqrt(8 * free + 1) - 1) / 2 + 0.5)


def from_free(free: TensorLike, precision: bool) -> list[TensorVariable]:
    """(S, log Jacobian)."""
    return outputs_of(FromFree(precision), free)


def to_free(S: TensorLike, precision: bool) -> TensorVariable:
    """Free parameters (d (d + 1) / 2,) of S (d, d)."""
    return outputs_of(ToFree(precision), S)[0]
