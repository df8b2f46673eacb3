"""Executed notebooks as Markdown pages with their stored outputs; nothing is executed here."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path
from typing import Any

HEADER = "---\nmyst:\n  enable_extensions: [dollarmath]\n---\n"
LONGEST = 120  # lines of one text output


def text_of(value: str | list[str]) -> str:
    """A field of a notebook file, which may be a list of lines."""
    return value if isinstance(value, str) else "".join(value)


def fenced(text: str, language: str) -> str:
    """A code block whose fence is longer than any in the text."""
    ticks = "`" * max(3, 1 + max(map(len, re.findall(r"`+", text)), default=0))
    return f"{ticks}{language}\n{text.rstrip()}\n{ticks}\n"


def shown(output: dict[str, Any], name: str, folder: Path) -> str:
    """One stored output: a picture, a table or text."""
    if output["output_type"] == "error":
        raise ValueError(f"{name}: the notebook was stored with an error")
    data = output.get("data", {})
    if "image/png" in data:
        (folder / f"{name}.png").write_bytes(base64.b64decode(text_of(data["image/png"])))
        alternative = text_of(data.get("text/plain", "figure")).strip("<>\n")
        return f"![{alternative}]({name}.png)\n"
    if "text/markdown" in data:
        return text_of(data["text/markdown"]) + "\n"
    if "text/html" in data:
        return fenced(f'<div class="notebook-table">{text_of(data["text/html"])}</div>', "{raw} html")
    lines = text_of(output.get("text", data.get("text/plain", ""))).splitlines()
    more = [] if len(lines) <= LONGEST else [f"... and {len(lines) - LONGEST} lines more"]
    return fenced("\n".join(lines[:LONGEST] + more), "text")


def write(path: Path, folder: Path) -> str:
    """Write the page of a notebook into a folder; its name, without ending."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    parts = [HEADER]
    for k, cell in enumerate(cells):
        source = text_of(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(source + "\n")
        elif cell["cell_type"] == "code":
            parts.append(fenced(source, "python"))
            parts += [shown(o, f"{path.stem}_{k}_{j}", folder) for j, o in enumerate(cell["outputs"])]
    (folder / f"{path.stem}.md").write_text("\n".join(parts), encoding="utf-8")
    return path.stem
