"""Decorators that compile numba kernels and cache them on disk between sessions.

numba checks only whether a cached kernel's own source file has changed. But a kernel contains the code of all kernels
that it calls, so after an edit or upgrade of one file the others would silently run with the old code. Here a cached
kernel is valid only while its own file and every file of this package that it imports, directly or indirectly, are
unchanged.

numba also generates machine code for every function, optimised together with everything that it calls, although a
function that only kernels call is optimised again in each of its callers and never runs by itself. `inner` functions
stop at LLVM's intermediate code, which is linked into the kernels that call them and optimised there: a first run then
takes 0.5 to 0.6 of the CPU time (``python -m benchmarks.compilation``, docs/speed.md).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, Protocol, overload

import llvmlite.binding as llvm
from numba import njit
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import CompilerBase, DefaultPassBuilder
from numba.core.compiler_machinery import register_pass
from numba.core.typed_passes import NativeLowering

from bayesimp.kernels.ahead import KernelCache

__all__ = ["STAMP", "inner", "kernel", "lean", "merged", "reduction", "stamp"]

_ROOT = Path(__file__).parent
_PACKAGE = __name__.rpartition(".")[0]
_IMPORTS = re.compile(rf"^\s*from {re.escape(_PACKAGE)}\.([\w.]+) import", re.MULTILINE)


def _digest(files: list[Path]) -> bytes:
    return hashlib.sha256(
        b"".join(path.relative_to(_ROOT).as_posix().encode() + path.read_bytes() for path in files)
    ).digest()


STAMP = _digest(sorted(_ROOT.rglob("*.py")))  # of the whole package


@cache
def stamp(module: str) -> bytes:
    """Digest of a module's file, the files it imports from this package, directly or indirectly, and this file."""
    found, waiting = {Path(__file__)}, [module.removeprefix(f"{_PACKAGE}.")]
    while waiting:
        path = _ROOT.joinpath(*waiting.pop().split(".")).with_suffix(".py")
        if path not in found:
            found.add(path)
            waiting += _IMPORTS.findall(path.read_text(encoding="utf-8"))
    return _digest(sorted(found))


class Kernel[**P, R](Protocol):
    """A compiled function, which numba calls a dispatcher."""

    signatures: list[tuple]

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call the function, compiling it first if arguments of these types are new."""
        ...


class CompileDecorator(Protocol):
    """A decorator that compiles a function."""

    def __call__[**P, R](self, function: Callable[P, R], /) -> Kernel[P, R]:
        """Return the function, to be compiled at its first call."""
        ...


@overload
def kernel[**P, R](function: Callable[P, R]) -> Kernel[P, R]: ...
@overload
def kernel(function: None = None, **options: Any) -> CompileDecorator: ...
def kernel(function: Callable | None = None, **options: Any) -> Any:
    """``njit(error_model="numpy", **options)`` with a cache that tracks the files a kernel depends on.

    NumPy's rules for division by zero need no branch that raises, which halves the compilation time.
    """

    def compiled(f: Callable) -> Any:
        dispatcher = njit(error_model="numpy", **options)(f)
        dispatcher._cache = KernelCache(f, stamp(f.__module__))
        return dispatcher

    return compiled if function is None else compiled(function)


class IntermediateLibrary(JITCodeLibrary):
    """Intermediate code of one function and all that it calls, for linking; it is neither optimised nor run here."""

    def finalize(self) -> None:
        """Link what the function calls, as numba does, and stop there."""
        self._raise_if_finalized()
        for library in dict.fromkeys(self._linking_libraries):
            self._final_module.link_in(library._get_module_for_linking(), preserve=True)
        self._finalize_dynamic_globals()
        self._codegen._add_module(self._environments())
        self._finalized = True

    def _environments(self) -> llvm.ModuleRef:
        """A module with the variables in which numba stores the addresses of the functions' constants."""
        names = [v.name for v in self._final_module.global_variables if v.name.startswith("_ZN08NumbaEnv")]
        text = [str(self._codegen._create_empty_module(self.name))]
        module = llvm.parse_assembly(
            "\n".join(text + [f'@"{name}" = common global ptr null' for name in names])
        )
        module.name = f"constants of {self.name}"
        return module

    def get_pointer_to_function(self, name: str) -> int:
        """Return zero: no function of this library has machine code."""
        self._ensure_finalized()
        return 0

    def serialize_using_object_code(self) -> tuple[str, str, tuple[bytes, bytes]]:
        """What the disk cache stores: machine code of the constants alone, and the intermediate code."""
        machine_code = self._codegen._tm.emit_object(self._environments())
        return self.name, "object", (machine_code, self._get_module_for_linking().as_bitcode())


@register_pass(mutates_CFG=True, analysis_only=False)
class IntermediateLowering(NativeLowering):
    """numba's step from typed code to a library, here an `IntermediateLibrary`."""

    _name = "intermediate_lowering"

    def run_pass(self, state: Any) -> bool:
        """Lower one function."""
        state.library = IntermediateLibrary(state.targetctx.codegen(), state.func_id.func_qualname)
        state.library.enable_object_caching()
        return super().run_pass(state)


class IntermediateCompiler(CompilerBase):
    """numba's compiler, with `IntermediateLowering` in place of its own lowering."""

    def define_pipelines(self) -> list:
        """The passes that compile a function without Python objects."""
        passes = DefaultPassBuilder.define_nopython_pipeline(self.state)
        passes.passes = [
            (IntermediateLowering if step is NativeLowering else step, name) for step, name in passes.passes
        ]
        passes.finalize()
        return [passes]


_INNER: dict[str, Any] = dict(
    no_cpython_wrapper=True, no_cfunc_wrapper=True, pipeline_class=IntermediateCompiler
)

# For functions called only from other kernels: they get no Python wrapper and no machine code of their own.
inner = kernel(**_INNER)

# For functions with one caller: they are inlined before optimisation, whereas `inner` would optimise both functions.
merged = njit(inline="always", error_model="numpy")

# Sums over rows may be taken in any order, so four rows can be added at a time.
reduction = kernel(**_INNER, fastmath={"reassoc", "contract", "nsz"})

# For functions that allocate nothing: numba need not count references, which takes most of the time in loops over rows.
lean = kernel(**_INNER, _nrt=False)
