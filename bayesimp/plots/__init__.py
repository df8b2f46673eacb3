"""Figures, one in each file. Drawing one loads matplotlib."""

from __future__ import annotations

from importlib import import_module
from typing import Any

_HOME = {
    "plot_diagnosis": "bayesimp.plots.diagnosis",
    "plot_implied_conditionals": "bayesimp.plots.implied_conditionals",
    "plot_implied_prior": "bayesimp.plots.implied_prior",
    "plot_forest": "bayesimp.plots.forest",
    "plot_imputed": "bayesimp.plots.imputed",
    "plot_imputed_trace": "bayesimp.plots.imputed_trace",
    "plot_missing": "bayesimp.plots.missing",
    "plot_mnar": "bayesimp.plots.mnar",
    "plot_mnar_map": "bayesimp.plots.mnar_map",
    "plot_performance": "bayesimp.plots.performance",
    "plot_pooled": "bayesimp.plots.pooled",
    "plot_predictive_qq": "bayesimp.plots.predictive_qq",
    "plot_prior_posterior": "bayesimp.plots.prior_posterior",
    "plot_sensitivity": "bayesimp.plots.sensitivity",
    "plot_sensitivity_components": "bayesimp.plots.sensitivity_components",
    "plot_power_scaling": "bayesimp.plots.power_scaling",
    "plot_trace": "bayesimp.plots.trace",
    "plot_variance_priors": "bayesimp.plots.variance_priors",
}

__all__ = [*_HOME]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'bayesimp.plots' has no attribute {name!r}")
    value = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
