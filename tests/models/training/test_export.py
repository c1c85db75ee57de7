"""The ONNX graph decides exactly as LightGBM does, at thresholds and for unknown values too."""

from __future__ import annotations

from typing import Any

import lightgbm
import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from models.bands import OTHERS
from models.champion import (
    CURVE_FILE,
    LONG_FILE,
    MODEL_FILES,
    OUTLOOK,
    OUTPUTS,
    SCORES_FILE,
    band_output,
)
from models.training import export
from models.training.export import Head, export_files, export_graph, float32_not_above, require
from schemas.errors import ArtifactError
from tests.models.synthetic import rows

COLUMNS = 20
BASE = {"verbosity": -1, "num_threads": 1, "num_leaves": 16, "seed": 1, "deterministic": True}


def fit(objective: str, x: NDArray[np.float32], y: NDArray[Any], **extra: Any) -> Any:
    parameters = {**BASE, "objective": objective, **extra}
    return lightgbm.train(parameters, lightgbm.Dataset(x, label=y), 30)


def outputs_of(model: bytes, x: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, {"x": x}), strict=True))


def run(churn: Head, spend: Head, x: NDArray[np.float32]) -> list[NDArray[np.float32]]:
    return list(
        outputs_of(export_graph({"p_churn": churn, "spend": spend}, x.shape[1]), x).values()
    )


@pytest.fixture(scope="module", params=["unknowns", "no unknowns"])
def boosters(request: pytest.FixtureRequest) -> tuple[Any, Any, Any, NDArray[np.float32]]:
    """Heads trained with and without NaN, which makes LightGBM choose another missing type."""
    x = np.concatenate([rows(3_000)[:, 70:80], rows(3_000)[:, -10:]], axis=1)
    x[:, 3] = np.random.default_rng(5).normal(0, 1, len(x))  # thresholds on both sides of 0
    if request.param == "no unknowns":
        x = np.nan_to_num(x)
    z = np.nan_to_num(x)
    churned = z[:, 0] + z[:, 12] + z[:, 3] > 7
    amount = np.abs(z[:, 1] * 3 + z[:, 13])
    return (
        fit("binary", x, churned),
        fit("tweedie", x, amount),
        fit("regression", x, amount - 5),
        x,
    )


def hostile(x: NDArray[np.float32], *boosters: Any) -> NDArray[np.float32]:
    """`x` again, with unknown values, zeros, extremes, and every threshold and its neighbours."""
    rng = np.random.default_rng(9)
    points = [np.float32(v) for v in (np.nan, 0.0, -0.0, np.inf, -np.inf, 3.4e38, -3.4e38, 1e-36)]
    for booster in boosters:
        frame = booster.trees_to_dataframe()["threshold"].dropna().unique()
        for threshold in np.clip(frame, -3e38, 3e38).astype(np.float32):
            points += [threshold, np.nextafter(threshold, -np.inf), np.nextafter(threshold, np.inf)]
    mixed = x.copy()
    swap = rng.random(x.shape) < 0.3
    mixed[swap] = rng.choice(np.array(points, dtype=np.float32), int(swap.sum()))
    return np.concatenate([x, mixed])


def test_the_graph_agrees_with_lightgbm(
    boosters: tuple[Any, Any, Any, NDArray[np.float32]],
) -> None:
    binary, tweedie, _, x = boosters
    churn, spend = Head(binary, "sigmoid", 1.2, -0.3), Head(tweedie, "exp", 1.0, 0.05)
    x = hostile(x, binary, tweedie)
    p, amount = run(churn, spend, x)

    np.testing.assert_allclose(p, churn.predict(x), rtol=1e-5)
    np.testing.assert_allclose(amount, spend.predict(x), rtol=1e-5)


def test_heads_compute_the_same_bits_in_files_of_their_own(
    boosters: tuple[Any, Any, Any, NDArray[np.float32]],
) -> None:
    binary, tweedie, _, x = boosters
    chances = ("p_churn", "p_buy_7d", "p_buy_30d", "p_partial")
    heads = {name: Head(binary, "sigmoid", 0.5 + i) for i, name in enumerate(chances)}
    heads["spend"] = Head(tweedie, "exp")
    for band in OTHERS:
        heads |= {band_output(band, name): heads[name] for name in (*OUTPUTS, *OUTLOOK)}
    files = export_files(heads, x.shape[1])
    x = hostile(x, binary, tweedie)
    together = outputs_of(export_graph(heads, x.shape[1]), x)

    assert set(files) == set(MODEL_FILES) - {CURVE_FILE, LONG_FILE}  # these have no trees
    for file, content in files.items():
        apart = outputs_of(content, x)
        assert tuple(apart) == MODEL_FILES[file]
        for name, values in apart.items():
            assert values.tobytes() == together[name].tobytes()
        trees = [n for n in onnx.load_from_string(content).graph.node if "Tree" in n.op_type]
        assert len(trees) == len(apart)  # it pays for no other head


