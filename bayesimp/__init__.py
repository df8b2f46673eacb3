"""Bayesian multiple imputation for clustered data."""
