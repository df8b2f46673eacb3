"""Example data of the package."""
