"""Log densities as PyTensor Ops: each is one node, with its gradient.

marginal(beta, Sigma, Psi, data)                log p(y_obs | beta, Sigma, Psi)    kernels/normal/marginal.py
inverse_wishart, huang_wand, lkj (S, numbers)   log p(S)                           kernels/covariance/density.py
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pytensor.tensor as pt
from numpy.typing import NDArray
from pytensor.gradient import grad_undefined
from pytensor.graph.basic import Apply
from pytensor.graph.op import Op
from pytensor.link.numba.dispatch.basic import numba_njit, register_funcify_default_op_cache_key

from bayesimp.kernels.covariance import density as kernels
from bayesimp.kernels.normal.marginal import log_likelihood
from bayesimp.models.nodes import VERSION, TensorLike, outputs_of

if TYPE_CHECKING:
    from pytensor.graph.basic import Variable
    from pytensor.tensor.variable import TensorVariable

__all__ = ["huang_wand", "inverse_wishart", "lkj", "marginal"]


class DensityOp(Op):
    """A scalar log density and its gradients with respect to the first `wrt` inputs; the other inputs are numbers."""

    __props__: tuple[str, ...] = ()
    wrt = 1
    kernel: Callable[..., tuple]

    def make_node(self, *inputs: Variable) -> Apply:
        """The node: a scalar, and a gradient for each of the first `wrt` inputs."""
        tensors = [pt.as_tensor_variable(x) for x in inputs]
        return Apply(self, tensors, [pt.dscalar(), *(x.type() for x in tensors[: self.wrt])])

    def perform(self, node: Apply, inputs: Sequence[NDArray], outputs: list[list[NDArray | None]]) -> None:
        """Call the kernel."""
        # numba kernels take numbers, not arrays without dimensions
        arguments = [x.item() if x.ndim == 0 else x for x in inputs]
        for store, x in zip(outputs, self.kernel(*arguments), strict=True):
            store[0] = np.asarray(x)

    def infer_shape(self, node: Apply, shapes: Sequence[tuple]) -> list[tuple]:
        """A scalar, and gradients shaped like their inputs."""
        return [(), *shapes[: self.wrt]]

    def pullback(
        self, inputs: Sequence[Variable], outputs: Sequence[Variable], cotangents: Sequence[Variable]
    ) -> list[Variable]:
        """The gradients times the cotangent of the density; hyperparameters have no gradient."""
        reason = "hyperparameters are numbers or data here, not random variables"
        slopes = [pt.mul(cotangents[0], gradient) for gradient in outputs[1:]]
        rest = list(enumerate(inputs))[self.wrt :]
        return slopes + [grad_undefined(self, i, x, reason) for i, x in rest]


class Marginal(DensityOp):
    """log p(y_obs | beta, Sigma, Psi), with its gradients in all three."""

    wrt, kernel = 3, staticmethod(log_likelihood)


class InverseWishartDensity(DensityOp):
    """Log density of an inverse-Wishart, with its gradient in S."""

    kernel = staticmethod(kernels.inverse_wishart)


class HuangWandDensity(DensityOp):
    """Log density of a Huang-Wand prior, with its gradient in S."""

    kernel = staticmethod(kernels.huang_wand)


class LKJDensity(DensityOp):
    """Log density of an LKJ prior; the family of the standard deviations is part of the Op."""

    __props__ = ("family",)

    def __init__(self, family: int) -> None:
        self.family = family

    def kernel(self, S: NDArray, eta: float, scale: NDArray, nu: float) -> tuple[float, NDArray]:
        """Log density and gradient in S."""
        return kernels.lkj(S, eta, scale, nu, self.family)


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
    return outputs_of(Marginal(), beta, Sigma, Psi, observed, cells, gram, total)[0]


def inverse_wishart(S: TensorLike, nu: TensorLike, scale: TensorLike) -> TensorVariable:
    """Log density, a scalar; see `bayesimp.kernels.covariance.density`, also for the functions below."""
    return outputs_of(InverseWishartDensity(), S, nu, scale)[0]


def huang_wand(S: TensorLike, nu: TensorLike, scale: TensorLike) -> TensorVariable:
    """Log density of a Huang-Wand prior at S, a scalar."""
    return outputs_of(HuangWandDensity(), S, nu, scale)[0]


def lkj(S: TensorLike, eta: TensorLike, scale: TensorLike, nu: TensorLike, family: int) -> TensorVariable:
    """Log density at S, a scalar; `family` numbers the prior of the standard deviations."""
    return outputs_of(LKJDensity(family), S, eta, scale, nu)[0]
