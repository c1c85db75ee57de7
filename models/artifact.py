"""Reads and writes artifacts, and refuses one that doesn't match its manifest.

    models/artifacts/             or any other place (`models.places`)
      CURRENT                     the version that ships, one line
      <version>/*.onnx            the model (`models.champion.MODEL_FILES`)
      <version>/manifest.json     what it is, and how to check it (`models.manifest`)
      <version>/MODEL_CARD.md     the same for people; nothing reads it

Loading, in order; each step that fails names the fix:
 1. the manifest is of the format that this code reads;
 2. it lists the model's files; the bytes of each are read once;
 3. size and sha256 of those bytes are the manifest's;
 4. the bytes refer to no other file;
 5. if its feature names are this code's, so is the hash of their meaning;
 6. a session built from those very bytes has the manifest's inputs and outputs;
 7. it reproduces the golden vectors to 1e-5.
A model of another release, which has other features, then gets its own features by name.
"""

from __future__ import annotations

import hashlib
import importlib.resources
import logging
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from models.card import model_card
from models.champion import CURVE_FILE, MODEL_FILES, OUTPUTS, SCORES_FILE, Champion
from models.manifest import MANIFEST_FORMAT, Manifest
from models.places import Place, at
from schemas.errors import ArtifactError
from schemas.features import FEATURE_NAMES, FEATURES_HASH

__all__ = [
    "CARD_FILE",
    "CURRENT_FILE",
    "MANIFEST_FILE",
    "artifact_path",
    "artifacts_root",
    "current_version",
    "default_artifact_path",
    "golden_error",
    "load_artifact",
    "model_version",
    "promote",
    "read_manifest",
    "ship",
    "versions",
    "write_artifact",
]

_log = logging.getLogger(__name__)

CURRENT_FILE: Final = "CURRENT"
MANIFEST_FILE: Final = "manifest.json"
CARD_FILE: Final = "MODEL_CARD.md"
GOLDEN_TOLERANCE: Final = 1e-5

_VERSION: Final = re.compile(r"[0-9A-Za-z][0-9A-Za-z._-]{0,99}")


def artifacts_root() -> Path:
    """The directory of the artifacts that are installed with the package."""
    return Path(str(importlib.resources.files("models") / "artifacts"))


def artifact_path(version: str, root: Path | Place | None = None) -> Place:
    """The directory of one version. Raises `ArtifactError` if `version` can't be a name of one."""
    if not _VERSION.fullmatch(version):
        raise ArtifactError(
            f"{version!r} is not an artifact version. Use a name such as 2026-11-22-1a2b3c4d."
        )
    return at(artifacts_root() if root is None else root) / version


def current_version(root: Path | Place) -> str:
    """The version that `root/CURRENT` names. Raises `ArtifactError`, `ModelsUnavailable`."""
    root = at(root)
    try:
        version = root.read(CURRENT_FILE).decode().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ArtifactError(
            f"No current artifact: can't read {root / CURRENT_FILE} ({error}). Train one with "
            "`tideline train`, or install the package again."
        ) from error
    return artifact_path(version, root).name


def default_artifact_path(root: Path | Place | None = None) -> Place:
    """The artifact that ships: the version named in `CURRENT`. Raises `ArtifactError`."""
    root = at(artifacts_root() if root is None else root)
    return root / current_version(root)


def versions(root: Path | Place) -> list[str]:
    """The names of the artifacts in `root`, sorted; whether they load is another question."""
    return at(root).directories(holding=MANIFEST_FILE)


def promote(root: Path | Place, version: str) -> Champion:
    """Checks `root/<version>` as workers will, then names it in `CURRENT` in one write.

    Raises `ArtifactError`, and changes nothing, if it can't be used. Raises `ModelsUnavailable`.
    """
    root = at(root)
    champion = load_artifact(artifact_path(version, root))
    if champion.version != version:
        raise ArtifactError(
            f"{root / version} holds artifact {champion.version}. Name the directory as the "
            "manifest does: journals name artifacts, and must find them."
        )
    root.replace(CURRENT_FILE, f"{version}\n".encode())
    return champion


def ship(root: Path | Place, source: Path | Place | None = None) -> str:
    """Puts the model that ships, or the current one of `source`, into `root`, and names it in
    `CURRENT`; returns its version.

    Raises `ArtifactError`, `ModelsUnavailable`.
    """
    root, shipped = at(root), default_artifact_path(source)
    load_artifact(shipped)
    root.put(shipped.name, {n: shipped.read(n) for n in shipped.files()}, last=MANIFEST_FILE)
    return promote(root, shipped.name).version


