"""How many labels have become known, when, and what drift was noticed: small answers, so that a
process may ask often. A row that was written twice may count twice until ClickHouse merges it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from streams.clickhouse.client import ClickHouseTarget, connect
from streams.clickhouse.errors import sink_error

__all__ = ["LabelCounts", "read_label_counts"]

# A label that became known at midnight belongs to the day before, which it completes.
_DAYS: Final = (
    "SELECT intDiv(toUnixTimestamp64Milli(matured_at) - 1, 86400000) AS day, count() "
    "FROM examples WHERE horizon_days = %(horizon_days)s "
    "AND lifetime_orders >= %(min_orders)s GROUP BY day"
)
_SHARDS: Final = (
    "SELECT shard, toUnixTimestamp64Milli(max(matured_at)) "
    "FROM examples WHERE horizon_days = %(horizon_days)s GROUP BY shard"
)
# What the alarm says of these is that the champion no longer fits. A feature that has changed may
# as well be a producer's mistake, which nobody should learn.
_DRIFT: Final = (
    "SELECT toUnixTimestamp64Milli(max(detected_at)) FROM model_drift "
    "WHERE kind = 'rate' OR (kind = 'loss' AND direction = 'up')"
)
QUERIES: Final = (_DAYS, _SHARDS, _DRIFT)
"""All that is asked."""


@dataclass(frozen=True)
class LabelCounts:
    """Labels of one horizon. matured: by day since 1970; newest_ms: of each shard; drift_ms: when
    the newest drift was noticed that means another champion, 0 if none was."""

    matured: Mapping[int, int]
    newest_ms: Mapping[int, int]
    drift_ms: int


def read_label_counts(target: ClickHouseTarget, horizon_days: int, min_orders: int) -> LabelCounts:
    """What there is now; `matured` of customers with so many orders when they were asked about.
    Raises SinkUnavailable, SinkRefused."""
    client = connect(target)

    def rows(query: str) -> list[tuple[Any, ...]]:
        return list(client.execute(query, {"horizon_days": horizon_days, "min_orders": min_orders}))

    try:
        return LabelCounts(
            {int(day): int(count) for day, count in rows(_DAYS)},
            {int(shard): int(newest) for shard, newest in rows(_SHARDS)},
            int(rows(_DRIFT)[0][0]),
        )
    except Exception as error:
        raise sink_error(error, "counting labels", target) from error
    finally:
        client.disconnect()
