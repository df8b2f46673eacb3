"""Kernels for covariance matrices: densities of their priors, factors."""
