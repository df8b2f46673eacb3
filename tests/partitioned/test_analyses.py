"""Analyses of a table in partitions: on counts they are those of the rows; others read the columns they need."""

import numpy as np
import pandas as pd
import pytest

import bayesimp as bi
from bayesimp.analysis import question
from bayesimp.errors import DataError, SpecificationError, StatisticalWarning
from bayesimp.partitioned.analyses import CountedTables
from bayesimp.report.checklist import ITEMS
from tests.federated.tables import FORMULA, pooled
from tests.partitioned.test_partitioned_fcs import FAMILIES, VARIABLES, simulated, written
from tests.report.reading import Reader

ROWS = 350
ILL = "ill ~ smokes + age + visits + (1 | g)"


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    folder = written(simulated(ROWS), tmp_path_factory.mktemp("counts") / "table")
    data = bi.IncompleteData.from_parquet(folder, cluster="g")
    model = bi.PartitionedFCS(data, VARIABLES, families=FAMILIES)
    return model.impute(m=2, cycles=1, seed=1, progress=False)


@pytest.fixture(scope="module")
def rows(done):
    """The completed tables, row by row."""
    return [pd.concat(done.frames(k)).astype({"smokes": bool}) for k in range(done.m)]


def test_counts_are_those_of_the_completed_rows(done, rows):
    for k, table in enumerate(rows):
        counted = CountedTables(done).frame(k)
        names = ["g", *VARIABLES]
        ours = counted.groupby(names)["number of rows"].sum()
        pd.testing.assert_series_equal(ours, table.groupby(names).size(), check_names=False)


@pytest.mark.parametrize(
    "formula, family", [(ILL, "bernoulli"), ("visits ~ smokes + sex + (1 | g)", "poisson")]
)
def test_fits_are_those_of_the_rows(done, rows, formula, family, monkeypatch):
    """To rounding. Each kind of row counted once is another model."""
    monkeypatch.setattr(type(done), "batches", None)  # no row is read
    ours, theirs = done.analyse(formula, family=family), bi.fit_each(rows, formula, family=family)
    np.testing.assert_allclose(ours.estimates, theirs.estimates, rtol=1e-8)
    np.testing.assert_allclose(ours.covariances, theirs.covariances, rtol=1e-7, atol=1e-12)
    np.testing.assert_allclose(ours.loglik, theirs.loglik, rtol=1e-10)
    monkeypatch.setattr(CountedTables, "frame", _once(CountedTables.frame))
    assert np.abs(done.analyse(formula, family=family).estimates / theirs.estimates - 1).max() > 0.01


def _once(frame):
    return lambda self, k: frame(self, k).assign(**{self.counts: 1})


ASKED = {
    "slopes": lambda f: f.marginal_effects("age"),
    "steps by group": lambda f: f.marginal_effects({"visits": (0, 2)}, by="age"),
    "average": lambda f: f.predictions(by=[]),
    "means": lambda f: f.marginal_means("smokes"),
    "proportional means": lambda f: f.marginal_means("smokes", weights="proportional"),
    "standardised means": lambda f: f.marginal_means("smokes", weights="observed"),
    "clusters": lambda f: f.predictions(
        pd.DataFrame({"smokes": [True], "age": [1], "visits": [2.0], "g": [4]}), random_effects="cluster"
    ),
}


@pytest.mark.parametrize("what", ASKED)
def test_averages_are_over_rows(done, rows, what, monkeypatch):
    """Wrong where averages are over distinct rows: all but those at given values."""
    ours, theirs = done.analyse(ILL, family="bernoulli"), bi.fit_each(rows, ILL, family="bernoulli")
    got, expected = ASKED[what](ours), ASKED[what](theirs)
    np.testing.assert_allclose(got.values, expected.values, rtol=1e-7)
    np.testing.assert_allclose(got.gradients, expected.gradients, rtol=1e-6, atol=1e-9)
    if what in ("slopes", "steps by group", "average", "standardised means"):
        monkeypatch.setattr(question.Question, "counts", lambda self, table: None)
        assert np.abs(ASKED[what](ours).values / expected.values - 1).max() > 1e-3


def test_analyses_are_compared_with_the_conditional_models(done):
    with pytest.warns(StatisticalWarning, match="random slope of smokes"):
        fits = done.analyse("ill ~ smokes + (1 + smokes | g)", family="bernoulli")
    assert len(fits.events)


def test_a_normal_analysis_reads_its_columns(done, rows):
    ours = done.analyse("visits ~ smokes + age + (1 | g)")
    np.testing.assert_allclose(ours.estimates, bi.fit_each(rows, "visits ~ smokes + age + (1 | g)").estimates)
    assert np.isfinite(ours.explained().values).all()


