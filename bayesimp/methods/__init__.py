"""Conditional models of one variable (or block) given all others, as records that say how FCS imputes it.

    y = X* beta + Z* b + e,    b_i ~ N(0, Psi),    e ~ N(0, sigma^2)        Kunkel & Kaizar 2017, sec. 2.3

Non-normal variables have generalised models, g(E y) = X* beta + Z* b (Jolani 2025, sec. 2.4). `Bayes`, `IW`,
`ML`, `PyMC` and `MLMI` are multilevel models; `TwoStage` fits each cluster separately; `ClusterLevel` is for variables
that have a single value in each cluster; `Stratified`, `Norm`, `SingleLevel` and `PMM` are there for comparison.

In a compatible model the columns of X* include cluster means of the other variables.
"""

from __future__ import annotations

from bayesimp.methods.base import Method
from bayesimp.methods.cluster_level import ClusterLevel
from bayesimp.methods.gibbs import IW, Bayes, Gibbs
from bayesimp.methods.heckman import Heckman
from bayesimp.methods.mice import from_mice
from bayesimp.methods.ml import ML
from bayesimp.methods.mlmi import MLMI
from bayesimp.methods.names import ignores_clusters, markdown, read, table, with_priors
from bayesimp.methods.pymc import PyMC
from bayesimp.methods.single_level import PMM, Norm, SingleLevel
from bayesimp.methods.stratified import Stratified
from bayesimp.methods.two_stage import TwoStage

__all__ = [
    "Bayes",
    "ClusterLevel",
    "Gibbs",
    "Heckman",
    "IW",
    "ML",
    "MLMI",
    "Method",
    "Norm",
    "PMM",
    "PyMC",
    "SingleLevel",
    "Stratified",
    "TwoStage",
    "from_mice",
    "ignores_clusters",
    "markdown",
    "read",
    "table",
    "with_priors",
]

__doc__ += f"\nWhat each can do (`table`):\n\n{markdown()}\n"  # help(bayesimp.methods) shows it


def __dir__() -> list[str]:
    return __all__
