"""Every number in a report is that of its object; reports with other numbers are detected; nothing is fetched."""

from __future__ import annotations

import re
import shutil
import subprocess
import zipfile
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

import bayesimp as bi
from bayesimp.analysis.fits import Fit
from bayesimp.errors import SpecificationError
from bayesimp.markup import shown
from bayesimp.report import facts as facts_module
from bayesimp.report.checklist import ITEMS
from bayesimp.report.facts import STATED, ReportFacts, gather
from bayesimp.report.html import as_html
from bayesimp.report.make import document, write
from bayesimp.report.markdown import as_markdown
from tests.report.reading import Reader

pytestmark = pytest.mark.filterwarnings("ignore::bayesimp.errors.StatisticalWarning")
FIRST, SECOND = "y ~ x + (1 | g)", "x ~ y * b + (1 | g)"  # the imputation model does not know b
EVIL = '<img src="http://nowhere.invalid/x.png" onerror="alert(1)">'


@pytest.fixture(scope="module")
def frame():
    rng = np.random.default_rng(0)
    g, x = np.repeat([f"study {k}" for k in range(10)], 15), rng.normal(size=150)
    y = 3 + x + np.repeat(rng.normal(size=10), 15) + rng.normal(size=150)
    y = np.abs(y - np.median(y)) + 0.01  # so that negative values are imputed where none are observed
    x[rng.random(150) < 0.3], y[rng.random(150) < 0.2] = np.nan, np.nan
    b = np.where(rng.random(150) < 0.5, 1.0, 0.0)
    return pd.DataFrame({"g": g, "x": x, "y": y, "b": b})


@pytest.fixture(scope="module")
def imp(frame):
    model = bi.JointNormal(bi.IncompleteData(frame, "g"), "y + x ~ 1 + (1 | g)")
    return model.impute(m=8, seed=1, draws=60, tune=50, progress=False)


def made(imp, level=0.95, **options):
    given = dict(
        analysis=None,
        sensitivity=None,
        mnar=None,
        overimputation=None,
        replicates=None,
        stated=None,
        plan=None,
    )
    own = {"figures": False, "options": {}, "level": level, **given, **options}
    return document(gather(imp, **own), "A title")


def read(imp, level=0.95, **options) -> Reader:
    return Reader(as_html(made(imp, level, **options)))


@pytest.fixture(scope="module")
def drawn(imp):
    """A report with its figures, which are drawn once."""
    return made(imp, analysis=FIRST, figures=True)


def test_complete_rows_are_those_of_the_columns_of_the_analysis(imp, frame):
    """x is missing in rows that an analysis of y alone uses, and is not counted there."""
    text = as_html(made(imp, analysis={"both": FIRST, "y": "y ~ b + (1 | g)"}))
    both, of_y = int(frame[["y", "x"]].notna().all(axis=1).sum()), int(frame["y"].notna().sum())
    assert both < of_y < len(frame)
    for rows in (both, of_y):
        assert f"The same analysis of the {rows} of 150 rows that are complete in its columns" in text


def same_numbers(row: dict[str, str], **numbers: float) -> None:
    for name, value in numbers.items():
        assert row[name.replace("_", ".")] == shown(float(value)), name


def check_pooled(report: Reader, section: str, fits, complete, level) -> None:
    """Pooled numbers, their Monte Carlo errors, complete rows and components of a section are those of the objects."""
    pooled, part = fits.pool(), report.parts[section]
    found, own, components = part.rows(0), part.rows(1), part.rows(2)
    low, high = pooled.interval(level).T
    for k, term in enumerate(pooled.terms):
        same_numbers(
            found[term], estimate=pooled.estimate[k], std_error=pooled.std_error[k], conf_low=low[k], conf_high=high[k],
            df=pooled.df[k], fmi=pooled.fmi[k], mc_error=np.std(fits.estimates[:, k], ddof=1) / np.sqrt(len(fits)),
        )  # fmt: skip
    table = _interval(complete[0], level)
    for term, row in table.iterrows():
        same_numbers(own[term], estimate=row["estimate"], conf_low=row["low"], conf_high=row["high"])
    values = fits.pool_components().to_frame(level).set_index("term")
    for term, row in values.iterrows():
        same_numbers(components[term], value=row["value"], mc_error=row["mc.error"])
        assert components[term]["value.low"] == shown(row["value.low"])


