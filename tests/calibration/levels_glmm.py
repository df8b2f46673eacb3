"""Calibration of the joint GLMM with several grouping factors, from the table to the completed table:
`python -m tests.calibration.levels_glmm`.

Parameters are drawn from explicit priors with SciPy. A binary x and, given it and a complete z, a response y with the
product of both, or a nominal x of three levels and a response of its levels, are simulated longhand with correlated
effects of both grouping factors, and deleted at random, in one cluster and in one group of the second factor. Ranks of
parameters, imputed cells, and of how imputed values go along with their effects are uniform if model, sampler and the
way back are right. `--datasets 40` rewrites LEVELS_GLMM_RESULTS.md.
"""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from unittest.mock import patch

import numpy as np
import pandas as pd

import bayesimp as bi
from bayesimp import priors as pr
from bayesimp.joint.glmm.levels import FurtherEffects
from tests.calibration.levels_fcs import DRAWS, GROUPS, N, g, overall, row
from tests.calibration.program import program
from tests.calibration.sbc import draw_covariance

SEED, TUNE, THIN = 2032, 100, 10
WISHART, SIGMA = pr.InverseWishart(6.0, 0.4), pr.InverseWishart(6.0, 1 / 6.0)
UNCENTRED = pr.InverseWishart(6.0, 0.4, centred=False)  # of the effects at x = 0, as they are simulated
HALF_T = pr.HuangWand(nu=6.0, scale=0.7)


@dataclass(frozen=True)
class Design:
    """The family of y, the second factor, whether y has a slope of z in the clusters, the prior of both Psi; whether y
    has a slope of x in the groups of the second factor, whether x is nominal."""

    family: str
    groups: str
    slope: bool
    prior: pr.CovariancePrior
    slope_h: bool = False
    nominal: bool = False

    @property
    def fixed(self) -> list[str]:
        """Columns of y, in the order of the truth."""
        return ["Intercept", "z", *(["x[l1]", "x[l2]"] if self.nominal else ["x", "x:z"])]


DESIGNS = {
    "normal, nested": Design("normal", "nested", False, HALF_T),
    "normal, crossed, slope": Design("normal", "crossed", True, WISHART),
    "poisson, crossed": Design("poisson", "crossed", False, HALF_T),
    "normal, crossed, slope of x in h": Design("normal", "crossed", False, UNCENTRED, slope_h=True),
    "normal, nested, nominal x": Design("normal", "nested", False, HALF_T, nominal=True),
}


def simulate(rng, design: Design) -> tuple[pd.DataFrame, dict[str, np.ndarray]]:
    """A complete table, and the truth by name of a posterior variable; repeated until x varies within groups and counts
    are small."""
    h = GROUPS[design.groups]
    while True:
        z = rng.normal(size=N)
        z = (z - z.mean()) / z.std()  # so that effects at the mean of z are those at 0
        r = 1 + design.nominal  # linear predictors of x
        beta_x, beta_y = rng.normal(0.0, 1.0, (2, r)), rng.normal(0.0, 1.0, 4)
        Psi, Psi_h = (
            draw_covariance(rng, design.prior, 1 + r + more) for more in (design.slope, design.slope_h)
        )
        b = rng.multivariate_normal(np.zeros(len(Psi)), Psi, 8, method="cholesky")[g]
        c = rng.multivariate_normal(np.zeros(len(Psi_h)), Psi_h, h.max() + 1, method="cholesky")[h]
        weights = np.exp(np.column_stack([np.ones(N), z]) @ beta_x + b[:, :r] + c[:, :r])
        below = np.column_stack([np.ones(N), weights]).cumsum(axis=1)
        x = (rng.random(N)[:, None] * below[:, -1:] > below[:, :-1]).sum(axis=1).astype(float)
        columns = (x == 1.0, x == 2.0) if design.nominal else (x, x * z)
        eta = np.column_stack([np.ones(N), z, *columns]) @ beta_y + b[:, r] + c[:, r]
        eta = eta + (b[:, 2] * z if design.slope else 0.0) + (c[:, 2] * x if design.slope_h else 0.0)
        truth = {"beta_x": beta_x, "beta_y": beta_y, "Psi_g": Psi, "Psi_h": Psi_h}
        if design.family == "normal":
            truth["sigma2_y"] = draw_covariance(rng, SIGMA, 1)[0, 0]
            y = eta + rng.normal(0, np.sqrt(truth["sigma2_y"]), N)
        else:
            y = rng.poisson(np.exp(np.minimum(eta, 12.0))).astype(float)
        lost_x, lost_y = ((rng.random(N) < 0.25) | (g == k) | (h == 3 + k) for k in (1, 2))
        within = [pd.Series(x).mask(lost_x).groupby(codes).nunique().max() > 1 for codes in (g, h)]
        if (
            all(within)
            and len(np.unique(x[~lost_x])) > r
            and len(np.unique(y[~lost_y])) > 1
            and np.abs(y).max() < 1e4
        ):
            frame = pd.DataFrame({"g": g, "h": "c" + pd.Series(h).astype(str), "z": z, "x": x, "y": y})
            return frame.assign(lost_x=lost_x, lost_y=lost_y, b=b[:, 0], c=c[:, 0]), truth


