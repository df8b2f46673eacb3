"""What results depend on besides plan and table: versions, the sources of this package, the processor, the BLAS."""

from __future__ import annotations

import hashlib
import platform
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import bayesimp
from bayesimp.report.versions import versions

__all__ = ["environment", "environment_differences", "source_digest"]

CPU_INFO = Path("/proc/cpuinfo")


def environment() -> dict[str, str]:
    """Versions, sources, processor and BLAS of this process, as text by name."""
    import scipy.linalg  # noqa: F401  it and NumPy each load a BLAS, which are asked below
    from threadpoolctl import threadpool_info

    blas = {
        f"{lib.get('internal_api')} {lib.get('version')} {lib.get('architecture', '')}".strip()
        for lib in threadpool_info()
        if lib.get("user_api") == "blas"
    }
    return {
        **versions(), "bayesimp": version("bayesimp"), "bayesimp sources": source_digest(),
        "machine": platform.machine(), "processor": _processor(), "blas": ", ".join(sorted(blas)) or "unknown",
    }  # fmt: skip


def environment_differences(before: dict[str, Any], now: dict[str, str]) -> list[str]:
    """``numpy: 2.4.0, was 2.3.1``, one for each entry that differs."""
    return [
        f"{name}: {now.get(name, 'absent')}, was {before.get(name, 'absent')}"
        for name in dict.fromkeys((*before, *now))
        if before.get(name) != now.get(name)
    ]


@cache
def source_digest() -> str:
    """SHA-256 of all Python files of the package, with their paths; `models` is a link, which rglob may not follow."""
    root = Path(bayesimp.__file__).parent
    digest = hashlib.sha256()
    for path in sorted({*root.rglob("*.py"), *(root / "models").glob("*.py")}):
        digest.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


def _processor() -> str:
    """The processor's name, which Python knows on some systems only."""
    try:
        lines = CPU_INFO.read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or "unknown"
