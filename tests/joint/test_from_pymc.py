"""`FromPyMC`: a user's model is matched with the table, sampled, continued, saved, and refused if it cannot be used."""

from __future__ import annotations

import pickle
import warnings

import numpy as np
import pandas as pd
import pymc as pm
import pytensor.tensor as pt
import pytest
from pymc.exceptions import ImputationWarning

import bayesimp as bi
from bayesimp.progress import Report
from bayesimp.sampling import nuts

pytestmark = pytest.mark.filterwarnings("ignore::pymc.exceptions.ImputationWarning")
SHORT = {"m": 4, "seed": 7, "chains": 2, "tune": 30, "draws": 20, "progress": False}
X = np.array([0.3, np.nan, 1.9, np.nan, 2.4, 0.8, np.nan, 1.1])
MISSING = np.flatnonzero(np.isnan(X))


@pytest.fixture
def uncompiled(monkeypatch):
    """Small models are sampled without compilation."""
    monkeypatch.setattr(nuts, "evaluation", lambda *_: "python")


def table(**columns):
    return bi.IncompleteData(pd.DataFrame({"g": [3, 1, 3, 1, 2, 2, 3, 1], "x": X, **columns}), "g")


def normal(x=X, name="x", **options):
    with pm.Model(**options) as model, warnings.catch_warnings():
        warnings.simplefilter("ignore", ImputationWarning)
        mu = pm.Normal("mu", 0, 10)
        pm.Normal(name, mu, 1, observed=np.ma.masked_invalid(x))
    return model


def by_hand(make):
    """A model whose missing cells the user assembles; ``make(mu)`` adds the variable x."""
    with pm.Model() as model:
        make(pm.Normal("mu", 0, 10))
    return model


def same(a, b):
    return all((a.values(name) == b.values(name)).all() for name in a.imputed_columns)


def test_imputed_values_are_the_predictive_distribution():
    """mu | x ~ N(sum x / (k + .01), 1 / (k + .01)); a missing value has that mean and this variance plus 1."""
    imp = bi.FromPyMC(normal(), table()).impute(
        m=1000, seed=1, chains=2, tune=300, draws=1000, progress=False
    )
    precision = 5 + 0.01
    mean, variance = np.nansum(X) / precision, 1 / precision
    values = imp.values("x")
    within = values - values.mean(1, keepdims=True)
    # three tests, at 4 Monte Carlo standard errors of 1,000 tables whose draws are two apart
    se = np.sqrt((variance + 1 / 3) / 1000)
    assert abs(values.mean() - mean) < 4 * se
    assert abs(values.mean(1).var() / (variance + 1 / 3) - 1) < 4 * np.sqrt(2 / 1000)
    assert abs((within**2).sum() / 2000 - 1) < 4 * np.sqrt(2 / 2000)
    assert imp.tree["posterior"]["mu"].shape == (2, 1000) and "x" not in imp.tree["posterior"]


