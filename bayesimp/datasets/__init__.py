"""Example data that come with the package."""
