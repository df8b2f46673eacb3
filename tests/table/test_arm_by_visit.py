"""Counts of trials imputed after drop-out as in the reference arm: the column, and the law of the imputed values."""

from __future__ import annotations

from functools import cache

import numpy as np
import pandas as pd
import pytest

import bayesimp as bi
from bayesimp.errors import DataError, SpecificationError

JUMP, INCREMENTS = "jump to reference", "copy increments in reference"
COLUMNS = {"arm": "arm", "reference": "placebo", "patient": "patient", "visit": "visit"}
EFFECT = np.array([-0.2, -0.6, -1.2])  # of the drug on log means, by visit


def trial(seed=1, n=150):
    """Three visits; a third of the patients of each arm leaves after the first, a sixth after the second."""
    rng = np.random.default_rng(seed)
    drug, u, last = (
        rng.integers(0, 2, n),
        rng.normal(0, 0.6, n),
        rng.choice([1, 2, 3], n, p=[2 / 6, 1 / 6, 3 / 6]),
    )
    frame = pd.DataFrame({
        "patient": np.repeat(np.arange(n), 3), "visit": np.tile([1, 2, 3], n),
        "arm": np.repeat(np.where(drug, "drug", "placebo"), 3),
    })  # fmt: skip
    rate = np.exp(1.4 + 0.2 * np.arange(3) + drug[:, None] * EFFECT + u[:, None])
    counts = rng.poisson(rate).astype(float)
    counts[np.arange(1, 4) > last[:, None]] = np.nan
    return frame.assign(falls=counts.ravel())


def test_the_column_by_hand():
    table = pd.DataFrame({
        "patient": [1, 1, 1, 2, 2, 2, 3, 3, 3, 4, 4, 4],
        "visit": pd.Categorical(["late", "base", "mid"] * 4, ["base", "mid", "late"], ordered=True),
        "arm": ["drug"] * 6 + ["placebo"] * 3 + ["drug"] * 3,
        "falls": [None, 2, 3, 5, 2, None, None, 1, 1, None, None, None],
    }, index=list("abcdefghijkl"))  # fmt: skip
    jump = bi.arm_by_visit(table, "falls", how=JUMP, **COLUMNS)
    assert jump.tolist() == [
        "placebo",
        "drug base",
        "drug mid",
        "drug late",
        "drug base",
        "drug mid",
        *["placebo"] * 6,
    ]
    increments = bi.arm_by_visit(table, "falls", how=INCREMENTS, **COLUMNS)
    assert increments.tolist() == ["drug mid", *jump.tolist()[1:]]
    assert jump.cat.categories.tolist() == ["placebo", "drug base", "drug mid", "drug late"]
    assert jump.index.equals(table.index) and jump.name == "arm by visit"
    order = np.random.default_rng(1).permutation(12)
    again = bi.arm_by_visit(table.iloc[order], "falls", how=INCREMENTS, **COLUMNS)
    assert again.sort_index().tolist() == increments.tolist()


@pytest.mark.parametrize(
    "change, options, error, says",
    [
        (lambda t: t, {"how": "copy reference"}, SpecificationError, "their own effect.* would be another"),
        (lambda t: t, {"how": "jump"}, SpecificationError, "how .*'jump to reference' or"),
        (lambda t: t, {"reference": "control"}, SpecificationError, "no row has arm = 'control'; there are"),
        (lambda t: t, {"visit": "week"}, SpecificationError, "no column 'week'"),
        (lambda t: t.assign(arm=t.arm.where(t.index > 2)), {}, DataError, "'arm' is missing in 3 rows"),
        (
            lambda t: t.assign(arm=["drug", "placebo"] * 225),
            {},
            DataError,
            "patient 0 has rows in several arms",
        ),
        (lambda t: t.assign(visit=1), {}, DataError, "patient 0 has several rows at visit 1"),
    ],
)
def test_what_is_refused(change, options, error, says):
    with pytest.raises(error, match=says):
        bi.arm_by_visit(change(trial()), "falls", **COLUMNS | options)


