"""The conditional models that a joint model implies, as formulas, and the calls that add terms to it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from bayesimp.contract import Contents
from bayesimp.formulas.formula import Formula, parse
from bayesimp.formulas.predictors import addition, with_own_line
from bayesimp.formulas.syntax import Name, write

if TYPE_CHECKING:
    from bayesimp.joint.formula_model import FormulaModel

__all__ = ["call_with", "contents"]

OWN_VARIANCES = "bi.methods.Gibbs(residual='cluster')"


def contents(formula: Formula, of_clusters: Sequence[str] = ()) -> dict[str, Contents]:
    """By response: X, the other responses, their cluster means (through Psi), and the random parts shared by all.

    Cluster-level variables among the responses are their own means and have a cluster-level model.

    Means of columns of X are implied as well, but their coefficients are determined by those of the responses, so they
    are not contained freely.
    """
    groups = [f"({random.columns} | {random.group})" for random in formula.random]
    out = {}
    for name in formula.responses:
        rows, clusters = (
            [write(Name(v)) for v in formula.responses if v != name and (v in of_clusters) is part]
            for part in (False, True)
        )
        means = [f"cluster_mean({other})" for other in rows]
        if name in of_clusters:
            right = " + ".join([formula.fixed, *means, *clusters])
            out[name] = Contents(f"{write(Name(name))} ~ {right}", "of clusters")
            continue
        right = " + ".join([formula.fixed, *rows, *clusters, *means, *groups])
        out[name] = Contents(f"{write(Name(name))} ~ {right}")
    return out


def call_with(
    model: FormulaModel,
    fixed: Mapping[str, Sequence[str]],
    random: Mapping[str, Sequence[str]],
    variances: Sequence[str],
) -> str:
    """The call of the joint model with further terms if these involve complete covariates only; otherwise of FCS.

    The relations between responses of a joint normal model are linear and the same in all clusters: products and slopes
    of responses are possible in conditional models only.
    """
    formula = model.formula
    terms, slopes = (
        list(dict.fromkeys(t for each in part.values() for t in each)) for part in (fixed, random)
    )
    asked = parse(" ~ " + " + ".join(["1", *terms, *slopes])).variables
    if not variances and not any(n in formula.responses or model.data.missing(n).any() for n in asked):
        parts = []
        for old in formula.random:
            added = slopes if old.group == write(Name(model.data.cluster)) else []
            parts.append(f"({' + '.join([old.columns, *added])} | {old.group})")
        left = " + ".join(write(Name(name)) for name in formula.responses)
        again = {write(Name(name)) for name in with_own_line(terms)}  # these are columns of what is added
        own = " + ".join(part for part in formula.fixed.split(" + ") if part not in again)
        text = f"{left} ~ {' + '.join([own, *terms, *parts])}"
        return f"bi.{type(model).__name__}(data, {text!r})"
    cluster = write(Name(model.data.cluster))
    edits = {
        name: f"~ . + {addition(fixed.get(name, ()), random.get(name, ()), '1', cluster)}"
        for name in dict.fromkeys((*fixed, *random))
    }
    own = ", ".join(f"{name!r}: {OWN_VARIANCES}" for name in variances)
    return f"bi.FCS(data, {f'methods={{{own}}}, ' if own else ''}predictors={edits!r})"
