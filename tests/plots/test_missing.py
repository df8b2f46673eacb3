"""The picture shows what the counts say."""

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgb

from bayesimp.errors import SpecificationError
from bayesimp.plots.missing import COMPLETE, SYSTEMATIC, plot_missing
from bayesimp.table.incomplete import IncompleteData


def table(m, rows=4):
    """x complete, y missing in half of the rows of cluster 1, z missing in all rows of cluster 0."""
    g = np.repeat(np.arange(m), rows)
    y, z = np.ones(len(g)), np.ones(len(g))
    y[np.flatnonzero(g == 1)[: rows // 2]] = np.nan
    z[g == 0] = np.nan
    return IncompleteData(pd.DataFrame({"g": g, "x": 1.5, "y": y, "z": z}), "g")


@pytest.fixture(autouse=True)
def close():
    yield
    plt.close("all")


def colours(ax):
    return ax.collections[0].get_array().reshape(len(ax.get_yticks()), -1, 3)


def test_colours_by_cell():
    shown = colours(plot_missing(table(3)))
    assert shown.shape == (3, 3, 3)
    np.testing.assert_allclose(shown[0], [to_rgb(COMPLETE)] * 3)
    np.testing.assert_allclose(shown[2], [to_rgb(SYSTEMATIC)] + [to_rgb(COMPLETE)] * 2)
    assert not np.allclose(shown[1, 1], to_rgb(COMPLETE)) and not np.allclose(shown[1, 1], to_rgb(SYSTEMATIC))
    np.testing.assert_allclose(shown[1, [0, 2]], [to_rgb(COMPLETE)] * 2)


def test_variables_in_the_order_asked_for():
    ax = plot_missing(table(3), variables=["z", "y"])
    assert [label.get_text() for label in ax.get_yticklabels()] == ["z", "y"]
    np.testing.assert_allclose(colours(ax)[0, 0], to_rgb(SYSTEMATIC))


def test_in_axes_of_the_user():
    _, ax = plt.subplots()
    assert plot_missing(table(3), ax=ax) is ax
    assert ax.get_legend() is not None


def test_errors():
    with pytest.raises(SpecificationError, match="'w' is not a variable"):
        plot_missing(table(3), variables=["w"])
    with pytest.raises(SpecificationError, match="no variable to show"):
        plot_missing(IncompleteData(pd.DataFrame({"g": [1, 2]}), "g"))


@pytest.mark.parametrize("m", [5, 15, 200])
def test_texts_do_not_overlap_and_stay_in_the_figure(m):
    ax = plot_missing(table(m))
    figure = ax.figure
    figure.canvas.draw()
    texts = [t for a in figure.axes for t in (*a.get_xticklabels(), *a.get_yticklabels(), a.xaxis.label)]
    texts += figure.legends[0].get_texts()
    boxes = [t.get_window_extent() for t in texts if t.get_text() and t.get_visible()]
    inside = figure.bbox.padded(2)
    # labels of the bars' shared, hidden axis have no extent
    boxes = [box for box in boxes if box.width > 1]
    assert len(boxes) > 8
    assert all(
        inside.x0 <= b.x0 and b.x1 <= inside.x1 and inside.y0 <= b.y0 and b.y1 <= inside.y1 for b in boxes
    )
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])