def model_version(date: str, files: Mapping[str, bytes]) -> str:
    """`<date>-<8 hex digits>`, the first that `sha256sum *.onnx | sha256sum` prints.

    >>> model_version("2026-11-22", {"scores.onnx": b"model"})
    '2026-11-22-d11d2dd0'
    """
    sums = (f"{hashlib.sha256(files[name]).hexdigest()}  {name}\n" for name in sorted(files))
    return f"{date}-{hashlib.sha256(''.join(sums).encode()).hexdigest()[:8]}"


def load_artifact(path: Path | Place) -> Champion:
    """Loads and checks the artifact in a directory; raises `ArtifactError`, `ModelsUnavailable`."""
    path = at(path)
    return _load(path.read, path)


def _load(read: Callable[[str], bytes], path: Place) -> Champion:
    """The checked artifact of the files that `read` returns by name; `path` is for messages."""

    def content(name: str) -> bytes:
        try:
            return read(name)
        except OSError as error:
            raise ArtifactError(
                f"No complete artifact in {path}: {error}. Check TIDELINE_MODEL_ARTIFACT, or "
                "train one with `tideline train`."
            ) from error

    manifest = _manifest(content(MANIFEST_FILE), path)
    where = f"Artifact {manifest.version} in {path}"
    _check_listed(manifest, where)
    files = _model_files(content, manifest, where)
    same_names = manifest.features == list(FEATURE_NAMES)
    if (manifest.features_hash == FEATURES_HASH) != same_names:
        raise ArtifactError(
            f"{where} was made for other features of the same names (its hash is "
            f"{manifest.features_hash[:12]}, this code's is {FEATURES_HASH[:12]}). Retrain with "
            "`tideline train`."
        )
    _check_lengths(manifest, where)
    champion = Champion(manifest, files)
    for name, file in manifest.files.items():
        inputs, outputs = champion.signature(name)
        if inputs != manifest.inputs or outputs != file.outputs:
            raise ArtifactError(
                f"{where}: {name} takes and returns other tensors ({inputs} -> {outputs}) than "
                "the manifest says. Restore all its files from where they were trained."
            )
    _check_golden(champion, where)
    unknown = [name for name in manifest.features if name not in FEATURE_NAMES]
    if unknown:
        _log.warning(
            "%s needs %s features that this version does not compute (%s); it gets them as unknown "
            "values. Train a new model with `tideline train`.",
            where, len(unknown), ", ".join(unknown[:3]),
        )  # fmt: skip
    return champion.serving(FEATURE_NAMES)


def read_manifest(path: Path | Place) -> Manifest:
    """What an artifact says about itself; its model is neither loaded nor checked. Raises
    `ArtifactError`, `ModelsUnavailable`."""
    path = at(path)
    try:
        return _manifest(path.read(MANIFEST_FILE), path)
    except OSError as error:
        raise ArtifactError(
            f"No complete artifact in {path}: {error}. Train one with `tideline train`."
        ) from error


class _Format(msgspec.Struct):
    format: int


def _manifest(text: bytes, path: Place) -> Manifest:
    try:
        found = msgspec.json.decode(text, type=_Format).format
        if found == MANIFEST_FORMAT:
            return msgspec.json.decode(text, type=Manifest)
    except msgspec.DecodeError as error:
        raise ArtifactError(
            f"{path / MANIFEST_FILE} can't be read: {error}. Restore it from where it was trained."
        ) from error
    raise ArtifactError(
        f"The artifact in {path} has manifest format {found}, this version reads "
        f"{MANIFEST_FORMAT}. Train it again with `tideline train`, or install the version of "
        "Tideline that it was trained with."
    )


def _model_files(read: Callable[[str], bytes], manifest: Manifest, where: str) -> dict[str, bytes]:
    """Reads each file that the manifest lists, once; refuses other sizes and hashes than listed."""
    files = {name: read(name) for name in manifest.files}
    for name, content in files.items():
        listed, digest = manifest.files[name], hashlib.sha256(content).hexdigest()
        if len(content) != listed.size_bytes or digest != listed.sha256:
            raise ArtifactError(
                f"{where} was altered: {name} has {len(content)} bytes and sha256 {digest}, the "
                f"manifest says {listed.size_bytes} and {listed.sha256}. "
                "Restore all its files from where they were trained."
            )
        # ONNX tensors kept in other files carry an entry with the key "location"; our graphs have
        # no other use for the word. A model that reads further files would escape the hash above.
        if b"location" in content:
            raise ArtifactError(
                f"{where}: {name} refers to data in other files. Export it as one file."
            )
    return files


