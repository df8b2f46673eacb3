"""The exponential function of a block of numbers, in a form that compilers turn into vector instructions.

With k the integer nearest to x / log 2 and r = x - k log 2, |r| <= log(2) / 2,

    e^x = 2^k e^r,     e^r = 1 + r + r^2 (1/2! + r/3! + .. + r^10/12!)

whose truncation error, r^13/13!, is below 2e-16. log 2 is split into two parts, of which k times the first is exact
(Cody & Waite 1980). Adding 1.5 x 2^52 rounds to an integer and leaves k in the last bits of the sum, from which a shift
makes the bits of 2^k. The largest relative error is about 2.5e-16; the C library's is 1e-16, one number at a time.
"""

from __future__ import annotations

from bayesimp.kernels.compiled import inner
from bayesimp.notation import Integer, IntVector, Vector

__all__ = ["exp_in_place"]

LOG2_E = 1.4426950408889634
LN2_HIGH, LN2_LOW = 0.693145751953125, 1.42860682030941723212e-6
TO_INTEGER = 6755399441055744.0  # 1.5 x 2^52
LEAST, MOST = (
    -708.0,
    710.0,
)  # below, e^x is not a normal number; at 710 the exponent of 2^k is that of infinity


@inner
def exp_in_place(n: Integer, x: Vector, power: Vector, bits: IntVector) -> None:
    """x[:n] <- e^x.

    power: work space; bits: the same memory as int64. Below -708 the result is e^-708 = 3e-308, not 0; above 709.4 and
    for nan it is infinity. Not to be called from a `reduction`: numba passes the permission to reorder sums on to what
    it calls, and k would become x / log 2 itself.
    """
    for j in range(n):
        z = x[j] if x[j] > LEAST else LEAST if x[j] <= LEAST else MOST
        z = z if z < MOST else MOST
        shifted = z * LOG2_E + TO_INTEGER
        k = shifted - TO_INTEGER
        power[j] = shifted
        r = (z - k * LN2_HIGH) - k * LN2_LOW
        s = r * (1.0 / 479001600.0) + 1.0 / 39916800.0
        s = s * r + 1.0 / 3628800.0
        s = s * r + 1.0 / 362880.0
        s = s * r + 1.0 / 40320.0
        s = s * r + 1.0 / 5040.0
        s = s * r + 1.0 / 720.0
        s = s * r + 1.0 / 120.0
        s = s * r + 1.0 / 24.0
        s = s * r + 1.0 / 6.0
        s = s * r + 0.5
        x[j] = (s * r * r + r) + 1.0
    for j in range(n):
        bits[j] = (bits[j] + 1023) << 52
    for j in range(n):
        x[j] *= power[j]
