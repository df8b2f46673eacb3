"""Grids of priors."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from bayesimp import priors as pr
from bayesimp.errors import SpecificationError

__all__ = ["default_grid", "named"]


def default_grid(contextual: bool = False) -> dict[str, pr.Priors]:
    """The priors that `sensitivity` uses if none are given; all but the last two have the default prior of beta.

    contextual: whether the model has contextual effects (`bayesimp.priors.Contextual`; `FCS.has_contextual`), and the
    last two therefore differ from the first.

    ``default``
        Half-t(2) standard deviations with the scale of each variable, correlations uniform.
    ``IW(1, 1)``, ``IW(1.6, 1)``, ``IW(5, 1)``
        Kunkel & Kaizar (2017), simulation 5: each variance between clusters ~ IW(nu, 1), increasingly
        concentrated near 1 / (nu + 2) in the squared unit of the data; Sigma as in R mice (`priors.iw`).
    ``pan``, ``jomo``
        The defaults of these R packages; pan's is IW(1, 1) by another name.
    ``LKJ(2)``
        Correlations shrunk a little towards zero, half-t(3) standard deviations with the scale of each variable, for
        Sigma and Psi. Not conjugate, hence sampled by NUTS.
    ``contextual 0.3``, ``contextual 1.2``
        Half and twice the default's scale of contextual effects.
    """
    lkj = pr.Priors(pr.LKJ(2.0), pr.LKJ(2.0), name="LKJ(2)")
    grid = [pr.default(), pr.iw(1.0), pr.iw(1.6), pr.iw(5.0), pr.pan(), pr.jomo(), lkj]
    grid = [replace(priors, beta=pr.Contextual()) for priors in grid]
    if contextual:
        half, twice = (factor * pr.Contextual().scale for factor in (0.5, 2.0))
        grid += [
            pr.Priors(beta=pr.Contextual(scale), name=f"contextual {scale:g}") for scale in (half, twice)
        ]
    return {priors.name: priors for priors in grid}


def named(priors: Mapping[str, pr.Priors | str] | Iterable[pr.Priors | str]) -> dict[str, pr.Priors]:
    """Priors by name; a string is the name of a preset."""
    if isinstance(priors, str):
        priors = [priors]
    made = priors.items() if isinstance(priors, Mapping) else [("", p) for p in priors]
    pairs = [(name, pr.read(p) if isinstance(p, str) else p) for name, p in made]
    if not isinstance(priors, Mapping):
        pairs = [(getattr(p, "name", "?"), p) for _, p in pairs]
    if not pairs:
        raise SpecificationError("priors is empty; omit it for the default grid (default_grid).")
    names = [name for name, _ in pairs]
    for name, prior in pairs:
        if not isinstance(prior, pr.Priors):
            raise SpecificationError(
                f"prior {name!r} is a {type(prior).__name__}; expected priors.Priors(Sigma=..., Psi=..., beta=...)."
            )
        if not name or "/" in name or names.count(name) > 1:
            raise SpecificationError(
                f"prior {name!r}: names must be distinct, not empty and without '/'; the names are "
                f"{', '.join(map(repr, names))}."
            )
    return {name: replace(prior, name=name) for name, prior in pairs}
