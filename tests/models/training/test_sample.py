"""The rows that are drawn are the same whatever order they come in, and every stratum has some."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.training.sample import StratifiedSample, quotas, sampled

Rows = tuple[np.ndarray[Any, Any], np.ndarray[Any, Any], np.ndarray[Any, Any]]


@st.composite
def shops(draw: st.DrawFn) -> Rows:
    """Hashes (all different), weeks and labels of some hundred rows; weeks of very different size,
    labels of any share."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    weeks = draw(st.integers(1, 8))
    n = draw(st.integers(1, 400))
    week = 2_800 + np.minimum(rng.geometric(draw(st.floats(0.1, 0.9)), n), weeks) - 1
    label = (rng.random(n) < draw(st.sampled_from([0.01, 0.2, 0.5, 0.97]))).astype(np.int64)
    drawn = np.unique(rng.integers(0, 2**64, 2 * n, np.uint64))[:n]
    return rng.permutation(drawn), week.astype(np.int64), label


@given(shops(), st.integers(1, 500), st.integers(1, 60), st.integers(0, 2**32))
def test_neither_order_nor_pieces_change_which_rows_are_drawn(
    shop: Rows, rows: int, piece: int, seed: int
) -> None:
    drawn, week, label = shop
    whole = sampled(*shop, rows)
    order = np.random.default_rng(seed).permutation(len(drawn))
    sample = StratifiedSample(rows)
    for start in range(0, len(order), piece):
        at = order[start : start + piece]
        sample.add(drawn[at], week[at], label[at])
        assert sample.held <= 2 * (rows + 8) + rows + piece
    bounds = sample.bounds()
    again = [
        d <= bounds.get((w, y), -1)
        for d, w, y in zip(drawn.tolist(), week.tolist(), label.tolist(), strict=True)
    ]
    assert again == whole.tolist()
    assert len(sample) == whole.sum() == min(rows, len(drawn))


@given(shops(), st.integers(1, 500))
def test_each_week_gives_as_many_and_each_label_its_share(shop: Rows, rows: int) -> None:
    _, week, label = shop
    chosen = sampled(*shop, rows)
    there, given_ = Counter(week.tolist()), Counter(week[chosen].tolist())
    cut = [given_[w] for w in there if given_[w] < there[w]]
    assert not cut or max(given_.values()) <= min(cut) + 1  # nobody gives more than who was cut
    for w, total in there.items():
        for y in (0, 1):
            n = int(((week == w) & (label == y)).sum())
            k = int((chosen & (week == w) & (label == y)).sum())
            exact = n * given_[w] / total
            assert abs(k - exact) <= 1.0
            if n and given_[w] > 1:
                assert k > 0, "a label is lost"


@given(shops(), st.integers(1, 400), st.integers(1, 100))
def test_a_larger_sample_has_all_rows_of_a_smaller_one_but_for_rounding(
    shop: Rows, rows: int, more: int
) -> None:
    """What was drawn stays: lower hashes come first in each stratum."""
    small, large = sampled(*shop, rows), sampled(*shop, rows + more)
    strata = set(zip(shop[1].tolist(), shop[2].tolist(), strict=True))
    assert (small & ~large).sum() <= len(strata)


def test_within_a_week_the_chance_of_a_row_does_not_depend_on_its_label() -> None:
    """So what is fitted to the sample is calibrated without weights."""
    rng = np.random.default_rng(7)
    n = 100_000
    week, label = rng.integers(0, 10, n), (rng.random(n) < 0.03).astype(np.int64)
    chosen = sampled(rng.permutation(n).astype(np.uint64), week, label, 20_000)
    for w in range(10):
        here = week == w
        assert label[chosen & here].mean() == pytest.approx(label[here].mean(), abs=1 / 2_000)


def test_memory_is_bounded_by_the_rows_not_by_what_there_is() -> None:
    sample, rng = StratifiedSample(1_000), np.random.default_rng(3)
    most = 0
    for _ in range(200):
        drawn = rng.integers(0, 2**63, 5_000).astype(np.uint64)
        sample.add(drawn, rng.integers(0, 100, 5_000), rng.integers(0, 2, 5_000))
        most = max(most, sample.held)
    assert sum(sample.counts.values()) == 1_000_000
    assert most <= 2 * (1_000 + 100) + 1_000 + 5_000


def test_fewer_rows_than_weeks_are_fewer_weeks() -> None:
    assert quotas({(w, 0): 10 for w in range(5)}, 3) == {
        (0, 0): 0, (1, 0): 0, (2, 0): 1, (3, 0): 1, (4, 0): 1,
    }  # fmt: skip
    assert quotas({}, 3) == {}
    none = np.empty(0, np.int64)
    assert not sampled(none.astype(np.uint64), none, none, 3).any()
