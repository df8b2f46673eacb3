"""Simulation-based calibration of samplers of the joint model (Talts et al. 2018; Modrak et al. 2023).

    parameters ~ prior;  data | parameters;  draws | data   =>   the rank of the truth among draws is uniform

There are three concepts: a Design (table without values, priors), a Backend (design, Y, seed) -> Draws, and ranks. Any
sampler with that signature can be used. Priors are stated on the scale of the data, with explicit numbers:
the way a sampler standardises the data is then part of what is tested.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from scipy.stats import invwishart

from bayesimp import priors as pr
from bayesimp.joint import gibbs as joint_gibbs
from bayesimp.joint.nuts import sample_joint_nuts
from bayesimp.joint.rows import impute_rows
from bayesimp.joint.scale import prepare
from bayesimp.kernels.normal.effects import moments
from bayesimp.kernels.normal.marginal import log_likelihood, marginal_data
from bayesimp.kernels.normal.statistics import collect
from bayesimp.sampling.chains import imputation_rng
from tests.calibration.uniformity import p_value

DRAWS = 99


@dataclass(frozen=True)
class Design:
    """X (N, p), Z (N, q), codes (N,), missing (N, r) bool; proper priors on the scale of the data."""

    X: np.ndarray
    Z: np.ndarray
    codes: np.ndarray
    missing: np.ndarray
    priors: pr.Priors

    @property
    def sizes(self):
        """p, q, r, m."""
        return self.X.shape[1], self.Z.shape[1], self.missing.shape[1], int(self.codes.max()) + 1


@dataclass(frozen=True)
class Draws:
    """beta (L, p, r), Sigma (L, r, r), Psi (L, rq, rq); values (L, N, r), imputed where missing;
    mean, sd (L, m, r): the sampler's own draws of mean and sd of the missing values, or None."""

    beta: np.ndarray
    Sigma: np.ndarray
    Psi: np.ndarray
    values: np.ndarray
    mean: np.ndarray | None = None
    sd: np.ndarray | None = None


Backend = Callable[[Design, np.ndarray, int], Draws]


# -- truth ---------------------------------------------------------------------------------------------------


def draw_covariance(rng, prior, d):
    """A covariance matrix from its prior, with SciPy."""
    match prior:
        case pr.InverseWishart():
            V = np.asarray(prior.V) if np.ndim(prior.V) else prior.V * np.eye(d)
            return np.atleast_2d(invwishart(prior.nu, np.linalg.inv(V)).rvs(random_state=rng))
        case pr.HuangWand():
            a = 1 / rng.gamma(0.5, np.broadcast_to(prior.scale, d) ** 2)
            scale = 2 * prior.nu * np.diag(1 / a)
            return np.atleast_2d(invwishart(prior.nu + d - 1, scale).rvs(random_state=rng))
        case pr.Diagonal(variances=pr.HalfT() as sd):
            return np.diag((np.broadcast_to(sd.scale, d) * rng.standard_t(sd.nu, d)) ** 2)
        case pr.Diagonal(variances=pr.InverseWishart() as ig):
            return np.diag(0.5 / np.broadcast_to(ig.V, d) / rng.gamma(0.5 * ig.nu, size=d))
        case pr.Fixed():
            return np.asarray(prior.value, dtype=float)
    raise TypeError(prior)


def draw_Psi(rng, design: Design):
    """Psi, reported at the given Z, from a prior of the effects at Z less its means (intercept first)."""
    q, r = design.sizes[1:3]
    Psi = draw_covariance(rng, design.priors.Psi, r * q)
    if isinstance(design.priors.Psi, pr.Fixed):
        return Psi
    C = np.eye(q)
    C[0, 1:] -= design.Z[:, 1:].mean(axis=0)
    return np.kron(np.eye(r), C) @ Psi @ np.kron(np.eye(r), C).T


