"""`methods.MLMI(published=True)` in the loop: what it draws and counts, on tables with known faults of his code."""

from __future__ import annotations

import numpy as np
import pytest

import bayesimp as bi
from bayesimp.fcs.loop import start_chain
from bayesimp.kernels.mlmi.published import PUBLISHED_TALLIES
from tests.fcs.test_glmm_criteria import drive, frozen

FORMULAS = ["x1 ~ y + x2 + (1 + y | study)", "x2 ~ y + x1 + (1 + y | study)"]


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_psi_is_not_the_posterior(seed):
    """Psi drawn around predicted effects, which are shrunken, is far too small, and too certain: nine draws in ten are
    under the posterior's lower quartile."""
    reference = frozen("bernoulli")
    Psi, _, _ = drive(reference, "mlmi-published", 300, burn=5, seed=seed)
    below = Psi[:, 0, 0] < reference["posterior"]["Psi[0,0]"]["quantiles"][1]
    assert below.mean() - 3 * np.sqrt(0.1 * 0.9 / 300) > 0.8


def tallies(outcome: str, seed: int) -> list[dict]:
    """Counts of x1 and x2 in ten visits to a table of Jolani's design, 10 studies x 300, strong heterogeneity."""
    table, _ = bi.simulate_ipd(
        10, 300, heterogeneity="strong", outcome=outcome, systematic=0.1, sporadic=0.15, seed=seed
    )
    data = bi.IncompleteData(table, cluster="study", families={"x1": "bernoulli", "x2": "poisson"})
    model = bi.FCS(data, methods="mlmi-published", predictors=FORMULAS)
    blocks = model.conditionals(seed)
    chain = start_chain(model.table, blocks, np.random.default_rng(seed))
    for _ in range(10):
        for block, theta in zip(blocks, chain.theta, strict=True):
            assert block.step(chain, theta) == 0
    return [dict(zip(PUBLISHED_TALLIES, theta.own["tallies"].tolist(), strict=True)) for theta in chain.theta]


def test_unconditional_draws_in_jolanis_design():
    """Share of clusters, six tables: his code, in a run of its own, had 34% for x1 with a continuous outcome, 7% with a
    binary one, 2 to 8% for x2."""
    share = {}
    for outcome in ("continuous", "binary"):
        counts = [tallies(outcome, seed) for seed in range(6)]
        for j, name in enumerate(("x1", "x2")):
            each = [c[j]["unconditional draws"] / c[j]["clusters drawn"] for c in counts]
            share[outcome, name] = np.mean(each), np.std(each, ddof=1) / np.sqrt(6)
    for key, reported in ((("continuous", "x1"), 0.34), (("binary", "x1"), 0.067)):
        mean, error = share[key]
        assert abs(mean - reported) < 3 * np.hypot(error, np.sqrt(reported * (1 - reported) / 140)), share
    assert all(0 < share[outcome, "x2"][0] < 0.08 for outcome in ("continuous", "binary")), share


def test_separated_tables_are_imputed_and_said():
    """The variable is never observed as 1 where z is: as lme4, a large estimate and a larger standard error."""
    rng = np.random.default_rng(1)
    table, _ = bi.simulate_ipd(10, 80, seed=3)
    z = (rng.random(len(table)) < 0.15).astype(float)
    table["x1"] = table["x1"].mask((z == 1) & table["x1"].notna(), 0.0)
    data = bi.IncompleteData(
        table.assign(z=z), cluster="study", families={"x1": "bernoulli", "x2": "poisson"}
    )
    formulas = ["x1 ~ y + z + (1 | study)", "x2 ~ y + (1 | study)"]
    imp = bi.FCS(data, methods="mlmi-published", predictors=formulas).impute(
        2, cycles=5, seed=1, progress=False
    )
    events = imp.events.set_index(["kind", "where"])
    assert events.loc[("separated", "x1"), "count"] == 10 and ("no fit", "x1") not in events.index
    assert np.isin(imp.values("x1"), (0, 1)).all()
