"""Priors in words, for printed models."""

from __future__ import annotations

import numpy as np

from bayesimp import priors as pr
from bayesimp.priors.centred import Centred, centres

__all__ = ["describe"]


def describe(prior, names) -> str:
    """A resolved prior in one line; `names` (d,) label the components of the matrix."""
    match prior:
        case pr.Flat():
            return "flat"
        case pr.Normal(mean, sd):
            return f"normal, mean {_numbers(mean)}, sd {_numbers(sd)}"
        case pr.Weak(sd, intercept):
            return f"normal, sd {sd:g} for a predictor of sd 1, {intercept:g} for the intercept"
        case pr.InverseWishart(nu, V, improper):
            V = np.asarray(V)
            diagonal = np.array_equal(V, np.diag(np.diag(V)))
            equal = diagonal and np.ptp(np.diag(V)) == 0
            text = (
                f"{V[0, 0]:.4g} I" if equal else f"diag({_numbers(np.diag(V))})" if diagonal else _numbers(V)
            )
            return f"inverse-Wishart(nu = {nu:g}, V = {text})" + (", improper" if improper else "")
        case pr.HuangWand(nu=nu, scale=scale):
            correlations = ", correlations uniform" if nu == 2 and len(names) > 1 else ""
            return f"Huang-Wand, sd ~ half-t({nu:g}) of scale {_labelled(scale, names)}{correlations}"
        case pr.LKJ(eta, sd):
            return f"LKJ({eta:g}) correlations, {_sd(sd, names)}"
        case pr.Diagonal(variances=pr.InverseWishart(nu, v)):
            return f"diagonal, variances ~ IW({nu:g}, {_numbers(v)}) each"
        case pr.Diagonal(variances=sd):
            return f"diagonal, {_sd(sd, names)}"
        case pr.Fixed(value):
            return f"fixed at {_numbers(value)}"
        case Centred(inner, C):
            return f"{describe(inner, names)}, of the effects {_centre(C, names)}"
    raise TypeError(prior)


def _sd(prior, names) -> str:
    family = {
        pr.HalfT: lambda: f"half-t({prior.nu:g})", pr.HalfNormal: lambda: "half-normal",
        pr.Exponential: lambda: "exponential",
    }[type(prior)]()  # fmt: skip
    return f"sd ~ {family} of scale {_labelled(prior.scale, names)}"


def _labelled(scale, names) -> str:
    return ", ".join(f"{value:.4g} ({name})" for value, name in zip(scale, names, strict=True))


def _centre(C, names) -> str:
    """Of which effects a prior is: "of the effects at year = 2019.5"; columns are those of the first response."""
    prefix = names[0].partition(":")[0] + ":" if names[0].endswith(":Intercept") else ""
    at = ", ".join(f"{name.removeprefix(prefix)} = {value:.6g}" for name, value in centres(C, names).items())
    more = "products and powers beside what they contain" if np.any((C != 0).sum(axis=0) > 2) else ""
    return " and ".join(text for text in (at and f"at {at}", more and f"of {more}") if text)


def _numbers(values) -> str:
    return np.array2string(np.asarray(values), precision=4, separator=", ").replace("\n", "")
