"""Figures of levels, counts, skewed positive values and cluster-level variables."""

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

import bayesimp as bi
from bayesimp.imputation.result import Imputations
from bayesimp.plots._variable import variable
from bayesimp.plots.imputed import BINS, _bins
from tests.plots.test_figures import check

M, CLUSTERS, ROWS = 6, 8, 12


@pytest.fixture(autouse=True)
def close():
    yield
    plt.close("all")


def made():
    """Imputations without a model: values drawn at random, the first cluster without observed values."""
    rng = np.random.default_rng(0)
    n = CLUSTERS * ROWS
    g = np.repeat(np.arange(CLUSTERS), ROWS)
    trials = rng.integers(2, 6, n)
    full = {
        "smoke": rng.integers(0, 2, n), "sex": rng.integers(1, 3, n), "grade": rng.integers(0, 4, n),
        "visits": rng.poisson(2, n),
        "days": rng.negative_binomial(0.5, 0.005, n), "cured": rng.binomial(trials, 0.4),
        "cost": np.exp(rng.normal(3, 2, n)), "urban": rng.integers(0, 2, CLUSTERS)[g],
        "beds": rng.normal(100, 9, CLUSTERS)[g],
    }  # fmt: skip
    names = {"smoke": ["never", "now"], "grade": ["I", "II", "III", "IV"], "urban": ["no", "yes"]}
    holes = (g == 0) | (rng.random(n) < 0.2)
    frame, cells = {"g": [f"c{k}" for k in g], "trials": trials}, {}
    for name, x in full.items():
        per_cluster = name in ("urban", "beds")
        rows = np.flatnonzero(g < 2 if per_cluster else holes)
        column = pd.Series(np.array(names[name], dtype=object)[x] if name in names else x.astype(float))
        frame[name] = column.where(~np.isin(np.arange(n), rows), None)
        codes = x - 1.0 if name == "sex" else x.astype(float)
        draws = [
            rng.permutation(np.unique(codes))[:2] if per_cluster else rng.choice(codes, len(rows))
            for _ in range(M)
        ]
        cells[name] = rows, np.array([d[g[rows]] if per_cluster else d for d in draws])
    frame = pd.DataFrame(frame).assign(
        grade=lambda f: pd.Categorical(f["grade"], names["grade"], ordered=True)
    )
    families = {
        "sex": "bernoulli",
        "visits": "poisson",
        "days": "negative_binomial",
        "cured": "binomial(trials)",
        "cost": "gamma",
    }
    data = bi.IncompleteData(frame, cluster="g", families=families)
    return Imputations(data, cells, {"m": M, "responses": list(cells), "model": "FCS"}, None, [])


@pytest.fixture(scope="module")
def imp():
    return made()


def test_levels_have_their_names_and_shares(imp):
    ax = bi.plot_imputed(imp, "grade").axes[0]
    assert [t.get_text() for t in ax.get_xticklabels()] == ["I", "II", "III", "IV"]
    observed = imp.data.numeric("grade")
    observed = observed[np.isfinite(observed)]
    np.testing.assert_allclose(
        [bar.get_height() for bar in ax.patches], np.bincount(observed.astype(int)) / len(observed)
    )
    np.testing.assert_allclose(
        ax.lines[2].get_ydata(), [(imp.values("grade")[2] == k).mean() for k in range(4)]
    )


def test_numbers_as_levels(imp):
    ax = bi.plot_imputed(imp, "sex").axes[0]
    assert [t.get_text() for t in ax.get_xticklabels()] == ["1.0", "2.0"] or [
        t.get_text() for t in ax.get_xticklabels()
    ] == ["1", "2"]
    assert abs(sum(ax.lines[0].get_ydata()) - 1) < 1e-12


def test_counts_lose_no_row_in_bins(imp):
    for name in ("visits", "days"):
        ax = bi.plot_imputed(imp, name).axes[0]
        assert abs(sum(bar.get_height() for bar in ax.patches) - 1) < 1e-12
        assert all(abs(sum(line.get_ydata()) - 1) < 1e-12 for line in ax.lines)
        assert len(ax.patches) <= BINS + 1
    lower, names, scale = _bins(np.array([0, 1, 5, 40, 10_000.0]))
    assert lower[0] == 0 and names[-1].endswith("+") and "bins of" in scale


def test_skewed_values_on_a_log_axis(imp):
    ax = bi.plot_imputed(imp, "cost").axes[0]
    assert ax.get_xscale() == "log" and ax.get_xlabel() == "cost (log scale)"
    assert bi.plot_imputed(imp, "cost", by_cluster=True).axes[0].get_xscale() == "log"


def test_variables_of_clusters_are_counted_once_a_cluster(imp):
    for name in ("urban", "beds"):
        shown = variable(imp, name)
        assert (
            shown.unit == "clusters" and len(shown.observed) == CLUSTERS - 2 and shown.imputed.shape == (M, 2)
        )
    assert variable(imp, "visits").unit == "rows"
    assert bi.plot_imputed(imp, "urban").axes[0].get_title() == "6 clusters observed, 2 imputed"


def test_shares_and_means_by_cluster(imp):
    ax = bi.plot_imputed(imp, "smoke", by_cluster=True).axes[0]
    assert ax.get_xlabel() == "smoke: share of now"
    at = imp.data.codes[imp.rows("smoke")] == 0  # the first line: nothing observed there
    np.testing.assert_allclose(
        ax.lines[0].get_xdata(), np.quantile(imp.values("smoke")[:, at].mean(1), [0.05, 0.95])
    )
    ax = bi.plot_imputed(imp, "cured", by_cluster=True).axes[0]
    rows = imp.rows("cured")
    at = imp.data.codes[rows] == 0
    trials = imp.data.frame["trials"].to_numpy()[rows[at]].sum()
    np.testing.assert_allclose(
        ax.lines[0].get_xdata(), np.quantile(imp.values("cured")[:, at].sum(1) / trials, [0.05, 0.95])
    )
    figure = bi.plot_imputed(imp, ["grade", "visits"], by_cluster=True)
    assert [a.get_xlabel() for a in figure.axes if a.axison] == [
        *(f"grade: share of {k}" for k in ("I", "II", "III", "IV")),
        "visits: mean",
    ]
    assert figure._suptitle.get_text().startswith("Observed shares and means")


@pytest.mark.parametrize("by_cluster", [False, True])
def test_texts(imp, by_cluster):
    check(bi.plot_imputed(imp, by_cluster=by_cluster))


def test_traces_of_shares():
    rng = np.random.default_rng(1)
    n = 60
    frame = pd.DataFrame({"g": np.repeat(list("abcdef"), 10), "x": rng.normal(size=n)})
    frame["y"] = np.where(rng.random(n) < 0.5, "yes", "no").astype(object)
    frame.loc[::4, "y"] = None
    imp = bi.FCS(bi.IncompleteData(frame, "g"), "sti").impute(3, cycles=12, tune=2, seed=1, progress=False)
    figure = bi.plot_imputed_trace(imp, "y")
    left = figure.axes[0]
    assert left.get_ylabel() == "share of yes" and "R-hat of the share" in left.get_title(loc="left")
    assert 0 <= np.min(left.lines[0].get_ydata()) and np.max(left.lines[0].get_ydata()) <= 1
    check(figure)
