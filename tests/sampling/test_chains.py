"""The chain runner: every iteration once and in order, separate seeds, interruption, failures."""

import threading
import time

import numpy as np
import pytest

from bayesimp.arguments import new_seed
from bayesimp.errors import SamplingError
from bayesimp.sampling.chains import chain_rng, imputation_rng, run_chains


@pytest.mark.parametrize("workers", [1, 3, None])
@pytest.mark.parametrize("multiple", [1, 7])
def test_every_iteration_once_in_order_in_whole_multiples(workers, multiple):
    seen = [[] for _ in range(3)]

    def advance(chain, start, stop):
        assert stop > start and start % multiple == 0 and (stop % multiple == 0 or stop == 700)
        seen[chain] += range(start, stop)
        time.sleep(1e-3)

    assert run_chains(advance, 3, 700, multiple=multiple, workers=workers) == [700] * 3
    assert seen == [list(range(700))] * 3


def test_progress_is_reported_and_ends_with_all():
    reports = []
    run_chains(lambda c, a, b: None, 2, 50, report=lambda *args: reports.append(args), stage="s")
    assert reports[-1] == ("s", 100, 100)
    done = [d for _, d, _ in reports]
    assert done == sorted(done)


def test_interruption_returns_what_was_done():
    raised = threading.Event()

    def report(stage, done, total):
        if done > 500 and not raised.is_set():  # so that both chains have started
            raised.set()
            raise KeyboardInterrupt

    done = run_chains(lambda c, a, b: time.sleep(1e-3 * (b - a)), 2, 10**6, report=report)
    assert raised.is_set() and all(0 < d < 10**6 for d in done)


def test_a_failure_in_one_chain_ends_the_others():
    """In time: the chain that works would take 60 s."""

    def advance(chain, start, stop):
        if chain == 1:
            raise SamplingError("chain 1 failed")
        time.sleep(1e-3 * (stop - start))

    began = time.perf_counter()
    with pytest.raises(SamplingError, match="chain 1"):
        run_chains(advance, 2, 60_000, workers=2)
    assert time.perf_counter() - began < 20


def test_generators_of_chains_and_imputations_are_all_different_and_repeatable():
    draws = [f(5, k).random() for f in (chain_rng, imputation_rng) for k in range(50)]
    draws += [chain_rng(6, k).random() for k in range(50)]
    assert len(set(draws)) == 150
    np.testing.assert_equal(chain_rng(5, 3).random(4), chain_rng(5, 3).random(4))
    assert new_seed() != new_seed() and new_seed() < 2**63


def test_interruption_while_chains_are_handed_out_is_not_raised(monkeypatch):
    from concurrent.futures import ThreadPoolExecutor

    submit, begun = ThreadPoolExecutor.submit, []

    def interrupted(pool, work, *given):
        if len(begun) == 2:
            raise KeyboardInterrupt
        begun.append(len(begun))
        return submit(pool, work, *given)

    monkeypatch.setattr(ThreadPoolExecutor, "submit", interrupted)
    done = run_chains(lambda chain, start, stop: None, 3, 5, workers=3)
    assert begun == [0, 1] and done[2] == 0
