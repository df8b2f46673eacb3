"""From kernel to completed table: imputed *values* of every block against draws made without the package.

Kernels have tests of their own; these tests show that the numbers passed to them, and those that they return,
belong to the right rows, clusters, columns, levels and units. A second incomplete variable, which predicts nothing,
makes observed values lie in complete and in incomplete rows. One cycle is a draw from the model, so imputations are
independent. Levels: 1e-4 for each comparison (|z| < 3.9), seeds fixed.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import bayesimp as bi

Z = 3.9


def impute(frame, m, cycles=2, seed=1, *, methods, families=None, predictors=None, ignore=None):
    """Imputations of the variable in `methods` by all other columns, in a table with one more incomplete variable."""
    (name,) = methods
    others = [column for column in frame if column not in ("g", "n", name)]
    random = "" if _single(methods[name]) else " + (1 | g)"
    rng = np.random.default_rng(99)
    other = np.where(rng.random(len(frame)) < 0.3, np.nan, rng.normal(size=len(frame)))
    model = bi.FCS(
        bi.IncompleteData(frame.assign(other=other), "g", families=families),
        methods={**methods, "other": "norm"},
        predictors={name: f"~ {' + '.join(others)}{random}", "other": "~ 1", **(predictors or {})},
        ignore=ignore,
    )
    return model.impute(m, cycles=cycles, seed=seed, progress=False)


def _single(method):
    if isinstance(method, str):
        return method in ("pmm", "norm", "glm", "sti", "2stage", "2lonly.norm")
    return isinstance(method, bi.methods.PMM | bi.methods.Stratified)


def clusters_far_apart(methods, m=20, sizes=60, sd=0.5, holes=0.5, seed=0, **options):
    """Normal y far from mean 0 and sd 1, whose intercept and slope differ strongly between clusters."""
    rng = np.random.default_rng(seed)
    c = 6
    g = np.repeat(np.arange(c), sizes)
    x = rng.normal(size=len(g))
    a, b = np.array([0, 30, 10, 50, 20, 40.0]), np.array([3, -2, 5, 0, -4, 1.0])
    y = 100 + a[g] + b[g] * x + rng.normal(0, sd, len(g))
    hole = rng.random(len(g)) < holes
    frame = pd.DataFrame({"g": g, "x": x, "y": np.where(hole, np.nan, y)})
    imp = impute(frame, m, methods=methods, **options)
    return g[hole], x[hole], (100 + a[g] + b[g] * x)[hole], imp.values("y")


@pytest.mark.parametrize("method", ["bayes", "iw", "ml", "2stage"])
def test_own_coefficients_and_own_noise(method):
    """Random slopes: values scatter about the line of their own cluster, with the residual sd and not its square."""
    slopes = {} if method == "2stage" else {"predictors": {"y": "~ x + (1 + x | g)"}}
    g, x, mean, values = clusters_far_apart({"y": method}, cycles=20, **slopes)
    residual = values - mean
    n = residual.size
    # estimated coefficients add about 2 / 30 to the variance; so do draws of them
    assert 0.5**2 * (1 - Z * np.sqrt(2 / n)) < residual.var() < 0.5**2 * 1.35
    for k in np.unique(g):
        own = residual[:, g == k]
        assert abs(own.mean()) < Z * 0.5 * np.sqrt(2 / 30 + 1 / own.size) + 1e-9
        assert abs(np.corrcoef(np.tile(x[g == k], len(own)), own.ravel())[0, 1]) < 0.6


def by_study(method, sd=0.5, **options):
    """sti has intercepts by study and one slope."""
    rng = np.random.default_rng(3)
    g = np.repeat(np.arange(6), 50)
    a = np.array([0, 30, 10, 50, 20, 40.0])
    x = rng.normal(size=300)
    y = a[g] + 2 * x + rng.normal(0, sd, 300)
    hole = rng.random(300) < 0.4
    frame = pd.DataFrame({"g": g, "x": x, "y": np.where(hole, np.nan, y)})
    imp = impute(frame, 20, methods={"y": method}, **options)
    return g[hole], imp.values("y") - (a[g] + 2 * x)[hole], y[~hole]


def test_stratified_has_its_study_term_and_its_noise():
    g, residual, _ = by_study("sti")
    assert 0.25 * (1 - Z * np.sqrt(2 / residual.size)) < residual.var() < 0.25 * 1.25
    assert max(abs(residual[:, g == k].mean()) for k in range(6)) < 0.5


def test_donors_of_stratified_matching_are_of_the_same_prediction_study_included():
    g, residual, _ = by_study(bi.methods.Stratified(donors=3))
    assert max(abs(residual[:, g == k].mean()) for k in range(6)) < 0.5
    assert residual.std() < 1.0


def test_log_variances_of_clusters_without_the_variable():
    """2stage draws log sigma_i^2 ~ N(mu, tau^2) for them: the spread is tau and not its square."""
    rng = np.random.default_rng(5)
    c, n, tau = 40, 60, 0.35
    g = np.repeat(np.arange(c), n)
    sigma = np.exp(0.5 * rng.normal(0, tau, c) + np.log(7.0))
    y = 50 + sigma[g] * rng.normal(size=c * n)
    empty = np.isin(g, [3, 17, 30])
    frame = pd.DataFrame({"g": g, "x": rng.normal(size=c * n), "y": np.where(empty, np.nan, y)})
    values = impute(frame, 200, methods={"y": "2stage"}, cycles=1).values("y").reshape(200, 3, n)
    X = np.column_stack([np.ones(n), frame.x[:n]])
    logs = []
    for k, cluster in enumerate([3, 17, 30]):
        X[:, 1] = frame.x[g == cluster]
        rest = values[:, k] - values[:, k] @ X @ np.linalg.solve(X.T @ X, X.T)
        logs.append(np.log((rest**2).sum(axis=1) / (n - 2)))
    spread = np.var(logs)
    # estimated from 37 clusters, then drawn: within a factor of two; the square would be .12^2 = .015 less noise
    noise = 2 / (n - 2)
    assert 0.6 * tau**2 < spread - noise < 2.2 * tau**2
    assert abs(np.mean(logs) - 2 * np.log(7.0)) < 0.3


def cluster_level_law(x, w, x_new):
    """Longhand posterior of w ~ N(a + b x, s^2) on a grid of log s; mean and sd of log s^2, predictive law at x_new.

    a ~ N(location, (5 scale)^2), b ~ N(0, (2.5 scale)^2), s ~ half-t(3, scale); x has mean 0 and sd 1.
    """
    location, scale = w.mean(), w.std(ddof=1)
    X, m0 = np.column_stack([np.ones(len(x)), x]), np.array([location, 0.0])
    Q = np.diag([(5 * scale) ** -2, (2.5 * scale) ** -2])
    grid, at = np.linspace(np.log(scale) - 6, np.log(scale) + 4, 2001), np.array([1.0, x_new])
    logs, means, sds = [], [], []
    for s in np.exp(grid):
        A = X.T @ X / s**2 + Q
        b = np.linalg.solve(A, X.T @ w / s**2 + Q @ m0)
        log = -len(w) * np.log(s) - 0.5 * np.linalg.slogdet(A)[1] - 0.5 * ((w - X @ b) ** 2).sum() / s**2
        logs.append(log - 0.5 * (b - m0) @ Q @ (b - m0) + stats.t(3).logpdf(s / scale) + np.log(s))
        means.append(at @ b)
        sds.append(np.sqrt(s**2 + at @ np.linalg.solve(A, at)))
    weight = np.exp(np.array(logs) - max(logs))
    weight /= weight.sum()
    mean = weight @ (2 * grid)
    return (
        mean,
        np.sqrt(weight @ (2 * grid - mean) ** 2),
        (lambda v: weight @ stats.norm.cdf((v - np.array(means)[:, None]) / np.array(sds)[:, None])),
    )


def test_cluster_level_normal_is_its_predictive_law():
    """Values by the law above; a degree of freedom less would move the mean of log sigma^2 by .1."""
    rng = np.random.default_rng(7)
    n, m = 9, 2500
    g, x = np.repeat(np.arange(n), 3), rng.normal(size=n)
    x = (x - x.mean()) / x.std()
    w = 20 + 4 * x + rng.normal(size=n)
    frame = pd.DataFrame({"g": g, "x": x[g], "w": np.where(g == 4, np.nan, w[g])})
    imp = impute(frame, m, methods={"w": "2lonly.norm"}, cycles=1)
    values, log = imp.values("w"), np.log(imp.tree["posterior"]["sigma2_w"].to_numpy()[:, -1])
    assert np.ptp(values, axis=1).max() == 0  # once per cluster
    mean, sd, cdf = cluster_level_law(np.delete(x, 4), np.delete(w, 4), x[4])
    assert stats.kstest(values[:, 0], cdf).pvalue > 1e-4
    assert abs(log.mean() - mean) < Z * sd / np.sqrt(m)


def test_cluster_level_values_go_to_their_clusters():
    rng = np.random.default_rng(8)
    n = 30
    g = rng.permutation(np.repeat(np.arange(n), 4))
    x = rng.permutation(np.linspace(-10, 10, n))
    hole = np.isin(g, [2, 9, 21, 28])
    frame = pd.DataFrame(
        {"g": g, "x": x[g], "w": np.where(hole, np.nan, 3 * x[g] + rng.normal(0, 0.1, n)[g])}
    )
    values = impute(frame, 5, methods={"w": "2lonly.norm"}, cycles=1).values("w")
    assert np.abs(values - 3 * x[g[hole]]).max() < 1.0


def donor_shares(by_study=False, n=12, draws=200_000, seed=11):
    """Table, and probability of each donor in matching of type 1.

    Predictions are by beta-hat of observed rows, by beta* of the missing one; by_study: with an intercept for each.
    """
    rng = np.random.default_rng(seed)
    x = rng.normal(size=n)
    y = x + rng.normal(0, 1.5, n)
    x_new, g = 1.2, np.arange(n + 1) % 3
    X = np.column_stack([np.eye(3)[g] if by_study else np.ones(n + 1), np.r_[x, x_new]])
    X, new = X[:n], X[n]
    inverse = np.linalg.inv(X.T @ X)
    fit = inverse @ X.T @ y
    sse = np.sum((y - X @ fit) ** 2)
    sigma2 = sse / rng.chisquare(n - X.shape[1], draws)
    beta = fit + np.sqrt(sigma2)[:, None] * (
        rng.normal(size=(draws, X.shape[1])) @ np.linalg.cholesky(inverse).T
    )
    nearest = np.abs((X @ fit)[None] - (beta @ new)[:, None]).argmin(axis=1)
    table = pd.DataFrame({"g": g, "x": np.r_[x, x_new], "y": np.r_[y, np.nan]})
    return table, y, np.bincount(nearest, minlength=n) / draws


@pytest.mark.parametrize(
    "method, by_study",
    [(bi.methods.PMM(donors=1), False), (bi.methods.Stratified(donors=1), True)],
    ids=["pmm", "sti"],
)
def test_matching_is_of_type_1(method, by_study):
    table, y, shares = donor_shares(by_study)
    m = 4000
    values = impute(table, m, methods={"y": method}, cycles=1).values("y")[:, 0]
    counts = np.array([(values == v).sum() for v in y])
    assert counts.sum() == m
    often = shares > 5 / m
    expected = m * shares[often]
    chi2 = ((counts[often] - expected) ** 2 / expected).sum()
    assert stats.chi2(often.sum() - 1).sf(chi2) > 1e-4
    assert counts[~often].sum() < 30


def test_matching_of_two_stages_is_of_type_1(monkeypatch):
    """Observed rows are predicted by the estimates of their cluster, missing ones by its draws."""
    from bayesimp.fcs.blocks import two_stage as block

    step, seen = block.two_stage_step, []

    def known(*given):
        draw = step(*given)
        return draw._replace(
            estimated=np.ones_like(draw.estimated), coefficients=np.full_like(draw.coefficients, 2.0)
        )

    def match(rng, observed, values, missing, donors, out):
        seen.append((observed, missing))
        out[:] = values[0]

    monkeypatch.setattr(block, "two_stage_step", known)
    monkeypatch.setattr(block, "match", match)
    rng = np.random.default_rng(3)
    g, x = np.repeat(np.arange(6), 20), rng.normal(size=120)
    y = np.where(np.arange(120) % 4 == 0, np.nan, x + rng.normal(size=120))
    frame = pd.DataFrame({"g": g, "x": x, "y": y})
    impute(frame, 1, methods={"y": bi.methods.TwoStage(donors=3)}, cycles=1, predictors={"y": "~ x"})
    observed, missing = (np.sort(part) for part in seen[-1])
    hole = np.isnan(y)
    line = np.polyfit(np.sort(x[~hole]), observed, 1)
    np.testing.assert_allclose(missing, 2.0 * np.polyval(line, np.sort(x[hole])), rtol=1e-8)


@pytest.mark.parametrize("method", ["pmm", bi.methods.Stratified(donors=2)], ids=["pmm", "sti"])
def test_ignored_rows_are_no_donors(method):
    rng = np.random.default_rng(12)
    n = 60
    g, x = np.arange(n) % 3, rng.normal(size=n)
    y = x + rng.normal(size=n)
    ignored = np.arange(n) % 5 == 0
    y[ignored] = np.round(y[ignored]) + 1000.0  # values that no other row has
    y[1::4] = np.nan
    values = impute(
        pd.DataFrame({"g": g, "x": x, "y": y}), 20, methods={"y": method}, ignore=ignored, cycles=1
    ).values("y")
    assert np.isin(values, y[~ignored]).all()


def levels_by_x(order, ordered, method):
    """A level that x determines in 99 rows of 100; its order is neither alphabetical nor the reverse."""
    rng = np.random.default_rng(13)
    n = 600
    g, x = np.arange(n) % 12, rng.uniform(0, len(order), n)
    code = np.floor(x).astype(int)
    text = np.array(order, dtype=object)[code]
    column = pd.Categorical(text, categories=order, ordered=ordered)
    hole = rng.random(n) < 0.25
    frame = pd.DataFrame({"g": g, "x": x, "k": column})
    if not ordered:
        frame = frame.assign(**{f"x{j}": (code == j) * 1.0 for j in range(1, len(order))}).drop(columns="x")
    frame.loc[hole, "k"] = np.nan
    imp = impute(frame, 4, methods={"k": method}, cycles=30)
    clear = hole & (np.abs(x - np.round(x)) > 0.15)
    return np.mean([(imp.frame(j)["k"].astype(object)[clear] == text[clear]).mean() for j in range(imp.m)])


@pytest.mark.parametrize("method", ["bayes", "glm", "sti"])
@pytest.mark.parametrize(
    "order, ordered",
    [(["never", "rarely", "always"], True), (["zebra", "ant", "cow"], False), (["yes", "no"], False)],
    ids=["ordinal", "categorical", "bernoulli"],
)
def test_levels_come_back_in_their_own_order(order, ordered, method):
    assert levels_by_x(order, ordered, method) > 0.8  # the weak priors leave less than certainty


@pytest.mark.parametrize("method", ["bayes", "glm", "sti", "2stage"])
def test_trials_are_those_of_the_row(method):
    rng = np.random.default_rng(14)
    n = 400
    g = rng.permutation(np.arange(n) % 10)
    trials = rng.integers(1, 400, n)
    success = rng.binomial(trials, 0.3)
    hole = rng.random(n) < 0.3
    frame = pd.DataFrame({"g": g, "n": trials, "x": rng.normal(size=n)})
    frame["s"] = pd.array(np.where(hole, 0, success), dtype="Int64")
    frame.loc[hole, "s"] = pd.NA
    values = impute(frame, 10, families={"s": "binomial(n)"}, methods={"s": method}, cycles=20).values("s")
    assert (values <= trials[hole]).all()
    # the law of s: binomial, p = .3 (to .02), a cluster sd of little
    z = (values - 0.3 * trials[hole]) / np.sqrt(0.21 * trials[hole])
    assert abs(z.mean()) < 1.0 and z.std() < 1.6


@pytest.mark.parametrize("method", ["bayes", "glm"])
def test_weak_priors_hold_separated_coefficients(method):
    """x separates y: the likelihood has no maximum, the law is due to the prior. bayes: the posterior, by quadrature;
    glm: the normal law about its mode."""
    x = np.tile(np.r_[np.linspace(-2, -1, 6), np.linspace(1, 2, 6)], 2)
    frame = pd.DataFrame({"g": np.arange(24) % 4, "x": x, "y": (x > 0) * 1.0})
    frame = pd.concat([frame, pd.DataFrame({"g": [0, 1], "x": [-0.5, 0.5], "y": np.nan})], ignore_index=True)
    priors = bi.priors.Priors(Psi=bi.priors.Fixed([[1e-8]]))
    methods = {"y": bi.methods.Bayes(priors) if method == "bayes" else "glm"}
    cycles = 25 if method == "bayes" else 1  # others draw independently of the past
    imp = impute(frame, 400, methods=methods, families={"y": "bernoulli"}, cycles=cycles)
    slope = np.asarray(imp.tree["posterior"]["beta_y"].sel(fixed_y="x"))[:, -1]
    sd_x = frame.x.std(ddof=0)
    a, b = np.meshgrid(np.linspace(-15, 15, 301), np.linspace(-2, 30, 1601), indexing="ij")
    log = -0.5 * (a / 5) ** 2 - 0.5 * (b / 2.5) ** 2
    for x_i in x:
        log -= np.logaddexp(0, -np.sign(x_i) * (a + b * x_i / sd_x))
    weight = np.exp(log - log.max())
    weight /= weight.sum()
    mean, mode = (weight * b).sum(), b.ravel()[log.argmax()]
    sd = np.sqrt((weight * b**2).sum() - mean**2)
    expected = mean if method == "bayes" else mode
    assert abs(slope.mean() * sd_x - expected) < Z * sd / np.sqrt(len(slope)) + 0.02
    assert 0.6 * sd < slope.std() * sd_x < 1.3 * sd
