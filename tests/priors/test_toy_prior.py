"""Priors defined in this file alone can be used to impute, printed, drawn from, rescaled, saved and loaded.

Defining a class is enough: no other file knows `HalfCauchy` (a conjugate update, so Gibbs) or `CommonVariance` (none, so
its PyMC distribution). `JointLatent` takes the first, which has `elements`, and refuses the second. Compiles two PyMC
models (about a minute if PyTensor has nothing on disk).
"""

import re
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import stats

import bayesimp as bi
from bayesimp import methods as me
from bayesimp import priors as pr
from bayesimp.errors import SpecificationError
from bayesimp.kernels.covariance.density import HALF_T
from bayesimp.kernels.covariance.update import DIAGONAL_HALF_T, CovarianceUpdate
from bayesimp.kernels.latent.residual import SCALES
from bayesimp.priors.base import REGISTRY
from bayesimp.priors.centred import Centred
from bayesimp.priors.elements import Elements
from bayesimp.priors.records import prior_from_dict, priors_from_dict, priors_to_dict
from tests.calibration.montecarlo import batch_means, bonferroni
from tests.unfolding import unfolded

LEVEL = 0.001  # of a whole test, shared between its comparisons (Bonferroni)


@dataclass(frozen=True)
class HalfCauchy(pr.CovariancePrior):
    """Independent half-Cauchy standard deviations; scale: a number, or one for each component."""

    ARRAYS: ClassVar[frozenset[str]] = frozenset({"scale"})

    scale: object = 1.0

    def resolve(self, sds, where):
        return HalfCauchy(np.asarray(self.scale) * sds)

    def rescale(self, d):
        return HalfCauchy(np.asarray(self.scale) / d)

    def describe(self, names):
        return "diagonal, sd ~ half-Cauchy of scale " + ", ".join(f"{x:.4g}" for x in np.asarray(self.scale))

    def draw(self, rng, d, size):
        return (np.asarray(self.scale) * rng.standard_cauchy((size, d)))[:, :, None] ** 2 * np.eye(d)

    def update(self, d):
        return CovarianceUpdate(DIAGONAL_HALF_T, 1.0, np.zeros((d, d)), np.array(self.scale, dtype=float))

    def distribution(self, name, d, dims):
        import pymc as pm

        sd = pm.HalfCauchy(f"{name}_sd", np.asarray(self.scale), dims=dims[:1])
        return pm.Deterministic(name, sd[:, None] ** 2 * np.eye(d), dims=dims)

    def elements(self, d):
        return Elements(SCALES, 1.0, np.zeros((d, d)), np.array(self.scale, dtype=float), 1.0, HALF_T)

    @property
    def has_correlations(self):
        return False

    def entries_logp(self, S, R, log_s, free):
        import pytensor.tensor as pt

        s2 = pt.exp(2 * log_s[free])
        return (log_s[free] - pt.log(1 + s2 / np.asarray(self.scale)[free] ** 2)).sum()


@dataclass(frozen=True)
class CommonVariance(pr.CovariancePrior):
    """One variance: S = u^2 diag(unit)^2 with u ~ half-normal(multiple), `unit` the sds of the variables."""

    ARRAYS: ClassVar[frozenset[str]] = frozenset({"unit"})

    multiple: float = 1.0
    unit: object = 1.0

    def resolve(self, sds, where):
        return replace(self, unit=np.asarray(self.unit) * sds)

    def rescale(self, d):
        return replace(self, unit=np.asarray(self.unit) / d)

    def describe(self, names):
        return f"one variance, in units of the variables half-normal({self.multiple:g})"

    def draw(self, rng, d, size):
        u = self.multiple * rng.standard_normal(size)
        return u[:, None, None] ** 2 * np.diag(np.asarray(self.unit) ** 2)

    def distribution(self, name, d, dims):
        import pymc as pm

        from bayesimp.models.covariance import scale_data

        u = pm.HalfNormal(f"{name}_common", self.multiple)
        unit = scale_data(name, self.unit)
        return pm.Deterministic(name, u**2 * (unit[:, None] ** 2 * np.eye(d)), dims=dims)


