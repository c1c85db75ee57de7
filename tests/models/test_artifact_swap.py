"""The bytes that were checked are the bytes that run: files may change under the loader's feet."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from models.artifact import MANIFEST_FILE, default_artifact_path, load_artifact
from models.champion import SCORES_FILE
from schemas.errors import ArtifactError
from schemas.features import FEATURE_NAMES


@pytest.fixture
def artifact(tmp_path: Path) -> Path:
    """A copy of the model that ships, to be tampered with."""
    shipped = default_artifact_path()
    return Path(shutil.copytree(str(shipped), tmp_path / shipped.name))


def swap_after_reading(monkeypatch: pytest.MonkeyPatch, model: Path, content: bytes) -> list[Path]:
    """Another file is there the moment the model has been read; returns what was read."""
    read, seen = Path.read_bytes, []

    def and_swap(self: Path) -> bytes:
        got = read(self)
        seen.append(self)
        if self == model:
            model.write_bytes(content)
        return got

    monkeypatch.setattr(Path, "read_bytes", and_swap)
    return seen


def test_a_swap_after_the_check_changes_nothing(
    artifact: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = artifact / SCORES_FILE
    good, rows = model.read_bytes(), np.zeros((3, len(FEATURE_NAMES)), np.float32)
    expected = load_artifact(artifact).score(rows)
    built: list[Any] = []
    session = onnxruntime.InferenceSession

    def spy(source: Any, *args: Any, **options: Any) -> Any:
        built.append(source)
        return session(source, *args, **options)

    monkeypatch.setattr(onnxruntime, "InferenceSession", spy)
    seen = swap_after_reading(monkeypatch, model, b"evil")
    champion = load_artifact(artifact)
    assert seen.count(model) == 1
    # bytes, never a path to read again
    files = [path.name for path in artifact.glob("*.onnx")]
    others = {(artifact / name).read_bytes() for name in files if name != SCORES_FILE}
    assert len(built) == len(files) > 1
    assert set(built) == {good, *others}
    for got, want in zip(champion.score(rows), expected, strict=True):
        np.testing.assert_array_equal(got, want)


def test_a_swap_before_the_check_is_not_helped_by_swapping_back(
    artifact: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = artifact / SCORES_FILE
    good = model.read_bytes()
    model.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    swap_after_reading(monkeypatch, model, good)
    with pytest.raises(ArtifactError, match="was altered"):
        load_artifact(artifact)


def test_each_file_is_opened_once(artifact: Path) -> None:
    """As Python's audit events tell, which no patch can hide from."""
    opened: list[str] = []
    active = True

    def hook(event: str, args: tuple[Any, ...]) -> None:
        if active and event == "open" and str(args[0]).startswith(str(artifact)):
            opened.append(Path(str(args[0])).name)

    sys.addaudithook(hook)
    load_artifact(artifact)
    active = False
    assert sorted(opened) == sorted(
        [MANIFEST_FILE, *(path.name for path in artifact.glob("*.onnx"))]
    )
