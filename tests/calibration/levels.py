"""Calibration of the joint normal model with several grouping factors, from the table to the completed table: `python -m
tests.calibration.levels`.

Parameters are drawn from explicit priors with SciPy, tables are simulated longhand with the effects of every factor,
cells are deleted at random and for whole clusters, and the whole of `bi.JointNormal(...).impute(...)` runs on them:
ranks of beta, Sigma, every Psi and imputed cells are uniform if kernels, chains, scales and the way back are right.
`--datasets 300` rewrites LEVELS_RESULTS.md.
"""

from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import pandas as pd

import bayesimp as bi
from bayesimp import priors as pr
from tests.calibration import sbc
from tests.calibration.joint_glmm import CLUSTERS, Design, g, ranks
from tests.calibration.program import program
from tests.calibration.run import SEED

N = len(g)
SIGMA = pr.InverseWishart(6.0, 1 / 6.0)
HALF_T = pr.HuangWand(nu=4.0, scale=0.7)
WISHART = pr.InverseWishart(6.0, 0.5, centred=False)
DIAGONAL = pr.Diagonal(pr.HalfT(nu=4.0, scale=0.6))
BETA = pr.Normal(0.0, 1.0)
CLASSES = {"nested": 3 * g + np.arange(N) % 3, "crossed": np.arange(N) * 5 % 7}


@dataclass(frozen=True)
class Levels(Design):
    """The same record for another model; `factors` are the cluster columns."""

    def model(self, frame: pd.DataFrame) -> bi.JointNormal:
        data = bi.IncompleteData(frame, ["g", *self.factors])
        return bi.JointNormal(data, self.analysis, self.priors)


def effects(rng, prior, codes, Z) -> tuple[np.ndarray, np.ndarray]:
    """Psi from its prior, and (N, 2) the contributions of its effects to two responses."""
    q = Z.shape[1]
    Psi = sbc.draw_covariance(rng, prior, 2 * q)
    b = rng.multivariate_normal(np.zeros(2 * q), Psi, codes.max() + 1, method="cholesky")
    return Psi, np.einsum("nq,nrq->nr", Z, b.reshape(-1, 2, q)[codes])


def simulated(rng, prior_g, further) -> tuple[pd.DataFrame, dict[str, np.ndarray]]:
    """further: name -> (codes, prior, whether it has a slope)."""
    x, ones = rng.normal(size=N), np.ones((N, 1))
    beta, Sigma = rng.normal(size=(2, 2)), sbc.draw_covariance(rng, SIGMA, 2)
    Psi, Y = effects(rng, prior_g, g, ones)
    truth = {"beta": beta, "Sigma": Sigma, "Psi_g": Psi}
    frame = pd.DataFrame({"g": g, "x": x})
    for name, (codes, prior, slope) in further.items():
        Z = np.column_stack([ones, x]) if slope else ones
        truth[f"Psi_{name}"], added = effects(rng, prior, codes, Z)
        Y = Y + added
        frame[name] = "c" + pd.Series(codes).astype(str)
    Y = Y + np.column_stack([ones, x]) @ beta
    Y += rng.multivariate_normal(np.zeros(2), Sigma, N, method="cholesky")
    return frame.assign(z=Y[:, 0], y=Y[:, 1]), truth


def nested(rng):
    """Classes within schools, both with half-t standard deviations."""
    return simulated(rng, HALF_T, {"h": (CLASSES["nested"], HALF_T, False)})


def crossed(rng):
    """Crossed, another prior for each factor, a slope on the second."""
    return simulated(rng, HALF_T, {"h": (CLASSES["crossed"], WISHART, True)})


def three(rng):
    """Nested and crossed at once: classes within schools, and occasions."""
    return simulated(
        rng, WISHART, {"h": (CLASSES["nested"], DIAGONAL, False), "t": (np.arange(N) % 5, HALF_T, False)}
    )


def priors(first, **others) -> pr.Priors:
    return pr.Priors(SIGMA, first, BETA, Psi_of=others)


HOLES = {"z": 1, "y": 3}
DESIGNS = {
    "nested": Levels("z + y ~ x + (1 | g) + (1 | h)", {"h": ""}, priors(HALF_T), nested, HOLES),
    "crossed": Levels(
        "z + y ~ x + (1 | g) + (1 + x | h)", {"h": ""}, priors(HALF_T, h=WISHART), crossed, HOLES
    ),
    "nested and crossed": Levels(
        "z + y ~ x + (1 | g) + (1 | h) + (1 | t)", {"h": "", "t": ""}, priors(WISHART, h=DIAGONAL, t=HALF_T),
        three, HOLES,
    ),
}  # fmt: skip


# -- wrong variants ------------------------------------------------------------------------------------------
# These are variants of the sampler. Variants between its draws and the completed table hardly change ranks of cells in
# tables of 64 rows; tests/joint/levels/test_posterior.py detects them by the exact distribution.


def with_table(model, **changes):
    model.grouping = replace(model.grouping, table=replace(model.grouping.table, **changes))
    return model


def parents_of_other_groups(model):
    """Classes are eliminated into the rows of other schools."""
    chains = model.grouping.table.chains
    return with_table(model, chains=chains._replace(parent=np.roll(chains.parent, CLUSTERS // 2)))


def priors_exchanged(model):
    """The prior of one factor is taken for that of the other."""
    own = model.grouping.working_priors.Psi_of
    exchanged = dict(zip(own, reversed(own.values()), strict=True))
    model.grouping = replace(
        model.grouping, working_priors=replace(model.grouping.working_priors, Psi_of=exchanged)
    )
    return model


def degrees_of_freedom_off(model):
    """Psi of classes is drawn with r q degrees of freedom too many."""
    own = dict(model.grouping.working_priors.Psi_of)
    own["h"] = replace(own["h"], nu=own["h"].nu + 4)
    model.grouping = replace(
        model.grouping, working_priors=replace(model.grouping.working_priors, Psi_of=own)
    )
    return model


VARIANTS = {
    "parents of other groups": ("nested", parents_of_other_groups),
    "priors of factors exchanged": ("nested and crossed", priors_exchanged),
    "degrees of freedom of Psi off by r q": ("crossed", degrees_of_freedom_off),
}


def main() -> None:
    right = {name: partial(ranks, design, seed=SEED) for name, design in DESIGNS.items()}
    wrong = {
        f"{name} ({of})": lambda n, of=of, spoil=spoil: ranks(DESIGNS[of], n // 3, SEED, spoil=spoil)
        for name, (of, spoil) in VARIANTS.items()
    }
    program(
        __file__,
        "Calibration of the joint normal model with several grouping factors",
        __doc__,
        right,
        wrong,
        "a third for each spoiled model",
    )


if __name__ == "__main__":
    main()
