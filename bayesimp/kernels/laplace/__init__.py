"""Kernels that fit generalised linear mixed models by Laplace approximation or quadrature."""
