"""Kernels of the joint GLMM: a sequence of multilevel factors with common cluster effects."""
