"""Chained equations on counts are those of `FCS` on the rows: exactly given the completed values, and in distribution."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from scipy.special import expit
from scipy.stats import chi2, norm, poisson

import bayesimp as bi
from bayesimp.fcs.loop import start_chain
from bayesimp.kernels.families.codes import LOGIT, POISSON
from bayesimp.partitioned import blocks, fcs, fcs_result
from bayesimp.partitioned.cells import CountCells, alike, split, split_by_shares
from bayesimp.sampling.chains import chain_rng

FAMILIES = {"visits": "poisson"}
PREDICTORS = {"smokes": "~ . + log1p(visits) - visits", "visits": "~ . + sex:ill + sex:age + (1 + ill | g)"}
SHORT = {"m": 2, "cycles": 4, "seed": 1, "progress": False}


def simulated(rows=700, clusters=12, seed=1, effects=0.5):
    """Many rows that are alike; a variable that one cluster lacks; truth values, text, and counts with a missing cell."""
    rng = np.random.default_rng(seed)
    g, sex = rng.integers(0, clusters, rows), rng.choice(["f", "m"], rows)
    age, b = rng.integers(0, 2, rows), effects * rng.normal(size=(clusters, 3))
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


def gaps(model, cells, made, whole):
    """Where the conditional models on counts and on rows differ, given a completed table as cells and as rows."""
    table, counts, found = whole.table, model.counts, []
    chain = start_chain(table, [], chain_rng(0, 0))
    done = bi.IncompleteData(made[["g", *VARIABLES]], "g", whole.data.families)
    for k in range(table.p, len(table.names) - len(table.derived)):
        values = done.column_values(table.names[k])[table.row]
        chain.V[:, k - table.p] = (values - table.center[k]) / table.scale[k]
    table.derive(chain.V)
    for mine, theirs in zip(counts.blocks, whole.conditionals(0), strict=True):
        summed, rows = mine.rows(counts, cells), theirs.rows
        every = theirs.observed(chain.V, rows.factors(chain.V))
        n = np.exp(summed.offset) if mine.code == POISSON else summed.trials
        own = sums(of_clusters(counts.table, summed), np.hstack([summed.X, summed.Z]), summed.y, n)
        other = sums(of_clusters(table, every), np.hstack([every.X, every.Z]), every.y, every.trials)
        if own != other or summed.family != every.family:
            found.append("sums")
        holes = counts.missing[cells.kind, mine.k]
        labels = counts.table.grouping.labels[counts.table.order][counts.cluster[cells.kind[holes]]]
        design = np.hstack(mine.design(counts, cells.some(holes)))
        own = sums(labels, design, 0 * cells.n[holes], cells.n[holes])
        labels = table.grouping.labels[table.order][rows.hole_cluster]
        design = np.hstack(rows.missing(chain.V, rows.factors(chain.V)))
        if own != sums(labels, design, 0 * labels, 0 * labels + 1):
            found.append("rows to be imputed")
        pairs = [(mine.prior.Q0, theirs.prior.Q0), (mine.prior.t0, theirs.prior.t0)]
        pairs += [(mine.chained.scale.T, theirs.chained.scale.T)]
        if not all(np.allclose(a, b, rtol=1e-12) for a, b in pairs):
            found.append("priors")
        if str(mine.Psi) != str(theirs.Psi) or mine.updates != theirs.updates:
            found.append("priors of Psi")
    return sorted(set(found))


def test_given_the_values_a_visit_sees_the_same_data_and_priors(model, run, frame, folder, monkeypatch):
    """Wrong: cells count once; rows to be imputed are fitted; units are those of distinct rows; completions are dealt
    to rows of another kind."""
    whole, made, cells = in_memory(frame), completed(run), run.cells[0]
    assert model.model.formulas == whole.formulas
    assert gaps(model, cells, made, whole) == []
    once = cells._replace(n=np.minimum(cells.n, 1))
    assert gaps(model, once, made, whole) == ["rows to be imputed", "sums"]
    monkeypatch.setattr(model, "counts", replace(model.counts, missing=model.counts.missing & False))
    assert "sums" in gaps(model, cells, made, whole)
    monkeypatch.undo()
    gone = frame["ill"].isna()
    elsewhere = made.assign(ill=made["ill"].mask(gone, made["ill"][gone].to_numpy()[::-1].repeat(1)[0]))
    assert gaps(model, cells, elsewhere, whole)
    real = fcs.chained_table
    monkeypatch.setattr(fcs, "chained_table", lambda *given, frequency: real(*given))
    assert gaps(partitioned(folder), cells, made, whole) == ["priors", "rows to be imputed", "sums"]


# draws ----------------------------------------------------------------------------------------------


def test_rows_that_are_alike(monkeypatch):
    """Groups in the order of the columns, also where their combinations are more than numbers."""
    columns = np.random.default_rng(1).integers(0, 3, (3, 200))
    wide = columns * np.array([[1], [2**40], [2**30]])
    for first, group in (alike(*columns), alike(*wide)):
        expected, own = np.unique(columns.T, axis=0, return_inverse=True)
        np.testing.assert_array_equal(columns.T[first], expected)
        np.testing.assert_array_equal(group, own.ravel())


def chi_square(found, expected):
    """Upper tail of Pearson's statistic; cells with less than 5 expected are joined."""
    small = expected < 5
    if small.any():
        found = np.append(found[~small], found[small].sum())
        expected = np.append(expected[~small], expected[small].sum())
    return chi2.sf(((found - expected) ** 2 / expected).sum(), len(found) - 1)


