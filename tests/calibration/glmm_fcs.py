"""Calibration of the blocks for discrete and positive variables as FCS runs them: `bayes` and `mlmi`.

tests/calibration/glmm.py tests the transitions alone. Here a table goes into `FCS` and comes out imputed, so that
everything in between is tested: units of predictors and response, priors in the units of the data, levels, trials, order
of clusters. One variable is incomplete, its predictor complete: each of 19 imputations is then a draw from the exact
posterior under the stated priors, and so are beta, Psi and the linear predictors in the last state of its chain.

    eta = beta_0 + beta_1 x + b_0i (+ b_1i x),   x ~ N(3, 0.5^2);   two clusters lack y, one has it once

The prior of Psi is that of the effects at the mean of x, as in the samplers (bayesimp/priors/centred.py).

Truth comes from NumPy and SciPy. Data sets on which no model can be fitted (all values equal, a level not observed) are
drawn again: that is a condition on what is observed, under which ranks stay uniform.

Two quantities show whether missing values are drawn from the right rows. The score of the imputed values, with respect
to the spread of the linear predictors of their chain, has mean zero at any parameters, and is negative where the values
came from others. And in clusters with both, imputed values are associated with observed ones, as seen from outside FCS.

In full: `python -m tests.calibration.glmm_fcs --datasets 150 --raw FILE` rewrites GLMM_FCS_RESULTS.md; what FILE has
is not run again.
"""

import argparse
import json
import platform
from contextlib import nullcontext
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from subprocess import run
from unittest.mock import patch

import numpy as np
import pandas as pd
from scipy.special import expit, ndtr

import bayesimp as bi
from bayesimp import methods as me
from bayesimp import priors as pr
from bayesimp.families import family_of
from bayesimp.fcs import table as fcs_table
from bayesimp.fcs.blocks import glmm as blocks
from tests.calibration.families import above_zero
from tests.calibration.run import LEVEL
from tests.calibration.sbc import draw_covariance
from tests.calibration.uniformity import p_value
from tests.longhand import yeo_johnson
from tests.longhand.glmm_density import log_likelihood

SEED, DRAWS, CYCLES, LEVELS = 2027, 19, 20, 4
ROWS, CLUSTERS = 10, 8


@dataclass(frozen=True)
class Design:
    """mean, sd (2, r) of beta and Psi: priors in the units of the data; None: the weak priors that `mlmi` has."""

    family: str
    mean: np.ndarray | None = None
    sd: np.ndarray | None = None
    Psi: pr.HuangWand | None = None
    slopes: bool = False
    link: str = "logit"
    method: str = "bayes"
    cycles: int = CYCLES

    @property
    def r(self) -> int:
        return LEVELS - 2 if self.family == "categorical" else 1


@dataclass(frozen=True)
class Truth:
    """beta (2, r), Psi (r q, r q), aux (a,): cutpoints from the second on, or a shape; eta (N, r), y (N,)."""

    beta: np.ndarray
    Psi: np.ndarray
    aux: np.ndarray
    eta: np.ndarray
    y: np.ndarray


def make(family, mean, sd, scale, nu=4.0, **more) -> Design:
    mean, sd = np.array(mean, float).reshape(2, -1), np.array(sd, float).reshape(2, -1)
    return Design(family, mean, sd, pr.HuangWand(nu=nu, scale=scale), **more)


