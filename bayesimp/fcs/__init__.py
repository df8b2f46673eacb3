"""Fully conditional specification (FCS): the model, its loop and its runs."""
