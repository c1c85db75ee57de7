"""Returns memory to the system: a dropped shard's state, or the records that a recovery has read.

The cycle collector is kept out of the hot path (`streams/faust_app.py`), so it would free a
dropped shard's state only after hundreds of millions of allocations; and glibc keeps what was freed
in the arenas of its threads, as Arrow does. None is a leak, but each may be as large as a state.
"""

from __future__ import annotations

import ctypes
import gc
import sys
from collections.abc import Callable
from pathlib import Path

__all__ = ["available_bytes", "release_memory", "share_one_arena"]


_ARENA_MAX = -8  # M_ARENA_MAX of glibc's malloc.h


def release_memory() -> None:
    """Collect cycles and return free memory to the system. It takes tens of milliseconds: keep it
    out of the hot path."""
    gc.collect()
    if (arrow := sys.modules.get("pyarrow")) is not None:
        arrow.default_memory_pool().release_unused()
    _trim()


def share_one_arena() -> None:
    """All threads allocate from one arena of glibc from now on: for a process of many threads of
    which hardly two work at once. Each arena keeps what was freed in it for its own threads. Call
    it before the first thread; without glibc it does nothing."""
    if sys.platform == "linux":
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
        if mallopt is not None:
            mallopt(_ARENA_MAX, 1)


def available_bytes() -> int | None:
    """What the system could give this process now, as Linux estimates it; None: unknown."""
    try:
        text = Path("/proc/meminfo").read_text(encoding="ascii")
        return 1024 * int(text.split("MemAvailable:")[1].split()[0])
    except (OSError, IndexError, ValueError):
        return None


def _of_glibc() -> Callable[[], object]:
    """malloc_trim(0) where the C library has it: musl and macOS don't, and keep less."""
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            return lambda: trim(ctypes.c_size_t(0))
    return lambda: None


_trim = _of_glibc()
