"""Missing cells of a joint GLMM against their full conditional, computed longhand (tests/kernels/factors/one_cell.py).

Chi-square tests of discrete variables, Kolmogorov-Smirnov of continuous ones; slices are thinned, so that draws are
nearly independent. A right kernel is rejected with probability LEVEL in each case; wrong variants fall below REJECTED.
"""

import numpy as np
import pytest
from scipy import stats

from bayesimp.kernels.factors.arrays import COUNT, ENUMERATE, GAUSSIAN, SLICE
from tests.calibration.montecarlo import LEVEL, REJECTED
from tests.kernels.factors.one_cell import Case, OneCell, mean, within

ICC = "1 + (1 | g)"
none = lambda d: ()  # noqa: E731
one = lambda d: (1,)  # noqa: E731
own = {name: (ICC, one, one) for name in ("x", "u", "w", "v", "o", "c", "t", "k", "nb", "s", "i", "p", "r", "zk",
                                     "zb", "ln", "yj", "hk", "hb")}  # fmt: skip


def f(text, fixed, random=one):
    return text, fixed, random


def case(target, holes=(), shift=None, row=7, seed=1, strength=0.5, **factors):
    """A case with the variable's own model first, intercept and effect, unless another is given."""
    return Case(target, ({target: own[target]} if target in own and target not in factors else {}) | factors,
                holes, shift or {}, row, seed, strength)  # fmt: skip


XW = f("x * w + (1 | g)", lambda d: (1, d.x, d.w, d.x * d.w))
ORDINAL = f("o + x + (1 | g)", lambda d: (1, d.x, d.o == 1, d.o == 2))
NOMINAL = f("x * c + (1 | g)", lambda d: (1, d.x, d.c == 1, d.c == 2, d.x * (d.c == 1), d.x * (d.c == 2)))