DESIGNS = {
    "bernoulli": make("bernoulli", [-6, 2], [1, 0.5], 1.0),
    "bernoulli, slopes": make("bernoulli", [-6, 2], [1, 0.5], [1.0, 0.3], slopes=True),
    "bernoulli, probit": make("bernoulli", [-3, 1], [0.6, 0.3], 0.7, link="probit"),
    "binomial": make("binomial", [-6, 2], [1, 0.5], 1.0),
    "poisson, slopes": make("poisson", [-3, 1.2], [0.5, 0.2], [0.4, 0.15], 8.0, slopes=True),
    "negative binomial": make("negative_binomial", [-3, 1.5], [0.5, 0.2], 0.4, 8.0),
    "gamma": make("gamma", [1, 1], [0.5, 0.2], 0.4, 8.0),
    "inverse Gaussian": make("inverse_gaussian", [-1.5, 0.5], [0.2, 0.06], 0.2, 8.0),
    "lognormal": make("lognormal", [1, 1], [0.5, 0.2], 0.4, 8.0),
    "beta": make("beta", [-3, 1], [0.5, 0.2], 0.4, 8.0),
    "hurdle Poisson": make("hurdle_poisson", [-3, 1.2], [0.5, 0.2], 0.4, 8.0),
    "hurdle negative binomial": make("hurdle_negative_binomial", [-3, 1.5], [0.5, 0.2], 0.4, 8.0),
    "Student-t": make("student", [1, 1], [0.5, 0.2], 0.4, 8.0),
    "Yeo-Johnson": make("yeo_johnson", [-3, 1], [0.5, 0.2], 0.4, 8.0),
    "zero-inflated Poisson": make("zero_inflated_poisson", [-3, 1.5], [0.5, 0.2], 0.4, 8.0),
    "zero-inflated negative binomial": make(
        "zero_inflated_negative_binomial", [-3, 1.5], [0.5, 0.2], 0.4, 8.0
    ),
    "ordinal": make("ordinal", [-5, 2], [1, 0.5], 1.0),
    "categorical": make("categorical", [[-6, 3], [2, -1]], [[1, 1], [0.5, 0.5]], 1.0),
    "mlmi, bernoulli": Design("bernoulli", method="mlmi"),
    "mlmi, bernoulli, slopes": Design("bernoulli", method="mlmi", slopes=True),
    "mlmi, bernoulli, probit": Design("bernoulli", method="mlmi", link="probit"),
    "mlmi, binomial": Design("binomial", method="mlmi"),
    "mlmi, poisson": Design("poisson", method="mlmi"),
}


# -- truth ---------------------------------------------------------------------------------------------------


def layout() -> tuple[np.ndarray, ...]:
    """codes, x, trials (N,), missing (N,) bool: the same in every data set."""
    rng = np.random.default_rng(6)
    codes = np.repeat(np.arange(CLUSTERS), ROWS)
    x = 3.0 + 0.5 * rng.normal(size=len(codes))
    missing = rng.random(len(codes)) < 0.3
    missing[(codes == 0) | (codes == CLUSTERS - 1)] = True
    missing[codes == 1] = np.arange(ROWS) > 0
    return codes, x, rng.integers(1, 21, len(codes)), missing


CODES, X, TRIALS, MISSING = layout()


def draw_truth(rng, design: Design) -> Truth:
    """Parameters and responses from the priors; again until a model can be fitted to what is observed of them."""
    while True:
        truth = _draw_once(rng, design)
        seen = truth.y[~MISSING]
        ok = np.isfinite(truth.y).all() and len(np.unique(seen)) > 1
        if design.family in ("ordinal", "categorical"):
            ok &= (
                len(np.unique(seen))
                == int(truth.y.max()) + 1
                == (LEVELS if design.family == "ordinal" else LEVELS - 1)
            )
        elif design.family == "poisson":
            # in every cluster: mlmi's prior of the intercept has mean log(mean), which is nearly 0 here
            means = [truth.y[~MISSING & (CODES == i)].mean() for i in range(2, CLUSTERS - 1)]
            ok &= min(means) > 0.15 and max(means) < 20
        elif design.family in ("gamma", "inverse_gaussian", "lognormal"):
            ok &= 1e-3 < seen.min() and seen.max() < 1e6
        elif design.family == "beta":
            ok &= 1e-8 < seen.min() and seen.max() < 1 - 1e-8
        elif design.family.endswith(("negative_binomial", "inflated_poisson", "hurdle_poisson")):
            ok &= seen.max() < 1e6
        if ok:
            return truth


