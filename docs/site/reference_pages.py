"""The pages of the reference, from the public names of the package: nothing is listed by hand.

A name is described on the page of its room (the folder of `bayesimp` that defines it), so that a new public name finds
its place by itself. Records that a public function returns are described after it, although nobody imports them.
"""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import docstring_markup

import bayesimp as bi

PACKAGE = Path(bi.__file__).parent
GROUPS = {  # page: title, what it is for
    "data": ("Tables", "The incomplete table: what is missing, by variable and cluster; example tables."),
    "engines": ("Imputing", "`bayesimp.impute` chooses an engine; the others are the engines themselves."),
    "results": ("Imputations", "What an imputation gives: completed tables, posterior, convergence, events."),
    "analysis": ("Analysis and pooling", "Analyses of completed tables, Rubin's rules, tests, meta-analysis."),
    "assumptions": ("Sensitivity", "How far priors and the missing-at-random assumption move the answer."),
    "priors": ("Priors", ""),
    "methods": ("Methods of chained equations", ""),
    "plots": ("Figures", "Each returns a Matplotlib figure, or draws into axes that are given."),
    "compatibility": ("Joint or conditional?", ""),
    "studies": ("Simulation studies", ""),
    "federated": ("Sites that do not share rows", ""),
    "errors": ("Errors and warnings", "Grouped by who can do something about them."),
    "contract": ("Writing an engine", ""),
}  # fmt: skip
PAGE_OF_ROOM = {
    "table": "data", "datasets": "data", "workflow": "engines", "joint": "engines", "fcs": "engines",
    "partitioned": "engines", "imputation": "results", "diagnostics": "results", "sensitivity_analysis": "assumptions",
}  # fmt: skip
# modules with a page each
OWN_PAGES = ("compatibility", "methods", "plots", "priors", "studies", "federated", "contract")
RECORDS = {
    "table",
    "imputation",
    "diagnostics",
    "analysis",
    "sensitivity_analysis",
    "compatibility",
    "studies",
}
ENGINE = ("impute", "formulas", "pymc_model", "with_priors", "with_shift")  # of an engine, what users call


def room(value: Any) -> str:
    """The folder, or module of the root, that defines a class or function."""
    return value.__module__.split(".")[1]


def page(name: str, value: Any) -> str:
    """The page on which a public name of `bayesimp` is described."""
    if name.startswith(("load_", "simulate_")):
        return "data"
    if name in ("ReferenceBased", "arm_by_visit"):
        return "assumptions"
    return PAGE_OF_ROOM.get(room(value), room(value))


