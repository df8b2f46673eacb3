"""Kernels for the joint multilevel normal model on sufficient statistics."""
