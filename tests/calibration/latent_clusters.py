"""Calibration of `JointLatent` with cluster-level variables, and with a residual covariance in each cluster: `python -m
tests.calibration.latent_clusters`.

Parameters are drawn from explicit priors with SciPy, tables are simulated longhand, cells are deleted at random and for
whole clusters (cluster-level variables by cluster), and the whole of `bi.JointLatent(...).impute(...)` runs on them.
`--datasets 300` rewrites LATENT_CLUSTERS_RESULTS.md.
"""

from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import pandas as pd
from scipy.stats import invwishart

import bayesimp as bi
from bayesimp import priors as pr
from tests.calibration import sbc
from tests.calibration.joint_glmm import CLUSTERS, Design, g, ranks
from tests.calibration.program import program
from tests.calibration.run import SEED

BETA = pr.Normal(0.0, 0.8)


@dataclass(frozen=True)
class Latent(Design):
    """The same record for another model; `factors` are not used."""

    residual: str = "common"

    def model(self, frame: pd.DataFrame) -> bi.JointLatent:
        data = bi.IncompleteData(frame, "g", self.families)
        return bi.JointLatent(data, self.analysis, self.priors, residual=self.residual)

    @property
    def options(self) -> dict[str, int]:
        return {"thin": 1}  # `ranks` takes every so many draws itself


# -- cluster-level variables: a number s, and k with two or three levels ------------------------------------------

NU = 11.0  # of the inverse-Wishart prior of Psi


def scale_of(d: int) -> np.ndarray:
    """(d, d) its scale as in SciPy, with effects and cluster-level variables correlated."""
    return 5.0 * (0.25 * np.eye(d) + 0.75 * np.ones((d, d)))


def given_block(S: np.ndarray, block: np.ndarray) -> np.ndarray:
    """An inverse-Wishart draw S given that its last rows and columns are `block`.

    S_22 is independent of (S_12 S_22^-1, S_11 - S_12 S_22^-1 S_21), so that these stay.
    """
    n = len(S) - len(block)
    G = np.linalg.solve(S[n:, n:], S[n:, :n]).T
    rest = S[:n, :n] - G @ S[n:, :n]
    return np.block([[rest + G @ block @ G.T, G @ block], [block @ G.T, block]])


def of_clusters(rng, levels: int):
    """Row-level y and b; cluster-level s and k, with a cluster-level covariate z."""
    block = 0.5 * (np.eye(levels - 1) + 1)
    d = 3 + levels - 1
    Psi = given_block(invwishart(NU, scale_of(d)).rvs(random_state=rng), block)
    rho = rng.uniform(-1, 1)  # LKJ(1) of two variables
    s = abs(rng.standard_t(4.0))
    Sigma = np.array([[s * s, s * rho], [s * rho, 1.0]])
    beta, gamma = rng.normal(0.0, 0.8, (3, 2)), rng.normal(0.0, 0.8, (2, levels))
    x, z = rng.normal(size=len(g)), rng.normal(size=CLUSTERS)
    a = rng.multivariate_normal(np.zeros(d), Psi, CLUSTERS, method="cholesky")
    E = rng.multivariate_normal(np.zeros(2), Sigma, len(g), method="cholesky")
    Y = np.column_stack([np.ones(len(g)), x, z[g]]) @ beta + a[g, :2] + E
    v = np.column_stack([np.ones(CLUSTERS), z]) @ gamma + a[:, 2:]
    u = np.column_stack([np.zeros(CLUSTERS), v[:, 1:]]).argmax(axis=1)
    frame = pd.DataFrame(
        {"g": g, "x": x, "z": z[g], "y": Y[:, 0], "b": (Y[:, 1] > 0).astype(float), "s": v[g, 0]}
    )
    frame["k"] = pd.Categorical.from_codes(u[g], list("pqr"[:levels]))
    return frame, {"beta": beta, "Sigma": Sigma, "Psi": Psi, "beta_clusters": gamma}


