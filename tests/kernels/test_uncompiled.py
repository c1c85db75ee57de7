"""All tests of this folder pass with the kernels as plain Python too.

A debugger runs them that way, and a compiled loop that reads beyond an array or depends on a type
that Numba infers can give other results. Some tests need to look into a kernel: only here they run.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from streams.kernels.xxh64 import xxh64

HERE = Path(__file__)
SAME_AGAIN = [
    f"--deselect=tests/kernels/test_events.py::test_damaged_events_are_read_as_msgspec_reads_them[{n}-"
    for n in range(2, 8)
]
"""Three quarters of the damages, which all come alike; `make faults` has them."""
DISABLED = os.environ.get("NUMBA_DISABLE_JIT") == "1"


def test_kernels_are_compiled_unless_disabled() -> None:
    assert hasattr(xxh64, "py_func") != DISABLED


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.skipif(DISABLED, reason="this is that run")
@pytest.mark.parametrize(
    "but",
    [pytest.param(SAME_AGAIN, id="short"), pytest.param([], id="all", marks=pytest.mark.full)],
)
def test_folder_passes_uncompiled(but: list[str]) -> None:
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST", "COV"))}
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-n", "0", "-p", "no:cacheprovider", *but, HERE.parent],
        env=inherited | {"NUMBA_DISABLE_JIT": "1"},
        cwd=HERE.parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout[-10_000:] + run.stderr[-2_000:]
