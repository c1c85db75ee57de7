"""The wheel holds the product, all of it and nothing else."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("schemas", "models", "streams")
SOURCES = ("pyproject.toml", "README.md", "LICENSE")
DATA = {".sql", ".json", ".onnx", ".xml", ".typed", ".yaml", ".html", ".css", ".js", ".svg"}

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy, as setuptools leaves its scratch in the source; without any download."""
    scratch = tmp_path_factory.mktemp("wheel")
    source = scratch / "source"
    source.mkdir()
    for name in PACKAGES:
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in SOURCES:
        shutil.copy(ROOT / name, source)
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-index", "--no-deps",
         "--no-build-isolation", "--wheel-dir", str(scratch), str(source)],
        check=True,
    )  # fmt: skip
    (built,) = scratch.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def members(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def test_it_is_for_every_platform(wheel: Path) -> None:
    assert wheel.name.endswith("-py3-none-any.whl")


def test_its_top_level_is_the_three_packages(members: set[str]) -> None:
    tops = {name.split("/")[0] for name in members}
    assert {top for top in tops if not top.endswith(".dist-info")} == set(PACKAGES)
    assert len(tops) == len(PACKAGES) + 1


@pytest.mark.parametrize("package", PACKAGES)
def test_every_module_and_data_file_is_in_it(package: str, members: set[str]) -> None:
    for file in (ROOT / package).rglob("*"):
        if file.suffix in {".py"} | DATA and "__pycache__" not in file.parts:
            assert file.relative_to(ROOT).as_posix() in members


@pytest.mark.parametrize(
    "name",
    [
        "schemas/clickhouse/001_scores.sql",
        "schemas/json/orders.v1.schema.json",
        "models/artifacts/CURRENT",
        "streams/local/kafka-pom.xml",
        "schemas/py.typed",
        "models/py.typed",
        "streams/py.typed",
    ],
)
def test_what_runs_need_beside_code_is_in_it(name: str, members: set[str]) -> None:
    assert name in members


def test_the_current_artifact_is_in_it(members: set[str]) -> None:
    version = (ROOT / "models/artifacts/CURRENT").read_text().strip()
    shipped = ROOT / "models/artifacts" / version
    for file in ("manifest.json", *json.loads((shipped / "manifest.json").read_text())["files"]):
        assert f"models/artifacts/{version}/{file}" in members


def test_licence_command_and_transport_are_named_in_it(wheel: Path, members: set[str]) -> None:
    (info,) = {name.split("/")[0] for name in members if ".dist-info/" in name}
    assert f"{info}/licenses/LICENSE" in members
    with zipfile.ZipFile(wheel) as archive:
        entry_points = archive.read(f"{info}/entry_points.txt").decode()
    assert "tideline = streams.__main__:main" in entry_points
    assert "tideline = streams.kafka.transport:Transport" in entry_points
