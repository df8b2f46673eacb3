"""The simulations of Kunkel & Kaizar (2017), section 4: designs, methods and truths.

    y_ij = z_ij b_i + e_ij,   b_i ~ N(0, Psi),  e_ij ~ N(0, Sigma),  three variables;   y1, y2 missing in whole studies
    analysis   y3 ~ y1 + y2 + (1 | study)         simulations 1, 2, 3, 5;     (0 + z | study) in simulation 4

What the text leaves open, and how we read it:

- Settings 10 to 12: the text has 10 on the diagonal of Psi, but the published full-data columns fit 15 as its last
  element (1.5 psi, as in settings 1 to 9). `psi33` offers both; 15 is the default.
- Simulation 3: study sizes "varying in [15, 150]", 450 in all; the text does not list them. `SIZES_3` are ours.
- Cluster sums or means: the text adds the sum of the other variable in the study, but R mice, which was used for
  MICE-IW-c, has means. If sizes differ (simulations 3 and 5), these are different models: MICE-IW-c is fitted with means;
  MICE-ML, which was programmed for the paper, with sums; in simulation 3 each is also fitted in the other form.
- Simulation 4: the sum of z times the other variable, a constant within the study, is added; the joint model implies z
  times this sum (`bayesimp.FCS(compatible=True)`).
- Simulation 5 has Sigma22 = 691, whereas figure 1 has 147; it is used as printed.
- Equation 8 has a sign error in psi_1.2; no simulation depends on it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bayesimp import methods as me
from bayesimp.errors import SpecificationError
from bayesimp.studies.deletion import delete
from bayesimp.studies.mechanisms import Systematic
from bayesimp.studies.records import Analysis, Scenario
from bayesimp.studies.simulate import simulate_studies
from bayesimp.studies.study import Study
from bayesimp.studies.tested import Chained, Joint, Reference

__all__ = ["RHO", "SIMULATIONS", "analysis_truth", "covariances", "kunkel2017", "scenario", "tested_methods"]

Array = NDArray[np.float64]

# table I: rho_1 .. rho_4 by setting
RHO: dict[int, tuple[float, float, float, float]] = {
    1: (0.15, 0.15, 0.40, 0.40), 2: (0.75, 0.15, 0.40, 0.40), 3: (-0.55, 0.15, 0.40, 0.40),
    4: (0.15, 0.75, 0.40, 0.40), 5: (0.75, 0.75, 0.40, 0.40), 6: (-0.55, 0.75, 0.40, 0.40),
    7: (0.15, -0.55, 0.40, 0.40), 8: (0.75, -0.55, 0.40, 0.40), 9: (-0.55, -0.55, 0.40, 0.40),
    10: (-0.55, 0.75, -0.40, 0.40), 11: (-0.55, -0.55, -0.40, -0.40), 12: (0.75, 0.75, 0.40, 0.40),
}  # fmt: skip
SIZES_3 = (150, 60, 35, 30, 20, 20, *(15,) * 9)
SIZES_5 = (49, 18, 15, 29, 60)
# table II: sizes of the studies, numbers that lack y1 and y2 (5: studies of size 18 lack y1, those of size 60 lack y2)
SIMULATIONS: dict[str, tuple[tuple[int, ...], int, int]] = {
    "1": ((30,) * 35, 8, 9), "2": ((30,) * 15, 8, 3), "3": (SIZES_3, 8, 3), "4": ((30,) * 15, 8, 3),
    "5a": (SIZES_5, 1, 1), "5b": (SIZES_5 * 7, 7, 7),
}  # fmt: skip
SIGMA_5 = np.array([[127.0, 100, 75], [100, 691, 65], [75, 65, 120]])
PSI_5 = np.array([[28.0, 22, 11], [22, 40, 12], [11, 12, 26]])
NU_5 = (1.0, 1.6, 5.0)
M, CYCLES, REPLICATES = 60, 45, 200


def covariances(setting: int, psi33: float | None = None) -> tuple[Array, Array]:
    """(Sigma, Psi) of settings 1 to 12; psi33 is the last variance of Psi in settings 10 to 12, by default 15."""
    if setting not in RHO:
        raise SpecificationError(f"setting is one of 1 to 12, got {setting!r}.")
    a, b, c, d = RHO[setting]
    within = np.array([[1, a, 0.6], [a, 1, c], [0.6, c, 1.0]])
    between = np.array([[1, b, 0.6], [b, 1, d], [0.6, d, 1.0]])
    if setting < 10:
        if psi33 is not None:
            raise SpecificationError("psi33 is for settings 10 to 12.")
        last = np.diag([0.0, 0.0, 0.5])
        return 10 * (within + last), between + last
    sd = np.sqrt([10.0, 1.0, 10.0])
    Psi = 10 * between
    Psi[2, 2] = 15.0 if psi33 is None else psi33
    return within * np.outer(sd, sd), Psi


def analysis_truth(Sigma: Array, Psi: Array) -> dict[str, float]:
    """beta of y3 on y1, y2 within studies, residual variance, and variance of the effects b_3 - beta'(b_1, b_2)."""
    beta = np.linalg.solve(Sigma[:2, :2], Sigma[:2, 2])
    contrast = np.array([-beta[0], -beta[1], 1.0])
    return {
        "Intercept": 0.0, "y1": float(beta[0]), "y2": float(beta[1]),
        "var(residual)": float(contrast @ Sigma @ contrast), "var(effect)": float(contrast @ Psi @ contrast),
    }  # fmt: skip


