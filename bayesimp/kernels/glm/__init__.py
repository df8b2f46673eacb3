"""Kernels for generalised linear models without random effects."""