def _check_listed(manifest: Manifest, where: str) -> None:
    """The manifest lists files of the names that are known, so none outside the directory."""
    listed = {name: tuple(o.name for o in file.outputs) for name, file in manifest.files.items()}
    for name, outputs in listed.items():
        if outputs != MODEL_FILES.get(name):
            raise ArtifactError(
                f"{where}: the manifest lists a file {name!r} that computes {', '.join(outputs)}, "
                "which this version does not know. Restore the manifest from where the artifact "
                "was trained, or install the version of Tideline that it was trained with."
            )
    if SCORES_FILE not in listed:
        raise ArtifactError(
            f"{where}: the manifest does not list {SCORES_FILE}. Restore it from where the "
            "artifact was trained."
        )


def _check_lengths(manifest: Manifest, where: str) -> None:
    typical = manifest.typical
    columns = (typical.median, typical.mean, typical.scale, typical.varies, manifest.importances)
    features = len(manifest.features)
    golden = manifest.golden
    outputs = [output.name for file in manifest.files.values() for output in file.outputs]
    complete = (
        all(len(column) == features for column in columns)
        and all(len(row) == features for row in golden.x)
        and all(len(golden.x) == len(golden.outputs.get(name, ())) > 0 for name in outputs)
    )
    if not complete:
        raise ArtifactError(
            f"{where}: the manifest needs {features} typical values, importances and "
            "golden inputs, and at least one golden vector for every output. Restore it from "
            "where it was trained."
        )
    if not all(scale > 0 for scale in typical.scale):
        raise ArtifactError(f"{where}: a feature has a scale of 0 or less. Retrain.")
    curve = manifest.curve_features
    if bool(curve) != (CURVE_FILE in manifest.files) or not {*curve} <= {*manifest.features}:
        raise ArtifactError(
            f"{where}: the manifest must name the features of {CURVE_FILE}, and does not. Restore "
            "it from where it was trained."
        )


def golden_error(champion: Champion) -> float:
    """The largest difference to the golden vectors; relative where these are above 1.

    Raises `ArtifactError` if a score isn't a number.
    """
    return max(float(off.max()) for _, off in _golden_errors(champion))


def _golden_errors(champion: Champion) -> Iterator[tuple[str, NDArray[np.float64]]]:
    champion = champion.serving(champion.trained.features)
    golden = champion.manifest.golden
    x = golden.x_array()
    found = dict(zip(OUTPUTS, champion.score(x), strict=True))
    for file in champion.files:
        if file != SCORES_FILE:
            found |= champion.outputs(file, x)
    for name, got in found.items():
        want = np.asarray(golden.outputs[name], dtype=np.float64)
        yield name, np.abs(got - want) / np.maximum(1.0, np.abs(want))


def _check_golden(champion: Champion, where: str) -> None:
    for name, off in _golden_errors(champion):
        if not np.all(off <= GOLDEN_TOLERANCE):
            raise ArtifactError(
                f"{where} computes another {name} than the training library (off by "
                f"{off.max():.2g} in golden vector {int(off.argmax())}). Use the ONNX Runtime that "
                "it was made with, or retrain."
            )


def write_artifact(
    root: Path | Place,
    manifest: Manifest,
    files: Mapping[str, bytes],
    *,
    make_current: bool,
    comparison: str = "",
    history: str = "",
    horizon: str = "",
) -> Place:
    """Checks an artifact, writes `root/<manifest.version>/`, loads it back, and returns its path.

    It is never used while incomplete; an older one of the same version is replaced. With
    `make_current`, `CURRENT` names it afterwards. `comparison`, `history` and `horizon` go into the
    model card. Raises `ArtifactError`, `ModelsUnavailable`.
    """
    root = at(root)
    target = artifact_path(manifest.version, root)
    card = model_card(manifest, comparison, history, horizon)
    whole = {
        **files,
        CARD_FILE: card.encode(),
        MANIFEST_FILE: msgspec.json.format(msgspec.json.encode(manifest), indent=1) + b"\n",
    }
    _load(whole.__getitem__, target)
    root.put(manifest.version, whole, last=MANIFEST_FILE)
    if make_current:
        promote(root, manifest.version)
    else:
        load_artifact(target)
    return target
