"""Residual spread that differs between clusters: when is it noticed, and what does one residual variance do to results?

    python -m benchmarks.residual_spread two --minutes 35      # writes benchmarks/residual_spread_two.csv
    python -m benchmarks.residual_spread six --minutes 18      # writes benchmarks/residual_spread_six.csv
    python -m benchmarks.residual_spread read                  # writes benchmarks/RESIDUAL_SPREAD.md

x = u_c + s_c e1, y = 1 + x / 2 + v_c + e2, with log s_c ~ N(0, tau^2); in half of the designs e2 is multiplied by s_c
too ("x and y"). u, v have sd 1/2. 35% of x is missing, more often where y is large. Clusters: 8, 15, 40 with 10, 50 or
300 rows each (40 with 10 or 50). x and y are imputed by `JointNormal` (one residual covariance) and by
`JointLatent(residual="cluster")`, m = 10, and analysed by y ~ x + (1 | cluster). With six variables, x has another four
complete ones as predictors, with coefficients 0.3, which are imputed with x and y in one model. A pass makes one table of
every design; the study stops after the pass in which its time is up, and a further run continues it.
"""

from __future__ import annotations

import argparse
import platform
import time
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd

import bayesimp as bi
from bayesimp.errors import SamplingError
from bayesimp.table.spread import LARGE, LEVEL, residual_spread, spread_statistics

HERE = Path(__file__).parent
TAUS = (0.0, 0.3, 0.6, 1.0)
SIZES = tuple((m, n) for m, n in product((8, 15, 40), (10, 50, 300)) if m * n <= 5000)
CHOICE = (
    "Where there is an event, a residual covariance for each cluster covers more often than a common one, and imputed "
    "values in clusters with a small spread are closer to their true distribution; where spreads are equal, coverage and "
    "error are those of the common one. `bi.impute` therefore chooses it where there is an event, in tables with at "
    "least 8 clusters, a median of at least 10 rows and at most 6 variables, as studied here. With six variables it "
    "undercovers as well, though less."
)
COLUMNS_OF_DESIGN = ["m", "n", "tau", "both", "others"]
DESIGNS = {
    "two": [(m, n, t, both, 0) for (m, n), t, both in product(SIZES, TAUS, (False, True)) if t or not both],
    "six": [(m, n, t, False, 4) for m, n, t in product((15, 40), (10, 50), (0.0, 0.6, 1.0))],
}
SLOPE, ANALYSIS = 0.5, "y ~ x + (1 | c)"
COLUMNS = ["estimate", "conf_low", "conf_high"]
RUN = {"m": 10, "chains": 2, "tune": 100, "draws": 250, "progress": False}
ENGINES = {"common": "one residual variance", "cluster": "one for each cluster"}
SHAPES: dict[str, Callable[[np.random.Generator, int], np.ndarray]] = {
    "normal": lambda rng, n: rng.normal(size=n),
    "t5": lambda rng, n: rng.standard_t(5, size=n),
    "exponential": lambda rng, n: rng.exponential(size=n),
    "lognormal, sd of log 0.8": lambda rng, n: np.exp(0.8 * rng.normal(size=n)),
}
CLUSTERS: dict[str, tuple[int, tuple[int, ...]]] = {
    "8 of 5 rows": (8, (5,)), "8 of 10": (8, (10,)), "8 of 300": (8, (300,)), "15 of 50": (15, (50,)),
    "30 of 5 to 200": (30, (5, 10, 50, 200)), "40 of 7": (40, (7,)), "200 of 3 to 8": (200, (3, 5, 6, 8)),
}  # fmt: skip


def table(
    m: int, n: int, tau: float, both: bool, others: int, seed: int
) -> tuple[pd.DataFrame, np.ndarray, np.ndarray]:
    """The complete table, the missing rows of x (m n,), and the spread of every cluster (m,)."""
    rng = np.random.default_rng([m, n, round(10 * tau), both, seed])
    s, c = np.exp(tau * rng.normal(size=m)), np.repeat(np.arange(m), n)
    w = rng.normal(size=(m * n, others))
    x = 0.5 * rng.normal(size=m)[c] + s[c] * rng.normal(size=m * n) + 0.3 * w.sum(axis=1)
    e = (s[c] if both else 1.0) * rng.normal(size=m * n)
    y = 1 + SLOPE * x + 0.5 * rng.normal(size=m)[c] + e
    z = (y - y.mean()) / y.std()
    missing = rng.random(m * n) < 1 / (1 + np.exp(0.7 - z))
    return pd.DataFrame({"c": c, "x": x, "y": y} | {f"w{k + 1}": w[:, k] for k in range(others)}), missing, s


