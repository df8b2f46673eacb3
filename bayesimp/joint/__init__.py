"""The joint multilevel normal model: the model, its samplers, its runs."""