def classes() -> dict[str, str]:
    """Module of every class of the package by its name, which is unique (tests/test_annotations.py)."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        module = ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                found[node.name] = module
    return found


def methods(value: type) -> list[Any]:
    """The public functions of a class, those of properties included."""
    members = (inspect.getattr_static(value, name) for name in dir(value) if not name.startswith("_"))
    functions = (
        getattr(m, "fget", None) or getattr(m, "func", None) or getattr(m, "__func__", m) for m in members
    )
    return [f for f in functions if inspect.isfunction(f)]


def returned(value: Any) -> Iterator[str]:
    """Names in the annotations of what a function, or the methods of a class, return."""
    if inspect.isclass(value) and hasattr(value, "run_type"):  # an engine: only what users call
        functions = [f for f in methods(value) if f.__name__ in ENGINE]
    else:
        functions = methods(value) if inspect.isclass(value) else [value]
    for function in functions:
        yield from re.findall(
            r"(?<![\w.])[A-Za-z_]\w*(?!\.)", str(getattr(function, "__annotations__", {}).get("return", ""))
        )


def described() -> dict[str, list[tuple[str, Any]]]:
    """By page, the dotted names that it describes and what they are."""
    pages: dict[str, list[tuple[str, Any]]] = {key: [] for key in GROUPS}
    for name in bi.__all__:
        value = getattr(bi, name)
        if not inspect.ismodule(value):
            pages.setdefault(page(name, value), []).append((f"bayesimp.{name}", value))
    pages["engines"].sort(key=lambda pair: pair[0] != "bayesimp.impute")  # what most people need comes first
    for module in OWN_PAGES:
        known = {id(value) for pairs in pages.values() for _, value in pairs}
        home = import_module(f"bayesimp.{module}")
        own = [(f"bayesimp.{module}.{name}", getattr(home, name)) for name in home.__all__]
        pages[module] += [pair for pair in own if id(pair[1]) not in known and callable(pair[1])]
    return pages


def with_records(pages: dict[str, list[tuple[str, Any]]]) -> dict[str, list[tuple[str, Any]]]:
    """The same, with the records that are returned by what is described, each once, on the page of its room."""
    where = classes()
    seen = {value.__name__ for pairs in pages.values() for _, value in pairs}
    pending = [value for pairs in pages.values() for _, value in pairs]
    for value in pending:  # grows: records return others
        for name in dict.fromkeys(returned(value)):
            room_of = where.get(name, "").split(".")[1:2]
            if name not in seen and room_of and room_of[0] in RECORDS:
                seen.add(name)
                record = getattr(import_module(where[name]), name)
                pending.append(record)
                pages.setdefault(page(name, record), []).append((f"{where[name]}.{name}", record))
    return pages


def directive(name: str, value: Any, described: list[Any]) -> str:
    """The autodoc directive of one name; a class documented with its base gets the members of the base."""
    if not inspect.isclass(value):
        return f".. autofunction:: {name}\n"
    if issubclass(value, BaseException):
        return f".. autoexception:: {name}\n   :show-inheritance:\n"
    if hasattr(value, "run_type"):
        return f".. autoclass:: {name}\n   :members: {', '.join(m for m in ENGINE if hasattr(value, m))}\n"
    if any(base in described for base in value.__mro__[1:]):
        return f".. autoclass:: {name}\n   :show-inheritance:\n"
    return f".. autoclass:: {name}\n   :members:\n   :inherited-members: BaseException, tuple, DataFrame\n"


def introduction(key: str) -> str:
    """The text above a page's names: that of `GROUPS`, or the docstring of the module."""
    if key not in OWN_PAGES or GROUPS[key][1]:
        return GROUPS.get(key, ("", ""))[1]
    text = import_module(f"bayesimp.{key}").__doc__ or ""
    text = text.split("\nWhat each can do")[0]  # a table, which docs/methods.md has
    return "\n".join(docstring_markup.escaped(docstring_markup.literal_blocks(text.strip().splitlines())))


def row(name: str, value: Any) -> str:
    """A row of the table at the top of a page: the name, and the first line of its docstring."""
    (line,) = docstring_markup.escaped([(inspect.getdoc(value) or "").split("\n")[0]])
    return f"   * - :py:obj:`~{name}`\n     - {line}\n"


def write(folder: Path) -> list[str]:
    """Write the pages of the reference as reStructuredText; their names."""
    folder.mkdir(parents=True)
    pages = {key: pairs for key, pairs in with_records(described()).items() if pairs}
    for key, pairs in pages.items():
        title = GROUPS.get(key, (key.replace("_", " ").capitalize(), ""))[0]
        summary = ".. list-table::\n   :widths: auto\n\n" + "".join(row(name, value) for name, value in pairs)
        body = "\n".join(directive(name, value, [other for _, other in pairs]) for name, value in pairs)
        text = f"{title}\n{'=' * len(title)}\n\n{introduction(key)}\n\n{summary}\n{body}"
        (folder / f"{key}.rst").write_text(text, encoding="utf-8")
    (folder / "models.rst").write_text(models(), encoding="utf-8")
    names = [*pages, "models"]
    title = "Reference"
    toctree = ".. toctree::\n   :maxdepth: 1\n\n" + "\n".join(f"   {name}" for name in names)
    purpose = "Everything public, by what it is for. ``import bayesimp as bi``."
    text = f"{title}\n{'=' * len(title)}\n\n{purpose}\n\n{toctree}\n"
    (folder / "index.rst").write_text(text, encoding="utf-8")
    return names


def models() -> str:
    """The PyMC models: the docstring of each module, which is its equations, read without importing PyMC."""
    title = "PyMC models"
    parts = [
        f"{title}\n{'=' * len(title)}\n",
        "Functions (data, priors) -> ``pm.Model``, equations first, in ``bayesimp.models``.\n",
    ]
    for path in sorted((PACKAGE / "models").glob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        builders = [
            n.name
            for n in tree.body
            if isinstance(n, ast.FunctionDef) and ast.unparse(n.returns or n).endswith("pm.Model")
        ]
        if builders:
            text = "\n".join(f"   {line}".rstrip() for line in (ast.get_docstring(tree) or "").splitlines())
            heading = f"bayesimp.models.{path.stem}"
            calls = ", ".join(f"``{name}``" for name in builders)
            parts.append(f"{heading}\n{'-' * len(heading)}\n\n{calls}\n\n.. code-block:: text\n\n{text}\n")
    return "\n".join(parts)
