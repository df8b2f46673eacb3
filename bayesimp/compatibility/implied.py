"""The conditional model of one variable in one cluster that the joint normal model implies.

Let k be the variable, o the others, G = Z'Z and R_o = Y_o - X beta_o. The joint model

    Y = X beta + Z B + E,   rows of E ~ N(0, Sigma),   vec(B) ~ N(0, Psi)

implies, for any r and q,

    y_k = X beta_k + R_o w + Z C vec(Z'R_o) + Z u + e,   rows of e ~ N(0, s),   u ~ N(0, T)

    w = Sigma_oo^-1 Sigma_ok                               slopes on the row values of the others
    s = Sigma_kk - Sigma_ko w                              residual variance
    K = Psi_ko - (w' kron I) Psi_oo                        = Cov(b_k - B_o w, vec B_o)
    C = K [Sigma_oo kron I + (I kron G) Psi_oo]^-1         slopes on the cluster's sums Z'R_o
    T = Psi_kk - (w' kron I) Psi_ok - K (w kron I) - C (I kron G) K'

since y_k - X beta_k = R_o w + Z (b_k - B_o w) + e with e independent of the others, and b_k - B_o w, which
has covariance K with vec(B_o), is regressed on Z'R_o, of covariance (I kron G) [Sigma_oo kron I + Psi_oo
(I kron G)]. No inverse of Psi or G is taken: a variance may be zero, and Z constant within a cluster.

C and T depend on the cluster through G. For r = 2 and a random intercept, where G = n, these are Kunkel & Kaizar's eq.
7-8, with a minus sign in the last line where the printed text has a plus.

Covariates enter through R_o. With X written out,

    E(y_k | Y_o) = X (beta_k - beta_o w) + Y_o w + Z C vec(Z'Y_o) - Z C vec(Z'X beta_o),

so a compatible conditional model also has Z'X among its columns: the cluster means of all covariates that vary within
clusters, besides those of all other variables. They may be left out only if C or beta_o is zero, or if Z'X / n is the
same in all clusters or already a column of X.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bayesimp.arguments import broadcast, numbers, whole
from bayesimp.errors import SpecificationError
from bayesimp.layout import Record

__all__ = ["Conditional", "contextual_bound", "implied_conditional"]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Conditional(Record):
    """A conditional model of variable k given the others, in the order of the joint model.

    Leading dimensions (...) are draws and clusters, broadcast.

    Attributes
    ----------
    k
        The variable, 0 .. r-1.
    within
        (..., r-1) w: slopes on the others' row values.
    contextual
        (..., q, r-1, q) C[l, j, h]: slope on (column l of Z) x (sum over the cluster of column h of Z times
        variable j).
    residual_variance
        (...) s.
    effect_covariance
        (..., q, q) T.
    ZZ
        (..., q, q) Z'Z of the cluster.
    n
        (...) number of rows of the cluster, None if unknown.
    """

    k: int
    within: Array
    contextual: Array
    residual_variance: Array
    effect_covariance: Array
    ZZ: Array
    n: Array | None = None

    def contextual_on_means(self) -> Array:
        """Slopes (..., q, r-1, q) on the cluster's means Z'Y_o / n instead of its sums.

        Raises
        ------
        SpecificationError
            The number of rows is unknown.
        """
        if self.n is None:
            raise SpecificationError("Slopes on cluster means need n=, the number of rows of each cluster.")
        return self.contextual * np.asarray(self.n)[..., None, None, None]

    def contextual_on_lines(self) -> Array:
        """Slopes (..., q, r-1, q) on the cluster's own least-squares coefficients, (Z'Z)^-1 Z'Y_o.

        For a random intercept these are the slopes on means. With random slopes they vary less over clusters than
        slopes on means do, since only their shrinkage depends on the cluster's rows of Z.
        """
        return self.contextual @ self.ZZ[..., None, :, :]

    def fixed_effects(self, beta: ArrayLike) -> tuple[Array, Array]:
        """Coefficients of X and of its sums Z'X in the conditional model.

        Parameters
        ----------
        beta
            (..., p, r) fixed effects of the joint model.

        Returns
        -------
        on_rows
            (..., p) beta_k - beta_o w.
        on_sums
            (..., q, q, p) [l, h, x], coefficient of (column l of Z) x (sum over the cluster of column h of Z times
            column x of X): minus C applied to beta_o.
        """
        beta = numbers(beta, "beta", ("p", self.within.shape[-1] + 1), leading=True)
        broadcast("beta and the conditional model", beta.shape[:-2], self.within.shape[:-1])
        others = np.delete(beta, self.k, axis=-1)
        on_rows = beta[..., self.k] - np.einsum("...xj,...j->...x", others, self.within)
        return on_rows, -np.einsum("...ljh,...xj->...lhx", self.contextual, others)


def implied_conditional(
    Sigma: ArrayLike, Psi: ArrayLike, k: int = 0, *, n: ArrayLike | None = None, ZZ: ArrayLike | None = None
) -> Conditional:
    """The conditional model of variable k given all others, implied by (Sigma, Psi); equations in the module docstring.

    Parameters
    ----------
    Sigma, Psi
        Covariance matrices of the joint model, (..., r, r) and (..., r q, r q).
    k
        The variable, 0 .. r-1.
    n
        (...) number of rows of the cluster; sufficient for random intercepts (q = 1, Z = 1).
    ZZ
        (..., q, q) Z'Z of the cluster, for random slopes. Leading dimensions are broadcast: with Sigma (draws, 1, r, r)
        and n (m,), results are by draw and cluster.

    Raises
    ------
    SpecificationError
        Shapes do not match, neither n nor ZZ is given, k is out of range, or there is only one variable.

    Notes
    -----
    For r = 2 and random intercepts these are eq. 7-8 of Kunkel & Kaizar (2017), with a sign corrected.
    """
    Sigma = numbers(Sigma, "Sigma", ("r", "r"), leading=True)
    Psi = numbers(Psi, "Psi", ("r q", "r q"), leading=True)
    r, q = _sizes(Sigma, Psi)
    k = whole(k, "k, the position of a variable,", 0, r - 1)
    G = _gram(n, ZZ, q)
    broadcast("Sigma, Psi and n or ZZ", Sigma.shape[:-2], Psi.shape[:-2], G.shape[:-2])
    o = np.delete(np.arange(r), k)
    e_k, e_o = k * q + np.arange(q), (o[:, None] * q + np.arange(q)).ravel()
    S_oo, S_ok = Sigma[..., o[:, None], o], Sigma[..., o, k]
    P_kk, P_ko, P_oo = (Psi[..., a[:, None], b] for a, b in ((e_k, e_k), (e_k, e_o), (e_o, e_o)))

    try:
        w = np.linalg.solve(S_oo, S_ok[..., None])[..., 0]
    except np.linalg.LinAlgError:
        raise SpecificationError(
            f"Sigma of the variables other than {k} is singular: within clusters one is a linear combination of others."
        ) from None
    s = Sigma[..., k, k] - (S_ok * w).sum(-1)
    w_I = _kron_identity(w[..., None, :], q)  # w' kron I, (q, (r-1) q)
    I_G = _identity_kron(G, r - 1)
    K = P_ko - w_I @ P_oo
    C = _t(np.linalg.solve(_t(_kron_identity(S_oo, q) + I_G @ P_oo), _t(K)))
    T = P_kk - w_I @ _t(P_ko) - K @ _t(w_I) - C @ I_G @ _t(K)
    T = (T + _t(T)) / 2
    return Conditional(
        k, w, C.reshape(*C.shape[:-1], r - 1, q), s, T, G, None if n is None else numbers(n, "n")
    )


def contextual_bound(effect_variance: ArrayLike, sigma: ArrayLike, psi: ArrayLike, n: ArrayLike) -> Array:
    """Largest slope on the cluster sum that a joint model of two variables allows (random intercepts).

    |C| < sqrt( T psi / (sigma (n psi + sigma)) ), where psi = Psi_oo and sigma = Sigma_oo are those of the other
    variable and T is the variance of the intercept given it. Beyond the bound Psi is not positive definite (Kunkel &
    Kaizar 2017, eq. 13). A flat prior on C ignores it.
    """
    given = {"effect_variance": effect_variance, "sigma": sigma, "psi": psi, "n": n}
    T, sigma, psi, n = (numbers(value, what) for what, value in given.items())
    broadcast(", ".join(given), T.shape, sigma.shape, psi.shape, n.shape)
    for what, least in (
        ("effect_variance", T.min()),
        ("sigma", sigma.min()),
        ("psi", psi.min()),
        ("n", n.min()),
    ):
        if least < 0 or (what in ("sigma", "n") and least == 0):
            raise SpecificationError(f"{what} must be positive, got values down to {least:g}.")
    return np.sqrt(T * psi / (sigma * (n * psi + sigma)))


def _sizes(Sigma: Array, Psi: Array) -> tuple[int, int]:
    r, rq = Sigma.shape[-1], Psi.shape[-1]
    if rq == 0 or r == 0 or rq % r:
        raise SpecificationError(
            f"Sigma must be (..., r, r) and Psi (..., r q, r q); got {Sigma.shape} and {Psi.shape}."
        )
    if r < 2:
        raise SpecificationError("A conditional model needs at least two variables; Sigma is 1 x 1.")
    return r, rq // r


def _gram(n: ArrayLike | None, ZZ: ArrayLike | None, q: int) -> Array:
    """Z'Z (..., q, q); for a random intercept it is n."""
    if ZZ is None:
        if n is None or q > 1:
            raise SpecificationError(
                f"Psi has {q} effects for each variable: give "
                + (
                    "n=, the numbers of rows of the clusters."
                    if q == 1
                    else "ZZ=, Z'Z of the clusters (..., q, q)."
                )
            )
        return numbers(n, "n")[..., None, None]
    G = numbers(ZZ, "ZZ")
    if G.shape[-2:] != (q, q):
        raise SpecificationError(
            f"ZZ must be (..., {q}, {q}), as Psi has {q} effects per variable; got {G.shape}."
        )
    return G


def _t(A: Array) -> Array:
    return A.swapaxes(-1, -2)


def _kron_identity(A: Array, q: int) -> Array:
    """A kron I_q over the last two dimensions."""
    a, b = A.shape[-2:]
    return (A[..., :, None, :, None] * np.eye(q)[:, None, :]).reshape(*A.shape[:-2], a * q, b * q)


def _identity_kron(G: Array, times: int) -> Array:
    """I kron G over the last two dimensions."""
    q = G.shape[-1]
    return (np.eye(times)[:, None, :, None] * G[..., None, :, None, :]).reshape(
        *G.shape[:-2], times * q, times * q
    )
