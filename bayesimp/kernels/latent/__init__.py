"""The joint normal model on latent normals: latent values, cutpoints, restricted residual covariances, sweeps."""
