"""Response families, and columns of a table as numbers."""

from bayesimp.families.record import Auxiliary, Family, Support
from bayesimp.families.registry import FAMILIES, family_of, register

__all__ = ["FAMILIES", "Auxiliary", "Family", "Support", "family_of", "register"]
