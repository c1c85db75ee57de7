"""A sample has about the wanted size, enough of what is rare, and the same rows every time."""

from __future__ import annotations

import numpy as np
import pytest

from models.training.dataset import Dataset
from models.training.sampling import shares, uniform
from tests.models.synthetic import dataset


@pytest.mark.parametrize(
    "counts", [[1_000], [900, 100], [990, 10], [10_000, 9_999], [999, 1, 0], [500] * 7]
)
@pytest.mark.parametrize("most", [50, 1_000, 10**9])
def test_a_sample_is_about_as_large_as_wanted(counts: list[int], most: int) -> None:
    there = np.array(counts)
    share = shares(there, most)
    assert ((share >= 0.0) & (share <= 1.0)).all()
    assert (there * share).sum() == pytest.approx(min(most, there.sum()), abs=1.0)


def test_a_rare_kind_is_a_quarter_of_two_as_far_as_it_goes() -> None:
    assert (np.array([100_000, 2_000]) * shares(np.array([100_000, 2_000]), 4_000)).tolist() == (
        pytest.approx([3_000, 1_000])
    )
    assert shares(np.array([100_000, 300]), 4_000)[1] == 1.0


def test_numbers_are_even_and_differ_from_week_to_week() -> None:
    keys = np.arange(20_000, dtype=np.uint64)
    weeks = [uniform(keys, 1_600_000_000_000 + week * 7 * 86_400_000) for week in range(8)]
    for week in weeks:
        counts, _ = np.histogram(week, 10, (0.0, 1.0))
        assert abs(counts - 2_000).max() < 5 * np.sqrt(2_000)
    correlation = np.corrcoef(weeks) - np.eye(8)
    assert abs(correlation).max() < 5 / np.sqrt(20_000)
    np.testing.assert_array_equal(weeks[3], uniform(keys, 1_600_000_000_000 + 21 * 86_400_000))


def test_weighted_rows_are_spread_over_what_they_stand_for() -> None:
    plain = dataset(1_000)
    weight = np.where(plain.churned, 1.0, 9.0).astype(np.float32)
    data = Dataset(
        plain.x, plain.churned, plain.spend, plain.as_of_ms, plain.user, plain.more, weight
    )
    chosen = data.churned[data.spread(np.ones(1_000, np.bool_), 800)]
    assert chosen.mean() == pytest.approx(weight[data.churned].sum() / weight.sum(), abs=0.03)
    halves = data.take(np.arange(0, 1_000, 2))
    assert halves.weight is not None
    assert len(halves.weight) == 500
