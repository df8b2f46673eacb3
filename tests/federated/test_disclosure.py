"""What an adversary can do with cross products of few rows, and that releases do not allow it.

Each attack is first made on unprotected cross products, where it finds the row, and then on a release.
"""

from itertools import combinations, combinations_with_replacement
from math import comb, log2

import numpy as np
import pandas as pd
import pytest

from bayesimp import federated as fed
from bayesimp.errors import DataError, SpecificationError
from bayesimp.federated import disclosure
from bayesimp.federated.disclosure import numbers_released, resolution, rows_needed, withhold
from bayesimp.kernels.normal.statistics import collect
from tests.federated.tables import AGREED, pooled, releases


def products(rows):
    """(d, d) cross products of [1 | rows]."""
    D = np.column_stack([np.ones(len(rows)), rows])
    return D.T @ D


def two_rows(G):
    """The two rows of a cell, from its cross products: mean -+ half of the difference."""
    mean, half = G[0, 1:] / 2, G[1:, 1:] / 2 - np.outer(G[0, 1:], G[0, 1:]) / 4
    k = int(np.argmax(np.diag(half)))
    difference = half[k] / np.sqrt(half[k, k])
    return np.array([mean - difference, mean + difference])


def three_whole_rows(G, steps=20_000):
    """Three rows of whole numbers from their cross products, by the angle at which all numbers are whole."""
    mean = G[0, 1:] / 3
    S = G[1:, 1:] - 3 * np.outer(mean, mean)
    values, vectors = np.linalg.eigh(S)
    root = (vectors[:, -2:] * np.sqrt(np.maximum(values[-2:], 0))).T
    basis = np.array([[1, -1, 0], [1, 1, -2]]) / np.sqrt([[2], [6]])  # orthogonal to the ones
    angle = np.linspace(0, 2 * np.pi, steps)[:, None, None]
    turn = np.concatenate(
        [
            np.concatenate([np.cos(angle), -np.sin(angle)], 2),
            np.concatenate([np.sin(angle), np.cos(angle)], 2),
        ],
        1,
    )
    best, found = np.inf, None
    for mirror in (np.eye(2), np.diag([1.0, -1.0])):
        rows = mean + basis.T @ (turn @ mirror @ root)
        off = np.abs(rows - np.round(rows)).max(axis=(1, 2))
        if off.min() < best:
            best, found = off.min(), np.round(rows[off.argmin()])
    return found


def same_people(a, b):
    return np.allclose(sorted(map(tuple, a)), sorted(map(tuple, b)), rtol=1e-6)


def test_one_two_and_three_rows_are_recovered_where_nothing_protects_them():
    rng = np.random.default_rng(3)
    one, two = rng.normal(50, 10, (1, 4)), rng.normal(50, 10, (2, 4))
    assert same_people(products(one)[:1, 1:], one)
    assert same_people(two_rows(products(two)), two)
    three = rng.integers(20, 90, (3, 3)).astype(float)  # ages, marks
    assert same_people(three_whole_rows(products(three)), three)


def site(sizes, seed=0, columns=("y", "z"), x=True):
    """A table whose clusters have `sizes` rows, all observed."""
    rng = np.random.default_rng(seed)
    g = np.repeat(np.arange(len(sizes)), sizes)
    frame = pd.DataFrame({"g": g, **{name: rng.normal(50, 10, len(g)) for name in columns}})
    return frame.assign(x=rng.normal(size=len(g))) if x else frame


@pytest.mark.parametrize("rows", [1, 2, 3])
def test_cells_of_one_two_and_three_rows_are_not_released(rows):
    """With one variable, the fewest possible; the other cluster is released and says nothing about these rows."""
    agreed = fed.Agreement("y ~ 1 + (1 | g)")
    frame = site([rows, 40], columns=("y",), x=False)
    release = fed.export_site(frame, agreed, "A")
    assert release.clusters == 1 and list(release.rows) == [40] and release.counts["dropped"] == rows
    own = frame.loc[frame.g == 1, "y"]
    assert release.centre[0] == pytest.approx(own.mean(), rel=1e-14)
    assert abs(release.centre[0] - frame["y"].mean()) > 1e-3  # from which the sum of the others would follow
    with pytest.raises(
        DataError, match=r"None of the .* can be released.* needs at least 4 rows, in groups of 3"
    ):
        fed.export_site(frame[frame.g == 0], agreed, "A")


