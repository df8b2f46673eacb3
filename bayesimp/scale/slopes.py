"""Where a prior of slopes does something that its user may not expect: events about them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from bayesimp import priors as pr
from bayesimp.events import Event
from bayesimp.priors.centred import centres
from bayesimp.scale.effects import EffectScale

__all__ = ["check_slopes"]

Array = NDArray[np.float64]
FAR = 0.1  # of the variance of a response: what a prior at a far origin adds to that of the intercepts before it is said
ALIKE = 0.99  # share of a centred column that the others explain, above which the prior decides between them


def check_slopes(
    prior: pr.CovariancePrior,
    scale: EffectScale,
    s: Array,
    clusters: int,
    where: str,
    random: Sequence[str],
    Z_c: Array,
    columns: Sequence[str] | None = None,
) -> list[Event]:
    """Events if the prior lies far from the data, or alone tells slopes apart.

    Parameters
    ----------
    prior
        Of the covariance of the effects, in the units of the data.
    scale
        Of the effects.
    s
        (r,) standard deviations of the responses, or (d,) that of the response of each effect.
    clusters
        Their number.
    where
        Name of the covariance.
    random
        (q,) names of the columns of Z.
    Z_c
        (n, q) centred columns.
    columns
        Names of the columns of Z_c, if these are not all of Z.
    """
    far = _far_from_origin(prior, scale, s, clusters, where, random)
    return far + _alike(Z_c, random if columns is None else columns, where)


def _far_from_origin(
    prior: pr.CovariancePrior, scale: EffectScale, s: Array, clusters: int, where: str, random: Sequence[str]
) -> list[Event]:
    """An event if an inverse-Wishart prior at the table's origin determines effects far from it.

    IW(nu, V) adds V^-1 to the sum of squares of the effects, hence (C^-1 V^-1 C^-T)_00 at the centre, where V^-1_00 was
    meant.
    """
    L = prior.squares_at_origin()
    if L is None or not scale.is_centred:
        return []
    more = np.diagonal(scale.at_centre(L) - L) / clusters
    s = np.repeat(s, len(more) // len(s))
    worst = int(np.argmax(more / s**2))
    if more[worst] <= FAR * s[worst] ** 2:
        return []
    far = centres(scale.C, random)
    zero = " and ".join(f"{name} = 0" for name in far)
    means = ", ".join(f"{name} = {centre:.6g}" for name, centre in far.items())
    text = (
        f"the inverse-Wishart prior is that of effects at {zero}; at the mean of the data, {means}, it adds "
        f"{more[worst]:.3g} to the variance between clusters of a variable whose variance is {s[worst] ** 2:.3g}. Centre "
        "the column in the table, or leave out centred=False"
    )
    return [Event("prior matters", where, text, clusters)]


def _alike(Z_c: Array, names: Sequence[str], where: str) -> list[Event]:
    """An event if slopes are on columns that, once centred, are nearly combinations of each other.

    An example is x and its square made in the table, far from 0: nothing says that one contains the other.
    """
    varying = np.flatnonzero(np.ptp(Z_c, axis=0) > 0) if len(Z_c) else np.array([], dtype=np.int64)
    if len(varying) < 2:
        return []
    own = Z_c[:, varying] - Z_c[:, varying].mean(axis=0)
    own /= np.sqrt((own**2).sum(axis=0))
    explained = 1.0 - 1.0 / np.diagonal(np.linalg.inv(own.T @ own + 1e-12 * np.eye(len(varying))))
    near = [names[l] for l, share in zip(varying, explained, strict=True) if share > ALIKE]
    if not near:
        return []
    most = np.floor(1e4 * explained.max()) / 100
    text = (
        f"random slopes on {', '.join(map(repr, near))}: given the intercept, the others explain up to {most:g} % of a "
        "column, and the prior leaves almost no variance to what distinguishes their slopes. Write powers and products "
        "in the formula, I(x**2) and x:w, where they are recognised; or centre in the table what they are made of"
    )
    return [Event("prior matters", where, text, len(near))]
