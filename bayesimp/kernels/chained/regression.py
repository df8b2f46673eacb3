"""One variable given all others, ignoring clusters: Bayesian linear regression and predictive mean matching.

With beta_hat the least-squares fit on the n rows where y is observed, RSS its residual sum of squares, and the
prior p(beta, log sigma) constant (Rubin 1987, example 5.1; mice's `norm`, without its ridge):

    sigma^2 | y          ~ RSS / chi2(n - p)
    beta | sigma^2, y    ~ N(beta_hat, sigma^2 (X'X)^-1)
    y_mis                ~ N(x' beta, sigma^2)                             `norm`
    y_mis                = y of a donor                                    predictive mean matching

Coefficients of columns that are combinations of earlier columns keep their values, in beta_hat and in beta; the others
are drawn given these, on n - rank(X) degrees of freedom.

A donor of a missing value is one of the k observed rows whose x' beta_hat is nearest to the x' beta of the missing
row, each with probability 1/k (matching of type 1: van Buuren 2018, sec. 3.4.2). Rows tied with the k-th nearest
share its place: with c rows nearer and t at that distance, each of the c has probability 1/k and each of the t has
(k - c) / (k t). The distribution, and the use of the generator, depend only on the pairs (x' beta_hat, y), not on
their order.
"""

from __future__ import annotations

import numpy as np

from bayesimp.kernels.compiled import inner, kernel
from bayesimp.kernels.linalg import copy_to, semidefinite_cholesky, solve_lower, solve_lower_t
from bayesimp.notation import IntVector, Matrix, Vector

__all__ = ["draw_regression", "match"]

DEPENDENT = 1e-12  # a column is dependent if earlier columns leave a smaller share of its square
EXACT = 1e-13  # share of y'y left by an exact fit, as round-off


@kernel(nogil=True)
def draw_regression(
    rng: np.random.Generator,
    XX: Matrix,
    XY: Vector,
    YY: float,
    n: int,
    beta_hat: Vector,
    beta: Vector,
    held: IntVector,
) -> tuple[float, int]:
    """Draw (beta, sigma^2) from their posterior under p(beta, log sigma) constant.

    Parameters
    ----------
    XX, XY, YY
        (p, p), (p,), number: X'X, X'y, y'y of the n rows in which y is observed, standardised.
    beta_hat, beta
        (p,): the least-squares fit and the draw, written; held coefficients in beta are read.
    held
        (p,) int64: incremented for every coefficient that is held.

    Returns
    -------
    (sigma2, code); code 0: no failure, 2: n <= rank, 3: an exact fit, which has no residual variance.
    """
    p = XY.size
    L = np.empty((p, p))
    copy_to(L, XX)
    rank = semidefinite_cholesky(L, p, DEPENDENT, p)
    if n <= rank:
        return np.nan, 2
    for x in range(p):
        beta_hat[x] = XY[x]
    total = YY if rank == p else _less_held(L, XX, XY, YY, beta, beta_hat)
    solve_lower(L, beta_hat, p)
    rss = total
    for x in range(p):
        rss -= beta_hat[x] ** 2
    if not rss > EXACT * total:
        return np.nan, 3
    sigma2 = 0.5 * rss / rng.standard_gamma(0.5 * (n - rank))
    drawn = np.empty(p)
    for x in range(p):
        drawn[x] = beta_hat[x] + np.sqrt(sigma2) * rng.standard_normal()
    solve_lower_t(L, beta_hat, p)
    solve_lower_t(L, drawn, p)
    for x in range(p):
        if L[x, x] < 0.0:
            beta_hat[x] = beta[x]
            held[x] += 1
        else:
            beta[x] = drawn[x]
    return sigma2, 0


@inner
def _less_held(L: Matrix, XX: Matrix, XY: Vector, YY: float, beta: Vector, Xy: Vector) -> float:
    """Return y'y, and Xy <- X'y, of y minus the columns whose coefficients in beta are held, which are not in L.

    L <- the factor of the other columns, with -1 on the diagonal for these.
    """
    p, total = beta.size, YY
    for x in range(p):
        if L[x, x] != 0.0:
            continue
        total -= 2.0 * beta[x] * XY[x]
        for y in range(p):
            product = (XX[x, y] if x > y else XX[y, x]) * beta[x]
            if L[y, y] == 0.0:
                total += product * beta[y]
            Xy[y] -= product
    for x in range(p):
        if L[x, x] == 0.0:
            for y in range(x):
                L[x, y] = 0.0
            L[x, x], Xy[x] = -1.0, 0.0
    return total


@kernel(nogil=True)
def match(
    rng: np.random.Generator,
    predicted_observed: Vector,
    values_observed: Vector,
    predicted_missing: Vector,
    donors: int,
    out: Vector,
) -> None:
    """out (M,) <- values of donors by predictive mean matching, in time (n + M) log n + M donors.

    predicted_observed, values_observed (n,): x' beta_hat and y of the observed rows; predicted_missing (M,):
    x' beta of the missing ones; donors: k >= 1, or n if that is less.
    """
    n = predicted_observed.size
    k = min(donors, n)
    by_value = np.argsort(values_observed, kind="mergesort")
    predicted = np.empty(n)
    for j in range(n):
        predicted[j] = predicted_observed[by_value[j]]
    order = np.argsort(predicted, kind="mergesort")  # stable: rows tied in prediction stay in order of value
    values = np.empty(n)
    for j in range(n):
        predicted[j] = predicted_observed[by_value[order[j]]]
        values[j] = values_observed[by_value[order[j]]]
    for j in range(predicted_missing.size):
        out[j] = values[_donor(rng, predicted, predicted_missing[j], k)]


@inner
def _donor(rng: np.random.Generator, predicted: Vector, at: float, k: int) -> int:
    """Index, among sorted predictions (n,), of a donor for the prediction `at`: one of the k nearest."""
    n = predicted.size
    low = _first(predicted, at, 0.0, False)
    high = low
    for _ in range(k):  # the k nearest are low..high-1
        if high == n or (low > 0 and at - predicted[low - 1] <= predicted[high] - at):
            low -= 1
        else:
            high += 1
    distance = max(at - predicted[low], predicted[high - 1] - at)
    tied = _first(
        predicted, at, -distance, False
    )  # tied, nearer, tied: found by bisection, because there may be many ties
    nearer = _first(predicted, at, -distance, True)
    c = max(_first(predicted, at, distance, False) - nearer, 0)
    t = _first(predicted, at, distance, True) - tied - c
    u = int(k * rng.random())
    if u < c:
        return nearer + u
    place = tied + int(t * rng.random())
    return place if place < nearer else place + c


@inner
def _first(predicted: Vector, at: float, bound: float, strict: bool) -> int:
    """First j with predicted[j] - at >= bound (or > bound), else n. Ties are judged by the same difference."""
    low, high = 0, predicted.size
    while low < high:
        middle = (low + high) // 2
        gap = predicted[middle] - at
        if gap > bound or (gap == bound and not strict):
            high = middle
        else:
            low = middle + 1
    return low