TOYS = [HalfCauchy(), HalfCauchy([0.5, 2.0]), CommonVariance(0.7)]
SDS = np.array([2.0, 30.0])
FORMULA, SLOPES = "y + w ~ x + (1 | g)", "y + w ~ x + (1 + x | g)"


def table(clusters=10, rows=8):
    rng = np.random.default_rng(4)
    g = np.repeat(np.arange(clusters), rows)
    x = rng.normal(size=len(g))
    b = rng.normal(size=(clusters, 2))[g]
    y = 0.5 * x + b[:, 0] + rng.normal(size=len(g))
    w = 20 + 3 * (0.5 * y + b[:, 1] + rng.normal(size=len(g)))
    frame = pd.DataFrame({"g": g, "x": x, "y": y, "w": w})
    frame.loc[g == 3, "y"] = np.nan
    frame.loc[rng.random(len(g)) < 0.2, "w"] = np.nan
    return bi.IncompleteData(frame, cluster="g")


def complete(imp):
    return not any(imp.frame(k).isna().any(axis=None) for k in range(imp.m))


@pytest.mark.parametrize("toy", TOYS, ids=repr)
def test_records_go_there_and_back(toy):
    priors = pr.Priors(Psi=toy, name="toy")
    back = priors_from_dict(priors_to_dict(priors))
    assert type(back.Psi) is type(toy) and priors_to_dict(back) == priors_to_dict(priors)


def test_a_file_with_a_wrong_parameter_is_refused():
    with pytest.raises(
        SpecificationError, match=r"p\.scal: HalfCauchy does not have it; did you mean 'scale'"
    ):
        prior_from_dict({"type": "HalfCauchy", "scal": 1}, "p")
    with pytest.raises(SpecificationError, match=r"p\.multiple: must be a number, not \[1, 2\]"):
        prior_from_dict({"type": "CommonVariance", "multiple": [1, 2]}, "p")


def test_messages_list_it_behind_the_others():
    with pytest.raises(
        SpecificationError, match=r"InverseWishart, HuangWand, .*HalfCauchy.* or CommonVariance"
    ):
        pr.resolve(pr.Flat(), SDS, "Psi")


def test_a_name_is_taken_once():
    with pytest.raises(
        SpecificationError, match=r"'HuangWand' is already defined in bayesimp\.priors\.huang_wand"
    ):
        type("HuangWand", (pr.CovariancePrior,), {})


@pytest.mark.parametrize("toy", TOYS, ids=repr)
def test_rescaled_draws_are_those_in_other_units(toy):
    resolved = pr.resolve(toy, SDS, "Psi")
    here = resolved.draw(np.random.default_rng(1), 2, 50)
    there = pr.rescale(resolved, SDS).draw(np.random.default_rng(1), 2, 50)
    assert_allclose(there, here / np.outer(SDS, SDS), rtol=1e-12)
    C = np.array([[1.0, -3.0], [0.0, 1.0]])
    centred = Centred(resolved, C)
    moved = centred.rescale(SDS).draw(np.random.default_rng(1), 2, 50)
    assert_allclose(moved, (C @ here @ C.T) / np.outer(SDS, SDS), rtol=1e-9)


# --- imputed with ---------------------------------------------------------------------------------


def joint(prior, formula=FORMULA, sampler="auto", m=4, **options):
    settings = {"chains": 2, "tune": 50, "draws": 50} | options
    model = bi.JointNormal(table(), formula, pr.Priors(Psi=prior))
    return model.impute(m, seed=3, sampler=sampler, progress=False, **settings)


def test_gibbs_takes_its_conjugate_update():
    model = bi.JointNormal(table(), FORMULA, pr.Priors(Psi=HalfCauchy()))
    assert model.is_conjugate and "Psi: diagonal, sd ~ half-Cauchy of scale" in unfolded(repr(model))
    toy, own = joint(HalfCauchy()), joint(pr.Diagonal(pr.HalfT(nu=1.0)))
    assert complete(toy)
    assert_array_equal(
        toy.tree["posterior"]["Psi"], own.tree["posterior"]["Psi"]
    )  # the same prior, other class
    assert_array_equal(toy.values("y"), own.values("y"))


