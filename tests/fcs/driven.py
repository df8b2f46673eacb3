"""A table as arrays, and the joint sampler run on it from end to end."""

from dataclasses import dataclass, replace

import numpy as np

from bayesimp import priors as pr
from bayesimp.joint.gibbs import initial_state, sample_gibbs
from bayesimp.joint.rows import impute_rows
from bayesimp.joint.scale import prepare
from bayesimp.kernels.normal.effects import moments
from bayesimp.sampling.chains import imputation_rng


@dataclass(frozen=True)
class Table:
    X: np.ndarray
    Z: np.ndarray
    Y: np.ndarray
    codes: np.ndarray
    clusters: int


def table(seed=0, clusters=12, rows=15, r=3, q=2, holes=0.15) -> Table:
    """Systematic and sporadic missing values, two clusters with nothing observed, single rows with rare patterns."""
    rng = np.random.default_rng(seed)
    codes = np.repeat(np.arange(clusters), rows)
    N = len(codes)
    X = np.column_stack([np.ones(N), rng.normal(size=N), rng.random(N) < 0.4])
    A = rng.normal(size=(r, r))
    B = rng.normal(size=(clusters, q, r))
    beta = rng.normal(size=(3, r))
    beta[0] += 50
    Y = X @ beta + np.einsum("jq,jqr->jr", X[:, :q], B[codes]) + rng.normal(size=(N, r)) @ A.T
    Y[rng.random(Y.shape) < holes] = np.nan
    Y[codes < clusters // 4, 0] = np.nan
    Y[(codes >= clusters // 4) & (codes < clusters // 2), 1] = np.nan
    Y[codes >= clusters - 2] = np.nan
    return Table(X, X[:, :q].copy(), Y, codes, clusters)


def working(t: Table, priors: pr.Priors):
    names = [f"y{k}" for k in range(t.Y.shape[1])], [f"x{k}" for k in range(t.X.shape[1])]
    priors = replace(priors, beta=priors.beta.without_contextual())
    flat = isinstance(priors.beta, pr.Flat)
    w = prepare(t.X, t.Z, t.Y, t.codes, t.clusters, *names, flat=flat)
    s = w.scale.s
    return w, replace(
        priors,
        Sigma=pr.rescale(pr.resolve(priors.Sigma, s, "Sigma"), s),
        Psi=w.scale.working_Psi_prior(w.scale.Psi_prior(priors.Psi, "Psi")),
    )


def states(t: Table, priors: pr.Priors, chains: int, seed=1):
    return [initial_state(seed, c, priors, t.Y.shape[1], t.Z.shape[1]) for c in range(chains)]


def drive(t: Table, priors=None, *, chains=2, draws=200, tune=50, seed=1, imputations=2, **options):
    """Draws on the scale of the data, and completed values (imputations, N, r), nan where observed."""
    priors = priors or pr.default()
    w, on_working = working(t, priors)
    start = states(t, on_working, chains, seed)
    draws_ = sample_gibbs(w, on_working, start, tune=tune, draws=draws, **options).on_data_scale(w)
    m, scale = moments(w.statistics), w.scale
    values = np.full((imputations, *t.Y.shape), np.nan)
    at = np.arange(imputations) % chains, -1
    theta = (
        scale.working_beta(draws_.beta[at]),
        scale.working_Sigma(draws_.Sigma[at]),
        scale.working_Psi(draws_.Psi[at]),
    )
    values[:, w.rows.row] = impute_rows([imputation_rng(seed, k) for k in range(imputations)], w, m, *theta)
    return draws_, values