def priors(levels: int) -> pr.Priors:
    Psi = pr.InverseWishart(NU, np.linalg.inv(scale_of(2 + levels)))
    return pr.Priors(pr.LKJ(1.0, pr.HalfT(scale=[1.0, 1.0], nu=4.0)), Psi, BETA)


FORMULA = "y + b + s + k ~ x + z + (1 | g)"
HOLES, WHOLE, FAMILIES = {"y": 1, "b": 2, "s": 3, "k": 4}, ("s", "k"), {"b": "bernoulli"}


def two_levels(rng):
    return of_clusters(rng, 2)


def three_levels(rng):
    return of_clusters(rng, 3)


BINARY = Latent(FORMULA, {}, priors(2), two_levels, HOLES, FAMILIES | {"k": "bernoulli"}, WHOLE)
NOMINAL = Latent(FORMULA, {}, priors(3), three_levels, HOLES, FAMILIES, WHOLE)

# -- a residual covariance in each cluster -----------------------------------------------------------------------

NU_S, SCALE_S, SPREAD = 6.0, 4.0, 0.5
PSI = pr.HuangWand(nu=4.0, scale=0.6)


def unlike(rng):
    """Two numbers, Sigma_i ~ IW(a + 1, a S)."""
    S = invwishart(NU_S, SCALE_S * np.eye(2)).rvs(random_state=rng)
    a = 2.0 / (SPREAD * rng.normal()) ** 2
    Psi = sbc.draw_covariance(rng, PSI, 2)
    beta, x = rng.normal(0.0, 0.8, (2, 2)), rng.normal(size=len(g))
    b = rng.multivariate_normal(np.zeros(2), Psi, CLUSTERS, method="cholesky")
    Sigma = np.array([invwishart(a + 1.0, a * S).rvs(random_state=rng) for _ in range(CLUSTERS)])
    E = np.einsum("jkl,jl->jk", np.linalg.cholesky(Sigma)[g], rng.normal(size=(len(g), 2)))
    Y = np.column_stack([np.ones(len(g)), x]) @ beta + b[g] + E
    frame = pd.DataFrame({"g": g, "x": x, "y": Y[:, 0], "w": Y[:, 1]})
    return frame, {"beta": beta, "Sigma": S, "Psi": Psi, "likeness": np.array(a)}


UNLIKE = Latent(
    "y + w ~ x + (1 | g)", {}, pr.Priors(pr.InverseWishart(NU_S, 1 / SCALE_S), PSI, BETA), unlike, {"y": 1, "w": 2},
    residual="cluster",
)  # fmt: skip


def unlike_with_levels(rng):
    """Two numbers and k with three levels: Sigma_i ~ IW(a + 3, a S) given that its block of k is that of S."""
    block = 0.5 * (np.eye(2) + 1)
    S = given_block(invwishart(NU, scale_of(4)).rvs(random_state=rng), block)
    a = 2.0 / (SPREAD * rng.normal()) ** 2
    Psi = sbc.draw_covariance(rng, PSI, 4)
    beta, x = rng.normal(0.0, 0.8, (2, 4)), rng.normal(size=len(g))
    b = rng.multivariate_normal(np.zeros(4), Psi, CLUSTERS, method="cholesky")
    law = invwishart(a + 3.0, a * S)
    Sigma = np.array([given_block(law.rvs(random_state=rng), block) for _ in range(CLUSTERS)])
    E = np.einsum("jkl,jl->jk", np.linalg.cholesky(Sigma)[g], rng.normal(size=(len(g), 4)))
    Y = np.column_stack([np.ones(len(g)), x]) @ beta + b[g] + E
    u = np.column_stack([np.zeros(len(g)), Y[:, 2:]]).argmax(axis=1)
    frame = pd.DataFrame({"g": g, "x": x, "y": Y[:, 0], "w": Y[:, 1]})
    frame["k"] = pd.Categorical.from_codes(u, list("pqr"))
    return frame, {"beta": beta, "Sigma": S, "Psi": Psi, "likeness": np.array(a)}


