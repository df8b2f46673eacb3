"""Analyses with several grouping factors, against lme4, dense normal densities and invariances."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import bayesimp as bi
from bayesimp.analysis.groups import CROSSED
from bayesimp.errors import DataError, SpecificationError, StatisticalWarning
from tests.unfolding import unfolded

REFERENCE = Path(__file__).parents[1] / "reference" / "crossed"
CASES = json.loads((REFERENCE / "crossed_fits.json").read_text())["fits"]


def reference(name: str) -> pd.DataFrame:
    return pd.read_csv(REFERENCE / f"{name}.csv")


def fitted(frame: pd.DataFrame, formula: str, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", StatisticalWarning)
        return bi.fit_each([frame], formula, **options)


def by_name(case: dict) -> dict[str, float]:
    """lme4's components by our names; lme4's class:school for (1 | school/class) is school:class here."""
    out = {}
    for group, one, two, value in zip(case["group"], case["one"], case["two"], case["sdcor"], strict=True):
        group = {"class:school": "school:class"}.get(group, group.split(".")[0])
        names = ["Intercept" if name == "(Intercept)" else name for name in (one, two) if name]
        kind = "sd" if two is None else "cor"
        out["sd(residual)" if group == "Residual" else f"{kind}({', '.join(names)} | {group})"] = value
    return out


@pytest.mark.parametrize("case", CASES, ids=lambda c: f"{c['formula']} {'REML' if c['reml'] else 'ML'}")
def test_against_lme4(case):
    fits = fitted(reference(case["data"]), case["formula"], reml=case["reml"])
    assert fits.converged.all() and bool(fits.singular[0]) == case["singular"]
    # at least as good as lme4's best, and equal where lme4 has converged
    assert -2 * fits.loglik[0] <= case["criterion"] + 1e-6
    assert -2 * fits.loglik[0] == pytest.approx(case["criterion"], abs=1e-4)
    np.testing.assert_allclose(fits.estimates[0], case["beta"], atol=1e-4)
    np.testing.assert_allclose(fits.covariances[0], case["cov"], rtol=1e-4, atol=1e-6)
    assert fits.df_complete == case["df"]
    theirs = by_name(case)
    for name, value in zip(fits.component_names, fits.components[0], strict=True):
        own = np.tanh(value) if name.startswith("cor(") else np.exp(value)
        # a correlation may have its columns in our order or in lme4's
        a, _, rest = name.partition("(")
        columns, _, group = rest.rstrip(")").partition(" | ")
        turned = f"{a}({', '.join(reversed(columns.split(', ')))} | {group})"
        assert own == pytest.approx(theirs.get(name, theirs.get(turned)), abs=2e-4), name


def dense_criterion(frame, X, terms, sds, sigma, reml):
    """-2 (restricted) log-likelihood for independent effects with these sds; terms: (column of Z, group)."""
    y, V = frame.y.to_numpy(), sigma**2 * np.eye(len(frame))
    for (z, g), sd in zip(terms, sds, strict=True):
        V += sd**2 * np.where(np.equal.outer(g, g), np.outer(z, z), 0.0)
    inverse = np.linalg.inv(V)
    A = X.T @ inverse @ X
    r = y - X @ np.linalg.solve(A, X.T @ inverse @ y)
    n = len(y) - reml * X.shape[1]
    return n * np.log(2 * np.pi) + np.linalg.slogdet(V)[1] + r @ inverse @ r + reml * np.linalg.slogdet(A)[1]


@pytest.mark.parametrize("reml", [True, False])
def test_the_criterion_is_that_of_the_dense_normal_and_no_neighbour_is_better(reml):
    frame = reference("moves")
    fits = fitted(frame, "y ~ x + (1 | pupil) + (1 | school) + (0 + x | year)", reml=reml)
    X, one = np.column_stack([np.ones(len(frame)), frame.x]), np.ones(len(frame))
    terms = [(one, frame.pupil.to_numpy()), (one, frame.school.to_numpy()), (X[:, 1], frame.year.to_numpy())]
    *sds, sigma = np.exp(fits.components[0])
    best = dense_criterion(frame, X, terms, sds, sigma, reml)
    assert -2 * fits.loglik[0] == pytest.approx(best, abs=1e-7)
    for j in range(4):
        for factor in (0.98, 1.02):
            moved = [*sds, sigma]
            moved[j] *= factor
            assert dense_criterion(frame, X, terms, moved[:3], moved[3], reml) > best


def test_covariance_of_components_is_the_inverse_information():
    frame = reference("moves")
    fits = fitted(frame, "y ~ x + (1 | pupil) + (1 | school)")
    X, one = np.column_stack([np.ones(len(frame)), frame.x]), np.ones(len(frame))
    terms = [(one, frame.pupil.to_numpy()), (one, frame.school.to_numpy())]

    def value(phi):
        return 0.5 * dense_criterion(frame, X, terms, np.exp(phi[:2]), np.exp(phi[2]), True)

    phi, h, I = fits.components[0], 2e-3, np.eye(3)
    hessian = np.array(
        [
            [sum(s * t * value(phi + h * (s * a + t * b)) for s in (1, -1) for t in (1, -1)) for b in I]
            for a in I
        ]
    ) / (4 * h * h)
    np.testing.assert_allclose(fits.components_cov[0], np.linalg.inv(hessian), rtol=1e-3, atol=1e-6)


def same(one, other, names=True):
    order = [other.component_names.index(name) for name in one.component_names] if names else slice(None)
    np.testing.assert_allclose(one.loglik, other.loglik, atol=1e-8)
    np.testing.assert_allclose(one.estimates, other.estimates, atol=2e-6)
    np.testing.assert_allclose(one.covariances, other.covariances, rtol=1e-5, atol=1e-9)
    np.testing.assert_allclose(one.components, other.components[:, order], atol=2e-5)


FORMULA = "y ~ x + t + (1 + x | subject) + (1 | item)"


def test_order_of_rows_and_of_terms_and_labels_change_nothing():
    frame = reference("crossed")
    fits = fitted(frame, FORMULA)
    same(fits, fitted(frame.sample(frac=1, random_state=1), FORMULA))
    same(fits, fitted(frame, "y ~ x + t + (1 | item) + (1 + x | subject)"))
    names = {k: f"item {(7 * k) % 16}" for k in frame.item.unique()}
    same(fits, fitted(frame.assign(item=frame.item.map(names).astype("category")), FORMULA))


def test_units_and_origins():
    frame = reference("crossed")
    fits = fitted(frame, FORMULA, reml=False)
    moved = fitted(frame.assign(x=frame.x + 100), FORMULA, reml=False)
    assert moved.loglik == pytest.approx(fits.loglik, abs=1e-6)
    np.testing.assert_allclose(moved.estimates[0, 1:], fits.estimates[0, 1:], atol=1e-5)
    scaled = fitted(frame.assign(y=1e4 * frame.y), FORMULA, reml=False)
    np.testing.assert_allclose(scaled.estimates, 1e4 * fits.estimates, rtol=1e-5, atol=1e-2)
    assert scaled.loglik == pytest.approx(fits.loglik - len(frame) * np.log(1e4), abs=1e-6)


def test_nesting_is_written_in_any_way():
    frame = reference("nested").assign(own=lambda d: d.school.astype(str) + "/" + d["class"].astype(str))
    fits = fitted(frame, "y ~ x + (1 | school/class)")
    assert fits.component_names == ("sd(Intercept | school)", "sd(Intercept | school:class)", "sd(residual)")
    same(fits, fitted(frame, "y ~ x + (1 | school) + (1 | school:class)"))
    same(fits, fitted(frame, "y ~ x + (1 | school) + (1 | own)"), names=False)
    same(fits, fitted(frame, "y ~ x + (1 | school/own)"), names=False)
    # ids that start again in each school, read as crossed: another model
    wrong = fitted(frame, "y ~ x + (1 | school) + (1 | class)")
    assert abs(wrong.loglik[0] - fits.loglik[0]) > 1


def test_terms_on_the_same_factor_are_independent_effects():
    frame = reference("crossed")
    one = fitted(frame, "y ~ x + (1 + x || subject) + (1 | item)")
    two = fitted(frame, "y ~ x + (1 | subject) + (0 + x | subject) + (1 | item)")
    same(one, two)
    assert (fitted(frame, "y ~ x + (x | subject) + (x | item)").loglik > one.loglik).all()


def test_weights_and_offset():
    """A row of weight 2 is the mean of two rows: it gives the estimates of both, and sigma^2 of a single row."""
    frame = reference("nested")
    formula = "y ~ x + (1 | school/class)"
    heavy = frame.assign(w=4.0)
    fits, weighted = fitted(frame, formula), fitted(heavy, formula, weights="w")
    np.testing.assert_allclose(weighted.estimates, fits.estimates, atol=1e-5)
    shift = np.array([0, 0, np.log(2)])
    np.testing.assert_allclose(weighted.components[0] - shift, fits.components[0], atol=1e-5)
    assert weighted.loglik == pytest.approx(fits.loglik, abs=1e-6)
    known = fitted(frame.assign(o=2 * frame.x), formula, offset="o")
    np.testing.assert_allclose(known.estimates[0], fits.estimates[0] - [0, 2], atol=1e-5)


def imputed(m=5, seed=3):
    """Completed tables of `nested` in which x of some rows differs."""
    rng, base = np.random.default_rng(seed), reference("nested")
    gone = rng.random(len(base)) < 0.3
    return [base.assign(x=np.where(gone, rng.normal(size=len(base)), base.x)) for _ in range(m)]


def test_tables_of_a_stack_are_fitted_as_alone(monkeypatch):
    from bayesimp.analysis import linear

    frames, formula = imputed(), "y ~ x + (1 + x | school) + (1 | school:class)"
    fits = bi.fit_each(frames, formula)
    for k, frame in enumerate(frames):
        alone = fitted(frame, formula)
        np.testing.assert_allclose(fits.loglik[k], alone.loglik[0], atol=1e-8)
        np.testing.assert_allclose(fits.estimates[k], alone.estimates[0], atol=2e-5)
    monkeypatch.setattr(linear, "STACK", 2 * len(frames[0]))
    same(fits, bi.fit_each(frames, formula))
    # the rows of each table are in another order, so the structure of the previous table does not apply
    shuffled = [frame.sample(frac=1, random_state=k) for k, frame in enumerate(frames)]
    same(fits, bi.fit_each(shuffled, formula))


def test_pooled_coefficients_and_components():
    fits = bi.fit_each(imputed(), "y ~ x + (1 | school/class)")
    pooled = fits.pool()
    within, between = fits.covariances[:, 1, 1].mean(), fits.estimates[:, 1].var(ddof=1)
    assert pooled.t[1] == pytest.approx(within + 1.2 * between)
    components = fits.pool_components().to_frame().set_index("term")
    np.testing.assert_allclose(components["estimate"], fits.components.mean(axis=0))
    assert np.isfinite(components[["conf.low", "conf.high"]]).all(axis=None)
    assert components.index.tolist() == list(fits.component_names)


def test_likelihood_ratio_tests_by_the_likelihood_at_the_same_parameters():
    """D3 needs log-likelihoods at given parameters, which are compared with the dense normal."""
    frames = imputed(m=3)
    fits = bi.fit_each(frames, "y ~ x + (1 | school/class)", reml=False)
    values = fits.likelihood("average")
    beta = fits.estimates.mean(axis=0)
    variances = np.exp(2 * fits.components).mean(axis=0)
    for frame, value in zip(frames, values, strict=True):
        school, cell = frame.school.to_numpy(), (frame.school * 100 + frame["class"]).to_numpy()
        V = variances[2] * np.eye(len(frame))
        for v, g in zip(variances[:2], (school, cell), strict=True):
            V += v * np.equal.outer(g, g)
        r = frame.y - beta[0] - beta[1] * frame.x
        dense = -0.5 * (len(r) * np.log(2 * np.pi) + np.linalg.slogdet(V)[1] + r @ np.linalg.solve(V, r))
        assert value == pytest.approx(dense, abs=1e-7)


def test_printing():
    fits = bi.fit_each(imputed(), "y ~ x + (1 | school/class)")
    text = unfolded(repr(fits))
    assert "'school' 24 levels of" in text and "'school:class' " in text and "nested in 'school'" in text
    assert fits.events.empty
    assert "sd(Intercept | school:class)" in unfolded(
        repr(fitted(imputed()[0], "y ~ x + (1 | school/class)"))
    )


def test_ids_that_start_again_are_named_in_events():
    fits = bi.fit_each(imputed(), "y ~ x + (1 | school) + (1 | class)")
    (event,) = fits.events.to_dict("records")
    assert event["kind"] == CROSSED and event["where"] == "class"
    assert "(1 | school/class)" in event["message"]
    assert "nested" not in repr(fits)
    assert bi.fit_each(imputed(), "y ~ x + (1 | school/class)").events.empty


REFUSED = [
    ("y ~ x + (1 | school) + (1 | row)", "level of 'row' has one row, so .* equal residuals.*Remove \\(1 \\| row\\)"),
    ("y ~ x + (1 | school/one)", "identically.*Remove \\(1 \\| school\\) or \\(1 \\| school:one\\)"),
    ("y ~ x + (1 | school) + (1 | copy)", "group the rows identically.*Remove"),
    ("y ~ x + (1 | school) + (1 | school)", "two equivalent terms"),
    ("y ~ x + C(school) + (1 | school/class)", "absorb the random effects of 'Intercept' by 'school'"),
    ("y ~ x + (1 | school:row)", "every level of 'school:row' has one row"),
    ("y ~ x + (1 + z | school) + (1 | class)", "column 'z' is constant"),
]  # fmt: skip


@pytest.mark.parametrize("formula, message", REFUSED)
def test_what_rows_cannot_tell_apart_is_refused_by_name(formula, message):
    frame = reference("nested").assign(row=range(len(reference("nested"))), one="A", z=1.0)
    frame["copy"] = frame.school.map(lambda k: f"school {k}")
    with pytest.raises((SpecificationError, DataError), match=message):
        bi.fit_each([frame] * 2, formula)


def test_missing_groups_are_refused_by_name_and_number():
    frame = reference("nested")
    frame["class"] = frame["class"].astype(float).where(np.arange(len(frame)) >= 7)
    with pytest.raises(
        DataError, match=r"grouping column 'class' is missing in 7 rows of a completed table.*Give each"
    ):
        bi.fit_each([frame] * 3, "y ~ x + (1 | school/class)")
    with pytest.raises(DataError, match="'class' is missing in 7 rows"):
        bi.fit_each([frame], "y ~ x + (1 | class)")


def test_options_of_one_factor_are_refused_for_other_families():
    frame = reference("nested").assign(high=lambda d: (d.y > 1) * 1)
    pytest.importorskip("glmm")
    fits = bi.fit_each([frame], "high ~ x + (1 | school) + (1 | class)", family="bernoulli")
    assert [g.group for g in fits.groupings] == ["school", "class"] and fits.events.kind.tolist() == [CROSSED]
    with pytest.raises(DataError, match="'class' is missing in 5 rows"):
        gone = frame.assign(**{"class": frame["class"].where(np.arange(len(frame)) >= 5)})
        bi.fit_each([gone], "high ~ x + (1 | school/class)", family="bernoulli")
    for option in ({"quadrature": 5}, {"weights": "x"}, {"link": "probit"}):
        with pytest.raises(SpecificationError, match="at most one grouping factor"):
            bi.fit_each([frame], "high ~ x + (1 | school/class)", family="bernoulli", **option)


def misread(codes, levels):
    """Levels of a term in the order of another table's rows."""
    return codes[::-1].copy(), levels


