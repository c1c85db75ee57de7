"""An artifact that isn't exactly what it says it is, is refused with the way out."""

from __future__ import annotations

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
    artifact_path,
    artifacts_root,
    default_artifact_path,
    load_artifact,
    write_artifact,
)
from models.champion import CURVE, CURVE_FILE, OUTPUTS, SCORES_FILE
from models.manifest import Manifest, ModelFile
from models.training.train import Summary
from schemas.errors import ArtifactError

SHIPPED = sorted(name for name in default_artifact_path().files() if name.endswith(".onnx"))


@pytest.fixture
def artifact(trained: Summary, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(str(trained.path), tmp_path / trained.version))


@pytest.fixture
def complete(tmp_path: Path) -> Path:
    """A copy of the artifact that ships, which has every file."""
    shipped = default_artifact_path()
    return Path(shutil.copytree(str(shipped), tmp_path / shipped.name))


def edit(artifact: Path, change: Callable[[dict[str, Any]], object]) -> None:
    file = artifact / MANIFEST_FILE
    manifest = msgspec.json.decode(file.read_bytes())
    change(manifest)
    file.write_bytes(msgspec.json.encode(manifest))


def replace_model(artifact: Path, content: bytes) -> None:
    """Another model, with a manifest that vouches for it."""
    (artifact / SCORES_FILE).write_bytes(content)
    described = msgspec.to_builtins(ModelFile.of(content, OUTPUTS))
    edit(artifact, lambda m: m["files"].update({SCORES_FILE: described}))


def test_a_good_artifact_loads(artifact: Path, trained: Summary) -> None:
    champion = load_artifact(artifact)

    assert champion.version == trained.version
    assert champion.horizon_days == 28


def test_the_current_artifact_is_the_one_named_in_current(trained: Summary) -> None:
    assert default_artifact_path(trained.path.parent) == trained.path


def test_installed_artifacts_are_found_in_the_package() -> None:
    assert artifacts_root() == Path(models.__file__).parent / "artifacts"


def test_nothing_else_stays_behind_after_writing(trained: Summary) -> None:
    names = sorted(path.name for path in Path(str(trained.path.parent)).iterdir())
    assert names == sorted([trained.version, CURRENT_FILE])


def test_a_version_that_fails_its_checks_is_not_written(trained: Summary, tmp_path: Path) -> None:
    champion = load_artifact(trained.path)
    files = {**champion.files, SCORES_FILE: b"other"}
    with pytest.raises(ArtifactError, match="altered"):
        write_artifact(tmp_path, champion.manifest, files, make_current=True)

    assert list(tmp_path.iterdir()) == []


def test_writing_the_same_version_again_replaces_it(trained: Summary, tmp_path: Path) -> None:
    champion = load_artifact(trained.path)
    for _ in range(2):
        path = write_artifact(tmp_path, champion.manifest, champion.files, make_current=False)

    assert load_artifact(path).version == champion.version
    assert not (tmp_path / CURRENT_FILE).exists()


@pytest.mark.parametrize("version", ["../elsewhere", "", ".hidden", "a/b", "a\nb"])
def test_a_version_cannot_lead_out_of_the_directory(version: str) -> None:
    with pytest.raises(ArtifactError, match="not an artifact version"):
        artifact_path(version)


def test_a_missing_current_file_says_how_to_get_one(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="tideline train"):
        default_artifact_path(tmp_path)


def test_a_missing_artifact_says_what_to_check(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="TIDELINE_MODEL_ARTIFACT"):
        load_artifact(tmp_path)