def test_two_heads_make_one_file(boosters: tuple[Any, Any, Any, NDArray[np.float32]]) -> None:
    binary, tweedie, _, x = boosters
    heads = {"p_churn": Head(binary, "sigmoid"), "spend": Head(tweedie, "exp")}
    assert list(export_files(heads, x.shape[1])) == [SCORES_FILE]


@pytest.mark.parametrize("name", ["p_other", "p_buy_7d"])
def test_a_head_that_no_file_takes_is_the_callers_mistake(
    boosters: tuple[Any, Any, Any, NDArray[np.float32]], name: str
) -> None:
    binary, tweedie, _, x = boosters
    head = Head(binary, "sigmoid")
    with pytest.raises(ValueError, match=name):
        export_files({"p_churn": head, "spend": Head(tweedie, "exp"), name: head}, x.shape[1])


def test_a_linear_amount_is_cut_off_at_zero(
    boosters: tuple[Any, Any, Any, NDArray[np.float32]],
) -> None:
    binary, _, regression, x = boosters
    spend = Head(regression, "identity", 1.1, 0.2)
    _, amount = run(Head(binary, "sigmoid"), spend, x)

    assert (amount == 0).any()
    np.testing.assert_allclose(amount, spend.predict(x), rtol=1e-5, atol=1e-5)


def test_probabilities_stay_away_from_0_and_1(
    boosters: tuple[Any, Any, Any, NDArray[np.float32]],
) -> None:
    binary, tweedie, _, x = boosters
    p, _ = run(Head(binary, "sigmoid", 1e3), Head(tweedie, "exp"), x)

    assert p.min() == np.float32(1e-6)
    assert p.max() == np.float32(1 - 1e-6)


def test_a_tree_without_splits_is_a_constant() -> None:
    x = np.zeros((100, 3), np.float32)
    constant = fit("regression", x, np.full(100, 4.0))
    y = np.arange(100) % 2 == 0
    p, amount = run(Head(fit("binary", x, y), "sigmoid"), Head(constant, "identity"), x[:2])

    np.testing.assert_allclose(p, 0.5, rtol=1e-5)
    np.testing.assert_allclose(amount, 4.0, rtol=1e-5)


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ({"zero_as_missing": True}, "zero_as_missing"),
        ({"linear_tree": True}, "Linear trees"),
        ({"boosting": "rf", "bagging_freq": 1, "bagging_fraction": 0.5}, "Random forests"),
    ],
)
def test_what_the_graph_cannot_express_is_refused(extra: dict[str, Any], message: str) -> None:
    x = rows(500)[:, 80:90]
    y = np.nan_to_num(x[:, 0])
    head = Head(fit("regression", x, y, **extra), "identity")
    with pytest.raises(ArtifactError, match=message):
        export_graph({"p_churn": head}, x.shape[1])


def test_categorical_splits_are_refused() -> None:
    x = np.repeat(np.arange(10, dtype=np.float32), 100)[:, None]
    data = lightgbm.Dataset(x, label=x[:, 0] % 3, categorical_feature=[0])
    booster = lightgbm.train({**BASE, "objective": "regression"}, data, 3)
    with pytest.raises(ArtifactError, match="Categorical"):
        export_graph({"spend": Head(booster, "identity")}, 1)


@given(st.floats(allow_nan=False, allow_infinity=False), st.floats(width=32, allow_nan=False))
def test_a_rounded_threshold_splits_float32_as_the_original(threshold: float, x: float) -> None:
    assert (x <= float32_not_above(threshold)) == (x <= threshold)


def test_a_missing_training_library_says_how_to_install_it() -> None:
    with pytest.raises(ArtifactError, match=r"tideline\[train\]"):
        require("no_such_library")


def test_export_does_not_import_training_libraries_by_itself() -> None:
    assert not hasattr(export, "onnx")
    assert not hasattr(export, "lightgbm")
