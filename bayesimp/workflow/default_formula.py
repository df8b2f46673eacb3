"""The formula of a joint model of a whole table: what is modelled, and what is conditioned on."""

from __future__ import annotations

from dataclasses import dataclass

from bayesimp.joint.glmm.factors import MOST_LEVELS
from bayesimp.joint.latent.variables import KINDS
from bayesimp.table.cluster_level import of_clusters
from bayesimp.table.ids import names_rows
from bayesimp.table.incomplete import IncompleteData

__all__ = ["Sides", "joint_formula", "sides"]


@dataclass(frozen=True)
class Sides:
    """Which side of the formula of a joint model a variable of the table is on.

    Attributes
    ----------
    left
        Modelled: they vary within clusters, and have a family of the model.
    right
        Complete, and conditioned on: variables of clusters and of other families.
    refused
        Incomplete, and not in the model's reach.
    of_clusters
        Those of `refused` that have one value in every cluster.
    complete
        Complete ones that vary within clusters, on either side.
    left_out
        Complete ones on neither side: they do not vary, name rows, or are nominal with many levels.
    """

    left: tuple[str, ...]
    right: tuple[str, ...]
    refused: tuple[str, ...]
    of_clusters: tuple[str, ...]
    complete: tuple[str, ...]
    left_out: tuple[str, ...]

    def holes(self, name: str) -> bool:
        """Whether a variable is incomplete, and to be imputed."""
        return name in self.refused or (name in self.left and name not in self.complete)


def sides(data: IncompleteData, *, latent: bool) -> Sides:
    """The variables of a table that vary within clusters, jointly, given the complete ones that do not.

    On the left are complete variables as well: their covariance between clusters is a part of Psi, so that no cluster
    means are needed to carry it. What merely names rows or clusters or does not vary is left out, and so are complete
    nominal variables of more than `MOST_LEVELS` levels, as in `JointGLMM`.

    Parameters
    ----------
    data
        The table.
    latent
        Whether the model is `JointLatent`, which takes binary, ordinal and nominal variables, or `JointNormal`.
    """
    left, right, refused, at_cluster, complete, left_out = [], [], [], [], [], []
    for name in data.variables:
        variable = data.variable(name)
        family, holes = variable.distribution, bool(data.missing(name).any())
        if not family.is_imputable:
            continue
        many = family.is_factor and len(variable.levels) > MOST_LEVELS
        if not holes and (many or data.frame[name].nunique() < 2 or names_rows(data, name)):
            left_out.append(name)
            continue
        within = not of_clusters(data, name)
        takes = within and (family.name in KINDS if latent else family.is_normal)
        (left if takes else refused if holes else right).append(name)
        if holes and not within:
            at_cluster.append(name)
        if within and not holes:
            complete.append(name)
    made = (left, right, refused, at_cluster, complete, left_out)
    return Sides(*(tuple(names) for names in made))


def joint_formula(data: IncompleteData, *, latent: bool) -> str:
    """The formula of `sides`, with random intercepts: ``"x1 + x2 + y ~ region + (1 | study)"``."""
    found = sides(data, latent=latent)
    responses, given = (" + ".join(f"`{name}`" for name in names) for names in (found.left, found.right))
    return f"{responses} ~ {given or '1'} + (1 | `{data.cluster}`)"
