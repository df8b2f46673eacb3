"""Simulation studies of imputation methods, on published designs and on your own questions.

    delete      deletes values from any complete table, by cluster and by row; `Systematic`, `Sporadic`
    Study       runs and continues scenarios x replicates x methods; `Scenario`, `Analysis`, `method`
    Design      simulates tables of any families, effects and sizes: the first step of a scenario
    kunkel2017  the simulations of Kunkel & Kaizar (2017) as studies; jolani2025: those of Jolani (2025)
    calibrate   Is the computation right for data like yours? overimpute: Does the model predict what you observed?
    read        reads the results of a study from a folder
    summarise   performance with Monte Carlo standard errors; `compare`: two methods on the same data sets

Names are loaded when they are first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_HOME = {
    "Analysis": "records",
    "ClusterSizes": "design",
    "Design": "design",
    "Estimate": "records",
    "Scenario": "records",
    "Study": "study",
    "StudyResult": "result",
    "SimulatedVariable": "design",
    "calibrate": "calibration",
    "compare": "summaries",
    "jolani2025": "jolani",
    "kunkel2017": "kunkel_kaizar",
    "method": "tested",
    "overimpute": "overimputation",
    "read": "result",
    "rubin": "records",
    "summarise": "summaries",
    "delete": "deletion",
    "Deleted": "deletion",
    "Sporadic": "mechanisms",
    "Systematic": "mechanisms",
}

__all__ = [*_HOME]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'bayesimp.studies' has no attribute {name!r}")
    value = getattr(import_module(f"bayesimp.studies.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
