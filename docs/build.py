"""Build the documentation site from `docs/`, the notebooks as they are stored, and the docstrings: make docs

    python docs/build.py [FOLDER]     writes FOLDER/index.html (default build/site); any warning is an error
    python docs/build.py --outputs    executes the tutorial and writes its outputs and figures into docs/

The site is not committed. Its sources are put together in FOLDER.sources: pages as they are, notebooks turned into
pages, the reference generated from the public names. Nothing is fetched when a page is viewed.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

DOCS = Path(__file__).resolve().parent
ROOT = DOCS.parent
sys.path[:0] = [str(ROOT), str(DOCS / "site")]
PAGES = ("*.md", "howto/*.md", "results/**/*.md", "**/*.png")
BORROWED = {"CHANGELOG.md": "changelog.md", "examples/README.md": "plans.md"}


def assemble(folder: Path) -> None:
    """Put the sources of the site together in an empty folder."""
    import notebooks
    import reference

    for pattern in PAGES:
        for path in DOCS.glob(pattern):
            copy(path, folder / path.relative_to(DOCS))
    for source, page in BORROWED.items():
        copy(ROOT / source, folder / page)
    copy(ROOT / "notebooks" / "figures" / "missing.png", folder / "notebooks" / "figures" / "missing.png")
    names = [notebooks.write(path, folder / "notebooks") for path in sorted((ROOT / "notebooks").glob("*.ipynb"))]
    contents = "\n".join(names)
    text = f"# Notebooks\n\nLonger examples, with the outputs of their last run (`make notebooks`).\n\n```{{toctree}}\n:maxdepth: 1\n\n{contents}\n```\n"
    (folder / "notebooks" / "index.md").write_text(text, encoding="utf-8")
    reference.write(folder / "api")


def copy(source: Path, target: Path) -> None:
    """Copy one file, making its folder."""
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)


def build(target: Path) -> int:
    """Build the site into a folder; 0 if there was neither an error nor a warning."""
    from sphinx.cmd.build import build_main

    with tempfile.TemporaryDirectory() as sources:
        assemble(Path(sources))
        options = ["-q", "-W", "--keep-going", "-E", "-b", "html", "-c", str(DOCS / "site")]
        return build_main([*options, "-d", str(Path(sources) / ".doctrees"), sources, str(target)])


def main(arguments: list[str]) -> int:
    """What the command line does."""
    if arguments == ["--outputs"]:
        import examples

        return examples.rewrite(DOCS)
    return build(Path(arguments[0]) if arguments else ROOT / "build" / "site")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
