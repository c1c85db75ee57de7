"""A made-up shop whose law depends on clicks: who browses buys, and who stops browsing leaves.

Each customer is keen or not, for about 60 days at a time. Keen ones view a page or two a day and
order every twelve days or so; the others view nothing, and order every four months. So an
order of last week says little about who has stopped browsing since, and clicks say all there is.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from streams.core.texts import TableRows
from tests.core.driving import T0, Driver, SilenceScorer, click, config, order
from tests.core.oracle import DAY_MS

__all__ = ["HORIZON_DAYS", "run"]

HORIZON_DAYS = 28
STAYS_DAYS = 60
KEEN_ORDERS, OTHER_ORDERS = 1 / 12, 1 / 120  # a day
VIEWS = 1.5  # a day


def run(users: int, days: int, seed: int = 0) -> tuple[Driver, list[Mapping[str, TableRows]]]:
    """The shop's days through one shard: the driver, and each step's tables."""
    rng = np.random.default_rng(seed)
    driver = Driver(config(), SilenceScorer(HORIZON_DAYS))
    keen = rng.random(users) < 0.5
    for day in range(days):
        start_ms = T0 + day * DAY_MS
        keen ^= rng.random(users) < 1 / STAYS_DAYS
        views = rng.poisson(VIEWS * keen)
        buys = rng.random(users) < np.where(keen, KEEN_ORDERS, OTHER_ORDERS)
        within = np.sort(rng.integers(1, DAY_MS - 1, int(views.sum())))
        clicks = [
            click(f"u{user}", start_ms + int(ms))
            for user, ms in zip(rng.permutation(np.repeat(np.arange(users), views)), within,
                                strict=True)
        ]  # fmt: skip
        times = np.sort(rng.integers(1, DAY_MS - 1, int(buys.sum())))
        orders = [
            order(f"u{user}", start_ms + int(ms), round(float(rng.lognormal(3.0, 0.5)), 2))
            for user, ms in zip(np.flatnonzero(buys), times, strict=True)
        ]
        driver.feed(clicks, orders, clock_ms=start_ms + DAY_MS - 1)
        driver.sweep(start_ms + DAY_MS)
    return driver, [outputs.tables for outputs in driver.outputs]
