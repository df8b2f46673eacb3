"""Calibration of the joint model on latent normals, from the table to the completed table: `python -m
tests.calibration.latent`.

Parameters are drawn from explicit priors, correlations by the onion method, tables are simulated longhand
from latent normals, cells are deleted at random and for whole clusters, and the whole of
`bi.JointLatent(...).impute(...)` runs on them. `--datasets 300` rewrites LATENT_RESULTS.md.
"""

from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import pandas as pd

import bayesimp as bi
from bayesimp import priors as pr
from tests.calibration import sbc
from tests.calibration.joint_glmm import Design, g, ranks
from tests.calibration.program import program
from tests.calibration.run import SEED

CLUSTERS = int(g.max()) + 1
# y, b, o and the two utilities of c; nan: free
ENTRIES = np.full((5, 5), np.nan)
ENTRIES[1, 1] = ENTRIES[2, 2] = 1.0
ENTRIES[3:, 3:] = [[1.0, 0.5], [0.5, 1.0]]
ETA, SD, NU = 3.0, 1.3, 4.0
PSI = pr.HuangWand(nu=4.0, scale=0.6)
BETA = pr.Normal(0.0, 0.8)


@dataclass(frozen=True)
class Latent(Design):
    """The same record for another model; `factors` are not used."""

    def model(self, frame: pd.DataFrame) -> bi.JointLatent:
        return bi.JointLatent(bi.IncompleteData(frame, "g", self.families), self.analysis, self.priors)

    @property
    def options(self) -> dict[str, int]:
        return {"thin": 1}  # `ranks` takes every so many draws itself


def correlations(rng, eta: float) -> np.ndarray:
    """R (5, 5) with density ~ |R|^(eta - 1) on the free entries.

    The block of utilities is given, and the other variables are added one by one as in the onion method (Lewandowski et
    al. 2009): with k there and d - k - 1 still to come, the squared multiple correlation is Beta(k/2, eta + (d - k -
    1)/2).
    """
    R, d = np.array([[1.0, 0.5], [0.5, 1.0]]), 5
    while (k := len(R)) < d:
        direction = rng.normal(size=k)
        q = direction / np.linalg.norm(direction) * np.sqrt(rng.beta(k / 2, eta + (d - k - 1) / 2))
        r = np.linalg.cholesky(R) @ q
        R = np.block([[np.ones((1, 1)), r[None]], [r[:, None], R]])
    return R


def mixed(rng):
    """A number, a binary, an ordinal and a nominal variable."""
    s = np.array([abs(SD * rng.standard_t(NU)), 1, 1, 1, 1])
    Sigma = correlations(rng, ETA) * np.outer(s, s)
    Psi = sbc.draw_covariance(rng, PSI, 5)
    beta = rng.normal(0.0, 0.8, (2, 5))
    cutpoint = rng.exponential()
    x = rng.normal(size=len(g))
    effects = rng.multivariate_normal(np.zeros(5), Psi, CLUSTERS, method="cholesky")[g]
    latent = np.column_stack([np.ones(len(g)), x]) @ beta + effects
    latent += rng.multivariate_normal(np.zeros(5), Sigma, len(g), method="cholesky")
    u = np.column_stack([np.zeros(len(g)), latent[:, 3:]])
    frame = pd.DataFrame({"g": g, "x": x, "y": latent[:, 0], "b": (latent[:, 1] > 0).astype(float)})
    o = (latent[:, 2] > 0).astype(int) + (latent[:, 2] > cutpoint)
    frame["o"] = pd.Categorical.from_codes(o, ["lo", "mid", "hi"], ordered=True)
    frame["c"] = pd.Categorical.from_codes(u.argmax(axis=1), ["p", "q", "r"])
    truth = {"beta": beta, "Sigma": Sigma, "Psi": Psi, "cutpoints_o": np.array([cutpoint])}
    return frame, truth


PRIORS = pr.Priors(pr.LKJ(ETA, pr.HalfT(scale=[SD, 1.0, 1.0, 1.0, 1.0], nu=NU)), PSI, BETA)
MIXED = Latent(
    "y + b + o + c ~ x + (1 | g)", {}, PRIORS, mixed, {"y": 1, "b": 2, "o": 3, "c": 4}, {"b": "bernoulli"}
)
DESIGNS = {"four families": MIXED}


# -- wrong variants ------------------------------------------------------------------------------------------


def with_rows(model, **changes):
    model.grouping = replace(
        model.grouping, table=replace(model.table, rows=model.table.rows._replace(**changes))
    )
    return model


def correlations_without_prior(model):
    restricted = model.grouping.priors.restricted_Sigma._replace(eta=0.0)
    model.grouping = replace(
        model.grouping, priors=replace(model.grouping.priors, restricted_Sigma=restricted)
    )
    return model


def bounds_ignored(model):
    """Latent values of the binary variable are never drawn: they stay at 0."""
    level = model.table.rows.level.copy()
    level[:, 1] = -1
    return with_rows(model, level=level)


def levels_of_other_rows(model):
    level = model.table.rows.level.copy()
    seen = level[:, 2] >= 0
    level[seen, 2] = np.roll(level[seen, 2], 1)
    return with_rows(model, level=level)


def effects_of_another_cluster(model):
    """Latent values are drawn with the effects of a different cluster from the one they are counted in."""
    cluster = (model.table.rows.cluster + 1) % model.table.clusters
    return with_rows(model, cluster=cluster)


def independent_utilities(model):
    start = model.grouping.priors.Sigma_start.copy()
    start[3, 4] = start[4, 3] = 0.0
    model.grouping = replace(model.grouping, priors=replace(model.grouping.priors, Sigma_start=start))
    return model


VARIANTS = {
    "correlations without their prior": correlations_without_prior,
    "bounds of a binary variable ignored": bounds_ignored,
    "levels of other rows": levels_of_other_rows,
    "effects of another cluster": effects_of_another_cluster,
    "utilities without covariance": independent_utilities,
}


def main() -> None:
    right = {name: partial(ranks, design, seed=SEED) for name, design in DESIGNS.items()}
    wrong = {
        name: lambda n, spoil=spoil: ranks(MIXED, n // 3, SEED, spoil=spoil)
        for name, spoil in VARIANTS.items()
    }
    program(
        __file__,
        "Calibration of the joint model on latent normals",
        __doc__,
        right,
        wrong,
        "a third for each spoiled model",
    )


if __name__ == "__main__":
    main()