def some_cells(n):
    return CountCells(np.zeros(1, np.int64), np.zeros((1, 1), np.int64), np.array([n]))


@pytest.mark.parametrize("n", [7, 4_000])
@pytest.mark.parametrize("family, eta", [(LOGIT, 0.4), (POISSON, -0.3), (POISSON, 2.5)])
def test_splits_are_multinomial(n, family, eta):
    """Totals of many splits, and the variance of the first count between them; level 1e-5 for each of 12.

    Wrong: all rows of a cell get one value, which has the right means.
    """
    rng, times = np.random.default_rng(2), 200
    p = np.array([1 - expit(eta), expit(eta)]) if family == LOGIT else poisson.pmf(np.arange(60), np.exp(eta))
    found = np.zeros((times, len(p)))
    for k in range(times):
        made = split(rng, some_cells(n), 0, family, np.array([eta]))
        found[k, made.y[:, 0]] = made.n
        assert made.n.sum() == n and (made.n > 0).all() and len(set(made.y[:, 0].tolist())) == len(made.n)
    assert chi_square(found.sum(axis=0), times * n * p) > 1e-5
    value = int(np.argmax(p))
    ratio = ((found[:, value] - n * p[value]) ** 2).sum() / (n * p[value] * (1 - p[value]))
    assert 1e-5 < chi2.sf(ratio, times) < 1 - 1e-5
    one = n * (rng.random(times) < p[value])
    assert chi2.sf(((one - n * p[value]) ** 2).sum() / (n * p[value] * (1 - p[value])), times) < 1e-12


def test_splits_by_shares():
    shares = np.array([[0.2, 0.0, 0.8]])
    made = split_by_shares(np.random.default_rng(1), some_cells(10_000), 0, shares)
    assert made.y[:, 0].tolist() == [0, 2] and chi_square(made.n, 10_000 * shares[0, [0, 2]]) > 1e-4


def test_completions_are_dealt_without_replacement(monkeypatch):
    """All completions of a kind are used; every row gets each of them equally often; level 1e-5, one test.

    Wrong: the rows of a kind get its completions in order.
    """
    rows, d, missing = 9, 2, np.ones((4, 3), dtype=bool)
    halves = CountCells(np.array([d, d]), np.eye(2, 3, dtype=np.int64), np.array([1, rows - 1]))

    def places(times=600):
        """How often each row got the completion that there is once."""
        found = np.zeros(rows)
        for seed in range(times):
            hand = fcs_result._Hand(halves, missing, seed, 0)
            y = hand.deal(np.full(rows, d), 0, np.arange(rows))
            assert (y[:, 0] == 1).sum() == 1
            found += y[:, 0]
        return chi_square(found, np.full(rows, times / rows))

    assert places() > 1e-5
    monkeypatch.setattr(fcs_result, "row_uniforms", lambda seed, k, first, rows, each: np.zeros((rows, each)))
    assert places() < 1e-12


