"""The tiers and stages that ship are those of `streams/core/segments.py`, customer by customer."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from schemas.segments import LIFECYCLE, VALUE_TIERS
from streams.campaigns import standard
from streams.core.segments import HIGH_SHARE, LIVE_MS, MEDIUM_SHARE
from streams.rules.definitions import rules_of
from tests.rules.columns import Columns

DAY_MS = 86_400_000


def codes(dimension: str, names: tuple[str, ...], columns: Columns, none: int) -> list[int]:
    """The place of the first case that is true, of each user."""
    rules = rules_of(standard(), "EUR")
    found = np.full(columns.size, none)
    for at, case in reversed(list(enumerate(getattr(standard(), dimension)))):
        true = rules.evaluate_one(f"{dimension}.{at}", columns).true
        found[true] = names.index(case.name)
    return found.tolist()


def shares_with_no_more(values: NDArray[Any], live: NDArray[np.bool_]) -> list[float]:
    """`rank`: the share of live customers who have no more."""
    of = values[live & ~np.isnan(values)]
    return [np.nan if np.isnan(value) else float(np.mean(of <= value)) for value in values]


@pytest.mark.parametrize("seed", range(5))
def test_they_are_those_of_the_code(seed: int) -> None:
    random = np.random.default_rng(seed)
    users = 2_000
    orders = random.poisson(1.5, users).astype(float)
    days = np.where(orders > 0, random.choice([0.5, 30.0, 89.999, 90.0, 200.0], users), np.nan)
    spend = random.permutation(np.arange(1.0, users + 1))  # all different: a bin is one customer
    spend[random.random(users) < 0.2] = np.nan
    at_risk = random.random(users) < 0.2
    live = (orders > 0) & (days * DAY_MS < LIVE_MS)
    columns = Columns({
        "orders": orders.tolist(), "days_since_order": days.tolist(),
        "expected_spend": spend.tolist(), "alert_open": at_risk.tolist(),
        "rank expected_spend": shares_with_no_more(spend, live),
    })  # fmt: skip

    # as update_segments has it
    lifecycle = np.full(users, LIFECYCLE.index("active"))
    lifecycle[orders == 1] = LIFECYCLE.index("new")
    lifecycle[at_risk] = LIFECYCLE.index("at_risk")
    lifecycle[~live] = LIFECYCLE.index("lapsed")
    lifecycle[orders == 0] = LIFECYCLE.index("visitor")
    assert codes("lifecycle", LIFECYCLE, columns, -1) == lifecycle.tolist()

    scored = ~np.isnan(spend) & (orders > 0)
    among = np.sort(spend[live & scored])
    tier = np.full(users, VALUE_TIERS.index("low"))
    for share, name in ((MEDIUM_SHARE, "medium"), (HIGH_SHARE, "high")):
        # as cut_tiers: at most this share is above the cut
        cut = among[np.argmax(len(among) - np.arange(1, len(among) + 1) <= share * len(among))]
        tier[spend > cut] = VALUE_TIERS.index(name)
    tier[~scored] = VALUE_TIERS.index("none")
    differ = np.flatnonzero(codes("value_tier", VALUE_TIERS, columns, 0) != tier)
    # only where the share has no whole number of customers, and then the one at the cut
    assert len(differ) <= 2
