"""The house: which room may import which, floor by floor, and no circle among modules.

A room is a folder, or one of the few modules in the root of `streams/`. It imports from rooms below
it only, and only from those named here.
"""

from __future__ import annotations

import ast
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
OURS = ("schemas", "models", "streams")

# room -> rooms that it may import, from the ground up
RULES: dict[str, set[str]] = {
    "schemas": set(),
    "models": {"schemas"},
    "streams.memory": set(),
    "streams.background": set(),
    "streams.stopping": set(),
    "streams.process": {"streams.background", "streams.stopping"},
    "streams.kernels": {"schemas"},
    "streams.rules": {"schemas"},
    "streams.settings": {"schemas"},
    "streams.core": {"schemas", "streams.kernels", "streams.rules"},
    "streams.kafka": {
        "schemas", "streams.background", "streams.core", "streams.kernels", "streams.settings",
    },
    "streams.clickhouse": {"schemas", "streams.core", "streams.settings"},
    "streams.telemetry": {"schemas", "streams.core", "streams.process"},
    "streams.faust_app": {
        "streams.background", "streams.kafka", "streams.process", "streams.settings",
        "streams.stopping",
    },
    "streams.shard": {
        "schemas", "streams.background", "streams.core", "streams.kafka", "streams.settings",
    },
    "streams.watch": {"streams.telemetry"},
    "streams.agents": {"streams.kafka", "streams.shard"},
    "streams.learner": {
        "schemas", "models", "streams.core", "streams.faust_app", "streams.kafka",
        "streams.process", "streams.settings", "streams.stopping", "streams.telemetry",
        "streams.watch",
    },
    "streams.lag": {
        "schemas", "streams.clickhouse", "streams.kafka", "streams.memory", "streams.process",
        "streams.settings", "streams.stopping", "streams.telemetry",
    },
    "streams.privacy": {
        "schemas", "streams.clickhouse", "streams.core", "streams.kafka", "streams.settings",
        "streams.shard",
    },
    "streams.deliver": {
        "schemas", "streams.background", "streams.kafka", "streams.privacy", "streams.process",
        "streams.settings", "streams.stopping", "streams.telemetry", "streams.watch",
    },
    "streams.replay": {
        "schemas", "streams.background", "streams.core", "streams.kafka", "streams.settings",
    },
    "streams.history": {"schemas", "streams.memory", "streams.replay"},
    "streams.evaluation": {
        "schemas", "models", "streams.core", "streams.kafka", "streams.replay", "streams.shard",
    },
    "streams.live": {
        "schemas", "models", "streams.clickhouse", "streams.core", "streams.evaluation",
    },
    "streams.trainer": {
        "schemas", "models", "streams.clickhouse", "streams.core",
        "streams.evaluation", "streams.live", "streams.memory", "streams.process",
        "streams.settings", "streams.stopping", "streams.telemetry",
    },
    "streams.ops": {
        "schemas", "models", "streams.clickhouse", "streams.core", "streams.kafka",
        "streams.settings", "streams.shard",
    },
    "streams.campaigns": {
        "schemas", "streams.core", "streams.kafka", "streams.rules", "streams.shard",
    },
    "streams.console": {
        "schemas", "models", "streams.background", "streams.campaigns", "streams.clickhouse",
        "streams.core", "streams.kafka", "streams.privacy", "streams.process",
        "streams.settings", "streams.stopping", "streams.telemetry",
    },
    "streams.worker": {
        "schemas", "models", "streams.agents", "streams.campaigns", "streams.clickhouse",
        "streams.core",
        "streams.faust_app", "streams.kafka", "streams.learner", "streams.memory",
        "streams.privacy", "streams.process", "streams.settings", "streams.shard",
        "streams.stopping", "streams.telemetry", "streams.watch",
    },
    "streams.offline": {
        "schemas", "models", "streams.clickhouse", "streams.core", "streams.kafka",
        "streams.memory", "streams.privacy", "streams.settings", "streams.shard",
    },
    "streams.backfill": {
        "schemas", "streams.core", "streams.kafka", "streams.offline", "streams.replay",
        "streams.settings", "streams.shard",
    },
    "streams.repartition": {
        "schemas", "streams.core", "streams.kafka", "streams.offline", "streams.privacy",
        "streams.settings", "streams.shard",
    },
    "streams.local": {"schemas", "streams.kafka", "streams.settings"},
    "streams.demo": {
        "schemas", "models", "streams.background", "streams.campaigns",
        "streams.clickhouse", "streams.kafka",
        "streams.learner", "streams.local", "streams.replay", "streams.settings",
    },
    "streams.start": {
        "schemas", "models", "streams.clickhouse", "streams.core", "streams.evaluation",
        "streams.history", "streams.kafka", "streams.ops", "streams.settings", "streams.shard",
    },
    "streams.commands": {
        "schemas", "models", "streams.backfill", "streams.campaigns", "streams.clickhouse",
        "streams.console", "streams.core", "streams.deliver", "streams.demo",
        "streams.evaluation", "streams.history",
        "streams.kafka", "streams.lag", "streams.learner", "streams.live", "streams.local",
        "streams.memory", "streams.offline", "streams.ops",
        "streams.privacy", "streams.repartition", "streams.replay", "streams.settings",
        "streams.shard", "streams.start", "streams.stopping", "streams.telemetry",
        "streams.trainer", "streams.worker",
    },
    "streams.cli": {"schemas", "streams.commands", "streams.stopping"},
    "streams.__main__": {"streams.cli", "streams.stopping"},
}  # fmt: skip

