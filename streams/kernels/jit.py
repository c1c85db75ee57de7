"""How the hot path's loops are compiled, and where the machine code is kept.

Numba compiles a kernel when it is first called (seconds, once per machine) and keeps the result
next to the source, or in the user's cache directory where that can't be written. An image may ship
what was compiled when it was built. Numba itself only notices a change in the file of the function
it compiles, not in the functions that this one calls, so the directory's name carries a digest of
all kernels' sources, and of the schemas whose constants (the columns of features, the order of
measures) are compiled into them. D-037 says why kernels allocate no arrays.

`NUMBA_DISABLE_JIT=1` runs the kernels as plain Python, for a debugger; `tests/kernels` passes that
way too. `python -m streams.core.warm` compiles everything ahead.

Arrays that belong together are passed as one NamedTuple. The compiled code takes it apart into its
fields, so loops are as fast; a call takes 1 to 4 microseconds more, since Numba looks up the type
of each field (a step of 4,000 events took 0.98 to 1.01 times as long, one of 100 events 1.03 to
1.05 times).
"""

from __future__ import annotations

import atexit
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numba
import numpy as np

import schemas.events
import schemas.features
import schemas.tails

__all__ = ["kernel"]

_Kernel = TypeVar("_Kernel", bound=Callable[..., Any])
_HERE = Path(__file__).parent


def _cache_directory() -> Path | None:
    """Where machine code is kept; None: nowhere, every process compiles for itself."""
    digest = hashlib.sha256()
    contracts = (schemas.events, schemas.features, schemas.tails)
    for source in (*sorted(_HERE.glob("*.py")), *(Path(str(each.__file__)) for each in contracts)):
        digest.update(source.read_bytes())
    name = f"kernels-{digest.hexdigest()[:12]}"
    shipped = _HERE / "__pycache__" / name
    if _made(shipped):
        return shipped
    if shipped.is_dir():
        return _copy(shipped)
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser())
    kept = home / "tideline" / name
    return kept if _made(kept) else None


def _made(directory: Path) -> bool:
    """Whether a directory is there now and can be written to."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError:
        return False
    return os.access(directory, os.W_OK)


def _copy(shipped: Path) -> Path | None:
    """A private copy of what an image ships: Numba reads no cache that it can't write to."""
    try:
        copy = Path(tempfile.mkdtemp(prefix="tideline-kernels-"))
        shutil.copytree(shipped, copy, dirs_exist_ok=True)
    except OSError:
        return None
    atexit.register(shutil.rmtree, copy, ignore_errors=True)
    return copy


_CACHE = _cache_directory()
if _CACHE is not None:
    numba.config.CACHE_DIR = str(_CACHE)


def kernel(function: _Kernel) -> _Kernel:
    """Compile a function of arrays, scalars and NamedTuples of them to machine code that runs
    without the GIL.

    Indices are not checked and integers wrap around: a kernel must keep within its arrays itself.
    It can't allocate an array, so it takes whatever it needs as an argument: Numba counts no
    references in it. Counting them, atomically and whenever one kernel passes an array to another,
    took three quarters of a lookup in a map.
    """
    if numba.config.DISABLE_JIT:  # numpy must not warn of what compiled code does in silence
        plain: _Kernel = np.errstate(all="ignore")(function)
        return plain
    compiled: _Kernel = numba.njit(
        function, cache=_CACHE is not None, nogil=True, error_model="numpy", _nrt=False
    )
    return compiled
