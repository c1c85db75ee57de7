"""What the demo replays: real orders, and simulated browsing around them.

The orders name their shoppers; nobody sells a clickstream that does. So browsing is simulated, and
so are visitors who look and never buy. Every simulated event says `simulated: true`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from streams.replay import completejourney
from streams.replay.browsing import with_browsing
from streams.replay.records import Source

__all__ = ["NOTICE", "DemoSource", "demo_source"]

NOTICE: Final = "Orders are real (84.51° Complete Journey). Browsing and visitors are SIMULATED."
BROWSE_RATE: Final = 4.0  # events per order
VISITORS: Final = 0.01  # per order
_DAY_MS: Final = 86_400_000


@dataclass(frozen=True)
class DemoSource:
    """A source of records, and the span of event time that it covers."""

    records: Source
    start_ms: int
    stop_ms: int


def demo_source(days: tuple[int, int]) -> DemoSource:
    """The demo's records of days [from, to) since 2017-01-01. Raises SettingsError."""
    orders = completejourney.orders(days)
    first = completejourney.FIRST_DAY_MS
    return DemoSource(
        with_browsing(orders, BROWSE_RATE, visitors=VISITORS),
        first + days[0] * _DAY_MS,
        # Never later than the data: a bar that stops short of its end looks like a failure.
        min(first + days[1] * _DAY_MS, int(orders.ts_ms[-1]) + 1) if len(orders.ts_ms) else first,
    )
