"""Tools that samplers share: chains, seeds and interruption, NUTS and HMC on compiled PyMC models."""
