"""A run of the joint model can be interrupted at any moment, with either sampler, and keeps what it has."""

import os
import signal
from contextlib import contextmanager

import numpy as np
import pandas as pd
import pytest

import bayesimp as bi
from bayesimp import progress
from bayesimp.joint import gibbs as joint_gibbs
from bayesimp.sampling import chains, density
from bayesimp.sampling import nuts as nuts_of_pymc

CHAINS, TUNE, DRAWS, THIN, M = 3, 3, 12, 2, 6


@pytest.fixture(autouse=True)
def listening():
    """Python's own handler of Ctrl-C, which is off if a shell starts the tests in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def model():
    rng = np.random.default_rng(0)
    g = np.repeat(np.arange(6), 8)
    x = rng.normal(size=len(g))
    table = pd.DataFrame({"g": g, "x": x, "y": x + rng.normal(size=6)[g] + rng.normal(size=len(g))})
    table.loc[::5, "y"] = np.nan
    return bi.JointNormal(bi.IncompleteData(table, "g"), "y ~ x + (1 | g)")


def impute(m=M, draws=DRAWS, workers=1, **options):
    options = {"chains": CHAINS, "tune": TUNE, "thin": THIN} | options
    return model().impute(m, seed=1, draws=draws, workers=workers, **options)


class Interrupted:
    """The kernel, except that Ctrl-C strikes in call number `at`."""

    def __init__(self, kernel, at, strike):
        self.kernel, self.at, self.strike, self.calls = kernel, at, strike, 0
        self.signatures = kernel.signatures

    def __call__(self, *args):
        self.calls += 1
        if self.calls == self.at:
            self.strike()
        return self.kernel(*args)


def strike_at(monkeypatch, call, strike):
    monkeypatch.setattr(chains, "CHUNK_SECONDS", 0.0)  # one draw per call, one chain after the other
    kernel = joint_gibbs.kernel.gibbs
    kernel_there = impute(m=1, draws=1, tune=0)
    assert kernel_there.m == 1 and kernel.signatures
    monkeypatch.setattr(joint_gibbs.kernel, "gibbs", Interrupted(kernel, call, strike))


def here():
    raise KeyboardInterrupt


def same_posterior(imp, other, draws):
    for name in ("beta", "Sigma", "Psi"):
        a, b = (i.tree["posterior"][name].values[:, :draws] for i in (imp, other))
        np.testing.assert_array_equal(a, b)


def same_tables(imp, other, m):
    for k in range(m):
        pd.testing.assert_frame_equal(imp.frame(k), other.frame(k))


@pytest.mark.parametrize("call", [1, 2, CHAINS * TUNE, CHAINS * TUNE + 1, CHAINS * TUNE + CHAINS])
def test_before_every_chain_has_a_draw(call, monkeypatch):
    strike_at(monkeypatch, call, here)
    with pytest.raises(
        bi.SamplingError,
        match=r"interrupted before its first imputation, so there is nothing to keep\. Run it again",
    ):
        impute()


@pytest.mark.parametrize("later", [1, 2, 5, 3 * DRAWS - CHAINS - 1, 3 * DRAWS - CHAINS])
def test_later_all_chains_stop_at_the_same_draw(later, monkeypatch):
    whole = impute()
    strike_at(monkeypatch, CHAINS * (TUNE + 1) + later, here)
    imp = impute()
    monkeypatch.undo()
    draws = int(imp.attrs["draws"])
    assert draws == 1 + -(-(later - 1) // CHAINS) if later < 3 * DRAWS - CHAINS else draws >= DRAWS - 1
    same_posterior(imp, whole, draws)
    (text,) = imp.events.query("kind == 'interrupted'")["message"] if draws < DRAWS else ["all"]
    assert draws == DRAWS or f"{draws} of {DRAWS} draws" in text
    assert imp.m == min(M, draws * CHAINS) and not imp.frame(0)["y"].isna().any()
    # continuing the interrupted run gives the uninterrupted one
    spacing = int(imp.attrs["spacing"])
    longer, m = imp.extend(5), imp.m + 5
    straight = impute(m, draws=max(-(-m // CHAINS) * spacing, draws))
    assert longer.m == m
    same_posterior(longer, straight, longer.tree["posterior"].sizes["draw"])
    if int(straight.attrs["spacing"]) == spacing:
        same_tables(longer, straight, m)


def test_by_a_real_signal_from_a_thread(monkeypatch):
    whole = impute()
    strike_at(monkeypatch, CHAINS * TUNE + 12, lambda: os.kill(os.getpid(), signal.SIGINT))
    imp = impute(draws=100_000)
    draws = imp.tree["posterior"].sizes["draw"]
    assert 1 <= draws < 100_000 and list(imp.events["kind"]) == ["interrupted"]
    same_posterior(imp, whole, min(draws, DRAWS))
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_an_extension(monkeypatch, tmp_path):
    first = impute()
    strike_at(monkeypatch, 2, here)  # before every chain has a further draw
    same = first.extend(CHAINS)
    assert same.m == M and "0 of 6 draws" in same.events.iloc[0]["message"]
    monkeypatch.undo()
    same.save(tmp_path / "run.nc")
    for imp in (same, bi.load(tmp_path / "run.nc")):
        same_tables(imp.extend(CHAINS), first.extend(CHAINS), M + CHAINS)
    strike_at(monkeypatch, CHAINS + 1, here)
    part = first.extend(4 * CHAINS)
    monkeypatch.undo()
    assert part.tree["posterior"].sizes["draw"] == DRAWS + 1
    same_tables(part.extend(CHAINS), first.extend(CHAINS), M + CHAINS)


def reports(monkeypatch, strike):
    """Runs are told by `strike`, instead of a terminal, how far they are."""

    @contextmanager
    def bar(show):
        yield strike

    monkeypatch.setattr("bayesimp.joint.run.progress_bar", bar)  # of the first run
    monkeypatch.setattr("bayesimp.joint.spaced_run.progress_bar", bar)  # of extensions


def nuts(m=4, draws=2000, **options):
    return impute(m, draws, sampler="nuts", tune=100, thin=1, **options)


def test_nuts_keeps_the_draws_of_chains_that_have_begun(monkeypatch, tmp_path):
    monkeypatch.setattr(density, "POLL_SECONDS", 0.01)

    def strike(stage, done, total):
        if stage == "sampling" and done > 300:
            raise KeyboardInterrupt

    reports(monkeypatch, strike)
    imp = nuts(draws=200_000)
    draws = imp.tree["posterior"].sizes["draw"]
    assert 100 < draws < 200_000 and imp.attrs["chains"] == imp.tree["posterior"].sizes["chain"] == 1
    (text,) = imp.events.query("kind == 'interrupted'")["message"]
    assert f"{draws} of 200000 draws per chain kept of 1 of 3 chains" in text
    monkeypatch.undo()
    whole = nuts(draws=400)
    shared = min(draws, 400)
    np.testing.assert_array_equal(
        imp.tree["posterior"]["Psi"].values[0, :shared], whole.tree["posterior"]["Psi"].values[0, :shared]
    )
    assert imp.m == 4 and not imp.frame(3)["y"].isna().any()
    imp.save(tmp_path / "run.nc")
    same_tables(imp.extend(1), bi.load(tmp_path / "run.nc").extend(1), 5)


@pytest.mark.parametrize("stage", ["compiling", "sampling"])
def test_nuts_without_a_draw(stage, monkeypatch):
    def strike(at, done, total):
        if at == stage:
            raise KeyboardInterrupt

    reports(monkeypatch, strike)
    with pytest.raises(bi.SamplingError, match="interrupted before its first imputation"):
        nuts()
    monkeypatch.undo()
    first = nuts(draws=20)
    reports(monkeypatch, strike)
    same = first.extend(30)
    assert same.m == 6 and {"interrupted", "fewer imputations"} <= set(same.events["kind"])


def test_nuts_of_the_joint_glmm(monkeypatch):
    """In warm-up there is nothing to keep, and it is said in words; later there are draws; an extension loses nothing."""
    monkeypatch.setattr(nuts_of_pymc, "evaluation", lambda *_: "python")  # nothing is compiled
    engine = bi.JointGLMM(model().data, "y ~ x + (1 | g)")
    options = {"sampler": "nuts", "seed": 1, "chains": 2, "tune": 20, "workers": 1}

    def struck(at, run, *args, **kwargs):
        """A run stopped once `at` iterations of all chains are done."""

        def strike(self, stage, done, total):
            if stage == "sampling" and at <= done < total:
                raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(progress.Report, "__call__", strike)
            return run(*args, **kwargs)

    with pytest.raises(bi.SamplingError, match="interrupted before its first imputation"):
        struck(0, engine.impute, 4, draws=10, **options | {"tune": 100_000})
    part = struck(30, engine.impute, 4, draws=200_000, **options)
    draws = part.tree["posterior"].sizes["draw"]
    (text,) = part.events.query("kind == 'interrupted'")["message"]
    assert f"{draws} of 200000 draws per chain kept of 1 of 2 chains" in text and 4 <= draws < 200_000
    assert part.m == 4 and not any(frame["y"].isna().any() for frame in part)
    first = engine.impute(4, draws=10, **options)
    same = struck(0, first.extend, 50_000)
    same_tables(same, first, 4)
    assert same.m == 4 and {"interrupted", "fewer imputations"} <= set(same.events["kind"])


@pytest.mark.parametrize(
    ("finished", "chains", "draws"),
    [
        ([1000, 1000, 400, 0], [0, 1], 1000),
        ([1000, 1000, 900, 0], [0, 1, 2], 900),
        ([5, 0, 0], [0], 5),
        ([7, 7, 7], [0, 1, 2], 7),
        ([0, 0], [0, 1], 0),
        ([2, 4], [0, 1], 2),
        ([3, 9, 8], [1, 2], 8),
    ],
)
def test_which_chains_nuts_keeps(finished, chains, draws):
    kept, length = density._kept(np.array(finished), all_chains=False)
    assert kept.tolist() == chains and length == draws
    kept, length = density._kept(np.array(finished), all_chains=True)
    assert len(kept) == len(finished) and length == min(finished)


def test_a_signal_waits_for_a_report():
    said = []
    with progress.progress_bar(False) as report:
        report._draw = lambda *args: said.append(args)
        with pytest.raises(KeyboardInterrupt):  # nothing has started
            signal.raise_signal(signal.SIGINT)
    with progress.progress_bar(False) as report:
        report("compiling, first use only", 0, 1)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    with progress.progress_bar(False) as outer:
        outer("tables", 0, 2)
        with progress.progress_bar(False) as report:  # a run inside another
            report("sampling", 0, 10)
            signal.raise_signal(signal.SIGINT)
            report("sampling", 10, 10)  # nothing is left to stop
            with pytest.raises(KeyboardInterrupt):
                report("sampling", 3, 10)
            signal.raise_signal(signal.SIGINT)
            with pytest.raises(KeyboardInterrupt):  # the third
                signal.raise_signal(signal.SIGINT)
        outer("tables", 1, 2)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_chains_stay_level():
    done = np.zeros(5, dtype=int)
    apart = []

    def advance(chain, start, stop):
        assert start == done[chain]
        done[chain] = stop
        apart.append(done.max() - done.min())

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chains, "CHUNK_SECONDS", 0.0)
        assert chains.run_chains(advance, 5, 40, workers=1) == [40] * 5
    assert max(apart) == 1
    assert chains.run_chains(lambda *_: None, 2, 0) == [0, 0]


def test_chained_equations_stop_though_all_chains_have_done_their_turn(monkeypatch):
    waited = chains.wait

    def struck(futures, **options):
        waited(futures)
        raise KeyboardInterrupt

    monkeypatch.setattr(chains, "wait", struck)
    imp = bi.FCS(model().data).impute(2, cycles=50, tune=1, seed=1)
    assert imp.attrs["cycles"] == 1 and "interrupted" in set(imp.events["kind"])
