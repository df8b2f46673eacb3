"""Calibration of the transition of discrete and positive responses (kernels/glmm/gibbs.py), imputing as FCS does.

A chain is started and advanced by the kernel, and after every few updates its missing responses are drawn from the very
state that the kernel returned. In full: `python -m tests.calibration.glmm --datasets 240` rewrites GLMM_RESULTS.md; with
`--seed 2025 --only NAMES` a run of these on other data sets is added to it.
"""

import argparse
import platform
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from subprocess import run

import numpy as np
from scipy.special import expit, gammaln
from scipy.stats import invwishart

from bayesimp.kernels.covariance import update
from bayesimp.kernels.families import scalar as f
from bayesimp.kernels.families.codes import (
    HURDLE_NEGATIVE_BINOMIAL,
    HURDLE_POISSON,
    STUDENT,
    ZERO_INFLATED_NEGATIVE_BINOMIAL,
    ZERO_INFLATED_POISSON,
)
from bayesimp.kernels.families.responses import (
    CATEGORICAL,
    EXTRA_ZEROS,
    ORDINAL,
    aux_size,
    draw_rows,
    predictors,
)
from bayesimp.kernels.glmm.gibbs import ALL_MOVES, MOVES, GlmmPrior, glmm_start, glmm_step, new_tallies
from bayesimp.kernels.glmm.rows import GlmmRows
from tests.calibration import sbc
from tests.calibration.run import LEVEL, SEED, row
from tests.calibration.sbc import DRAWS
from tests.longhand.glmm_density import log_likelihood


@dataclass(frozen=True)
class Design:
    """X (N, p), Z (N, q), codes (N,), missing (N,) bool; beta ~ N(mean, sd^2) each, Psi, shape as the kernel has them."""

    family: int
    X: np.ndarray
    Z: np.ndarray
    codes: np.ndarray
    missing: np.ndarray
    mean: np.ndarray
    sd: float
    Psi: update.CovarianceUpdate
    levels: int = 2
    trials: float = 1.0
    shape_scale: float = 1.0

    @property
    def sizes(self):
        """p, q, r, m, number of auxiliary parameters."""
        r = predictors(self.family, self.levels)
        m = int(self.codes.max()) + 1
        return self.X.shape[1], self.Z.shape[1], r, m, aux_size(self.family, self.levels)


@dataclass(frozen=True)
class Draws:
    """beta (L, p, r), aux (L, a), Psi (L, rq, rq), B (L, m, q, r), values (L, N)."""

    beta: np.ndarray
    aux: np.ndarray
    Psi: np.ndarray
    B: np.ndarray
    values: np.ndarray


# -- designs -------------------------------------------------------------------------------------------------


def design(
    family, q=1, kind=update.HUANG_WAND, scale=1.0, nu=4.0, sd=1.0, mean=0.0, m=7, rows=8, **more
) -> Design:
    """The first and last clusters lack the response, the second has it once, the others in part."""
    rng = np.random.default_rng(6)
    codes = np.repeat(np.arange(m), rows)
    x = rng.normal(size=len(codes))
    missing = rng.random(len(codes)) < 0.2
    missing[(codes == 0) | (codes == m - 1)] = True
    missing[codes == 1] = np.arange(rows) > 0
    X = np.column_stack([np.ones(len(codes)), x])
    r = predictors(family, more.get("levels", 2))
    d = r * q
    V = (
        scale**2 * (nu * np.eye(d) + 0.4 * nu * (1 - np.eye(d)))
        if kind == update.INVERSE_WISHART
        else np.eye(d)
    )
    Psi = update.CovarianceUpdate(
        kind, nu + (d - 1 if kind == update.INVERSE_WISHART else 0), V, np.full(d, scale)
    )
    middle = np.zeros((2, r))
    middle[0] = mean
    return Design(family, X, np.ascontiguousarray(X[:, :q]), codes, missing, middle, sd, Psi, **more)