DISCRETE = {
    "binary, product in a normal child, logistic child": (
        case("w", ("y",), x=own["x"], v=f("w + (1 | g)", lambda d: (1, d.w)), y=XW),
        2,
    ),
    "binary with a random slope": (case("w", y=f("w + (w | g)", lambda d: (1, d.w), lambda d: (1, d.w))), 2),
    "binary, its cluster mean": (
        case("w", y=f("w + cluster_mean(w) + (1 | g)", lambda d: (1, d.w, mean(d.w)))),
        2,
    ),
    "binary, centred, times another": (
        case(
            "w",
            x=own["x"],
            seed=3,
            strength=1.0,
            y=f("x:within(w) + (1 | g)", lambda d: (1, d.x * within(d.w))),
        ),
        2,
    ),
    "binary, a child that is missing itself": (
        case(
            "w",
            ("v", "y"),
            seed=4,
            v=f("w + (1 | g)", lambda d: (1, d.w)),
            y=f("w + v + (1 | g)", lambda d: (1, d.w, d.v)),
        ),
        2,
    ),
    "ordinal": (
        case("o", seed=2, x=own["x"], k=f("o + (1 | g)", lambda d: (1, d.o == 1, d.o == 2)), y=ORDINAL),
        3,
    ),
    "nominal": (
        case(
            "c",
            seed=6,
            strength=1.0,
            x=own["x"],
            o=f("c + (1 | g)", lambda d: (1, d.c == 1, d.c == 2)),
            y=NOMINAL,
        ),
        3,
    ),
    "nominal of nominal": (
        case(
            "c",
            y=own["x"],
            o=own["o"],
            x=f("c + (c | g)", lambda d: (1, d.c == 1, d.c == 2), lambda d: (1, d.c == 1, d.c == 2)),
        ),
        3,
    ),
    "levels in nominal and ordinal children": (
        case(
            "o",
            ("c",),
            c=f("o + (1 | g)", lambda d: (1, d.o == 1, d.o == 2)),
            w=f("c + o + (1 | g)", lambda d: (1, d.c == 1, d.c == 2, d.o == 1, d.o == 2)),
        ),
        3,
    ),
    "binomial": (
        case("t", row=12, strength=0.1, y=f("t + I(t**2) + (1 | g)", lambda d: (1, d.t, d.t**2))),
        6,
    ),
    "of clusters": (
        case(
            "z",
            z=f("1", one, none),
            x=f("z + (1 | g)", lambda d: (1, d.z)),
            y=f("z * x + (1 | g)", lambda d: (1, d.z, d.x, d.z * d.x)),
        ),
        2,
    ),
    "shifted": (
        case("w", shift={"w": 1.5, "y": -2.0}, holes=("y",), y=f("w + (1 | g)", lambda d: (1, d.w))),
        2,
    ),
    "poisson": (case("k", y=f("log1p(k) + (1 | g)", lambda d: (1, np.log1p(d.k)))), 60),
    "poisson, counts as children": (
        case(
            "k",
            nb=f("log1p(k) + (1 | g)", lambda d: (1, np.log1p(d.k))),
            y=f("nb + k + (1 | g)", lambda d: (1, d.nb, d.k)),
        ),
        60,
    ),
    "negative binomial": (
        case("nb", y=f("I(log1p(nb)**2) + (1 | g)", lambda d: (1, np.log1p(d.nb) ** 2))),
        150,
    ),
    "zero-inflated": (case("zk", y=f("I(log1p(zk)**2) + (1 | g)", lambda d: (1, np.log1p(d.zk) ** 2))), 60),
    "zero-inflated, overdispersed, zero-inflated child": (
        case(
            "zb",
            zk=f("log1p(zb) + (1 | g)", lambda d: (1, np.log1p(d.zb))),
            y=f("zk + (1 | g)", lambda d: (1, d.zk)),
        ),
        150,
    ),
    "hurdle": (case("hk", y=f("I(log1p(hk)**2) + (1 | g)", lambda d: (1, np.log1p(d.hk) ** 2))), 60),
    "hurdle, overdispersed, hurdle child": (
        case(
            "hb",
            hk=f("log1p(hb) + (1 | g)", lambda d: (1, np.log1p(d.hb))),
            y=f("hk + (1 | g)", lambda d: (1, d.hk)),
        ),
        150,
    ),
    "count in a cluster mean": (
        case("k", y=f("k + cluster_mean(k) + (1 | g)", lambda d: (1, d.k, mean(d.k)))),
        60,
    ),
}

