"""The core does no IO and asks for no time or randomness."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import streams.core
import streams.rules

ROOMS = [Path(next(iter(room.__path__))) for room in (streams.core, streams.rules)]
MODULES = sorted(path for room in ROOMS for path in room.rglob("*.py"))

PURE_IMPORTS = {
    "__future__", "abc", "array", "bisect", "collections", "dataclasses", "datetime", "difflib",
    "enum", "functools", "graphlib", "hashlib", "itertools", "math", "re", "typing",
    "cramjam", "msgspec", "numpy", "xxhash",
    "schemas", "streams",
}  # fmt: skip
FORBIDDEN_NAMES = {"open", "print", "input", "eval", "exec", "__import__", "id", "hash"}
# `seed` and `random` of numpy; clocks of datetime; anything of os
FORBIDDEN_ATTRIBUTES = {
    "now", "utcnow", "today", "time", "time_ns", "monotonic", "perf_counter", "random", "environ",
    "getenv", "default_rng", "urandom", "uuid4", "tofile", "fromfile", "save", "savez", "memmap",
    "loadtxt",
}  # fmt: skip


def problems(source: str) -> list[str]:
    """What makes a module impure, as text; empty if it is pure."""
    found = []
    for node in ast.walk(ast.parse(source)):
        at = f"line {getattr(node, 'lineno', 0)}"
        if isinstance(node, ast.Await | ast.AsyncFunctionDef | ast.AsyncFor | ast.AsyncWith):
            found.append(f"{at}: async")
        if isinstance(node, ast.Global | ast.Nonlocal):
            found.append(f"{at}: global state")
        if isinstance(node, ast.Name) and node.id in FORBIDDEN_NAMES:
            found.append(f"{at}: {node.id}")
        if isinstance(node, ast.Attribute) and node.attr in FORBIDDEN_ATTRIBUTES:
            found.append(f"{at}: .{node.attr}")
        modules = []
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative import"
            modules = [node.module or ""]
        for module in modules:
            if module.split(".")[0] not in PURE_IMPORTS:
                found.append(f"{at}: imports {module}")
            if module.startswith("streams") and not module.startswith(
                ("streams.core", "streams.kernels", "streams.rules")
            ):
                found.append(f"{at}: imports {module}")
    return found


@pytest.mark.parametrize("path", MODULES, ids=lambda p: p.stem)
def test_the_core_is_pure(path: Path) -> None:
    # An abstract container type is no IO: collections.abc is in `collections`.
    assert problems(path.read_text()) == []


@pytest.mark.parametrize(
    "source",
    [
        "import time", "from os import environ", "import random", "import logging", "open('x')",
        "async def f(): ...", "x = datetime.now()", "np.random.rand()", "from streams import app",
        "import streams.settings", "from models import blend", "hash('x')", "import asyncio",
        "def f():\n    global x", "import numpy.random as r\nr.default_rng()",
    ],
)  # fmt: skip
def test_the_purity_test_finds(source: str) -> None:
    assert problems(source)
