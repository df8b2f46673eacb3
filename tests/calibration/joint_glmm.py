"""Calibration of the joint GLMM from the table to the completed table: `python -m tests.calibration.joint_glmm`.

Parameters are drawn from explicit priors with SciPy, tables are simulated longhand, cells are deleted, and the whole of
`bi.JointGLMM(...).impute(...)` runs on them: ranks of parameters, of imputed cells, and of their association with the
response of the analysis are uniform if kernels, columns, scales and the way back to the table are right. `--datasets 300`
rewrites JOINT_GLMM_RESULTS.md.
"""

import argparse
import platform
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from subprocess import run
from unittest.mock import patch

import numpy as np
import pandas as pd
from scipy.special import expit

import bayesimp as bi
from bayesimp import priors as pr
from bayesimp.joint.glmm import summed
from bayesimp.joint.glmm import table as joint_table
from tests.calibration import sbc
from tests.calibration.run import LEVEL, SEED, row

DRAWS = sbc.DRAWS
CLUSTERS, ROWS = 8, 8
g = np.repeat(np.arange(CLUSTERS), ROWS)


@dataclass(frozen=True)
class Design:
    """A joint GLMM with known priors.

    simulate: rng -> complete table, name of a posterior variable -> its true value, in the units of the data.
    holes: variable -> the cluster in which it is never observed (None: none); a quarter of other cells is missing too.
    limits: variable -> lower and upper limit of detection; the column ``<variable>_is`` says where one applies.
    order: of the factors, where the numbers of missing values would decide between several; Psi is in it.
    groups: variables of the groups of another column than the clusters, with that column.
    fewest: rows of a cluster from which effects are drawn with missing levels summed out.
    """

    analysis: str
    factors: dict[str, str]
    priors: pr.Priors
    simulate: Callable[[np.random.Generator], tuple[pd.DataFrame, dict[str, np.ndarray]]]
    holes: dict[str, int | None]
    families: dict[str, str] = field(default_factory=dict)
    whole: tuple[str, ...] = ()  # cluster-level variables, deleted by clusters
    limits: dict[str, tuple[float, float]] = field(default_factory=dict)
    order: tuple[str, ...] = ()
    groups: dict[str, str] = field(default_factory=dict)
    fewest: int = summed.FEWEST

    def model(self, frame: pd.DataFrame) -> bi.JointGLMM:
        data = bi.IncompleteData(frame, "g", self.families)
        with units_of_the_data():
            return bi.JointGLMM(
                data, self.analysis, self.factors, priors=self.priors, order=self.order or None
            )

    @property
    def options(self) -> dict[str, int]:
        """Options of `impute` in addition to those of `ranks`."""
        return {}


@contextmanager
def units_of_the_data() -> Iterator[None]:
    """Student-t, Yeo-Johnson and inverse Gaussian variables are not standardised, so no prior depends on the data."""
    responses = joint_table._responses

    def without(data, factors, V, places, known=None):
        Y, center, unit = responses(data, factors, V, places, known)
        for k, factor in enumerate(factors):
            if factor.family.name in ("student", "yeo_johnson", "inverse_gaussian"):
                Y[:, k], center[k], unit[k] = V[:, places[k]], 0.0, 1.0
        return Y, center, unit

    with patch.object(joint_table, "_responses", without):
        yield


def effects(rng, prior, d: int) -> tuple[np.ndarray, np.ndarray]:
    """Psi (d, d) from its prior, and effects (n, d) by row."""
    Psi = sbc.draw_covariance(rng, prior, d)
    return Psi, rng.multivariate_normal(np.zeros(d), Psi, CLUSTERS, method="cholesky")[g]


def coefficients(rng, p: int) -> np.ndarray:
    return rng.normal(0.0, 1.0, p)


BETA = pr.Normal(0.0, 1.0)
SIGMA = pr.InverseWishart(6.0, 1 / 6.0)
HALF_T = pr.HuangWand(nu=4.0, scale=0.7)
SMALL = pr.HuangWand(nu=8.0, scale=0.3)
HUANG = pr.Priors(SIGMA, HALF_T, BETA)
SLOPES = pr.InverseWishart(8.0, 0.3, centred=False)
WISHART = pr.Priors(SIGMA, pr.InverseWishart(7.0, 0.3, centred=False), BETA)


