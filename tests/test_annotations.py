"""Every function is annotated, every public name has a docstring, and no two classes share a name."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

import bayesimp

PACKAGE = Path(bayesimp.__file__).parent
Function = ast.FunctionDef | ast.AsyncFunctionDef


def sources() -> Iterator[tuple[str, ast.Module]]:
    """The path of each module within the package, and its syntax tree; `models` is a link, which glob may not follow."""
    for path in sorted({*PACKAGE.rglob("*.py"), *(PACKAGE / "models").glob("*.py")}):
        yield path.relative_to(PACKAGE).as_posix(), ast.parse(path.read_text(encoding="utf-8"))


def functions(tree: ast.AST, prefix: str = "", owner: bool = False) -> Iterator[tuple[str, Function, bool]]:
    """Qualified name, node, and whether it is a method; includes nested functions."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, Function):
            yield prefix + node.name, node, owner
            yield from functions(node, f"{prefix}{node.name}.")
        elif isinstance(node, ast.ClassDef):
            yield from functions(node, f"{prefix}{node.name}.", owner=True)
        else:
            yield from functions(node, prefix, owner)


def bare(node: Function, method: bool) -> list[str]:
    """The arguments of a function that lack an annotation, and "return" where its result does."""
    static = any(isinstance(d, ast.Name) and d.id == "staticmethod" for d in node.decorator_list)
    arguments = [*node.args.posonlyargs, *node.args.args]
    arguments = arguments[1:] if method and not static else arguments  # self, cls
    arguments += [*node.args.kwonlyargs, *filter(None, (node.args.vararg, node.args.kwarg))]
    names = [argument.arg for argument in arguments if argument.annotation is None]
    return names if node.returns is not None else [*names, "return"]


def undocumented(tree: ast.Module) -> Iterator[str]:
    """Public names of a module without a docstring: the module, its classes and functions, methods of public classes."""
    if not ast.get_docstring(tree):
        yield "(module)"
    pending: list[tuple[str, ast.AST]] = [("", tree)]
    while pending:
        prefix, owner = pending.pop()
        for node in ast.iter_child_nodes(owner):
            if not isinstance(node, Function | ast.ClassDef) or node.name.startswith("_"):
                continue
            if any(
                ast.unparse(d) == "overload" for d in node.decorator_list
            ):  # the docstring is on the implementation
                continue
            if not ast.get_docstring(node):
                yield prefix + node.name
            if isinstance(node, ast.ClassDef):
                pending.append((f"{prefix}{node.name}.", node))


def unannotated(tree: ast.Module) -> Iterator[str]:
    """Functions whose arguments or results are not all annotated, with what is missing."""
    for name, node, method in functions(tree):
        if missing := bare(node, method):
            yield f"{name}({', '.join(missing)})"


@pytest.mark.parametrize("fault", [unannotated, undocumented])
def test_every_function_is_annotated_and_every_public_name_documented(fault):
    found = [f"{path}: {name}" for path, tree in sources() for name in fault(tree)]
    assert not found, f"{len(found)} {fault.__name__}:\n" + "\n".join(found)


def test_what_is_missing_is_seen():
    tree = ast.parse(
        "def f(a, *b, c: int): ...\nclass A:\n    def g(self, x) -> None:\n        def h(): ...\n"
    )
    assert list(unannotated(tree)) == ["f(a, b, return)", "A.g(x)", "A.g.h(return)"]
    assert list(undocumented(tree)) == ["(module)", "f", "A", "A.g"]


def test_class_names_are_unique():
    places = defaultdict(list)
    for path, tree in sources():
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                places[node.name].append(path)
    twice = {name: paths for name, paths in places.items() if len(paths) > 1}
    assert not twice, f"class names that exist more than once: {twice}"


THEIRS = {  # what has no public name in other packages, and the named tuples of Python
    "_replace", "_fields", "_asdict", "_make",
    "_version", "_cache", "_load_overload", "_add_module", "_tm", "_get_module_for_linking", "_create_empty_module",
    "_transform_predict_exog", "_meta_nonempty",
}  # fmt: skip
PRINTED = {"_said", "_repr_html_"}  # `bayesimp.layout.Printed`


def from_elsewhere(tree: ast.Module) -> Iterator[str]:
    """Private names that a module takes from another: imported, or attributes that it does not define itself."""
    own = {node.name for node in ast.walk(tree) if isinstance(node, Function | ast.ClassDef)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            own |= {node.attr} if isinstance(node.value, ast.Name) and node.value.id == "self" else set()
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            own.add(node.target.id)
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("bayesimp"):
            yield from (f"import {name.name}" for name in node.names if name.name.startswith("_"))
        if not isinstance(node, ast.Attribute) or not node.attr.startswith("_") or node.attr.startswith("__"):
            continue
        inherited = ast.unparse(node.value) in ("self", "cls", "super()")
        if not inherited and node.attr not in own | THEIRS | PRINTED:
            yield ast.unparse(node)


def test_private_names_stay_in_their_file():
    found = [f"{path}: {name}" for path, tree in sources() for name in from_elsewhere(tree)]
    assert not found, "\n".join(found)
    seen = (
        "from bayesimp.a import _b\nclass C:\n    _d: int\n    def f(self, o): return o._d, o._e, self._g\n"
    )
    assert list(from_elsewhere(ast.parse(seen))) == ["import _b", "o._e"]
