"""Response families, and columns of a table as numbers."""
