"""Training needs little more memory than its rows take, and these take what their values need."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace
from pathlib import Path

import pytest

from models.manifest import Eligibility
from models.training.columns import FeatureColumns
from models.training.dataset import Dataset
from models.training.train import Summary, train
from schemas.features import FEATURE_NAMES
from tests.models.synthetic import HORIZON_DAYS, dataset

F = len(FEATURE_NAMES)


def by_column(data: Dataset) -> Dataset:
    columns = FeatureColumns(F, len(data.x))
    columns.add(data.x[:])
    return replace(data, x=columns)


def trained_on(data: Dataset, root: Path) -> Summary:
    return train(
        data,
        root=root,
        date="2026-11-22",
        horizon_days=HORIZON_DAYS,
        eligibility=Eligibility(min_orders=2, active_within_days=90),
        source="made-up users",
    )


def test_how_rows_are_held_does_not_change_a_bit_of_the_model(
    trained: Summary, tmp_path: Path
) -> None:
    again = trained_on(by_column(dataset()), tmp_path)
    assert again.version == trained.version
    for name in ("scores.onnx", "manifest.json", "MODEL_CARD.md"):
        assert again.path.read(name) == trained.path.read(name)


@pytest.mark.usefixtures("trained")  # so everything is imported
def test_what_a_row_takes_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside the features, and LightGBM's byte for each binned value, which is not seen here."""
    for name, few in {  # small beside the rows, as they are beside millions
        "binned._MANY_ROWS": 0, "binned._SAMPLED": 500, "binned._AT_ONCE": 512,
        "binned._NEAR": 64, "columns._PART": 512, "curve_fit.CURVE_ROWS": 1_000,
        "head.CURVE_ROWS": 1_000, "head.MOST_ROWS": 200, "season_fit.CURVE_ROWS": 1_000,
    }.items():  # fmt: skip
        monkeypatch.setattr(f"models.training.{name}", few)
    n = 12_000
    data = by_column(dataset(n))
    assert isinstance(data.x, FeatureColumns)
    assert data.x.nbytes < 2.1 * F * n  # nearly all of them are counts
    tracemalloc.start()
    try:
        trained_on(data, tmp_path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 400 * n, f"{peak / n:.0f} bytes a row"  # of float32 a copy would be 4 * F more