def noise(rng) -> tuple[float, np.ndarray]:
    """A residual variance from its prior, and residuals."""
    variance = sbc.draw_covariance(rng, SIGMA, 1)[0, 0]
    return variance, rng.normal(0.0, np.sqrt(variance), len(g))


def interaction(rng):
    """Two incomplete covariates and their product."""
    Psi, b = effects(rng, HALF_T, 3)
    beta_x, beta_w, beta_y = coefficients(rng, 1), coefficients(rng, 2), coefficients(rng, 4)
    (s_x, e_x), (s_y, e_y) = noise(rng), noise(rng)
    x = beta_x[0] + b[:, 0] + e_x
    w = (rng.random(len(g)) < expit(beta_w[0] + beta_w[1] * x + b[:, 1])).astype(float)
    y = beta_y[0] + beta_y[1] * x + beta_y[2] * w + beta_y[3] * x * w + b[:, 2] + e_y
    truth = {
        "beta_x": beta_x,
        "beta_w": beta_w,
        "beta_y": beta_y,
        "sigma2_x": s_x,
        "sigma2_y": s_y,
        "Psi": Psi,
    }
    return pd.DataFrame({"g": g, "x": x, "w": w, "y": y}), truth


def slope(rng):
    """A random slope of an incomplete covariate, effects correlated across factors."""
    Psi, b = effects(rng, WISHART.Psi, 3)
    beta_x, beta_y = coefficients(rng, 1), coefficients(rng, 2)
    (s_x, e_x), (s_y, e_y) = noise(rng), noise(rng)
    x = beta_x[0] + b[:, 0] + e_x
    y = beta_y[0] + b[:, 1] + (beta_y[1] + b[:, 2]) * x + e_y
    truth = {"beta_x": beta_x, "beta_y": beta_y, "sigma2_x": s_x, "sigma2_y": s_y, "Psi": Psi}
    return pd.DataFrame({"g": g, "x": x, "y": y}), truth


def binary_slope(rng):
    """A random slope of an incomplete binary covariate, which another incomplete variable informs."""
    Psi, b = effects(rng, SLOPES, 4)  # of w, y, y and x, the order of the design
    beta_w, beta_y, beta_x = coefficients(rng, 1), coefficients(rng, 2), coefficients(rng, 2)
    s_x, e_x = noise(rng)
    w = (rng.random(len(g)) < expit(beta_w[0] + b[:, 0])).astype(float)
    eta = beta_y[0] + b[:, 1] + (beta_y[1] + b[:, 2]) * w
    y = (rng.random(len(g)) < expit(eta)).astype(float)
    x = beta_x[0] + beta_x[1] * w + b[:, 3] + e_x
    truth = {"beta_w": beta_w, "beta_x": beta_x, "beta_y": beta_y, "sigma2_x": s_x, "Psi": Psi}
    return pd.DataFrame({"g": g, "w": w, "x": x, "y": y}), truth


def levels(rng):
    """Ordinal and nominal covariates of a binary response."""
    Psi, b = effects(rng, HALF_T, 4)
    beta_o, beta_c = coefficients(rng, 1), rng.normal(0.0, 1.0, (3, 2))
    beta_y, increments = coefficients(rng, 5), rng.exponential(size=1)
    latent = beta_o[0] + b[:, 0] + rng.logistic(size=len(g))
    o = (latent > 0).astype(int) + (latent > increments[0])
    dummies = np.column_stack([np.ones(len(g)), o == 1, o == 2])
    eta = np.column_stack([np.zeros(len(g)), dummies @ beta_c + b[:, 1:3]])
    c = (eta + rng.gumbel(size=eta.shape)).argmax(axis=1)
    X = np.column_stack([dummies, c == 1, c == 2])
    y = (rng.random(len(g)) < expit(X @ beta_y + b[:, 3])).astype(float)
    frame = pd.DataFrame({"g": g, "y": y})
    frame["o"] = pd.Categorical.from_codes(o, ["a", "b", "c"], ordered=True)
    frame["c"] = pd.Categorical.from_codes(c, ["p", "q", "r"])
    truth = {"beta_o": beta_o, "beta_c": beta_c, "beta_y": beta_y, "Psi": Psi,
             "cutpoints_o": np.concatenate([[0.0], increments])[1:]}  # fmt: skip
    return frame, truth


