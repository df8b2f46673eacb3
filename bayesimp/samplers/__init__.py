"""Chains: the joint Gibbs sampler, NUTS, and what runs them side by side."""
