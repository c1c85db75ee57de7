"""Artifacts and learner snapshots that are wrong in one way each."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final

import msgspec
import numpy as np
import onnx
from onnx import TensorProto, helper

from models.artifact import (
    MANIFEST_FILE,
    artifacts_root,
    current_version,
    load_artifact,
)
from models.champion import OUTPUTS, SCORES_FILE
from models.learner import OnlineLearner
from models.manifest import Manifest, ModelFile
from schemas.features import FEATURE_NAMES
from schemas.messages import LearnerSnapshot

__all__ = ["ARTIFACTS", "SNAPSHOTS", "copy_artifacts", "not_a_number_for_some", "sound_snapshot"]


def copy_artifacts(directory: Path) -> Path:
    """The artifacts that ship, to be spoiled: a directory with `CURRENT`."""
    return Path(shutil.copytree(artifacts_root(), directory / "artifacts"))


def _flip_a_bit(path: Path) -> None:
    content = bytearray((path / SCORES_FILE).read_bytes())
    content[len(content) // 2] ^= 1
    (path / SCORES_FILE).write_bytes(content)


def _rewrite(path: Path, model: onnx.ModelProto, **changes: object) -> None:
    """Write a model, and a manifest that vouches for it."""
    content = model.SerializeToString()
    manifest = msgspec.json.decode((path / MANIFEST_FILE).read_bytes(), type=Manifest)
    manifest = msgspec.structs.replace(
        manifest, files=manifest.files | {SCORES_FILE: ModelFile.of(content, OUTPUTS)},
        version=path.name, **changes,
    )  # fmt: skip
    (path / SCORES_FILE).write_bytes(content)
    (path / MANIFEST_FILE).write_bytes(msgspec.json.encode(manifest))


def _another_shape(path: Path) -> None:
    """A model that takes one feature less; the hash is right."""
    model = onnx.load(str(path / SCORES_FILE))
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_value = len(FEATURE_NAMES) - 1
    _rewrite(path, model)


def _always_nan(path: Path) -> None:
    model = onnx.load(str(path / SCORES_FILE))
    _insert_nan(model, low=-np.inf, high=np.inf)
    _rewrite(path, model)


ARTIFACTS: Final[Mapping[str, tuple[Callable[[Path], object], str]]] = MappingProxyType({
    "missing": (shutil.rmtree, "No complete artifact"),
    "without its model": (lambda path: (path / SCORES_FILE).unlink(), "No complete artifact"),
    "of another hash": (_flip_a_bit, "was altered"),
    "of another shape": (_another_shape, "takes and returns other tensors"),
    "that answers NaN": (_always_nan, "not a number"),
})  # fmt: skip
"""What is wrong -> how to make it so in an artifact's directory, and what a worker says of it."""


def not_a_number_for_some(root: Path, feature: str) -> str:
    """Put a champion into `root` that passes all checks, but has no number for rows whose `feature`
    lies in a narrow range, which no golden vector does; returns its version."""
    good = root / current_version(root)
    version = "2026-11-25-nan"
    path = Path(shutil.copytree(good, root / version))
    champion = load_artifact(good)
    column = FEATURE_NAMES.index(feature)
    seen = np.sort(champion.manifest.golden.x_array()[:, column])
    seen = np.append(seen, champion.manifest.typical.median_array()[column])
    seen = np.sort(seen[~np.isnan(seen) & (seen < 30.0)])
    widest = int(np.argmax(np.diff(seen)))
    margin = (seen[widest + 1] - seen[widest]) / 20
    model = onnx.load(str(path / SCORES_FILE))
    _insert_nan(model, column, float(seen[widest] + margin), float(seen[widest + 1] - margin))
    _rewrite(path, model)
    return version


def _insert_nan(model: onnx.ModelProto, column: int = 0, low: float = 0, high: float = 0) -> None:
    """Make `p_churn` NaN where `low` < x[column] < `high`; everywhere, if they are infinite."""
    graph = model.graph
    at = next(i for i, node in enumerate(graph.node) if "p_churn" in node.output)
    graph.node[at].output[0] = "p_churn_sound"

    def constant(name: str, kind: int, shape: list[int], value: float) -> onnx.NodeProto:
        return helper.make_node(
            "Constant", [], [name], value=helper.make_tensor(name, kind, shape, [value])
        )

    nodes = [constant("nan", TensorProto.FLOAT, [], float("nan"))]
    if np.isinf(low):
        nodes.append(helper.make_node("Mul", ["p_churn_sound", "nan"], ["p_churn"]))
    else:
        nodes += [
            constant("nan_column", TensorProto.INT64, [], column),
            constant("nan_low", TensorProto.FLOAT, [], low),
            constant("nan_high", TensorProto.FLOAT, [], high),
            helper.make_node("Gather", ["x", "nan_column"], ["nan_x"], axis=1),
            helper.make_node("Greater", ["nan_x", "nan_low"], ["nan_above"]),
            helper.make_node("Less", ["nan_x", "nan_high"], ["nan_below"]),
            helper.make_node("And", ["nan_above", "nan_below"], ["nan_here"]),
            helper.make_node("Where", ["nan_here", "nan", "p_churn_sound"], ["p_churn"]),
        ]
    for offset, node in enumerate(nodes):
        graph.node.insert(at + 1 + offset, node)


def sound_snapshot(root: Path, version: int) -> LearnerSnapshot:
    """What a learner that has learned something on the current champion of `root` publishes."""
    champion = load_artifact(root / current_version(root))
    made = OnlineLearner(champion.manifest).snapshot()
    weights = [0.01 if varies else 0.0 for varies in champion.manifest.typical.varies]
    return msgspec.structs.replace(
        made, version=version, labels=version, blend_weight=0.5, weights=weights
    )


def _with(**changes: object) -> Callable[[LearnerSnapshot], bytes | None]:
    def spoil(snapshot: LearnerSnapshot) -> bytes:
        return msgspec.msgpack.encode(msgspec.structs.replace(snapshot, **changes))

    return spoil


SNAPSHOTS: Final[Mapping[str, Callable[[LearnerSnapshot], bytes | None]]] = MappingProxyType({
    "missing": lambda _: None,
    "not a snapshot": lambda _: b"\xc1 not MessagePack",
    "cut in half": lambda s: (whole := msgspec.msgpack.encode(s))[: len(whole) // 2],
    "of another shape": lambda s: _with(weights=s.weights[:-1])(s),
    "with a NaN in it": _with(intercept=float("nan")),
    "with a scale of 0": lambda s: _with(scale=[0.0] * len(s.scale))(s),
    "with an impossible weight": _with(blend_weight=7.0),
})  # fmt: skip
"""What is wrong -> a record's value made from a sound snapshot."""
