"""Reference-based imputation on latent normals: completed cells against the law of each patient, written out.

Given the parameters and cluster effects behind an imputation, cells of patients who dropped out are independent over rows
and imputations. A binary cell has a known probability, a ratio of orthants of the normal law of its row (quadrature), and
a number a known normal law; both are compared in exact standard errors, Bonferroni, level 1e-4.
"""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from scipy.stats import chi2, multivariate_normal, norm

import bayesimp as bi
from bayesimp.contract import Shift
from bayesimp.errors import SamplingError, SpecificationError
from bayesimp.joint.latent import reference as latent_reference
from bayesimp.joint.latent.reference import _completed, _sweeps
from bayesimp.joint.reference import HOW
from bayesimp.kernels.latent.records import NUMBER, THRESHOLD, UTILITY, LatentColumns
from tests.calibration.montecarlo import LEVEL, REJECTED, bonferroni, two_samples
from tests.longhand.orthants import all_below
from tests.longhand.reference_based import WRONG, strategy_mean
from tests.unfolding import unfolded

JUMP, INCREMENTS, COPY = HOW
VISITS = ["week4", "week8", "week12"]
FORMULA = "week4 + week8 + week12 ~ arm + base + (1 | centre)"
RUN = {"m": 120, "seed": 3, "chains": 2, "tune": 60, "draws": 240, "thin": 1, "progress": False}
OTHER = ("intermittent too", "mean of the arms", "not carried", "as in the own arm before")


def latent_trial(seed=1, n=150) -> tuple[pd.DataFrame, np.ndarray]:
    """Patients, and three correlated latent visits (n, 3), nan where they are missing; the arms differ more and more."""
    rng = np.random.default_rng(seed)
    arm, base, centre = (
        rng.choice(["drug", "placebo"], n, p=[0.6, 0.4]),
        rng.normal(size=n),
        rng.integers(0, 6, n),
    )
    effect = np.outer(arm == "drug", [0.7, 1.2, 2.0]) - 0.6
    y = effect + 0.4 * base[:, None] + 0.4 * rng.normal(size=6)[centre][:, None]
    y = y + rng.multivariate_normal(np.zeros(3), 0.6 + 0.4 * np.eye(3), n)
    stays = rng.integers(0, 5, n)
    y[np.arange(3)[None] >= np.where(stays > 3, 3, stays)[:, None]] = np.nan
    y[(rng.random(n) < 0.15), 0] = np.nan
    y[(rng.random(n) < 0.10), 1] = np.nan
    return pd.DataFrame({"centre": centre, "arm": arm, "base": base}), y


def trial(kind="binary") -> pd.DataFrame:
    frame, y = latent_trial()
    for name, column in zip(VISITS, y.T, strict=True):
        values = np.where(column > 0, "yes", "no").astype(object)
        frame[name] = np.where(np.isnan(column), None, values) if kind == "binary" else 20 + 5 * column
    return frame


def model(how=None, frame=None, formula=FORMULA, families=None, **options) -> bi.JointLatent:
    frame = trial() if frame is None else frame
    families = dict.fromkeys(VISITS, "bernoulli") if families is None else families
    reference = None if how is None else bi.ReferenceBased("arm", "placebo", VISITS, how)
    return bi.JointLatent(
        bi.IncompleteData(frame, "centre", families), formula, reference=reference, **options
    )


def cells(imp) -> np.ndarray:
    """(m, n, 3): completed visits; of levels their positions."""
    frame = imp.data.frame
    out = np.repeat(np.column_stack([imp.data.numeric(v) for v in VISITS])[None], imp.m, axis=0)
    for k, name in enumerate(VISITS):
        made = imp.tree["imputed"][name]
        rows = made.coords[f"row_{name}"].values
        assert (rows == np.flatnonzero(frame[name].isna())).all()
        out[:, rows, k] = made.values
    return out


@pytest.fixture(scope="module")
def binary():
    frame = trial()
    return {how: model(how, frame).impute(**RUN) for how in (None, *HOW)}


