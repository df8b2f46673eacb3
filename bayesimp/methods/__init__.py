"""Conditional models of one variable (or block) given all others, as records: how FCS imputes it.

    y = X* beta + Z* b + e,    b_i ~ N(0, Psi),    e ~ N(0, sigma^2)        Kunkel & Kaizar 2017, sec. 2.3

    Bayes, IW    Gibbs      posterior draws; the library's prior, or Kunkel & Kaizar's inverse-Wishart
    ML           ML         maximum likelihood estimates drawn from their asymptotic normal law (sec. 2.3.1)
    PyMC         NUTS       any prior, or a model of the user's own
    Norm, PMM    no b       ignore the clusters; for comparison

Variables that are not normal have generalised models, g(E y) = X* beta + Z* b (Jolani 2025, sec. 2.4):

    Bayes        MCMC       posterior draws; every family
    MLMI         fits       Laplace fit as proposal, effects from their exact conditional; or as published
    TwoStage     clusters   a regression in each cluster, then a meta-analysis of them (Resche-Rigon & White 2018)
    Stratified   no Psi     cluster indicators as fixed effects
    SingleLevel  no b       logistic, ordinal, multinomial, Poisson regression that ignores the clusters
    PyMC         NUTS       as above

    ClusterLevel            variables of clusters, imputed once a cluster from the means of its rows

A compatible model has cluster means of the other variables among the columns of X*.
"""

from __future__ import annotations

from bayesimp.methods.names import (
    IW,
    ML,
    MLMI,
    PMM,
    Bayes,
    ClusterLevel,
    Gibbs,
    Method,
    Norm,
    PyMC,
    SingleLevel,
    Stratified,
    TwoStage,
    from_mice,
    ignores_clusters,
    read,
    with_priors,
)

__all__ = [
    "Bayes",
    "ClusterLevel",
    "Gibbs",
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
    "read",
    "with_priors",
]


def __dir__() -> list[str]:
    return __all__
