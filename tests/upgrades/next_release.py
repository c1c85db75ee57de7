"""A made-up next release: a copy of this tree that keeps more in its state.

It has one more column, which counts written scores; one more measure and one more window, both in
the middle of the others; the features of these; one more field in a shard's scalars and one in a
plan. It is release 9.9.0, of the next level.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from schemas.releases import LEVEL, RELEASE

__all__ = ["NEXT_RELEASE", "make_next_release"]

NEXT_RELEASE = "9.9.0"
ROOT = Path(__file__).parents[2]
PATCHES: dict[str, list[tuple[str, str]]] = {
    "schemas/releases.py": [
        (f'RELEASE: Final = "{RELEASE}"', f'RELEASE: Final = "{NEXT_RELEASE}"'),
        (f"LEVEL: Final = {LEVEL}", f"LEVEL: Final = {LEVEL + 1}"),
    ],
    "schemas/features.py": [
        ('    "order_lines",\n', '    "gifts",\n    "order_lines",\n'),
        (
            '    Window("30d", 30 * 86_400, 86_400),\n',
            '    Window("14d", 14 * 86_400, 86_400),\n    Window("30d", 30 * 86_400, 86_400),\n',
        ),
    ],
    "streams/core/state/columns.py": [
        (
            '        "written_at_ms": ("i8", 0),\n',
            '        "written_at_ms": ("i8", 0),\n        "times_written": ("i4", 0),\n',
        ),
        (
            "    written_at_ms: NDArray[np.int64]\n",
            "    written_at_ms: NDArray[np.int64]\n    times_written: NDArray[np.int32]\n",
        ),
    ],
    "streams/core/scoring.py": [
        (
            "    c.written_orders[rows], c.written_at_ms[rows] = c.orders[rows], now_ms\n",
            "    c.written_orders[rows], c.written_at_ms[rows] = c.orders[rows], now_ms\n"
            "    c.times_written[rows] += 1\n",
        )
    ],
    "streams/core/state/shard_state.py": [
        ("    examples: int = 0\n", "    examples: int = 0\n    of_the_next_release: int = 7\n")
    ],
    "streams/core/plan.py": [
        (
            "    skipped: tuple[int, int] = (0, 0)\n",
            "    skipped: tuple[int, int] = (0, 0)\n    of_the_next_release: int = 7\n",
        )
    ],
}
_PROGRAM = """\
from streams import stopping

stopping.hold()

from streams.__main__ import main

main()
"""


def make_next_release(directory: Path) -> Path:
    """Copy this tree into `directory`, changed, and compile its kernels; returns the program to run
    with Python in place of `-m streams`."""
    for room in ("schemas", "streams", "models"):
        shutil.copytree(ROOT / room, directory / room, ignore=shutil.ignore_patterns("__pycache__"))
    for name, changes in PATCHES.items():
        path = directory / name
        text = path.read_text()
        for before, after in changes:
            assert text.count(before) == 1, (
                f"{name} has not one {before!r}: bring PATCHES up to date"
            )
            text = text.replace(before, after)
        path.write_text(text)
    program = directory / "next_release.py"
    program.write_text(_PROGRAM)
    warm = directory / "warm.py"
    warm.write_text("import runpy\nrunpy.run_module('streams.core.warm', run_name='__main__')\n")
    subprocess.run([sys.executable, warm], check=True, timeout=900)
    return program
