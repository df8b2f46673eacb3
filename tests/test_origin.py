"""Adding a constant to a predictor with a random slope changes the intercept, and nothing else.

The same seed gives the same imputations from x and x + 2000, to round-off, for every engine and method; coefficients and
Psi are those of the same model at another origin,

    beta_0' = beta_0 - 2000 beta_x,    Psi' = (I kron A) Psi (I kron A)',  A = [[1, -2000], [0, 1]]
"""

from dataclasses import fields, is_dataclass, replace
from functools import cache, partial

import numpy as np
import pandas as pd
import pytest
from arviz_stats.base import array_stats
from numpy.testing import assert_allclose

import bayesimp as bi
from bayesimp.data import chained_block, working
from bayesimp.samplers.block_rows import BlockRows
from bayesimp.spec import priors as pr

SHIFT = {"x": 2000.0, "y": -700.0}
FORMULAS = {"y": "y ~ x + w + (1 + x | g)", "x": "x ~ y + w + (1 + y | g)"}
DISCRETE = {
    "bernoulli": lambda eta, rng: (rng.random(len(eta)) < 1 / (1 + np.exp(-eta))).astype(int),
    "poisson": lambda eta, rng: rng.poisson(np.exp(0.5 * eta)),
    "negative_binomial": lambda eta, rng: rng.poisson(np.exp(0.5 * eta) * rng.gamma(3, 1 / 3, len(eta))),
    "gamma": lambda eta, rng: np.exp(0.5 * eta) * rng.gamma(3, 1 / 3, len(eta)),
    "inverse_gaussian": lambda eta, rng: rng.wald(np.exp(0.5 * eta), 3.0),
    "ordinal": lambda eta, rng: np.digitize(eta + rng.logistic(size=len(eta)), [-0.5, 1.0]),
    "categorical": lambda eta, rng: np.digitize(eta + rng.logistic(size=len(eta)), [-0.5, 1.0]),
}


@cache
def base(family="normal"):
    """12 clusters of 15 rows: x, w normal, y of a family with random intercepts and slopes on x; holes in y and x."""
    rng = np.random.default_rng(7)
    g = np.repeat(np.arange(12), 15)
    x, w = rng.normal(0.7, 1.0, len(g)), rng.normal(size=len(g))
    b = rng.normal(size=(12, 2)) * [0.6, 0.5]
    eta = 0.3 + 0.5 * x - 0.3 * w + b[g, 0] + b[g, 1] * x
    y = eta + rng.normal(0, 0.7, len(g)) if family == "normal" else DISCRETE[family](eta, rng)
    frame = pd.DataFrame({"g": [f"g{i}" for i in g], "x": x, "w": w, "y": y})
    frame["y"] = frame["y"].astype(float).mask(rng.random(len(g)) < 0.25)
    return frame


def shifted(frame, by):
    return frame.assign(**{name: frame[name] + constant for name, constant in by.items()})


def origin(by, random):
    """A: effects at the table's columns to those at columns with constants added."""
    A = np.eye(len(random))
    for l, name in enumerate(random):
        A[0, l] -= by.get(name, 0.0)
    return A


