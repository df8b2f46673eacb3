"""Formulas: syntax, terms, design matrices. Text is parsed and never evaluated as Python code."""
