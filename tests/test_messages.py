"""Messages for wrong input: our errors, not Python's; one "did you mean"; advice that can be followed on the spot."""

import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import bayesimp as bi
from bayesimp.messages import closest, signed, suggestion
from bayesimp.sections import possible
from bayesimp.workflow.cli import main
from bayesimp.workflow.words import in_plan_words
from tests.unfolding import unfolded

N = 120
G = np.repeat(np.arange(12), 10)
RNG = np.random.default_rng(0)
X = RNG.normal(size=N)
FRAME = pd.DataFrame({"g": G, "x": X, "y": np.where(RNG.random(N) < 0.2, np.nan, X + RNG.normal(size=N))})
SpecificationError = bi.SpecificationError


def data(**columns):
    return bi.IncompleteData(FRAME.assign(**columns), "g")


# names ------------------------------------------------------------------


@pytest.mark.parametrize(
    "name, known, found",
    [
        ("gausian", ("normal", "gaussian", "inverse_gaussian"), ["gaussian"]),
        ("Gender", ("gender", "age"), ["gender"]),
        ("writen", ("written", "course"), ["written"]),
        ("neg", ("negative_binomial", "normal"), ["negative_binomial"]),
        ("qq", ("written", "course"), []),
        ("y1x", ("y1", "y2"), ["y1"]),
    ],
)
def test_one_rule_for_all_names(name, known, found):
    assert closest(name, known) == found
    for said in (suggestion(name, known), possible(name, known)):
        assert ("id you mean" in said) == bool(found) and all(repr(value) in said for value in found)


def test_misspelt_families_methods_and_priors():
    for wrong, right in (("gausian", "'gaussian'"), ("poison", "'poisson'"), ("bernouli", "'bernoulli'")):
        with pytest.raises(SpecificationError, match=rf"Did you mean {right}\?"):
            bi.IncompleteData(FRAME, "g", families={"y": wrong})
    with pytest.raises(SpecificationError, match=r"Did you mean 'bayes'\?"):
        bi.FCS(data(), "baies")
    with pytest.raises(SpecificationError, match=r"Did you mean 'jomo'\?"):
        bi.JointNormal(data(), "y ~ x + (1 | g)", "jomoo")


# kinds of arguments ------------------------------------------------------------------


@pytest.mark.parametrize(
    "call, words",
    [
        (
            lambda: bi.JointNormal(FRAME, "y ~ x + (1 | g)"),
            r"JointNormal takes IncompleteData, got DataFrame",
        ),
        (lambda: bi.FCS(FRAME), r"FCS takes IncompleteData, got DataFrame"),
        (lambda: bi.JointNormal(data(), None), r"formula of a joint model is text.*got None"),
        (lambda: bi.JointNormal(data(), "y ~ x + (1 | g)", 3), r"priors must be a preset.*got 3"),
        (
            lambda: bi.impute(FRAME, cluster=["g", 3]),
            r"the name of a column, as text, or a list of names, .*got \['g', 3\]",
        ),
        (lambda: bi.impute(FRAME, cluster=None), r"the name of a column, as text, .*got None"),
        (lambda: bi.impute(FRAME, "g", families="poisson"), r"families by variable, such as.*got 'poisson'"),
        (lambda: bi.impute(data(), "g"), r"IncompleteData already.*bi.FCS\(data\)"),
    ],
)
def test_our_errors(call, words):
    with pytest.raises(SpecificationError, match=words):
        call()


@pytest.mark.parametrize("name", ["default", "pan", "mice", "jomo"])
def test_presets_by_name_are_the_records(name):
    preset, formula = getattr(bi.priors, name)(), "y ~ x + (1 | g)"
    model = bi.JointNormal(data(), formula, name)
    joint = replace(preset, beta=preset.beta.without_contextual())
    assert model.priors == bi.JointNormal(data(), formula, preset).priors == joint
    assert bi.JointNormal(data(), formula).with_priors(name).priors == joint
    for method in (bi.methods.Bayes, bi.methods.Gibbs, bi.methods.PyMC):
        assert method(name).priors == preset
    assert bi.FCS(data()).with_priors(name).spec.blocks[0].method.priors == preset