def _interval(fit: Fit, level: float) -> pd.DataFrame:
    from scipy import stats

    half = stats.t(fit.df_residual).ppf(0.5 + level / 2) * np.sqrt(np.diag(fit.covariance))
    return pd.DataFrame({"estimate": fit.estimate, "low": fit.estimate - half, "high": fit.estimate + half})


def check_events(report: Reader, tables) -> None:
    """Every event is there, with its whole message."""
    expected = [(e["kind"], e["where"], e["message"]) for table in tables for _, e in table.iterrows()]
    listed = [(row[1], row[2], row[4]) for table in report.parts["events"].tables for row in table[1:]]
    assert sorted(expected) == sorted(listed)


@pytest.fixture(scope="module")
def fitted(imp):
    return SimpleNamespace(
        first=imp.analyse(FIRST), second=imp.analyse(SECOND),
        of_first=bi.complete_cases(imp.data, FIRST), of_second=bi.complete_cases(imp.data, SECOND),
    )  # fmt: skip


@pytest.mark.parametrize("level", [0.95, 0.8])
def test_numbers_are_those_of_the_objects(imp, fitted, level):
    report = read(imp, level, analysis={"one": FIRST, "two": SECOND})
    check_pooled(report, "result-1", fitted.first, fitted.of_first, level)
    check_pooled(report, "result-2", fitted.second, fitted.of_second, level)
    check_events(report, [imp.events, fitted.first.events, fitted.second.events])
    assert len(imp.events) and len(fitted.second.events)
    given = read(imp, level, analysis={"fits": fitted.first})  # fits as they are: no complete rows
    assert given.parts["result-1"].rows(0) == report.parts["result-1"].rows(0)
    assert "not given as a formula" in given.parts["result-1"].text


def test_wrong_reports_are_told_apart(imp, fitted, monkeypatch):
    """Complete-case intervals at 90 %, the table of another analysis, events left out, another pooling."""
    analyses = {"one": FIRST, "two": SECOND}
    with monkeypatch.context() as wrong:
        right = Fit.to_frame
        wrong.setattr(Fit, "to_frame", lambda self, level=0.95: right(self, 0.9))
        with pytest.raises(AssertionError):
            check_pooled(read(imp, analysis=analyses), "result-1", fitted.first, fitted.of_first, 0.95)
    with monkeypatch.context() as wrong:
        wrong.setattr(facts_module, "_named", lambda analysis: {"one": SECOND, "two": FIRST})
        with pytest.raises((AssertionError, KeyError)):
            check_pooled(read(imp, analysis=analyses), "result-1", fitted.first, fitted.of_first, 0.95)
    with monkeypatch.context() as wrong:
        empty = property(lambda self: pd.DataFrame(columns=["of", "kind", "where", "count", "message"]))
        wrong.setattr(ReportFacts, "events", empty)
        with pytest.raises(AssertionError):
            check_events(
                read(imp, analysis=analyses), [fitted.first.events, fitted.second.events, imp.events]
            )
    with monkeypatch.context() as wrong:
        half = imp.analyse(FIRST)
        wrong.setattr(facts_module, "_analysed", _of_half(facts_module._analysed))
        with pytest.raises(AssertionError):
            check_pooled(read(imp, analysis=analyses), "result-1", half, fitted.of_first, 0.95)


def _of_half(right):
    """The pooled table of half of the imputations."""

    def wrong(imputations, name, one, options):
        made = right(imputations, name, one, options)
        few = replace(made.fits, estimates=made.fits.estimates[:4], covariances=made.fits.covariances[:4])
        return replace(made, pooled=few.pool())

    return wrong


