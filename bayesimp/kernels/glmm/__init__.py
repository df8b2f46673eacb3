"""Kernels that sample the posterior of generalised linear mixed models."""