def test_sensitivity_takes_names():
    from bayesimp.sensitivity_analysis.grid import named

    assert (
        list(named(["default", "pan"]))
        == ["default", "pan"]
        == list(named([bi.priors.default(), bi.priors.pan()]))
    )
    assert named({"mine": "pan"})["mine"].Psi == bi.priors.pan().Psi


# numbers as text; yes and no ------------------------------------------------------------------


def test_numbers_stored_as_text():
    text = pd.Series([f"{v:.2f}" for v in X])
    text[::9] = "n/a"
    gone = text.where(np.arange(N) % 7 > 0)
    hint = r"numbers are stored as text \(all but 'n/a'\).*pandas.to_numeric\(table\['t'\], errors='coerce'\)"
    with pytest.raises(SpecificationError, match=hint):
        bi.FCS(data(t=gone))
    with pytest.raises(bi.DataError, match=hint):
        bi.IncompleteData(FRAME.assign(t=gone), "g", families={"t": "normal"})
    assert re.search(hint, " ".join(bi.FCS(data(t=text)).spec.blocks[0].notes))
    with pytest.raises(SpecificationError, match=r"'t' has family 'categorical'.*pandas.to_numeric"):
        bi.JointNormal(data(t=gone), "y + t ~ x + (1 | g)")
    codes = pd.Series(list("123") * (N // 3)).where(np.arange(N) % 7 > 0)
    (note,) = [n for b in bi.FCS(data(t=codes)).spec.blocks for n in b.notes if "stored as text" in n]
    assert "imputed as categories" in note
    words = pd.Series(["red", "green", "blue"] * (N // 3)).where(np.arange(N) % 7 > 0)
    assert "stored as text" not in repr(bi.FCS(data(t=words)))


@pytest.mark.parametrize("values", [("no", "yes"), (False, True), (0, 1)])
def test_advice_for_two_values_can_be_followed(values):
    """The advice of every model that does not support a two-valued variable is followed, and then accepted."""
    column = pd.Series(np.array(values, dtype=object)[(X > 0).astype(int)])
    column[::7] = None
    told = []
    for call in (
        lambda table: bi.JointNormal(table, "y + k ~ x + (1 | g)"),
        lambda table: bi.FCS(table, {"k": "ml"}),
        lambda table: bi.FCS(table, blocks={"both": ["y", "k"]}),
    ):
        with pytest.raises(SpecificationError) as refused:
            call(data(k=column))
        told.append(str(refused.value))
        numbers = (
            column
            if values[0] is not None and not isinstance(values[0], str)
            else column.map({"no": 0, "yes": 1})
        )
        call(bi.IncompleteData(FRAME.assign(k=numbers), "g", families={"k": "normal"}))
    for message in told:
        assert "families={'k': 'normal'}" in message
        assert ("replace them by numbers" in message) == isinstance(values[0], str)


# plans ------------------------------------------------------------------

PYTHON = re.compile(r"\w+=\{|IncompleteData\(|(?<!\[model\.)priors\.[A-Z]|pandas\.|\w+=['\"\d]|\bbi\.")
MESSAGES = [
    "say so: IncompleteData(..., families={'y': 'normal'}).",
    "* whole numbers: families={...: 'poisson'} or 'ordinal'",
    "is not. Use sampler='nuts'.",
    "or fix Psi: priors.Priors(Psi=priors.Fixed(...)).",
    "give beta a normal prior (priors.Normal), which",
    "prior priors.Diagonal(...) instead.",
    "Use nu > 3 (nu=None means 4), or set improper=True if this is intended.",
    "pandas.to_numeric(table['a b'], errors='coerce') makes it numbers, and anything else missing.",
    "pandas.Categorical(..., categories=['low', 'high'], ordered=True)".replace("['low', 'high']", "[...]"),
    "how far the estimates move in imputation 3. Give quadrature=20.",
    "Ask for more draws (draws=), about 3.1 times as many.",
]


@pytest.mark.parametrize("message", MESSAGES)
def test_advice_in_the_words_of_plans(message):
    said = in_plan_words(message)
    assert PYTHON.search(message) or "draws=" in message or "=True" in message
    assert not PYTHON.search(said) and "[" in said, said


@pytest.mark.parametrize(
    "formula, column, line",
    [
        ("y + k ~ x + (1 | g)", (X > 0).astype(int), '"k" = "normal" under [data.families]'),
        (
            "y + k ~ x + (1 | g)",
            [f"{v:.3f}" for v in X[:-2]] + ["?", "?"],
            '"k" = "number" under [data.types]',
        ),
    ],
)
def test_the_command_line_speaks_of_the_plan(tmp_path, capsys, formula, column, line):
    FRAME.assign(k=pd.Series(column).where(np.arange(N) % 7 > 0)).to_csv(tmp_path / "t.csv", index=False)
    plan = tmp_path / "plan.toml"
    plan.write_text(
        f'[data]\nfile = "t.csv"\ncluster = "g"\n[model]\nformula = "{formula}"\n[impute]\nm = 2\nseed = 1\n'
    )
    assert main(["check", str(plan)]) == 1
    said = unfolded(capsys.readouterr().err)
    assert line in said and not PYTHON.search(said), said


# what is printed ------------------------------------------------------------------


def test_a_printed_model_shows_priors_and_bounds():
    kind = pd.Series(list("abc") * (N // 3)).where(np.arange(N) % 5 > 0)
    two = pd.Series(RNG.normal(50, 9, N)).where(np.arange(N) % 4 > 0)
    model = bi.FCS(data(kind=kind, two=two), {"two": bi.methods.IW(nu=1.6)}, bounds={"y": (-4, None)})
    said = unfolded(repr(model))
    sd = np.nanstd(FRAME["y"], ddof=1)
    assert (
        "priors of y ('default'): beta flat, contextual effects normal, mean 0, sd of 'cluster_mean(x) "
        in said
    )
    assert f"; sigma2 Huang-Wand, sd ~ half-t(2) of scale {sd:.4g} (y)" in said
    assert "priors of two ('IW(1.6, 1)')" in said and "nu = 1.6" in said
    assert "priors of kind ('default'): beta normal, sd 2.5 for a predictor with sd 1" in said
    assert "bounds of y: lower -4, upper none" in said
    blocks = unfolded(repr(bi.FCS(data(two=two), blocks={"both": ["y", "two"]})))
    assert "priors of both ('default'): beta flat, contextual effects" in blocks


def test_dir_is_what_is_public():
    names = dir(bi)
    assert set(bi.__all__) <= set(names) and not [
        n for n in names if n.startswith("_") and n != "__version__"
    ]
    assert not {"annotations", "Any", "import_module", "version"} & set(names)


def test_events_print_whole_messages():
    imp = bi.FCS(data(z=pd.array(np.where(G % 2, 3, 7), dtype="Int64"))).impute(
        2, cycles=4, seed=1, progress=False
    )
    long = bi.Imputations(imp.data, {}, {"m": 0, "responses": []}, None, [bi_event()])
    for shown in (
        repr(long.events),
        long.events._repr_html_(),
        repr(long.events[["kind", "message", "count"]]),
    ):
        assert "the end of a long message" in " ".join(shown.split())
    assert max(map(len, repr(long.events).splitlines())) <= 100
    assert isinstance(imp.events, pd.DataFrame) and list(imp.events.columns) == [
        "kind",
        "where",
        "message",
        "count",
    ]
    assert repr(imp.events[["kind", "where"]]) == repr(pd.DataFrame(imp.events[["kind", "where"]]))
    assert repr(imp.events.iloc[:0]) == "no events"


def bi_event():
    from bayesimp.events import Event

    return Event("kind", "somewhere", "word " * 60 + "the end of a long message", 1200)


def test_what_rounds_to_zero_has_no_minus():
    assert [signed(x) for x in (-0.004, 0.0, -0.006, 1.234)] == ["+0.00", "+0.00", "-0.01", "+1.23"]
    assert signed(np.float64(-0.0)) == "+0.00" and signed(np.nan) == "+nan"
