"""FCS against mice 2l.pan and a MICE-ML on lme4, on frozen output (tests/reference/fcs, with script and versions).

Compared over imputations, which are independent chains on both sides: mean and sd of every estimate of every analysis,
mean standard errors, and mean and sd of every imputed mean and sd by study; in units of sqrt(mcse_R^2 + mcse_ours^2).
With K comparisons the largest |z| must stay below the two-sided t quantile at level 0.001 / K (Bonferroni), with R's
m - 1 degrees of freedom. Seeds are fixed: the outcome does not vary.
"""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import t

import bayesimp as bi
from bayesimp import priors as pr

REFERENCE = Path(__file__).parents[1] / "reference" / "fcs"
LEVEL = 0.001
PLAIN = {"y1": "y1 ~ y2 + y3 + x + (1 | study)", "y2": "y2 ~ y1 + y3 + x + (1 | study)"}
MEANS = {
    "y1": "y1 ~ y2 + y3 + x + cluster_mean(y2) + cluster_mean(y3) + (1 | study)",
    "y2": "y2 ~ y1 + y3 + x + cluster_mean(y1) + cluster_mean(y3) + (1 | study)",
}
SLOPES = {"y1": "y1 ~ y2 + z + (1 + z | study)", "y2": "y2 ~ y1 + z + (1 + z | study)"}
BALANCED = {
    "y1": "y1 ~ y2 + cluster_mean(y2) + (1 | study)",
    "y2": "y2 ~ y1 + cluster_mean(y1) + (1 | study)",
}
IW = {}  # its defaults are 2l.pan's: Sigma IW(1, 1), Psi IW(q, I)


def read(name):
    return json.loads((REFERENCE / f"{name}.json").read_text())


def impute(reference, formulas, prior=IW, m=300, cycles=15, inner=5):
    """`inner` is so large that visits are nearly independent, like those of 2l.pan."""
    data = bi.IncompleteData(pd.read_csv(REFERENCE / reference["data"]), cluster="study")
    formulas = {k: f for k, f in formulas.items() if data.missing(k).any()}
    method = bi.methods.ML() if prior is None else bi.methods.IW(**prior, inner=inner)
    return bi.FCS(data, methods=method, predictors=formulas).impute(m=m, cycles=cycles, seed=20261121)


def over_imputations(x):
    """Mean and sd over independent imputations, with Monte Carlo errors: as in make_reference.R."""
    x = np.asarray(x)
    m, s, m4 = len(x), x.std(ddof=1), np.mean((x - x.mean()) ** 4)
    return np.array([x.mean(), s]), np.array([s, np.sqrt(m4 - s**4) / (2 * s)]) / np.sqrt(m)


def estimates_of_r(reference):
    for formula, analysis in (reference["analyses"] | reference["moments"]).items():
        for name, values in analysis.items():
            yield f"{formula}: {name}", over_imputations(values["estimates"])
            if formula in reference["analyses"] and "variances" in values:
                value, error = over_imputations(np.sqrt(values["variances"]))
                yield f"{formula}: se of {name}", (value[:1], error[:1])
    for name, v in reference["imputed"].items():
        yield name, (np.array([v["mean"], v["sd"]]), np.array([v["mcse_mean"], v["mcse_sd"]]))


