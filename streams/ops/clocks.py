"""Whether clocks agree: producers' with the workers', and the workers' with ClickHouse's.

ClickHouse stamps every row as it arrives. A batch's clock is its worker's, so a batch can't be from
after its row arrived; and its row arrives within seconds, unless ClickHouse was away.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from streams.core.health import Verdict

__all__ = ["FAST_QUERY", "WORKERS_QUERY", "Fast", "Worker", "producers", "workers"]

FAST_QUERY: Final = (
    "SELECT topic, partition, events, offset, customer, ahead_seconds FROM fast_producers "
    "ORDER BY topic, partition"
)
"""The columns of `Fast`: what was refused within a day."""
WORKERS_QUERY: Final = "SELECT shard, lead_seconds FROM worker_clocks ORDER BY shard"
"""The columns of `Worker`: of the batches that arrived within an hour."""


@dataclass(frozen=True)
class Fast:
    """Events of one partition that were refused as being from the future."""

    topic: str
    partition: int
    events: int
    offset: int
    """Of the one whose record was stamped furthest ahead."""
    customer: str
    """A hash of its key."""
    ahead_seconds: int
    """Of its record's time, when it arrived in ClickHouse; not positive: the record's time was
    right, and the event's alone is not."""


@dataclass(frozen=True)
class Worker:
    """How far the newest batches of a shard are ahead of ClickHouse's clock (negative: behind)."""

    shard: int
    lead_seconds: int


def producers(found: Iterable[Fast], max_future_seconds: float) -> Iterator[Verdict]:
    """A warning for each partition with events from the future; one verdict if there are none."""
    letters = list(found)
    for each in letters:
        what = (
            f"a producer's clock is {each.ahead_seconds:,} s fast"
            if each.ahead_seconds > 0
            else f"events are over {max_future_seconds:,.0f} s ahead of their own records"
        )
        yield Verdict(
            "clocks",
            "warn",
            f"{each.topic}/{each.partition}: {what}; {each.events:,} events were refused within a "
            f"day, for example offset {each.offset} of customer {each.customer}",
            "Set that machine's clock (by NTP), or the producer's `ts`; `tideline dlq list --each "
            "--reason future_timestamp` lists them",
        )
    if not letters:
        yield Verdict("clocks", "ok", "no event was from the future within a day")


def workers(found: Iterable[Worker], max_future_seconds: float) -> Iterator[Verdict]:
    """A failure for each shard whose clock is not ClickHouse's; one verdict if all are."""
    shards = list(found)
    wrong = [each for each in shards if abs(each.lead_seconds) > max_future_seconds]
    for each in wrong:
        ahead = each.lead_seconds > 0
        yield Verdict(
            "clocks",
            "fail" if ahead else "warn",
            f"shard {each.shard}: its clock is {abs(each.lead_seconds):,.0f} s "
            f"{'ahead of' if ahead else 'behind'} ClickHouse's",
            "Set the clock that is wrong (by NTP). A shard's time never goes back: it stands still "
            "until the clock has caught up"
            if ahead
            else "Set the clock that is wrong (by NTP), or wait if ClickHouse was away: the newest "
            "batches arrive last",
        )
    if shards and not wrong:
        yield Verdict("clocks", "ok", "the workers' clocks agree with ClickHouse's")
