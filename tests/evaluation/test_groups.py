"""Figures by group, on rows that are written down."""

from __future__ import annotations

import numpy as np
import pytest

from schemas.features import FEATURE_NAMES
from streams.core.features import DAY_MS
from streams.evaluation.groups import by_group
from streams.evaluation.measure import Task
from streams.evaluation.protocol import Labels, Protocol
from streams.evaluation.rows import CutRows

USERS = 40
CUTS = [100 * DAY_MS, 107 * DAY_MS]


def made(orders: list[int]) -> tuple[list[CutRows], Protocol, dict[str, Task]]:
    """Two cuts of 40 customers; the later the customer, the more they spend."""
    user = np.arange(USERS)
    x = np.zeros((USERS, len(FEATURE_NAMES)), np.float32)
    x[:, FEATURE_NAMES.index("lifetime_orders")] = np.resize(orders, USERS)
    no = np.zeros(USERS, np.bool_)
    cuts = [CutRows(ms, user, x, Labels(no, no, np.zeros(USERS), no, no)) for ms in CUTS]
    protocol = Protocol(28, 1, 84, CUTS, CUTS[0], CUTS[-1] + 28 * DAY_MS)
    spend = np.tile(user + 1.0, 2)
    cut_ms = np.repeat(CUTS, USERS)
    churned = np.tile(user % 4 == 0, 2)
    who = np.tile(user, 2)
    return (
        cuts,
        protocol,
        {
            "churn": Task(
                "churn", "churn_28d", churned, who, cut_ms, {"blend": churned * 0.5 + 0.1}
            ),
            "value": Task("value", "value_28d", spend, who, cut_ms, {"blend": 2.0 * spend}),
        },
    )


def test_groups_are_by_orders_so_far() -> None:
    found = by_group(*made([1, 2, 4, 20]))["orders"]
    assert list(found) == ["1", "2", "3 to 5", "6 to 20"]
    assert found["1"]["n"] == 2 * USERS // 4
    assert found["1"]["customers"] == USERS // 4
    assert found["1"]["rate"] == 1.0
    assert found["2"]["rate"] == 0.0
    assert found["2"]["predicted"] == pytest.approx(0.1)
    assert found["1"]["auc"] is None  # all of them left


def test_tiers_are_of_each_cut() -> None:
    found = by_group(*made([21]))
    assert list(found["orders"]) == ["21 or more"]
    tiers = found["value_tier"]
    assert [tiers[name]["n"] for name in ("high", "medium", "low")] == [8, 24, 48]
    assert tiers["high"]["spend"] == np.mean([37, 38, 39, 40])
    assert tiers["high"]["bias"] == pytest.approx(2.0)
    assert tiers["high"]["auc"] == 1.0