WITH_LEVELS = Latent(
    "y + w + k ~ x + (1 | g)", {}, pr.Priors(pr.InverseWishart(NU, np.linalg.inv(scale_of(4))), PSI, BETA),
    unlike_with_levels, {"y": 1, "w": 2, "k": 3}, residual="cluster",
)  # fmt: skip
DESIGNS = {
    "binary variable of clusters": BINARY,
    "nominal variable of clusters": NOMINAL,
    "unlike residuals": UNLIKE,
    "unlike residuals with levels": WITH_LEVELS,
}


# -- wrong variants ------------------------------------------------------------------------------------------


def with_clusters(model, **changes):
    clusters = model.table.of_clusters
    level = clusters.level._replace(**changes)
    model.grouping = replace(
        model.grouping, table=replace(model.table, of_clusters=replace(clusters, level=level))
    )
    return model


def values_of_the_other_sign(model):
    """Deviations of a cluster-level number from its regression have the wrong sign."""
    clusters = model.table.of_clusters
    V = clusters.V.copy()
    V[:, 2] *= -1
    model.grouping = replace(model.grouping, table=replace(model.table, of_clusters=replace(clusters, V=V)))
    return model


def missing_taken_for_zero(model):
    """Cluster-level variables count as observed, at their mean, where they are missing."""
    patterns = np.ones_like(model.table.of_clusters.level.patterns)
    return with_clusters(model, patterns=patterns)


def variance_not_fixed(model):
    prior = model.grouping.priors.restricted_Psi
    free = prior._replace(free_sd=np.ones_like(prior.free_sd))
    model.grouping = replace(model.grouping, priors=replace(model.grouping.priors, restricted_Psi=free))
    return model


def levels_of_other_clusters(model):
    rows = model.table.of_clusters.level.rows
    level = rows.level.copy()
    seen = level[:, -1] >= 0
    level[seen, -1] = np.roll(level[seen, -1], 1)
    return with_clusters(model, rows=rows._replace(level=level))


def covariates_of_other_clusters(model):
    rows = model.table.of_clusters.level.rows
    return with_clusters(model, rows=rows._replace(X=np.roll(rows.X, 1, axis=0)))


def one_covariance(model):
    """The residuals of all clusters have the same covariance."""
    common = bi.JointLatent(model.data, model.formula.text, model.priors)
    return common


def prior_of_other_likeness(model):
    model.grouping = replace(model.grouping, priors=replace(model.grouping.priors, spread=0.1))
    return model


def prior_of_another_typical_covariance(model):
    """The scale of its prior is 20 times as large."""
    restricted = model.grouping.priors.restricted_Sigma
    other = restricted._replace(scale=20 * restricted.scale)
    model.grouping = replace(model.grouping, priors=replace(model.grouping.priors, restricted_Sigma=other))
    return model


VARIANTS = {
    "values of the other sign": (BINARY, values_of_the_other_sign),
    "missing values of clusters taken for means": (BINARY, missing_taken_for_zero),
    "latent variance of clusters not fixed": (BINARY, variance_not_fixed),
    "levels of other clusters": (BINARY, levels_of_other_clusters),
    "covariates of other clusters": (BINARY, covariates_of_other_clusters),
    "one residual covariance": (UNLIKE, one_covariance),
    "another prior of likeness": (UNLIKE, prior_of_other_likeness),
    "another prior of the typical covariance": (UNLIKE, prior_of_another_typical_covariance),
    "another prior of likeness, with levels": (WITH_LEVELS, prior_of_other_likeness),
}


def main() -> None:
    right = {name: partial(ranks, design, seed=SEED) for name, design in DESIGNS.items()}
    wrong = {
        name: lambda n, design=design, spoil=spoil: ranks(design, n // 2, SEED, spoil=spoil)
        for name, (design, spoil) in VARIANTS.items()
    }
    program(
        __file__,
        "Calibration of cluster-level variables and of residual covariances of clusters",
        __doc__,
        right,
        wrong,
        "half for each spoiled model",
    )


if __name__ == "__main__":
    main()
