"""Kernels for response distributions: densities, derivatives, draws."""
