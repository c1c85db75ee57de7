"""The shape of the code: each module says what it is and what it offers, on a few screens."""

from __future__ import annotations

import ast
import doctest
import importlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("schemas", "models", "streams")
FILES = sorted(file for package in PACKAGES for file in (ROOT / package).rglob("*.py"))
EXAMPLES = [file for file in FILES if ">>> " in file.read_text()]
MAX_LINES = 450


def module_name(file: Path) -> str:
    parts = file.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def sort_key(name: str) -> tuple[int, list[str | int]]:
    """CONSTANTS, then Classes, then functions, numbers by value: the order that ruff keeps too."""
    kind = 0 if name.isupper() else 1 if name.lstrip("_")[0].isupper() else 2
    return kind, [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)]


@pytest.mark.parametrize("file", FILES, ids=module_name)
def test_a_module_offers_what_it_lists_in_order(file: Path) -> None:
    tree = ast.parse(file.read_text())
    defines = [n for n in tree.body if isinstance(n, ast.ClassDef | ast.FunctionDef)]
    module = importlib.import_module(module_name(file))
    offered = getattr(module, "__all__", None)
    if offered is None:
        public = [node.name for node in defines if not node.name.startswith("_")]
        assert not public, f"{file.name} defines {public} and has no __all__"
        return
    assert list(offered) == sorted(set(offered), key=sort_key)
    for name in offered:
        assert hasattr(module, name), name


@pytest.mark.parametrize("file", FILES, ids=module_name)
def test_a_module_begins_with_what_it_is_for(file: Path) -> None:
    first = file.read_text().split("\n", 1)[0]
    assert re.match(r'r?"""\S', first), f"the first line is {first!r}"


@pytest.mark.parametrize("file", FILES, ids=module_name)
def test_a_module_fits_on_a_few_screens(file: Path) -> None:
    lines = file.read_text().count("\n")
    assert lines <= MAX_LINES, f"{lines} lines: split it by concept"


@pytest.mark.parametrize("file", EXAMPLES, ids=module_name)
def test_examples_in_docstrings_are_true(file: Path) -> None:
    done = doctest.testmod(importlib.import_module(module_name(file)))
    assert done.attempted > 0
    assert done.failed == 0
