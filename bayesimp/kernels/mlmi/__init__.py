"""Kernels for Jolani's (2025) multilevel imputation by fitted models."""
