"""Analyses of completed tables and their pooling: `fit_each`, `pool`, `compare`, `pool_by_study`."""