def draw_truth(rng, design: Design) -> Draws:
    """One draw of parameters and of the whole table, as Draws with L = 1."""
    p, q, r, m = design.sizes
    beta = rng.normal(design.priors.beta.mean, design.priors.beta.sd, size=(p, r))
    Sigma = draw_covariance(rng, design.priors.Sigma, r)
    Psi = draw_Psi(rng, design)
    B = rng.multivariate_normal(np.zeros(r * q), Psi, m).reshape(m, r, q).transpose(0, 2, 1)
    E = rng.multivariate_normal(np.zeros(r), Sigma, len(design.X))
    Y = design.X @ beta + np.einsum("jq,jqr->jr", design.Z, B[design.codes]) + E
    return Draws(beta[None], Sigma[None], Psi[None], Y[None])


# -- quantities ----------------------------------------------------------------------------------------------


def quantities(design: Design, Y, draws: Draws) -> dict[str, np.ndarray]:
    """Name -> (L,): parameters, log determinants, the likelihood, imputed cells and their summaries."""
    p, _, r, _ = design.sizes
    out = {f"beta[{x},{k}]": draws.beta[:, x, k] for x in range(p) for k in range(r)}
    for name in ("Sigma", "Psi"):
        S = getattr(draws, name)
        if not isinstance(getattr(design.priors, name), pr.Fixed):
            out |= {f"{name}[{i},{i}]": S[:, i, i] for i in range(S.shape[1])}
            out[f"logdet {name}"] = np.linalg.slogdet(S)[1]
            if S.shape[1] > 1 and not isinstance(getattr(design.priors, name), pr.Diagonal):
                out[f"{name}[1,0]"] = S[:, 1, 0]
                out[f"{name}[-1,0] as correlation"] = S[:, -1, 0] / np.sqrt(S[:, 0, 0] * S[:, -1, -1])
    out["log likelihood"] = _log_likelihoods(design, Y, draws)
    return out | imputed_quantities(design, Y, draws)


