"""Convergence of parameters and of imputed values; prior draws."""
