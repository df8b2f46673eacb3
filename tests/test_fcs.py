"""`FCS` as users see it: what is kept, what is invariant, what can be requested, what is refused."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import bayesimp as bi


def frame(seed=0, m=9, n=14):
    rng = np.random.default_rng(seed)
    codes = rng.permutation(np.repeat(np.arange(m), n))
    sex = rng.choice(["F", "M"], m * n)
    age = rng.normal(40, 10, m * n)
    b = rng.normal(size=(m, 3))[codes]
    y1 = 10 + b[:, 0] + 0.05 * age + rng.normal(size=m * n)
    y2 = 100 + 8 * (b[:, 1] + 0.5 * (y1 - 10) + rng.normal(size=m * n))
    y3 = np.exp(0.1 * (b[:, 2] + rng.normal(size=m * n)))
    table = pd.DataFrame(
        {"study": np.array(list("abcdefghi"))[codes], "sex": sex, "age": age, "y1": y1, "y2": y2, "y3": y3}
    )
    for k, name in enumerate(["y1", "y2", "y3"]):
        table.loc[(rng.random(m * n) < 0.15) | (codes == k), name] = np.nan
    return table


def data(**options):
    return bi.IncompleteData(frame(**options), "study")


def run(model, m=4, cycles=12, seed=3, **options):
    return model.impute(m=m, cycles=cycles, seed=seed, progress=False, **options)


def same(a, b):
    return all((a.values(name) == b.values(name)).all() for name in a.imputed_columns)


@pytest.fixture(scope="module")
def model():
    return bi.FCS(data())


@pytest.fixture(scope="module")
def imp(model):
    return run(model)


def test_tables_are_complete_and_observed_cells_untouched(model, imp):
    original = model.data.frame
    for k in range(4):
        table = imp.to_frame(k)
        assert list(table.columns) == list(original.columns) and table.index.equals(original.index)
        assert not table[["y1", "y2", "y3"]].isna().any().any()
        for name in original:
            seen = original[name].notna()
            assert (table.loc[seen, name] == original.loc[seen, name]).all()


def test_tree_is_for_arviz(imp):
    import arviz_stats as azs

    post = imp.tree["posterior"].to_dataset()
    assert dict(post.sizes)["chain"] == 4 and dict(post.sizes)["draw"] == 6
    assert dict(imp.tree["warmup_posterior"].to_dataset().sizes)["draw"] == 6
    assert {"beta_y1", "sigma2_y1", "Psi_y1"} <= set(post.data_vars)
    assert np.isfinite(azs.summary(imp.tree, var_names=["beta_y1"], round_to="none")["mean"]).all()
    stats = imp.tree["imputed_stats"].to_dataset()["mean"]
    for k in range(4):  # the last state of the chain is the completed table
        table = imp.frame(k).assign(hole=imp.data.missing("y2"))
        means = table[table.hole].groupby("study")["y2"].mean()
        last = stats.sel(response="y2", chain=k).isel(draw=-1)
        np.testing.assert_allclose(last.sel(cluster=means.index).values, means.to_numpy(), rtol=1e-10)


@pytest.mark.parametrize("method", ["bayes", "2l.norm"])
def test_arviz_works_on_it_with_priors_beside(method):
    import arviz as az

    imp = run(bi.FCS(data(), methods=method)).with_prior_draws(500)
    az.plot_trace_dist(imp.tree, var_names=["beta_y1", "Psi_y1"], backend="none")
    az.plot_forest(imp.tree, var_names=["beta_y1"], backend="none")
    az.plot_prior_posterior(imp.tree, var_names=["Psi_y1"], backend="none")
    prior = imp.tree["prior"].to_dataset()
    assert "Psi_y1" in prior and ("sigma2_y1" in prior) == (method == "bayes")


def test_same_seed_same_imputations_whatever_workers_and_number(model, imp):
    assert same(imp, run(model, workers=1))
    more = run(model, m=6)
    assert all((more.values(n)[:4] == imp.values(n)).all() for n in imp.imputed_columns)
    assert not same(imp, run(model, seed=4))


def test_extend_is_a_longer_run(model, imp):
    assert same(imp.extend(2), run(model, m=6))


def test_iterate_is_a_run_of_more_cycles(model, imp):
    longer = imp.iterate(5)
    assert same(longer, run(model, cycles=17))
    assert same(imp, run(model))  # the first does not change
    assert longer.attrs["cycles"] == 17


@pytest.mark.parametrize("ending", ["nc", "zarr"])
def test_a_saved_run_goes_on_exactly(model, imp, tmp_path, ending):
    imp.save(tmp_path / f"run.{ending}")
    again = bi.load(tmp_path / f"run.{ending}")
    assert same(imp, again) and again.attrs["formula"] == imp.attrs["formula"]
    assert same(again.iterate(5), imp.iterate(5))
    assert same(again.extend(1), imp.extend(1))
    assert again.tree["posterior"].to_dataset().equals(imp.tree["posterior"].to_dataset())


def test_rows_clusters_and_units_may_be_given_in_any_way(imp):
    table = frame()
    shuffled = table.sample(frac=1, random_state=1)
    relabelled = table.assign(study=table["study"].map({c: f"s{9 - k}" for k, c in enumerate("abcdefghi")}))
    rescaled = table.assign(y2=table["y2"] * 1e-3, age=(table["age"] - 40) * 52)
    for other, factor in [(shuffled, 1), (relabelled, 1), (rescaled, 1e-3)]:
        again = run(bi.FCS(bi.IncompleteData(other, "study")))
        for k in (0, 3):
            a, b = imp.frame(k), again.frame(k).loc[table.index]
            np.testing.assert_allclose(a["y1"], b["y1"], rtol=1e-6)
            np.testing.assert_allclose(a["y2"] * factor, b["y2"], rtol=1e-6)


def test_interruption_keeps_what_there_is(model, monkeypatch):
    from bayesimp.sampling import sessions

    calls = []

    def interrupted(advance, chains, n, **options):  # the third time some chains are ahead of others
        done = [n] * chains if len(calls) < 2 else [min(c, n) for c in range(chains)]
        for c in range(chains):
            advance(c, 0, done[c])
        calls.append(done)
        return done

    monkeypatch.setattr(sessions, "run_chains", interrupted)
    imp = run(model, cycles=500)
    assert 0 < imp.attrs["cycles"] < 500 and not imp.frame(0)["y1"].isna().any()
    assert "interrupted" in set(imp.events["kind"])
    monkeypatch.undo()
    assert same(imp, run(model, cycles=imp.attrs["cycles"]))  # all stopped at the same cycle
    assert same(imp.iterate(2), run(model, cycles=imp.attrs["cycles"] + 2))
    monkeypatch.setattr(sessions, "run_chains", lambda advance, chains, n, **o: [0] * chains)
    with pytest.raises(bi.SamplingError, match="before its first cycle"):
        run(model)


def test_bounds_truncate(model):
    imp = run(bi.FCS(data(), bounds={"y3": (0.5, None), "y1": (5, 14)}))
    assert imp.values("y3").min() > 0.5 and 5 < imp.values("y1").min() and imp.values("y1").max() < 14
    with pytest.raises(bi.DataError, match="observed values are outside"):
        bi.FCS(data(), bounds={"y1": (9, 10)})
    top = np.nanmax(data().numeric("y1"))
    with pytest.raises(bi.DataError, match="1 observed value is outside"):
        bi.FCS(data(), bounds={"y1": (None, top - 1e-9)})
    bi.FCS(data(), bounds={"y1": (None, top)})
    with pytest.raises(bi.SpecificationError, match="empty"):
        bi.FCS(data(), bounds={"y1": (9, 9)})
    with pytest.raises(bi.SpecificationError, match="is not imputed"):
        bi.FCS(data(), bounds={"age": (0, None)})


@pytest.mark.parametrize("side", ["lower", "upper"])
def test_bounds_that_many_values_would_pass(side):
    """Half of the free values would lie beyond the bound, which is far from 0 and from sd 1; draws crowd near it."""
    rng = np.random.default_rng(4)
    g, x = np.repeat(np.arange(8), 40), rng.normal(size=320)
    y = 500 + 20 * x + rng.normal(0, 10, 320)
    limit = 500.0
    inside = y < limit if side == "upper" else y > limit
    frame = pd.DataFrame({"g": g, "x": x, "y": np.where(inside, y, np.nan)})
    frame.loc[::7, "y"] = np.nan
    bounds = (None, limit) if side == "upper" else (limit, None)
    free, kept = (
        bi.FCS(bi.IncompleteData(frame, "g"), **options).impute(4, cycles=10, seed=1).values("y")
        for options in ({}, {"bounds": {"y": bounds}})
    )
    beyond = (free - limit) * (1 if side == "upper" else -1)
    distance = (limit - kept) * (1 if side == "upper" else -1)
    assert (beyond > 0).mean() > 0.1
    assert distance.min() >= 0 and distance.min() < 0.5 and np.quantile(distance, 0.2) < 3
    # truncated, not clipped: no two values at the bound
    assert len(np.unique(kept)) == kept.size


def test_post_changes_values_and_is_recorded(tmp_path):
    model = bi.FCS(data(), post={"y2": lambda y: np.round(y)})
    imp = run(model)
    assert (imp.values("y2") == np.round(imp.values("y2"))).all()
    event = imp.events.set_index("kind").loc["changed by post"]
    assert event["where"] == "y2" and event["count"] > 0
    imp.save(tmp_path / "a.nc")
    alone = bi.load(tmp_path / "a.nc")
    assert "post" in alone.events.set_index("kind").loc["cannot go on", "message"]
    with pytest.raises(ValueError, match=r"carry no chains|in cycles"):
        alone.iterate(3)
    whole = bi.load(tmp_path / "a.nc", post={"y2": lambda y: np.round(y)})
    assert same(whole.iterate(3), imp.iterate(3))
    with pytest.raises(bi.SamplingError, match="finite values"):
        run(bi.FCS(data(), post={"y2": lambda y: y[:2]}))


def test_where_leaves_cells_missing_and_holds_observed_ones_out():
    d = data()
    young = (d.frame["age"] > 40).to_numpy()
    where = {"y1": d.missing("y1") & young, "y2": d.missing("y2") | young, "age": d.frame["age"] > 55}
    imp = run(bi.FCS(d, where=where))
    table = imp.frame(0)
    assert (table["y1"].isna().to_numpy() == d.missing("y1") & ~where["y1"]).all()
    assert (imp.rows("y2") == np.flatnonzero(where["y2"])).all()
    assert not (imp.values("y2")[0] == d.frame["y2"].to_numpy()[imp.rows("y2")]).any()  # held out, imputed
    assert (imp.rows("age") == np.flatnonzero(where["age"])).all()


def test_where_everything_of_a_variable_is_refused():
    d = data()
    with pytest.raises(bi.DataError, match="y2"):
        bi.FCS(d, where={"y2": np.ones(len(d), bool)})
    with pytest.raises(bi.SpecificationError, match="True or False"):
        bi.FCS(d, where={"y2": np.ones(3, bool)})


def test_ignored_rows_do_not_reach_the_others():
    """Whatever ignored rows contain, the imputations of the others are the same; and ignored rows are imputed too."""
    table = frame()
    ignore = np.zeros(len(table), bool)
    ignore[::5] = True
    changed = table.copy()
    changed.loc[ignore, ["y1", "y2"]] += 1000.0
    options = {"ignore": ignore, "predictors": {n: f"{n} ~ age + {o} + cluster_mean({o}) + (1 | study)" for n, o in [
        ("y1", "y2"), ("y2", "y1"), ("y3", "y1")]}}  # fmt: skip
    a, b = (bi.FCS(bi.IncompleteData(t, "study"), **options) for t in (table, changed))
    ra, rb = run(a, cycles=3), run(b, cycles=3)
    pa, pb = (r.tree["posterior"].to_dataset() for r in (ra, rb))
    # scales differ with the table; the law of the parameters does not: compare the centre of many draws
    assert not ra.frame(0).isna().any().any() and not rb.frame(0).isna().any().any()
    many = [run(x, m=30, cycles=60).tree["posterior"].to_dataset() for x in (a, b)]
    for name in ("beta_y1", "sigma2_y2"):
        chains = [p[name].mean("draw") for p in many]
        z = (chains[0].mean("chain") - chains[1].mean("chain")) / np.sqrt(
            (chains[0].var("chain") + chains[1].var("chain")) / 30
        )
        assert float(np.abs(z).max()) < 4.5
    assert set(pa.data_vars) == set(pb.data_vars)


def test_derived_columns_follow_their_ingredients():
    table = frame().assign(ratio=lambda t: t["y2"] / t["y3"])
    table.loc[::7, "ratio"] = np.nan
    d = bi.IncompleteData(table, "study")
    model = bi.FCS(
        d,
        derived={"ratio": "y2 / y3", "square": "y1**2"},
        predictors={
            "y1": "~ age + ratio + (1 | study)",
            "y2": "~ age + square + (1 | study)",
            "y3": "~ y1 + (1 | study)",
        },
    )
    imp = run(model)
    for k in range(4):
        t = imp.frame(k)
        np.testing.assert_allclose(t["ratio"], t["y2"] / t["y3"], rtol=1e-9)
        np.testing.assert_allclose(t["square"], t["y1"] ** 2, rtol=1e-9)
    with pytest.warns(bi.StatisticalWarning, match="y1\\*\\*2|square is not linear in 'y1'"):
        fits = imp.analyse("y2 ~ square + (1 | study)")  # a column that the table did not have
    assert np.isfinite(fits.pool().estimate).all()


def test_interactions_with_imputed_variables_are_kept_up_to_date():
    model = bi.FCS(
        data(), predictors={"y1": "~ y2 * sex + (1 | study)", "y2": "~ y1 + I(y1**2) + (1 + y1 | study)"}
    )
    imp = run(model)
    post = imp.tree["posterior"].to_dataset()
    assert "Psi_y2" in post and post["Psi_y2"].shape[-1] == 2
    assert any("y2" in str(c) and "sex" in str(c) for c in post["fixed_y1"].values)


@pytest.mark.parametrize("method, random, rtol", [("norm", "", 1e-6), ("bayes", " + (1 + {} | study)", 1e-3)])
def test_within_is_the_column_written_out(method, random, rtol):
    """For a complete predictor the column can be made by hand: the imputations are the same, except that the wide prior
    of its slopes is in units of the variable's sd, not the column's.
    """
    table = frame().drop(columns=["y2", "y3"])
    mean = table.groupby("study")["age"].transform("mean")
    table = table.assign(mean=mean, rest=table["age"] - mean)
    data = bi.IncompleteData(table, "study")
    ours, by_hand = (
        run(bi.FCS(data, methods=method, predictors=f"y1 ~ sex + {w} + {mean}{random.format(w)}"), cycles=5)
        for w, mean in (("within(age)", "cluster_mean(age)"), ("rest", "mean"))
    )
    np.testing.assert_allclose(ours.values("y1"), by_hand.values("y1"), rtol=rtol)


def test_within_follows_the_imputations():
    """Coefficients of the last cycle about least squares on its own completed table, in standard deviations."""
    formulas = {"y1": "~ within(y2) + cluster_mean(y2)", "y2": "~ y1", "y3": "~ y1"}
    table = frame()
    model = bi.FCS(
        bi.IncompleteData(table, "study"), methods="norm", predictors=formulas, order=["y2", "y3", "y1"]
    )
    imp = run(model, m=100)
    post = imp.tree["posterior"].to_dataset().isel(draw=-1)
    z = []
    for i in range(100):
        y2 = imp.frame(i)["y2"]
        mean = y2.groupby(table["study"]).transform("mean")
        seen = table["y1"].notna()
        X = np.column_stack([np.ones(len(mean)), y2 - mean, mean])[seen]
        hat = np.linalg.lstsq(X, table["y1"][seen], rcond=None)[0]
        sd = np.sqrt(float(post["sigma2_y1"][i]) * np.diag(np.linalg.inv(X.T @ X)))
        z.append((post["beta_y1"].values[i] - hat) / sd)
    for k in range(3):
        assert stats.kstest(np.array(z)[:, k], "norm").pvalue > 1e-3


@pytest.mark.parametrize("method", ["bayes", "iw", "iw-c", "ml", "norm", "pmm", "2l.norm"])
def test_every_method_runs_and_is_reproducible(method, tmp_path):
    model = bi.FCS(data(), methods=method)
    imp = run(model)
    assert not imp.frame(0)[["y1", "y2", "y3"]].isna().any().any()
    imp.save(tmp_path / "a.nc")
    assert same(bi.load(tmp_path / "a.nc").iterate(3), imp.iterate(3))
    if method == "pmm":
        assert np.isin(imp.values("y2"), model.data.frame["y2"]).all()


def test_cluster_variances_have_a_value_for_every_cluster():
    imp = run(bi.FCS(data(), methods="2l.norm"))
    sigma2 = imp.tree["posterior"].to_dataset()["sigma2_y1"]
    assert sigma2.dims == ("chain", "draw", "cluster") and list(sigma2["cluster"].values) == list("abcdefghi")


def test_with_priors_changes_the_blocks_that_take_priors():
    model = bi.FCS(data(), methods={"y1": "ml"})
    other = model.with_priors(bi.priors.mice())
    methods = {b.name: b.method for b in other.spec.blocks}
    assert methods["y1"].name == "ml" and methods["y2"].priors == bi.priors.mice()
    lkj = bi.priors.Priors(Psi=bi.priors.LKJ(2.0), name="lkj")
    assert isinstance({b.name: b.method for b in model.with_priors(lkj).spec.blocks}["y2"], bi.methods.PyMC)
    with pytest.raises(bi.SpecificationError, match="No block has priors"):
        bi.FCS(data(), methods="ml").with_priors(lkj)


def test_refusals_name_what_is_wrong(model):
    with pytest.raises(bi.SpecificationError, match="FCS takes IncompleteData, got DataFrame"):
        bi.FCS(frame())
    with pytest.raises(bi.SpecificationError, match="circle 'y1' -> 'r' -> 'y1'"):
        bi.FCS(data(), derived={"r": "y1 / y3"}, predictors={"y1": "~ r + (1 | study)"})
    with pytest.raises(bi.SpecificationError, match="tune = 12 leaves none"):
        run(model, tune=12)
    with pytest.raises(bi.SpecificationError, match="m must be"):
        run(model, m=0)
    with pytest.raises(bi.DataError, match="no row"):
        bi.FCS(data(), ignore=np.ones(9 * 14, bool))


def test_whole_cycles_in_one_kernel_call_are_the_steps_one_by_one(model, imp):
    single = bi.FCS(data())
    for conditional in single.conditionals(3):
        conditional.visit = None
    assert same(imp, run(single))
    first, second = (x.tree["posterior"].to_dataset() for x in (imp, run(single)))
    assert first.equals(second)


def test_a_variable_visited_twice_has_one_state(tmp_path):
    model = bi.FCS(data(), order=["y1", "y2", "y1", "y3"])
    imp = run(model)
    chain = imp._run.chains[0]
    assert chain.theta[0] is chain.theta[2] and chain.theta[0] is not chain.theta[1]
    longer = imp.iterate(3)
    assert same(longer, run(model, cycles=15))
    imp.save(tmp_path / "a.nc")
    assert same(bi.load(tmp_path / "a.nc").iterate(3), longer)


def test_visiting_twice_does_not_change_what_is_imputed():
    means = []
    for order in (None, ["y1", "y2", "y1", "y3"]):
        stats = bi.FCS(data(), order=order).impute(m=20, cycles=220, tune=20, seed=5).tree["imputed_stats"]
        x = stats.to_dataset()["mean"].transpose("chain", "draw", ...).values.reshape(20, 200, -1)
        means.append(x[:, :, np.isfinite(x).all((0, 1))].mean(1))
    a, b = means
    z = (a.mean(0) - b.mean(0)) / np.sqrt((a.var(0, ddof=1) + b.var(0, ddof=1)) / 20)
    assert np.abs(z).max() < 4.7, np.abs(z).max()  # t with 38 df, 27 means, level 1e-3


def test_improper_priors_that_the_clusters_do_not_make_up_for_are_refused():
    improper = bi.priors.Priors(Psi=bi.priors.InverseWishart(-8.0, 1.0, improper=True), name="too flat")
    model = bi.FCS(data(), methods=bi.methods.Bayes(improper))
    with pytest.raises(bi.SpecificationError, match=r"Psi of 'y1'.*8 clusters"):
        run(model)
    run(bi.FCS(data(), methods=bi.methods.Bayes(bi.priors.jomo())))


def test_more_variables_than_bits_in_an_integer():
    """70 incomplete variables: every missing cell is found, and each cell has one pattern."""
    rng = np.random.default_rng(0)
    codes, names = np.repeat(np.arange(20), 30), [f"y{k}" for k in range(70)]
    table = pd.DataFrame(rng.normal(size=(600, 70)) + rng.normal(size=(20, 70))[codes], columns=names)
    table = table.mask(rng.random((600, 70)) < 0.01)
    wide = bi.IncompleteData(table.assign(study=codes), "study")
    model = bi.FCS(wide, predictors={n: f"~ {names[k - 1]} + (1 | study)" for k, n in enumerate(names)})
    t = model.table
    assert set(t.row) == set(np.flatnonzero(table.isna().any(axis=1)))
    assert (t.cells.missing[t.row_cell] == table.isna().to_numpy()[t.row]).all()
    with pytest.raises(bi.SpecificationError, match="62 at most"):
        bi.FCS(wide, blocks={"all": names}, predictors={"all": "~ 1 + (1 | study)"}).table  # noqa: B018
    with pytest.raises(bi.SpecificationError, match="at most 62"):
        bi.JointNormal(wide, f"{' + '.join(names)} ~ 1 + (1 | study)")


def test_a_run_interrupted_in_its_warm_up_says_so(model, monkeypatch):
    from bayesimp.fcs import loop as fcs
    from bayesimp.sampling import sessions

    def interrupted(advance, chains, n, **options):
        for c in range(chains):
            advance(c, 0, 1)
        return [1] * chains

    monkeypatch.setattr(sessions, "run_chains", interrupted)
    monkeypatch.setattr(fcs, "SECONDS", 1e9)  # the second turn does all the rest
    imp = run(model, cycles=40)
    assert imp.attrs["cycles"] == 2
    assert "All are warm-up (tune = 20)" in imp.events.set_index("kind").loc["interrupted", "message"]
