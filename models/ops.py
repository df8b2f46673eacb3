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

import numpy as np
import pytensor.tensor as pt
from pytensor.gradient import DisconnectedType, grad_undefined
from pytensor.graph.basic import Apply
from pytensor.graph.op import Op
from pytensor.link.numba.dispatch.basic import numba_njit, register_funcify_default_op_cache_key

from bayesimp.kernels.compiled import STAMP
from bayesimp.kernels.covariance import density as kernels
from bayesimp.kernels.covariance import factor
from bayesimp.kernels.normal.marginal import log_likelihood

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

VERSION = int.from_bytes(
    STAMP[:4], "big"
)  # of the kernels: PyTensor's cache of compiled functions asks for it


class DensityOp(Op):
    """Scalar log density and its gradients with respect to the first `wrt` inputs; the rest are numbers."""

    __props__: tuple[str, ...] = ()
    wrt = 1

    def make_node(self, *inputs):
        """The node: a scalar, and a gradient for each of the first `wrt` inputs."""
        inputs = [pt.as_tensor_variable(x) for x in inputs]
        return Apply(self, inputs, [pt.dscalar(), *(x.type() for x in inputs[: self.wrt])])

    def perform(self, node, inputs, outputs):
        """Call the kernel."""
        # numba kernels take numbers as numbers, not as arrays without dimensions
        inputs = [x.item() if x.ndim == 0 else x for x in inputs]
        for store, x in zip(outputs, self.kernel(*inputs), strict=True):
            store[0] = np.asarray(x)

    def infer_shape(self, node, shapes):
        """A scalar, and gradients shaped like their inputs."""
        return [(), *shapes[: self.wrt]]

    def pullback(self, inputs, outputs, cotangents):
        """The gradients times the cotangent of the density; hyperparameters have none."""
        reason = "hyperparameters are numbers or data here, not random variables"
        slopes = [cotangents[0] * gradient for gradient in outputs[1:]]
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

    def __init__(self, family: int):
        self.family = family

    def kernel(self, S, eta, scale, nu):
        """Log density and gradient by S."""
        return kernels.lkj(S, eta, scale, nu, self.family)


class FromFree(Op):
    """Free parameters to S and the log Jacobian."""

    __props__ = ("precision",)

    def __init__(self, precision: bool):
        self.precision = precision

    def make_node(self, free):
        """The node: S (d, d) and the log Jacobian."""
        free = pt.as_tensor_variable(free)
        d = _dimension(free.type.shape[-1])
        return Apply(self, [free], [pt.TensorType("float64", (d, d))(), pt.dscalar()])

    def perform(self, node, inputs, outputs):
        """Call the kernel."""
        S, jacobian = kernels.from_free(inputs[0], self.precision)
        outputs[0][0], outputs[1][0] = S, np.asarray(jacobian)

    def pullback(self, inputs, outputs, cotangents):
        """`PullFree` at the cotangents of S and of the log Jacobian."""
        S_bar, jacobian_bar = (
            pt.zeros_like(x) if isinstance(bar.type, DisconnectedType) else bar
            for x, bar in zip(outputs, cotangents, strict=True)
        )
        return [PullFree(self.precision)(inputs[0], outputs[0], S_bar, jacobian_bar)]


class PullFree(Op):
    """Derivative of `FromFree`."""

    __props__ = ("precision",)

    def __init__(self, precision: bool):
        self.precision = precision

    def make_node(self, free, S, S_bar, jacobian_bar):
        """The node: a derivative shaped like `free`."""
        inputs = [pt.as_tensor_variable(x) for x in (free, S, S_bar, jacobian_bar)]
        return Apply(self, inputs, [inputs[0].type()])

    def perform(self, node, inputs, outputs):
        """Call the kernel."""
        free, S, S_bar, jacobian_bar = inputs
        outputs[0][0] = kernels.pull_free(free, self.precision, S, S_bar, float(jacobian_bar))

    def infer_shape(self, node, shapes):
        """The shape of `free`."""
        return [shapes[0]]


