"""Small runs of every engine, method, family and prior at fixed seeds: what a reorganisation must not change.

    python -m tests.frozen --write before.npz      # before the change
    python -m tests.frozen --compare before.npz    # after it, on the same machine
    python -m tests.frozen --kernels build/kernels # the kernels that these runs load, for a wheel (`make wheel`)

The last bits of numbers depend on the processor and the BLAS, and chains amplify such differences. So no numbers are
stored in the repository: two trees are compared on one machine. Even there the last bits of a few runs differ from one
process to the next, because a sum in BLAS depends on the memory address of its array. The compiled gradients of PyTensor
differ in their last bits with the state of its cache, with names in the code, and with any edit of a kernel (a comment is
enough, since our Ops contain a digest of all kernels), and HMC then draws differently. If the runs named pymc or lkj, or
those by nuts, differ here, compare their posteriors (tests/fcs/test_pymc_*.py,
tests/joint/test_gibbs_against_nuts.py).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import bayesimp as bi
from bayesimp import methods, priors
from bayesimp.errors import BayesimpError
from bayesimp.kernels.ahead import KernelCache

CLUSTERS, ROWS = 8, 9
ROUNDING = 1e-6  # upper limit of what differences in the last bits grow to in a few cycles
METHODS = (
    "bayes",
    "bayes-c",
    "iw",
    "iw-c",
    "ml",
    "ml-c",
    "pymc",
    "norm",
    "pmm",
    "mlmi",
    "mlmi-published",
    "2stage",
    "sti",
    "glm",
    "2lonly",
    "2lonly.pmm",
    "2l.norm",
    "2l.jomo",
    "2l.2stage.pmm",
)
FAMILIES = (
    "normal",
    "bernoulli",
    "binomial(n)",
    "poisson",
    "negative_binomial",
    "gamma",
    "inverse_gaussian",
    "ordinal",
    "categorical",
)
FACTOR_FAMILIES = (
    "normal", "bernoulli", "poisson", "negative_binomial", "gamma", "ordinal", "categorical", "student",
    "zero_inflated_poisson",
)  # fmt: skip
PRIORS: dict[str, Callable[[], priors.Priors]] = {
    "default": priors.default,
    "pan": priors.pan,
    "mice": priors.mice,
    "jomo": priors.jomo,
    "iw(3)": lambda: priors.iw(3.0),
    "weak normal beta": lambda: priors.Priors(beta=priors.Normal(0.0, 3.0)),
    "diagonal half-t": lambda: priors.Priors(Psi=priors.Diagonal(priors.HalfT())),
    "diagonal iw": lambda: priors.Priors(Psi=priors.Diagonal(priors.InverseWishart(1.0, 1.0))),
    "diagonal half-normal": lambda: priors.Priors(Psi=priors.Diagonal(priors.HalfNormal())),
    "diagonal exponential": lambda: priors.Priors(Psi=priors.Diagonal(priors.Exponential())),
    "lkj": lambda: priors.Priors(Psi=priors.LKJ(2.0), Sigma=priors.LKJ(1.0)),
    "fixed": lambda: priors.Priors(Psi=priors.Fixed(np.eye(2))),
    "iw at the origin": lambda: priors.Priors(Psi=priors.InverseWishart(4.0, 1.0, centred=False)),
}


def table(family: str = "normal", level: str = "row") -> pd.DataFrame:
    """72 rows in 8 clusters: y of the family, w normal, both incomplete (y in a whole cluster); x, n complete."""
    rng = np.random.default_rng(20261129)
    n = CLUSTERS * ROWS
    g = np.repeat(np.arange(CLUSTERS), ROWS)
    x = rng.normal(size=n)
    effect = rng.normal(size=CLUSTERS)[g]
    eta = 0.5 * x + effect + rng.normal(size=n)
    if level == "cluster":
        eta = effect
    count = np.floor(np.exp(0.4 * eta + 0.8))
    y: Any = {
        "normal": eta,
        "bernoulli": (eta > 0).astype(float),
        "binomial(n)": np.clip(np.floor(3 + eta), 0, 6),
        "poisson": count,
        "negative_binomial": count,
        "gamma": np.exp(0.5 * eta),
        "inverse_gaussian": np.exp(0.3 * eta),
        "ordinal": np.digitize(eta, [-0.7, 0.7]).astype(float),
        "categorical": np.digitize(eta, [-0.5, 0.5]).astype(float),
        "student": eta,
        "zero_inflated_poisson": count * (x > -1),
    }[family]
    w = 0.3 * x + 0.5 * eta + rng.normal(size=n)
    frame = pd.DataFrame({"g": g, "x": x, "y": y, "w": w, "n": rng.integers(7, 9, n).astype(float)})
    frame.loc[g == 2, "y"] = np.nan
    if level == "row":
        frame.loc[rng.random(n) < 0.2, "y"] = np.nan
    frame.loc[rng.random(n) < 0.2, "w"] = np.nan
    return frame


def fcs(family: str, method: Any, **options: Any) -> bi.Imputations:
    level = "cluster" if str(method).startswith("2lonly") else "row"
    data = bi.IncompleteData(table(family, level), cluster="g", families={"y": family})
    cycles = options.pop("cycles", 3)
    return bi.FCS(data, methods={"y": method}, **options).impute(m=2, seed=5, cycles=cycles, progress=False)


def joint(prior: priors.Priors, formula: str = "y + w ~ x + (1 | g)", **options: Any) -> bi.Imputations:
    data = bi.IncompleteData(table(), cluster="g")
    settings = {"m": 4, "seed": 5, "chains": 2, "tune": 20, "draws": 20, "progress": False} | options
    return bi.JointNormal(data, formula, prior).impute(**settings)


def with_factors(kind: str, family: str) -> bi.Imputations:
    """A model that contains the analysis: JointGLMM, or FCS given an analysis with or without y as the response."""
    data = bi.IncompleteData(table(family), cluster="g", families={"y": family})
    analysis = "y ~ x + w + (1 | g)" if kind != "FCS given w" else "w ~ x + y + (1 | g)"
    if kind == "JointGLMM":
        return bi.JointGLMM(data, analysis).impute(m=4, seed=5, chains=2, tune=10, draws=10, progress=False)
    return bi.FCS(data, analysis=analysis).impute(m=2, seed=5, cycles=3, progress=False)


def latent(family: str) -> bi.Imputations:
    data = bi.IncompleteData(table(family), cluster="g", families={"y": family})
    model = bi.JointLatent(data, "y + w ~ x + (1 | g)")
    return model.impute(m=4, seed=5, chains=2, tune=10, draws=10, thin=1, progress=False)


def crossed(engine: str, family: str) -> bi.Imputations:
    """An engine with the clusters and five groups by the order of x; v is a variable of these groups."""
    frame = table(family)
    groups = pd.Series((frame["x"].rank().to_numpy() * 5 // (len(frame) + 1)).astype(int)).map(
        dict(enumerate("pqrst"))
    )
    v = frame.groupby(groups)["x"].transform("mean").round(3)
    frame = frame.assign(h=groups, v=v.where(groups != "q"))
    data = bi.IncompleteData(frame, ["g", "h"], families={"y": family})
    settings: Any = {"m": 4, "seed": 5, "chains": 2, "tune": 10, "draws": 10, "thin": 1, "progress": False}
    if engine == "JointGLMM":
        return bi.JointGLMM(data, "w ~ x + y + (1 | g) + (1 | h)").impute(**settings)
    if engine == "JointLatent":
        return bi.JointLatent(data, "y + w + v ~ x + (1 + x | g) + (1 | h)").impute(**settings)
    return bi.JointNormal(data, "y + w ~ x + (1 + x | g) + (1 | h)").impute(**settings)


def runs() -> Iterator[tuple[str, Callable[[], Any]]]:
    """Name of a run, and what makes it."""
    for name, make in PRIORS.items():
        yield f"joint, {name}", lambda make=make: joint(make())
        for family in ("normal", "bernoulli"):
            yield f"fcs, {family}, prior {name}", lambda f=family, make=make: fcs(f, _with_prior(make()))
    slopes = "y + w ~ x + (1 + x | g)"
    for name in ("default", "pan"):
        yield f"joint with slopes, {name}", lambda name=name: joint(PRIORS[name](), slopes)
        yield f"joint by nuts, {name}", lambda name=name: joint(PRIORS[name](), sampler="nuts")
    yield "joint, extended", lambda: joint(priors.default()).extend(3)
    for family in FAMILIES:
        for method in METHODS:
            yield f"fcs, {family}, {method}", lambda f=family, m=method: fcs(f, m)
    slope = {"y": "y ~ x + w + (1 + x | g)"}
    for family in ("normal", "bernoulli", "poisson", "gamma"):
        for method in ("bayes", "pymc", "2stage", "mlmi", "ml"):
            yield (
                f"fcs with slopes, {family}, {method}",
                lambda f=family, m=method: fcs(f, m, predictors=slope),
            )
    yield (
        "fcs, normal, default",
        lambda: bi.FCS(bi.IncompleteData(table(), cluster="g")).impute(m=2, seed=5, cycles=3),
    )
    yield "fcs, blocks", _blocks
    yield "fcs, bounds", lambda: fcs("normal", "bayes", bounds={"y": (-6.0, 6.0)})
    yield "fcs, post", lambda: fcs("normal", "bayes", post={"y": np.abs})
    yield "fcs, derived", lambda: fcs("normal", "bayes", derived={"yx": "y * x"})
    yield "fcs, extended", lambda: fcs("poisson", "bayes").extend(2)
    yield "fcs, further cycles", lambda: fcs("ordinal", "bayes").iterate(2)
    for family in FACTOR_FAMILIES:
        for kind in ("JointGLMM", "FCS given y", "FCS given w"):
            yield f"factors, {kind}, {family}", lambda k=kind, f=family: with_factors(k, f)
    for family in ("normal", "bernoulli", "ordinal", "categorical"):
        yield f"latent, {family}", lambda f=family: latent(f)
    for engine, family in (("JointNormal", "normal"), ("JointLatent", "ordinal"), ("JointGLMM", "bernoulli")):
        yield f"several factors, {engine}", lambda e=engine, f=family: crossed(e, f)
    for analysis, family in ANALYSES:
        yield f"analysis {analysis}, {family}", lambda a=analysis, f=family: _analysed(a, f)
    yield "sensitivity", _sensitivity


def _with_prior(prior: priors.Priors) -> Any:
    """The method that takes the prior: Gibbs, or NUTS where it is not conjugate."""
    gibbs = isinstance(prior.Psi, priors.InverseWishart | priors.HuangWand) or prior.name == "default"
    if isinstance(prior.Psi, priors.Fixed):
        prior = priors.Priors(Psi=priors.Fixed(np.eye(1)))
    return methods.Bayes(prior) if gibbs else methods.PyMC(prior)


ANALYSES = (
    ("y ~ x + w + (1 | g)", "normal"),
    ("y ~ x + w + (1 + x | g)", "normal"),
    ("y ~ x + w", "normal"),
    ("y ~ x + w + (1 | g)", "bernoulli"),
    ("y ~ x + w + (1 | g)", "poisson"),
    ("y ~ x + w", "gamma"),
)


def _blocks() -> bi.Imputations:
    data = bi.IncompleteData(table(), cluster="g")
    return bi.FCS(data, blocks={"yw": ["y", "w"]}).impute(m=2, seed=5, cycles=3, progress=False)


def _analysed(formula: str, family: str) -> pd.DataFrame:
    options = {} if family == "normal" else {"family": family}
    fits = fcs(family, "bayes").analyse(formula, **options)
    return bi.pool(fits).to_frame().select_dtypes("number")


def _sensitivity() -> pd.DataFrame:
    data = bi.IncompleteData(table(), cluster="g")
    model = bi.JointNormal(data, "y + w ~ x + (1 | g)")
    grid = {"a": priors.default(), "b": priors.pan()}
    result = bi.sensitivity(model, grid, analysis="y ~ x + (1 | g)", m=4, seed=3, chains=2, draws=20)
    return result.table.select_dtypes("number")


def numbers(result: Any) -> np.ndarray:
    """All imputed values and posterior draws of a result in one vector, or the numbers of a table."""
    if isinstance(result, pd.DataFrame):
        return result.to_numpy(float).ravel()
    parts = [result.values(name).ravel() for name in sorted(result.imputed_columns)]
    parts += [result.rows(name).astype(float) for name in sorted(result.imputed_columns)]
    for group in ("posterior", "imputed_stats", "warmup_posterior"):
        if group in result.tree.children:
            dataset = result.tree[group].to_dataset()
            parts += [dataset[name].to_numpy().ravel() for name in sorted(map(str, dataset.data_vars))]
    return np.concatenate(parts)


def all_numbers(only: str = "") -> dict[str, np.ndarray]:
    """Numbers by run; none for a run that is refused."""
    found = {}
    for name, make in runs():
        if only in name:
            try:
                found[name] = numbers(make())
            except BayesimpError:
                found[name] = np.zeros(0)
    return found


def difference(now: np.ndarray, before: np.ndarray) -> float:
    """Largest difference, relative to the size of the numbers; infinite where there are more of them, or fewer."""
    if now.shape != before.shape or (np.isnan(now) != np.isnan(before)).any():
        return np.inf
    apart = np.flatnonzero((now != before) & ~np.isnan(now))
    return float(np.max(np.abs(now[apart] - before[apart]) / (1.0 + np.abs(before[apart])), initial=0.0))


def collect_kernels(folder: Path) -> None:
    """Copy every kernel that a run loads from the disk cache; run before, so that all of them are there."""
    load = KernelCache._load_overload

    def load_and_copy(self: KernelCache, sig: Any, target_context: Any) -> Any:
        found = load(self, sig, target_context)
        if found is not None:
            self.copy(sig, target_context, folder)
        return found

    KernelCache._load_overload = load_and_copy  # type: ignore[method-assign]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", type=Path)
    parser.add_argument("--compare", type=Path)
    parser.add_argument("--kernels", type=Path)
    parser.add_argument("--only", default="", help="runs whose name holds this text")
    asked = parser.parse_args()
    if asked.kernels:
        collect_kernels(asked.kernels)
    found = all_numbers(asked.only)
    if asked.write:
        np.savez(asked.write, **found)
    if not asked.compare:
        return 0
    with np.load(asked.compare) as before:
        by = {name: difference(x, before[name]) for name, x in found.items() if name in before}
        new = [name for name in found if name not in before]
    same, moved = sum(d == 0 for d in by.values()), {name: d for name, d in by.items() if d > ROUNDING}
    print(f"{len(by)} runs: {same} the same bit for bit, {len(by) - same - len(moved)} within {ROUNDING:g}")
    for name, d in moved.items():
        print(f"  differs by {d:.3g}: {name}")
    for name in new:
        print(f"  new: {name}")
    return bool(moved)


if __name__ == "__main__":
    sys.exit(main())
