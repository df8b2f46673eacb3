"""Calibration of `JointLatent` with several grouping factors, from the table to the completed table: `python -m
tests.calibration.latent_levels`.

Parameters are drawn from explicit priors with SciPy, tables are simulated longhand with the effects of two factors,
crossed or nested, and a variable of the groups of each; cells are deleted at random and for whole clusters (variables of
groups by group), and the whole of `bi.JointLatent(...).impute(...)` runs on them. It rewrites
LATENT_LEVELS_RESULTS.md, which is of `--datasets 24`: too few for two of the wrong variants, which the exact law of
`tests/joint/latent/test_levels.py` rejects. With more they are rejected here too: "effects of other combinations" at
2.2e-8 with 80 data sets (`--only "effects of other combinations" --datasets 160`; with 150, some table makes this wrong
sampler fail, Psi no longer being positive definite), "numbers of other groups" at 4.4e-15 with 150 (`--only "numbers of
other groups" --datasets 300`).
"""

from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import pandas as pd
from scipy.stats import invwishart

import bayesimp as bi
from bayesimp import priors as pr
from tests.calibration.joint_glmm import CLUSTERS, Design, g, ranks
from tests.calibration.latent_clusters import given_block, scale_of
from tests.calibration.levels import CLASSES
from tests.calibration.program import program
from tests.calibration.run import SEED

N, NU = len(g), 11.0
BETA = pr.Normal(0.0, 0.8)


@dataclass(frozen=True)
class Levels(Design):
    """The same record for another model; `groups` says of which factor a variable is one."""

    def model(self, frame: pd.DataFrame) -> bi.JointLatent:
        data = bi.IncompleteData(frame, ["g", "h"], self.families)
        return bi.JointLatent(data, self.analysis, self.priors)

    @property
    def options(self) -> dict[str, int]:
        return {"thin": 1}  # `ranks` takes every so many draws itself


def simulated(rng, codes):
    """Row-level y and b; k, binary, of the clusters g; s, a number, of the groups h."""
    own = given_block(invwishart(NU, scale_of(3)).rvs(random_state=rng), np.eye(1))
    other = invwishart(NU, scale_of(3)).rvs(random_state=rng)
    rho, sd = rng.uniform(-1, 1), abs(rng.standard_t(4.0))  # LKJ(1) of two variables
    Sigma = np.array([[sd * sd, sd * rho], [sd * rho, 1.0]])
    beta, gamma_g, gamma_h = rng.normal(0.0, 0.8, (2, 2)), rng.normal(0.0, 0.8), rng.normal(0.0, 0.8)
    x = rng.normal(size=N)
    a = rng.multivariate_normal(np.zeros(3), own, CLUSTERS, method="cholesky")
    c = rng.multivariate_normal(np.zeros(3), other, codes.max() + 1, method="cholesky")
    E = rng.multivariate_normal(np.zeros(2), Sigma, N, method="cholesky")
    Y = np.column_stack([np.ones(N), x]) @ beta + a[g, :2] + c[codes, :2] + E
    frame = pd.DataFrame({"g": g, "x": x, "y": Y[:, 0], "b": (Y[:, 1] > 0).astype(float)})
    frame["k"] = (gamma_g + a[g, 2] > 0).astype(float)
    frame["s"] = gamma_h + c[codes, 2]
    frame["h"] = "c" + pd.Series(codes).astype(str)
    truth = {"beta": beta, "Sigma": Sigma, "Psi_g": own, "Psi_h": other}
    return frame, truth | {"beta_g": np.array([[gamma_g]]), "beta_h": np.array([[gamma_h]])}


def nested(rng):
    return simulated(rng, CLASSES["nested"])


def crossed(rng):
    return simulated(rng, CLASSES["crossed"])


WISHART = pr.InverseWishart(NU, np.linalg.inv(scale_of(3)))
PRIORS = pr.Priors(pr.LKJ(1.0, pr.HalfT(scale=[1.0, 1.0], nu=4.0)), WISHART, BETA)
PARTS = (
    "y + b + k + s ~ x + (1 | g) + (1 | h)", {}, PRIORS, {"y": 1, "b": 2, "k": None, "s": None},
    {"b": "bernoulli", "k": "bernoulli"}, ("k", "s"),
)  # fmt: skip
DESIGNS = {
    name: Levels(*PARTS[:3], simulate, *PARTS[3:], groups={"s": "h"})
    for name, simulate in {"nested": nested, "crossed": crossed}.items()
}


# -- wrong variants ------------------------------------------------------------------------------------------


def with_groups(model, **changes):
    table = model.grouping.table
    model.grouping = replace(model.grouping, table=replace(table, groups=replace(table.groups, **changes)))
    return model


def classes_of_other_rows(model):
    """Latent values and missing cells of rows are drawn with the effects of other combinations of groups."""
    rows = model.grouping.table.rows
    table = replace(model.grouping.table, rows=rows._replace(cluster=np.roll(rows.cluster, N // 3)))
    model.grouping = replace(model.grouping, table=table)
    return model


def missing_taken_for_zero(model):
    """Variables of groups count as observed, at their mean, where they are missing."""
    record = model.grouping.table.groups.record
    patterns = record.level.patterns.copy()
    for a, s in enumerate(record.factor):
        patterns[a, record.member[record.member_at[s] : record.member_at[s + 1]]] = True
    return with_groups(model, record=record._replace(level=record.level._replace(patterns=patterns)))


def numbers_of_other_groups(model):
    groups = model.grouping.table.groups
    V, first = groups.V.copy(), groups.record.first
    V[first[1] : first[2], -1] = np.roll(V[first[1] : first[2], -1], 1)
    return with_groups(model, V=V)


def priors_exchanged(model):
    """The fixed entry of Psi_g, and its prior given this entry, are those of Psi_h."""
    own = model.grouping.priors
    for_kernel = own.for_kernel

    def swapped(record, at):
        return record._replace(**{
            name: np.concatenate([a[len(a) // 2 :], a[: len(a) // 2]])
            for name, a in record._asdict().items() if name != at
        })  # fmt: skip

    changed = for_kernel._replace(
        free=swapped(for_kernel.free, "sd_at"), restricted=swapped(for_kernel.restricted, "")
    )
    model.grouping = replace(model.grouping, priors=replace(own, for_kernel=changed))
    return model


VARIANTS = {
    "effects of other combinations": ("crossed", classes_of_other_rows),
    "missing values of groups taken for means": ("crossed", missing_taken_for_zero),
    "numbers of other groups": ("crossed", numbers_of_other_groups),
    "priors of factors exchanged": ("nested", priors_exchanged),
}


def spoiled(name: str, datasets: int, seed: int) -> dict[str, np.ndarray]:
    """Ranks of a wrong variant."""
    design, spoil = VARIANTS[name]
    return ranks(DESIGNS[design], datasets, seed, spoil=spoil)


def main() -> None:
    right = {name: partial(ranks, design, seed=SEED) for name, design in DESIGNS.items()}
    wrong = {
        f"{name} ({design})": lambda n, name=name: spoiled(name, n // 2, SEED)
        for name, (design, _) in VARIANTS.items()
    }
    program(
        __file__,
        "Calibration of the joint model on latent normals with several grouping factors",
        __doc__,
        right,
        wrong,
        "half for each spoiled model",
    )


if __name__ == "__main__":
    main()
