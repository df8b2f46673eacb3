"""Simulated data for studies of methods."""
