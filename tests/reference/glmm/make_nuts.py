"""Posteriors of small generalised mixed models by NUTS (PyMC, nutpie), frozen in nuts_<name>.json.

    python tests/reference/glmm/make_nuts.py [name ...]        1 to 3 minutes each

    eta_j = x_j' beta + z_j' b_i,    b_i ~ N(0, Psi),    row j in cluster i; r predictors in the categorical model,
                                                         effect k q + l: column l of Z on predictor k
    beta ~ N(0, 5^2) intercepts, N(0, 2.5^2) slopes
    Psi ~ Huang-Wand(nu=2, scale=1): |Psi|^-(nu+2d)/2 prod_k (nu (Psi^-1)_kk + 1)^-(nu+d)/2, d = 1: sd ~ half-t(2, 1)
    1/sqrt(shape) ~ half-t(3, 1);   c_0 = 0, c_k - c_(k-1) ~ exponential(1);   P(y <= k) = logistic(c_k - eta)

Nothing of the library is used: b_i = L z_i with z_i ~ N(0, I), and sds and correlation are flat variables with the
density of Psi, its Jacobian |d Psi / d (sd, rho)| = 2^d prod sd^d included. Densities of y are written out, as in the
manual of SciPy.
"""

import json
import platform
import sys
from datetime import date
from pathlib import Path

import arviz_stats as azs
import numpy as np
import nutpie
import pymc as pm
import pytensor.tensor as pt

HERE = Path(__file__).parent
PROBS = (0.05, 0.25, 0.5, 0.75, 0.95)

# name: family, link, clusters, rows a cluster, beta (p, r), Cholesky factor of Psi, the rest. Reliability of a cluster
# of n rows is psi / (psi + 1 / (n w)), w the weight of a row at b = 0: p (1 - p) or mu. At .33, n = 5, psi = 1: w = .1
DESIGNS = {
    "bernoulli": ("bernoulli", "logit", 30, 5, [[-2.06], [0.5]], [[1.0]], {}),
    "poisson": ("poisson", "log", 30, 5, [[-2.3], [0.5]], [[1.0]], {}),
    "ordinal": ("ordinal", "logit", 20, 8, [[1.0], [0.7]], [[0.8]], {"cutpoints": [0.0, 1.0, 2.2]}),
    "categorical": ("categorical", "logit", 20, 10, [[0.3, -0.4], [0.6, -0.5]], [[0.8, 0.0], [0.4, 0.6]], {}),
    "sporadic": ("bernoulli", "logit", 15, 200, [[0.3], [0.5]], [[0.9, 0.0], [0.2, 0.5]], {"missing": 100}),
    "probit": ("bernoulli", "probit", 25, 8, [[0.3], [0.5]], [[0.7]], {}),
    "binomial": ("binomial", "logit", 20, 6, [[-0.5], [0.5]], [[0.7]], {"trials": True}),
    "negative_binomial": ("negative_binomial", "log", 20, 8, [[0.8], [0.4]], [[0.6]], {"shape": 2.0}),
    "gamma": ("gamma", "log", 20, 8, [[0.5], [0.4]], [[0.6]], {"shape": 2.0}),
    "inverse_gaussian": ("inverse_gaussian", "log", 20, 8, [[0.5], [0.4]], [[0.6]], {"shape": 3.0}),
}
SEED = 20261121


def simulate(name: str) -> dict:
    """cluster, x, y of the observed rows (and trials), then the rows to be imputed. Z: q columns of [1, x]."""
    family, link, m, n, beta, L, more = DESIGNS[name]
    rng = np.random.default_rng([SEED, list(DESIGNS).index(name)])
    beta, L = np.array(beta), np.array(L)
    r = beta.shape[1]
    q = len(L) // r
    cluster, x = np.repeat(np.arange(m), n), rng.standard_normal(m * n).round(2)
    X = np.column_stack([np.ones(m * n), x])
    b = rng.standard_normal((m, r * q)) @ L.T
    eta = X @ beta + (X[:, None, :q] * b.reshape(m, r, q)[cluster]).sum(-1)
    trials = rng.integers(1, 8, m * n) if "trials" in more else None
    y = draw(rng, family, link, eta, trials, more)
    seen = np.ones(m * n, dtype=bool)
    seen[: more.get("missing", 0)] = False
    out = {"cluster": cluster[seen], "x": x[seen], "y": y[seen]}
    if trials is not None:
        out["trials"] = trials
    return out | {"cluster_missing": cluster[~seen], "x_missing": x[~seen]}


