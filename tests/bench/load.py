"""The events that everything is measured with: two shapes of load, and a history for every user.

The history is three orders of each user within the last weeks. So every user with an event has
enough data, and is scored by the champion and the learner: no event is spared that work. Without a
history a shop counts as too young, nobody is scored, and a benchmark measures half of the job.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from streams.core.events.records import SOURCES, Records
from streams.replay.records import CLICKSTREAM, ORDERS, Block, records
from streams.replay.synthetic import Synthetic
from streams.replay.templates import Templates

__all__ = ["SHAPES", "UNIFORM", "ZIPF", "History", "Shape", "columns"]

DAY_MS: Final = 86_400_000
HOUR_MS: Final = 3_600_000
ORDER_SHARE: Final = 0.05
HISTORY_DAYS: Final = 20.0
HISTORY_GAP_DAYS: Final = 1.0  # between the history's last order and the load
_BLOCK: Final = 20_000


@dataclass(frozen=True)
class Shape:
    """How a load spreads over users. `source` and `history` of the same shape share their users."""

    name: str
    users: int
    skew: float
    session_events: float
    label: str

    def source(self, events: int, end_ms: int, *, seed: int = 1, span_ms: int = HOUR_MS) -> Any:
        """`events` records of the time from `end_ms - span_ms` to `end_ms`, evenly."""
        return Synthetic(
            users=self.users, events=events, order_share=ORDER_SHARE, skew=self.skew,
            session_events=self.session_events, seed=seed, start_ms=end_ms - span_ms,
            span_days=span_ms / DAY_MS,
        )  # fmt: skip

    def history(self, end_ms: int) -> History:
        """Three orders of every user, that end a day before the load that ends at `end_ms`."""
        return History(self.users, end_ms - int(HISTORY_GAP_DAYS * DAY_MS))


ZIPF: Final = Shape(
    "zipf", 200_000, 1.1, 8.0, "200,000 users, Zipf 1.1, in bursts of 8 events on average"
)
UNIFORM: Final = Shape("uniform", 200_000, 0.0, 1.0, "200,000 users, drawn uniformly")
SHAPES: Final = {shape.name: shape for shape in (ZIPF, UNIFORM)}


@dataclass(frozen=True)
class History:
    """A `streams.replay.records.Source`: every user orders three times, in other turns."""

    users: int
    end_ms: int
    days: float = HISTORY_DAYS
    seed: int = 0x415
    rounds: int = 3

    @property
    def expected_records(self) -> int:
        return self.rounds * self.users

    def summary(self) -> dict[str, Any]:
        return {"source": "history", "users": self.users, "records": self.expected_records}

    def __iter__(self) -> Iterator[Block]:
        rng = np.random.default_rng(self.seed)
        templates = Templates(self.seed, rng)
        total = self.expected_records
        drawn = np.concatenate([rng.permutation(self.users) for _ in range(self.rounds)])
        start_ms = self.end_ms - int(self.days * DAY_MS)
        ts_ms = start_ms + (np.arange(total) * (self.days * DAY_MS / total)).astype(np.int64)
        for at in range(0, total, _BLOCK):
            keys = templates.keys(drawn[at : at + _BLOCK])
            times = ts_ms[at : at + _BLOCK].tolist()
            # a multiple of 25 would be a return of what was bought before
            values = [
                templates.order(at + i + (at + i) // 24 + 1, key, ts)
                for i, (key, ts) in enumerate(zip(keys, times, strict=True))
            ]
            yield records([ORDERS] * len(keys), keys, values, times)


def columns(block: Block, starts: tuple[int, int] | list[int]) -> list[Records]:
    """A block as the core takes it: the clickstream records and the orders, from offsets on."""
    found = []
    for source in SOURCES:
        mine = [r for r in block if (r.topic_kind == CLICKSTREAM) == (source == 0)]
        found.append(
            Records.of(
                np.arange(starts[source], starts[source] + len(mine), dtype=np.int64),
                np.array([r.timestamp_ms for r in mine], np.int64),
                [r.key for r in mine],
                [r.value for r in mine],
            )
        )
    return found