NUMBERS = {
    "normal children": (
        case(
            "x",
            w=own["w"],
            u=f("x + (1 | g)", lambda d: (1, d.x)),
            y=f("x * w + u + (x | g)", lambda d: (1, d.w, d.u, d.x, d.x * d.w), lambda d: (1, d.x)),
        ),
        GAUSSIAN,
    ),
    "cluster mean": (
        case("x", seed=2, strength=1.0, y=f("x + cluster_mean(x) + (1 | g)", lambda d: (1, d.x, mean(d.x)))),
        GAUSSIAN,
    ),
    "within": (
        case(
            "x",
            ("y",),
            y=f("within(x) + (within(x) | g)", lambda d: (1, within(d.x)), lambda d: (1, within(d.x))),
        ),
        GAUSSIAN,
    ),
    "within, times another": (
        case(
            "x",
            w=own["w"],
            seed=2,
            strength=3.0,
            y=f(
                "x + within(x):w + (within(x):w | g)",
                lambda d: (1, d.x, d.w * within(d.x)),
                lambda d: (1, d.w * within(d.x)),
            ),
        ),
        GAUSSIAN,
    ),
    "within, times its mean": (
        case(
            "x",
            strength=1.0,
            y=f(
                "cluster_mean(x) * within(x) + (1 | g)",
                lambda d: (1, mean(d.x), within(d.x), mean(d.x) * within(d.x)),
            ),
        ),
        SLICE,
    ),
    "two means": (
        case(
            "x",
            u=own["u"],
            seed=2,
            strength=1.0,
            y=f("x + cluster_mean(u):cluster_mean(x) + (1 | g)", lambda d: (1, d.x, mean(d.u) * mean(d.x))),
        ),
        GAUSSIAN,
    ),
    "mean of a product": (
        case(
            "x",
            w=own["w"],
            strength=1.5,
            y=f("w + x + w:cluster_mean(x:w) + (1 | g)", lambda d: (1, d.w, d.x, d.w * mean(d.x * d.w))),
        ),
        GAUSSIAN,
    ),
    "normal, shifted": (
        case("x", ("y",), shift={"x": 2.0, "y": -1.0}, y=f("x + (1 | g)", lambda d: (1, d.x))),
        GAUSSIAN,
    ),
    "normal of clusters": (
        case("zn", zn=f("1", one, none), y=f("zn + (zn | g)", lambda d: (1, d.zn), lambda d: (1, d.zn))),
        GAUSSIAN,
    ),
    "poisson child": (
        case("x", k=f("x + (1 | g)", lambda d: (1, d.x)), y=f("k + x + (1 | g)", lambda d: (1, d.k, d.x))),
        SLICE,
    ),
    "square": (case("x", y=f("x + I(x**2) + (1 | g)", lambda d: (1, d.x, d.x**2))), SLICE),
    "square of a mean's variable": (
        case(
            "x",
            seed=2,
            strength=1.0,
            y=f("x + cluster_mean(I(x**2)) + (1 | g)", lambda d: (1, d.x, mean(d.x**2))),
        ),
        SLICE,
    ),
    "logistic and ordinal children": (
        case(
            "x",
            w=f("x + (1 | g)", lambda d: (1, d.x)),
            o=f("w + x + (1 | g)", lambda d: (1, d.w, d.x)),
            y=own["x"],
        ),
        SLICE,
    ),
    "comparison": (case("x", y=f("x + I(x > 1) + (1 | g)", lambda d: (1, d.x, d.x > 1))), SLICE),
    "gamma": (case("s", y=f("log(s) + (1 | g)", lambda d: (1, np.log(d.s)))), SLICE),
    "gamma, gamma child": (
        case(
            "s",
            i=f("log(s) + (1 | g)", lambda d: (1, np.log(d.s))),
            y=f("I(1 / s) + (1 | g)", lambda d: (1, 1 / d.s)),
        ),
        SLICE,
    ),
    "lognormal": (case("ln", y=f("sqrt(ln) + (1 | g)", lambda d: (1, np.sqrt(d.ln)))), SLICE),
    "lognormal child": (
        case(
            "x",
            ln=f("x + (1 | g)", lambda d: (1, d.x)),
            y=f("log(ln) + (1 | g)", lambda d: (1, np.log(d.ln))),
        ),
        SLICE,
    ),
    "beta": (case("p", y=f("p + I(p**2) + (1 | g)", lambda d: (1, d.p, d.p**2))), SLICE),
    "beta, beta child of a number": (
        case("x", p=f("x + (1 | g)", lambda d: (1, d.x)), y=f("p + (1 | g)", lambda d: (1, d.p))),
        SLICE,
    ),
    "student": (case("r", y=f("r + I(r**2) + (1 | g)", lambda d: (1, d.r, d.r**2))), SLICE),
    "student, shifted, student child of a number": (
        case(
            "x",
            r=f("x + (1 | g)", lambda d: (1, d.x)),
            y=f("r + (1 | g)", lambda d: (1, d.r)),
            shift={"x": 2.0},
        ),
        SLICE,
    ),
    "yeo-johnson": (case("yj", y=f("yj + I(yj**2) + (1 | g)", lambda d: (1, d.yj, d.yj**2))), SLICE),
    "yeo-johnson, shifted, yeo-johnson child of a number": (
        case(
            "x",
            yj=f("x + (1 | g)", lambda d: (1, d.x)),
            y=f("yj + (1 | g)", lambda d: (1, d.yj)),
            shift={"x": 2.0},
        ),
        SLICE,
    ),
    "inverse gaussian": (case("i", y=f("i + (1 | g)", lambda d: (1, d.i))), SLICE),
}