def draw(rng, family, link, eta, trials, more):
    one, shape = eta[:, 0], more.get("shape")
    mu = np.exp(one)
    match family:
        case "bernoulli" | "binomial":
            from scipy.special import expit, ndtr

            return rng.binomial(1 if trials is None else trials, expit(one) if link == "logit" else ndtr(one))
        case "poisson":
            return rng.poisson(mu)
        case "negative_binomial":
            return rng.poisson(mu * rng.gamma(shape, 1 / shape, len(mu)))
        case "gamma":
            return (mu * rng.gamma(shape, 1 / shape, len(mu))).round(4)
        case "inverse_gaussian":
            return rng.wald(mu, shape).round(4)
        case "ordinal":
            latent = one + rng.logistic(size=len(one))
            return (latent[:, None] > np.array(more["cutpoints"])).sum(1)
    utility = np.column_stack([np.zeros(len(eta)), eta]) + rng.gumbel(size=(len(eta), eta.shape[1] + 1))
    return utility.argmax(1)


def posterior(name: str, data: dict) -> pm.Model:
    family, link, m, _, beta, L, more = DESIGNS[name]
    d, r = len(L), np.shape(beta)[1]
    q = d // r
    y, codes = data["y"], data["cluster"]
    X = np.column_stack([np.ones(len(y)), data["x"]])
    with pm.Model() as model:
        beta = pm.Normal("beta", 0, np.array([[5.0] * r, [2.5] * r]), shape=(2, r))
        sd = pm.HalfFlat("sd", shape=d)
        if d == 1:
            pm.Deterministic("Psi", sd[:, None] ** 2)
            factor = sd[:, None]
            diagonal, determinant, jacobian = 1 / sd**2, sd[0] ** 2, pt.log(2 * sd[0])
        else:
            rho = pm.Uniform("rho", -1, 1)
            off = rho * sd[0] * sd[1]
            pm.Deterministic("Psi", pt.stacklists([[sd[0] ** 2, off], [off, sd[1] ** 2]]))
            factor = pt.stacklists([[sd[0], 0.0], [rho * sd[1], sd[1] * pt.sqrt(1 - rho**2)]])
            diagonal, determinant = 1 / (sd**2 * (1 - rho**2)), pt.prod(sd**2) * (1 - rho**2)
            jacobian = pt.log(4 * pt.prod(sd**2))
        huang_wand = -(2 + 2 * d) / 2 * pt.log(determinant) - (2 + d) / 2 * pt.log(2 * diagonal + 1).sum()
        pm.Potential("huang_wand", huang_wand + jacobian)
        z = pm.Normal("z", 0, 1, shape=(m, d))
        b = pm.Deterministic("b", z @ factor.T)
        eta = pt.dot(X, beta) + (X[:, None, :q] * b.reshape((m, r, q))[codes]).sum(-1)
        shape = cutpoints = None
        if "shape" in more:
            dispersion = pm.HalfStudentT("dispersion", nu=3, sigma=1)
            shape = pm.Deterministic("shape", dispersion**-2)
        if family == "ordinal":
            steps = pm.Exponential("steps", 1, shape=len(more["cutpoints"]) - 1)
            cutpoints = pm.Deterministic("cutpoints", pt.concatenate([[0.0], pt.cumsum(steps)]))
        pm.Potential("y", log_density(family, link, y, eta, data.get("trials"), shape, cutpoints).sum())
    return model


def log_density(family, link, y, eta, trials, shape, cutpoints):
    one, rows = eta[:, 0], np.arange(len(y))
    mu, n = pt.exp(one), 1 if trials is None else trials
    match family:
        case "bernoulli" | "binomial" if link == "logit":
            return y * one - n * pt.softplus(one)
        case "bernoulli":
            return pt.log(0.5 * pt.erfc(-(2 * y - 1) * one / np.sqrt(2)))
        case "poisson":
            return y * one - mu
        case "negative_binomial":
            choose = pt.gammaln(y + shape) - pt.gammaln(shape)
            return choose + shape * pt.log(shape / (shape + mu)) + y * pt.log(mu / (shape + mu))
        case "gamma":
            return (shape - 1) * np.log(y) - shape * y / mu + shape * pt.log(shape / mu) - pt.gammaln(shape)
        case "inverse_gaussian":
            return 0.5 * pt.log(shape / y**3) - shape * (y - mu) ** 2 / (2 * mu**2 * y)
        case "ordinal":
            below = pt.concatenate(
                [pt.zeros((len(y), 1)), pt.sigmoid(cutpoints - one[:, None]), pt.ones((len(y), 1))], axis=1
            )
            return pt.log(below[rows, y + 1] - below[rows, y])
    scores = pt.concatenate([pt.zeros((len(y), 1)), eta], axis=1)
    return scores[rows, y] - pt.logsumexp(scores, axis=1)


