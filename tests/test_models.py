"""Every imputation model of the registry through one battery of properties, after scikit-learn's estimator checks.

A new model adds a line to `CASES`. The battery itself is tested with a model that does one
thing wrong at a time (`tests/toy_model.py`), which it must notice.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache, partial
from typing import Any

import numpy as np
import pandas as pd
import pytest

import bayesimp as bi
from bayesimp import priors as pr
from bayesimp.contract import ImputationModel, Shift, model_names, model_type
from tests.toy_model import Toy

PACKAGE = {"JointNormal", "JointGLMM", "JointLatent", "FCS"}


@dataclass(frozen=True, eq=False)
class Case:
    """A model of a table, and options of a small run of it.

    Attributes
    ----------
    longer
        Options of a run that `extend` by two imputations must equal, besides m.
    iterations
        Name of the option that says how long chains are.
    shifted
        A normal variable that no other variable of the sweep is drawn given.
    """

    make: Callable[..., ImputationModel]
    options: dict[str, Any]
    longer: dict[str, Any] = field(default_factory=dict)
    iterations: str = "cycles"
    ordinal: bool = False
    shifted: str = "y"

    def model(self, frame: pd.DataFrame | None = None, **options: Any) -> Any:
        frame = table(self.ordinal) if frame is None else frame
        families = {"o": "ordinal"} if self.ordinal else None
        return self.make(bi.IncompleteData(frame, cluster="g", families=families), **options)

    def run(self, frame: pd.DataFrame | None = None, **changed: Any) -> bi.Imputations:
        return self.model(frame).impute(**{"m": 4, "seed": 7, "progress": False} | self.options | changed)

    def first(self) -> bi.Imputations:
        """`run()`, made once for all checks, because results do not change."""
        return first_run(self)


@cache
def first_run(case: Case) -> bi.Imputations:
    return case.run()


def table(ordinal: bool = False) -> pd.DataFrame:
    """60 rows in 6 clusters: y and w incomplete, x complete; o, with levels, incomplete."""
    rng = np.random.default_rng(20261129)
    g = np.repeat(np.arange(6), 10)
    x, effect = rng.normal(size=60), rng.normal(size=6)[g]
    y = 0.5 * x + effect + rng.normal(size=60)
    w = 0.4 * y + rng.normal(size=60)
    frame = pd.DataFrame({"g": g, "x": x, "y": y, "w": w})
    if ordinal:
        names = np.array(["low", "mid", "top"])[np.digitize(y, [-0.7, 0.7])]
        frame["o"] = pd.Categorical(names, ["low", "mid", "top"], ordered=True)
        frame.loc[rng.random(60) < 0.2, "o"] = None
    frame.loc[(g == 2) | (rng.random(60) < 0.2), "y"] = np.nan
    frame.loc[rng.random(60) < 0.2, "w"] = np.nan
    return frame


def joint(data, **options):
    return bi.JointNormal(data, "y + w ~ x + (1 | g)", **options)


def with_groups(data, families=None):
    """h: four groups by the order of x, crossed with g."""
    frame = data.frame.assign(h=(data.frame["x"].rank().to_numpy() * 4 // 61).astype(int))
    frame["h"] = frame["h"].map(dict(enumerate("pqrs")))
    return bi.IncompleteData(frame, ["g", "h"], families=families)


def several_factors(data, **options):
    """g, the groups h, and the combinations of both."""
    return bi.JointNormal(with_groups(data), "y + w ~ x + (1 | g/h) + (1 | h)", **options)


def with_analysis_of_levels(data, **options):
    data = with_groups(data, {"o": "ordinal"})
    return bi.JointGLMM(
        data, "w ~ y * x + (1 + x | g) + (1 + y | h)", {"o": "o ~ y + (1 | g) + (1 + y | h)"}, **options
    )


def mixed(data, **options):
    methods = {"y": "ml", "w": "norm", "o": "bayes"}
    return bi.FCS(data, methods, derived={"yx": "y * x"}, **options)


def chained_with_several_factors(data, **options):
    """Effects of g and h in the models of y, w and o, by default."""
    return bi.FCS(with_groups(data, {"o": "ordinal"}), **options)


def in_a_block(data, **options):
    return bi.FCS(data, blocks={"yw": ["y", "w"]}, **options)


def with_analysis(data, **options):
    return bi.JointGLMM(data, "w ~ y * x + (1 | g)", {"o": "o ~ y + (1 | g)"}, **options)


def on_latent_normals(data, **options):
    return bi.JointLatent(data, "y + w + o ~ x + (1 | g)", **options)


def with_variables_of_clusters(data, **options):
    """v is one: the mean of x in a cluster, not known of the two where it is least."""
    v = data.frame.groupby("g")["x"].transform("mean").round(3)
    frame = data.frame.assign(v=v.where(v > sorted(v.unique())[1]))
    data = bi.IncompleteData(frame, cluster="g", families={"o": "ordinal"})
    return bi.JointLatent(data, "y + w + o + v ~ x + (1 | g)", **options)


def latent_with_several_factors(data, **options):
    """h is crossed with g: six groups by the order of x; v is one of its variables, not known of one of them."""
    h = pd.Series((data.frame["x"].rank().to_numpy() * 6 // 61).astype(int), data.frame.index)
    v = data.frame.groupby(h)["x"].transform("mean").round(3)
    frame = data.frame.assign(h=h.map(dict(enumerate("pqrstu"))), v=v.where(h != 2))
    data = bi.IncompleteData(frame, ["g", "h"], families={"o": "ordinal"})
    return bi.JointLatent(data, "y + w + o + v ~ x + (1 | g) + (1 | h)", **options)


def unlike_residuals(data, **options):
    return bi.JointLatent(data, "y + w ~ x + (1 | g)", residual="cluster", **options)


def for_analysis(data, **options):
    return bi.FCS(data, analysis="w ~ y * x + o + (1 | g)", **options)


GIBBS = {"chains": 2, "tune": 4, "draws": 6, "thin": 2}
CASES = {
    "JointNormal, gibbs": Case(joint, GIBBS, {"draws": 9}, "draws"),
    "JointNormal, several factors": Case(several_factors, GIBBS, {"draws": 9}, "draws"),
    "JointGLMM": Case(with_analysis, GIBBS, {"draws": 9}, "draws", ordinal=True, shifted="w"),
    "JointGLMM, several factors": Case(
        with_analysis_of_levels, GIBBS, {"draws": 9}, "draws", ordinal=True, shifted="w"
    ),
    "JointLatent": Case(on_latent_normals, GIBBS, {"draws": 9}, "draws", ordinal=True),
    "JointLatent, cluster-level variables": Case(
        with_variables_of_clusters, GIBBS, {"draws": 9}, "draws", ordinal=True
    ),
    "JointLatent, several factors": Case(
        latent_with_several_factors, GIBBS, {"draws": 9}, "draws", ordinal=True
    ),
    "JointLatent, residual": Case(unlike_residuals, GIBBS, {"draws": 9}, "draws"),
    "FCS, bayes": Case(bi.FCS, {"cycles": 6}),
    "FCS, several methods": Case(mixed, {"cycles": 4}, ordinal=True),
    "FCS, several factors": Case(chained_with_several_factors, {"cycles": 4}, ordinal=True),
    "FCS, one block": Case(in_a_block, {"cycles": 4}),
    "FCS, analysis": Case(for_analysis, {"cycles": 4}, ordinal=True, shifted="w"),
    "Toy": Case(Toy, {}, iterations="n"),
}
every_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


def same(a: bi.Imputations, b: bi.Imputations, m: int | None = None) -> bool:
    """Whether the first m tables (all of them) are the same, bit for bit."""
    if a.imputed_columns != b.imputed_columns or (m is None and a.m != b.m):
        return False
    return all(np.array_equal(a.values(c)[:m], b.values(c)[:m]) for c in a.imputed_columns)


def test_every_model_of_the_package_is_here():
    tested = {type(case.model()).__name__ for case in CASES.values()}
    # a user's own PyMC model has no priors, shifts or other row orders: tests/joint/test_from_pymc.py
    assert tested | {"FromPyMC"} == set(model_names()) and PACKAGE <= tested
    assert all(model_type(name).__name__ == name for name in model_names())
    with pytest.raises(
        bi.SpecificationError,
        match="not an imputation model; the models are JointNormal, JointGLMM, JointLatent, FCS",
    ):
        model_type("Joint")


# Checks of every model. Each takes a case, so that a wrong model can be given.


def check_seed(case: Case) -> None:
    first = case.first()
    assert same(first, case.run())
    assert not same(first, case.run(seed=8))


def check_rows(case: Case) -> None:
    """Rows in another order: the same values in the same rows."""
    frame = table(case.ordinal)
    order = np.random.default_rng(3).permutation(len(frame))
    a, b = case.first(), case.run(frame.iloc[order])
    for k in range(a.m):
        pd.testing.assert_frame_equal(b.frame(k).sort_index(), a.frame(k), check_exact=False, rtol=1e-9)


def check_labels(case: Case) -> None:
    """Other cluster names in another order give the same values."""
    frame = table(case.ordinal)
    named = frame.assign(g=frame["g"].map(dict(enumerate("fdbeca"))))
    a, b = case.first(), case.run(named)
    for name in a.imputed_columns:
        np.testing.assert_allclose(a.values(name), b.values(name), rtol=1e-9)


def check_workers(case: Case) -> None:
    assert same(case.run(workers=1), case.run(workers=3))


def check_executor(case: Case, executor: str = "serial") -> None:
    here, there = case.first(), case.run(executor=executor, workers=1 if executor == "serial" else 2)
    assert same(here, there)
    assert here.tree["posterior"].to_dataset().equals(there.tree["posterior"].to_dataset())
    assert same(here.extend(2), there.extend(2))


def check_extend(case: Case) -> None:
    first = case.first()
    longer = first.extend(2)
    assert longer.m == 6 and same(longer, first, 4)
    assert same(longer, case.run(m=6, **case.longer))


def check_iterate(case: Case) -> None:
    """More cycles, or, where the chains have none, a reason."""
    first = case.first()
    if not first.chained:
        with pytest.raises(ValueError, match="Only imputations by chained equations"):
            first.iterate(2)
        return
    cycles = int(first.attrs["draws"])
    assert same(first.iterate(3), case.run(**{case.iterations: cycles + 3}))


def check_interrupt(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C once sampling is under way: the draws so far are kept, with an event, and are the beginning of the run."""
    from bayesimp.progress import Report

    seen = 0

    def strike(self: Report, stage: str, done: int, total: int) -> None:
        nonlocal seen
        seen += stage in ("sampling", "imputing") and 8 <= done < total
        if seen == 1:
            seen += 1
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Report, "__call__", strike)
        part = case.run(m=2, **{case.iterations: 200_000})
    done = int(part.attrs["draws"])
    assert 1 <= done < 200_000 and "interrupted" in set(part.events["kind"])
    check_complete(part, table(case.ordinal))
    whole = case.run(m=2, **{case.iterations: max(done, 2)})
    a, b = along(part), along(whole)
    for name in a:
        np.testing.assert_array_equal(a[name][:, :done], b[name][:, :done])


