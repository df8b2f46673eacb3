"""Functions of coefficients and variance components given as text, ``"-x / (2 * I(x**2))"``, with derivatives.

The expression is evaluated on pairs (value, gradient) for all tables at once (forward differentiation), so derivatives
are exact. Names are those of coefficients and, in backticks, of standard deviations and correlations on their natural
scale: `` `sd(Intercept | school)` ``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy import special

from bayesimp.errors import SpecificationError
from bayesimp.formulas.syntax import Call, Minus, Node, Number, Op, label, read
from bayesimp.messages import suggestion
from bayesimp.notation import Array, Matrix, Vector

if TYPE_CHECKING:
    from bayesimp.analysis.fits import Fits

__all__ = ["FunctionValue", "components", "functions_of", "joint_covariance"]


class FunctionValue(NamedTuple):
    """A function of the parameters: its value (M,) in each table and its gradient (M, K)."""

    value: Vector
    gradient: Matrix

    def through(self, value: Vector, slope: Vector) -> FunctionValue:
        """f applied to the function, by the chain rule; `slope` is the derivative of f."""
        return FunctionValue(value, slope[:, None] * self.gradient)


FUNCTIONS: dict[str, tuple[Callable[[Vector], Vector], Callable[[Vector], Vector]]] = {
    "exp": (np.exp, np.exp),
    "log": (np.log, lambda x: 1 / x),
    "sqrt": (np.sqrt, lambda x: 0.5 / np.sqrt(x)),
    "tanh": (np.tanh, lambda x: 1 / np.cosh(x) ** 2),
    "expit": (special.expit, lambda x: special.expit(x) * special.expit(-x)),
    "logit": (special.logit, lambda x: 1 / (x * (1 - x))),
    "I": (lambda x: x, np.ones_like),
}


def components(fits: Fits) -> tuple[Matrix, Matrix]:
    """Standard deviations and correlations (M, c), and derivatives by log sd and Fisher's z; nan at bounds."""
    rho = np.array([name.startswith("cor(") for name in fits.component_names], dtype=bool)
    phi = fits.components
    with np.errstate(over="ignore"):
        values = np.where(rho, np.tanh(phi), np.exp(np.where(rho, 0.0, phi)))
    return values, np.where(np.isfinite(phi), np.where(rho, 1 - values**2, values), np.nan)


def joint_covariance(fits: Fits) -> Array:
    """Covariance of (beta, phi), (M, k + c, k + c); nan for components without a standard error.

    In linear mixed models beta and phi are independent to first order.
    """
    (M, k), c = fits.estimates.shape, len(fits.component_names)
    out = np.zeros((M, k + c, k + c))
    out[:, :k, :k], out[:, k:, k:] = fits.covariances, fits.components_cov
    if fits.cross is not None:
        out[:, :k, k:], out[:, k:, :k] = fits.cross, np.swapaxes(fits.cross, 1, 2)
    return out


def functions_of(fits: Fits, texts: list[str]) -> list[FunctionValue]:
    """Evaluate functions of the parameters (beta, phi).

    Raises
    ------
    SpecificationError
        A name is neither a coefficient nor a component, or a function is unknown.
    """
    values, slopes = components(fits)
    M, k = fits.estimates.shape
    K = k + values.shape[1]
    known: dict[str, FunctionValue] = {}
    for j, name in enumerate(fits.names):
        known[name] = FunctionValue(fits.estimates[:, j], np.tile(np.eye(K)[j], (M, 1)))
    for j, name in enumerate(fits.component_names):
        known[name] = FunctionValue(values[:, j], slopes[:, j, None] * np.eye(K)[k + j])
    constant = np.zeros((M, K))
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        return [_evaluated(read(text), text, known, constant) for text in texts]


def _evaluated(node: Node, text: str, known: dict[str, FunctionValue], constant: Matrix) -> FunctionValue:
    if label(node) in known:
        return known[label(node)]
    match node:
        case Number(value):
            return FunctionValue(np.full(len(constant), float(value)), constant)
        case Minus(argument):
            inner = _evaluated(argument, text, known, constant)
            return FunctionValue(-inner.value, -inner.gradient)
        case Op("+" | "-" | "*" | "/" | "**" as symbol, left, right):
            return _combined(symbol, *(_evaluated(side, text, known, constant) for side in (left, right)))
        case Call(function, (argument,), _) if function in FUNCTIONS:
            f, slope = FUNCTIONS[function]
            inner = _evaluated(argument, text, known, constant)
            return inner.through(f(inner.value), slope(inner.value))
        case Call(function, _, _):
            raise SpecificationError(
                f"{text!r}: {function} is not one of the functions of one argument available here "
                f"({', '.join(FUNCTIONS)}), nor a coefficient. Variance components are written in backticks."
            )
    raise SpecificationError(
        f"{text!r}: there is no coefficient '{label(node)}'. {suggestion(label(node), known)}"
    )


def _combined(symbol: str, a: FunctionValue, b: FunctionValue) -> FunctionValue:
    """Sum, difference, product, quotient or power of two functions, by the rules of differentiation."""
    x, y = a.value[:, None], b.value[:, None]
    match symbol:
        case "+":
            return FunctionValue(a.value + b.value, a.gradient + b.gradient)
        case "-":
            return FunctionValue(a.value - b.value, a.gradient - b.gradient)
        case "*":
            return FunctionValue(a.value * b.value, y * a.gradient + x * b.gradient)
        case "/":
            return FunctionValue(a.value / b.value, (a.gradient - x / y * b.gradient) / y)
    value = a.value**b.value
    by_power = np.where(b.gradient == 0, 0.0, value[:, None] * np.log(x)) * b.gradient
    return FunctionValue(value, y * x ** (y - 1) * a.gradient + by_power)
