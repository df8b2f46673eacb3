"""Priors on a covariance matrix S (d x d) as PyMC distributions.

    InverseWishartCovariance(nu, V)   |S|^-(nu+d+1)/2 exp(-tr(V^-1 S^-1)/2)                    nu > d - 1, real
    HuangWandCovariance(nu, scale)    |S|^-(nu+2d)/2 prod_k (nu (S^-1)_kk + scale_k^-2)^-(nu+d)/2
    LKJCovariance(eta, sd)            S = diag(s) R diag(s), R ~ LKJ(eta), s_k ~ sd

Densities with their constants, exact prior draws, and the free parameters in which NUTS moves (with the reason for them)
are in `bayesimp.kernels.covariance`. They are our own because PyMC (6.4.0, checked) has no inverse-Wishart, its Wishart
rounds nu down to an integer, and LKJCorr returns a Cholesky factor.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pymc as pm
import pytensor.tensor as pt
from numpy.typing import ArrayLike
from pymc.distributions.distribution import Continuous
from pymc.distributions.transforms import Transform, _default_transform
from pymc.logprob.abstract import _logprob
from pytensor.tensor.random.op import RandomVariable
from pytensor.tensor.variable import TensorVariable

from bayesimp.kernels.covariance import draws
from bayesimp.kernels.covariance.density import HALF_T
from bayesimp.models import ops
from bayesimp.priors.base import CovariancePrior

if TYPE_CHECKING:
    from pytensor.graph.basic import Variable

    from bayesimp.priors.scales import ScalePrior

__all__ = [
    "HuangWandCovariance",
    "InverseWishartCovariance",
    "LKJCovariance",
    "covariance",
    "float64",
    "scale_data",
]


class ScaleCorrelation(Transform):
    """Transform free numbers (y_1..y_d, x_21, x_31, x_32, ...) to S, through its precision or directly."""

    name = "free"
    ndim_supp = 1

    def __init__(self, precision: bool) -> None:
        self.precision = precision

    def backward(self, value: TensorVariable, *inputs: Variable) -> TensorVariable:
        """S from its free parameters."""
        return ops.from_free(value, self.precision)[0]

    def forward(self, value: TensorVariable, *inputs: Variable) -> TensorVariable:
        """Free parameters from S."""
        return ops.to_free(value, self.precision)

    def log_jac_det(self, value: TensorVariable, *inputs: Variable) -> TensorVariable:
        """Log determinant of the Jacobian of `backward`."""
        return ops.from_free(value, self.precision)[1]


class InverseWishartRV(RandomVariable):
    """The random variable of `InverseWishartCovariance`."""

    name = "inverse_wishart"
    signature = "(),(d,d)->(d,d)"
    dtype = "floatX"
    _print_name = ("InverseWishart", "\\operatorname{InverseWishart}")

    @classmethod
    def rng_fn(
        cls, rng: np.random.Generator, nu: float, scale: np.ndarray, size: tuple[int, ...] | None
    ) -> np.ndarray:
        """Independent draws (*size, d, d)."""
        return draws.draw_inverse_wishart(rng, nu, scale, size)


class InverseWishartCovariance(Continuous):
    """Inverse-Wishart distribution with real degrees of freedom.

    Parameters
    ----------
    nu
        Degrees of freedom, more than d - 1.
    V
        (d, d) in the convention of `bayesimp.priors.InverseWishart`: E S = V^-1 / (nu - d - 1).
    scale
        (d, d) = V^-1, to give instead of V: ``scipy.stats.invwishart(df=nu, scale=scale)``.
    """

    rv_op = InverseWishartRV()

    @classmethod
    def dist(
        cls,
        nu: ArrayLike | TensorVariable,
        V: np.ndarray | None = None,
        *,
        scale: ArrayLike | TensorVariable | None = None,
        **kwargs: Any,
    ) -> TensorVariable:
        """The distribution without a name; exactly one of V and scale is given."""
        if (V is None) == (scale is None):
            raise ValueError("InverseWishartCovariance: give exactly one of V and scale.")
        if V is not None:
            inverse = np.linalg.inv(V)
            scale = (inverse + inverse.mT) / 2
        return super().dist(float64(nu, scale), **kwargs)

    def support_point(rv, size: Variable, nu: TensorVariable, scale: TensorVariable) -> TensorVariable:
        """The mode, where sampling starts."""
        d = scale.shape[-1]
        return pt.broadcast_to(scale / (nu + d + 1)[..., None, None], rv.shape)

    def logp(S, nu: TensorVariable, scale: TensorVariable) -> TensorVariable:
        """Log density at S."""
        return ops.inverse_wishart(S, nu, scale)


class _ScaleVectorRV(RandomVariable):
    """(d, d) draws from parameters, the second of which is a (d,) scale."""

    dtype = "floatX"

    def _supp_shape_from_params(
        self, dist_params: Sequence[TensorVariable], param_shapes: Sequence[tuple] | None = None
    ) -> tuple:
        d = dist_params[1].shape[-1] if param_shapes is None else param_shapes[1][-1]
        return (d, d)


class HuangWandRV(_ScaleVectorRV):
    """The random variable of `HuangWandCovariance`."""

    name = "huang_wand"
    signature = "(),(d)->(d,d)"
    _print_name = ("HuangWand", "\\operatorname{HuangWand}")

    @classmethod
    def rng_fn(
        cls, rng: np.random.Generator, nu: float, scale: np.ndarray, size: tuple[int, ...] | None
    ) -> np.ndarray:
        """Independent draws (*size, d, d)."""
        return draws.draw_huang_wand(rng, nu, scale, size)


class HuangWandCovariance(Continuous):
    """Half-t(nu, scale_k) standard deviations; for nu = 2 every correlation is uniform (Huang & Wand 2013).

    Parameters
    ----------
    nu
        Degrees of freedom, positive.
    scale
        (d,) scales of the half-t distributions.
    """

    rv_op = HuangWandRV()

    @classmethod
    def dist(
        cls, nu: ArrayLike | TensorVariable, scale: ArrayLike | TensorVariable, **kwargs: Any
    ) -> TensorVariable:
        """The distribution without a name."""
        return super().dist(float64(nu, scale), **kwargs)

    def support_point(rv, size: Variable, nu: TensorVariable, scale: TensorVariable) -> TensorVariable:
        """diag(scale^2), where sampling starts."""
        return pt.broadcast_to(_on_diagonal(scale**2), rv.shape)

    def logp(S, nu: TensorVariable, scale: TensorVariable) -> TensorVariable:
        """Log density at S."""
        return ops.huang_wand(S, nu, scale)


class LKJCovarianceRV(_ScaleVectorRV):
    """The random variable of `LKJCovariance`; the family of the standard deviations is part of it."""

    name = "lkj_covariance"
    signature = "(),(d),()->(d,d)"
    _print_name = ("LKJCovariance", "\\operatorname{LKJCovariance}")
    __props__ = (*RandomVariable.__props__, "family")  # type: ignore[assignment]  # a field more than its base

    def __init__(self, family: int = HALF_T, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.family = family

    def rng_fn(
        self, rng: np.random.Generator, eta: float, scale: np.ndarray, nu: float, size: tuple[int, ...] | None
    ) -> np.ndarray:
        """Independent draws (*size, d, d)."""
        return draws.draw_lkj_covariance(rng, eta, scale, nu, self.family, size)


class LKJCovariance(Continuous):
    """S = diag(s) R diag(s), R ~ LKJ(eta), s_k independent.

    Parameters
    ----------
    eta
        Positive; 1 means uniform over correlation matrices.
    sd
        Prior on the s_k: a record with (d,) ``scale``, one of HalfT, HalfNormal and Exponential.
    scale
        (d,) tensor to use instead of the scale in `sd`.
    """

    rv_type = LKJCovarianceRV

    @classmethod
    def rv_op(
        cls, eta: TensorVariable, scale: TensorVariable, nu: TensorVariable, *, family: int, **kwargs: Any
    ) -> TensorVariable:
        """The random variable for a family of standard deviations."""
        return LKJCovarianceRV(family)(eta, scale, nu, **kwargs)

    @classmethod
    def dist(
        cls,
        eta: ArrayLike | TensorVariable,
        sd: ScalePrior,
        *,
        scale: ArrayLike | TensorVariable | None = None,
        **kwargs: Any,
    ) -> TensorVariable:
        """The distribution without a name."""
        numbers = float64(eta, sd.scale if scale is None else scale, sd.degrees)
        return super().dist(numbers, family=sd.family, **kwargs)

    def support_point(
        rv, size: Variable, eta: TensorVariable, scale: TensorVariable, nu: TensorVariable
    ) -> TensorVariable:
        """diag(scale^2), where sampling starts."""
        return pt.broadcast_to(_on_diagonal(scale**2), rv.shape)


@_logprob.register(LKJCovarianceRV)
def _lkj_logprob(
    op: LKJCovarianceRV,
    values: Sequence[TensorVariable],
    rng: Variable,
    size: Variable,
    eta: TensorVariable,
    scale: TensorVariable,
    nu: TensorVariable,
    **kwargs: Any,
) -> TensorVariable:
    return ops.lkj(values[0], eta, scale, nu, op.family)


@_default_transform.register(InverseWishartRV)
@_default_transform.register(HuangWandRV)
def _through_precision(op: RandomVariable, rv: TensorVariable) -> ScaleCorrelation:
    return ScaleCorrelation(precision=True)


@_default_transform.register(LKJCovarianceRV)
def _direct(op: RandomVariable, rv: TensorVariable) -> ScaleCorrelation:
    return ScaleCorrelation(precision=False)


def _on_diagonal(x: TensorVariable) -> TensorVariable:
    return x[..., None] * np.eye(x.type.shape[-1])


def covariance(name: str, prior: CovariancePrior, d: int, dims: tuple[str, str]) -> TensorVariable:
    """Add the variable `name`, (d, d), to the model whose context is open.

    Parameters
    ----------
    prior
        Resolved prior, in which every number is explicit (`bayesimp.priors.resolve`). For Psi with centred columns of Z
        it is a `bayesimp.priors.centred.Centred`, and ``<name>_centred`` is the free variable.
    dims
        Names of the two dimensions.

    Returns
    -------
    A free variable; for Diagonal and Fixed, a Deterministic. The free variables of Diagonal are the standard deviations
    ``<name>_sd``, or under an inverse-Wishart the variances ``<name>_variance``.
    """
    return prior.distribution(name, d, dims)


def scale_data(name: str, value: ArrayLike) -> TensorVariable:
    """Add ``<name>_scale`` as data to the open model.

    The scale of a prior depends on the table, so it is data too, and another table needs no new compilation.
    """
    value = np.asarray(value, dtype=float)
    return pm.Data(f"{name}_scale", value, shape=value.shape)


def float64(*values: Any) -> list[TensorVariable]:
    """Numbers and arrays in double precision.

    PyTensor takes a bare 1.5 to be in single precision, and then computes its log gamma function in single precision.
    """
    return [pt.as_tensor_variable(x, dtype="float64") for x in values]
