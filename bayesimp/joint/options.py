"""Options of runs that joint models share."""

from __future__ import annotations

from bayesimp.errors import SpecificationError

__all__ = ["draws_per_imputation"]


def draws_per_imputation(m: int, chains: int, thin: int, draws: int, tune: int | None = None) -> int:
    """Draws between two imputations from the same chain, if m imputations come from evenly spaced draws of all chains.

    Raises
    ------
    SpecificationError
        An option is not a whole number or is too small, or there are fewer draws than imputations.
    """
    for name, value, least in [
        ("m", m, 1), ("chains", chains, 1), ("thin", thin, 1), ("draws", draws, 1), ("tune", tune, 0),
    ]:  # fmt: skip
        if value is not None and (int(value) != value or value < least):
            raise SpecificationError(f"{name} must be an integer of at least {least}, got {value!r}.")
    per_chain = -(-m // chains)
    if draws < per_chain:
        raise SpecificationError(
            f"{m} imputations from {chains} chains need at least {per_chain} draws per chain, got draws={draws}."
        )
    return draws // per_chain
