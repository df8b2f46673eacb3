"""Executors: the same numbers wherever chains run, chains that stop at the same cycle, errors that say what to do."""

import pickle

import numpy as np
import pytest

import bayesimp as bi
from bayesimp.errors import SamplingError, SpecificationError
from bayesimp.fcs.run import run_chain as fcs_chain
from bayesimp.joint.gibbs import GibbsTask, initial_state
from bayesimp.joint.run import run_chain as joint_chain
from bayesimp.sampling.executors import (
    JoblibExecutor,
    ProcessExecutor,
    SerialExecutor,
    ThreadExecutor,
    read_executor,
    run_level,
    run_task,
)
from tests.frozen import table
from tests.sampling.walk import Walk


def chains(n=3):
    return [{"rng": np.random.default_rng(k), "at": 0.0, "steps": 0} for k in range(n)]


def walked(executor, iterations=400, task=None, **options):
    task = Walk() if task is None else task
    own, into = chains(), task.room(chains(), iterations)
    with executor.session(task) as session:
        warm = session.run(own, None, 0, 7, stage="warm-up")
        level = run_level(session, own, into, iterations, **options)
    assert warm == [7] * 3
    return own, into[:, :level], level


EXECUTORS = [ThreadExecutor(), ThreadExecutor(1), SerialExecutor(), ProcessExecutor(2), JoblibExecutor()]
every = pytest.mark.parametrize(
    "executor", EXECUTORS, ids=["threads", "one", "serial", "processes", "joblib"]
)


@every
def test_the_same_numbers_and_states_and_progress_to_the_end(executor):
    """Chunks of any number, and of a multiple of 9, one after the other in one session."""
    own, into = chains(), Walk().room(chains(), 800)
    told: list = []
    report = lambda *each: told.append(each)  # noqa: E731
    with executor.session(Walk()) as session:
        assert session.run(own, None, 0, 7, stage="warm-up") == [7] * 3
        for half, multiple in ((into[:, :400], 1), (into[:, 400:], 9)):
            told.clear()
            assert run_level(session, own, half, 400, report=report, multiple=multiple) == 400
            done = [each[1] for each in told]
            assert done == sorted(done) and told[-1] == ("sampling", 1200, 1200)
    for k, chain in enumerate(chains()):
        run_task(Walk(), chain, k, 7, keep=False)
        chain, piece = run_task(Walk(), chain, k, 800)
        np.testing.assert_array_equal(into[k], piece[0])
        assert own[k]["steps"] == 807 and own[k]["rng"].random() == chain["rng"].random()


@every
def test_an_interruption_leaves_all_chains_level(executor):
    struck = []

    def report(stage, done, total):
        if stage == "sampling" and done > 100 and not struck:
            struck.append(done)
            raise KeyboardInterrupt

    own, into, level = walked(executor, 10**6, report=report)
    assert struck and 0 < level < 10**6 and {chain["steps"] for chain in own} == {7 + level}
    _, whole, _ = walked(SerialExecutor(), level)
    np.testing.assert_array_equal(into, whole)


@every
def test_a_failure_is_raised(executor):
    with pytest.raises(SamplingError, match="chain 1 failed"):
        walked(executor, task=Walk(fails=50))


def test_names_and_workers():
    assert read_executor(None) == ThreadExecutor() and read_executor("serial", 1) == SerialExecutor(1)
    assert read_executor(ProcessExecutor(2), 2) == ProcessExecutor(2)
    assert read_executor(ThreadExecutor(), 2) == ThreadExecutor(2)
    with pytest.raises(
        SpecificationError, match="one of 'threads', 'serial', 'processes', 'joblib', got 'dask'"
    ):
        read_executor("dask")
    with pytest.raises(SpecificationError, match="workers = 3, but the executor has 2"):
        read_executor(ThreadExecutor(2), 3)
    with pytest.raises(SpecificationError, match="executor must be one of"):
        read_executor(["threads"])
    for workers in (0, -1, 2.5, "two", True):
        with pytest.raises(SpecificationError, match="workers must be a whole number of at least 1"):
            read_executor(None, workers)


@pytest.mark.parametrize("executor", ["serial", SerialExecutor()], ids=["by name", "as it is"])
def test_one_chain_after_the_other_has_one_worker(executor):
    """A second one would be ignored."""
    words = r"workers = 2: executor='serial' runs one chain after the other\. Use workers=1, or executor='threads'"
    data = bi.IncompleteData(table(), cluster="g")
    for model in (bi.FCS(data), bi.JointNormal(data, "y + w ~ x + (1 | g)")):
        with pytest.raises(SpecificationError, match=words):
            model.impute(m=2, seed=1, executor=executor, workers=2)
    with pytest.raises(SpecificationError, match=words):
        SerialExecutor(2)


@every
def test_thinned_draws_are_put_in_their_places(executor):
    """One iteration in three is kept, and comes back in several pieces; a chain alone is one piece."""
    model = bi.JointNormal(bi.IncompleteData(table(), cluster="g"), "y + w ~ x + (1 | g)")
    options = dict(m=2, seed=5, chains=2, tune=4, draws=3_000, thin=3, progress=False)
    kept = model.impute(executor=executor, **options).run.draws
    for k in range(2):
        task = GibbsTask(model.grouping.only.working, model.grouping.only.working_priors, 3)
        chain = initial_state(5, k, model.grouping.only.working_priors, 2, 1)
        run_task(task, chain, k, 4, keep=False)
        alone = run_task(task, chain, k, 9_000)[1].on_data_scale(model.grouping.only.working)
        for some, own in zip(kept.arrays, alone.arrays, strict=True):
            np.testing.assert_array_equal(some[k], own[0])


def test_what_cannot_be_pickled_is_refused_with_the_cure():
    model = bi.FCS(bi.IncompleteData(table(), cluster="g"), post={"y": lambda y: y})
    with pytest.raises(SpecificationError, match=r"at the top level of a module .* executor='threads'"):
        model.impute(m=2, seed=1, cycles=2, executor="processes")


def test_one_task_is_one_chain():
    """(model, seed, k, n) -> (chain, history): chain k of the run, from values that have been pickled."""
    data = bi.IncompleteData(table(), cluster="g")
    fcs, joint = bi.FCS(data), bi.JointNormal(data, "y + w ~ x + (1 | g)")
    whole = fcs.impute(m=3, seed=5, cycles=4).run
    chain, history = pickle.loads(pickle.dumps(fcs_chain(pickle.loads(pickle.dumps(fcs)), 5, 2, 4)))
    np.testing.assert_array_equal(chain.V, whole.chains[2].V)
    np.testing.assert_array_equal(history.mean[0], whole.history.mean[2])
    run = joint.impute(m=3, seed=5, chains=3, tune=6, draws=5).run
    state, draws = pickle.loads(pickle.dumps(joint_chain(joint, 5, 2, 5, tune=6)))
    np.testing.assert_array_equal(state.Sigma, run.states[2].Sigma)
    np.testing.assert_array_equal(draws.on_data_scale(joint.grouping.only.working).beta[0], run.draws.beta[2])
    other, _ = fcs_chain(fcs, 5, 1, 4)
    assert not np.array_equal(other.V, chain.V)
