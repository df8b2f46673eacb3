"""Joint imputation by sites that may not share rows: they release cross products and share draws of the parameters.

    site          export_site    rows        -> SiteRelease      counts and cross products of cells that are large enough
    coordinator   combine        releases    -> FederatedRun     draws of beta, Sigma and Psi of the joint normal model
    site          complete_site  parameters  -> CompletedSite    m completed tables, which stay at the site

The posterior is that of `bayesimp.JointNormal` given all released rows. docs/howto/federated.md says what a release
reveals and what is withheld.
"""

from bayesimp.federated.agreement import Agreement
from bayesimp.federated.complete import CompletedSite, complete_site
from bayesimp.federated.export import export_site
from bayesimp.federated.parameters import SharedParameters, read_parameters
from bayesimp.federated.release import SiteRelease, read_release
from bayesimp.federated.run import FederatedRun, combine

__all__ = [
    "Agreement", "CompletedSite", "FederatedRun", "SharedParameters", "SiteRelease", "combine", "complete_site",
    "export_site", "read_parameters", "read_release",
]  # fmt: skip
