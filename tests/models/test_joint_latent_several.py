"""The PyMC model on latent normals with several grouping factors: density longhand, posterior against Gibbs draws."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pymc as pm
import pytest
from numpy.testing import assert_allclose
from scipy.stats import norm
from scipy.stats import t as student

import bayesimp as bi
from bayesimp import priors as pr
from bayesimp.sampling.nuts import sample_nuts
from tests.joint.test_against_r import mcse
from tests.joint.test_gibbs_against_nuts import BATCHES, LEVEL, summary

FORMULA = "y + b ~ x + (1 | school) + (1 + x | hood)"


def table(n: int = 60) -> pd.DataFrame:
    rng = np.random.default_rng(4)
    school, hood, x = np.arange(n) % 5, rng.integers(0, 6, n), rng.normal(size=n)
    Y = np.outer(x, [1.0, -0.5]) + rng.normal(size=(5, 2))[school] + 0.7 * rng.normal(size=(6, 2))[hood]
    Y += rng.normal(size=(n, 2))
    frame = pd.DataFrame({"y": Y[:, 0], "b": (Y[:, 1] > 0) * 1.0, "x": x, "school": school})
    return frame.mask(rng.random(frame.shape) < [0.2, 0.2, 0, 0]).assign(hood=[f"h{k}" for k in hood])


def model(priors: pr.Priors | None = None) -> bi.JointLatent:
    return bi.JointLatent(bi.IncompleteData(table(), ["school", "hood"], {"b": "bernoulli"}), FORMULA, priors)


def longhand(made: bi.JointLatent, found: dict[str, np.ndarray], of_hoods: bool = True) -> float:
    """The sum over rows of log p(y) + log p(b | y) given the effects of both factors."""
    frame, Sigma = made.data.frame, found["Sigma"]
    school, hood = frame["school"].to_numpy(), pd.Categorical(frame["hood"]).codes
    one = np.ones(len(frame))
    slope = np.column_stack([one, frame["x"]])
    mu = slope @ found["beta"]
    mu = mu + (found["u_school"] @ np.linalg.cholesky(found["Psi_school"]).T)[school]
    B = (found["u_hood"] @ np.linalg.cholesky(found["Psi_hood"]).T).reshape(6, 2, 2)
    mu = mu + of_hoods * np.einsum("nkl,nl->nk", B[hood], slope)
    y, b = frame["y"].to_numpy(), frame["b"].to_numpy()
    seen, e = ~np.isnan(y), np.nan_to_num(y - mu[:, 0])
    total = norm.logpdf(e[seen], 0, np.sqrt(Sigma[0, 0])).sum()
    eta = mu[:, 1] + np.where(seen, Sigma[0, 1] / Sigma[0, 0] * e, 0.0)
    sd = np.sqrt(1.0 - np.where(seen, Sigma[0, 1] ** 2 / Sigma[0, 0], 0.0))
    there = ~np.isnan(b)
    return total + norm.logcdf(((2 * b - 1) * eta / sd)[there]).sum()


def test_density_is_that_of_the_rows_given_the_effects():
    made = model()
    pymc = made.pymc_model()
    plain = {"mode": "FAST_COMPILE", "on_unused_input": "ignore"}
    values = [pymc.rvs_to_values[v] for v in pymc.free_RVs]
    rows = [p for p in pymc.potentials if p.name.startswith("rows_")]
    observed = pm.pytensorf.compile(values, pymc.logp(vars=rows), **plain)
    names = ["beta", "Sigma", "Psi_school", "Psi_hood", "u_school", "u_hood"]
    constrain = pm.pytensorf.compile(
        values, pymc.replace_rvs_by_values([pymc[name] for name in names]), **plain
    )
    start, rng = pymc.initial_point(0), np.random.default_rng(1)
    for _ in range(2):
        point = [start[v.name] + 0.3 * rng.normal(size=np.shape(start[v.name])) for v in values]
        found = dict(zip(names, constrain(*point), strict=True))
        assert_allclose(observed(*point), longhand(made, found), rtol=0, atol=1e-7)
        assert abs(observed(*point) - longhand(made, found, of_hoods=False)) > 0.1
    assert list(pymc.coords["effect_hood"]) == ["y:Intercept", "y:x", "b:Intercept", "b:x"]


def test_what_the_pymc_model_lacks_is_refused():
    frame = table().assign(v=lambda f: f.groupby("hood")["x"].transform("mean").round(3))
    frame.loc[frame["hood"] == "h2", "v"] = np.nan
    data = bi.IncompleteData(frame, ["school", "hood"], {"b": "bernoulli"})
    with pytest.raises(bi.SpecificationError, match=r"no cluster-level variables \(v\)"):
        bi.JointLatent(data, "y + b + v ~ 1 + (1 | school) + (1 | hood)").pymc_model()
    many = pd.concat(
        [table().assign(hood=lambda f, k=k: f["hood"] + str(k)) for k in range(90)], ignore_index=True
    )
    made = bi.JointLatent(bi.IncompleteData(many, ["school", "hood"], {"b": "bernoulli"}), FORMULA)
    with pytest.raises(bi.SpecificationError, match=r"1,085 of each latent variable, more than the 500"):
        made.pymc_model()


@pytest.mark.slow
@pytest.mark.parametrize("nu", [4.0, 12.0])
def test_nuts_and_gibbs_have_one_posterior(nu):
    """Told apart if the prior of hoods has another nu."""
    Psi_of = {"hood": pr.InverseWishart(6.0, 0.5)}
    made = model(pr.Priors(pr.LKJ(2.0, pr.HalfT()), pr.HuangWand(nu=nu), Psi_of=Psi_of))
    imp = made.impute(m=2, seed=3, chains=2, draws=20_000, thin=1, progress=False)
    other = model(pr.Priors(pr.LKJ(2.0, pr.HalfT()), pr.HuangWand(nu=4.0), Psi_of=Psi_of))
    nuts = sample_nuts(other.pymc_model(), chains=2, tune=800, draws=3_000, seed=5).draws
    z = []
    for name in made.parameter_priors:
        a, b = imp.tree["posterior"][name].values, nuts[name]
        for i in np.ndindex(a.shape[2:]):
            if name != "beta" and (i[0] < i[1] or np.ptp(a[:, :, *i]) == 0):
                continue
            x, y = ((np.log(v[:, :, *i]) if name != "beta" and i[0] == i[1] else v[:, :, *i]) for v in (a, b))
            z.append(
                (summary(x) - summary(y)) / np.hypot(mcse(x, summary, BATCHES), mcse(y, summary, BATCHES))
            )
    z = np.array(z)
    limit = student.isf(LEVEL / z.size / 2, 2 * BATCHES - 2)
    assert (np.abs(z).max() < limit) == (nu == 4.0)
