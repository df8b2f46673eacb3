"""`JointLatent`: the joint normal model on latent normals, for tables of numbers and levels."""