def same_but_origin(one, other, by, blocks, tolerance=1e-5):
    """Two runs of FCS."""
    for name in one.imputed_columns:
        assert_allclose(other.values(name) - by.get(name, 0.0), one.values(name), rtol=0, atol=tolerance)
    a, b = one.tree["posterior"].to_dataset(), other.tree["posterior"].to_dataset()
    for block, random in blocks.items():
        if f"beta_{block}" in a:
            beta, moved = a[f"beta_{block}"], b[f"beta_{block}"]
            fixed = [str(name) for name in beta[f"fixed_{block}"].values]
            slopes = [k for k, name in enumerate(fixed) if name != "Intercept"]
            axis = beta.get_axis_num(f"fixed_{block}")
            x, y = (np.moveaxis(v.values, axis, -1) for v in (beta, moved))
            assert_allclose(y[..., slopes], x[..., slopes], rtol=0, atol=tolerance)
            taken = sum(by.get(fixed[k], 0.0) * x[..., k] for k in slopes)
            own = by.get(block, 0.0)
            assert_allclose(y[..., fixed.index("Intercept")], x[..., fixed.index("Intercept")] + own - taken,
                            rtol=0, atol=2e3 * tolerance)  # fmt: skip
        if random and f"Psi_{block}" in a:
            Psi, there = a[f"Psi_{block}"].values, b[f"Psi_{block}"].values
            A = np.kron(np.eye(Psi.shape[-1] // len(random)), np.linalg.inv(origin(by, random)))
            assert_allclose(A @ there @ A.T, Psi, rtol=0, atol=tolerance)
            assert_allclose(there[..., 1, 1], Psi[..., 1, 1], rtol=1e-6, atol=1e-9)


def run(frame, cycles=4, families=None, **options):
    return bi.FCS(bi.IncompleteData(frame, cluster="g", families=families), **options).impute(
        2, cycles=cycles, seed=3, workers=1, progress=False
    )


def short_warm_up(monkeypatch):
    """Of PyMC blocks: in hundreds of transitions of HMC round-off grows to the size of the posterior."""
    from bayesimp.samplers import conditional_pymc, conditional_user, hmc

    short = partial(hmc.adapt, stretches=(3, 3), last=3)
    for module in (conditional_pymc, conditional_user):
        monkeypatch.setattr(module, "adapt", short)


@pytest.mark.parametrize("family", ["normal", "bernoulli"])
def test_pymc_blocks_are_given_the_same_data_and_priors(family, monkeypatch):
    """What is compiled and sampled, without compiling it."""
    from bayesimp.samplers import conditional_hmc as hmc

    given = []
    for name in ("NormalConditional", "UserConditional"):
        monkeypatch.setattr(hmc, name, lambda *arguments, **options: given.append((arguments, options)))
    for frame in (base(family), shifted(base(family), {"x": 2000.0})):
        for priors in (pr.default(), pr.Priors(Psi=pr.LKJ(2.0)), pr.pan()):
            method = bi.methods.PyMC(priors if family == "normal" else replace(priors, beta=pr.Weak()))
            data = bi.IncompleteData(frame, cluster="g", families={"y": family})
            table = bi.FCS(data, methods=method, predictors="y ~ x + (1 + x | g)").table
            block = (hmc.PriorModel if family == "normal" else hmc.GeneralisedModel)(table, 0)
            if family == "normal":
                m = block.moments(hmc._completed(table))[1]
                given[-1] += (m.ZZ, m.ZX, m.ZY, m.XX)
    for one, other in zip(given[:3], given[3:], strict=True):
        a, b = (np.concatenate([np.ravel(x) for x in numbers(record)]) for record in (one, other))
        assert_allclose(b, a, rtol=0, atol=1e-6)


def numbers(record):
    """All arrays and numbers in nested tuples, dictionaries and records."""
    if isinstance(record, np.ndarray | float | int):
        yield record
    elif isinstance(record, dict):
        for value in record.values():
            yield from numbers(value)
    elif isinstance(record, tuple | list):
        for value in record:
            yield from numbers(value)
    elif is_dataclass(record):
        for f in fields(record):
            yield from numbers(getattr(record, f.name))


@pytest.mark.parametrize(
    "method",
    [
        "bayes",
        "iw",
        "2l.norm",
        "ml",
        pytest.param("pymc", marks=pytest.mark.slow),
        "2stage",
        "sti",
        "norm",
        "pmm",
        "2l.pan",
        "2l.jomo",
    ],
)
def test_normal_variables_whose_slope_predictor_is_imputed_too(method, monkeypatch):
    """Both ways round: y with slopes on x, x with slopes on y."""
    short_warm_up(monkeypatch)
    frame = base().assign(x=base()["x"].mask(np.random.default_rng(1).random(180) < 0.2))
    single = method in ("sti", "norm", "pmm")
    random = {} if single else {"y": ["Intercept", "x"], "x": ["Intercept", "y"]}
    formulas = {k: f.split(" + (")[0] if single else f for k, f in FORMULAS.items()}
    if method == "2stage":  # coefficients of all predictors differ between clusters
        formulas = {"y": "y ~ x", "x": "x ~ y"}
    one, other = (run(f, methods=method, predictors=formulas) for f in (frame, shifted(frame, SHIFT)))
    same_but_origin(one, other, SHIFT, random)


@pytest.mark.parametrize(
    ("family", "method"),
    [(family, "bayes") for family in DISCRETE]
    + [("bernoulli", m) for m in ("mlmi", "mlmi-published", "2stage", "sti", "glm")]
    + [pytest.param("bernoulli", "pymc", marks=pytest.mark.slow)]
    + [("poisson", "mlmi"), ("poisson", "2stage")],
)
def test_variables_of_other_families(family, method, monkeypatch):
    short_warm_up(monkeypatch)
    frame, by = base(family), {"x": 2000.0}
    families = {"y": family}
    formula = "y ~ x" if method in ("2stage", "sti", "glm") else "y ~ x + (1 + x | g)"
    one, other = (
        run(f, methods={"y": method}, predictors={"y": formula}, families=families)
        for f in (frame, shifted(frame, by))
    )
    blocks = {} if method in ("sti", "glm") else {"y": ["Intercept", "x"]}
    same_but_origin(one, other, by, blocks)


def test_several_variables_imputed_jointly():
    frame = base().assign(z=0.5 * base()["y"] + np.random.default_rng(2).normal(size=180))
    one, other = (
        run(f, blocks={"both": ["y", "z"]}, predictors={"both": "y + z ~ x + (1 + x | g)"})
        for f in (frame, shifted(frame, {"x": 2000.0}))
    )
    same_but_origin(one, other, {"x": 2000.0}, {"both": ["Intercept", "x"]})


def joint(frame, priors=None):
    frame = frame.assign(z=0.5 * frame["y"] + np.random.default_rng(2).normal(size=180))
    return bi.JointNormal(bi.IncompleteData(frame, cluster="g"), "y + z ~ x + (1 + x | g)", priors)


JOINT_PRIORS = {
    "default": pr.default(), "pan": pr.pan(), "jomo": pr.jomo(), "iw": pr.iw(5.0),
    "diagonal": pr.Priors(Psi=pr.Diagonal()), "lkj": pr.Priors(pr.LKJ(2.0), pr.LKJ(2.0)),
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "sampler"),
    [(name, "gibbs") for name in JOINT_PRIORS if name != "lkj"] + [("default", "nuts"), ("lkj", "nuts")],
)
def test_the_joint_model(name, sampler):
    """NUTS follows the same path until round-off has grown: the first draws."""
    by, options = {"x": 2000.0}, {"gibbs": {"draws": 30, "tune": 5}, "nuts": {"draws": 5, "tune": 5}}[sampler]
    one, other = (
        joint(f, JOINT_PRIORS[name]).impute(
            4, seed=3, chains=2, sampler=sampler, progress=False, workers=1, **options
        )
        for f in (base(), shifted(base(), by))
    )
    tolerance = 1e-5 if sampler == "gibbs" else 1e-3
    assert_allclose(other.values("y"), one.values("y"), rtol=0, atol=tolerance)
    a, b = one.tree["posterior"], other.tree["posterior"]
    assert_allclose(b.beta.values[:, :, 1], a.beta.values[:, :, 1], rtol=0, atol=tolerance)
    A = np.kron(np.eye(2), np.linalg.inv(origin(by, ["Intercept", "x"])))
    assert_allclose(A @ b.Psi.values @ A.T, a.Psi.values, rtol=0, atol=tolerance)
    assert_allclose(b.Sigma.values, a.Sigma.values, rtol=0, atol=tolerance)


# ---------------------------------------------------------------- what the prior says, and where it is told


YEARS = "y ~ year + (1 + year | c)"


@cache
def growth(start, seed=0, slope_sd=6.0):
    """30 clusters of 10 years from `start`, residual sd 5, a quarter of y missing."""
    rng = np.random.default_rng(seed)
    c = np.repeat(np.arange(30), 10)
    t = np.tile(np.arange(10.0), 30)
    y = 20 + 3 * t + rng.normal(0, 10, 30)[c] + rng.normal(0, slope_sd, 30)[c] * t + rng.normal(0, 5, 300)
    y[rng.random(300) < 0.25] = np.nan
    return bi.IncompleteData(
        pd.DataFrame({"c": [f"c{i}" for i in c], "year": t + start, "y": y}), cluster="c"
    )


def slope_sds(engine, start, seed=0):
    if engine == "joint":
        imp = bi.JointNormal(growth(start, seed), YEARS).impute(4, seed=1, draws=400, progress=False)
        return np.sqrt(imp.tree["posterior"]["Psi"].values[..., 1, 1])
    imp = bi.FCS(growth(start, seed), predictors=YEARS).impute(8, seed=1, cycles=100, progress=False)
    return np.sqrt(imp.tree["posterior"]["Psi_y"].values[..., 1, 1])


def contains_the_truth(sds, truth=6.0):
    low, high = np.quantile(sds, [0.005, 0.995])
    return low < truth < high


@pytest.mark.parametrize("engine", ["joint", "fcs"])
def test_slopes_on_years_are_as_large_as_they_are(engine):
    """99 % intervals of 5 tables, from 2015 as from 0; a prior at year 0 says .01 where the truth is 6."""
    assert all(
        contains_the_truth(slope_sds(engine, start, seed)) for start in (0.0, 2015.0) for seed in range(5)
    )


def test_a_prior_at_year_0_takes_the_slopes_away(monkeypatch):
    monkeypatch.setattr(working, "_centre", lambda Z, random: (Z, np.eye(Z.shape[1])))
    assert contains_the_truth(slope_sds("joint", 0.0))
    assert slope_sds("joint", 2015.0).max() < 0.5
    monkeypatch.setattr(chained_block, "_intercept", lambda part: -1)
    assert slope_sds("fcs", 2015.0).max() < 0.5


def test_a_score_of_mean_100_mixes_as_one_of_mean_0():
    """R-hat of Psi: 1.02 or less, 1.2 with the prior at 0."""
    rng = np.random.default_rng(3)
    c = np.repeat(np.arange(20), 15)
    x = rng.normal(0, 15, 300)
    y = 50 + 0.3 * x + rng.normal(0, 4, 20)[c] + rng.normal(0, 0.15, 20)[c] * x + rng.normal(0, 6, 300)
    y[rng.random(300) < 0.3] = np.nan
    data = bi.IncompleteData(pd.DataFrame({"c": c.astype(str), "x": x + 100, "y": y}), cluster="c")
    imp = bi.FCS(data, predictors="y ~ x + (1 + x | c)").impute(20, seed=1, cycles=100, progress=False)
    Psi = imp.tree["posterior"]["Psi_y"].values
    assert max(array_stats.rhat(Psi[..., a, b], method="rank") for a, b in ((0, 0), (0, 1), (1, 1))) < 1.05


@pytest.mark.parametrize("prior", ["fixed", "inverse-Wishart"])
def test_statements_about_psi_itself_keep_their_meaning(prior):
    """Psi fixed, or IW(nu, V) of Psi as it is reported: another origin is another matrix, and then the same model."""
    A = np.kron(np.eye(2), origin({"x": 2000.0}, ["Intercept", "x"]))
    Psi = 0.3 * np.eye(4) + 0.1
    there = A @ Psi @ A.T  # of the effects where x is 2000 larger
    if prior == "fixed":
        one, other = (pr.Priors(Psi=pr.Fixed((S + S.T) / 2)) for S in (Psi, there))
    else:
        B = np.linalg.inv(A)
        one, other = (
            pr.Priors(Psi=pr.InverseWishart(6.0, V, centred=False))
            for V in (np.linalg.inv(Psi), B.T @ np.linalg.inv(Psi) @ B)
        )
    options = {"seed": 3, "chains": 2, "draws": 30, "tune": 5, "progress": False}
    near, far = (
        joint(base(), one).impute(4, **options),
        joint(shifted(base(), {"x": 2000.0}), other).impute(4, **options),
    )
    assert_allclose(far.values("y"), near.values("y"), rtol=0, atol=1e-5)
    if prior == "fixed":
        assert_allclose(near.tree["posterior"].Psi.values, np.broadcast_to(Psi, (2, 30, 4, 4)), rtol=1e-10)
    wrong = joint(shifted(base(), {"x": 2000.0}), one).impute(4, **options)
    assert np.abs(wrong.values("y") - near.values("y")).max() > 0.01


def test_an_inverse_wishart_prior_at_a_far_origin_is_said():
    iw = pr.Priors(Psi=pr.InverseWishart(None, 1.0, centred=False))
    notes = {}
    for start in (0.0, 2015.0):
        for engine in (
            bi.JointNormal(growth(start), YEARS, iw),
            bi.FCS(growth(start), methods=bi.methods.Bayes(iw), predictors=YEARS),
        ):
            imp = engine.impute(
                1,
                seed=1,
                progress=False,
                **({"draws": 2} if "Joint" in type(engine).__name__ else {"cycles": 2}),
            )
            events = imp.events
            notes[start, type(engine).__name__] = list(
                events.loc[events["kind"] == "prior matters", "message"]
            )
    assert notes[0.0, "JointNormal"] == notes[0.0, "FCS"] == []
    for engine in ("JointNormal", "FCS"):
        (text,) = notes[2015.0, engine]
        for word in ("year = 0", "year = 2019.5", "1.36e+05", "Centre the column", "centred=False"):
            assert word in text
    assert not (bi.JointNormal(growth(2015.0), YEARS, pr.pan()).events)


def test_the_printed_prior_says_where_it_is():
    text = repr(bi.JointNormal(growth(2015.0), YEARS))
    assert "of the effects at year = 2019.5" in text
    assert "of the effects at" not in repr(bi.JointNormal(growth(2015.0), "y ~ year + (1 | c)"))
    assert "of the effects at" not in repr(bi.JointNormal(growth(2015.0), "y ~ year + (0 + year | c)"))
    assert repr(joint(base())).count(" at x = 0.5") == 1  # two responses, one predictor


def test_without_an_intercept_the_origin_is_part_of_the_model():
    by, options = {"x": 2000.0}, {"seed": 3, "draws": 20, "progress": False}
    one, other = (
        bi.JointNormal(bi.IncompleteData(f, cluster="g"), "y ~ x + (0 + x | g)")
        for f in (base(), shifted(base(), by))
    )
    for model in (one, other):
        assert not model._working.scale.is_centred
    assert np.abs(one.impute(4, **options).values("y") - other.impute(4, **options).values("y")).max() > 0.01


def test_prior_draws_are_at_the_origin_of_what_they_stand_beside():
    """Prior and posterior of one Psi: draws of the prior are C S C', S of the prior at the centre."""
    from bayesimp.diagnostics.components import components
    from bayesimp.diagnostics.prior_draws import draw_covariance

    data = growth(2015.0)
    for model, name, options in (
        (bi.JointNormal(data, YEARS), "Psi", {"draws": 50}), (bi.FCS(data, predictors=YEARS), "Psi_y", {"cycles": 20})
    ):  # fmt: skip
        prior = model.parameter_priors[name]
        S = draw_covariance(np.random.default_rng(0), prior.prior, 2, 4000)
        there = draw_covariance(np.random.default_rng(0), prior, 2, 4000)
        m = data.frame["year"].mean()
        assert_allclose(there[:, 1, 1], S[:, 1, 1], rtol=1e-12)
        assert_allclose(there[:, 0, 0], S[:, 0, 0] - 2 * m * S[:, 0, 1] + m**2 * S[:, 1, 1], rtol=1e-6)
        imp = model.impute(4, seed=1, progress=False, **options)
        shown = components(imp)
        intercept = next(c for key, c in shown.items() if key.startswith("sd between") and "year" not in key)
        assert 0.2 < np.median(intercept.prior) / np.median(intercept.posterior) < 20  # thousands, both
        assert np.median(intercept.posterior) > 5000


def test_the_pymc_model_is_the_same_posterior():
    """Log density of the model in the table's units against the one that is sampled, on the working scale."""
    import pymc as pm

    from bayesimp.kernels.covariance import to_free
    from bayesimp.samplers.joint_density import JointDensity

    for priors in (
        pr.default(),
        pr.Priors(pr.LKJ(2.0), pr.LKJ(2.0)),
        pr.Priors(Psi=pr.InverseWishart(5.0, centred=False)),
    ):
        model = joint(shifted(base(), {"x": 30.0}), priors)
        scale, working = model._working.scale, model._working
        ours = JointDensity(working.statistics, model._working_priors)
        theirs = model.pymc_model()
        values = [theirs.rvs_to_values[v] for v in theirs.free_RVs]
        density = pm.pytensorf.compile(values, theirs.logp(jacobian=False), mode="FAST_COMPILE")
        rng, gaps = np.random.default_rng(1), []
        for _ in range(3):
            at = ours.expand(0.3 * rng.normal(size=ours.size))
            flat = ours.flatten(**at)
            jacobian = sum(_log_jacobian(part, n) for part, n in _parts(ours, flat, at))
            natural = {
                "beta": scale.beta(at["beta"]),
                "Sigma": scale.Sigma(at["Sigma"]),
                "Psi": scale.Psi(at["Psi"]),
            }
            natural["Psi_centred"] = scale.at_centre(natural["Psi"])
            point = (
                natural[v.name]
                if v.ndim < 2 or v.name == "beta"
                else to_free(natural[v.name], not isinstance(priors.Psi, pr.LKJ))
                for v in theirs.free_RVs
            )
            gaps.append(density(*point) - (ours(flat)[0] - jacobian))
        assert_allclose(gaps, gaps[0], atol=1e-5)
        assert ("Psi_centred" in [v.name for v in theirs.free_RVs]) == (
            not isinstance(priors.Psi, pr.InverseWishart)
        )


def _parts(density, flat, at):
    cut = density._cuts
    return ((flat[cut[0] : cut[1]], at["Sigma"]), (flat[cut[1] :], at["Psi"]))


def _log_jacobian(free, S):
    from bayesimp.kernels.covariance import from_free

    return next(
        log_jacobian
        for made, log_jacobian in (
            from_free(np.ascontiguousarray(free), precision) for precision in (True, False)
        )
        if np.allclose(made, S)
    )


@pytest.mark.parametrize("engine", ["joint", "fcs"])
def test_far_from_0_runs_are_kept_and_go_on_exactly(engine, tmp_path):
    if engine == "joint":
        imp = bi.JointNormal(growth(2015.0), YEARS).impute(2, seed=1, chains=2, draws=20, progress=False)
        longer = bi.JointNormal(growth(2015.0), YEARS).impute(4, seed=1, chains=2, draws=40, progress=False)
    else:
        imp = bi.FCS(growth(2015.0), predictors=YEARS).impute(2, seed=1, cycles=6, progress=False)
        longer = bi.FCS(growth(2015.0), predictors=YEARS).impute(4, seed=1, cycles=6, progress=False)
    imp.save(tmp_path / "run.nc")
    for result in (imp, bi.load(tmp_path / "run.nc")):
        more = result.extend(2)
        np.testing.assert_array_equal(more.values("y"), longer.values("y"))
        for name, array in longer.tree["posterior"].data_vars.items():
            np.testing.assert_array_equal(more.tree["posterior"][name].values, array.values)


# ---------------------------------------------------------------- analyses: a matter of digits


@pytest.mark.parametrize(
    ("family", "reml"), [("normal", True), ("normal", False), ("bernoulli", True), ("poisson", True)]
)
def test_analyses(family, reml):
    """Likelihood, slopes, their standard errors and sds between clusters from x and x + 2000."""
    frame = base(family).dropna()
    options = {"family": family, "reml": reml, "cluster": "g"}
    one, other = (
        bi.fit_each([f, f.assign(w=f["w"] + 0.1)], "y ~ x + w + (1 + x | g)", **options)
        for f in (frame, shifted(frame, {"x": 2000.0}))
    )
    assert_allclose(other.loglik, one.loglik, rtol=0, atol=1e-6)
    assert_allclose(other.estimates[:, 1:], one.estimates[:, 1:], rtol=1e-5, atol=1e-6)
    assert_allclose(
        other.estimates[:, 0] + 2000 * other.estimates[:, 1], one.estimates[:, 0], rtol=0, atol=1e-4
    )
    assert_allclose(other.covariances[:, 1:, 1:], one.covariances[:, 1:, 1:], rtol=1e-4, atol=1e-8)
    slope = one.component_names.index("sd(x | g)")
    assert_allclose(other.components[:, slope], one.components[:, slope], rtol=0, atol=1e-5)
    assert_allclose(other.components_cov[:, slope, slope], one.components_cov[:, slope, slope], rtol=1e-3)


# ---------------------------------------------------------------- slopes on products and powers


PRODUCTS = {
    "square": "y ~ x + I(x**2) + (1 + x + I(x**2) | g)",
    "product": "y ~ x * w + (1 + x * w | g)",
    "of a factor": "y ~ x * sex + (1 + x * sex | g)",
}


@cache
def with_products():
    rng = np.random.default_rng(8)
    g = np.repeat(np.arange(20), 20)
    x, w, sex = rng.normal(0.5, 1.0, 400), rng.normal(size=400), rng.random(400) < 0.5
    b = rng.normal(0, 0.5, (20, 3))[g]
    y = x + b[:, 0] + b[:, 1] * x + b[:, 2] * (x**2 + x * w + x * sex) + rng.normal(0, 0.7, 400)
    y[rng.random(400) < 0.2] = np.nan
    return pd.DataFrame({"g": g.astype(str), "x": x, "w": w, "sex": np.where(sex, "M", "F"), "y": y})


def test_what_a_column_contains():
    from bayesimp.data.margins import margins

    names = ("Intercept", "x", "w", "x:w", "I(x ** 2)", "s[M]", "x:s[M]", "I(x - 1 ** 3)", "log(x + 9)", "my age",
             "x:log(x + 9)", "I(my age ** 2)", "x:s[M]:w", "C(s, Treatment(a))[b:c]", "x2")  # fmt: skip
    found = {name: [names[j] for j in part if j] for name, part in zip(names, margins(names), strict=True)}
    assert found.pop("Intercept") == []
    assert {name: part for name, part in found.items() if part} == {
        "x:w": ["x", "w"], "I(x ** 2)": ["x"], "x:s[M]": ["x", "s[M]"], "I(x - 1 ** 3)": ["x"],
        "x:log(x + 9)": ["x", "log(x + 9)"], "I(my age ** 2)": ["my age"],
        "x:s[M]:w": ["x", "w", "x:w", "s[M]", "x:s[M]"],
    }  # fmt: skip
    assert all(0 in part for part in margins(names)[1:])


@pytest.mark.parametrize("name", PRODUCTS)
@pytest.mark.parametrize("engine", ["joint", "fcs", "x imputed"])
def test_slopes_on_products_and_powers(name, engine):
    """The same model at another origin has other coefficients of x and w too, and the same imputations."""
    frame, by = with_products(), {"x": 300.0, "w": -50.0}
    if engine == "x imputed":
        frame = frame.assign(x=frame["x"].mask(np.random.default_rng(4).random(400) < 0.1))
    runs = []
    for table in (frame, shifted(frame, by)):
        data = bi.IncompleteData(table, cluster="g")
        if engine == "joint":
            model = bi.JointNormal(data, PRODUCTS[name])
            runs.append(model.impute(4, seed=2, chains=2, draws=10, tune=5, progress=False))
        else:
            predictors = [PRODUCTS[name], *(["x ~ w + (1 | g)"] if engine == "x imputed" else [])]
            runs.append(bi.FCS(data, predictors=predictors).impute(2, seed=2, cycles=4, progress=False))
        assert not (runs[-1].events["kind"] == "prior matters").any()
    one, other = runs
    assert_allclose(other.values("y"), one.values("y"), rtol=0, atol=1e-4)
    highest = [
        run.tree["posterior"]["Psi" if engine == "joint" else "Psi_y"].values[..., -1, -1] for run in runs
    ]
    assert_allclose(highest[1], highest[0], rtol=1e-4)


@pytest.mark.parametrize("name", PRODUCTS)
@pytest.mark.parametrize("method", ["bayes", "mlmi", "glm", "x imputed", "intercepts"])
def test_products_and_powers_in_models_that_are_not_normal(name, method):
    """Their coefficients have weak priors too, of what is left of a product beside its parts."""
    frame, by = with_products(), {"x": 300.0, "w": -50.0}
    frame = frame.assign(y=(frame["y"] > 1).astype(float).mask(frame["y"].isna()))
    formula, also = PRODUCTS[name], []
    if method in ("glm", "intercepts"):
        formula = formula.split(" + (")[0] + (" + (1 | g)" if method == "intercepts" else "")
    if method == "x imputed":
        frame, also = (
            frame.assign(x=frame["x"].mask(np.random.default_rng(4).random(400) < 0.1)),
            ["x ~ w + (1 | g)"],
        )
    runs = []
    for table in (frame, shifted(frame, by)):
        methods = {"y": method} if method in ("mlmi", "glm") else None
        model = bi.FCS(bi.IncompleteData(table, cluster="g"), methods, predictors=[formula, *also])
        runs.append(model.impute(2, seed=2, cycles=4, progress=False))
    one, other = runs
    np.testing.assert_array_equal(other.values("y"), one.values("y"))
    beta = [run.tree["posterior"].beta_y.values[..., -1] for run in runs]
    assert_allclose(beta[1], beta[0], rtol=1e-5)
    if method == "bayes":  # the coefficients are those of the columns as they are in the table
        table = runs[1].model.table
        chained, rows = table.blocks[0], BlockRows(table, 0)
        V = np.nan_to_num(table.start)
        X_w = rows.observed(V, rows.factors(V))[0]
        names = [r.names[0] if (r := table.residuals.get(c.base)) else c.base for c in chained.block.fixed]
        seen = ~np.isnan(table.full[:, table.names.index("y")])
        X = table.full[seen][:, [table.names.index(n) for n in names]]
        beta_w = np.random.default_rng(0).normal(size=(len(names), 1))
        assert_allclose(
            np.sort(X @ chained.scale.beta(beta_w), axis=0), np.sort(X_w @ beta_w, axis=0), atol=1e-6
        )


def test_the_curve_of_a_logistic_model_in_years_is_not_taken_away():
    """Coefficient of year^2, -.14 in truth: with weak priors of columns that are 2,000 sds from 0 it is 0.0000."""
    rng = np.random.default_rng(0)
    c, t = np.repeat(np.arange(30), 20), np.tile(np.arange(10.0), 60)
    eta = -2 + rng.normal(0, 0.7, 30)[c] + 1.2 * t - 0.14 * t**2
    y = (rng.random(600) < 1 / (1 + np.exp(-eta))).astype(float)
    y[rng.random(600) < 0.25] = np.nan
    data = bi.IncompleteData(pd.DataFrame({"c": c.astype(str), "year": t + 2015, "y": y}), cluster="c")
    imp = bi.FCS(data, predictors="y ~ year + I(year**2) + (1 | c)").impute(
        4, seed=1, cycles=60, progress=False
    )
    low, high = np.quantile(imp.tree["posterior"].beta_y.values[..., 2], [0.005, 0.995])
    assert low < -0.14 < high < -0.05


def test_products_on_the_working_scale_are_the_same_model():
    """z'b of the table's columns and effects is that of the working ones; priors moved exactly."""
    model = bi.JointNormal(bi.IncompleteData(with_products(), cluster="g"), PRODUCTS["product"])
    scale, working = model._working.scale, model._working
    b_w = np.random.default_rng(0).normal(size=4)
    b = scale.C @ (scale.effects * b_w)
    assert_allclose(model.design.Z[working.rows.row] @ b, working.rows.Z @ b_w * scale.s[0], atol=1e-12)
    table = bi.FCS(bi.IncompleteData(with_products(), cluster="g"), predictors=PRODUCTS["product"]).table
    rows, scale = BlockRows(table, 0), table.blocks[0].scale
    V = np.nan_to_num(table.start)
    Z_w = rows.observed(V, rows.factors(V))[1]
    seen = ~np.isnan(table.full[:, table.names.index("y")])
    Z = np.column_stack(
        [table.full[seen, table.names.index(name)] for name in ("Intercept", "x", "w", "x:w")]
    )
    E = scale.C * scale.effects / scale.s[0]
    assert_allclose(Z_w.T @ Z_w, E.T @ Z.T @ Z @ E, atol=1e-10 * len(Z))


def test_a_square_made_in_the_table_is_said():
    frame = with_products().assign(x=lambda d: d["x"] + 300.0)
    frame["x2"] = frame["x"] ** 2
    data = bi.IncompleteData(frame, cluster="g")
    formula = "y ~ x + x2 + (1 + x + x2 | g)"
    for run in (
        bi.JointNormal(data, formula).impute(1, seed=1, draws=2, progress=False),
        bi.FCS(data, predictors=formula).impute(1, seed=1, cycles=2, progress=False),
    ):
        (text,) = run.events.loc[run.events["kind"] == "prior matters", "message"]
        for word in ("'x', 'x2'", "99.9", "I(x**2)"):
            assert word in text


# ---------------------------------------------------------------- compatible models: products with cluster means


def compatible(frame, method):
    frame = frame.assign(z=0.5 * frame["y"] + np.random.default_rng(2).normal(size=180))
    predictors = ["y ~ x + z + (1 + x | g)", "z ~ x + y + (1 + x | g)"]
    return bi.FCS(bi.IncompleteData(frame, cluster="g"), methods=method, predictors=predictors)


@pytest.mark.parametrize("method", ["bayes-c", "iw-c", "ml-c"])
def test_compatible_models(method):
    """x * mean(x^2) and its like: from x + 2000 the same columns are chosen, identified, and the same model."""
    one, other = (compatible(f, method) for f in (base(), shifted(base(), {"x": 2000.0})))
    assert one.formulas == other.formulas and "x:cluster_mean(x * z)" in one.formulas[0]
    near, far = (model.impute(2, seed=3, cycles=4, progress=False) for model in (one, other))
    for name in ("y", "z"):
        assert_allclose(far.values(name), near.values(name), rtol=0, atol=1e-6)
    a, b = (run.tree["posterior"] for run in (near, far))
    assert_allclose(b.Psi_y.values[..., 1, 1], a.Psi_y.values[..., 1, 1], rtol=1e-6)
    assert_allclose(b.sigma2_y.values, a.sigma2_y.values, rtol=1e-6)


def test_coefficients_of_products_with_cluster_means_are_those_of_the_columns_as_they_are():
    table = compatible(shifted(base(), {"x": 20.0}), "bayes-c").table
    chained, rows = table.blocks[0], BlockRows(table, 0)
    V = np.nan_to_num(table.start)
    values = table.full.copy()
    values[table.row, table.p :] = table.center[table.p :] + table.scale[table.p :] * V
    D = pd.DataFrame(values, columns=table.names)
    codes = pd.Series([f"g{i}" for i in np.repeat(np.arange(12), 15)])

    def column(c):
        product = D[c.over[0]] * D[c.over[1]] if c.over else pd.Series(1.0, D.index)
        return D[c.base] * product.groupby(codes).transform("mean")

    X = np.column_stack([column(c) for c in chained.block.fixed])
    beta_w = np.random.default_rng(0).normal(size=(X.shape[1], 1))
    fitted = X @ chained.scale.beta(beta_w)
    X_w = rows.missing(V, rows.factors(V))[0]
    missing = table.row[np.flatnonzero(rows.holes)]
    assert_allclose(fitted[missing], X_w @ beta_w * chained.scale.s + chained.scale.c, rtol=1e-8)
    assert_allclose(chained.scale.working_beta(chained.scale.beta(beta_w)), beta_w, rtol=1e-6)


def test_products_without_their_parts_stay_as_they_are():
    from bayesimp.data.products import centrable
    from bayesimp.spec.conditional import Column

    one, x = Column("Intercept", "Intercept"), Column("x", "x")
    mean, square = Column("m", "Intercept", ("Intercept", "x")), Column("q", "Intercept", ("x", "x"))
    times = Column("t", "x", ("Intercept", "x"))
    total = Column("s", "Intercept", ("Intercept", "x"), sum=True)
    assert centrable([one, x, mean, square, times]) == [2, 3, 4]
    assert centrable([one, x, square, times]) == centrable([x, mean, times]) == centrable([one, total]) == []
    assert centrable([times, one, mean, x]) == [2, 0]