@pytest.mark.parametrize(
    "wrong", ["codes of another row", "structure of the table before", "nested as crossed", "Psi transposed"]
)
def test_wrong_wiring_is_noticed(wrong, monkeypatch):
    """The checks above fail if the way from a formula to the kernel or back is wrong."""
    from bayesimp.analysis import linear
    from bayesimp.kernels.crossed.structure import EffectPattern

    right = linear.term_codes
    if wrong == "codes of another row":
        monkeypatch.setattr(
            linear, "term_codes", lambda *a: misread(*right(*a)) if len(a[1].names) > 1 else right(*a)
        )
    elif wrong == "structure of the table before":
        monkeypatch.setattr(EffectPattern, "same", lambda self, codes: True)
    elif wrong == "nested as crossed":
        from dataclasses import replace

        def last_column(frame, term, starts):
            return right(frame, replace(term, group=term.names[-1]), starts)

        monkeypatch.setattr(linear, "term_codes", last_column)
    else:
        several = linear.fit_crossed_models

        def swapped(y, X, terms, starts, **options):
            return several(y, X, terms[::-1], starts, reml=options["reml"], labels=options["labels"][::-1])

        monkeypatch.setattr(linear, "fit_crossed_models", swapped)
    with pytest.raises(AssertionError):
        if wrong == "structure of the table before":
            formula = "y ~ x + (1 | school/class)"
            frames = [frame.sample(frac=1, random_state=k) for k, frame in enumerate(imputed(m=2))]
            same(bi.fit_each(frames, formula), bi.fit_each([frame.sort_index() for frame in frames], formula))
        else:
            test_against_lme4(CASES[0])


