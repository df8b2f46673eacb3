"""Chained equations on counts are those of `FCS` on the rows: exactly given the completed values, and in distribution."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit
from scipy.stats import chi2, poisson

import bayesimp as bi
from bayesimp.errors import DataError, SamplingError, SpecificationError, StatisticalWarning
from bayesimp.fcs.loop import start_chain
from bayesimp.kernels.families.codes import LOGIT, POISSON
from bayesimp.partitioned import blocks, chains, distinct, fcs_result
from bayesimp.partitioned.cells import Cells, alike, split, split_by_shares
from bayesimp.sampling.chains import chain_rng

FAMILIES = {"visits": "poisson"}
PREDICTORS = {"visits": "~ . + sex:ill + (1 + ill | g)"}
SHORT = {"m": 2, "cycles": 4, "seed": 1, "progress": False}


def simulated(rows=700, clusters=12, seed=1):
    """Many rows that are alike; a variable that one cluster lacks; truth values, text, and counts with a missing cell."""
    rng = np.random.default_rng(seed)
    g, sex = rng.integers(0, clusters, rows), rng.choice(["f", "m"], rows)
    age, b = rng.integers(0, 2, rows), 0.5 * rng.normal(size=(clusters, 3))
    smokes = rng.random(rows) < expit(-0.5 + 0.8 * age + b[g, 0])
    ill = rng.random(rows) < expit(-0.7 + 1.2 * smokes + b[g, 1])
    visits = rng.poisson(np.exp(-0.4 + 0.8 * ill + 0.4 * smokes + 0.3 * b[g, 2])).astype(float)
    frame = pd.DataFrame({
        "g": g, "sex": sex, "age": age, "smokes": pd.array(smokes, "boolean"),
        "ill": np.where(ill, "yes", "no").astype(object), "visits": visits,
    })  # fmt: skip
    for name, gone in (("smokes", pd.NA), ("ill", None), ("visits", np.nan)):
        frame.loc[rng.random(rows) < 0.3, name] = gone
    frame.loc[frame["g"] == 3, "ill"] = None
    return frame.assign(note=[f"row {k}" for k in range(rows)])


VARIABLES = ["sex", "age", "smokes", "ill", "visits"]
INCOMPLETE = ("smokes", "ill", "visits")


def written(frame, folder, parts=3):
    folder.mkdir(exist_ok=True)
    for k, rows in enumerate(np.array_split(np.arange(len(frame)), parts)):
        frame.iloc[rows].to_parquet(folder / f"part-{k}.parquet", index=False, row_group_size=90)
    return folder


@pytest.fixture(scope="module")
def frame():
    return simulated()


@pytest.fixture(scope="module")
def folder(frame, tmp_path_factory):
    return written(frame, tmp_path_factory.mktemp("table"))


def partitioned(folder, predictors=PREDICTORS, **options):
    data = bi.IncompleteData.from_parquet(folder, "g")
    return bi.PartitionedFCS(data, VARIABLES, predictors, **{"families": FAMILIES, **options})


def in_memory(frame, predictors=PREDICTORS):
    data = bi.IncompleteData(frame[["g", *VARIABLES]], "g", FAMILIES)
    return bi.FCS(data, bi.methods.Bayes(compatible=False), predictors)


@pytest.fixture(scope="module")
def model(folder):
    return partitioned(folder)


@pytest.fixture(scope="module")
def run(model):
    return model.impute(**SHORT)


def completed(run, k=0):
    return pd.concat(run.frames(k))


# a visit, given the completed values -----------------------------------------------------------------


def of_clusters(table, rows):
    """Cluster labels of rows sorted by canonical cluster."""
    labels = table.grouping.labels[table.order]
    return np.repeat(labels, np.diff(rows.first))


def sums(labels, columns, y, n):
    """Successes or counts and rows, by cluster and columns of the design."""
    out: Counter = Counter()
    for label, column, a, b in zip(labels, np.round(columns, 9).tolist(), y, n, strict=True):
        out[label, *column, "y"] += round(float(a))
        out[label, *column, "n"] += round(float(b))
    return out


def gaps(model, run, whole):
    """Where the conditional models on counts and on rows differ, given the values of the first completed table."""
    chain, made = start_chain(whole.table, [], chain_rng(0, 0)), completed(run)
    done = bi.IncompleteData(made[["g", *VARIABLES]], "g", whole.data.families)
    table, found = whole.table, []
    for k in range(table.p, len(table.names) - len(table.derived)):
        values = done.column_values(table.names[k])[table.row]
        chain.V[:, k - table.p] = (values - table.center[k]) / table.scale[k]
    table.derive(chain.V)
    counts, cells = model.counts, run.cells[0]
    for mine, theirs in zip(counts.blocks, whole.conditionals(0), strict=True):
        mine_, rows = mine.rows(counts, cells), theirs.rows
        every = theirs.observed(chain.V, rows.factors(chain.V))
        n = np.exp(mine_.offset) if mine.code == POISSON else mine_.trials
        own = sums(of_clusters(counts.table, mine_), np.hstack([mine_.X, mine_.Z]), mine_.y, n)
        other = sums(of_clusters(table, every), np.hstack([every.X, every.Z]), every.y, every.trials)
        if own != other or mine_.family != every.family:
            found.append((mine.name, "sums"))
        holes = counts.missing[cells.kind, mine.k]
        X, Z = mine.design(counts, cells.some(holes))
        labels = counts.table.grouping.labels[counts.table.order][counts.cluster[cells.kind[holes]]]
        own = sums(labels, np.hstack([X, Z]), 0 * cells.n[holes], cells.n[holes])
        labels = table.grouping.labels[table.order][rows.hole_cluster]
        other = sums(labels, np.hstack(rows.missing(chain.V, rows.factors(chain.V))), 0 * labels, 0 * labels + 1)
        if own != other:
            found.append((mine.name, "rows to be imputed"))
        for a, b in ((mine.prior.Q0, theirs.prior.Q0), (mine.prior.t0, theirs.prior.t0)):
            if not np.allclose(a, b, rtol=1e-12):
                found.append((mine.name, "prior of beta"))
        if str(mine.Psi) != str(theirs.Psi) or mine.updates != theirs.updates:
            found.append((mine.name, "prior of Psi"))
        if not np.allclose(mine.chained.scale.T, theirs.chained.scale.T, rtol=1e-12):
            found.append((mine.name, "units"))
    return found


def test_given_the_values_a_visit_sees_the_same_data_and_priors(model, run, frame, monkeypatch):
    """Sums by cluster and predictors, rows to be imputed, priors. Wrong: distinct rows count once; rows to be imputed
    are fitted; cells are dealt to rows of another kind."""
    whole = in_memory(frame)
    assert model.model.formulas == whole.formulas
    assert gaps(model, run, whole) == []
    once = replace(run, cells=(run.cells[0]._replace(n=np.minimum(run.cells[0].n, 1)), *run.cells[1:]))
    monkeypatch.setattr(once, "frames", run.frames) if False else None
    monkeypatch.setattr(fcs_result.PartitionedFCSImputations, "frames", lambda self, k: iter([completed_]))
    completed_ = completed_table(run, monkeypatch)
    assert ("ill", "sums") in gaps(model, once, whole)
