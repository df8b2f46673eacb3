"""`methods.Heckman`: from the parameters to the completed table, what it refuses, and a simulated selection."""

import numpy as np
import pandas as pd
import pytest
from scipy.special import log_ndtr
from scipy.stats import chi2, norm

import bayesimp as bi
from bayesimp import methods as me
from bayesimp import priors as pr
from bayesimp.fcs.blocks import selection
from bayesimp.methods.base import from_dict
from bayesimp.models.selection import SelectionData
from bayesimp.sampling.hmc_block import HmcState
from bayesimp.shift import Shift

M, N = 8, 30
EMPTY = 3  # a cluster without values
PARAMETERS = {"gamma": np.array([0.3, 0.4, -0.9]), "Sigma": np.array([[0.36]]), "rho": np.array(0.7)}
BETA = np.array([[0.2], [-0.5]])


def table(seed=1, rho=0.7, clusters=M, rows=N) -> pd.DataFrame:
    """y is observed where a latent variable that depends on x, w and the error of y is positive; nowhere in EMPTY."""
    rng = np.random.default_rng(seed)
    g = np.repeat(np.arange(clusters), rows)
    n = len(g)
    x, w = 3.0 + 2.0 * rng.normal(size=n), rng.normal(size=n)
    b, v = rng.normal(0, 0.8, clusters), rng.normal(0, 0.3, clusters)
    e, d = rng.multivariate_normal([0, 0], [[1, rho], [rho, 1]], n).T
    y = 10.0 + 1.0 * x + 2.0 * (b[g] + e)
    s = 0.4 + 0.2 * (x - 3) + 1.0 * w + 0.4 * b[g] + v[g] + d
    return pd.DataFrame({"g": g, "x": x, "w": w, "full": y, "y": np.where((s > 0) & (g != EMPTY), y, np.nan)})


def model(frame, method, **options) -> bi.FCS:
    data = bi.IncompleteData(frame.drop(columns="full"), cluster="g")
    return bi.FCS(data, {"y": method}, {"y": "~ x + w + (1 | g)"}, compatible=False, **options)


class Known:
    """Instead of the compiled model: records the rows, and returns known parameters."""

    made: "list[Known]" = []
    structure = None

    def __init__(self, data, priors, outcome, rho, transitions, normal):
        self.normal, self.priors, self.rho, self.made_transitions = normal, priors, rho, []
        self.data, self.outcome, self.transitions = data, outcome, transitions
        rng = np.random.default_rng(5)
        self.b, self.c = rng.normal(0, 0.5, (data.clusters, 1)), rng.normal(0, 0.5, data.clusters)
        Known.made.append(self)

    def adapt(self, rng, data): ...

    def arrays(self, data):
        return ()

    def start_near_mean(self, rng, arrays):
        return HmcState(np.zeros(1))

    def transition(self, rng, state, arrays, count):
        self.made_transitions.append(count)

    def natural(self, state, data):
        gamma = np.resize(PARAMETERS["gamma"], len(data.fixed))
        return PARAMETERS | {
            "gamma": gamma,
            "beta": BETA,
            "Psi": np.array([[0.25]]),
            "b": self.b,
            "c": self.c,
        }


