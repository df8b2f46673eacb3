"""Requirements of this package, checked on the machine where it is installed: `bayesimp verify`.

Every requirement has an id, a text, a source and a check that needs nothing but the package. A check compares numbers
with limits, and where it compares distributions it has a wrong variant that must fail: a check that cannot fail says
nothing.
"""

from bayesimp.verification.records import Outcome, Requirement, Verification, verify
from bayesimp.verification.requirements import REQUIREMENTS

__all__ = ["REQUIREMENTS", "Outcome", "Requirement", "Verification", "verify"]
