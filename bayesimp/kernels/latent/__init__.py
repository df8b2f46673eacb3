"""Kernels of the joint normal model on latent normals: latent values, cutpoints, restricted covariances, sweeps."""
