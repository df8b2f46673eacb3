"""Arrays of records read from their addresses in memory: correctly, or refused before."""

import numpy as np
import pytest
from numba import njit

from bayesimp.kernels.chained.moments import BlockArrays, Terms
from bayesimp.kernels.chained.places import places
from bayesimp.kernels.chained.visit import VISIT, Visit, _visit
from bayesimp.kernels.covariance.update import CovarianceUpdate

MAKE = {
    "f": lambda rng, shape: rng.normal(size=shape),
    "i": lambda rng, shape: rng.integers(0, 99, shape),
    "b": lambda rng, shape: rng.random(shape) < 0.5,
}


@njit
def read(places, b):
    return _visit(places, b)


def visit(seed: int) -> Visit:
    """Arrays of kinds and dimensions as in VISIT, all of different shapes; some empty."""
    rng = np.random.default_rng(seed)
    arrays = iter(
        [
            MAKE[kind[0]](rng, tuple(rng.integers(0 if k % 5 else 1, 6, int(kind[1]))))
            for k, kind in enumerate(VISIT.split())
        ]
    )

    def take(count):
        return [next(arrays) for _ in range(count)]

    def update():
        (_, _), rest = take(2), take(2)
        return CovarianceUpdate(int(rng.integers(5)), float(rng.normal()), *rest)

    terms, block = Terms(*take(len(Terms._fields))), BlockArrays(*take(len(BlockArrays._fields)))
    next(arrays)
    return Visit(terms, block, int(rng.integers(1, 9)), update(), update(), *take(2))


def leaves(record):
    return [x for value in record for x in (leaves(value) if isinstance(value, tuple) else [value])]


def test_a_visit_is_read_as_it_was_stored():
    visits = [visit(seed) for seed in range(5)]
    stored = places(visits, VISIT)
    for b, wanted in enumerate(visits):
        found = read(stored.table, b)
        assert type(found) is Visit and type(found.terms) is Terms
        for x, y in zip(leaves(wanted), leaves(found), strict=True):
            np.testing.assert_array_equal(x, y)


@pytest.mark.parametrize(
    "array",
    [
        np.ones((2, 3), order="F"),
        np.ones((2, 6))[:, ::2],
        np.ones((2, 3), dtype=np.float32),
        np.ones((2, 3), dtype=int),
        np.ones(6),
    ],
    ids=["by columns", "with gaps", "float32", "int", "dimensions"],
)
def test_what_the_kernel_could_not_read_is_refused(array):
    with pytest.raises(TypeError, match="array 1 of record 0 must be f2 in C order"):
        places([(np.ones(2), array)], "f1 f2")