def _draw_once(rng, design: Design) -> Truth:
    r, q = design.r, 1 + design.slopes
    if design.mean is None:  # of a predictor with mean 0 and sd 1
        sd = X.std()
        slope = rng.normal(0, 2.5) / sd
        beta = np.array([[rng.normal(0, 5.0) - slope * X.mean()], [slope]])
        Psi = draw_covariance(rng, pr.HuangWand(nu=2.0, scale=np.array([1.0, 1 / sd])[:q]), q)
    else:
        beta = rng.normal(design.mean, design.sd)
        Psi = draw_covariance(rng, design.Psi, r * q)
    if design.slopes:  # the prior is that of effects at the mean of x: b_0 = b_0c - mean(x) b_1
        C = np.kron(np.eye(r), [[1.0, -X.mean()], [0.0, 1.0]])
        Psi = C @ Psi @ C.T
    B = rng.multivariate_normal(np.zeros(r * q), Psi, CLUSTERS, method="cholesky").reshape(CLUSTERS, r, q)
    columns = np.column_stack([np.ones(len(X)), X])
    eta = columns @ beta + np.einsum("jq,jrq->jr", columns[:, :q], B[CODES])
    aux = np.empty(0)
    if design.family == "ordinal":
        aux = np.cumsum(rng.exponential(size=LEVELS - 2))
    elif design.family in ("negative_binomial", "gamma", "inverse_gaussian", "beta"):
        aux = rng.standard_t(3, 1) ** -2.0
    elif design.family == "student":
        aux = np.array([abs(rng.standard_t(3)), 2.0 + rng.gamma(2.0, 10.0)])
    elif design.family == "yeo_johnson":
        aux = np.array([abs(rng.standard_t(3)), 2.0 * rng.beta(2.0, 2.0)])
    elif design.family == "lognormal":
        aux = np.abs(rng.standard_t(3, 1))
    if design.family.startswith(("zero_inflated", "hurdle")):
        shape = rng.standard_t(3, 1) ** -2.0 if design.family.endswith("negative_binomial") else np.empty(0)
        aux = np.append(shape, rng.random())
    with np.errstate(over="ignore"):
        y = draw_response(rng, design, np.minimum(eta, 30.0) if design.family == "poisson" else eta, aux)
    return Truth(beta, Psi, aux, eta, y)


def draw_response(rng, design: Design, eta, aux):
    one, n = eta[:, 0], len(eta)
    match design.family:
        case "bernoulli" | "binomial":
            p = ndtr(one) if design.link == "probit" else expit(one)
            return rng.binomial(1 if design.family == "bernoulli" else TRIALS, p).astype(float)
        case "poisson":
            return rng.poisson(np.exp(one)).astype(float)
        case "negative_binomial":
            return rng.poisson(np.minimum(np.exp(one) * rng.gamma(aux[0], 1 / aux[0], n), 1e15)).astype(float)
        case "zero_inflated_poisson" | "zero_inflated_negative_binomial":
            count = replace(design, family=design.family.removeprefix("zero_inflated_"))
            return np.where(rng.random(n) < aux[-1], 0.0, draw_response(rng, count, eta, aux))
        case "hurdle_poisson" | "hurdle_negative_binomial":
            y = above_zero(rng, np.exp(np.minimum(one, 13.0)), aux[0] if len(aux) > 1 else None)
            return np.where(rng.random(n) < aux[-1], 0.0, y)
        case "lognormal":
            return np.exp(one + aux[0] * rng.normal(size=n))
        case "beta":
            return rng.beta(aux[0] * expit(one), aux[0] * expit(-one))
        case "gamma":
            return np.exp(one) * rng.gamma(aux[0], 1 / aux[0], n)
        case "inverse_gaussian":
            return rng.wald(np.exp(one), aux[0])
        case "student":
            return one + aux[0] * rng.standard_t(aux[1], n)
        case "yeo_johnson":
            return yeo_johnson.back(one + aux[0] * rng.normal(size=n), aux[1])
        case "ordinal":
            return (one + rng.logistic(size=n) > np.r_[0.0, aux][:, None]).sum(0).astype(float)
    return (
        (np.column_stack([np.zeros(n), eta]) + rng.gumbel(size=(n, eta.shape[1] + 1))).argmax(1).astype(float)
    )


