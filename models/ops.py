"""PyTensor Ops around numba kernels, each with its derivative in closed form.

    marginal(beta, Sigma, Psi, data)                   log p(y_obs | beta, Sigma, Psi)    kernels.marginal
    inverse_wishart, huang_wand, lkj (S, numbers)      log p(S)                           kernels.covariance
    from_free(free, precision), to_free(S, precision)  free parameters <-> S              kernels.covariance
    effects(u, Psi)                                    u L', L L' = Psi                   kernels.factor
    MatrixProduct()(A, B)                              A B with few rows or columns       in loops

Compilation is the price of NUTS in PyMC, and it is paid by the node: every Op of linear algebra or indexing
costs a second or more of LLVM, a kernel that numba keeps on disk costs none. So a density is one node and
its gradient comes with it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pytensor.tensor as pt
from numpy.typing import ArrayLike, NDArray
from pytensor.gradient import DisconnectedType, grad_undefined
from pytensor.graph.basic import Apply
from pytensor.graph.op import Op
from pytensor.link.numba.dispatch.basic import numba_njit, register_funcify_default_op_cache_key

from bayesimp.kernels.compiled import STAMP
from bayesimp.kernels.covariance import density as kernels
from bayesimp.kernels.covariance import factor
from bayesimp.kernels.normal.marginal import log_likelihood

if TYPE_CHECKING:
    from pytensor.graph.basic import Variable
    from pytensor.tensor.variable import TensorVariable

__all__ = [
    "MatrixProduct",
    "effects",
    "from_free",
    "huang_wand",
    "inverse_wishart",
    "lkj",
    "marginal",
    "to_free",
]

type TensorLike = Variable | ArrayLike  # what becomes an input of a node
VERSION = int.from_bytes(
    STAMP[:4], "big"
)  # of the kernels: PyTensor's cache of compiled functions asks for it


class DensityOp(Op):
    """Scalar log density and its gradients with respect to the first `wrt` inputs; the rest are numbers."""

    __props__: tuple[str, ...] = ()
    wrt = 1
    kernel: Callable[..., tuple]

    def make_node(self, *inputs: Variable) -> Apply:
        """The node: a scalar, and a gradient for each of the first `wrt` inputs."""
        tensors = [pt.as_tensor_variable(x) for x in inputs]
        return Apply(self, tensors, [pt.dscalar(), *(x.type() for x in tensors[: self.wrt])])

    def perform(self, node: Apply, inputs: Sequence[NDArray], outputs: list[list[NDArray | None]]) -> None:
        """Call the kernel."""
        # numba kernels take numbers as numbers, not as arrays without dimensions
        arguments = [x.item() if x.ndim == 0 else x for x in inputs]
        for store, x in zip(outputs, self.kernel(*arguments), strict=True):
            store[0] = np.asarray(x)

    def infer_shape(self, node: Apply, shapes: Sequence[tuple]) -> list[tuple]:
        """A scalar, and gradients shaped like their inputs."""
        return [(), *shapes[: self.wrt]]

    def pullback(
        self, inputs: Sequence[Variable], outputs: Sequence[Variable], cotangents: Sequence[Variable]
    ) -> list[Variable]:
        """The gradients times the cotangent of the density; hyperparameters have none."""
        reason = "hyperparameters are numbers or data here, not random variables"
        slopes = [pt.mul(cotangents[0], gradient) for gradient in outputs[1:]]
        rest = list(enumerate(inputs))[self.wrt :]
        return slopes + [grad_undefined(self, i, x, reason) for i, x in rest]


class Marginal(DensityOp):
    """log p(y_obs | beta, Sigma, Psi), with gradients by the three."""

    wrt, kernel = 3, staticmethod(log_likelihood)


class InverseWishartDensity(DensityOp):
    """Log density of an inverse-Wishart, with its gradient by S."""

    kernel = staticmethod(kernels.inverse_wishart)


class HuangWandDensity(DensityOp):
    """Log density of a Huang-Wand prior, with its gradient by S."""

    kernel = staticmethod(kernels.huang_wand)


class LKJDensity(DensityOp):
    """The family of the standard deviations is part of the Op."""

    __props__ = ("family",)

    def __init__(self, family: int) -> None:
        self.family = family

    def kernel(self, S: NDArray, eta: float, scale: NDArray, nu: float) -> tuple[float, NDArray]:
        """Log density and gradient by S."""
        return kernels.lkj(S, eta, scale, nu, self.family)


class FromFree(Op):
    """Free parameters to S and the log Jacobian."""

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
        return _outputs(PullFree(self.precision), inputs[0], outputs[0], S_bar, jacobian_bar)


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
    """S to its free parameters."""

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


class MatrixProduct(Op):
    """A B in loops: compiled in a second, where numba's product (PyTensor's Dot) takes fifteen."""

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
    """b = u L'; compiled in a second, where PyTensor's Cholesky factor and its gradient take minutes."""

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
        return _outputs(PullEffects(), *inputs, cotangents[0])


class PullEffects(Op):
    """Derivatives of `Effects` by u and Psi."""

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


@register_funcify_default_op_cache_key(Marginal)
def _(op: Marginal, node: Apply, **kwargs: Any) -> tuple[Callable, int]:
    @numba_njit
    def call(
        beta: NDArray,
        Sigma: NDArray,
        Psi: NDArray,
        observed: NDArray,
        cells: NDArray,
        gram: NDArray,
        total: NDArray,
    ) -> tuple[NDArray, ...]:
        value, dbeta, dSigma, dPsi = log_likelihood(beta, Sigma, Psi, observed, cells, gram, total)
        return np.asarray(value), dbeta, dSigma, dPsi

    return call, VERSION


@register_funcify_default_op_cache_key(InverseWishartDensity)
@register_funcify_default_op_cache_key(HuangWandDensity)
def _(op: DensityOp, node: Apply, **kwargs: Any) -> tuple[Callable, int]:
    kernel = op.kernel

    @numba_njit
    def call(S: NDArray, nu: NDArray, scale: NDArray) -> tuple[NDArray, ...]:
        value, dS = kernel(S, nu.item(), scale)
        return np.asarray(value), dS

    return call, VERSION


@register_funcify_default_op_cache_key(LKJDensity)
def _(op: LKJDensity, node: Apply, **kwargs: Any) -> tuple[Callable, int]:
    family, kernel = op.family, kernels.lkj

    @numba_njit
    def call(S: NDArray, eta: NDArray, scale: NDArray, nu: NDArray) -> tuple[NDArray, ...]:
        value, dS = kernel(S, eta.item(), scale, nu.item(), family)
        return np.asarray(value), dS

    return call, VERSION


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


def _outputs(op: Op, *inputs: TensorLike) -> list[Any]:
    """The outputs of an Op, which are tensors here."""
    return op.make_node(*map(pt.as_tensor_variable, inputs)).outputs


def _dimension(free: int) -> int:
    return int((np.sqrt(8 * free + 1) - 1) / 2 + 0.5)


def marginal(
    beta: TensorLike,
    Sigma: TensorLike,
    Psi: TensorLike,
    observed: TensorLike,
    cells: TensorLike,
    gram: TensorLike,
    total: TensorLike,
) -> TensorVariable:
    """Log p(y_obs | beta, Sigma, Psi), a scalar; see `bayesimp.kernels.normal.marginal.log_likelihood`."""
    return _outputs(Marginal(), beta, Sigma, Psi, observed, cells, gram, total)[0]


def inverse_wishart(S: TensorLike, nu: TensorLike, scale: TensorLike) -> TensorVariable:
    """Log density, a scalar; see `bayesimp.kernels.covariance.density`, as for all that follow."""
    return _outputs(InverseWishartDensity(), S, nu, scale)[0]


def huang_wand(S: TensorLike, nu: TensorLike, scale: TensorLike) -> TensorVariable:
    """Log density of a Huang-Wand prior at S, a scalar."""
    return _outputs(HuangWandDensity(), S, nu, scale)[0]


def lkj(S: TensorLike, eta: TensorLike, scale: TensorLike, nu: TensorLike, family: int) -> TensorVariable:
    """Log density at S, a scalar; `family` numbers the prior of the standard deviations."""
    return _outputs(LKJDensity(family), S, eta, scale, nu)[0]


def from_free(free: TensorLike, precision: bool) -> list[TensorVariable]:
    """(S, log Jacobian)."""
    return _outputs(FromFree(precision), free)


def to_free(S: TensorLike, precision: bool) -> TensorVariable:
    """Free parameters (d (d + 1) / 2,) of S (d, d)."""
    return _outputs(ToFree(precision), S)[0]


def effects(u: TensorLike, Psi: TensorLike) -> TensorVariable:
    """(m, d): rows of covariance Psi from rows u of covariance I."""
    return _outputs(Effects(), u, Psi)[0]