def imputed(data: bi.IncompleteData, residual: str, seed: int) -> bi.Imputations:
    """The table imputed with one residual covariance, or one in each cluster."""
    formula = f"{' + '.join(data.variables)} ~ 1 + (1 | c)"
    if residual == "common":
        return bi.JointNormal(data, formula).impute(seed=seed, **RUN)  # type: ignore[arg-type]
    return bi.JointLatent(data, formula, residual="cluster").impute(seed=seed, thin=2, **RUN)  # type: ignore[arg-type]


def replicate(design: tuple[int, int, float, bool, int], seed: int) -> Iterator[dict]:
    """A row for the complete table and for each way to impute it."""
    full, missing, s = table(*design, seed)
    holes = full.assign(x=full["x"].where(~missing))
    data = bi.IncompleteData(holes, "c")
    found = residual_spread(data, ["x"])
    about = dict(zip(COLUMNS_OF_DESIGN, design, strict=True)) | {"seed": seed}
    about |= {"p": found[0].p_value if found else 1.0, "between": found[0].tau if found else 0.0}
    complete = bi.fit_each([full], ANALYSIS).to_frame().set_index("term").loc["x"]
    slope, half = complete["estimate"], 1.96 * complete["std.error"]
    yield about | {"how": "complete", "slope": slope, "width": 2 * half, "covers": abs(slope - SLOPE) < half}
    rank = np.argsort(np.argsort(s))[full["c"][missing]]
    ends = {"narrow": rank < len(s) // 3, "wide": rank >= len(s) - len(s) // 3}
    e2 = (s if design[3] else np.ones_like(s)) ** 2
    sd = (s**2 * e2 / (e2 + SLOPE**2 * s**2)) ** 0.5  # of x given y and the effects
    for residual in ENGINES:
        try:
            imp = imputed(data, residual, seed)
        except SamplingError:
            yield about | {"how": residual, "failed": True}
            continue
        pooled = imp.analyse(ANALYSIS).pool()
        slope, low, high = pooled.tidy().set_index("term").loc["x", COLUMNS]
        away = (np.asarray(imp.values("x")) - full["x"].to_numpy()[missing]) / sd[full["c"][missing]]
        own = {name: float((away[:, rows] ** 2).mean() / 2) ** 0.5 for name, rows in ends.items()}
        covers = low < SLOPE < high
        yield about | {"how": residual, "slope": slope, "width": high - low, "covers": covers} | own


def levels(replicates: int) -> pd.DataFrame:
    """Shares of homogeneous tables in which the spread is said to differ, and of those with p < `LEVEL`."""
    rows = []
    for (shape, draw), (label, (m, sizes)) in product(SHAPES.items(), CLUSTERS.items()):
        rng = np.random.default_rng(2026)
        found = []
        for _ in range(replicates):
            codes = np.repeat(np.arange(m), rng.choice(sizes, m))
            p, tau = (spread_statistics(draw(rng, len(codes)), codes) or (1.0, 0.0))[:2]
            found.append((p < LEVEL, p < LEVEL and tau > LARGE))
        rows.append((shape, label, *np.mean(found, axis=0)))
    return pd.DataFrame(rows, columns=["residuals", "clusters", "p < level", "event"])


def written(frame: pd.DataFrame) -> str:
    """A table in Markdown."""
    cells = [frame.columns, ["---"] * frame.shape[1], *frame.to_numpy()]
    return "\n".join("| " + " | ".join(map(str, row)) + " |" for row in cells)


def share(values: pd.Series) -> str:
    """A percentage with its standard error."""
    p, n = values.astype(float).mean(), len(values)
    return f"{100 * p:.0f} ({100 * (p * (1 - p) / n) ** 0.5:.0f})"


def results(rows: pd.DataFrame) -> pd.DataFrame:
    """Coverage, bias and error by design, for every way to impute."""
    lines = []
    for (others, tau, both, m, n), group in rows.groupby(["others", "tau", "both", "m", "n"]):
        line = {"variables": 2 + others, "tau": tau, "differs in": "x and y" if both else "x"}
        line |= {"clusters": m, "rows each": n}
        by = {how: own.set_index("seed") for how, own in group.groupby("how")}
        line |= {
            "tables": len(by["complete"]),
            "event, %": share((by["complete"]["p"] < LEVEL) & (by["complete"]["between"] > LARGE)),
        }
        for how in ("complete", *ENGINES):
            line[f"coverage, {how}"] = share(by[how]["covers"])
        full = by["complete"]["slope"]
        for how in ENGINES:
            off = by[how]["slope"] - full
            line[f"slope less complete, {how}"] = f"{off.mean():.3f} ({off.sem():.3f})"
        for how in ENGINES:
            line[f"rmse, {how}"] = (
                f"{((by[how]['slope'] - SLOPE) ** 2).mean() ** 0.5 / ((full - SLOPE) ** 2).mean() ** 0.5:.2f}"
            )
            line[f"narrow, {how}"] = f"{by[how]['narrow'].mean():.2f}"
            line[f"wide, {how}"] = f"{by[how]['wide'].mean():.2f}"
        lines.append(line)
    return pd.DataFrame(lines)


def where_told(rows: pd.DataFrame) -> pd.DataFrame:
    """Coverage and spread of imputed values in all tables with an event."""
    told = rows[(rows["p"] < LEVEL) & (rows["between"] > LARGE)]
    lines = []
    for others, group in told.groupby("others"):
        line = {"variables": 2 + others, "tables": group.groupby(["m", "n", "tau", "both", "seed"]).ngroups}
        for how in ("complete", *ENGINES):
            line[f"coverage, {how}"] = share(group.loc[group["how"] == how, "covers"])
        for end, how in product(("narrow", "wide"), ENGINES):
            line[f"{end}, {how} (median)"] = f"{group.loc[group['how'] == how, end].median():.2f}"
        lines.append(line)
    return pd.DataFrame(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=[*DESIGNS, "read"])
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--levels", type=int, default=2000, help="homogeneous tables of each kind")
    options = parser.parse_args()
    if options.what == "read":
        parts = [pd.read_csv(path) for path in sorted(HERE.glob("residual_spread_*.csv"))]
        return write(levels(options.levels), pd.concat(parts), options.levels)
    end, path = time.monotonic() + 60 * options.minutes, HERE / f"residual_spread_{options.what}.csv"
    rows = pd.read_csv(path).to_dict("records") if path.exists() else []
    seed = 1 + max((row["seed"] for row in rows), default=-1)
    while time.monotonic() < end:
        for design in DESIGNS[options.what]:
            rows += replicate(design, seed)
        seed += 1
        pd.DataFrame(rows).to_csv(path, index=False, float_format="%.5g")


def write(alarms: pd.DataFrame, rows: pd.DataFrame, replicates: int) -> None:
    """benchmarks/RESIDUAL_SPREAD.md."""
    counts = ", ".join(f"{2 + k} variables: {own['seed'].nunique()}" for k, own in rows.groupby("others"))
    about = (__doc__ or "").split("\n\n")[2].strip()
    alarms = alarms.assign(**{c: [f"{100 * x:.2f}" for x in alarms[c]] for c in ("p < level", "event")})
    (HERE / "RESIDUAL_SPREAD.md").write_text(
        f"# Residual spread that differs between clusters\n\nMade by `python -m benchmarks.residual_spread read --levels "
        f"{replicates}` (bayesimp {bi.__version__}, Python {platform.python_version()}, passes with {counts}).\n\n"
        "## False alarms\n\n"
        f"Percent of {replicates:,} tables with the same spread in all clusters in which p < {LEVEL} (Brown-Forsythe), "
        f"and in which also tau > {LARGE}, so that there is an event.\n\n{written(alarms)}\n\n## What one residual "
        f"variance does\n\n{about}\n\nMonte Carlo standard errors in brackets. Event: the spread of x is said to differ. "
        "Coverage of 95% intervals of the slope, in percent; slope less that of the complete table; root mean squared "
        "error of the slope over that of the complete tables; narrow and wide: root mean square of (imputed - true "
        "value) over its value under the true distribution, 1 if imputed values have the right spread, in the third of "
        "the clusters with the smallest s_c and in that with the largest.\n\n"
        f"All tables with an event:\n\n{written(where_told(rows))}\n\n{CHOICE}\n\nBy design:\n\n"
        f"{written(results(rows))}\n"
    )


if __name__ == "__main__":
    main()
