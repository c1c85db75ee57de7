"""An artifact that isn't exactly what it says it is, is refused with the way out."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import onnx
import pytest

import models
from models.artifact import (
    CURRENT_FILE,
    MANIFEST_FILE,
    MODEL_FILE,
    artifact_path,
    artifacts_root,
    default_artifact_path,
    load_artifact,
    write_artifact,
)
from models.manifest import Manifest
from models.training.train import Summary
from schemas.errors import ArtifactError


@pytest.fixture
def artifact(trained: Summary, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(trained.path, tmp_path / trained.version))


def edit(artifact: Path, change: Callable[[dict[str, Any]], object]) -> None:
    file = artifact / MANIFEST_FILE
    manifest = msgspec.json.decode(file.read_bytes())
    change(manifest)
    file.write_bytes(msgspec.json.encode(manifest))


def replace_model(artifact: Path, content: bytes) -> None:
    """Another model, with a manifest that vouches for it."""
    (artifact / MODEL_FILE).write_bytes(content)
    edit(
        artifact,
        lambda m: m.update(
            onnx_bytes=len(content), onnx_sha256=hashlib.sha256(content).hexdigest()
        ),
    )


def test_a_good_artifact_loads(artifact: Path, trained: Summary) -> None:
    champion = load_artifact(artifact)

    assert champion.version == trained.version
    assert champion.horizon_days == 28


def test_the_current_artifact_is_the_one_named_in_current(trained: Summary) -> None:
    assert default_artifact_path(trained.path.parent) == trained.path


def test_installed_artifacts_are_found_in_the_package() -> None:
    assert artifacts_root() == Path(models.__file__).parent / "artifacts"


def test_nothing_else_stays_behind_after_writing(trained: Summary) -> None:
    names = sorted(path.name for path in trained.path.parent.iterdir())
    assert names == sorted([trained.version, CURRENT_FILE])


def test_a_version_that_fails_its_checks_is_not_written(trained: Summary, tmp_path: Path) -> None:
    manifest = load_artifact(trained.path).manifest
    with pytest.raises(ArtifactError, match="altered"):
        write_artifact(tmp_path, manifest, b"other", make_current=True)

    assert list(tmp_path.iterdir()) == []


def test_writing_the_same_version_again_replaces_it(trained: Summary, tmp_path: Path) -> None:
    manifest = load_artifact(trained.path).manifest
    model = (trained.path / MODEL_FILE).read_bytes()
    for _ in range(2):
        path = write_artifact(tmp_path, manifest, model, make_current=False)

    assert load_artifact(path).version == manifest.version
    assert not (tmp_path / CURRENT_FILE).exists()


@pytest.mark.parametrize("version", ["../elsewhere", "", ".hidden", "a/b", "a\nb"])
def test_a_version_cannot_lead_out_of_the_directory(version: str) -> None:
    with pytest.raises(ArtifactError, match="not an artifact version"):
        artifact_path(version)


def test_a_missing_current_file_says_how_to_get_one(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="tideline train"):
        default_artifact_path(tmp_path)


def test_a_missing_artifact_says_what_to_check(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="TIDELINE_ARTIFACT"):
        load_artifact(tmp_path)


def test_one_flipped_bit_in_the_model_is_refused(artifact: Path) -> None:
    content = bytearray((artifact / MODEL_FILE).read_bytes())
    content[len(content) // 2] ^= 1
    (artifact / MODEL_FILE).write_bytes(content)

    with pytest.raises(ArtifactError, match="altered"):
        load_artifact(artifact)


def test_a_manifest_that_is_not_json_is_refused(artifact: Path) -> None:
    (artifact / MANIFEST_FILE).write_bytes(b"{")
    with pytest.raises(ArtifactError, match="can't be read"):
        load_artifact(artifact)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m.update(format=99), "format 99"),
        (lambda m: m.update(features_hash="0" * 64), "other features"),
        (lambda m: m["features"].reverse(), "other features"),
        (lambda m: m["typical"]["mean"].pop(), "typical values"),
        (lambda m: m["golden"].update(x=[], p_churn=[], spend=[]), "golden"),
        (lambda m: m["typical"]["scale"].__setitem__(0, 0.0), "scale"),
        (lambda m: m["inputs"][0].update(name="input"), "other tensors"),
        (lambda m: m["outputs"][1].update(dtype="float64"), "other tensors"),
        (lambda m: m["golden"]["p_churn"].__setitem__(3, 0.123), "golden vector 3"),
        (lambda m: m["golden"]["spend"].__setitem__(0, 1e9), "another spend"),
    ],
)
def test_a_manifest_that_does_not_fit_is_refused(
    artifact: Path, change: Callable[[dict[str, Any]], object], message: str
) -> None:
    edit(artifact, change)
    with pytest.raises(ArtifactError, match=message):
        load_artifact(artifact)


def test_a_model_that_reads_other_files_is_refused(artifact: Path) -> None:
    model = onnx.load(artifact / MODEL_FILE)
    weights = model.graph.initializer.add()
    weights.name, weights.data_type = "outside", onnx.TensorProto.FLOAT
    weights.dims.append(1)
    weights.data_location = onnx.TensorProto.EXTERNAL
    weights.external_data.add(key="location", value="/etc/hostname")
    replace_model(artifact, model.SerializeToString())

    with pytest.raises(ArtifactError, match="other files"):
        load_artifact(artifact)


def test_a_model_with_custom_operators_is_refused(artifact: Path) -> None:
    model = onnx.load(artifact / MODEL_FILE)
    model.opset_import.add(domain="com.example", version=1)
    model.graph.node[-1].domain = "com.example"
    replace_model(artifact, model.SerializeToString())

    with pytest.raises(ArtifactError, match="can't load the model"):
        load_artifact(artifact)


def test_the_manifest_survives_a_round_trip(artifact: Path) -> None:
    manifest = load_artifact(artifact).manifest
    assert msgspec.json.decode(msgspec.json.encode(manifest), type=Manifest) == manifest
