"""The joint model on latent normals with several grouping factors."""