SCHOOLS, CLASSES, PUPILS, REPLICATES = 12, 3, 5, 400


def drawn_given_variances(rng, y, X, V, gone, m):
    """(m, n) responses completed from their exact distribution given V, with a flat prior of the coefficients."""
    there = ~gone
    inverse = np.linalg.inv(V[np.ix_(there, there)])
    cov = np.linalg.inv(X[there].T @ inverse @ X[there])
    beta = rng.multivariate_normal(cov @ X[there].T @ inverse @ y[there], cov, m)
    gain = V[np.ix_(gone, there)] @ inverse
    left = V[np.ix_(gone, gone)] - gain @ V[np.ix_(there, gone)]
    out = np.tile(y, (m, 1))
    noise = rng.normal(size=(m, gone.sum())) @ np.linalg.cholesky(left).T
    out[:, gone] = beta @ X[gone].T + (y[there] - beta @ X[there].T) @ gain.T + noise
    return out


def covered(formula):
    """How many of 400 pooled 95 % intervals contain the truth: intercept, row-level x, class-level z."""
    rng = np.random.default_rng(2)
    school = np.repeat(np.arange(SCHOOLS), CLASSES * PUPILS)
    room = np.repeat(np.arange(SCHOOLS * CLASSES), PUPILS)
    n, truth, count = len(room), np.array([1.0, 0.5, 0.3]), np.zeros(3)
    V = np.eye(n) + 0.36 * np.equal.outer(school, school) + 0.49 * np.equal.outer(room, room)
    root = np.linalg.cholesky(V)
    for _ in range(REPLICATES):
        x, z = rng.normal(size=n), rng.normal(size=SCHOOLS * CLASSES)[room]
        X = np.column_stack([np.ones(n), x, z])
        y = X @ truth + root @ rng.normal(size=n)
        gone = rng.random(n) < np.where(x > 0, 0.4, 0.2)
        frame = pd.DataFrame({"x": x, "z": z, "school": school, "room": room % CLASSES})
        frames = [frame.assign(y=each) for each in drawn_given_variances(rng, y, X, V, gone, 5)]
        interval = bi.fit_each(frames, formula).pool("satterthwaite").interval()
        count += (interval[:, 0] < truth) & (truth < interval[:, 1])
    return count


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::bayesimp.errors.StatisticalWarning")
def test_pooled_intervals_cover():
    """95 % within four binomial standard errors (three coefficients: a false alarm in 5,000 runs).

    Without the classes, the interval of what varies between them does not cover."""
    error = np.sqrt(0.95 * 0.05 / REPLICATES)
    right = covered("y ~ x + z + (1 | school/room)") / REPLICATES
    assert (np.abs(right - 0.95) < 4 * error).all(), right
    wrong = covered("y ~ x + z + (1 | school)") / REPLICATES
    assert wrong[2] < 0.95 - 4 * error, wrong