# -- FCS as a backend ----------------------------------------------------------------------------------------


def table_of(design: Design, y: np.ndarray) -> pd.DataFrame:
    """Clusters and levels have names whose order is not that of their numbers; rows are shuffled."""
    frame = pd.DataFrame({"g": [f"c{(5 * i) % 8}" for i in CODES], "x": X, "trials": TRIALS})
    seen = np.where(MISSING, np.nan, y)
    if design.family in ("ordinal", "categorical"):
        codes = np.where(MISSING, -1, y).astype(int)
        names = ["low", "fair", "good", "best"] if design.family == "ordinal" else ["a", "b", "c"]
        frame["y"] = pd.Categorical.from_codes(codes, names, ordered=design.family == "ordinal")
    else:
        frame["y"] = seen
    return frame.sample(frac=1, random_state=1)


def fitted(design: Design, y: np.ndarray, seed: int):
    """The table, and its imputations."""
    family = "binomial(trials)" if design.family == "binomial" else design.family
    frame = table_of(design, y)
    data = bi.IncompleteData(frame, cluster="g", families={"y": family})
    if design.method == "mlmi":
        method = me.MLMI(link=design.link)
    elif design.method == "default":
        method = me.Bayes()
    else:
        method = me.Bayes(pr.Priors(Psi=design.Psi, beta=pr.Normal(design.mean, design.sd)), link=design.link)
    if design.family in ("student", "yeo_johnson"):
        with units_of_the_data():
            return frame, _imputed(design, data, method, seed)
    return frame, _imputed(design, data, method, seed)


def units_of_the_data():
    """Incomplete columns are not standardised, so that the prior of a Student-t scale does not depend on the data."""
    scales = fcs_table._scales

    def without(full):
        center, scale = scales(full)
        holed = np.isnan(full).any(axis=0)
        return np.where(holed, 0.0, center), np.where(holed, 1.0, scale)

    return patch.object(fcs_table, "_scales", without)


def _imputed(design: Design, data, method, seed: int):
    model = bi.FCS(data, methods=method, predictors=f"y ~ x + (1 {'+ x ' if design.slopes else ''}| g)")
    return model.impute(DRAWS, cycles=design.cycles, tune=0, seed=seed, workers=1, progress=False)


def draws_of(design: Design, y: np.ndarray, seed: int) -> list[Truth]:
    """The imputations as `Truth`s, with rows in the order of `layout`; eta and y are nan where y is observed."""
    frame, imp = fitted(design, y, seed)
    last = {name: np.asarray(imp.tree["posterior"][name])[:, -1] for name in imp.tree["posterior"].data_vars}
    beta = last["beta_y"].reshape(DRAWS, 2, -1)
    own = [
        v.reshape(DRAWS, -1)
        for name, v in last.items()
        if name.startswith(("cutpoints", "shape", "sigma_", "nu", "lambda", "zi", "hu_"))
    ]
    aux = np.hstack(own) if own else np.empty((DRAWS, 0))
    if design.family == "ordinal":
        aux = aux[:, -(LEVELS - 2) :]
    place = frame.index.to_numpy()  # rows of the layout
    out = []
    rows = imp.rows("y")
    eta_all = linear_predictors(imp)
    for k in range(DRAWS):
        eta, values = np.full((len(y), design.r), np.nan), np.full(len(y), np.nan)
        values[place[rows]] = imp.values("y")[k]
        eta[place[eta_all[0]]] = eta_all[1][k]
        out.append(Truth(beta[k], last["Psi_y"][k], aux[k], eta, values))
    return out