def test_one_flipped_bit_in_the_model_is_refused(artifact: Path) -> None:
    content = bytearray((artifact / SCORES_FILE).read_bytes())
    content[len(content) // 2] ^= 1
    (artifact / SCORES_FILE).write_bytes(content)

    with pytest.raises(ArtifactError, match="altered"):
        load_artifact(artifact)


def test_a_manifest_that_is_not_json_is_refused(artifact: Path) -> None:
    (artifact / MANIFEST_FILE).write_bytes(b"{")
    with pytest.raises(ArtifactError, match="can't be read"):
        load_artifact(artifact)


def test_an_artifact_of_the_format_before_says_to_train_again(artifact: Path) -> None:
    """Format 1 had one ONNX file and other fields: it is refused by its number alone."""
    (artifact / MANIFEST_FILE).write_bytes(b'{"format": 1, "onnx_sha256": "0"}')
    with pytest.raises(ArtifactError, match=r"format 1, .* reads 2\. Train it again"):
        load_artifact(artifact)


@pytest.mark.parametrize("name", SHIPPED)
def test_every_file_that_is_listed_must_be_there_and_unaltered(complete: Path, name: str) -> None:
    content = bytearray((complete / name).read_bytes())
    content[-10] ^= 1
    (complete / name).write_bytes(content)
    with pytest.raises(ArtifactError, match=f"altered: {name}"):
        load_artifact(complete)

    (complete / name).unlink()
    with pytest.raises(ArtifactError, match="No complete artifact"):
        load_artifact(complete)


def test_files_that_changed_places_are_refused(complete: Path) -> None:
    (complete / "forecast.onnx").rename(complete / "aside")
    (complete / "partial.onnx").rename(complete / "forecast.onnx")
    (complete / "aside").rename(complete / "partial.onnx")

    def swap(m: dict[str, Any]) -> None:
        files = m["files"]
        files["forecast.onnx"], files["partial.onnx"] = (
            {**files[there], "outputs": files[here]["outputs"]}
            for here, there in (
                ("forecast.onnx", "partial.onnx"),
                ("partial.onnx", "forecast.onnx"),
            )
        )

    edit(complete, swap)
    with pytest.raises(ArtifactError, match=r"forecast\.onnx takes and returns other tensors"):
        load_artifact(complete)


def test_a_file_outside_the_directory_is_not_even_read(
    artifact: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    edit(artifact, lambda m: m["files"].update({"../../secret": m["files"][SCORES_FILE]}))
    read, seen = Path.read_bytes, list[Path]()

    def noted(path: Path) -> bytes:
        seen.append(path)
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", noted)
    with pytest.raises(ArtifactError, match=r"\.\./\.\./secret"):
        load_artifact(artifact)
    assert seen == [artifact / MANIFEST_FILE]


def test_a_curve_that_is_not_the_one_in_the_scores_is_refused(complete: Path) -> None:
    """Reasons are computed with it, so it must be what training computed."""
    model = onnx.load(complete / CURVE_FILE)
    (last,) = [node for node in model.graph.node if CURVE in node.output]
    last.output[0] = "unscaled"
    half = onnx.helper.make_tensor("half", onnx.TensorProto.FLOAT, [], [0.5])
    model.graph.node.append(onnx.helper.make_node("Constant", [], ["half"], value=half))
    model.graph.node.append(onnx.helper.make_node("Mul", ["unscaled", "half"], [CURVE]))
    content = model.SerializeToString()
    (complete / CURVE_FILE).write_bytes(content)
    described = msgspec.to_builtins(ModelFile.of(content, [CURVE]))
    edit(complete, lambda m: m["files"].update({CURVE_FILE: described}))
    with pytest.raises(ArtifactError, match=f"another {CURVE}"):
        load_artifact(complete)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m.update(format=99), "format 99"),
        (lambda m: m.pop("format"), "can't be read"),
        (lambda m: m["files"].pop(SCORES_FILE), "does not list scores.onnx"),
        (lambda m: m["files"][SCORES_FILE]["outputs"].reverse(), "does not know"),
        (lambda m: m.update(curve_features=[]), "features of curve.onnx"),
        (lambda m: m["curve_features"].append("shoe_size"), "features of curve.onnx"),
        (lambda m: m.update(features_hash="0" * 64), "other features of the same names"),
        (lambda m: m["features"].reverse(), "other features of the same names"),
        (lambda m: m["typical"]["mean"].pop(), "typical values"),
        (lambda m: m["golden"].update(x=[], outputs={"p_churn": [], "spend": []}), "golden"),
        (lambda m: m["golden"]["outputs"].pop("spend"), "golden"),
        (lambda m: m["typical"]["scale"].__setitem__(0, 0.0), "scale"),
        (lambda m: m["inputs"][0].update(name="input"), "other tensors"),
        (lambda m: m["files"][SCORES_FILE]["outputs"][1].update(dtype="float64"), "other tensors"),
        (lambda m: m["golden"]["outputs"]["p_churn"].__setitem__(3, 0.123), "golden vector 3"),
        (lambda m: m["golden"]["outputs"]["spend"].__setitem__(0, 1e9), "another spend"),
    ],
)
def test_a_manifest_that_does_not_fit_is_refused(
    artifact: Path, change: Callable[[dict[str, Any]], object], message: str
) -> None:
    edit(artifact, change)
    with pytest.raises(ArtifactError, match=message):
        load_artifact(artifact)


def test_a_model_that_reads_other_files_is_refused(artifact: Path) -> None:
    model = onnx.load(artifact / SCORES_FILE)
    weights = model.graph.initializer.add()
    weights.name, weights.data_type = "outside", onnx.TensorProto.FLOAT
    weights.dims.append(1)
    weights.data_location = onnx.TensorProto.EXTERNAL
    weights.external_data.add(key="location", value="/etc/hostname")
    replace_model(artifact, model.SerializeToString())

    with pytest.raises(ArtifactError, match="other files"):
        load_artifact(artifact)


def test_a_model_with_custom_operators_is_refused(artifact: Path) -> None:
    model = onnx.load(artifact / SCORES_FILE)
    model.opset_import.add(domain="com.example", version=1)
    model.graph.node[-1].domain = "com.example"
    replace_model(artifact, model.SerializeToString())

    with pytest.raises(ArtifactError, match="can't load the model"):
        load_artifact(artifact)


def test_the_manifest_survives_a_round_trip(artifact: Path) -> None:
    manifest = load_artifact(artifact).manifest
    assert msgspec.json.decode(msgspec.json.encode(manifest), type=Manifest) == manifest