def test_missing_values_and_what_is_imputed(imp, frame):
    report = read(imp)
    of = report.parts["missingness"]
    for name in ("x", "y"):
        assert of.rows(0)[name]["missing"] == str(frame[name].isna().sum())
        assert of.rows(0)[name]["% missing"] == shown(100 * frame[name].isna().mean())
    both = (frame["x"].isna() & frame["y"].isna()).sum()
    assert of.rows(1)["x, y"]["rows"] == str(both)
    hole = frame["x"].isna()
    difference = (frame.loc[hole, "y"].mean() - frame.loc[~hole, "y"].mean()) / frame["y"].std()
    assert f"y ({difference:+.2f})" in of.rows(2)["x"]["largest differences"]
    row = report.parts["imputed"].rows(0)["x"]
    assert row["imputed mean"] == shown(imp.values("x").mean()) and row["observed mean"] == shown(
        frame["x"].mean()
    )
    outside = (imp.values("x") > frame["x"].max()) | (imp.values("x") < frame["x"].min())
    assert row["% outside"] == shown(100 * outside.mean())


def test_model_and_convergence(imp):
    report, summary = read(imp), imp.summary()
    said = report.parts["model"].text
    for line in repr(imp.model).split("\n"):
        assert " ".join(line.split()) in said
    assert (
        summary.verdict in report.parts["convergence"].text
        and summary.verdict in report.parts["checked"].text
    )
    listed = report.parts["convergence"].rows(0)
    for name, row in summary.parameters.iterrows():
        assert (
            listed[name]["r_hat"] == f"{row['r_hat']:.3f}"
            and listed[name]["ess_bulk"] == f"{row['ess_bulk']:,.0f}"
        )


def test_checklist_answers_or_says_not_stated(imp):
    stated = {key: f"said of {key}" for key in STATED}
    for given in ({}, stated):
        report = read(imp, analysis=FIRST, stated=given)
        rows = report.parts["checklist"].tables[0][1:]
        assert len(rows) == len(ITEMS) and all(row[2] for row in rows)
        unanswered = sum(row[2].startswith("not stated") for row in rows)
        assert unanswered == (
            1 if given else 1 + len(STATED)
        )  # departures from missing at random were not examined
        text = " ".join(part.text for part in report.parts.values()) + str(rows)
        assert all((said in text) == bool(given) for said in stated.values())


def test_methods_paragraph(imp, fitted):
    report = read(imp, analysis=FIRST)
    text = report.parts["methods"].text
    pooled = fitted.first.pool()
    share = 100 * (pooled.mc_error / pooled.std_error).max()
    for said in (
        "m = 8",
        "seed 1",
        FIRST,
        f"{share:.1f} %",
        f"largest {imp.summary().worst_r_hat:.3f}",
        "was NOT attained",
    ):
        assert said in text, said
    cited = {int(n) for group in re.findall(r"\[([\d, ]+)\]", text) for n in group.split(",")}
    listed = {int(n) for n in re.findall(r"(\d+)\. [A-Z][A-Za-z]+ [A-Z]+[,.]", text)}
    assert cited == listed == set(range(1, max(listed) + 1))


def test_sensitivity_is_shown_where_it_was_given(imp):
    words = ("Of the estimates, x moves most.",)
    table = pd.DataFrame(
        {"prior": ["a", "b"], "term": ["x", "x"], "estimate": [1.25, 1.75], "change": [0.0, 0.5]}
    )
    given = facts_module.SensitivityTable(table, words)
    report = read(imp, sensitivity=given)
    part = report.parts["prior-sensitivity"]
    assert words[0] in part.text and [row[2] for row in part.tables[0][1:]] == ["1.25", "1.75"]
    assert (
        words[0] in report.parts["checked"].text
        and "prior was not examined" not in report.parts["assumed"].text
    )
    assert "missing at random was not examined" in report.parts["assumed"].text
    assert "Not examined" in report.parts["not-at-random"].text