def fitting(n, total, squares, most):
    """All sets of n whole numbers from 0 to most with this sum and sum of squares."""
    some = combinations_with_replacement(range(most + 1), n)
    return [x for x in some if sum(x) == total and sum(k * k for k in x) == squares]


def test_few_whole_numbers_are_found_by_trying_and_are_not_released():
    """Four marks are more than the three released numbers, but few sets of marks fit these."""
    rng = np.random.default_rng(1)
    fours = rng.integers(0, 41, (12, 4)).tolist()
    counts = [len(fitting(4, sum(four), sum(k * k for k in four), 40)) for four in fours]
    assert min(counts) == 1 and max(counts) < 20
    frame = site([4, 60], columns=("y",), x=False)
    frame["y"] = [*map(float, fours[counts.index(1)]), *rng.integers(0, 41, 60)]
    release = fed.export_site(frame, fed.Agreement("y ~ 1 + (1 | g)"), "A")
    assert list(release.rows) == [60] and release.counts["dropped"] == 4
    assert resolution(frame["y"].to_numpy()) == pytest.approx(np.log2(41), abs=0.1) and not resolution(
        np.zeros(3)
    )
    need, counted = rows_needed(1, 3, np.log2(13)), sets_of_marks(17, 12)
    assert need == 17 and counted.sum() == comb(17 + 12, 12)
    some = rng.integers(0, 13, (40, 17))
    assert counted[some.sum(axis=1), (some**2).sum(axis=1)].min() > 100


def sets_of_marks(n, most):
    """How many sets of n whole numbers from 0 to most there are, by their sum and sum of squares."""
    counts = np.zeros((n + 1, n * most + 1, n * most**2 + 1), dtype=np.int64)
    counts[0, 0, 0] = 1
    for x in range(most + 1):
        for k in range(1, n + 1):
            counts[k, x:, x * x :] += counts[k - 1, : n * most + 1 - x, : n * most**2 + 1 - x * x]
    return counts[n]


def test_the_number_of_sets_of_rows_is_counted_exactly():
    for n, bits in [(4, 5.0), (9, 3.0), (2, 0.0)]:
        assert disclosure._sets_of_rows(n, bits) == pytest.approx(
            log2(comb(n + 2 ** int(bits) - 1, n)), abs=1e-9
        )
    below, above = (disclosure._sets_of_rows(20, disclosure.MOST_BITS + e) for e in (0.0, 1e-6))
    assert above == pytest.approx(below, rel=1e-5)
    needed = [rows_needed(2, 3, bits) for bits in (3.0, 5.0, 8.0, 12.0, 30.0)]
    assert needed == sorted(needed, reverse=True) and needed[-1] == 7 and needed[0] > 50


@pytest.mark.parametrize("v", [1, 2, 3, 6])
def test_a_cell_has_more_rows_than_numbers(v):
    """Other rows, rotations of the centred ones, therefore have the same cross products."""
    agreed = fed.Agreement(" + ".join(f"y{k}" for k in range(v)) + " ~ 1 + (1 | g)")
    need = numbers_released(v) + 1
    frame = site([need, need - 1, need + 5, 300], columns=[f"y{k}" for k in range(v)], x=False)
    release = fed.export_site(frame, agreed, "A")
    whole = release.patterns.all(axis=1)
    assert set(release.rows[whole]) == {need, need + 5, 300}  # the other cluster has fewer variables, or rows
    assert (release.rows > [numbers_released(int(pattern.sum())) for pattern in release.patterns]).all()
    rng = np.random.default_rng(1)
    rows = frame.loc[frame.g == 0, agreed.responses].to_numpy()
    away = np.linalg.svd(np.ones((1, need)))[2][1:].T  # orthogonal to the ones
    turn = np.linalg.qr(rng.normal(size=(need - 1, need - 1)))[0]
    others = rows.mean(axis=0) + away @ turn @ away.T @ (rows - rows.mean(axis=0))
    np.testing.assert_allclose(products(others), products(rows), rtol=1e-9)
    assert np.abs(np.sort(others, axis=0) - np.sort(rows, axis=0)).max() > 1


# groups ---------------------------------------------------------------------------------------------