def test_imputed_values_are_those_of_the_parameters(monkeypatch):
    """Means of 600 draws in every row against E y = mu + sigma rho E(d | d < -eta), in standard errors.

    The sum of squared z has a chi-squared distribution; level 1e-4. Wrong variants are below 1e-12.
    """
    monkeypatch.setattr(selection, "SelectionConditional", Known)
    frame, m = table(), 600
    imp = model(frame, me.Heckman(excluded=("w",))).impute(m, cycles=1, seed=2, progress=False)
    known, holes = Known.made[-1], frame["y"].isna().to_numpy()
    data = known.data

    # the rows of the model: observed ones, then missing ones of clusters with values
    n, inside = int((~holes).sum()), holes & (frame["g"] != EMPTY).to_numpy()
    assert known.outcome == [0, 1] and data.fixed == ("Intercept", "x", "w")
    assert data.observed.sum() == n and len(data.y) == n + inside.sum()
    order = np.argsort(frame["y"].to_numpy()[~holes])
    mine = np.argsort(data.y[:n])
    to_working = {}
    for name, values in (("y", data.y[:n]), ("x", data.X[:n, 1]), ("w", data.X[:n, 2])):
        there = frame[name].to_numpy()[~holes][order]
        to_working[name] = np.polyfit(there, values[mine], 1)
        assert np.allclose(np.polyval(to_working[name], there), values[mine])
    codes = pd.Series(data.cluster[:n][mine]).groupby(frame["g"].to_numpy()[~holes][order]).unique()
    assert codes.map(len).eq(1).all()  # clusters are renumbered
    code = np.full(M, (set(range(M)) - set(codes.map(min))).pop())
    code[codes.index] = codes.map(min)
    assert sorted(data.X[n:, 2]) == pytest.approx(sorted(np.polyval(to_working["w"], frame["w"][inside])))

    # the law of the values
    x, w = (np.polyval(to_working[name], frame[name][holes]) for name in ("x", "w"))
    g, sigma, rho = frame["g"].to_numpy()[holes], 0.6, 0.7
    mu = BETA[0, 0] + BETA[1, 0] * x + known.b[code[g], 0]
    eta = np.column_stack([np.ones(len(x)), x, w]) @ PARAMETERS["gamma"] + known.c[code[g]]
    drawn = np.array([imp.frame(k)["y"].to_numpy()[holes] for k in range(m)])
    mean, error = (
        np.polyval(to_working["y"], drawn.mean(axis=0)),
        drawn.std(axis=0) / np.sqrt(m) * to_working["y"][0],
    )

    def p_value(mu, eta, rho, selected):
        of_d = np.where(selected, -np.exp(norm.logpdf(eta) - log_ndtr(-eta)), 0.0)
        return chi2(len(mu)).sf((((mean - mu - sigma * rho * of_d) / error) ** 2).sum())

    right = g != EMPTY
    assert p_value(mu, eta, rho, right) > 1e-4
    assert p_value(mu, eta, -rho, right) < 1e-12
    assert p_value(mu, eta, rho, True) < 1e-12  # the empty cluster as if selected
    assert p_value(mu, eta - known.c[code[g]], rho, right) < 1e-12
    assert p_value(mu - known.b[code[g], 0], eta, rho, right) < 1e-12
    assert p_value(mu, eta - PARAMETERS["gamma"][2] * w, rho, right) < 1e-12
    assert set(imp.tree["posterior"].data_vars) >= {"rho_y", "beta_y", "sigma2_y", "Psi_y"}
    beta = imp.tree["posterior"]["beta_y"]
    assert float(abs(beta.sel(predictor_y="w") if "predictor_y" in beta.dims else beta[..., -1]).max()) == 0.0


def test_priors_reach_the_model_on_its_scale(monkeypatch):
    """Standard deviations divided by that of y; beta ~ N(mean, 4), of the columns that are not excluded, carried over:

    y = s_y y' + c_y and x = s_x x' + c_x, so  beta'_0 = (beta_0 + beta_1 c_x - c_y) / s_y,  beta'_1 = beta_1 s_x / s_y.
    """
    monkeypatch.setattr(selection, "SelectionConditional", Known)
    frame, mean = table(), np.array([3.0, 0.5, -2.0])
    sds = pr.Diagonal(pr.HalfT(scale=4.0)), pr.Diagonal(pr.HalfT(scale=6.0))
    method = me.Heckman("w", 0.4, pr.Priors(*sds, pr.Normal(mean[:, None], 2.0)), transitions=5)
    model(frame, method).impute(1, cycles=2, seed=1, progress=False)
    known, seen = Known.made[-1], frame["y"].notna().to_numpy()
    (s_y, c_y), (s_x, c_x) = (
        np.polyfit(np.sort(working[: seen.sum()]), np.sort(frame[name][seen]), 1)
        for name, working in (("y", known.data.y), ("x", known.data.X[:, 1]))
    )
    assert known.rho == 0.4 and set(known.made_transitions) == {5}
    scales = [float(np.ravel(each.variances.scale)[0]) for each in (known.priors.Sigma, known.priors.Psi)]
    assert scales == pytest.approx([4.0 / s_y, 6.0 / s_y])
    J = np.array([[1.0, c_x], [0.0, s_x]]) / s_y
    Q0, t0 = known.normal
    np.testing.assert_allclose(np.linalg.inv(Q0), 4.0 * J @ J.T, rtol=1e-8)
    np.testing.assert_allclose(np.linalg.solve(Q0, t0), J @ mean[:2] - [c_y / s_y, 0.0], rtol=1e-8)