def linear_predictors(imp) -> tuple[np.ndarray, np.ndarray]:
    """Rows in which y is imputed, and their linear predictors (m, rows, r) at the end of each chain."""
    run_ = imp._run
    block, table = run_.model.conditionals(run_.seed)[0], run_.model.table
    rows = table.row[np.flatnonzero(block.rows.holes)]
    etas = []
    for chain in run_.chains:
        Xw, Zw = block.rows.missing(chain.V, block.rows.factors(chain.V))
        theta = chain.theta[0]
        random = np.einsum("jq,jqr->jr", Zw, theta.B[block.rows.hole_cluster])
        etas.append(Xw @ theta.beta + random + block.chained.scale.c)
    return rows, np.array(etas)


# -- quantities ----------------------------------------------------------------------------------------------

SPORADIC, ONE_ROW, SYSTEMATIC = 4, 1, 0


def quantities(design: Design, y: np.ndarray, t: Truth) -> dict[str, float]:
    r, q = design.r, 1 + design.slopes
    out = {f"beta[{x},{k}]": t.beta[x, k] for x in range(2) for k in range(r)}
    out |= {f"Psi[{e},{e}]": t.Psi[e, e] for e in range(r * q)}
    if r * q > 1:
        out["Psi[1,0]"] = t.Psi[1, 0]
    out |= {f"aux[{k}]": a for k, a in enumerate(t.aux)}
    for name, i in (("sporadic", SPORADIC), ("one row", ONE_ROW), ("systematic", SYSTEMATIC)):
        lost = MISSING & (CODES == i)
        out |= {f"eta, {name}[{k}]": t.eta[lost, k].mean() for k in range(r)}
        values = t.y[lost] == 1 if design.family == "categorical" else t.y[lost]
        out[f"imputed mean, {name}"] = values.mean()
    values = (t.y == 2).astype(float) if design.family == "categorical" else t.y
    out["cell"] = t.y[MISSING & (CODES == SPORADIC)][0]
    out["slope of imputed"] = (X[MISSING] - X.mean()) @ values[MISSING]
    out["imputed with observed"] = imputed_with_observed(
        y == 2 if design.family == "categorical" else y, values
    )
    out["score of imputed"] = score_of_imputed(design, t)
    if design.family == "binomial":
        out["imputed with trials"] = (TRIALS[MISSING] - TRIALS.mean()) @ t.y[MISSING]
    return out


def score_of_imputed(design: Design, t: Truth) -> float:
    """d log p(y_mis | a eta + (1 - a) mean(eta), aux) / da at a = 1."""
    family = family_of(design.family)
    code = family.code(family.link(design.link))
    aux = t.aux**-2.0 if design.family == "lognormal" else t.aux
    eta, n = t.eta[MISSING], TRIALS[MISSING] if design.family == "binomial" else 1.0
    middle, h = eta.mean(axis=0), 1e-4
    up, down = (
        log_likelihood(code, t.y[MISSING], n, middle + a * (eta - middle), aux).sum() for a in (1 + h, 1 - h)
    )
    return (up - down) / (2 * h) if np.isfinite(up) else -np.inf  # more successes than trials


def imputed_with_observed(y: np.ndarray, values: np.ndarray) -> float:
    """Sum over clusters with both: centred mean of the observed values times the sum of the imputed ones."""
    both = range(2, CLUSTERS - 1)
    observed = {i: y[~MISSING & (CODES == i)].mean() for i in both}
    middle = np.mean(list(observed.values()))
    return sum((observed[i] - middle) * values[MISSING & (CODES == i)].sum() for i in both)