def test_an_indicator_of_one_row_gives_that_row_and_is_not_released():
    """x'y of a column that is 1 in one row is that row's y."""
    frame = site([60, 60], columns=("y",))
    frame["arm"] = "control"
    frame.loc[[5, 70, 71, 80], "arm"] = ["low", "high", "low", "low"]
    frame.loc[frame.index % 3 == 0, "arm"] = "high"
    frame.loc[5, "arm"] = "low"  # the only one in cluster 0
    D = np.column_stack([frame["x"], frame["arm"] == "low"])
    st = collect(D, np.empty((120, 0)), frame[["y"]].to_numpy(), frame["g"].to_numpy(), 2)
    G = st.gram[0]
    assert G[2, 2] == 1 and G[2, 3] == frame.loc[5, "y"] and G[2, 1] == frame.loc[5, "x"]
    release = fed.export_site(
        frame, fed.Agreement("y ~ x + arm + (1 | g)", {"arm": ("control", "low", "high")}), "A"
    )
    assert release.counts["small groups"] > 0
    check_groups(release, ["arm[low]", "arm[high]"])


def check_groups(release, indicators, minimum=3):
    """In every cell, columns of zeros and ones, pairs of them, and their complements count no row or enough rows."""
    places = [1 + release.covariates.index(name) for name in indicators]
    for G in release.products:
        n, centre = G[0, 0], release.centre[np.array(places) - 1]
        sums = {k: G[0, k] + n * c for k, c in zip(places, centre, strict=True)}
        both = {
            (j, k): G[j, k] + centre[a] * G[0, k] + centre[b] * G[0, j] + n * centre[a] * centre[b]
            for (a, j), (b, k) in combinations(enumerate(places), 2)
        }
        counts = [*sums.values(), *both.values(), *(n - s for s in sums.values())]
        counts += [sums[j] - c for (j, _), c in both.items()] + [sums[k] - c for (_, k), c in both.items()]
        counts += [n - sums[j] - sums[k] + c for (j, k), c in both.items()]
        assert all(round(c) == 0 or round(c) >= minimum for c in counts), counts


def two_binary(seed):
    rng = np.random.default_rng(seed)
    n = 400
    frame = pd.DataFrame({"g": rng.integers(0, 4, n), "y": rng.normal(size=n), "z": rng.normal(size=n)})
    frame["b"], frame["c"] = (rng.random(n) < 0.15).astype(int), (rng.random(n) < 0.2).astype(int)
    frame.loc[rng.random(n) < 0.2, "y"] = np.nan
    frame.loc[rng.random(n) < 0.2, "z"] = np.nan
    return frame


def test_pairs_of_binary_columns_count_no_small_groups(monkeypatch):
    agreed = fed.Agreement("y + z ~ b + c + (1 | g)")
    for seed in range(5):
        check_groups(fed.export_site(two_binary(seed), agreed, "A"), ["b", "c"])
        check_groups(fed.export_site(two_binary(seed), agreed, "A", minimum=6), ["b", "c"], 6)
    with pytest.raises(AssertionError):  # wrong: pairs are not checked
        monkeypatch.setattr(disclosure, "combinations", lambda *_: [])
        for seed in range(5):
            check_groups(fed.export_site(two_binary(seed), agreed, "A"), ["b", "c"])


def test_a_column_that_is_zero_but_for_one_row_is_an_indicator_of_it():
    frame = site([60], columns=("y",)).assign(x=0.0)
    frame.loc[7, "x"] = 3.5
    frame = pd.concat([frame, site([60], 1, columns=("y",)).assign(g=1)], ignore_index=True)
    release = fed.export_site(frame, fed.Agreement("y ~ x + (1 | g)"), "A")
    assert release.counts["small groups"] == 1
    own = release.products[release.cell_cluster == 0][0]
    assert own[0, 0] == 59
    zero = own[1, 1] + 2 * release.centre[0] * own[0, 1] + 59 * release.centre[0] ** 2
    assert zero == pytest.approx(0, abs=1e-9)


def test_binary_responses_are_refused():
    frame = site([40, 40]).assign(y=lambda f: (f.y > 50).astype(float))
    with pytest.raises(DataError, match=r"'y' has only two values, 0 and 1, .* not a normal variable"):
        fed.export_site(frame, fed.Agreement("y + z ~ x + (1 | g)"), "A")


@pytest.mark.parametrize("minimum", [2, 0, -1, 2.5, None, True])
def test_the_minimum_goes_up_only(minimum):
    with pytest.raises(SpecificationError, match="minimum"):
        fed.export_site(site([40]), fed.Agreement("y + z ~ x + (1 | g)"), "A", minimum=minimum)