# room -> the only packages from outside that it may import, besides the standard library
OUTSIDE: dict[str, set[str]] = {
    "schemas": {"msgspec"},
    "streams.background": set(),
    "streams.stopping": set(),
    "streams.process": set(),
    "streams.kernels": {"llvmlite", "msgspec", "numba", "numpy"},
    "streams.rules": {"numpy"},
    "streams.core": {"cramjam", "msgspec", "numpy", "xxhash"},
}
MODELS_NEVER = {"faust", "kafka", "aiokafka", "clickhouse_driver", "chdb"}


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts).removesuffix(".__init__")


FILES = {name_of(p): p for top in OURS for p in sorted((ROOT / top).rglob("*.py"))}


def room_of(module: str) -> str:
    """`streams.kafka.log` is in `streams.kafka`, `models.onnx.trees` in `models`."""
    top, *rest = module.split(".")
    return f"{top}.{rest[0]}" if top == "streams" and rest else top


def imported(source: str, package: str) -> set[str]:
    """Every module that a source imports, anywhere in it, with relative ones made absolute."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*parts, base] if base else parts)
            # `from streams.core import plan` imports the module streams.core.plan
            modules = {f"{base}.{alias.name}" for alias in node.names} & FILES.keys()
            found |= modules or {base}
    return found


@cache
def imports_of(module: str) -> set[str]:
    path = FILES[module]
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    return imported(path.read_text(), package)


def ours(modules: set[str]) -> set[str]:
    return {m for m in modules if m.split(".")[0] in OURS}


def against_the_rules(module: str, imports: set[str]) -> list[str]:
    """The imports of ours that a module may not have."""
    room = room_of(module)
    allowed = RULES[room] | {room}
    return sorted(m for m in ours(imports) if room_of(m) not in allowed)


@pytest.mark.parametrize("module", [m for m in FILES if m != "streams"])
def test_a_module_imports_only_from_rooms_that_its_room_may(module: str) -> None:
    assert against_the_rules(module, imports_of(module)) == []


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("schemas.events", "import models.blend"),
        ("models.blend", "from streams.core import plan"),
        ("streams.core.step", "from streams.kafka.log import Log"),
        ("streams.shard.shard", "def f():\n    from streams.privacy import pseudonyms"),
        ("streams.kafka.log", "from ..shard import journal"),
        ("streams.commands.run", "import streams.cli"),
    ],
)
def test_an_import_against_the_rules_is_found(module: str, source: str) -> None:
    assert against_the_rules(module, imported(source, module.rpartition(".")[0]))


def test_every_room_has_a_rule_and_every_rule_is_used() -> None:
    assert {room_of(m) for m in FILES} - {"streams"} == set(RULES)
    for room, allowed in RULES.items():
        used = {room_of(i) for m in FILES if room_of(m) == room for i in ours(imports_of(m))}
        assert allowed <= used | {"schemas"}, f"{room} no longer imports {allowed - used}"


def test_a_room_imports_only_rooms_below_it() -> None:
    floors = {room: i for i, room in enumerate(RULES)}
    for room, allowed in RULES.items():
        assert all(floors[below] < floors[room] for below in allowed), room


def test_there_is_no_circle_among_modules() -> None:
    done: set[str] = set()

    def visit(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, " -> ".join([*path[path.index(module) :], module])
        if module not in done:
            for other in sorted(imports_of(module) & FILES.keys() - {module}):
                visit(other, (*path, module))
            done.add(module)

    for module in FILES:
        visit(module, ())


@pytest.mark.parametrize("room", OUTSIDE)
def test_the_lowest_rooms_need_few_packages(room: str) -> None:
    for module in (m for m in FILES if room_of(m) == room):
        tops = {m.split(".")[0] for m in imports_of(module)} - set(OURS)
        assert tops <= OUTSIDE[room] | set(sys.stdlib_module_names), module


def test_models_know_neither_kafka_nor_clickhouse() -> None:
    for module in (m for m in FILES if room_of(m) == "models"):
        assert not {m.split(".")[0] for m in imports_of(module)} & MODELS_NEVER, module


def test_nothing_but_tests_imports_tests() -> None:
    for module in FILES:
        assert not any(m.split(".")[0] == "tests" for m in imports_of(module)), module
