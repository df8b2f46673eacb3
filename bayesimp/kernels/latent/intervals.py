"""Probabilities of intervals of a standard normal, on the log scale."""

from __future__ import annotations

import math

from bayesimp.kernels.compiled import inner

__all__ = ["ROOT_HALF", "log_between"]

ROOT_HALF = math.sqrt(0.5)
LOG_2PI = math.log(2.0 * math.pi)
FAR = -35.0  # below this Phi is too small for a floating-point number


@inner
def _log_lower(x: float) -> float:
    """log Phi(x), x <= 0; in the far tail, from the first terms of the series of Mills' ratio."""
    if x > FAR:
        return math.log(0.5 * math.erfc(-x * ROOT_HALF))
    if x == -math.inf:
        return x
    t = 1.0 / (x * x)
    return -0.5 * (x * x + LOG_2PI) - math.log(-x) + math.log1p(-t + 3.0 * t * t)


@inner
def log_between(a: float, b: float) -> float:
    """log(Phi(b) - Phi(a)), accurate in both tails; -inf where a >= b."""
    if not a < b:
        return -math.inf
    if a > 0.0:
        a, b = -b, -a
    if b > 0.0:  # 0 lies inside, and the complement consists of two tails
        return math.log1p(-0.5 * (math.erfc(-a * ROOT_HALF) + math.erfc(b * ROOT_HALF)))
    upper = _log_lower(b)
    if a == -math.inf:
        return upper
    return upper + math.log(-math.expm1(_log_lower(a) - upper))
