"""Who may import whom: schemas nothing of ours; models and the core only schemas and themselves."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
OURS = ("schemas", "models", "streams")
# layer -> what it may import of ours
ALLOWED = {
    "schemas": ("schemas",),
    "streams/settings": ("schemas", "streams.settings"),
    "models": ("schemas", "models"),
    "streams/kernels": ("schemas", "streams.kernels"),
    "streams/core": ("schemas", "streams.kernels", "streams.core"),
}


def imported(path: Path, package: str) -> set[str]:
    """Every module that a file imports, anywhere in it, with relative ones made absolute."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*parts, base] if base else parts)
            # `from streams import core` imports streams.core
            found |= {f"{base}.{alias.name}" for alias in node.names} if base in OURS else {base}
    return found


def within(module: str, packages: tuple[str, ...]) -> bool:
    return any(module == p or module.startswith(f"{p}.") for p in packages)


@pytest.mark.parametrize("layer", ALLOWED)
def test_a_layer_imports_only_what_it_may(layer: str) -> None:
    files = sorted((ROOT / layer).rglob("*.py"))
    assert files
    for path in files:
        package = ".".join(path.relative_to(ROOT).parent.parts)
        for module in imported(path, package):
            if within(module, OURS):
                assert within(module, ALLOWED[layer]), f"{path.relative_to(ROOT)} imports {module}"


def test_schemas_need_only_the_standard_library_and_msgspec() -> None:
    for path in (ROOT / "schemas").rglob("*.py"):
        for module in imported(path, "schemas"):
            top = module.split(".")[0]
            assert top in {"schemas", "msgspec"} or top in sys.stdlib_module_names, module


def test_nothing_but_tests_imports_tests() -> None:
    for package in OURS:
        for path in (ROOT / package).rglob("*.py"):
            assert not any(within(m, ("tests",)) for m in imported(path, package)), path


def test_models_know_neither_kafka_nor_clickhouse() -> None:
    for path in (ROOT / "models").rglob("*.py"):
        tops = {m.split(".")[0] for m in imported(path, "models")}
        assert not tops & {"faust", "kafka", "aiokafka", "clickhouse_driver", "chdb"}, path
