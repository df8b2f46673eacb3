"""Bayesian multiple imputation for clustered data: patients in studies, pupils in schools, repeated measures.

    import bayesimp as bi

    data = bi.IncompleteData(frame, cluster="school")
    imp = bi.JointNormal(data, "written + course ~ gender + (1 | school)").impute(m=60, seed=1)
    imp.analyse("written ~ course + gender + (1 | school)").pool()

Names are loaded when they are first used: ``import bayesimp`` loads neither PyMC nor matplotlib.
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import version
from typing import Any

_HOME = {
    "BayesimpError": "bayesimp.errors",
    "DataError": "bayesimp.errors",
    "SamplingError": "bayesimp.errors",
    "SpecificationError": "bayesimp.errors",
    "StatisticalWarning": "bayesimp.errors",
    "IncompleteData": "bayesimp.table.incomplete",
    "PartitionedData": "bayesimp.table.partitions",
    "PartitionedNormal": "bayesimp.partitioned.model",
    "PartitionedImputations": "bayesimp.partitioned.result",
    "PartitionedFCS": "bayesimp.partitioned.fcs",
    "PartitionedFCSImputations": "bayesimp.partitioned.fcs_result",
    "load_brain_injury": "bayesimp.datasets.examples",
    "load_exam": "bayesimp.datasets.examples",
    "load_kidney": "bayesimp.studies.simulate_ipd",
    "simulate_ipd": "bayesimp.studies.simulate_ipd",
    "simulate_studies": "bayesimp.studies.simulate",
    "FCS": "bayesimp.fcs.model",
    "JointNormal": "bayesimp.joint.normal",
    "JointGLMM": "bayesimp.joint.glmm.model",
    "JointLatent": "bayesimp.joint.latent.model",
    "ReferenceBased": "bayesimp.joint.reference",
    "arm_by_visit": "bayesimp.table.arm_by_visit",
    "FromPyMC": "bayesimp.joint.from_pymc",
    "Imputations": "bayesimp.imputation.result",
    "MultilevelImputer": "bayesimp.workflow.multilevel_imputer",
    "impute": "bayesimp.workflow.automatic",
    "load": "bayesimp.imputation.storage",
    "read_imputations": "bayesimp.imputation.imported",
    "fit_each": "bayesimp.analysis.fit",
    "pool": "bayesimp.analysis.pool",
    "pool_components": "bayesimp.analysis.pooled_components",
    "complete_cases": "bayesimp.analysis.side_by_side",
    "pool_by_study": "bayesimp.analysis.meta",
    "pool_studies": "bayesimp.analysis.meta",
    "stack_posteriors": "bayesimp.analysis.posteriors",
    "side_by_side": "bayesimp.analysis.side_by_side",
    "compare": "bayesimp.analysis.compare",
    "mnar": "bayesimp.sensitivity_analysis.mnar",
    "sensitivity": "bayesimp.sensitivity_analysis.run",
    "power_scaling": "bayesimp.sensitivity_analysis.power_scaling",
    "prior_shares": "bayesimp.diagnostics.components",
    "default_grid": "bayesimp.sensitivity_analysis.grid",
    "plot_forest": "bayesimp.plots.forest",
    "plot_imputed": "bayesimp.plots.imputed",
    "plot_imputed_trace": "bayesimp.plots.imputed_trace",
    "plot_missing": "bayesimp.plots.missing",
    "plot_mnar": "bayesimp.plots.mnar",
    "plot_mnar_map": "bayesimp.plots.mnar_map",
    "plot_pooled": "bayesimp.plots.pooled",
    "plot_prior_posterior": "bayesimp.plots.prior_posterior",
    "plot_sensitivity": "bayesimp.plots.sensitivity",
    "plot_sensitivity_components": "bayesimp.plots.sensitivity_components",
    "plot_power_scaling": "bayesimp.plots.power_scaling",
    "plot_trace": "bayesimp.plots.trace",
}
__version__ = version("bayesimp")
_MODULES = ("analysis", "compatibility", "federated", "methods", "models", "plots", "priors", "studies")

__all__ = [*_HOME, *_MODULES]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        value = getattr(import_module(_HOME[name]), name)
    elif name in _MODULES:
        value = import_module(f"bayesimp.{name}")
    else:
        raise AttributeError(f"module 'bayesimp' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*__all__, "__version__"})