HALF_T, WISHART = update.DIAGONAL_HALF_T, update.INVERSE_WISHART
DESIGNS = {
    "logit": design(f.LOGIT),
    "logit, flat half-t, slopes": design(f.LOGIT, 2, nu=2.0, rows=12),
    "logit, inverse-Wishart, slopes": design(f.LOGIT, 2, WISHART),
    "logit, binomial, rare": design(f.LOGIT, kind=HALF_T, mean=-3.0, trials=5.0),
    "probit, diagonal half-t, slopes": design(f.PROBIT, 2, HALF_T),
    "Poisson, slopes": design(f.POISSON, 2, scale=0.5, nu=8.0),
    "negative binomial": design(f.NEGATIVE_BINOMIAL, scale=0.5, nu=8.0, mean=1.0),
    "gamma, slopes": design(f.GAMMA, 2, scale=0.5, nu=8.0, shape_scale=0.5),
    "inverse Gaussian": design(f.INVERSE_GAUSSIAN, scale=0.5, nu=8.0, sd=0.5, shape_scale=0.5),
    "beta": design(f.BETA, scale=0.5, nu=8.0, sd=0.7, shape_scale=0.2),
    "lognormal, slopes": design(f.LOGNORMAL, 2, scale=0.5, nu=8.0, shape_scale=0.5),
    "hurdle Poisson": design(HURDLE_POISSON, scale=0.5, nu=8.0),
    "hurdle negative binomial": design(HURDLE_NEGATIVE_BINOMIAL, scale=0.5, nu=8.0, mean=1.0),
    "Student-t, slopes": design(STUDENT, 2, scale=0.5, nu=8.0, shape_scale=0.5),
    "zero-inflated Poisson": design(ZERO_INFLATED_POISSON, scale=0.5, nu=8.0, mean=1.0),
    "zero-inflated negative binomial": design(ZERO_INFLATED_NEGATIVE_BINOMIAL, scale=0.5, nu=8.0, mean=1.0),
    "ordinal": design(ORDINAL, levels=4, mean=1.0),
    "ordinal, slopes": design(ORDINAL, 2, levels=5, mean=1.0),
    "ordinal, twelve levels": design(ORDINAL, levels=12, mean=4.0),
    "categorical": design(CATEGORICAL, levels=3),
    "categorical, slopes, inverse-Wishart": design(CATEGORICAL, 2, WISHART, levels=3, rows=12),
}


def draw_Psi(rng, prior: update.CovarianceUpdate, d: int):
    """A covariance matrix from its prior, with SciPy."""
    if prior.kind == update.INVERSE_WISHART:
        return np.atleast_2d(invwishart(prior.nu, prior.scale).rvs(random_state=rng))
    if prior.kind == update.HUANG_WAND:
        a = 1 / rng.gamma(0.5, prior.sd**2)
        return np.atleast_2d(
            invwishart(prior.nu + d - 1, 2 * prior.nu * np.diag(1 / a)).rvs(random_state=rng)
        )
    return np.diag((prior.sd * rng.standard_t(prior.nu, d)) ** 2)


def draw_truth(rng, design: Design) -> Draws:
    _, q, r, m, a = design.sizes
    beta = rng.normal(design.mean, design.sd)
    aux = rng.exponential(size=a)
    if design.family == STUDENT:
        aux = np.array([design.shape_scale * abs(rng.standard_t(3)), 2.0 + rng.gamma(2.0, 10.0)])
    elif a and design.family != ORDINAL:
        aux = (design.shape_scale * rng.standard_t(3, 1)) ** -2.0
    if design.family in EXTRA_ZEROS:
        aux = np.append(aux[: a - 1], rng.random())
    Psi = draw_Psi(rng, design.Psi, r * q)
    B = (
        rng.multivariate_normal(np.zeros(r * q), Psi, m, method="cholesky")
        .reshape(m, r, q)
        .transpose(0, 2, 1)
    )
    values = draw_values(rng, design, beta, aux, B)
    positive = design.family not in (f.GAMMA, f.INVERSE_GAUSSIAN, f.LOGNORMAL) or (values > 0).all()
    if not (np.isfinite(values).all() and positive):
        raise ArithmeticError("the priors of this design reach responses that are out of range")
    return Draws(beta[None], aux[None], Psi[None], B[None], values[None])


