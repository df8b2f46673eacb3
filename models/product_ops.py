"""Matrix products as PyTensor Ops that compile within a second.

effects(u, Psi)          u L', L L' = Psi                 kernels/covariance/factor.py
MatrixProduct()(A, B)    A B with few rows or columns     in loops
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pytensor.tensor as pt
from numpy.typing import NDArray
from pytensor.graph.basic import Apply
from pytensor.graph.op import Op
from pytensor.link.numba.dispatch.basic import numba_njit, register_funcify_default_op_cache_key

from bayesimp.kernels.covariance import factor
from bayesimp.models.nodes import VERSION, TensorLike, outputs_of

if TYPE_CHECKING:
    from pytensor.graph.basic import Variable
    from pytensor.tensor.variable import TensorVariable

__all__ = ["MatrixProduct", "effects"]


class MatrixProduct(Op):
    """A B in loops, which compiles in a second, whereas numba's product (PyTensor's Dot) takes fifteen."""

    __props__: tuple[str, ...] = ()

    def make_node(self, *inputs: Variable) -> Apply:
        """The node: a matrix."""
        A, B = map(pt.as_tensor_variable, inputs)
        shape = A.type.shape[0], B.type.shape[1]
        return Apply(self, [A, B], [pt.TensorType("float64", shape)()])

    def perform(self, node: Apply, inputs: Sequence[NDArray], outputs: list[list[NDArray | None]]) -> None:
        """A B by NumPy."""
        outputs[0][0] = inputs[0] @ inputs[1]

    def infer_shape(self, node: Apply, shapes: Sequence[tuple]) -> list[tuple]:
        """Rows of A, columns of B."""
        return [(shapes[0][0], shapes[1][1])]


class Effects(Op):
    """b = u L', which compiles in a second, whereas PyTensor's Cholesky factor and its gradient take minutes."""

    __props__: tuple[str, ...] = ()

    def make_node(self, *inputs: Variable) -> Apply:
        """The node: effects shaped like `u`, from u and Psi."""
        u, Psi = map(pt.as_tensor_variable, inputs)
        return Apply(self, [u, Psi], [u.type()])

    def perform(self, node: Apply, inputs: Sequence[NDArray], outputs: list[list[NDArray | None]]) -> None:
        """Call the kernel."""
        u, Psi = inputs
        if u.shape[1:] != Psi.shape[1:]:
            raise ValueError(f"effects: u has shape {u.shape}, Psi {Psi.shape}.")
        outputs[0][0] = factor.effects(u, Psi)

    def infer_shape(self, node: Apply, shapes: Sequence[tuple]) -> list[tuple]:
        """The shape of `u`."""
        return [shapes[0]]

    def pullback(
        self, inputs: Sequence[Variable], outputs: Sequence[Variable], cotangents: Sequence[Variable]
    ) -> list[Variable]:
        """`PullEffects` at the cotangent of the effects."""
        return outputs_of(PullEffects(), *inputs, cotangents[0])


class PullEffects(Op):
    """Derivatives of `Effects` in u and Psi."""

    __props__: tuple[str, ...] = ()

    def make_node(self, *inputs: Variable) -> Apply:
        """The node: derivatives shaped like `u` and `Psi`, from u, Psi and b_bar."""
        u, Psi, b_bar = map(pt.as_tensor_variable, inputs)
        return Apply(self, [u, Psi, b_bar], [u.type(), Psi.type()])

    def perform(self, node: Apply, inputs: Sequence[NDArray], outputs: list[list[NDArray | None]]) -> None:
        """Call the kernel."""
        for store, x in zip(outputs, factor.pull_effects(*inputs), strict=True):
            store[0] = x

    def infer_shape(self, node: Apply, shapes: Sequence[tuple]) -> list[tuple]:
        """The shapes of `u` and `Psi`."""
        return list(shapes[:2])


@register_funcify_default_op_cache_key(Effects)
def _(op: Effects, node: Apply, **kwargs: Any) -> tuple[Callable, int]:
    kernel = factor.effects

    @numba_njit
    def call(u: NDArray, Psi: NDArray) -> NDArray:
        return kernel(u, Psi)

    return call, VERSION


@register_funcify_default_op_cache_key(PullEffects)
def _(op: PullEffects, node: Apply, **kwargs: Any) -> tuple[Callable, int]:
    kernel = factor.pull_effects

    @numba_njit
    def call(u: NDArray, Psi: NDArray, b_bar: NDArray) -> tuple[NDArray, ...]:
        return kernel(u, Psi, b_bar)

    return call, VERSION


@register_funcify_default_op_cache_key(MatrixProduct)
def _(op: MatrixProduct, node: Apply, **kwargs: Any) -> tuple[Callable, int]:
    @numba_njit
    def call(A: NDArray, B: NDArray) -> NDArray:
        if A.shape[1] != B.shape[0]:
            raise ValueError("matrix product: columns of the first are not as many as rows of the second")
        out = np.zeros((A.shape[0], B.shape[1]))
        for i in range(A.shape[0]):
            for k in range(A.shape[1]):
                for j in range(B.shape[1]):
                    out[i, j] += A[i, k] * B[k, j]
        return out

    return call, 1


def effects(u: TensorLike, Psi: TensorLike) -> TensorVariable:
    """(m, d) rows with covariance Psi, from rows u with covariance I."""
    return outputs_of(Effects(), u, Psi)[0]
