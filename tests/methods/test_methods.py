"""Methods of FCS: what each name means, and what is refused."""

from pathlib import Path

import pytest

import bayesimp as bi
from bayesimp import methods as me
from bayesimp import priors as pr
from bayesimp.errors import SpecificationError
from bayesimp.methods.base import OPTIONS, all_families, from_dict
from bayesimp.methods.names import METHODS, NAMES


def test_public_as_methods():
    assert bi.methods is me


@pytest.mark.parametrize(
    "name, record",
    [
        ("bayes", me.Bayes()),
        (" Bayes", me.Gibbs()),
        ("iw", me.IW()),
        ("2l.pan", me.IW()),
        ("iw-c", me.IW(compatible=True)),
        ("ml-c", me.ML(compatible=True)),
        ("2l.norm", me.Bayes(residual="cluster")),
        ("2l.lmer", me.ML()),
        ("2l.continuous", me.ML()),
        ("2l.glm.norm", me.ML()),
        ("2l.jomo", me.Bayes(pr.jomo())),
        ("pymc", me.PyMC()),
        ("norm", me.Norm()),
        ("pmm", me.PMM(5)),
        (me.ML, me.ML()),
        (me.Bayes, me.Bayes()),
    ],
)
def test_names(name, record):
    assert me.read(name) == record


def test_records_are_returned_as_they_are():
    for record in (me.IW(1.6), me.ML(True), me.PMM(3), me.PyMC(pr.pan())):
        assert me.read(record) is record


def test_iw_is_kunkel_and_kaizars_and_mices_prior():
    """Sigma IW(1, 1) whatever nu; Psi IW(nu, v), by default with nu = q: mice 2l.pan's."""
    paper = me.IW(nu=1.6, v=2).priors
    assert paper.Sigma == pr.InverseWishart(1.0, 1.0) and paper.Psi == pr.InverseWishart(1.6, 2)
    assert paper.beta == pr.Flat()
    for q in (1, 2):
        ours, theirs = me.IW().priors, pr.mice()
        for part, d in (("Sigma", 1), ("Psi", q)):
            a, b = (pr.resolve(getattr(p, part), [1.0] * d, part) for p in (ours, theirs))
            assert a.nu == b.nu and (a.V == b.V).all()


def test_with_priors():
    assert me.with_priors(me.Bayes(inner=3), pr.pan()) == me.Gibbs(pr.pan(), inner=3)
    changed = me.with_priors(me.IW(compatible=True), pr.default())
    assert changed == me.Bayes(compatible=True) and changed.name == "bayes"
    assert me.with_priors(me.PyMC(transitions=2), pr.pan()).priors == pr.pan()
    for method in (me.ML(), me.Norm(), me.PMM()):
        with pytest.raises(SpecificationError, match=f"'{method.name}' has no priors"):
            me.with_priors(method, pr.pan())


@pytest.mark.parametrize(
    "value, message",
    [
        ("bays", "Did you mean 'bayes'"),
        ("2l.pam", "'2l.pan'"),
        ("norm-c", "not known"),
        ("lda", "bootstrap or discriminant analysis; use 'glm'"),
        ("2lonly.function", "derived="),
        (3, "is not a method"),
        (None, "is not a method"),
    ],
)
def test_unknown(value, message):
    with pytest.raises(SpecificationError, match=message):
        me.read(value)


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: me.Gibbs("pam"), r"a preset .*Did you mean 'pan'"),
        (lambda: me.Bayes(residual="none"), "residual must be"),
        (lambda: me.IW(inner=0), "inner must be an integer of at least 1"),
        (lambda: me.IW(inner=True), "inner"),
        (lambda: me.ML(compatible="yes"), "compatible must be True, False or None"),
        (lambda: me.PMM(donors=2.5), "donors"),
        (lambda: me.PyMC(model="m"), "must be a function"),
        (lambda: me.PyMC(transitions=0), "transitions"),
        (lambda: me.IW(nu=-1), "nu must be positive"),
    ],
)
def test_refused(make, message):
    with pytest.raises(SpecificationError, match=message):
        make()


def test_the_table_of_the_documents_is_that_of_the_contract():
    text = (Path(__file__).parents[2] / "docs" / "methods.md").read_text()
    shown = text.partition("<!-- bi.methods.markdown() -->\n")[2].partition("\n<!-- end -->")[0]
    assert shown == me.markdown()
    assert me.markdown() in me.__doc__  # what help(bi.methods) shows
    rows = {row["method"]: row for row in me.table()}
    assert (
        rows["mlmi"]["families"] == "bernoulli, binomial, poisson" and "bounds" not in rows["mlmi"]["options"]
    )
    assert rows["2lonly"]["level"] == "cluster" and rows["norm"]["links"] == "none"


@pytest.mark.parametrize("kind", METHODS)
def test_every_method_keeps_the_contract(kind):
    method = kind()
    assert isinstance(method, me.Method) and method.summary and me.read(kind) == method
    assert set(method.families) <= set(all_families()) and set(method.options) <= set(OPTIONS)
    assert method.link in method.links or method.matches
    assert from_dict(method.to_dict(), "y") == method
    assert any(make() == method for make in NAMES.values())
    assert "block" in vars(kind)


def test_the_record_follows_the_family():
    assert me.SingleLevel().for_family("normal") == me.Norm()
    assert me.SingleLevel().for_family("poisson") == me.SingleLevel()
    assert me.Bayes().for_family("normal").priors.beta == pr.Contextual()
    assert me.Bayes().for_family("poisson").priors.beta == pr.Weak()
    assert me.PyMC(model=print).for_family("poisson") == me.PyMC(model=print)


def test_priors_that_gibbs_has_no_update_for_take_it_to_pymc():
    priors = pr.Priors(Psi=pr.LKJ(2.0))
    assert me.with_priors(me.Bayes(compatible=True, link="probit"), priors) == me.PyMC(
        priors, compatible=True, link="probit"
    )
    with pytest.raises(SpecificationError, match="takes conditionally conjugate priors only"):
        me.with_priors(me.Bayes(residual="cluster"), priors)


def test_a_model_of_the_users_own_is_in_no_file():
    record = me.PyMC(model=print).to_dict()
    assert record["model"] == "print"
    with pytest.raises(SpecificationError, match="y: the PyMC model print is user-defined code"):
        from_dict(record, "y")