# two releases ---------------------------------------------------------------------------------------


def test_the_difference_of_two_releases_is_a_row_and_one_table_has_one_release():
    """A second, different release is therefore refused: tests/federated/test_site_commands.py."""
    frame, zero = site([60, 60]), np.zeros(3)
    agreed = fed.Agreement("y + z ~ x + (1 | g)")
    before = fed.export_site(frame, agreed, "A", centre=zero)
    after = fed.export_site(frame.drop(index=17), agreed, "A", centre=zero)
    difference = (before.products - after.products)[0]
    np.testing.assert_allclose(difference[0, 1:], frame.loc[17, ["x", "y", "z"]].astype(float), rtol=1e-9)
    holes = pooled(rows=40)
    first, again = (releases(holes)[0] for _ in range(2))
    assert first.masked != dict.fromkeys(first.masked, 0) and first.sha256 == again.sha256


# what withholding does to inference ------------------------------------------------------------------


def few_missing(seed=2, clusters=300, rows=24):
    """y always observed; z missing where y is large: at random, in few rows of each cluster."""
    rng = np.random.default_rng(seed)
    codes = np.repeat(np.arange(clusters), rows)
    y = rng.normal(size=len(codes))
    seen = np.column_stack([np.ones(len(y), dtype=bool), y < 1.6])
    return codes, y, seen


def kept_of(codes, y, seen):
    Y = np.where(seen, np.column_stack([y, y]), np.nan)
    return withhold(seen, codes, np.empty((len(y), 0)), Y, [], 3, np.random.default_rng(0))


def z_of_mean(y):
    return y.mean() / (y.std() / np.sqrt(len(y)))


def test_small_cells_are_enlarged_without_selecting_rows():
    """z is missing where y is large: without these rows the mean of y would be too small."""
    codes, y, seen = few_missing()
    kept = kept_of(codes, y, seen)
    assert kept.dropped == 0 and kept.released == len(y) and kept.observed[:, 0].all()
    assert abs(z_of_mean(y[kept.observed[:, 0]])) < 4
    _, cell, count = np.unique(codes * 2 + seen[:, 1], return_inverse=True, return_counts=True)
    dropped = count[cell] >= rows_needed(1, 3)  # wrong: cells that are too small are dropped
    assert z_of_mean(y[dropped]) < -6
    # few values are lost: no more than twice what the small cells lack
    lacking = np.maximum(rows_needed(1, 3) - np.bincount(codes, ~seen[:, 1]), 0)[
        np.bincount(codes, ~seen[:, 1]) > 0
    ]
    assert kept.masked[0] == 0 and lacking.sum() <= kept.masked[1] <= 2 * lacking.sum()


def test_nothing_is_withheld_where_cells_are_large():
    frame = pooled()
    for release in releases(frame):
        assert release.counts["released"] + release.counts["empty"] == release.counts["rows"]
        assert sum(release.masked.values()) == 0 and not [e for e in release.events if e.kind != "absent"]


def test_every_released_cell_keeps_the_rule_whatever_is_missing():
    rng = np.random.default_rng(8)
    for _ in range(25):
        n, r, v = int(rng.integers(30, 200)), int(rng.integers(1, 5)), int(rng.integers(0, 3))
        seen = rng.random((n, r)) > rng.random(r) * 0.6
        codes = np.sort(rng.integers(0, int(rng.integers(1, 5)), n))
        X = rng.normal(size=(n, v))
        Y = np.where(seen, rng.normal(size=(n, r)), np.nan)
        kept = withhold(seen, codes, X, Y, [rng.integers(0, 3, n)], 3, rng)
        assert not (kept.observed & ~seen).any()
        _, cell, count = np.unique(
            np.column_stack([codes, kept.observed]), axis=0, return_inverse=True, return_counts=True
        )
        there = kept.observed.any(axis=1)
        needed = [rows_needed(v + int(k), 3) for k in kept.observed.sum(axis=1)]
        assert (count[cell.ravel()] >= needed)[there].all()
        assert kept.released + kept.dropped + kept.of_small_groups + kept.empty == n


def test_a_table_of_which_nothing_can_be_released_is_told_how_many_rows_it_needs():
    frame = pooled(rows=8)
    with pytest.raises(
        DataError, match=r"the 32 rows in 4 clusters can be released: with 3 covariate .* at least 16 rows"
    ):
        fed.export_site(frame[frame.site == "A"].drop(columns="site"), AGREED, "A")