def predictor(design: Design, beta, B):
    """eta (N, r)."""
    return np.ascontiguousarray(design.X @ beta + np.einsum("jq,jqr->jr", design.Z, B[design.codes]))


def draw_values(rng, design: Design, beta, aux, B):
    out, trials = np.empty(len(design.X)), np.full(len(design.X), design.trials)
    draw_rows(rng, design.family, trials, predictor(design, beta, B), aux, out)
    return out


# -- the transition as a backend -----------------------------------------------------------------------------


def observed_rows(design: Design, Y) -> GlmmRows:
    j = np.flatnonzero(~design.missing)  # codes are sorted
    first = np.searchsorted(design.codes[j], np.arange(design.sizes[3] + 1)).astype(np.int64)
    n = len(j)
    return GlmmRows(
        design.family,
        Y[j],
        np.full(n, design.trials),
        np.ones(n),
        np.zeros(n),
        design.X[j],
        design.Z[j],
        first,
    )


def kernel_prior(design: Design) -> GlmmPrior:
    precision = np.full(design.mean.size, design.sd**-2.0)
    return GlmmPrior(np.diag(precision), precision * design.mean.T.ravel(), design.Psi, design.shape_scale)


def step(tune: int = 200, updates: int = 20, moves: int = ALL_MOVES, spoil=None) -> sbc.Backend:
    """`spoil`: changes the state after every update, (rng, design, rows, beta, aux, Psi, B), in place."""

    def backend(design: Design, Y, seed: int) -> Draws:
        rng = np.random.default_rng(seed)
        p, q, r, m, a = design.sizes
        rows, prior, tallies = observed_rows(design, Y), kernel_prior(design), new_tallies()
        state = np.zeros((p, r)), np.ones(a), np.eye(r * q), np.zeros((m, q, r))
        code = glmm_start(rng, rows, prior, *state)
        out = [np.empty((DRAWS, *x.shape)) for x in (*state, Y)]
        for d in range(-1, DRAWS):
            count = tune if d < 0 else updates
            for _ in range(count if spoil else 1):
                code = code or glmm_step(rng, rows, 1 if spoil else count, prior, *state, tallies, moves)
                if spoil:
                    spoil(rng, design, rows, *state)
            if code:
                raise ArithmeticError(f"the step failed: {code}")
            beta, aux, _, B = state
            for store, value in zip(out, (*state, draw_values(rng, design, beta, aux, B)), strict=True):
                store[d] = value
        return Draws(*out)

    return backend


# -- quantities ----------------------------------------------------------------------------------------------


def quantities(design: Design, Y, draws: Draws) -> dict[str, np.ndarray]:
    """Name -> (L,): parameters, effects with many, one, no rows, the likelihood, imputed responses (ties broken)."""
    p, q, r, m, a = design.sizes
    out = {f"beta[{x},{k}]": draws.beta[:, x, k] for x in range(p) for k in range(r)}
    out |= {f"aux[{k}]": draws.aux[:, k] for k in range(a)}
    out |= {f"Psi[{e},{e}]": draws.Psi[:, e, e] for e in range(r * q)}
    if r * q > 1 and design.Psi.kind != update.DIAGONAL_HALF_T:
        out["Psi[1,0]"] = draws.Psi[:, 1, 0]
    out |= {f"b[{i}]": draws.B[:, i, -1, -1] for i in (0, 1, 2)}
    out |= {f"mean + b[{i}]": draws.B[:, i, 0, 0] + draws.beta[:, 0, 0] for i in (1, 3)}
    out["log likelihood"] = log_likelihoods(design, Y, draws)
    lost = np.flatnonzero(design.missing & (design.codes > 1) & (design.codes < m - 1))
    noise = np.random.default_rng([len(draws.beta), *Y[~design.missing].view(np.uint32)[:40]])
    for j in (0, lost[0], lost[-1]):
        out[f"imputed[{j}]"] = draws.values[:, j] * (
            1 + 1e-9 * noise.random(len(draws.values))
        ) + 1e-9 * noise.random(len(draws.values))
    return out