def ranks_once(design: Design, k: int, seed: int, spoil=None) -> dict[str, int]:
    """Name -> rank of the truth of data set k, 0..19; ties at random. `spoil`: a context in which the model runs."""
    rng = np.random.default_rng([seed, k])
    truth = draw_truth(rng, design)
    with spoil() if spoil else nullcontext():
        draws = draws_of(design, truth.y, int(rng.integers(2**31)))
    true = quantities(design, truth.y, truth)
    each = [quantities(design, truth.y, t) for t in draws]
    out = {}
    for name, value in true.items():
        drawn = np.array([e[name] for e in each])
        tie = np.isclose(drawn, value, rtol=1e-12, atol=0)
        out[name] = int((drawn[~tie] < value).sum()) + int(rng.integers(tie.sum() + 1))
    return out


def ranks(design: Design, datasets: int, seed: int, spoil=None) -> dict[str, np.ndarray]:
    """Name -> (datasets,) ranks of the truth."""
    return together([ranks_once(design, k, seed, spoil) for k in range(datasets)])


def together(each: list[dict[str, int]]) -> dict[str, np.ndarray]:
    return {name: np.array([found[name] for found in each]) for name in each[0]}


# -- spoiled -------------------------------------------------------------------------------------------------


def prior_on_the_working_scale():
    """The numbers of the prior of beta, taken for those of a predictor with mean 0 and sd 1."""

    def beta_prior(prior, scale, block, y, where):
        r = block.predictors
        precision = (np.asarray(prior.sd, float) ** -2.0 * np.ones((2, r))).T.ravel()
        return np.diag(precision), precision * (np.asarray(prior.mean, float) * np.ones((2, r))).T.ravel()

    return patch.object(blocks, "glmm_beta_prior", beta_prior)


def effects_of_the_next_cluster():
    """Missing values drawn with the cluster effects shifted by one."""
    fill = blocks.GeneralisedBlock.fill

    def shifted(self, chain, theta, f):
        return fill(self, chain, replace(theta, B=np.ascontiguousarray(np.roll(theta.B, 1, axis=0))), f)

    return patch.object(blocks.GeneralisedBlock, "fill", shifted)


def holes_in_the_next_cluster():
    """Rows without y are assigned to another cluster wherever clusters are looked up."""
    init = blocks.GeneralisedBlock.__init__

    def shifted(self, table, number):
        init(self, table, number)
        self.rows.hole_cluster = (self.rows.hole_cluster + 1) % CLUSTERS

    return patch.object(blocks.GeneralisedBlock, "__init__", shifted)


def trials_of_other_rows():
    """Missing values drawn with the trials in reverse order."""
    draw = blocks.GeneralisedBlock.draw

    def reversed_(self, chain, theta, X, eta):
        own = self.rows.hole_trials
        self.rows.hole_trials = own[::-1].copy()
        drawn = draw(self, chain, theta, X, eta)
        self.rows.hole_trials = own
        return drawn

    return patch.object(blocks.GeneralisedBlock, "draw", reversed_)


def levels_reversed():
    """Levels are counted from the last one when missing values are filled in."""
    draw_rows = blocks.draw_rows

    def reversed_(rng, code, trials, eta, aux, drawn):
        done = draw_rows(rng, code, trials, eta, aux, drawn)
        drawn[:] = LEVELS - 1 - drawn
        return done

    return patch.object(blocks, "draw_rows", reversed_)


def starting_parameters():
    """Missing values drawn from where each chain starts: the mode of the parameters, not a draw."""
    step = blocks.glmm_step

    def still(rng, rows, updates, prior, beta, aux, Psi, B, tallies):
        return step(rng, rows, updates, prior, beta.copy(), aux.copy(), Psi.copy(), B.copy(), tallies)

    return patch.object(blocks, "glmm_step", still)


VARIANTS = {
    "prior on the working scale": ("bernoulli", prior_on_the_working_scale),
    "effects of the next cluster": ("binomial", effects_of_the_next_cluster),
    "mlmi, effects of the next cluster": ("mlmi, poisson", effects_of_the_next_cluster),
    "holes in the next cluster": ("binomial", holes_in_the_next_cluster),
    "mlmi, holes in the next cluster": ("mlmi, poisson", holes_in_the_next_cluster),
    "trials of other rows": ("binomial", trials_of_other_rows),
    "levels reversed": ("ordinal", levels_reversed),
    "parameters where they start": ("poisson, slopes", starting_parameters),
}