def test_without_an_intercept_y_keeps_its_origin(monkeypatch):
    """In the model, and in the table: y = s_y (x' beta + b_i), all columns in units without an origin."""
    monkeypatch.setattr(selection, "SelectionConditional", Known)
    monkeypatch.setattr(selection, "draw_missing", lambda rng, mu, eta, sigma, rho: mu)
    frame = table()
    data = bi.IncompleteData(frame.drop(columns="full"), cluster="g")
    fcs = bi.FCS(data, {"y": me.Heckman()}, {"y": "~ 0 + x + w + (1 | g)"}, compatible=False)
    imp = fcs.impute(1, cycles=1, seed=1, progress=False)
    known, holes = Known.made[-1], frame["y"].isna().to_numpy()
    n = int((~holes).sum())
    units = []
    for name, working in (("y", known.data.y), ("x", known.data.X[:, 0]), ("w", known.data.X[:, 1])):
        slope, origin = np.polyfit(np.sort(working[:n]), np.sort(frame[name][~holes]), 1)
        assert origin == pytest.approx(0.0, abs=1e-9)
        units.append(slope)
    mu = frame[["x", "w"]][holes].to_numpy() / units[1:] @ BETA[:, 0]
    effect = imp.frame(0)["y"].to_numpy()[holes] / units[0] - mu
    of = pd.Series(effect).groupby(frame["g"].to_numpy()[holes])
    assert of.std().max() < 1e-9 and sorted(of.mean()) == pytest.approx(sorted(known.b[:, 0]))


def test_a_known_correlation_is_that_of_the_draws():
    """Where rho is given, the compiled model has no such parameter, and the values are drawn with the given one."""

    class Compiled:
        def natural(self, theta, *arrays):
            return [np.array([[1.5]])]

    class Structure:
        names, compiled = ["beta"], Compiled()

        def filled(self, **arrays):
            return ()

    made = object.__new__(selection.SelectionConditional)
    made.structure = Structure()
    data = SelectionData("y", *np.zeros((4, 1)), 1, (), (), observed=np.ones(1))
    for rho, names in ((0.4, {"beta", "rho"}), (None, {"beta"})):
        made.rho = rho
        natural = made.natural(HmcState(np.zeros(1)), data)
        assert set(natural) == names and natural["beta"] == 1.5 and natural.get("rho") == rho


def test_ignored_rows_are_imputed_but_not_in_the_model(monkeypatch):
    monkeypatch.setattr(selection, "SelectionConditional", Known)
    frame, ignored = table(), np.arange(M * N) % 4 == 0
    imp = model(frame, me.Heckman(excluded="w"), ignore=ignored).impute(1, cycles=1, seed=2, progress=False)
    data, missing = Known.made[-1].data, frame["y"].isna()
    fitted = ~ignored & (frame["g"] != EMPTY)
    assert data.observed.sum() == (fitted & ~missing).sum() and len(data.y) == fitted.sum()
    assert imp.frame(0)["y"].notna().all()


