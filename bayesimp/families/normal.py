"""The normal family, and the family of columns that are not imputed.

    normal    y = eta + e,    e ~ N(0, sigma^2)

Its conditional models are functions of cross products (`bayesimp.kernels.chained`), not of rows, and its PyMC model has
the cluster effects integrated out (`bayesimp.models.conditional_normal`), so that there is no node for its response.
"""

from __future__ import annotations

from bayesimp.families.record import NOTHING, REAL, Family
from bayesimp.kernels.families import codes

__all__ = ["NONE", "NORMAL"]

# five degrees of freedom are left for the residual variance of a cluster
NORMAL = Family(
    "normal", "any number", REAL, {"identity": codes.NORMAL}, ("gaussian",),
    spare_rows=5, fitted_by="linear", glmm_name="gaussian",
)  # fmt: skip
NONE = Family("none", "not imputed", NOTHING, {})