def summarise(draws: np.ndarray) -> dict:
    """Of (chain, draw): mean, sd, quantiles, each with its Monte Carlo standard error; R-hat and effective draws."""

    def number(x):
        return float(f"{float(x):.6g}")

    quantiles = np.quantile(draws, PROBS)
    return {
        "mean": number(draws.mean()),
        "mean_mcse": number(azs.mcse(draws, method="mean")),
        "sd": number(draws.std(ddof=1)),
        "sd_mcse": number(azs.mcse(draws, method="sd")),
        "quantiles": [number(x) for x in quantiles],
        "quantiles_mcse": [number(azs.mcse(draws, method="quantile", prob=p)) for p in PROBS],
        "rhat": number(azs.rhat(draws)),
        "ess_bulk": number(azs.ess(draws)),
    }


def quantities(name: str, data: dict, post) -> dict[str, np.ndarray]:
    """What is compared, by name as in NumPy: "Psi[0,1]"."""
    values = {k: np.asarray(post[k]) for k in ("beta", "Psi", "shape", "cutpoints") if k in post}
    values["b"] = np.asarray(post["b"])[:, :, :3]
    out = {}
    for key, array in values.items():
        for place in np.ndindex(array.shape[2:]):
            if (key == "Psi" and place[0] > place[1]) or (key == "cutpoints" and place == (0,)):
                continue
            label = f"{key}[{','.join(map(str, place))}]" if place else key
            out[label] = array[(..., *place)]
    if len(x := data["x_missing"]):
        rows = np.column_stack([np.ones(len(x)), x])
        of = data["cluster_missing"][0]
        eta = (np.asarray(post["beta"])[..., 0] + np.asarray(post["b"])[:, :, of]) @ rows.T
        out |= {f"eta_missing[{j}]": eta[..., j] for j in range(5)}
        out["mean(eta_missing)"] = eta.mean(-1)
    return out


def main(names) -> None:
    for name in names:
        data = simulate(name)
        compiled = nutpie.compile_pymc_model(posterior(name, data))
        trace = nutpie.sample(
            compiled,
            draws=10_000,
            tune=1500,
            chains=4,
            cores=1,
            seed=1,
            target_accept=0.95,
            progress_bar=False,
        )
        found = {k: summarise(v) for k, v in quantities(name, data, trace.posterior).items()}
        divergences = int(np.asarray(trace.sample_stats["diverging"]).sum())
        worst = {
            "rhat": max(f["rhat"] for f in found.values()),
            "mean_mcse / sd": round(max(f["mean_mcse"] / f["sd"] for f in found.values()), 4),
            "ess_bulk": min(f["ess_bulk"] for f in found.values()),
            "divergences": divergences,
        }
        family, link, m, _, beta, L, more = DESIGNS[name]
        record = {
            "name": name, "family": family, "link": link, "clusters": m, "q": len(L) // np.shape(beta)[1],
            "levels": {"ordinal": 4, "categorical": 3}.get(family, 0), "probs": PROBS,
            "truth": {"beta": beta, "Psi": (np.array(L) @ np.array(L).T).tolist(), **more},
            "priors": {
                "beta": "normal, mean 0, sd 5 (intercept), 2.5 (slope)", "Psi": "HuangWand(nu=2, scale=1)",
                **({"shape": "1/sqrt(shape) ~ half-t(3, 1)"} if "shape" in more else {}),
                **({"cutpoints": "c_0 = 0, c_k - c_(k-1) ~ exponential(1)"} if family == "ordinal" else {}),
            },
            "made": {
                "by": "make_nuts.py", "seed": SEED, "date": str(date.today()), "python": platform.python_version(),
                "pymc": pm.__version__, "nutpie": nutpie.__version__, "chains": 4, "draws": 10_000,
            },
            "worst": worst, "posterior": found, "data": {k: np.asarray(v).tolist() for k, v in data.items()},
        }  # fmt: skip
        text = "{\n" + ",\n".join(f' "{k}": {json.dumps(v)}' for k, v in record.items()) + "\n}\n"
        (HERE / f"nuts_{name}.json").write_text(text)
        print(name, worst, flush=True)


if __name__ == "__main__":
    main(sys.argv[1:] or DESIGNS)
