"""Fully conditional specification: the model, its loop, its runs."""