def parameters(imp):
    """(m, n, 3) means in the own arm and in that of placebo, and (m, n, 3, 3) Sigma, behind every imputation."""
    k, frame = np.arange(imp.m), imp.data.frame
    at = k % 2, (k // 2 + 1) * imp.run.spacing - 1
    p = imp.tree["posterior"]
    names = [str(name) for name in p["fixed"].values]
    beta, centre = p["beta"].values[at], frame["centre"].to_numpy()
    assert names == ["Intercept", "arm[placebo]", "base"]
    placebo = (frame["arm"] == "placebo").to_numpy(dtype=float)
    rest = (
        beta[:, None, 0] + frame["base"].to_numpy()[:, None] * beta[:, None, 2] + p["B"].values[at][:, centre]
    )
    own = rest + placebo[:, None] * beta[:, None, 1]
    if "Sigma_clusters" in p:
        Sigma = p["Sigma_clusters"].values[at][:, centre]
    else:
        Sigma = np.broadcast_to(p["Sigma"].values[at][:, None], (*own.shape, 3))
    return own, rest + beta[:, None, 1], Sigma


def strategy(own, placebo, seen, how):
    """(m, 3) means of a patient under a right or wrong strategy; own, placebo (m, 3), seen (3,)."""
    last = int(np.flatnonzero(seen).max()) if seen.any() else -1
    if how == "intermittent too":
        return np.where(seen, own, placebo)
    if how == "mean of the arms":
        return np.where(np.arange(3) > last, 0.5 * (own + placebo), own)
    if (
        how == "as in the own arm before"
    ):  # copy reference, but the observed levels have the mean of the own arm
        return np.where(seen, own, placebo)
    return strategy_mean(own.T, placebo.T, seen, how).T


def dropped(frame, how):
    """Rows that are not imputed at random."""
    missing = frame[VISITS].isna().to_numpy()
    some = missing.any(axis=1) if how == COPY else missing[:, 2]
    return np.flatnonzero(some & (frame["arm"] == "drug").to_numpy())


def probability(mean, Sigma, y, wanted):
    """P(missing binary visits = wanted given the others), for rows with the same visits; mean, y, wanted (n, 3).

    y: nan where missing; wanted: nan where the visit is not asked about.
    """
    seen, asked = ~np.isnan(y[0]), ~np.isnan(wanted[0])
    sign = np.where(np.nan_to_num(np.where(seen, y, wanted)) > 0.5, 1.0, -1.0)
    R = Sigma * sign[:, :, None] * sign[:, None, :]
    both, given = np.flatnonzero(seen | asked), np.flatnonzero(seen)
    h = sign * mean
    return all_below(h[:, both], R[:, both][:, :, both]) / all_below(h[:, given], R[:, given][:, :, given])


def strategies(imp, how):
    """Rows not imputed at random, their visits (R, 3), and (m, R, 3) means, (m, R, 3, 3) Sigma under a strategy."""
    frame = imp.data.frame
    rows = dropped(frame, imp.model.reference.how)
    Y = np.column_stack([imp.data.numeric(v) for v in VISITS])[rows]
    own, placebo, Sigma = (each[:, rows] for each in parameters(imp))
    mean = [strategy(own[:, h], placebo[:, h], ~np.isnan(Y[h]), how) for h in range(len(rows))]
    return rows, Y, np.stack(mean, axis=1), Sigma


def p_of_binary(imp, how) -> float:
    """Cells of rows by pattern of visits: each missing visit, and the last two together."""
    rows, Y, mean, Sigma = strategies(imp, how)
    found, z, patterns = cells(imp)[:, rows], [], np.isnan(Y)
    for pattern in np.unique(patterns, axis=0):
        of = np.flatnonzero((patterns == pattern).all(axis=1))
        M = np.flatnonzero(pattern)
        y = np.tile(Y[of] if how != "not carried" else np.nan * Y[of], (imp.m, 1))
        for places in [(k,) for k in M] + ([tuple(M[-2:])] if len(M) > 1 else []):
            wanted = np.full_like(y, np.nan)
            wanted[:, places] = 1.0
            P = probability(mean[:, of].reshape(-1, 3), Sigma[:, of].reshape(-1, 3, 3), y, wanted)
            hit = (found[:, of][:, :, places] == 1).all(axis=2).ravel()
            z.append((hit - P).sum() / np.sqrt((P * (1 - P)).sum()))
    return bonferroni(2 * norm.sf(np.abs(z)))


@pytest.mark.parametrize("how", HOW)
def test_binary_visits_have_the_probabilities_of_the_law(binary, how):
    assert p_of_binary(binary[how], how) > LEVEL


@pytest.mark.parametrize(
    ("how", "wrong"), [(how, wrong) for how in HOW for wrong in (*WRONG, *OTHER, *HOW) if wrong != how]
)
def test_other_laws_are_told_apart(binary, how, wrong):
    assert p_of_binary(binary[how], wrong) < REJECTED


def test_orthants_are_those_of_scipy():
    rng = np.random.default_rng(2)
    h, A = rng.normal(size=(4, 3)), rng.normal(size=(4, 3, 5))
    S = A @ A.transpose(0, 2, 1)
    s = np.sqrt(np.einsum("jkk->jk", S))
    R = S / s[:, :, None] / s[:, None, :]
    expected = [multivariate_normal(cov=r).cdf(b) for r, b in zip(R, h, strict=True)]
    np.testing.assert_allclose(all_below(h, R), expected, atol=2e-4)


SPOILT = {
    "effects of other centres": lambda own, placebo, Sigma: (own[:, ::-1], placebo[:, ::-1], Sigma),
    "another draw": lambda own, placebo, Sigma: (own[::-1], placebo[::-1], Sigma[::-1]),
    "no correlation": lambda own, placebo, Sigma: (own, placebo, Sigma * np.eye(3)),
}


@pytest.mark.parametrize("spoilt", SPOILT)
def test_wrong_wiring_is_told_apart(monkeypatch, spoilt):
    """If rows were completed from other parameters than those that are kept, the comparison above would fail."""
    imp = model(COPY, trial("numbers"), families={}).impute(**RUN)
    assert p_of_numbers(imp, COPY) > LEVEL
    monkeypatch.setitem(globals(), "parameters", lambda imp, right=parameters: SPOILT[spoilt](*right(imp)))
    assert p_of_numbers(imp, COPY) < REJECTED


def p_of_numbers(imp, how) -> float:
    """Residuals of each missing number given the observed ones under a strategy, in their standard deviations: means, and
    mean squares."""
    rows, Y, mean, Sigma = strategies(imp, how)
    found, z = cells(imp)[:, rows], []
    for k in range(3):
        for h in np.flatnonzero(np.isnan(Y[:, k])):
            seen = np.flatnonzero(~np.isnan(Y[h]))
            S = Sigma[:, h]
            K = np.linalg.solve(S[:, seen][:, :, seen], S[:, seen, k][..., None])[..., 0]
            centre = mean[:, h, k] + ((Y[h, seen] - mean[:, h][:, seen]) * K).sum(axis=1)
            variance = S[:, k, k] - (S[:, seen, k] * K).sum(axis=1)
            z.append(((k, h), (found[:, h, k] - centre) / np.sqrt(variance)))
    p = []
    for k in range(3):
        own = np.concatenate([values for (column, _), values in z if column == k])
        square = (own**2).sum()
        p += [
            2 * norm.sf(abs(own.mean()) * np.sqrt(len(own))),
            2 * min(chi2.sf(square, len(own)), chi2.cdf(square, len(own))),
        ]
    return bonferroni(p)


@pytest.mark.parametrize("residual", ["common", "cluster"])
def test_numbers_have_the_law_of_the_joint_normal_model(residual):
    """With one covariance in each cluster, residuals and the values carried forward are those of the cluster."""
    frame = trial("numbers")
    if residual == "cluster":
        frame.loc[frame["centre"] == 0, VISITS] *= 3
    for how in HOW:
        imp = model(how, frame, families={}, residual=residual).impute(**RUN | {"m": 40})
        assert p_of_numbers(imp, how) > LEVEL
        for wrong in ("own arm", "arms exchanged", "mean of the arms", *(set(HOW) - {how})):
            assert p_of_numbers(imp, wrong) < REJECTED


def test_numbers_are_those_of_joint_normal():
    """Means of completed visits by arm under both engines; draws of the parameters are 6 iterations apart."""
    frame = trial("numbers")
    data = bi.IncompleteData(frame, "centre")
    run = RUN | {"m": 100, "draws": 300}
    means = {}
    for how in (JUMP, COPY):
        reference = bi.ReferenceBased("arm", "placebo", VISITS, how)
        for engine in (bi.JointNormal, bi.JointLatent):
            imp = engine(data, FORMULA, reference=reference).impute(**run)
            found = cells(imp)
            drug = (frame["arm"] == "drug").to_numpy()
            means[how, engine] = np.hstack([found[:, drug].mean(axis=1), (found[:, drug] ** 2).mean(axis=1)])
        assert two_samples(means[how, bi.JointNormal], means[how, bi.JointLatent]) > LEVEL
    assert two_samples(means[JUMP, bi.JointNormal], means[COPY, bi.JointLatent]) < REJECTED


def test_levels_of_every_kind_given_the_rest_of_the_row():
    """A number, an ordinal and a nominal visit observed, and each missing in turn: draws of 6,000 equal rows against
    draws of the whole row, of which those with the observed levels are kept. A wrong observed level is told apart."""
    A = np.random.default_rng(4).normal(size=(5, 8))
    S = A @ A.T
    Sigma = S / np.sqrt(np.outer(np.diag(S), np.diag(S)))
    mean, cutpoints = np.array([0.3, -0.2, 0.4, 0.1, -0.3]), np.array([0.0, 0.8, 0.0])
    kind = np.array([NUMBER, THRESHOLD, UTILITY, UTILITY, THRESHOLD])
    columns = LatentColumns(
        kind, np.array([0, 1, 2, 2, 4]), np.array([1, 1, 2, 2, 1]), np.array([0, 0, 2, 2, 2, 3])
    )
    y = np.random.default_rng(5).multivariate_normal(mean, Sigma, 400_000)
    n = 6_000

    def levels(y):
        best = np.where(y[:, 2:4].max(axis=1) < 0, 0, y[:, 2:4].argmax(axis=1) + 1)
        ordinal = (y[:, 1] > 0).astype(int) + (y[:, 1] > 0.8)
        return np.column_stack([y[:, 0], ordinal, best, best, y[:, 4] > 0])

    def drawn(missing, level):
        rows = SimpleNamespace(level=np.tile(level, (n, 1)))
        table = SimpleNamespace(columns=columns, rows=rows, Y=np.full((n, 5), 0.5))
        seen = np.tile(~np.isin(np.arange(5), missing), (n, 1))
        every = np.broadcast_to(Sigma, (n, 5, 5))
        return _completed(
            np.random.default_rng(6), table, np.arange(n), seen, np.tile(mean, (n, 1)), every, cutpoints, 0
        )

    def described(y):
        found = levels(y)
        return np.column_stack(
            [y[:, 0], found[:, 1] == 1, found[:, 1] == 2, found[:, 2] == 1, found[:, 2] == 2, found[:, 4]]
        )

    given = np.array([-1, 2, 1, 1, 0])
    for missing in ([0], [1, 4], [2, 3]):
        seen = [k for k in (1, 2, 4) if k not in missing]
        shifted = (
            y + (0.5 - y[:, :1]) * Sigma[0] if 0 not in missing else y
        )  # given the number 0.5 (Matheron's rule)
        kept = shifted[(levels(shifted)[:, seen] == given[seen]).all(axis=1)]
        assert len(kept) > 2_000
        right, other = drawn(missing, given), drawn(missing, np.where(given < 0, -1, (given + 1) % 2))
        asked = [0] if missing == [0] else [1, 2, 5] if missing == [1, 4] else [3, 4]
        pair = [described(kept).astype(float)[:, asked], described(right).astype(float)[:, asked]]
        assert two_samples(*pair) > LEVEL
        assert two_samples(pair[0], described(other).astype(float)[:, asked]) < REJECTED


def test_parameters_and_all_other_patients_are_those_at_random(binary):
    """Bit for bit: patients on placebo, and those without a missing visit after their last observed one."""
    frame = trial()
    for how in HOW:
        imp = binary[how]
        for name in ("beta", "Sigma", "Psi"):
            np.testing.assert_array_equal(imp.tree["posterior"][name], binary[None].tree["posterior"][name])
        same = np.ones(len(frame), dtype=bool)
        same[dropped(frame, how)] = False
        np.testing.assert_array_equal(cells(imp)[:, same], cells(binary[None])[:, same])
        assert (cells(imp) != cells(binary[None])).any()
        stats = [each.tree["imputed_stats"]["mean"].values for each in (imp, binary[None])]
        np.testing.assert_array_equal(*stats)


def test_a_trial_of_the_reference_arm_alone_is_imputed_at_random():
    """Nobody is moved: bit for bit the imputations of the model without a reference."""
    frame = trial().assign(arm="placebo")
    frame.loc[0, [*VISITS, "arm"]] = [
        "yes",
        "no",
        "no",
        "drug",
    ]  # one complete patient, so that the arm is a column
    for how in HOW:
        both = [model(own, frame).impute(**RUN | {"m": 4}) for own in (how, None)]
        np.testing.assert_array_equal(*map(cells, both))


def test_nominal_and_ordinal_visits_reach_the_table_by_label():
    """On placebo everyone ends in the last level, on the drug in the first; after a jump, all have those of placebo."""
    rng = np.random.default_rng(7)
    n = 200
    arm = np.where(rng.random(n) < 0.5, "drug", "placebo")
    frame = pd.DataFrame({"centre": rng.integers(0, 5, n), "arm": arm, "base": rng.normal(size=n)})
    likely = np.where(arm == "drug", 0.9, 0.05)
    for name, last in (("week4", "severe"), ("week8", "rescue"), ("week12", "severe")):
        levels = ["none", "mild", last]
        low = rng.random(n) < likely
        values = np.where(low, levels[0], np.where(rng.random(n) < 0.15, levels[1], levels[2]))
        frame[name] = pd.Categorical(values, levels, ordered=last == "severe")
    gone = rng.random(n) < 0.3
    frame.loc[gone, ["week8", "week12"]] = None
    imp = model(JUMP, frame, families={}).impute(m=20, seed=1, chains=2, draws=200, tune=100, progress=False)
    drug = gone & (arm == "drug")
    for name, last in (("week8", "rescue"), ("week12", "severe")):
        jumped = np.mean([(imp.frame(k)[name][drug] == last).mean() for k in range(20)])
        own = np.mean([(imp.frame(k)[name][~gone & (arm == "drug")] == last).mean() for k in range(20)])
        placebo = np.mean(
            [(imp.frame(k)[name][~gone & (arm == "placebo")] == last).mean() for k in range(20)]
        )
        assert own < 0.15 < 0.6 < jumped
        assert abs(jumped - placebo) < 0.15


def test_it_is_saved_and_continued(tmp_path):
    imp = model(COPY).impute(**RUN | {"m": 8, "draws": 40})
    imp.save(tmp_path / "run.nc")
    back = bi.load(tmp_path / "run.nc")
    assert back.model.reference == imp.model.reference
    np.testing.assert_array_equal(cells(back), cells(imp))
    longer = imp.extend(12)
    np.testing.assert_array_equal(cells(back.extend(12)), cells(longer))
    np.testing.assert_array_equal(cells(longer)[:8], cells(imp))
    assert imp.model.with_priors("jomo").reference == imp.model.reference
    assert "copy reference: after drop-out as where arm is placebo" in unfolded(repr(imp.model))
    with pytest.raises(SpecificationError, match="which applies to the rows of its trial only"):
        imp.transform(trial().assign(centre=1))


def test_a_shift_is_added_on_top(binary):
    """On the latent scale of missing values: a large one makes every level the last."""
    moved = model(JUMP, shift=Shift({"week12": 50.0})).impute(**RUN | {"m": 4})
    missing = trial()["week12"].isna().to_numpy()
    assert (cells(moved)[:, missing, 2] == 1).all()
    assert (cells(binary[JUMP])[:, missing, 2] == 0).any()


def mixed() -> pd.DataFrame:
    return trial().assign(week4=trial("numbers")["week4"])


def of_centre() -> pd.DataFrame:
    frame = trial()
    return frame.assign(week4=np.where(frame["centre"] < 3, "yes", "no"))


REFUSED = {
    "increments of different families": (
        INCREMENTS, mixed, dict.fromkeys(VISITS[1:], "bernoulli"), FORMULA,
        "have different families or levels: week4 (normal), week8 (bernoulli, 2 levels)",
    ),
    "a visit of clusters": (JUMP, of_centre, None, FORMULA, "visit 'week4' has a single value in every cluster"),
    "random effects of the arm": (JUMP, trial, None, FORMULA.replace("(1 |", "(1 + arm |"), "'arm' has random effects"),
    "several factors": (JUMP, lambda: trial().assign(site=np.arange(150) % 15), None,
                        FORMULA + " + (1 | site)", "not available with several grouping factors (centre, site)"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_refused_in_words(case):
    how, frame, families, formula, words = REFUSED[case]
    families = dict.fromkeys(VISITS, "bernoulli") if families is None else families
    table = bi.IncompleteData(frame(), ["centre", "site"] if "site" in formula else "centre", families)
    with pytest.raises(SpecificationError) as refused:
        bi.JointLatent(table, formula, reference=bi.ReferenceBased("arm", "placebo", VISITS, how))
    assert words in " ".join(str(refused.value).split())


def test_mnar_is_refused():
    with pytest.raises(SpecificationError, match="the model imputes by reference"):
        bi.mnar(model(JUMP), {"week12": [1]}, analysis="week12 ~ arm")


@pytest.mark.filterwarnings("ignore:NOT known to mix")
@pytest.mark.filterwarnings("ignore:Does NOT mix")  # in 20 draws
def test_other_engines_refuse_and_say_what_to_use():
    reference = bi.ReferenceBased("arm", "placebo", VISITS)
    with pytest.raises(
        SpecificationError, match=r"not an option of FCS: JointNormal \(engine='joint'\) and JointLatent"
    ):
        bi.impute(trial(), "centre", engine="fcs", reference=reference, show=False)
    imp = bi.impute(
        trial(),
        "centre",
        2,
        formula=FORMULA,
        reference=reference,
        draws=20,
        tune=10,
        chains=2,
        seed=1,
        show=False,
    )
    assert isinstance(imp.model, bi.JointLatent) and imp.model.reference == reference


def equal_rows(n, rho, level):
    """(n, 3) latent visits of equal rows of which the first two have these levels; all correlations are rho."""
    Sigma = rho + (1 - rho) * np.eye(3)
    kind, k = np.full(3, THRESHOLD), np.arange(3)
    table = SimpleNamespace(
        columns=LatentColumns(kind, k, np.ones(3, dtype=int), np.arange(4)),
        rows=SimpleNamespace(level=np.tile([*level, -1], (n, 1))),
        Y=np.zeros((n, 3)),
    )
    seen, mean = np.tile([True, True, False], (n, 1)), np.tile([0.5, -0.2, 0.3], (n, 1))
    every = np.broadcast_to(Sigma, (n, 3, 3))
    return (
        _completed(np.random.default_rng(8), table, np.arange(n), seen, mean, every, np.zeros(3), 0),
        mean,
        every,
    )


def test_enough_sweeps_are_made_for_visits_that_are_almost_the_same(monkeypatch):
    """With two visits the rate of the sweeps is rho^2. After a single one the law is another."""
    rho, n, level = 0.95, 4_000, (1, 0)  # levels that contradict each other

    def p_value():
        y, mean, every = equal_rows(n, rho, level)
        assert ((y[:, :2] > 0) == level).all()
        seen = np.column_stack([np.tile(level, (n, 1)), np.full(n, np.nan)])
        P = probability(mean[:1], every[:1], seen[:1], np.array([[np.nan, np.nan, 1.0]]))[0]
        return 2 * norm.sf(abs((y[:, 2] > 0).mean() - P) / np.sqrt(P * (1 - P) / n))

    made = []
    monkeypatch.setattr(
        latent_reference, "_sweeps", lambda *a, right=_sweeps: made.append(right(*a)) or made[-1]
    )
    assert p_value() > LEVEL
    assert made == [int(np.ceil(np.log(1e-6) / np.log(rho**2)))]
    monkeypatch.setattr(latent_reference, "_sweeps", lambda *a: 1)
    assert p_value() < REJECTED


def test_visits_that_repeat_each_other_end_in_words():
    with pytest.raises(SamplingError, match="latent values of different visits are almost the same"):
        equal_rows(5, 0.99999, (1, 0))
