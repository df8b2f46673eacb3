"""Writes small results that later versions of the package must still read: python -m tests.reference.stored.write FOLDER

The two files next to this script were written by the version of 29 November 2026, before runs shared a contract, and must
not be rewritten: `tests/test_stored.py` reads them and continues their chains.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import bayesimp as bi
from bayesimp import methods
from tests.frozen import _blocks, fcs, joint, table
from tests.frozen import priors as pr

PLAIN = "bayes", "ml", "norm", "pmm", "pymc", "mlmi", "mlmi-published", "2stage", "sti", "glm", "2lonly"
DISCRETE = ("bernoulli", "binomial(n)", "poisson", "gamma", "ordinal", "categorical")


def mixed() -> bi.Imputations:
    """Several kinds of block in one run: y ordinal, w normal with a bound, and a derived column."""
    data = bi.IncompleteData(table("ordinal"), cluster="g", families={"y": "ordinal"})
    model = bi.FCS(data, methods={"w": "ml"}, derived={"wx": "w * x"}, where={"w": data.missing("w")})
    return model.impute(m=2, seed=5, cycles=3, progress=False)


RUNS: dict[str, Callable[[], bi.Imputations]] = {
    "joint_gibbs": lambda: joint(pr.default(), tune=5, draws=6),
    "joint_nuts": lambda: joint(pr.default(), sampler="nuts", tune=20, draws=6),
    "fcs_mixed": mixed,
    "fcs_joint_block": _blocks,
    "fcs_by_cluster": lambda: fcs("normal", methods.Bayes(residual="cluster")),
    "fcs_bounds": lambda: fcs("normal", "bayes", bounds={"y": (-6.0, 6.0)}),
    **{f"fcs_normal_{method}": lambda m=method: fcs("normal", m) for method in PLAIN},
    **{f"fcs_{family}": lambda f=family: fcs(f, "bayes") for family in DISCRETE},
    "fcs_bernoulli_pymc": lambda: fcs("bernoulli", "pymc"),
    "fcs_bernoulli_mlmi": lambda: fcs("bernoulli", "mlmi"),
    "fcs_ordinal_sti": lambda: fcs("ordinal", "sti"),
}

if __name__ == "__main__":
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for name, make in RUNS.items():
        try:
            made = make()
        except bi.errors.BayesimpError as error:
            print(f"{name} is refused: {error}")
        else:
            made.save(folder / f"{name}.nc")