def counts(rng):
    """A count, and a positive variable given it, both as logarithms in the analysis."""
    Psi, b = effects(rng, pr.HuangWand(nu=8.0, scale=0.3), 3)
    beta_k, beta_s, beta_y = coefficients(rng, 1), coefficients(rng, 2), coefficients(rng, 3)
    k = rng.poisson(np.exp(np.minimum(beta_k[0] + b[:, 0], 20.0))).astype(float)
    shape = rng.standard_t(3) ** -2.0
    mean = np.exp(beta_s[0] + beta_s[1] * np.log1p(k) + b[:, 1])
    s = mean * rng.gamma(shape, 1 / shape, len(g))
    variance, e = noise(rng)
    with np.errstate(divide="ignore"):
        y = beta_y[0] + beta_y[1] * np.log1p(k) + beta_y[2] * np.log(s) + b[:, 2] + e
    truth = {
        "beta_k": beta_k,
        "beta_s": beta_s,
        "beta_y": beta_y,
        "shape_s": shape,
        "sigma2_y": variance,
        "Psi": Psi,
    }
    return pd.DataFrame({"g": g, "k": k, "s": s, "y": y}), truth


def means(rng):
    """A cluster-level variable, and the cluster mean of an incomplete variable."""
    Psi, b = effects(rng, HALF_T, 2)
    beta_z, beta_x, beta_y = coefficients(rng, 1), coefficients(rng, 2), coefficients(rng, 4)
    z = (rng.random(CLUSTERS) < expit(beta_z[0])).astype(float)[g]
    (s_x, e_x), (s_y, e_y) = noise(rng), noise(rng)
    x = beta_x[0] + beta_x[1] * z + b[:, 0] + e_x
    mean = np.bincount(g, x)[g] / ROWS
    y = beta_y[0] + beta_y[1] * z + beta_y[2] * x + beta_y[3] * mean + b[:, 1] + e_y
    truth = {
        "beta_z": beta_z,
        "beta_x": beta_x,
        "beta_y": beta_y,
        "sigma2_x": s_x,
        "sigma2_y": s_y,
        "Psi": Psi,
    }
    return pd.DataFrame({"g": g, "z": z, "x": x, "y": y}), truth


def square(rng):
    """A power of an incomplete covariate."""
    Psi, b = effects(rng, HALF_T, 2)
    beta_x, beta_y = coefficients(rng, 1), coefficients(rng, 3)
    (s_x, e_x), (s_y, e_y) = noise(rng), noise(rng)
    x = beta_x[0] + b[:, 0] + e_x
    y = beta_y[0] + beta_y[1] * x + beta_y[2] * x**2 + b[:, 1] + e_y
    truth = {"beta_x": beta_x, "beta_y": beta_y, "sigma2_x": s_x, "sigma2_y": s_y, "Psi": Psi}
    return pd.DataFrame({"g": g, "x": x, "y": y}), truth


def centred_square(rng):
    """A power of an incomplete covariate minus its cluster mean."""
    Psi, b = effects(rng, HALF_T, 2)
    beta_x, beta_y = coefficients(rng, 1), coefficients(rng, 3)
    (s_x, e_x), (s_y, e_y) = noise(rng), noise(rng)
    x = beta_x[0] + b[:, 0] + e_x
    centred = x - np.bincount(g, x)[g] / ROWS
    y = beta_y[0] + beta_y[1] * x + beta_y[2] * centred**2 + b[:, 1] + e_y
    truth = {"beta_x": beta_x, "beta_y": beta_y, "sigma2_x": s_x, "sigma2_y": s_y, "Psi": Psi}
    return pd.DataFrame({"g": g, "x": x, "y": y}), truth


def count(rng):
    """A count predicted by a normal covariate."""
    Psi, b = effects(rng, SMALL, 2)
    beta_x, beta_y = coefficients(rng, 1), coefficients(rng, 2)
    s_x, e_x = noise(rng)
    x = beta_x[0] + b[:, 0] + e_x
    y = rng.poisson(np.exp(np.clip(beta_y[0] + beta_y[1] * x + b[:, 1], -30, 30))).astype(float)
    truth = {"beta_x": beta_x, "beta_y": beta_y, "sigma2_x": s_x, "Psi": Psi}
    return pd.DataFrame({"g": g, "x": x, "y": y}), truth


def student(rng, eta, df=10.0):
    """sigma and nu from their priors, and a response; df: mean of nu - 2, halved."""
    sigma, nu = abs(rng.standard_t(3)), 2.0 + rng.gamma(2.0, df)
    return sigma, nu, eta + sigma * rng.standard_t(nu, len(eta))


