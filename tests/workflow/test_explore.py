"""The live page: its numbers are those of the library, its plan reproduces them, and a slider moves the interval."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import bayesimp as bi
from bayesimp import priors as pr
from bayesimp.errors import SpecificationError
from bayesimp.workflow import explore_words as words
from bayesimp.workflow.cli import main
from bayesimp.workflow.explore import (
    BASELINE,
    HALF_T,
    INVERSE_WISHART,
    PLANNED,
    SHOWN,
    Answer,
    Assumption,
    Exploration,
)
from bayesimp.workflow.plan import read_plan
from bayesimp.workflow.prepare import prepare
from tests.mnar_runs import trial
from tests.unfolding import unfolded

ROOT = Path(__file__).parents[2]
FORMULA = "y ~ drug + (1 | g)"
JOINT = f'[model]\nformula = "{FORMULA}"\n'
RUN = "[impute]\nm = 6\nseed = 3\nchains = 2\ntune = 20\ndraws = 30\n"
CHAINED = '[model]\ntype = "FCS"\n'
CYCLES = "[impute]\nm = 3\nseed = 3\ncycles = 4\n"
ANALYSIS = f'[[analysis]]\nname = "effect"\nformula = "{FORMULA}"\n'
MOVED = (
    Assumption(HALF_T, 5.0, 0.2),
    Assumption(HALF_T, 2.0, 1.0, {"y": -2.0}),
    Assumption(INVERSE_WISHART, 4.0, 0.5, {"y": 1.5}),
)


def explored(place, model=JOINT, run=RUN, analysis=ANALYSIS, more="") -> Exploration:
    trial().to_csv(place / "trial.csv", index=False)
    path = place / "plan.toml"
    path.write_text(
        f'title = "A trial"\n[data]\nfile = "trial.csv"\ncluster = "g"\n{model}{more}{run}{analysis}'
    )
    return Exploration(prepare(read_plan(path)))


@pytest.fixture
def exploration(tmp_path):
    return explored(tmp_path)


def shown(answer: Answer, name: str = SHOWN) -> pd.DataFrame:
    return answer.table[answer.table["assumption"] == name].reset_index(drop=True)


def pooled(imp) -> pd.DataFrame:
    return imp.analyse(FORMULA).pool().to_frame()


def same_numbers(answer: Answer, imp) -> bool:
    ours, theirs = shown(answer), pooled(imp)
    rows = ours[ours["part"] == "fixed effect"]
    return bool(
        (rows[["estimate", "conf.low"]].to_numpy() == theirs[["estimate", "conf.low"]].to_numpy()).all()
    )


def test_as_planned_it_is_the_plan(exploration):
    ready = exploration.ready
    answer = exploration.answer(exploration.planned)
    imp = ready.model.impute(6, seed=3, chains=2, tune=20, draws=30)
    assert exploration.planned == Assumption(HALF_T, 2.0, 1.0)
    assert np.array_equal(answer.imputations.values("y"), imp.values("y")) and same_numbers(answer, imp)
    assert exploration.plan(answer) == exploration.plan(exploration.answer(Assumption(PLANNED)))
    assert words.verdict(exploration, answer).startswith("This is the plan itself")


def test_a_delta_gives_the_numbers_of_mnar_and_a_prior_those_of_sensitivity(exploration):
    """Also after other assumptions, whose draws are reused; the row as planned does not change."""
    model = exploration.ready.model
    run = {"chains": 2, "tune": 20, "draws": 30}
    theirs = bi.mnar(model, {"y": [0, -2]}, analysis=FORMULA, m=6, seed=3, **run).table
    mine = pr.Priors(Sigma=model.priors.Sigma, Psi=pr.HuangWand(nu=5, times_sd=0.2), beta=model.priors.beta)
    grid = bi.sensitivity(
        model, {"default": model.priors, "mine": mine}, analysis=FORMULA, m=6, seed=3, **run
    ).table
    for _ in range(2):
        prior, delta = (exploration.answer(assumption) for assumption in MOVED[:2])
        for answer, table, name, key in (
            (delta, theirs, "y -2", "scenario"), (prior, grid, "mine", "prior"),
            (prior, theirs, "at random", "scenario"),
        ):  # fmt: skip
            rows = table[(table[key] == name) & (table["part"] == "fixed effect")]
            own = shown(answer, BASELINE if name == "at random" else SHOWN).head(len(rows))
            assert np.array_equal(own["estimate"], rows["estimate"])
            assert np.array_equal(own["conf.high"], rows["conf.high"])
        assert not np.array_equal(shown(prior)["estimate"], shown(delta)["estimate"])


@pytest.mark.parametrize("model, run", [(JOINT, RUN), (CHAINED, CYCLES)], ids=["joint", "chained"])
def test_the_plan_that_is_shown_gives_what_is_shown(tmp_path, model, run):
    exploration = explored(tmp_path, model, run)
    assert exploration.families == ((HALF_T, INVERSE_WISHART) if model is JOINT else (HALF_T,))
    for assumption in MOVED if model is JOINT else MOVED[:2]:
        answer = exploration.answer(assumption)
        path = tmp_path / "again.toml"
        path.write_text(exploration.plan(answer))
        again = prepare(read_plan(path))
        imp = again.model.impute(**again.plan.impute.arguments(again.plan.model.type))
        assert np.array_equal(answer.imputations.values("y"), imp.values("y")) and same_numbers(answer, imp)
        planned = exploration.answer(exploration.planned)
        assert not np.array_equal(planned.imputations.values("y"), imp.values("y"))
        if assumption.family == HALF_T:  # opened again, the sliders are where they were
            assert Exploration(again).planned == assumption


def test_sections_that_would_start_from_what_is_shown_are_left_out(tmp_path):
    more = '[mnar]\ndelta = { y = [0, -1] }\n[sensitivity]\npriors = ["default", "pan"]\n'
    exploration = explored(tmp_path, more=more)
    for assumption, without in ((MOVED[0], "[sensitivity]"), (MOVED[1], "[mnar")):
        text = exploration.plan(exploration.answer(assumption))
        (tmp_path / "again.toml").write_text(text)
        assert without not in text and ("[mnar" in text) != ("[sensitivity]" in text)
        prepare(read_plan(tmp_path / "again.toml"))


def test_the_inverse_wishart_has_its_scale_where_the_half_t_has_it(exploration):
    """E(1 / Psi_kk) = 1 / (scale sd)^2: 40,000 draws, five Monte Carlo standard errors."""
    sd = float(np.nanstd(exploration.ready.data.numeric("y"), ddof=1))
    rng = np.random.default_rng(1)
    for nu, scale in ((1.0, 0.5), (4.0, 2.0)):
        prior = exploration.model(Assumption(INVERSE_WISHART, nu, scale)).parameter_priors["Psi"]
        precision = 1 / prior.draw(rng, 1, 40_000)[:, 0, 0]
        half_t = exploration.model(Assumption(HALF_T, nu, scale)).parameter_priors["Psi"]
        wanted, error = 1 / float(half_t.scales[0]) ** 2, precision.std() / 200
        assert abs(precision.mean() - wanted) < 5 * error < 0.1 * wanted
        assert 0.5 * scale * sd < half_t.scales[0] < 2 * scale * sd


def rows(assumption, estimate, low, high, change, error=0.01):
    return pd.DataFrame({
        "assumption": assumption, "part": "fixed effect", "term": ["a", "b"], "estimate": estimate, "std.error": 1.0,
        "conf.low": low, "conf.high": high, "fmi": 0.1, "change": change, "mc.error": error,
    })  # fmt: skip


@pytest.mark.parametrize(
    "low, high, change, error, says, not_says",
    [
        ([0.5, -1.0], [2.0, 1.0], [0.2, 0.1], 0.01, "as planned for all 2 coefficients", "DEPENDS"),
        ([-0.5, -1.0], [2.0, 1.0], [0.2, 0.1], 0.01, "that of a includes 0, and as planned is above 0", "that of b"),
        ([0.5, -2.0], [2.0, -1.0], [0.2, -0.9], 0.01, "that of b is below 0, and as planned includes 0", "of a "),
        ([0.5, -1.0], [2.0, 1.0], [0.2, -0.9], 0.5, "change is that of b: from 0 to -0.9, -0.90 of its planned "
         "standard error, within Monte Carlo error", "DEPENDS"),
    ],
)  # fmt: skip
def test_the_verdict_in_words(exploration, low, high, change, error, says, not_says):
    base = rows(BASELINE, [1.0, 0.0], [0.5, -1.0], [2.0, 1.0], 0.0, error)
    new = rows(SHOWN, [1.0 + change[0], change[1]], low, high, change, error)
    moved = exploration.answer(MOVED[1])
    answer = Answer(
        moved.assumption,
        "effect",
        moved.model,
        moved.imputations,
        moved.fits,
        pd.concat([base, new]),
        0.1,
        (),
    )
    text = words.verdict(exploration, answer)
    assert says in text and not_says not in text
    assert "y -2" in words.heading(exploration, answer) and "missing at random" not in words.heading(
        exploration, answer
    )
    drawn = words.forest(answer)
    assert list(drawn) == [BASELINE, SHOWN] and list(drawn[SHOWN]["estimate"]) == list(new["estimate"])
    assert text in words.verdict_html(exploration, answer)
    html = words.table_html(answer)
    assert all(f"{x:.4g}" in html for x in (*new["estimate"], *new["conf.low"])) and "[0.5, 2]" in html


def test_sliders(exploration):
    (delta,) = exploration.deltas
    sd = float(np.nanstd(exploration.ready.data.numeric("y")))
    numbers = words.numbers(delta)
    assert numbers == sorted(numbers) and 0.0 in numbers and min(numbers) == -max(numbers) == -delta.most
    assert 1.5 * sd < delta.most < 2.6 * sd and len(numbers) == 41 and not delta.refused
    assert words.unit(delta) == "in the units of the variable"


@pytest.mark.parametrize(
    "change, says",
    [
        ({"analysis": ""}, "add an [[analysis]]"),
        ({"more": '[model.shift]\ngroup = "arm"\nby = { y = { drug = -1.0 } }\n'}, "one number, and model.shift differs"),
        ({"more": '[model.shift]\nwhere = "systematic"\nby = { y = -1.0 }\n'}, "one number, and model.shift differs"),
    ],
)  # fmt: skip
def test_what_is_refused(tmp_path, change, says):
    with pytest.raises(SpecificationError, match=re.escape(says)):
        explored(tmp_path, **change)


def test_a_family_or_an_analysis_that_is_none(exploration):
    with pytest.raises(SpecificationError, match="'wishart' is not a family; choose half-t, inverse-Wishart"):
        exploration.answer(Assumption("wishart"))
    with pytest.raises(SpecificationError, match="no analysis 'other'; it has 'effect'"):
        exploration.answer(exploration.planned, "other")


def test_without_marimo_the_extra_is_named(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(words, "find_spec", lambda name: None)
    assert main(["explore", str(tmp_path / "plan.toml")]) == 1
    assert "pip install 'bayesimp[explore]'" in unfolded(capsys.readouterr().err)


def test_a_plan_with_mistakes_is_refused_before_a_server_starts(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(words, "run_server", lambda *a, **k: pytest.fail("a server was started"))
    monkeypatch.setattr(words, "find_spec", lambda name: True)
    (tmp_path / "plan.toml").write_text("[model]\n")
    assert main(["explore", str(tmp_path / "plan.toml")]) == 1
    assert "data" in unfolded(capsys.readouterr().err)


def test_a_server_ends_with_the_command(tmp_path):
    """The command is ended by SIGTERM; the server that it started ends too, and so closes the pipe."""
    server = [sys.executable, "-c", "import time; print('serving', flush=True); time.sleep(600)"]
    text = f"from bayesimp.workflow.explore_words import run_server\nrun_server({server!r})"
    with subprocess.Popen([sys.executable, "-c", text], stdout=subprocess.PIPE, cwd=ROOT) as command:
        assert command.stdout.readline() == b"serving\n"
        command.terminate()
        assert command.communicate(timeout=60) == (b"", None)  # waits until both have closed it


# --- in a browser ---------------------------------------------------------------------------------

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
ABSENT = [
    name
    for name, there in (
        ("Chromium", CHROMIUM), ("chromedriver", DRIVER), ("marimo", find_spec("marimo")),
        ("selenium", find_spec("selenium")),
    )
    if not there
]  # fmt: skip
SLIDERS = """
const found = [], visit = root => root.querySelectorAll('*').forEach(node => {
  if (node.getAttribute('role') === 'slider') found.push(node);
  if (node.shadowRoot) visit(node.shadowRoot);
});
visit(document); return found;
"""


@pytest.fixture
def address(tmp_path):
    """The address of the page for a small plan."""
    path = explored(tmp_path).ready.plan.path
    log = tmp_path / "server.log"
    command = [sys.executable, "-m", "bayesimp.workflow.cli", "explore", str(path), "--no-browser"]
    with log.open("w") as out:
        server = subprocess.Popen(
            command, stdout=out, stderr=subprocess.STDOUT, cwd=ROOT, start_new_session=True
        )
    try:
        yield until(lambda: re.search(r"http://\S+access_token=\S+", log.read_text())[0], 60)
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(20)


def until(what, seconds=240.0):
    """The first value that is true."""
    end = time.monotonic() + seconds
    while True:
        try:
            if value := what():
                return value
        except Exception:
            if time.monotonic() > end:
                raise
        if time.monotonic() > end:
            raise AssertionError(f"nothing after {seconds:g} seconds")
        time.sleep(0.1)


@pytest.fixture
def browser(tmp_path):
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
                     "--window-size=1400,1500", f"--user-data-dir={tmp_path / 'profile'}"):  # fmt: skip
        options.add_argument(argument)
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    yield driver
    driver.quit()


@pytest.mark.skipif(bool(ABSENT), reason=f"not installed: {', '.join(ABSENT)}")
def test_a_slider_moves_the_pooled_interval(address, browser, exploration):
    """The numbers on the page are those of the library, before and after the delta is moved two steps to the left."""
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys

    def text(name):
        return browser.find_element(By.ID, name).text

    def says(answer):
        term = shown(answer).set_index("term").loc["drug"]
        return f"drug {term['estimate']:.4g} {term['std.error']:.4g} {term['conf.low']:.4g} {term['conf.high']:.4g}"

    before = exploration.answer(exploration.planned)
    browser.get(address)
    until(lambda: says(before) in text("pooled"))
    assert "plan itself" in text("verdict")
    slider = until(lambda: len(found := browser.execute_script(SLIDERS)) == 3 and found)[-1]
    for _ in range(2):
        slider.send_keys(Keys.ARROW_LEFT)
    (delta,) = exploration.deltas
    after = exploration.answer(Assumption(HALF_T, 2.0, 1.0, {"y": -2 * delta.step}))
    assert says(after) != says(before)
    until(lambda: says(after) in text("pooled"))
    assert "planned standard error" in text("verdict")
    pictures = browser.find_elements(By.CSS_SELECTOR, "img[src^='data:image/png']")
    assert len(pictures) == 2 and all(int(each.get_attribute("naturalWidth")) > 400 for each in pictures)
