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
from numpy.testing import assert_allclose

import bayesimp as bi
from bayesimp import priors as pr

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
    """12 clusters of 15 rows: x, w normal, y of a family with random intercepts and slopes on x; y and x incomplete."""
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
    from bayesimp.fcs.blocks import pymc_normal as conditional_pymc
    from bayesimp.fcs.blocks import pymc_user as conditional_user
    from bayesimp.sampling import hmc

    short = partial(hmc.adapt, stretches=(3, 3), last=3)
    for module in (conditional_pymc, conditional_user):
        monkeypatch.setattr(module, "adapt", short)


@pytest.mark.parametrize("family", ["normal", "bernoulli"])
def test_pymc_blocks_are_given_the_same_data_and_priors(family, monkeypatch):
    """Compares what would be compiled and sampled, without compiling."""
    from bayesimp.fcs.blocks import pymc as hmc

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
                m = block.moments(hmc.completed_chain(table))[1]
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


def with_binary(frame):
    above = base()["x"] + np.random.default_rng(3).normal(size=180) > 0.7
    return frame.assign(b=above.map({True: "yes", False: "no"}).where(np.arange(180) % 5 > 0))


def with_factor(frame):
    return frame.assign(h=[f"h{i % 5}" for i in range(180)])


def incomplete(frame):
    return frame.assign(w=frame["w"].where(np.arange(180) % 6 > 0))


GIBBS = {"chains": 2, "tune": 4, "draws": 6, "workers": 1}
LATER = {
    "JointLatent": (with_binary, lambda d: bi.JointLatent(d, "y + b ~ x + w + (1 + x | g)"), {"x": 2e3, "y": -700.0}),
    "JointLatent, residual": (
        incomplete, lambda d: bi.JointLatent(d, "y + w ~ x + (1 + x | g)", residual="cluster"), {"x": 2e3, "w": 90.0}),
    "several factors": (with_factor, lambda d: bi.JointNormal(d, "y ~ x + w + (1 + x | g) + (1 + x | h)"),
                        {"x": 2e3, "w": -900.0}),
    "JointGLMM": (incomplete, lambda d: bi.JointGLMM(d, "y ~ x * w + (1 + x | g)"), {"x": 2e3, "y": -700.0}),
    "JointGLMM, imputed": (incomplete, lambda d: bi.JointGLMM(d, "y ~ x + w + I(w**2) + (1 | g)"), {"w": 100.0}),
    "FCS, analysis": (incomplete, lambda d: bi.FCS(d, analysis="y ~ x * w + (1 + x | g)"), {"x": 2e3, "y": -700.0}),
    "FCS, analysis, imputed": (incomplete, lambda d: bi.FCS(d, analysis="y ~ x + w + (1 | g)"), {"w": 2e3}),
}  # fmt: skip


@pytest.mark.parametrize("engine", LATER)
def test_engines_with_a_formula(engine):
    """Imputed values are those at another origin, less what was added to their variable."""
    more, make, by = LATER[engine]
    options = {"cycles": 4, "workers": 1} if engine.startswith("FCS") else GIBBS
    one, other = (
        make(bi.IncompleteData(more(frame), ["g", "h"] if "h" in more(frame) else "g")).impute(
            2, seed=3, progress=False, **options
        )
        for frame in (base(), shifted(base(), by))
    )
    for name in one.imputed_columns:
        assert_allclose(other.values(name) - by.get(name, 0.0), one.values(name), rtol=0, atol=1e-5)


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
