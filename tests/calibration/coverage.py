"""Coverage of every method for discrete variables in a small version of Jolani's design (2025, sec. 3.1).

    10 studies x 80 rows; x1 (binary) and x2 (count) missing in whole studies (20% of them, each) and in rows (15%, more
    often where y is large); analysis y ~ x1 + x2 + (1 + x1 | study)

Every method imputes the same tables. `y centred`: y minus its mean in the study, whose slope varies between studies, and
that mean; the formulas of the paper use y uncentred. There are three questions:

1. alpha: is its pooled 95% interval right, compared with that of the table without missing values?
2. The standard deviations between studies: are their medians right?
3. Imputed values: in each study, the true mean of the missing values among the means of M = 19 imputations. Its rank is
   uniform on 0..19 for proper imputations, and inside the range of the 19, a 90% interval, in 18 of 20 cases.

`python -m tests.calibration.coverage --tables 40` rewrites COVERAGE_RESULTS.md; `--raw FILE` keeps the rows of every
table, and continues where the file ends. COVERAGE_READING.md, which interprets the figures, is included.
"""

import argparse
import json
import platform
import sys
import time
import warnings
from datetime import date
from pathlib import Path
from subprocess import run

import numpy as np
import pandas as pd

import bayesimp as bi
from bayesimp import methods as me
from bayesimp.analysis.fit import fit_each
from bayesimp.analysis.pool import pool
from bayesimp.studies.simulate_ipd import ALPHA, OMEGA
from tests.calibration.uniformity import p_value

STUDIES, ROWS, SYSTEMATIC, SPORADIC = 10, 80, 0.2, 0.15
M, CYCLES, SEED = 19, 12, 2025
ANALYSIS = "y ~ x1 + x2 + (1 + x1 | study)"
TERMS = ("alpha_0", "alpha_1", "alpha_2")
SDS = ("sd(intercept)", "sd(x1)")
VARIABLES = ("x1", "x2")
DESIGNS = [(outcome, size) for outcome in ("continuous", "binary") for size in ("moderate", "strong")]
MULTILEVEL = ["x1 ~ y + x2 + (1 + y | study)", "x2 ~ y + x1 + (1 + y | study)"]
WITHIN = [
    "x1 ~ y_within + y_mean + x2 + (1 + y_within | study)",
    "x2 ~ y_within + y_mean + x1 + (1 + y_within | study)",
]
ONE_LEVEL = ["x1 ~ y + x2", "x2 ~ y + x1"]
METHODS = {
    "bayes": ("bayes", MULTILEVEL),
    "bayes, y centred": ("bayes", WITHIN),
    "mlmi": ("mlmi", MULTILEVEL),
    "mlmi, published": ("mlmi-published", MULTILEVEL),
    "2stage, REML": (me.TwoStage("reml"), ONE_LEVEL),
    "2stage, moments": (me.TwoStage("moments"), ONE_LEVEL),
    "2stage, published": (me.TwoStage("moments", published=True), ONE_LEVEL),
    "sti": ({"x1": me.Stratified(), "x2": me.Stratified(donors=5)}, ONE_LEVEL),
    "glm": ("glm", ONE_LEVEL),
}
REFERENCE, COMPLETE = "reference", "complete cases"


# -- one table -----------------------------------------------------------------------------------------------


def one_table(outcome: str, heterogeneity: str, k: int, methods) -> list[dict]:
    """Rows of results of table k of a design: what="estimate", "imputed", "event" or "failed"."""
    table, full = bi.simulate_ipd(
        STUDIES, ROWS, heterogeneity=heterogeneity, outcome=outcome, systematic=SYSTEMATIC, sporadic=SPORADIC,
        seed=int(np.random.default_rng([SEED, DESIGNS.index((outcome, heterogeneity)), k]).integers(2**31)),
    )  # fmt: skip
    family = "bernoulli" if outcome == "binary" else "normal"
    rows = []
    for method in methods:
        began = time.perf_counter()
        try:
            if method in (REFERENCE, COMPLETE):
                rows += estimates([full if method == REFERENCE else table.dropna()], family)
            else:
                imp = impute(table, method, k)
                rows += imputed(table, full, imp)
                rows += [
                    dict(what="event", term=e["kind"], count=int(e["count"]))
                    for _, e in imp.events.iterrows()
                ]
                rows += estimates([imp.frame(i) for i in range(M)], family)
        except Exception as error:  # a method that fails is a result
            rows.append(dict(what="failed", term=f"{type(error).__name__}: {error}"[:160]))
        rows.append(dict(what="seconds", value=time.perf_counter() - began))
        for row in rows:
            row.setdefault("method", method)
    return [row | dict(outcome=outcome, heterogeneity=heterogeneity, table=k) for row in rows]


