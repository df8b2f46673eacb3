"""What notebooks show: escaped, in the page's colours, with the numbers of the object, within 100 columns as text."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest

import bayesimp as bi
from bayesimp.markup import shown, table
from tests.report.reading import Reader

pytestmark = pytest.mark.filterwarnings("ignore::bayesimp.errors.StatisticalWarning")
ODD = '<b>&"y"'


@pytest.fixture(scope="module")
def objects():
    rng = np.random.default_rng(0)
    g, x = np.repeat([f"<i>{k}</i>" for k in range(8)], 12), rng.normal(size=96)
    y = np.where(rng.random(96) < 0.2, np.nan, np.abs(x + rng.normal(size=96)))
    data = bi.IncompleteData(pd.DataFrame({"g": g, "x": x, ODD: y}), "g")
    model = bi.FCS(data)
    imp = model.impute(m=3, seed=1, cycles=20, tune=5, progress=False)
    joint = bi.JointNormal(bi.IncompleteData(data.frame.rename(columns={ODD: "y"}), "g"), "y ~ x + (1 | g)")
    fits = joint.impute(m=3, seed=1, draws=20, tune=10, progress=False).analyse("y ~ x + (1 | g)")
    quick = dict(analysis="y ~ x + (1 | g)", m=2, seed=1, draws=10, tune=10, progress=False)
    return {
        "data": data, "fcs": model, "imp": imp, "summary": imp.summary(), "events": imp.events, "joint": joint,
        "fits": fits, "pooled": fits.pool(), "components": fits.pool_components(), "priors": bi.priors.default(),
        "sensitivity": bi.sensitivity(joint, [bi.priors.default(), bi.priors.pan()], **quick),
        "mnar": bi.mnar(joint, {"y": [0, -1]}, **quick),
        "overimputation": imp.overimpute(m=3, groups=2, seed=1, cycles=5, progress=False),
    }  # fmt: skip


NAMES = ("data", "fcs", "imp", "summary", "events", "joint", "fits", "pooled", "components", "priors", "sensitivity",
         "mnar", "overimputation")  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_is_escaped_and_takes_the_colours_of_the_page(objects, name):
    html = objects[name]._repr_html_()
    read = Reader(html)  # every tag is closed in order
    assert {tag for tag, _ in read.tags} <= {
        "div", "p", "b", "pre", "table", "thead", "tbody", "tr", "th", "td", "details", "summary",
    }  # fmt: skip
    assert not any(label == "i" for label, _ in read.tags)
    styles = " ".join(str(attrs.get("style")) for _, attrs in read.tags)
    assert not re.search(
        r"#[0-9a-f]{3,6}\b|(?<!-)color: (?!inherit)|url\(|background: (?!transparent)", styles
    )
    assert "<script" not in html and "http" not in html


def test_numbers_are_those_of_the_object(objects):
    pooled = objects["pooled"]
    rows = Reader(pooled._repr_html_()).parts[""].rows()
    assert rows["x"]["estimate"] == shown(float(pooled.estimate[1]))
    assert rows["x"]["mc.error"] == shown(float(pooled.mc_error[1]))
    summary = objects["summary"]
    listed = Reader(summary._repr_html_()).parts[""].rows()
    for name, row in summary.parameters.iterrows():
        assert listed[name]["r_hat"] == shown(float(row["r_hat"]))
    assert ODD in Reader(objects["imp"]._repr_html_()).parts[""].rows()
    messages = {row[2] for row in Reader(objects["events"]._repr_html_()).parts[""].tables[0][1:]}
    assert messages == set(objects["events"]["message"])
    assert "no events" in objects["events"].iloc[:0]._repr_html_()


@pytest.mark.parametrize("name", ["pooled", "components", "events", "overimputation"])
def test_text_fits_100_columns(objects, name):
    assert max(map(len, repr(objects[name]).split("\n"))) <= 100


def test_cells():
    frame = pd.DataFrame({"a": [1, 2_000], "b": [0.5, np.nan], "c": ["x", None], "d": [True, False]})
    part = Reader(table(frame)).parts[""]
    assert part.tables[0][1:] == [["1", "0.5", "x", "yes"], ["2,000", "", "", "no"]]
    assert "and 1 more rows" in Reader(table(frame, most=1)).parts[""].text
    assert table(frame.iloc[:0]).count("<th ") == 4
