"""Kernels for linear mixed models fitted by (restricted) maximum likelihood."""