@cache
def runs(how):
    """The table and a run of each engine."""
    table = trial()
    table["at"] = bi.arm_by_visit(table, "falls", how=how, **COLUMNS)
    data = bi.IncompleteData(table, "patient", families={"falls": "poisson"})
    glmm = bi.JointGLMM(data, "falls ~ C(visit) + at + (1 | patient)")
    fcs = bi.FCS(data, predictors={"falls": "~ C(visit) + at + (1 | patient)"})
    return table, {
        "JointGLMM": glmm.impute(m=100, seed=1, chains=2, tune=40, draws=100, progress=False),
        "FCS": fcs.impute(m=100, seed=1, cycles=8, progress=False),
    }


def expected(table, how, beta, sd, known=True):
    """Expected sums, given parameters, of missing counts of the drug, and of these times the count of the first visit.

    By quadrature over the patients' effects. known: whether effects are given the patient's observed counts (wrong: from
    their distribution).
    """
    y = table["falls"].to_numpy().reshape(-1, 3)
    drug = (table["arm"] == "drug").to_numpy().reshape(-1, 3)[:, 0]
    advantage = np.r_[beta["drug 1"], beta["drug 2"], beta["drug 3"]]
    visits = beta["Intercept"] + np.r_[0.0, beta["2"], beta["3"]]
    u, w = np.polynomial.hermite_e.hermegauss(31)
    total = np.zeros(2)
    for row in y[drug & np.isnan(y).any(axis=1)]:
        seen = ~np.isnan(row)
        after = {JUMP: 0.0, INCREMENTS: advantage[seen.sum() - 1]}.get(how, advantage)
        eta = (visits + advantage)[seen] + sd * u[:, None]
        log_p = (row[seen] * eta - np.exp(eta)).sum(axis=1)
        p = w * np.exp(log_p - log_p.max()) if known else w
        rate = np.exp((visits + after)[~seen] + sd * u[:, None]).sum(axis=1)
        total += p @ rate / p.sum() * np.r_[1.0, row[0]]
    return total


def parameters(imp):
    """Draws of coefficients by name, and of the standard deviation of patients' effects."""
    posterior = imp.tree["posterior"].to_dataset()
    beta = posterior["beta_falls"].stack(s=("chain", "draw"))
    names = [str(n).split("[")[-1].rstrip("]") for n in beta["fixed_falls"].values]
    psi = "Psi" if "Psi" in posterior else "Psi_falls"
    sd = np.sqrt(posterior[psi].stack(s=("chain", "draw")).to_numpy().reshape(-1))
    draws = beta.transpose("s", ...).to_numpy()
    return [dict(zip(names, b, strict=True)) for b in draws], sd


@pytest.mark.parametrize("engine", ["JointGLMM", "FCS"])
@pytest.mark.parametrize("how", [JUMP, INCREMENTS])
def test_counts_after_drop_out_have_the_law_of_the_reference_arm(how, engine):
    """Eight comparisons at 4.5 standard errors; other laws are more than 6 away."""
    table, made = runs(how)
    imp = made[engine]
    first = table.groupby("patient")["falls"].transform("first").to_numpy()[imp.rows("falls")]
    of_drug = (table["arm"] == "drug").to_numpy()[imp.rows("falls")]
    sums = imp.values("falls") @ np.column_stack([of_drug, of_drug * first])
    betas, sds = parameters(imp)
    step = max(len(betas) // 40, 1)
    some = list(zip(betas[::step], sds[::step], strict=True))

    def z(how, **options):
        wanted = np.array([expected(table, how, beta, sd, **options) for beta, sd in some])
        error = np.hypot(*(x.std(axis=0) / np.sqrt(len(x)) for x in (sums, wanted)))
        return np.abs(sums.mean(axis=0) - wanted.mean(axis=0)) / error

    assert (z(how) < 4.5).all()
    for other in {JUMP, INCREMENTS, "at random"} - {how}:
        assert z(other)[0] > 6
    assert z(how, known=False)[1] > 6
