"""The requirements of this package, checked on the machine where it is installed: `bayesimp verify`.

Every requirement has an id, a text, a source and a check that needs only the package. A check compares numbers with
limits; where it compares distributions, it includes a wrong variant that must fail, because a check that cannot fail says
nothing.
"""

from bayesimp.verification.records import Outcome, Requirement, Verification, verify
from bayesimp.verification.requirements import REQUIREMENTS

__all__ = ["REQUIREMENTS", "Outcome", "Requirement", "Verification", "verify"]