def model(design: Design, frame: pd.DataFrame) -> bi.JointGLMM:
    table = frame[["g", "h", "z"]].assign(**{k: frame[k].mask(frame[f"lost_{k}"]) for k in "xy"})
    family, fixed = ("categorical", "x + z") if design.nominal else ("bernoulli", "x * z")
    if design.nominal:
        table["x"] = table["x"].map({0.0: "l0", 1.0: "l1", 2.0: "l2"})
    data = bi.IncompleteData(table, ["g", "h"], {"x": family, "y": design.family})
    priors = pr.Priors(SIGMA, design.prior, pr.Normal(0.0, 1.0))
    formula = f"y ~ {fixed} + (1{' + z' * design.slope} | g) + (1{' + x' * design.slope_h} | h)"
    return bi.JointGLMM(data, formula, {"x": "x ~ z + (1 | g) + (1 | h)"}, priors=priors)


def quantities(
    frame: pd.DataFrame, parameters: dict[str, np.ndarray], x: np.ndarray, y: np.ndarray, effects: np.ndarray
) -> dict[str, np.ndarray]:
    """Name -> (draws,); x, y (draws, lost cells), effects (draws, lost cells of x, 2): their intercepts. A nominal x
    counts where it is the second level, and the effects are those on its predictor."""
    out = {}
    for name, a in parameters.items():
        flat = a.reshape(len(a), -1)
        out |= {f"{name}[{e}]": flat[:, e] for e in range(flat.shape[1])}
    out |= {"mean of imputed x": x.mean(1), "mean of imputed y": np.arcsinh(y).mean(1)}
    for k, name in enumerate(("g", "h")):
        out[f"imputed x by effects of {name}"] = ((x - x.mean(1)[:, None]) * effects[..., k]).mean(1)
        out[f"squares of effects of {name}"] = (effects[..., k] ** 2).mean(1)
    observed = frame["y"].mask(frame["lost_y"]).groupby(frame["h"]).transform("mean").to_numpy()
    at = np.arcsinh(observed[frame["lost_x"].to_numpy()])
    there = ~np.isnan(at)
    out["imputed x by observed y of h"] = (x[:, there] - x.mean(1)[:, None]) @ (at[there] - at[there].mean())
    return out


def model_is_nominal(made: bi.JointGLMM) -> bool:
    """Whether x is nominal."""
    return made.data.families["x"] == "categorical"


def draws(made: bi.JointGLMM, frame: pd.DataFrame, names: list[str], seed: int) -> dict[str, np.ndarray]:
    """The quantities along one chain."""
    imp = made.impute(
        DRAWS, chains=1, tune=TUNE, draws=DRAWS, thin=THIN, seed=seed, keep_effects=True, progress=False
    )
    tree, rows = imp.tree["posterior"], frame[frame["lost_x"]]
    effect = "x[l1]:Intercept" if model_is_nominal(made) else "x:Intercept"
    b, c = (tree[f"B_{k}"].sel({f"effect_{k}": effect}).isel(chain=0) for k in "gh")
    of_clusters = b.values[:, np.searchsorted(np.arange(8), rows["g"])]
    of_groups = c.sel(group_h=rows["h"].to_numpy()).values
    kept = {name: tree[name].values[0] for name in names}
    x, y = (np.array([imp.to_frame(d)[k][frame[f"lost_{k}"]] for d in range(DRAWS)]) for k in "xy")
    x = np.asarray(x == "l1" if model_is_nominal(made) else x, float)
    return quantities(frame, kept, x, y, np.stack([of_clusters, of_groups], axis=-1))


def ranks(design: Design, datasets: int, seed: int, spoil=nullcontext) -> dict[str, np.ndarray]:
    """Name -> (datasets,) ranks of the truth, 0..DRAWS; ties at random."""
    out: dict[str, list[int]] = {}
    for k in range(datasets):
        rng = np.random.default_rng([seed, k])
        frame, truth = simulate(rng, design)
        made = model(design, frame)
        y_factor = next(f for f in made.factors if f.response == "y")
        assert [column.name for column in y_factor.fixed] == design.fixed
        with spoil():
            found = draws(made, frame, list(truth), int(rng.integers(2**31)))
        true = {name: np.asarray(a, float)[None] for name, a in truth.items()}
        x, y = (frame.loc[frame[f"lost_{k}"], k].to_numpy()[None] for k in "xy")
        x = (x == 1.0).astype(float)
        right = quantities(frame, true, x, y, frame.loc[frame["lost_x"], ["b", "c"]].to_numpy()[None])
        for name, drawn in found.items():
            tie = rng.random(DRAWS) < rng.random()
            below = (drawn < right[name][0]) | ((drawn == right[name][0]) & tie)
            out.setdefault(name, []).append(int(below.sum()))
    return {name: np.array(r) for name, r in out.items()}


@contextmanager
def effects_left_out() -> Iterator[None]:
    """Missing cells are drawn as if there were no effects of the second factor."""
    combined, effects = FurtherEffects.combined, FurtherEffects.effects

    def without(self, k, level):
        return effects(self, k, level) * (level == 0)

    def wrong(self, k, cluster=None):
        with patch.object(FurtherEffects, "effects", without):
            return combined(self, k, cluster)

    with patch.object(FurtherEffects, "combined", wrong):
        yield


VARIANTS = {"effects left out of missing cells": ("normal, nested", effects_left_out)}


def main() -> None:
    right = {name: partial(ranks, design, seed=SEED) for name, design in DESIGNS.items()}
    wrong = {
        f"{name} ({of})": lambda n, of=of, spoil=spoil: ranks(DESIGNS[of], 2 * n, SEED, spoil)
        for name, (of, spoil) in VARIANTS.items()
    }
    program(
        __file__,
        "Calibration of the joint GLMM with several grouping factors",
        __doc__,
        right,
        wrong,
        "twice as many for each spoiled model",
        overall,
        row,
        40,
    )


if __name__ == "__main__":
    main()
