"""Writes bayesimp/verification/reference.json: the numbers from R with which `bayesimp verify` compares.

    python -m tests.reference.make_verification

They are taken from the frozen output of the scripts in this folder: pooling.R (mice), lme4_fits.R (lme4), meta/
(metafor). The numbers of short runs are those of this package on the machine where this is run; they change with a
random stream.
"""

import json
from pathlib import Path

import pandas as pd

from bayesimp.report.versions import versions
from bayesimp.verification.reference import numbers_of_short_runs

HERE = Path(__file__).parent
TARGET = HERE.parents[1] / "bayesimp" / "verification" / "reference.json"
FITS = ("lme4_balanced intercept REML", "lme4_balanced intercept ML")


def of_r() -> dict:
    """The numbers from R, with versions."""
    pooling = json.loads((HERE / "pooling.json").read_text())
    fits = json.loads((HERE / "lme4_fits.json").read_text())
    meta = json.loads((HERE / "meta" / "meta.json").read_text())
    table = pd.read_csv(HERE / "lme4_balanced.csv")
    return {
        "mice": pooling["scalars"][:4],
        "lme4": [
            {key: fits[name][key] for key in ("reml", "beta", "Psi", "sigma", "se", "loglik")}
            for name in FITS
        ],
        "lme4 table": {name: table[name].tolist() for name in table},
        "metafor": meta["cases"][:4],
        "R": {"mice": pooling["session"], "lme4": fits["session"], "metafor": meta["session"]},
    }


if __name__ == "__main__":
    own = {"short runs": numbers_of_short_runs(), "short runs made with": versions()}
    TARGET.write_text(json.dumps(of_r() | own, indent=1) + "\n")