@pytest.mark.parametrize(
    ("formula", "excluded", "left"),
    [
        ("~ x + arm + (1 | g)", "arm", ["Intercept", "x"]),  # a factor by its name, not by its levels
        ("~ x * w + (1 | g)", "w", ["Intercept", "x"]),
        ("~ x + cluster_mean(w) + (1 | g)", "w", ["Intercept", "x"]),
        ("~ x + I(w ** 2) + (1 | g)", "I(w ** 2)", ["Intercept", "x"]),
        ("~ x + x:w + (1 | g)", "x:w", None),
    ],
)
def test_all_columns_of_an_excluded_variable_leave_the_outcome(formula, excluded, left, monkeypatch):
    monkeypatch.setattr(selection, "SelectionConditional", Known)
    frame = table().drop(columns="full").assign(arm=lambda f: np.resize(["a", "b", "c"], len(f)))
    data = bi.IncompleteData(frame, cluster="g")

    def made():
        return bi.FCS(data, {"y": me.Heckman(excluded)}, {"y": formula}, compatible=False)

    if left is None:  # a product is excluded through its variables
        with pytest.raises(bi.SpecificationError, match="excluded variable 'x:w' has no column"):
            made()
        return
    made().impute(1, cycles=1, seed=1, progress=False)
    known = Known.made[-1]
    assert [known.data.fixed[k] for k in known.outcome] == left
    assert known.normal[0].shape == (len(left), len(left))


def test_shift_moves_imputed_values_only(monkeypatch):
    monkeypatch.setattr(selection, "SelectionConditional", Known)
    frame = table()
    fcs = model(frame, me.Heckman(excluded="w"))
    plain, moved = (
        each.impute(2, cycles=1, seed=2, progress=False).frame(1)["y"]
        for each in (fcs, fcs.with_shift(Shift({"y": -2.0})))
    )
    assert np.allclose(moved - plain, np.where(frame["y"].isna(), -2.0, 0.0))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda: me.Heckman(rho=1.0), "between -1 and 1"),
        (lambda: me.Heckman(excluded=(3,)), "names of variables"),
        (lambda: model(table(), me.Heckman(excluded=("v",))), "excluded variable 'v' has no column"),
        (
            lambda: model(table(), me.Heckman(("Intercept", "x", "w"))),
            "all columns of its formula are excluded",
        ),
        (lambda: model(table(), me.Heckman(), bounds={"y": (0, 50)}), "does not support bounds"),
        (
            lambda: model(table().assign(y=lambda f: f["full"].where(f["g"] > 2)), me.Heckman()),
            "no selection of rows",
        ),
    ],
)
def test_refused(change, words):
    with pytest.raises(bi.SpecificationError, match=words):
        change()


def test_without_an_excluded_variable_an_event_says_so():
    def kinds(method):
        return [event.kind for event in model(table(), method).events]

    assert "selection" in kinds(me.Heckman())
    assert "selection" not in kinds(me.Heckman(excluded="w")) + kinds(me.Heckman(rho=0.5))
    assert from_dict(me.Heckman(excluded="w", rho=0.2).to_dict(), "y") == me.Heckman(excluded=("w",), rho=0.2)


@pytest.mark.slow
def test_selection_is_found_and_mended():
    """400 rows of 10 clusters with rho = .7: rho is found, and the mean that `bayes` overestimates is not.

    rho within 4 posterior sd of .7 and above 0 with probability .99; the mean of y within 4 pooled standard errors of
    that of the complete table, where `bayes` is more than 4 away.
    """
    frame = table(seed=4, clusters=10, rows=100)
    told = {}
    for method in (me.Heckman(excluded="w"), me.Bayes()):
        imp = model(frame, method).impute(20, cycles=40, seed=3, progress=False)
        rows = frame["g"] != EMPTY
        means = np.array([imp.frame(k)["y"][rows].mean() for k in range(imp.m)])
        told[method.name] = (means.mean() - frame["full"][rows].mean()) / (
            means.std() * np.sqrt(1 + 1 / imp.m)
        )
        if method.name == "heckman":
            rho = imp.tree["posterior"]["rho_y"].values[:, 10:]
            assert abs(rho.mean() - 0.7) < 4 * rho.std() and (rho > 0).mean() > 0.99
    assert abs(told["heckman"]) < 4 < told["bayes"]
