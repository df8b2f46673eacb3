"""Figures of not-at-random analyses: they show the table, whatever the names are."""

import matplotlib
import numpy as np
import pytest

matplotlib.use("Agg")

import matplotlib.pyplot as plt
from matplotlib.colors import to_rgb

import bayesimp as bi
from bayesimp.errors import SpecificationError
from bayesimp.plots._style import ORANGE
from tests.mnar_runs import run, trial
from tests.plots.test_figures import check


@pytest.fixture
def close():
    yield
    plt.close("all")


LONG = "glasgow_outcome_scale_extended_at_six_months"


@pytest.mark.parametrize("name", ["y", LONG])
def test_the_figure_shows_the_table_and_the_tipping_point(name, close):
    frame = trial().rename(columns={"y": name})
    model = bi.JointNormal(bi.IncompleteData(frame, cluster="g"), f"{name} ~ drug + (1 | g)")
    result = bi.mnar(
        model,
        {name: [0, -1, 1]},
        by="arm",
        analysis=f"{name} ~ drug",
        m=5,
        seed=1,
        tune=20,
        draws=40,
        progress=False,
    )
    figure = result.plot("drug")
    axes = [ax for ax in figure.axes if ax.lines]
    assert len(axes) == 2
    of = result.table[result.table["term"] == "drug"].set_index("scenario")
    for ax, line in zip(axes, result.lines, strict=True):
        drawn, along = ax.lines[1], result.along(line, result.analyses[0], "drug")
        np.testing.assert_allclose(drawn.get_xdata(), line.x)
        np.testing.assert_allclose(drawn.get_ydata(), along["estimate"])
        # the band: both limits at every shift, whatever the order in which its border is drawn
        border = {tuple(np.round(point, 9)) for point in ax.collections[0].get_paths()[0].vertices}
        limits = along[["conf.low", "conf.high"]].to_numpy().T
        assert border == {
            tuple(np.round([x, y], 9)) for row in limits for x, y in zip(line.x, row, strict=True)
        }
        (hollow,) = [mark for mark in ax.lines if mark.get_markerfacecolor() == "white"]
        assert (hollow.get_xdata()[0], hollow.get_ydata()[0]) == (0.0, of["estimate"]["at random"])
        found = result.tipping_point("drug").table
        marks = found[(found["axis"] == line.label) & found["shift"].notna()]["shift"]
        assert {t.get_text() for t in ax.texts} == {f"{x:.3g}" for x in marks}
        assert name[:10] in ax.get_xlabel() and ax.get_title("left") == "drug"
    assert sum(len(ax.texts) for ax in axes) >= 1
    check(figure)
    mapped = result.plot_map("drug")
    check(mapped)
    # each cell by its two shifts: the number, and the colour of its interval
    assert len(of) == 9
    covers, seen = (of["conf.low"] <= 0) & (of["conf.high"] >= 0), {}
    for fill in mapped.axes[0].collections:
        middle = tuple(np.round(fill.get_paths()[0].get_extents().get_points().mean(axis=0)).astype(int))
        seen[middle] = bool(np.allclose(fill.get_facecolor()[0][:3], to_rgb(ORANGE)))
    numbers = {tuple(map(int, t.get_position())): t.get_text() for t in mapped.axes[0].texts}
    for scenario in result.scenarios:
        cell = tuple(sorted((0, -1, 1)).index(value) for value in scenario.values)
        assert numbers[cell] == f"{of['estimate'][scenario.name]:.3g}" and seen[cell] == covers[scenario.name]
    assert 0 < covers.sum() < 9


def test_many_deltas_and_terms_are_said_to_be_left_out(close):
    result = run(delta={"y": [-1]}, by="g", combine="one at a time", m=2)
    figure = result.plot(at_most=4)
    assert "4 of " in figure._suptitle.get_text() and len([ax for ax in figure.axes if ax.lines]) == 4
    check(figure)
    with pytest.raises(SpecificationError, match="A map needs two deltas that vary"):
        result.plot_map("x")
    with pytest.raises(SpecificationError, match="No delta varies"):
        run(delta={"y": -1}, m=2).plot()