def test_real_sensitivity_results(imp):
    quick = dict(analysis=FIRST, m=3, seed=1, draws=20, tune=20, progress=False)
    mnar = bi.mnar(imp.model, {"x": [0, -1]}, **quick)
    priors = bi.sensitivity(imp.model, [bi.priors.default(), bi.priors.pan()], **quick)
    report = read(imp, mnar=mnar, sensitivity=priors)
    shift = mnar.table[mnar.table["term"] == "x"]
    rows = [row for row in report.parts["not-at-random"].tables[0] if "x" in row[:4]]
    assert [shown(v) for v in shift["estimate"]] == [
        row[rows_index(report, "not-at-random", "estimate")] for row in rows
    ]
    assert str(priors).split("\n")[0] in report.parts["prior-sensitivity"].text
    with pytest.raises(SpecificationError, match="mnar takes what"):
        read(imp, mnar=priors)


def rows_index(report, section, column):
    return report.parts[section].tables[0][0].index(column)


def test_nothing_is_fetched_and_nothing_runs(frame, drawn):
    """Names and labels that are HTML stay text, in the report and in notebooks."""
    odd = frame.rename(columns={"y": EVIL}).assign(g=frame["g"] + "</td><script>alert(1)</script>")
    model = bi.JointNormal(bi.IncompleteData(odd, "g"), f"`{EVIL}` + x ~ 1 + (1 | g)")
    imp = model.impute(m=2, seed=1, draws=10, tune=10, progress=False)
    report = read(imp, analysis=f"x ~ `{EVIL}` + (1 | g)", stated={"reasons": EVIL})
    images = [dict(attrs) for tag, attrs in Reader(as_html(drawn)).tags if tag == "img"]
    assert len(images) >= 5 and all(image["src"].startswith("data:image/png;base64,") for image in images)
    assert not {"img", "script", "link", "iframe", "object", "base", "form"} & {tag for tag, _ in report.tags}
    assert "@import" not in report.style and "url(" not in report.style
    assert all(attrs["href"].startswith("#") for tag, attrs in report.tags if "href" in attrs)
    policy = [attrs["content"] for tag, attrs in report.tags if "http-equiv" in attrs]
    assert policy == ["default-src 'none'; img-src data:; style-src 'unsafe-inline'"]
    assert EVIL in report.parts["missingness"].text
    assert {tag for tag, attrs in report.tags if any(name.startswith("on") for name in attrs)} == set()


def test_markdown_has_the_same_tables(imp):
    report = made(imp, analysis=FIRST, plan="m = 8")
    text, figures = as_markdown(report, "pictures")
    assert not figures and "```\nm = 8\n```" in text
    html = Reader(as_html(report))
    lines = [re.sub(r"\\(.)", r"\1", line) for line in text.split("\n") if line.startswith("| ")]
    rows = [line.removeprefix("| ").removesuffix(" |").split(" | ") for line in lines if "---" not in line]
    expected = [row for part in html.parts.values() for table in part.tables for row in table]
    plain = [row for row in expected if not any("|" in cell or "\n" in cell for cell in row)]
    rows = [[cell.strip() for cell in row] for row in rows]
    assert len(plain) > 40 and all(
        [cell.strip() for cell in row] in [[c.strip() for c in r] for r in rows] for row in plain
    )


def test_files(imp, drawn, tmp_path, monkeypatch):
    path = tmp_path / "report.md"
    write(drawn, path)
    links = re.findall(r"\]\((report_figures/figure_\d+\.png)\)", path.read_text())
    assert len(links) >= 5 and all((tmp_path / link).read_bytes().startswith(b"\x89PNG") for link in links)
    html = imp.report(tmp_path / "report.html", title="Chosen title", figures=False)
    assert html == tmp_path / "report.html" and "<title>Chosen title</title>" in html.read_text()
    with pytest.raises(SpecificationError, match=r"\.html, \.md, \.docx"):
        imp.report(tmp_path / "report.pdf")
    monkeypatch.setattr("bayesimp.report.make.which", lambda name: None)
    with pytest.raises(SpecificationError, match="pandoc, which is not installed"):
        imp.report(tmp_path / "report.docx")


