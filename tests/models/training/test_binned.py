"""Heads share binned rows, and their trees are those of rows that were binned for each."""

from __future__ import annotations

import threading
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import lightgbm
import numpy as np
import pytest

from models.training.binned import Binned
from models.training.columns import FeatureColumns, Features
from tests.models.synthetic import F, dataset

PARAMETERS = {
    "objective": "binary", "num_leaves": 8, "seed": 7, "deterministic": True,
    "force_row_wise": True, "num_threads": 1, "verbosity": -1,
}  # fmt: skip
HIDDEN = np.array([3, 90])
RUNS = np.repeat([True, False, True], 2_000)
SCATTERED = np.random.default_rng(5).random(6_000) < 0.5


def trees(made: Any) -> str:
    text: str = lightgbm.train(PARAMETERS, made, 5).model_to_string()
    return text.split("parameters:", maxsplit=1)[0]


@pytest.mark.parametrize("rows", [RUNS, SCATTERED, np.ones(6_000, np.bool_)])
def test_trees_are_those_of_a_copy_of_the_rows(rows: np.ndarray[Any, np.dtype[np.bool_]]) -> None:
    data = dataset()
    before = data.x[:].copy()
    binned = Binned(data, HIDDEN, PARAMETERS)
    for label in (data.churned, data.spend > 20.0):
        y = label.astype(np.float32)
        x = data.x[rows]
        x[:, HIDDEN] = np.nan
        expected = trees(lightgbm.Dataset(x, label=y[rows], params=PARAMETERS))
        assert trees(binned.of(rows, y)) == expected
    np.testing.assert_array_equal(data.x, before)


def test_rows_are_binned_once() -> None:
    data = dataset()
    y = data.churned.astype(np.float32)
    binned = Binned(data, HIDDEN, PARAMETERS)
    first = binned.of(RUNS, y)
    assert binned.of(RUNS.copy(), 1.0 - y) is first
    assert first.get_label().tolist() == (1.0 - y[RUNS]).tolist()
    other = binned.of(~RUNS, y)
    assert other is not first
    assert other.num_feature() == F
    binned.forget()
    assert binned.of(RUNS, y) is not first


def test_a_part_of_binned_rows_is_not_read_again() -> None:
    data, part = dataset(), RUNS & SCATTERED
    y = data.churned.astype(np.float32)
    apart, binned = Binned(data, HIDDEN, PARAMETERS), Binned(data, HIDDEN, PARAMETERS)
    whole, again = apart.of(RUNS, y), binned.of(RUNS, y)
    x = data.x[part]
    x[:, HIDDEN] = np.nan
    expected = trees(lightgbm.Dataset(x, label=y[part], reference=whole, params=PARAMETERS))
    data.x[:][:] = 0.0
    assert trees(binned.of(part, y)) == expected
    assert trees(binned.of(RUNS, y)) == trees(again)


def test_nothing_is_written_where_results_are(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """In a thread new to it LightGBM warns of a small sample before it reads `verbosity`."""
    monkeypatch.setattr("models.training.binned._MANY_ROWS", 500_000)
    rng = np.random.default_rng(3)
    data: Any = SimpleNamespace(x=rng.random((600_000, 5), np.float32))
    rows = rng.random(600_000) < 0.9
    binned = Binned(data, np.array([4]), PARAMETERS)
    thread = threading.Thread(target=binned.of, args=(rows, data.x[:, 0]))
    thread.start()
    thread.join()
    assert capfd.readouterr().out == ""


def test_hidden_columns_come_back_when_binning_fails() -> None:
    data = dataset()
    before = data.x[:].copy()
    with pytest.raises(lightgbm.basic.LightGBMError):
        Binned(data, HIDDEN, PARAMETERS | {"max_bin": 1}).of(RUNS, data.spend)
    np.testing.assert_array_equal(data.x, before)


def test_an_array_in_long_runs_has_the_bins_of_an_array() -> None:
    """Not those of a sequence, of which LightGBM keeps features that no leaf can be split by."""
    data = dataset()
    x, y = data.x[:].copy(), data.churned.astype(np.float32)
    x[:, 40] = 0.0
    x[:30, 40] = 1.0
    parameters = PARAMETERS | {"min_data_in_leaf": 100}

    def features(held: Features) -> str:
        binned = Binned(replace(data, x=held), HIDDEN, parameters)
        model: str = lightgbm.train(parameters, binned.of(RUNS, y), 1).model_to_string()
        return model.split("feature_infos=")[1].split(" ")[40]

    columns = FeatureColumns(F, len(x))
    columns.add(x)
    assert features(x) == "none"
    assert features(columns) == "[0:1]"