def log_likelihoods(design: Design, Y, draws: Draws):
    """(L,) log p(observed y | state)."""
    j = ~design.missing
    return np.array(
        [
            log_likelihood(design.family, Y[j], design.trials, predictor(design, beta, B)[j], aux).sum()
            for beta, aux, B in zip(draws.beta, draws.aux, draws.B, strict=True)
        ]
    )


# -- spoiled -------------------------------------------------------------------------------------------------


def density(design, rows, beta, aux, B):
    codes = np.repeat(np.arange(len(B)), np.diff(rows.first))
    eta = rows.X @ beta + np.einsum("jq,jqr->jr", rows.Z, B[codes])
    return log_likelihood(design.family, rows.y, design.trials, eta, aux)


def scale_without_jacobian(rng, design, rows, beta, aux, Psi, B):
    """A scale move of a random intercept, log alpha by random walk, without d alpha = alpha d log alpha."""
    alpha = np.exp(0.7 * rng.standard_normal())
    nu, s2 = design.Psi.nu, design.Psi.sd[0] ** 2
    ratio = (density(design, rows, beta, aux, alpha * B) - density(design, rows, beta, aux, B)).sum()
    ratio -= (
        0.5 * (nu + 1) * np.log((nu * s2 / Psi[0, 0] + alpha**2) / (nu * s2 / Psi[0, 0] + 1))
    )  # + log(alpha)
    if np.log(rng.random()) < ratio:
        B *= alpha
        Psi *= alpha**2


def centring_of_wrong_sign(rng, design, rows, beta, aux, Psi, B):
    """beta_0 + delta, b_i + delta."""
    seen = np.diff(rows.first) > 0
    precision = design.sd**-2.0 + seen.sum() / Psi[0, 0]
    mean = ((design.mean[0, 0] - beta[0, 0]) / design.sd**2 + B[seen, 0, 0].sum() / Psi[0, 0]) / precision
    delta = mean + rng.standard_normal() / np.sqrt(precision)
    beta[0, 0] += delta
    B[:, 0, 0] += delta


def effects_at_their_modes(rng, design, rows, beta, aux, Psi, B):
    """In a logit model, Psi is drawn given b_i at its conditional mode instead of a draw."""
    codes = np.repeat(np.arange(len(B)), np.diff(rows.first))
    b, fixed = B[:, 0, 0].copy(), rows.X @ beta[:, 0]
    for _ in range(8):
        mean = expit(fixed + b[codes])
        slope = np.bincount(codes, rows.y - mean, len(b)) - b / Psi[0, 0]
        b += slope / (np.bincount(codes, mean * (1 - mean), len(b)) + 1 / Psi[0, 0])
    B[:, 0, 0] = b


def effects_at_zero_without_rows(rng, design, rows, beta, aux, Psi, B):
    """Effects of clusters without rows are zero."""
    B[np.diff(rows.first) == 0] = 0.0


def increments_without_jacobian(rng, design, rows, beta, aux, Psi, B):
    """Metropolis steps of log h with the density of h."""
    for _ in range(5):
        moved = aux * np.exp(1.0 * rng.standard_normal(aux.size))
        ratio = (density(design, rows, beta, moved, B) - density(design, rows, beta, aux, B)).sum()
        if np.log(rng.random()) < ratio - (moved - aux).sum():
            aux[:] = moved


