"""Printed text with the lines that continue in the next one joined again."""

import re


def unfolded(text: str) -> str:
    """Lines that are indented by four or more blanks are joined to the line before."""
    return re.sub(r"\n {4,}", " ", text)
