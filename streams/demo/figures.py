"""Reads what the demo shows from ClickHouse: from the tables and views that everybody has."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from clickhouse_driver import Client

__all__ = ["Alert", "Figures", "GroupOffsets", "Ledger", "Promotion", "read_figures"]

_LEDGER = """
SELECT sum(accepted), sum(scored), sum(duplicates), sum(late), sum(dead_letters),
       min(balanced), min(newest_clock), count()
FROM ledger
"""
_ALERTS = "SELECT countIf(version = 1), countIf(version = 2) FROM alerts FINAL"
_NEWEST = """
SELECT raised_at, user_id, p_churn, priority, reasons
FROM alerts FINAL WHERE version = 1 ORDER BY raised_at DESC, priority DESC LIMIT %(limit)s
"""
_SEGMENTS = "SELECT dimension, segment, users FROM segment_sizes"
_COUNTS = """
SELECT (SELECT uniqExact(change_id) FROM segment_changes),
       (SELECT uniqExact(shard, ordinal) FROM matured_predictions)
"""
_PROMOTED = """
SELECT version, champion_version, judged_rows, why
FROM challengers WHERE state = 'promoted' ORDER BY decided_at
"""
_SCORED_BY = "SELECT count() FROM score_history WHERE champion_version IN %(versions)s"
# -1 is "no number": a partition that was never committed, or that the broker did not tell.
_LAG = """
SELECT consumer_group, sum(greatest(committed, 0)), sum(greatest(lag_records, 0)),
       countIf(lag_records < 0)
FROM consumer_lag_live GROUP BY consumer_group
"""


@dataclass(frozen=True)
class Ledger:
    """What became of the records, over all shards. `clock` is that of the shard furthest behind."""

    accepted: int = 0
    scored: int = 0
    duplicates: int = 0
    late: int = 0
    dead_letters: int = 0
    balanced: bool = False
    clock: datetime | None = None
    shards: int = 0


@dataclass(frozen=True)
class Alert:
    """One churn alert, as raised."""

    raised_at: datetime
    user_id: str
    p_churn: float
    priority: float
    """Spend at stake, in the shop's currency."""
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class Promotion:
    """A model that the trainer made and put into use."""

    version: str
    champion_version: str
    """Whom it replaced."""
    judged_rows: int
    why: str


@dataclass(frozen=True)
class GroupOffsets:
    """One consumer group in the lag monitor's newest look, over all its partitions."""

    committed: int
    lag_records: int
    unknown: int
    """Partitions without a number."""


@dataclass(frozen=True)
class Figures:
    """One look at the results."""

    ledger: Ledger = Ledger()
    alerts_opened: int = 0
    alerts_closed: int = 0
    newest_alerts: tuple[Alert, ...] = ()
    segments: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    """Dimension -> segment -> users."""
    segment_changes: int = 0
    matured: int = 0
    """Label questions whose answer is known, so examples for the learner."""
    lag: Mapping[str, GroupOffsets] = field(default_factory=dict)
    """By consumer group."""
    promotions: tuple[Promotion, ...] = ()
    """In turn."""
    scored_by_promoted: int = 0
    """Scores that promoted models gave."""

    @property
    def users(self) -> int:
        return max((sum(sizes.values()) for sizes in self.segments.values()), default=0)


def read_figures(client: Client, newest: int = 0) -> Figures:
    """All figures now, with the `newest` alerts. The client's errors pass through."""

    def rows(query: str, **values: Any) -> list[tuple[Any, ...]]:
        return list(client.execute(query, values or None))

    ((accepted, scored, duplicates, late, dead_letters, balanced, clock, shards),) = rows(_LEDGER)
    ((opened, closed),) = rows(_ALERTS)
    ((changes, matured),) = rows(_COUNTS)
    promoted = tuple(Promotion(*row) for row in rows(_PROMOTED))
    segments: dict[str, dict[str, int]] = {}
    for dimension, segment, users in rows(_SEGMENTS):
        segments.setdefault(dimension, {})[segment] = users
    return Figures(
        ledger=Ledger(
            accepted,
            scored,
            duplicates,
            late,
            dead_letters,
            bool(balanced),
            clock if shards else None,
            shards,
        ),
        alerts_opened=opened,
        alerts_closed=closed,
        newest_alerts=tuple(
            Alert(at, user, p, priority, tuple(reasons))
            for at, user, p, priority, reasons in (rows(_NEWEST, limit=newest) if newest else ())
        ),
        segments=segments,
        segment_changes=changes,
        matured=matured,
        lag={group: GroupOffsets(*numbers) for group, *numbers in rows(_LAG)},
        promotions=promoted,
        scored_by_promoted=(
            rows(_SCORED_BY, versions=tuple(p.version for p in promoted))[0][0] if promoted else 0
        ),
    )