def scenario(simulation: str, setting: int | None = None, psi33: float | None = None) -> Scenario:
    """One setting of one simulation; simulations 5a and 5b have a single setting."""
    simulation = str(simulation).lower()
    if simulation not in SIMULATIONS:
        raise SpecificationError(
            f"simulation is one of {', '.join(SIMULATIONS)}; got {simulation!r} (5 is 5a or 5b)."
        )
    five, slope = simulation.startswith("5"), simulation == "4"
    if five == (setting is not None):
        raise SpecificationError("Simulations 1 to 4 have settings 1 to 12, simulations 5a and 5b have none.")
    Sigma, Psi = (SIGMA_5, PSI_5) if setting is None else covariances(setting, psi33)
    sizes, lack1, lack2 = SIMULATIONS[simulation]
    studies = np.arange(len(sizes)) + 1
    if five:
        how = {
            f"y{k}": Systematic(clusters=tuple(studies[np.array(sizes) == n])) for k, n in ((1, 18), (2, 60))
        }
    else:
        how = {"y1": Systematic(count=lack1), "y2": Systematic(count=lack2)}
    effect = "z" if slope else "Intercept"
    truth = analysis_truth(Sigma, Psi)
    truth[f"var({effect} | study)"] = truth.pop("var(effect)")
    name = f"simulation {simulation}" + ("" if five else f", setting {setting}")
    return Scenario(
        name if psi33 is None else f"{name}, psi33 {psi33:g}",
        partial(simulate_studies, list(sizes), Sigma, Psi, slope=slope),
        partial(delete, cluster="study", systematic=how, apart=[("y1", "y2")]),
        Analysis(f"y3 ~ y1 + y2 + {'(0 + z' if slope else '(1'} | study)"),
        "study",
        truth=truth,
        labels={"simulation": simulation, "setting": setting, "psi33": psi33},
    )


def formulas(simulation: str, over: str | None = None) -> list[str]:
    """Conditional models, alone or with the "sum" or "mean" of the other variable (times z) over the study."""
    random, z = ("(0 + z | study)", "z:") if simulation == "4" else ("(1 | study)", "")
    return [
        f"{y} ~ {x} + y3{'' if over is None else f' + cluster_{over}({z}{x})'} + {random}"
        for y, x in (("y1", "y2"), ("y2", "y1"))
    ]


def tested_methods(simulation: str, m: int = M, cycles: int = CYCLES) -> dict[str, Any]:
    """The paper's methods: Full data, Joint, MICE-IW, MICE-IW-c, MICE-ML; in simulation 5, IW by degrees of freedom."""
    effect = "(0 + z | study)" if simulation == "4" else "(1 | study)"
    plain, means, sums = (formulas(simulation, over) for over in (None, "mean", "sum"))
    out: dict[str, Any] = {
        "Full data": Reference(),
        "Joint": Joint(f"y1 + y2 ~ y3 + {effect}", "pan", m),
    }
    if simulation.startswith("5"):
        for nu in NU_5:
            for name, columns in (("MICE-IW", plain), ("MICE-IW-c", means)):
                out[f"{name}({nu:g})"] = Chained(me.IW(nu=nu, compatible=False), columns, m, cycles)
        return out
    iw, ml = me.IW(compatible=False), me.ML(compatible=False)
    out |= {
        "MICE-IW": Chained(iw, plain, m, cycles),
        "MICE-IW-c": Chained(iw, means, m, cycles),
        "MICE-ML": Chained(ml, sums, m, cycles),
    }
    if simulation == "3":
        out |= {
            "MICE-IW-c, sums": Chained(iw, sums, m, cycles),
            "MICE-ML, means": Chained(ml, means, m, cycles),
        }
    return out


def kunkel2017(
    simulation: str,
    settings: Iterable[int] | None = None,
    *,
    psi33: Sequence[float | None] = (None,),
    m: int = M,
    cycles: int = CYCLES,
    seed: int = 2017,
) -> Study:
    """A simulation of the paper as a `Study`.

    Parameters
    ----------
    simulation
        "1", "2", "3", "4", "5a" or "5b".
    settings
        Correlation settings; None: all 12.
    psi33
        Values of the last variance of Psi to try in settings 10 to 12; None: 15.
    m, cycles
        Number of imputations, and of cycles of chained equations.
    seed
        Seed of the study.
    """
    simulation = str(simulation).lower()
    if simulation.startswith("5"):
        chosen = [scenario(simulation)]
    else:
        chosen = [
            scenario(simulation, k, p)
            for k in (RHO if settings is None else settings)
            for p in (psi33 if k >= 10 else (None,))
        ]
    return Study(chosen, tested_methods(simulation, m, cycles), seed=seed)
