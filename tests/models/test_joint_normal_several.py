"""The PyMC model with several grouping factors: density against the dense normal, posterior against Gibbs draws."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pymc as pm
import pytest
from numpy.testing import assert_allclose
from scipy.stats import multivariate_normal, norm
from scipy.stats import t as student

import bayesimp as bi
from bayesimp import priors as pr
from bayesimp.sampling.nuts import sample_nuts
from tests.joint.test_against_r import mcse
from tests.joint.test_gibbs_against_nuts import BATCHES, LEVEL, summary
from tests.longhand import several_factors as longhand

CASES = {
    "nested": "y + w ~ x + (1 + x | school) + (1 | class)",
    "crossed": "y + w ~ x + (1 | school) + (1 + x | hood)",
    "both": "y + w ~ x + (1 | school) + (1 | class) + (1 | hood)",
}
COLUMNS = {"nested": ["school", "class"], "crossed": ["school", "hood"], "both": ["school", "class", "hood"]}


def table() -> pd.DataFrame:
    rng = np.random.default_rng(4)
    n = 60
    school, hood = np.arange(n) // 12, rng.integers(0, 5, n)
    classes = school * 2 + np.arange(n) % 2
    x = rng.normal(size=n)
    Y = np.outer(x, [1.0, -0.5]) + rng.normal(size=(5, 2))[school] + 0.7 * rng.normal(size=(10, 2))[classes]
    Y += 0.7 * rng.normal(size=(5, 2))[hood] + rng.normal(size=(n, 2))
    Y[rng.random(Y.shape) < 0.2] = np.nan
    Y[school == 1, 1] = np.nan
    frame = pd.DataFrame({"y": Y[:, 0], "w": Y[:, 1], "x": x, "school": school})
    return frame.assign(**{"class": [f"c{k}" for k in classes], "hood": [f"h{k}" for k in hood]})


def model(case: str, priors: pr.Priors | None = None) -> bi.JointNormal:
    frame = table()[["y", "w", "x", *COLUMNS[case]]]
    return bi.JointNormal(bi.IncompleteData(frame, COLUMNS[case]), CASES[case], priors)


@pytest.mark.parametrize("case", CASES)
def test_density_is_that_of_the_dense_normal(case):
    """log p(y_obs, effects of the further factors | beta, Sigma, Psi) at random points: the free effects u_s are standard
    normal, the observed cells normal given them with the effects of the first factor in their covariance."""
    made = model(case)
    pymc = made.pymc_model()
    plain = {"mode": "FAST_COMPILE", "on_unused_input": "ignore"}
    values = [pymc.rvs_to_values[v] for v in pymc.free_RVs]
    observed = pm.pytensorf.compile(values, pymc.logp(vars=pymc.potentials), **plain)
    effects = [v for v in pymc.free_RVs if v.name.startswith("u_")]
    normals = pm.pytensorf.compile(values, pymc.logp(vars=effects), **plain)
    names = [*made.parameter_priors, *(v.name for v in effects)]
    constrain = pm.pytensorf.compile(
        values, pymc.replace_rvs_by_values([pymc[name] for name in names]), **plain
    )
    start, rng = pymc.initial_point(0), np.random.default_rng(1)
    frame, several = made.data.frame, made.grouping
    X, Y = several.designs[0].X, frame[["y", "w"]].to_numpy()
    parts = [
        (d.Z, f.groups.codes, len(f.groups)) for d, f in zip(several.designs, several.factors, strict=True)
    ]
    D, starts = longhand.system(X, parts, Y)
    seen = ~np.isnan(Y).ravel()
    for _ in range(3):
        point = [start[v.name] + 0.5 * rng.normal(size=np.shape(start[v.name])) for v in values]
        found = dict(zip(names, constrain(*point), strict=True))
        u = [found["beta"].ravel(order="F"), np.zeros(starts[1] - starts[0])]
        for factor in several.factors[1:]:
            L = np.linalg.cholesky(found[f"Psi_{factor.label}"])
            u.append((found[f"u_{factor.label}"] @ L.T).ravel())
        S = np.kron(np.eye(len(Y)), found["Sigma"])
        first = D[:, starts[0] : starts[1]]
        S = S + first @ np.kron(np.eye(parts[0][2]), found[f"Psi_{several.labels[0]}"]) @ first.T
        law = multivariate_normal((D @ np.concatenate(u))[seen], S[np.ix_(seen, seen)])
        assert_allclose(observed(*point), law.logpdf(Y.ravel()[seen]), rtol=0, atol=1e-7)
        expected = sum(norm.logpdf(found[v.name]).sum() for v in effects)
        assert_allclose(normals(*point), expected, rtol=0, atol=1e-9)


def test_too_many_groups_are_refused():
    frame = pd.concat(
        [table().assign(school=lambda f, k=k: f["school"] + 5 * k) for k in range(60)], ignore_index=True
    )
    frame["class"] = frame["school"].astype(str) + frame["class"]
    made = bi.JointNormal(bi.IncompleteData(frame, ["school", "class"]), CASES["nested"])
    with pytest.raises(bi.SpecificationError, match="600 of each response, more than the 500"):
        made.pymc_model()


def compared(case: str, gibbs_priors: pr.Priors, nuts_priors: pr.Priors) -> tuple[float, float]:
    """Largest |z| of means and quantiles, and its limit."""
    imp = model(case, gibbs_priors).impute(m=2, seed=3, chains=2, draws=20_000, progress=False)
    made = model(case, nuts_priors)
    nuts = sample_nuts(made.pymc_model(), chains=2, tune=800, draws=3_000, seed=5).draws
    z = []
    for name in made.parameter_priors:
        a, b = imp.tree["posterior"][name].values, nuts[name]
        for i in np.ndindex(a.shape[2:]):
            if name != "beta" and i[0] < i[1]:
                continue
            x, y = ((np.log(v[:, :, *i]) if name != "beta" and i[0] == i[1] else v[:, :, *i]) for v in (a, b))
            gap = summary(x) - summary(y)
            z.append(gap / np.hypot(mcse(x, summary, BATCHES), mcse(y, summary, BATCHES)))
    z = np.array(z)
    return np.abs(z).max(), student.isf(LEVEL / z.size / 2, 2 * BATCHES - 2)


@pytest.mark.slow
@pytest.mark.parametrize("case", ["nested", "both"])
def test_nuts_and_gibbs_have_one_posterior(case):
    priors = pr.Priors(Psi=pr.HuangWand(nu=3.0), Psi_of={"class": pr.InverseWishart(4.0, 0.5)})
    z, limit = compared(case, priors, priors)
    assert z < limit


@pytest.mark.slow
def test_another_prior_of_one_factor_is_told_apart():
    one, other = (pr.Priors(Psi_of={"class": pr.InverseWishart(nu, 0.5)}) for nu in (4.0, 9.0))
    z, limit = compared("nested", one, other)
    assert z > limit
