"""Reports of every engine, and over-imputation from the imputations themselves."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import bayesimp as bi
from bayesimp.errors import SpecificationError
from bayesimp.report.references import EQUATIONS, NAMES, SOURCES
from bayesimp.sampling import nuts
from bayesimp.studies.overimputation import overimpute
from tests.report.reading import Reader
from tests.report.test_report import read
from tests.test_models import CASES

pytestmark = pytest.mark.filterwarnings("ignore::bayesimp.errors.StatisticalWarning")
EVERY = ("plan", "missingness", "checked", "assumed", "model", "convergence", "imputed", "results", "prior-sensitivity",
         "not-at-random", "events", "methods", "checklist", "versions")  # fmt: skip


def check(imp, engine, analysis):
    report = read(imp, analysis=analysis)
    assert set(EVERY) <= set(report.parts)
    for part in EVERY:
        assert report.parts[part].text or report.parts[part].tables, part
    formulas = imp.attrs["formula"].split("; ")
    told = report.parts["model"].text + str(report.parts["model"].tables)
    assert all(" ".join(f.split()) in " ".join(told.split()) for f in formulas) or engine in (
        "FCS",
        "FromPyMC",
        "Toy",
    )
    assert (
        f"m = {imp.m}" in report.parts["methods"].text and engine in report.parts["checklist"].tables[0][8][2]
    )
    chains, kept = imp.tree["posterior"].sizes["chain"], imp.tree["posterior"].sizes["draw"]
    cycles = int(imp.attrs["draws"])
    length = f"{chains} chains of {kept} kept draws"
    if imp.chained:
        warm = f", the first {cycles - kept} of them warm-up" if cycles > kept else ""
        length = f"{chains} chains of {cycles} cycles{warm}"
    assert length in report.parts["methods"].text and length in report.parts["convergence"].text
    for name in imp.imputed_columns:
        if name in imp.data.variables:
            assert name in report.parts["imputed"].rows(0) or name in str(report.parts["imputed"].tables)
    assert Reader(imp._repr_html_()) and Reader(imp.model._repr_html_())
    return report


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_every_engine(case):
    imp = case.run(m=2)
    report = check(imp, imp.attrs["model"], "y ~ x + (1 | g)")
    checked = "observed cells were checked before sampling" in report.parts["checked"].text
    assert checked == (
        imp.attrs["model"] != "Toy"
    )  # nothing is claimed of engines that are registered by others


def test_a_model_of_the_users_own(monkeypatch):
    import pymc as pm

    monkeypatch.setattr(nuts, "evaluation", lambda *_: "python")  # sample without compilation
    x = np.array([0.3, np.nan, 1.2, -0.4, np.nan, 0.8, 0.1, -0.9])
    data = bi.IncompleteData(pd.DataFrame({"g": [1, 1, 2, 2, 3, 3, 4, 4], "x": x}), "g")
    with pm.Model() as model:
        mu = pm.Normal("mu", 0, 10)
        pm.Normal("x", mu, 1, observed=np.ma.masked_invalid(x))
    imp = bi.FromPyMC(model, data).impute(m=4, seed=1, chains=2, tune=20, draws=20, progress=False)
    report = check(imp, "FromPyMC", "x ~ 1")
    assert "Normal(0, 10)" in report.parts["model"].text
    assert "none of its assumptions were checked" in report.parts["assumed"].text
    assert "was not compared" in report.parts["checked"].text


def test_engines_have_equations_names_and_sources():
    from bayesimp.contract import MODULES

    assert set(EQUATIONS) == set(NAMES) == set(SOURCES) == set(MODULES)


def test_overimputation_from_imputations():
    case = CASES["FCS, bayes"]
    imp = case.run(m=3)
    ours = imp.overimpute(m=3, groups=2, seed=4, cycles=3, progress=False)
    theirs = overimpute(imp.model, m=3, groups=2, seed=4, cycles=3, progress=False)
    pd.testing.assert_frame_equal(ours.cells, theirs.cells)
    report = read(imp, overimputation=ours)
    row = report.parts["imputed"].rows(1)["y"]
    assert row["inside"] == f"{ours.by_variable().set_index('variable').at['y', 'inside']:.4g}"
    bare = bi.Imputations(imp.data, imp._cells, imp.attrs, imp._make_tree, ())
    with pytest.raises(SpecificationError, match="do not carry the model"):
        bare.overimpute(seed=1)
    assert "not shown in numbers" in read(bare).parts["model"].text