def thin(kind: int) -> int:
    return {ENUMERATE: 1, GAUSSIAN: 1, SLICE: 8, COUNT: 12}[kind]


def enough(kind: int) -> int:
    """Draws; slices and counts take many steps for each."""
    return {ENUMERATE: 3000, GAUSSIAN: 3000, SLICE: 2000, COUNT: 1500}[kind]


@pytest.mark.parametrize("name", DISCRETE)
def test_whole_numbers(name):
    given, levels = DISCRETE[name]
    cell = OneCell(given)
    kind = cell.cells.kind[cell.k]
    assert kind == (COUNT if given.target in ("k", "nb", "zk", "zb", "hk", "hb") else ENUMERATE)
    most = levels if given.target != "t" else int(cell.arrays.trials[cell.rows[0], cell.k]) + 1
    assert cell.p_of_levels(cell.draws(enough(kind), thin(kind)), most) > LEVEL


@pytest.mark.parametrize("name", ["zk", "zb", "hk", "hb"])
def test_a_mode_at_zero_and_one_far_away(name):
    """A mean of forty, and a child for which zero is as good: no count between them is likely."""
    y = f(f"I(log1p({name})**2) + (1 | g)", lambda d: (1, np.log1p(getattr(d, name)) ** 2))
    cell = OneCell(case(name, y=y))
    first = cell.arrays.coefficient[cell.k]
    cell.state.beta[first], cell.state.shape[cell.k] = 3.7, 0.3 if name in ("zk", "hk") else 40.0
    cell.state.beta[-1] = 0.05
    draws = cell.draws(1000, 12)
    assert 0.02 < (draws == 0).mean() < 0.98 and ((draws > 2) & (draws < 12)).mean() < 0.01
    assert cell.p_of_levels(draws, 200) > LEVEL


@pytest.mark.parametrize("name", NUMBERS)
def test_numbers(name):
    given, kind = NUMBERS[name]
    cell = OneCell(given)
    assert cell.cells.kind[cell.k] == kind
    assert cell.p_of_numbers(cell.draws(2000, thin(kind))) > LEVEL


@pytest.mark.parametrize("name", [name for name, (_, kind) in NUMBERS.items() if kind == GAUSSIAN])
def test_mean_and_variance_are_exact(name):
    """The law is normal: three values of it give mean and variance, which the draws have: z-tests and chi-square."""
    cell = OneCell(NUMBERS[name][0])
    draws = cell.draws(4000)
    a, h = draws.mean(), draws.std()
    low, at, high = cell.log_law(np.array([a - h, a, a + h]))
    variance = h**2 / (2 * at - low - high)
    expected = a + variance * (high - low) / (2 * h)
    assert abs(draws.mean() - expected) < stats.norm.isf(LEVEL / 2) * np.sqrt(variance / 4000)
    sum_of_squares = ((draws - expected) ** 2).sum() / variance
    assert min(stats.chi2.cdf(sum_of_squares, 4000), stats.chi2.sf(sum_of_squares, 4000)) > LEVEL / 2


# -- wrong variants ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name, child",
    [("binary, product in a normal child, logistic child", "y"), ("ordinal", "k"), ("nominal", "o"),
     ("zero-inflated, overdispersed, zero-inflated child", "zk"), ("zero-inflated", "y"),
     ("hurdle, overdispersed, hurdle child", "hk"), ("of clusters", "x")],
)  # fmt: skip
def test_a_child_left_out_is_noticed(name, child):
    given, levels = DISCRETE[name]
    cell = OneCell(given)
    cell.without_child(child)
    assert cell.p_of_levels(cell.draws(enough(cell.cells.kind[cell.k])), levels) < REJECTED