def shape_flat(rng, design, rows, beta, aux, Psi, B):
    """Metropolis steps of log shape, whose prior is taken to be flat."""
    for _ in range(3):
        moved = aux * np.exp(1.5 * rng.standard_normal(aux.size))
        ratio = (density(design, rows, beta, moved, B) - density(design, rows, beta, aux, B)).sum()
        if np.log(rng.random()) < ratio:
            aux[:] = moved


def precision_without_normaliser(rng, design, rows, beta, aux, Psi, B):
    """Metropolis steps of the log precision of a beta response, without its gamma function."""
    n, scale = len(rows.y), design.shape_scale

    def log_p(k):
        v = k[0] ** -0.5
        prior = np.log(v) - 2 * np.log1p(v**2 / (3 * scale**2))
        return density(design, rows, beta, k, B).sum() - n * gammaln(k[0]) + prior

    for _ in range(3):
        moved = aux * np.exp(0.7 * rng.standard_normal(aux.size))
        if np.log(rng.random()) < log_p(moved) - log_p(aux):
            aux[:] = moved


def degrees_of_freedom_flat(rng, design, rows, beta, aux, Psi, B):
    """Metropolis steps of log sigma, and of log(nu - 2) under a flat prior of nu."""
    scale = design.shape_scale

    def log_p(a):
        return density(design, rows, beta, a, B).sum() - 2 * np.log1p((a[0] / scale) ** 2 / 3) + np.log(a[0])

    for _ in range(3):
        factor = np.exp(np.array([0.7, 1.5]) * rng.standard_normal(2))
        moved = np.array([aux[0] * factor[0], 2.0 + (aux[1] - 2.0) * factor[1]])
        ratio = log_p(moved) - log_p(aux) + np.log(factor[1])
        if moved[1] < 1e4 and np.log(rng.random()) < ratio:
            aux[:] = moved


def hurdle_of_a_zero_inflated_count(rng, design, rows, beta, aux, Psi, B):
    """The count behind the hurdle may be zero too: Metropolis steps of k and hu with a zero-inflated density."""

    def log_p(a):
        v, family = a[0] ** -0.5, ZERO_INFLATED_NEGATIVE_BINOMIAL
        codes = np.repeat(np.arange(len(B)), np.diff(rows.first))
        eta = rows.X @ beta + np.einsum("jq,jqr->jr", rows.Z, B[codes])
        prior = np.log(v) - 2 * np.log1p(v**2 / (3 * design.shape_scale**2)) + np.log(a[1]) + np.log1p(-a[1])
        return log_likelihood(family, rows.y, design.trials, eta, a).sum() + prior

    for _ in range(3):
        moved = np.array([aux[0] * np.exp(rng.normal()), expit(np.log(aux[1] / (1 - aux[1])) + rng.normal())])
        if 1e-8 < moved[0] < 1e8 and 0 < moved[1] < 1 and np.log(rng.random()) < log_p(moved) - log_p(aux):
            aux[:] = moved


def no_zero_structural(rng, design, rows, beta, aux, Psi, B):
    """zi drawn as if every zero were a count."""
    aux[-1] = rng.beta(1, 1 + len(rows.y))


