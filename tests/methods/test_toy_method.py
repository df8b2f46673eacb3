"""A conditional method written outside the package: the cluster mean plus noise, without touching any other file."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest

import bayesimp as bi
from bayesimp.contract import Shift
from bayesimp.events import Event
from bayesimp.fcs.blocks.base import FREE, Block, Parameters, summed
from bayesimp.fcs.blocks.rows import BlockRows
from bayesimp.methods.base import Method
from bayesimp.methods.options import check_count

EMPTY = 1  # a bit of the code of a visit


class ToyBlock(Block):
    """Each missing value is the mean of its cluster plus a residual of an observed row."""

    words = {EMPTY: ("no donor", "clusters without observed values have the mean of all rows")}

    def __init__(self, table, number):
        super().__init__(table, number)
        self.rows = rows = BlockRows(table, number)
        size = np.bincount(rows.cluster, minlength=table.clusters)
        total = np.bincount(rows.cluster, rows.y, table.clusters)
        self.mean = np.where(size > 0, total / np.maximum(size, 1), rows.y.mean())
        self.residuals = rows.y - self.mean[rows.cluster]
        self.empty = int((size == 0).any())

    def init(self, chain):
        return Parameters(own={f"{FREE}shift": np.zeros(()), "draws": np.zeros(1)})

    def step(self, chain, theta):
        noise = chain.rng.choice(self.residuals, (self.method.averaged, len(self.rows.hole_cluster))).mean(
            axis=0
        )
        self.rows.put(chain.V, self.mean[self.rows.hole_cluster] + noise)
        theta.own[f"{FREE}shift"] = np.array(noise.mean() if len(noise) else 0.0)
        theta.own["draws"] += len(noise)
        return EMPTY * self.empty

    def events(self, thetas):
        return [Event("toy", self.chained.block.name, "values drawn", int(summed(thetas, "draws")[0]))]


@dataclass(frozen=True)
class Toy(Method):
    """The mean of the cluster plus the mean of a number of residuals."""

    averaged: int = 1
    name: str = "toy"

    summary = "the mean of the cluster plus noise"
    families = ("normal",)

    def __post_init__(self):
        check_count(self.averaged, "averaged")

    def block(self, table, k):
        return ToyBlock(table, k)


@dataclass(frozen=True)
class Inflexible(Toy):
    """A method that can neither leave out rows nor have its values changed."""

    name: str = "inflexible"
    options = frozenset()


@dataclass(frozen=True)
class Fixed(Toy):
    """A method whose values cannot be shifted, but whose model can be a factor of a joint distribution."""

    name: str = "fixed"
    given_analysis = True

    def no_shift(self, family):
        return f"the toy of a {family.name} variable has no mean to shift."


@pytest.fixture(scope="module")
def frame():
    rng = np.random.default_rng(1)
    g = np.repeat(np.arange(10), 20)
    frame = pd.DataFrame({"g": g, "x": rng.normal(size=200), "y": 10.0 * g + rng.normal(size=200)})
    frame.loc[rng.random(200) < 0.25, "y"] = np.nan
    frame.loc[g == 3, "y"] = np.nan
    return frame


def model(frame, method=None, **options):
    return bi.FCS(bi.IncompleteData(frame, "g"), methods={"y": method or Toy()}, **options)


def test_it_imputes(frame):
    imp = model(frame).impute(5, cycles=4, seed=1, progress=False)
    values, rows = imp.values("y"), frame["y"].isna()
    g = frame["g"][rows].to_numpy()
    observed = frame.groupby("g")["y"].mean()
    assert np.abs(values - observed[g].to_numpy())[:, g != 3].max() < 4
    np.testing.assert_allclose(values[:, g == 3].mean(), frame["y"].mean(), atol=1)
    assert (values[0] != values[1]).mean() > 0.9  # two draws may use the same residual
    averaged = model(frame, Toy(averaged=50)).impute(5, cycles=4, seed=1, progress=False).values("y")
    assert averaged[:, g != 3].std(axis=0).mean() < 0.5 * values[:, g != 3].std(axis=0).mean()


def test_it_is_printed_and_recorded(frame):
    imp = model(frame).impute(2, cycles=4, seed=1, progress=False)
    assert "toy  y ~ 1 + x" in str(model(frame))
    events = {event.kind: event for event in imp.events.itertuples()}
    assert events["toy"].count == 2 * 4 * frame["y"].isna().sum()
    assert events["no donor"].count == 8 and "100% of 8 visits" in events["no donor"].message
    assert imp.tree["posterior"]["shift_y"].shape == (2, 2)


def test_options_are_honoured_or_refused_as_declared(frame):
    imp = model(frame, post={"y": lambda drawn: np.full(len(drawn), 7.0)}).impute(
        2, cycles=2, seed=1, progress=False
    )
    np.testing.assert_allclose(imp.values("y"), 7.0)
    far = frame["g"] >= 5  # rows of clusters whose values would show
    imp = model(frame, ignore=far.to_numpy()).impute(2, cycles=2, seed=1, progress=False)
    assert imp.values("y")[:, far[frame["y"].isna()]].max() < 50
    with pytest.raises(bi.SpecificationError, match=r"bounds\['y'\]: method 'toy' does not support bounds="):
        model(frame, bounds={"y": (-100, 200)})
    with pytest.raises(
        bi.SpecificationError, match=r"post\['y'\]: method 'inflexible' does not support post="
    ):
        model(frame, Inflexible(), post={"y": np.abs})
    with pytest.raises(bi.SpecificationError, match=r"ignore: method 'inflexible' does not support ignore="):
        model(frame, Inflexible(), ignore=far.to_numpy())
    assert model(frame, Inflexible()).ignore.sum() == 0


def test_what_it_declares_decides_whether_values_are_shifted_or_drawn_given_an_analysis(frame):
    with pytest.raises(bi.SpecificationError, match="'y': the toy of a normal variable has no mean to shift"):
        model(frame, Fixed(), shift=Shift({"y": 1.0}))
    assert model(frame, Fixed()).shift.moved == ()
    assert model(frame, shift=Shift({"y": 1.0})).shift.moved == ("y",)  # nothing is said against it
    factor = "drawn from its own model times the analysis, which method 'toy' does not support"
    with pytest.raises(bi.SpecificationError, match=factor):
        model(frame, analysis="x ~ y + (1 | g)")
    assert "y" in model(frame, Fixed(), analysis="x ~ y + (1 | g)").spec.drawn


def test_what_it_does_not_declare_is_refused(frame):
    counts = frame.assign(y=np.abs(frame["y"].round()))
    data = bi.IncompleteData(counts, "g", families={"y": "poisson"})
    with pytest.raises(
        bi.SpecificationError, match="method 'toy' is for normal variables, but it is poisson"
    ):
        bi.FCS(data, methods={"y": Toy()})
    with pytest.raises(bi.SpecificationError, match="method 'toy' does not take a random part"):
        model(frame, predictors={"y": "~ x + (1 | g)"})
    with pytest.raises(bi.SpecificationError, match="No block has priors"):
        model(frame).with_priors("pan")
    with pytest.raises(bi.SpecificationError, match="method 'toy' imputes one variable at a time"):
        bi.FCS(bi.IncompleteData(frame.assign(z=frame["y"] + frame["x"]), "g"), methods={"both": Toy()},
               blocks={"both": ["y", "z"]})  # fmt: skip


def test_saved_and_loaded_it_goes_on_exactly(frame, tmp_path):
    fcs = model(frame, Toy(averaged=2))
    fcs.impute(2, cycles=3, tune=1, seed=1, progress=False).save(tmp_path / "toy.nc")
    more = bi.load(tmp_path / "toy.nc").iterate(2, progress=False)
    whole = fcs.impute(2, cycles=5, tune=1, seed=1, progress=False)
    np.testing.assert_array_equal(more.values("y"), whole.values("y"))


def test_a_class_that_this_session_does_not_know_is_not_imported_from_a_file():
    from bayesimp.methods.base import from_dict

    record = Toy().to_dict()
    assert record == {"type": f"{__name__}:Toy", "averaged": 1, "name": "toy"}
    assert from_dict(record, "y") == Toy()
    with pytest.raises(bi.SpecificationError, match="y: method Other of the module 'elsewhere' is not known"):
        from_dict({"type": "elsewhere:Other"}, "y")
