"""Tables with one row in every cluster: one event of every engine, with the way to rows of repeated measures."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import bayesimp as bi
from bayesimp.table.cluster_level import ONE_ROW


def wide(separator: str = "_") -> pd.DataFrame:
    rng = np.random.default_rng(1)
    u, visits = rng.normal(size=60), {f"y{separator}{k}": rng.normal(size=60) for k in (2001, 2002, 2003)}
    frame = pd.DataFrame({"id": range(60), "sex": rng.choice(["f", "m"], 60)} | visits)
    frame[list(visits)] = frame[list(visits)].add(u, axis=0)
    frame.loc[rng.random(60) < 0.3, f"y{separator}2002"] = np.nan
    return frame


@pytest.mark.parametrize("engine", ["joint", "latent", "glmm", "fcs"])
def test_one_event(engine):
    data = bi.IncompleteData(wide(), "id")
    formula = "y_2001 + y_2002 + y_2003 ~ sex + (1 | id)"
    model = {
        "joint": lambda: bi.JointNormal(data, formula),
        "latent": lambda: bi.JointLatent(data, formula),
        "glmm": lambda: bi.JointGLMM(data, "y_2003 ~ y_2002 + (1 | id)"),
        "fcs": lambda: bi.FCS(data),
    }[engine]()
    assert [e.kind for e in model.events].count(ONE_ROW) == 1
    assert not any("at most one row" in e.message for e in model.events)
    (event,) = (e for e in model.events if e.kind == ONE_ROW)
    assert "pd.wide_to_long(table, ['y'], i='id', j='time', sep='_').reset_index()" in event.message


@pytest.mark.parametrize("separator", ["", "_", "."])
def test_the_advice_works(separator):
    """The printed call gives a long table, about which there is no such event."""
    table = wide(separator)
    (event,) = (e for e in bi.FCS(bi.IncompleteData(table, "id")).events if e.kind == ONE_ROW)
    call = event.message[event.message.index("pd.wide") :].split(".reset_index()")[0] + ".reset_index()"
    long = eval(call, {"pd": pd, "table": table})
    assert len(long) == 180 and set(long["time"]) == {2001, 2002, 2003}
    assert not [e for e in bi.FCS(bi.IncompleteData(long, "id")).events if e.kind == ONE_ROW]


def test_models_without_clusters_say_nothing():
    """The advice for independent rows, and a table in which one cluster has two rows."""
    data = bi.IncompleteData(wide(), "id")
    assert not [e for e in bi.FCS(data, methods="glm").events if e.kind == ONE_ROW]
    other = bi.IncompleteData(wide().assign(id=[0, 0, *range(2, 60)]), "id")
    assert not [e for e in bi.FCS(other).events if e.kind == ONE_ROW]