def test_cells_are_put_into_their_rows(uncompiled):
    """Every row has its own mean 10, 20, ..., so that a value shows where it belongs."""
    with pm.Model() as model:
        z = pm.Normal("z", 0, 1, shape=3)
        pm.Deterministic("x", pt.set_subtensor(pt.as_tensor(X)[MISSING], 100.0 * MISSING + 0.01 * z))
        pm.Deterministic("alone", 100.0 * MISSING + 0.01 * z)
    data = table()
    for columns in (None, {"x": "alone"}):
        imp = bi.FromPyMC(model, data, columns).impute(**SHORT)
        done = imp.frame(3)
        np.testing.assert_allclose(done["x"].to_numpy()[MISSING], 100.0 * MISSING, atol=0.1)
        pd.testing.assert_series_equal(done["x"].drop(MISSING), data.frame["x"].drop(MISSING))
        mean = imp.tree["imputed_stats"]["mean"].sel(response="x")
        np.testing.assert_allclose(mean.sel(cluster=1), 200.0, atol=0.1)  # rows 1 and 3
        # imputation k: chain k % 2, the last draw of span k // 2
        kept = imp.run.kept["alone" if columns else "x"]
        span = imp.attrs["draws"] // (imp.m // 2)
        for k in range(imp.m):
            of_draw = np.asarray(kept)[k % 2, span * (k // 2 + 1) - 1]
            np.testing.assert_array_equal(imp.values("x")[k], of_draw if columns else of_draw[MISSING])
        assert np.isnan(mean.sel(cluster=2)).all()  # nothing is missing there


def test_a_longer_run_begins_with_the_same_draws(uncompiled):
    model = bi.FromPyMC(normal(), table())
    first = model.impute(**SHORT)
    longer = first.extend(2)
    whole = model.impute(**SHORT | {"m": 6, "draws": 30, "workers": 2})
    assert same(longer, whole) and longer.m == 6 and longer.attrs["draws"] == 30
    assert (longer.values("x")[:4] == first.values("x")).all()
    assert not same(first, model.impute(**SHORT | {"seed": 8}))
    with pytest.raises(bi.SpecificationError, match=r"\(FCS\) can be iterated in cycles"):
        first.iterate(2)


def test_kept_in_files_and_pickled(uncompiled, tmp_path):
    first = bi.FromPyMC(normal(name="marker"), table(), {"x": "marker"}).impute(**SHORT)
    first.save(tmp_path / "run.nc")
    back = bi.load(tmp_path / "run.nc")
    assert same(back, first) and back.attrs == first.attrs
    assert back.tree["posterior"].to_dataset().equals(first.tree["posterior"].to_dataset())
    assert back.events.query("kind == 'cannot go on'")["message"].str.contains("model=model").all()
    assert "cannot go on" in set(back.events["kind"]) and back.analyse("x ~ 1 + (1 | g)").pool() is not None
    with pytest.raises(bi.SpecificationError, match="model=model"):
        back.extend(2)
    again = bi.load(tmp_path / "run.nc", model=normal(name="marker"))
    longer = first.extend(2)
    assert same(again.extend(2), longer)
    assert same(pickle.loads(pickle.dumps(first)).extend(2), longer)
    fcs = bi.FCS(table()).impute(m=2, seed=1, cycles=2, progress=False)
    fcs.save(tmp_path / "fcs.nc")
    with pytest.raises(bi.SpecificationError, match="model= is for results of FromPyMC"):
        bi.load(tmp_path / "fcs.nc", model=normal())


def test_an_interrupted_run_keeps_what_there_is(uncompiled, monkeypatch):
    """Stopped after 200 iterations, long after warm-up."""

    def strike(self, stage, done, total):
        if stage == "sampling" and 200 < done < total:
            raise KeyboardInterrupt

    model = bi.FromPyMC(normal(), table())
    with monkeypatch.context() as patch:
        patch.setattr(Report, "__call__", strike)
        part = model.impute(**SHORT | {"draws": 20_000})
    done = part.attrs["draws"]
    assert 4 <= done and part.m == 4 and "interrupted" in set(part.events["kind"])
    assert not part.frame(3)["x"].isna().any()
    assert part.attrs["chains"] == 1 and done <= 20_000  # chains take turns: the second had not begun
    whole = model.impute(**SHORT | {"draws": 100, "chains": 1})
    np.testing.assert_array_equal(part.tree["posterior"]["mu"][:, :100], whole.tree["posterior"]["mu"])


def test_an_extension_that_is_interrupted_keeps_what_there_was(uncompiled, monkeypatch):
    def strike(self, stage, done, total):
        if stage == "sampling":
            raise KeyboardInterrupt

    first = bi.FromPyMC(normal(), table()).impute(**SHORT)
    with monkeypatch.context() as patch:
        patch.setattr(Report, "__call__", strike)
        part = first.extend(200_000)
        with pytest.raises(
            bi.SamplingError, match="interrupted before its first imputation, so there is nothing to keep"
        ):
            bi.FromPyMC(normal(), table()).impute(**SHORT)
    assert same(part, first) and part.m == first.m
    assert {"interrupted", "fewer imputations"} <= set(part.events["kind"])


def test_what_is_not_done_is_an_event(uncompiled):
    data = table(w=np.where(np.arange(8) < 2, np.nan, 1.0 + np.arange(8)))
    imp = bi.FromPyMC(normal(), data).impute(**SHORT, executor="serial")
    events = imp.events.set_index("kind")["message"]
    assert "'w' (2 cells)" in events["not imputed"] and "executor = 'serial'" in events["not used"]
    assert imp.responses == ["x"] and imp.frame(0)["w"].isna().sum() == 2


def test_axes_of_the_model_that_are_called_like_ours(uncompiled):
    coords = {"cluster": ["a", "b"], "response": ["c", "d", "e"]}
    with normal(coords=coords) as model:
        pm.Normal("effect", 0, 1, dims=("cluster", "response"))
    imp = bi.FromPyMC(model, table()).impute(**SHORT)
    effect = imp.tree["posterior"]["effect"]
    assert effect.dims == ("chain", "draw", "cluster_", "response_")
    assert list(effect["response_"].values) == ["c", "d", "e"]


def test_a_model_without_parameters(uncompiled):
    with pm.Model() as model:
        pm.Normal("x", 5, 1, observed=np.ma.masked_invalid(X))
    imp = bi.FromPyMC(model, table()).impute(**SHORT)
    assert not imp.frame(0)["x"].isna().any() and "x_unobserved" in imp.tree["posterior"]


def counts():
    k = np.ma.masked_array([1, 0, 2, 0, 1, 0, 3, 1], mask=np.isnan(X))
    return by_hand(lambda mu: pm.Poisson("x", pt.exp(mu), observed=k))


def fixed_cell(mu):
    z = pm.Normal("z", mu, 1, shape=2)
    filled = pt.set_subtensor(pt.as_tensor(X)[MISSING[:2]], z)
    pm.Deterministic("x", pt.set_subtensor(filled[MISSING[2]], 1.0))


REFUSED = {
    "no variable of the name": (normal(name="marker"), None, r"'marker_observed'.*columns=\{'column': 'variable'\}"),
    "unknown column": (normal(), {"xx": "x"}, "no column 'xx'; did you mean 'x'"),
    "unknown variable": (normal(), {"x": "xs"}, "no variable 'xs' for 'x'; did you mean 'x'"),
    "complete column": (normal(), {"x": "x", "g": "mu"}, "'g' has no missing cells"),
    "no mapping": (normal(), "x", r"\{'column': 'variable'\}"),
    "length": (normal(X[:-1]), None, r"shape \(7,\); column 'x' needs \(8,\).*or \(3,\)"),
    "one number": (normal(), {"x": "mu"}, r"shape \(\); column"),
    "other values": (normal((X - 1) / 2), None, r"5 of 5 observed rows \(row 0: 0.3 in the table, -0.35.*Deterministic"),
    "rows in another order": (normal(X[::-1]), None, r"differs from column 'x'"),
    "a cell at a constant": (by_hand(fixed_cell), None, r"1 of 3 missing cells of 'x' \(rows 6\)"),
    "discrete": (counts(), None, r"'x_unobserved' \(missing cells of 'x'\).*JointGLMM"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED.values(), ids=REFUSED)
def test_refused_before_sampling(case):
    model, columns, message = case
    with pytest.raises(bi.SpecificationError, match=f"(?s){message}"):
        bi.FromPyMC(model, table(), columns)


def test_other_refusals(uncompiled):
    two = np.array([0, np.nan, 1, np.nan, 1, 0, np.nan, 1])
    data = bi.IncompleteData(pd.DataFrame({"g": [1, 1, 1, 1, 2, 2, 2, 2], "x": two}), "g", {"x": "bernoulli"})
    with pytest.raises(bi.SpecificationError, match=r"bernoulli.*families=\{'x': 'normal'\}"):
        bi.FromPyMC(normal(two), data)
    model = bi.FromPyMC(normal(), table())
    with pytest.raises(bi.SpecificationError, match="priors are written in the PyMC model"):
        model.with_priors("default")
    for options, message in (
        ({"tune": 0}, "tune"), ({"target_accept": 1.0}, "target_accept"), ({"m": 50, "draws": 3}, "draws"),
    ):  # fmt: skip
        with pytest.raises(bi.SpecificationError, match=message):
            model.impute(**SHORT | options)


def test_log_likelihood_and_log_prior_of_the_user_s_model(uncompiled, tmp_path):
    """x ~ N(mu, 1), mu ~ N(0, 10): missing cells belong to neither."""
    imp = bi.FromPyMC(normal(), table()).impute(**SHORT)
    tree = imp.tree_with("log_likelihood", "log_prior", thin=5)
    mu, seen = tree["posterior"]["mu"].values[..., None], X[~np.isnan(X)]
    (found,) = tree["log_likelihood"].data_vars.values()
    np.testing.assert_allclose(found, -0.5 * (seen - mu) ** 2 - 0.5 * np.log(2 * np.pi))
    prior = tree["log_prior"].to_dataset()
    assert list(prior.data_vars) == ["mu"] and prior["mu"].shape == (2, 4)
    np.testing.assert_allclose(prior["mu"], -0.005 * mu[..., 0] ** 2 - np.log(10) - 0.5 * np.log(2 * np.pi))
    with pytest.raises(bi.SpecificationError, match="posterior_predictive: of your own PyMC model only"):
        imp.tree_with("posterior_predictive")
    imp.save(tmp_path / "a.nc")
    with pytest.raises(bi.SpecificationError, match="files do not keep the draws"):
        bi.load(tmp_path / "a.nc", model=normal()).tree_with("log_likelihood")
    with (model := normal()):
        pm.Potential("more", -(model["mu"] ** 2))
    with pytest.raises(bi.SpecificationError, match=r"the potentials of the model \('more'\)"):
        bi.FromPyMC(model, table()).impute(**SHORT).tree_with("log_prior")
