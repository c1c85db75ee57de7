"""What segments would have been on an order history: who entered and left, day by day."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field

from models.champion import Champion
from schemas.definitions import Definitions
from schemas.segments import DIMENSIONS
from streams.core.config import CoreConfig
from streams.core.events.records import Records
from streams.core.features import DAY_MS
from streams.core.state.totals import MEMBER
from streams.core.step import Outputs
from streams.evaluation.shard import ReplayedShard

__all__ = ["Tried", "TriedSegment", "try_on"]


@dataclass
class TriedSegment:
    """One segment over a history. Days count from 1970 UTC."""

    members: set[str] = field(default_factory=set)
    """At the end."""
    entered: dict[int, int] = field(default_factory=lambda: defaultdict(int))
    """Day -> entries."""
    left: dict[int, int] = field(default_factory=lambda: defaultdict(int))
    sizes: dict[int, int] = field(default_factory=dict)
    """Day -> members at its end."""


@dataclass
class Tried:
    """All segments of the definitions over a history."""

    first_day: int
    last_day: int
    customers: int
    segments: dict[str, TriedSegment]


def try_on(
    records: Records,
    config: CoreConfig,
    champion: Champion,
    horizon_days: int,
    definitions: Definitions,
    progress: Callable[[float], object],
    batch_records: int = 500,
) -> Tried:
    """Let a history unfold in a shard, by the event clock and with this champion, which may have
    learned from the same time; and write down who enters and leaves.

    records: orders in time order, one at least. `progress` gets shares from 0 to 1.
    """
    today = int(records.timestamps_ms[0]) // DAY_MS  # the sweep at its end belongs to it
    found = {each.name: TriedSegment() for each in definitions.segments}

    def heard(outputs: Outputs) -> None:
        changes = outputs.tables.get("segment_changes")
        if changes is None:
            return
        rows = zip(changes["dimension"], changes["to_segment"], changes["user_id"], strict=True)
        for dimension, state, user in rows:
            if dimension in DIMENSIONS:
                continue
            segment = found[dimension]
            if state == MEMBER:
                segment.members.add(user)
                segment.entered[today] += 1
            else:
                segment.members.discard(user)
                segment.left[today] += 1

    shard = ReplayedShard(
        records, config, horizon_days, batch_records, definitions, heard, forecasts=True
    )
    shard.promote(champion)
    first_day, last_day = today, int(records.timestamps_ms[-1]) // DAY_MS
    for today in range(first_day, last_day + 1):
        shard.run_until((today + 1) * DAY_MS)
        for segment in found.values():
            segment.sizes[today] = len(segment.members)
        progress((today + 1 - first_day) / (last_day + 1 - first_day))
    return Tried(first_day, last_day, shard.state.known, found)
