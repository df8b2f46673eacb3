"""Coverage distinguishes wrong methods from right ones at a number of replicates that is affordable here.

The mean of y1 over 30 studies of 4 rows, missing in 20 of the studies; m = 10. A method is rejected if the coverage of
its 95% interval is over 4 binomial standard errors below 95%: one such test in 30,000 rejects a method that covers 95%.
"""

from functools import partial

import numpy as np
import pytest

import bayesimp as bi
from bayesimp.studies import Analysis, Scenario, Study, Systematic, delete, method

REPLICATES = 400
SIGMA, PSI = np.array([[1.0, 0.3], [0.3, 1.0]]), np.array([[2.0, 0.2], [0.2, 1.0]])
FORMULA = ["y1 ~ y2 + (1 | study)"]


def no_parameter_draw(data, seed):
    """Effects and residuals are drawn; the mean and the variances are those estimated from the observed rows."""
    rng = np.random.default_rng(seed)
    frame = data.frame
    seen = frame.dropna()
    fit = bi.fit_each([seen], "y1 ~ y2 + (1 | study)")
    intercept, slope = fit.estimates[0]
    sd_between, sd_within = np.exp(fit.components[0])
    tables = []
    for _ in range(10):
        full = frame.copy()
        holes = frame["y1"].isna()
        effects = dict(zip(frame["study"].unique(), rng.normal(0, sd_between, 30), strict=True))
        mean = intercept + slope * frame["y2"] + frame["study"].map(effects)
        full.loc[holes, "y1"] = (mean + rng.normal(0, sd_within, len(frame)))[holes]
        tables.append(full)
    return tables


METHODS = {
    "REF": method("REF"),
    "bayes": method("bayes", predictors=FORMULA, m=10, cycles=6),
    "joint": method("joint", formula="y1 ~ y2 + (1 | study)", priors="default", m=10, draws=100),
    "clusters ignored": method("bayes", methods="norm", predictors=["y1 ~ y2"], m=10, cycles=2),
    "no parameter draw": no_parameter_draw,
}


@pytest.fixture(scope="module")
def coverage():
    scenario = Scenario(
        "mean",
        partial(bi.simulate_studies, [4] * 30, SIGMA, PSI),
        partial(delete, cluster="study", systematic={"y1": Systematic(count=20)}),
        Analysis("y1 ~ 1 + (1 | study)"),
        "study",
        truth={"Intercept": 0.0},
    )
    result = Study([scenario], METHODS, seed=3).run(REPLICATES)
    assert result.failures.empty
    table = result.summary().query("term == 'Intercept' and measure == 'coverage'")
    return table.set_index("method")["value"]


LIMIT = 0.95 - 4 * np.sqrt(0.95 * 0.05 / REPLICATES)


@pytest.mark.slow
@pytest.mark.parametrize("right", ["REF", "bayes", "joint"])
def test_right_methods_pass(coverage, right):
    assert coverage[right] > LIMIT


@pytest.mark.slow
@pytest.mark.parametrize("wrong", ["clusters ignored", "no parameter draw"])
def test_wrong_methods_are_caught(coverage, wrong):
    assert coverage[wrong] < LIMIT