@pytest.mark.parametrize("engine", ["joint", "fcs", "joint, an older file", "fcs, an older file"])
def test_a_file_names_the_prior_whose_class_is_not_defined(engine, tmp_path, monkeypatch):
    """The result is complete; an event says what is needed to continue, and so does an attempt to continue."""
    priors = pr.Priors(Psi=HalfCauchy(), name="toy")
    if "older" in engine:  # which did not name the module
        monkeypatch.setattr(HalfCauchy, "to_dict", lambda self: {"type": "HalfCauchy", "scale": 1.0})
    if engine.startswith("joint"):
        imp = bi.JointNormal(table(), FORMULA, priors).impute(2, seed=1, draws=5, tune=2, chains=1)
    else:
        imp = bi.FCS(table(), me.Bayes(priors)).impute(2, seed=1, cycles=2)
    imp.save(tmp_path / "toy.nc")
    monkeypatch.delitem(REGISTRY, "HalfCauchy")
    back = bi.load(tmp_path / "toy.nc")
    pd.testing.assert_frame_equal(back.frame(1), imp.frame(1))
    words = (
        r"HalfCauchy.*not known"
        if "older" in engine
        else (
            r"prior HalfCauchy of the module '[\w.]*test_toy_prior' is not known in this session\. Import '[\w.]*"
            r"test_toy_prior', then load the file again"
        )
    )
    (event,) = back.events[back.events["kind"] == "cannot go on"]["message"]
    assert re.search(words, event)
    with pytest.raises(SpecificationError, match=f"no chains to continue: .*{words}"):
        back.extend(3)


def test_it_is_saved_loaded_and_continued(tmp_path):
    imp = joint(HalfCauchy(), SLOPES)
    imp.save(tmp_path / "toy.nc")
    back = bi.load(tmp_path / "toy.nc")
    assert_array_equal(back.extend(6).values("y"), imp.extend(6).values("y"))
    slope = np.sqrt(imp.with_prior_draws(2000).tree["prior"]["Psi"].to_numpy()[0, :, 1, 1])
    scale = (
        bi.JointNormal(table(), SLOPES, pr.Priors(Psi=HalfCauchy())).parameter_priors["Psi"].prior.scale[1]
    )
    assert stats.kstest(slope, stats.halfcauchy(scale=scale).cdf).pvalue > LEVEL
    assert stats.kstest(slope, stats.halfcauchy(scale=1.3 * scale).cdf).pvalue < LEVEL


def test_nuts_takes_its_distribution():
    """One response, where it is the library's Diagonal(HalfNormal), which NUTS samples by kernels instead of PyMC.

    Means of beta, Sigma and Psi^1/2 in standard errors, level 0.001 by Bonferroni's rule.
    """
    options = {"tune": 500, "draws": 3000, "m": 2}
    toy = joint(CommonVariance(0.7), "y ~ x + (1 | g)", **options)
    own = joint(pr.Diagonal(pr.HalfNormal(times_sd=0.7)), "y ~ x + (1 | g)", "nuts", **options)
    far = joint(pr.Diagonal(pr.HalfNormal(times_sd=0.25)), "y ~ x + (1 | g)", "nuts", **options)
    assert toy.tree.attrs["sampler"] == "nuts" and np.isfinite(toy.values("y")).all()

    def smallest(a, b):
        p = []
        for x, y in zip(quantities(a), quantities(b), strict=True):
            (mean, error), (other, other_error) = batch_means(x), batch_means(y)
            p.append(2 * stats.norm.sf(abs(mean - other) / np.hypot(error, other_error)))
        return bonferroni(p)

    assert smallest(toy, own) > LEVEL
    assert smallest(far, own) < LEVEL  # another scale is noticed


def quantities(imp):
    posterior = imp.tree["posterior"]
    beta, Sigma, Psi = (posterior[name].to_numpy() for name in ("beta", "Sigma", "Psi"))
    return [beta[:, :, 0, 0], beta[:, :, 1, 0], Sigma[:, :, 0, 0], np.sqrt(Psi[:, :, 0, 0])]


