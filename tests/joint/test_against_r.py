"""Gibbs and NUTS against R pan and jomo, on frozen output (tests/reference/joint, with script and versions).

Means, sds and quantiles of every parameter and of every imputed mean and sd are compared in units of
sqrt(mcse_R^2 + mcse_ours^2). With K comparisons in a file, the largest |z| must stay below the two-sided normal
quantile at level 0.001 / K (Bonferroni), widened by 1.35 because R's Monte Carlo errors come from 40 (jomo: 20)
chains and carry a relative error of 11 % (16 %) themselves. Seeds are fixed: the outcome does not vary.
"""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm

from bayesimp import priors as pr
from bayesimp.joint.normal import JointNormal
from bayesimp.table.incomplete import IncompleteData

REFERENCE = Path(__file__).parents[1] / "reference" / "joint"
LEVEL, WIDEN = 0.001, 1.35
FORMULA = {
    "case1.csv": "y1 + y2 ~ x + (1 | cluster)",
    "case2.csv": "y1 + y2 + y3 ~ x + (1 + x | cluster)",
    "case3.csv": "y1 ~ 1 + (1 | cluster)",
}


def read(name):
    return json.loads((REFERENCE / f"{name}.json").read_text())


def priors_of(reference):
    records = (reference["prior"][part] for part in ("Sigma", "Psi"))
    Sigma, Psi = (pr.InverseWishart(p["nu"], np.array(p["V"]), improper=p["nu"] < 0) for p in records)
    return pr.Priors(Sigma=Sigma, Psi=Psi)


def draws_of(reference, priors=None, draws=10_000, **options):
    """name -> (chains, draws): parameters and imputed means and sds by the reference's names."""
    data = IncompleteData(pd.read_csv(REFERENCE / reference["data"]), cluster="cluster")
    model = JointNormal(data, FORMULA[reference["data"]], priors or priors_of(reference))
    imp = model.impute(m=4, seed=20261121, draws=draws, **options)
    post, stats = imp.tree["posterior"], imp.tree["imputed_stats"]
    out = {f"beta[{l},{k}]": post.beta.values[:, :, l, k] for l, k in np.ndindex(post.beta.shape[2:])}
    for name in ("Sigma", "Psi"):
        S = post[name].values
        for i, j in np.ndindex(S.shape[2:]):
            out[f"{name}[{i},{j}]"] = S[:, :, i, j]
            out[f"corr_{name}[{i},{j}]"] = S[:, :, i, j] / np.sqrt(S[:, :, i, i] * S[:, :, j, j])
        for i in range(S.shape[-1]):
            out[f"log_sd_{name}[{i}]"] = 0.5 * np.log(S[:, :, i, i])
    for name in ("mean", "sd"):
        v = stats[name].values
        out |= {f"imputed_{name}[{i},{k}]": v[:, :, k, i] for k, i in np.ndindex(v.shape[2:])}
    return out


def mcse(x, statistic, batches=50):
    """Standard error of statistic(draws) from batch means over all chains."""
    parts = [statistic(b) for chain in x for b in np.array_split(chain, batches // len(x))]
    return np.std(parts, axis=0, ddof=1) / np.sqrt(len(parts))


def z_scores(reference, draws):
    probs = reference["probs"]
    z = {}
    for name, ref in (reference["parameters"] | reference["imputed"]).items():
        if name not in draws or not np.isfinite(draws[name]).all():
            continue
        x = draws[name]
        pairs = [
            (x.mean(), mcse(x, np.mean), ref["mean"], ref["mcse_mean"], "mean"),
            (x.std(), mcse(x, np.std), ref["sd"], ref["mcse_sd"], "sd"),
        ]
        q, e = np.quantile(x, probs), mcse(x, lambda b: np.quantile(b, probs))
        pairs += [(q[i], e[i], ref["q"][i], ref["mcse_q"][i], f"q{p}") for i, p in enumerate(probs)]
        heavy = name.startswith(("Sigma[", "Psi["))  # the sd of a variance with few clusters has a heavy tail
        for ours, e1, theirs, e2, what in pairs:
            if not (heavy and what == "sd"):
                z[f"{name} {what}"] = (ours - theirs) / np.hypot(e1, e2)
    return z


def limit(z):
    return WIDEN * norm.isf(LEVEL / len(z) / 2)


@pytest.mark.parametrize("name", ["pan_case1", "pan_case2", "pan_case3", "jomo_case1"])
def test_same_posterior_as_r(name):
    reference = read(name)
    z = z_scores(reference, draws_of(reference))
    assert len(z) > 50
    worst = max(z, key=lambda k: abs(z[k]))
    assert abs(z[worst]) < limit(z), f"{worst}: z = {z[worst]:.2f} of {len(z)} comparisons"


@pytest.mark.parametrize(
    "name", ["pan_case1", pytest.param("pan_case2", marks=pytest.mark.slow), "pan_case3"]
)
def test_nuts_gives_the_same_posterior_as_r(name):
    reference = read(name)
    z = z_scores(reference, draws_of(reference, draws=4000, sampler="nuts"))
    assert len(z) > 50
    worst = max(z, key=lambda k: abs(z[k]))
    assert abs(z[worst]) < limit(z), f"{worst}: z = {z[worst]:.2f} of {len(z)} comparisons"


@pytest.mark.parametrize("wrong", ["IW(3, I)", "psi_df"])
def test_other_priors_are_told_apart(wrong):
    """The comparison has power: one more degree of freedom in a prior is noticed."""
    reference = read("pan_case1")
    part = "Sigma" if wrong == "IW(3, I)" else "Psi"
    priors = pr.Priors(
        **{"Sigma": pr.InverseWishart(), "Psi": pr.InverseWishart(), part: pr.InverseWishart(5.0)}
    )
    z = z_scores(reference, draws_of(reference, priors))
    assert max(map(abs, z.values())) > limit(z)


def test_presets_are_those_of_the_packages():
    """The presets, not only priors written out, give the reference's priors."""
    for name, preset in [("pan_case1", pr.pan()), ("jomo_case1", pr.jomo())]:
        reference = read(name)
        for part, d in (("Sigma", 2), ("Psi", 2)):
            ours = pr.resolve(getattr(preset, part), np.ones(d), part)
            theirs = reference["prior"][part]
            assert ours.nu == theirs["nu"]
            np.testing.assert_array_equal(ours.V, theirs["V"])