def impute(table: pd.DataFrame, method: str, k: int):
    how, formulas = METHODS[method]
    if formulas is WITHIN:  # y is complete
        y_mean = table.groupby("study")["y"].transform("mean")
        table = table.assign(y_mean=y_mean, y_within=table["y"] - y_mean)
    data = bi.IncompleteData(table, cluster="study", families={"x1": "bernoulli", "x2": "poisson"})
    return bi.FCS(data, methods=how, predictors=formulas).impute(M, cycles=CYCLES, seed=k, progress=False)


def estimates(tables, family: str) -> list[dict]:
    """alpha with its interval, and the standard deviations between studies."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fits = fit_each(tables, ANALYSIS, family=family)
    Q, U = fits.estimates, fits.covariances
    if len(fits) == 1:  # two equal tables, without variance between them: the interval of a complete table
        Q, U = np.repeat(Q, 2, 0), np.repeat(U, 2, 0)
    pooled = pool(Q, U, fits.df_complete)
    columns = pooled.estimate, pooled.std_error, *pooled.interval().T
    sds = np.median(np.exp(fits.components[:, :2]), axis=0)
    rows = [
        dict(what="estimate", term=t, value=value, se=se, low=low, high=high)
        for t, (value, se, low, high) in zip(TERMS, np.transpose(columns).tolist(), strict=True)
    ]
    return rows + [dict(what="sd", term=t, value=float(sds[j])) for j, t in enumerate(SDS)]


def imputed(table: pd.DataFrame, full: pd.DataFrame, imp) -> list[dict]:
    """Rank of the true mean of the missing values among the imputed ones, by variable and study; ties at random.

    mean, sd: those of the imputed means; kind: whether the study lacks the variable entirely.
    """
    rng = np.random.default_rng(len(table))
    rows = []
    for name in VARIABLES:
        at, values = imp.rows(name), imp.values(name)
        study, truth = table["study"].to_numpy()[at], full[name].to_numpy()[at]
        lost = table[name].isna().groupby(table["study"]).mean()
        for i in np.unique(study):
            means, true = values[:, study == i].mean(axis=1), truth[study == i].mean()
            below, equal = (means < true - 1e-9).sum(), (np.abs(means - true) <= 1e-9).sum()
            kind = "systematic" if lost[i] == 1 else "sporadic"
            rows.append(dict(
                what="imputed", term=name, kind=kind, rank=int(below + rng.integers(equal + 1)), truth=float(true),
                mean=float(means.mean()), sd=float(means.std(ddof=1)), cells=int((study == i).sum()),
            ))  # fmt: skip
    return rows


def study(tables: int, methods, raw: Path | None = None, minutes: float = np.inf) -> pd.DataFrame:
    """Rows of all tables, reusing those in `raw`; stops early after so many minutes."""
    rows = [json.loads(line) for line in raw.open()] if raw and raw.exists() else []
    done = {(r["outcome"], r["heterogeneity"], r["table"], r["method"]) for r in rows}
    began = time.perf_counter()
    for k in range(tables):
        for outcome, heterogeneity in DESIGNS:
            todo = [m for m in methods if (outcome, heterogeneity, k, m) not in done]
            if not todo or time.perf_counter() - began > 60 * minutes:
                continue
            new = one_table(outcome, heterogeneity, k, todo)
            rows += new
            if raw:
                with raw.open("a") as file:
                    file.writelines(json.dumps(row) + "\n" for row in new)
    order = [REFERENCE, COMPLETE, *METHODS]
    rows.sort(key=lambda row: order.index(row["method"]))  # whatever their order in the file
    return pd.DataFrame(rows)


# -- tables of results ---------------------------------------------------------------------------------------


def mean_se(values) -> tuple[float, float]:
    values = np.asarray(values, dtype=float)
    return float(values.mean()), float(values.std(ddof=1) / np.sqrt(len(values)))


def shown(pair, digits: int = 3) -> str:
    return f"{pair[0]:.{digits}f} ({pair[1]:.{digits}f})"


def coverage(covered) -> str:
    """Percent with its binomial standard error."""
    share = float(np.mean(covered))
    return f"{100 * share:.1f} ({100 * np.sqrt(max(share * (1 - share), 0.25 / len(covered)) / len(covered)):.1f})"


def summary_lines(rows: pd.DataFrame) -> list[str]:
    """Over the four designs: coverage of alpha, and shares of true means inside; clustered by table."""
    lines = [
        "| method | alpha_0 covered, % (95) | alpha_1 | alpha_2 | sporadic: inside, % (90) | systematic: inside |",
        "|---|---|---|---|---|---|",
    ]
    for method, part in rows.groupby("method", sort=False):
        cells = []
        for term in TERMS:
            group = part[(part.what == "estimate") & (part.term == term)]
            truth = ALPHA[TERMS.index(term)]
            cells.append(coverage((group["low"] <= truth) & (truth <= group["high"])))
        for kind in ("sporadic", "systematic"):
            group = part[(part.what == "imputed") & (part["kind"] == kind)]
            by = [group["outcome"], group["heterogeneity"], group["table"]]
            inside = 100 * group["rank"].between(1, M - 1).groupby(by).mean()
            cells.append(shown(mean_se(inside), 1) if len(inside) else "")
        lines.append(f"| {method} | {' | '.join(cells)} |")
    return lines


def alpha_lines(rows: pd.DataFrame, outcome: str, heterogeneity: str) -> list[str]:
    part = rows[(rows.outcome == outcome) & (rows.heterogeneity == heterogeneity) & (rows.what == "estimate")]
    reference = part[part.method == REFERENCE].set_index(["term", "table"])["value"]
    lines = [
        "| method | term | bias | beyond the reference's | sd of estimates | mean se | covered, % | n |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for (term, method), group in part.groupby(["term", "method"], sort=False):
        truth = ALPHA[TERMS.index(term)]
        beyond = group["value"].to_numpy() - reference.loc[term].reindex(group["table"]).to_numpy()
        sd = group["value"].std(ddof=1)
        cells = [
            method, term, shown(mean_se(group["value"] - truth)), shown(mean_se(beyond)) if method != REFERENCE else "",
            shown((sd, sd / np.sqrt(2 * len(group)))), shown(mean_se(group["se"])),
            coverage((group["low"] <= truth) & (truth <= group["high"])), str(len(group)),
        ]  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def sd_lines(rows: pd.DataFrame) -> list[str]:
    """Median over tables, with its standard error by the spread of order statistics."""
    lines = [
        "| method | design | " + " | ".join(f"{t}: median, truth" for t in SDS) + " |",
        "|---|---|---|---|",
    ]
    part = rows[rows.what == "sd"]
    for (outcome, size, method), group in part.groupby(["outcome", "heterogeneity", "method"], sort=False):
        truth = np.sqrt(np.diag(OMEGA[size]))
        cells = []
        for j, term in enumerate(SDS):
            values = np.sort(group.loc[group.term == term, "value"])
            n = len(values)
            low, high = (values[int(np.clip(round(n / 2 + z * np.sqrt(n) / 2), 0, n - 1))] for z in (-1, 1))
            cells.append(f"{np.median(values):.2f} ({(high - low) / 2:.2f}), {truth[j]:.2f}")
        lines.append(f"| {method} | {outcome}, {size} | {cells[0]} | {cells[1]} |")
    return lines


def imputed_lines(rows: pd.DataFrame) -> list[str]:
    """Share of truths inside the range of 19 imputations, all studies, and uniformity of ranks, one study a table."""
    part = rows[rows.what == "imputed"]
    lines = [
        "| method | design | variable | studies | inside, % (90) | z: mean | z: sd | p, uniform ranks |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for (method, outcome, size, kind, name), group in part.groupby(
        ["method", "outcome", "heterogeneity", "kind", "term"], sort=False
    ):
        inside = 100 * group["rank"].between(1, M - 1).groupby(group["table"]).mean()
        z = (group["truth"] - group["mean"]) / np.sqrt(1 + 1 / M) / group["sd"].where(group["sd"] > 0)
        one = group.sort_values("cells", kind="stable").groupby("table").tail(1)["rank"]
        cells = [
            method, f"{outcome}, {size}", name, kind, shown(mean_se(inside), 1), f"{z.mean():.2f}", f"{z.std():.2f}",
            f"{p_value(one.to_numpy(int), M):.2g}",
        ]  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def event_lines(rows: pd.DataFrame) -> list[str]:
    tables = rows[rows.what == "seconds"].groupby("method", sort=False).size()
    lines = ["| method | what happened | tables in which | count |", "|---|---|---|---|"]
    part = rows[(rows.what == "event") & (rows.term != "acceptance") & (rows.term != "by default")]
    for (method, term), group in part.groupby(["method", "term"], sort=False):
        hit = len(group[["outcome", "heterogeneity", "table"]].drop_duplicates())
        lines.append(f"| {method} | {term} | {hit} of {tables[method]} | {int(group['count'].sum()):,} |")
    for method, group in rows[rows.what == "failed"].groupby("method", sort=False):
        lines.append(
            f"| {method} | gave up: {group['term'].iloc[0].partition('. ')[0]} | {len(group)} of {tables[method]} | |"
        )
    quiet = [m for m in tables.index if m in METHODS and m not in set(part["method"])]
    return [*lines, "", f"None but acceptance rates: {', '.join(quiet) or 'no method'}."]


def report(rows: pd.DataFrame, command: str) -> list[str]:
    commit = run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
    lines = [
        "# Coverage of the methods for discrete variables: last results",
        "",
        f"Made by `{command}` on {date.today()}, commit {commit},",
        f"bayesimp {bi.__version__}, Python {platform.python_version()}, NumPy {np.__version__}.",
        "",
        f"{STUDIES} studies x {ROWS} rows, {SYSTEMATIC:.0%} of them without x1, as many without x2, and",
        f"{SPORADIC:.0%} of the other rows (depending on y); m = {M}, {CYCLES} cycles; the same tables for all methods.",
        "In brackets: Monte Carlo standard errors.",
        "",
    ]
    reading = Path(__file__).with_name("COVERAGE_READING.md")
    if reading.exists():
        lines += [reading.read_text().strip(), ""]
    lines += ["## All designs together", "", *summary_lines(rows), ""]
    for outcome, size in DESIGNS:
        lines += [
            f"## alpha: {outcome} outcome, {size} heterogeneity",
            "",
            *alpha_lines(rows, outcome, size),
            "",
        ]
    lines += ["## Standard deviations between studies", "", *sd_lines(rows), ""]
    lines += [
        "## Imputed means of a study against the truth", "",
        "z = (truth - mean of imputed means) / (their sd sqrt(1 + 1/m)): mean 0, sd about 1.05 (t, 18 df) if proper.", "",
        *imputed_lines(rows), "", "## Events", "", *event_lines(rows), "",
    ]  # fmt: skip
    seconds = rows[rows.what == "seconds"].groupby("method", sort=False)["value"].median()
    lines += ["## Median seconds a table (imputing and analysing)", ""]
    return [*lines, ", ".join(f"{name} {value:.2f}" for name, value in seconds.items()) + "."]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tables", type=int, default=40, help="of each of the four designs, at most")
    parser.add_argument("--methods", nargs="*", default=[REFERENCE, COMPLETE, *METHODS])
    parser.add_argument("--raw", type=Path)
    parser.add_argument("--minutes", type=float, default=np.inf)
    args = parser.parse_args()
    rows = study(args.tables, args.methods, args.raw, args.minutes)
    command = f"python -m tests.calibration.coverage --tables {args.tables}"
    if args.methods != [REFERENCE, COMPLETE, *METHODS]:
        command += " --methods " + " ".join(f'"{m}"' for m in args.methods)
    command += " --raw FILE" if args.raw else ""
    text = "\n".join(report(rows, command)) + "\n"
    Path(__file__).with_name("COVERAGE_RESULTS.md").write_text(text)
    sys.stdout.write(text)


if __name__ == "__main__":
    main()