# -- runs ----------------------------------------------------------------------------------------------------


def overall(found: dict[str, np.ndarray]) -> float:
    """Bonferroni over the quantities."""
    return min(1.0, len(found) * min(p_value(r, DRAWS) for r in found.values()))


def row(name: str, found: dict[str, np.ndarray]) -> str:
    each = {quantity: p_value(r, DRAWS) for quantity, r in found.items()}
    worst = min(each, key=each.get)
    return f"| {name} | {len(each)} | {overall(found):.2g} | {worst} | {each[worst]:.2g} |"


def study(tasks: dict[str, tuple], datasets: int, raw: Path | None = None) -> dict[str, list]:
    """Name -> `ranks_once` of each data set, of name -> (design, spoil); kept in the file `raw`, if given."""
    lines = [json.loads(line) for line in raw.read_text().splitlines()] if raw and raw.exists() else []
    done = {(name, k): found for name, seed, k, found in lines if seed == SEED}
    for k in range(datasets):
        for name, (design, spoil) in tasks.items():
            if (name, k) not in done:
                done[name, k] = ranks_once(DESIGNS[design], k, SEED, spoil)
                if raw:
                    with raw.open("a") as file:
                        file.write(json.dumps([name, SEED, k, done[name, k]]) + "\n")
    return {name: [done[name, k] for k in range(datasets)] for name in tasks}


def right(datasets: int, report=print, raw=None) -> dict[str, float]:
    """p-value of each design, Bonferroni over its quantities."""
    return _judged(study({name: (name, None) for name in DESIGNS}, datasets, raw), report)


def wrong(datasets: int, report=print, raw=None) -> dict[str, float]:
    return _judged(study(VARIANTS, datasets, raw), report)


def _judged(each: dict[str, list], report) -> dict[str, float]:
    out = {}
    for name, found in each.items():
        out[name] = overall(together(found))
        report(row(name, together(found)))
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--datasets", type=int, default=150)
    parser.add_argument("--spoiled", type=int, default=60, help="data sets of each spoiled block")
    parser.add_argument("--raw", type=Path, help="ranks, a line a data set: kept, and added to")
    args = parser.parse_args()
    datasets, spoiled, raw = args.datasets, args.spoiled, args.raw
    commit = run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
    lines = []

    def report(line: str) -> None:
        print(line, flush=True)
        lines.append(line)

    header = ["| | quantities | p (Bonferroni) | most extreme | its p |", "|---|---|---|---|---|"]
    lines += ["", "Blocks as they are, by design:", "", *header]
    held = min(right(datasets, report, raw).values()) > LEVEL / len(DESIGNS)
    lines += ["", f"All above {LEVEL} / {len(DESIGNS)}: {'yes' if held else 'NO'}.", ""]
    lines += [f"Spoiled blocks, {spoiled} data sets:", "", *header]
    caught = max(wrong(spoiled, report, raw).values()) < 1e-6
    lines += ["", f"All below 1e-6: {'yes' if caught else 'NO'}."]
    head = [
        "# Simulation-based calibration of FCS blocks for discrete and positive variables: last results",
        "",
        f"Made by `python -m tests.calibration.glmm_fcs --datasets {datasets} --spoiled {spoiled}` on {date.today()},",
        f"commit {commit}, Python {platform.python_version()}.",
        "",
        f"{datasets} data sets a design; {DRAWS} imputations each, after {CYCLES} cycles; seed {SEED}. Ranks: exact",
        "test of uniformity.py; p-values are multiplied by the number of quantities.",
    ]
    Path(__file__).with_name("GLMM_FCS_RESULTS.md").write_text("\n".join([*head, *lines]) + "\n")


if __name__ == "__main__":
    main()
