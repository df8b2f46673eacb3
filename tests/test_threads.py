"""A wide model is built without BLAS threads that wait for each other; the user's setting is restored."""

import pytest
from threadpoolctl import threadpool_info, threadpool_limits

import bayesimp as bi
from bayesimp import threads
from bayesimp.analysis import fit
from bayesimp.fcs import scale as chained_block
from bayesimp.fcs.identification import columns as identified_columns
from bayesimp.fcs.specification import cluster_means as compatible
from tests.test_compilations import table


def blas_threads() -> set[int]:
    return {library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"}


@pytest.fixture
def seen(monkeypatch):
    """Threads of BLAS wherever a model asks for linear algebra: means, checks, cross products."""
    found = []
    for module, name in (
        (compatible, "dependent"),
        (identified_columns, "dependent"),
        (chained_block, "_grams"),
    ):

        def watched(*arguments, _call=getattr(module, name), _where=(module.__name__, name)):
            found.append((_where, blas_threads()))
            return _call(*arguments)

        monkeypatch.setattr(module, name, watched)
    return found


def test_one_thread_while_a_model_is_made_and_as_many_as_before_after(seen):
    with threadpool_limits(2, "blas"):
        before = blas_threads()
        bi.FCS(bi.IncompleteData(table(5), cluster="id")).table  # noqa: B018
        assert blas_threads() == before == {2}
    assert len({where for where, _ in seen}) == 3
    assert all(count == {1} for _, count in seen)


def test_a_large_table_keeps_its_threads(seen, monkeypatch):
    monkeypatch.setattr(threads, "LARGE", 100)
    with threadpool_limits(2, "blas"):
        bi.FCS(bi.IncompleteData(table(5), cluster="id"))
    assert seen and all(count == {2} for _, count in seen)


def test_threads_come_back_after_a_refusal():
    frame = table(3).assign(copy=lambda f: f.w)
    with threadpool_limits(2, "blas"):
        with pytest.raises(bi.errors.BayesimpError, match="copy"):
            bi.FCS(bi.IncompleteData(frame, cluster="id"), predictors={"v0": "~ w + copy + (1 | id)"})
        assert blas_threads() == {2}


@pytest.mark.parametrize("options", [{}, {"family": "bernoulli"}])
def test_one_thread_while_tables_are_analysed(options, monkeypatch):
    tables = bi.FCS(bi.IncompleteData(table(2, discrete=True), cluster="id")).impute(2, cycles=2, seed=1)
    found = []
    for name in ("fit_linear", "fit_generalised"):

        def watched(*arguments, _call=getattr(fit, name), **named):
            found.append(blas_threads())
            return _call(*arguments, **named)

        monkeypatch.setattr(fit, name, watched)
    with threadpool_limits(2, "blas"):
        tables.analyse(f"{'b' if options else 'v0'} ~ v1 + (1 | id)", **options)
        assert blas_threads() == {2}
    assert found == [{1}]


def test_the_last_to_leave_gives_back_what_the_first_found():
    with threadpool_limits(2, "blas"):
        first, second = threads.one_thread(10), threads.one_thread(10)
        first.__enter__()
        second.__enter__()
        first.__exit__(None, None, None)
        assert blas_threads() == {1}
        second.__exit__(None, None, None)
        assert blas_threads() == {2}
