"""The commands of sites: `bayesimp site export`, `show`, `combine`, `complete`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from bayesimp.workflow.terminal import say

__all__ = ["add_site_commands"]

DONE = 0
LEAST = 3  # as in bayesimp/federated/disclosure.py, which the parser need not import


def export(options: argparse.Namespace) -> int:
    """Write the release of a site."""
    from bayesimp.workflow.site import export_rows

    made = export_rows(
        options.plan, options.site, options.out, options.data, options.minimum, options.log, options.again
    )
    say(repr(made))
    say(f"Written to {options.out}\ncontents  SHA-256 {made.sha256}")
    return DONE


def show(options: argparse.Namespace) -> int:
    """Print what a release holds."""
    from bayesimp.federated.release import read_release

    for file in options.files:
        made = read_release(file)
        say(f"{file}\n{made!r}\n  contents  SHA-256 {made.sha256}")
    return DONE


def combine(options: argparse.Namespace) -> int:
    """Sample the parameters given the releases of all sites."""
    from bayesimp.workflow.site import combine_sites

    made = combine_sites(options.plan, options.files, options.out, options.overwrite, say)
    say(f"{made!r}\n{made.summary()!r}")
    say(f"Written to {options.out}; it contains no rows. Send it to the sites unchanged.")
    return DONE


def complete(options: argparse.Namespace) -> int:
    """Complete the rows of a site."""
    from bayesimp.workflow.site import complete_rows

    made = complete_rows(options.folder, options.site, options.out, options.data, options.overwrite, say)
    say(repr(made))
    say(f"Written to {options.out}; the tables stay at the site.")
    return DONE


def add_site_commands(commands: Any) -> None:
    """Add these commands to the parser of `bayesimp`."""
    site = commands.add_parser(
        "site", help="impute with sites that do not share rows: export, combine, complete"
    )
    own = site.add_subparsers(title="commands", required=True, metavar="{export,show,combine,complete}")

    command = own.add_parser(
        "export", help="at a site: write counts and cross products of its rows to a file"
    )
    command.add_argument("plan", type=Path, help="plan file (.toml), the same at all sites")
    _add_site(command)
    command.add_argument("--out", type=Path, required=True, metavar="FILE", help="file to write (.json)")
    text = f"smallest group of rows that is released (default and minimum: {LEAST})"
    command.add_argument("--minimum", type=int, default=LEAST, metavar="N", help=text)
    text = "folder of the log of releases (default: the table's folder)"
    command.add_argument("--log", type=Path, default=None, metavar="DIR", help=text)
    text = "release numbers that differ from an earlier release; the reason is written to the file"
    command.add_argument("--again", default=None, metavar="REASON", help=text)
    command.set_defaults(command=export)

    command = own.add_parser("show", help="print what files of sites hold")
    command.add_argument("files", type=Path, nargs="+", metavar="FILE", help="files of sites")
    command.set_defaults(command=show)

    command = own.add_parser("combine", help="at the coordinator: draw the parameters given all sites' files")
    command.add_argument("plan", type=Path, help="plan file (.toml), the same as at the sites")
    command.add_argument("files", type=Path, nargs="+", metavar="FILE", help="files of all sites")
    _add_out(command)
    command.set_defaults(command=combine)

    command = own.add_parser("complete", help="at a site: complete its rows with the shared parameters")
    command.add_argument("folder", type=Path, metavar="RUN", help="folder from the coordinator")
    _add_site(command)
    _add_out(command)
    command.set_defaults(command=complete)


def _add_site(command: argparse.ArgumentParser) -> None:
    command.add_argument("--site", required=True, metavar="NAME", help="name of the site")
    text = "table of the site (default: the file named in the plan)"
    command.add_argument("--data", type=Path, default=None, metavar="FILE", help=text)


def _add_out(command: argparse.ArgumentParser) -> None:
    command.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for the results")
    command.add_argument("--overwrite", action="store_true", help="replace earlier results in DIR")
