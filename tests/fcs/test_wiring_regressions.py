"""From kernel to completed table: `norm`, `glm` and `sti`, family by family, against normal laws about the mode.

As in test_wiring_families.py, whose table they share: probabilities of y <= t in cells, and in two rows. `glm` and
`norm` ignore clusters, `sti` has a term for each and gives new clusters their average. Level of each test: 1e-3,
divided by the number of comparisons; seeds fixed.
"""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from scipy.special import logit

import bayesimp as bi
from tests.fcs.test_wiring_families import (
    CELLS,
    LEVELS,
    candidates,
    completed,
    impute,
    rows_and_cells,
    table,
)
from tests.longhand.cells import Law, compare
from tests.longhand.laws import about_the_mode

FAMILIES = ["bernoulli", "probit", "binomial", "poisson", "ordinal", "categorical"]


def centre(family, y, trials, levels):
    """(r,) the link of the overall mean, half a row added to each side."""
    if family == "ordinal":
        return np.array([np.log(((y > 0).sum() + 0.5) / ((y == 0).sum() + 0.5))])
    if family == "categorical":
        return np.array([np.log(((y == k).sum() + 0.5) / ((y == 0).sum() + 0.5)) for k in range(1, levels)])
    if family == "poisson":
        return np.array([np.log((y.sum() + 0.5) / len(y))])
    share = (y.sum() + 0.5) / (trials.sum() + 1)
    return np.array([stats.norm.ppf(share) if family == "probit" else logit(share)])


@pytest.mark.parametrize("method", ["glm", "sti"])
@pytest.mark.parametrize("family", FAMILIES)
def test_regressions(family, method):
    data = table(family, 2)
    rows, cells, X, _ = rows_and_cells(data)
    levels = len(LEVELS.get(family, (0, 1)))
    middle = centre(family, rows.y, rows.trials, levels)
    if method == "sti":
        terms = np.eye(5)
        of_cells = np.array([terms[c] if c < 5 else np.full(5, 0.2) for c, _ in CELLS])
        rows = rows._replace(X=np.column_stack([terms[rows.cluster], rows.X[:, 1]]))
        X = np.column_stack([of_cells, X[:, 1]])
    p = X.shape[1]
    mean = np.vstack([np.tile(middle, (p - 1, 1)), 0 * middle])
    law = about_the_mode(family, rows, X, mean=mean, sd=np.r_[np.full(p - 1, 5.0), 2.5], levels=levels)
    record = bi.methods.SingleLevel if method == "glm" else bi.methods.Stratified
    values = impute(family, data, record(link="probit" if family == "probit" else "logit"), 600, 1, random="")
    z, limit = compare(family, law, cells, values, candidates(family, rows.y))
    assert z < limit


def test_norm():
    """sigma^2 = RSS / chi2(n - p), beta normal (Rubin 1987, example 5.1), in units far from those of the sampler."""
    g, x, trials, _, cell = table("gamma", 3, sizes=(2, 4, 2, 2, 4))  # few rows: beta is far from known
    rng = np.random.default_rng(4)
    y = 300 + 40 * x + 25 * rng.normal(size=len(x))
    data = g, x, trials, y, cell
    rows, cells, X, _ = rows_and_cells(data)
    n, p, count = len(rows.y), 2, 20_000
    inverse = np.linalg.inv(rows.X.T @ rows.X)
    fit = inverse @ rows.X.T @ rows.y
    sigma2 = ((rows.y - rows.X @ fit) ** 2).sum() / rng.chisquare(n - p, count)
    beta = fit + np.sqrt(sigma2)[:, None] * (rng.normal(size=(count, p)) @ np.linalg.cholesky(inverse).T)
    one = np.ones((count, 1))
    law = Law(
        one[:, 0] / count, [(beta @ at)[:, None, None] for at in X], [one] * len(X), sigma2[:, None], count
    )
    values = impute("normal", data, "norm", 1000, 1, random="")
    z, limit = compare("normal", law, cells, values, np.linspace(100, 500, 200))
    assert z < limit


@pytest.mark.parametrize(
    "method", [bi.methods.SingleLevel, bi.methods.Stratified, bi.methods.TwoStage, bi.methods.MLMI]
)
def test_links(method):
    """Two values of x are fitted equally well by either link: the coefficients tell them apart, by 1.6 to 1.8."""
    data = table("bernoulli", 2, sizes=(40, 40, 40, 40, 40))
    random = "(1 | g)" if method is bi.methods.MLMI else ""
    slopes = {}
    for link in ("logit", "probit"):
        imp = completed("bernoulli", data, method(link=link), 40, 3, random=random)
        slopes[link] = float(imp.tree["posterior"]["beta_y"].sel(fixed_y="x").mean())
    assert 1.4 < slopes["logit"] / slopes["probit"] < 2.1
