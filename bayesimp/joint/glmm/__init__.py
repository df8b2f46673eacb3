"""The joint GLMM: an imputation model that contains the analysis."""