SMALL = design(f.LOGIT, rows=4)
UNCERTAIN = design(f.NEGATIVE_BINOMIAL, scale=0.5, nu=8.0, mean=1.0, rows=4)
FEW = design(ORDINAL, levels=7, mean=1.0, rows=3, m=6)
WITHOUT_EFFECTS = (
    ALL_MOVES - MOVES["effects"] - MOVES["scale"] - MOVES["centre"]
)  # as published: one b, then Psi
VARIANTS = {
    "scale move without its Jacobian": (SMALL, scale_without_jacobian, ALL_MOVES - MOVES["scale"]),
    "centring of wrong sign": (DESIGNS["logit"], centring_of_wrong_sign, ALL_MOVES),
    "Psi from modes": (SMALL, effects_at_their_modes, WITHOUT_EFFECTS),
    "b zero without rows": (DESIGNS["logit"], effects_at_zero_without_rows, ALL_MOVES),
    "increments without their Jacobian": (FEW, increments_without_jacobian, ALL_MOVES),
    "shape without its prior": (UNCERTAIN, shape_flat, ALL_MOVES - MOVES["aux"]),
    "degrees of freedom without their prior": (
        DESIGNS["Student-t, slopes"],
        degrees_of_freedom_flat,
        ALL_MOVES - MOVES["aux"],
    ),
    "every zero a count": (
        DESIGNS["zero-inflated Poisson"],
        no_zero_structural,
        ALL_MOVES - MOVES["aux"],
    ),
    "zeros from behind the hurdle": (
        DESIGNS["hurdle negative binomial"],
        hurdle_of_a_zero_inflated_count,
        ALL_MOVES - MOVES["aux"],
    ),
    "precision of a beta without its gamma function": (
        DESIGNS["beta"],
        precision_without_normaliser,
        ALL_MOVES - MOVES["aux"],
    ),
}


# -- runs ----------------------------------------------------------------------------------------------------

TITLE = [
    "# Simulation-based calibration of the transition of discrete and positive responses: last results",
    "",
    f"{DRAWS} draws a data set. Ranks: exact test of uniformity.py; p-values are multiplied by the number of quantities.",
]


def ranks(design: Design, datasets: int, seed: int, backend=None):
    return sbc.simulate(design, backend or step(), datasets, seed, quantities, draw_truth)


def right(datasets: int, report=print, seed: int = SEED, names=tuple(DESIGNS)) -> dict[str, float]:
    """p-value of each design, Bonferroni over its quantities."""
    out = {}
    for name in names:
        found = ranks(DESIGNS[name], datasets, seed)
        out[name] = sbc.overall(found)
        report(row(name, found))
    return out


def wrong(datasets: int, report=print, seed: int = SEED, names=tuple(VARIANTS)) -> dict[str, float]:
    out = {}
    for name in names:
        design, spoil, moves = VARIANTS[name]
        found = ranks(design, datasets, seed, step(50, 5, moves, spoil))
        out[name] = sbc.overall(found)
        report(row(name, found))
    return out


def section(datasets: int, seed: int, only: list[str]) -> list[str]:
    """The lines about a run of all designs and spoiled transitions, or of `only` some."""
    command = f"python -m tests.calibration.glmm --datasets {datasets} --seed {seed}"
    command += " --only " + " ".join(f'"{name}"' for name in only) if only else ""
    commit = run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
    lines = [
        "",
        f"## {datasets} data sets a design, seed {seed}",
        "",
        f"Made by `{command}`",
        f"on {date.today()}, commit {commit}, Python {platform.python_version()}.",
    ]

    def report(line: str) -> None:
        print(line, flush=True)
        lines.append(line)

    header = ["", "| | quantities | p (Bonferroni) | most extreme | its p |", "|---|---|---|---|---|"]
    if names := [name for name in DESIGNS if name in only or not only]:
        lines += ["", "Right transitions, by design:", *header]
        held = min(right(datasets, report, seed, names).values()) > LEVEL / len(names)
        lines += ["", f"All above {LEVEL} / {len(names)}: {'yes' if held else 'NO'}."]
    if names := [name for name in VARIANTS if name in only or not only]:
        lines += ["", "Spoiled transitions:", *header]
        caught = max(wrong(datasets, report, seed, names).values()) < 1e-6
        lines += ["", f"All below 1e-6: {'yes' if caught else 'NO'}."]
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--datasets", type=int, default=240)
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--only", nargs="*", default=[], choices=[*DESIGNS, *VARIANTS])
    args = parser.parse_args()
    path = Path(__file__).with_name("GLMM_RESULTS.md")
    before = path.read_text().splitlines() if args.only else TITLE
    path.write_text("\n".join([*before, *section(args.datasets, args.seed, args.only)]) + "\n")


if __name__ == "__main__":
    main()