def along(imp: bi.Imputations) -> dict[str, np.ndarray]:
    """Draws of every parameter (chains, draws, ...), warm-up before the others where it is kept."""
    groups = [g for g in ("warmup_posterior", "posterior") if g in imp.tree.children]
    names = [str(name) for name in imp.tree["posterior"].data_vars]
    return {name: np.concatenate([imp.tree[g][name].values for g in groups], axis=1) for name in names}


def check_stored(case: Case, tmp_path: Any) -> None:
    """Saved and loaded: the same result, which goes on exactly."""
    first = case.first()
    longer, further = first.extend(2), first.iterate(2) if first.chained else None
    first.save(tmp_path / "run.nc")
    back = bi.load(tmp_path / "run.nc")
    assert same(first, back) and back.attrs == first.attrs
    pd.testing.assert_frame_equal(pd.DataFrame(back.events), pd.DataFrame(first.events))
    assert back.tree["posterior"].to_dataset().equals(first.tree["posterior"].to_dataset())
    assert same(back.extend(2), longer)
    assert further is None or same(back.iterate(2), further)


def check_pickle(case: Case) -> None:
    first = case.first()
    back = pickle.loads(pickle.dumps(first))
    assert same(first, back) and back.attrs == first.attrs
    assert same(back.extend(2), first.extend(2))


