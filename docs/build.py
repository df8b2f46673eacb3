"""Build the documentation site from `docs/`, the notebooks as they are stored, and the docstrings: make docs

    python docs/build.py [FOLDER]     writes FOLDER/index.html (default build/site); any warning is an error
    python docs/build.py --outputs    executes the tutorial and the limits, and writes their outputs into docs/

The site is not committed. Its sources are put together in FOLDER.sources: pages as they are, notebooks turned into
pages, the reference generated from the public names. Nothing is fetched when a page is viewed.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
import tempfile
from pathlib import Path

DOCS = Path(__file__).resolve().parent
ROOT = DOCS.parent
sys.path[:0] = [str(ROOT), str(DOCS / "site")]
PAGES = ("*.md", "howto/*.md", "results/**/*.md", "**/*.png")
BORROWED = {  # from elsewhere: page, without ending
    "CHANGELOG.md": "changelog",
    "examples/README.md": "plans",
    "notebooks/figures/missing.png": "notebooks/figures/missing",
}
LINK = re.compile(r"(?P<mark>!?)\[(?P<text>[^\]\n]*)\]\((?P<target>[^)\s]+)\)")
FURTHER = """
```{{toctree}}
:hidden:
:caption: More

{names}
```
"""
NOTEBOOKS = """# Notebooks

Longer examples, with the outputs of their last run (`make notebooks`).

```{{toctree}}
:maxdepth: 1

{names}
```
"""


def assemble(folder: Path) -> None:
    """Put the sources of the site together in an empty folder."""
    import notebook_pages
    import reference_pages

    places = {path: path.relative_to(DOCS) for pattern in PAGES for path in DOCS.glob(pattern)}
    places |= {
        ROOT / source: Path(page).with_suffix(Path(source).suffix) for source, page in BORROWED.items()
    }
    for source, place in places.items():
        target = folder / place
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.suffix == ".md":
            target.write_text(relinked(source, places), encoding="utf-8")
        else:
            shutil.copyfile(source, target)
    further = sorted(path.stem for path in DOCS.glob("*.md") if not named_on_index(path.stem))
    if further:  # a new page has a place before anyone has thought of one
        with (folder / "index.md").open("a", encoding="utf-8") as index:
            index.write(FURTHER.format(names="\n".join(further)))
    names = [
        notebook_pages.write(path, folder / "notebooks")
        for path in sorted((ROOT / "notebooks").glob("*.ipynb"))
    ]
    (folder / "notebooks" / "index.md").write_text(NOTEBOOKS.format(names="\n".join(names)), encoding="utf-8")
    reference_pages.write(folder / "api")


def named_on_index(stem: str) -> bool:
    """Whether the contents of the site list a page of `docs/`."""
    return stem == "index" or stem in (DOCS / "index.md").read_text(encoding="utf-8").splitlines()


def relinked(source: Path, places: dict[Path, Path]) -> str:
    """The text of a page, its relative links leading where their files are in the site; others become plain text."""

    def link(match: re.Match[str]) -> str:
        name, _, anchor = match["target"].partition("#")
        if re.match(r"[a-z]+:", name) or not name:
            return match[0]
        path = (source.parent / name).resolve()
        if path not in places:  # a file that is not a page; a link to nothing stays, and Sphinx refuses it
            return match["text"] if path.exists() else match[0]
        place = places[path]
        to = Path(os.path.relpath(place, places[source].parent)).as_posix() + (f"#{anchor}" if anchor else "")
        return f"{match['mark']}[{match['text']}]({to})"

    return LINK.sub(link, source.read_text(encoding="utf-8"))


def build(target: Path) -> int:
    """Build the site into a folder; 0 if there was neither an error nor a warning."""
    with tempfile.TemporaryDirectory() as sources:
        assemble(Path(sources))
        return sphinx(Path(sources), target)


def sphinx(sources: Path, target: Path) -> int:
    """Run Sphinx on a folder of pages; 0 if there was neither an error nor a warning."""
    from sphinx.cmd.build import build_main

    options = ["-q", "-W", "--keep-going", "-E", "-b", "html", "-c", str(DOCS / "site")]
    return build_main([*options, "-d", str(sources / ".doctrees"), str(sources), str(target)])


def main(arguments: list[str]) -> int:
    """What the command line does."""
    if arguments == ["--outputs"]:
        import page_code

        return page_code.rewrite(DOCS)
    return build(Path(arguments[0]) if arguments else ROOT / "build" / "site")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