@pytest.mark.parametrize(
    "text", ["(x | a) + (x | b)", "(1 | `a school`/class)", "(0 + x || a:b) + (1 | c)", "(1 + x:z | a/b/c)"]
)
def test_random_terms_survive_a_round_trip(text):
    from bayesimp.formulas.formula import parse

    formula = parse(f"y ~ x + {text}")
    written = [f"({t.columns} {'|' if t.correlated else '||'} {t.group})" for t in formula.random]
    assert parse(f"y ~ {formula.fixed} + {' + '.join(written)}").random == formula.random


def test_imputations_without_the_second_factor_are_named():
    frame = reference("nested")
    frame.loc[np.random.default_rng(1).random(len(frame)) < 0.2, "x"] = np.nan
    model = bi.JointNormal(bi.IncompleteData(frame, cluster="school"), "x + y ~ 1 + (1 | school)")
    imp = model.impute(m=2, seed=1, draws=50, chains=2, progress=False)
    with pytest.warns(StatisticalWarning, match="the model of 'x' has no effects of school:class"):
        fits = imp.analyse("y ~ x + (1 | school/class)")
    assert fits.events.kind.tolist() == ["not congenial"]
    assert (
        "Impute with bi.JointGLMM(bi.IncompleteData(data.frame, ['school', 'class'])"
        in fits.events.message[0]
    )
