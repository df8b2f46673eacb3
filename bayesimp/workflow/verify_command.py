"""The command `bayesimp verify`: check the requirements on this machine, and write HTML and JSON."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from bayesimp.workflow.terminal import say

__all__ = ["add_verify_command", "verify_installation"]

DONE, FAILED = 0, 3


def verify_command(options: argparse.Namespace) -> int:
    """Check the requirements, print and write the results."""
    return verify_installation(options.out, options.full, options.only)


def verify_installation(out: Path, full: bool, only: list[str]) -> int:
    """Check requirements, print each as it is done, and write ``verification.html`` and ``verification.json``.

    Parameters
    ----------
    only
        Ids of the requirements to check; empty: all.

    Returns
    -------
    0 if all that were checked are met, else 3.

    Raises
    ------
    SpecificationError
        An unknown id.
    """
    import warnings

    from bayesimp.durable import write_text
    from bayesimp.errors import SpecificationError
    from bayesimp.messages import suggestion
    from bayesimp.verification import REQUIREMENTS, verify
    from bayesimp.verification.document import as_page
    from bayesimp.workflow.environment import environment

    known = {each.key: each for each in REQUIREMENTS}
    for key in only:
        if key not in known:
            raise SpecificationError(f"--only: no requirement has the id {key!r}. {suggestion(key, known)}")
    chosen = [each for each in REQUIREMENTS if not only or each.key in only]
    out.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # runs are short on purpose
        made = verify(chosen, full, environment(), lambda checked: say(str(checked)))
    write_text(out / "verification.json", json.dumps(made.record(), indent=2, allow_nan=False) + "\n")
    write_text(out / "verification.html", as_page(made))
    say(repr(made).partition("\n")[0])
    say(f"Written to {out / 'verification.html'} and {out / 'verification.json'}")
    return DONE if made.passed else FAILED


def add_verify_command(commands: Any) -> None:
    """Add the command to the parser of `bayesimp`."""
    command = commands.add_parser("verify", help="check the requirements of the package on this machine")
    text = "folder for verification.html and verification.json (default: verification)"
    command.add_argument("--out", type=Path, default=Path("verification"), metavar="DIR", help=text)
    command.add_argument("--full", action="store_true", help="thorough checks, which take much longer")
    command.add_argument(
        "--only", nargs="*", default=[], metavar="ID", help="ids of requirements, such as V-05"
    )
    command.set_defaults(command=verify_command)