def test_every_completion_is_used(run, frame):
    """Counted row by row, the completed table is the cells of its imputation."""
    for k in range(2):
        made, cells = completed(run, k), run.cells[k]
        kinds = run.model.distinct.frame()
        y = np.column_stack([made["smokes"], made["ill"] == "yes", made["visits"]]).astype(int)
        shown = frame[["g", *VARIABLES]].astype(object)
        key = [tuple(None if pd.isna(v) else v for v in row) for row in shown.itertuples(index=False)]
        own = kinds.astype(object).itertuples(index=False)
        of = {tuple(None if pd.isna(v) else v for v in row): d for d, row in enumerate(own)}
        counted = Counter((of[row], *values) for row, values in zip(key, y.tolist(), strict=True))
        columns = (cells.kind.tolist(), cells.y.tolist(), cells.n.tolist())
        assert counted == {(d, *v): n for d, v, n in zip(*columns, strict=True)}
        seen = frame["visits"].notna()
        np.testing.assert_array_equal(made["visits"][seen], frame["visits"][seen])
        assert made["note"].tolist() == frame["note"].tolist()
    assert not completed(run, 0).equals(completed(run, 1))


# whole runs -----------------------------------------------------------------------------------------


CHAINS = {"m": 40, "cycles": 8, "tune": 2, "seed": 5, "progress": False}
PAIR = ("smokes", "visits")


def by_chain(stats, tree):
    """(m, quantities), chains being independent: means of parameters and imputed values, squared steps of the latter."""
    posterior = tree["posterior"].to_dataset()
    parts = [stats[name].mean("draw").values for name in ("mean", "sd")]
    parts += [posterior[f"beta_{name}"].mean("draw").values for name in PAIR]
    parts += [np.log(posterior[f"Psi_{name}"].values[..., 0, 0]).mean(axis=1)[:, None] for name in PAIR]
    return np.hstack([*parts, np.log((stats["mean"].diff("draw").values ** 2).mean(axis=1))])


def smallest(mine, theirs):
    """The smallest p value of Welch's tests, times their number."""
    a, b = by_chain(*mine), by_chain(*theirs)
    error = np.sqrt(a.var(axis=0, ddof=1) / len(a) + b.var(axis=0, ddof=1) / len(b))
    z = (a.mean(axis=0) - b.mean(axis=0)) / error
    return z.size * 2 * norm.sf(np.abs(z).max())


def together(imp):
    """The tree of a run in memory, with mean and sd of all clusters together."""
    stats, n = imp.tree["imputed_stats"], imp.data.counts.loc[list(PAIR)].to_numpy()
    mean, sd = (stats[name].transpose("chain", "draw", "response", ...).values for name in ("mean", "sd"))
    whole = np.where(n > 0, n * mean, 0).sum(axis=3) / n.sum(axis=1)
    between = np.where(n > 0, n * (mean - whole[..., None]) ** 2, 0)
    squares = (np.where(n > 1, (n - 1) * sd**2, 0) + between).sum(axis=3)
    made = {"mean": whole, "sd": np.sqrt(squares / (n.sum(axis=1) - 1))}
    dims = ("chain", "draw", "response")
    return xr.Dataset({name: (dims, value) for name, value in made.items()}), imp.tree


def test_runs_have_the_distribution_of_those_of_the_rows(tmp_path, monkeypatch):
    """40 chains of 8 cycles each, from starts of the same distribution; level 1e-3 for the smallest of 16 p values.

    Wrong: all rows of a cell get one value (p = 1e-6); cluster effects are left out where values are drawn (2e-7).
    """
    small = simulated(360, 6, seed=4, effects=1.2)[["g", "age", *PAIR]]
    data = bi.IncompleteData(small, "g", FAMILIES)
    theirs = together(bi.FCS(data, bi.methods.Bayes(compatible=False)).impute(**CHAINS))
    files = bi.IncompleteData.from_parquet(written(small, tmp_path / "t"), "g")
    model = bi.PartitionedFCS(files, families=FAMILIES)

    def p():
        run = model.impute(**CHAINS)
        return smallest((run.imputed_stats, run.tree), theirs)

    assert p() > 1e-3
    fill, real = blocks.CountBlock.fill, blocks.split
    for place, name, wrong in (
        (blocks, "split", lambda rng, cells, *more: one_value(real, rng, cells, *more)),
        (blocks.CountBlock, "fill", lambda self, *given: fill(self, *given[:-1], 0 * given[-1])),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(place, name, wrong)
            assert p() < 1e-5, name


def one_value(real, rng, cells, *more):
    """All rows of a cell with the value of one of them."""
    made = real(rng, cells._replace(n=np.ones_like(cells.n)), *more).sorted()
    order = np.lexsort([*np.delete(cells.y, more[0], axis=1).T[::-1], cells.kind])
    own = np.lexsort([*np.delete(made.y, more[0], axis=1).T[::-1], made.kind])
    return CountCells(made.kind[own], made.y[own], cells.n[order])