def test_nuts_with_two_responses_goes_on():
    imp = joint(CommonVariance())
    Psi = imp.tree["posterior"]["Psi"].to_numpy()
    ratio = Psi[..., 0, 0] / Psi[..., 1, 1]
    assert complete(imp) and np.ptp(ratio) < 1e-9 * ratio.max() and np.ptp(Psi[..., 0, 0]) > 0
    longer = imp.extend(6)
    assert longer.m == 10 and complete(longer) and longer.tree["posterior"].sizes["draw"] > Psi.shape[1]
    assert "warmed up again" in set(longer.events["kind"])


@pytest.mark.parametrize("family", ["normal", "bernoulli"])
def test_fcs_takes_its_distribution(family, tmp_path):
    data = table()
    if family == "bernoulli":
        frame = data.frame.copy()
        frame["y"] = (frame["y"] > 0).where(frame["y"].notna()).astype(float)
        data = bi.IncompleteData(frame, cluster="g", families={"y": "bernoulli"})
    model = bi.FCS(data, methods={"y": me.PyMC(pr.Priors(Psi=CommonVariance(), name="toy"))})
    assert "one variance, in units of the variables half-normal(1)" in unfolded(repr(model))
    imp = model.impute(2, cycles=3, seed=1, progress=False)
    assert complete(imp) and (imp.tree["posterior"]["Psi_y"].to_numpy() > 0).all()
    imp.save(tmp_path / "toy.nc")
    assert_array_equal(bi.load(tmp_path / "toy.nc").iterate(2).values("y"), imp.iterate(2).values("y"))


def test_a_prior_without_update_is_sampled_by_pymc_in_every_block():
    model = bi.FCS(table()).with_priors(pr.Priors(Psi=CommonVariance(), name="toy"))
    assert {block.method.name for block in model.spec.blocks} == {"pymc"}
    conjugate = bi.FCS(table()).with_priors(pr.Priors(Psi=HalfCauchy(), name="toy"))
    assert "pymc" not in {block.method.name for block in conjugate.spec.blocks}


def test_fcs_by_gibbs_is_that_of_the_same_prior():
    def values(prior):
        method = me.Bayes(pr.Priors(Psi=prior))
        return bi.FCS(table(), methods={"y": method}).impute(2, cycles=4, seed=1, progress=False).values("y")

    assert_array_equal(values(HalfCauchy()), values(pr.Diagonal(pr.HalfT(nu=1.0))))
    assert (values(HalfCauchy()) != values(pr.Diagonal(pr.HalfT(nu=2.0)))).any()


# --- of a matrix with fixed entries ---------------------------------------------------------------


def latent(prior, m=4):
    """y and a binary variable, whose residual variance is fixed; the prior is that of Sigma and of Psi."""
    frame = table().frame.copy()
    frame["b"] = (frame.pop("w") > 20).where(table().frame["w"].notna()).astype(float)
    data = bi.IncompleteData(frame, cluster="g", families={"b": "bernoulli"})
    model = bi.JointLatent(data, "y + b ~ x + (1 | g)", pr.Priors(Sigma=prior, Psi=prior))
    return model.impute(m, seed=3, chains=1, tune=20, draws=20, progress=False)


def test_the_joint_model_on_latent_normals_takes_its_elements():
    toy, own, far = (latent(p) for p in (HalfCauchy(), pr.Diagonal(pr.HalfT(nu=1.0)), HalfCauchy(0.2)))
    Sigma = toy.tree["posterior"]["Sigma"].to_numpy()
    assert complete(toy) and (Sigma[..., 1, 1] == 1).all() and (Sigma[..., 0, 1] == 0).all()
    assert_array_equal(Sigma, own.tree["posterior"]["Sigma"])  # the same prior, other class
    assert_array_equal(toy.values("y"), own.values("y"))
    assert (toy.values("y") != far.values("y")).any()  # another scale is noticed


@pytest.mark.parametrize(
    "priors, message",
    [
        (
            {"Sigma": CommonVariance()},
            r"CommonVariance on Sigma.*HuangWand.*HalfCauchy.*needs the method `elements`",
        ),
        ({"Psi": CommonVariance()}, r"CommonVariance on Psi: JointLatent is sampled by Gibbs steps"),
    ],
)
def test_it_refuses_a_prior_without(priors, message):
    with pytest.raises(SpecificationError, match=message):
        bi.JointLatent(table(), FORMULA, pr.Priors(**priors)).impute(2, seed=1, progress=False)
