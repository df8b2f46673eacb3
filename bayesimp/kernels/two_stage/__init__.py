"""Kernels for two-stage imputation: a regression in every cluster, then a meta-analysis."""
