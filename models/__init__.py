"""PyMC models as plain functions (data, priors) -> pm.Model, with the equations first and the code in the same order."""
