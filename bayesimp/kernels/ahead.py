"""Kernels compiled ahead of the first run and shipped in wheels (``make wheel``).

numba's disk cache looks up machine code by signature, processor and source. A wheel's code is made for a generation of
processors (x86-64-v3, that is, AVX2 and FMA) and runs on all later ones: it is looked up under the name of that
generation, provided that this processor has its features. If anything differs (the version of numba or Python, or the
source), the kernel is compiled on this machine, as it would be from a clone.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import llvmlite.binding as llvm
from numba.core import config
from numba.core.caching import FunctionCache, IndexDataCacheFile

__all__ = ["FOLDER", "TARGET", "KernelCache", "target"]

FOLDER = Path(__file__).parent / "machine_code"
TARGET = "target.json"


@cache
def target() -> tuple[str, str, str] | None:
    """System, processor and features for which the wheel's kernels were compiled; None if they cannot run here."""
    try:
        system, processor, features = json.loads((FOLDER / TARGET).read_text(encoding="utf-8"))
        here = llvm.get_host_cpu_features()
    except (OSError, RuntimeError):  # no wheel with kernels, or a system whose features LLVM cannot report
        return None
    needed = [name[1:] for name in features.split(",") if name.startswith("+")]
    chosen = any(getattr(config, name) is not None for name in ("CPU_NAME", "CPU_FEATURES"))  # by the user
    if chosen or system != llvm.get_process_triple() or not all(here.get(name) for name in needed):
        return None
    return system, processor, features


class KernelCache(FunctionCache):
    """The disk cache of one kernel: numba's own, then the wheel's; valid as long as the source has this digest."""

    def __init__(self, function: Any, digest: bytes) -> None:
        super().__init__(function)
        self.digest = digest
        self._cache_file = self._index(self._cache_path)
        self.brought = self._index(self._place(FOLDER))

    def _index(self, path: str) -> IndexDataCacheFile:
        """The cache in one folder, provided that it was made from this source.

        numba compares its version before it unpickles the signatures in an index, but compares the stamp only
        afterwards: an index written before one of our types was moved or renamed could not be read.
        """
        index = IndexDataCacheFile(path, self._impl.filename_base, self.digest)
        index._version = f"{index._version} {self.digest.hex()}"
        return index

    def _place(self, folder: Path) -> str:
        package = self._py_func.__module__.rpartition(".")[0]
        return str(folder / package.rpartition(".kernels")[2].lstrip("."))

    def _load_overload(self, sig: Any, target_context: Any) -> Any:
        found = super()._load_overload(sig, target_context)
        if found is None and self._enabled and target() is not None:
            signature, _, code = self._index_key(sig, target_context.codegen())
            data = self.brought.load((signature, target(), code))
            found = None if data is None else self._impl.rebuild(target_context, data)
        return found

    def copy(self, sig: Any, target_context: Any, folder: Path) -> None:
        """Copy a kernel from the disk cache into the folder for the wheel, and record the processor it is for."""
        key = self._index_key(sig, target_context.codegen())
        place = self._place(folder)
        Path(place).mkdir(parents=True, exist_ok=True)
        self._index(place).save(key, self._cache_file.load(key))
        (folder / TARGET).write_text(json.dumps(target_context.codegen().magic_tuple()), encoding="utf-8")
