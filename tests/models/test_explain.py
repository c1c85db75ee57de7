"""Reasons name what moved the score, in words a marketer reads."""

from __future__ import annotations

import math

import numpy as np
import pytest

from models.champion import Champion
from models.explain import concepts, reason_words, reasons
from models.words import words
from schemas.features import FEATURE_NAMES, FEATURES
from tests.models.synthetic import at, rows

NAN = math.nan


def test_every_feature_belongs_to_one_concept() -> None:
    members = sorted(index for group in concepts().values() for index in group)
    assert members == list(range(len(FEATURES)))


def test_windows_of_one_measure_are_one_concept() -> None:
    orders = {FEATURE_NAMES[index] for index in concepts()["orders"]}
    assert {"orders_1h", "orders_90d", "orders_decayed_7d", "lifetime_orders"} <= orders


def test_a_typical_customer_has_no_reasons(champion: Champion) -> None:
    typical = champion.manifest.typical.median_array()
    assert reasons(champion, typical[None, :]) == [[]]


def test_long_silence_is_the_first_reason(champion: Champion) -> None:
    x = champion.manifest.typical.median_array()[None, :].copy()
    x[0, at("days_since_order")] = 200.0
    [[first, *_]] = reasons(champion, x)

    assert FEATURE_NAMES[first.feature] == "days_since_order"
    assert first.delta > 0.1
    assert reason_words(first).startswith("no order for 200 days (typically ")


def test_deltas_are_what_occlusion_says(champion: Champion) -> None:
    x = rows(20, seed=30)
    typical = champion.manifest.typical.median_array()
    groups = [np.array(group) for group in concepts().values()]
    for row, found in zip(x, reasons(champion, x), strict=True):
        for reason in found:
            group = next(g for g in groups if reason.feature in g)
            without = row.copy()
            without[group] = typical[group]
            p = champion.score(np.stack([row, without]))[0].astype(float)
            assert reason.delta == pytest.approx(p[0] - p[1], abs=1e-9)


def test_at_most_top_reasons_the_strongest_first(champion: Champion) -> None:
    found = reasons(champion, rows(50, seed=31), top=4)

    assert max(map(len, found)) == 4
    for row in found:
        strengths = [abs(reason.delta) for reason in row]
        assert strengths == sorted(strengths, reverse=True)
        assert min(strengths, default=1.0) >= 0.005


def test_reasons_do_not_depend_on_the_other_rows(champion: Champion) -> None:
    x = rows(10, seed=32)
    assert str(reasons(champion, x)) == str([reasons(champion, row[None, :])[0] for row in x])


@pytest.mark.parametrize(
    ("name", "value", "typical", "said"),
    [
        ("days_since_order", 1.2, 9.0, "no order for 1 day (typically 9)"),
        ("days_since_order", NAN, 9.0, "no order yet (typically 9 days ago)"),
        ("days_since_view", 30.0, NAN, "no product view for 30 days (typically never)"),
        ("days_since_activity", 12.0, 2.0, "no activity for 12 days (typically 2)"),
        ("days_since_cart_add", 0.1, 4.0,
         "last cart addition less than a day ago (typically 4 days)"),
        ("coupon_orders_90d", 1.0, 0.0, "1 order with a coupon in the last 90d (typically 0)"),
        ("lifetime_orders", 2.0, 11.0, "2 orders ever (typically 11)"),
        ("rating_mean_90d", 1.5, NAN, "average rating in the last 90d 1.5 (typically unknown)"),
        ("discount_share_30d", 0.25, 0.0, "discount share in the last 30d 25% (typically 0%)"),
        ("mean_order_value", 1234.5, 40.0, "average order value 1,234.50 (typically 40.00)"),
        ("gap_std_days", 3.25, 2.0,
         "spread of the gaps between the last 8 orders 3.2 (typically 2)"),
        ("orders_decayed_7d", 0.25, 1.5, "recent orders (half-life 7 days) 0.2 (typically 1.5)"),
    ],
)  # fmt: skip
def test_words(name: str, value: float, typical: float, said: str) -> None:
    assert words(at(name), value, typical) == said


@pytest.mark.parametrize("value", [0.0, 1.0, 2.5, 1e6, NAN])
@pytest.mark.parametrize("typical", [0.0, 3.0, NAN])
def test_every_feature_can_be_said(value: float, typical: float) -> None:
    for index, feature in enumerate(FEATURES):
        said = words(index, value, typical)
        assert said
        assert "nan" not in said.split(), feature.name
        assert "_" not in said
