"""How far the published algorithm of Jolani (2025) is from its target distribution; README.md quotes the tables.

    python -m tests.reference.glmm.published_findings        about 1.5 minutes, by hand

1. An intercept, 15 clusters x 200 rows, sd 1: sd over 400 draws of a cluster's linear predictor, over that of the joint
   density of (beta, b) at the estimate, by the distance of the cluster's effect from 0, in sds; the same by quartiles,
   which few draws without data do not move. Twelve tables.
2. His design, 3,000 rows: percentage of clusters whose effects were drawn without their data, over ten visits to each
   variable, and in the first visit to x1 with x2 complete. Sixteen tables a cell.
3. The kidney data of notebook 05, m = 5, 20 cycles: the events, and CPU time a visit; with its formulas, and with random
   slopes of age, whose variance is mostly estimated as 0; for comparison, the default, and models without study effects.
"""

from __future__ import annotations

import time
from itertools import product

import numpy as np

import bayesimp as bi
from bayesimp.fcs.loop import start_chain
from bayesimp.kernels.families.scalar import LOGIT
from bayesimp.kernels.mlmi.published import PUBLISHED_TALLIES
from tests.kernels.glmm_tables import make_rows
from tests.kernels.test_mlmi_published import draws, joint_sd

TABLES, DRAWS, VISITS = 12, 400, 10
CELL_TABLES = 16
SIZES, OUTCOMES, HETEROGENEITY = (6, 10), ("continuous", "binary"), ("moderate", "strong")
FORMULAS = ["x1 ~ y + x2 + (1 + y | study)", "x2 ~ y + x1 + (1 + y | study)"]
KIDNEY = {
    "smoke": "smoke ~ alcohol + comorbidities + age + sex + (1 + alcohol | study)",
    "alcohol": "alcohol ~ smoke + comorbidities + age + sex + (1 + smoke | study)",
    "comorbidities": "comorbidities ~ smoke + alcohol + age + sex + (1 + smoke | study)",
}


def shown(values, scale: float = 1.0, digits: int = 2) -> str:
    """Mean over tables, with its standard error."""
    values = scale * np.asarray(values, dtype=float)
    return f"{values.mean():.{digits}f} ({values.std(ddof=1) / np.sqrt(len(values)):.{digits}f})"


def spread_of_linear_predictors() -> None:
    ratio, middle, u, without = [], [], [], []
    for k in range(TABLES):
        rows = make_rows(LOGIT, [200] * 15, p=1, q=1, seed=100 + k, sd=1.0)
        beta, _, B, state, tallies = draws(rows, DRAWS, seed=k)
        sd, effects = joint_sd(rows, state)
        eta = beta[:, :1] + B[:, :, 0]
        ratio.append(eta.std(0, ddof=1) / sd)
        middle.append(np.subtract(*np.quantile(eta, [0.75, 0.25], axis=0)) / 1.349 / sd)
        u.append(np.abs(effects))
        without.append(tallies["unconditional draws"] / tallies["clusters drawn"])
    ratio, middle, u = np.array(ratio), np.array(middle), np.array(u)
    print(f"1. sd of linear predictors over the exact one, {TABLES} tables x {DRAWS} draws, 15 x 200")
    print(f"   mean {shown(ratio.mean(1))}, median {np.median(ratio):.3f}, largest {ratio.max():.1f}")
    for low, high in ((0, 1), (1, 2), (2, np.inf)):
        at = (u >= low) & (u < high)
        means = f"{ratio[at].mean():.2f}, by quartiles {middle[at].mean():.2f}"
        print(f"   effects of {low} to {high} sd: {means}, {at.sum()} clusters")
    print(f"   draws without data: {shown(without, 100)}%")


def tallies_of(clusters: int, outcome: str, heterogeneity: str, seed: int, x2_complete: bool) -> list[dict]:
    """Counts of each variable in the visits to one table."""
    table, full = bi.simulate_ipd(
        clusters, 3000 // clusters, heterogeneity=heterogeneity, outcome=outcome, systematic=0.1, sporadic=0.15,
        seed=seed,
    )  # fmt: skip
    if x2_complete:
        table["x2"] = full["x2"]
    data = bi.IncompleteData(table, cluster="study", families={"x1": "bernoulli", "x2": "poisson"})
    model = bi.FCS(data, "mlmi-published", FORMULAS[: 1 if x2_complete else 2])
    blocks = model.conditionals(seed)
    chain = start_chain(model.table, blocks, np.random.default_rng(seed))
    for _ in range(1 if x2_complete else VISITS):
        for block, theta in zip(blocks, chain.theta, strict=True):
            assert block.step(chain, theta) == 0
    return [dict(zip(PUBLISHED_TALLIES, theta.own["tallies"].tolist(), strict=True)) for theta in chain.theta]


def share(counts: list[dict], what: str = "unconditional draws", of: str = "clusters drawn") -> str:
    return shown([c[what] / max(c[of], 1) for c in counts], 100, 1)


def draws_without_data() -> None:
    print(f"\n2. clusters drawn without their data, %, {CELL_TABLES} tables x {VISITS} visits")
    print(
        "   studies, outcome, heterogeneity: x1; x1, first visit, x2 complete; x2; Lambda singular (x1; x2)"
    )
    for clusters, outcome, heterogeneity in product(SIZES, OUTCOMES, HETEROGENEITY):
        cell = clusters, outcome, heterogeneity
        loop = [tallies_of(*cell, seed, False) for seed in range(CELL_TABLES)]
        first = [tallies_of(*cell, seed, True)[0] for seed in range(CELL_TABLES)]
        x1, x2 = ([counts[j] for counts in loop] for j in (0, 1))
        singular = "; ".join(share(x, "Lambda singular", "visits") for x in (x1, x2))
        print(
            f"   {clusters}, {outcome}, {heterogeneity}: {share(x1)}; {share(first)}; {share(x2)}; {singular}"
        )


def kidney() -> None:
    data = bi.IncompleteData(bi.load_kidney(), cluster="study", families={"comorbidities": "poisson"})
    print("\n3. kidney data, m = 5, 20 cycles")
    fixed = {name: formula.partition(" + (")[0] for name, formula in KIDNEY.items()}
    age = {name: f"{formula} + (1 + age | study)" for name, formula in fixed.items()}
    runs = (
        ("mlmi-published", KIDNEY),
        ("mlmi-published", age),
        ("mlmi", KIDNEY),
        ("mlmi", age),
        ("glm", fixed),
    )
    for method, formulas in runs:
        model = bi.FCS(data, method, formulas)
        model.impute(2, cycles=2, seed=1, progress=False)  # compiled
        began = time.process_time()
        imp = model.impute(5, cycles=20, seed=1, progress=False)
        each = 1e3 * (time.process_time() - began) / 300
        print(f"   {method}{', slopes of age' * (formulas is age)}: {each:.1f} ms a visit")
        for _, event in imp.events.iterrows():
            print(f"      {event['where']}: {event['message']}")


if __name__ == "__main__":
    spread_of_linear_predictors()
    draws_without_data()
    kidney()
