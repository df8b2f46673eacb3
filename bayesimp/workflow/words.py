"""Advice for plan files: Python code that a message recommends, rewritten as lines of a plan."""

from __future__ import annotations

import re

__all__ = ["in_plan_words"]

QUOTED = r"'((?:[^'\\]|\\.)*)'"
WORDS: tuple[tuple[str, str], ...] = (
    (rf"(?:IncompleteData\(\.\.\., )?families=\{{{QUOTED}: {QUOTED}\}}\)?", r'"\1" = "\2" under [data.families]'),
    (rf"families=\{{\.\.\.: {QUOTED}\}}", r'name = "\1" under [data.families]'),
    (rf"pandas\.to_numeric\(table\[{QUOTED}\], errors='coerce'\) makes it numbers, and anything else missing",
     r'"\1" = "number" under [data.types] makes it numbers; texts that mean missing go into missing under [data]'),
    (r"pandas\.Categorical\(\.\.\., categories=\[\.\.\.\], ordered=True\)",
     'its categories in order under [data.types], as ["low", "high"]'),
    (rf"sampler={QUOTED}", r'sampler = "\1" under [impute]'),
    (r"priors\.Priors\((\w+)=priors\.(\w+)\([^()]*\)\)", r'type = "\2" under [model.priors.\1]'),
    (r"priors\.(Diagonal|Fixed|Normal|Weak)\b(?:\([^()]*\))?", r'the type "\1" under [model.priors]'),
    (r"improper=True", "improper = true under [model.priors]"),
    (r"\bquadrature=(\d+)", r"quadrature = \1 under [[analysis]]"),
    (r"`extend_until\(\)`, or more draws \(draws=\)", "Ask for more draws: draws under [impute]"),
    (r"Ask for more draws \(draws=\)", "Ask for more draws: draws under [impute]"),
    (r"`extend\(\d*\)`", "a larger m under [impute]"),
    (rf"bi\.JointNormal\(data, {QUOTED}\)", r'formula = "\1" under [model]'),
    (rf"bi\.JointLatent\(data, {QUOTED}\)", r'formula = "\1" under [model], of type = "JointLatent"'),
    (r"bi\.JointGLMM\(data, [^\n]*\)", 'type = "JointGLMM" under [model], which imputes for the analyses of the plan'),
    (r"bi\.FCS\(data, (?:\.\.\., )?analysis=[^\n]*\)", "congenial = true under [model], with this analysis in the plan"),
    (r"(bi\.FCS\(data, (?![^\n]*\(from Python\))[^\n]*\))", r"\1 (from Python)"),
    (r"`iterate\(\d+\)`(?: \(more cycles\))?", "more cycles under [impute]"),
    (r"Ask for more cycles: `iterate\(\.\.\.\)` or cycles=", "Ask for more cycles: cycles under [impute]"),
    (r"in \.events of the fits", "in events_*.csv"),
    (r"\(FCS\)|with FCS\b", "(FCS, from Python)"),
)  # fmt: skip


def in_plan_words(text: str) -> str:
    """The text with arguments of Python calls replaced by lines of a plan.

    >>> in_plan_words("say so: IncompleteData(..., families={'y': 'normal'}).")
    'say so: "y" = "normal" under [data.families].'
    """
    for pattern, words in WORDS:
        text = re.sub(pattern, words, text)
    return text
