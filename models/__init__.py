"""PyMC models: plain functions (data, priors) -> pm.Model, equations first, code in the same order."""
