"""Parameters given releases are those given all rows; completed rows have their exact distribution."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import norm

import bayesimp as bi
from bayesimp import federated as fed
from bayesimp.diagnostics.convergence import diagnose
from bayesimp.errors import DataError, SpecificationError
from bayesimp.events import Event
from bayesimp.federated import complete, export
from bayesimp.federated.merge import check_together, working_input
from bayesimp.kernels.normal.statistics import collect
from tests.calibration.montecarlo import bonferroni
from tests.federated.tables import AGREED, FORMULA, LEVELS, SITES, parts, pooled, releases
from tests.unit_normals import Normals

OPTIONS = dict(m=4, seed=3, draws=400, chains=2, progress=False)


@pytest.fixture(scope="module")
def frame():
    return pooled()


@pytest.fixture(scope="module")
def run(frame):
    return fed.combine(releases(frame), **OPTIONS)


def by_rows(frame):
    """The model of all rows at one place."""
    table = frame.drop(columns="site").assign(
        arm=frame["arm"].astype("category").cat.set_categories(LEVELS["arm"])
    )
    return bi.JointNormal(bi.IncompleteData(table, "g"), FORMULA)


# the sampler's input ------------------------------------------------------------------------------


def distance(frame, own):
    """Of working cross products from those of all rows on the same scale, in units of their diagonal, cell by cell."""
    model, scale = by_rows(frame), own.scale
    design = model.design
    Y = np.column_stack([model.data.numeric(name) for name in model.responses])
    X_w, Z_w = design.X @ scale.T, design.Z @ scale.C / scale.u
    st = collect(X_w, Z_w, Y / scale.s - X_w @ scale.offset, model.data.codes, len(model.data.clusters))
    st = with_responses(st)
    own = own.statistics
    if st.gram.shape != own.gram.shape or not np.array_equal(st.cell_cluster, own.cell_cluster):
        return np.inf
    size = np.sqrt(np.einsum("cii->ci", st.gram))
    return np.abs((own.gram - st.gram) / np.maximum(size[:, :, None] * size[:, None], 1.0)).max()


def with_responses(st):
    """The cells with a response."""
    there = st.patterns[st.cell_pattern].any(axis=1)
    parts = (st.cell_cluster, st.cell_pattern, st.cell_rows, st.gram)
    return replace(st, **dict(zip(("cell_cluster", "cell_pattern", "cell_rows", "gram"), (a[there] for a in parts),
                                  strict=True)))  # fmt: skip


@pytest.mark.parametrize("far", [0.0, 1e6])
def test_cross_products_and_scale_are_those_of_all_rows(far):
    """Even a million standard deviations from zero, where uncentred products have lost their digits."""
    frame = pooled(far=far)
    own = working_input(check_together(releases(frame)))
    assert distance(frame, own) < 1e-8
    theirs = by_rows(frame.dropna(subset=["y", "z"], how="all")).grouping.only.working.scale
    for name in ("s", "u"):
        np.testing.assert_allclose(getattr(own.scale, name), getattr(theirs, name), rtol=1e-8, err_msg=name)
    np.testing.assert_allclose(own.scale.T, theirs.T, rtol=1e-6, atol=1e-7 * np.abs(theirs.T).max())
    zero = working_input(check_together(releases(frame, centre=np.zeros(5))))
    assert (distance(frame, zero) > 1e-8) == (far > 0)
    # wrong: the centres of sites are not taken into account; a site is left out
    moved = [replace(each, centre=releases(frame)[0].centre) for each in releases(frame)]
    assert distance(frame, working_input(check_together(moved))) > 1e-3
    assert distance(frame, working_input(check_together(releases(frame)[:3]))) > 1e-3


def test_a_formula_without_intercept_is_not_centred():
    agreed = fed.Agreement("y + z ~ 0 + x + w + (0 + x | g)")
    frame = pooled().assign(w=lambda f: np.cos(f.y.fillna(1.0)) + 2)
    own = working_input(check_together(releases(frame, agreed)))
    model = bi.JointNormal(bi.IncompleteData(frame, "g"), agreed.formula)
    Y, scale = np.column_stack([model.data.numeric(name) for name in "yz"]), own.scale
    X_w, Z_w = model.design.X @ scale.T, model.design.Z @ scale.C / scale.u
    st = with_responses(collect(X_w, Z_w, Y / scale.s - X_w @ scale.offset, model.data.codes, 16))
    np.testing.assert_allclose(own.statistics.gram, st.gram, rtol=1e-7, atol=1e-7)


# the posterior ------------------------------------------------------------------------------------


def test_sites_and_one_site_give_the_same_bits(frame):
    """The same cells are summed in the same order about the same centre: draws do not depend on how rows are divided."""
    zero = np.zeros(5)
    together = fed.export_site(frame.drop(columns="site"), AGREED, "all", centre=zero)
    apart = releases(frame, centre=zero)
    options = OPTIONS | {"draws": 20}
    one, four, other = (fed.combine(a, **options) for a in ([together], apart, apart[::-1]))
    for name in ("beta", "Sigma", "Psi"):
        np.testing.assert_array_equal(getattr(four.draws, name), getattr(one.draws, name))
        np.testing.assert_array_equal(getattr(other.draws, name), getattr(one.draws, name))
    assert not np.array_equal(fed.combine(apart, **(options | {"seed": 4})).draws.beta, one.draws.beta)


def gap(a, b):
    """Smallest p-value of equal posterior means, times their number; a, b: summaries of parameters."""
    z = (a["mean"] - b["mean"]) / np.hypot(a["mcse_mean"], b["mcse_mean"])
    return bonferroni(2 * norm.sf(np.abs(z)))


def test_the_posterior_is_that_of_all_rows(frame, run):
    """In Monte Carlo errors of both runs, 21 means, level 1e-4. Wrong: a site is left out; a release counts twice."""
    mine = run.summary().parameters
    theirs = diagnose(by_rows(frame).impute(**(OPTIONS | {"seed": 8})).tree["posterior"].to_dataset())
    assert list(mine.index) == list(theirs.index)
    assert gap(mine, theirs) > 1e-4
    apart = releases(frame)
    less = fed.combine(apart[1:], **OPTIONS).summary().parameters
    twice = fed.combine([*apart, replace(apart[0], site="A again")], **OPTIONS).summary().parameters
    assert gap(less, theirs) < 1e-6 and gap(twice, theirs) < 1e-6
    assert run.summary().worst_r_hat < 1.05


def test_imputation_k_has_the_draw_that_joint_normal_would_take(run):
    shared, d = run.parameters, run.draws
    assert shared.m == 4 and run.spacing == 200
    for k in range(4):
        np.testing.assert_array_equal(shared.beta[k], d.beta[k % 2, (k // 2 + 1) * 200 - 1])
        np.testing.assert_array_equal(shared.Psi[k], d.Psi[k % 2, (k // 2 + 1) * 200 - 1])


# rows at the sites --------------------------------------------------------------------------------


def few_rows(frame, site="B"):
    """Five rows of each cluster of a site, and one that has no response observed."""
    own = parts(frame)[site].groupby("g").head(5).reset_index(drop=True)
    own.loc[3, ["y", "z"]] = np.nan
    return own


def law(run, own, monkeypatch, site="B"):
    """Mean and covariance of the missing cells at the first draw, y then z: values are affine in their normals."""
    count = 60
    again = {
        name: np.repeat(getattr(run.parameters, name)[:1], count, axis=0) for name in ("beta", "Sigma", "Psi")
    }
    monkeypatch.setattr(complete, "site_rng", lambda seed, site, k: Normals(None if k == 0 else k - 1))
    done = fed.complete_site(replace(run.parameters, **again), own, site)
    values = np.hstack([done.values(name) for name in ("y", "z")])
    slopes = values[1:] - values[0]
    assert not slopes[-1].any(), "more normals than unit vectors"
    return values[0], slopes.T @ slopes


def dense(run, own, psi=1.0, observed=True):
    """The same by one normal of all cells; psi, observed: made wrong."""
    beta, Sigma, Psi = (getattr(run.parameters, name)[0] for name in ("beta", "Sigma", "Psi"))
    n = len(own)
    X = np.column_stack([np.ones(n), own["x"], own["arm"] == "low", own["arm"] == "high"]).astype(float)
    Z, same = X[:, :2], own["g"].to_numpy()[:, None] == own["g"].to_numpy()
    V = np.kron(Sigma, np.eye(n))
    for j in range(2):
        for k in range(2):
            block = Z @ Psi[2 * j : 2 * j + 2, 2 * k : 2 * k + 2] @ Z.T * same
            V[j * n : (j + 1) * n, k * n : (k + 1) * n] += psi * block
    mu, y = (X @ beta).T.ravel(), own[["y", "z"]].to_numpy(float).T.ravel()
    M, O = np.isnan(y), ~np.isnan(y)
    K = np.linalg.solve(V[np.ix_(O, O)], V[np.ix_(O, M)]) * observed
    return mu[M] + (y - mu)[O] @ K, V[np.ix_(M, M)] - V[np.ix_(M, O)] @ K


@pytest.mark.parametrize("lacking", [False, True])
def test_completed_rows_have_the_dense_normal_law(frame, run, lacking, monkeypatch):
    """lacking: a site whose table has no column z."""
    own = few_rows(frame)
    own = own.assign(z=np.nan) if lacking else own
    mean, covariance = law(run, own.drop(columns="z") if lacking else own, monkeypatch)
    expected = dense(run, own)
    np.testing.assert_allclose(mean, expected[0], rtol=1e-8)
    np.testing.assert_allclose(covariance, expected[1], rtol=1e-7, atol=1e-9)
    for wrong in (dense(run, own, psi=0.0), dense(run, own, observed=False)):
        assert np.abs(mean - wrong[0]).max() > 0.01 and np.abs(covariance - wrong[1]).max() > 0.01


def test_completed_tables_keep_what_is_observed_and_follow_their_draws(frame, run):
    own = parts(frame)["D"].drop(columns="z").sample(frac=1, random_state=1)  # rows in another order
    done, again = (fed.complete_site(run.parameters, own, "D") for _ in range(2))
    other = fed.complete_site(run.parameters, parts(frame)["C"], "C")
    assert done.m == 4 and done.data.absent == ("z",) and list(done.frame(0)["g"]) == list(own["g"])
    for k in range(4):
        table = done.frame(k)
        assert table.notna().all(axis=None) and (table["y"] == own["y"])[own["y"].notna()].all()
        np.testing.assert_array_equal(table["z"], again.frame(k)["z"])
    assert not np.array_equal(done.values("z")[0], done.values("z")[1])
    assert not np.array_equal(done.values("y")[0][:20], other.values("y")[0][:20])
    assert done.analyse("y ~ x + (1 | g)").pool().to_frame()["estimate"].notna().all()
    for call in (done.summary, lambda: done.save("x.nc")):
        with pytest.raises(SpecificationError, match=r"chains|no run"):
            call()
    with pytest.raises(SpecificationError, match="No release of site 'E' was combined"):
        fed.complete_site(run.parameters, own, "E")


def test_sites_have_random_numbers_of_their_own(frame, run):
    """The same rows at another site: other values, although parameters and rows are the same."""
    own = parts(frame)["C"]
    here, there = (fed.complete_site(run.parameters, own, site) for site in "CD")
    for name in here.imputed_columns:
        assert (
            here.values(name).shape == there.values(name).shape
            and (here.values(name) != there.values(name)).all()
        )


def test_a_site_gets_the_events_of_the_shared_parameters(frame, run):
    told = Event("interrupted", "sampler", "stopped by the user")
    done = fed.complete_site(replace(run.parameters, events=(told,)), parts(frame)["C"], "C")
    assert told in done.log


def test_a_site_gets_events_about_its_imputed_values(frame, run, monkeypatch):
    def told(made):
        return (Event("far outside", "z", f"{made.m} imputations"),)

    monkeypatch.setattr("bayesimp.federated.complete.imputed_events", told)
    done = fed.complete_site(run.parameters, parts(frame)["C"], "C")
    assert told(done)[0] in done.log


def test_a_site_may_be_one_study_that_lacks_a_level():
    frame = pooled(clusters=4)
    frame.loc[(frame.g == 1) & (frame.arm == "high"), "arm"] = "low"
    release = releases(frame)[1]
    assert release.clusters == 1 and "arm[high]" in release.covariates
    run = fed.combine(releases(frame), **(OPTIONS | {"draws": 20}))
    done = fed.complete_site(run.parameters, parts(frame)["B"], "B")
    assert done.frame(0).notna().all(axis=None)
    kinds = {(event.kind, event.where) for event in run.log}
    assert ("prior matters", "Psi[z]") in kinds and {"site D"} >= {w for k, w in kinds if k == "absent"}


# what does not belong together --------------------------------------------------------------------


def test_releases_that_do_not_belong_together_are_refused_by_name(frame):
    a, b, *_ = releases(frame)
    for agreed, words in [
        (fed.Agreement(FORMULA, {"arm": ("low", "control", "high")}), "levels"),
        (fed.Agreement(FORMULA, LEVELS, "pan"), "priors"),
        (fed.Agreement(FORMULA, LEVELS, plan="0" * 64), "SHA-256 of the plan"),
        (fed.Agreement("z + y ~ x + arm + (1 + x | g)", LEVELS), "formula"),
    ]:
        with pytest.raises(
            SpecificationError, match=f"site 'B' was made under a different agreement .*'A': {words}"
        ):
            fed.combine([a, replace(b, agreement=agreed)], m=2, seed=1)
    with pytest.raises(SpecificationError, match="Two releases have the site name 'A'"):
        fed.combine([a, a], m=2, seed=1)
    with pytest.raises(SpecificationError, match="got none"):
        fed.combine([], m=2, seed=1)
    with pytest.raises(DataError, match="'z' has 0 observed values in all tables together"):
        fed.combine(
            [fed.export_site(part.drop(columns="z"), AGREED, name) for name, part in parts(frame).items()]
        )
    only = [fed.export_site(part.assign(z=part["z"].where(part["g"] == 0)), AGREED, name)
            for name, part in parts(frame).items()]  # fmt: skip
    with pytest.raises(DataError, match=r"'z' is .* only 1 of 16 clusters"):
        fed.combine(only)
    lkj = fed.Agreement(FORMULA, LEVELS, bi.priors.Priors(Psi=bi.priors.LKJ(2.0)))
    with pytest.raises(SpecificationError, match="not conditionally conjugate"):
        fed.combine(releases(frame, lkj), m=2, seed=1)


@pytest.mark.parametrize(
    ("formula", "levels", "words"),
    [
        ("y ~ scale(x) + (1 | g)", {}, "depend on all rows"),
        ("y ~ x + cluster_mean(x) + (1 | g)", {}, "learn about those rows"),
        ("y ~ x + cluster_size() + (1 | g)", {}, "learn about those rows"),
        ("y ~ x", {}, "one grouping column"),
        ("y ~ x + (1 | g) + (1 | h)", {}, "one grouping column"),
        ("y ~ x + (1 | g)", {"arm": ("a", "b")}, "'arm' is not a covariate"),
        ("y ~ arm + (1 | g)", {"arm": ("a",)}, "two different levels"),
        (3, {}, "must be text"),
    ],
)
def test_agreements_that_cannot_be_kept_are_refused(formula, levels, words):
    with pytest.raises(SpecificationError, match=words):
        fed.Agreement(formula, levels)


def test_tables_that_do_not_keep_the_agreement_are_refused(frame):
    own = parts(frame)["A"]
    with pytest.raises(SpecificationError, match=r"'arm' is a factor.*levels=\{\"arm\""):
        fed.export_site(own, fed.Agreement(FORMULA), "A")
    with pytest.raises(DataError, match="levels outside the agreement, 'huge', in 1 of 800 rows"):
        fed.export_site(own.assign(arm=["huge", *own["arm"][1:]]), AGREED, "A")
    with pytest.raises(DataError, match="Covariate 'x' is missing in 1 of 800 rows"):
        fed.export_site(own.assign(x=[np.nan, *own["x"][1:]]), AGREED, "A")
    with pytest.raises(SpecificationError, match="Covariate 'x' is not a column"):
        fed.export_site(own.drop(columns="x"), AGREED, "A")
    with pytest.raises(SpecificationError, match="site must be the name"):
        fed.export_site(own, AGREED, "")
    assert SITES[0] in repr(fed.export_site(own, AGREED, "A"))


def test_what_is_released_is_the_cross_products_of_what_is_kept(monkeypatch):
    """With small cells: JointNormal on the table without the withheld values has the same statistics."""
    frame, kept = pooled(rows=60), {}
    right = export.withhold

    def watched(observed, codes, *rest):
        kept[len(kept)] = made = right(observed, codes, *rest)
        return made

    monkeypatch.setattr(export, "withhold", watched)
    all_releases = releases(frame)
    masked = frame.copy()
    for k, site in enumerate(SITES):
        rows = np.flatnonzero(frame["site"] == site)
        for j, name in enumerate(("y", "z")):
            masked.loc[rows[~kept[k].observed[:, j]], name] = np.nan
    assert masked["y"].notna().sum() < frame["y"].notna().sum()
    assert sum(release.counts["dropped"] + sum(release.masked.values()) for release in all_releases) > 20
    own = working_input(check_together(all_releases))
    assert distance(masked, own) < 1e-8 and not distance(frame, own) < 1e-3
