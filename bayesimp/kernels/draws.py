"""Random matrices, normals given their precision, and truncated normals for the kernels.

The generator, the first argument, is the only randomness.
"""

from __future__ import annotations

import math

import numpy as np

from bayesimp.kernels.compiled import inner, kernel
from bayesimp.kernels.linalg import cholesky, copy_to, solve_lower, solve_lower_t
from bayesimp.notation import Integer, Matrix, Vector

__all__ = [
    "draw_by_factor",
    "draw_by_precision",
    "draw_inverse_wishart",
    "draw_wishart_identity",
    "noise_by_factor",
    "truncated_normal",
    "truncated_normals",
]

FARTHEST = 1e100  # sds to a bound: the squares of larger numbers overflow


@inner
def _bartlett(rng: np.random.Generator, df: float | np.int64, A: Matrix, n: Integer) -> None:
    """Fill the lower triangle of A: A_jj^2 ~ chi2(df - j), A_ij ~ N(0, 1) below, so that A A' ~ Wishart(df, I)."""
    for i in range(n):
        A[i, i] = math.sqrt(2.0 * rng.standard_gamma(0.5 * (df - i)))
        for j in range(i):
            A[i, j] = rng.standard_normal()


@inner
def draw_inverse_wishart(rng: np.random.Generator, df: float, scale: Matrix, out: Matrix, n: int) -> bool:
    """out ~ IW(df, scale): density |S|^-(df+n+1)/2 exp(-tr(scale S^-1)/2). Returns False if scale is not p.d.

    Bartlett: scale = L L', A lower triangular with A_jj^2 ~ chi2(df - j), A_ij ~ N(0, 1) below;
    S = F F' with F = L A^-T, so that S^-1 = L^-T A A' L^-1 ~ Wishart(df, scale^-1).
    """
    L = np.empty((n, n))
    copy_to(L, scale)
    if not cholesky(L, n):
        return False
    A = np.empty((n, n))
    _bartlett(rng, df, A, n)
    F = np.empty((n, n))
    # F A' = L is solved for the columns of F, starting with the first: (F A')_ij = sum_{k<=j} F_ik A_jk
    for i in range(n):
        for j in range(n):
            s = L[i, j] if j <= i else 0.0
            for k in range(j):
                s -= F[i, k] * A[j, k]
            F[i, j] = s / A[j, j]
    for i in range(n):
        for j in range(i + 1):
            s = 0.0
            for k in range(n):
                s += F[i, k] * F[j, k]
            out[i, j] = s
            out[j, i] = s
    return True


@inner
def draw_wishart_identity(rng: np.random.Generator, df: Integer, out: Matrix, n: Integer) -> None:
    """out <- out + W, W = V'V with V (df, n) standard normal: Wishart(df, I), singular when df < n."""
    if df < n:
        v = np.empty(n)
        for _ in range(df):
            for i in range(n):
                v[i] = rng.standard_normal()
            for i in range(n):
                for j in range(n):
                    out[i, j] += v[i] * v[j]
        return
    A = np.empty((n, n))
    _bartlett(rng, df, A, n)
    for i in range(n):
        for j in range(n):
            s = 0.0
            for k in range(min(i, j) + 1):
                s += A[i, k] * A[j, k]
            out[i, j] += s


@inner
def noise_by_factor(rng: np.random.Generator, L: Matrix, out: Vector, d: int) -> None:
    """out (d,) <- a draw from N(0, H^-1), H = L L'."""
    for a in range(d):
        out[a] = rng.standard_normal()
    solve_lower_t(L, out, d)


@inner
def draw_by_factor(rng: np.random.Generator, L: Matrix, t: Vector, d: int) -> None:
    """t (d,) <- a draw from N(H^-1 t, H^-1), H = L L': L^-T (L^-1 t + z) with z standard normal."""
    solve_lower(L, t, d)
    for a in range(d):
        t[a] += rng.standard_normal()
    solve_lower_t(L, t, d)


@inner
def draw_by_precision(rng: np.random.Generator, H: Matrix, t: Vector, d: int) -> bool:
    """t (d,) <- a draw from N(H^-1 t, H^-1); H (lower triangle) becomes its Cholesky factor. False if H is not p.d."""
    if not cholesky(H, d):
        return False
    draw_by_factor(rng, H, t, d)
    return True


@inner
def truncated_normal(rng: np.random.Generator, mean: float, sd: float, lower: float, upper: float) -> float:
    """An exact normal draw between two bounds (Robert 1995), by rejection from the best envelope.

    The envelope is the normal itself if the interval contains the mean; otherwise an exponential starting at the nearer
    bound, or a uniform if the interval is short. Returns nan if the mean or sd is not finite, or if the bounds are so
    many sds away that the draw cannot be distinguished from the nearer bound.
    """
    a, b = (lower - mean) / sd, (upper - mean) / sd
    flip = b < 0.0
    if flip:
        a, b = -b, -a
    if not (a <= b and a < FARTHEST and b > -FARTHEST and abs(mean) < math.inf and sd < math.inf):
        return math.nan
    x = 0.0
    if a <= 0.0 and b - a > 2.0:
        x = rng.standard_normal()
        while x < a or x > b:
            x = rng.standard_normal()
    elif a > 0.0 and (b - a) * (a + math.sqrt(a * a + 4.0)) > 4.0:
        rate = 0.5 * (a + math.sqrt(a * a + 4.0))
        while True:
            x = a + rng.standard_exponential() / rate
            if x <= b and rng.random() <= math.exp(-0.5 * (x - rate) ** 2):
                break
    else:
        nearest = a if a > 0.0 else 0.0
        while True:
            x = a + (b - a) * rng.random()
            if rng.random() <= math.exp(0.5 * (nearest - x) * (nearest + x)):
                break
    y = mean - sd * x if flip else mean + sd * x
    return min(max(y, lower), upper)  # round-off


@kernel(nogil=True)
def truncated_normals(
    rng: np.random.Generator, mean: Vector, sd: Vector, lower: Vector, upper: Vector, out: Vector
) -> None:
    """out (n,) <- `truncated_normal` at mean, sd, lower, upper (n,)."""
    for j in range(out.size):
        out[j] = truncated_normal(rng, mean[j], sd[j], lower[j], upper[j])