def check_specification(case: Case) -> None:
    """The model made again from its specification imputes the same."""
    model = case.model()
    again = type(model).from_specification(model.data, model.specification())
    options = {"m": 4, "seed": 7, "progress": False} | case.options
    assert same(case.first(), again.impute(**options))


def check_complete(imp: bi.Imputations, frame: pd.DataFrame) -> None:
    """No missing cell of a response is left; observed cells and dtypes are those of the table."""
    columns = [name for name in frame if name in imp.responses or frame[name].notna().all()]
    frame = frame[columns]
    for k in range(imp.m):
        done = imp.frame(k)
        assert not done[columns].isna().any().any()
        assert list(done[columns].dtypes) == list(frame.dtypes)
        assert done[columns].where(frame.notna()).equals(frame.where(frame.notna()))


def check_events(case: Case) -> None:
    """A short scale imputed as normal is noted by every model."""
    frame = table(case.ordinal)
    frame["y"] = np.rint(frame["y"]).clip(-1, 2)
    imp = case.run(frame)
    assert list(imp.events.columns) == ["kind", "where", "message", "count"]
    assert "y" in set(imp.events.query("kind == 'whole numbers'")["where"])


def check_progress(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """Progress is reported, never goes back within a stage, and ends at the total."""
    from bayesimp.progress import Report

    told: dict[str, list[tuple[int, int]]] = {}

    def listen(self: Report, stage: str, done: int, total: int) -> None:
        told.setdefault(stage, []).append((done, total))

    with monkeypatch.context() as patch:
        patch.setattr(Report, "__call__", listen)
        case.run()
    assert told
    for stage, reports in told.items():
        assert [done for done, _ in reports] == sorted(done for done, _ in reports), stage
        assert reports[-1][0] == reports[-1][1] > 0, stage


def check_priors(case: Case) -> None:
    """Under other priors the same table is imputed; what has a prior is in the posterior."""
    model = case.model()
    other = model.with_priors(pr.mice())
    assert type(other) is type(model) and other.data is model.data
    posterior = set(case.first().tree["posterior"].data_vars)
    assert set(model.parameter_priors) <= posterior and model.parameter_priors
    assert set(model.responses) <= {"y", "w", "o", "v"}


def check_shift(case: Case) -> None:
    """A shift of 0 changes nothing; one of c moves the last variable that is visited by c, given the same parameters."""
    frame = table(case.ordinal)
    name, options = case.shifted, dict(case.options)
    if case.make is not Toy and case.iterations == "cycles":
        name, options = "w", {"cycles": 1}
    as_it_is = case.run(frame, **options)
    still, moved = (
        case.model(frame, shift=Shift({name: number})).impute(
            **{"m": 4, "seed": 7, "progress": False} | options
        )
        for number in (0.0, 2.5)
    )
    assert same(as_it_is, still)
    np.testing.assert_allclose(moved.values(name), as_it_is.values(name) + 2.5, rtol=1e-9, atol=1e-9)


CHECKS: dict[str, Callable[..., None]] = {
    "seed": check_seed,
    "rows": check_rows,
    "labels": check_labels,
    "workers": check_workers,
    "executor": check_executor,
    "extend": check_extend,
    "iterate": check_iterate,
    "pickle": check_pickle,
    "specification": check_specification,
    "events": check_events,
    "priors": check_priors,
    "shift": check_shift,
}


@every_case
@pytest.mark.parametrize("name", CHECKS)
def test_property(case, name):
    CHECKS[name](case)


@every_case
def test_no_cell_is_missing_and_dtypes_stay(case):
    frame = table(case.ordinal)
    check_complete(case.first(), frame)


@every_case
def test_saved_and_loaded(case, tmp_path):
    check_stored(case, tmp_path)


@every_case
def test_an_interruption_keeps_what_there_is(case, monkeypatch):
    check_interrupt(case, monkeypatch)


@every_case
def test_progress(case, monkeypatch):
    check_progress(case, monkeypatch)


@pytest.mark.parametrize("name, workers", [("JointNormal, gibbs", 2), ("FCS, several methods", 1)])
def test_processes_give_the_same(name, workers):
    case = CASES[name]
    here, there = case.first(), case.run(executor="processes", workers=workers)
    assert same(here, there)
    assert here.tree["posterior"].to_dataset().equals(there.tree["posterior"].to_dataset())


def wrong(fault: str) -> Case:
    return Case(partial(Toy, fault=fault), {}, iterations="n")


@pytest.mark.parametrize(
    "fault", ["seed", "rows", "labels", "workers", "executor", "extend", "pickle", "specification", "events"]
)
def test_a_wrong_model_is_noticed(fault):
    with pytest.raises(AssertionError):
        CHECKS[fault](wrong(fault))


@pytest.mark.parametrize("fault", ["missing", "observed"])
def test_wrong_tables_are_noticed(fault):
    frame = table()
    check_complete(wrong("").run(frame), frame)
    with pytest.raises(AssertionError):
        check_complete(wrong(fault).run(frame), frame)


def test_wrong_files_progress_and_interruptions_are_noticed(tmp_path, monkeypatch):
    for fault, check in (
        ("load", lambda: check_stored(wrong("load"), tmp_path)),
        ("progress", lambda: check_progress(wrong("progress"), monkeypatch)),
        ("interrupt", lambda: check_interrupt(wrong("interrupt"), monkeypatch)),
    ):
        with pytest.raises(AssertionError):
            check()
            pytest.fail(fault, pytrace=False)