def robust(rng, df=10.0):
    """A Student-t covariate, its square, and a Student-t response."""
    Psi, b = effects(rng, HALF_T, 2)
    beta_x, beta_y = coefficients(rng, 1), coefficients(rng, 3)
    sigma_x, nu_x, x = student(rng, beta_x[0] + b[:, 0], df)
    sigma_y, nu_y, y = student(rng, beta_y[0] + beta_y[1] * x + beta_y[2] * x**2 + b[:, 1], df)
    truth = {"beta_x": beta_x, "beta_y": beta_y, "sigma_x": sigma_x, "nu_x": nu_x, "sigma_y": sigma_y, "nu_y": nu_y,
             "Psi": Psi}  # fmt: skip
    return pd.DataFrame({"g": g, "x": x, "y": y}), truth


def inflated(rng, kept=1.0):
    """A zero-inflated count, its logarithm and a zero-inflated overdispersed response; `kept`: factor of zi_k."""
    Psi, b = effects(rng, SMALL, 2)
    beta_k, beta_y = coefficients(rng, 1), coefficients(rng, 2)
    zi_k, zi_y, shape = rng.random(), rng.random(), rng.standard_t(3) ** -2.0
    k = rng.poisson(np.exp(np.minimum(beta_k[0] + b[:, 0], 20.0))).astype(float)
    k[rng.random(len(g)) < kept * zi_k] = 0.0
    mean = np.exp(np.minimum(beta_y[0] + beta_y[1] * np.log1p(k) + b[:, 1], 25.0))
    y = rng.poisson(np.minimum(mean * rng.gamma(shape, 1 / shape, len(g)), 1e15)).astype(float)
    y[rng.random(len(g)) < zi_y] = 0.0
    truth = {"beta_k": beta_k, "beta_y": beta_y, "zi_k": zi_k, "zi_y": zi_y, "shape_y": shape, "Psi": Psi}
    return pd.DataFrame({"g": g, "k": k, "y": y}), truth


DESIGNS = {
    "interaction": Design(
        "y ~ x * w + (1 | g)", {"x": "x ~ 1 + (1 | g)", "w": "w ~ x + (1 | g)"}, HUANG, interaction,
        {"x": 1, "w": 2, "y": 3}, {"w": "bernoulli"},
    ),
    "random slope": Design("y ~ x + (1 + x | g)", {}, WISHART, slope, {"x": 1, "y": 3}),
    "binary slope": Design(
        "y ~ w + (1 + w | g)", {"w": "w ~ 1 + (1 | g)", "x": "x ~ w + (1 | g)"},
        pr.Priors(SIGMA, SLOPES, BETA), binary_slope, {"w": 1, "x": 3, "y": 5}, {"w": "bernoulli", "y": "bernoulli"},
        order=("w", "y", "x"), fewest=1,
    ),
    "levels": Design(
        "y ~ o + c + (1 | g)", {"o": "o ~ 1 + (1 | g)", "c": "c ~ o + (1 | g)"}, HUANG, levels, {"o": 1, "c": 2},
        {"y": "bernoulli"},
    ),
    "counts": Design(
        "y ~ log1p(k) + log(s) + (1 | g)", {"k": "k ~ 1 + (1 | g)", "s": "s ~ log1p(k) + (1 | g)"},
        pr.Priors(SIGMA, pr.HuangWand(nu=8.0, scale=0.3), BETA), counts, {"k": 1, "s": 2, "y": 3},
        {"k": "poisson", "s": "gamma"},
    ),
    "cluster means": Design(
        "y ~ z + x + cluster_mean(x) + (1 | g)", {"z": "z ~ 1", "x": "x ~ z + (1 | g)"}, HUANG, means,
        {"z": None, "x": 1, "y": None}, {"z": "bernoulli"}, ("z",),
    ),
    "square": Design("y ~ x + I(x**2) + (1 | g)", {}, HUANG, square, {"x": 1, "y": 3}),
    "centred square": Design(
        "y ~ x + I(within(x)**2) + (1 | g)", {}, HUANG, centred_square, {"x": 1, "y": 3}
    ),
    "Student-t": Design(
        "y ~ x + I(x**2) + (1 | g)", {}, HUANG, robust, {"x": 1, "y": 3}, {"x": "student", "y": "student"}
    ),
    "zero-inflated": Design(
        "y ~ log1p(k) + (1 | g)", {"k": "k ~ 1 + (1 | g)"}, pr.Priors(SIGMA, SMALL, BETA), inflated, {"k": 1, "y": 3},
        {"k": "zip", "y": "zinb"},
    ),
    "count": Design("y ~ x + (1 | g)", {}, pr.Priors(SIGMA, SMALL, BETA), count, {"x": 1}, {"y": "poisson"}),
}  # fmt: skip