class ToFree(Op):
    """S to its free parameters."""

    __props__ = ("precision",)

    def __init__(self, precision: bool):
        self.precision = precision

    def make_node(self, S):
        """The node: d (d + 1) / 2 free parameters."""
        S = pt.as_tensor_variable(S)
        d = S.type.shape[-1]
        return Apply(self, [S], [pt.TensorType("float64", (d * (d + 1) // 2,))()])

    def perform(self, node, inputs, outputs):
        """Call the kernel."""
        outputs[0][0] = kernels.to_free(inputs[0], self.precision)


class MatrixProduct(Op):
    """A B in loops: compiled in a second, where numba's product (PyTensor's Dot) takes fifteen."""

    __props__: tuple[str, ...] = ()

    def make_node(self, A, B):
        """The node: a matrix."""
        shape = A.type.shape[0], B.type.shape[1]
        return Apply(self, [A, B], [pt.TensorType("float64", shape)()])

    def perform(self, node, inputs, outputs):
        """A B by NumPy."""
        outputs[0][0] = inputs[0] @ inputs[1]

    def infer_shape(self, node, shapes):
        """Rows of A, columns of B."""
        return [(shapes[0][0], shapes[1][1])]


class Effects(Op):
    """b = u L'; compiled in a second, where PyTensor's Cholesky factor and its gradient take minutes."""

    __props__: tuple[str, ...] = ()

    def make_node(self, u, Psi):
        """The node: effects shaped like `u`."""
        inputs = [pt.as_tensor_variable(x) for x in (u, Psi)]
        return Apply(self, inputs, [inputs[0].type()])

    def perform(self, node, inputs, outputs):
        """Call the kernel."""
        u, Psi = inputs
        if u.shape[1:] != Psi.shape[1:]:
            raise ValueError(f"effects: u has shape {u.shape}, Psi {Psi.shape}.")
        outputs[0][0] = factor.effects(u, Psi)

    def infer_shape(self, node, shapes):
        """The shape of `u`."""
        return [shapes[0]]

    def pullback(self, inputs, outputs, cotangents):
        """`PullEffects` at the cotangent of the effects."""
        return PullEffects()(*inputs, cotangents[0])


class PullEffects(Op):
    """Derivatives of `Effects` by u and Psi."""

    __props__: tuple[str, ...] = ()

    def make_node(self, u, Psi, b_bar):
        """The node: derivatives shaped like `u` and `Psi`."""
        inputs = [pt.as_tensor_variable(x) for x in (u, Psi, b_bar)]
        return Apply(self, inputs, [inputs[0].type(), inputs[1].type()])

    def perform(self, node, inputs, outputs):
        """Call the kernel."""
        for store, x in zip(outputs, factor.pull_effects(*inputs), strict=True):
            store[0] = x

    def infer_shape(self, node, shapes):
        """The shapes of `u` and `Psi`."""
        return list(shapes[:2])


@register_funcify_default_op_cache_key(Effects)
def _(op, node, **kwargs):
    kernel = factor.effects

    @numba_njit
    def call(u, Psi):
        return kernel(u, Psi)

    return call, VERSION


@register_funcify_default_op_cache_key(PullEffects)
def _(op, node, **kwargs):
    kernel = factor.pull_effects

    @numba_njit
    def call(u, Psi, b_bar):
        return kernel(u, Psi, b_bar)

    return call, VERSION


@register_funcify_default_op_cache_key(MatrixProduct)
def _(op, node, **kwargs):
    @numba_njit
    def call(A, B):
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
def _(op, node, **kwargs):
    @numba_njit
    def call(beta, Sigma, Psi, observed, cells, gram, total):
        value, dbeta, dSigma, dPsi = log_likelihood(beta, Sigma, Psi, observed, cells, gram, total)
        return np.asarray(value), dbeta, dSigma, dPsi

    return call, VERSION


@register_funcify_default_op_cache_key(InverseWishartDensity)
@register_funcify_default_op_cache_key(HuangWandDensity)
def _(op, node, **kwargs):
    kernel = op.kernel

    @numba_njit
    def call(S, nu, scale):
        value, dS = kernel(S, nu.item(), scale)
        return np.asarray(value), dS

    return call, VERSION


@register_funcify_default_op_cache_key(LKJDensity)
def _(op, node, **kwargs):
    family, kernel = op.family, kernels.lkj

    @numba_njit
    def call(S, eta, scale, nu):
        value, dS = kernel(S, eta.item(), scale, nu.item(), family)
        return np.asarray(value), dS

    return call, VERSION


@register_funcify_default_op_cache_key(FromFree)
def _(op, node, **kwargs):
    precision, kernel = op.precision, kernels.from_free

    @numba_njit
    def call(free):
        S, jacobian = kernel(free, precision)
        return S, np.asarray(jacobian)

    return call, VERSION


@register_funcify_default_op_cache_key(PullFree)
def _(op, node, **kwargs):
    precision, kernel = op.precision, kernels.pull_free

    @numba_njit
    def call(free, S, S_bar, jacobian_bar):
        return kernel(free, precision, S, S_bar, jacobian_bar.item())

    return call, VERSION


@register_funcify_default_op_cache_key(ToFree)
def _(op, node, **kwargs):
    precision, kernel = op.precision, kernels.to_free

    @numba_njit
    def call(S):
        return kernel(S, precision)

    return call, VERSION


def _dimension(free: int) -> int:
    return int((np.sqrt(8 * free + 1) - 1) / 2 + 0.5)


def marginal(beta, Sigma, Psi, observed, cells, gram, total):
    """Log p(y_obs | beta, Sigma, Psi), a scalar; see `bayesimp.kernels.normal.marginal.log_likelihood`."""
    return Marginal()(beta, Sigma, Psi, observed, cells, gram, total)[0]


def inverse_wishart(S, nu, scale):
    """Log density, a scalar; see `bayesimp.kernels.covariance.density`, as for all that follow."""
    return InverseWishartDensity()(S, nu, scale)[0]


def huang_wand(S, nu, scale):
    """Log density of a Huang-Wand prior at S, a scalar."""
    return HuangWandDensity()(S, nu, scale)[0]


def lkj(S, eta, scale, nu, family: int):
    """Log density at S, a scalar; `family` numbers the prior of the standard deviations."""
    return LKJDensity(family).make_node(S, eta, scale, nu).outputs[0]


def from_free(free, precision: bool):
    """(S, log Jacobian)."""
    return FromFree(precision)(free)


def to_free(S, precision: bool):
    """Free parameters (d (d + 1) / 2,) of S (d, d)."""
    return ToFree(precision)(S)


def effects(u, Psi):
    """(m, d): rows of covariance Psi from rows u of covariance I."""
    return Effects()(u, Psi)