def test_analyses_of_normal_variables(tmp_path):
    frame = pooled(rows=30).drop(columns="site")
    frame.to_parquet(tmp_path / "one.parquet", index=False)
    made = bi.PartitionedNormal(bi.IncompleteData.from_parquet(tmp_path, "g"), FORMULA)
    run = made.impute(m=2, seed=3, draws=20, chains=2, tune=10, progress=False)
    formula = "y ~ z + (1 + z | g)"
    ours = run.analyse(formula, reml=False)
    theirs = bi.fit_each([pd.concat(run.frames(k)) for k in range(2)], formula, reml=False)
    np.testing.assert_allclose(ours.estimates, theirs.estimates)
    np.testing.assert_allclose(ours.marginal_effects("z").values, theirs.marginal_effects("z").values)


@pytest.mark.parametrize("call, says", [
    (lambda done: done.analyse(lambda table: ([0.0], [[1.0]])), "is a formula, whose columns are read"),
    (lambda done: done.analyse("ill ~ smoke", family="bernoulli"), "no column 'smoke'. Did you mean 'smokes'"),
    (lambda done: done.analyse(ILL, family="bernoulli").predictions(), "single rows have no predictions"),
    (lambda done: done.analyse(ILL, family="bernoulli").explained(), "Analyse an exported table"),
    (lambda done: bi.sensitivity(done.model, analysis=ILL), "one model for each prior"),
    (lambda done: bi.mnar(done.model, {"ill": [0, 1]}, analysis=ILL), "sample of whole clusters"),
])  # fmt: skip
def test_what_is_refused(done, call, says):
    with pytest.raises((SpecificationError, DataError), match=says):
        call(done)


# reports ------------------------------------------------------------------------------------------------------------


def test_reports_have_the_numbers_and_say_what_they_lack(done, rows, tmp_path):
    analyses = {"ill": {"analysis": ILL, "family": "bernoulli"}}
    path = done.report(
        tmp_path / "report.html", analysis=analyses, stated={"reasons": "lost charts"}, figures=False
    )
    report = Reader(path.read_text())
    table, frame = report.parts["missingness"].rows(), simulated(ROWS)
    for name in ("smokes", "ill", "visits"):
        lacks = frame[name].isna()
        by_ward = lacks.groupby(frame["g"]).mean()
        assert table[name]["missing"] == str(lacks.sum())
        assert table[name]["systematic"] == str((by_ward == 1).sum())
        assert table[name]["sporadic"] == str(((by_ward > 0) & (by_ward < 1)).sum())
    assert table["ill"]["systematic"] == "1"
    pooled_here = bi.fit_each(rows, ILL, family="bernoulli").pool().to_frame().set_index("term")
    shown = report.parts["result-1"].rows()
    assert float(shown["age"]["estimate"]) == pytest.approx(pooled_here.at["age", "estimate"], rel=1e-3)
    assert "lost charts" in report.parts["missingness"].text
    assert "rows of a table in partitions are not kept" in report.parts["result-1"].text
    assert "congenial with the conditional models" in report.parts["checked"].text
    assert "NOT checked" in report.parts["checked"].text
    assert (
        f"{int(frame[['smokes', 'ill', 'visits']].isna().sum().sum()):,} cells of {ROWS} rows"
        in report.parts["methods"].text
    )
    checklist = report.parts["checklist"].tables[0]
    assert len(checklist) == len(ITEMS) + 1
    answers = {row[1]: row[2] for row in checklist[1:]}
    assert answers["Reasons for missing values"] == "lost charts"
    assert answers["Observed and imputed values compared"].startswith("not stated (the rows")


def test_reports_of_normal_variables(tmp_path):
    frame = pooled(rows=30).drop(columns="site")
    (tmp_path / "table").mkdir()
    frame.to_parquet(tmp_path / "table" / "one.parquet", index=False)
    made = bi.PartitionedNormal(bi.IncompleteData.from_parquet(tmp_path / "table", "g"), FORMULA)
    run = made.impute(m=2, seed=3, draws=20, chains=2, tune=10, progress=False)
    run.report(tmp_path / "report.html", analysis="y ~ z + (1 | g)", figures=False)
    report = Reader((tmp_path / "report.html").read_text())
    for name, row in report.parts["missingness"].rows().items():
        assert row["missing"] == str(frame[name].isna().sum())
        assert row["systematic"] == str(frame[name].isna().groupby(frame["g"]).all().sum())
    assert (
        "PartitionedNormal" in report.parts["model"].text and "2 chains of 20" in report.parts["methods"].text
    )
    with pytest.raises(SpecificationError, match="must end in one of"):
        run.report(tmp_path / "report.pdf")
