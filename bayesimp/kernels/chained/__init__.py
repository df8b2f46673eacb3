"""Kernels for chained equations: cross products, one visit, one variable given the others."""