@pytest.mark.skipif(shutil.which("pandoc") is None, reason="pandoc is not installed")
def test_word(imp, drawn, tmp_path):
    path = tmp_path / "report.docx"
    few = [each for each in drawn.sections if each.key in ("results", "checklist")]
    write(replace(drawn, sections=tuple(few)), path)  # one figure: pandoc takes seconds for each
    with zipfile.ZipFile(path) as inside:
        text = inside.read("word/document.xml").decode()
        pictures = [name for name in inside.namelist() if name.startswith("word/media/")]
    assert "Reporting checklist" in text and len(pictures) == 1
    assert shown(float(imp.analyse(FIRST).pool().estimate[1])) in text


@pytest.mark.parametrize(
    "options, says",
    [
        (
            {"analysis": {"crude": {"formula": "y ~ x"}}},
            r"analysis 'crude': give \{'analysis': formula, ...\}; it has \['formula'\]",
        ),
        (
            {"analysis": {"crude": {"analysis": "y ~ x", "famly": "normal"}}},
            "no argument 'famly'; did you mean 'family'",
        ),
        ({"stated": {"reason": "lost"}}, "did you mean 'reasons'|reasons"),
        ({"level": 95}, "level = 95"),
        ({"sensitivity": 3}, "sensitivity takes what"),
    ],
)
def test_what_is_refused(imp, tmp_path, options, says):
    with pytest.raises(SpecificationError, match=says):
        imp.report(tmp_path / "report.html", **options)
    with pytest.raises(SpecificationError, match="pooled already"):
        imp.report(tmp_path / "report.html", analysis=imp.analyse(FIRST).pool())
    with pytest.raises(SpecificationError, match="fits of 'a' are from 10 tables"):
        imp.report(tmp_path / "report.html", analysis={"a": imp.extend(2).analyse(FIRST)})


CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
def test_a_browser_shows_it(drawn, tmp_path):
    """Opened without a network: all sections are there, figures have a size, and the screenshot is not empty."""
    path = tmp_path / "report.html"
    write(drawn, path)
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--proxy-server=127.0.0.1:1",
               f"--user-data-dir={tmp_path / 'profile'}", "--window-size=1000,4000"]  # fmt: skip
    done = subprocess.run(
        [*command, f"--screenshot={tmp_path / 'report.png'}", path.as_uri()],
        capture_output=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()[-500:]
    import matplotlib.image as image

    pixels = image.imread(tmp_path / "report.png")
    assert pixels.shape[:2] == (4000, 1000)
    ink = (pixels[..., :3].min(axis=2) < 0.5).mean(axis=1)
    assert (ink > 0).mean() > 0.2 and ink.max() < 0.9  # text and figures, not a black page


def test_imputation_by_reference_is_named(frame):
    """Values are then not said to be missing at random: among the assumptions, in the section and in the paragraph."""
    reference = bi.ReferenceBased("b", 0.0, ("x", "y"))
    for by_reference in (reference, None):
        model = bi.JointNormal(bi.IncompleteData(frame, "g"), "y + x ~ b + (1 | g)", reference=by_reference)
        report = read(model.impute(m=4, seed=1, draws=20, tune=10, progress=False))
        named = "jump to reference: after drop-out as where b is 0.0; visits x, y"
        for section in ("assumed", "not-at-random", "methods"):
            assert (named in report.parts[section].text) == (by_reference is not None), section
        at_random = "Values are missing at random, given" in report.parts["assumed"].text
        assert at_random == (by_reference is None)
        assert ("Roger JH" in report.parts["methods"].text) == (by_reference is not None)