def imputed_quantities(design: Design, Y, draws: Draws) -> dict[str, np.ndarray]:
    r, m = design.sizes[2:]
    values = np.where(design.missing, draws.values, Y)
    out = {}
    for k in range(r):
        lost = np.flatnonzero(design.missing[:, k])
        for j in lost[:: max(len(lost) // 3, 1)]:
            out[f"cell[{j},{k}]"] = values[:, j, k]
        out[f"mean of imputed[{k}]"] = values[:, lost, k].mean(1)
        out[f"sd of imputed[{k}]"] = values[:, lost, k].std(1)
    out["association of columns"] = ((values - values.mean(1, keepdims=True)).prod(2)).mean(1)
    mean, sd = (draws.mean, draws.sd) if draws.mean is not None else cluster_statistics(design, values)
    for i in range(m):
        for k in range(r):
            if design.missing[design.codes == i, k].sum() > 1 and (i + k) % 2 == 0:
                out |= {f"cluster mean[{i},{k}]": mean[:, i, k], f"cluster sd[{i},{k}]": sd[:, i, k]}
    return out


def cluster_statistics(design: Design, values):
    """Mean and sd of the missing values by cluster and response, from completed tables (L, N, r)."""
    r, m = design.sizes[2:]
    mean, sd = np.full((2, len(values), m, r), np.nan)
    for i in range(m):
        for k in range(r):
            lost = (design.codes == i) & design.missing[:, k]
            if lost.sum() > 1:
                mean[:, i, k], sd[:, i, k] = values[:, lost, k].mean(1), values[:, lost, k].std(1, ddof=1)
    return mean, sd


def _log_likelihoods(design: Design, Y, draws: Draws):
    s = marginal_data(collect(design.X, design.Z, Y, design.codes, design.sizes[3]))
    data = s.observed, s.cells, s.gram, s.total
    thetas = zip(draws.beta, draws.Sigma, draws.Psi, strict=True)
    return np.array([log_likelihood(*map(np.ascontiguousarray, theta), *data)[0] for theta in thetas])


# -- ranks ---------------------------------------------------------------------------------------------------


def simulate(
    design: Design, backend: Backend, datasets: int, seed: int, which=quantities, draw_truth=draw_truth
) -> dict[str, np.ndarray]:
    """Name -> (datasets,) ranks of the truth, 0..DRAWS."""
    ranks: dict[str, list[int]] = {}
    for k in range(datasets):
        rng = np.random.default_rng([seed, k])
        truth = draw_truth(rng, design)
        Y = np.where(design.missing, np.nan, truth.values[0])
        true = which(design, Y, truth)
        for name, values in which(design, Y, backend(design, Y, int(rng.integers(2**31)))).items():
            if len(values) != DRAWS:
                raise ValueError(f"{name}: {len(values)} draws, not {DRAWS}")
            ranks.setdefault(name, []).append(int((values < true[name][0]).sum()))
    return {name: np.array(r) for name, r in ranks.items()}


def p_values(ranks: dict[str, np.ndarray]) -> dict[str, float]:
    return {name: p_value(r, DRAWS) for name, r in ranks.items()}


def overall(ranks: dict[str, np.ndarray]) -> float:
    """Bonferroni over the quantities."""
    each = p_values(ranks)
    return min(1.0, min(each.values()) * len(each))


# -- the samplers as backends --------------------------------------------------------------------------


def working_and_priors(design: Design, Y, orthogonal: bool = True):
    p, _, r, m = design.sizes
    working = prepare(
        design.X, design.Z, Y, design.codes, m, [f"y{k}" for k in range(r)], [f"x{k}" for k in range(p)],
        flat=False, orthogonal=orthogonal,
    )  # fmt: skip
    s, scale = working.scale.s, working.scale
    return working, replace(
        design.priors,
        Sigma=pr.rescale(pr.resolve(design.priors.Sigma, s, "Sigma"), s),
        Psi=scale.working_Psi_prior(scale.Psi_prior(design.priors.Psi, "Psi")),
    )


def gibbs(tune: int = 200, thin: int = 10) -> Backend:
    def backend(design: Design, Y, seed: int) -> Draws:
        working, priors = working_and_priors(design, Y)
        _, q, r, _ = design.sizes
        states = [joint_gibbs.initial_state(seed, 0, priors, r, q)]
        kept = joint_gibbs.sample_gibbs(working, priors, states, tune=tune, draws=DRAWS, thin=thin, workers=1)
        kept = kept.on_data_scale(working)
        beta, Sigma, Psi = kept.beta[0], kept.Sigma[0], kept.Psi[0]
        values = impute_all(design, working, beta, Sigma, Psi, seed)
        return Draws(beta, Sigma, Psi, values, kept.mean[0], kept.sd[0])

    return backend


def nuts(tune: int = 300, thin: int = 4) -> Backend:
    """NUTS on the joint density; its own working scale keeps independent priors of beta independent."""

    def backend(design: Design, Y, seed: int) -> Draws:
        working, priors = working_and_priors(design, Y)
        diagonal, priors = working_and_priors(design, Y, orthogonal=False)
        kept, _, _ = sample_joint_nuts(
            diagonal, priors, imputed_on=working, chains=1, tune=tune, draws=DRAWS * thin, seed=seed
        )
        beta, Sigma, Psi, mean, sd = (
            getattr(kept, name)[0, thin - 1 :: thin] for name in ("beta", "Sigma", "Psi", "mean", "sd")
        )
        return Draws(beta, Sigma, Psi, impute_all(design, working, beta, Sigma, Psi, seed), mean, sd)

    return backend


def impute_all(design: Design, working, beta, Sigma, Psi, seed: int):
    """(L, N, r) values from parameters on the scale of the data."""
    scale, m = working.scale, moments(working.statistics)
    values = np.full((len(beta), *design.missing.shape), np.nan)
    theta = scale.working_beta(beta), scale.working_Sigma(Sigma), scale.working_Psi(Psi)
    rngs = [imputation_rng(seed, k) for k in range(len(beta))]
    values[:, working.rows.row] = impute_rows(rngs, working, m, *theta)
    return values
