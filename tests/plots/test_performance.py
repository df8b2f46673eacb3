"""The figure of a study shows the numbers of its summary, in their panels."""

import pandas as pd
import pytest

from bayesimp.errors import SpecificationError
from bayesimp.plots import plot_performance


def summary():
    rows = [
        {
            "scenario": f"{n}{kind}", "n_studies": n, "kind": kind, "method": method, "term": "x", "measure": measure,
            "value": n + k + (kind == "b"), "mcse": 0.25, "n": 40, "truth": 7.0,
        }
        for n in (6, 10) for kind in "ab" for k, method in enumerate(("REF", "joint"))
        for measure in ("mean", "bias", "mean se")
    ]  # fmt: skip
    return pd.DataFrame(rows)


def points(axis):
    return {c.get_label(): c.lines[0].get_ydata().tolist() for c in axis.containers}


def test_numbers_in_their_panels():
    published = pd.DataFrame(
        {"n_studies": [6, 10], "kind": ["b", "b"], "method": "joint", "estimate": [5.0, 6.0]}
    )
    figure = plot_performance(summary(), "x", "mean", across="n_studies", panels="kind", published=published)
    first, second = figure.axes[:2]
    assert points(first) == {"REF": [6, 10], "joint": [7, 11]} and points(second)["joint"] == [8, 12]
    segments = first.containers[0].lines[2][0].get_segments()
    assert [s[:, 1].tolist() for s in segments] == [[5.5, 6.5], [9.5, 10.5]]
    hollow = [
        line.get_ydata().tolist()
        for line in second.lines
        if line.get_marker() == "D" and len(line.get_ydata())
    ]
    assert hollow == [[5.0, 6.0]]
    assert [t.get_text() for t in figure.legends[0].get_texts()] == ["REF", "joint", "truth"]
    assert "hollow: published" in figure.get_suptitle() and "40 data sets" in figure.get_suptitle()


def test_many_methods_can_be_told_apart():
    """Simulation 5 of Kunkel & Kaizar has eight, two of which had the same colour and marker."""
    one = summary().query("method == 'REF'")
    many = pd.concat([one.assign(method=f"method {k}") for k in range(20)])
    figure = plot_performance(many, "x", "mean", across="n_studies", panels="kind")
    lines = [c.lines[0] for c in figure.axes[0].containers]
    assert len({(line.get_color(), line.get_marker()) for line in lines}) == len(lines) == 20


def test_lines_of_mean_standard_errors():
    figure = plot_performance(summary(), "x", "mean", across="n_studies", panels="kind", lines="se")
    (segment, _) = figure.axes[0].containers[0].lines[2][0].get_segments()
    assert segment[:, 1].tolist() == [6 - 12, 6 + 12]


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"term": "z"}, "no term 'z'"), ({"measure": "rmse"}, "no measure 'rmse'"), ({"across": "m"}, "no label 'm'"),
        ({"lines": "sd"}, "lines is"), ({"panels": None}, "Several scenarios"),
    ],
)  # fmt: skip
def test_what_cannot_be_shown_is_refused(options, match):
    asked = {"term": "x", "measure": "bias", "across": "n_studies", "panels": "kind", **options}
    with pytest.raises(SpecificationError, match=match):
        plot_performance(summary(), **asked)
