"""Computations on arrays only, without pandas, xarray or PyMC."""
