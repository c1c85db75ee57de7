"""The champion's scores depend on the row alone, and are refused when they aren't numbers."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from models.champion import SCORES_FILE, Champion
from schemas.errors import ArtifactError
from tests.models.synthetic import F, rows


@pytest.mark.parametrize("batch", [1, 7, 1_000, 20_000])
def test_a_row_scores_the_same_bits_in_any_batch(champion: Champion, batch: int) -> None:
    x = rows(20_000, seed=3)
    p_all, spend_all = champion.score(x)
    n = min(len(x), 400 * batch)
    parts = [champion.score(x[i : i + batch]) for i in range(0, n, batch)]

    assert np.array_equal(np.concatenate([p for p, _ in parts]), p_all[:n])
    assert np.array_equal(np.concatenate([s for _, s in parts]), spend_all[:n])


def test_scores_are_float32_and_usable_as_odds(champion: Champion) -> None:
    p, spend = champion.score(rows(500))

    assert p.dtype == spend.dtype == np.float32
    assert p.shape == spend.shape == (500,)
    assert (p > 0).all()
    assert (p < 1).all()
    assert (spend >= 0).all()


def test_infinite_and_unknown_inputs_still_give_numbers(champion: Champion) -> None:
    x = np.array([np.nan, np.inf, -np.inf, 3e38], dtype=np.float32)[:, None].repeat(F, axis=1)
    p, spend = champion.score(x)

    assert np.isfinite(p).all()
    assert np.isfinite(spend).all()


def test_no_rows_give_no_scores(champion: Champion) -> None:
    p, spend = champion.score(np.empty((0, F), np.float32))

    assert p.shape == spend.shape == (0,)


def test_columns_in_another_memory_order_score_the_same(champion: Champion) -> None:
    x = rows(50)
    assert np.array_equal(champion.score(np.asfortranarray(x))[0], champion.score(x)[0])


@pytest.mark.parametrize(
    "x",
    [np.zeros((2, F), np.float64), np.zeros((2, F - 1), np.float32), np.zeros(F, np.float32)],
    ids=["float64", "a feature short", "one dimension"],
)
def test_another_shape_or_dtype_is_the_callers_mistake(
    champion: Champion, x: np.ndarray[tuple[int, ...], np.dtype[np.float32]]
) -> None:
    with pytest.raises(ValueError, match="x must be float32"):
        champion.score(x)


def test_scores_that_are_not_numbers_are_refused(champion: Champion) -> None:
    graph = helper.make_graph(
        [
            helper.make_node("ReduceSum", ["x", "axis"], ["p_churn"], keepdims=0),
            helper.make_node("Log", ["p_churn"], ["spend"]),
        ],
        "broken",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", F])],
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N"])
            for name in ("p_churn", "spend")
        ],
        [helper.make_tensor("axis", TensorProto.INT64, [1], [1])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    broken = Champion(champion.manifest, {SCORES_FILE: model.SerializeToString()})
    x = np.ones((4, F), np.float32)
    x[2] = -1.0

    with pytest.raises(ArtifactError, match="1 of 4 rows"):
        broken.score(x)


def test_bytes_that_are_no_model_are_refused(champion: Champion) -> None:
    with pytest.raises(ArtifactError, match=r"scores\.onnx: .*can't load the model"):
        Champion(champion.manifest, {SCORES_FILE: b"not a model"})
