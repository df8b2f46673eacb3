"""The formula of a joint model of a whole table: what is modelled, and what is conditioned on."""

from __future__ import annotations

from bayesimp.errors import SpecificationError
from bayesimp.joint.glmm.factors import MOST_LEVELS
from bayesimp.joint.latent.variables import KINDS
from bayesimp.table.cluster_level import of_clusters
from bayesimp.table.ids import names_rows
from bayesimp.table.incomplete import IncompleteData

__all__ = ["joint_formula"]


def joint_formula(data: IncompleteData, *, latent: bool) -> str:
    """The variables of a table that vary within clusters, jointly, given the complete ones that do not.

    On the left are all variables with a family of the model, complete ones as well: their covariance between clusters is
    a part of Psi, so that no cluster means are needed to carry it. On the right are complete variables of clusters, of
    other families, and nominal ones of more than `MOST_LEVELS` levels. What merely names rows or clusters is left out.

    Parameters
    ----------
    data
        The table.
    latent
        Whether the model is `JointLatent`, which takes binary, ordinal and nominal variables, or `JointNormal`.

    Raises
    ------
    SpecificationError
        An incomplete variable that the model does not take, named with its family.
    """
    left, right, refused = [], [], []
    for name in data.variables:
        variable = data.variable(name)
        family, holes = variable.distribution, bool(data.missing(name).any())
        if not family.is_imputable:
            continue
        takes = family.name in KINDS if latent else family.is_normal
        at_cluster = of_clusters(data, name)
        if holes:
            if takes and not at_cluster:
                left.append(name)
            else:
                refused.append(f"'{name}' ({'a variable of clusters' if at_cluster else data.families[name]})")
        elif data.frame[name].nunique() > 1 and not names_rows(data, name):
            many = family.is_factor and len(variable.levels) > MOST_LEVELS
            if takes and not at_cluster and not many:
                left.append(name)
            elif not many:
                right.append(name)
    if refused or not left:
        model, kinds = (
            ("JointLatent", "normal, binary, ordinal and nominal variables")
            if latent
            else ("JointNormal", "normal variables")
        )
        raise SpecificationError(
            f"{model} imputes {kinds} that vary within clusters, and not {', '.join(refused) or 'a table without them'}: "
            "leave engine= out, or take engine='fcs', which imputes all families and levels."
        )
    responses, given = (" + ".join(f"`{name}`" for name in names) for names in (left, right))
    return f"{responses} ~ {given or '1'} + (1 | `{data.cluster}`)"
