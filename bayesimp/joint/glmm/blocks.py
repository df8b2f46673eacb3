"""Blocks of effects of a joint GLMM, each with a covariance matrix of its own.

    level 0            b_ki of the clusters                              Psi
    level s = 1 ..     c_skg of the groups of a further grouping factor  Psi_s

Effects of different levels are independent. Within a level, those of all factors have one matrix, or (separate) each
factor has its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bayesimp import notation as nt
from bayesimp.joint.glmm.factors import Factor

__all__ = ["EffectsBlock", "blocks_of", "places_of", "tree_name"]


@dataclass(frozen=True)
class EffectsBlock:
    """Effects with one covariance matrix.

    Attributes
    ----------
    level
        See the module docstring.
    factors, sizes
        The factors whose effects they are, and how many each has.
    end
        With which the names of its variables end: ``Psi<end>``.
    """

    level: int
    factors: tuple[int, ...]
    sizes: tuple[int, ...]
    end: str

    @property
    def size(self) -> int:
        """The number of effects."""
        return sum(self.sizes)

    def labels(self, factors: Sequence[Factor]) -> list[str]:
        """Names of the effects: ``"y:Intercept"``."""
        return [label for k in self.factors for label in factors[k].effect_names(self.level)]


def tree_name(factor: Factor) -> str:
    """The suffix of the variables of a factor."""
    return nt.in_tree(factor.response)


def blocks_of(
    factors: Sequence[Factor], separate: bool, cluster: str = "", further: Sequence[str] = ()
) -> list[EffectsBlock]:
    """The blocks, those of the clusters first, some perhaps empty.

    cluster, further: labels of the grouping factors, with which names end where there are several.
    """
    out = []
    for level, label in enumerate((cluster, *further)):
        sizes = [len(factor.effect_names(level)) for factor in factors]
        every = range(len(factors))
        for group in [(k,) for k in every] if separate else [tuple(every)]:
            own = f"_{tree_name(factors[group[0]])}" if separate else ""
            end = f"_{nt.in_tree(label)}{own}" if further else own
            out.append(EffectsBlock(level, group, tuple(sizes[k] for k in group), end))
    return out


def places_of(blocks: Sequence[EffectsBlock]) -> list[dict[int, tuple[int, int]]]:
    """By level and factor: the block of its effects, and their first position in it."""
    out: list[dict[int, tuple[int, int]]] = [{} for _ in range(1 + max(block.level for block in blocks))]
    for b, block in enumerate(blocks):
        at = 0
        for k, size in zip(block.factors, block.sizes, strict=True):
            out[block.level][k] = b, at
            at += size
    return out