def our_estimates(imp, reference):
    for formula in reference["analyses"]:
        fits = imp.analyse(formula)
        se = np.sqrt(np.diagonal(fits.covariances, axis1=1, axis2=2))
        for k, name in enumerate(fits.names):
            name = "(Intercept)" if name == "Intercept" else name
            yield f"{formula}: {name}", over_imputations(fits.estimates[:, k])
            value, error = over_imputations(se[:, k])
            yield f"{formula}: se of {name}", (value[:1], error[:1])
        for k, name in enumerate(fits.component_names):
            if name.startswith("sd("):
                of = name[3:-1].split(" | ")[0].replace("Intercept", "(Intercept)")
                yield f"{formula}: sd[{of}]", over_imputations(np.exp(fits.components[:, k]))
    study = imp.data.frame["study"].to_numpy()
    for name in imp.imputed_columns:
        rows, values = imp.rows(name), imp.values(name)
        full = np.stack([imp.frame(k)[name].to_numpy() for k in range(imp.m)])
        yield f"mean: {name}", over_imputations(full.mean(1))
        yield f"variance: {name}", over_imputations(full.var(1, ddof=1))
        whole = [i for i in np.unique(study) if np.isin(np.flatnonzero(study == i), rows).all()]
        groups = {str(i): study[rows] == i for i in whole} | {"sporadic": ~np.isin(study[rows], whole)}
        for label, mask in groups.items():
            yield f"imputed_mean[{name},{label}]", over_imputations(values[:, mask].mean(1))
            yield f"imputed_sd[{name},{label}]", over_imputations(values[:, mask].std(1, ddof=1))


def z_scores(imp, reference):
    ours, theirs = dict(our_estimates(imp, reference)), dict(estimates_of_r(reference))
    assert ours.keys() == theirs.keys()
    z = {}
    for name, (value, error) in theirs.items():
        difference = (ours[name][0] - value) / np.hypot(ours[name][1], error)
        z |= {f"{what} of {name}": d for what, d in zip(("mean", "sd"), difference, strict=False)}
    return z


def largest(z, reference):
    """Name and |z| of the largest, as a multiple of the limit."""
    worst = max(z, key=lambda k: abs(z[k]))
    return worst, abs(z[worst]) / t.isf(LEVEL / len(z) / 2, reference["settings"]["m"] - 1)


def check(imp, reference):
    z = z_scores(imp, reference)
    worst, ratio = largest(z, reference)
    assert ratio < 1, f"{worst}: z = {z[worst]:.2f}, {ratio:.2f} of the limit for {len(z)} comparisons"


@pytest.mark.parametrize(
    ("name", "formulas"),
    [("onestep_pan", PLAIN), ("onestep_pan_means", MEANS), ("onestep_slopes_pan", SLOPES)],
)
def test_one_conditional_posterior_is_that_of_2l_pan(name, formulas):
    reference = read(name)
    check(impute(reference, formulas, m=500, cycles=10), reference)


@pytest.mark.parametrize(
    ("name", "formulas"),
    [
        ("intercepts_pan", PLAIN),
        ("intercepts_pan_means", MEANS),
        ("slopes_pan", SLOPES),
        ("balanced_pan_means", BALANCED),
    ],
)
def test_same_imputations_as_2l_pan(name, formulas):
    reference = read(name)
    check(impute(reference, formulas), reference)


def test_same_imputations_as_maximum_likelihood_by_lme4():
    reference = read("intercepts_ml")
    check(impute(reference, PLAIN, prior=None), reference)


def test_joint_model_gives_the_imputations_of_pan():
    reference = read("balanced_pan_joint")
    data = bi.IncompleteData(pd.read_csv(REFERENCE / reference["data"]), cluster="study")
    model = bi.JointNormal(data, "y1 + y2 ~ 1 + (1 | study)", pr.pan())
    check(model.impute(m=400, seed=20261121, draws=10_000), reference)


@pytest.mark.filterwarnings("ignore:.*did not converge")  # V = 1e-3 imputes studies hundreds of sds apart
@pytest.mark.parametrize(
    ("name", "formulas", "prior"),
    [
        ("onestep_pan", PLAIN, {"nu": 5.0}),
        ("intercepts_pan", PLAIN, {"nu": 1.0, "v": 1e-3}),
        ("intercepts_pan", MEANS, IW),
        ("intercepts_pan_means", PLAIN, IW),
    ],
    ids=["IW(5, 1)", "V = 1e-3", "means", "no means"],
)
def test_other_priors_and_models_are_told_apart(name, formulas, prior):
    """The comparison has power."""
    reference = read(name)
    imp = impute(reference, formulas, prior, m=500 if name == "onestep_pan" else 300)
    _, ratio = largest(z_scores(imp, reference), reference)
    assert ratio > 1
