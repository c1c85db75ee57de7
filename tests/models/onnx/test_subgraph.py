"""A cut model gives the same numbers, and has nothing that it does not need."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest

from models.artifact import default_artifact_path, load_artifact
from models.champion import OUTPUTS
from models.onnx.subgraph import with_outputs
from schemas.features import FEATURE_NAMES


@pytest.fixture(scope="module")
def shipped() -> bytes:
    return load_artifact(default_artifact_path()).onnx


@pytest.mark.parametrize("outputs", [OUTPUTS, ("spend",), ("p_buy_7d", "p_churn")], ids=str)
def test_the_outputs_are_the_same_bit_for_bit(shipped: bytes, outputs: tuple[str, ...]) -> None:
    x = np.random.default_rng(1).uniform(-5, 60, (50, len(FEATURE_NAMES))).astype(np.float32)
    x[::3, ::7] = np.nan
    told = []
    for model in (shipped, with_outputs(shipped, outputs)):
        session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
        x = x[:, : session.get_inputs()[0].shape[1]]
        told.append(session.run(list(outputs), {"x": x}))
    for whole, cut in zip(*told, strict=True):
        assert whole.tobytes() == cut.tobytes()


def test_what_is_not_asked_for_is_gone(shipped: bytes) -> None:
    cut = onnx.load_from_string(with_outputs(shipped, OUTPUTS))
    onnx.checker.check_model(cut)
    assert {output.name for output in cut.graph.output} == set(OUTPUTS)
    trees = [node for node in cut.graph.node if node.op_type == "TreeEnsembleRegressor"]
    assert len(trees) == 2


def test_what_stays_is_unchanged(shipped: bytes) -> None:
    whole = onnx.load_from_string(shipped)
    every = [output.name for output in whole.graph.output]
    kept = onnx.load_from_string(with_outputs(shipped, every))
    assert list(kept.graph.output) == list(whole.graph.output)
    assert all(node in list(whole.graph.node) for node in kept.graph.node)
    del kept.graph.node[:], whole.graph.node[:]
    assert kept == whole


@pytest.mark.parametrize("damaged", [b"\xff", b"\x3a\x05\x0a", b"not a model"])
def test_what_is_no_model_is_refused(damaged: bytes) -> None:
    with pytest.raises((ValueError, IndexError)):
        with_outputs(damaged, OUTPUTS)
