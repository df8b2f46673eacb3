"""Chains, imputations, sensitivity and studies on a real Dask cluster and a real Ray of two worker processes."""

import os
import warnings
from contextlib import contextmanager
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import pytest

import bayesimp as bi
from bayesimp.errors import SamplingError
from bayesimp.sampling import joblib_session
from bayesimp.sampling.executors import JoblibExecutor, ThreadExecutor, run_level
from bayesimp.studies import Study, method
from tests.frozen import table
from tests.sampling.walk import Deadly, Walk
from tests.studies.small import scenario

JOINT = {"m": 2, "seed": 5, "chains": 2, "tune": 10, "draws": 50, "progress": False}
FCS = {"m": 2, "seed": 5, "cycles": 2, "progress": False}


@pytest.fixture(scope="module")
def dask_cluster():
    """Two worker processes."""
    distributed = pytest.importorskip("distributed", reason="dask[distributed] is not installed")
    import dask

    with (
        warnings.catch_warnings(),
        dask.config.set({"distributed.worker.daemon": True}),
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        warnings.simplefilter("ignore")
        yield client


@pytest.fixture
def dask(dask_cluster):
    with joblib.parallel_config("dask"):
        yield dask_cluster


@pytest.fixture(scope="module")
def ray_cluster():
    ray = pytest.importorskip("ray", reason="ray is not installed")
    from ray.util.joblib import register_ray

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
        register_ray()
        yield ray
        ray.shutdown()


@pytest.fixture
def ray(ray_cluster):
    with warnings.catch_warnings(), joblib.parallel_config("ray", n_jobs=2):
        warnings.simplefilter("ignore")
        yield ray_cluster


@pytest.fixture
def loky():
    with joblib.parallel_config("loky", n_jobs=2):
        yield


def chains(n=3):
    return [{"rng": np.random.default_rng(k), "at": 0.0, "steps": 0} for k in range(n)]


def walked(executor, task, iterations=5_000):
    own, into = chains(), task.room(chains(), iterations)
    with executor.session(task) as session:
        level = run_level(session, own, into, iterations)
    assert level == iterations and {chain["steps"] for chain in own} == {iterations}
    return into


def survives(tmp_path):
    """A worker is killed in the middle of an advance; the numbers are those of a run without an accident."""
    marker = tmp_path / "killed"
    made = walked(JoblibExecutor(), Deadly(marker=str(marker)))
    killed = int(marker.read_text())
    assert killed != os.getpid() and not Path(f"/proc/{killed}").exists()
    np.testing.assert_array_equal(made, walked(ThreadExecutor(1), Walk()))


def same_numbers():
    """Of a joint model and of chained equations with a function that cannot be imported."""
    data = bi.IncompleteData(table(), cluster="g")
    shrunk = 0.5
    for model, options in (
        (bi.JointNormal(data, "y + w ~ x + (1 | g)"), JOINT),
        (bi.FCS(data, post={"y": lambda y: y * shrunk}), FCS),
    ):
        here, there = model.impute(**options), model.impute(**options, executor="joblib")
        for k in range(2):
            pd.testing.assert_frame_equal(here.frame(k), there.frame(k), rtol=0, atol=0)
        other = model.impute(**{**options, "seed": 6}, executor="joblib")
        assert not here.frame(0).equals(other.frame(0))


# loky -----------------------------------------------------------------------------------------------


def test_a_killed_process_of_loky_loses_nothing(loky, tmp_path):
    survives(tmp_path)


@contextmanager
def losing(times, monkeypatch):
    """joblib loses its workers so many times."""
    from joblib.externals.loky.process_executor import TerminatedWorkerError

    real, count = joblib_session.JoblibSession._send, [0]

    def send(session, calls):
        count[0] += 1
        if count[0] <= times:
            raise TerminatedWorkerError("lost")
        return real(session, calls)

    with monkeypatch.context() as patch:
        patch.setattr(joblib_session.JoblibSession, "_send", send)
        yield


def test_workers_that_are_lost_again_and_again_end_the_run(monkeypatch):
    with losing(joblib_session.REPEATS, monkeypatch):
        np.testing.assert_array_equal(walked(JoblibExecutor(), Walk()), walked(ThreadExecutor(1), Walk()))
    with (
        losing(joblib_session.REPEATS + 1, monkeypatch),
        pytest.raises(SamplingError, match=r"lost 4 times in the same iterations .* use fewer workers"),
    ):
        walked(JoblibExecutor(), Walk())


def kidney():
    """A binary variable, a count and a normal variable in 6 clusters."""
    rng = np.random.default_rng(1)
    g, x = np.repeat(np.arange(6), 15), rng.normal(size=90)
    ill, n = np.where(x + rng.normal(size=90) > 0, "yes", "no"), rng.poisson(1.0 + x**2)
    made = pd.DataFrame({"g": g, "x": x, "y": x + rng.normal(size=90), "ill": ill, "n": n.astype(float)})
    return made.mask(rng.random(made.shape) < [0.0, 0.0, 0.2, 0.2, 0.2])


SHORT = {"m": 2, "seed": 5, "progress": False}
SWEEPS = SHORT | {"chains": 2, "tune": 2, "draws": 4}


def engines():
    data = bi.IncompleteData(kidney(), cluster="g", families={"n": "poisson"})
    return {
        "JointNormal": (bi.JointNormal(data, "y ~ x + (1 | g)"), SWEEPS),
        "JointGLMM": (bi.JointGLMM(data, "y ~ ill + x + (1 | g)"), SWEEPS),
        "JointLatent": (bi.JointLatent(data, "y + ill ~ x + (1 | g)"), SWEEPS),
        "FCS": (bi.FCS(data, "bayes"), SHORT | {"cycles": 2}),
    }


@pytest.mark.filterwarnings("ignore::bayesimp.errors.StatisticalWarning")
@pytest.mark.parametrize("name", ["JointNormal", "JointGLMM", "JointLatent", "FCS"])
def test_every_engine_gives_the_same_numbers_and_records_a_lost_worker(name, monkeypatch):
    """By joblib's threads, with chains that are pickled there and back; a round that is repeated is an event, once."""
    model, options = engines()[name]
    here = model.impute(**options)
    with joblib.parallel_config("threading", n_jobs=2):
        there = model.impute(**options, executor="joblib")
        with losing(1, monkeypatch):
            lost = model.impute(**options, executor=JoblibExecutor(2))
        again = lost.extend(3)
    for imp in (there, lost):
        for k in range(2):
            pd.testing.assert_frame_equal(imp.frame(k), here.frame(k), rtol=0, atol=0)
        assert here.tree["posterior"].identical(imp.tree["posterior"])
    assert "worker lost" not in set(there.events["kind"])
    for imp in (lost, again):
        told = imp.events[imp.events["kind"] == "worker lost"]
        assert len(told) == 1 and "TerminatedWorkerError" in told["message"].iloc[0]
        assert "done again, with the same random numbers" in told["message"].iloc[0]


def test_values_missing_not_at_random_by_joblib():
    data = bi.IncompleteData(kidney(), cluster="g", families={"n": "poisson"})
    model = bi.JointNormal(data, "y ~ x + (1 | g)")
    grid = {"delta": {"y": [0.0, 1.0]}, "analysis": "y ~ x", **SWEEPS}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # few draws
        here = bi.mnar(model, **grid)
        with joblib.parallel_config("threading", n_jobs=2):
            there = bi.mnar(model, **grid, executor="joblib")
    pd.testing.assert_frame_equal(there.table, here.table, rtol=0, atol=0)


# Dask -----------------------------------------------------------------------------------------------


def test_dask_gives_the_same_numbers(dask):
    same_numbers()


def test_a_killed_worker_of_dask_loses_nothing(dask, tmp_path):
    survives(tmp_path)


@pytest.mark.slow
def test_sensitivity_and_studies_on_dask(dask):
    """The same tables of results. Run 2026-11-30: passed."""
    data = bi.IncompleteData(table(), cluster="g")
    model = bi.JointNormal(data, "y + w ~ x + (1 | g)")
    options = {"analysis": "y ~ w + (1 | g)", "m": 2, "seed": 1, "chains": 2, "draws": 20, "tune": 5}
    priors = [bi.priors.default(), bi.priors.pan()]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # few draws
        here = bi.sensitivity(model, priors, **options)
        there = bi.sensitivity(model, priors, **options, executor="joblib")
    pd.testing.assert_frame_equal(there.table, here.table, rtol=0, atol=0)
    study = Study([scenario("few", 1)], {"CCA": method("CCA")}, seed=11)
    assert study.run(2).estimates.equals(study.run(2, workers=1).estimates)


def test_partitions_of_a_dask_table_are_summed_on_the_workers(dask, tmp_path):
    dd = pytest.importorskip("dask.dataframe", reason="dask is not installed")
    from tests.federated.tables import FORMULA, pooled

    frame = pooled(rows=50).drop(columns="site")
    for k in range(2):
        frame.iloc[400 * k : 400 * (k + 1)].to_parquet(tmp_path / f"part-{k}.parquet", index=False)
    files = bi.PartitionedNormal(bi.PartitionedData(tmp_path, "g"), FORMULA)
    table_ = bi.PartitionedNormal(bi.PartitionedData(dd.read_parquet(tmp_path), "g"), FORMULA)
    np.testing.assert_array_equal(table_.working.statistics.gram, files.working.statistics.gram)


# Ray ------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_ray_gives_the_same_numbers(ray):
    """Run 2026-11-30: both tests passed (python -m pytest -m slow tests/sampling/test_clusters.py)."""
    same_numbers()


@pytest.mark.slow
def test_a_killed_worker_of_ray_loses_nothing(ray, tmp_path):
    survives(tmp_path)
