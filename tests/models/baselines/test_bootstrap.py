"""The interval draws users, and covers as often as it says."""

from __future__ import annotations

import math

import numpy as np
import pytest

from models.baselines.bootstrap import auc_interval
from models.baselines.metrics import auc


def panel(users: int, rows: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A user's rows share both the user's risk and the score's error."""
    rng = np.random.default_rng(seed)
    risk, error = rng.normal(0, 1.5, users), rng.normal(0, 1, users)
    user = np.repeat(np.arange(users), rows)
    y = rng.random(users * rows) < 1 / (1 + np.exp(-risk[user]))
    return y, risk[user] + error[user], user


def test_the_estimate_lies_inside() -> None:
    y, p, user = panel(300, 5, 0)
    low, high = auc_interval(y, p, user)
    assert low < auc(y, p) < high


def test_rows_of_one_user_are_no_new_evidence() -> None:
    y, p, user = panel(200, 20, 1)
    by_user = np.subtract(*auc_interval(y, p, user)[::-1])
    by_row = np.subtract(*auc_interval(y, p, np.arange(len(y)))[::-1])
    assert by_user > 1.5 * by_row


def test_it_covers_the_truth_about_as_often_as_it_says() -> None:
    truth = np.mean([auc(*panel(4_000, 5, 1_000 + s)[:2]) for s in range(5)])
    hits = 0
    for seed in range(40):
        y, p, user = panel(250, 5, seed)
        low, high = auc_interval(y, p, user, draws=100, seed=seed)
        hits += bool(low <= truth <= high)
    assert hits >= 33  # 38 expected; fewer than 33 has a chance of 0.4 %


def test_ties_count_half() -> None:
    y = np.array([True, False] * 50)
    low, high = auc_interval(y, np.zeros(100), np.arange(100), draws=20)
    assert (low, high) == pytest.approx((0.5, 0.5))


def test_one_class_has_no_interval() -> None:
    low, _ = auc_interval(np.ones(4, bool), np.arange(4.0), np.arange(4))
    assert math.isnan(low)
