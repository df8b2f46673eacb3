"""Kernels of the joint normal model with several grouping factors, nested or crossed."""