@pytest.mark.parametrize(
    "name, child",
    [
        ("normal children", "u"),
        ("poisson child", "k"),
        ("gamma, gamma child", "i"),
        ("lognormal child", "ln"),
        ("beta, beta child of a number", "p"),
        ("student, shifted, student child of a number", "r"),
        ("yeo-johnson, shifted, yeo-johnson child of a number", "yj"),
    ],
)
def test_a_child_of_a_number_left_out_is_noticed(name, child):
    given, kind = NUMBERS[name]
    cell = OneCell(given)
    cell.without_child(child)
    assert cell.p_of_numbers(cell.draws(enough(kind), thin(kind))) < REJECTED


@pytest.mark.parametrize(
    "name", ["cluster mean", "within", "within, times another", "square of a mean's variable"]
)
def test_stale_means_are_noticed(name):
    given, kind = NUMBERS[name]
    cell = OneCell(given)
    cell.cells = cell.cells._replace(mean=np.zeros_like(cell.cells.mean), mean_of=cell.cells.mean_of[:0])
    assert cell.p_of_numbers(cell.draws(enough(kind), thin(kind))) < REJECTED


@pytest.mark.parametrize("name", ["cluster mean", "mean of a product", "two means"])
def test_means_that_move_one_row_only_are_noticed(name):
    cell = OneCell(NUMBERS[name][0])
    cell.cells = cell.cells._replace(wide=np.zeros_like(cell.cells.wide))
    assert cell.p_of_numbers(cell.draws(3000)) < REJECTED


@pytest.mark.parametrize("name", ["gamma", "inverse gaussian", "gamma, gamma child", "lognormal"])
def test_the_jacobian_of_the_logarithm_is_noticed(name):
    cell = OneCell(NUMBERS[name][0])
    draws = cell.draws(enough(SLICE), thin(SLICE))
    assert cell.p_of_numbers(draws, tilt=lambda v: -np.log(v)) < REJECTED
    assert cell.p_of_numbers(draws) > LEVEL


def test_the_jacobian_of_the_logit_is_noticed():
    cell = OneCell(NUMBERS["beta"][0])
    draws = cell.draws(enough(SLICE), thin(SLICE))
    assert cell.p_of_numbers(draws, tilt=lambda v: -np.log(v * (1 - v))) < REJECTED
    assert cell.p_of_numbers(draws) > LEVEL


@pytest.mark.parametrize("name", ["normal children", "poisson child"])
def test_effects_of_another_cluster_are_noticed(name):
    given, kind = NUMBERS[name]
    cell = OneCell(given)
    right = cell.state.B.copy()
    cell.state.B[:] = np.roll(right, 1, axis=0)
    draws = cell.draws(enough(kind), thin(kind))
    cell.state.B[:] = right
    assert cell.p_of_numbers(draws) < REJECTED


def test_a_shift_left_out_is_noticed():
    cell = OneCell(NUMBERS["normal, shifted"][0])
    cell.spoiled_arrays(offset=np.zeros_like(cell.arrays.offset))
    assert cell.p_of_numbers(cell.draws(3000)) < REJECTED


# -- what is left behind ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*DISCRETE, *NUMBERS])
def test_columns_and_means_follow_the_cell(name):
    """After a draw, X and M are what recomputing them would give."""
    from bayesimp.kernels.factors.columns import all_columns, all_means

    cell = OneCell((DISCRETE | NUMBERS)[name][0])
    cell.draws(3)
    tab, state = cell.model.table, cell.state
    M, X = np.empty_like(state.M), np.empty_like(state.X)
    all_means(tab.means, tab.divisor, state.V, tab.arrays.first, M)
    all_columns(tab.programs, state.V, M, tab.arrays.cluster, np.arange(len(X)), X)
    np.testing.assert_array_equal(M, state.M)
    np.testing.assert_array_equal(X, state.X)