def delete(rng, design: Design, frame: pd.DataFrame) -> pd.DataFrame:
    """The table with cells deleted at random, and whole clusters."""
    frame = frame.copy()
    for name, systematic in design.holes.items():
        lost = rng.random(len(frame)) < 0.25
        if name in design.whole:
            groups = pd.factorize(frame[design.groups.get(name, "g")])[0]
            lost = (rng.random(groups.max() + 1) < 0.25)[groups]
        if systematic is not None:
            lost |= g == systematic
        frame.loc[lost, name] = np.nan if frame[name].dtype == float else None
    for name, (low, high) in design.limits.items():
        v = frame[name]
        frame[f"{name}_is"] = np.select([v < low, v > high], ["left", "right"], "none")
        frame[name] = v.clip(low, high)
    return frame


def unknown(frame: pd.DataFrame, name: str) -> np.ndarray:
    """(n,) whether a value is missing or censored."""
    limited = frame[f"{name}_is"] != "none" if f"{name}_is" in frame else False
    return np.asarray(frame[name].isna() | limited)


def quantities(design: Design, frame: pd.DataFrame, posterior, values) -> dict[str, np.ndarray]:
    """Name -> (L,): parameters, imputed cells, and products of imputed cells with the response of the analysis.

    posterior: name -> (L, ...); values: variable -> (L, n) completed, levels as positions.
    """
    out = {}
    for name, a in posterior.items():
        if name == "Psi":
            d = a.shape[-1]
            out |= {f"Psi[{i},{j}]": a[:, i, j] for i in range(d) for j in range(i + 1)}
            continue
        flat = a.reshape(len(a), -1)
        out |= {f"{name}[{k}]": flat[:, k] for k in range(flat.shape[1])}
    y = values["y"] - values["y"].mean(axis=1, keepdims=True)
    for name in design.holes:
        lost = np.flatnonzero(unknown(frame, name))
        v = values[name]
        out[f"cell of {name}"] = v[:, lost[len(lost) // 2]]
        out[f"mean of {name}"] = v[:, lost].mean(axis=1)
        out[f"{name} with y"] = (
            (v[:, lost] * y[:, lost]).mean(axis=1) if name != "y" else y[:, lost].std(axis=1)
        )
    return out


def positions(data: bi.IncompleteData, frame: pd.DataFrame) -> dict[str, np.ndarray]:
    """Variable -> (n,) numbers, positions of levels."""
    return {
        name: frame[name].cat.codes.to_numpy(float)
        if isinstance(frame[name].dtype, pd.CategoricalDtype)
        else frame[name].to_numpy(float)
        for name in data.variables
        if data.families[name] != "none"
    }


def ranks(
    design: Design, datasets: int, seed: int, tune: int = 150, thin: int = 6, spoil=None
) -> dict[str, np.ndarray]:
    """Name -> (datasets,) ranks of the truth, 0..DRAWS.

    Tables that no analyst would impute (`usable`) are skipped: that is decided by what is observed alone, so that ranks
    stay uniform. spoil: model -> the same model with something wrong.
    """
    out: dict[str, list[int]] = {}
    k = done = 0
    while done < datasets:
        rng = np.random.default_rng([seed, k])
        k += 1
        complete, truth = design.simulate(rng)
        frame = delete(rng, design, complete)
        if not usable(design, frame):
            continue
        done += 1
        model = design.model(frame) if spoil is None else spoil(design.model(frame))
        with patch.object(summed, "FEWEST", design.fewest):
            imp = model.impute(
                DRAWS, seed=int(rng.integers(2**31)), chains=1, tune=tune, draws=DRAWS * thin, progress=False,
                **design.options,
            )  # fmt: skip
        tree = imp.tree["posterior"]
        kept = {name: tree[name].values[0, thin - 1 :: thin] for name in truth if name in tree}
        kept |= {
            name: a[:, 1:] for name, a in kept.items() if name.startswith("cutpoints_")
        }  # the first is 0
        completed = [positions(model.data, imp.frame(d)) for d in range(DRAWS)]
        values = {name: np.stack([table[name] for table in completed]) for name in completed[0]}
        true = quantities(
            design, frame, {name: np.asarray(a, float)[None] for name, a in truth.items()},
            {name: v[None] for name, v in positions(model.data, complete).items()},
        )  # fmt: skip
        for name, drawn in quantities(design, frame, kept, values).items():
            ties = rng.random(DRAWS) < rng.random()  # ties of discrete values: below or above, at random
            below = (drawn < true[name][0]) | ((drawn == true[name][0]) & ties)
            out.setdefault(name, []).append(int(below.sum()))
    return {name: np.array(r) for name, r in out.items()}


# values that tables may hold, by family; tables with others are skipped
FEW = 12  # tables with fewer values of a variable with limits are skipped
POSITIVE, MANY = (1e-8, 1e8), (0.0, 1e4)
LIMITS = {
    "gamma": POSITIVE, "inverse_gaussian": POSITIVE, "lognormal": POSITIVE, "beta": (1e-8, 1 - 1e-8),
    "yeo_johnson": (-8.0, 8.0),  # all that 64 standardised values can be
    "student": (-1e6, 1e6), "zip": (0.0, 1e6), "zinb": (0.0, 1e6), "poisson": MANY, "negative_binomial": MANY,
    "zero_inflated_poisson": MANY, "zero_inflated_negative_binomial": MANY, "hurdle_poisson": MANY,
    "hurdle_negative_binomial": MANY,
}  # fmt: skip


def usable(design: Design, frame: pd.DataFrame) -> bool:
    """Whether every variable has two observed values and a missing one, and no number is too extreme."""
    for name in frame.columns.drop(["g", *(f"{limited}_is" for limited in design.limits)]):
        seen = frame[name][~unknown(frame, name)]
        if name in design.limits and len(seen) < FEW:
            return False
        if seen.nunique() < 2 or (name in design.holes and len(seen) == len(frame)):
            return False
        rows = name in design.holes and name not in design.whole
        if rows and seen.groupby(frame["g"]).nunique().max() < 2:  # it looks cluster-level
            return False
        if isinstance(seen.dtype, pd.CategoricalDtype):
            if seen.nunique() < len(seen.cat.categories):
                return False
        elif (
            pd.api.types.is_numeric_dtype(seen)
            and not seen.between(*LIMITS.get(design.families.get(name, ""), (-np.inf, np.inf))).all()
        ):
            return False
    return all(
        frame.groupby(design.groups.get(n, "g"), observed=True)[n].nunique().max() < 2
        and frame[n].dropna().nunique() >= 2
        for n in design.whole
    )


def right(datasets: int, report=print) -> dict[str, float]:
    """p-value of each design, Bonferroni over its quantities."""
    out = {}
    for name, design in DESIGNS.items():
        found = ranks(design, datasets, SEED)
        out[name] = sbc.overall(found)
        report(row(name, found))
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--datasets", type=int, default=300)
    parser.add_argument("--only", nargs="*", default=list(DESIGNS), help="these designs; nothing is written")
    options = parser.parse_args()
    began, lines, found = time.perf_counter(), [], {}
    for name in options.only:
        ranked = ranks(DESIGNS[name], options.datasets, SEED)
        found[name] = sbc.overall(ranked)
        lines.append(row(name, ranked))
        print(lines[-1], flush=True)
    limit = LEVEL / len(found)
    lines += ["", f"All above {LEVEL} / {len(found)}: {'yes' if min(found.values()) > limit else 'NO'}."]
    if len(found) < len(DESIGNS):
        return
    commit = run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
    about = (__doc__ or "").split("\n\n")[1].split(" `--datasets")[0].strip()
    head = [
        "# Calibration of the joint GLMM",
        "",
        f"`python -m tests.calibration.joint_glmm --datasets {options.datasets}`, {date.today()}, commit {commit}, "
        f"Python {platform.python_version()}, in {time.perf_counter() - began:.0f} s. {DRAWS} draws of each data set, "
        f"{CLUSTERS} clusters of {ROWS} rows.",
        "",
        about,
        "",
        "| | quantities | p (Bonferroni) | most extreme | its p |",
        "|---|---|---|---|---|",
    ]
    text = "\n".join(
        [
            *head,
            *lines,
            "",
            "Wrong variants that must be rejected: `tests/calibration/test_joint_glmm.py`.",
            "",
        ]
    )
    (Path(__file__).parent / "JOINT_GLMM_RESULTS.md").write_text(text)


if __name__ == "__main__":
    main()
